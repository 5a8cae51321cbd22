"""What a source declares to be fetched: ``checksums.tsv`` beside its builder, one file a line.

::

    url	bytes	sha256	file

`bytes` and `sha256` stay empty where the publisher's bytes change, `file` is the path in the source's folder of
the raw store. Lines that begin with ``#`` are for people. ``mediawiki+https://HOST/api.php`` stands for all
pages of a wiki, read through its API.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from meadow.core.archive import safe_member
from meadow.core.builder import Builder
from meadow.core.errors import Error
from meadow.core.store import write_whole

#: The file that declares addresses, and the same of a mirror.
CHECKSUMS = "checksums.tsv"
#: What a fetch notes of the files it brought, in the source's folder; the same columns.
RECORD = ".fetched.tsv"
COLUMNS = ("url", "bytes", "sha256", "file")
MEDIAWIKI = "mediawiki+"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DRIVE_PATH = re.compile(r"/file/d/([\w-]{10,})(?:/|$)")


class AddressError(Error, ValueError):
    """A ``checksums.tsv`` that cannot be used, or a name that stands for nothing; says what to change."""


@dataclass(frozen=True, slots=True)
class Address:
    """A file that a source declares, with its size and hex SHA-256 where these are stable.

    `url` is the declared address without ``mediawiki+``, `wiki` whether it is an API whose pages become the file.
    """

    source: str
    file: str
    url: str = ""
    bytes: int | None = None
    sha256: str | None = None
    wiki: bool = False

    @property
    def what(self) -> str:
        """Source and file, as in the raw store and in messages."""
        return f"{self.source}/{self.file}"

    @property
    def download(self) -> str:
        """The address that gives the bytes; differs from `url` for a drive host, which shows a page there."""
        drive = drive_id(self.url)
        if drive is None:
            return self.url
        return f"https://drive.usercontent.google.com/download?id={quote(drive)}&export=download&confirm=t"

    def difference(self, size: int, sha256: str, told: str = "declared") -> str:
        """How a file differs from what is told of it, in words; empty where it does not."""
        if self.bytes is not None and size != self.bytes:
            return f"it has {size:,} bytes, {told} are {self.bytes:,}"
        if self.sha256 and sha256 != self.sha256:
            return f"its SHA-256 is {sha256}, {told} is {self.sha256}"
        return ""


def drive_id(url: str) -> str | None:
    """The file's id of an address on Google Drive, such as ``https://drive.google.com/file/d/ID/view``."""
    parts = urlsplit(url)
    if parts.hostname != "drive.google.com":
        return None
    if path := _DRIVE_PATH.match(parts.path):
        return path[1]
    return parse_qs(parts.query).get("id", [None])[0] if parts.path in ("/open", "/uc") else None


def without_secrets(url: str) -> str:
    """An address as it may be shown: without user, password and query, which can hold a signature.

    The query of a drive host's page stays: it is the file's public name.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    query = parts.query if drive_id(url) else ""
    return parts._replace(netloc=host, query=query, fragment="").geturl()


def check_path(file: str) -> str | None:
    """What is wrong with a path in a source's folder; None where it can be used."""
    parts = file.split("/")
    if not safe_member(file) or "\\" in file or _CONTROL.search(file) or "" in parts or "." in parts:
        return "it is no path within the source's folder"
    if any(part.startswith(".") for part in parts):
        return "a build passes over names that begin with a dot"
    return None


def parse(text: str, source: str, origin: str, *, exact: bool = False) -> tuple[Address, ...]:
    """Reads the text of a ``checksums.tsv``, which errors call `origin`.

    With `exact`, names are those of files that are there, which may differ in case or a space alone. A line that
    cannot be used is an `AddressError`, which names it and what it should be.
    """
    found: dict[str, Address] = {}
    header = False
    # Not splitlines(): it ends a line at U+2028, too, which a name may hold.
    for number, line in enumerate(re.split(r"\r\n?|\n", text.removeprefix("\ufeff")), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        try:
            if header:
                address = _address([*cells[:-1], line.rpartition("\t")[2]] if exact else cells, source)
                key = address.file if exact else address.file.lower()
                if key in found:
                    raise ValueError(f"{address.file} is declared twice; give each address a file of its own")
                found[key] = address
            elif tuple(cells) != COLUMNS:
                raise ValueError(
                    f"the first line must be the columns {', '.join(COLUMNS)}, with tabs between"
                )
        except ValueError as error:
            raise AddressError(f"{origin}:{number}: {error}") from None
        header = True
    return tuple(found.values())


def _address(cells: list[str], source: str) -> Address:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"{len(cells)} columns instead of {len(COLUMNS)}; separate them with one tab each")
    url, size, sha256, file = cells
    if wrong := check_path(file):
        raise ValueError(f"file {file!r} cannot be used: {wrong}")
    if not re.fullmatch("[0-9]*", size):
        raise ValueError(f"bytes {size!r} is no number; leave it empty where the size is not stable")
    if sha256 and not _SHA256.fullmatch(sha256.lower()):
        raise ValueError("sha256 is not 64 hexadecimal digits; leave it empty where the bytes are not stable")
    wiki = url.startswith(MEDIAWIKI)
    url = url.removeprefix(MEDIAWIKI)
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise ValueError(f"url {without_secrets(url)!r} is no http or https address")
    return Address(source, file, url, int(size) if size else None, sha256.lower() or None, wiki)


