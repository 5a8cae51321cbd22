"""The versions of datasets that a repository on the Hugging Face Hub holds, for `meadow versions`.

A collection holds ``<dataset>/<version>/manifest.json`` as an output folder does. Its newest version of each
dataset is the one that loads by name; older ones lie beside it, or only at the tags that were put on them:
``wikidoc-1.0.0`` for a dataset, ``v1.2.0`` for the collection. A repository of a single dataset has its
newest version at its top, and all older ones at tags.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from meadow.core.store import MANIFEST, version_key
from meadow.core.versions import Version, from_manifest
from meadow.hub import HubError
from meadow.hub.push import PREFIX

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")

_VERSION = r"\d{1,6}\.\d{1,6}\.\d{1,6}"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_NAMED = re.compile(rf"({_NAME})/({_VERSION})")
_FOLDER = re.compile(rf"{_NAMED.pattern}/[^/]+")
_TAG = re.compile(rf"(?:({_NAME})-|v)({_VERSION})")
# A manifest has 8 to 10 KB and some 130 bytes more for each raw file: this is one of 100,000 files.
_MANIFEST_BYTES = 16 * 2**20
#: The Hub answers 50 paths at once where it is asked for their last commits (huggingface_hub, list_repo_tree).
_PATHS_AT_ONCE = 50
#: Requests at once: manifests are small, and the Hub counts requests.
_AT_ONCE = 4
# SPDX identifiers, and nothing that a terminal would obey: the Hub's manifests are anybody's text.
_LICENSE = re.compile(r"[A-Za-z0-9.+-]{1,100}")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a version lies.

    Attributes:
        name: The dataset; empty at the top of a repository, where only the manifest knows.
        version: Its version; at the top of a repository the commit, which tells one from another as well.
        commit: The commit.
        bytes: Of all its files.
        manifest_bytes: Of its manifest.
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
    from huggingface_hub import HfApi

    api, wanted = HfApi(), set(names)
    found: list[Version] = []
    unreadable: list[str] = []
    there: set[str] = set()
    for one in [repo] if "/" in repo else _repositories(api, repo):
        there |= _read(api, one, wanted, found, unreadable)
    if missing := sorted(wanted - there):
        raise HubError(f"{repo} has no {', '.join(missing)}; there are: {', '.join(sorted(there)) or 'none'}")
    found.sort(key=lambda version: version_key(version.version), reverse=True)
    return sorted(found, key=lambda version: version.name), unreadable


def how(version: Version) -> str:
    """The line of Python that loads a remote version with no Meadow installed.

    Args:
        version: One of `versions`.
    """
    repo, _, revision = version.where.partition("@")
    owner, name, *folder = repo.split("/")
    more = f', revision="{revision}"' if revision else f', data_dir="{"/".join(folder)}"' if folder else ""
    return f'load_dataset("{owner}/{name}", "{version.name}"{more})'


def _repositories(api: HfApi, owner: str) -> list[str]:
    listed = _asked(owner, lambda: [info.id for info in api.list_datasets(author=owner, search=PREFIX)])
    found = sorted(name for name in listed if name.split("/")[-1].startswith(PREFIX))
    if not found:
        raise HubError(
            f"{owner} has no dataset repository named {PREFIX}..., or none that your token may see; "
            "for a collection in one repository give its full name, ORG/NAME"
        )
    return found


def _read(api: HfApi, repo: str, wanted: set[str], found: list[Version], unreadable: list[str]) -> set[str]:
    """Adds the versions in one repository to `found` and `unreadable`; returns the names of all datasets there."""
    # Asked first, because the client asks this once where it repeats other questions for half a minute.
    head = _asked(repo, lambda: api.repo_info(repo, repo_type="dataset").sha)
    every, tags = _places(api, repo, head)
    # Later entries win: of each dataset on `main` the newest version stays.
    current = dict(place.key for place in sorted(every, key=_by_version) if place.commit == head)
    places = [place for place in every if not wanted or place.name in {"", *wanted}]
    dates = _dates(api, repo, places)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        manifests = list(pool.map(lambda place: _manifest(repo, place), places))
    there = {place.name for place in every if place.name}
    done: set[tuple[str, str]] = set()
    for place, manifest in zip(places, manifests, strict=True):
        tag = tags.get(place.key)
        if isinstance(manifest, str):
            what = f"{place.name} {place.version}" if place.name else f"what stands at {tag or 'main'}"
            unreadable.append(f"{what} in {repo}: its {MANIFEST} {manifest}")
            continue
        key = name, _ = manifest["name"], manifest["version"]
        there.add(name)
        if key in done or (wanted and name not in wanted):
            continue
        done.add(key)
        where = repo
        if not (is_current := current.get(place.name) == place.version):
            where += f"/{place.name}/{place.version}" if tag is None else f"@{tag}"
        date = dates.get((place.commit, place.manifest))
        found.append(from_manifest(manifest, date=date, current=is_current, where=where, size=place.bytes))
    return there


def _by_version(place: _Place) -> tuple[str, tuple[int, ...]]:
    return place.name, version_key(place.version) if place.name else ()


def _places(api: HfApi, repo: str, head: str) -> tuple[list[_Place], dict[tuple[str, str], str]]:
    """Where each version lies, on ``main`` where it does, else at a tag; and the tags that load them, by key."""
    refs = _asked(repo, lambda: api.list_repo_refs(repo, repo_type="dataset"))
    tags = {tag.name: tag.target_commit for tag in refs.tags if _TAG.fullmatch(tag.name)}
    # Of the collection's tags the newest first: a reader is better off with its other datasets, too.
    ordered = sorted(tags, key=lambda tag: version_key(_TAG.fullmatch(tag)[2]), reverse=True)
    seen = {head: _listed(api, repo, head)}
    found = {place.key: place for place in seen[head]}
    for tag in ordered:
        if _TAG.fullmatch(tag).groups() in found:
            continue
        if tags[tag] not in seen:
            seen[tags[tag]] = _listed(api, repo, tags[tag])
        for place in seen[tags[tag]]:
            found.setdefault(place.key, place)
    # At a tag the newest version of each dataset is the one that its card loads.
    loading: dict[tuple[str, str], str] = {}
    for tag in ordered:
        for key in dict(place.key for place in sorted(seen.get(tags[tag], ()), key=_by_version)).items():
            loading.setdefault(key, tag)
    exact = {key: tag for key in found if (tag := f"{key[0]}-{key[1]}") in tags}
    return list(found.values()), {**loading, **exact}


def _listed(api: HfApi, repo: str, commit: str) -> list[_Place]:
    """The versions whose files are there at a commit."""
    files: dict[tuple[str, str], dict[str, int]] = {}
    for entry in _asked(
        repo,
        lambda: list(api.list_repo_tree(repo, recursive=True, revision=commit, repo_type="dataset")),
    ):
        match, size = _FOLDER.fullmatch(entry.path), getattr(entry, "size", None)
        if size is not None and (match or "/" not in entry.path):
            key = (match[1], match[2]) if match else ("", commit)
            files.setdefault(key, {})[entry.path.rsplit("/", 1)[-1]] = size
    return [
        _Place(*key, commit, sum(inside.values()), inside[MANIFEST])
        for key, inside in files.items()
        if MANIFEST in inside
    ]


def _dates(api: HfApi, repo: str, places: Sequence[_Place]) -> dict[tuple[str, str], str]:
    """The days on which manifests were committed, in UTC, by commit and path."""
    found: dict[tuple[str, str], str] = {}
    for commit in dict.fromkeys(place.commit for place in places):
        paths = [place.manifest for place in places if place.commit == commit]
        for start in range(0, len(paths), _PATHS_AT_ONCE):
            some = paths[start : start + _PATHS_AT_ONCE]
            for entry in _asked(repo, _expanded(api, repo, commit, some)):
                if entry.last_commit is not None:
                    found[commit, entry.path] = entry.last_commit.date.date().isoformat()
    return found


def _expanded(api: HfApi, repo: str, commit: str, paths: list[str]) -> Callable[[], list[Any]]:
    return lambda: api.get_paths_info(repo, paths, expand=True, revision=commit, repo_type="dataset")


def _manifest(repo: str, place: _Place) -> dict[str, Any] | str:
    """A manifest, or why it cannot be used."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff

    if place.manifest_bytes > _MANIFEST_BYTES:
        return f"has {place.manifest_bytes:,} bytes, which no build writes"

    def get() -> bytes:
        url = hf_hub_url(repo, place.manifest, repo_type="dataset", revision=place.commit)
        answer = http_backoff("GET", url, headers=build_hf_headers(), follow_redirects=True, timeout=30)
        hf_raise_for_status(answer)
        return answer.content

    try:
        read = json.loads(_asked(repo, get))
    except (HubError, ValueError, RecursionError) as error:
        return f"cannot be read: {error}"
    wrong = _wrong(read, place)
    return f"cannot be used: {wrong}" if wrong else read


