"""JSON lines, one record at a time."""

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
