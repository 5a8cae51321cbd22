"""Filling the raw store, side by side, and looking what is there; `check` and `listing` ask no network."""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from meadow.core.builder import available
from meadow.core.rawstore import find
from meadow.core.store import default_raw
from meadow.fetch import mediawiki, pages, terms
from meadow.fetch.addresses import RECORD, Address, Wanted, record, wanted, without_secrets, write_record
from meadow.fetch.download import Downloader, Patience
from meadow.fetch.mirror import Mirror, open_mirror
from meadow.fetch.outcome import (
    Fetched,
    FetchError,
    FetchReport,
    FetchStoppedError,
    Progress,
    Silent,
    locked,
    sha256_of,
)
from meadow.fetch.partial import PartialFile

#: Downloads at once, and from one host: what browsers allow themselves is six; publishers give for nothing.
CONNECTIONS, PER_HOST = 4, 2
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz")


def fetch(
    names: Iterable[str],
    *,
    raw: Path | None = None,
    mirror: str | None = None,
    accept: Iterable[str] = (),
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> FetchReport:
    """Fills the raw store with what sources declare, going on with what is there; a file that fails costs itself.

    Args:
        names: ``all``, sources, datasets, or ``SOURCE/FILE``.
        raw: The raw store; default as for builds.
        mirror: A copy to take the files from instead of their publishers; see `meadow.fetch.mirror`.
        accept: Sources or licences whose terms are accepted.
        progress, patience: Who is told how far it is, and how long to wait for what.

    Raises:
        AddressError: A name stands for nothing, or a ``checksums.tsv`` cannot be used.
        FetchError: The raw store cannot be written, another fetch fills it, or there is no such mirror.
        ValueError: `accept` names nothing.
    """
    raw, progress = raw or default_raw(), progress or Silent()
    classes, broken = available()
    chosen = wanted(names, classes)
    report = FetchReport(raw, broken=broken)
    with locked(raw), Downloader(patience, progress) as downloader:
        terms.accept(classes.values(), accept, raw)
        copy = None if mirror is None else open_mirror(mirror, downloader)
        if copy is None:
            downloader.http.open()  # what is wrong with a proxy's variable is said once, not for each file
        jobs: list[_FetchJob] = []
        for source in chosen:
            found: list[_FetchJob] = []
            asking = terms.needed(source.builder, raw)
            try:
                if asking:
                    report.refused.append(terms.refusal(asking))
                elif copy:
                    found = _from_mirror(source, report, copy)
                else:
                    found = _from_publisher(source, report, downloader)
            except FetchError as error:
                report.files.append(Fetched(source.name, "", "failed", detail=str(error)))
            if found or asking:
                report.terms.append(terms.shown(source.builder))
            jobs += found
        for said in report.terms:
            progress.say(said)
        _run(jobs, report, downloader.stop)
    report.files.sort(key=lambda file: (file.source, file.file))
    return report


@dataclass(frozen=True, slots=True)
class _FetchJob:
    """One file to get: how, from which host (none is asked too often at once), and how to get it otherwise."""

    address: Address
    get: Callable[[Address, Path], Fetched]
    host: str
    otherwise: str


def _from_publisher(source: Wanted, report: FetchReport, downloader: Downloader) -> list[_FetchJob]:
    folder, jobs = report.raw / source.name, []
    if not source.addresses:
        report.notes.append(terms.by_hand(source.builder, report.raw))
        report.files.append(_put_by_hand(source, report.raw))
    for address in source.addresses:
        if address.wiki:
            get = partial(mediawiki.fetch, progress=downloader.progress, stop=downloader.stop)
            otherwise = mediawiki.by_hand(address, folder)
        else:
            page = f" (published at {source.builder.homepage})" if source.builder.homepage else ""
            get, where = downloader.get, without_secrets(address.url)
            otherwise = f"By hand: get {where} with a browser{page} and put it here: {folder / address.file}"
        jobs.append(_FetchJob(address, get, urlsplit(address.url).hostname or "", otherwise))
    return jobs


def _from_mirror(source: Wanted, report: FetchReport, copy: Mirror) -> list[_FetchJob]:
    found = copy.addresses(source.name, source.addresses, source.whole)
    if found is None:
        said = f"{source.name}: the mirror {copy.shown} has nothing of it"
        if source.named:
            report.refused.append(f"{said}. Those who keep the mirror can add {source.name}/.")
        else:
            report.notes.append(said)
        return []
    otherwise = f"See that {copy.shown}/{source.name}/ is whole, or ask those who keep the mirror."
    return [_FetchJob(address, copy.get, copy.shown, otherwise) for address in found]


def _run(jobs: list[_FetchJob], report: FetchReport, stop: threading.Event) -> None:
    hosts: dict[str, list[_FetchJob]] = defaultdict(list)
    for job in reversed(jobs):  # they are taken from the end
        hosts[job.host].append(job)
    places, noting = threading.Semaphore(CONNECTIONS), threading.Lock()
    done: queue.SimpleQueue[Fetched | Exception] = queue.SimpleQueue()

    def work(left: list[_FetchJob]) -> None:
        while left:
            with places:
                try:
                    job = left.pop()
                except IndexError:  # the other thread of this host was quicker
                    return
                if stop.is_set():
                    return
                try:
                    done.put(_one(job, report.raw / job.address.source, noting))
                except FetchStoppedError:
                    return
                except Exception as error:  # a bug in one source's way must not leave the others waiting
                    done.put(error)

    # Not an executor: on an interrupt the process must not wait for a host that sends nothing.
    threads = [
        threading.Thread(target=work, args=(left,), daemon=True)
        for left in hosts.values()
        for _ in range(1 if any(job.address.wiki for job in left) else PER_HOST)
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in jobs:
            result = done.get()
            if isinstance(result, Exception):
                raise result
            report.files.append(result)
    finally:
        stop.set()
        until = time.monotonic() + 1
        for thread in threads:
            thread.join(timeout=max(0.0, until - time.monotonic()))


def _one(job: _FetchJob, folder: Path, noting: threading.Lock) -> Fetched:
    """Gets a file that is not there yet; what fails is a result, too."""
    address, target = job.address, folder / job.address.file
    if found := _there(address, target):
        return found
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        got = job.get(address, folder)
        # A record is read as a declaration, which holds web addresses or none.
        url = without_secrets(got.url) if got.url.startswith(("http://", "https://")) else ""
        noted = Address(got.source, got.file, url, got.bytes, got.sha256)
        with noting:
            write_record(folder / RECORD, record(folder / RECORD, got.source) | {got.file: noted})
        return got
    except OSError as error:
        problem = f"cannot write {error.filename or target}: {error.strerror or error}"
        remedy = "Make room, or name another folder with --raw; what is there is gone on with."
        failure = FetchError(address.what, problem, remedy)
    except FetchError as error:
        failure = FetchError(error.what, error.detail, f"{error.remedy} {job.otherwise}".strip())
    return Fetched(address.source, address.file, "failed", detail=str(failure))


def _there(address: Address, target: Path) -> Fetched | None:
    """What lies in the raw store in place of a file; None where it has to be fetched."""
    wrong = ""
    if target.is_file():
        size = target.stat().st_size
        # Without a declared hash, what is there is not read in full: it would be read at each fetch.
        sha256 = sha256_of(target) if address.sha256 else ""
        wrong = pages.wrong_structure(target) or address.difference(size, sha256)
        if not wrong:
            return Fetched(address.source, address.file, "there", size)
        wrong = f"a file of this name is there, but {wrong}"
    elif target.exists():
        wrong = "a folder of this name is in its place"
    elif other := _in_another_form(target):
        return Fetched(address.source, address.file, "there", detail=f"as {other}")
    if not wrong:
        return None
    failure = FetchError(address.what, wrong, f"Move {target} away and fetch again.")
    return Fetched(address.source, address.file, "failed", detail=str(failure))


def _in_another_form(target: Path) -> str:
    """What holds the same: an archive's folder, or a file that was compressed since; empty where nothing does."""
    folder = target.with_suffix("")
    if target.suffix.lower() in (".7z", ".zip") and folder.is_dir() and any(folder.iterdir()):
        return f"{folder.name}/"
    packed = (target.with_name(target.name + ending) for ending in _COMPRESSED)
    return next((path.name for path in packed if path.is_file()), "")


def _put_by_hand(source: Wanted, raw: Path) -> Fetched:
    files = find(source.builder, raw).files
    count = f"{len(files) or 'no'} file{'s' if len(files) > 1 else ''} of your own{'' if files else ' yet'}"
    return Fetched(source.name, "", "by hand", sum(file.bytes for file in files), detail=count)


def check(names: Iterable[str], *, raw: Path | None = None, progress: Progress | None = None) -> FetchReport:
    """Compares the raw store with what was declared and with what was noted when it was fetched.

    Returns:
        A file's state is ``whole``, ``differs``, ``missing`` (it was fetched once, or its source was asked for by
        name and has no file at all), ``unknown`` (nobody told its hash) or ``not there``.

    Raises:
        AddressError: A name stands for nothing, or a ``checksums.tsv`` cannot be used.
    """
    raw, progress = raw or default_raw(), progress or Silent()
    classes, broken = available()
    report = FetchReport(raw, broken=broken)
    for source in wanted(names, classes):
        folder = raw / source.name
        noted = record(folder / RECORD, source.name)
        known = {address.file: address for address in source.addresses}
        if source.whole:
            found = find(source.builder, raw)
            inner = (file.path.split("/", 1)[1] for file in (*found.files, *found.unused))
            known = {file: Address(source.name, file) for file in inner} | noted | known
        results = [_checked(known[file], noted.get(file), folder / file, progress) for file in sorted(known)]
        if not results and source.named:
            results = [Fetched(source.name, "", "missing", detail="there is no file of it")]
        elif source.named and all(result.state in ("missing", "not there") for result in results):
            results = [replace(result, state="missing") for result in results]
        report.files += results
    return report


def _checked(address: Address, noted: Address | None, path: Path, progress: Progress) -> Fetched:
    base = Fetched(address.source, address.file, "not there", url=without_secrets(address.url))
    if not path.is_file():
        if other := _in_another_form(path):
            return replace(base, state="unknown", detail=f"as {other}")
        return replace(base, state="missing", detail="it was fetched, and is gone") if noted else base
    size, sha256 = path.stat().st_size, None
    progress(address.what, 0, size)
    try:
        sha256 = sha256_of(path)
        wrong = pages.wrong_structure(path) or address.difference(size, sha256)
        wrong = wrong or (noted.difference(size, sha256, "noted when it was fetched") if noted else "")
        wrong = wrong and f"{wrong}. Move {path} away and fetch it again."
    except OSError as error:
        wrong = f"it cannot be read: {error.strerror or error}"
    progress(address.what, size, size)
    told = address.sha256 or (noted and noted.sha256)
    state = "differs" if wrong else "whole" if told else "unknown"
    return replace(base, state=state, bytes=size, sha256=sha256, detail=wrong)


@dataclass(frozen=True, slots=True)
class Listed:
    """A declared file, the source's licence, and whether its terms must still be accepted.

    `bytes` of it are in the raw store, which is ``there``, ``not there``, ``there as NAME``, ``34% there``,
    ``120 pages there`` or ``by hand``: files that are the user's own, without `url`.
    """

    address: Address
    state: str
    bytes: int
    license: str
    asks: bool


def listing(names: Iterable[str], *, raw: Path | None = None) -> list[Listed]:
    """What sources declare, and what of it is there; nothing is written.

    Raises:
        AddressError: A name stands for nothing, or a ``checksums.tsv`` cannot be used.
    """
    raw = raw or default_raw()
    found = []
    for source in wanted(names, available()[0]):
        states = [(address, *_state(address, raw / source.name)) for address in source.addresses]
        if not states:
            own = _put_by_hand(source, raw)
            states = [(Address(source.name, ""), f"by hand: {own.detail}", own.bytes)]
        licence, asks = source.builder.license.id, terms.needed(source.builder, raw) is not None
        found += [Listed(*state, licence, asks) for state in states]
    return found


def _state(address: Address, folder: Path) -> tuple[str, int]:
    target = folder / address.file
    if target.is_file():
        return "there", target.stat().st_size
    if other := _in_another_form(target):
        return f"there as {other}", 0
    if address.wiki:
        count = mediawiki.so_far(target)
        return ("not there" if count is None else f"{count:,} pages there"), 0
    part = PartialFile(folder, address)
    if not part.size:
        return "not there", 0
    total = address.bytes or part.total
    return (f"{part.size / total:.0%} there" if total else "begun"), part.size
