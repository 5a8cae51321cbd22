"""The Hub of the tests: the unmodified `huggingface_hub` client finds there what the real one promises."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.hub_server import Hub, client, git_sha1, hub  # noqa: F401

#: What all clients' code begins with.
BEGIN = """
import json, os, sys, threading
from huggingface_hub import CommitOperationAdd as Add, CommitOperationDelete as Delete, HfApi
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import *
api, name, of = HfApi(), "ORG/NAME", {"repo_type": "dataset"}
data = bytes(range(256)) * 64

def commit(parent=None, title="One", **files):
    adds = [Add(path, content) for path, content in files.items()]
    return api.create_commit(name, adds, commit_message=title, parent_commit=parent, **of).oid

def error(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except Exception as found:
        kind = type(found)
        while found.__cause__ is not None and not hasattr(found, "response"):
            found = found.__cause__
        return [kind.__name__, getattr(getattr(found, "response", None), "status_code", 0)]
    return None
"""
DATA = bytes(range(256)) * 64


def ask(code: str, server: Hub, **env: str | None) -> Any:
    """Runs code that prints JSON as its last line; nothing may be asked that the server does not know."""
    done = client(BEGIN + code, server, **env)
    assert server.unknown == []
    return json.loads(done.stdout.splitlines()[-1])


def test_what_is_committed_is_read_back(hub: Hub) -> None:  # noqa: F811
    hub.page = 2
    told = ask(
        """
made = api.create_repo(name, private=True, **of)
first = commit(**{"README.md": b"---\\nlicense: mit\\n---\\nWords.", "a/b/1.parquet": data, "a/x.txt": b"x"})
api.create_tag(name, tag="v1.0.0", **of)
api.create_branch(name, branch="next", **of)
second = api.create_commit(name, [Delete("a/b/"), Add("a/x.txt", b"y")], commit_message="Two", **of).oid
info = api.dataset_info(name, files_metadata=True)
tree = {e.path: e for e in api.list_repo_tree(name, recursive=True, expand=True, revision="v1.0.0", **of)}
folder = [type(e).__name__ + " " + e.path for e in api.list_repo_tree(name, "a", revision="v1.0.0", **of)]
refs = api.list_repo_refs(name, **of)
paths = api.get_paths_info(name, ["a", "a/b/1.parquet", "none"], revision=first[:8], **of)
local = hf_hub_download(name, "a/b/1.parquet", revision="v1.0.0", **of)
whole = snapshot_download(name, revision="next", **of)
from huggingface_hub import HfFileSystem
with HfFileSystem().open(f"datasets/{name}@v1.0.0/a/b/1.parquet", block_size=100) as file:
    file.seek(300)
    part = file.read(50)
print(json.dumps({
    "user": api.whoami()["name"], "url": str(made), "private": info.private, "commits": [first, second],
    "sha": info.sha, "license": info.card_data["license"], "files": {s.rfilename: s.size for s in info.siblings},
    "tree": {p: [e.last_commit.oid, e.lfs and e.lfs.sha256] for p, e in tree.items() if hasattr(e, "size")},
    "blob": tree["a/x.txt"].blob_id, "folder": folder, "paths": [p.path for p in paths],
    "branches": {b.name: b.target_commit for b in refs.branches}, "listed": [i.id for i in api.list_datasets(author="ORG")],
    "tags": {t.name: t.target_commit for t in refs.tags}, "part": part.hex(),
    "same": open(local, "rb").read() == data == open(whole + "/a/b/1.parquet", "rb").read(),
    "history": [[c.commit_id, c.title, c.authors, c.created_at.isoformat()] for c in api.list_repo_commits(name, **of)],
}))
""",
        hub,
    )
    repo = hub.repo("ORG/NAME")
    first, second = told["commits"]
    assert told["url"] == f"{hub.url}/datasets/ORG/NAME"
    assert (told["user"], told["private"], told["license"], told["listed"]) == (
        "ada",
        True,
        "mit",
        ["ORG/NAME"],
    )
    assert told["sha"] == second == repo.head == repo.branches["main"]
    assert told["tags"] == {"v1.0.0": first}
    assert told["branches"] == {"main": second, "next": first}
    assert set(told["files"]) == {".gitattributes", "README.md", "a/x.txt"}
    assert told["files"]["a/x.txt"] == 1
    assert repo.files("v1.0.0")["a/b/1.parquet"] == DATA
    assert repo.text("a/x.txt") == "y"
    start = repo.commits()[-1].oid
    assert told["tree"] == {
        ".gitattributes": [start, None],
        "README.md": [first, None],
        "a/b/1.parquet": [first, hashlib.sha256(DATA).hexdigest()],
        "a/x.txt": [first, None],
    }
    assert told["blob"] == git_sha1(b"x")
    assert told["folder"] == ["RepoFolder a/b", "RepoFile a/x.txt"]
    assert told["paths"] == ["a", "a/b/1.parquet"]
    assert bytes.fromhex(told["part"]) == DATA[300:350]
    assert told["same"] is True
    assert told["history"] == [
        [second, "Two", ["ada"], "2026-01-01T00:03:00+00:00"],
        [first, "One", ["ada"], "2026-01-01T00:02:00+00:00"],
        [start, "initial commit", ["system"], "2026-01-01T00:01:00+00:00"],
    ]
    assert repo.commit(second).changed == ("a/b/1.parquet", "a/x.txt")
    # Listings came in pages, and no token is in what the tests may print.
    assert hub.sent("GET", "/tree/v1.0.0.*cursor=2")
    assert hub.token not in repr(hub.log)
    assert hub.token not in "".join(
        path.read_text("latin-1") for path in hub.home.rglob("*") if path.is_file()
    )


def test_models(hub: Hub) -> None:  # noqa: F811
    told = ask(
        """
os.makedirs("run")
open("run/config.json", "w").write("{}")
open("run/model.safetensors", "wb").write(data)
api.create_repo("ada/model")
api.upload_folder(repo_id="ada/model", folder_path="run", commit_message="A model")
local = hf_hub_download("ada/model", "model.safetensors")
info = api.model_info("ada/model")
api.delete_repo("ada/model", missing_ok=False)
print(json.dumps([open(local, "rb").read() == data, sorted(s.rfilename for s in info.siblings), info.private,
    error(api.model_info, "ada/model")]))
""",
        hub,
    )
    files = [".gitattributes", "config.json", "model.safetensors"]
    assert told == [True, files, False, ["RepositoryNotFoundError", 404]]
    assert [size for _, _, size in hub.uploads] == [len(DATA)]
    assert hub.repos("models") == []


def test_what_is_refused(hub: Hub) -> None:  # noqa: F811
    hub.create("ORG/NAME")
    hub.create("ORG/PRIVATE", private=True)
    hub.create("eve/theirs")
    hub.edit("ORG/NAME", {"x.txt": "x"})
    before = hub.repo("ORG/NAME").head
    told = ask(
        f"""
read, stranger = {hub.read_token!r}, {hub.stranger!r}
api.create_tag(name, tag="t", **of)
def found(token, **options): return error(api.dataset_info, "ORG/PRIVATE", token=token, **options)
def written(token): return error(api.create_commit, name, [Add("y.txt", b"y")], commit_message="y", token=token, **of)
print(json.dumps({{
    "file": error(hf_hub_download, name, "none.txt", **of),
    "revision": error(hf_hub_download, name, "x.txt", revision="none", **of),
    "tree": error(lambda: list(api.list_repo_tree(name, "none", **of))),
    "tag": error(api.create_tag, name, tag="t", **of), "tag again": error(api.create_tag, name, tag="t", exist_ok=True, **of),
    "no tag": error(api.delete_tag, name, tag="none", **of), "tag of none": error(api.create_tag, name, tag="u", revision="none", **of),
    "branch": error(api.create_branch, name, branch="main", **of), "protected": error(api.delete_branch, name, branch="main", **of),
    "repository": error(api.create_repo, name, **of), "again": str(api.create_repo(name, exist_ok=True, **of)),
    "foreign": error(api.create_repo, "eve/mine", **of), "theirs": error(api.create_tag, "eve/theirs", tag="t", **of),
    "delete": error(api.create_commit, name, [Delete("none.txt")], commit_message="x", **of),
    "card": error(commit, **{{"README.md": b"---\\na: [\\n---\\n"}}),
    "wrong token": error(api.whoami, token="hf_wrong"), "nobody": found(False), "stranger": found(stranger), "reader": found(read),
    "nobody writes": written(False), "reader writes": written(read), "stranger writes": written(stranger),
    "may write": [error(api.auth_check, name, write=True, token=t, **of) for t in (None, read)],
}}))
""",
        hub,
    )
    assert told == {
        "file": ["RemoteEntryNotFoundError", 404],
        "revision": ["RevisionNotFoundError", 404],
        "tree": ["RemoteEntryNotFoundError", 404],
        "tag": ["HfHubHTTPError", 409],
        "tag again": None,
        "no tag": ["RevisionNotFoundError", 404],
        "tag of none": ["RevisionNotFoundError", 404],
        "branch": ["HfHubHTTPError", 409],
        "protected": ["HfHubHTTPError", 403],
        "repository": ["HfHubHTTPError", 409],
        "again": f"{hub.url}/datasets/ORG/NAME",
        "foreign": ["HfHubHTTPError", 403],
        "theirs": ["HfHubHTTPError", 403],
        "delete": ["RemoteEntryNotFoundError", 404],
        "card": ["ValueError", 400],
        "wrong token": ["HfHubHTTPError", 401],
        "nobody": ["RepositoryNotFoundError", 401],
        "stranger": ["RepositoryNotFoundError", 404],
        "reader": None,
        "nobody writes": ["HfHubHTTPError", 401],
        "reader writes": ["HfHubHTTPError", 403],
        "stranger writes": ["HfHubHTTPError", 403],
        "may write": [None, ["HfHubHTTPError", 403]],
    }
    assert hub.repo("ORG/NAME").head == before
    assert hub.repos() == ["ORG/NAME", "ORG/PRIVATE", "eve/theirs"]


def test_large_files_travel_once_and_stale_parents_are_refused(hub: Hub) -> None:  # noqa: F811
    start = hub.create("ORG/NAME").head
    told = ask(
        """
start = api.dataset_info(name).sha
lonely = Add("b.bin", data + b"b")
api.preupload_lfs_files(name, [lonely], **of)
first = commit(start, **{"a.bin": data, "b.bin": data + b"b", "c.txt": b"c"})
again = commit(first, **{"copy.bin": data, "a.bin": data, "c.txt": b"c"})
stale = error(commit, start, **{"c.txt": b"d"})
wins, losses = [], []
def race(n):
    try: wins.append(commit(again, f"Race {n}", **{"c.txt": b"race %d" % n}))
    except HfHubHTTPError as found: losses.append(found.response.status_code)
threads = [threading.Thread(target=race, args=(n,)) for n in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print(json.dumps([first, again, stale, wins, losses]))
""",
        hub,
    )
    first, again, stale, wins, losses = told
    repo = hub.repo("ORG/NAME")
    assert sorted(size for _, _, size in hub.uploads) == [len(DATA), len(DATA) + 1]
    assert repo.commit(first).changed == ("a.bin", "b.bin", "c.txt")
    assert repo.commit(again).changed == ("copy.bin",)
    assert stale == ["HfHubHTTPError", 412]
    assert losses == [412] * 3
    assert [commit.oid for commit in repo.commits()] == [*wins, again, first, start]
    assert repo.text("c.txt").startswith("race ")


def test_the_storage_takes_signatures_not_tokens(hub: Hub) -> None:  # noqa: F811
    hub.create("ORG/NAME", private=True)
    hub.edit("ORG/NAME", {"a.bin": DATA})
    request = urllib.request.Request(f"{hub.url}/datasets/ORG/NAME/resolve/main/a.bin", method="HEAD")
    request.add_header("Authorization", f"Bearer {hub.token}")

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    with pytest.raises(urllib.error.HTTPError) as told:
        urllib.request.build_opener(Stay).open(request)
    told.value.close()
    where, digest = told.value.headers["Location"], hashlib.sha256(DATA).hexdigest()
    assert told.value.code == 302
    assert told.value.headers["X-Linked-Etag"] == f'"{digest}"'
    assert told.value.headers["X-Linked-Size"] == str(len(DATA))

    def answer(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        request = urllib.request.Request(url, data=body, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    assert answer(where) == (200, DATA)
    assert answer(where, Range="bytes=5-9") == (206, DATA[5:10])
    assert answer(where, Range="bytes=-3") == (206, DATA[-3:])
    assert answer(where, Range=f"bytes={len(DATA)}-")[0] == 416
    assert answer(where, Authorization=f"Bearer {hub.token}")[0] == 400
    assert answer(where + "0")[0] == 403
    assert answer(where, "PUT", b"something else")[0] == 400
    assert hub.repo("ORG/NAME").files()["a.bin"] == DATA
    assert hub.uploads == []


def test_faults_that_the_client_outlasts(hub: Hub) -> None:  # noqa: F811
    hub.create("ORG/NAME")
    cut = hub.faults.cut("PUT", "/lfs/", after=4096)
    busy = hub.faults.fail("POST", "/preupload/", 429, retry_after=0)
    broken = hub.faults.fail("POST", "/objects/verify", 500)
    half = hub.faults.cut_answer("GET", "/lfs/", after=5000)
    slow = hub.faults.slow("GET", "/tree/", seconds=0.4, times=1)
    began = time.monotonic()
    told = ask(
        """
oid = commit(**{"a.bin": data})
listed = [entry.path for entry in api.list_repo_tree(name, **of)]
local = hf_hub_download(name, "a.bin", **of)
print(json.dumps([oid, listed, open(local, "rb").read() == data]))
""",
        hub,
    )
    assert told == [hub.repo("ORG/NAME").head, [".gitattributes", "a.bin"], True]
    assert [fault.hits for fault in (cut, busy, broken, half, slow)] == [1, 1, 1, 1, 1]
    # Cut after 4 KiB, then whole; the client asks for the whole download again, as it had kept nothing yet.
    assert [(seen.status, seen.received >= 4096) for seen in hub.sent("PUT", "/lfs/")] == [
        (0, True),
        (200, True),
    ]
    assert [seen.status for seen in hub.sent("GET", "/lfs/")] == [200, 200]
    assert [seen.status for seen in hub.sent("POST", "/preupload/")] == [429, 200]
    assert time.monotonic() - began > 0.4


def test_faults_that_end_a_push_leave_the_repository_as_it_was(hub: Hub) -> None:  # noqa: F811
    repo = hub.create("ORG/NAME")
    hub.edit("ORG/NAME", {"c.txt": "c"})
    before = repo.head
    hub.faults.fail("POST", "/commit/", 401, message="Invalid credentials in Authorization header")
    hub.faults.fail("POST", "/commit/", 403)
    hub.faults.fail("POST", "/commit/", 409)
    hub.faults.fail("POST", "/commit/", 412)
    hub.faults.fail("POST", "/commit/", 429, retry_after=1)
    hub.faults.fail("POST", "/commit/", 500)
    hub.faults.cut("POST", "/commit/", after=10)
    hub.faults.meanwhile("POST", "/commit/", lambda: hub.edit("ORG/NAME", {"theirs.txt": "first"}))
    lost = hub.faults.lose_answer("POST", "/commit/", skip=1)
    told = ask(
        """
start = api.dataset_info(name).sha
found = [error(commit, start, **{"a.bin": data, "c.txt": b"d"}) for _ in range(8)]
there = api.dataset_info(name).sha
commit(there, **{"c.txt": b"e"})
found.append(error(commit, **{"c.txt": b"f"}))
print(json.dumps([found, start, there]))
""",
        hub,
    )
    found, start, there = told
    assert start == before
    assert [status for _, status in found] == [401, 403, 409, 412, 429, 500, 0, 412, 0]
    assert [kind for kind, status in found if status == 0] == ["ReadError", "ReadError"]
    # All that the first eight changed is what somebody else did; what was uploaded once is there.
    assert repo.commit(there).parent == before
    assert repo.commit(there).changed == ("theirs.txt",)
    assert len(hub.uploads) == 1
    # An answer that is lost is the answer of a commit that was made.
    assert lost.hits == 1
    assert repo.text("c.txt") == "f"


def test_a_client_that_dies_in_the_middle_leaves_nothing(hub: Hub) -> None:  # noqa: F811
    repo = hub.create("ORG/NAME")
    before = repo.head
    code = """
import http.client, os
from urllib.parse import urlsplit
from huggingface_hub.lfs import UploadInfo, post_lfs_batch_info
(action,), _, _ = post_lfs_batch_info([UploadInfo.from_bytes(data)], None, "dataset", name)
to = urlsplit(action["actions"]["upload"]["href"])
line = http.client.HTTPConnection(to.netloc)
line.putrequest("PUT", to.path + "?" + to.query)
line.putheader("Content-Length", str(len(data)))
line.endheaders(data[:1000])
os._exit(3)
"""
    assert client(BEGIN + code, hub, check=False).returncode == 3
    deadline = time.monotonic() + 10
    while not hub.sent("PUT", "/lfs/") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [seen.status for seen in hub.sent("PUT", "/lfs/")] == [0]
    assert hub.uploads == []
    assert repo.head == before
