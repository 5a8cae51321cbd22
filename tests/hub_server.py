"""A Hugging Face Hub on this machine, for tests: what the unmodified clients ask it for, and its faults.

The server answers `huggingface_hub` and `datasets` on 127.0.0.1 when ``HF_ENDPOINT`` names it: repositories
of models and datasets, public and private, with commits, LFS files, tags and branches. Large files are kept
by a second server under another name, as the Hub keeps them on another host, which refuses requests that
carry a token. As the clients read ``HF_ENDPOINT`` when they are imported, they run in a process of their
own, see `client`::

    from tests.hub_server import Hub, client, hub  # noqa: F401

    def test_it(hub: Hub) -> None:
        hub.create("ORG/NAME")
        hub.faults.fail("POST", "/commit/", 500)
        client(["-m", "meadow", "push", "all", "--repo", "ORG/NAME"], hub)
        assert "README.md" in hub.repo("ORG/NAME").files()

What is answered follows the client's code (huggingface_hub 2.4) and the Hub's public API. Not there:
spaces, pull requests, gated repositories, Xet storage and multipart uploads.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import fnmatch
import hashlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

#: What a new repository holds on the Hub: the endings (some of them) that go into LFS.
GITATTRIBUTES = "".join(
    f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n"
    for ending in ("7z", "arrow", "bin", "gz", "parquet", "pt", "safetensors", "tar", "zip", "zst")
)
#: Files above this size go into LFS whatever their name is (the Hub's limit for files kept by git itself).
LFS_FROM = 10 * 1024 * 1024
_EPOCH = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(.+))?")
_RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_LFS = re.compile(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/(batch|verify)")
_STORED = re.compile(r"/lfs/([0-9a-f]{40})/([0-9a-f]{64})")


def git_sha1(content: bytes) -> str:
    """The id that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class File:
    """A file in a commit: its git id, its size in bytes and, for an LFS file, its SHA-256."""

    oid: str
    size: int
    lfs: str | None = None

    @property
    def etag(self) -> str:
        """What the Hub compares contents by."""
        return self.lfs or self.oid


@dataclass(frozen=True)
class Commit:
    """A commit: `files` are all files after it, `changed` the paths that it wrote or deleted."""

    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: Mapping[str, File]
    changed: tuple[str, ...]


@dataclass
class Repo:
    """A repository.

    Attributes:
        id: Its name, with the name of its owner.
        kind: ``models`` or ``datasets``.
        private: Whether only its owner can see it.
        contents: Contents by git id (small files) and SHA-256 (LFS files).
        history: All commits by id.
        branches: Commit ids by name.
        tags: Commit ids by name.
    """

    id: str
    kind: str
    private: bool
    contents: dict[str, bytes] = field(default_factory=dict)
    history: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """The commit that ``main`` is at."""
        return self.branches["main"]

    def commit(self, revision: str = "main") -> Commit:
        """The commit that a branch, tag, id or beginning of an id names; a KeyError where there is none."""
        oid = self.branches.get(revision) or self.tags.get(revision)
        if oid is None and re.fullmatch("[0-9a-f]{7,40}", revision):
            oid = next((known for known in self.history if known.startswith(revision)), None)
        return self.history[oid or revision]

    def commits(self, revision: str = "main") -> list[Commit]:
        """The commits that lead to a revision, newest first."""
        found = [self.commit(revision)]
        while (parent := found[-1].parent) is not None:
            found.append(self.history[parent])
        return found

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """All files, by path."""
        return {path: self.contents[file.etag] for path, file in self.commit(revision).files.items()}

    def text(self, path: str, revision: str = "main") -> str:
        """A file's text."""
        return self.contents[self.commit(revision).files[path].etag].decode()


@dataclass(frozen=True)
class Seen:
    """A request that the server answered.

    Attributes:
        method: Such as ``GET``.
        path: Path and query as they came.
        status: The answer's; 0 where the connection was cut instead.
        received: Bytes of the request's body.
        user: Whose token came with it.
        agent: Its ``User-Agent``.
    """

    method: str
    path: str
    status: int
    received: int
    user: str | None
    agent: str


@dataclass
class _Fault:
    method: str
    path: str
    kind: str
    times: int | None
    skip: int
    error: HubError | None = None
    after: int = 0
    seconds: float = 0.0
    action: Callable[[], object] | None = None
    hits: int = 0


