"""Facts about the datasets of a store, read out of manifests and Parquet files in flat memory.

Numbers come from manifests wherever those have them. What only the files tell (which rows to show, the
sites that rows name) is read in one pass over two columns; whole rows are read from their row groups.
"""

from __future__ import annotations

import contextlib
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meadow.core.manifest import Manifest
from meadow.core.row import COLUMNS
from meadow.core.store import ATTRIBUTION, CONTAMINATION, DUPLICATES, REJECTED, Store, StoreError
from meadow.describe.diff import Difference, RowFiles, batches, beginning, diff
from meadow.describe.hashing import hashes

#: Characters of a text that a page shows, of the rows of one dataset, and of all rows together.
MOST = 5_000
_TEXT, _ALL_TEXT = 400_000, 6_000_000
#: Clusters, members of one, exam hits, rows of a difference, and rejects per reason that are shown.
_CLUSTERS, _MEMBERS, _HITS, _CHANGES, _REJECTS = 8, 5, 20, 6, 2
#: Reasons with examples.
_REASONS = 25
_UNREADABLE = (OSError, pa.ArrowException, LookupError, ValueError, TypeError, StoreError)


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row picked to be shown, its split, and the raw files that it can come from as far as can be told."""

    row: Mapping[str, Any]
    split: str
    files: tuple[str, ...]


@dataclass(slots=True)
class DuplicateCluster:
    """So many rows that are duplicates: `members` are some in ``duplicates.parquet``, the survivor first.

    Each has an `excerpt` of its text, which is empty where this dataset does not have it.
    """

    size: int
    members: list[dict[str, Any]]


@dataclass
class Facts:
    """What a page shows of one dataset.

    Attributes:
        manifest: That of its newest version; `versions` are those of all, newest first.
        rows: Random rows; `rows_cut` are not shown because texts were too long for a page.
        sites: Rows per host of `source_url`, most first.
        hits: Rows of ``contamination.parquet``, the clearest first, out of `hits_listed`.
        hit_rows: Rows that it names: one row can hold items of several exams.
        rejects: Examples of what was left out, per reason.
        attributed: Rows of ``ATTRIBUTION.parquet``, None where there is none.
        difference: From the version before to the newest.
        problems: What could not be read.
    """

    manifest: Manifest
    versions: list[Manifest]
    rows: list[ShownRow] = field(default_factory=list)
    rows_cut: int = 0
    sites: list[tuple[str, int]] = field(default_factory=list)
    clusters: list[DuplicateCluster] = field(default_factory=list)
    hits: list[Mapping[str, Any]] = field(default_factory=list)
    hits_listed: int = 0
    hit_rows: int = 0
    rejects: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    attributed: int | None = None
    difference: Difference | None = None
    problems: list[str] = field(default_factory=list)

    def members(self, kept: bool) -> dict[str, list[dict[str, Any]]]:
        """The shown duplicates that survived, or those that did not, by id."""
        found: dict[str, list[dict[str, Any]]] = {}
        for member in (member for cluster in self.clusters for member in cluster.members):
            if member["kept"] is kept:
                found.setdefault(member["id"], []).append(member)
        return found


@dataclass
class Gathered:
    """What a page shows: facts by name, datasets that cannot be shown and why, and the seed of the random rows."""

    datasets: list[Facts]
    problems: list[str]
    seed: int


def gather(store: Store, *, rows: int = 50, seed: int = 0) -> Gathered:
    """Reads what a page shows.

    Args:
        store: The output folder.
        rows: Random rows of each dataset: those whose ids have the lowest hashes under the seed.
        seed: Of the hash.

    Raises:
        StoreError: There is no dataset, or one was built anew while it was read.
    """
    names = store.names()
    if not names:
        raise StoreError(f"no dataset is built in {store.root}; run `python -m meadow.build all`")
    found = Gathered([], [], seed)
    budget = min(_TEXT, _ALL_TEXT // len(names))
    for name in names:
        try:
            manifest = store.manifest(name)
        except StoreError:
            version = store.versions(name)[-1]
            found.problems.append(f"{name}: the manifest of {version} cannot be read; build {name} again")
            continue
        found.datasets.append(_facts(store, manifest, rows, seed, budget))
    return found


def _facts(store: Store, manifest: Manifest, rows: int, seed: int, budget: int) -> Facts:
    name, version = manifest.name, manifest.version
    facts = Facts(manifest, [])
    for each in reversed(store.versions(name)):
        with contextlib.suppress(StoreError):
            facts.versions.append(store.manifest(name, each))
    folder = store.folder(name, version)

    @contextlib.contextmanager
    def noting(what: str) -> Iterator[None]:
        """What cannot be read is a line on the page, without this machine's paths."""
        try:
            yield
        except _UNREADABLE as error:
            reason = str(error).replace(str(store.root.resolve()), "").replace(str(store.root), "")
            facts.problems.append(f"{what} cannot be read: {' '.join(reason.split())[:300]}")

    with noting(DUPLICATES):
        facts.clusters = _clusters(folder / DUPLICATES)
    with noting(REJECTED):
        _rejects(facts, folder / REJECTED)
    with noting("rows"):
        _rows(facts, RowFiles(store, manifest), rows, seed, budget)
    with noting(CONTAMINATION):
        _hits(facts, folder / CONTAMINATION)
    with noting(ATTRIBUTION):
        if (folder / ATTRIBUTION).is_file():
            facts.attributed = pq.read_metadata(folder / ATTRIBUTION).num_rows
    with noting("difference"):
        if len(facts.versions) > 1:
            facts.difference = diff(store, name, facts.versions[1].version, version, limit=_CHANGES)
    if store.manifest(name, version).rows_sha256 != manifest.rows_sha256:
        raise StoreError(f"{name} was built anew while it was being read; write the report again")
    return facts


