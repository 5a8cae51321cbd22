"""An institution's own copy of a raw store: a folder, a web server, or whatever fsspec reads (``s3://``).

A mirror is laid out as the raw store is, ``MIRROR/SOURCE/FILE``, so that a filled raw store is one. What it
holds of a source is what ``MIRROR/SOURCE/checksums.tsv`` lists (or ``.fetched.tsv``, which a fetch leaves);
without such a list a folder or bucket is looked through, and of a web server the files are asked for that the
source declares. Sizes and hashes that a source declares count for a mirror's copy, too.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from meadow.core.errors import Error
from meadow.fetch import pages
from meadow.fetch.addresses import CHECKSUMS, RECORD, Address, check_path, parse, without_secrets
from meadow.fetch.download import Downloader
from meadow.fetch.outcome import Fetched, FetchError
from meadow.fetch.partial import PartialFile, PartNote
from meadow.fetch.transport import LaterError, without_addresses

#: Folders within folders that are looked through; a raw store has three levels, and a link can lead back.
_DEPTH = 8
_CHUNK = 2**20
_LONGEST_LIST = 4 * 2**20


class Mirror(ABC):
    """A copy of raw files; `shown` is where, without any password, `searchable` whether one can look what there is."""

    shown: str
    searchable = True

    def addresses(self, source: str, declared: Sequence[Address], whole: bool) -> tuple[Address, ...] | None:
        """What the mirror has (or may have) of the wanted files of a source; None where it has nothing of it.

        Wanted are those `declared`, and with `whole` what nobody declares, too. Where the mirror cannot be read,
        or its list cannot be used, that is a `FetchError`.
        """
        known = {address.file: address for address in declared}
        found = []
        for address in self._listed(source, declared):
            own = known.get(address.file, address)
            if whole or address.file in known:
                size = address.bytes if own.bytes is None else own.bytes
                url = self._url(source, address.file)
                found.append(Address(source, address.file, url, size, own.sha256 or address.sha256))
        return tuple(found) or None

    def _listed(self, source: str, declared: Sequence[Address]) -> Iterable[Address]:
        for name in (CHECKSUMS, RECORD):
            text = self._text(source, name)
            if text is None:
                continue
            try:
                listed = parse(text, source, f"{self.shown}/{source}/{name}", exact=name == RECORD)
            except ValueError as error:
                remedy = "Those who keep the mirror can mend it."
                raise FetchError(f"{source} on the mirror", str(error), remedy) from None
            if name == CHECKSUMS or not self.searchable:
                return listed
            noted = {address.file: address for address in listed}  # and what was put there by hand
            return [noted.get(found.file, found) for found in self._found(source, declared)]
        return self._found(source, declared)

    @abstractmethod
    def _text(self, source: str, name: str) -> str | None:
        """A list of the mirror; None where there is none."""

    @abstractmethod
    def _found(self, source: str, declared: Sequence[Address]) -> Iterable[Address]:
        """What there is where nothing is listed."""

    def _url(self, source: str, file: str) -> str:
        """The address of a file, as it is noted; empty for one that is none of the web."""
        return ""

    @abstractmethod
    def get(self, address: Address, folder: Path) -> Fetched:
        """Copies a file; as `Downloader.get`."""


def open_mirror(where: str, downloader: Downloader) -> Mirror:
    """The mirror at a place; a `FetchError` where there is nothing, or what reads such addresses is missing."""
    if not where.strip():  # of a variable that is not set; it would mean the working folder
        raise FetchError("--mirror", "no place is given", "Name a folder or an address.")
    address = re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", where) is not None
    try:
        web = address and urlsplit(where).scheme in ("http", "https")
    except ValueError as error:
        raise FetchError("--mirror", f"this is no address: {error}", "Name a folder or an address.") from None
    return _WebMirror(where, downloader) if web else _FileMirror(where, downloader, address)


class _WebMirror(Mirror):
    searchable = False

    def __init__(self, where: str, downloader: Downloader) -> None:
        self._downloader, self._base = downloader, where.rstrip("/")
        self.shown = without_secrets(self._base)
        parts = urlsplit(where)
        if parts.query or parts.fragment or not parts.hostname:
            problem = f"{without_secrets(where)} is no address of a folder"
            raise FetchError("--mirror", problem, "Give one without ? and #.")
        downloader.http.open()

    def _url(self, source: str, file: str) -> str:
        return f"{self._base}/{quote(source)}/{quote(file)}"

    def _text(self, source: str, name: str) -> str | None:
        # 403 says that there is none, too: buckets say so of a missing key, servers of a name with a dot.
        what = f"{source} on the mirror"
        status, data = self._downloader.peek(self._url(source, name), what, _LONGEST_LIST + 1)
        if len(data) > _LONGEST_LIST:
            raise FetchError(what, f"{self.shown}/{source}/{name} is larger than {_LONGEST_LIST:,} bytes")
        return None if status in (403, 404, 410) or pages.is_page(data) else data.decode("utf-8", "replace")

    def _found(self, source: str, declared: Sequence[Address]) -> Iterable[Address]:
        states = (self._downloader.peek(self._url(source, a.file), a.what)[0] for a in declared)
        return declared if any(state not in (404, 410) for state in states) else ()

    def get(self, address: Address, folder: Path) -> Fetched:
        return self._downloader.get(address, folder)


class _FileMirror(Mirror):
    def __init__(self, where: str, downloader: Downloader, address: bool) -> None:
        self._downloader = downloader
        self._fs: Any
        self.shown = without_secrets(where) if address else where
        try:
            local = Path(where).expanduser().absolute()
            self._fs, root = url_to_fs(where) if address else (LocalFileSystem(), str(local))
        except ImportError as error:
            problem = f"{self.shown} needs another package: {error}"
            raise FetchError("--mirror", problem, "Install it, or use a folder.") from None
        except (ValueError, OSError) as error:
            raise FetchError("--mirror", f"{self.shown} cannot be read: {error}") from None
        self._root = root.rstrip("/")
        if not address and not Path(self._root).is_dir():
            shown = re.sub(r"//[^/]*@", "//", where)  # an address that is none can hold a password, too
            problem = f"the folder {shown} does not exist"
            raise FetchError("--mirror", problem, "It holds one folder per source.")

    def _listed(self, source: str, declared: Sequence[Address]) -> Iterable[Address]:
        remedy = "See that the address is right and that you may read it."
        with self._explained(f"{source} on the mirror", f"{self.shown} cannot be read", remedy):
            return super()._listed(source, declared)

    def _text(self, source: str, name: str) -> str | None:
        try:
            return self._fs.cat_file(f"{self._root}/{source}/{name}").decode("utf-8", "replace")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _found(self, source: str, declared: Sequence[Address]) -> Iterable[Address]:
        root = f"{self._root}/{source}"
        found = ((path[len(root) + 1 :], size) for path, size in self._walk(root, _DEPTH))
        return [Address(source, file, "", size) for file, size in found if check_path(file) is None]

    def _walk(self, folder: str, depth: int) -> Iterator[tuple[str, int | None]]:
        # Not walk() of fsspec, which passes over folders below that cannot be read, even if told not to.
        try:
            entries = self._fs.ls(folder, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in sorted(entries, key=lambda e: e["name"]):
            path = entry["name"].rstrip("/")
            if path == folder or path.rsplit("/", 1)[-1].startswith("."):
                continue
            if entry["type"] == "directory" and depth:
                yield from self._walk(path, depth - 1)
            elif entry["type"] == "file":
                yield path, entry.get("size")

    def get(self, address: Address, folder: Path) -> Fetched:
        path = f"{self._root}/{address.what}"
        with closing(PartialFile(folder, address)) as part:
            self._downloader.patiently(address.what, lambda: self._copy(path, part), part)
            return part.settle()

    def _copy(self, path: str, part: PartialFile) -> None:
        what = part.address.what
        remedy = "Run the command again; what is there is gone on with."
        with self._explained(what, f"copying it from {self.shown} failed", remedy):
            # What tells this state of the file from others, to go on with a copy that was cut off.
            etag, total = str(self._fs.ukey(path)), self._fs.info(path).get("size")
            facts = PartNote(url=f"{self.shown}/{what}", etag=etag, total=total)
            if part.facts != facts or part.size > (facts.total or 0):
                part.begin(facts)
            with self._fs.open(path, "rb") as stream:
                stream.seek(part.size)
                chunks = iter(lambda: stream.read(_CHUNK), b"")
                self._downloader.receive(chunks, part, facts.total)

    @contextmanager
    def _explained(self, what: str, problem: str, remedy: str) -> Iterator[None]:
        try:
            yield
        except (Error, LaterError):
            raise
        except FileNotFoundError:
            raise FetchError(what, f"it is not on the mirror {self.shown}") from None
        except Exception as error:  # each kind of store has errors of its own
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            # Keys and signed addresses stand in some of them.
            said = without_addresses(said) or type(error).__name__
            raise FetchError(what, f"{problem}: {said}", remedy) from None
