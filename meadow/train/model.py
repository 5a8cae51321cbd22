"""The model of a run: its folder, where and in what it is computed, how it is opened, and what of it is trained.

**Packed blocks are isolated.** Their rows are told apart by positions that begin again at each row, and there is no
attention mask: transformers derives from the positions that no token may look across a row's beginning (it does so only
without a mask and without a cache; with either, rows see one another in silence). `isolated` checks a model for it
before it is trained. For the architectures in `SPLITTING`, `split_attention` goes further: attention is computed row by
row, so that a block costs what its rows cost alone, where a mask over the block would cost the square of its length.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from meadow import models
from meadow.models import prompts
from meadow.train.folder import TrainingError, say
from meadow.train.settings import TINY, TrainSettings, TrainSettingsError, world_size

#: How much a row's logits may move when a neighbour in its block changes, as a share of their own spread. Isolated
#: rows: 0. In 8 bits (LLM.int8) rows of one pass share the columns that count as outliers, packed or not: 0.09 with
#: SmolLM2-135M. Rows that see one another: 0.52 to 0.70, with random models and with that one.
ISOLATED = 0.25
#: Architectures whose attention is plain: scaled dot products and perhaps a window.
SPLITTING = ("llama", "mistral", "qwen2", "qwen3")
_SPLIT = "meadow_split"


@dataclass(frozen=True)
class BaseFolder:
    """A base model before it is loaded, with the template that puts a row to it, which leaves nothing open."""

    folder: Path
    config: Any
    tokenizer: Any
    template: prompts.Template


def open_base(s: TrainSettings) -> BaseFolder:
    """Opens a model's folder, and loads no weights.

    Raises ModelError where it cannot be used, PromptError where the template does not fit its tokenizer, and
    TrainSettingsError where it cannot read so many tokens.
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


@dataclass(frozen=True)
class Placement:
    """Where and in what a model is computed, and how `world` processes share it: ``fsdp``, ``ddp``, ``none``."""

    cuda: bool
    dtype: str
    sharding: str
    world: int


def choose_device(s: TrainSettings) -> Placement:
    """Chooses what was left open: number type and sharding; raises TrainSettingsError where the machine does not fit."""
    import torch

    dtype, sharding, full = s.dtype, s.sharding, not s.adapters
    world, cuda = world_size(), torch.cuda.is_available() and s.device == "auto"
    if dtype == "float16" and not cuda:
        raise TrainSettingsError("dtype float16 trains on GPUs alone; use float32 or bfloat16")
    if sharding == "fsdp" and world == 1:
        words = "sharding fsdp spreads a model over processes, and there is one; start with torchrun"
        raise TrainSettingsError(words)
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

    Raises ModelError where it cannot be used, TrainingError where rows in packed blocks would see one another with it.
    """
    import transformers

    gpu = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    device = gpu if place.cuda else "cpu" if place.world > 1 else s.device
    model = models.load(
        base.folder, quantization=s.quantization, dtype=place.dtype if s.adapters else "float32", device=device,
        allow_pickle=s.allow_pickle, training=True,
    ).model  # fmt: skip
    model.config.use_cache = False
    if s.packing == "packed":
        split_attention(model)
        moved = isolated(model, model.get_input_embeddings().weight.shape[0])
        if not moved < ISOLATED:
            raise TrainingError(
                f"rows in a packed block would see one another with this model ({type(model).__name__}, attention "
                f"{getattr(model.config, '_attn_implementation', 'unknown')}): a neighbour moves logits by "
                f"{100 * moved:.0f} % of their spread. Nothing was trained; use --packing length"
            )
    # For what comes after: adapters and dropout.
    transformers.set_seed(s.seed)
    return model


def add_adapters(s: TrainSettings, model: Any, base: BaseFolder) -> Any:
    """Puts low-rank adapters, which name their base, beside a model that stands still from now on.

    Raises TrainSettingsError where the model has no such layers.
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
        lora_alpha=s.lora_alpha or 16.0,  # pyright: ignore[reportArgumentType] - peft says int and takes any number
        r=s.lora_r or 8, lora_dropout=s.lora_dropout or 0.0,
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


def isolated(model: Any, vocabulary: int) -> float:
    """How far a row's logits move, as a share of their spread, with another neighbour in its block; see `ISOLATED`."""
    import torch

    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.integers(0, vocabulary, (2, 24)))
    ids[1, 12:] = ids[0, 12:]
    device = next(model.parameters()).device
    positions = torch.arange(12, device=device).repeat(2)[None]
    was = model.training
    model.eval()
    with torch.no_grad():
        # One after the other, so that a kernel that mixes rows of a batch cannot show up here.
        passes = (model(input_ids=x[None].to(device), position_ids=positions, use_cache=False) for x in ids)
        one, other = (found.logits[0, 12:].float() for found in passes)
    model.train(was)
    return float((one - other).abs().mean() / one.std().clamp_min(1e-12))


def split_attention(model: Any) -> bool:
    """Lets a model compute the attention of packed blocks row by row, if `SPLITTING` lists it; whether it does."""
    from transformers import AttentionInterface, AttentionMaskInterface

    if getattr(model.config, "model_type", None) not in SPLITTING:
        return False
    AttentionInterface.register(_SPLIT, _attend)
    # No mask is made: rows are told apart by their positions.
    AttentionMaskInterface.register(_SPLIT, lambda *args, **kwargs: None)
    model.set_attn_implementation(_SPLIT)
    return True


def _attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None,
    dropout: float = 0.0, position_ids: Any = None, sliding_window: int | None = None, **kwargs: Any,
) -> tuple[Any, None]:  # fmt: skip
    """Causal attention within each row of packed blocks, in the form that transformers calls.

    `query` is [blocks, heads, tokens, width]; `key` and `value` may have fewer heads. A row begins where `position_ids`,
    [blocks, tokens], are 0.
    """
    import torch

    blocks, heads, tokens, width = query.shape
    if (groups := heads // key.shape[1]) > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    sizes = _sizes(position_ids, blocks, tokens)
    # One split and one join: slices by themselves would each get a gradient of the whole block.
    whole = (1, heads, blocks * tokens, width)
    flat = [part.transpose(0, 1).reshape(whole).split(sizes, 2) for part in (query, key, value)]
    attention = torch.nn.functional.scaled_dot_product_attention
    found, options = [], {"scale": scaling, "dropout_p": dropout if module.training else 0.0}
    for q, k, v in zip(*flat, strict=True):
        mask = None
        if sliding_window and (size := q.shape[2]) > sliding_window:
            square = torch.ones(size, size, dtype=torch.bool, device=q.device)
            mask = square.tril().triu(1 - sliding_window)
        found.append(attention(q, k, v, attn_mask=mask, is_causal=mask is None, **options))
    return torch.cat(found, 2).view(heads, blocks, tokens, width).permute(1, 2, 0, 3).contiguous(), None


def _sizes(positions: Any, blocks: int, tokens: int) -> list[int]:
    """Tokens of each row, block after block; found once for all layers."""
    if positions is None:
        return [tokens] * blocks
    if not hasattr(positions, "_meadow_sizes"):
        starts = np.flatnonzero(positions.expand(blocks, tokens).reshape(-1).cpu().numpy() == 0)
        positions._meadow_sizes = np.diff(starts, append=blocks * tokens).tolist()
    return positions._meadow_sizes
