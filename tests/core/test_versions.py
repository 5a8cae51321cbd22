"""Versions: which there are, which one a request means, and what prune takes away, even when it is killed."""

from __future__ import annotations

import datetime
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import meadow
from meadow.builders.wikidoc.builder import WikiDoc
from meadow.core import versions as listing
from meadow.core.store import Store, StoreError
from tests import manifests, stores
from tests.hub_server import Hub, client, hub  # noqa: F401

ALL = ("1.0.0", "1.0.2", "1.2.0", "1.10.0", "2.0.0")


def put(out: Path, *versions: str, name: str = "ward", **manifest: Any) -> Store:
    """A dataset whose versions have as many rows as they have predecessors, and one."""
    for count, version in enumerate(versions or ALL, start=1):
        stores.put(
            out, {"train": [stores.row(n) for n in range(count)]}, name=name, version=version, **manifest
        )
    return Store(out)


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "meadow", *map(str, arguments)], capture_output=True, text=True
    )


def files(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()
    }


class TestLocal:
    def test_newest_first_with_dates_rows_and_licences(self, tmp_path: Path) -> None:
        store = put(tmp_path)
        licenses = ["MIT", "CC0-1.0", "CC0-1.0"]
        splits = {
            "train": [stores.row(n, license=spdx) for n, spdx in enumerate(licenses)],
            "test": [stores.row("t")],
        }
        stores.put(tmp_path, splits, name="icu", sample=True)
        day = datetime.datetime(2025, 3, 4, 12).timestamp()
        os.utime(tmp_path / "icu" / "1.0.0" / "manifest.json", (day, day))
        found, unreadable = listing.local(store)
        assert unreadable == []
        icu, *ward = found
        assert (icu.name, icu.date, icu.rows, icu.sample, icu.splits) == (
            "icu",
            "2025-03-04",
            4,
            True,
            ("train", "test"),
        )
        assert icu.licenses == ("CC0-1.0", "CC-BY-SA-4.0", "MIT")
        assert icu.bytes == sum(path.stat().st_size for path in (tmp_path / "icu" / "1.0.0").iterdir())
        assert [(v.version, v.rows, v.current) for v in ward] == [
            ("2.0.0", 5, True), ("1.10.0", 4, False), ("1.2.0", 3, False), ("1.0.2", 2, False), ("1.0.0", 1, False),
        ]  # fmt: skip

    def test_of_some_datasets(self, tmp_path: Path) -> None:
        put(tmp_path, "1.0.0", name="icu")
        store = put(tmp_path, "1.0.0", "1.1.0")
        assert [v.version for v in listing.local(store, ["ward"])[0]] == ["1.1.0", "1.0.0"]
        with pytest.raises(StoreError, match=r"wards is not built in .*; there are: icu, ward"):
            listing.local(store, ["ward", "wards"])

    def test_one_that_cannot_be_read_costs_itself(self, tmp_path: Path) -> None:
        store = put(tmp_path, "1.0.0", "1.1.0", "1.2.0")
        (tmp_path / "ward" / "1.1.0" / "manifest.json").write_text("{", encoding="utf-8")
        (tmp_path / "ward" / "1.2.0" / "manifest.json").write_text("[]", encoding="utf-8")
        found, unreadable = listing.local(store)
        assert [v.version for v in found] == ["1.0.0"]
        assert [line[:12] for line in unreadable] == ["ward 1.2.0: ", "ward 1.1.0: "]

    def test_command(self, tmp_path: Path) -> None:
        put(tmp_path, "1.0.0", "1.1.0")
        done = command("versions", "--out", tmp_path)
        lines = [line.split() for line in done.stdout.splitlines()]
        assert (done.returncode, done.stderr, len(lines)) == (0, "", 3)
        assert lines[1][:3] == ["ward", "1.1.0", "*"] and lines[1][4:6] == ["2", "CC-BY-SA-4.0"]
        assert lines[2][:2] == ["ward", "1.0.0"] and "*" not in lines[2]
        found = json.loads(command("versions", "ward", "--out", tmp_path, "--json").stdout)
        assert [(v["version"], v["rows"], v["licenses"]) for v in found] == [
            ("1.1.0", 2, ["CC-BY-SA-4.0"]), ("1.0.0", 1, ["CC-BY-SA-4.0"]),
        ]  # fmt: skip

    def test_command_says_what_could_be_built(self, tmp_path: Path) -> None:
        done = command("versions", "medqa", "--out", tmp_path)
        assert done.returncode == 1
        assert "medqa is not built in" in done.stderr and "`python -m meadow.build medqa`" in done.stderr
        put(tmp_path, "0.9.0", name="medqa")
        done = command("versions", "--out", tmp_path)
        assert f"note: this Meadow builds medqa 1.0.0, which is not in {tmp_path}" in done.stdout


