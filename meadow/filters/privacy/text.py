"""A text with what rules ask of it again and again: its words, and where one of them stands."""

from __future__ import annotations

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
#: All cue words of all rules; `cues` adds to them.
_CUES: set[bytes] = set()


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
        digits: Whether there is a digit.
        long: Whether digits and what separates them run on for six characters or more.
        dotted: Whether a run of digits has two separators, as dates have.
        after_capital: Whether digits follow a capital, or two of them and a blank.
    """

    __slots__ = ("after_capital", "digits", "dotted", "long", "lower", "text", "words")

    def __init__(self, text: str) -> None:
        self.text = text
        lower = text.lower()
        if len(lower) != len(text):  # a few letters become two in lower case
            lower = "".join(c if len(c.lower()) > 1 else c.lower() for c in text)
        self.lower = lower
        self.words = _CUES.intersection(text.encode("utf-8", "surrogatepass").translate(_WORDS).split())

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

    def places(self, word: str) -> Iterator[int]:
        """Where a word begins, with no letter right before or after it."""
        lower, size = self.lower, len(word)
        at = lower.find(word)
        while at >= 0:
            end = at + size
            if not (at and lower[at - 1].isalpha()) and not lower[end : end + 1].isalpha():
                yield at
            at = lower.find(word, end)

    def has(self, cues: dict[bytes, str]) -> bool:
        """Whether it holds one of some cue words."""
        return not self.words.isdisjoint(cues)

    def heads(self, cues: dict[bytes, str]) -> list[str]:
        """Those of some cue words that the text holds, in a fixed order."""
        found = self.words & cues.keys()
        return [cues[cue] for cue in sorted(found)] if found else []


def cues(words: str) -> dict[bytes, str]:
    """Registers cue words, for `Text.heads` and `Text.has`."""
    found = {word.encode(): word for word in words.split()}
    _CUES.update(found)
    return found


def free(text: str, start: int, more: str = "") -> bool:
    """Whether nothing before a place makes it the middle of something longer.

    Looking after the match costs less than a lookbehind, with which `re` must try every place.
    """
    before = text[start - 1 : start]
    return not (before.isalnum() or before in ("_", ".", "+", "/", "-")) and (
        not before or before not in more
    )
