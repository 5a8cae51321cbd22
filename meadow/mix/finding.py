"""Which built datasets a mixture's parts are, which of them this machine lacks, and what they must fulfil."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from meadow.core.builder import Builder, dataset_names
from meadow.core.manifest import Manifest
from meadow.core.rawstore import find
from meadow.core.store import Store
from meadow.mix.definition import Mixture, MixtureError, MixturePart
from meadow.pipeline.report import Report

Ensure = Callable[[list[str]], Report]
"""Builds datasets by name; `functools.partial` of `meadow.pipeline.build.build`."""

#: Columns that conditions can be on, and the values that these may name.
_SCALARS: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "int64": (int,), "float64": (int, float), "bool": (bool,)
}  # fmt: skip


@dataclass(frozen=True)
class FoundPart:
    """A part, by its number in the mixture from 0, and the dataset that it is."""

    number: int
    part: MixturePart
    manifest: Manifest

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of the part's splits that the dataset has."""
        return tuple(split for split in self.part.split if split in self.manifest.splits)


@dataclass(frozen=True)
class LackingPart:
    """A part that is not on this machine.

    Attributes:
        number: Its place in the mixture, from 0.
        dataset: Its dataset.
        reason: Why it is missing; it names no folder of this machine.
        remedy: What a person can do about it.
    """

    number: int
    dataset: str
    reason: str
    remedy: str


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

    def accepts(self, part: MixturePart, name: str, version: str) -> bool:
        """Whether a version of a part's dataset will do."""
        if self.locked is not None:
            return self.locked.get(name) == version
        return part.accepts(version)

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
            # Where there are raw files of a source, it is built from these and not from its sample.
            source = self.classes[self.buildable[name]]
            if self.root is not None and find(source, self.root).files:
                return name
        return fitting[0] if fitting and not built else None


def find_parts(
    mixture: Mixture, here: Machine, ensure: Ensure | None, left_out: Mapping[int, LackingPart]
) -> tuple[list[FoundPart], list[LackingPart]]:
    """Finds the datasets of all parts, after building what is not built: those that are here, those that lack.

    Args:
        mixture: The mixture.
        here: What this machine has.
        ensure: Builds datasets; None where nothing is to be built.
        left_out: Parts that a lock file leaves out.

    Raises:
        MixtureError: A part is for scoring models, or asks for something that its dataset does not have.
    """
    if here.root is None and (
        real := {m.name for part in mixture.parts for m in here.built(part) if not m.sample}
    ):
        raise MixtureError(
            f"{mixture.dataset} of samples would replace real data in {here.store.root}: "
            f"{', '.join(sorted(real))}; choose another --out"
        )
    parts = [(number, part) for number, part in enumerate(mixture.parts) if number not in left_out]
    names = {name for name in (here.to_build(part) for _, part in parts) if name}
    if names and ensure is not None:
        report = ensure(sorted(names))
        for name in names:
            why = report.failed.get(here.buildable[name]) or report.empty.get(name)
            if why is not None:
                # Without folders of this machine, since it may come to stand in a card.
                why = why.replace(str(here.store.root), "the output folder").rstrip(".")
                here.failed[name] = why.replace(str(here.root), "the raw store") if here.root else why
    every = [_find(number, part, here) for number, part in parts]
    found = [each for each in every if isinstance(each, FoundPart)]
    missing = [*left_out.values(), *(each for each in every if isinstance(each, LackingPart))]
    _refuse_unfit(mixture, found)
    # One real part makes it real data, into which the handful of rows of a sample must not slip.
    if any(not each.manifest.sample for each in found):
        reason = "there is only the small embedded sample, which is not the real data that other parts are"
        for each in found:
            if each.manifest.sample:
                name = each.manifest.name
                missing.append(LackingPart(each.number, name, reason, _put_raw(name, here)))
        found = [each for each in found if not each.manifest.sample]
    return found, sorted(missing, key=lambda each: each.number)


