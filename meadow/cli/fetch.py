"""``meadow fetch``: fill the raw store, check it, or carry it in one file."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from meadow.fetch import FetchReport


def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="all, sources or datasets by name, or one file of a source as SOURCE/FILE."
        ),
    ] = None,
    raw: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Raw store to fill; default $MEADOW_RAW, else the user's cache."),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            metavar="URL|DIR",
            help="Take the files from a copy laid out as a raw store: a folder, http(s)://, or what fsspec reads.",
        ),
    ] = None,
    list_: Annotated[
        bool,
        typer.Option("--list", help="Fetch nothing; print what there is to fetch, and what of it is there."),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Fetch nothing; compare the raw store with sizes and SHA-256 hashes."),
    ] = False,
    accept_license: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Accept the terms of a source that asks for it. Can be repeated."),
    ] = None,
    pack: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.tar.zst", help="Write the raw store's files into one file, to be carried."
        ),
    ] = None,
    unpack: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.tar.zst", help="Verify such a file and put its content into the raw store."
        ),
    ] = None,
) -> None:
    """Fill the raw store that builds read; builds themselves never use the network."""
    from meadow.cli import console as cli

    modes = {"--list": list_, "--verify": verify, "--pack": pack is not None, "--unpack": unpack is not None}
    given = [flag for flag, on in modes.items() if on]
    if len(given) > 1:
        cli.fail(f"{' and '.join(given)} exclude each other", cli.WRONG_USE)
    if given and (mirror or accept_license):
        other = "--mirror" if mirror else "--accept-license"
        cli.fail(f"{given[0]} fetches nothing, so {other} does not go with it", cli.WRONG_USE)
    if not names and not given:
        cli.fail("name what to fetch: all, or sources or datasets by name; --list shows them", cli.WRONG_USE)
    if names and unpack is not None:
        cli.fail("--unpack installs all that the file holds: give no names", cli.WRONG_USE)
    from meadow import fetch as fetching
    from meadow.core import store

    raw = raw or store.default_raw()
    with _Progress(cli) as progress:
        try:
            if list_:
                show = _listed(fetching.listing(names or ["all"], raw=raw), raw, cli)
            elif verify:
                show = _checked(fetching.check(names or ["all"], raw=raw, progress=progress), cli)
            elif pack is not None:
                show = _packed(pack, raw, names, progress, cli)
            elif unpack is not None:
                show = _unpacked(unpack, raw, progress, cli)
            else:
                report = fetching.fetch(
                    names or [], raw=raw, mirror=mirror, accept=accept_license or [], progress=progress
                )
                show = _fetched(report, cli)
        except fetching.FetchError as error:
            progress.stop()
            cli.fail(str(error), 1)
        except ValueError as error:
            progress.stop()
            cli.fail(str(error), cli.WRONG_USE)
        except OSError as error:
            progress.stop()
            cli.fail(f"{error.filename or raw}: {error.strerror or error}", 1)
    if not show():
        raise SystemExit(1)


class _Progress:
    """A bar for each file on a terminal, now and then a line elsewhere; both on standard error."""

    def __init__(self, cli: Any) -> None:
        self._cli = cli
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}
        self._last: dict[str, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> _Progress:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[amount]}", markup=False),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self._cli.console(stderr=True), transient=True)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Takes the bars off the screen."""
        if self._bar is not None:
            self._bar.stop()

    def say(self, message: str) -> None:
        """Prints a line above the bars."""
        if self._bar is not None:
            self._bar.console.print(message)
        else:
            print(f"meadow: {message}", file=sys.stderr, flush=True)

    def __call__(self, what: str, done: int, total: int | None, unit: str = "bytes") -> None:
        size = self._cli.size_of if unit == "bytes" else "{:,}".format
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
        print(f"meadow: {what}: {amount}", file=sys.stderr, flush=True)


def _fetched(report: FetchReport, cli: Any) -> Callable[[], bool]:
    def show() -> bool:
        console = cli.console()
        _table(console, [f for f in report.files if f.file and f.state != "failed"], cli)
        for note in report.notes:
            console.print(f"\n{note}")
        _console_end(console, report)
        for said in (*(f.detail for f in report.files if f.state == "failed"), *report.refused):
            print(f"meadow: {said}", file=sys.stderr)
        return not report.failed

    return show


def _checked(report: FetchReport, cli: Any) -> Callable[[], bool]:
    def show() -> bool:
        console = cli.console()
        _table(console, [f for f in report.files if f.state != "differs"], cli)
        if any(file.state == "unknown" for file in report.files):
            console.print(
                "\nunknown: nobody told size or hash; no more than the form of the file was looked at"
            )
        _console_end(console, report)
        for file in report.files:
            if file.state == "differs":
                print(f"meadow: {file.what}: {file.detail}", file=sys.stderr)
            elif file.state == "missing":
                what = file.what.rstrip("/")
                print(f"meadow: {what}: missing: {file.detail or 'it is not there'}", file=sys.stderr)
        return not report.failed

    return show


def _table(console: Any, files: list[Any], cli: Any) -> None:
    if not files:
        return
    table = cli.table("file", "state", "size", "")
    for file in files:
        table.add_row(file.what, file.state, cli.size_of(file.bytes) if file.bytes else "", file.detail)
    cli.print_table(console, table)


def _console_end(console: Any, report: FetchReport) -> None:
    for name, why in report.broken.items():
        print(f"meadow: source {name} cannot be loaded: {why}", file=sys.stderr)
    console.print(f"\nraw store: {report.raw}")


def _listed(found: list[Any], raw: Path, cli: Any) -> Callable[[], bool]:
    def show() -> bool:
        from meadow.fetch.addresses import without_secrets

        console = cli.console()
        table = cli.table("source", "file", "state", "size", "licence", "address")
        for item in found:
            address = item.address
            size = address.bytes or item.bytes
            licence = f"{item.license} (to be accepted)" if item.asks else item.license
            where = without_secrets(address.url) or "none: the files are yours"
            table.add_row(
                address.source, address.file, item.state, cli.size_of(size) if size else "", licence, where
            )
        cli.print_table(console, table)
        console.print(f"\nraw store: {raw}" + ("" if raw.is_dir() else " (not there)"))
        return True

    return show


def _packed(file: Path, raw: Path, names: list[str] | None, progress: Any, cli: Any) -> Callable[[], bool]:
    from meadow.fetch import pack

    wanted = None if not names or "all" in names else names
    made = pack(raw, file, names=wanted, progress=progress)

    def show() -> bool:
        cli.say(
            f"{made.file}: {made.files:,} files of {', '.join(made.sources)}, {cli.size_of(made.bytes)} in "
            f"{cli.size_of(made.packed)}\nsha256 {made.sha256}"
        )
        for left in made.left_out:
            cli.say(f"not in it: {left}")
        return True

    return show


def _unpacked(file: Path, raw: Path, progress: Any, cli: Any) -> Callable[[], bool]:
    from meadow.fetch import unpack

    made = unpack(file, raw, progress=progress)

    def show() -> bool:
        for path in made.installed:
            cli.say(f"installed: {path}")
        cli.say(
            f"{len(made.installed):,} files ({cli.size_of(made.bytes)}) of {', '.join(made.sources)} installed, "
            f"{len(made.kept):,} were there already\nraw store: {raw}"
        )
        return True

    return show
