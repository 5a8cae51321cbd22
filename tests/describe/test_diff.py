"""What differs between two versions: what `diff` counts, what the command prints, and its memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadow.core.store import Store, StoreError
from meadow.describe.diff import Change, RowExcerpt, diff
from meadow.describe.hashing import hashes
from tests.cli.test_cli import SCRIPT, on_terminal, run
from tests.stores import LEVEL, put, row


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two versions that differ in every way that there is."""
    long = "The dose is written on the chart. " * 20
    put(
        tmp_path,
        {
            "train": [row(k) for k in range(10)] + [row("long", output=f"{long}Give 5 mg.{long}")],
            "validation": [row("v1"), row("v2")],
        },
        funnel={"read": 20, "kept": 13, "dropped": {"empty answer": 7}},
    )
    put(
        tmp_path,
        {
            # Another order, another number of files, and row groups of two.
            "train": [
                row("v2"),
                row("long", output=f"{long}Give 50 mg.{long}"),
                *(row(k) for k in (9, 8, 7, 6, 5, 4)),
                row(3, authors=[{"name": "Ada", "url": None}]),
                row(2, source_date=None, license="CC0-1.0"),
                row("new"),
            ],
            "test": [row("t")],
            "validation": [row("v1", input="What is v2?")],
        },
        version="1.1.0",
        files=2,
        group=2,
        release_notes={"1.0.0": "First version.", "1.1.0": "More of it.", "2.0.0": "Not yet."},
        parameters={"min_score": 3},
        funnel={"read": 21, "kept": 13, "dropped": {"empty answer": 5, "too short": 3}},
        raw=[{"path": "ward/notes.jsonl", "bytes": 1234568, "sha256": "b2" * 32}],
    )
    return tmp_path


def test_counts_and_examples(out: Path) -> None:
    found = diff(Store(out), "ward", "1.0.0", "1.1.0")
    assert (found.added, found.removed, found.changed, found.same) == (2, 2, 4, 7)
    assert found.splits == {"train": (11, 11), "validation": (2, 1), "test": (None, 1)}
    assert [(r.id, r.split) for r in found.added_rows] == [("ward/new", "train"), ("ward/t", "test")]
    assert found.removed_rows == (
        RowExcerpt("ward/0", "train", "What is 0?"),
        RowExcerpt("ward/1", "train", "What is 1?"),
    )
    assert found.moved == (("validation", "train", 1),)
    assert [r.id for r in found.moved_rows] == ["ward/v2"]
    assert found.changed_columns == {
        **{"authors": 1, "input": 1, "license": 1},
        **{"output": 1, "source_date": 1},
    }
    changes = {r.id: r.changes for r in found.changed_rows}
    assert changes["ward/v1"] == (Change("input", "What is v1?", "What is v2?"),)
    assert Change("source_date", "2021-03-04", None) in changes["ward/2"]
    (change,) = changes["ward/long"]
    assert "Give 5 mg." in change.before and "Give 50 mg." in change.after
    assert max(len(change.before), len(change.after)) < 100
    (change,) = changes["ward/3"]
    assert change == Change(
        "authors",
        '[{"name": "Ada", "url": "https://ward.example/ada"}]',
        '[{"name": "Ada", "url": null}]',
    )
    assert found.licenses == {"CC-BY-SA-4.0": (13, 12), "CC0-1.0": (None, 1)}
    assert found.funnel == {
        "read": (20, 21),
        "left out: empty answer": (7, 5),
        "left out: too short": (None, 3),
    }
    assert found.settings == {"min_score": (5, 3)}
    assert found.release_notes == {"1.1.0": "More of it."}
    assert list(found.raw) == ["ward/notes.jsonl"]
    assert found.differs


def test_the_other_way_round(out: Path) -> None:
    there, back = (diff(Store(out), "ward", *v) for v in (("1.0.0", "1.1.0"), ("1.1.0", "1.0.0")))
    assert (back.added, back.removed, back.changed) == (there.removed, there.added, there.changed)
    assert back.added_rows == there.removed_rows
    assert back.moved == (("train", "validation", 1),)
    assert back.release_notes == there.release_notes


