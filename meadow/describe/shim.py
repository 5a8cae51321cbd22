"""SHIM, to go when all that describe is given are typed manifests."""

from __future__ import annotations

from typing import Any

from meadow.core.manifest import Manifest


def typed(manifest: Any) -> Manifest:
    """A bare manifest as a typed one."""
    return manifest if isinstance(manifest, Manifest) else Manifest.model_validate(manifest)


def license_ids(manifest: Any) -> list[str]:
    """As the property."""
    return typed(manifest).license_ids


def row_count(manifest: Any) -> int:
    """As `Manifest.rows`."""
    return typed(manifest).rows


def reasons(manifest: Any) -> list[tuple[str, int]]:
    """As `Funnel.reasons`."""
    return typed(manifest).funnel.reasons
