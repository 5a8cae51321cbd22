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
from pathlib import Path
from string import Template

#: What a template leaves open; the generated test refuses a source that still holds it.
PLACEHOLDER = "FILL IN"

#: Names that mean something else: to the commands, in the raw store or among the cards.
_RESERVED = {
    "all": "the commands read it as every source",
    "collection": "it is the name of the collection's card",
}


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr)


def new_source(name: str, folder: Path, tell: Callable[[str], object] = _to_stderr) -> list[Path]:
    """Scaffolds a source.

    Args:
        name: The source's name: lower-case letters, digits and underscores, a letter first.
        folder: Where to work. Within a checkout of Meadow the source becomes part of it, elsewhere a
            package ``meadow-<name>`` is made in this folder.
        tell: Is given the next steps, in words.

    Returns:
        The files written, and in a checkout ``pyproject.toml``, which gains two lines.

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
        install, root = "pip install -e .", checkout
    else:
        root = folder / f"meadow-{name}"
        source, module = root / f"meadow_{name}", f"meadow_{name}"
        card, test = source / "card.md", root / "tests" / f"test_{name}.py"
        install = "pip install -e ."
    # As ruff sorts them: here `meadow` is the project's own, in another package it is not.
    own = f"from {module}.builder import {cls}"
    shared = "from meadow.describe.cards import words_for\nfrom meadow.testing import BuilderTest"
    imports = f"{own}\n{shared}" if checkout else f"{shared}\n\n{own}"
    fill = {
        "name": name,
        "cls": cls,
        "module": module,
        "title": name.replace("_", " ").capitalize(),
        "imports": imports,
    }
    files = {
        source / "__init__.py": "",
        source / "builder.py": _BUILDER,
        source / "sample" / "records.jsonl": _SAMPLE,
        source / "checksums.tsv": "url\tbytes\tsha256\tfile\n",
        source / "CITATION.bib": _CITATION,
        card: _CARD,
        test: _TEST,
    }
    if not checkout:
        files[root / "pyproject.toml"] = _PYPROJECT
    there = [path for path in files if path.exists()]
    if there:
        raise FileExistsError(f"{there[0]} exists; remove it or choose another name. Nothing was written.")
    project = checkout / "pyproject.toml" if checkout else None
    # Newlines as they are: the edit is to change two lines and no other.
    edited = _register(_read(project), name, f"{module}.builder:{cls}", module) if project else None
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as stream:
            stream.write(Template(text).substitute(fill))
    written = list(files)
    if project and edited is not None:
        project.write_text(edited, encoding="utf-8", newline="")
        written.append(project)
    tell(
        f"Next: run `{install}` in {root}, so that Meadow finds the source; replace every {PLACEHOLDER};\n"
        f"then run `python -m pytest {test.relative_to(root).as_posix()}` until it passes."
    )
    return written


def _read(path: Path) -> str:
    with path.open(encoding="utf-8", newline="") as stream:
        return stream.read()


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
    """Adds a source's entry point and package to Meadow's own ``pyproject.toml``.

    Two lines come in, in alphabetical order, and nothing else changes.

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
    header = next(
        (i for i, line in enumerate(lines) if line.strip() == '[project.entry-points."meadow.builders"]'),
        None,
    )
    if header is None or not isinstance(packages, list):
        raise ValueError(by_hand)
    if name not in points:
        _insert(lines, header + 1, r"([a-z0-9_]+)\s*=", name, entry)
    if package not in packages:
        _insert(lines, 0, r'"meadow\.builders\.([a-z0-9_]+)",$', name, listed)
    edited = "".join(lines)
    points[name] = target
    try:
        after = tomllib.loads(edited)
    except tomllib.TOMLDecodeError:
        raise ValueError(by_hand) from None
    added = after["tool"]["setuptools"]["packages"]
    if sorted(added) != sorted({*packages, package}):
        raise ValueError(by_hand)
    before["tool"]["setuptools"]["packages"] = added
    if after != before:
        raise ValueError(by_hand)
    return edited


def _insert(lines: list[str], start: int, pattern: str, name: str, new: str) -> None:
    """Puts a line where its name belongs, in the first run of lines that match, from `start` on."""
    last = None
    for at in range(start, len(lines)):
        match = re.match(pattern, lines[at].strip())
        if not match:
            if last is not None:
                break
            continue
        last = at
        if match[1] > name:
            last = at - 1
            break
    if last is None:
        return
    model = lines[last] if re.match(pattern, lines[last].strip()) else lines[last + 1]
    indent = model[: len(model) - len(model.lstrip())]
    ending = "\r\n" if model.endswith("\r\n") else "\n"
    if not lines[last].endswith("\n"):
        lines[last] += ending
    lines.insert(last + 1, f"{indent}{new}{ending}")


