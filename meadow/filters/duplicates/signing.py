"""The tasks of the search for duplicates: reading a part, once for all its rows, once for those that matter."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from meadow.core.parts import Piece, batches
from meadow.filters.duplicates import minhash

#: What `gather` writes of rows that match some other.
MATCHED = pa.schema(
    [("id", pa.string()), ("high", pa.uint64()), ("low", pa.uint64()), ("text", pa.large_string())]
)
#: Rows and bytes whose shingles are made at a time: enough to spread the cost of each call.
_CHUNK_ROWS, _CHUNK_BYTES = 4_000, 4 * 2**20


def count(drop: np.ndarray | None) -> int:
    """How many rows are left out."""
    return 0 if drop is None else len(drop)


def sign(piece: Piece, prefix: str, banding: minhash.Banding) -> int:
    """Writes, for each row that has a word, its number, digest and band keys; returns how many these are.

    ``.rows.npy`` holds (rows) uint32, ``.digests.npy`` (2, rows) uint64, ``.keys.npy`` (bands, rows) uint64,
    each perhaps with columns to spare at the end.
    """
    most = piece.part.rows - count(piece.drop)
    number = np.arange(piece.part.rows, dtype=np.uint32)
    if piece.drop is not None:
        number = np.delete(number, piece.drop)
    create = np.lib.format.open_memmap
    kept = create(f"{prefix}.rows.npy", "w+", np.uint32, (most,))
    digests = create(f"{prefix}.digests.npy", "w+", np.uint64, (2, most))
    keys = create(f"{prefix}.keys.npy", "w+", np.uint64, (banding.bands, most))
    at = read = 0
    for texts in _chunks(piece):
        there = np.fromiter(map(bool, texts), bool, len(texts))
        texts = list(filter(None, texts))
        end = at + len(texts)
        kept[at:end] = number[read : read + len(there)][there]
        read += len(there)
        data = b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)
        digests[:, at:end] = np.frombuffer(data, "<u8").reshape(-1, 2).T
        if texts:
            keys[:, at:end] = banding.keys(minhash.signatures(*minhash.hashes(texts)))
        at = end
    return at


def _chunks(piece: Piece) -> Iterator[list[str]]:
    texts: list[str] = []
    size = 0
    for batch in batches([(piece.part, piece.drop)]):
        found = list(minhash.texts_of(batch, piece.fields))
        texts += found
        size += sum(map(len, found))
        if len(texts) >= _CHUNK_ROWS or size >= _CHUNK_BYTES:
            yield texts
            texts, size = [], 0
    if texts:
        yield texts


def gather(piece: Piece, prefix: str, at: np.ndarray, with_text: np.ndarray) -> tuple[str, np.ndarray]:
    """Writes ids and digests of the rows at some positions of `sign`, and of some also text and shingles.

    Returns:
        The beginning of the files' names: ``.arrow``, ``.hashes`` (uint64) and ``.signatures``
        ((texts, values) uint32); and how many hashes each text has.
    """
    wanted = np.load(f"{prefix}.rows.npy", mmap_mode="r")[at].astype(np.int64)
    digests = np.load(f"{prefix}.digests.npy", mmap_mode="r")[:, at]
    lengths: list[np.ndarray] = []
    start = 0
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(pa.ipc.new_stream(f"{prefix}.arrow", MATCHED))
        hashes_out = stack.enter_context(Path(f"{prefix}.hashes").open("wb"))
        signatures_out = stack.enter_context(Path(f"{prefix}.signatures").open("wb"))
        for batch in batches([(piece.part, None)]):
            begin, end = np.searchsorted(wanted, (start, start + batch.num_rows))
            if begin < end:
                batch_rows = batch.select(["id", *piece.fields]).take(pa.array(wanted[begin:end] - start))
                show = with_text[begin:end]
                texts = list(minhash.texts_of(batch_rows.filter(pa.array(show)), piece.fields))
                values = iter(texts)
                columns = [
                    batch_rows.column("id"),
                    pa.array(digests[0, begin:end]),
                    pa.array(digests[1, begin:end]),
                    pa.array([next(values) if shown else None for shown in show], pa.large_string()),
                ]
                writer.write_batch(pa.record_batch(columns, schema=MATCHED))
                if texts:
                    hashes, offsets = minhash.hashes(texts)
                    minhash.signatures(hashes, offsets).tofile(signatures_out)
                    hashes, counts = _sets(hashes, offsets)
                    hashes.tofile(hashes_out)
                    lengths.append(counts)
            start += batch.num_rows
    return prefix, np.concatenate(lengths) if lengths else np.empty(0, np.int64)


def _sets(hashes: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each text's hashes in ascending order without repeats, and how many these are."""
    for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        hashes[begin:end].sort()
    new = np.ones(len(hashes), bool)
    new[1:] = hashes[1:] != hashes[:-1]
    new[offsets[:-1]] = True
    return hashes[new], np.add.reduceat(new.astype(np.int64), offsets[:-1])
