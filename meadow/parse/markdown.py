"""Blocks of text laid out as Markdown: paragraphs in lists and quotes, and tables."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["BREAK", "Blocks", "Frame", "Table", "collapse"]

#: The mark of a line break in text that is not laid out yet.
BREAK = "\x00"


def collapse(pieces: list[str]) -> str:
    """Empties a list of pieces and returns their text in single spaces."""
    text = "".join(pieces)
    pieces.clear()
    if BREAK not in text:
        return " ".join(text.split())
    lines = "\n".join(" ".join(part.split()) for part in text.split(BREAK)).strip("\n")
    return re.sub(r"\n{3,}", "\n\n", lines) if "\n\n\n" in lines else lines


@dataclass(slots=True, eq=False)
class Frame:
    """An open list item or block quote: what its first line and the rest begin with.

    `depth` is how many lists an item stands in; a quote has -1.
    """

    first: str
    rest: str
    depth: int
    used: bool = False


class Blocks:
    """Blocks laid out so far, with the frames that are open."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.frames: list[Frame] = []
        self.gap = 0
        self.last_list: Frame | None = None
        self.last_quotes: list[Frame] = []

    def emit(self, block: str) -> None:
        """Adds a block, behind the marks of the frames that are open."""
        first = rest = ""
        outer_list = None
        quotes = []
        for frame in self.frames:
            if frame.depth >= 0:
                outer_list = outer_list or frame
                first += frame.rest if frame.used else frame.first
                frame.used = True
            else:
                quotes.append(frame)
                first += frame.first
            rest += frame.rest
        if self.parts:
            # Items of one list follow each other without blank lines.
            tight = self.gap < 2 or (outer_list is not None and self.last_list is not None)
            shared = "".join("> " for a, b in zip(quotes, self.last_quotes, strict=False) if a is b).rstrip()
            self.parts.append("\n" if tight else f"\n{shared}\n")
        lines = block.split("\n")
        self.parts.append(first + ("\n" + rest).join(lines) if len(lines) > 1 else first + block)
        self.gap, self.last_list, self.last_quotes = 0, outer_list, quotes

    def emit_apart(self, block: str) -> None:
        """Emits a block between blank lines."""
        self.gap = 2
        self.emit(block)
        self.gap = 2

    def end_quote(self) -> None:
        """Leaves the innermost quote and the items in it."""
        for index in range(len(self.frames) - 1, -1, -1):
            if self.frames[index].depth < 0:
                del self.frames[index:]
                return


class Table:
    """Cells of the table being read; nested tables fold into the cell that holds them."""

    def __init__(self) -> None:
        self.caption: list[str] = []
        self.rows: list[list[str]] = []
        self.header: set[int] = set()
        self.row: list[str] | None = None
        self.row_is_header = True

    def end_cell(self, pieces: list[str], force: bool = False) -> None:
        """Makes a cell of what was read; an empty one only if it is known to end here."""
        text = collapse(pieces).replace("\n", " ")
        if text or force:
            if self.row is None:
                self.row = []
            self.row.append(text)

    def end_row(self) -> None:
        """Ends the row being read; one without words is none."""
        if self.row and any(self.row):
            if self.row_is_header:
                self.header.add(len(self.rows))
            self.rows.append(self.row)
        self.row, self.row_is_header = None, True

    def text(self) -> str:
        """The table as lines; one of a single column is no table, but its cells."""
        width = max((len(row) for row in self.rows), default=0)
        lines = list(self.caption)
        for index, row in enumerate(self.rows):
            if width == 1:
                lines.append(row[0])
                continue
            lines.append("| " + " | ".join(row + [""] * (width - len(row))) + " |")
            if index == 0 and index in self.header and len(self.rows) > 1:
                lines.append("|" + " --- |" * width)
        return "\n".join(lines)
