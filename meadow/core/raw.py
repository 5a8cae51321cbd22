"""The raw store: finding raw files, opening them safely, and saying what is wrong with them.

Nothing here unpacks an archive to disk, follows a path out of one, or trusts a declared size.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from meadow.core.builder import Builder, RawPattern

T = TypeVar("T")
R = TypeVar("R")

#: Compressed text seldom exceeds 20:1 and sparse SQLite pages 100:1; bombs start at 1,000:1
#: (DEFLATE's own limit is 1,032:1). Below the floor a ratio says nothing.
MAX_RATIO = 250
RATIO_FLOOR = 16 * 2**20
#: One JSON line or text record; the largest PubMedQA and WikiDoc records are under 2 MB.
MAX_LINE = 64 * 2**20
_CHUNK = 2**20

_COMPRESSED = (".gz", ".zst", ".bz2", ".xz")


class RawFileError(Exception):
    """A raw file that cannot be read, or not in full.

    Attributes:
        reason: Short and constant, for the funnel (``damaged file``).
        detail: What was found, where.
        remedy: What to do about it.
        file: Its path in the raw store, filled in by the build where it is empty.
    """

    def __init__(self, reason: str, detail: str, remedy: str, file: str = "") -> None:
        super().__init__(reason, detail, remedy, file)
        self.reason, self.detail, self.remedy, self.file = reason, detail, remedy, file

    def __str__(self) -> str:
        return f"{self.file or 'raw file'}: {self.reason}: {self.detail}. {self.remedy}"


def damaged(file: RawFile, detail: object) -> RawFileError:
    """The error for a file that is truncated or corrupt."""
    # Errors of the system name the file as it lies on this machine, which no output may.
    said = str(detail).replace(str(file.local), file.path)
    return RawFileError(
        "damaged file", said, "Fetch or export the file again and compare its checksum.", file.path
    )


@dataclass(frozen=True, slots=True)
class RawFile:
    """A file of the raw store.

    Attributes:
        path: POSIX path relative to the store's root, source folder included.
        local: Where it lies on this machine; never part of any output.
        bytes: Its size.
    """

    path: str
    local: Path
    bytes: int

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def suffix(self) -> str:
        """The lower-case suffix, below that of a compression: ``pages.jsonl.gz`` gives ``.jsonl``."""
        stem = self.name.lower()
        for ending in _COMPRESSED:
            stem = stem.removesuffix(ending)
        return os.path.splitext(stem)[1]

    def open(self) -> BinaryIO:
        """Opens the content for reading from the start, decompressed by suffix (gz, zst, bz2, xz).

        Raises:
            RawFileError: The file cannot be opened; or, while reading, the stream is truncated, corrupt
                or a bomb.
        """
        try:
            return _open(self)
        except OSError as error:
            raise RawFileError(
                "unreadable file",
                error.strerror or type(error).__name__,
                "See that it is still there and that you may read it.",
                self.path,
            ) from error

    def sha256(self) -> str:
        """The hex SHA-256 of the file as it lies on disk."""
        with self.local.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


class _Guarded(io.RawIOBase):
    """A decompressed stream that turns library errors and bombs into `RawFileError`."""

    def __init__(self, inner: BinaryIO, file: RawFile, packed: int, errors: tuple) -> None:
        self._inner, self._file, self._packed, self._errors = inner, file, packed, errors
        self._seen = 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        try:
            data = self._inner.read(len(target))
        except self._errors as error:
            raise damaged(self._file, error) from error
        self._seen += len(data)
        if self._seen > RATIO_FLOOR and self._seen > MAX_RATIO * max(1, self._packed):
            raise bomb(self._file)
        target[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()


def bomb(file: RawFile) -> RawFileError:
    """The error for an archive that unpacks to far more than its kind of content ever does."""
    return RawFileError(
        "decompression bomb",
        f"unpacks to more than {MAX_RATIO} times its size",
        "Do not use this file; fetch it again from its publisher.",
        file.path,
    )


def _open(file: RawFile) -> BinaryIO:
    name = file.name.lower()
    if not name.endswith(_COMPRESSED):
        return file.local.open("rb")
    if not file.bytes:  # gzip takes it for a stream without members
        raise damaged(file, "the file is empty")
    if name.endswith(".gz"):
        import gzip
        import zlib

        inner, errors = gzip.open(file.local, "rb"), (OSError, EOFError, zlib.error)
    elif name.endswith(".bz2"):
        import bz2

        inner, errors = bz2.open(file.local, "rb"), (OSError, EOFError, ValueError)
    elif name.endswith(".xz"):
        import lzma

        inner, errors = lzma.open(file.local, "rb"), (OSError, EOFError, lzma.LZMAError)
    else:
        inner, errors = _ZstdStream(file), (OSError, EOFError, _zstd().ZstdError)
    return io.BufferedReader(_Guarded(inner, file, file.bytes, errors), _CHUNK)


def _zstd() -> Any:
    import zstandard

    return zstandard


class _ZstdStream(io.RawIOBase):
    """All frames of a zstd file. `zstandard`'s own reader takes a cut-off frame for the end."""

    #: A block of 4 bytes can unpack to 128 KiB, so what is fed at once bounds memory at 16 MiB.
    _PIECE = 512

    def __init__(self, file: RawFile) -> None:
        self._stream = file.local.open("rb")
        self._decoder = None
        self._rest = b""
        self._out = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._out:
            found, length = [], 0
            while length < _CHUNK // 8 and (piece := self._next()) is not None:
                found.append(piece)
                length += len(piece)
            self._out = b"".join(found)
            if not self._out and self._decoder is not None:
                raise EOFError("zstd stream ends in the middle of a frame")
        out, self._out = (self._out, b"") if size < 0 else (self._out[:size], self._out[size:])
        return out

    def _next(self) -> bytes | None:
        data = self._rest or self._stream.read(self._PIECE)
        self._rest = b""
        if not data:
            return None
        if self._decoder is None:
            # 2**31 is the format's largest window that ordinary encoders write (--long=31).
            self._decoder = _zstd().ZstdDecompressor(max_window_size=2**31).decompressobj()
        out = self._decoder.decompress(data)
        if self._decoder.eof:
            self._rest, self._decoder = self._decoder.unused_data, None
        return out

    def close(self) -> None:
        self._stream.close()
        super().close()


