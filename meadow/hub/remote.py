"""The versions of datasets that a repository on the Hugging Face Hub holds, for `meadow versions`.

A collection holds ``<dataset>/<version>/manifest.json`` as an output folder does. Its newest version of each
dataset is the one that loads by name; older ones lie beside it, or only at the tags that were put on them:
``wikidoc-1.0.0`` for a dataset, ``v1.2.0`` for the collection. A repository of a single dataset has its
newest version at its top, and all older ones at tags.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from meadow.core import manifest as manifests
from meadow.core.manifest import Manifest, ManifestError
from meadow.core.store import MANIFEST, version_key
from meadow.core.versions import Version, from_manifest
from meadow.describe.cards.markdown import printable
from meadow.hub import HubError
from meadow.hub.asking import nowhere
from meadow.hub.client import Client, RemoteFile, State
from meadow.hub.push import PREFIX

_VERSION = r"\d{1,6}\.\d{1,6}\.\d{1,6}"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_NAMED = re.compile(rf"({_NAME})/({_VERSION})")
_FOLDER = re.compile(rf"{_NAMED.pattern}/[^/]+")
_TAG = re.compile(rf"(?:({_NAME})-|v)({_VERSION})")
# A manifest has 8 to 10 KB and some 130 bytes more for each raw file: this is one of 100,000 files.
_MANIFEST_BYTES = 16 * 2**20
#: Requests at once: manifests are small, and the Hub counts requests.
_AT_ONCE = 4
# SPDX identifiers, and nothing that a terminal would obey: the Hub's manifests are anybody's text.
_LICENSE = re.compile(r"[A-Za-z0-9.+-]{1,100}")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a version lies.

    At the top of a repository only the manifest knows name and version: there the name is empty, and the commit
    stands for the version, as it tells one from another as well.
    """

    name: str
    version: str
    commit: str
    bytes: int
    manifest_bytes: int

    @property
    def key(self) -> tuple[str, str]:
        return self.name, self.version

    @property
    def manifest(self) -> str:
        return f"{self.name}/{self.version}/{MANIFEST}" if self.name else MANIFEST


def versions(repo: str, names: Iterable[str] = ()) -> tuple[list[Version], list[str]]:
    """The versions in a repository, the private ones that your own token may see among them.

    Args:
        repo: ``ORG/NAME``, or ``ORG`` for all of its repositories named ``medical_meadow_<dataset>``.
        names: Datasets; none stands for all.

    Returns:
        Versions by name, newest first, and what could not be read, in words. `Version.where` is the
        repository (``ORG/NAME``) of a version that loads by its name alone, with the tag
        (``ORG/NAME@wikidoc-1.0.0``) of one that loads by that, or with the folder
        (``ORG/NAME/wikidoc/1.0.0``) of one that only has that. `how` says how each one is loaded.

    Raises:
        HubError: The repository cannot be read, or has none of `names`.
    """
    client, wanted = Client(), set(names)
    found: list[Version] = []
    unreadable: list[str] = []
    there: set[str] = set()
    repos = [repo] if "/" in repo else client.repositories(repo, PREFIX)
    if not repos:
        raise HubError(
            f"{repo} has no dataset repository named {PREFIX}..., or none that your token may see; "
            "for a collection in one repository give its full name, ORG/NAME"
        )
    for one in repos:
        there |= _read(client, one, wanted, found, unreadable)
    if missing := sorted(wanted - there):
        raise HubError(f"{repo} has no {', '.join(missing)}; there are: {', '.join(sorted(there)) or 'none'}")
    found.sort(key=lambda version: version_key(version.version), reverse=True)
    return sorted(found, key=lambda version: version.name), unreadable


def how(version: Version) -> str:
    """The line of Python that loads one of `versions` with no Meadow installed."""
    repo, _, revision = version.where.partition("@")
    owner, name, *folder = repo.split("/")
    more = f', revision="{revision}"' if revision else f', data_dir="{"/".join(folder)}"' if folder else ""
    return f'load_dataset("{owner}/{name}", "{version.name}"{more})'


