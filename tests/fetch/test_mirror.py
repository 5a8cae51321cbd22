"""An institution's copy of the raw store: a folder, a web server, a bucket."""

from __future__ import annotations

import http.server
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from meadow.fetch import Address, FetchError, FetchReport, Patience, check, fetch
from meadow.fetch.partial import PartialFile, PartNote
from tests.fetch import server
from tests.fetch.server import Site, archive, cut, records, sha256, status

ZIP = archive(60_000)
HEADER = "url\tbytes\tsha256\tfile\n"


def states(report: FetchReport) -> dict[str, str]:
    return {file.what: file.state for file in report.files}


@pytest.fixture
def nowhere() -> str:
    """The address of a publisher that cannot be reached, as behind a firewall."""
    return server.gone()


@pytest.fixture
def name(publish: Callable[..., str], nowhere: str) -> str:
    return publish((nowhere + "/a", len(ZIP), sha256(ZIP), "a.zip"), (nowhere + "/b", "deep/b.json"))


def lay_out(folder: Path, name: str) -> None:
    (folder / name / "deep").mkdir(parents=True)
    (folder / name / "a.zip").write_bytes(ZIP)
    (folder / name / "deep/b.json").write_bytes(records(5))


@pytest.mark.parametrize("form", ["path", "file address"])
def test_a_folder_fills_the_store_without_the_publisher(
    tmp_path: Path, quick: Patience, name: str, form: str
) -> None:
    lay_out(tmp_path / "copy", name)
    where = str(tmp_path / "copy") if form == "path" else (tmp_path / "copy").as_uri()
    report = fetch([name], raw=tmp_path / "raw", mirror=where, patience=quick)
    assert states(report) == {f"{name}/a.zip": "fetched", f"{name}/deep/b.json": "fetched"}
    assert (tmp_path / "raw" / name / "a.zip").read_bytes() == ZIP
    assert (tmp_path / "raw" / name / "deep/b.json").read_bytes() == records(5)
    assert states(check([name], raw=tmp_path / "raw")) == dict.fromkeys(states(report), "whole")


def test_what_a_folder_has_beyond_the_declared_comes_along(
    tmp_path: Path, quick: Patience, name: str
) -> None:
    copy = tmp_path / "copy"
    lay_out(copy, name)
    (copy / "flashcards" / "ward 3").mkdir(parents=True)
    (copy / "flashcards" / "ward 3" / "Büro.txt").write_text("#separator:tab\na\tb\n")
    (copy / name / ".hidden.zip").write_bytes(ZIP)
    (copy / name / "loop").symlink_to(copy / name)
    report = fetch(["flashcards", name], raw=tmp_path / "raw", mirror=str(copy), patience=quick)
    assert not report.failed
    assert (tmp_path / "raw/flashcards/ward 3/Büro.txt").read_text() == "#separator:tab\na\tb\n"
    assert f"{name}/.hidden.zip" not in states(report)


def test_one_file_alone_can_be_asked_for(tmp_path: Path, quick: Patience, name: str) -> None:
    lay_out(tmp_path / "copy", name)
    report = fetch(
        [f"{name}/deep/b.json"], raw=tmp_path / "raw", mirror=str(tmp_path / "copy"), patience=quick
    )
    assert states(report) == {f"{name}/deep/b.json": "fetched"}


def test_a_copy_with_other_bytes_than_the_publisher_declares_is_refused(
    tmp_path: Path, quick: Patience, name: str
) -> None:
    lay_out(tmp_path / "copy", name)
    (tmp_path / "copy" / name / "a.zip").write_bytes(archive(60_000, seed=1))
    report = fetch([name], raw=tmp_path / "raw", mirror=str(tmp_path / "copy"), patience=quick)
    assert states(report) == {f"{name}/a.zip": "failed", f"{name}/deep/b.json": "fetched"}
    assert f"declared is {sha256(ZIP)}" in report.files[0].detail
    assert "ask those who keep the mirror" in report.files[0].detail
    assert sorted(p.name for p in (tmp_path / "raw" / name).iterdir()) == [".fetched.tsv", "deep"]


def test_a_list_of_the_mirror_is_checked_too(tmp_path: Path, quick: Patience, name: str) -> None:
    copy = tmp_path / "copy"
    lay_out(copy, name)
    (copy / name / "checksums.tsv").write_text(
        HEADER + f"\t\t\ta.zip\n\t\t{sha256(records(6))}\tdeep/b.json\n\t\t\tnone.json\n"
    )
    report = fetch([name], raw=tmp_path / "raw", mirror=str(copy), patience=quick)
    assert states(report) == {
        f"{name}/a.zip": "fetched",
        f"{name}/deep/b.json": "failed",
        f"{name}/none.json": "failed",
    }
    assert f"declared is {sha256(records(6))}" in report.files[1].detail
    assert "it is not on the mirror" in report.files[2].detail


