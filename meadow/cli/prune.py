"""``meadow prune``: free the space of old versions."""

from __future__ import annotations

from typing import Annotated

import typer

from meadow.cli.options import Names, Out


def prune(
    keep: Annotated[
        int, typer.Option(metavar="N", min=1, help="Versions to keep of each dataset, the newest ones.")
    ],
    names: Names = None,
    out: Out = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; print what would go.")] = False,
) -> None:
    """Remove old versions of datasets; the current version of each always stays."""
    from meadow.cli import app as cli
    from meadow.core import versions as pruning
    from meadow.core.store import Store, StoreError, default_out

    try:
        found, notes = pruning.prune(Store(out or default_out()), keep, names or (), dry_run=dry_run)
    except StoreError as error:
        cli._fail(str(error), 1)
    for each in found:
        cli._print(
            f"{'would remove' if dry_run else 'removed'} {each.name} {each.version} ({cli._size(each.bytes)})"
        )
    done = "would be freed" if dry_run else "freed"
    many = "1 version" if len(found) == 1 else f"{len(found)} versions"
    cli._print(f"{many}, {cli._size(sum(each.bytes for each in found))} {done}")
    notes += [
        f"{each.name} {each.version} is a part of {', '.join(each.used_by)}: what is built stays whole, but building "
        "it again from its lock file needs that version"
        for each in found
        if each.used_by
    ]
    for note in notes:
        cli._print(f"note: {note}")
