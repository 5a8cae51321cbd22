"""Lists of words that rules go by; they are data, in files beside the rules."""

from __future__ import annotations

from collections import defaultdict
from importlib import resources


def word_lists(package: str, name: str) -> dict[str, frozenset[str]]:
    """Reads lists of words: in each line a list's name, a tab, and words of it with blanks between."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in (resources.files(package) / name).read_text(encoding="utf-8").splitlines():
        title, _, words = line.partition("\t")
        found[title] += words.split()
    return {title: frozenset(words) for title, words in found.items()}
