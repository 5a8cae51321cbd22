"""A filled raw store as one file, to be carried where no network reaches.

A pack is a ``tar.zst``. Its first member, ``MEADOW-PACK.json``, lists every file with size and SHA-256; the files
follow in that order, each as ``SOURCE/PATH``, and nothing else. The same files give the same bytes (under one
version of zstandard): no dates, owners or paths of the machine are in it. `meadow.fetch.unpacking` installs it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import pydantic
import zstandard

from meadow.core.builder import available
from meadow.fetch.addresses import RECORD, check_path, source_of
from meadow.fetch.outcome import FetchError, Progress, Silent, explained, sha256_of

LIST = "MEADOW-PACK.json"
#: A list of a million files; a raw store has hundreds.
LONGEST_LIST = 256 * 2**20
#: zstd's default levels use windows up to 8 MiB and its strongest 128 MiB; the reader needs that much memory.
_MAX_WINDOW = 2**27
_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class Packed:
    """A pack that was written: its sources, sorted, and how many files of how many bytes it holds.

    `packed` is its own size in bytes, `sha256` its own hash, to compare after carrying it, and `left_out` what
    lies in the raw store and is not in it, with the reason.
    """

    file: Path
    sources: tuple[str, ...]
    files: int
    bytes: int
    packed: int
    sha256: str
    left_out: tuple[str, ...]


def travels(name: str) -> bool:
    """Whether a hidden file belongs to the raw data: what a fetch noted about where it is from."""
    return name == RECORD or (name.startswith(".") and name.endswith(".about.json"))


def _wrong(path: str) -> str:
    folder, _, name = path.rpartition("/")
    if not folder:
        return "it lies in no source's folder"
    return check_path(f"{folder}/x" if travels(name) else path) or ""


def _allowed(path: str) -> str:
    if wrong := _wrong(path):
        raise ValueError(wrong)
    return path


def _distinct(entries: list[PackEntry]) -> list[PackEntry]:
    paths = {entry.path for entry in entries}
    if not paths:
        raise ValueError("its list names no files")
    if len(paths) != len(entries):
        raise ValueError("its list names a file twice")
    for path in paths:
        if any(str(above) in paths for above in Path(path).parents):
            raise ValueError(f"{path!r} would lie below a file")
    return entries


class PackEntry(pydantic.BaseModel, frozen=True, strict=True):
    """A file as a pack's list names it: ``SOURCE/PATH``, its size and its hex SHA-256."""

    path: Annotated[str, pydantic.AfterValidator(_allowed)]
    bytes: pydantic.NonNegativeInt
    sha256: Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")]


