"""The plot beside a dataset's card: lengths of texts, and what became of the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meadow.core.manifest import Funnel, Lengths, Manifest
from meadow.describe.cards.markdown import printable, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Reasons that the plot names; the rest is one bar.
_MOST_REASONS = 11
#: Upper by lower edge of a bin: the build counts lengths in four bins per octave.
_BIN = 2**0.25
_INK, _MUTED, _RULE = "#1f2328", "#59636e", "#d1d9e0"
_INPUT, _OUTPUT, _KEPT, _DROPPED = "#1f6fb4", "#c2570c", "#2f7d4f", "#8b95a1"
_STYLE: dict[Any, Any] = {
    **{"svg.hashsalt": "meadow", "svg.fonttype": "path", "font.size": 9, "axes.axisbelow": True},
    **{"axes.titlecolor": _INK, "axes.titlelocation": "left", "axes.titlesize": 10},
    **{f"axes.spines.{side}": False for side in ("top", "right", "left")},
    **{f"{axis}tick.{which}.size": 0 for axis in "xy" for which in ("major", "minor")},
    **{"axes.edgecolor": _RULE, "xtick.color": _MUTED, "ytick.color": _MUTED},
}


def picture(
    size: tuple[float, float], draw: Callable[[Figure], None], style: Mapping[Any, Any] | None = None
) -> bytes:
    """SVG on a white ground, the same bytes under one matplotlib version; `size` in inches."""
    import io
    import warnings

    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.text import Text

    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_STYLE, **(style or {})})
        warnings.filterwarnings("ignore", message="Glyph")  # a text in a script that the font lacks
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)  # inches
        figure = Figure(figsize=size, facecolor="white", layout=layout)
        FigureCanvasSVG(figure)
        draw(figure)
        figure.draw_without_rendering()  # ticks exist only then
        for text in figure.findobj(Text):
            text.get_fontproperties().set_file(str(font))
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": "Meadow"})
    return out.getvalue()


def plot(manifest: Manifest) -> bytes:
    """Draws how long the texts are, and how many rows were kept and left out for which reason, as SVG."""
    named = manifest.funnel.reasons
    if len(named) > _MOST_REASONS:
        rest = named[_MOST_REASONS - 1 :]
        named = [*named[: _MOST_REASONS - 1], (f"{len(rest)} other reasons", sum(n for _, n in rest))]

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
        _draw_lengths(left, manifest.lengths)
        _draw_funnel(right, manifest.funnel, named)

    # Grows with the bars, so that they stay equally thick.
    return picture((10, max(3.4, 1.4 + 0.3 * (len(named) + 1))), draw)


def _draw_lengths(axes: Axes, lengths: Mapping[str, Lengths]) -> None:
    axes.set_title("Length of texts, characters (log scale)")
    colors = {"input": _INPUT, "output": _OUTPUT}
    drawn = [field for field in colors if field in lengths and any(n for _, n in lengths[field].histogram)]
    for field in drawn:
        color, median = colors[field], lengths[field].p50
        counts, edges = _stairs(sorted(lengths[field].histogram))
        axes.stairs(counts, edges, fill=True, color=color, alpha=0.22)
        axes.stairs(counts, edges, color=color, linewidth=1.4, label=f"{field}, median {median:,}")
        if median:
            axes.vlines(median, 0, max(counts), color=color, linewidth=1, linestyle=(0, (4, 3)))
    if not drawn:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines["bottom"].set_visible(False)
        axes.text(0.5, 0.5, "no rows", transform=axes.transAxes, ha="center", va="center", color=_MUTED)
        return
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    # Powers of ten alone could leave a narrow axis without a single number.
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=_RULE, linewidth=0.7)
    axes.set_ylabel("rows", color=_MUTED)
    axes.legend(frameon=False, labelcolor=_INK, loc="upper left", fontsize=8.5)
    axes.set_ylim(top=axes.get_ylim()[1] * 1.28)  # room for the legend above the curves


def _stairs(bins: Sequence[tuple[float, int]]) -> tuple[list[int], list[float]]:
    """Counts and edges without gaps; a histogram lists only the bins that hold something."""
    counts: list[int] = []
    edges: list[float] = []
    for edge, count in bins:
        edge = max(edge, 1.0)  # a log axis has no zero: empty texts stand with those of one character
        if edges and edge <= edges[-2]:
            counts[-1] += count
            continue
        if edges and edge > edges[-1] * 1.02:  # edges are rounded to two decimals
            counts.append(0)
        elif edges:
            edges.pop()
        counts.append(count)
        edges += [edge, edge * _BIN]
    return counts, edges


def _draw_funnel(axes: Axes, funnel: Funnel, left_out: Sequence[tuple[str, int]]) -> None:
    read = funnel.read
    axes.set_title(f"What became of {read:,} rows read")
    bars = [("kept", funnel.kept, _KEPT), *((reason, n, _DROPPED) for reason, n in left_out)]
    most = max(n for _, n, _ in bars) or 1
    for at, (_, count, color) in enumerate(bars):
        axes.barh(at, count, height=0.68, color=color)
        said = f"{count:,}  ({share(count, read)})"
        place = count + most * 0.012
        axes.text(place, at, said, va="center", color=_INK, fontsize=8.5, parse_math=False)
    labels = [printable(name if len(name) <= 38 else f"{name[:36].rstrip()}...") for name, _, _ in bars]
    axes.set_yticks(range(len(bars)), labels, color=_INK, parse_math=False)
    # Downwards, and with room for six bars at least: one bar alone would fill the panel.
    axes.set_ylim(max(len(bars), 6) - 0.5, -0.5)
    axes.set_xlim(0, most * 1.32)  # room for the numbers behind the bars
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
