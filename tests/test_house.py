"""The house holds: what `tests/house.py` counts is nil where it has to be."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests import house

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return house.imports(house.modules(ROOT))


def test_no_module_imports_itself_by_a_way_round(graph: dict[str, set[str]]) -> None:
    assert house.circles(graph) == []


def test_no_arrow_points_back(graph: dict[str, set[str]]) -> None:
    assert house.arrows_back(graph) == []


def test_every_layer_has_its_place(graph: dict[str, set[str]]) -> None:
    placed = {name for names in house.LAYERS for name in names}
    there = {house.layer_of(name) for name in graph} - {"", "builders", "recipes", "registration"}
    assert there == placed


def test_the_wheel_holds_every_package_once() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = ["meadow.words"]  # `cards/`: texts alone, no `__init__.py`
    for folder in ("meadow", "builders", "recipes"):
        for path in (ROOT / folder).rglob("__init__.py"):
            name = ".".join(path.parent.relative_to(ROOT).parts)
            there.append(name if folder == "meadow" else f"meadow.{name}")
    assert sorted(listed) == sorted(there)


def test_the_wheel_holds_every_data_file() -> None:
    globs = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    packages = [
        path.parent
        for folder in ("meadow", "builders", "recipes")
        for path in (ROOT / folder).rglob("__init__.py")
    ]
    shipped = {
        file for package in (*packages, ROOT / "cards") for glob in globs for file in package.glob(glob)
    }
    there = {
        path
        for folder in ("meadow", "builders", "recipes", "cards")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert sorted(there - shipped) == []


def test_a_circle_and_an_arrow_back_would_be_seen() -> None:
    graph = {
        "meadow.core.row": {"meadow.core.builder", "meadow.cli.app"},
        "meadow.core.builder": {"meadow.core.row", "meadow"},
        "meadow.score.exams": {"meadow.chat.page"},
        "meadow.cli.app": {"meadow.core.row"},
    }
    assert house.circles(graph) == [["meadow.cli.app", "meadow.core.builder", "meadow.core.row"]]
    assert house.arrows_back(graph) == [
        "meadow.core.row -> meadow.cli.app",
        "meadow.core.builder -> meadow",
        "meadow.score.exams -> meadow.chat.page",
    ]
