"""Anki packages: from a file that nobody vouches for to the SQLite database in it.

SQLite cannot read from a stream, so a member of a package is written to a temporary file first, under a limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meadow import RawFile, RawFileError, ZipArchive, check_ratio, damaged

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
#: A protobuf varint holds 64 bits in at most ten groups of seven.
_MAX_VARINT = 10
EXPORT_AGAIN = (
    'Open the deck in Anki 2.1.28 or newer and export it again, with "Support older Anki versions".'
)
EXPORT_OR_UPDATE = f"{EXPORT_AGAIN} If that does not help, update Meadow."


def database(file: RawFile, folder: Path) -> Path:
    """The newest collection of a package, unpacked into `folder`, or a bare one where it lies.

    Raises:
        RawFileError: The file is damaged, hostile, or newer than this code.
    """
    path = folder / "collection"
    if file.suffix in (".apkg", ".colpkg"):
        with ZipArchive(file) as archive, archive.open(_newest(archive)) as stream:
            _unpack(file, stream, path)
    else:
        with file.local.open("rb") as stream:
            head = stream.peek(len(_SQLITE))
            if head.startswith(_SQLITE):
                path = file.local
            elif head.startswith(_ZSTD):
                _unpack(file, stream, path)
            else:
                raise damaged(file, "neither an SQLite database nor a zstd-compressed one")
    _check_size(file, path)
    return path


def _newest(archive: ZipArchive) -> str:
    """The name of the collection to read."""
    file, names = archive.file, set(archive.names())
    announced = 0
    if "meta" in names:
        with archive.open("meta") as stream:
            data = stream.read(_CHUNK)
        try:
            [announced] = read_message(data, {1: int})
        except ValueError as error:
            raise damaged(file, f"meta: {error}") from error
    member = next((name for name in MEMBERS if name in names), None)
    if member is None:
        raise damaged(file, "the package holds no collection")
    if announced > NEWEST_PACKAGE:
        detail = f"package version {announced}, the newest known is {NEWEST_PACKAGE}"
        raise RawFileError("package newer than known", detail, EXPORT_OR_UPDATE, file.path)
    if announced > 1 and MEMBERS.index(member) > NEWEST_PACKAGE - announced:
        missing = MEMBERS[NEWEST_PACKAGE - announced]
        raise damaged(file, f"{missing} is missing, what is left is a placeholder")
    return member


def _unpack(file: RawFile, stream: Any, target: Path) -> None:
    """Writes a database to `target`, decompressing it if need be."""
    import zstandard

    if stream.peek(len(_ZSTD)).startswith(_ZSTD):
        # A reader, not a decompressobj: one call of that may inflate its input 30,000 times at once. The
        # reader takes a cut-off frame for the end; the check of the size and quick_check catch that.
        stream = zstandard.ZstdDecompressor().stream_reader(stream, read_size=_CHUNK // 8)
    size = 0
    with target.open("wb") as out:
        try:
            while data := stream.read(_CHUNK):
                size += len(data)
                check_ratio(file, size, file.bytes)
                if size > MAX_COLLECTION:
                    detail = f"the collection unpacks to more than {MAX_COLLECTION >> 30} GiB"
                    remedy = "Export the decks one by one."
                    raise RawFileError("collection too large", detail, remedy, file.path)
                out.write(data)
        except zstandard.ZstdError as error:
            raise damaged(file, f"collection: {error}") from error


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


def read_message(data: Any, wanted: Mapping[int, type]) -> list[Any]:
    """Reads fields of one message; of a repeated one the last value counts, as protobuf wants it for scalars.

    Returns:
        The values of the `wanted` numbers, each `int` or `str` as is said there, 0 or empty where absent.

    Raises:
        ValueError: The bytes are no such message.
    """
    if not isinstance(data, bytes):
        raise ValueError("config is no blob")
    fields: dict[int, int | bytes] = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if not number:
            raise ValueError("protobuf field number 0")
        if kind == 0:
            fields[number], at = _varint(data, at)
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"protobuf wire type {kind}")
        if at + size > len(data):
            raise ValueError("protobuf message ends inside a field")
        fields[number] = data[at : at + size]
        at += size
    found = []
    for number, wanted_type in wanted.items():
        value = fields.get(number, b"" if wanted_type is str else 0)
        if isinstance(value, int) is not (wanted_type is int):
            raise ValueError(f"protobuf field {number} is no {'number' if wanted_type is int else 'string'}")
        found.append(value.decode("utf-8") if isinstance(value, bytes) else value)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + _MAX_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("protobuf varint is cut off or too long")
