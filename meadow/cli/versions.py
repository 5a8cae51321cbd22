"""``meadow versions``: which versions there are, here and in a repository."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from meadow.cli import console
from meadow.cli.options import NAMES, OUT, flag, option, store_in
from meadow.core.units import size_of

if TYPE_CHECKING:
    from meadow.core.store import Store
    from meadow.core.versions import Version


def versions(
    names: list[str] | None = NAMES,
    out: Path | None = OUT,
    repo: str | None = option(
        "ORG/NAME",
        "List those in a repository on the Hub, too; ORG alone where each dataset has its own.",
        None,
        "--repo",
        "--remote",
    ),
    json_: bool = flag("--json", "Print JSON."),
) -> None:
    """List versions with their dates, rows and licences, newest first; * marks those that load by name."""
    from meadow.core import versions as listing
    from meadow.core.store import StoreError

    names = names or []
    store = store_in(out)
    found, unreadable, missing = [], [], ""
    try:
        found, unreadable = listing.local(store, names)
    except StoreError as error:
        missing = str(error)
        if repo is None:
            console.fail(missing + _built_by(names))
    local = list(found)
    if repo is not None:
        there, unread = _remote(repo, names)
        found, unreadable = sorted([*found, *there], key=lambda version: version.name), [*unreadable, *unread]
    if json_:
        console.say(json.dumps([asdict(version) for version in found], ensure_ascii=False, indent=2))
    else:
        _show(found)
        if not (found or unreadable):
            console.say(
                f"nothing is built in {store.root}; `python -m meadow.build NAME` builds, --list says what"
            )
        notes = [f"note: {missing}"] if missing else []
        notes += [f"note: {line}" for line in _newer(local, store)]
        if repo is not None and names:
            from meadow.hub.remote import how

            notes += [f"{each.name} {each.version}: {how(each)}" for each in there]
        for line in [""] * bool(notes) + notes:
            console.say(line)
    for why in unreadable:
        console.warn(f"cannot be listed: {why}")
    if unreadable:
        raise SystemExit(console.FAILED)


def _remote(repo: str, names: Iterable[str]) -> tuple[list[Version], list[str]]:
    from meadow.hub import remote

    with console.failing():
        return remote.versions(repo, names)


def _show(found: Iterable[Version]) -> None:
    table = console.table("dataset", "version", "date", "rows", "licence", "size", "where")
    for each in found:
        marks = " *" * each.current + " (sample)" * each.sample
        licences = "\n".join(each.licenses)
        rows, size = f"{each.rows:,}", size_of(each.bytes)
        table.add_row(each.name, each.version + marks, each.date or "-", rows, licences, size, each.where)
    if table.row_count:
        console.print_table(console.console(), table)


def _built_by(names: Iterable[str]) -> str:
    """What builds the datasets that are asked for, where this Meadow can."""
    makes = _makes()
    told = [
        f"this Meadow builds {name} {makes[name]}: `python -m meadow.build {name}`"
        for name in names
        if name in makes
    ]
    return "".join(f"; {each}" for each in told)


def _newer(local: Iterable[Version], store: Store) -> list[str]:
    """Says which of the versions here this Meadow would build in a newer form."""
    from meadow.core.store import version_key

    makes = {}
    found = []
    for each in local:
        makes = makes or _makes()
        new = makes.get(each.name)
        if each.current and new and version_key(new) > version_key(each.version):
            found.append(
                f"this Meadow builds {each.name} {new}, which is not in {store.root}: `python -m meadow.build {each.name}`"
            )
    return found


def _makes() -> dict[str, str]:
    """The version that this Meadow builds of each dataset."""
    from meadow.core.builder import available, dataset_names
    from meadow.core.store import default_raw

    classes = available()[0]
    return {
        dataset: classes[source].version for dataset, source in dataset_names(classes, default_raw()).items()
    }
