"""What a run would do, without doing it: its settings and their reasons, rows, steps, parameters, memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from meadow.train.memory import estimate
from meadow.train.model import add_adapters, count_parameters
from meadow.train.run import need_packages, rank
from meadow.train.settings import TrainSettings
from meadow.train.steps import load_rows, open_base, plan_steps, warmup

#: Steps by which blocks are counted.
_LOOKED = 50


def forecast(settings: TrainSettings) -> None:
    """Prints what ``--dry-run`` tells."""
    need_packages(settings)
    lines = list(_lines(settings))
    if rank() == 0:
        print("\n".join(lines))


def _lines(s: TrainSettings) -> Iterator[str]:
    import torch
    import transformers

    base = open_base(s.model, s.template, max_length=s.max_length, allow_pickle=s.allow_pickle)
    rows = load_rows(
        s.data,
        base,
        max_length=s.max_length,
        train_on_inputs=s.train_on_inputs,
        validation=s.validation,
        out=s.out,
    )
    plan, _ = plan_steps(
        rows, batch_size=s.batch_size, per_device_batch_size=s.per_device_batch_size, epochs=s.epochs,
        max_steps=s.max_steps, packing=s.packing, block=s.block, seed=s.seed,
    )  # fmt: skip
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch|transformers|peft")
        model = transformers.AutoModelForCausalLM.from_config(base.config)
        if s.adapters:
            model = add_adapters(
                model, rank=s.lora_r, alpha=s.lora_alpha, dropout=s.lora_dropout, targets=s.lora_targets,
                checkpointing=False, base=base,
            )  # fmt: skip
    total, trained = count_parameters(model)
    yield "settings:"
    for name, value, why in s.explain():
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
        yield f"  {name}: {shown}" + (f"    # {why}" if why else "")
    counts = rows.counts()
    yield f"rows: {counts['trained']:,} trained on, {counts['validation_rows']:,} for validation"
    yield f"cut to {s.max_length} tokens: {counts['truncated']:,} rows"
    for reason, count in counts["refused"].items():
        yield f"left out: {count:,} rows: {reason}"
    yield f"tokens: {counts['tokens']:,} in one pass, {plan.tokens():,} in the whole run"
    processes = f"{plan.world} {'process' if plan.world == 1 else 'processes'}"
    yield (
        f"steps: {plan.steps:,} of {s.batch_size} rows; {plan.accumulation} micro-batches a step on each of {processes}, "
        f"warmup {warmup(s.warmup_steps, plan.steps)}"
    )
    if s.packing == "packed":
        looked = range(min(plan.steps, _LOOKED))
        blocks = sum(len(blocks) for step in looked for blocks in plan.step(step))
        packed = sum(len(plan.rows(step)) for step in looked)
        yield f"packing: {packed / max(blocks, 1):.1f} rows a block of {s.block} tokens"
    yield f"parameters: {trained:,} trained of {total:,} ({100 * trained / total:.3g} %)"
    yield str(estimate(base.config, s, plan.world))
