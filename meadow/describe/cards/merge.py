"""Puts a card together, and merges it with the one that is there; `meadow.describe.cards` has the rules."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from meadow.describe.cards import markdown
from meadow.describe.cards.frontmatter import Front, dump, read_front
from meadow.describe.cards.metadata import OWNED

#: The markers around each kind of part; text has none.
_MARKS = {"block": ("begin", "end"), "words": ("words", "end-words")}
_MARKER = re.compile(r"<!-- meadow:(begin|end|words|end-words) ([a-z0-9][a-z0-9-]*)(?: ([0-9a-f]{16}))? -->")
_RECORD = re.compile(r"^Sections written: ([a-z0-9 -]*)$", re.MULTILINE)
_NOTICE = """\
<!--
Meadow wrote this card. Blocks between "meadow:begin" and "meadow:end" are generated: edits there
are lost with the next build. Edit or delete sections of words, and write between them, as you
like: a build keeps that. It replaces its own YAML keys and keeps yours.
Sections written: {sections}
-->"""

#: Sections of words and, in order, the generated blocks that go after each: their names and Markdown.
Blocks = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of a card's body: ``text``, a generated ``block``, or a section of ``words``."""

    kind: str
    name: str
    content: str
    digest: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.name


def assemble(metadata: Mapping[str, Any], words: str, blocks: Blocks, existing: str | None) -> str:
    """Makes a card's text.

    Args:
        metadata: The YAML keys in `OWNED`, `pretty_name` aside, which is the title's text.
        words: The words as Markdown.
        blocks: The generated blocks; where the words lack a section, its blocks come before the next
            section's. Empty ones are left out.
        existing: The card that is there.
    """
    existing = (existing or "").replace("\r\n", "\n").removeprefix("\ufeff")
    front, body = read_front(existing) if existing.strip() else (Front(), "")
    made = {name for names in blocks.values() for name in names}
    parts = _merge(_fresh(words, blocks), _parse(body), made)
    if front.broken:
        note = "The YAML that stood at the top of this card could not be read. Repair it and move it back:"
        parts.append(_Part("text", "", f"{note}\n\n{markdown.fence(_tame(front.broken), 'yaml')}"))
    title = next((p.content for p in parts if p.key == ("words", "title")), None)
    if title is None:
        title = next((p.content for p in parts if p.kind == "text" and markdown.title(p.content)), "")
    data = {"pretty_name": markdown.title(title) or markdown.title(words) or "Meadow", **metadata}
    data["tags"] = [*metadata["tags"], *(tag for tag in front.tags if tag not in metadata["tags"])]
    head = dump({key: data[key] for key in OWNED if key in data})
    if front.kept:
        head += front.kept.rstrip("\n") + "\n"
    return f"---\n{head}---\n\n" + "\n\n".join(_render(part) for part in parts) + "\n"


def _fresh(words: str, blocks: Blocks) -> list[_Part]:
    """The body of a card that nobody has edited."""
    found = sections(words)
    parts = [_Part("block", "notice", _NOTICE.format(sections=" ".join(name for name, _ in found)))]
    waiting = [
        (section, _Part("block", name, _tame(content.strip("\n"))))
        for section, made in blocks.items()
        for name, content in made.items()
    ]
    order = list(blocks)
    for name, content in found:
        parts.append(_Part("words", name, content, _digest(content)))
        done = order[: order.index(name) + 1] if name in order else []
        parts += [part for section, part in waiting if section in done]
        waiting = [(section, part) for section, part in waiting if section not in done]
    parts += [part for _, part in waiting]
    return [part for part in parts if part.content]


def sections(words: str) -> list[tuple[str, str]]:
    """Cuts words at their level-2 headings.

    Returns:
        (name, text with its heading) of each, the part before the first heading as ``title``.
    """
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
    out = [(name, _tame("\n".join(line.rstrip() for line in lines).strip("\n"))) for name, lines in cut]
    return [(name, content) for name, content in out if content]


