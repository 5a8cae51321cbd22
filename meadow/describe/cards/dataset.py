"""The cards of datasets, mixtures and collections, made from manifests."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from meadow.core.licenses.judge import QUESTIONS, judge
from meadow.core.manifest import Manifest, PartTaken
from meadow.core.store import CARD, PLOT
from meadow.describe.cards import frontmatter, merge
from meadow.describe.cards.metadata import DATASET, collection_metadata, dataset_metadata

#: Longest text of an example row that a card shows, in characters, and its longest list.
_EXAMPLE_TEXT = 600
_EXAMPLE_ITEMS = 10
_SETTINGS = ("languages", "quality", "policy", "privacy", "contamination", "duplicates")


def dataset_card(manifest: Manifest, words: str, existing: str | None = None) -> str:
    """Makes the card of one dataset or mixture, for ``OUT/<name>/<version>/README.md``.

    Its YAML has one config, so that `datasets.load_dataset(folder, name)` loads the folder by itself.

    Args:
        manifest: The dataset's manifest.
        words: Markdown, as in ``cards/<dataset>.md``; where empty, those of the template.
        existing: The card that is there, whose hand edits are kept.
    """
    metadata = dataset_metadata(manifest)
    return merge.make(DATASET, "dataset.md.j2", _context(manifest, words), metadata, existing, words)


def collection_card(manifests: Iterable[Manifest], words: str, existing: str | None = None) -> str:
    """Makes the card of a whole output folder, ``OUT/README.md``.

    Its YAML has one config per dataset, and no `dataset_info` on purpose: row counts of a dataset that was
    replaced a moment ago would make `datasets` refuse the new one. Where the default dataset is not built,
    there is no default, and ``load_dataset(OUT)`` asks which.

    Args:
        manifests: The current manifest of each dataset, in order of display.
        words: As for `dataset_card`; YAML in front of it names the dataset that is the ``default``.
        existing: The card that is there, whose hand edits are kept.

    Raises:
        ValueError: Two manifests have the same name.
    """
    manifests = list(manifests)
    names = Counter(manifest.name for manifest in manifests)
    for name in names:
        if names[name] > 1:
            raise ValueError(f"{name}: two manifests; pass that of its current version only")
    front, words = frontmatter.split(words)
    default = str(frontmatter.load(front).get("default", ""))
    cards = [f"{manifest.name}/{manifest.version}/{CARD}" for manifest in manifests]
    context = {
        # Without a card where a link could not name it.
        "datasets": [
            (manifest, card if re.fullmatch(r"[\w./-]+", card) else "")
            for manifest, card in zip(manifests, cards, strict=True)
        ],
        "samples": sum(manifest.sample for manifest in manifests),
        "shown": default if default in names else next(iter(names), ""),
    }
    metadata = collection_metadata(manifests, default)
    return merge.make(DATASET, "collection.md.j2", context, metadata, existing, words)


def words_for(card_name: str, folder: Path) -> str:
    """The words of a card, empty where there are none.

    It is ``<card_name>.md`` of the package data `meadow.words` (``cards/`` in a checkout), else ``card.md``
    in the folder of the builder's class, where a private source has its own.
    """
    places: list[Traversable] = [Path(folder) / "card.md"]
    # A name that climbs out of the folder is nobody's card; it falls through to `folder`.
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", card_name):
        try:
            shipped = resources.files("meadow.words")
        except ModuleNotFoundError:  # a checkout that is not installed, or was before `cards/` had this name
            shipped = Path(__file__).resolve().parents[3] / "cards"
        places.insert(0, shipped / f"{card_name}.md")
    found = next((place for place in places if place.is_file()), None)
    return found.read_text(encoding="utf-8-sig") if found is not None else ""


def shortage(part: PartTaken) -> str:
    """Says that a part of a mixture gave fewer rows than were wanted; empty where it did not."""
    if part.taken >= (1 if part.wanted is None else part.wanted):
        return ""
    if part.wanted is None:
        return f"{part.dataset}: all rows wanted, and there was none"
    counts = f"{part.wanted:,} rows wanted, {part.taken:,} taken, of {part.available:,} to draw from"
    return f"{part.dataset}: {counts}"


def exam_rows(manifest: Manifest) -> list[str]:
    """Says which parts of a mixture brought rows that hold an exam item, a sentence each."""
    return [
        f"{count:,} row{'' if count == 1 else 's'} of {name} hold{'s' if count == 1 else ''} an exam item: "
        "its build only flagged them"
        for name, count in (manifest.mixture.exam_rows if manifest.mixture else {}).items()
    ]


def _context(manifest: Manifest, words: str) -> dict[str, Any]:
    """What the template of a dataset's card names."""
    mixture, limits = manifest.mixture, ""
    if manifest.privacy or mixture:
        from meadow.filters.privacy import LIMITS  # late: it loads what it screens with

        limits = LIMITS
    parts = mixture.parts if mixture else ()
    bearers: dict[str, list[str]] = {}  # evidence to the licences that it is given for
    for spdx in manifest.license_ids:
        if not spdx.startswith("LicenseRef-"):
            bearers.setdefault(" ".join(manifest.terms(spdx).evidence.split()), []).append(spdx)
    settings = {name: getattr(manifest.filters, name, None) for name in _SETTINGS}
    # JSON keeps each text on one line, behind its key.
    example = json.dumps(_shorten(manifest.example or {}), indent=2, ensure_ascii=False, default=str)
    return {
        "m": manifest,
        "mixture": mixture,
        "plot": PLOT,
        "lengths": {name: manifest.lengths[name] for name in ("input", "output") if name in manifest.lengths},
        "example": example if manifest.example else "",
        "notes": {stage: notes for stage, notes in manifest.notes.items() if stage != "privacy"},
        "settings": {name: value for name, value in settings.items() if value},
        "limits": limits,
        "bearers": bearers,
        # Of a mixture, the reasons name the datasets that rows are from.
        "found": judge(mixture.licensing if mixture else {"": manifest}),
        "questions": QUESTIONS,
        "published": any(part.published is not None for part in parts),
        "shortages": list(filter(None, map(shortage, parts))),
        "exam_rows": exam_rows(manifest),
        "unchecked": list(
            dict.fromkeys((p.dataset, why) for p in parts for why in p.contamination.unchecked)
        ),
        "releases": _releases(manifest, words) if words.strip() else {},
    }


def _shorten(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _EXAMPLE_TEXT:
        return f"{value[:_EXAMPLE_TEXT].rstrip()} ... ({len(value) - _EXAMPLE_TEXT:,} characters more)"
    if isinstance(value, Mapping):
        return {key: _shorten(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        short = [_shorten(inner) for inner in value[:_EXAMPLE_ITEMS]]
        more = len(value) - len(short)
        return [*short, f"... ({more:,} more)"] if more else short
    return value


def _releases(manifest: Manifest, words: str) -> dict[str, str]:
    """Release notes of versions that the words' changelog does not name."""
    changelog = dict(merge.sections(words)).get("changelog", "")
    return {
        version: note
        for version, note in manifest.release_notes.items()
        if not re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.]*\d)", changelog)
    }
