"""Filling the raw store: the only part of Meadow that reads from the network.

``fetch(["wikidoc"])`` downloads what a source declares in its ``checksums.tsv``, or copies it from a mirror;
`check` compares what is there with what was declared and noted. Building needs neither.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from meadow.core.builder import available
from meadow.core.raw import find
from meadow.core.store import default_raw
from meadow.fetch import pages, terms
from meadow.fetch.addresses import (
    RECORD,
    Address,
    AddressError,
    Fetched,
    FetchError,
    Progress,
    Silent,
    Wanted,
    lines,
    record,
    wanted,
    without_secrets,
)

if TYPE_CHECKING:
    from meadow.fetch.download import Downloader, Patience

__all__ = [
    "Address",
    "AddressError",
    "FetchError",
    "Fetched",
    "Listed",
    "Progress",
    "Report",
    "check",
    "fetch",
    "listing",
    "locked",
]

#: Downloads at once, and from one host: what browsers allow themselves is six; publishers give for nothing.
CONNECTIONS, PER_HOST = 4, 2
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
_LOCK = ".fetch.lock"


@dataclass
class Report:
    """What a fetch or a check came to.

    Attributes:
        raw: The raw store.
        files: What became of each file, sorted by source and file.
        terms: The terms of the sources fetched, in words.
        notes: What else there is to say, such as where files go that nobody can download.
        refused: Sources that were not fetched, with what is missing.
        broken: Installed sources that cannot be loaded, with the reason.
    """

    raw: Path
    files: list[Fetched] = field(default_factory=list)
    terms: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether anything that was asked for is not there, or is not right."""
        return bool(self.refused) or any(f.state in ("failed", "differs", "missing") for f in self.files)


@dataclass(frozen=True, slots=True)
class Listed:
    """A declared file, and whether it is there.

    Attributes:
        address: What is declared; `url` is empty where the files are the user's own.
        state: ``there``, ``not there``, ``unpacked``, ``34% there``, ``120 pages there``, ``by hand``.
        bytes: What lies in the raw store.
        license: The source's licence.
        asks: Whether its terms must still be accepted.
    """

    address: Address
    state: str
    bytes: int
    license: str
    asks: bool


def fetch(
    names: Iterable[str],
    *,
    raw: Path | None = None,
    mirror: str | None = None,
    accept: Iterable[str] = (),
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> Report:
    """Fills the raw store with what sources declare, going on with what is there.

    Args:
        names: ``all``, sources, datasets, or ``SOURCE/FILE``.
        raw: The raw store; default as for builds.
        mirror: A copy to take the files from instead of their publishers; see `meadow.fetch.mirror`.
        accept: Sources or licences whose terms are accepted.
        progress: Is told how far it is.
        patience: A `meadow.fetch.download.Patience`.

    Returns:
        What became of each file. A file that fails costs itself; the others go on.

    Raises:
        AddressError: A name stands for nothing, or a ``checksums.tsv`` cannot be used.
        FetchError: The raw store cannot be written, another fetch fills it, or there is no such mirror.
        ValueError: `accept` names nothing.
    """
    from meadow.fetch.download import Downloader

    raw, progress = raw or default_raw(), progress or Silent()
    classes, broken = available()
    chosen = wanted(names, classes)
    report = Report(raw, broken=broken)
    stop = threading.Event()
    with locked(raw), Downloader(patience, progress, stop) as downloader:
        terms.accept(classes.values(), accept, raw)
        jobs: list[_Job] = []
        place = _place(mirror, downloader)
        for source in chosen:
            asking = terms.needed(source.builder, raw)
            if asking:
                report.terms.append(terms.shown(source.builder))
                report.refused.append(terms.refusal(asking))
                continue
            before = len(jobs)
            try:
                jobs += place(source, raw, report)
            except FetchError as error:
                report.files.append(Fetched(source.name, "", "failed", detail=str(error)))
            if len(jobs) > before:
                report.terms.append(terms.shown(source.builder))
        for said in report.terms:
            progress.say(said)
        _run(jobs, report, stop)
    report.files.sort(key=lambda file: (file.source, file.file))
    return report


@contextlib.contextmanager
def locked(raw: Path) -> Iterator[None]:
    """Lets one process at a time fill a raw store."""
    from filelock import FileLock, Timeout

    lock = FileLock(raw / _LOCK)
    try:
        raw.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise FetchError(
            str(raw),
            "another fetch is filling this raw store",
            "Wait for it, or name another folder with --raw.",
        ) from None
    except OSError as error:
        raise FetchError(
            str(raw), f"cannot be written: {error.strerror or error}", "Name another folder with --raw."
        ) from None
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True, slots=True)
class _Job:
    """One file to get.

    Attributes:
        address: What, with the address it comes from.
        target: Where it goes.
        get: Gets it.
        host: What is asked for it, so that no host is asked too often at once.
        remedy: How to get it otherwise.
        exclusive: Whether its host is to be asked by nobody else meanwhile.
    """

    address: Address
    target: Path
    get: Callable[[Address, Path], Fetched]
    host: str
    remedy: str
    exclusive: bool = False


