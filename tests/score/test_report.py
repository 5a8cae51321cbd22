"""Scores from predictions: the numbers, the report that is read, and the comparison with another run."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from meadow.score import report
from meadow.score.exams import Exam, ExamItem
from meadow.score.leaks import Knowledge
from meadow.score.predictions import Predictions

KEYS = "ABCD"


def items(count: int = 8, part: str = "step1") -> Iterator[ExamItem]:
    for n in range(count):
        options = {key: f"{key.lower()}{n}" for key in KEYS}
        yield ExamItem(f"{part}/{n}", f"Question {n}?", options, KEYS[n % 4], part, "")


def exam(**changes: Any) -> Exam:
    fields = {
        "name": "wards",
        "version": "1.0.0",
        "items": (*items(8), *items(4, "step2")),
        "excluded_parts": {"step1": {"with image": 2}, "step2": {"with image": 1}},
    }
    return Exam(**{**fields, **changes})


def line(
    item: ExamItem, right: bool, permutation: int = 0, sure: float | None = None, **more: Any
) -> dict[str, Any]:
    wrong = next(key for key in KEYS if key != item.answer_key)
    chosen = item.answer_key if right else wrong
    found = {
        "id": item.id, "part": item.part, "permutation": permutation, "order": KEYS, "prompt_sha256": "0" * 64, "raw": None,
        "parsed": chosen, "how": "letter", "answer": item.answer_key, "correct": right, **more,
    }  # fmt: skip
    if sure is not None:
        sums = {key: math.log(sure if key == chosen else (1 - sure) / 3) for key in KEYS}
        found["likelihoods"] = {
            "letter": {k: {"sum": v, "tokens": 1, "characters": 1} for k, v in sums.items()}
        }
        found["choices"] = {"letter": chosen, "text": wrong, "text_norm": item.answer_key}
    return found


def lines(exam: Exam, wrong: tuple[str, ...] = (), **more: Any) -> list[dict[str, Any]]:
    return [line(item, item.id not in wrong, **more) for item in exam.items]


def summary(exam: Exam, found: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return report.summarize(exam, found, protocol="loglikelihood", model={"name": "runs/x"}, **more)


def put(folder: Path, exam: Exam, found: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A finished run in its folder."""
    with Predictions(folder, {"exam": exam.name}) as predictions:
        predictions.write(found)
    scores = summary(exam, found, **more)
    report.write(folder, scores)
    return scores


def printed(scores: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=140)
    report.show(scores, console)
    return console.file.getvalue()


def test_per_step_and_overall() -> None:
    found = lines(exam(), wrong=("step1/0", "step1/1", "step2/3"))
    found[1]["parsed"] = None
    scores = summary(exam(), found)
    assert scores["overall"] == {
        "n": 12, "correct": 9, "accuracy": 0.75, "unparsed": 1, "excluded": 3,
        "interval": [pytest.approx(0.4677, abs=1e-4), pytest.approx(0.9111, abs=1e-4)],
    }  # fmt: skip
    step1, step2 = scores["parts"]["step1"], scores["parts"]["step2"]
    assert (step1["n"], step1["correct"], step1["unparsed"], step1["excluded"]) == (8, 6, 1, 2)
    assert (step2["n"], step2["correct"], step2["unparsed"], step2["excluded"]) == (4, 3, 0, 1)
    assert scores["chance"] == 0.25
    assert (scores["permutation"], scores["calibration"], scores["choices"]) == (None, None, None)
    words = report.describe(scores)
    assert "| step1 | 8 | 6 | 0.750 | 0.409 to 0.929 | 1 | 2 |" in words
    assert "| overall | 12 | 9 | 0.750 | 0.468 to 0.911 | 1 | 3 |" in words
    assert "in no n: 3 with image." in words
    assert "Protocol: `loglikelihood`" in words


def test_a_run_that_is_not_finished_makes_no_score() -> None:
    with pytest.raises(report.SummaryError, match=r"2 of 12 items have no prediction \(step2/2, step2/3\)"):
        summary(exam(), lines(exam())[:-2])


def test_clean_items_and_the_rest() -> None:
    known = Knowledge(
        "run.json of the model (trained on ward 1.0.0)",
        hit=frozenset(("step1/0", "step1/1", "step1/2", "step1/3")),
        clean=frozenset(f"step1/{n}" for n in range(4, 8)),
        dropped=2,
        notes=("4 of 12 items are unknown.",),
    )
    scores = summary(exam(), lines(exam(), wrong=("step1/4", "step1/5", "step2/0")), leaks=known)
    assert (scores["clean"]["n"], scores["clean"]["accuracy"]) == (4, 0.5)
    assert (scores["rest"]["n"], scores["rest"]["correct"]) == (8, 7)
    assert (scores["hit"]["n"], scores["hit"]["accuracy"], scores["unknown"]) == (4, 1.0, 4)
    assert scores["leaks"]["difference"] == -0.5
    words = report.describe(scores)
    assert "| found clean | 4 | 2 | 0.500 |" in words
    assert "| the rest (4 found in training rows, 4 unknown) | 8 | 7 | 0.875 |" in words
    assert "2 items stood in other rows, which were found and left out" in words
    assert "Found in training rows: step1/0, step1/1" in words
    assert "What the base model read before is not known." in words
    assert "found clean" in printed(scores)