def declared(builder: Builder | type[Builder]) -> tuple[Address, ...]:
    """The files that a source says where to get; an `AddressError` where its ``checksums.tsv`` cannot be used."""
    path = builder.folder() / CHECKSUMS
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise AddressError(f"{path}: {error}; it must be a text file in UTF-8") from None
    found = parse(text, builder.name, str(path))
    if missing := [address.file for address in found if not address.url]:
        raise AddressError(f"{path}: no url for {', '.join(missing)}")
    return found


def lines(addresses: Iterable[Address]) -> str:
    """The text of a ``checksums.tsv``."""
    rows: list[tuple[str, ...]] = [COLUMNS]
    for a in addresses:
        size = "" if a.bytes is None else str(a.bytes)
        rows.append((f"{MEDIAWIKI if a.wiki else ''}{a.url}", size, a.sha256 or "", a.file))
    return "".join("\t".join(row) + "\n" for row in rows)


def record(path: Path, source: str) -> dict[str, Address]:
    """What earlier fetches noted in a ``.fetched.tsv``, by file; empty where that cannot be read."""
    try:
        noted = parse(path.read_text(encoding="utf-8"), source, str(path), exact=True)
    except (OSError, ValueError):
        return {}
    return {address.file: address for address in noted}


def write_record(path: Path, noted: Mapping[str, Address]) -> None:
    """Replaces a ``.fetched.tsv``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lines(noted[file] for file in sorted(noted)))


@dataclass(frozen=True, slots=True)
class Wanted:
    """A source with those of its declared files that somebody asked for: all, and by name or only by ``all``."""

    builder: type[Builder]
    addresses: tuple[Address, ...]
    whole: bool = True
    named: bool = True

    @property
    def name(self) -> str:
        """The source's name."""
        return self.builder.name


def source_of(classes: Mapping[str, type[Builder]]) -> dict[str, str]:
    """The source of each name that a source or one of its datasets has."""
    datasets = {config: source for source, cls in classes.items() for config in cls.configs}
    return datasets | {source: source for source in classes}


def wanted(names: Iterable[str], classes: Mapping[str, type[Builder]]) -> list[Wanted]:
    """What names stand for: ``all``, a source, one of its datasets, or one of its files.

    A dataset stands for its source, for files seldom belong to one dataset alone; but ``SOURCE_PART`` is the
    file that PART begins the name of, such as ``stackexchange_biology``, and ``SOURCE/FILE`` just that file. A
    name that stands for nothing is an `AddressError`, which says which there are.
    """
    names = tuple(names)
    meant = [_meant(name, classes) for name in names if name != "all"]
    named = {source for source, _ in meant}
    whole = {source for source, some in meant if some is None} | set(classes if "all" in names else ())
    files = {(source, file) for source, some in meant for file in some or ()}
    return [
        Wanted(
            classes[name],
            tuple(a for a in declared(classes[name]) if name in whole or (name, a.file) in files),
            name in whole,
            name in named,
        )
        for name in sorted(named | whole)
    ]


def _meant(name: str, classes: Mapping[str, type[Builder]]) -> tuple[str, list[str] | None]:
    sources = source_of(classes)
    if name in sources:
        return sources[name], None
    for source, cls in classes.items():
        files = [address.file for address in declared(cls)]
        part = f"{name.removeprefix(f'{source}_')}.".lower()
        some = [file for file in files if f"{source}/{file}" == name]
        if not some and name.startswith(f"{source}_"):
            some = [file for file in files if file.lower().startswith(part)]
        if some:
            return source, some
    known = dict.fromkeys(("all", *classes, *sources))
    raise AddressError(
        f"no source or dataset is named {name!r}; there are: {', '.join(known)}; "
        "and SOURCE/FILE, as `meadow fetch --list` shows them"
    )
