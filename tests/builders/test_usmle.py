"""USMLE self assessment: solutions, exclusions, bad questions, damaged files, and the sample."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from meadow.builders.usmle.builder import USMLE
from meadow.core.rawfile import RawFileError
from meadow.core.rawstore import find
from meadow.core.row import Example, Option, Rejected
from meadow.testing import BuilderTest

PUBLISHED = {
    "step1": "4 7 9 11 18 21 30 32 34 36 40 42 44 47 53 56 62 68 77 80 85 88 89 100 105 113 114",
    "step2": "25 26 33 53 60 76 80 87 107 114",
    "step3": "5 21 34 41 63 66 67 88 96 102 113 118 130",
}


def question(no: Any, **changes: Any) -> dict[str, Any]:
    """A question in the published form; a change to None takes the key away."""
    made = {
        "no": no,
        "question": f"Question {no}: which vitamin is deficient in scurvy?",
        "options": {"A": "Vitamin A", "B": "Vitamin B12", "C": "Vitamin C", "D": "Vitamin D"},
    }
    made.update(changes)
    return {key: value for key, value in made.items() if value is not None}


def put(root: Path, name: str, value: Any) -> None:
    path = root / "usmle" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())


def read(root: Path | None) -> tuple[dict[str, list[Example]], list[Rejected]]:
    """Runs the builder as a build does; returns rows by step and all that was rejected."""
    builder = USMLE()
    rows: dict[str, list[Example]] = {}
    rejected: list[Rejected] = []
    for item in builder.shards(find(builder, root)):
        if isinstance(item, Rejected):
            rejected.append(item)
            continue
        shard = pickle.loads(pickle.dumps(item))
        rows[shard.key] = []
        try:
            for made in builder.examples(shard):
                (rejected if isinstance(made, Rejected) else rows[shard.key]).append(made)
        except RawFileError as error:
            rejected.append(Rejected(error.reason, error.file, error.detail, error.remedy, file=error.file))
    return rows, rejected


def reasons(rejected: list[Rejected]) -> list[tuple[str, str]]:
    return [(r.reason, r.id) for r in rejected]


def test_a_question_becomes_a_row(tmp_path: Path) -> None:
    put(tmp_path, "step2.json", [question(12, question="\n Scurvy?\n\nLabs: none \n")])
    put(tmp_path, "step2_solutions.json", {"12": "C"})
    rows, rejected = read(tmp_path)
    assert rejected == []
    (row,) = rows["step2"]
    assert row.id == row.group == "usmle/step2/12"
    assert row.instruction == "Please answer with one of the options"
    assert row.input == "Scurvy?\n\nLabs: none\n\nA: Vitamin A\nB: Vitamin B12\nC: Vitamin C\nD: Vitamin D"
    assert row.output == "C: Vitamin C"
    assert row.answer_key == "C"
    assert row.options[0] == Option("A", "Vitamin A")
    assert row.split == "step2"
    assert dict(row.extra) == {"step": "step2", "number": 12}
    assert "National Board of Medical Examiners" in row.authors[0].name


def test_it_is_an_exam_and_not_redistributable() -> None:
    assert USMLE.test_only
    assert USMLE.official_splits == ("step1", "step2", "step3")
    assert USMLE.license.id == "LicenseRef-USMLE-all-rights-reserved"


def test_ten_and_more_options_are_kept_in_order(tmp_path: Path) -> None:
    letters = "ABCDEFGHIJKL"
    options = {letter: f"choice {letter}" for letter in reversed(letters)}
    put(tmp_path, "step1.json", [question("3", options=options)])
    put(tmp_path, "step1_solutions.json", {"3": " J "})
    (row,) = read(tmp_path)[0]["step1"]
    assert "".join(o.key for o in row.options) == letters
    assert row.output == "J: choice J"
    assert row.extra["number"] == 3


def test_without_the_list_the_published_numbers_are_excluded(tmp_path: Path) -> None:
    for step in PUBLISHED:
        put(tmp_path, f"{step}.json", [question(n) for n in range(1, 141)])
        put(tmp_path, f"{step}_solutions.json", {str(n): "C" for n in range(1, 141)})
    rows, rejected = read(tmp_path)
    for step, numbers in PUBLISHED.items():
        ids = [f"usmle/{step}/{n}" for n in numbers.split()]
        found = [r for r in rejected if r.id.startswith(f"usmle/{step}/")]
        assert reasons(found) == [("needs an image", i) for i in ids]
        assert len(rows[step]) == 140 - len(ids)
    assert len(rejected) == 27 + 10 + 13


def test_the_published_numbers_name_their_source() -> None:
    stored = json.loads((USMLE.folder() / "excluded.json").read_text(encoding="utf-8"))
    assert "MedAlpaca" in stored["source"]
    assert {k: " ".join(map(str, v)) for k, v in stored.items() if k != "source"} == PUBLISHED


@pytest.mark.parametrize("key", ["step1", "1", "Step 1", "step_1"])
def test_a_list_of_questions_with_images_decides(tmp_path: Path, key: str) -> None:
    put(tmp_path, "step1.json", [question(n) for n in (1, 2, 4)])
    put(tmp_path, "step1_solutions.json", dict.fromkeys("124", "C"))
    put(tmp_path, "question_with_images.json", {key: [2], "step2": ["7"]})
    rows, rejected = read(tmp_path)
    # Number 4 is on the published list, which does not count where the file is there.
    assert [r.id for r in rows["step1"]] == ["usmle/step1/1", "usmle/step1/4"]
    assert reasons(rejected) == [("needs an image", "usmle/step1/2")]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", "damaged file"),
        ([2], "unknown form of file"),
        ({"step1": 2}, "unknown form of file"),
        ({"step1": ["two"]}, "unknown form of file"),
        ({"step4": [2]}, "unknown form of file"),
    ],
)
def test_a_list_that_cannot_be_read_leaves_the_published_numbers(
    tmp_path: Path, value: Any, reason: str
) -> None:
    put(tmp_path, "step1.json", [question(n) for n in (1, 2, 4)])
    put(tmp_path, "step1_solutions.json", dict.fromkeys("124", "C"))
    put(tmp_path, "question_with_images.json", value)
    rows, rejected = read(tmp_path)
    assert [r.id for r in rows["step1"]] == ["usmle/step1/1", "usmle/step1/2"]
    assert reasons(rejected) == [
        (reason, "usmle/question_with_images.json"),
        ("needs an image", "usmle/step1/4"),
    ]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (question(2, question=" "), "question without text"),
        (question(2, question=None), "question without text"),
        (question(2, options=None), "options are no object of letters and texts"),
        (question(2, options=["a", "b"]), "options are no object of letters and texts"),
        (question(2, options={"A": "x", "C": ""}), "option without text"),
        (question(2, options={"a": "x", "C": "y"}), "option without a letter"),
        (question(2, options={"A": "x", "C": "x "}), "two options with the same text"),
        (question(2, options={"A": "x", "B": "y"}), "answer is no option"),
    ],
)
def test_a_bad_question_costs_itself_alone(tmp_path: Path, bad: Any, reason: str) -> None:
    put(tmp_path, "step1.json", [question(1), bad, question(3)])
    put(tmp_path, "step1_solutions.json", dict.fromkeys("123", "C"))
    rows, rejected = read(tmp_path)
    assert [r.id for r in rows["step1"]] == ["usmle/step1/1", "usmle/step1/3"]
    assert reasons(rejected) == [(reason, "usmle/step1/2")]
    assert rejected[0].remedy


def test_questions_without_a_number_are_named_by_their_place(tmp_path: Path) -> None:
    put(tmp_path, "step1.json", [question(1), question(None), "text", question(True), question(-5)])
    put(tmp_path, "step1_solutions.json", {"1": "C"})
    rows, rejected = read(tmp_path)
    assert len(rows["step1"]) == 1
    assert reasons(rejected) == [
        ("question without a number", "usmle/step1.json[1]"),
        ("question is no object", "usmle/step1.json[2]"),
        ("question without a number", "usmle/step1.json[3]"),
        ("question without a number", "usmle/step1.json[4]"),
    ]


def test_no_published_answer(tmp_path: Path) -> None:
    put(tmp_path, "step3.json", [question(1), question(2), question(3)])
    put(tmp_path, "step3_solutions.json", {"1": "C", "3": None})
    rows, rejected = read(tmp_path)
    assert [r.id for r in rows["step3"]] == ["usmle/step3/1"]
    assert reasons(rejected) == [
        ("no published answer", "usmle/step3/2"),
        ("no published answer", "usmle/step3/3"),
    ]


def test_without_solutions_no_question_can_be_used(tmp_path: Path) -> None:
    put(tmp_path, "step3.json", [question(1), question(2)])
    rows, rejected = read(tmp_path)
    assert rows == {"step3": []}
    assert Counter(r.reason for r in rejected) == {"no published answer": 2}


def test_a_repeated_question_counts_once_and_a_repeated_number_never(tmp_path: Path) -> None:
    put(tmp_path, "step1.json", [question(1), question(1), question(2), question(2, question="Other?")])
    put(tmp_path, "step1_solutions.json", {"1": "C", "2": "C"})
    rows, rejected = read(tmp_path)
    assert [r.id for r in rows["step1"]] == ["usmle/step1/1"]
    assert reasons(rejected) == [
        ("duplicate number", "usmle/step1/1"),
        ("duplicate number", "usmle/step1/2"),
        ("duplicate number", "usmle/step1/2"),
    ]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("step1.json", b'[{"no": 1', "damaged file"),
        ("step1.json", b"\xff\xfe", "damaged file"),
        ("step1.json", b"[" * 100_000, "damaged file"),
        ("step1.json", {"1": {}}, "unknown form of file"),
        ("step1_solutions.json", b'{"1": "C", "1": "D"}', "damaged file"),
        ("step1_solutions.json", ["C"], "unknown form of file"),
        ("step1_solutions.json", {"one": "C"}, "unknown form of file"),
        ("step1_solutions.json", {"1": 3}, "unknown form of file"),
    ],
)
def test_a_damaged_file_costs_its_step_alone(tmp_path: Path, name: str, value: Any, reason: str) -> None:
    for step in ("step1", "step2"):
        put(tmp_path, f"{step}.json", [question(1)])
        put(tmp_path, f"{step}_solutions.json", {"1": "C"})
    put(tmp_path, name, value)
    rows, rejected = read(tmp_path)
    assert rows["step1"] == []
    assert [r.id for r in rows["step2"]] == ["usmle/step2/1"]
    assert reasons(rejected) == [(reason, f"usmle/{name}")]
    assert rejected[0].remedy


def test_a_bom_is_no_harm(tmp_path: Path) -> None:
    put(tmp_path, "step1.json", b"\xef\xbb\xbf" + json.dumps([question(1)]).encode())
    put(tmp_path, "step1_solutions.json", {"1": "C"})
    rows, rejected = read(tmp_path)
    assert len(rows["step1"]) == 1
    assert rejected == []


def test_a_step_that_is_absent_is_absent(tmp_path: Path) -> None:
    put(tmp_path, "step3.json", [question(1)])
    put(tmp_path, "step3_solutions.json", {"1": "C"})
    put(tmp_path, "step2_solutions.json", {"1": "C"})
    rows, rejected = read(tmp_path)
    assert list(rows) == ["step3"]
    assert reasons(rejected) == [("solutions without questions", "usmle/step2_solutions.json")]


def test_the_sample() -> None:
    rows, rejected = read(None)
    assert {step: len(found) for step, found in rows.items()} == {"step1": 13, "step2": 13, "step3": 13}
    assert reasons(rejected) == [
        ("needs an image", "usmle/step1/13"),
        ("needs an image", "usmle/step2/14"),
        ("needs an image", "usmle/step3/14"),
    ]
    every = [row for found in rows.values() for row in found]
    assert all(row.authors == () for row in every)
    assert len({row.input for row in every}) == 39
    letters = Counter(row.answer_key for row in every)
    assert set(letters) >= set("ABCDE")
    assert max(letters.values()) <= 10


def test_the_sample_shares_no_question_with_that_of_medqa() -> None:
    from meadow.builders.medqa.builder import MedQA

    builder = MedQA()
    other = {
        row.input.split("\n\n")[0]
        for shard in builder.shards(find(builder, None))
        for row in builder.examples(shard)
    }
    mine = {row.input.split("\n\n")[0] for found in read(None)[0].values() for row in found}
    assert len(other) == 30
    assert not mine & other


class TestUSMLEBuild(BuilderTest):
    builder = USMLE
    pins = {
        "1.0.0": {"usmle_self_assessment": "7ae650636d6bf485d8e40decf841c1bf32a1eb41688cd7fd237c4e605d35c646"}
    }
