"""Where the rows of a run come from, datasets and files, and what is said of them: licences, and exam items in them."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meadow.core import licenses
from meadow.core.errors import Error
from meadow.core.licenses.judge import judge
from meadow.core.manifest import CheckedExam, Licensing, Manifest, ManifestError
from meadow.core.row import ids_sha256
from meadow.core.store import CONTAMINATION, Store, StoreError, default_out
from meadow.train.settings import FILES

#: A file's rows need an answer, and something that is asked.
ASKED, ANSWER = ("instruction", "input"), "output"
#: What is said about a row later.
SAID = ("license", "generator", "dataset")
#: Why a record of a file is no row; no column, since only `_COLUMNS` are read.
UNUSABLE = "unusable"
_COLUMNS = (*ASKED, ANSWER, "id", "group", *SAID)
#: Rows of a file that are compared with the exams at once.
_BATCH = 5_000


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
    there = {key: row[key] for key in _COLUMNS if row.get(key) is not None}
    kept = {key: value for key, value in there.items() if key not in SAID or isinstance(value, str)}
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


@dataclass
class Provenance:
    """What ``run.json`` says of the data, by the keys that `meadow.train.record` lists."""

    data: list[dict[str, Any]] = field(default_factory=list)
    license_verdict: dict[str, Any] = field(default_factory=dict)
    exam_hits: dict[str, dict[str, Any]] = field(default_factory=dict)
    unchecked: list[str] = field(default_factory=list)
    unchecked_exams: list[list[str]] = field(default_factory=list)


def trace(
    found: Sequence[RowSource], rows: Sequence[Sequence[Mapping[str, Any]]], store: Store
) -> Provenance:
    """Finds out what can be said of the rows of each source that are trained on: their ``id`` and `reading.SAID`.

    In `store` are datasets and their lists of exam items; a DataError says which cannot be read.
    """
    data, compared = [], []
    for source, mine in zip(found, rows, strict=True):
        checked = list(_checked(source, store))
        compared += checked
        data.append(
            {
                "name": source.name,
                "version": source.version,
                **source.facts,
                "trained_rows": len(mine),
                "trained_ids_sha256": ids_sha256(row["id"] for row in mine),
                "licenses": dict(sorted(Counter(map(_spdx, mine)).items())),
                "license_verdict": _verdict([source], [mine]),
                "contamination": {
                    "exams": sorted({exam.exam for one in checked for exam in one.exams}),
                    "unchecked": [text for one in checked for text in one.unchecked],
                },
            }
        )
    hits, unchecked = _exam_hits(compared, {row["id"] for mine in rows for row in mine})
    about = [list(exams) for exams in unchecked.values()]
    return Provenance(data, _verdict(found, rows), hits, list(unchecked), about)


def _spdx(row: Mapping[str, Any]) -> str:
    return row.get("license") or licenses.UNKNOWN.id


def _verdict(found: Sequence[RowSource], rows: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """What follows from the licences of rows, by the dataset that each of them is from."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    generators: dict[str, Counter[str]] = defaultdict(Counter)
    terms: dict[str, dict[str, licenses.License]] = defaultdict(dict)
    for source, mine in zip(found, rows, strict=True):
        for row in mine:
            name = row.get("dataset") or source.name
            counts[name][_spdx(row)] += 1
            terms[name] |= source.manifest.license_terms if source.manifest else {}
            # The rows of a sample only imitate a model's.
            if row.get("generator") and not source.facts["sample"]:
                generators[name][row["generator"]] += 1
    parts = {
        name: Licensing(licenses=dict(count), license_terms=terms[name], generators=dict(generators[name]))
        for name, count in counts.items()
    }
    return dataclasses.asdict(judge(parts))


@dataclass
class _Compared:
    """The exams that a dataset or file was compared with."""

    name: str
    exams: list[CheckedExam] = field(default_factory=list)
    #: (row id, exam, item).
    hits: list[tuple[str, str, str]] = field(default_factory=list)
    #: What was not compared: a sentence, and the exams it is about; none: any.
    unchecked: dict[str, tuple[str, ...]] = field(default_factory=dict)


def _nothing(name: str, why: str) -> _Compared:
    return _Compared(name, unchecked={why: ()})


