"""``meadow new``: the files of a new source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meadow.cli import console


def new(
    name: Annotated[
        str, typer.Argument(help="The source's name: lower-case letters, digits and underscores.")
    ],
    folder: Annotated[
        Path, typer.Option("--dir", help="A Meadow checkout, or where a package goes.")
    ] = Path(),
) -> None:
    """Scaffold a new source: builder, sample, card and a test that fails until they are filled in."""
    from meadow.cli import scaffold

    with console.failing():
        paths = scaffold.new_source(name, folder)
    for path in paths:
        console.say(path)
