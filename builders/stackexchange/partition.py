"""Joining answers to questions in a dump of any size, with flat memory: the first half.

A dump lists posts by id; an answer's question may stand gigabytes before it. So a site is partitioned
first, as in a Grace hash join: every range of ``Posts.xml`` is read once, and each row is copied to the
bucket that its question's id falls in. One spill file per range holds its rows by bucket, with a table
of offsets in front; a bucket is then one slice of every spill file, small enough to join in memory.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meadow import RawFile, RawFileError, RawSource

from . import dump
from .companions import DuplicateLinks, UserIndexWriter, read_companion

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

    Attributes:
        name: Its folder's or archive's name, which is its host name.
        spills: The spill files, in the order of the dump.
        buckets: How many buckets each of them holds.
        users: Stem of the index of display names, or None.
        groups: File of duplicate questions' groups, or None.
    """

    name: str
    spills: tuple[str, ...]
    buckets: int
    users: str | None = None
    groups: str | None = None


def buckets_for(size: int) -> int:
    """The number of buckets of a Posts.xml of `size` bytes."""
    return max(1, min(MAX_BUCKETS, -(-size // BUCKET_BYTES)))


def ranges_for(size: int) -> list[tuple[int, int]]:
    """Byte ranges of a Posts.xml, each a partitioning task."""
    step = max(RANGE_BYTES, -(-size // MAX_RANGES))
    return [(start, min(start + step, size)) for start in range(0, size, step)] or [(0, 0)]


def partition_folder(
    raw: RawSource, site: str, files: tuple[RawFile, ...], stem: Path, min_score: int
) -> tuple[Site, list[RawFileError]]:
    """Partitions a site given as a folder; a companion that cannot be read costs itself alone."""
    posts = files[0]
    buckets = buckets_for(posts.bytes)
    if dump.in_lines(posts):
        tasks = [
            (posts, start, end, stem.with_name(f"{stem.name}-{number:06d}.spill"), buckets, min_score)
            for number, (start, end) in enumerate(ranges_for(posts.bytes))
        ]
        spills = list(raw.map(partition_range, tasks))
    else:
        with posts.open() as stream:
            spills = partition_stream(dump.rewritten(posts, stream), stem, buckets, min_score)
    companions = {file.name: file for file in files[1:]}
    left_out: list[RawFileError] = []
    found: dict[str, str | None] = {}
    tasks = [(companions[name], stem) for name in ("Users.xml", "PostLinks.xml") if name in companions]
    for (file, _), result in zip(tasks, raw.map(read_companion, tasks), strict=True):
        if isinstance(result, RawFileError):
            left_out.append(result)
        else:
            found[file.name] = result
    return Site(site, tuple(spills), buckets, found.get("Users.xml"), found.get("PostLinks.xml")), left_out


def partition_archive(task: tuple[str, RawFile, Path, int]) -> Site:
    """Partitions a site's 7z in one pass over it."""
    site, file, stem, min_score = task
    # The archive's own list of sizes only sets the number of buckets; dumps shrink to about a fifth.
    buckets = buckets_for(file.bytes * 5)
    posts = Spills(stem, buckets, min_score)
    users = UserIndexWriter(f"{stem}-users")
    links = DuplicateLinks()
    sinks = {"Posts.xml": posts.add, "Users.xml": users.add, "PostLinks.xml": links.add}
    there = dump.read_archive(file, sinks)
    if "Posts.xml" not in there:
        raise RawFileError(
            "no posts in archive", "it holds no Posts.xml",
            "Stack Overflow is published as several archives; take the one named -Posts.", file.path,
        )  # fmt: skip
    stems = users.close(), links.write(Path(f"{stem}-groups.npy"))
    return Site(site, tuple(posts.close()), buckets, stems[0] if "Users.xml" in there else None, stems[1])


class Partitioner:
    """Sorts the rows of Posts.xml into the buckets of one spill file.

    Records are ``Q<id>``, ``A<question id>`` (an answer that counts), ``L<id> <score>`` (one that
    does not), ``O<id> <type>`` (no question or answer) and ``M<offset> <attribute>`` (no row, or one
    without an attribute that it needs), each followed by a tab and by the row, or its beginning.
    """

    def __init__(self, path: Path, buckets: int, min_score: int) -> None:
        self.path, self._count, self._min_score = path, buckets, min_score
        self._buckets: defaultdict[int, list[bytes]] = defaultdict(list)
        self.bytes = 0

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
        elif kind == b"2":
            parent, score = row[b"ParentId"], row[b"Score"]
            if int(score) >= self._min_score:
                self._put(int(parent), b"A" + parent, line)
            else:
                self._put(int(parent), b"L" + post + b" " + score, _beginning(row))
        else:
            self._put(int(post), b"O" + post + b" " + kind, _beginning(row))

    def _bad(self, offset: int, missing: bytes, line: bytes) -> None:
        beginning = line[:EXCERPT_BYTES].replace(b"\n", b" ").replace(b"\t", b" ")
        self._put(offset // 4096, b"M%d %s" % (offset, missing), beginning)

    def _put(self, key: int, head: bytes, line: bytes) -> None:
        record = b"%b\t%b\n" % (head, line)
        self._buckets[key % self._count].append(record)
        self.bytes += len(record)

    def write(self) -> str:
        """Writes the spill file and returns its path."""
        pieces = [b"".join(self._buckets.pop(index, ())) for index in range(self._count)]
        edges = np.zeros(self._count + 1, np.uint64)
        edges[1:] = np.cumsum([len(piece) for piece in pieces])
        with self.path.open("wb") as out:
            out.write((edges + np.uint64(edges.nbytes)).tobytes())
            out.writelines(pieces)
        self.bytes = 0
        return str(self.path)


def _beginning(row: dict[bytes, bytes]) -> bytes:
    return row.get(b"Body", b"")[:EXCERPT_BYTES]


def partition_range(task: tuple[RawFile, int, int, Path, int, int]) -> str:
    """Partitions one byte range of Posts.xml; the work of one task."""
    file, start, end, path, buckets, min_score = task
    out = Partitioner(path, buckets, min_score)
    for offset, line in dump.lines_in(file, start, end):
        out.add(offset, line)
    return out.write()


def partition_stream(
    lines: Iterator[tuple[int, bytes]], stem: Path, buckets: int, min_score: int
) -> list[str]:
    """Partitions lines that come one after another; a new spill file begins every `RANGE_BYTES`."""
    sink = Spills(stem, buckets, min_score)
    for offset, line in lines:
        sink.add(offset, line)
    return sink.close()


class Spills:
    """A series of spill files: a new one begins every `RANGE_BYTES`."""

    def __init__(self, stem: Path, buckets: int, min_score: int) -> None:
        self._stem, self._buckets, self._min_score = stem, buckets, min_score
        self.paths: list[str] = []
        self._next()

    def _next(self) -> None:
        path = self._stem.with_name(f"{self._stem.name}-{len(self.paths):06d}.spill")
        self._out = Partitioner(path, self._buckets, self._min_score)

    def add(self, offset: int, line: bytes) -> None:
        """Takes one line of the file."""
        self._out.add(offset, line)
        if self._out.bytes >= RANGE_BYTES:
            self.paths.append(self._out.write())
            self._next()

    def close(self) -> list[str]:
        """Writes what is left and returns all paths."""
        self.paths.append(self._out.write())
        return self.paths


def read_bucket(site: Site, bucket: int) -> Iterator[bytes]:
    """The records of one bucket, in the order of the dump."""
    for spill in site.spills:
        with open(spill, "rb", buffering=0) as stream:  # noqa: PTH123 - unbuffered: two small reads a file
            first, last = np.frombuffer(os.pread(stream.fileno(), 16, 8 * bucket), np.uint64).tolist()
            data = b""
            while len(data) < last - first:
                data += os.pread(stream.fileno(), last - first - len(data), first + len(data))
        yield from data.split(b"\n")[:-1]
