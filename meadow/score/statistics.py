"""What the numbers of a score are computed by; pure functions of counts and of likelihoods.

Each is one of the textbook forms, named with its source, so that a report can be checked by hand.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

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


def difference_interval(one: tuple[int, int], other: tuple[int, int]) -> tuple[float, float]:
    """The 95 % interval of a difference of two independent proportions (Newcombe, 1998, method 10).

    Args:
        one: (right, of how many) of the first.
        other: The same of the second, which is subtracted.
    """
    if not one[1] or not other[1]:
        return -1.0, 1.0
    p, q = one[0] / one[1], other[0] / other[1]
    (p_low, p_high), (q_low, q_high) = wilson(p, one[1]), wilson(q, other[1])
    return (p - q) - math.hypot(p - p_low, q_high - q), (p - q) + math.hypot(p_high - p, q - q_low)


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


def bootstrap_difference(gained: int, lost: int, n: int, *, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of a paired difference in accuracy, by resampling `n` items; see `mcnemar`.

    An item's difference is 1, -1 or 0, so resampling items is drawing three counts from a multinomial.
    """
    if n == 0:
        return -1.0, 1.0
    shares = [gained / n, lost / n, (n - gained - lost) / n]
    counts = np.random.default_rng(seed).multinomial(n, shares, size=RESAMPLES)
    differences = (counts[:, 0] - counts[:, 1]) / n
    low, high = np.quantile(differences, [0.5 - 0.95 / 2, 0.5 + 0.95 / 2])
    return float(low), float(high)


def paired(this: Mapping[str, bool], other: Mapping[str, bool], *, seed: int = 0) -> dict[str, Any]:
    """Compares two runs by whether they have each item right, by id.

    Returns:
        ``n`` items, of which ``both`` runs, ``neither``, only this (``gained``) or only the other (``lost``) are right; the
        ``difference`` of this run's accuracy less the other's with its bootstrap ``interval`` at 95 %; and McNemar's ``p``.

    Raises:
        ValueError: The runs are not about the same items.
    """
    if this.keys() != other.keys():
        raise ValueError("the two runs have different items")
    counts = Counter((this[key], other[key]) for key in this)
    n, gained, lost = len(this), counts[True, False], counts[False, True]
    return {
        "n": n,
        "both": counts[True, True],
        "neither": counts[False, False],
        "gained": gained,
        "lost": lost,
        "difference": (gained - lost) / n if n else 0.0,
        "interval": bootstrap_difference(gained, lost, n, seed=seed),
        "p": mcnemar(gained, lost),
    }


def probabilities(likelihoods: Sequence[float]) -> list[float]:
    """The softmax over options of their log-likelihoods: what each would have if only these could be said."""
    top = max(likelihoods)
    if top == -math.inf:
        return [1 / len(likelihoods)] * len(likelihoods)
    raised = [math.exp(value - top) for value in likelihoods]
    return [value / sum(raised) for value in raised]


def calibration(items: Sequence[tuple[Sequence[float], int]]) -> dict[str, Any]:
    """Compares how sure a model is with how often it is right.

    Args:
        items: For each item, of which there is one or more, the probabilities of its options, and the number of the
            right one from 0. A confidence on the border of two bins is in the lower.

    Returns:
        ``n`` items; ``ece``, the expected calibration error: the mean distance of accuracy and confidence over bins, each by
        its number of items (Guo et al., 2017); ``brier``, the mean squared distance of all options' probabilities from the
        truth, 0 to 2 (Brier, 1950); ``log_loss``, the mean of minus the logarithm of the right option's probability, in
        nats; the mean ``confidence`` (highest probability); ``accuracy`` of the likeliest option; and the ``bins``, lowest
        first: ``low`` and ``high`` end, ``n``, mean ``confidence`` and ``accuracy`` (None where n is 0) with its Wilson
        ``interval``.
    """
    tops = np.array([max(shares) for shares, _ in items])
    # The first of equal ones, as in choosing an answer.
    right = np.array([list(shares).index(max(shares)) == answer for shares, answer in items], float)
    edges = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.ceil(np.round(tops * BINS, 9)).astype(int) - 1, 0, BINS - 1)
    found, error = [], 0.0
    for number in range(BINS):
        mine = place == number
        n = int(mine.sum())
        sure, share = (float(tops[mine].mean()), float(right[mine].mean())) if n else (None, None)
        if sure is not None and share is not None:
            error += n / len(items) * abs(share - sure)
        ends = {"low": float(edges[number]), "high": float(edges[number + 1])}
        numbers = {"n": n, "confidence": sure, "accuracy": share, "interval": wilson(share or 0.0, n)}
        found.append({**ends, **numbers})
    brier = [sum((share - (i == answer)) ** 2 for i, share in enumerate(shares)) for shares, answer in items]
    # A probability that underflows is not impossible; the least float keeps the mean finite.
    loss = [-math.log(max(shares[answer], 5e-324)) for shares, answer in items]
    return {
        "n": len(items),
        "ece": error,
        "brier": float(np.mean(brier)),
        "log_loss": float(np.mean(loss)),
        "confidence": float(tops.mean()),
        "accuracy": float(right.mean()),
        "bins": found,
    }
