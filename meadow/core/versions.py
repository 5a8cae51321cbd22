"""Which versions of which datasets there are, here and in repositories; and freeing the space of old ones."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from meadow.core.manifest import Manifest
from meadow.core.store import MANIFEST, Store, StoreError


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a dataset.

    Attributes:
        name: The dataset.
        version: ``MAJOR.MINOR.PATCH``.
        date: ISO 8601 day (``2026-11-21``): of a local version, when it was put in place here, by the clock
            of the file system; of a remote one, of its commit. None where that is not known.
        rows: Rows of all splits.
        licenses: What its rows are under, most rows first.
        sample: Whether it was built from the embedded sample.
        current: Whether it is the one that loads when none is asked for.
        where: The output folder, or the repository with the revision.
        bytes: What it takes on disk; of a remote version, what there is to download.
        splits: Its splits, in order.
    """

    name: str
    version: str
    date: str | None
    rows: int
    licenses: tuple[str, ...]
    sample: bool
    current: bool
    where: str
    bytes: int
    splits: tuple[str, ...] = ()


def from_manifest(manifest: Manifest, *, date: str | None, current: bool, where: str, size: int) -> Version:
    """What a manifest says of its version; the rest, see `Version`, is known to who read it."""
    name, version, rows, sample = manifest.name, manifest.version, manifest.rows, manifest.sample
    licenses, splits = tuple(manifest.license_ids), tuple(manifest.splits)
    return Version(name, version, date, rows, licenses, sample, current, where, size, splits)


def local(store: Store, names: Iterable[str] = ()) -> tuple[list[Version], list[str]]:
    """The versions in an output folder by name, newest first, and what could not be read, in words.

    Raises:
        StoreError: One of `names` is not built.
    """
    found, unreadable = [], []
    for name in _chosen(store, names):
        there = store.versions(name)
        for version in reversed(there):
            folder = store.folder(name, version)
            try:
                manifest, current = store.manifest(name, version), version == there[-1]
                day = datetime.date.fromtimestamp((folder / MANIFEST).stat().st_mtime).isoformat()
                where, size = str(store.root), _bytes(folder)
                found.append(from_manifest(manifest, date=day, current=current, where=where, size=size))
            except (StoreError, OSError) as error:
                if folder.is_dir():  # else it was removed meanwhile
                    unreadable.append(f"{name} {version}: {error}")
    return found, unreadable


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `prune` took away, or would.

    Attributes:
        name: The dataset.
        version: The version.
        bytes: What it took on disk.
        used_by: Mixtures, with their versions, that were drawn from it: they stay whole, but their lock
            files cannot be built again without it.
    """

    name: str
    version: str
    bytes: int
    used_by: tuple[str, ...] = ()


def prune(
    store: Store, keep: int, names: Iterable[str] = (), *, dry_run: bool = False
) -> tuple[list[Pruned], list[str]]:
    """Removes old versions of datasets.

    The newest version of a dataset is its current one and always stays; where it cannot be read, so do all
    others, one of which may be needed. A version disappears by one rename and is deleted then, under the lock
    that builds take: a reader sees it whole or not at all, and one that has its files open reads on.

    Args:
        store: The output folder.
        keep: Versions to keep of each dataset, the current one among them; at least 1.
        names: Datasets; none stands for all.
        dry_run: Remove nothing; say what would go.

    Returns:
        The versions removed, by name, oldest first, and why others stayed, in words.

    Raises:
        ValueError: `keep` is below 1.
        StoreError: One of `names` is not built, a build is writing to the folder, or it cannot be written.
    """
    if keep < 1:
        raise ValueError(f"keep {keep}: at least 1 version, the current one, stays of each dataset")
    names = list(names)
    if not store.root.is_dir():  # taking the lock would make it
        return [], _chosen(store, names)
    if dry_run:
        return _old(store, keep, names)
    with store.writing() as scratch:
        found, notes = _old(store, keep, names)
        for number, each in enumerate(found):
            folder = store.folder(each.name, each.version)
            try:
                folder.rename(scratch / f"pruned-{number}")
            except OSError as error:
                raise StoreError(
                    f"cannot remove {folder}: {error.strerror or error}; what was removed before it is gone, "
                    "all else is as it was"
                ) from error
    return found, notes


def _chosen(store: Store, names: Iterable[str]) -> list[str]:
    every = store.names()
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        if name not in every:
            raise StoreError(f"{name} is not built in {store.root}; there are: {', '.join(every) or 'none'}")
    return chosen or every


def _old(store: Store, keep: int, names: Iterable[str]) -> tuple[list[Pruned], list[str]]:
    users = _users(store)
    found, notes = [], []
    for name in _chosen(store, names):
        old = store.versions(name)[:-keep]
        try:
            if old:
                store.manifest(name)
        except StoreError as error:
            notes.append(f"{name}: nothing is removed, because its current version cannot be read: {error}")
            continue
        for version in old:
            size = _bytes(store.folder(name, version))
            found.append(Pruned(name, version, size, tuple(users.get((name, version), ()))))
    return found, notes


def _users(store: Store) -> dict[tuple[str, str], list[str]]:
    """Mixtures by the versions that they were drawn from."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in store.names():
        for version in store.versions(name):
            try:
                mixture = store.manifest(name, version).mixture
            except StoreError:
                continue  # a manifest that cannot be read names no part
            parts = mixture.parts if mixture else ()
            for key in dict.fromkeys((part.dataset, part.version) for part in parts):
                found.setdefault(key, []).append(f"{name} {version}")
    return found


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
