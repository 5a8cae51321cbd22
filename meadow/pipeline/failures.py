"""What went wrong, in words for people."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor

from meadow.core.errors import Error
from meadow.core.workers import Crew, Pool


def told(error: Exception, crew: Crew, *, paths: bool = True) -> str:
    """Why a source failed.

    Args:
        error: What was raised.
        crew: Where its tasks ran.
        paths: Whether the words may name files of this machine; those of a card may not.
    """
    if isinstance(error, OSError) and not paths:
        return error.strerror or type(error).__name__
    if isinstance(error, (Error, OSError)):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory; try fewer workers"
    if isinstance(error, BrokenExecutor):
        if not isinstance(crew.executor, Pool) or crew.executor.worked:
            return "a worker process died, most likely for want of memory; try fewer workers"
        return (
            "the worker processes died before they finished anything. Either memory ran out: try fewer workers. "
            "Or they could not import the program that called for the build: a script must call it below "
            '`if __name__ == "__main__":`, and a program on standard input can have one worker only'
        )
    said = f": {error}" if paths else ""
    return f"unexpected {type(error).__name__}{said}. Report this as a bug of its builder."
