"""What the tests of training share: a tiny model and a file of rows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, made once."""
    pytest.importorskip("torch")
    from meadow import models

    return models.make_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty rows of different lengths, in twenty groups."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [
        {
            "id": f"row/{n}",
            "group": f"page {n // 2}",
            "instruction": "Answer this question truthfully",
            "input": f"What is sign {n}?" * (1 + n % 4),
            "output": f"Sign {n} is found in disease {n * 7 % 11}, " * (1 + n % 5) + "and nowhere else.",
            "license": "CC0-1.0",
        }
        for n in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums in one order: losses are compared to the last digits."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
