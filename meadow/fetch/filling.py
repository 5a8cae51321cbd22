"""Filling the raw store: what was asked for is brought side by side, and each file that fails costs itself."""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from meadow.core.builder import available
from meadow.core.store import default_raw
from meadow.fetch import mediawiki, terms
from meadow.fetch.addresses import RECORD, Address, Wanted, lines, record, wanted, without_secrets
from meadow.fetch.checking import put_by_hand, there
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
)

#: Downloads at once, and from one host: what browsers allow themselves is six; publishers give for nothing.
CONNECTIONS, PER_HOST = 4, 2


def fetch(
    names: Iterable[str],
    *,
    raw: Path | None = None,
    mirror: str | None = None,
    accept: Iterable[str] = (),
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> FetchReport:
    """Fills the raw store with what sources declare, going on with what is there.

    Args:
        names: ``all``, sources, datasets, or ``SOURCE/FILE``.
        raw: The raw store; default as for builds.
        mirror: A copy to take the files from instead of their publishers; see `meadow.fetch.mirror`.
        accept: Sources or licences whose terms are accepted.
        progress: Is told how far it is.
        patience: How long to wait for what.

    Returns:
        What became of each file. A file that fails costs itself; the others go on.

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
        jobs: list[_FetchJob] = []
        copy = None if mirror is None else open_mirror(mirror, downloader)
        if copy is None:
            downloader.http.open()  # what is wrong with a proxy's variable is said once, not for each file
        for source in chosen:
            asking = terms.needed(source.builder, raw)
            if asking:
                report.terms.append(terms.shown(source.builder))
                report.refused.append(terms.refusal(asking))
                continue
            try:
                found = (
                    _from_mirror(source, raw, report, copy)
                    if copy
                    else _from_publisher(source, raw, report, downloader)
                )
            except FetchError as error:
                report.files.append(Fetched(source.name, "", "failed", detail=str(error)))
                continue
            if found:
                report.terms.append(terms.shown(source.builder))
            jobs += found
        for said in report.terms:
            progress.say(said)
        _run(jobs, report, downloader.stop)
    report.files.sort(key=lambda file: (file.source, file.file))
    return report


@dataclass(frozen=True, slots=True)
class _FetchJob:
    """One file to get.

    Attributes:
        address: What, with the address it comes from.
        folder: The source's folder.
        get: Gets it.
        host: What is asked for it, so that no host is asked too often at once.
        otherwise: How to get it otherwise.
    """

    address: Address
    folder: Path
    get: Callable[[Address, Path], Fetched]
    host: str
    otherwise: str


def _from_publisher(
    source: Wanted, raw: Path, report: FetchReport, downloader: Downloader
) -> list[_FetchJob]:
    folder, jobs = raw / source.name, []
    if not source.addresses:
        report.notes.append(terms.by_hand(source.builder, raw))
        report.files.append(put_by_hand(source, raw))
    for address in source.addresses:
        if address.wiki:
            get = partial(mediawiki.fetch, progress=downloader.progress, stop=downloader.stop)
            otherwise = mediawiki.by_hand(address, folder)
        else:
            page = f" (published at {source.builder.homepage})" if source.builder.homepage else ""
            get = downloader.get
            otherwise = (
                f"By hand: get {without_secrets(address.url)} with a browser{page} and put it here: "
                f"{folder / address.file}"
            )
        jobs.append(_FetchJob(address, folder, get, urlsplit(address.url).hostname or "", otherwise))
    return jobs


def _from_mirror(source: Wanted, raw: Path, report: FetchReport, copy: Mirror) -> list[_FetchJob]:
    found = copy.addresses(source.name, source.addresses, source.whole)
    if found is None:
        said = f"{source.name}: the mirror {copy.shown} has nothing of it"
        if source.named:
            report.refused.append(f"{said}. Those who keep the mirror can add {source.name}/.")
        else:
            report.notes.append(said)
        return []
    otherwise = f"See that {copy.shown}/{source.name}/ is whole, or ask those who keep the mirror."
    return [_FetchJob(address, raw / source.name, copy.get, copy.shown, otherwise) for address in found]


def _run(jobs: list[_FetchJob], report: FetchReport, stop: threading.Event) -> None:
    """Works through the jobs on a few threads, and notes in the raw store what came."""
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
                    done.put(_one(job, noting))
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


def _one(job: _FetchJob, noting: threading.Lock) -> Fetched:
    """Gets a file that is not there yet; what fails is a result, too."""
    address, target = job.address, job.folder / job.address.file
    try:
        found = there(address, target)
        if found is not None:
            return found
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            result = job.get(address, job.folder)
        except OSError as error:
            problem = f"cannot write {error.filename or target}: {error.strerror or error}"
            remedy = "Make room, or name another folder with --raw; what is there is gone on with."
            raise FetchError(address.what, problem, remedy) from None
        except FetchError as error:
            raise FetchError(error.what, error.detail, f"{error.remedy} {job.otherwise}".strip()) from None
        if result.state == "fetched":
            with noting:
                _note(job.folder, result)
    except FetchError as error:
        return Fetched(address.source, address.file, "failed", detail=str(error))
    return result


def _note(folder: Path, got: Fetched) -> None:
    """Adds a file to the source's record, by which it can be checked later."""
    # A record is read as a declaration, which holds web addresses or none.
    url = without_secrets(got.url) if got.url.startswith(("http://", "https://")) else ""
    known = record(folder / RECORD, got.source)
    known[got.file] = Address(got.source, got.file, url, got.bytes, got.sha256)
    beside = folder / f"{RECORD}.new"
    beside.write_text(lines(known[name] for name in sorted(known)), encoding="utf-8", newline="\n")
    beside.replace(folder / RECORD)
