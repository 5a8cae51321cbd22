"""Fine-tuning language models on Meadow's datasets: in full, or with adapters, in 16, 8 or 4 bits.

The recipes call these functions one after the other, and are there to be read: rows and their layout (`load_rows`,
`plan_steps`), the model (`open_model`, `add_adapters`), the training (`fit`), and a folder that can be published
(`save`, `write_record`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meadow.train.commandline import parse as parse
    from meadow.train.data import load_rows as load_rows
    from meadow.train.dryrun import forecast as forecast
    from meadow.train.finish import save as save
    from meadow.train.finish import write_record as write_record
    from meadow.train.finish import write_settings as write_settings
    from meadow.train.folder import TrainingError as TrainingError
    from meadow.train.loop import NotFiniteError as NotFiniteError
    from meadow.train.merging import MergeError as MergeError
    from meadow.train.merging import merge as merge
    from meadow.train.model import add_adapters as add_adapters
    from meadow.train.model import choose_device as choose_device
    from meadow.train.model import open_base as open_base
    from meadow.train.model import open_model as open_model
    from meadow.train.packing import plan_steps as plan_steps
    from meadow.train.reading import DataError as DataError
    from meadow.train.run import command as command
    from meadow.train.run import output_folder as output_folder
    from meadow.train.settings import TrainSettings as TrainSettings
    from meadow.train.settings import TrainSettingsError as TrainSettingsError
    from meadow.train.training import find_beginning as find_beginning
    from meadow.train.training import fit as fit

#: Modules with their names; each is imported when a name is asked for, so that ``--help`` waits for no library.
_NAMES = {
    "commandline": ("parse",),
    "data": ("load_rows",),
    "dryrun": ("forecast",),
    "finish": ("save", "write_record", "write_settings"),
    "folder": ("TrainingError",),
    "loop": ("NotFiniteError",),
    "merging": ("MergeError", "merge"),
    "model": ("add_adapters", "choose_device", "open_base", "open_model"),
    "packing": ("plan_steps",),
    "reading": ("DataError",),
    "run": ("command", "output_folder"),
    "settings": ("TrainSettings", "TrainSettingsError"),
    "training": ("find_beginning", "fit"),
}


def __getattr__(name: str) -> Any:
    for module, names in _NAMES.items():
        if name in names:
            return getattr(import_module(f"meadow.train.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
