"""Which split a row is in, and which files a split is cut into."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from meadow.core.parts import Part

#: Canonical bytes of one Parquet file. Files are the unit of parallel writing and of downloading.
FILE_BYTES = 64 * 2**20


def split_of(group: str, shares: Mapping[str, float]) -> str:
    """The split of a group, by hash: the same on any machine and however many groups there are."""
    point = int.from_bytes(hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()[:8]) / 2**64
    edge, split = 0.0, ""
    for split, share in shares.items():
        edge += share
        if point < edge:
            return split
    return split


def files_of(parts: Iterable[Part]) -> list[list[Part]]:
    """Cuts a split into files: a new one begins where the last has reached `FILE_BYTES`.

    Which parts make a file follows from their order and sizes alone, so the bytes are the same for any
    number of workers, in whatever order they finish.
    """
    files: list[list[Part]] = []
    size = FILE_BYTES
    for part in parts:
        if size >= FILE_BYTES:
            files.append([])
            size = 0
        files[-1].append(part)
        size += part.bytes
    return files
