"""A wiki is read politely, whatever it answers, and goes on after the last page."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from meadow.builders.wikidoc.builder import WikiDoc
from meadow.core.rawfile import RawFile
from meadow.core.rawstore import find
from meadow.core.row import Example
from meadow.fetch.addresses import Address
from meadow.fetch.mediawiki import WikiPatience, fetch, so_far
from meadow.fetch.outcome import FetchError, FetchStoppedError, Silent
from tests.fetch.server import certificate, gone, http_date, redirect, serving

QUICK = WikiPatience(tries=4, first=0.01, longest=30, pause=0, timeout=10)
Fault = Callable[["_Handler"], None]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # header and body in one packet, or each answer waits for an acknowledgement
    server: _Http

    def log_message(self, *_: object) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.server.wiki.connections += 1

    def do_GET(self) -> None:
        wiki = self.server.wiki
        self.asked = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query, True).items()}
        with wiki.lock:
            wiki.requests.append((self.asked, dict(self.headers.items()), time.monotonic()))
            wiki.active += 1
            wiki.most = max(wiki.most, wiki.active)
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                if urlsplit(self.path).path != "/api.php":
                    self.say(404, b"<html><title>Not here</title>", **{"Content-Type": "text/html"})
                    return
                faults = wiki.faults[self.about]
                if faults:
                    faults.popleft()(self)
                else:
                    self.answer(wiki.answer(self.asked))
        finally:
            with wiki.lock:
                wiki.active -= 1

    @property
    def about(self) -> int | str:
        """A page's number, ``list`` or ``site``: what faults are kept by."""
        if self.asked.get("action") == "parse":
            return int(self.asked["pageid"])
        return self.asked.get("list") and "list" or "site"

    def answer(self, value: object, code: int = 200, **headers: str) -> None:
        body = json.dumps(value).encode()
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        self.say(code, body, **{"Content-Type": "application/json", **headers})

    def say(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    wiki: Wiki

    def handle_error(self, *_: object) -> None:
        pass


class Wiki:
    """A wiki with the API of MediaWiki 1.35, in `formatversion=2`."""

    def __init__(self, count: int = 8, batch: int = 3) -> None:
        letters = [f"{chr(65 + n // 26)}{chr(97 + n % 26)}" for n in range(count)]
        self.pages = {
            100 + n: {
                "title": f"{letter} fever" if n % 3 else f"{letter} fever (patient information)",
                "revid": 5000 + n,
                "text": f'<div class="mw-parser-output"><h2><span class="mw-headline" id="Causes">Causes</span></h2>\n'
                f"<p>Fever number {n} is caused by what the sources of number {n} say: über 38.5 °C.</p></div>",
            }
            for n, letter in enumerate(letters)
        }
        self.batch = batch
        self.faults: dict[int | str, deque[Fault]] = defaultdict(deque)
        self.requests: list[tuple[dict[str, str], dict[str, str], float]] = []
        self.active = self.most = self.connections = 0
        self.lock = threading.Lock()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.wiki = self
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/api.php"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(timeout=5)

    @property
    def address(self) -> Address:
        return Address("wikidoc", "pages.jsonl.zst", self.url, wiki=True)

    @property
    def parsed(self) -> list[int]:
        """The pages that were asked for, in order."""
        return [int(asked["pageid"]) for asked, _, _ in self.requests if asked.get("action") == "parse"]

    def answer(self, asked: dict[str, str]) -> dict[str, Any]:
        if asked["action"] == "parse":
            page = self.pages.get(int(asked["pageid"]))
            if page is None:
                return error("nosuchpageid", f"There is no page with ID {asked['pageid']}.")
            assert asked["prop"].split("|") == ["text", "revid", "categories", "displaytitle"]
            found = {"title": page["title"], "pageid": int(asked["pageid"]), "revid": page["revid"]}
            categories = [{"sortkey": "", "category": "Fever"}]
            return {"parse": {**found, "text": page["text"], "categories": categories}}
        if "list" in asked:
            assert (asked["apnamespace"], asked["apfilterredir"]) == ("0", "nonredirects")
            start = asked.get("apcontinue", asked.get("apfrom", "")).replace("_", " ")
            rest = sorted((p["title"], n) for n, p in self.pages.items() if p["title"] >= start)
            listed = [{"pageid": n, "ns": 0, "title": title} for title, n in rest[: self.batch]]
            going = {}
            if rest[self.batch :]:
                going["continue"] = {
                    "apcontinue": rest[self.batch][0].replace(" ", "_"),
                    "continue": "-||",
                }
            return {**going, "query": {"allpages": listed}}
        general = {"sitename": "wikidoc", "base": "https://wiki.example/", "generator": "MediaWiki 1.35.3"}
        rights = {"url": "https://creativecommons.org/licenses/by-sa/3.0/", "text": "Attribution/Share-Alike"}
        statistics = {"pages": 3 * len(self.pages), "articles": len(self.pages)}
        return {"query": {"general": general, "rightsinfo": rights, "statistics": statistics}}


@pytest.fixture
def wiki() -> Iterator[Wiki]:
    running = Wiki()
    yield running
    running.close()


def error(code: str, info: str = "") -> dict[str, Any]:
    return {"error": {"code": code, "info": info, "docref": "See api.php"}}


def busy(code: str, headers: dict[str, str] | None = None, **more: Any) -> Fault:
    """An error of the API, with status 200 as MediaWiki has it."""
    return lambda handler: handler.answer({**error(code, "wait"), **more}, **(headers or {}))


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    return lambda handler: handler.say(code, body, **headers)


def html(title: str, code: int = 200) -> Fault:
    page = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head></html>".encode()
    return lambda handler: handler.say(code, page, **{"Content-Type": "text/html"})


def hang_up(handler: _Handler) -> None:
    handler.close_connection = True


def half(handler: _Handler) -> None:
    """Cuts the connection in the middle of an answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"parse": {"title": ')
    handler.close_connection = True


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.counts: list[tuple[str, int, int | None, str]] = []
        self.said: list[str] = []

    def __call__(self, what: str, done: int, total: int | None, unit: str = "bytes") -> None:
        self.counts.append((what, done, total, unit))

    def say(self, message: str) -> None:
        self.said.append(message)


def records(folder: Path) -> list[dict[str, Any]]:
    file = folder / "pages.jsonl.zst"
    with RawFile("wikidoc/pages.jsonl.zst", file, file.stat().st_size).open() as stream:
        return [json.loads(line)["parse"] for line in stream]


def expected(wiki: Wiki) -> list[tuple[int, int]]:
    """(pageid, revid) of all pages in the wiki's order."""
    pages = sorted(wiki.pages.items(), key=lambda item: item[1]["title"])
    return [(n, page["revid"]) for n, page in pages]


def got(folder: Path) -> list[tuple[int, int]]:
    return [(record["pageid"], record["revid"]) for record in records(folder)]


def about(folder: Path) -> dict[str, Any]:
    return json.loads((folder / ".pages.jsonl.zst.about.json").read_text(encoding="utf-8"))


# --- what comes out -------------------------------------------------------------------------------


def test_the_builder_reads_what_comes_out(wiki: Wiki, tmp_path: Path) -> None:
    folder = tmp_path / "raw" / "wikidoc"
    result = fetch(wiki.address, folder, patience=QUICK)
    assert (result.state, result.source, result.file) == ("fetched", "wikidoc", "pages.jsonl.zst")
    assert result.bytes == (folder / "pages.jsonl.zst").stat().st_size
    assert result.detail == "8 pages with their revision ids"
    assert got(folder) == expected(wiki)
    raw = find(WikiDoc(), tmp_path / "raw")
    assert [file.path for file in (*raw.files, *raw.unused)] == ["wikidoc/pages.jsonl.zst"]
    rows = [row for shard in WikiDoc().shards(raw) for row in WikiDoc().examples(shard)]
    assert all(isinstance(row, Example) for row in rows)
    assert Counter(row.configs[0] for row in rows) == {"wikidoc": 5, "wikidoc_patient_information": 3}
    by_id = {row.id: row for row in rows}
    row = by_id["wikidoc/101/Causes"]
    assert row.extra["revision"] == 5001
    assert row.source_url == "https://www.wikidoc.org/index.php?title=Ab_fever&oldid=5001"
    assert row.output == "Fever number 1 is caused by what the sources of number 1 say: über 38.5 °C."


def test_where_it_is_from_stands_beside_it(wiki: Wiki, tmp_path: Path) -> None:
    result = fetch(wiki.address, tmp_path, patience=QUICK)
    notes = about(tmp_path)
    assert notes["api"] == wiki.url
    assert notes["site"]["generator"] == "MediaWiki 1.35.3"
    assert notes["license"]["url"] == "https://creativecommons.org/licenses/by-sa/3.0/"
    assert (notes["pages"], notes["skipped"], notes["sha256"]) == (8, [], result.sha256)
    assert notes["begun"] <= notes["ended"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".pages.jsonl.zst.about.json", "pages.jsonl.zst"]


def test_progress_counts_pages_and_names_the_licence(wiki: Wiki, tmp_path: Path) -> None:
    told = Told()
    fetch(wiki.address, tmp_path, progress=told, patience=QUICK)
    assert told.counts == [("wikidoc/pages.jsonl.zst", n, 8, "pages") for n in (*range(9), 8)]
    assert told.said == [
        "wikidoc/pages.jsonl.zst: wikidoc names as its licence: "
        "https://creativecommons.org/licenses/by-sa/3.0/ Attribution/Share-Alike"
    ]


def test_a_file_in_a_folder_of_its_own(wiki: Wiki, tmp_path: Path) -> None:
    address = Address("wikidoc", "en/pages.jsonl.zst", wiki.url, wiki=True)
    assert fetch(address, tmp_path, patience=QUICK).what == "wikidoc/en/pages.jsonl.zst"
    assert got(tmp_path / "en") == expected(wiki)


# --- manners --------------------------------------------------------------------------------------


def test_manners(wiki: Wiki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEADOW_CONTACT", "data@ward.example\r\nX-Evil: (1)")
    fetch(wiki.address, tmp_path, patience=QUICK)
    assert (wiki.connections, wiki.most) == (1, 1)
    for asked, headers, _ in wiki.requests:
        assert (asked["maxlag"], asked["format"], asked["formatversion"]) == ("5", "json", "2")
        assert re.fullmatch(
            r"meadow/\d+\.\d+\.\d+ \(.*\) \(data@ward\.example X-Evil: 1\)", headers["User-Agent"]
        )
        assert "gzip" in headers["Accept-Encoding"]
        assert "X-Evil" not in headers
    assert len(wiki.requests) == 1 + 3 + 8
    assert wiki.parsed == [n for n, _ in expected(wiki)]


def test_it_rests_as_long_as_an_answer_took(wiki: Wiki, tmp_path: Path) -> None:
    def slow(handler: _Handler) -> None:
        time.sleep(0.3)
        handler.answer(wiki.answer(handler.asked))

    wiki.faults[101].append(slow)
    fetch(wiki.address, tmp_path, patience=WikiPatience(tries=2, first=0.5, pause=1.0))
    times = {asked.get("pageid"): at for asked, _, at in wiki.requests}
    following = wiki.parsed[wiki.parsed.index(101) + 1]
    assert times[str(following)] - times["101"] >= 0.6


_NAMED = {
    "maxlag": busy("maxlag", {"Retry-After": "1", "X-Database-Lag": "6"}),
    "ratelimited": busy("ratelimited", {"Retry-After": "1"}),
    "429": status(429, Retry_After="1"),
    "503": status(503, b"<html>", Retry_After="1"),
    "date": lambda handler: handler.say(503, b"", **{"Retry-After": http_date(2)}),
}


@pytest.mark.parametrize(
    ("where", "fault"),
    [("site", "503"), ("list", "maxlag"), *((104, name) for name in _NAMED)],
)
def test_waits_as_long_as_it_is_told(wiki: Wiki, tmp_path: Path, where: int | str, fault: str) -> None:
    wiki.faults[where].append(_NAMED[fault])
    told = Told()
    fetch(wiki.address, tmp_path, progress=told, patience=QUICK)
    asked = [(key, at) for key, at in ((_key(asked), at) for asked, _, at in wiki.requests) if key == where]
    assert 0.9 <= asked[1][1] - asked[0][1] < 5
    assert got(tmp_path) == expected(wiki)
    assert [said for said in told.said if re.search(r"; waits [12] s$", said)]


def test_pauses_double_where_none_is_named(wiki: Wiki, tmp_path: Path) -> None:
    wiki.faults[103].extend([status(429), busy("maxlag"), status(503)])
    told = Told()
    fetch(wiki.address, tmp_path, progress=told, patience=WikiPatience(tries=4, first=0.1, pause=0))
    at = [at for asked, _, at in wiki.requests if asked.get("pageid") == "103"]
    pauses = [later - earlier for earlier, later in zip(at, at[1:], strict=False)]
    assert [pause >= least for pause, least in zip(pauses, (0.1, 0.2, 0.4), strict=True)] == [True] * 3


def _key(asked: dict[str, str]) -> int | str:
    return int(asked["pageid"]) if "pageid" in asked else "list" if "list" in asked else "site"


def test_a_wiki_that_asks_for_too_long_a_pause_is_left_alone(wiki: Wiki, tmp_path: Path) -> None:
    wiki.faults[104].append(status(503, Retry_After="7200"))
    begun = time.monotonic()
    with pytest.raises(
        FetchError, match=r"HTTP 503; it asks to come back in 120 minutes\. Run .* later: it goes"
    ):
        fetch(wiki.address, tmp_path, patience=QUICK)
    assert time.monotonic() - begun < 5
    fetch(wiki.address, tmp_path, patience=QUICK)
    assert got(tmp_path) == expected(wiki)


@pytest.mark.parametrize("fault", [hang_up, half, status(500), status(502), html("Bad gateway", 502)])
@pytest.mark.parametrize("where", ["site", "list", 104])
def test_what_passes_costs_nothing(wiki: Wiki, tmp_path: Path, fault: Fault, where: int | str) -> None:
    wiki.faults[where].extend([fault, fault])
    fetch(wiki.address, tmp_path, patience=QUICK)
    assert got(tmp_path) == expected(wiki)
    assert about(tmp_path)["skipped"] == []


# --- going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(8))
def test_goes_on_after_the_last_page(wiki: Wiki, tmp_path: Path, at: int) -> None:
    pageid = expected(wiki)[at][0]
    wiki.faults[pageid].append(status(403, b"<title>Blocked</title>"))
    with pytest.raises(FetchError, match="refuses with HTTP 403 .Blocked."):
        fetch(wiki.address, tmp_path, patience=QUICK)
    assert so_far(tmp_path / "pages.jsonl.zst") == at
    told = Told()
    fetch(wiki.address, tmp_path, progress=told, patience=QUICK)
    assert got(tmp_path) == expected(wiki)
    assert [n for n, count in Counter(wiki.parsed).items() if count > 1] == [pageid]
    assert [c for c in told.counts if c[1] < at] == []
    assert [f"goes on after {at} pages, at" in said for said in told.said] == [False] + [True] * (at > 0)


@pytest.mark.parametrize("entry", [b'{"title": "Zz fe', b'{"title": "Zz fever", "end": 100000}\n'])
def test_a_kill_costs_no_page(wiki: Wiki, tmp_path: Path, entry: bytes) -> None:
    reached, release = threading.Event(), threading.Event()

    def hold(handler: _Handler) -> None:
        reached.set()
        release.wait(20)
        hang_up(handler)

    wiki.faults[expected(wiki)[5][0]].append(hold)
    code = (
        "import sys; from pathlib import Path; from meadow.fetch import mediawiki as m; "
        "from meadow.fetch.addresses import Address; "
        "m.fetch(Address('wikidoc', 'pages.jsonl.zst', sys.argv[1]), Path(sys.argv[2]), patience=m.WikiPatience(pause=0))"
    )
    with subprocess.Popen([sys.executable, "-c", code, wiki.url, str(tmp_path)]) as process:
        assert reached.wait(20)
        os.kill(process.pid, signal.SIGKILL)
        release.set()
    assert so_far(tmp_path / "pages.jsonl.zst") == 5
    assert not (tmp_path / "pages.jsonl.zst").exists()
    # What a power cut would leave on top: half a page, and half an entry or one of a page that is not there.
    work = tmp_path / ".pages.jsonl.zst.part"
    with (work / "pages.jsonl").open("ab") as stream:
        stream.write(b'{"parse":{"title":"Zz fever","pageid"')
    with (work / "index.jsonl").open("ab") as stream:
        stream.write(entry)
    fetch(wiki.address, tmp_path, patience=QUICK)
    assert got(tmp_path) == expected(wiki)
    assert [n for n, count in Counter(wiki.parsed).items() if count > 1] == [expected(wiki)[5][0]]


def test_a_page_that_was_moved_while_it_was_read_passes_over_none(wiki: Wiki, tmp_path: Path) -> None:
    order = expected(wiki)

    def moved(handler: _Handler) -> None:
        answer = wiki.answer(handler.asked)
        answer["parse"]["title"] = "Zz fever"
        handler.answer(answer)

    wiki.faults[order[2][0]].append(moved)
    wiki.faults[order[3][0]].append(status(403))
    with pytest.raises(FetchError):
        fetch(wiki.address, tmp_path, patience=QUICK)
    fetch(wiki.address, tmp_path, patience=QUICK)
    assert got(tmp_path) == order
    assert records(tmp_path)[2]["title"] == "Zz fever"


def test_pages_that_came_or_went_meanwhile(wiki: Wiki, tmp_path: Path) -> None:
    fourth = expected(wiki)[3][0]
    wiki.faults[fourth].append(status(403))
    with pytest.raises(FetchError):
        fetch(wiki.address, tmp_path, patience=QUICK)
    del wiki.pages[expected(wiki)[2][0]]  # the last one that was read
    wiki.pages[900] = {"title": "Zz fever", "revid": 9000, "text": "<p>New.</p>"}
    fetch(wiki.address, tmp_path, patience=QUICK)
    assert len(got(tmp_path)) == 9
    assert got(tmp_path)[-1] == (900, 9000)


@pytest.mark.parametrize("index", ["", "{}", "[]\n", '{"url": "x", "begun": "y", "end": 0}\n', "\0" * 100])
def test_a_damaged_index_begins_anew(wiki: Wiki, tmp_path: Path, index: str) -> None:
    wiki.faults[104].append(status(403))
    with pytest.raises(FetchError):
        fetch(wiki.address, tmp_path, patience=QUICK)
    (tmp_path / ".pages.jsonl.zst.part" / "index.jsonl").write_text(index, encoding="utf-8")
    fetch(wiki.address, tmp_path, patience=QUICK)
    assert got(tmp_path) == expected(wiki)


def test_pages_of_another_wiki_are_not_gone_on_with(wiki: Wiki, tmp_path: Path) -> None:
    wiki.faults[104].append(status(403))
    with pytest.raises(FetchError):
        fetch(wiki.address, tmp_path, patience=QUICK)
    other = Wiki(count=2)
    try:
        fetch(other.address, tmp_path, patience=QUICK)
    finally:
        other.close()
    assert got(tmp_path) == expected(other)


def test_it_can_be_stopped_in_a_pause(wiki: Wiki, tmp_path: Path) -> None:
    stop = threading.Event()

    def refuse(handler: _Handler) -> None:
        stop.set()
        handler.say(503, b"", **{"Retry-After": "25"})

    wiki.faults[expected(wiki)[4][0]].append(refuse)
    begun = time.monotonic()
    with pytest.raises(FetchStoppedError):
        fetch(wiki.address, tmp_path, patience=QUICK, stop=stop)
    assert time.monotonic() - begun < 10
    assert so_far(tmp_path / "pages.jsonl.zst") == 4
    assert so_far(tmp_path / "other.jsonl.zst") is None


# --- what cannot be had ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "times", "reason"),
    [
        (busy("nosuchpageid"), 1, "nosuchpageid: wait"),
        (busy("permissiondenied-page"), 1, "permissiondenied-page: wait"),
        (busy("internal_api_error_MWException"), 3, "internal_api_error_MWException: wait"),
        (html("Fatal error: memory", 500), 3, "HTTP 500 (Fatal error: memory)"),
        (status(504), 3, "HTTP 504"),
        (half, 3, "127.0.0.1 cut the connection: peer closed connection"),
        (lambda handler: handler.answer({"parse": {"title": "x"}}), 1, "no rendered text in the answer"),
        (status(200), 1, "an empty answer, or one of more than 67,108,864 bytes"),
    ],
    ids="gone denied fault fatal timeout cut textless empty".split(),
)
def test_a_page_that_cannot_be_read_is_listed(
    wiki: Wiki, tmp_path: Path, fault: Fault, times: int, reason: str
) -> None:
    wiki.faults[104].extend([fault] * times)
    result = fetch(wiki.address, tmp_path, patience=QUICK)
    (skipped,) = about(tmp_path)["skipped"]
    assert (skipped["pageid"], skipped["title"]) == (104, wiki.pages[104]["title"])
    assert skipped["reason"].startswith(reason)
    assert got(tmp_path) == [pair for pair in expected(wiki) if pair[0] != 104]
    assert result.detail.startswith(
        "7 pages with their revision ids; 1 could not be read and are listed in .pages"
    )


def test_a_wiki_that_fails_on_every_page_is_no_wiki_without_pages(tmp_path: Path) -> None:
    wiki = Wiki(count=40)
    for pageid in wiki.pages:
        if pageid >= 110:
            wiki.faults[pageid].append(busy("nosuchrevid"))
    try:
        with pytest.raises(FetchError, match=r"25 pages in a row cannot be read, the last is 'Bi fever"):
            fetch(wiki.address, tmp_path, patience=QUICK)
        assert not (tmp_path / "pages.jsonl.zst").exists()
        fetch(wiki.address, tmp_path, patience=QUICK)
    finally:
        wiki.close()
    listed = [page["pageid"] for page in about(tmp_path)["skipped"]]
    assert listed == list(range(135, 140)), "what failed with the wiki was asked for again"
    assert [n for n, _ in got(tmp_path)] == list(range(100, 135))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            html("Log in required"),
            "a page for people came instead of data (Log in required): a login, a test for",
        ),
        (html("Just a moment...", 403), "refuses with HTTP 403 (Just a moment...)"),
        (html("Gone", 410), "HTTP 410: there is no API at"),
        (busy("readapidenied"), "refuses: readapidenied: wait"),
        (lambda handler: handler.answer({"query": {}}), "answers, but not as MediaWiki's API does"),
        (lambda handler: handler.answer({"hello": 1}), "answers, but not as MediaWiki's API does"),
    ],
    ids="login robot gone denied empty other".split(),
)
def test_no_api_there_is_told_at_once(wiki: Wiki, tmp_path: Path, fault: Fault, words: str) -> None:
    wiki.faults["site"].append(fault)
    with pytest.raises(FetchError) as caught:
        fetch(wiki.address, tmp_path, patience=QUICK)
    said = str(caught.value)
    assert said.startswith("wikidoc/pages.jsonl.zst: ")
    assert "127.0.0.1" in said
    assert words in said
    assert len(wiki.requests) == 1