def _batches(path: Path, *columns: str) -> Iterable[pa.RecordBatch]:
    """Columns of a file that not every dataset has."""
    return batches(path, columns) if path.is_file() else ()


def _among(values: pa.Array, wanted: Iterable[str]) -> list[int]:
    """The places of the values that are wanted."""
    found = pc.is_in(values, pa.array(sorted(wanted), pa.string()))
    return np.flatnonzero(found.to_numpy(zero_copy_only=False)).tolist()


def _rows(facts: Facts, files: RowFiles, count: int, seed: int, budget: int) -> None:
    """Picks rows, counts sites, and finds the texts of survivors."""
    wanted = facts.members(kept=True)
    survivors: dict[int, str] = {}
    best, where = np.empty(0, np.uint64), np.empty(0, np.int64)
    sites: Counter[str] = Counter()
    start = 0
    for batch in (batch for path in files.paths for batch in batches(path, ("id", "source_url"))):
        ids = batch.column("id")
        best = np.concatenate((best, hashes(ids, seed)))
        where = np.concatenate((where, np.arange(start, start + len(ids))))
        # Of equal hashes the first row counts: lexsort's last key is the first to sort by.
        order = np.lexsort((where, best))[:count]
        best, where = best[order], where[order]
        if wanted:
            survivors |= {start + at: ids[at].as_py() for at in _among(ids, wanted)}
        if "source_url" in batch.schema.names:
            hosts = pc.extract_regex(batch.column("source_url"), r"^https?://(?P<host>[^/?#\s]+)")
            for entry in pc.value_counts(pc.struct_field(hosts, "host")).to_pylist():
                sites[entry["values"] or ""] += entry["counts"]
        start += batch.num_rows
    facts.sites = sorted(sites.items(), key=lambda item: (-item[1], item[0]))
    read = files.read([*where.tolist(), *survivors])
    raw = [file.path for file in facts.manifest.raw]
    for number in where.tolist():
        row = {**dict.fromkeys(COLUMNS), **read[number]}
        budget -= sum(min(len(value), MOST) for value in row.values() if isinstance(value, str))
        if budget < 0 and facts.rows:
            facts.rows_cut += 1
        else:
            split = files.splits[files.file_of(number)]
            facts.rows.append(ShownRow(row, split, raw_files(row["id"], raw)))
    for number, row_id in survivors.items():
        for member in wanted[row_id]:
            member["excerpt"] = beginning(read[number])[:200]


