"""Output folders made by hand, in the layout of `meadow.core.store`, for tests of what reads them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from meadow.core.row import COLUMNS, REJECTED_COLUMNS, arrow_schema
from tests import manifests

LEVEL = {**COLUMNS, "level": "int64"}
#: Columns of the files that lie beside a manifest.
BESIDE = {
    "rejected": dict(REJECTED_COLUMNS),
    "duplicates": {"cluster": "int64", "id": "string", "kept": "bool", "similarity": "float64"},
    "contamination": {
        **dict.fromkeys(("exam", "item", "id", "split", "kind"), "string"),
        "share": "float64",
        "field": "string",
        "overlap": "string",
        "dropped": "bool",
    },
    "privacy": {"id": "string", "type": "string", "field": "string", "start": "int64", "end": "int64"},
}


def row(key: object, **changes: Any) -> dict[str, Any]:
    """A row with a value in every column."""
    return {
        "instruction": "Answer this question truthfully",
        "input": f"What is {key}?",
        "output": f"It is {key}.",
        "id": f"ward/{key}",
        "task": "question-answering",
        "options": [],
        "answer_key": None,
        "group": f"page {key}",
        "source_url": f"https://ward.example/{key}",
        "source_date": "2021-03-04",
        "authors": [{"name": "Ada", "url": "https://ward.example/ada"}],
        "license": "CC-BY-SA-4.0",
        "generator": None,
        "level": 1,
        **changes,
    }


def put(
    out: Path,
    splits: Mapping[str, Iterable[Mapping[str, Any]]],
    *,
    name: str = "ward",
    version: str = "1.0.0",
    features: Mapping[str, str] = LEVEL,
    files: int = 1,
    group: int = 4_000,
    beside: Mapping[str, Iterable[Mapping[str, Any]]] | None = None,
    **manifest: Any,
) -> dict[str, Any]:
    """Writes a version of a dataset.

    Args:
        out: The output folder.
        splits: Rows per split.
        name: The dataset.
        version: Its version.
        features: Its columns.
        files: Parquet files of each split.
        group: Rows of a row group.
        beside: Rows of ``rejected.parquet`` and its like, by the name without the ending.
        **manifest: Entries of the manifest that are not to be what follows from the rows.

    Returns:
        The manifest.
    """
    folder = out / name / version
    folder.mkdir(parents=True, exist_ok=True)
    schema = arrow_schema(features)
    digest, ids, licenses, entries = hashlib.sha256(), [], {}, {}
    for split, every in splits.items():
        every = list(every)
        listed = []
        step = -(-len(every) // files)
        for index in range(files):
            mine = every[index * step : (index + 1) * step]
            path = folder / f"{split}-{index:05d}-of-{files:05d}.parquet"
            arrays = [pa.array([r.get(c) for r in mine], schema.field(c).type) for c in schema.names]
            pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, row_group_size=group)
            data = path.read_bytes()
            listed.append({"path": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
        for entry in every:
            digest.update(json.dumps([split, [entry.get(c) for c in schema.names]]).encode())
            ids.append(entry["id"])
            licenses[entry["license"]] = licenses.get(entry["license"], 0) + 1
        entries[split] = {"rows": len(every), "bytes": 100 * len(every), "files": listed}
    for kind, lines in (beside or {}).items():
        kinds = arrow_schema(BESIDE[kind])
        lines = list(lines)
        table = [pa.array([line.get(c) for line in lines], kinds.field(c).type) for c in kinds.names]
        pq.write_table(pa.Table.from_arrays(table, schema=kinds), folder / f"{kind}.parquet")
    kept = len(ids)
    found = manifests.as_json(
        name=name,
        version=version,
        **{
            "raw": [{"path": f"{name}/notes.jsonl", "bytes": 1234567, "sha256": "a1" * 32}],
            "funnel": {"read": kept, "kept": kept, "dropped": {}},
            "splits": entries,
            "features": dict(features),
            "licenses": dict(sorted(licenses.items())),
            "ids_sha256": hashlib.sha256("".join(f"{i}\n" for i in sorted(ids)).encode()).hexdigest(),
            "rows_sha256": digest.hexdigest(),
            **manifest,
        },
    )
    (folder / "manifest.json").write_text(json.dumps(found), encoding="utf-8")
    return found
