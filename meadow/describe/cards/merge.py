"""Puts a card together, and merges it with the one that is there; `meadow.describe.cards` has the rules."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from meadow.describe.cards import frontmatter, markdown
from meadow.describe.cards.frontmatter import CardKind
from meadow.describe.cards.templates import render_markdown

#: The markers around each kind of part; text has none.
_MARKS = {"block": ("begin", "end"), "words": ("words", "end-words")}
_RECORD = re.compile(r"^Sections written: ([a-z0-9 -]*)$", re.MULTILINE)
_BROKEN = "The YAML that stood at the top of this card could not be read. Repair it and move it back:"


@dataclass(frozen=True, slots=True)
class CardPart:
    """A piece of a card's body: ``text``, a generated ``block``, or a section of ``words``."""

    kind: str
    name: str
    content: str
    digest: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.name


def make(
    kind: CardKind,
    template: Path | str,
    context: Mapping[str, Any],
    metadata: Mapping[str, Any],
    existing: str | None,
    words: str = "",
) -> str:
    """Makes a card's text.

    Args:
        kind: The kind of card.
        template: Of the whole body: generated blocks between their markers, and words outside of them.
        context: What the template names.
        metadata: The YAML keys that the kind owns; `pretty_name` is made of the title.
        existing: The card that is there.
        words: Words as Markdown that take the place of the template's. Blocks follow the sections that they
            follow in the template; where the words lack a section, its blocks come before the next section's.
    """
    fresh, made = _fresh(render_markdown(template, **context), words)
    title = _title(fresh) or markdown.title(words) or "Meadow"
    data = {key: value for key, value in {"pretty_name": title, **metadata}.items() if key in kind.owned}
    return _put_together(kind, data, fresh, made, existing or "")


def merge_cards(kind: CardKind, card: str, existing: str) -> str:
    """Merges a finished card with another copy of it that people may have edited, such as the Hub's.

    Generated blocks, sections of words that nobody edited there, and the YAML keys that Meadow owns become those
    of `card`; all else stays as it is in `existing`. Text between parts of `card` does not travel: whether
    it was deleted over there, or never was there, nobody can tell.
    """
    if not existing.strip():
        return card
    block, body = frontmatter.split(card)
    fresh = [part for part in _parse(body) if part.kind != "text"]
    made = {*kind.blocks} | {part.name for part in fresh if part.kind == "block"}
    return _put_together(kind, frontmatter.load(block), fresh, made, existing)


def _put_together(
    kind: CardKind,
    metadata: Mapping[str, Any],
    fresh: list[CardPart],
    made: Collection[str],
    existing: str,
) -> str:
    """A card of fresh parts and of what people wrote; `made` names all blocks, those left empty included."""
    block, body = frontmatter.split(existing)
    front = frontmatter.read(block, kind)
    parts = _merge(fresh, _parse(body), made)
    if front.broken:
        parts.append(CardPart("text", "", f"{_BROKEN}\n\n{markdown.fence(front.broken, 'yaml')}"))
    head = {key: metadata[key] for key in kind.owned if key in metadata}
    if "pretty_name" in head:
        head["pretty_name"] = _title(parts) or head["pretty_name"]
    if "tags" in head:
        head["tags"] = [*head["tags"], *(tag for tag in front.tags if tag not in head["tags"])]
    kept = front.kept.rstrip("\n")
    more = {key: value for key, value in metadata.items() if key not in (*kind.owned, *front.keys)}
    yaml = frontmatter.dump(head) + (f"{kept}\n" if kept else "") + frontmatter.dump(more)
    return f"---\n{yaml}---\n\n{_whole(parts)}"


def _title(parts: Sequence[CardPart]) -> str:
    """What a card is called: by its title, else by a person's text."""
    named = [part.content for part in parts if part.key == ("words", "title")]
    texts = [part.content for part in parts if part.kind == "text" and markdown.title(part.content)]
    return markdown.title([*named, *texts, ""][0])


def _fresh(body: str, words: str) -> tuple[list[CardPart], set[str]]:
    """The parts of a card that nobody has edited, and the names of all its blocks, those left empty included."""
    own: list[tuple[str, str]] = []
    waiting: list[tuple[str, CardPart]] = []  # blocks, each with the section that it follows
    section = "title"
    for part in _parse(body):
        if part.kind == "block":
            waiting.append((section, part))
            continue
        for section, content in sections(part.content):
            if not re.fullmatch(r"## [^\n]*", content):  # a heading alone only says where blocks go
                own.append((section, content))
    made = {part.name for _, part in waiting}
    found = sections(words) if words.strip() else own
    notice = render_markdown("notice.md.j2", sections=" ".join(name for name, _ in found))
    parts = [CardPart("block", "notice", notice.strip())]
    for name, content in found:
        parts.append(CardPart("words", name, content, _digest(content)))
        last = max((at for at, (section, _) in enumerate(waiting, 1) if section == name), default=0)
        parts += [part for _, part in waiting[:last]]
        del waiting[:last]
    parts += [part for _, part in waiting]
    return [part for part in parts if part.content], made


