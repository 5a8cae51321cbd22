"""``meadow duplicates``: rows of a dataset that say the same, whoever made it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from meadow.cli import console
from meadow.cli.options import OUT, TARGET, listed, option, store_in


def duplicates(
    target: str = TARGET,
    fields: str = option("A,B", "Columns to compare; default those of input,output there are.", ""),
    threshold: float = option("", "Least share of common five-word runs of near duplicates.", 0.8),
    out: Path | None = OUT,
    report: Path | None = option("FILE.parquet", "Write the clusters: cluster,id,kept,similarity."),
    show: int = option("N", "Near duplicates to print.", 10, min=0),
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
