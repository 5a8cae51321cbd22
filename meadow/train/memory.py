"""How much memory of a GPU a run needs: an estimate, part by part, each with its reason.

The numbers are those of the trainer as it is: what is trained is kept in float32 and computed in the number type of
the run (autocast), a base that stands still is kept in that type, in 8 or in 4 bits; AdamW keeps two moments in
float32. What a layer of a LLaMA-type model keeps for its backward pass was read off the tensors that autograd really
keeps, for models of different widths (torch 2.13, transformers 5.23, peft 0.21, bitsandbytes 0.50); other
architectures differ. The coefficients count bytes per token; ``h`` is the hidden size, ``f`` the intermediate one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meadow.train.packing import MULTIPLE
from meadow.train.settings import TrainSettings

__all__ = ["CONTEXT", "MemoryEstimate", "MemoryPart", "estimate"]

#: What CUDA takes for itself before a tensor is there: kernels, cuBLAS workspaces. 0.3 to 0.6 GB, by GPU and driver.
CONTEXT = 500_000_000
#: bitsandbytes: weights that share a scale in nf4, and scales that share one of their own when they are quantised, too.
_BLOCK, _NESTED = 64, 256


@dataclass(frozen=True)
class MemoryPart:
    """One use of memory: its bytes on each GPU, at its own peak, and how they come about."""

    bytes: int
    why: str


@dataclass(frozen=True)
class MemoryEstimate:
    """What a run needs on each GPU, in bytes.

    Attributes:
        parts: ``weights``, ``adapter``, ``gradients``, ``optimizer`` (AdamW's two moments), ``activations`` (what the
            forward pass keeps for the backward pass, or computes again), ``logits`` (of the whole vocabulary, and the
            loss over them), and ``CUDA`` where there is a GPU.
        total: The highest sum at any moment, with `CONTEXT`; the parts do not all have their peak at once.
        moment: When that is.
        world_size: How many GPUs.
    """

    parts: dict[str, MemoryPart]
    total: int
    moment: str
    world_size: int = 1

    def __getitem__(self, name: str) -> int:
        """The bytes of a part; 0 where there is none."""
        return self.parts[name].bytes if name in self.parts else 0

    @property
    def allocated(self) -> int:
        """What the libraries ask for: ``torch.cuda.max_memory_allocated`` of the run."""
        return self.total - self["CUDA"]

    def __str__(self) -> str:
        each = "on each GPU" if self.world_size > 1 else "on the GPU"
        width = max(map(len, self.parts))
        return "\n".join([
            f"memory {each}, estimated: {_shown(self.total)}, most {self.moment}",
            *(f"  {name:<{width}}  {_shown(part.bytes):>9}  {part.why}" for name, part in self.parts.items()),
            "  The parts have their peaks at different moments, so that the whole is less than their sum.",
        ])  # fmt: skip


def _shown(count: float) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e8 else f"{count / 1e6:,.2f} MB"


@dataclass(frozen=True)
class _Shape:
    """A model by its sizes.

    Attributes:
        hidden: ``h``.
        inner: ``f``.
        layers: How many.
        heads: Attention heads.
        vocabulary: Rows of the head.
        parameters: In all.
        linear: (name, in, out) of each linear module in the layers.
        outside: Parameters outside the layers: embeddings, head, last norm.
        head: Parameters of the head.
    """

    hidden: int
    inner: int
    layers: int
    heads: int
    vocabulary: int
    parameters: int
    linear: tuple[tuple[str, int, int], ...]
    outside: int
    head: int


def _shape(config: Any) -> _Shape:
    """Sizes of a model, from modules that have shapes and no memory."""
    import torch
    import transformers

    if isinstance(config, Mapping):
        rest = dict(config)
        config = transformers.AutoConfig.for_model(rest.pop("model_type"), **rest)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    # Of the modules with weights of two dimensions, those that a block repeats.
    linear = tuple(
        (name.rpartition(".")[2], part.in_features, part.out_features)
        for name, part in model.named_modules()
        if hasattr(part, "in_features") and part is not head
    )
    total = sum(p.numel() for p in model.parameters())
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    layers = int(text.num_hidden_layers)
    inner = getattr(text, "intermediate_size", None) or max(
        (out for _, _, out in linear), default=4 * text.hidden_size
    )
    tied = head.weight is model.get_input_embeddings().weight
    outside = head.weight.numel() * (1 if tied else 2)
    return _Shape(
        int(text.hidden_size), int(inner), layers, int(text.num_attention_heads), head.weight.shape[0], total, linear,
        outside, head.weight.numel(),
    )  # fmt: skip


def estimate(model_config: Any, settings: TrainSettings, world_size: int = 1) -> MemoryEstimate:
    """Estimates the memory that a run needs on each GPU, where all its tokens are trained on.

    Args:
        model_config: The model's configuration, of transformers or as ``config.json`` has it.
        settings: The settings; unless they say float32 or the CPU, the computation is in bfloat16.
        world_size: Processes, one to a GPU.
    """
    shape, s = _shape(model_config), settings
    cpu = s.device == "cpu"
    wide = s.dtype == "float32" or (cpu and s.dtype == "auto")
    full = not s.adapters
    number, kind = (4, "float32") if wide else (2, "float16" if s.dtype == "float16" else "bfloat16")
    sharded = world_size > 1 and not cpu and (s.sharding == "fsdp" or (s.sharding == "auto" and full))
    shards = world_size if sharded else 1
    rank = s.lora_r or 8
    everywhere = s.lora_targets == ("all-linear",)
    targets = [] if full else [one for one in shape.linear if everywhere or one[0] in s.lora_targets]
    extra = sum(rank * (a + b) for _, a, b in targets)
    trains = shape.parameters if full else extra
    inside = shape.parameters - shape.outside
    layer = inside // max(shape.layers, 1)
    width = s.block if s.packing == "packed" else s.max_length
    width = -(-width // MULTIPLE) * MULTIPLE
    tokens = s.per_device_batch_size * width
    accumulates = s.batch_size > s.per_device_batch_size * world_size

    weights, weights_why = _weights(shape, s, full, number, kind, shards)
    adapter = 4 * extra
    gradients = 4 * trains // shards
    gradients_why = f"{trains:,} trained, float32" + (f", shared by {shards}" if sharded else "")
    if world_size > 1 and not sharded:
        gradients *= 2
        gradients_why += ", and once more in the buckets that DDP sends"
    optimizer = 8 * trains // shards

    # ---- activations ----
    kept, kept_why = _layer(shape, s, targets, rank, full, wide, sharded, cpu)
    if s.packing == "packed":
        # The mask of a packed block; memory-efficient attention turns it into the type that is computed in.
        kept += width * number if not cpu else 0
    once = (6 * shape.inner + 4 * shape.hidden) * number // 2 if not full else 0
    dequantised = 2 * max((a * b for _, a, b in shape.linear), default=0) if s.quantization else 0
    # Autocast's copies of weights in the type that is computed in.
    copied = 2 * (inside + shape.head) if full and not wide and not sharded else 0
    residual = 4 if (full and not sharded) or wide else 2
    gathered = (6 * layer + 2 * shape.outside) if sharded else 0
    scattered = 4 * layer if sharded else 0
    ends = tokens * shape.hidden * (10 if full and not sharded else 4)
    if s.activation_checkpointing:
        stored = shape.layers * residual * shape.hidden * tokens
        kept_by_itself = s.quantization == "8bit" and world_size > 1
        if kept_by_itself:
            # LLM.int8 holds on to the inputs of its matrices (two norms', attention's, the product's) by itself, where
            # checkpointing that is not reentrant, as with DDP, cannot take them away.
            stored += shape.layers * tokens * (6 * shape.hidden + 2 * shape.inner)
        here = tokens * (kept + once) + dequantised
        cast = (2 * layer if copied else 0) + gathered + scattered
        activations = stored + here + cast + ends
        why = (
            f"the input of each of {shape.layers} layers, and one layer at a time computed again: {kept_why}, "
            f"{tokens:,} tokens at once"
        )
        if kept_by_itself:
            why += "; of every layer the inputs of its 8-bit matrices, which checkpointing does not free"
    else:
        stored = shape.layers * tokens * kept
        here = tokens * once + dequantised
        cast = copied + gathered + scattered
        activations = stored + here + cast + ends
        why = f"{shape.layers} layers: {kept_why}, {tokens:,} tokens at once; --activation-checkpointing keeps far less"
    if copied:
        why += f"; autocast's {kind} copies of the weights"
    if dequantised:
        why += "; one weight matrix at a time dequantised"
    if gathered:
        why += "; weights of two layers gathered from all GPUs, gradients of one before they are shared out"

    # ---- logits and loss ----
    once_each = 4 * shape.vocabulary * tokens
    logits = 3 * once_each
    logits_why = f"{tokens:,} x {shape.vocabulary:,} in float32, up to three at once: the logits, their log-softmax and its gradient"

    fixed = weights + adapter + optimizer
    before = gradients if accumulates else 0
    # Autocast's copies live to the end of the forward pass; with checkpointing none but the head's is kept longer.
    at_loss = fixed + before + stored + ends + logits
    at_loss += 2 * shape.head if copied and s.activation_checkpointing else copied
    at_loss += gathered
    forward = fixed + before + stored + ends + copied + once_each // 2 + gathered if copied or sharded else 0
    some = gradients if not full or accumulates else max(gradients - 4 * layer // shards, 0)
    in_layers = fixed + here + cast
    if s.activation_checkpointing:
        # At the last layer all inputs are still kept, and at the first all gradients are there.
        in_layers = max(in_layers + before + stored, in_layers + some + residual * shape.hidden * tokens)
    else:
        in_layers += before + stored
    moments = {
        "at the loss": at_loss,
        "at the end of the forward pass": forward,
        "in the backward pass": in_layers,
        "at the optimizer's step": fixed + gradients,
    }
    moment = max(moments, key=lambda name: moments[name])
    shared = f", shared by {shards}" if sharded else ""
    parts = {
        "weights": MemoryPart(weights, weights_why),
        "adapter": MemoryPart(
            adapter, f"{extra:,} parameters of rank {rank} on {len(targets)} modules, float32"
        ),
        "gradients": MemoryPart(gradients, gradients_why),
        "optimizer": MemoryPart(optimizer, f"two moments of AdamW in float32 for {trains:,} trained{shared}"),
        "activations": MemoryPart(activations, why),
        "logits": MemoryPart(logits, logits_why),
        "CUDA": MemoryPart(0 if cpu else CONTEXT, "kernels and workspaces, before a tensor is there"),
    }
    parts = {name: part for name, part in parts.items() if part.bytes}
    return MemoryEstimate(parts, moments[moment] + (0 if cpu else CONTEXT), moment, world_size)


def _weights(
    shape: _Shape, settings: TrainSettings, full: bool, number: int, kind: str, shards: int
) -> tuple[int, str]:
    """Bytes of the model's weights, and why."""
    if full:
        shared = f", shared by {shards} (FSDP2)" if shards > 1 else ""
        return (
            4 * shape.parameters // shards,
            f"{shape.parameters:,} in float32, as AdamW changes them{shared}",
        )
    many = sum(a * b for _, a, b in shape.linear)
    rest = shape.parameters - many
    if settings.quantization == "8bit":
        scales = 4 * sum(b for _, _, b in shape.linear)
        return (
            many + scales + number * rest,
            f"{many:,} in 8 bits with a scale for each row, {rest:,} in {kind}",
        )
    if settings.quantization == "4bit":
        scales = many // _BLOCK + 4 * (many // (_BLOCK * _NESTED))
        return (
            many // 2 + scales + number * rest,
            f"{many:,} in 4 bits (nf4) with doubly quantised scales, {rest:,} in {kind}",
        )
    return number * shape.parameters, f"{shape.parameters:,} in {kind}; they stand still"


