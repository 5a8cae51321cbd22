"""Scores a model on the USMLE self assessment, or on any other multiple-choice exam.

A model of yours, after `finetune_13b.py`; its template and what it was trained on are read from its folder::

    python recipes/score_usmle.py --model runs/13b --output runs/13b/usmle

Eight bits on a small GPU, and with every item asked in three other orders of its options::

    python recipes/score_usmle.py --model runs/13b --output runs/13b/usmle --quantization 8bit --permute 3

Before and after, item by item; another exam; another protocol::

    python recipes/score_usmle.py --model /models/llama-13b --output runs/base --template medalpaca
    python recipes/score_usmle.py --model runs/13b --output runs/13b/usmle --baseline runs/base
    python recipes/score_usmle.py --model runs/13b --output runs/13b/medqa --exam medqa
    python recipes/score_usmle.py --model runs/13b --output runs/13b/generate --protocol generate

A model behind a server of your own (vLLM, llama.cpp, Ollama), which is asked in threads::

    python recipes/score_usmle.py --endpoint http://localhost:8000/v1 --model NAME --protocol generate --output runs/served

No GPU: ``--model tiny`` makes a small random model, to see everything work.

The output holds every answer (``predictions.jsonl``), the numbers (``scores.json``), ``report.md`` and ``plot.svg``. A run
that was killed goes on where it stopped when the same command is given again. Nothing is downloaded, and nothing is
sent anywhere but to ``--endpoint``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from meadow.core.errors import Error
from meadow.models import ModelError, load, offline, prompts
from meadow.score import ResumeError, ScoreSettings, ScoreSettingsError, ScoringError, leaks, problems
from meadow.score.asking import Notes, ask
from meadow.score.endpoint import EndpointBackend
from meadow.score.exams import read_exam
from meadow.score.local import LocalBackend
from meadow.score.protocols import PROTOCOLS
from meadow.score.report import show, write
from meadow.score.settings import output_of, read_arguments
from meadow.score.summary import read_baseline, summarize

__all__ = ["main", "output_of", "score"]


def score(asked: ScoreSettings, notify: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Scores a model and writes the report, step by step; a run that was killed goes on."""
    # What costs nothing comes first: a wrong name should not show after a model was loaded.
    if wrong := problems(asked):
        raise ScoreSettingsError(wrong)
    leaks.check_data(asked.trained_on, asked.out)
    exam = read_exam(asked.exam, out=asked.out, split=asked.split, limit=asked.limit)
    baseline = read_baseline(asked.baseline, exam) if asked.baseline else None
    template = prompts.get(asked.template) if asked.template else None
    notes = Notes(notify)

    if asked.endpoint is not None:
        backend = EndpointBackend(asked.endpoint, asked.model, template, notify=notes, **asked.serving)
    else:
        loaded = load(asked.model or "", **asked.loading)
        backend = LocalBackend(loaded, template, batch_size=asked.batch_size, notify=notes)

    protocol = PROTOCOLS[asked.protocol]
    how: dict[str, Any] = {
        "seed": asked.seed,
        "permute": asked.permute,
        "max_new_tokens": asked.max_new_tokens or protocol.max_new_tokens or None,
        "batch_size": asked.batch_size,
    }
    about = {"concurrency": asked.concurrency, "limit": asked.limit}
    answers = ask(exam, backend, protocol.name, asked.output, **how, about=about, notes=notes)
    folder = backend.described.get("folder")
    read = leaks.known(exam, model=folder, trained_on=asked.trained_on, out=asked.out)
    scores = summarize(
        exam,
        answers,
        protocol=protocol.name,
        model=backend.described,
        settings={**how, "template": backend.described["template"]},
        leaks=read,
        baseline=baseline,
        notes=[*protocol.notes, *notes],
        seed=asked.seed,
    )
    write(asked.output, scores)
    return scores


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the recipe; returns 0, 1 where scoring failed, or 2 where something was asked for that cannot be."""
    # Before any of the libraries that would look for a network.
    offline()
    try:
        asked = read_arguments(argv, prog="score_usmle.py", description=__doc__, exam="usmle_self_assessment")
        scores = score(asked)
    except ResumeError as error:
        return failed(error, 2)
    except (ScoringError, ModelError) as error:
        return failed(error, 1)
    except Error as error:
        return failed(error, 2)
    except KeyboardInterrupt:
        return failed("stopped; the same command goes on after the last answer", 130)
    show(scores)
    print(f"\n{asked.output}/report.md")
    return 0


def failed(message: object, code: int) -> int:
    """Says what went wrong, in place of a traceback."""
    print(f"score_usmle.py: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
