"""PubMedQA: official test split by id, both big and small files as a stream, nothing lost in silence."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from meadow.builders.pubmedqa.builder import PubMedQA
from meadow.core.builder import Shard
from meadow.core.rawfile import RawFileError
from meadow.core.rawstore import find
from meadow.core.row import Example, Option, Rejected
from meadow.testing import BuilderTest


def record(**changes: object) -> dict:
    base = {
        "QUESTION": "Does walking help?",
        "CONTEXTS": ["Walking is cheap.", "Forty adults walked."],
        "LABELS": ["BACKGROUND", "METHODS"],
        "MESHES": ["Humans", "Walking"],
        "YEAR": "2011",
        "reasoning_required_pred": "yes",
        "reasoning_free_pred": "maybe",
        "final_decision": "yes",
        "LONG_ANSWER": "Walking helped.",
    }
    base.update(changes)
    return {key: value for key, value in base.items() if value is not ...}


def store(root: Path, **files) -> Path:
    folder = root / "pubmedqa"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        data = content if isinstance(content, bytes) else json.dumps(content, indent=4).encode()
        (folder / f"{name}.json").write_bytes(data)
    return root


def read(root: Path | None) -> tuple[dict[str, list[Example]], list[Rejected]]:
    """Everything that a build would see: rows by dataset, and what was left out."""
    builder = PubMedQA()
    raw = find(builder, root)
    rows, rejected = {config: [] for config in builder.configs_of(raw)}, []
    for item in builder.shards(raw):
        if isinstance(item, Rejected):
            rejected.append(item)
            continue
        shard: Shard = pickle.loads(pickle.dumps(item))
        for found in builder.examples(shard):
            if isinstance(found, Rejected):
                rejected.append(found)
            else:
                rows[shard.configs[0]].append(found)
    return rows, rejected


def test_a_labelled_record_becomes_a_row(tmp_path) -> None:
    root = store(
        tmp_path,
        ori_pqal={"123": record(), "456": record(final_decision="maybe", YEAR=None)},
        test_ground_truth={"456": "maybe"},
    )
    rows, rejected = read(root)
    first, second = rows["pubmedqa"]
    assert rejected == []
    assert first.id == "pubmedqa/123"
    assert first.instruction == "Answer this question from the abstract with yes, no or maybe, and explain"
    assert (
        first.input == "Does walking help?\n\nBACKGROUND: Walking is cheap.\n\nMETHODS: Forty adults walked."
    )
    assert first.output == "yes\n\nWalking helped."
    assert first.options == (Option("yes", "yes"), Option("no", "no"), Option("maybe", "maybe"))
    assert first.answer_key == "yes"
    assert (first.group, first.split, second.split) == ("123", None, "test")
    assert first.source_url == "https://pubmed.ncbi.nlm.nih.gov/123/"
    assert (first.source_date, second.source_date) == ("2011", None)
    assert [a.url for a in first.authors] == ["https://pubmed.ncbi.nlm.nih.gov/123/"]
    assert first.generator is None
    assert first.extra == {
        "pmid": "123",
        "year": 2011,
        "mesh_terms": ["Humans", "Walking"],
        "final_decision": "yes",
    }
    assert second.extra["year"] is None
    assert set(first.extra) == set(PubMedQA.extra_features)


def test_datasets_follow_from_the_files_that_are_there(tmp_path) -> None:
    bare = record(YEAR=..., final_decision=..., reasoning_required_pred=..., reasoning_free_pred=...)
    root = store(tmp_path, ori_pqaa={"7": record(YEAR=..., final_decision="no")}, ori_pqau={"8": bare})
    rows, rejected = read(root)
    assert list(rows) == ["pubmedqa_artificial", "pubmedqa_unlabeled"]
    assert rejected == []
    (artificial,), (unlabeled,) = rows.values()
    assert (artificial.id, artificial.answer_key, artificial.split) == ("pubmedqa/artificial/7", "no", None)
    assert artificial.output == "no\n\nWalking helped."
    assert artificial.generator is None
    assert (unlabeled.id, unlabeled.output) == ("pubmedqa/unlabeled/8", "Walking helped.")
    assert (unlabeled.options, unlabeled.answer_key, unlabeled.extra["final_decision"]) == ((), None, None)
    assert unlabeled.instruction == "Answer this question from the abstract"


def test_without_the_test_ids_the_labelled_file_is_left_out(tmp_path) -> None:
    root = store(tmp_path, ori_pqal={"1": record()}, ori_pqaa={"2": record()})
    rows, (rejected,) = read(root)
    assert rows["pubmedqa"] == []
    assert len(rows["pubmedqa_artificial"]) == 1
    assert (rejected.reason, rejected.file) == ("test ids missing", "pubmedqa/ori_pqal.json")
    assert "test_ground_truth.json" in rejected.remedy
    assert rejected.configs == ("pubmedqa",)


@pytest.mark.parametrize(
    "content", [b"", b'{"1": "yes"', b"[]", b"{}", b'{"1": 3}', b"\xff\xfe{}", b"[" * 100_000]
)
def test_an_unusable_list_of_test_ids_counts_as_missing(tmp_path, content) -> None:
    root = store(tmp_path, ori_pqal={"1": record()}, test_ground_truth=content)
    rows, rejected = read(root)
    assert rows["pubmedqa"] == []
    assert [r.reason for r in rejected] == ["damaged file", "test ids missing"]
    assert rejected[0].file == "pubmedqa/test_ground_truth.json"


def test_test_answers_are_checked_against_the_records(tmp_path) -> None:
    root = store(
        tmp_path,
        ori_pqal={"1": record(), "2": record(), "3": record()},
        test_ground_truth={"2": "no", "3": "yes", "9": "yes"},
    )
    rows, rejected = read(root)
    assert [(row.id, row.split) for row in rows["pubmedqa"]] == [("pubmedqa/1", None), ("pubmedqa/3", "test")]
    assert [(r.id, r.reason) for r in rejected] == [
        ("pubmedqa/2", "test answer differs from final_decision"),
        ("pubmedqa/9", "test id without a record"),
    ]


def test_a_test_question_cannot_come_back_through_the_other_files(tmp_path) -> None:
    root = store(
        tmp_path,
        ori_pqal={"1": record()},
        test_ground_truth={"1": "yes"},
        ori_pqaa={"1": record(), "2": record()},
        ori_pqau={"1": record(), "3": record()},
    )
    rows, rejected = read(root)
    assert [
        row.group for config in ("pubmedqa_artificial", "pubmedqa_unlabeled") for row in rows[config]
    ] == [
        "2",
        "3",
    ]
    assert [r.reason for r in rejected] == ["belongs to the official test set"] * 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"final_decision": "perhaps"}, "final_decision is not yes, no or maybe"),
        ({"final_decision": ...}, "final_decision is not yes, no or maybe"),
        ({"final_decision": ["yes"]}, "final_decision is not yes, no or maybe"),
        ({"QUESTION": "  "}, "no QUESTION"),
        ({"QUESTION": ...}, "no QUESTION"),
        ({"LONG_ANSWER": None}, "no LONG_ANSWER"),
        ({"CONTEXTS": []}, "no CONTEXTS"),
        ({"CONTEXTS": ["", " "]}, "no CONTEXTS"),
        ({"CONTEXTS": "one text"}, "no CONTEXTS"),
        ({"CONTEXTS": [1, 2]}, "no CONTEXTS"),
    ],
)
def test_a_bad_record_costs_itself_alone(tmp_path, changes, reason) -> None:
    root = store(tmp_path, ori_pqal={"1": record(**changes), "2": record()}, test_ground_truth={"2": "yes"})
    rows, (rejected,) = read(root)
    assert [row.id for row in rows["pubmedqa"]] == ["pubmedqa/2"]
    assert (rejected.id, rejected.reason) == ("pubmedqa/1", reason)


def test_keys_that_are_no_pmid_and_values_that_are_no_record(tmp_path) -> None:
    root = store(tmp_path, ori_pqaa={"PMC5": record(), "012": record(), "5": "text", "6": [], "7": record()})
    rows, rejected = read(root)
    assert [row.group for row in rows["pubmedqa_artificial"]] == ["7"]
    assert [r.reason for r in rejected] == ["key is not a PMID"] * 2 + ["record is not an object"] * 2


def test_paragraphs_lose_their_labels_where_the_numbers_differ(tmp_path) -> None:
    root = store(tmp_path, ori_pqaa={"1": record(LABELS=["METHODS"]), "2": record(LABELS=...)})
    rows, _ = read(root)
    assert {row.input for row in rows["pubmedqa_artificial"]} == {
        "Does walking help?\n\nWalking is cheap.\n\nForty adults walked."
    }


@pytest.mark.parametrize(
    ("year", "expected"),
    [("2011", 2011), (2011, 2011), ("2011 Jan", 2011), ("n.d.", None), ("", None), (..., None)],
)
def test_years(tmp_path, year, expected) -> None:
    rows, _ = read(store(tmp_path, ori_pqaa={"1": record(YEAR=year)}))
    (row,) = rows["pubmedqa_artificial"]
    assert row.extra["year"] == expected
    assert row.source_date == (str(expected) if expected else None)


def test_a_key_that_comes_twice_is_given_twice(tmp_path) -> None:
    first, second = json.dumps(record(QUESTION="First?")), json.dumps(record(QUESTION="Second?"))
    root = store(tmp_path, ori_pqaa=f'{{"1": {first}, "1": {second}}}'.encode())
    rows, _ = read(root)
    assert [row.id for row in rows["pubmedqa_artificial"]] == ["pubmedqa/artificial/1"] * 2
    assert [row.input.split("\n")[0] for row in rows["pubmedqa_artificial"]] == ["First?", "Second?"]


def test_a_bom_and_crlf_do_no_harm(tmp_path) -> None:
    text = json.dumps({"1": record()}, indent=4).replace("\n", "\r\n")
    rows, rejected = read(store(tmp_path, ori_pqaa=b"\xef\xbb\xbf" + text.encode()))
    assert len(rows["pubmedqa_artificial"]) == 1
    assert rejected == []


def test_compressed_files_and_the_repository_layout(tmp_path) -> None:
    import zstandard

    data = tmp_path / "pubmedqa" / "data"
    data.mkdir(parents=True)
    packed = gzip.compress(json.dumps({"1": record(), "2": record()}).encode())
    (data / "ori_pqal.json.gz").write_bytes(packed)
    (data / "test_ground_truth.json.gz").write_bytes(gzip.compress(b'{"2": "yes"}'))
    (data / "ori_pqau.json.zst").write_bytes(zstandard.compress(json.dumps({"3": record()}).encode()))
    rows, rejected = read(tmp_path)
    assert {config: [row.group for row in found] for config, found in rows.items()} == {
        "pubmedqa": ["1", "2"],
        "pubmedqa_unlabeled": ["3"],
    }
    assert rejected == []


def test_a_second_copy_is_reported_not_read(tmp_path) -> None:
    root = store(tmp_path, ori_pqaa={"1": record()})
    (root / "pubmedqa" / "ori_pqaa.json.gz").write_bytes(gzip.compress(b'{"2": 1}'))
    rows, (rejected,) = read(root)
    assert [row.group for row in rows["pubmedqa_artificial"]] == ["1"]
    assert (rejected.reason, rejected.file) == ("second copy of a file", "pubmedqa/ori_pqaa.json.gz")


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"1": record()}).encode()[:-40],
        json.dumps({"1": record()}).encode() + b"x",
        json.dumps([record()]).encode(),
        b'{"1": {"QUESTION": "\xff"}}',
        b'{"1": {"QUESTION": NaN}}',
        b'{"1": ' + b"9" * 5000 + b"}",
        b'{"1": ' + b"[" * 1_000_000,
        b"null",
        b"",
    ],
    ids=["cut off", "trailing", "list", "not UTF-8", "NaN", "huge number", "nested", "null", "empty"],
)
def test_a_damaged_file_says_so(tmp_path, content) -> None:
    builder = PubMedQA()
    (shard,) = builder.shards(find(builder, store(tmp_path, ori_pqaa=content)))
    with pytest.raises(RawFileError) as caught:
        list(builder.examples(shard))
    assert caught.value.reason == "damaged file"
    assert caught.value.file == "pubmedqa/ori_pqaa.json"
    assert caught.value.remedy


def test_a_truncated_gzip_is_a_damaged_file(tmp_path) -> None:
    root = store(tmp_path)
    packed = gzip.compress(os.urandom(2**18).hex().encode())
    (root / "pubmedqa" / "ori_pqaa.json.gz").write_bytes(packed[: len(packed) // 2])
    builder = PubMedQA()
    (shard,) = builder.shards(find(builder, root))
    with pytest.raises(RawFileError, match=r"pubmedqa/ori_pqaa\.json\.gz"):
        list(builder.examples(shard))


def test_memory_is_that_of_one_record(tmp_path) -> None:
    import tracemalloc

    builder = PubMedQA()
    peaks = []
    for count in (300, 3000):
        root = store(
            tmp_path / str(count),
            ori_pqaa={str(n): record(CONTEXTS=["x" * 20_000]) for n in range(1, count + 1)},
        )
        (shard,) = builder.shards(find(builder, root))
        tracemalloc.start()
        assert sum(1 for _ in builder.examples(shard)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 100_000


def test_the_sample_is_whole() -> None:
    rows, rejected = read(None)
    assert rejected == []
    assert {config: len(found) for config, found in rows.items()} == {
        "pubmedqa": 30,
        "pubmedqa_artificial": 6,
        "pubmedqa_unlabeled": 6,
    }
    assert Counter(row.split for row in rows["pubmedqa"]) == {None: 22, "test": 8}
    assert {row.answer_key for row in rows["pubmedqa"]} == {"yes", "no", "maybe"}
    # PMIDs of the sample must never be those of real articles.
    assert all(int(row.group) >= 90_000_000 for found in rows.values() for row in found)
    folder = PubMedQA.folder() / "sample"
    raw = json.loads((folder / "ori_pqal.json").read_bytes())
    assert all(3 <= len(r["CONTEXTS"]) == len(r["LABELS"]) for r in raw.values())


def test_real_files(real_store: Callable[..., Path]) -> None:
    root = real_store("pubmedqa/ori_pqal.json", "pubmedqa/test_ground_truth.json")
    folder = root / "pubmedqa"
    raw = json.loads((folder / "ori_pqal.json").read_bytes())
    test = json.loads((folder / "test_ground_truth.json").read_bytes())
    rows, rejected = read(root)
    found = rows["pubmedqa"]
    assert rejected == []
    assert [row.group for row in found] == list(raw)
    assert Counter(row.answer_key for row in found) == Counter(yes=552, no=338, maybe=110)
    assert Counter(row.answer_key for row in found) == Counter(r["final_decision"] for r in raw.values())
    official = [row for row in found if row.split == "test"]
    assert len(official) == 500
    assert {row.group: row.answer_key for row in official} == test
    assert all(row.split is None for row in found if row.group not in test)
    for row in found:
        source = raw[row.group]
        question, *paragraphs = row.input.split("\n\n")
        assert question == source["QUESTION"]
        pairs = zip(source["LABELS"], source["CONTEXTS"], strict=True)
        assert paragraphs == [f"{label}: {text}" for label, text in pairs]
        assert row.output == source["final_decision"] + "\n\n" + source["LONG_ANSWER"]
        assert row.extra["mesh_terms"] == source["MESHES"]
        assert row.source_date == source["YEAR"]
    assert sum(row.source_date is None for row in found) == sum(r["YEAR"] is None for r in raw.values()) == 58


class TestPubMedQABuild(BuilderTest):
    builder = PubMedQA
    pins = {
        "1.0.0": {
            "pubmedqa": "9d514524e3f43faff99e943bd8694752475cb5e40bd16684a45b730c78e73735",
            "pubmedqa_artificial": "6051e0d3e5cae5ad204dee0dc0946b78f89155f3ba130307319b8d16a3362107",
            "pubmedqa_unlabeled": "cfebe1c9ed100c1f12ceacfb72a3290bcc97b801f529cbc32ea077b2ca01951c",
        }
    }
