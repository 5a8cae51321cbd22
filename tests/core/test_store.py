"""What lies on disk: versions, atomic publication, recovery, and the lock."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest

from meadow.core import store as store_module
from meadow.core.store import MANIFEST, Store, StoreError
from tests import manifests


def stage(folder: Path, **content: object) -> Path:
    """A finished version that is not yet in place."""
    folder.mkdir(parents=True)
    (folder / "train-00000-of-00001.parquet").write_bytes(b"rows")
    (folder / MANIFEST).write_text(json.dumps(manifests.as_json(**content)), encoding="utf-8")
    return folder


def filled(root: Path, *versions: str, name: str = "toy") -> Store:
    for version in versions:
        stage(root / name / version, version=version)
    return Store(root)


@pytest.fixture
def no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that cannot swap two folders in one step."""
    monkeypatch.setattr(store_module, "_exchange", lambda one, other: False)


class TestVersions:
    def test_are_sorted_by_number(self, tmp_path: Path) -> None:
        store = filled(tmp_path, "1.10.0", "1.9.0", "10.0.0", "2.0.0")
        assert store.versions("toy") == ["1.9.0", "1.10.0", "2.0.0", "10.0.0"]
        assert store.resolve("toy") == "10.0.0"

    def test_only_whole_ones_count(self, tmp_path: Path) -> None:
        store = filled(tmp_path, "1.0.0")
        for name in ("1.1.0", "latest", "1.0", ".2.0.0"):
            (tmp_path / "toy" / name).mkdir()
        for name in ("latest", "1.0"):
            (tmp_path / "toy" / name / MANIFEST).write_text("{}")
        (tmp_path / "README.md").write_text("")
        (tmp_path / "empty").mkdir()
        stage(tmp_path / ".meadow" / "1.0.0")
        assert store.versions("toy") == ["1.0.0"]
        assert store.names() == ["toy"]

    @pytest.mark.parametrize(
        ("asked", "given"),
        [(None, "2.0.0"), ("1", "1.10.0"), ("1.1", "1.1.2"), ("1.10", "1.10.0"), ("1.1.0", "1.1.0")],
    )
    def test_a_beginning_stands_for_the_newest_of_those(
        self, asked: str | None, given: str, tmp_path: Path
    ) -> None:
        store = filled(tmp_path, "1.1.0", "1.1.2", "1.10.0", "2.0.0")
        assert store.resolve("toy", asked) == given

    @pytest.mark.parametrize("asked", ["3", "1.0", "1.1.", "", "1.1.1", "2.0.0.0"])
    def test_unknown_version_names_those_there_are(self, asked: str, tmp_path: Path) -> None:
        store = filled(tmp_path, "1.1.0", "2.0.0")
        with pytest.raises(StoreError, match=r"toy has no version .*there are: 1\.1\.0, 2\.0\.0"):
            store.resolve("toy", asked)

    @pytest.mark.parametrize("root", ["", "not-there"])
    def test_unknown_dataset_says_how_to_build_it(self, root: str, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"toy is not built in .*python -m meadow\.build toy"):
            Store(tmp_path / root).resolve("toy")
        assert Store(tmp_path / root).names() == []

    def test_manifest_files_and_current(self, tmp_path: Path) -> None:
        store = filled(tmp_path, "1.0.0", "1.1.0")
        files = [{"path": name, "bytes": 1, "sha256": ""} for name in "ba"]
        splits = {
            "train": {"rows": 2, "bytes": 2, "files": files},
            "test": {"rows": 0, "bytes": 0, "files": []},
        }
        stage(tmp_path / "abc" / "1.0.0", version="1.0.0", splits=splits)
        assert [m.version for m in store.current()] == ["1.0.0", "1.1.0"]
        folder = tmp_path / "abc" / "1.0.0"
        assert store.files("abc") == {"train": [folder / "b", folder / "a"], "test": []}

    def test_a_broken_manifest_is_named(self, tmp_path: Path) -> None:
        store = filled(tmp_path, "1.0.0")
        (tmp_path / "toy" / "1.0.0" / MANIFEST).write_text('{"vers')
        with pytest.raises(StoreError, match=r"manifest\.json: .*build toy again"):
            store.manifest("toy")


