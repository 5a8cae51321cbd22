"""Rows of files that people have: JSON lines, JSON, Parquet and CSV; and of "a dataset, or a file".

A record is what a file has for one row, with its place there: its key, or its number from 1.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from meadow.core.store import Store

#: File name endings that `records` knows; each may be followed by ``.gz`` but Parquet's.
ENDINGS = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv")
#: Columns that hold a question, in order of preference, without regard to case.
QUESTIONS = tuple("question input query stem sent1 prompt problem instruction sentence text".split())
_LETTERS = "ABCDEFGHIJ"
_BATCH = 1_000


def ending(file: Path) -> str:
    """Which of `ENDINGS` a file's name has; empty for none."""
    name = file.name.lower().removesuffix(".gz")
    return next((known for known in ENDINGS if name.endswith(known)), "")


def files_of(target: str, store: Store) -> dict[str, list[Path]]:
    """The files of a built dataset by split, or a file under "".

    Raises:
        ValueError: There is no such dataset or file.
        meadow.core.store.StoreError: The dataset's manifest cannot be read.
    """
    if target in store.names():
        return store.files(target)
    if Path(target).is_file():
        return {"": [Path(target)]}
    raise ValueError(f"{target}: no dataset in {store.root} and no file has this name")


def rows_of(target: str, store: Store) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of a built dataset, or of a file, each with its place.

    Raises:
        ValueError: There is no such dataset or file, it cannot be read, or a record has no named fields.
        meadow.core.store.StoreError: The dataset's manifest cannot be read.
    """
    for files in files_of(target, store).values():
        for file in files:
            yield from named_records(file, target)


def named_records(file: Path, called: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """`records`, of which every one must have named fields; `called` is the file's name in messages.

    Raises:
        ValueError: As for `records`, or a record has no named fields.
    """
    for place, record in records(file):
        if not isinstance(record, dict):
            raise ValueError(f"{called}, record {place}: it is no object of named fields")
        yield place, record


def records(file: Path) -> Iterator[tuple[str, Any]]:
    """The records of a file, each with its place.

    Raises:
        ValueError: The file's form is not known, or it is damaged.
    """
    import pyarrow as pa  # half a second, which help texts need not wait for

    form = ending(file)
    if not form:
        raise ValueError(f"{file}: its form is not known; give a file that ends in {', '.join(ENDINGS)}")
    try:
        if form == ".parquet":
            yield from _parquet(file)
            return
        with _opened(file) as stream:
            if form in (".csv", ".tsv"):
                yield from _csv(stream, "\t" if form == ".tsv" else ",")
            elif form == ".json":
                yield from _json(json.load(stream))
            else:
                yield from _lines(stream)
    except (OSError, EOFError, ValueError, RecursionError, csv.Error, pa.ArrowException) as error:
        raise ValueError(f"{file}: it cannot be read: {error}; repair it") from error


def _opened(file: Path) -> io.TextIOBase:
    if file.name.lower().endswith(".gz"):
        return gzip.open(file, "rt", encoding="utf-8-sig", newline="")
    return file.open(encoding="utf-8-sig", newline="")


def _lines(stream: io.TextIOBase) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(stream, start=1):
        if line.strip():
            try:
                yield str(number), json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error


def _json(found: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(found, dict):
        lists = ("data", "questions", "rows", "examples", "test")
        inner = next((found[key] for key in lists if isinstance(found.get(key), list)), None)
        if inner is None and found and all(isinstance(value, Mapping) for value in found.values()):
            yield from ((str(key), value) for key, value in found.items())
            return
        found = inner
    if not isinstance(found, list):
        raise ValueError("it is no list of records")
    yield from ((str(number), record) for number, record in enumerate(found, start=1))


def _parquet(file: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow.parquet as pq  # half a second, which help texts need not wait for

    numbers = itertools.count(1)
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(batch_size=_BATCH):
            for record, number in zip(batch.to_pylist(), numbers, strict=False):
                yield str(number), record


def _csv(stream: io.TextIOBase, delimiter: str) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(2**27)
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    first = next(reader, None)
    if first is None:
        return
    names = [name.strip() for name in first]
    # MMLU's files begin with a question: no name of a column, and a letter at the end.
    named = {name.lower() for name in names} & {*QUESTIONS}
    letters = _LETTERS[: max(len(first) - 2, 0)]
    headless = not named and len(first) >= 4 and len(names[-1]) == 1 and names[-1] in letters
    if headless:
        yield "1", _asked(first)
    for number, row in enumerate(reader, start=2 if headless else 1):
        if not any(cell.strip() for cell in row):
            continue
        if headless:
            if len(row) != len(first) or row[-1].strip() not in letters:
                raise ValueError(f"row {number}: {len(row)} cells, or no letter at its end")
            yield str(number), _asked(row)
        elif len(row) != len(names):
            raise ValueError(f"row {number}: {len(row)} cells where the header has {len(names)}")
        else:
            yield str(number), dict(zip(names, row, strict=True))


def _asked(row: list[str]) -> dict[str, Any]:
    return {"question": row[0], "options": row[1:-1], "answer_key": row[-1].strip()}
