"""Speed of the quality filter on clean rows, beside the obvious way to repair encodings: `ftfy` on every row."""

from __future__ import annotations

import random
import time

import pytest

from meadow.core.parts import Seen
from meadow.core.quality import Quality
from meadow.core.row import Example
from meadow.filters.quality import QualityFilter

pytestmark = pytest.mark.bench

ROWS = 2_000
_WORDS = (
    "the patient fever cough renal of acute and with chronic a dose infection is treated by after weeks in therapy "
    "pressure because heart lung severe mild onset days fatigue anemia insulin sodium serum level rises falls may"
).split()
_FOREIGN = ("µg", "≥ 5", "37 °C", "Ménière’s", "β-blocker", "10–20", "Sjögren", "“normal”", "± 2", "Ca²⁺")


def _text(random_: random.Random, size: int, foreign: bool) -> str:
    words: list[str] = []
    length = 0
    while length < size - 12:
        words.append(random_.choice(_WORDS))
        if random_.random() < 0.08:
            words[-1] += random_.choice((".", ",", " (5 mg)", ", 12%,"))
        if foreign and random_.random() < 0.04:
            words.append(random_.choice(_FOREIGN))
        length = sum(map(len, words)) + len(words)
    return " ".join(words).capitalize() + "."


def _rows(foreign: bool) -> list[Example]:
    random_ = random.Random(5)
    return [
        Example(
            f"toy/{n}", "Answer this question truthfully",
            f"What is known about case {n}? {_text(random_, 270, foreign)}", _text(random_, 700, foreign), f"toy/{n}",
        )
        for n in range(ROWS)
    ]  # fmt: skip


def _best(work: object, rows: list[Example]) -> float:
    """Microseconds a row, the best of five turns."""
    found = []
    for _ in range(5):
        start = time.perf_counter()
        for row in rows:
            work(row)
        found.append((time.perf_counter() - start) / len(rows) * 1e6)
    return min(found)


@pytest.mark.parametrize(("kind", "foreign", "least"), [("ASCII", False, 2), ("with µ, ≥, é, “ ”", True, 10)])
def test_less_than_ftfy_on_every_row(kind: str, foreign: bool, least: float) -> None:
    from ftfy import fix_text

    rows, judge, seen = _rows(foreign), QualityFilter(Quality()), Seen()
    assert all(judge(row, seen) is row for row in rows) and not seen.notes
    size = sum(len(row.input) + len(row.output) for row in rows) / len(rows)
    ours = _best(lambda row: judge(row, seen), rows)
    theirs = _best(lambda row: (fix_text(row.input), fix_text(row.output)), rows[: ROWS // 10])
    ours = min(ours, _best(lambda row: judge(row, seen), rows))
    print(
        f"\n{kind}, {size:.0f} characters a row: quality {ours:.1f} µs, ftfy.fix_text on every row {theirs:.1f} µs: "
        f"{theirs / ours:.1f} times"
    )
    assert theirs / ours >= least
