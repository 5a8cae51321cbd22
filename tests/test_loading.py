"""Loading: every way that there is, several versions and rebuilds side by side, and what goes wrong."""

from __future__ import annotations

import dataclasses
import inspect
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import datasets
import pytest
from datasets.distributed import split_dataset_by_node
from filelock import FileLock

import meadow
from meadow import api, registration
from meadow.api import build_datasets
from meadow.builders.wikidoc.builder import WikiDoc
from meadow.core import store
from meadow.core.builder import Builder, Shard
from meadow.core.licenses import CC0
from meadow.core.rawstore import RawPattern, RawSource
from meadow.core.row import Example
from meadow.core.store import Store, StoreError
from meadow.pipeline import files

ROOT = Path(__file__).resolve().parents[1]


class Toy(Builder):
    """A source of as many rows as its raw files have lines; each file is a shard."""

    name = "toy"
    version = "1.0.0"
    release_notes: ClassVar = dict.fromkeys(("1.0.0", "1.9.0", "1.10.0", "2.0.0"), "Changed.")
    description = "Numbers."
    configs = ("toy",)
    raw_files = (RawPattern("*.txt", "numbers"),)
    license = CC0
    homepage = "https://example.org/toy"
    split_shares: ClassVar = {"train": 1.0}

    def shards(self, raw: RawSource) -> Iterator[Shard]:
        for file in raw.files:
            yield Shard(file.path, (file,), ("toy",))

    def examples(self, shard: Shard) -> Iterator[Example]:
        for line in shard.files[0].local.read_text(encoding="utf-8").split():
            yield Example(f"toy/{line}", "Add one.", line, str(int(line) + 1), line)


def build_toy(out: Path, raw: Path, *files: range, version: str = "1.0.0") -> dict[str, Any]:
    """Builds numbers as version `version`; returns the manifest."""
    (raw / "toy").mkdir(parents=True, exist_ok=True)
    for old in (raw / "toy").iterdir():
        old.unlink()
    for number, file in enumerate(files):
        (raw / "toy" / f"{number}.txt").write_text("\n".join(map(str, file)), encoding="utf-8")
    cls = type("Toy", (Toy,), {"version": version, "__module__": __name__})
    report = build_datasets(["toy"], raw=raw, out=out, builders={"toy": cls})
    assert report.failed == {}
    return json.loads(report.manifests[0].text())


def numbers(data: Any) -> list[int]:
    return [int(row["input"]) for row in data]


def run(code: str, *arguments: object, cwd: Path, **env: str | None) -> subprocess.CompletedProcess[str]:
    """Runs Python code elsewhere, in this environment changed by `env` (None takes a variable away)."""
    changed = {**os.environ, **{key: value for key, value in env.items() if value is not None}}
    for key in (key for key, value in env.items() if value is None):
        changed.pop(key, None)
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=changed,
        timeout=60,
    )


