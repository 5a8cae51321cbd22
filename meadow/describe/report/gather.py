"""Facts about the datasets of a store, read out of manifests and Parquet files in flat memory.

Numbers come from manifests wherever those have them. What only the files tell (which rows to show, the
sites that rows name) is read in one pass over two columns; whole rows are read from their row groups.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from meadow.describe.diff import BATCH, Difference, RowFiles, diff
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
class VersionRow:
    """One of a dataset's versions: what its manifest says."""

    version: str
    rows: int
    read: int
    note: str


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row picked to be shown.

    Attributes:
        row: Its columns.
        split: Its split.
        files: The raw files that it can come from, as far as their paths and its id tell.
    """

    row: Mapping[str, Any]
    split: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """One row of a cluster of duplicates.

    Attributes:
        id: Its id.
        kept: Whether it survived.
        similarity: To the survivor, 0 to 1; None where that is not recorded.
        excerpt: The beginning of its text; empty where this dataset does not have it.
    """

    id: str
    kept: bool
    similarity: float | None
    excerpt: str


@dataclass(frozen=True, slots=True)
class DuplicateCluster:
    """Rows that are duplicates of one another: `size` of them, some shown."""

    size: int
    members: tuple[ClusterMember, ...]


@dataclass
class Facts:
    """What a page shows of one dataset.

    Attributes:
        name: The dataset.
        manifest: That of its newest version.
        versions: All versions, newest first.
        rows: Random rows.
        rows_cut: Rows not shown because texts were too long for a page.
        sites: Rows per host of `source_url`, most first.
        clusters: Examples of duplicates.
        hits: Rows of ``contamination.parquet``, the clearest first.
        hits_listed: How many that file has.
        hit_rows: Rows that it names: one row can hold items of several exams.
        rejects: Examples of what was left out, per reason.
        attributed: Rows of ``ATTRIBUTION.parquet``, None where there is none.
        difference: From the version before to the newest.
        problems: What could not be read.
    """

    name: str
    manifest: Manifest
    versions: list[VersionRow] = field(default_factory=list)
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


@dataclass
class Gathered:
    """What a page shows.

    Attributes:
        datasets: By name.
        problems: Datasets that cannot be shown, and why.
        seed: That of the random rows.
    """

    datasets: list[Facts]
    problems: list[str]
    seed: int


def gather(store: Store, *, rows: int = 50, seed: int = 0) -> Gathered:
    """Reads what a page shows.

    Args:
        store: The output folder.
        rows: Random rows of each dataset: those whose ids have the lowest hashes, so that they stay the
            same when others come and go.
        seed: Which hash.

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
    name = manifest.name
    facts = Facts(name, manifest, _versions(store, name))
    folder = store.folder(name, manifest.version)
    reader = _Reader(facts, store.root)
    reader(DUPLICATES, lambda: _clusters(facts, folder))
    reader(REJECTED, lambda: _rejects(facts, folder))
    reader("rows", lambda: _rows(facts, RowFiles(store, manifest), rows, seed, budget))
    reader(CONTAMINATION, lambda: _hits(facts, folder))
    reader(ATTRIBUTION, lambda: _attributed(facts, folder))
    if len(facts.versions) > 1:
        before = facts.versions[1].version
        reader("difference", lambda: _difference(facts, store, before))
    if store.manifest(name, manifest.version).rows_sha256 != manifest.rows_sha256:
        raise StoreError(f"{name} was built anew while it was being read; write the report again")
    return facts


class _Reader:
    """Calls what reads a file; what cannot be read is a line on the page, without this machine's paths."""

    def __init__(self, facts: Facts, root: Path) -> None:
        self.facts, self.root = facts, root

    def __call__(self, what: str, read: Callable[[], None]) -> None:
        try:
            read()
        except _UNREADABLE as error:
            reason = str(error).replace(str(self.root.resolve()), "").replace(str(self.root), "")
            self.facts.problems.append(f"{what} cannot be read: {' '.join(reason.split())[:300]}")


def _versions(store: Store, name: str) -> list[VersionRow]:
    found = []
    for version in reversed(store.versions(name)):
        try:
            manifest = store.manifest(name, version)
        except StoreError:
            continue
        note = manifest.release_notes.get(version, "")
        found.append(VersionRow(version, manifest.rows, manifest.funnel.read, note))
    return found


