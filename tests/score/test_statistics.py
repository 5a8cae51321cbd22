"""Numbers that were computed by hand, or printed where the method was."""

from __future__ import annotations

import math

import pytest

from meadow.score import statistics


@pytest.mark.parametrize(
    ("share", "n", "low", "high"),
    [
        (0.473, 92, 0.374, 0.574),  # MedAlpaca 13b on step 1, as it was published
        # Newcombe (1998), table I: method 3.
        (81 / 263, 263, 0.2553, 0.3662),
        (15 / 148, 148, 0.0624, 0.1605),
        (0 / 20, 20, 0.0, 0.1611),
        (1 / 29, 29, 0.0061, 0.1718),
    ],
)
def test_wilson(share: float, n: int, low: float, high: float) -> None:
    found = statistics.wilson(share, n)
    assert found[0] == pytest.approx(low, abs=0.0005)
    assert found[1] == pytest.approx(high, abs=0.0005)


def test_wilson_at_the_ends() -> None:
    assert statistics.wilson(0, 10)[0] == 0.0
    assert statistics.wilson(1, 10)[1] == 1.0
    assert statistics.wilson(0, 0) == (0.0, 1.0)
    low, high = statistics.wilson(0.5, 100, confidence=0.99)
    assert (low, high) == (pytest.approx(0.3753, abs=5e-4), pytest.approx(0.6247, abs=5e-4))
    with pytest.raises(ValueError, match="no proportion"):
        statistics.wilson(1.2, 10)


def test_difference_of_two_groups() -> None:
    # Newcombe (1998), interval estimation for the difference, table II: 56/70 and 48/80, method 10.
    assert statistics.difference_interval((56, 70), (48, 80)) == (
        pytest.approx(0.0524, abs=5e-5),
        pytest.approx(0.3339, abs=5e-5),
    )
    assert statistics.difference_interval((0, 0), (4, 8)) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (1, 5, 2 * (1 + 6) / 64),
        (10, 2, 2 * (1 + 12 + 66) / 4096),
        (6, 0, 2 / 64),
        (800, 700, 0.010559255466711506),  # scipy.stats.binomtest(800, 1500)
    ],
)
def test_mcnemar_is_a_binomial_test(gained: int, lost: int, p: float) -> None:
    assert statistics.mcnemar(gained, lost) == pytest.approx(p, rel=1e-9)
    assert statistics.mcnemar(lost, gained) == pytest.approx(p, rel=1e-9)


def test_mcnemar_of_very_many() -> None:
    assert 0 <= statistics.mcnemar(20_000, 12_000) < 1e-300


def test_bootstrap_agrees_with_the_normal_form_on_many_items() -> None:
    # The standard error of a paired difference: sqrt(b + c - (b - c)^2 / n) / n.
    gained, lost, n = 130, 70, 1000
    error = math.sqrt(gained + lost - (gained - lost) ** 2 / n) / n
    low, high = statistics.bootstrap_difference(gained, lost, n)
    assert low == pytest.approx(0.06 - 1.96 * error, abs=0.002)
    assert high == pytest.approx(0.06 + 1.96 * error, abs=0.002)
    assert statistics.bootstrap_difference(gained, lost, n) == (low, high)
    assert statistics.bootstrap_difference(gained, lost, n, seed=1) != (low, high)
    assert statistics.bootstrap_difference(0, 0, 50) == (0.0, 0.0)
    assert statistics.bootstrap_difference(0, 0, 0) == (-1.0, 1.0)


def test_two_runs_item_by_item() -> None:
    this = {"a": True, "b": True, "c": True, "d": False, "e": False}
    other = {"e": True, "a": True, "b": False, "c": False, "d": False}
    found = statistics.paired(this, other)
    assert (found["n"], found["both"], found["gained"], found["lost"], found["neither"]) == (5, 1, 2, 1, 1)
    assert found["difference"] == pytest.approx(0.2)
    assert found["p"] == 1.0
    assert found["interval"][0] <= 0.2 <= found["interval"][1]
    with pytest.raises(ValueError, match="different items"):
        statistics.paired(this, {"a": True})


def test_probabilities() -> None:
    assert statistics.probabilities([math.log(1), math.log(3)]) == pytest.approx([0.25, 0.75])
    assert statistics.probabilities([-1000.0, -1000.0]) == [0.5, 0.5]
    assert statistics.probabilities([-math.inf, 0.0]) == [0.0, 1.0]
    assert statistics.probabilities([-math.inf, -math.inf]) == [0.5, 0.5]


def test_calibration_by_hand() -> None:
    items = [
        ([0.9, 0.1], 0),  # sure and right
        ([0.9, 0.1], 1),  # sure and wrong
        ([0.6, 0.4], 0),
        ([0.6, 0.4], 0),
    ]
    found = statistics.calibration(items)
    # |0.5 - 0.9| * 2/4 + |1 - 0.6| * 2/4
    assert found["ece"] == pytest.approx(0.4)
    # ((0.02) + (1.62) + 0.32 + 0.32) / 4
    assert found["brier"] == pytest.approx(0.57)
    assert found["log_loss"] == pytest.approx(-(math.log(0.9) + math.log(0.1) + 2 * math.log(0.6)) / 4)
    assert (found["confidence"], found["accuracy"]) == (pytest.approx(0.75), 0.75)
    assert [(round(b["low"], 1), b["n"], b["accuracy"]) for b in found["bins"] if b["n"]] == [
        (0.5, 2, 1.0),
        (0.8, 2, 0.5),
    ]
    assert len(found["bins"]) == 10
    assert found["bins"][0]["interval"] == (0.0, 1.0)


def test_a_perfect_and_a_hopeless_model() -> None:
    perfect = statistics.calibration([([1.0, 0.0], 0)] * 4)
    hopeless = statistics.calibration([([1.0, 0.0], 1)] * 4)
    assert (perfect["ece"], perfect["brier"], perfect["log_loss"]) == (0.0, 0.0, 0.0)
    assert (hopeless["ece"], hopeless["brier"]) == (1.0, 2.0)
    assert math.isfinite(hopeless["log_loss"])


def test_as_others_compute_it() -> None:
    stats = pytest.importorskip("scipy.stats")
    for right, n in ((0, 7), (3, 7), (44, 92), (57, 119), (119, 119), (600, 1273)):
        theirs = stats.binomtest(right, n).proportion_ci(method="wilson")
        assert statistics.wilson(right / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    for gained, lost in ((3, 1), (0, 9), (31, 17), (250, 301)):
        theirs = stats.binomtest(gained, gained + lost).pvalue
        assert statistics.mcnemar(gained, lost) == pytest.approx(theirs, rel=1e-9)