def _find(number: int, part: MixturePart, here: Machine) -> FoundPart | LackingPart:
    # Real data go before a sample, whatever name they have.
    built = sorted(here.built(part), key=lambda manifest: manifest.sample)
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
        wanted = part.versions or "any version"
        if here.locked is not None:
            wanted = here.locked.get(name, "none, says the lock file")
        reason = f"version {wanted} is wanted; built: {', '.join(there) or 'none'}"
        if source is not None:
            reason += f"; this Meadow builds {here.classes[source].version}"
            if here.accepts(part, name, here.classes[source].version):
                return LackingPart(number, name, "it is not built", f"Run `python -m meadow.build {name}`.")
        return LackingPart(number, name, reason, "Build that version with the Meadow that makes it.")
    reason = "it is not built, and no raw files of it are there"
    return LackingPart(number, part.dataset, reason, _put_raw(part.dataset, here))


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


def _refuse_unfit(mixture: Mixture, found: Sequence[FoundPart]) -> None:
    """Refuses exams, and conditions on columns that a dataset does not have."""
    wrong = []
    for each in found:
        manifest, key = each.manifest, f"parts[{each.number}]"
        if manifest.test_only:
            wrong.append(f"{key}.dataset: {manifest.name} is an exam to score models on, never to train them")
        plain = {column: kind for column, kind in manifest.features.items() if kind in _SCALARS}
        for column, wanted in each.part.where.items():
            if column not in plain:
                have = f"{manifest.name} has no such column of plain values; it has: {', '.join(plain)}"
                wrong.append(f"{key}.where.{column}: {have}")
            elif not all(isinstance(value, _SCALARS[plain[column]]) for value in _operands(wanted)):
                wrong.append(f"{key}.where.{column}: the column holds {plain[column]}; write such values")
    if wrong:
        raise MixtureError(
            f"mixture {mixture.name} asks for what its parts do not allow:\n  " + "\n  ".join(wrong)
        )


def _operands(wanted: Any) -> list[Any]:
    given = list(wanted.values()) if isinstance(wanted, dict) else [wanted]
    flat = [value for one in given for value in (one if isinstance(one, (list, tuple)) else [one])]
    return [value for value in flat if value is not None]


def refuse_unchecked(mixture: Mixture, found: Sequence[FoundPart]) -> None:
    """Raises MixtureError with all parts whose rows were not checked for exam items, where the mixture asks it."""
    if "refuse_unchecked" not in mixture.contamination:
        return
    wrong: dict[str, None] = {}
    for manifest in (each.manifest for each in found):
        checked = manifest.contamination
        if checked is None or checked.policy == "off":
            why = "its rows were not checked for exam items"
        elif not manifest.sample and all(exam.sample for exam in checked.exams):
            why = "its rows were checked against no real exam"
        else:
            continue
        again = f"Build it again: `python -m meadow.build {manifest.name}`."
        wrong[f"  {manifest.name} {manifest.version}: {why}. {again}"] = None
    if wrong:
        raise MixtureError(
            f"mixture {mixture.name} takes rows only from datasets that were checked for exam items:\n"
            + "\n".join(wrong)
            + "\nNothing was published."
        )


def refuse_missing(mixture: Mixture, missing: Sequence[LackingPart]) -> None:
    """Raises MixtureError with all parts that are missing, their reasons and remedies."""
    if not missing:
        return
    alike: dict[tuple[str, str], list[str]] = {}
    for each in missing:
        alike.setdefault((each.reason, each.remedy), []).append(each.dataset)
    lines = [f"  {', '.join(names)}: {reason}. {remedy}\n" for (reason, remedy), names in alike.items()]
    raise MixtureError(
        f"mixture {mixture.name}: {len(missing)} of its {len(mixture.parts)} parts "
        f"{'is' if len(missing) == 1 else 'are'} missing:\n{''.join(lines)}"
        "Nothing was published. With --allow-missing it is built without them, and says so."
    )
