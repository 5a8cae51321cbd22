"""``meadow duplicates``: rows of a dataset that say the same, whoever made it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from meadow.cli import console
from meadow.cli.options import Out, Target, listed, store_in


def duplicates(
    target: Target,
    fields: Annotated[
        str, typer.Option(metavar="A,B", help="Columns to compare; default those of input,output there are.")
    ] = "",
    threshold: Annotated[
        float, typer.Option(help="Least share of common five-word runs of near duplicates.")
    ] = 0.8,
    out: Out = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.parquet", help="Write the clusters: cluster,id,kept,similarity."),
    ] = None,
    show: Annotated[int, typer.Option(metavar="N", min=0, help="Near duplicates to print.")] = 10,
) -> None:
    """Look for rows that say the same, word for word or nearly, in a dataset, whoever made it."""
    from meadow.core import workers
    from meadow.filters.duplicates import target as searching

    count = console.cores()
    with (
        tempfile.TemporaryDirectory(prefix="meadow-") as folder,
        workers.Pool(count) as pool,
        console.failing(),
    ):
        found = searching.screen(
            target,
            Path(folder),
            pool,
            2 * count + 2,
            store=store_in(out),
            fields=listed(fields),
            threshold=threshold,
        )
        counts = found.write(report or Path(folder) / "report.parquet")
        pairs = found.near(show)
    console.say(
        f"{target}: {found.rows:,} rows compared ({', '.join(found.fields)}): {counts['exact']:,} exact and "
        f"{counts['near']:,} near duplicates (similarity {threshold:g} or more) in {counts['clusters']:,} "
        f"clusters; {counts['contradicting']:,} more rows are as similar but contradict each other, such as "
        "in a number"
    )
    for pair in pairs:
        console.say(
            f"\n{pair.similarity:.3f}  {pair.id}: {pair.text}\n       {pair.survivor}: {pair.survivor_text}"
        )
    if counts["near"] > len(pairs) and report is None:
        console.say(f"\nand {counts['near'] - len(pairs):,} more; --report FILE.parquet lists all")
