"""What tests of whole runs share: settings of a small run, and rows for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SMALL = "--batch-size 8 --learning-rate 2e-3 --warmup-steps 1 --max-length 256 --device cpu".split()


def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, here and in processes that are started, and no launcher's variables."""
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # It reads the variable when it is first imported, which another test may have done: sums are compared bit by bit.
    torch.set_num_threads(1)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def write_rows(path: Path) -> Path:
    """Writes sixty rows of different lengths as JSON lines; returns the path."""
    lines = [
        {
            "id": f"row/{n}",
            "instruction": "Answer",
            "input": f"What is sign {n}?",
            "output": f"Sign {n} of {n % 7}. " * (1 + n % 4),
        }
        for n in range(60)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
