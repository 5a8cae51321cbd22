"""What a push would change in a repository, worked out before anything is sent.

Two layouts. A *collection* holds one folder per dataset and version, as the output folder does, and a card with
one config per dataset; every version in the output folder travels, and versions that are there already stay. A
*single* repository holds the newest version of one dataset at its top, with that version's card as the
repository's own; older versions are its tags.

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

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from meadow.core.store import CARD, CITATION_CFF, CONTAMINATION, MANIFEST, REJECTED, Store, version_key
from meadow.describe import cards
from meadow.describe import citations as citing
from meadow.hub import HubError, StaleError, card
from meadow.hub.client import Client, RemoteFile, State
from meadow.hub.places import without_places
from meadow.hub.refusals import Allowed, Refusal, hides_example, of_dataset

#: Columns with texts that nobody may be sent, by file.
WITHHELD: Mapping[str, tuple[str, ...]] = {REJECTED: ("excerpt", "detail"), CONTAMINATION: ("overlap",)}
#: Files of a version beside its rows, and of the collection.
_BESIDE = re.compile(
    r"manifest\.json|README\.md|plot\.svg|croissant\.json|mixture\.lock\.json|CITATION\.bib"
    r"|(?:rejected|duplicates|contamination|privacy|ATTRIBUTION)\.parquet"
)
_ROWS = re.compile(r"[^/]+-\d{5}-of-\d{5}\.parquet")
_IN_FOLDER = re.compile(r"([^/]+)/(\d+\.\d+\.\d+)/([^/]+)")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_RELEASE = re.compile(r"v(\d+\.\d+\.\d+)")


@dataclass(frozen=True)
class LocalFile:
    """A file that a repository is to hold: a file here, or bytes that were made for it."""

    source: Path | bytes

    @cached_property
    def size(self) -> int:
        """Bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """Of its content."""
        if isinstance(self.source, bytes):
            return hashlib.sha256(self.source).hexdigest()
        with self.source.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def same(self, there: RemoteFile | LocalFile | None) -> bool:
        """Whether a file has the same content."""
        if there is None or self.size != there.size:
            return False
        if there.sha256 is not None:
            return self.sha256 == there.sha256
        content = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == there.blob


@dataclass(frozen=True)
class Plan:
    """What a push brings to one repository.

    Attributes:
        repo: The repository.
        kind: ``dataset`` or ``model``.
        state: It as it is, None where it is to be made.
        private: Whether only some can read it.
        adds: New and changed files, by path.
        deletes: Files of Meadow's that are no longer.
        unchanged: Files that are there already.
        tags: Names for the commit.
        stays: What does not travel, and why.
        notes: What else there is to know.
        message: The commit's title.
        loads: The line that loads it.
        check: Raises where what lies here is no longer what was planned.
    """

    repo: str
    kind: str
    state: State | None
    private: bool
    adds: Mapping[str, LocalFile]
    deletes: Sequence[str]
    unchanged: int
    tags: Sequence[str] = ()
    stays: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    message: str = ""
    loads: str = ""
    check: Callable[[], None] = field(default=lambda: None, repr=False)

    def landed(self, state: State) -> bool:
        """Whether a state holds all that this brings."""
        brought = all(file.same(state.files.get(path)) for path, file in self.adds.items())
        return brought and not any(path in state.files for path in self.deletes)

    def lines(self) -> Iterator[str]:
        """The plan in words: every path that travels, with its size, and everything that does not."""
        from meadow.describe.cards.markdown import size

        visible = "private" if self.private else "public"
        if self.state is None:
            yield f"{self.repo}: a new {visible} {self.kind} repository"
        else:
            yield f"{self.repo}: a {visible} {self.kind} repository, at commit {self.state.head[:12]}"
        there = self.state.files if self.state else {}
        for path, file in sorted(self.adds.items()):
            yield f"  {'change' if path in there else 'add':6} {path}  {size(file.size)}"
        for path in sorted(self.deletes):
            yield f"  delete {path}"
        total = sum(file.size for file in self.adds.values())
        count = len(self.adds)
        yield f"  {count} file{'' if count == 1 else 's'}, {size(total)}; {self.unchanged} there already"
        for tag in self.tags:
            yield f"  tag    {tag}"
        for path, why in self.stays:
            yield f"  stays  {path}: {why}"
        for note in self.notes:
            yield f"  note   {note}"


