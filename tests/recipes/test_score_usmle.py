"""The recipe that scores: end to end on the processor, its files, and what it says of mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recipes import score_usmle
from tests import stores

RECIPE = Path(score_usmle.__file__)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, trained on nothing, whose folder says that a question of the exam was in its data."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from meadow.models import make_tiny

    folder = tmp_path_factory.mktemp("model") / "tiny"
    make_tiny(folder)
    hits = {"wards": {"checked": 6, "sample": False, "complete": True, "items": ["ward/q1"]}}
    run = {"data": [{"name": "cards", "version": "1.0.0"}], "exam_hits": hits, "unchecked": []}
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output folder with a small exam."""
    rows = []
    for n in range(6):
        options = [{"key": key, "text": f"Sign {key}{n}"} for key in "ABCD"]
        listed = "\n".join(f"{o['key']}: {o['text']}" for o in options)
        rows.append(
            stores.row(
                f"q{n}",
                input=f"Which sign is number {n}?\n\n{listed}",
                options=options,
                answer_key="ABCD"[n % 4],
            )
        )
    stores.put(tmp_path / "out", {"test": rows}, name="wards")
    return tmp_path / "out"


def scored(model: Path, out: Path, folder: Path, *more: str) -> dict[str, Any]:
    arguments = ["--model", str(model), "--exam", "wards", "--out", str(out), "--output", str(folder), *more]
    assert score_usmle.main(arguments) == 0
    return json.loads((folder / "scores.json").read_text(encoding="utf-8"))


def test_two_models_one_exam(
    model: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = scored(model, out, tmp_path / "one", "--permute", "2", "--template", "alpaca")
    assert (scores["protocol"], scores["overall"]["n"], scores["permutation"]["orders"]) == (
        "loglikelihood",
        6,
        2,
    )
    assert scores["overall"]["correct"] == sum(
        line["correct"] for line in predictions(tmp_path / "one") if not line["permutation"]
    )
    assert (scores["rest"]["n"], scores["leaks"]["hit"], scores["clean"]["n"]) == (1, ["ward/q1"], 5)
    assert scores["calibration"]["n"] == 6
    assert {path.name for path in (tmp_path / "one").iterdir() if path.name[0] != "."} == {
        "predictions.jsonl", "predictions.meta.json", "scores.json", "report.md", "plot.svg",
    }  # fmt: skip
    assert "overall" not in scores["parts"]
    printed = capsys.readouterr().out
    assert "order of the options" in printed
    assert f"{tmp_path / 'one'}/report.md" in printed

    # The same command again asks nothing, and comes to the same.
    before = (tmp_path / "one" / "predictions.jsonl").read_bytes()
    assert scored(model, out, tmp_path / "one", "--permute", "2", "--template", "alpaca") == scores
    assert (tmp_path / "one" / "predictions.jsonl").read_bytes() == before

    # Another protocol has no place in the same folder; nothing is lost.
    again = ["--model", str(model), "--exam", "wards", "--out", str(out), "--output", str(tmp_path / "one")]
    assert score_usmle.main([*again, "--protocol", "generate"]) == 2
    assert "protocol" in capsys.readouterr().err
    assert (tmp_path / "one" / "predictions.jsonl").read_bytes() == before

    compared = scored(
        model, out, tmp_path / "two", "--template", "plain", "--baseline", str(tmp_path / "one")
    )
    assert compared["baseline"]["overall"]["n"] == 6
    assert compared["baseline"]["same_protocol"]
    assert (
        score_usmle.main(
            [*again[:-1], str(tmp_path / "three"), "--limit", "3", "--baseline", str(tmp_path / "one")]
        )
        == 2
    )
    assert "3 of its items are not in this run" in capsys.readouterr().err
    assert not (tmp_path / "three").exists()


def predictions(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def test_answers_are_written(model: Path, out: Path, tmp_path: Path) -> None:
    more = ("--protocol", "generate", "--max-new-tokens", "4", "--limit", "2")
    scores = scored(model, out, tmp_path / "written", *more)
    assert (scores["protocol"], scores["overall"]["n"], scores["exam"]["whole"]) == ("generate", 2, 6)
    assert (scores["calibration"], scores["choices"]) == (None, None)
    assert sum(scores["how"].values()) == 2
    report = (tmp_path / "written" / "report.md").read_text(encoding="utf-8")
    assert "LIMITED to 2 of 6 items" in report
    assert "Protocol: `generate`" in report


def test_every_mistake_is_told_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code = score_usmle.main(
        ["--output", str(tmp_path / "x"), "--protocol", "guess", "--limit", "many", "--permut", "3", "--batch-size", "0",
         "--quantization", "2bit"]
    )  # fmt: skip
    told = capsys.readouterr().err
    assert code == 2
    assert told.startswith("score_usmle.py: 7 problems in the settings:\n")
    for words in (
        "'many' is no whole number",
        "--permut is no setting; --permute is",
        "3 is no setting",
        "no protocol is named 'guess'",
        "--model is missing",
        "--batch-size is 0",
        "--quantization '2bit' is unknown",
    ):
        assert words in told
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--exam", "nowhere.jsonl"], 2, "there is no such file"),
        (["--exam", "wards", "--split", "final"], 2, "has no split final"),
        (
            ["--exam", "wards", "--trained-on", "nothing", "neither@1.0.0"],
            2,
            "--trained-on neither@1.0.0: no file",
        ),
        (["--exam", "wards", "--template", "nosuch"], 2, "nosuch"),
        (["--exam", "wards", "--baseline", "gone"], 2, "it has no scores.json"),
        (["--exam", "wards", "--model", "no/such/model"], 1, "no/such/model"),
    ],
)
def test_what_is_not_there(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], code: int, words: str
) -> None:
    pytest.importorskip("torch")
    arguments = ["--model", "tiny", "--out", str(out), "--output", str(tmp_path / "x"), *more]
    assert score_usmle.main(arguments) == code
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told
    assert not (tmp_path / "x" / "scores.json").exists()


def test_an_exam_with_a_bad_item_is_refused_by_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {"id": "q7", "question": "Which?", "options": {"A": "one", "B": "two"}, "answer": "E"}
    (tmp_path / "exam.jsonl").write_text(json.dumps(record), encoding="utf-8")
    arguments = ["--model", "tiny", "--exam", str(tmp_path / "exam.jsonl"), "--output", str(tmp_path / "x")]
    assert score_usmle.main(arguments) == 2
    assert "q7: the answer 'E' is no option; there are A, B" in capsys.readouterr().err


def test_where_it_is_written_if_nobody_says(tmp_path: Path) -> None:
    (tmp_path / "13b").mkdir()
    assert score_usmle.output_of(str(tmp_path / "13b"), "medqa@1.0.0") == tmp_path / "13b" / "medqa"
    assert score_usmle.output_of("tiny", "data/exam.jsonl") == Path("runs/tiny/exam")
    assert score_usmle.output_of(None, "medqa") == Path("runs/served/medqa")


def test_help_is_quick_and_needs_no_torch() -> None:
    code = (
        "import sys, recipes.score_usmle as r\n"
        "try: r.main(['--help'])\n"
        "except SystemExit as e: assert not e.code\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'matplotlib', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=RECIPE.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for words in ("--baseline", "--quantization", "--endpoint", "--trained-on", "runs/13b/usmle"):
        assert words in done.stdout


def test_it_runs_as_a_script(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(RECIPE), "--protocol", "guess"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("score_usmle.py: 2 problems in the settings:")