def ran(code: str, *arguments: object, cwd: Path, **env: str | None) -> str:
    done = run(code, *arguments, cwd=cwd, **env)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with the samples of two sources."""
    out = tmp_path_factory.mktemp("samples") / "out"
    assert build_datasets(["wikidoc", "medqa"], out=out, sample=True).failed == {}
    return out


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `datasets` cache of the test's own, the samples as the output folder, and nothing said yet."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("MEADOW_OUT", str(samples))
    monkeypatch.setattr(api, "_said", set())


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """An output folder with versions 1.0.0 (0 to 9), 1.10.0 (0 to 19), 1.9.0 and 2.0.0 of the toy."""
    out, raw = tmp_path / "toy-out", tmp_path / "toy-raw"
    for version, count in (("1.0.0", 10), ("1.10.0", 20), ("1.9.0", 15), ("2.0.0", 30)):
        build_toy(out, raw, range(count), version=version)
    return out


# ---- the ways to load -------------------------------------------------------------------------------

ORDERS = {
    "meadow first": "import meadow, datasets; load = datasets.load_dataset",
    "datasets first": "import datasets, meadow; load = datasets.load_dataset",
    "from before": "from datasets import load_dataset as load; import meadow",
    "from after": "import meadow; from datasets import load_dataset as load",
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("offline", ["1", None])
def test_literal_call_works_in_every_order_and_folder(
    order: str, offline: str | None, tmp_path: Path, samples: Path
) -> None:
    # Offline from the repository's root; else from a folder in which "meadow" is a folder of data.
    (tmp_path / "meadow").mkdir()
    (tmp_path / "meadow" / "train.csv").write_text("a\n1\n", encoding="utf-8")
    code = f"""
{ORDERS[order]}
import sys
data = load("meadow", "wikidoc", split="train")
streamed = load("meadow", "wikidoc", split="train", streaming=True)
print(data.num_rows, data[0]["id"] == next(iter(streamed))["id"], "torch" in sys.modules)
"""
    # `datasets` imports torch by itself where there is one, unless it is told not to.
    env = {"HF_HUB_OFFLINE": offline, "PYTHONPATH": str(ROOT), "USE_TORCH": "0"}
    out = ran(code, cwd=ROOT if offline else tmp_path, **env)
    rows = Store(samples).manifest("wikidoc").splits["train"].rows
    assert out.split() == [str(rows), "True", "False"]


def _literal(name: str, out: Path, **kwargs: Any) -> Any:
    return datasets.load_dataset("meadow", name, out=str(out), **kwargs)


def _own(name: str, out: Path, **kwargs: Any) -> Any:
    return meadow.load_dataset(name, out=out, **kwargs)


def _plain(name: str, out: Path, **kwargs: Any) -> Any:
    return datasets.load_dataset(str(out), name, **kwargs)


@pytest.mark.parametrize("load", [_literal, _own, _plain])
def test_splits_slices_and_streams(load: Any, samples: Path) -> None:
    counts = {s: e.rows for s, e in Store(samples).manifest("medqa").splits.items()}
    assert {s: d.num_rows for s, d in load("medqa", samples).items()} == counts
    assert list(counts) == ["train", "validation", "test"]
    assert load("medqa", samples, split="validation").num_rows == counts["validation"]
    assert load("medqa", samples, split="train[:3]+test").num_rows == 3 + counts["test"]
    assert load("medqa", samples, split="train[:50%]").num_rows == round(counts["train"] / 2)
    assert load("medqa", samples, split="train").info.version == Store(samples).resolve("medqa")
    streamed = load("medqa", samples, streaming=True)
    whole = load("medqa", samples)
    for split in counts:
        assert list(streamed[split]) == list(whole[split])
    both = load("medqa", samples, split="train+validation", streaming=True)
    assert sum(1 for _ in both) == counts["train"] + counts["validation"]
    taken = list(load("medqa", samples, split="train", streaming=True).shuffle(seed=3).take(4))
    assert len({row["id"] for row in taken}) == 4


def test_all_ways_give_the_same_rows(samples: Path) -> None:
    first, *others = (load("wikidoc", samples, split="train") for load in (_literal, _own, _plain))
    for other in others:
        assert other.features == first.features
        assert other.to_list() == first.to_list()
    assert list(Store(samples).rows("wikidoc")) == first.to_list()


def test_environment_and_out_name_the_folder(
    toy: Path, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="no dataset is named 'toy'"):
        meadow.load_dataset("toy")
    # Twice each: `datasets` patches a builder's module when it is first used.
    for _ in range(2):
        assert meadow.load_dataset("toy", split="train", out=str(toy)).num_rows == 30
        assert datasets.load_dataset("meadow", "toy", split="train", out=str(toy)).num_rows == 30
    monkeypatch.setenv("MEADOW_OUT", str(toy))
    assert meadow.load_dataset("toy", split="train").num_rows == 30
    assert datasets.load_dataset("meadow", "toy", split="train").num_rows == 30
    assert meadow.load_dataset("wikidoc", out=samples)["train"].num_rows > 0


def test_description_of_a_dataset() -> None:
    names = datasets.get_dataset_config_names("meadow")
    assert names == sorted(names)
    assert {"wikidoc", "medqa", "usmle_self_assessment"} <= set(names)
    assert datasets.get_dataset_split_names("meadow", "medqa") == ["train", "validation", "test"]
    assert datasets.get_dataset_default_config_name("meadow") is None
    info = datasets.load_dataset_builder("meadow", "wikidoc").info
    assert info.description == WikiDoc.description
    assert info.homepage == WikiDoc.homepage
    assert info.citation == WikiDoc.citation()
    assert info.license == "CC0-1.0"
    assert info.version == WikiDoc.version
    assert list(info.features)[:4] == ["instruction", "input", "output", "id"]
    assert info.features["options"] == datasets.List(
        {"key": datasets.Value("string"), "text": datasets.Value("string")}
    )


def test_names_are_those_of_now(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "toy" not in datasets.get_dataset_config_names("meadow")
    monkeypatch.setenv("MEADOW_OUT", str(toy))
    assert "toy" in datasets.get_dataset_config_names("meadow")


def test_data_can_be_mapped_saved_and_converted(samples: Path, tmp_path: Path) -> None:
    data = datasets.load_dataset("meadow", "wikidoc", split="train")
    mapped = data.map(lambda row: {"length": len(row["output"])}, num_proc=2)
    assert mapped["length"] == [len(text) for text in data["output"]]
    data.save_to_disk(tmp_path / "saved")
    assert datasets.load_from_disk(tmp_path / "saved").to_list() == data.to_list()
    assert pickle.loads(pickle.dumps(data)).to_list() == data.to_list()
    assert list(data.to_pandas()["id"]) == data["id"]
    in_memory = meadow.load_dataset("wikidoc", split="train", keep_in_memory=True)
    assert in_memory.cache_files == []
    assert in_memory.to_list() == data.to_list()


def test_features_can_be_chosen(samples: Path, toy: Path) -> None:
    features = meadow.load_dataset("toy", split="train", out=toy).features.copy()
    features["input"] = datasets.Value("large_string")
    for load in (_literal, _own):
        cast = load("toy", toy, split="train", features=features)
        assert cast.features["input"] == datasets.Value("large_string")
        assert numbers(cast) == list(range(30))


# ---- many files, many processes ---------------------------------------------------------------------


@pytest.fixture
def pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy in three Parquet files."""
    monkeypatch.setattr(files, "FILE_BYTES", 1)
    out = tmp_path / "pieces"
    manifest = build_toy(out, tmp_path / "raw", range(5), range(5, 9), range(9, 20))
    assert len(manifest["splits"]["train"]["files"]) == 3
    return out


