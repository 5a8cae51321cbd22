"""The Hub's client, with what it lacks: one kind of error that says what to do, and patience.

All requests go through `huggingface_hub`, which finds the token by itself. `huggingface_hub` repeats some of its
requests, by itself, after a 429 or 5xx; here the others are, with the same respect for ``Retry-After``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from meadow.hub import HubError, StaleError

#: Answers after which a request is worth repeating.
_AGAIN = (408, 429, 500, 502, 503, 504)
#: How often a request is repeated, the first pause in seconds, which doubles, and the longest that a server is
#: granted.
_TRIES, _PAUSE, _LONGEST = 4, 1.0, 300.0
#: Commits and paths that a message names.
_NAMED = 12

_T = TypeVar("_T")


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
        head: The commit that ``main`` is at.
        private: Whether only some can read it.
        files: Its files by path.
        tags: Commits by tag.
    """

    head: str
    private: bool
    files: dict[str, RemoteFile] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class Client:
    """Requests to the Hub about repositories of one kind.

    Args:
        kind: ``dataset`` or ``model``.
    """

    def __init__(self, kind: str = "dataset") -> None:
        from huggingface_hub import HfApi

        from meadow.core.version import VERSION

        self.kind = kind
        self._api = HfApi(library_name="meadow", library_version=VERSION)

    @property
    def endpoint(self) -> str:
        """The Hub's address."""
        return self._api.endpoint

    def address(self, repo: str) -> str:
        """Where people find a repository."""
        return f"{self.endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{repo}"

    def need_token(self) -> None:
        """Refuses to go on without a token.

        Raises:
            HubError: There is none.
        """
        from huggingface_hub import get_token

        if not get_token():
            raise HubError(
                "no token for the Hub: log in with `hf auth login`, or set HF_TOKEN to a token with write access"
            )

    def state(self, repo: str) -> State | None:
        """A repository as it is now; None where there is none, or none that this token may see.

        Raises:
            HubError: The Hub cannot be asked.
        """
        from huggingface_hub.errors import RepositoryNotFoundError

        def ask() -> Any:
            try:
                return self._api.repo_info(repo, repo_type=self.kind, revision="main")
            except RepositoryNotFoundError as error:
                if error.response.status_code == 401 and not self._known(error):
                    raise
                return None

        info = self._asked(f"reading {repo}", ask, repo)
        if info is None:
            return None
        refs = self._asked(
            f"reading {repo}", lambda: self._api.list_repo_refs(repo, repo_type=self.kind), repo
        )
        tags = {tag.name: tag.target_commit for tag in refs.tags}
        return State(info.sha, bool(info.private), self.tree(repo, info.sha), tags)

    def _known(self, error: Any) -> bool:
        """Whether a 401 is about the repository, not about the token: the Hub says it for both."""
        from huggingface_hub import get_token

        if not get_token():
            return True
        try:
            self._api.whoami()
        except Exception:
            return False
        return True

    def tree(self, repo: str, revision: str) -> dict[str, RemoteFile]:
        """The files at a commit, by path."""

        def ask() -> dict[str, RemoteFile]:
            found = self._api.list_repo_tree(repo, recursive=True, revision=revision, repo_type=self.kind)
            return {
                entry.path: RemoteFile(entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id)
                for entry in found
                if hasattr(entry, "blob_id")
            }

        return self._asked(f"reading {repo} at {revision[:12]}", ask, repo)

    def read(self, repo: str, path: str, revision: str, scratch: Path) -> str:
        """A file's text.

        Args:
            repo: The repository.
            path: The file.
            revision: A commit.
            scratch: A folder for the copy.
        """

        def ask() -> str:
            found = self._api.hf_hub_download(
                repo, path, repo_type=self.kind, revision=revision, local_dir=scratch / revision
            )
            return Path(found).read_text(encoding="utf-8", errors="replace")

        return self._asked(f"reading {path} of {repo}", ask, repo)

    def create(self, repo: str, *, private: bool) -> None:
        """Makes a repository where there is none."""
        self._asked(
            f"making {repo}",
            lambda: self._api.create_repo(
                repo, repo_type=self.kind, private=True if private else None, exist_ok=True
            ),
            repo,
        )

    def upload(self, repo: str, operations: Sequence[Any]) -> None:
        """Sends the contents of large files, those aside that the Hub has already; nothing is committed.

        Raises:
            HubError: They could not be sent, or the repository's own ``.gitignore`` keeps one of them out.
        """
        from huggingface_hub import CommitOperationAdd

        additions = [operation for operation in operations if isinstance(operation, CommitOperationAdd)]
        self._asked(
            f"uploading to {repo}",
            lambda: self._api.preupload_lfs_files(
                repo, additions, repo_type=self.kind, revision="main", free_memory=False
            ),
            repo,
            tries=1,
        )
        ignored = [each.path_in_repo for each in additions if getattr(each, "_should_ignore", False)]
        if ignored:
            raise HubError(
                f"{repo}: its .gitignore keeps {_some(ignored)} out; take the line away on the Hub, and push again"
            )

    def commit(
        self, repo: str, operations: Sequence[Any], message: str, parent: str, landed: Callable[[State], bool]
    ) -> str:
        """Makes one commit.

        Args:
            repo: The repository.
            operations: Those of `huggingface_hub`; `upload` has had them.
            message: The commit's title.
            parent: The commit that it follows; it is not made on top of any other.
            landed: Whether a state of the repository holds all that the commit brings: an answer that gets
                lost is no commit that failed.

        Returns:
            The commit.

        Raises:
            StaleError: Somebody else was faster.
            HubError: It could not be made; the repository is as it was.
        """
        from huggingface_hub.errors import HfHubHTTPError

        pause = _PAUSE
        for turn in range(_TRIES + 1):
            failure: Exception
            try:
                made = self._api.create_commit(
                    repo,
                    list(operations),
                    commit_message=message,
                    repo_type=self.kind,
                    revision="main",
                    parent_commit=parent,
                )
                return made.oid
            except _errors() as error:
                failure = error
            status = failure.response.status_code if isinstance(failure, HfHubHTTPError) else None
            wait = _wait(failure, pause)
            unsure = status is None or status >= 500 or status in (409, 412)
            now = self.state(repo) if unsure else None
            if now is not None and now.head != parent:
                if landed(now):
                    return now.head
                raise self.stale(repo, parent, now)
            if turn == _TRIES or wait is None or not (status is None or status in _AGAIN):
                break
            time.sleep(wait)
            pause *= 2
        raise _explained(f"committing to {repo}", failure, repo)

    def stale(self, repo: str, parent: str, now: State) -> StaleError:
        """The error that says what others have changed since a commit."""
        changed = "\n  ".join(self.changes(repo, parent, now))
        return StaleError(
            f"{repo}: somebody else has pushed since commit {parent[:12]}, and nothing of yours was committed:"
            f"\n  {changed}\nLook at it; then push again, which begins from there and sends no file twice"
        )

    def changes(self, repo: str, old: str, now: State) -> list[str]:
        """What changed between a commit and a state, in lines: commits, then paths."""
        from itertools import takewhile

        from meadow.describe.cards.markdown import printable

        lines = []
        try:
            before = self.tree(repo, old)
            commits = self._asked(
                "", lambda: self._api.list_repo_commits(repo, repo_type=self.kind, revision=now.head), repo
            )
        except HubError:
            return [f"it is at commit {now.head[:12]} now, and what was there before cannot be read"]
        since = list(takewhile(lambda commit: commit.commit_id != old, commits))
        for commit in since[:_NAMED]:
            by = ", ".join(commit.authors) or "somebody"
            lines.append(f"commit {commit.commit_id[:12]} by {by}: {commit.title}")
        paths = sorted({*before, *now.files})
        words = [
            f"{'new' if path not in before else 'gone' if path not in now.files else 'changed'}: {path}"
            for path in paths
            if before.get(path) != now.files.get(path)
        ]
        lines += words[:_NAMED]
        lines += [f"and {len(words) - _NAMED} more files"] if len(words) > _NAMED else []
        # Titles and paths are anybody's text, and a terminal would obey what is in them.
        lines = [printable(line)[:200] for line in lines]
        return lines or [f"it is at commit {now.head[:12]} now, with the same files"]

    def tag(self, repo: str, name: str, commit: str) -> None:
        """Gives a commit a name for good.

        Raises:
            HubError: The name is taken by another commit, or it could not be given.
        """
        from huggingface_hub.errors import HfHubHTTPError

        def ask() -> bool:
            try:
                self._api.create_tag(repo, tag=name, revision=commit, repo_type=self.kind)
            except HfHubHTTPError as error:
                if error.response.status_code != 409:
                    raise
                return False
            return True

        if self._asked(f"tagging {repo} {name}", ask, repo):
            return
        refs = self._asked(
            f"reading {repo}", lambda: self._api.list_repo_refs(repo, repo_type=self.kind), repo
        )
        there = {tag.name: tag.target_commit for tag in refs.tags}.get(name)
        # After a lost answer the tag that is in the way is our own.
        if there != commit:
            raise HubError(f"{repo}: somebody else has made the tag {name} just now; push again")

    def _asked(self, doing: str, ask: Callable[[], _T], repo: str, *, tries: int = _TRIES) -> _T:
        """Asks, and asks again where the Hub is busy or the line breaks."""
        pause = _PAUSE
        for turn in range(tries):
            failure: Exception
            try:
                return ask()
            except _errors() as error:
                failure = error
            wait = _wait(failure, pause)
            if wait is None or turn == tries - 1:
                break
            time.sleep(wait)
            pause *= 2
        # Raised out here, where the error of the request, which holds its headers, is not its context.
        raise _explained(doing, failure, repo)


