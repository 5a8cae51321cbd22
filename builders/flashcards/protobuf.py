"""Just enough of protobuf's wire format for Anki's ``config`` columns: fields by number, without a ``.proto``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: A protobuf varint holds 64 bits in at most ten groups of seven.
_MAX_VARINT = 10


def read(data: Any, wanted: Mapping[int, type]) -> list[Any]:
    """Reads some fields of one message. Of a repeated field the last value counts, as protobuf wants it for scalars.

    Args:
        data: The serialized message.
        wanted: By field number, what is there: `int` or `str`.

    Returns:
        The values in that order, 0 or an empty text for those that are absent.

    Raises:
        ValueError: The bytes are no such message.
    """
    if not isinstance(data, bytes):
        raise ValueError("config is no blob")
    fields: dict[int, int | bytes] = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if not number:
            raise ValueError("protobuf field number 0")
        if kind == 0:
            fields[number], at = _varint(data, at)
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"protobuf wire type {kind}")
        if at + size > len(data):
            raise ValueError("protobuf message ends inside a field")
        fields[number] = data[at : at + size]
        at += size
    found = []
    for number, wanted_type in wanted.items():
        value = fields.get(number, b"" if wanted_type is str else 0)
        if isinstance(value, int) is not (wanted_type is int):
            raise ValueError(f"protobuf field {number} is no {'number' if wanted_type is int else 'string'}")
        found.append(value.decode("utf-8") if isinstance(value, bytes) else value)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + _MAX_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("protobuf varint is cut off or too long")
