"""Asking over HTTP: the house's proxies and certificates, and errors in words that say what to do.

What may pass is a `LaterError`, for whoever asks to wait; what stays is a `FetchError`. No message holds a
password: neither that of an address nor that of a proxy.
"""

from __future__ import annotations

import contextlib
import email.utils
import importlib
import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from meadow.core.version import VERSION
from meadow.fetch import pages
from meadow.fetch.addresses import without_secrets
from meadow.fetch.outcome import FetchError

#: The library that `huggingface_hub` brings: ``httpx2``, or ``httpx`` in its older releases.
httpx: Any = importlib.import_module("httpx2" if find_spec("httpx2") else "httpx")
#: How requests name themselves.
AGENT = f"meadow/{VERSION} (rebuilds medical datasets from their publishers' files)"
#: The variables that name a private certificate authority, in the order in which they count.
CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
#: Answers that mean "later": RFC 9110 and 6585, and what proxies of large hosts add (509, 520 to 524).
_LATER = {408, 425, 429, *range(500, 600)} - {501, 505}
_PROXY_VARIABLES = "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY"
_OPEN = "Open the address in a browser."
_OWN_AUTHORITY = (
    "If your network has a certificate authority of its own, name its PEM file in SSL_CERT_FILE or "
    "REQUESTS_CA_BUNDLE."
)


@dataclass(eq=False)
class LaterError(Exception):
    """An answer that may be another one later, after `wait` seconds where somebody said how many.

    `detail` tells what happened, if that is worth telling, `reached` whether the host was reached, and `busy`
    whether it is only that the host has too much to do.
    """

    detail: str = ""
    wait: float | None = None
    reached: bool = True
    busy: bool = False


class HttpClient:
    """Connections that follow redirects; one client may serve several threads.

    It waits so many seconds for a connection and for the next bytes, and names itself in `headers`.
    """

    def __init__(self, connect: float, read: float, headers: Mapping[str, str]) -> None:
        self._read, self._client = read, None
        self._settings: dict[str, Any] = {
            "headers": {"User-Agent": AGENT, **headers},
            "timeout": httpx.Timeout(read, connect=connect),
            "follow_redirects": True,
            "max_redirects": 10,
        }

    def open(self) -> Any:
        """The library's client; a `FetchError` where a variable's proxy or certificates cannot be used.

        It is made when first needed, for a mirror in a folder needs no proxy that works.
        """
        if self._client is None:
            try:
                self._client = httpx.Client(verify=_certificates(), **self._settings)
            except ImportError:
                remedy = "Run `pip install socksio`, or name an HTTP proxy."
                raise FetchError(_PROXY_VARIABLES, "a SOCKS proxy needs another package", remedy) from None
            except (ValueError, httpx.InvalidURL):
                # Only what the variables say comes in from outside; the library repeats it with its password.
                remedy = "Write http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT, special letters as %XX."
                raise FetchError(_PROXY_VARIABLES, "this is no address of a proxy", remedy) from None
        return self._client

    def close(self) -> None:
        """Closes all connections."""
        if self._client is not None:
            self._client.close()

    @contextlib.contextmanager
    def ask(
        self, url: str, what: str, headers: Mapping[str, str] | None = None, query: Any = None
    ) -> Iterator[Any]:
        """Makes a request and gives the answer, whose body is still to be read; errors call it `what`.

        Without a whole answer there is a `LaterError`, or a `FetchError` where waiting does not help.
        """
        parts, secret = urlsplit(url), None
        if "@" in parts.netloc:
            # Kept out of the address, which errors and logs show.
            secret = (unquote(parts.username or ""), unquote(parts.password or ""))
            url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        client = self.open()
        try:
            with client.stream("GET", url, headers=headers, params=query, auth=secret) as response:
                yield response
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._explained(error, what, url) from None

    def _explained(self, error: Exception, what: str, url: str) -> Exception:
        host, proxy = urlsplit(url).hostname or url, _proxy(url)
        match error:
            case httpx.ProxyError() if "407" in str(error):
                return _asks_password(what, url)
            case httpx.ProxyError():
                return LaterError(f"the proxy does not let us through: {_cause(error)}{proxy}", reached=False)
            case httpx.ConnectError() | httpx.ConnectTimeout():
                for cause in _causes(error):
                    if isinstance(cause, ssl.SSLError):
                        why = getattr(cause, "verify_message", "") or cause.reason or cause
                        problem = f"{host} shows a certificate that is not trusted: {why}{proxy}"
                        return FetchError(what, problem, _OWN_AUTHORITY)
                    if isinstance(cause, socket.gaierror):
                        problem = f"there is no host {host} to be found from here{proxy}"
                        return LaterError(problem, reached=False)
                return LaterError(f"no connection to {host}: {_cause(error)}{proxy}", reached=False)
            case httpx.TimeoutException():
                return LaterError(f"{host} has sent nothing for {self._read:g} s")
            case httpx.UnsupportedProtocol() | httpx.InvalidURL():
                return FetchError(what, f"{host} leads on to what is no http or https address", _OPEN)
            case httpx.TooManyRedirects():
                return FetchError(what, f"{host} leads round in circles", _OPEN)
            case httpx.DecodingError():
                return LaterError(f"{host} sent damaged compressed data: {error}")
            case _:
                return LaterError(f"{host} cut the connection: {_cause(error)}")


