"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from meadow.core.store import Store

Raw = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Raw store, a folder per source in it; default $MEADOW_RAW, else the user's cache.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Output folder; default $MEADOW_OUT, else the user's cache."),
]
Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Datasets; default all.")]
Target = Annotated[
    str,
    typer.Argument(
        metavar="DATASET_OR_FILE", help="A built dataset, or a JSON lines, JSON, Parquet or CSV file."
    ),
]


def store_in(out: Path | None) -> Store:
    """The output folder that an option names."""
    from meadow.core.store import Store, default_out

    return Store(out or default_out())


def listed(text: str) -> list[str]:
    """The values of an option that takes several with a comma between."""
    return [value for value in text.split(",") if value]
