"""A filled raw store as one file, to be carried where no network reaches.

A pack is a ``tar.zst``. Its first member, ``MEADOW-PACK.json``, lists every file with size and SHA-256; the files
follow in that order, each as ``SOURCE/PATH``, and nothing else. The same files give the same bytes (under one
version of zstandard): no dates, owners or paths of the machine are in it.

Unpacking trusts nothing. Only plain files that the list names, with the size and hash that it names, are taken;
they wait in a folder beside, and the raw store gets them when the last one has been verified.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from meadow.core.raw import MAX_RATIO, RATIO_FLOOR
from meadow.fetch.addresses import RECORD, FetchError, Progress, Silent, check_path, lines, record

MANIFEST = "MEADOW-PACK.json"
_FORMAT, _VERSION = "meadow-pack", 1
#: Notes that a fetch leaves beside a file about where it is from; hidden from builds, but they travel.
ABOUT = ".about.json"
_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878, section 3.1.1
_CHUNK = 2**20
#: A list of a million files; a raw store has hundreds.
_MAX_MANIFEST = 256 * 2**20
#: What tar may spend on the header of one member, long names included; more is an attack on memory.
_MAX_HEADER = 2**20
#: zstd's default levels use windows up to 8 MiB and its strongest 128 MiB; the reader needs that much memory.
_MAX_WINDOW = 2**27
_SHA256 = re.compile(r"[0-9a-f]{64}")
_STAGING = ".unpack-"
_LOCK = ".unpack.lock"
_MAKE_AGAIN = "Make the pack again with `meadow fetch --pack`, and compare its SHA-256 after carrying it."


@dataclass(frozen=True, slots=True)
class Packed:
    """A pack that was written.

    Attributes:
        file: The pack.
        sources: The sources in it, sorted.
        files: How many files it holds.
        bytes: Their size unpacked.
        packed: The pack's own size in bytes.
        sha256: The pack's own hash, to compare after carrying it.
        left_out: What lies in the raw store and is not in the pack, with the reason.
    """

    file: Path
    sources: tuple[str, ...]
    files: int
    bytes: int
    packed: int
    sha256: str
    left_out: tuple[str, ...]


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


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str
    bytes: int
    sha256: str


def pack(
    raw: Path, file: Path, *, names: Iterable[str] | None = None, progress: Progress | None = None
) -> Packed:
    """Writes the raw files of sources into one file, beside first and then in place.

    Args:
        raw: The raw store.
        file: The pack to write; an older pack there is replaced, any other file is not.
        names: The sources, by their names or those of their datasets; None for all that are installed and
            have files.
        progress: Is told how far it is.

    Raises:
        FetchError: There is nothing to pack, `file` cannot be written or lies in the raw store, or a raw
            file cannot be read or changes meanwhile.
    """
    progress = progress or Silent()
    _check_target(raw, file)
    found, left_out = _collect(raw, names)
    if not found:
        raise FetchError(
            str(raw), "there is nothing to pack", "Fill the raw store first, with `meadow fetch` or by hand."
        )
    total = sum(local.stat().st_size for local in found.values())
    meter = _Meter(progress, file.name, 2 * total)  # each file is read twice: for the list, then for the pack
    entries = [_hashed(path, local, meter) for path, local in found.items()]
    listed = _manifest(entries)
    if len(listed) > _MAX_MANIFEST:
        raise FetchError(
            str(raw), f"{len(entries)} files are too many for one pack", "Pack sources one by one."
        )
    beside = file.with_name(f".{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as stream:
            _write(stream, listed, entries, found, meter)
            stream.flush()
            os.fsync(stream.fileno())
        with beside.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = beside.stat().st_size
        beside.replace(file)
    except OSError as error:
        raise FetchError(
            str(file), f"cannot be written: {error.strerror or error}", "Free space, or choose another place."
        ) from error
    finally:
        beside.unlink(missing_ok=True)
    return Packed(
        file,
        tuple(sorted({entry.path.split("/", 1)[0] for entry in entries})),
        len(entries),
        sum(entry.bytes for entry in entries),
        size,
        digest,
        tuple(left_out),
    )


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
            take it: no space, other files in the same places, another unpacking at work. The raw store is then
            as it was.
    """
    from filelock import FileLock, Timeout

    progress = progress or Silent()
    try:
        raw.mkdir(parents=True, exist_ok=True)
        lock = FileLock(raw / _LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise FetchError(
            str(raw), "another `meadow fetch --unpack` is filling it", "Wait until it is done."
        ) from None
    except OSError as error:
        raise _unwritable(raw, error) from error
    try:
        for old in raw.glob(f"{_STAGING}*"):  # of a run that was killed
            shutil.rmtree(old, ignore_errors=True)
        try:
            staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=raw))
        except OSError as error:
            raise _unwritable(raw, error) from error
        try:
            return _unpack(file, raw, staging, progress)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    finally:
        lock.release()


