"""A mixture, from built datasets to a published one.

Like a source's build, it is made of independent tasks whose results do not depend on who finished first,
it is staged beside the output folder, and it is put in place by one rename.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meadow import __version__
from meadow.core import rows
from meadow.core.licenses import PARTS, verdict_of
from meadow.core.manifest import Manifest
from meadow.core.store import ATTRIBUTION, CARD, MANIFEST, PLOT, REJECTED, Store
from meadow.core.workers import Pool, in_order
from meadow.describe import attribution
from meadow.describe.cards.dataset import exam_rows, shortage
from meadow.describe.shim import typed
from meadow.mix import card, drawing
from meadow.mix import lock as locks
from meadow.mix import tasks as work
from meadow.mix.definition import Mixture, MixtureError
from meadow.mix.finding import (
    Ensure,
    Found,
    Here,
    Missing,
    find_parts,
    read_hits,
    refuse_missing,
    refuse_unchecked,
)
from meadow.pipeline import assembly, tasks

if TYPE_CHECKING:
    from meadow.core.builder import Builder

#: What stands as `source` in the manifest of a mixture.
SOURCE = "mixture"
#: The most buckets of a split. Beyond 8 GB of rows, buckets grow instead: each has a place in an index of
#: every working file.
_MOST_BUCKETS = 1024

Progress = Callable[[str, str, int, int], None]


def build(
    mixture: Mixture,
    store: Store,
    *,
    raw: Path | None = None,
    sample: bool = False,
    executor: Executor | None = None,
    workers: int = 1,
    lock: Path | None = None,
    allow_missing: bool = False,
    progress: Progress | None = None,
    ensure: Ensure | None = None,
    builders: Mapping[str, type[Builder]] | None = None,
    scratch: Path | None = None,
) -> dict[str, Any]:
    """Builds a mixture and publishes it as the dataset ``mixture_<name>``.

    Args:
        mixture: The mixture.
        store: The output folder, which has its parts, or gets them from `ensure`.
        raw: The raw store; None for ``$MEADOW_RAW`` or the user's cache.
        sample: Mix embedded samples, whatever the raw store holds.
        executor: Where tasks run; None for processes of its own.
        workers: Their number. The output is the same for any.
        lock: A lock file that must be reproduced.
        allow_missing: Build without parts that are missing, and say so in all that describes it.
        progress: Told of finished pieces of work.
        ensure: Builds datasets by name, with a `meadow.pipeline.build.Report` of it; None to take what is built.
        builders: The sources to choose from; None for those of all installed packages.
        scratch: An empty folder of a build that has locked `store`; None to lock it now.

    Returns:
        The manifest.

    Raises:
        LockMismatchError: It does not come out as the lock says; nothing was published.
        MixtureError: A part is missing or cannot be in a mixture; nothing was published.
        StoreError: The output folder cannot be used, or another build is using it.
    """
    from meadow.core.builder import available
    from meadow.core.store import default_raw

    locked = locks.read(lock) if lock is not None else None
    if locked is not None:
        wrong = locks.compare_definitions(locked, mixture)
        if wrong:
            remedy = f"To build the one in the lock, name the lock file: mixture:{lock}"
            raise locks.LockMismatchError(lock, wrong, [remedy])
    classes = builders if builders is not None else available()[0]
    root = None if sample else Path(raw) if raw is not None else default_raw()
    versions = None if locked is None else {n: d["version"] for n, d in locked["datasets"].items()}
    here = Here(store, root, classes, versions)
    found, missing = find_parts(mixture, here, ensure, _left_out(mixture, locked))
    a_sample = bool(found) and all(each.manifest["sample"] for each in found)
    datasets = list({each.manifest["name"]: each.manifest for each in found}.values())
    if locked is not None:
        known = {entry["dataset"] for entry in locked["missing"]}
        wrong = locks.compare_datasets(locked, datasets)
        reasons = [f"{m.dataset}: {m.reason}. {m.remedy}" for m in missing if m.dataset not in known]
        if wrong or reasons:
            raise locks.LockMismatchError(lock, wrong, reasons)
    refuse_missing(mixture, missing, sample=a_sample, allowed=allow_missing or locked is not None)
    refuse_unchecked(mixture, found)
    if not found:
        raise MixtureError(
            f"mixture {mixture.name}: none of its parts is there, so there is nothing to build"
        )
    with contextlib.ExitStack() as stack:
        scratch = scratch if scratch is not None else stack.enter_context(store.writing())
        pool = executor or stack.enter_context(Pool(workers))
        job = _Job(
            mixture, store, found, missing, a_sample, pool, 2 * workers + 2, scratch, progress or _silent
        )
        manifest, folder = job.run()
        if locked is not None:
            wrong, remarks = locks.compare_results(locked, manifest)
            if wrong:
                raise locks.LockMismatchError(lock, wrong, remarks)
        _publish(job, manifest, folder, datasets)
    return manifest


def _silent(source: str, stage: str, done: int, total: int) -> None:
    pass


def _left_out(mixture: Mixture, locked: Mapping[str, Any] | None) -> dict[int, Missing]:
    """The parts that a lock says were missing when it was made."""
    reasons = {entry["dataset"]: entry["reason"] for entry in (locked or {}).get("missing", ())}
    return {
        number: Missing(number, name, reasons[name], "")
        for number, part in enumerate(mixture.parts)
        for name in part.names
        if name in reasons
    }


def _publish(
    job: _Job, manifest: dict[str, Any], folder: Path, datasets: Sequence[Mapping[str, Any]]
) -> None:
    from meadow.pipeline import build as pipeline

    mixture, store = job.mixture, job.store
    for then in datasets:
        now = store.manifest(then["name"], then["version"])
        if now["rows_sha256"] != then["rows_sha256"]:
            raise MixtureError(f"{then['name']} was built anew while {mixture.dataset} was; build that again")
    Manifest.model_validate(manifest).write(folder / MANIFEST)
    assembly.write_json(folder / locks.LOCK, locks.make(mixture, manifest, datasets))
    plot = job.executor.submit(tasks.draw, manifest)
    versions = store.versions(mixture.dataset)
    earlier = [mixture.version] if mixture.version in versions else versions[-1:]
    before = store.folder(mixture.dataset, earlier[0]) / CARD if earlier else None
    existing = before.read_text(encoding="utf-8", errors="replace") if before and before.is_file() else None
    (folder / CARD).write_text(card.make(manifest, mixture, existing), encoding="utf-8", newline="\n")
    (folder / PLOT).write_bytes(plot.result())
    pipeline.publish(store, [(manifest, folder)], pipeline.Report(store.root))


def notes(manifest: Mapping[str, Any]) -> list[str]:
    """What a person should know of a mixture that was built: what is missing, what is smaller than asked."""
    name, about = manifest["name"], manifest["mixture"]
    found = [f"{name} is INCOMPLETE: without {m['dataset']}: {m['reason']}" for m in about["missing"]]
    found += [f"{name}: {line}" for line in map(shortage, typed(manifest).mixture.parts) if line]
    found += [f"{name}: {line}" for line in exam_rows(typed(manifest))]
    absent = about.get("not_in_meadow") or []
    if absent:
        found.append(
            f"{name}: {len(absent)} parts of the published collection are not in it, its card says why: "
            + ", ".join(each["name"] for each in absent)
        )
    return found


@dataclass
class _Job:
    """One mixture on its way from built datasets to a staged folder."""

    mixture: Mixture
    store: Store
    found: list[Found]
    missing: list[Missing]
    sample: bool
    executor: Executor
    ahead: int
    scratch: Path
    progress: Progress

    def run(self) -> tuple[dict[str, Any], Path]:
        """Returns the manifest and the staged folder."""
        self.scratch = self.scratch / self.mixture.dataset
        folder = self.scratch / "staged"
        folder.mkdir(parents=True)
        extra = [c for c in PARTS if any(c in each.manifest["features"] for each in self.found)]
        columns = {**rows.COLUMNS, work.DATASET: "string", **dict.fromkeys(extra, "string")}
        scanned = self._scan()
        wanted = self.mixture.wanted()
        pools = [
            drawing.Pool(wanted[each.number], [(split, s) for split, _, s in files])
            for each, files in zip(self.found, scanned, strict=True)
        ]
        drawn = drawing.draw(pools, self.scratch)
        dealt = self._deal(scanned, drawn, columns)
        written = self._write(dealt, columns, folder)
        manifest = self._manifest(columns, scanned, dealt, written, folder)
        paths = [folder / name for files in written.values() for name, _ in files]
        manifest["mixture"]["exam_rows"] = self._exam_rows(paths)
        changes = {
            each.manifest["source"]: each.manifest["changes"]
            for each in self.found
            if each.manifest.get("changes")
        }
        self.executor.submit(
            attribution.write, paths, folder / ATTRIBUTION, manifest["license_terms"], changes
        ).result()
        return manifest, folder

    def _run(self, stage: str, calls: list[tuple]) -> Iterator[Any]:
        for done, result in enumerate(in_order(self.executor, iter(calls), self.ahead), start=1):
            self.progress(self.mixture.dataset, stage, done, len(calls))
            yield result

    def _files(self, each: Found) -> list[tuple[str, Path]]:
        manifest = each.manifest
        files = self.store.files(manifest["name"], manifest["version"])
        return [(split, path) for split in each.splits for path in files[split]]

    def _scan(self) -> list[list[tuple[str, Path, work.Scanned]]]:
        calls, owners = [], []
        for number, each in enumerate(self.found):
            manifest, hits = each.manifest, None
            if "exclude_hits" in self.mixture.contamination:
                hits = self.scratch / f"hits-{number}.npy"
                np.save(hits, np.array(read_hits(self.store, manifest), np.str_))
            conditions = work.Conditions(
                each.part.where, self.mixture.licenses, manifest["license_terms"], manifest["sample"], hits
            )
            columns = frozenset(manifest["features"])
            for split, path in self._files(each):
                target = self.scratch / f"scan-{len(calls)}"
                owners.append((number, split, path))
                calls.append(
                    (work.scan, path, columns, manifest["source"], self.mixture.seed, conditions, target)
                )
        found: list[list[tuple[str, Path, work.Scanned]]] = [[] for _ in self.found]
        for (number, split, path), result in zip(owners, self._run("reading", calls), strict=True):
            found[number].append((split, path, result))
        return found

    def _deal(
        self,
        scanned: list[list[tuple[str, Path, work.Scanned]]],
        drawn: list[drawing.Drawn],
        columns: Mapping[str, str],
    ) -> list[list[tuple[str, work.Dealt]]]:
        calls, owners = [], []
        buckets = self._buckets(drawn, scanned)
        for number, (each, files) in enumerate(zip(self.found, scanned, strict=True)):
            manifest, hashes = each.manifest, drawn[number]
            for split, path, scan in files:
                mine = hashes
                if split == "train":
                    mine = drawing.Drawn(hashes.keys, hashes.earlier, hashes.contents, None)
                label = f"{manifest['name']}/{manifest['version']}/{path.name}"
                target = self.scratch / f"deal-{len(calls)}"
                owners.append((number, split))
                calls.append(
                    (work.deal, path, scan, mine, manifest["name"], label, self.mixture.seed, columns, buckets[split], target)
                )  # fmt: skip
        found: list[list[tuple[str, work.Dealt]]] = [[] for _ in self.found]
        for (number, split), result in zip(owners, self._run("mixing", calls), strict=True):
            found[number].append((split, result))
        return found

    def _buckets(
        self, drawn: list[drawing.Drawn], scanned: list[list[tuple[str, Path, work.Scanned]]]
    ) -> dict[str, int]:
        """Buckets per split, from the bytes that the part's rows have on average: close is good enough."""
        size: Counter = Counter()
        for each, hashes, files in zip(self.found, drawn, scanned, strict=True):
            share = len(np.load(hashes.keys, mmap_mode="r")) / max(1, sum(s.free for _, _, s in files))
            for split in each.splits:
                size[split] += share * each.manifest["splits"][split]["bytes"]
        return {
            split: min(_MOST_BUCKETS, max(1, math.ceil(nbytes / work.BUCKET_BYTES)))
            for split, nbytes in size.items()
        }

    def _write(
        self, dealt: list[list[tuple[str, work.Dealt]]], columns: Mapping[str, str], folder: Path
    ) -> dict[str, list[tuple[str, tasks.Written]]]:
        sources: dict[str, list[work.Dealt]] = {}
        rejects = []
        for files in dealt:
            for split, one in files:
                if one.rows:
                    sources.setdefault(split, []).append(one)
                if one.rejects is not None:
                    rejects.append(one.rejects)
        if not sources:
            raise MixtureError(
                f"mixture {self.mixture.name}: no row of its parts can be in it; {self._why(dealt)}"
            )
        calls, owners = [], []
        for split in sorted(sources, key=lambda s: (s != "train", s != "validation", s)):
            used = 1 + max(b for one in sources[split] for b in one.batches)
            count = max(1, round(sum(one.bytes for one in sources[split]) / assembly.FILE_BYTES))
            edges = [round(i * used / min(count, used)) for i in range(min(count, used) + 1)]
            for index, (first, last) in enumerate(zip(edges, edges[1:], strict=False)):
                name = f"{split}-{index:05d}-of-{len(edges) - 1:05d}.parquet"
                owners.append((split, name))
                target = str(self.scratch / f"gather-{len(calls)}")
                calls.append((work.gather, sources[split], first, last, columns, folder / name, target))
        calls.append((tasks.write_rejected, rejects, [], SOURCE, folder / REJECTED))
        *results, _ = self._run("writing", calls)
        written: dict[str, list[tuple[str, tasks.Written]]] = {}
        for (split, name), result in zip(owners, results, strict=True):
            written.setdefault(split, []).append((name, result))
        return written

    def _why(self, dealt: list[list[tuple[str, work.Dealt]]]) -> str:
        dropped: Counter = Counter()
        for files in dealt:
            for _, one in files:
                dropped.update(one.dropped)
        return (
            ", ".join(f"{reason} {count:,}" for reason, count in sorted(dropped.items())) or "they have none"
        )

    def _manifest(
        self,
        columns: dict[str, str],
        scanned: list[list[tuple[str, Path, work.Scanned]]],
        dealt: list[list[tuple[str, work.Dealt]]],
        written: dict[str, list[tuple[str, tasks.Written]]],
        folder: Path,
    ) -> dict[str, Any]:
        mixture = self.mixture
        every = [one for files in written.values() for _, one in files]
        digest = rows.content_hash(columns)
        for split, files in written.items():
            digest.update(split.encode() + b"\n")
            for _, one in files:
                with Path(one.digests).open("rb") as stream:
                    while chunk := stream.read(2**20):
                        digest.update(chunk)
        licenses: Counter = Counter()
        for one in every:
            licenses.update(one.licenses)
        manifests = [each.manifest for each in self.found]
        licensing = self._licensing(dealt)
        kinds = Counter()
        for files in dealt:
            for _, one in files:
                kinds.update(one.tasks)
        wanted = mixture.wanted()
        return {
            "name": mixture.dataset,
            "source": SOURCE,
            "version": mixture.version,
            "description": self._description(),
            "homepage": mixture.homepage,
            "release_notes": dict(mixture.release_notes),
            "sample": self.sample,
            "languages": _in_order(code for m in manifests for code in m["languages"]),
            "task": next(iter(kinds)) if len(kinds) == 1 else "mixed",
            "test_only": False,
            "parameters": {"seed": mixture.seed},
            "raw": _raw(manifests),
            "mixture": {
                "name": mixture.name,
                "definition_sha256": mixture.sha256(),
                "seed": mixture.seed,
                "complete": not self.missing,
                "parts": [
                    _part(each, wanted[each.number], scans, [d for _, d in files])
                    for each, scans, files in zip(self.found, scanned, dealt, strict=True)
                ],
                "missing": [each.described() for each in self.missing],
                "not_in_meadow": mixture.described().get("not_in_meadow", []),
                "counts_from": mixture.counts_from,
                "licensing": licensing,
            },
            "funnel": _funnel(scanned, dealt, sum(one.rows for one in every)),
            "splits": {
                split: {
                    "rows": sum(one.rows for _, one in files),
                    "bytes": sum(one.nbytes for _, one in files),
                    "files": [{"path": n, "bytes": one.bytes, "sha256": one.sha256} for n, one in files],
                }
                for split, files in written.items()
            },
            "features": columns,
            "licenses": dict(sorted(licenses.items())),
            "license_terms": _terms(manifests, licenses),
            "license_verdict": verdict_of(licensing).described(),
            "citation": _citation(mixture, manifests),
            "lengths": {
                name: assembly.percentiles([one.lengths[name] for one in every])
                for name in ("input", "output")
            },
            "example": assembly.first_row(folder, written),
            "ids_sha256": assembly.ids_sha256([one.ids for one in every], self.scratch),
            "rows_sha256": digest.hexdigest(),
            "built_with": {"meadow": __version__, "pyarrow": pa.__version__},
        }

    def _exam_rows(self, paths: Sequence[Path]) -> dict[str, int]:
        """Rows per dataset that overlap an exam item, which the dataset's build kept and only listed."""
        hits = {}
        for each in self.found:
            manifest = each.manifest
            if (manifest.get("contamination") or {}).get("policy") == "flag":
                hits[manifest["name"]] = pa.array(read_hits(self.store, manifest), pa.string())
        found: Counter = Counter()
        for path in paths if any(map(len, hits.values())) else ():
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(columns=["id", work.DATASET]):
                    for name, ids in hits.items():
                        mine = pc.equal(batch[work.DATASET], name)
                        found[name] += pc.and_(mine, pc.is_in(batch["id"], value_set=ids)).true_count
        return {name: count for name, count in sorted(found.items()) if count}

    def _description(self) -> str:
        if not self.missing:
            return self.mixture.description
        return f"INCOMPLETE, without {', '.join(m.dataset for m in self.missing)}: {self.mixture.description}"

    def _licensing(self, dealt: list[list[tuple[str, work.Dealt]]]) -> dict[str, Any]:
        """What `meadow.core.licenses.verdict_of` judges: per dataset, the rows taken and their terms."""
        found: dict[str, Any] = {}
        for each, files in zip(self.found, dealt, strict=True):
            manifest = each.manifest
            mine = found.setdefault(
                manifest["name"], {"licenses": Counter(), "license_terms": {}, "generators": Counter()}
            )
            for _, one in files:
                mine["licenses"].update(one.licenses)
                if not manifest["sample"]:  # whose rows only imitate a model's
                    mine["generators"].update(one.generators)
            mine["license_terms"].update(
                {i: t for i, t in manifest["license_terms"].items() if mine["licenses"][i]}
            )
        return {
            name: {key: dict(sorted(value.items())) for key, value in entry.items()}
            for name, entry in found.items()
        }


