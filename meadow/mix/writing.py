"""Writing a mixture's rows in the order of their places, in memory that does not grow with their number.

`take` reads a part's file again and leaves the rows that are drawn in runs, each in order. What lies between
two places is a slice of each run, so `gather` writes an output file slice by slice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meadow.core import parts
from meadow.core.row import EXCERPT, REJECTED_COLUMNS, Rejected, arrow_schema, encode
from meadow.mix.reading import CONDITION, CONTAMINATED, NOT_DRAWN, PartFile
from meadow.pipeline import tasks

#: Bytes of rows, as Arrow counts them, that are sorted at once.
SORTED_BYTES = 8 * 2**20
#: The column that a mixture has beside those of all datasets.
DATASET = "dataset"
#: Bits of a place that say in which slice it lies.
_BITS = 32
_REMEDIES = {
    CONDITION: "Change `where` in the mixture.",
    CONTAMINATED: "Leave it out: models are scored on this item.",
    NOT_DRAWN: "Raise max_rows or the weight of its part, or choose another seed.",
}


@dataclass(frozen=True)
class TakenRows:
    """What `take` made of one Parquet file.

    Attributes:
        path: An Arrow IPC file of its drawn rows; each batch is in the order of their places.
        rows: How many rows were drawn.
        bytes: Their canonical bytes.
        rejects: The rows left out; None where there are none.
        counts: Rows drawn by `license`, by `generator` and by `task`.
    """

    path: Path
    rows: int
    bytes: int
    rejects: parts.Part | None
    counts: Mapping[str, Counter[str]]


def take(
    file: PartFile, drawn: np.ndarray, reasons: Sequence[str], columns: Mapping[str, str], work: Path
) -> TakenRows:
    """Takes the drawn rows out of a Parquet file, and lists the others; runs in a worker.

    Args:
        file: The file.
        drawn: Its records, of which ``why`` is 0 for rows that are drawn.
        reasons: What ``why`` counts from.
        columns: The mixture's columns.
        work: The beginning of the names of working files.
    """
    schema = parts.part_schema(columns)
    rejects = parts.PartWriter(Path(f"{work}.rejects"), arrow_schema(REJECTED_COLUMNS))
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("license", "generator", "task")}
    target = Path(f"{work}.arrow")
    waiting: list[pa.Table] = []
    size = start = 0
    with (
        pq.ParquetFile(file.path) as parquet,
        pa.OSFile(str(target), "wb") as sink,
        pa.ipc.new_file(sink, schema) as out,
    ):
        have = set(parquet.schema_arrow.names)
        for group in range(parquet.num_row_groups):
            whole = parquet.read_row_group(group, columns=[c for c in columns if c in have])
            records = drawn[start : start + whole.num_rows]
            start += whole.num_rows
            kept = records["why"] == 0
            left = whole.select(["id", "input"]).filter(pa.array(~kept)).to_pylist()
            for row, why in zip(left, records["why"][~kept].tolist(), strict=True):
                reason = reasons[int(why)]
                remedy = _REMEDIES.get(reason, "")
                rejected = Rejected(reason, row["id"], "", remedy, row["input"] or "", file.label)
                rejects.add(parts.reject_row(rejected, file.dataset, file.label), EXCERPT)
            if not kept.any():
                continue
            table = _columns(whole.filter(pa.array(kept)), file.dataset, columns)
            encoded = [encode(list(row)) for row in zip(*table.to_pydict().values(), strict=True)]
            size += sum(map(len, encoded))
            for name, counter in counts.items():
                counter.update(value for value in table[name].to_pylist() if value)
            waiting.append(_with_places(table, records["place"][kept], encoded, schema))
            if sum(each.nbytes for each in waiting) >= SORTED_BYTES:
                _write_run(waiting, out)
        _write_run(waiting, out)
    rejects.close()
    part = parts.Part(str(rejects.path), (), None, rejects.rows, rejects.bytes) if rejects.rows else None
    return TakenRows(target, int((drawn["why"] == 0).sum()), size, part, counts)


def _columns(table: pa.Table, dataset: str, columns: Mapping[str, str]) -> pa.Table:
    """The rows with a mixture's columns."""
    schema = arrow_schema(columns)
    arrays: dict[str, Any] = {name: table[name] for name in table.column_names}
    arrays[DATASET] = pa.array([dataset] * table.num_rows, pa.string())
    # A part of the row that other datasets have, or a column younger than this one.
    missing = {
        name: pa.nulls(table.num_rows, schema.field(name).type) for name in columns if name not in arrays
    }
    return pa.table({**arrays, **missing}).select(list(columns)).cast(schema)


def _with_places(table: pa.Table, places: np.ndarray, encoded: list[bytes], schema: pa.Schema) -> pa.Table:
    """Rows as part files hold them, their place for a key."""
    own = {
        parts.KEY: pa.array(places),
        parts.AT: pa.array(np.arange(table.num_rows)),
        parts.DIGEST: pa.array([hashlib.sha256(data).digest() for data in encoded], pa.binary(32)),
        # What row filters noted and found was so in the build of the part; here nothing more is.
        parts.NOTES: pa.array([""] * table.num_rows, pa.string()),
    }
    for field in list(schema)[table.num_columns :]:
        table = table.append_column(field, own.get(field.name, pa.nulls(table.num_rows, field.type)))
    return table


def _write_run(waiting: list[pa.Table], out: Any) -> None:
    if waiting:
        table = pa.concat_tables(waiting)
        out.write_batch(table.sort_by(parts.KEY).combine_chunks().to_batches()[0])
        waiting.clear()


def slice_of(place: int, slices: int) -> int:
    """The number of the slice that a place lies in, where all places are cut into so many."""
    return (place >> _BITS) * slices >> _BITS


def gather(
    runs: Sequence[Path],
    slices: int,
    first: int,
    last: int,
    columns: Mapping[str, str],
    path: Path,
    work: str,
) -> tasks.Written:
    """Writes one Parquet file; runs in a worker.

    Args:
        runs: Where the split's rows are, as `take` left them.
        slices: How many slices its places are cut into; each is held in memory.
        first: The file's first slice.
        last: The slice after its last.
        columns: The mixture's columns.
        path: The Parquet file.
        work: The beginning of the names of working files.
    """
    schema = parts.part_schema(columns)
    ordered = f"{work}.arrow"
    with pa.OSFile(ordered, "wb") as sink, pa.ipc.new_stream(sink, schema) as out:
        for number in range(first, last):
            low, high = (-(-(each << _BITS) // slices) for each in (number, number + 1))
            batches = [batch for run in runs for batch in _between(run, low, high)]
            if not batches:
                continue
            # Two rows at the same place, which no run is likely ever to see, follow their ids.
            table = pa.Table.from_batches(batches, schema).sort_by(
                [(parts.KEY, "ascending"), ("id", "ascending")]
            )
            for batch in table.combine_chunks().to_batches(max_chunksize=1000):
                out.write_batch(batch)
    written = tasks.write([(parts.Part(ordered, (), None, 0, 0), None)], columns, path, work)
    Path(ordered).unlink()
    return written


def _between(run: Path, low: int, high: int) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(run)) as mapped:
        file = pa.ipc.open_file(mapped)
        for number in range(file.num_record_batches):
            batch = file.get_batch(number)
            begin, end = np.searchsorted(batch[parts.KEY].to_numpy() >> np.uint64(_BITS), (low, high))
            if begin < end:
                yield batch.slice(begin, end - begin)
