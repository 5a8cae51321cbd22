"""Downloads that go on where they were cut off, wait when told to, and say what came instead of the file.

A file is written beside its place, as ``.NAME.http.part`` with what is known of it in ``.NAME.http.part.json``, and is
renamed once its size and SHA-256 are right. Builds pass over names that begin with a dot.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import json
import os
import random
import re
import shutil
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from meadow import __version__
from meadow.fetch import pages
from meadow.fetch.addresses import Address, Fetched, FetchError, Progress, Silent, without_secrets

#: How requests name themselves.
AGENT = f"meadow/{__version__} (rebuilds medical datasets from their publishers' files)"
#: The variables that name a private certificate authority, in the order in which they count.
CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
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


class StoppedError(Exception):
    """The download was told to stop; what is there stays."""


class _AgainError(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, detail: str, wait: float | None = None, reached: bool = True) -> None:
        super().__init__(detail)
        self.detail, self.wait, self.reached = detail, wait, reached


class _AnewError(Exception):
    """What is there cannot be gone on with: the next attempt begins at the first byte."""


def http() -> ModuleType:
    """The HTTP library that `huggingface_hub` brings: ``httpx2``, or ``httpx`` in its older releases."""
    try:
        import httpx2

        return httpx2
    except ImportError:
        import httpx

        return httpx


def certificates() -> ssl.SSLContext | bool:
    """The authorities to trust: those that a variable of `CA_VARIABLES` names, else the usual ones.

    Raises:
        FetchError: The variable names nothing usable.
    """
    for variable in CA_VARIABLES:
        value = os.environ.get(variable)
        if not value:
            continue
        folder = Path(value).is_dir()
        try:
            return ssl.create_default_context(**{"capath" if folder else "cafile": value})
        except OSError as error:  # ssl.SSLError is one
            raise FetchError(
                variable,
                f"{value} cannot be used as certificates: {error.strerror or error}",
                "Name a PEM file that is there.",
            ) from None
    return True


def client(patience: Patience | None = None) -> Any:
    """An HTTP client with Meadow's name, the usual proxy and certificate variables, and bounded waits."""
    patience = patience or Patience()
    return new_client(
        headers={"User-Agent": AGENT, "Accept-Encoding": "identity", "Accept": "*/*"},
        timeout=http().Timeout(patience.read, connect=patience.connect),
        max_redirects=10,
    )


def new_client(**settings: Any) -> Any:
    """A client of the HTTP library that follows redirects and trusts `certificates`.

    Raises:
        FetchError: A variable names a proxy, or certificates, that cannot be used.
    """
    library, verify = http(), certificates()
    try:
        return library.Client(follow_redirects=True, verify=verify, **settings)
    except (ImportError, ValueError, library.InvalidURL) as error:
        # Only what the variables say comes in from outside. The library's words can hold part of a password.
        variables = "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY"
        if isinstance(error, ImportError):
            raise FetchError(
                variables,
                "a SOCKS proxy needs another package",
                "Run `pip install socksio`, or name an HTTP proxy.",
            ) from None
        raise FetchError(
            variables,
            "this is no address of a proxy",
            "Write http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT with special letters as %XX.",
        ) from None


def retry_after(value: str | None) -> float | None:
    """Seconds that a ``Retry-After`` asks for, given as a number or a date; None where it says nothing."""
    if not value:
        return None
    # Not isdigit() alone: it takes superscripts, too, of which no number can be made.
    if value.strip().isdecimal():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def by_hand(address: Address, folder: Path, homepage: str = "") -> str:
    """How to get a file without this command."""
    if address.wiki:
        wiki = urlsplit(address.url).hostname
        return (
            f"By hand: save pages of {wiki} as .html, or export them as XML (Special:Export), into {folder}"
        )
    page = f" (published at {homepage})" if homepage else ""
    return f"By hand: get {without_secrets(address.url)} with a browser{page} and put it here: {folder / address.file}"