class PackList(pydantic.BaseModel, strict=True):
    """The list of a pack's files; another version may say other things of them."""

    format: Literal["meadow-pack"] = "meadow-pack"
    version: Literal[1] = 1
    files: Annotated[list[PackEntry], pydantic.AfterValidator(_distinct)]

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that the files belong to, sorted."""
        return tuple(sorted({entry.path.split("/", 1)[0] for entry in self.files}))


class Meter:
    """Adds up the bytes of several files for one line of progress."""

    def __init__(self, progress: Progress | None, what: str, total: int) -> None:
        self._progress, self._what, self._total, self._done = progress or Silent(), what, total, 0

    def copy(self, source: BinaryIO, target: BinaryIO | None, size: int) -> str:
        """Reads so many bytes (else `EOFError`), and writes them somewhere; their hex SHA-256."""
        digest = hashlib.sha256()
        while size:
            data = source.read(min(size, _CHUNK))
            if not data:
                raise EOFError(f"{size:,} bytes are missing")
            digest.update(data)
            if target:
                target.write(data)
            size -= len(data)
            self._done += len(data)
            self._progress(self._what, self._done, self._total)
        return digest.hexdigest()


def header(path: str, size: int) -> bytes:
    """What stands before a file in a pack."""
    member = tarfile.TarInfo(path)
    member.size, member.mode = size, 0o644
    return member.tobuf(tarfile.PAX_FORMAT)


def padding(size: int, block: int = tarfile.BLOCKSIZE) -> bytes:
    """What stands after a file of that size in a pack."""
    return bytes(-size % block)


def unzstd(stream: BinaryIO) -> BinaryIO:
    """A compressed stream as it was before."""
    return zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(stream, closefd=False)


def pack(
    raw: Path, file: Path, *, names: Iterable[str] | None = None, progress: Progress | None = None
) -> Packed:
    """Writes raw files into a pack; an older pack in its place is replaced, any other file is not.

    `names` are sources, by their names or those of their datasets; None stands for all that have files.

    Raises:
        FetchError: There is nothing to pack, `file` cannot be written or lies in the raw store, or a raw
            file cannot be read or changes meanwhile.
    """
    beside = file.with_name(f".{file.name}.part")
    with explained(file, "written", "Make room, or choose another place."):
        _check_target(raw, file)
        found, left_out = _collect(raw, names)
        if not found:
            remedy = "Fill the raw store first, with `meadow fetch` or by hand."
            raise FetchError(raw, "there is nothing to pack", remedy)
        sizes = {path: local.stat().st_size for path, local in found.items()}
        total = sum(sizes.values())
        meter = Meter(progress, file.name, 2 * total)  # read once for the list, and once for the pack
        listed = PackList(files=[_entry(path, found[path], size, meter) for path, size in sizes.items()])
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as stream:
                _write(stream, listed, found, meter)
                stream.flush()
                os.fsync(stream.fileno())
            sha256, size = sha256_of(beside), beside.stat().st_size
            beside.replace(file)
        finally:
            beside.unlink(missing_ok=True)
    return Packed(file, listed.sources, len(found), total, size, sha256, tuple(left_out))


def _check_target(raw: Path, file: Path) -> None:
    if file.is_dir():
        raise FetchError(file, "is a folder", "Name the file to write, such as raw.tar.zst.")
    if file.resolve().is_relative_to(raw.resolve()):
        raise FetchError(file, "lies in the raw store", "Write the pack to a place outside of it.")
    if file.exists() and file.stat().st_size and not _is_pack(file):
        remedy = "Choose another name, or remove the file first."
        raise FetchError(file, "is there already and is no pack", remedy)


def _is_pack(file: Path) -> bool:
    try:  # any other zstd file is somebody's data
        with file.open("rb") as stream:
            return unzstd(stream).read(len(LIST)) == LIST.encode()
    except zstandard.ZstdError:
        return False


def _collect(raw: Path, names: Iterable[str] | None) -> tuple[dict[str, Path], list[str]]:
    known = available()[0]
    sources = source_of(known)
    chosen = set(known if names is None else names)
    if unknown := sorted(chosen - set(sources)):
        raise FetchError(", ".join(unknown), "is no source", f"There are: {', '.join(sorted(known))}.")
    found: dict[str, Path] = {}
    left_out: list[str] = []
    for name in sorted({sources[name] for name in chosen}):
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
        if stat.S_ISDIR(mode) and folder.resolve().is_relative_to(local.resolve()):
            yield path, local, "a link to a folder that it lies in"
        elif stat.S_ISDIR(mode):
            yield from _walk(local, path)
        elif not stat.S_ISREG(mode):
            yield path, local, "no plain file"
        elif readable != entry.name:
            yield path, local, "a name that is not UTF-8"
        else:
            yield path, local, _wrong(path)


def _entry(path: str, local: Path, size: int, meter: Meter) -> PackEntry:
    with explained(path, "read", "See that you may read it, or remove it."), local.open("rb") as stream:
        try:
            return PackEntry(path=path, bytes=size, sha256=meter.copy(stream, None, size))
        except EOFError:
            raise _changed(path) from None


def _changed(path: str) -> FetchError:
    remedy = "Wait until whatever writes to it is done, and pack again."
    return FetchError(path, "changed while it was packed", remedy)


def _write(stream: BinaryIO, listed: PackList, found: dict[str, Path], meter: Meter) -> None:
    content = listed.model_dump_json(indent=1).encode() + b"\n"
    if len(content) > LONGEST_LIST:
        problem = f"its list of {len(found)} files is too long for one pack"
        raise FetchError(LIST, problem, "Pack sources one by one.")
    # One thread: with several, the bytes would be others.
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
    with compressor.stream_writer(stream, closefd=False) as packed:
        done = packed.write(header(LIST, len(content)) + content + padding(len(content)))
        for entry in listed.files:
            done += packed.write(header(entry.path, entry.bytes)) + entry.bytes
            try:
                with found[entry.path].open("rb") as inner:
                    same = meter.copy(inner, packed, entry.bytes) == entry.sha256
            except (EOFError, FileNotFoundError, PermissionError):
                same = False
            if not same:
                raise _changed(entry.path)
            done += packed.write(padding(entry.bytes))
        end = bytes(2 * tarfile.BLOCKSIZE)
        packed.write(end + padding(done + len(end), tarfile.RECORDSIZE))
