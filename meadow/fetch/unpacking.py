"""Installing a pack, which may come from anybody.

Only plain files that the pack's list names, in its order and with the size and hash that it names, are taken. They
wait under numbers in a folder beside, and the raw store gets them when the last one has been verified: that is
stricter than the filters of `tarfile`, which judge one member at a time.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from meadow.core.rawfile import MAX_RATIO, RATIO_FLOOR
from meadow.fetch.addresses import RECORD, lines, record
from meadow.fetch.outcome import FetchError, Progress, Silent, locked, sha256_of, unwritable
from meadow.fetch.packing import (
    FORMAT,
    LIST,
    LONGEST_LIST,
    MAX_WINDOW,
    VERSION,
    Meter,
    PackEntry,
    not_allowed,
    travels,
)

_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878, section 3.1.1
_CHUNK = 2**20
#: What tar may spend on the header of one member, long names included; more is an attack on memory.
_MAX_HEADER = 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_STAGING = ".unpack-"
_MAKE_AGAIN = "Make the pack again with `meadow fetch --pack`, and compare its SHA-256 after carrying it."

_Members = Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A pack that was installed.

    Attributes:
        sources: The sources in it, sorted.
        installed: Paths that the raw store has got, sorted.
        kept: Paths that it had already, byte for byte.
        bytes: Size of what was installed.
    """

    sources: tuple[str, ...]
    installed: tuple[str, ...]
    kept: tuple[str, ...]
    bytes: int


class _HostileError(Exception):
    """What in a pack no pack has."""


def unpack(file: Path, raw: Path, *, progress: Progress | None = None) -> Unpacked:
    """Verifies a pack from beginning to end, and then puts its files into a raw store.

    Files that are there already with the same bytes stay as they are, so that a run that was cut off can be
    repeated. Nothing that differs is ever replaced.

    Args:
        file: The pack.
        raw: The raw store; it is made where it does not exist.
        progress: Is told how far it is.

    Raises:
        FetchError: The pack is damaged, hostile, no pack at all or of a later format, or the raw store cannot
            take it: no space, other files in the same places, another fetch at work. The raw store is then
            as it was.
    """
    import zstandard

    with locked(raw):
        for old in raw.glob(f"{_STAGING}*"):  # of a run that was killed
            shutil.rmtree(old, ignore_errors=True)
        try:
            stream = file.open("rb")
        except OSError as error:
            problem = f"cannot be opened: {error.strerror or error}"
            raise FetchError(str(file), problem, "Name the pack that was carried over.") from error
        with stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                raise FetchError(str(file), "is no zstd file, and so no pack", _MAKE_AGAIN)
            stream.seek(0)
            try:
                plain = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(
                    stream, closefd=False
                )
                with tempfile.TemporaryDirectory(prefix=_STAGING, dir=raw) as staging:
                    return _install(_members(plain), file, raw, Path(staging), progress or Silent())
            except _HostileError as error:
                problem = f"is no pack that Meadow wrote: {error}"
                raise FetchError(str(file), problem, "Do not use it; make the pack again.") from error
            except (tarfile.TarError, zstandard.ZstdError, EOFError, UnicodeError) as error:
                raise FetchError(str(file), f"is damaged: {error}", _MAKE_AGAIN) from error
            except OSError as error:
                raise unwritable(raw, error) from error


class _Limited(io.RawIOBase):
    """The unpacked stream as tar reads it; may not give more than what the next step needs."""

    def __init__(self, inner: BinaryIO) -> None:
        self._inner, self.left = inner, _MAX_HEADER

    def read(self, size: int = -1) -> bytes:
        data = self._inner.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise _HostileError("a member's header is larger than any header is")
        return data


def _members(plain: BinaryIO) -> _Members:
    """The members of an archive with their contents; on hostile headers tarfile fails with whatever it comes upon."""
    import zstandard

    limited = _Limited(plain)
    try:
        with tarfile.open(fileobj=limited, mode="r|") as tar:
            while (member := tar.next()) is not None:
                # All members that it has seen would be memory without bound.
                tar.members = []  # pyright: ignore[reportAttributeAccessIssue]
                limited.left = member.size + 2 * _MAX_HEADER  # its content, and the next header
                yield member, tar.extractfile(member) if member.isreg() else None
    except (_HostileError, tarfile.TarError, zstandard.ZstdError, OSError, EOFError):
        raise
    except Exception as error:
        raise _HostileError(f"a header that cannot be read: {type(error).__name__}: {error}") from error


def _content(members: _Members, path: str, size: int | None) -> IO[bytes]:
    """The content of the next member, which must be that plain file."""
    member, content = next(members, (None, None))
    if member is None:
        raise EOFError(f"it ends before {path}")
    if content is None or member.type != tarfile.REGTYPE or member.sparse is not None:  # pyright: ignore
        raise _HostileError(f"{member.name!r} is a link, a folder or a device")
    if member.name != path:
        raise _HostileError(f"{member.name!r} stands where its list names {path!r}")
    if size is not None and member.size != size:
        raise _HostileError(f"{path!r} has {member.size:,} bytes, its list says {size:,}")
    if size is None and not 0 <= member.size <= LONGEST_LIST:
        raise _HostileError(f"its list of files claims {member.size:,} bytes")
    return content


