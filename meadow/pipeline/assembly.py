"""One source, from raw files to finished folders that only need to be put in place.

Work is done in two rounds of independent tasks. A *parse* task turns one shard into part files (Arrow
IPC, in the working folder), one per split and set of datasets. A *write* task turns consecutive parts
into one Parquet file. Between the two, `meadow.pipeline.screen` compares the parts of all sources. Which parts make a file follows from their order and sizes alone, so the bytes
are the same for any number of workers, in whatever order they finish. No task holds more than one
shard's batch of rows, and the parent holds counts, never rows.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meadow.core.builder import Builder, Shard
from meadow.core.licenses import CC0, License, verdict
from meadow.core.manifest import Manifest
from meadow.core.options import BuildOptions
from meadow.core.parts import AT, FINDING_COLUMNS, KEY, Part, PartWriter, Piece, batches, reject_row
from meadow.core.rawfile import RawFile
from meadow.core.rawstore import RawSource
from meadow.core.row import EXCERPT, REJECTED_COLUMNS, Rejected, arrow_schema, content_hash
from meadow.core.store import ATTRIBUTION, MANIFEST, PRIVACY, REJECTED
from meadow.core.version import VERSION
from meadow.core.workers import Progress, in_order
from meadow.describe import attribution
from meadow.filters import STAGES
from meadow.pipeline.tasks import Parsed, SourceError, Written, parse, write, write_rejected, write_tables

#: Canonical bytes of one Parquet file. Files are the unit of parallel writing and of downloading.
FILE_BYTES = 64 * 2**20
#: Ids whose hashes are compared at once, to bound memory at 8 bytes each.
_IDS_AT_ONCE = 4_000_000


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


def _duplicates(parts: list[Part]) -> Iterator[tuple[Part, int, str, str]]:
    """Finds rows whose id an earlier record of the raw data has.

    Args:
        parts: Parts in the order of their shards.

    Yields:
        (part, row number in it, id, beginning of the input) of each row to leave out.
    """
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


def _keys(part: Part) -> np.ndarray:
    found = [batch[KEY].to_numpy() for batch in batches([(part, None)])]
    return np.concatenate(found) if found else np.empty(0, np.uint64)


def _files(parts: list[Part]) -> list[list[Part]]:
    """Cuts a split into files: a new one begins where the last has reached `FILE_BYTES`."""
    files: list[list[Part]] = []
    size = FILE_BYTES
    for part in parts:
        if size >= FILE_BYTES:
            files.append([])
            size = 0
        files[-1].append(part)
        size += part.bytes
    return files


def ids_sha256(runs: list[str], work: Path) -> str:
    """SHA-256 of all ids in byte order, each with a newline: what ``sort | sha256sum`` gives."""
    digest = hashlib.sha256()
    level = 0
    while len(runs) > 200:  # below the usual limit of 1,024 open files
        merged = []
        for at in range(0, len(runs), 200):
            path = work / f"ids-{level}-{at}"
            with ExitStack() as stack, path.open("wb") as out:
                out.writelines(
                    heapq.merge(*(stack.enter_context(Path(r).open("rb")) for r in runs[at : at + 200]))
                )
            merged.append(str(path))
        runs, level = merged, level + 1
    with ExitStack() as stack:
        for line in heapq.merge(*(stack.enter_context(Path(r).open("rb")) for r in runs)):
            digest.update(line)
    return digest.hexdigest()


def percentiles(found: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    values = np.concatenate([v for v, _ in found])
    counts = np.concatenate([c for _, c in found])
    order = np.argsort(values, kind="stable")
    values, counts = values[order], counts[order]
    running = np.cumsum(counts)
    total = int(running[-1])
    out: dict[str, Any] = {"unit": "characters", "mean": round(float((values * counts).sum() / total), 1)}
    out["min"] = int(values[0])
    for p in (5, 25, 50, 75, 95, 99):
        out[f"p{p}"] = int(values[np.searchsorted(running, p / 100 * total)])
    out["max"] = int(values[-1])
    # Four bins to each doubling: fine enough to show a shape, few enough to keep in a manifest.
    bins = np.floor(4 * np.log2(np.maximum(values, 1))).astype(int)
    tally = {int(b): int(counts[bins == b].sum()) for b in np.unique(bins)}
    out["histogram"] = [[round(2 ** (b / 4), 2), n] for b, n in sorted(tally.items())]
    return out


@dataclass
class Assembly:
    """One source on its way from raw files to staged folders.

    Call `prepare`; then, as far as other rows say so, `leave_out`; then `finish`.
    """

    builder: Builder
    raw: RawSource
    configs: tuple[str, ...]
    wanted: tuple[str, ...]
    options: BuildOptions
    executor: Executor
    ahead: int
    scratch: Path
    progress: Progress
    parts: list[Part] = field(default_factory=list)
    read: Counter = field(default_factory=Counter)
    dropped: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    left_out: dict[str, list[Rejected]] = field(default_factory=lambda: defaultdict(list))
    files: dict[str, set[RawFile]] = field(default_factory=lambda: defaultdict(set))
    #: Per dataset, the rows that are left out after parsing: numbers by part.
    out: dict[str, dict[str, set[int]]] = field(default_factory=dict)
    checksums: dict[RawFile, str | None] = field(default_factory=dict)

    def prepare(self) -> None:
        """Parses the raw files and finds rows whose ids are taken."""
        sums = {file: self.executor.submit(_sha256, file) for file in self.raw.files}
        try:
            self._parse_all()
            self.checksums = {file: future.result() for file, future in sums.items()}
        finally:
            for future in sums.values():
                future.cancel()
        for config in self.wanted:
            self.out[config] = defaultdict(set)
            self._drop_repeated(config)

    def pieces(self) -> list[Piece]:
        """The parts whose rows may be published, for the set filters."""
        found = []
        for part in self.parts:
            mine = [config for config in part.configs if config in self.wanted]
            if part.split is None or not mine:
                continue
            # A row that is left out of one of its datasets may still stand in another.
            numbers = set.intersection(*(self.out[config].get(part.path, set()) for config in mine))
            drop = np.array(sorted(numbers), np.int64) if numbers else None
            builder = self.builder
            exam = builder.test_only or (part.split == "test" and "test" in builder.official_splits)
            part = replace(part, configs=tuple(mine))
            found.append(Piece(part, drop, builder.name, builder.duplicate_fields, builder.priority, exam))
        return found

    def leave_out(self, stage: str, piece: Piece, found: Iterable[tuple[int, Rejected]]) -> None:
        """Leaves rows of a piece out of all its datasets.

        Args:
            stage: The stage that says so.
            piece: One of `pieces`.
            found: Row number in the part, and why.
        """
        writers: dict[tuple[str, ...], PartWriter] = {}
        path, schema = piece.part.path, arrow_schema(REJECTED_COLUMNS)
        for number, rejected in found:
            configs = tuple(c for c in piece.part.configs if number not in self.out[c].get(path, ()))
            if not configs:
                continue
            for config in configs:
                self.out[config][path].add(number)
                self.dropped[config][stage, rejected.reason] += 1
            if configs not in writers:
                writers[configs] = PartWriter(Path(f"{path}.{stage}-{len(writers)}"), schema)
            writers[configs].add(reject_row(rejected, self.builder.name, piece.part.file), EXCERPT)
        for configs, writer in writers.items():
            writer.close()
            self.parts.append(Part(str(writer.path), configs, None, writer.rows, writer.bytes))

    def finish(
        self, reports: Callable[[str, Path], Mapping[str, Any]]
    ) -> tuple[list[tuple[dict[str, Any], Path]], list[str]]:
        """Writes what is kept.

        Args:
            reports: Writes the set filters' tables of a dataset into its folder, and returns what its
                manifest says of them.

        Returns:
            (manifest, staged folder) per dataset, and the datasets without a row.
        """
        staged, empty = self._write_all()
        for manifest, folder in staged:
            manifest.update(reports(manifest["name"], folder))
            # A file that cannot be read has no checksum; it stands among the rejected.
            used = sorted(
                (f for f in self.files[manifest["name"]] if self.checksums[f]), key=lambda f: f.path
            )
            manifest["raw"] = [{"path": f.path, "bytes": f.bytes, "sha256": self.checksums[f]} for f in used]
            Manifest.model_validate(manifest).write(folder / MANIFEST)
        return staged, empty

    def _reject_file(self, rejected: Rejected) -> None:
        for config in rejected.configs or self.configs:
            self.read[config] += 1
            self.dropped[config]["source", rejected.reason] += 1
            self.left_out[config].append(rejected)

    def _parse_all(self) -> None:
        known = frozenset(self.configs)
        folder = self.scratch / "parts"
        folder.mkdir()
        shards: list[Shard] = []
        by_path = {file.path: file for file in self.raw.files}
        for item in self.builder.shards(self.raw):
            if isinstance(item, Rejected):
                if not known.issuperset(item.configs):
                    raise SourceError(
                        f"{item.id}: unknown dataset in {item.configs}; there are {sorted(known)}"
                    )
                self._reject_file(item)
                for config in item.configs or self.configs:
                    if item.file in by_path:
                        self.files[config].add(by_path[item.file])
            else:
                shards.append(item)
        keys = Counter(shard.key for shard in shards)
        if keys and keys.most_common(1)[0][1] > 1:
            raise SourceError(f"two shards share the key {keys.most_common(1)[0][0]!r}")
        calls = (
            (parse, self.builder, shard, folder, number, self.raw.sample, known, self.options)
            for number, shard in enumerate(shards)
        )
        parsed: list[Parsed] = []
        for result in in_order(self.executor, calls, self.ahead):
            parsed.append(result)
            self.progress(self.builder.name, "parsing", len(parsed), len(shards))
        out = self._reject_bad(shards, parsed)
        for number, (shard, result) in enumerate(zip(shards, parsed, strict=True)):
            if number in out:
                for config in shard.configs:
                    self.files[config].update(shard.files)
            else:
                self._account(shard, result)

    def _reject_bad(self, shards: list[Shard], parsed: list[Parsed]) -> set[int]:
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
                error = replace(
                    error, detail=f"{error.detail}; read together with {_few(list(others[path]))}"
                )
            self._reject_file(replace(error, configs=tuple(c for c in self.configs if c in datasets[path])))
        return out

    def _account(self, shard: Shard, parsed: Parsed) -> None:
        for config in shard.configs:
            self.files[config].update(shard.files)
        for part in parsed.parts:
            for config in part.configs:
                self.files[config].update(shard.files)
        self.parts += parsed.parts
        for configs, count in parsed.read.items():
            for config in configs:
                self.read[config] += count
        for configs, reasons in parsed.dropped.items():
            for config in configs:
                self.dropped[config].update(reasons)

    def _write_all(self) -> tuple[list[tuple[dict[str, Any], Path]], list[str]]:
        order = dict.fromkeys((*self.builder.official_splits, *self.builder.split_shares))
        columns = self.builder.features()
        calls, jobs, empty = [], [], []
        for config in self.wanted:
            mine = [part for part in self.parts if config in part.configs]
            rejects = [part for part in mine if part.split is None]
            drop = {path: np.array(sorted(numbers)) for path, numbers in self.out[config].items()}
            kept = [part for part in mine if part.split is not None]
            kept = [part for part in kept if part.rows > len(drop.get(part.path, ()))]
            if not kept:
                empty.append(config)
                continue
            folder = self.scratch / "staged" / config
            folder.mkdir(parents=True)
            outputs: dict[str, list[tuple[str, int]]] = {}
            for split in order:
                files = _files([part for part in kept if part.split == split])
                for index, parts in enumerate(files):
                    name = f"{split}-{index:05d}-of-{len(files):05d}.parquet"
                    outputs.setdefault(split, []).append((name, len(calls)))
                    work = str(self.scratch / f"{len(calls)}")
                    chosen = [(part, drop.get(part.path)) for part in parts]
                    calls.append((write, chosen, columns, folder / name, work))
            calls.append(
                (write_rejected, rejects, self.left_out[config], self.builder.name, folder / REJECTED)
            )
            jobs.append((config, folder, outputs))
        written = []
        for result in in_order(self.executor, calls, self.ahead):
            written.append(result)
            self.progress(self.builder.name, "writing", len(written), len(calls))
        staged, calls = [], []
        for config, folder, outputs in jobs:
            splits = {split: [(name, written[i]) for name, i in files] for split, files in outputs.items()}
            staged.append((self._manifest(config, columns, splits), folder))
            every = [(name, each) for files in splits.values() for name, each in files]
            findings = [each.findings for _, each in every if each.findings]
            calls.append((write_tables, findings, FINDING_COLUMNS, folder / PRIVACY))
            terms = {term.id: term for term in _terms(self.builder)}
            changes = {self.builder.name: self.builder.changes} if self.builder.changes else {}
            paths = [folder / name for name, _ in every]
            calls.append((attribution.write, paths, folder / ATTRIBUTION, terms, changes))
        for _ in in_order(self.executor, calls, self.ahead):
            pass
        return staged, empty

    def _drop_repeated(self, config: str) -> None:
        """Finds the rows whose id is taken, and lists them in a part of rejects of their own."""
        kept = [part for part in self.parts if config in part.configs and part.split is not None]
        path = self.scratch / f"repeated-{config}.arrow"
        writer = None
        for part, at, row_id, text in _duplicates(kept):
            writer = writer or PartWriter(path, arrow_schema(REJECTED_COLUMNS))
            detail, remedy = "an earlier record has this id", "Remove one of the two raw records."
            rejected = Rejected("duplicate id", row_id, detail, remedy, text, part.file)
            writer.add(reject_row(rejected, self.builder.name, part.file), EXCERPT)
            self.out[config][part.path].add(at)
        if writer is None:
            return
        writer.close()
        self.dropped[config]["source", "duplicate id"] += writer.rows
        self.parts.append(Part(str(path), (config,), None, writer.rows, writer.bytes))

    def _funnel(self, config: str, kept: int) -> dict[str, Any]:
        """Rows read, kept and left out, in all and stage by stage."""
        dropped: Counter = Counter()
        stages, left = [], self.read[config]
        for stage in STAGES:
            mine = {r: n for (s, r), n in sorted(self.dropped[config].items()) if s == stage and n}
            dropped.update(mine)
            stages.append({"stage": stage, "read": left, "kept": left - sum(mine.values()), "dropped": mine})
            left = stages[-1]["kept"]
        if left != kept:
            raise SourceError(
                f"{config}: the funnel does not balance: read {self.read[config]}, kept {kept}, dropped {dict(dropped)}"
            )
        return {
            "read": self.read[config],
            "kept": kept,
            "dropped": dict(sorted(dropped.items())),
            "stages": stages,
        }

    def _manifest(
        self, config: str, columns: dict[str, str], splits: dict[str, list[tuple[str, Written]]]
    ) -> dict[str, Any]:
        builder, sample = self.builder, self.raw.sample
        every = [written for files in splits.values() for _, written in files]
        digest = content_hash(columns)
        for split, files in splits.items():
            digest.update(split.encode() + b"\n")
            for _, written in files:
                with Path(written.digests).open("rb") as stream:
                    while chunk := stream.read(2**20):
                        digest.update(chunk)
        licenses, generators = Counter(), Counter()
        for written in every:
            licenses.update(written.licenses)
            generators.update(written.generators)
        notes, found = Counter(), Counter()
        for written in every:
            notes.update(written.notes)
            found.update(written.types)
        settings = self.options.recorded(builder.privacy).model_dump(mode="json")
        terms = {term.id: term for term in _terms(builder)}
        missing = sorted(set(licenses) - set(terms))
        if missing:
            raise SourceError(
                f"{config}: rows carry {', '.join(missing)}, which the builder does not declare"
            )
        return {
            "name": config,
            "source": builder.name,
            "version": builder.version,
            "description": builder.description,
            "homepage": builder.homepage,
            "release_notes": dict(builder.release_notes),
            "sample": sample,
            "languages": list(builder.languages),
            "task": builder.task,
            "test_only": builder.test_only,
            "parameters": dict(builder.parameters),
            "raw": [],
            "filters": settings,
            "funnel": self._funnel(config, sum(w.rows for w in every)),
            "notes": _by_stage(notes),
            "privacy": {
                "policy": settings["privacy"],
                "rows": found.pop("", 0),
                "findings": dict(sorted(found.items())),
            },
            "splits": {
                split: {
                    "rows": sum(w.rows for _, w in files),
                    "bytes": sum(w.nbytes for _, w in files),
                    "files": [{"path": n, "bytes": w.bytes, "sha256": w.sha256} for n, w in files],
                }
                for split, files in splits.items()
            },
            "features": columns,
            "licenses": dict(sorted(licenses.items())),
            "generators": dict(sorted(generators.items())),
            "license_terms": {i: terms[i].described() for i in sorted(licenses)},
            "license_verdict": verdict(licenses, terms, generators).described(),
            "citation": builder.citation(),
            "lengths": {name: percentiles([w.lengths[name] for w in every]) for name in ("input", "output")},
            "example": first_row(self.scratch / "staged" / config, splits),
            "ids_sha256": ids_sha256([w.ids for w in every], self.scratch),
            "rows_sha256": digest.hexdigest(),
            "built_with": {"meadow": VERSION, "pyarrow": pa.__version__},
        }


def _by_stage(notes: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    stages = [stage for stage in STAGES if any(s == stage for s, _ in notes)]
    return {stage: {label: n for (s, label), n in sorted(notes.items()) if s == stage} for stage in stages}


def _sha256(file: RawFile) -> str | None:
    try:
        return file.sha256()
    except OSError:
        return None


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _terms(builder: Builder) -> tuple[License, ...]:
    return (CC0, builder.license, *builder.licenses)


def first_row(folder: Path, splits: dict[str, list[tuple[str, Written]]]) -> dict[str, Any]:
    name = next(iter(splits.values()))[0][0]
    with pq.ParquetFile(folder / name) as file:
        return next(file.iter_batches(batch_size=1)).to_pylist()[0]


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n")
