"""The plot of a score: accuracy with its interval per part, and where there are likelihoods how sure against how right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from meadow.describe.cards.figure import picture
from meadow.score.statistics import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Published models that are drawn beside the user's, fewest parameters first: the base, and the best of each size.
BESIDE = ("LLaMA 13b", "MedAlpaca 7b", "MedAlpaca 13b")
_ALL = ""
_INK, _MUTED, _RULE = "#1f2328", "#59636e", "#d1d9e0"
_STYLE = {
    **{"axes.spines.left": True, "axes.labelcolor": _MUTED, "text.parse_math": False},
    **{"axes.grid": True, "axes.grid.axis": "y", "grid.color": _RULE, "grid.linewidth": 0.7},
}
_MINE, _BASELINE, _OTHERS = "#1f6fb4", "#c2570c", ("#8b95a1", "#57606a", "#2f7d4f")


def plot(scores: Mapping[str, Any]) -> bytes:
    """Draws the content of ``scores.json`` as an SVG document, the same bytes under one matplotlib version."""
    sure = scores.get("calibration")

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, 2, width_ratios=(1.5, 1)) if sure else [figure.subplots()]
        _accuracy(axes[0], scores)
        if sure:
            _reliability(axes[1], sure)

    return picture((10, 4.2) if sure else (6.4, 4.2), draw, _STYLE)


def _points(axes: Axes, points: Sequence[tuple[float, Mapping[str, Any]]], **style: Any) -> None:
    """Accuracies with their intervals, each at its place from left to right."""
    shares = [found["accuracy"] for _, found in points]
    low = [max(found["accuracy"] - found["interval"][0], 0) for _, found in points]
    high = [max(found["interval"][1] - found["accuracy"], 0) for _, found in points]
    axes.errorbar([at for at, _ in points], shares, yerr=[low, high], clip_on=False, **style)


def _accuracy(axes: Axes, scores: Mapping[str, Any]) -> None:
    parts = list(scores["parts"])
    # No part is called so.
    places = [*parts, _ALL] if len(parts) > 1 else parts
    mine = {**scores["parts"], _ALL: scores["overall"]}
    series: list[tuple[str, str, Mapping[str, Any]]] = [("this model", _MINE, mine)]
    if baseline := scores.get("baseline"):
        compared = {**baseline["parts"], _ALL: baseline["overall"]}
        theirs = {
            place: {"accuracy": share, "interval": wilson(share, found["n"])}
            for place, found in compared.items()
            for share in [(found["both"] + found["lost"]) / found["n"]]
        }
        series.append(("baseline", _BASELINE, theirs))
    # Beside questions of a sample the published figures would mean nothing.
    published = None if scores["exam"]["sample"] else scores.get("published")
    for row in published["rows"] if published else ():
        if row["model"] in BESIDE:
            color = _OTHERS[BESIDE.index(row["model"])]
            series.append((f"{row['model']} (published)", color, {**row["parts"], _ALL: row["overall"]}))
    step = 0.7 / max(len(series), 2)
    for number, (name, color, values) in enumerate(series):
        shift = (number - (len(series) - 1) / 2) * step
        points = [
            (at + shift, found)
            for at, found in enumerate(map(values.get, places))
            if found and found["accuracy"] is not None
        ]
        style = {"markersize": 7, "elinewidth": 2.2} if not number else {"markersize": 5, "elinewidth": 1.2}
        _points(axes, points, fmt="o", color=color, label=name, **style)
    axes.axhline(scores["chance"], color=_MUTED, linewidth=1, linestyle=(0, (4, 3)), label="chance")
    axes.set_xticks(range(len(places)), [f"{p or 'all'}\nn = {mine[p]['n']}" for p in places], color=_INK)
    axes.set_xlim(-0.6, len(places) - 0.4)
    axes.set_ylim(0, 1)
    axes.set_ylabel("accuracy, 95 % interval")
    exam = scores["exam"]
    what = f"{exam['name']}{' SAMPLE' if exam['sample'] else ''}, {scores['protocol']}"
    axes.set_title(what)
    # Below: anywhere inside it would hide points of some model.
    axes.legend(
        frameon=False, labelcolor=_INK, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, fontsize=8
    )


def _reliability(axes: Axes, found: Mapping[str, Any]) -> None:
    axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=1, linestyle=(0, (4, 3)))
    bins = [b for b in found["bins"] if b["n"]]
    most = max(b["n"] for b in bins)
    for b in bins:
        # How many items are in a bin, along the bottom: a tenth of the height at most.
        axes.bar((b["low"] + b["high"]) / 2, 0.1 * b["n"] / most, b["high"] - b["low"], color=_RULE)
    points = [(b["confidence"], b) for b in bins]
    _points(axes, points, fmt="o-", color=_MINE, markersize=5, elinewidth=1.2, linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence (softmax over the options' letters)")
    axes.set_ylabel("accuracy")
    axes.set_title(f"Calibration, ECE {found['ece']:.3f}")
