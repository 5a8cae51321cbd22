"""The published table, with what it leaves out."""

from __future__ import annotations

import pytest

from meadow.score.published import fits, table


def test_all_rows_are_there_as_printed() -> None:
    found = {row.model: [cell.accuracy for cell in row.steps.values()] for row in table().rows}
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


def test_intervals_are_computed() -> None:
    row = next(row for row in table().rows if row.model == "MedAlpaca 13b")
    cell = row.steps["step1"]
    assert (cell.n, cell.whole) == (92, False)
    assert cell.interval == (pytest.approx(0.374, abs=5e-4), pytest.approx(0.574, abs=5e-4))
    assert row.overall.n == 92 + 110 + 122
    assert row.overall.accuracy == pytest.approx((0.473 * 92 + 0.477 * 110 + 0.602 * 122) / 324)


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


def test_the_denominators_are_mixed() -> None:
    found = table()
    assert found.scored == {"step1": 92, "step2": 110, "step3": 122}
    assert found.scored_elsewhere == {"step1": 94, "step2": 109, "step3": 122}
    # Most figures are shares of 91, 109 and 123 questions, and never all of them.
    assert found.fitting == {"step1": (91, 9), "step2": (109, 9), "step3": (123, 9)}
    assert all(count < len(found.rows) for _, count in found.fitting.values())
    for words in ("mixed", "92 / 110 / 122", "94 / 109 / 122", "119 / 120 / 135", "91 / 109 / 123"):
        assert words in found.note()


def test_it_goes_into_scores() -> None:
    found = table().described()
    assert len(found["rows"]) == 13
    assert found["rows"][0]["parts"]["step1"]["n"] == 92
    assert found["source"].startswith("README of github.com/kbressem/medAlpaca at commit bd434c9d")
