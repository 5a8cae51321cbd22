"""The raw store: which files lie in it, and whose they are."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

from meadow.core.rawfile import RawFile

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RawPattern:
    """A kind of raw file that a source reads.

    Attributes:
        pattern: Glob relative to the source's folder; ``*`` stays within a folder, ``**/`` crosses.
        description: What the file is, for people.
        required: False for companions, which are no reason to build from raw by themselves.
    """

    pattern: str
    description: str
    required: bool = True


class Mapper(Protocol):
    """What `map` does, wherever it does it."""

    def __call__(self, function: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]: ...


@dataclass
class RawSource:
    """The raw files of one source, as a build sees them.

    Attributes:
        name: The source.
        root: Its folder on this machine.
        sample: Whether these are the embedded sample.
        files: What its patterns match, sorted by path.
        unused: Files in its folder that no pattern matches; all of them where there are only companions.
        scratch: An empty folder for working files, removed after the build.
        map: Applies a picklable function to items on the build's workers; results come in order.
    """

    name: str
    root: Path
    sample: bool
    files: tuple[RawFile, ...]
    unused: tuple[RawFile, ...] = ()
    scratch: Path | None = None
    map: Mapper = field(default=map, repr=False)

    def matching(self, *patterns: str) -> list[RawFile]:
        """The files whose path within the source's folder matches one of the globs."""
        return [f for f in self.files if any(matches(f.path.split("/", 1)[1], p) for p in patterns)]


@cache
def _glob(pattern: str) -> re.Pattern[str]:
    out = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
    return re.compile(out, re.IGNORECASE)


def matches(path: str, pattern: str) -> bool:
    """Whether a relative POSIX path matches a glob (``*`` within a folder, ``**/`` across)."""
    return _glob(pattern).fullmatch(path) is not None


def _scan(folder: Path, prefix: str, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[RawFile]:
    # Links are followed, so a folder can lie within itself.
    status = folder.stat()
    above |= {(status.st_dev, status.st_ino)}
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.name.startswith("."):
            continue
        try:
            status, local = entry.stat(), Path(entry.path)
        except OSError:  # a link to nowhere, or to itself
            continue
        # Names that are no UTF-8 cannot stand in a manifest; `local` keeps the bytes.
        path = f"{prefix}/{os.fsencode(entry.name).decode('utf-8', 'replace')}"
        if stat.S_ISREG(status.st_mode):
            yield RawFile(path, local, status.st_size)
        elif stat.S_ISDIR(status.st_mode) and (status.st_dev, status.st_ino) not in above:
            yield from _scan(local, path, above)


def _select(name: str, folder: Path, patterns: tuple[RawPattern, ...], sample: bool) -> RawSource:
    used, unused, enough = [], [], False
    for file in _scan(folder, name):
        inner = file.path.split("/", 1)[1]
        hits = [p for p in patterns if matches(inner, p.pattern)]
        (used if hits else unused).append(file)
        enough = enough or any(p.required for p in hits)
    if not enough:
        used, unused = [], sorted([*used, *unused], key=lambda file: file.path)
    return RawSource(name, folder, sample, tuple(used), tuple(unused))


class Reader(Protocol):
    """What finding raw files asks of a source: a `meadow.Builder`, or its class."""

    name: ClassVar[str]
    raw_files: ClassVar[tuple[RawPattern, ...]]

    @classmethod
    def folder(cls) -> Path: ...


def find(builder: Reader | type[Reader], root: Path | None) -> RawSource:
    """A source's raw files under ``root/<name>``, or its embedded sample; `files` may be empty."""
    sample = root is None
    folder = builder.folder() / "sample" if sample else Path(root) / builder.name
    if not folder.is_dir():
        return RawSource(builder.name, folder, sample, ())
    return _select(builder.name, folder, builder.raw_files, sample=sample)


def strangers(root: Path, names: Iterable[str]) -> list[tuple[str, int]]:
    """What lies in the raw store and is no source's: (top-level file or folder, number of files in it)."""
    known = set(names)
    found = []
    for entry in sorted(os.scandir(root), key=lambda e: e.name):
        if entry.name.startswith(".") or entry.name in known or entry.name.lower().startswith("readme"):
            continue
        count = sum(1 for _ in _scan(Path(entry.path), entry.name)) if entry.is_dir() else 1
        found.append((entry.name, count))
    return found
