"""The public door: every name is there, typed, and imported when it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import meadow


def test_every_name_is_there_and_listed() -> None:
    assert sorted(meadow.__all__) == meadow.__all__
    for name in meadow.__all__:
        assert getattr(meadow, name) is not None
    assert set(meadow.__all__) < set(dir(meadow))
    with pytest.raises(AttributeError, match="module 'meadow' has no attribute 'buildd'"):
        meadow.buildd  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_type_checkers_read_the_same_list() -> None:
    tree = ast.parse(Path(meadow.__file__).read_text(encoding="utf-8"))
    block = next(
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    typed = {
        alias.asname: (node.module or "").removeprefix("meadow.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == meadow._HOMES
    assert sorted(typed) == meadow.__all__


def test_the_module_of_the_command_is_not_the_function() -> None:
    code = "import meadow, meadow.build; assert callable(meadow.build_datasets); assert not callable(meadow.build)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_importing_it_imports_little() -> None:
    code = "import sys, meadow; print([m for m in ('pyarrow', 'numpy', 'datasets', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
