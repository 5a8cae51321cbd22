"""The plot of a run: its losses by step, and the learning rate under them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meadow.train.folder import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: The plot's file in a model folder.
FILE = "loss.svg"
_INK, _MUTED, _RULE = "#1f2328", "#59636e", "#d1d9e0"
_TRAINED, _HELD, _RATE = "#1f6fb4", "#c2570c", "#59636e"
#: Points of a line at most; what a longer run logged in between is averaged.
_POINTS = 1000


def loss_curve(folder: Path | str, run: Mapping[str, Any]) -> Path:
    """Draws the losses of a run into a model folder.

    The picture has a white ground of its own. The same record gives the same bytes under one matplotlib version.

    Args:
        folder: The folder; ``loss.svg`` is written there.
        run: The record, see `meadow.train.record`.

    Returns:
        The file.
    """
    path = Path(folder) / FILE
    write_whole(path, draw(run))
    return path


def draw(run: Mapping[str, Any]) -> bytes:
    """The plot as an SVG document, UTF-8."""
    import io

    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.text import Text
    from matplotlib.ticker import MaxNLocator

    losses = list(run.get("losses") or ())
    trained, held, rate = (_series(losses, key) for key in ("loss", "eval_loss", "lr"))
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "meadow", "svg.fonttype": "path", "font.size": 9})
        layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)  # inches
        figure = Figure(figsize=(8, 4.6 if rate else 3.6), facecolor="white", layout=layout)
        FigureCanvasSVG(figure)
        axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1)) if rate else [figure.subplots()]
        top = axes[0]
        for part in axes:
            _tidy(part)
        top.set_title("Loss by step", color=_INK, loc="left", fontsize=10)
        steps, values = _thinned(trained)
        mark = "o" if len(steps) < 30 else None
        if steps:
            top.plot(
                steps,
                values,
                color=_TRAINED,
                linewidth=1.3,
                marker=mark,
                markersize=3,
                label=f"training, last {values[-1]:.3f}",
            )
        if held:
            top.plot(
                [step for step, _ in held], [value for _, value in held], color=_HELD, linewidth=1.3, marker="o", markersize=4,
                label=f"validation, last {held[-1][1]:.3f}",
            )  # fmt: skip
        if steps or held:
            top.legend(frameon=False, labelcolor=_INK, loc="upper right", fontsize=8.5)
            top.set_ylabel("cross entropy, nats a token", color=_MUTED)
        else:
            top.text(0.5, 0.5, "no losses", transform=top.transAxes, ha="center", va="center", color=_MUTED)
        if rate:
            axes[1].plot([step for step, _ in rate], [value for _, value in rate], color=_RATE, linewidth=1.2)
            axes[1].set_ylabel("learning rate", color=_MUTED)
            axes[1].set_ylim(bottom=0)
        axes[-1].set_xlabel("optimizer step", color=_MUTED)
        axes[-1].xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        # The library's own font, whatever a machine has installed.
        font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
        figure.draw_without_rendering()
        for text in figure.findobj(Text):
            text.get_fontproperties().set_file(str(font))
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": "Meadow"})
    return out.getvalue()


def _series(losses: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    found = [(int(entry["step"]), entry.get(key)) for entry in losses]
    return [
        (step, float(value))
        for step, value in found
        if isinstance(value, (int, float)) and math.isfinite(value)
    ]


def _thinned(points: Sequence[tuple[int, float]]) -> tuple[list[float], list[float]]:
    """Steps and values, as means over neighbours where there are more than can be seen."""
    every = -(-len(points) // _POINTS) or 1
    groups = [points[at : at + every] for at in range(0, len(points), every)]
    return [g[-1][0] for g in groups], [sum(value for _, value in g) / len(g) for g in groups]


def _tidy(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_RULE)
    axes.tick_params(colors=_MUTED, length=0)
    axes.grid(axis="y", color=_RULE, linewidth=0.7)
    axes.set_axisbelow(True)