class TestPublish:
    @pytest.mark.parametrize("exchange", [True, False])
    def test_replaces_a_version_whole(
        self, exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not exchange:
            monkeypatch.setattr(store_module, "_exchange", lambda one, other: False)
        store = filled(tmp_path, "1.0.0")
        (tmp_path / "toy" / "1.0.0" / "test-00000-of-00001.parquet").write_bytes(b"of the old one only")
        with store.writing() as work:
            staged = stage(work / "staged", version="1.0.0", sample=False, parameters={"new": True})
            store.publish(staged, "toy", "1.0.0")
            assert not staged.exists()
        assert store.manifest("toy").parameters == {"new": True}
        assert sorted(p.name for p in (tmp_path / "toy" / "1.0.0").iterdir()) == [
            MANIFEST, "train-00000-of-00001.parquet",
        ]  # fmt: skip
        assert [p.name for p in (tmp_path / "toy").iterdir()] == ["1.0.0"]
        assert [p for p in (tmp_path / ".meadow").rglob("*") if p.is_file() and p.name != "lock"] == []

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges folders in one step")
    def test_a_reader_never_misses_it(self, tmp_path: Path) -> None:
        store = filled(tmp_path, "1.0.0")
        path = tmp_path / "toy" / "1.0.0" / MANIFEST
        seen: set[int] = set()
        missing: list[Exception] = []
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                try:
                    seen.add(json.loads(path.read_text(encoding="utf-8"))["parameters"].get("turn", -1))
                except OSError as error:
                    missing.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        with store.writing() as work:
            for turn in range(200):
                store.publish(stage(work / "staged", parameters={"turn": turn}), "toy", "1.0.0")
        done.set()
        reader.join()
        assert missing == []
        assert len(seen) > 5
        assert store.manifest("toy").parameters == {"turn": 199}

    @pytest.mark.usefixtures("no_exchange")
    def test_killed_between_the_two_renames_the_old_one_comes_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = filled(tmp_path, "1.0.0", "1.1.0")
        rename, calls = Path.rename, []

        def killed(self: Path, target: Path) -> Path:
            calls.append(target)
            if len(calls) == 2:
                raise KeyboardInterrupt  # `publish` has no clean-up that a kill would not run
            return rename(self, target)

        with store.writing() as work:
            staged = stage(work / "staged", version="1.1.0", parameters={"new": True})
            monkeypatch.setattr(Path, "rename", killed)
            with pytest.raises(KeyboardInterrupt):
                store.publish(staged, "toy", "1.1.0")
            monkeypatch.undo()
        assert store.versions("toy") == ["1.0.0"]
        with store.writing():
            assert store.versions("toy") == ["1.0.0", "1.1.0"]
            assert "new" not in store.manifest("toy").parameters

    @pytest.mark.usefixtures("no_exchange")
    def test_killed_after_the_second_rename_the_new_one_stays(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = filled(tmp_path, "1.0.0")
        with store.writing() as work:
            staged = stage(work / "staged", version="1.0.0", parameters={"new": True})
            with monkeypatch.context() as patch:
                patch.setattr(store_module.shutil, "rmtree", lambda *_, **__: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    store.publish(staged, "toy", "1.0.0")
        with store.writing():
            assert store.manifest("toy").parameters["new"]
        assert not (tmp_path / ".meadow" / "replaced").exists()

    def test_the_card_is_replaced_in_one_step(self, tmp_path: Path) -> None:
        store = Store(tmp_path)
        store.write("README.md", "old\n")
        store.write("README.md", "new\né")
        assert (tmp_path / "README.md").read_bytes() == "new\né".encode()
        assert list((tmp_path / ".meadow").iterdir()) == []


class TestWriting:
    def test_a_second_writer_is_refused(self, tmp_path: Path) -> None:
        with Store(tmp_path).writing() as work:
            (work / "mine").touch()
            with (
                pytest.raises(StoreError, match="another build is writing to .*choose another --out"),
                Store(tmp_path).writing(),
            ):
                pass
            assert (work / "mine").exists()
        with Store(tmp_path).writing():
            pass

    def test_working_folders_are_empty_new_and_removed(self, tmp_path: Path) -> None:
        left = tmp_path / ".meadow" / "build-left" / "deep"
        left.mkdir(parents=True)
        with Store(tmp_path).writing() as first:
            assert list(first.iterdir()) == []
            assert not left.parent.exists()
            (first / "x").write_text("x")
        with Store(tmp_path).writing() as second:
            assert second != first
        assert [p.name for p in (tmp_path / ".meadow").iterdir() if p.is_dir()] == []

    def test_is_removed_when_the_build_fails(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt), Store(tmp_path).writing():
            raise KeyboardInterrupt
        assert [p.name for p in (tmp_path / ".meadow").iterdir() if p.is_dir()] == []

    @pytest.mark.parametrize("under", ["", "deeper"])
    def test_a_folder_that_cannot_be_written(self, under: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with (
            pytest.raises(StoreError, match=r"cannot write to .*file.*choose another --out"),
            Store(tmp_path / "file" / under).writing(),
        ):
            pass

    def test_a_disk_that_refuses(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(**_: object) -> str:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(store_module.tempfile, "mkdtemp", refuse)
        with pytest.raises(StoreError, match="Read-only file system"), Store(tmp_path).writing():
            pass
        monkeypatch.undo()
        with Store(tmp_path).writing():  # the lock was given back
            pass


def test_default_folders_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEADOW_OUT", str(tmp_path))
    monkeypatch.setenv("MEADOW_RAW", "~/raw")
    assert store_module.default_out() == tmp_path
    assert store_module.default_raw() == Path.home() / "raw"
    monkeypatch.delenv("MEADOW_OUT")
    assert store_module.default_out().name == "out"
