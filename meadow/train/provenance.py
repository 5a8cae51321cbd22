"""What is said of the rows that were trained on: their licences, and the exam items that they hold."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meadow.core import licenses
from meadow.core.manifest import CheckedExam, Licensing, Manifest
from meadow.core.row import ids_sha256
from meadow.core.store import CONTAMINATION, Store, StoreError
from meadow.train.reading import ANSWER, ASKED, DataError, RowSource

#: Rows of a file that are compared with the exams at once.
_BATCH = 5_000


@dataclass
class Provenance:
    """What ``run.json`` says of the data.

    Attributes:
        data: Of each source.
        license_verdict: What follows from the licences of all rows.
        exam_hits: Per exam, the items that rows hold; see `meadow.train.record`.
        unchecked: What was not compared with exams, in sentences.
        unchecked_exams: For each of them the exams it is about; none where it may be any.
    """

    data: list[dict[str, Any]] = field(default_factory=list)
    license_verdict: dict[str, Any] = field(default_factory=dict)
    exam_hits: dict[str, dict[str, Any]] = field(default_factory=dict)
    unchecked: list[str] = field(default_factory=list)
    unchecked_exams: list[list[str]] = field(default_factory=list)


def trace(
    found: Sequence[RowSource], rows: Sequence[Sequence[Mapping[str, Any]]], store: Store
) -> Provenance:
    """Finds out what can be said of rows.

    Args:
        found: The sources.
        rows: For each source the rows that are trained on: their ``id`` and `meadow.train.reading.SAID`.
        store: Where datasets and their lists of exam items are.

    Raises:
        DataError: A list of exam items cannot be read.
    """
    data, compared = [], []
    for source, mine in zip(found, rows, strict=True):
        checked = _checked(source, store)
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
                    "exams": sorted({exam.exam for one in checked for exam in one.exams.values()}),
                    "unchecked": [text for one in checked for text, _ in one.unchecked],
                },
            }
        )
    trained = {row["id"] for mine in rows for row in mine}
    hits, unchecked = _exam_hits(compared, trained)
    return Provenance(
        data, _verdict(found, rows), hits, list(unchecked), [list(exams) for exams in unchecked.values()]
    )


def _spdx(row: Mapping[str, Any]) -> str:
    found = row.get("license")
    return found if isinstance(found, str) and found else licenses.UNKNOWN.id


def _verdict(found: Sequence[RowSource], rows: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """What follows from the licences of rows, by the dataset that each of them is from."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    generators: dict[str, Counter[str]] = defaultdict(Counter)
    terms: dict[str, dict[str, licenses.License]] = defaultdict(dict)
    for source, mine in zip(found, rows, strict=True):
        for row in mine:
            name = row.get("dataset") or source.name
            counts[name][_spdx(row)] += 1
            # The rows of a sample only imitate a model's.
            if row.get("generator") and not source.sample:
                generators[name][row["generator"]] += 1
        for name in {row.get("dataset") or source.name for row in mine}:
            terms[name] |= source.manifest.license_terms if source.manifest else {}
    parts = {
        name: Licensing(licenses=dict(count), license_terms=terms[name], generators=dict(generators[name]))
        for name, count in counts.items()
    }
    return dataclasses.asdict(licenses.judge(parts))


@dataclass
class _Compared:
    """What one dataset or file was compared with.

    Attributes:
        name: The dataset or file.
        exams: By name, version and split.
        hits: (row id, exam, item).
        unchecked: What was not compared: a sentence, and the exams it is about; none: any.
    """

    name: str
    exams: dict[tuple[str, str, str], CheckedExam]
    hits: list[tuple[str, str, str]]
    unchecked: list[tuple[str, tuple[str, ...]]]

    @classmethod
    def nothing(cls, name: str, why: str) -> _Compared:
        return cls(name, {}, [], [(why, ())])


