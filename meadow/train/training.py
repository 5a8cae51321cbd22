"""The training itself: a checkpoint to go on from, transformers' arguments, the loop, and what comes of it."""

from __future__ import annotations

import dataclasses
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meadow import models
from meadow.train import folder
from meadow.train.data import Corpus
from meadow.train.folder import Beginning, TrainingError, say
from meadow.train.model import BaseFolder, Placement, count_parameters
from meadow.train.packing import StepPlan, warmup
from meadow.train.settings import IDENTITY, TrainSettings, rank


@dataclass(frozen=True)
class Trained:
    """A model that was trained, unwrapped, and how it went."""

    model: Any
    #: All its weights, gathered from where they were sharded; None where they were not.
    weights: dict[str, Any] | None
    #: Its parameters in all, and those trained.
    parameters: tuple[int, int]
    steps: int
    #: The step whose weights it has: with early stopping the best one's, which were loaded again.
    kept_step: int
    #: What was logged, as ``run.json`` has it.
    losses: list[dict[str, Any]]
    #: How long it took, with what was before an interruption.
    seconds: float


def find_beginning(settings: TrainSettings, base: BaseFolder, rows: Corpus, plan: StepPlan) -> Beginning:
    """Finds the checkpoint that a killed run goes on from; raises TrainingError where it is another configuration's."""
    identity = {
        "settings": settings.model_dump(mode="json", include=IDENTITY),
        "model": models.fingerprint(base.folder),
        "rows": rows.digest(),
        "template": base.template.to_dict(),
    }
    if 1 <= settings.warmup_steps != (used := warmup(settings, plan.steps)):
        many = f"{plan.steps:,} {'step' if plan.steps == 1 else 'steps'}"
        say(f"the run has {many}, so that warmup takes {used} instead of {settings.warmup_steps:g}")
    output = settings.folder
    if rank() == 0:
        for half in folder.remove_halves(output):
            say(f"{half.name} was never finished, and is removed")
    found = folder.checkpoints(output)
    if found and settings.resume == "no":
        say(f"beginning anew: {len(found)} checkpoints are removed")
        if rank() == 0:
            shutil.rmtree(output / folder.CHECKPOINTS)
    if not found or settings.resume == "no":
        return Beginning(identity)
    step, last = found[-1]
    there = folder.read_mark(last)
    if differs := list(folder.differences(there["identity"], identity)):
        lines = "".join(f"\n  - {text}" for text in differs)
        raise TrainingError(
            f"{last} is a checkpoint of another configuration:{lines}\nGive the same settings to go on from it, choose "
            "another --output, or begin anew with --resume no, which removes it"
        )
    say(f"going on from step {step:,}")
    if (then := there["world"]) != plan.world:
        say(f"it was written by {then} processes, now there are {plan.world}: dropout will fall differently")
    return Beginning(identity, last, there["seconds"], step)


def fit(
    s: TrainSettings,
    model: Any,
    base: BaseFolder,
    rows: Corpus,
    plan: StepPlan,
    held: StepPlan | None,
    place: Placement,
    beginning: Beginning,
) -> Trained:
    """Trains a model by a plan.

    Raises NotFiniteError where a loss or gradient is no number, TrainingError where checkpoints will not fit the disk.
    """
    import transformers
    from tqdm.auto import tqdm

    from meadow.train.loop import Bar, Loop, Watch  # with torch

    parameters = count_parameters(model)
    if rank() == 0:
        # Weights, and two moments of AdamW, in float32; and the finished model.
        folder.need_room(s.folder, 4 * parameters[1] * 3 * (folder.KEPT + 1) + 4 * parameters[1])
    bar = tqdm(
        desc="training", total=plan.steps, initial=beginning.step, unit="step", mininterval=1.0, dynamic_ncols=True,
        disable=rank() != 0,
    )  # fmt: skip
    callbacks: list[Any] = [watch := Watch(place.sharding), Bar(bar, plan)]
    if s.early_stopping and held is not None:
        callbacks.append(transformers.EarlyStoppingCallback(s.early_stopping))
    if s.tensorboard and rank() == 0:
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations.integration_utils import TensorBoardCallback

        callbacks.append(TensorBoardCallback(SummaryWriter(str(s.folder / folder.TENSORBOARD))))
    arguments = training_arguments(s, plan, place, model, validates=held is not None)
    # Trainer would copy the model to every GPU that it sees, which is neither asked for nor exact.
    arguments._n_gpu = min(1, arguments.n_gpu)
    # However it ends, the bar's line does, so that a message after it stands by itself.
    with bar:
        loop = watch.loop = Loop(
            model=model, args=arguments, processing_class=base.tokenizer, callbacks=callbacks, corpus=rows, plan=plan,
            held=held, beginning=beginning,
        )  # fmt: skip
        loop.remove_callback(transformers.PrinterCallback)
        loop.train(resume_from_checkpoint=str(beginning.checkpoint) if beginning.checkpoint else None)
    state = loop.state
    best = state.best_model_checkpoint if arguments.load_best_model_at_end else None
    kept = (state.best_global_step if best and Path(best).is_dir() else None) or state.global_step
    looked = {entry["step"] for entry in state.log_history if "eval_loss" in entry}
    # Of the best weights, which early stopping has loaded by now, the loss is known.
    if held is not None and state.global_step not in looked and kept == state.global_step:
        loop.evaluate()
    seconds = loop.elapsed()
    # Gathered by all processes where the model is sharded.
    weights = loop.accelerator.get_state_dict(loop.model) if loop.is_fsdp_enabled else None
    whole = loop.accelerator.unwrap_model(loop.model)
    return Trained(whole, weights, parameters, state.global_step, kept, _losses(state.log_history), seconds)


