"""Which built datasets a mixture's parts are, and which of them this machine lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from meadow.core.builder import Builder, dataset_names
from meadow.core.manifest import Manifest
from meadow.core.rawstore import find
from meadow.core.store import Store
from meadow.mix.definition import Mixture, MixtureError, MixturePart
from meadow.mix.refusals import FoundPart, LackingPart, refuse_unfit
from meadow.pipeline.report import Report

Ensure = Callable[[list[str]], Report]
"""Builds datasets by name; `functools.partial` of `meadow.pipeline.build.build`."""


@dataclass
class Machine:
    """What this machine has.

    Attributes:
        store: The output folder.
        root: The raw store; None for samples only.
        classes: The sources there are.
        locked: Versions that a lock file asks for, by dataset; None where there is no lock.
        failed: Why datasets could not be built just now.
    """

    store: Store
    root: Path | None
    classes: Mapping[str, type[Builder]]
    locked: Mapping[str, str] | None = None
    failed: dict[str, str] = field(default_factory=dict)

    @cached_property
    def buildable(self) -> dict[str, str]:
        """The datasets that can be built here, with their source."""
        return dataset_names(self.classes, self.root)

    def has_raw(self, source: str) -> bool:
        """Whether there are raw files of a source, which then is built from these and not from its sample."""
        return self.root is not None and bool(find(self.classes[source], self.root).files)

    def accepts(self, part: MixturePart, name: str, version: str) -> bool:
        """Whether a version of a part's dataset will do."""
        if self.locked is not None:
            return self.locked.get(name) == version
        return part.accepts(version)

    def range(self, part: MixturePart, name: str) -> str:
        """The versions that will do, in words."""
        if self.locked is not None:
            return self.locked.get(name, "none, says the lock file")
        return part.versions or "any version"

    def built(self, part: MixturePart) -> list[Manifest]:
        """The manifest of the newest version that will do, of each name of a part that is built."""
        found = []
        for name in part.names:
            fitting = [v for v in self.store.versions(name) if self.accepts(part, name, v)]
            if fitting:
                found.append(self.store.manifest(name, fitting[-1]))
        return found

    def to_build(self, part: MixturePart) -> str | None:
        """The dataset that must be built for a part; None where none must, or none can be."""
        built = self.built(part)
        if any(manifest.sample == (self.root is None) for manifest in built):
            return None
        buildable = [name for name in part.names if name in self.buildable]
        fitting = [n for n in buildable if self.accepts(part, n, self.classes[self.buildable[n]].version)]
        for name in fitting:
            if self.has_raw(self.buildable[name]):
                return name
        return fitting[0] if fitting and not built else None


def find_parts(
    mixture: Mixture, here: Machine, ensure: Ensure | None, left_out: Mapping[int, LackingPart]
) -> tuple[list[FoundPart], list[LackingPart]]:
    """Finds the datasets of all parts, after building what is not built.

    Args:
        mixture: The mixture.
        here: What this machine has.
        ensure: Builds datasets; None where nothing is to be built.
        left_out: Parts that a lock file leaves out.

    Returns:
        The parts that are here, and those that are missing.

    Raises:
        MixtureError: A part is for scoring models, or asks for something that its dataset does not have.
    """
    if here.root is None:
        _keep_real_data(mixture, here)
    parts = [(number, part) for number, part in enumerate(mixture.parts) if number not in left_out]
    names = {name for name in (here.to_build(part) for _, part in parts) if name}
    if names and ensure is not None:
        _build(sorted(names), here, ensure)
    found: list[FoundPart] = []
    missing = list(left_out.values())
    for number, part in parts:
        one = _find(number, part, here)
        if isinstance(one, LackingPart):
            missing.append(one)
        else:
            found.append(one)
    refuse_unfit(mixture, found)
    # One real part makes it real data, into which the handful of rows of a sample must not slip.
    if any(not each.manifest.sample for each in found):
        real = [each for each in found if not each.manifest.sample]
        missing += [_only_sample(each, here) for each in found if each.manifest.sample]
        found = real
    return found, sorted(missing, key=lambda each: each.number)


def _keep_real_data(mixture: Mixture, here: Machine) -> None:
    real = {m.name for part in mixture.parts for m in here.built(part) if not m.sample}
    if real:
        raise MixtureError(
            f"{mixture.dataset} of samples would replace real data in {here.store.root}: "
            f"{', '.join(sorted(real))}; choose another --out"
        )


def _build(names: list[str], here: Machine, ensure: Ensure) -> None:
    report = ensure(names)
    for name in names:
        source = here.buildable[name]
        why = report.failed.get(source) or report.empty.get(name)
        if why is not None:
            here.failed[name] = _portable(why, here)


def _portable(text: str, here: Machine) -> str:
    """An error's words without folders of this machine, since they may come to stand in a card."""
    text = text.replace(str(here.store.root), "the output folder").rstrip(".")
    return text if here.root is None else text.replace(str(here.root), "the raw store")


def _find(number: int, part: MixturePart, here: Machine) -> FoundPart | LackingPart:
    built = here.built(part)
    # Real data go before a sample, whatever name they have.
    built.sort(key=lambda manifest: manifest.sample)
    if not built:
        return _missing(number, part, here)
    found = FoundPart(number, part, built[0])
    if not found.splits:
        have = ", ".join(found.manifest.splits) or "none"
        reason = f"version {found.manifest.version} has no split {' or '.join(part.split)}; it has: {have}"
        remedy = "Build it from raw files that hold this split, or change `split` in the mixture."
        return LackingPart(number, found.manifest.name, reason, remedy)
    return found


def _missing(number: int, part: MixturePart, here: Machine) -> LackingPart:
    for name in part.names:
        if name in here.failed:
            reason = f"it could not be built: {here.failed[name]}"
            return LackingPart(number, name, reason, _put_raw(name, here))
    for name in part.names:
        there = here.store.versions(name)
        source = here.buildable.get(name)
        if not there and source is None:
            continue
        reason = f"version {here.range(part, name)} is wanted; built: {', '.join(there) or 'none'}"
        if source is not None:
            reason += f"; this Meadow builds {here.classes[source].version}"
            if here.accepts(part, name, here.classes[source].version):
                return LackingPart(number, name, "it is not built", f"Run `python -m meadow.build {name}`.")
        return LackingPart(number, name, reason, "Build that version with the Meadow that makes it.")
    reason = "it is not built, and no raw files of it are there"
    return LackingPart(number, part.dataset, reason, _put_raw(part.dataset, here))


def _only_sample(found: FoundPart, here: Machine) -> LackingPart:
    name = found.manifest.name
    reason = "there is only the small embedded sample, which is not the real data that other parts are"
    return LackingPart(found.number, name, reason, _put_raw(name, here))


def _put_raw(name: str, here: Machine) -> str:
    # A dataset that depends on raw files begins with the name of its source.
    alike = [source for source in here.classes if name == source or name.startswith(f"{source}_")]
    source = here.buildable.get(name) or max(alike, key=len, default=None)
    if source is None:
        return "Install the package whose source builds it."
    patterns = [pattern for pattern in here.classes[source].raw_files if pattern.required]
    files = "; ".join(f"{pattern.pattern} ({pattern.description})" for pattern in patterns)
    where = "the raw store" if here.root is None else f"{here.root / source}"
    return f"Put its raw files into {where}: {files}."
