"""Archives among raw files.

Nothing here unpacks an archive to disk, follows a path out of one, or trusts a declared size.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable
from typing import BinaryIO

from meadow.core.rawfile import CHUNK, Guarded, RawFile, RawFileError, damaged


def safe_member(name: str) -> bool:
    """Whether an archive member's name stays inside the archive."""
    return not (
        name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name)
    )


def check_members(file: RawFile, names: Iterable[str]) -> None:
    """Refuses an archive that holds a path which climbs out of it.

    Raises:
        RawFileError: One of the members' names does.
    """
    for name in names:
        if not safe_member(name):
            raise RawFileError(
                "unsafe path in archive",
                f"member {name!r} points outside the archive",
                "Do not use this file; fetch or export it again.",
                file.path,
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
        try:
            check_members(file, self._zip.namelist())
        except RawFileError:
            self._zip.close()
            raise

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
        return io.BufferedReader(Guarded(inner, self.file, packed, errors), CHUNK)

    def __enter__(self) -> ZipArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