def chosen(store: Store, names: Sequence[str]) -> list[str]:
    """The datasets that names stand for: datasets, sources, or ``all``.

    Raises:
        ValueError: Nothing built has one of these names.
    """
    there = store.names()
    by_source: dict[str, list[str]] = {}
    for name in there:
        by_source.setdefault(store.manifest(name)["source"], []).append(name)
    found: dict[str, None] = {}
    for name in names:
        mine = there if name == "all" else [name] if name in there else by_source.get(name, [])
        if not mine:
            known = ", ".join(there) or "none"
            raise ValueError(
                f"{name if name != 'all' else 'nothing'} is not built in {store.root}; there are: {known}. Build with "
                "`python -m meadow.build`"
            )
        found.update(dict.fromkeys(mine))
    return sorted(found)


@dataclass
class Planner:
    """Plans pushes out of one output folder.

    Attributes:
        store: The folder.
        client: The Hub.
        scratch: A folder for what is made for the journey.
        allowed: What a person lets pass.
        private: Whether new repositories are private.
        tag: Whether versions become tags.
        parent: The commit that a person has seen; None for the one that was left behind the last time.
        last: The commit that this folder's last push left behind, by repository.
        refusals: What must not be sent; to be looked at when all is planned.
    """

    store: Store
    client: Client
    scratch: Path
    allowed: Allowed
    private: bool = False
    tag: bool = False
    parent: str | None = None
    last: Callable[[str], str | None] = lambda repo: None
    refusals: list[Refusal] = field(default_factory=list)

    def collection(self, repo: str, names: Sequence[str]) -> Plan:
        """Plans a repository with a folder per dataset.

        Raises:
            HubError: The Hub cannot be asked, a file here is damaged, or a tag stands for other rows.
            StaleError: Others changed what this push would replace.
        """
        return _Collection(self, repo, names).plan()

    def single(self, repo: str, name: str) -> Plan:
        """Plans a repository of one dataset; raises as `collection`."""
        return _Single(self, repo, (name,)).plan()


