"""The words of a mixture's card, where they do not come from its manifest."""

from __future__ import annotations

from pathlib import Path

from meadow.core.manifest import Manifest
from meadow.describe import cards
from meadow.mix.definition import Mixture, available


def make(manifest: Manifest, mixture: Mixture, existing: str | None) -> str:
    """Makes the card of a mixture.

    Args:
        manifest: The mixture's manifest.
        mixture: The mixture.
        existing: The card that is there, whose hand edits are kept.
    """
    return cards.dataset_card(manifest, words_of(mixture), existing)


def words_of(mixture: Mixture) -> str:
    """The words that come with a mixture, or lie beside its definition; empty where there are none."""
    shipped = available().get(mixture.name)
    if shipped is not None:
        words = cards.words_for(mixture.dataset, Path())
        if words:
            return words
    beside = mixture.file.with_suffix(".md") if mixture.file else None
    if beside is not None and beside.is_file():
        return beside.read_text(encoding="utf-8-sig")
    return ""
