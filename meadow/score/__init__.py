"""Scoring a model on the multiple-choice questions of an exam.

`score` reads the exam, asks the model by one of the `meadow.score.protocols`, writes each answer into
``predictions.jsonl`` as it comes, and makes ``scores.json``, ``report.md`` and a plot of them. The same call goes
on where a killed one stopped.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meadow.score.predictions import ResumeError, ScoringError

__all__ = ["ResumeError", "ScoreSettings", "ScoringError", "SettingsError", "problems", "score"]


class SettingsError(ScoringError):
    """Settings that contradict each other or make no sense.

    Attributes:
        problems: All that is wrong with them, a sentence each.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True)
class ScoreSettings:
    """What to score, on what, and how.

    Attributes:
        model: A model's folder, an adapter's, or ``tiny``; with an endpoint what the server calls the model, None for
            the only one it has.
        output: Where predictions and report are written.
        exam: A multiple-choice dataset or a file; see `meadow.score.exams.read_exam`.
        protocol: A key of `meadow.score.protocols.PROTOCOLS`.
        split: The dataset's split.
        limit: At most so many items, to try things out.
        out: Where built datasets lie; None: the usual place.
        template: The name of a template, or its file; None: the one that the model was trained with.
        permute: Ask each item so many times more with its options shuffled.
        seed: Of the shuffling, of sampling, and of the bootstrap.
        batch_size: Questions at once.
        max_new_tokens: The most tokens of an answer; None: the protocol's.
        baseline: The output of another run, to compare with.
        trained_on: Data that the model was trained on, where its folder does not say.
        quantization: ``8bit``, ``4bit`` or None.
        dtype: As in `meadow.models.load`.
        device: As there.
        adapter: An adapter to put on the model.
        base: The base model's folder, where an adapter names another place.
        allow_pickle: Take weights that are pickles.
        endpoint: The address of an OpenAI-compatible endpoint to ask in place of a folder.
        concurrency: Requests to it at once.
        timeout: Seconds for one of them.
        retries: How often one is tried again.
        key_variable: The environment variable that holds its key.
        allow_public: It may lie outside private networks.
    """

    model: str | None
    output: Path
    exam: str = "usmle_self_assessment"
    protocol: str = "loglikelihood"
    split: str | None = None
    limit: int | None = None
    out: Path | None = None
    template: str | None = None
    permute: int = 0
    seed: int = 0
    batch_size: int = 16
    max_new_tokens: int | None = None
    baseline: Path | None = None
    trained_on: tuple[str, ...] = ()
    quantization: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    adapter: str | None = None
    base: str | None = None
    allow_pickle: bool = False
    endpoint: str | None = None
    concurrency: int = 8
    timeout: float = 300.0
    retries: int = 5
    key_variable: str = "MEADOW_API_KEY"
    allow_public: bool = False


def problems(settings: ScoreSettings) -> list[str]:
    """All that is wrong with settings, as far as that shows without reading any file; a sentence each."""
    from meadow.score.protocols import PROTOCOLS

    found = []
    if settings.protocol not in PROTOCOLS:
        found.append(f"no protocol is named {settings.protocol!r}; there are: {', '.join(PROTOCOLS)}")
    if settings.endpoint is None and not settings.model:
        found.append("--model is missing: a model's folder, or 'tiny'; or give --endpoint")
    for name in ("permute", "retries", "seed"):
        if getattr(settings, name) < 0:
            found.append(f"--{name} is {getattr(settings, name)}, and must be 0 or more")
    for name in ("batch_size", "concurrency", "timeout", "limit", "max_new_tokens"):
        value = getattr(settings, name)
        if value is not None and not value > 0:
            found.append(f"--{name.replace('_', '-')} is {value}, and must be more than 0")
    if settings.max_new_tokens is not None and settings.protocol == "loglikelihood":
        found.append("--max-new-tokens has no meaning with --protocol loglikelihood: nothing is written")
    if settings.permute and settings.protocol == "medalpaca-compat":
        found.append("--permute goes with loglikelihood and generate: sampled answers move by themselves")
    if settings.quantization not in (None, "8bit", "4bit"):
        found.append(f"--quantization {settings.quantization!r} is unknown: 8bit or 4bit, or leave it out")
    if settings.endpoint is None:
        return found
    for name, usual in (
        ("quantization", None), ("adapter", None), ("base", None), ("dtype", "auto"), ("device", "auto"),
        ("allow_pickle", False),
    ):  # fmt: skip
        if getattr(settings, name) != usual:
            found.append(f"--{name.replace('_', '-')} is the server's business: leave it out with --endpoint")
    if settings.protocol == "loglikelihood" and settings.template in (None, "chat"):
        found.append(
            "--protocol loglikelihood with --endpoint needs the template that the model was trained with, such as --template "
            "alpaca, since likelihoods need the whole prompt as a text; or use --protocol generate"
        )
    return found


