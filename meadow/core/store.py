"""What lies on disk: layout, versions, manifests, atomic publication.

::

    OUT/README.md                                    collection card; `configs` point at current versions
    OUT/CITATION.cff                                 what to cite, for programs that read the format
    OUT/<name>/<version>/train-00000-of-00001.parquet
    OUT/<name>/<version>/README.md  plot.svg         the dataset's card
    OUT/<name>/<version>/croissant.json              the dataset as Croissant, for programs: see `meadow.describe.croissant`
    OUT/<name>/<version>/CITATION.bib                what to cite: this version and its sources
    OUT/<name>/<version>/manifest.json               see `meadow.pipeline.build`
    OUT/<name>/<version>/rejected.parquet            every record that was left out
    OUT/.meadow/                                     lock and working files; never part of a dataset

What a reader can see is whole at any moment: a version is built in ``OUT/.meadow`` and put in place by
one rename, which on Linux exchanges it with what was there.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meadow.core import manifest as manifests
from meadow.core.errors import Error
from meadow.core.manifest import Manifest

MANIFEST = "manifest.json"
CARD = "README.md"
REJECTED = "rejected.parquet"
DUPLICATES = "duplicates.parquet"
CONTAMINATION = "contamination.parquet"
PRIVACY = "privacy.parquet"
ATTRIBUTION = "ATTRIBUTION.parquet"
PLOT = "plot.svg"
CROISSANT = "croissant.json"
CITATION = "CITATION.bib"
CITATION_CFF = "CITATION.cff"
_WORK, _BUILD, _REPLACED = ".meadow", "build-", "replaced"
_VERSION = re.compile(r"\d+\.\d+\.\d+")


class StoreError(Error):
    """A dataset or version that is not there, or an output folder that cannot be used."""


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file as people read it, the same bytes on any system."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n")


def write_whole(path: Path, data: str | bytes) -> None:
    """Writes a file in one step, through to the disk: whoever looks sees the old one or the new one, whole."""
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("wb") as stream:
            stream.write(data.encode() if isinstance(data, str) else data)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def default_out() -> Path:
    """Where built datasets lie: ``$MEADOW_OUT``, else ``out`` in the user's cache folder."""
    return _default("MEADOW_OUT", "out")


def default_raw() -> Path:
    """Where raw files lie: ``$MEADOW_RAW``, else ``raw`` in the user's cache folder."""
    return _default("MEADOW_RAW", "raw")


def _default(variable: str, folder: str) -> Path:
    value = os.environ.get(variable)
    if value:
        return Path(value).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("meadow", appauthor=False) / folder


def version_key(version: str) -> tuple[int, ...]:
    """Sorts versions by number: 1.10.0 after 1.9.0."""
    return tuple(int(part) for part in version.split("."))