class _Planned:
    """What both layouts have in common."""

    def __init__(self, planner: Planner, repo: str, names: Sequence[str]) -> None:
        self.at, self.repo, self.names = planner, repo, names
        self.store, self.client = planner.store, planner.client
        self.state = planner.client.state(repo)
        self.private = self.state.private if self.state else planner.private
        self.remote = self.state.files if self.state else {}
        self.local: dict[str, LocalFile] = {}
        self.stays: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.manifests: dict[tuple[str, str], dict[str, Any]] = {}
        if self.state and planner.private and not self.state.private:
            raise HubError(
                f"{repo} is public already, and --private is for repositories that are made now; make it private "
                "in its settings on the Hub, or leave --private out"
            )
        if planner.parent is not None and not (self.state and self.state.head.startswith(planner.parent)):
            if self.state is None:
                raise StaleError(f"{repo}: --parent {planner.parent}: there is no such repository")
            raise self.client.stale(repo, planner.parent, self.state)

    @cached_property
    def base(self) -> dict[str, RemoteFile]:
        """The files at the commit that this folder's last push left behind, or that a person has seen."""
        commit = self.at.last(self.repo) if self.at.parent is None else self.at.parent
        if self.state is None or commit is None:
            return {}
        if self.state.head.startswith(commit):
            return self.remote
        try:
            return self.client.tree(self.repo, commit)
        except HubError:  # that history is gone
            return {}

    def refused(self, manifest: Mapping[str, Any]) -> list[Refusal]:
        return of_dataset(manifest, self.store, public=not self.private, allowed=self.at.allowed)

    def take(self, name: str, version: str, prefix: str) -> None:
        """Takes a version's files along."""
        folder = self.store.folder(name, version)
        manifest = self.store.manifest(name, version)
        self.manifests[name, version] = manifest
        listed = {file["path"]: file for split in manifest["splits"].values() for file in split["files"]}
        for path in sorted(folder.iterdir()):
            beside = path.is_file() and not path.is_symlink() and _BESIDE.fullmatch(path.name)
            if path.name not in listed and not beside:
                self.stays.append((f"{name}/{version}/{path.name}", "no file of a dataset"))
                continue
            self.local[prefix + path.name] = self.prepared(path, manifest)
        for file, entry in listed.items():
            found = self.local.get(prefix + file)
            if found is None or found.sha256 != entry["sha256"]:
                raise HubError(
                    f"{folder / file}: {'it is missing' if found is None else 'it is not what the manifest lists'}; "
                    f"build {name} again with `python -m meadow.build {name}`"
                )

    def prepared(self, path: Path, manifest: Mapping[str, Any]) -> LocalFile:
        """A file as it travels."""
        if path.name in (MANIFEST, CARD) and hides_example(manifest):
            self.notes.append(f"{manifest['name']}: its card and manifest travel without their example row")
        if path.name == MANIFEST and hides_example(manifest) and manifest.get("example"):
            shown = {**manifest, "example": None}
            text = json.dumps(shown, ensure_ascii=False, indent=2) + "\n"
            return LocalFile(without_places(text, [self.store.root]).encode())
        if path.name == CARD:
            text = path.read_text(encoding="utf-8", errors="replace")
            text = card.without_example(text) if hides_example(manifest) else text
            return LocalFile(without_places(text, [self.store.root]).encode())
        if path.suffix == ".json":
            text = path.read_text(encoding="utf-8")
            shown = without_places(text, [self.store.root])
            return LocalFile(path if shown == text else shown.encode())
        if path.name in WITHHELD:
            self.notes.append(
                f"{path.name} travels without {' and '.join(WITHHELD[path.name])}, which are texts of rows"
            )
            return _withheld(path, WITHHELD[path.name], self.at.scratch)
        return LocalFile(path)

    def merged(self, path: str, mine: str, earlier: Iterable[str] = ()) -> LocalFile:
        """A card, merged with the one that is there, or with the newest of those before it."""
        there = next((p for p in (path, *earlier) if p in self.remote), None)
        if there is None:
            return LocalFile(mine.encode())
        merged = cards.merge_cards(cards.DATASET, mine, self.read(there))
        for line in card.left_behind(mine, merged):
            self.notes.append(
                f"{path}: what was written here between its sections, and is not on the Hub, does not travel: "
                f"{line[:60]!r}; write it there"
            )
        return LocalFile(merged.encode())

    def read(self, path: str, revision: str | None = None) -> str:
        return self.client.read(self.repo, path, revision or self.state.head, self.at.scratch)

    def remote_manifest(self, path: str, revision: str | None = None) -> dict[str, Any]:
        """A manifest on the Hub.

        Raises:
            HubError: It is none.
        """
        try:
            found = json.loads(self.read(path, revision))
            known = re.fullmatch(r"[\w.-]+", found["name"]) and _VERSION.fullmatch(found["version"])
            if known and isinstance(found["rows_sha256"], str) and isinstance(found["splits"], dict):
                return found
            wrong = "it is no manifest of Meadow's"
        except KeyError as error:
            wrong = f"it has no {error}"
        except (ValueError, TypeError) as error:
            wrong = str(error)
        raise HubError(f"{path} of {self.repo} cannot be read: {wrong}; repair or delete it on the Hub")

    def settled(self, name: str, version: str, prefix: str, tag: str) -> bool:
        """Compares a version's rows with those that are on the Hub under the same version.

        Returns:
            Whether they are there for good, in other bytes: then nothing of the version travels.

        Raises:
            HubError: Its tag stands for other rows.
            StaleError: Other rows stand there that this folder did not put there.
        """
        mine = {path: self.local[prefix + path] for path in self.data(name, version)}
        rows_sha256 = self.manifests[name, version]["rows_sha256"]
        if self.state and tag in self.state.tags:
            commit = self.state.tags[tag]
            there = _data(self.client.tree(self.repo, commit), prefix)
            if there and _equal(mine, there):
                return False
            found = self.remote_manifest(prefix + MANIFEST, commit) if there else {}
            if found.get("rows_sha256") == rows_sha256 and found.get("name") == name:
                self.notes.append(
                    f"{name} {version} is on the Hub as tag {tag} with the same rows in other bytes; it stays as it is"
                )
                return True
            what = "other rows" if there else "something else"
            raise HubError(
                f"{self.repo}: the tag {tag} stands for {what}, and a version that is published stays what it is; "
                "raise the builder's version, and build and push again"
            )
        there = _data(self.remote, prefix)
        if not there or _equal(mine, there) or there == _data(self.base, prefix):
            return False
        found = self.remote_manifest(prefix + MANIFEST) if prefix + MANIFEST in self.remote else {}
        if found and not _listed(found, there):
            found = {}  # somebody changed the rows beside it, and it says nothing of what they are now
        if found.get("name") == name and (found["version"], found["rows_sha256"]) == (version, rows_sha256):
            return False
        if found.get("name") == name and version_key(found["version"]) < version_key(version):
            return False  # a single repository, whose newest version is replaced by a newer one
        raise self._foreign(name, version, prefix, found)

    def _foreign(self, name: str, version: str, prefix: str, found: Mapping[str, Any]) -> StaleError:
        what = (
            f"{found['name']} {found['version']} with other rows"
            if found
            else f"{prefix}*.parquet with other rows"
        )
        commit = self.at.last(self.repo)
        since = ""
        if commit is not None and not self.state.head.startswith(commit):
            since = ":\n  " + "\n  ".join(self.client.changes(self.repo, commit, self.state)) + "\n"
        return StaleError(
            f"{self.repo}: {what} is there, which this output folder did not push, and {name} {version} would replace "
            f"it{since or '; '}look at it, then raise the builder's version, or replace it with "
            f"--parent {self.state.head[:12]}"
        )

    def data(self, name: str, version: str) -> list[str]:
        manifest = self.manifests[name, version]
        return [file["path"] for split in manifest["splits"].values() for file in split["files"]]

    def leave(self, prefix: str) -> None:
        """Leaves a version's files here."""
        for path in [p for p in self.local if p.startswith(prefix)]:
            del self.local[path]

    def gone(self, prefix: str) -> list[str]:
        """Files of Meadow's under a prefix on the Hub that are no longer."""
        if prefix + MANIFEST not in self.remote and self.at.parent is None:
            return []  # whatever lies there is somebody else's
        return [
            path
            for path in self.remote
            if path.startswith(prefix)
            and (_BESIDE.fullmatch(path[len(prefix) :]) or _ROWS.fullmatch(path[len(prefix) :]))
            and path not in self.local
        ]

    def finished(self, deletes: Sequence[str], tags: Iterable[str], message: str) -> Plan:
        adds = {path: file for path, file in self.local.items() if not file.same(self.remote.get(path))}
        there = self.state.tags if self.state else {}
        commit = self.at.last(self.repo)
        if self.state and commit and not self.state.head.startswith(commit):
            changed = self.client.changes(self.repo, commit, self.state)
            replaced = self._replaced(commit, [*adds, *deletes])
            stays = f", and it stays, but for {', '.join(replaced)}" if replaced else ", and it stays"
            self.notes.append(f"others have pushed since{stays}: " + "; ".join(changed))
        return Plan(
            self.repo,
            "dataset",
            self.state,
            self.private,
            adds,
            deletes,
            len(self.local) - len(adds),
            tuple(tag for tag in dict.fromkeys(tags) if tag not in there),
            tuple(self.stays),
            tuple(dict.fromkeys(self.notes)),
            message,
            self.loading,
            self.check,
        )

    def _replaced(self, commit: str, paths: Iterable[str]) -> list[str]:
        """Files that others changed since a commit, and that this push replaces; cards are merged."""
        try:
            before = self.client.tree(self.repo, commit)
        except HubError:  # that history is gone
            before = {}
        there = {path: self.remote[path] for path in paths if path in self.remote}
        merged = (CARD, CITATION_CFF)
        return sorted(
            path for path in there if before.get(path) != there[path] and path.split("/")[-1] not in merged
        )

    @property
    def loading(self) -> str:
        return f'load_dataset("{self.repo}", "{self.names[0]}")'

    def check(self) -> None:
        """Raises where a build has replaced what was planned."""
        for (name, version), manifest in self.manifests.items():
            if self.store.manifest(name, version) != manifest:
                raise HubError(f"{name} {version} was built anew while it was being pushed; push again")


