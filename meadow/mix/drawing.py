"""Drawing rows: those of the smallest hashes, part after part, no id and no text twice.

Whether a row is drawn depends on its own id, on how many of its part have a smaller hash, and on equal
texts; not on the order of rows or files, and rows that come or go change at most as many others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from meadow.mix.reading import GROUP, NOT_DRAWN, REASONS, SAME_ID, SAME_TEXT, RowIndex

_ID, _TEXT, _NOT, _GROUP = map(REASONS.index, (SAME_ID, SAME_TEXT, NOT_DRAWN, GROUP))


def draw(index: RowIndex, wanted: Sequence[int | None], train: str = "train") -> None:
    """Draws the rows of all parts: gives each other row of the index the reason why it is left out.

    Args:
        index: All rows; what makes them impossible to draw is there already.
        wanted: How many rows to draw of each part; None for all.
        train: The split whose groups must be in no other.
    """
    keys = contents = np.empty(0, np.uint64)
    for number, count in enumerate(wanted):
        part = index.part(number)
        free = part["why"] == 0
        known = np.isin(part["key"], keys)
        pool = np.flatnonzero(free & ~known & ~np.isin(part["content"], contents))
        pool = pool[np.argsort(part["key"][pool], kind="stable")]
        first = np.sort(np.unique(part["content"][pool], return_index=True)[1])
        drawn = pool[first][:count]
        keys = np.concatenate([keys, part["key"][drawn]])
        contents = np.concatenate([contents, part["content"][drawn]])
        why = np.where(np.isin(part["content"], contents), _TEXT, _NOT)
        why[known] = _ID
        why[drawn] = 0
        part["why"][free] = why[free]
    in_train = np.concatenate(
        [np.full(len(index.file(at)), file.split == train) for at, file in enumerate(index.files)]
    )
    taken = index.rows["why"] == 0
    straddling = np.isin(index.rows["group"], index.rows["group"][taken & in_train])
    index.rows["why"][taken & ~in_train & straddling] = _GROUP
