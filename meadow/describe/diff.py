"""What differs between two versions of a dataset: rows by their ids, columns, and what manifests say.

Rows are compared by hash, one column at a time, so no text is held: about 75 bytes for each row of both
versions together (see `diff`), whatever the rows weigh.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meadow.core.manifest import Manifest
from meadow.core.store import Store, StoreError, version_key
from meadow.describe.hashing import hashes

#: Rows decoded at once; long texts of more than that would show in memory.
_BATCH = 1_000
#: Characters of a changed value that an example shows, and how many of them stand before the change.
_EXCERPT, _BEFORE = 90, 25
#: A count or value before and after.
Pair = tuple[Any, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One value that changed, as text shortened to where it did; None for null."""

    column: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A row that both versions have, with other values."""

    id: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class RowExcerpt:
    """A row that was added, removed, or moved to another split, which is `split` then."""

    id: str
    split: str
    excerpt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How version `new` of a dataset differs from version `old`.

    Mappings of pairs hold (before, after), and but for `splits` only what differs; None: it is not there.

    Attributes:
        sample: Whether they were built from the embedded sample.
        splits: Rows per split.
        added: Rows whose id only the new version has; `removed` only the old one.
        changed: Rows of both, with other values in the columns that both have; `same` are the others.
        moved: Rows of both that are in another split now: (old split, new split, rows), most first.
        columns: Columns whose type changed, that are new, or gone.
        changed_columns: Rows with another value, per column, most first.
        added_rows: The first rows added, in the order of the files; so are those removed and moved.
        changed_rows: Changed rows, so that every changed column occurs as far as the limit allows.
        licenses: Rows per licence.
        funnel: Rows read, kept, and left out per reason (``left out: REASON``).
        settings: Parameters, filters and the programs that built it.
        raw: Raw files: their bytes and SHA-256.
        release_notes: What the builder says of the versions in between, oldest first.
    """

    name: str
    old: str
    new: str
    sample: Pair
    splits: Mapping[str, Pair]
    added: int = 0
    removed: int = 0
    changed: int = 0
    same: int
    moved: tuple[tuple[str, str, int], ...] = ()
    columns: Mapping[str, Pair]
    changed_columns: Mapping[str, int] = field(default_factory=dict)
    added_rows: tuple[RowExcerpt, ...] = ()
    removed_rows: tuple[RowExcerpt, ...] = ()
    moved_rows: tuple[RowExcerpt, ...] = ()
    changed_rows: tuple[ChangedRow, ...] = ()
    licenses: Mapping[str, Pair]
    funnel: Mapping[str, Pair]
    settings: Mapping[str, Pair]
    raw: Mapping[str, Pair]
    release_notes: Mapping[str, str]

    @property
    def differs(self) -> bool:
        """Whether rows, their splits or their columns differ; what only manifests say does not count."""
        return bool(self.added or self.removed or self.changed or self.moved or self.columns)

    def described(self) -> dict[str, Any]:
        """All of it as values that JSON has."""
        return {**asdict(self), "differs": self.differs}


def diff(store: Store, name: str, old: str, new: str, *, limit: int = 5) -> Difference:
    """Compares two versions of a dataset.

    Ids and values are compared by 64-bit hashes: of ten million rows, two different ids pass for one with a
    chance of about 1 in 100,000.

    Args:
        store: The output folder.
        name: The dataset.
        old: A version, or its beginning for the newest of those.
        new: Another; it may be the older one.
        limit: Rows of each kind that are shown as examples.

    Raises:
        StoreError: A version is not there, and the message names those that are; or one of its
            files cannot be read.
    """
    before, after = (store.manifest(name, version) for version in (old, new))
    sides = RowFiles(store, before), RowFiles(store, after)
    equal = before.rows_sha256 == after.rows_sha256  # the same rows, splits and order
    compared: dict[str, Any] = {"same": before.rows} if equal else _compare(*sides, max(0, limit))
    splits = dict.fromkeys((*before.splits, *after.splits))
    raw = ({file.path: file.model_dump(exclude={"path"}) for file in m.raw} for m in (before, after))
    return Difference(
        name=name,
        old=before.version,
        new=after.version,
        sample=(before.sample, after.sample),
        splits={split: (sides[0].counts.get(split), sides[1].counts.get(split)) for split in splits},
        columns=_differing(before.features, after.features),
        licenses=_differing(before.licenses, after.licenses),
        funnel=_differing(_funnel(before), _funnel(after)),
        settings=_differing(_settings(before), _settings(after)),
        raw=_differing(*raw),
        release_notes=_notes(before, after),
        **compared,
    )


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Pair]:
    names = dict.fromkeys((*before, *after))
    return {n: (before.get(n), after.get(n)) for n in names if before.get(n) != after.get(n)}


