"""The YAML of a card: licence, size, tasks, tags, configs, `dataset_info`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from meadow.describe.cards.hub import HUB_LICENSES, HUB_SIZES, HUB_TASKS
from meadow.describe.cards.manifest import Manifest, license_ids, row_count
from meadow.describe.cards.markdown import hexadecimal, is_url, slug

#: The keys that a build writes and replaces, in their order in the card.
OWNED = (
    "pretty_name",
    "language",
    "license",
    "license_name",
    "license_link",
    "size_categories",
    "task_categories",
    "tags",
    "configs",
    "dataset_info",
)

#: Tags of every card, and those that a build takes away again when they no longer hold.
TAGS = ("medical", "instruction-tuning", "meadow")
CONDITIONAL_TAGS = ("sample", "test-only")


def dataset_metadata(manifest: Manifest) -> dict[str, Any]:
    """The `OWNED` keys of a dataset's card, `pretty_name` aside; its files lie beside the card."""
    configs = {"configs": [_config(manifest, "")]} if manifest["splits"] else {}
    return {
        "language": list(manifest.get("languages") or ["en"]),
        **_license([manifest]),
        "size_categories": [_size_category(row_count(manifest))],
        "task_categories": [_task(manifest)],
        "tags": _tags([manifest]),
        **configs,
        "dataset_info": _dataset_info(manifest),
    }


def collection_metadata(manifests: Sequence[Manifest]) -> dict[str, Any]:
    """The `OWNED` keys of a collection's card, `pretty_name` and `dataset_info` aside."""
    configs = []
    for manifest in manifests:
        if not manifest["splits"]:
            continue
        config = _config(manifest, f"{manifest['name']}/{manifest['version']}/")
        if manifest["name"] == "wikidoc":
            config["default"] = True
        configs.append(config)
    return {
        "language": sorted({code for m in manifests for code in m.get("languages") or ["en"]}) or ["en"],
        **_license(manifests),
        "size_categories": [_size_category(sum(map(row_count, manifests)))],
        "task_categories": sorted({_task(m) for m in manifests}) or ["other"],
        "tags": _tags(manifests),
        **({"configs": configs} if configs else {}),
    }


def _size_category(rows: int) -> str:
    return next(name for name, end in HUB_SIZES.items() if rows < end)


def _task(manifest: Manifest) -> str:
    task = manifest.get("task", "")
    return task if task in HUB_TASKS else "other"


def _tags(manifests: Sequence[Manifest]) -> list[str]:
    tags = list(TAGS)
    for tag in CONDITIONAL_TAGS:
        if manifests and all(m.get(tag.replace("-", "_")) for m in manifests):
            tags.append(tag)
    return tags


def _license(manifests: Sequence[Manifest]) -> dict[str, Any]:
    hub: dict[str, None] = {}  # the Hub's identifiers; a dict as a set in order
    others: dict[str, str] = {}  # SPDX identifiers that it does not have, with their addresses
    for manifest in manifests:
        for spdx in license_ids(manifest):
            terms = (manifest.get("license_terms") or {}).get(spdx, {})
            known = terms.get("hub")
            if known not in HUB_LICENSES or known == "other":
                known = "other"
                others.setdefault(spdx, terms.get("url") or "")
            hub[known] = None
    if not hub:
        return {"license": "unknown"}
    out: dict[str, Any] = {"license": list(hub) if len(hub) > 1 else next(iter(hub))}
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
    for split, content in manifest["splits"].items():
        paths = [file["path"] for file in content["files"]]
        usual = re.compile(re.escape(split) + r"-\d+-of-\d+\.parquet")
        if paths and all(usual.fullmatch(path) for path in paths):
            path: str | list[str] = f"{prefix}{split}-*.parquet"
        else:
            path = [prefix + path for path in paths]
        files.append({"split": split, "path": path})
    return {
        "config_name": manifest["name"],
        "version": manifest["version"],
        # `datasets` 5.2 keys its cache of a local folder by these lines, not by the files: without
        # something that changes with the rows, a dataset built again would load as it was before.
        "description": f"rows_sha256 {hexadecimal(manifest['rows_sha256'])[:16]}",
        "data_files": files,
    }


def _dataset_info(manifest: Manifest) -> dict[str, Any]:
    splits = manifest["splits"]
    return {
        "config_name": manifest["name"],
        "features": [{"name": name, **_feature(kind)} for name, kind in manifest["features"].items()],
        "splits": [
            {"name": name, "num_bytes": split["bytes"], "num_examples": split["rows"]}
            for name, split in splits.items()
        ],
        "download_size": sum(file["bytes"] for split in splits.values() for file in split["files"]),
        "dataset_size": sum(split["bytes"] for split in splits.values()),
    }


def _feature(kind: str) -> dict[str, Any]:
    """One of the column types of `meadow.core.rows.schema` in the YAML form of `datasets.Features`.

    ``list<struct<key: string>>`` gives ``{"list": [{"name": "key", "dtype": "string"}]}``.
    """
    struct = re.fullmatch(r"list<struct<(.*)>>", kind)
    if struct:
        fields = (field.split(": ") for field in struct[1].split(", "))
        return {"list": [{"name": name, "dtype": dtype} for name, dtype in fields]}
    if kind.startswith("list<"):
        return {"list": kind[len("list<") : -1]}
    return {"dtype": kind}
