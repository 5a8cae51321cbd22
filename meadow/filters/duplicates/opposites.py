"""Whether two nearly equal texts say different things: another answer, other numbers, opposite words, a "not".

A long question with two short answers to it makes two nearly equal texts: two people who answered, or two
exam questions about one patient. Such rows are kept where the last columns, the answers, have fewer than
half of their words in common.

Of two long texts that differ in one word, the word can be a typing error or the dose. Near duplicates
are therefore kept where each of the two has something in place of what the other has: a number (5 mg,
50 mg; "twice", "three"; type I, type II), or a word of ``opposites.tsv`` (left, right). A text that only
leaves something out contradicts nothing. A "not" counts where the rest of the texts is the same but for
two words, as larger changes bring and take negations with them without turning what is said around.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from importlib import resources

#: Beginnings that turn the rest of a word into its opposite.
_PREFIXES = re.compile("(hyper|hypo|tachy|brady)(?=[a-z]{3})")
_PREFIX_KIND = {"hyper": "hyper", "hypo": "hyper", "tachy": "tachy", "brady": "tachy"}
_NUMBERS = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand "
    "once twice thrice half first second third fourth fifth "
    "i ii iii iv v vi vii viii ix x xi xii".split()
)
_NOT = frozenset(
    "no not never without cannot neither nor none except isn't doesn't don't aren't wasn't".split()
)
#: What stands around a word and is no part of it; "<", ">", "+", "-" and "%" are.
_EDGES = "\x1f.,;:!?()[]{}\"'`*_|"
_LINES = (
    (resources.files("meadow.filters.duplicates") / "opposites.tsv").read_text(encoding="utf-8").splitlines()
)
#: Words that cannot replace those of the other side, each with its pair's first word; endings are written out.
_TERMS = {
    word: (line.split()[0], side)
    for line in _LINES
    for side, words in enumerate(line.split("\t"))
    for word in words.split()
}
#: Share of their words (Jaccard) from which two answers are one answer. One word of ten replaced leaves 0.82,
#: "B: Aspirin" and "B: Heparin" have 0.33, two people's answers to one question about 0.1 to 0.3.
ANSWER = 0.5
#: Words that may differ beside a negation for it to be what the texts differ in.
_BESIDE = 2


def contradiction(one: str, other: str) -> str:
    """What two nearly equal, normalised texts differ in.

    Returns:
        ``answer``, ``number``, ``opposite`` or ``negation``; empty where they do not contradict each other.
    """
    if "\x1f" in one and "\x1f" in other:
        mine, theirs = (set(text.rpartition("\x1f")[2].split()) for text in (one, other))
        if mine != theirs and len(mine & theirs) < ANSWER * len(mine | theirs):
            return "answer"
    mine, theirs = _apart(one.split(" "), other.split(" "))
    terms, others = _terms(mine), _terms(theirs)
    both = {kind for kind, _ in terms} & {kind for kind, _ in others}
    if both:
        return "number" if "number" in both else "opposite"
    changed = [*mine.elements(), *theirs.elements()]
    negations = sum(word in _NOT for word in changed)
    # An even number of them is one in place of another.
    return "negation" if negations % 2 and len(changed) - negations <= _BESIDE else ""


def _apart(one: list[str], other: list[str]) -> tuple[Counter[str], Counter[str]]:
    """The words that each has more often than the other."""
    shorter = min(len(one), len(other))
    begin = next((at for at in range(shorter) if one[at] != other[at]), shorter)
    end = next((at for at in range(shorter - begin) if one[-1 - at] != other[-1 - at]), shorter - begin)
    mine, theirs = (
        Counter([word.strip(_EDGES) for word in words[begin : len(words) - end]]) for words in (one, other)
    )
    mine, theirs = mine - theirs, theirs - mine
    del mine[""], theirs[""]
    return mine, theirs


def _terms(words: Iterable[str]) -> set[tuple[str, str | int]]:
    """Those words that have a kind, each with what it says of it."""
    found: set[tuple[str, str | int]] = set()
    for word in words:
        if word in _TERMS:
            found.add(_TERMS[word])
        elif word in _NUMBERS or any(map(str.isdigit, word)):
            found.add(("number", word))
        elif prefix := _PREFIXES.match(word):
            found.add((_PREFIX_KIND[prefix[1]] + word[prefix.end() :], prefix[1]))
    return found
