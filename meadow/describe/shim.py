"""SHIM, to go when all that describe is given are typed manifests."""

from __future__ import annotations

from typing import Any

from meadow.core.manifest import Manifest


def typed(manifest: Any) -> Manifest:
    """A bare manifest as a typed one."""
    return manifest if isinstance(manifest, Manifest) else Manifest.model_validate(manifest)
