"""``meadow build --list``: sources, datasets, versions, licences, and the raw files that are there."""

from __future__ import annotations

from pathlib import Path

from meadow.cli import console


def show(names: list[str], raw: Path | None, sample: bool) -> None:
    """Prints what names ask for; ``all`` is everything."""
    from meadow import mix as mixtures
    from meadow.core.builder import available
    from meadow.core.rawstore import find, strangers
    from meadow.core.store import default_raw

    classes, broken = available()
    root = None if sample else raw or default_raw()
    if raw is not None and not raw.is_dir():
        console.fail(
            f"the raw folder {raw} does not exist; it holds one folder per source", console.WRONG_USE
        )
    table = console.table("source", "datasets", "version", "licence", "raw files")
    unknown, known = dict.fromkeys(names), ["all"]
    unknown.pop("all", None)
    for name, cls in classes.items():
        builder = cls()
        found = find(builder, root)
        configs = builder.configs_of(found if found.files else find(builder, None))
        known += dict.fromkeys((name, *configs))
        asked = [unknown.pop(n) or n for n in (name, *configs) if n in unknown]
        if "all" not in names and not asked:
            continue
        licences = sorted({cls.license.id, *(extra.id for extra in cls.licenses)})
        files = [f"{file.path} ({console.size_of(file.bytes)})" for file in found.files if not found.sample]
        files += [f"{file.path} (not used)" for file in found.unused if not found.sample]
        if not found.files or found.sample:
            files.append("none: its sample is built")
        table.add_row(name, "\n".join(configs), cls.version, "\n".join(licences), "\n".join(files))
    if unknown:
        console.fail(
            f"no source or dataset is named {next(iter(unknown))!r}; there are: {', '.join(known)}",
            console.WRONG_USE,
        )
    screen = console.console()
    console.print_table(screen, table)
    if "all" in names:
        screen.print("\nmixtures: " + ", ".join(f"mixture:{name}" for name in mixtures.available()))
    if root is not None:
        screen.print(f"\nraw store: {root}" + ("" if root.is_dir() else " (not there)"))
        for name, count in strangers(root, classes) if root.is_dir() else []:
            files = "1 file" if count == 1 else f"{count} files"
            screen.print(f"note: {root / name} ({files}) belongs to no source and is not used")
    for name, why in broken.items():
        console.warn(f"source {name} cannot be loaded: {why}")
