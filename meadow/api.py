"""What a program calls: building datasets and listing them. `meadow.loading` loads them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from meadow.core.builder import Builder, available, dataset_names
from meadow.core.errors import UnknownDatasetError, UsageError
from meadow.core.manifest import Manifest
from meadow.core.options import BuildOptions
from meadow.core.rawstore import find
from meadow.core.store import Store, StoreError, default_out, default_raw, version_key
from meadow.core.workers import Progress, silent
from meadow.mix import building, definition
from meadow.pipeline.build import build
from meadow.pipeline.report import Report

#: What names of mixtures begin with among those to build; the datasets are named by `definition.PREFIX`.
MIXTURE = "mixture:"

__all__ = ["build_datasets", "list_datasets", "on_first_use"]


def list_datasets(out: Path | str | None = None) -> list[str]:
    """The datasets that `load_dataset` can load, sorted: those that are built, and those that can be.

    Args:
        out: The output folder; None for ``$MEADOW_OUT`` or the user's cache.
    """
    return _known(Store(Path(out) if out else default_out()))


def build_datasets(
    names: Iterable[str] = ("all",),
    options: BuildOptions | None = None,
    *,
    executor: Executor | None = None,
    builders: Mapping[str, type[Builder]] | None = None,
    progress: Progress = silent,
    **changes: Any,
) -> Report:
    """Builds datasets and mixtures and publishes them in an output folder.

    Example:
        >>> meadow.build_datasets(["wikidoc"], out="data", workers=8)

    Args:
        names: Sources, datasets or ``mixture:NAME``; ``all`` is every source.
        options: What is asked of the build; None for the defaults.
        executor: Where tasks run instead of in processes of its own; anything that pickles them, such as a dask
            client's.
        builders: The sources to choose from; None for those of all installed packages.
        progress: Told of every finished piece of work.
        **changes: Attributes of `meadow.core.options.BuildOptions`, in place of those of `options`.

    Returns:
        What was built and what was not. Bad rows and files are in there, not raised.

    Raises:
        UsageError: A name, parameter, raw folder or evaluation set that does not exist, a mixture that is none, or
            options that exclude each other.
        StoreError: The output folder cannot be used, or another build is using it.
    """
    options = replace(options or BuildOptions(), **changes)
    names = list(names)
    mixed = [definition.load(n.removeprefix(MIXTURE)) for n in names if n.startswith(MIXTURE)]
    if options.lock is not None and len(mixed) != 1:
        raise UsageError("a lock file is that of one mixture: name that one, as mixture:NAME")

    def built(wanted: list[str]) -> Report:
        return build(wanted, options, executor=executor, builders=builders, progress=progress)

    report = built([name for name in names if not name.startswith(MIXTURE)])

    def ensure(missing: list[str]) -> Report:
        part = built(missing)
        report.add(part)
        return part

    for mixture in mixed:
        try:
            manifest = building.build(
                mixture, options, executor=executor, progress=progress, ensure=ensure, builders=builders
            )
        except StoreError as error:
            report.failed[mixture.dataset] = str(error)
        else:
            report.manifests.append(manifest)
            report.notes += building.notes(manifest)
    return report


def on_first_use(name: str | None, version: object, store: Store) -> Manifest:
    """The manifest of a dataset that is to be loaded; one that is not built yet is built first.

    It is built from the raw store, or from its sample where that has nothing. What is less than its name
    promises (a sample, a mixture that lacks parts) is said on standard error, once in a process.

    Raises:
        UnknownDatasetError: There is no such dataset or version; the message names those there are.
        StoreError: It cannot be read or built.
    """
    if not name:
        raise UnknownDatasetError(
            f'name a dataset: load_dataset("meadow", NAME); there are: {", ".join(_known(store))}'
        )
    version = None if version is None else str(version)
    try:
        manifest = store.manifest(name, version)
    except StoreError:
        if store.versions(name) and version is None:
            raise
        manifest = _built_now(name, version, store)
    for note in _doubts(manifest, store):
        if note not in _said:
            _said.add(note)
            _say(note)
    return manifest


def _known(store: Store) -> list[str]:
    mixed = (definition.PREFIX + name for name in definition.available())
    return sorted({*store.names(), *dataset_names(available()[0], default_raw()), *mixed})


def _built_now(name: str, version: str | None, store: Store) -> Manifest:
    """Builds a dataset that is not there, from the raw store or else from its sample, and says so."""
    from filelock import FileLock

    classes, broken = available()
    by_dataset = dataset_names(classes, default_raw())
    mixed = {definition.PREFIX + each: each for each in definition.available()}
    if name in by_dataset:
        asked, made = name, classes[by_dataset[name]]
    elif name in mixed:
        asked, made = MIXTURE + mixed[name], definition.load(mixed[name])
    else:
        if store.versions(name):
            store.resolve(name, version)  # says which versions there are of what no source here builds
        message = f"no dataset is named {name!r}; there are: {', '.join(_known(store))}"
        if broken:
            message += f" (and what {', '.join(broken)} would build, which cannot be loaded)"
        raise UnknownDatasetError(message)
    if version is not None and version != made.version and not made.version.startswith(version + "."):
        raise UnknownDatasetError(_unavailable(name, version, made.version, made.release_notes, store))
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
        with contextlib.suppress(StoreError):
            return store.manifest(name, version)
        _say(
            f"{name} is not built in {store.root} yet; building it (`python -m meadow.build {asked}` does the same, on "
            "all cores)"
        )
        # In this process: new ones would run a script that has no `if __name__ == "__main__"` again.
        report = build_datasets([asked], out=store.root)
        if name in report.failed or name in by_dataset and report.failed:
            raise StoreError(f"{name} could not be built: {'; '.join(report.failed.values())}")
    return store.manifest(name, version)


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


def _doubts(manifest: Manifest, store: Store) -> Iterator[str]:
    """In what a dataset is less than its name promises."""
    if manifest.mixture is not None:
        name = manifest.mixture.name
        if manifest.sample:
            yield (
                f"{manifest.name} in {store.root} is a mixture of the small embedded SAMPLES, written for "
                f"tests, not the real data; for that put raw files into {default_raw()} and run "
                f"`python -m meadow.build mixture:{name if name in definition.available() else 'FILE.yaml'}`"
            )
        yield from building.missing(manifest)
    elif manifest.sample:
        source = manifest.source
        folder, builder = default_raw() / source, available()[0].get(source)
        there = builder is not None and find(builder, default_raw()).files
        where = (
            f"raw files are in {folder} now:"
            if there
            else f"for the real data put raw files into {folder} and"
        )
        out = "" if store.root == default_out() else f" --out {store.root}"
        yield (
            f"{manifest.name} in {store.root} is the small embedded SAMPLE of {source}, written for tests, not the real "
            f"data; {where} run `python -m meadow.build {source}{out}`"
        )


def _say(message: str) -> None:
    print(f"meadow: {message}", file=sys.stderr)
