"""The work of a mixture that is spread over workers: reading part datasets, dealing rows out, writing files.

A row is drawn by a hash of its id, and so is its place among all rows. `scan` reads the columns that
decide about a row and leaves 25 bytes of it in a working file; the parent draws from those. `deal`
reads a file again and deals the rows that were drawn out to buckets, by place; `gather` sorts the
buckets of one output file and writes it. No task holds more than a bucket or a batch of rows.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meadow.core import rows
from meadow.core.builder import Rejected
from meadow.core.licenses import PARTS, UNKNOWN, License, Policy
from meadow.pipeline import tasks

#: What `scan` leaves of each row: hashes of its id, of its text and of its group, and why it is left out.
SCANNED = np.dtype([("key", "<u8"), ("content", "<u8"), ("group", "<u8"), ("reason", "u1")])
#: Bytes of rows, as Arrow counts them, that are sorted at once.
BUCKET_BYTES = 8 * 2**20
#: The column that a mixture has beside those of all datasets.
DATASET = "dataset"
#: The stages that a row passes, in order, with the reasons that belong to each.
CONDITION, CONTAMINATED = "does not meet the conditions of its part", "overlaps an exam item"
SAME_ID, SAME_TEXT = "an earlier part has this id", "the same text as another row of the mixture"
GROUP, NOT_DRAWN = "its group is in the split train", "not drawn"
STAGES: Mapping[str, tuple[str, ...]] = {
    "conditions": (CONDITION,),
    "license": (),  # the policy's own words
    "contamination": (CONTAMINATED,),
    "duplicates": (SAME_ID, SAME_TEXT),
    "sampling": (NOT_DRAWN,),
    "groups": (GROUP,),
}
_REMEDIES = {
    CONDITION: "Change `where` in the mixture.",
    CONTAMINATED: "Leave it out: models are scored on this item.",
    NOT_DRAWN: "Raise max_rows or the weight of its part, or choose another seed.",
}


@dataclass(frozen=True)
class Conditions:
    """What decides whether rows of a part may be drawn at all.

    Attributes:
        where: Conditions on columns.
        policy: Which licences they may have; None for any.
        terms: The dataset's licences, as its manifest has them.
        sample: Whether its rows are a sample: our own writing, whatever models and questions it imitates.
        hits: A file with the ids that overlap an exam item; None where that does not matter.
    """

    where: Mapping[str, Any]
    policy: Policy | None
    terms: Mapping[str, Any]
    sample: bool
    hits: Path | None


@dataclass(frozen=True)
class Scanned:
    """What `scan` found in one Parquet file.

    Attributes:
        path: The working file of `SCANNED` records, one a row, in order.
        reasons: The words for its `reason`, from 1; 0 is "may be drawn".
        rows: How many rows there are.
        free: How many of them may be drawn.
    """

    path: Path
    reasons: tuple[str, ...]
    rows: int
    free: int


def hashes(ids: list[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What rows are drawn by, and what they are put in order by: two halves of one keyed BLAKE2b.

    Two, because the rows drawn are those of the smallest first halves: in an order by these, a part of
    which few rows were drawn would stand in front of all others.

    Args:
        ids: The rows' ids.
        seed: The mixture's seed.

    Returns:
        Two arrays of unsigned 64-bit numbers, as long as `ids`. Among a million rows the chance that any
        two share one is below 1 in 10 million.
    """
    key = str(seed).encode()[:64]
    joined = b"".join(hashlib.blake2b(i.encode(), digest_size=16, key=key).digest() for i in ids)
    both = np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)
    return both[:, 0].copy(), both[:, 1].copy()