_BUILDER = '''\
"""$title: FILL IN who publishes it, since when, and what one record looks like."""

from __future__ import annotations

from collections.abc import Iterator

from meadow.core.builder import Builder, Example, RawPattern, Rejected, Shard
from meadow.core.licenses import License
from meadow.core.raw import BadRecord, RawSource, json_lines


class $cls(Builder):
    """Questions and answers, one JSON object per line: FILL IN what is particular about them."""

    name = "$name"
    version = "1.0.0"
    release_notes = {"1.0.0": "First version."}
    description = "FILL IN: one sentence that says what the rows are."
    configs = ("$name",)
    # Relative to the source's folder in the raw store; the sample must match it too.
    raw_files = (RawPattern("*.jsonl", "FILL IN: what the file is"),)
    # An SPDX identifier (ready-made ones are in meadow.core.licenses), or LicenseRef-... with the terms in
    # words as its evidence. Evidence is where the publisher says so: an address, a file, a letter.
    license = License(
        "FILL IN",
        "FILL IN: the name people know the licence by",
        "FILL IN: https://...",
        "FILL IN: why we say that the source is under it",
    )
    homepage = "FILL IN: https://..."

    def shards(self, raw: RawSource) -> Iterator[Shard | Rejected]:
        """One shard per file: shards are parsed independently, on any core and in any order."""
        for file in raw.files:
            yield Shard(file.path, (file,), self.configs)

    def examples(self, shard: Shard) -> Iterator[Example | Rejected]:
        """Parses one file; every record gives an Example or says why it does not."""
        (file,) = shard.files
        with file.open() as stream:
            for number, record in json_lines(stream):
                # FILL IN: the names of the fields in your records, and what else can be wrong with one.
                where = f"{file.path}:{number}"
                if isinstance(record, BadRecord) or not isinstance(record, dict):
                    detail = getattr(record, "detail", "not a JSON object")
                    yield Rejected("no JSON object", where, detail, "Repair or remove the line.")
                    continue
                key, question, answer = (record.get(field) for field in ("id", "question", "answer"))
                if key is None or not isinstance(question, str) or not isinstance(answer, str):
                    yield Rejected("field missing", where, ", ".join(record), "Add id, question and answer.")
                    continue
                # Stable across builds: a key of the publisher's, never a line number.
                row = f"$name/{key}"
                if not question.strip() or not answer.strip():
                    yield Rejected("question or answer is empty", row)
                    continue
                yield Example(
                    id=row,
                    instruction="Answer this question truthfully",
                    input=question.strip(),
                    output=answer.strip(),
                    # Rows of one group never straddle a split: a page, a thread, a patient's notes.
                    group=str(record.get("page", row)),
                    source_url=record.get("url"),
                )
'''

_SAMPLE = """\
{"id": "1", "question": "FILL IN: at least 25 records in the real raw format, all of your own writing", "answer": "FILL IN: medically correct, and given to the public domain under CC0", "url": null}
"""

_CITATION = """\
@misc{$name,
  title        = {{FILL IN}},
  author       = {FILL IN},
  year         = {FILL IN},
  howpublished = {\\url{FILL IN}}
}
"""

_CARD = """\
# $title

## What it is

FILL IN: what one row is, who wrote it, for whom. No numbers that a build would change: it adds them.

## How it was made

FILL IN: from which files, by which rules. The sample that comes with the source is original writing,
given to the public domain under CC0 for tests; it is not the real data.

## Known faults

FILL IN

## Who should not use it, and for what

FILL IN

## Licence and evidence

FILL IN: where the publisher states the terms, and what they ask of those who pass the rows on.

## Citation

FILL IN: one sentence; the build adds CITATION.bib.

## Changelog

- 1.0.0: first version.
"""

_TEST = '''\
"""$title: built from its sample as a user would, and what is particular about it."""

from __future__ import annotations

$imports


class Test${cls}Build(BuilderTest):
    builder = $cls
    # Per version, the rows_sha256 of each dataset of the sample: the failing test says what to put here.
    pins = {}


def test_nothing_is_left_to_fill_in() -> None:
    folder = $cls.folder()
    texts = {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".py", ".jsonl", ".bib", ".tsv")
    }
    texts["the card"] = words_for("$name", folder) or "FILL IN"
    assert [name for name, text in texts.items() if "FILL IN" in text] == []


# Add what is particular: the traps of the format, each with a record that falls into it, and figures of
# the real files that you counted by other means than this builder.
'''

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "meadow-$name"
description = "A private source for Meadow"
version = "1.0.0"
requires-python = ">=3.11"
dependencies = ["medical-meadow"]

[project.optional-dependencies]
dev = ["pytest>=8.3"]

[project.entry-points."meadow.builders"]
$name = "$module.builder:$cls"

[tool.setuptools]
packages = ["$module"]

[tool.setuptools.package-data]
$module = ["sample/**/*", "CITATION.bib", "checksums.tsv", "card.md"]
"""
