"""An exam's item, and when it can be scored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from meadow.core.errors import Error
from meadow.parse.options import INSTRUCTION, question_text

__all__ = ["WITH_IMAGE", "ExamError", "ExamItem", "lettered", "refuse", "row_item"]

#: Why an item is left out: its question cannot be answered from the text alone.
WITH_IMAGE = "with image"
#: Items that a message names before it counts the rest.
_MOST = 20
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class ExamError(Error):
    """An exam that cannot be used as it is.

    Attributes:
        problems: What is wrong, a sentence each with the id of its item; empty where the exam as a whole is.
    """

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        self.problems = tuple(problems)
        lines = [f"  {line}" for line in self.problems[:_MOST]]
        if len(self.problems) > _MOST:
            lines.append(f"  and {len(self.problems) - _MOST} more")
        super().__init__("\n".join([message, *lines]))


@dataclass(frozen=True)
class ExamItem:
    """A question with options, of which one is right.

    Attributes:
        id: Unique in its exam, and the same in every build of it.
        question: The question without its options, and without the text that it is about.
        options: The texts of the options by their letter, A first.
        answer_key: The letter of the right one.
        part: What of the exam it belongs to: ``step1``, the split's name, or what a file's ``part`` says.
        input: The `input` of the row, options included, as the dataset writes it.
        instruction: The `instruction` of the row.
        context: The text that the question is about, such as an abstract; empty for most.
    """

    id: str
    question: str
    options: Mapping[str, str]
    answer_key: str
    part: str
    input: str
    instruction: str = INSTRUCTION
    context: str = ""

    def text(self, options: Mapping[str, str] | None = None) -> str:
        """The question as a prompt holds it: question, context, and a line ``X: text`` for each option.

        Args:
            options: Other options in place of its own, such as the same in another order.
        """
        asked = f"{self.question}\n\n{self.context}" if self.context else self.question
        return question_text(asked, self.options if options is None else options)


def row_item(row: Mapping[str, Any], part: str) -> ExamItem:
    """The item in a row of a dataset.

    Raises:
        ValueError: It cannot be scored.
    """
    options = {option["key"]: option["text"] for option in row.get("options") or ()}
    if len(options) < len(row.get("options") or ()):
        raise ValueError("two options have one letter")
    written = row["input"] or ""
    listed = "\n\n" + "\n".join(f"{key}: {text}" for key, text in options.items())
    question, context = written.removesuffix(listed), ""
    if question == written:
        # A question in front of the text that it is about; a vignette has its question at its end.
        head, _, rest = question.partition("\n\n")
        if rest and head.rstrip().endswith("?"):
            question, context = head, rest
    options, answer, instruction = lettered(options, row.get("answer_key"), row["instruction"])
    return ExamItem(row["id"], question, options, answer, part, written, instruction, context)


def lettered(
    options: Mapping[str, str], answer: Any, instruction: str = INSTRUCTION
) -> tuple[Mapping[str, str], str, str]:
    """Checks options and answer, and gives letters to options that are known by their text (yes, no, maybe).

    Raises:
        ValueError: They cannot be scored.
    """
    if len(options) < 2:
        raise ValueError(f"it has {'one option' if options else 'no options'}; two are needed")
    key = "" if answer is None else str(answer).strip()
    if all(k.strip().casefold() == text.strip().casefold() for k, text in options.items()):
        if key not in options:
            raise ValueError(f"the answer {key[:40]!r} is none of its options {', '.join(options)}")
        letters = dict(zip(options, LETTERS, strict=False))
        options = {letters[k]: text for k, text in options.items()}
        # "Answer with yes, no or maybe" would ask for another form than the letters.
        key, instruction = letters[key], INSTRUCTION
    foreign = [k for k in options if not re.fullmatch("[A-Z]", k)]
    if foreign:
        raise ValueError(
            f"options are not letters: {', '.join(repr(k[:20]) for k in foreign)}; name them A, B, C..."
        )
    blank = [k for k, text in options.items() if not isinstance(text, str) or not text.strip()]
    if blank:
        raise ValueError(f"option {', '.join(blank)} has no text")
    if len({" ".join(text.split()).casefold() for text in options.values()}) < len(options):
        raise ValueError("two options have the same text")
    if key not in options:
        raise ValueError(f"the answer {key[:40]!r} is no option; there are {', '.join(options)}")
    return dict(sorted(options.items())), key, instruction


def refuse(what: str, problems: list[str]) -> None:
    """Refuses an exam with items that cannot be scored.

    Raises:
        ExamError: There are some; the message names them.
    """
    if problems:
        many = "1 item cannot" if len(problems) == 1 else f"{len(problems)} items cannot"
        raise ExamError(f"{what}: {many} be scored; repair or remove them (nothing was scored):", problems)
