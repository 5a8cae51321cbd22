"""A build of sources: select -> parse -> screen -> write -> publish, each step a module that hands on a value.

Every source is parsed before any is published, because each row is compared with those of all others.
What one source does wrong, of whatever kind, is not the next one's.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from meadow.core.builder import Builder, available
from meadow.core.errors import SourceError, UsageError
from meadow.core.options import BuildOptions
from meadow.core.store import Store, default_out, default_raw
from meadow.core.workers import Crew, Pool, Progress, silent
from meadow.filters import contamination
from meadow.pipeline.exams import Exams, find_exams
from meadow.pipeline.parse import ParsedSource, parse
from meadow.pipeline.publish import publish
from meadow.pipeline.report import Report, no_rows, reasons, repeats
from meadow.pipeline.screen import ScreenedSource, with_each_other, with_exams
from meadow.pipeline.select import foreign, open_source, select, unused
from meadow.pipeline.write import write

_LOG = logging.getLogger(__name__)


def build(
    names: Iterable[str] = ("all",),
    options: BuildOptions | None = None,
    *,
    executor: Executor | None = None,
    builders: Mapping[str, type[Builder]] | None = None,
    progress: Progress = silent,
) -> Report:
    """Builds datasets and publishes them in an output folder; see `meadow.api.build_datasets`.

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

    def instance(name: str) -> Builder:
        return classes[name](**options.parameters.get(name, {}))

    instances = {name: instance(name) for name in wanted}
    report = Report(store.root)
    report.failed.update({name: f"its builder cannot be loaded: {why}" for name, why in unusable.items()})
    if root is not None and root.is_dir():
        report.notes += foreign(root, classes)
    if wanted:
        others = {n: instance(n) for n, cls in classes.items() if n not in wanted and cls.exam_splits()}
        with store.writing() as work, ExitStack() as stack:
            pool = executor or stack.enter_context(Pool(options.workers, (__name__,)))
            crew = Crew(pool, 2 * options.workers + 2, progress)
            run = _Run(store, root, options, crew, work, report)
            parsed = run.parse({instances[name]: configs for name, configs in wanted.items()})
            screened = run.screen(parsed, others, given)
            run.publish(screened)
    return report


@dataclass(frozen=True)
class _Run:
    """One build under way: its steps, each of which goes on with the sources that the one before it left."""

    store: Store
    root: Path | None
    options: BuildOptions
    crew: Crew
    work: Path
    report: Report

    @contextmanager
    def guarding(self, *names: str) -> Iterator[None]:
        """Whatever goes wrong inside costs these sources, and no others."""
        try:
            yield
        except Exception as error:
            _LOG.debug("%s failed", ", ".join(names), exc_info=True)
            for name in names:
                self.report.failed[name] = self.crew.told(error)
                shutil.rmtree(self.work / name, ignore_errors=True)
            self.crew.renew()

    def parse(self, wanted: Mapping[Builder, tuple[str, ...]]) -> list[ParsedSource]:
        found: list[ParsedSource] = []
        for builder, configs in wanted.items():
            with self.guarding(builder.name):
                if self.root is not None:
                    self.report.notes += unused(builder, self.root)
                selected = open_source(builder, self.root, configs, require_raw=self.options.require_raw)
                for config in selected.wanted:
                    for other in found:
                        if config in other.wanted:
                            raise SourceError(
                                f"{other.builder.name} has a dataset of the same name, {config}"
                            )
                found.append(parse(selected, self.options, self.crew, self.work / builder.name))
        return found

    def screen(
        self,
        sources: list[ParsedSource],
        others: Mapping[str, Builder],
        given: list[contamination.ExamSource],
    ) -> list[ScreenedSource]:
        names = [source.builder.name for source in sources]
        scratch = self.work / ".screening"
        exams, checked, compared = Exams(), [], []
        with self.guarding(*names):
            if self.options.contamination != "off":
                exams = find_exams(
                    sources, others, given, self.store, self.root, self.options, self.crew, scratch
                )
            compared = sources
        for source in compared:
            with self.guarding(source.builder.name):
                checked.append(with_exams(source, exams, self.options, self.crew))
        with self.guarding(*(source.parsed.builder.name for source in checked)):
            return with_each_other(checked, self.options, self.crew, scratch / "duplicates")
        return []

    def publish(self, sources: list[ScreenedSource]) -> None:
        for source in sources:
            with self.guarding(source.parsed.builder.name):
                self._publish(source)

    def _publish(self, source: ScreenedSource) -> None:
        parsed, report = source.parsed, self.report
        staged = write(source, self.options, self.crew)
        report.files_left_out += [(c, r) for c in parsed.wanted for r in parsed.bad_files[c] if r.file]
        # Rows that a dataset of another source has, too, are nothing that this one did wrong.
        if not staged and not any(repeats(source, config) for config in parsed.wanted):
            raise SourceError(f"no usable row in its raw files: {reasons(source, parsed.wanted)}")
        made = {each.manifest.name for each in staged}
        report.empty |= {config: no_rows(source, config) for config in parsed.wanted if config not in made}
        report.notes += [f"{name}: {report.empty[name]}" for name in parsed.wanted if name in report.empty]
        if staged:
            report.note(publish(self.store, staged, self.crew.executor))
        report.manifests += [each.manifest for each in staged]
        if not parsed.raw.sample:
            self._note_old_samples(parsed.builder.name)
        shutil.rmtree(parsed.scratch, ignore_errors=True)

    def _note_old_samples(self, source: str) -> None:
        built = {manifest.name for manifest in self.report.manifests}
        for manifest in self.store.readable()[0]:
            if manifest.source == source and manifest.sample and manifest.name not in built:
                self.report.notes.append(
                    f"{manifest.name}: still there from an earlier sample build; delete "
                    f"{self.store.root / manifest.name} to be rid of it"
                )
