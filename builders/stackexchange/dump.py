"""Joining answers to questions in a dump of any size, with flat memory.

A dump lists posts by id; an answer's question may stand gigabytes before it. So a site is partitioned
first, as in a Grace hash join: every range of ``Posts.xml`` is read once, and each row is copied to the
bucket that its question's id falls in. One spill file per range holds its rows by bucket, with a table
of offsets in front; a bucket is then one slice of every spill file, small enough to join in memory.

Rows are found as lines, which is how every dump is written; the XML itself is parsed by lxml, later and
only for the rows that are needed. A file that is not laid out in lines is brought into that form by
lxml first, a row that is not plain is brought into it alone.
"""

from __future__ import annotations

import html
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from meadow.core.archive import safe_member
from meadow.core.rawfile import MAX_RATIO, RATIO_FLOOR, RawFile, RawFileError, bomb, damaged

#: Bytes of Posts.xml that one partitioning task reads, and that one bucket holds on average. They
#: grow only for sites of over 16 GB, so that spill tables stay small beside the data.
RANGE_BYTES, MAX_RANGES = 16 * 2**20, 1024
BUCKET_BYTES, MAX_BUCKETS = 8 * 2**20, 2048
#: Bytes of a rejected post's body that are kept to make its excerpt.
EXCERPT_BYTES = 300
_BLOCK = 4 * 2**20

# What fits 64 bits; longer ones are nobody's id or score.
_NUMBER = re.compile(rb"-?\d{1,18}")
_HEADER = re.compile(rb"<\?xml[^>]*>|<!DOCTYPE[^>\[]*>|</?posts>|</?users>|</?postlinks>|<posts ?/>")
_BETWEEN = re.compile(rb"\s+(\w+)=")
_ROW = re.compile(rb"\s*<row\s+(\w+)=")
_END = re.compile(rb"\s*/>\s*")
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


def in_lines(file: RawFile) -> bool:
    """Whether a dump file has one row a line, in UTF-8, as the publisher writes it.

    Raises:
        RawFileError: It declares XML entities, is no XML, or is cut off.
    """
    with file.local.open("rb") as stream:
        head = stream.read(2**16)
        stream.seek(max(0, file.bytes - 2**12))
        tail = stream.read().rstrip()
    if b"<!ENTITY" in head or "<!ENTITY".encode("utf-16-le") in head:
        raise RawFileError(
            "XML entity declarations",
            "a dump declares none; they are used to exhaust memory",
            "Do not use this file; fetch it again from its publisher.",
            file.path,
        )
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return False
    if b"<" not in head:
        raise damaged(file, "this is no XML")
    if not re.search(rb"</\w+>$|<\w+ ?/>$", tail) or tail.endswith(b"<row />"):
        raise damaged(file, "the file ends in the middle, without its closing tag")
    lines = head.removeprefix(b"\xef\xbb\xbf").splitlines()[:-1] or [head]
    rows = [line.strip() for line in lines if b"<row" in line]
    if not rows:
        # One endless line, or no rows at all: only the parser can tell.
        return file.bytes < len(head) and b"<row" not in head
    return rows[0].startswith(b"<row ") and rows[0].endswith(b"/>") and rows[0].count(b"<row ") == 1


def lines_in(file: RawFile, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The lines that begin in a byte range, with their offsets and without their line feeds."""
    with file.local.open("rb") as stream:
        at = start
        if start:
            stream.seek(start - 1)
            at = start - 1 + len(stream.readline())
        while at < end:
            stream.seek(at)
            block = stream.read(min(_BLOCK, end - at))
            if not block:
                return
            if not block.endswith(b"\n"):
                cut = block.rfind(b"\n") + 1
                # The last line of a range belongs to it, wherever that line ends.
                block = block[:cut] if cut and len(block) == _BLOCK else block + stream.readline()
            for line in block.removesuffix(b"\n").split(b"\n"):
                yield at, line
                at += len(line) + 1


def rewritten(file: RawFile, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The rows of any well-formed dump file as lines, through lxml, in flat memory."""
    from lxml import etree

    try:
        parser = etree.iterparse(
            stream, tag="row", resolve_entities=False, no_network=True, huge_tree=False, load_dtd=False
        )
        for number, (_, element) in enumerate(parser):
            element.tail = None
            yield number, etree.tostring(element)
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]
    except etree.XMLSyntaxError as error:
        raise damaged(file, error) from error


_shapes: dict[tuple[bytes, ...], tuple[bytes, ...] | None] = {}


def attributes(line: bytes) -> dict[bytes, bytes] | None:
    """The attributes of a row as dumps write it, values still escaped; None for any other line.

    What stands outside the quotes is the same for all rows with the same attributes, so it is checked
    once per shape. A row with single quotes, or blanks about ``=``, is no such row: in one, what looks
    like ``Score="5"`` might be text.
    """
    pieces = line.split(b'"')
    shape = tuple(pieces[0::2])
    try:
        names = _shapes[shape]
    except KeyError:
        if len(_shapes) > 10_000:
            _shapes.clear()
        found = [_ROW.fullmatch(shape[0]), *(_BETWEEN.fullmatch(piece) for piece in shape[1:-1])]
        plain = len(shape) > 1 and all(found) and _END.fullmatch(shape[-1])
        names = _shapes[shape] = tuple(match[1] for match in found) if plain else None
    return None if names is None else dict(zip(names, pieces[1::2], strict=True))


