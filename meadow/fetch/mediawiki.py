"""All articles of a wiki, read page by page through MediaWiki's API, politely.

One connection, one request at a time; the server's load is asked about with every request (``maxlag``) and obeyed;
after each answer comes a pause as long as the answer took, so that the wiki is at most half busy with it
(https://www.mediawiki.org/wiki/API:Etiquette). A hundred thousand pages take days. Whatever is read is on disk at
once, and a run that was cut off goes on after the last page.

What comes out is what `builders/wikidoc` reads: JSON lines of ``action=parse`` results with their revision ids,
compressed. Beside it, ``.NAME.about.json`` says from which wiki, when, under which licence, and which pages could
not be read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from meadow.core.raw import MAX_LINE
from meadow.fetch.addresses import Address, Fetched, FetchError, Progress, Silent, without_secrets
from meadow.fetch.download import AGENT, StoppedError, http, new_client, retry_after

#: Seconds of replication lag at which the server is to answer with a refusal: the value that MediaWiki's
#: manual (Manual:Maxlag parameter) recommends to whoever is not in a hurry.
MAXLAG = 5
#: A journal of this size is compressed into a frame: some hundred pages.
_FRAME = 4 * 2**20
#: When this many pages in a row cannot be read, the wiki is at fault and not the pages.
_MOST_IN_A_ROW = 25
#: Tries for what seldom passes: a page that makes the server fail, a host that was never reached.
_TRIES = 3
_BUSY = frozenset(("maxlag", "ratelimited", "readonly"))
_CLOSED = frozenset(("readapidenied", "permissiondenied", "unknown_action", "badaccess-groups", "blocked"))
_FAULT = re.compile(r"internal_api_error|timeout|poolcounter|concurrency-limit", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds.

    Attributes:
        tries: How often a request is made before the fetch is given up until another day.
        first: The least pause after a refusal; it doubles each time. MediaWiki asks for five seconds.
        longest: The longest pause; a server that asks for more is left alone.
        pause: The pause after each answer, as a share of the time that the answer took.
        timeout: How long an answer may take; rendering a long page takes half a minute on a slow host.
    """

    tries: int = 10
    first: float = 5.0
    longest: float = 900.0
    pause: float = 1.0
    timeout: float = 120.0


def fetch(
    address: Address,
    folder: Path,
    *,
    progress: Progress | None = None,
    patience: Patience | None = None,
    stop: threading.Event | None = None,
) -> Fetched:
    """Reads all articles of a wiki (namespace 0, no redirects) into one file, or goes on with that.

    Args:
        address: Whose `url` is that of ``api.php``; `file` is what to write in `folder`, a ``.jsonl.zst``.
        folder: The source's folder in the raw store; it is made where it does not exist.
        progress: Is told the number of pages, and why there is a pause.
        patience: How long to wait for what.
        stop: Once set, the fetch ends before the next request or in its pause.

    Returns:
        The file, whole; ``there`` where it existed before, without any request. To read the wiki anew, remove it.

    Raises:
        FetchError: The wiki does not answer, refuses, has no API there, or the disk cannot be written. What
            was read stays, and the next call goes on with it.
        StoppedError: `stop` was set.
    """
    from filelock import FileLock, Timeout

    target = folder / address.file
    work = _work_of(target)
    if target.is_file():
        if not (work / _Journal.FRAMES).exists():  # killed between the last two steps
            shutil.rmtree(work, ignore_errors=True)
        url = without_secrets(address.url)
        return Fetched(address.source, address.file, "there", target.stat().st_size, url=url)
    wiki = _Wiki(address, folder, progress or Silent(), patience or Patience(), stop or threading.Event())
    try:
        work.mkdir(parents=True, exist_ok=True)
        with FileLock(work / "lock", timeout=0):
            return _finish(work, target, address, _run(work, wiki))
    except Timeout:
        raise FetchError(
            address.what, "is being fetched by another process", "Wait for it: a wiki is read by one alone."
        ) from None
    except OSError as error:
        raise FetchError(
            address.what,
            f"{error.filename or folder} cannot be written: {error.strerror or error}",
            "Free space or choose another raw store with --raw, and run it again: it goes on after the last page.",
        ) from error


