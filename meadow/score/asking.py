"""Asking a model the questions of an exam, and writing each answer down as it comes."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from meadow.core.version import VERSION
from meadow.score.backend import Backend
from meadow.score.exams import Exam
from meadow.score.predictions import Predictions, ResumeError, ScoringError
from meadow.score.protocols import PROTOCOLS, Line, Question, answers, put

__all__ = ["Notes", "ask", "run"]

Progress = Callable[[int, int], None]


class Notes(list[str]):
    """What came up while a model was asked: told at once, and kept for the report.

    Args:
        tell: Called with each; None: written to the standard error.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self.tell = tell or (lambda text: print(text, file=sys.stderr))

    def __call__(self, text: str) -> None:
        """Tells and keeps a note."""
        self.tell(text)
        self.append(text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."))


def ask(
    exam: Exam,
    backend: Backend,
    protocol: str,
    output: Path,
    *,
    permute: int = 0,
    seed: int = 0,
    batch_size: int = 16,
    max_new_tokens: int | None = None,
    about: Mapping[str, Any] | None = None,
    notes: Notes | None = None,
) -> list[Line]:
    """Asks a model all questions of an exam that it was not asked yet, lets it go, and returns all answers.

    Args:
        exam: What is asked.
        backend: What is asked it.
        protocol: How: a key of `PROTOCOLS`.
        output: The folder of the answers; those that are there already, to the same questions, are kept.
        permute: Ask each item so many times more, with its options shuffled.
        seed: Of the orders of the options, and of what is sampled.
        batch_size: Questions asked together.
        max_new_tokens: The most tokens of an answer; None: the protocol's.
        about: What else is written down of the run. It may be another when a run goes on.
        notes: Where what comes up goes.

    Raises:
        ResumeError: The output holds the answers to something else.
        ScoringError: The model cannot be asked any further, or the output not be written; what was answered is kept.
    """
    notes = Notes() if notes is None else notes
    how = {"seed": seed, "max_new_tokens": max_new_tokens or PROTOCOLS[protocol].max_new_tokens}
    sums = ("name", "version", "sample", "ids_sha256", "items_sha256")
    meta = {
        "protocol": {"name": protocol, "version": PROTOCOLS[protocol].version},
        "exam": {key: getattr(exam, key) for key in sums},
        "model": backend.identity,
        "settings": how,
        "about": {
            "meadow_version": VERSION,
            "model": backend.described,
            "permute": permute,
            "batch_size": batch_size,
            **(about or {}),
        },
    }
    with contextlib.closing(backend), Predictions(output, meta) as predictions, _bar() as progress:
        for doubt in backend.doubts:
            notes(doubt)
        if predictions.resumed:
            notes.tell(f"going on after {predictions.resumed} answers that are there already")
        more = {"permute": permute, "batch_size": batch_size, "progress": progress}
        run(protocol, exam, backend, predictions, **how, **more)
        # Orders that an earlier run asked for beyond those of this one are left out.
        lines = [line for line in predictions if line["permutation"] <= permute]
    if cut := len({line["id"] for line in lines if line.get("cut")}):
        notes(f"{cut} items are longer than the model can read; the middle of their text was left out")
    return lines


def run(
    protocol: str,
    exam: Exam,
    backend: Backend,
    predictions: Predictions,
    *,
    batch_size: int = 16,
    seed: int = 0,
    permute: int = 0,
    max_new_tokens: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Asks what is not among the predictions yet, by the settings of `ask`, and writes each answer down as it comes.

    Long prompts go first: they need the most memory, and those alike in length are asked together. `progress` is
    called with how many questions are answered, and of how many.

    Raises:
        ResumeError: What is there was asked in other words.
        ScoringError: The backend cannot go on. What was answered is kept.
    """
    if protocol not in PROTOCOLS:
        raise ScoringError(f"no protocol is named {protocol!r}; there are: {', '.join(PROTOCOLS)}")
    if protocol == "loglikelihood" and backend.no_loglikelihood:
        raise ScoringError(backend.no_loglikelihood)
    max_new_tokens = max_new_tokens or PROTOCOLS[protocol].max_new_tokens
    progress = progress or (lambda done, total: None)
    questions, done = [], 0
    for item in exam.items:
        for permutation in range(permute + 1):
            question = put(protocol, item, permutation, backend, seed=seed, max_new_tokens=max_new_tokens)
            there = predictions.get(item.id, permutation)
            if there is None:
                questions.append(question)
            elif there["prompt_sha256"] != question.rendered.sha256:
                raise ResumeError(
                    f"{predictions.path}: item {item.id} was asked in other words than it would be now; choose another "
                    "output, or remove that file to begin again"
                )
            else:
                done += 1
    questions.sort(key=lambda q: -q.rendered.length)
    size = 1 if backend.concurrency > 1 else max(1, batch_size)
    batches = [questions[i : i + size] for i in range(0, len(questions), size)]
    total = done + len(questions)
    progress(done, total)

    def ask(batch: Sequence[Question]) -> list[Line]:
        return list(answers(protocol, batch, backend, seed=seed, max_new_tokens=max_new_tokens))

    for lines in _results(ask, batches, backend.concurrency):
        predictions.write(lines)
        done += len(lines)
        progress(done, total)


def _results(
    ask: Callable[[Sequence[Question]], list[Line]], batches: Sequence[Sequence[Question]], threads: int
) -> Iterator[list[Line]]:
    """The answers to each batch as they come, a few batches at once."""
    if threads <= 1:
        yield from map(ask, batches)
        return
    stopped = threading.Event()

    def unless_stopped(batch: Sequence[Question]) -> list[Line] | None:
        return None if stopped.is_set() else ask(batch)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="meadow-ask")
    failure: BaseException | None = None
    try:
        for future in as_completed([pool.submit(unless_stopped, batch) for batch in batches]):
            error = future.exception()
            if error is not None:
                # Answers that are under way are waited for: they were asked for and may have been paid for.
                failure = failure or error
                stopped.set()
            elif (lines := future.result()) is not None:
                yield lines
        if failure is not None:
            raise failure
    finally:
        stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _bar() -> Iterator[Progress | None]:
    """A bar where somebody may be looking."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("questions"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("questions", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
