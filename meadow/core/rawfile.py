"""A raw file: opened as a stream that is guarded against damage and bombs, and what to say where it is bad."""

from __future__ import annotations

import hashlib
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from meadow.core.errors import Error

#: Compressed text seldom exceeds 20:1 and sparse SQLite pages 100:1; bombs start at 1,000:1
#: (DEFLATE's own limit is 1,032:1). Below the floor a ratio says nothing.
MAX_RATIO = 250
RATIO_FLOOR = 16 * 2**20
#: One JSON line or text record; the largest PubMedQA and WikiDoc records are under 2 MB.
MAX_LINE = 64 * 2**20
CHUNK = 2**20

#: An object's address in memory, as its `repr` has it.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz")


class RawFileError(Error):
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
    remedy = "Fetch or export the file again and compare its checksum."
    return RawFileError("damaged file", said(detail, file), remedy, file.path)


def said(error: object, *files: RawFile) -> str:
    """What an error says, in words that are the same on every machine, as all that goes into an output is.

    The system and foreign libraries know files by where they lie here; their words are put right where one of
    our own errors, or a `Rejected`, is made of them.

    Args:
        error: What was raised, or words.
        files: The raw files that it may name; they are called by their paths in the raw store.
    """
    words = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        words = error.strerror or type(error).__name__
    for file in files:
        words = words.replace(str(file.local), file.path)
    return _ADDRESS.sub("", words)


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


class Readable(Protocol):
    """What is read of a stream."""

    def read(self, size: int = ..., /) -> bytes: ...
    def close(self) -> None: ...


class Guarded(io.RawIOBase):
    """A decompressed stream that turns library errors and bombs into `RawFileError`."""

    def __init__(self, inner: Readable, file: RawFile, packed: int, errors: tuple) -> None:
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
        check_ratio(self._file, self._seen, self._packed)
        target[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()


def check_ratio(file: RawFile, unpacked: int, packed: int) -> None:
    """Refuses what unpacks to far more bytes than its kind of content ever does.

    Raises:
        RawFileError: `unpacked` is over `MAX_RATIO` times `packed`.
    """
    if unpacked > RATIO_FLOOR and unpacked > MAX_RATIO * max(1, packed):
        raise RawFileError(
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
    return io.BufferedReader(Guarded(inner, file, file.bytes, errors), CHUNK)


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
            while length < CHUNK // 8 and (piece := self._next()) is not None:
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
