"""Where the rows of a run come from: built datasets, through `meadow.api`, and files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meadow.core.errors import Error
from meadow.core.manifest import Manifest, ManifestError
from meadow.core.row import ids_sha256
from meadow.core.store import Store, StoreError, default_out
from meadow.train.settings import FILES

#: A file's rows need an answer, and something that is asked.
ASKED, ANSWER = ("instruction", "input"), "output"
#: What is said about a row later.
SAID = ("license", "generator", "dataset")
#: Why a record of a file is no row; no column, since only `_COLUMNS` are read.
UNUSABLE = "unusable"
_COLUMNS = (*ASKED, ANSWER, "id", "group", *SAID)


class DataError(Error):
    """Rows that cannot be trained on; the message names the dataset or file, what is wrong, and the remedy."""


@dataclass
class RowSource:
    """A dataset or file that rows are taken from; of a file there is neither version nor manifest."""

    name: str
    version: str | None
    #: Rows per split, `train` and possibly `validation`; each can be gone through again.
    splits: Mapping[str, Collection[Mapping[str, Any]]]
    manifest: Manifest | None
    #: ``rows``, ``ids_sha256``, ``rows_sha256``, ``sample``.
    facts: dict[str, Any]


def sources(data: Iterable[str], out: Path | None = None) -> list[RowSource]:
    """Opens datasets and files; a dataset that is not built is built now. A DataError names all that cannot be used."""
    found, problems = [], []
    for name in data:
        try:
            found.append(_file(Path(name).expanduser()) if name.endswith(FILES) else _dataset(name, out))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return found


def _dataset(name: str, out: Path | None) -> RowSource:
    from meadow import loading  # with `datasets`

    name, _, version = name.partition("@")
    try:
        splits = loading.load_dataset(name, version=version or None, out=out)
        manifest = Store(out or default_out()).manifest(name, version or None)
    except (StoreError, ManifestError, ValueError, OSError) as error:
        raise DataError(f"data {name}: {error}") from error
    if manifest.test_only:
        raise DataError(
            f"data {name}: it is an exam, there to score models on; a model that was trained on it cannot be scored by it"
        )
    if "train" not in splits:
        raise DataError(f"data {name}: it has no split `train`, only {', '.join(splits) or 'none'}")
    there = splits["train"].column_names
    _check_columns(f"data {name}", there)
    columns = [column for column in _COLUMNS if column in there]
    kept = {name: splits[name].select_columns(columns) for name in ("train", "validation") if name in splits}
    facts = {key: getattr(manifest, key) for key in ("rows", "ids_sha256", "rows_sha256", "sample")}
    return RowSource(name, manifest.version, kept, manifest, facts)


def _check_columns(where: str, columns: Collection[str]) -> None:
    wanted = {" or ".join(ASKED): ASKED, ANSWER: (ANSWER,)}
    if missing := [words for words, names in wanted.items() if not set(names) & set(columns)]:
        raise DataError(
            f"{where}: it has no column {' and no column '.join(missing)}; there are: "
            f"{', '.join(map(str, columns)) or 'none'}. Rows to train on have instruction, input and output"
        )


def _file(path: Path) -> RowSource:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        records = list(_read(path))
    except OSError as error:
        raise DataError(f"data {path}: {error.strerror or error}") from error
    if not records:
        raise DataError(f"data {path}: it holds no rows")
    _check_columns(f"data {path}", dict.fromkeys(key for _, record in records for key in record or ()))
    rows = [_named(f"{path.name}:{where}", record) for where, record in records]
    facts = {
        "rows": len(rows), "ids_sha256": ids_sha256(row["id"] for row in rows), "rows_sha256": digest, "sample": False,
    }  # fmt: skip
    return RowSource(path.name, None, {"train": rows}, None, facts)


def _named(name: str, row: Mapping[str, Any] | None) -> dict[str, Any]:
    """A record of a file as a row, which has an id; or why it is none."""
    if row is None:
        return {"id": name, UNUSABLE: "no row"}
    # What is said of a row is said in words; anything else would be no name of a licence, a model or a dataset.
    kept = {
        key: row[key]
        for key in _COLUMNS
        if row.get(key) is not None and (key not in SAID or isinstance(row[key], str))
    }
    try:
        "".join(map(str, kept.values())).encode()
    except UnicodeEncodeError:
        # JSON can hold halves of characters, which no tokenizer, digest or file takes.
        return {"id": name, UNUSABLE: "holds half a character (a lone surrogate)"}
    return {**kept, "id": str(kept.get("id", name))}


def _read(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The records of a file with their numbers, from 1; None for what is no record."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
        except pa.ArrowException as error:
            raise DataError(f"data {path}: it cannot be read as Parquet: {error}") from error
        _check_columns(f"data {path}", table.column_names)
        kept = [name for name in _COLUMNS if name in table.column_names]
        yield from enumerate(table.select(kept).to_pylist(), start=1)
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"data {path}: it is no UTF-8 text: {error}") from error
    if path.suffix == ".jsonl":
        lines = enumerate(text.split("\n"), start=1)
        found = ((number, _json(line)) for number, line in lines if line.strip())
    else:
        try:
            whole = json.loads(text)
        except (ValueError, RecursionError) as error:
            words = f"data {path}: it is no JSON: {error}. Lines of JSON belong into a .jsonl file"
            raise DataError(words) from error
        if not isinstance(whole, list):
            raise DataError(f"data {path}: it holds no list of rows")
        found = enumerate(whole, start=1)
    yield from ((number, record if isinstance(record, dict) else None) for number, record in found)


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
