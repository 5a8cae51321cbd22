"""The blocks of a card that say what the build's filters did to the rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from meadow.describe.cards.manifest import Manifest
from meadow.describe.cards.markdown import hexadecimal, share, table, text

_SETTINGS = ("languages", "quality", "policy", "privacy", "contamination", "duplicates")


def stages(manifest: Manifest) -> str:
    """The funnel stage by stage, and what filters noted of rows that stayed."""
    funnel = manifest["funnel"]
    if not funnel.get("stages"):
        return ""
    rows = [
        [stage["stage"], f"{stage['read']:,}", f"{stage['read'] - stage['kept']:,}", f"{stage['kept']:,}"]
        for stage in funnel["stages"]
    ]
    parts = ["### Stages of the build", table(("Stage", "Rows in", "Left out", "Rows on"), rows)]
    notes = [
        f"- {text(stage)}: " + ", ".join(f"{text(label)} {count:,}" for label, count in labels.items())
        for stage, labels in (manifest.get("notes") or {}).items()
        if stage != "privacy"  # it has a block of its own
    ]
    if notes:
        parts.append("Of the rows that stayed:\n\n" + "\n".join(notes))
    settings = manifest.get("filters") or {}
    shown = [f"{name} = {text(json.dumps(settings[name]))}" for name in _SETTINGS if settings.get(name)]
    if shown:
        parts.append(f"Settings: {', '.join(shown)}.")
    return "\n\n".join(parts)


def contamination(manifest: Manifest) -> str:
    """Per exam: items checked, items hit, rows dropped; and what was not checked."""
    title = "### Exam items in the training rows"
    found = manifest.get("contamination")
    if not found:
        if manifest.get("test_only"):
            return (
                f"{title}\n\nThis is an exam: other datasets are compared with it, not the other way round."
            )
        return ""
    if found["policy"] == "off":
        return f"{title}\n\n**Not checked**: this build was told not to look for exam items."
    parts = [title]
    if found["exams"]:
        rows = [
            [
                text(exam["exam"]) + (" (sample)" if exam["sample"] else ""),
                text(f"{exam['version']} {exam['split']}".strip()),
                f"{exam['items']:,}",
                f"{exam.get('unjudged', 0):,}",
                f"{exam['items_hit']:,}",
                f"{exam['rows_hit']:,}",
                f"{exam['rows_dropped']:,}",
                f"`{hexadecimal(exam['sha256'])[:12]}`",
            ]
            for exam in found["exams"]
        ]
        header = (
            "Exam",
            "Version, split",
            "Items checked",
            "Too short to judge",
            "Items hit",
            "Rows hit",
            "Rows dropped",
            "Items' SHA-256",
        )
        parts.append(table(header, rows, left=2))
        if any(exam["rows_hit"] for exam in found["exams"]):
            fate = "were left out" if found["policy"] == "drop" else "**are still in the dataset**"
            parts.append(
                f"Rows that hold an item {fate}; `contamination.parquet` lists each with its item and, where it was built, the overlapping text."
            )
    else:
        parts.append("**Not checked**: no exam was at hand.")
    if found["unchecked"]:
        missing = "\n".join(f"- {text(why)}" for why in found["unchecked"])
        parts.append(f"**Not checked against:**\n\n{missing}")
    return "\n\n".join(parts)


def duplicates(manifest: Manifest) -> str:
    """How many rows repeat another, and by which rule one of them stays."""
    found = manifest.get("duplicates")
    if not found:
        return ""
    title = "### Duplicates"
    if found["policy"] == "off":
        return f"{title}\n\n**Not looked for** in this build."
    fate = "left out" if found["policy"] == "drop" else "**kept, only listed**"
    fields = " and ".join(f"`{text(name)}`" for name in found["fields"])
    others = ", ".join(text(name) for name in found["compared_with"]) or "no other dataset"
    rule = (
        "Texts are compared after Unicode and whitespace normalisation; near means that the sets of five-word "
        f"shingles share at least {found['threshold']:.0%} (Jaccard, computed exactly). Of a cluster the row of the "
        "source with the higher priority stays, then the one with the smaller id."
    )
    apart = found.get("contradicting", 0)
    if apart:
        rule += (
            f" {apart:,} rows are kept although they are near another, because the two say different things: another "
            "answer, another number, an opposite word."
        )
    return (
        f"{title}\n\n{found['exact']:,} exact and {found['near']:,} near duplicates, {fate}, in {found['clusters']:,} "
        f"clusters, judged by {fields}, within the dataset and against {others}.\n\n{rule} "
        "`duplicates.parquet` lists the clusters."
    )


def privacy(manifest: Manifest) -> str:
    """What was found that could identify a person, what was done, and what the screen cannot do."""
    found = manifest.get("privacy")
    if not found:
        return ""
    title = "### Screen for personal data"
    policy = found["policy"]
    if policy == "off":
        return f"{title}\n\n**Not screened**: this build was told not to look for personal data."
    done: Mapping[str, str] = {
        "mask": "Findings are masked by typed placeholders such as `[EMAIL]`.",
        "drop": "Rows with a finding were left out.",
        "flag": "Findings are **left as they are**, and `privacy.parquet` lists where they stand.",
    }
    parts = [title, f"Policy: {text(policy)}. {done[policy]}"]
    if found["findings"]:
        total = sum(found["findings"].values())
        rows = [[text(kind), f"{n:,}", share(n, total)] for kind, n in found["findings"].items()]
        parts.append(f"In {found['rows']:,} rows:\n\n" + table(("Type", "Findings", "Share"), rows))
    elif policy != "drop":
        parts.append("Nothing was found.")
    from meadow.filters.privacy import LIMITS

    parts.append(LIMITS)
    return "\n\n".join(parts)


def blocks(manifest: Manifest) -> dict[str, Any]:
    """All of them, by name."""
    return {
        "stages": stages(manifest),
        "contamination": contamination(manifest),
        "duplicates": duplicates(manifest),
        "privacy": privacy(manifest),
    }
