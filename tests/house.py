"""Measures the house: ``python tests/house.py [ROOT] [--json]`` prints what can be counted about a checkout.

It reads files only, apart from ``--row``, which builds the Stack Exchange sample and counts the modules of
Meadow that its rows run through from raw file to Parquet; see `modules_of_a_row` for what counts. Imports inside
functions and those for types count like any other. It works on checkouts of before the layers, too, to compare,
apart from ``--row``.
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


#: Where rows are handled: a call of one of these, and what it calls in turn, is a part of a row's way. Names as in
#: the code, by module; ``*`` is the builder's own method.
_STATIONS = {
    "*": ("shards", "examples"),
    "meadow.pipeline.shard": ("parse_shard",),
    "meadow.pipeline.parse": ("_leave_out_repeated",),
    "meadow.filters.contamination.stage": ("scan",),
    "meadow.filters.duplicates.search": ("find",),
    "meadow.pipeline.files": ("write_rows",),
}
_ROW = """
import importlib, json, sys, tempfile
from pathlib import Path
from meadow.api import build_datasets
from meadow.core.builder import available
from meadow.core.options import BuildOptions

builder = available()[0]["stackexchange"]
stations = set()
for module, names in json.loads(sys.argv[1]).items():
    home = builder if module == "*" else importlib.import_module(module)
    for name in names:
        function = getattr(home, name)
        stations.add(getattr(function, "__wrapped__", function).__code__)
inside, seen = [], set()

def name_of(frame):
    # What `dataclass` generates has no file: making a value is not running a module.
    return frame.f_globals.get("__name__", "") if frame.f_code.co_filename.endswith(".py") else ""

def look(frame, event, arg):
    if event == "call":
        if frame.f_code in stations and mine(frame):
            inside.append(frame)
            above = frame
            while above is not None:  # the steps that lead to the station
                seen.add(name_of(above))
                above = above.f_back
        elif inside:
            seen.add(name_of(frame))
    elif event == "return" and inside and frame is inside[-1]:
        inside.pop()

def mine(frame):
    # Exams of other sources are set-up, not the row's way.
    given = frame.f_locals
    source = given.get("builder") or getattr(given.get("source"), "builder", None) or given.get("self")
    return source is None or isinstance(source, builder)

def build():
    with tempfile.TemporaryDirectory() as out:
        build_datasets(["stackexchange"], BuildOptions(sample=True, out=Path(out)))

build()  # what is imported, read and cached at first use is not the row's way
sys.setprofile(look)
build()
sys.setprofile(None)
print(json.dumps(sorted(n for n in seen if n.startswith("meadow"))))
"""


def modules_of_a_row(python: str) -> dict[str, list[str]]:
    """The modules of Meadow that a Stack Exchange row runs through from raw file to Parquet, by layer.

    The embedded sample is built in one process, the second time under `sys.setprofile`. Counted are modules of which some function
    runs within a station of `_STATIONS` (cutting up and parsing the raw files of this source with all row filters,
    repeated ids, comparing with exams and with other rows, writing Parquet), and those that stand on the stack
    above one: the steps of the build. Rows are many, so this is the way of all rows of the sample together: a
    filter that looks at a picture in one row of them counts. Not counted are the raw files of other sources'
    exams and the index made of them, statistics of the finished dataset, manifest, card and report; modules
    that only lend a constant; and what `dataclass` generates.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = [python, "-c", _ROW, json.dumps(_STATIONS)]
        done = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {}
    for name in json.loads(done.stdout.splitlines()[-1]):
        found.setdefault(layer_of(name), []).append(name)
    return found


def main() -> None:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--row", action="store_true", help="build a sample and count the modules on a row's way"
    )
    parser.add_argument(
        "--python", default=sys.executable, help="the interpreter that has the checkout installed"
    )
    given = parser.parse_args()
    found = measure(given.root)
    if given.row:
        way = modules_of_a_row(given.python)
        found["modules that one row runs through"] = sum(map(len, way.values()))
        found["a row's way by layer"] = way
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
