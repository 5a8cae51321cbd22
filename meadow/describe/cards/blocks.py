"""The generated blocks of cards: numbers out of manifests, as Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from meadow.core.licenses import verdict, verdict_of
from meadow.core.store import PLOT
from meadow.describe.cards import checks
from meadow.describe.cards.manifest import Manifest, license_ids, reasons, row_count
from meadow.describe.cards.markdown import fence, hexadecimal, is_url, link, quote, share, size, table, text
from meadow.describe.cards.merge import Blocks, sections

_PERCENTILES = ("min", "p5", "p25", "p50", "p75", "p95", "p99", "max", "mean")
#: Longest text of an example row that a card shows, in characters, and its longest list.
_EXAMPLE_TEXT = 600
_EXAMPLE_ITEMS = 10
#: More raw files than the first go into a fold, more than the second are left to the manifest.
_RAW_OPEN = 20
_RAW_MOST = 500


def dataset_blocks(manifest: Manifest, words: str) -> Blocks:
    """The blocks of a dataset's card, by the section of words that they follow."""
    return {
        "title": {"summary": _summary(manifest)},
        "what-it-is": {
            "splits": _splits(manifest),
            "lengths": _lengths(manifest),
            "plot": f"![Lengths of input and output, and rows kept and left out]({PLOT})",
            "example": _example(manifest),
        },
        "how-it-was-made": {"funnel": _funnel(manifest), **checks.blocks(manifest), "raw": _raw(manifest)},
        "licence-and-evidence": {"licences": _licences(manifest)},
        "citation": {"citation": _citation(manifest)},
        "changelog": {"releases": _releases(manifest, words), "checksums": _checksums(manifest)},
    }


def collection_blocks(manifests: Sequence[Manifest]) -> Blocks:
    """The blocks of a collection's card."""
    return {"title": {"datasets": _datasets(manifests), "loading": _loading(manifests)}}


def skeleton(manifest: Manifest) -> str:
    """Words for a dataset that has none."""
    notes = manifest.get("release_notes") or {}
    return (
        f"# {text(manifest['name'].replace('_', ' '))}\n\n"
        f"## What it is\n\n{text(manifest.get('description') or 'No description.')}\n\n"
        "## How it was made\n\nBuilt by Meadow from the raw files listed below.\n\n"
        "## Licence and evidence\n\nThe terms of each row are in its column `license`.\n\n"
        f"## Changelog\n\n{_notes(notes) or 'No release notes.'}\n"
    )


def _notes(notes: Mapping[str, str]) -> str:
    return "\n".join(f"- {text(version)}: {text(note)}" for version, note in notes.items())


def _summary(manifest: Manifest) -> str:
    rows, name = row_count(manifest), manifest["name"]
    origin = (
        "built from the **sample** that comes with Meadow, which is for trying things out and is not the real data"
        if manifest["sample"]
        else "built from **raw** files"
    )
    paragraphs = [
        f"**{text(name)}** version {text(manifest['version'])}, {rows:,} row{'' if rows == 1 else 's'}, {origin}."
    ]
    if manifest.get("test_only"):
        paragraphs.append("**Test only: an exam to score models on, never to train them on.**")
    facts = [f"- Task: {text(manifest.get('task', 'other'))}"]
    if is_url(manifest.get("homepage") or ""):
        facts.append(f"- Source: {text(manifest['homepage'])}")
    if manifest.get("parameters"):
        shown = (f"{text(k)} = {text(json.dumps(v))}" for k, v in sorted(manifest["parameters"].items()))
        facts.append(f"- Parameters: {', '.join(shown)}")
    code = f'import datasets, meadow\n\ndataset = datasets.load_dataset("meadow", {json.dumps(name)})'
    return "\n\n".join([*paragraphs, "\n".join(facts), fence(code, "python")])


def _splits(manifest: Manifest) -> str:
    total = row_count(manifest)
    rows = [
        [
            text(name),
            f"{split['rows']:,}",
            share(split["rows"], total),
            f"{len(split['files']):,}",
            size(sum(file["bytes"] for file in split["files"])),
        ]
        for name, split in manifest["splits"].items()
    ]
    if not rows:
        return "### Splits\n\nNo row was kept, so there is no split."
    return "### Splits\n\n" + table(("Split", "Rows", "Share", "Files", "Parquet"), rows)


def _lengths(manifest: Manifest) -> str:
    lengths = manifest.get("lengths") or {}
    shown = {f: lengths[f] for f in ("input", "output") if f in lengths and lengths[f].get("p50") is not None}
    if not shown:
        return ""
    units = ", ".join(dict.fromkeys(text(values.get("unit", "characters")) for values in shown.values()))
    rows = [
        [field, *("-" if values.get(p) is None else f"{values[p]:,.0f}" for p in _PERCENTILES)]
        for field, values in shown.items()
    ]
    return f"### Lengths in {units}\n\n" + table(("Column", *_PERCENTILES), rows)


def _example(manifest: Manifest) -> str:
    if not manifest.get("example"):
        return ""
    # JSON keeps each text on one line, behind its key: no line of it can be a marker or a fence.
    shown = json.dumps(_shorten(manifest["example"]), indent=2, ensure_ascii=False, default=str)
    return "### One row\n\n" + fence(shown, "json")


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


