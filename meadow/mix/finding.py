"""Which built datasets a mixture's parts are, and which of them this machine lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meadow.core.manifest import Manifest
from meadow.core.store import Store, StoreError
from meadow.mix.definition import Mixture, MixtureError, MixturePart

if TYPE_CHECKING:
    from meadow.core.builder import Builder
    from meadow.pipeline.build import Report

Ensure = Callable[[list[str]], "Report"]
"""Builds datasets by name; `functools.partial` of `meadow.pipeline.build.build`."""


@dataclass(frozen=True)
class FoundPart:
    """A part and the dataset that it is.

    Attributes:
        number: Its place in the mixture, from 0.
        part: The part.
        manifest: The dataset's manifest.
    """

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
    _buildable: dict[str, str] | None = None

    def buildable(self) -> dict[str, str]:
        """The datasets that can be built here, with their source."""
        if self._buildable is None:
            from meadow.core.builder import dataset_names

            self._buildable = dataset_names(self.classes, self.root)
        return self._buildable

    def has_raw(self, source: str) -> bool:
        """Whether there are raw files of a source, which then is built from these and not from its sample."""
        from meadow.core.rawstore import find

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
        buildable = [name for name in part.names if name in self.buildable()]
        fitting = [n for n in buildable if self.accepts(part, n, self.classes[self.buildable()[n]].version)]
        for name in fitting:
            if self.has_raw(self.buildable()[name]):
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
    if ensure is not None:
        parts = [part for number, part in enumerate(mixture.parts) if number not in left_out]
        _build(sorted({name for name in map(here.to_build, parts) if name}), here, ensure)
    found: list[FoundPart] = []
    missing = list(left_out.values())
    for number, part in enumerate(mixture.parts):
        if number in left_out:
            continue
        one = _find(number, part, here)
        if isinstance(one, LackingPart):
            missing.append(one)
        else:
            found.append(one)
    _refuse_exams(mixture, found)
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
    if not names:
        return
    report = ensure(names)
    for name in names:
        source = here.buildable()[name]
        said = [note.partition(": ")[2] for note in report.notes if note.startswith(f"{name}: ")]
        if source in report.failed:
            here.failed[name] = _portable(report.failed[source], here)
        elif said:
            here.failed[name] = "; ".join(said)


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
        return LackingPart(
            number,
            found.manifest.name,
            f"version {found.manifest.version} has no split {' or '.join(part.split)}; it has: {have}",
            "Build it from raw files that hold this split, or change `split` in the mixture.",
        )
    return found


def _missing(number: int, part: MixturePart, here: Machine) -> LackingPart:
    for name in part.names:
        if name in here.failed:
            return LackingPart(
                number, name, f"it could not be built: {here.failed[name]}", _put_raw(name, here)
            )
    for name in part.names:
        there = here.store.versions(name)
        source = here.buildable().get(name)
        if not there and source is None:
            continue
        reason = f"version {here.range(part, name)} is wanted; built: {', '.join(there) or 'none'}"
        if source is not None:
            reason += f"; this Meadow builds {here.classes[source].version}"
            if here.accepts(part, name, here.classes[source].version):
                return LackingPart(number, name, "it is not built", f"Run `python -m meadow.build {name}`.")
        return LackingPart(number, name, reason, "Build that version with the Meadow that makes it.")
    return LackingPart(
        number,
        part.dataset,
        "it is not built, and no raw files of it are there",
        _put_raw(part.dataset, here),
    )


def _only_sample(found: FoundPart, here: Machine) -> LackingPart:
    name = found.manifest.name
    reason = "there is only the small embedded sample, which is not the real data that other parts are"
    return LackingPart(found.number, name, reason, _put_raw(name, here))


def _put_raw(name: str, here: Machine) -> str:
    source = here.buildable().get(name) or _source_by_name(name, here.classes)
    if source is None:
        return "Install the package whose source builds it."
    files = "; ".join(
        f"{pattern.pattern} ({pattern.description})"
        for pattern in here.classes[source].raw_files
        if pattern.required
    )
    where = "the raw store" if here.root is None else f"{here.root / source}"
    return f"Put its raw files into {where}: {files}."


def _source_by_name(name: str, classes: Mapping[str, Any]) -> str | None:
    """The source that would build a dataset that depends on raw files, by the beginning of its name."""
    fitting = [source for source in classes if name == source or name.startswith(f"{source}_")]
    return max(fitting, key=len, default=None)


def _refuse_exams(mixture: Mixture, found: Sequence[FoundPart]) -> None:
    wrong = []
    for each in found:
        manifest, key = each.manifest, f"parts[{each.number}]"
        if manifest.test_only:
            wrong.append(
                f"{key}.dataset: {manifest['name']} is an exam to score models on, never to train them"
            )
        for column, wanted in each.part.where.items():
            kind = manifest.features.get(column)
            if kind is None or kind not in _SCALARS:
                names = ", ".join(name for name, k in manifest.features.items() if k in _SCALARS)
                wrong.append(
                    f"{key}.where.{column}: {manifest['name']} has no such column of plain values; it has: {names}"
                )
            elif not all(isinstance(value, _SCALARS[kind]) for value in _operands(wanted)):
                wrong.append(f"{key}.where.{column}: the column holds {kind}; write such values")
    if wrong:
        listed = "\n".join(f"  {line}" for line in wrong)
        raise MixtureError(f"mixture {mixture.name} asks for what its parts do not allow:\n{listed}")


_SCALARS: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "int64": (int,), "float64": (int, float), "bool": (bool,)
}  # fmt: skip


def _operands(wanted: Any) -> list[Any]:
    given = list(wanted.values()) if isinstance(wanted, dict) else [wanted]
    flat = [value for one in given for value in (one if isinstance(one, (list, tuple)) else [one])]
    return [value for value in flat if value is not None]


def contamination_problem(manifest: Manifest) -> str | None:
    """Why a dataset does not count as checked for exam items; None where it does."""
    found = manifest.contamination
    if found is None or found.policy == "off":
        return "its rows were not checked for exam items"
    if not manifest.sample and all(exam.sample for exam in found.exams):
        return "its rows were checked against no real exam"
    return None


def refuse_unchecked(mixture: Mixture, found: Sequence[FoundPart]) -> None:
    """Refuses parts whose rows were not checked for exam items, where the mixture asks for that.

    Raises:
        MixtureError: Some were not; the message names them all.
    """
    if "refuse_unchecked" not in mixture.contamination:
        return
    wrong = []
    for each in found:
        why = contamination_problem(each.manifest)
        if why:
            name = each.manifest.name
            wrong.append(
                f"  {name} {each.manifest['version']}: {why}. Build it again: `python -m meadow.build {name}`."
            )
    if wrong:
        listed = "\n".join(dict.fromkeys(wrong))
        raise MixtureError(
            f"mixture {mixture.name} takes rows only from datasets that were checked for exam items:\n{listed}\n"
            "Nothing was published."
        )


def refuse_missing(mixture: Mixture, missing: Sequence[LackingPart], *, sample: bool, allowed: bool) -> None:
    """Refuses to build a mixture without some of its parts, unless that was asked for.

    Args:
        mixture: The mixture.
        missing: The parts that are missing.
        sample: Whether all parts that are there are samples. Then the mixture is one, too, and says what
            it lacks; samples have not all that their sources have.
        allowed: Whether to build it all the same.

    Raises:
        MixtureError: Parts are missing; the message names them all, with reason and remedy.
    """
    if not missing or sample or allowed:
        return
    alike: dict[tuple[str, str], list[str]] = {}
    for each in missing:
        alike.setdefault((each.reason, each.remedy), []).append(each.dataset)
    lines = [f"  {', '.join(names)}: {reason}. {remedy}" for (reason, remedy), names in alike.items()]
    raise MixtureError(
        f"mixture {mixture.name}: {len(missing)} of its {len(mixture.parts)} parts "
        f"{'is' if len(missing) == 1 else 'are'} missing:\n" + "\n".join(lines) + "\n"
        "Nothing was published. With --allow-missing it is built without them, and says so."
    )


def read_hits(store: Store, manifest: Manifest) -> list[str]:
    """The ids of a dataset's rows that overlap an exam item, sorted.

    Raises:
        StoreError: The dataset's list cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from meadow.core.store import CONTAMINATION

    path = store.folder(manifest.name, manifest.version) / CONTAMINATION
    if not path.exists():
        return []
    try:
        return sorted(set(pq.read_table(path, columns=["id"])["id"].to_pylist()))
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path}: {error}; build {manifest['name']} again") from error
