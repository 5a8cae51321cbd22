"""Downloads that go on where they were cut off, wait when told to, and say what came instead of the file.

A file is written beside its place, as ``.NAME.http.part`` with what is known of it in ``.NAME.http.part.json``, and is
renamed once its size and SHA-256 are right. Builds pass over names that begin with a dot.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from meadow.fetch import pages
from meadow.fetch.addresses import Address, without_secrets
from meadow.fetch.outcome import Fetched, FetchError, FetchStoppedError, Progress, Silent, sha256_of
from meadow.fetch.transport import HttpClient, LaterError, asks_password, led_off_https, retry_after

#: Kept free on disk beside the file, so that a full disk does not stop everything else.
_SPARE = 64 * 2**20
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
#: Answers that mean "later": RFC 9110 and 6585, and what proxies of large hosts add (509, 520 to 524).
_LATER = {408, 425, 429, *range(500, 600)} - {501, 505}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a download waits, in seconds, and how often it begins again.

    Attributes:
        connect: For a connection.
        read: For the next bytes.
        tries: Attempts in a row that bring no byte.
        unreachable: The same where no connection comes about: a host that is gone stays gone.
        attempts: Attempts in all; a host that always cuts off would else be asked for ever.
        first_wait: Before the second attempt; each next pause is twice as long.
        longest_wait: A pause, whatever `Retry-After` asks; a longer one ends the attempt with its length.
        slowest: Bytes a second, on average over `window`; what comes slower is cut off and begun again.
        window: Seconds.
    """

    connect: float = 20
    read: float = 60
    tries: int = 6
    unreachable: int = 3
    attempts: int = 60
    first_wait: float = 1
    longest_wait: float = 300
    slowest: float = 100
    window: float = 120


class PartialFile:
    """The unfinished file beside its place, and what is known of it.

    Attributes:
        path: ``.NAME.http.part``.
        size: Bytes that are there.
        facts: `url`, `etag`, `modified` and `total` of what is being fetched; empty at the beginning.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}.http.part")
        self._note = target.with_name(f".{target.name}.http.part.json")
        self._stream: BinaryIO | None = None
        self.facts: dict[str, Any] = {}
        self.size = 0
        with contextlib.suppress(OSError, ValueError):
            facts = json.loads(self._note.read_text(encoding="utf-8"))
            self.size = self.path.stat().st_size
            self.facts = facts if isinstance(facts, dict) and self.size else {}
        self.size = self.size if self.facts else 0

    @property
    def total(self) -> int | None:
        """How large it will be, if that is known."""
        total = self.facts.get("total")
        return total if isinstance(total, int) and total > 0 else None

    def begin(self, facts: dict[str, Any]) -> None:
        """Empties the file and notes what will be in it."""
        self.drop()  # the note first: it must never speak of other bytes than those beside it
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        self._note.write_text(json.dumps(facts), encoding="utf-8")
        self.facts = facts

    def write(self, data: bytes) -> None:
        """Adds bytes at the end."""
        if self._stream is None:
            self._stream = self.path.open("ab", buffering=0)
        view = memoryview(data)
        while view:
            done = self._stream.write(view)
            self.size += done
            view = view[done:]

    def close(self) -> None:
        """Closes the file; it stays."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def drop(self) -> None:
        """Removes it."""
        self.close()
        self._note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        self.facts, self.size = {}, 0

    def finish(self) -> None:
        """Puts the file in its place."""
        self.close()
        with self.path.open("ab") as stream:
            os.fsync(stream.fileno())
        self.path.replace(self.target)
        self._note.unlink(missing_ok=True)


@dataclass
class _Way:
    """What attempts learn about an address.

    Attributes:
        url: Where to ask.
        spliced: Whether the file is put together from several answers.
        whole: Whether to ask for all of it, since ranges do not work.
        followed: Whether a page before a large download has been passed.
    """

    url: str
    spliced: bool = False
    whole: bool = False
    followed: bool = False


