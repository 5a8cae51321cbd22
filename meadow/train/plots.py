"""The plot of a run: its losses by step, and the learning rate under them."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meadow.core.store import write_whole

#: The plot's file in a model folder.
FILE = "loss.svg"
#: Fonts, rules and colours; those of the lines are below.
_LOOKS = Path(__file__).with_name("loss.mplstyle")
_TRAINED, _HELD, _RATE = "#1f6fb4", "#c2570c", "#59636e"
#: Points of a line at most; what a longer run logged in between is averaged.
_POINTS = 1000


def loss_curve(folder: Path | str, run: Mapping[str, Any]) -> Path:
    """Draws a run's losses into a model folder, as ``loss.svg``; the same bytes under one matplotlib version."""
    path = Path(folder) / FILE
    write_whole(path, draw(run))
    return path


def draw(run: Mapping[str, Any]) -> bytes:
    """The plot as an SVG document, UTF-8."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.text import Text
    from matplotlib.ticker import MaxNLocator

    trained, held, rate = (_series(run.get("losses") or (), key) for key in ("loss", "eval_loss", "lr"))
    with matplotlib.rc_context():
        matplotlib.rc_file(_LOOKS)
        layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)  # inches
        figure = Figure(figsize=(8, 4.6 if rate else 3.6), layout=layout)
        FigureCanvasSVG(figure)
        axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1)) if rate else [figure.subplots()]
        top = axes[0]
        top.set_title("Loss by step")
        if trained:
            steps, values = _thinned(trained)
            few = "o" if len(steps) < 30 else None
            label = f"training, last {values[-1]:.3f}"
            top.plot(steps, values, color=_TRAINED, marker=few, markersize=3, label=label)
        if held:
            label = f"validation, last {held[-1][1]:.3f}"
            top.plot(*zip(*held, strict=True), color=_HELD, marker="o", label=label)
        if trained or held:
            top.legend()
            top.set_ylabel("cross entropy, nats a token")
        else:
            top.text(0.5, 0.5, "no losses", transform=top.transAxes, ha="center", va="center", color=_RATE)
        if rate:
            axes[1].plot(*zip(*rate, strict=True), color=_RATE, linewidth=1.2)
            axes[1].set_ylabel("learning rate")
            axes[1].set_ylim(bottom=0)
        axes[-1].set_xlabel("optimizer step")
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
    return [(step, float(value)) for step, value in found if value is not None and math.isfinite(value)]


def _thinned(points: Sequence[tuple[int, float]]) -> tuple[list[float], list[float]]:
    """Steps and values, as means over neighbours where there are more than can be seen."""
    every = -(-len(points) // _POINTS) or 1
    groups = [points[at : at + every] for at in range(0, len(points), every)]
    return [g[-1][0] for g in groups], [sum(value for _, value in g) / len(g) for g in groups]
