"""A filled raw store as one file, to be carried where no network reaches.

A pack is a ``tar.zst``. Its first member, ``MEADOW-PACK.json``, lists every file with size and SHA-256; the files
follow in that order, each as ``SOURCE/PATH``, and nothing else. The same files give the same bytes (under one
version of zstandard): no dates, owners or paths of the machine are in it. `meadow.fetch.unpacking` installs it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from meadow.core.builder import available
from meadow.fetch.addresses import RECORD, check_path
from meadow.fetch.outcome import FetchError, Progress, Silent, sha256_of

LIST = "MEADOW-PACK.json"
FORMAT, VERSION = "meadow-pack", 1
#: A list of a million files; a raw store has hundreds.
LONGEST_LIST = 256 * 2**20
#: zstd's default levels use windows up to 8 MiB and its strongest 128 MiB; the reader needs that much memory.
MAX_WINDOW = 2**27
#: Notes that a fetch leaves beside a file about where it is from; hidden from builds, but they travel.
_ABOUT = ".about.json"
_CHUNK = 2**20


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
class PackEntry:
    """A file as a pack's list names it: ``SOURCE/PATH``, its size and its hex SHA-256."""

    path: str
    bytes: int
    sha256: str

    @property
    def source(self) -> str:
        """The source that it belongs to."""
        return self.path.split("/", 1)[0]


class Meter:
    """Adds up the bytes of several files for one line of progress."""

    def __init__(self, progress: Progress, what: str, total: int) -> None:
        self._progress, self._what, self._total, self._done = progress, what, total, 0

    def add(self, size: int) -> None:
        """So many bytes more are done."""
        self._done += size
        self._progress(self._what, min(self._done, self._total), self._total)


def travels(name: str) -> bool:
    """Whether a hidden file belongs to the raw data: what a fetch noted about where it is from."""
    return name == RECORD or (name.startswith(".") and name.endswith(_ABOUT))


