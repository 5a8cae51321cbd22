"""Answers are written down as they come, and asked for once."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from meadow.score.predictions import FILE, META, Predictions, ResumeError, ScoringError, read

WHAT: dict[str, Any] = {
    "protocol": {"name": "generate", "version": 1},
    "exam": {"name": "medqa", "ids_sha256": "ab" * 32},
    "model": {"fingerprint": "cd" * 32, "template": {"name": "alpaca"}},
    "settings": {"seed": 0},
    "about": {"batch_size": 16, "permute": 0},
}


def _line(id: str, permutation: int = 0, **more: Any) -> dict[str, Any]:  # noqa: A002
    return {
        "id": id, "part": "test", "permutation": permutation, "order": "AB", "prompt_sha256": "x", "raw": "B", "parsed": "B",
        "how": "letter", "answer": "B", "correct": True, **more,
    }  # fmt: skip


def test_what_is_written_is_there_at_once_and_after(tmp_path: Path) -> None:
    lines = [_line("a", raw='β-blocker\n\u2028\ud800 "x"'), _line("b"), _line("a", 1)]
    with Predictions(tmp_path / "run", WHAT) as there:
        there.write(lines[:1])
        assert len(read(tmp_path / "run")[1]) == 1
        there.write(lines[1:])
        there.write([])
        assert ("a", 1) in there and ("b", 1) not in there and len(there) == 3
    meta, found = read(tmp_path / "run")
    assert found == lines and meta["exam"] == WHAT["exam"]
    with Predictions(tmp_path / "run", WHAT) as again:
        assert again.resumed == 3 and not again.torn and list(again) == lines
        assert again.get("a") == lines[0] and again.get("c") is None
        again.write([_line("c")])
    assert len(read(tmp_path / "run")[1]) == 4


@pytest.mark.parametrize("cut", [1, 20, -2])
def test_a_torn_last_line_is_asked_again(tmp_path: Path, cut: int) -> None:
    with Predictions(tmp_path, WHAT) as there:
        there.write([_line("a"), _line("b")])
    path = tmp_path / FILE
    whole = path.read_bytes()
    second = whole.index(b"\n") + 1
    path.write_bytes(whole[: second + cut] if cut > 0 else whole[:cut])
    assert [line["id"] for line in read(tmp_path)[1]] == ["a"]
    with Predictions(tmp_path, WHAT) as there:
        assert there.torn and [line["id"] for line in there] == ["a"]
        there.write([_line("b")])
    assert path.read_bytes() == whole


def test_a_line_without_its_newline_is_whole(tmp_path: Path) -> None:
    with Predictions(tmp_path, WHAT) as there:
        there.write([_line("a"), _line("b")])
    path = tmp_path / FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with Predictions(tmp_path, WHAT) as there:
        assert not there.torn and len(there) == 2
        there.write([_line("c")])
    assert [line["id"] for line in read(tmp_path)[1]] == ["a", "b", "c"]


def test_zeros_after_a_power_cut_are_a_torn_line(tmp_path: Path) -> None:
    with Predictions(tmp_path, WHAT) as there:
        there.write([_line("a")])
    with (tmp_path / FILE).open("ab") as out:
        out.write(b"\0" * 512)
    with Predictions(tmp_path, WHAT) as there:
        assert there.torn and len(there) == 1
    assert b"\0" not in (tmp_path / FILE).read_bytes()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (b"{half\n", "line 2 is no JSON"),
        (b"[1]\n", "line 2 is no prediction"),
        (b'{"id": "z"}\n', "lacks part, permutation"),
    ],
)
def test_damage_elsewhere_is_told(tmp_path: Path, bad: bytes, says: str) -> None:
    with Predictions(tmp_path, WHAT) as there:
        there.write([_line("a"), _line("b")])
    first, second = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    (tmp_path / FILE).write_bytes(first + bad + second)
    with pytest.raises(ScoringError, match=says):
        Predictions(tmp_path, WHAT)
    (tmp_path / FILE).write_bytes(first + first)
    with pytest.raises(ScoringError, match="item a is there twice"):
        Predictions(tmp_path, WHAT)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("protocol", "name"), "loglikelihood", 'protocol.name: "generate" there, "loglikelihood" now'),
        (("model", "fingerprint"), "ef" * 32, "model.fingerprint: "),
        (("model", "template"), {"name": "plain"}, 'model.template.name: "alpaca" there, "plain" now'),
        (("exam", "ids_sha256"), "00" * 32, "exam.ids_sha256: "),
        (("settings", "seed"), 1, "settings.seed: 0 there, 1 now"),
        (("model", "quantization"), "8bit", 'model.quantization: nothing there, "8bit" now'),
    ],
)
def test_answers_to_something_else_are_not_mixed(
    tmp_path: Path, path: tuple[str, str], value: Any, says: str
) -> None:
    with Predictions(tmp_path, WHAT) as there:
        there.write([_line("a")])
    before = (tmp_path / FILE).read_bytes(), (tmp_path / META).read_bytes()
    other = json.loads(json.dumps(WHAT))
    other[path[0]][path[1]] = value
    with pytest.raises(ResumeError) as caught:
        Predictions(tmp_path, other)
    assert says in str(caught.value) and len(caught.value.changes) == 1
    assert ((tmp_path / FILE).read_bytes(), (tmp_path / META).read_bytes()) == before


def test_what_changes_no_answer_may_change(tmp_path: Path) -> None:
    with Predictions(tmp_path, WHAT) as there:
        there.write([_line("a")])
    with Predictions(
        tmp_path, {**WHAT, "about": {"batch_size": 2, "permute": 3, "path": "elsewhere"}}
    ) as there:
        assert there.resumed == 1
    assert read(tmp_path)[0]["about"]["permute"] == 3


def test_a_folder_without_answers_may_begin_anew(tmp_path: Path) -> None:
    Predictions(tmp_path, WHAT).close()
    with Predictions(tmp_path, {**WHAT, "settings": {"seed": 9}}) as there:
        assert there.resumed == 0
    assert read(tmp_path)[0]["settings"] == {"seed": 9}


def test_answers_without_their_header_are_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(_line("a")) + "\n")
    with pytest.raises(ResumeError, match="nobody can tell"):
        Predictions(tmp_path, WHAT)
    (tmp_path / META).write_text("{")
    with pytest.raises(ScoringError, match="cannot be read"):
        Predictions(tmp_path, WHAT)
    with pytest.raises(ScoringError, match="no folder that a score"):
        read(tmp_path / "nowhere")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Predictions(tmp_path, WHAT), pytest.raises(ScoringError, match="another process is scoring"):
        Predictions(tmp_path, WHAT)
    Predictions(tmp_path, WHAT).close()


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Predictions(tmp_path, WHAT)
    there.write([_line("a")])
    stream = there._stream

    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(stream, name)

        def write(self, data: Any) -> int:
            if len(data) < 30:
                raise OSError(errno.ENOSPC, "No space left on device")
            return stream.write(data[:30])

    there._stream = Full()
    with pytest.raises(ScoringError, match="disk is full; make room"):
        there.write([_line("b")])
    assert ("b", 0) not in there
    there._stream = stream
    there.close()
    with Predictions(tmp_path, WHAT) as again:
        assert [line["id"] for line in again] == ["a"] and not again.torn


def test_an_output_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ScoringError, match="cannot be made"):
        Predictions(tmp_path / "file", WHAT)


CHILD = """
    import hashlib, json, sys, time
    from pathlib import Path
    from types import SimpleNamespace as New
    from meadow.score import asking, protocols
    from meadow.score.exams import Exam, ExamItem
    from meadow.score.predictions import Predictions

    folder, asked = Path(sys.argv[1]), Path(sys.argv[2])

    class Slow:
        name, identity = "slow", {"model": "slow"}
        concurrency = int(sys.argv[3])
        def render(self, prompt, room):
            return protocols.Rendered(hashlib.sha256(prompt.input.encode()).hexdigest(), len(prompt.input))
        def generate(self, prompts, **_):
            time.sleep(0.02)
            with asked.open("a") as out:
                out.write("".join(p.id + chr(10) for p in prompts))
            return ["A: yes"] * len(prompts)

    items = tuple(ExamItem(f"i{n}", f"Question {n}?", {"A": "yes", "B": "no"}, "A", "test", "") for n in range(60))
    with Predictions(folder, {"model": Slow.identity}) as there:
        asking.run("generate", Exam("x", "", items), Slow(), there, batch_size=4)
    print("done", len(there))
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_killed_run_goes_on_without_asking_twice(tmp_path: Path, concurrency: int) -> None:
    asked = tmp_path / "asked"
    asked.touch()
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(CHILD),
        str(tmp_path / "run"),
        str(asked),
        str(concurrency),
    ]
    kills = 0
    for lines in (10, 30):
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        path, end = tmp_path / "run" / FILE, time.monotonic() + 20
        while time.monotonic() < end and (not path.is_file() or path.read_bytes().count(b"\n") < lines):
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        kills += child.wait() == -signal.SIGKILL
        child.stdout and child.stdout.close()
    assert kills == 2
    last = subprocess.run(command, capture_output=True, text=True, check=True)
    assert last.stdout.strip() == "done 60"
    times = asked.read_text().split()
    assert sorted(set(times)) == sorted(f"i{n}" for n in range(60))
    # What was asked and not yet written when the process died is all that is asked again.
    assert len(times) - 60 <= kills * max(4, concurrency)
    assert [line["correct"] for line in read(tmp_path / "run")[1]] == [True] * 60
