"""What several parts of a card read out of a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: A dataset's manifest, as in ``manifest.json``.
Manifest = Mapping[str, Any]


def check_funnel(manifest: Manifest) -> None:
    """Raises ValueError where rows read are not rows kept and rows left out together."""
    funnel = manifest["funnel"]
    dropped = sum(funnel["dropped"].values())
    if funnel["read"] != funnel["kept"] + dropped:
        raise ValueError(
            f"{manifest['name']}: the funnel does not balance: {funnel['read']} rows read, "
            f"{funnel['kept']} kept, {dropped} dropped"
        )


def row_count(manifest: Manifest) -> int:
    """Rows of all splits."""
    return sum(split["rows"] for split in manifest["splits"].values())


def reasons(manifest: Manifest) -> list[tuple[str, int]]:
    """Why rows were left out and how many, most first."""
    dropped = manifest["funnel"]["dropped"]
    return sorted(((r, n) for r, n in dropped.items() if n), key=lambda item: (-item[1], item[0]))


def license_ids(manifest: Manifest) -> list[str]:
    """The licences that rows carry, most rows first; of a dataset without rows, the declared ones."""
    counts = manifest["licenses"] or dict.fromkeys(manifest.get("license_terms") or {}, 0)
    return sorted(counts, key=lambda spdx: (-counts[spdx], spdx))
