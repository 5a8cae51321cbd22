"""Finds the rows of a build that hold an item of an exam; see `meadow.filters.contamination` for how.

A set filter: it runs over part files, a batch at a time, with one index of all exams that each worker
process reads once. Every row is judged by itself, so batches and workers make no difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from meadow.core.parts import Piece, batches
from meadow.filters.contamination import ExamText, Index, IndexedExam, row_item

if TYPE_CHECKING:
    from meadow.filters.contamination import Match

#: Columns of ``contamination.parquet``.
COLUMNS = {
    "exam": "string",
    "exam_version": "string",
    "exam_split": "string",
    "item": "string",
    "id": "string",
    "split": "string",
    "kind": "string",
    "part": "string",
    "share": "float64",
    "field": "string",
    "overlap": "string",
    "dropped": "bool",
}
_FIELDS = ("instruction", "input", "options", "output")


class Hit(NamedTuple):
    """A row of a part that holds an item.

    Attributes:
        row: The row's number in the part, all rows counted, as `Piece.drop` counts them.
        id: The row's id.
        exam: The exam's name.
        item: The item's id.
        share: The share of the item's own words, 0 to 1.
        kind: ``verbatim`` or ``paraphrase``.
        field: The row's columns that hold them, with a comma between.
        overlap: The words in common, shortened.
        part: What of the item the row holds: ``question``, ``context`` or ``answer``.
        version: The exam's version; empty for a user's file.
        split: The exam's split; empty for a user's file.
    """

    row: int
    id: str
    exam: str
    item: str
    share: float
    kind: str
    field: str
    overlap: str
    part: str
    version: str
    split: str


def items(piece: Piece) -> Iterator[ExamText]:
    """The exam items in a part of exam rows."""
    for batch in batches([(piece.part, piece.drop)]):
        names = [c for c in ("id", "input", "output", "options", "answer_key") if c in batch.schema.names]
        yield from map(row_item, batch.select(names).to_pylist())


def scan(piece: Piece, index: Path) -> list[Hit]:
    """Compares the rows of a part with the exams; runs in a worker.

    Args:
        piece: The part; rows left out already are passed over.
        index: A file that `Index.save` wrote; it must not be written again under this name.

    Returns:
        The hits, by row, then exam and item.
    """
    exams = _index(str(index))
    numbers = _numbers(piece)
    found: list[Hit] = []
    start = 0
    for batch in batches([(piece.part, piece.drop)]):
        fields = texts(batch, _FIELDS)
        for match in exams.check(fields):
            row = int(numbers[start + match.row])
            found.append(as_hit(match, row, batch["id"][match.row].as_py(), exams.exams[match.exam]))
        start += batch.num_rows
    return found


@lru_cache(2)
def _index(path: str) -> Index:
    return Index.load(Path(path))


def _numbers(piece: Piece) -> np.ndarray:
    every = np.arange(piece.part.rows)
    return every if piece.drop is None else np.delete(every, piece.drop)


def as_hit(match: Match, row: int, row_id: str, exam: IndexedExam) -> Hit:
    """A match as the build and reports see it."""
    return Hit(
        row, row_id, exam.name, match.item, match.share, match.kind, match.fields, match.overlap,
        match.part, exam.version, exam.split,
    )  # fmt: skip


def texts(batch: pa.RecordBatch, names: Sequence[str]) -> dict[str, pa.Array]:
    """Columns as texts: of options, one after the other; columns that are not there are passed over.

    Raises:
        ValueError: A column holds no texts.
    """
    import pyarrow.compute as pc

    found: dict[str, pa.Array] = {}
    for name in names:
        if name not in batch.schema.names:
            continue
        column = batch[name]
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            values = column.values
            if pa.types.is_struct(values.type):
                values = values.field("text")
            kind = type(column)
            column = kind.from_arrays(column.offsets, values.cast(pa.string()))
            column = pc.binary_join(column, "\n")
            if not pc.any(pc.greater(pc.binary_length(column), 0)).as_py():
                continue
        elif pa.types.is_null(column.type):
            continue
        elif not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise ValueError(f"the column {name} holds {column.type}, not texts; name others with --fields")
        found[name] = column
    return found


def table(hits: Iterable[tuple[Piece, Hit]], *, dropped: bool) -> pa.Table:
    """``contamination.parquet``: a line for each row and item, by exam, item and row id.

    Args:
        hits: Hits with the parts they are in.
        dropped: Whether such rows are left out of the dataset.
    """
    return as_table(((piece.part.split or "", hit) for piece, hit in hits), dropped=dropped)


def as_table(hits: Iterable[tuple[str, Hit]], *, dropped: bool) -> pa.Table:
    """The same for hits with the split of their row."""
    lines = sorted(
        (
            hit.exam, hit.version, hit.split, hit.item, hit.id, split, hit.kind, hit.part, hit.share, hit.field,
            hit.overlap, dropped,
        )
        for split, hit in hits
    )  # fmt: skip
    kinds = {"string": pa.string(), "float64": pa.float64(), "bool": pa.bool_()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    columns = list(zip(*lines, strict=True)) or [()] * len(schema)
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def summary(
    exams: Iterable[IndexedExam], hits: Iterable[tuple[Any, Hit]], *, dropped: bool
) -> list[dict[str, Any]]:
    """What the manifest says of each exam, in the order of `exams`.

    Returns:
        For each exam its name (``exam``), ``version``, ``split``, ``sample``, ``items`` checked, items that are too
        short to judge (``unjudged``), ``items_hit``, ``rows_hit``, ``rows_dropped`` and the ``sha256`` of its items.
        A row that holds items of two exams counts with both.
    """
    items_hit: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    rows_hit: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for _, hit in hits:
        key = (hit.exam, hit.version, hit.split)
        items_hit[key].add(hit.item)
        rows_hit[key].add(hit.id)
    found = []
    for exam in exams:
        key = (exam.name, exam.version, exam.split)
        rows = len(rows_hit[key])
        found.append(
            {
                "exam": exam.name,
                "version": exam.version,
                "split": exam.split,
                "sample": exam.sample,
                "items": exam.items,
                "unjudged": exam.unjudged,
                "items_hit": len(items_hit[key]),
                "rows_hit": rows,
                "rows_dropped": rows if dropped else 0,
                "sha256": exam.sha256,
            }
        )
    return found
