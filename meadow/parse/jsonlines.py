"""JSON lines, one record at a time, of a whole file or of a range of its bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from meadow.core.rawfile import MAX_LINE


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A line that is no record: what is wrong with it, and how it begins."""

    detail: str
    excerpt: str


def json_lines(stream: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Reads JSON lines, one record at a time; a BOM, CRLF and blank lines are tolerated.

    Yields:
        (line number from 1, the decoded value or a `BadRecord`).
    """
    return ((number, value) for number, _, value in _read(stream, 0, None))


def json_lines_between(stream: BinaryIO, start: int, end: int | None) -> Iterator[tuple[int, Any]]:
    """Reads the JSON lines that begin from byte `start` on and before byte `end`, as `json_lines` does.

    Yields:
        (byte that the line begins at, the decoded value or a `BadRecord`).
    """
    return ((at, value) for _, at, value in _read(stream, start, end))


def _read(stream: BinaryIO, at: int, end: int | None) -> Iterator[tuple[int, int, Any]]:
    number = 0
    if at:
        # The byte before tells whether `at` begins a line; if not, the line is another's.
        stream.seek(at - 1)
        at += _skip_line(stream) - 1
    while (end is None or at < end) and (line := stream.readline(MAX_LINE)):
        number += 1
        begin, at = at, at + len(line)
        if len(line) >= MAX_LINE and not line.endswith(b"\n"):
            yield number, begin, BadRecord(f"a line of over {MAX_LINE} bytes", "")
            at += _skip_line(stream)
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8"))
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            value = BadRecord(str(error), line[:200].decode("utf-8", "replace").strip())
        yield number, begin, value


def _skip_line(stream: BinaryIO) -> int:
    """Reads to the end of a line; returns how many bytes that were."""
    size = 0
    while part := stream.readline(MAX_LINE):
        size += len(part)
        if part.endswith(b"\n"):
            break
    return size
