"""The last step: finished versions get their cards, and are put in place."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path

from meadow.core.manifest import Manifest
from meadow.core.store import CARD, CITATION, CITATION_CFF, CROISSANT, PLOT, Store
from meadow.describe import cards, croissant
from meadow.describe import citations as citing
from meadow.pipeline.write import StagedDataset

_DRAWING = threading.Lock()


def draw(manifest: Manifest) -> bytes:
    """Draws a dataset's plot; runs in a worker. Matplotlib's settings are the process's, hence the lock."""
    with _DRAWING:
        return cards.plot(manifest)


def publish(store: Store, staged: Sequence[StagedDataset], executor: Executor) -> list[str]:
    """Gives finished versions their cards and puts them in place.

    The collection's card names at no moment a file that is not there.

    Returns:
        What a person should know: datasets whose manifests cannot be read, so that no card names them.
    """
    # Drawing takes longer than all the rest of a card, and cards are independent.
    plots = [executor.submit(draw, each.manifest) for each in staged]
    for each, plot in zip(staged, plots, strict=True):
        _make_card(store, each)
        (each.folder / PLOT).write_bytes(plot.result())
    new = {each.manifest.name: each.manifest for each in staged}
    before, _ = store.readable()
    both = [_without_splits(old, new[old.name]) if old.name in new else old for old in before]
    if both != before:
        _write_collection(store, [manifest for manifest in both if manifest.splits])
    for each in staged:
        _describe(each)
        store.publish(each.folder, each.manifest.name, each.manifest.version)
    after, unreadable = store.readable()
    _write_collection(store, after)
    return [f"{name} is not in the collection's card: {error}" for name, error in unreadable.items()]


def _make_card(store: Store, staged: StagedDataset) -> None:
    name, version = staged.manifest.name, staged.manifest.version
    # A new version's card goes on from the one before it, with what people wrote into that.
    earlier = [version] if version in store.versions(name) else store.versions(name)[-1:]
    existing = _text(store.folder(name, earlier[0]) / CARD) if earlier else None
    card = cards.dataset_card(staged.manifest, staged.words, existing)
    (staged.folder / CARD).write_text(card, encoding="utf-8", newline="\n")


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _describe(staged: StagedDataset) -> None:
    """Writes what programs read of a finished version whose card is in place."""
    folder, manifest = staged.folder, staged.manifest
    words = cards.prose((folder / CARD).read_text(encoding="utf-8"))
    croissant.write(folder, manifest, words, folder / CROISSANT)
    (folder / CITATION).write_text(citing.cited(manifest), encoding="utf-8", newline="\n")


def _without_splits(old: Manifest, new: Manifest) -> Manifest:
    if old.version != new.version:
        return old
    return old.model_copy(update={"splits": {s: e for s, e in old.splits.items() if s in new.splits}})


def _write_collection(store: Store, manifests: Iterable[Manifest]) -> None:
    manifests = list(manifests)
    words = cards.words_for("collection", Path())
    store.write(CARD, cards.collection_card(manifests, words, _text(store.root / CARD)))
    store.write(CITATION_CFF, citing.collection_cff(manifests, _text(store.root / CITATION_CFF)))
