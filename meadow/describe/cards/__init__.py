"""Dataset cards: the words that people write, and the numbers that a build fills in.

A card is a ``README.md`` with YAML in front, in three kinds of text. They are told apart by
comments on lines of their own, which Markdown does not show:

- a generated block, between ``<!-- meadow:begin NAME -->`` and ``<!-- meadow:end NAME -->``.
  A build replaces it in place; one that a person deleted comes back, because a card without its
  counts and its licence evidence is not one that Meadow may publish;
- a section of words, between ``<!-- meadow:words NAME DIGEST -->`` and
  ``<!-- meadow:end-words NAME -->``. The digest is that of the words as Meadow wrote them: while
  it fits, nobody has touched the section and new words from ``cards/`` replace it; once it does
  not, a person's edit stands for good. A section that a person deleted stays deleted (the block
  ``notice`` records which sections were written);
- everything else, which is a person's and stays where it is.

Of the YAML, `OWNED` keys are replaced (single tags that a person added stay), all others are kept
as they were typed. What cannot be understood, such as broken YAML or half a marker, stays in the
card as text. Nothing here reads a clock, the network or a path of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from meadow.describe.cards.blocks import collection_blocks, dataset_blocks, skeleton
from meadow.describe.cards.figure import plot
from meadow.describe.cards.hub import problems
from meadow.describe.cards.manifest import Manifest, check_funnel
from meadow.describe.cards.merge import assemble, prose
from meadow.describe.cards.metadata import OWNED, collection_metadata, dataset_metadata

__all__ = ["OWNED", "collection_card", "dataset_card", "plot", "problems", "prose", "words_for"]

_COLLECTION_SKELETON = """\
# Medical Meadow

Versioned, licence-clean medical instruction datasets, rebuilt from raw sources.

## What it is

One folder per dataset, one folder per version in it. Every row says where it came from and under
which terms; each dataset's card says what was left out and why.
"""


def dataset_card(manifest: Manifest, words: str, existing: str | None = None) -> str:
    """Makes the card of one dataset, for ``OUT/<name>/<version>/README.md``.

    Its YAML has one config, named like the dataset, whose `data_files` lie beside the card: the
    folder by itself is a dataset that `datasets.load_dataset(folder, name)` loads.

    Args:
        manifest: The dataset's manifest, as in ``manifest.json``.
        words: Markdown, as in ``cards/<dataset>.md``; where empty, a skeleton made from the
            manifest's description.
        existing: The card that is there, whose hand edits are kept.

    Returns:
        The card's text. The same arguments give the same text, and merging it with itself
        changes nothing.

    Raises:
        ValueError: The manifest's funnel does not balance.
    """
    check_funnel(manifest)
    if not words.strip():
        words = skeleton(manifest)
    return assemble(dataset_metadata(manifest), words, dataset_blocks(manifest, words), existing)


def collection_card(manifests: Iterable[Manifest], words: str, existing: str | None = None) -> str:
    """Makes the card of a whole output folder, ``OUT/README.md``.

    Its YAML has one config per dataset with the files of its current version. There is no
    `dataset_info` on purpose: row counts of a dataset that was replaced a moment ago would make
    `datasets` refuse the new one. ``wikidoc`` is the default config where it is built. Where it
    is not there is none, so that ``load_dataset(OUT)`` asks which, and never takes another
    dataset in silence.

    Args:
        manifests: The current manifest of each dataset, in order of display.
        words: Markdown, as in ``cards/collection.md``; where empty, a short skeleton.
        existing: The card that is there, whose hand edits are kept.

    Returns:
        The card's text.

    Raises:
        ValueError: Two manifests have the same name.
    """
    manifests = list(manifests)
    names = [manifest["name"] for manifest in manifests]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name}: two manifests; pass that of its current version only")
    if not words.strip():
        words = _COLLECTION_SKELETON
    return assemble(collection_metadata(manifests), words, collection_blocks(manifests), existing)


def words_for(card_name: str, folder: Path) -> str:
    """Finds the words of a card.

    Args:
        card_name: A builder's `card_name`, or ``collection``.
        folder: The folder of the builder's class.

    Returns:
        ``<card_name>.md`` of the package data `meadow.words` (``cards/`` in a checkout), else
        ``card.md`` in `folder`, where a private source has its words, else an empty string, for
        which `dataset_card` makes a skeleton.
    """
    from importlib import resources

    places: list[Any] = [Path(folder) / "card.md"]
    # A name that climbs out of the folder is nobody's card; it falls through to `folder`.
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", card_name):
        try:
            shipped = resources.files("meadow.words")
        except ModuleNotFoundError:  # a checkout that is not installed, or was before `cards/` had this name
            shipped = Path(__file__).resolve().parents[3] / "cards"
        places.insert(0, shipped / f"{card_name}.md")
    return next((place.read_text(encoding="utf-8-sig") for place in places if place.is_file()), "")