def _note_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.http.part.json")


class Part:
    """The unfinished file beside its place, and what is known of it.

    Attributes:
        path: ``.NAME.http.part``.
        size: Bytes that are there.
        facts: `url`, `etag`, `modified` and `total` of what is being fetched; empty at the beginning.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path, self._note = self.path_of(target), _note_of(target)
        self.facts: dict[str, Any] = {}
        self.size = 0
        self._digest = hashlib.sha256()
        self._stream: Any = None
        self.resumed = False
        try:
            facts = json.loads(self._note.read_text(encoding="utf-8"))
            size = self.path.stat().st_size
        except (OSError, ValueError):
            return
        if isinstance(facts, dict) and size:
            self.facts, self.size, self.resumed = facts, size, True
            with self.path.open("rb") as stream:
                while data := stream.read(2**20):
                    self._digest.update(data)

    @staticmethod
    def path_of(target: Path) -> Path:
        """Where the unfinished file of a target lies."""
        return target.with_name(f".{target.name}.http.part")

    @staticmethod
    def total_of(target: Path) -> int | None:
        """How large it will be, if that is known."""
        try:
            total = json.loads(_note_of(target).read_text(encoding="utf-8"))["total"]
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return total if isinstance(total, int) and total > 0 else None

    def begin(self, facts: dict[str, Any]) -> None:
        """Empties the file and notes what will be in it."""
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._note.unlink()  # a note must never speak of other bytes than those beside it
        self._stream = self.path.open("wb", buffering=0)
        self._note.write_text(json.dumps(facts), encoding="utf-8")
        self.facts, self.size, self.resumed = facts, 0, False
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Adds bytes at the end."""
        if self._stream is None:
            self._stream = self.path.open("ab", buffering=0)
        view = memoryview(data)
        while view:
            done = self._stream.write(view)
            self._digest.update(view[:done])
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
        for path in (self.path, self._note):
            path.unlink(missing_ok=True)
        self.facts, self.size, self.resumed = {}, 0, False
        self._digest = hashlib.sha256()

    def finish(self) -> str:
        """Puts the file in its place; returns its SHA-256."""
        if self._stream is None:
            self._stream = self.path.open("ab", buffering=0)
        os.fsync(self._stream.fileno())
        self.close()
        self.path.replace(self.target)
        self._note.unlink(missing_ok=True)
        return self._digest.hexdigest()

    @property
    def sha256(self) -> str:
        """Of what is there."""
        return self._digest.hexdigest()


def settle(part: Part, address: Address) -> str:
    """Checks a file that came in full and puts it in its place.

    Returns:
        Its SHA-256.

    Raises:
        FetchError: It is not what was declared, or no such file at all; nothing of it stays.
    """
    wrong = None
    if address.bytes is not None and part.size != address.bytes:
        wrong = f"it has {part.size:,} bytes, declared are {address.bytes:,}"
    elif address.sha256 and part.sha256 != address.sha256:
        wrong = f"its SHA-256 is {part.sha256}, declared is {address.sha256}"
    if wrong:
        part.drop()
        raise FetchError(
            address.what,
            wrong,
            "Its publisher has changed it, or something on the way has. Do not use it before you know which; "
            "a newer release of Meadow may declare the new file.",
        )
    part.close()
    # The check looks at the name, for it knows formats by their endings.
    wrong = pages.wrong_structure(part.path, address.file)
    if wrong:
        part.drop()
        raise FetchError(address.what, f"what came is no such file: {wrong}", "Try again later.")
    return part.finish()