@pytest.mark.parametrize("load", [_literal, _own, _plain])
def test_files_are_shards(load: Any, pieces: Path) -> None:
    streamed = load("toy", pieces, split="train", streaming=True)
    assert streamed.num_shards == 3
    assert numbers(streamed) == list(range(20))
    assert numbers(streamed.shard(num_shards=3, index=1)) == [5, 6, 7, 8]
    parts = [numbers(split_dataset_by_node(streamed, rank, 3)) for rank in range(3)]
    assert sorted(sum(parts, [])) == list(range(20))
    assert numbers(load("toy", pieces, split="train", num_proc=2)) == list(range(20))


def test_stream_goes_on_where_it_was(pieces: Path) -> None:
    streamed = meadow.load_dataset("toy", out=pieces, split="train", streaming=True)
    at = iter(streamed)
    seen = [int(next(at)["input"]) for _ in range(7)]
    state = streamed.state_dict()
    again = meadow.load_dataset("toy", out=pieces, split="train", streaming=True)
    again.load_state_dict(state)
    assert seen + numbers(again) == list(range(20))


def test_row_groups_are_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import meadow.pipeline.files

    monkeypatch.setattr(meadow.pipeline.files, "ROW_GROUP", 4)
    build_toy(tmp_path / "out", tmp_path / "raw", range(10))
    streamed = meadow.load_dataset("toy", out=tmp_path / "out", split="train", streaming=True)
    assert streamed.num_shards == 3
    assert numbers(streamed) == list(range(10))


