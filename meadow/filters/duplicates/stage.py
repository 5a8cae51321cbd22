"""Exact and near duplicates, within a dataset and across the datasets of one build.

What is compared is the text of a row as `meadow.filters.duplicates.minhash` defines it, over the columns that its
source declares. Rows are *exact* duplicates where these texts are equal, *near* duplicates where at
least `THRESHOLD` of their five-word shingles are the same. MinHash only proposes pairs; each is verified
word by word before a row is dropped for it. Two rows are compared where they are of different sources or
share a dataset: two forms of one source, such as MedQA with four and with five options, are no
duplicates of each other. Exams stay as they were published and take no part.

Rows come in the order of their source's priority, then source name, then id. A row that matches none of
the survivors before it survives; one that does is left out of all its datasets, in favour of the
survivor most like it. Similarity is not passed on: what only resembles a row that was left out stays.
Near duplicates that contradict each other (5 mg, 50 mg; two answers to one question) are kept, see `meadow.filters.duplicates.opposites`. All
this depends on the rows alone, not on how they are cut into parts or on the number of workers.

Memory, as measured: 40 bytes a row while the index is made; 550 for each row that shares a band with
another, and 270 more where it is left out. Files take 116 bytes a row (a 16-byte digest, 12 band keys of
8 bytes, a number), and the text, shingle hashes and signatures of rows that share a band.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meadow.core.parts import Piece, batches
from meadow.core.row import EXCERPT, Rejected
from meadow.filters.duplicates import minhash
from meadow.filters.duplicates.matching import Found, Search

__all__ = ["EXACT", "NEAR", "THRESHOLD", "Duplicates", "find", "jaccard", "normalise"]

#: The least Jaccard similarity of near duplicates. One word replaced changes five shingles, which leaves
#: 51 of 61 (0.836) in a text of 60 words. One long answer given to two short questions is above it, too,
#: whether they ask the same in other words or not.
THRESHOLD = 0.8
EXACT, NEAR = "exact duplicate", "near duplicate"

jaccard, normalise = minhash.jaccard, minhash.normalise

#: Columns of ``duplicates.parquet``.
COLUMNS = pa.schema(
    [("cluster", pa.string()), ("id", pa.string()), ("kept", pa.bool_()), ("similarity", pa.float64())]
)


def _silent(done: int, total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The duplicates of a build.

    Attributes:
        drop: Part path to the numbers of its rows that are duplicates, ascending; they count all rows
            of the file.
        threshold: The least similarity of near duplicates.
        members: A row for each that is left out and each that it was left out for: `cluster` (the
            survivor's id), `id`, `kept`, `similarity`, `exact` (whether the texts are equal), `survivor`
            (a number for each cluster), `kind` (an index of `kinds`), `piece` (an index of `paths`), `row`.
        apart: Rows that are kept though they match, because they contradict: `id`, `other`, `similarity`,
            `differs`, `kind`.
        kinds: Source and datasets of rows.
        paths: Part paths.
    """

    drop: dict[str, np.ndarray]
    threshold: float
    members: pa.Table
    apart: pa.Table
    kinds: tuple[tuple[str, tuple[str, ...]], ...]
    paths: tuple[str, ...]
    _order: np.ndarray

    @classmethod
    def of(cls, found: Found, threshold: float) -> Duplicates:
        """Sorts what a search found."""
        keys = [("cluster", "ascending"), ("survivor", "ascending"), ("kept", "descending")]
        members = found.members.sort_by([*keys, ("id", "ascending"), ("kind", "ascending")])
        piece, row = members["piece"].to_numpy(), members["row"].to_numpy()
        order = np.lexsort((row, piece))
        order = order[~members["kept"].to_numpy()[order]]
        here, begin = np.unique(piece[order], return_index=True)
        rows_of = np.split(row[order], begin[1:])
        drop = {found.paths[index]: rows_ for index, rows_ in zip(here.tolist(), rows_of, strict=False)}
        return cls(drop, threshold, members, found.apart, found.kinds, found.paths, order)

    def rejected(self, piece: Piece) -> Iterator[tuple[int, Rejected]]:
        """The rows of a piece that are left out, ascending by number, with the reason."""
        path = piece.part.path
        if path not in self.drop:
            return
        index = self.paths.index(path)
        begin, end = np.searchsorted(self.members["piece"].to_numpy()[self._order], (index, index + 1))
        found = self.members.take(self._order[begin:end]).to_pylist()
        at = start = 0
        for batch in batches([(piece.part, None)]):
            while at < len(found) and found[at]["row"] < start + batch.num_rows:
                row = found[at]
                yield row["row"], _rejected(row, piece, batch, row["row"] - start)
                at += 1
            start += batch.num_rows

    def write(self, config: str, path: Path) -> dict[str, Any]:
        """Writes ``duplicates.parquet`` of a dataset: every cluster that one of its rows is in.

        Its columns are `cluster` (the survivor's id), `id`, `kept` and `similarity` to the survivor,
        sorted by cluster, survivor first. Survivors and duplicates from other datasets are in it, too.

        Returns:
            `threshold`; of this dataset's own rows, how many are left out as `exact` and as `near`
            duplicates; the `clusters` in the file; and as `contradicting` how many are kept though they
            match, because they differ in a number, a negation or an opposite.
        """
        kinds = pa.array([n for n, (_, configs) in enumerate(self.kinds) if config in configs], pa.int32())
        mine = self.members.filter(pc.is_in(self.members["kind"], kinds))
        found = self.members.filter(pc.is_in(self.members["survivor"], pc.unique(mine["survivor"])))
        # One id can stand for two forms of a row, in two datasets of a source.
        found = found.select(COLUMNS.names).group_by(COLUMNS.names, use_threads=False).aggregate([])
        keys = [("cluster", "ascending"), ("kept", "descending"), ("id", "ascending")]
        found = found.sort_by([*keys, ("similarity", "ascending")])
        pq.write_table(found.cast(COLUMNS), path, compression="zstd")
        dropped = mine.filter(pc.invert(mine["kept"]))
        exact = pc.sum(dropped["exact"]).as_py() or 0
        return {
            "threshold": self.threshold,
            "exact": exact,
            "near": dropped.num_rows - exact,
            "clusters": pc.count_distinct(found["cluster"]).as_py(),
            "contradicting": pc.sum(pc.is_in(self.apart["kind"], kinds)).as_py() or 0,
        }


def _rejected(row: dict[str, Any], piece: Piece, batch: pa.RecordBatch, at: int) -> Rejected:
    values = (batch.column(name)[at].as_py() for name in piece.fields)
    return Rejected(
        EXACT if row["exact"] else NEAR,
        row["id"],
        f"similarity {row['similarity']:.3f} to {row['cluster']}, which is kept",
        excerpt=str(next((value for value in values if value), ""))[:EXCERPT],
        file=piece.part.file,
        configs=piece.part.configs,
    )


def find(
    pieces: Sequence[Piece],
    folder: Path,
    executor: Executor,
    ahead: int,
    progress: Callable[[int, int], None] = _silent,
    *,
    threshold: float = THRESHOLD,
) -> Duplicates:
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
    search = Search(list(pieces), folder, executor, ahead, progress, threshold)
    return Duplicates.of(search.run(), threshold)
