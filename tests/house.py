"""Measures the house: ``python tests/house.py [ROOT] [--json]`` prints what can be counted about a checkout.

It reads files only, apart from ``--row``, which builds the Stack Exchange sample and counts the modules of
Meadow that run between reading a raw file and the published dataset. Imports inside functions and those for
types count like any other. It works on checkouts of before the layers, too, to compare.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

#: The layers from the bottom up; a module imports only from its own and those before it. Those that stand
#: together do not import each other.
LAYERS = (
    ("core",),
    ("parse",),
    ("filters",),
    ("fetch",),
    ("describe",),
    ("export",),
    ("hub",),
    ("pipeline",),
    ("mix",),
    ("api",),
    ("loading",),
    ("models",),
    ("train",),
    ("score", "chat"),
    ("testing",),
    ("cli",),
    ("build", "__main__"),
)
#: A module that is one idea may be longer; CONTRIBUTING.md says which are and why.
LONG = 350

_FOLDERS = {"meadow": "meadow", "builders": "meadow.builders", "recipes": "meadow.recipes"}


def modules(root: Path) -> dict[str, Path]:
    """The modules of a checkout by import name."""
    found = {}
    for folder, name in _FOLDERS.items():
        for path in sorted((root / folder).rglob("*.py")):
            parts = [
                part for part in path.relative_to(root / folder).with_suffix("").parts if part != "__init__"
            ]
            found[".".join((name, *parts))] = path
    return found


def imports(found: Mapping[str, Path]) -> dict[str, set[str]]:
    """What each module imports of the others, anywhere in it."""
    out: dict[str, set[str]] = {}
    for name, path in found.items():
        out[name] = {target for target in _targets(name, path, found) if target != name}
    return out


def _targets(name: str, path: Path, found: Mapping[str, Path]) -> Iterator[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _known(alias.name, found)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join(filter(None, (*above, node.module)))
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield from _known(inner if inner in found else base, found)


def _known(name: str, found: Mapping[str, Path]) -> Iterator[str]:
    if name in found:
        yield name


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, by whatever way (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph.get(name, ())):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = []
            while True:
                group.append(stack.pop())
                if group[-1] == name:
                    break
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return sorted(found)


def layer_of(module: str) -> str:
    """The first name below `meadow`; empty for the public door."""
    return module.partition(".")[2].partition(".")[0]


def arrows_back(graph: Mapping[str, set[str]]) -> list[str]:
    """Imports of a layer that stands above, or of the public door from within the library."""
    rank = {name: at for at, names in enumerate(LAYERS) for name in names}
    found = []
    for module, targets in graph.items():
        mine = layer_of(module)
        if mine not in rank:
            continue
        for target in sorted(targets):
            theirs = layer_of(target)
            beside = theirs in rank and theirs != mine and rank[theirs] == rank[mine]
            above = theirs in rank and rank[theirs] > rank[mine]
            if above or beside or target == "meadow" or theirs in ("builders", "recipes"):
                found.append(f"{module} -> {target}")
    return found


def class_names(found: Mapping[str, Path]) -> dict[str, list[str]]:
    """Names of public classes that stand in more than one module."""
    where: dict[str, list[str]] = defaultdict(list)
    for name, path in found.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(name)
    return {name: modules for name, modules in sorted(where.items()) if len(modules) > 1}


def lines(path: Path) -> int:
    """The lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def measure(root: Path) -> dict[str, object]:
    """All that can be read off the files."""
    found = modules(root)
    library = {name: path for name, path in found.items() if not name.startswith("meadow.recipes")}
    graph = imports(found)
    per_layer: Counter[str] = Counter()
    for name, path in found.items():
        inner = layer_of(name)
        per_layer["builders" if inner == "builders" else inner or "the door"] += lines(path)
    return {
        "lines": sum(lines(path) for path in library.values()),
        "lines per layer": dict(per_layer.most_common()),
        "modules": len(library),
        "circles": [" <-> ".join(group) for group in circles(graph)],
        "arrows back": arrows_back(graph),
        "class names twice": class_names(library),
        "modules over 350 lines": {name: lines(path) for name, path in library.items() if lines(path) > LONG},
    }


_ROW = """
import json, sys, tempfile
from pathlib import Path
seen = set()
def look(frame, event, arg):
    name = frame.f_globals.get("__name__", "")
    if name.startswith("meadow") and frame.f_code.co_name != "<module>":
        seen.add(name)
sys.argv = ["meadow"]
{run}
print(json.dumps(sorted(seen)))
"""
_NOW = """
from meadow.api import build_datasets
from meadow.core.options import BuildOptions
sys.setprofile(look)
build_datasets(["stackexchange"], BuildOptions(sample=True, out=Path(tempfile.mkdtemp())))
sys.setprofile(None)
"""
_BEFORE = """
from meadow.pipeline import build
sys.setprofile(look)
build(["stackexchange"], sample=True, out=tempfile.mkdtemp())
sys.setprofile(None)
"""


def modules_of_a_row(root: Path, python: str) -> list[str]:
    """The modules that run while one Stack Exchange sample is built with one worker."""
    run = _NOW if (root / "meadow" / "core").is_dir() else _BEFORE
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, "-c", _ROW.replace("{run}", run)], cwd=folder, capture_output=True, text=True, check=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--row", action="store_true", help="build a sample and count the modules that run")
    parser.add_argument(
        "--python", default=sys.executable, help="the interpreter that has the checkout installed"
    )
    given = parser.parse_args()
    found = measure(given.root)
    if given.row:
        found["modules that one row runs through"] = modules_of_a_row(given.root, given.python)
    if given.json:
        print(json.dumps(found, indent=2))
        return
    for key, value in found.items():
        if isinstance(value, list):
            print(f"{key}: {len(value)}", *value, sep="\n  ")
        elif isinstance(value, dict):
            print(f"{key}: {len(value)}")
            for name, entry in value.items():
                print(f"  {name}: {entry if not isinstance(entry, list) else ', '.join(entry)}")
        else:
            print(f"{key}: {value}")


if __name__ == "__main__":
    main()
