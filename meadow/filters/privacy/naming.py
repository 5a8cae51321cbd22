"""What a name looks like, once something has said that one begins: its words, particles, initials and end."""

from __future__ import annotations

import re
from pathlib import Path

from meadow.parse.wordlists import read_words

#: Kept by hand, in lower case: `GIVEN` is no census but what makes "I'm Ann" a name and "I'm sure" none.
LISTS = read_words(Path(__file__).with_name("words.tsv"))
#: Given names that are no other word: enough to tell "my son Lucas" from "my son is".
GIVEN = LISTS["given"]
#: Given names that are words as well: names after "my name is", but no sign of one by themselves.
ALSO_WORDS = LISTS["also words"]
#: Words that begin sentences or stand where a name could. None of them is taken for a name.
COMMON = LISTS["common"]
#: Words of medicine and of other trades that are capitalised in headings and forms: no names, either.
TRADE = LISTS["trade"]
#: Figures of fiction and of speech, and brands, after "Dr." with nothing else to the name.
NOBODY = LISTS["nobody"]
#: Surnames in names of diseases, signs, devices and methods: what tells Parkinson's essay of 1817 from a
#: Mr. Parkinson of today is what stands around it.
EPONYMS = LISTS["eponyms"]
SURE = GIVEN - ALSO_WORDS - COMMON
NO_NAME = (COMMON | TRADE) - ALSO_WORDS
TOKEN = re.compile(r"[^\W\d_](?:[\w'’]|-(?=\w))*")
_PARTICLES = frozenset(
    "de del della di da dos das du la le van von der den het ten ter zu zur bin ibn al el y e st af av".split()
)
_SUFFIXES = re.compile(r",? (?:Jr|Sr|II|III|IV)\b\.?")


def plain(token: str) -> str:
    lower = token.lower().replace("’", "'")
    return lower[:-2] if lower.endswith("'s") else lower.rstrip("'")


def _is_name(token: str, *, capitals: bool = False, lower: bool = False) -> bool:
    """Whether a word could be (part of) a name by its look."""
    bare = plain(token)
    if bare in NO_NAME or bare.replace("'", "") in NO_NAME or not bare:
        return False
    if not token[0].isupper():
        return lower and len(token) > 2
    if len(token) > 1 and token.isupper() and not capitals:
        return "'" in token[:3] or "’" in token[:3]
    return True


def take(
    text: str, start: int, most: int = 4, *, capitals: bool = False, lower: bool = False, comma: bool = False
) -> tuple[int, list[str]]:
    """Reads a name that begins at `start`.

    Args:
        text: The text.
        start: Where the name would begin.
        most: The most words that it may have, particles not counted.
        capitals: Whether words all in capitals count: forms, letter heads.
        lower: Whether words without a capital count: people introduce themselves so in forums.
        comma: Whether ``Doe, Jane`` counts.

    Returns:
        Where it ends, and its words; no words where there is no name.
    """
    words: list[str] = []
    at = end = start
    while len(words) < most:
        found = TOKEN.match(text, at)
        if found is None:
            break
        token = found[0]
        here = found.end()
        if len(token) == 1 and token.isupper() and text[here : here + 1] == ".":
            # An initial, which only belongs to a name if a name goes on after it.
            words.append(token)
            here += 1
        elif token in _PARTICLES or (
            token[0].isupper()
            and token.lower() in ("de", "van", "von", "della", "del", "di", "al", "el", "la", "le")
        ):
            pass
        elif _is_name(token, capitals=capitals, lower=lower and not words):
            words.append(token)
            end = here - 2 if token[-2:] in ("'s", "’s") else here
            if end != here:
                break
        elif len(token) == 1 and token.isupper() and words and token not in "IA":
            words.append(token)
            end = here
        else:
            break
        if comma and len(words) == 1 and text[here : here + 2] == ", ":
            after = TOKEN.match(text, here + 2)
            if after and _is_name(after[0], capitals=capitals) and after[0][0].isupper():
                at = here + 2
                continue
        if text[here : here + 1] not in (" ", "\t", "\xa0"):
            break
        at = here + 1
    if end == start or not any(len(word) > 1 for word in words):
        return start, []
    suffix = _SUFFIXES.match(text, end)
    return (suffix.end() if suffix else end), words


TITLED = re.compile(
    r"(?:Dr|DR|Mr|MR|Mrs|MRS|Ms|MS|Miss|Mx|Prof|Professor|Doctor|Nurse|Herr|Frau|Fräulein|Monsieur|Madame|Mme|Mlle|Señora?|Sra|Signora?|"
    r"Rabbi|Reverend|Rev)\b\.? ?[A-ZÀ-Þ]"
)


def used_as_word(text: str, word: str) -> bool:
    """Whether the text also writes this word without a capital; then it is rather no name."""
    bare = plain(word)
    # Most words are not there at all, which a plain search tells a hundred times faster.
    return (
        bare not in SURE and bare in text and re.search(rf"(?<!\w){re.escape(bare)}(?!\w)", text) is not None
    )
