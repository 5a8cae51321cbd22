"""What a store holds, as one HTML page that needs no network: an overview, and for each dataset its facts and random rows.

The page is one file that loads nothing: its content security policy forbids every request, and its style and
script are admitted by their hashes. Which view is shown follows from the address alone (``:target``), so
it works without the script, which only offers to choose the theme.

`gather` reads facts out of manifests and Parquet files, `svg` measures pictures, the templates say the rest.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import jinja2

from meadow.core.licenses.judge import QUESTIONS
from meadow.core.manifest import FunnelStage, MixtureRecord
from meadow.core.store import Store, write_whole
from meadow.core.units import size_of
from meadow.describe.cards import markdown
from meadow.describe.cards.templates import FOLDER, count, environment
from meadow.describe.report import svg
from meadow.describe.report.gather import MOST, Facts, Gathered, gather

#: The page's name in the output folder.
PAGE = "report.html"
_HERE = Path(__file__).parent
#: Stages of a build and of a mixture, as a page calls them.
_STAGES = {
    **{name: name.capitalize() for name in ("source", "quality", "language", "privacy", "contamination")},
    **{name: name.capitalize() for name in ("duplicates", "conditions", "sampling", "groups")},
    "license": "Licence",
}
#: What a dataset that a check did not see is said to be, by the check's key in its manifest.
_NOT_DONE = {
    "contamination": "Not checked against exams",
    "privacy": "Not screened for private details",
    "duplicates": "Not searched for duplicates",
}
#: What hides, turns or breaks text: controls but tab and newline, direction marks, noncharacters.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")


def write_report(
    store: Store, file: Path | None = None, *, rows: int = 50, seed: int = 0
) -> tuple[Path, int]:
    """Writes the report of an output folder; the same folder gives the same bytes.

    Args:
        store: The output folder.
        file: The page to write; None for ``report.html`` in the folder.
        rows: Random rows of each dataset.
        seed: Which random rows.

    Returns:
        The page and its size in bytes.

    Raises:
        StoreError: There is no dataset, or one was built anew meanwhile.
        OSError: The page cannot be written.
    """
    text = _page(gather(store, rows=rows, seed=seed))
    if file is None:
        store.write(PAGE, text)
        file = store.root / PAGE
    else:
        write_whole(file, text)
    return file, len(text.encode())


def _page(found: Gathered) -> str:
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    views = list(map(_view, found.datasets, _identities(found.datasets)))
    about: dict[str, list[dict[str, Any]]] = {}
    for view in views:
        for warning in view["warnings"]:
            about.setdefault(warning, []).append(view)
    return _environment().get_template("report.html.j2").render(
        policy=(
            f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "base-uri 'none'; form-action 'none'"
        ),
        **{"style": style, "script": script, "views": views, "warnings": about, "problems": found.problems},
        **{"seed": found.seed, "most": MOST, "stages": _STAGES, "questions": QUESTIONS},
    )  # fmt: skip


def _text(value: object) -> str:
    """Data as inert text; characters that hide or turn it are written as escapes."""
    shown = str(value).replace("\r\n", "\n")
    return escape(_HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", shown))


@functools.cache
def _environment() -> jinja2.Environment:
    return environment(
        FOLDER,
        _text,
        {
            "percent": svg.percent,
            "size": size_of,
            "hex": markdown.hexadecimal,
            "is_url": markdown.is_url,
            "cut": _cut,
            "words": _words,
            "told": _told,
            "plain": lambda value: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False),
            "number": lambda value: count(value) if type(value) is int else _words(value),
            "most_first": _most_first,
            "on": lambda check: check is not None and check.policy != "off",
        },
    )


def _cut(value: object, most: int = 300) -> str:
    """The beginning of a text that is to stay short."""
    words = str(value)
    return words if len(words) <= most else words[:most].rstrip() + " ..."


def _words(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _most_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _told(value: object) -> str:
    """A value of a mixture's part; of a check, its policy and the exams at hand."""
    if not isinstance(value, dict):
        return _words(value)
    return ": ".join(_words(each) for each in (value["policy"], value.get("exams")) if each)


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _identities(datasets: Iterable[Facts]) -> list[str]:
    """An element id for each dataset: its name, where that can be one."""
    found: list[str] = []
    for facts in datasets:
        plain = "d-" + re.sub(r"[^A-Za-z0-9_-]+", "-", facts.manifest.name)
        identity, number = plain, 2
        while identity in found:
            identity, number = f"{plain}--{number}", number + 1
        found.append(identity)
    return found


