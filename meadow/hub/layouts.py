"""The two layouts of repositories of datasets, and what a push would change in each.

A *collection* holds one folder per dataset and version, as the output folder does, and a card with one config per
dataset; every version in the output folder travels, and versions that are there already stay. A *single*
repository holds the newest version of one dataset at its top, with that version's card as the repository's own;
older versions are its tags.

Only what Meadow wrote travels: Parquet files that a manifest lists, the files that lie beside them, cards. Of
rows that were left out, and of exam items that were found in rows, the texts stay here: a text that was left out
because nobody may pass it on, or because it names a person, must not leave by the list of what was left out.

Tags. ``wikidoc-1.0.0`` names a commit at which that version of the dataset is current; from then on its rows are
what they are, and other rows under that version are refused. ``vX.Y.Z`` names a state of the whole collection. It
follows from what changed since the newest such tag, by the rule for datasets: MAJOR where a dataset is gone, or
its records changed; MINOR for a new dataset or new columns; PATCH for the rest. The first is ``v1.0.0``. The tags
on the Hub are the only place where it is kept, so that all who push agree on it. A single repository has its
dataset's version as ``vX.Y.Z``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from meadow.core.manifest import Manifest
from meadow.core.store import CARD, CITATION_CFF, MANIFEST, version_key
from meadow.describe import cards
from meadow.describe import citations as citing
from meadow.hub import HubError, StaleError
from meadow.hub.client import RemoteFile
from meadow.hub.files import F, LocalFile, equal, rows_under
from meadow.hub.plan import Plan
from meadow.hub.refusals import hides_example
from meadow.hub.repository import NO_FILE, Repository

_LOADING = re.compile(r"<!-- meadow:begin loading -->.*?<!-- meadow:end loading -->", re.DOTALL)
_IN_FOLDER = re.compile(rf"([^/]+)/(\d+\.\d+\.\d+)/{re.escape(MANIFEST)}")
_RELEASE = re.compile(r"v(\d+\.\d+\.\d+)")
_PLACE = '"path/to/this/folder"'
#: Version and files of rows of each dataset in a collection.
Contents = dict[str, tuple[str, Mapping[str, F]]]


class CollectionRepository(Repository):
    """A repository with a folder per dataset."""

    loading = 'load_dataset("{repo}", "{name}")'

    def plan(self) -> Plan:
        """Plans a push.

        Raises:
            HubError: The Hub cannot be asked, a file here is damaged, or a tag stands for other rows.
            StaleError: Others changed what this push would replace.
        """
        for name in self.names:
            self.refusals += self.refused(self.store.manifest(name))
        if self.refusals:  # nothing will be sent, and the rest of the plan would be about nothing
            return self.finished((), (), "")
        for name in self.names:
            self._take_all(name)
        there = _versions_in(self.state.files)
        newest = _newest([*there, *self.manifests])
        deletes, tags, pushed = [], [], []
        for name, version in list(self.manifests):
            prefix = f"{name}/{version}/"
            if self.settled(name, version, prefix, f"{name}-{version}"):
                self.local = {path: each for path, each in self.local.items() if not path.startswith(prefix)}
            else:
                self._card(name, version, there)
                deletes += self.gone(prefix)
            if newest[name] == version:
                tags.append(f"{name}-{version}")
                pushed.append(f"{name} {version}")
            elif version == self.store.resolve(name):
                self.notes.append(
                    f"{name} {newest[name]} is on the Hub and stays current: {version} gets no tag"
                )
        self._top(newest)
        if self.tag:
            tags.append(self._release(newest))
        return self.finished(deletes, tags, f"Meadow: {', '.join(pushed)}")

    def _take_all(self, name: str) -> None:
        current = self.store.resolve(name)
        for version in self.store.versions(name):
            # Nobody asked for an older version by name: one that must not travel stays, and all others go.
            found = self.refused(self.store.manifest(name, version)) if version != current else []
            self.stays += [(f"{name}/{version}", each.reason) for each in found]
            if not found:
                self.take(name, version, f"{name}/{version}/")

    def _card(self, name: str, version: str, there: Iterable[tuple[str, str]]) -> None:
        path = f"{name}/{version}/{CARD}"
        if path in self.local:
            older = [v for n, v in there if n == name and version_key(v) < version_key(version)]
            earlier = [f"{name}/{v}/{CARD}" for v in sorted(older, key=version_key, reverse=True)]
            self.local[path] = self.merged(path, self.local[path].text, earlier)

    def _top(self, newest: Mapping[str, str]) -> None:
        current = [
            self.manifests[name, version]
            if (name, version) in self.manifests and f"{name}/{version}/{MANIFEST}" in self.local
            else self.remote_manifest(f"{name}/{version}/{MANIFEST}")
            for name, version in sorted(newest.items())
        ]
        self.local[CITATION_CFF] = LocalFile(self._cited(current).encode())
        made = cards.collection_card(current, cards.words_for("collection", Path()), self._here(CARD))
        # Its lines that load a dataset name the repository.
        made = _LOADING.sub(lambda m: m[0].replace(_PLACE, json.dumps(self.repo)), made)
        self.local[CARD] = self.merged(CARD, made)
        for entry in sorted(self.store.root.iterdir()):
            if entry.is_file() and entry.name not in (CARD, CITATION_CFF) and not entry.name.startswith("."):
                self.stays.append((entry.name, NO_FILE))

    def _here(self, name: str) -> str | None:
        path = self.store.root / name
        return LocalFile(path).text if path.is_file() else None

    def _cited(self, current: Sequence[Manifest]) -> str:
        """What to cite; where a person has taken the file over, there or here, it is theirs."""
        there = self.read(CITATION_CFF) if CITATION_CFF in self.state.files else None
        made = citing.collection_cff(current)
        theirs = citing.collection_cff(current, there)
        return theirs if theirs != made else citing.collection_cff(current, self._here(CITATION_CFF))

    def _release(self, newest: Mapping[str, str]) -> str:
        """The tag of the collection as it will be."""
        released = [match[1] for tag in self.state.tags if (match := _RELEASE.fullmatch(tag))]
        if not released:
            return "v1.0.0"
        last = max(released, key=version_key)
        then = self.client.tree(self.repo, self.state.tags[f"v{last}"])
        before: Contents[RemoteFile] = {
            name: (version, rows_under(then, f"{name}/{version}/"))
            for name, version in _newest(_versions_in(then)).items()
        }
        after: Contents[LocalFile | RemoteFile] = {}
        for name, version in newest.items():
            prefix = f"{name}/{version}/"
            after[name] = version, rows_under(self.local, prefix) or rows_under(self.state.files, prefix)
        return "v" + _following(last, before, after)


class SingleRepository(Repository):
    """A repository of one dataset."""

    loading = 'load_dataset("{repo}")'

    def plan(self) -> Plan:
        """Plans a push; raises as `CollectionRepository.plan`."""
        (name,) = self.names
        version = self.store.resolve(name)
        self.refusals += self.refused(self.store.manifest(name, version))
        if self.refusals:
            return self.finished((), (), "")
        self.take(name, version, "")
        if MANIFEST in self.state.files:
            there = self.remote_manifest(MANIFEST)
            if there.name != name:
                raise HubError(f"{self.repo} holds {there.name}; push {name} elsewhere")
            if version_key(there.version) > version_key(version):
                raise StaleError(
                    f"{self.repo} holds {name} {there.version}, which is newer than {version} here; build that, or "
                    "push this one into a collection, which keeps versions side by side"
                )
        tags = [f"{name}-{version}", f"v{version}"]
        deletes: list[str] = []
        settled = [self.settled(name, version, "", tag) for tag in tags]
        if True in settled:
            self.local = {}
        else:
            manifest = self.manifests[name, version]
            shown = manifest.model_copy(update={"example": None}) if hides_example(manifest) else manifest
            made = self.local[CARD].text if CARD in self.local else cards.dataset_card(shown, "")
            self.local[CARD] = self.merged(CARD, made)
            deletes = self.gone("")
        return self.finished(deletes, tags, f"Meadow: {name} {version}")


def _versions_in(files: Iterable[str]) -> list[tuple[str, str]]:
    """The datasets in a collection with their versions, by the paths of its files."""
    return [(match[1], match[2]) for path in files if (match := _IN_FOLDER.fullmatch(path))]


def _newest(found: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The newest version of each dataset."""
    return dict(sorted(found, key=lambda key: (key[0], version_key(key[1]))))


def _following(last: str, before: Contents[RemoteFile], after: Contents[LocalFile | RemoteFile]) -> str:
    """The version of a collection after what changed in it since the last."""
    step = 3
    for name in {*before, *after}:
        if name not in after:
            step = 0
        elif name not in before:
            step = min(step, 1)
        else:
            (old, files), (new, now) = before[name], after[name]
            one, other = version_key(old), version_key(new)
            if one != other:
                step = min(step, next(at for at in range(3) if one[at] != other[at]) if other > one else 0)
            elif not equal(now, files):
                step = 0  # other rows under the same version: their records changed
    parts = list(version_key(last))
    if step < 3:
        parts[step:] = [parts[step] + 1, *[0] * (2 - step)]
    return ".".join(map(str, parts))
