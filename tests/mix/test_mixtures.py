"""Mixtures: what their YAML may say, which rows are drawn, what is said of missing parts, and lock files."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import meadow
from meadow import api
from meadow.api import build_datasets
from meadow.core.manifest import (
    CheckedExam,
    Contamination,
    Duplicates,
    FunnelStage,
    Manifest,
    MissingPart,
    Privacy,
)
from meadow.core.options import BuildOptions
from meadow.core.row import COLUMNS, content_hash, encode
from meadow.core.store import Store, StoreError
from meadow.describe.report import warnings
from meadow.describe.report.gather import gather
from meadow.filters.privacy import LIMITS
from meadow.mix import building, definition, reading, writing
from meadow.mix.lock import LOCK, LockMismatchError
from meadow.pipeline import files, publish
from meadow.pipeline.report import Report
from tests.toy import Newer, Other, Toy, no_plot, put, row

#: Toy rows are much alike, which is not what these tests are about.
OFF = BuildOptions(languages=(), quality="off", privacy="off", contamination="off", duplicates="off")


class Exam(Toy):
    """A source that models are scored on."""

    name = "exam"
    configs = ("exam",)
    test_only = True


BUILDERS = {"toy": Toy, "other": Other, "exam": Exam}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No plots, and toy sources without a sample."""
    home = tmp_path_factory.mktemp("home")
    (home / "sample").mkdir()
    monkeypatch.setattr(Toy, "home", home)
    monkeypatch.setattr(publish, "draw", no_plot)
    monkeypatch.setattr(publish, "draw", no_plot)


class Bench:
    """A raw store, an output folder, and what tests do with both."""

    def __init__(self, folder: Path) -> None:
        self.raw, self.store = folder / "raw", Store(folder / "out")
        self.folder = folder
        self.raw.mkdir(parents=True)

    def put(self, name: str, *records: Any) -> None:
        put(self.raw, name, *records)

    def build(self, *names: str, builders: Any = BUILDERS, **options: Any) -> Report:
        options = {"options": OFF, **options}
        report = build_datasets(names, raw=self.raw, out=self.store.root, builders=builders, **options)
        assert report.failed == {}
        return report

    def define(self, *parts: Any, **keys: Any) -> definition.Mixture:
        data = {
            "name": "mine",
            "version": "1.0.0",
            "description": "A mixture.",
            "release_notes": {"1.0.0": "First version."},
            "seed": 7,
            "parts": [part if isinstance(part, dict) else {"dataset": part} for part in parts],
            **keys,
        }
        path = self.folder / "mine.yaml"
        path.write_text(json.dumps(data), encoding="utf-8")
        return definition.load(path)

    def mix(self, *parts: Any, options: dict[str, Any] | None = None, **keys: Any) -> Manifest:
        return self.make(self.define(*parts, **keys), **(options or {}))

    def make(self, mixture: definition.Mixture, **options: Any) -> Manifest:
        more = {name: options.pop(name) for name in ("executor", "progress", "ensure") if name in options}
        builders = options.pop("builders", BUILDERS)
        asked = BuildOptions(**{"raw": self.raw, "out": self.store.root, **options})
        return building.build(mixture, asked, builders=builders, **more)

    def rows(self, name: str = "mixture_mine", split: str | None = "train") -> list[dict[str, Any]]:
        files = self.store.files(name)
        chosen = files.get(split, []) if split else [p for paths in files.values() for p in paths]
        return [r for path in chosen for r in pq.read_table(path).to_pylist()]

    def ids(self, name: str = "mixture_mine", split: str | None = "train") -> list[str]:
        return [r["id"] for r in self.rows(name, split)]

    def rejected(self, name: str = "mixture_mine") -> list[dict[str, Any]]:
        manifest = self.store.manifest(name)
        return pq.read_table(self.store.folder(name, manifest.version) / "rejected.parquet").to_pylist()

    def files(self, name: str = "mixture_mine") -> dict[str, str]:
        folder = self.store.folder(name, self.store.resolve(name))
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}

    def lock(self) -> Path:
        """A copy of the lock of what was built, and nothing built."""
        copy = self.folder / "kept.lock.json"
        shutil.copy(self.store.root / "mixture_mine" / "1.0.0" / LOCK, copy)
        shutil.rmtree(self.store.root / "mixture_mine")
        return copy


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def built(bench: Bench) -> Bench:
    """`toy` of 200 rows, `other` of 60 others; `toy_hard` has the ids of `toy`."""
    bench.put("toy/a.jsonl", *(row(i) for i in range(120)))
    bench.put("toy/b.jsonl", *(row(i, level=i) for i in range(120, 200)))
    bench.put("other/a.jsonl", *(row(f"o{i}", license="CC-BY-SA-4.0") for i in range(60)))
    bench.build("toy", "other")
    return bench


# ---- what YAML may say ------------------------------------------------------------------------------

README_COUNTS = {
    "medical_flashcards": 33_955,
    "wikidoc": 10_000,
    "wikidoc_patient_information": 5_942,
    "stackexchange_academia.stackexchange.com": 40_865,
    "stackexchange_biology.stackexchange.com": 27_887,
    "stackexchange_fitness.stackexchange.com": 9_833,
    "stackexchange_medicalsciences.stackexchange.com": 7_721,
    "stackexchange_bioinformatics.stackexchange.com": 5_407,
}


def test_shipped_mixtures() -> None:
    assert list(definition.available()) == ["clean", "medalpaca", "medalpaca_small"]
    large, small = definition.load("medalpaca"), definition.load("medalpaca_small")
    assert {part.dataset: part.max_rows for part in large.parts} == README_COUNTS
    assert {part.dataset: part.published for part in large.parts} == README_COUNTS
    assert {part.dataset: part.weight for part in small.parts} == README_COUNTS
    assert sum(small.wanted()) == small.total_rows == 6000
    for one, other in zip(small.wanted(), large.wanted(), strict=True):
        assert abs(one - 6000 * other / sum(README_COUNTS.values())) < 1
    absent = {a.name: a.published for a in large.not_in_meadow}
    assert absent == {
        "CORD-19": 50_000, "Pubmed Health Advice": 10_178, "ChatDoctor": 10_000, "OpenAssistant": 9_209,
        "MMMLU": 3_787, "Pubmed Causal": 2_446, "MEDIQA": 2_208, "MedQA": None,
    }  # fmt: skip
    assert small.not_in_meadow == large.not_in_meadow
    clean = definition.load("clean")
    assert clean.licenses.open_only
    assert clean.contamination == ("refuse_unchecked", "exclude_hits")
    for name in definition.available():
        assert definition.load(name).release_notes[definition.load(name).version]
        assert definition.load(f"mixture_{name}") == definition.load(name)
        assert definition.load(definition.available()[name]) == definition.load(name)


