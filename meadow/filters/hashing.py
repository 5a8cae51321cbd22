"""64-bit hashes of words, and of words in a row, for whole buffers of text at once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

#: Characters whose words are hashed together; their numbers stay in a processor's cache.
_BLOCK = 2**15
#: Odd multipliers of splitmix64's mixing function (Steele, Lea & Flood 2014).
GOLDEN, _MIX_1, _MIX_2 = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def mix(values: np.ndarray) -> np.ndarray:
    """Scrambles 64-bit numbers one to one (splitmix64's finaliser)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


#: A number for each byte.
_BYTES = mix(np.arange(1, 257, dtype=np.uint64) * GOLDEN)


def word_hashes(data: np.ndarray, gap: int) -> tuple[np.ndarray, np.ndarray]:
    """A hash of each word of a text: of each run of bytes other than `gap`.

    A polynomial in an odd base, modulo 2^64, of a random number for each byte: powers are counted from
    the beginning of a block, and the inverse of the base, which an odd number has, brings a word's sum back.

    Args:
        data: The text (uint8); after its last word comes a gap.
        gap: What stands between words.

    Returns:
        The hashes (uint64), and where each word begins.
    """
    word = data != gap
    starts = np.flatnonzero(word[1:] & ~word[:-1]) + 1
    if len(data) and word[0]:
        starts = np.concatenate(([0], starts))
    numbers = _BYTES.copy()
    numbers[gap] = 0  # adds nothing, so that a word's sum may run on to the next
    out = np.empty(len(starts), np.uint64)
    at = 0
    while at < len(starts):
        base = starts[at]
        upto = max(at + 1, int(np.searchsorted(starts, base + _BLOCK)))
        end = starts[upto] if upto < len(starts) else len(data)
        power, inverse = _powers(max(2 * _BLOCK, 1 << int(end - base).bit_length()))
        block = numbers.take(data[base:end]) * power[: end - base]
        here = starts[at:upto] - base
        out[at:upto] = mix(np.add.reduceat(block, here) * inverse[here])
        at = upto
    return out, starts


@lru_cache(maxsize=2)
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The powers of a base and of its inverse modulo 2^64, from the zeroth."""
    found = []
    for base in (int(_MIX_1), pow(int(_MIX_1), -1, 2**64)):
        factors = np.full(count, base, np.uint64)
        factors[0] = 1
        found.append(np.cumprod(factors, dtype=np.uint64))
    return found[0], found[1]


def run_hashes(words: np.ndarray, size: int) -> np.ndarray:
    """Each `size` words in a row as one number, by Horner's rule; the last `size` - 1 are of fewer words."""
    found = np.zeros_like(words)
    for at in range(size):
        found *= GOLDEN
        found[: max(0, len(words) - at)] += words[at:]
    return found