def not_allowed(path: str) -> str:
    """What is wrong with ``SOURCE/PATH``; empty where a pack may hold it."""
    folder, _, name = path.rpartition("/")
    if not folder:
        return "it lies in no source's folder"
    return check_path(f"{folder}/x" if travels(name) else path) or ""


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
    _check_target(raw, file)
    found, left_out = _collect(raw, names)
    if not found:
        remedy = "Fill the raw store first, with `meadow fetch` or by hand."
        raise FetchError(str(raw), "there is nothing to pack", remedy)
    total = sum(local.stat().st_size for local in found.values())
    # Each file is read twice: for the list, then for the pack.
    meter = Meter(progress or Silent(), file.name, 2 * total)
    entries = [_hashed(path, local, meter) for path, local in found.items()]
    content = {"format": FORMAT, "version": VERSION, "files": [asdict(entry) for entry in entries]}
    listed = (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()
    if len(listed) > LONGEST_LIST:
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
        sha256, size = sha256_of(beside), beside.stat().st_size
        beside.replace(file)
    except OSError as error:
        problem = f"cannot be written: {error.strerror or error}"
        raise FetchError(str(file), problem, "Make room, or choose another place.") from error
    finally:
        beside.unlink(missing_ok=True)
    sources = tuple(sorted({entry.source for entry in entries}))
    return Packed(
        file, sources, len(entries), sum(entry.bytes for entry in entries), size, sha256, tuple(left_out)
    )


def _check_target(raw: Path, file: Path) -> None:
    if file.is_dir():
        raise FetchError(str(file), "is a folder", "Name the file to write, such as raw.tar.zst.")
    if file.resolve().is_relative_to(raw.resolve()):
        raise FetchError(str(file), "lies in the raw store", "Write the pack to a place outside of it.")
    try:
        replaceable = not file.exists() or not file.stat().st_size or _is_pack(file)
    except OSError as error:
        problem = error.strerror or str(error)
        raise FetchError(str(file), problem, "Choose another place for the pack.") from error
    if not replaceable:
        remedy = "Choose another name, or remove the file first."
        raise FetchError(str(file), "is there already and is no pack", remedy)


def _is_pack(file: Path) -> bool:
    """Whether a file begins as a pack does; any other zstd file is somebody's data."""
    import zstandard

    name = LIST.encode()
    try:
        with file.open("rb") as stream:
            decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
            return decompressor.stream_reader(stream).read(len(name)) == name
    except zstandard.ZstdError:
        return False


def _collect(raw: Path, names: Iterable[str] | None) -> tuple[dict[str, Path], list[str]]:
    """The files to pack by path, sorted, and what is left out, with the reason."""
    known = available()[0]
    source_of = {config: cls.name for cls in known.values() for config in cls.configs}
    source_of.update((name, name) for name in known)
    chosen = set(known if names is None else names)
    unknown = sorted(chosen - set(source_of))
    if unknown:
        raise FetchError(", ".join(unknown), "is no source", f"There are: {', '.join(sorted(known))}.")
    found: dict[str, Path] = {}
    left_out: list[str] = []
    for name in sorted({source_of[name] for name in chosen}):
        if (raw / name).is_dir():
            for path, local, reason in sorted(_walk(raw / name, name)):
                if reason:
                    left_out.append(f"{path}: {reason}")
                else:
                    found[path] = local
        elif names is not None:
            left_out.append(f"{name}: no files in {raw}")
    if names is None and raw.is_dir():
        strangers = sorted(entry.name for entry in raw.iterdir() if entry.name not in known)
        left_out += [f"{name}: belongs to no source" for name in strangers if not name.startswith(".")]
    return dict(sorted(found.items())), left_out


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, Path, str]]:
    """Yields (path, place, reason against it or empty) of all that lies below; links are followed once."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        yield prefix, folder, f"cannot be read: {error.strerror or error}"
        return
    for entry in entries:
        local = Path(entry.path)
        readable = os.fsencode(entry.name).decode("utf-8", "replace")
        path = f"{prefix}/{readable}"
        if entry.name.startswith(".") and not travels(entry.name):
            if ".part" in entry.name:
                yield path, local, "a fetch that is not finished"
            continue
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            yield path, local, f"a link that leads nowhere: {error.strerror or error}"
            continue
        if stat.S_ISDIR(mode):
            if folder.resolve().is_relative_to(local.resolve()):
                yield path, local, "a link to a folder that it lies in"
            else:
                yield from _walk(local, path)
        elif not stat.S_ISREG(mode):
            yield path, local, "no plain file"
        else:
            yield path, local, "a name that is not UTF-8" if readable != entry.name else not_allowed(path)


def _hashed(path: str, local: Path, meter: Meter) -> PackEntry:
    try:
        with local.open("rb") as stream:
            reading = _Reading(stream, meter)
            while reading.read(_CHUNK):
                pass
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise FetchError(path, problem, "See that you may read it, or remove it.") from error
    return PackEntry(path, reading.size, reading.digest.hexdigest())


class _Reading:
    """A file that is measured as it is read."""

    def __init__(self, stream: BinaryIO, meter: Meter) -> None:
        self._stream, self._meter, self.digest, self.size = stream, meter, hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.digest.update(data)
        self.size += len(data)
        self._meter.add(len(data))
        return data


def _write(
    stream: BinaryIO, listed: bytes, entries: Iterable[PackEntry], found: dict[str, Path], meter: Meter
) -> None:
    import zstandard

    # One thread: with several, the bytes would be others.
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
    with (
        compressor.stream_writer(stream, closefd=False) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        tar.addfile(_member(LIST, len(listed)), io.BytesIO(listed))
        for entry in entries:
            remedy = "Wait until whatever writes to it is done, and pack again."
            changed = FetchError(entry.path, "changed while it was packed", remedy)
            try:
                inner = found[entry.path].open("rb")
            except OSError as error:
                raise changed from error
            with inner:
                reading = _Reading(inner, meter)
                try:
                    tar.addfile(_member(entry.path, entry.bytes), reading)
                except OSError as error:
                    if error.errno is not None:  # the disk; without a number it is tarfile's "unexpected end"
                        raise
                    raise changed from error
            if reading.digest.hexdigest() != entry.sha256:
                raise changed


def _member(path: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.size, member.mode = size, 0o644
    return member
