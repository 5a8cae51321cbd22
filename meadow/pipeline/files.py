"""A dataset's Parquet files: how a split is cut into them, and how workers write them.

What runs in workers takes and returns small picklable values, and holds no more than a few batches of rows.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meadow.core.parts import (
    DIGEST,
    FINDING_COLUMNS,
    FINDINGS,
    NOTES,
    Chosen,
    Part,
    PartWriter,
    batches,
    part_schema,
    reject_row,
)
from meadow.core.row import REJECTED_COLUMNS, Rejected, arrow_schema

#: Canonical bytes of one Parquet file. Files are the unit of parallel writing and of downloading.
FILE_BYTES = 64 * 2**20
#: Rows of one Parquet row group: small enough to stream in little memory, large enough to compress.
ROW_GROUP = 4_000


@dataclass(frozen=True)
class WrittenFile:
    """What a Parquet file holds.

    Attributes:
        rows: How many.
        nbytes: Their bytes in memory, as Arrow counts them.
        bytes: The file's size.
        sha256: The file's hash.
        digests: A working file: the SHA-256 of each row, in order.
        ids: A working file: the ids in byte order, one a line.
        lengths: For `input` and `output`, the lengths in characters that occur, and how often.
        licenses: Rows per licence.
        generators: Rows per model that wrote them.
        notes: Rows per (stage, label) that row filters noted.
        findings: A working file of `FINDING_COLUMNS`; None where nothing was found.
        types: Findings per type, and under "" the rows that have any.
    """

    rows: int
    nbytes: int
    bytes: int
    sha256: str
    digests: str
    ids: str
    lengths: Mapping[str, tuple[np.ndarray, np.ndarray]]
    licenses: Mapping[str, int]
    generators: Mapping[str, int]
    notes: Mapping[tuple[str, str], int]
    findings: str | None
    types: Mapping[str, int]


def files_of(parts: Iterable[Part]) -> list[list[Part]]:
    """Cuts a split into files: a new one begins where the last has reached `FILE_BYTES`.

    Which parts make a file follows from their order and sizes alone, so the bytes are the same for any
    number of workers, in whatever order they finish.
    """
    files: list[list[Part]] = []
    size = FILE_BYTES
    for part in parts:
        if size >= FILE_BYTES:
            files.append([])
            size = 0
        files[-1].append(part)
        size += part.bytes
    return files


def _groups(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Regroups batches into tables of exactly `ROW_GROUP` rows, the last one shorter."""
    pending: deque[pa.RecordBatch] = deque()
    count = 0
    for batch in batches:
        pending.append(batch)
        count += batch.num_rows
        while count >= ROW_GROUP:
            table = pa.Table.from_batches(pending, schema)
            yield table.slice(0, ROW_GROUP)
            count -= ROW_GROUP
            pending = deque(table.slice(ROW_GROUP).to_batches())
    if count:
        yield pa.Table.from_batches(pending, schema)


def _parquet(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, schema, compression="zstd", compression_level=3)


def write_rows(parts: list[Chosen], columns: Mapping[str, str], path: Path, work: str) -> WrittenFile:
    """Writes consecutive parts to one Parquet file; `work` begins the names of its working files."""
    schema = arrow_schema(columns)
    count = nbytes = 0
    lengths: dict[str, Counter] = {"input": Counter(), "output": Counter()}
    licenses: Counter = Counter()
    generators: Counter = Counter()
    notes: Counter = Counter()
    types: Counter = Counter()
    findings = PartWriter(Path(work + ".findings"), arrow_schema(FINDING_COLUMNS))
    ids = []
    with _parquet(path, schema) as out, Path(work + ".digests").open("wb") as digests:
        for table in _groups(batches(parts), part_schema(columns)):
            for digest in table[DIGEST]:
                digests.write(digest.as_py())
            for entry in pc.value_counts(table[NOTES]).to_pylist():
                for line in entry["values"].splitlines():
                    stage, _, label = line.partition("\t")
                    notes[stage, label] += entry["counts"]
            flagged = table.select(["id", FINDINGS]).filter(pc.is_valid(table[FINDINGS]))
            for row_id, listed in zip(flagged["id"].to_pylist(), flagged[FINDINGS].to_pylist(), strict=True):
                types[""] += 1
                for finding in json.loads(listed):
                    types[finding[0]] += 1
                    findings.add([row_id, *finding], 100)
            table = table.select(schema.names)
            out.write_table(table, row_group_size=ROW_GROUP)
            count += table.num_rows
            nbytes += table.nbytes
            ids.append(table["id"].combine_chunks())
            for name, counter in lengths.items():
                found, times = np.unique(pc.utf8_length(table[name]).to_numpy(), return_counts=True)
                counter.update(dict(zip(found.tolist(), times.tolist(), strict=True)))
            for name, counter in (("license", licenses), ("generator", generators)):
                for entry in pc.value_counts(table[name]).to_pylist():
                    counter[entry["values"]] += entry["counts"]
    findings.close()
    ordered = pa.chunked_array(ids, pa.string()).combine_chunks()
    ordered = ordered.take(pc.array_sort_indices(ordered))
    with Path(work + ".ids").open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(f"{value.as_py()}\n" for value in ordered)
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return WrittenFile(
        count, nbytes, path.stat().st_size, sha256, work + ".digests", work + ".ids",
        {name: _sorted(counter) for name, counter in lengths.items()}, dict(licenses),
        {name: count for name, count in generators.items() if name}, dict(notes),
        str(findings.path) if findings.rows else None, dict(types),
    )  # fmt: skip


def _sorted(counter: Counter) -> tuple[np.ndarray, np.ndarray]:
    values = sorted(counter)
    return np.array(values, np.int64), np.array([counter[value] for value in values], np.int64)


def write_rejected(parts: list[Part], extra: list[Rejected], source: str, path: Path) -> None:
    """Writes ``rejected.parquet``: the rows of `parts`, in order, then `extra`; runs in a worker."""
    schema = arrow_schema(REJECTED_COLUMNS)
    more = [reject_row(rejected, source, "") for rejected in extra]
    with _parquet(path, schema) as out:
        for table in _groups(batches((part, None) for part in parts), schema):
            out.write_table(table, row_group_size=ROW_GROUP)
        if more or not parts:
            arrays = [pa.array([row[i] for row in more], pa.string()) for i in range(len(schema))]
            out.write_table(pa.Table.from_arrays(arrays, schema=schema))


def write_tables(paths: Iterable[str], columns: Mapping[str, str], path: Path) -> None:
    """Writes working files of such columns, one after another, to a Parquet file; runs in a worker."""
    schema = arrow_schema(columns)
    with _parquet(path, schema) as out:
        for each in paths:
            with pa.memory_map(each) as source:
                for table in _groups(iter(pa.ipc.open_stream(source)), schema):
                    out.write_table(table, row_group_size=ROW_GROUP)
