"""Quantities in words."""

from __future__ import annotations


def size_of(count: int) -> str:
    """Bytes for people, in decimal units."""
    if count < 1000:
        return f"{count} B"
    value = count / 1000
    for unit in ("kB", "MB", "GB"):
        if value < 999.95:
            return f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"