@pytest.mark.parametrize("file", ["../../out.json", "/out.json", ".fetched.tsv", "a\\..\\b.json"])
def test_a_list_cannot_write_outside_of_its_source(
    tmp_path: Path, quick: Patience, name: str, file: str
) -> None:
    copy = tmp_path / "copy"
    lay_out(copy, name)
    (copy / name / "checksums.tsv").write_text(HEADER + f"\t\t\t{file}\n")
    report = fetch([name], raw=tmp_path / "raw", mirror=str(copy), patience=quick)
    assert [f.state for f in report.files] == ["failed"]
    assert "cannot be used" in report.files[0].detail
    assert not list(tmp_path.rglob("out.json"))


def test_a_source_that_the_mirror_lacks_is_said(tmp_path: Path, quick: Patience, name: str) -> None:
    copy = tmp_path / "copy"
    lay_out(copy, name)
    everything = fetch(["all"], raw=tmp_path / "raw", mirror=str(copy), accept=["usmle"], patience=quick)
    assert not everything.failed
    assert f"medqa: the mirror {copy} has nothing of it" in everything.notes
    assert states(everything)[f"{name}/a.zip"] == "fetched"
    asked = fetch(["medqa"], raw=tmp_path / "raw", mirror=str(copy), patience=quick)
    assert asked.failed
    assert asked.refused[0].startswith(f"medqa: the mirror {copy} has nothing of it")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, quick: Patience, name: str) -> None:
    with pytest.raises(FetchError, match="copy does not exist"):
        fetch([name], raw=tmp_path / "raw", mirror=str(tmp_path / "copy"), patience=quick)


def test_a_copy_that_was_cut_off_is_gone_on_with(tmp_path: Path, quick: Patience, name: str) -> None:
    copy, raw = tmp_path / "copy", tmp_path / "raw"
    lay_out(copy, name)
    steps: list[int] = []

    class Told:
        def __call__(self, what: str, done: int, total: int | None, unit: str = "bytes") -> None:
            if what.endswith("a.zip"):
                steps.append(done)

        def say(self, message: str) -> None:
            pass

    (raw / name).mkdir(parents=True)
    fs = fsspec.filesystem("file")
    part = PartialFile(raw / name, Address(name, "a.zip"))
    version = str(fs.ukey(str(copy / name / "a.zip")))
    facts = PartNote(url=f"{copy}/{name}/a.zip", etag=version, total=len(ZIP))
    part.begin(facts)
    part.write(ZIP[:50_000])
    part.close()
    report = fetch([f"{name}/a.zip"], raw=raw, mirror=str(copy), progress=Told(), patience=quick)
    assert not report.failed
    assert (raw / name / "a.zip").read_bytes() == ZIP
    assert steps == [len(ZIP)]
    # Another version of the file is begun anew.
    (raw / name / "a.zip").unlink()
    part = PartialFile(raw / name, Address(name, "a.zip"))
    part.begin(facts.model_copy(update={"etag": "older"}))
    part.write(b"PK\x03\x04" + b"\0" * 50_000)
    part.close()
    fetch([f"{name}/a.zip"], raw=raw, mirror=str(copy), patience=quick)
    assert (raw / name / "a.zip").read_bytes() == ZIP


def test_a_web_server_gives_what_is_declared(site: Site, tmp_path: Path, quick: Patience, name: str) -> None:
    site.put(f"/copy/{name}/a.zip", ZIP, cut(0), status(503), cut(20_000))
    site.put(f"/copy/{name}/deep/b.json", records(5))
    report = fetch([name], raw=tmp_path, mirror=site.url + "/copy/", patience=quick)
    assert states(report) == {f"{name}/a.zip": "fetched", f"{name}/deep/b.json": "fetched"}
    assert (tmp_path / name / "a.zip").read_bytes() == ZIP
    assert site.requests[-1].range or site.asked(f"/copy/{name}/a.zip")[-1].range == "bytes=20000-"


def test_a_list_on_a_web_server_tells_of_more(site: Site, tmp_path: Path, quick: Patience, name: str) -> None:
    deck = b"#separator:tab\na\tb\n"
    site.put("/flashcards/checksums.tsv", (HEADER + f"\t\t{sha256(deck)}\tward 3/deck.txt\n").encode())
    site.put("/flashcards/ward%203/deck.txt", deck)
    report = fetch(["flashcards", "medqa"], raw=tmp_path, mirror=site.url, patience=quick)
    assert (tmp_path / "flashcards/ward 3/deck.txt").read_bytes() == deck
    assert report.refused == [
        f"medqa: the mirror {site.url} has nothing of it. Those who keep the mirror can add medqa/."
    ]