def agent() -> str:
    """How Meadow names itself to a wiki; ``$MEADOW_CONTACT``, an address to write to, is put in.

    MediaWiki's etiquette asks for a way to reach whoever runs the program, which only they can give.
    """
    contact = " ".join(re.sub(r"[^\x21-\x7e]|[()\\]", " ", os.environ.get("MEADOW_CONTACT", "")).split())
    return f"{AGENT} ({contact})" if contact else AGENT


def so_far(target: Path) -> int | None:
    """How many pages of an unfinished fetch are on disk; None where none has begun.

    Args:
        target: The file that it will become.
    """
    work = _work_of(target)
    try:
        state = json.loads((work / _Journal.STATE).read_text(encoding="utf-8"))
        with (work / f"journal-{state['journal']:06}.jsonl").open("rb") as stream:
            return state["pages"] + sum(line.endswith(b"\n") for line in stream)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _work_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _finish(work: Path, target: Path, address: Address, notes: dict[str, Any]) -> Fetched:
    frames = work / _Journal.FRAMES
    with frames.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    size = frames.stat().st_size
    about = target.with_name(f".{target.name}.about.json")
    beside = work / "about.json"
    text = json.dumps({**notes, "sha256": digest}, indent=1, ensure_ascii=True)
    beside.write_text(text + "\n", encoding="utf-8", newline="\n")
    beside.replace(about)
    frames.replace(target)
    shutil.rmtree(work, ignore_errors=True)
    skipped = len(notes["skipped"])
    detail = f"{notes['pages']:,} pages with their revision ids"
    if skipped:
        detail += f"; {skipped:,} could not be read and are listed in {about.name}"
    return Fetched(
        address.source, address.file, "fetched", size, digest, without_secrets(address.url), detail
    )


# --- what is on disk ------------------------------------------------------------------------------


@dataclass
class _State:
    """What is known of the part that stands in frames; written anew with each of them.

    Attributes:
        url: The API that it is from.
        begun: When the first page was asked for, by this machine's clock in UTC.
        bytes: The length of the frames; what follows in the file is of a run that was killed.
        journal: The number of the journal that comes after them.
        pages: Pages in them.
        last: The title of the last page that was dealt with; empty before the first.
        skipped: Pages that could not be read: pageid, title, reason.
    """

    url: str
    begun: str
    bytes: int = 0
    journal: int = 0
    pages: int = 0
    last: str = ""
    skipped: list[dict[str, Any]] = field(default_factory=list)


