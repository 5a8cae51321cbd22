"""YAML as people write it by hand: read without guessing, checked against a model, all mistakes told at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from meadow.core.errors import Error

M = TypeVar("M", bound="Model")

_KINDS = {
    dict: "a mapping",
    list: "a list",
    tuple: "a list",
    str: "text",
    bool: "true or false",
    type(None): "nothing",
}
_MUST_BE = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
#: What a text that stands for something else fails to be, for models that take such texts.
_IS = {
    "int_parsing": "is no whole number",
    "int_from_float": "is no whole number",
    "float_parsing": "is no number",
    "finite_number": "is no number",
    "bool_parsing": "is neither true nor false",
}
_LIMITS = {
    "greater_than_equal": "{} is below {ge:g}",
    "greater_than": "{} is not above {gt:g}",
    "less_than_equal": "{} is above {le:g}",
    "less_than": "{} is not below {lt:g}",
}


class Model(pydantic.BaseModel):
    """What a file must say: immutable, no key that is not known, no value of another type.

    A validator raises ValueError with what is wrong; `mistakes` puts the key in front of it.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)


class FileMistakesError(Error, ValueError):
    """Mistakes in a file that a person wrote, all of them.

    Attributes:
        mistakes: Each begins with the key that it is about.
    """

    def __init__(self, where: str, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__(f"{where}: {count}:\n" + "\n".join(f"  - {mistake}" for mistake in mistakes))


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name!r} stands twice", key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep)


def loads(text: str) -> Any:
    """Decodes YAML.

    Raises:
        yaml.YAMLError: It is no YAML, or has a key twice; the message has the place.
    """
    return yaml.load(text, _Loader)


def decode(path: Path | str) -> Any:
    """Decodes a YAML file.

    Raises:
        FileMistakesError: It cannot be read, is no YAML, or has a key twice; the message has the place.
    """
    try:
        return loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise FileMistakesError(str(path), [f"cannot be read: {error.strerror or error}"]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FileMistakesError(str(path), [f"is no YAML: {error}"]) from error


def check(value: object, model: type[M], where: str, context: Any = None) -> M:
    """Checks a decoded value.

    Args:
        value: What stands there.
        model: What must stand there.
        where: The file, for the message.
        context: What validators of the model have to know.

    Raises:
        FileMistakesError: With all that is wrong.
    """
    try:
        return model.model_validate(_frozen(value), context=context)
    except pydantic.ValidationError as error:
        raise FileMistakesError(where, list(mistakes(error, model))) from None
    except RecursionError:
        raise FileMistakesError(where, ["an alias (*) stands within what it stands for"]) from None


def read(path: Path | str, model: type[M], context: Any = None) -> M:
    """Reads a YAML file that must be such a model.

    Raises:
        FileMistakesError: It cannot be read or is wrong; the message has all mistakes, each with its key.
    """
    return check(decode(path), model, str(path), context)


def _frozen(value: object) -> object:
    # Models are immutable, so their lists are tuples, for which `strict` takes no list.
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return value


def mistakes(error: pydantic.ValidationError, model: type[pydantic.BaseModel]) -> Iterator[str]:
    """What is wrong, in words: ``parts[2].weight: is text, and must be a number``."""
    for each in error.errors(include_url=False):
        key = key_of(each["loc"])
        yield f"{key}: {words(each, model)}" if key else words(each, model)


def key_of(place: tuple[int | str, ...]) -> str:
    """The path of a value as people write it: ``parts[2].weight``."""
    out = ""
    for step in place:
        out += f"[{step}]" if isinstance(step, int) else f".{step}" if out else step
    return out


def kind(value: object) -> str:
    """What a decoded value is, in words; short values are themselves."""
    return _KINDS.get(type(value), repr(value))


def words(each: Mapping[str, Any], model: type[pydantic.BaseModel]) -> str:
    """What is wrong with one value, in words, as pydantic's `errors` lists it."""
    what = each["type"]
    if what == "missing":
        return "is missing"
    if what == "extra_forbidden":
        known = _keys_beside(model, each["loc"])
        near = get_close_matches(str(each["loc"][-1]), known, 1, 0.7)
        return f"unknown key{f'; did you mean {near[0]}?' if near else ''}; known: {', '.join(known)}"
    if what in _MUST_BE:
        return f"is {kind(each['input'])}, and must be {_MUST_BE[what]}"
    if what == "value_error":
        return str(each["ctx"]["error"])
    if what == "string_pattern_mismatch":
        return f"{each['input']!r} does not have the form {each['ctx']['pattern'].strip('^$')}"
    if what == "string_too_short" and each["ctx"]["min_length"] == 1:
        return "is empty, and must be text"
    if what in _IS:
        return f"{each['input']!r} {_IS[what]}"
    if what in _LIMITS:
        return _LIMITS[what].format(each["input"], **each["ctx"])
    if what == "literal_error":
        known = [name.strip("'") for name in re.split(", | or ", each["ctx"]["expected"])]
        near = get_close_matches(str(each["input"]), known, 1, 0.6)
        return (
            f"{each['input']!r} is none of {', '.join(known)}{f'; did you mean {near[0]}?' if near else ''}"
        )
    return f"{each['input']!r}: {each['msg'][0].lower()}{each['msg'][1:]}"


def _keys_beside(model: type[pydantic.BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The keys that may stand where an unknown one does."""
    for step in place[:-1]:
        field = model.model_fields.get(str(step))
        if isinstance(step, str) and field is not None:
            inner = [t for t in _types(field.annotation) if issubclass(t, pydantic.BaseModel)]
            model = inner[0] if inner else model
    return [field.alias or name for name, field in model.model_fields.items()]


def _types(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _types(inner)
