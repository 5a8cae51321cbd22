"""Installing a pack, which may come from anybody.

Of a pack, only those bytes are taken that Meadow itself writes for the files of its list: no link, no device and no
file beside them gets as far as to be looked at, which is stricter than the filters of `tarfile`. The files wait
under numbers in a folder beside, and the raw store gets them when the last one has been verified.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pydantic
import zstandard

from meadow.core.rawfile import MAX_RATIO, RATIO_FLOOR
from meadow.core.yamlfile import mistakes
from meadow.fetch import packing
from meadow.fetch.addresses import RECORD, record, write_record
from meadow.fetch.outcome import ROOM, FetchError, Progress, explained, locked, sha256_of
from meadow.fetch.packing import LIST, LONGEST_LIST, PackEntry, PackList

_STAGING = ".unpack-"
_MAKE_AGAIN = "Make the pack again with `meadow fetch --pack`, and compare its SHA-256 after carrying it."


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A pack that was installed: its sources, the paths and bytes that the raw store got, and those it had."""

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

    Raises:
        FetchError: The pack is damaged, hostile, no pack at all or of a later format, or the raw store cannot
            take it: no space, other files in the same places, another fetch at work. It is then as it was.
    """
    with locked(raw):
        for old in raw.glob(f"{_STAGING}*"):  # of a run that was killed
            shutil.rmtree(old, ignore_errors=True)
        with explained(file, "opened", "Name the pack that was carried over."):
            stream = file.open("rb")
        with stream, explained(raw, "written", ROOM):
            if stream.read(4) != b"\x28\xb5\x2f\xfd":  # RFC 8878, section 3.1.1
                raise FetchError(file, "is no zstd file, and so no pack", _MAKE_AGAIN)
            stream.seek(0)
            try:
                with tempfile.TemporaryDirectory(prefix=_STAGING, dir=raw) as staging:
                    return _install(packing.unzstd(stream), file, raw, Path(staging), progress)
            except _HostileError as error:
                problem = f"is no pack that Meadow wrote: {error}"
                raise FetchError(file, problem, "Do not use it; make the pack again.") from error
            except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
                raise FetchError(file, f"is damaged: {error}", _MAKE_AGAIN) from error


def _install(plain: BinaryIO, file: Path, raw: Path, staging: Path, progress: Progress | None) -> Unpacked:
    listed = _read_list(plain, file)
    total, size = sum(entry.bytes for entry in listed.files), file.stat().st_size
    if total > RATIO_FLOOR and total > MAX_RATIO * size:
        times = total // max(1, size)
        raise _HostileError(f"it claims to unpack to {total:,} bytes, {times:,} times its size")
    same = _compare(listed.files, raw)
    wanted = sum(entry.bytes for entry in listed.files if entry.path not in same)
    free = shutil.disk_usage(raw).free
    if wanted > free:
        problem = f"{wanted:,} bytes are to be unpacked and {free:,} are free"
        raise FetchError(raw, problem, "Free space, or choose another raw store with --raw.")
    meter = packing.Meter(progress, file.name, total)
    new: dict[str, Path] = {}
    for number, entry in enumerate(listed.files):
        _expect(plain, packing.header(entry.path, entry.bytes), entry.path)
        # Names in here are numbers: what a path means to this file system matters only at the end.
        place = Path(os.devnull) if entry.path in same else staging / str(number)
        with place.open("wb") as target:
            sha256 = meter.copy(plain, target, entry.bytes)
        if sha256 != entry.sha256:
            problem = f"{entry.path} has another SHA-256 than the pack's list says; nothing was installed"
            raise FetchError(file, problem, _MAKE_AGAIN)
        _expect(plain, packing.padding(entry.bytes), entry.path)
        if entry.path not in same:
            new[entry.path] = place
    _expect(plain, bytes(2 * tarfile.BLOCKSIZE), "what follows the last file")
    if any(plain.read(tarfile.RECORDSIZE)) or plain.read(1):
        raise _HostileError("it holds more than its list names")
    # From here on all is verified. Each file appears at once, so that a kill costs only what is not there yet.
    for path, place in new.items():
        _put(place, raw / path)
    return Unpacked(listed.sources, tuple(sorted(new)), tuple(sorted(same)), wanted)


def _take(plain: BinaryIO, size: int, what: str) -> bytes:
    found = plain.read(size)
    if len(found) < size:
        raise EOFError(f"it ends at {what}")
    return found


def _expect(plain: BinaryIO, wanted: bytes, what: str) -> None:
    if _take(plain, len(wanted), what) != wanted:
        raise _HostileError(f"{what} is not the plain file that its list names, of that size in that place")


def _read_list(plain: BinaryIO, file: Path) -> PackList:
    begin = _take(plain, tarfile.BLOCKSIZE, LIST)
    size = tarfile.TarInfo.frombuf(begin, "utf-8", "surrogateescape").size
    if not 0 <= size <= LONGEST_LIST or begin != packing.header(LIST, size):
        raise _HostileError(f"it does not begin with {LIST}")
    content = _take(plain, size, LIST)
    _expect(plain, packing.padding(size), LIST)
    try:
        return PackList.model_validate_json(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("version",):
            problem = f"is a pack of format {first['input']!r}, which this Meadow does not know"
            raise FetchError(file, problem, "Install the Meadow that made it.") from None
        if first["type"] == "json_invalid":
            raise _HostileError(f"its list of files is no JSON: {first['msg']}") from None
        wrong = next(mistakes(error, PackList))
        raise _HostileError(f"its list of files is not that of a pack: {wrong}") from error


def _compare(entries: list[PackEntry], raw: Path) -> set[str]:
    """The files that the raw store has already; others in their places are a `FetchError`."""
    same, others = set(), []
    for entry in entries:
        target = raw / entry.path
        with explained(target, "read", "See that you may read it."):
            there = target.is_file() and target.stat().st_size == entry.bytes
            if there and sha256_of(target) == entry.sha256:
                same.add(entry.path)
            elif os.path.lexists(target) and not packing.travels(target.name):  # notes are merged or replaced
                others.append(entry.path)
    if others:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        problem = f"has other files than the pack in the places of {', '.join(others[:5])}{more}"
        remedy = "Move these away, or unpack into another raw store with --raw; nothing was changed."
        raise FetchError(raw, problem, remedy)
    return same


def _put(place: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.name == RECORD and target.exists():
        write_record(place, record(target, "") | record(place, ""))
    beside = target.with_name(f".{target.name}.part")
    shutil.move(place, beside)  # a source's folder may be a link to another disk
    beside.replace(target)