def check_room(address: Address, folder: Path, needed: int | None) -> None:
    """Raises `FetchError` where a disk cannot hold that many more bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if (needed or 0) + _SPARE > free:
        come = "more is" if needed is None else f"{needed / 1e6:,.1f} MB are"
        raise FetchError(
            address.what,
            f"{come} still to come, and {folder} has {free / 1e6:,.1f} MB free",
            "Make room, or name another folder with --raw.",
        )


class Downloader:
    """Fetches files over HTTP; one may serve several threads.

    Args:
        patience: How long to wait, and how often to try.
        progress: Is told how far it is.
        stop: Once set, downloads end with `StoppedError` at the next bytes or pause.
    """

    def __init__(
        self,
        patience: Patience | None = None,
        progress: Progress | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self.patience, self.progress = patience or Patience(), progress or Silent()
        self.stop = stop or threading.Event()
        self._library = http()
        self._client: Any = None
        self._opening = threading.Lock()

    def open(self) -> Any:
        """The HTTP client; made when first needed, for a mirror in a folder needs no proxy that works.

        Raises:
            FetchError: A variable names a proxy, or certificates, that cannot be used.
        """
        with self._opening:
            if self._client is None:
                self._client = client(self.patience)
        return self._client

    def close(self) -> None:
        """Closes all connections."""
        if self._client is not None:
            self._client.close()

    def __enter__(self) -> Downloader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def text(self, url: str, what: str, limit: int = 4 * 2**20) -> str | None:
        """A small text file, or None where there is none: 404, 410, a web page, or 403, which is what buckets
        say of keys that they do not have and servers of names that begin with a dot.

        Raises:
            FetchError: It cannot be had, or is larger than `limit`.
        """
        found: list[str | None] = []

        def once() -> None:
            with self._asked(url, what, {}) as response:
                if response.status_code in (403, 404, 410):
                    found.append(None)
                    return
                self._check_status(response, what)
                data = b""
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > limit:
                        raise FetchError(what, f"{without_secrets(url)} is larger than {limit:,} bytes")
                found.append(None if pages.is_page(data) else data.decode("utf-8", "replace"))

        self._patiently(what, once, lambda: 0)
        return found[0]

    def is_there(self, url: str, what: str) -> bool:
        """Whether an address gives anything; False only for a clear no (404 or 410).

        Raises:
            FetchError: Its host cannot be asked.
        """
        found = []

        def once() -> None:
            with self._asked(url, what, {"Range": "bytes=0-0"}) as response:
                found.append(response.status_code not in (404, 410))

        self._patiently(what, once, lambda: 0)
        return found[0]

    def get(self, address: Address, target: Path) -> Fetched:
        """Downloads a file, going on with what an earlier attempt left.

        Args:
            address: What to fetch; its size and SHA-256 are checked where declared.
            target: Where it goes; nothing may be there yet.

        Raises:
            FetchError: It could not be had; says why, and what can be done.
            StoppedError: It was told to stop.
        """
        part = Part(target)
        state = _State(address.download)
        if part.size and not self._fits(part, address, state):
            part.drop()
        for last in (False, True):
            try:
                spliced = part.resumed
                self._patiently(
                    address.what, lambda state=state: self._once(address, part, state), lambda: part.size
                )
                digest = settle(part, address)
                break
            except FetchError:
                # Pieces of two files put together look like this; one whole download tells them apart.
                if last or not (spliced or state.spliced) or part.size:
                    raise
                self.progress.say(f"{address.what}: the pieces do not fit together; fetching it anew")
                state = _State(address.download)
            except OSError as error:
                raise FetchError(
                    address.what,
                    f"cannot write {target}: {error.strerror or error}",
                    "Make room or name another folder with --raw; what is there is gone on with.",
                ) from error
            finally:
                part.close()
        return Fetched(
            address.source,
            address.file,
            "fetched",
            target.stat().st_size,
            digest,
            without_secrets(address.url),
        )

    def _fits(self, part: Part, address: Address, state: _State) -> bool:
        """Whether what an earlier run left can be gone on with."""
        if address.bytes is not None and part.size > address.bytes:
            return False
        if address.sha256:
            return True  # whatever is put together is checked at the end
        same = part.facts.get("url") == without_secrets(state.url)
        return same and bool(_validator(part.facts))

    def _patiently(self, what: str, attempt: Any, size: Any) -> None:
        """Runs an attempt until it is through, pausing between; see `Patience`."""
        patience = self.patience
        barren = 0
        for number in range(1, patience.attempts + 1):
            before = size()
            try:
                attempt()
                return
            except _AnewError:
                continue
            except _AgainError as problem:
                barren = 1 if size() > before else barren + 1
                if number == patience.attempts or barren >= (
                    patience.tries if problem.reached else patience.unreachable
                ):
                    raise FetchError(
                        what,
                        f"{problem.detail}; tried {number} times" if number > 1 else problem.detail,
                        "Try again later; what is there is gone on with."
                        if problem.reached
                        else "Without a way to that host, use a mirror (--mirror) or a pack (--unpack).",
                    ) from None
                wait = problem.wait
                if wait is None:
                    wait = min(patience.first_wait * 2 ** (barren - 1), patience.longest_wait)
                    wait *= random.uniform(0.75, 1.25)  # noqa: S311 - so that many do not come back at once
                elif wait > patience.longest_wait:
                    raise FetchError(
                        what,
                        f"{problem.detail} and asks to come back in {_duration(wait)}",
                        "Run the command again then; what is there is gone on with.",
                    ) from None
                self.progress.say(f"{what}: {problem.detail}; trying again in {_duration(wait)}")
                if self.stop.wait(wait):
                    raise StoppedError(what) from None
        raise FetchError(
            what, f"its host did not give it in {patience.attempts} attempts", "Try again later."
        )

    @contextlib.contextmanager
    def _asked(self, url: str, what: str, headers: dict[str, str]) -> Any:
        """The answer to a request, with the library's errors turned into ours."""
        library, parts = self._library, urlsplit(url)
        host = parts.hostname or url
        secret = None
        if "@" in parts.netloc:
            # Kept out of the address, which errors and logs show.
            user, _, password = parts.netloc.rpartition("@")[0].partition(":")
            secret = (unquote(user), unquote(password))
            url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        try:
            with self.open().stream("GET", url, headers=headers, auth=secret) as response:
                yield response
        except library.ProxyError as error:
            if "407" in str(error):
                raise _asks_password(what, url) from None
            raise _AgainError(
                f"the proxy does not let us through: {_cause(error)}{_proxy(url)}", reached=False
            ) from None
        except (library.ConnectError, library.ConnectTimeout) as error:
            for cause in _causes(error):
                if isinstance(cause, ssl.SSLError):
                    raise FetchError(
                        what,
                        f"{host} shows a certificate that is not trusted: "
                        f"{getattr(cause, 'verify_message', '') or cause.reason or cause}{_proxy(url)}",
                        "If your network has a certificate authority of its own, name its PEM file in SSL_CERT_FILE "
                        "or REQUESTS_CA_BUNDLE.",
                    ) from None
                if isinstance(cause, socket.gaierror):
                    raise _AgainError(
                        f"there is no host {host} to be found from here{_proxy(url)}", reached=False
                    ) from None
            raise _AgainError(
                f"no connection to {host}: {_cause(error)}{_proxy(url)}", reached=False
            ) from None
        except library.TimeoutException:
            raise _AgainError(f"{host} has sent nothing for {self.patience.read:g} s") from None
        except (library.UnsupportedProtocol, library.InvalidURL):
            raise FetchError(
                what,
                f"{host} leads on to something that is no http or https address",
                "Open the address in a browser.",
            ) from None
        except library.TooManyRedirects:
            raise FetchError(
                what, f"{host} leads round in circles", "Open the address in a browser."
            ) from None
        except library.DecodingError as error:
            raise _AgainError(f"{host} sent damaged compressed data: {error}") from None
        except library.TransportError as error:
            raise _AgainError(f"{host} cut the connection: {_cause(error)}") from None

    def _once(self, address: Address, part: Part, state: _State) -> None:
        """One attempt; ends when all bytes are there."""
        total = address.bytes or part.facts.get("total")
        if part.size and part.size == total:
            return  # the last run ended between the last byte and the rename
        headers = {}
        if part.size and not state.whole:
            headers["Range"] = f"bytes={part.size}-"
            validator = _validator(part.facts)
            if validator:
                headers["If-Range"] = validator
        with self._asked(state.url, address.what, headers) as response:
            if response.status_code == 416 and "Range" in headers:
                part.drop()
                state.whole = True
                raise _AnewError
            self._check_status(response, address.what)
            if (
                str(response.url).startswith("http:")
                and state.url.startswith("https:")
                and not address.sha256
            ):
                raise FetchError(
                    address.what,
                    f"its host leads from https on to {without_secrets(str(response.url))}, which anybody on the way "
                    "can change, and no SHA-256 is declared",
                )
            encoded = response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")
            if response.status_code == 206:
                self._check_range(response, part, state)
                total = self._total(response, address, part.size)
                state.spliced = True
                chunks = response.iter_raw()
            else:
                chunks = response.iter_bytes() if encoded else response.iter_raw()
                start = self._look(chunks, response, address, state)
                total = None if encoded else self._total(response, address, 0)
                part.begin(
                    {
                        "url": without_secrets(address.download),
                        "etag": response.headers.get("ETag"),
                        "modified": response.headers.get("Last-Modified"),
                        "total": total,
                    }
                )
                part.write(start)
            check_room(address, part.target.parent, None if total is None else total - part.size)
            self._take(chunks, address, part, total)

    def _check_range(self, response: Any, part: Part, state: _State) -> None:
        given = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        known = part.facts.get("total")
        if (
            given is None
            or int(given[1]) != part.size
            or (known and given[3] != "*" and int(given[3]) != known)
            or response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")
        ):
            part.drop()
            state.whole = True
            raise _AnewError

    def _total(self, response: Any, address: Address, have: int) -> int | None:
        """The size of the whole file, as this answer tells it."""
        given = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        length = response.headers.get("Content-Length", "")
        total = None
        if response.status_code == 206 and given and given[3] != "*":
            total = int(given[3])
        elif length.isdigit():
            total = have + int(length)
        if address.bytes is not None and total is not None and total != address.bytes:
            raise FetchError(
                address.what,
                f"its host has {total:,} bytes of it, declared are {address.bytes:,}",
                "Its publisher has changed it: a newer release of Meadow may declare the new file.",
            )
        return total

    def _look(self, chunks: Any, response: Any, address: Address, state: _State) -> bytes:
        """The first bytes, once it is clear that they are no web page or other format."""
        start = b""
        for chunk in chunks:
            start += chunk
            if len(start) >= 1024:
                break
        name = address.file.lower()
        typed = response.headers.get("Content-Type", "").lower().startswith("text/html")
        wrong = pages.wrong_start(start, name)
        if not name.endswith((".html", ".htm")) and (pages.is_page(start) or (typed and wrong)):
            for chunk in chunks:
                start += chunk
                if len(start) >= pages.LOOKED_AT:
                    break
            self._page(start, response, address, state)
        if not start:
            raise _AgainError(f"{response.url.host} sent an empty file")
        if wrong:
            raise FetchError(
                address.what, f"what came is no such file: {wrong}", "Open the address in a browser."
            )
        return start

    def _page(self, content: bytes, response: Any, address: Address, state: _State) -> None:
        page = pages.explain(content, str(response.url))
        if page.follow and not state.followed:
            state.url, state.followed = page.follow, True
            raise _AnewError
        raise FetchError(address.what, page.detail, page.remedy)

    def _check_status(self, response: Any, what: str) -> None:
        status, host = response.status_code, response.url.host
        if status in (200, 206):
            return
        if status in _LATER:
            word = "is busy" if status == 429 else "has trouble"
            raise _AgainError(
                f"{host} {word} (HTTP {status})", retry_after(response.headers.get("Retry-After"))
            )
        content = b""
        with contextlib.suppress(self._library.HTTPError):
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) >= pages.LOOKED_AT:
                    break
        if pages.is_page(content):
            page = pages.explain(content, str(response.url))
            if page.kind in ("quota", "expired", "login", "blocked") and status not in (404, 410):
                raise FetchError(what, f"HTTP {status}: {page.detail}", page.remedy)
        said = pages.service_error(content)
        said = f" ({said})" if said else ""
        if "expired" in said.lower():
            raise FetchError(
                what, f"HTTP {status}: the link has expired{said}", "Get a new link from the publisher."
            )
        if status in (401, 403):
            raise FetchError(
                what,
                f"HTTP {status}: {host} does not give it to everybody{said}",
                "Its publisher may want you to sign in or to accept its terms first; see its page in a browser.",
            )
        if status in (404, 410):
            raise FetchError(what, f"HTTP {status}: it is not there (any more) at {host}{said}")
        if status == 407:
            raise _asks_password(what, str(response.url))
        if status == 451:
            raise FetchError(what, f"HTTP 451: {host} may not give it for legal reasons{said}")
        raise FetchError(what, f"HTTP {status} from {host}{said}")

    def _take(self, chunks: Any, address: Address, part: Part, total: int | None) -> None:
        most, looked = address.bytes, part.size
        mark, since = part.size, time.monotonic()
        for chunk in chunks:
            if self.stop.is_set():
                raise StoppedError(address.what)
            part.write(chunk)
            if part.size - looked >= _SPARE:  # others fill the disk, too, and a stream may have no end
                check_room(address, part.target.parent, None if total is None else total - part.size)
                looked = part.size
            self.progress(address.what, part.size, total or most)
            if most is not None and part.size > most:
                part.drop()
                raise FetchError(
                    address.what,
                    f"more came than the declared {most:,} bytes",
                    "Its publisher has changed it, or something on the way has.",
                )
            passed = time.monotonic() - since
            if passed > self.patience.window:
                if (part.size - mark) / passed < self.patience.slowest:
                    raise _AgainError(f"less than {self.patience.slowest:g} bytes a second come")
                mark, since = part.size, time.monotonic()
        if total is not None and part.size < total:
            raise _AgainError(f"the connection ended after {part.size:,} of {total:,} bytes")


