"""The published USMLE table of LLaMA, Alpaca, ChatDoctor and MedAlpaca, with what it leaves out: n and intervals.

``published.json`` has the figures as they were printed, with their source, and beside each a Wilson interval for
the n of one of two statements that exist elsewhere (92, 110 and 122 questions, those left without the published
list of the ones with images). Its note says why no n fits all rows; ``tests/score/test_published.py`` computes both
again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["published"]


def published(exam: str) -> dict[str, Any] | None:
    """The table of an exam, as ``scores.json`` holds it; None where none was published.

    Args:
        exam: The dataset's name.
    """
    table = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
    return table if table["exam"] == exam else None