def _difference(facts: Facts, store: Store, before: str) -> None:
    facts.difference = diff(store, facts.name, before, facts.manifest.version, limit=_CHANGES)


def _batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        there = [name for name in columns if name in file.schema_arrow.names]
        yield from file.iter_batches(BATCH, columns=there, use_threads=False)


def _rows(facts: Facts, files: RowFiles, count: int, seed: int, budget: int) -> None:
    """Picks rows, counts sites, and finds the texts of survivors."""
    wanted = {member.id for cluster in facts.clusters for member in cluster.members if member.kept}
    wanted_ids = pa.array(sorted(wanted), pa.string())
    survivors: dict[int, str] = {}
    best, where = np.empty(0, np.uint64), np.empty(0, np.int64)
    sites: Counter = Counter()
    start = 0
    for path in files.paths:
        for batch in _batches(path, ("id", "source_url")):
            ids = batch.column("id")
            best = np.concatenate((best, hashes(ids, seed)))
            where = np.concatenate((where, np.arange(start, start + len(ids))))
            if len(best) > count:
                # Of equal hashes the first row counts: lexsort's last key is the first to sort by.
                order = np.lexsort((where, best))[:count]
                best, where = best[order], where[order]
            if len(wanted_ids):
                for at in np.flatnonzero(pc.is_in(ids, wanted_ids).to_numpy(zero_copy_only=False)).tolist():
                    survivors[start + at] = ids[at].as_py()
            if "source_url" in batch.schema.names:
                _count_sites(batch.column("source_url"), sites)
            start += batch.num_rows
    facts.sites = sorted(sites.items(), key=lambda item: (-item[1], item[0]))
    order = where[np.lexsort((where, best))].tolist()[:count]
    read = files.read([*order, *survivors])
    raw = [file.path for file in facts.manifest.raw]
    for number in order:
        row = {**dict.fromkeys(COLUMNS), **read[number]}
        budget -= sum(min(len(value), MOST) for value in row.values() if isinstance(value, str))
        if budget < 0 and facts.rows:
            facts.rows_cut += 1
        else:
            facts.rows.append(ShownRow(row, files.split_of(number), raw_files(row["id"], raw)))
    texts = {row_id: _excerpt(read[number]) for number, row_id in survivors.items()}
    facts.clusters = [
        DuplicateCluster(c.size, tuple(ClusterMember(m.id, m.kept, m.similarity, m.excerpt or texts.get(m.id, "")) for m in c.members))
        for c in facts.clusters
    ]  # fmt: skip


def _count_sites(urls: pa.Array, sites: Counter) -> None:
    found = pc.struct_field(pc.extract_regex(urls, r"^https?://(?P<host>[^/?#\s]+)"), "host")
    for entry in pc.value_counts(found).to_pylist():
        sites[entry["values"] or ""] += entry["counts"]


def raw_files(row_id: str, raw: Sequence[str]) -> tuple[str, ...]:
    """The raw files that a row can come from, as far as that can be told.

    A part of the id that is a folder or the stem of a file in the raw store names it, such as the site
    in ``stackexchange/SITE/a/9``. Of a single raw file no part is needed.
    """
    if len(raw) == 1:
        return tuple(raw)
    parts = set(row_id.split("/")[1:-1])
    return tuple(path for path in raw if parts & {*path.split("/")[1:-1], Path(path).stem})


def _excerpt(row: Mapping[str, Any]) -> str:
    words = " ".join(str(row.get("input") or row.get("output") or "").split())
    return words[:200]


