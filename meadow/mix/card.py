"""What the card of a mixture says beside what the card of any dataset does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meadow.describe import cards
from meadow.describe.cards.blocks import dataset_blocks
from meadow.describe.cards.manifest import Manifest, check_funnel
from meadow.describe.cards.markdown import is_url, table, text
from meadow.describe.cards.merge import assemble
from meadow.describe.cards.metadata import dataset_metadata
from meadow.mix.definition import Mixture, available

#: What the builds of parts did with findings, by policy.
_DONE = {"drop": "left out", "mask": "masked", "flag": "**only listed**"}


def make(manifest: Manifest, mixture: Mixture, existing: str | None) -> str:
    """Makes the card of a mixture.

    Args:
        manifest: The mixture's manifest.
        mixture: The mixture.
        existing: The card that is there, whose hand edits are kept.
    """
    check_funnel(manifest)
    words = words_of(mixture)
    blocks: dict[str, dict[str, str]] = {k: dict(v) for k, v in dataset_blocks(manifest, words).items()}
    # What is missing is said before anything else is.
    blocks["title"] = {"incomplete": incomplete(manifest), **blocks["title"]}
    about = {"parts": parts(manifest), "not-in-meadow": not_in_meadow(manifest)}
    blocks["what-it-is"] = {**about, **blocks["what-it-is"]}
    blocks["how-it-was-made"] = {**blocks["how-it-was-made"], "mixture-exams": checks(manifest)}
    return assemble(dataset_metadata(manifest), words, blocks, existing)


def words_of(mixture: Mixture) -> str:
    """The words of a mixture's card: those that come with it, or else made from its definition."""
    shipped = available().get(mixture.name)
    if shipped is not None:
        words = cards.words_for(mixture.dataset, Path())
        if words:
            return words
    beside = mixture.file.with_suffix(".md") if mixture.file else None
    if beside is not None and beside.is_file():
        return beside.read_text(encoding="utf-8-sig")
    notes = "\n".join(f"- {text(version)}: {text(note)}" for version, note in mixture.release_notes.items())
    return (
        f"# {text(mixture.name.replace('_', ' '))}\n\n"
        f"## What it is\n\n{text(mixture.description)}\n\n"
        "## How it was made\n\nA mixture of other datasets. Rows are drawn by a hash of their ids, so that "
        "the same rows are drawn in any order of the data, and stand in an order that is as random.\n\n"
        "## Known faults\n\nThose of its parts; see their cards.\n\n"
        "## Licence and evidence\n\nEvery row keeps the terms in its column `license`.\n\n"
        f"## Changelog\n\n{notes}\n"
    )


def incomplete(manifest: Manifest) -> str:
    """Says which parts a mixture was built without."""
    missing = manifest["mixture"]["missing"]
    if not missing:
        return ""
    lines = "\n".join(f"- {text(part['dataset'])}: {text(part['reason'])}." for part in missing)
    return f"**INCOMPLETE: built without {_parts(len(missing))} of its definition.**\n\n{lines}"


def _parts(count: int) -> str:
    return "one part" if count == 1 else f"{count} parts"


def parts(manifest: Manifest) -> str:
    """The parts: what was wanted, what there was, what was taken."""
    found = manifest["mixture"]["parts"]
    published = any(part.get("published") is not None for part in found)
    header = ["Dataset", "Version", "Splits", "Built from", "Rows wanted", "Rows to draw from", "Rows taken"]
    rows = []
    for part in found:
        row = [
            text(part["dataset"]),
            text(part["version"]),
            text(", ".join(part["split"])),
            "**sample**" if part["sample"] else "raw",
            "all" if part["wanted"] is None else f"{part['wanted']:,}",
            f"{part['available']:,}",
            f"{part['taken']:,}",
        ]
        if published:
            row.append("-" if part.get("published") is None else f"{part['published']:,}")
        rows.append(row)
    if published:
        header.append("Published count")
    shown = ["### Parts", table(header, rows, left=4)]
    short = [shortage(part) for part in found]
    if any(short):
        shown.append("**Smaller than defined:**\n\n" + "\n".join(f"- {text(line)}" for line in short if line))
    noted = [f"- {text(part['dataset'])}: {text(part['note'])}" for part in found if part.get("note")]
    shown += ["\n".join(noted)] if noted else []
    source = manifest["mixture"].get("counts_from")
    if source:
        where = text(source) if not is_url(source) else source
        shown.append(
            f"The published counts are from {where}. Which rows were published is not known, so these are "
            "drawn by Meadow's own sampling and are others."
        )
    return "\n\n".join(shown)


def shortage(part: Mapping[str, Any]) -> str:
    """Says that a part gave fewer rows than were wanted; empty where it did not."""
    wanted, taken = part["wanted"], part["taken"]
    if wanted is None:
        return f"{part['dataset']}: all rows wanted, and there was none" if not taken else ""
    if taken >= wanted:
        return ""
    return (
        f"{part['dataset']}: {wanted:,} rows wanted, {taken:,} taken, of {part['available']:,} to draw from"
    )


def not_in_meadow(manifest: Manifest) -> str:
    """What the published collection has and this mixture cannot."""
    absent = manifest["mixture"].get("not_in_meadow") or []
    if not absent:
        return ""
    rows = [
        [text(a["name"]), text(a["reason"]), "-" if a["published"] is None else f"{a['published']:,}"]
        for a in absent
    ]
    return "### Parts of the published collection that are not in it\n\n" + table(
        ("Part", "Why", "Published count"), rows, left=2
    )


def exam_rows(manifest: Manifest) -> list[str]:
    """Says which parts brought rows that hold an exam item, a sentence each."""
    return [
        f"{count:,} row{'' if count == 1 else 's'} of {name} hold{'s' if count == 1 else ''} an exam item: "
        "its build only flagged them"
        for name, count in manifest["mixture"]
        .get("exam_rows", {})
        .items()  # not there: mixed before it was counted
    ]


def checks(manifest: Manifest) -> str:
    """What the rows went through in the builds of the parts, and what the screens cannot do."""
    from meadow.filters.privacy import LIMITS

    rows, unchecked = [], []
    for part in manifest["mixture"]["parts"]:
        found = part.get("contamination") or {}
        exams = found.get("exams") if found.get("policy") != "off" else None
        rows.append(
            [
                text(part["dataset"]),
                ", ".join(map(text, exams or ())) or "**not checked**",
                _DONE.get((part.get("privacy") or {}).get("policy"), "**not screened**"),
                _DONE.get((part.get("duplicates") or {}).get("policy"), "**not looked for**"),
            ]
        )
        unchecked += [f"- {text(part['dataset'])}: {text(why)}" for why in found.get("unchecked", ())]
    header = ("Dataset", "Exams checked for", "Personal data", "Duplicates")
    shown = ["### Checks of the parts", table(header, rows, left=4)]
    held = exam_rows(manifest)
    if held:
        lines = "\n".join(f"- {text(line)}" for line in held)
        shown.append(f"**Rows that hold an exam item are in this mixture:**\n\n{lines}")
    if unchecked:
        shown.append("**Not checked against:**\n\n" + "\n".join(dict.fromkeys(unchecked)))
    return "\n\n".join([*shown, LIMITS])
