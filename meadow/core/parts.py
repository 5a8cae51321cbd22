"""What holds rows between the steps of a build: part files, and what was seen in a row.

A part file (Arrow IPC, uncompressed, in the build's working folder) has rows of one shard with the same split
and datasets. Steps pass parts on and read them a batch at a time; no step holds all rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from meadow.core.row import EXCERPT, Rejected, arrow_schema

#: Rows and bytes held before a part file grows by a batch.
_BATCH_ROWS, _BATCH_BYTES = 1_000, 4 * 2**20
#: Columns that only part files have: a hash of the id, the number of the record in its shard, the
#: SHA-256 of the row's canonical bytes, and what row filters noted and found.
KEY, AT, DIGEST, NOTES, FINDINGS = "__key", "__at", "__digest", "__notes", "__findings"
#: Columns of ``privacy.parquet``.
FINDING_COLUMNS: Mapping[str, str] = {
    "id": "string", "type": "string", "field": "string", "start": "int64", "end": "int64"
}  # fmt: skip


class Finding(NamedTuple):
    """Something in a row that could identify a person; its text is not repeated here.

    Attributes:
        type: ``EMAIL``, ``PHONE``...
        field: The column it was found in.
        start: Its first character in the column as it was read, before anything was masked.
        end: The character after its last.
    """

    type: str
    field: str
    start: int
    end: int


@dataclass(slots=True)
class Seen:
    """What row filters have to say about one row besides keeping it or not.

    Attributes:
        notes: Labels to count, as (stage, label): ``("language", "too short to judge")``.
        findings: What could identify a person.
    """

    notes: Counter = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def note(self, stage: str, label: str) -> None:
        """Counts the row under a label of a stage."""
        self.notes[stage, label] += 1


@dataclass(frozen=True)
class Part:
    """A part file: rows of one shard with the same split and datasets, or rejects (split None).

    Attributes:
        path: Where it lies.
        configs: The datasets that its rows belong to.
        split: Their split.
        rows: How many there are.
        bytes: Their canonical bytes.
        shard: The shard's number.
        file: The shard's first raw file.
    """

    path: str
    configs: tuple[str, ...]
    split: str | None
    rows: int
    bytes: int
    shard: int = 0
    file: str = ""


#: A part, and the numbers of those of its rows that are left out (None: of no row).
Chosen = tuple[Part, np.ndarray | None]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part file as the set filters see it.

    Attributes:
        part: The file, its datasets and its split; `batches` reads it.
        drop: Numbers of its rows that are left out already, ascending; None: none.
        source: The source it comes from.
        fields: The columns that this source's duplicates are judged by.
        priority: The source's rank among survivors; lower survives.
        exam: Whether these are rows to score models on, which stay as they were published.
    """

    part: Part
    drop: np.ndarray | None
    source: str
    fields: tuple[str, ...]
    priority: int
    exam: bool


class PartWriter:
    """Appends rows to a part file in batches."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema = path, schema
        self.rows = self.bytes = 0
        self._pending: list[list[Any]] = []
        self._pending_bytes = 0
        self._writer = pa.ipc.new_stream(str(path), schema)

    def add(self, row: list[Any], size: int) -> None:
        self._pending.append(row)
        self._pending_bytes += size
        self.rows += 1
        self.bytes += size
        if len(self._pending) >= _BATCH_ROWS or self._pending_bytes >= _BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            columns = zip(*self._pending, strict=True)
            arrays = [pa.array(c, f.type) for c, f in zip(columns, self.schema, strict=True)]
            self._writer.write_batch(pa.record_batch(arrays, schema=self.schema))
            self._pending, self._pending_bytes = [], 0

    def close(self) -> None:
        self._flush()
        self._writer.close()


def part_schema(columns: Mapping[str, str]) -> pa.Schema:
    schema = arrow_schema(columns)
    own = {
        KEY: pa.uint64(), AT: pa.int64(), DIGEST: pa.binary(32), NOTES: pa.string(), FINDINGS: pa.string()
    }  # fmt: skip
    for name, kind in own.items():
        schema = schema.append(pa.field(name, kind))
    return schema


def reject_row(rejected: Rejected, source: str, file: str) -> list[str]:
    """A row of ``rejected.parquet``; `file` is for records that name none."""
    excerpt, file = rejected.excerpt[:EXCERPT], rejected.file or file
    row = [rejected.id, rejected.reason, excerpt, source, file, rejected.detail, rejected.remedy]
    if not "".join(row).isascii():
        # What a record was rejected for may be that it is no valid Unicode.
        row = [text.encode("utf-8", "replace").decode() for text in row]
    return row


def batches(parts: Iterable[Chosen]) -> Iterator[pa.RecordBatch]:
    """Reads the rows of parts, in order, without those left out."""
    for part, drop in parts:
        with pa.memory_map(part.path) as source:
            start = 0
            for batch in pa.ipc.open_stream(source):
                end = start + batch.num_rows
                if drop is not None:
                    here = drop[(drop >= start) & (drop < end)] - start
                    if len(here):
                        keep = np.ones(batch.num_rows, bool)
                        keep[here] = False
                        batch = batch.filter(pa.array(keep))
                start = end
                yield batch