def _read(
    client: Client, repo: str, wanted: set[str], found: list[Version], unreadable: list[str]
) -> set[str]:
    """Adds the versions in one repository to `found` and `unreadable`; returns the names of all datasets there."""
    state = client.state(repo)
    if not state.head:
        raise HubError(nowhere(repo))
    every, tags = _places(client, repo, state)
    current = _newest(place for place in every if place.commit == state.head)
    places = [place for place in every if not wanted or place.name in {"", *wanted}]
    dates = {}
    for commit in dict.fromkeys(place.commit for place in places):
        paths = [place.manifest for place in places if place.commit == commit]
        dates[commit] = client.dates(repo, commit, paths)
    with ThreadPoolExecutor(_AT_ONCE) as pool, tempfile.TemporaryDirectory(prefix="meadow-") as scratch:
        read = list(pool.map(lambda place: _manifest(client, repo, place, Path(scratch)), places))
    there = {place.name for place in every if place.name}
    done: set[tuple[str, str]] = set()
    for place, manifest in zip(places, read, strict=True):
        tag = tags.get(place.key)
        if isinstance(manifest, str):
            what = f"{place.name} {place.version}" if place.name else f"what stands at {tag or 'main'}"
            unreadable.append(f"{what} in {repo}: {manifest}")
            continue
        key = manifest.name, manifest.version
        there.add(manifest.name)
        if key in done or (wanted and manifest.name not in wanted):
            continue
        done.add(key)
        where = repo
        if not (is_current := current.get(place.name) == place.version):
            where += f"/{place.name}/{place.version}" if tag is None else f"@{tag}"
        date = dates[place.commit].get(place.manifest)
        found.append(from_manifest(manifest, date=date, current=is_current, where=where, size=place.bytes))
    return there


def _newest(places: Iterable[_Place]) -> dict[str, str]:
    """The newest version of each dataset, as later entries win."""
    return dict(sorted((p.key for p in places), key=lambda key: version_key(key[1]) if key[0] else ()))


def _places(client: Client, repo: str, state: State) -> tuple[list[_Place], dict[tuple[str, str], str]]:
    """Where each version lies, on ``main`` where it does, else at a tag; and the tags that load them, by key."""
    tags = {tag: match for tag in state.tags if (match := _TAG.fullmatch(tag))}
    # Of the collection's tags the newest first: a reader is better off with its other datasets, too.
    ordered = sorted(tags, key=lambda tag: version_key(tags[tag][2]), reverse=True)
    seen = {state.head: _listed(state.files, state.head)}
    found = {place.key: place for place in seen[state.head]}
    for tag in ordered:
        commit = state.tags[tag]
        if tags[tag].groups() in found:
            continue
        if commit not in seen:
            seen[commit] = _listed(client.tree(repo, commit), commit)
        for place in seen[commit]:
            found.setdefault(place.key, place)
    # At a tag the newest version of each dataset is the one that its card loads.
    loading: dict[tuple[str, str], str] = {}
    for tag in ordered:
        for key in _newest(seen.get(state.tags[tag], ())).items():
            loading.setdefault(key, tag)
    exact = {key: tag for key in found if (tag := f"{key[0]}-{key[1]}") in tags}
    return list(found.values()), {**loading, **exact}


def _listed(there: Mapping[str, RemoteFile], commit: str) -> list[_Place]:
    """The versions whose files are there at a commit."""
    files: dict[tuple[str, str], dict[str, int]] = {}
    for path, file in there.items():
        match = _FOLDER.fullmatch(path)
        if match or "/" not in path:
            key = (match[1], match[2]) if match else ("", commit)
            files.setdefault(key, {})[path.rsplit("/", 1)[-1]] = file.size
    return [
        _Place(*key, commit, sum(inside.values()), inside[MANIFEST])
        for key, inside in files.items()
        if MANIFEST in inside
    ]


def _manifest(client: Client, repo: str, place: _Place, scratch: Path) -> Manifest | str:
    """A manifest, or why it cannot be used."""
    if place.manifest_bytes > _MANIFEST_BYTES:
        return f"its {MANIFEST} has {place.manifest_bytes:,} bytes, which no build writes"
    try:
        read = client.read(repo, place.manifest, place.commit, scratch)
        found = manifests.loads(read, f"its {MANIFEST}", "build it again and push it")
    except (HubError, ManifestError) as error:
        return printable(str(error))
    key = found.name, found.version
    if key != place.key if place.name else not _NAMED.fullmatch("/".join(key)):
        return f"its {MANIFEST} is of another dataset or version"
    if not all(_LICENSE.fullmatch(spdx) for spdx in found.license_ids):
        return f"its {MANIFEST} names a licence by what is no identifier"
    return found
