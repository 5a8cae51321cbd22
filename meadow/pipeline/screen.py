"""All sources of a build, compared with the exams that models are scored on and with one another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from meadow.core.options import BuildOptions
from meadow.core.parts import Piece
from meadow.core.row import Rejected
from meadow.core.store import CONTAMINATION, DUPLICATES
from meadow.core.workers import Progress, in_order
from meadow.filters import contamination, duplicates
from meadow.filters.contamination import stage
from meadow.pipeline.assembly import Assembly

CONTAMINATED = "holds an exam item"


@dataclass
class Screening:
    """What the set filters found in the sources of one build.

    Attributes:
        options: Their settings.
        executor: Where tasks run.
        ahead: Tasks in flight.
        scratch: A folder for the indexes.
        progress: Told of finished work.
        unchecked: Exams that rows were not compared with, and why.
    """

    options: BuildOptions
    executor: Executor
    ahead: int
    scratch: Path
    progress: Progress
    unchecked: list[str] = field(default_factory=list)
    _index: Path | None = None
    _exams: tuple[contamination.IndexedExam, ...] = ()
    _hits: dict[int, list[tuple[Piece, stage.Hit]]] = field(default_factory=lambda: defaultdict(list))
    _clusters: duplicates.FoundDuplicates | None = None
    _compared: list[str] = field(default_factory=list)

    def read_exams(self, sources: Iterable[Assembly], others: Iterable[contamination.ExamSource]) -> None:
        """Indexes every evaluation split of `sources`, and `others` beside them."""
        index = contamination.Index.build([*(exam for source in sources for exam in _exams(source)), *others])
        self._exams = index.exams
        self._index = self.scratch / "exams"
        index.save(self._index)

    def contamination(self, source: Assembly) -> None:
        """Compares a source's rows with the exams, and leaves out those that hold an item of one."""
        if self.options.contamination == "off" or not self._exams:
            return
        pieces = [piece for piece in source.pieces() if not piece.exam]
        calls = ((stage.scan, piece, self._index) for piece in pieces)
        found = in_order(self.executor, calls, self.ahead)
        for done, (piece, hits) in enumerate(zip(pieces, found, strict=True), start=1):
            self._hits[id(source)] += [(piece, hit) for hit in hits]
            if self.options.contamination == "drop":
                source.leave_out("contamination", piece, _contaminated(hits))
            self.progress(source.builder.name, "checking for exam items", done, len(pieces))

    def duplicates(self, sources: Sequence[Assembly]) -> None:
        """Compares the rows of all sources with one another, and leaves out all but one of each cluster."""
        if self.options.duplicates == "off":
            return
        by_source = [(source, piece) for source in sources for piece in source.pieces() if not piece.exam]
        pieces = [piece for _, piece in by_source]
        if not pieces:
            return
        folder = self.scratch / "duplicates"
        folder.mkdir()
        self._clusters = duplicates.find(
            pieces, folder, self.executor, self.ahead,
            lambda done, total: self.progress("all", "comparing rows", done, total),
        )  # fmt: skip
        self._compared = sorted({config for piece in pieces for config in piece.part.configs})
        if self.options.duplicates == "drop":
            for source, piece in by_source:
                source.leave_out("duplicates", piece, self._clusters.rejected(piece))

    def reports(self, source: Assembly) -> Callable[[str, Path], dict[str, Any]]:
        """What `Assembly.finish` calls for each dataset of a source."""

        def write(config: str, folder: Path) -> dict[str, Any]:
            trained = any(config in piece.part.configs and not piece.exam for piece in source.pieces())
            return {
                "contamination": self._contamination(source, config, folder) if trained else None,
                "duplicates": self._duplicates(source, config, folder) if trained else None,
            }

        return write

    def _contamination(self, source: Assembly, config: str, folder: Path) -> dict[str, Any]:
        policy = self.options.contamination
        if policy == "off":
            return {"policy": policy, "exams": [], "unchecked": []}
        hits = [(piece, hit) for piece, hit in self._hits[id(source)] if config in piece.part.configs]
        pq.write_table(
            stage.table(hits, dropped=policy == "drop"), folder / CONTAMINATION, compression="zstd"
        )
        return {
            "policy": policy,
            "exams": stage.summary(self._exams, hits, dropped=policy == "drop"),
            "unchecked": list(self.unchecked),
        }

    def _duplicates(self, source: Assembly, config: str, folder: Path) -> dict[str, Any]:
        policy = self.options.duplicates
        if self._clusters is None:
            return {"policy": policy}
        return {
            "policy": policy,
            "fields": list(source.builder.duplicate_fields),
            **self._clusters.write(config, folder / DUPLICATES),
            "compared_with": [name for name in self._compared if name != config],
        }


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


def _exams(source: Assembly) -> Iterator[contamination.ExamSource]:
    pieces: dict[tuple[str, str], list[Piece]] = defaultdict(list)
    for piece in source.pieces():
        if piece.exam:
            for config in piece.part.configs:
                pieces[config, piece.part.split].append(piece)
    for (config, split), mine in sorted(pieces.items()):
        yield contamination.ExamSource(
            config,
            source.builder.version,
            split,
            source.raw.sample,
            chain.from_iterable(map(stage.items, mine)),
        )


__all__ = ["CONTAMINATED", "Screening"]
