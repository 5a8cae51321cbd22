"""What sources of multiple-choice questions share: checking options, and writing a question out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from meadow.core.row import Option

#: The instruction of every multiple-choice row.
INSTRUCTION = "Please answer with one of the options"
_LETTER = re.compile(r"[A-Z]")


class RecordError(Exception):
    """A record that cannot become a row; its builder yields it as `meadow.core.row.Rejected`.

    Attributes:
        reason: Short and constant, for the funnel.
        detail: The particulars of this record.
        remedy: What to do about it; None for what the source says of all its records.
    """

    def __init__(self, reason: str, detail: str = "", remedy: str | None = None) -> None:
        super().__init__(reason, detail, remedy)
        self.reason, self.detail, self.remedy = reason, detail, remedy


def read_options(found: Any) -> dict[str, str]:
    """Checks the options of a question, an object of letters and texts, two or more.

    Returns:
        Letter to text in the order of the letters; texts are stripped outside and kept inside.

    Raises:
        RecordError: It is no such object, or two options have the same text.
    """
    if not isinstance(found, dict) or len(found) < 2:
        raise RecordError("options are no object of letters and texts", f"options is {str(found)[:80]!r}")
    options = {}
    for key in sorted(found):
        if not _LETTER.fullmatch(key):
            raise RecordError("option without a letter", f"its key is {key[:20]!r}")
        if not isinstance(found[key], str) or not found[key].strip():
            raise RecordError("option without text", f"option {key}")
        options[key] = found[key].strip()
    if len({" ".join(text.split()) for text in options.values()}) < len(options):
        raise RecordError("two options with the same text", str(options)[:200])
    return options


def question_text(question: str, options: Mapping[str, str]) -> str:
    """The `input` of a row: the question, a blank line, and one line for each option."""
    return question + "\n\n" + "\n".join(f"{key}: {text}" for key, text in options.items())


def as_options(options: Mapping[str, str]) -> tuple[Option, ...]:
    """The `options` of a row."""
    return tuple(Option(key, text) for key, text in options.items())


def excerpt(record: Any) -> str:
    """What to recognise a rejected record by: its question, else all of it, shortened."""
    question = record.get("question") if isinstance(record, dict) else None
    return str(question if question is not None else record)[:500]
