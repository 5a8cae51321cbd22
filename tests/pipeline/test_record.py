"""What a manifest says of lengths."""

from __future__ import annotations

import numpy as np

from meadow.pipeline.record import lengths


def of(*values: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths that occur in one file, and how often."""
    found, times = np.unique(np.array(values, np.int64), return_counts=True)
    return found, times


def test_a_percentile_is_the_least_length_that_so_many_do_not_exceed() -> None:
    # Of twenty texts, half are at most 10 characters long, and exactly one at most 1: no other side will do.
    found = lengths([of(*range(1, 21))])
    assert (found.min, found.p5, found.p25, found.p50) == (1, 1, 5, 10)
    assert (found.p75, found.p95, found.p99, found.max) == (15, 19, 20, 20)
    assert found.mean == 10.5


def test_files_count_together() -> None:
    apart = lengths([of(9, 9, 2), of(4), of(2, 700)])
    assert apart == lengths([of(2, 2, 4, 9, 9, 700)])
    assert sum(count for _, count in apart.histogram) == 6
