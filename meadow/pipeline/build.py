"""A build: which sources are wanted, each of them assembled, and the results published together.

`meadow.pipeline.assembly` turns one source's raw files into finished folders, by tasks (`meadow.pipeline.tasks`) on any
`concurrent.futures.Executor`; this module chooses, reports and puts in place.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from meadow.core.builder import Builder, available, dataset_names
from meadow.core.errors import UnknownDatasetError, UsageError
from meadow.core.options import BuildOptions
from meadow.core.rawfile import RawFileError
from meadow.core.rawstore import RawSource, find, matches, strangers
from meadow.core.row import Rejected
from meadow.core.store import (
    CARD,
    CITATION,
    CITATION_CFF,
    CROISSANT,
    PLOT,
    Store,
    StoreError,
    default_out,
    default_raw,
)
from meadow.core.workers import Pool, Progress, in_order, silent
from meadow.describe import cards, croissant
from meadow.describe import citations as citing
from meadow.filters import contamination
from meadow.pipeline.assembly import Assembly
from meadow.pipeline.screen import Screening
from meadow.pipeline.tasks import SourceError, draw

#: Names of datasets are names of folders, and of configs on the Hub.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LOG = logging.getLogger(__name__)


@dataclass
class Report:
    """What a build did.

    Attributes:
        out: The output folder.
        manifests: Manifest of each dataset built, in order.
        failed: Sources that could not be built at all, with the reason.
        notes: What else a person should know: unused raw files, datasets without rows.
        files_left_out: (dataset, rejected file) of every file that could not be used.
    """

    out: Path
    manifests: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files_left_out: list[tuple[str, Rejected]] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Takes in what another build in the same folder did."""
        again = {manifest["name"] for manifest in other.manifests}
        self.manifests = [m for m in self.manifests if m["name"] not in again] + other.manifests
        self.notes += [note for note in other.notes if note not in self.notes]
        self.files_left_out += [entry for entry in other.files_left_out if entry not in self.files_left_out]


def select(
    names: Iterable[str], classes: Mapping[str, type[Builder]], raw: Path | None
) -> dict[str, tuple[str, ...]]:
    """Finds what names ask for.

    Args:
        names: Sources or datasets; ``all`` is every source.
        classes: The sources there are.
        raw: The raw store, or None for samples.

    Returns:
        Source to the datasets wanted of it; an empty tuple stands for all of them.

    Raises:
        UnknownDatasetError: A name is neither a source nor a dataset.
    """
    whole: set[str] = set()
    single: dict[str, tuple[str, ...]] = {}
    datasets: dict[str, str] = {}
    for name in names:
        if name == "all":
            whole.update(classes)
        elif name in classes:
            whole.add(name)
        else:
            datasets = datasets or dataset_names(classes, raw)
            if name not in datasets:
                known = ", ".join(sorted({*classes, *datasets}))
                raise UnknownDatasetError(f"no source or dataset is named {name!r}; there are: all, {known}")
            single[datasets[name]] = (*single.get(datasets[name], ()), name)
    return {source: () if source in whole else single[source] for source in sorted({*whole, *single})}


def build(
    names: Iterable[str] = ("all",),
    options: BuildOptions | None = None,
    *,
    executor: Executor | None = None,
    builders: Mapping[str, type[Builder]] | None = None,
    progress: Progress = silent,
) -> Report:
    """Builds datasets and publishes them in an output folder.

    Args:
        names: Sources or datasets; ``all`` is every source.
        options: What is asked of the build; None for the defaults.
        executor: Where tasks run instead of in processes of its own; anything that pickles them, such as a dask
            client's.
        builders: The sources to choose from; None for those of all installed packages.
        progress: Told of every finished piece of work.

    Returns:
        What was built and what was not. Bad rows and files are in there, not raised.

    Raises:
        UnknownDatasetError: A name is neither a source nor a dataset.
        StoreError: The output folder cannot be used, or another build is using it.
        UsageError: A parameter, raw folder or evaluation set that does not exist.
    """
    names, options = list(names), options or BuildOptions()
    classes, broken = (dict(builders), {}) if builders is not None else available()
    store = Store(options.out or default_out())
    root = None if options.sample else options.raw or default_raw()
    if options.raw is not None and root is not None and not root.is_dir():
        raise UsageError(f"the raw folder {root} does not exist; it holds one folder per source")
    given = [contamination.read_exam(path) for path in options.against]
    contamination.Index.build(given)  # raises what is wrong with them before any work is done
    unknown = sorted(set(options.parameters) - set(classes))
    if unknown:
        raise UsageError(f"parameters for {', '.join(unknown)}, which is no source")
    unusable = {name: why for name, why in broken.items() if "all" in names or name in names}
    wanted = select([name for name in names if name not in unusable], classes, root)
    instances = {name: classes[name](**options.parameters.get(name, {})) for name in wanted}
    report = Report(store.root)
    report.failed.update({name: f"its builder cannot be loaded: {why}" for name, why in unusable.items()})
    if root is not None and root.is_dir():
        for name, count in strangers(root, classes):
            files = "1 file" if count == 1 else f"{count} files"
            report.notes.append(f"raw: {name} ({files}) belongs to no source and was not used")
    if wanted:
        with store.writing() as work, ExitStack() as stack:
            pool = executor or stack.enter_context(Pool(options.workers))
            run = _Run(store, root, options, given, pool, work, report, progress)
            for name, configs in wanted.items():
                with run.guarding(name):
                    run.prepare(instances[name], configs)
            others = {name: cls for name, cls in classes.items() if name not in wanted and _has_exam(cls)}
            run.screen({name: cls(**options.parameters.get(name, {})) for name, cls in others.items()})
            for name in list(run.sources):
                with run.guarding(name):
                    run.finish(name)
    return report


