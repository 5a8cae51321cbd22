"""``meadow diff``: what differs between two versions of a dataset."""

from __future__ import annotations

import json
from pathlib import Path

from meadow.cli import console
from meadow.cli.options import OUT, argument, flag, option, store_in


def diff(
    name: str = argument("", "A built dataset.", ...),
    v1: str = argument("", "A version, such as 1.0.0; 1.0 is the newest of those.", ...),
    v2: str = argument("", "Another version.", ...),
    out: Path | None = OUT,
    limit: int = option("N", "Rows of each kind that are shown.", 5, min=0),
    json_: bool = flag("--json", "Print JSON."),
    exit_code: bool = flag("--exit-code", "Exit with 1 where rows, splits or columns differ."),
) -> None:
    """Show rows added, removed, changed and moved between two versions, and what else differs."""
    from meadow.describe import diff as versions
    from meadow.describe.diff_text import printed

    with console.failing():
        found = versions.diff(store_in(out), name, v1, v2, limit=limit)
    if json_:
        console.say(json.dumps(found.described(), ensure_ascii=False, indent=2))
    else:
        screen = console.console()
        for item in printed(found, console.table):
            if isinstance(item, tuple):
                screen.print(item[0], style=item[1])
            else:
                console.print_table(screen, item)
    if exit_code and found.differs:
        raise SystemExit(1)