def _place(mirror: str | None, downloader: Downloader) -> Callable[[Wanted, Path, Report], list[_Job]]:
    """What turns a wanted source into jobs."""
    from meadow.fetch import download, mediawiki
    from meadow.fetch.mirror import open_mirror

    def wiki(folder: Path) -> Callable[[Address, Path], Fetched]:
        return lambda address, _: mediawiki.fetch(
            address, folder, progress=downloader.progress, stop=downloader.stop
        )

    def from_publisher(source: Wanted, raw: Path, report: Report) -> list[_Job]:
        folder = raw / source.name
        if not source.addresses:
            report.notes.append(terms.by_hand(source.builder, raw))
            report.files.append(_own(source, raw))
            return []
        return [
            _Job(
                address,
                folder / address.file,
                wiki(folder) if address.wiki else downloader.get,
                urlsplit(address.url).hostname or "",
                download.by_hand(address, folder, source.builder.homepage),
                exclusive=address.wiki,
            )
            for address in source.addresses
        ]

    if mirror is None:
        downloader.open()  # what is wrong with a proxy's variable is said once, not for each file
        return from_publisher
    copy = open_mirror(mirror, downloader)

    def from_mirror(source: Wanted, raw: Path, report: Report) -> list[_Job]:
        folder = raw / source.name
        found = copy.addresses(source.name, source.addresses, source.whole)
        if found is None:
            said = f"{source.name}: the mirror {copy.shown} has nothing of it"
            if source.named:
                report.refused.append(f"{said}. Those who keep the mirror can add {source.name}/.")
            else:
                report.notes.append(said)
            return []
        remedy = f"See that {copy.shown}/{source.name}/ is whole, or ask those who keep the mirror."
        return [_Job(address, folder / address.file, copy.get, copy.shown, remedy) for address in found]

    return from_mirror


def _own(source: Wanted, raw: Path) -> Fetched:
    files = find(source.builder(), raw).files
    size = sum(file.bytes for file in files)
    count = (
        f"{len(files)} file{'' if len(files) == 1 else 's'} of your own"
        if files
        else "no file of your own yet"
    )
    return Fetched(source.name, "", "by hand", size, detail=count)


