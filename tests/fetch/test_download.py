"""Downloads from a server that misbehaves: each way, what is done about it, and what is said."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from meadow.fetch import FetchError, FetchReport, FetchStoppedError, check, fetch, listing, mediawiki
from meadow.fetch.addresses import Address
from meadow.fetch.download import Downloader, Patience
from meadow.fetch.partial import PartialFile, PartNote
from meadow.fetch.transport import retry_after
from tests.fetch import server
from tests.fetch.server import Site, archive, cut, page, records, redirect, sha256, slow, stall, status

ZIP = archive()
SHA = sha256(ZIP)


class Told:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps: list[tuple[str, int, int | None, str]] = []

    def __call__(self, what: str, done: int, total: int | None, unit: str = "bytes") -> None:
        self.steps.append((what, done, total, unit))

    def say(self, message: str) -> None:
        self.said.append(message)


def get(url: str, folder: Path, patience: Patience, file: str = "a.zip", **declared: object) -> Told:
    """Downloads one file and returns what was said; the file is then in the folder."""
    told = Told()
    with Downloader(patience, told) as downloader:
        downloader.get(Address("s", file, url, **declared), folder)
    return told


def refused(
    url: str, folder: Path, patience: Patience, file: str = "a.zip", **declared: object
) -> FetchError:
    """The error of a download that must fail; it must leave neither the file nor a broken one."""
    with pytest.raises(FetchError) as caught:
        get(url, folder, patience, file, **declared)
    assert not (folder / file).exists()
    return caught.value


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_under_its_own_name(site: Site, tmp_path: Path, quick: Patience) -> None:
    told = get(site.put("/a.zip", ZIP), tmp_path, quick, bytes=len(ZIP), sha256=SHA)
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert left(tmp_path) == ["a.zip"]
    assert told.steps[-1] == ("s/a.zip", len(ZIP), len(ZIP), "bytes")
    assert told.said == []
    (asked,) = site.requests
    assert asked.headers["user-agent"].startswith("meadow/")
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.range is None


def test_a_cut_connection_is_gone_on_with(site: Site, tmp_path: Path, quick: Patience) -> None:
    url = site.put("/a.zip", ZIP, cut(50_000), cut(70_000), cut(20_000))
    get(url, tmp_path, quick)
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert [a.range for a in site.requests] == [None, "bytes=50000-", "bytes=120000-", "bytes=140000-"]
    assert {a.headers.get("if-range") for a in site.requests[1:]} == {server.etag(ZIP)}


def test_a_cut_off_answer_without_a_length_is_noticed_by_the_archive(
    site: Site, tmp_path: Path, quick: Patience
) -> None:
    url = site.put("/a.zip", ZIP, cut(50_000), length=False)
    error = refused(url, tmp_path, quick)
    assert "it is cut off" in str(error)
    get(url, tmp_path, quick)
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_the_next_run_goes_on_where_the_last_one_ended(site: Site, tmp_path: Path, quick: Patience) -> None:
    url = site.put("/a.zip", ZIP, *[cut(90_000)], *[status(503)] * 2)
    hasty = Patience(connect=2, read=2, first_wait=0.01, tries=2)
    refused(url, tmp_path, hasty)
    assert (tmp_path / ".a.zip.http.part").read_bytes() == ZIP[:90_000]
    site.requests.clear()
    get(url, tmp_path, quick)
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert [a.range for a in site.requests] == ["bytes=90000-", "bytes=90000-"][: len(site.requests)]
    assert left(tmp_path) == ["a.zip"]


def test_a_file_that_changed_between_two_runs_is_begun_anew(
    site: Site, tmp_path: Path, quick: Patience
) -> None:
    newer = archive(seed=1)
    url = site.put("/a.zip", ZIP, cut(90_000), status(404))
    refused(url, tmp_path, quick)
    site.put("/a.zip", newer)
    get(url, tmp_path, quick)
    assert (tmp_path / "a.zip").read_bytes() == newer


def test_pieces_of_two_versions_are_told_by_the_hash_and_fetched_anew(
    site: Site, tmp_path: Path, quick: Patience
) -> None:
    newer = archive(seed=1)
    # A server that names no version, so that only the declared hash can tell.
    bare = {"ETag": "", "Last-Modified": ""}
    url = site.put("/a.zip", ZIP, cut(90_000), status(404), headers=bare)
    refused(url, tmp_path, quick, sha256=sha256(newer))
    site.put("/a.zip", newer, headers=bare)
    told = get(url, tmp_path, quick, sha256=sha256(newer))
    assert (tmp_path / "a.zip").read_bytes() == newer
    assert [a.range for a in site.requests[-2:]] == ["bytes=90000-", None]
    assert told.said == ["s/a.zip: the pieces do not fit together; fetching it anew"]


def test_without_a_version_or_hash_a_part_is_not_trusted(site: Site, tmp_path: Path, quick: Patience) -> None:
    bare = {"ETag": "", "Last-Modified": ""}
    url = site.put("/a.zip", ZIP, cut(90_000), status(404), headers=bare)
    refused(url, tmp_path, quick)
    get(url, tmp_path, quick)
    assert site.requests[-1].range is None
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_a_weak_etag_gives_way_to_the_date(site: Site, tmp_path: Path, quick: Patience) -> None:
    url = site.put("/a.zip", ZIP, cut(90_000), headers={"ETag": 'W/"1"'})
    get(url, tmp_path, quick)
    assert site.requests[1].headers["if-range"] == server.LONG_AGO
    assert (tmp_path / "a.zip").read_bytes() == ZIP


@pytest.mark.parametrize("fault", [server.no_ranges, server.shifted], ids=["whole file", "another range"])
def test_a_server_that_gets_ranges_wrong_gives_the_whole_file(
    site: Site, tmp_path: Path, quick: Patience, fault: server.Fault
) -> None:
    url = site.put("/a.zip", ZIP, cut(90_000), fault)
    get(url, tmp_path, quick, sha256=SHA)
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_a_part_longer_than_the_file_is_dropped(site: Site, tmp_path: Path, quick: Patience) -> None:
    part = PartialFile(tmp_path, Address("s", "a.zip"))
    part.begin(PartNote(url=site.url + "/a.zip", etag=server.etag(ZIP)))
    part.write(ZIP + b"more")
    part.close()
    get(site.put("/a.zip", ZIP), tmp_path, quick)
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert [a.range for a in site.requests] == [f"bytes={len(ZIP) + 4}-", None]


def test_a_run_killed_before_the_rename_needs_no_request(site: Site, tmp_path: Path, quick: Patience) -> None:
    part = PartialFile(tmp_path, Address("s", "a.zip"))
    part.begin(PartNote(url=site.url + "/a.zip", etag=server.etag(ZIP), total=len(ZIP)))
    part.write(ZIP)
    part.close()
    get(site.put("/a.zip", ZIP), tmp_path, quick)
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert site.requests == []


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504, 524])
def test_trouble_that_may_pass_is_waited_for(site: Site, tmp_path: Path, quick: Patience, code: int) -> None:
    told = get(site.put("/a.zip", ZIP, status(code), status(code)), tmp_path, quick)
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert len(told.said) == 2
    assert f"(HTTP {code}); trying again in" in told.said[0]


def test_pauses_grow(site: Site, tmp_path: Path) -> None:
    patience = Patience(first_wait=0.05)
    get(site.put("/a.zip", ZIP, *[status(500)] * 4), tmp_path, patience)
    times = [a.at for a in site.requests]
    pauses = [b - a for a, b in zip(times, times[1:], strict=False)]
    for n, pause in enumerate(pauses):
        assert 0.75 * 0.05 * 2**n <= pause <= 1.25 * 0.05 * 2**n + 1


@pytest.mark.parametrize(("code", "asks"), [(429, "1"), (503, "date")])
def test_retry_after_is_honoured(site: Site, tmp_path: Path, quick: Patience, code: int, asks: str) -> None:
    value = server.http_date(2) if asks == "date" else asks
    told = get(site.put("/a.zip", ZIP, status(code, retry_after=value)), tmp_path, quick)
    first, second = site.requests
    # A date has whole seconds: two from now are at least one.
    assert 0.9 <= second.at - first.at < 4
    assert len(told.said) == 1


def test_a_longer_pause_than_bearable_is_told(site: Site, tmp_path: Path, quick: Patience) -> None:
    error = refused(site.put("/a.zip", ZIP, status(429, retry_after="7200")), tmp_path, quick)
    assert "is busy (HTTP 429) and asks to come back in 2.0 h" in str(error)
    assert "Run the command again then" in error.remedy
    assert len(site.requests) == 1


def test_retry_after_in_all_its_forms() -> None:
    assert retry_after("17") == 17
    assert retry_after(None) is None
    assert retry_after("soon") is None
    assert retry_after("\u00b2") is None
    assert retry_after("Mon, 01 Jan 2024 00:00:00 GMT") == 0
    assert 50 < (retry_after(server.http_date(60)) or 0) <= 60


def test_trouble_that_stays_ends_after_some_tries(site: Site, tmp_path: Path, quick: Patience) -> None:
    error = refused(site.put("/a.zip", ZIP, *[status(500)] * 20), tmp_path, quick)
    assert str(error).startswith("s/a.zip: 127.0.0.1 has trouble (HTTP 500); tried 6 times")
    assert len(site.requests) == 6


def test_a_host_that_always_cuts_off_is_not_asked_for_ever(site: Site, tmp_path: Path) -> None:
    patience = Patience(first_wait=0.001, attempts=8)
    url = site.put("/a.zip", ZIP, *[cut(1500)] * 50)
    error = refused(url, tmp_path, patience)
    assert "tried 8 times" in str(error)
    assert len(site.requests) == 8
    assert (tmp_path / ".a.zip.http.part").stat().st_size == 8 * 1500


def test_a_host_that_sends_nothing_is_left(site: Site, tmp_path: Path) -> None:
    patience = Patience(read=0.2, first_wait=0.01)
    told = get(site.put("/a.zip", ZIP, stall(0.6)), tmp_path, patience)
    assert told.said[0].startswith("s/a.zip: 127.0.0.1 has sent nothing for 0.2 s")
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_a_trickle_is_cut_off_and_gone_on_with(site: Site, tmp_path: Path) -> None:
    patience = Patience(read=2, first_wait=0.01, slowest=500_000, window=0.2)
    told = get(site.put("/a.zip", ZIP, slow(0.02)), tmp_path, patience)
    assert "less than 500000 bytes a second come" in told.said[0]
    assert int(site.requests[1].range.removeprefix("bytes=").removesuffix("-")) > 1024
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_a_slow_host_above_the_floor_is_borne(site: Site, tmp_path: Path, quick: Patience) -> None:
    told = get(site.put("/a.zip", ZIP[:0] + archive(20_000), slow(0.01)), tmp_path, quick)
    assert told.said == []
    assert len(site.requests) == 1


def test_an_empty_answer_is_no_file(site: Site, tmp_path: Path) -> None:
    error = refused(site.put("/a.zip", b""), tmp_path, Patience(first_wait=0.01, tries=2))
    assert "sent an empty file" in str(error)


def test_a_declared_size_that_differs_ends_before_the_download(
    site: Site, tmp_path: Path, quick: Patience
) -> None:
    error = refused(site.put("/a.zip", ZIP), tmp_path, quick, bytes=5)
    assert f"its host has {len(ZIP):,} bytes of it, declared are 5" in str(error)
    assert left(tmp_path) == []


def test_more_than_declared_is_not_taken(site: Site, tmp_path: Path, quick: Patience) -> None:
    error = refused(site.put("/a.zip", ZIP, length=False), tmp_path, quick, bytes=100_000)
    assert "more came than the declared 100,000 bytes" in str(error)
    assert left(tmp_path) == []


def test_other_bytes_than_declared_are_thrown_away(site: Site, tmp_path: Path, quick: Patience) -> None:
    error = refused(site.put("/a.zip", archive(seed=1)), tmp_path, quick, sha256=SHA)
    assert f"declared is {SHA}" in str(error)
    assert "Do not use it before you know which" in error.remedy
    assert left(tmp_path) == []
    assert len(site.requests) == 1


def test_a_page_of_html_is_no_archive(site: Site, tmp_path: Path, quick: Patience) -> None:
    html = "<!DOCTYPE html><html><head><title>Welcome to\x1b[31m our <site></title></head><body>Hello</body></html>"
    for kind in ("text/html; charset=utf-8", "application/octet-stream", "application/zip"):
        error = refused(site.put("/a.zip", ZIP, page(html, kind=kind)), tmp_path, quick)
        assert 'a web page came instead of the file ("Welcome to' in str(error)
        assert "\x1b" not in str(error)
        assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("body", "code", "said", "remedy"),
    [
        (
            "<title>Google Drive - Quota exceeded</title><p>Sorry, you can't view or download this file at this "
            "time.<p>Too many users have viewed or downloaded this file recently. Please sign in.",
            200,
            "given the file to too many people lately (a quota page)",
            "lifted within a day",
        ),
        (
            "<title>Quota exceeded</title>",
            403,
            "HTTP 403: a web page came instead of the file: its host has given the file to too many people",
            "lifted within a day",
        ),
        ("<title>Oops</title><p>This link has expired.", 200, "the link has expired", "Get a new link"),
        (
            "<title>Sign in - Accounts</title><form><input type='email'><input name=p type=\"password\"></form>",
            200,
            'its host asks to sign in ("Sign in - Accounts")',
            "Sign in with a browser",
        ),
        ("<title>You need access</title><p>Request access", 200, "its host asks to sign in", "Sign in"),
        (
            "<title>Web Filter</title><p>This page was blocked by your administrator",
            200,
            "refuses",
            "use a mirror (--mirror)",
        ),
        ("<title>404 - Not found</title>", 200, "the file is no longer there", "publisher's page"),
    ],
    ids=["quota", "quota 403", "expired", "login", "access", "filter", "soft 404"],
)
def test_pages_are_told_apart(
    site: Site, tmp_path: Path, quick: Patience, body: str, code: int, said: str, remedy: str
) -> None:
    html = f"<!doctype html>\n<html><body>{body}</body></html>"
    error = refused(site.put("/a.zip", ZIP, page(html, code)), tmp_path, quick)
    assert said in str(error)
    assert remedy in error.remedy
    assert len(site.requests) == 1


def test_a_redirect_to_a_login_is_told(site: Site, tmp_path: Path, quick: Patience) -> None:
    login = site.put(
        "/accounts/signin", b"", page("<html><title>Hello</title><body>Who are you?</body></html>")
    )
    error = refused(site.put("/a.zip", ZIP, redirect(login)), tmp_path, quick)
    assert 'its host asks to sign in ("Hello")' in str(error)


def test_json_that_is_a_page_is_told(site: Site, tmp_path: Path, quick: Patience) -> None:
    url = site.put("/b.json", records(9), page("\n\n<!-- x -->\n<html><title>Sorry</title></html>", kind=""))
    assert '("Sorry")' in str(refused(url, tmp_path, quick, "b.json"))
    get(url, tmp_path, quick, "b.json")
    assert (tmp_path / "b.json").read_bytes() == records(9)


def test_a_page_is_fetched_where_a_page_is_wanted(site: Site, tmp_path: Path, quick: Patience) -> None:
    html = b"<!DOCTYPE html><html><title>Asthma</title></html>"
    get(site.put("/x", html, headers={"Content-Type": "text/html"}), tmp_path, quick, "asthma.html")
    assert (tmp_path / "asthma.html").read_bytes() == html


@pytest.mark.parametrize(
    "piece", [b"<", b"<input ", b"<!---->", b"<title><form ", b"<a b=", b"a" * 50, b"<form id=x " + b"a" * 99]
)
def test_a_hostile_page_takes_no_time(piece: bytes) -> None:
    from meadow.fetch import pages

    content = b"<html>" + piece * (pages.LOOKED_AT // len(piece))
    start = time.process_time()
    assert pages.is_page(content)
    pages.is_page(content[6:])
    assert not pages.explain(content, "http://a.example/x").follow
    assert time.process_time() - start < 2


_CONFIRM = (
    "<!DOCTYPE html><html><head><title>Virus scan warning</title></head><body>This file is too large to be scanned."
    '<form id="download-form" action="{to}" method="get"><input type="submit" value="Download anyway"/>'
    '<input type="hidden" name="id" value="abc"><input type="hidden" name="confirm" value="t"></form></body></html>'
)


def test_the_page_before_a_large_download_is_passed(site: Site, tmp_path: Path, quick: Patience) -> None:
    site.put("/download", ZIP)
    url = site.put("/uc", b"", page(_CONFIRM.format(to=site.url + "/download")))
    get(url + "?id=abc", tmp_path, quick)
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert [a.path for a in site.requests] == ["/uc?id=abc", "/download?id=abc&confirm=t"]


@pytest.mark.parametrize(
    "to", ["https://elsewhere.example/download", "file:///etc/passwd", "//elsewhere.example/x"]
)
def test_a_form_that_leads_elsewhere_is_not_followed(
    site: Site, tmp_path: Path, quick: Patience, to: str
) -> None:
    error = refused(site.put("/uc", b"", page(_CONFIRM.format(to=to))), tmp_path, quick)
    assert '("Virus scan warning")' in str(error)
    assert len(site.requests) == 1


def test_a_page_that_leads_to_itself_ends(site: Site, tmp_path: Path, quick: Patience) -> None:
    again = page(_CONFIRM.format(to="/uc"))
    error = refused(site.put("/uc", b"", again, again, again), tmp_path, quick)
    assert "a web page came instead of the file" in str(error)
    assert len(site.requests) == 2


@pytest.mark.parametrize(
    ("code", "body", "said", "remedy"),
    [
        (404, b"", "HTTP 404: it is not there (any more) at 127.0.0.1", ""),
        (410, b"", "HTTP 410: it is not there (any more) at 127.0.0.1", ""),
        (
            401,
            b'{"error": "Repository is gated"}',
            "give it to everybody (Repository is gated)",
            "accept its terms",
        ),
        (403, b"", "HTTP 403: 127.0.0.1 does not give it to everybody", "accept its terms"),
        (
            403,
            b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
            "HTTP 403: the link has expired (Request has expired)",
            "Get a new link",
        ),
        (451, b"", "for legal reasons", ""),
        (400, b"", "HTTP 400 from 127.0.0.1", ""),
        (501, b"", "HTTP 501 from 127.0.0.1", ""),
    ],
)
def test_refusals_are_explained_and_not_repeated(
    site: Site, tmp_path: Path, quick: Patience, code: int, body: bytes, said: str, remedy: str
) -> None:
    error = refused(site.put("/a.zip", ZIP, *[status(code, body)] * 9), tmp_path, quick)
    assert said in str(error)
    assert remedy in error.remedy
    assert len(site.requests) == 1


def test_a_host_that_is_gone_is_given_up_soon(tmp_path: Path, quick: Patience) -> None:
    error = refused(server.gone() + "/a.zip", tmp_path, quick)
    assert "no connection to 127.0.0.1: Connection refused; tried 3 times" in str(error)
    assert "--mirror" in error.remedy


def test_a_host_that_no_name_server_knows_is_named(
    tmp_path: Path, quick: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(host: str, *_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = refused("http://gone.example/a.zip", tmp_path, quick)
    assert "there is no host gone.example to be found from here" in str(error)


def test_redirects_are_followed_but_not_for_ever_and_not_off_the_web(
    site: Site, tmp_path: Path, quick: Patience
) -> None:
    end = site.put("/end", ZIP)
    get(site.put("/start", b"", redirect(end)), tmp_path, quick)
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    (tmp_path / "a.zip").unlink()
    circle = site.put("/circle", b"", *[redirect("/circle")] * 30)
    assert "leads round in circles" in str(refused(circle, tmp_path, quick))
    off = site.put("/off", b"", redirect("file:///etc/passwd"))
    assert "no http or https address" in str(refused(off, tmp_path, quick))


def test_compressed_answers_are_unpacked(site: Site, tmp_path: Path, quick: Patience) -> None:
    import gzip

    packed = gzip.compress(records(50), mtime=0)
    url = site.put("/b.json", packed, headers={"Content-Encoding": "gzip"})
    get(url, tmp_path, quick, "b.json", bytes=len(records(50)), sha256=sha256(records(50)))
    assert (tmp_path / "b.json").read_bytes() == records(50)


@pytest.mark.parametrize("file", ["a.7z", "a.json", "a.gz", "a.zst", "a.parquet"])
def test_another_format_than_the_name_says_is_not_taken(
    site: Site, tmp_path: Path, quick: Patience, file: str
) -> None:
    error = refused(site.put("/a", ZIP), tmp_path, quick, file)
    assert f"it does not begin as a {Path(file).suffix} file does" in str(error)
    assert left(tmp_path) == []


def test_a_full_disk_is_told_before_the_download(
    site: Site, tmp_path: Path, quick: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    error = refused(site.put("/a.zip", ZIP), tmp_path, quick)
    assert " MB are still to come" in str(error)
    assert "--raw" in error.remedy


def test_a_stream_without_an_end_does_not_fill_the_disk(
    site: Site, tmp_path: Path, quick: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meadow.fetch import download, partial

    for module in (download, partial):
        monkeypatch.setattr(module, "SPARE", 100_000)
    usage = shutil.disk_usage(tmp_path)
    frees = iter([10**9, 10**9, 90_000])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=next(frees)))
    error = refused(site.put("/a.zip", archive(900_000), length=False), tmp_path, quick)
    assert "more is still to come" in str(error)
    assert 200_000 <= (tmp_path / ".a.zip.http.part").stat().st_size < 400_000


def test_passwords_in_an_address_are_used_and_never_shown(
    site: Site, tmp_path: Path, quick: Patience
) -> None:
    import base64

    site.needs_password = "Basic " + base64.b64encode(b"me:hunter2").decode()
    url = site.put("/a.zip", ZIP, cut(90_000)).replace("http://", "http://me:hunter2@")
    told = get(url, tmp_path, quick)
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    (tmp_path / "a.zip").unlink()
    site.put("/a.zip", ZIP, cut(90_000), status(404))
    error = refused(url, tmp_path, quick)
    notes = (tmp_path / ".a.zip.http.part.json").read_text()
    assert "hunter2" not in f"{error} {error!r} {told.said} {notes}"
    assert json.loads(notes)["url"] == site.url + "/a.zip"


def test_a_proxy_is_used_as_the_variables_say(
    site: Site, tmp_path: Path, quick: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.serving() as proxy:
        proxy.put("/a.zip", ZIP)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        get("http://publisher.example/a.zip", tmp_path, quick)
        assert proxy.proxied == ["http://publisher.example/a.zip"]
        (tmp_path / "a.zip").unlink()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        get(site.put("/a.zip", ZIP), tmp_path, quick)
        assert len(proxy.proxied) == 1
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_a_proxy_that_is_gone_is_named_without_its_password(
    tmp_path: Path, quick: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = server.gone()
    monkeypatch.setenv("HTTP_PROXY", proxy.replace("http://", "http://me:hunter2@"))
    error = refused("http://publisher.example/a.zip", tmp_path, quick)
    assert f"(through the proxy {proxy})" in str(error)
    assert "hunter2" not in repr(error)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert "proxy" not in str(refused(server.gone() + "/a.zip", tmp_path, quick))


@pytest.mark.parametrize("proxy", ["socks5://me:hunter2@127.0.0.1:1", "ftp://x:1", "http://me:hunter2/@x:1"])
def test_a_proxy_that_cannot_be_used_is_told(
    tmp_path: Path, quick: Patience, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setitem(sys.modules, "socksio", None)
    for address in (
        Address("s", "a.zip", "http://x/a.zip"),
        Address("s", "a", "http://x/api.php", wiki=True),
    ):
        with pytest.raises(FetchError) as caught:
            if address.wiki:
                mediawiki.fetch(address, tmp_path)
            else:
                get(address.url, tmp_path, quick)
        assert caught.value.what == "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY"
        assert ("socksio" in caught.value.remedy) == proxy.startswith("socks5")
        assert "hunter2" not in f"{caught.value!r}"


def test_a_proxy_that_wants_a_password_is_told(
    tmp_path: Path, quick: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.serving() as proxy:
        proxy.closed = True
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        for scheme in ("http", "https"):
            error = refused(f"{scheme}://publisher.example/a.zip", tmp_path, quick)
            assert f"the proxy asks for a user and a password (through the proxy {proxy.url})" in str(error)
            assert "HTTPS_PROXY" in error.remedy


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    return server.certificate(tmp_path_factory.mktemp("tls"))


def test_a_certificate_that_nobody_trusts_is_refused_with_the_way_out(
    pem: Path, tmp_path: Path, quick: Patience
) -> None:
    with server.serving(pem) as site:
        error = refused(site.put("/a.zip", ZIP), tmp_path, quick)
    assert "shows a certificate that is not trusted" in str(error)
    assert "SSL_CERT_FILE" in error.remedy
    assert site.requests == []


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_private_authority_is_trusted_through_the_usual_variables(
    pem: Path, tmp_path: Path, quick: Patience, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(pem.with_name("cert.pem")))
    with server.serving(pem) as site, server.serving() as proxy:
        get(site.put("/a.zip", ZIP), tmp_path, quick, sha256=SHA)
        (tmp_path / "a.zip").unlink()
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        get(site.url + "/a.zip", tmp_path, quick, sha256=SHA)
        assert proxy.proxied == [site.url.removeprefix("https://")]
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_a_redirect_from_https_to_http_needs_a_declared_hash(
    pem: Path, tmp_path: Path, quick: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pem.with_name("cert.pem")))
    with server.serving(pem) as site, server.serving() as plain:
        to = plain.put("/a.zip", ZIP)
        error = refused(site.put("/a.zip", b"", redirect(to), redirect(to)), tmp_path, quick)
        assert f"leads from https on to {to}" in str(error)
        get(site.url + "/a.zip", tmp_path, quick, sha256=SHA)
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_certificates_that_are_not_there_are_named_by_their_variable(
    tmp_path: Path, quick: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    error = refused("https://publisher.example/a.zip", tmp_path, quick)
    assert str(error).startswith("REQUESTS_CA_BUNDLE:")
    assert "none.pem cannot be used as certificates" in str(error)


def test_a_stopped_download_keeps_what_is_there(site: Site, tmp_path: Path, quick: Patience) -> None:
    url = site.put("/a.zip", ZIP, slow(0.01))
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    with Downloader(quick, Told(), stop) as downloader, pytest.raises(FetchStoppedError):
        downloader.get(Address("s", "a.zip", url), tmp_path)
    kept = (tmp_path / ".a.zip.http.part").read_bytes()
    assert kept
    assert ZIP.startswith(kept)
    get(url, tmp_path, quick)
    assert site.requests[-1].range == f"bytes={len(kept)}-"
    assert (tmp_path / "a.zip").read_bytes() == ZIP


# The raw store.


def states(report: FetchReport) -> dict[str, str]:
    return {file.what: file.state for file in report.files}


def test_a_source_is_fetched_once_and_noted(
    site: Site, tmp_path: Path, quick: Patience, publish: Callable[..., str]
) -> None:
    name = publish(
        (site.put("/a.zip", ZIP), len(ZIP), SHA, "a.zip"), (site.put("/b", records(5)), "deep/b.json")
    )
    told = Told()
    raw = tmp_path / "raw"
    report = fetch([name], raw=raw, progress=told, patience=quick)
    assert states(report) == {f"{name}/a.zip": "fetched", f"{name}/deep/b.json": "fetched"}
    assert not report.failed
    assert (raw / name / "deep/b.json").read_bytes() == records(5)
    assert "CC0-1.0" in told.said[0]
    assert "Its publisher says so." in told.said[0]
    assert (raw / name / ".fetched.tsv").read_text().splitlines()[1:] == [
        f"{site.url}/a.zip\t{len(ZIP)}\t{SHA}\ta.zip",
        f"{site.url}/b\t{len(records(5))}\t{sha256(records(5))}\tdeep/b.json",
    ]
    before = len(site.requests)
    assert states(fetch([name], raw=raw, patience=quick)) == dict.fromkeys(states(report), "there")
    assert len(site.requests) == before


def test_a_file_that_fails_costs_itself_and_names_the_way_by_hand(
    site: Site, tmp_path: Path, quick: Patience, publish: Callable[..., str]
) -> None:
    dead = server.gone() + "/b.json"
    name = publish((site.put("/a.zip", ZIP), "a.zip"), (dead, "b.json"), (site.url + "/none", "c.json"))
    report = fetch([name], raw=tmp_path, patience=quick)
    assert report.failed
    assert states(report) == {
        f"{name}/a.zip": "fetched",
        f"{name}/b.json": "failed",
        f"{name}/c.json": "failed",
    }
    _, b, c = (file.detail for file in report.files)
    place = (
        f"By hand: get {dead} with a browser (published at https://publisher.example/data) and put it here: "
    )
    assert b.endswith(place + str(tmp_path / name / "b.json"))
    assert "Connection refused" in b
    assert "HTTP 404" in c


def test_downloads_run_side_by_side_but_spare_a_host(
    site: Site, tmp_path: Path, quick: Patience, publish: Callable[..., str]
) -> None:
    small = archive(8_000)
    with server.serving() as other:
        rows = [
            (s.put(f"/{n}.zip", small, slow(0.03)), f"{s is site}{n}.zip")
            for s in (site, other)
            for n in range(4)
        ]
        report = fetch([publish(*rows)], raw=tmp_path, patience=quick)
        assert not report.failed
        assert (site.most, other.most) == (2, 2)


def test_what_is_there_in_another_form_is_not_fetched(
    site: Site, tmp_path: Path, quick: Patience, publish: Callable[..., str]
) -> None:
    name = publish((site.url + "/a.7z", "a.site.7z"), (site.url + "/b.json", "b.json"))
    (tmp_path / name / "a.site").mkdir(parents=True)
    (tmp_path / name / "a.site" / "Posts.xml").write_text("<posts/>")
    (tmp_path / name / "b.json.gz").write_bytes(b"\x1f\x8b")
    report = fetch([name], raw=tmp_path, patience=quick)
    assert [(f.state, f.detail) for f in report.files] == [("there", "as a.site/"), ("there", "as b.json.gz")]
    assert site.requests == []


def test_another_file_in_its_place_is_never_overwritten(
    site: Site, tmp_path: Path, quick: Patience, publish: Callable[..., str]
) -> None:
    name = publish((site.put("/a.zip", ZIP), "", SHA, "a.zip"), (site.put("/b.zip", ZIP), "b.zip"))
    other = archive(seed=2)
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.zip").write_bytes(other)
    (tmp_path / name / "b.zip").write_text("<html><title>Quota exceeded</title></html>")
    report = fetch([name], raw=tmp_path, patience=quick)
    assert states(report) == {f"{name}/a.zip": "failed", f"{name}/b.zip": "failed"}
    a, b = (file.detail for file in report.files)
    assert f"a file of this name is there, but its SHA-256 is {sha256(other)}, declared is {SHA}" in a
    assert f"Move {tmp_path / name / 'a.zip'} away and fetch again" in a
    assert "a file of this name is there, but it is a web page" in b
    assert "By hand" not in a + b
    assert (tmp_path / name / "a.zip").read_bytes() == other
    assert site.requests == []


def test_terms_that_are_asked_for_must_be_accepted_once(
    site: Site, tmp_path: Path, quick: Patience, publish: Callable[..., str]
) -> None:
    name = publish((site.put("/a.zip", ZIP), "a.zip"), reserved=True)
    told = Told()
    report = fetch([name], raw=tmp_path, patience=quick, progress=told)
    assert report.failed
    assert f"--accept-license {name}" in report.refused[0]
    assert "Its publisher says so." in told.said[0]
    assert site.requests == []
    assert states(fetch([name], raw=tmp_path, patience=quick, accept=[name])) == {f"{name}/a.zip": "fetched"}
    assert states(fetch([name], raw=tmp_path, patience=quick)) == {f"{name}/a.zip": "there"}
    with pytest.raises(ValueError, match="--accept-license nobody"):
        fetch([name], raw=tmp_path, patience=quick, accept=["nobody"])


def test_a_wiki_is_read_beside_other_files(
    site: Site, tmp_path: Path, quick: Patience, publish: Callable[..., str]
) -> None:
    from tests.fetch.test_mediawiki import Wiki

    wiki = Wiki()
    try:
        name = publish((f"mediawiki+{wiki.url}", "pages.jsonl.zst"), (site.put("/a.zip", ZIP), "a.zip"))
        assert [x.state for x in listing([name], raw=tmp_path)] == ["not there", "not there"]
        told = Told()
        report = fetch([name], raw=tmp_path, patience=quick, progress=told)
    finally:
        wiki.close()
    assert states(report) == {f"{name}/a.zip": "fetched", f"{name}/pages.jsonl.zst": "fetched"}
    assert len(wiki.parsed) == len(wiki.pages)
    assert wiki.most == 1
    assert (f"{name}/pages.jsonl.zst", 8, 8, "pages") in told.steps
    assert states(check([name], raw=tmp_path)) == dict.fromkeys(states(report), "whole")
    assert states(fetch([name], raw=tmp_path, patience=quick)) == dict.fromkeys(states(report), "there")


def test_a_wiki_that_is_gone_names_the_way_by_hand(
    tmp_path: Path, quick: Patience, publish: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from meadow.fetch import mediawiki

    def fails(address: Address, *_: object, **__: object) -> None:
        raise FetchError(address.what, "no connection to 127.0.0.1", "Try again later.")

    monkeypatch.setattr(mediawiki, "fetch", fails)
    name = publish((f"mediawiki+{server.gone()}/api.php", "pages.jsonl.zst"))
    (file,) = fetch([name], raw=tmp_path, patience=quick).files
    assert file.state == "failed"
    assert file.detail == (
        f"{name}/pages.jsonl.zst: no connection to 127.0.0.1. Try again later. By hand: save pages of 127.0.0.1 as "
        f".html or as an XML export (Special:Export), or results of the API's action=parse, one a line in a .jsonl "
        f"file, and put them into {tmp_path / name}."
    )


def test_decks_are_the_users_own(tmp_path: Path, quick: Patience) -> None:
    report = fetch(["flashcards"], raw=tmp_path, patience=quick)
    assert not report.failed
    (note,) = report.notes
    assert str(tmp_path / "flashcards") in note
    assert "**/*.apkg" in note


def test_a_store_is_filled_by_one_process_at_a_time(tmp_path: Path, quick: Patience) -> None:
    from meadow.fetch import locked

    with locked(tmp_path), pytest.raises(FetchError, match="another fetch is filling this raw store"):
        fetch(["flashcards"], raw=tmp_path, patience=quick)


def test_a_store_that_cannot_be_made_is_named(tmp_path: Path, quick: Patience) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="cannot be written: Not a directory"):
        fetch(["flashcards"], raw=tmp_path / "file" / "raw", patience=quick)


def test_a_check_compares_with_declaration_and_record(
    site: Site, tmp_path: Path, quick: Patience, publish: Callable[..., str]
) -> None:
    name = publish(
        (site.put("/a.zip", ZIP), len(ZIP), SHA, "a.zip"),
        (site.put("/b.json", records(5)), "b.json"),
        (site.put("/c.json", records(6)), "c.json"),
        (site.put("/d.json", records(7)), "d.json"),
        (site.put("/e.json", records(8)), "e.json"),
    )
    fetch([f"{name}/{f}" for f in ("a.zip", "b.json", "c.json", "d.json")], raw=tmp_path, patience=quick)
    folder = tmp_path / name
    (folder / "own.json").write_bytes(records(1))
    site.requests.clear()
    expected = {
        **{f"{name}/{f}": "whole" for f in ("a.zip", "b.json", "c.json", "d.json")},
        f"{name}/e.json": "not there",
        f"{name}/own.json": "unknown",
    }
    report = check([name], raw=tmp_path)
    assert states(report) == expected
    assert not report.failed
    for file, size in (("a.zip", len(ZIP)), ("b.json", 40)):
        data = bytearray((folder / file).read_bytes())
        data[30] ^= 1  # one bit, as a disk loses them
        (folder / file).write_bytes(data)
        assert size
    (folder / "c.json").write_bytes(records(6)[:-7])
    (folder / "d.json").unlink()
    report = check([name], raw=tmp_path)
    assert report.failed
    assert states(report) == {
        **expected,
        **{f"{name}/{f}": "differs" for f in ("a.zip", "b.json", "c.json")},
        f"{name}/d.json": "missing",
    }
    details = {file.file: file.detail for file in report.files}
    assert f"declared is {SHA}" in details["a.zip"]
    assert f"noted when it was fetched is {sha256(records(5))}" in details["b.json"]
    assert "it is cut off" in details["c.json"]
    assert f"Move {folder / 'c.json'} away and fetch it again" in details["c.json"]
    assert site.requests == []


def test_a_check_of_a_source_that_is_not_there_fails_only_if_asked_by_name(
    tmp_path: Path, publish: Callable[..., str]
) -> None:
    name = publish(("http://127.0.0.1:1/a.zip", "a.zip"))
    assert states(check([name], raw=tmp_path)) == {f"{name}/a.zip": "missing"}
    everything = check(["all"], raw=tmp_path)
    assert not everything.failed
    assert states(everything)[f"{name}/a.zip"] == "not there"


def test_a_list_tells_what_is_there(
    site: Site, tmp_path: Path, quick: Patience, publish: Callable[..., str]
) -> None:
    name = publish(
        (site.put("/a.zip", ZIP), "a.zip"),
        (site.put("/b.zip", ZIP, cut(len(ZIP) // 2), *[status(404)] * 2), "b.zip"),
        (site.url + "/c.zip", 77, "", "c.zip"),
        reserved=True,
    )
    assert [(x.state, x.asks) for x in listing([name], raw=tmp_path)] == [("not there", True)] * 3
    assert left(tmp_path) == ["packages"]
    fetch([f"{name}/a.zip", f"{name}/b.zip"], raw=tmp_path, patience=quick, accept=[name])
    assert [(x.address.file, x.state, x.bytes, x.asks) for x in listing([name], raw=tmp_path)] == [
        ("a.zip", "there", len(ZIP), False),
        ("b.zip", "50% there", len(ZIP) // 2, False),
        ("c.zip", "not there", 0, False),
    ]


def test_hidden_work_is_no_raw_data(
    site: Site, tmp_path: Path, quick: Patience, publish: Callable[..., str]
) -> None:
    from meadow.core.builder import available
    from meadow.core.rawstore import find, strangers

    name = publish(
        (site.put("/a.zip", ZIP), "a.zip"), (site.put("/b.zip", ZIP, cut(9000), status(404)), "b.zip")
    )
    raw = tmp_path / "raw"
    fetch([name], raw=raw, patience=quick)
    assert hashlib.sha256((raw / name / "a.zip").read_bytes()).hexdigest() == SHA
    classes = available()[0]
    found = find(classes[name](), raw)
    assert [f.path for f in found.files] == [f"{name}/a.zip"]
    assert found.unused == ()
    assert strangers(raw, classes) == []


def test_headers_that_no_request_can_repeat_cost_nothing(site: Site, tmp_path: Path, quick: Patience) -> None:
    get(site.put("/a.zip", ZIP, cut(50_000), headers={"ETag": '"\u00e9"'}), tmp_path, quick)
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert site.requests[1].headers["if-range"] == server.LONG_AGO


def test_a_range_of_absurd_length_begins_anew(site: Site, tmp_path: Path, quick: Patience) -> None:
    def absurd(handler: server._Handler, _: server.File) -> None:
        handler.answer(206, b"x", {"Content-Range": f"bytes {'9' * 5000}-{'9' * 5000}/*"})

    get(site.put("/a.zip", ZIP, cut(50_000), absurd), tmp_path, quick)
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_hostile_answers_cost_their_own_file(
    site: Site, tmp_path: Path, quick: Patience, publish: Callable[..., str]
) -> None:
    # A zip file that claims to be the fifth of several, at which zipfile itself raises.
    parts = struct.pack(
        "<4sIQI4sHHHHIIH", b"PK\6\7", 1, 4, 5, b"PK\5\6", 0, 0, *[0xFFFF] * 2, *[2**32 - 1] * 2, 0
    )
    several = b"PK\3\4" + b"\0" * 60 + parts
    name = publish(
        (site.put("/a", several), "a.zip"),
        (site.put("/b", b"", status(400, b'{"a":' * 1600)), "b.json"),
        (site.put("/c", ZIP), "c.zip"),
        (site.put("/d", b'<?xml version="1.0"?>\n<!DOCTYPE html><html><title>Welcome'), "d.7z"),
    )
    report = fetch([name], raw=tmp_path, patience=quick)
    assert [file.state for file in report.files] == ["failed", "failed", "fetched", "failed"]
    assert "a web page came instead of the file" in report.files[3].detail
    assert "it is damaged: " in report.files[0].detail
    assert "HTTP 400" in report.files[1].detail
    (tmp_path / name / "a.zip").write_bytes(several)
    assert [file.state for file in check([name], raw=tmp_path).files] == [
        "differs",
        "not there",
        "whole",
        "not there",
    ]


def test_a_wiki_that_is_gone_names_the_way_by_hand_once(
    tmp_path: Path, publish: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mediawiki, "_TRIES", 1)
    name = publish((f"mediawiki+{server.gone()}/api.php", "pages.jsonl.zst"))
    report = fetch([name], raw=tmp_path)
    assert report.files[0].detail.count("By hand:") == 1


def test_a_full_disk_keeps_what_came(
    site: Site, tmp_path: Path, quick: Patience, publish: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.fetch.test_mediawiki import Wiki

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    wiki = Wiki()
    name = publish((site.put("/a.zip", ZIP), "a.zip"), (f"mediawiki+{wiki.url}", "pages.jsonl.zst"))
    write, fsync, wrote = PartialFile.write, os.fsync, []

    def some(part: PartialFile, data: bytes) -> None:
        if wrote:
            full()
        wrote.append(len(data))
        write(part, data)

    try:
        with monkeypatch.context() as patched:
            patched.setattr(PartialFile, "write", some)
            patched.setattr(os, "fsync", full)
            report = fetch([name], raw=tmp_path, patience=quick)
        assert states(report) == {f"{name}/a.zip": "failed", f"{name}/pages.jsonl.zst": "failed"}
        for file in report.files:
            assert f"{file.what}: cannot write {tmp_path / name}" in file.detail
            assert "No space left on device. Make room, or name another folder with --raw" in file.detail
        assert (tmp_path / name / ".a.zip.http.part").stat().st_size == wrote[0]
        assert os.fsync is fsync
        assert not fetch([name], raw=tmp_path, patience=quick).failed
    finally:
        wiki.close()
    assert site.requests[-1].range == f"bytes={wrote[0]}-"
    assert (tmp_path / name / "a.zip").read_bytes() == ZIP