class TestResolution:
    @pytest.mark.parametrize(
        ("asked", "version"),
        [
            (None, "2.0.0"),
            ("1.0", "1.0.2"),
            ("1", "1.10.0"),
            ("1.2", "1.2.0"),
            ("1.0.0", "1.0.0"),
            ("2.0.0", "2.0.0"),
        ],
    )
    def test_the_newest_that_fits(self, asked: str | None, version: str, tmp_path: Path) -> None:
        put(tmp_path)
        rows = meadow.load_dataset("ward", version=asked, out=tmp_path, split="train", streaming=True)
        assert len(list(rows)) == 1 + ALL.index(version)

    def test_the_registered_name_resolves_alike(self, tmp_path: Path) -> None:
        import datasets

        put(tmp_path)
        rows = datasets.load_dataset("meadow", "ward", version="1.0", out=str(tmp_path), split="train")
        assert (rows.num_rows, str(rows.info.version)) == (2, "1.0.2")

    @pytest.mark.parametrize("asked", ["1.1", "3", "1.0.1", "1.", "v1.0.0", "10"])
    def test_what_is_not_there_names_what_is(self, asked: str, tmp_path: Path) -> None:
        put(tmp_path)
        with pytest.raises(StoreError) as error:
            meadow.load_dataset("ward", version=asked, out=tmp_path)
        assert f"ward has no version {asked} in {tmp_path}; there are: {', '.join(ALL)}" in str(error.value)
        assert "`meadow versions ward`" in str(error.value)

    def test_an_earlier_version_and_how_to_get_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(WikiDoc, "version", "1.1.0")
        monkeypatch.setattr(WikiDoc, "release_notes", {"1.0.0": "", "1.0.3": "", "1.1.0": ""})
        put(tmp_path, "1.1.0", name="wikidoc")
        with pytest.raises(ValueError) as error:
            meadow.load_dataset("wikidoc", version="1.0", out=tmp_path)
        said = str(error.value)
        assert f"wikidoc has no version 1.0: built in {tmp_path}: 1.1.0; this Meadow builds 1.1.0" in said
        assert 'load_dataset("ORG/NAME", "wikidoc", revision="wikidoc-1.0.3")' in said
        with pytest.raises(ValueError, match=r"there has never been a 7, but 1\.0\.0, 1\.0\.3, 1\.1\.0"):
            meadow.load_dataset("wikidoc", version="7", out=tmp_path)


