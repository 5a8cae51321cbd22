"""The first steps of a recipe: the base model's tokenizer and template, the rows, and which of them make a step."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meadow import models
from meadow.models import prompts
from meadow.train.data import Corpus, prepare
from meadow.train.packing import StepPlan
from meadow.train.reading import sources
from meadow.train.run import rank, say
from meadow.train.settings import TINY, TrainSettingsError, world_size

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


def open_base(model: str, template: str, *, max_length: int, allow_pickle: bool = False) -> BaseFolder:
    """Opens a model's folder, and loads no weights.

    Raises:
        ModelError: The model cannot be used.
        PromptError: The template does not fit the model's tokenizer.
        TrainSettingsError: The model cannot read so many tokens.
    """
    import transformers

    base = models.tiny_folder() if model == TINY else Path(model).expanduser()
    models.check_folder(base, allow_pickle=allow_pickle)
    tokenizer = models.load_tokenizer(base)
    config = transformers.AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    models.choose_pad(tokenizer, getattr(config, "vocab_size", None))
    context = getattr(config, "max_position_embeddings", None)
    if context and max_length > context:
        raise TrainSettingsError(
            [
                f"max_length {max_length} is more than the {context} tokens that {model} can read; make it {context}"
            ]
        )
    return BaseFolder(base, config, tokenizer, prompts.settled(prompts.get(template), tokenizer))


def load_rows(
    data: Sequence[str],
    base: BaseFolder,
    *,
    max_length: int,
    train_on_inputs: bool,
    validation: float,
    out: Path | None = None,
) -> Corpus:
    """Reads, splits and tokenises rows, as `meadow.train.data.prepare`, and says how many there are.

    Raises:
        DataError: The data cannot be used.
    """
    import datasets
    from tqdm.auto import tqdm

    datasets.disable_progress_bars()
    # What a dataset lacks is said once, not by each process.
    with contextlib.redirect_stderr(io.StringIO()) if rank() else contextlib.nullcontext():
        found = sources(data, out)
    bar = tqdm(
        desc="tokenising", unit="row", file=sys.stderr, disable=rank() != 0, mininterval=1.0, leave=False
    )

    def progress(done: int, total: int) -> None:
        bar.total, bar.n = total, done
        bar.refresh()

    with bar:
        corpus = prepare(
            found, base.tokenizer, base.template, max_length=max_length, train_on_inputs=train_on_inputs,
            validation=validation, out=out, progress=progress,
        )  # fmt: skip
    counts = corpus.counts()
    say(
        f"{counts['trained']:,} rows to train on, {counts['validation_rows']:,} for validation, {counts['tokens']:,} "
        f"tokens, of which {counts['trained_tokens']:,} are trained"
        f" ({'prompt and answer' if train_on_inputs else 'answers'})"
    )
    if counts["truncated"]:
        say(f"{counts['truncated']:,} rows are longer than {max_length} tokens and were cut")
    for reason, count in counts["refused"].items():
        say(f"{count:,} rows left out: {reason}")
    for exam, hits in corpus.provenance.exam_hits.items():
        if hits["items"]:
            say(f"rows trained on hold {len(hits['items']):,} of the {hits['checked']:,} items of {exam}")
    if validation and not corpus.validation:
        say("no row is for validation: there are too few groups, so no validation loss will be shown")
    return corpus


def plan_steps(
    rows: Corpus,
    *,
    batch_size: int,
    per_device_batch_size: int,
    epochs: float | None,
    max_steps: int | None,
    packing: str,
    block: int,
    seed: int,
) -> tuple[StepPlan, StepPlan | None]:
    """Which rows make which step, whatever the number of processes.

    Returns:
        The plan of the rows that are trained on, and of the validation rows; None where there are none.
    """
    total = max_steps * batch_size if max_steps else max(1, round((epochs or 1.0) * rows.rows))
    trained, held = rows.lengths[: rows.rows], rows.lengths[rows.rows :]
    rest = (block, per_device_batch_size, world_size())
    plan = StepPlan(trained, batch_size, total, seed, packing, *rest)
    if not rows.validation:
        return plan, None
    # Which rows stand together changes no loss, so validation rows are at least sorted.
    layout = "packed" if packing == "packed" else "length"
    return plan, StepPlan(held, len(held), len(held), seed, layout, *rest)


def warmup(wanted: float, steps: int) -> int:
    """Steps in which the learning rate rises.

    Args:
        wanted: A number of steps; below 1 a share of all.
        steps: Steps of the run; of one that is shorter than its warmup it is a tenth.
    """
    if wanted < 1:
        return round(wanted * steps)
    if wanted < steps:
        return int(wanted)
    return max(1, int(_SHORT * steps)) if steps > 1 else 0