def test_every_mistake_is_told_with_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        """
name: Bad Name
version: 1.0
parts:
  - {dataset: x, split: [train, test], max_rows: -3, colour: red, where: {a: {beneath: 3}, b: []}}
  - {dataset: mixture_y, versions: 1.1, weight: 0}
  - {versions: newest, max_rows: 3, weight: 2}
  - just words
total_rows: many
licenses: {allow: [MITT], foo: 1}
contamination: maybe
not_in_meadow: [{name: z}]
colour: blue
""",
        encoding="utf-8",
    )
    with pytest.raises(definition.DefinitionError) as caught:
        definition.load(path)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith(f"{len(lines) - 1} mistakes:")
    assert str(path) in lines[0]
    assert all(line.startswith("  - ") for line in lines[1:])
    said = [line.removeprefix("  - ") for line in lines[1:]]
    for key in (
        "colour: unknown key", "name: 'Bad Name'", "version: is 1.0, and must be text", "description: is missing",
        "release_notes:", "seed: is missing", "parts[0].colour: unknown key", "parts[0].split: 'test'",
        "parts[0].max_rows: -3", "parts[0].where.a: a mapping has the keys not, min, max", "parts[0].where.b",
        "parts[1].dataset: a mixture cannot be part of another", "parts[1].versions: 1.1 must be text",
        "parts[1].weight: 0", "parts[2].dataset: is missing", "parts[2].versions: 'newest'",
        "parts[2].weight: stands beside max_rows; choose one", "parts[3]: is text, and must be a mapping", "total_rows: is text, and must be a whole number",
        "licenses.allow: 'MITT'", "licenses.foo: unknown key", "contamination[0]: 'maybe'",
        "not_in_meadow[0].reason: is missing",
    ):  # fmt: skip
        assert any(line.startswith(key) for line in said), key


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("- a\n- b", "is a list, and must be a mapping"),
        ("name: a\nname: b", "the key 'name' stands twice"),
        ("name: [", "is no YAML"),
        ("", "is nothing, and must be a mapping"),
    ],
)
def test_what_is_no_mixture(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(definition.DefinitionError, match=said):
        definition.load(str(path))


def test_unknown_names(tmp_path: Path, bench: Bench) -> None:
    with pytest.raises(
        definition.DefinitionError, match=r"no mixture is named 'medalpacka'; there are: clean, m"
    ):
        definition.load("medalpacka")
    with pytest.raises(
        definition.DefinitionError, match=r"none\.yaml: 1 mistake:\n  - cannot be read: No such"
    ):
        definition.load(tmp_path / "none.yaml")
    with pytest.raises(definition.DefinitionError, match=r"name: clean is a mixture that comes with Meadow"):
        bench.define("toy", name="clean")


@pytest.mark.parametrize(
    ("versions", "accepted"),
    [
        ("", "1.0.0 1.9.0 1.10.0 2.0.0"),
        ("1.x", "1.0.0 1.9.0 1.10.0"),
        ("1", "1.0.0 1.9.0 1.10.0"),
        ("1.10", "1.10.0"),
        ("1.9.x", "1.9.0"),
        ("1.0.0", "1.0.0"),
        (">=1.9,<2", "1.9.0 1.10.0"),
        ("~=1.9", "1.9.0 1.10.0"),
        ("!=1.9.0", "1.0.0 1.10.0 2.0.0"),
    ],
)
def test_version_ranges(versions: str, accepted: str) -> None:
    part = definition.MixturePart(dataset="toy", versions=versions)
    there = ["1.0.0", "1.9.0", "1.10.0", "2.0.0"]
    assert " ".join(v for v in there if part.accepts(v)) == accepted


def test_weights_are_shared_out_to_the_last_row(bench: Bench) -> None:
    parts = [{"dataset": name, "weight": 1} for name in "abc"]
    assert bench.define(*parts, total_rows=100).wanted() == [34, 33, 33]
    parts[2]["weight"] = 2.5
    assert sum(bench.define(*parts, total_rows=101).wanted()) == 101
    with pytest.raises(definition.DefinitionError, match=r"total_rows: is missing"):
        bench.define(*parts)
    with pytest.raises(definition.DefinitionError, match=r"parts\[3\]\.weight: is missing"):
        bench.define(*parts, {"dataset": "d", "max_rows": 3}, total_rows=9)
    with pytest.raises(definition.DefinitionError, match=r"total_rows: is of no use"):
        bench.define("a", total_rows=9)


def test_definition_hash_is_of_what_is_said_not_of_how(bench: Bench) -> None:
    plain = bench.define({"dataset": "toy", "versions": "1.x"})
    spelt = bench.define(
        {"versions": "1.x", "where": None, "dataset": "toy", "split": "train"}, citation=None
    )
    assert plain.sha256() == spelt.sha256()
    assert plain.sha256() != bench.define({"dataset": "toy", "versions": "1.x"}, seed=8).sha256()


# ---- which rows are drawn ---------------------------------------------------------------------------


def test_rows_of_the_smallest_hashes(built: Bench) -> None:
    manifest = built.mix({"dataset": "toy", "max_rows": 50})
    pool = built.ids("toy")
    keys, places = reading.hashes(pool, 7)
    smallest = [pool[i] for i in np.argsort(keys)[:50]]
    place = dict(zip(pool, places.tolist(), strict=True))
    assert built.ids() == sorted(smallest, key=place.__getitem__)
    assert manifest.splits["train"].rows == 50
    by_hand = hashlib.blake2b(pool[0].encode(), digest_size=16, key=b"7").digest()
    assert keys[0] == int.from_bytes(by_hand[:8])
    assert places[0] == int.from_bytes(by_hand[8:])


def test_another_seed_draws_others(built: Bench) -> None:
    built.mix({"dataset": "toy", "max_rows": 50})
    first = set(built.ids())
    built.mix({"dataset": "toy", "max_rows": 50}, seed=8)
    assert len(first & set(built.ids())) < 30


def test_same_rows_under_any_order(built: Bench) -> None:
    built.mix({"dataset": "toy", "max_rows": 50}, "other")
    before = built.ids()
    for path in (built.raw / "toy").iterdir():
        path.unlink()
    built.put("toy/z.jsonl", *(row(i) for i in reversed(range(200))))
    built.build("toy")
    built.mix({"dataset": "toy", "max_rows": 50}, "other")
    assert built.ids() == before


def test_rows_that_come_and_go_change_few_others(built: Bench) -> None:
    built.mix({"dataset": "toy", "max_rows": 50})
    before = built.ids()
    gone = set(before[:5])
    for name, numbers in (("a", range(120)), ("b", range(120, 230))):
        built.put(f"toy/{name}.jsonl", *(row(i) for i in numbers if f"toy/{i}" not in gone))
    built.build("toy")
    built.mix({"dataset": "toy", "max_rows": 50})
    after = built.ids()
    new = {f"toy/{i}" for i in range(200, 230)}
    assert len(after) == 50
    came = new & set(after)
    assert came
    # Those that stay are in the same order, and no more leave than come in place of them.
    stayed = [i for i in before if i in set(after)]
    assert stayed == [i for i in after if i in set(before)]
    assert len(set(before) - gone - set(after)) <= len(came)
    assert len(set(after) - new - set(before)) <= len(gone)


def test_rows_are_mixed_and_say_where_they_are_from(built: Bench) -> None:
    manifest = built.mix({"dataset": "toy", "max_rows": 60}, {"dataset": "other", "max_rows": 30})
    found = built.rows()
    assert list(found[0]) == [*COLUMNS, "dataset"]
    assert Counter(r["dataset"] for r in found) == {"toy": 60, "other": 30}
    beginning = Counter(r["dataset"] for r in found[:30])
    assert 13 <= beginning["toy"] <= 27, "the beginning is a fair sample of the whole"
    assert manifest.features == {**COLUMNS, "dataset": "string"}
    one = next(r for r in found if r["dataset"] == "other")
    same = next(r for r in built.rows("other") if r["id"] == one["id"])
    assert {k: v for k, v in one.items() if k != "dataset"} == {k: same[k] for k in COLUMNS}


def test_rows_keep_their_split(built: Bench) -> None:
    manifest = built.mix({"dataset": "toy", "split": ["train", "validation"], "max_rows": 100})
    train, validation = built.ids(split="train"), built.ids(split="validation")
    assert set(train) <= set(built.ids("toy", "train"))
    assert set(validation) <= set(built.ids("toy", "validation"))
    assert len(train) + len(validation) == 100
    assert len(validation) > 3
    assert list(manifest.splits) == ["train", "validation"]
    assert manifest.mixture.parts[0].split == ("train", "validation")
    built.mix({"dataset": "toy"})
    assert list(built.store.manifest("mixture_mine").splits) == ["train"]


def test_no_group_in_two_splits(bench: Bench) -> None:
    bench.put("toy/a.jsonl", *(row(i) for i in range(40)))

    # Another dataset of the same source, whose publisher put the same group elsewhere.
    class Official(Toy):
        configs = ("toy", "toy_official")
        official_splits = ("train", "validation")

        def examples(self, shard: Any) -> Iterator[Any]:
            yield from super().examples(shard)

    bench.put("toy/b.jsonl", *(
        row(f"v{i}", group=f"{i}", split="validation", configs=["toy_official"]) for i in range(40)
    ))  # fmt: skip
    bench.put("toy/c.jsonl", *(row(f"w{i}", split="validation", configs=["toy_official"]) for i in range(9)))
    classes = {"toy": Official}
    bench.build("toy", builders=classes)
    both = ["train", "validation"]
    manifest = bench.mix(
        "toy", {"dataset": "toy_official", "split": both}, options={"builders": classes}
    )  # fmt: skip
    train = {r["group"] for r in bench.rows()}
    validation = {r["group"] for r in bench.rows(split="validation")}
    assert train
    assert validation
    assert not train & validation
    out = [r["id"] for r in bench.rejected() if r["reason"] == reading.GROUP]
    assert manifest.funnel.dropped[reading.GROUP] == len(out) == len(train & {f"{i}" for i in range(40)})


def test_parts_with_the_same_ids(built: Bench) -> None:
    manifest = built.mix({"dataset": "toy_hard", "max_rows": 40}, {"dataset": "toy", "max_rows": 100})
    found = built.rows()
    assert len({r["id"] for r in found}) == len(found) == 140
    assert Counter(r["dataset"] for r in found) == {"toy_hard": 40, "toy": 100}
    same = [r for r in built.rejected() if r["reason"] == reading.SAME_ID]
    assert len(same) == manifest.funnel.dropped[reading.SAME_ID] == 40
    assert {r["id"] for r in same} == {r["id"] for r in found if r["dataset"] == "toy_hard"}
    manifest = built.mix("toy", "toy_hard")
    assert [p.taken for p in manifest.mixture.parts] == [len(built.ids("toy")), 0]


def test_equal_texts_are_drawn_once(bench: Bench) -> None:
    texts = {"question": "What is  caf\u00e9?", "answer": "It is\n this."}
    other = {"question": " What is cafe\u0301?", "answer": "It is this. "}
    bench.put("toy/a.jsonl", *(row(i, split=None) for i in range(30)), row("x", group="0", **texts))
    bench.put("other/a.jsonl", *(row(f"o{i}") for i in range(30)), row("y", group="o0", **other))
    bench.put("other/b.jsonl", *({**row(f"o{i}"), "key": f"again{i}", "group": f"o{i}"} for i in range(10)))
    bench.build("toy", "other")
    splits = ["train", "validation"]
    manifest = bench.mix({"dataset": "toy", "split": splits}, {"dataset": "other", "split": splits})
    ids = bench.ids(split=None)
    assert "toy/x" in ids
    assert "other/y" not in ids
    # Within a part, the row with the smaller hash.
    keys = dict(zip(ids, reading.hashes(ids, 7)[0].tolist(), strict=True))
    lost = {r["id"]: r["reason"] for r in bench.rejected()}
    assert lost.pop("other/y") == reading.SAME_TEXT
    assert manifest.funnel.dropped == {reading.SAME_TEXT: 11}
    for i in range(10):
        kept, gone = (f"other/o{i}", f"other/again{i}")
        if gone in ids:
            kept, gone = gone, kept
        assert lost[gone] == reading.SAME_TEXT
        assert keys[kept] < reading.hashes([gone], 7)[0][0]


def test_equal_text_that_was_not_drawn_makes_room(built: Bench) -> None:
    """A part still gets what it wants where rows of it are in the mixture already."""
    manifest = built.mix({"dataset": "toy", "max_rows": 150}, {"dataset": "toy_hard", "max_rows": 20})
    assert [p.taken for p in manifest.mixture.parts] == [150, 20]


def test_every_row_left_out_is_listed(built: Bench) -> None:
    manifest = built.mix({"dataset": "toy", "max_rows": 50}, "other")
    funnel, out = manifest.funnel, built.rejected()
    assert funnel.read == len(built.ids("toy")) + len(built.ids("other"))
    assert funnel.kept == len(built.ids()) == 50 + len(built.ids("other"))
    assert funnel.dropped == {"not drawn": len(out)}
    assert [s.stage for s in funnel.stages] == list(reading.STAGES)
    assert {r["id"] for r in out} | set(built.ids()) == set(built.ids("toy")) | set(built.ids("other"))
    assert out[0]["source"] == "toy"
    assert out[0]["file"] == "toy/1.0.0/train-00000-of-00001.parquet"
    assert out[0]["excerpt"].startswith("What is ")
    assert out[0]["remedy"]


def test_conditions(built: Bench) -> None:
    manifest = built.mix({"dataset": "toy", "where": {"level": {"min": 130, "max": 139}}})
    ids = {f"toy/{i}" for i in range(130, 140)} & set(built.ids("toy"))
    assert set(built.ids()) == ids
    assert manifest.mixture.parts[0].available == len(ids)
    assert manifest.funnel.dropped == {reading.CONDITION: len(built.ids("toy")) - len(ids)}
    built.mix({"dataset": "toy", "where": {"level": None, "generator": None}})
    assert set(built.ids()) == {f"toy/{i}" for i in range(120)} & set(built.ids("toy"))
    built.mix({"dataset": "toy", "where": {"level": {"not": None}, "id": {"not": ["toy/150"]}}})
    assert set(built.ids()) == ({f"toy/{i}" for i in range(120, 200)} - {"toy/150"}) & set(built.ids("toy"))
    built.mix({"dataset": "toy", "where": {"level": [125, 126, 127, None]}})
    assert set(built.ids()) == {f"toy/{i}" for i in range(128) if not 120 <= i < 125} & set(built.ids("toy"))
    wrong = {"mood": "good", "level": "high", "authors": "x"}
    with pytest.raises(definition.MixtureError) as caught:
        built.mix({"dataset": "toy", "where": wrong})
    for said in (
        "where.mood: toy has no such column",
        "where.level: the column holds int64",
        "where.authors",
    ):
        assert f"parts[0].{said}" in str(caught.value)


def test_licence_policy(built: Bench) -> None:
    built.put("toy/c.jsonl", *(row(f"g{i}", generator="gpt-3.5-turbo") for i in range(20)))
    built.build("toy")
    manifest = built.mix("toy", "other", licenses={"open_only": True})
    assert set(manifest.licenses) == {"CC-BY-SA-4.0", "MIT"}
    assert not any(r["generator"] for r in built.rows())
    dropped = manifest.funnel.dropped
    assert list(dropped) == ["generated text: license is not settled"]
    assert manifest.funnel.stages[1] == FunnelStage(
        stage="license", read=manifest.funnel.read, kept=manifest.funnel.kept, dropped=dropped
    )
    manifest = built.mix("toy", "other", licenses={"deny": ["CC-BY-SA-*"]})
    assert list(manifest.licenses) == ["MIT"]
    assert manifest.funnel.dropped == {"license denied by policy": len(built.ids("other"))}


def test_verdict_names_the_strictest_parts(built: Bench) -> None:
    manifest = built.mix("toy", "other")
    verdict = manifest.license_verdict
    assert verdict.adaptation.answer == "yes, under CC-BY-SA-4.0"
    assert f"other {len(built.ids('other'))}" in " ".join(verdict.adaptation.because)
    card = (built.store.root / "mixture_mine" / "1.0.0" / "README.md").read_text("utf-8")
    assert "under CC-BY-SA-4.0.** CC-BY-SA-4.0 (" in card
    assert ": other " in card
    credit = pq.read_table(built.store.root / "mixture_mine" / "1.0.0" / "ATTRIBUTION.parquet")
    assert set(credit["id"].to_pylist()) == set(built.ids())


# ---- exams ------------------------------------------------------------------------------------------


def test_exams_are_refused(built: Bench) -> None:
    built.put("exam/a.jsonl", *(row(i) for i in range(20)))
    built.build("exam")
    with pytest.raises(
        definition.MixtureError, match=r"parts\[1\]\.dataset: exam is an exam to score models on"
    ):
        built.mix("toy", "exam", options={"allow_missing": True})
    with pytest.raises(
        definition.DefinitionError, match=r"parts\[0\]\.split: 'test': a test split is for scoring"
    ):
        built.mix({"dataset": "toy", "split": "test"})
    assert built.store.versions("mixture_mine") == []


def exam(sample: bool = False) -> CheckedExam:
    counts = dict.fromkeys(("items", "unjudged", "items_hit", "rows_hit", "rows_dropped"), 0)
    return CheckedExam(exam="usmle", version="1.0.0", split="test", sample=sample, sha256="0" * 64, **counts)


def claim(bench: Bench, name: str, *hits: str, **found: Any) -> None:
    """Writes into a built dataset what the check for exam items says of it."""
    folder = bench.store.folder(name, "1.0.0")
    checked = Contamination(**{"policy": "flag", "exams": (exam(),), **found})
    bench.store.manifest(name).model_copy(update={"contamination": checked}).write(folder / "manifest.json")
    pq.write_table(pa.table({"id": pa.array(hits, pa.string())}), folder / "contamination.parquet")


def test_datasets_must_be_checked_for_exam_items(built: Bench) -> None:
    asked = {"contamination": ["refuse_unchecked", "exclude_hits"]}
    with pytest.raises(definition.MixtureError) as caught:
        built.mix("toy", "other", **asked)
    assert "toy 1.0.0: its rows were not checked for exam items. Build it again: `python -m" in str(
        caught.value
    )
    assert "other 1.0.0: its rows were not checked" in str(caught.value)
    ids = built.ids("toy")
    claim(built, "toy", *ids[:7], "toy/elsewhere", unchecked=("medqa: there are no raw files of it",))
    claim(built, "other", exams=())
    with pytest.raises(
        definition.MixtureError, match="other 1.0.0: its rows were checked against no real exam"
    ):
        built.mix("toy", "other", **asked)
    claim(built, "other", exams=(exam(sample=True),))
    with pytest.raises(
        definition.MixtureError, match="other 1.0.0: its rows were checked against no real exam"
    ):
        built.mix("toy", "other", **asked)
    claim(built, "other", policy="drop")
    assert built.store.versions("mixture_mine") == []
    manifest = built.mix("toy", "other", **asked)
    assert not set(ids[:7]) & set(built.ids())
    assert manifest.funnel.dropped == {reading.CONTAMINATED: 7}
    card = (built.store.root / "mixture_mine" / "1.0.0" / "README.md").read_text("utf-8")
    assert "| toy | usmle |" in card
    assert "- toy: medqa: there are no raw files of it" in card
    assert built.mix("toy", "other", contamination="refuse_unchecked").funnel.dropped == {}


def test_flagged_exam_items_are_said_to_be_in_it(built: Bench) -> None:
    ids, others = built.ids("toy"), built.ids("other")
    claim(built, "toy", *ids[:7], "toy/elsewhere")
    claim(built, "other", *others[:3], policy="drop")  # these are not in `other` any more, says its build
    manifest = built.mix("toy", "other")
    assert manifest.mixture.exam_rows == {"toy": 7}
    said = "7 rows of toy hold an exam item: its build only flagged them"
    assert f"mixture_mine: {said}" in building.notes(manifest)
    assert f"- {said}" in (built.store.root / "mixture_mine" / "1.0.0" / "README.md").read_text("utf-8")
    manifest = built.mix({"dataset": "toy", "max_rows": 30})
    assert manifest.mixture.exam_rows.get("toy", 0) == len(set(ids[:7]) & set(built.ids()))
    assert built.mix("toy", contamination="exclude_hits").mixture.exam_rows == {}
    assert "hold an exam item" not in " ".join(building.notes(built.store.manifest("mixture_mine")))


def test_card_and_report_say_what_the_parts_went_through(built: Bench) -> None:
    claim(built, "toy", *built.ids("toy")[:2], unchecked=("medqa: gone",), unchecked_exams=("medqa",))
    checks = {"privacy": Privacy(policy="mask", rows=0, findings={}), "duplicates": Duplicates(policy="drop")}
    path = built.store.folder("toy", "1.0.0") / "manifest.json"
    built.store.manifest("toy").model_copy(update=checks).write(path)
    built.mix("toy", "other")
    card = (built.store.root / "mixture_mine" / "1.0.0" / "README.md").read_text("utf-8")
    assert "| toy | usmle | masked | left out |" in card
    assert "| other | **not checked** | **not screened** | **not looked for** |" in card
    assert LIMITS in card
    found = warnings(gather(built.store, rows=0).datasets[0])
    assert [line for line in found if "Unsettled" not in line] == [
        "Rows that hold exam items were flagged and are in it (2 of toy).",
        "Not checked against an exam: medqa: gone (toy).",
        "Not checked against exams (other).",
        "Not screened for private details (other).",
        "Not searched for duplicates (other).",
    ]


# ---- missing parts ----------------------------------------------------------------------------------


def test_missing_parts_are_an_error_that_names_them_all(built: Bench) -> None:
    parts = (
        "toy",
        {"dataset": "other", "versions": ">=2"},
        "nothing",
        {"dataset": "toy_hard", "split": "dev"},
    )
    with pytest.raises(definition.MixtureError) as caught:
        built.mix(*parts)
    said = str(caught.value)
    assert said.startswith("mixture mine: 3 of its 4 parts are missing:\n")
    assert "other: version >=2 is wanted; built: 1.0.0; this Meadow builds 1.0.0. Build that version" in said
    assert "nothing: it is not built, and no raw files of it are there. Install the package" in said
    assert "toy_hard: version 1.0.0 has no split dev; it has: train, validation" in said
    assert "--allow-missing" in said
    assert built.store.versions("mixture_mine") == []
    assert issubclass(definition.MixtureError, StoreError)


def test_allowed_to_be_incomplete_says_so_everywhere(built: Bench) -> None:
    manifest = built.mix("toy", "nothing", options={"allow_missing": True})
    reason = "it is not built, and no raw files of it are there"
    assert manifest.mixture.missing == (MissingPart(dataset="nothing", reason=reason),)
    assert not manifest.mixture.complete
    assert manifest.description == "INCOMPLETE, without nothing: A mixture."
    folder = built.store.root / "mixture_mine" / "1.0.0"
    assert json.loads((folder / LOCK).read_text("utf-8"))["missing"] == [
        {"dataset": "nothing", "reason": reason}
    ]
    assert building.notes(manifest) == [f"mixture_mine is INCOMPLETE: without nothing: {reason}"]
    card = (folder / "README.md").read_text("utf-8")
    first = next(
        line for line in card.split("# mine", 1)[1].splitlines() if line and not line.startswith("<!--")
    )
    assert first == "**INCOMPLETE: built without one part of its definition.**"
    assert manifest.funnel.kept == len(built.ids("toy"))


def test_nothing_there_at_all(bench: Bench) -> None:
    for allowed in (False, True):
        with pytest.raises(definition.MixtureError, match="missing|nothing to build"):
            bench.mix("nothing", "none", options={"allow_missing": allowed})


def test_sample_beside_real_data_is_missing(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "home", "sample/a.jsonl", *(row(f"s{i}") for i in range(20)))
    monkeypatch.setattr(Toy, "home", tmp_path / "home")
    ensure = partial(build_datasets, raw=bench.raw, out=bench.store.root, builders=BUILDERS, options=OFF)
    # All samples: a sample of the mixture, whatever of it the samples lack.
    manifest = bench.mix("toy", "other", "nothing", options={"ensure": ensure})
    assert manifest.sample
    assert manifest.mixture.missing[0].dataset == "nothing"
    card = (bench.store.root / "mixture_mine" / "1.0.0" / "README.md").read_text("utf-8")
    assert "built from the **sample**" in card
    assert set(manifest.licenses) == {"CC0-1.0"}
    bench.put("toy/a.jsonl", *(row(i) for i in range(50)))
    with pytest.raises(definition.MixtureError) as caught:
        bench.mix("toy", "other", options={"ensure": ensure})
    assert "other: there is only the small embedded sample, which is not the real data" in str(caught.value)
    assert f"Put its raw files into {bench.raw / 'other'}: **/*.jsonl* (records)." in str(caught.value)
    assert not bench.store.manifest("toy").sample, "its raw files were there, so it was built from them"
    manifest = bench.mix("toy", "other", options={"ensure": ensure, "allow_missing": True})
    assert not manifest.sample
    assert {r["dataset"] for r in bench.rows()} == {"toy"}
    with pytest.raises(
        definition.MixtureError, match=r"of samples would replace real data in .*: toy; choose another"
    ):
        bench.mix("toy", "other", options={"sample": True, "ensure": ensure})


def test_parts_are_built_first_and_only_those_that_must(built: Bench) -> None:
    asked: list[list[str]] = []

    def ensure(names: list[str]) -> Report:
        asked.append(names)
        return built.build(*names)

    shutil.rmtree(built.store.root / "other")
    manifest = built.mix("toy", "other", options={"ensure": ensure})
    assert asked == [["other"]]
    assert manifest.mixture.complete
    built.mix("toy", "other", options={"ensure": ensure})
    assert asked == [["other"]]


def test_why_a_part_could_not_be_built(built: Bench) -> None:
    shutil.rmtree(built.store.root / "other")
    built.put("other/a.jsonl", b"no JSON")
    ensure = partial(build_datasets, raw=built.raw, out=built.store.root, builders=BUILDERS, options=OFF)
    with pytest.raises(
        definition.MixtureError,
        match=r"other: it could not be built: no usable row in its raw files: not JSON 1",
    ):
        built.mix("toy", "other", options={"ensure": ensure})


def test_reasons_name_no_folder_of_this_machine(built: Bench) -> None:
    shutil.rmtree(built.store.root / "other")
    report = Report(built.store.root, failed={"other": f"no raw files in {built.raw / 'other'}"})
    manifest = built.mix("toy", "other", options={"ensure": lambda names: report, "allow_missing": True})
    reason = "it could not be built: no raw files in the raw store/other"
    assert manifest.mixture.missing == (MissingPart(dataset="other", reason=reason),)


def test_newest_version_in_range_and_other_names(built: Bench) -> None:
    built.build("toy", builders={"toy": Newer})
    assert built.store.versions("toy") == ["1.0.0", "1.1.0"]
    manifest = built.mix({"dataset": "first_choice", "also_named": ["toy"], "versions": "1.x"})
    assert (manifest.mixture.parts[0].dataset, manifest.mixture.parts[0].version) == (
        "toy",
        "1.1.0",
    )
    manifest = built.mix({"dataset": "toy", "versions": "1.0.x"})
    assert manifest.mixture.parts[0].version == "1.0.0"


def test_smaller_than_wanted_is_said(built: Bench) -> None:
    manifest = built.mix({"dataset": "other", "max_rows": 500, "published": 500})
    count = len(built.ids("other"))
    part = manifest.mixture.parts[0]
    assert (part.wanted, part.available, part.taken, part.published) == (500, count, count, 500)
    said = f"other: 500 rows wanted, {count} taken, of {count} to draw from"
    assert building.notes(manifest) == [f"mixture_mine: {said}"]
    assert said in (built.store.root / "mixture_mine" / "1.0.0" / "README.md").read_text("utf-8")


def test_no_row_left(built: Bench) -> None:
    with pytest.raises(
        definition.MixtureError, match=r"no row of its parts can be in it; does not meet the conditions"
    ):
        built.mix({"dataset": "toy", "where": {"level": 9999}})


# ---- bytes ------------------------------------------------------------------------------------------


def test_manifest_is_that_of_a_dataset(built: Bench) -> None:
    manifest = built.mix({"dataset": "toy", "max_rows": 50}, "other")
    like = built.store.manifest("toy")
    own = {"format", "notes", "privacy", "filters", "contamination", "duplicates", "generators"}
    assert like.model_fields_set - own <= manifest.model_fields_set
    assert built.store.manifest("mixture_mine") == manifest
    assert (manifest.source, manifest.name) == ("mixture", "mixture_mine")
    paths = [f.path for f in manifest.raw]
    assert paths == ["other/a.jsonl", "toy/a.jsonl", "toy/b.jsonl"]
    found = built.rows()
    ids = "".join(f"{i}\n" for i in sorted(r["id"] for r in found))
    assert manifest.ids_sha256 == hashlib.sha256(ids.encode()).hexdigest()
    digest = content_hash(manifest.features)
    digest.update(b"train\n")
    for each in found:
        digest.update(hashlib.sha256(encode(list(each.values()))).digest())
    assert manifest.rows_sha256 == digest.hexdigest()
    assert "mixture_mine" in (built.store.root / "README.md").read_text("utf-8")


def test_same_bytes_for_any_workers_and_order(built: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # Small files and buckets, so that there are several of each.
    monkeypatch.setattr(files, "FILE_BYTES", 8_000)
    monkeypatch.setattr(building, "FILE_BYTES", 8_000)
    monkeypatch.setattr(writing, "SORTED_BYTES", 2_000)
    built.build("toy", "other")
    parts = ({"dataset": "toy", "max_rows": 120, "split": ["train", "validation"]}, "other")
    manifest = built.mix(*parts)
    assert len(built.store.files("toy")["train"]) > 1
    assert len(manifest.splits["train"].files) > 2
    expected = built.files()
    ids, places = built.ids(), reading.hashes(built.ids(), 7)[1]
    assert list(places) == sorted(places), "in order across files and buckets"
    assert len(ids) == manifest.splits["train"].rows
    built.mix(*parts, options={"workers": 2})
    assert built.files() == expected
    with ThreadPoolExecutor(3) as pool:
        built.mix(*parts, options={"executor": pool, "workers": 3})
    assert built.files() == expected


def test_the_smallest_hashes_of_each_text_are_drawn() -> None:
    generator = np.random.default_rng(0)
    records = np.zeros(5000, reading.ROW)
    records["key"] = generator.permutation(2**20)[:5000]
    records["content"] = generator.integers(0, 3000, 5000)
    records["why"] = generator.integers(0, 4, 5000) == 0
    file = reading.PartFile(0, "toy", "toy", "train", Path("x.parquet"), "x")
    index = reading.RowIndex.of([file], [(records, reading.REASONS)])
    expected: list[int] = []
    seen = set()
    for key, content in sorted(zip(records["key"].tolist(), records["content"].tolist(), strict=True)):
        at = int(np.flatnonzero(records["key"] == key)[0])
        if records["why"][at] == 0 and content not in seen:
            seen.add(content)
            expected.append(key)
    reading.draw(index, [700])
    assert sorted(index.rows["key"][index.rows["why"] == 0].tolist()) == expected[:700]


def test_interrupted_build_leaves_what_was_there(built: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    built.mix("toy")
    before = built.files()

    def fail(*_: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(building.cards, "dataset_card", fail)
    with pytest.raises(RuntimeError):
        built.mix("toy", "other")
    assert built.files() == before
    assert not list((built.store.root / ".meadow").glob("build-*"))


def test_card_keeps_what_people_wrote(built: Bench) -> None:
    built.mix("toy")
    path = built.store.root / "mixture_mine" / "1.0.0" / "README.md"
    path.write_text(path.read_text("utf-8") + "\nMy own remark.\n", encoding="utf-8")
    built.mix("toy", {"dataset": "other", "max_rows": 3})
    assert "My own remark." in path.read_text("utf-8")
    assert "| other | 1.0.0 | train | raw | 3 |" in path.read_text("utf-8")


# ---- lock files -------------------------------------------------------------------------------------

PARTS = (
    {"dataset": "toy", "max_rows": 50, "split": ["train", "validation"]},
    {"dataset": "other", "max_rows": 20},
)


def mismatch(bench: Bench, lock: Path, *parts: Any, **keys: Any) -> tuple[str, ...]:
    options = keys.pop("options", {})
    with pytest.raises(LockMismatchError) as caught:
        bench.mix(*(parts or PARTS), options={"lock": lock, **options}, **keys)
    assert bench.store.versions("mixture_mine") == [], "nothing was published"
    return caught.value.differences


def test_lock_holds_all_that_the_bytes_follow_from(built: Bench) -> None:
    manifest = built.mix(*PARTS)
    lock = json.loads((built.store.root / "mixture_mine" / "1.0.0" / LOCK).read_text("utf-8"))
    toy = built.store.manifest("toy")
    assert lock["datasets"]["toy"]["raw"] == [file.model_dump() for file in toy.raw]
    assert lock["datasets"]["toy"]["parameters"] == {"shards": 1, "by_config": False, "all_in_one": False}
    assert lock["datasets"]["toy"]["filters"] == toy.filters.model_dump(mode="json")
    assert lock["datasets"]["toy"]["version"] == "1.0.0"
    assert lock["definition_sha256"] == built.define(*PARTS).sha256()
    assert lock["definition"]["seed"] == 7
    assert lock["ids_sha256"] == manifest.ids_sha256
    assert lock["rows_sha256"] == manifest.rows_sha256
    assert lock["built_with"] == manifest.built_with.model_dump()
    assert set(lock["built_with"]) == {"meadow", "pyarrow"}
    assert str(built.folder) not in json.dumps(lock)


def test_lock_is_reproduced_to_the_byte(built: Bench) -> None:
    built.mix(*PARTS)
    expected = built.files()
    lock = built.lock()
    # All anew, by another number of workers, in the order of other names.
    shutil.rmtree(built.store.root)
    ensure = partial(build_datasets, raw=built.raw, out=built.store.root, builders=BUILDERS, options=OFF)
    built.mix(*PARTS, options={"lock": lock, "ensure": ensure, "workers": 2})
    assert built.files() == expected
    # The lock file is a definition, too.
    shutil.rmtree(built.store.root / "mixture_mine")
    built.make(definition.load(lock), lock=lock)
    assert built.files() == expected


def test_lock_names_a_changed_definition(built: Bench) -> None:
    built.mix(*PARTS)
    lock = built.lock()
    changed = ({**PARTS[0], "max_rows": 40}, PARTS[1])
    assert mismatch(built, lock, *changed, seed=8) == (
        "definition.seed is 7 in the lock, 8 here",
        "definition.parts[0].max_rows is 50 in the lock, 40 here",
    )
    with pytest.raises(LockMismatchError) as caught:
        built.mix(*changed, seed=8, options={"lock": lock})
    assert ": 2 differences from the lock" in str(caught.value)
    assert f"name the lock file: mixture:{lock}" in str(caught.value)


def test_lock_names_changed_raw_files_rows_and_filters(built: Bench) -> None:
    built.mix(*PARTS)
    lock = built.lock()
    built.put("toy/b.jsonl", *(row(i, level=i) for i in range(120, 201)))
    built.put("toy/c.jsonl", row("c"))
    built.build(
        "toy", options=BuildOptions(languages=(), quality="off", contamination="off", duplicates="off")
    )
    found = mismatch(built, lock)
    assert any(
        line.startswith("dataset toy: raw file toy/b.jsonl is ") and "bytes, sha256" in line for line in found
    )
    assert "dataset toy: raw file toy/c.jsonl was used here, and is not in the lock" in found
    assert 'dataset toy: filters.privacy is "off" in the lock, "mask" here' in found
    assert any(line.startswith("dataset toy: splits.train is ") for line in found)
    assert any(line.startswith("dataset toy: rows_sha256 is ") for line in found)
    assert not any("other" in line for line in found)


def test_lock_names_changed_parameters(built: Bench) -> None:
    built.mix(*PARTS)
    lock = built.lock()
    built.build("toy", parameters={"toy": {"shards": 3}})
    assert "dataset toy: parameters.shards is 1 in the lock, 3 here" in mismatch(built, lock)


def test_lock_asks_for_its_versions(built: Bench) -> None:
    built.mix(*PARTS)
    lock = built.lock()
    built.build("toy", builders={"toy": Newer})
    built.mix(*PARTS, options={"lock": lock})
    assert built.store.manifest("mixture_mine").mixture.parts[0].version == "1.0.0"
    shutil.rmtree(built.store.root / "mixture_mine")
    shutil.rmtree(built.store.root / "toy" / "1.0.0")
    with pytest.raises(LockMismatchError) as caught:
        built.mix(*PARTS, options={"lock": lock, "builders": {"toy": Newer, "other": Other}})
    assert "dataset toy: it is in the lock, and not here" in caught.value.differences
    assert "toy: version 1.0.0 is wanted; built: 1.1.0; this Meadow builds 1.1.0" in str(caught.value)


def test_lock_names_other_bytes_and_what_wrote_them(built: Bench) -> None:
    built.mix(*PARTS)
    lock = built.lock()
    data = json.loads(lock.read_text("utf-8"))
    data["built_with"]["pyarrow"] = "1.0.0"
    lock.write_text(json.dumps(data), encoding="utf-8")
    built.mix(
        *PARTS, options={"lock": lock}
    )  # the same bytes: another pyarrow that writes the same is no matter
    shutil.rmtree(built.store.root / "mixture_mine")
    data["splits"]["train"]["files"][0]["sha256"] = "0" * 64
    lock.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(LockMismatchError) as caught:
        built.mix(*PARTS, options={"lock": lock})
    assert [d.split(" is ")[0] for d in caught.value.differences] == ["splits.train.files[0].sha256"]
    assert "The rows are the same; only the bytes of the Parquet files differ." in str(caught.value)
    assert f'built with.pyarrow is "1.0.0" in the lock, "{pa.__version__}" here' in str(caught.value)
    assert built.store.versions("mixture_mine") == []


def test_lock_of_an_incomplete_mixture(built: Bench) -> None:
    parts = (*PARTS, "nothing")
    built.mix(*parts, options={"allow_missing": True})
    expected = built.files()
    lock = built.lock()
    built.mix(*parts, options={"lock": lock})
    assert built.files() == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read as a lock file"),
        ("[]", "has no definition"),
        ('{"form": 9}', "has no definition"),
    ],
)
def test_what_is_no_lock(content: str, said: str, built: Bench) -> None:
    path = built.folder / "x.lock.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(definition.MixtureError, match=said):
        built.mix("toy", options={"lock": path})
    with pytest.raises(definition.MixtureError, match="No such file"):
        built.mix("toy", options={"lock": built.folder / "none.json"})


def test_nothing_of_a_mixture_depends_on_the_machine(built: Bench) -> None:
    built.mix(*PARTS)
    for path in (built.store.root / "mixture_mine" / "1.0.0").iterdir():
        assert str(built.folder).encode() not in path.read_bytes(), path.name


# ---- loading ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("samples") / "out"


@pytest.fixture
def fresh(tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `datasets` cache of the test's own, and one output folder for all that only use the samples."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("MEADOW_OUT", str(samples))
    monkeypatch.setattr(api, "_said", set())
    return samples


def test_load_builds_on_first_use(fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = datasets.load_dataset("meadow", "mixture_medalpaca")
    manifest = Store(fresh).manifest("mixture_medalpaca")
    assert manifest.sample
    assert {split: len(part) for split, part in data.items()} == {
        split: entry.rows for split, entry in manifest.splits.items()
    }
    assert set(data["train"]["dataset"]) == {
        "medical_flashcards", "wikidoc", "wikidoc_patient_information", "stackexchange_fitness.example",
        "stackexchange_health.example",
    }  # fmt: skip
    assert set(data["train"]["license"]) == {"CC0-1.0"}
    said = capsys.readouterr().err
    assert "mixture_medalpaca is not built" in said
    assert "`python -m meadow.build mixture:medalpaca`" in said
    assert "is a mixture of the small embedded SAMPLES" in said
    assert "INCOMPLETE: without stackexchange_academia.stackexchange.com" in said
    assert len(building.notes(manifest)) == 3 + 5 + 1
    assert "8 parts of the published collection are not in it" in building.notes(manifest)[-1]


def test_own_mixture_is_built_by_its_file(
    fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setenv("MEADOW_OUT", str(out))
    build_datasets(["wikidoc"], out=out, sample=True)
    building.build(Bench(tmp_path / "mine").define("wikidoc"), BuildOptions(out=out, sample=True))
    meadow.load_dataset("mixture_mine", split="train")
    assert "run `python -m meadow.build mixture:FILE.yaml`" in capsys.readouterr().err


def test_other_ways_to_load(fresh: Path) -> None:
    small = datasets.load_dataset("meadow", "mixture_medalpaca_small", split="train", streaming=True)
    whole = meadow.load_dataset("mixture_medalpaca", split="train")
    assert {r["id"] for r in small} <= set(whole["id"])
    assert meadow.load_dataset("mixture_medalpaca", version="1", split="train").num_rows == whole.num_rows
    alone = datasets.load_dataset(str(fresh / "mixture_medalpaca" / "1.0.0"), split="train")
    assert alone["id"] == whole["id"]
    listed = datasets.load_dataset(str(fresh), "mixture_medalpaca", split="train")
    assert listed["id"] == whole["id"]
    names = datasets.get_dataset_config_names("meadow")
    assert {"mixture_clean", "mixture_medalpaca", "mixture_medalpaca_small"} <= set(names)


def test_clean_from_samples(fresh: Path) -> None:
    data = meadow.load_dataset("mixture_clean", split="train")
    assert set(data["dataset"]) == {"stackexchange", "wikidoc", "wikidoc_patient_information"}


def test_wrong_names_and_versions(fresh: Path) -> None:
    with pytest.raises(ValueError, match=r"no dataset is named 'mixture_mine'; there are: .*mixture_clean"):
        meadow.load_dataset("mixture_mine")
    with pytest.raises(ValueError, match=r"no dataset is named 'clean'"):
        meadow.load_dataset("clean")
    with pytest.raises(ValueError, match=r"mixture_clean has no version 3: .*this Meadow builds 1\.0\.0"):
        meadow.load_dataset("mixture_clean", version="3")


def test_real_part_beside_samples_cannot_be_loaded(
    fresh: Path, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(real / "stackexchange" / "3dprinting.meta.stackexchange.com",
                    raw / "stackexchange" / "medicalsciences.stackexchange.com")  # fmt: skip
    monkeypatch.setenv("MEADOW_RAW", str(raw))
    monkeypatch.setenv("MEADOW_OUT", str(tmp_path / "out"))
    with pytest.raises(StoreError) as caught:
        meadow.load_dataset("mixture_medalpaca")
    said = str(caught.value)
    assert "7 of its 8 parts are missing" in said
    assert "medical_flashcards: there is only the small embedded sample" in said
    assert f"Put its raw files into {raw / 'stackexchange'}" in said
    assert Store(tmp_path / "out").versions("mixture_medalpaca") == []


def test_importing_the_names_is_light() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from meadow.mix import definition; definition.available(); definition.load('clean');"
        "print([n for n in ('pyarrow', 'numpy', 'datasets', 'packaging.specifiers') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "pyarrow" not in done.stdout
    assert "numpy" not in done.stdout


def test_words_are_the_projects_own() -> None:
    for name in definition.available():
        words = definition._FOLDER.parents[1] / "cards" / f"mixture_{name}.md"
        assert words.read_text("utf-8").startswith("# ")
