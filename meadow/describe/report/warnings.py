"""What must be known before a dataset is used."""

from __future__ import annotations

from collections.abc import Iterator

from meadow.core.manifest import Manifest, MixtureRecord
from meadow.describe.report.gather import Facts

#: What a dataset that a check did not see is said to be, by the check's key in its manifest.
NOT_DONE = {
    "contamination": "Not checked against exams",
    "privacy": "Not screened for private details",
    "duplicates": "Not searched for duplicates",
}


def warnings(facts: Facts) -> list[str]:
    """What somebody must know before they use a dataset, the gravest first."""
    m = facts.manifest
    found = []
    if m.sample:
        found.append("Built from the embedded sample: small texts written for tests, not the real data.")
    if m.test_only:
        found.append("An exam: for scoring models, never for training them.")
    if m.mixture:
        found += _of_parts(m.mixture)
    else:
        if not m.test_only:
            found += _of_exams(m)
        found += _of_screens(m)
    unsettled = [spdx for spdx in m.license_ids if not m.terms(spdx).settled]
    if unsettled:
        found.append(f"Unsettled licence: {', '.join(unsettled)}.")
    written = [spdx for spdx in m.license_ids if m.terms(spdx).output_terms]
    if written:
        found.append(f"Written by a model whose terms may bind: {', '.join(written)}.")
    return [*found, *facts.problems]


def _of_parts(mixture: MixtureRecord) -> list[str]:
    """What the builds of a mixture's parts left open: a mixture is drawn from them, not checked again."""
    about: dict[str, list[str]] = {}
    for name, rows in mixture.exam_rows.items():
        held = "Rows that hold exam items were flagged and are in it"
        about.setdefault(held, []).append(f"{rows} of {name}")
    for part in mixture.parts:
        for key, none in NOT_DONE.items():
            if getattr(part, key).policy in (None, "off"):
                about.setdefault(none, []).append(part.dataset)
            for why in part.contamination.unchecked if key == "contamination" else ():
                about.setdefault(f"Not checked against an exam: {why}", []).append(part.dataset)
    return [f"{words} ({', '.join(dict.fromkeys(names))})." for words, names in about.items()]


def _of_exams(m: Manifest) -> Iterator[str]:
    checked = m.contamination
    if checked is None or checked.policy == "off":
        yield f"{NOT_DONE['contamination']}."
        return
    yield from (f"Not checked against an exam: {why}" for why in checked.unchecked)
    samples = sorted({exam.exam for exam in checked.exams if exam.sample})
    if samples:
        yield f"Checked against samples of exams only, not the real ones: {', '.join(samples)}."
    if checked.policy == "flag" and any(exam.rows_hit for exam in checked.exams):
        yield "Rows that hold exam items were flagged and are still in it."


def _of_screens(m: Manifest) -> Iterator[str]:
    if m.privacy is None or m.privacy.policy == "off":
        yield f"{NOT_DONE['privacy']}."
    elif m.privacy.policy == "flag" and m.privacy.rows:
        yield "Details that may be private were flagged and are still in it."
    if m.test_only:
        return  # exams stay as they were published
    if m.duplicates is None or m.duplicates.policy == "off":
        yield f"{NOT_DONE['duplicates']}."
    elif m.duplicates.policy == "flag" and m.duplicates.clusters:
        yield "Duplicates were flagged and are still in it."
