"""Loading built datasets, through Hugging Face `datasets`.

`MeadowDatasets` is an ordinary Arrow-based builder over the Parquet files of a `Store`. It serves both
``datasets.load_dataset("meadow", NAME)`` (see `meadow.registration`) and `load_dataset` here. It is no part of
`meadow.api` because importing `datasets` takes longer than a small build.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import datasets
import pyarrow.parquet as pq

from meadow.api import list_datasets, on_first_use
from meadow.core.row import arrow_schema
from meadow.core.store import Store, StoreError, default_out

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

__all__ = ["MeadowDatasets", "load_dataset"]

#: What the cache of `datasets` keeps of a dataset: other values, another folder in it.
_CACHED = ("rows_sha256", "description", "homepage", "citation")


class _Names:
    """``MeadowDatasets.builder_configs``, for ``datasets.get_dataset_config_names``; a builder has none."""

    def __get__(self, builder: MeadowDatasets | None, cls: type) -> dict[str, datasets.BuilderConfig]:
        if builder is not None:
            return {}
        return {name: datasets.BuilderConfig(name) for name in list_datasets()}


class MeadowDatasets(datasets.ArrowBasedBuilder):
    """A built dataset, `config_name`; one that is not built yet is built first."""

    builder_configs = _Names()  # pyright: ignore[reportAssignmentType]  # `datasets` has a descriptor, too

    def __init__(
        self,
        *args: Any,
        config_name: str | None = None,
        version: str | None = None,
        out: Path | str | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("data_dir") or kwargs.get("data_files"):
            raise ValueError(
                'load_dataset("meadow", NAME) reads a dataset that Meadow built, and takes no data_dir or '
                "data_files; out= names another output folder, and raw files are built by "
                "`python -m meadow.build`"
            )
        # Under a name of its own: `datasets` replaces a builder module's `Path` by one that also knows URLs.
        self._store = Store(pathlib.Path(out) if out else default_out())
        self._manifest = manifest = on_first_use(config_name, version, self._store)
        # Version and hash name the folder in the cache of `datasets`; where the rows came from does not.
        cached = json.dumps([getattr(manifest, key) for key in _CACHED])
        kwargs["hash"] = hashlib.sha256(cached.encode()).hexdigest()[:32]
        super().__init__(*args, config_name=config_name, version=manifest.version, **kwargs)

    def _info(self) -> datasets.DatasetInfo:
        manifest = self._manifest
        return datasets.DatasetInfo(
            description=manifest.description,
            features=datasets.Features.from_arrow_schema(arrow_schema(manifest.features)),
            homepage=manifest.homepage,
            citation=manifest.citation,
            license=", ".join(manifest.licenses),
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        found = self._store.files(self._manifest.name, self._manifest.version)
        return [
            # A list in `gen_kwargs` is what `datasets` deals out to processes and data loader workers.
            datasets.SplitGenerator(name=split, gen_kwargs={"pieces": _pieces(paths)})
            for split, paths in found.items()
        ]

    def _generate_tables(self, pieces: list[tuple[str, int]]) -> Iterator[tuple[str, pa.Table]]:
        name, version = self._manifest.name, self._manifest.version
        for number, (path, group) in enumerate(pieces):
            try:
                with pq.ParquetFile(path) as file:
                    table = file.read_row_group(group)
            except FileNotFoundError:
                there = ", ".join(self._store.versions(name)) or "none"
                raise StoreError(
                    f"{name} {version} was removed or built anew while it was being read; there are: {there}; "
                    "load one of these"
                ) from None
            yield str(number), table
        # One that was removed after its last row was read has been read whole.
        again = (
            self._store.manifest(name, version) if version in self._store.versions(name) else self._manifest
        )
        if again.rows_sha256 != self._manifest.rows_sha256:
            raise StoreError(f"{name} {version} was built anew while it was being read; load it again")


def _pieces(files: list[Path]) -> list[tuple[str, int]]:
    """The row groups of Parquet files, each with the path of its file."""
    return [(str(path), group) for path in files for group in range(pq.read_metadata(path).num_row_groups)]


def load_dataset(
    name: str,
    *,
    split: str | None = None,
    version: str | None = None,
    streaming: bool = False,
    out: Path | str | None = None,
    num_proc: int | None = None,
    download_mode: str | None = None,
    keep_in_memory: bool = False,
    **kwargs: Any,
) -> Any:
    """Loads a dataset; the same as ``datasets.load_dataset("meadow", name, ...)``.

    Args:
        name: The dataset, such as ``wikidoc``.
        split: A split or slice (``train[:10%]``); None for all of them. Slices cannot be streamed.
        version: ``1.0.0``, or its beginning for the newest of those; None for the newest of all.
        streaming: Read from disk as rows are asked for, without a copy in the `datasets` cache.
        out: The output folder; None for ``$MEADOW_OUT`` or the user's cache.
        num_proc: Processes that prepare the copy; not with `streaming`.
        download_mode: ``force_redownload`` prepares the copy again.
        keep_in_memory: Hold the rows in memory, where they are otherwise mapped from disk.
        **kwargs: For `datasets.DatasetBuilder`: `cache_dir`, `features`...

    Returns:
        `Dataset`, or with several splits `DatasetDict`; their iterable kinds when streaming.

    Raises:
        ValueError: There is no such dataset, version or split; the message names those there are.
        StoreError: It had to be built and could not be.
    """
    if streaming and num_proc is not None:
        raise ValueError("num_proc prepares a copy, and streaming makes none: leave one of them out")
    builder = MeadowDatasets(
        config_name=name, dataset_name="meadow", version=version, out=str(out) if out else None, **kwargs
    )
    if streaming:
        return builder.as_streaming_dataset(split=split)
    builder.download_and_prepare(download_mode=download_mode, num_proc=num_proc)
    return builder.as_dataset(split=split, in_memory=keep_in_memory)
