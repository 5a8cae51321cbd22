"""All articles of a wiki, read page by page through MediaWiki's API, politely.

One connection, one request at a time; the server's load is asked about with every request (``maxlag``) and obeyed;
after each answer comes a pause as long as the answer took (https://www.mediawiki.org/wiki/API:Etiquette). What is
read is on disk at once, and a run that was cut off goes on after the last page.

`builders/wikidoc` reads what comes out: compressed JSON lines of ``action=parse`` results with revision ids.
``.NAME.about.json`` beside it says from which wiki, when, under which licence, and which pages could not be read.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import zstandard

from meadow.core.rawfile import MAX_LINE
from meadow.core.store import write_whole
from meadow.fetch.addresses import Address, without_secrets
from meadow.fetch.outcome import (
    Fetched,
    FetchError,
    FetchStoppedError,
    Progress,
    Silent,
    sha256_of,
)
from meadow.fetch.pages import printable, title_of
from meadow.fetch.transport import AGENT, HttpClient, LaterError, beginning, led_off_https, retry_after

#: Seconds of replication lag at which the server is to refuse, as MediaWiki's Manual:Maxlag parameter advises.
MAXLAG = 5
#: When this many pages in a row cannot be read, the wiki is at fault and not the pages.
_MOST_IN_A_ROW = 25
#: Tries for what seldom passes: a page that makes the server fail, a host that was never reached.
_TRIES = 3
_BUSY = frozenset(("maxlag", "ratelimited", "readonly"))
_CLOSED = frozenset(("readapidenied", "permissiondenied", "unknown_action", "badaccess-groups", "blocked"))
_FAULT = re.compile(r"internal_api_error|timeout|poolcounter|concurrency-limit", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class WikiPatience:
    """How long to wait, in seconds."""

    tries: int = 10  #: Requests, before the fetch is given up until another day.
    first: float = 5.0  #: The least pause after a refusal, as MediaWiki asks; it doubles each time.
    longest: float = 900.0  #: The longest pause; a server that asks for more is left alone.
    pause: float = 1.0  #: The pause after each answer, as a share of the time that the answer took.
    timeout: float = 120.0  #: For an answer; a long page takes half a minute on a slow host.


def fetch(
    address: Address,
    folder: Path,
    *,
    progress: Progress | None = None,
    patience: WikiPatience | None = None,
    stop: threading.Event | None = None,
) -> Fetched:
    """Reads all articles of a wiki (namespace 0, no redirects) into a ``.jsonl.zst``, or goes on with that.

    To read the wiki anew, remove the file. No other process may fill the folder meanwhile; see `locked`.

    Raises:
        FetchError: The wiki does not answer, refuses, or has no API there; the next call goes on.
        FetchStoppedError: `stop` was set, which is looked at before each request and in pauses.
        OSError: The disk cannot be written.
    """
    target = folder / address.file
    work = _work_of(target)
    work.mkdir(parents=True, exist_ok=True)
    with closing(_KeptPages(work, without_secrets(address.url))) as kept:
        patience, stop = patience or WikiPatience(), stop or threading.Event()
        with closing(_Wiki(address, kept, progress or Silent(), patience, stop)) as wiki:
            site = wiki.read()
        packed = kept.pack()
    sha256, size = sha256_of(packed), packed.stat().st_size
    about = target.with_name(f".{target.name}.about.json")
    notes = {"api": kept.url, **site, "begun": kept.begun, "ended": _now(), "pages": kept.pages}
    notes |= {"skipped": kept.skipped, "sha256": sha256}
    write_whole(about, json.dumps(notes, indent=1) + "\n")
    packed.replace(target)
    shutil.rmtree(work, ignore_errors=True)
    detail = f"{kept.pages:,} pages with their revision ids"
    if kept.skipped:
        detail += f"; {len(kept.skipped):,} could not be read and are listed in {about.name}"
    return Fetched(address.source, address.file, "fetched", size, sha256, kept.url, detail)


def by_hand(address: Address, folder: Path) -> str:
    """How to get pages of a wiki without this."""
    return (
        f"By hand: save pages of {urlsplit(address.url).hostname} as .html or as an XML export (Special:Export), or "
        f"results of the API's action=parse, one a line in a .jsonl file, and put them into {folder}."
    )


def agent() -> str:
    """How Meadow names itself to a wiki, with ``$MEADOW_CONTACT``, an address to write to, for which wikis ask."""
    contact = " ".join(re.sub(r"[^\x21-\x7e]|[()\\]", " ", os.environ.get("MEADOW_CONTACT", "")).split())
    return f"{AGENT} ({contact})" if contact else AGENT


def so_far(target: Path) -> int | None:
    """How many pages of an unfinished fetch are on disk, which will become a file; None where none has begun."""
    try:
        with (_work_of(target) / _KeptPages.INDEX).open("rb") as stream:
            entries = [entry for entry, _ in _whole_entries(stream)]
    except OSError:
        return None
    return sum("reason" not in entry for entry in entries[1:]) if entries else None


def _work_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class _KeptPages:
    """Pages on disk: their texts in one file that grows, and in another an entry for each that was dealt with.

    An entry has the title by which the page was listed (not one to which it was moved since: going on after that
    would pass over pages), where the texts end with it, and why it could not be read, if so. The first is about
    the wiki. What a kill or a power cut has left behind the last whole entry is cut off.
    """

    INDEX = "index.jsonl"

    def __init__(self, work: Path, url: str) -> None:
        self.url, self.begun, self.pages, self.last = url, _now(), 0, ""
        self.skipped: list[dict[str, Any]] = []
        self._work, self._end, size = work, 0, 0
        self._texts = (work / "pages.jsonl").open("ab")
        self._index = (work / self.INDEX).open("ab+")
        there = os.fstat(self._texts.fileno()).st_size
        self._index.seek(0)
        for entry, length in _whole_entries(self._index):
            if entry["end"] > there or (not size and entry.get("url") != url):
                break
            size, self._end = size + length, entry["end"]
            self._count(entry)
        self._index.truncate(size)
        self._texts.truncate(self._end)
        if not size:
            self._note({"url": url, "begun": self.begun})

    def _count(self, entry: Mapping[str, Any]) -> None:
        self.begun = entry.get("begun", self.begun)
        self.last = entry.get("title", self.last)
        if "reason" in entry:
            self.skipped.append({key: entry[key] for key in ("pageid", "title", "reason")})
        elif "title" in entry:
            self.pages += 1

    def _note(self, entry: Mapping[str, Any]) -> None:
        self._index.write(json.dumps({**entry, "end": self._end}).encode() + b"\n")
        self._index.flush()
        self._count(entry)

    def add(self, record: bytes, title: str) -> None:
        self._texts.write(record + b"\n")
        self._texts.flush()
        os.fsync(self._texts.fileno())  # before the entry speaks of it
        self._end += len(record) + 1
        self._note({"title": title})

    def skip(self, pages: list[dict[str, Any]]) -> None:
        """Keeps in mind that pages could not be read, and empties the list."""
        while pages:
            self._note(pages.pop(0))

    def pack(self) -> Path:
        """Compresses all texts into one file; those stay."""
        packed = self._work / "pages.jsonl.zst"
        with (self._work / "pages.jsonl").open("rb") as texts, packed.open("wb") as stream:
            zstandard.ZstdCompressor(level=9, write_checksum=True).copy_stream(texts, stream)
            stream.flush()
            os.fsync(stream.fileno())
        return packed

    def close(self) -> None:
        self._texts.close()
        self._index.close()


def _whole_entries(stream: BinaryIO) -> Iterator[tuple[dict[str, Any], int]]:
    """The entries of an index with their lengths, as far as they are whole."""
    for line in stream:
        try:
            entry = json.loads(line)
        except ValueError:
            return
        if not line.endswith(b"\n") or not isinstance(entry, dict) or not isinstance(entry.get("end"), int):
            return
        yield entry, len(line)


class _PageError(Exception):
    """A page that cannot be read, although the wiki answers."""


@dataclass(eq=False)
class _Wiki:
    _address: Address
    _kept: _KeptPages
    _progress: Progress
    _patience: WikiPatience
    _stop: threading.Event
    _met: bool = False

    def __post_init__(self) -> None:
        self._host = urlsplit(self._address.url).hostname or self._address.url
        headers = {"User-Agent": agent(), "Accept": "application/json"}
        self._http = HttpClient(30, self._patience.timeout, headers)
        self.close = self._http.close

    def read(self) -> dict[str, Any]:
        """Reads all pages after the last one that is on disk; what the wiki says of itself."""
        kept, site = self._kept, self._site()
        if kept.pages:
            self._say(f"goes on after {kept.pages:,} pages, at {kept.last!r}")
        total = site.pop("articles")
        # Of pages that fail one after the other nobody knows yet whether they are at fault or the wiki is.
        failed: list[dict[str, Any]] = []
        self._show(total)
        for pageid, title in self._pages(after=kept.last):
            try:
                record = self._page(pageid)
            except _PageError as error:
                self._say(f"{title!r} cannot be read: {error}")
                failed.append({"pageid": pageid, "title": title, "reason": str(error)})
                if len(failed) >= _MOST_IN_A_ROW:
                    said = f"{len(failed)} pages in a row cannot be read, the last is {title!r}: {error}"
                    raise self._failed(said) from None
                continue
            kept.skip(failed)
            kept.add(record, title)
            self._show(total)
        kept.skip(failed)
        self._show(total)
        if not kept.pages:
            raise self._failed("names no articles that can be read", later=False)
        return site

    def _say(self, words: str) -> None:
        self._progress.say(f"{self._address.what}: {printable(words)}")

    def _show(self, total: int | None) -> None:
        done = self._kept.pages + len(self._kept.skipped)  # the wiki's own count of articles is a little off
        self._progress(self._address.what, done, max(total, done) if total else None, "pages")

    def _failed(self, detail: str, *, later: bool = True) -> FetchError:
        again = f": it goes on after {self._kept.pages:,} pages" if self._kept.pages else ""
        remedy = f"Run the same command again later{again}." if later else ""
        shown = detail if self._host in detail else f"{self._host}: {detail}"
        return FetchError(self._address.what, printable(shown), remedy)

    def _site(self) -> dict[str, Any]:
        answer = self._ask(action="query", meta="siteinfo", siprop="general|statistics|rightsinfo")
        found = _mapping(answer, "query")
        general, rights = _mapping(found, "general"), _mapping(found, "rightsinfo")
        if not general:
            raise self._failed("answers, but not as MediaWiki's API does", later=False)
        licence = {key: rights[key] for key in ("url", "text") if isinstance(rights.get(key), str)}
        named = " ".join(filter(None, licence.values())) or "none"
        self._say(f"{general.get('sitename') or self._host} names as its licence: {named}")
        self._met = True
        articles = _mapping(found, "statistics").get("articles")
        return {
            "site": {key: general.get(key) for key in ("sitename", "base", "generator", "lang")},
            "license": licence,
            "articles": articles if type(articles) is int and articles > 0 else None,
        }

    def _pages(self, after: str) -> Iterator[tuple[int, str]]:
        """Yields (pageid, title) of all articles after a title, in the wiki's own order."""
        going: dict[str, Any] = {"continue": ""}
        start = {"apfrom": after} if after else {}
        while True:
            asked = {"apnamespace": 0, "apfilterredir": "nonredirects", "aplimit": "max", **start, **going}
            answer = self._ask(action="query", list="allpages", **asked)
            found = _mapping(answer, "query").get("allpages")
            if not isinstance(found, list):
                raise self._failed("gives no list of its pages", later=False)
            for page in found:
                match page:
                    case {"pageid": int(pageid), "title": str(title)} if title != after:
                        yield pageid, title
            further = answer.get("continue")
            if not further:
                return
            if not isinstance(further, dict) or further == going:
                raise self._failed("repeats the same part of the list of its pages", later=False)
            going = further

    def _page(self, pageid: int) -> bytes:
        plain = {"disablelimitreport": 1, "disableeditsection": 1}
        wished = {"pageid": pageid, "prop": "text|revid|categories|displaytitle", **plain}
        parse = _mapping(self._ask(action="parse", **wished), "parse")
        if not isinstance(parse.get("text"), str | dict) or not isinstance(parse.get("title"), str):
            raise _PageError("no rendered text in the answer")
        record = json.dumps({"parse": parse}, ensure_ascii=True, separators=(",", ":")).encode()
        if len(record) >= MAX_LINE:
            raise _PageError(f"larger than {MAX_LINE:,} bytes")
        return record

    def _ask(self, **parameters: Any) -> dict[str, Any]:
        """Makes a request until it is answered, with pauses, or until waiting does not help."""
        patience, faults, one_page = self._patience, 0, parameters["action"] == "parse"
        query = {**parameters, "format": "json", "formatversion": 2, "maxlag": MAXLAG}
        wait, why = patience.first, ""
        for attempt in range(1, patience.tries + 1):
            try:
                return self._answer(query, one_page)
            except LaterError as error:
                why, asked, busy = error.detail, error.wait or 0.0, error.busy
            faults += not busy
            if not busy and faults >= _TRIES:
                if not self._met:
                    raise self._failed(why)
                if one_page and self._alive():
                    raise _PageError(why)
            if attempt == patience.tries:
                break
            if asked > patience.longest:
                raise self._failed(f"{why}; it asks to come back in {asked / 60:.0f} minutes")
            # What the server asks for is the least; a server that goes on refusing gets ever more time.
            pause = max(asked, wait)
            self._say(f"{why}; waits {pause:.0f} s")
            self._rest(pause)
            wait = min(2 * wait, patience.longest)
        raise self._failed(f"{why}, {patience.tries} times in a row")

    def _rest(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise FetchStoppedError(self._address.what)

    def _answer(self, query: Mapping[str, Any], one_page: bool) -> dict[str, Any]:
        """The answer to one request; else a `LaterError`, or another where waiting does not help."""
        self._rest(0)
        begun = time.monotonic()
        with self._http.ask(self._address.url, self._address.what, query=query) as response:
            if astray := led_off_https(response, self._address.url):
                raise self._failed(astray, later=False)
            body = beginning(response.iter_bytes(), MAX_LINE + 1)
            if len(body) > MAX_LINE:  # hangs up, which costs the connection and not the fetch
                body = b""
        self._rest(min(self._patience.pause * (time.monotonic() - begun), self._patience.first))
        status, wait = response.status_code, retry_after(response.headers.get("retry-after"))
        answer: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            answer = json.loads(body)
        if isinstance(answer, dict) and "error" not in answer and status == 200:
            return answer
        error = _mapping(answer, "error")
        if code := str(error.get("code") or ""):
            why = f"{code}: {' '.join(str(error.get('info') or '').split())[:300]}".rstrip(": ")
            if code in _BUSY or _FAULT.search(code):
                raise LaterError(why, wait, busy=code in _BUSY)
            if one_page and code not in _CLOSED:
                raise _PageError(why)
            raise self._failed(f"refuses: {why}", later=False)
        title = title_of(body[:20_000].decode("utf-8", "replace"))
        heading = f" ({title})" if title else ""
        if status == 429 or status >= 500:
            raise LaterError(f"HTTP {status}{heading}", wait, busy=status in (429, 503))
        if status in (401, 403, 407):
            raise self._failed(f"refuses with HTTP {status}{heading}", later=False)
        if status in (404, 410):
            raise self._failed(f"HTTP {status}: there is no API at {self._kept.url}", later=False)
        if status == 200 and one_page and not body:
            raise _PageError(f"an empty answer, or one of more than {MAX_LINE:,} bytes")
        if body.lstrip()[:1] == b"<":
            why = f"{heading}: a login, a test for robots, or a wiki that has moved"
            raise self._failed(f"a page for people came instead of data{why}", later=False)
        raise LaterError(f"HTTP {status} and no JSON", wait)

    def _alive(self) -> bool:
        query = {"action": "query", "meta": "siteinfo", "format": "json", "formatversion": 2}
        try:
            return "query" in self._answer(query, one_page=False)
        except (LaterError, FetchError):
            return False


def _mapping(value: object, key: str) -> dict[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}
