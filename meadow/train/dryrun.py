"""What a run would do, without doing it: its settings and their reasons, rows, steps, parameters, memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from meadow.train.data import load_rows
from meadow.train.memory import estimate
from meadow.train.model import add_adapters, count_parameters, open_base
from meadow.train.packing import plan_steps, warmup
from meadow.train.run import need_packages, rank
from meadow.train.settings import TrainSettings

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

    base = open_base(s)
    rows = load_rows(s, base)
    plan, _ = plan_steps(s, rows)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch|transformers|peft")
        model = transformers.AutoModelForCausalLM.from_config(base.config)
        if s.adapters:
            model = add_adapters(s, model, base)
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
        f"warmup {warmup(s, plan.steps)}"
    )
    if s.packing == "packed":
        blocks = [b for step in range(min(plan.steps, _LOOKED)) for micro in plan.step(step) for b in micro]
        yield f"packing: {sum(map(len, blocks)) / len(blocks):.1f} rows a block of {s.block} tokens"
    yield f"parameters: {trained:,} trained of {total:,} ({100 * trained / total:.3g} %)"
    yield str(estimate(base.config, s, plan.world))
