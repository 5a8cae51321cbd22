"""The exams that rows are compared with: those that this build makes, others' raw files, what was built before."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from meadow.core.builder import Builder
from meadow.core.manifest import CheckedExam
from meadow.core.options import BuildOptions
from meadow.core.parts import Piece
from meadow.core.rawstore import find
from meadow.core.store import Store
from meadow.core.workers import Crew
from meadow.filters import contamination
from meadow.filters.contamination import stage
from meadow.pipeline.parse import ParsedSource, parse
from meadow.pipeline.select import SelectedSource, open_source


@dataclass
class Exams:
    """What rows are compared with.

    Attributes:
        exams: The exams.
        index: Their items; None where there is nothing to compare.
        unchecked: Why rows are not compared with an exam that there is, by its source.
    """

    exams: tuple[CheckedExam, ...] = ()
    index: Path | None = None
    unchecked: dict[str, str] = field(default_factory=dict)


def find_exams(
    sources: Sequence[ParsedSource],
    others: Mapping[str, Builder],
    given: Sequence[contamination.ExamSource],
    store: Store,
    root: Path | None,
    options: BuildOptions,
    crew: Crew,
    work: Path,
) -> Exams:
    """Indexes the exams of a build.

    An exam that is not built now is read from its raw files; where there are none, as it was built from such
    files before. The sample of an exam is good for samples only.

    Args:
        sources: The sources of the build.
        others: Sources with exams that are not built now.
        given: Evaluation sets that the build is given.
        store: Where datasets were built before.
        root: The raw store; None where samples are built.
        options: What is asked of rows; of those of exams nothing is.
        crew: Where tasks run.
        work: A working folder, which is made here.
    """
    found = Exams()
    if not any(not piece.exam for source in sources for piece in source.pieces(source.out)):
        return found
    work.mkdir(exist_ok=True)
    samples = all(source.raw.sample for source in sources)

    def parsed(selected: SelectedSource) -> ParsedSource:
        # As models are scored on it, whatever this build asks of the rows that it publishes.
        asked = replace(options, policy=None, languages=(), quality="off", privacy="off")
        return parse(selected, asked, crew, work / f"exam-{selected.builder.name}")

    read: list[ParsedSource] = []
    for source in sources:
        if not source.builder.exam_splits():
            continue
        if _changed(source, options):
            source = parsed(SelectedSource(source.builder, source.raw, source.configs, source.wanted))
        read.append(source)
        if source.raw.sample and not samples:
            found.unchecked[source.builder.name] = "there is only its sample"
        elif not _has_exam(source):
            found.unchecked[source.builder.name] = "its raw files hold no test split"
    built: list[contamination.ExamSource] = []
    for name, builder in others.items():
        raw = find(builder, root) if root is not None and not samples else None
        if not samples and (raw is None or not raw.files):
            earlier = _built_before(store, name)
            built += earlier
            if not earlier:
                found.unchecked[name] = "there are no raw files of it, and it was not built before"
            continue
        try:
            read.append(parsed(open_source(builder, None if samples else root)))
            if not _has_exam(read[-1]):
                found.unchecked[name] = "its raw files hold no test split"
        except Exception as error:  # whatever is wrong with a source that nobody asked for
            found.unchecked[name] = crew.told(error, paths=False)
            crew.renew()
    index = contamination.Index.build([*chain.from_iterable(map(_exams, read)), *built, *given])
    found.exams, found.index = index.exams, work / "exams"
    index.save(found.index)
    for source in read:
        if source not in sources:
            shutil.rmtree(source.scratch, ignore_errors=True)
    return found


def _changed(source: ParsedSource, options: BuildOptions) -> bool:
    """Whether the build leaves out, or masks, rows that models are scored on."""
    dropped = {stage for found in source.dropped.values() for stage, _ in found}
    foreign = not set(source.builder.languages) & set(options.languages)
    return not dropped.isdisjoint(("license", "privacy")) or ("language" in dropped and foreign)


def _built_before(store: Store, source: str) -> list[contamination.ExamSource]:
    manifests = [m for m in store.readable()[0] if m.source == source and not m.sample]
    return [exam for m in manifests for exam in contamination.built_exams(store, m.name)]


def _has_exam(source: ParsedSource) -> bool:
    return any(piece.exam for piece in source.pieces(source.out))


def _exams(source: ParsedSource) -> Iterator[contamination.ExamSource]:
    pieces: dict[tuple[str, str], list[Piece]] = defaultdict(list)
    for piece in source.pieces(source.out):
        if piece.exam:
            for config in piece.part.configs:
                pieces[config, piece.part.split or ""].append(piece)
    for (config, split), mine in sorted(pieces.items()):
        items = chain.from_iterable(map(stage.items, mine))
        yield contamination.ExamSource(config, source.builder.version, split, source.raw.sample, items)
