"""The published table, with what it leaves out: every derived figure in its file is computed here again."""

from __future__ import annotations

from typing import Any

import pytest

from meadow.score.statistics import wilson
from meadow.score.summary import published

STEPS = ("step1", "step2", "step3")


@pytest.fixture
def table() -> dict[str, Any]:
    found = published("usmle_self_assessment")
    assert found is not None
    return found


def fits(accuracy: float, n: int) -> bool:
    """Whether a whole number of right answers out of n gives an accuracy when rounded to three decimals."""
    nearest = round(accuracy * n)
    half = 0.5e-3 + 1e-12
    return any(abs(k / n - accuracy) <= half for k in (nearest - 1, nearest, nearest + 1) if 0 <= k <= n)


def test_it_is_the_table_of_one_exam() -> None:
    assert published("medqa") is None


def test_all_rows_are_there_as_printed(table: dict[str, Any]) -> None:
    found = {row["model"]: [row["parts"][step]["accuracy"] for step in STEPS] for row in table["rows"]}
    assert found == {
        "LLaMA 7b": [0.198, 0.202, 0.203],
        "Alpaca 7b naive": [0.275, 0.266, 0.293],
        "Alpaca 7b LoRA": [0.220, 0.138, 0.252],
        "MedAlpaca 7b": [0.297, 0.312, 0.398],
        "MedAlpaca 7b LoRA": [0.231, 0.202, 0.179],
        "MedAlpaca 7b LoRA 8bit": [0.231, 0.241, 0.211],
        "ChatDoctor (7b)": [0.187, 0.185, 0.148],
        "LLaMA 13b": [0.222, 0.248, 0.276],
        "Alpaca 13b naive": [0.319, 0.312, 0.301],
        "MedAlpaca 13b": [0.473, 0.477, 0.602],
        "MedAlpaca 13b LoRA": [0.250, 0.255, 0.255],
        "MedAlpaca 13b LoRA 8bit": [0.189, 0.303, 0.289],
        "MedAlpaca 30b LoRA 8bit": [0.315, 0.327, 0.361],
    }
    assert table["source"].startswith("README of github.com/kbressem/medAlpaca at commit bd434c9d")


def test_n_and_intervals_are_those_of_the_first_statement(table: dict[str, Any]) -> None:
    assert table["scored"] == {"step1": 92, "step2": 110, "step3": 122}
    assert table["scored_elsewhere"] == {"step1": 94, "step2": 109, "step3": 122}
    for row in table["rows"]:
        cells = [*row["parts"].values(), row["overall"]]
        assert [cell["n"] for cell in cells] == [92, 110, 122, 324]
        mean = sum(cell["accuracy"] * cell["n"] for cell in cells[:3]) / 324
        assert row["overall"]["accuracy"] == pytest.approx(mean, abs=1e-12)
        for cell in cells:
            assert cell["interval"] == pytest.approx(wilson(cell["accuracy"], cell["n"]), abs=1e-12)
    best = next(row for row in table["rows"] if row["model"] == "MedAlpaca 13b")
    assert best["parts"]["step1"]["interval"] == pytest.approx([0.374, 0.574], abs=5e-4)


@pytest.mark.parametrize(
    ("share", "n", "whole"),
    [
        (0.25, 92, True),
        (0.473, 92, False),
        (0.473, 91, True),
        (0.0, 5, True),
        (1.0, 5, True),
        (0.667, 3, True),
    ],
)
def test_what_a_figure_can_be_a_share_of(share: float, n: int, whole: bool) -> None:
    assert fits(share, n) is whole


def test_the_denominators_are_mixed(table: dict[str, Any]) -> None:
    figures = {step: [row["parts"][step]["accuracy"] for row in table["rows"]] for step in STEPS}
    whole = [sum(fits(share, table["scored"][step]) for share in figures[step]) for step in STEPS]
    assert whole == [2, 2, 2]
    # Most figures are shares of 91, 109 and 123 questions, and never all of them.
    fitting = {}
    for step, questions in table["questions"].items():
        counts = {n: sum(fits(s, n) for s in figures[step]) for n in range(questions // 2, questions + 1)}
        best = max(counts, key=lambda n: counts[n])
        fitting[step] = (best, counts[best])
    assert fitting == {"step1": (91, 9), "step2": (109, 9), "step3": (123, 9)}
    for words in (
        "mixed",
        "92 / 110 / 122",
        "94 / 109 / 122",
        "119 / 120 / 135",
        "91 / 109 / 123",
        "(9, 9, 9)",
    ):
        assert words in table["note"]
    assert "only 2, 2, 2 of the 13 figures" in table["note"]