@dataclass
class _State:
    """What attempts learn about an address.

    Attributes:
        url: Where to ask.
        whole: Whether to ask for all of it, since ranges do not work.
        followed: Whether a page before a large download has been passed.
        spliced: Whether the file is put together from several answers.
    """

    url: str
    whole: bool = False
    followed: bool = False
    spliced: bool = False


def _validator(facts: dict[str, Any]) -> str | None:
    """What ``If-Range`` may hold: a strong ETag, else the date of the last change."""
    etag, modified = facts.get("etag"), facts.get("modified")
    # Some servers send letters that no request can send back.
    if isinstance(etag, str) and etag.startswith('"') and etag.isascii():
        return etag
    return modified if isinstance(modified, str) and modified.isascii() else None


def _causes(error: BaseException | None) -> Any:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _cause(error: BaseException) -> str:
    """The system's words for an error, which name no address and so no password."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return re.sub(r"\w+://\S+", "an address", str(error))[:200] or type(error).__name__


def _proxy(url: str) -> str:
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return ""
    return f" (through the proxy {without_secrets(proxy if '://' in proxy else f'http://{proxy}')})"


def _asks_password(what: str, url: str) -> FetchError:
    return FetchError(
        what,
        f"the proxy asks for a user and a password{_proxy(url)}",
        "Put them into the variable: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT.",
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