def _clusters(facts: Facts, folder: Path) -> None:
    """Picks clusters to show: the largest, those least alike, and the first."""
    path = folder / DUPLICATES
    if not path.is_file():
        return
    keys, least, first = [], [], []
    for number, batch in enumerate(_batches(path, ("cluster", "kept", "similarity"))):
        key = hashes(batch.column("cluster"))
        keys.append(key)
        pairs = zip(
            key.tolist(),
            batch.column("kept").to_pylist(),
            batch.column("similarity").to_pylist(),
            strict=True,
        )
        alike = [(s, k) for k, kept, s in pairs if not kept and s is not None and s < 1]
        least = heapq.nsmallest(4 * _CLUSTERS, {*least, *alike})
        if number == 0:
            first = key[: 10 * _CLUSTERS].tolist()
    if not keys:
        return
    found, counts = np.unique(np.concatenate(keys), return_counts=True)
    largest = found[np.lexsort((found, -counts))[: _CLUSTERS // 4]]
    chosen: dict[int, None] = dict.fromkeys(largest.tolist())
    for _, key in least:
        if len(chosen) < _CLUSTERS - 2:
            chosen[key] = None
    for key in first:
        if len(chosen) < _CLUSTERS:
            chosen[key] = None
    wanted = np.array(list(chosen), np.uint64)
    sizes = dict(zip(wanted.tolist(), counts[np.searchsorted(found, wanted)].tolist(), strict=True))
    members: dict[int, list[ClusterMember]] = {key: [] for key in chosen}
    for batch in _batches(path, ("cluster", "id", "kept", "similarity")):
        key = hashes(batch.column("cluster"))
        for at in np.flatnonzero(np.isin(key, wanted)).tolist():
            mine, kept = members[int(key[at])], batch.column("kept")[at].as_py()
            member = ClusterMember(
                batch.column("id")[at].as_py(), kept, batch.column("similarity")[at].as_py(), ""
            )
            if kept:
                mine.insert(0, member)
                del mine[_MEMBERS:]
            elif len(mine) < _MEMBERS:
                mine.append(member)
    facts.clusters = [DuplicateCluster(sizes[key], tuple(members[key])) for key in chosen]


def _rejects(facts: Facts, folder: Path) -> None:
    """Finds examples for each reason, and the texts of duplicates that were dropped."""
    path = folder / REJECTED
    if not path.is_file():
        return
    lost = {m.id for cluster in facts.clusters for m in cluster.members if not m.kept}
    wanted_ids = pa.array(sorted(lost), pa.string())
    texts: dict[str, str] = {}
    for batch in _batches(path, ("id", "reason", "excerpt", "detail", "file")):
        for reason in pc.unique(batch.column("reason")).to_pylist():
            mine = facts.rejects.get(reason, [])
            if len(mine) >= _REJECTS or (reason not in facts.rejects and len(facts.rejects) >= _REASONS):
                continue
            here = pc.equal(batch.column("reason"), reason).to_numpy(zero_copy_only=False)
            at = np.flatnonzero(here)[: _REJECTS - len(mine)]
            facts.rejects[reason] = mine + batch.take(pa.array(at)).to_pylist()
        if len(wanted_ids):
            ids = batch.column("id")
            for at in np.flatnonzero(pc.is_in(ids, wanted_ids).to_numpy(zero_copy_only=False)).tolist():
                texts[ids[at].as_py()] = batch.column("excerpt")[at].as_py() or ""
    facts.clusters = [
        DuplicateCluster(c.size, tuple(ClusterMember(m.id, m.kept, m.similarity, "" if m.kept else texts.get(m.id, "")) for m in c.members))
        for c in facts.clusters
    ]  # fmt: skip


def _hits(facts: Facts, folder: Path) -> None:
    path = folder / CONTAMINATION
    if not path.is_file():
        return
    best: list[tuple[Any, ...]] = []
    ids = [np.empty(0, np.uint64)]
    exam = ("exam", "exam_version", "exam_split", "item")
    for batch in _batches(path, (*exam, "id", "split", "kind", "share", "field", "overlap", "dropped")):
        ids.append(hashes(batch.column("id")))
        keyed = (
            (
                -(row["share"] or 0.0),
                row["exam"] or "",
                row["item"] or "",
                row["id"],
                facts.hits_listed + at,
                row,
            )
            for at, row in enumerate(batch.to_pylist())
        )
        best = heapq.nsmallest(_HITS, [*best, *keyed], key=lambda item: item[:5])
        facts.hits_listed += batch.num_rows
    facts.hits = [item[-1] for item in best]
    facts.hit_rows = len(np.unique(np.concatenate(ids)))


def _attributed(facts: Facts, folder: Path) -> None:
    path = folder / ATTRIBUTION
    if path.is_file():
        facts.attributed = pq.read_metadata(path).num_rows
