"""How commands declare their arguments and options, those that several have, and what such values stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from meadow.core.store import Store


def flag(name: str, words: str) -> Any:
    """A switch that is off unless it is given."""
    return typer.Option(False, name, help=words)


def option(metavar: str, words: str, default: Any = None, *names: str, **more: Any) -> Any:
    """An option with a value, by other `names` than its own; one without a default (...) must be given."""
    return typer.Option(default, *names, metavar=metavar or None, help=words, **more)


def argument(metavar: str, words: str, default: Any = None) -> Any:
    """What is given by its place; without a default (...) it must be."""
    return typer.Argument(default, metavar=metavar or None, help=words)


RAW = option("DIR", "Raw store, a folder per source in it; default $MEADOW_RAW, else the user's cache.")
OUT = option("DIR", "Output folder; default $MEADOW_OUT, else the user's cache.")
NAMES = argument("NAME", "Datasets; default all.")
TARGET = argument(
    "DATASET_OR_FILE", "A built dataset, or a JSON lines, JSON, Parquet or CSV file.", default=...
)


def store_in(out: Path | None) -> Store:
    """The output folder that an option names."""
    from meadow.core.store import Store, default_out

    return Store(out or default_out())


def listed(text: str) -> list[str]:
    """The values of an option that takes several with a comma between."""
    return [value for value in text.split(",") if value]