def prose(card: str) -> dict[str, str]:
    """The words of a finished card, by section and without headings; generated blocks are left out.

    Sections that a person wrote between those that Meadow knows are among them.
    """
    _, body = read_front(card.replace("\r\n", "\n").removeprefix("\ufeff"))
    words = [part.content for part in _parse(body) if part.kind != "block"]
    found = {name: re.sub(r"\A#.*\n*", "", content).strip() for name, content in sections("\n\n".join(words))}
    return {name: content for name, content in found.items() if content}


def _tame(content: str) -> str:
    """Takes the meaning from lines that read as markers, so that they cannot end a part early."""
    return "\n".join(
        line.replace("<!--", "&lt;!--") if _MARKER.fullmatch(line.strip()) else line
        for line in content.split("\n")
    )


def _digest(content: str) -> str:
    """16 hex digits over the text, blanks at line ends and around it aside."""
    text = "\n".join(line.rstrip() for line in content.split("\n")).strip("\n")
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _parse(body: str) -> list[_Part]:
    """Cuts a card's body into its parts; a marker without its other half is text."""
    lines = body.split("\n")
    marks = [(at, mark) for at, line in enumerate(lines) if (mark := _MARKER.fullmatch(line.strip()))]
    kinds = {pair: kind for kind, pair in _MARKS.items()}
    parts, end = [], 0
    for (start, opening), (stop, closing) in pairwise(marks):
        kind = kinds.get((opening[1], closing[1]))
        if kind and opening[2] == closing[2]:
            content = "\n".join(lines[start + 1 : stop]).strip("\n")
            parts += [*_text(lines[end:start]), _Part(kind, opening[2], content, opening[3] or "")]
            end = stop + 1
    return [*parts, *_text(lines[end:])]


def _text(lines: Sequence[str]) -> list[_Part]:
    content = "\n".join(lines).strip("\n")
    return [_Part("text", "", content)] if content.strip() else []


def _merge(fresh: Sequence[_Part], old: Sequence[_Part], made: set[str]) -> list[_Part]:
    """Puts fresh parts into an existing card.

    Args:
        fresh: The parts of a card that nobody has edited.
        old: The parts of the card that is there.
        made: The names of all blocks that Meadow makes, those left empty included.
    """
    if not old:
        return list(fresh)
    new = {part.key: part for part in fresh}
    written: set[str] = set()
    out: list[_Part] = []
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


def _render(part: _Part) -> str:
    if part.kind == "text":
        return part.content
    opening, closing = _MARKS[part.kind]
    first = f"meadow:{opening} {part.name} {part.digest}".rstrip()
    return f"<!-- {first} -->\n\n{part.content}\n\n<!-- meadow:{closing} {part.name} -->"


def merge_bodies(body: str, existing: str, made: Collection[str]) -> str:
    """Merges a finished card's body into another copy of the card that people may have edited, such as the Hub's.

    Generated blocks, and sections of words that nobody edited there, become those of `body`; all else stays as
    it is in `existing`. Text between the parts of `body` is a person's on this side and does not travel: whether
    it was deleted over there, or never was there, nobody can tell.

    Args:
        body: The finished body.
        existing: The body of the copy; where it is empty, `body` is taken whole.
        made: The names of all blocks that Meadow makes. Those that are not in `body` are taken away.
    """
    if not existing.strip():
        return body
    fresh = [part for part in _parse(body) if part.kind != "text"]
    blocks = {part.name for part in fresh if part.kind == "block"}
    return _whole(_merge(fresh, _parse(existing), blocks | set(made)))


def without_blocks(body: str, names: Collection[str]) -> str:
    """A card's body without some of its generated blocks."""
    return _whole([part for part in _parse(body) if part.key not in {("block", name) for name in names}])


def texts(body: str) -> list[str]:
    """What people wrote between the parts of a card's body."""
    return [part.content for part in _parse(body) if part.kind == "text"]


def _whole(parts: Sequence[_Part]) -> str:
    return "\n\n".join(_render(part) for part in parts) + "\n"
