"""The build: funnels, duplicates, damaged files, splits, files, hashes, publication."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from meadow.api import build_datasets
from meadow.core.errors import UnknownDatasetError
from meadow.core.options import BuildOptions
from meadow.core.row import COLUMNS
from meadow.core.store import Store, StoreError
from meadow.pipeline import build as pipeline_build
from meadow.pipeline import files as pipeline_files
from meadow.pipeline import parse, publish, shard
from meadow.pipeline.report import Report
from tests import toy
from tests.toy import BUILDERS, Toy, put, row, totals

LOOK = "Look at the record in the raw file."


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take longer than all the rest of a small build; only marked tests draw them."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(publish, "draw", toy.no_plot)


@pytest.fixture
def drawn() -> None:
    """This test's plots are drawn."""


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the toy sources take their sample from, with one file of three rows."""
    monkeypatch.setattr(Toy, "home", tmp_path / "home")
    put(tmp_path / "home", "sample/s.jsonl", *(row(f"s{n}", license="MIT") for n in range(3)))
    return tmp_path / "home" / "sample"


@pytest.fixture
def build(tmp_path: Path, raw: Path) -> Callable[..., Report]:
    """Builds the toy source with parameters of its own; other keywords go to `pipeline.build`."""

    def run(
        *names: str, parameters: Mapping[str, Any] | None = None, fails: bool = False, **kwargs: Any
    ) -> Report:
        kwargs = {"raw": None if kwargs.get("sample") else raw, "out": tmp_path / "out", **kwargs}
        kwargs.setdefault("builders", BUILDERS)
        # Rows of these sources are alike; tests/test_screening.py looks at what that means.
        kwargs.setdefault("options", BuildOptions(duplicates="off"))
        given = {"toy": parameters} if parameters else {}
        report = build_datasets(names or ("toy",), parameters=given, **kwargs)
        assert bool(report.failed) == fails, report.failed
        toy.whole(report.out)
        return report

    return run


def manifest(report: Report, name: str = "toy") -> dict[str, Any]:
    typed = Store(report.out).manifest(name)
    assert typed in report.manifests
    found = json.loads(typed.text())
    funnel = found["funnel"]
    assert funnel["read"] == funnel["kept"] + sum(funnel["dropped"].values())
    assert funnel["kept"] == sum(entry["rows"] for entry in found["splits"].values())
    assert funnel["dropped"] == Counter(r["reason"] for r in rejected(report, name))
    return found


def folder(report: Report, name: str = "toy") -> Path:
    store = Store(report.out)
    return store.folder(name, store.resolve(name))


def rejected(report: Report, name: str = "toy") -> list[dict[str, Any]]:
    return pq.read_table(folder(report, name) / "rejected.parquet").to_pylist()


def rows(report: Report, name: str = "toy") -> dict[str, list[dict[str, Any]]]:
    return {
        split: [row for path in paths for row in pq.read_table(path).to_pylist()]
        for split, paths in Store(report.out).files(name).items()
    }


def ids(report: Report, name: str = "toy") -> list[str]:
    return sorted(r["id"].split("/", 1)[1] for found in rows(report, name).values() for r in found)


def tree(out: Path) -> dict[str, bytes]:
    """All that a reader sees, by path."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.relative_to(out).parts[0].startswith(".")
    }


def split_of(group: str) -> str:
    """The split of a group where the publisher names none: the rule, written down a second time."""
    point = int(hashlib.sha256(group.encode()).hexdigest()[:16], 16) / 2**64
    return "train" if point < 0.9 else "validation"


