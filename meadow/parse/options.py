"""What sources of multiple-choice questions share: checking options, and writing a question out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from meadow.core.row import Option
from meadow.parse.records import UnusableRecordError

#: The instruction of every multiple-choice row.
INSTRUCTION = "Please answer with one of the options"
_LETTER = re.compile(r"[A-Z]")


def read_options(found: Any) -> dict[str, str]:
    """Checks the options of a question, an object of letters and texts, two or more.

    Returns them in the order of the letters, texts stripped outside and kept inside.

    Raises:
        UnusableRecordError: It is no such object, or two options have the same text.
    """
    if not isinstance(found, dict) or len(found) < 2:
        raise UnusableRecordError(
            "options are no object of letters and texts", f"options is {str(found)[:80]!r}"
        )
    options = {}
    for key in sorted(found):
        if not _LETTER.fullmatch(key):
            raise UnusableRecordError("option without a letter", f"its key is {key[:20]!r}")
        if not isinstance(found[key], str) or not found[key].strip():
            raise UnusableRecordError("option without text", f"option {key}")
        options[key] = found[key].strip()
    if len({" ".join(text.split()) for text in options.values()}) < len(options):
        raise UnusableRecordError("two options with the same text", str(options)[:200])
    return options


def question_text(question: str, options: Mapping[str, str]) -> str:
    """The `input` of a row: the question, a blank line, and one line for each option."""
    return question + "\n\n" + "\n".join(f"{key}: {text}" for key, text in options.items())


def as_options(options: Mapping[str, str]) -> tuple[Option, ...]:
    """The `options` of a row."""
    return tuple(Option(key, text) for key, text in options.items())