class Faults:
    """Faults on demand.

    Each fault waits for requests by method (``*`` for any) and a regular expression that is searched for in
    the path, such as ``/commit/`` or ``/lfs/``. It lets `skip` of them pass, strikes `times` times (None for
    always) and is used up. Where several wait, the first one strikes. Each method returns the fault, whose
    `hits` counts how often it struck.
    """

    def __init__(self) -> None:
        self._waiting: list[_Fault] = []
        self._lock = threading.Lock()

    def fail(
        self,
        method: str,
        path: str,
        status: int,
        *,
        message: str = "injected",
        code: str | None = None,
        retry_after: float | None = None,
        times: int | None = 1,
        skip: int = 0,
    ) -> _Fault:
        """Answers with an error.

        Args:
            method: As above.
            path: As above.
            status: Such as 401, 403, 409, 412, 429, 500.
            message: The error's text.
            code: The ``X-Error-Code``, such as ``RepoNotFound``.
            retry_after: Seconds, for a ``Retry-After``.
            times: As above.
            skip: As above.
        """
        headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
        error = HubError(status, message, code, **headers)
        return self._add(_Fault(method, path, "fail", times, skip, error=error))

    def cut(self, method: str, path: str, *, after: int = 0, times: int | None = 1, skip: int = 0) -> _Fault:
        """Cuts the connection when `after` bytes of the request's body have been read."""
        return self._add(_Fault(method, path, "cut", times, skip, after=after))

    def lose_answer(self, method: str, path: str, *, times: int | None = 1, skip: int = 0) -> _Fault:
        """Does what is asked, and cuts the connection before the answer."""
        return self._add(_Fault(method, path, "lose", times, skip))

    def cut_answer(
        self, method: str, path: str, *, after: int, times: int | None = 1, skip: int = 0
    ) -> _Fault:
        """Ends the connection, in order, when `after` bytes of the answer's body have been sent."""
        return self._add(_Fault(method, path, "cut_answer", times, skip, after=after))

    def slow(
        self, method: str, path: str, *, seconds: float, times: int | None = None, skip: int = 0
    ) -> _Fault:
        """Spreads the answer's body over `seconds`, in eight pieces."""
        return self._add(_Fault(method, path, "slow", times, skip, seconds=seconds))

    def meanwhile(
        self,
        method: str,
        path: str,
        action: Callable[[], object],
        *,
        times: int | None = 1,
        skip: int = 0,
    ) -> _Fault:
        """Calls `action` before the request is served: somebody else is faster."""
        return self._add(_Fault(method, path, "meanwhile", times, skip, action=action))

    def clear(self) -> None:
        """Takes all waiting faults away."""
        with self._lock:
            self._waiting.clear()

    def _add(self, fault: _Fault) -> _Fault:
        with self._lock:
            self._waiting.append(fault)
        return fault

    def take(self, method: str, path: str) -> _Fault | None:
        """The fault that strikes this request."""
        with self._lock:
            for fault in self._waiting:
                if fault.method not in ("*", method) or not re.search(fault.path, path):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.hits += 1
                if fault.times is not None and fault.hits >= fault.times:
                    self._waiting.remove(fault)
                return fault
        return None


class HubError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        line = " ".join(message.split()).encode("ascii", "replace").decode()
        self.headers = {"X-Error-Message": line, **({"X-Error-Code": code} if code else {}), **headers}


