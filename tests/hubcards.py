"""What the Hub would say of a card."""

from __future__ import annotations

import re

from meadow.describe.cards.metadata import HUB_LICENSES, HUB_SIZES, HUB_TASKS


def problems(card: str) -> list[str]:
    """Checks a card's YAML as far as can be done without asking the Hub.

    Reads it with `huggingface_hub.DatasetCard` and `datasets`' own config and info classes, and
    compares licences, tasks and sizes with the Hub's published lists.

    Returns:
        What is wrong, in words; empty where all is well.
    """
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard, DatasetCardData

    try:
        data = DatasetCardData(**DatasetCard(card).data.to_dict())
        configs = MetadataConfigs.from_dataset_card_data(data)
        configs.get_default_config_name()
        infos = DatasetInfosDict.from_dataset_card_data(data)
    except Exception as error:  # yaml, ValueError, TypeError: whatever a reader would raise
        return [f"{type(error).__name__}: {error}"]
    found = [f"no `{key}`" for key in ("pretty_name", "language", "license", "tags") if not data.get(key)]
    licenses = data.get("license", [])
    licenses = [licenses] if isinstance(licenses, str) else licenses
    for what, values, known in (
        ("license", licenses, HUB_LICENSES),
        ("size category", data.get("size_categories", []), HUB_SIZES),
        ("task", data.get("task_categories", []), HUB_TASKS),
    ):
        found += [f"{what} {value!r} is none of the Hub's" for value in values if value not in known]
    if "other" in licenses and not re.fullmatch(r"[a-z0-9.-]+", str(data.get("license_name"))):
        found.append("license `other` needs a `license_name` of lower-case letters, digits, dots and dashes")
    found += [
        f"language {value!r} is no ISO 639 code"
        for value in data.get("language", [])
        if not re.fullmatch(r"[a-z]{2,3}", str(value))
    ]
    found += [f"dataset_info of {name!r}, which is no config" for name in infos if name not in configs]
    for name, info in infos.items():
        listed = [entry["split"] for entry in configs.get(name, {}).get("data_files", [])]
        if info.splits is not None and list(info.splits) != listed:
            found.append(f"{name}: splits {list(info.splits)} in dataset_info, {listed} in data_files")
    return found