class _Journal:
    """Pages on disk: each stands in a plain file at once, and every few megabytes of that become a zstd frame.

    A line of the plain file is the title by which the page was listed, a tab, and the page. The page may have
    been moved since; to go on after its new title would pass over all that lies between.
    """

    FRAMES, STATE = "frames.zst", "state.json"

    def __init__(self, work: Path, url: str) -> None:
        self._work = work
        self.state = self._read(url)
        for old in work.glob("journal-*.jsonl"):
            if old != self._path:
                old.unlink()
        with (work / self.FRAMES).open("ab") as stream:
            stream.truncate(self.state.bytes)
        self.pages, self.last = self.state.pages, self.state.last
        self._file: BinaryIO = self._path.open("ab+")
        self._file.truncate(self._replay())
        self._file.seek(0, os.SEEK_END)

    @property
    def _path(self) -> Path:
        return self._work / f"journal-{self.state.journal:06}.jsonl"

    def _read(self, url: str) -> _State:
        fresh, frames = _State(url, _now()), self._work / self.FRAMES
        try:
            state = _State(**json.loads((self._work / self.STATE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return self._anew(fresh)
        there = frames.stat().st_size if frames.exists() else 0
        return state if state.url == url and there >= state.bytes else self._anew(fresh)

    def _anew(self, state: _State) -> _State:
        for old in self._work.glob("journal-*.jsonl"):
            old.unlink()
        (self._work / self.FRAMES).unlink(missing_ok=True)
        self._write(state)
        return state

    def _write(self, state: _State) -> None:
        beside = self._work / f"{self.STATE}.new"
        with beside.open("w", encoding="utf-8") as stream:
            json.dump(vars(state), stream)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(self._work / self.STATE)

    def _replay(self) -> int:
        """Counts the whole lines of the journal, and says where they end."""
        self._file.seek(0)
        end = 0
        for line in self._file:
            try:
                title = json.loads(line.partition(b"\t")[0])
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            self.pages, self.last, end = self.pages + 1, title, end + len(line)
        return end

    def add(self, record: bytes, title: str) -> None:
        """Keeps a page."""
        self._file.write(json.dumps(title).encode() + b"\t" + record + b"\n")
        self._file.flush()
        self.pages, self.last = self.pages + 1, title
        if self._file.tell() >= _FRAME:
            self.fold()

    def skip(self, pages: Sequence[Mapping[str, Any]]) -> None:
        """Keeps in mind that pages could not be read."""
        if pages:
            self.state.skipped.extend(pages)
            self.last = pages[-1]["title"]
            self.fold()

    def fold(self) -> None:
        """Makes a frame of the journal and begins the next one."""
        import zstandard

        self._file.seek(0)
        data = b"".join(line.partition(b"\t")[2] for line in self._file)
        frames = self._work / self.FRAMES
        if data:
            with frames.open("ab") as stream:
                stream.write(zstandard.ZstdCompressor(level=9, write_checksum=True).compress(data))
                stream.flush()
                os.fsync(stream.fileno())
        old = self._path
        state = self.state
        state.bytes, state.journal = frames.stat().st_size, state.journal + 1
        state.pages, state.last = self.pages, self.last
        # From here on the frame counts; a journal of an earlier number is removed when the fetch goes on.
        self._write(state)
        self._file.close()
        old.unlink()
        self._file = self._path.open("ab+")

    def close(self) -> None:
        self._file.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# --- talking to the wiki --------------------------------------------------------------------------


class _PageError(Exception):
    """A page that cannot be read, although the wiki answers."""


def _run(work: Path, wiki: _Wiki) -> dict[str, Any]:
    """Reads all pages after the last one that is on disk.

    Returns:
        The notes for ``.NAME.about.json``.
    """
    journal = _Journal(work, without_secrets(wiki.address.url))
    try:
        with wiki:
            wiki.there = journal.pages
            site = wiki.site()
            if journal.pages:
                wiki.say(f"goes on after {journal.pages:,} pages, at {journal.last!r}")
            total = site.pop("articles")
            # Of pages that fail one after the other nobody knows yet whether they are at fault or the wiki is.
            failed: list[dict[str, Any]] = []
            wiki.progress(journal.pages + len(journal.state.skipped), total)
            for pageid, title in wiki.pages(after=journal.last):
                try:
                    record = wiki.page(pageid)
                except _PageError as error:
                    wiki.say(f"{title!r} cannot be read: {error}")
                    failed.append({"pageid": pageid, "title": title, "reason": str(error)})
                    if len(failed) >= _MOST_IN_A_ROW:
                        raise wiki.failed(
                            f"{len(failed)} pages in a row cannot be read, the last is {title!r}: {error}"
                        ) from None
                    continue
                journal.skip(failed)
                failed.clear()
                journal.add(record, title)
                wiki.there = journal.pages
                wiki.progress(journal.pages + len(journal.state.skipped), total)
            journal.skip(failed)
            wiki.progress(journal.pages + len(journal.state.skipped), total)
        if not journal.pages:
            raise wiki.failed("names no articles that can be read", later=False)
        journal.fold()
    finally:
        journal.close()
    state = journal.state
    return {
        "api": state.url,
        **site,
        "begun": state.begun,
        "ended": _now(),
        "pages": state.pages,
        "skipped": state.skipped,
    }


class _Wiki:
    """A wiki's API over one connection."""

    def __init__(
        self,
        address: Address,
        folder: Path,
        progress: Progress,
        patience: Patience,
        stop: threading.Event,
    ) -> None:
        self.address, self._folder, self._progress = address, folder, progress
        self._patience, self._stop, self._http = patience, stop, http()
        self._host = urlsplit(address.url).hostname or address.url
        #: Pages that are on disk, for what errors promise.
        self.there = 0
        self._met = False

    def __enter__(self) -> _Wiki:
        self._client = new_client(
            headers={"User-Agent": agent(), "Accept": "application/json"},
            limits=self._http.Limits(max_connections=1, max_keepalive_connections=1),
            timeout=self._http.Timeout(self._patience.timeout, connect=30.0),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def say(self, words: str) -> None:
        """Tells whoever watches."""
        self._progress.say(f"{self.address.what}: {_plain(words)}")

    def progress(self, done: int, total: int | None) -> None:
        """Tells how many pages are dealt with; the wiki's own count of articles is a little off."""
        self._progress(self.address.what, done, max(total, done) if total else None, "pages")

    def failed(self, detail: str, *, later: bool = True) -> FetchError:
        """The error that ends a fetch: what happened, and the ways to go on."""
        again = f": it goes on after {self.there:,} pages" if self.there else ""
        remedy = f"Run the same command again later{again}. " if later else ""
        remedy += (
            f"By hand: save pages of {self._host} as an XML export (Special:Export), or results of the API's "
            f"action=parse, one a line in a .jsonl file, and put them into {self._folder}."
        )
        return FetchError(self.address.what, f"{self._host}: {_plain(detail)}", remedy)

    def site(self) -> dict[str, Any]:
        """What the wiki says of itself; ``articles`` is about how many pages there are to read."""
        found = self._query(meta="siteinfo", siprop="general|statistics|rightsinfo")
        general, rights = _mapping(found, "general"), _mapping(found, "rightsinfo")
        if not general:
            raise self.failed("answers, but not as MediaWiki's API does", later=False)
        licence = {key: rights[key] for key in ("url", "text") if isinstance(rights.get(key), str)}
        named = " ".join(value for value in licence.values() if value) or "none"
        self.say(f"{general.get('sitename') or self._host} names as its licence: {named}")
        self._met = True
        articles = _mapping(found, "statistics").get("articles")
        return {
            "site": {key: general.get(key) for key in ("sitename", "base", "generator", "lang")},
            "license": licence,
            "articles": articles if type(articles) is int and articles > 0 else None,
        }

    def pages(self, after: str) -> Iterator[tuple[int, str]]:
        """Yields (pageid, title) of all articles in the wiki's own order, those after a title."""
        going: dict[str, Any] = {"continue": ""}
        start = {"apfrom": after} if after else {}
        while True:
            answer = self._ask(
                action="query",
                list="allpages",
                apnamespace=0,
                apfilterredir="nonredirects",
                aplimit="max",
                **{**start, **going},
            )
            found = _mapping(answer, "query").get("allpages")
            if not isinstance(found, list):
                raise self.failed("gives no list of its pages", later=False)
            for page in found:
                pageid, title = (
                    (page.get("pageid"), page.get("title")) if isinstance(page, dict) else (None, None)
                )
                if type(pageid) is int and isinstance(title, str) and title != after:
                    yield pageid, title
            further = answer.get("continue")
            if not further:
                return
            if not isinstance(further, dict) or further == going:
                raise self.failed("repeats the same part of the list of its pages", later=False)
            going = further

    def page(self, pageid: int) -> bytes:
        """One rendered page, as the line of JSON to keep.

        Raises:
            _PageError: It cannot be read; others may.
        """
        answer = self._ask(
            action="parse",
            pageid=pageid,
            prop="text|revid|categories|displaytitle",
            disablelimitreport=1,
            disableeditsection=1,
        )
        parse = answer.get("parse")
        text = parse.get("text") if isinstance(parse, dict) else None
        if not isinstance(text, str | dict) or not isinstance(parse.get("title"), str):
            raise _PageError("no rendered text in the answer")
        record = json.dumps({"parse": parse}, ensure_ascii=True, separators=(",", ":")).encode()
        if len(record) >= MAX_LINE:
            raise _PageError(f"larger than {MAX_LINE:,} bytes")
        return record

    def _query(self, **parameters: Any) -> Mapping[str, Any]:
        return _mapping(self._ask(action="query", **parameters), "query")

    def _ask(self, **parameters: Any) -> dict[str, Any]:
        """Makes a request until it is answered, with pauses.

        Raises:
            _PageError: The request is for a page, and this page cannot be had.
            FetchError: The wiki cannot be read at all, or not now.
        """
        wait, faults, one_page = self._patience.first, 0, parameters["action"] == "parse"
        query = {**parameters, "format": "json", "formatversion": 2, "maxlag": MAXLAG}
        for attempt in range(1, self._patience.tries + 1):
            asked, passing = 0.0, False
            try:
                status, headers, body = self._get(query)
            except self._http.TransportError as error:
                why = "no answer" if self._met else "cannot be reached"
                why = f"{why}: {type(error).__name__}: {error}".rstrip(": ")
                if "CERTIFICATE_VERIFY_FAILED" in why:
                    raise FetchError(
                        self.address.what,
                        f"{self._host}: its certificate is not trusted: {error}",
                        "Where your house has a certificate authority of its own, set SSL_CERT_FILE to its file.",
                    ) from error
            except self._http.HTTPError as error:  # such as too many redirects
                raise self.failed(f"{type(error).__name__}: {error}", later=False) from error
            else:
                answer = _decoded(body)
                if answer is not None and "error" not in answer and status == 200:
                    return answer
                why, passing = self._understood(status, answer, body, one_page)
                asked = retry_after(headers.get("retry-after")) or 0.0
            if not passing:
                faults += 1
                if faults >= _TRIES and not self._met:
                    raise self.failed(why)
                if faults >= _TRIES and one_page and self._alive():
                    raise _PageError(why)
            if attempt == self._patience.tries:
                break
            if asked > self._patience.longest:
                raise self.failed(f"{why}; it asks to come back in {asked / 60:.0f} minutes")
            # What the server asks for is the least; a server that goes on refusing gets ever more time.
            pause = max(asked, wait)
            self.say(f"{why}; waits {pause:.0f} s")
            self._rest(pause)
            wait = min(2 * wait, self._patience.longest)
        raise self.failed(f"{why}, {self._patience.tries} times in a row")

    def _rest(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise StoppedError(self.address.what)

    def _get(self, query: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        self._rest(0)
        begun = time.monotonic()
        with self._client.stream("GET", self.address.url, params=query) as response:
            if response.url.scheme == "http" and self.address.url.startswith("https:"):
                raise self.failed(
                    f"leads from https on to {without_secrets(str(response.url))}, which anybody on the way can "
                    "change",
                    later=False,
                )
            pieces, size = [], 0
            for piece in response.iter_bytes():
                pieces.append(piece)
                size += len(piece)
                if size > MAX_LINE:  # hangs up, which costs the connection and not the fetch
                    return response.status_code, response.headers, b""
        self._rest(min(self._patience.pause * (time.monotonic() - begun), self._patience.first))
        return response.status_code, response.headers, b"".join(pieces)

    def _understood(
        self, status: int, answer: dict[str, Any] | None, body: bytes, one_page: bool
    ) -> tuple[str, bool]:
        """Why there is no answer, in words, and whether it is only that the server is busy.

        Raises:
            _PageError: This page cannot be had.
            FetchError: Waiting does not help.
        """
        error = _mapping(answer or {}, "error")
        code = str(error.get("code") or "")
        if code:
            why = f"{code}: {' '.join(str(error.get('info') or '').split())[:300]}".rstrip(": ")
            if code in _BUSY or _FAULT.search(code):
                return why, code in _BUSY
            if one_page and code not in _CLOSED:
                raise _PageError(why)
            raise self.failed(f"refuses: {why}", later=False)
        heading = _heading(body)
        if status == 429 or status >= 500:
            return f"HTTP {status}{heading}", status in (429, 503)
        if status in (401, 403, 407):
            raise self.failed(f"refuses with HTTP {status}{heading}", later=False)
        if status in (404, 410):
            raise self.failed(
                f"HTTP {status}: there is no API at {without_secrets(self.address.url)}", later=False
            )
        if status == 200 and one_page and not body:
            raise _PageError(f"an empty answer, or one of more than {MAX_LINE:,} bytes")
        if body.lstrip()[:1] == b"<":
            raise self.failed(
                f"a page for people came instead of data{heading}: a login, a test for robots, or a wiki that has "
                "moved",
                later=False,
            )
        return f"HTTP {status} and no JSON", False

    def _alive(self) -> bool:
        """Whether the wiki answers at all, so that a fault is the page's."""
        query = {"action": "query", "meta": "siteinfo", "format": "json", "formatversion": 2}
        try:
            status, _, body = self._get(query)
        except self._http.HTTPError:
            return False
        return status == 200 and "query" in (_decoded(body) or {})


def _decoded(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _plain(words: str) -> str:
    """Words of a wiki without what would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in words)


def _heading(body: bytes) -> str:
    """The title of a page of HTML, in brackets; empty where there is none."""
    found = _TITLE.search(body[:20_000].decode("utf-8", "replace"))
    words = " ".join(found[1].split())[:80] if found else ""
    return f" ({words})" if words else ""
