"""A publisher on the loopback interface that misbehaves when told to, and sources that declare its files.

::

    site.put("/a.zip", data)                    served with ranges, an ETag and a date
    site.put("/a.zip", data, status(503), cut(1000))   the first request gets a 503, the second is cut off, then all is well
    site.asked("/a.zip")                        what was asked: one `Asked` a request
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import io
import json
import re
import socket
import ssl
import subprocess
import threading
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

LONG_AGO = "Mon, 01 Jan 2024 00:00:00 GMT"


@dataclass(frozen=True)
class Asked:
    """One request: path with query, headers with lower-case names, and when it came."""

    path: str
    headers: dict[str, str]
    at: float

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


Fault = Callable[["_Handler", "File"], None]


@dataclass
class File:
    """A served file; each fault serves one request, then it is served well."""

    data: bytes
    faults: deque[Fault] = field(default_factory=deque)
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    length: bool = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # header and body in one packet, or each answer waits for an acknowledgement
    server: _Http

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        site = self.server.site
        headers = {name.lower(): value for name, value in self.headers.items()}
        if self.path.startswith("http://"):
            site.proxied.append(self.path)
            parts = urlsplit(self.path)
            self.path = parts.path + (f"?{parts.query}" if parts.query else "")
        with site.lock:
            site.requests.append(Asked(self.path, headers, time.monotonic()))
            site.active += 1
            site.most = max(site.most, site.active)
        try:
            self._serve(site)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with site.lock:
                site.active -= 1

    def _serve(self, site: Site) -> None:
        if site.closed:
            self.answer(407, b"")
            return
        if site.needs_password and self.headers.get("Authorization") != site.needs_password:
            self.answer(401, b"no")
            return
        file = site.files.get(self.path) or site.files.get(self.path.partition("?")[0])
        if file is None:
            self.answer(404, b"nothing here")
        elif file.faults:
            file.faults.popleft()(self, file)
        else:
            self.give(file)

    def do_CONNECT(self) -> None:
        """A tunnel, as a proxy makes it for https."""
        self.server.site.proxied.append(self.path)
        if self.server.site.closed:
            self.answer(407, b"")
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as other:
            self.send_response(200)
            self.end_headers()
            self.wfile.flush()
            back = threading.Thread(target=_pump, args=(other, self.connection), daemon=True)
            back.start()
            _pump(self.connection, other)
            back.join(timeout=5)
        self.close_connection = True

    def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def give(self, file: File, upto: int | None = None, ranges: bool = True, pause: float = 0) -> None:
        """Serves a file as a good server does, up to some byte of the answer."""
        data, code, headers = (
            file.data,
            200,
            {"ETag": etag(file.data), "Last-Modified": LONG_AGO, **file.headers},
        )
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        fresh = self.headers.get("If-Range") in (None, headers.get("ETag"), headers.get("Last-Modified"))
        if wanted and fresh and ranges and file.ranges:
            start = int(wanted[1])
            if start >= len(data):
                self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            end = int(wanted[2]) + 1 if wanted[2] else len(data)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
            data, code = data[start:end], 206
        self.send_response(code)
        if file.length:
            headers["Content-Length"] = str(len(data))
        else:
            headers["Connection"] = "close"
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        sent = data[:upto]
        if pause:
            for at in range(0, len(sent), 1024):
                self.wfile.write(sent[at : at + 1024])
                self.wfile.flush()
                time.sleep(pause)
        else:
            self.wfile.write(sent)
        if len(sent) < len(data) or not file.length:
            self.close_connection = True


def _pump(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    site: Site

    def handle_error(self, *_: object) -> None:
        pass


class Site:
    """A server in a thread.

    Attributes:
        url: Its address without a final slash.
        files: What it serves, by path.
        requests: What was asked, in order.
        proxied: Absolute addresses and hosts that it was asked for as a proxy.
        most: How many requests were under way at once, at most.
        closed: Whether it answers 407, as a proxy that wants a password.
        needs_password: An ``Authorization`` header without which all is 401.
    """

    def __init__(self, tls: Path | None = None) -> None:
        self.files: dict[str, File] = {}
        self.requests: list[Asked] = []
        self.proxied: list[str] = []
        self.active = self.most = 0
        self.needs_password = ""
        self.closed = False
        self.lock = threading.Lock()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.site = self
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def put(self, path: str, data: bytes, *faults: Fault, **attributes: object) -> str:
        """Serves a file after the faults; returns its address."""
        self.files[path] = File(data, deque(faults), **attributes)
        return self.url + path

    def asked(self, path: str) -> list[Asked]:
        """The requests for a path, without its query."""
        return [asked for asked in self.requests if asked.path.partition("?")[0] == path]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(timeout=5)


@contextlib.contextmanager
def serving(tls: Path | None = None) -> Iterator[Site]:
    site = Site(tls)
    try:
        yield site
    finally:
        site.close()


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """Answers with a status; ``retry_after="1"`` is a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, _: handler.answer(code, body, named)