def _wrong(manifest: Any, place: _Place) -> str:
    """What is not as a build writes it, in what a table shows; empty where all is."""
    if not isinstance(manifest, dict):
        return "it is no object"
    key = manifest.get("name"), manifest.get("version")
    if key != place.key if place.name else not _NAMED.fullmatch("{}/{}".format(*key)):
        return "it is of another dataset or version"
    splits, licenses = manifest.get("splits"), manifest.get("licenses")
    if not isinstance(splits, dict) or not isinstance(licenses, dict):
        return "it has no splits or no licences"
    counts = [split.get("rows") if isinstance(split, dict) else None for split in splits.values()]
    if not all(type(count) is int and count >= 0 for count in (*counts, *licenses.values())):
        return "a count of rows is no number"
    return "" if all(_LICENSE.fullmatch(spdx) for spdx in licenses) else "a licence is no identifier"


def _asked(repo: str, call: Callable[[], T]) -> T:
    """What the Hub answers.

    Raises:
        HubError: It refuses, or cannot be reached. Raised outside of the handler, so that it does not
            carry the client's error, which holds the request with its headers.
    """
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        return call()
    except RepositoryNotFoundError:
        told = (
            f"there is no dataset repository {repo} at {ENDPOINT}, or your token may not see it; check the "
            "name, log in by `hf auth login`, or set HF_TOKEN"
        )
    except OfflineModeIsEnabled:
        told = f"cannot ask {ENDPOINT} for {repo}: HF_HUB_OFFLINE is set; unset it"
    except HfHubHTTPError as error:
        status = error.response.status_code
        told = f"{ENDPOINT} refused to show {repo} ({status}: {_REMEDIES.get(status, 'try again later')})"
    except Exception as error:
        # The client's transport (httpx or httpx2, by its version) has errors that share no base with OSError.
        if not isinstance(error, OSError) and not type(error).__module__.startswith("httpx"):
            raise
        told = (
            f"cannot reach {ENDPOINT} ({type(error).__name__}); check the connection, HF_ENDPOINT and, behind a "
            "firewall, HTTPS_PROXY and SSL_CERT_FILE"
        )
    raise HubError(told)


_REMEDIES = {
    401: "your token is not valid; log in again by `hf auth login`, or set HF_TOKEN",
    403: "your token may not read it; ask its owner for access",
    429: "too many requests; try again in some minutes",
}
