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
from dataclasses import dataclass
from typing import Any

from meadow.models.errors import ModelError

__all__ = ["KEY", "HttpAnswer", "EndpointError", "Server"]

#: The environment variable that holds the key, if the server wants one.
KEY = "MEADOW_API_KEY"
#: Answers that may be other ones a moment later.
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
#: The first wait in seconds; each one after it is twice as long, up to the longest.
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
#: A server that wants a longer pause than this is not waited for.
_LONGEST_ASKED = 300.0
#: Log-probabilities of a prompt of 4,000 tokens take under 1 MB.
_MOST_BYTES = 64 * 2**20


class EndpointError(ModelError):
    """A server that cannot be used; the message says why and what to do, and never holds the key."""


@dataclass(frozen=True)
class HttpAnswer:
    """An HTTP answer.

    Attributes:
        status: Its status.
        wait: Seconds that it asks to wait; None if it does not.
        data: Its body.
    """

    status: int
    wait: float | None
    data: bytes


class Server:
    """A server, asked from any number of threads, each by a connection of its own.

    Args:
        url: Such as ``http://localhost:8000/v1``; ``/v1`` may be left away.
        timeout: Seconds for one request, from beginning to end.
        retries: How often a request is tried again.
        key_variable: The environment variable that holds the key; it may be unset.
        allow_public: Let what is sent leave private networks.

    Attributes:
        where: The address, as messages show it.
        requests: How many were sent.

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
        self._secure, self._host, self._port, self._path = _address(url)
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.where = f"{'https' if self._secure else 'http'}://{host}:{self._port}{self._path}"
        self._key_variable = key_variable
        self._key = os.environ.get(key_variable, "").strip()
        if self._key and not re.fullmatch(r"[\x21-\x7e]+", self._key):
            raise EndpointError(f"${key_variable}: a key is letters, digits and signs without a space in it")
        if timeout <= 0 or retries < 0:
            raise EndpointError("a timeout is over 0 seconds, retries are 0 or more")
        self._timeout, self._retries = timeout, retries
        self._local = threading.local()
        self._closed = threading.Event()
        self._connections: set[http.client.HTTPConnection] = set()
        self._guard = threading.Lock()
        self.requests = 0
        if not allow_public:
            self._refuse_public()

    def close(self) -> None:
        """Breaks off what is under way, and lets no more be asked."""
        self._closed.set()
        with self._guard:
            connections = list(self._connections)
        for connection in connections:
            sock = connection.sock
            if sock is not None:
                # A thread that waits in a read is woken by this, and not by closing alone.
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def ask(self, path: str, body: Mapping[str, Any] | None) -> Any:
        """What a request is answered, which is JSON.

        Args:
            path: What is asked, below the server's address.
            body: What is sent, as JSON; None to get something.

        Raises:
            EndpointError: It is not answered, or refused.
        """
        return self.parsed(path, self.exchange(path, body), body)

    def exchange(self, path: str, body: Mapping[str, Any] | None) -> HttpAnswer:
        """Sends a request until it is answered, be it by a refusal; what is answered with 200 is JSON.

        Raises:
            EndpointError: It is not answered.
        """
        data = None if body is None else json.dumps(body).encode()
        trouble, wait = "", 0.0
        for attempt in range(self._retries + 1):
            if self._closed.wait(wait):
                raise EndpointError(f"{self.where}{path}: broken off")
            # Waits of requests that failed together differ, so that they do not fail together again.
            wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1.0)
            try:
                answer = self._send(path, data)
            except (OSError, http.client.HTTPException, _TooLong) as error:
                if self._closed.is_set():
                    raise EndpointError(f"{self.where}{path}: broken off") from None
                if isinstance(error, ssl.SSLCertVerificationError):
                    raise EndpointError(
                        f"{self.where}: its certificate cannot be trusted ({error.verify_message}); name your own "
                        "authority's file in $SSL_CERT_FILE"
                    ) from None
                trouble = self._trouble(error)
                continue
            if answer.status == 200:
                try:
                    json.loads(answer.data)
                except (ValueError, RecursionError):
                    trouble = f"its answer is no JSON: {self.excerpt(answer.data)}"
                    continue
            elif answer.status in _AGAIN:
                trouble = f"status {answer.status}: {self.excerpt(answer.data)}"
                if answer.wait is not None and answer.wait > _LONGEST_ASKED:
                    raise EndpointError(
                        f"{self.where}{path}: it asks to wait {answer.wait:.0f} seconds ({trouble}); run the same "
                        "command again then, it goes on where it stopped"
                    )
                wait = max(wait, answer.wait or 0.0)
                continue
            return answer
        times = "once" if not self._retries else f"{self._retries + 1} times"
        raise EndpointError(
            f"{self.where}{path}: tried {times}, at last {trouble}. See to the server (does it run, is it overloaded? "
            "--concurrency asks for less at once), and run the same command again: it goes on where it stopped"
        )

    def parsed(self, path: str, answer: HttpAnswer, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON of an answer.

        Raises:
            EndpointError: It is a refusal; the message says what to do about it.
        """
        if answer.status == 200:
            return json.loads(answer.data)
        said = self.excerpt(answer.data)
        if answer.status in (401, 403):
            has = "is not taken" if self._key else "is wanted"
            what = f"a key {has}; put the right one into the environment variable {self._key_variable}"
        elif 300 <= answer.status < 400:
            what = "it redirects, which is not followed; give the address that it redirects to"
        elif answer.status in (404, 405, 501):
            asked = "" if body is None else f" or no model {body.get('model')!r}"
            what = f"it has no such path{asked}; look at address and name of the model"
        else:
            what = "it refuses the request; look at what it says, and at its own log"
        raise EndpointError(f"{self.where}{path}: status {answer.status}, {what}. It says: {said}")

    def _send(self, path: str, data: bytes | None) -> HttpAnswer:
        connection = getattr(self._local, "connection", None)
        if connection is not None and connection.sock is not None:
            try:
                return self._sent(connection, path, data)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                # Kept open since the last request, and closed by the server meanwhile.
                connection.close()
        if connection is None:
            kind: Any = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            more = {"context": ssl.create_default_context()} if self._secure else {}
            connection = self._local.connection = kind(self._host, self._port, timeout=self._timeout, **more)
            with self._guard:
                self._connections.add(connection)
        return self._sent(connection, path, data)

    def _sent(self, connection: http.client.HTTPConnection, path: str, data: bytes | None) -> HttpAnswer:
        end = time.monotonic() + self._timeout
        headers = {"Accept": "application/json", "User-Agent": "meadow"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        with self._guard:
            self.requests += 1
        try:
            connection.timeout = self._timeout
            if connection.sock is not None:
                connection.sock.settimeout(self._timeout)
            connection.request("GET" if data is None else "POST", self._path + path, data, headers)
            sock = connection.sock
            answer = connection.getresponse()
            pieces, size = [], 0
            while True:
                left = end - time.monotonic()
                if left <= 0:
                    # A server that sends a byte now and then would keep any single read happy.
                    raise TimeoutError
                if sock is not None:
                    sock.settimeout(left)
                piece = answer.read1(1 << 16)
                if not piece:
                    break
                pieces.append(piece)
                size += len(piece)
                if size > _MOST_BYTES:
                    raise _TooLong
            if answer.length:
                raise http.client.IncompleteRead(b"", answer.length)
            # Reading to the end by `read1` does not tell the connection that it is free again.
            answer.close()
            wait = _seconds(answer.headers.get("Retry-After"))
            return HttpAnswer(answer.status, wait, b"".join(pieces))
        except BaseException:
            connection.close()
            raise

    def _trouble(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no whole answer in {self._timeout:g} seconds (--timeout)"
        if isinstance(error, ConnectionRefusedError):
            return "nothing listens there"
        if isinstance(error, (http.client.IncompleteRead, http.client.RemoteDisconnected, ConnectionError)):
            return "the connection broke off"
        if isinstance(error, _TooLong):
            return f"its answer is over {_MOST_BYTES >> 20} MB"
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


class _TooLong(Exception):  # noqa: N818 - it never leaves this module
    """An answer that no answer can be."""


def _seconds(header: str | None) -> float | None:
    """The seconds of a Retry-After header, which holds a number or a date."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _address(url: str) -> tuple[bool, str, int, str]:
    """Whether an address is encrypted, its host, port and path."""
    example = "such as http://localhost:8000/v1"
    try:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise EndpointError(f"the endpoint's address is none: {error}; give one {example}") from None
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise EndpointError(
            f"the endpoint's address must hold no name and no password; put the key into ${KEY}, and give an "
            f"address {example}"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise EndpointError(f"{url}: an endpoint's address begins with http:// or https://, {example}")
    if parts.query or parts.fragment:
        raise EndpointError(
            f"{parts.scheme}://{parts.netloc}{parts.path}: leave away what stands after it; {example}"
        )
    path = re.sub(r"/(?:chat/completions|completions|models)$", "", parts.path.rstrip("/")) or "/v1"
    if re.search(r"[\s\x00-\x1f\x7f]", path + host):
        raise EndpointError(f"an endpoint's address holds no spaces; give one {example}")
    secure = parts.scheme == "https"
    return secure, host, port or (443 if secure else 80), path