def _layer(
    shape: _Shape,
    settings: TrainSettings,
    targets: list[tuple[str, int, int]],
    rank: int,
    full: bool,
    wide: bool,
    sharded: bool,
    cpu: bool,
) -> tuple[int, str]:
    """Bytes that one layer keeps of each token for its backward pass, and why.

    In a base that stands still no linear layer keeps its input, only what norms, attention and the gated product
    need; an adapter keeps its own input, and a mask where there is dropout.
    """
    h, f, heads = shape.hidden, shape.inner, shape.heads
    # Two reciprocal roots of norms, and the log-sum-exp of each head's attention.
    small = 8 + 4 * heads
    if full:
        if wide:
            return 16 * f + 40 * h + small, "16 f + 40 h bytes a token in float32"
        if sharded:
            return 8 * f + 24 * h + small, "8 f + 24 h bytes a token in bfloat16"
        return 8 * f + 34 * h + small, "8 f + 34 h bytes a token (float32 between layers, bfloat16 within)"
    base_f, base_h = (12, 24) if wide else (6, 16)
    layers = max(shape.layers, 1)
    # A mask of dropout is one byte on a GPU; on a CPU it is a float32.
    mask = (4 if cpu else 1) if settings.lora_dropout else 0
    inputs = sum(a for _, a, _ in targets) / layers
    wanted = {name for name, _, _ in targets}
    if wide:
        # In float32 nothing is cast: modules that read the same share it, unless dropout makes each its own.
        shared = 4 * h * any(n in wanted for n in ("q_proj", "k_proj", "v_proj"))
        shared += 4 * h * any(n in wanted for n in ("gate_proj", "up_proj")) + 4 * f * ("down_proj" in wanted)
        adapters = (4 + mask) * inputs if mask else shared
    else:
        adapters = (2 + mask) * inputs
    adapters += 4 * rank * len(targets) / layers
    words = f"{base_f} f + {base_h} h bytes a token, and what {len(wanted)} adapters a layer read"
    if settings.quantization == "8bit":
        # LLM.int8 keeps the input of every matrix.
        base_f, base_h = base_f + 2, base_h + 4
        words = f"{base_f} f + {base_h} h bytes a token (8-bit matrices keep their inputs), and what adapters read"
    return round(base_f * f + base_h * h + small + adapters), words
