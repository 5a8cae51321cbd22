"""Parsing one shard into part files; this runs in a worker."""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from meadow.core.builder import Builder, Shard
from meadow.core.errors import SourceError
from meadow.core.licenses import CC0
from meadow.core.options import BuildOptions
from meadow.core.parts import Part, PartWriter, Seen, part_schema, reject_row
from meadow.core.rawfile import RawFileError, said
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
from meadow.filters import RowFilter, row_filters
from meadow.filters.privacy import mask

#: Characters of a rejected text that are masked: what is cut off the excerpt must not cut an address in two.
_MASKED = 2 * EXCERPT
#: Errors of the machine, which must not be taken for those of the raw file that was just being read.
_OWN_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE))


@dataclass(frozen=True)
class ParsedShard:
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


class _Sink:
    """The part files of a shard: one for each split and set of datasets, one for rejects of each set."""

    def __init__(self, builder: Builder, number: int, file: str, folder: Path, *, masked: bool) -> None:
        self._source, self._number, self._file, self._folder = builder.name, number, file, folder
        self._masked = masked
        self._rows, self._rejects = part_schema(builder.features()), arrow_schema(REJECTED_COLUMNS)
        self._writers: dict[tuple[tuple[str, ...], str | None], PartWriter] = {}
        self.read: Counter[tuple[str, ...]] = Counter()
        self.dropped: dict[tuple[str, ...], Counter] = defaultdict(Counter)

    def writer(self, configs: tuple[str, ...], split: str | None) -> PartWriter:
        """The part file of rows of these datasets and this split; None for rejects."""
        found = self._writers.get((configs, split))
        if found is None:
            path = self._folder / f"{self._number:07d}-{len(self._writers)}.arrow"
            found = PartWriter(path, self._rejects if split is None else self._rows)
            self._writers[configs, split] = found
        return found

    def reject(self, rejected: Rejected, configs: tuple[str, ...], stage: str = "source") -> None:
        """Lists a record that is left out."""
        self.dropped[configs][stage, rejected.reason] += 1
        if self._masked and (rejected.excerpt or rejected.detail):
            rejected = _hidden(rejected)
        self.writer(configs, None).add(reject_row(rejected, self._source, self._file), EXCERPT)

    def close(self) -> tuple[Part, ...]:
        """Finishes the files."""
        for writer in self._writers.values():
            writer.close()
        ordered = sorted(self._writers.items(), key=lambda item: (item[0][0], item[0][1] or ""))
        return tuple(
            Part(str(w.path), configs, split, w.rows, w.bytes, self._number, self._file)
            for (configs, split), w in ordered
        )


@_RareCollection()
def parse_shard(
    builder: Builder,
    shard: Shard,
    number: int,
    folder: Path,
    known: Set[str],
    options: BuildOptions,
    sample: bool,
) -> ParsedShard:
    """Parses one shard into part files in a folder; its records may belong to the `known` datasets.

    Raises:
        SourceError: The builder does what none may, or this machine lacks something.
    """
    file = shard.files[0].path if shard.files else ""
    masked = (options.privacy or builder.privacy) in ("mask", "drop")
    sink = _Sink(builder, number, file, folder, masked=masked)
    try:
        _fill(sink, builder, shard, known, row_filters(builder, options, sample=sample), sample=sample)
        return ParsedShard(sink.close(), dict(sink.read), dict(sink.dropped))
    except RawFileError as error:
        where = error.file or file
        failed = Rejected(error.reason, where, error.detail, error.remedy, file=where)
    except (SourceError, MemoryError):
        raise
    except Exception as error:  # whatever odd bytes do to a parser costs their file, not the build
        if isinstance(error, OSError) and error.errno in _OWN_ERRORS:
            raise SourceError(f"[Errno {error.errno}] {error.strerror}") from error
        detail = f"{type(error).__name__}: {said(error, *shard.files)}"
        detail = detail.replace(str(folder.parent), "working folder")
        remedy = "Report this file as a bug of its builder."
        failed = Rejected("unexpected error", file, detail, remedy, file=file)
    return ParsedShard(read=dict(sink.read), error=failed)


def _fill(
    sink: _Sink, builder: Builder, shard: Shard, known: Set[str], chain: Sequence[RowFilter], *, sample: bool
) -> None:
    shares = builder.split_shares
    splits = frozenset(builder.official_splits) | frozenset(shares)
    prefix = builder.name + "/"
    for at, record in enumerate(builder.examples(shard)):
        configs = record.configs or shard.configs
        if not known >= set(configs):
            raise SourceError(
                f"{record.id}: unknown dataset in {configs}; `configs_of` names {sorted(known)}"
            )
        sink.read[configs] += 1
        if isinstance(record, Rejected):
            sink.reject(record, configs)
            continue
        if not record.id.startswith(prefix) or not record.group:
            raise SourceError(f"id {record.id!r}: ids begin with {prefix!r}, and rows have a `group`")
        seen = Seen()
        kept, stage = _judged(record, splits, chain, seen)
        if isinstance(kept, Rejected):
            sink.reject(kept, configs, stage)
            continue
        # Rows of an embedded sample are Meadow's own writing, whatever the real data carry.
        license = CC0.id if sample else (kept.license or builder.license.id)  # noqa: A001
        row = values(kept, builder.task, license, builder.extra_features)
        try:
            data = encode(row)
        except UnicodeEncodeError as error:
            sink.reject(_broken_text(kept, error), configs)
            continue
        key = int.from_bytes(hashlib.blake2b(kept.id.encode(), digest_size=8).digest())
        notes = "\n".join(f"{stage}\t{label}" for stage, label in sorted(seen.notes))
        findings = json.dumps(seen.findings) if seen.findings else None
        row += (key, at, hashlib.sha256(data).digest(), notes, findings)
        sink.writer(configs, kept.split or split_of(kept.group, shares)).add(row, len(data))


def split_of(group: str, shares: Mapping[str, float]) -> str:
    """The split of a group, by hash: the same on any machine and however many groups there are."""
    point = int.from_bytes(hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()[:8]) / 2**64
    edge, split = 0.0, ""
    for split, share in shares.items():
        edge += share
        if point < edge:
            return split
    return split


def _judged(
    record: Example, splits: Set[str], chain: Sequence[RowFilter], seen: Seen
) -> tuple[Example | Rejected, str]:
    """The record as it is kept, or why not and at which stage."""
    found = problem(record, splits)
    if found is not None:
        return found, "source"
    for row_filter in chain:
        result = row_filter(record, seen)
        if isinstance(result, Rejected):
            return result, row_filter.stage
        record = result
    return record, ""


def _hidden(rejected: Rejected) -> Rejected:
    """What is listed as left out must not hold what masking would have hidden."""
    cut = rejected.excerpt[:_MASKED]
    excerpt, detail = mask(cut), mask(rejected.detail)
    if excerpt is cut and detail is rejected.detail:  # nothing was found
        return rejected
    return replace(rejected, excerpt=excerpt, detail=detail)


def _broken_text(record: Example, error: UnicodeEncodeError) -> Rejected:
    return Rejected(
        "invalid Unicode",
        record.id.encode("utf-8", "replace").decode(),
        f"{error.reason} at character {error.start}",
        "Repair the record's encoding in the raw file.",
        record.input,
        configs=record.configs,
    )
