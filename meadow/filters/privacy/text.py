"""A text with what rules ask of it again and again: its words, and where one of them stands."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

#: Bytes to lower case; all that is no letter, digits too, to a blank, and with them the byte that curly
#: quotes and dashes begin with. Other bytes of UTF-8 stay, so that words with accents stay whole.
_WORDS = bytes(
    code | 32 if 65 <= code <= 90 else code if 97 <= code <= 122 or (code >= 0x80 and code != 0xE2) else 32
    for code in range(256)
)

#: A digit, with the digits and separators after it: read once, so that rules need not look for digits
#: each for itself.
_RUN = re.compile(r"[0-9][0-9/.\-() ]*")
#: All cue words of all rules, and in which sets of them each is, as bits; `cues` adds to them.
_CUES: dict[bytes, int] = {}
_CUE_WORDS: set[bytes] = set()
_SETS = itertools.count()


class Span(NamedTuple):
    """A piece of a text that could identify a person, and what it is."""

    start: int
    end: int
    type: str


class Text:
    """A text to be screened.

    A row without identifiers must cost next to nothing, and a search for a hundred cue words at every
    letter does not: the words of a text are looked up among the cues at once, and rules run only where
    one of theirs stands.

    Attributes:
        text: The text.
        lower: The text in lower case, character for character.
        words: The cue words in it, as UTF-8.
        sets: The sets of cue words that one of them is in, as bits.
        digits: Whether there is a digit.
        long: Whether digits and what separates them run on for six characters or more.
        dotted: Whether a run of digits has two separators, as dates have.
        after_capital: Whether digits follow a capital, or two of them and a blank.
    """

    __slots__ = ("_at", "after_capital", "digits", "dotted", "long", "lower", "sets", "text", "words")

    def __init__(self, text: str) -> None:
        self.text = text
        self._at: dict[str, list[int]] = {}
        lower = text.lower()
        if len(lower) != len(text):  # a few letters become two in lower case
            lower = "".join(c if len(c.lower()) > 1 else c.lower() for c in text)
        self.lower = lower
        self.words = _CUE_WORDS.intersection(text.encode("utf-8", "surrogatepass").translate(_WORDS).split())
        sets = 0
        for word in self.words:
            sets |= _CUES[word]
        self.sets = sets

        self.digits = self.long = self.dotted = self.after_capital = False
        for run in _RUN.finditer(text):
            self.digits = True
            found, start = run[0], run.start()
            if len(found) > 2:
                self.long |= len(found) > 5
                self.dotted |= found.count("/") + found.count(".") + found.count("-") > 1
            if start and not self.after_capital:
                before = text[start - 1]
                self.after_capital = before.isupper() or (
                    before == " " and start > 2 and text[start - 2].isupper() and text[start - 3].isupper()
                )

    def places(self, word: str) -> list[int]:
        """Where a word begins, with no letter right before or after it."""
        found = self._at.get(word)
        if found is None:  # several rules have cue words in common
            found = self._at[word] = []
            lower, size = self.lower, len(word)
            at = lower.find(word)
            while at >= 0:
                end = at + size
                if not (at and lower[at - 1].isalpha()) and not lower[end : end + 1].isalpha():
                    found.append(at)
                at = lower.find(word, end)
        return found

    def has(self, cues: Cues) -> bool:
        """Whether it holds one of some cue words."""
        return self.sets & cues.bit > 0

    def heads(self, cues: Cues) -> list[str]:
        """Those of some cue words that the text holds, in a fixed order."""
        if not self.sets & cues.bit:
            return []
        return [cues.texts[cue] for cue in sorted(self.words & cues.texts.keys())]

    def each(self, cues: Cues) -> Iterator[tuple[str, int, int]]:
        """Those of some cue words that the text holds, each time with where it begins and ends."""
        for word in self.heads(cues):
            for start in self.places(word):
                yield word, start, start + len(word)

    def after(self, cues: Cues, pattern: re.Pattern[str]) -> Iterator[tuple[str, int, re.Match[str]]]:
        """Cue words that the pattern matches right after, each with its place and the match."""
        for word, start, end in self.each(cues):
            found = pattern.match(self.text, end)
            if found is not None:
                yield word, start, found


class Cues(NamedTuple):
    """Cue words of a rule.

    Attributes:
        texts: Each word by its UTF-8.
        bit: A bit of its own, for `Text.sets`.
    """

    texts: dict[bytes, str]
    bit: int


def cues(words: str) -> Cues:
    """Registers cue words, for `Text.heads` and `Text.has`."""
    found = Cues({word.encode(): word for word in words.split()}, 1 << next(_SETS))
    for word in found.texts:
        _CUES[word] = _CUES.get(word, 0) | found.bit
    _CUE_WORDS.update(found.texts)
    return found


def free(text: str, start: int, more: str = "") -> bool:
    """Whether nothing before a place makes it the middle of something longer.

    Looking after the match costs less than a lookbehind, with which `re` must try every place.
    """
    before = text[start - 1 : start]
    return not (before.isalnum() or before in ("_", ".", "+", "/", "-")) and (
        not before or before not in more
    )