def _collect(streamed: Any, index: int, queue: Any) -> None:
    queue.put(numbers(streamed.shard(num_shards=3, index=index)))


def test_stream_travels_to_a_spawned_process(pieces: Path) -> None:
    streamed = datasets.load_dataset("meadow", "toy", out=str(pieces), split="train", streaming=True)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=_collect, args=(streamed, 2, queue))
    worker.start()
    try:
        assert queue.get(timeout=50) == list(range(9, 20))
    finally:
        worker.join(10)


# ---- versions, rebuilds, folders --------------------------------------------------------------------


@pytest.mark.parametrize("load", [_literal, _own])
@pytest.mark.parametrize("streaming", [False, True])
def test_version_is_chosen(load: Any, streaming: bool, toy: Path) -> None:
    def count(**kwargs: Any) -> int:
        return len(numbers(load("toy", toy, split="train", streaming=streaming, **kwargs)))

    assert count() == 30
    assert count(version="1.0.0") == 10
    assert count(version="1.9.0") == 15
    assert count(version="1") == 20
    assert count(version="1.0") == 10
    assert count(version=datasets.Version("1.9.0")) == 15
    assert count(version="2") == count() == 30


def test_plain_datasets_loads_any_version_by_its_folder(toy: Path) -> None:
    # By name it has the newest: `datasets` takes no `version` beside configurations of a card.
    assert datasets.load_dataset(str(toy), "toy", split="train").num_rows == 30
    for version, count in (("1.0.0", 10), ("1.10.0", 20), ("2.0.0", 30)):
        data = datasets.load_dataset(str(toy / "toy" / version))
        assert {split: part.num_rows for split, part in data.items()} == {"train": count}
        assert data["train"].info.version == version


@pytest.mark.parametrize("load", [_literal, _own, _plain])
def test_rebuild_under_the_same_version_is_loaded(load: Any, tmp_path: Path) -> None:
    out, raw = tmp_path / "out", tmp_path / "raw"
    for first in (0, 100, 0):
        build_toy(out, raw, range(first, first + 10))
        expected = list(range(first, first + 10))
        assert numbers(load("toy", out, split="train")) == expected
        assert numbers(load("toy", out, split="train", streaming=True)) == expected


@pytest.mark.parametrize("load", [_literal, _own, _plain])
def test_folders_do_not_share_rows(load: Any, tmp_path: Path) -> None:
    folders = {tmp_path / name / "out": first for name, first in (("a", 0), ("b", 50))}
    for out, first in folders.items():
        build_toy(out, out.parent / "raw", range(first, first + 5))
    for out, first in [*folders.items(), *folders.items()]:
        assert numbers(load("toy", out, split="train")) == list(range(first, first + 5))


def test_cached_words_are_those_of_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for description in ("Numbers.", "Whole numbers."):
        monkeypatch.setattr(Toy, "description", description)
        build_toy(tmp_path / "out", tmp_path / "raw", range(3))
        info = meadow.load_dataset("toy", out=tmp_path / "out", split="train").info
        assert info.description == description


def test_sample_then_raw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, raw = tmp_path / "out", tmp_path / "raw"
    build_datasets(["wikidoc"], out=out, sample=True)
    sample = meadow.load_dataset("wikidoc", out=out, split="train")
    assert "SAMPLE" in capsys.readouterr().err
    (raw / "wikidoc").mkdir(parents=True)
    page = json.loads((WikiDoc.folder() / "sample" / "pages.jsonl").read_text("utf-8").splitlines()[0])
    (raw / "wikidoc" / "pages.jsonl").write_text(json.dumps(page), encoding="utf-8")
    build_datasets(["wikidoc"], out=out, raw=raw)
    for load in (_literal, _own):
        real = load("wikidoc", out)
        assert {row["license"] for part in real.values() for row in part} == {"CC-BY-SA-3.0"}
        assert sum(part.num_rows for part in real.values()) < sample.num_rows
    assert "SAMPLE" not in capsys.readouterr().err


