"""Exams: the splits of built datasets, files in many forms, and what makes one unusable."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meadow.api import build_datasets
from meadow.core.store import Store
from meadow.filters.contamination import Index, built_exams
from meadow.score.exams import Exam, ExamError, ExamItem, read_exam
from tests import stores

QUESTION = "Which vitamin is missing in scurvy?"
OPTIONS = {"A": "Vitamin A", "B": "Vitamin B12", "C": "Vitamin C"}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with the samples of the exams."""
    folder = tmp_path_factory.mktemp("out")
    assert not build_datasets(["usmle", "medqa", "pubmedqa"], out=folder, sample=True).failed
    return folder


def question(**changes: Any) -> dict[str, Any]:
    return {"id": "q1", "question": QUESTION, "options": OPTIONS, "answer_idx": "C", **changes}


def write(path: Path, records: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_the_self_assessment_by_steps(out: Path) -> None:
    exam = read_exam("usmle_self_assessment", out=out)
    assert (exam.name, exam.version, exam.sample, exam.license) == (
        "usmle_self_assessment",
        "1.0.0",
        True,
        "CC0-1.0",
    )
    assert exam.parts == ("step1", "step2", "step3")
    assert len(exam.items) == exam.whole == 39
    # One question of each step of the sample needs its image.
    assert exam.excluded == {"with image": 3}
    assert exam.excluded_parts == {step: {"with image": 1} for step in exam.parts}
    item = exam.items[0]
    assert (item.id, item.part, item.answer_key) == ("usmle/step1/1", "step1", "D")
    assert item.question.endswith("most likely deficient in this patient?")
    assert list(item.options) == ["A", "B", "C", "D", "E"]
    # What is asked is what the dataset says, when the options stand as they are written there.
    assert all(item.text() == item.input for item in exam.items)
    assert item.text({"A": "one", "B": "two"}).endswith("patient?\n\nA: one\nB: two")
    ids = sorted(item.id for item in exam.items)
    assert exam.ids_sha256 == hashlib.sha256("".join(f"{i}\n" for i in ids).encode()).hexdigest()


def test_its_parts_are_known_as_contamination_reports_know_them(out: Path) -> None:
    exam = read_exam("usmle_self_assessment", out=out)
    index = Index.build(built_exams(Store(out), "usmle_self_assessment"))
    assert exam.checked_as == {known.split: known.sha256 for known in index.exams}


def test_a_dataset_has_its_test_split_or_the_one_named(out: Path) -> None:
    test, validation = read_exam("medqa", out=out), read_exam("medqa@1.0", out=out, split="validation")
    assert (test.parts, validation.parts) == (("test",), ("validation",))
    assert not {i.id for i in test.items} & {i.id for i in validation.items}
    assert len(next(iter(read_exam("medqa_4_options", out=out).items)).options) == 4


def test_answers_that_are_words_get_letters(out: Path) -> None:
    item = read_exam("pubmedqa", out=out).items[0]
    assert item.options == {"A": "yes", "B": "no", "C": "maybe"}
    assert (item.answer_key, item.id) == ("B", "pubmedqa/90000002")
    assert item.question.endswith("with acute bronchitis?")
    assert item.context.startswith("OBJECTIVE: ")
    assert item.text() == f"{item.input}\n\nA: yes\nB: no\nC: maybe"
    # The row's own asks for another form of answer.
    assert item.instruction == "Please answer with one of the options"


def test_a_limit_takes_the_first_of_each_part(out: Path) -> None:
    whole, exam = (
        read_exam("usmle_self_assessment", out=out),
        read_exam("usmle_self_assessment", out=out, limit=5),
    )
    assert [item.id.removeprefix("usmle/") for item in exam.items] == [
        "step1/1", "step1/2", "step2/1", "step2/2", "step3/1",
    ]  # fmt: skip
    assert (exam.whole, exam.checked_as) == (39, whole.checked_as)
    assert exam.items_sha256 != whole.items_sha256
    assert read_exam("usmle_self_assessment", out=out, limit=99) == whole
    with pytest.raises(ExamError, match="nothing to score"):
        read_exam("medqa", out=out, limit=0)


def test_what_is_not_built_is_built_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    # In the folders of `own_folders`, which are empty.
    exam = read_exam("usmle_self_assessment")
    assert (exam.sample, len(exam.items)) == (True, 39)
    assert "SAMPLE of usmle" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "split", "words"),
    [
        ("medqa", "final", "has no split final; it has: train, validation, test"),
        ("medqa@7.0.0", None, "has no version 7.0.0"),
        ("nosuchexam", None, "no file has this name"),
        ("pubmedqa_artificial", None, "has no test split; name one of its splits: train"),
        ("gone.jsonl", None, "there is no such file"),
        (".", None, "it is a folder"),
    ],
)
def test_names_that_are_no_exam(out: Path, name: str, split: str | None, words: str) -> None:
    with pytest.raises(ExamError, match=words):
        read_exam(name, out=out, split=split)


