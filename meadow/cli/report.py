"""``meadow report``: an HTML page about all that an output folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meadow.cli import console
from meadow.cli.options import store_in


def report(
    out: Annotated[
        Path | None,
        typer.Argument(metavar="OUT", help="Output folder; default $MEADOW_OUT, else the user's cache."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="PAGE.html", help="The page; default report.html in OUT.")
    ] = None,
    rows: Annotated[
        int, typer.Option(metavar="N", min=0, max=1000, help="Random rows of each dataset.")
    ] = 50,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Another seed shows other rows.")] = 0,
) -> None:
    """Write one HTML page that needs no network: rows, funnels, licences, duplicates, exams, random rows."""
    from meadow.describe.report import write_report

    with console.failing():
        try:
            path, size = write_report(store_in(out), file, rows=rows, seed=seed)
        except OSError as error:
            console.fail(f"cannot write {error.filename or file}: {error.strerror or error}")
    console.say(f"{path}: {console.size_of(size)}")