def raw_files(row_id: str, raw: Sequence[str]) -> tuple[str, ...]:
    """The raw files that a row can come from, as far as that can be told.

    A part of the id that is a folder or a file's stem names it, as the site in ``stackexchange/SITE/a/9``.
    """
    if len(raw) == 1:
        return tuple(raw)
    parts = set(row_id.split("/")[1:-1])
    return tuple(path for path in raw if parts & {*path.split("/")[1:-1], Path(path).stem})


def _clusters(path: Path) -> list[DuplicateCluster]:
    """Picks clusters to show: the largest, those least alike, and the first."""
    keys: list[np.ndarray] = []
    least: list[tuple[float, int]] = []
    for batch in _batches(path, "cluster", "kept", "similarity"):
        keys.append(hashes(batch.column("cluster")))
        apart = pc.less(batch.column("similarity"), 1)
        apart = batch.filter(pc.and_(pc.invert(batch.column("kept")), apart))
        pairs = zip(
            apart.column("similarity").to_pylist(), hashes(apart.column("cluster")).tolist(), strict=True
        )
        least = heapq.nsmallest(4 * _CLUSTERS, {*least, *pairs})
    if not keys:
        return []
    first = keys[0][: 10 * _CLUSTERS].tolist()
    found, counts = np.unique(np.concatenate(keys), return_counts=True)
    largest = found[np.lexsort((found, -counts))[: _CLUSTERS // 4]].tolist()
    some = dict.fromkeys((*largest, *(key for _, key in least)))
    wanted = list(dict.fromkeys((*list(some)[: _CLUSTERS - 2], *first)))[:_CLUSTERS]
    sizes = counts[np.searchsorted(found, np.array(wanted, np.uint64))].tolist()
    chosen = {key: DuplicateCluster(size, []) for key, size in zip(wanted, sizes, strict=True)}
    for batch in _batches(path, "cluster", "id", "kept", "similarity"):
        key = hashes(batch.column("cluster"))
        here = np.isin(key, np.array(wanted, np.uint64))
        for cluster, row in zip(key[here].tolist(), batch.filter(pa.array(here)).to_pylist(), strict=True):
            members, member = chosen[cluster].members, {**row, "excerpt": ""}
            if row["kept"]:
                members.insert(0, member)
                del members[_MEMBERS:]
            elif len(members) < _MEMBERS:
                members.append(member)
    return list(chosen.values())


def _rejects(facts: Facts, path: Path) -> None:
    """Finds examples for each reason, and the texts of duplicates that were dropped."""
    lost = facts.members(kept=False)
    for batch in _batches(path, "id", "reason", "excerpt", "detail", "file"):
        for reason in pc.unique(batch.column("reason")).to_pylist():
            mine = facts.rejects.get(reason, [])
            if len(mine) < _REJECTS and (mine or len(facts.rejects) < _REASONS):
                here = batch.filter(pc.equal(batch.column("reason"), reason))
                facts.rejects[reason] = mine + here.slice(0, _REJECTS - len(mine)).to_pylist()
        for at in _among(batch.column("id"), lost) if lost else ():
            for member in lost[batch.column("id")[at].as_py()]:
                member["excerpt"] = batch.column("excerpt")[at].as_py() or ""


def _hits(facts: Facts, path: Path) -> None:
    ids = [np.empty(0, np.uint64)]
    exam = ("exam", "exam_version", "exam_split", "item")
    for batch in _batches(path, *exam, "id", "split", "kind", "share", "field", "overlap", "dropped"):
        ids.append(hashes(batch.column("id")))
        facts.hits = heapq.nsmallest(_HITS, [*facts.hits, *batch.to_pylist()], key=_clarity)
        facts.hits_listed += batch.num_rows
    facts.hit_rows = len(np.unique(np.concatenate(ids)))


def _clarity(hit: Mapping[str, Any]) -> tuple[float, str, str, str]:
    return -(hit["share"] or 0.0), hit["exam"] or "", hit["item"] or "", hit["id"]
