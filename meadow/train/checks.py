"""What settings say that cannot be, or not together: a sentence each, with the remedy."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from meadow.models import prompts
from meadow.train.settings import FILES, TINY, TrainSettings, world_size

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(@\d+(\.\d+){0,2})?")


def contradictions(s: TrainSettings, given: Mapping[str, Any], wrong: Collection[str]) -> Iterator[str]:
    """What is missing, is not there, or contradicts something else.

    Args:
        s: The settings.
        given: What was given of them, and not only follows from a preset.
        wrong: Keys of which was said already that their values are wrong.
    """
    yield from _places(s, wrong)
    try:
        prompts.get(s.template)
    except prompts.PromptError as error:
        yield f"template: {error}"
    if not s.adapters and (lora := [key for key in given if key.startswith("lora_")]):
        yield f"{', '.join(lora)}: method full trains all weights and has no adapters; choose --method lora or leave them out"
    if given.get("max_steps") is not None and given.get("epochs") is not None:
        yield "epochs and max_steps both say when to stop; give one of them"
    if s.max_steps is None and s.epochs is None:
        yield "epochs is none and max_steps is not given: nothing says when to stop"
    if s.packing != "packed" and given.get("pack_length") is not None:
        yield f"pack_length is for packed blocks, and packing is {s.packing}; choose --packing packed or leave it out"
    if s.packing == "packed" and s.block < s.max_length:
        yield f"pack_length {s.block} is below max_length {s.max_length}: the longest rows fit no block"
    if s.per_device_batch_size > s.batch_size:
        yield (
            f"per_device_batch_size {s.per_device_batch_size} is more than batch_size {s.batch_size}, the rows of a "
            "whole step; make it smaller"
        )
    if s.early_stopping and not s.validation:
        yield "early_stopping looks at validation rows, and validation is 0"
    elif s.early_stopping and s.eval_steps is None:
        yield "early_stopping needs eval_steps"
    elif s.early_stopping and s.save_steps != s.eval_steps:
        yield (
            f"early_stopping keeps the best weights, which must have been saved: save_steps ({s.save_steps}) must be "
            f"eval_steps ({s.eval_steps}); leave save_steps out"
        )
    if not s.validation and given.get("eval_steps") is not None:
        yield "eval_steps says when to look at validation rows, and validation is 0"
    if s.sharding == "fsdp" and s.adapters:
        yield f"sharding fsdp is for method full; {s.method} runs on many GPUs with a copy of the base on each"
    if s.sharding == "fsdp" and s.device == "cpu":
        yield "sharding fsdp needs GPUs: on CPUs the libraries would train with DDP instead, without a word"
    if s.dtype == "float16" and s.device == "cpu":
        yield "dtype float16 does not train on a CPU; use float32 or bfloat16"
    if s.warmup_steps > 1 and s.warmup_steps != int(s.warmup_steps):
        yield f"warmup_steps {s.warmup_steps} is neither a number of steps nor a share below 1"
    if "all-linear" in s.lora_targets and len(s.lora_targets) > 1:
        yield "lora_targets: all-linear stands alone"
    if s.tensorboard and find_spec("tensorboard") is None:
        yield "tensorboard is not installed; `pip install tensorboard`, or leave it out"
    if s.batch_size < (world := world_size()):
        yield (
            f"batch_size {s.batch_size} cannot be shared by {world} processes, of which each needs a row; nearest that "
            f"fit: batch_size {world}, or {s.batch_size} processes"
        )


def _places(s: TrainSettings, wrong: Collection[str]) -> Iterator[str]:
    """What is wrong with the model, the output and the data."""
    if s.model not in ("", TINY):
        yield from _model(s.model)
    missing = {
        "model": not s.model and "name a model folder by --model, or `--model tiny` to try the recipe",
        "output": s.output is None and not s.dry_run and "name a folder for the trained model by --output",
        "data": not s.data and "name datasets or files by --data",
    }
    yield from (f"{key} is missing; {what}" for key, what in missing.items() if what and key not in wrong)
    if s.output is not None:
        if s.output.exists() and not s.output.is_dir():
            yield f"output {s.output} is a file; name a folder"
        if s.model not in ("", TINY) and s.output.resolve() == Path(s.model).expanduser().resolve():
            yield f"output and model are the same folder, {s.output}: the model would be overwritten"
    for name in s.data:
        if name.endswith(FILES):
            if not Path(name).expanduser().is_file():
                yield f"data {name}: there is no such file"
        elif "/" in name or os.sep in name:
            yield f"data {name}: files end in {', '.join(FILES)}; datasets are given by name"
        elif not _NAME.fullmatch(name):
            yield f"data {name!r} is no name of a dataset; write NAME, NAME@1.0.0, or the path of a file"
    if twice := sorted({name for name in s.data if s.data.count(name) > 1}):
        yield f"data names the same twice: {', '.join(twice)}"


def _model(name: str) -> Iterator[str]:
    folder = Path(name).expanduser()
    if not folder.exists():
        looks = re.fullmatch(r"[\w.-]+/[\w.-]+", name)
        hint = "; nothing is downloaded: fetch the model first and name its folder" if looks else ""
        yield f"model {name} is no folder on this machine{hint}"
    elif not folder.is_dir():
        yield f"model {name} is a file; name the folder that holds config.json, tokenizer and weights"
    elif (folder / "adapter_config.json").is_file():
        yield f"model {name} is an adapter; merge it into its base first (python recipes/merge.py) and name that folder"
