"""What a mixture's YAML says, checked in full before anything is built."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from meadow.core import yamlfile
from meadow.core.builder import license_ids
from meadow.core.licenses.policy import Policy
from meadow.core.store import StoreError
from meadow.mix.fields import (
    PREFIX,
    Condition,
    Count,
    Dataset,
    Distinct,
    Name,
    NotEmpty,
    NoTests,
    ReleaseNotes,
    Several,
    Text,
    VersionNumber,
    VersionRange,
    Wanted,
    Weight,
    specifiers,
)

_FOLDER = Path(__file__).parent


class MixtureError(StoreError):
    """A mixture that cannot be built as it is defined; the message says why and what to do."""


class DefinitionError(MixtureError, ValueError):
    """Mistakes in a mixture's YAML, all of them, each with its key."""


class _Block(yamlfile.Model):
    """A part of the YAML, in which a key without a value is as good as none."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}


class MixturePart(_Block):
    """One part of a mixture.

    Attributes:
        dataset: The dataset that rows are taken from.
        also_named: Other names that the dataset goes by; the first of all that is there is used.
        versions: Which of its versions will do, as a PEP 440 specifier; empty for any.
        split: Its splits that rows are drawn from; each row stays in the split it is in.
        max_rows: How many rows to draw, over all splits; None for all, or where there is a `weight`.
        weight: Its share of the mixture's `total_rows`, relative to the other weights.
        where: Conditions on columns that a row must meet.
        published: The rows that the published collection took of it; for information.
        note: What else the card should say of it.
    """

    dataset: Dataset
    also_named: Annotated[tuple[Dataset, ...], Several, Distinct] = ()
    versions: VersionRange = ""
    split: Annotated[tuple[Text, ...], Several, Distinct, NoTests] = ("train",)
    max_rows: Wanted | None = None
    weight: Weight | None = None
    where: dict[str, Condition] = {}
    published: Count | None = None
    note: Text = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The dataset's names, in the order in which they are looked for."""
        return self.dataset, *self.also_named

    def accepts(self, version: str) -> bool:
        """Whether a version is in the range."""
        return specifiers(self.versions).contains(version)


class Absent(_Block):
    """A part of the published collection that Meadow has no builder for.

    Attributes:
        name: Its name there.
        published: The rows that were taken of it.
        reason: Why it is not here.
    """

    name: Text
    published: Count | None = None
    reason: Text


class Mixture(_Block):
    """A mixture as its YAML defines it.

    Attributes:
        name: Its name; the dataset is called ``mixture_<name>``.
        version: ``MAJOR.MINOR.PATCH``.
        description: One sentence.
        release_notes: One entry for every version there has been.
        homepage: Where the published collection is presented.
        citation: BibTeX of its own, before that of its parts.
        counts_from: Where the published counts stand.
        seed: What rows are drawn by; another seed draws others.
        total_rows: What weights are shares of.
        licenses: Which licences rows may have; None for any.
        contamination: What it asks about exam items in its parts.
        parts: The parts, in order of precedence: of two equal rows the earlier part's is kept.
        not_in_meadow: What the published collection has and this mixture cannot.
    """

    name: Name
    version: VersionNumber
    description: Text
    release_notes: ReleaseNotes
    homepage: Text = ""
    citation: Text = ""
    counts_from: Text = ""
    seed: Count
    total_rows: Wanted | None = None
    licenses: Policy | None = None
    contamination: Annotated[tuple[Literal["refuse_unchecked", "exclude_hits"], ...], Several, Distinct] = ()
    parts: Annotated[tuple[MixturePart, ...], NotEmpty]
    not_in_meadow: tuple[Absent, ...] = ()
    _file: Path | None = None

    @property
    def dataset(self) -> str:
        """The name of the dataset it becomes."""
        return PREFIX + self.name

    @property
    def file(self) -> Path | None:
        """The YAML; not part of the definition."""
        return self._file

    def wanted(self) -> list[int | None]:
        """The rows to draw of each part; None for all. Shares are rounded so that they add up."""
        if self.total_rows is None:
            return [part.max_rows for part in self.parts]
        weights = [part.weight or 0 for part in self.parts]
        exact = [self.total_rows * weight / sum(weights) for weight in weights]
        found = [int(rows) for rows in exact]
        by_remainder = sorted(range(len(exact)), key=lambda i: (found[i] - exact[i], i))
        for i in by_remainder[: self.total_rows - sum(found)]:
            found[i] += 1
        return list(found)

    def described(self) -> dict[str, Any]:
        """The definition as YAML could state it, without what says nothing."""
        own = self.model_dump(mode="json")
        own["licenses"] = {key: value for key, value in (own["licenses"] or {}).items() if value}
        own["parts"] = [_said(part) for part in own["parts"]]
        return _said(own)

    def sha256(self) -> str:
        """A hash of the definition, whatever the layout of its YAML."""
        text = json.dumps(self.described(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value not in ("", None, [], {})}


def available() -> dict[str, Path]:
    """The mixtures that come with Meadow: name to YAML file."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}


def load(name_or_path: str | Path) -> Mixture:
    """Reads and checks a mixture.

    Args:
        name_or_path: The name of one that comes with Meadow, or a YAML file; or a lock file, for the
            definition that it holds.

    Raises:
        DefinitionError: There is no such mixture, or its YAML has mistakes; the message has them all.
    """
    text = str(name_or_path)
    shipped = available()
    name = text.removeprefix(PREFIX)
    if isinstance(name_or_path, str) and name in shipped:
        path = shipped[name]
    elif isinstance(name_or_path, str) and not re.search(r"[/\\]|\.(ya?ml|json)$", text):
        raise DefinitionError(
            f"no mixture is named {text!r}; there are: {', '.join(shipped)}; "
            "one of your own is named by its file, such as mixture:mine.yaml"
        )
    else:
        path = Path(text).expanduser()
    try:
        return _checked(path, shipped)
    except yamlfile.FileMistakesError as error:
        raise DefinitionError(str(error)) from error


def _checked(path: Path, shipped: Mapping[str, Path]) -> Mixture:
    data = yamlfile.decode(path)
    locked = isinstance(data, dict) and isinstance(data.get("definition"), dict) and "datasets" in data
    if locked:
        data = data["definition"]
    mistakes, mixture = [], None
    try:
        mixture = yamlfile.check(data, Mixture, str(path), {"licenses": license_ids()})
    except yamlfile.FileMistakesError as error:
        mistakes += error.mistakes
    if isinstance(data, dict):
        mistakes += _wrong_sizes(data)
        if str(data.get("name")) in shipped and not locked and path not in shipped.values():
            mistakes.append(f"name: {data['name']} is a mixture that comes with Meadow; choose another name")
    if mistakes or mixture is None:
        raise yamlfile.FileMistakesError(str(path), mistakes)
    mixture._file = path
    return mixture


def _wrong_sizes(data: Mapping[str, Any]) -> list[str]:
    """What is wrong with `weight` and `total_rows` taken together, whatever else is wrong with the parts."""
    parts = data.get("parts")
    parts = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    weighted = [part.get("weight") is not None for part in parts]
    if not any(weighted):
        useless = parts and data.get("total_rows") is not None
        return ["total_rows: is of no use without a weight for each part"] if useless else []
    wrong = [] if data.get("total_rows") is not None else ["total_rows: is missing: weights are shares of it"]
    return wrong + [
        f"parts[{number}].weight: is missing: where one part has a weight, all have"
        for number, has in enumerate(weighted)
        if not has
    ]
