"""The geometry of a page's pictures: places across in percent, text in the page's own size.

So one picture fits a phone and a desk, and its letters stay readable on both. Colours are the page's
(classes, no attributes), so that they follow its light and dark theme. The templates draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from meadow.core.manifest import Funnel, FunnelStage, Lengths

#: Upper by lower edge of a bin: builds count lengths in four bins per octave.
_BIN = 2**0.25
#: Heights in pixels: of a funnel's step, and of the bars of a histogram.
_STEP, _PLOT = 46, 120


def funnel(found: Funnel, steps: Sequence[tuple[str, FunnelStage]]) -> dict[str, Any]:
    """A picture of rows read, lost at each step, and kept; `steps` are names with rows."""
    read, kept, whole = found.read, found.kept, max(found.read, 1)
    drawn: list[tuple[str, str, list[tuple[float, float, str]]]] = [
        ("Read", f"{read:,}", [(0, 100 if read else 0, "on")])
    ]
    for name, step in steps:
        out = step.read - step.kept
        said = f"\N{MINUS SIGN}{out:,} ({percent(out, step.read)})" if out else "none left out"
        went = 100 * step.kept / whole
        # What is there must be seen: no share is thinner than a line.
        lost = max(100 * out / whole, 0.6) if out else 0
        drawn.append((name, said, [(0, went, "on"), (min(went, 100 - lost), lost, "lost")]))
    share = max(100 * kept / whole, 0.6 if kept else 0)
    drawn.append(("Kept", f"{kept:,} ({percent(kept, read)})", [(0, share, "kept")]))
    return {
        "height": _STEP * len(drawn),
        "lost": [(name, step.read - step.kept) for name, step in steps if step.read > step.kept],
        "steps": [
            {"top": number * _STEP, "name": name, "said": said, "bars": bars}
            for number, (name, said, bars) in enumerate(drawn)
        ],
    }


def histograms(every: dict[str, Lengths]) -> dict[str, dict[str, Any]]:
    """Pictures of how long texts are, on one logarithmic axis, by column."""
    edges = [edge for lengths in every.values() for edge, _ in lengths.histogram]
    low, high = max(min(edges, default=1), 1.0), max(edges, default=1) * _BIN
    span = math.log(high / low) or 1.0

    def place(value: float) -> float:
        return 100 * math.log(max(value, low) / low) / span

    def drawn(lengths: Lengths) -> dict[str, Any]:
        most = max(count for _, count in lengths.histogram)
        bins = [
            {
                "left": place(edge),
                "width": min(place(edge * _BIN), 100) - place(edge),
                "height": max(_PLOT * count / most, 1.5),
                "said": f"{edge:,.0f} to {edge * _BIN:,.0f} {lengths.unit}: {count:,}",
            }
            for edge, count in lengths.histogram
        ]
        ticks = [(place(tick), f"{tick:,.0f}") for tick in _ticks(low, high)]
        return {
            **{"most": most, "base": _PLOT + 20, "bins": bins, "ticks": ticks},
            "median": place(lengths.p50),
        }

    return {name: drawn(lengths) for name, lengths in every.items()}


def _ticks(low: float, high: float) -> Iterable[float]:
    tens = [10.0**k for k in range(9) if low <= 10.0**k <= high]
    if len(tens) > 1:
        return tens
    twos = [2.0**k for k in range(32) if low <= 2.0**k <= high]
    return twos[:: max(1, len(twos) // 4)]


def percent(part: float, whole: float) -> str:
    """A share in percent; what is there but rounds to nothing is said to be there."""
    if not whole:
        return "-"
    share = 100 * part / whole
    if 0 < share < 0.05:
        return "< 0.1 %"
    if 99.95 <= share < 100:
        return "> 99.9 %"
    return f"{share:.1f} %"
