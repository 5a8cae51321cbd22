"""What a dataset's manifest says, from what was counted while it was parsed, screened and written."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meadow.core.errors import SourceError
from meadow.core.licenses.judge import judge
from meadow.core.manifest import (
    BuiltWith,
    Contamination,
    Duplicates,
    FileSum,
    Funnel,
    FunnelStage,
    Lengths,
    Licensing,
    Manifest,
    Privacy,
    Split,
)
from meadow.core.options import BuildOptions
from meadow.core.row import content_hash
from meadow.core.version import VERSION
from meadow.filters import STAGES
from meadow.pipeline.files import WrittenFile
from meadow.pipeline.screen import ScreenedSource


def make(
    source: ScreenedSource,
    config: str,
    folder: Path,
    files: Mapping[str, list[tuple[str, WrittenFile]]],
    options: BuildOptions,
    *,
    contamination: Contamination | None,
    duplicates: Duplicates | None,
) -> Manifest:
    """Makes the manifest of a dataset, of its Parquet files by split, each with its name.

    Which exams its rows were compared with, and the duplicates found, are None for an exam.

    Raises:
        SourceError: Rows carry a licence that the builder does not declare.
    """
    builder, parsed = source.parsed.builder, source.parsed
    every = [file for mine in files.values() for _, file in mine]
    licenses, generators, notes, types = Counter(), Counter(), Counter(), Counter()
    for file in every:
        licenses.update(file.licenses)
        generators.update(file.generators)
        notes.update(file.notes)
        types.update(file.types)
    filters = options.recorded(builder.privacy)
    return Manifest(
        name=config,
        source=builder.name,
        version=builder.version,
        description=builder.description,
        homepage=builder.homepage,
        release_notes=dict(builder.release_notes),
        sample=parsed.raw.sample,
        languages=builder.languages,
        task=builder.task,
        test_only=builder.test_only,
        parameters=dict(builder.parameters),
        raw=_raw(source, config),
        filters=filters,
        funnel=_funnel(
            parsed.read[config], parsed.dropped[config] + source.out.dropped[config], _rows(every)
        ),
        notes=_by_stage(notes),
        privacy=Privacy(policy=filters.privacy, rows=types.pop("", 0), findings=dict(sorted(types.items()))),
        splits=splits(files),
        features=builder.features(),
        **_licensing(source, config, licenses, generators),
        citation=builder.citation(),
        lengths={name: lengths([file.lengths[name] for file in every]) for name in ("input", "output")},
        example=first_row(folder, files),
        ids_sha256=merged_ids_sha256([file.ids for file in every], parsed.scratch),
        rows_sha256=rows_sha256(builder.features(), files),
        built_with=BuiltWith(meadow=VERSION, pyarrow=pa.__version__),
        contamination=contamination,
        duplicates=duplicates,
    )


def _rows(files: Iterable[WrittenFile]) -> int:
    return sum(file.rows for file in files)


def _raw(source: ScreenedSource, config: str) -> tuple[FileSum, ...]:
    # A file that cannot be read has no checksum; it stands among the rejected.
    sums = source.parsed.checksums
    used = sorted(source.parsed.files[config], key=lambda file: file.path)
    return tuple(
        FileSum(path=file.path, bytes=file.bytes, sha256=sha256) for file in used if (sha256 := sums[file])
    )


def _funnel(read: int, dropped: Mapping[tuple[str, str], int], kept: int) -> Funnel:
    """Rows read, kept and left out, in all and stage by stage; it balances, or `Funnel` refuses it."""
    reasons: Counter[str] = Counter()
    stages, left = [], read
    for stage in STAGES:
        mine = {reason: n for (s, reason), n in sorted(dropped.items()) if s == stage and n}
        reasons.update(mine)
        stages.append(FunnelStage(stage=stage, read=left, kept=left - sum(mine.values()), dropped=mine))
        left = stages[-1].kept
    return Funnel(read=read, kept=kept, dropped=dict(sorted(reasons.items())), stages=tuple(stages))


def _by_stage(notes: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    stages = [stage for stage in STAGES if any(s == stage for s, _ in notes)]
    return {stage: {label: n for (s, label), n in sorted(notes.items()) if s == stage} for stage in stages}


def _licensing(
    source: ScreenedSource, config: str, licenses: Mapping[str, int], generators: Mapping[str, int]
) -> dict[str, Any]:
    terms = source.parsed.builder.terms()
    missing = sorted(set(licenses) - set(terms))
    if missing:
        raise SourceError(f"{config}: rows carry {', '.join(missing)}, which the builder does not declare")
    found: dict[str, Any] = {
        "licenses": dict(sorted(licenses.items())),
        "license_terms": {spdx: terms[spdx] for spdx in sorted(licenses)},
        "generators": dict(sorted(generators.items())),
    }
    return {**found, "license_verdict": judge({"": Licensing(**found)})}


def splits(files: Mapping[str, list[tuple[str, WrittenFile]]]) -> dict[str, Split]:
    """The splits of a dataset as its manifest has them."""
    return {
        split: Split(
            rows=_rows(file for _, file in mine),
            bytes=sum(file.nbytes for _, file in mine),
            files=tuple(FileSum(path=name, bytes=file.bytes, sha256=file.sha256) for name, file in mine),
        )
        for split, mine in files.items()
    }


def lengths(found: list[tuple[np.ndarray, np.ndarray]]) -> Lengths:
    """Percentiles and a histogram of lengths, from (lengths that occur, how often each does) of several files.

    A percentile p is the least length that at least p in a hundred texts do not exceed.
    """
    values = np.concatenate([v for v, _ in found])
    counts = np.concatenate([c for _, c in found])
    order = np.argsort(values, kind="stable")
    values, counts = values[order], counts[order]
    running = np.cumsum(counts)
    total = int(running[-1])
    steps = (5, 25, 50, 75, 95, 99)
    at = {f"p{p}": int(values[np.searchsorted(running, p / 100 * total)]) for p in steps}
    # Four bins to each doubling: fine enough to show a shape, few enough to keep in a manifest.
    bins = np.floor(4 * np.log2(np.maximum(values, 1))).astype(int)
    tally = {int(b): int(counts[bins == b].sum()) for b in np.unique(bins)}
    return Lengths(
        unit="characters",
        mean=round(float((values * counts).sum() / total), 1),
        min=int(values[0]),
        **at,
        max=int(values[-1]),
        histogram=tuple((round(2 ** (b / 4), 2), n) for b, n in sorted(tally.items())),
    )


def first_row(folder: Path, files: Mapping[str, list[tuple[str, WrittenFile]]]) -> dict[str, Any]:
    """The first row of a dataset."""
    name = next(iter(files.values()))[0][0]
    with pq.ParquetFile(folder / name) as file:
        return next(file.iter_batches(batch_size=1)).to_pylist()[0]


def rows_sha256(columns: Mapping[str, str], files: Mapping[str, list[tuple[str, WrittenFile]]]) -> str:
    """See `meadow.core.row.content_hash`."""
    digest = content_hash(columns)
    for split, mine in files.items():
        digest.update(split.encode() + b"\n")
        for _, file in mine:
            with Path(file.digests).open("rb") as stream:
                while chunk := stream.read(2**20):
                    digest.update(chunk)
    return digest.hexdigest()


def merged_ids_sha256(runs: list[str], work: Path) -> str:
    """`meadow.core.row.ids_sha256` of ids that are too many to sort in memory, from sorted files, one a line."""
    digest = hashlib.sha256()
    level = 0
    while len(runs) > 200:  # below the usual limit of 1,024 open files
        merged = []
        for at in range(0, len(runs), 200):
            path = work / f"ids-{level}-{at}"
            with path.open("wb") as out:
                out.writelines(_merged(runs[at : at + 200]))
            merged.append(str(path))
        runs, level = merged, level + 1
    for line in _merged(runs):
        digest.update(line)
    return digest.hexdigest()


def _merged(runs: list[str]) -> Iterator[bytes]:
    with ExitStack() as stack:
        yield from heapq.merge(*(stack.enter_context(Path(run).open("rb")) for run in runs))