class Hub:
    """The server, and what a test wants to know of it.

    Attributes:
        url: The value for ``HF_ENDPOINT``.
        storage: Where large files are kept.
        token: A token that may write; it belongs to `user`.
        read_token: A token of the same user that may only read.
        stranger: A token of somebody who belongs to none of `orgs`.
        user: A user's name.
        orgs: The organisations that the user may write to.
        home: The clients' home: cache, stored tokens.
        faults: Faults on demand.
        log: All requests so far. No token is in it.
        unknown: Requests that this server has no answer for, and its own mistakes; empty in a good test.
        page: Entries per page of a listing (the Hub: 1000).
    """

    def __init__(self, home: Path, *, user: str = "ada", orgs: Sequence[str] = ("ORG",)) -> None:
        self.home, self.user, self.orgs, self.page = home, user, tuple(orgs), 1000
        # Made anew each time, so that a test that looks for it in a log cannot find another's.
        self.token, self.read_token, self.stranger = (
            f"hf_{base64.b16encode(os.urandom(17)).decode()}" for _ in range(3)
        )
        self.tokens = {
            self.token: (user, "write"),
            self.read_token: (user, "read"),
            self.stranger: ("eve", "write"),
        }
        self.faults, self.log, self.unknown = Faults(), [], []
        self._repos: dict[tuple[str, str], Repo] = {}
        self._lock = threading.RLock()
        self._secret = os.urandom(16)
        self._commits = 0
        # Bytes of whole LFS files that arrived, in order: (repository, SHA-256, size).
        self.uploads: list[tuple[str, str, int]] = []
        self._servers = [_server(self, _Api), _server(self, _Storage)]
        # Of two names of this machine: a client is to notice that the storage is another host.
        self.url, self.storage = (
            f"http://{name}:{server.server_port}"
            for name, server in zip(("127.0.0.1", "localhost"), self._servers, strict=True)
        )

    def close(self) -> None:
        """Stops both servers."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

    # What tests look at and change

    def repo(self, name: str, kind: str = "datasets") -> Repo:
        """A repository; a KeyError where there is none."""
        return self._repos[kind, name]

    def repos(self, kind: str = "datasets") -> list[str]:
        """The names of all repositories, sorted."""
        return sorted(name for of, name in self._repos if of == kind)

    def create(self, name: str, kind: str = "datasets", *, private: bool = False) -> Repo:
        """Makes a repository, as ``create_repo`` does."""
        with self._lock:
            if (kind, name) in self._repos:
                message = f"You already created this {kind[:-1]} repo"
                raise HubError(409, message, url=self._page(kind, name))
            repo = self._repos[kind, name] = Repo(name, kind, private)
            content = GITATTRIBUTES.encode()
            self._write(repo, "main", {".gitattributes": (content, False)}, "initial commit", "", "system")
            return repo

    def edit(
        self,
        name: str,
        files: Mapping[str, bytes | str | None],
        kind: str = "datasets",
        *,
        title: str = "Edit on the website",
    ) -> str:
        """Commits to ``main`` as somebody else would: contents by path, None deletes; returns the id."""
        with self._lock:
            repo = self._repos[kind, name]
            written = {path: c.encode() if isinstance(c, str) else c for path, c in files.items()}
            changes = {
                path: None if c is None else (c, self._is_lfs(repo, path, len(c), c[:512]))
                for path, c in written.items()
            }
            return self._write(repo, "main", changes, title, "", "eve").oid

    def sent(self, method: str, path: str) -> list[Seen]:
        """The requests so far whose path has a match of the regular expression `path`."""
        return [seen for seen in list(self.log) if seen.method == method and re.search(path, seen.path)]

    # The state

    def _page(self, kind: str, name: str) -> str:
        return f"{self.url}/{'datasets/' if kind == 'datasets' else ''}{name}"

    def _write(
        self,
        repo: Repo,
        branch: str,
        changes: Mapping[str, tuple[bytes, bool] | None],
        title: str,
        message: str,
        author: str,
    ) -> Commit:
        """Adds a commit to a branch; a change is (content, whether it is an LFS file), or None."""
        parent = repo.branches.get(branch)
        files = dict(repo.history[parent].files) if parent else {}
        for path, change in changes.items():
            if change is None:
                del files[path]
                continue
            content, lfs = change
            if lfs:
                sha256 = hashlib.sha256(content).hexdigest()
                pointer = (
                    f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n"
                )
                files[path] = File(git_sha1(pointer.encode()), len(content), sha256)
            else:
                files[path] = File(git_sha1(content), len(content))
            repo.contents[files[path].etag] = content
        self._commits += 1
        date = (_EPOCH + datetime.timedelta(minutes=self._commits)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        told = json.dumps([repo.id, parent, title, date, sorted((p, f.oid) for p, f in files.items())])
        oid = hashlib.sha1(told.encode()).hexdigest()
        commit = Commit(oid, parent, title, message, author, date, files, tuple(sorted(changes)))
        repo.history[oid] = commit
        repo.branches[branch] = oid
        return commit

    def _is_lfs(self, repo: Repo, path: str, size: int, sample: bytes) -> bool:
        attributes = repo.commit().files.get(".gitattributes")
        for line in repo.text(".gitattributes").splitlines() if attributes else ():
            pattern, *words = line.split()
            names = (path, path.rsplit("/", 1)[-1])
            if "filter=lfs" in words and any(fnmatch.fnmatchcase(name, pattern) for name in names):
                return True
        return size > LFS_FROM or b"\0" in sample

    def _signed(self, repo: Repo, sha256: str) -> str:
        """An address in the storage that works without a token."""
        where = _where(repo)
        return f"{self.storage}/lfs/{where}/{sha256}?signature={self._signature(where, sha256)}"

    def _signature(self, where: str, sha256: str) -> str:
        return hashlib.sha256(self._secret + f"{where}/{sha256}".encode()).hexdigest()

    # What is asked

    def _who(self, request: _Request) -> tuple[str | None, str]:
        given = request.headers.get("Authorization")
        if given is None:
            return None, "none"
        if known := self.tokens.get(given.removeprefix("Bearer ")):
            return known
        raise HubError(401, "Invalid credentials in Authorization header")

    def _found(self, request: _Request, kind: str, name: str, *, write: bool = False) -> Repo:
        user, role = self._who(request)
        repo = self._repos.get((kind, urllib.parse.unquote(name)))
        if repo is None or (repo.private and not self._belongs(user, repo.id)):
            # Who gives no token cannot tell what is private from what does not exist.
            raise HubError(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and user is None:
            raise HubError(401, "Invalid username or password.")
        if write and not (role == "write" and self._belongs(user, repo.id)):
            raise HubError(403, f"You don't have the rights to write to {repo.id}")
        return repo

    def _belongs(self, user: str | None, name: str) -> bool:
        owner = name.split("/")[0]
        return user is not None and (owner == user or (user == self.user and owner in self.orgs))

    @staticmethod
    def _at(repo: Repo, revision: str) -> Commit:
        try:
            return repo.commit(urllib.parse.unquote(revision))
        except KeyError:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound") from None

    def answer(self, request: _Request) -> _Answer:
        """Answers a request to the Hub itself."""
        path = request.path
        with self._lock:
            if path == "/api/whoami-v2":
                return self._whoami(request)
            if path == "/api/repos/create":
                return self._create(request)
            if path == "/api/repos/delete":
                sent = request.json()
                kind = f"{sent.get('type') or 'model'}s"
                repo = self._found(request, kind, _name(sent, self._who(request)[0]), write=True)
                del self._repos[kind, repo.id]
                return _json({})
            if path == "/api/validate-yaml":
                wrong = _yaml_errors(request.json()["content"])
                errors = [{"message": message} for message in wrong]
                return replace(_json({"errors": errors, "warnings": []}), status=400 if wrong else 200)
            if path in ("/api/models", "/api/datasets"):
                return self._listing(request, path.removeprefix("/api/"))
            if match := _LFS.fullmatch(path):
                kind = "datasets" if match[1] else "models"
                repo = self._found(request, kind, match[2], write=True)
                return self._batch(repo, request) if match[3] == "batch" else self._verify(repo, request)
            if match := _RESOLVE.fullmatch(path):
                kind = "datasets" if match[1] else "models"
                return self._resolve(self._found(request, kind, match[2]), request, match[3], match[4])
            if match := _API.fullmatch(path):
                action, *rest = (match[3] or "info").split("/")
                write = request.method not in ("GET", "HEAD") and action != "paths-info"
                write = write or rest == ["write"]
                answers = getattr(self, f"_{request.method.lower()}_{action.replace('-', '_')}", None)
                if answers is not None:
                    return answers(self._found(request, match[1], match[2], write=write), request, *rest)
        self.unknown.append(f"{request.method} {path}")
        raise HubError(404, f"this server has no {path}")

    def _whoami(self, request: _Request) -> _Answer:
        user, role = self._who(request)
        if user is None:
            raise HubError(401, "Invalid username or password.")
        orgs = [{"type": "org", "name": name, "roleInOrg": "admin"} for name in self.orgs]
        auth = {"type": "access_token", "accessToken": {"displayName": "tests", "role": role}}
        mine = orgs if user == self.user else []
        return _json({"type": "user", "id": "0", "name": user, "fullname": user, "orgs": mine, "auth": auth})

    def _create(self, request: _Request) -> _Answer:
        user, role = self._who(request)
        if user is None:
            raise HubError(401, "Invalid username or password.")
        sent = request.json()
        name = _name(sent, user)
        if role != "write" or not self._belongs(user, name):
            owner = name.split("/")[0]
            raise HubError(403, f"You don't have the rights to create a repo under the namespace {owner}")
        if not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", name):
            raise HubError(400, f"Invalid name {name}")
        private = sent.get("visibility") == "private" or bool(sent.get("private"))
        repo = self.create(name, f"{sent.get('type') or 'model'}s", private=private)
        return _json({"url": self._page(repo.kind, repo.id), "name": repo.id, "id": "0"})

    def _listing(self, request: _Request, kind: str) -> _Answer:
        user, _ = self._who(request)
        author, search = request.query.get("author"), request.query.get("search", "").lower()
        found = [
            repo
            for (of, name), repo in sorted(self._repos.items())
            if of == kind
            and (author is None or name.split("/")[0] == author)
            and search in name.lower()
            and (not repo.private or self._belongs(user, name))
        ]
        return _paged(self, request, [self._info(repo, repo.commit(), blobs=False) for repo in found])

    def _info(self, repo: Repo, commit: Commit, *, blobs: bool) -> dict[str, Any]:
        siblings: list[dict[str, Any]] = []
        for path, file in sorted(commit.files.items()):
            siblings.append({"rfilename": path})
            if blobs:
                siblings[-1] |= {"size": file.size, "blobId": file.oid}
                if file.lfs:
                    siblings[-1]["lfs"] = {"sha256": file.lfs, "size": file.size, "pointerSize": 134}
        card = commit.files.get("README.md")
        return {
            "_id": "0",
            "id": repo.id,
            **({"modelId": repo.id} if repo.kind == "models" else {}),
            "author": repo.id.split("/")[0],
            "sha": commit.oid,
            "lastModified": commit.date,
            "createdAt": repo.commits()[-1].date,
            "private": repo.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "cardData": _front(repo.contents[card.etag].decode()) if card else {},
            "siblings": siblings,
        }

    def _get_info(self, repo: Repo, request: _Request) -> _Answer:
        return self._get_revision(repo, request, "main")

    def _get_revision(self, repo: Repo, request: _Request, revision: str) -> _Answer:
        return _json(self._info(repo, self._at(repo, revision), blobs="blobs" in request.query))

    def _get_auth_check(self, repo: Repo, request: _Request, *_: str) -> _Answer:
        return _json({})

    def _put_settings(self, repo: Repo, request: _Request) -> _Answer:
        sent = request.json()
        if "visibility" in sent or "private" in sent:
            repo.private = sent.get("visibility") == "private" or bool(sent.get("private"))
        return _json({"private": repo.private})

    def _get_refs(self, repo: Repo, request: _Request) -> _Answer:
        def refs(of: Mapping[str, str], kind: str) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": oid} for n, oid in of.items()]

        told = {"branches": refs(repo.branches, "heads"), "tags": refs(repo.tags, "tags"), "converts": []}
        return _json({**told, "pullRequests": []} if "include_prs" in request.query else told)

    def _get_commits(self, repo: Repo, request: _Request, revision: str) -> _Answer:
        self._at(repo, revision)
        told = [
            {
                "id": commit.oid,
                "title": commit.title,
                "message": commit.message,
                "date": commit.date,
                "authors": [{"user": commit.author, "avatar": ""}],
            }
            for commit in repo.commits(urllib.parse.unquote(revision))
        ]
        return _paged(self, request, told)

    def _entry(self, repo: Repo, commit: Commit, path: str, *, expand: bool) -> dict[str, Any] | None:
        """What a listing says of a file or folder."""
        file = commit.files.get(path)
        under = [p for p in commit.files if p.startswith(path + "/")]
        if file is None and not under:
            return None
        if file is not None:
            told: dict[str, Any] = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
            if file.lfs:
                told["lfs"] = {"oid": file.lfs, "size": file.size, "pointerSize": 134}
        else:
            tree = json.dumps([(p, commit.files[p].oid) for p in sorted(under)])
            told = {"type": "directory", "oid": git_sha1(tree.encode()), "size": 0, "path": path}
        if expand:
            line = repo.commits(commit.oid)
            last = next(c for c in line if any(p == path or p.startswith(path + "/") for p in c.changed))
            told["lastCommit"] = {"id": last.oid, "title": last.title, "date": last.date}
            if file is not None:
                told["securityFileStatus"] = {
                    "status": "safe",
                    "avScan": {"virusFound": False, "virusNames": None},
                    "pickleImportScan": None,
                }
        return told

    def _get_tree(self, repo: Repo, request: _Request, revision: str, *parts: str) -> _Answer:
        commit, under = self._at(repo, revision), urllib.parse.unquote("/".join(parts))
        start = under + "/" if under else ""
        inside = [path for path in commit.files if path.startswith(start)]
        if under and not inside:
            raise HubError(404, f"{under} does not exist on {revision}", "EntryNotFound")
        paths = set()
        for path in inside:
            steps = path.removeprefix(start).split("/")
            deep = len(steps) if request.flag("recursive") else 1
            paths |= {start + "/".join(steps[: n + 1]) for n in range(deep)}
        expand = request.flag("expand")
        told = [self._entry(repo, commit, path, expand=expand) for path in sorted(paths)]
        return _paged(self, request, told)

    def _post_paths_info(self, repo: Repo, request: _Request, revision: str) -> _Answer:
        commit, form = self._at(repo, revision), urllib.parse.parse_qs(request.body.decode())
        expand = form.get("expand", [""])[0].lower() in ("true", "1")
        told = (self._entry(repo, commit, path, expand=expand) for path in form.get("paths", ()))
        return _json([entry for entry in told if entry])

    def _resolve(self, repo: Repo, request: _Request, revision: str, path: str) -> _Answer:
        commit, path = self._at(repo, revision), urllib.parse.unquote(path)
        at = {"X-Repo-Commit": commit.oid}
        if (file := commit.files.get(path)) is None:
            raise HubError(404, "Entry not found", "EntryNotFound", **at)
        at |= {"Accept-Ranges": "bytes"}
        if file.lfs is None:
            return _ranged(request, repo.contents[file.oid], {**at, "ETag": f'"{file.oid}"'})
        at |= {"X-Linked-Etag": f'"{file.lfs}"', "X-Linked-Size": str(file.size)}
        return _Answer(302, b"", {**at, "Location": self._signed(repo, file.lfs)})

    def _post_branch(self, repo: Repo, request: _Request, branch: str) -> _Answer:
        branch = urllib.parse.unquote(branch)
        if branch in repo.branches:
            raise HubError(409, f"Reference {branch} already exists")
        repo.branches[branch] = self._at(repo, request.json().get("startingPoint") or "main").oid
        return _json({})

    def _delete_branch(self, repo: Repo, request: _Request, branch: str) -> _Answer:
        branch = urllib.parse.unquote(branch)
        if branch == "main":
            raise HubError(403, "main is protected")
        if repo.branches.pop(branch, None) is None:
            raise HubError(404, f"no branch {branch}", "RevisionNotFound")
        return _json({})

    def _post_tag(self, repo: Repo, request: _Request, revision: str) -> _Answer:
        commit, tag = self._at(repo, revision), request.json()["tag"]
        if tag in repo.tags:
            raise HubError(409, f"Tag reference exists already: refs/tags/{tag}")
        repo.tags[tag] = commit.oid
        return _json({})

    def _delete_tag(self, repo: Repo, request: _Request, tag: str) -> _Answer:
        if repo.tags.pop(urllib.parse.unquote(tag), None) is None:
            raise HubError(404, f"no tag {tag}", "RevisionNotFound")
        return _json({})

    def _post_preupload(self, repo: Repo, request: _Request, revision: str) -> _Answer:
        commit, told = self._at(repo, revision), []
        for sent in request.json()["files"]:
            path = sent["path"]
            lfs = self._is_lfs(repo, path, sent["size"], base64.b64decode(sent.get("sample") or ""))
            there = commit.files.get(path)
            told.append({"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False})
            told[-1]["oid"] = there.etag if there else None
        return _json({"files": told, "commitOid": commit.oid})

    def _batch(self, repo: Repo, request: _Request) -> _Answer:
        told = []
        for sent in request.json()["objects"]:
            told.append({"oid": sent["oid"], "size": sent["size"]})
            if sent["oid"] not in repo.contents:
                verify = f"{self._page(repo.kind, repo.id)}.git/info/lfs/objects/verify"
                told[-1]["actions"] = {
                    "upload": {"href": self._signed(repo, sent["oid"]), "header": {}},
                    "verify": {"href": verify, "header": {}},
                }
        return _json({"transfer": "basic", "objects": told})

    def _verify(self, repo: Repo, request: _Request) -> _Answer:
        sent = request.json()
        if len(repo.contents.get(sent["oid"], b"")) != sent["size"]:
            raise HubError(404, f"no object {sent['oid']} of {sent['size']} bytes")
        return _json({})

    def _post_commit(self, repo: Repo, request: _Request, revision: str) -> _Answer:
        branch = urllib.parse.unquote(revision)
        if branch not in repo.branches:
            raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        there, header = repo.commit(branch), {}
        changes: dict[str, tuple[bytes, bool] | None] = {}
        for line in request.body.splitlines():
            sent = json.loads(line)
            key, value = sent["key"], sent["value"]
            if key == "header":
                header = value
            elif key == "file":
                content = base64.b64decode(value["content"])
                if b"\0" in content:
                    raise HubError(400, f"{value['path']} is binary: binary files have to be sent by LFS")
                changes[value["path"]] = content, False
            elif key == "lfsFile":
                if value["oid"] not in repo.contents:
                    raise HubError(400, f"{value['path']}: LFS object {value['oid']} was not uploaded")
                changes[value["path"]] = repo.contents[value["oid"]], True
            elif key in ("deletedFile", "deletedFolder"):
                path = value["path"].rstrip("/")
                within = (
                    [path] if key == "deletedFile" else [p for p in there.files if p.startswith(path + "/")]
                )
                if not within or not all(p in there.files for p in within):
                    raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
                changes |= dict.fromkeys(within)
            else:
                raise HubError(400, f"unknown operation {key}")
        parent = header.get("parentCommit")
        if parent is not None and not there.oid.startswith(parent):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        if not header.get("summary"):
            raise HubError(400, "a commit needs a summary")
        if (card := changes.get("README.md")) and (wrong := _yaml_errors(card[0].decode())):
            raise HubError(400, f"Invalid metadata in README.md: {'; '.join(wrong)}")
        author = self._who(request)[0] or ""
        commit = self._write(repo, branch, changes, header["summary"], header.get("description", ""), author)
        page = f"{self._page(repo.kind, repo.id)}/commit/{commit.oid}"
        return _json({"success": True, "commitOid": commit.oid, "commitUrl": page, "hookOutput": ""})

    def answer_storage(self, request: _Request) -> _Answer:
        """Answers a request to the storage of large files."""
        match = _STORED.fullmatch(request.path)
        if match is None:
            self.unknown.append(f"{request.method} {request.path}")
            raise HubError(404, "no such object")
        where, sha256 = match.groups()
        if "Authorization" in request.headers:
            raise HubError(400, "Only one auth mechanism allowed: a token has no business here")
        if request.query.get("signature") != self._signature(where, sha256):
            raise HubError(403, "The signature does not match")
        with self._lock:
            repo = next((repo for repo in self._repos.values() if _where(repo) == where), None)
            if repo is None:
                raise HubError(404, "no such object")
            if request.method == "PUT":
                if hashlib.sha256(request.body).hexdigest() != sha256:
                    raise HubError(400, "the content has another SHA-256")
                repo.contents[sha256] = request.body
                self.uploads.append((repo.id, sha256, len(request.body)))
                return _Answer(200, b"", {"ETag": f'"{sha256}"'})
            if sha256 not in repo.contents:
                raise HubError(404, "no such object")
            return _ranged(request, repo.contents[sha256], {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"})


def _where(repo: Repo) -> str:
    """The folder of a repository in the storage."""
    return hashlib.sha1(f"{repo.kind}/{repo.id}".encode()).hexdigest()


def _name(sent: Mapping[str, Any], user: str | None) -> str:
    """The repository that a request to create or delete one is about."""
    return f"{sent.get('organization') or user}/{sent['name']}"


def _front(card: str) -> Any:
    """What the YAML at a card's beginning says; a ``yaml.YAMLError`` where it is no YAML."""
    match = re.match(r"---\r?\n(.*?)\r?\n---\r?(?:\n|$)", card, re.DOTALL)
    # By way of JSON, which has no dates.
    return json.loads(json.dumps(yaml.safe_load(match[1]) or {}, default=str)) if match else {}


