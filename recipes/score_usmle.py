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

import argparse
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from meadow import score as scoring


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the recipe; returns 0, 1 where scoring failed, or 2 where something was asked for that cannot be."""
    settings, wrong = settings_of(sys.argv[1:] if argv is None else argv)
    wrong += scoring.problems(settings)
    if wrong:
        many = "1 problem" if len(wrong) == 1 else f"{len(wrong)} problems"
        return failed(f"{many} in the settings:\n" + "\n".join(f"  - {text}" for text in wrong), 2)

    # Before any of the libraries that would look for a network.
    from meadow.models import ModelError, offline

    offline()
    from meadow.models.prompts import PromptError
    from meadow.score.exams import ExamError
    from meadow.score.leaks import LeaksError, missing
    from meadow.score.report import SummaryError, show

    try:
        if gone := missing(settings.trained_on, settings.out):
            return failed("\n".join(gone), 2)
        scores = scoring.score(settings)
    except (
        scoring.SettingsError,
        scoring.ResumeError,
        ExamError,
        LeaksError,
        PromptError,
        SummaryError,
    ) as error:
        return failed(str(error), 2)
    except (scoring.ScoringError, ModelError) as error:
        return failed(str(error), 1)
    except KeyboardInterrupt:
        return failed("stopped; the same command goes on after the last answer", 130)
    show(scores)
    print(f"\n{settings.output}/report.md")
    return 0


def settings_of(argv: Sequence[str]) -> tuple[scoring.ScoreSettings, list[str]]:
    """Reads the command line, and all that is wrong with it."""
    wrong: list[str] = []

    def number(kind: Callable[[str], Any]) -> Callable[[str], Any]:
        def read(text: str) -> Any:
            try:
                return kind(text)
            except ValueError:
                wrong.append(f"{text!r} is no {'whole number' if kind is int else 'number'}")
                return None

        return read

    parser = argparse.ArgumentParser(
        prog="score_usmle.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", help="folder of a model or adapter, or `tiny`; with --endpoint what the server calls it")
    add("--output", type=Path, help="folder to write to; without it, one named after the exam in the model's")
    add(
        "--exam",
        default="usmle_self_assessment",
        help="usmle_self_assessment, medqa, pubmedqa (or NAME@VERSION), or a file",
    )
    add("--split", help="split of the exam's dataset; without it all of an exam's, else test")
    add("--protocol", default="loglikelihood", help="loglikelihood, generate, or medalpaca-compat")
    add(
        "--permute",
        type=number(int),
        default=0,
        metavar="K",
        help="ask every item in K other orders of its options",
    )
    add(
        "--baseline",
        type=Path,
        metavar="DIR",
        help="output of another run on the same items, to compare with",
    )
    add(
        "--trained-on",
        nargs="+",
        default=[],
        metavar="DATA",
        help="datasets and files the model was trained on, where its folder does not say",
    )
    add("--template", help="prompt template; without it the one the model was trained with")
    add("--limit", type=number(int), metavar="N", help="at most N items, for trying things out")
    add("--seed", type=number(int), default=0, help="of orders, sampling and bootstrap")
    add("--batch-size", type=number(int), default=16, help="questions at once")
    add("--max-new-tokens", type=number(int), help="most tokens of a written answer")
    add("--out", type=Path, help="Meadow's output folder; else $MEADOW_OUT or the user's cache")
    local = parser.add_argument_group("models in a folder")
    local.add_argument("--quantization", help="8bit or 4bit")
    local.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16")
    local.add_argument("--device", default="auto", help="auto, cpu, cuda, balanced")
    local.add_argument("--adapter", metavar="DIR", help="an adapter to put on the model")
    local.add_argument("--base", metavar="DIR", help="base model of an adapter, where it names another place")
    local.add_argument(
        "--allow-pickle", action="store_true", help="load weights that are pickled, which can run code"
    )
    served = parser.add_argument_group("models behind an OpenAI-compatible endpoint")
    served.add_argument(
        "--endpoint",
        metavar="URL",
        help="such as http://localhost:8000/v1; a key is read from --key-variable",
    )
    served.add_argument("--concurrency", type=number(int), default=8, help="requests at once")
    served.add_argument("--timeout", type=number(float), default=300.0, help="seconds for a request")
    served.add_argument("--retries", type=number(int), default=5, help="how often a request is tried again")
    served.add_argument(
        "--key-variable", default="MEADOW_API_KEY", help="environment variable with the server's key"
    )
    served.add_argument(
        "--allow-public", action="store_true", help="the server may lie outside your own network"
    )

    found, unknown = parser.parse_known_args(argv)
    flags = [flag for action in parser._actions for flag in action.option_strings]
    for flag in unknown:
        near = get_close_matches(flag.partition("=")[0], flags, 1) if flag.startswith("-") else []
        wrong.append(f"{flag} is no setting" + (f"; {near[0]} is" if near else "; --help lists them"))
    # What could not be read was told; the usual value stands in for it so that the rest is checked, too.
    values = {key: parser.get_default(key) if value is None else value for key, value in vars(found).items()}
    values["trained_on"] = tuple(values["trained_on"])
    values["output"] = values["output"] or output_of(found.model, found.exam)
    return scoring.ScoreSettings(**values), wrong


def output_of(model: str | None, exam: str) -> Path:
    """Where a score goes if nobody says: into the model's folder, else under ``runs``."""
    name = Path(exam).name.partition("@")[0].partition(".")[0]
    if model and Path(model).is_dir():
        return Path(model) / name
    return Path("runs") / (Path(model).name if model else "served") / name


def failed(message: str, code: int) -> int:
    """Says what went wrong, in place of a traceback."""
    print(f"score_usmle.py: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
