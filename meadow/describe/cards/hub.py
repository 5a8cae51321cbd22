"""What the Hugging Face Hub accepts in the YAML of a card."""

from __future__ import annotations

import math
import re

#: Licence identifiers: the table "Licenses" in the Hub's documentation (huggingface/hub-docs,
#: docs/hub/repositories-licenses.md). Any other is a metadata error there, ``cc-by-sa-2.5`` for one,
#: and is given as ``other`` with a `license_name`.
HUB_LICENSES = frozenset(
    """
    afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
    bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0
    cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0
    cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0
    creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 gemma gfdl
    gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 lppl-1.3c mit mpl-2.0 ms-pl ncsa
    odbl odc-by ofl-1.1 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
    """.split()
)

#: The text tasks among the task categories (huggingface.js, packages/tasks/src/pipelines.ts).
HUB_TASKS = frozenset(
    """
    feature-extraction fill-mask multiple-choice other question-answering sentence-similarity
    summarization table-question-answering text-classification text-generation text-retrieval
    token-classification translation zero-shot-classification
    """.split()
)

#: Size categories with the number of rows that each ends below, smallest first. The Hub has larger ones.
HUB_SIZES = {
    "n<1K": 10**3,
    "1K<n<10K": 10**4,
    "10K<n<100K": 10**5,
    "100K<n<1M": 10**6,
    "1M<n<10M": 10**7,
    "10M<n<100M": 10**8,
    "100M<n<1B": 10**9,
    "1B<n<10B": math.inf,
}


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
