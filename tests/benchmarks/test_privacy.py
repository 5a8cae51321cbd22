"""Cost of the privacy screen for rows that hold nothing to be found, and for some that do."""

from __future__ import annotations

import json
import random
import statistics
import time
from pathlib import Path

import pytest
from lxml import etree

from meadow.filters.privacy import evaluation, find
from meadow.parse.htmltext import html_to_text

pytestmark = pytest.mark.bench

#: Microseconds for a Stack Exchange post without identifiers (median; about 900 characters on average),
#: with room for a machine twice as slow as the one it was measured on (34).
LIMIT = 70


def _seconds(text: str) -> float:
    runs = []
    for _ in range(5):
        start = time.perf_counter()
        find(text)
        runs.append(time.perf_counter() - start)
    return min(runs)


def _cost(name: str, texts: list[str]) -> float:
    """Prints mean and median microseconds for a text, and returns the median."""
    clean = [text for text in texts if not find(text)]
    micros = [_seconds(text) * 1e6 for text in clean]
    size = sum(map(len, clean)) / len(clean)
    median = statistics.median(micros)
    print(
        f"\n{name}: {len(clean):,} of {len(texts):,} texts hold nothing, {size:.0f} characters on average: "
        f"median {median:.0f} us, mean {statistics.mean(micros):.0f} us",
        end="",
    )
    return median


def test_rows_without_identifiers_are_cheap(real: Path) -> None:
    posts = [
        html_to_text(row.get("Body"))
        for path in sorted((real / "stackexchange").glob("*/Posts.xml"))
        for row in etree.parse(path).getroot()
        if row.get("Body")
    ]
    dialogues = json.loads((real / "chatdoctor" / "chatdoctor5k.json").read_text(encoding="utf-8"))
    pages = json.loads((real / "wikidoc" / "medical_meadow_small.json").read_text(encoding="utf-8"))
    median = _cost("Stack Exchange posts", posts)
    _cost("dialogues", [row["output"] for row in dialogues[:1500]])
    _cost("WikiDoc answers", [row["output"] for row in pages[:1500] if row["output"]])
    rng = random.Random(6)
    marked = [s.text for s in evaluation.labelled() if s.findings]
    hot = statistics.median(_seconds(" ".join(rng.choices(marked, k=15))) * 1e6 for _ in range(100))
    print(f"\nabout 900 characters with 15 identifiers: median {hot:.0f} us")
    assert median <= LIMIT