def _has_exam(cls: type[Builder]) -> bool:
    return cls.test_only or "test" in cls.official_splits


def _why(error: Exception, pool: Executor) -> str:
    if isinstance(error, (SourceError, StoreError, RawFileError, OSError)):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory; try fewer workers"
    if isinstance(error, BrokenExecutor):
        if not isinstance(pool, Pool) or pool.worked:
            return "a worker process died, most likely for want of memory; try fewer workers"
        return (
            "the worker processes died before they finished anything. Either memory ran out: try fewer workers. "
            "Or they could not import the program that called for the build: a script must call it below "
            '`if __name__ == "__main__":`, and a program on standard input can have one worker only'
        )
    return f"unexpected {type(error).__name__}: {error}. Report this as a bug of its builder."


@dataclass
class _Run:
    """One build under way.

    Every source is parsed before any is published, because each row is compared with those of all
    others. What one source does wrong, of whatever kind, is not the next one's.
    """

    store: Store
    root: Path | None
    options: BuildOptions
    given: list[contamination.ExamSource]
    pool: Executor
    work: Path
    report: Report
    progress: Progress
    sources: dict[str, Assembly] = field(default_factory=dict)
    screening: Screening | None = None

    @contextmanager
    def guarding(self, *names: str) -> Iterator[None]:
        """Whatever goes wrong inside costs these sources, and no others."""
        try:
            yield
        except Exception as error:
            _LOG.debug("%s failed", ", ".join(names), exc_info=True)
            for name in names:
                self.report.failed[name] = _why(error, self.pool)
                self.sources.pop(name, None)
                shutil.rmtree(self.work / name, ignore_errors=True)
            if isinstance(self.pool, Pool):
                self.pool.renew()

    def prepare(self, builder: Builder, configs: tuple[str, ...]) -> None:
        """Parses a source."""
        raw = find(builder, self.root)
        if self.root is not None:
            for file in raw.unused:
                inner = file.path.split("/", 1)[1]
                known = any(matches(inner, pattern.pattern) for pattern in builder.raw_files)
                why = (
                    "only goes with files that are not there"
                    if known
                    else f"is no raw file of {builder.name}"
                )
                self.report.notes.append(f"raw: {file.path} {why} and was not used")
            if not raw.files and self.options.require_raw:
                patterns = "; ".join(
                    f"{p.pattern} ({p.description})" for p in builder.raw_files if p.required
                )
                raise SourceError(f"no raw files in {self.root / builder.name}; it reads {patterns}")
            if not raw.files:
                raw = find(builder, None)
        if not raw.files:
            raise SourceError(f"its embedded sample is missing from {builder.folder() / 'sample'}")
        every = tuple(builder.configs_of(raw))
        wanted = tuple(config for config in every if not configs or config in configs)
        for config in wanted:
            if not _NAME.fullmatch(config):
                raise SourceError(
                    f"{config!r} cannot be a dataset's name: letters, digits, '_', '-' and '.' can"
                )
            for name, other in self.sources.items():
                if config in other.wanted:
                    raise SourceError(f"{name} has a dataset of the same name, {config}")
        self.sources[builder.name] = self._parsed(builder, raw, every, wanted)

    def _parsed(
        self,
        builder: Builder,
        raw: RawSource,
        every: tuple[str, ...],
        wanted: tuple[str, ...],
        *,
        exam: bool = False,
    ) -> Assembly:
        scratch = self.work / (f".exam-{builder.name}" if exam else builder.name)
        scratch.mkdir()
        raw.scratch = scratch / "source"
        raw.scratch.mkdir()
        ahead = 2 * self.options.workers + 2

        def mapped(function: Callable, items: Iterable[Any]) -> Iterator[Any]:
            every = list(items)
            calls = ((function, item) for item in every)
            for done, result in enumerate(in_order(self.pool, calls, ahead), start=1):
                self.progress(builder.name, "preparing", done, len(every))
                yield result

        raw.map = mapped
        options = self.options
        if exam:
            options = replace(options, policy=None, languages=(), quality="off", privacy="off")
        source = Assembly(builder, raw, every, wanted, options, self.pool, ahead, scratch, self.progress)
        source.prepare()
        shutil.rmtree(raw.scratch, ignore_errors=True)  # the spill files of a large dump are as large as it
        return source

    def screen(self, others: Mapping[str, Builder]) -> None:
        """Compares the rows of all sources with the exams and with one another.

        Args:
            others: Sources with exams that are not built now; their items are read all the same.
        """
        scratch = self.work / ".screening"
        scratch.mkdir()
        ahead = 2 * self.options.workers + 2
        screening = Screening(self.options, self.pool, ahead, scratch, self.progress)
        self.screening = screening
        with self.guarding(*self.sources):
            if self.options.contamination != "off" and self._trainable():
                exams, built = self._exams(others, screening.unchecked)
                screening.read_exams(exams, [*built, *self.given])
                for exam in exams:
                    if self.sources.get(exam.builder.name) is not exam:
                        shutil.rmtree(exam.scratch, ignore_errors=True)
        for name, source in list(self.sources.items()):
            with self.guarding(name):
                screening.contamination(source)
        with self.guarding(*self.sources):
            screening.duplicates(list(self.sources.values()))

    def _trainable(self) -> bool:
        return any(not piece.exam for source in self.sources.values() for piece in source.pieces())

    def _exams(
        self, others: Mapping[str, Builder], unchecked: list[str]
    ) -> tuple[list[Assembly], list[contamination.ExamSource]]:
        """The sources whose exams rows are compared with, and datasets that were built earlier.

        An exam that is not built now is read from its raw files; where there are none, as it was
        built from such files before. The sample of an exam is good for samples only.
        """
        found = [self._whole(source) for source in self.sources.values() if _has_exam(type(source.builder))]
        samples = all(source.raw.sample for source in self.sources.values())
        built: list[contamination.ExamSource] = []
        for source in found:
            if source.raw.sample and not samples:
                unchecked.append(f"{source.builder.name}: there is only its sample")
            elif not any(piece.exam for piece in source.pieces()):
                unchecked.append(f"{source.builder.name}: its raw files hold no test split")
        for name, builder in others.items():
            raw = find(builder, self.root) if self.root is not None and not samples else None
            if raw is None or not raw.files:
                earlier = [] if samples else self._built(name)
                built += earlier
                if earlier:
                    continue
                if not samples:
                    unchecked.append(f"{name}: there are no raw files of it, and it was not built before")
                    continue
                raw = find(builder, None)
            every = tuple(builder.configs_of(raw))
            try:
                found.append(self._parsed(builder, raw, every, every, exam=True))
                if not any(piece.exam for piece in found[-1].pieces()):
                    unchecked.append(f"{name}: its raw files hold no test split")
            except Exception as error:
                said = _why(error, self.pool)
                # It stands in the card, which names no path of a machine.
                for folder in (raw.root, self.work):
                    said = said.replace(f"{folder}{os.sep}", "")
                unchecked.append(f"{name}: {said}")
                if isinstance(self.pool, Pool):
                    self.pool.renew()
        return found, built

    def _whole(self, source: Assembly) -> Assembly:
        """A source's exams as they are scored on, whatever this build asks of the rows that it publishes."""
        dropped = {stage for found in source.dropped.values() for stage, _ in found}
        foreign = not set(source.builder.languages) & set(self.options.languages)
        if dropped.isdisjoint(("license", "privacy")) and not ("language" in dropped and foreign):
            return source
        return self._parsed(source.builder, source.raw, source.configs, source.wanted, exam=True)

    def _built(self, source: str) -> list[contamination.ExamSource]:
        manifests = [m for m in _current(self.store)[0] if m["source"] == source and not m["sample"]]
        return [exam for m in manifests for exam in contamination.built_exams(self.store, m["name"])]

    def finish(self, name: str) -> None:
        """Writes and publishes a source."""
        work, report = self.sources[name], self.report
        builder = work.builder
        staged, empty = work.finish(self.screening.reports(work))
        report.files_left_out += [(c, r) for c in work.wanted for r in work.left_out[c] if r.file]
        # Rows that a dataset of another source has, too, are nothing that this one did wrong.
        if not staged and not any(_repeated(work, config) for config in work.wanted):
            raise SourceError(f"no usable row in its raw files: {_why_empty(work, work.wanted)}")
        for config in empty:
            if _repeated(work, config):
                why = (
                    "each of its usable rows duplicates one that another dataset keeps, so nothing was published: "
                    f"{_why_empty(work, (config,))}. To publish them all the same, build it alone or with "
                    "duplicates set to flag"
                )
            elif work.read[config]:
                why = f"no usable row in these raw files, so nothing was published: {_why_empty(work, (config,))}"
            else:
                why = "these raw files hold no row of it, so nothing was published"
            report.notes.append(f"{config}: {why}")
        # Drawing takes longer than all the rest of a card, and cards are independent.
        plots = [self.pool.submit(draw, manifest) for manifest, _ in staged]
        for (manifest, folder), plot in zip(staged, plots, strict=True):
            _make_card(builder, self.store, manifest, folder)
            (folder / PLOT).write_bytes(plot.result())
        if staged:
            publish(self.store, staged, report)
        report.manifests += [manifest for manifest, _ in staged]
        built = {manifest["name"] for manifest in report.manifests}
        for manifest in [] if work.raw.sample else _current(self.store)[0]:
            if manifest["source"] == builder.name and manifest["sample"] and manifest["name"] not in built:
                folder = self.store.root / manifest["name"]
                report.notes.append(
                    f"{manifest['name']}: still there from an earlier sample build; delete {folder} to be rid of it"
                )
        shutil.rmtree(work.scratch, ignore_errors=True)


