"""The items of an exam: a built multiple-choice dataset's evaluation split, or a file.

Either the whole exam can be used or nothing is scored: an accuracy over fewer items than the exam has, with
nobody told which are missing, could not be compared with any other. What can be known beforehand to have no
place in a score, questions that need a picture, is left out and counted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from meadow.core.manifest import Manifest
from meadow.core.row import ids_sha256
from meadow.core.store import REJECTED, Store, StoreError, default_out
from meadow.filters.contamination import built_exams
from meadow.filters.contamination import read_exam as read_source
from meadow.score.items import WITH_IMAGE, ExamError, ExamItem, name_of, read_items, refuse, row_item

__all__ = ["Exam", "ExamError", "ExamItem", "read_exam"]

_NEEDS_IMAGE = "needs an image"  # what builders write into rejected.parquet


@dataclass(frozen=True)
class Exam:
    """An exam.

    Attributes:
        name: The dataset's name, or the file's without its ending.
        version: The dataset's version; empty for a file.
        items: Its items, part after part.
        excluded_parts: How many items of each part are left out, by reason.
        sample: Whether it is the small embedded sample in place of the real exam.
        license: Licences of its rows.
        checked_as: SHA-256 of each part as contamination reports give it of the exam that they checked.
        whole: How many items there are without a limit.
        source: The source that the dataset comes from; empty for a file.
    """

    name: str
    version: str
    items: tuple[ExamItem, ...]
    excluded_parts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    sample: bool = False
    license: str = ""
    checked_as: Mapping[str, str] = field(default_factory=dict)
    whole: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        if not self.whole:
            object.__setattr__(self, "whole", len(self.items))

    @cached_property
    def ids_sha256(self) -> str:
        """SHA-256 over all ids, as manifests have it."""
        return ids_sha256(item.id for item in self.items)

    @cached_property
    def items_sha256(self) -> str:
        """SHA-256 over all that is in the items; another edition of the exam has another."""
        contents = (
            [i.id, i.part, i.question, i.context, [*i.options.items()], i.answer_key] for i in self.items
        )
        return hashlib.sha256("\n".join(sorted(map(json.dumps, contents))).encode()).hexdigest()

    @property
    def title(self) -> str:
        """Name and version, as reports show it."""
        return f"{self.name} {self.version}".strip()

    @property
    def excluded(self) -> dict[str, int]:
        """How many items are left out, by reason."""
        return dict(sum(map(Counter, self.excluded_parts.values()), Counter()))

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts in order."""
        return tuple(dict.fromkeys(item.part for item in self.items))

    def of(self, part: str) -> list[ExamItem]:
        """The items of a part."""
        return [item for item in self.items if item.part == part]

    def described(self) -> dict[str, Any]:
        """What ``scores.json`` says of it."""
        return {
            "name": self.name,
            "version": self.version,
            "sample": self.sample,
            "license": self.license,
            "items": len(self.items),
            "whole": self.whole,
            "parts": dict(Counter(item.part for item in self.items)),
            "excluded": self.excluded,
            "excluded_parts": {part: dict(counts) for part, counts in self.excluded_parts.items()},
            "ids_sha256": self.ids_sha256,
            "items_sha256": self.items_sha256,
        }


