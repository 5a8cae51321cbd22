"""What a mixture's YAML says, checked in full before anything is built."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from packaging.specifiers import SpecifierSet
from pydantic import StringConstraints

from meadow.core import yamlfile
from meadow.core.builder import license_ids
from meadow.core.licenses.policy import Policy
from meadow.core.store import StoreError

_FOLDER = Path(__file__).parent
#: Mixtures are datasets; this is what the names of theirs begin with.
PREFIX = "mixture_"
_VERSION = r"\d+\.\d+\.\d+"
#: ``1``, ``1.0``, ``1.x``, ``1.0.*``: the newest version that begins so, as in `load_dataset`.
_BEGINNING = re.compile(r"(\d+(?:\.\d+)?)(?:\.[xX*])?")
_OPERATORS = ("not", "min", "max")


def specifiers(text: str) -> SpecifierSet:
    """What a range of versions accepts; raises InvalidSpecifier, a ValueError, where it is none."""
    text = text.strip()
    if beginning := _BEGINNING.fullmatch(text):
        text = f"=={beginning[1]}.*"
    elif re.fullmatch(_VERSION, text):
        text = f"=={text}"
    return SpecifierSet(text)


def _listed(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else (value,)


def _some(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("is an empty list")
    return values


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    twice = [value for at, value in enumerate(values) if value in values[:at]]
    if twice:
        raise ValueError(f"{twice[0]!r} stands twice")
    return values


def _no_tests(splits: tuple[str, ...]) -> tuple[str, ...]:
    for split in splits:
        if split.lower().startswith("test"):
            raise ValueError(f"{split!r}: a test split is for scoring models, never for training them")
    return splits


def _no_mixture(dataset: str) -> str:
    if dataset.startswith(PREFIX):
        raise ValueError("a mixture cannot be part of another; name its parts")
    return dataset


def _version_range(value: object) -> str:
    if not isinstance(value, str):  # 1.10 as a number would be 1.1
        raise ValueError(f'{value!r} must be text, in quotes: "1.x" or ">=1.2,<2"')
    try:
        specifiers(value)
    except ValueError:
        raise ValueError(f'{value!r} is no version range: write "1.x" or ">=1.2,<2"') from None
    return value.strip()


def _weight(value: Any, info: pydantic.ValidationInfo) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value < float("inf"):
        raise ValueError(f"{value!r} must be a number above 0")
    if info.data.get("max_rows") is not None:
        raise ValueError("stands beside max_rows; choose one")
    return value


def _condition(wanted: Any) -> Any:
    if not isinstance(wanted, dict):
        return _values(wanted)
    if not wanted or set(wanted) - set(_OPERATORS):
        raise ValueError(f"a mapping has the keys {', '.join(_OPERATORS)}")
    for operator, operand in wanted.items():
        if operator == "not":
            _values(operand)
        elif isinstance(operand, bool) or not isinstance(operand, (int, float, str)):
            raise ValueError(f"{operator} is {operand!r}, and must be a number or text")
    return wanted


def _values(wanted: Any) -> Any:
    for each in _some(_listed(wanted)):
        if each is not None and not isinstance(each, (str, int, float)):
            raise ValueError(f"{each!r} must be text, a number, true, false or null")
    return wanted


def _noted(notes: Any, info: pydantic.ValidationInfo) -> dict[str, str]:
    if not isinstance(notes, dict) or not all(isinstance(v, str) for pair in notes.items() for v in pair):
        raise ValueError("must map each version (in quotes) to a sentence")
    version = info.data.get("version")
    if version is not None and version not in notes:
        raise ValueError(f"has no entry for version {version}")
    return notes


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]*$")]
VersionNumber = Annotated[str, StringConstraints(pattern=rf"^{_VERSION}$")]
ReleaseNotes = Annotated[dict[str, str], pydantic.PlainValidator(_noted)]
Dataset = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"), pydantic.AfterValidator(_no_mixture)
]
VersionRange = Annotated[str, pydantic.PlainValidator(_version_range)]
Count = Annotated[int, pydantic.Field(ge=0)]
Wanted = Annotated[int, pydantic.Field(ge=1)]
Weight = Annotated[int | float, pydantic.PlainValidator(_weight)]
Condition = Annotated[Any, pydantic.AfterValidator(_condition)]
#: Not `Field(min_length=1)`, which calls a list empty, too, where each of its items has a mistake.
Some = pydantic.AfterValidator(_some)
#: One value, or a list of some, no two of which are equal.
Several = pydantic.BeforeValidator(_listed)
Distinct = pydantic.AfterValidator(_distinct)


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
    also_named: Annotated[tuple[Dataset, ...], Several, Some, Distinct] = ()
    versions: VersionRange = ""
    split: Annotated[tuple[Text, ...], Several, Some, Distinct, pydantic.AfterValidator(_no_tests)] = (
        "train",
    )
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
    """A part of the published collection that Meadow has no builder for: its name and rows there, and why."""

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
    contamination: Annotated[
        tuple[Literal["refuse_unchecked", "exclude_hits"], ...], Several, Some, Distinct
    ] = ()
    parts: Annotated[tuple[MixturePart, ...], Some]
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
    named = isinstance(name_or_path, str) and not re.search(r"[/\\]|\.(ya?ml|json)$", text)
    path = shipped.get(text.removeprefix(PREFIX)) if named else Path(text).expanduser()
    if path is None:
        raise DefinitionError(
            f"no mixture is named {text!r}; there are: {', '.join(shipped)}; "
            "one of your own is named by its file, such as mixture:mine.yaml"
        )
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
