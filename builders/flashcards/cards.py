"""A card of a collection or a text export, as a question and an answer; or why it cannot be one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from meadow import Rejected
from meadow.parse.records import UnusableRecordError

from .cardtext import Side, answer_text, dependence, has_text, read_side
from .templates import CardFront, CardTemplate, TemplateError, clean

#: What to do where a collection does not hold together.
CHECK = 'In Anki, run "Check Database" and export the deck again.'
#: A whole book chapter on a card is some 50,000 characters; beyond this something else was pasted in.
MAX_CARD = 200_000
# Pictures written into a field instead of beside it; what they hold is never text.
_DATA_URI = re.compile(r"\bdata:[^\"'\s<>]{500,}")
_FIX_TEMPLATE = "Open the deck in Anki, correct the note type's card template, and export it again."


@dataclass(frozen=True)
class NoteType:
    """A note type.

    Attributes:
        cloze: Whether its cards are cloze numbers of its one template, not templates.
        fields: Field names in order.
        sides: (template name, front, back) in order.
        is_stock_occlusion: Whether it is Anki's own for images with hidden parts, under whatever name.
        problem: What is wrong with the note type itself; empty where nothing is.
    """

    name: str
    cloze: bool
    fields: tuple[str, ...]
    sides: tuple[tuple[str, str, str], ...]
    is_stock_occlusion: bool = False
    problem: str = ""

    @property
    def occlusion(self) -> bool:
        """Whether its cards hide parts of an image: Anki's own, or by its name an older add-on's."""
        name = "".join(c for c in self.name.lower() if c.isalnum())
        return self.is_stock_occlusion or "imageocclusion" in name

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

    `guid` stays the same wherever the deck travels, `ord` is the template or the cloze number less one,
    `note_type` is None where the collection has none, `fields` are HTML, `deck` is the card's own, a path
    joined with ``::``, and `flag` is 0 for none.
    """

    guid: str
    ord: int
    note_type: NoteType | None
    fields: tuple[str, ...]
    tags: tuple[str, ...]
    deck: str
    flag: int = 0