@pytest.mark.parametrize("body", [b"", b"not JSON", b"[1]", b"[" * 200_000])
def test_an_answer_that_is_no_json(wiki: Wiki, tmp_path: Path, body: bytes) -> None:
    wiki.faults["site"].extend([status(200, body)] * 3)
    with pytest.raises(
        FetchError, match="127.0.0.1: HTTP 200 and no JSON. Run the same command again later."
    ):
        fetch(wiki.address, tmp_path, patience=QUICK)


def test_a_host_that_is_gone(tmp_path: Path) -> None:
    address = Address("wikidoc", "pages.jsonl.zst", f"{gone()}/api.php", wiki=True)
    with pytest.raises(
        FetchError, match=r": no connection to 127.0.0.1: Connection refused. Run the same command"
    ):
        fetch(address, tmp_path, patience=QUICK)


def test_a_wrong_path_is_named(wiki: Wiki, tmp_path: Path) -> None:
    address = Address("wikidoc", "pages.jsonl.zst", wiki.url.replace("/api", "/w/api"), wiki=True)
    with pytest.raises(FetchError, match=r"HTTP 404: there is no API at http://127.0.0.1:\d+/w/api.php"):
        fetch(address, tmp_path, patience=QUICK)


def test_a_list_that_does_not_end(wiki: Wiki, tmp_path: Path) -> None:
    def again(handler: _Handler) -> None:
        going = {"apcontinue": "Aa", "continue": "-||"}
        handler.answer({"continue": going, "query": {"allpages": []}})

    wiki.faults["list"].extend([again] * 3)
    with pytest.raises(FetchError, match="repeats the same part of the list of its pages"):
        fetch(wiki.address, tmp_path, patience=QUICK)