def score(
    settings: ScoreSettings,
    *,
    progress: Callable[[int, int], None] | None = None,
    notify: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Scores a model and writes the report; a run that was killed goes on.

    Args:
        settings: What to score, on what, and how.
        progress: Called with how many questions are answered, and of how many; None: a bar where there is a terminal.
        notify: Called with what a user should know meanwhile; None: written to the standard error.

    Returns:
        What ``scores.json`` holds; see `meadow.score.summary`.

    Raises:
        SettingsError: The settings make no sense; nothing was done.
        ResumeError: The output holds the answers to something else.
        ScoringError: The model cannot be asked any further, or the output not be written; what was answered is kept.
        meadow.score.exams.ExamError, meadow.score.leaks.LeaksError, meadow.score.summary.SummaryError,
        meadow.models.ModelError, meadow.models.prompts.PromptError: Exam, data, baseline, model or template cannot be used.
    """
    if wrong := problems(settings):
        raise SettingsError(wrong)
    import meadow
    from meadow.score import exams, leaks, protocols, report, summary
    from meadow.score.predictions import Predictions

    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        (notify or _to_stderr)(text)

    # What costs nothing comes first: a wrong name should not show after a model was loaded.
    exam = exams.read_exam(settings.exam, out=settings.out, split=settings.split, limit=settings.limit)
    baseline = None if settings.baseline is None else summary.read_baseline(settings.baseline, exam)
    backend, model = _backend(settings, tell)
    try:
        protocol = protocols.PROTOCOLS[settings.protocol]
        tokens = settings.max_new_tokens or protocol.max_new_tokens
        meta = {
            "protocol": {"name": protocol.name, "version": protocol.version},
            "exam": {
                key: getattr(exam, key) for key in ("name", "version", "sample", "ids_sha256", "items_sha256")
            },
            "model": backend.identity,
            "settings": {"seed": settings.seed, "max_new_tokens": tokens},
            "about": {
                "meadow_version": meadow.__version__,
                "model": model,
                "permute": settings.permute,
                "batch_size": settings.batch_size,
                "concurrency": settings.concurrency,
                "limit": settings.limit,
            },
        }
        with Predictions(settings.output, meta) as predictions, _shown(progress) as shown:
            if predictions.resumed:
                tell(f"going on after {predictions.resumed} answers that are there already")
            protocols.run(
                protocol.name,
                exam,
                backend,
                predictions,
                batch_size=settings.batch_size,
                seed=settings.seed,
                permute=settings.permute,
                max_new_tokens=tokens,
                progress=shown,
            )
            # Orders that an earlier run asked for beyond those of this one are left out.
            lines = [line for line in predictions if line["permutation"] <= settings.permute]
    finally:
        close = getattr(backend, "close", None)
        if close is not None:
            close()
    cut = len({line["id"] for line in lines if line.get("cut")})
    if cut:
        tell(f"{cut} items are longer than the model can read; the middle of their text was left out")
    known = leaks.known(
        exam,
        model=None if settings.endpoint else model.get("folder"),
        trained_on=settings.trained_on,
        out=settings.out,
    )
    scores = summary.summarize(
        exam,
        lines,
        protocol=protocol.name,
        model=model,
        settings={
            "seed": settings.seed,
            "permute": settings.permute,
            "max_new_tokens": tokens or None,
            "template": model["template"],
            "batch_size": settings.batch_size,
        },
        leaks=known,
        baseline=baseline,
        notes=(*protocol.notes, *(_sentence(text) for text in told if not text.startswith("going on after"))),
        seed=settings.seed,
    )
    try:
        report.write(settings.output, scores)
    except OSError as error:
        raise ScoringError(
            f"{settings.output}: the report cannot be written: {error.strerror or error}; see to the disk and run the same "
            "command again, all answers are kept"
        ) from error
    return scores


def _backend(settings: ScoreSettings, tell: Callable[[str], None]) -> tuple[Any, dict[str, Any]]:
    """What is asked, and what a report says of it."""
    from meadow.models import prompts

    template = None if settings.template is None else prompts.get(settings.template)
    if settings.endpoint is not None:
        from meadow.score.endpoint import EndpointBackend

        asked = EndpointBackend(
            settings.endpoint,
            settings.model,
            template,
            concurrency=settings.concurrency,
            timeout=settings.timeout,
            retries=settings.retries,
            key_variable=settings.key_variable,
            allow_public=settings.allow_public,
            notify=tell,
        )
        name = "the server's own" if template is None else template.name
        return asked, {
            "name": asked.model, "backend": asked.name, "endpoint": asked.identity["address"], "template": name
        }  # fmt: skip
    from meadow import models
    from meadow.score.local import LocalBackend

    assert settings.model is not None
    loaded = models.load(
        settings.model,
        quantization=settings.quantization,
        dtype=settings.dtype,
        device=settings.device,
        adapter=settings.adapter,
        base=settings.base,
        allow_pickle=settings.allow_pickle,
    )
    local = LocalBackend(loaded, template, batch_size=settings.batch_size, notify=tell)
    if template is None and loaded.template is None:
        tell(
            f"the model's folder does not say by which template it was trained; it is asked by {local.template.name!r}, and "
            "--template names another"
        )
    elif loaded.template is not None and local.template != prompts.settled(loaded.template, loaded.tokenizer):
        tell(f"the model was trained with another template ({loaded.template.name!r}) than it is asked by")
    source = loaded.source
    folder = source["adapter"] or source["base"]
    path = Path(str(settings.model))
    return local, {
        "name": path.name or str(path),
        "backend": local.name,
        "folder": folder,
        "path": str(settings.model),
        "base": source["base"] if source["adapter"] else None,
        "fingerprint": source["fingerprint"],
        "adapter_fingerprint": source["adapter_fingerprint"],
        "quantization": source["quantization"],
        "dtype": source["dtype"],
        "device": source["device"],
        "template": local.template.name,
        "versions": source["versions"],
    }


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


@contextlib.contextmanager
def _shown(progress: Callable[[int, int], None] | None) -> Iterator[Callable[[int, int], None] | None]:
    """The given progress, or a bar where somebody may be looking."""
    if progress is not None or not sys.stderr.isatty():
        yield progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("questions"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("questions", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
