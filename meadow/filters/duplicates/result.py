"""What a search for duplicates found: which rows are left out for which, and the table that says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meadow.core.parts import Piece, batches
from meadow.core.row import EXCERPT, Rejected

EXACT, NEAR = "exact duplicate", "near duplicate"

#: Columns of ``duplicates.parquet``.
COLUMNS = pa.schema(
    [("cluster", pa.string()), ("id", pa.string()), ("kept", pa.bool_()), ("similarity", pa.float64())]
)


@dataclass(frozen=True, slots=True)
class FoundDuplicates:
    """The duplicates of a build.

    Attributes:
        threshold: The least similarity of near duplicates.
        members: A row for each that is left out and each that it was left out for: `cluster` (the
            survivor's id), `id`, `kept`, `similarity`, `exact` (whether the texts are equal), `survivor`
            (a number for each cluster), `kind` (an index of `kinds`), `piece` (an index of `paths`), `row`.
        apart: The kind of each row that is kept though it matches another, because the two contradict.
        kinds: Source and datasets of rows.
        paths: Part paths.
    """

    threshold: float
    members: pa.Table
    apart: np.ndarray
    kinds: tuple[tuple[str, tuple[str, ...]], ...]
    paths: tuple[str, ...]

    def dropped(self, path: str) -> pa.Table:
        """Those of `members` that are left out of a part file, by their numbers among all its rows."""
        if path not in self.paths:
            return self.members.slice(0, 0)
        here = pc.equal(self.members["piece"], self.paths.index(path))
        return self.members.filter(pc.and_not(here, self.members["kept"])).sort_by("row")

    def rejected(self, piece: Piece) -> Iterator[tuple[int, Rejected]]:
        """The rows of a piece that are left out, ascending by number, with the reason."""
        found = iter(self.dropped(piece.part.path).to_pylist())
        row = next(found, None)
        if row is None:
            return
        start = 0
        for batch in batches([(piece.part, None)]):
            while row and row["row"] < start + batch.num_rows:
                yield row["row"], _rejected(row, piece, batch, row["row"] - start)
                row = next(found, None)
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
        kinds = [number for number, (_, configs) in enumerate(self.kinds) if config in configs]
        mine = self.members.filter(pc.is_in(self.members["kind"], pa.array(kinds, pa.int32())))
        found = self.members.filter(pc.is_in(self.members["survivor"], pc.unique(mine["survivor"])))
        # One id can stand for two forms of a row, in two datasets of a source.
        found = found.select(COLUMNS.names).group_by(COLUMNS.names, use_threads=False).aggregate([])
        keys = [("cluster", "ascending"), ("kept", "descending"), ("id", "ascending")]
        found = found.sort_by([*keys, ("similarity", "ascending")])
        pq.write_table(found.cast(COLUMNS), path, compression="zstd")
        left_out = mine.filter(pc.invert(mine["kept"]))
        exact = pc.sum(left_out["exact"]).as_py() or 0
        return {
            "threshold": self.threshold,
            "exact": exact,
            "near": left_out.num_rows - exact,
            "clusters": pc.count_distinct(found["cluster"]).as_py(),
            "contradicting": int(np.isin(self.apart, kinds).sum()),
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