def test_a_wiki_without_articles(wiki: Wiki, tmp_path: Path) -> None:
    wiki.pages.clear()
    with pytest.raises(FetchError, match="names no articles that can be read"):
        fetch(wiki.address, tmp_path, patience=QUICK)
    assert not (tmp_path / "pages.jsonl.zst").exists()


def test_words_of_a_wiki_do_not_steer_a_terminal(wiki: Wiki, tmp_path: Path) -> None:
    told = Told()
    wiki.faults["site"].append(
        lambda handler: handler.answer({"query": {"general": {"sitename": "a\x1b]0;b\x07"}}})
    )
    wiki.faults["list"].append(lambda handler: handler.answer(error("blocked", "c\x1b[2J\x9b31m")))
    with pytest.raises(FetchError, match="blocked: c") as caught:
        fetch(wiki.address, tmp_path, progress=told, patience=QUICK)
    assert "a ]0;b " in told.said[0]
    assert all(c.isprintable() for c in "".join((str(caught.value), *told.said)))


def test_passwords_are_never_shown(wiki: Wiki, tmp_path: Path) -> None:
    url = wiki.url.replace("http://", "http://me:hunter2@")
    address = Address("wikidoc", "pages.jsonl.zst", url, wiki=True)
    wiki.faults[104].append(status(403))
    told = Told()
    with pytest.raises(FetchError) as caught:
        fetch(address, tmp_path, progress=told, patience=QUICK)
    result = fetch(address, tmp_path, progress=told, patience=QUICK)
    files = [path.read_text("utf-8") for path in tmp_path.rglob("*.json")]
    for text in (str(caught.value), repr(caught.value), result.url, *told.said, *files):
        assert "hunter2" not in text


def test_a_certificate_of_the_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = certificate(tmp_path)
    body = b'{"query": {}}'
    with serving(tls=pem) as site:
        address = Address("wikidoc", "pages.jsonl.zst", site.put("/api.php", body), wiki=True)
        with pytest.raises(
            FetchError,
            match=r"127.0.0.1 shows a certificate that is not trusted.*name its PEM file in SSL_CERT_FILE",
        ):
            fetch(address, tmp_path / "raw", patience=QUICK)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))
        with pytest.raises(FetchError, match="answers, but not as MediaWiki's API does"):
            fetch(address, tmp_path / "raw", patience=QUICK)


def test_it_is_not_led_away_from_https(wiki: Wiki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with serving(pem) as site:
        address = Address(
            "wikidoc",
            "pages.jsonl.zst",
            site.put("/api.php", b"", redirect(f"{wiki.url}?action=query")),
            wiki=True,
        )
        with pytest.raises(FetchError, match="leads from https on to http://"):
            fetch(address, tmp_path, patience=QUICK)
    assert not (tmp_path / "pages.jsonl.zst").exists()