def test_nothing_known_is_said() -> None:
    scores = summary(exam(), lines(exam()))
    assert (scores["clean"], scores["rest"], scores["unknown"]) == (None, None, 12)
    assert "Unknown. Nothing was asked about" in report.describe(scores)
    assert "found clean" not in printed(scores)


def test_no_item_is_left_in_a_group() -> None:
    known = Knowledge("compared now with 3 rows of x", clean=frozenset(i.id for i in exam().items))
    scores = summary(exam(), lines(exam()), leaks=known)
    assert (scores["clean"]["n"], scores["rest"]["n"], scores["rest"]["accuracy"]) == (12, 0, None)
    assert "| the rest | 0 | 0 | - | - |" in report.describe(scores)


def test_other_orders_of_the_options() -> None:
    every = exam(items=tuple(items(4)))
    first = [line(item, True) for item in every.items]
    second = [line(item, item.id != "step1/0", 1, order="DCBA") for item in every.items]
    third = [line(item, item.id not in ("step1/0", "step1/1"), 2, order="BADC") for item in every.items]
    third[1]["parsed"] = None
    found = summary(every, first + second + third)["permutation"]
    assert (found["orders"], found["written"], found["shuffled"]) == (2, 1.0, [0.75, 0.5])
    assert (found["mean"], found["least"], found["most"]) == (0.625, 0.5, 0.75)
    assert (found["moved"], found["moved_share"], found["always_right"], found["ever_right"]) == (
        2,
        0.5,
        2,
        4,
    )
    # ExamItem 0, whose answer A stands at D in the second order: B was chosen, which stands at C.
    assert found["places"]["A"] == {"chosen": 3, "right": 3}
    assert sum(place["right"] for place in found["places"].values()) == 12
    assert sum(place["chosen"] for place in found["places"].values()) == 11
    words = report.describe(summary(every, first + second + third))
    assert "| items whose answer moves | 2 (50.0%; 95 % interval 0.150 to 0.850) |" in words
    # An order that was begun by a killed run, and not asked for again, is passed over.
    assert summary(every, first + second + third[:2])["permutation"]["orders"] == 1
    assert summary(every, first + second[:1])["permutation"] is None


def test_likelihoods_are_calibrated() -> None:
    every = exam(items=tuple(items(4)))
    found = [line(item, n < 3, sure=0.7) for n, item in enumerate(every.items)]
    scores = summary(every, found)
    calibration = scores["calibration"]
    assert (calibration["by"], calibration["n"], calibration["accuracy"]) == ("letter", 4, 0.75)
    assert calibration["confidence"] == pytest.approx(0.7)
    assert calibration["ece"] == pytest.approx(0.05)
    assert {way: c["accuracy"] for way, c in scores["choices"].items()} == {
        "letter": 0.75, "text": 0.0, "text_norm": 1.0,
    }  # fmt: skip
    words = report.describe(scores)
    assert "ECE 0.050" in words
    assert "| likelihood of the option's text, per character | 4 | 1.000 |" in words
    # A token that the model rules out has no likelihood.
    found[0]["likelihoods"]["letter"]["D"]["sum"] = None
    assert summary(every, found)["calibration"]["n"] == 4


def test_against_another_run(tmp_path: Path) -> None:
    put(
        tmp_path / "before",
        exam(),
        lines(exam(), wrong=("step1/0", "step1/1", "step1/2", "step1/3", "step1/4")),
    )
    baseline = report.read_baseline(tmp_path / "before", exam())
    scores = put(tmp_path / "after", exam(), lines(exam(), wrong=("step1/7",)), baseline=baseline)
    found = scores["baseline"]["overall"]
    assert (found["n"], found["both"], found["gained"], found["lost"], found["neither"]) == (12, 6, 5, 1, 0)
    assert found["difference"] == pytest.approx(4 / 12)
    assert found["p"] == pytest.approx(14 / 64)
    assert found["interval"][0] < 4 / 12 < found["interval"][1]
    assert scores["baseline"]["parts"]["step2"]["difference"] == 0
    assert scores["baseline"]["same_protocol"]
    words = report.describe(scores)
    assert "| overall | 12 | 5 | 1 | +0.333 |" in words
    assert "| step2 | 4 | 0 | 0 | +0.000 | +0.000 to +0.000 | 1.0000 |" in words
    scores = report.summarize(exam(), lines(exam()), protocol="generate", model={}, baseline=baseline)
    assert "another protocol, loglikelihood" in report.describe(scores)


