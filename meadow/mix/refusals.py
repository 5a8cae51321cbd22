"""What parts must fulfil before anything is mixed, whatever rows they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meadow.core.manifest import Manifest
from meadow.mix.definition import Mixture, MixtureError, MixturePart

#: Columns that conditions can be on, and the values that these may name.
_SCALARS: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "int64": (int,), "float64": (int, float), "bool": (bool,)
}  # fmt: skip


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


def refuse_unfit(mixture: Mixture, found: Sequence[FoundPart]) -> None:
    """Refuses exams, and conditions on columns that a dataset does not have.

    Raises:
        MixtureError: With all that is wrong, each with its key.
    """
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
    """Refuses parts whose rows were not checked for exam items, where the mixture asks for that.

    Raises:
        MixtureError: Some were not; the message names them all.
    """
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
    """Refuses to build a mixture without some of its parts.

    Raises:
        MixtureError: Parts are missing; the message names them all, with reason and remedy.
    """
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
