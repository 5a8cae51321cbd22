"""``meadow new NAME``: the files of a new source, with a test that fails until they are filled in.

In a checkout of Meadow the source goes into ``builders/NAME/``; anywhere else it becomes a package of
its own, ``meadow-NAME/``, which Meadow finds by its entry point once it is installed.
"""

from __future__ import annotations

import keyword
import re
import sys
import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from string import Template

from meadow.cli import console
from meadow.cli.options import argument, option

#: What a template leaves open; `meadow.testing.BuilderTest` refuses a source that still holds it.
PLACEHOLDER = "FILL IN"

#: Names that mean something else: to the commands, in the raw store or among the cards.
_RESERVED = {
    "all": "the commands read it as every source",
    "collection": "it is the name of the collection's card",
}


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr)


def new(
    name: str = argument("", "The source's name: lower-case letters, digits and underscores.", ...),
    folder: Path = option("", "A Meadow checkout, or where a package goes.", Path(), "--dir"),
) -> None:
    """Scaffold a new source: builder, sample, card and a test that fails until they are filled in."""
    with console.failing():
        paths = new_source(name, folder)
    for path in paths:
        console.say(path)


def new_source(name: str, folder: Path, tell: Callable[[str], object] = _to_stderr) -> list[Path]:
    """Scaffolds a source; returns the files written, and in a checkout ``pyproject.toml``, which gains two lines.

    Within a checkout of Meadow the source becomes part of it, elsewhere a package ``meadow-<name>`` is made in
    the folder; `tell` is given the next steps, in words.

    Raises:
        ValueError: The name cannot be used, or ``pyproject.toml`` is not laid out as expected; the
            message says why. Nothing is written then.
        FileExistsError: A file is there already; nothing is written.
    """
    folder = Path(folder).resolve()
    checkout = _checkout(folder)
    _check_name(name, checkout)
    cls = "".join(part.capitalize() for part in name.split("_"))
    if checkout:
        source, module = checkout / "builders" / name, f"meadow.builders.{name}"
        card, test = checkout / "cards" / f"{name}.md", checkout / "tests" / "builders" / f"test_{name}.py"
        root = checkout
    else:
        root = folder / f"meadow-{name}"
        source, module = root / f"meadow_{name}", f"meadow_{name}"
        card, test = source / "card.md", root / "tests" / f"test_{name}.py"
    imports = f"from meadow import BuilderTest\nfrom {module}.builder import {cls}"
    title = name.replace("_", " ").capitalize()
    fill = {"name": name, "cls": cls, "module": module, "title": title, "imports": imports}
    files = {
        source / "__init__.py": "",
        source / "builder.py": _template("builder.py"),
        source / "sample" / "records.jsonl": _template("records.jsonl"),
        source / "checksums.tsv": "url\tbytes\tsha256\tfile\n",
        source / "CITATION.bib": _template("CITATION.bib"),
        card: _template("card.md"),
        test: _template("test.py"),
    }
    if not checkout:
        files[root / "pyproject.toml"] = _template("pyproject.toml")
    there = [path for path in files if path.exists()]
    if there:
        raise FileExistsError(f"{there[0]} exists; remove it or choose another name. Nothing was written.")
    project = checkout / "pyproject.toml" if checkout else None
    # Newlines as they are: the edit is to change two lines and no other.
    before = project.read_bytes().decode() if project else ""
    edited = _register(before, name, f"{module}.builder:{cls}", module) if project else None
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as stream:
            stream.write(Template(text).substitute(fill))
    written = list(files)
    if project and edited is not None:
        project.write_text(edited, encoding="utf-8", newline="")
        written.append(project)
    tell(
        f"Next: run `pip install -e .` in {root}, so that Meadow finds the source; replace every {PLACEHOLDER};\n"
        f"then run `python -m pytest {test.relative_to(root).as_posix()}` until it passes."
    )
    return written


def _template(name: str) -> str:
    """A file of the new source, with `string.Template` fields; they are no Python files of this package's own."""
    return (resources.files("meadow.cli") / "templates" / f"{name}.txt").read_text(encoding="utf-8")


def _checkout(folder: Path) -> Path | None:
    """The checkout of Meadow that a folder lies in."""
    for place in (folder, *folder.parents):
        project = place / "pyproject.toml"
        if project.is_file():
            try:
                name = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {}).get("name")
            except (tomllib.TOMLDecodeError, UnicodeDecodeError):
                continue
            if name == "medical-meadow":
                return place
    return None


def _check_name(name: str, checkout: Path | None) -> None:
    from meadow.core.builder import available

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(
            f"{name!r} cannot name a source: use lower-case letters, digits and underscores, a letter first"
        )
    if keyword.iskeyword(name):
        raise ValueError(f"{name!r} cannot name a source: it is a word of the Python language")
    if name in _RESERVED:
        raise ValueError(f"{name!r} cannot name a source: {_RESERVED[name]}")
    found, broken = available()
    if name in found or name in broken:
        raise ValueError(f"{name!r} cannot name a source: there is one of this name")
    for source, builder in found.items():
        if name in builder.configs:
            raise ValueError(f"{name!r} cannot name a source: {source} has a dataset of this name")
    if checkout and (checkout / "builders" / name).exists():
        raise ValueError(f"{name!r} cannot name a source: builders/{name} exists")


def _register(text: str, name: str, target: str, package: str) -> str:
    """Adds a source's entry point and package to Meadow's own ``pyproject.toml``, in alphabetical order.

    Raises:
        ValueError: The file is not laid out as expected.
    """
    entry, listed = f'{name} = "{target}"', f'"{package}",'
    by_hand = (
        "pyproject.toml is not laid out as expected, and nothing was written. "
        f'Add by hand, then try again: {entry} under [project.entry-points."meadow.builders"], '
        f"and {listed} to `packages` under [tool.setuptools]."
    )
    before = tomllib.loads(text)
    points = before.get("project", {}).get("entry-points", {}).get("meadow.builders", {})
    packages = before.get("tool", {}).get("setuptools", {}).get("packages", [])
    if name in points and package in packages:
        return text
    lines = text.splitlines(keepends=True)
    if name not in points:
        _insert(lines, r'([a-z0-9_]+)\s*=\s*"meadow\.builders\.', name, entry)
    if package not in packages:
        _insert(lines, r'"meadow\.builders\.([a-z0-9_]+)",$', name, listed)
    edited = "".join(lines)
    try:
        points[name], before["tool"]["setuptools"]["packages"] = target, sorted({*packages, package})
        after = tomllib.loads(edited)
        after["tool"]["setuptools"]["packages"].sort()
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError):
        raise ValueError(by_hand) from None
    if after != before:
        raise ValueError(by_hand)
    return edited


def _insert(lines: list[str], pattern: str, name: str, new: str) -> None:
    """Puts a line where its name belongs among those that match."""
    names = {at: match[1] for at, line in enumerate(lines) if (match := re.match(pattern, line.strip()))}
    if not names:
        return
    last = max(names)
    at = next((at for at, there in names.items() if there > name), last + 1)
    model = lines[last]
    indent = model[: len(model) - len(model.lstrip())]
    ending = "\r\n" if model.endswith("\r\n") else "\n"
    if not model.endswith("\n"):
        lines[last] += ending
    lines.insert(at, f"{indent}{new}{ending}")