def _plain(text: str) -> str:
    """A text without differences of Unicode form and of white space."""
    text = " ".join(text.split())
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _short(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _contents(inputs: list[str | None], outputs: list[str | None]) -> np.ndarray:
    pairs = zip(inputs, outputs, strict=True)
    joined = b"".join(_short(f"{_plain(a or '')}\x00{_plain(b or '')}") for a, b in pairs)
    return np.frombuffer(joined, "<u8")


def _groups(groups: list[str | None], source: str) -> np.ndarray:
    # Two sources may call different things by the same name, such as a number.
    return np.frombuffer(b"".join(_short(f"{source}\x00{group}") for group in groups), "<u8")


def meets(table: pa.Table, where: Mapping[str, Any]) -> np.ndarray:
    """Which rows meet all conditions.

    Args:
        table: Rows with at least the columns that are named.
        where: Column to a value or list of values, or to a mapping with ``not``, ``min``, ``max``.
    """
    found = np.ones(table.num_rows, bool)
    for column, wanted in where.items():
        values = table[column]
        if not isinstance(wanted, dict):
            found &= _is_one_of(values, wanted)
            continue
        if "not" in wanted:
            found &= ~_is_one_of(values, wanted["not"])
        if "min" in wanted:
            found &= _array(pc.greater_equal(values, wanted["min"]))
        if "max" in wanted:
            found &= _array(pc.less_equal(values, wanted["max"]))
    return found


def _array(mask: pa.ChunkedArray) -> np.ndarray:
    return pc.fill_null(mask, False).to_numpy().astype(bool)


def _is_one_of(values: pa.ChunkedArray, wanted: Any) -> np.ndarray:
    several = wanted if isinstance(wanted, list) else [wanted]
    known = [value for value in several if value is not None]
    found = np.zeros(len(values), bool)
    if known:
        found |= _array(pc.is_in(values, value_set=pa.array(known, values.type)))
    if len(known) < len(several):
        found |= pc.is_null(values).to_numpy()
    return found


def scan(
    path: Path, columns: frozenset[str], source: str, seed: int, conditions: Conditions, work: Path
) -> Scanned:
    """Reads what decides about each row of a Parquet file; runs in a worker.

    Args:
        path: The file.
        columns: The columns that it has.
        source: The source its rows are from.
        seed: The mixture's seed.
        conditions: What rows must fulfil.
        work: The working file to write.
    """
    judge = _Licences(conditions, columns)
    hits = None
    if conditions.hits is not None:
        hits = pa.array(np.load(conditions.hits, allow_pickle=False).tolist(), pa.string())
    wanted = {"id", "input", "output", "group", *conditions.where, *judge.columns}
    reasons: dict[str, int] = {}
    count = free = 0
    with pq.ParquetFile(path) as file, work.open("wb") as out:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=sorted(wanted & columns))
            found = np.zeros(table.num_rows, SCANNED)
            ids = table["id"].to_pylist()
            found["key"] = hashes(ids, seed)[0]
            found["content"] = _contents(table["input"].to_pylist(), table["output"].to_pylist())
            found["group"] = _groups(table["group"].to_pylist(), source)
            # The first reason that holds is the one that is given, so the last is written first.
            if hits is not None and len(hits):
                mask = pc.is_in(table["id"], value_set=hits).to_numpy()
                found["reason"][mask] = reasons.setdefault(CONTAMINATED, len(reasons) + 1)
            for reason, mask in judge(table):
                found["reason"][mask] = reasons.setdefault(reason, len(reasons) + 1)
            if conditions.where:
                mask = ~meets(table, conditions.where)
                found["reason"][mask] = reasons.setdefault(CONDITION, len(reasons) + 1)
            out.write(found.tobytes())
            count += len(found)
            free += int((found["reason"] == 0).sum())
    return Scanned(work, tuple(reasons), count, free)


class _Licences:
    """Asks the policy about rows: the licence, those of parts of the row, the model that wrote it."""

    def __init__(self, conditions: Conditions, columns: frozenset[str]) -> None:
        self._policy, self._terms, self._sample = conditions.policy, conditions.terms, conditions.sample
        self.columns: tuple[str, ...] = ()
        if self._policy is not None:
            self.columns = ("license", "generator", *(part for part in PARTS if part in columns))
        self._answers: dict[tuple[str | None, ...], str | None] = {}

    def __call__(self, table: pa.Table) -> list[tuple[str, np.ndarray]]:
        if self._policy is None:
            return []
        keys = list(zip(*(table[name].to_pylist() for name in self.columns), strict=True))
        for key in dict.fromkeys(keys):
            if key not in self._answers:
                self._answers[key] = self._ask(*key)
        answers = np.array([self._answers[key] or "" for key in keys], object)
        return [(reason, answers == reason) for reason in sorted(set(answers.tolist()) - {""})]

    def _ask(self, license_id: str | None, generator: str | None, *parts: str | None) -> str | None:
        own = self._license(license_id)
        if self._sample:
            return self._policy.permits(own)
        for term in (own, *map(self._license, parts)):
            reason = self._policy.permits(term)
            if reason is not None:
                return reason
        return self._policy.permits(own, generator)

    def _license(self, spdx: str | None) -> License:
        return License.of(spdx, self._terms.get(spdx)) if spdx else UNKNOWN


