"""What differs between two versions of a dataset: rows by their ids, columns, and what manifests say.

Rows are compared by hash, one column at a time, so no text is held: about 75 bytes for each row of both
versions together (see `diff`), whatever the rows weigh.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from meadow.core.manifest import Manifest
from meadow.core.store import StoreError, version_key
from meadow.describe.hashing import hashes

if TYPE_CHECKING:
    from meadow.core.store import Store

#: Rows decoded at once; long texts of more than that would show in memory.
BATCH = 1_000
#: Characters of a changed value that an example shows, and how many of them stand before the change.
EXCERPT, _BEFORE = 90, 25


@dataclass(frozen=True, slots=True)
class Change:
    """One value that changed, shortened to where it did.

    Attributes:
        column: The column.
        before: The old value as text, None for null.
        after: The new one.
    """

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
    """A row that was added, removed, or moved to another split.

    Attributes:
        id: Its id.
        split: Its split; of a row that moved, the new one.
        excerpt: The beginning of its question.
    """

    id: str
    split: str
    excerpt: str


#: A count or value before and after.
Pair = tuple[Any, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """How version `new` of a dataset differs from version `old`.

    Mappings of pairs hold (before, after), and but for `splits` only what differs; None stands for
    what is not there.

    Attributes:
        name: The dataset.
        old: One version.
        new: The other.
        sample: Whether they were built from the embedded sample.
        splits: Rows per split; None where a version has no such split.
        added: Rows whose id only the new version has.
        removed: Rows whose id only the old version has.
        changed: Rows of both, with other values in the columns that both have.
        same: Rows of both with the same values.
        moved: Rows of both that are in another split now: (old split, new split, rows), most first.
        columns: Columns whose type changed, that are new, or gone.
        changed_columns: Rows with another value, per column, most first.
        added_rows: The first rows added, in the order of the files.
        removed_rows: The first rows removed.
        moved_rows: The first rows moved.
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
    added: int
    removed: int
    changed: int
    same: int
    moved: tuple[tuple[str, str, int], ...]
    columns: Mapping[str, Pair]
    changed_columns: Mapping[str, int]
    added_rows: tuple[RowExcerpt, ...]
    removed_rows: tuple[RowExcerpt, ...]
    moved_rows: tuple[RowExcerpt, ...]
    changed_rows: tuple[ChangedRow, ...]
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

    Ids and values are compared by 64-bit hashes: of ten million rows, two different ids pass for one
    with a chance of about 1 in 100,000. Held are, for each row, its id's hash, its place, and the
    hash of one column; measured at the peak, while ids are sorted, about 75 bytes.

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
    sides = (RowFiles(store, before), RowFiles(store, after))
    compared = _compare(*sides, max(0, limit))
    splits = dict.fromkeys((*sides[0].counts(), *sides[1].counts()))
    counts = [side.counts() for side in sides]
    return Difference(
        name=name,
        old=before.version,
        new=after.version,
        sample=(before.sample, after.sample),
        splits={split: (counts[0].get(split), counts[1].get(split)) for split in splits},
        columns=_differing(before.features, after.features),
        licenses=_differing(before.licenses, after.licenses),
        funnel=_differing(_funnel(before), _funnel(after)),
        settings=_differing(_settings(before), _settings(after)),
        raw=_differing(_raw(before), _raw(after)),
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


def _raw(manifest: Manifest) -> dict[str, Any]:
    return {file.path: {"bytes": file.bytes, "sha256": file.sha256} for file in manifest.raw}


def _notes(before: Manifest, after: Manifest) -> dict[str, str]:
    low, high = sorted((version_key(before.version), version_key(after.version)))
    notes = {**before.release_notes, **after.release_notes}
    between = (v for v in notes if v.replace(".", "").isdigit() and low < version_key(v) <= high)
    return {version: notes[version] for version in sorted(between, key=version_key)}


class RowFiles:
    """The rows of one version, by number: those of its files in order, one after the other."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        import pyarrow.parquet as pq

        self.manifest = manifest
        files = store.files(manifest.name, manifest.version)
        self.paths: list[Path] = []
        self.splits: list[str] = []
        sizes = []
        for split, paths in files.items():
            for path in paths:
                with _reading(manifest, path):
                    sizes.append(pq.read_metadata(path).num_rows)
                self.paths.append(path)
                self.splits.append(split)
        #: The number after that of each file's last row.
        self.ends = np.cumsum(sizes, dtype=np.int64)
        self.rows = int(self.ends[-1]) if sizes else 0
        self.names = list(files)

    def counts(self) -> dict[str, int]:
        """Rows per split."""
        found = dict.fromkeys(self.names, 0)
        for split, size in zip(self.splits, np.diff(self.ends, prepend=0).tolist(), strict=True):
            found[split] += size
        return found

    def hashes(self, column: str) -> np.ndarray:
        """A column's hashes, in the order of rows."""
        import pyarrow.parquet as pq

        out = np.empty(self.rows, np.uint64)
        at = 0
        for path in self.paths:
            # Pre-buffering would hold the whole column, compressed, until the file is read.
            with _reading(self.manifest, path), pq.ParquetFile(path, pre_buffer=False) as file:
                for batch in file.iter_batches(BATCH, columns=[column], use_threads=False):
                    out[at : at + batch.num_rows] = hashes(batch.column(0))
                    at += batch.num_rows
        return out

    def split_numbers(self, rows: np.ndarray) -> np.ndarray:
        """The number in `names` of the split of each row."""
        numbers = np.array([self.names.index(split) for split in self.splits], np.int32)
        return numbers[np.searchsorted(self.ends, rows, side="right")]

    def split_of(self, row: int) -> str:
        return self.splits[int(np.searchsorted(self.ends, row, side="right"))]

    def read(self, rows: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Whole rows, by their numbers; reads the row groups that they lie in."""
        with _reading(self.manifest, self.paths[0] if self.paths else Path("no file")):
            return read_rows(self.paths, rows)


@contextlib.contextmanager
def _reading(manifest: Manifest, path: Path) -> Iterator[None]:
    """Turns errors of Parquet files into one that names the dataset and the remedy."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException, LookupError) as error:
        name, version = manifest.name, manifest.version
        reason = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
        raise StoreError(
            f"{name}/{version}/{path.name} {reason}; build {name} again with `python -m meadow.build {name}`"
        ) from error


def read_rows(paths: Sequence[Path], rows: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Reads some rows of Parquet files, by number over all files; only their row groups are read."""
    import pyarrow.parquet as pq

    wanted = sorted(set(rows))
    found: dict[int, dict[str, Any]] = {}
    at = start = 0
    for path in paths:
        if at == len(wanted):
            break
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for group in range(file.metadata.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                here = []
                while at < len(wanted) and wanted[at] < end:
                    here.append(wanted[at])
                    at += 1
                if here:
                    taken = file.read_row_group(group).take([number - start for number in here])
                    found |= zip(here, taken.to_pylist(), strict=True)
                start = end
    return found


def _compare(old: RowFiles, new: RowFiles, limit: int) -> dict[str, Any]:
    if old.manifest.rows_sha256 == new.manifest.rows_sha256:  # the same rows, splits and order
        kinds = ("added_rows", "removed_rows", "moved_rows", "changed_rows", "moved")
        counts = {"added": 0, "removed": 0, "changed": 0, "same": old.rows, "changed_columns": {}}
        return counts | dict.fromkeys(kinds, ())
    at_old, at_new = _match(old.hashes("id"), new.hashes("id"))
    added = np.ones(new.rows, bool)
    added[at_new] = False
    removed = np.ones(old.rows, bool)
    removed[at_old] = False
    changed, columns, examples = _changed(old, new, at_old, at_new, limit)
    moved, moves = _moved(old, new, at_old, at_new)
    first = {
        "added": np.flatnonzero(added)[:limit].tolist(),
        "removed": np.flatnonzero(removed)[:limit].tolist(),
        "moved": at_new[moves[:limit]].tolist(),
    }
    rows_old = old.read([*first["removed"], *at_old[examples].tolist()])
    rows_new = new.read([*first["added"], *first["moved"], *at_new[examples].tolist()])
    both = zip(at_old[examples].tolist(), at_new[examples].tolist(), strict=True)
    return {
        "added": int(added.sum()),
        "removed": int(removed.sum()),
        "changed": int(changed.sum()),
        "same": len(changed) - int(changed.sum()),
        "moved": moved,
        "changed_columns": dict(sorted(columns.items(), key=lambda item: (-item[1], item[0]))),
        "added_rows": tuple(_row(new, number, rows_new) for number in first["added"]),
        "removed_rows": tuple(_row(old, number, rows_old) for number in first["removed"]),
        "moved_rows": tuple(_row(new, number, rows_new) for number in first["moved"]),
        "changed_rows": tuple(_changed_row(rows_old[a], rows_new[b], columns) for a, b in both),
    }


def _match(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of rows that both versions have, in the order of the new one.

    Of rows with the same id, which no build writes, the first counts and the others are extra.
    """
    keys_old, at_old = np.unique(old, return_index=True)
    keys_new, at_new = np.unique(new, return_index=True)
    place = np.searchsorted(keys_new, keys_old)
    place[place == len(keys_new)] = 0
    hit = keys_new[place] == keys_old if len(keys_new) else np.zeros(len(keys_old), bool)
    at_old, at_new = at_old[hit], at_new[place[hit]]
    order = np.argsort(at_new, kind="stable")
    return at_old[order], at_new[order]


def _changed(
    old: RowFiles, new: RowFiles, at_old: np.ndarray, at_new: np.ndarray, limit: int
) -> tuple[np.ndarray, dict[str, int], list[int]]:
    """Which common rows changed, how many in which column, and the numbers of those to show."""
    before, after = old.manifest.features, new.manifest.features
    changed = np.zeros(len(at_old), bool)
    columns: dict[str, int] = {}
    first: dict[str, list[int]] = {}
    for column, kind in after.items() if len(at_old) else ():
        if column == "id" or before.get(column) != kind:
            continue
        here = old.hashes(column)[at_old] != new.hashes(column)[at_new]
        count = int(here.sum())
        if count:
            columns[column] = count
            first[column] = np.flatnonzero(here)[:limit].tolist()
            changed |= here
    # The rarest change first: where every row has a new date, one that has a new answer is shown, too.
    shown: dict[int, None] = {}
    for turn in range(limit):
        for column in sorted(first, key=lambda c: (columns[c], c)):
            if turn < len(first[column]) and len(shown) < limit:
                shown[first[column][turn]] = None
    return changed, columns, sorted(shown)


def _moved(
    old: RowFiles, new: RowFiles, at_old: np.ndarray, at_new: np.ndarray
) -> tuple[tuple[tuple[str, str, int], ...], np.ndarray]:
    """Rows per pair of splits that they moved between, and the numbers of the common rows that did."""
    if not len(at_old):
        return (), np.empty(0, np.int64)
    names = list(dict.fromkeys((*old.names, *new.names)))
    code = [np.array([names.index(n) for n in side.names], np.int32) for side in (old, new)]
    was, now = code[0][old.split_numbers(at_old)], code[1][new.split_numbers(at_new)]
    moves = np.flatnonzero(was != now)
    pairs, counts = np.unique(was[moves].astype(np.int64) * len(names) + now[moves], return_counts=True)
    found = [
        (names[p // len(names)], names[p % len(names)], n)
        for p, n in zip(pairs.tolist(), counts.tolist(), strict=True)
    ]
    return tuple(sorted(found, key=lambda item: (-item[2], item[0], item[1]))), moves


def _row(side: RowFiles, number: int, rows: Mapping[int, Mapping[str, Any]]) -> RowExcerpt:
    row = rows[number]
    words = " ".join(str(row.get("input") or row.get("output") or "").split())
    return RowExcerpt(
        row["id"], side.split_of(number), words if len(words) <= EXCERPT else words[:EXCERPT] + "..."
    )


def _changed_row(
    before: Mapping[str, Any], after: Mapping[str, Any], columns: Mapping[str, int]
) -> ChangedRow:
    found = [
        Change(column, *_excerpts(before.get(column), after.get(column)))
        for column in after
        if column in columns and before.get(column) != after.get(column)
    ]
    return ChangedRow(after["id"], tuple(found))


def _excerpts(before: Any, after: Any) -> tuple[str | None, str | None]:
    """Both values as text, from a little before where they begin to differ."""
    one, other = _text(before), _text(after)
    start = 0
    if one is not None and other is not None and max(len(one), len(other)) > EXCERPT:
        start = max(0, len(os.path.commonprefix([one, other])) - _BEFORE)
    return _cut(one, start), _cut(other, start)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _cut(text: str | None, start: int) -> str | None:
    if text is None:
        return None
    end = start + EXCERPT
    return ("..." if start else "") + text[start:end] + ("..." if len(text) > end else "")
