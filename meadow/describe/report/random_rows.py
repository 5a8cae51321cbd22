"""The view of random rows of a dataset, each with where it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from meadow.core import rows as _columns
from meadow.describe.report.gather import Facts, ShownRow
from meadow.describe.report.html import Html, cut, here, join, link, long_text, tag, terms, text

#: Authors and options of one row that are shown.
_AUTHORS, _OPTIONS = 8, 15


def rows_view(facts: Facts, identity: str, seed: int) -> Html:
    """Random rows, each with its provenance."""
    shown = len(facts.rows)
    words = f"{shown:,} {'row' if shown == 1 else 'rows'} picked by a hash of the id, seed {seed}: the same rows every time."
    if facts.rows_cut:
        words += f" {facts.rows_cut:,} more were picked and are not shown, to keep this page small."
    if not shown:
        words = "No row is shown."
    tabs = (here("Facts", identity), tag("a", "Random rows", href=f"#{identity}-rows", aria_current="page"))
    return tag(
        "section",
        tag("h2", f"{facts.name}: random rows"),
        tag("nav", *tabs, cls="tabs", aria_label=f"{facts.name}: views"),
        tag("p", words, cls="lead"),
        *(_row(row, facts.manifest, f"{identity}-r{number}") for number, row in enumerate(facts.rows, start=1)),
        id=f"{identity}-rows",
        cls="view",
        tabindex="-1",
    )  # fmt: skip


def _row(shown: ShownRow, manifest: Mapping[str, Any], identity: str) -> Html:
    row = shown.row
    parts = [
        tag(
            "h3",
            tag("span", cut(row["id"]), cls="mono"),
            " ",
            tag("span", shown.split, cls="tag"),
            id=identity,
        )
    ]
    if row.get("instruction"):
        parts += (tag("h4", "Instruction"), long_text(row["instruction"]))
    if row.get("input"):
        parts += (tag("h4", "Input"), long_text(row["input"]))
    if row.get("options"):
        parts += (
            tag("h4", "Options"),
            tag("ol", *(_option(o, row.get("answer_key")) for o in row["options"][:_OPTIONS]), cls="options"),
        )
    parts += (tag("h4", "Output"), long_text(row.get("output") or ""))
    parts.append(terms(_provenance(shown, manifest), "facts"))
    return tag("article", *parts, cls="card row", aria_labelledby=identity)


def _option(option: Mapping[str, str], right: str | None) -> Html:
    words = cut(f"{option['key']}: {option['text']}")
    if option["key"] != right:
        return tag("li", words)
    return tag("li", words, " ", tag("span", "right answer", cls="tag"), cls="right")


def _provenance(shown: ShownRow, manifest: Mapping[str, Any]) -> list[tuple[str, object]]:
    row = shown.row
    spdx = row.get("license") or ""
    term = (manifest.get("license_terms") or {}).get(spdx) or {}
    found: list[tuple[str, object]] = []
    if row.get("source_url"):
        found.append(("Source", link(row["source_url"], row["source_url"])))
    else:
        found.append(("Source", tag("span", "no address is known", cls="muted")))
    if row.get("source_date"):
        found.append(("Date", cut(row["source_date"])))
    authors = row.get("authors") or []
    if authors:
        names = [
            link(cut(author.get("name") or "no name"), author.get("url")) for author in authors[:_AUTHORS]
        ]
        if len(authors) > _AUTHORS:
            names.append(text(f"and {len(authors) - _AUTHORS} more"))
        found.append(("Authors", join(names, ", ")))
    name = term.get("name")
    found.append(
        ("Licence", join((link(spdx, term.get("url")), f" ({name})" if name and name != spdx else "")))
    )
    if row.get("generator"):
        found.append(("Written by", cut(f"the model {row['generator']}")))
    found.append(("Raw file", _files(shown, manifest)))
    if row.get("group"):
        found.append(("Group", cut(row["group"])))
    for column, value in row.items():
        if column not in _columns.COLUMNS and value not in (None, "", []):
            words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            found.append((column, cut(words)))
    return found


def _files(shown: ShownRow, manifest: Mapping[str, Any]) -> Html:
    every = manifest.get("raw") or ()
    if not shown.files:
        return text(f"one of {len(every):,} files" if every else "not recorded")
    names = join((tag("code", path) for path in shown.files[:4]), ", ")
    return join((names, f" and {len(shown.files) - 4} more" if len(shown.files) > 4 else ""))