def _run(jobs: list[_Job], report: Report, stop: threading.Event) -> None:
    """Works through the jobs on a few threads, and notes in the raw store what came."""
    from meadow.fetch.download import StoppedError

    limits: dict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(PER_HOST))
    for job in jobs:
        if job.exclusive:
            limits[job.host] = threading.Semaphore(1)
    left, done, writing = list(jobs), queue.SimpleQueue(), threading.Lock()

    def work() -> None:
        while not stop.is_set():
            with writing:
                # The first whose host has a place; a busy host must not hold up the others.
                job = next((j for j in left if limits[j.host].acquire(blocking=False)), None)
                if job is not None:
                    left.remove(job)
                elif not left:
                    return
            if job is None:
                stop.wait(0.05)
                continue
            try:
                result = _one(job)
                if result.state == "fetched":
                    with writing:
                        _note(job.target, result)
            except FetchError as error:
                result = Fetched(job.address.source, job.address.file, "failed", detail=str(error))
            except StoppedError:
                return
            except Exception as error:  # a bug in one source's way must not leave the others waiting
                result = error
            finally:
                limits[job.host].release()
            done.put(result)

    # Not an executor: on an interrupt the process must not wait for a host that sends nothing.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(CONNECTIONS, len(jobs)))]
    for thread in threads:
        thread.start()
    try:
        for _ in jobs:
            result = done.get()
            if isinstance(result, Exception):
                raise result
            report.files.append(result)
    except BaseException:
        stop.set()
        for thread in threads:
            thread.join(timeout=1)
        raise


def _one(job: _Job) -> Fetched:
    address, target = job.address, job.target
    there = _there(address, target)
    if there is not None:
        return there
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return job.get(address, target)
    except FetchError as error:
        # A wiki's errors name the way by hand themselves.
        further = "" if "By hand:" in error.remedy else job.remedy
        raise FetchError(error.what, error.detail, f"{error.remedy} {further}".strip()) from None
    except OSError as error:
        said = f"cannot write {error.filename or target}: {error.strerror or error}"
        raise FetchError(address.what, said, "Name another folder with --raw.") from None


def _there(address: Address, target: Path) -> Fetched | None:
    """What lies in the raw store in place of a file, or None where it has to be fetched.

    Raises:
        FetchError: There is something else.
    """
    if target.is_file():
        size = target.stat().st_size
        wrong = pages.wrong_structure(target)
        if not wrong and address.bytes is not None and address.bytes != size:
            wrong = f"it has {size:,} bytes, declared are {address.bytes:,}"
        if not wrong and address.sha256 and _sha256(target) != address.sha256:
            wrong = "it has another SHA-256 than declared"
        if wrong:
            raise FetchError(
                address.what,
                f"a file of this name is there, but {wrong}",
                f"Move {target} away and fetch again.",
            )
        return Fetched(address.source, address.file, "there", size)
    if target.exists():
        raise FetchError(address.what, "a folder of this name is in its place", f"Move {target} away.")
    other = _unpacked(target)
    if other is not None:
        return Fetched(address.source, address.file, "there", detail=f"as {other.name}{'/' * other.is_dir()}")
    return None


def _unpacked(target: Path) -> Path | None:
    """The same in another form: an archive's folder, or a file that was compressed since."""
    if target.suffix.lower() in (".7z", ".zip"):
        folder = target.with_suffix("")
        if folder.is_dir() and any(folder.iterdir()):
            return folder
    packed = (target.with_name(target.name + ending) for ending in _COMPRESSED)
    return next((path for path in packed if path.is_file()), None)


def _note(target: Path, got: Fetched) -> None:
    """Adds a file to the source's record, by which it can be checked later."""
    folder = target
    for _ in Path(got.file).parts:
        folder = folder.parent
    known = record(folder, got.source)
    sha256 = got.sha256 or _sha256(target)
    known[got.file] = Address(got.source, got.file, _url(got.url), got.bytes, sha256)
    beside = folder / f"{RECORD}.new"
    beside.write_text(lines(known[name] for name in sorted(known)), encoding="utf-8", newline="\n")
    beside.replace(folder / RECORD)


