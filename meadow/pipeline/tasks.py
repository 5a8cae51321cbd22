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

from meadow.core.builder import Builder, Shard
from meadow.core.errors import Error
from meadow.core.licenses import CC0
from meadow.core.options import BuildOptions
from meadow.core.parts import (
    DIGEST,
    FINDING_COLUMNS,
    FINDINGS,
    NOTES,
    Chosen,
    Part,
    PartWriter,
    Seen,
    batches,
    part_schema,
    reject_row,
)
from meadow.core.rawfile import RawFileError
from meadow.core.row import (
    EXCERPT,
    REJECTED_COLUMNS,
    Example,
    Rejected,
    arrow_schema,
    encode,
    problem,
    values,
)
from meadow.filters import row_filters

#: Rows of one Parquet row group: small enough to stream in little memory, large enough to compress.
ROW_GROUP = 4_000
#: Characters of a rejected text that are masked: what is cut off the excerpt must not cut an address in two.
_MASKED = 2 * EXCERPT
#: Errors of the machine, which must not be taken for those of the raw file that was just being read.
_OWN_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE))
_CONTROL = re.compile(r"[\x00-\x1f]")


class SourceError(Error):
    """A source that could not be built at all; the message says why and what to do."""


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


def _split_of(group: str, shares: Mapping[str, float]) -> str:
    """The split of a group, by hash: the same on any machine and however many groups there are."""
    point = int.from_bytes(hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()[:8]) / 2**64
    edge = 0.0
    for split, share in shares.items():
        edge += share
        if point < edge:
            return split
    return split


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
    options: BuildOptions,
) -> Parsed:
    """Parses one shard into part files; runs in a worker."""
    columns = builder.features()
    schema = part_schema(columns)
    reject_schema = arrow_schema(REJECTED_COLUMNS)
    writers: dict[tuple[tuple[str, ...], str | None], PartWriter] = {}
    read: Counter = Counter()
    dropped: dict[tuple[str, ...], Counter] = defaultdict(Counter)
    shares = builder.split_shares
    splits = frozenset(builder.official_splits) | frozenset(shares)
    file = shard.files[0].path if shard.files else ""
    prefix = builder.name + "/"
    chain = row_filters(builder, options, sample=sample)
    masked = (options.privacy or builder.privacy) in ("mask", "drop")

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
        writer(configs, None).add(reject_row(rejected, builder.name, file), EXCERPT)

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
            found = _broken_id(record) or problem(record, splits)
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
            license = CC0.id if sample else (record.license or builder.license.id)  # noqa: A001
            row = values(record, builder.task, license, builder.extra_features)
            try:
                data = encode(row)
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


_DRAWING = threading.Lock()


def draw(manifest: Mapping[str, Any]) -> bytes:
    """Draws a dataset's plot; runs in a worker. Matplotlib's settings are the process's, hence the lock."""
    from meadow.describe import cards

    with _DRAWING:
        return cards.plot(manifest)
