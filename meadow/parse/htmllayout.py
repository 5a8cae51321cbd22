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

    __slots__ = (
        "on",
        "pieces",
        "marks",
        "blocks",
        "heading",
        "_collapsed",
        "_block",
        "_lists",
        "_open_table",
        "_depth",
    )

    def __init__(self, *, collapsed: bool = False) -> None:
        """Starts empty; `collapsed` says that the text will have no blanks but single spaces."""
        self.on = FLOW
        self.pieces = self._block = list[str]()
        self.marks: list[int] = []
        self.blocks = Blocks()
        self.heading = ""
        self._collapsed = collapsed
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
            block = collapse(self._block, self._collapsed)
            if block and block != self.heading:
                self.blocks.emit(block)

    def finish(self) -> str:
        """Ends the last block and returns the whole text."""
        self.flush()
        return "".join(self.blocks.parts).strip("\n")

    # Inside a block.

    def _ignore(self, closing: str, attributes: Attributes) -> None:
        pass

    def _br(self, closing: str, attributes: Attributes) -> None:
        self.pieces.append(BREAK)

    def _code(self, closing: str, attributes: Attributes) -> None:
        if not closing:
            self.marks.append(len(self.pieces))
        elif self.marks:
            start = self.marks.pop()
            inner = "".join(self.pieces[start:])
            # Marks are put only around something, so that empty elements leave no debris.
            if inner.strip():
                self.pieces[start:] = [f"`{inner}`"]

    def _sup(self, closing: str, attributes: Attributes) -> None:
        if not closing:
            self.marks.append(len(self.pieces))
        elif self.marks:
            start = self.marks.pop()
            inner = "".join(self.pieces[start:]).strip()
            if inner and start and inner not in _PLAIN_SUPERSCRIPT and self.pieces[start - 1][-1:].strip():
                self.pieces[start:] = ["^" + inner]

    def _q(self, closing: str, attributes: Attributes) -> None:
        self.pieces.append('"')

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

    def _begin(self, gap: int) -> None:
        self.flush()
        self.marks.clear()
        self.blocks.gap = max(self.blocks.gap, gap)

    def _paragraph(self, closing: str, attributes: Attributes) -> None:
        self._begin(2)
        self.heading = ""

    def _line(self, closing: str, attributes: Attributes) -> None:
        self._begin(1)
        self.heading = ""

    def _list(self, closing: str, attributes: Attributes) -> None:
        self._begin(2)
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
        self._begin(1)
        # An item ends where the next begins, closed or not; deeper ones stay open.
        frames, depth = self.blocks.frames, len(self._lists)
        while frames and frames[-1].depth >= depth:
            frames.pop()
        if not closing:
            numbers = self._lists[-1] if self._lists else None
            marker = "- " if numbers is None else f"{next(numbers)}. "
            frames.append(Frame(marker, " " * len(marker), depth))

    def _blockquote(self, closing: str, attributes: Attributes) -> None:
        self._begin(2)
        if closing:
            self.blocks.end_quote()
        else:
            self.blocks.frames.append(Frame("> ", "> ", -1))

    def _heading(self, closing: str, attributes: Attributes, level: int = 0) -> None:
        self._begin(2)
        self.heading = "" if closing else "#" * level
        if not closing:
            self.pieces.append(self.heading + " ")

    # Preformatted text: nothing but line breaks, up to the end of the element.

    def _pre(self, closing: str, attributes: Attributes) -> None:
        self._begin(2)
        if not closing:
            self.on, self.pieces = _CODE, [""]  # a piece, so that blanks in front are kept

    def _pre_in_code(self, closing: str, attributes: Attributes) -> None:
        if closing:
            code = "".join(self.pieces).strip("\n")
            self.on, self.pieces = FLOW, self._block
            if code.strip():
                self.blocks.emit_apart(f"```\n{code}\n```")

    def _br_in_code(self, closing: str, attributes: Attributes) -> None:
        self.pieces.append("\n")

    def _block_in_code(self, closing: str, attributes: Attributes) -> None:
        if closing:
            self.pieces.append("\n")

    # Tables: blocks inside a cell are parted by blanks, and a table in a cell is words of that cell.

    def _table(self, closing: str, attributes: Attributes) -> None:
        self._begin(2)
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

    def _li_in_table(self, closing: str, attributes: Attributes) -> None:
        self.pieces.append(" " if closing else " - ")

    def _blank(self, closing: str, attributes: Attributes) -> None:
        self.pieces.append(" ")


_Handler = Callable[[Layout, str, Attributes], None]


def _heading_of(level: int) -> _Handler:
    return lambda layout, closing, attributes: layout._heading(closing, attributes, level)


_INLINE: dict[str, _Handler] = {
    "br": Layout._br,
    "code": Layout._code,
    "sup": Layout._sup,
    "q": Layout._q,
    "img": Layout._img,
    FORMULA: Layout._formula,
}
#: Outside `pre` and tables.
FLOW: dict[str, _Handler] = {
    **{name: Layout._paragraph if gap == 2 else Layout._line for name, gap in _GAP.items()},
    **_INLINE,
    **{name: _heading_of(int(name[1])) for name in _HEADINGS},
    "ul": Layout._list,
    "ol": Layout._ol,
    "li": Layout._li,
    "blockquote": Layout._blockquote,
    "pre": Layout._pre,
    "table": Layout._table,
}
_CODE: dict[str, _Handler] = {
    **dict.fromkeys(_INLINE, Layout._ignore),
    **dict.fromkeys(_GAP, Layout._block_in_code),
    "br": Layout._br_in_code,
    "pre": Layout._pre_in_code,
    FORMULA: Layout._formula,
}
# In a table in a cell.
_NESTED: dict[str, _Handler] = {
    **dict.fromkeys(_GAP, Layout._blank),
    **_INLINE,
    "table": Layout._table_in_table,
}
_TABLE: dict[str, _Handler] = {
    **_NESTED,
    "tr": Layout._tr,
    "th": Layout._th,
    "td": Layout._td,
    "caption": Layout._caption,
    "li": Layout._li_in_table,
}
