"""Loading built datasets, through Hugging Face `datasets`.

`MeadowDatasets` is an ordinary Arrow-based builder over the Parquet files of a `Store`. It serves both
``datasets.load_dataset("meadow", NAME)`` (see `meadow.registration`) and `load_dataset` here.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import datasets
import pyarrow.parquet as pq

from meadow.core import rows as _rows
from meadow.core.store import Store, StoreError, default_out, default_raw, version_key

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

__all__ = ["MeadowDatasets", "build_datasets", "load_dataset", "rows"]

#: What the cache of `datasets` keeps of a dataset: other values, another folder in it.
_CACHED = ("rows_sha256", "description", "homepage", "citation")


class _Names:
    """``MeadowDatasets.builder_configs``, which ``datasets.get_dataset_config_names`` asks the class for.

    A builder itself has none that are predefined: it is configured from its own arguments.
    """

    def __get__(self, builder: MeadowDatasets | None, cls: type) -> dict[str, datasets.BuilderConfig]:
        if builder is not None:
            return {}
        return {name: datasets.BuilderConfig(name) for name in _known(Store(default_out()))}


class MeadowDatasets(datasets.ArrowBasedBuilder):
    """A built dataset; one that is not built yet is built first.

    Args:
        config_name: The dataset.
        version: ``1.0.0``, or its beginning for the newest of those; None for the newest of all.
        out: The output folder; None for ``$MEADOW_OUT`` or the user's cache.
        **kwargs: Those of `datasets.DatasetBuilder`.
    """

    builder_configs = _Names()

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
        self._store = _store(out)
        self._manifest = manifest = _manifest(config_name, version, self._store)
        # Version and hash name the folder in the cache of `datasets`; where the rows came from does not.
        cached = json.dumps([manifest[key] for key in _CACHED])
        kwargs["hash"] = hashlib.sha256(cached.encode()).hexdigest()[:32]
        super().__init__(*args, config_name=config_name, version=manifest["version"], **kwargs)

    def _info(self) -> datasets.DatasetInfo:
        manifest = self._manifest
        return datasets.DatasetInfo(
            description=manifest["description"],
            features=datasets.Features.from_arrow_schema(_rows.schema(manifest["features"])),
            homepage=manifest["homepage"],
            citation=manifest["citation"],
            license=", ".join(manifest["licenses"]),
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        found = self._store.files(self._manifest["name"], self._manifest["version"])
        return [
            # A list in `gen_kwargs` is what `datasets` deals out to processes and data loader workers.
            datasets.SplitGenerator(name=split, gen_kwargs={"pieces": _pieces(paths)})
            for split, paths in found.items()
        ]

    def _generate_tables(self, pieces: list[tuple[str, int]]) -> Iterator[tuple[str, pa.Table]]:
        name, version = self._manifest["name"], self._manifest["version"]
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
        if again["rows_sha256"] != self._manifest["rows_sha256"]:
            raise StoreError(f"{name} {version} was built anew while it was being read; load it again")


def _pieces(files: list[Path]) -> list[tuple[str, int]]:
    """The row groups of Parquet files, each with the path of its file."""
    return [(str(path), group) for path in files for group in range(pq.read_metadata(path).num_row_groups)]


def _store(out: Path | str | None) -> Store:
    # `datasets` replaces `Path` among a builder module's globals, by one that also knows URLs.
    from pathlib import Path

    return Store(Path(out) if out else default_out())


def _manifest(name: str | None, version: object, store: Store) -> dict[str, Any]:
    if not name:
        raise ValueError(
            f'name a dataset: load_dataset("meadow", NAME); there are: {", ".join(_known(store))}'
        )
    version = None if version is None else str(version)
    try:
        manifest = store.manifest(name, version)
    except StoreError:
        if store.versions(name) and version is None:
            raise
        return _built_now(name, version, store)
    return _told(manifest, store)


def _known(store: Store) -> list[str]:
    from meadow import mix as mixtures
    from meadow.core.builder import available
    from meadow.pipeline.build import dataset_names

    mixed = (mixtures.PREFIX + name for name in mixtures.available())
    return sorted({*store.names(), *dataset_names(available()[0], default_raw()), *mixed})


def _built_now(name: str, version: str | None, store: Store) -> dict[str, Any]:
    """Builds a dataset that is not there, from the raw store or else from its sample, and says so."""
    from filelock import FileLock

    from meadow import mix as mixtures
    from meadow.core.builder import available
    from meadow.pipeline import build as pipeline

    classes, broken = available()
    by_dataset = pipeline.dataset_names(classes, default_raw())
    mixture = None
    if name not in by_dataset and name in map(mixtures.PREFIX.__add__, mixtures.available()):
        mixture = mixtures.load(name)
    elif name not in by_dataset:
        if store.versions(name):
            store.resolve(name, version)  # says which versions there are of what no source here builds
        message = f"no dataset is named {name!r}; there are: {', '.join(_known(store))}"
        if broken:
            message += f" (and what {', '.join(broken)} would build, which cannot be loaded)"
        raise ValueError(message)
    makes = mixture.version if mixture else classes[by_dataset[name]].version
    if version is not None and version != makes and not makes.startswith(version + "."):
        known = mixture.release_notes if mixture else classes[by_dataset[name]].release_notes
        raise ValueError(_unavailable(name, version, makes, known, store))
    lock = store.root / ".meadow" / "first-use.lock"
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{name} is not built, and cannot be: cannot write to {store.root}: {error.strerror}; "
            "choose another folder by $MEADOW_OUT or out="
        ) from error
    # The processes of one training run ask for it at the same time: one builds, the others wait.
    with FileLock(lock):
        try:
            return _told(store.manifest(name, version), store)
        except StoreError:
            pass
        _say(
            f"{name} is not built in {store.root} yet; building it (`python -m meadow.build "
            f"{f'mixture:{mixture.name}' if mixture else name}` does the same, on all cores)"
        )
        # In this process: new ones would run a script that has no `if __name__ == "__main__"` again.
        ensure = partial(pipeline.build, out=store.root)
        if mixture:
            mixtures.build(mixture, store, ensure=ensure)
        elif (report := ensure([name])).failed:
            raise StoreError(f"{name} could not be built: {'; '.join(report.failed.values())}")
    return _told(store.manifest(name, version), store)


def _unavailable(name: str, version: str, makes: str, known: Iterable[str], store: Store) -> str:
    """Says which versions there are, and how to get the one that was asked for."""
    there = ", ".join(store.versions(name)) or "none"
    message = f"{name} has no version {version}: built in {store.root}: {there}; this Meadow builds {makes}"
    known = sorted((each for each in known if each.replace(".", "").isdigit()), key=version_key)
    earlier = [each for each in known if each == version or each.startswith(version + ".")]
    if not earlier:
        return f"{message}; there has never been a {version}, but {', '.join(known)}"
    tag = f"{name}-{earlier[-1]}"
    return (
        f"{message}. {earlier[-1]} is built by an earlier release of Meadow; where it was pushed to a repository, "
        f'load_dataset("ORG/NAME", "{name}", revision="{tag}") loads it, and `meadow versions {name} --repo '
        "ORG/NAME` lists what is there"
    )


_said: set[str] = set()


def _told(manifest: dict[str, Any], store: Store) -> dict[str, Any]:
    """Says, once in a process, in what a dataset is less than its name promises; returns the manifest."""
    if "mixture" in manifest:
        from meadow import mix as mixtures

        name = manifest["mixture"]["name"]
        if manifest["sample"]:
            _say_once(
                f"{manifest['name']} in {store.root} is a mixture of the small embedded SAMPLES, written for "
                f"tests, not the real data; for that put raw files into {default_raw()} and run "
                f"`python -m meadow.build mixture:{name if name in mixtures.available() else 'FILE.yaml'}`"
            )
        for note in mixtures.notes(manifest):
            if "INCOMPLETE" in note:
                _say_once(note)
    elif manifest["sample"]:
        _say_sample(manifest, store)
    return manifest


def _say_sample(manifest: Mapping[str, Any], store: Store) -> None:
    """Says that rows are not the real ones, and how to get those."""
    from meadow.core.builder import available
    from meadow.core.raw import find

    name, source = manifest["name"], manifest["source"]
    folder, builder = default_raw() / source, available()[0].get(source)
    there = builder is not None and find(builder, default_raw()).files
    where = (
        f"raw files are in {folder} now:" if there else f"for the real data put raw files into {folder} and"
    )
    command = f"python -m meadow.build {source}"
    if store.root != default_out():
        command += f" --out {store.root}"
    _say_once(
        f"{name} in {store.root} is the small embedded SAMPLE of {source}, written for tests, not the real "
        f"data; {where} run `{command}`"
    )


def _say_once(message: str) -> None:
    if message not in _said:
        _said.add(message)
        _say(message)


def _say(message: str) -> None:
    print(f"meadow: {message}", file=sys.stderr)


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


def build_datasets(*args: Any, **kwargs: Any) -> Any:
    """See `meadow.pipeline.build.build`."""
    from meadow.pipeline.build import build

    return build(*args, **kwargs)


def rows(name: str, *, version: str | None = None, out: Path | str | None = None) -> Iterator[dict[str, Any]]:
    """Reads a built dataset row by row, split after split, in flat memory.

    Raises:
        StoreError: It is not built, or not in that version.
    """
    for paths in _store(out).files(name, version).values():
        for path in paths:
            # With `pre_buffer`, pyarrow's default, it would hold whole columns of the file.
            with pq.ParquetFile(path, pre_buffer=False) as file:
                for batch in file.iter_batches(batch_size=1000):
                    yield from batch.to_pylist()
