"""Which items a model may have read: what its folder says, what is compared now, and when nobody can say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from meadow.score import leaks
from meadow.score.exams import Exam, ExamItem, read_exam
from tests import stores
from tests.exam_texts import vignettes

VIGNETTES = vignettes(6)
IDS = [v.id for v in VIGNETTES]
WARD = {"name": "ward", "version": "1.0.0"}


def letters(texts: tuple[str, ...]) -> dict[str, str]:
    return dict(zip("ABCD", texts, strict=True))


@pytest.fixture(scope="module")
def exam() -> Exam:
    items = []
    for number, v in enumerate(VIGNETTES):
        options = letters(v.options)
        key = next(k for k, text in options.items() if text == v.answer)
        items.append(ExamItem(v.id, v.question, options, key, "step1" if number < 3 else "step2", ""))
    return Exam("wards", "1.0.0", tuple(items), checked_as={"step1": "aa", "step2": "bb"})


def run(folder: Path, hits: Mapping[str, Any] | None, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    found = {"data": [WARD], "exam_hits": hits, "unchecked": [], **more}
    (folder / "run.json").write_text(json.dumps(found), encoding="utf-8")
    return folder


def entry(*items: str, **more: Any) -> dict[str, Any]:
    return {
        "checked": 6, "versions": ["1.0.0"], "sha256": {"step1": "aa", "step2": "bb"}, "sample": False,
        "complete": True, "items": list(items), **more,
    }  # fmt: skip


def test_the_folder_says_it(tmp_path: Path, exam: Exam) -> None:
    found = leaks.known(
        exam, model=run(tmp_path, {"wards": entry("v1", "v4", "other"), "medqa": entry("v2")})
    )
    assert found.source == "run.json of the model (trained on ward 1.0.0)"
    assert found.hit == {"v1", "v4"}
    assert found.clean == {"v0", "v2", "v3", "v5"}
    assert found.notes == ()
    assert [found.state(i) for i in ("v1", "v2", "v9")] == ["hit", "clean", "unknown"]


@pytest.mark.parametrize(
    ("hits", "more", "clean", "words"),
    [
        (None, {}, set(), "Every item is unknown"),
        ({"medqa": entry()}, {}, set(), "Every item is unknown"),
        ({"wards": entry(complete=False)}, {"unchecked": ["ward: its rows were not compared with all of wards"]}, set(), "Not compared: ward: its rows"),
        ({"wards": entry(sha256={"step1": "aa", "step2": "zz"})}, {}, {"v0", "v1", "v2"}, "another edition of wards, with other items in step2"),
        ({"wards": entry(sha256={"step1": "zz", "step2": "zz"}, sample=True)}, {}, set(), "compared with the embedded sample of wards"),
        ({"wards": entry(sha256={"step1": "aa"})}, {}, {"v0", "v1", "v2"}, "3 of 6 items are unknown"),
        ({"wards": {"checked": 6, "items": []}}, {"unchecked": ["ward: there is only its sample"]}, set(), "there is only its sample"),
    ],
)  # fmt: skip
def test_what_it_does_not_say_is_unknown(
    tmp_path: Path, exam: Exam, hits: Any, more: Any, clean: set[str], words: str
) -> None:
    found = leaks.known(exam, model=run(tmp_path, hits, **more))
    assert found.clean == clean
    assert words in " ".join(found.notes)
    assert bool(found.source) is bool(clean)


def test_the_short_form_of_a_record(tmp_path: Path, exam: Exam) -> None:
    found = leaks.known(exam, model=run(tmp_path, {"wards": {"checked": 6, "items": ["v5"]}}))
    assert (found.hit, len(found.clean)) == ({"v5"}, 5)
    by_split = {"wards step1": {"checked": 3, "items": ["v0"]}}
    found = leaks.known(exam, model=run(tmp_path, by_split))
    assert (found.hit, found.clean) == ({"v0"}, {"v1", "v2"})


def test_only_what_concerns_the_exam_is_repeated(tmp_path: Path, exam: Exam) -> None:
    unchecked = [
        "medqa 1.0.0: its rows were not compared with any exam",
        "ward 1.0.0: pubmedqa: there is only its sample",
        "ward: its rows were not compared with all of wards",
    ]
    exams = [[], ["pubmedqa"], ["wards", "medqa"]]
    found = leaks.known(
        exam,
        model=run(
            tmp_path, {"wards": entry("v1", complete=False)}, unchecked=unchecked, unchecked_exams=exams
        ),
    )
    assert found.notes[1:] == tuple(f"Not compared: {unchecked[n]}." for n in (0, 2))
    # A record that does not say which exams its sentences are about may mean any.
    short = run(tmp_path, {"wards": entry("v1", complete=False)}, unchecked=unchecked)
    assert leaks.known(exam, model=short).notes[1:] == tuple(f"Not compared: {why}." for why in unchecked)
    # All of the data were compared with this exam, whatever else was not.
    found = leaks.known(exam, model=run(tmp_path, {"wards": entry("v1")}, unchecked=unchecked[1:2]))
    assert (len(found.clean), found.notes) == (5, ())


def test_hits_count_even_where_the_rest_is_unknown(tmp_path: Path, exam: Exam) -> None:
    found = leaks.known(exam, model=run(tmp_path, {"wards": entry("v3", complete=False)}))
    assert found.source
    assert (found.hit, found.clean) == ({"v3"}, frozenset())
    assert "5 of 6 items are unknown" in found.notes[0]


def test_what_a_model_was_made_from_counts_too(tmp_path: Path, exam: Exam) -> None:
    first = run(tmp_path / "first", {"wards": entry("v0")}, data=[{"name": "cards", "version": "2.0.0"}])
    second = run(tmp_path / "second", {"wards": entry("v1")}, base_model={"path": str(first)})
    found = leaks.known(exam, model=second)
    assert found.hit == {"v0", "v1"}
    assert found.clean == {"v2", "v3", "v4", "v5"}
    assert found.source.endswith("(trained on ward 1.0.0, cards 2.0.0)")
    # A circle of models ends.
    run(first, {"wards": entry("v0")}, base_model={"path": str(second)})
    assert leaks.known(exam, model=second).hit == {"v0", "v1"}


@pytest.mark.parametrize(
    "record",
    [
        "{",
        '{"base_model": "llama-7b"}',
        '{"data": "s3://rows", "base_model": "llama"}',
        '{"data": ["rows"]}',
        '{"exam_hits": [1]}',
        '{"exam_hits": {"wards": 5}}',
    ],
)
def test_a_record_that_cannot_be_read_makes_nothing_clean(tmp_path: Path, exam: Exam, record: str) -> None:
    first = tmp_path / "first"
    first.mkdir()
    (first / "run.json").write_text(record, encoding="utf-8")
    assert leaks.known(exam, model=first).source == ""
    second = run(tmp_path / "second", {"wards": entry("v1")}, base_model={"path": str(first)})
    found = leaks.known(exam, model=second)
    assert (found.hit, found.clean) == ({"v1"}, frozenset())
    assert "cannot be read" in found.notes[0]


@pytest.mark.parametrize("model", [None, "nowhere", "empty"])
def test_nothing_is_known(tmp_path: Path, exam: Exam, model: str | None) -> None:
    (tmp_path / "empty").mkdir()
    found = leaks.known(exam, model=model and tmp_path / model)
    assert found.source == ""
    assert {found.state(i) for i in IDS} == {"unknown"}
    assert "--trained-on" in found.notes[0]


def test_rows_that_were_left_out_make_no_hit(tmp_path: Path, exam: Exam) -> None:
    lines = [
        {"exam": "wards", "item": "v0", "id": "ward/1", "dropped": True},
        {"exam": "wards", "item": "v1", "id": "ward/2", "dropped": True},
        {"exam": "wards", "item": "v1", "id": "ward/3", "dropped": False},
        {"exam": "medqa", "item": "v2", "id": "ward/4", "dropped": True},
    ]
    stores.put(tmp_path / "out", {"train": [stores.row("a")]}, beside={"contamination": lines})
    model = run(tmp_path / "model", {"wards": entry("v1")})
    found = leaks.known(exam, model=model, out=tmp_path / "out")
    # v1 stood in a row that was trained on as well.
    assert (found.hit, found.dropped) == ({"v1"}, 1)
    assert "v0" in found.clean
    assert leaks.known(exam, model=model, out=tmp_path / "elsewhere").dropped is None


def test_data_are_compared_now(tmp_path: Path, exam: Exam) -> None:
    asked = [
        {"instruction": "Answer", "input": VIGNETTES[n].question, "output": VIGNETTES[n].answer}
        for n in (0, 4)
    ]
    plain = [
        {"instruction": "Answer", "input": f"What is {n}?", "output": f"A number, {n}."} for n in range(20)
    ]
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [*plain, *asked]), encoding="utf-8")
    # The folder is not asked then.
    model = run(tmp_path / "model", {"wards": entry("v2")})
    found = leaks.known(exam, model=model, trained_on=[str(file)], out=tmp_path)
    assert found.hit == {"v0", "v4"}
    assert len(found.clean) == 4
    assert found.source == f"compared now with 22 rows of {file}"
    rows = [stores.row("v3", input=VIGNETTES[3].question, output=VIGNETTES[3].answer), stores.row("b")]
    stores.put(tmp_path, {"train": rows}, name="cards")
    stores.put(tmp_path, {"train": [stores.row("b")]}, name="cards", version="2.0.0")
    assert leaks.known(exam, trained_on=["cards"], out=tmp_path).hit == frozenset()
    assert leaks.known(exam, trained_on=["cards@1.0.0", str(file)], out=tmp_path).hit == {"v0", "v3", "v4"}


def test_a_built_exam_against_the_split_it_is_scored_on(tmp_path: Path) -> None:
    rows = []
    for v in VIGNETTES:
        options = letters(v.options)
        key = next(k for k, text in options.items() if text == v.answer)
        told = "\n".join(f"{k}: {t}" for k, t in options.items())
        rows.append(
            stores.row(
                v.id,
                input=f"{v.question}\n\n{told}",
                output=f"{key}: {v.answer}",
                options=[{"key": k, "text": t} for k, t in options.items()],
                answer_key=key,
            )
        )
    stores.put(tmp_path, {"train": rows[:2], "test": rows}, name="wards")
    exam = read_exam("wards", out=tmp_path)
    found = leaks.known(exam, trained_on=["wards"], out=tmp_path)
    assert (found.hit, len(found.clean)) == ({"ward/v0", "ward/v1"}, 4)


def test_data_that_are_nowhere(tmp_path: Path, exam: Exam) -> None:
    with pytest.raises(leaks.LeaksError, match="--trained-on nothing: .*no file has this name"):
        leaks.known(exam, trained_on=["nothing"], out=tmp_path)
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(leaks.LeaksError, match=r"empty\.jsonl: it holds no row to check"):
        leaks.known(exam, trained_on=[str(tmp_path / "empty.jsonl")], out=tmp_path)