def sections(words: str) -> list[tuple[str, str]]:
    """Cuts words at their level-2 headings into (name, text with heading); what is before is ``title``."""
    words = words.replace("\r\n", "\n").removeprefix("\ufeff")
    cut: list[tuple[str, list[str]]] = [("title", [])]
    fence = ""
    for line in words.split("\n"):
        ticks = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if ticks and not fence:
            fence = ticks[1]
        elif ticks and ticks[1].startswith(fence) and not line.strip(" `~"):
            fence = ""
        heading = None if fence else re.match(r"## +(.*?)[ #]*$", line)
        if heading:
            name = markdown.slug(heading[1].lower()) or "section"
            same = sum(1 for known, _ in cut if re.fullmatch(rf"{re.escape(name)}(-\d+)?", known))
            cut.append((f"{name}-{same + 1}" if same else name, [line]))
        else:
            cut[-1][1].append(line)
    out = ((name, markdown.tame(_stripped("\n".join(lines)))) for name, lines in cut)
    return [(name, content) for name, content in out if content]


def _stripped(text: str) -> str:
    """Text without blanks at line ends and empty lines around it."""
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


def prose(card: str) -> dict[str, str]:
    """The words of a finished card, a person's too, by section and without headings and generated blocks."""
    _, body = frontmatter.split(card)
    words = [part.content for part in _parse(body) if part.kind != "block"]
    found = {name: re.sub(r"\A#.*\n*", "", content).strip() for name, content in sections("\n\n".join(words))}
    return {name: content for name, content in found.items() if content}


def _digest(content: str) -> str:
    """16 hex digits over the text, blanks at line ends and around it aside."""
    return hashlib.sha256(_stripped(content).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _parse(body: str) -> list[CardPart]:
    """Cuts a card's body into its parts; a marker without its other half is text."""
    lines = body.split("\n")
    marks = [(at, mark) for at, line in enumerate(lines) if (mark := markdown.MARKER.fullmatch(line.strip()))]
    kinds = {pair: kind for kind, pair in _MARKS.items()}
    parts, end = [], 0

    def content(start: int, stop: int | None) -> str:
        return "\n".join(lines[start:stop]).strip("\n")

    for (start, opening), (stop, closing) in pairwise(marks):
        kind = kinds.get((opening[1], closing[1]))
        if kind and opening[2] == closing[2]:
            parts.append(CardPart("text", "", content(end, start)))
            parts.append(CardPart(kind, opening[2], content(start + 1, stop), opening[3] or ""))
            end = stop + 1
    parts.append(CardPart("text", "", content(end, None)))
    return [part for part in parts if part.kind != "text" or part.content.strip()]


def _merge(fresh: Sequence[CardPart], old: Sequence[CardPart], made: Collection[str]) -> list[CardPart]:
    """Puts fresh parts into the `old` ones of an existing card; else as `_put_together`."""
    if not old:
        return list(fresh)
    new = {part.key: part for part in fresh}
    written: set[str] = set()
    out: list[CardPart] = []
    for part in old:
        known = new.get(part.key)
        if part.kind == "block":
            record = _RECORD.search(part.content) if part.name == "notice" else None
            written.update(record[1].split() if record else ())
            # One that this build leaves empty goes; one that Meadow never makes is a person's.
            replaced = known or part.name in made
        else:
            # Nobody edited it, or the new words have caught up with the edit.
            same = _digest(part.content)
            replaced = part.kind == "words" and (same == part.digest or (known and same == known.digest))
        if not replaced:
            out.append(part)
        elif known:
            out.append(known)
    present = {part.key for part in out}
    if not written and any(part.kind == "text" and markdown.title(part.content) for part in out):
        written.add("title")  # a card that a person began has its title
    order = [part.key for part in fresh]
    for at, part in enumerate(fresh):
        if part.key in present or (part.kind == "words" and part.name in written):
            continue
        later = set(order[at + 1 :])
        place = next((i for i, other in enumerate(out) if other.key in later), len(out))
        out.insert(place, part)
    return out


def _render(part: CardPart) -> str:
    if part.kind == "text":
        return part.content
    opening, closing = _MARKS[part.kind]
    first = f"meadow:{opening} {part.name} {part.digest}".rstrip()
    return f"<!-- {first} -->\n\n{part.content}\n\n<!-- meadow:{closing} {part.name} -->"


def without_blocks(card: str, names: Collection[str]) -> str:
    """A card without some of its generated blocks."""
    block, body = frontmatter.split(card)
    parts = [part for part in _parse(body) if part.key not in {("block", name) for name in names}]
    return f"---\n{block or ''}\n---\n\n{_whole(parts)}"


def texts(card: str) -> list[str]:
    """What people wrote between the parts of a card."""
    return [part.content for part in _parse(frontmatter.split(card)[1]) if part.kind == "text"]


def _whole(parts: Sequence[CardPart]) -> str:
    return "\n\n".join(map(_render, parts)) + "\n"