def _funnel(manifest: Manifest) -> dict[str, int]:
    funnel = manifest.funnel
    left = {f"left out: {why}": count for why, count in sorted(funnel.dropped.items())}
    return {"read": funnel.read, "kept": funnel.kept, **left}


def _settings(manifest: Manifest) -> dict[str, Any]:
    filters = manifest.filters.model_dump(mode="json") if manifest.filters else {}
    return {
        **manifest.parameters,
        **{f"filter {name}": value for name, value in filters.items()},
        **{f"built with {name}": version for name, version in manifest.built_with},
    }


def _notes(before: Manifest, after: Manifest) -> dict[str, str]:
    low, high = sorted((version_key(before.version), version_key(after.version)))
    notes = {**before.release_notes, **after.release_notes}
    between = (v for v in notes if v.replace(".", "").isdigit() and low < version_key(v) <= high)
    return {version: notes[version] for version in sorted(between, key=version_key)}


class RowFiles:
    """The rows of one version, by number: those of its files in order, one after the other."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self.manifest = manifest
        self.paths: list[Path] = []
        #: The split of each file, and rows per split.
        self.splits: list[str] = []
        self.counts = dict.fromkeys(manifest.splits, 0)
        sizes = []
        for split, paths in store.files(manifest.name, manifest.version).items():
            for path in paths:
                with self._reading(path):
                    sizes.append(pq.read_metadata(path).num_rows)
                self.paths.append(path)
                self.splits.append(split)
                self.counts[split] += sizes[-1]
        #: The number after that of each file's last row.
        self.ends = np.cumsum(sizes, dtype=np.int64)

    def hashes(self, column: str) -> np.ndarray:
        """A column's hashes, in the order of rows."""
        out = np.empty(sum(self.counts.values()), np.uint64)
        at = 0
        for path in self.paths:
            with self._reading(path):
                for batch in batches(path, (column,)):
                    out[at : at + batch.num_rows] = hashes(batch.column(0))
                    at += batch.num_rows
        return out

    def file_of(self, rows: np.ndarray | int) -> Any:
        """The number of the file that each row is in."""
        return np.searchsorted(self.ends, rows, side="right")

    def read(self, rows: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Whole rows, by their numbers; reads the row groups that they lie in."""
        wanted = np.unique(np.array(list(rows), np.int64))
        found: dict[int, dict[str, Any]] = {}
        start = 0
        for path in self.paths:
            with self._reading(path), pq.ParquetFile(path, pre_buffer=False) as file:
                for group in range(file.metadata.num_row_groups):
                    end = start + file.metadata.row_group(group).num_rows
                    here = wanted[slice(*np.searchsorted(wanted, (start, end)))]
                    if len(here):
                        taken = file.read_row_group(group).take(here - start)
                        found |= zip(here.tolist(), taken.to_pylist(), strict=True)
                    start = end
        return found

    def excerpt(self, number: int, row: Mapping[str, Any]) -> RowExcerpt:
        """A row as an example."""
        return RowExcerpt(row["id"], self.splits[self.file_of(number)], _cut(beginning(row)) or "")

    @contextlib.contextmanager
    def _reading(self, path: Path) -> Iterator[None]:
        """Turns errors of Parquet files into one that names the dataset and the remedy."""
        try:
            yield
        except (OSError, pa.ArrowException, LookupError) as error:
            name = self.manifest.name
            reason = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
            raise StoreError(
                f"{name}/{self.manifest.version}/{path.name} {reason}; build {name} again with "
                f"`python -m meadow.build {name}`"
            ) from error


def batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Some columns of a Parquet file, those that it has, in flat memory."""
    # Pre-buffering would hold whole columns, compressed, until the file is read.
    with pq.ParquetFile(path, pre_buffer=False) as file:
        there = [name for name in columns if name in file.schema_arrow.names]
        yield from file.iter_batches(_BATCH, columns=there, use_threads=False)


def beginning(row: Mapping[str, Any]) -> str:
    """What tells a row from others at a glance, on one line: its question, else its answer."""
    return " ".join(str(row.get("input") or row.get("output") or "").split())


def _compare(old: RowFiles, new: RowFiles, limit: int) -> dict[str, Any]:
    """What `Difference` says of rows."""
    ids_old, ids_new = old.hashes("id"), new.hashes("id")
    # Of rows with the same id, which no build writes, the first counts and the others are extra.
    _, at_old, at_new = np.intersect1d(ids_old, ids_new, return_indices=True)
    order = np.argsort(at_new, kind="stable")
    at_old, at_new = at_old[order], at_new[order]
    removed = np.delete(np.arange(len(ids_old)), at_old)
    added = np.delete(np.arange(len(ids_new)), at_new)
    changed, columns, shown = _changed(old, new, at_old, at_new, limit)
    moved, moves = _moved(old, new, at_old, at_new)
    first_removed, first_added = removed[:limit].tolist(), added[:limit].tolist()
    first_moved = at_new[moves[:limit]].tolist()
    both = list(zip(at_old[shown].tolist(), at_new[shown].tolist(), strict=True))
    rows_old = old.read([*first_removed, *(number for number, _ in both)])
    rows_new = new.read([*first_added, *first_moved, *(number for _, number in both)])
    return {
        "added": len(added),
        "removed": len(removed),
        "changed": changed,
        "same": len(at_new) - changed,
        "moved": moved,
        "changed_columns": dict(sorted(columns.items(), key=lambda item: (-item[1], item[0]))),
        "added_rows": tuple(new.excerpt(number, rows_new[number]) for number in first_added),
        "removed_rows": tuple(old.excerpt(number, rows_old[number]) for number in first_removed),
        "moved_rows": tuple(new.excerpt(number, rows_new[number]) for number in first_moved),
        "changed_rows": tuple(_changed_row(rows_old[a], rows_new[b], columns) for a, b in both),
    }


def _changed(
    old: RowFiles, new: RowFiles, at_old: np.ndarray, at_new: np.ndarray, limit: int
) -> tuple[int, dict[str, int], list[int]]:
    """How many common rows changed, how many in which column, and the numbers of those to show."""
    before, after = old.manifest.features, new.manifest.features
    changed = np.zeros(len(at_old), bool)
    columns: dict[str, int] = {}
    first: dict[str, list[int]] = {}
    for column, kind in after.items() if len(at_old) else ():
        if column == "id" or before.get(column) != kind:
            continue
        here = old.hashes(column)[at_old] != new.hashes(column)[at_new]
        if here.any():
            columns[column] = int(here.sum())
            first[column] = np.flatnonzero(here)[:limit].tolist()
            changed |= here
    # The rarest change first: where every row has a new date, one that has a new answer is shown, too.
    rarest = [first[column] for column in sorted(first, key=lambda c: (columns[c], c))]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*rarest))
    shown = list(dict.fromkeys(number for number in turns if number is not None))[:limit]
    return int(changed.sum()), columns, sorted(shown)