class _Collection(_Planned):
    def plan(self) -> Plan:
        for name in self.names:
            self.at.refusals += self.refused(self.store.manifest(name))
        if self.at.refusals:  # nothing will be sent, and the rest of the plan would be about nothing
            return self.finished((), (), "")
        for name in self.names:
            self._take_all(name)
        newest = self._newest()
        deletes, tags, pushed = [], [], []
        for name, version in list(self.manifests):
            prefix = f"{name}/{version}/"
            if self.settled(name, version, prefix, f"{name}-{version}"):
                self.leave(prefix)
            else:
                self._card(name, version)
                deletes += self.gone(prefix)
            if newest[name] == version:
                tags.append(f"{name}-{version}")
                pushed.append(f"{name} {version}")
            elif name in self.names and version == self.store.resolve(name):
                self.notes.append(
                    f"{name} {newest[name]} is on the Hub and stays current: {version} gets no tag"
                )
        self._top(newest)
        if self.at.tag:
            tags.append(self._release(newest))
        return self.finished(deletes, tags if self.at.tag else (), f"Meadow: {', '.join(pushed)}")

    def _take_all(self, name: str) -> None:
        current = self.store.resolve(name)
        for version in self.store.versions(name):
            # Nobody asked for an older version by name: one that must not travel stays, and all others go.
            found = self.refused(self.store.manifest(name, version)) if version != current else []
            self.stays += [(f"{name}/{version}", each.reason) for each in found]
            if not found:
                self.take(name, version, f"{name}/{version}/")

    def _newest(self) -> dict[str, str]:
        """The version of each dataset that will be current."""
        return _newest([*self._remote_versions(), *self.manifests])

    def _remote_versions(self) -> Iterator[tuple[str, str]]:
        for path in self.remote:
            found = _IN_FOLDER.fullmatch(path)
            if found and found[3] == MANIFEST:
                yield found[1], found[2]

    def _card(self, name: str, version: str) -> None:
        path = f"{name}/{version}/{CARD}"
        if path in self.local:
            others = [v for n, v in self._remote_versions() if n == name]
            before = [
                v
                for v in sorted(others, key=version_key, reverse=True)
                if version_key(v) < version_key(version)
            ]
            earlier = [f"{name}/{v}/{CARD}" for v in before]
            self.local[path] = self.merged(path, self.local[path].source.decode(), earlier)

    def _top(self, newest: Mapping[str, str]) -> None:
        manifests = [
            self.manifests[name, version]
            if (name, version) in self.manifests and f"{name}/{version}/{MANIFEST}" in self.local
            else self.remote_manifest(f"{name}/{version}/{MANIFEST}")
            for name, version in sorted(newest.items())
        ]
        path = self.store.root / CARD
        local = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
        try:
            made = card.collection(manifests, local, self.repo)
            self.local[CITATION_CFF] = LocalFile(self._cited(manifests).encode())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HubError(
                f"{self.repo}: a manifest of {', '.join(sorted(newest))} lacks what a card needs: {error!r}; repair it "
                "on the Hub, or build it again and push it, too"
            ) from error
        self.local[CARD] = self.merged(CARD, made)
        for entry in sorted(self.store.root.iterdir()):
            if entry.is_file() and entry.name not in (CARD, CITATION_CFF) and not entry.name.startswith("."):
                self.stays.append((entry.name, "no file of a dataset"))

    def _cited(self, manifests: Sequence[Mapping[str, Any]]) -> str:
        """What to cite; where a person has taken the file over, there or here, it is theirs."""
        path = self.store.root / CITATION_CFF
        here = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
        there = self.read(CITATION_CFF) if CITATION_CFF in self.remote else None
        made = citing.collection_cff(manifests)
        theirs = citing.collection_cff(manifests, there)
        return theirs if theirs != made else citing.collection_cff(manifests, here)

    def _release(self, newest: Mapping[str, str]) -> str:
        """The tag of the collection as it will be."""
        after = {}
        for name, version in newest.items():
            prefix = f"{name}/{version}/"
            mine = _data(self.local, prefix)
            after[name] = version, mine or _data(self.remote, prefix)
        released = [m[1] for t in (self.state.tags if self.state else ()) if (m := _RELEASE.fullmatch(t))]
        if not released:
            return "v1.0.0"
        last = max(released, key=version_key)
        tree = self.client.tree(self.repo, self.state.tags[f"v{last}"])
        folders = (m for path in tree if (m := _IN_FOLDER.fullmatch(path)) and m[3] == MANIFEST)
        before = {
            name: (version, _data(tree, f"{name}/{version}/"))
            for name, version in _newest([(m[1], m[2]) for m in folders]).items()
        }
        return "v" + following(last, before, after)