class TestRows:
    def test_a_row_has_what_the_record_and_the_source_say(self, raw: Path, build: Callable) -> None:
        record = row(
            1, options=[["A", "yes"], ["B", "no"]], answer_key="B", authors=["Ann"], level=7,
            source_url="https://example.org/1", source_date="2019", generator="m", license="CC-BY-SA-4.0",
            split="test", group="page 1",
        )  # fmt: skip
        put(raw, "toy/a.jsonl", record, row(2))
        report = build()
        found = rows(report)
        assert found["test"] == [
            {
                "instruction": "Answer this question truthfully",
                "input": "What is 1?",
                "output": "It is 1.",
                "id": "toy/1",
                "task": "question-answering",
                "options": [{"key": "A", "text": "yes"}, {"key": "B", "text": "no"}],
                "answer_key": "B",
                "group": "page 1",
                "source_url": "https://example.org/1",
                "source_date": "2019",
                "authors": [{"name": "Ann", "url": None}],
                "license": "CC-BY-SA-4.0",
                "generator": "m",
                "level": 7,
            }
        ]
        (plain,) = [r for split, found in rows(report).items() if split != "test" for r in found]
        assert list(plain) == [*COLUMNS, "level"]
        assert plain["license"] == "MIT"
        assert (plain["options"], plain["authors"], plain["answer_key"]) == ([], [], None)
        assert manifest(report)["licenses"] == {"CC-BY-SA-4.0": 1, "MIT": 1}

    @pytest.mark.parametrize(
        ("fields", "reason", "remedy"),
        [
            ({"answer": " \n"}, "empty output", LOOK),
            ({"instruction": ""}, "empty instruction", LOOK),
            ({"split": "dev"}, "unknown split", LOOK),
            ({"options": [["A", "x"]], "answer_key": "E"}, "answer is no option", LOOK),
            ({"answer_key": "A"}, "answer is no option", LOOK),
            ({"options": [["A", "x"], ["A", "y"]]}, "duplicate option letters", LOOK),
            ({"question": "lone \ud800 half"}, "invalid Unicode", "Repair the record's encoding"),
            ({"group": "\udfff"}, "invalid Unicode", "Repair the record's encoding"),
            ({"id": "toy/\ud800"}, "invalid Unicode", "Repair the record's encoding"),
            ({"id": "toy/a\nb"}, "control character in id", "Repair the record's key"),
        ],
    )
    def test_a_bad_record_costs_itself(
        self, fields: dict, reason: str, remedy: str, raw: Path, build: Callable
    ) -> None:
        put(raw, "toy/a.jsonl", row(1), row(2, **fields), row(3))
        report = build()
        assert ids(report) == ["1", "3"]
        for name in ("toy", "toy_hard"):
            assert totals(manifest(report, name)) == {"read": 3, "kept": 2, "dropped": {reason: 1}}
        (left,) = rejected(report)
        assert (left["source"], left["file"], left["reason"]) == ("toy", "toy/a.jsonl", reason)
        assert left["id"].startswith("toy/")
        assert left["detail"]
        assert left["remedy"].startswith(remedy)

    def test_an_empty_input_and_options_without_a_key_are_rows(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1, question=""), row(2, options=[["A", "x"]]))
        assert ids(build()) == ["1", "2"]

    def test_what_the_source_rejects_is_counted_and_shortened(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1), b"{" + b"x" * 999, row(2, score=4), row(3, score=1))
        report = build()
        assert manifest(report)["funnel"]["dropped"] == {"not JSON": 1, "score below 5": 2}
        first, *others = rejected(report)
        assert (first["id"], first["file"], first["remedy"]) == (
            "toy/a.jsonl:2", "toy/a.jsonl", "Repair the line.",
        )  # fmt: skip
        assert first["excerpt"] == "{" + "x" * 199
        assert [(r["id"], r["detail"]) for r in others] == [("toy/2", "4"), ("toy/3", "1")]

    def test_each_dataset_has_a_funnel_of_its_own(self, raw: Path, build: Callable) -> None:
        easy, hard = {"configs": ["toy"]}, {"configs": ["toy_hard"]}
        put(
            raw, "toy/a.jsonl",
            row(1), row(2, **easy), row(3, **hard), row(4, **hard), row(5, **easy, score=0),
            row(6, **hard, answer=""), row(7, **hard, answer=""), row(8, score=0),
        )  # fmt: skip
        report = build()
        assert totals(manifest(report)) == {"read": 4, "kept": 2, "dropped": {"score below 5": 2}}
        assert totals(manifest(report, "toy_hard")) == {
            "read": 6, "kept": 3, "dropped": {"empty output": 2, "score below 5": 1},
        }  # fmt: skip
        assert (ids(report), ids(report, "toy_hard")) == (["1", "2"], ["1", "3", "4"])
        assert {r["id"] for r in rejected(report, "toy_hard")} == {"toy/6", "toy/7", "toy/8"}

    @pytest.mark.parametrize(
        "fields",
        [{"id": "elsewhere/1"}, {"group": ""}, {"configs": ["toy_odd"]}, {"license": "GPL-3.0-only"}],
    )
    def test_a_fault_of_the_builder_fails_its_source(self, fields: dict, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1), row(2, **fields))
        put(raw, "other/a.jsonl", row(1))
        report = build("all", fails=True)
        assert list(report.failed) == ["toy"]
        assert "".join(fields.get("configs", fields.values())) in report.failed["toy"]
        assert Store(report.out).names() == ["other"]


