"""MedQA: loose files, compressed files, the publisher's archive, bad records, and the real dev split."""

from __future__ import annotations

import gzip
import json
import pickle
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from meadow.builders.medqa.builder import MedQA
from meadow.core.rawfile import RawFileError
from meadow.core.rawstore import find
from meadow.core.row import Example, Option, Rejected
from meadow.testing import BuilderTest

FOUR = "4_options/phrases_no_exclude_"


def record(**changes: Any) -> dict[str, Any]:
    """A record in the publisher's form; a change to None takes the key away."""
    made = {
        "question": "A child has a barking cough and stridor at rest. Which drug is given first?",
        "answer": "Nebulized epinephrine",
        "options": {
            "A": "Amoxicillin",
            "B": "Codeine",
            "C": "Loratadine",
            "D": "Nebulized epinephrine",
            "E": "Oseltamivir",
        },
        "meta_info": "step2&3",
        "answer_idx": "D",
    }
    made.update(changes)
    return {key: value for key, value in made.items() if value is not None}


def lines(*records: Any) -> bytes:
    return b"".join(json.dumps(r, ensure_ascii=False).encode("utf-8") + b"\n" for r in records)


def put(root: Path, name: str, data: bytes) -> Path:
    path = root / "medqa" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def put_zip(root: Path, members: dict[str, bytes], name: str = "data_clean.zip") -> Path:
    path = root / "medqa" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return path


def read(root: Path | None) -> tuple[dict[str, list[Example]], list[Rejected]]:
    """Runs the builder as a build does; returns rows by shard key and all that was rejected."""
    builder = MedQA()
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


def only(root: Path) -> Example:
    rows, rejected = read(root)
    assert rejected == []
    ((row,),) = rows.values()
    return row


def test_a_record_becomes_a_row(tmp_path: Path) -> None:
    put(tmp_path, "questions/US/dev.jsonl", lines(record()))
    row = only(tmp_path)
    assert row.instruction == "Please answer with one of the options"
    assert row.input == (
        "A child has a barking cough and stridor at rest. Which drug is given first?\n\n"
        "A: Amoxicillin\nB: Codeine\nC: Loratadine\nD: Nebulized epinephrine\nE: Oseltamivir"
    )
    assert row.output == "D: Nebulized epinephrine"
    assert row.options[3] == Option("D", "Nebulized epinephrine")
    assert row.answer_key == "D"
    assert row.split == "validation"
    assert dict(row.extra) == {"meta_info": "step2&3"}
    assert row.authors[0].url == "https://github.com/jind11/MedQA"
    prefix, _, digest = row.id.rpartition("/")
    assert prefix == "medqa/us"
    assert len(digest) == 16
    assert MedQA.license.id == "LicenseRef-MedQA-disputed"


def test_outer_blanks_go_and_inner_paragraphs_stay(tmp_path: Path) -> None:
    question = "A man is weak.\n\nSerum:\nNa+: 118 mEq/L\n\nWhich is the diagnosis?"
    options = {"A": "SIADH  ", "B": " Cushing syndrome"}
    made = record(question=f" {question}\n ", options=options, answer="SIADH", answer_idx="A")
    put(tmp_path, "questions/US/train.jsonl", lines(made))
    row = only(tmp_path)
    assert row.input == f"{question}\n\nA: SIADH\nB: Cushing syndrome"
    assert row.output == "A: SIADH"


def test_options_come_in_the_order_of_their_letters(tmp_path: Path) -> None:
    options = {"C": "third", "A": "first", "B": "second"}
    put(tmp_path, "questions/US/train.jsonl", lines(record(options=options, answer="second", answer_idx="B")))
    row = only(tmp_path)
    assert [option.key for option in row.options] == ["A", "B", "C"]
    assert row.input.endswith("\n\nA: first\nB: second\nC: third")