def _install(members: _Members, file: Path, raw: Path, staging: Path, progress: Progress) -> Unpacked:
    entries = _read_list(_content(members, LIST, None).read(), file)
    total, size = sum(entry.bytes for entry in entries), file.stat().st_size
    if total > RATIO_FLOOR and total > MAX_RATIO * size:
        raise _HostileError(
            f"it claims to unpack to {total:,} bytes, {total // max(1, size):,} times its size"
        )
    same = _compare(entries, raw)
    wanted = sum(entry.bytes for entry in entries if entry.path not in same)
    free = shutil.disk_usage(raw).free
    if wanted > free:
        problem = f"{wanted:,} bytes are to be unpacked and {free:,} are free"
        raise FetchError(str(raw), problem, "Free space, or choose another raw store with --raw.")
    meter = Meter(progress, file.name, total)
    for number, entry in enumerate(entries):
        # Names in here are numbers: what a path means to this file system matters only at the end.
        place = os.devnull if entry.path in same else staging / str(number)
        digest = hashlib.sha256()
        content = _content(members, entry.path, entry.bytes)
        with open(place, "wb") as target:  # noqa: PTH123 - either is a path
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
                target.write(chunk)
                meter.add(len(chunk))
        if digest.hexdigest() != entry.sha256:
            problem = f"{entry.path} has another SHA-256 than the pack's list says; nothing was installed"
            raise FetchError(str(file), problem, _MAKE_AGAIN)
    further = next(members, None)
    if further:
        raise _HostileError(f"it holds {further[0].name!r}, which its list does not name")
    # From here on all is verified. Each file appears at once, so that a kill costs only what is not there yet.
    for number, entry in enumerate(entries):
        if entry.path not in same:
            _put(staging / str(number), raw / entry.path, entry.source)
    installed = tuple(sorted(entry.path for entry in entries if entry.path not in same))
    return Unpacked(
        tuple(sorted({entry.source for entry in entries})), installed, tuple(sorted(same)), wanted
    )


def _read_list(content: bytes, file: Path) -> list[PackEntry]:
    strange = _HostileError("its list of files is not that of a pack")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _HostileError(f"its list of files is no JSON: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise strange
    if found.get("version") != VERSION:
        problem = f"is a pack of format {found.get('version')!r}, which this Meadow does not know"
        raise FetchError(str(file), problem, "Install the Meadow that made it.")
    items = found.get("files")
    items = items if isinstance(items, list) else []
    entries = {entry.path: entry for entry in map(_entry, items)}
    if not entries:
        raise _HostileError("its list names no files")
    if len(entries) != len(items):
        raise _HostileError("its list names a file twice")
    for path in entries:
        if any(str(above) in entries for above in Path(path).parents):
            raise _HostileError(f"{path!r} would lie below a file")
    return list(entries.values())


def _entry(item: Any) -> PackEntry:
    match item:
        case {"path": str(path), "bytes": int(size), "sha256": str(sha256)} if size >= 0 and size is not True:
            wrong = not_allowed(path)
        case _:
            raise _HostileError("its list of files is not that of a pack")
    if wrong:
        raise _HostileError(f"the path {path!r}: {wrong}")
    if not _SHA256.fullmatch(sha256):
        raise _HostileError(f"{path!r} has no SHA-256")
    return PackEntry(path, size, sha256)


def _compare(entries: Sequence[PackEntry], raw: Path) -> frozenset[str]:
    """The files that the raw store has already.

    Raises:
        FetchError: It has others in their places.
    """
    same, others = set(), []
    for entry in entries:
        target = raw / entry.path
        try:
            if (
                target.is_file()
                and target.stat().st_size == entry.bytes
                and sha256_of(target) == entry.sha256
            ):
                same.add(entry.path)
            elif os.path.lexists(target) and not travels(target.name):  # notes are merged or replaced
                others.append(entry.path)
        except OSError as error:
            raise FetchError(str(target), f"cannot be read: {error.strerror or error}") from error
    if others:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        raise FetchError(
            str(raw),
            f"has other files than the pack in the places of {', '.join(others[:5])}{more}",
            "Move these away, or unpack into another raw store with --raw; nothing was changed.",
        )
    return frozenset(same)


def _put(place: Path, target: Path, source: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.name == RECORD and target.exists():
        merged = record(target, source) | record(place, source)
        place.write_text(lines(merged[name] for name in sorted(merged)), encoding="utf-8", newline="\n")
    try:
        place.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # A source's folder may be a link to another disk.
        beside = target.with_name(f".{target.name}.part")
        shutil.copyfile(place, beside)
        beside.replace(target)
