"""The kinds of values in a mixture's YAML, each with what is wrong with one that is none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import pydantic

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

#: Mixtures are datasets; this is what the names of theirs begin with.
PREFIX = "mixture_"

_DATASET = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_VERSION = r"\d+\.\d+\.\d+"
#: ``1``, ``1.0``, ``1.x``, ``1.0.*``: the newest version that begins so, as in `load_dataset`.
_BEGINNING = re.compile(r"(\d+(?:\.\d+)?)(?:\.[xX*])?")
_OPERATORS = ("not", "min", "max")


def specifiers(text: str) -> SpecifierSet:
    """What a range of versions accepts.

    Raises:
        ValueError: It is none.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    text = text.strip()
    beginning = _BEGINNING.fullmatch(text)
    if beginning:
        text = f"=={beginning[1]}.*"
    elif re.fullmatch(_VERSION, text):
        text = f"=={text}"
    try:
        return SpecifierSet(text)
    except InvalidSpecifier as error:
        raise ValueError(str(error)) from error


def _filled(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty, and must be text")
    return value.strip()


def _of_form(pattern: str) -> Any:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{value!r} does not have the form {pattern}")
        return value

    return pydantic.AfterValidator(check)


def _listed(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else (value,)


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError("is an empty list")
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
    several = _listed(wanted)
    if not several:
        raise ValueError("is an empty list")
    for each in several:
        if each is not None and not isinstance(each, (str, int, float)):
            raise ValueError(f"{each!r} must be text, a number, true, false or null")
    return wanted


def _some(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    if not parts:
        raise ValueError("must be a list of at least one part")
    return parts


def _noted(notes: Any, info: pydantic.ValidationInfo) -> dict[str, str]:
    if not isinstance(notes, dict) or not all(isinstance(v, str) for pair in notes.items() for v in pair):
        raise ValueError("must map each version (in quotes) to a sentence")
    version = info.data.get("version")
    if version is not None and version not in notes:
        raise ValueError(f"has no entry for version {version}")
    return notes


Text = Annotated[str, pydantic.AfterValidator(_filled)]
Name = Annotated[str, _of_form(r"[a-z0-9][a-z0-9_]*")]
VersionNumber = Annotated[str, _of_form(_VERSION)]
ReleaseNotes = Annotated[dict[str, str], pydantic.PlainValidator(_noted)]
Dataset = Annotated[str, _of_form(_DATASET), pydantic.AfterValidator(_no_mixture)]
VersionRange = Annotated[str, pydantic.PlainValidator(_version_range)]
Count = Annotated[int, pydantic.Field(ge=0)]
Wanted = Annotated[int, pydantic.Field(ge=1)]
Weight = Annotated[int | float, pydantic.PlainValidator(_weight)]
Condition = Annotated[Any, pydantic.AfterValidator(_condition)]
#: One value, or a list of some, no two of which are equal.
Several = pydantic.BeforeValidator(_listed)
Distinct = pydantic.AfterValidator(_distinct)
NoTests = pydantic.AfterValidator(_no_tests)
NotEmpty = pydantic.AfterValidator(_some)
