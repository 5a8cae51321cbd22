"""Hashes of whole Arrow columns: equal for equal values, on any machine."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

#: Added to each element's hash by its place (2^64 divided by the golden ratio, as in SplitMix64), so that
#: the order of elements counts; and what stands for null.
_STEP, _NULL = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x6E756C6C6E756C6C)


def hashes(array: pa.Array, seed: int = 0) -> np.ndarray:
    """A 64-bit hash of each value of an Arrow array: equal for equal values, on any machine.

    Returns:
        uint64, one for each value; another `seed` gives others.
    """
    kind = array.type
    if pa.types.is_struct(kind):
        found = np.full(len(array), _STEP, np.uint64)
        for inner in array.flatten():
            found = _mix(found * np.uint64(3) + hashes(inner, seed))
    elif pa.types.is_list(kind):
        counts = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        values = hashes(array.flatten(), seed)
        ends = np.cumsum(counts)
        places = np.arange(len(values)) - np.repeat(ends - counts, counts)
        mixed = _mix(values + (places + 1).astype(np.uint64) * _STEP)
        sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)))
        found = _mix(sums[ends] - sums[ends - counts] + counts.astype(np.uint64))
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        wide = pa.float64() if pa.types.is_floating(kind) else pa.int64()
        filled = pc.fill_null(array.cast(wide, safe=False), 0)
        found = _mix(filled.to_numpy(zero_copy_only=False).view(np.uint64) + np.uint64(seed))
    else:
        found = _text_hashes(array if pa.types.is_string(kind) else array.cast(pa.string()), seed)
    if array.null_count:
        found = found.copy()
        found[array.is_null().to_numpy(zero_copy_only=False)] = _NULL
    return found


def _text_hashes(array: pa.Array, seed: int) -> np.ndarray:
    from pandas.util import hash_array

    # Columns of few values, such as licences, are hashed once per value.
    encoded = array.dictionary_encode()
    # SipHash-2-4 in C; the key is 16 bytes.
    values = hash_array(
        encoded.dictionary.to_numpy(zero_copy_only=False), hash_key=f"{seed:016x}"[-16:], categorize=False
    )
    if not len(values):
        return np.full(len(array), _NULL, np.uint64)
    return values[encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)]


def _mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer (Steele, Lea and Flood 2014): near values get far hashes."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
