"""The YAML of a dataset's card: licence, size, tasks, tags, configs, `dataset_info`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from meadow.core.licenses import License
from meadow.core.manifest import Manifest
from meadow.describe.cards.frontmatter import CardKind
from meadow.describe.cards.hub import HUB_LICENSES, HUB_SIZES, HUB_TASKS
from meadow.describe.cards.markdown import hexadecimal, is_url, slug

_LICENSE = ("license", "license_name", "license_link")
_TAGS = ("medical", "instruction-tuning", "meadow")
#: Tags by the property of a manifest that they stand for.
_CONDITIONAL = {"sample": "sample", "test_only": "test-only"}

#: The cards of datasets, mixtures and collections.
DATASET = CardKind(
    owned=(
        *("pretty_name", "language", *_LICENSE, "size_categories", "task_categories", "tags", "configs"),
        "dataset_info",
    ),
    tags=frozenset((*_TAGS, *_CONDITIONAL.values())),
    blocks=frozenset(
        "notice summary splits lengths plot example funnel stages contamination duplicates privacy raw licences "
        "citation releases checksums datasets loading incomplete parts not-in-meadow mixture-exams".split()
    ),
)

#: The cards of fine-tuned models; those of a method go where a card becomes that of a merged model.
MODEL = CardKind(
    owned=(
        *("language", *_LICENSE, "library_name", "pipeline_tag", "base_model", "base_model_relation"),
        *("datasets", "tags"),
    ),
    tags=frozenset((
        *("medical", "meadow", "instruction-tuning", "not-for-clinical-use", "sample-data", "merged"),
        *("full-fine-tuning", "lora", "lora-8bit", "qlora"),
    )),
    blocks=frozenset("notice summary lineage data exams numbers losses licences settings versions".split()),
)  # fmt: skip


def dataset_metadata(manifest: Manifest) -> dict[str, Any]:
    """The YAML of a dataset's card, `pretty_name` aside; its files lie beside the card."""
    configs = {"configs": [_config(manifest, "")]} if manifest.splits else {}
    about = {**_about([manifest]), "language": list(manifest.languages or ("en",))}
    return {**about, **configs, "dataset_info": _dataset_info(manifest)}


def collection_metadata(manifests: Sequence[Manifest], default: str = "") -> dict[str, Any]:
    """The YAML of a collection's card, `pretty_name` aside.

    Args:
        manifests: The datasets.
        default: The dataset that is loaded where none is named.
    """
    configs = []
    for manifest in manifests:
        if manifest.splits:
            configs.append(_config(manifest, f"{manifest.name}/{manifest.version}/"))
            if manifest.name == default:
                configs[-1]["default"] = True
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
    hub: dict[str, None] = {}  # the Hub's identifiers; a dict as a set in order
    others: dict[str, str] = {}  # SPDX identifiers that it does not have, with their addresses
    for manifest in manifests:
        for spdx in manifest.license_ids:
            terms = manifest.license_terms.get(spdx) or License.of(spdx)
            known = terms.hub
            if known not in HUB_LICENSES or known == "other":
                known = "other"
                others.setdefault(spdx, terms.url)
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
    for split, content in manifest.splits.items():
        paths = [file.path for file in content.files]
        usual = re.compile(re.escape(split) + r"-\d+-of-\d+\.parquet")
        if paths and all(usual.fullmatch(path) for path in paths):
            path: str | list[str] = f"{prefix}{split}-*.parquet"
        else:
            path = [prefix + path for path in paths]
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
    """Names and types of a column of records, as Arrow writes its type: ``list<struct<key: string>>``.

    Empty for any other column.
    """
    struct = re.fullmatch(r"list<struct<(.*)>>", kind)
    return (
        [(name, of) for name, _, of in (f.partition(": ") for f in struct[1].split(", "))] if struct else []
    )


def _feature(kind: str) -> dict[str, Any]:
    """One of the column types of `meadow.core.row.arrow_schema` in the YAML form of `datasets.Features`.

    ``list<struct<key: string>>`` gives ``{"list": [{"name": "key", "dtype": "string"}]}``.
    """
    fields = struct_fields(kind)
    if fields:
        return {"list": [{"name": name, "dtype": dtype} for name, dtype in fields]}
    if kind.startswith("list<"):
        return {"list": kind[len("list<") : -1]}
    return {"dtype": kind}
