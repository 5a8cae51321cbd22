"""The lock file of a mixture: all that its bytes follow from, and what is different another time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from meadow.core.manifest import Manifest
from meadow.mix.definition import Mixture, MixtureError
from meadow.mix.finding import LackingPart

#: Beside the manifest.
LOCK = "mixture.lock.json"
#: The form of the file.
FORM = 1
#: What is compared of each dataset, in the order in which one follows from the other.
_OF_DATASET = (
    "version", "sample", "parameters", "filters", "contamination", "raw", "splits", "ids_sha256", "rows_sha256",
)  # fmt: skip
_NEEDED = ("definition", "datasets", "missing", "splits", "ids_sha256", "rows_sha256", "built_with")
#: More differences of one kind than this are counted, not listed.
_MOST = 20


class LockMismatchError(MixtureError):
    """A mixture that does not come out as its lock file says.

    Attributes:
        differences: What differs, a sentence each.
    """

    def __init__(self, file: Path, differences: Sequence[str], remarks: Sequence[str] = ()) -> None:
        self.differences = tuple(differences)
        lines = [f"  {line}" for line in (*differences, *remarks)]
        many = "1 difference" if len(differences) == 1 else f"{len(differences)} differences"
        super().__init__(f"{file}: {many} from the lock, so nothing was published:\n" + "\n".join(lines))


def make(mixture: Mixture, manifest: Manifest, datasets: Iterable[Manifest]) -> dict[str, Any]:
    """The content of the lock file of a mixture that became `manifest`, drawn from `datasets`."""
    found = _plain(manifest)
    return {
        "form": FORM,
        "name": mixture.name,
        "version": mixture.version,
        "definition": mixture.described(),
        "definition_sha256": mixture.sha256(),
        "datasets": _of_datasets(datasets),
        "parts": found["mixture"]["parts"],
        "missing": found["mixture"]["missing"],
        "splits": _of_splits(found),
        "ids_sha256": manifest.ids_sha256,
        "rows_sha256": manifest.rows_sha256,
        "built_with": found["built_with"],
    }


def _plain(model: pydantic.BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude_unset=True)


def _of_splits(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {
        split: {"rows": entry["rows"], "files": entry["files"]} for split, entry in manifest["splits"].items()
    }


def _of_datasets(manifests: Iterable[Manifest]) -> dict[str, dict[str, Any]]:
    """The entries of datasets in a lock file, by name."""
    entries = {}
    for manifest in sorted(manifests, key=lambda each: each.name):
        found = _plain(manifest)
        entry = {name: found[name] for name in ("source", *_OF_DATASET) if found.get(name) is not None}
        entries[manifest.name] = entry | {"splits": {n: split.rows for n, split in manifest.splits.items()}}
    return entries


@dataclass(frozen=True)
class Lock:
    """A lock file, and what it holds; see `make`."""

    file: Path
    found: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path) -> Lock:
        """Reads a lock file; raises MixtureError where it is none of this form."""
        try:
            found = json.loads(Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise MixtureError(f"{file}: cannot be read as a lock file: {why}") from error
        absent = [key for key in _NEEDED if not isinstance(found, dict) or key not in found]
        if absent or found.get("form") != FORM:
            why = (
                f"it has no {absent[0]}" if absent else f"its form is {found.get('form')!r}, known is {FORM}"
            )
            raise MixtureError(
                f"{file}: is no lock file of a mixture: {why}; a build writes it beside the mixture's manifest"
            )
        return cls(file, found)

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the datasets, by name."""
        return {name: entry["version"] for name, entry in self.found["datasets"].items()}

    @property
    def missing(self) -> dict[str, str]:
        """The datasets that were missing, and why."""
        return {entry["dataset"]: entry["reason"] for entry in self.found["missing"]}

    def compare_definition(self, mixture: Mixture) -> None:
        """Raises LockMismatchError where a mixture's definition is another."""
        wrong = differences(self.found["definition"], mixture.described(), "definition")
        if wrong:
            remedy = f"To build the one in the lock, name the lock file: mixture:{self.file}"
            raise LockMismatchError(self.file, wrong, [remedy])

    def compare_datasets(self, manifests: Iterable[Manifest], missing: Iterable[LackingPart]) -> None:
        """Raises LockMismatchError where the datasets that are here, or those that are not, are others."""
        here, locked = _of_datasets(manifests), self.found["datasets"]
        wrong: list[str] = []
        for name, then in locked.items():
            if name not in here:
                wrong.append(f"dataset {name}: it is in the lock, and not here")
                continue
            for key in _OF_DATASET:
                one, other = then.get(key), here[name].get(key)
                if key == "raw":
                    wrong += _raw(name, one or [], other or [])
                else:
                    wrong += differences(one, other, f"dataset {name}: {key}")
        wrong += [f"dataset {name}: it is here, and not in the lock" for name in here if name not in locked]
        known = self.missing
        reasons = [f"{m.dataset}: {m.reason}. {m.remedy}" for m in missing if m.dataset not in known]
        if wrong or reasons:
            raise LockMismatchError(self.file, wrong, reasons)

    def compare_result(self, manifest: Manifest) -> None:
        """Raises LockMismatchError where something else was built; the message says what else is different."""
        then, now = self.found, _plain(manifest)
        now["splits"] = _of_splits(now)
        keys = ("ids_sha256", "rows_sha256", "splits")
        wrong = [line for key in keys for line in differences(then[key], now[key], key)]
        if not wrong:
            return
        remarks = differences(then["built_with"], now["built_with"], "built with")
        if then["rows_sha256"] == now["rows_sha256"]:
            remarks.insert(0, "The rows are the same; only the bytes of the Parquet files differ.")
        raise LockMismatchError(self.file, wrong, remarks)


def _raw(name: str, then: list[Mapping[str, Any]], now: list[Mapping[str, Any]]) -> list[str]:
    before = {file["path"]: file for file in then}
    after = {file["path"]: file for file in now}
    found = []
    for path in sorted({*before, *after}):
        if path not in after:
            found.append(f"dataset {name}: raw file {path} is in the lock, and was not used here")
        elif path not in before:
            found.append(f"dataset {name}: raw file {path} was used here, and is not in the lock")
        elif before[path] != after[path]:
            one, other = (
                f"{f['bytes']:,} bytes, sha256 {f['sha256'][:12]}..." for f in (before[path], after[path])
            )
            found.append(f"dataset {name}: raw file {path} is {one} in the lock, {other} here")
    return _cut(found, f"raw files of {name}")


def differences(then: Any, now: Any, key: str) -> list[str]:
    """What differs between two JSON values, a sentence for each key that does."""
    if then == now:
        return []
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        names = [*then, *(name for name in now if name not in then)]
        found = [line for n in names for line in differences(then.get(n), now.get(n), f"{key}.{n}")]
        return _cut(found, key)
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = enumerate(zip(then, now, strict=True))
        return _cut([line for i, (a, b) in pairs for line in differences(a, b, f"{key}[{i}]")], key)
    return [f"{key} is {_shown(then)} in the lock, {_shown(now)} here"]


def _shown(value: Any) -> str:
    if value is None:
        return "not given"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _cut(lines: list[str], what: str) -> list[str]:
    if len(lines) <= _MOST:
        return lines
    return [*lines[:_MOST], f"{len(lines) - _MOST} more differences of {what}"]