def page(html: str, code: int = 200, kind: str = "text/html; charset=utf-8") -> Fault:
    """Answers with a web page."""
    return lambda handler, _: handler.answer(code, html.encode(), {"Content-Type": kind})


def cut(after: int) -> Fault:
    """Cuts the connection after some bytes of the body."""
    return lambda handler, file: handler.give(file, upto=after)


def no_ranges(handler: _Handler, file: File) -> None:
    """Gives the whole file whatever part was asked for."""
    handler.give(file, ranges=False)


def slow(pause: float) -> Fault:
    """Pauses after each 1,024 bytes."""
    return lambda handler, file: handler.give(file, pause=pause)


def stall(seconds: float) -> Fault:
    """Sends nothing for a while, then hangs up."""

    def fault(handler: _Handler, _: File) -> None:
        time.sleep(seconds)
        handler.close_connection = True

    return fault


def shifted(handler: _Handler, file: File) -> None:
    """Answers a range with another one."""
    handler.answer(206, file.data[:10], {"Content-Range": f"bytes 0-9/{len(file.data)}"})


def redirect(to: str) -> Fault:
    """Leads on to another address."""
    return lambda handler, _: handler.answer(302, b"", {"Location": to})


def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def http_date(seconds: float) -> str:
    """A date that many seconds from now, as headers have it."""
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def gone() -> str:
    """The address of a host at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def archive(size: int = 200_000, seed: int = 0) -> bytes:
    """A zip file of about that many bytes that do not compress."""
    out = io.BytesIO()
    body = b"".join(hashlib.sha256(f"{seed}/{n}".encode()).digest() for n in range(size // 32))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as zipped:
        zipped.writestr(zipfile.ZipInfo("body.bin"), body)
    return out.getvalue()


def records(count: int, seed: int = 0) -> bytes:
    """JSON as PubMedQA has it: an object by number."""
    return json.dumps({str(n): {"TEXT": f"{seed}/{n} " + "word " * 20} for n in range(count)}).encode()


def certificate(folder: Path) -> Path:
    """A key and a certificate for 127.0.0.1 that signs itself, in one PEM file."""
    key, cert, both = folder / "key.pem", folder / "cert.pem", folder / "both.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext".split()
    subprocess.run(
        [*command, "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    both.write_text(key.read_text() + cert.read_text())
    return both


_BUILDER = """
from meadow.core.builder import Builder
from meadow.core.rawstore import RawPattern
from meadow.core.licenses import CC0, RIGHTS_RESERVED


class Source(Builder):
    name = {name!r}
    version = "1.0.0"
    release_notes = {{"1.0.0": "First."}}
    description = "Made for a test."
    configs = ({name!r}, {name!r} + "_extra")
    raw_files = (RawPattern("**/*.zip", "an archive"), RawPattern("**/*.json", "records"))
    license = {license}.because("Its publisher says so.")
    homepage = "https://publisher.example/data"

    def shards(self, raw):
        return ()

    def examples(self, shard):
        return iter(())
"""


def source(folder: Path, name: str, rows: Sequence[tuple[object, ...]], reserved: bool = False) -> Path:
    """Installs a source that declares files; `folder` must be on the path.

    Args:
        folder: Where its package and metadata go.
        name: Its name, and that of its package.
        rows: (url, file), (url, bytes, sha256, file); a wiki's url begins with ``mediawiki+``.
        reserved: Whether its owners reserve all rights, so that its terms must be accepted.

    Returns:
        Its ``checksums.tsv``.
    """
    package = folder / f"source_{name}"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text("")
    licence = "RIGHTS_RESERVED" if reserved else "CC0"
    (package / "builder.py").write_text(_BUILDER.format(name=name, license=licence))
    table = ["url\tbytes\tsha256\tfile"]
    for row in rows:
        url, size, digest, file = row if len(row) == 4 else (row[0], "", "", row[1])
        table.append(f"{url}\t{size}\t{digest}\t{file}")
    (package / "checksums.tsv").write_text("\n".join(table) + "\n")
    info = folder / f"source_{name}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: source-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[meadow.builders]\n{name} = source_{name}.builder:Source\n")
    return package / "checksums.tsv"
