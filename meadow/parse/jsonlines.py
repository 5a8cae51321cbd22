"""JSON lines, one record at a time, of a whole file or of a range of its bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from meadow.core.rawfile import MAX_LINE


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A line that is no record: what is wrong with it, and how it begins."""

    detail: str
    excerpt: str


class Lines(Protocol):
    """What lines can be read from: a stream, or a `LineRange` of one."""

    def readline(self, limit: int, /) -> bytes:
        """Reads up to the end of a line, or `limit` bytes; nothing at the end."""
        ...


class LineRange:
    """Whole lines of a stream that begin in a range of bytes; `at` is where the last one began."""

    def __init__(self, stream: BinaryIO, start: int, end: int | None) -> None:
        self._stream, self._end = stream, end
        self._next, self._inside, self.at = start, False, start
        if start:
            # The byte before tells whether `start` begins a line; if not, the line is another's.
            stream.seek(start - 1)
            self._next = start - 1
            while True:
                part = stream.readline(MAX_LINE)
                self._next += len(part)
                if not part or part.endswith(b"\n"):
                    break

    def readline(self, limit: int) -> bytes:
        """Reads up to the end of a line, or `limit` bytes; nothing where the range is over."""
        if not self._inside:
            if self._end is not None and self._next >= self._end:
                return b""
            self.at = self._next
        line = self._stream.readline(limit)
        self._next += len(line)
        self._inside = bool(line) and not line.endswith(b"\n")
        return line


def json_lines(stream: Lines) -> Iterator[tuple[int, Any]]:
    """Reads JSON lines, one record at a time; a BOM, CRLF and blank lines are tolerated.

    Yields:
        (line number from 1, the decoded value or a `BadRecord`).
    """
    number = 0
    while True:
        line = stream.readline(MAX_LINE)
        if not line:
            return
        number += 1
        if len(line) >= MAX_LINE and not line.endswith(b"\n"):
            yield number, BadRecord(f"a line of over {MAX_LINE} bytes", "")
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE)
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8"))
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            value = BadRecord(str(error), line[:200].decode("utf-8", "replace").strip())
        yield number, value