def _yaml_errors(card: str) -> list[str]:
    try:
        found = _front(card)
    except yaml.YAMLError as error:
        return [str(error)]
    return [] if isinstance(found, dict) else ["metadata is no mapping"]


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            raise HubError(400, "the body is no JSON") from None

    def flag(self, name: str) -> bool:
        return self.query.get(name, "").lower() in ("true", "1")


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    headers: Mapping[str, str]


def _json(value: Any) -> _Answer:
    return _Answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _paged(hub: Hub, request: _Request, entries: list[Any]) -> _Answer:
    """One page of a listing, with the address of the next."""
    start = int(request.query.get("cursor", "0"))
    answer = _json(entries[start : start + hub.page])
    if start + hub.page >= len(entries):
        return answer
    query = urllib.parse.urlencode({**request.query, "cursor": start + hub.page})
    link = f'<{hub.url}{request.path}?{query}>; rel="next"'
    return replace(answer, headers={**answer.headers, "Link": link})


def _ranged(request: _Request, content: bytes, headers: Mapping[str, str]) -> _Answer:
    """A content, or the part of it that is asked for."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if match is None or match.groups() == ("", ""):
        return _Answer(200, content, headers)
    first, last = match.groups()
    start = int(first) if first else max(0, len(content) - int(last))
    end = min(int(last), len(content) - 1) if first and last else len(content) - 1
    if start > end:
        raise HubError(416, "Range not satisfiable", **{"Content-Range": f"bytes */{len(content)}"})
    told = {**headers, "Content-Range": f"bytes {start}-{end}/{len(content)}"}
    return _Answer(206, content[start : end + 1], told)


class _CutError(Exception):
    """The connection is to be cut."""


class _Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are written separately: without this each answer waits 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
    hub: Hub

    def _ask(self, request: _Request) -> _Answer:
        return self.hub.answer(request)

    def _serve(self) -> None:
        raw, _, query = self.path.partition("?")
        fault = self.hub.faults.take(self.command, self.path)
        kind = fault.kind if fault else ""
        status, self._received = 0, 0
        try:
            body = self._body(fault.after if kind == "cut" else None)
            if kind == "meanwhile":
                fault.action()
            asked = _Request(self.command, raw, dict(urllib.parse.parse_qsl(query)), self.headers, body)
            try:
                if kind == "fail":
                    raise fault.error
                answer = self._ask(asked)
            except HubError as error:
                # A body has what a client reads after an error: of `create_repo`, the repository's address.
                told = json.dumps({"error": error.message, **error.headers}).encode()
                answer = _Answer(error.status, told, {"Content-Type": "application/json", **error.headers})
            except Exception as error:
                self.hub.unknown.append(f"{self.command} {raw}: {error!r}")
                answer = _Answer(500, repr(error).encode(), {"Content-Type": "text/plain"})
            if kind == "lose":
                raise _CutError
            # Noted before it is sent: a test looks as soon as the client has its answer.
            self._note(status := answer.status)
            self._send(answer, fault)
        except _CutError:
            if status == 0:
                self._note(0)
            # Closed with nothing lingering: the client sees a reset, as when a line breaks.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        except OSError:  # the client went away
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _serve  # noqa: N815

    def _note(self, status: int) -> None:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        user, _ = self.hub.tokens.get(given, (None, ""))
        agent = self.headers.get("User-Agent", "")
        self.hub.log.append(Seen(self.command, self.path, status, self._received, user, agent))

    def _body(self, cut: int | None) -> bytes:
        """Reads the request's body; raises `_CutError` after `cut` bytes, or where the client stopped."""
        pieces = []
        for piece in self._pieces():
            self._received += len(piece)
            if cut is not None and self._received >= cut:
                raise _CutError
            pieces.append(piece)
        if cut is not None:
            raise _CutError
        return b"".join(pieces)

    def _pieces(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            piece = self.rfile.read(min(left, 1 << 14))
            if not piece:
                raise _CutError
            left -= len(piece)
            yield piece

    def _send(self, answer: _Answer, fault: _Fault | None) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault and fault.kind == "cut_answer":
            self.wfile.write(answer.body[: fault.after])
            self.close_connection = True
            return
        if fault and fault.kind == "slow":
            step = -(-len(answer.body) // 8) or 1
            for start in range(0, len(answer.body), step):
                time.sleep(fault.seconds / 8)
                self.wfile.write(answer.body[start : start + step])
                self.wfile.flush()
            return
        self.wfile.write(answer.body)

    def log_message(self, *_: Any) -> None:
        pass


class _Storage(_Api):
    def _ask(self, request: _Request) -> _Answer:
        return self.hub.answer_storage(request)


def _server(hub: Hub, handler: type[_Api]) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type(handler.__name__, (handler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


@contextlib.contextmanager
def running(home: Path, **options: Any) -> Iterator[Hub]:
    """A Hub that runs until the end of the block; `options` are those of `Hub`."""
    server = Hub(home, **options)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A Hub with no repository in it."""
    with running(tmp_path_factory.mktemp("hub")) as server:
        yield server


#: Variables of this process that would lead a client elsewhere.
_MISLEADING = re.compile(r"(HF|HUGGINGFACE|HUGGING_FACE)_.*|(HTTPS?|ALL|NO)_PROXY|TRANSFORMERS_OFFLINE", re.I)


def environment(hub: Hub, **env: str | None) -> dict[str, str]:
    """The variables for a client of this Hub, changed by `env` (None takes a variable away)."""
    found: dict[str, str | None] = {k: v for k, v in os.environ.items() if not _MISLEADING.fullmatch(k)}
    found |= {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.token,
        "HF_HOME": str(hub.home / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_SYMLINKS_WARNING": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        **env,
    }
    return {key: value for key, value in found.items() if value is not None}


def client(
    code: str | Sequence[str],
    hub: Hub,
    *arguments: object,
    cwd: Path | None = None,
    check: bool = True,
    without_meadow: bool = False,
    timeout: float = 120,
    **env: str | None,
) -> subprocess.CompletedProcess[str]:
    """Runs Python with the Hub's address and token in its environment, and the libraries as they are.

    Args:
        code: Python code, or the list of arguments for ``python``, such as ``["-m", "meadow", "push"]``.
        hub: The Hub.
        *arguments: ``sys.argv[1:]``.
        cwd: The folder to run in; None for the Hub's `home`, so that nothing of a checkout is found.
        check: Whether an exit code other than 0 fails the test.
        without_meadow: Whether ``import meadow`` is to fail there; only for code.
        timeout: Seconds.
        **env: Variables to change; None takes one away, such as ``HF_TOKEN=None``.

    Returns:
        Exit code, output and errors, as text.
    """
    if isinstance(code, str):
        code = f"import sys; sys.modules['meadow'] = None\n{code}" if without_meadow else code
        code = ["-c", code]
    done = subprocess.run(
        [sys.executable, *code, *map(str, arguments)],
        cwd=cwd or hub.home,
        env=environment(hub, **env),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0 or not check, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
