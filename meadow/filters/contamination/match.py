"""Compares one row with one item, word by word: how much of the item's own words the row holds, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

#: Rows up to this many times as long as the item (and as many words more) are compared whole; in longer ones
#: the place that holds most of the item's words is looked for first.
_WHOLE, _MORE = 3, 60


class RowWords(NamedTuple):
    """A row's words.

    Attributes:
        words: Of all its fields, one after the other.
        vocabulary: The same as a set.
        pairs: Each word with the next.
        ends: For each field, its name and where its words end.
    """

    words: list[str]
    vocabulary: set[str]
    pairs: list[tuple[str, str]]
    ends: list[tuple[str, int]]

    @classmethod
    def of(cls, fields: Sequence[tuple[str, list[str]]]) -> RowWords:
        """Joins the words of fields."""
        every: list[str] = []
        ends = []
        for name, found in fields:
            every += found
            ends.append((name, len(every)))
        return cls(every, set(every), list(zip(every, every[1:], strict=False)), ends)

    def part(self, start: int, end: int) -> RowWords:
        """The words from one number up to another."""
        if start <= 0 and end >= len(self.words):
            return self
        words = self.words[start:end]
        ends = [(name, min(max(at - start, 0), len(words))) for name, at in self.ends]
        return RowWords(words, set(words), self.pairs[start : start + len(words) - 1], ends)

    def fields(self, blocks: Sequence[Block]) -> str:
        """The fields that hold these words, in order, with a comma between."""
        found = []
        start = 0
        for name, end in self.ends:
            if any(block.theirs < end and block.theirs + block.size > start for block in blocks):
                found.append(name)
            start = end
        return ",".join(found)


class Block(NamedTuple):
    """Words that a text and a row have in common, side by side in both.

    Attributes:
        mine: Number of the text's first.
        theirs: Number of the row's first.
        size: How many there are.
    """

    mine: int
    theirs: int
    size: int


def align(text: list[str], row: RowWords) -> list[Block]:
    """Finds the words of a text in a row, in the text's order.

    The longest common subsequence of *pairs* of neighbouring words, so that words strewn over the row,
    of which any long text holds many, do not count.
    """
    if len(text) < 2:
        return [Block(0, row.words.index(text[0]), 1)] if text and text[0] in row.words else []
    pairs = list(zip(text, text[1:], strict=False))
    where: dict[tuple[str, str], int] = {}
    for i, pair in enumerate(pairs):
        where[pair] = where.get(pair, 0) | 1 << i
    begin, end = _window(where, len(text), row)
    found = _common(where, len(pairs), row.pairs[begin:end])
    blocks: list[Block] = []
    for i, j in found:
        if blocks:
            last = blocks[-1]
            if i == last.mine + last.size - 1 and begin + j == last.theirs + last.size - 1:
                blocks[-1] = last._replace(size=last.size + 1)
                continue
        blocks.append(Block(i, begin + j, 2))
    return blocks


def _window(where: dict[tuple[str, str], int], length: int, row: RowWords) -> tuple[int, int]:
    size = len(row.pairs)
    if size <= _WHOLE * length + _MORE:
        return 0, size
    places = [i for i, pair in enumerate(row.pairs) if pair in where]
    width = length + length // 2 + 10
    best = start = count = 0
    # The stretch with the most different pairs: a stock phrase that is repeated counts once.
    inside: dict[tuple[str, str], int] = {}
    first = 0
    for place in places:
        pair = row.pairs[place]
        inside[pair] = inside.get(pair, 0) + 1
        while place - places[first] > width:
            old = row.pairs[places[first]]
            inside[old] -= 1
            if not inside[old]:
                del inside[old]
            first += 1
        count = len(inside)
        if count > best:
            best, start = count, places[first]
    return max(0, start - length), min(size, start + width + length)


def _common(
    where: dict[tuple[str, str], int], size: int, row: list[tuple[str, str]]
) -> list[tuple[int, int]]:
    """A longest common subsequence, by Hyyrö's bit-parallel method: a bit for each pair of the text."""
    full = (1 << size) - 1
    state = full
    states = []
    for pair in row:
        held = state & where.get(pair, 0)
        if held:
            state = ((state + held) | (state - held)) & full
        states.append(state)
    found = []
    i, j = size, len(row)
    while i and j:
        if states[j - 1] >> (i - 1) & 1:
            i -= 1
            continue
        j -= 1
        if not (j and not states[j - 1] >> (i - 1) & 1):
            i -= 1
            found.append((i, j))
    found.reverse()
    return found


def holds(row: Sequence[str], text: Sequence[str]) -> bool:
    """Whether a row holds a text word for word."""
    return bool(text) and f" {' '.join(text)} " in f" {' '.join(row)} "
