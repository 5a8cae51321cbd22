"""The model of a run: where and in what it is computed, how it is opened, and what of it is trained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from meadow import models
from meadow.train.folder import TrainingError
from meadow.train.packing import ISOLATED, isolated, split_attention
from meadow.train.run import say
from meadow.train.settings import TrainSettingsError, world_size
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


def choose_device(device: str, *, dtype: str, sharding: str, method: str) -> Placement:
    """Chooses what was left open: number type and sharding.

    Raises:
        TrainSettingsError: This machine, or the number of processes, does not fit.
    """
    import torch

    world, cuda = world_size(), torch.cuda.is_available() and device == "auto"
    if dtype == "float16" and not cuda:
        raise TrainSettingsError(["dtype float16 trains on GPUs alone; use float32 or bfloat16"])
    if sharding == "fsdp" and world == 1:
        raise TrainSettingsError(
            ["sharding fsdp spreads a model over processes, and there is one; start with torchrun"]
        )
    if sharding == "fsdp" and not cuda:
        raise TrainSettingsError(
            [
                "sharding fsdp needs a GPU for each process: on CPUs the libraries would train with DDP, without a word"
            ]
        )
    if dtype == "auto":
        dtype = "float32" if not cuda else "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if world == 1:
        sharding = "none"
    else:
        sharding = (
            "fsdp" if sharding == "fsdp" or (sharding == "auto" and method == "full" and cuda) else "ddp"
        )
    if cuda and world == 1 and (there := torch.cuda.device_count()) > 1:
        say(f"{there} GPUs are visible and one is used; torchrun --nproc-per-node {there} uses all")
    if world > 1 and not cuda and method == "full":
        say("on CPUs every process holds the whole model (DDP); FSDP2 shards it on GPUs")
    return Placement(cuda, dtype, sharding, world)


def open_model(
    base: BaseFolder,
    place: Placement,
    *,
    quantization: str | None,
    trained_whole: bool,
    packed: bool,
    seed: int,
    device: str = "auto",
    allow_pickle: bool = False,
) -> Any:
    """Loads the model to be trained.

    Args:
        base: Its folder.
        place: Where and in what it is computed.
        quantization: ``8bit`` or ``4bit`` for a base that stands still; None: as it is.
        trained_whole: What is trained is kept in float32; a base that stands still in the computation's type.
        packed: Its attention must keep the rows of a packed block apart.
        seed: Of what comes after: adapters and dropout.
        device: ``cpu``: no GPU of any make.
        allow_pickle: Let weights be pickles.

    Raises:
        ModelError: The model cannot be used.
        TrainingError: Rows in packed blocks would see one another with it.
    """
    import transformers

    if place.cuda:
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"
    elif place.world > 1:
        device = "cpu"
    model = models.load(
        base.folder, quantization=quantization, dtype="float32" if trained_whole else place.dtype, device=device,
        allow_pickle=allow_pickle, training=True,
    ).model  # fmt: skip
    model.config.use_cache = False
    if packed:
        split_attention(model)
        _check_isolation(model)
    transformers.set_seed(seed)
    return model


def _check_isolation(model: Any) -> None:
    moved = isolated(model, model.get_input_embeddings().weight.shape[0])
    if not moved < ISOLATED:
        raise TrainingError(
            f"rows in a packed block would see one another with this model ({type(model).__name__}, attention "
            f"{getattr(model.config, '_attn_implementation', 'unknown')}): a neighbour moves logits by {100 * moved:.0f} % of "
            "their spread. Nothing was trained; use --packing length"
        )


def add_adapters(
    model: Any,
    *,
    rank: int | None,
    alpha: float | None,
    dropout: float | None,
    targets: Sequence[str],
    checkpointing: bool,
    base: BaseFolder,
) -> Any:
    """Puts low-rank adapters beside a model that stands still from now on.

    Args:
        model: The model.
        rank: The adapters' rank.
        alpha: Their scale.
        dropout: Dropout before them.
        targets: Names of the linear layers that get one, or ``all-linear``.
        checkpointing: Whether activations will be computed twice.
        base: The base model, which the adapters name.

    Raises:
        TrainSettingsError: The model has no such layers.
    """
    import peft

    layers = {name.rpartition(".")[2] for name, part in model.named_modules() if hasattr(part, "in_features")}
    if unknown := [name for name in targets if name != "all-linear" and name not in layers]:
        raise TrainSettingsError(
            [
                f"lora_targets: this model has no linear layer named {', '.join(unknown)}; it has "
                f"{', '.join(sorted(layers))}, or write all-linear"
            ]
        )
    model.requires_grad_(False)
    config = peft.LoraConfig(
        r=rank or 8, lora_alpha=alpha or 16.0, lora_dropout=dropout or 0.0,  # type: ignore[arg-type]
        target_modules="all-linear" if tuple(targets) == ("all-linear",) else list(targets), bias="none",
        task_type="CAUSAL_LM", base_model_name_or_path=str(base.folder.resolve()),
    )  # fmt: skip
    adapted = peft.get_peft_model(model, config)
    if checkpointing:
        # Checkpointing that is reentrant passes gradients on only where its input asks for some.
        adapted.enable_input_require_grads()
    return adapted


def count_parameters(model: Any) -> tuple[int, int]:
    """Parameters in all, and trained."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # Four-bit weights are packed: two to a byte, in tensors that say what they were.
    shapes = (getattr(getattr(p, "quant_state", None), "shape", None) or p.shape for p in model.parameters())
    return sum(map(prod, shapes)), trained
