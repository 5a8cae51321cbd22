"""JSON over HTTP to a server on the user's own network, tried again where that may help.

What is sent may be others' property, so a host outside private networks is refused unless it is allowed. Nothing is
sent through a proxy, no redirection is followed, and the key is in no message. The standard library does it: a request
has one time limit from beginning to end, and one that waits can be broken off from another thread, for both of which
the socket is needed.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import ipaddress
import json
import os
import random
import re
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

from meadow.models.errors import ModelError

__all__ = ["KEY", "EndpointError", "Server"]

#: The environment variable that holds the key, if the server wants one.
KEY = "MEADOW_API_KEY"
_EXAMPLE = "give one such as http://localhost:8000/v1"
#: Answers that may be other ones a moment later.
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
#: The first wait in seconds; each one after it is twice as long, up to the longest.
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
#: A server that wants a longer pause than this is not waited for.
_LONGEST_ASKED = 300.0
#: Log-probabilities of a prompt of 4,000 tokens take under 1 MB.
_MOST_BYTES = 64 * 2**20


class EndpointError(ModelError):
    """A server that cannot be used, without the key; `status` is that of an answer by which it refused."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Server:
    """A server, asked from any number of threads.

    Args:
        url: Such as ``http://localhost:8000/v1``; ``/v1`` may be left away.
        timeout: Seconds for one request, from beginning to end.
        retries: How often a request is tried again.
        key_variable: The environment variable that holds the key; it may be unset.
        allow_public: Let what is sent leave private networks.

    Raises:
        EndpointError: The address or the key cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 300.0,
        retries: int = 5,
        key_variable: str = KEY,
        allow_public: bool = False,
    ) -> None:
        secure, self._host, self._port, self._path = _address(url)
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.where = f"{'https' if secure else 'http'}://{host}:{self._port}{self._path}"
        self._key_variable = key_variable
        self._key = os.environ.get(key_variable, "").strip()
        if self._key and not re.fullmatch(r"[\x21-\x7e]+", self._key):
            raise EndpointError(f"${key_variable}: a key is letters, digits and signs without a space in it")
        if timeout <= 0 or retries < 0:
            raise EndpointError("a timeout is over 0 seconds, retries are 0 or more")
        self._timeout, self._retries = timeout, retries
        self._trust = ssl.create_default_context() if secure else None
        self._closed = threading.Event()
        self._connections: list[http.client.HTTPConnection] = []
        # Those that no thread uses now; they are kept open.
        self._idle: list[http.client.HTTPConnection] = []
        if not allow_public:
            self._refuse_public()

    def close(self) -> None:
        """Breaks off what is under way, and lets no more be asked."""
        self._closed.set()
        for sock in [each.sock for each in self._connections if each.sock is not None]:
            # A thread that waits in a read is woken by this, and not by closing alone.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON that a request is answered, sent again while that may help; a GET without a body.

        Raises:
            EndpointError: It is not answered, or refused; the message says what to do about it.
        """
        data = None if body is None else json.dumps(body).encode()
        trouble, wait = "", 0.0
        for attempt in range(self._retries + 1):
            if self._closed.wait(wait):
                raise EndpointError(f"{self.where}{path}: broken off")
            # Waits of requests that failed together differ, so that they do not fail together again.
            wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1.0)
            try:
                status, pause, said = self._send(path, data)
            except (OSError, http.client.HTTPException) as error:
                if self._closed.is_set():
                    raise EndpointError(f"{self.where}{path}: broken off") from None
                trouble = self._trouble(error)
                continue
            if status == 200:
                try:
                    return json.loads(said)
                except (ValueError, RecursionError):
                    trouble = f"its answer is no JSON: {self.excerpt(said)}"
                    continue
            if status not in _AGAIN:
                raise self._refused(path, status, said, body)
            trouble = f"status {status}: {self.excerpt(said)}"
            if pause > _LONGEST_ASKED:
                raise EndpointError(
                    f"{self.where}{path}: it asks to wait {pause:.0f} seconds ({trouble}); run the same "
                    "command again then, it goes on where it stopped"
                )
            wait = max(wait, pause)
        times = "once" if not self._retries else f"{self._retries + 1} times"
        raise EndpointError(
            f"{self.where}{path}: tried {times}, at last {trouble}. See to the server (does it run, is it overloaded? "
            "--concurrency asks for less at once), and run the same command again: it goes on where it stopped"
        )

    def _refused(self, path: str, status: int, said: bytes, body: Mapping[str, Any] | None) -> EndpointError:
        if status in (401, 403):
            has = "is not taken" if self._key else "is wanted"
            what = f"a key {has}; put the right one into the environment variable {self._key_variable}"
        elif 300 <= status < 400:
            what = "it redirects, which is not followed; give the address that it redirects to"
        elif status in (404, 405, 501):
            asked = "" if body is None else f" or no model {body.get('model')!r}"
            what = f"it has no such path{asked}; look at address and name of the model"
        else:
            what = "it refuses the request; look at what it says, and at its own log"
        what += f". It says: {self.excerpt(said)}"
        return EndpointError(f"{self.where}{path}: status {status}, {what}", status)

    def _send(self, path: str, data: bytes | None) -> tuple[int, float, bytes]:
        """An answer's status, the seconds that it asks to wait, and its body."""
        end = time.monotonic() + self._timeout
        headers = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": "meadow"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        connection = self._connection()
        kept = connection.sock is not None
        try:
            if kept:
                connection.sock.settimeout(self._timeout)
            connection.request("GET" if data is None else "POST", self._path + path, data, headers)
            # An answer may take it over from the connection.
            sock = connection.sock
            with connection.getresponse() as answer:
                found = bytearray()
                while True:
                    # A server that sends a byte now and then would keep any single read happy.
                    left = end - time.monotonic()
                    if left <= 0:
                        raise TimeoutError
                    sock.settimeout(left)
                    piece = answer.read1(1 << 16)
                    if not piece:
                        break
                    found += piece
                    if len(found) > _MOST_BYTES:
                        raise http.client.HTTPException(f"its answer is over {_MOST_BYTES >> 20} MB")
                if answer.length:
                    raise http.client.IncompleteRead(b"", answer.length)
                return answer.status, _seconds(answer.headers.get("Retry-After")) or 0.0, bytes(found)
        except BaseException as error:
            # It opens again when it is next used.
            connection.close()
            if not (kept and isinstance(error, ConnectionError)) or self._closed.is_set():
                raise
        finally:
            self._idle.append(connection)
        # The server had closed what was kept open.
        return self._send(path, data)

    def _connection(self) -> http.client.HTTPConnection:
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        where = self._host, self._port
        if self._trust is None:
            made = http.client.HTTPConnection(*where, timeout=self._timeout)
        else:
            made = http.client.HTTPSConnection(*where, timeout=self._timeout, context=self._trust)
        self._connections.append(made)
        return made

    def _trouble(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            raise EndpointError(
                f"{self.where}: its certificate cannot be trusted ({error.verify_message}); name your own "
                "authority's file in $SSL_CERT_FILE"
            ) from None
        if isinstance(error, TimeoutError):
            return f"no whole answer in {self._timeout:g} seconds (--timeout)"
        if isinstance(error, ConnectionRefusedError):
            return "nothing listens there"
        if isinstance(error, (http.client.IncompleteRead, http.client.RemoteDisconnected, ConnectionError)):
            return "the connection broke off"
        return self.excerpt(str(error) or type(error).__name__)

    def excerpt(self, found: Any) -> str:
        """The beginning of what a server said; without the key, which some servers repeat."""
        if isinstance(found, bytes):
            found = found[:4000].decode("utf-8", "replace")
        elif not isinstance(found, str):
            found = json.dumps(found)[:4000]
        if self._key:
            found = found.replace(self._key, "***")
        found = " ".join("".join(c if c.isprintable() else " " for c in found).split())
        return found if len(found) <= 300 else found[:296] + " ..."

    def _refuse_public(self) -> None:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise EndpointError(f"{self.where}: there is no host {self._host!r}") from None
        addresses = {str(entry[4][0]).partition("%")[0] for entry in found}
        public = sorted(a for a in addresses if ipaddress.ip_address(a).is_global)
        if public:
            raise EndpointError(
                f"{self.where}: {public[0]} is no address of a private network. What is sent, such as an exam's "
                "questions, may be others' property and would leave yours; --allow-public says that it may"
            )


def _seconds(header: str | None) -> float | None:
    """The seconds of a Retry-After header, which holds a number or a date."""
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, float(header or ""))
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(header or "").timestamp() - time.time())
    return None


def _address(url: str) -> tuple[bool, str, int, str]:
    """Whether an address is encrypted, its host, port and path."""
    try:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise EndpointError(f"the endpoint's address is none: {error}; {_EXAMPLE}") from None
    path = re.sub(r"/(?:chat/completions|completions|models)$", "", parts.path.rstrip("/")) or "/v1"
    problem = ""
    if "@" in parts.netloc:
        problem = f"must hold no name and no password; put the key into ${KEY}"
    elif parts.scheme not in ("http", "https") or not host:
        problem = "begins with http:// or https://"
    elif parts.query or parts.fragment:
        problem = "ends with its path; leave away what stands after it"
    elif re.search(r"[\s\x00-\x1f\x7f]", path + host):
        problem = "holds no spaces"
    if problem:
        # It may hold a secret, and is not repeated.
        raise EndpointError(f"the endpoint's address {problem}; {_EXAMPLE}")
    secure = parts.scheme == "https"
    return secure, host, port or (443 if secure else 80), path
