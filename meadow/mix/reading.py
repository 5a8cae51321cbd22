"""Reading what decides about the rows of a mixture's parts, into one array of 33 bytes a row; drawing rows.

Those of the smallest hashes are drawn, part after part, no id and no text twice. Whether a row is drawn depends
on its own id, on how many of its part have a smaller hash, and on equal texts; not on the order of rows or files,
and rows that come or go change at most as many others.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meadow.core.licenses import PARTS, UNKNOWN, License
from meadow.core.licenses.policy import Policy
from meadow.core.manifest import Manifest
from meadow.core.store import CONTAMINATION, Store, StoreError

#: What is kept of a row: what it is drawn by, its place among all rows, hashes of its text and of its group,
#: and which of the `REASONS`, or of those added to them, leaves it out.
ROW = np.dtype([("key", "<u8"), ("place", "<u8"), ("content", "<u8"), ("group", "<u8"), ("why", "u1")])

CONDITION, CONTAMINATED = "does not meet the conditions of its part", "overlaps an exam item"
SAME_ID, SAME_TEXT = "an earlier part has this id", "the same text as another row of the mixture"
GROUP, NOT_DRAWN = "its group is in the split train", "not drawn"
#: The first is that of rows that may be drawn, and of those that are; a licence policy adds its own.
REASONS: tuple[str, ...] = ("", CONDITION, CONTAMINATED, SAME_ID, SAME_TEXT, NOT_DRAWN, GROUP)
_ID, _TEXT, _NOT, _GROUP = map(REASONS.index, (SAME_ID, SAME_TEXT, NOT_DRAWN, GROUP))
#: The stages that a row passes, in order, with the reasons that belong to each.
STAGES: Mapping[str, tuple[str, ...]] = {
    "conditions": (CONDITION,),
    "license": (),  # the policy's own words
    "contamination": (CONTAMINATED,),
    "duplicates": (SAME_ID, SAME_TEXT),
    "sampling": (NOT_DRAWN,),
    "groups": (GROUP,),
}


@dataclass(frozen=True)
class Conditions:
    """What decides whether rows of a part may be drawn at all.

    Attributes:
        policy: Which licences they may have; None for any.
        terms: The dataset's licences, as its manifest has them.
        sample: Whether its rows are a sample: our own writing, whatever models and questions it imitates.
        hits: The ids that overlap an exam item, where those are left out.
    """

    where: Mapping[str, Any]
    policy: Policy | None
    terms: Mapping[str, License]
    sample: bool
    hits: Sequence[str] = ()


@dataclass(frozen=True)
class PartFile:
    """A Parquet file of one of a mixture's parts.

    Attributes:
        number: The part's, from 0, among those that are there.
        dataset: The dataset, of which `source` and `split` say more.
        path: Where the file lies.
        label: Its name in the list of rows left out.
    """

    number: int
    dataset: str
    source: str
    split: str
    path: Path
    label: str


@dataclass(frozen=True)
class RowIndex:
    """What was read of all rows.

    Attributes:
        rows: `ROW` records of one file after another, part after part.
        reasons: What their ``why`` counts from.
        files: The files.
        edges: Where each file's records begin; last, where all end.
    """

    rows: np.ndarray
    reasons: tuple[str, ...]
    files: tuple[PartFile, ...]
    edges: tuple[int, ...]

    @classmethod
    def of(cls, files: Sequence[PartFile], found: Sequence[tuple[np.ndarray, tuple[str, ...]]]) -> RowIndex:
        """Joins what `read` found in each file."""
        reasons = tuple(dict.fromkeys((*REASONS, *(reason for _, own in found for reason in own))))
        for rows, own in found:
            rows["why"] = np.array([reasons.index(reason) for reason in own], "u1")[rows["why"]]
        edges = np.cumsum([0, *(len(rows) for rows, _ in found)])
        joined = np.concatenate([rows for rows, _ in found]) if found else np.empty(0, ROW)
        return cls(joined, reasons, tuple(files), tuple(edges.tolist()))

    def file(self, at: int) -> np.ndarray:
        """The records of a file; to write to them is to change them here."""
        return self.rows[self.edges[at] : self.edges[at + 1]]

    def part(self, number: int) -> np.ndarray:
        """The records of a part."""
        mine = [at for at, file in enumerate(self.files) if file.number == number]
        return self.rows[self.edges[mine[0]] : self.edges[mine[-1] + 1]]

    def dropped(self) -> dict[str, int]:
        """How many rows are left out, by reason."""
        counts = np.bincount(self.rows["why"], minlength=len(self.reasons)).tolist()
        return {reason: n for reason, n in sorted(zip(self.reasons, counts, strict=True)) if reason and n}


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


def _plain(text: str | None) -> str:
    """A text without differences of Unicode form and of white space."""
    text = " ".join((text or "").split())
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _short_hashes(texts: list[str]) -> np.ndarray:
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), "<u8")


def read(
    file: PartFile, columns: frozenset[str], seed: int, asked: Conditions
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Reads what decides about each row of a Parquet file; runs in a worker.

    Returns:
        `ROW` records, and the reasons that their ``why`` counts.
    """
    terms = ("license", "generator", *(part for part in PARTS if part in columns)) if asked.policy else ()
    hits = frozenset(asked.hits)
    needed = {"id", "input", "output", "group", *asked.where, *terms}
    reasons = list(REASONS)
    found = [np.empty(0, ROW)]
    with pq.ParquetFile(file.path) as parquet:
        for group in range(parquet.num_row_groups):
            table = parquet.read_row_group(group, columns=sorted(needed & columns))
            rows = np.zeros(table.num_rows, ROW)
            ids = table["id"].to_pylist()
            rows["key"], rows["place"] = hashes(ids, seed)
            texts = zip(table["input"].to_pylist(), table["output"].to_pylist(), strict=True)
            rows["content"] = _short_hashes([f"{_plain(one)}\x00{_plain(other)}" for one, other in texts])
            # Two sources may call different things by the same name, such as a number.
            rows["group"] = _short_hashes([f"{file.source}\x00{name}" for name in table["group"].to_pylist()])
            # The first reason that holds is the one that is given, so the last is written first.
            rows["why"][[row_id in hits for row_id in ids]] = REASONS.index(CONTAMINATED)
            if asked.policy:
                keys = list(zip(*(table[name].to_pylist() for name in terms), strict=True))
                refused = _refused(asked.policy, asked, keys)
                reasons += sorted({reason for reason in refused if reason} - {*reasons})
                rows["why"] = [
                    reasons.index(why) if why else old for why, old in zip(refused, rows["why"], strict=True)
                ]
            for column, wanted in asked.where.items():
                met = [meets(value, wanted) for value in table[column].to_pylist()]
                rows["why"][~np.array(met, bool)] = REASONS.index(CONDITION)
            found.append(rows)
    return np.concatenate(found), tuple(reasons)