def test_limit(out: Path) -> None:
    found = diff(Store(out), "ward", "1.0.0", "1.1.0", limit=1)
    assert (found.added, len(found.added_rows), len(found.changed_rows)) == (2, 1, 1)
    found = diff(Store(out), "ward", "1.0.0", "1.1.0", limit=0)
    assert (found.added, found.added_rows, found.changed_rows, found.moved_rows) == (2, (), (), ())


def test_columns(tmp_path: Path) -> None:
    put(tmp_path, {"train": [row(k, level=1) for k in range(3)]})
    mood = {**{c: k for c, k in LEVEL.items() if c != "level"}, "level": "string", "mood": "string"}
    put(tmp_path, {"train": [row(k, level="1") for k in range(3)]}, version="1.1.0", features=mood)
    found = diff(Store(tmp_path), "ward", "1.0.0", "1.1.0")
    assert found.columns == {"level": ("int64", "string"), "mood": (None, "string")}
    assert (found.changed, found.same, found.differs) == (0, 3, True)


def test_every_changed_column_is_shown(tmp_path: Path) -> None:
    put(tmp_path, {"train": [row(k) for k in range(100)]})
    new = [row(k, source_date="2022", level=2 if k == 77 else 1) for k in range(100)]
    put(tmp_path, {"train": new}, version="1.0.1", group=9)
    found = diff(Store(tmp_path), "ward", "1.0.0", "1.0.1", limit=3)
    assert found.changed_columns == {"source_date": 100, "level": 1}
    assert "ward/77" in {r.id for r in found.changed_rows}
    assert len(found.changed_rows) == 3


def test_nothing_differs(out: Path) -> None:
    found = diff(Store(out), "ward", "1.0.0", "1.0")
    assert not found.differs
    assert (found.added, found.removed, found.changed, found.same) == (0, 0, 0, 13)
    # The same rows under another hash of all of them are compared one by one.
    put(out, {"train": [row(1)]}, name="b")
    put(out, {"train": [row(1)]}, name="b", version="1.0.1", rows_sha256="00")
    found = diff(Store(out), "b", "1.0.0", "1.0.1")
    assert (found.same, found.differs) == (1, False)


def test_no_common_row_and_no_row(tmp_path: Path) -> None:
    put(tmp_path, {"train": [row(1)]})
    put(tmp_path, {"train": [row(2)]}, version="2.0.0")
    put(tmp_path, {}, version="3.0.0")
    found = diff(Store(tmp_path), "ward", "1", "2")
    assert (found.added, found.removed, found.same) == (1, 1, 0)
    found = diff(Store(tmp_path), "ward", "2", "3")
    assert (found.added, found.removed, found.same) == (0, 1, 0)
    found = diff(Store(tmp_path), "ward", "3", "2")
    assert (found.added, found.removed, found.same) == (1, 0, 0)


