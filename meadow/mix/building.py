"""A mixture, from built datasets to a published one.

Like a source's build, it is made of independent tasks whose results do not depend on who finished first,
it is staged beside the output folder, and it is put in place by one rename.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meadow.core.builder import Builder
from meadow.core.builder import available as sources
from meadow.core.licenses import PARTS
from meadow.core.manifest import Manifest
from meadow.core.options import BuildOptions
from meadow.core.row import COLUMNS
from meadow.core.store import ATTRIBUTION, MANIFEST, REJECTED, Store, default_out, default_raw, write_json
from meadow.core.workers import Crew, Pool, Progress, silent
from meadow.describe import attribution, cards
from meadow.describe.cards.dataset import exam_rows, shortage
from meadow.mix import finding, reading, writing
from meadow.mix import lock as locks
from meadow.mix.definition import Mixture, MixtureError, available
from meadow.mix.record import SOURCE, MixedPart, make
from meadow.pipeline.files import FILE_BYTES, WrittenFile, write_rejected
from meadow.pipeline.publish import publish
from meadow.pipeline.write import StagedDataset

#: The most slices of a split. Beyond 8 GB of rows, slices grow instead.
_MOST_SLICES = 1024


def build(
    mixture: Mixture,
    options: BuildOptions,
    *,
    executor: Executor | None = None,
    progress: Progress = silent,
    ensure: finding.Ensure | None = None,
    builders: Mapping[str, type[Builder]] | None = None,
) -> Manifest:
    """Builds a mixture and publishes it as the dataset ``mixture_<name>``.

    Args:
        mixture: The mixture.
        options: What is asked. The output folder has its parts, or gets them from `ensure`.
        executor: Where tasks run; None for processes of its own.
        progress: Told of finished pieces of work.
        ensure: Builds datasets by name, with a `meadow.pipeline.report.Report` of it; None to take what is built.
        builders: The sources to choose from; None for those of all installed packages.

    Returns:
        The manifest.

    Raises:
        LockMismatchError: It does not come out as the lock says; nothing was published.
        MixtureError: A part is missing or cannot be in a mixture; nothing was published.
        StoreError: The output folder cannot be used, or another build is using it.
    """
    store = Store(options.out or default_out())
    locked = locks.Lock.read(options.lock) if options.lock is not None else None
    if locked is not None:
        locked.compare_definition(mixture)
    classes = builders if builders is not None else sources()[0]
    root = None if options.sample else options.raw or default_raw()
    here = finding.Machine(store, root, classes, locked.versions if locked is not None else None)
    reasons = locked.missing if locked is not None else {}
    left_out = {
        number: finding.LackingPart(number, name, reasons[name], "")
        for number, part in enumerate(mixture.parts)
        for name in part.names
        if name in reasons
    }
    found, missing = finding.find_parts(mixture, here, ensure, left_out)
    datasets = list({each.manifest.name: each.manifest for each in found}.values())
    if locked is not None:
        locked.compare_datasets(datasets, missing)
    # Samples have not all that their sources have; a mixture of them is a sample, too, and says what it lacks.
    all_samples = bool(found) and all(each.manifest.sample for each in found)
    if not (all_samples or options.allow_missing or locked is not None):
        finding.refuse_missing(mixture, missing)
    finding.refuse_unchecked(mixture, found)
    if not found:
        raise MixtureError(
            f"mixture {mixture.name}: none of its parts is there, so there is nothing to build"
        )
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(store.writing())
        pool = executor or stack.enter_context(Pool(options.workers))
        crew = Crew(pool, 2 * options.workers + 2, progress)
        job = _Job(mixture, store, found, missing, crew, scratch / mixture.dataset)
        manifest, folder = job.run()
        if locked is not None:
            locked.compare_result(manifest)
        for then in datasets:
            if store.manifest(then.name, then.version).rows_sha256 != then.rows_sha256:
                raise MixtureError(
                    f"{then.name} was built anew while {mixture.dataset} was; build that again"
                )
        manifest.write(folder / MANIFEST)
        write_json(folder / locks.LOCK, locks.make(mixture, manifest, datasets))
        publish(store, [StagedDataset(manifest, folder, _words(mixture))], pool)
    return manifest


def _words(mixture: Mixture) -> str:
    """The words of the card that come with a mixture, or lie beside its definition; empty where none do."""
    words = cards.words_for(mixture.dataset, Path()) if mixture.name in available() else ""
    beside = mixture.file.with_suffix(".md") if mixture.file else None
    if not words and beside is not None and beside.is_file():
        return beside.read_text(encoding="utf-8-sig")
    return words


def missing(manifest: Manifest) -> list[str]:
    """Which parts a mixture was built without, a sentence each."""
    parts = manifest.mixture.missing if manifest.mixture else ()
    return [f"{manifest.name} is INCOMPLETE: without {each.dataset}: {each.reason}" for each in parts]


def notes(manifest: Manifest) -> list[str]:
    """What a person should know of a mixture that was built: what is missing, what is smaller than asked."""
    name, about = manifest.name, manifest.mixture
    if about is None:
        return []
    found = missing(manifest) + [f"{name}: {line}" for line in map(shortage, about.parts) if line]
    found += [f"{name}: {line}" for line in exam_rows(manifest)]
    absent = about.not_in_meadow
    if absent:
        found.append(
            f"{name}: {len(absent)} parts of the published collection are not in it, its card says why: "
            + ", ".join(each.name for each in absent)
        )
    return found


@dataclass
class _Job:
    """One mixture on its way from built datasets to a staged folder."""

    mixture: Mixture
    store: Store
    found: list[finding.FoundPart]
    missing: list[finding.LackingPart]
    crew: Crew
    scratch: Path

    def run(self) -> tuple[Manifest, Path]:
        """Returns the manifest and the staged folder."""
        folder = self.scratch / "staged"
        folder.mkdir(parents=True)
        extra = [c for c in PARTS if any(c in each.manifest.features for each in self.found)]
        columns = {**COLUMNS, writing.DATASET: "string", **dict.fromkeys(extra, "string")}
        index = self._read()
        available = [int((index.part(n)["why"] == 0).sum()) for n in range(len(self.found))]
        every = self.mixture.wanted()
        wanted = [every[each.number] for each in self.found]
        reading.draw(index, wanted)
        slices = self._slices(index, available)
        calls = [
            (writing.take, file, index.file(at), index.reasons, columns, slices[file.split], self.scratch / f"{at}")
            for at, file in enumerate(index.files)
        ]  # fmt: skip
        taken = list(self.crew.run(self.mixture.dataset, "mixing", calls))
        written = self._write(index, taken, slices, columns, folder)
        parts = [
            MixedPart(
                each,
                wanted[n],
                available[n],
                [one for file, one in zip(index.files, taken, strict=True) if file.number == n],
                self._exam_rows(each, index.part(n)),
            )
            for n, each in enumerate(self.found)
        ]
        manifest = make(
            self.mixture, parts, self.missing, written, columns, len(index.rows), index.dropped(), folder,
            self.scratch,
        )  # fmt: skip
        paths = [folder / name for files in written.values() for name, _ in files]
        owed = (attribution.write, paths, folder / ATTRIBUTION, manifest.license_terms)
        self.crew.executor.submit(*owed).result()
        return manifest, folder

    def _read(self) -> reading.RowIndex:
        files, calls = [], []
        exclude = "exclude_hits" in self.mixture.contamination
        for number, each in enumerate(self.found):
            manifest = each.manifest
            hits = reading.read_hits(self.store, manifest) if exclude else []
            asked = reading.Conditions(
                each.part.where, self.mixture.licenses, manifest.license_terms, manifest.sample, hits
            )
            paths = self.store.files(manifest.name, manifest.version)
            for split in each.splits:
                for path in paths[split]:
                    label = f"{manifest.name}/{manifest.version}/{path.name}"
                    file = reading.PartFile(number, manifest.name, manifest.source, split, path, label)
                    files.append(file)
                    calls.append((reading.read, file, frozenset(manifest.features), self.mixture.seed, asked))
        return reading.RowIndex.of(files, list(self.crew.run(self.mixture.dataset, "reading", calls)))

    def _slices(self, index: reading.RowIndex, available: list[int]) -> dict[str, int]:
        """Slices per split, from the bytes that the part's rows have on average: close is good enough."""
        size: dict[str, float] = defaultdict(float)
        for number, each in enumerate(self.found):
            why = index.part(number)["why"]
            drawn = int(np.isin(why, (0, index.reasons.index(reading.GROUP))).sum())
            for split in each.splits:
                size[split] += drawn / max(1, available[number]) * each.manifest.splits[split].bytes
        return {
            split: min(_MOST_SLICES, max(1, math.ceil(nbytes / writing.SORTED_BYTES)))
            for split, nbytes in size.items()
        }

    def _write(
        self,
        index: reading.RowIndex,
        taken: list[writing.TakenRows],
        slices: dict[str, int],
        columns: Mapping[str, str],
        folder: Path,
    ) -> dict[str, list[tuple[str, WrittenFile]]]:
        calls, owners = [], []
        for split in sorted(slices, key=lambda s: (s != "train", s != "validation", s)):
            found = zip(index.files, taken, strict=True)
            sources = [one for file, one in found if file.split == split and one.rows]
            if not sources:
                continue
            used = 1 + max(number for one in sources for number in one.slices)
            count = min(used, max(1, round(sum(one.bytes for one in sources) / FILE_BYTES)))
            for number in range(count):
                name = f"{split}-{number:05d}-of-{count:05d}.parquet"
                owners.append((split, name))
                first, end = (round(each * used / count) for each in (number, number + 1))
                work = str(self.scratch / f"gather-{len(calls)}")
                calls.append((writing.gather, sources, first, end, columns, folder / name, work))
        if not calls:
            why = ", ".join(f"{reason} {count:,}" for reason, count in index.dropped().items())
            raise MixtureError(
                f"mixture {self.mixture.name}: no row of its parts can be in it; {why or 'they have none'}"
            )
        rejects = [one.rejects for one in taken if one.rejects is not None]
        calls.append((write_rejected, rejects, [], SOURCE, folder / REJECTED))
        *results, _ = self.crew.run(self.mixture.dataset, "writing", calls)
        written: dict[str, list[tuple[str, WrittenFile]]] = {}
        for (split, name), result in zip(owners, results, strict=True):
            written.setdefault(split, []).append((name, result))
        return written

    def _exam_rows(self, each: finding.FoundPart, part: np.ndarray) -> int:
        """Rows of a part that overlap an exam item, which the dataset's build kept and only listed."""
        checked = each.manifest.contamination
        if checked is None or checked.policy != "flag":
            return 0
        hits = reading.hashes(reading.read_hits(self.store, each.manifest), self.mixture.seed)[0]
        return int(np.isin(part["key"][part["why"] == 0], hits).sum())
