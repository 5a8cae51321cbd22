"""Who survives: each row is compared with the survivors in its buckets, those most like it first.

A bucket is the rows that share a band of their signatures, and offers no more than `SLOTS` survivors. Where
it is full (forms that are filled in, none like enough to another to be dropped), later ones are told apart
by the bands that follow, so that each still meets those most like it, and time stays linear in the number
of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pyarrow as pa

from meadow.filters.duplicates import minhash, opposites

#: Survivors that a bucket offers.
SLOTS = 32
#: How many bands tell the rows of a full bucket apart, the bucket's own included.
LEVELS = 6
#: Survivors that a row is compared with, those with the most equal signature values first.
COMPARED = 32
#: A row that is left out: for which survivor, how similar to it, and whether their texts are equal.
LOST = np.dtype([("row", np.int64), ("survivor", np.int64), ("similarity", np.float64), ("exact", bool)])


class Buckets:
    """Survivors by the bands that they share with other rows."""

    def __init__(self) -> None:
        self._survivors: dict[int, tuple[int, ...]] = {}

    def of(self, bands: list[int]) -> tuple[set[int], list[int]]:
        """The survivors in a row's buckets, and of each band the first bucket that has room.

        Args:
            bands: The hashes of the row's bands, 0 for those that it shares with no other row.
        """
        found: set[int] = set()
        free: list[int] = []
        for band, key in enumerate(bands):
            level = 0
            while key and level < min(LEVELS, len(bands)):
                there = self._survivors.get(key, ())
                found.update(there)
                if len(there) < SLOTS:
                    free.append(key)
                    break
                level += 1
                # Who shares a full bucket looks on where the next band is the same, too.
                following = bands[(band + level) % len(bands)]
                key = hash((key, following)) if following else 0
        return found, free

    def add(self, row: int, free: Iterable[int]) -> None:
        """Notes a survivor in buckets that have room."""
        for key in free:
            self._survivors[key] = (*self._survivors.get(key, ()), row)


@dataclass(slots=True)
class Texts:
    """What comparisons need of the rows that share a band; texts, signatures and hashes lie in files.

    Attributes:
        words: Texts.
        home: For each row the one whose text, signature and hashes are its own, too; mostly itself.
        rank: The order in which rows survive.
        kind: A row of `comparable` for each.
        comparable: (kinds, kinds): whether rows of two kinds are compared at all.
        signatures: (rows, values).
        hashes: Shingle hashes of all rows, each row's ascending and without repeats.
        offsets: Where each row's begin; one more at the end.
        text: Gives a row's text.
        shingles: Gives a row's shingles.
    """

    words: pa.ChunkedArray
    home: np.ndarray
    rank: np.ndarray
    kind: np.ndarray
    comparable: np.ndarray
    signatures: np.ndarray
    hashes: np.ndarray
    offsets: np.ndarray
    text: Callable[[int], str] = field(init=False)
    shingles: Callable[[int], frozenset[tuple[str, ...]]] = field(init=False)

    def __post_init__(self) -> None:
        self.text = lru_cache(256)(lambda row: self.words[int(self.home[row])].as_py())
        self.shingles = lru_cache(256)(lambda row: minhash.shingles(self.text(row)))

    def alike(self, row: int, others: Iterable[int], lowest: float, threshold: float) -> list[int]:
        """Those of the others that seem to be as similar as the threshold, the best survivor first.

        Of `COMPARED` with the most equal signature values, none with a lower share than `lowest`, those
        whose shingle hashes say so. Equal texts come first, as others can have the same shingles in another
        order; then the most similar; of equally similar ones that which survives before the others.
        """
        found = np.array(list(others))
        found = found[self.comparable[self.kind[row], self.kind[found]]]
        equal = self.signatures[self.home[found]] == self.signatures[self.home[row]]
        equal = np.count_nonzero(equal, axis=1)
        likely = equal >= lowest * minhash.VALUES
        found, equal = found[likely], equal[likely]
        if len(found) < 2:  # nothing to choose from
            return found.tolist()
        found = found[np.lexsort((self.rank[found], -equal))[:COMPARED]]
        mine = self._hashes(row)
        theirs = [self._hashes(other) for other in found]
        lengths = np.array([len(hashes) for hashes in theirs])
        joined = np.concatenate(theirs)
        at = np.minimum(np.searchsorted(mine, joined), len(mine) - 1)
        both = np.add.reduceat((mine[at] == joined).astype(np.int64), np.cumsum(lengths) - lengths)
        values = both / (len(mine) + lengths - both)
        pairs = [
            (value < 1 or self.text(row) != self.text(other), -value, self.rank[other], other)
            for other, value in zip(found.tolist(), values.tolist(), strict=True)
            if value >= threshold
        ]
        return [other for _, _, _, other in sorted(pairs)]

    def _hashes(self, row: int) -> np.ndarray:
        home = self.home[row]
        return self.hashes[self.offsets[home] : self.offsets[home + 1]]


def decide(texts: Texts, bands: np.ndarray, lowest: float, threshold: float) -> tuple[np.ndarray, list[int]]:
    """Decides on each row, in the order in which they survive.

    Args:
        texts: What comparisons need of the rows.
        bands: (rows, bands): the hashes of each row's bands, 0 for those that it shares with no other row.
        lowest: The share of equal signature values below which a pair is not compared exactly.
        threshold: The least similarity of near duplicates.

    Returns:
        The rows that are left out, as `LOST`; and rows that survive though they are as similar to another,
        which they contradict.
    """
    buckets = Buckets()
    lost: list[tuple[int, int, float, bool]] = []
    apart: list[int] = []
    # Equal texts of a kind stand and fall together: what the others are left out for.
    settled: dict[int, tuple[int, float, bool]] = {}
    for row in np.argsort(texts.rank).tolist():
        home, mine = int(texts.home[row]), bands[row].tolist()
        if home in settled:
            lost.append((row, *settled[home]))
            continue
        found, free = buckets.of(mine)
        verdict, contradicts = None, False
        for other in texts.alike(row, found, lowest, threshold) if found else ():
            value = minhash.overlap(texts.shingles(row), texts.shingles(other))
            if value < threshold:
                continue
            one, two = texts.text(row), texts.text(other)
            if not opposites.contradiction(one, two):
                verdict = other, value, one == two
                break
            contradicts = True
        if verdict:
            lost.append((row, *verdict))
        else:
            buckets.add(row, free)
            if contradicts:
                apart.append(row)
        if mine[-1]:
            settled[home] = verdict or (row, 1.0, True)
    return np.array(lost, LOST), apart