def _in_order(values: Iterator[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _part(
    each: Found, wanted: int | None, scans: list[tuple[str, Path, work.Scanned]], dealt: list[work.Dealt]
) -> dict[str, Any]:
    manifest = each.manifest
    found: dict[str, Any] = {
        "dataset": manifest["name"],
        "version": manifest["version"],
        "split": list(each.splits),
        "wanted": wanted,
        "available": sum(scan.free for _, _, scan in scans),
        "taken": sum(one.rows for one in dealt),
        "ids_sha256": manifest["ids_sha256"],
        "rows_sha256": manifest["rows_sha256"],
        "sample": manifest["sample"],
    }
    checked = manifest.get("contamination")
    if checked:
        found["contamination"] = {
            "policy": checked.get("policy"),
            "exams": _in_order(
                exam["exam"] + (" (sample)" if exam.get("sample") else "")
                for exam in checked.get("exams", ())
            ),
            "unchecked": list(checked.get("unchecked", ())),
        }
    for check in ("privacy", "duplicates"):
        if manifest.get(check):
            found[check] = {"policy": manifest[check].get("policy")}
    if each.part.published is not None:
        found["published"] = each.part.published
    if each.part.note:
        found["note"] = each.part.note
    return found


def _raw(manifests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The raw files of all parts. Of two parts from one source most are the same."""
    files = {(f["path"], f["sha256"]): f for manifest in manifests for f in manifest["raw"]}
    return [dict(files[key]) for key in sorted(files)]


def _terms(manifests: Sequence[Mapping[str, Any]], licenses: Mapping[str, int]) -> dict[str, Any]:
    """The terms of all parts; where several give evidence for a licence, each is named with its own."""
    found = {}
    for spdx in sorted(licenses):
        by_dataset = {m["name"]: m["license_terms"][spdx] for m in manifests if spdx in m["license_terms"]}
        first = next(iter(by_dataset.values()), {})
        named: dict[str, list[str]] = {}
        for name, term in by_dataset.items():
            named.setdefault(term.get("evidence", ""), []).append(name)
        evidence = first.get("evidence", "")
        if len(named) > 1:
            evidence = " ".join(f"For {', '.join(names)}: {why}" for why, names in named.items() if why)
        found[spdx] = {**first, "evidence": evidence}
    return found


def _citation(mixture: Mixture, manifests: Sequence[Mapping[str, Any]]) -> str:
    """The BibTeX entries of the mixture and its parts, each key once."""
    texts = [mixture.citation, *(manifest.get("citation") or "" for manifest in manifests)]
    found: dict[str, str] = {}
    for entry in re.split(r"^(?=@)", "\n".join(texts), flags=re.MULTILINE):
        if entry.strip():
            key = re.match(r"@\w+\s*\{\s*([^,\s]+)", entry)
            found.setdefault(key[1] if key else entry, entry.strip())
    return "\n\n".join(found.values())


def _funnel(
    scanned: list[list[tuple[str, Path, work.Scanned]]], dealt: list[list[tuple[str, work.Dealt]]], kept: int
) -> dict[str, Any]:
    read = left = sum(scan.rows for files in scanned for _, _, scan in files)
    dropped: Counter = Counter()
    for files in dealt:
        for _, one in files:
            dropped.update(one.dropped)
    named = {reason for reasons in work.STAGES.values() for reason in reasons}
    stages = []
    for stage, reasons in work.STAGES.items():
        mine = {
            reason: count
            for reason, count in sorted(dropped.items())
            if reason in reasons or (stage == "license" and reason not in named)
        }
        stages.append({"stage": stage, "read": left, "kept": left - sum(mine.values()), "dropped": mine})
        left = stages[-1]["kept"]
    if left != kept:
        raise MixtureError(f"the funnel does not balance: read {read}, kept {kept}, dropped {dict(dropped)}")
    return {"read": read, "kept": kept, "dropped": dict(sorted(dropped.items())), "stages": stages}
