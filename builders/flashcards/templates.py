"""Card templates: what stands on the front and the back of a card.

The rules are those by which Anki 2.1.28 and later display a card: filters apply from the
field outwards, a template that names an unknown field or closes a section wrongly shows an error
instead of a card, and the field behind ``{{cloze:...}}`` shows nothing where the card's number is not in
it. Three things differ, because a row is read and not clicked:

* ``{{FrontSide}}`` on the back is empty: the back holds only what it adds.
* ``{{hint:Field}}`` is closed on the front, and open on the back.
* ``{{type:Field}}`` is an empty box on the front, and the expected answer on the back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from meadow import Error

from .cloze import Cloze, has_cloze, hidden, hints, read_clozes, reveal

#: Stand-ins within rendered HTML; Unicode noncharacters, which `clean` takes out of fields first.
REPEATED_CLOZE = "\ufdd0"
ANSWER_RULE = "\ufdd1"

_ALTERNATIVE = "{{=<% %>=}}"
# A pattern stops at the next opening mark, so that many that nothing closes are read once, not once for each.
_STANDARD = re.compile(r"<!--(?:(?!<!--).)*?-->|\{\{(\{?(?:(?!\{\{).)*?)\}\}", re.DOTALL)
_BOTH = re.compile(r"<!--(?:(?!<!--).)*?-->|\{\{(\{?(?:(?!\{\{).)*?)\}\}|<%((?:(?!<%).)*?)%>", re.DOTALL)
_UNCLOSED = re.compile(r"\{\{")
_UNCLOSED_BOTH = re.compile(r"\{\{|<%")
_CLOZE_SECTION = re.compile(r"c[0-9]{1,5}")
_BLANK = re.compile(r"(?:\s|</?(?:br|div) ?/?>)*", re.IGNORECASE)
TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--(?:(?!<!--).)*?-->", re.DOTALL)
_BREAKING_TAG = re.compile(r"</?(?:br|div|p|li|ul|ol|tr|td|th|table|h[1-6])\b[^<>]*>", re.IGNORECASE)
# Readings are short; without the bounds a long word would be tried from each of its letters.
_FURIGANA = re.compile(r" ?([^ >\[\]]{1,40}?)\[(?!sound:)([^\[\]]{1,40})\]")
_READINGS = {"kanji": r"\1", "kana": r"\2", "furigana": r"\1(\2)"}
_RULE = re.compile(r"<hr\b[^<>]*\bid\s*=\s*[\"']?answer\b[^<>]*>", re.IGNORECASE)


class TemplateError(Error, ValueError):
    """A template that Anki, too, shows as an error."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    filters: tuple[str, ...]  # in the order of their application


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    negated: bool
    children: list[_Node]


_Node = str | _Field | _Section


@dataclass(slots=True)
class CardFront:
    """A rendered front.

    `has_field` says whether any field with content is shown; a front without one is blank to Anki.
    `hidden` is the HTML behind each blank of this card's number, `clozes` the fields whose blanks are
    shown, and `typed` the HTML that ``{{type:...}}`` boxes expect.
    """

    html: str = ""
    has_field: bool = False
    hidden: list[str] = field(default_factory=list)
    clozes: set[str] = field(default_factory=set)
    typed: list[str] = field(default_factory=list)


def clean(value: str) -> str:
    """Takes the characters that this module uses for itself out of a field."""
    return value.replace(REPEATED_CLOZE, "").replace(ANSWER_RULE, "")


class CardTemplate:
    """The two sides of a card template, parsed once for all cards.

    Raises:
        TemplateError: A section is not closed or closed in the wrong order, or a brace is left open.
    """

    def __init__(self, front: str, back: str) -> None:
        self._front, self._back = _parse(front, "front"), _parse(back, "back")

    def front(self, fields: Mapping[str, str], number: int) -> CardFront:
        """Renders the front.

        `fields` holds special ones such as ``Tags``, too; `number` counts clozes, or templates, from 1.

        Raises:
            TemplateError: A field that the note type does not have is named.
        """
        front = CardFront()
        front.html = _Rendering(fields, number, front).render(self._front)
        return front

    def front_stub(self, fields: Mapping[str, str], number: int) -> str:
        """Renders the front as the back repeats it: `REPEATED_CLOZE` stands for the cloze fields in it."""
        return _Rendering(fields, number, CardFront(), stub=True).render(self._front)

    def back(self, fields: Mapping[str, str], number: int, front: CardFront) -> str:
        """Renders what the back adds to `front`.

        In the HTML `REPEATED_CLOZE` stands for a cloze field that the front has already shown, and
        `ANSWER_RULE` for Anki's ``<hr id=answer>``.

        Raises:
            TemplateError: A field that the note type does not have is named.
        """
        run = _Rendering(fields, number, front, back=True)
        html = _RULE.sub(f"<p>{ANSWER_RULE}</p>", run.render(self._back))
        if run.front_side and front.typed and not TAG.sub("", html).strip(ANSWER_RULE + " \n\t"):
            # The typing box that FrontSide brings along shows the expected answer there.
            html += "<br>".join(front.typed)
        return html