def _moved(
    old: RowFiles, new: RowFiles, at_old: np.ndarray, at_new: np.ndarray
) -> tuple[tuple[tuple[str, str, int], ...], np.ndarray]:
    """Rows per pair of splits that they moved between, and the numbers of the common rows that did."""
    was, now = old.file_of(at_old), new.file_of(at_new)
    moves = np.flatnonzero((np.array(old.splits, str)[:, None] != np.array(new.splits, str))[was, now])
    files, counts = np.unique(was[moves] * len(new.splits) + now[moves], return_counts=True)
    found: Counter[tuple[str, str]] = Counter()
    for pair, count in zip(files.tolist(), counts.tolist(), strict=True):
        source, target = divmod(pair, len(new.splits))
        found[old.splits[source], new.splits[target]] += count
    pairs = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return tuple((*pair, count) for pair, count in pairs), moves


def _changed_row(
    before: Mapping[str, Any], after: Mapping[str, Any], columns: Mapping[str, int]
) -> ChangedRow:
    changed = (name for name in after if name in columns and before.get(name) != after.get(name))
    return ChangedRow(after["id"], tuple(Change(n, *_excerpts(before.get(n), after.get(n))) for n in changed))


def _excerpts(before: Any, after: Any) -> tuple[str | None, str | None]:
    """Both values as text, from a little before where they begin to differ."""
    one, other = (
        value
        if value is None or isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, default=str)
        for value in (before, after)
    )
    start = 0
    if one is not None and other is not None and max(len(one), len(other)) > _EXCERPT:
        start = max(0, len(os.path.commonprefix([one, other])) - _BEFORE)
    return _cut(one, start), _cut(other, start)


def _cut(text: str | None, start: int = 0) -> str | None:
    if text is None:
        return None
    end = start + _EXCERPT
    return ("..." if start else "") + text[start:end] + ("..." if len(text) > end else "")
