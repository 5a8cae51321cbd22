"""What commands share: saying things, tables, progress, and failing with an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from meadow.core.errors import Error

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.table import Table

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130


def fail(message: object, code: int = FAILED) -> NoReturn:
    """Ends the process with a message on standard error."""
    print(f"meadow: {message}", file=sys.stderr)
    raise SystemExit(code)


@contextlib.contextmanager
def failing(cannot: str = "", *, wrong_use: bool = True) -> Iterator[None]:
    """Ends the process where something goes wrong that a person can put right.

    A value that cannot be used, and a name that there is not, is wrong use; all else could not be done.

    Args:
        cannot: What could not be done when the system refuses, such as ``cannot write deck.apkg``.
        wrong_use: Whether a value that cannot be used is wrong use, and not just a failure.
    """
    try:
        yield
    except (KeyError, ValueError) as error:
        fail(error.args[0] if isinstance(error, KeyError) else error, WRONG_USE if wrong_use else FAILED)
    except OSError as error:
        fail(f"{cannot}: {error.strerror or error}" if cannot else error)
    except Error as error:
        fail(error)


def say(text: object) -> None:
    """Prints a line; nothing happens where nobody reads."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _nobody_reads()


def warn(text: object) -> None:
    """Prints a line on standard error, with the program's name."""
    print(f"meadow: {text}", file=sys.stderr, flush=True)


def _nobody_reads() -> None:
    """Sends what else is printed nowhere: ``meadow build all | head`` is no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def console(stderr: bool = False) -> Console:
    """A console that cuts and wraps nothing off a terminal, and reads no markup in what it prints."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True
            _nobody_reads()

    stream = sys.stderr if stderr else sys.stdout
    # Off a terminal no line is cut or wrapped at a made-up width; on one, the terminal wraps.
    width = None if stream.isatty() else 10_000
    return Plain(stderr=stderr, width=width, soft_wrap=True, highlight=False, markup=False, emoji=False)


def table(*columns: str) -> Table:
    """An empty table without lines."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    for column in columns:
        # Names that differ only at their ends must not be cut to the same beginning.
        made.add_column(column, overflow="fold")
    return made


def print_table(screen: Console, shown: Table) -> None:
    """Prints a table; off a terminal without blanks at the ends of lines."""
    if screen.is_terminal:
        screen.print(shown, soft_wrap=False)
        return
    with screen.capture() as capture:
        screen.print(shown, soft_wrap=False)
    for line in capture.get().splitlines():
        screen.print(line.rstrip())


class ProgressLines:
    """A progress bar on a terminal, plain lines elsewhere; both on standard error."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._last = 0.0

    def __enter__(self) -> ProgressLines:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
            self._bar = Progress(*columns, console=console(stderr=True), transient=True)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Takes the bar off the screen before anything else is said.
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, source: str, stage: str, done: int, total: int) -> None:
        key = (source, stage)
        if self._bar is not None:
            if key not in self._tasks:
                self._tasks[key] = self._bar.add_task(f"{source} {stage}", total=total)
            self._bar.update(self._tasks[key], completed=done, total=total)
        elif done == total or time.monotonic() - self._last > 10:
            self._last = time.monotonic()
            warn(f"{source}: {stage} {done}/{total}")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
