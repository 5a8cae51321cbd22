"""Makes ``datasets.load_dataset("meadow", NAME)`` work once `meadow` is imported.

`datasets` offers no public way to add a name, so one function of its module `datasets.load` is wrapped:
`dataset_module_factory`, which turns a path into a `DatasetModule(module_path, hash, builder_kwargs)`.
Nothing else of its private surface is used; the builder itself (`meadow.loading`) is made of public
classes. tests/test_loading.py pins both names. Where they are missing, the failure is soft: a warning
that names `meadow.load_dataset`, which needs none of this.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import warnings
from types import ModuleType
from typing import Any

NAME = "meadow"
_MODULE = "datasets.load"
#: The function that is wrapped, and what marks it as wrapped already.
_FACTORY, _MARK = "dataset_module_factory", "_meadow"


def register() -> None:
    """Registers at once if `datasets` is loaded, else as soon as it is."""
    if _MODULE in sys.modules:
        _wrap(sys.modules[_MODULE])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Waits for `datasets.load`, so that `import meadow` need not load it."""

    def find_spec(
        self, fullname: str, path: Any, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                _wrap(module)

            spec.loader.exec_module = exec_module
        return spec


def _wrap(module: ModuleType) -> None:
    inner = getattr(module, _FACTORY, None)
    describe = getattr(module, "DatasetModule", None)
    if getattr(inner, _MARK, False):
        return
    if inner is None or describe is None:
        warnings.warn(
            'this version of datasets does not let load_dataset("meadow", ...) be registered; '
            "use meadow.load_dataset(...), which does the same",
            stacklevel=2,
        )
        return

    @functools.wraps(inner)
    def dataset_module_factory(path: str, *args: Any, **kwargs: Any) -> Any:
        if path != NAME:
            return inner(path, *args, **kwargs)
        if kwargs.get("revision") is not None:
            raise ValueError('load_dataset("meadow", ...) has no revisions: choose by version="1.0.0"')
        try:
            return describe("meadow.loading", NAME, {"dataset_name": NAME})
        except TypeError as error:
            raise RuntimeError(
                f"this version of datasets describes modules differently ({error}); "
                "use meadow.load_dataset(...), which does the same"
            ) from error

    setattr(dataset_module_factory, _MARK, True)
    setattr(module, _FACTORY, dataset_module_factory)
    # `datasets.inspect` (get_dataset_config_names and the like) holds a copy of the name.
    inspect = sys.modules.get("datasets.inspect")
    if inspect is not None and getattr(inspect, _FACTORY, None) is inner:
        setattr(inspect, _FACTORY, dataset_module_factory)


register()
