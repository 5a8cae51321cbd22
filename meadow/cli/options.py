"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Output folder; default $MEADOW_OUT, else the user's cache."),
]
Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Datasets; default all.")]