class _Single(_Planned):
    def plan(self) -> Plan:
        (name,) = self.names
        version = self.store.resolve(name)
        found = self.refused(self.store.manifest(name, version))
        self.at.refusals += found
        if found:
            return self.finished((), (), "")
        self.take(name, version, "")
        if MANIFEST in self.remote:
            there = self.remote_manifest(MANIFEST)
            if there["name"] != name:
                raise HubError(f"{self.repo} holds {there['name']}; push {name} elsewhere")
            if version_key(there["version"]) > version_key(version):
                raise StaleError(
                    f"{self.repo} holds {name} {there['version']}, which is newer than {version} here; build that, or "
                    "push this one into a collection, which keeps versions side by side"
                )
        tags = [f"{name}-{version}", f"v{version}"]
        deletes: list[str] = []
        settled = [self.settled(name, version, "", tag) for tag in tags]
        if True in settled:
            self.leave("")
        else:
            made = self.local[CARD].source.decode() if CARD in self.local else self._skeleton(name, version)
            self.local[CARD] = self.merged(CARD, made)
            deletes = self.gone("")
        return self.finished(deletes, tags if self.at.tag else (), f"Meadow: {name} {version}")

    @property
    def loading(self) -> str:
        return f'load_dataset("{self.repo}")'

    def _skeleton(self, name: str, version: str) -> str:
        manifest = self.manifests[name, version]
        shown = manifest.model_copy(update={"example": None}) if hides_example(manifest) else manifest
        return cards.dataset_card(shown, "")


