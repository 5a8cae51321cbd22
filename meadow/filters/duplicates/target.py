"""The search for duplicates over one built dataset, or over a file that Meadow did not build."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from meadow.core.parts import Part, Piece
from meadow.core.store import Store
from meadow.core.tables import rows_of
from meadow.filters import duplicates
from meadow.filters.duplicates import minhash

#: Rows of one part, which is one task's work.
_ROWS = 20_000
_BATCH = 1_000


class NearPair(NamedTuple):
    """Two near duplicates, with the words around the first difference of their normalised texts."""

    similarity: float
    id: str
    survivor: str
    text: str
    survivor_text: str


@dataclass(frozen=True, slots=True)
class Searched:
    """What was found in one dataset or file.

    Attributes:
        name: The dataset or file.
        rows: How many rows were compared.
        fields: The columns compared.
        duplicates: The result.
        pieces: The rows.
    """

    name: str
    rows: int
    fields: tuple[str, ...]
    duplicates: duplicates.FoundDuplicates
    pieces: tuple[Piece, ...] = field(repr=False)

    def write(self, path: Path) -> dict[str, Any]:
        """Writes all clusters as Parquet; see `meadow.filters.duplicates.FoundDuplicates.write`."""
        return self.duplicates.write(self.name, path)

    def near(self, most: int) -> list[NearPair]:
        """Near duplicates, the least similar first; the folder searched in must still be there."""
        members = self.duplicates.members
        found = members.filter(pc.invert(pc.or_(members["kept"], members["exact"])))
        found = found.sort_by([("similarity", "ascending"), ("id", "ascending")]).slice(0, most)
        kept = members.filter(pc.and_(members["kept"], pc.is_in(members["survivor"], found["survivor"])))
        survivors = {row["survivor"]: row for row in kept.to_pylist()}
        return [
            NearPair(
                row["similarity"], row["id"], row["cluster"],
                *_difference(self._text(row), self._text(survivors[row["survivor"]])),
            )
            for row in found.to_pylist()
        ]  # fmt: skip

    def _text(self, member: dict[str, Any]) -> str:
        path = self.duplicates.paths[member["piece"]]
        with pa.memory_map(path) as source:
            table = pa.ipc.open_stream(source).read_all().slice(member["row"], 1)
            return next(minhash.texts_of(table.combine_chunks().to_batches()[0], self.fields))


def screen(
    target: str,
    folder: Path,
    executor: Executor,
    ahead: int,
    *,
    store: Store,
    fields: Sequence[str] = (),
    threshold: float = duplicates.THRESHOLD,
) -> Searched:
    """Searches one dataset or file.

    Args:
        target: The name of a built dataset, or a JSON, JSON lines, CSV or Parquet file.
        folder: An empty folder for working files.
        executor: Where tasks run.
        ahead: Tasks in flight.
        store: Where built datasets lie.
        fields: The columns to compare; empty for those of `input` and `output` that are there.
        threshold: The least similarity of near duplicates.

    Raises:
        ValueError: There is no such dataset or file, it cannot be read, or it lacks a column.
        meadow.core.store.StoreError: The dataset's manifest cannot be read.
    """
    parts = folder / "parts"
    parts.mkdir()
    records = rows_of(target, store)
    first = list(islice(records, _BATCH))
    there = dict.fromkeys(name for _, record in first for name in record)
    chosen = tuple(fields) or tuple(name for name in ("input", "output") if name in there)
    missing = [name for name in chosen if name not in there]
    if not first or missing or not chosen:
        columns = f"its columns are {', '.join(map(str, there))}; name some with --fields"
        problem = f"no column {missing[0]!r}" if missing else "no column input or output"
        raise ValueError(f"{target}: {f'{problem}; {columns}' if first else 'it holds no row'}")
    pieces = tuple(_pieces(chain(first, records), target, chosen, parts))
    (folder / "search").mkdir()
    found = duplicates.find(pieces, folder / "search", executor, ahead, threshold=threshold)
    return Searched(target, sum(piece.part.rows for piece in pieces), chosen, found, pieces)


def _pieces(
    records: Iterator[tuple[str, dict[str, Any]]], name: str, fields: tuple[str, ...], folder: Path
) -> Iterator[Piece]:
    schema = pa.schema([("id", pa.string()), *((field, pa.string()) for field in fields)])
    number = 0
    while rows := list(islice(records, _ROWS)):
        path = str(folder / f"{number:06d}.arrow")
        ids = pa.array([_text(_id(place, record)) for place, record in rows], pa.string())
        columns = [pa.array([_text(row.get(field)) for _, row in rows], pa.string()) for field in fields]
        with pa.ipc.new_stream(path, schema) as writer:
            writer.write_table(pa.table([ids, *columns], schema=schema), max_chunksize=_BATCH)
        yield Piece(Part(path, (name,), "train", len(rows), 0, number), None, name, fields, 0, False)
        number += 1


def _id(place: str, record: dict[str, Any]) -> str:
    if record.get("id") is not None:
        return str(record["id"])
    # As wide as ids must be to sort like numbers: of equals, the first is to survive.
    return f"row {int(place):08d}" if place.isdecimal() else place


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else minhash.as_json(value)
    # A lone surrogate is no text that a column can hold.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _difference(one: str, other: str, around: int = 6, most: int = 14) -> tuple[str, str]:
    """The words of each of two texts from a little before to a little after where they first differ."""
    words, others = one.split(" "), other.split(" ")
    pairs = enumerate(zip(words, others, strict=False))
    at = next((n for n, (a, b) in pairs if a != b), min(len(words), len(others)))
    begin = max(0, at - around)
    return " ".join(words[begin : begin + most]), " ".join(others[begin : begin + most])