def test_a_server_that_hides_its_lists_still_gives_files(
    site: Site, tmp_path: Path, quick: Patience, name: str
) -> None:
    for listed in ("checksums.tsv", ".fetched.tsv"):
        site.put(f"/{name}/{listed}", b"", status(403))
    site.put(f"/{name}/a.zip", ZIP)
    report = fetch([f"{name}/a.zip"], raw=tmp_path, mirror=site.url, patience=quick)
    assert states(report) == {f"{name}/a.zip": "fetched"}


def test_a_web_page_is_no_list(site: Site, tmp_path: Path, quick: Patience, name: str) -> None:
    soft = b"<!doctype html><html><title>No such page</title></html>"
    site.put(f"/{name}/checksums.tsv", soft)
    site.put(f"/{name}/.fetched.tsv", soft)
    site.put(f"/{name}/a.zip", ZIP)
    report = fetch([f"{name}/a.zip"], raw=tmp_path, mirror=site.url, patience=quick)
    assert states(report) == {f"{name}/a.zip": "fetched"}


def test_a_mirror_that_is_gone_is_one_failure_a_source(tmp_path: Path, quick: Patience, name: str) -> None:
    where = server.gone()
    report = fetch([name], raw=tmp_path, mirror=where, patience=quick)
    assert states(report) == {f"{name}/": "failed"}
    assert "no connection to 127.0.0.1: Connection refused" in report.files[0].detail


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Python's own web server over a folder, which knows no ranges."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "served").mkdir()
    running = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))
    )
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    running.server_close()
    thread.join(timeout=5)


def test_a_store_that_was_filled_can_be_served_as_a_mirror(
    web: str, tmp_path: Path, quick: Patience, name: str
) -> None:
    lay_out(tmp_path / "copy", name)
    (tmp_path / "copy/flashcards").mkdir()
    (tmp_path / "copy/flashcards/deck.txt").write_text("#separator:tab\na\tb\n")
    fetch([name, "flashcards"], raw=tmp_path / "raw", mirror=str(tmp_path / "copy"), patience=quick)
    shutil.copytree(tmp_path / "raw", tmp_path / "served", dirs_exist_ok=True)
    report = fetch(["flashcards", name], raw=tmp_path / "second", mirror=web, patience=quick)
    assert not report.failed
    assert set(states(report).values()) == {"fetched"}
    assert (tmp_path / "second/flashcards/deck.txt").read_text() == "#separator:tab\na\tb\n"
    assert (tmp_path / "second" / name / "a.zip").read_bytes() == ZIP


def test_a_wiki_comes_from_a_mirror_as_a_file(tmp_path: Path, quick: Patience) -> None:
    import zstandard

    pages = zstandard.compress(b'{"parse": {}}\n')
    (tmp_path / "copy/wikidoc").mkdir(parents=True)
    (tmp_path / "copy/wikidoc/pages.jsonl.zst").write_bytes(pages)
    fetch(["wikidoc"], raw=tmp_path / "raw", mirror=str(tmp_path / "copy"), patience=quick)
    assert (tmp_path / "raw/wikidoc/pages.jsonl.zst").read_bytes() == pages


class Bucket(MemoryFileSystem):
    """What stands for a bucket: the protocol is s3, the keys are in memory."""

    protocol = "s3"
    store: dict[str, object] = {}
    pseudo_dirs = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("s3://", "memory://"))


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    known = fsspec.registry.get("s3")
    fsspec.register_implementation("s3", Bucket, clobber=True)
    fs = Bucket()
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    from fsspec.registry import _registry

    _registry.pop("s3")
    if known is not None:
        fsspec.register_implementation("s3", known, clobber=True)


def test_a_bucket_is_read_through_fsspec(bucket: Bucket, tmp_path: Path, quick: Patience, name: str) -> None:
    bucket.pipe(f"/hospital/raw/{name}/a.zip", ZIP)
    bucket.pipe(f"/hospital/raw/{name}/deep/b.json", records(5))
    bucket.pipe("/hospital/raw/flashcards/deck.txt", b"#separator:tab\na\tb\n")
    report = fetch([name, "flashcards"], raw=tmp_path, mirror="s3://hospital/raw/", patience=quick)
    assert states(report) == {
        "flashcards/deck.txt": "fetched",
        f"{name}/a.zip": "fetched",
        f"{name}/deep/b.json": "fetched",
    }
    assert (tmp_path / name / "a.zip").read_bytes() == ZIP