def test_rows_of_a_dataset_that_cannot_be_scored(tmp_path: Path) -> None:
    rows = [
        stores.row(
            "a", input="What?", options=[{"key": k, "text": t} for k, t in OPTIONS.items()], answer_key="C"
        ),
        stores.row("b", input="What?", options=[], answer_key=None),
        stores.row(
            "c", input="What?", options=[{"key": k, "text": k * 2} for k in ("A", "B")], answer_key="D"
        ),
    ]
    stores.put(tmp_path, {"test": rows})
    with pytest.raises(ExamError) as caught:
        read_exam("ward", out=tmp_path)
    assert [line.split(":")[0] for line in caught.value.problems] == ["ward/b", "ward/c"]
    assert "2 items cannot be scored" in str(caught.value)
    assert "ward/c: the answer 'D' is no option; there are A, B" in str(caught.value)
    stores.put(tmp_path, {"test": rows[:1]}, beside={"rejected": [
        {"id": "ward/x", "reason": "needs an image", "file": "ward/test.jsonl"},
        {"id": "ward/raw/test.jsonl:7", "reason": "line is no JSON record", "file": "ward/test.jsonl"},
    ]})  # fmt: skip
    exam = read_exam("ward", out=tmp_path)
    # Whose split is not in its id may be of another one.
    assert (len(exam.items), exam.excluded) == (1, {"line is no JSON record": 1})


