"""Texts as sets of shingles: normalisation, exact Jaccard similarity, and MinHash band keys.

A text is the values of some columns, each normalised (Unicode NFKC and case folding, invisible
characters removed, white space collapsed), with a word between them that no value can hold. Its
*shingles* are its runs of five words; a text of fewer words is one shingle. Two texts are as similar as
their sets of shingles: Jaccard, the share of all their shingles that both have.

The words are what white space separates, punctuation and all: in medicine "<3" and ">3" are not one
word. Languages that write no spaces give one long word, so that only their exact duplicates are found.
"""

from __future__ import annotations

import functools
import json
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from meadow.filters.hashing import GOLDEN, mix, run_hashes, word_hashes

#: Words of a shingle.
SHINGLE = 5
#: Values of a MinHash signature; a power of two is what rensa is fastest at.
VALUES = 64
#: Of pairs exactly at the threshold, the least share that shares a band. More similar pairs do more often.
RECALL = 0.985
#: What stands between two columns. As white space it is nowhere inside a normalised value.
SEPARATOR = "\x1f"

_SEED = 42
#: Characters that show nothing: soft hyphen, zero-width space and joiners, word joiner, byte order mark.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")


def normalise(text: str) -> str:
    """A text as duplicates are judged: NFKC, case folded, no invisible characters, single spaces."""
    if not text.isascii():
        # Folding can take a letter apart again, hence NFKC once more: the result stays what it is
        # however often it is normalised.
        text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold()
        text = unicodedata.normalize("NFKC", text)
    elif text.isprintable() and "  " not in text:  # single spaces already
        return text.casefold().strip(" ")
    return " ".join(text.casefold().split())


def joined(values: Sequence[str]) -> str:
    """The normalised values of a row's columns as one text; empty where there is no word in any."""
    found = [normalise(value) for value in values]
    text = f" {SEPARATOR} ".join(found)
    if not all(found):  # an empty value leaves a space too many
        return re.sub(" {2,}", " ", text).strip(" ") if any(found) else ""
    return text


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """The shingles of a normalised text, word by word; empty for an empty text."""
    words = text.split(" ") if text else []
    if len(words) < SHINGLE:
        return frozenset([tuple(words)] if words else [])
    return frozenset(zip(*(words[at:] for at in range(SHINGLE)), strict=False))


def overlap(one: frozenset, other: frozenset) -> float:
    """Jaccard similarity of two sets; of two empty ones, 1."""
    both = len(one & other)
    return both / (len(one) + len(other) - both) if one or other else 1.0


def jaccard(a: str | Sequence[str], b: str | Sequence[str]) -> float:
    """Exact Jaccard similarity, 0 to 1, of two texts over their shingles.

    Args:
        a: A text, or the values of a row's columns in order.
        b: The other.
    """
    return overlap(*(shingles(joined([text] if isinstance(text, str) else text)) for text in (a, b)))


@dataclass(frozen=True, slots=True)
class Banding:
    """How signatures are cut into bands; two texts are compared where one band of both is equal.

    A value of the signature is equal with the probability of the Jaccard similarity J, a band of r of
    them with J^r, and at least one of b bands with ``1 - (1 - J^r)^b``.

    Attributes:
        bands: b.
        rows: r.
    """

    bands: int
    rows: int

    @classmethod
    def of(cls, threshold: float) -> Banding:
        """The longest bands, hence the fewest false candidates, that reach `RECALL` at a threshold.

        At 0.8 these are 12 bands of 5. They find 99.2 % of pairs with J = 0.8 and 99.8 % of those with
        J = 0.836 (one word of 60 replaced: 51 of 61 shingles shared), 32 % of pairs with J = 0.5 and
        3 % of those with J = 0.3; what is found below the threshold costs time and no row.

        Raises:
            ValueError: The threshold is not above 0 and at most 1.
        """
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold {threshold}: it is above 0 and at most 1")
        for rows in range(VALUES, 1, -1):
            found = cls(VALUES // rows, rows)
            if found.recall(threshold) >= RECALL:
                return found
        return cls(VALUES, 1)

    def recall(self, similar: float) -> float:
        """The share of pairs of this similarity that are compared."""
        return 1 - (1 - similar**self.rows) ** self.bands

    def lowest(self, threshold: float) -> float:
        """The share of equal values below which a pair is not compared exactly.

        Four standard deviations under the threshold: of pairs at the threshold, one in 30,000.
        """
        return threshold - 4 * math.sqrt(threshold * (1 - threshold) / VALUES)

    def keys(self, signatures: np.ndarray) -> np.ndarray:
        """Hashes of the bands: (texts, VALUES) uint32 to (bands, texts) uint64."""
        out = np.empty((self.bands, len(signatures)), np.uint64)
        for band in range(self.bands):
            key = np.full(len(signatures), band, np.uint64)
            for at in range(band * self.rows, (band + 1) * self.rows):
                key = mix(key * GOLDEN + signatures[:, at])
            out[band] = key
        return out


def hashes(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """64-bit hashes of the shingles of normalised texts, none of them empty.

    Returns:
        The hashes of all texts one after the other, with repeats, and (texts + 1) int64 offsets.
    """
    word, _ = word_hashes(np.frombuffer((" ".join(texts) + " ").encode(), np.uint8), ord(" "))
    count = np.fromiter((text.count(" ") for text in texts), np.int64, len(texts)) + 1
    last = np.cumsum(count)
    first = last - count
    run = run_hashes(word, SHINGLE)
    # Runs that leave their text are masked out.
    valid = np.ones(len(word), bool)
    for back in range(1, SHINGLE):
        at = last - back
        valid[at[at > first]] = False
    short = np.flatnonzero(count < SHINGLE)
    if len(short):
        whole = np.zeros(len(short), np.uint64)
        for at in range(SHINGLE - 1):
            there = count[short] > at
            whole[there] = whole[there] * GOLDEN + word[first[short[there]] + at]
        # Salted, or a text of four words would meet a run of five that ends in them.
        run[first[short]] = mix(whole + count[short].astype(np.uint64))
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.maximum(count - (SHINGLE - 1), 1), out=offsets[1:])
    return mix(run[valid]), offsets


def signatures(hashes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """MinHash signatures, (texts, VALUES) uint32, by rensa's R-MinHash (its algorithm version 2).

    The version says which pairs are compared; what is dropped is verified whatever it is.
    """
    from itertools import chain

    from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]  # its stub is empty

    found = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets.astype(np.uint64), VALUES, _SEED)
    flat = np.fromiter(chain.from_iterable(found.to_rows()), np.uint32, VALUES * (len(offsets) - 1))
    return flat.reshape(-1, VALUES)


def texts_of(batch: pa.RecordBatch, fields: Sequence[str]) -> Iterator[str]:
    """The text of each row of a batch; columns that hold no text are taken as JSON.

    Raises:
        KeyError: There is no such column.
    """
    columns = []
    for name in fields:
        column = batch.column(name)
        values = column.to_pylist()
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            values = [None if value is None else as_json(value) for value in values]
        columns.append([value or "" for value in values] if column.null_count else values)
    return map(joined, zip(*columns, strict=True))


as_json = functools.partial(json.dumps, ensure_ascii=False, sort_keys=True, default=str)
