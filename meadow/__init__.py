"""Meadow: versioned, licence-clean medical instruction datasets, rebuilt from raw sources.

After ``import meadow``, ``datasets.load_dataset("meadow", "wikidoc")`` works from any folder;
``meadow.load_dataset("wikidoc")`` does the same without touching the name in `datasets`.
"""

import os as _os

__version__ = "0.1.0"
__all__ = [
    "Author",
    "BadRecord",
    "Builder",
    "BuilderTest",
    "Error",
    "Example",
    "License",
    "Option",
    "Quality",
    "RawFile",
    "RawFileError",
    "RawPattern",
    "RawSource",
    "Rejected",
    "Shard",
    "ZipArchive",
    "build_datasets",
    "damaged",
    "json_lines",
    "licenses",
    "load_dataset",
]

_PUBLIC = {
    **dict.fromkeys(
        ("Author", "Builder", "Example", "Option", "RawPattern", "Rejected", "Shard"), "core.builder"
    ),
    **dict.fromkeys(
        ("BadRecord", "RawFile", "RawFileError", "RawSource", "ZipArchive", "damaged", "json_lines"),
        "core.raw",
    ),
    "BuilderTest": "testing",
    "Error": "core.errors",
    "License": "core.licenses",
    "Quality": "filters.quality",
    "build_datasets": "api",
    "load_dataset": "api",
}

# In a checkout `builders/` lies beside this package. An editable install maps it; this finds it where
# the checkout shadows a regular install, as it does for a Python started in the checkout's root.
_root = _os.path.dirname(_os.path.dirname(_os.path.abspath(__file__)))
if _os.path.isfile(_os.path.join(_root, "builders", "__init__.py")):
    __path__.append(_root)


def __getattr__(name: str) -> object:
    # Imported on first use: `import meadow` and the commands stay quick without pyarrow.
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(f"meadow.{_PUBLIC[name]}"), name)
    if name == "licenses":
        import meadow.core.licenses

        return meadow.core.licenses
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Cheap: it waits for `datasets` to be imported, and imports nothing itself.
from meadow import registration as _registration  # noqa: E402, F401
