"""The source in CONTRIBUTING.md is a whole one: it runs as it stands there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from meadow.core.builder import Builder
from meadow.core.rawstore import find
from meadow.core.row import Author, Example, Rejected

CONTRIBUTING = Path(__file__).resolve().parents[1] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def code() -> str:
    """The one code block that holds a whole module."""
    blocks = re.findall(
        r"^```python\n(.*?)^```$", CONTRIBUTING.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    (whole,) = (block for block in blocks if "Builder):" in block)
    return whole


@pytest.fixture
def source(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Builder]:
    module = ModuleType("leaflets_of_contributing")
    module.__file__ = str(tmp_path / "package" / "builder.py")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, "CONTRIBUTING.md", "exec"), module.__dict__)
    return module.Leaflets


def test_the_map_names_what_is_there() -> None:
    text = CONTRIBUTING.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:meadow|builders|recipes|cards|tests)/[a-z_./]*)`", text))
    assert len(named) > 30
    assert [path for path in sorted(named) if not (CONTRIBUTING.parent / path).exists()] == []


def test_it_is_under_sixty_lines(code: str) -> None:
    assert len(code.splitlines()) < 60


def test_it_is_clean(code: str, tmp_path: Path) -> None:
    pytest.importorskip("ruff")
    path = tmp_path / "leaflets.py"
    path.write_text(code, encoding="utf-8")
    config = ["--config", str(CONTRIBUTING.with_name("pyproject.toml")), "--no-cache"]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *config, str(path)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


def test_its_declarations_are_complete(source: type[Builder]) -> None:
    assert source.problems() == []
    assert source.license.evidence


def test_it_parses(source: type[Builder], tmp_path: Path) -> None:
    folder = tmp_path / "raw" / "leaflets"
    folder.mkdir(parents=True)
    good = {
        "leaflet": "hip",
        "key": "stairs",
        "question": " When may I climb stairs? ",
        "answer": "Ask us first.",
    }
    lines = [
        json.dumps(good),
        json.dumps({**good, "key": "car", "ward": "Ward 7"}),
        json.dumps({**good, "key": "bath", "answer": "  "}),
        json.dumps({"leaflet": "hip"}),
        json.dumps(["a", "list"]),
        json.dumps({**good, "question": None}),
        "{broken",
    ]
    (folder / "orthopaedics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "surgery.jsonl").write_text(json.dumps({**good, "leaflet": "knee"}) + "\n", encoding="utf-8")
    builder = source()
    shards = list(builder.shards(find(builder, tmp_path / "raw")))
    assert [shard.key for shard in shards] == ["leaflets/orthopaedics.jsonl", "leaflets/surgery.jsonl"]
    found = [record for shard in shards for record in builder.examples(shard)]
    assert len(found) == 8  # one for each record
    examples = [record for record in found if isinstance(record, Example)]
    assert examples[0] == Example(
        id="leaflets/hip/stairs",
        instruction="Answer this question truthfully",
        input="When may I climb stairs?",
        output="Ask us first.",
        group="leaflets/hip",
        source_url="https://hospital.example/leaflets/hip",
        authors=(Author("the hospital's leaflet team"),),
    )
    assert [example.id for example in examples[1:]] == ["leaflets/hip/car", "leaflets/knee/stairs"]
    assert examples[1].authors == (Author("Ward 7"),)
    rejected = [(record.reason, record.id) for record in found if isinstance(record, Rejected)]
    assert rejected == [
        ("no answer yet", "leaflets/hip/bath"),
        ("field missing or no text", "leaflets/orthopaedics.jsonl:4"),
        ("field missing or no text", "leaflets/orthopaedics.jsonl:5"),
        ("field missing or no text", "leaflets/orthopaedics.jsonl:6"),
        ("line is not JSON", "leaflets/orthopaedics.jsonl:7"),
    ]


def test_the_rules_it_states_are_those_of_the_code() -> None:
    text = CONTRIBUTING.read_text(encoding="utf-8")
    makefile = CONTRIBUTING.with_name("Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    from meadow.testing import MINIMUM_ROWS

    assert f"at least {MINIMUM_ROWS} usable records" in text