class TestPrune:
    @pytest.mark.parametrize(("keep", "gone"), [(1, ALL[:-1]), (2, ALL[:-2]), (5, ()), (99, ())])
    def test_old_versions_go_and_the_current_stays(
        self, keep: int, gone: tuple[str, ...], tmp_path: Path
    ) -> None:
        store = put(tmp_path)
        sizes = {v.version: v.bytes for v in listing.local(store)[0]}
        before = files(tmp_path)
        found, notes = listing.prune(store, keep)
        assert [(p.name, p.version, p.bytes) for p in found] == [("ward", v, sizes[v]) for v in gone]
        assert (notes, store.versions("ward")) == ([], [v for v in ALL if v not in gone])
        after = files(tmp_path)
        assert {path: data for path, data in after.items() if not path.startswith(".meadow")} == {
            path: data for path, data in before.items() if path.split("/")[1] not in gone
        }
        assert [path for path in after if path.startswith(".meadow")] == [".meadow/lock"]
        assert len(list(Store(tmp_path).rows("ward"))) == 5

    def test_only_the_datasets_that_are_named(self, tmp_path: Path) -> None:
        put(tmp_path, "1.0.0", "1.1.0", name="icu")
        store = put(tmp_path, "1.0.0", "1.1.0")
        assert [p.name for p in listing.prune(store, 1, ["ward"])[0]] == ["ward"]
        assert store.versions("icu") == ["1.0.0", "1.1.0"]
        with pytest.raises(StoreError, match="wards is not built in"):
            listing.prune(store, 1, ["icu", "wards"])
        assert store.versions("icu") == ["1.0.0", "1.1.0"]

    def test_nothing_less_than_one(self, tmp_path: Path) -> None:
        store = put(tmp_path)
        with pytest.raises(ValueError, match="at least 1 version"):
            listing.prune(store, 0)
        assert command("prune", "--keep", 0, "--out", tmp_path).returncode == 2
        assert command("prune", "--out", tmp_path).returncode == 2
        assert store.versions("ward") == list(ALL)

    def test_a_folder_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        assert listing.prune(Store(tmp_path / "none"), 1) == ([], [])
        assert list(tmp_path.iterdir()) == []

    def test_a_dry_run_changes_nothing(self, tmp_path: Path) -> None:
        store = put(tmp_path)
        before = files(tmp_path)
        with store.writing():  # and does not wait for a build
            assert [p.version for p in listing.prune(store, 3, dry_run=True)[0]] == ["1.0.0", "1.0.2"]
        shutil.rmtree(tmp_path / ".meadow")
        assert files(tmp_path) == before

    def test_not_while_a_build_writes(self, tmp_path: Path) -> None:
        store = put(tmp_path)
        with store.writing(), pytest.raises(StoreError, match="another build is writing"):
            listing.prune(store, 1)
        assert store.versions("ward") == list(ALL)

    def test_all_stay_where_the_current_cannot_be_read(self, tmp_path: Path) -> None:
        store = put(tmp_path)
        (tmp_path / "ward" / "2.0.0" / "manifest.json").write_text("{", encoding="utf-8")
        found, (note,) = listing.prune(store, 1)
        assert found == [] and note.startswith(
            "ward: nothing is removed, because its current version cannot be read"
        )
        assert store.versions("ward") == list(ALL)

    def test_mixtures_that_lose_a_part_are_named(self, tmp_path: Path) -> None:
        part = {"dataset": "ward", "version": "1.0.2"}
        stores.put(
            tmp_path, {"train": [stores.row(1)]}, name="mixture_w", mixture=manifests.mixture(part, part)
        )
        found, _ = listing.prune(put(tmp_path), 3)
        assert [(p.version, p.used_by) for p in found] == [("1.0.0", ()), ("1.0.2", ("mixture_w 1.0.0",))]

    @pytest.mark.skipif(sys.platform == "win32", reason="there, open files cannot be removed")
    def test_readers_read_on_or_are_told(self, tmp_path: Path) -> None:
        store = put(tmp_path, "1.0.0", "1.1.0")
        version = {"train": [stores.row(n) for n in range(2_000)]}
        stores.put(tmp_path, version, version="1.0.0", group=10)
        path = tmp_path / "ward" / "1.0.0" / "train-00000-of-00001.parquet"
        streaming = iter(
            meadow.load_dataset("ward", version="1.0.0", out=tmp_path, split="train", streaming=True)
        )
        assert next(streaming)["id"] == "ward/0"
        with pq.ParquetFile(path) as file:
            listing.prune(store, 1)
            assert not path.exists()
            assert file.read()["id"].to_pylist() == [f"ward/{n}" for n in range(2_000)]
        with pytest.raises(StoreError, match=r"ward 1\.0\.0 was removed or built anew .*there are: 1\.1\.0"):
            list(streaming)

    def test_killed_at_any_moment(self, tmp_path: Path) -> None:
        """Whatever is there is whole, the current version among it, and the next run ends the work."""
        before = files(put(tmp_path / "first", *ALL[:3]).root)
        for step in itertools.count(1):
            out = tmp_path / f"{step}"
            shutil.copytree(tmp_path / "first", out)
            process = multiprocessing.get_context("fork").Process(target=_prune_until, args=(step, out))
            process.start()
            process.join(60)
            left = {path: data for path, data in files(out).items() if not path.startswith(".meadow")}
            there = Store(out).versions("ward")
            assert "1.2.0" in there
            assert left == {path: data for path, data in before.items() if path.split("/")[1] in there}
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL
            listing.prune(Store(out), 1)
            assert Store(out).versions("ward") == ["1.2.0"]
            assert [path.name for path in (out / ".meadow").iterdir()] == ["lock"]
            shutil.rmtree(out)
        assert step > 8, "it must have been killed between its changes"

    def test_command(self, tmp_path: Path) -> None:
        store = put(tmp_path)
        stores.put(tmp_path, {"train": [stores.row(1)]}, name="mixture_w", mixture=manifests.mixture({"dataset": "ward", "version": "1.0.0"}))  # fmt: skip
        dry = command("prune", "--keep", 3, "--dry-run", "--out", tmp_path)
        assert (dry.returncode, dry.stderr) == (0, "")
        assert "would remove ward 1.0.0 (" in dry.stdout and "2 versions, " in dry.stdout
        assert "note: ward 1.0.0 is a part of mixture_w 1.0.0" in dry.stdout
        assert store.versions("ward") == list(ALL)
        done = command("prune", "--keep", 3, "ward", "--out", tmp_path)
        assert done.stdout == dry.stdout.replace("would remove", "removed").replace("would be freed", "freed")
        assert store.versions("ward") == ["1.2.0", "1.10.0", "2.0.0"]


