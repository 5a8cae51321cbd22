"""What stands beside the posts of a site: display names, and which questions are duplicates of one another."""

from __future__ import annotations

import html
import sqlite3
from array import array
from pathlib import Path

import numpy as np

from meadow import RawFile, RawFileError

from . import dump


class UserIndex:
    """Display names by user id, as `UserIndexWriter` has left them on disk."""

    def __init__(self, path: str) -> None:
        # immutable: workers that read the same table need no locks.
        uri = f"{Path(path).absolute().as_uri()}?mode=ro&immutable=1"
        self._table = sqlite3.connect(uri, uri=True)

    def get(self, user: int) -> str | None:
        """The name of a user, or None."""
        found = self._table.execute("SELECT name FROM users WHERE id = ?", (user,)).fetchone()
        return found[0] if found else None

    def close(self) -> None:
        """Closes the file."""
        self._table.close()


class UserIndexWriter:
    """Writes what `UserIndex` reads, from the rows of Users.xml in any order."""

    def __init__(self, stem: Path) -> None:
        self._path = stem.with_name(f"{stem.name}-users")
        self._path.unlink(missing_ok=True)
        self._table = sqlite3.connect(self._path)
        self._table.execute("PRAGMA journal_mode = OFF")
        self._table.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")

    def add(self, _offset: int, line: bytes) -> None:
        """Takes one line of the file; anything but a row with an id and a name is passed over."""
        row = dump.any_attributes(line)
        user, name = row.get(b"Id", b""), row.get(b"DisplayName")
        if name is not None and dump.NUMBER.fullmatch(user):
            text = " ".join(html.unescape(name.decode("utf-8", "replace")).split())
            self._table.execute("INSERT OR REPLACE INTO users VALUES (?, ?)", (int(user), text))

    def close(self) -> str:
        """Finishes the table and returns its path."""
        self._table.commit()
        self._table.close()
        return str(self._path)


class DuplicateLinks:
    """Questions closed as duplicates of one another (LinkTypeId 3), 16 bytes a link."""

    def __init__(self) -> None:
        self._links = array("q")

    def add(self, _offset: int, line: bytes) -> None:
        """Takes one line of PostLinks.xml."""
        row = dump.any_attributes(line)
        pair = row.get(b"PostId", b""), row.get(b"RelatedPostId", b"")
        if row.get(b"LinkTypeId") == b"3" and all(dump.NUMBER.fullmatch(number) for number in pair):
            self._links.extend(map(int, pair))

    def write(self, stem: Path) -> str | None:
        """Writes (question, group) pairs sorted by question, a group being its smallest question id."""
        if not self._links:
            return None
        ids, index = np.unique(np.frombuffer(self._links, np.int64), return_inverse=True)
        a, b = index.reshape(-1, 2).T
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
        path = stem.with_name(f"{stem.name}-groups.npy")
        np.save(path, np.stack([ids, ids[label]]))
        return str(path)


def read_companion(task: tuple[RawFile, Path]) -> str | None | RawFileError:
    """Indexes Users.xml or PostLinks.xml; a damaged one costs itself, not the site."""
    file, stem = task
    sink = UserIndexWriter(stem) if file.name == "Users.xml" else DuplicateLinks()
    try:
        for offset, line in dump.rows_of(file):
            sink.add(offset, line)
    except RawFileError as error:
        return error
    return sink.close() if isinstance(sink, UserIndexWriter) else sink.write(stem)
