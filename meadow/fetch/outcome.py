"""What a fetch tells: how far it is, what became of a file, and what went wrong."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import filelock

from meadow.core.errors import Error

#: What to do where a raw store cannot be written; what is there stays.
ROOM = "Make room, or name another folder with --raw."


class FetchError(Error):
    """A source and file (`what`) that could not be fetched, packed or unpacked: what happened, and what to do."""

    def __init__(self, what: object, detail: str, remedy: str = "") -> None:
        super().__init__(str(what), detail, remedy)
        self.what, self.detail, self.remedy = str(what), detail, remedy

    def __str__(self) -> str:
        return f"{self.what}: {self.detail.rstrip('.')}. {self.remedy}".rstrip()


class FetchStoppedError(Error):
    """A fetch was told to stop; what is there stays."""


class Progress(Protocol):
    """Is told how far each file is; may be called from several threads."""

    def __call__(self, what: str, done: int, total: int | None, unit: str = "bytes") -> None:
        """`done` of `total` (None where nobody knows) bytes, or pages, of `what` are there."""

    def say(self, message: str) -> None:
        """Shows a line, such as why there is a pause."""


class Silent(Progress):
    """Shows nothing."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one file, with its hex SHA-256 if that was taken, and where it came from, without passwords.

    `state` is ``fetched``, ``there`` (nothing was to be done), ``failed``, ``by hand``; of a check ``whole``,
    ``differs``, ``missing``, ``unknown`` (nothing to compare with), ``not there``.
    """

    source: str
    file: str
    state: str
    bytes: int = 0
    sha256: str | None = None
    url: str = ""
    detail: str = ""

    @property
    def what(self) -> str:
        """Source and file, as in the raw store."""
        return f"{self.source}/{self.file}"


@dataclass
class FetchReport:
    """What a fetch or a check came to: what became of each file, sorted, and the terms of what was fetched.

    `notes` tell such as where files go that nobody can download, `refused` which sources were not fetched and
    why, and `broken` why installed sources cannot be loaded.
    """

    raw: Path
    files: list[Fetched] = field(default_factory=list)
    terms: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether anything that was asked for is not there, or is not right."""
        return bool(self.refused) or any(f.state in ("failed", "differs", "missing") for f in self.files)


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def explained(where: object, doing: str, remedy: str) -> Iterator[None]:
    """Makes a `FetchError` of an error of the system: which place cannot be read or written, why, what to do."""
    try:
        yield
    except OSError as error:
        problem = f"cannot be {doing}: {error.strerror or error}"
        raise FetchError(error.filename or where, problem, remedy) from error


@contextlib.contextmanager
def locked(raw: Path) -> Iterator[None]:
    """Makes a raw store and lets one process at a time fill it; a `FetchError` where that cannot be."""
    with explained(raw, "written", ROOM):
        raw.mkdir(parents=True, exist_ok=True)
        try:
            held = filelock.FileLock(raw / ".fetch.lock").acquire(timeout=0)
        except filelock.Timeout:
            problem = "another fetch is filling this raw store"
            raise FetchError(raw, problem, "Wait for it, or name another folder with --raw.") from None
    with held:
        yield
