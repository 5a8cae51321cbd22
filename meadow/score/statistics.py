"""What the numbers of a score are computed by; pure functions of counts and of likelihoods.

Each is one of the textbook forms, named with its source, so that a report can be checked by hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

__all__ = [
    "Bin",
    "Calibration",
    "Paired",
    "bootstrap_difference",
    "calibration",
    "difference_interval",
    "mcnemar",
    "paired",
    "probabilities",
    "wilson",
]

#: Bins of a reliability plot, of equal width; ten since Guo et al. (2017) and in most papers since.
BINS = 10
#: Resamples of a bootstrap: with these the ends of a 95 % interval move by about 0.02 of its standard error.
RESAMPLES = 10_000


def wilson(share: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a proportion (Wilson, 1927).

    It holds its level on exams of a hundred items and stays inside 0 to 1, where the usual "plus or minus two
    standard errors" does neither.

    Args:
        share: The proportion, such as the accuracy.
        n: Of how many; with none nothing is known, and the interval is 0 to 1.
        confidence: How often such an interval holds the true value.

    Raises:
        ValueError: The share is no proportion, or n is negative.
    """
    if n < 0 or not 0 <= share <= 1:
        raise ValueError(f"a share of {share} in {n} is no proportion")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Where all or none are right the ends are 1 and 0 but for rounding.
    return (0.0 if share == 0 else middle - half), (1.0 if share == 1 else middle + half)


