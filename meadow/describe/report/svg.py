"""Pictures as inline SVG: places across in percent, text in the page's own size.

So one picture fits a phone and a desk, and its letters stay readable on both. Colours are the page's
(classes, no attributes), so that they follow its light and dark theme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from meadow.describe.report.html import text

#: Upper by lower edge of a bin: builds count lengths in four bins per octave.
_BIN = 2**0.25
#: Heights in pixels: of a funnel's step, of its bar, of the bars of a histogram.
_STEP, _BAR, _PLOT = 46, 16, 120


@dataclass(frozen=True, slots=True)
class Step:
    """A bar of a funnel.

    Attributes:
        name: What it is called.
        read: Rows that came in.
        lost: Rows that it left out.
    """

    name: str
    read: int
    lost: int


def funnel(steps: Sequence[Step], read: int, kept: int, identity: str) -> str:
    """Rows read, lost at each step, and kept.

    Args:
        steps: The steps in order.
        read: Rows read.
        kept: Rows kept.
        identity: A prefix for element ids, unique in the page.
    """
    whole = max(read, 1)
    height = _STEP * (len(steps) + 2)
    told = (
        "; ".join(f"{step.name} leaves out {step.lost:,}" for step in steps if step.lost)
        or "nothing is left out"
    )
    out = [
        f'<svg class="funnel" role="img" width="100%" height="{height}" aria-labelledby="{identity}-t {identity}-d">',
        f'<title id="{identity}-t">Funnel: {read:,} rows read, {kept:,} kept</title>',
        f'<desc id="{identity}-d">{text(f"Of {read:,} rows read, {told}; {kept:,} are kept.")}</desc>',
        *_step(0, "Read", f"{read:,}", [(0, 100 if read else 0, "on")]),
    ]
    for number, step in enumerate(steps, start=1):
        went, lost = 100 * (step.read - step.lost) / whole, 100 * step.lost / whole
        said = f"{minus(step.lost)} ({percent(step.lost, step.read)})" if step.lost else "none left out"
        # What is there must be seen: no share is thinner than a line.
        lost = max(lost, 0.6) if step.lost else 0
        out += _step(number, step.name, said, [(0, went, "on"), (min(went, 100 - lost), lost, "lost")])
    share = f"{kept:,} ({percent(kept, read)})"
    out += _step(len(steps) + 1, "Kept", share, [(0, max(100 * kept / whole, 0.6 if kept else 0), "kept")])
    return "".join([*out, "</svg>"])


def _step(number: int, name: str, said: str, bars: Sequence[tuple[float, float, str]]) -> list[str]:
    top = number * _STEP
    out = [
        f'<text x="0" y="{top + 14}">{text(name)}</text>',
        f'<text class="end" x="100%" y="{top + 14}">{text(said)}</text>',
        f'<rect class="ground" x="0" y="{top + 20}" width="100%" height="{_BAR}" rx="3"/>',
    ]
    for at, width, kind in bars:
        if width > 0:
            out.append(
                f'<rect class="{kind}" x="{at:.3f}%" y="{top + 20}" width="{width:.3f}%" height="{_BAR}" rx="2"/>'
            )
    return out


def histogram(lengths: Any, low: float, high: float, title: str, identity: str) -> str:
    """How long texts are, on a logarithmic axis.

    Args:
        lengths: An entry of a manifest's ``lengths``.
        low: Where the axis begins, in characters.
        high: Where it ends.
        title: What the picture shows.
        identity: A prefix for element ids, unique in the page.
    """
    bins = [(float(edge), int(count)) for edge, count in lengths["histogram"]]
    most = max(count for _, count in bins)
    span = math.log(high / low) or 1.0

    def place(value: float) -> float:
        return 100 * math.log(max(value, low) / low) / span

    unit = lengths.get("unit", "characters")
    out = [
        f'<svg class="histogram" role="img" width="100%" height="{_PLOT + 46}" aria-labelledby="{identity}-t {identity}-d">',
        f'<title id="{identity}-t">{text(title)}</title>',
        f'<desc id="{identity}-d">{text(_told(lengths, bins))}</desc>',
        f'<text class="muted" x="0" y="12">up to {most:,} {"row" if most == 1 else "rows"} per bar</text>',
    ]
    base = _PLOT + 20
    for edge, count in bins:
        height = max(_PLOT * count / most, 1.5)
        left, right = place(edge), min(place(edge * _BIN), 100)
        out.append(
            f'<rect class="on" x="{left:.2f}%" y="{base - height:.1f}" width="{right - left:.2f}%" height="{height:.1f}">'
            f"<title>{edge:,.0f} to {edge * _BIN:,.0f} {text(unit)}: {count:,}</title></rect>"
        )
    out.append(f'<line class="axis" x1="0" x2="100%" y1="{base}" y2="{base}"/>')
    for tick in _ticks(low, high):
        at = place(tick)
        out.append(f'<line class="axis" x1="{at:.2f}%" x2="{at:.2f}%" y1="{base}" y2="{base + 5}"/>')
        out.append(f'<text class="middle muted" x="{at:.2f}%" y="{base + 20}">{_short(tick)}</text>')
    median = lengths.get("p50")
    if median is not None:
        at = place(median)
        out.append(f'<line class="median" x1="{at:.2f}%" x2="{at:.2f}%" y1="20" y2="{base}"/>')
    return "".join([*out, "</svg>"])


def _told(lengths: Any, bins: Sequence[tuple[float, int]]) -> str:
    count = sum(n for _, n in bins)
    words = [f"{count:,} texts"]
    words += [f"{name} {lengths[key]:,}" for name, key in (("median", "p50"), ("95 in 100 are at most", "p95"), ("longest", "max")) if lengths.get(key) is not None]  # fmt: skip
    return f"{', '.join(words)} {lengths.get('unit', 'characters')}."


def _ticks(low: float, high: float) -> list[float]:
    tens = [10.0**k for k in range(9) if low <= 10.0**k <= high]
    if len(tens) > 1:
        return tens
    twos = [2.0**k for k in range(32) if low <= 2.0**k <= high]
    return twos[:: max(1, len(twos) // 4)]


def _short(value: float) -> str:
    return f"{value:,.0f}"


def extent(every: Sequence[Any]) -> tuple[float, float]:
    """Where an axis for all these ``lengths`` begins and ends."""
    edges = [float(edge) for lengths in every for edge, _ in lengths["histogram"]]
    return max(min(edges), 1.0), max(edges) * _BIN


def bar(part: float, whole: float) -> str:
    """A share as a small bar, beside a number that says it."""
    width = 100 * part / whole if whole else 0
    width = max(width, 1.0) if part else 0
    return (
        '<svg class="bar" aria-hidden="true" width="100%" height="8">'
        '<rect class="ground" width="100%" height="8" rx="2"/>'
        f'<rect class="on" width="{width:.2f}%" height="8" rx="2"/></svg>'
    )


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


def minus(count: int) -> str:
    """A number of rows that went, with a minus sign."""
    return f"\u2212{count:,}"