def safe_member(name: str) -> bool:
    """Whether an archive member's name stays inside the archive."""
    return not (
        name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name)
    )


class ZipArchive:
    """A zip file opened for reading members as guarded streams.

    Raises:
        RawFileError: It is no zip, is truncated, or holds a path that climbs out of it.
    """

    def __init__(self, file: RawFile) -> None:
        self.file = file
        try:
            self._zip = zipfile.ZipFile(file.local)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise damaged(file, error) from error
        unsafe = [name for name in self._zip.namelist() if not safe_member(name)]
        if unsafe:
            self._zip.close()
            raise RawFileError(
                "unsafe path in archive",
                f"member {unsafe[0]!r} points outside the archive",
                "Do not use this file; fetch or export it again.",
                file.path,
            )

    def names(self) -> list[str]:
        """The members' names in the order of the archive."""
        return self._zip.namelist()

    def open(self, name: str) -> BinaryIO:
        """Opens a member; reading raises `RawFileError` where it is corrupt or a bomb."""
        import zlib

        errors = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError)
        try:
            member = self._zip.getinfo(name)
            # Of the other methods, zipfile unpacks all that it has read in one go: memory without bound.
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise RawFileError(
                    "unsupported compression",
                    f"{name}: zip method {member.compress_type}",
                    "Pack it again with the usual method, deflate.",
                    self.file.path,
                )
            inner = self._zip.open(member)
        except (KeyError, *errors) as error:
            raise damaged(self.file, f"{name}: {error}") from error
        packed = min(member.compress_size, self.file.bytes)  # the first is a claim of the archive's
        return io.BufferedReader(_Guarded(inner, self.file, packed, errors), _CHUNK)

    def __enter__(self) -> ZipArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A line that is no record: what is wrong with it, and how it begins."""

    detail: str
    excerpt: str


def json_lines(stream: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Reads JSON lines, one record at a time; a BOM, CRLF and blank lines are tolerated.

    Yields:
        (line number from 1, the decoded value or a `BadRecord`).
    """
    number = 0
    while True:
        line = stream.readline(MAX_LINE)
        if not line:
            return
        number += 1
        if len(line) >= MAX_LINE and not line.endswith(b"\n"):
            yield number, BadRecord(f"a line of over {MAX_LINE} bytes", "")
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE)
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8"))
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            value = BadRecord(str(error), line[:200].decode("utf-8", "replace").strip())
        yield number, value


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
    map: Callable[[Callable[[T], R], Iterable[T]], Iterator[R]] = field(default=map, repr=False)

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


def find(builder: Builder | type[Builder], root: Path | None) -> RawSource:
    """Finds a source's raw files under ``root/<name>``.

    Args:
        builder: The source.
        root: The raw store, or None for the embedded sample.

    Returns:
        What is there; `files` is empty where nothing usable is.
    """
    sample = root is None
    folder = builder.folder() / "sample" if sample else Path(root) / builder.name
    if not folder.is_dir():
        return RawSource(builder.name, folder, sample, ())
    return _select(builder.name, folder, builder.raw_files, sample=sample)


def strangers(root: Path, names: Iterable[str]) -> list[tuple[str, int]]:
    """What lies in the raw store and belongs to no source.

    Returns:
        (top-level file or folder, number of files in it), sorted.
    """
    known = set(names)
    found = []
    for entry in sorted(os.scandir(root), key=lambda e: e.name):
        if entry.name.startswith(".") or entry.name in known or entry.name.lower().startswith("readme"):
            continue
        count = sum(1 for _ in _scan(Path(entry.path), entry.name)) if entry.is_dir() else 1
        found.append((entry.name, count))
    return found