def following(last: str, before: Mapping[str, tuple[str, Any]], after: Mapping[str, tuple[str, Any]]) -> str:
    """The version of a collection after what changed in it.

    Args:
        last: Its version before.
        before: Version and files of each dataset then.
        after: The same now.
    """
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
            elif not _equal(now, files):
                step = 0  # other rows under the same version: their records changed
    parts = list(version_key(last))
    if step < 3:
        parts[step:] = [parts[step] + 1, *[0] * (2 - step)]
    return ".".join(map(str, parts))


def _newest(found: Iterable[tuple[str, str]]) -> dict[str, str]:
    newest: dict[str, str] = {}
    for name, version in found:
        if name not in newest or version_key(version) > version_key(newest[name]):
            newest[name] = version
    return newest


def _data(files: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The Parquet files of rows right under a prefix, by name."""
    mine = {path[len(prefix) :]: file for path, file in files.items() if path.startswith(prefix)}
    return {path: file for path, file in mine.items() if _ROWS.fullmatch(path)}


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether files have the same names and contents."""
    if one.keys() != other.keys():
        return False
    for path, file in one.items():
        there = other[path]
        if not (file.same(there) if isinstance(file, LocalFile) else file == there):
            return False
    return True


def _listed(manifest: Mapping[str, Any], there: Mapping[str, RemoteFile]) -> bool:
    """Whether files on the Hub are those that the manifest beside them lists."""
    try:
        listed = {file["path"]: file for split in manifest["splits"].values() for file in split["files"]}
        return listed.keys() == there.keys() and all(
            (found.size, found.sha256 or listed[path]["sha256"])
            == (listed[path]["bytes"], listed[path]["sha256"])
            for path, found in there.items()
        )
    except (KeyError, TypeError, AttributeError):
        return False


def _withheld(path: Path, columns: Sequence[str], scratch: Path) -> LocalFile:
    """A Parquet file without the values of some of its columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, pre_buffer=False) as file:
        schema = file.schema_arrow
        wanted = [column for column in columns if column in schema.names]
        if not wanted or not file.metadata.num_rows:
            return LocalFile(path)
        target = scratch / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.parquet"
        with pq.ParquetWriter(target, schema, compression="zstd") as out:
            for batch in file.iter_batches(batch_size=20_000):
                for column in wanted:
                    at = schema.get_field_index(column)
                    batch = batch.set_column(
                        at, schema.field(at), pa.nulls(batch.num_rows, schema.field(at).type)
                    )
                out.write_batch(batch)
    found = LocalFile(target)
    _ = found.size, found.sha256  # which are asked for after the folder is gone
    return found