def _checked(source: RowSource, store: Store) -> Iterator[_Compared]:
    if source.manifest is None:
        yield _compare(source, store)
    elif source.manifest.mixture is None:
        yield _of_dataset(source.manifest, store)
    else:
        for part in source.manifest.mixture.parts:
            try:
                manifest = store.manifest(part.dataset, part.version)
                if part.rows_sha256 != manifest.rows_sha256:
                    raise StoreError("it was built anew since")
            except StoreError as error:
                where = f"{part.dataset} {part.version}, a part of {source.name}"
                yield _nothing(part.dataset, f"{where}: its list of exam items is not at hand: {error}")
            else:
                yield _of_dataset(manifest, store)


def _of_dataset(manifest: Manifest, store: Store) -> _Compared:
    import pyarrow as pa
    import pyarrow.parquet as pq

    name, version, report = manifest.name, manifest.version, manifest.contamination
    if report is None or report.policy == "off":
        return _nothing(name, f"{name} {version}: its rows were not compared with any exam")
    # Older manifests do not say which exams they lack.
    exams = ((exam,) for exam in report.unchecked_exams)
    about = itertools.zip_longest(report.unchecked, exams, fillvalue=())
    found = _Compared(name, list(report.exams), [], {f"{name} {version}: {why}": of for why, of in about})
    path = store.folder(name, version) / CONTAMINATION
    if path.exists():
        try:
            table = pq.read_table(path, columns=["id", "exam", "item"]).to_pydict()
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: {error}; build {name} again") from error
        found.hits += zip(table["id"], table["exam"], table["item"], strict=True)
    elif any(exam.rows_hit > exam.rows_dropped for exam in report.exams):
        return _nothing(name, f"{path} is missing, so nobody can say which rows hold exam items")
    return found


def _compare(source: RowSource, store: Store) -> _Compared:
    """Compares a file's rows with the exams that are built: nobody else did."""
    import pyarrow as pa

    from meadow.filters import contamination

    names = [name for name in store.names() if store.manifest(name).mixture is None]
    exams = [exam for name in names for exam in contamination.built_exams(store, name)]
    if not exams:
        why = f"no exam is built in {store.root}, so its rows were not compared with any"
        return _nothing(source.name, f"{source.name}: {why}")
    index = contamination.Index.build(exams)
    found = _Compared(source.name, list(index.exams))
    rows = list(source.splits["train"])
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        texts = {name: [row.get(name) for row in batch] for name in (*ASKED, ANSWER)}
        fields = {
            name: pa.array([text if isinstance(text, str) else "" for text in column], pa.string())
            for name, column in texts.items()
        }
        found.hits += ((batch[match.row]["id"], match.exam, match.item) for match in index.check(fields))
    return found


def _exam_hits(
    compared: Iterable[_Compared], trained: set[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, tuple[str, ...]]]:
    """Which items of which exams rows hold, and what was not compared: the sentences, each with its exams."""
    every: dict[str, dict[tuple[str, str, str], CheckedExam]] = defaultdict(dict)
    items: dict[str, set[str]] = defaultdict(set)
    unchecked: dict[str, tuple[str, ...]] = {}
    keys = []
    for one in compared:
        unchecked |= one.unchecked
        keys.append((one.name, {(entry.exam, entry.version, entry.split) for entry in one.exams}))
        for entry in one.exams:
            every[entry.exam][entry.exam, entry.version, entry.split] = entry
        for row, exam, item in one.hits:
            if row in trained:
                items[exam].add(item)
    found = {}
    for exam, entries in sorted(every.items()):
        lacking = [name for name, has in keys if not set(entries) <= has]
        unchecked |= {f"{name}: its rows were not compared with all of {exam}": (exam,) for name in lacking}
        found[exam] = {
            "checked": sum(entry.items for entry in entries.values()),
            "versions": sorted({entry.version for entry in entries.values() if entry.version}),
            "sha256": {entry.split or exam: entry.sha256 for _, entry in sorted(entries.items())},
            "sample": any(entry.sample for entry in entries.values()),
            "complete": not lacking,
            "items": sorted(items[exam]),
        }
    return found, unchecked