def test_runs_that_cannot_be_compared(tmp_path: Path) -> None:
    put(tmp_path / "run", exam(), lines(exam()))

    def why(other: Exam) -> str:
        with pytest.raises(report.SummaryError) as caught:
            report.read_baseline(tmp_path / "run", other)
        return str(caught.value)

    fewer = why(exam(items=tuple(items(8))))
    assert "4 of its items are not in this run (step2/0, step2/1, step2/2, step2/3)" in fewer
    assert "same --split and --limit" in fewer
    assert "2 items are not in it (step1/8, step1/9)" in why(exam(items=(*items(10), *items(4, "step2"))))
    other = why(exam(name="medqa", version="2.0.0", items=tuple(items(3, "test"))))
    assert "its exam's name is wards, this one's medqa" in other
    assert "its exam's version is 1.0.0, this one's 2.0.0" in other
    changed = [
        *exam().items[:-1],
        ExamItem("step2/3", "Another question?", dict.fromkeys(KEYS, "x"), "A", "step2", ""),
    ]
    assert "same ids and other texts" in why(exam(items=tuple(changed)))
    # The name of a file is not the exam.
    assert len(report.read_baseline(tmp_path / "run", exam(name="copy", version="")).correct) == 12


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(report.SummaryError, match="it has no scores.json, so it is no finished run"):
        report.read_baseline(tmp_path, exam())
    put(tmp_path / "run", exam(), lines(exam()))
    (tmp_path / "run" / "predictions.jsonl").unlink()
    with pytest.raises(report.SummaryError, match="12 items are not in it"):
        report.read_baseline(tmp_path / "run", exam())
    (tmp_path / "run" / "scores.json").write_text("[]", encoding="utf-8")
    with pytest.raises(report.SummaryError, match="cannot be read"):
        report.read_baseline(tmp_path / "run", exam())


def test_what_is_written(tmp_path: Path) -> None:
    found = [line(item, True, sure=0.9) for item in exam().items]
    scores = put(tmp_path, exam(), found, settings={"batch_size": 4, "folder": tmp_path, "odd": math.inf})
    kept = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert kept["overall"] == scores["overall"]
    assert kept["settings"] == {"batch_size": 4, "folder": str(tmp_path), "odd": None}
    assert kept["exam"]["items_sha256"] == exam().items_sha256
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == report.describe(scores)
    assert ElementTree.parse(tmp_path / "plot.svg").getroot().tag.endswith("svg")
    before = (tmp_path / "plot.svg").read_bytes()
    report.write(tmp_path, scores)
    assert (tmp_path / "plot.svg").read_bytes() == before
    assert not list(tmp_path.glob(".*.new"))


def test_a_sample_and_a_limit_are_announced() -> None:
    every = exam(sample=True, whole=39)
    scores = summary(every, lines(every), notes=("Defect: it is sampled.",))
    for words in (report.describe(scores), printed(scores).replace("\n", " ")):
        assert "SAMPLE: these are the 39 questions of the small embedded sample" in words
        assert "LIMITED to 12 of 39 items" in words
        assert "Defect: it is sampled." in words
    assert report.describe(scores).index("SAMPLE") < report.describe(scores).index("accuracy")


def test_long_questions_and_ways_of_reading_are_counted() -> None:
    found = lines(exam())
    found[0].update(cut=True, how="unparsed", parsed=None, correct=False)
    scores = summary(exam(), found)
    assert (scores["cut"], scores["how"]) == (1, {"letter": 11, "unparsed": 1})
    assert "| letter | 11 |" in report.describe(scores)


def test_beside_the_published_table() -> None:
    every = exam(name="usmle_self_assessment")
    scores = summary(every, lines(every, wrong=("step1/0", "step1/1")))
    words = report.describe(scores)
    assert "| runs/x (loglikelihood) | 0.750 (0.409 to 0.929) | 1.000 (0.510 to 1.000) | - | 0.833" in words
    assert "| MedAlpaca 13b | 0.473 (0.374 to 0.574) | 0.477" in words
    assert words.count("| MedAlpaca") == 7
    assert "denominators of the published table are mixed" in words
    assert ".473 .37-.57" in printed(scores)
    assert summary(exam(), lines(exam()))["published"] is None


def test_names_are_inert_in_the_report() -> None:
    every = exam(name="a|b*c", items=tuple(items(2, "p|q")))
    scores = report.summarize(every, lines(every), protocol="generate", model={"name": "x<script>`y`[bold]"})
    words = report.describe(scores)
    assert "# x&lt;script&gt;\\`y\\`\\[bold\\] on a\\|b\\*c" in words
    assert "| p\\|q | 2 |" in words
    assert "[bold]" in printed(scores)
