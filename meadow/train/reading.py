"""Where the rows of a run come from: built datasets, through `meadow.api`, and files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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
    """A dataset or file that rows are taken from.

    Attributes:
        name: The dataset's name, or the file's.
        version: The dataset's version; None for a file.
        splits: Rows per split, `train` and possibly `validation`; each can be gone through again.
        manifest: The dataset's manifest; None for a file.
        facts: ``rows``, ``ids_sha256``, ``rows_sha256``, ``sample``.
    """

    name: str
    version: str | None
    splits: Mapping[str, Collection[Mapping[str, Any]]]
    manifest: Manifest | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many there are."""
        return sum(len(rows) for rows in self.splits.values())

    @property
    def sample(self) -> bool:
        """Whether its rows are an embedded sample."""
        return self.manifest is not None and self.manifest.sample


def sources(data: Iterable[str], out: Path | None = None) -> list[RowSource]:
    """Opens datasets and files; a dataset that is not built is built now.

    Raises:
        DataError: Some cannot be used; the message names them all.
    """
    found, problems = [], []
    for name in data:
        try:
            source = _file(Path(name).expanduser()) if name.endswith(FILES) else _dataset(name, out)
        except DataError as error:
            problems.append(str(error))
            continue
        found.append(source)
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
    kept = {split: splits[split] for split in ("train", "validation") if split in splits}
    if "train" not in kept:
        raise DataError(f"data {name}: it has no split `train`, only {', '.join(splits) or 'none'}")
    _check_columns(f"data {name}", kept["train"].column_names)
    columns = [column for column in _COLUMNS if column in kept["train"].column_names]
    return RowSource(
        name,
        manifest.version,
        {split: rows.select_columns(columns) for split, rows in kept.items()},
        manifest,
        _facts(manifest.rows, manifest.ids_sha256, manifest.rows_sha256, manifest.sample),
    )


def _facts(rows: int, ids: str, content: str, sample: bool) -> dict[str, Any]:
    return {"rows": rows, "ids_sha256": ids, "rows_sha256": content, "sample": sample}


def _check_columns(where: str, columns: Iterable[str]) -> None:
    columns = list(columns)
    missing = [] if ANSWER in columns else [ANSWER]
    if not any(column in columns for column in ASKED):
        missing.insert(0, " or ".join(ASKED))
    if missing:
        raise DataError(
            f"{where}: it has no column {' and no column '.join(missing)}; there are: "
            f"{', '.join(map(str, columns)) or 'none'}. Rows to train on have instruction, input and output"
        )


def _file(path: Path) -> RowSource:
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        rows = list(_read(path))
    except OSError as error:
        raise DataError(f"data {path}: {error.strerror or error}") from error
    if not rows:
        raise DataError(f"data {path}: it holds no rows")
    good = [row for _, row in rows if row is not None]
    _check_columns(f"data {path}", dict.fromkeys(key for row in good for key in row))
    named: list[dict[str, Any]] = []
    for where, row in rows:
        name = f"{path.name}:{where}"
        entry = {k: row[k] for k in _COLUMNS if row.get(k) is not None} if row is not None else {}
        # What is said of a row is said in words; anything else would be no name of a licence, a model or a dataset.
        entry = {k: v for k, v in entry.items() if k not in SAID or isinstance(v, str)}
        entry["id"] = str(entry.get("id", name))
        if row is None:
            entry[UNUSABLE] = "no row"
        elif not _writable(entry):
            # JSON can hold halves of characters, which no tokenizer, digest or file takes.
            entry = {"id": name, UNUSABLE: "holds half a character (a lone surrogate)"}
        named.append(entry)
    facts = _facts(len(named), ids_sha256(row["id"] for row in named), digest, False)
    return RowSource(path.name, None, {"train": named}, None, facts)


def _writable(row: Mapping[str, Any]) -> bool:
    """Whether all texts of a row can be written as UTF-8."""
    try:
        "".join(map(str, row.values())).encode()
    except UnicodeEncodeError:
        return False
    return True


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
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield number, _record(line)
        return
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"data {path}: it is no JSON: {error}. Lines of JSON belong into a .jsonl file"
        ) from error
    if not isinstance(found, list):
        raise DataError(f"data {path}: it holds no list of rows")
    for number, record in enumerate(found, start=1):
        yield number, record if isinstance(record, dict) else None


def _record(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
