"""Lists of words and phrases that stand in a file beside the module that knows them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path


def read_lists(path: Path) -> dict[str, list[str]]:
    """Reads lines of a list's name, a tab and one entry; lines with ``#`` are for people.

    Returns:
        The entries of each list in the order of the file.
    """
    lists: defaultdict[str, list[str]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, entry = line.split("\t")
            lists[name].append(entry)
    return dict(lists)


def read_words(path: Path) -> dict[str, frozenset[str]]:
    """Reads the same where an entry is words with blanks between, in lists without order."""
    return {name: frozenset(" ".join(entries).split()) for name, entries in read_lists(path).items()}
