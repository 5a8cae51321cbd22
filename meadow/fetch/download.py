"""Downloads that go on where they were cut off, wait when told to, and say what came instead of the file."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from meadow.fetch import pages
from meadow.fetch.addresses import Address, without_secrets
from meadow.fetch.outcome import Fetched, FetchError, FetchStoppedError, Progress
from meadow.fetch.partial import ALTERED, NEWER, SPARE, PartialFile, PartNote
from meadow.fetch.transport import HttpClient, LaterError, beginning, check_status, led_off_https

T = TypeVar("T")

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a download waits, in seconds, and how often it begins again.

    Attributes:
        connect, read: For a connection, and for the next bytes.
        tries, unreachable: Attempts in a row that bring no byte, or not even a connection.
        attempts: Attempts in all; a host that always cuts off would else be asked for ever.
        first_wait: Before the second attempt; each next pause is twice as long.
        longest_wait: A pause, whatever `Retry-After` asks; a longer one ends the attempt with its length.
        slowest, window: Bytes a second on average over so many seconds; what comes slower is begun again.
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


class Downloader(AbstractContextManager):
    """Fetches files, also from several threads; once `stop` is set, they end at the next bytes or pause."""

    def __init__(
        self, patience: Patience | None, progress: Progress, stop: threading.Event | None = None
    ) -> None:
        self.patience, self.progress = patience or Patience(), progress
        self.stop = stop or threading.Event()
        headers = {"Accept-Encoding": "identity", "Accept": "*/*"}
        self.http = HttpClient(self.patience.connect, self.patience.read, headers)

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def get(self, address: Address, folder: Path) -> Fetched:
        """Downloads a file into its source's folder, going on with what an earlier attempt left.

        A `FetchError` says why it could not be had, and what can be done; else it was told to stop.
        """
        with closing(PartialFile(folder, address)) as part:
            if part.facts:
                # What is put together is checked at the end where a hash is declared.
                same = part.facts.validator and part.facts.url == without_secrets(address.download)
                too_long = address.bytes is not None and part.size > address.bytes
                if too_long or not (address.sha256 or same):
                    part.drop()
            download = _Download(self, part)
            try:
                return download.run()
            except FetchError:
                # Pieces of two files put together look like this; one whole download tells them apart.
                if part.size or not download.spliced:
                    raise
            self.progress.say(f"{address.what}: the pieces do not fit together; fetching it anew")
            return _Download(self, part).run()

    def peek(self, url: str, what: str, most: int = 0) -> tuple[int, bytes]:
        """The status and the beginning of an answer, such as a mirror's list; `most` 0 asks for no content.

        An answer without content is a `FetchError`, unless the reason is clear (403, 404, 410).
        """

        def once() -> tuple[int, bytes]:
            with self.http.ask(url, what, {} if most else {"Range": "bytes=0-0"}) as response:
                if most and response.status_code not in (403, 404, 410):
                    check_status(response, what)
                return response.status_code, beginning(response.iter_bytes(), most)

        return self.patiently(what, once)

    def patiently(self, what: str, attempt: Callable[[], T], part: PartialFile | None = None) -> T:
        """Runs an attempt until it is through, pausing after each `LaterError`; `part` grows while there is progress."""
        patience, barren, number = self.patience, 0, 0
        while True:
            before = part.size if part else 0
            try:
                return attempt()
            except LaterError as error:
                problem, wait = error, error.wait
            number += 1
            barren = 1 if part and part.size > before else barren + 1
            if number == patience.attempts or barren >= (
                patience.tries if problem.reached else patience.unreachable
            ):
                remedy = "Try again later; what is there is gone on with."
                if not problem.reached:
                    remedy = "Without a way to that host, use a mirror (--mirror) or a pack (--unpack)."
                said = problem.detail or "its host does not give it in one piece"
                raise FetchError(what, f"{said}; tried {number} times" if number > 1 else said, remedy)
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

    def receive(self, chunks: Iterable[bytes], part: PartialFile, total: int | None) -> None:
        """Takes all bytes that come; too few or too slow is a `LaterError`, too many a `FetchError`."""
        what, most = part.address.what, part.address.bytes
        looked = mark = part.size
        since = time.monotonic()
        part.check_room(total)
        for chunk in chunks:
            if self.stop.is_set():
                raise FetchStoppedError(what)
            part.write(chunk)
            if part.size - looked >= SPARE:  # others fill the disk, too, and a stream may have no end
                part.check_room(total)
                looked = part.size
            self.progress(what, part.size, total or most)
            if most is not None and part.size > most:
                part.drop()
                raise FetchError(what, f"more came than the declared {most:,} bytes", ALTERED)
            passed = time.monotonic() - since
            if passed > self.patience.window:
                if (part.size - mark) / passed < self.patience.slowest:
                    raise LaterError(f"less than {self.patience.slowest:g} bytes a second come")
                mark, since = part.size, time.monotonic()
        if total is not None and part.size < total:
            raise LaterError(f"the connection ended after {part.size:,} of {total:,} bytes")


class _Download:
    """The download of one file, with what its attempts learn about the address."""

    def __init__(self, downloader: Downloader, part: PartialFile) -> None:
        self._downloader, self._part, self._address = downloader, part, part.address
        self._url = part.address.download
        self.spliced = part.size > 0  # put together from several answers
        self._ranges = True

    def run(self) -> Fetched:
        self._downloader.patiently(self._address.what, self._once, self._part)
        return self._part.settle()

    def _once(self) -> None:
        part, address, what = self._part, self._address, self._address.what
        if part.size and part.size == (address.bytes or part.total):
            return  # the last run ended between the last byte and the rename
        headers = {}
        if part.facts and part.size and self._ranges:
            validator = part.facts.validator
            headers = {"Range": f"bytes={part.size}-", **({"If-Range": validator} if validator else {})}
        with self._downloader.http.ask(self._url, what, headers) as response:
            if response.status_code == 416 and headers:
                raise self._anew()
            check_status(response, what)
            astray = led_off_https(response, self._url)
            if astray and not address.sha256:
                raise FetchError(what, f"its host {astray}, and no SHA-256 is declared")
            told = response.headers
            encoded = told.get("Content-Encoding", "identity").lower() not in ("", "identity")
            chunks = response.iter_bytes() if encoded else response.iter_raw()
            if response.status_code == 206:
                given = _CONTENT_RANGE.fullmatch(told.get("Content-Range", ""))
                if given is None or encoded or int(given[1]) != part.size:
                    raise self._anew()
                total = self._total(response, part.size, given[3])
                if part.total and total != part.total:
                    raise self._anew()
                self.spliced = True
            else:
                start = self._look(chunks, response)
                total = None if encoded else self._total(response)
                versions = {"etag": told.get("ETag"), "modified": told.get("Last-Modified")}
                part.begin(PartNote(url=without_secrets(address.download), total=total, **versions))
                part.write(start)
            self._downloader.receive(chunks, part, total)

    def _anew(self) -> LaterError:
        """What is there cannot be gone on with: the next attempt begins at the first byte."""
        self._part.drop()
        self._ranges = False
        return LaterError(wait=0)

    def _look(self, chunks: Iterator[bytes], response: Any) -> bytes:
        """The first bytes, once it is clear that they are no web page or other format."""
        what, name = self._address.what, self._address.file.lower()
        start = beginning(chunks, 1024)
        typed = response.headers.get("Content-Type", "").lower().startswith("text/html")
        wrong = pages.wrong_start(start, name)
        if not name.endswith((".html", ".htm")) and (pages.is_page(start) or (typed and wrong)):
            page = pages.explain(start + beginning(chunks, pages.LOOKED_AT - len(start)), str(response.url))
            if page.follow and self._url == self._address.download:
                self._url = page.follow
                raise LaterError(wait=0)
            raise FetchError(what, page.detail, page.remedy)
        if not start:
            raise LaterError(f"{response.url.host} sent an empty file")
        if wrong:
            raise FetchError(what, f"what came is no such file: {wrong}", "Open the address in a browser.")
        return start

    def _total(self, response: Any, have: int = 0, told: str = "*") -> int | None:
        """The size of the whole file, as an answer tells it: in its range, or by the length of what comes."""
        length, declared = response.headers.get("Content-Length", ""), self._address.bytes
        total = have + int(length) if length.isdecimal() else None
        if told.isdecimal():
            total = int(told)
        if declared is not None and total is not None and total != declared:
            said = f"its host has {total:,} bytes of it, declared are {declared:,}"
            raise FetchError(self._address.what, said, f"Its publisher has changed it: a {NEWER}")
        return total


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
