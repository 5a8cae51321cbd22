"""The search for duplicates over one built dataset, or over a file that Meadow did not build."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meadow.core.parts import Part, Piece, batches
from meadow.core.store import Store
from meadow.filters.duplicates import minhash
from meadow.filters.duplicates import stage as duplicates

#: Rows of one part, which is one task's work.
_ROWS = 20_000
_BATCH = 1_000


class Pair(NamedTuple):
    """Two near duplicates, with the words around the first difference of their normalised texts."""

    similarity: float
    id: str
    survivor: str
    text: str
    survivor_text: str


@dataclass(frozen=True, slots=True)
class Screened:
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
    duplicates: duplicates.Duplicates
    pieces: tuple[Piece, ...] = field(repr=False)

    def write(self, path: Path) -> dict[str, Any]:
        """Writes all clusters as Parquet; see `meadow.filters.duplicates.stage.Duplicates.write`."""
        return self.duplicates.write(self.name, path)

    def near(self, most: int) -> list[Pair]:
        """Near duplicates, the least similar first; the folder searched in must still be there."""
        members = self.duplicates.members
        found = members.filter(pc.invert(pc.or_(members["kept"], members["exact"])))
        found = found.sort_by([("similarity", "ascending"), ("id", "ascending")]).slice(0, most)
        kept = members.filter(members["kept"])
        home = dict(
            zip(
                kept["survivor"].to_pylist(),
                zip(kept["piece"].to_pylist(), kept["row"].to_pylist(), strict=True),
                strict=True,
            )
        )
        places = [((row["piece"], row["row"]), home[row["survivor"]], row) for row in found.to_pylist()]
        text = self._texts({place for one, other, _ in places for place in (one, other)})
        return [
            Pair(row["similarity"], row["id"], row["cluster"], *_difference(text[one], text[other]))
            for one, other, row in places
        ]

    def _texts(self, places: set[tuple[int, int]]) -> dict[tuple[int, int], str]:
        by_path = {piece.part.path: piece for piece in self.pieces}
        texts: dict[tuple[int, int], str] = {}
        for index in sorted({index for index, _ in places}):
            piece = by_path[self.duplicates.paths[index]]
            wanted = np.array(sorted(row for number, row in places if number == index), np.int64)
            start = 0
            for batch in batches([(piece.part, None)]):
                here = wanted[(wanted >= start) & (wanted < start + batch.num_rows)]
                if len(here):
                    found = minhash.texts_of(batch.take(pa.array(here - start)), piece.fields)
                    texts.update(((index, row), text) for row, text in zip(here.tolist(), found, strict=True))
                start += batch.num_rows
        return texts


def screen(
    target: str,
    folder: Path,
    executor: Executor,
    ahead: int,
    *,
    store: Store,
    fields: Sequence[str] = (),
    threshold: float = duplicates.THRESHOLD,
) -> Screened:
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
    records = _records(target, store)
    first = list(islice(records, _BATCH))
    there = dict.fromkeys(name for _, record in first for name in record)
    chosen = tuple(fields) or tuple(name for name in ("input", "output") if name in there)
    missing = [name for name in chosen if name not in there]
    if not first or missing or not chosen:
        columns = f"its columns are {', '.join(map(str, there))}; name some with --fields"
        problem = f"no column {missing[0]!r}" if missing else "no column input or output"
        raise ValueError(f"{target}: {f'{problem}; {columns}' if first else 'it holds no row'}")

    def every() -> Iterator[tuple[str, dict[str, Any]]]:
        yield from first
        yield from records

    pieces = tuple(_pieces(every(), target, chosen, parts))
    (folder / "search").mkdir()
    found = duplicates.find(pieces, folder / "search", executor, ahead, threshold=threshold)
    return Screened(target, sum(piece.part.rows for piece in pieces), chosen, found, pieces)


def _records(target: str, store: Store) -> Iterator[tuple[str, dict[str, Any]]]:
    from meadow.filters.contamination import reading

    if target in store.names():
        files = [path for paths in store.files(target).values() for path in paths]
    elif Path(target).is_file():
        files = [Path(target)]
    else:
        raise ValueError(f"{target}: no dataset in {store.root} and no file has this name")
    for file in files:
        for place, record in reading.records(file):
            if not isinstance(record, dict):
                raise ValueError(f"{target}, record {place}: it is no object of named fields")
            row_id = record.get("id")
            if row_id is None:
                # As wide as ids must be to sort like numbers: of equals, the first is to survive.
                row_id = f"row {int(place):08d}" if place.isdecimal() else place
            yield str(row_id), record


def _pieces(
    records: Iterator[tuple[str, dict[str, Any]]], name: str, fields: tuple[str, ...], folder: Path
) -> Iterator[Piece]:
    schema = pa.schema([("id", pa.string()), *((field, pa.string()) for field in fields)])
    number = 0
    while rows := list(islice(records, _ROWS)):
        path = str(folder / f"{number:06d}.arrow")
        with pa.ipc.new_stream(path, schema) as writer:
            for at in range(0, len(rows), _BATCH):
                some = rows[at : at + _BATCH]
                columns = [[_text(record.get(column)) for _, record in some] for column in fields]
                ids = [_text(row_id) for row_id, _ in some]
                writer.write_batch(
                    pa.record_batch([pa.array(c, pa.string()) for c in (ids, *columns)], schema=schema)
                )
        yield Piece(Part(path, (name,), "train", len(rows), 0, number), None, name, fields, 0, False)
        number += 1


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
