"""The third step: rows are compared with the exams that models are scored on, and with one another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from meadow.core import manifest
from meadow.core.options import BuildOptions
from meadow.core.parts import Piece
from meadow.core.row import Rejected
from meadow.core.store import CONTAMINATION, DUPLICATES
from meadow.core.workers import Crew
from meadow.filters import duplicates
from meadow.filters.contamination import stage
from meadow.pipeline.exams import Exams
from meadow.pipeline.parse import LeftOut, ParsedSource

CONTAMINATED = "holds an exam item"


@dataclass(frozen=True)
class Clusters:
    """The duplicates among the rows of a build, and the datasets that were compared."""

    found: duplicates.FoundDuplicates
    compared: tuple[str, ...]


@dataclass(frozen=True)
class ScreenedSource:
    """A source whose rows have been compared.

    Attributes:
        parsed: The source.
        out: The rows that are left out.
        exams: What they were compared with.
        hits: Rows that hold an exam item.
        clusters: Duplicates in the whole build; None where rows were not compared.
    """

    parsed: ParsedSource
    out: LeftOut
    exams: Exams
    hits: tuple[tuple[Piece, stage.Hit], ...] = ()
    clusters: Clusters | None = None

    def pieces(self) -> list[Piece]:
        """Its parts, but those of exams, without what is left out."""
        return [piece for piece in self.parsed.pieces(self.out) if not piece.exam]


def with_exams(source: ParsedSource, exams: Exams, options: BuildOptions, crew: Crew) -> ScreenedSource:
    """Compares a source's rows with exams, and leaves out those that hold an item of one."""
    found = ScreenedSource(source, source.out.copy(), exams)
    if options.contamination == "off" or not exams.exams:
        return found
    pieces, every = found.pieces(), []
    calls = [(stage.scan, piece, exams.index) for piece in pieces]
    results = crew.run(source.builder.name, "checking for exam items", calls)
    for piece, hits in zip(pieces, results, strict=True):
        every += [(piece, hit) for hit in hits]
        if options.contamination == "drop":
            found.out.add("contamination", piece, _contaminated(hits))
    return replace(found, hits=tuple(every))


def _contaminated(hits: Iterable[stage.Hit]) -> Iterator[tuple[int, Rejected]]:
    by_row: dict[int, list[stage.Hit]] = defaultdict(list)
    for hit in hits:
        by_row[hit.row].append(hit)
    for row, mine in sorted(by_row.items()):
        best = max(mine, key=lambda hit: hit.share)
        detail = f"{best.kind} of {best.item} in {best.exam}, {best.share:.0%} of the item"
        if len(mine) > 1:
            detail += f", and {len(mine) - 1} more"
        yield row, Rejected(CONTAMINATED, best.id, detail, "", best.overlap)


def with_each_other(
    sources: Sequence[ScreenedSource], options: BuildOptions, crew: Crew, scratch: Path
) -> list[ScreenedSource]:
    """Compares the rows of all sources, and leaves out all but one of each cluster of duplicates."""
    by_source = [(source, source.pieces()) for source in sources]
    every = [piece for _, pieces in by_source for piece in pieces]
    if options.duplicates == "off" or not every:
        return list(sources)
    scratch.mkdir(parents=True)
    found = duplicates.find(
        every, scratch, crew.executor, crew.ahead,
        lambda done, total: crew.progress("all", "comparing rows", done, total),
    )  # fmt: skip
    clusters = Clusters(found, tuple(sorted({c for piece in every for c in piece.part.configs})))
    screened = []
    for source, pieces in by_source:
        out = source.out.copy()
        if options.duplicates == "drop":
            for piece in pieces:
                out.add("duplicates", piece, found.rejected(piece))
        screened.append(replace(source, out=out, clusters=clusters))
    return screened


def contamination_of(
    source: ScreenedSource, config: str, options: BuildOptions, folder: Path
) -> manifest.Contamination:
    """Writes which rows of a dataset hold an exam item; returns what its manifest says of it."""
    policy = options.contamination
    if policy == "off":
        return manifest.Contamination(policy=policy, exams=(), unchecked=(), unchecked_exams=())
    hits = [(piece, hit) for piece, hit in source.hits if config in piece.part.configs]
    found = stage.table(((piece.part.split or "", hit) for piece, hit in hits), dropped=policy == "drop")
    pq.write_table(found, folder / CONTAMINATION, compression="zstd")
    unchecked = source.exams.unchecked
    return manifest.Contamination(
        policy=policy,
        exams=tuple(stage.summary(source.exams.exams, hits, dropped=policy == "drop")),
        unchecked=tuple(f"{name}: {why}" for name, why in unchecked.items()),
        unchecked_exams=tuple(unchecked),
    )


def duplicates_of(
    source: ScreenedSource, config: str, options: BuildOptions, folder: Path
) -> manifest.Duplicates:
    """Writes the clusters that rows of a dataset are in; returns what its manifest says of them."""
    if source.clusters is None:
        return manifest.Duplicates(policy=options.duplicates)
    counts = source.clusters.found.write(config, folder / DUPLICATES)
    return manifest.Duplicates(
        policy=options.duplicates,
        fields=source.parsed.builder.duplicate_fields,
        compared_with=tuple(name for name in source.clusters.compared if name != config),
        **counts,
    )
