"""The second step: a source's raw files become part files, on all workers.

A task turns one shard into part files, one per split and set of datasets. What is put together here
(counts, files, rows whose ids are taken) follows from the order of the shards alone, and never holds rows.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from meadow.core.builder import Builder, Shard
from meadow.core.errors import SourceError
from meadow.core.options import BuildOptions
from meadow.core.parts import AT, KEY, Part, PartWriter, Piece, batches, reject_row
from meadow.core.rawfile import RawFile
from meadow.core.rawstore import RawSource
from meadow.core.row import EXCERPT, REJECTED_COLUMNS, Rejected, arrow_schema
from meadow.core.workers import Crew
from meadow.pipeline.select import SelectedSource
from meadow.pipeline.shard import ParsedShard, parse_shard

#: Ids whose hashes are compared at once, to bound memory at 8 bytes each.
_IDS_AT_ONCE = 4_000_000


@dataclass
class LeftOut:
    """Rows that are left out after they were parsed.

    Attributes:
        rows: Per dataset, their numbers by path of the part.
        dropped: Per dataset, how many, by stage and reason.
        parts: Part files that list them.
    """

    rows: dict[str, dict[str, set[int]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )
    dropped: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    parts: list[Part] = field(default_factory=list)

    def copy(self) -> LeftOut:
        """The same rows, to which more can be added."""
        found = LeftOut(parts=list(self.parts))
        for config, by_path in self.rows.items():
            found.rows[config].update({path: set(numbers) for path, numbers in by_path.items()})
        for config, counts in self.dropped.items():
            found.dropped[config].update(counts)
        return found

    def add(self, stage: str, piece: Piece, found: Iterable[tuple[int, Rejected]]) -> None:
        """Leaves rows of a part out of all datasets that still have them.

        Args:
            stage: The stage that says so.
            piece: The part, with the datasets that it is left out of.
            found: Row number in the part, and why.
        """
        writers: dict[tuple[str, ...], PartWriter] = {}
        path = piece.part.path
        for number, rejected in found:
            configs = tuple(c for c in piece.part.configs if number not in self.rows[c].get(path, ()))
            if not configs:
                continue
            for config in configs:
                self.rows[config][path].add(number)
                self.dropped[config][stage, rejected.reason] += 1
            if configs not in writers:
                beside = Path(f"{path}.{stage}-{len(writers)}")
                writers[configs] = PartWriter(beside, arrow_schema(REJECTED_COLUMNS))
            writers[configs].add(reject_row(rejected, piece.source, piece.part.file), EXCERPT)
        for configs, writer in writers.items():
            writer.close()
            self.parts.append(Part(str(writer.path), configs, None, writer.rows, writer.bytes))


@dataclass(eq=False)
class ParsedSource:
    """A source whose raw files have been parsed.

    Attributes:
        builder: The source.
        raw: Its raw files.
        configs: All its datasets.
        wanted: Those that are built.
        scratch: Its working folder.
        parts: Part files, in the order of the shards.
        read: Per dataset, records read.
        dropped: Per dataset, those left out, by stage and reason.
        bad_files: Per dataset, files that could not be used.
        files: Per dataset, the raw files it comes from.
        checksums: SHA-256 of raw files; None of one that cannot be read.
        out: Rows whose ids are taken.
    """

    builder: Builder
    raw: RawSource
    configs: tuple[str, ...]
    wanted: tuple[str, ...]
    scratch: Path
    parts: list[Part] = field(default_factory=list)
    read: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    bad_files: dict[str, list[Rejected]] = field(default_factory=lambda: defaultdict(list))
    files: dict[str, set[RawFile]] = field(default_factory=lambda: defaultdict(set))
    checksums: dict[RawFile, str | None] = field(default_factory=dict)
    out: LeftOut = field(default_factory=LeftOut)

    def pieces(self, out: LeftOut) -> list[Piece]:
        """The parts whose rows may be published, for the set filters, without what is left out."""
        builder, exams, found = self.builder, self.builder.exam_splits(), []
        for part in self.parts:
            mine = tuple(config for config in part.configs if config in self.wanted)
            if part.split is None or not mine:
                continue
            # A row that is left out of one of its datasets may still stand in another.
            numbers = set.intersection(*(out.rows[config].get(part.path, set()) for config in mine))
            drop = np.array(sorted(numbers), np.int64) if numbers else None
            piece = replace(part, configs=mine)
            fields, priority = builder.duplicate_fields, builder.priority
            found.append(Piece(piece, drop, builder.name, fields, priority, part.split in exams))
        return found


def parse(selected: SelectedSource, options: BuildOptions, crew: Crew, scratch: Path) -> ParsedSource:
    """Parses a source, in a working folder that is made here.

    Raises:
        SourceError: It cannot be built at all.
        RawFileError: Its only raw file cannot be opened.
    """

    def mapped(function: Callable, items: Iterable[Any]) -> Iterator[Any]:
        return crew.run(selected.builder.name, "preparing", [(function, item) for item in items])

    (scratch / "source").mkdir(parents=True)
    raw = replace(selected.raw, scratch=scratch / "source", map=mapped)
    source = ParsedSource(selected.builder, raw, selected.configs, selected.wanted, scratch)
    sums = {file: crew.executor.submit(_sha256, file) for file in raw.files}
    try:
        _parse_shards(source, options, crew)
        source.checksums = {file: future.result() for file, future in sums.items()}
    finally:
        for future in sums.values():
            future.cancel()
    for config in source.wanted:
        _leave_out_repeated(source, config)
    # The spill files of a large dump are as large as it.
    shutil.rmtree(scratch / "source", ignore_errors=True)
    return source


def _sha256(file: RawFile) -> str | None:
    try:
        return file.sha256()
    except OSError:
        return None


def _parse_shards(source: ParsedSource, options: BuildOptions, crew: Crew) -> None:
    builder, known = source.builder, frozenset(source.configs)
    folder = source.scratch / "parts"
    folder.mkdir()
    shards = _shards(source)
    calls = [
        (parse_shard, builder, shard, number, folder, known, options, source.raw.sample)
        for number, shard in enumerate(shards)
    ]
    parsed = list(crew.run(builder.name, "parsing", calls))
    out = _reject_bad(source, shards, parsed)
    for number, (shard, result) in enumerate(zip(shards, parsed, strict=True)):
        if number in out:
            for config in shard.configs:
                source.files[config].update(shard.files)
        else:
            _account(source, shard, result)


def _shards(source: ParsedSource) -> list[Shard]:
    """The pieces of work; files that cannot even be opened are noted."""
    shards: list[Shard] = []
    by_path = {file.path: file for file in source.raw.files}
    for item in source.builder.shards(source.raw):
        if isinstance(item, Shard):
            shards.append(item)
            continue
        if not set(source.configs).issuperset(item.configs):
            raise SourceError(
                f"{item.id}: unknown dataset in {item.configs}; there are {sorted(source.configs)}"
            )
        _reject_file(source, item)
        for config in item.configs or source.configs:
            if item.file in by_path:
                source.files[config].add(by_path[item.file])
    keys = Counter(shard.key for shard in shards)
    if keys and keys.most_common(1)[0][1] > 1:
        raise SourceError(f"two shards share the key {keys.most_common(1)[0][0]!r}")
    return shards


def _reject_file(source: ParsedSource, rejected: Rejected) -> None:
    for config in rejected.configs or source.configs:
        source.read[config] += 1
        source.dropped[config]["source", rejected.reason] += 1
        source.bad_files[config].append(rejected)


def _reject_bad(source: ParsedSource, shards: list[Shard], parsed: list[ParsedShard]) -> set[int]:
    """Lists each file that failed, once in every dataset that loses records by it.

    Returns:
        The numbers of the shards that are left out: a file that fails in one counts in none.
    """
    bad = {r.error.file: r.error for r in reversed(parsed) if r.error is not None}
    datasets: dict[str, set[str]] = defaultdict(set)
    others: dict[str, dict[str, None]] = defaultdict(dict)
    out: set[int] = set()
    for number, (shard, result) in enumerate(zip(shards, parsed, strict=True) if bad else ()):
        paths = [file.path for file in shard.files]
        causes = {path for path in paths if path in bad}
        if result.error is not None:  # it may name a member of an archive, which is no file of a shard
            causes.add(result.error.file)
        for path in causes:
            out.add(number)
            datasets[path].update(shard.configs, *result.read)
            if path in paths:
                others[path].update(dict.fromkeys(other for other in paths if other not in bad))
    for path, error in sorted(bad.items()):
        if others[path]:
            error = replace(error, detail=f"{error.detail}; read together with {_few(list(others[path]))}")
        configs = tuple(config for config in source.configs if config in datasets[path])
        _reject_file(source, replace(error, configs=configs))
    return out


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _account(source: ParsedSource, shard: Shard, parsed: ParsedShard) -> None:
    source.parts += parsed.parts
    for config in dict.fromkeys((*shard.configs, *(c for part in parsed.parts for c in part.configs))):
        source.files[config].update(shard.files)
    for configs, count in parsed.read.items():
        for config in configs:
            source.read[config] += count
    for configs, reasons in parsed.dropped.items():
        for config in configs:
            source.dropped[config].update(reasons)


def _leave_out_repeated(source: ParsedSource, config: str) -> None:
    """Finds the rows of a dataset whose id an earlier record has."""
    kept = [part for part in source.parts if config in part.configs and part.split is not None]
    detail, remedy = "an earlier record has this id", "Remove one of the two raw records."
    path = source.scratch / f"repeated-{config}.arrow"
    writer = None
    for part, at, row_id, text in _repeated(kept):
        writer = writer or PartWriter(path, arrow_schema(REJECTED_COLUMNS))
        rejected = Rejected("duplicate id", row_id, detail, remedy, text, part.file)
        writer.add(reject_row(rejected, source.builder.name, part.file), EXCERPT)
        source.out.rows[config][part.path].add(at)
        source.out.dropped[config]["source", rejected.reason] += 1
    if writer is not None:
        writer.close()
        source.out.parts.append(Part(str(path), (config,), None, writer.rows, writer.bytes))


def _repeated(parts: list[Part]) -> Iterator[tuple[Part, int, str, str]]:
    """(part, row in it, id, beginning of the input) of rows whose id an earlier record has; parts in order."""
    wanted = _suspects(parts)
    if not len(wanted):
        return
    seen: set[str] = set()
    for _, group in groupby(parts, key=lambda part: part.shard):
        found = []
        for part in group:
            start = 0
            for batch in batches([(part, None)]):
                for at in np.flatnonzero(np.isin(batch[KEY].to_numpy(), wanted)).tolist():
                    text = batch["input"][at].as_py()[:EXCERPT]
                    found.append((batch[AT][at].as_py(), part, start + at, batch["id"][at].as_py(), text))
                start += batch.num_rows
        for _, part, at, row_id, text in sorted(found, key=lambda item: item[0]):
            if row_id in seen:
                yield part, at, row_id, text
            seen.add(row_id)


def _suspects(parts: list[Part]) -> np.ndarray:
    """The hashes of ids that more than one row has, or two ids share by chance."""
    passes = max(1, -(-sum(part.rows for part in parts) // _IDS_AT_ONCE))
    suspects: set[int] = set()
    for turn in range(passes):
        keys = [_keys(part) for part in parts]
        if passes > 1:
            keys = [k[k % np.uint64(passes) == turn] for k in keys]
        found, times = np.unique(np.concatenate(keys) if keys else np.empty(0, np.uint64), return_counts=True)
        suspects.update(found[times > 1].tolist())
    return np.fromiter(suspects, np.uint64)


def _keys(part: Part) -> np.ndarray:
    found = [batch[KEY].to_numpy() for batch in batches([(part, None)])]
    return np.concatenate(found) if found else np.empty(0, np.uint64)
