"""``meadow report``: an HTML page about all that an output folder holds."""

from __future__ import annotations

from pathlib import Path

from meadow.cli import console
from meadow.cli.options import argument, option, store_in
from meadow.core.units import size_of


def report(
    out: Path | None = argument("OUT", "Output folder; default $MEADOW_OUT, else the user's cache."),
    file: Path | None = option("PAGE.html", "The page; default report.html in OUT."),
    rows: int = option("N", "Random rows of each dataset.", 50, min=0, max=1000),
    seed: int = option("N", "Another seed shows other rows.", 0, min=0),
) -> None:
    """Write one HTML page that needs no network: rows, funnels, licences, duplicates, exams, random rows."""
    from meadow.describe.report import write_report

    with console.failing():
        try:
            path, size = write_report(store_in(out), file, rows=rows, seed=seed)
        except OSError as error:
            console.fail(f"cannot write {error.filename or file}: {error.strerror or error}")
    console.say(f"{path}: {size_of(size)}")
