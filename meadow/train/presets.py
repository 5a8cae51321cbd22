"""Presets: sets of values, each with its source or its reason.

A preset is a list of `Choice`s; the last that fits a model's size and a method counts. What a preset does not
set stays as `Settings` has it, and whatever a file or the command line says goes before both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

#: Model sizes that presets tell apart, by the recipe that is run.
SIZES = ("7b", "13b")
#: What is trained: all weights; or low-rank adapters beside a base that is loaded as it is, in 8 or in 4 bits.
METHODS = ("full", "lora", "lora-8bit", "qlora")
ADAPTERS = ("lora", "lora-8bit", "qlora")


@dataclass(frozen=True)
class Choice:
    """One value of a preset.

    Attributes:
        key: The setting.
        value: Its value.
        why: Where the value comes from, or why it is better.
        methods: The methods that it is for.
        sizes: The model sizes that it is for.
    """

    key: str
    value: Any
    why: str
    methods: tuple[str, ...] = METHODS
    sizes: tuple[str, ...] = SIZES


_PAPER = "Han et al. 2023, arXiv:2304.08247"
_CODE = "medAlpaca, medalpaca/train.py at 2a0f24b2"
_SCRIPT = "medAlpaca, example-train-medalpaca.sh at 2a0f24b2"
_QLORA = "Dettmers et al. 2023 (QLoRA), arXiv:2305.14314"

_SHARED = (
    Choice("template", "medalpaca", f"{_CODE}: prompts/medalpaca.json, without its empty input section"),
    Choice("seed", 42, f"{_CODE}: seed of the split; the default of transformers for the rest"),
    Choice("scheduler", "cosine", f"{_CODE}: lr_scheduler_type"),
    Choice("dtype", "auto", f"{_SCRIPT}: bf16; a GPU without bf16 uses fp16, a CPU fp32"),
    Choice("tf32", True, f"{_SCRIPT}: tf32"),
    Choice(
        "activation_checkpointing", True, f"{_SCRIPT}: gradient_checkpointing; slower, for far less memory"
    ),
    Choice("max_grad_norm", 1.0, f"{_CODE}: the default of transformers"),
    Choice("weight_decay", 0.0, f"{_CODE}: the default of transformers"),
    Choice("eval_steps", 200, f"{_CODE}: eval_steps"),
    Choice("save_steps", 200, f"{_CODE}: save_steps is eval_steps"),
)

PAPER: tuple[Choice, ...] = (
    *_SHARED,
    Choice("epochs", 5.0, f"{_PAPER}: full fine-tuning", ("full",)),
    Choice("epochs", 3.0, f"{_PAPER} and {_CODE}: LoRA", ADAPTERS),
    Choice("learning_rate", 2e-5, f"{_PAPER}: 7B in full", ("full",), ("7b",)),
    Choice("learning_rate", 1e-5, f"{_PAPER}: 13B in full", ("full",), ("13b",)),
    Choice("learning_rate", 2e-5, f"{_CODE}: learning_rate, with LoRA as its default", ADAPTERS),
    Choice("batch_size", 256, f"{_SCRIPT}: global_batch_size", ("full",)),
    Choice("batch_size", 128, f"{_CODE}: global_batch_size", ADAPTERS),
    Choice("per_device_batch_size", 4, f"{_SCRIPT}: per_device_batch_size", ("full",)),
    Choice("per_device_batch_size", 2, f"{_CODE}: per_device_batch_size", ADAPTERS),
    Choice("warmup_steps", 100, f"{_CODE}: warmup_steps"),
    Choice("lora_r", 8, f"{_CODE}: lora_r", ADAPTERS),
    Choice("lora_alpha", 16.0, f"{_CODE}: lora_alpha", ADAPTERS),
    Choice("lora_dropout", 0.1, f"{_CODE}: lora_dropout", ADAPTERS),
    Choice("lora_targets", ("q_proj", "v_proj"), f"{_CODE}: lora_target_modules", ADAPTERS),
    Choice("validation", 0.1, f"{_CODE}: val_set_size; by group here, so that no page is on both sides"),
    Choice("train_on_inputs", True, f"{_CODE}: train_on_inputs; the loss is on prompt and answer"),
    Choice(
        "max_length",
        1024,
        "not the published 256, which would cut 55 % of MedQA's rows, 77 % of Stack Exchange's and 99 % of PubMedQA's; "
        "this cuts none, 3 % and none (counted with SmolLM2's tokenizer)",
    ),
    Choice("packing", "length", "the published way pads; rows of like length together change no number"),
)

MODERN: tuple[Choice, ...] = (
    *_SHARED,
    Choice(
        "epochs",
        3.0,
        "as published for LoRA; with a larger rate there is no need for the five in full; see the validation loss",
    ),
    Choice("learning_rate", 2e-5, "usual for LLaMA 7B in full (Alpaca)", ("full",), ("7b",)),
    Choice("learning_rate", 1e-5, "a larger model wants a smaller step (Alpaca 13B)", ("full",), ("13b",)),
    Choice(
        "learning_rate", 2e-4, f"{_QLORA}: 7B and 13B; adapters begin at zero and need larger steps", ADAPTERS
    ),
    Choice("batch_size", 128, "Alpaca; twice the steps of 256 for the same rows", ("full",)),
    Choice("batch_size", 64, f"between the 16 of {_QLORA} and the published 128: more steps", ADAPTERS),
    Choice("per_device_batch_size", 2, "packed blocks: 4,096 tokens at once"),
    Choice("warmup_steps", 0.03, f"{_QLORA}: 3 % of the steps, whatever the size of the data"),
    Choice(
        "lora_r",
        16,
        f"{_QLORA}: with adapters on all layers the rank matters little; twice the published 8",
        ADAPTERS,
    ),
    Choice("lora_alpha", 32.0, "twice the rank, so that steps keep their size", ADAPTERS),
    Choice("lora_dropout", 0.1, f"{_QLORA}: 7B and 13B", ADAPTERS),
    Choice("lora_targets", ("all-linear",), f"{_QLORA}: adapters on all linear layers matter most", ADAPTERS),
    Choice("validation", 0.02, "enough to see overfitting, and eight points more of the data are trained on"),
    Choice("train_on_inputs", False, f"{_QLORA}: loss on answers alone scored higher than on both"),
    Choice("max_length", 2048, "the context of the first LLaMA: next to nothing is cut"),
    Choice(
        "packing",
        "packed",
        "next to no padding is computed; rows cannot see one another, so no number changes",
    ),
    Choice("pack_length", 2048, "a block as long as the longest row", METHODS),
)

PRESETS: Mapping[str, tuple[Choice, ...]] = MappingProxyType({"paper": PAPER, "modern": MODERN})


def choices(preset: str, method: str, size: str) -> dict[str, Choice]:
    """What a preset sets for a method and size, by key."""
    return {c.key: c for c in PRESETS[preset] if method in c.methods and size in c.sizes}
