"""Speed of ATTRIBUTION.parquet, beside reading the rows that it credits, in the same run."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meadow.builders.stackexchange.builder import StackExchange
from meadow.core.row import arrow_schema
from meadow.describe import attribution

pytestmark = pytest.mark.bench

ROWS = 100_000


def _seconds(what: Callable[[], object]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def _write_rows(path: Path) -> None:
    chance = random.Random(6)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 10))) for _ in range(5_000)]
    schema = arrow_schema(StackExchange.features())
    site = "https://health.example"
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=3) as out:
        for start in range(0, ROWS, 4_000):
            found = [
                {
                    "instruction": "Answer this question truthfully",
                    "input": " ".join(chance.choices(words, k=8))
                    + "?\n\n"
                    + " ".join(chance.choices(words, k=70)),
                    "output": " ".join(chance.choices(words, k=100)),
                    "id": f"stackexchange/health.example/a/{number}",
                    "options": [],
                    "source_url": f"{site}/a/{number}",
                    "source_date": "2019-01-01",
                    "authors": [
                        {"name": words[user % 5_000], "url": f"{site}/users/{user}"}
                        for user in (number, number * 7)
                    ],
                    "license": "CC-BY-SA-4.0",
                    "question_license": "CC-BY-SA-3.0",
                }
                for number in range(start, min(start + 4_000, ROWS))
            ]
            out.write_table(pa.Table.from_pylist(found, schema))


def test_credits_cost_a_few_reads(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    _write_rows(path)
    changes = {"stackexchange": StackExchange.changes}

    def read() -> None:
        with pq.ParquetFile(path) as file:
            for _ in file.iter_batches(4_000):
                pass

    def credit() -> None:
        assert attribution.write([path], tmp_path / "credits.parquet", None, changes) == ROWS

    pairs = [(_seconds(read), _seconds(credit)) for _ in range(5)]
    reading, crediting = (min(times) for times in zip(*pairs, strict=True))
    print(
        f"\n{ROWS:,} rows: read in {reading:.2f} s, credited in {crediting:.2f} s "
        f"({ROWS / crediting:,.0f} rows/s): {crediting / reading:.1f} times"
    )
    # Credits are texts of their own, written and compressed: more than reading, far less than building.
    assert ROWS / crediting >= 100_000
