"""Manifests that need no build, for tests of what reads them."""

from __future__ import annotations

from typing import Any

from meadow.core.manifest import Manifest

_LENGTHS = {
    "unit": "characters",
    **{"mean": 41.5, "min": 3, "p5": 10, "p25": 20, "p50": 40, "p75": 50, "p95": 80, "p99": 90, "max": 1234},
    "histogram": [[8.0, 1], [9.51, 4], [64.0, 2]],
}
_ANSWER = {"answer": "yes", "because": ["The tests say so."]}


def as_json(**changes: Any) -> dict[str, Any]:
    """A manifest as its file holds it, complete; `changes` are its other entries."""
    return {
        "format": 1,
        "name": "ward",
        "source": changes.get("name", "ward"),
        "version": "1.0.0",
        "description": "Questions from a ward.",
        "homepage": "https://ward.example/",
        "release_notes": {"1.0.0": "First version."},
        "sample": False,
        "languages": ["en"],
        "task": "question-answering",
        "test_only": False,
        "parameters": {"min_score": 5},
        "raw": [{"path": "ward/notes.jsonl", "bytes": 1234567, "sha256": "a1" * 32}],
        "funnel": {"read": 0, "kept": 0, "dropped": {}},
        "splits": {},
        "features": {},
        "licenses": {},
        "license_terms": {spdx: terms(spdx) for spdx in changes.get("licenses", {})},
        "license_verdict": {
            "rows": 0,
            **dict.fromkeys(
                ("commercial", "redistribution", "adaptation", "attribution", "training"), _ANSWER
            ),
        },
        "citation": "",
        "lengths": {"input": _LENGTHS, "output": _LENGTHS},
        "example": None,
        "ids_sha256": "b2" * 32,
        "rows_sha256": "c3" * 32,
        "built_with": {"meadow": "0.1.0", "pyarrow": "21.0.0"},
        **changes,
    }


def mixture(*parts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What a manifest says of a mixture; of a part what matters is enough."""
    whole = {
        **{
            "dataset": "ward",
            "version": "1.0.0",
            "split": ["train"],
            "wanted": None,
            "available": 2,
            "taken": 2,
        },
        **{"ids_sha256": "b2" * 32, "rows_sha256": "c3" * 32, "sample": False},
        **{"contamination": {}, "privacy": {}, "duplicates": {}},
    }
    return {
        **{"name": "mine", "definition_sha256": "d4" * 32, "seed": 0, "complete": True, "missing": []},
        **{"not_in_meadow": [], "counts_from": "", "licensing": {}},
        "parts": [{**whole, **part} for part in parts],
        **changes,
    }


def exam(name: str, **changes: Any) -> dict[str, Any]:
    """What a manifest says of an exam that rows were compared with."""
    counts = dict.fromkeys(("items", "unjudged", "items_hit", "rows_hit", "rows_dropped"), 0)
    return {
        **{"exam": name, "version": "1.0.0", "split": "test", "sample": False, "sha256": "e5" * 32},
        **counts,
        **changes,
    }


def terms(spdx: str) -> dict[str, Any]:
    """Terms of a licence, of which nothing is settled."""
    return {
        "name": f"Licence {spdx}",
        "url": f"https://licences.example/{spdx}",
        "evidence": "The tests say so.",
        "hub": "other",
    }


def make(**changes: Any) -> Manifest:
    """The same as a `Manifest`."""
    return Manifest.model_validate(as_json(**changes))
