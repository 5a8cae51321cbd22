"""The page: an overview, and for each dataset one view of facts and one of random rows.

It is one file that loads nothing: its content security policy forbids every request, and its style and
script are admitted by their hashes. Which view is shown follows from the address alone (``:target``), so
it works without the script, which only offers to choose the theme.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from meadow.describe.report.facts import dataset_view, left_out, row_count, warnings
from meadow.describe.report.gather import Facts, Gathered
from meadow.describe.report.html import Html, count, here, items, join, table, tag, terms, text
from meadow.describe.report.random_rows import rows_view

_FOLDER = Path(__file__).parent
#: Datasets that a warning names.
_NAMED = 12


def page(found: Gathered) -> str:
    """Writes the page; the same facts give the same text.

    Returns:
        An HTML document that refers to nothing outside itself but by links.
    """
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    identities = _identities(found.datasets)
    views = [_overview(found, identities)]
    for facts, identity in zip(found.datasets, identities, strict=True):
        views += (dataset_view(facts, identity), rows_view(facts, identity, found.seed))
    head = join((
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{text(policy)}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="referrer" content="no-referrer">'),
        Html('<meta name="generator" content="Meadow">'),
        tag("title", "Meadow report"),
        Html(f"<style>{style}</style>"),
    ), "\n")  # fmt: skip
    top = tag("header", tag("div", here("Meadow report", "overview"), Html('<button id="theme" type="button" hidden>Theme</button>')), cls="top")  # fmt: skip
    foot = tag("footer", tag("p", "Nothing here is medical advice. Written by Meadow from manifests and Parquet files; it loads nothing from the network."))  # fmt: skip
    body = join((top, tag("main", *views, foot), Html(f"<script>{script}</script>")), "\n")
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _identities(datasets: Sequence[Facts]) -> list[str]:
    """An element id for each dataset: its name, where that can be one."""
    found: dict[str, None] = {}
    for facts in datasets:
        plain = "d-" + re.sub(r"[^A-Za-z0-9_-]+", "-", facts.name)
        identity, number = plain, 2
        while identity in found:
            identity, number = f"{plain}--{number}", number + 1
        found[identity] = None
    return list(found)


def _overview(found: Gathered, identities: Sequence[str]) -> Html:
    rows = sum(row_count(facts.manifest) for facts in found.datasets)
    train = sum(row_count(f.manifest) for f in found.datasets if not f.manifest.get("test_only"))
    lost = sum(left_out(facts.manifest) for facts in found.datasets)
    samples = sum(bool(facts.manifest.get("sample")) for facts in found.datasets)
    tiles = [
        ("Datasets", count(len(found.datasets))),
        ("Rows", count(rows)),
        ("Rows but exams", count(train)),
        ("Left out", count(lost)),
        ("From samples", f"{samples} of {len(found.datasets)}"),
    ]
    return tag(
        "section",
        tag("h1", "Datasets in this folder"),
        tag("p", "What each dataset holds, what was left out and why, and under which terms its rows are.", cls="lead"),
        terms(tiles, "tiles"),
        _datasets(found, identities),
        _all_warnings(found, identities),
        id="overview",
        cls="view first",
        tabindex="-1",
    )  # fmt: skip


def _datasets(found: Gathered, identities: Sequence[str]) -> Html:
    rows = []
    for facts, identity in zip(found.datasets, identities, strict=True):
        m = facts.manifest
        name = join((here(facts.name, identity), *_tags(facts)), " ")
        exams, private = m.get("contamination"), m.get("privacy")
        duplicates = m.get("duplicates")
        rows.append([
            name,
            m["version"],
            count(row_count(m)),
            count(left_out(m)),
            ", ".join(m.get("licenses") or ()) or "-",
            count(facts.hit_rows) if _on(exams) else "-",
            count(duplicates.get("exact", 0) + duplicates.get("near", 0)) if _on(duplicates) else "-",
            count(private.get("rows", 0)) if _on(private) else "-",
            here(count(len(facts.rows)), f"{identity}-rows"),
        ])  # fmt: skip
    header = (
        *("Dataset", "Version", "Rows", "Left out", "Licences"),
        *("Exam hits", "Duplicates", "Private", "To read"),
    )
    caption = "In rows; a dash where they were not checked"
    shown = table(caption, header, rows, numbers=(2, 3, 5, 6, 7, 8), wide=(0, 4))
    return tag("div", tag("h2", "All datasets", id="datasets"), shown, cls="card")


def _on(report: Mapping[str, Any] | None) -> bool:
    return bool(report) and report.get("policy") != "off"


def _tags(facts: Facts) -> Iterator[Html]:
    if facts.manifest.get("sample"):
        yield tag("span", "sample", cls="tag alert")
    if facts.manifest.get("test_only"):
        yield tag("span", "exam", cls="tag")
    if facts.manifest.get("mixture"):
        yield tag("span", "mixture", cls="tag")


def _all_warnings(found: Gathered, identities: Sequence[str]) -> Html:
    """Warnings, each once with the datasets that it is about."""
    about: dict[str, list[Html]] = {}
    for facts, identity in zip(found.datasets, identities, strict=True):
        for warning in warnings(facts):
            about.setdefault(warning, []).append(here(facts.name, identity))
    lines = [text(problem) for problem in found.problems]
    for warning, names in about.items():
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        lines.append(join((warning, " ", join(names[:_NAMED], ", "), more)))
    if not lines:
        return Html("")
    return tag("div", tag("h2", "To know before use", id="warnings"), items(lines, "warnings"), cls="card")
