"""The work that a build spreads over workers: parsing a shard, writing a Parquet file, drawing a plot.

All take and return small picklable values; rows travel in part files (Arrow IPC, uncompressed, in the
build's working folder). No task holds more than a batch of rows.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import json
import re
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meadow.core import rows
from meadow.core.builder import Builder, Example, Rejected, Shard
from meadow.core.raw import RawFileError
from meadow.filters import Filters, Seen, row_filters

#: Rows of one Parquet row group: small enough to stream in little memory, large enough to compress.
ROW_GROUP = 4_000
#: Rows and bytes held before a part file grows by a batch.
_BATCH_ROWS, _BATCH_BYTES = 1_000, 4 * 2**20
#: Columns that only part files have: a hash of the id, the number of the record in its shard, the
#: SHA-256 of the row's canonical bytes, and what row filters noted and found.
KEY, AT, DIGEST, NOTES, FINDINGS = "__key", "__at", "__digest", "__notes", "__findings"
#: Columns of ``privacy.parquet``.
FINDING_COLUMNS: Mapping[str, str] = {
    "id": "string", "type": "string", "field": "string", "start": "int64", "end": "int64"
}  # fmt: skip
#: Characters of a rejected text that are masked: what is cut off the excerpt must not cut an address in two.
_MASKED = 2 * rows.EXCERPT
#: Errors of the machine, which must not be taken for those of the raw file that was just being read.
_OWN_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE))
_CONTROL = re.compile(r"[\x00-\x1f]")


class SourceError(Exception):
    """A source that could not be built at all; the message says why and what to do."""


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


@dataclass(frozen=True)
class Parsed:
    """What became of a shard.

    Attributes:
        parts: Its part files; none where there is an error.
        read: Records read, per tuple of datasets; where there is an error, up to it.
        dropped: Those left out, by stage and reason.
        error: The file that could not be read, which costs the shard all its records.
    """

    parts: tuple[Part, ...] = ()
    read: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    dropped: Mapping[tuple[str, ...], Counter] = field(default_factory=dict)
    error: Rejected | None = None


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
    schema = rows.schema(columns)
    own = {
        KEY: pa.uint64(), AT: pa.int64(), DIGEST: pa.binary(32), NOTES: pa.string(), FINDINGS: pa.string()
    }  # fmt: skip
    for name, kind in own.items():
        schema = schema.append(pa.field(name, kind))
    return schema


def _split_of(group: str, shares: Mapping[str, float]) -> str:
    """The split of a group, by hash: the same on any machine and however many groups there are."""
    point = int.from_bytes(hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()[:8]) / 2**64
    edge = 0.0
    for split, share in shares.items():
        edge += share
        if point < edge:
            return split
    return split


def reject_row(rejected: Rejected, source: str, file: str) -> list[str]:
    """A row of ``rejected.parquet``; `file` is for records that name none."""
    row = [
        rejected.id,
        rejected.reason,
        rejected.excerpt[: rows.EXCERPT],
        source,
        rejected.file or file,
        rejected.detail,
        rejected.remedy,
    ]
    if not "".join(row).isascii():
        # What a record was rejected for may be that it is no valid Unicode.
        row = [text.encode("utf-8", "replace").decode() for text in row]
    return row


class _RareCollection(contextlib.ContextDecorator):
    """Lets garbage collection run seldom: rows by the thousand are alive and none of them is in a cycle.

    The setting is the process's, in which other threads may be parsing, too: the first that begins
    changes it and the last that ends puts it back.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, gc.get_threshold()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = gc.get_threshold()
                gc.set_threshold(100_000, 20, 100)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                gc.set_threshold(*self._before)


