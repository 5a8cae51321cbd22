"""Cards as collections and text exports hold them, before anything is rendered."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from .templates import CardTemplate, TemplateError


@dataclass(frozen=True)
class NoteType:
    """A note type: its fields by name, its card templates, and what it is for.

    Attributes:
        name: As people see it.
        cloze: Whether its cards are cloze numbers of its one template, not templates.
        occlusion: Whether its cards hide parts of an image.
        fields: Field names in order.
        sides: (template name, front, back) in order.
        problem: What is wrong with the note type itself; empty where nothing is.
    """

    name: str
    cloze: bool
    occlusion: bool
    fields: tuple[str, ...]
    sides: tuple[tuple[str, str, str], ...]
    problem: str = ""

    @cached_property
    def templates(self) -> tuple[CardTemplate | TemplateError, ...]:
        """The parsed templates; an error stands where one cannot be parsed."""
        parsed: list[CardTemplate | TemplateError] = []
        for _, front, back in self.sides:
            try:
                parsed.append(CardTemplate(front, back))
            except TemplateError as error:
                parsed.append(error)
        return tuple(parsed)


@dataclass(frozen=True, slots=True)
class Card:
    """A card with its note.

    Attributes:
        guid: The note's identifier, which stays the same wherever the deck travels.
        ord: Which card of the note: the template, or the cloze number less one.
        note_type: None where the collection has no such note type.
        fields: The note's fields, as HTML.
        tags: The note's tags.
        deck: The card's own deck, its path joined with ``::``.
        flag: The coloured flag, 0 for none.
    """

    guid: str
    ord: int
    note_type: NoteType | None
    fields: tuple[str, ...]
    tags: tuple[str, ...]
    deck: str
    flag: int = 0


@dataclass(frozen=True, slots=True)
class Stray:
    """A record that belongs to no card: a note without cards, or a card whose note is gone.

    Attributes:
        reason: For the funnel.
        id: What identifies it within the file.
        excerpt: The note's text, if there is one.
    """

    reason: str
    id: str
    excerpt: str = ""


def is_occlusion(name: str) -> bool:
    """Whether a note type hides parts of an image, by its name (Anki's own, and the older add-ons)."""
    return "imageocclusion" in "".join(c for c in name.lower() if c.isalnum())