def test_what_is_not_there(out: Path) -> None:
    with pytest.raises(StoreError, match=r"no version 3.*there are: 1.0.0, 1.1.0"):
        diff(Store(out), "ward", "1.0.0", "3")
    with pytest.raises(StoreError, match="bed is not built"):
        diff(Store(out), "bed", "1.0.0", "3")
    (out / "ward" / "1.1.0" / "train-00001-of-00002.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(StoreError, match="ward/1.1.0/train-00001-of-00002.parquet cannot be read.*again"):
        diff(Store(out), "ward", "1.0.0", "1.1.0")
    (out / "ward" / "1.1.0" / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(StoreError, match=r"train-00001-of-00002.parquet is not there; build ward again"):
        diff(Store(out), "ward", "1.0.0", "1.1.0")


VALUES = st.one_of(
    st.lists(st.none() | st.text(max_size=3), max_size=9).map(lambda v: pa.array(v, pa.string())),
    st.lists(st.none() | st.integers(-3, 3), max_size=9).map(lambda v: pa.array(v, pa.int64())),
    st.lists(st.none() | st.booleans(), max_size=9).map(lambda v: pa.array(v, pa.bool_())),
    st.lists(
        st.none() | st.lists(st.fixed_dictionaries({"a": st.none() | st.sampled_from("xy")}), max_size=3),
        max_size=9,
    ).map(lambda v: pa.array(v, pa.list_(pa.struct([("a", pa.string())])))),
)


@given(VALUES, st.integers(0, 4))
def test_hashes_are_equal_where_values_are(values: pa.Array, start: int) -> None:
    found = hashes(values).tolist()
    plain = values.to_pylist()
    for at, value in enumerate(plain):
        assert [found[i] == found[at] for i in range(len(plain))] == [other == value for other in plain]
    assert hashes(values.slice(start)).tolist() == found[start:]


def test_hashes_do_not_depend_on_the_process() -> None:
    code = (
        "import pyarrow as pa; from meadow.describe.hashing import hashes;"
        "print(hashes(pa.array(['a', 'None', None, ''])).tolist(), hashes(pa.array([['a'], [], None])).tolist(),"
        "hashes(pa.array([1.5, -1.0])).tolist(), hashes(pa.array(['a']), 7).tolist())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1")
    }
    assert len(found) == 1


def test_command(out: Path) -> None:
    done = run(SCRIPT, "diff", "ward", "1.0.0", "1.1.0", "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    for line in (
        "ward: 1.0.0 -> 1.1.0",
        "  1.1.0  More of it.",
        "  added 2",
        "    + ward/new (train)  What is new?",
        "    - ward/0 (train)  What is 0?",
        "    ~ ward/v1",
        "        - What is v1?",
        "        + What is v2?",
        "  moved to another split 1: validation -> train 1",
        "  the same 7",
        "  CC-BY-SA-4.0: 13 -> 12 (-1)",
        "  left out: too short: none -> 3 (+3)",
        "  min_score: 5 -> 3 (-2)",
        "  ~ ward/notes.jsonl (1.2 MB -> 1.2 MB), sha256 a1a1a1a1a1a1... -> b2b2b2b2b2b2...",
    ):
        assert line in done.stdout.splitlines(), line
    assert run(SCRIPT, "diff", "ward", "1.0.0", "1.1.0", "--out", out, "--exit-code").returncode == 1
    assert run(SCRIPT, "diff", "ward", "1.0.0", "1.0.0", "--out", out, "--exit-code").returncode == 0
    done = run(SCRIPT, "diff", "ward", "1.0.0", "9.0.0", "--out", out)
    assert done.returncode == 1
    assert "ward has no version 9.0.0" in done.stderr and "1.0.0, 1.1.0" in done.stderr


def test_json(out: Path) -> None:
    done = run(SCRIPT, "diff", "ward", "1.0.0", "1.1.0", "--out", out, "--json", "--limit", "1")
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["added_rows"] == [{"id": "ward/new", "split": "train", "excerpt": "What is new?"}]
    assert (found["differs"], found["moved"]) == (True, [["validation", "train", 1]])
    assert found["splits"]["test"] == [None, 1]


@pytest.mark.parametrize("columns", [40, 160])
def test_on_a_terminal(out: Path, columns: int) -> None:
    shown, code = on_terminal([SCRIPT, "diff", "ward", "1.0.0", "1.1.0", "--out", str(out)], columns)
    assert code == 0
    assert "validation" in shown and "ward/new" in shown


def test_text_cannot_command_the_terminal(tmp_path: Path) -> None:
    put(tmp_path, {"train": [row(1)]})
    put(tmp_path, {"train": [row(1, output="\x1b[2J\u202eevil"), row("\x1b]0;x\x07")]}, version="1.1.0")
    done = run(SCRIPT, "diff", "ward", "1.0.0", "1.1.0", "--out", tmp_path)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout and "\x07" not in done.stdout and "\u202e" not in done.stdout
    assert r"\u001b[2J\u202eevil" in done.stdout
