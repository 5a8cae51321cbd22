"""The rows of a dump's XML files, as lines.

Rows are found as lines, which is how every dump is written; the XML itself is parsed by lxml, later and
only for the rows that are needed. A file that is not laid out in lines is brought into that form by
lxml first, a row that is not plain is brought into it alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from meadow import RawFile, RawFileError, damaged
from meadow.parse.sevenzip import stream_members

# Nothing is fetched, and no entity is expanded.
_SAFE = {"resolve_entities": False, "no_network": True, "huge_tree": False, "load_dtd": False}
#: What fits 64 bits; longer ones are nobody's id or score.
NUMBER = re.compile(rb"-?\d{1,18}")
_BETWEEN = re.compile(rb"\s+(\w+)=")
_ROW = re.compile(rb"\s*<row\s+(\w+)=")
_END = re.compile(rb"\s*/>\s*")
_CLOSING_TAG = re.compile(rb"</\w+>$|<\w+ ?/>$")
_shapes: dict[tuple[bytes, ...], tuple[bytes, ...] | None] = {}


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
        detail = "a dump declares none; they are used to exhaust memory"
        remedy = "Do not use this file; fetch it again from its publisher."
        raise RawFileError("XML entity declarations", detail, remedy, file.path)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return False
    if b"<" not in head:
        raise damaged(file, "this is no XML")
    if not _CLOSING_TAG.search(tail) or tail.endswith(b"<row />"):
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
        for line in stream:
            if at >= end:
                return
            yield at, line.removesuffix(b"\n")
            at += len(line)


def rows_of(file: RawFile) -> Iterator[tuple[int, bytes]]:
    """The rows of any well-formed dump file as lines, through lxml where need be; in flat memory."""
    import lxml.etree as etree

    if in_lines(file):
        yield from lines_in(file, 0, file.bytes)
        return
    try:
        with file.open() as stream:
            for number, (_, element) in enumerate(etree.iterparse(stream, tag="row", **_SAFE)):
                element.tail = None
                yield number, etree.tostring(element)
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
    except etree.XMLSyntaxError as error:
        raise damaged(file, error) from error


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
        names = _shapes[shape] = tuple(match[1] for match in found if match) if plain else None
    return None if names is None else dict(zip(names, pieces[1::2], strict=True))


def rewritten_row(line: bytes) -> bytes:
    """A row with double-quoted attributes; nothing if it is no well-formed row."""
    import lxml.etree as etree

    try:
        return etree.tostring(etree.fromstring(line, row_parser()))
    except (etree.XMLSyntaxError, ValueError):
        return b""


def any_attributes(line: bytes) -> dict[bytes, bytes]:
    """The attributes of a row however it is written; none of any other line."""
    return attributes(line) or attributes(rewritten_row(line.strip())) or {}


def row_parser() -> Any:
    """An lxml parser for rows."""
    import lxml.etree as etree

    return etree.XMLParser(**_SAFE)


def read_archive(file: RawFile, sinks: Mapping[str, Callable[[int, bytes], None]]) -> set[str]:
    """Streams members of a 7z archive line by line, without unpacking it to disk.

    `sinks` says by member name (``Posts.xml``) what takes (offset, line). Returns the members found.
    """
    lines = {name: _LineSplitter(file, sink) for name, sink in sinks.items()}
    found = stream_members(file, {name: splitter.feed for name, splitter in lines.items()})
    for name, splitter in lines.items():
        if name in found:
            splitter.close()
    return found


class _LineSplitter:
    """Cuts a member's blocks into lines, which is how every published dump is laid out."""

    def __init__(self, file: RawFile, sink: Callable[[int, bytes], None]) -> None:
        self._file, self._sink = file, sink
        self._at, self._rest, self._last = 0, b"", b""

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
        if not _CLOSING_TAG.search(self._last.strip()) or b"<row " in self._last[:10]:
            raise damaged(self._file, "a member ends in the middle, without its closing tag")