@_RareCollection()
def parse(
    builder: Builder,
    shard: Shard,
    folder: Path,
    number: int,
    sample: bool,
    known: frozenset,
    filters: Filters,
) -> Parsed:
    """Parses one shard into part files; runs in a worker."""
    columns = rows.features(builder)
    schema = part_schema(columns)
    reject_schema = rows.schema(rows.REJECTED_COLUMNS)
    writers: dict[tuple[tuple[str, ...], str | None], PartWriter] = {}
    read: Counter = Counter()
    dropped: dict[tuple[str, ...], Counter] = defaultdict(Counter)
    shares = builder.split_shares
    splits = frozenset(builder.official_splits) | frozenset(shares)
    file = shard.files[0].path if shard.files else ""
    prefix = builder.name + "/"
    chain = row_filters(builder, filters, sample=sample)
    masked = (filters.privacy or builder.privacy) in ("mask", "drop")

    def writer(configs: tuple[str, ...], split: str | None) -> PartWriter:
        found = writers.get((configs, split))
        if found is None:
            path = folder / f"{number:07d}-{len(writers)}.arrow"
            found = PartWriter(path, reject_schema if split is None else schema)
            writers[configs, split] = found
        return found

    def reject(rejected: Rejected, configs: tuple[str, ...], stage: str = "source") -> None:
        dropped[configs][stage, rejected.reason] += 1
        if masked and (rejected.excerpt or rejected.detail):
            rejected = _hidden(rejected)
        writer(configs, None).add(reject_row(rejected, builder.name, file), rows.EXCERPT)

    try:
        for at, record in enumerate(builder.examples(shard)):
            configs = record.configs or shard.configs
            if not known.issuperset(configs):
                raise SourceError(
                    f"{record.id}: unknown dataset in {configs}; `configs_of` names {sorted(known)}"
                )
            read[configs] += 1
            if isinstance(record, Rejected):
                reject(record, configs)
                continue
            if not record.id.startswith(prefix) or not record.group:
                raise SourceError(f"id {record.id!r}: ids begin with {prefix!r}, and rows have a `group`")
            found = _broken_id(record) or rows.problem(record, splits)
            if found is not None:
                reject(found, configs)
                continue
            seen = Seen()
            for row_filter in chain:
                result = row_filter(record, seen)
                if isinstance(result, Rejected):
                    reject(result, configs, row_filter.stage)
                    break
                record = result
            else:
                result = None
            if result is not None:
                continue
            row = rows.values(record, builder, sample=sample)
            try:
                data = rows.encode(row)
            except UnicodeEncodeError as error:
                reject(_broken_text(record, error), configs)
                continue
            split = record.split or _split_of(record.group, shares)
            key = int.from_bytes(hashlib.blake2b(record.id.encode(), digest_size=8).digest())
            row += (key, at, hashlib.sha256(data).digest(), _notes(seen), _findings(seen))
            writer(configs, split).add(row, len(data))
        for part in writers.values():
            part.close()
    except RawFileError as error:
        where, detail = error.file or file, _portable(error.detail, shard, folder)
        return Parsed(read=dict(read), error=Rejected(error.reason, where, detail, error.remedy, file=where))
    except (SourceError, MemoryError):
        raise
    except Exception as error:  # whatever odd bytes do to a parser costs their file, not the build
        if isinstance(error, OSError) and error.errno in _OWN_ERRORS:
            raise SourceError(str(error)) from error
        detail = _portable(f"{type(error).__name__}: {error}", shard, folder)
        remedy = "Report this file as a bug of its builder."
        return Parsed(read=dict(read), error=Rejected("unexpected error", file, detail, remedy, file=file))
    parts = tuple(
        Part(str(w.path), configs, split, w.rows, w.bytes, number, file)
        for (configs, split), w in sorted(writers.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    )
    return Parsed(parts, dict(read), dict(dropped))


def _hidden(rejected: Rejected) -> Rejected:
    """What is listed as left out must not hold what masking would have hidden."""
    from meadow.filters.privacy import mask

    cut = rejected.excerpt[:_MASKED]
    excerpt, detail = mask(cut), mask(rejected.detail)
    if excerpt is cut and detail is rejected.detail:  # nothing was found
        return rejected
    return replace(rejected, excerpt=excerpt, detail=detail)


def _notes(seen: Seen) -> str:
    return "\n".join(f"{stage}\t{label}" for stage, label in sorted(seen.notes)) if seen.notes else ""


def _findings(seen: Seen) -> str | None:
    return json.dumps(seen.findings) if seen.findings else None


def _portable(text: str, shard: Shard, folder: Path) -> str:
    """An error's words without what differs between machines and runs: folders, addresses in memory."""
    for file in shard.files:
        text = text.replace(str(file.local), file.path)
    return re.sub(r" at 0x[0-9a-f]+", "", text.replace(str(folder.parent), "working folder"))


def _broken_id(record: Example) -> Rejected | None:
    # One id is one line of what `ids_sha256` is taken over, sorted by bytes.
    if not _CONTROL.search(record.id):
        return None
    return Rejected(
        "control character in id",
        _CONTROL.sub(" ", record.id),
        f"{record.id!r}",
        "Repair the record's key in the raw file.",
        record.input,
        configs=record.configs,
    )


def _broken_text(record: Example, error: UnicodeEncodeError) -> Rejected:
    return Rejected(
        "invalid Unicode",
        record.id.encode("utf-8", "replace").decode(),
        f"{error.reason} at character {error.start}",
        "Repair the record's encoding in the raw file.",
        record.input,
        configs=record.configs,
    )


@dataclass(frozen=True)
class Written:
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


def write(parts: list[Chosen], columns: Mapping[str, str], path: Path, work: str) -> Written:
    """Writes consecutive parts to one Parquet file; runs in a worker.

    Args:
        parts: The parts.
        columns: The dataset's columns.
        path: The Parquet file.
        work: The beginning of the names of its working files.
    """
    schema = rows.schema(columns)
    count = nbytes = 0
    lengths: dict[str, Counter] = {"input": Counter(), "output": Counter()}
    licenses: Counter = Counter()
    generators: Counter = Counter()
    notes: Counter = Counter()
    types: Counter = Counter()
    findings = PartWriter(Path(work + ".findings"), rows.schema(FINDING_COLUMNS))
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
    return Written(
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
    schema = rows.schema(rows.REJECTED_COLUMNS)
    more = [reject_row(rejected, source, "") for rejected in extra]
    with _parquet(path, schema) as out:
        for table in _groups(batches((part, None) for part in parts), schema):
            out.write_table(table, row_group_size=ROW_GROUP)
        if more or not parts:
            arrays = [pa.array([row[i] for row in more], pa.string()) for i in range(len(schema))]
            out.write_table(pa.Table.from_arrays(arrays, schema=schema))


def write_tables(paths: Iterable[str], columns: Mapping[str, str], path: Path) -> None:
    """Writes working files of such columns, one after another, to a Parquet file; runs in a worker."""
    schema = rows.schema(columns)
    with _parquet(path, schema) as out:
        for each in paths:
            with pa.memory_map(each) as source:
                for table in _groups(iter(pa.ipc.open_stream(source)), schema):
                    out.write_table(table, row_group_size=ROW_GROUP)


_DRAWING = threading.Lock()


def draw(manifest: Mapping[str, Any]) -> bytes:
    """Draws a dataset's plot; runs in a worker. Matplotlib's settings are the process's, hence the lock."""
    from meadow.describe import cards

    with _DRAWING:
        return cards.plot(manifest)
