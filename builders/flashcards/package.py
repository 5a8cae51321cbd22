"""Anki packages: from a file that nobody vouches for to the SQLite database in it.

SQLite cannot read from a stream, so a member of a package is written to a temporary file first, under a limit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from meadow import RawFile, RawFileError, ZipArchive, check_ratio, damaged

from . import protobuf

#: The largest shared medical decks hold some 40,000 notes in under 300 MB; 4 GiB leaves room for a person's
#: whole collection and stops short of filling a disk.
MAX_COLLECTION = 4 * 2**30
#: Package versions in `meta`: 1 is collection.anki2, 2 collection.anki21, 3 collection.anki21b.
NEWEST_PACKAGE = 3
#: In order of preference: a newer package also carries a placeholder under the older names.
MEMBERS = ("collection.anki21b", "collection.anki21", "collection.anki2")
_ZSTD = b"\x28\xb5\x2f\xfd"
_SQLITE = b"SQLite format 3\x00"
_CHUNK = 2**20
EXPORT_AGAIN = (
    'Open the deck in Anki 2.1.28 or newer and export it again, with "Support older Anki versions".'
)


def database(file: RawFile, folder: Path) -> Path:
    """Finds or unpacks the newest collection of a package, or of a bare file.

    Args:
        file: ``.apkg``, ``.colpkg``, ``.anki2``, ``.anki21`` or ``.anki21b``.
        folder: Where it may be unpacked to.

    Returns:
        The database: the raw file itself where it is one already.

    Raises:
        RawFileError: The file is damaged, hostile, or newer than this code.
    """
    target = folder / "collection"
    if file.suffix not in (".apkg", ".colpkg"):
        with file.local.open("rb") as stream:
            head = stream.read(len(_SQLITE))
            if head == _SQLITE:
                _check_size(file, file.local)
                return file.local
            if not head.startswith(_ZSTD):
                raise damaged(file, "neither an SQLite database nor a zstd-compressed one")
            stream.seek(0)
            _unpack(file, stream, file.bytes, target)
        return target
    with ZipArchive(file) as archive:
        names = set(archive.names())
        announced = _package_version(archive) if "meta" in names else 0
        member = next((name for name in MEMBERS if name in names), None)
        if member is None:
            raise damaged(file, "the package holds no collection")
        if announced > NEWEST_PACKAGE:
            raise RawFileError(
                "package newer than known",
                f"package version {announced}, the newest known is {NEWEST_PACKAGE}",
                f"{EXPORT_AGAIN} If that does not help, update Meadow.",
                file.path,
            )
        if announced > 1 and MEMBERS.index(member) > NEWEST_PACKAGE - announced:
            raise damaged(
                file, f"{MEMBERS[NEWEST_PACKAGE - announced]} is missing, what is left is a placeholder"
            )
        with archive.open(member) as stream:
            _unpack(file, stream, 0, target)
    return target


def _package_version(archive: ZipArchive) -> int:
    with archive.open("meta") as stream:
        data = stream.read(_CHUNK)
    try:
        return protobuf.number(protobuf.read_fields(data), 1)
    except ValueError as error:
        raise damaged(archive.file, f"meta: {error}") from error


def _unpack(file: RawFile, stream: BinaryIO, packed: int, target: Path) -> None:
    """Writes a database to `target`, decompressing it if need be; `packed` is 0 where `stream` guards itself."""
    import zstandard

    counted: Any = _Counted(stream)  # no more of a stream than is needed here
    source = counted
    if counted.peek(len(_ZSTD)) == _ZSTD:
        # A reader, not a decompressobj: one call of that may inflate its input 30,000 times at once. The
        # reader takes a cut-off frame for the end; the size check below and quick_check catch that.
        source = zstandard.ZstdDecompressor().stream_reader(counted, read_size=_CHUNK // 8)
    size = 0
    with target.open("wb") as out:
        while True:
            try:
                data = source.read(_CHUNK)
            except zstandard.ZstdError as error:
                raise damaged(file, f"collection: {error}") from error
            if not data:
                break
            size += len(data)
            check_ratio(file, size, max(packed, counted.taken))
            if size > MAX_COLLECTION:
                raise RawFileError(
                    "collection too large",
                    f"the collection unpacks to more than {MAX_COLLECTION >> 30} GiB",
                    "Export the decks one by one.",
                    file.path,
                )
            out.write(data)
    _check_size(file, target)


class _Counted:
    """A stream that knows how much was taken from it, and can look at its beginning."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._ahead, self.taken = stream, b"", 0

    def peek(self, size: int) -> bytes:
        self._ahead = self._ahead or self._stream.read(size)
        return self._ahead

    def read(self, size: int = -1) -> bytes:
        data, self._ahead = self._ahead, b""
        data = data or self._stream.read(size)
        self.taken += len(data)
        return data


def _check_size(file: RawFile, path: Path) -> None:
    """Compares the size of a database with what its header says (bytes 16-17 page size, 28-31 pages)."""
    with path.open("rb") as stream:
        header = stream.read(100)
    if not header.startswith(_SQLITE):
        raise damaged(file, "the collection is no SQLite database")
    if len(header) < 100:
        raise damaged(file, "the database ends inside its header")
    page = int.from_bytes(header[16:18], "big")
    page = 65536 if page == 1 else page
    # The page count is valid only if the change counter at 24 equals the version it was written at, at 92.
    if header[24:28] == header[92:96] and path.stat().st_size < page * int.from_bytes(header[28:32], "big"):
        raise damaged(file, "the database is shorter than its header says")