FORMS = {
    "medqa": question(),
    "list": question(options=list(OPTIONS.values()), answer_idx=2),
    "pairs": question(options=[{"key": k, "text": t} for k, t in OPTIONS.items()]),
    "text": question(options=json.dumps(OPTIONS)),
    "arc": {"id": "q1", "question": QUESTION, "choices": {"text": list(OPTIONS.values()), "label": list("ABC")}, "answerKey": "C"},
    "medmcqa": {"id": "q1", "question": QUESTION, **dict(zip(("opa", "opb", "opc"), OPTIONS.values(), strict=True)), "cop": 2},
    "spread": {"ID": "q1", "Question": QUESTION, **OPTIONS, "Answer": "C"},
    "answer as text": {"qid": "q1", "question": QUESTION, "options": OPTIONS, "answer": "Vitamin C"},
    "ours": {
        "id": "q1", "instruction": "Please answer with one of the options", "output": "C: Vitamin C", "answer_key": "C",
        "input": f"{QUESTION}\n\nA: Vitamin A\nB: Vitamin B12\nC: Vitamin C",
        "options": [{"key": k, "text": t} for k, t in OPTIONS.items()],
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_files_in_the_forms_that_exams_are_published_in(tmp_path: Path, form: str) -> None:
    exam = read_exam(write(tmp_path / "scurvy.jsonl", [FORMS[form]]))
    item = exam.items[0]
    assert (exam.name, exam.version, exam.sample) == ("scurvy", "", False)
    assert (item.id, item.question, dict(item.options), item.answer_key) == ("q1", QUESTION, OPTIONS, "C")
    assert item.part == "scurvy"
    assert item.text() == f"{QUESTION}\n\nA: Vitamin A\nB: Vitamin B12\nC: Vitamin C"


def test_pubmedqa_as_it_is_published(tmp_path: Path) -> None:
    record = {
        "QUESTION": "Is it?",
        "CONTEXTS": ["One.", "Two."],
        "LONG_ANSWER": "It is.",
        "final_decision": "maybe",
    }
    path = tmp_path / "ori_pqal.json"
    path.write_text(json.dumps({"123": record}), encoding="utf-8")
    item = read_exam(path).items[0]
    assert (item.id, item.answer_key, item.context) == ("123", "C", "One.\n\nTwo.")
    assert item.text() == "Is it?\n\nOne.\n\nTwo.\n\nA: yes\nB: no\nC: maybe"


def test_json_csv_and_parquet(tmp_path: Path) -> None:
    wanted = read_exam(write(tmp_path / "scurvy.jsonl", [question()]))
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "scurvy.json").write_text(json.dumps([question()]), encoding="utf-8")
    with (tmp_path / "scurvy.csv").open("w", newline="") as out:
        csv.writer(out).writerows(
            [["id", "question", *OPTIONS, "answer"], ["q1", QUESTION, *OPTIONS.values(), "C"]]
        )
    pq.write_table(pa.Table.from_pylist([question()]), tmp_path / "scurvy.parquet")
    for path in (tmp_path / "one" / "scurvy.json", tmp_path / "scurvy.csv", tmp_path / "scurvy.parquet"):
        assert read_exam(path).items_sha256 == wanted.items_sha256


def test_parts_context_and_images_of_a_file(tmp_path: Path) -> None:
    records = [
        question(id="1", step="step2"),
        question(id="2", step="step1", context="He ate hardtack for months."),
        question(id="3", step="step2", image="scan.png"),
        question(id="4", step="step2", has_image=False, image=""),
        question(id="5", step="step1", has_image="yes"),
    ]
    exam = read_exam(write(tmp_path / "steps.jsonl", records))
    assert [(item.id, item.part) for item in exam.items] == [("1", "step2"), ("4", "step2"), ("2", "step1")]
    assert exam.excluded == {"with image": 2}
    assert exam.excluded_parts == {"step2": {"with image": 1}, "step1": {"with image": 1}}
    assert exam.items[2].text().startswith(f"{QUESTION}\n\nHe ate hardtack for months.\n\nA: ")
    with pytest.raises(ExamError, match="holds no item that can be scored; all 1 need an image"):
        read_exam(write(tmp_path / "steps.jsonl", records[2:3]))


def test_all_bad_items_are_named_at_once(tmp_path: Path) -> None:
    bad = {
        "no-letter": question(options={"1": "Vitamin A", "2": "Vitamin C"}, answer_idx="2"),
        "no-option": question(answer_idx="E"),
        "no-answer": question(answer_idx=None),
        "one": question(options={"A": "Vitamin C"}, answer_idx="A"),
        "none": question(options=None),
        "blank": question(options={"A": "Vitamin A", "B": " ", "C": "x"}),
        "same": question(options={"A": "Vitamin A", "B": "vitamin  a", "C": "x"}),
        "number": question(options=7),
        "words": question(options="A or B"),
        "asks nothing": question(question="  "),
    }
    records = [{**record, "id": name} for name, record in bad.items()]
    path = write(tmp_path / "bad.jsonl", [question(), *records, question()])
    before = path.read_bytes()
    with pytest.raises(ExamError) as caught:
        read_exam(path)
    told = dict(line.split(": ", 1) for line in caught.value.problems)
    assert list(told) == [*bad, "q1"]
    assert told["no-letter"].startswith("options are not letters: '1', '2'")
    assert told["no-option"] == "the answer 'E' is no option; there are A, B, C"
    assert told["one"] == "it has one option; two are needed"
    assert told["none"] == "it has no options; two are needed"
    assert told["blank"] == "option B has no text"
    assert told["same"] == "two options have the same text"
    assert told["asks nothing"].startswith("it has no question among its fields")
    assert told["q1"] == "record 12 has the id of record 1"
    assert str(caught.value).startswith(f"{path}: 11 items cannot be scored; repair or remove them")
    assert path.read_bytes() == before


def test_half_a_character_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "exam.jsonl"
    records = [question(), {**question(), "id": "q2", "question": "Which \ud83d is it?"}]
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    with pytest.raises(ExamError, match="record 2: it holds half a character"):
        read_exam(path)


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.jsonl", [question(id=f"q{n}", answer_idx="E") for n in range(50)])
    with pytest.raises(ExamError) as caught:
        read_exam(path)
    assert len(caught.value.problems) == 50
    assert str(caught.value).endswith("and 30 more")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cut.jsonl", '{"question": ', "cut.jsonl: it cannot be read"),
        ("empty.jsonl", "", "holds no item"),
        ("list.jsonl", "[1]\n", "record 1: it is no object"),
        ("one.json", "3", "no list of records"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ExamError, match=words):
        read_exam(tmp_path / name)


def test_an_exam_made_by_hand_is_complete() -> None:
    item = ExamItem("q1", QUESTION, OPTIONS, "C", "all", "")
    exam = Exam("mine", "", (item,))
    other = Exam("mine", "", (ExamItem("q1", QUESTION, OPTIONS, "B", "all", ""),))
    assert (exam.whole, exam.ids_sha256) == (1, hashlib.sha256(b"q1\n").hexdigest())
    assert exam.ids_sha256 == other.ids_sha256
    assert exam.items_sha256 != other.items_sha256
    assert exam.described()["parts"] == {"all": 1}
