"""Who could be a near duplicate of whom: buckets of texts that share a band of their signatures.

Only texts that share a bucket with another take part. They come in the order in which they survive,
and each is compared with the survivors in its buckets. A bucket offers no more than `SLOTS` survivors:
where a great many texts share one (forms that are filled in, none like enough to another to be
dropped), the later ones are told apart by the bands that follow, so that each still meets those most
like it, and time stays linear in the number of texts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from meadow.filters.duplicates.minhash import mix

#: Survivors that a bucket offers.
SLOTS = 32
#: Times that a crowded bucket is divided by one more band.
LEVELS = 6
#: Survivors that a text is compared with exactly, those with the most equal signature values first.
COMPARED = 32
#: Pairs that are looked at together, about 512 bytes each.
_BLOCK = 50_000


@dataclass(slots=True)
class Buckets:
    """Which of the texts share which buckets, as parallel arrays with an entry per text and bucket.

    Attributes:
        text: Numbers of texts.
        bucket: Numbers of buckets.
        path: The band; a text's buckets of one band, from crowded to divided, are one path.
        level: How often the bucket's band is divided.
    """

    text: np.ndarray
    bucket: np.ndarray
    path: np.ndarray
    level: np.ndarray


def buckets(band: Callable[[int], np.ndarray], bands: int) -> Buckets:
    """Groups texts by their band keys, holding the keys of one band (8 bytes a text) at a time.

    Args:
        band: Gives the keys of a band, uint64 per text.
        bands: How many bands there are.
    """
    found: list[tuple[np.ndarray, np.ndarray, int, int]] = []
    total = 0
    for number in range(bands):
        texts, labels = _shared(band(number))
        for level in range(LEVELS):
            if not len(texts):
                break
            found.append((texts.astype(np.uint32), (labels + total).astype(np.uint32), number, level))
            sizes = np.bincount(labels)
            total += len(sizes)
            crowded = sizes[labels] > SLOTS
            texts, labels = texts[crowded], labels[crowded]
            if not len(texts) or level == min(LEVELS, bands) - 1:
                break
            finer = mix(band((number + level + 1) % bands)[texts]) ^ mix(labels.astype(np.uint64) + 1)
            inside, labels = _shared(mix(finer))
            texts = texts[inside]
    if not found:
        return Buckets(*(np.empty(0, kind) for kind in (np.uint32, np.uint32, np.uint8, np.uint8)))
    lengths = [len(texts) for texts, _, _, _ in found]
    return Buckets(
        np.concatenate([texts for texts, _, _, _ in found]),
        np.concatenate([labels for _, labels, _, _ in found]),
        np.repeat(np.array([number for _, _, number, _ in found], np.uint8), lengths),
        np.repeat(np.array([level for _, _, _, level in found], np.uint8), lengths),
    )


def _shared(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The positions of keys that occur more than once, and a number from 0 for each such key."""
    ordered = np.sort(keys)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(repeated):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    repeated = np.unique(repeated)
    label = np.searchsorted(repeated, keys)
    label[label == len(repeated)] = 0
    at = np.flatnonzero(repeated[label] == keys)
    return at, label[at]


@dataclass(slots=True)
class Texts:
    """What comparisons need of the texts that take part.

    Attributes:
        rank: The order in which they survive.
        hashes: Shingle hashes of all of them, each text's ascending and without repeats.
        offsets: Where each text's begin; one more at the end.
        signatures: (texts, values).
        kind: A row of `comparable` for each.
        comparable: (kinds, kinds): whether texts of two kinds are compared at all.
    """

    rank: np.ndarray
    hashes: np.ndarray
    offsets: np.ndarray
    signatures: np.ndarray
    kind: np.ndarray
    comparable: np.ndarray


