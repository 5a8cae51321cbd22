"""The lock file of a mixture: all that its bytes follow from, and what is different another time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from meadow.mix.definition import Mixture, MixtureError

#: Beside the manifest.
LOCK = "mixture.lock.json"
#: The form of the file.
FORM = 1
#: What is compared of each dataset, in the order in which one follows from the other.
_OF_DATASET = (
    "version", "sample", "parameters", "filters", "contamination", "raw", "splits", "ids_sha256", "rows_sha256",
)  # fmt: skip
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


def make(
    mixture: Mixture, manifest: Mapping[str, Any], datasets: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Makes the content of a lock file.

    Args:
        mixture: The mixture.
        manifest: What it became.
        datasets: The manifests of its parts' datasets.
    """
    return {
        "form": FORM,
        "name": mixture.name,
        "version": mixture.version,
        "definition": mixture.described(),
        "definition_sha256": mixture.sha256(),
        "datasets": of_datasets(datasets),
        "parts": manifest["mixture"]["parts"],
        "missing": manifest["mixture"]["missing"],
        "splits": {
            split: {"rows": entry["rows"], "files": entry["files"]}
            for split, entry in manifest["splits"].items()
        },
        "ids_sha256": manifest["ids_sha256"],
        "rows_sha256": manifest["rows_sha256"],
        "built_with": manifest["built_with"],
    }


def of_datasets(manifests: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The entries of datasets in a lock file, by name."""
    return {m["name"]: _of_dataset(m) for m in sorted(manifests, key=lambda m: m["name"])}


def _of_dataset(manifest: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: manifest[name] for name in ("source", *_OF_DATASET) if manifest.get(name) is not None}
    found["splits"] = {split: entry["rows"] for split, entry in manifest["splits"].items()}
    return found


def read(file: Path) -> dict[str, Any]:
    """Reads a lock file.

    Raises:
        MixtureError: It cannot be read, or is no lock file of this form.
    """
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise MixtureError(f"{file}: cannot be read as a lock file: {why}") from error
    needed = ("definition", "datasets", "missing", "splits", "ids_sha256", "rows_sha256", "built_with")
    absent = [key for key in needed if not isinstance(found, dict) or key not in found]
    if absent or found.get("form") != FORM:
        why = f"it has no {absent[0]}" if absent else f"its form is {found.get('form')!r}, known is {FORM}"
        raise MixtureError(
            f"{file}: is no lock file of a mixture: {why}; a build writes it beside the mixture's manifest"
        )
    return found


def compare_definitions(lock: Mapping[str, Any], mixture: Mixture) -> list[str]:
    """What differs between the definition in a lock and a mixture, each with its key."""
    return differences(lock["definition"], mixture.described(), "definition")


def compare_datasets(lock: Mapping[str, Any], manifests: Iterable[Mapping[str, Any]]) -> list[str]:
    """What differs between the datasets in a lock and those that are here, each with its key."""
    here = of_datasets(manifests)
    found: list[str] = []
    for name, then in lock["datasets"].items():
        if name not in here:
            found.append(f"dataset {name}: it is in the lock, and not here")
            continue
        for key in _OF_DATASET:
            one, other = then.get(key), here[name].get(key)
            if key == "raw":
                found += _raw(name, one or [], other or [])
            elif one != other:
                found += differences(one, other, f"dataset {name}: {key}")
    found += [
        f"dataset {name}: it is here, and not in the lock" for name in here if name not in lock["datasets"]
    ]
    return found


def compare_results(lock: Mapping[str, Any], manifest: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What differs between what a lock says and what was built.

    Returns:
        (differences, what else is different and may be the cause).
    """
    here = {
        split: {"rows": entry["rows"], "files": entry["files"]} for split, entry in manifest["splits"].items()
    }
    found = []
    for key in ("ids_sha256", "rows_sha256"):
        found += differences(lock[key], manifest[key], key)
    found += differences(lock["splits"], here, "splits")
    remarks = differences(lock["built_with"], manifest["built_with"], "built with")
    if found and lock["rows_sha256"] == manifest["rows_sha256"]:
        remarks.insert(0, "The rows are the same; only the bytes of the Parquet files differ.")
    return found, remarks


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
