"""What is compared with: an exam, and an item of one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class ExamText(NamedTuple):
    """One question of an exam.

    Attributes:
        id: Unique in its exam.
        question: The question without its options and without the text that it is about.
        options: The texts of the choices, if it has any.
        answer: The right answer's text; empty where nobody tells it.
        context: The text that the question is about, such as an abstract.
    """

    id: str
    question: str
    options: tuple[str, ...] = ()
    answer: str = ""
    context: str = ""


@dataclass(frozen=True)
class ExamSource:
    """Where the items of an exam come from; `Index.build` reads them once.

    Attributes:
        name: The exam's name: a dataset of ours or a file's name.
        version: Its version; empty for a file.
        split: Which of its splits; empty for a file.
        sample: Whether it is an embedded sample in place of the real exam.
        items: Its items.
    """

    name: str
    version: str
    split: str
    sample: bool
    items: Iterable[ExamText]


@dataclass(frozen=True)
class IndexedExam:
    """An indexed exam.

    Attributes:
        name: Its name.
        version: Its version; empty for a user's file.
        split: Its split; empty for a user's file.
        sample: Whether it is an embedded sample.
        items: How many items were indexed and can be found.
        unjudged: Items besides, which hold too little text of their own to be told from any other text.
        sha256: Over the sorted items: what was compared with, whatever its order.
    """

    name: str
    version: str
    split: str
    sample: bool
    items: int
    unjudged: int
    sha256: str

    @property
    def title(self) -> str:
        """Name and split, as reports show it."""
        return f"{self.name} {self.split}".strip()
