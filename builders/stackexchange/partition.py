"""Joining answers to questions in a dump of any size, with flat memory: the first half.

A dump lists posts by id; an answer's question may stand gigabytes before it. So a site is partitioned
first, as in a Grace hash join: every range of ``Posts.xml`` is read once, and each row is copied to the
bucket that its question's id falls in. One spill file per range holds its rows by bucket, with a table
of offsets in front; a bucket is then one slice of every spill file, small enough to join in memory.
"""

from __future__ import annotations

import html
import os
import re
import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from meadow import RawFile, RawFileError, RawSource

from . import dump

#: Bytes of Posts.xml that one partitioning task reads, and that one bucket holds on average. They
#: grow only for sites of over 16 GB, so that spill tables stay small beside the data.
RANGE_BYTES, MAX_RANGES = 16 * 2**20, 1024
BUCKET_BYTES, MAX_BUCKETS = 8 * 2**20, 2048
#: Bytes of a rejected post's body that are kept to make its excerpt.
EXCERPT_BYTES = 300
_HEADER = re.compile(rb"<\?xml[^>]*>|<!DOCTYPE[^>\[]*>|</?posts>|</?users>|</?postlinks>|<posts ?/>")
_NOT_PLAIN = re.compile(rb"[^!-~]")


@dataclass(frozen=True, slots=True)
class Site:
    """One site's dump, partitioned.

    `spills` are the spill files in the order of the dump, each with as many `buckets`; `users` is the index
    of display names and `groups` the file of duplicate questions' groups, where there is one.
    """

    name: str
    spills: tuple[str, ...]
    buckets: int
    users: str | None = None
    groups: str | None = None


