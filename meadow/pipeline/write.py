"""The fourth step: what is kept of a source becomes a folder for each dataset, ready to be put in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from meadow.core.manifest import Manifest
from meadow.core.options import BuildOptions
from meadow.core.parts import FINDING_COLUMNS, Part
from meadow.core.store import ATTRIBUTION, MANIFEST, PRIVACY, REJECTED
from meadow.core.workers import Crew
from meadow.describe import attribution, cards
from meadow.pipeline import record
from meadow.pipeline.files import WrittenFile, files_of, write_rejected, write_rows, write_tables
from meadow.pipeline.screen import ScreenedSource, contamination_of, duplicates_of

#: The Parquet files of a dataset by split, each with its name, in order.
Files = Mapping[str, list[tuple[str, WrittenFile]]]


@dataclass(frozen=True)
class StagedDataset:
    """A finished version that is not yet in place.

    Attributes:
        manifest: Its manifest.
        folder: Its folder.
        words: The words of its card.
    """

    manifest: Manifest
    folder: Path
    words: str


@dataclass(frozen=True)
class _Dataset:
    """A dataset that has rows: where it goes, the parts of each of its files by name, and its rejects."""

    config: str
    folder: Path
    files: Mapping[str, list[tuple[str, list[Part]]]]
    rejects: list[Part]


def write(source: ScreenedSource, options: BuildOptions, crew: Crew) -> list[StagedDataset]:
    """Writes the datasets of a source that have rows.

    Raises:
        SourceError: Rows carry a licence that the builder does not declare.
    """
    parsed = source.parsed
    datasets = [each for config in parsed.wanted if (each := _planned(source, config)).files]
    written = _write_files(source, datasets, crew)
    _write_beside(source, datasets, written, crew)
    staged = []
    for each in datasets:
        trained = any(each.config in piece.part.configs for piece in source.pieces())
        manifest = record.make(
            source,
            each.config,
            each.folder,
            written[each.config],
            options,
            contamination=contamination_of(source, each.config, options, each.folder) if trained else None,
            duplicates=duplicates_of(source, each.config, options, each.folder) if trained else None,
        )
        manifest.write(each.folder / MANIFEST)
        words = cards.words_for(parsed.builder.card_name(each.config), parsed.builder.folder())
        staged.append(StagedDataset(manifest, each.folder, words))
    return staged


def _planned(source: ScreenedSource, config: str) -> _Dataset:
    parsed, left_out = source.parsed, source.out.rows[config]
    mine = [part for part in (*parsed.parts, *source.out.parts) if config in part.configs]
    kept = [p for p in mine if p.split is not None and p.rows > len(left_out.get(p.path, ()))]
    files = {}
    for split in dict.fromkeys((*parsed.builder.official_splits, *parsed.builder.split_shares)):
        cut = files_of(part for part in kept if part.split == split)
        if cut:
            names = (f"{split}-{index:05d}-of-{len(cut):05d}.parquet" for index in range(len(cut)))
            files[split] = list(zip(names, cut, strict=True))
    rejects = [part for part in mine if part.split is None]
    return _Dataset(config, parsed.scratch / "staged" / config, files, rejects)


def _write_files(source: ScreenedSource, datasets: list[_Dataset], crew: Crew) -> dict[str, Files]:
    parsed = source.parsed
    columns, name = parsed.builder.features(), parsed.builder.name
    calls, owners = [], []
    for each in datasets:
        each.folder.mkdir(parents=True)
        drop = {path: np.array(sorted(rows)) for path, rows in source.out.rows[each.config].items()}
        for split, files in each.files.items():
            for file, parts in files:
                chosen = [(part, drop.get(part.path)) for part in parts]
                work = str(parsed.scratch / f"{len(calls)}")
                owners.append((each.config, split, file))
                calls.append((write_rows, chosen, columns, each.folder / file, work))
        bad = parsed.bad_files[each.config]
        owners.append(None)
        calls.append((write_rejected, each.rejects, bad, name, each.folder / REJECTED))
    written: dict[str, Any] = {each.config: {} for each in datasets}
    for owner, result in zip(owners, crew.run(name, "writing", calls), strict=True):
        if owner is not None:
            config, split, file = owner
            written[config].setdefault(split, []).append((file, result))
    return written


def _write_beside(
    source: ScreenedSource, datasets: list[_Dataset], written: Mapping[str, Files], crew: Crew
) -> None:
    """Writes the tables of what could identify a person, and of whom credit is owed to."""
    builder = source.parsed.builder
    changes = {builder.name: builder.changes} if builder.changes else {}
    calls = []
    for each in datasets:
        every = [file for files in written[each.config].values() for file in files]
        findings = [file.findings for _, file in every if file.findings]
        calls.append((write_tables, findings, FINDING_COLUMNS, each.folder / PRIVACY))
        paths = [each.folder / name for name, _ in every]
        calls.append((attribution.write, paths, each.folder / ATTRIBUTION, builder.terms(), changes))
    for future in [crew.executor.submit(*call) for call in calls]:
        future.result()
