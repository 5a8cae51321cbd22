"""Fine-tuning language models on Meadow's datasets: in full, or with adapters, in 16, 8 or 4 bits.

`train` does what the recipes do. A run reads rows (`data`), lays them out (`packing`), trains (`loop`), and
leaves a folder that can be published (`folder`, `record`, `card`). Torch is imported when a run begins.
"""

from __future__ import annotations

from typing import Any

from meadow.train.settings import Settings, SettingsError, parse

__all__ = [
    "DataError",
    "NotFiniteError",
    "Settings",
    "SettingsError",
    "TrainingError",
    "main",
    "parse",
    "train",
]

_LATER = {
    "train": "run",
    "main": "run",
    "DataError": "data",
    "TrainingError": "folder",
    "NotFiniteError": "loop",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(f"meadow.train.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