def _certificates() -> ssl.SSLContext | bool:
    """The authorities to trust: those that a variable of `CA_VARIABLES` names, else the usual ones."""
    for variable in CA_VARIABLES:
        value = os.environ.get(variable)
        if not value:
            continue
        try:
            if Path(value).is_dir():
                return ssl.create_default_context(capath=value)
            return ssl.create_default_context(cafile=value)
        except OSError as error:  # ssl.SSLError is one
            problem = f"{value} cannot be used as certificates: {error.strerror or error}"
            raise FetchError(variable, problem, "Name a PEM file that is there.") from None
    return True


def check_status(response: Any, what: str) -> None:
    """Raises what an answer other than a file means: a `LaterError`, or a `FetchError` that explains it."""
    status, host = response.status_code, response.url.host
    if status in (200, 206):
        return
    if status in _LATER:
        word = "is busy" if status == 429 else "has trouble"
        raise LaterError(f"{host} {word} (HTTP {status})", retry_after(response.headers.get("Retry-After")))
    if status == 407:
        raise _asks_password(what, str(response.url))
    content = b""
    with contextlib.suppress(httpx.HTTPError):
        content = beginning(response.iter_bytes(), pages.LOOKED_AT)
    words = pages.service_error(content)
    said = f" ({words})" if words else ""
    page = pages.explain(content, str(response.url)) if pages.is_page(content) else None
    detail, remedy = f" from {host}{said}", ""
    if page and page.telling and status not in (404, 410):
        detail, remedy = f": {page.detail}", page.remedy
    elif "expired" in said.lower():
        detail, remedy = f": the link has expired{said}", "Get a new link from the publisher."
    elif status in (404, 410):
        detail = f": it is not there (any more) at {host}{said}"
    elif status in (401, 403):
        detail = f": {host} does not give it to everybody{said}"
        remedy = "Its publisher may want you to sign in or accept its terms first; see its page in a browser."
    elif status == 451:
        detail = f": {host} may not give it for legal reasons{said}"
    raise FetchError(what, f"HTTP {status}{detail}", remedy)


def beginning(chunks: Iterator[bytes], most: int) -> bytes:
    """About the first `most` bytes of an answer; the rest can still be read."""
    start, size = [], 0
    while size < most and (chunk := next(chunks, b"")):
        start.append(chunk)
        size += len(chunk)
    return b"".join(start)


def retry_after(value: str | None) -> float | None:
    """Seconds that a ``Retry-After`` asks for, given as a number or a date; None where it says nothing."""
    # Not isdigit(): it takes superscripts, too, of which no number can be made.
    if value and value.strip().isdecimal():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value or "")
    except (ValueError, OverflowError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def led_off_https(response: Any, asked: str) -> str:
    """Where an answer came from, in words, if redirects led from https to http; else empty."""
    if response.url.scheme != "http" or not asked.startswith("https:"):
        return ""
    return f"leads from https on to {without_secrets(str(response.url))}, which anybody on the way can change"


def _asks_password(what: str, url: str) -> FetchError:
    remedy = "Put them into the variable: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT."
    return FetchError(what, f"the proxy asks for a user and a password{_proxy(url)}", remedy)


def without_addresses(said: str) -> str:
    """Words of a library without the addresses in them, which can hold keys."""
    return re.sub(r"\w+://\S+", "an address", said)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _cause(error: BaseException) -> str:
    """The system's words for an error, which name no address and so no password."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return without_addresses(str(error))[:200] or type(error).__name__


def _proxy(url: str) -> str:
    """The proxy that stands between, in brackets; empty where there is none."""
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return ""
    return f" (through the proxy {without_secrets(proxy if '://' in proxy else f'http://{proxy}')})"