def _funnel(manifest: Manifest) -> str:
    read, kept = manifest["funnel"]["read"], manifest["funnel"]["kept"]
    counts = [("Read", read), ("Kept", kept), ("Left out", read - kept)]
    counts += [(f"Left out: {text(reason)}", count) for reason, count in reasons(manifest)]
    rows = [[name, f"{count:,}", share(count, read)] for name, count in counts]
    tail = "\n\n`rejected.parquet` lists every row left out with its reason." if read > kept else ""
    return "### Rows read, kept and left out\n\n" + table(("", "Rows", "Share"), rows) + tail


def _raw(manifest: Manifest) -> str:
    files = manifest["raw"]
    if not files:
        return ""
    shown = table(
        ("File", "SHA-256", "Bytes"),
        [[text(f["path"]), f"`{hexadecimal(f['sha256'])}`", f"{f['bytes']:,}"] for f in files[:_RAW_MOST]],
        left=2,
    )
    if len(files) > _RAW_MOST:
        shown += f"\n\n{len(files) - _RAW_MOST:,} more are listed in `manifest.json`."
    if len(files) > _RAW_OPEN:
        shown = f"<details>\n<summary>{len(files):,} files</summary>\n\n{shown}\n\n</details>"
    return f"### Raw files\n\n{shown}"


def _licences(manifest: Manifest) -> str:
    counts, terms = manifest["licenses"], manifest.get("license_terms") or {}
    rows, in_full = [], []
    bearers: dict[str, list[str]] = {}  # evidence to the licences that it is given for
    for spdx in license_ids(manifest):
        term, count = terms.get(spdx, {}), counts.get(spdx, 0)
        name = link(term.get("name") or spdx, term.get("url") or "")
        rows.append([text(spdx), name, f"{count:,}", share(count, sum(counts.values()))])
        evidence = (term.get("evidence") or "").strip()
        if spdx.startswith("LicenseRef-"):
            said = quote(evidence or "No terms are recorded.")
            in_full.append(f"**{text(spdx)}**, the terms in full:\n\n{said}")
        else:
            bearers.setdefault(text(evidence) or "no evidence is recorded.", []).append(f"**{text(spdx)}**")
    if not rows:
        return "### Licences of the rows\n\nThere are no rows."
    why = "\n".join(f"- {', '.join(names)}: {evidence}" for evidence, names in bearers.items())
    shown = table(("SPDX", "Licence", "Rows", "Share"), rows, left=2)
    if any(counts.values()):
        # Of a mixture, the reasons name the datasets that rows are from.
        parts = (manifest.get("mixture") or {}).get("licensing")
        judged = verdict_of(parts) if parts else verdict(counts, terms, manifest.get("generators"))
        whole = judged.markdown()
        in_full.append(f"### What may be done with all of it\n\n{whole}")
    return "\n\n".join(["### Licences of the rows", shown, *([why] if why else []), *in_full])


def _citation(manifest: Manifest) -> str:
    citation = (manifest.get("citation") or "").strip()
    return fence(citation, "bibtex") if citation else ""


def _releases(manifest: Manifest, words: str) -> str:
    """Release notes of versions that the words' changelog does not name."""
    changelog = dict(sections(words)).get("changelog", "")
    notes = manifest.get("release_notes") or {}
    named = {v for v in notes if re.search(rf"(?<![\d.]){re.escape(v)}(?![\d.]*\d)", changelog)}
    return _notes({version: note for version, note in notes.items() if version not in named})


def _checksums(manifest: Manifest) -> str:
    ids, rows = hexadecimal(manifest["ids_sha256"]), hexadecimal(manifest["rows_sha256"])
    return (
        "### Checksums\n\n"
        f"- `ids_sha256`, over the sorted row ids: `{ids}`\n"
        f"- `rows_sha256`, over the rows whatever the Parquet encoding: `{rows}`\n\n"
        "`manifest.json` has those of every file."
    )


def _datasets(manifests: Sequence[Manifest]) -> str:
    if not manifests:
        return "No dataset has been built yet."
    rows = []
    for m in manifests:
        card = f"{m['name']}/{m['version']}/README.md"
        name = f"[{text(m['name'])}](<{card}>)" if re.fullmatch(r"[\w./-]+", card) else text(m["name"])
        rows.append(
            [
                name + (" (test only)" if m.get("test_only") else ""),
                text(m["version"]),
                ", ".join(f"{text(name)} {split['rows']:,}" for name, split in m["splits"].items()) or "none",
                ", ".join(map(text, license_ids(m))) or "-",
                "**sample**" if m["sample"] else "raw",
                f"{m['funnel']['read'] - m['funnel']['kept']:,}",
            ]
        )
    header = ("Dataset", "Version", "Rows per split", "Licences", "Built from", "Left out")
    shown = table(header, rows, left=5)
    samples = sum(bool(m["sample"]) for m in manifests)
    if not samples:
        return shown
    which = "They are" if samples == len(manifests) else f"{samples} of {len(manifests)} are"
    note = "built from the sample that comes with Meadow, for trying things out: that is not the real data."
    return f"{shown}\n\n**{which} {note}**"


def _loading(manifests: Sequence[Manifest]) -> str:
    if not manifests:
        return ""
    names = [m["name"] for m in manifests]
    name = json.dumps("wikidoc" if "wikidoc" in names else names[0])
    code = f"""\
import datasets

dataset = datasets.load_dataset("path/to/this/folder", {name})  # without Meadow

import meadow

dataset = datasets.load_dataset("meadow", {name})"""
    return fence(code, "python")
