"""``meadow new``: what it writes, where, and that the generated test fails until the source is filled in."""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from meadow.cli.new import PLACEHOLDER, new_source

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The bare bones of a checkout of Meadow."""
    root = tmp_path / "meadow"
    (root / "builders").mkdir(parents=True)
    (root / "cards").mkdir()
    text = (ROOT / "pyproject.toml").read_bytes()
    (root / "pyproject.toml").write_bytes(text)
    return root


def run_pytest(folder: Path, *paths: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", folder / "tests"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "HF_HUB_OFFLINE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )
    return done.returncode, done.stdout


def failures(output: str) -> set[str]:
    return set(re.findall(r"^FAILED \S+::(\w+)", output, re.MULTILINE))


def fill_in(source: Path, card: Path, rows: int) -> None:
    for path in (source / "builder.py", source / "CITATION.bib", card):
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"FILL IN: https://\.\.\.", "https://example.org/ward", text)
        text = text.replace('"FILL IN",', '"CC-BY-4.0",').replace(PLACEHOLDER, "Said")
        path.write_text(text, encoding="utf-8")
    with (source / "sample" / "records.jsonl").open("w", encoding="utf-8") as stream:
        for i in range(rows):
            record = {"id": i, "question": f"What is {i} plus {i}?", "answer": f"It is {2 * i}."}
            stream.write(json.dumps(record) + "\n")


def test_a_private_package_fails_until_it_is_filled_in(tmp_path: Path) -> None:
    told: list[str] = []
    paths = new_source("ward_notes", tmp_path, told.append)
    package = tmp_path / "meadow-ward_notes"
    assert [path.relative_to(package).as_posix() for path in paths] == [
        "meadow_ward_notes/__init__.py",
        "meadow_ward_notes/builder.py",
        "meadow_ward_notes/sample/records.jsonl",
        "meadow_ward_notes/checksums.tsv",
        "meadow_ward_notes/CITATION.bib",
        "meadow_ward_notes/card.md",
        "tests/test_ward_notes.py",
        "pyproject.toml",
    ]
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"]["meadow.builders"] == {
        "ward_notes": "meadow_ward_notes.builder:WardNotes"
    }
    assert project["tool"]["setuptools"]["packages"] == ["meadow_ward_notes"]
    assert "pip install -e ." in told[0]
    assert "tests/test_ward_notes.py" in told[0]

    source, card = package / "meadow_ward_notes", package / "meadow_ward_notes" / "card.md"
    code, output = run_pytest(package, package, ROOT)
    assert code == 1, output
    # Some of these the base test finds, one the generated test: placeholders must not pass for words.
    assert {
        "test_sample_gives_every_dataset_enough_rows",
        "test_rows_are_pinned_to_the_version",
        "test_nothing_is_left_to_fill_in",
    } <= failures(output)

    fill_in(source, card, rows=24)
    code, output = run_pytest(package, package, ROOT)
    assert failures(output) == {
        "test_sample_gives_every_dataset_enough_rows",
        "test_rows_are_pinned_to_the_version",
    }, output

    fill_in(source, card, rows=25)
    code, output = run_pytest(package, package, ROOT)
    assert failures(output) == {"test_rows_are_pinned_to_the_version"}, output
    pin = re.search(r"in `pins`: (\{'ward_notes': '[0-9a-f]{64}'\})", output)
    test = package / "tests" / "test_ward_notes.py"
    text = test.read_text(encoding="utf-8").replace("pins = {}", f'pins = {{"1.0.0": {pin[1]}}}')
    test.write_text(text, encoding="utf-8")
    code, output = run_pytest(package, package, ROOT)
    assert code == 0, output


def test_in_a_checkout_two_lines_are_added_and_nothing_else_changes(checkout: Path) -> None:
    before = (checkout / "pyproject.toml").read_text(encoding="utf-8")
    told: list[str] = []
    paths = new_source("nursing", checkout / "builders", told.append)
    assert sorted(path.relative_to(checkout).as_posix() for path in paths) == [
        "builders/nursing/CITATION.bib",
        "builders/nursing/__init__.py",
        "builders/nursing/builder.py",
        "builders/nursing/checksums.tsv",
        "builders/nursing/sample/records.jsonl",
        "cards/nursing.md",
        "pyproject.toml",
        "tests/builders/test_nursing.py",
    ]
    assert all(path.is_file() for path in paths)
    assert "pip install -e ." in told[0]
    after = (checkout / "pyproject.toml").read_text(encoding="utf-8")
    changes = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
    assert changes == [
        '+ nursing = "meadow.builders.nursing.builder:Nursing"',
        '+   "meadow.builders.nursing",',
    ]
    lines = after.splitlines()
    assert lines[lines.index(changes[0][2:]) - 1].startswith("medqa = ")
    assert lines[lines.index(changes[1][2:]) - 1] == '  "meadow.builders.medqa",'


@pytest.mark.parametrize("name", ["aa", "zz"])
def test_the_first_and_the_last_in_the_alphabet(checkout: Path, name: str) -> None:
    new_source(name, checkout, lambda _: None)
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    points = list(project["project"]["entry-points"]["meadow.builders"])
    assert points == sorted(points)
    assert name in points
    packages = [p for p in project["tool"]["setuptools"]["packages"] if p.startswith("meadow.builders.")]
    assert packages == sorted(packages)
    assert f"meadow.builders.{name}" in packages


def test_windows_line_ends_stay(checkout: Path) -> None:
    project = checkout / "pyproject.toml"
    text = project.read_bytes().replace(b"\n", b"\r\n")
    project.write_bytes(text)
    new_source("nursing", checkout, lambda _: None)
    after = project.read_bytes()
    assert after.count(b"\r\n") == after.count(b"\n") == text.count(b"\n") + 2


def test_in_a_checkout_the_generated_test_fails_until_it_is_filled_in(checkout: Path) -> None:
    new_source("nursing", checkout, lambda _: None)
    # Stands in for `pip install -e .`: the new folders join those that are installed.
    (checkout / "conftest.py").write_text(
        "import importlib.resources as resources\n"
        "from pathlib import Path\n"
        "import meadow.builders, meadow.describe.cards\n"
        "here = Path(__file__).parent\n"
        "meadow.builders.__path__.append(str(here / 'builders'))\n"
        "files = resources.files\n"
        "resources.files = lambda name: here / 'cards' if name == 'meadow.words' else files(name)\n",
        encoding="utf-8",
    )
    code, output = run_pytest(checkout, ROOT)
    assert code == 1
    assert "test_nothing_is_left_to_fill_in" in failures(output), output
    fill_in(checkout / "builders" / "nursing", checkout / "cards" / "nursing.md", rows=30)
    code, output = run_pytest(checkout, ROOT)
    assert failures(output) == {"test_rows_are_pinned_to_the_version"}, output


@pytest.mark.parametrize("where", ["checkout", "elsewhere"])
def test_generated_code_is_clean(checkout: Path, tmp_path: Path, where: str) -> None:
    pytest.importorskip("ruff")
    folder = checkout if where == "checkout" else tmp_path / "own"
    folder.mkdir(exist_ok=True)
    code = [p for p in new_source("nursing", folder, lambda _: None) if p.suffix == ".py"]
    config = (
        ["--config", str(ROOT / "pyproject.toml")]
        if where == "checkout"
        else ["--isolated", "--line-length=110"]
    )
    for command in (["check", "--select=E,F,I,UP,B,SIM", "--ignore=E501"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", *config, *map(str, code)],
            capture_output=True,
            text=True,
            cwd=code[0].parents[2] if where == "checkout" else code[0].parents[2],
        )
        assert done.returncode == 0, done.stdout


def test_nothing_is_overwritten(checkout: Path, tmp_path: Path) -> None:
    (checkout / "cards" / "nursing.md").write_text("Mine.\n", encoding="utf-8")
    before = (checkout / "pyproject.toml").read_bytes()
    with pytest.raises(FileExistsError, match=r"cards/nursing\.md exists; .* Nothing was written"):
        new_source("nursing", checkout)
    assert (checkout / "cards" / "nursing.md").read_text(encoding="utf-8") == "Mine.\n"
    assert (checkout / "pyproject.toml").read_bytes() == before
    assert not (checkout / "builders" / "nursing").exists()
    own = tmp_path / "own"
    own.mkdir()
    new_source("ward", own, lambda _: None)
    with pytest.raises(FileExistsError):
        new_source("ward", own)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Ward", "lower-case letters"),
        ("1ward", "a letter first"),
        ("ward-notes", "lower-case letters"),
        ("../ward", "lower-case letters"),
        ("ward\n", "lower-case letters"),
        ("", "lower-case letters"),
        ("größe", "lower-case letters"),
        ("lambda", "a word of the Python language"),
        ("all", "every source"),
        ("collection", "the collection's card"),
        ("wikidoc", "there is one of this name"),
        ("medqa_4_options", "medqa has a dataset of this name"),
    ],
)
def test_names_that_cannot_be_used(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"cannot name a source: .*{why}"):
        new_source(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_source_of_the_checkout_that_is_not_installed_yet_counts(checkout: Path) -> None:
    (checkout / "builders" / "nursing").mkdir()
    with pytest.raises(ValueError, match="builders/nursing exists"):
        new_source("nursing", checkout)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('[project.entry-points."meadow.builders"]', "[project.entry-points.'meadow.builders']"),
        ('  "meadow.builders.wikidoc",\n', ""),
    ],
)
def test_a_project_file_of_another_layout_is_left_alone_or_edited_right(
    checkout: Path, old: str, new: str
) -> None:
    project = checkout / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    assert old in text
    project.write_text(text.replace(old, new), encoding="utf-8")
    before = project.read_bytes()
    try:
        new_source("nursing", checkout, lambda _: None)
    except ValueError as error:
        assert "Add by hand" in str(error)
        assert project.read_bytes() == before
        assert not (checkout / "builders" / "nursing").exists()
    else:
        after = tomllib.loads(project.read_text(encoding="utf-8"))
        assert "nursing" in after["project"]["entry-points"]["meadow.builders"]
        assert "meadow.builders.nursing" in after["tool"]["setuptools"]["packages"]


def test_packages_on_one_line_are_refused_with_the_lines_to_add(checkout: Path) -> None:
    project = checkout / "pyproject.toml"
    text = re.sub(
        r"packages = \[.*?\n\]", 'packages = ["meadow"]', project.read_text(encoding="utf-8"), flags=re.S
    )
    project.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r'Add by hand, .*"meadow\.builders\.nursing", to `packages`'):
        new_source("nursing", checkout)
    assert project.read_text(encoding="utf-8") == text
    assert not (checkout / "builders" / "nursing").exists()
