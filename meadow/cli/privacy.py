"""``meadow privacy``: what could identify a person in a dataset, whoever made it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meadow.cli import console
from meadow.cli.options import Out, listed, store_in


def privacy(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET_OR_FILE", help="A built dataset, or a JSON lines, JSON, Parquet or CSV file."
        ),
    ] = None,
    fields: Annotated[
        str, typer.Option(metavar="A,B", help="Columns to screen; default all that hold text.")
    ] = "",
    masked: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="Write all rows, with findings masked.")
    ] = None,
    show: Annotated[
        int, typer.Option(metavar="N", min=0, help="Findings to print with the text around them.")
    ] = 10,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Score the screen on its labelled sentences instead.")
    ] = False,
    out: Out = None,
) -> None:
    """Look for names, addresses, numbers and dates that could identify a person, whoever made the dataset."""
    from meadow.filters.privacy import evaluation, screening

    if target is not None and not evaluate:
        with console.failing():
            report = screening.run(target, store_in(out), listed(fields), masked, show)
        console.say(report)
    elif evaluate and target is None:
        for part in evaluation.PARTS:
            console.say(evaluation.report(part))
    else:
        console.fail("give either a dataset or file, or --evaluate", console.WRONG_USE)
