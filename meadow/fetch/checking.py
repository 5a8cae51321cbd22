"""What of the raw store is there, and whether it is what was declared and noted; nothing here asks the network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from meadow.core.builder import available
from meadow.core.rawstore import find
from meadow.core.store import default_raw
from meadow.fetch import mediawiki, pages, terms
from meadow.fetch.addresses import RECORD, Address, Wanted, record, wanted, without_secrets
from meadow.fetch.outcome import Fetched, FetchError, FetchReport, Progress, Silent, sha256_of
from meadow.fetch.partial import PartialFile

_COMPRESSED = (".gz", ".zst", ".bz2", ".xz")


@dataclass(frozen=True, slots=True)
class Listed:
    """A declared file, and whether it is there.

    Attributes:
        address: What is declared; `url` is empty where the files are the user's own.
        state: ``there``, ``not there``, ``there as NAME``, ``34% there``, ``120 pages there``, ``by hand``.
        bytes: What lies in the raw store.
        license: The source's licence.
        asks: Whether its terms must still be accepted.
    """

    address: Address
    state: str
    bytes: int
    license: str
    asks: bool


def there(address: Address, target: Path) -> Fetched | None:
    """What lies in the raw store in place of a file, or None where it has to be fetched.

    Raises:
        FetchError: There is something else.
    """
    if target.is_file():
        size = target.stat().st_size
        # Without a declared hash, what is there is not read in full: it would be read at each fetch.
        sha256 = sha256_of(target) if address.sha256 else ""
        wrong = pages.wrong_structure(target) or address.difference(size, sha256)
        if wrong:
            problem = f"a file of this name is there, but {wrong}"
            raise FetchError(address.what, problem, f"Move {target} away and fetch again.")
        return Fetched(address.source, address.file, "there", size)
    if target.exists():
        raise FetchError(address.what, "a folder of this name is in its place", f"Move {target} away.")
    other = _in_another_form(target)
    return Fetched(address.source, address.file, "there", detail=f"as {other}") if other else None


def _in_another_form(target: Path) -> str:
    """What holds the same: an archive's folder, or a file that was compressed since; empty where nothing does."""
    folder = target.with_suffix("")
    if target.suffix.lower() in (".7z", ".zip") and folder.is_dir() and any(folder.iterdir()):
        return f"{folder.name}/"
    packed = (target.with_name(target.name + ending) for ending in _COMPRESSED)
    return next((path.name for path in packed if path.is_file()), "")


def put_by_hand(source: Wanted, raw: Path) -> Fetched:
    """What there is of a source whose files are the user's own."""
    files = find(source.builder(), raw).files
    count = (
        f"{len(files)} file{'' if len(files) == 1 else 's'} of your own"
        if files
        else "no file of your own yet"
    )
    return Fetched(source.name, "", "by hand", sum(file.bytes for file in files), detail=count)


def check(names: Iterable[str], *, raw: Path | None = None, progress: Progress | None = None) -> FetchReport:
    """Compares the raw store with what was declared and with what was noted when it was fetched; no network.

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
            known = {**noted, **known}
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
        other = _in_another_form(path)
        if other:
            return replace(base, state="unknown", detail=f"as {other}")
        return replace(base, state="missing", detail="it was fetched, and is gone") if noted else base
    size = path.stat().st_size
    progress(address.what, 0, size)
    try:
        wrong, sha256 = pages.wrong_structure(path), sha256_of(path)
    except OSError as error:
        problem = f"it cannot be read: {error.strerror or error}"
        return replace(base, bytes=size, state="differs", detail=problem)
    progress(address.what, size, size)
    base = replace(base, bytes=size, sha256=sha256)
    wrong = wrong or address.difference(size, sha256)
    wrong = wrong or (noted.difference(size, sha256, "noted when it was fetched") if noted else "")
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
            state, size = _state(address, raw / source.name)
            found.append(Listed(address, state, size, licence, asks))
        if not source.addresses:
            own = put_by_hand(source, raw)
            found.append(Listed(Address(source.name, ""), f"by hand: {own.detail}", own.bytes, licence, asks))
    return found


def _state(address: Address, folder: Path) -> tuple[str, int]:
    target = folder / address.file
    if target.is_file():
        return "there", target.stat().st_size
    other = _in_another_form(target)
    if other:
        return f"there as {other}", 0
    if address.wiki:
        count = mediawiki.so_far(target)
        return ("not there" if count is None else f"{count:,} pages there"), 0
    part = PartialFile(folder, address)
    if not part.size:
        return "not there", 0
    total = address.bytes or part.total
    return (f"{part.size / total:.0%} there" if total else "begun"), part.size
