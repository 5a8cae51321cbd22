"""The YAML of a dataset's card: licence, size, tasks, tags, configs, `dataset_info`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from meadow.core.manifest import Manifest
from meadow.describe.cards.frontmatter import CardKind
from meadow.describe.cards.markdown import hexadecimal, is_url, slug

_FILE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
#: What the Hub accepts: licences, tasks, and sizes with the number of rows that each ends below.
HUB_LICENSES, HUB_TASKS = frozenset(_FILE["licenses"].split()), frozenset(_FILE["tasks"].split())
HUB_SIZES: dict[str, float] = _FILE["sizes"]
#: The cards of datasets, mixtures and collections, and those of models.
DATASET, MODEL = (
    CardKind(*(tuple(_FILE[kind][what].split()) for what in ("owned", "tags", "blocks")))
    for kind in ("dataset", "model")
)
_TAGS = ("medical", "instruction-tuning", "meadow")
#: Tags by the property of a manifest that they stand for.
_CONDITIONAL = {"sample": "sample", "test_only": "test-only"}


def dataset_metadata(manifest: Manifest) -> dict[str, Any]:
    """The YAML of a dataset's card, `pretty_name` aside; its files lie beside the card."""
    configs = {"configs": [_config(manifest, "")]} if manifest.splits else {}
    about = {**_about([manifest]), "language": list(manifest.languages or ("en",))}
    return {**about, **configs, "dataset_info": _dataset_info(manifest)}


def collection_metadata(manifests: Sequence[Manifest], default: str = "") -> dict[str, Any]:
    """The YAML of a collection's card, `pretty_name` aside; `default` is loaded where no dataset is named."""
    configs = [
        _config(m, f"{m.name}/{m.version}/") | ({"default": True} if m.name == default else {})
        for m in manifests
        if m.splits
    ]
    return {**_about(manifests), **({"configs": configs} if configs else {})}


def _about(manifests: Sequence[Manifest]) -> dict[str, Any]:
    rows = sum(manifest.rows for manifest in manifests)
    tasks = {m.task if m.task in HUB_TASKS else "other" for m in manifests}
    said = (
        tag for name, tag in _CONDITIONAL.items() if manifests and all(getattr(m, name) for m in manifests)
    )
    return {
        "language": sorted({code for m in manifests for code in m.languages or ("en",)}) or ["en"],
        **_license(manifests),
        "size_categories": [next(name for name, end in HUB_SIZES.items() if rows < end)],
        "task_categories": sorted(tasks) or ["other"],
        "tags": [*_TAGS, *said],
    }


def _license(manifests: Sequence[Manifest]) -> dict[str, Any]:
    terms = [(spdx, manifest.terms(spdx)) for manifest in manifests for spdx in manifest.license_ids]
    if not terms:
        return {"license": "unknown"}
    known = [each.hub if each.hub in HUB_LICENSES else "other" for _, each in terms]
    hub = list(dict.fromkeys(known))
    others: dict[str, str] = {}  # SPDX identifiers that the Hub does not have, with their addresses
    for (spdx, each), name in zip(terms, known, strict=True):
        if name == "other":
            others.setdefault(spdx, each.url)
    out: dict[str, Any] = {"license": hub if len(hub) > 1 else hub[0]}
    if others:
        names = [slug(spdx.lower().removeprefix("licenseref-"), keep=".") for spdx in others]
        out["license_name"] = "-and-".join(names)
        # One link cannot stand for several texts; the card's licence block has them all.
        url = next(iter(others.values()))
        if len(others) == 1 and is_url(url):
            out["license_link"] = url
    return out


def _config(manifest: Manifest, prefix: str) -> dict[str, Any]:
    files = []
    for split, content in manifest.splits.items():
        paths = [file.path for file in content.files]
        usual = re.compile(re.escape(split) + r"-\d+-of-\d+\.parquet")
        whole = paths and all(usual.fullmatch(path) for path in paths)
        path = f"{prefix}{split}-*.parquet" if whole else [prefix + path for path in paths]
        files.append({"split": split, "path": path})
    return {
        "config_name": manifest.name,
        "version": manifest.version,
        # `datasets` 5.2 keys its cache of a local folder by these lines, not by the files: without
        # something that changes with the rows, a dataset built again would load as it was before.
        "description": f"rows_sha256 {hexadecimal(manifest.rows_sha256)[:16]}",
        "data_files": files,
    }


def _dataset_info(manifest: Manifest) -> dict[str, Any]:
    splits = manifest.splits
    return {
        "config_name": manifest.name,
        "features": [{"name": name, **_feature(kind)} for name, kind in manifest.features.items()],
        "splits": [
            {"name": name, "num_bytes": split.bytes, "num_examples": split.rows}
            for name, split in splits.items()
        ],
        "download_size": sum(file.bytes for split in splits.values() for file in split.files),
        "dataset_size": sum(split.bytes for split in splits.values()),
    }


def struct_fields(kind: str) -> list[tuple[str, str]]:
    """Names and types of a column ``list<struct<key: string>>``, as Arrow writes it; empty for any other."""
    struct = re.fullmatch(r"list<struct<(.*)>>", kind)
    parts = (field.partition(": ") for field in struct[1].split(", ")) if struct else ()
    return [(name, of) for name, _, of in parts]


def _feature(kind: str) -> dict[str, Any]:
    """A column type of `meadow.core.row.arrow_schema` in the YAML form of `datasets.Features`."""
    if fields := struct_fields(kind):
        return {"list": [{"name": name, "dtype": dtype} for name, dtype in fields]}
    if kind.startswith("list<"):
        return {"list": kind.removeprefix("list<")[:-1]}
    return {"dtype": kind}