class TestDuplicates:
    def test_the_first_record_wins_across_shards_and_files(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1), row(2), row(1, answer="again"), row(3))
        put(raw, "toy/b.jsonl", row(3, answer="in b"), row(4), row(5, configs=["toy"]))
        put(raw, "toy/c.jsonl", row(5, answer="in c"), row(4, configs=["toy_hard"]), row(6))
        report = build(parameters={"shards": 2})
        assert ids(report) == ["1", "2", "3", "4", "5", "6"]
        assert {r["output"] for found in rows(report).values() for r in found} == {
            f"It is {n}." for n in range(1, 7)
        }
        assert totals(manifest(report)) == {"read": 9, "kept": 6, "dropped": {"duplicate id": 3}}
        found = [(r["id"], r["file"], r["excerpt"], r["source"]) for r in rejected(report)]
        assert sorted(found) == [
            ("toy/1", "toy/a.jsonl", "What is 1?", "toy"),
            ("toy/3", "toy/b.jsonl", "What is 3?", "toy"),
            ("toy/5", "toy/c.jsonl", "What is 5?", "toy"),
        ]
        assert all(r["remedy"] and r["detail"] for r in rejected(report))
        # In the other dataset the first record with id 5 is that of c.
        assert manifest(report, "toy_hard")["funnel"]["dropped"] == {"duplicate id": 3}
        assert {r["output"] for found in rows(report, "toy_hard").values() for r in found} >= {"in c"}

    def test_first_means_first_in_the_file_whatever_the_split(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1, group="g"), row(1, split="test", answer="late"), row(2, split="test"))
        report = build()
        assert {r["output"] for found in rows(report).values() for r in found} == {"It is 1.", "It is 2."}

    def test_a_split_of_nothing_but_duplicates_is_not_there(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1, split="test"), row(2, split="test"))
        put(raw, "toy/b.jsonl", row(1), row(2))
        report = build()
        assert {split: len(found) for split, found in rows(report).items()} == {"test": 2}

    def test_found_in_several_passes_over_the_hashes(
        self, raw: Path, build: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parse, "_IDS_AT_ONCE", 7)
        put(raw, "toy/a.jsonl", *(row(n % 30) for n in range(50)))
        report = build(parameters={"shards": 3})
        assert len(ids(report)) == len(set(ids(report))) == 30
        assert manifest(report)["funnel"]["dropped"] == {"duplicate id": 20}

    def test_ids_that_share_a_hash_are_no_duplicates(
        self, raw: Path, build: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Constant:
            def digest(self) -> bytes:
                return b"same"

        monkeypatch.setattr(shard.hashlib, "blake2b", lambda *_, **__: Constant())
        put(raw, "toy/a.jsonl", row(1), row(2), row(1))
        assert ids(build()) == ["1", "2"]


class TestDamagedFiles:
    @pytest.mark.parametrize(
        ("do", "reason", "detail"),
        [
            ("damage", "damaged file", "the record says so"),
            (
                "raise",
                "unexpected error",
                "RuntimeError: cannot make sense of toy/b.jsonl in <object object>",
            ),
        ],
    )
    @pytest.mark.parametrize("parameters", [{"shards": 1}, {"shards": 3}, {"shards": 3, "by_config": True}])
    def test_a_bad_file_is_left_out_of_all_shards_and_datasets(
        self, parameters: dict, do: str, reason: str, detail: str, raw: Path, build: Callable
    ) -> None:
        put(raw, "toy/a.jsonl", row(1), row(2))
        # Only the piece with line 2 fails; the records of lines 1 and 3 to 6 must not stay.
        put(raw, "toy/b.jsonl", row(3), row(4, do=do), *(row(n) for n in range(5, 9)))
        put(raw, "toy/c.jsonl", row(9))
        report = build(parameters=parameters)
        for name in ("toy", "toy_hard"):
            assert ids(report, name) == ["1", "2", "9"]
            found = manifest(report, name)
            assert totals(found) == {"read": 4, "kept": 3, "dropped": {reason: 1}}
            assert [f["path"] for f in found["raw"]] == ["toy/a.jsonl", "toy/b.jsonl", "toy/c.jsonl"]
            (left,) = rejected(report, name)
            assert (left["id"], left["file"], left["source"]) == ("toy/b.jsonl", "toy/b.jsonl", "toy")
            assert left["detail"] == detail
            assert left["remedy"]
        assert [(name, r.file, r.reason) for name, r in report.files_left_out] == [
            ("toy", "toy/b.jsonl", reason), ("toy_hard", "toy/b.jsonl", reason),
        ]  # fmt: skip

    def test_only_the_datasets_that_lose_records_list_it(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1))
        put(raw, "toy/b-hard.jsonl", row(2), row(3, do="damage"))
        report = build()
        assert totals(manifest(report)) == {"read": 1, "kept": 1, "dropped": {}}
        assert [f["path"] for f in manifest(report)["raw"]] == ["toy/a.jsonl"]
        assert manifest(report, "toy_hard")["funnel"]["dropped"] == {"damaged file": 1}
        # One of its records was for the other dataset, although the shard is not.
        put(raw, "toy/b-hard.jsonl", row(2, configs=["toy"]), row(3, do="damage"))
        report = build()
        assert totals(manifest(report)) == {"read": 2, "kept": 1, "dropped": {"damaged file": 1}}

    def test_a_damaged_member_costs_its_shard_and_not_the_archive(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1), row(2, do="damage member"), row(3), row(4))
        report = build(parameters={"shards": 2})
        assert ids(report) == ["1", "3"]
        (left,) = rejected(report)
        assert (left["file"], left["detail"]) == ("toy/a.jsonl/member", "the record says so")

    def test_files_read_together_are_named(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1))
        put(raw, "toy/b.jsonl.gz", b"no gzip at all")
        put(raw, "toy/c.jsonl", row(2))
        put(raw, "other/a.jsonl", row(1))
        report = build("all", parameters={"all_in_one": True}, fails=True)
        assert "toy/b.jsonl.gz: damaged file" in report.failed["toy"]
        assert "read together with toy/a.jsonl, toy/c.jsonl" in report.failed["toy"]

    def test_the_first_error_of_a_file_is_the_one_listed(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1, do="raise"), row(2, do="damage"))
        put(raw, "toy/b.jsonl", row(3))
        # Shard 0 has the even lines.
        assert manifest(build(parameters={"shards": 2}))["funnel"]["dropped"] == {"damaged file": 1}

    def test_a_file_that_the_source_refuses_at_once(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1))
        put(raw, "toy/closed.jsonl", row(2))
        report = build()
        assert totals(manifest(report)) == {"read": 2, "kept": 1, "dropped": {"cannot be opened": 1}}
        assert [f["path"] for f in manifest(report)["raw"]] == ["toy/a.jsonl", "toy/closed.jsonl"]
        assert [(n, r.file) for n, r in report.files_left_out] == [
            ("toy", "toy/closed.jsonl"), ("toy_hard", "toy/closed.jsonl"),
        ]  # fmt: skip

    def test_a_file_that_cannot_be_read_costs_itself(
        self, raw: Path, build: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(raw, "toy/a.jsonl", row(1))
        gone = put(raw, "toy/b.jsonl", row(2))
        shards = Toy.shards

        def late(self: Toy, source: Any) -> Any:
            gone.unlink()
            return shards(self, source)

        monkeypatch.setattr(Toy, "shards", late)
        monkeypatch.setattr(parse, "_sha256", lambda f: f.sha256() if f.local.exists() else None)
        report = build()
        assert manifest(report)["funnel"]["dropped"] == {"unreadable file": 1}
        assert str(raw) not in rejected(report)[0]["detail"]

    def test_values_that_do_not_fit_their_column_cost_the_file(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1))
        put(raw, "toy/b.jsonl", *(row(n) for n in range(2, 9)), row(9, level="high"))
        report = build()
        assert ids(report) == ["1"]
        assert manifest(report)["funnel"]["dropped"] == {"unexpected error": 1}

    @pytest.mark.parametrize(
        ("do", "why"), [("full disk", "No space left on device"), ("no memory", "out of memory; try fewer")]
    )
    def test_a_fault_of_the_machine_is_not_the_file_s(
        self, do: str, why: str, raw: Path, build: Callable
    ) -> None:
        put(raw, "toy/a.jsonl", row(1))
        put(raw, "toy/b.jsonl", row(2, do=do))
        put(raw, "other/a.jsonl", row(1))
        report = build("all", fails=True)
        assert why in report.failed["toy"]
        assert Store(report.out).names() == ["other"]