def _view(facts: Facts, identity: str) -> dict[str, Any]:
    """What the templates name of one dataset."""
    m = facts.manifest
    stages = m.funnel.stages or (
        FunnelStage(stage="Left out", read=m.funnel.read, kept=m.funnel.kept, dropped=m.funnel.dropped),
    )
    steps = [(_STAGES.get(stage.stage, stage.stage), stage) for stage in stages]
    lengths = {name: found for name, found in m.lengths.items() if found.histogram}
    evidence: dict[str, list[str]] = {}
    for spdx in m.license_ids:
        evidence.setdefault(m.terms(spdx).evidence.strip(), []).append(spdx)
    # What was done to the rows of a mixture, its parts say.
    hidden = {key for key in _NOT_DONE if m.mixture and not getattr(m, key)}
    hidden |= {key for key, there in (("lengths", lengths), ("mixture", m.mixture)) if not there}
    mixture: Mapping[str, Any] = m.mixture.model_dump(mode="json", exclude_unset=True) if m.mixture else {}
    return {
        "f": facts,
        "m": m,
        "id": identity,
        "left_out": m.funnel.read - m.funnel.kept,
        "warnings": warnings(facts),
        "hidden": hidden,
        "funnel": svg.funnel(m.funnel, steps),
        "reasons": [
            (name if m.funnel.stages else "-", reason, rows)
            for name, stage in steps
            for reason, rows in _most_first(stage.dropped)
            if rows
        ],
        "histograms": svg.histograms(lengths),
        "sites": [(site or "no address", rows) for site, rows in facts.sites],
        "columns": dict.fromkeys(
            key for part in mixture.get("parts", ()) for key in part if "sha256" not in key
        ),
        "parts": mixture.get("parts"),
        "mixture": {key: value for key, value in mixture.items() if key not in ("parts", "licensing")},
        "evidence": evidence,
        "written": [file for split in m.splits.values() for file in split.files[:300]],
    }


def warnings(facts: Facts) -> list[str]:
    """What somebody must know before they use a dataset, the gravest first."""
    m = facts.manifest
    plain = environment(FOLDER, lambda value: " ".join(str(value).split()), {})
    said = plain.get_template("report_warnings.txt.j2").render(
        m=m,
        parts=_of_parts(m.mixture) if m.mixture else [],
        terms={spdx: m.terms(spdx) for spdx in m.license_ids},
        not_done=_NOT_DONE,
    )
    return [*said.splitlines(), *facts.problems]


def _of_parts(mixture: MixtureRecord) -> list[str]:
    """What the builds of a mixture's parts left open: a mixture is drawn from them, not checked again."""
    about: dict[str, list[str]] = {}
    for name, rows in mixture.exam_rows.items():
        held = "Rows that hold exam items were flagged and are in it"
        about.setdefault(held, []).append(f"{rows} of {name}")
    for part in mixture.parts:
        for key, none in _NOT_DONE.items():
            if getattr(part, key).policy in (None, "off"):
                about.setdefault(none, []).append(part.dataset)
            for why in part.contamination.unchecked if key == "contamination" else ():
                about.setdefault(f"Not checked against an exam: {why}", []).append(part.dataset)
    return [f"{words} ({', '.join(dict.fromkeys(names))})." for words, names in about.items()]
