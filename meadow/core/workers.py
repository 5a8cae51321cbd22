"""Where tasks run: this process, or processes that can be replaced when one of them dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from meadow.core.errors import Error

Progress = Callable[[str, str, int, int], None]
"""Called with source, stage, pieces done, pieces in all."""


def silent(source: str, stage: str, done: int, total: int) -> None:
    """A `Progress` that tells nobody."""


class InlineExecutor(Executor):
    """Runs each task when it is submitted, in this process."""

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def executor_for(workers: int, preload: Sequence[str] = ()) -> Executor:
    """An executor of so many processes, each with these modules imported; one worker is this process."""
    if workers <= 1:
        return InlineExecutor()
    # Plain fork would copy locks that pyarrow's threads hold; spawn is what is left elsewhere.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(list(preload))
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker)


def _begin_worker() -> None:
    # Ctrl-C reaches all processes of a terminal; it is the parent's to say what follows from it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A killed parent stops nothing by itself: without this its workers would wait for ever.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class Pool(Executor):
    """A build's own executor, made as `executor_for` says, whose workers can be replaced.

    Attributes:
        worked: Whether any task has come back; if none has, workers may be unable to start at all.
    """

    def __init__(self, workers: int, preload: Sequence[str] = ()) -> None:
        self._workers, self._preload = workers, preload
        self._inner: Executor | None = None
        self.worked = False

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Future:
        if self._inner is None:
            self._inner = executor_for(self._workers, self._preload)
        future = self._inner.submit(fn, *args, **kwargs)
        future.add_done_callback(self._note)
        return future

    def _note(self, future: Future) -> None:
        if not future.cancelled() and not isinstance(future.exception(), BrokenExecutor):
            self.worked = True

    def renew(self) -> None:
        """Stops what still runs, at once; the next task gets new workers."""
        inner, self._inner = self._inner, None
        if inner is None:
            return
        # `ProcessPoolExecutor.kill_workers` is there since Python 3.14; before, this is how it works.
        for process in list((getattr(inner, "_processes", None) or {}).values()):
            process.kill()
        inner.shutdown(wait=True, cancel_futures=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if self._inner is not None:
            self._inner.shutdown(wait=wait, cancel_futures=cancel_futures)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.shutdown()
        else:
            self.renew()


def in_order(executor: Executor, calls: Iterable[tuple], ahead: int) -> Iterator[Any]:
    """Runs calls with a bounded number in flight and yields their results in order."""
    waiting: deque[Future] = deque()
    try:
        for call in calls:
            waiting.append(executor.submit(*call))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@dataclass(frozen=True)
class Crew:
    """Where a build's tasks run.

    Attributes:
        executor: What runs them.
        ahead: The most that are in flight.
        progress: Told of every one that is finished.
    """

    executor: Executor
    ahead: int
    progress: Progress = silent

    def run(self, source: str, stage: str, calls: Sequence[tuple]) -> Iterator[Any]:
        """Runs calls, yields their results in order, and tells of each."""
        for done, result in enumerate(in_order(self.executor, calls, self.ahead), start=1):
            self.progress(source, stage, done, len(calls))
            yield result

    def told(self, error: Exception, *, paths: bool = True) -> str:
        """Why what ran here failed, in words; `paths` says whether they may name files of this machine."""
        if isinstance(error, OSError) and not paths:
            return error.strerror or type(error).__name__
        if isinstance(error, (Error, OSError)):
            return str(error)
        if isinstance(error, MemoryError):
            return "out of memory; try fewer workers"
        if isinstance(error, BrokenExecutor):
            if not isinstance(self.executor, Pool) or self.executor.worked:
                return "a worker process died, most likely for want of memory; try fewer workers"
            return (
                "the worker processes died before they finished anything. Either memory ran out: try fewer workers. "
                "Or they could not import the program that called for the build: a script must call it below "
                '`if __name__ == "__main__":`, and a program on standard input can have one worker only'
            )
        said = f": {error}" if paths else ""
        return f"unexpected {type(error).__name__}{said}. Report this as a bug of its builder."

    def renew(self) -> None:
        """Stops what still runs, where that can be; after a failure nobody waits for it."""
        if isinstance(self.executor, Pool):
            self.executor.renew()