def _unwritable(raw: Path, error: OSError) -> FetchError:
    return FetchError(
        str(raw), f"cannot be written: {error.strerror or error}", "Choose another raw store with --raw."
    )


class _Meter:
    """Adds up the bytes of several files for one line of progress."""

    def __init__(self, progress: Progress, what: str, total: int) -> None:
        self._progress, self._what, self._total, self._done = progress, what, total, 0

    def add(self, size: int) -> None:
        self._done += size
        self._progress(self._what, min(self._done, self._total), self._total)


# --- packing --------------------------------------------------------------------------------------


def _check_target(raw: Path, file: Path) -> None:
    if file.is_dir():
        raise FetchError(str(file), "is a folder", "Name the file to write, such as raw.tar.zst.")
    if file.resolve().is_relative_to(raw.resolve()):
        raise FetchError(str(file), "lies in the raw store", "Write the pack to a place outside of it.")
    try:
        with file.open("rb") as stream:
            replaced = not stream.read(1) or _is_pack(stream)
    except FileNotFoundError:
        return
    except OSError as error:
        raise FetchError(
            str(file), error.strerror or str(error), "Choose another place for the pack."
        ) from error
    if not replaced:
        raise FetchError(
            str(file), "is there already and is no pack", "Choose another name, or remove the file first."
        )


def _is_pack(stream: BinaryIO) -> bool:
    """Whether a file begins as a pack does; any other zstd file is somebody's data."""
    import zstandard

    stream.seek(0)
    name = MANIFEST.encode()
    try:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        return decompressor.stream_reader(stream, closefd=False).read(len(name)) == name
    except zstandard.ZstdError:
        return False


def _collect(raw: Path, names: Iterable[str] | None) -> tuple[dict[str, Path], list[str]]:
    """The files to pack by path, sorted, and what is left out, with the reason."""
    from meadow.core.builder import available

    known = available()[0]
    source_of = {config: cls.name for cls in known.values() for config in cls.configs}
    source_of.update((name, name) for name in known)
    wanted = set(known if names is None else names)
    chosen = sorted({source_of[name] for name in wanted if name in source_of})
    unknown = sorted(wanted - set(source_of))
    if unknown:
        raise FetchError(", ".join(unknown), "is no source", f"There are: {', '.join(sorted(known))}.")
    found: dict[str, Path] = {}
    left_out: list[str] = []
    for name in chosen:
        if (raw / name).is_dir():
            for path, local, reason in _walk(raw / name, name):
                if reason:
                    left_out.append(f"{path}: {reason}")
                else:
                    found[path] = local
        elif names is not None:
            left_out.append(f"{name}: no files in {raw}")
    if names is None and raw.is_dir():
        strangers = (entry.name for entry in raw.iterdir() if entry.name not in known)
        left_out += [
            f"{name}: belongs to no source" for name in sorted(strangers) if not name.startswith(".")
        ]
    return dict(sorted(found.items())), left_out