def _rewrite(line: bytes) -> bytes | None:
    """A row with double-quoted attributes, or None if it is no well-formed row."""
    from lxml import etree

    try:
        return etree.tostring(etree.fromstring(line, row_parser()))
    except (etree.XMLSyntaxError, ValueError):
        return None


def row_parser() -> Any:
    """An lxml parser for rows: nothing is fetched and no entity is expanded."""
    from lxml import etree

    return etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False, load_dtd=False)


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
        row = attributes(line)
        if row is None:
            stripped = line.removeprefix(b"\xef\xbb\xbf").strip()
            if not stripped or _HEADER.fullmatch(stripped):
                return
            line = _rewrite(stripped) or b""
            row = attributes(line)
            if row is None:
                self._bad(offset, b"", stripped)
                return
        kind = row.get(b"PostTypeId")
        needed = (b"Id", b"PostTypeId", b"ParentId", b"Score") if kind == b"2" else (b"Id", b"PostTypeId")
        for name in needed:
            if name not in row:
                self._bad(offset, name, line)
                return
            if not _NUMBER.fullmatch(row[name]):
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
    for offset, line in lines_in(file, start, end):
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
        row = attributes(line) or attributes(_rewrite(line.strip()) or b"") or {}
        user, name = row.get(b"Id", b""), row.get(b"DisplayName")
        if name is None or not _NUMBER.fullmatch(user) or not -1 <= int(user) < 2**40:
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
        row = attributes(line) or attributes(_rewrite(line.strip()) or b"") or {}
        pair = row.get(b"PostId", b""), row.get(b"RelatedPostId", b"")
        if row.get(b"LinkTypeId") == b"3" and all(_NUMBER.fullmatch(number) for number in pair):
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


def read_archive(file: RawFile, sinks: dict[str, Callable[[int, bytes], None]]) -> set[str]:
    """Streams members of a 7z archive into sinks, line by line, without unpacking to disk.

    Args:
        file: The archive.
        sinks: By member name (``Posts.xml``), what takes (offset, line).

    Returns:
        The members that were there.

    Raises:
        RawFileError: The archive is damaged, encrypted, a bomb, or holds a path that climbs out.
    """
    import lzma

    import py7zr
    from py7zr.exceptions import ArchiveError, PasswordRequired
    from py7zr.io import Py7zIO, WriterFactory

    lines: dict[str, _LineSplitter] = {}
    total = [0]

    class Member(Py7zIO):
        def __init__(self, name: str) -> None:
            self._lines = lines.setdefault(name, _LineSplitter(file, sinks[name]))
            self._size = 0

        def write(self, data: bytes | bytearray) -> int:
            self._size += len(data)
            total[0] += len(data)
            if total[0] > RATIO_FLOOR and total[0] > MAX_RATIO * max(1, file.bytes):
                raise bomb(file)
            self._lines.feed(bytes(data))
            return len(data)

        def read(self, size: int | None = None) -> bytes:
            return b""

        def seek(self, offset: int, whence: int = 0) -> int:
            return 0

        def flush(self) -> None:
            pass

        def size(self) -> int:
            return self._size

    class Factory(WriterFactory):
        def create(self, filename: str) -> Py7zIO:
            return Member(filename.replace("\\", "/").rsplit("/", 1)[-1])

    try:
        with py7zr.SevenZipFile(file.local, "r") as archive:
            names = archive.getnames()
            unsafe = [name for name in names if not safe_member(name)]
            if unsafe:
                raise RawFileError(
                    "unsafe path in archive",
                    f"member {unsafe[0]!r} points outside the archive",
                    "Do not use this file; fetch it again from its publisher.",
                    file.path,
                )
            wanted = [name for name in names if name.rsplit("/", 1)[-1] in sinks]
            if wanted:
                archive.extract(targets=wanted, factory=Factory())
        for splitter in lines.values():
            splitter.close()
    except (
        ArchiveError,
        lzma.LZMAError,
        EOFError,
        OSError,
        ValueError,
        TypeError,
        IndexError,
        KeyError,
    ) as error:
        raise damaged(file, f"{type(error).__name__}: {error}") from error
    except PasswordRequired as error:
        raise damaged(file, "the archive is encrypted") from error
    return set(lines)


class _LineSplitter:
    """Cuts a member's blocks into lines, which is how every published dump is laid out."""

    def __init__(self, file: RawFile, sink: Callable[[int, bytes], None]) -> None:
        self._file, self._sink = file, sink
        self._rest = b""
        self._at = 0
        self._last = b""

    def feed(self, data: bytes) -> None:
        block = self._rest + data
        cut = block.rfind(b"\n") + 1
        if not cut and len(block) > 64 * 2**20:
            raise damaged(self._file, "a member has no line breaks")
        self._rest = block[cut:]
        if not cut:
            return
        for line in block[: cut - 1].split(b"\n"):
            if b"<!ENTITY" in line and b"<row" not in line:
                raise damaged(self._file, "a member declares XML entities")
            self._sink(self._at, line)
            self._at += len(line) + 1
            if line.strip():
                self._last = line

    def close(self) -> None:
        if self._rest.strip():
            self._sink(self._at, self._rest)
            self._last = self._rest
        if not re.search(rb"</\w+>$|<\w+ ?/>$", self._last.strip()) or b"<row " in self._last[:10]:
            raise damaged(self._file, "a member ends in the middle, without its closing tag")