def _errors() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import HFValidationError, HTTPError, OfflineModeIsEnabled

    # RuntimeError and ValueError: how huggingface_hub reports large files that could not be sent.
    return (HTTPError, OfflineModeIsEnabled, HFValidationError, OSError, RuntimeError, ValueError)


def _wait(error: Exception, pause: float) -> float | None:
    """Seconds until a request is worth repeating, None where it is not."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    if isinstance(error, HfHubHTTPError):
        if error.response.status_code not in _AGAIN:
            return None
        asked = error.response.headers.get("Retry-After", "")
        seconds = float(asked) if re.fullmatch(r"\d+(\.\d+)?", asked) else pause
        return seconds if seconds <= _LONGEST else None
    return pause if isinstance(error, HTTPError) else None


def _explained(doing: str, error: Exception, repo: str) -> HubError:
    """An error in words that say what to do, without tokens and signatures."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    seen = error
    while not isinstance(seen, HfHubHTTPError | HTTPError) and seen.__cause__ is not None:
        seen = seen.__cause__  # a large file that could not be sent
    kept = (
        "The commit is made, and the next push gives it the tags that it lacks"
        if doing.startswith("tagging")
        else "The repository is as it was, and what was uploaded is not sent again"
    )
    what = _clean(str(error) if seen is error else f"{error} {seen}")
    if isinstance(seen, OfflineModeIsEnabled):
        return HubError(f"{doing}: HF_HUB_OFFLINE is set; take it away to reach the Hub")
    if isinstance(seen, HfHubHTTPError):
        status = seen.response.status_code
        said = _clean(seen.server_message or seen.response.headers.get("X-Error-Message") or "")
        said = f" ({said})" if said else ""
        if isinstance(seen, RepositoryNotFoundError) and status == 404:
            remedy = f"there is no {repo}, or this token may not see it; check the name and the token"
        elif status == 401:
            remedy = (
                f"the Hub does not accept the token{said}; log in again with `hf auth login`, or set HF_TOKEN to a "
                "token that is valid"
            )
        elif status == 403:
            remedy = f"the token may not do this in {repo}{said}; use one with write access to it"
        elif status == 429:
            remedy = f"the Hub asks to slow down{said}; push again later"
        elif status >= 500:
            remedy = f"the Hub has trouble of its own{said}; push again later"
        else:
            remedy = what
        return HubError(f"{doing}: {status}: {remedy}. {kept}")
    if isinstance(seen, HTTPError):
        return HubError(
            f"{doing}: the connection failed ({what or type(seen).__name__}); check the network (HTTPS_PROXY, "
            f"SSL_CERT_FILE), then push again. {kept}"
        )
    return HubError(f"{doing}: {what or type(seen).__name__}")


def _clean(text: str) -> str:
    """Takes tokens, and the queries of addresses, which hold signatures, out of a message."""
    from huggingface_hub import get_token

    token = get_token()
    if token:
        text = text.replace(token, "[token]")
    text = re.sub(r"(https?://[^\s?'\"<>]+)\?[^\s'\"<>]*", r"\1", text)
    text = re.sub(r"\bhf_[A-Za-z0-9]{8,}", "[token]", text)
    return " ".join(text.split())[:1000]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