class TestSources:
    def test_one_without_a_usable_row_fails_with_reasons_and_the_rest_is_built(
        self, raw: Path, build: Callable
    ) -> None:
        put(raw, "toy/a.jsonl", row(1, do="damage"))
        put(raw, "toy/b.jsonl", row(2, answer=""), row(3, score=0), row(4, score=0))
        put(raw, "other/a.jsonl", row(1))
        report = build("all", fails=True)
        assert report.failed == {
            "toy": "no usable row in its raw files: toy/a.jsonl: damaged file (the record says so); "
            "empty output 1; score below 5 2"
        }
        assert [m.name for m in report.manifests] == ["other"]
        assert [(n, r.file) for n, r in report.files_left_out] == [
            ("toy", "toy/a.jsonl"), ("toy_hard", "toy/a.jsonl"),
        ]  # fmt: skip

    def test_many_damaged_files_make_a_short_message(self, raw: Path, build: Callable) -> None:
        for n in range(30):
            put(raw, f"toy/{n:02}.jsonl", row(n, do="damage"))
        why = build(fails=True).failed["toy"]
        assert "toy/00.jsonl" in why
        assert "toy/07.jsonl" not in why
        assert why.endswith("25 more files")

    def test_a_file_without_records(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl")
        assert build(fails=True).failed == {"toy": "no usable row in its raw files: they hold no record"}

    def test_a_dataset_without_rows_is_noted_and_not_published(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1, configs=["toy"]))
        report = build()
        assert Store(report.out).names() == ["toy"]
        assert report.notes == ["toy_hard: these raw files hold no row of it, so nothing was published"]
        put(raw, "toy/a.jsonl", row(1, configs=["toy"]), row(2, configs=["toy_hard"], score=0))
        assert build().notes == [
            "toy_hard: no usable row in these raw files, so nothing was published: score below 5 1"
        ]

    def test_an_error_before_the_first_shard_fails_the_source_alone(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/refuse.jsonl", row(1))
        put(raw, "other/a.jsonl", row(1))
        report = build("all", fails=True)
        assert report.failed == {
            "toy": "unexpected ValueError: odd bytes before the first shard. "
            "Report this as a bug of its builder."
        }
        assert Store(report.out).names() == ["other"]

    def test_two_sources_with_a_dataset_of_the_same_name(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1))
        put(raw, "zthief/a.jsonl", row(1))
        report = build("all", builders={"toy": Toy, "zthief": toy.Thief}, fails=True)
        assert report.failed == {"zthief": "toy has a dataset of the same name, toy_hard"}
        assert Store(report.out).manifest("toy_hard").source == "toy"

    @pytest.mark.parametrize("name", ["../toy", "a/b", ".hidden", "", "a b"])
    def test_names_that_are_no_folders_are_refused(
        self, name: str, raw: Path, build: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Toy, "configs", (name,))
        put(raw, "toy/a.jsonl", row(1))
        assert "cannot be a dataset's name" in build(fails=True).failed["toy"]

    def test_a_broken_builder_is_named(
        self, raw: Path, build: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(raw, "toy/a.jsonl", row(1))
        monkeypatch.setattr(
            pipeline_build, "available", lambda: (BUILDERS, {"poor": "poor.builder:Poor: ImportError"})
        )
        put(raw, "other/a.jsonl", row(1))
        for names in (("all",), ("poor", "toy")):
            report = build(*names, builders=None, fails=True)
            assert report.failed == {"poor": "its builder cannot be loaded: poor.builder:Poor: ImportError"}
            assert "toy" in Store(report.out).names()
        assert build("toy", builders=None).failed == {}


class TestWhatIsAskedFor:
    def test_unknown_names_are_answered_with_those_there_are(self, raw: Path, build: Callable) -> None:
        with pytest.raises(UnknownDatasetError) as caught:
            build("toy", "wikidok")
        assert caught.value.args == (
            "no source or dataset is named 'wikidok'; there are: all, other, toy, toy_hard",
        )

    def test_a_dataset_alone(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1), row(2, score=0))
        report = build("toy_hard")
        assert Store(report.out).names() == ["toy_hard"]
        assert manifest(report, "toy_hard")["funnel"]["read"] == 2
        both = build("toy_hard", "other")
        assert [m.name for m in both.manifests] == ["other", "toy_hard"]
        assert [m.name for m in build("toy_hard", "toy").manifests] == ["toy", "toy_hard"]

    def test_parameters(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1))
        assert manifest(build())["parameters"] == {"shards": 1, "by_config": False, "all_in_one": False}
        assert manifest(build(parameters={"shards": 2}))["parameters"]["shards"] == 2
        with pytest.raises(
            ValueError, match="toy: no parameter shard; its parameters: all_in_one, by_config"
        ):
            build(parameters={"shard": 2})
        with pytest.raises(ValueError, match="parameters for tow, which is no source"):
            build_datasets(["toy"], raw=raw, builders=BUILDERS, parameters={"tow": {}})

    def test_sample_and_raw(self, raw: Path, build: Callable, tmp_path: Path) -> None:
        put(raw, "other/a.jsonl", row(1))
        put(raw, "toy/only.users", b"x")
        report = build("all")  # nothing usable of toy: its sample
        assert {m.name: m.sample for m in report.manifests} == {
            "other": False, "toy": True, "toy_hard": True,
        }  # fmt: skip
        assert manifest(report)["licenses"] == {"CC0-1.0": 3}
        assert [f["path"] for f in manifest(report)["raw"]] == ["toy/s.jsonl"]
        report = build("all", require_raw=True, fails=True)
        assert report.failed == {"toy": f"no raw files in {raw / 'toy'}; it reads **/*.jsonl* (records)"}
        report = build("all", sample=True)
        assert {m.sample for m in report.manifests} == {True}
        assert report.notes == []
        with pytest.raises(ValueError, match="exclude each other"):
            build(sample=True, require_raw=True)
        with pytest.raises(ValueError, match="does not exist"):
            build(raw=tmp_path / "nowhere")

    def test_raw_comes_from_the_environment(
        self, raw: Path, build: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MEADOW_RAW", str(raw / "not there"))
        assert manifest(build(raw=None))["sample"]
        monkeypatch.setenv("MEADOW_RAW", str(raw))
        put(raw, "toy/a.jsonl", row(1))
        assert not manifest(build(raw=None))["sample"]

    def test_a_missing_sample_is_said(self, build: Callable, sample: Path) -> None:
        (sample / "s.jsonl").unlink()
        assert "its embedded sample is missing" in build(fails=True).failed["toy"]

    def test_raw_files_that_nobody_reads_are_noted(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1))
        put(raw, "toy/a.csv", b"1,2")
        put(raw, "other/x.users", b"x")
        put(raw, "stray/a.csv", b"1,2")
        put(raw, "stray/b.csv", b"1,2")
        put(raw, "notes.txt", b"1,2")
        assert build("all").notes == [
            "raw: notes.txt (1 file) belongs to no source and was not used",
            "raw: stray (2 files) belongs to no source and was not used",
            "raw: other/x.users only goes with files that are not there and was not used",
            "raw: toy/a.csv is no raw file of toy and was not used",
        ]

    def test_progress_counts_to_the_end(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", *map(row, range(9)))
        told: list[tuple] = []
        build(parameters={"shards": 3}, progress=lambda *what: told.append(what))
        parsing = [what for what in told if what[1] == "parsing"]
        assert parsing == [("toy", "parsing", n, 3) for n in (1, 2, 3)]
        writing = [what[2:] for what in told if what[1] == "writing"]
        assert [done for done, _ in writing] == list(range(1, writing[0][1] + 1))


class TestSplits:
    def test_official_ones_are_kept_and_the_rest_is_by_hash_of_the_group(
        self, raw: Path, build: Callable
    ) -> None:
        put(
            raw, "toy/a.jsonl",
            *(row(n, group=f"page {n // 4}", **({"split": "test"} if n % 40 < 4 else {})) for n in range(2000)),
        )  # fmt: skip
        report = build(parameters={"shards": 3})
        found = rows(report)
        assert list(found) == ["test", "train", "validation"]
        assert len(found["test"]) == 200
        groups = {split: {r["group"] for r in each} for split, each in found.items()}
        assert not groups["train"] & groups["validation"]
        share = len(groups["validation"]) / 450
        assert 0.06 < share < 0.14
        # By hash of the group alone: another build with other pages splits these as before.
        put(raw, "toy/a.jsonl", *(row(n, group=f"page {n // 4}") for n in range(1000, 3000)))
        again = rows(build())
        assert {r["group"] for r in again["validation"]} & groups["train"] == set()
        assert {r["group"] for r in again["train"]} & groups["validation"] == set()

    def test_the_hash_is_this_one(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", *(row(n) for n in range(300)))
        found = rows(build())
        assert set(found) == {"train", "validation"}
        for split, each in found.items():
            assert {split_of(r["group"]) for r in each} == {split}


class TestFiles:
    def test_a_split_is_cut_into_files_in_the_order_of_the_raw_data(
        self, raw: Path, build: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pipeline_files, "FILE_BYTES", 10_000)
        monkeypatch.setattr(pipeline_files, "ROW_GROUP", 30)
        for n in range(12):
            put(raw, f"toy/{n:02}.jsonl", *(row(f"{n:02}-{k:02}", split="test") for k in range(40)))
        report = build()
        files = manifest(report)["splits"]["test"]["files"]
        assert len(files) > 3
        assert [f["path"] for f in files] == [
            f"test-{n:05d}-of-{len(files):05d}.parquet" for n in range(len(files))
        ]
        found = [r["id"] for r in rows(report)["test"]]
        assert found == sorted(found)
        assert len(found) == 480
        for entry in files:
            meta = pq.read_metadata(folder(report) / entry["path"])
            sizes = [meta.row_group(n).num_rows for n in range(meta.num_row_groups)]
            assert set(sizes[:-1]) <= {30}
            assert 0 < sizes[-1] <= 30
        once = manifest(report)
        monkeypatch.undo()
        monkeypatch.setattr(publish, "draw", toy.no_plot)
        whole = manifest(build(parameters={"shards": 1}))
        # How rows are spread over files changes neither hash.
        assert (whole["rows_sha256"], whole["ids_sha256"]) == (once["rows_sha256"], once["ids_sha256"])
        assert len(whole["splits"]["test"]["files"]) == 1

    def test_many_files_give_one_list_of_ids(
        self, raw: Path, build: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pipeline_files, "FILE_BYTES", 1)
        keys = [f"{n * 7919 % 457}" for n in range(457)]  # more files than are merged at once
        put(raw, "toy/a.jsonl", *map(row, keys))
        report = build("toy", parameters={"shards": 457})
        found = manifest(report)
        assert sum(len(entry["files"]) for entry in found["splits"].values()) == 457
        lines = sorted(f"toy/{key}".encode() for key in keys)
        expected = hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
        assert found["ids_sha256"] == expected

    def test_ids_sha256_is_that_of_sort(self, raw: Path, build: Callable) -> None:
        keys = ["b", "a", "B", "a b", "a-b", "é", "Z", "10", "9", "ﬀ", "\U0001f600", "ab", "a/b"]
        put(raw, "toy/a.jsonl", *map(row, keys))
        command = "sort | sha256sum"
        text = "".join(f"toy/{key}\n" for key in keys)
        done = subprocess.run(
            command, shell=True, input=text.encode(), capture_output=True, env={**os.environ, "LC_ALL": "C"}
        )
        assert manifest(build(parameters={"shards": 4}))["ids_sha256"] == done.stdout.split()[0].decode()

    def test_rows_sha256_by_hand(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1, split="test", level=2), row("é", split="test", authors=["Ann"]))
        columns = (
            '["instruction","input","output","id","task","options","answer_key","group","source_url",'
            '"source_date","authors","license","generator","level"]'
        )
        first = (
            '["Answer this question truthfully","What is 1?","It is 1.","toy/1","question-answering",[],null,'
            '"1",null,null,[],"MIT",null,2]'
        )
        second = (
            '["Answer this question truthfully","What is é?","It is é.","toy/é","question-answering",[],null,'
            '"é",null,null,[{"name":"Ann","url":null}],"MIT",null,null]'
        )
        hashed = hashlib.sha256(columns.encode() + b"\n" + b"test\n")
        for line in (first, second):
            hashed.update(hashlib.sha256(line.encode()).digest())
        found = manifest(build())
        # The pin: columns, or how rows are written down, must not change without this test's notice.
        assert found["rows_sha256"] == hashed.hexdigest()
        assert found["rows_sha256"] == "193fb9d053193c42d7fa059493721d9696c9ac565e60ba7db4019671d4a6bf89"

    def test_manifest_keys(self, raw: Path, build: Callable) -> None:
        path = put(raw, "toy/deep/a.jsonl", row(1), row(2, split="test"), row(3, score=0))
        found = manifest(build())
        data = path.read_bytes()
        assert {k: found[k] for k in ("name", "version", "sample", "raw", "licenses")} == {
            "name": "toy",
            "version": "1.0.0",
            "sample": False,
            "raw": [
                {
                    "path": "toy/deep/a.jsonl",
                    "bytes": len(data),
                    "sha256": hashlib.sha256(data).hexdigest(),
                }
            ],
            "licenses": {"MIT": 2},
        }
        assert totals(found) == {"read": 3, "kept": 2, "dropped": {"score below 5": 1}}
        assert set(found["splits"]) == {"test", "train"}
        for split, entry in found["splits"].items():
            assert entry["rows"] == 1
            (file,) = entry["files"]
            assert set(file) == {"path", "bytes", "sha256"}
            assert file["path"] == f"{split}-00000-of-00001.parquet"
        assert re.fullmatch("[0-9a-f]{64}", found["ids_sha256"])

    @pytest.mark.usefixtures("drawn")
    def test_bytes_are_the_same_anywhere_at_any_time_with_any_executor(
        self, raw: Path, build: Callable, tmp_path: Path
    ) -> None:
        for n in range(6):
            put(raw, f"toy/{n}.jsonl", *(row(f"{n}-{k}", level=k) for k in range(20)), row(0, score=n))
        put(raw, "toy/6.jsonl", row("0-1"), row("odd", do="raise"))
        put(raw, "toy/7.jsonl", row("0-1"), row(8, question="\ud800"))
        put(raw, "other/a.jsonl", row(1))
        one = tree(build("all", out=tmp_path / "one", parameters={"shards": 3}).out)
        moved = raw.rename(tmp_path / "another place")
        with ThreadPoolExecutor(4) as threads:
            made = {
                "two": build("all", out=tmp_path / "two", raw=moved, parameters={"shards": 3}, workers=2),
                "threads": build(
                    "all", out=tmp_path / "threads", raw=moved, parameters={"shards": 3}, executor=threads
                ),
            }
        for name, report in made.items():
            assert tree(report.out).keys() == one.keys()
            for path, data in tree(report.out).items():
                assert data == one[path], f"{name}: {path}"
        # Built again over itself, cards and all.
        report = build("all", out=tmp_path / "one", raw=moved, parameters={"shards": 3})
        assert tree(report.out) == one
        assert sum(path.endswith("plot.svg") for path in one) == 3
        for path, data in one.items():
            if path.endswith(".parquet"):
                data = json.dumps(pq.read_table(io.BytesIO(data)).to_pylist()).encode()
            for word in (str(tmp_path), str(Path.home()), socket.gethostname(), ".meadow"):
                if len(word) > 5:
                    assert word.encode() not in data, path
            assert b" at 0x" not in data, path

    def test_the_setting_of_the_collector_is_put_back(self, raw: Path, build: Callable) -> None:
        import gc

        before = gc.get_threshold()
        put(raw, "toy/a.jsonl", *map(row, range(50)))
        with ThreadPoolExecutor(4) as threads:
            build(parameters={"shards": 20}, executor=threads)
        assert gc.get_threshold() == before


class TestPublication:
    def configs(self, out: Path) -> dict[str, dict[str, str]]:
        card = (out / "README.md").read_text(encoding="utf-8")
        front = yaml.safe_load(card.split("---\n")[1])
        return {c["config_name"]: {f["split"]: f["path"] for f in c["data_files"]} for c in front["configs"]}

    @pytest.mark.parametrize("splits", [("test",), ("test", "train", "validation"), ("train",)])
    def test_the_card_names_no_missing_file_at_any_step(
        self, splits: tuple[str, ...], raw: Path, build: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        groups = {split_of(f"{n}"): f"{n}" for n in range(30)}
        put(raw, "toy/a.jsonl", row(1, group=groups["train"]), row(2, group=groups["validation"]))
        build()
        put(
            raw, "toy/a.jsonl",
            *(row(s, **({"split": s} if s == "test" else {"group": groups[s]})) for s in splits),
        )  # fmt: skip
        steps: list[str] = []
        for name in ("publish", "write"):
            original = getattr(Store, name)

            def spy(self: Store, *args: Any, original: Callable = original, name: str = name) -> None:
                toy.whole(self.root)
                original(self, *args)
                toy.whole(self.root)
                steps.append(name)

            monkeypatch.setattr(Store, name, spy)
        report = build()
        assert steps.count("publish") == 2
        assert steps[-1] == "write"
        assert set(self.configs(report.out)["toy"]) == set(splits)

    def test_versions_lie_side_by_side_and_the_card_points_at_the_newest(
        self, raw: Path, build: Callable, tmp_path: Path
    ) -> None:
        import datasets

        put(raw, "toy/a.jsonl", row(1, split="test"))
        old = manifest(build())
        put(raw, "toy/a.jsonl", row(1, split="test"), row(2, split="test"))
        report = build(builders={"toy": toy.Newer})
        new = manifest(report)
        assert (old["version"], new["version"]) == ("1.0.0", "1.1.0")
        store = Store(report.out)
        assert store.versions("toy") == ["1.0.0", "1.1.0"]
        assert self.configs(report.out)["toy"] == {"test": "toy/1.1.0/test-*.parquet"}
        assert json.loads(store.manifest("toy", "1.0").text()) == old
        assert "mood" in new["features"]
        assert "mood" not in old["features"]
        for folder, count in ((report.out, 2), (report.out / "toy" / "1.0.0", 1)):
            data = datasets.load_dataset(str(folder), "toy", split="test", cache_dir=str(tmp_path / "hf"))
            assert data.num_rows == count
        # The older one built again stays the older one.
        build()
        assert self.configs(report.out)["toy"] == {"test": "toy/1.1.0/test-*.parquet"}

    def test_a_broken_manifest_keeps_nothing_else_from_publication(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/a.jsonl", row(1, split="test"))
        put(raw, "other/a.jsonl", row(1, split="test"))
        report = build("all")
        path = folder(report, "other") / "manifest.json"
        path.write_text(path.read_text(encoding="utf-8")[:99], encoding="utf-8")
        report = build_datasets(["toy"], raw=raw, out=report.out, builders=BUILDERS)
        assert report.failed == {}
        (note,) = report.notes
        assert note.startswith("other is not in the collection's card: ")
        assert set(self.configs(report.out)) == {"toy", "toy_hard"}
        assert build("other").notes == []
        assert set(self.configs(report.out)) == {"other", "toy", "toy_hard"}

    def test_a_second_build_is_refused(self, raw: Path, build: Callable, tmp_path: Path) -> None:
        put(raw, "toy/a.jsonl", row(1))
        with Store(tmp_path / "out").writing(), pytest.raises(StoreError, match="another build is writing"):
            build()
