"""Judges a dataset, Meadow's or anyone's, against exams: what the command ``meadow contamination`` does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from meadow.core.manifest import CheckedExam
from meadow.core.tables import ending, files_of, named_records
from meadow.filters.contamination.exams import ExamSource, built_exams, read_exam
from meadow.filters.contamination.index import Index
from meadow.filters.contamination.judging import Hit
from meadow.filters.contamination.stage import FIELDS, summary, table, texts

if TYPE_CHECKING:
    from meadow.core.store import Store

_BATCH = 1_000
#: Columns that name a row and are no part of it.
_NAMES = frozenset(("id", "qid", "pmid", "url", "source_url", "license"))


@dataclass
class Findings:
    """What was found.

    Attributes:
        rows: Rows that were checked.
        fields: The columns that were read.
        exams: The exams.
        hits: Rows that hold an item, each with its split (empty for a file), in the order of the rows.
    """

    rows: int
    fields: tuple[str, ...]
    exams: tuple[CheckedExam, ...]
    hits: list[tuple[str, Hit]] = field(default_factory=list)

    def summary(self) -> list[CheckedExam]:
        """Per exam, as manifests say it."""
        return summary(self.exams, self.hits, dropped=False)

    def write(self, path: Path) -> None:
        """Writes the hits as a Parquet file with the columns of ``contamination.parquet``."""
        import pyarrow.parquet as pq

        pq.write_table(table(self.hits, dropped=False), path, compression="zstd")


def exams_of(names: Iterable[str], store: Store) -> list[ExamSource]:
    """Finds exams: files and folders by path, built datasets by name.

    Raises:
        ValueError: One is neither, or is a dataset without a test split.
        meadow.core.store.StoreError: A dataset cannot be read.
    """
    found: list[ExamSource] = []
    for name in dict.fromkeys(names):
        if name in store.names():
            built = list(built_exams(store, name))
            if not built:
                raise ValueError(f"{name}: it has no test split; name an exam, or give a file")
            found += built
        elif Path(name).exists():
            found.append(read_exam(name))
        else:
            raise ValueError(f"{name}: no dataset in {store.root} and no file has this name")
    return found


def check(target: str, exams: Iterable[ExamSource], store: Store, fields: Sequence[str] = ()) -> Findings:
    """Compares the rows of a dataset, or of a file, with exams.

    Args:
        target: The name of a built dataset, whose splits for training and validation are checked, or a file
            (JSON lines, JSON, Parquet, CSV).
        exams: What to compare with.
        store: The output folder.
        fields: The columns to read; without them `instruction`, `input`, `options` and `output`, or else all columns of texts.

    Raises:
        ValueError: The target is neither, cannot be read, holds no row, or has no such column.
        meadow.core.store.StoreError: The dataset cannot be read.
    """
    index = Index.build(exams)
    findings = Findings(0, tuple(fields), index.exams)
    numbers: dict[str, int] = {}
    for split, batch in _batches(target, store):
        if not findings.fields:
            findings.fields = _fields(batch)
        missing = [name for name in fields if name not in batch.schema.names]
        if missing or not findings.fields:
            there = ", ".join(batch.schema.names)
            raise ValueError(
                f"{target}: it has no column {', '.join(missing) or 'of texts'}; it has {there}: choose with --fields"
            )
        start = numbers.get(split, 0)
        ids = batch["id"].to_pylist() if "id" in batch.schema.names else [None] * batch.num_rows
        for hit in index.check(texts(batch, findings.fields)):
            row = start + hit.row
            row_id = str(row if ids[hit.row] is None else ids[hit.row])
            findings.hits.append((split, hit._replace(row=row, id=row_id)))
        numbers[split] = start + batch.num_rows
        findings.rows += batch.num_rows
    if not findings.rows:
        raise ValueError(
            f"{target}: it holds no row to check; of a dataset, those outside its test split count"
        )
    return findings


def _fields(batch: pa.RecordBatch) -> tuple[str, ...]:
    ours = tuple(name for name in FIELDS if name in batch.schema.names)
    # Many sets put the question into the instruction and leave the input empty.
    if {"input", "output"} <= set(ours):
        return ours
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)
    return tuple(
        f.name for f in batch.schema if f.name.lower() not in _NAMES and any(kind(f.type) for kind in kinds)
    )


def _batches(target: str, store: Store) -> Iterator[tuple[str, pa.RecordBatch]]:
    import pyarrow.parquet as pq

    exams = store.manifest(target).exam_splits() if target in store.names() else ()
    for split, files in files_of(target, store).items():
        for path in files if split not in exams else ():
            if ending(path) != ".parquet":
                yield from (("", batch) for batch in _as_batches(target, path))
                continue
            try:
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches(batch_size=_BATCH):
                        yield split, batch
            except pa.ArrowException as error:
                raise ValueError(f"{target}: it cannot be read: {error}") from error


def _as_batches(target: str, path: Path) -> Iterator[pa.RecordBatch]:
    names: dict[str, None] = {}
    records = named_records(path, target)
    while rows := list(islice(records, _BATCH)):
        found = [{**row, "id": row["id"] if row.get("id") is not None else place} for place, row in rows]
        names.update(dict.fromkeys(name for row in found for name in row))
        yield pa.RecordBatch.from_pydict(
            {name: pa.array([_plain(row.get(name)) for row in found], pa.string()) for name in names}
        )


def _plain(value: Any) -> str | None:
    """All texts in a value, such as a list of options, one after the other."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        value = "\n".join(filter(None, map(_plain, value)))
    if value is None:
        return None
    # A lone surrogate is no text that a column can hold.
    return str(value).encode("utf-8", "replace").decode()
