"""7z archives, streamed: py7zr hands out blocks, and nothing is unpacked to disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from meadow.core.archive import check_members
from meadow.core.rawfile import RawFile, check_ratio, damaged


def stream_members(file: RawFile, sinks: Mapping[str, Callable[[bytes], None]]) -> set[str]:
    """Streams members of a 7z archive, block by block, and returns the names of those that were there.

    `sinks` says by name (without a folder) what takes the blocks; it may raise `RawFileError`.

    Raises:
        RawFileError: The archive is damaged, encrypted, a bomb, or holds a path that climbs out.
    """
    import lzma

    import py7zr
    from py7zr.exceptions import ArchiveError, PasswordRequired
    from py7zr.io import NullIO, Py7zIO, WriterFactory

    seen = 0
    found: set[str] = set()

    class Member(NullIO):
        def __init__(self, name: str) -> None:
            super().__init__()
            self._sink = sinks[name]
            found.add(name)

        def write(self, data: bytes | bytearray) -> int:
            nonlocal seen
            seen += len(data)
            check_ratio(file, seen, file.bytes)
            self._sink(bytes(data))
            return len(data)

    class Members(WriterFactory):
        def create(self, filename: str) -> Py7zIO:
            return Member(filename.replace("\\", "/").rsplit("/", 1)[-1])

    broken = (ArchiveError, lzma.LZMAError, EOFError, OSError, ValueError, TypeError, IndexError, KeyError)
    try:
        with py7zr.SevenZipFile(file.local, "r") as archive:
            names = archive.getnames()
            check_members(file, names)
            wanted = [name for name in names if name.rsplit("/", 1)[-1] in sinks]
            if wanted:
                archive.extract(targets=wanted, factory=Members())
    except broken as error:
        raise damaged(file, f"{type(error).__name__}: {error}") from error
    except PasswordRequired as error:
        raise damaged(file, "the archive is encrypted") from error
    return found
