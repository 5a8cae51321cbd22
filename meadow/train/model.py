"""The model of a run: where and in what it is computed, how it is opened, and what of it is trained."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from typing import Any

from meadow import models
from meadow.train.folder import TrainingError
from meadow.train.packing import ISOLATED, isolated, split_attention
from meadow.train.run import say
from meadow.train.settings import TrainSettings, TrainSettingsError, world_size
from meadow.train.steps import BaseFolder


@dataclass(frozen=True)
class Placement:
    """Where and in what a model is computed.

    Attributes:
        cuda: Whether on GPUs.
        dtype: The number type of the computation.
        sharding: How the model is spread over processes: ``fsdp``, ``ddp`` or ``none``.
        world: Processes.
    """

    cuda: bool
    dtype: str
    sharding: str
    world: int


def choose_device(s: TrainSettings) -> Placement:
    """Chooses what was left open: number type and sharding.

    Raises:
        TrainSettingsError: This machine, or the number of processes, does not fit.
    """
    import torch

    dtype, sharding, full = s.dtype, s.sharding, not s.adapters
    world, cuda = world_size(), torch.cuda.is_available() and s.device == "auto"
    if dtype == "float16" and not cuda:
        raise TrainSettingsError("dtype float16 trains on GPUs alone; use float32 or bfloat16")
    if sharding == "fsdp" and world == 1:
        raise TrainSettingsError(
            "sharding fsdp spreads a model over processes, and there is one; start with torchrun"
        )
    if sharding == "fsdp" and not cuda:
        raise TrainSettingsError(
            "sharding fsdp needs a GPU for each process: on CPUs the libraries would train with DDP, without a word"
        )
    if dtype == "auto":
        dtype = "float32" if not cuda else "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if cuda and world == 1 and (there := torch.cuda.device_count()) > 1:
        say(f"{there} GPUs are visible and one is used; torchrun --nproc-per-node {there} uses all")
    if world > 1 and not cuda and full:
        say("on CPUs every process holds the whole model (DDP); FSDP2 shards it on GPUs")
    if world == 1:
        sharding = "none"
    elif sharding != "fsdp":
        sharding = "fsdp" if sharding == "auto" and full and cuda else "ddp"
    return Placement(cuda, dtype, sharding, world)


def open_model(s: TrainSettings, base: BaseFolder, place: Placement) -> Any:
    """Loads the model to be trained: in float32 what is trained, a base that stands still in the computation's type.

    Raises:
        ModelError: The model cannot be used.
        TrainingError: Rows in packed blocks would see one another with it.
    """
    import transformers

    device: str = s.device
    if place.cuda:
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"
    elif place.world > 1:
        device = "cpu"
    model = models.load(
        base.folder, quantization=s.quantization, dtype=place.dtype if s.adapters else "float32", device=device,
        allow_pickle=s.allow_pickle, training=True,
    ).model  # fmt: skip
    model.config.use_cache = False
    if s.packing == "packed":
        split_attention(model)
        _check_isolation(model)
    # For what comes after: adapters and dropout.
    transformers.set_seed(s.seed)
    return model


def _check_isolation(model: Any) -> None:
    moved = isolated(model, model.get_input_embeddings().weight.shape[0])
    if not moved < ISOLATED:
        raise TrainingError(
            f"rows in a packed block would see one another with this model ({type(model).__name__}, attention "
            f"{getattr(model.config, '_attn_implementation', 'unknown')}): a neighbour moves logits by {100 * moved:.0f} % of "
            "their spread. Nothing was trained; use --packing length"
        )


def add_adapters(s: TrainSettings, model: Any, base: BaseFolder) -> Any:
    """Puts low-rank adapters, which name their base, beside a model that stands still from now on.

    Raises:
        TrainSettingsError: The model has no such layers.
    """
    import peft

    layers = {name.rpartition(".")[2] for name, part in model.named_modules() if hasattr(part, "in_features")}
    everywhere = s.lora_targets == ("all-linear",)
    if unknown := [name for name in s.lora_targets if name not in layers and not everywhere]:
        raise TrainSettingsError(
            f"lora_targets: this model has no linear layer named {', '.join(unknown)}; it has "
            f"{', '.join(sorted(layers))}, or write all-linear"
        )
    model.requires_grad_(False)
    config = peft.LoraConfig(
        r=s.lora_r or 8, lora_alpha=s.lora_alpha or 16.0, lora_dropout=s.lora_dropout or 0.0,  # type: ignore[arg-type]
        target_modules="all-linear" if everywhere else list(s.lora_targets), bias="none",
        task_type="CAUSAL_LM", base_model_name_or_path=str(base.folder.resolve()),
    )  # fmt: skip
    adapted = peft.get_peft_model(model, config)
    if s.activation_checkpointing:
        # Checkpointing that is reentrant passes gradients on only where its input asks for some.
        adapted.enable_input_require_grads()
    return adapted


def count_parameters(model: Any) -> tuple[int, int]:
    """Parameters in all, and trained."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # Four-bit weights are packed: two to a byte, in tensors that say what they were.
    shapes = (getattr(getattr(p, "quant_state", None), "shape", None) or p.shape for p in model.parameters())
    return sum(map(prod, shapes)), trained
