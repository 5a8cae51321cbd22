"""Meadow: versioned, licence-clean medical instruction datasets, rebuilt from raw sources.

After ``import meadow``, ``datasets.load_dataset("meadow", "wikidoc")`` works from any folder;
``meadow.load_dataset("wikidoc")`` does the same without touching the name in `datasets`. What a source of one's
own is written with is here, too.
"""

import os as _os
from typing import TYPE_CHECKING

from meadow.core.version import VERSION

if TYPE_CHECKING:
    from meadow.api import build_datasets as build_datasets
    from meadow.api import list_datasets as list_datasets
    from meadow.core import licenses as licenses
    from meadow.core.archive import ZipArchive as ZipArchive
    from meadow.core.builder import Builder as Builder
    from meadow.core.builder import Shard as Shard
    from meadow.core.errors import Error as Error
    from meadow.core.licenses import License as License
    from meadow.core.licenses.policy import Policy as Policy
    from meadow.core.options import BuildOptions as BuildOptions
    from meadow.core.quality import Quality as Quality
    from meadow.core.rawfile import MAX_LINE as MAX_LINE
    from meadow.core.rawfile import RawFile as RawFile
    from meadow.core.rawfile import RawFileError as RawFileError
    from meadow.core.rawfile import check_ratio as check_ratio
    from meadow.core.rawfile import damaged as damaged
    from meadow.core.rawstore import RawPattern as RawPattern
    from meadow.core.rawstore import RawSource as RawSource
    from meadow.core.row import Author as Author
    from meadow.core.row import Example as Example
    from meadow.core.row import Option as Option
    from meadow.core.row import Rejected as Rejected
    from meadow.loading import load_dataset as load_dataset
    from meadow.parse.jsonlines import BadRecord as BadRecord
    from meadow.parse.jsonlines import json_lines as json_lines
    from meadow.testing import BuilderTest as BuilderTest

__version__ = VERSION

#: Where each public name lives: it is imported when it is first used, so that `import meadow` and the commands
#: stay quick without pyarrow. Type checkers read the same list above; a test compares the two.
_HOMES = {
    "Author": "core.row",
    "BadRecord": "parse.jsonlines",
    "BuildOptions": "core.options",
    "Builder": "core.builder",
    "BuilderTest": "testing",
    "Error": "core.errors",
    "Example": "core.row",
    "License": "core.licenses",
    "MAX_LINE": "core.rawfile",
    "Option": "core.row",
    "Policy": "core.licenses.policy",
    "Quality": "core.quality",
    "RawFile": "core.rawfile",
    "RawFileError": "core.rawfile",
    "RawPattern": "core.rawstore",
    "RawSource": "core.rawstore",
    "Rejected": "core.row",
    "Shard": "core.builder",
    "ZipArchive": "core.archive",
    "build_datasets": "api",
    "check_ratio": "core.rawfile",
    "damaged": "core.rawfile",
    "json_lines": "parse.jsonlines",
    "licenses": "core",
    "list_datasets": "api",
    "load_dataset": "loading",
}

__all__ = sorted(_HOMES)

# In a checkout `builders/` lies beside this package. An editable install maps it; this finds it where
# the checkout shadows a regular install, as it does for a Python started in the checkout's root.
_root = _os.path.dirname(_os.path.dirname(_os.path.abspath(__file__)))
if _os.path.isfile(_os.path.join(_root, "builders", "__init__.py")):
    __path__.append(_root)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = f"meadow.{_HOMES[name]}"
    return import_module(f"{home}.{name}") if name == "licenses" else getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# Cheap: it waits for `datasets` to be imported, and imports nothing itself.
from meadow import registration as _registration  # noqa: E402, F401
