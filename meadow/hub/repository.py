"""What the two layouts of repositories of datasets have in common; see `meadow.hub.layouts`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from meadow.core import manifest as manifests
from meadow.core.manifest import Manifest, ManifestError
from meadow.core.store import CARD, CITATION_CFF, MANIFEST, Store, version_key
from meadow.describe import cards
from meadow.describe.cards import merge
from meadow.hub import HubError, StaleError, files
from meadow.hub.client import Client, RemoteFile, State
from meadow.hub.files import LocalFile
from meadow.hub.plan import Plan
from meadow.hub.refusals import Allowed, Refusal, hides_example, of_dataset

#: Why a file stays that no build wrote.
NO_FILE = "no file of a dataset"


@dataclass(kw_only=True, eq=False)
class Repository:
    """What both layouts have in common.

    Attributes:
        loading: The line that loads what was pushed.
        repo: Its name.
        names: The datasets to push.
        store: The output folder.
        client: The Hub.
        scratch: A folder for what is made for the journey.
        allowed: What a person lets pass.
        private: Whether only some can read it; before it is made, whether that is asked for.
        tag: Whether versions become tags.
        parent: The commit that a person has seen; None for the one that was left behind the last time.
        last: The commit that this folder's last push left behind.
        state: It as it is.
        refusals: What must not be sent; to be looked at when all is planned.
    """

    loading: ClassVar[str]
    repo: str
    names: Sequence[str]
    store: Store
    client: Client
    scratch: Path
    allowed: Allowed
    private: bool
    tag: bool
    parent: str | None
    last: str | None
    state: State = field(init=False)
    local: dict[str, LocalFile] = field(default_factory=dict)
    stays: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    manifests: dict[tuple[str, str], Manifest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state = self.client.state(self.repo)
        self.private = is_private(self.repo, self.state, self.private)
        if self.parent is not None and not self.state.head.startswith(self.parent):
            if not self.state.head:
                raise StaleError(f"{self.repo}: --parent {self.parent}: there is no such repository")
            raise self.client.stale(self.repo, self.parent, self.state)

    def tree(self, commit: str | None) -> Mapping[str, RemoteFile]:
        """The files at a commit that is in the history, or was."""
        if not self.state.head or commit is None:
            return {}
        if self.state.head.startswith(commit):
            return self.state.files
        try:
            return self.client.tree(self.repo, commit)
        except HubError:  # that history is gone
            return {}

    def changed(self) -> list[str]:
        """What others have changed since this folder's last push."""
        if not self.state.head or self.last is None or self.state.head.startswith(self.last):
            return []
        return self.client.changes(self.repo, self.last, self.state)

    def refused(self, manifest: Manifest) -> list[Refusal]:
        """Why a version must not be sent."""
        return of_dataset(manifest, self.store, public=not self.private, allowed=self.allowed)

    def take(self, name: str, version: str, prefix: str) -> None:
        """Takes a version's files along."""
        folder = self.store.folder(name, version)
        manifest = self.store.manifest(name, version)
        self.manifests[name, version] = manifest
        rows = files.listed(manifest)
        for path in sorted(folder.iterdir()):
            beside = path.is_file() and not path.is_symlink() and files.BESIDE.fullmatch(path.name)
            if path.name in rows or beside:
                self.local[prefix + path.name] = self.prepared(path, manifest)
            else:
                self.stays.append((f"{name}/{version}/{path.name}", NO_FILE))
        for file, entry in rows.items():
            found = self.local.get(prefix + file)
            if found is None or found.sha256 != entry.sha256:
                raise HubError(
                    f"{folder / file}: {'it is missing' if found is None else 'it is not what the manifest lists'}; "
                    f"build {name} again with `python -m meadow.build {name}`"
                )

    def prepared(self, path: Path, manifest: Manifest) -> LocalFile:
        """A file as it travels."""
        if path.name in files.WITHHELD:
            columns = files.WITHHELD[path.name]
            self.notes.append(f"{path.name} travels without {' and '.join(columns)}, which are texts of rows")
            return files.without_columns(path, columns, self.scratch)
        if path.suffix not in (".json", ".md"):
            return LocalFile(path)
        text = read = LocalFile(path).text
        if path.name in (MANIFEST, CARD) and hides_example(manifest):
            self.notes.append(f"{manifest.name}: its card and manifest travel without their example row")
            if path.name == CARD:
                text = merge.without_blocks(text, ("example",))
            elif manifest.example:
                text = manifest.model_copy(update={"example": None}).text()
        text = files.without_places(text, [self.store.root])
        return LocalFile(path if text == read else text.encode())

    def merged(self, path: str, mine: str, earlier: Iterable[str] = ()) -> LocalFile:
        """A card, merged with the one that is there, or with the newest of those before it."""
        there = next((each for each in (path, *earlier) if each in self.state.files), None)
        if there is None:
            return LocalFile(mine.encode())
        merged = cards.merge_cards(cards.DATASET, mine, self.read(there))
        there_too = set(merge.texts(merged))
        self.notes += [
            f"{path}: what was written here between its sections, and is not on the Hub, does not travel: "
            f"{text.splitlines()[0][:60]!r}; write it there"
            for text in merge.texts(mine)
            if text not in there_too
        ]
        return LocalFile(merged.encode())

    def read(self, path: str, commit: str = "") -> str:
        """A text on the Hub."""
        return self.client.read(self.repo, path, commit or self.state.head, self.scratch)

    def remote_manifest(self, path: str, commit: str = "") -> Manifest:
        """A manifest on the Hub; raises HubError where it is none."""
        where = f"{path} of {self.repo}"
        try:
            found = manifests.loads(self.read(path, commit), where, "repair or delete it on the Hub")
        except ManifestError as error:
            raise HubError(str(error)) from None
        if not re.fullmatch(r"[\w.-]+", found.name) or not re.fullmatch(r"\d+\.\d+\.\d+", found.version):
            raise HubError(f"{where}: it is no manifest of Meadow's; repair or delete it on the Hub")
        return found

    def settled(self, name: str, version: str, prefix: str, tag: str) -> bool:
        """Whether a version's rows are on the Hub for good, in other bytes: then nothing of it travels.

        Raises:
            HubError: Its tag stands for other rows.
            StaleError: Other rows stand there that this folder did not put there.
        """
        manifest = self.manifests[name, version]
        mine = {path: self.local[prefix + path] for path in files.listed(manifest)}
        if tag in self.state.tags:
            return self._tagged(manifest, mine, prefix, tag)
        there = files.rows_under(self.state.files, prefix)
        seen = self.last if self.parent is None else self.parent
        if not there or files.equal(mine, there) or there == files.rows_under(self.tree(seen), prefix):
            return False
        found = self.remote_manifest(prefix + MANIFEST) if prefix + MANIFEST in self.state.files else None
        if found is not None and not _lists(found, there):
            found = None  # somebody changed the rows beside it, and it says nothing of what they are now
        if found is not None and found.name == name:
            same = (found.version, found.rows_sha256) == (version, manifest.rows_sha256)
            # In a single repository the newest version is replaced by a newer one.
            if same or version_key(found.version) < version_key(version):
                return False
        what = f"{found.name} {found.version}" if found is not None else f"{prefix}*.parquet"
        changed = self.changed()
        since = "; " if not changed else "".join((":\n", *(f"  {line}\n" for line in changed)))
        raise StaleError(
            f"{self.repo}: {what} with other rows is there, which this output folder did not push, and {name} "
            f"{version} would replace it{since}look at it, then raise the builder's version, or replace it with "
            f"--parent {self.state.head[:12]}"
        )

    def _tagged(self, manifest: Manifest, mine: Mapping[str, LocalFile], prefix: str, tag: str) -> bool:
        commit = self.state.tags[tag]
        there = files.rows_under(self.client.tree(self.repo, commit), prefix)
        if there and files.equal(mine, there):
            return False
        found = self.remote_manifest(prefix + MANIFEST, commit) if there else None
        if found is not None and (found.name, found.rows_sha256) == (manifest.name, manifest.rows_sha256):
            self.notes.append(
                f"{manifest.name} {manifest.version} is on the Hub as tag {tag} with the same rows in other bytes; it "
                "stays as it is"
            )
            return True
        what = "other rows" if there else "something else"
        raise HubError(
            f"{self.repo}: the tag {tag} stands for {what}, and a version that is published stays what it is; "
            "raise the builder's version, and build and push again"
        )

    def gone(self, prefix: str) -> list[str]:
        """Files of Meadow's under a prefix on the Hub that are no longer."""
        if prefix + MANIFEST not in self.state.files and self.parent is None:
            return []  # whatever lies there is somebody else's
        theirs = [path for path in self.state.files if path.startswith(prefix) and path not in self.local]
        return [
            p
            for p in theirs
            if any(kind.fullmatch(p.removeprefix(prefix)) for kind in (files.BESIDE, files.ROWS))
        ]

    def finished(self, deletes: Sequence[str], tags: Iterable[str], message: str) -> Plan:
        """The plan."""
        adds = {path: file for path, file in self.local.items() if not file.same(self.state.files.get(path))}
        changed = self.changed()
        if changed:
            replaced = self._replaced([*adds, *deletes])
            stays = f", and it stays, but for {', '.join(replaced)}" if replaced else ", and it stays"
            self.notes.append(f"others have pushed since{stays}: " + "; ".join(changed))
        return Plan(
            repo=self.repo,
            kind="dataset",
            state=self.state,
            private=self.private,
            adds=adds,
            deletes=deletes,
            unchanged=len(self.local) - len(adds),
            tags=[tag for tag in dict.fromkeys(tags if self.tag else ()) if tag not in self.state.tags],
            stays=self.stays,
            notes=list(dict.fromkeys(self.notes)),
            message=message,
            loads=self.loading.format(repo=self.repo, name=self.names[0]),
            check=self.check,
        )

    def _replaced(self, paths: Iterable[str]) -> list[str]:
        """Files that others changed since the last push, and that this one replaces; cards are merged."""
        before = self.tree(self.last)
        there = {path: self.state.files[path] for path in paths if path in self.state.files}
        other = [path for path, file in there.items() if before.get(path) != file]
        return sorted(path for path in other if path.split("/")[-1] not in (CARD, CITATION_CFF))

    def check(self) -> None:
        """Raises where a build has replaced what was planned."""
        for (name, version), manifest in self.manifests.items():
            if self.store.manifest(name, version) != manifest:
                raise HubError(f"{name} {version} was built anew while it was being pushed; push again")


def is_private(repo: str, state: State, private: bool) -> bool:
    """Whether only some can read a repository; raises HubError where it is to be private, and is public already."""
    if state.head and private and not state.private:
        raise HubError(
            f"{repo} is public already, and --private is for repositories that are made now; make it private "
            "in its settings on the Hub, or leave --private out"
        )
    return state.private if state.head else private


def _lists(manifest: Manifest, there: Mapping[str, RemoteFile]) -> bool:
    """Whether files on the Hub are those that the manifest beside them lists."""
    rows = files.listed(manifest)
    return rows.keys() == there.keys() and all(
        file.size == rows[name].bytes and file.sha256 in (None, rows[name].sha256)
        for name, file in there.items()
    )