def difference_interval(
    one: tuple[int, int], other: tuple[int, int], confidence: float = 0.95
) -> tuple[float, float]:
    """The interval of a difference of two independent proportions (Newcombe, 1998, method 10).

    Args:
        one: (right, of how many) of the first.
        other: The same of the second, which is subtracted.
        confidence: As in `wilson`.
    """
    if not one[1] or not other[1]:
        return -1.0, 1.0
    p, q = one[0] / one[1], other[0] / other[1]
    (p_low, p_high), (q_low, q_high) = wilson(p, one[1], confidence), wilson(q, other[1], confidence)
    low = (p - q) - math.hypot(p - p_low, q_high - q)
    high = (p - q) + math.hypot(p_high - p, q - q_low)
    return low, high


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p value of McNemar's test: a binomial test of the items that changed.

    Args:
        gained: Items right in this run and wrong in the other.
        lost: Items wrong in this run and right in the other.
    """
    changed = gained + lost
    tail = ways = 1
    # Whole numbers to the end: the binomials of a thousand items are beyond a float.
    for k in range(min(gained, lost)):
        ways = ways * (changed - k) // (k + 1)
        tail += ways
    shift = max(tail.bit_length() - 64, 0)
    return min(1.0, math.ldexp(tail >> shift, shift + 1 - changed))


def bootstrap_difference(
    gained: int, lost: int, n: int, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of a paired difference in accuracy, by resampling items.

    An item's difference is 1, -1 or 0, so resampling items is drawing three counts from a multinomial.

    Args:
        gained: Items right in this run and wrong in the other.
        lost: The other way round.
        n: All items.
        confidence: As in `wilson`.
        resamples: How many times.
        seed: The same seed gives the same interval.
    """
    if n == 0:
        return -1.0, 1.0
    shares = [gained / n, lost / n, (n - gained - lost) / n]
    counts = np.random.default_rng(seed).multinomial(n, shares, size=resamples)
    differences = (counts[:, 0] - counts[:, 1]) / n
    low, high = np.quantile(differences, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Paired:
    """Two runs on the same items.

    Attributes:
        n: Items.
        both: Right in both.
        neither: Wrong in both.
        gained: Right in this run only.
        lost: Right in the other only.
        difference: Accuracy of this run less that of the other.
        interval: Its bootstrap interval at 95 %.
        p: McNemar's exact p value.
    """

    n: int
    both: int
    neither: int
    gained: int
    lost: int
    difference: float
    interval: tuple[float, float]
    p: float


def paired(this: Mapping[str, bool], other: Mapping[str, bool], *, seed: int = 0) -> Paired:
    """Compares two runs, item by item.

    Args:
        this: Whether this run has each item right, by id.
        other: The same of the other run.
        seed: Of the bootstrap.

    Raises:
        ValueError: The runs are not about the same items.
    """
    if this.keys() != other.keys():
        raise ValueError("the two runs have different items")
    counts = {(a, b): 0 for a in (True, False) for b in (True, False)}
    for key, right in this.items():
        counts[bool(right), bool(other[key])] += 1
    n, gained, lost = len(this), counts[True, False], counts[False, True]
    return Paired(
        n, counts[True, True], counts[False, False], gained, lost, (gained - lost) / n if n else 0.0,
        bootstrap_difference(gained, lost, n, seed=seed), mcnemar(gained, lost),
    )  # fmt: skip


def probabilities(likelihoods: Sequence[float]) -> list[float]:
    """The softmax over options of their log-likelihoods: what each would have if only these could be said."""
    top = max(likelihoods)
    if top == -math.inf:
        return [1 / len(likelihoods)] * len(likelihoods)
    raised = [math.exp(value - top) for value in likelihoods]
    return [value / sum(raised) for value in raised]


@dataclass(frozen=True)
class Bin:
    """A bin of a reliability plot.

    Attributes:
        low: Its lower end; confidences equal to it are in the bin below, but 0 in the first.
        high: Its upper end.
        n: Items in it.
        confidence: Their mean confidence; None where there are none.
        accuracy: How many of them are right; None where there are none.
        interval: The Wilson interval of that.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None
    interval: tuple[float, float]


@dataclass(frozen=True)
class Calibration:
    """Whether a model is right as often as it is sure.

    Attributes:
        n: Items.
        ece: The expected calibration error: the mean distance of accuracy and confidence over bins, each by its
            number of items (Guo et al., 2017).
        brier: The mean squared distance of all options' probabilities from the truth, 0 to 2 (Brier, 1950).
        log_loss: The mean of minus the logarithm of the right option's probability, in nats.
        confidence: The mean of the highest probability.
        accuracy: The share of items whose likeliest option is right.
        bins: The bins, lowest first.
    """

    n: int
    ece: float
    brier: float
    log_loss: float
    confidence: float
    accuracy: float
    bins: tuple[Bin, ...]


def calibration(items: Sequence[tuple[Sequence[float], int]], bins: int = BINS) -> Calibration | None:
    """Compares how sure a model is with how often it is right.

    Args:
        items: For each item the probabilities of its options, and the number of the right one from 0.
        bins: How many bins from 0 to 1.

    Returns:
        None without items.
    """
    if not items:
        return None
    tops = np.array([max(shares) for shares, _ in items])
    # The first of equal ones, as in choosing an answer.
    right = np.array([list(shares).index(max(shares)) == answer for shares, answer in items], float)
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.ceil(np.round(tops * bins, 9)).astype(int) - 1, 0, bins - 1)
    found, error = [], 0.0
    for number in range(bins):
        mine = place == number
        n = int(mine.sum())
        sure, share = (float(tops[mine].mean()), float(right[mine].mean())) if n else (None, None)
        if sure is not None and share is not None:
            error += n / len(items) * abs(share - sure)
        found.append(
            Bin(float(edges[number]), float(edges[number + 1]), n, sure, share, wilson(share or 0.0, n))
        )
    brier = [sum((share - (i == answer)) ** 2 for i, share in enumerate(shares)) for shares, answer in items]
    # A probability that underflows is not impossible; the least float keeps the mean finite.
    loss = [-math.log(max(shares[answer], 5e-324)) for shares, answer in items]
    return Calibration(
        len(items), error, float(np.mean(brier)), float(np.mean(loss)), float(tops.mean()), float(right.mean()),
        tuple(found),
    )  # fmt: skip
