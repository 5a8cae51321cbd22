"""``meadow fetch``: fill the raw store, check it, or carry it in one file."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meadow.cli.console import (
    FAILED,
    WRONG_USE,
    console,
    fail,
    failing,
    print_table,
    say,
    table,
    warn,
)
from meadow.cli.options import argument, flag, option
from meadow.core.units import size_of

if TYPE_CHECKING:
    from meadow.fetch import Fetched, FetchReport, Listed, Packed, Unpacked


def fetch(
    names: list[str] | None = argument(
        "NAME", "all, sources or datasets by name, or one file of a source as SOURCE/FILE."
    ),
    raw: Path | None = option("DIR", "Raw store to fill; default $MEADOW_RAW, else the user's cache."),
    mirror: str | None = option(
        "URL|DIR",
        "Take the files from a copy laid out as a raw store: a folder, http(s)://, or what fsspec reads.",
    ),
    list_: bool = flag("--list", "Fetch nothing; print what there is to fetch, and what of it is there."),
    verify: bool = flag("--verify", "Fetch nothing; compare the raw store with sizes and SHA-256 hashes."),
    accept_license: list[str] | None = option(
        "NAME", "Accept the terms of a source that asks for it. Can be repeated."
    ),
    pack: Path | None = option("FILE.tar.zst", "Write the raw store's files into one file, to be carried."),
    unpack: Path | None = option(
        "FILE.tar.zst", "Verify such a file and put its content into the raw store."
    ),
) -> None:
    """Fill the raw store that builds read; builds themselves never use the network."""
    modes = {"--list": list_, "--verify": verify, "--pack": pack is not None, "--unpack": unpack is not None}
    given = [flag for flag, on in modes.items() if on]
    if len(given) > 1:
        fail(f"{' and '.join(given)} exclude each other", WRONG_USE)
    if given and (mirror or accept_license):
        other = "--mirror" if mirror else "--accept-license"
        fail(f"{given[0]} fetches nothing, so {other} does not go with it", WRONG_USE)
    if not names and not given:
        fail("name what to fetch: all, or sources or datasets by name; --list shows them", WRONG_USE)
    if names and unpack is not None:
        fail("--unpack installs all that the file holds: give no names", WRONG_USE)
    from meadow import fetch as fetching
    from meadow.core.store import default_raw

    raw, chosen, accept = raw or default_raw(), names or ["all"], accept_license or []
    with failing():
        with _FetchProgress() as progress:
            if list_:
                show = partial(_show_list, fetching.listing(chosen, raw=raw), raw)
            elif verify:
                show = partial(_show_check, fetching.check(chosen, raw=raw, progress=progress))
            elif pack is not None:
                some = None if "all" in chosen else chosen
                show = partial(_show_pack, fetching.pack(raw, pack, names=some, progress=progress))
            elif unpack is not None:
                show = partial(_show_unpack, fetching.unpack(unpack, raw, progress=progress), raw)
            else:
                report = fetching.fetch(chosen, raw=raw, mirror=mirror, accept=accept, progress=progress)
                show = partial(_show_fetch, report)
        show()  # once the bars are off the screen


class _FetchProgress:
    """A bar for each file on a terminal, now and then a line elsewhere; both on standard error."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}
        self._last: dict[str, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> _FetchProgress:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[amount]}", markup=False),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=console(stderr=True), transient=True)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, message: str) -> None:
        """Prints a line above the bars."""
        if self._bar is not None:
            self._bar.console.print(message)
        else:
            warn(message)

    def __call__(self, what: str, done: int, total: int | None, unit: str = "bytes") -> None:
        size = size_of if unit == "bytes" else "{:,}".format
        tail = "" if unit == "bytes" else f" {unit}"
        amount = (size(done) if total is None else f"{size(done)} of {size(total)}") + tail
        with self._lock:
            if self._bar is not None:
                if what not in self._tasks:
                    self._tasks[what] = self._bar.add_task(what, total=total, amount=amount)
                self._bar.update(self._tasks[what], completed=done, total=total, amount=amount)
                if done == total:
                    self._bar.update(self._tasks[what], visible=False)
                return
            now = time.monotonic()
            if now - self._last.setdefault(what, now) < 10:
                return
            self._last[what] = now
        warn(f"{what}: {amount}")


def _show_fetch(report: FetchReport) -> None:
    _print_files(f for f in report.files if f.file and f.state != "failed")
    for note in report.notes:
        say(f"\n{note}")
    _end(report, [*(f.detail for f in report.files if f.state == "failed"), *report.refused])


def _show_check(report: FetchReport) -> None:
    _print_files(f for f in report.files if f.state != "differs")
    if any(file.state == "unknown" for file in report.files):
        say("\nunknown: nobody told size or hash; no more than the form of the file was looked at")
    wrong = []
    for file in report.files:
        if file.state == "differs":
            wrong.append(f"{file.what}: {file.detail}")
        elif file.state == "missing":
            wrong.append(f"{file.what.rstrip('/')}: missing: {file.detail or 'it is not there'}")
    _end(report, wrong)


def _print_files(files: Iterable[Fetched]) -> None:
    shown = table("file", "state", "size", "")
    for file in files:
        shown.add_row(file.what, file.state, size_of(file.bytes) if file.bytes else "", file.detail)
    if shown.row_count:
        print_table(console(), shown)


def _end(report: FetchReport, wrong: Iterable[str]) -> None:
    for name, why in report.broken.items():
        warn(f"source {name} cannot be loaded: {why}")
    say(f"\nraw store: {report.raw}")
    for said in wrong:
        warn(said)
    if report.failed:
        raise SystemExit(FAILED)


def _show_list(found: list[Listed], raw: Path) -> None:
    from meadow.fetch.addresses import without_secrets

    shown = table("source", "file", "state", "size", "licence", "address")
    for item in found:
        address = item.address
        size = address.bytes or item.bytes
        licence = f"{item.license} (to be accepted)" if item.asks else item.license
        where = without_secrets(address.url) or "none: the files are yours"
        shown.add_row(address.source, address.file, item.state, size_of(size) if size else "", licence, where)
    print_table(console(), shown)
    say(f"\nraw store: {raw}" + ("" if raw.is_dir() else " (not there)"))


def _show_pack(made: Packed) -> None:
    size = f"{size_of(made.bytes)} in {size_of(made.packed)}"
    say(f"{made.file}: {made.files:,} files of {', '.join(made.sources)}, {size}\nsha256 {made.sha256}")
    for left in made.left_out:
        say(f"not in it: {left}")


def _show_unpack(made: Unpacked, raw: Path) -> None:
    for path in made.installed:
        say(f"installed: {path}")
    say(
        f"{len(made.installed):,} files ({size_of(made.bytes)}) of {', '.join(made.sources)} installed, "
        f"{len(made.kept):,} were there already\nraw store: {raw}"
    )
