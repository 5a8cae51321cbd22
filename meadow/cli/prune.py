"""``meadow prune``: free the space of old versions."""

from __future__ import annotations

from pathlib import Path

from meadow.cli import console
from meadow.cli.options import NAMES, OUT, flag, option, store_in
from meadow.core.units import size_of


def prune(
    keep: int = option("N", "Versions to keep of each dataset, the newest ones.", ..., min=1),
    names: list[str] | None = NAMES,
    out: Path | None = OUT,
    dry_run: bool = flag("--dry-run", "Remove nothing; print what would go."),
) -> None:
    """Remove old versions of datasets; the current version of each always stays."""
    from meadow.core import versions

    with console.failing():
        found, notes = versions.prune(store_in(out), keep, names or (), dry_run=dry_run)
    for each in found:
        console.say(
            f"{'would remove' if dry_run else 'removed'} {each.name} {each.version} ({size_of(each.bytes)})"
        )
    done = "would be freed" if dry_run else "freed"
    many = "1 version" if len(found) == 1 else f"{len(found)} versions"
    console.say(f"{many}, {size_of(sum(each.bytes for each in found))} {done}")
    notes += [
        f"{each.name} {each.version} is a part of {', '.join(each.used_by)}: what is built stays whole, but building "
        "it again from its lock file needs that version"
        for each in found
        if each.used_by
    ]
    for note in notes:
        console.say(f"note: {note}")
