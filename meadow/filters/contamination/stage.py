"""Finds the rows of a build that hold an item of an exam; see `meadow.filters.contamination` for how.

A set filter: it runs over part files, a batch at a time, with one index of all exams that each worker
process reads once. Every row is judged by itself, so batches and workers make no difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from meadow.core.manifest import CheckedExam
from meadow.core.parts import Piece, batches
from meadow.filters.contamination import ExamText, Hit, Index, row_item
from meadow.filters.contamination.exams import ITEM_COLUMNS

#: Columns of ``contamination.parquet``.
COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("exam", "exam_version", "exam_split", "item", "id", "split", "kind", "part")),
        ("share", pa.float64()),
        ("field", pa.string()),
        ("overlap", pa.string()),
        ("dropped", pa.bool_()),
    ]
)  # fmt: skip
#: The columns of our rows that are compared.
FIELDS = ("instruction", "input", "options", "output")


def items(piece: Piece) -> Iterator[ExamText]:
    """The exam items in a part of exam rows."""
    for batch in batches([(piece.part, piece.drop)]):
        names = [name for name in ITEM_COLUMNS if name in batch.schema.names]
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
    numbers = np.arange(piece.part.rows)
    if piece.drop is not None:
        numbers = np.delete(numbers, piece.drop)
    found: list[Hit] = []
    start = 0
    for batch in batches([(piece.part, piece.drop)]):
        for hit in exams.check(texts(batch, FIELDS)):
            row, row_id = int(numbers[start + hit.row]), batch["id"][hit.row].as_py()
            found.append(hit._replace(row=row, id=row_id))
        start += batch.num_rows
    return found


@lru_cache(2)
def _index(path: str) -> Index:
    return Index.load(Path(path))


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


def table(hits: Iterable[tuple[str, Hit]], *, dropped: bool) -> pa.Table:
    """``contamination.parquet``: a line for each row and item, by exam, item and row id.

    Args:
        hits: Hits, each with the split of its row.
        dropped: Whether such rows are left out of the dataset.
    """
    lines = sorted(
        (
            hit.exam, hit.version, hit.split, hit.item, hit.id, split, hit.kind, hit.part, hit.share, hit.field,
            hit.overlap, dropped,
        )
        for split, hit in hits
    )  # fmt: skip
    return pa.Table.from_pylist([dict(zip(COLUMNS.names, line, strict=True)) for line in lines], COLUMNS)


def summary(
    exams: Iterable[CheckedExam], hits: Iterable[tuple[Any, Hit]], *, dropped: bool
) -> list[CheckedExam]:
    """What the manifest says of each exam, in the order of `exams`.

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
        key = (exam.exam, exam.version, exam.split)
        rows = len(rows_hit[key])
        counts = {"items_hit": len(items_hit[key]), "rows_hit": rows, "rows_dropped": rows if dropped else 0}
        found.append(exam.model_copy(update=counts))
    return found