def _repeated(work: Assembly, config: str) -> bool:
    """Whether rows of a dataset are left out as duplicates; these had passed all other filters."""
    return any(stage == "duplicates" and count for (stage, _), count in work.dropped[config].items())


def _why_empty(work: Assembly, configs: tuple[str, ...]) -> str:
    files = dict.fromkeys(r for config in configs for r in work.left_out[config])
    dropped: Counter = Counter()
    for config in configs:
        dropped |= Counter({reason: n for (_, reason), n in work.dropped[config].items()})
    for rejected in files:
        dropped[rejected.reason] -= 1
    why = [f"{r.file or r.id}: {r.reason} ({r.detail})" for r in files]
    if len(why) > 5:
        why[5:] = [f"{len(why) - 5} more files"]
    why += [f"{reason} {count:,}" for reason, count in sorted((+dropped).items())]
    return "; ".join(why) or "they hold no record"


def _make_card(builder: Builder, store: Store, manifest: dict[str, Any], folder: Path) -> None:
    name, version = manifest["name"], manifest["version"]
    # A new version's card goes on from the one before it, with what people wrote into that.
    earlier = [version] if version in store.versions(name) else store.versions(name)[-1:]
    card = store.folder(name, earlier[0]) / CARD if earlier else None
    existing = card.read_text(encoding="utf-8", errors="replace") if card and card.is_file() else None
    words = cards.words_for(builder.card_name(name), builder.folder())
    (folder / CARD).write_text(cards.dataset_card(manifest, words, existing), encoding="utf-8", newline="\n")