def buckets_for(size: int) -> int:
    """The number of buckets of a Posts.xml of `size` bytes."""
    return max(1, min(MAX_BUCKETS, -(-size // BUCKET_BYTES)))


def partition_folder(
    raw: RawSource, site: str, files: tuple[RawFile, ...], stem: Path, min_score: int
) -> tuple[Site, list[RawFileError]]:
    """Partitions a site given as a folder; a companion that cannot be read costs itself alone."""
    posts = files[0]
    buckets = buckets_for(posts.bytes)
    if dump.in_lines(posts):
        size, step = posts.bytes, max(RANGE_BYTES, -(-posts.bytes // MAX_RANGES))
        tasks = [
            (
                posts,
                at,
                min(at + step, size),
                stem.with_name(f"{stem.name}-{at // step:06d}"),
                buckets,
                min_score,
            )
            for at in range(0, size, step)
        ]
        spills = chain.from_iterable(raw.map(partition_range, tasks))
    else:
        spills = Spills(stem, buckets, min_score).of(dump.rows_of(posts))
    spills = tuple(spills)
    companions = [(file, stem) for file in files[1:]]
    results = list(raw.map(read_companion, companions))
    found = {file.name: result for (file, _), result in zip(companions, results, strict=True)}
    users, groups = (
        name if isinstance(name := found.get(file), str) else None for file in ("Users.xml", "PostLinks.xml")
    )
    left_out = [result for result in results if isinstance(result, RawFileError)]
    return Site(site, spills, buckets, users, groups), left_out


def partition_range(task: tuple[RawFile, int, int, Path, int, int]) -> list[str]:
    """Partitions one byte range of Posts.xml; the work of one task."""
    file, start, end, stem, buckets, min_score = task
    return Spills(stem, buckets, min_score).of(dump.lines_in(file, start, end))


def partition_archive(task: tuple[str, RawFile, Path, int]) -> Site:
    """Partitions a site's 7z in one pass over it."""
    site, file, stem, min_score = task
    # The archive's own list of sizes only sets the number of buckets; dumps shrink to about a fifth.
    buckets = buckets_for(file.bytes * 5)
    posts, users, links = Spills(stem, buckets, min_score), UserNames(stem), DuplicateLinks(stem)
    sinks = {"Posts.xml": posts.add, "Users.xml": users.add, "PostLinks.xml": links.add}
    there = dump.read_archive(file, sinks)
    if "Posts.xml" not in there:
        remedy = "Stack Overflow is published as several archives; take the one named -Posts."
        raise RawFileError("no posts in archive", "it holds no Posts.xml", remedy, file.path)
    names = users.close() if "Users.xml" in there else None
    return Site(site, tuple(posts.close()), buckets, names, links.close())


class Spills:
    """Sorts the rows of Posts.xml into buckets, in spill files: a new one begins every `RANGE_BYTES`.

    Records are ``Q<id>``, ``A<question id>`` (an answer that counts), ``L<id> <score>`` (one that
    does not), ``O<id> <type>`` (no question or answer) and ``M<offset> <attribute>`` (no row, or one
    without an attribute that it needs), each followed by a tab and by the row, or its beginning.
    """

    def __init__(self, stem: Path, buckets: int, min_score: int) -> None:
        self._stem, self._count, self._min_score = stem, buckets, min_score
        self._paths: list[str] = []
        self._buckets: defaultdict[int, list[bytes]] = defaultdict(list)
        self._bytes = 0

    def of(self, lines: Iterable[tuple[int, bytes]]) -> list[str]:
        """Takes (offset, line) pairs and returns the paths of the spill files."""
        for offset, line in lines:
            self.add(offset, line)
        return self.close()

    def add(self, offset: int, line: bytes) -> None:
        """Takes one line of the file."""
        row = dump.attributes(line)
        if row is None:
            stripped = line.removeprefix(b"\xef\xbb\xbf").strip()
            if not stripped or _HEADER.fullmatch(stripped):
                return
            line = dump.rewritten_row(stripped)
            row = dump.attributes(line)
            if row is None:
                self._bad(offset, b"", stripped)
                return
        kind = row.get(b"PostTypeId", b"")
        needed = (b"Id", b"PostTypeId", b"ParentId", b"Score") if kind == b"2" else (b"Id", b"PostTypeId")
        for name in needed:
            if name not in row:
                self._bad(offset, name, line)
                return
            if not dump.NUMBER.fullmatch(row[name]):
                # The value goes into a record of words, so nothing but plain characters may.
                self._bad(offset, name + b"=" + _NOT_PLAIN.sub(b"?", row[name][:20]), line)
                return
        post = row[b"Id"]
        if kind == b"1":
            self._put(int(post), b"Q" + post, line)
        elif kind != b"2":
            self._put(int(post), b"O" + post + b" " + kind, _beginning(row))
        elif int(row[b"Score"]) >= self._min_score:
            self._put(int(row[b"ParentId"]), b"A" + row[b"ParentId"], line)
        else:
            self._put(int(row[b"ParentId"]), b"L" + post + b" " + row[b"Score"], _beginning(row))

    def _bad(self, offset: int, missing: bytes, line: bytes) -> None:
        beginning = line[:EXCERPT_BYTES].replace(b"\n", b" ").replace(b"\t", b" ")
        self._put(offset // 4096, b"M%d %s" % (offset, missing), beginning)

    def _put(self, key: int, head: bytes, line: bytes) -> None:
        record = b"%b\t%b\n" % (head, line)
        self._buckets[key % self._count].append(record)
        self._bytes += len(record)
        if self._bytes >= RANGE_BYTES:
            self._write()

    def _write(self) -> None:
        pieces = [b"".join(self._buckets.pop(index, ())) for index in range(self._count)]
        edges = np.zeros(self._count + 1, np.uint64)
        edges[1:] = np.cumsum([len(piece) for piece in pieces])
        path = self._stem.with_name(f"{self._stem.name}-{len(self._paths):06d}.spill")
        with path.open("wb") as out:
            out.write((edges + np.uint64(edges.nbytes)).tobytes())
            out.writelines(pieces)
        self._paths.append(str(path))
        self._bytes = 0

    def close(self) -> list[str]:
        """Writes what is left and returns all paths."""
        self._write()
        return self._paths


def _beginning(row: dict[bytes, bytes]) -> bytes:
    return row.get(b"Body", b"")[:EXCERPT_BYTES]


def read_bucket(site: Site, bucket: int) -> Iterator[bytes]:
    """The records of one bucket, in the order of the dump."""
    for spill in site.spills:
        with open(spill, "rb", buffering=0) as stream:  # noqa: PTH123 - unbuffered: two small reads a file
            first, last = np.frombuffer(os.pread(stream.fileno(), 16, 8 * bucket), np.uint64).tolist()
            data = b""
            while len(data) < last - first:
                data += os.pread(stream.fileno(), last - first - len(data), first + len(data))
        yield from data.split(b"\n")[:-1]


class UserNames:
    """Writes display names by user id into an SQLite table, from the rows of Users.xml in any order."""

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

    def __init__(self, stem: Path) -> None:
        self._path, self._links = stem.with_name(f"{stem.name}-groups.npy"), array("q")

    def add(self, _offset: int, line: bytes) -> None:
        """Takes one line of PostLinks.xml."""
        row = dump.any_attributes(line)
        pair = row.get(b"PostId", b""), row.get(b"RelatedPostId", b"")
        if row.get(b"LinkTypeId") == b"3" and all(dump.NUMBER.fullmatch(number) for number in pair):
            self._links.extend(map(int, pair))

    def close(self) -> str | None:
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
        np.save(self._path, np.stack([ids, ids[label]]))
        return str(self._path)


def read_companion(task: tuple[RawFile, Path]) -> str | None | RawFileError:
    """Indexes Users.xml or PostLinks.xml; a damaged one costs itself, not the site."""
    file, stem = task
    sink = UserNames(stem) if file.name == "Users.xml" else DuplicateLinks(stem)
    try:
        for offset, line in dump.rows_of(file):
            sink.add(offset, line)
    except RawFileError as error:
        return error
    return sink.close()
