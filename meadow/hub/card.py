"""Cards on their way to the Hub, where people write into them, too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from meadow.core.manifest import Manifest
from meadow.describe import cards
from meadow.describe.cards import merge

_LOADING = re.compile(r"(<!-- meadow:begin loading -->)(.*?)(<!-- meadow:end loading -->)", re.DOTALL)
_PLACE = '"path/to/this/folder"'


def without_example(card: str) -> str:
    """A dataset's card without its example row."""
    return merge.without_blocks(card, ("example",))


def collection(manifests: Iterable[Manifest], local: str | None, repo: str) -> str:
    """The collection's card for what a repository will hold.

    Args:
        manifests: The current manifest of each dataset there.
        local: The card in the output folder, whose hand edits are kept.
        repo: The repository, which the lines that load it name.
    """
    manifests = sorted(manifests, key=lambda manifest: manifest.name)
    made = cards.collection_card(manifests, cards.words_for("collection", Path()), local)
    return _LOADING.sub(lambda m: m[1] + m[2].replace(_PLACE, json.dumps(repo)) + m[3], made)


def left_behind(card: str, merged: str) -> list[str]:
    """First lines of what people wrote between the parts of a local card, and that the merged one lacks."""
    there = set(merge.texts(merged))
    return [text.splitlines()[0] for text in merge.texts(card) if text not in there]
