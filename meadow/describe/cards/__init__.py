"""Cards: the words that people write, and the numbers that a build fills in.

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

Of the YAML, the keys that Meadow owns are replaced (single tags that a person added stay), all
others are kept as they were typed. What cannot be understood, such as broken YAML or half a
marker, stays in the card as text. Nothing here reads a clock, the network or a path of this machine.

How a card of any kind is made: a template of its body (``NAME.md.j2``, see
`meadow.describe.cards.templates`) holds default words and, between the markers of blocks, what is
generated. `merge.make` fills it from a context, puts the words that are given in the place of its
own, and merges the result with the card that is there::

    merge.make(MODEL, Path(__file__).with_name("card.md.j2"), {"run": run}, metadata, existing)

The first argument says which YAML keys, tags and blocks are Meadow's: `DATASET` (of datasets,
mixtures and collections) or `MODEL`. `merge_cards` merges a finished card with another copy of it.
"""

from __future__ import annotations

from meadow.describe.cards.dataset import collection_card, dataset_card, words_for
from meadow.describe.cards.figure import plot
from meadow.describe.cards.merge import merge_cards, prose
from meadow.describe.cards.metadata import DATASET, MODEL

__all__ = ["DATASET", "MODEL", "collection_card", "dataset_card", "merge_cards", "plot", "prose", "words_for"]
