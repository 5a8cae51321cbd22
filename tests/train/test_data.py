"""Rows: where they come from, which are left out, and what is said about them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meadow.models import prompts
from meadow.train.commandline import parse
from meadow.train.data import IN_VALIDATION, TWICE, Corpus, held_out, prepare
from meadow.train.reading import DataError, sources
from meadow.train.settings import TrainSettings
from tests import stores

EXAM = {"exam": "medqa", "version": "1.0.0", "split": "test", "sample": False, "items": 100, "unjudged": 0, "items_hit": 0, "rows_hit": 0, "rows_dropped": 0, "sha256": "ab"}  # fmt: skip


class Letters:
    """A tokenizer of one token a character."""

    bos_token_id, eos_token_id, pad_token_id, chat_template = 1, 2, 0, None
    all_special_ids, added_tokens_encoder = (0, 1, 2), {}

    def __call__(self, text: str, *, add_special_tokens: bool = True, **_: Any) -> dict[str, list[int]]:
        found = [ord(letter) % 1000 + 3 for letter in text]
        return {"input_ids": [1, *found] if add_special_tokens else found}

    def build_inputs_with_special_tokens(self, ids: list[int]) -> list[int]:
        return [1, *ids]

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(chr(number) for number in ids)

    def get_vocab(self) -> dict[str, int]:
        return {}


def settings(out: Path, *data: str, **changes: Any) -> TrainSettings:
    argv = ["--model", "tiny", "--output", "x", "--out", str(out), "--data", *data]
    for key, value in {"max_length": 1024, "validation": 0, **changes}.items():
        argv += [f"--{key}", str(value)]
    return parse(argv, size="7b")


def read(found: TrainSettings) -> Corpus:
    return prepare(found, sources(found.data, found.out), Letters(), prompts.get("plain"))


def lines(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_rows_of_a_dataset_with_licences_and_exam_items(tmp_path: Path) -> None:
    rows = [stores.row(key, license="CC-BY-SA-4.0" if key < 6 else "CC0-1.0") for key in range(8)]
    hits = [
        {"exam": "medqa", "item": "medqa/test/4", "id": "ward/1", "split": "train", "kind": "verbatim", "dropped": False},
        {"exam": "medqa", "item": "medqa/test/9", "id": "ward/dropped", "split": "train", "kind": "verbatim", "dropped": True},
    ]  # fmt: skip
    stores.put(
        tmp_path, {"train": rows, "validation": [stores.row(8)], "test": [stores.row(9)]}, beside={"contamination": hits},
        contamination={
            "policy": "flag", "exams": [EXAM], "unchecked": ["usmle is not built"], "unchecked_exams": ["usmle"],
        },
    )  # fmt: skip
    corpus = read(settings(tmp_path, "ward@1.0", validation=0.5))
    assert corpus.ids == [f"ward/{key}" for key in range(9)], (
        "the dataset's own validation split; no test row"
    )
    assert (corpus.rows, corpus.validation) == (8, 1)
    found = corpus.provenance.data[0]
    assert (found["name"], found["version"], found["rows"], found["trained_rows"]) == ("ward", "1.0.0", 10, 8)
    assert len(found["ids_sha256"]) == len(found["rows_sha256"]) == 64
    assert found["licenses"] == {"CC-BY-SA-4.0": 6, "CC0-1.0": 2}
    assert corpus.provenance.license_verdict["rows"] == 8
    assert "CC-BY-SA-4.0" in corpus.provenance.license_verdict["adaptation"]["answer"]
    assert corpus.provenance.exam_hits["medqa"]["items"] == ["medqa/test/4"]
    assert (
        corpus.provenance.exam_hits["medqa"]["checked"],
        corpus.provenance.exam_hits["medqa"]["complete"],
    ) == (100, True)
    assert corpus.provenance.unchecked == ["ward 1.0.0: usmle is not built"]
    assert corpus.provenance.unchecked_exams == [["usmle"]]
    assert (
        found["trained_ids_sha256"]
        == hashlib.sha256("".join(f"{row}\n" for row in corpus.ids[:8]).encode()).hexdigest()
    )


def test_what_was_not_compared_with_an_exam_is_said(tmp_path: Path) -> None:
    stores.put(
        tmp_path,
        {"train": [stores.row(1)]},
        contamination={"policy": "drop", "exams": [EXAM], "unchecked": []},
    )
    stores.put(
        tmp_path,
        {"train": [stores.row(2, id="bay/2")]},
        name="bay",
        contamination={"policy": "off", "exams": [], "unchecked": []},
    )
    corpus = read(settings(tmp_path, "ward", "bay"))
    assert corpus.provenance.exam_hits["medqa"]["complete"] is False
    assert corpus.provenance.unchecked == [
        "bay 1.0.0: its rows were not compared with any exam",
        "bay: its rows were not compared with all of medqa",
    ]
    assert corpus.provenance.unchecked_exams == [[], ["medqa"]]


def test_a_mixture_has_the_exam_items_of_its_parts(tmp_path: Path) -> None:
    hit = {
        "exam": "medqa",
        "item": "medqa/test/4",
        "id": "ward/1",
        "split": "train",
        "kind": "verbatim",
        "dropped": False,
    }
    part = stores.put(
        tmp_path, {"train": [stores.row(1), stores.row(2)]}, beside={"contamination": [hit]},
        contamination={"policy": "flag", "exams": [EXAM], "unchecked": []},
    )  # fmt: skip
    taken = {
        "split": ["train"], "wanted": None, "available": 1, "taken": 1, "ids_sha256": "x", "sample": False,
        "contamination": {}, "privacy": {}, "duplicates": {},
    }  # fmt: skip
    parts = [
        {"dataset": "ward", "version": "1.0.0", "rows_sha256": part["rows_sha256"], **taken},
        {"dataset": "gone", "version": "2.0.0", "rows_sha256": "x", **taken},
    ]
    stores.put(
        tmp_path, {"train": [stores.row(1, dataset="ward"), stores.row(3, dataset="gone")]}, name="mixture_x",
        features={**stores.LEVEL, "dataset": "string"},
        mixture={
            "name": "x", "definition_sha256": "x", "seed": 1, "complete": True, "parts": parts, "missing": [],
            "not_in_meadow": [], "counts_from": "", "licensing": {},
        },
    )  # fmt: skip
    corpus = read(settings(tmp_path, "mixture_x"))
    assert corpus.provenance.exam_hits["medqa"]["items"] == ["medqa/test/4"]
    assert corpus.provenance.exam_hits["medqa"]["complete"] is False
    assert any(text.startswith("gone 2.0.0, a part of mixture_x") for text in corpus.provenance.unchecked)


def test_rows_of_a_file_are_compared_with_the_exams_that_are_built(tmp_path: Path) -> None:
    question = (
        "A 52-year-old farmer has a painless ulcer with a black eschar on the forearm after shearing sheep; gram-positive "
        "rods in long chains grow from it. Which virulence factor causes the oedema around such a lesion?"
    )
    exam = stores.row("q", id="ward/q", input=question, output="Adenylate cyclase")
    stores.put(tmp_path / "out", {"test": [exam]}, test_only=True)
    path = lines(
        tmp_path / "mine.jsonl",
        [
            {"instruction": "Answer", "input": question, "output": "It is adenylate cyclase."},
            {"instruction": "Say hello", "output": "Hello"},
        ],
    )
    corpus = read(settings(tmp_path / "out", path))
    assert corpus.provenance.exam_hits["ward"]["items"] == ["ward/q"]
    assert corpus.provenance.exam_hits["ward"]["complete"] is True
    assert corpus.provenance.unchecked == []


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
def test_files(tmp_path: Path, ending: str) -> None:
    rows = [{"instruction": "Say", "input": f"word {n}", "output": f"answer {n}"} for n in range(4)]
    path = tmp_path / f"mine.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "json":
        path.write_text(json.dumps(rows))
    else:
        lines(path, rows)
    corpus = read(settings(tmp_path, str(path)))
    assert corpus.ids == [f"mine.{ending}:{n}" for n in range(1, 5)]
    assert corpus.provenance.data[0]["licenses"] == {"LicenseRef-unknown": 4}
    assert "no exam is built" in corpus.provenance.unchecked[0]


def test_what_is_left_out_is_counted_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    long = "many words of a case " * 30
    rows = [
        {"id": "a", "instruction": "Say", "output": "yes"},
        {"id": "a", "instruction": "Say", "output": "no"},
        {"id": "b", "instruction": "Say", "output": "  "},
        {"id": "c", "instruction": "Say", "output": "x" * 500},
        {"id": "d", "instruction": "Say", "input": long, "output": "the whole answer"},
        # What JSON can say and nobody means.
        {"id": "e", "instruction": "Say \ud83d", "output": "half a character"},
        {
            "id": "f",
            "instruction": "Say",
            "output": ["no", "text"],
            "license": ["no", "name"],
            "generator": {},
        },
    ]
    lines(path, rows)
    with path.open("a") as stream:
        stream.write("{broken\n")
    corpus = read(settings(tmp_path, str(path), max_length=220))
    assert corpus.ids == ["a", "d"]
    assert corpus.truncated == ["d"]
    counts = corpus.counts()
    assert counts["rows"] == 8
    assert counts["rows"] == counts["trained"] + counts["validation_rows"] + sum(counts["refused"].values())
    assert counts["refused"][TWICE] == 1
    assert counts["refused"]["empty answer"] == 1
    assert ("mine.jsonl:6", "holds half a character (a lone surrogate)") in corpus.left_out
    assert ("mine.jsonl:8", "no row") in corpus.left_out
    assert ("f", "not a text") in corpus.left_out
    assert ("c", "answer would be cut to less than half") in corpus.left_out
    assert corpus.lengths.max() <= 220
    whole = [ord(letter) % 1000 + 3 for letter in "the whole answer"]
    assert whole == [t for t in corpus.tokens[corpus.offsets[1] :].tolist() if t != 2][-len(whole) :]


def test_the_loss_is_on_answers_or_on_everything_but_never_on_a_rows_first_token(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "mine.jsonl",
        [{"instruction": "Say", "output": "yes"}, {"instruction": "Tell", "output": "no"}],
    )
    answers = read(settings(tmp_path, path, train_on_inputs=False))
    whole = read(settings(tmp_path, path, train_on_inputs=True))
    assert answers.counts()["trained_tokens"] <= len(" yes") + len(" no") + 2
    assert whole.trained.sum() == len(whole.tokens) - 2
    assert not whole.trained[whole.offsets[:-1]].any()
    assert answers.digest() != whole.digest()


def test_a_group_is_never_on_both_sides(tmp_path: Path) -> None:
    rows = [stores.row(key, group=f"page {key // 3}") for key in range(300)]
    stores.put(tmp_path, {"train": rows})
    stores.put(
        tmp_path,
        {"train": [stores.row("x", group="page 1")], "validation": [stores.row("y", group="page 2")]},
        name="bay",
    )
    corpus = read(settings(tmp_path, "ward", "bay", validation=0.2))
    group = {row["id"]: row["group"] for row in rows} | {"ward/x": "page 1", "ward/y": "page 2"}
    train = {group[row] for row in corpus.ids[: corpus.rows]}
    held = {group[row] for row in corpus.ids[corpus.rows :]}
    assert not train & held
    assert 10 <= len(held) <= 32
    assert "page 2" in held
    assert (IN_VALIDATION in corpus.counts()["refused"]) == (not held_out("ward\npage 2", 0.2))
    assert np.array_equal(read(settings(tmp_path, "ward", "bay", validation=0.2)).tokens, corpus.tokens)


def test_all_that_is_wrong_with_the_data_is_said_at_once(tmp_path: Path) -> None:
    stores.put(tmp_path, {"train": [stores.row(1)]}, name="exam", test_only=True)
    stores.put(tmp_path, {"test": [stores.row(1)]}, name="only_test")
    pq.write_table(pa.table({"question": ["a"], "answer": ["b"]}), tmp_path / "foreign.parquet")
    (tmp_path / "broken.json").write_text('{"instruction": "a"}\n{"instruction": "b"}')
    (tmp_path / "empty.jsonl").write_text("")
    lines(tmp_path / "no_answer.jsonl", [{"instruction": "a", "text": "b"}])
    names = ("foreign.parquet", "broken.json", "empty.jsonl", "no_answer.jsonl")
    with pytest.raises(DataError) as caught:
        sources(["exam", "only_test", "unknown_name", *(str(tmp_path / name) for name in names)], tmp_path)
    text = str(caught.value)
    for expected in (
        "data exam: it is an exam", "no split `train`, only test", "no dataset is named 'unknown_name'",
        "no column instruction or input and no column output; there are: question, answer", "broken.json: it is no JSON",
        "empty.jsonl: it holds no rows", "no_answer.jsonl: it has no column output; there are: instruction, text",
    ):  # fmt: skip
        assert expected in text
    with pytest.raises(DataError, match="no row of .* can be trained on: empty answer: 1"):
        read(settings(tmp_path, lines(tmp_path / "one.jsonl", [{"instruction": "a", "output": ""}])))


def test_of_an_answer_that_is_cut_exactly_half_is_enough(tmp_path: Path) -> None:
    # The prompt has 13 tokens: BOS and "Say\n\nAnswer:"; the answers 10 and 11, with the blank before them.
    rows = [{"id": "ten", "instruction": "Say", "output": "x" * 9}]
    rows.append({"id": "eleven", "instruction": "Say", "output": "x" * 10})
    path = lines(tmp_path / "mine.jsonl", rows)
    half = read(settings(tmp_path, path, max_length=13 + 5, train_on_inputs=False))
    assert (half.ids, half.truncated, half.counts()["trained_tokens"]) == (["ten"], ["ten"], 5)
    assert half.left_out == [("eleven", "answer would be cut to less than half")]
    with pytest.raises(DataError, match="answer would be cut to less than half: 2"):
        read(settings(tmp_path, path, max_length=13 + 4))
