"""What stands beside the posts of a site: display names, and which questions are duplicates of one another."""

from __future__ import annotations

import html
import os
from pathlib import Path

import numpy as np

from meadow import RawFile, RawFileError

from . import dump


class UserIndex:
    """Display names by user id, on disk: a table of (offset, length) and the names themselves."""

    def __init__(self, stem: str) -> None:
        self._table = os.open(stem + ".table", os.O_RDONLY)
        self._names = os.open(stem + ".names", os.O_RDONLY)
        self._seen: dict[int, str | None] = {}

    def get(self, user: int) -> str | None:
        """The name of a user, or None."""
        if user not in self._seen:
            if len(self._seen) > 50_000:
                self._seen.clear()
            entry = np.frombuffer(os.pread(self._table, 16, 16 * (user + 1)), np.uint64) if user >= -1 else ()
            name = None
            if len(entry) == 2 and entry[1]:
                name = os.pread(self._names, int(entry[1]), int(entry[0])).decode("utf-8", "replace")
            self._seen[user] = name
        return self._seen[user]

    def close(self) -> None:
        """Closes both files."""
        os.close(self._table)
        os.close(self._names)


class UserIndexWriter:
    """Writes what `UserIndex` reads, from the rows of Users.xml in any order."""

    def __init__(self, stem: str) -> None:
        self.stem = stem
        self._table = Path(stem + ".table").open("wb")
        self._names = Path(stem + ".names").open("wb")
        self._pending: dict[int, tuple[int, int]] = {}
        self._at = 0

    def add(self, _offset: int, line: bytes) -> None:
        """Takes one line of the file; anything but a row with an id and a name is passed over."""
        row = dump.attributes(line) or dump.attributes(dump.rewritten_row(line.strip())) or {}
        user, name = row.get(b"Id", b""), row.get(b"DisplayName")
        if name is None or not dump.NUMBER.fullmatch(user) or not -1 <= int(user) < 2**40:
            return
        text = " ".join(html.unescape(name.decode("utf-8", "replace")).split()).encode()
        self._names.write(text)
        self._pending[int(user)] = (self._at, len(text))
        self._at += len(text)
        if len(self._pending) >= 100_000:
            self._flush()

    def _flush(self) -> None:
        # Ids mostly ascend, so neighbours go out in one write.
        run: list[int] = []
        for user in sorted(self._pending):
            if run and user != run[-1] + 1:
                self._write(run)
                run = []
            run.append(user)
        if run:
            self._write(run)
        self._pending.clear()

    def _write(self, users: list[int]) -> None:
        self._table.seek(16 * (users[0] + 1))
        self._table.write(np.array([self._pending[user] for user in users], np.uint64).tobytes())

    def close(self) -> str:
        """Finishes both files and returns their stem."""
        self._flush()
        self._table.close()
        self._names.close()
        return self.stem


class DuplicateLinks:
    """Questions closed as duplicates of one another (LinkTypeId 3), 16 bytes a link."""

    def __init__(self) -> None:
        self._pairs: list[np.ndarray] = []
        self._pending: list[tuple[int, int]] = []

    def add(self, _offset: int, line: bytes) -> None:
        """Takes one line of PostLinks.xml."""
        row = dump.attributes(line) or dump.attributes(dump.rewritten_row(line.strip())) or {}
        pair = row.get(b"PostId", b""), row.get(b"RelatedPostId", b"")
        if row.get(b"LinkTypeId") == b"3" and all(dump.NUMBER.fullmatch(number) for number in pair):
            self._pending.append((int(pair[0]), int(pair[1])))
            if len(self._pending) >= 100_000:
                self._fold()

    def _fold(self) -> None:
        self._pairs.append(np.array(self._pending, np.int64).reshape(-1, 2))
        self._pending = []

    def write(self, path: Path) -> str | None:
        """Writes (question, group) pairs sorted by question, a group being its smallest question id."""
        self._fold()
        pairs = np.concatenate(self._pairs)
        if not len(pairs):
            return None
        ids, index = np.unique(pairs, return_inverse=True)
        a, b = index.reshape(pairs.shape).T
        label = np.arange(len(ids))
        while True:
            least = np.minimum(label[a], label[b])
            new = label.copy()
            np.minimum.at(new, a, least)
            np.minimum.at(new, b, least)
            new = new[new]
            if np.array_equal(new, label):
                break
            label = new
        np.save(path, np.stack([ids, ids[label]]))
        return str(path)


def read_companion(task: tuple[RawFile, Path]) -> str | None | RawFileError:
    """Indexes Users.xml or PostLinks.xml; a damaged one costs itself, not the site."""
    file, stem = task
    try:
        if dump.in_lines(file):
            lines = dump.lines_in(file, 0, file.bytes)
        else:
            lines = dump.rewritten(file, file.open())
        sink = UserIndexWriter(f"{stem}-users") if file.name == "Users.xml" else DuplicateLinks()
        for offset, line in lines:
            sink.add(offset, line)
    except RawFileError as error:
        return error
    return sink.close() if isinstance(sink, UserIndexWriter) else sink.write(Path(f"{stem}-groups.npy"))
