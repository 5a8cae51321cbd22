"""The search for duplicates: who could be like whom, who is, and who survives.

Parts are read twice, by workers. At first every row leaves a digest of its text and the hashes of its
signature's bands (`sign`). Bands are then gone through one at a time, and rows that share none with
another are done with. Of the others text, shingles and signature are read (`gather`), and they are
looked at in the order in which they survive, as `meadow.filters.duplicates.candidates` says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meadow.core.parts import Piece, batches
from meadow.core.workers import in_order
from meadow.filters.duplicates import minhash
from meadow.filters.duplicates.candidates import LOST, Texts, decide
from meadow.filters.duplicates.result import FoundDuplicates

#: The least Jaccard similarity of near duplicates. One word replaced changes five shingles, which leaves
#: 51 of 61 (0.836) in a text of 60 words. One long answer given to two short questions is above it, too,
#: whether they ask the same in other words or not.
THRESHOLD = 0.8

#: Lines of what `sign` writes: a row's number, the low half of its digest, and its bands. The last band is
#: the high half of the digest, so that equal texts meet in a band whatever else is in the others.
_NUMBER, _LOW, _BANDS = 0, 1, 2
#: What `gather` writes of rows that share a band.
_GATHERED = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("hashes", pa.list_(pa.uint64())),
        ("signature", pa.list_(pa.uint32(), minhash.VALUES)),
    ]
)
#: Rows and bytes whose shingles are made at a time: enough to spread the cost of each call.
_CHUNK_ROWS, _CHUNK_BYTES = 4_000, 4 * 2**20


def find(
    pieces: Sequence[Piece],
    folder: Path,
    executor: Executor,
    ahead: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    threshold: float = THRESHOLD,
) -> FoundDuplicates:
    """Finds the duplicates among the rows of pieces.

    Args:
        pieces: The part files; those of exams are passed over.
        folder: An empty folder for working files; it can go once this has returned.
        executor: Where parts are read.
        ahead: Tasks in flight.
        progress: Told how many tasks are done, and of how many.
        threshold: The least Jaccard similarity of near duplicates, above 0 and at most 1.

    Raises:
        KeyError: A part lacks a column of its piece's `fields`.
        ValueError: The threshold is out of range.
    """
    return _Search(pieces, folder, executor, ahead, progress, threshold).run()


def sign(piece: Piece, path: str, banding: minhash.Banding) -> int:
    """Writes number, digest and band hashes of each row that has a word; returns how many rows these are.

    The file holds (lines, rows) uint64, perhaps with columns to spare at the end.
    """
    numbers = np.arange(piece.part.rows, dtype=np.uint64)
    if piece.drop is not None:
        numbers = np.delete(numbers, piece.drop)
    shape = (_BANDS + banding.bands + 1, len(numbers))
    out = np.lib.format.open_memmap(path, "w+", np.uint64, shape)
    at = read = 0
    for texts in _chunks(piece):
        there = [number for number, text in enumerate(texts, start=read) if text]
        read += len(texts)
        texts = list(filter(None, texts))
        if texts:
            here = slice(at, at + len(texts))
            at += len(texts)
            data = b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)
            out[_NUMBER, here] = numbers[there]
            out[-1, here], out[_LOW, here] = np.frombuffer(data, "<u8").reshape(-1, 2).T
            out[_BANDS:-1, here] = banding.keys(minhash.signatures(*minhash.hashes(texts)))
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


def gather(piece: Piece, path: str, wanted: np.ndarray, again: np.ndarray) -> str:
    """Writes id, text, shingle hashes and signature of the rows with these numbers; returns the path.

    Where `again` says that the text is written elsewhere, too, a short one stands for it.
    """
    start = 0
    with pa.ipc.new_stream(path, _GATHERED) as writer:
        for batch in batches([(piece.part, None)]):
            begin, end = np.searchsorted(wanted, (start, start + batch.num_rows))
            if begin < end:
                chosen = batch.select(list({"id": None, **dict.fromkeys(piece.fields)}))
                chosen = chosen.take(pa.array(wanted[begin:end] - start))
                every = zip(minhash.texts_of(chosen, piece.fields), again[begin:end], strict=True)
                texts = ["-" if known else text for text, known in every]
                hashes, offsets = minhash.hashes(texts)
                values = pa.array(minhash.signatures(hashes, offsets).ravel())
                sets = [np.unique(hashes[a:b]) for a, b in zip(offsets, offsets[1:], strict=False)]
                edges = np.cumsum([0, *map(len, sets)], dtype=np.int32)
                columns = [
                    chosen.column("id"),
                    pa.array(texts, pa.large_string()),
                    pa.ListArray.from_arrays(pa.array(edges), pa.array(np.concatenate(sets))),
                    pa.FixedSizeListArray.from_arrays(values, minhash.VALUES),
                ]
                writer.write_batch(pa.record_batch(columns, schema=_GATHERED))
            start += batch.num_rows
    return path


class _Search:
    """One search; `run` it once. The arguments are those of `find`."""

    def __init__(
        self,
        pieces: Sequence[Piece],
        folder: Path,
        executor: Executor,
        ahead: int,
        progress: Callable[[int, int], None],
        threshold: float,
    ) -> None:
        self._pieces = [
            piece
            for piece in pieces
            if not piece.exam and piece.part.rows > (0 if piece.drop is None else len(piece.drop))
        ]
        self._folder, self._executor, self._ahead = folder, executor, ahead
        self._progress, self._threshold = progress, threshold
        self._banding = minhash.Banding.of(threshold)
        of_piece = [(piece.source, tuple(sorted(piece.part.configs))) for piece in self._pieces]
        self._kinds = sorted(set(of_piece))
        self._kind = np.array([self._kinds.index(kind) for kind in of_piece], np.int32)

    def run(self) -> FoundDuplicates:
        total = 2 * len(self._pieces)
        calls = ((sign, piece, self._path(n, "npy"), self._banding) for n, piece in enumerate(self._pieces))
        counts = []
        for count in in_order(self._executor, calls, self._ahead):
            counts.append(count)
            self._progress(len(counts), total)
        self._starts = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        shared, bands = self._shared()
        piece = np.searchsorted(self._starts, shared, side="right") - 1
        number = self._line(_NUMBER)[shared].astype(np.int64)
        digests = np.column_stack([self._line(line)[shared] for line in (-1, _LOW)])
        table, texts = self._read(piece, number, digests)
        self._progress(total, total)
        lost, apart = decide(texts, bands, self._banding.lowest(self._threshold), self._threshold)
        survivors = [(row, row, 1.0, False) for row in np.unique(lost["survivor"])]
        every = np.concatenate((lost, np.array(survivors, LOST)))
        row = every["row"]
        members = pa.table({
            "cluster": table["id"].take(pa.array(every["survivor"])),
            "id": table["id"].take(pa.array(row)),
            "kept": np.arange(len(every)) >= len(lost),
            "similarity": every["similarity"],
            "exact": every["exact"],
            "survivor": texts.rank[every["survivor"]],
            "kind": texts.kind[row],
            "piece": piece[row].astype(np.int32),
            "row": number[row],
        })  # fmt: skip
        paths = tuple(piece.part.path for piece in self._pieces)
        members = members.combine_chunks()
        return FoundDuplicates(self._threshold, members, texts.kind[apart], tuple(self._kinds), paths)

    def _path(self, number: int, ending: str) -> str:
        return str(self._folder / f"{number:07d}.{ending}")

    def _line(self, line: int) -> np.ndarray:
        """One line of what was written of all pieces, joined: a value for each row of the build."""
        out = np.empty(self._starts[-1], np.uint64)
        for number, (begin, end) in enumerate(zip(self._starts, self._starts[1:], strict=False)):
            out[begin:end] = np.load(self._path(number, "npy"), mmap_mode="r")[line, : end - begin]
        return out

    def _shared(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows that share a band with another, and the hashes of their bands, 0 where not shared.

        The hashes of one band (8 bytes a row) are held at a time.
        """
        bands = self._banding.bands + 1
        found = []
        for band in range(bands):
            line = self._line(_BANDS + band)
            at = _repeated(line)
            found.append((at, line[at]))
        shared = np.unique(np.concatenate([at for at, _ in found]))
        keys = np.zeros((len(shared), bands), np.uint64)
        for band, (at, values) in enumerate(found):
            keys[np.searchsorted(shared, at), band] = values
        return shared, keys

    def _read(self, piece: np.ndarray, number: np.ndarray, digests: np.ndarray) -> tuple[pa.Table, Texts]:
        """Reads again what there is to know of the rows that share a band, and ranks them.

        Of each row its piece, ascending, its number there, and (rows, 2) its text's digest, the high half first.
        """
        total = len(self._pieces)
        kind = self._kind[piece]
        texts = np.column_stack((kind.astype(np.uint64), digests))
        _, first, which = np.unique(texts, axis=0, return_index=True, return_inverse=True)
        home = first[which.reshape(-1)]
        again = home != np.arange(len(home))
        edges = np.searchsorted(piece, np.arange(total + 1))
        calls = (
            (gather, self._pieces[n], self._path(n, "arrow"), number[here], again[here])
            for n in np.unique(piece).tolist()
            for here in [slice(edges[n], edges[n + 1])]
        )
        lengths = [np.zeros(1, np.int64)]
        columns, hashes, signatures = (self._folder / name for name in ("columns", "hashes", "signatures"))
        with (
            pa.ipc.new_stream(str(columns), pa.schema(list(_GATHERED)[:2])) as writer,
            hashes.open("wb") as hashes_out,
            signatures.open("wb") as signatures_out,
        ):
            for done, path in enumerate(in_order(self._executor, calls, self._ahead), start=1):
                with pa.memory_map(path) as source:
                    for batch in pa.ipc.open_stream(source):
                        writer.write_batch(batch.select(["id", "text"]))
                        batch["hashes"].flatten().to_numpy().tofile(hashes_out)
                        batch["signature"].flatten().to_numpy().tofile(signatures_out)
                        lengths.append(batch["hashes"].value_lengths().to_numpy())
                Path(path).unlink()
                self._progress(total + done, 2 * total)
        table = pa.ipc.open_stream(pa.memory_map(str(columns))).read_all()
        keys = pa.table({
            "priority": np.array([p.priority for p in self._pieces], np.int64)[piece],
            "source": pa.array([p.source for p in self._pieces]).take(piece),
            "id": table["id"], "kind": kind, "high": digests[:, 0], "low": digests[:, 1],
        })  # fmt: skip
        order = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names])
        rank = np.empty(len(piece), np.uint32)
        rank[order.to_numpy()] = np.arange(len(piece), dtype=np.uint32)
        comparable = np.array(
            [[a != b or not set(c).isdisjoint(d) for b, d in self._kinds] for a, c in self._kinds], bool
        ).reshape(len(self._kinds), len(self._kinds))
        offsets = np.cumsum(np.concatenate(lengths), dtype=np.int64)
        return table, Texts(
            table["text"], home, rank, kind, comparable,
            _mapped(signatures, np.uint32).reshape(-1, minhash.VALUES), _mapped(hashes, np.uint64), offsets,
        )  # fmt: skip


def _repeated(values: np.ndarray) -> np.ndarray:
    """The positions of values that occur more than once."""
    ordered = np.sort(values)
    several = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(several):
        return np.empty(0, np.int64)
    del ordered
    at = np.searchsorted(several, values)
    at[at == len(several)] = 0
    return np.flatnonzero(several[at] == values)


def _mapped(path: Path, kind: type) -> np.ndarray:
    return np.asarray(np.memmap(path, kind, "r")) if path.stat().st_size else np.empty(0, kind)
