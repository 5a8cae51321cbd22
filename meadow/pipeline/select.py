"""The first step: which sources and datasets are wanted, and the raw files there are of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from meadow.core.builder import Builder, dataset_names
from meadow.core.errors import SourceError, UnknownDatasetError
from meadow.core.rawstore import RawSource, find, matches, strangers

#: Names of datasets are names of folders, and of configs on the Hub.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class SelectedSource:
    """A source with its raw files.

    Attributes:
        builder: The source.
        raw: Its raw files.
        configs: All datasets that these give.
        wanted: Those of them that are to be built.
    """

    builder: Builder
    raw: RawSource
    configs: tuple[str, ...]
    wanted: tuple[str, ...]


def select(
    names: Iterable[str], classes: Mapping[str, type[Builder]], raw: Path | None
) -> dict[str, tuple[str, ...]]:
    """The datasets wanted of each source, all where the tuple is empty, by names of either or ``all``.

    Raises:
        UnknownDatasetError: A name is neither a source nor a dataset.
    """
    whole: set[str] = set()
    single: dict[str, tuple[str, ...]] = {}
    datasets: dict[str, str] = {}
    for name in names:
        if name == "all":
            whole.update(classes)
        elif name in classes:
            whole.add(name)
        else:
            datasets = datasets or dataset_names(classes, raw)
            if name not in datasets:
                known = ", ".join(sorted({*classes, *datasets}))
                raise UnknownDatasetError(f"no source or dataset is named {name!r}; there are: all, {known}")
            single[datasets[name]] = (*single.get(datasets[name], ()), name)
    return {source: () if source in whole else single[source] for source in sorted({*whole, *single})}


def open_source(
    builder: Builder, root: Path | None, wanted: tuple[str, ...] = (), *, require_raw: bool = False
) -> SelectedSource:
    """Finds a source's raw files, or else its embedded sample, unless only raw files will do.

    Raises:
        SourceError: There is nothing to build it from, or a dataset's name cannot be one.
    """
    raw = find(builder, root)
    if root is not None and not raw.files:
        if require_raw:
            patterns = "; ".join(f"{p.pattern} ({p.description})" for p in builder.raw_files if p.required)
            raise SourceError(f"no raw files in {root / builder.name}; it reads {patterns}")
        raw = find(builder, None)
    if not raw.files:
        raise SourceError(f"its embedded sample is missing from {builder.folder() / 'sample'}")
    every = tuple(builder.configs_of(raw))
    chosen = tuple(config for config in every if not wanted or config in wanted)
    for config in chosen:
        if not _NAME.fullmatch(config):
            raise SourceError(f"{config!r} cannot be a dataset's name: letters, digits, '_', '-' and '.' can")
    return SelectedSource(builder, raw, every, chosen)


def unused(builder: Builder, root: Path) -> list[str]:
    """The raw files in a source's folder that it does not read, in words."""
    found = []
    for file in find(builder, root).unused:
        inner = file.path.split("/", 1)[1]
        known = any(matches(inner, pattern.pattern) for pattern in builder.raw_files)
        why = "only goes with files that are not there" if known else f"is no raw file of {builder.name}"
        found.append(f"raw: {file.path} {why} and was not used")
    return found


def foreign(root: Path, sources: Iterable[str]) -> list[str]:
    """What lies in the raw store and belongs to no source, in words."""
    return [
        f"raw: {name} ({'1 file' if count == 1 else f'{count} files'}) belongs to no source and was not used"
        for name, count in strangers(root, sources)
    ]
