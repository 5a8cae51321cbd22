"""Writing a mixture's rows in the order of their places, in memory that does not grow with their number.

All places are cut into slices. `take` reads a part's file again and leaves the rows that are drawn in batches
of one slice each; `gather` writes an output file slice by slice, and holds one at a time.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meadow.core import parts
from meadow.core.row import EXCERPT, REJECTED_COLUMNS, Rejected, arrow_schema, encode
from meadow.mix.reading import CONDITION, CONTAMINATED, NOT_DRAWN, PartFile
from meadow.pipeline.files import WrittenFile, write_rows

#: Bytes of rows, as Arrow counts them, that are sorted at once.
SORTED_BYTES = 8 * 2**20
#: The column that a mixture has beside those of all datasets.
DATASET = "dataset"
_REMEDIES = {
    CONDITION: "Change `where` in the mixture.",
    CONTAMINATED: "Leave it out: models are scored on this item.",
    NOT_DRAWN: "Raise max_rows or the weight of its part, or choose another seed.",
}


@dataclass(frozen=True)
class TakenRows:
    """What `take` made of one Parquet file.

    Attributes:
        path: An Arrow IPC file of its drawn rows.
        slices: The slice that each of its batches lies in.
        rows: How many rows were drawn.
        bytes: Their canonical bytes.
        rejects: The rows left out; None where there are none.
        counts: Rows drawn by `license`, by `generator` and by `task`.
    """

    path: Path
    slices: tuple[int, ...]
    rows: int
    bytes: int
    rejects: parts.Part | None
    counts: Mapping[str, Counter[str]]


def take(
    file: PartFile,
    drawn: np.ndarray,
    reasons: Sequence[str],
    columns: Mapping[str, str],
    slices: int,
    work: Path,
) -> TakenRows:
    """Takes the drawn rows out of a Parquet file, and lists the others; runs in a worker.

    Args:
        file: The file.
        drawn: Its records, of which ``why`` counts from `reasons`, and is 0 for rows that are drawn.
        columns: The mixture's columns.
        slices: How many slices the places of its split are cut into.
        work: The beginning of the names of working files.
    """
    schema = parts.part_schema(columns)
    rejects = parts.PartWriter(Path(f"{work}.rejects"), arrow_schema(REJECTED_COLUMNS))
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("license", "generator", "task")}
    target = Path(f"{work}.arrow")
    waiting: list[pa.Table] = []
    numbers: list[int] = []
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
                numbers += _write_slices(waiting, slices, out)
        numbers += _write_slices(waiting, slices, out)
    rejects.close()
    part = parts.Part(str(rejects.path), (), None, rejects.rows, rejects.bytes) if rejects.rows else None
    return TakenRows(target, tuple(numbers), int((drawn["why"] == 0).sum()), size, part, counts)


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


def _write_slices(waiting: list[pa.Table], slices: int, out: Any) -> list[int]:
    """Writes rows as batches of one slice each, whose numbers it returns."""
    if not waiting:
        return []
    table = pa.concat_tables(waiting).sort_by(parts.KEY).combine_chunks()
    waiting.clear()
    # 32 bits of a place are plenty for its slice.
    half = np.uint64(32)
    numbers = ((table[parts.KEY].to_numpy() >> half) * np.uint64(slices)) >> half
    edges = [*np.flatnonzero(np.diff(numbers, prepend=np.uint64(slices))).tolist(), len(numbers)]
    for begin, end in pairwise(edges):
        out.write_batch(table.slice(begin, end - begin).to_batches()[0])
    return numbers[edges[:-1]].tolist()


def gather(
    sources: Sequence[TakenRows],
    first: int,
    last: int,
    columns: Mapping[str, str],
    path: Path,
    work: str,
) -> WrittenFile:
    """Writes the slices from `first` up to `last`, without it, to one Parquet file; runs in a worker.

    Args:
        sources: Where the split's rows are.
        columns: The mixture's columns.
        path: The Parquet file.
        work: The beginning of the names of working files.
    """
    schema = parts.part_schema(columns)
    ordered = f"{work}.arrow"
    with pa.OSFile(ordered, "wb") as sink, pa.ipc.new_stream(sink, schema) as out:
        for number in range(first, last):
            batches = []
            for source in sources:
                wanted = [at for at, each in enumerate(source.slices) if each == number]
                if wanted:
                    with pa.memory_map(str(source.path)) as mapped:
                        file = pa.ipc.open_file(mapped)
                        batches += [file.get_batch(at) for at in wanted]
            # Two rows at the same place, which no run is likely ever to see, follow their ids.
            order = [(parts.KEY, "ascending"), ("id", "ascending")]
            table = pa.Table.from_batches(batches, schema).sort_by(order).combine_chunks()
            for batch in table.to_batches(max_chunksize=1000) if batches else ():
                out.write_batch(batch)
        del batches, table  # and the pages of files that they hold
    written = write_rows([(parts.Part(ordered, (), None, 0, 0), None)], columns, path, work)
    Path(ordered).unlink()
    return written
