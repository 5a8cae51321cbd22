"""An institution's own copy of a raw store: a folder, a web server, or whatever fsspec reads (``s3://``).

A mirror is laid out as the raw store is, ``MIRROR/SOURCE/FILE``, so that a filled raw store is one. What it
holds of a source is what ``MIRROR/SOURCE/checksums.tsv`` lists (or ``.fetched.tsv``, which a fetch leaves);
without such a list a folder or bucket is looked through, and of a web server the files are asked for that the
source declares. Sizes and hashes that a source declares count for a mirror's copy, too.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from meadow.fetch.addresses import (
    CHECKSUMS,
    RECORD,
    Address,
    AddressError,
    Fetched,
    FetchError,
    check_path,
    parse,
    without_secrets,
)
from meadow.fetch.download import Downloader, Part, StoppedError, check_room, settle

#: Folders within folders that are looked through; a raw store has three levels.
_DEPTH = 8
_CHUNK = 2**20
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


class Mirror(ABC):
    """A copy of raw files.

    Attributes:
        shown: Where it is, without any password.
    """

    shown: str

    @abstractmethod
    def addresses(self, source: str, declared: Sequence[Address], whole: bool) -> tuple[Address, ...] | None:
        """What the mirror has of a source, or may have; None where it has nothing of it.

        Args:
            source: The source's name.
            declared: Those of its declared files that are wanted.
            whole: Whether all of the source is wanted, files that nobody declares included.

        Raises:
            FetchError: The mirror cannot be read, or its list cannot be used.
        """

    @abstractmethod
    def get(self, address: Address, target: Path) -> Fetched:
        """Copies a file; as `Downloader.get`."""


def open_mirror(where: str, downloader: Downloader) -> Mirror:
    """The mirror at a place.

    Args:
        where: A folder, or an address: ``http://``, ``https://`` or one that fsspec knows.
        downloader: What fetches over HTTP, and knows how far it is.

    Raises:
        FetchError: There is nothing, or what reads such addresses is not installed.
    """
    if not where.strip():  # of a variable that is not set; it would mean the working folder
        raise FetchError("--mirror", "no place is given", "Name a folder or an address.")
    scheme = _SCHEME.match(where)
    try:
        urlsplit(where if scheme else "")
    except ValueError as error:
        raise FetchError("--mirror", f"this is no address: {error}", "Name a folder or an address.") from None
    if scheme and scheme[1].lower() in ("http", "https"):
        return _Web(where, downloader)
    return _Files(where, downloader)


def _listed(text: str, source: str, origin: str) -> tuple[Address, ...]:
    try:
        return parse(text, source, origin, exact=origin.endswith(RECORD))
    except AddressError as error:
        raise FetchError(
            f"{source} on the mirror", str(error), "Those who keep the mirror can mend it."
        ) from None


def _chosen(
    listed: Sequence[Address], declared: Sequence[Address], whole: bool, url: Any
) -> tuple[Address, ...]:
    """The files of a list that are wanted, with what the source declares about them."""
    known = {address.file: address for address in declared}
    found = []
    for address in listed:
        own = known.get(address.file)
        if own is None and not whole:
            continue
        size = own.bytes if own and own.bytes is not None else address.bytes
        sha256 = own.sha256 if own and own.sha256 else address.sha256
        found.append(Address(address.source, address.file, url(address.file), size, sha256))
    return tuple(found)


class _Web(Mirror):
    """A web server."""

    def __init__(self, where: str, downloader: Downloader) -> None:
        self._downloader = downloader
        self._base = where.rstrip("/")
        if urlsplit(where).query or urlsplit(where).fragment or not urlsplit(where).hostname:
            raise FetchError(
                "--mirror", f"{without_secrets(where)} is no address of a folder", "Give one without ? and #."
            )
        self.shown = without_secrets(self._base)
        downloader.open()

    def _url(self, source: str, file: str) -> str:
        return f"{self._base}/{quote(source)}/{quote(file)}"

    def addresses(self, source: str, declared: Sequence[Address], whole: bool) -> tuple[Address, ...] | None:
        for name in (CHECKSUMS, RECORD):
            url = self._url(source, name)
            text = self._downloader.text(url, f"{source} on the mirror")
            if text is not None:
                listed = _listed(text, source, without_secrets(url))
                return _chosen(listed, declared, whole, lambda file: self._url(source, file)) or None
        asked = [replace(a, url=self._url(source, a.file), wiki=False) for a in declared]
        if not any(self._downloader.is_there(a.url, a.what) for a in asked):
            return None
        return tuple(asked)

    def get(self, address: Address, target: Path) -> Fetched:
        return self._downloader.get(address, target)


class _Files(Mirror):
    """A folder or bucket that fsspec reads."""

    def __init__(self, where: str, downloader: Downloader) -> None:
        self._downloader = downloader
        scheme = _SCHEME.match(where)
        self.shown = without_secrets(where) if scheme else where
        try:
            if scheme:
                from fsspec.core import url_to_fs

                self._fs, self._root = url_to_fs(where)
            else:
                from fsspec.implementations.local import LocalFileSystem

                self._fs, self._root = LocalFileSystem(), str(Path(where).expanduser().absolute())
        except ImportError as error:
            raise FetchError(
                "--mirror", f"{self.shown} needs another package: {error}", "Install it, or use a folder."
            ) from None
        except (ValueError, OSError) as error:
            raise FetchError("--mirror", f"{self.shown} cannot be read: {error}") from None
        self._root = self._root.rstrip("/")
        if not scheme and not Path(self._root).is_dir():
            shown = re.sub(r"//[^/]*@", "//", where)  # an address that is none can hold a password, too
            raise FetchError(
                "--mirror", f"the folder {shown} does not exist", "It holds one folder per source."
            )

    def _path(self, source: str, file: str) -> str:
        return f"{self._root}/{source}/{file}"

    def addresses(self, source: str, declared: Sequence[Address], whole: bool) -> tuple[Address, ...] | None:
        try:
            listed = self._list(source)
        except FetchError:
            raise
        except Exception as error:  # each kind of store has errors of its own
            raise FetchError(
                f"{source} on the mirror",
                f"{self.shown} cannot be read: {_words(error)}",
                "See that the address is right and that you may read it.",
            ) from None
        return _chosen(listed, declared, whole, lambda file: f"{self.shown}/{source}/{file}") or None

    def _list(self, source: str) -> tuple[Address, ...]:
        for name in (CHECKSUMS, RECORD):
            path = self._path(source, name)
            try:
                text = self._fs.cat_file(path).decode("utf-8", "replace")
            except (FileNotFoundError, NotADirectoryError):
                continue
            listed = _listed(text, source, f"{self.shown}/{source}/{name}")
            # A record tells of what was fetched; what was put there by hand is in none.
            if name == CHECKSUMS:
                return listed
            known = {address.file: address for address in listed}
            return tuple(known.get(a.file, a) for a in self._found(source))
        return tuple(self._found(source))

    def _found(self, source: str) -> Iterator[Address]:
        root = f"{self._root}/{source}"
        for path, size in self._walk(root, _DEPTH):
            file = path[len(root) + 1 :]
            if check_path(file) is None:
                yield Address(source, file, "", size)

    def _walk(self, folder: str, depth: int) -> Iterator[tuple[str, int | None]]:
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

    def get(self, address: Address, target: Path) -> Fetched:
        path = self._path(address.source, address.file)
        part = Part(target)
        try:
            facts = self._facts(path)
            if part.size and (part.facts != facts or part.size > (facts["total"] or 0)):
                part.drop()
            if not part.facts:
                part.begin(facts)
            check_room(address, target.parent, None if facts["total"] is None else facts["total"] - part.size)
            self._copy(path, address, part, facts["total"])
            digest = settle(part, address)
        except (FetchError, StoppedError):
            raise
        except FileNotFoundError:
            raise FetchError(address.what, f"it is not on the mirror {self.shown}") from None
        except Exception as error:  # as above
            raise FetchError(
                address.what,
                f"copying it from {self.shown} failed: {_words(error)}",
                "Run the command again; what is there is gone on with.",
            ) from None
        finally:
            part.close()
        return Fetched(address.source, address.file, "fetched", target.stat().st_size, digest, address.url)

    def _facts(self, path: str) -> dict[str, Any]:
        """What tells this state of the file from others, to go on with a copy that was cut off."""
        info = self._fs.info(path)
        try:
            version = str(self._fs.ukey(path))
        except NotImplementedError:
            version = str(info.get("ETag") or info.get("mtime") or "")
        return {
            "url": f"{self.shown}/{path[len(self._root) + 1 :]}",
            "etag": version,
            "total": info.get("size"),
        }

    def _copy(self, path: str, address: Address, part: Part, total: int | None) -> None:
        with self._fs.open(path, "rb") as stream:
            if part.size:
                stream.seek(part.size)
            while data := stream.read(_CHUNK):
                if self._downloader.stop.is_set():
                    raise StoppedError(address.what)
                part.write(data)
                self._downloader.progress(address.what, part.size, total)
        if total is not None and part.size != total:
            raise FetchError(address.what, f"the mirror has {total:,} bytes of it and gave {part.size:,}")


def _words(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    # Keys and signed addresses stand in some stores' errors.
    return re.sub(r"\w+://\S+", "an address", said) or type(error).__name__