@dataclass(frozen=True)
class Store:
    """An output folder.

    Attributes:
        root: The folder; it need not exist before the first build.
    """

    root: Path

    def names(self) -> list[str]:
        """The datasets of which at least one version is there, sorted."""
        if not self.root.is_dir():
            return []
        found = (entry for entry in self.root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        return sorted(entry.name for entry in found if self.versions(entry.name))

    def versions(self, name: str) -> list[str]:
        """The versions of a dataset, oldest first; empty where there is none."""
        folder = self.root / name
        if not folder.is_dir():
            return []
        found = [
            entry.name
            for entry in folder.iterdir()
            if _VERSION.fullmatch(entry.name) and (entry / MANIFEST).is_file()
        ]
        return sorted(found, key=version_key)

    def resolve(self, name: str, version: str | None = None) -> str:
        """Picks a version: the newest, or the newest that begins with `version` (``1.0``).

        Raises:
            StoreError: There is none; the message names those there are.
        """
        there = self.versions(name)
        fitting = [v for v in there if version is None or v == version or v.startswith(version + ".")]
        if fitting:
            return fitting[-1]
        if not there:
            raise StoreError(f"{name} is not built in {self.root}; run `python -m meadow.build {name}`")
        raise StoreError(
            f"{name} has no version {version} in {self.root}; there are: {', '.join(there)}; "
            f"`meadow versions {name}` tells more of them, and `--repo ORG/NAME` of those in a repository"
        )

    def folder(self, name: str, version: str) -> Path:
        """Where a version lies."""
        return self.root / name / version

    def manifest(self, name: str, version: str | None = None) -> Manifest:
        """Reads a version's manifest.

        Raises:
            StoreError: There is no such version, or its manifest cannot be read.
        """
        path = self.folder(name, self.resolve(name, version)) / MANIFEST
        try:
            return manifests.read(path, f"build {name} again with `python -m meadow.build {name}`")
        except manifests.ManifestError as error:
            raise StoreError(str(error)) from error

    def current(self) -> list[Manifest]:
        """The manifest of each dataset's newest version, sorted by name."""
        return [self.manifest(name) for name in self.names()]

    def readable(self) -> tuple[list[Manifest], dict[str, StoreError]]:
        """The same of the datasets whose manifest can be read, and of the others by name why it cannot.

        One unreadable manifest must not keep all other datasets, or its own repair, from publication.
        """
        found, unreadable = [], {}
        for name in self.names():
            try:
                found.append(self.manifest(name))
            except StoreError as error:
                unreadable[name] = error
        return found, unreadable

    def files(self, name: str, version: str | None = None) -> dict[str, list[Path]]:
        """The Parquet files of each split, in order."""
        manifest = self.manifest(name, version)
        folder = self.folder(name, manifest.version)
        return {
            split: [folder / file.path for file in entry.files] for split, entry in manifest.splits.items()
        }

    def rows(self, name: str, version: str | None = None) -> Iterator[dict[str, Any]]:
        """Reads a dataset row by row, split after split, in flat memory.

        Raises:
            StoreError: It is not built, or not in that version.
        """
        import pyarrow.parquet as pq

        for paths in self.files(name, version).values():
            for path in paths:
                # With `pre_buffer`, pyarrow's default, it would hold whole columns of the file.
                with pq.ParquetFile(path, pre_buffer=False) as file:
                    for batch in file.iter_batches(batch_size=1000):
                        yield from batch.to_pylist()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Path]:
        """Locks the folder for one build and gives it an empty working folder.

        What an earlier, killed build left behind is put right or removed first. The working folder
        has a name of its own each time: a worker that outlives a killed build must not write into
        the next one's.

        Raises:
            StoreError: Another build holds the folder, or it cannot be written.
        """
        from filelock import FileLock, Timeout

        work = self.root / _WORK
        lock = FileLock(work / "lock")
        try:
            work.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(
                f"another build is writing to {self.root}; wait for it, or choose another --out"
            ) from None
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            try:
                self._recover(work)
                scratch = Path(tempfile.mkdtemp(prefix=_BUILD, dir=work))
            except OSError as error:
                raise self._unwritable(error) from error
            try:
                yield scratch
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        finally:
            lock.release()

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(f"cannot write to {self.root}: {error.strerror or error}; choose another --out")

    def _recover(self, work: Path) -> None:
        # Only systems without an atomic exchange leave `replaced/`: if the new folder did not
        # arrive, the old one goes back to where it was.
        replaced = work / _REPLACED
        if replaced.is_dir():
            for old in replaced.glob("*/*"):
                target = self.root / old.relative_to(replaced)
                if not target.exists():
                    old.rename(target)
            shutil.rmtree(replaced, ignore_errors=True)
        for left in work.glob(f"{_BUILD}*"):
            shutil.rmtree(left, ignore_errors=True)

    def publish(self, staged: Path, name: str, version: str) -> None:
        """Puts a finished version in place of whatever is there, in one step.

        Args:
            staged: A complete folder on the same file system; it is gone afterwards.
            name: The dataset.
            version: Its version.
        """
        target = self.folder(name, version)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            staged.rename(target)
            return
        if not _exchange(staged, target):
            aside = self.root / _WORK / _REPLACED / name / version
            aside.parent.mkdir(parents=True, exist_ok=True)
            target.rename(aside)
            staged.rename(target)
            shutil.rmtree(aside)
            return
        shutil.rmtree(staged)

    def write(self, path: str, text: str) -> None:
        """Replaces a file at the folder's top in one step."""
        beside = self.root / _WORK / f"{path}.new"
        beside.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8", newline="\n")
        beside.replace(self.root / path)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two folders atomically; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    # renameat2(2) with RENAME_EXCHANGE (2), since Linux 3.15 and glibc 2.28; AT_FDCWD is -100.
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(-100, os.fsencode(one), -100, os.fsencode(other), 2) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))