def read_exam(
    name_or_file: str | Path,
    *,
    out: Path | str | None = None,
    split: str | None = None,
    limit: int | None = None,
) -> Exam:
    """Reads an exam.

    Args:
        name_or_file: A multiple-choice dataset (``NAME`` or ``NAME@VERSION``), which is built first if it is not; or a
            file in JSON lines, JSON, Parquet or CSV with a question, options and an answer in each record.
        out: The output folder; None for ``$MEADOW_OUT`` or the user's cache.
        split: The split of a dataset; without it all splits of an exam, else ``test``.
        limit: At most so many items, the first of each part in turn; for trying things out.

    Raises:
        ExamError: There is no such exam, or it has items that cannot be scored; the message names them.
    """
    if limit is not None and limit < 1:
        raise ExamError(f"a limit of {limit} items leaves nothing to score; give 1 or more")
    name, path = str(name_or_file), Path(name_or_file)
    looks_like_file = path.suffix.lower() in (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv", ".gz")
    if path.is_file() or looks_like_file:
        if split is not None:
            raise ExamError(f"{name}: a file has no splits; leave the split out")
        exam = _of_file(path)
    elif path.is_dir():
        raise ExamError(f"{name}: it is a folder; name a dataset, or give one file of it")
    else:
        exam = _of_dataset(name, out, split)
    return exam if limit is None else _limited(exam, limit)


def _limited(exam: Exam, limit: int) -> Exam:
    if limit >= len(exam.items):
        return exam
    by_part = (exam.of(part) for part in exam.parts)
    in_turn = [item for items in zip_longest(*by_part) for item in items if item is not None]
    kept = {item.id for item in in_turn[:limit]}
    return replace(exam, items=tuple(item for item in exam.items if item.id in kept))


def _of_file(path: Path) -> Exam:
    items, excluded = read_items(path)
    try:
        # As contamination reports name and check it, whatever parts it has.
        source = read_source(path)
        name, checked_as = source.name, {"": _checked_as(source.items)}
    except (ValueError, TypeError):
        name, checked_as = name_of(path), {}
    return Exam(name, "", tuple(items), excluded, checked_as=checked_as)


def _of_dataset(name: str, out: Path | str | None, split: str | None) -> Exam:
    import pyarrow.parquet as pq

    name, _, version = name.partition("@")
    store = Store(Path(out) if out else default_out())
    manifest = _manifest(store, name, version or None)
    files = store.files(name, manifest.version)
    if split is not None and split not in files:
        raise ExamError(f"{name} {manifest.version} has no split {split}; it has: {', '.join(files)}")
    chosen = [split] if split else manifest.exam_splits()
    if not chosen:
        raise ExamError(f"{name} has no test split; name one of its splits: {', '.join(files)}")
    if "options" not in manifest.features:
        raise ExamError(f"{name} has no options; give a multiple-choice dataset")
    items: list[ExamItem] = []
    problems: list[str] = []
    columns = ["id", "instruction", "input", "options", "answer_key"]
    for part in chosen:
        for row in chain.from_iterable(pq.read_table(p, columns=columns).to_pylist() for p in files[part]):
            try:
                items.append(row_item(row, part))
            except ValueError as error:
                problems.append(f"{row['id']}: {error}")
    refuse(f"{name} {manifest.version}", problems)
    if not items:
        raise ExamError(f"{name} {manifest.version}: {', '.join(chosen)} holds no item; build it again")
    excluded = _excluded(store.folder(name, manifest.version), chosen, manifest.test_only)
    checked = {}
    with contextlib.suppress(StoreError):
        for source in built_exams(store, name):
            if source.version == manifest.version and source.split in chosen:
                checked[source.split] = _checked_as(source.items)
    return Exam(
        name,
        manifest.version,
        tuple(items),
        {part: counts for part, counts in excluded.items() if counts},
        manifest.sample,
        license=", ".join(manifest.licenses),
        checked_as=checked,
        source=manifest.source,
    )


def _manifest(store: Store, name: str, version: str | None) -> Manifest:
    try:
        return store.manifest(name, version)
    except StoreError as error:
        if store.versions(name):
            raise ExamError(str(error)) from error
    # As the loader does: what is not there is built, from raw files or else from the sample, and it says so. Imported
    # here for its cost: a recipe's --help need not wait for `datasets`.
    from meadow.loading import MeadowDatasets

    try:
        MeadowDatasets(config_name=name, dataset_name="meadow", version=version, out=str(store.root))
        return store.manifest(name, version)
    except (StoreError, ValueError, OSError) as error:
        raise ExamError(
            f"{name}: no file has this name, and it is no dataset that can be read or built: {error}"
        ) from error


def _checked_as(items: Iterable[Any]) -> str:
    # What `meadow.filters.contamination.Index.build` writes as an exam's sha256.
    lines = sorted(json.dumps(list(item), ensure_ascii=True) for item in {i.id: i for i in items}.values())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _excluded(folder: Path, parts: Iterable[str], test_only: bool) -> dict[str, Counter[str]]:
    """What was left out of the parts when the dataset was built, by reason."""
    import pyarrow.parquet as pq

    found: dict[str, Counter[str]] = {part: Counter() for part in parts}
    path = folder / REJECTED
    if not path.is_file():
        return found
    for row in pq.read_table(path, columns=["id", "reason", "file"]).to_pylist():
        where = f"{row['id']}\n{row['file'] if test_only else ''}"
        # There is no column for the split; an exam's id names it, or the file that the record stood in.
        for part, counts in found.items():
            # A file that is left out as a whole has its path as id, and is no item.
            if row["id"] != row["file"] and re.search(rf"(^|[/_]){re.escape(part)}([/.]|$)", where, re.M):
                counts[WITH_IMAGE if row["reason"] == _NEEDS_IMAGE else row["reason"]] += 1
                break
    return found