def test_rebuild_under_a_reader_is_noticed(pieces: Path, tmp_path: Path) -> None:
    streamed = iter(meadow.load_dataset("toy", out=pieces, split="train", streaming=True))
    next(streamed)
    build_toy(pieces, tmp_path / "raw", range(50, 55), range(55, 60), range(60, 80))
    with pytest.raises(StoreError, match=r"toy 1\.0\.0 was built anew while it was being read"):
        list(streamed)


def test_same_rows_built_again_do_not_disturb_a_reader(pieces: Path, tmp_path: Path) -> None:
    streamed = iter(meadow.load_dataset("toy", out=pieces, split="train", streaming=True))
    next(streamed)
    build_toy(pieces, tmp_path / "raw", range(5), range(5, 9), range(9, 20))
    assert len(list(streamed)) == 19


# ---- built on first use -----------------------------------------------------------------------------


def test_sample_is_built_on_first_use(tmp_path: Path) -> None:
    code = """
import sys, datasets, meadow
for load in (lambda: datasets.load_dataset("meadow", "usmle_self_assessment"), lambda: meadow.load_dataset("usmle_self_assessment")):
    print(list(load()), load()["step1"].num_rows > 0)
"""
    done = run(code, cwd=tmp_path, MEADOW_OUT=str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    # Standard output may be piped into something: it stays the caller's.
    assert done.stdout.splitlines() == ["['step1', 'step2', 'step3'] True"] * 2
    assert done.stderr.count("is not built in") == 1
    assert done.stderr.count("SAMPLE") == 1
    assert "not the real data" in done.stderr
    assert (
        f"put raw files into {os.environ['MEADOW_RAW']}/usmle and run `python -m meadow.build" in done.stderr
    )


def test_raw_files_are_built_on_first_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(os.environ["MEADOW_RAW"]) / "wikidoc"
    folder.mkdir(parents=True)
    (folder / "Gout.html").write_bytes((WikiDoc.folder() / "sample" / "Gout.html").read_bytes())
    data = meadow.load_dataset("wikidoc", out=tmp_path / "out")
    assert {row["license"] for part in data.values() for row in part} == {"CC-BY-SA-3.0"}
    said = capsys.readouterr()
    assert said.out == ""
    assert "wikidoc is not built" in said.err
    assert "SAMPLE" not in said.err


def test_sample_beside_raw_files_says_so(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(os.environ["MEADOW_RAW"]) / "wikidoc"
    folder.mkdir(parents=True)
    (folder / "Gout.html").write_bytes((WikiDoc.folder() / "sample" / "Gout.html").read_bytes())
    for _ in range(2):
        meadow.load_dataset("wikidoc", streaming=True)
    said = capsys.readouterr().err
    assert said.count("SAMPLE") == 1
    assert f"raw files are in {folder} now: run `python -m meadow.build wikidoc`" in said


def test_processes_that_ask_at_once_build_once(tmp_path: Path) -> None:
    code = 'import meadow; print(meadow.load_dataset("medqa", split="test").num_rows)'
    env = {**os.environ, "MEADOW_OUT": str(tmp_path / "out")}
    asked = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    answers = [process.communicate(timeout=60) for process in asked]
    assert [process.returncode for process in asked] == [0, 0, 0], answers
    assert len({out for out, _ in answers}) == 1
    assert sum(b"is not built in" in err for _, err in answers) == 1


def test_explicit_build_in_progress_is_named(tmp_path: Path) -> None:
    (tmp_path / "out" / ".meadow").mkdir(parents=True)
    with FileLock(tmp_path / "out" / ".meadow" / "lock", thread_local=False):
        failed: list[Exception] = []

        def load() -> None:
            try:
                meadow.load_dataset("medqa", out=tmp_path / "out")
            except StoreError as error:
                failed.append(error)

        thread = threading.Thread(target=load)
        thread.start()
        thread.join(30)
    assert "another build is writing to" in str(failed[0])


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StoreError, match="medqa is not built, and cannot be: cannot write to .*MEADOW_OUT"):
        meadow.load_dataset("medqa", out=tmp_path / "file" / "out")


def test_failed_first_build_says_why(tmp_path: Path) -> None:
    folder = Path(os.environ["MEADOW_RAW"]) / "medqa" / "questions" / "US"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text("not JSON\n", encoding="utf-8")
    with pytest.raises(StoreError, match="medqa could not be built: .*no usable row"):
        meadow.load_dataset("medqa", out=tmp_path / "out")


# ---- what goes wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [_literal, _own])
def test_errors_name_what_there_is(load: Any, samples: Path) -> None:
    with pytest.raises(ValueError, match=r"no dataset is named 'wikidok'; there are: .*wikidoc"):
        load("wikidok", samples)
    with pytest.raises(
        ValueError, match=r"wikidoc has no version 9: built in .*: 1\..*; this Meadow builds 1"
    ):
        load("wikidoc", samples, version="9")
    with pytest.raises(ValueError, match=r"nope.*train.*validation.*test"):
        load("medqa", samples, split="nope")
    with pytest.raises(ValueError, match=r"nope.*train.*validation.*test"):
        load("medqa", samples, split="nope", streaming=True)
    with pytest.raises(ValueError, match=r"takes no data_dir or data_files.*python -m meadow\.build"):
        load("medqa", samples, data_files="x.json")
    with pytest.raises(ValueError, match=r"takes no data_dir"):
        load("medqa", samples, data_dir="x")
    with pytest.raises((ValueError, NotImplementedError), match="num_proc"):
        load("medqa", samples, streaming=True, num_proc=2)


def test_missing_name_and_revision(samples: Path) -> None:
    with pytest.raises(ValueError, match=r"name a dataset: load_dataset\(.*; there are: .*medqa.*wikidoc"):
        datasets.load_dataset("meadow")
    with pytest.raises(ValueError, match='choose by version="1.0.0"'):
        datasets.load_dataset("meadow", "medqa", revision="1.0.0")


def test_broken_source_is_named_beside_the_others(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import meadow.core.builder

    found, _ = meadow.core.builder.available()
    broken = {"ward": "ward.builder:Ward: ImportError"}
    monkeypatch.setattr(api, "available", lambda: (found, broken))
    with pytest.raises(ValueError, match=r"no dataset is named 'ward'.*what ward would build, which cannot"):
        meadow.load_dataset("ward")


def test_rows_of_what_is_not_built(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"medqa is not built in .*python -m meadow\.build medqa"):
        list(Store(tmp_path).rows("medqa"))


def test_damaged_manifest_names_the_remedy(toy: Path) -> None:
    path = toy / "toy" / "2.0.0" / store.MANIFEST
    path.write_text(path.read_text("utf-8")[:100], encoding="utf-8")
    with pytest.raises(StoreError, match=r"manifest\.json: .*python -m meadow\.build toy"):
        meadow.load_dataset("toy", out=toy)


# ---- the name in `datasets` -------------------------------------------------------------------------


def test_private_names_of_datasets() -> None:
    """The whole private surface that "meadow" in `datasets` rests on; see `meadow.registration`."""
    factory, module = datasets.load.dataset_module_factory, datasets.load.DatasetModule
    assert next(iter(inspect.signature(factory).parameters)) == "path"
    assert "revision" in inspect.signature(factory).parameters
    assert [f.name for f in dataclasses.fields(module)][:3] == ["module_path", "hash", "builder_kwargs"]
    assert "dataset_module_factory" in datasets.load.load_dataset_builder.__code__.co_names
    assert datasets.inspect.dataset_module_factory is factory
    assert factory._meadow
    # Not private, but not documented either: what `get_dataset_config_names` asks a builder class for.
    assert "builder_configs" in vars(datasets.DatasetBuilder)


def test_other_names_go_where_they_went(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a\n1\n2\n", encoding="utf-8")
    data = datasets.load_dataset("csv", data_files=str(tmp_path / "rows.csv"), split="train")
    assert data["a"] == [1, 2]
    registration.register()
    registration.register()
    assert datasets.load.dataset_module_factory.__wrapped__.__module__ == "datasets.load"
    assert not hasattr(datasets.load.dataset_module_factory.__wrapped__, "_meadow")


@pytest.mark.parametrize("gone", ["dataset_module_factory", "DatasetModule"])
def test_missing_names_are_a_warning(gone: str) -> None:
    module = types.ModuleType("datasets.load")
    module.dataset_module_factory, module.DatasetModule = (lambda path: path), dict
    delattr(module, gone)
    with pytest.warns(UserWarning, match=r"use meadow\.load_dataset"):
        registration._wrap(module)


def test_changed_description_of_a_module_is_an_error_that_names_the_way_out() -> None:
    module = types.ModuleType("datasets.load")
    module.dataset_module_factory, module.DatasetModule = (lambda path, **kwargs: path), lambda: None
    registration._wrap(module)
    assert module.dataset_module_factory("other") == "other"
    with pytest.raises(RuntimeError, match=r"use meadow\.load_dataset"):
        module.dataset_module_factory("meadow")


def test_own_function_needs_no_registration(tmp_path: Path, samples: Path) -> None:
    code = """
import datasets.load, datasets.inspect, warnings
del datasets.load.dataset_module_factory, datasets.inspect.dataset_module_factory
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    import meadow
print(len(said), "meadow.load_dataset" in str(said[0].message))
print(meadow.load_dataset("medqa", split="train[:2]").num_rows, len(list(meadow.load_dataset("medqa", streaming=True))))
"""
    assert ran(code, cwd=tmp_path).split() == ["1", "True", "2", "3"]


def test_datasets_of_another_shape_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("from datasets.load import load\n", encoding="utf-8")
    (tmp_path / "datasets" / "load.py").write_text("def load(): return 1\n", encoding="utf-8")
    done = run("import meadow, datasets; print(datasets.load())", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert "use meadow.load_dataset(...)" in done.stderr


def test_import_is_light(tmp_path: Path) -> None:
    code = """
import sys, meadow
heavy = ("datasets", "pyarrow", "numpy", "pandas", "typer", "lxml", "torch")
print([name for name in heavy if name in sys.modules])
"""
    assert ran(code, cwd=tmp_path) == "[]\n"


# ---- no network -------------------------------------------------------------------------------------

NO_NETWORK = """
import socket, sys
tried = []
connect, look_up = socket.socket.connect, socket.getaddrinfo
def refuse(self, address):
    if self.family == socket.AF_UNIX:
        return connect(self, address)
    tried.append(address)
    raise OSError("no network")
def refuse_name(*args, **kwargs):
    tried.append(args)
    raise socket.gaierror("no network")
socket.socket.connect, socket.getaddrinfo = refuse, refuse_name
"""


@pytest.mark.parametrize(
    "call",
    [
        "import meadow, datasets; data = datasets.load_dataset('meadow', 'medqa')",
        "import meadow, datasets; data = datasets.load_dataset('meadow', 'medqa', streaming=True)",
        "import meadow; data = meadow.load_dataset('medqa')",
        "import datasets; data = datasets.load_dataset(sys.argv[1], 'medqa')",
    ],
)
def test_no_connection_is_tried(call: str, tmp_path: Path, samples: Path) -> None:
    code = f"{NO_NETWORK}\n{call}\nprint(list(data), sum(1 for _ in data['train']) > 0, tried)"
    out = ran(code, samples, cwd=tmp_path, HF_HUB_OFFLINE=None)
    assert out == "['train', 'validation', 'test'] True []\n"