def publish(store: Store, staged: list[tuple[dict[str, Any], Path]], report: Report) -> None:
    """Puts finished versions in place; the collection's card names at no moment a file that is not there."""
    new = {manifest["name"]: manifest for manifest, _ in staged}
    before, _ = _current(store)
    both = [_without_splits(old, new[old["name"]]) if old["name"] in new else old for old in before]
    if both != before:
        _write_collection(store, [manifest for manifest in both if manifest["splits"]])
    for manifest, folder in staged:
        _describe(manifest, folder)
        store.publish(folder, manifest["name"], manifest["version"])
    after, unreadable = _current(store)
    report.notes += [note for note in unreadable if note not in report.notes]
    _write_collection(store, after)


def _describe(manifest: dict[str, Any], folder: Path) -> None:
    """Writes what programs read of a finished version whose card is in place."""
    words = cards.prose((folder / CARD).read_text(encoding="utf-8"))
    croissant.write(folder, manifest, words, folder / CROISSANT)
    (folder / CITATION).write_text(citing.cited(manifest), encoding="utf-8", newline="\n")


def _current(store: Store) -> tuple[list[dict[str, Any]], list[str]]:
    # One unreadable manifest must not keep all other datasets, or its own repair, from publication.
    found, unreadable = [], []
    for name in store.names():
        try:
            found.append(store.manifest(name))
        except StoreError as error:
            unreadable.append(f"{name} is not in the collection's card: {error}")
    return found, unreadable


def _without_splits(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    if old["version"] != new["version"]:
        return old
    return {**old, "splits": {s: e for s, e in old["splits"].items() if s in new["splits"]}}


def _write_collection(store: Store, manifests: list[dict[str, Any]]) -> None:
    path = store.root / CARD
    existing = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
    words = cards.words_for("collection", Path())
    store.write(CARD, cards.collection_card(manifests, words, existing))
    path = store.root / CITATION_CFF
    existing = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
    store.write(CITATION_CFF, citing.collection_cff(manifests, existing))
