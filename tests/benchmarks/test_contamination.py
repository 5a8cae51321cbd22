"""Speed of looking for exam items, beside the usual way, and what the index holds in memory.

The usual way: a Python set of the exams' thirteen-word runs, and for each row the question whether one of its own
is in it. It finds copies only, takes stock phrases for leaks, and cannot say which item a row holds.
"""

from __future__ import annotations

import json
import random
import re
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from meadow.filters.contamination import ExamSource, ExamText, Index, read_exam
from meadow.filters.contamination.judging import SHARES
from tests.exam_texts import invented, vignettes

pytestmark = pytest.mark.bench

_WORD = re.compile(r"\w+")


def _grams(text: str) -> list[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return list(zip(*(words[i:] for i in range(13)), strict=False))


def _rows(count: int, seed: int = 1) -> list[tuple[str, str]]:
    """Rows of 60 to 100 words, half of them common, one row in ten beyond ASCII."""
    rng = random.Random(seed)
    rare, common = invented(20_000, 7), sorted(SHARES)
    found = []
    for number in range(count):
        text = [rng.choice(rare if rng.random() < 0.5 else common) for _ in range(rng.randint(60, 100))]
        if number % 10 == 0:
            text[30] = "37.2°C"
        found.append((" ".join(text[:15]).capitalize() + "?", " ".join(text[15:]) + "."))
    return found


def _batches(rows: list[tuple[str, str]]) -> list[dict[str, pa.Array]]:
    return [
        {"input": pa.array([a for a, _ in part]), "output": pa.array([b for _, b in part])}
        for part in (rows[i : i + 1_000] for i in range(0, len(rows), 1_000))
    ]


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _compare(label: str, items: list[ExamText], rows: list[tuple[str, str]]) -> float:
    index = Index.build([ExamSource("exam", "", "", False, items)])
    runs = {gram for item in items for gram in _grams(item.question)}
    batches = _batches(rows)
    index.check(batches[0])
    ours, usual = [], []
    for _ in range(3):
        ours.append(_seconds(lambda: [index.check(batch) for batch in batches]))
        usual.append(_seconds(lambda: [not runs.isdisjoint(_grams(f"{a}\n{b}")) for a, b in rows]))
    words = sum(len(" ".join(row).split()) for row in rows) / len(rows)
    speed = len(rows) / min(ours)
    print(
        f"\n{label}: {len(items):,} items, {len(rows):,} rows of {words:.0f} words: {speed:,.0f} rows a second on one core, "
        f"a set of thirteen-word runs {len(rows) / min(usual):,.0f}: {min(usual) / min(ours):.1f} times"
    )
    return speed


def test_rows_a_second() -> None:
    assert _compare("made-up rows", vignettes(3_000), _rows(20_000)) >= 40_000


def test_rows_a_second_on_real_texts(real: Path) -> None:
    items = [
        item
        for path in ("mmlu/test", "medqa/questions/US/dev.jsonl", "pubmedqa/ori_pqal.json")
        for item in read_exam(real / path).items
    ]
    items = [item._replace(id=str(number)) for number, item in enumerate(items)][:3_000]
    rows = [
        (row["input"], row["output"])
        for path in ("wikidoc/medical_meadow_small.json", "chatdoctor/chatdoctor5k.json")
        for row in json.loads((real / path).read_text(encoding="utf-8"))
    ]
    assert _compare("real rows", items, rows) >= 40_000


def test_memory(tmp_path: Path) -> None:
    index = Index.build([ExamSource("exam", "", "", False, vignettes(15_000))])
    index.save(tmp_path / "index")
    size = (tmp_path / "index").stat().st_size
    del index
    tracemalloc.start()
    start = time.process_time()
    index = Index.load(tmp_path / "index")
    seconds = time.process_time() - start
    held = tracemalloc.get_traced_memory()[0]
    batches = _batches(_rows(10_000))
    peaks = []
    for count in (2, 10):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        for batch in batches[:count]:
            index.check(batch)
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    print(
        f"\nindex of 15,000 items: {size / 1e6:.0f} MB on disk, {held / 1e6:.0f} MB in memory, read in {seconds:.1f} s; "
        f"a scan adds {peaks[0] / 1e6:.1f} MB over 2,000 rows, {peaks[1] / 1e6:.1f} MB over 10,000"
    )
    assert held < 200e6
    assert peaks[1] < 1.5 * peaks[0] + 5e6
