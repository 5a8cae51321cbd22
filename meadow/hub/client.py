"""Repositories of one kind on the Hub: what they hold, and changes to them.

All requests go through `huggingface_hub`, which finds the token by itself; see `meadow.hub.asking`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from meadow.core.version import VERSION
from meadow.describe.cards.markdown import printable
from meadow.hub import HubError, StaleError
from meadow.hub.asking import TRIES, asked, status_of

#: Commits and paths that a message names.
_NAMED = 12
#: The Hub answers 50 paths at once where it is asked for their last commits (huggingface_hub, list_repo_tree).
_PATHS_AT_ONCE = 50
_UNSENT = ". The repository is as it was, and what was uploaded is not sent again"
_UNTAGGED = ". The commit is made, and the next push gives it the tags that it lacks"

Kind = Literal["dataset", "model"]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on the Hub.

    Attributes:
        size: Bytes.
        sha256: Of its content, where the Hub keeps it as a large file.
        blob: Git's id of its content, or of what stands for it.
    """

    size: int
    sha256: str | None
    blob: str


@dataclass(frozen=True, slots=True)
class State:
    """A repository as it is.

    Attributes:
        head: The commit that ``main`` is at; empty where there is no repository, or none that this token may see.
        private: Whether only some can read it.
        files: Its files by path.
        tags: Commits by tag.
    """

    head: str = ""
    private: bool = False
    files: dict[str, RemoteFile] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class Client:
    """Requests to the Hub about repositories of one kind."""

    def __init__(self, kind: Kind = "dataset") -> None:
        self.kind: Kind = kind
        self._api = HfApi(library_name="meadow", library_version=VERSION)

    def address(self, repo: str) -> str:
        """Where people find a repository."""
        return f"{self._api.endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{repo}"

    def need_token(self) -> None:
        """Raises HubError where there is no token."""
        if not get_token():
            raise HubError(
                "no token for the Hub: log in with `hf auth login`, or set HF_TOKEN to a token with write access"
            )

    def state(self, repo: str) -> State:
        """A repository as it is now; raises HubError where the Hub cannot be asked."""

        def ask() -> tuple[str, bool]:
            try:
                info = self._api.repo_info(repo, repo_type=self.kind, revision="main")
            except RepositoryNotFoundError as error:
                if status_of(error) == 401 and not self._token_is_good():
                    raise
                return "", False
            return info.sha or "", bool(info.private)

        head, private = asked(f"reading {repo}", ask, repo)
        return State(head, private, self.tree(repo, head), self._tags(repo)) if head else State()

    def _token_is_good(self) -> bool:
        """Whether a 401 is about the repository, not about the token: the Hub says it for both."""
        if not get_token():
            return True
        try:
            self._api.whoami()
        except Exception:
            return False
        return True

    def _tags(self, repo: str) -> dict[str, str]:
        refs = asked(f"reading {repo}", lambda: self._api.list_repo_refs(repo, repo_type=self.kind), repo)
        return {tag.name: tag.target_commit for tag in refs.tags}

    def tree(self, repo: str, commit: str) -> dict[str, RemoteFile]:
        """The files at a commit, by path."""

        def ask() -> dict[str, RemoteFile]:
            found: Any = self._api.list_repo_tree(repo, recursive=True, revision=commit, repo_type=self.kind)
            return {
                entry.path: RemoteFile(entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id)
                for entry in found
                if hasattr(entry, "blob_id")
            }

        return asked(f"reading {repo} at {commit[:12]}", ask, repo)

    def read(self, repo: str, path: str, commit: str, scratch: Path) -> str:
        """A file's text at a commit; `scratch` is a folder for the copy."""

        def ask() -> str:
            found = self._api.hf_hub_download(
                repo, path, repo_type=self.kind, revision=commit, local_dir=scratch / commit
            )
            return Path(found).read_text(encoding="utf-8", errors="replace")

        return asked(f"reading {path} of {repo}", ask, repo)

    def dates(self, repo: str, commit: str, paths: Sequence[str]) -> dict[str, str]:
        """The days on which files were committed, in UTC, by path."""
        found: dict[str, str] = {}
        for start in range(0, len(paths), _PATHS_AT_ONCE):
            some = list(paths[start : start + _PATHS_AT_ONCE])

            def ask(some: list[str] = some) -> list[Any]:
                return self._api.get_paths_info(repo, some, expand=True, revision=commit, repo_type=self.kind)

            read = asked(f"reading {repo} at {commit[:12]}", ask, repo)
            dated = (each for each in read if each.last_commit is not None)
            found |= {each.path: each.last_commit.date.date().isoformat() for each in dated}
        return found

    def repositories(self, owner: str, prefix: str) -> list[str]:
        """The repositories of datasets that an owner has whose names begin so, sorted."""

        def ask() -> list[str]:
            return [info.id for info in self._api.list_datasets(author=owner, search=prefix)]

        found = asked(f"reading {owner}", ask, owner)
        return sorted(name for name in found if name.split("/")[-1].startswith(prefix))

    def create(self, repo: str, *, private: bool) -> None:
        """Makes a repository where there is none."""

        def ask() -> object:
            return self._api.create_repo(repo, repo_type=self.kind, private=private or None, exist_ok=True)

        asked(f"making {repo}", ask, repo, kept=_UNSENT)

    def upload(self, repo: str, additions: Sequence[CommitOperationAdd]) -> None:
        """Sends the contents of large files, those aside that the Hub has already; nothing is committed.

        Raises:
            HubError: They could not be sent, or the repository's own ``.gitignore`` keeps one of them out.
        """

        def ask() -> None:
            self._api.preupload_lfs_files(
                repo, additions, repo_type=self.kind, revision="main", free_memory=False
            )

        asked(f"uploading to {repo}", ask, repo, tries=1, kept=_UNSENT)
        ignored = [each.path_in_repo for each in additions if getattr(each, "_should_ignore", False)]
        if ignored:
            more = f" and {len(ignored) - _NAMED} more" if len(ignored) > _NAMED else ""
            raise HubError(
                f"{repo}: its .gitignore keeps {', '.join(ignored[:_NAMED])}{more} out; take the line away on the "
                "Hub, and push again"
            )

    def commit(
        self,
        repo: str,
        operations: Sequence[CommitOperationAdd | CommitOperationDelete],
        message: str,
        parent: str,
        landed: Callable[[State], bool],
    ) -> str:
        """Makes one commit, and returns it.

        Args:
            repo: The repository.
            operations: What changes; `upload` has had what is added.
            message: The commit's title.
            parent: The commit that it follows; it is not made on top of any other.
            landed: Whether a state of the repository holds all that the commit brings.

        Raises:
            StaleError: Somebody else was faster.
            HubError: It could not be made; the repository is as it was.
        """

        def ask() -> str:
            made = self._api.create_commit(
                repo,
                list(operations),
                commit_message=message,
                repo_type=self.kind,
                revision="main",
                parent_commit=parent,
            )
            return made.oid

        def otherwise(failure: Exception) -> str | None:
            status = status_of(failure)
            unsure = status is None or status >= 500 or status in (409, 412)
            now = self.state(repo) if unsure else State()
            if now.head in ("", parent):
                return None
            if landed(now):
                return now.head
            raise self.stale(repo, parent, now)

        return asked(f"committing to {repo}", ask, repo, tries=TRIES + 1, kept=_UNSENT, otherwise=otherwise)

    def stale(self, repo: str, parent: str, now: State) -> StaleError:
        """The error that says what others have changed since a commit."""
        changed = "\n  ".join(self.changes(repo, parent, now))
        return StaleError(
            f"{repo}: somebody else has pushed since commit {parent[:12]}, and nothing of yours was committed:"
            f"\n  {changed}\nLook at it; then push again, which begins from there and sends no file twice"
        )

    def changes(self, repo: str, old: str, now: State) -> list[str]:
        """What changed between a commit and a state, in lines: commits, then paths."""
        try:
            before = self.tree(repo, old)
            commits = asked(
                f"reading {repo}",
                lambda: self._api.list_repo_commits(repo, repo_type=self.kind, revision=now.head),
                repo,
            )
        except HubError:
            return [f"it is at commit {now.head[:12]} now, and what was there before cannot be read"]
        lines = [
            f"commit {each.commit_id[:12]} by {', '.join(each.authors) or 'somebody'}: {each.title}"
            for each in takewhile(lambda commit: commit.commit_id != old, commits[:_NAMED])
        ]
        words = [
            f"{'new' if path not in before else 'gone' if path not in now.files else 'changed'}: {path}"
            for path in sorted({*before, *now.files})
            if before.get(path) != now.files.get(path)
        ]
        lines += words[:_NAMED]
        lines += [f"and {len(words) - _NAMED} more files"] if len(words) > _NAMED else []
        # Titles and paths are anybody's text, and a terminal would obey what is in them.
        lines = [printable(line)[:200] for line in lines]
        return lines or [f"it is at commit {now.head[:12]} now, with the same files"]

    def tag(self, repo: str, name: str, commit: str) -> None:
        """Gives a commit a name for good; raises HubError where another has it, or it could not be given."""

        def ask() -> bool:
            try:
                self._api.create_tag(repo, tag=name, revision=commit, repo_type=self.kind)
            except HfHubHTTPError as error:
                if status_of(error) != 409:
                    raise
                return False
            return True

        made = asked(f"tagging {repo} {name}", ask, repo, kept=_UNTAGGED)
        # After a lost answer the tag that is in the way is our own.
        if not made and self._tags(repo).get(name) != commit:
            raise HubError(f"{repo}: somebody else has made the tag {name} just now; push again")
