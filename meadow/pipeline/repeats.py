"""Rows whose id another row of their dataset has."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from meadow.core.parts import AT, KEY, Part, batches
from meadow.core.row import EXCERPT

#: Ids whose hashes are compared at once, to bound memory at 8 bytes each.
_IDS_AT_ONCE = 4_000_000


def repeated(parts: list[Part]) -> Iterator[tuple[Part, int, str, str]]:
    """Finds rows whose id an earlier record of the raw data has.

    Args:
        parts: Parts in the order of their shards.

    Yields:
        (part, row number in it, id, beginning of the input) of each row to leave out.
    """
    wanted = _suspects(parts)
    if not len(wanted):
        return
    seen: set[str] = set()
    for _, group in groupby(parts, key=lambda part: part.shard):
        found = []
        for part in group:
            start = 0
            for batch in batches([(part, None)]):
                for at in np.flatnonzero(np.isin(batch[KEY].to_numpy(), wanted)).tolist():
                    text = batch["input"][at].as_py()[:EXCERPT]
                    found.append((batch[AT][at].as_py(), part, start + at, batch["id"][at].as_py(), text))
                start += batch.num_rows
        for _, part, at, row_id, text in sorted(found, key=lambda item: item[0]):
            if row_id in seen:
                yield part, at, row_id, text
            seen.add(row_id)


def _suspects(parts: list[Part]) -> np.ndarray:
    """The hashes of ids that more than one row has, or two ids share by chance."""
    passes = max(1, -(-sum(part.rows for part in parts) // _IDS_AT_ONCE))
    suspects: set[int] = set()
    for turn in range(passes):
        keys = [_keys(part) for part in parts]
        if passes > 1:
            keys = [k[k % np.uint64(passes) == turn] for k in keys]
        found, times = np.unique(np.concatenate(keys) if keys else np.empty(0, np.uint64), return_counts=True)
        suspects.update(found[times > 1].tolist())
    return np.fromiter(suspects, np.uint64)


def _keys(part: Part) -> np.ndarray:
    found = [batch[KEY].to_numpy() for batch in batches([(part, None)])]
    return np.concatenate(found) if found else np.empty(0, np.uint64)
