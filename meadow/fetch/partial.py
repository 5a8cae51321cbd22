"""The unfinished file beside its place, which becomes the file once it is whole and right.

It is called ``.NAME.http.part``, with its facts in ``.NAME.http.part.json``; builds pass over such names.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import BinaryIO

import pydantic

from meadow.fetch import pages
from meadow.fetch.addresses import Address, without_secrets
from meadow.fetch.outcome import Fetched, FetchError, sha256_of

#: Kept free on disk beside the file, so that a full disk does not stop everything else.
SPARE = 64 * 2**20
ALTERED = "Its publisher has changed it, or something on the way has."
NEWER = "newer release of Meadow may declare the new file."


class PartNote(pydantic.BaseModel):
    """What is known of a file that is coming: its address, version (ETag), last change and size."""

    url: str
    etag: str | None = None
    modified: str | None = None
    total: pydantic.NonNegativeInt | None = None

    @property
    def validator(self) -> str | None:
        """What ``If-Range`` may hold: a strong ETag, else the date of the last change."""
        # Some servers send letters that no request can send back.
        strong = self.etag if (self.etag or "").startswith('"') else None
        return next((told for told in (strong, self.modified) if told and told.isascii()), None)


class PartialFile:
    """A file of a source's folder that is coming: the bytes that are there, and the facts of what is being fetched."""

    def __init__(self, folder: Path, address: Address) -> None:
        self.address, self._target = address, folder / address.file
        self._path = self._target.with_name(f".{self._target.name}.http.part")
        self._note = self._path.with_name(f"{self._path.name}.json")
        self._stream: BinaryIO | None = None
        self.facts: PartNote | None = None
        self.size = 0
        with contextlib.suppress(OSError, ValueError):
            facts = PartNote.model_validate_json(self._note.read_bytes())
            self.size = self._path.stat().st_size
            self.facts = facts if self.size else None

    @property
    def total(self) -> int | None:
        """How large it will be, if that is known."""
        return self.facts.total if self.facts else None

    def begin(self, facts: PartNote) -> None:
        """Empties the file and notes what will be in it."""
        self.drop()  # the note first: it must never speak of other bytes than those beside it
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        self._note.write_text(facts.model_dump_json(), encoding="utf-8")
        self.facts = facts

    def write(self, data: bytes) -> None:
        """Adds bytes at the end."""
        if self._stream is None:
            self._stream = self._path.open("ab", buffering=0)
        view = memoryview(data)
        while view:
            done = self._stream.write(view)
            self.size += done
            view = view[done:]

    def close(self) -> None:
        """Closes the file; it stays."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def drop(self) -> None:
        """Removes it."""
        self.close()
        self._note.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)
        self.facts, self.size = None, 0

    def check_room(self, total: int | None) -> None:
        """Raises `FetchError` where the disk cannot hold what is still to come."""
        needed, free = None if total is None else total - self.size, shutil.disk_usage(self._path.parent).free
        if (needed or 0) + SPARE > free:
            come = "more is" if needed is None else f"{needed / 1e6:,.1f} MB are"
            said = f"{come} still to come, and {self._path.parent} has {free / 1e6:,.1f} MB free"
            raise FetchError(self.address.what, said, "Make room, or name another folder with --raw.")

    def settle(self) -> Fetched:
        """Checks the file, which came in full, and puts it in its place; a wrong one is dropped with a `FetchError`."""
        self.close()
        address, size, sha256 = self.address, self.size, sha256_of(self._path)
        wrong = address.difference(size, sha256)
        remedy = f"{ALTERED} Do not use it before you know which; a {NEWER}"
        # The form is judged by the ending of the name that it will have.
        if not wrong and (form := pages.wrong_structure(self._path, address.file)):
            wrong, remedy = f"what came is no such file: {form}", "Try again later."
        if wrong:
            self.drop()
            raise FetchError(address.what, wrong, remedy)
        with self._path.open("ab") as stream:
            os.fsync(stream.fileno())
        self._path.replace(self._target)
        self._note.unlink(missing_ok=True)
        return Fetched(address.source, address.file, "fetched", size, sha256, without_secrets(address.url))