def _checked(source: RowSource, store: Store) -> list[_Compared]:
    if source.manifest is None:
        return [_compare(source, store)]
    if source.manifest.mixture is None:
        return [_of_dataset(source.manifest, store)]
    found = []
    for part in source.manifest.mixture.parts:
        try:
            manifest = store.manifest(part.dataset, part.version)
            if part.rows_sha256 != manifest.rows_sha256:
                raise StoreError("it was built anew since")
        except StoreError as error:
            where = f"{part.dataset} {part.version}, a part of {source.name}"
            why = f"{where}: its list of exam items is not at hand: {error}"
            found.append(_Compared.nothing(part.dataset, why))
            continue
        found.append(_of_dataset(manifest, store))
    return found


def _of_dataset(manifest: Manifest, store: Store) -> _Compared:
    import pyarrow as pa
    import pyarrow.parquet as pq

    name, version, report = manifest.name, manifest.version, manifest.contamination
    if report is None or report.policy == "off":
        return _Compared.nothing(name, f"{name} {version}: its rows were not compared with any exam")
    exams = {(e.exam, e.version, e.split): e for e in report.exams}
    about = [(exam,) for exam in report.unchecked_exams]
    about += [()] * (len(report.unchecked) - len(about))
    unchecked = [(f"{name} {version}: {why}", of) for why, of in zip(report.unchecked, about, strict=True)]
    path = store.folder(name, version) / CONTAMINATION
    hits: list[tuple[str, str, str]] = []
    if path.exists():
        try:
            table = pq.read_table(path, columns=["id", "exam", "item"]).to_pydict()
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: {error}; build {name} again") from error
        hits = list(zip(table["id"], table["exam"], table["item"], strict=True))
    elif any(exam.rows_hit > exam.rows_dropped for exam in report.exams):
        return _Compared.nothing(name, f"{path} is missing, so nobody can say which rows hold exam items")
    return _Compared(name, exams, hits, unchecked)


def _compare(source: RowSource, store: Store) -> _Compared:
    """Compares a file's rows with the exams that are built: nobody else did."""
    import pyarrow as pa

    from meadow.filters import contamination
    from meadow.filters.contamination.stage import summary

    names = [name for name in store.names() if store.manifest(name).mixture is None]
    exams = [exam for name in names for exam in contamination.built_exams(store, name)]
    if not exams:
        return _Compared.nothing(
            source.name,
            f"{source.name}: no exam is built in {store.root}, so its rows were not compared with any",
        )
    index = contamination.Index.build(exams)
    rows = list(source.splits["train"])
    hits: list[tuple[str, str, str]] = []
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        fields = {
            name: pa.array(
                [row[name] if isinstance(row.get(name), str) else "" for row in batch], pa.string()
            )
            for name in (*ASKED, ANSWER)
        }
        for match in index.check(fields):
            hits.append((batch[match.row]["id"], index.exams[match.exam].name, match.item))
    entries = [CheckedExam.model_validate(entry) for entry in summary(index.exams, [], dropped=False)]
    return _Compared(source.name, {(e.exam, e.version, e.split): e for e in entries}, hits, [])


def _exam_hits(
    compared: Iterable[_Compared], trained: set[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, tuple[str, ...]]]:
    """Which items of which exams rows hold, and what was not compared: the sentences, each with its exams."""
    compared = list(compared)
    every: dict[str, dict[tuple[str, str, str], CheckedExam]] = defaultdict(dict)
    items: dict[str, set[str]] = defaultdict(set)
    unchecked: dict[str, tuple[str, ...]] = {}
    for one in compared:
        unchecked |= one.unchecked
        for key, entry in one.exams.items():
            every[entry.exam][key] = entry
        for row, exam, item in one.hits:
            if row in trained:
                items[exam].add(item)
    found = {}
    for exam, entries in sorted(every.items()):
        lacking = [one.name for one in compared if not set(entries) <= set(one.exams)]
        unchecked |= {f"{name}: its rows were not compared with all of {exam}": (exam,) for name in lacking}
        found[exam] = {
            "checked": sum(entry.items for entry in entries.values()),
            "versions": sorted({entry.version for entry in entries.values() if entry.version}),
            "sha256": {
                entry.split or exam: entry.sha256 for _, entry in sorted(entries.items(), key=lambda e: e[0])
            },
            "sample": any(entry.sample for entry in entries.values()),
            "complete": not lacking,
            "items": sorted(items[exam]),
        }
    return found, unchecked