def readable(text: str) -> str:
    """Makes text of a damaged file fit for a report."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x1f", " / ")


def stray(reason: str, path: str, where: str, fields: str = "", remedy: str = "") -> Rejected:
    """A record that belongs to no card: a note without cards, or a card whose note is gone."""
    return Rejected(reason, f"{path}: {where}", "", remedy, readable(fields)[:500])


def read_card(card: Card) -> tuple[str, str, bool]:
    """Renders a card: its front, what the back adds (a cloze's hidden words first), whether it is a cloze.

    Raises:
        UnusableRecordError: It does not read without its media, or cannot be read at all.
    """
    from bs4.exceptions import ParserRejectedMarkup  # late: listing datasets needs no parser

    where = f"note type {card.note_type.name!r}" if card.note_type else "note type unknown"
    try:
        return _read(card)
    except UnusableRecordError as problem:
        problem.detail = readable(f"{where}: {problem.detail}" if problem.detail else where)
        problem.excerpt = readable(problem.excerpt or " / ".join(card.fields))
        raise
    except TemplateError as error:
        detail, fields = readable(f"{where}: {error}"), readable(" / ".join(card.fields))
        raise UnusableRecordError("card template is faulty", detail, _FIX_TEMPLATE, fields) from error
    except ParserRejectedMarkup as error:
        raise UnusableRecordError("markup cannot be read", readable(f"{where}: {error}")) from error


def _read(card: Card) -> tuple[str, str, bool]:
    kind = _note_type(card)
    at = 0 if kind.cloze else card.ord
    template, number = kind.templates[at], card.ord + 1
    if isinstance(template, TemplateError):
        raise template
    fields = _fields(card, kind, at)
    front = template.front(fields, number)
    if kind.cloze and not front.hidden:
        raise UnusableRecordError("cloze is not on the front", f"the front shows no cloze number {number}")
    question = read_side(front.html, front=True)
    answer = _answer(template, fields, number, front, question)
    media = {name: side for name in kind.fields if (side := read_side(fields[name], front=False)).media}
    asked = question.text
    if media:
        bare = {**fields, **{name: "" for name, side in media.items() if not side.has_text}}
        blank = dict.fromkeys(fields, "")
        bare_front, blank_front = template.front(bare, number), template.front(blank, number)
        # What the template says by itself is the same on every card, so it cannot be what one asks.
        literal = read_side(blank_front.html, front=True).text.split()
        asked = " ".join(word for word in asked.split() if word not in literal)
        if not front.hidden:
            reason = dependence(Side("", question.media), answer)
            if reason and question.media and not bare_front.has_field:
                raise UnusableRecordError(reason, excerpt=question.text)
            rest = read_side(template.back(bare, number, bare_front), front=False).text
            same = read_side(template.back(blank, number, blank_front), front=False).text
            reason = dependence(question, Side("", answer.media))
            if reason and answer.media and rest.split() == same.split():
                raise UnusableRecordError(reason, excerpt=question.text)
    if reason := dependence(question, answer, asked, list(media.values())):
        raise UnusableRecordError(reason, excerpt=question.text or answer.text)
    if not front.has_field or not question.has_text:
        raise UnusableRecordError("empty front", excerpt=answer.text)
    if not answer.has_text:
        raise UnusableRecordError("empty back", excerpt=question.text)
    return question.text, answer.text, bool(front.hidden)


def _note_type(card: Card) -> NoteType:
    """The card's note type, if that and the card fit each other and can be read."""
    kind = card.note_type
    if kind is None:
        raise UnusableRecordError("unknown note type", remedy=CHECK)
    if kind.problem:
        raise UnusableRecordError("unreadable note type", kind.problem, CHECK)
    if kind.occlusion or any("image-occlusion:" in value for value in card.fields):
        raise UnusableRecordError("image occlusion")
    if len(card.fields) != len(kind.fields):
        detail = f"the note has {len(card.fields)} fields, its note type {len(kind.fields)}"
        raise UnusableRecordError("fields do not match the note type", detail, CHECK)
    if (0 if kind.cloze else card.ord) >= len(kind.sides):
        detail = f"card {card.ord + 1} of {len(kind.sides)} templates"
        raise UnusableRecordError("card without a template", detail, CHECK)
    try:
        "".join((card.guid, card.deck, kind.name, *card.tags, *card.fields)).encode()
    except UnicodeEncodeError as error:  # decoding has left lone surrogates
        raise UnusableRecordError("invalid UTF-8", "a field, tag or name is no UTF-8 text", CHECK) from error
    return kind


def _fields(card: Card, kind: NoteType, at: int) -> dict[str, str]:
    """What the template's fields hold, Anki's special fields first."""
    values = [_DATA_URI.sub("data:", clean(value)) for value in card.fields]
    if sum(map(len, values)) > MAX_CARD:
        raise UnusableRecordError("card too long", f"over {MAX_CARD:,} characters")
    return {
        "Tags": " ".join(card.tags),
        "Type": kind.name,
        "Deck": card.deck,
        "Subdeck": card.deck.rpartition("::")[2],
        "Card": kind.sides[at][0],
        "CardFlag": f"flag{card.flag}" if card.flag else "",
        **dict(zip(kind.fields, values, strict=True)),
    }


def _answer(
    template: CardTemplate, fields: Mapping[str, str], number: int, front: CardFront, question: Side
) -> Side:
    """What the back adds to the front; for a cloze card the hidden words, then that."""
    stub = read_side(template.front_stub(fields, number), front=True) if front.clozes else question
    back = read_side(template.back(fields, number, front), front=False)
    extra = answer_text(back.text, stub.text)
    if not front.hidden:
        return Side(extra, back.media)
    hidden = [read_side(html, front=False) for html in front.hidden]
    if not any(side.has_text or side.media for side in hidden):
        raise UnusableRecordError("cloze hides nothing", f"cloze number {number}")
    # A blank that only a picture or sound fills leaves the card without its answer, whatever the back adds.
    lost = any(side.media and not side.has_text for side in hidden)
    words = list(dict.fromkeys(side.text for side in hidden if side.has_text))
    media = back.media.union(*(side.media for side in hidden))
    return Side("" if lost else _join(words, extra), media)


def _join(words: list[str], extra: str) -> str:
    separator = "\n\n" if any("\n" in word for word in words) else "; "
    return "\n\n".join(part for part in (separator.join(words), extra) if has_text(part))