def meets(value: Any, wanted: Any) -> bool:
    """Whether a value meets a condition: a value or several, or a mapping with ``not``, ``min``, ``max``."""
    if not isinstance(wanted, dict):
        return value in wanted if isinstance(wanted, (list, tuple)) else value == wanted
    if "not" in wanted and meets(value, wanted["not"]):
        return False
    if value is None:
        return wanted.keys() <= {"not"}
    return wanted.get("min", value) <= value <= wanted.get("max", value)


def read_hits(store: Store, manifest: Manifest) -> list[str]:
    """The ids of a dataset's rows that overlap an exam item.

    Raises:
        StoreError: The dataset's list cannot be read.
    """
    path = store.folder(manifest.name, manifest.version) / CONTAMINATION
    if not path.exists():
        return []
    try:
        return pq.read_table(path, columns=["id"])["id"].to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path}: {error}; build {manifest.name} again") from error


def _refused(policy: Policy, asked: Conditions, rows: list[tuple[str | None, ...]]) -> list[str | None]:
    """Why the policy is against rows, of which there is the licence, the model that wrote it, and the parts'."""

    def term(spdx: str | None) -> License:
        return asked.terms.get(spdx) or License.of(spdx) if spdx else UNKNOWN

    def ask(own: str | None, generator: str | None, *parts: str | None) -> str | None:
        if asked.sample:
            return policy.permits(term(own))
        for spdx in (own, *parts):
            if reason := policy.permits(term(spdx)):
                return reason
        return policy.permits(term(own), generator)

    answers = {row: ask(*row) for row in set(rows)}
    return [answers[row] for row in rows]


def draw(index: RowIndex, wanted: Sequence[int | None], train: str = "train") -> None:
    """Draws the rows of all parts: gives each other row of the index the reason why it is left out.

    Args:
        index: All rows; what makes them impossible to draw is there already.
        wanted: How many rows to draw of each part; None for all.
        train: The split whose groups must be in no other.
    """
    keys = contents = np.empty(0, np.uint64)
    for number, count in enumerate(wanted):
        part = index.part(number)
        free = part["why"] == 0
        known = np.isin(part["key"], keys)
        pool = np.flatnonzero(free & ~known & ~np.isin(part["content"], contents))
        pool = pool[np.argsort(part["key"][pool], kind="stable")]
        first = np.sort(np.unique(part["content"][pool], return_index=True)[1])
        drawn = pool[first][:count]
        keys = np.concatenate([keys, part["key"][drawn]])
        contents = np.concatenate([contents, part["content"][drawn]])
        why = np.where(np.isin(part["content"], contents), _TEXT, _NOT)
        why[known] = _ID
        why[drawn] = 0
        part["why"][free] = why[free]
    in_train = np.concatenate(
        [np.full(len(index.file(at)), file.split == train) for at, file in enumerate(index.files)]
    )
    taken = index.rows["why"] == 0
    straddling = np.isin(index.rows["group"], index.rows["group"][taken & in_train])
    index.rows["why"][taken & ~in_train & straddling] = _GROUP
