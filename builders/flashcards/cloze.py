"""Cloze deletions: ``{{c1::text::hint}}`` in a field, by Anki's rules for nesting, hints and stray braces."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_CLOZE = re.compile(r"\{\{c([0-9,]+)::|\}\}")
#: How deep Anki lets clozes nest.
_MAX_CLOZES = 10
_FORMULAS = (("\\(", "\\)"), ("\\[", "\\]"), ("[$]", "[/$]"), ("[$$]", "[/$$]"))


@dataclass(slots=True)
class Cloze:
    """``{{c1::nodes::hint}}``; a cloze may have several numbers and hold further clozes."""

    numbers: frozenset[int]
    nodes: list[str | Cloze] = field(default_factory=list)
    hint: str | None = None


def read_clozes(text: str) -> list[str | Cloze]:
    """Cuts a field at its clozes, by Anki's rules for hints, stray and missing braces."""
    out: list[str | Cloze] = []
    stack: list[Cloze] = []

    def add_text(part: str) -> None:
        if not part:
            return
        if not stack:
            out.append(part)
            return
        head, colons, tail = part.partition("::")
        if colons:
            stack[-1].hint = tail
        stack[-1].nodes.append(head)

    at = 0
    for match in _CLOZE.finditer(text):
        add_text(text[at : match.start()])
        at = match.end()
        if match[1] is not None:
            numbers = frozenset(int(n) for n in match[1].split(",") if n and len(n) < 6)
            if len(stack) < _MAX_CLOZES:
                stack.append(Cloze(numbers))
        elif stack:
            done = stack.pop()
            (stack[-1].nodes if stack else out).append(done)
        else:
            out.append("}}")
    add_text(text[at:])
    return out


def reveal(nodes: list[str | Cloze], number: int, *, question: bool) -> str | None:
    """The field as HTML; for the question the clozes of this number are blanks. None where it has none of them."""
    html, found = _reveal(nodes, number, question)
    return html if found else None


def _reveal(nodes: list[str | Cloze], number: int, question: bool) -> tuple[str, bool]:
    html, found = "", False
    for node in nodes:
        if isinstance(node, str):
            html += node
            continue
        active = number in node.numbers
        inner, below = _reveal(node.nodes, number, question)
        html += f"[{node.hint or '...'}]" if active and question else inner
        found = found or active or below
    return html, found


def hidden(nodes: list[str | Cloze], number: int) -> list[str]:
    """The HTML behind each blank; what was cut out of a formula is made a formula again."""
    found: list[str] = []
    _find_hidden(nodes, number, "", found)
    return found


def _find_hidden(nodes: list[str | Cloze], number: int, before: str, found: list[str]) -> str:
    """Adds to `found`, and returns `before` with what these nodes show."""
    for node in nodes:
        if isinstance(node, str):
            before += node
        elif number in node.numbers:
            inner, _ = _reveal(node.nodes, number, question=False)
            opening, closing = _open_formula(before) if inner.strip() else ("", "")
            found.append(f"{opening}{inner}{closing}")
            before += inner
        else:
            before = _find_hidden(node.nodes, number, before, found)
    return before


def _open_formula(before: str) -> tuple[str, str]:
    for opening, closing in _FORMULAS:
        if before.rfind(opening) > before.rfind(closing):
            return opening, closing
    return "", ""


def hints(nodes: list[str | Cloze], number: int) -> list[str]:
    """What stands for each blank of this number."""
    found = []
    for node in nodes:
        if isinstance(node, Cloze):
            found += [node.hint or "..."] if number in node.numbers else hints(node.nodes, number)
    return found


def has_cloze(text: str, number: int) -> bool:
    """Whether a field holds a cloze of this number."""
    return str(number) in _numbers(text)


def _numbers(text: str) -> set[str]:
    return {n for match in _CLOZE.finditer(text) if match[1] for n in match[1].split(",")}


def cloze_numbers(text: str) -> list[int]:
    """The cloze numbers that a field holds, in ascending order; Anki makes a card for each."""
    return sorted({int(n) for n in _numbers(text) if 0 < len(n) < 5} - {0})
