"""Installing a pack, which may come from anybody.

Only plain files that the pack's list names, in its order and with the size and hash that it names, are taken. They
wait under numbers in a folder beside, and the raw store gets them when the last one has been verified: that is
stricter than the filters of `tarfile`, which judge one member at a time.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import pydantic
import zstandard

from meadow.core.rawfile import MAX_RATIO, RATIO_FLOOR
from meadow.core.yamlfile import mistakes
from meadow.fetch import packing
from meadow.fetch.addresses import RECORD, record, write_record
from meadow.fetch.outcome import FetchError, Progress, locked, sha256_of, unwritable
from meadow.fetch.packing import CHUNK, LIST, LONGEST_LIST, Meter, PackEntry, PackList

#: What tar may spend on the header of one member, long names included; more is an attack on memory.
_MAX_HEADER = 2**20
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
            take it: no space, other files in the same places, another fetch at work. It is then as it was.
    """
    with locked(raw):
        for old in raw.glob(f"{_STAGING}*"):  # of a run that was killed
            shutil.rmtree(old, ignore_errors=True)
        try:
            stream = file.open("rb")
        except OSError as error:
            problem = f"cannot be opened: {error.strerror or error}"
            raise FetchError(str(file), problem, "Name the pack that was carried over.") from error
        with stream:
            if stream.read(4) != b"\x28\xb5\x2f\xfd":  # RFC 8878, section 3.1.1
                raise FetchError(str(file), "is no zstd file, and so no pack", _MAKE_AGAIN)
            stream.seek(0)
            try:
                with tempfile.TemporaryDirectory(prefix=_STAGING, dir=raw) as staging:
                    return _install(_members(packing.unzstd(stream)), file, raw, Path(staging), progress)
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


def _install(members: _Members, file: Path, raw: Path, staging: Path, progress: Progress | None) -> Unpacked:
    listed = _read_list(_content(members, LIST, None).read(), file)
    total, size = sum(entry.bytes for entry in listed.files), file.stat().st_size
    if total > RATIO_FLOOR and total > MAX_RATIO * size:
        claim = f"it claims to unpack to {total:,} bytes, {total // max(1, size):,} times its size"
        raise _HostileError(claim)
    same = _compare(listed.files, raw)
    wanted = sum(entry.bytes for entry in listed.files if entry.path not in same)
    free = shutil.disk_usage(raw).free
    if wanted > free:
        problem = f"{wanted:,} bytes are to be unpacked and {free:,} are free"
        raise FetchError(str(raw), problem, "Free space, or choose another raw store with --raw.")
    meter = Meter(progress, file.name, total)
    new: dict[str, Path] = {}
    for number, entry in enumerate(listed.files):
        content = meter.over(_content(members, entry.path, entry.bytes))
        # Names in here are numbers: what a path means to this file system matters only at the end.
        place = Path(os.devnull) if entry.path in same else staging / str(number)
        with place.open("wb") as target:
            shutil.copyfileobj(content, target, CHUNK)
        if content.sha256 != entry.sha256:
            problem = f"{entry.path} has another SHA-256 than the pack's list says; nothing was installed"
            raise FetchError(str(file), problem, _MAKE_AGAIN)
        if entry.path not in same:
            new[entry.path] = place
    if further := next(members, None):
        raise _HostileError(f"it holds {further[0].name!r}, which its list does not name")
    # From here on all is verified. Each file appears at once, so that a kill costs only what is not there yet.
    for path, place in new.items():
        _put(place, raw / path)
    return Unpacked(listed.sources, tuple(sorted(new)), tuple(sorted(same)), wanted)


def _read_list(content: bytes, file: Path) -> PackList:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _HostileError(f"its list of files is no JSON: {error}") from error
    if (
        isinstance(found, dict)
        and found.get("format") == packing.FORMAT
        and found.get("version") != packing.VERSION
    ):
        problem = f"is a pack of format {found.get('version')!r}, which this Meadow does not know"
        raise FetchError(str(file), problem, "Install the Meadow that made it.")
    try:
        return PackList.model_validate(found)
    except pydantic.ValidationError as error:
        wrong = next(mistakes(error, PackList))
        raise _HostileError(f"its list of files is not that of a pack: {wrong}") from error


def _compare(entries: list[PackEntry], raw: Path) -> set[str]:
    """The files that the raw store has already.

    Raises:
        FetchError: It has others in their places.
    """
    same, others = set(), []
    for entry in entries:
        target = raw / entry.path
        try:
            there = target.is_file() and target.stat().st_size == entry.bytes
            if there and sha256_of(target) == entry.sha256:
                same.add(entry.path)
            elif os.path.lexists(target) and not packing.travels(target.name):  # notes are merged or replaced
                others.append(entry.path)
        except OSError as error:
            raise FetchError(str(target), f"cannot be read: {error.strerror or error}") from error
    if others:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        problem = f"has other files than the pack in the places of {', '.join(others[:5])}{more}"
        remedy = "Move these away, or unpack into another raw store with --raw; nothing was changed."
        raise FetchError(str(raw), problem, remedy)
    return same


def _put(place: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.name == RECORD and target.exists():
        write_record(place, record(target, "") | record(place, ""))
    beside = target.with_name(f".{target.name}.part")
    shutil.move(place, beside)  # a source's folder may be a link to another disk
    beside.replace(target)
