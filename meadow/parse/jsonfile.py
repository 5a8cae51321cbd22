"""JSON files: small ones whole, huge ones entry by entry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from meadow.core.rawfile import MAX_LINE, RawFile, damaged

#: Records nest three deep (file, record, list of paragraphs). The parser's memory grows with the
#: square of the depth, so a file of nothing but brackets must be stopped early.
_MAX_DEPTH = 16


def read_json(file: RawFile, limit: int, *, unique: bool = False) -> Any:
    """Reads a whole file of up to `limit` bytes, in UTF-8 with or without a BOM.

    Raises:
        RawFileError: It is no JSON, is larger, or, if keys must be `unique`, an object holds one twice.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if unique and len(found) < len(items):
            raise ValueError("an object holds a key twice")
        return found

    with file.open() as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise damaged(file, f"over {limit} bytes, more than such a file ever holds")
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=pairs)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise damaged(file, f"no JSON: {error}") from error


def json_entries(file: RawFile, keys: str = "name") -> Iterator[tuple[str, Any]]:
    """Streams the (key, value) entries of the one JSON object in a file, in memory for the largest one.

    A key that comes twice is given twice, so that a build can see it; a dict would keep the last in silence.
    `keys` says what the keys are, for the message where the file is no such object.

    Raises:
        RawFileError: The file is no JSON object, is cut off, is not UTF-8, nests deeper than any real
            record, or holds an entry larger than `meadow.core.rawfile.MAX_LINE` bytes.
    """
    import ijson

    def checked(source: _BoundedEntries) -> Iterator[tuple[str, Any]]:
        depth = 0
        for event, value in ijson.basic_parse(source):
            if event == "map_key":
                if depth == 1:
                    source.left = MAX_LINE
            elif event in ("start_map", "start_array"):
                depth += 1
                if depth > _MAX_DEPTH:
                    raise damaged(file, f"nested more than {_MAX_DEPTH} deep")
            elif event in ("end_map", "end_array"):
                depth -= 1
            if depth == 0 and event != "end_map" or depth == 1 and event == "start_array":
                raise damaged(file, f"not a JSON object keyed by {keys}")
            yield event, value

    with file.open() as stream:
        try:
            yield from ijson.kvitems(ijson.parse(checked(_BoundedEntries(stream, file))), "")
        except (ijson.JSONError, ValueError) as error:
            raise damaged(file, " ".join(str(error).split())[:200]) from error


class _BoundedEntries:
    """A file as the parser reads it: without a BOM, and with a bound on what one record may hold."""

    def __init__(self, stream: BinaryIO, file: RawFile) -> None:
        self._stream, self._file = stream, file
        self._fresh, self.left = True, MAX_LINE

    def read(self, size: int) -> bytes:
        """Reads up to `size` bytes."""
        data = self._stream.read(size)
        if self._fresh and size:
            self._fresh, data = False, data.removeprefix(b"\xef\xbb\xbf")
        self.left -= len(data)
        if self.left < 0:
            raise damaged(self._file, f"a record of over {MAX_LINE} bytes")
        return data