def _prune_until(step: int, out: Path) -> None:
    """Prunes, and is killed before its step-th change to the file system."""
    changes = frozenset(("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"))
    count = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal count
        if event in changes:
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    listing.prune(Store(out), 1)
    os._exit(0)


class TestRemote:
    def test_local_and_remote_versions_side_by_side(self, hub: Hub, tmp_path: Path) -> None:  # noqa: F811
        store = put(tmp_path / "there", "1.0.0", "1.1.0")
        hub.create("ORG/NAME")
        hub.edit("ORG/NAME", files(store.root))
        put(tmp_path / "here", "1.0.0")
        done = client(
            ["-m", "meadow", "versions", "ward", "--repo", "ORG/NAME", "--out", str(tmp_path / "here")], hub
        )
        rows = [
            line.split() for line in done.stdout.splitlines() if line.startswith("ward ") and ":" not in line
        ]
        assert [row[1] for row in rows] == ["1.0.0", "1.1.0", "1.0.0"]
        assert [row[-1] for row in rows] == [str(tmp_path / "here"), "ORG/NAME", "ORG/NAME/ward/1.0.0"]
        assert 'ward 1.1.0: load_dataset("ORG/NAME", "ward")' in done.stdout

    def test_what_is_only_remote_or_nowhere(self, hub: Hub, tmp_path: Path) -> None:  # noqa: F811
        hub.create("ORG/NAME")
        hub.edit("ORG/NAME", files(put(tmp_path / "there", "1.0.0").root))
        here = ["--out", str(tmp_path / "here")]
        done = client(["-m", "meadow", "versions", "ward", "--remote", "ORG/NAME", "--json", *here], hub)
        assert [(v["name"], v["version"], v["where"]) for v in json.loads(done.stdout)] == [
            ("ward", "1.0.0", "ORG/NAME")
        ]
        done = client(["-m", "meadow", "versions", "--repo", "ORG/OTHER", *here], hub, check=False)
        assert done.returncode == 1 and "ORG/OTHER" in done.stderr and "Traceback" not in done.stderr
