"""Reading one huge JSON object entry by entry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from meadow.core.rawfile import MAX_LINE, RawFile, damaged

#: Records nest three deep (file, record, list of paragraphs). The parser's memory grows with the
#: square of the depth, so a file of nothing but brackets must be stopped early.
_MAX_DEPTH = 16


class _Stream:
    """A file as the parser reads it: without a BOM, and with a bound on what one record may hold."""

    def __init__(self, stream: BinaryIO, file: RawFile) -> None:
        self._stream, self._file = stream, file
        self._fresh, self.left = True, MAX_LINE

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if self._fresh and size:
            self._fresh, data = False, data.removeprefix(b"\xef\xbb\xbf")
        self.left -= len(data)
        if self.left < 0:
            raise damaged(self._file, f"a record of over {MAX_LINE} bytes")
        return data


def records(file: RawFile) -> Iterator[tuple[str, Any]]:
    """Streams the entries of the one JSON object that a file holds.

    Memory is that of the largest entry. A key that comes twice is given twice, so that a build can
    see it; a dict would keep the last in silence.

    Yields:
        (key, decoded value), in the order of the file.

    Raises:
        RawFileError: The file is no JSON object, is cut off, is not UTF-8, nests deeper than any real
            record, or holds an entry larger than `meadow.core.rawfile.MAX_LINE` bytes.
    """
    import ijson

    def checked(source: _Stream) -> Iterator[tuple[str, Any]]:
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
                raise damaged(file, "not a JSON object keyed by PMID")
            yield event, value

    with file.open() as stream:
        try:
            yield from ijson.kvitems(ijson.parse(checked(_Stream(stream, file))), "")
        except (ijson.JSONError, ValueError) as error:
            raise damaged(file, " ".join(str(error).split())[:200]) from error