@dataclass(slots=True)
class _Rendering:
    fields: Mapping[str, str]
    number: int
    front: CardFront  # filled in while it is rendered, asked while the back is
    back: bool = False
    stub: bool = False
    front_side: bool = False

    def render(self, nodes: list[_Node]) -> str:
        return "".join(map(self._node, nodes))

    def _node(self, node: _Node) -> str:
        if isinstance(node, str):
            return node
        if isinstance(node, _Section):
            return self.render(node.children) if self._holds(node.name) is not node.negated else ""
        if node.name == "FrontSide":
            self.front_side = True
            return ""
        return self._field(node)

    def _holds(self, name: str) -> bool:
        if name in self.fields:
            return not _BLANK.fullmatch(self.fields[name])
        if _CLOZE_SECTION.fullmatch(name):
            return int(name[1:]) == self.number
        raise TemplateError(f"there is no field called {name!r}")

    def _field(self, node: _Field) -> str:
        if node.name not in self.fields:
            if not node.name and node.filters:
                return ""
            raise TemplateError(f"there is no field called {node.name!r}")
        text = self.fields[node.name]
        if not self.back and not _BLANK.fullmatch(text):
            self.front.has_field = True
        if "type" in node.filters:
            return self._typed(node, text)
        for name in node.filters:
            text = self._filter(name, node.name, text)
        return text

    def _is_repeated(self, key: str) -> bool:
        return self.back and key in self.front.clozes

    def _typed(self, node: _Field, text: str) -> str:
        if "cloze" in node.filters:
            blanks = [] if self._is_repeated(node.name) else hidden(read_clozes(text), self.number)
            text = "; ".join(blanks)
        if self.back:
            return text
        self.front.typed.append(text)
        return ""

    def _filter(self, name: str, key: str, text: str) -> str:
        if name == "cloze":
            return self._cloze(key, text)
        if name == "cloze-only":
            nodes = read_clozes(text)
            if self.back:
                return "" if self._is_repeated(key) else ", ".join(hidden(nodes, self.number))
            self._remember(key, nodes)
            return ", ".join(f"[{hint}]" for hint in hints(nodes, self.number))
        if name == "text":
            return TAG.sub("", _BREAKING_TAG.sub(" ", text))
        if name == "hint":
            return f"<div>{text}</div>" if self.back and text.strip() else ""
        if name.startswith("tts "):
            return f"[anki:tts]{text}[/anki:tts]"
        if name in _READINGS:
            return _FURIGANA.sub(_READINGS[name], text)
        # Filters of add-ons; Anki without the add-on shows the text as it is.
        return text

    def _cloze(self, key: str, text: str) -> str:
        if self._is_repeated(key) or (self.stub and has_cloze(text, self.number)):
            return REPEATED_CLOZE
        nodes = read_clozes(text)
        html = reveal(nodes, self.number, question=not self.back)
        if html is not None and not self.back:
            self._remember(key, nodes)
        return html or ""

    def _remember(self, key: str, nodes: list[str | Cloze]) -> None:
        front = self.front
        if key not in front.clozes and (found := hidden(nodes, self.number)):
            front.clozes.add(key)
            front.hidden += found


def _parse(source: str, side: str) -> list[_Node]:
    pattern, unclosed = _STANDARD, _UNCLOSED
    if source.lstrip().startswith(_ALTERNATIVE):
        source = source.lstrip().removeprefix(_ALTERNATIVE)
        pattern, unclosed = _BOTH, _UNCLOSED_BOTH
    root: list[_Node] = []
    stack: list[_Section] = []

    def add(node: _Node) -> None:
        (stack[-1].children if stack else root).append(node)

    def add_text(part: str) -> None:
        if unclosed.search(part):
            raise TemplateError(f"the {side} template opens {{{{ and never closes it")
        if part:
            add(part)

    at = 0
    for match in pattern.finditer(source):
        start = source[at : match.start()]
        at = match.end()
        add_text(start)
        handle = next((group for group in match.groups() if group is not None), None)
        if handle is None:
            continue  # a comment; what it holds is not shown
        if handle.startswith("{") and source.startswith("}", at):
            at += 1  # {{{Field}}}, as Mustache writes it
        handle = handle.lstrip("{").strip()
        if handle[:1] in ("#", "^") and len(handle) > 1:
            section = _Section(handle[1:].strip(), handle[0] == "^", [])
            add(section)
            stack.append(section)
            if len(stack) > 100:
                raise TemplateError(f"the {side} template nests sections over 100 deep")
        elif handle[:1] == "/" and len(handle) > 1:
            name = handle[1:].strip()
            if not stack or stack[-1].name != name:
                expected = f"{{{{/{stack[-1].name}}}}}" if stack else "no section to close"
                raise TemplateError(f"the {side} template has {{{{/{name}}}}} where it needs {expected}")
            stack.pop()
        else:
            *filters, name = handle.split(":")
            add(_Field(name.strip(), tuple(f.strip() for f in reversed(filters) if f.strip())))
    add_text(source[at:])
    if stack:
        raise TemplateError(f"the {side} template never closes {{{{#{stack[-1].name}}}}}")
    return root
