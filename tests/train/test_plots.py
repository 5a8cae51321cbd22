"""The plot of a run."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from meadow.train import plots
from tests.train.test_record import a_run


def test_the_plot_is_svg_and_the_same_bytes_again(tmp_path: Path) -> None:
    path = plots.loss_curve(tmp_path, a_run())
    first = path.read_bytes()
    assert path == tmp_path / "loss.svg" and [p.name for p in tmp_path.iterdir()] == ["loss.svg"]
    assert ElementTree.fromstring(first).tag.endswith("svg")
    assert plots.loss_curve(tmp_path, a_run()).read_bytes() == first
    assert b"<dc:date>" not in first


def test_other_losses_are_another_plot() -> None:
    assert plots.draw(a_run()) != plots.draw(a_run(losses=a_run()["losses"][:20]))


def test_few_losses_none_and_those_that_are_no_numbers() -> None:
    one = [{"step": 1, "loss": 2.0}]
    for losses in (
        [],
        one,
        [{"step": 1, "loss": None}],
        [{"step": 1, "eval_loss": 2.0}],
        [{"step": 1, "loss": float("inf")}],
    ):
        assert plots.draw(a_run(losses=losses)).startswith(b"<?xml")


def test_a_long_run_is_thinned_to_means() -> None:
    steps, values = plots._thinned([(n, float(n)) for n in range(1, 2501)])
    assert len(steps) <= 1000
    assert steps[0] == 3 and values[0] == 2.0
    assert steps[-1] == 2500
    few = [(1, 5.0), (2, 4.0)]
    assert plots._thinned(few) == ([1, 2], [5.0, 4.0])