def holds(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Which of `values` are in the sorted array `among`."""
    if not len(among):
        return np.zeros(len(values), bool)
    at = np.searchsorted(among, values)
    return among[np.minimum(at, len(among) - 1)] == values


@dataclass(frozen=True)
class Drawn:
    """Files of sorted 64-bit hashes that say which rows of a part are in the mixture.

    Attributes:
        keys: Ids of the rows drawn from this part.
        earlier: Ids of those drawn from earlier parts.
        contents: Texts of those drawn from this and earlier parts.
        groups: Groups of all rows that are drawn for the split train; None where that does not matter.
    """

    keys: Path
    earlier: Path
    contents: Path
    groups: Path | None


@dataclass(frozen=True)
class Dealt:
    """What `deal` made of one Parquet file.

    Attributes:
        path: An Arrow IPC file of its drawn rows.
        batches: The bucket that each of its batches belongs to.
        rows: How many rows were drawn.
        bytes: Their canonical bytes.
        rejects: The rows left out; None where there are none.
        dropped: How many, by reason.
        licenses: Rows drawn per licence.
        generators: Rows drawn per model that wrote them.
        tasks: Rows drawn per task.
    """

    path: Path
    batches: tuple[int, ...]
    rows: int
    bytes: int
    rejects: tasks.Part | None
    dropped: Mapping[str, int]
    licenses: Mapping[str, int]
    generators: Mapping[str, int]
    tasks: Mapping[str, int]


def deal(
    path: Path,
    scanned: Scanned,
    drawn: Drawn,
    dataset: str,
    label: str,
    seed: int,
    columns: Mapping[str, str],
    buckets: int,
    work: Path,
) -> Dealt:
    """Deals the drawn rows of a Parquet file out to buckets, and lists the others; runs in a worker.

    Args:
        path: The file.
        scanned: What `scan` found in it.
        drawn: Which rows are drawn.
        dataset: The dataset it belongs to.
        label: The file's name in the list of rows left out.
        seed: The mixture's seed.
        columns: The mixture's columns.
        buckets: How many buckets the split has.
        work: The beginning of the names of working files.
    """
    decide = _Decider(scanned, drawn)
    schema = tasks.part_schema(columns)
    rejects = tasks.PartWriter(Path(f"{work}.rejects"), rows.schema(rows.REJECTED_COLUMNS))
    dropped: Counter = Counter()
    counts: dict[str, Counter] = {name: Counter() for name in ("license", "generator", "task")}
    target = Path(f"{work}.arrow")
    numbers: list[int] = []
    waiting: list[pa.Table] = []
    count = size = start = 0

    with (
        pq.ParquetFile(path) as file,
        pa.OSFile(str(target), "wb") as sink,
        pa.ipc.new_file(sink, schema) as out,
    ):

        def flush() -> None:
            if not waiting:
                return
            table = pa.concat_tables(waiting)
            waiting.clear()
            # Of n buckets, each has the n-th part of all places; 32 bits of a place are plenty for it.
            place = table[tasks.KEY].to_numpy() >> np.uint64(32)
            bucket = (place * np.uint64(buckets)) >> np.uint64(32)
            order = np.argsort(bucket, kind="stable")
            table, bucket = table.take(pa.array(order)), bucket[order]
            edges = np.flatnonzero(np.diff(bucket, prepend=np.uint64(buckets)))
            for begin, end in zip(edges, [*edges[1:], len(bucket)], strict=True):
                out.write_batch(table.slice(begin, end - begin).combine_chunks().to_batches()[0])
                numbers.append(int(bucket[begin]))

        have = set(file.schema_arrow.names)
        for group in range(file.num_row_groups):
            whole = file.read_row_group(group, columns=[c for c in columns if c in have])
            kept, reasons = decide(start, whole.num_rows)
            start += whole.num_rows
            left = whole.select(["id", "input"]).filter(pa.array(~kept))
            for row_id, text, reason in zip(
                left["id"].to_pylist(), left["input"].to_pylist(), reasons, strict=True
            ):
                rejected = Rejected(reason, row_id, "", _REMEDIES.get(reason, ""), text or "", label)
                rejects.add(tasks.reject_row(rejected, dataset, label), rows.EXCERPT)
                dropped[reason] += 1
            table = whole.filter(pa.array(kept))
            if not table.num_rows:
                continue
            table, nbytes = _finished(table, columns, schema, dataset, seed)
            waiting.append(table)
            count, size = count + table.num_rows, size + nbytes
            for name, counter in counts.items():
                for entry in pc.value_counts(table[name]).to_pylist():
                    if entry["values"]:
                        counter[entry["values"]] += entry["counts"]
            if sum(t.nbytes for t in waiting) >= BUCKET_BYTES:
                flush()
        flush()
    rejects.close()
    part = None
    if rejects.rows:
        part = tasks.Part(str(rejects.path), (), None, rejects.rows, rejects.bytes)
    return Dealt(
        target, tuple(numbers), count, size, part, dict(dropped),
        dict(counts["license"]), dict(counts["generator"]), dict(counts["task"]),
    )  # fmt: skip


class _Decider:
    """Says of rows, by what `scan` kept of them, which are drawn and why the others are not."""

    def __init__(self, scanned: Scanned, drawn: Drawn) -> None:
        self._rows = np.memmap(scanned.path, SCANNED, "r") if scanned.rows else np.zeros(0, SCANNED)
        self._reasons = scanned.reasons
        self._keys, self._earlier, self._contents = (
            np.load(p, mmap_mode="r") for p in (drawn.keys, drawn.earlier, drawn.contents)
        )
        self._groups = None if drawn.groups is None else np.load(drawn.groups, mmap_mode="r")

    def __call__(self, start: int, count: int) -> tuple[np.ndarray, list[str]]:
        """Returns a mask of the rows that are drawn, and a reason for each of the others."""
        part = self._rows[start : start + count]
        free = part["reason"] == 0
        kept = free & holds(part["key"], self._keys)
        code = np.full(count, len(self._reasons) + 1, np.int64)
        words = ["", *self._reasons, NOT_DRAWN, SAME_TEXT, SAME_ID, GROUP]
        code[holds(part["content"], self._contents)] = words.index(SAME_TEXT)
        code[holds(part["key"], self._earlier)] = words.index(SAME_ID)
        code[~free] = part["reason"][~free]
        if self._groups is not None:
            straddles = kept & holds(part["group"], self._groups)
            code[straddles] = words.index(GROUP)
            kept &= ~straddles
        return kept, [words[i] for i in code[~kept].tolist()]


def _finished(
    table: pa.Table, columns: Mapping[str, str], schema: pa.Schema, dataset: str, seed: int
) -> tuple[pa.Table, int]:
    """Rows as part files hold them, and their canonical bytes."""
    count = table.num_rows
    arrays: dict[str, Any] = {name: table[name] for name in table.column_names}
    arrays[DATASET] = pa.array([dataset] * count, pa.string())
    for name in columns:
        if name not in arrays:  # a dataset of an earlier Meadow
            arrays[name] = pa.nulls(count, schema.field(name).type)
    table = pa.table({name: arrays[name].cast(schema.field(name).type) for name in columns})
    lists = [table[name].to_pylist() for name in columns]
    encoded = [rows.encode(list(row)) for row in zip(*lists, strict=True)]
    own = {
        tasks.KEY: pa.array(hashes(table["id"].to_pylist(), seed)[1]),
        tasks.AT: pa.array(np.arange(count)),
        tasks.DIGEST: pa.array([hashlib.sha256(data).digest() for data in encoded], pa.binary(32)),
    }
    # What row filters noted and found was so in the build of the part; here nothing more is.
    own[tasks.NOTES] = pa.array([""] * count, pa.string())
    for field in list(schema)[len(columns) :]:
        table = table.append_column(field, own.get(field.name, pa.nulls(count, field.type)))
    return table, sum(map(len, encoded))


def gather(
    sources: list[Dealt], first: int, last: int, columns: Mapping[str, str], path: Path, work: str
) -> tasks.Written:
    """Writes one Parquet file: its buckets in order, each sorted by place; runs in a worker.

    Args:
        sources: Where the split's rows are.
        first: The file's first bucket.
        last: The bucket after its last.
        columns: The mixture's columns.
        path: The Parquet file.
        work: The beginning of the names of working files.
    """
    schema = tasks.part_schema(columns)
    sorted_path = f"{work}.arrow"
    count = 0
    with pa.OSFile(sorted_path, "wb") as sink, pa.ipc.new_stream(sink, schema) as out:
        for bucket in range(first, last):
            batches = [batch for source in sources for batch in _bucket(source, bucket)]
            if not batches:
                continue
            table = pa.Table.from_batches(batches, schema)
            # Two rows at the same place, which no run is likely ever to see, follow their ids.
            table = table.sort_by([(tasks.KEY, "ascending"), ("id", "ascending")])
            for batch in table.combine_chunks().to_batches(max_chunksize=1000):
                out.write_batch(batch)
            count += table.num_rows
    written = tasks.write([(tasks.Part(sorted_path, (), None, count, 0), None)], columns, path, work)
    Path(sorted_path).unlink()
    return written


def _bucket(source: Dealt, bucket: int) -> list[pa.RecordBatch]:
    wanted = [number for number, at in enumerate(source.batches) if at == bucket]
    if not wanted:
        return []
    with pa.memory_map(str(source.path)) as mapped:
        file = pa.ipc.open_file(mapped)
        return [file.get_batch(number) for number in wanted]
