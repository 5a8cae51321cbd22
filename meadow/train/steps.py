"""The first steps of a recipe: the base model's tokenizer and template, the rows, and which of them make a step."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meadow import models
from meadow.models import prompts
from meadow.train.data import Corpus, prepare
from meadow.train.packing import StepPlan
from meadow.train.reading import sources
from meadow.train.run import rank, say
from meadow.train.settings import TINY, TrainSettings, TrainSettingsError, world_size

#: Where a run is shorter than its warmup, the warmup is this share of it.
_SHORT = 0.1


@dataclass(frozen=True)
class BaseFolder:
    """A base model before it is loaded.

    Attributes:
        folder: Where it lies.
        config: Its configuration, of transformers.
        tokenizer: Its tokenizer, with something to pad with.
        template: How a row is put to it, with nothing left open.
    """

    folder: Path
    config: Any
    tokenizer: Any
    template: prompts.Template


def open_base(s: TrainSettings) -> BaseFolder:
    """Opens a model's folder, and loads no weights.

    Raises:
        ModelError: The model cannot be used.
        PromptError: The template does not fit the model's tokenizer.
        TrainSettingsError: The model cannot read so many tokens.
    """
    import transformers

    base = models.tiny_folder() if s.model == TINY else Path(s.model).expanduser()
    models.check_folder(base, allow_pickle=s.allow_pickle)
    tokenizer = models.load_tokenizer(base)
    config = transformers.AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    models.choose_pad(tokenizer, getattr(config, "vocab_size", None))
    context = getattr(config, "max_position_embeddings", None)
    if context and s.max_length > context:
        raise TrainSettingsError(
            f"max_length {s.max_length} is more than the {context} tokens that {s.model} can read; make it {context}"
        )
    return BaseFolder(base, config, tokenizer, prompts.settled(prompts.get(s.template), tokenizer))


def load_rows(s: TrainSettings, base: BaseFolder) -> Corpus:
    """Reads, splits and tokenises rows, as `meadow.train.data.prepare`, and says how many there are.

    Raises:
        DataError: The data cannot be used.
    """
    import datasets

    datasets.disable_progress_bars()
    # What a dataset lacks is said once, not by each process.
    with contextlib.redirect_stderr(io.StringIO()) if rank() else contextlib.nullcontext():
        found = sources(s.data, s.out)
    corpus = prepare(s, found, base.tokenizer, base.template)
    counts = corpus.counts()
    say(
        f"{counts['trained']:,} rows to train on, {counts['validation_rows']:,} for validation, {counts['tokens']:,} "
        f"tokens, of which {counts['trained_tokens']:,} are trained"
        f" ({'prompt and answer' if s.train_on_inputs else 'answers'})"
    )
    if counts["truncated"]:
        say(f"{counts['truncated']:,} rows are longer than {s.max_length} tokens and were cut")
    for reason, count in counts["refused"].items():
        say(f"{count:,} rows left out: {reason}")
    for exam, hits in corpus.provenance.exam_hits.items():
        if hits["items"]:
            say(f"rows trained on hold {len(hits['items']):,} of the {hits['checked']:,} items of {exam}")
    if s.validation and not corpus.validation:
        say("no row is for validation: there are too few groups, so no validation loss will be shown")
    return corpus


def plan_steps(s: TrainSettings, rows: Corpus) -> tuple[StepPlan, StepPlan | None]:
    """Which rows make which step, whatever the number of processes.

    Returns:
        The plan of the rows that are trained on, and of the validation rows; None where there are none.
    """
    total = s.max_steps * s.batch_size if s.max_steps else max(1, round((s.epochs or 1.0) * rows.rows))
    trained, held = rows.lengths[: rows.rows], rows.lengths[rows.rows :]
    rest = (s.block, s.per_device_batch_size, world_size())
    plan = StepPlan(trained, s.batch_size, total, s.seed, s.packing, *rest)
    if not rows.validation:
        return plan, None
    # Which rows stand together changes no loss, so validation rows are at least sorted.
    layout = "packed" if s.packing == "packed" else "length"
    return plan, StepPlan(held, len(held), len(held), s.seed, layout, *rest)


def warmup(s: TrainSettings, steps: int) -> int:
    """Steps in which the learning rate rises, of so many; of a run that is shorter than its warmup a tenth."""
    if s.warmup_steps < 1:
        return round(s.warmup_steps * steps)
    if s.warmup_steps < steps:
        return int(s.warmup_steps)
    return max(1, int(_SHORT * steps)) if steps > 1 else 0