def test_a_bucket_that_refuses_is_explained_without_its_keys(
    bucket: Bucket, tmp_path: Path, quick: Patience, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("Forbidden: s3://AKIA:hunter2@hospital/raw")

    monkeypatch.setattr(Bucket, "ls", refuse)
    report = fetch([name], raw=tmp_path, mirror="s3://AKIA:hunter2@hospital/raw", patience=quick)
    assert report.failed
    assert "cannot be read: Forbidden: an address" in report.files[0].detail
    assert "hunter2" not in report.files[0].detail


def test_a_folder_within_a_bucket_that_refuses_is_not_passed_over(
    bucket: Bucket, tmp_path: Path, quick: Patience, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.pipe(f"/hospital/raw/{name}/a.zip", ZIP)
    bucket.pipe(f"/hospital/raw/{name}/deep/b.json", records(5))
    real = Bucket.ls

    def ls(self: Bucket, path: str, *arguments: object, **more: object) -> object:
        if path.endswith("deep"):
            raise PermissionError("Forbidden")
        return real(self, path, *arguments, **more)

    monkeypatch.setattr(Bucket, "ls", ls)
    report = fetch([name], raw=tmp_path, mirror="s3://hospital/raw", patience=quick)
    assert states(report) == {f"{name}/": "failed"}
    assert "cannot be read: Forbidden" in report.files[0].detail


def test_what_reads_a_bucket_may_have_to_be_installed(
    tmp_path: Path, quick: Patience, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(FetchError, match="s3://hospital/raw needs another package: .*s3fs") as caught:
        fetch([name], raw=tmp_path, mirror="s3://hospital/raw", patience=quick)
    assert "Install" in str(caught.value)


@pytest.mark.parametrize(
    "where",
    [
        "nonsense://x/y",
        "http://",
        "https://a.example/raw?key=hunter2",
        "",
        "http://[x",
        "a::http://me:hunter2@x/y",
    ],
)
def test_an_address_that_is_none_is_said_to_be_none(
    tmp_path: Path, quick: Patience, name: str, where: str
) -> None:
    with pytest.raises(FetchError) as caught:
        fetch([name], raw=tmp_path, mirror=where, patience=quick)
    assert "--mirror" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_mirror_with_a_password_shows_none(site: Site, tmp_path: Path, quick: Patience, name: str) -> None:
    import base64

    site.needs_password = "Basic " + base64.b64encode(b"me:hunter2").decode()
    site.put(f"/{name}/a.zip", ZIP)
    where = site.url.replace("http://", "http://me:hunter2@")
    report = fetch([name], raw=tmp_path, mirror=where, patience=quick)
    assert states(report) == {f"{name}/a.zip": "fetched", f"{name}/deep/b.json": "failed"}
    kept = "".join(
        p.read_text("latin-1") for p in tmp_path.rglob("*") if p.is_file() and "raw" not in p.suffix
    )
    assert "hunter2" not in repr(report) + kept


def test_a_folder_needs_no_proxy_that_works(
    tmp_path: Path, quick: Patience, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path / "copy", name)
    monkeypatch.setenv("ALL_PROXY", "ftp://x:1")
    for where in (None, "http://x/y"):
        with pytest.raises(FetchError, match="this is no address of a proxy"):
            fetch([name], raw=tmp_path / "raw", mirror=where, patience=quick)
    assert not fetch([name], raw=tmp_path / "raw", mirror=str(tmp_path / "copy"), patience=quick).failed


def test_names_that_differ_little_are_all_noted(tmp_path: Path, quick: Patience, name: str) -> None:
    (tmp_path / "copy" / name).mkdir(parents=True)
    names = sorted(["cardio.zip", "we\u2028ird.zip", " x.zip", "x.zip", "Cardio.zip"])
    for file in names:
        (tmp_path / "copy" / name / file).write_bytes(ZIP)
    here = [p.name for p in (tmp_path / "copy" / name).iterdir()]
    if sorted(here) != names:
        pytest.skip("this file system takes some of these names for one")
    for source, target in (("copy", "raw"), ("raw", "again")):
        report = fetch([name], raw=tmp_path / target, mirror=str(tmp_path / source), patience=quick)
        assert [file.state for file in report.files] == ["fetched"] * 5
        found = {
            f.file: f.state for f in check([name], raw=tmp_path / target).files if f.state != "not there"
        }
        assert found == dict.fromkeys(names, "whole")