class Downloader:
    """Fetches files; one may serve several threads.

    Args:
        patience: How long to wait, and how often to try.
        progress: Is told how far it is.
        stop: Once set, downloads end with `FetchStoppedError` at the next bytes or pause.
    """

    def __init__(
        self,
        patience: Patience | None = None,
        progress: Progress | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self.patience, self.progress = patience or Patience(), progress or Silent()
        self.stop = stop or threading.Event()
        headers = {"Accept-Encoding": "identity", "Accept": "*/*"}
        self.http = HttpClient(self.patience.connect, self.patience.read, headers)

    def __enter__(self) -> Downloader:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def get(self, address: Address, folder: Path) -> Fetched:
        """Downloads a file, going on with what an earlier attempt left.

        Args:
            address: What to fetch; its size and SHA-256 are checked where declared.
            folder: The source's folder; nothing may be in the file's place there yet.

        Raises:
            FetchError: It could not be had; says why, and what can be done.
            FetchStoppedError: It was told to stop.
        """
        part, way = PartialFile(folder / address.file), _Way(address.download)
        try:
            if part.size and not _fits(part, address):
                part.drop()
            way.spliced = part.size > 0
            try:
                return self._whole(address, part, way)
            except FetchError:
                # Pieces of two files put together look like this; one whole download tells them apart.
                if part.size or not way.spliced:
                    raise
                self.progress.say(f"{address.what}: the pieces do not fit together; fetching it anew")
                return self._whole(address, part, _Way(address.download))
        finally:
            part.close()

    def peek(self, url: str, what: str, most: int = 0) -> tuple[int, bytes]:
        """The status and the beginning of an answer, such as a mirror's list; `most` 0 asks for no content.

        Raises:
            FetchError: There is no answer, or no content and not for a clear reason (403, 404, 410).
        """
        found: list[tuple[int, bytes]] = []

        def once() -> None:
            with self.http.ask(url, what, {} if most else {"Range": "bytes=0-0"}) as response:
                if most and response.status_code not in (403, 404, 410):
                    self._check_status(response, what)
                found.append((response.status_code, _beginning(response.iter_bytes(), most)))

        self.patiently(what, None, once)
        return found[-1]

    def patiently(self, what: str, part: PartialFile | None, attempt: Callable[[], None]) -> None:
        """Runs an attempt until it is through, pausing after each `LaterError`; see `Patience`.

        Args:
            what: What errors call the matter.
            part: What grows while there is progress.
            attempt: Ends when all is there.
        """
        patience, barren = self.patience, 0
        for number in range(1, patience.attempts + 1):
            before = part.size if part else 0
            try:
                attempt()
                return
            except LaterError as error:
                problem = error
            barren = 1 if part and part.size > before else barren + 1
            tries = patience.tries if problem.reached else patience.unreachable
            if number == patience.attempts or barren >= tries:
                remedy = "Try again later; what is there is gone on with."
                if not problem.reached:
                    remedy = "Without a way to that host, use a mirror (--mirror) or a pack (--unpack)."
                said = problem.detail or "its host does not give it in one piece"
                raise FetchError(what, f"{said}; tried {number} times" if number > 1 else said, remedy)
            wait = problem.wait
            if wait is None:
                # So many do not come back at once.
                jitter = random.uniform(0.75, 1.25)  # noqa: S311
                wait = jitter * min(patience.first_wait * 2 ** (barren - 1), patience.longest_wait)
            elif wait > patience.longest_wait:
                said = f"{problem.detail} and asks to come back in {_duration(wait)}"
                raise FetchError(what, said, "Run the command again then; what is there is gone on with.")
            if problem.detail:
                self.progress.say(f"{what}: {problem.detail}; trying again in {_duration(wait)}")
            if self.stop.wait(wait):
                raise FetchStoppedError(what)

    def receive(
        self, chunks: Iterable[bytes], address: Address, part: PartialFile, total: int | None
    ) -> None:
        """Takes all bytes that come, as long as they are wanted, come fast enough and have room.

        Raises:
            LaterError: They ended early, or come too slowly.
            FetchError: More come than declared, or than the disk can hold.
            FetchStoppedError: It was told to stop.
        """
        most, looked = address.bytes, part.size
        mark, since = part.size, time.monotonic()
        _check_room(address, part, total)
        for chunk in chunks:
            if self.stop.is_set():
                raise FetchStoppedError(address.what)
            part.write(chunk)
            if part.size - looked >= _SPARE:  # others fill the disk, too, and a stream may have no end
                _check_room(address, part, total)
                looked = part.size
            self.progress(address.what, part.size, total or most)
            if most is not None and part.size > most:
                part.drop()
                said = f"more came than the declared {most:,} bytes"
                raise FetchError(
                    address.what, said, "Its publisher has changed it, or something on the way has."
                )
            passed = time.monotonic() - since
            if passed > self.patience.window:
                if (part.size - mark) / passed < self.patience.slowest:
                    raise LaterError(f"less than {self.patience.slowest:g} bytes a second come")
                mark, since = part.size, time.monotonic()
        if total is not None and part.size < total:
            raise LaterError(f"the connection ended after {part.size:,} of {total:,} bytes")

    def _whole(self, address: Address, part: PartialFile, way: _Way) -> Fetched:
        self.patiently(address.what, part, lambda: self._once(address, part, way))
        return settle(part, address)

    def _once(self, address: Address, part: PartialFile, way: _Way) -> None:
        """One attempt; ends when all bytes are there."""
        if part.size and part.size == (address.bytes or part.total):
            return  # the last run ended between the last byte and the rename
        headers = {}
        if part.size and not way.whole:
            headers["Range"] = f"bytes={part.size}-"
            validator = _validator(part.facts)
            if validator:
                headers["If-Range"] = validator
        with self.http.ask(way.url, address.what, headers) as response:
            if response.status_code == 416 and headers:
                raise _anew(part, way)
            self._check_status(response, address.what)
            astray = led_off_https(response, way.url)
            if astray and not address.sha256:
                raise FetchError(address.what, f"its host {astray}, and no SHA-256 is declared")
            encoded = response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")
            chunks = response.iter_bytes() if encoded else response.iter_raw()
            if response.status_code == 206:
                given = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
                if given is None or encoded or int(given[1]) != part.size:
                    raise _anew(part, way)
                total = _total(response, address, part.size, given[3])
                if part.total and total != part.total:
                    raise _anew(part, way)
                way.spliced = True
            else:
                start = self._look(chunks, response, address, way)
                total = None if encoded else _total(response, address)
                version = {
                    "etag": response.headers.get("ETag"),
                    "modified": response.headers.get("Last-Modified"),
                }
                part.begin({"url": without_secrets(address.download), **version, "total": total})
                part.write(start)
            self.receive(chunks, address, part, total)

    def _look(self, chunks: Iterator[bytes], response: Any, address: Address, way: _Way) -> bytes:
        """The first bytes, once it is clear that they are no web page or other format."""
        start, name = _beginning(chunks, 1024), address.file.lower()
        typed = response.headers.get("Content-Type", "").lower().startswith("text/html")
        wrong = pages.wrong_start(start, name)
        if not name.endswith((".html", ".htm")) and (pages.is_page(start) or (typed and wrong)):
            page = pages.explain(start + _beginning(chunks, pages.LOOKED_AT - len(start)), str(response.url))
            if page.follow and not way.followed:
                way.url, way.followed = page.follow, True
                raise LaterError(wait=0)
            raise FetchError(address.what, page.detail, page.remedy)
        if not start:
            raise LaterError(f"{response.url.host} sent an empty file")
        if wrong:
            said = f"what came is no such file: {wrong}"
            raise FetchError(address.what, said, "Open the address in a browser.")
        return start

    def _check_status(self, response: Any, what: str) -> None:
        status, host = response.status_code, response.url.host
        if status in (200, 206):
            return
        if status in _LATER:
            word = "is busy" if status == 429 else "has trouble"
            wait = retry_after(response.headers.get("Retry-After"))
            raise LaterError(f"{host} {word} (HTTP {status})", wait)
        content = b""
        with contextlib.suppress(self.http.library.HTTPError):
            content = _beginning(response.iter_bytes(), pages.LOOKED_AT)
        said = pages.service_error(content)
        said = f" ({said})" if said else ""
        detail, remedy = f"{status} from {host}{said}", ""
        if status == 407:
            raise asks_password(what, str(response.url))
        page = pages.explain(content, str(response.url)) if pages.is_page(content) else None
        if page and page.telling and status not in (404, 410):
            detail, remedy = f"{status}: {page.detail}", page.remedy
        elif "expired" in said.lower():
            detail, remedy = f"{status}: the link has expired{said}", "Get a new link from the publisher."
        elif status in (404, 410):
            detail = f"{status}: it is not there (any more) at {host}{said}"
        elif status in (401, 403):
            detail = f"{status}: {host} does not give it to everybody{said}"
            remedy = "Its publisher may want you to sign in or to accept its terms first; see its page in a browser."
        elif status == 451:
            detail = f"{status}: {host} may not give it for legal reasons{said}"
        raise FetchError(what, f"HTTP {detail}", remedy)


def settle(part: PartialFile, address: Address) -> Fetched:
    """Checks a file that came in full and puts it in its place.

    Raises:
        FetchError: It is not what was declared, or no such file at all; nothing of it stays.
    """
    part.close()
    size, sha256 = part.size, sha256_of(part.path)
    wrong = address.difference(size, sha256)
    remedy = (
        "Its publisher has changed it, or something on the way has. Do not use it before you know which; "
        "a newer release of Meadow may declare the new file."
    )
    if not wrong:
        # The check looks at the name, for it knows formats by their endings.
        wrong, remedy = pages.wrong_structure(part.path, address.file), "Try again later."
        wrong = wrong and f"what came is no such file: {wrong}"
    if wrong:
        part.drop()
        raise FetchError(address.what, wrong, remedy)
    part.finish()
    return Fetched(address.source, address.file, "fetched", size, sha256, without_secrets(address.url))


def _check_room(address: Address, part: PartialFile, total: int | None) -> None:
    """Raises `FetchError` where the disk cannot hold what is still to come."""
    folder = part.target.parent
    needed, free = None if total is None else total - part.size, shutil.disk_usage(folder).free
    if (needed or 0) + _SPARE > free:
        come = "more is" if needed is None else f"{needed / 1e6:,.1f} MB are"
        said = f"{come} still to come, and {folder} has {free / 1e6:,.1f} MB free"
        raise FetchError(address.what, said, "Make room, or name another folder with --raw.")


def _fits(part: PartialFile, address: Address) -> bool:
    """Whether what an earlier run left can be gone on with."""
    if address.bytes is not None and part.size > address.bytes:
        return False
    if address.sha256:
        return True  # whatever is put together is checked at the end
    return part.facts.get("url") == without_secrets(address.download) and bool(_validator(part.facts))


def _validator(facts: dict[str, Any]) -> str | None:
    """What ``If-Range`` may hold: a strong ETag, else the date of the last change."""
    etag, modified = facts.get("etag"), facts.get("modified")
    # Some servers send letters that no request can send back.
    if isinstance(etag, str) and etag.startswith('"') and etag.isascii():
        return etag
    return modified if isinstance(modified, str) and modified.isascii() else None


def _anew(part: PartialFile, way: _Way) -> LaterError:
    """What is there cannot be gone on with: the next attempt begins at the first byte."""
    part.drop()
    way.whole = True
    return LaterError(wait=0)


def _total(response: Any, address: Address, have: int = 0, told: str = "*") -> int | None:
    """The size of the whole file, as an answer tells it: in its range, or by the length of what comes."""
    length = response.headers.get("Content-Length", "")
    total = have + int(length) if length.isdecimal() else None
    if told.isdecimal():
        total = int(told)
    if address.bytes is not None and total is not None and total != address.bytes:
        raise FetchError(
            address.what,
            f"its host has {total:,} bytes of it, declared are {address.bytes:,}",
            "Its publisher has changed it: a newer release of Meadow may declare the new file.",
        )
    return total


def _beginning(chunks: Iterator[bytes], most: int) -> bytes:
    """About the first `most` bytes of an answer; the rest can still be read."""
    start = b""
    while len(start) < most and (chunk := next(chunks, b"")):
        start += chunk
    return start


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