class Candidates:
    """Says with which survivors a text is to be compared.

    In buckets of up to `SLOTS` texts all pairs are found at once; in larger ones, survivors are noted as
    they come.

    Args:
        shared: The buckets, whose `text` numbers these texts.
        texts: The texts.
        lowest: The share of equal signature values below which a pair is not compared.
    """

    def __init__(self, shared: Buckets, texts: Texts, lowest: float) -> None:
        self._texts, self._lowest = texts, lowest
        crowded = (np.bincount(shared.bucket) > SLOTS)[shared.bucket]
        pairs = np.empty(0, np.uint64)
        for band in range(int(shared.path.max(initial=0)) + 1):
            here = (shared.path == band) & ~crowded
            pairs = self._small(shared.text[here], shared.bucket[here], pairs)
        self._pair_begin = np.searchsorted(pairs >> 32, np.arange(len(texts.rank) + 1, dtype=np.uint64))
        self._pairs = pairs.astype(np.uint32)
        text, bucket, path, level = (
            values[crowded] for values in (shared.text, shared.bucket, shared.path, shared.level)
        )
        order = np.lexsort((level, path, text))
        self._path = path[order]
        # Numbered anew, so that small buckets take no room.
        _, self._bucket = np.unique(bucket[order], return_inverse=True)
        self._begin = np.searchsorted(text[order], np.arange(len(texts.rank) + 1))
        count = self._bucket.max(initial=-1) + 1
        self._filled = np.zeros(count, np.uint8)
        self._slots = np.zeros((count, SLOTS), np.uint32)

    def _small(self, text: np.ndarray, bucket: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Adds the pairs of small buckets with enough equal signature values to those known.

        A pair is (text << 32) + a text before it; they ascend.
        """
        texts = self._texts
        order = np.lexsort((texts.rank[text], bucket))
        text, bucket = text[order], bucket[order]
        first = np.searchsorted(bucket, bucket)
        before = np.arange(len(bucket)) - first
        del order, bucket
        ends = np.cumsum(before)
        found, at = [known], 0
        while at < len(text):
            end = max(at + 1, int(np.searchsorted(ends, (ends[at - 1] if at else 0) + _BLOCK)))
            others = text[_ranges(first[at:end], before[at:end])].astype(np.uint64)
            pairs = np.unique(np.repeat(text[at:end].astype(np.uint64), before[at:end]) << 32 | others)
            if len(known):
                place = np.minimum(np.searchsorted(known, pairs), len(known) - 1)
                pairs = pairs[known[place] != pairs]
            one, other = (pairs >> 32).astype(np.uint32), pairs.astype(np.uint32)
            may = texts.comparable[texts.kind[one], texts.kind[other]]
            pairs, one, other = pairs[may], one[may], other[may]
            likely = (texts.signatures[one] == texts.signatures[other]).mean(axis=1) >= self._lowest
            found.append(pairs[likely])
            at = end
        return np.unique(np.concatenate(found))

    def of(self, text: int) -> list[int]:
        """Texts before this one that may be like it; those of small buckets need not have survived."""
        found = self._pairs[self._pair_begin[text] : self._pair_begin[text + 1]]
        mine = self._bucket[self._begin[text] : self._begin[text + 1]]
        if len(mine):
            texts = self._texts
            there = np.arange(SLOTS) < self._filled[mine][:, None]
            more = np.unique(self._slots[mine][there])
            more = more[texts.comparable[texts.kind[text], texts.kind[more]]]
            likely = (texts.signatures[more] == texts.signatures[text]).mean(axis=1) >= self._lowest
            found = np.union1d(found, more[likely])
        return found.tolist()

    def add(self, text: int) -> None:
        """Notes that a text survives."""
        begin, end = self._begin[text], self._begin[text + 1]
        if begin == end:
            return
        mine = self._bucket[begin:end]
        free = np.flatnonzero(self._filled[mine] < SLOTS)
        # Of each path, the first bucket with room; those who share a fuller one looked there, too.
        mine = mine[free[np.unique(self._path[begin:end][free], return_index=True)[1]]]
        self._slots[mine, self._filled[mine]] = text
        self._filled[mine] += 1

    def closest(self, text: int, others: list[int], threshold: float, count: int) -> list[int]:
        """Up to `count` of the others, those most like the text by their shingle hashes.

        Of `COMPARED` with the most equal signature values; none below the threshold.
        """
        texts = self._texts
        found = np.array(others, np.uint32)
        if len(found) > COMPARED:
            alike = (texts.signatures[found] == texts.signatures[text]).mean(axis=1)
            found = found[np.lexsort((texts.rank[found], -alike))[:COMPARED]]
        mine = texts.hashes[texts.offsets[text] : texts.offsets[text + 1]]
        begin = texts.offsets[found]
        length = texts.offsets[found + np.uint32(1)] - begin
        theirs = texts.hashes[_ranges(begin, length)]
        at = np.searchsorted(mine, theirs)
        at[at == len(mine)] = 0
        both = np.add.reduceat((mine[at] == theirs).astype(np.int64), np.cumsum(length) - length)
        values = both / (len(mine) + length - both)
        found, values = found[values >= threshold], values[values >= threshold]
        return found[np.lexsort((texts.rank[found], -values))[:count]].tolist()


def _ranges(begin: np.ndarray, length: np.ndarray) -> np.ndarray:
    """The numbers begin[i] up to begin[i] + length[i], one range after the other."""
    length = length.astype(np.int64)
    end = np.cumsum(length)
    return np.repeat(begin - (end - length), length) + np.arange(end[-1] if len(end) else 0)
