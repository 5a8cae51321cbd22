"""The published USMLE table of LLaMA, Alpaca, ChatDoctor and MedAlpaca, with what it leaves out: n and intervals.

The figures are in ``published.json``, as they were printed, with their source. How many questions each is a
share of was never said beside them, and two different statements exist elsewhere. The intervals here are for
the first, the questions that are left without the published list of those with images (92, 110, 122).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from meadow.score.statistics import wilson

__all__ = ["Cell", "Row", "Table", "fits", "table"]


@dataclass(frozen=True)
class Cell:
    """A figure of the table.

    Attributes:
        accuracy: As it was printed; for all steps together their mean by `n`.
        n: The questions it is taken to be a share of.
        interval: The Wilson interval at 95 % with that n.
        whole: Whether some number of right answers out of n gives this figure when rounded.
    """

    accuracy: float
    n: int
    interval: tuple[float, float]
    whole: bool


@dataclass(frozen=True)
class Row:
    """A model of the table.

    Attributes:
        model: Its name as printed.
        billions: Its size in billions of parameters.
        steps: Its figure for each step.
        overall: All steps together, computed here.
    """

    model: str
    billions: int
    steps: dict[str, Cell]
    overall: Cell


@dataclass(frozen=True)
class Table:
    """The table.

    Attributes:
        exam: The dataset it is about.
        source: Where it was printed.
        url: The same as an address.
        questions: All questions of each step, those with images included.
        scored: How many of them were scored, by one statement; used for n.
        scored_elsewhere: The same by another.
        fitting: For each step the number of questions of which most figures are a whole number of right answers,
            and how many figures that are.
        rows: The models, as printed.
    """

    exam: str
    source: str
    url: str
    questions: dict[str, int]
    scored: dict[str, int]
    scored_elsewhere: dict[str, int]
    fitting: dict[str, tuple[int, int]]
    rows: tuple[Row, ...]

    def note(self) -> str:
        """What a reader of the table must know of its denominators."""
        first, other = (" / ".join(map(str, n.values())) for n in (self.scored, self.scored_elsewhere))
        whole = {s: sum(row.steps[s].whole for row in self.rows) for s in self.scored}
        fitting = " / ".join(str(n) for n, _ in self.fitting.values())
        many = ", ".join(str(count) for _, count in self.fitting.values())
        return (
            f"The denominators of the published table are mixed. It gives no n; {first} questions are said to be scored, "
            f"and {other} in another place, of {' / '.join(map(str, self.questions.values()))}. Intervals here take "
            f"{first}, of which only {', '.join(map(str, whole.values()))} of the {len(self.rows)} figures per step can be "
            f"whole numbers of right answers. Most ({many}) can be of {fitting}, and no numbers fit all: the rows "
            "were not scored on the same questions. They were also sampled, with up to five tries for a readable answer, "
            "so they compare with medalpaca-compat at best, and with no run question by question."
        )

    def described(self) -> dict[str, Any]:
        """What ``scores.json`` says of it."""

        def cell(found: Cell) -> dict[str, Any]:
            return {"accuracy": found.accuracy, "n": found.n, "interval": list(found.interval)}

        return {
            "exam": self.exam,
            "source": self.source,
            "url": self.url,
            "questions": self.questions,
            "scored": self.scored,
            "scored_elsewhere": self.scored_elsewhere,
            "note": self.note(),
            "rows": [
                {
                    "model": row.model,
                    "billions": row.billions,
                    "parts": {step: cell(found) for step, found in row.steps.items()},
                    "overall": cell(row.overall),
                }
                for row in self.rows
            ],
        }


def fits(accuracy: float, n: int, decimals: int = 3) -> bool:
    """Whether a whole number of right answers out of n gives an accuracy when rounded."""
    nearest = round(accuracy * n)
    half = 0.5 * 10**-decimals + 1e-12
    return any(abs(k / n - accuracy) <= half for k in (nearest - 1, nearest, nearest + 1) if 0 <= k <= n)


@cache
def table() -> Table:
    """Reads the table and computes what it lacks."""
    found = json.loads((Path(__file__).parent / "published.json").read_text(encoding="utf-8"))
    scored, decimals = found["scored"], found["decimals"]

    def cell(accuracy: float, n: int) -> Cell:
        return Cell(accuracy, n, wilson(accuracy, n), fits(accuracy, n, decimals))

    rows = []
    for entry in found["rows"]:
        steps = {step: cell(share, scored[step]) for step, share in entry["accuracy"].items()}
        total = sum(scored.values())
        mean = sum(c.accuracy * c.n for c in steps.values()) / total
        rows.append(Row(entry["model"], entry["billions"], steps, cell(mean, total)))
    fitting = {
        step: _fitting([row["accuracy"][step] for row in found["rows"]], found["questions"][step], decimals)
        for step in scored
    }
    return Table(
        found["exam"], found["source"], found["url"], found["questions"], scored, found["scored_elsewhere"],
        fitting, tuple(rows),
    )  # fmt: skip


def _fitting(shares: Iterable[float], questions: int, decimals: int) -> tuple[int, int]:
    """The number of questions, from half of them all, that most figures can be a share of."""
    shares = list(shares)
    counts = {n: sum(fits(s, n, decimals) for s in shares) for n in range(questions // 2, questions + 1)}
    best = max(counts, key=lambda n: counts[n])
    return best, counts[best]