def _walk(
    folder: Path, prefix: str, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[tuple[str, Path, str]]:
    """Yields (path, place, reason against it or empty) of all files below; links are followed once."""
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield prefix, folder, f"cannot be read: {error.strerror or error}"
        return
    above |= {(status.st_dev, status.st_ino)}
    for entry in entries:
        local = Path(entry.path)
        readable = os.fsencode(entry.name).decode("utf-8", "replace")
        path = f"{prefix}/{readable}"
        if entry.name.startswith(".") and not _travels(entry.name):
            if ".part" in entry.name:
                yield path, local, "a fetch that is not finished"
            continue
        try:
            status = entry.stat()
        except OSError as error:
            yield path, local, f"a link that leads nowhere: {error.strerror or error}"
            continue
        if stat.S_ISDIR(status.st_mode):
            if (status.st_dev, status.st_ino) in above:
                yield path, local, "a link to a folder that it lies in"
            else:
                yield from _walk(local, path, above)
        elif not stat.S_ISREG(status.st_mode):
            yield path, local, "no plain file"
        elif readable != entry.name:
            yield path, local, "a name that is not UTF-8"
        else:
            yield path, local, _not_allowed(path) or ""


def _travels(name: str) -> bool:
    """Whether a hidden file belongs to the raw data: what a fetch noted about where it is from."""
    return name == RECORD or (name.startswith(".") and name.endswith(ABOUT))


def _not_allowed(path: str) -> str | None:
    """What is wrong with ``SOURCE/PATH``; None where a pack may hold it."""
    folder, _, name = path.rpartition("/")
    if not folder:
        return "it lies in no source's folder"
    return check_path(f"{folder}/x" if _travels(name) else path)


def _hashed(path: str, local: Path, meter: _Meter) -> _Entry:
    digest, size = hashlib.sha256(), 0
    try:
        with local.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                meter.add(len(chunk))
    except OSError as error:
        raise FetchError(
            path, f"cannot be read: {error.strerror or error}", "See that you may read it, or remove it."
        ) from error
    return _Entry(path, size, digest.hexdigest())


def _manifest(entries: Iterable[_Entry]) -> bytes:
    files = [{"path": e.path, "bytes": e.bytes, "sha256": e.sha256} for e in entries]
    found = {"format": _FORMAT, "version": _VERSION, "files": files}
    return (json.dumps(found, ensure_ascii=False, indent=1) + "\n").encode()


class _Reading(io.RawIOBase):
    """A file that is hashed as it is read."""

    def __init__(self, stream: BinaryIO, meter: _Meter) -> None:
        self._stream, self._meter, self.digest = stream, meter, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.digest.update(data)
        self._meter.add(len(data))
        return data


def _write(
    stream: BinaryIO, listed: bytes, entries: Iterable[_Entry], found: dict[str, Path], meter: _Meter
) -> None:
    import zstandard

    # One thread: with several, the bytes would be others.
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
    with (
        compressor.stream_writer(stream, closefd=False) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        tar.addfile(_member(MANIFEST, len(listed)), io.BytesIO(listed))
        for entry in entries:
            with _readable(entry, found[entry.path]) as inner:
                reading = _Reading(inner, meter)
                try:
                    tar.addfile(_member(entry.path, entry.bytes), reading)
                except OSError as error:
                    if error.errno is not None:  # the disk; without a number it is tarfile's "unexpected end"
                        raise
                    raise _changed(entry) from error
            if reading.digest.hexdigest() != entry.sha256:
                raise _changed(entry)


@contextlib.contextmanager
def _readable(entry: _Entry, local: Path) -> Iterator[BinaryIO]:
    try:
        stream = local.open("rb")
    except OSError as error:
        raise _changed(entry) from error
    with stream:
        yield stream


def _changed(entry: _Entry) -> FetchError:
    return FetchError(
        entry.path, "changed while it was packed", "Wait until whatever writes to it is done, and pack again."
    )


def _member(path: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.size, member.mode = size, 0o644
    return member


# --- unpacking ------------------------------------------------------------------------------------


class _Limited:
    """The unpacked stream as tar reads it; may not give more than what the next step needs."""

    def __init__(self, inner: BinaryIO) -> None:
        self._inner, self.left = inner, 0

    def read(self, size: int = -1) -> bytes:
        data = self._inner.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise _HostileError("a member's header is larger than any header is")
        return data


class _HostileError(Exception):
    """What in a pack no pack has."""


def _opened(stream: _Limited) -> tarfile.TarFile:
    return _sane(lambda: tarfile.open(fileobj=stream, mode="r|"))


def _sane(step: Callable[[], Any]) -> Any:
    """Lets tarfile read a header; on hostile ones it fails with whatever its arithmetic gives."""
    import zstandard

    try:
        return step()
    except (_HostileError, tarfile.TarError, zstandard.ZstdError, OSError, EOFError):
        raise
    except Exception as error:
        raise _HostileError(f"a header that cannot be read: {type(error).__name__}: {error}") from error


def _unpack(file: Path, raw: Path, staging: Path, progress: Progress) -> Unpacked:
    import zstandard

    try:
        size = file.stat().st_size
        stream = file.open("rb")
    except OSError as error:
        raise FetchError(
            str(file), f"cannot be opened: {error.strerror or error}", "Name the pack that was carried over."
        ) from error
    with stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise FetchError(str(file), "is no zstd file, and so no pack", _MAKE_AGAIN)
        stream.seek(0)
        try:
            decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
            limited = _Limited(decompressor.stream_reader(stream, closefd=False))
            # tarfile opens the stream by reading the first header.
            limited.left = _MAX_HEADER
            with _opened(limited) as tar:
                return _install(_Pack(tar, limited, file, size), raw, staging, progress)
        except _HostileError as error:
            raise FetchError(
                str(file), f"is no pack that Meadow wrote: {error}", "Do not use it; make the pack again."
            ) from error
        except (tarfile.TarError, zstandard.ZstdError, EOFError, UnicodeError) as error:
            raise FetchError(str(file), f"is damaged: {error}", _MAKE_AGAIN) from error


class _Pack:
    """A pack that is being read, member after member."""

    def __init__(self, tar: tarfile.TarFile, limited: _Limited, file: Path, size: int) -> None:
        self._tar, self._limited, self.file, self.size = tar, limited, file, size

    def next(self, path: str | None) -> tarfile.TarInfo | None:
        """The next member, which must be the plain file `path`; None expects the end."""
        self._limited.left = _MAX_HEADER
        # An instance keeps all members it has seen, which would be memory without bound.
        self._tar.members = []
        member = _sane(self._tar.next)
        if path is None:
            if member is not None:
                raise _HostileError(f"it holds {member.name!r}, which its list does not name")
            return None
        if member is None:
            raise EOFError(f"it ends before {path}")
        if member.type != tarfile.REGTYPE or member.sparse is not None:
            raise _HostileError(f"{member.name!r} is a link, a folder or a device")
        if member.name != path:
            raise _HostileError(f"{member.name!r} stands where its list names {path!r}")
        return member

    def copy(self, member: tarfile.TarInfo, take: Callable[[bytes], Any]) -> None:
        """Reads a member's content in pieces."""
        self._limited.left = member.size + _MAX_HEADER
        content = self._tar.extractfile(member)
        left = member.size
        while left:
            chunk = content.read(min(_CHUNK, left))
            if not chunk:
                raise EOFError(f"it ends in the middle of {member.name}")
            left -= len(chunk)
            take(chunk)


def _install(pack_: _Pack, raw: Path, staging: Path, progress: Progress) -> Unpacked:
    entries = _read_manifest(pack_)
    total = sum(entry.bytes for entry in entries)
    if total > RATIO_FLOOR and total > MAX_RATIO * pack_.size:
        raise _HostileError(
            f"it claims to unpack to {total:,} bytes, {total // max(1, pack_.size):,} times its size"
        )
    same = _compare(entries, raw)
    wanted = sum(entry.bytes for entry in entries if entry.path not in same)
    free = shutil.disk_usage(raw).free
    if wanted > free:
        raise FetchError(
            str(raw),
            f"{wanted:,} bytes are to be unpacked and {free:,} are free",
            "Free space, or choose another raw store with --raw.",
        )
    meter = _Meter(progress, pack_.file.name, total)
    try:
        staged = _stage(pack_, entries, same, staging, meter)
        # From here on all is verified. Each file appears at once, so that a kill costs only what is not there yet.
        for entry, place in staged:
            _put(place, raw, entry.path)
    except OSError as error:
        raise _unwritable(raw, error) from error
    return Unpacked(
        tuple(sorted({entry.path.split("/", 1)[0] for entry in entries})),
        tuple(sorted(entry.path for entry, _ in staged)),
        tuple(sorted(same)),
        sum(entry.bytes for entry, _ in staged),
    )


def _read_manifest(pack_: _Pack) -> list[_Entry]:
    member = pack_.next(MANIFEST)
    if not 0 <= member.size <= _MAX_MANIFEST:
        raise _HostileError(f"its list of files claims {member.size:,} bytes")
    pieces: list[bytes] = []
    pack_.copy(member, pieces.append)
    try:
        found = json.loads(b"".join(pieces))
    except (ValueError, RecursionError) as error:
        raise _HostileError(f"its list of files is no JSON: {error}") from error
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise _HostileError("its list of files is not that of a pack")
    if found.get("version") != _VERSION:
        raise FetchError(
            str(pack_.file), f"is a pack of format {found.get('version')!r}, which this Meadow does not know",
            "Install the Meadow that made it.",
        )  # fmt: skip
    entries = [_entry(item) for item in found["files"]] if isinstance(found.get("files"), list) else []
    if not entries:
        raise _HostileError("its list names no files")
    paths = {entry.path for entry in entries}
    if len(paths) != len(entries):
        raise _HostileError("its list names a file twice")
    for path in paths:
        parts = path.split("/")
        for end in range(1, len(parts)):
            if "/".join(parts[:end]) in paths:
                raise _HostileError(f"{path!r} would lie below a file")
    return entries


def _entry(item: Any) -> _Entry:
    if not isinstance(item, dict):
        raise _HostileError("its list of files is not that of a pack")
    path, size, sha256 = (item.get(key) for key in ("path", "bytes", "sha256"))
    if not isinstance(path, str) or type(size) is not int or size < 0 or not isinstance(sha256, str):
        raise _HostileError("its list of files is not that of a pack")
    wrong = _not_allowed(path)
    if wrong:
        raise _HostileError(f"the path {path!r}: {wrong}")
    if not _SHA256.fullmatch(sha256):
        raise _HostileError(f"{path!r} has no SHA-256")
    return _Entry(path, size, sha256)


def _compare(entries: Iterable[_Entry], raw: Path) -> frozenset[str]:
    """The files that the raw store has already.

    Raises:
        FetchError: It has others in their places.
    """
    same, others = set(), []
    for entry in entries:
        target = raw / entry.path
        if not os.path.lexists(target):
            continue
        try:
            equal = target.is_file() and target.stat().st_size == entry.bytes
            if equal:
                with target.open("rb") as stream:
                    equal = hashlib.file_digest(stream, "sha256").hexdigest() == entry.sha256
        except OSError as error:
            raise FetchError(str(target), f"cannot be read: {error.strerror or error}") from error
        if equal:
            same.add(entry.path)
        elif not _travels(target.name):  # notes are merged or replaced
            others.append(entry.path)
    if others:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        raise FetchError(
            str(raw),
            f"has other files than the pack in the places of {', '.join(others[:5])}{more}",
            "Move these away, or unpack into another raw store with --raw; nothing was changed.",
        )
    return frozenset(same)


def _stage(
    pack_: _Pack, entries: Iterable[_Entry], same: frozenset[str], staging: Path, meter: _Meter
) -> list[tuple[_Entry, Path]]:
    """Reads all of the pack and verifies it; what the raw store lacks is written into `staging`."""
    staged: list[tuple[_Entry, Path]] = []
    for number, entry in enumerate(entries):
        member = pack_.next(entry.path)
        if member.size != entry.bytes:
            raise _HostileError(f"{entry.path!r} has {member.size:,} bytes, its list says {entry.bytes:,}")
        digest = hashlib.sha256()
        # Names in here are numbers: what a path means to this file system matters only at the end.
        place = staging / str(number)
        with open(os.devnull if entry.path in same else place, "wb") as target:  # noqa: PTH123 - either is a path

            def take(chunk: bytes, digest: Any = digest, target: BinaryIO = target) -> None:
                digest.update(chunk)
                target.write(chunk)
                meter.add(len(chunk))

            pack_.copy(member, take)
        if digest.hexdigest() != entry.sha256:
            raise FetchError(
                str(pack_.file),
                f"{entry.path} has another SHA-256 than the pack's list says; nothing was installed",
                _MAKE_AGAIN,
            )
        if entry.path not in same:
            staged.append((entry, place))
    pack_.next(None)
    return staged


def _put(place: Path, raw: Path, path: str) -> None:
    target = raw / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.name == RECORD and target.exists():
        source = path.split("/", 1)[0]
        merged = {**record(target.parent, source)}
        beside = place.with_name(f"{place.name}.d")
        beside.mkdir()
        place.rename(beside / RECORD)
        merged.update(record(beside, source))
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
