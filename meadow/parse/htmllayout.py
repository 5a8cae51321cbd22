"""What tags do to text: paragraphs, lists, quotes, tables, code and formulas laid out as Markdown.

Whoever reads HTML (`meadow.parse.htmltext` in two ways) tells a `Layout` one tag after another, with
the text that follows it. Every start tag must have its end tag, in the order of nesting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from html import unescape
from itertools import count
from typing import Any

from meadow.parse.markdown import BREAK, Blocks, Frame, Table, collapse

__all__ = ["FLOW", "FORMULA", "VOID", "Attributes", "Layout"]

#: A start tag's attributes, as they are written or read already.
Attributes = str | Mapping[str, Any]
#: Stands for a `math` element; no tag can have this name.
FORMULA = "$"
#: Elements that have no end tag.
VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())

_ATTRIBUTE = re.compile(r"([-\w:.]+)=\"([^\"]*)\"")
# What a boundary of the tag puts between two blocks: 2 a blank line, 1 a new line.
_HEADINGS = "h1 h2 h3 h4 h5 h6".split()
_GAP = {
    **dict.fromkeys([*"p pre blockquote ul ol dl table hr section article figure".split(), *_HEADINGS], 2),
    **dict.fromkeys(
        "div li dt dd tr td th caption tbody thead tfoot center address form fieldset header footer "
        "nav aside main details summary figcaption option legend body html".split(),
        1,
    ),
}
# Superscripts that are part of a word, not an exponent.
_PLAIN_SUPERSCRIPT = frozenset(("st", "nd", "rd", "th", "®", "™", "TM", "©"))


def _attribute(attributes: Attributes, name: str) -> str:
    if isinstance(attributes, str):
        for key, value in _ATTRIBUTE.findall(attributes):
            if key.lower() == name:
                return unescape(value)
        return ""
    value = attributes.get(name, "")
    return " ".join(value) if isinstance(value, list) else str(value or "")


class Layout:
    """Lays out text by the tags in it: a method for each kind of tag, called at its start and its end.

    Attributes:
        on: What to call for a tag, by its name. It changes inside `pre` and inside tables.
        pieces: Where text goes: into the block being read, or into code.
        marks: Where in `pieces` an open `code` or `sup` begins; cleared with the block.
        blocks: What is laid out.
        heading: The marks of the heading being read; alone they are no block.
    """

    def __init__(self) -> None:
        self.on = FLOW
        self.pieces = self._block = list[str]()
        self.marks: list[int] = []
        self.blocks = Blocks()
        self.heading = ""
        self._lists: list[Iterator[int] | None] = []  # the numbers to come, None for bullets
        self._open_table = Table()
        self._depth = 0

    def add(self, text: str) -> None:
        """Takes text between two tags; blanks that begin a block are none of its text."""
        pieces = self.pieces
        if text and (pieces or not text.isspace()):
            pieces.append(text)

    def flush(self) -> None:
        """Ends the block being read."""
        if self._block:
            block = collapse(self._block)
            if block and block != self.heading:
                self.blocks.emit(block)

    def finish(self) -> str:
        """Ends the last block and returns the whole text."""
        self.flush()
        return "".join(self.blocks.parts).strip("\n")

    # Inside a block.

    def _code(self, closing: str, attributes: Attributes) -> None:
        # Marks are put only around something, so that empty elements leave no debris.
        if (start := self._marked(closing)) is not None and "".join(self.pieces[start:]).strip():
            self.pieces[start:] = [f"`{''.join(self.pieces[start:])}`"]

    def _sup(self, closing: str, attributes: Attributes) -> None:
        if start := self._marked(closing):
            inner = "".join(self.pieces[start:]).strip()
            if inner and inner not in _PLAIN_SUPERSCRIPT and self.pieces[start - 1][-1:].strip():
                self.pieces[start:] = ["^" + inner]

    def _marked(self, closing: str) -> int | None:
        """At a start tag marks where it is; at its end tag returns that."""
        if closing:
            return self.marks.pop() if self.marks else None
        self.marks.append(len(self.pieces))
        return None

    def _img(self, closing: str, attributes: Attributes) -> None:
        kind = _attribute(attributes, "class")
        if "math" in kind or "latex" in kind or kind == "tex":
            self._put_formula(_attribute(attributes, "alt"))

    def _formula(self, closing: str, attributes: Attributes) -> None:
        self._put_formula(_attribute(attributes, "alttext"))

    def _put_formula(self, formula: str) -> None:
        if formula:
            self._block.append(f"${formula}$")

    # Blocks.

    def begin(self, gap: int) -> None:
        """Begins a block: `gap` 2 puts a blank line before it, 1 a new line."""
        self.flush()
        self.marks.clear()
        self.blocks.gap = max(self.blocks.gap, gap)

    def _list(self, closing: str, attributes: Attributes) -> None:
        self.begin(2)
        if not closing:
            self._lists.append(None)
        elif self._lists:
            self._lists.pop()

    def _ol(self, closing: str, attributes: Attributes) -> None:
        self._list(closing, attributes)
        if not closing:
            start = _attribute(attributes, "start")
            self._lists[-1] = count(int(start) if re.fullmatch(r"-?\d{1,9}", start) else 1)

    def _li(self, closing: str, attributes: Attributes) -> None:
        self.begin(1)
        # An item ends where the next begins, closed or not; deeper ones stay open.
        frames, depth = self.blocks.frames, len(self._lists)
        while frames and frames[-1].depth >= depth:
            frames.pop()
        if not closing:
            numbers = self._lists[-1] if self._lists else None
            marker = "- " if numbers is None else f"{next(numbers)}. "
            frames.append(Frame(marker, " " * len(marker), depth))

    def _blockquote(self, closing: str, attributes: Attributes) -> None:
        self.begin(2)
        if closing:
            self.blocks.end_quote()
        else:
            self.blocks.frames.append(Frame("> ", "> ", -1))

    # Preformatted text: nothing but line breaks, up to the end of the element.

    def _pre(self, closing: str, attributes: Attributes) -> None:
        self.begin(2)
        if not closing:
            self.on, self.pieces = _CODE, [""]  # a piece, so that blanks in front are kept

    def _pre_in_code(self, closing: str, attributes: Attributes) -> None:
        if closing:
            code = "".join(self.pieces).strip("\n")
            self.on, self.pieces = FLOW, self._block
            if code.strip():
                self.blocks.emit_apart(f"```\n{code}\n```")

    # Tables: blocks inside a cell are parted by blanks, and a table in a cell is words of that cell.

    def _table(self, closing: str, attributes: Attributes) -> None:
        self.begin(2)
        if not closing:
            self.on, self._open_table, self._depth = _TABLE, Table(), 1

    def _table_in_table(self, closing: str, attributes: Attributes) -> None:
        self._depth += -1 if closing else 1
        if self._depth:
            self.on = _TABLE if self._depth == 1 else _NESTED
            self.pieces.append(" ")
            return
        self._open_table.end_cell(self.pieces)
        self._open_table.end_row()
        self.on = FLOW
        self.marks.clear()
        if block := self._open_table.text():
            self.blocks.emit_apart(block)

    def _tr(self, closing: str, attributes: Attributes) -> None:
        self._open_table.end_cell(self.pieces)
        self._open_table.end_row()

    def _th(self, closing: str, attributes: Attributes) -> None:
        self._open_table.end_cell(self.pieces, force=bool(closing))
        self.marks.clear()

    def _td(self, closing: str, attributes: Attributes) -> None:
        self._th(closing, attributes)
        if not closing:
            self._open_table.row_is_header = False

    def _caption(self, closing: str, attributes: Attributes) -> None:
        if caption := collapse(self.pieces):
            self._open_table.caption.append(caption)


_Handler = Callable[[Layout, str, Attributes], None]


def _puts(opening: str, ending: str = "") -> _Handler:
    """A tag that stands for text."""
    return lambda layout, closing, attributes: layout.pieces.append(ending if closing else opening)


def _begins(gap: int) -> _Handler:
    """A block that is laid out as it is."""

    def handle(layout: Layout, closing: str, attributes: Attributes) -> None:
        layout.begin(gap)
        layout.heading = ""

    return handle


def _heading(level: int) -> _Handler:
    def handle(layout: Layout, closing: str, attributes: Attributes) -> None:
        layout.begin(2)
        layout.heading = "" if closing else "#" * level
        if not closing:
            layout.pieces.append(layout.heading + " ")

    return handle


_INLINE: dict[str, _Handler] = {
    "br": _puts(BREAK),
    "code": Layout._code,
    "sup": Layout._sup,
    "q": _puts('"', '"'),
    "img": Layout._img,
    FORMULA: Layout._formula,
}
#: Outside `pre` and tables.
FLOW: dict[str, _Handler] = {
    **{name: _begins(gap) for name, gap in _GAP.items()},
    **_INLINE,
    **{name: _heading(int(name[1])) for name in _HEADINGS},
    "ul": Layout._list,
    "ol": Layout._ol,
    "li": Layout._li,
    "blockquote": Layout._blockquote,
    "pre": Layout._pre,
    "table": Layout._table,
}
_CODE: dict[str, _Handler] = {
    **dict.fromkeys(_INLINE, _puts("")),
    **dict.fromkeys(_GAP, _puts("", "\n")),
    "br": _puts("\n"),
    "pre": Layout._pre_in_code,
    FORMULA: Layout._formula,
}
# In a table in a cell.
_NESTED: dict[str, _Handler] = {
    **dict.fromkeys(_GAP, _puts(" ", " ")),
    **_INLINE,
    "table": Layout._table_in_table,
}
_TABLE: dict[str, _Handler] = {
    **_NESTED,
    "tr": Layout._tr,
    "th": Layout._th,
    "td": Layout._td,
    "caption": Layout._caption,
    "li": _puts(" - ", " "),
}