def _url(url: str) -> str:
    # A record is read as a declaration, which holds web addresses or none.
    return without_secrets(url) if url.startswith(("http://", "https://")) else ""


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check(names: Iterable[str], *, raw: Path | None = None, progress: Progress | None = None) -> Report:
    """Compares the raw store with what was declared and with what was noted when it was fetched; no network.

    Returns:
        A file's state is ``whole``, ``differs``, ``missing`` (it was fetched once, or its source was asked for by
        name and has no file at all), ``unknown`` (nobody told its hash) or ``not there``.

    Raises:
        AddressError: A name stands for nothing, or a ``checksums.tsv`` cannot be used.
    """
    raw, progress = raw or default_raw(), progress or Silent()
    classes, broken = available()
    report = Report(raw, broken=broken)
    for source in wanted(names, classes):
        folder = raw / source.name
        noted = record(folder, source.name)
        known = {address.file: address for address in source.addresses}
        if source.whole:
            known |= {file: noted[file] for file in noted if file not in known}
            found = find(source.builder(), raw)
            for file in (*found.files, *found.unused):
                inner = file.path.split("/", 1)[1]
                known.setdefault(inner, Address(source.name, inner))
        results = [_checked(known[file], noted.get(file), folder / file, progress) for file in sorted(known)]
        if source.named and not any(r.state in ("whole", "differs", "unknown") for r in results):
            results = [replace(r, state="missing") if r.state == "not there" else r for r in results] or [
                Fetched(source.name, "", "missing", detail="there is no file of it")
            ]
        report.files += results
    return report


def _checked(address: Address, noted: Address | None, path: Path, progress: Progress) -> Fetched:
    base = Fetched(address.source, address.file, "not there", url=without_secrets(address.url))
    if not path.is_file():
        other = _unpacked(path)
        if other is not None:
            return replace(base, state="unknown", detail=f"as {other.name}{'/' * other.is_dir()}")
        return replace(base, state="missing", detail="it was fetched, and is gone") if noted else base
    size = path.stat().st_size
    progress(address.what, 0, size)
    base = replace(base, bytes=size)
    try:
        wrong = pages.wrong_structure(path)
        sha256 = _sha256(path)
    except OSError as error:
        return replace(base, state="differs", detail=f"it cannot be read: {error.strerror or error}")
    progress(address.what, size, size)
    base = replace(base, sha256=sha256)
    for origin, told in (("declared", address), ("noted when it was fetched", noted)):
        if told is None or wrong:
            continue
        if told.bytes is not None and told.bytes != size:
            wrong = f"it has {size:,} bytes, {origin} are {told.bytes:,}"
        elif told.sha256 and told.sha256 != sha256:
            wrong = f"its SHA-256 is {sha256}, {origin} is {told.sha256}"
    if wrong:
        return replace(base, state="differs", detail=f"{wrong}. Move {path} away and fetch it again.")
    told = address.sha256 or (noted and noted.sha256)
    return replace(base, state="whole" if told else "unknown")


def listing(names: Iterable[str], *, raw: Path | None = None) -> list[Listed]:
    """What sources declare, and what of it is there; no network, nothing is written.

    Raises:
        AddressError: A name stands for nothing, or a ``checksums.tsv`` cannot be used.
    """
    raw = raw or default_raw()
    found = []
    for source in wanted(names, available()[0]):
        licence, asks = source.builder.license.id, terms.needed(source.builder, raw) is not None
        for address in source.addresses:
            state, size = _state(address, raw / source.name / address.file)
            found.append(Listed(address, state, size, licence, asks))
        if not source.addresses:
            own = _own(source, raw)
            found.append(Listed(Address(source.name, ""), f"by hand: {own.detail}", own.bytes, licence, asks))
    return found


def _state(address: Address, target: Path) -> tuple[str, int]:
    if target.is_file():
        return "there", target.stat().st_size
    other = _unpacked(target)
    if other is not None:
        return f"there as {other.name}{'/' * other.is_dir()}", 0
    from meadow.fetch.download import Part

    if address.wiki:
        from meadow.fetch import mediawiki

        count = mediawiki.so_far(target)
        return ("not there" if count is None else f"{count:,} pages there"), 0
    path = Part.path_of(target)
    size = path.stat().st_size if path.is_file() else 0
    if not size:
        return "not there", 0
    total = address.bytes or Part.total_of(target)
    return (f"{size / total:.0%} there" if total else "begun"), size