def test_ids_are_natural_keys(tmp_path: Path) -> None:
    base = record()
    spaced = record(question=base["question"].replace(" ", "  ").upper() + "\n")
    turned = {"A": "Nebulized epinephrine", "B": "Amoxicillin", "C": "Codeine", "D": "Loratadine"}
    turned["E"] = "Oseltamivir"
    moved = record(options=turned, answer_idx="A")
    other = record(answer="Codeine", answer_idx="B")
    put(tmp_path, "questions/US/train.jsonl", lines(base, spaced, moved, other))
    put(tmp_path, f"questions/US/{FOUR}train.jsonl", lines(base))
    rows, _ = read(tmp_path)
    first, same, reordered, different = rows["medqa/train"]
    (four,) = rows["medqa_4_options/train"]
    assert first.id == same.id == reordered.id
    assert different.id != first.id
    assert four.id == first.id.replace("medqa/us/", "medqa/us-4/")
    # The question decides the group, in both datasets.
    assert {r.group for r in (first, same, reordered, different, four)} == {first.group}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"answer_idx": "F"}, "answer is no option"),
        ({"answer_idx": "d"}, "answer is no option"),
        ({"answer": "Codeine"}, "answer text does not match its option"),
        ({"answer": None}, "missing field"),
        ({"answer_idx": None}, "missing field"),
        ({"question": None}, "missing field"),
        ({"options": None}, "missing field"),
        ({"question": "  \n"}, "empty field"),
        ({"question": 7}, "field is no text"),
        ({"meta_info": ["step1"]}, "field is no text"),
        ({"options": ["a", "b"]}, "options are no object of letters and texts"),
        ({"options": {"D": "Nebulized epinephrine"}}, "options are no object of letters and texts"),
        ({"options": {"1": "a", "D": "Nebulized epinephrine"}}, "option without a letter"),
        ({"options": {"AB": "a", "D": "Nebulized epinephrine"}}, "option without a letter"),
        ({"options": {"A": " ", "D": "Nebulized epinephrine"}}, "option without text"),
        ({"options": {"A": None, "D": "Nebulized epinephrine"}}, "option without text"),
        (
            {"options": {"A": "Nebulized  epinephrine", "D": "Nebulized epinephrine"}},
            "two options with the same text",
        ),
    ],
)
def test_a_bad_record_costs_itself_alone(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    good = record(question="A good question?")
    put(tmp_path, "questions/US/dev.jsonl", lines(good, record(**changes), good))
    rows, rejected = read(tmp_path)
    assert len(rows["medqa/validation"]) == 2
    (why,) = rejected
    assert why.reason == reason
    assert why.id == "medqa/questions/US/dev.jsonl:2"
    assert why.remedy


def test_lines_that_are_no_records_are_rejected(tmp_path: Path) -> None:
    bad = b'{"question": "cut off\n' + b"[1, 2]\n" + b'{"question": "\xff"}\n' + b"\r\n"
    put(
        tmp_path,
        "questions/US/test.jsonl",
        b"\xef\xbb\xbf" + lines(record()).replace(b"\n", b"\r\n") + bad,
    )
    rows, rejected = read(tmp_path)
    assert len(rows["medqa/test"]) == 1
    assert [r.reason for r in rejected] == ["line is no JSON record"] * 3
    assert [r.id.rsplit(":")[-1] for r in rejected] == ["2", "3", "4"]


def test_compressed_files_read_like_plain_ones(tmp_path: Path) -> None:
    put(tmp_path, "questions/US/train.jsonl.gz", gzip.compress(lines(record())))
    put(
        tmp_path,
        f"questions/US/{FOUR}train.jsonl.zst",
        zstandard.ZstdCompressor().compress(lines(record())),
    )
    rows, rejected = read(tmp_path)
    assert rejected == []
    assert [len(rows[key]) for key in ("medqa/train", "medqa_4_options/train")] == [1, 1]


def test_a_truncated_compressed_file_is_damaged(tmp_path: Path) -> None:
    data = gzip.compress(lines(*(record(question=f"Question {n}?") for n in range(500))))
    put(tmp_path, "questions/US/train.jsonl.gz", data[: len(data) // 2])
    put(tmp_path, "questions/US/dev.jsonl", lines(record()))
    rows, rejected = read(tmp_path)
    assert len(rows["medqa/validation"]) == 1
    assert [(r.reason, r.file) for r in rejected] == [("damaged file", "medqa/questions/US/train.jsonl.gz")]


def test_the_archive_is_read_in_place(tmp_path: Path) -> None:
    put_zip(
        tmp_path,
        {
            "data_clean/questions/US/US_qbank.jsonl": lines(record()),
            "data_clean/questions/US/train.jsonl": lines(record(), record(question="Another?")),
            f"data_clean/questions/US/{FOUR}dev.jsonl": lines(record()),
            "data_clean/questions/US/metamap/train.jsonl": b"not ours\n",
            "data_clean/questions/Mainland/train.jsonl": b"not ours\n",
            "data_clean/textbooks/en/Anatomy_Gray.txt": b"not ours\n",
            "__MACOSX/data_clean/questions/US/._train.jsonl": b"\x00\x05",
        },
    )
    rows, rejected = read(tmp_path)
    assert rejected == []
    assert {key: len(found) for key, found in rows.items()} == {
        "medqa/train": 2,
        "medqa_4_options/validation": 1,
    }
    assert sorted(p.name for p in (tmp_path / "medqa").iterdir()) == ["data_clean.zip"]


@pytest.mark.parametrize("folder", ["", "data_clean/", "some/other/folder/"])
def test_any_leading_folder_will_do(tmp_path: Path, folder: str) -> None:
    put_zip(tmp_path, {f"{folder}questions/US/test.jsonl": lines(record())}, name="any name.zip")
    assert only(tmp_path).split == "test"


def test_a_loose_file_goes_before_the_archive_and_no_row_counts_twice(tmp_path: Path) -> None:
    put(tmp_path, "questions/US/dev.jsonl", lines(record(question="The loose one?")))
    put(tmp_path, "questions/US/dev.jsonl.gz", gzip.compress(lines(record(question="The packed one?"))))
    put_zip(
        tmp_path,
        {
            "data_clean/questions/US/dev.jsonl": lines(record(question="The archived one?")),
            "data_clean/questions/US/train.jsonl": lines(record(question="Only in the archive?")),
        },
    )
    rows, rejected = read(tmp_path)
    assert [r.input.split("\n")[0] for r in rows["medqa/validation"]] == ["The loose one?"]
    assert [r.input.split("\n")[0] for r in rows["medqa/train"]] == ["Only in the archive?"]
    assert [(r.reason, r.id, r.configs) for r in rejected] == [
        ("second copy of a file", "medqa/questions/US/dev.jsonl.gz", ("medqa",)),
        ("second copy of a file", "medqa/data_clean.zip!data_clean/questions/US/dev.jsonl", ("medqa",)),
    ]


def test_a_damaged_member_does_not_cost_the_others(tmp_path: Path) -> None:
    big = lines(*(record(question=f"Question {n}?") for n in range(300)))
    path = put_zip(tmp_path, {"questions/US/dev.jsonl": lines(record()), "questions/US/train.jsonl": big})
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("questions/US/train.jsonl")
    middle = info.header_offset + 60 + info.compress_size // 2
    data[middle : middle + 20] = bytes(20)
    path.write_bytes(data)
    rows, rejected = read(tmp_path)
    assert len(rows["medqa/validation"]) == 1
    assert [(r.reason, r.file) for r in rejected] == [
        ("damaged file", "medqa/data_clean.zip!questions/US/train.jsonl")
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"PK\x03\x04 and no more", "damaged file"), (b"", "damaged file")],
)
def test_an_archive_that_does_not_open_is_rejected(tmp_path: Path, data: bytes, reason: str) -> None:
    put(tmp_path, "data_clean.zip", data)
    put(tmp_path, "questions/US/dev.jsonl", lines(record()))
    rows, rejected = read(tmp_path)
    assert len(rows["medqa/validation"]) == 1
    assert [(r.reason, r.file) for r in rejected] == [(reason, "medqa/data_clean.zip")]


def test_an_archive_with_a_path_that_climbs_out_is_not_read(tmp_path: Path) -> None:
    put_zip(tmp_path, {"questions/US/dev.jsonl": lines(record()), "../../outside.txt": b"x"})
    rows, rejected = read(tmp_path)
    assert rows == {}
    assert [r.reason for r in rejected] == ["unsafe path in archive"]


def test_files_without_questions_are_said_so(tmp_path: Path) -> None:
    put_zip(tmp_path, {"textbooks/en/x.txt": b"x"}, name="textbooks.zip")
    put(tmp_path, "questions/US/dev.jsonl.7z", b"7z")
    put(tmp_path, "questions/US/dev.jsonl", lines(record()))
    _, rejected = read(tmp_path)
    assert {(r.reason, r.file) for r in rejected} == {
        ("no MedQA questions in the file", "medqa/textbooks.zip"),
        ("no MedQA questions in the file", "medqa/questions/US/dev.jsonl.7z"),
    }


def test_datasets_are_those_whose_files_are_there(tmp_path: Path) -> None:
    put(tmp_path, f"questions/US/{FOUR}dev.jsonl", lines(record()))
    put(tmp_path, "questions/US/US_qbank.jsonl", lines(record()))
    raw = find(MedQA, tmp_path)
    assert MedQA().configs_of(raw) == ("medqa_4_options",)
    assert [f.path for f in raw.unused] == ["medqa/questions/US/US_qbank.jsonl"]


def test_the_sample_is_whole_and_the_two_datasets_agree() -> None:
    rows, rejected = read(None)
    assert rejected == []
    assert {key: len(found) for key, found in rows.items()} == {
        "medqa/train": 16,
        "medqa/validation": 7,
        "medqa/test": 7,
        "medqa_4_options/train": 16,
        "medqa_4_options/validation": 7,
        "medqa_4_options/test": 7,
    }
    moved = 0
    for split in ("train", "validation", "test"):
        pairs = list(zip(rows[f"medqa/{split}"], rows[f"medqa_4_options/{split}"], strict=True))
        for five, four in pairs:
            assert (len(five.options), len(four.options)) == (5, 4)
            assert five.group == four.group
            assert five.output.split(": ", 1)[1] == four.output.split(": ", 1)[1]
            assert {o.text for o in four.options} < {o.text for o in five.options}
            moved += five.answer_key != four.answer_key
    assert moved == 14
    every = [row for found in rows.values() for row in found]
    assert all(row.authors == () for row in every)
    assert Counter(r.extra["meta_info"] for r in every) == {"step1": 32, "step2&3": 28}
    letters = Counter(r.answer_key for key, found in rows.items() if key.startswith("medqa/") for r in found)
    assert set(letters) == set("ABCDE")
    assert max(letters.values()) <= 8


@pytest.fixture(scope="module")
def files(real_store: Callable[..., Path]) -> Path:
    folder = "medqa/questions/US"
    return real_store(f"{folder}/dev.jsonl", f"{folder}/{FOUR}dev.jsonl")


@pytest.fixture(scope="module")
def found(files: Path) -> tuple[dict[str, list[Example]], list[Rejected]]:
    return read(files)


@pytest.fixture(scope="module")
def raw(files: Path) -> dict[str, list[dict[str, Any]]]:
    folder = files / "medqa" / "questions" / "US"
    names = {
        "medqa/validation": "dev.jsonl",
        "medqa_4_options/validation": f"{FOUR}dev.jsonl",
    }
    return {
        key: [json.loads(line) for line in (folder / name).read_text("utf-8").split("\n") if line]
        for key, name in names.items()
    }


class TestRealFiles:
    """The publisher's dev split, against figures taken straight from its lines."""

    def test_every_record_is_kept(self, found: Any, raw: Any) -> None:
        rows, rejected = found
        assert rejected == []
        assert {key: len(found) for key, found in rows.items()} == {
            "medqa/validation": 1272,
            "medqa_4_options/validation": 1272,
        }
        for key, kept in rows.items():
            assert [r.output for r in kept] == [f"{r['answer_idx']}: {r['answer']}" for r in raw[key]]
            assert len({r.id for r in kept}) == len({r.group for r in kept}) == 1272

    def test_letters_differ_and_texts_do_not(self, found: Any, raw: Any) -> None:
        five, four = found[0]["medqa/validation"], found[0]["medqa_4_options/validation"]
        pairs = list(zip(five, four, strict=True))
        assert sum(a.answer_key != b.answer_key for a, b in pairs) == 617
        assert all(a.output.split(": ", 1)[1] == b.output.split(": ", 1)[1] for a, b in pairs)
        assert all(a.group == b.group for a, b in pairs)

    def test_steps_are_tallied(self, found: Any, files: Path) -> None:
        # Counted on the text of the lines, without parsing them.
        text = (files / "medqa" / "questions" / "US" / "dev.jsonl").read_text("utf-8")
        tally = {s: text.count(f'"meta_info": "{s}"') for s in ("step1", "step2&3")}
        assert tally == {"step1": 701, "step2&3": 571}
        assert Counter(r.extra["meta_info"] for r in found[0]["medqa/validation"]) == tally

    def test_texts_are_those_of_the_file_but_for_outer_blanks(self, found: Any, raw: Any) -> None:
        for key, rows in found[0].items():
            for row, source in zip(rows, raw[key], strict=True):
                question, _, rest = row.input.rpartition(f"\n\nA: {row.options[0].text}\nB: ")
                assert rest
                assert question == source["question"].strip()
                assert {o.key: o.text for o in row.options} == {
                    letter: text.strip() for letter, text in source["options"].items()
                }
        stripped = [s for s in raw["medqa/validation"] if s["question"] != s["question"].strip()]
        assert len(stripped) == 4


class TestMedQABuild(BuilderTest):
    builder = MedQA
    pins = {
        "1.0.0": {
            "medqa": "4fb1fe0cba79aac71983a5b8a0cea58c94ff6f8bf6d26faee33585136196a3b1",
            "medqa_4_options": "e4729222d0941c80b4d68321f76ee35d50b696d999fdceae70ff60fa202b5680",
        }
    }
