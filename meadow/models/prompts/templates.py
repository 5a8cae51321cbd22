"""Templates: how a question is put to a model, as data."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import pydantic

from meadow.core.errors import Error
from meadow.core.yamlfile import mistakes

#: The file of a model folder that holds the template the model was trained with.
FILE = "meadow_template.json"

_PLACE = re.compile(r"\{(instruction|input)\}")
_FORMAT = 1


class PromptError(Error):
    """A template that is unknown or malformed, or that cannot be used with a tokenizer."""


def _holding(places: list[str], rule: str) -> Any:
    def check(text: str) -> str:
        if sorted(_PLACE.findall(text)) != places:
            raise ValueError(f"must hold {rule}")
        return text

    return pydantic.AfterValidator(check)


@pydantic.dataclasses.dataclass(frozen=True, config={"extra": "forbid"})
class Template:
    """How a question is put to a model.

    Attributes:
        name: What it is called by.
        kind: ``text``: the prompt is the text below. ``chat``: the text below is the user's message, and the
            model's own chat template says what stands around it.
        with_input: Text with ``{instruction}`` and ``{input}``, once each; the answer follows its end.
        without_input: The same for rows without an input; both end with the same words.
        answer_lead: What stands between prompt and answer and belongs to the answer's first token. A space
            where the prompt ends with a word or a colon: tokenizers keep a space with the word after it.
        system: A chat's system message; empty: none.
        bos: ``tokenizer``: as the tokenizer itself begins a sequence; ``always`` or ``never``. Of no
            meaning for a chat, whose template says it.
        stop: Texts that end an answer when the model goes on to the next question by itself.
        chat_template: The chat template (Jinja); None: the tokenizer's own.
        source: Where the words come from.

    Raises:
        pydantic.ValidationError: It is none; see `from_dict`.
    """

    name: str
    kind: Literal["text", "chat"]
    with_input: Annotated[str, _holding(["input", "instruction"], "{instruction} and {input} once each")]
    without_input: Annotated[str, _holding(["instruction"], "{instruction} once, and no {input}")]
    answer_lead: str = ""
    system: str = ""
    bos: Literal["tokenizer", "always", "never"] = "tokenizer"
    stop: tuple[Annotated[str, pydantic.Field(min_length=1)], ...] = ()
    chat_template: str | None = None
    source: str = ""

    @pydantic.model_validator(mode="after")
    def _ends(self) -> Self:
        ends = [_PLACE.split(text)[-1] for text in (self.with_input, self.without_input)]
        if self.kind == "text" and ends[0] != ends[1]:
            raise ValueError(
                f"with_input and without_input must end alike, not with {ends[0]!r} and {ends[1]!r}"
            )
        if self.kind == "text" and not ends[0].strip():
            raise ValueError("words must stand between the last placeholder and the answer, as '\\nAnswer:'")
        return self

    @property
    def tail(self) -> str:
        """The fixed words after the last thing that a row says; for a text, what an answer follows."""
        return _PLACE.split(self.with_input)[-1]

    def fill(self, instruction: str, input: str = "") -> str:  # noqa: A002
        """The text with a row's words in place; braces and backslashes in those are left as they are."""
        words = {"instruction": instruction, "input": input}
        return _PLACE.sub(lambda place: words[place[1]], self.with_input if input else self.without_input)

    def to_dict(self) -> dict[str, Any]:
        """The whole definition, for JSON."""
        return {"format": _FORMAT, **dataclasses.asdict(self), "stop": list(self.stop)}

    @classmethod
    def from_dict(cls, found: Any) -> Template:
        """The template of such a definition; a `PromptError` names what is wrong with it."""
        if not isinstance(found, dict):
            raise PromptError("a template is a JSON object with name, kind, with_input and without_input")
        given = {key: value for key, value in found.items() if key != "format"}
        if found.get("format", _FORMAT) != _FORMAT:
            raise PromptError(
                f"format {found['format']!r} is not {_FORMAT}: it was written by another Meadow"
            )
        try:
            return cls(**given)
        except pydantic.ValidationError as error:
            raise PromptError("; ".join(mistakes(error, pydantic.BaseModel))) from None


_KNOWN = json.loads(Path(__file__).with_name("templates.json").read_text(encoding="utf-8"))
#: The templates by name.
TEMPLATES: Mapping[str, Template] = MappingProxyType(
    {found["name"]: Template.from_dict(found) for found in _KNOWN}
)


def get(name: str) -> Template:
    """The template of that name, or of a JSON file as `save` writes them; else a `PromptError`."""
    if name in TEMPLATES:
        return TEMPLATES[name]
    if name.endswith(".json"):
        return _read(Path(name))
    raise PromptError(
        f"no template is named {name!r}; there are: {', '.join(TEMPLATES)}, or the path of a .json file as "
        f"{FILE} in a model folder"
    )


def load(folder: Path | str) -> Template | None:
    """The template that a model folder holds, None where it holds none; a `PromptError` if it is damaged."""
    path = Path(folder) / FILE
    return _read(path) if path.is_file() else None


def _read(path: Path) -> Template:
    try:
        return Template.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise PromptError(f"{path}: {error.strerror or error}") from error
    except (ValueError, PromptError) as error:
        raise PromptError(f"{path}: no template: {error}") from error
