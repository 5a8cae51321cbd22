"""``meadow contamination``: exam items in a dataset, whoever made it."""

from __future__ import annotations

from pathlib import Path

from meadow.cli import console
from meadow.cli.options import OUT, TARGET, listed, option, store_in


def contamination(
    target: str = TARGET,
    against: list[str] = option(
        "NAME_OR_FILE",
        "An exam: a built dataset, whose test split counts, a file, or a folder. Can be repeated.",
        ...,
    ),
    out: Path | None = OUT,
    fields: str = option("A,B", "Columns to read; default all of a row's texts.", ""),
    report: Path | None = option("FILE.parquet", "Write each hit with the overlapping text."),
) -> None:
    """Look for items of exams in a dataset, whoever made it, word for word and retold."""
    from meadow.filters.contamination import checking

    where = store_in(out)
    with console.failing():
        found = checking.check(target, checking.exams_of(against, where), where, listed(fields))
        if report is not None:
            found.write(report)
    table = console.table("exam", "split", "items checked", "too short", "items hit", "rows hit")
    for exam in found.summary():
        numbers = (f"{number:,}" for number in (exam.items, exam.unjudged, exam.items_hit, exam.rows_hit))
        table.add_row(exam.exam, exam.split, *numbers)
    screen = console.console()
    screen.print(f"{target}: {found.rows:,} rows checked ({', '.join(found.fields)})\n")
    console.print_table(screen, table)
    for split, hit in found.hits[:10]:
        words = hit.overlap if len(hit.overlap) <= 120 else hit.overlap[:116] + " ..."
        screen.print(
            f"\n{f'{split} {hit.id}'.strip()}: {hit.kind} of {hit.item} in {hit.exam}, {hit.share:.0%}: {words}"
        )
    if len(found.hits) > 10:
        screen.print(f"\nand {len(found.hits) - 10:,} more; --report FILE.parquet lists all")
