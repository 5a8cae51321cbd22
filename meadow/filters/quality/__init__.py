"""Leaves out rows that cannot teach anything, and repairs damaged encodings where that is certain.

A row that is dropped by mistake is lost in silence, one that is kept by mistake is one among many: each
rule asks for evidence in the text itself, and where a sign is ambiguous the row stays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from meadow.core.quality import Quality
from meadow.core.row import Example, Rejected
from meadow.filters.quality.answers import (
    SAME_OPTIONS,
    only_link,
    only_reference,
    problem_of_options,
    repeats,
    truncated,
)
from meadow.filters.quality.pictures import picture
from meadow.filters.quality.text import damage, debris, editorial, repaired

if TYPE_CHECKING:
    from meadow.core.parts import Seen

ENCODING = "encoding damage"
DEBRIS = "markup debris"
EDITORIAL = "editorial text"
LINK = "answer is only a link"
REFERENCE = "answer is only a reference"
PICTURE = "question needs a picture"
TRUNCATED = "truncated text"
REPEATS = "answer repeats the question"

#: What is counted of rows that stay.
REPAIRED = "encoding repaired"
MENTIONS_PICTURE = "mentions a picture"


class QualityFilter:
    """The row filter of these rules; see `meadow.filters`."""

    stage = "quality"

    def __init__(self, thresholds: Quality) -> None:
        self.thresholds = thresholds

    def __call__(self, example: Example, seen: Seen) -> Example | Rejected:
        """Returns the row, its encoding repaired where that was needed, or why it is left out.

        Input, output and options are repaired alike, so that an answer still reads as its option does.
        """
        thresholds = self.thresholds
        if thresholds.repair:
            example = _repair(example, seen)
        problem = self._problem(example, seen)
        if problem is None:
            return example
        reason, detail = problem
        excerpt = example.input if reason in (PICTURE, SAME_OPTIONS) else example.output or example.input
        return Rejected(
            reason, example.id, " ".join(detail.split())[:200], "", excerpt[:500], configs=example.configs
        )

    def _problem(self, example: Example, seen: Seen) -> tuple[str, str] | None:
        thresholds = self.thresholds
        question, answer = example.input, example.output.strip()
        if not answer:
            return None  # `meadow.core.row.problem` says so
        for text in (question, answer):
            lost = damage(text, thresholds.replacement_characters)
            if lost is not None:
                return ENCODING, lost
        if thresholds.debris:
            found = debris(answer) or debris(question)
            if found is not None:
                return DEBRIS, f"{found[0]}: {found[1]}"
        if thresholds.editorial:
            words = editorial(question, answer)
            if words is not None:
                return EDITORIAL, words
        if thresholds.links and only_link(answer):
            return LINK, answer
        if thresholds.references and only_reference(answer):
            return REFERENCE, answer
        if thresholds.repeats and repeats(question, answer):
            return REPEATS, answer
        if example.options:
            if thresholds.options:
                found = problem_of_options(example)
                if found is not None:
                    return found
        elif thresholds.truncated:
            end = truncated(answer, thresholds)
            if end is not None:
                return TRUNCATED, f"it ends {end!r}"
        needed, words = picture(question)
        if needed and thresholds.pictures:
            return PICTURE, words
        if words:
            seen.note("quality", MENTIONS_PICTURE)
        return None


def _repair(example: Example, seen: Seen) -> Example:
    question, answer = repaired(example.input), repaired(example.output)
    options = example.options
    if options and not all(option.text.isascii() for option in options):
        # With its letter, as it stands in the question, so that it is repaired as there.
        options = tuple(
            replace(option, text=repaired(f"{option.key}: {option.text}")[len(option.key) + 2 :])
            for option in options
        )
    if question == example.input and answer == example.output and options == example.options:
        return example
    seen.note("quality", REPAIRED)
    return replace(example, input=question, output=answer, options=options)
