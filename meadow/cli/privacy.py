"""``meadow privacy``: what could identify a person in a dataset, whoever made it."""

from __future__ import annotations

from pathlib import Path

from meadow.cli import console
from meadow.cli.options import OUT, argument, flag, listed, option, store_in


def privacy(
    target: str | None = argument(
        "DATASET_OR_FILE", "A built dataset, or a JSON lines, JSON, Parquet or CSV file."
    ),
    fields: str = option("A,B", "Columns to screen; default all that hold text.", ""),
    masked: Path | None = option("FILE.jsonl", "Write all rows, with findings masked."),
    show: int = option("N", "Findings to print with the text around them.", 10, min=0),
    evaluate: bool = flag("--evaluate", "Score the screen on its labelled sentences instead."),
    out: Path | None = OUT,
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
