"""``meadow diff``: what differs between two versions of a dataset."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from meadow.cli import console
from meadow.cli.options import Out, store_in


def diff(
    name: Annotated[str, typer.Argument(help="A built dataset.")],
    v1: Annotated[str, typer.Argument(help="A version, such as 1.0.0; 1.0 is the newest of those.")],
    v2: Annotated[str, typer.Argument(help="Another version.")],
    out: Out = None,
    limit: Annotated[int, typer.Option(metavar="N", min=0, help="Rows of each kind that are shown.")] = 5,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 where rows, splits or columns differ.")
    ] = False,
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
