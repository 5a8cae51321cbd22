"""Exporting a dataset as an Anki deck, and reading it back."""

from __future__ import annotations

import json
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meadow.builders.flashcards.builder import Flashcards
from meadow.core.rawstore import find
from meadow.core.row import Example
from meadow.export.anki import export_anki, text_to_html
from meadow.parse.htmltext import html_to_text

DATE = 1_750_000_000


def row(**changes: Any) -> dict[str, Any]:
    made = {
        "instruction": "Answer this question truthfully",
        "input": "Which vein?",
        "output": "The portal vein",
        "id": "site/1",
        "task": "question-answering",
        "options": [],
        "answer_key": None,
        "source_url": None,
        "authors": [],
        "license": "MIT",
        "generator": None,
    }
    return {**made, **changes}


def tables(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(":memory:")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        db.deserialize(archive.read("collection.anki2"))
    return db


def notes(path: Path) -> list[tuple[str, list[str], list[str]]]:
    """Guid, fields and tags of each note."""
    found = tables(path).execute("SELECT guid, flds, tags FROM notes ORDER BY id")
    return [(guid, fields.split("\x1f"), tags.split()) for guid, fields, tags in found]


def read_back(tmp_path: Path, path: Path) -> list[Example]:
    folder = tmp_path / "back" / "flashcards"
    folder.mkdir(parents=True, exist_ok=True)
    path.rename(folder / path.name)
    builder = Flashcards()
    raw = find(builder, tmp_path / "back")
    return [row for shard in builder.shards(raw) for row in builder.examples(shard)]


TEXTS = [
    "plain",
    "a < b & c > d, \"quoted\" 'too'; &amp; stays &lt;b&gt;",
    "one\ntwo\n\nthree",
    "Code:\n\n```\nif a < b:\n    x = [1, 2]\n\n    go()\n```\n\nafter",
    "- one\n- two & three\n- `four`",
    "Steps:\n\n1. first\n2. second\n\nthen\n\n3. third",
    "| a | b |\n| --- | --- |\n| 1 | x < y |\n|  | last |",
    "| a | b |\n| c | d |",
    "> quoted\n> more\n\nplain",
    "Let $\\alpha_1 < 3$ and\n\n$$x = \\frac{1}{2}$$\n\nbe; it costs $5 or $6, not $7_000.",
    "no [sound:a.mp3], no [anki:play:q:0], no [latex]x[/latex], no [$]y[/$], no \\(z\\) nor \\[z\\]",
    "{{c1::no cloze}} {{Question}} {{#Id}} <%x%>",
    "# not a heading\n--- nor a rule",
    "unclosed ``` fence\n\n```\nhere",
    "Größe ≤ 5 µm \U0001f600 子",
    "<script>alert(1)</script><img src=x>",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back_as_it_was(tmp_path: Path, text: str) -> None:
    path = tmp_path / "deck.apkg"
    question, answer = f"Question\n\n{text}", f"{text}\n\nAnswer"
    assert export_anki([row(input=question, output=answer)], "data", path, modified=DATE) == 1
    (found,) = read_back(tmp_path, path)
    assert (found.input, found.output) == (question, answer)


def test_indentation_stays_readable() -> None:
    html = text_to_html("- a\n  - b\n\tc")
    assert html == "- a<br>&nbsp;&nbsp;- b<br>&nbsp;&nbsp;&nbsp;&nbsp;c"
    assert html_to_text(html).split() == ["-", "a", "-", "b", "c"]


def test_markup_becomes_what_anki_shows() -> None:
    assert text_to_html("a\n\n- b\n- c") == "<p>a</p><ul><li>b</li><li>c</li></ul>"
    assert text_to_html("```python\nx\n```") == "<pre><code>x</code></pre>"
    assert text_to_html("$x^2$ for $5") == "\\(x^2\\) for $5"
    assert text_to_html("a\x1fb\x00c\r\nd") == "abc<br>d"


def test_options_stand_on_the_front(tmp_path: Path) -> None:
    options = [{"key": "A", "text": "Iron"}, {"key": "B", "text": "Zinc"}]
    rows = [
        row(id="m/1", input="Which?", output="A: Iron", options=options, task="multiple-choice"),
        row(id="m/2", input="Which?\nA: Iron\nB: Zinc", output="A: Iron", options=options),
    ]
    path = tmp_path / "deck.apkg"
    export_anki(rows, "data", path, modified=DATE)
    first, second = read_back(tmp_path, path)
    assert first.input == "Which?\n\nA: Iron\nB: Zinc"
    assert second.input == "Which?\nA: Iron\nB: Zinc"


def test_the_instruction_stands_where_the_question_needs_it(tmp_path: Path) -> None:
    rows = [
        row(id="a/1", input="", instruction="What is fever?"),
        row(id="a/2", input="A text.", instruction="Summarize this", task="summarization"),
    ]
    path = tmp_path / "deck.apkg"
    export_anki(rows, "data", path, modified=DATE)
    assert [r.input for r in read_back(tmp_path, path)] == ["What is fever?", "Summarize this\n\nA text."]


def test_fields_hold_the_attribution(tmp_path: Path) -> None:
    authors = [{"name": "A & B", "url": "https://x.example/u"}, {"name": "C", "url": "javascript:x"}]
    made = row(
        source_url="https://x.example/?a=1&b=2",
        authors=authors,
        license="CC-BY-SA-4.0",
        generator="gpt",
        split="train",
    )
    path = tmp_path / "deck.apkg"
    export_anki([made], "data", path, modified=DATE)
    ((_, (question, answer, source, key), tags),) = notes(path)
    assert (question, answer, key) == ("Which vein?", "The portal vein", "site/1")
    assert source == (
        'Source: <a href="https://x.example/?a=1&amp;b=2">https://x.example/?a=1&amp;b=2</a><br>'
        'By <a href="https://x.example/u">A &amp; B</a>, C<br>Licence: CC-BY-SA-4.0<br>Text written by gpt'
    )
    assert tags == ["source::site", "split::train", "license::CC-BY-SA-4.0"]


def test_a_later_export_updates_the_same_notes(tmp_path: Path) -> None:
    old, new = tmp_path / "old.apkg", tmp_path / "new.apkg"
    export_anki([row(), row(id="site/2")], "data", old, modified=DATE)
    export_anki([row(id="site/0"), row(output="Corrected")], "data", new, modified=DATE + 60)
    before = {fields[3]: guid for guid, fields, _ in notes(old)}
    after = {fields[3]: guid for guid, fields, _ in notes(new)}
    assert before["site/1"] == after["site/1"]
    assert len({*before.values(), *after.values()}) == 3
    for column in ("models", "decks"):
        ids = [
            json.loads(tables(path).execute(f"SELECT {column} FROM col").fetchone()[0]) for path in (old, new)
        ]
        assert set(ids[0]) == set(ids[1])
    assert [tables(p).execute("SELECT DISTINCT mod FROM notes").fetchall() for p in (old, new)] == [
        [(DATE,)],
        [(DATE + 60,)],
    ]


def test_decks_of_two_datasets_do_not_mix(tmp_path: Path) -> None:
    one, two = tmp_path / "one.apkg", tmp_path / "two.apkg"
    export_anki([row()], "one", one, modified=DATE)
    export_anki([row()], "two", two, modified=DATE)
    assert notes(one)[0][0] != notes(two)[0][0]
    assert (
        tables(one).execute("SELECT mid FROM notes").fetchall()
        != tables(two).execute("SELECT mid FROM notes").fetchall()
    )
    assert [d.extra["deck"] for d in read_back(tmp_path, one)] == ["one"]


def test_the_same_rows_and_date_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(DATE))
    export_anki([row()], "data", tmp_path / "a.apkg")
    export_anki([row()], "data", tmp_path / "b.apkg", modified=DATE)
    assert (tmp_path / "a.apkg").read_bytes() == (tmp_path / "b.apkg").read_bytes()


def test_rows_are_taken_one_by_one(tmp_path: Path) -> None:
    alive = 0
    most = 0

    class Row(dict):
        def __init__(self, **values: Any) -> None:
            nonlocal alive, most
            super().__init__(values)
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def rows() -> Iterator[Row]:
        for at in range(500):
            yield Row(**row(id=f"site/{at}"))

    assert export_anki(rows(), "data", tmp_path / "deck.apkg", modified=DATE) == 500
    assert most <= 3


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"id": "a/1", "text": "only text"}], "no text in input, output"),
        ([row(), row(output=None)], "no text in output"),
        ([], "it has no rows"),
    ],
)
def test_other_data_are_refused_and_nothing_is_written(tmp_path: Path, rows: list, words: str) -> None:
    path = tmp_path / "deck.apkg"
    path.write_bytes(b"an older export")
    with pytest.raises(ValueError, match=words):
        export_anki(rows, "data", path, modified=DATE)
    assert path.read_bytes() == b"an older export"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_anki_would_not_open_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name it deck\.apkg"):
        export_anki([row()], "data", tmp_path / "deck.zip", modified=DATE)


def test_the_sample_deck_survives_a_round_trip(tmp_path: Path) -> None:
    builder = Flashcards()
    raw = find(builder, None)
    sample = [r for shard in builder.shards(raw) for r in builder.examples(shard) if isinstance(r, Example)]
    rows = [row(id=r.id, input=r.input, output=r.output) for r in sample]
    path = tmp_path / "deck.apkg"
    assert export_anki(iter(rows), "medical_flashcards", path, modified=DATE) == len(sample)
    assert [(r.input, r.output) for r in read_back(tmp_path, path)] == [(r.input, r.output) for r in sample]
