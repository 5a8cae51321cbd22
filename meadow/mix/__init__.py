"""Mixtures: datasets whose rows are drawn from other datasets, as a YAML file says.

A mixture names its parts (dataset, versions, splits, how many rows) and a seed. It is built from built
datasets, is one itself (``mixture_<name>``), and has a lock file beside its manifest from which it can be
built again to the byte. A part that is not on this machine is an error; nothing shrinks in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meadow.mix.definition import PREFIX, DefinitionError, Mixture, MixtureError, MixturePart, available, load

if TYPE_CHECKING:
    from meadow.mix.building import build, missing, notes
    from meadow.mix.lock import LockMismatchError

__all__ = [
    "PREFIX",
    "DefinitionError",
    "LockMismatchError",
    "Mixture",
    "MixtureError",
    "MixturePart",
    "available",
    "build",
    "load",
    "missing",
    "notes",
]

#: What needs pyarrow and numpy is imported when it is asked for.
_LATER = {"build": "building", "missing": "building", "notes": "building", "LockMismatchError": "lock"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(f"meadow.mix.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