def _losses(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = {"loss": "loss", "learning_rate": "lr", "eval_loss": "eval_loss"}
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for entry in history:
        found[entry["step"]] |= {name: entry[key] for key, name in names.items() if key in entry}
    return [{"step": step, **line} for step, line in sorted(found.items()) if line]


def training_arguments(
    s: TrainSettings, plan: StepPlan, place: Placement, model: Any, *, validates: bool
) -> Any:
    """`transformers.TrainingArguments`, where they are not its defaults; a row of the loader is a micro-batch."""
    import torch
    import transformers

    # As the version at hand calls it.
    names = [field.name for field in dataclasses.fields(transformers.TrainingArguments)]
    checkpointing = f"{'activation' if 'activation_checkpointing' in names else 'gradient'}_checkpointing"
    found: dict[str, Any] = {
        "output_dir": str(s.folder / folder.CHECKPOINTS),
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": plan.accumulation,
        "max_steps": plan.steps,
        **s.model_dump(include={"learning_rate", "weight_decay", "max_grad_norm", "seed", "save_steps"}),
        "lr_scheduler_type": "constant_with_warmup" if s.scheduler == "constant" else s.scheduler,
        "warmup_steps": warmup(s, plan.steps),
        "optim": "adamw_torch_fused" if place.cuda else "adamw_torch",
        "bf16": place.dtype == "bfloat16",
        "fp16": place.dtype == "float16",
        # From Ampere on.
        "tf32": s.tf32 if place.cuda and torch.cuda.get_device_capability()[0] >= 8 else None,
        "data_seed": s.seed,
        "save_total_limit": folder.KEPT,
        "eval_strategy": "steps" if validates and s.eval_steps else "no",
        "eval_steps": s.eval_steps if validates else None,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "average_tokens_across_devices": False,
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "train_sampling_strategy": "sequential",
        "dataloader_pin_memory": place.cuda,
        "use_cpu": not place.cuda and (s.device == "cpu" or not torch.backends.mps.is_available()),
    }
    if s.early_stopping and validates:
        found |= {
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    if place.sharding == "fsdp":
        found["fsdp"] = True
        # Else the gradients of a step's micro-batches are kept whole on each GPU until its end: 2 bytes a parameter.
        found["accelerator_config"] = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
        found["fsdp_config"] = {
            "version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "transformer_layer_cls_to_wrap": sorted(getattr(model, "_no_split_modules", None) or []),
            "reshard_after_forward": True,
            "state_dict_type": "FULL_STATE_DICT",
            "activation_checkpointing": s.activation_checkpointing,
        }
    elif s.activation_checkpointing:
        found[checkpointing] = True
        # LLM.int8 holds on to the inputs of its matrices as attributes of every layer, which only a forward pass
        # without a graph, as in torch's reentrant way, does not fill (a third less memory at the peak, on a small
        # model). DDP goes with the other way.
        reentrant = s.quantization == "8bit" and place.sharding != "ddp"
        found[f"{checkpointing}_kwargs"] = {"use_reentrant": reentrant}
    if place.sharding == "ddp":
        found["ddp_find_unused_parameters"] = False
    return transformers.TrainingArguments(**found)
