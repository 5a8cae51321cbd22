"""What a run would do, without doing it, and how much memory of a GPU it needs: part by part, each with its reason.

The numbers are those of the trainer as it is: what is trained is kept in float32 and computed in the number type of
the run (autocast), a base that stands still is kept in that type, in 8 or in 4 bits; AdamW keeps two moments in
float32. What a layer of a LLaMA-type model keeps for its backward pass was read off the tensors that autograd really
keeps, for models of different widths (torch 2.13, transformers 5.23, peft 0.21, bitsandbytes 0.50); other
architectures differ. The coefficients count bytes per token; ``h`` is the hidden size, ``f`` the intermediate one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from meadow.train.data import load_rows
from meadow.train.folder import need_packages
from meadow.train.model import add_adapters, count_parameters, open_base
from meadow.train.packing import MULTIPLE, plan_steps, warmup
from meadow.train.settings import TrainSettings, rank

#: Steps by which blocks are counted.
_LOOKED = 50
#: What CUDA takes for itself before a tensor is there: kernels, cuBLAS workspaces. 0.3 to 0.6 GB, by GPU and driver.
CONTEXT = 500_000_000
#: bitsandbytes: weights that share a scale in nf4, and scales that share one of their own when they are quantised, too.
_BLOCK, _NESTED = 64, 256


@dataclass(frozen=True)
class MemoryEstimate:
    """What a run needs on each of `world_size` GPUs, in bytes."""

    #: Bytes at its own peak, and how they come about, of ``weights``, ``adapter``, ``gradients``, ``optimizer``,
    #: ``activations``, ``logits`` and ``CUDA``; only what is there.
    parts: dict[str, tuple[int, str]]
    #: The highest sum at any moment, with `CONTEXT`; the parts do not all have their peak at once.
    total: int
    #: When that is.
    moment: str
    world_size: int

    def __getitem__(self, name: str) -> int:
        """The bytes of a part; 0 where there is none."""
        return self.parts.get(name, (0, ""))[0]

    @property
    def allocated(self) -> int:
        """What the libraries ask for: ``torch.cuda.max_memory_allocated`` of the run."""
        return self.total - self["CUDA"]

    def __str__(self) -> str:
        each = "on each GPU" if self.world_size > 1 else "on the GPU"
        width = max(map(len, self.parts))
        return "\n".join([
            f"memory {each}, estimated: {_shown(self.total)}, most {self.moment}",
            *(f"  {name:<{width}}  {_shown(count):>9}  {why}" for name, (count, why) in self.parts.items()),
            "  The parts have their peaks at different moments, so that the whole is less than their sum.",
        ])  # fmt: skip


def _shown(count: float) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e8 else f"{count / 1e6:,.2f} MB"


class _Run:
    """A model by its sizes, and what of a run's settings the sums need."""

    def __init__(self, config: Any, s: TrainSettings, world_size: int) -> None:
        import torch
        import transformers

        # Modules that have shapes and no memory.
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
        head = model.get_output_embeddings()
        text = config.get_text_config()
        self.vocabulary = head.weight.shape[0]
        #: (name, in, out) of each linear module in the layers.
        self.linear = [
            (name.rpartition(".")[2], part.in_features, part.out_features)
            for name, part in model.named_modules()
            if hasattr(part, "in_features") and part is not head
        ]
        self.h, self.heads = int(text.hidden_size), int(text.num_attention_heads)
        widest = max((out for _, _, out in self.linear), default=4 * self.h)
        self.f = int(getattr(text, "intermediate_size", None) or widest)
        self.layers = max(int(text.num_hidden_layers), 1)
        self.parameters = sum(p.numel() for p in model.parameters())
        self.head = head.weight.numel()
        #: Parameters outside the layers: embeddings, head.
        self.outside = self.head * (1 if head.weight is model.get_input_embeddings().weight else 2)
        self.inside = self.parameters - self.outside

        self.s, self.full, self.cpu = s, not s.adapters, s.device == "cpu"
        self.wide = s.dtype == "float32" or (self.cpu and s.dtype == "auto")
        self.number = 4 if self.wide else 2
        self.kind = "float32" if self.wide else "float16" if s.dtype == "float16" else "bfloat16"
        shards = s.sharding == "fsdp" or (s.sharding == "auto" and self.full)
        self.shards = world_size if shards and not self.cpu else 1
        self.rank = s.lora_r or 8
        wanted = () if self.full else s.lora_targets
        self.targets = [one for one in self.linear if one[0] in wanted or wanted == ("all-linear",)]
        self.extra = sum(self.rank * (a + b) for _, a, b in self.targets)

    def weights(self) -> tuple[int, str]:
        """Bytes of the model's weights, and why."""
        if self.full:
            shared = f", shared by {self.shards} (FSDP2)" if self.shards > 1 else ""
            why = f"{self.parameters:,} in float32, as AdamW changes them{shared}"
            return 4 * self.parameters // self.shards, why
        many = sum(a * b for _, a, b in self.linear)
        rest = self.parameters - many
        if self.s.quantization == "8bit":
            stored = many + 4 * sum(b for _, _, b in self.linear)
            words = "8 bits with a scale for each row"
        elif self.s.quantization == "4bit":
            stored = many // 2 + many // _BLOCK + 4 * (many // (_BLOCK * _NESTED))
            words = "4 bits (nf4) with doubly quantised scales"
        else:
            return self.number * self.parameters, f"{self.parameters:,} in {self.kind}; they stand still"
        return stored + self.number * rest, f"{many:,} in {words}, {rest:,} in {self.kind}"

    def layer(self) -> tuple[int, str]:
        """Bytes that one layer keeps of each token for its backward pass, and why.

        In a base that stands still no linear layer keeps its input, only what norms, attention and the gated product
        need; an adapter keeps its own input, and a mask where there is dropout.
        """
        h, f = self.h, self.f
        # Two reciprocal roots of norms, and the log-sum-exp of each head's attention.
        small = 8 + 4 * self.heads
        if self.full:
            if self.wide:
                return 16 * f + 40 * h + small, "16 f + 40 h bytes a token in float32"
            if self.shards > 1:
                return 8 * f + 24 * h + small, "8 f + 24 h bytes a token in bfloat16"
            words = "8 f + 34 h bytes a token (float32 between layers, bfloat16 within)"
            return 8 * f + 34 * h + small, words
        base_f, base_h = (12, 24) if self.wide else (6, 16)
        # A mask of dropout is one byte on a GPU; on a CPU it is a float32.
        mask = (4 if self.cpu else 1) if self.s.lora_dropout else 0
        inputs = sum(a for _, a, _ in self.targets) / self.layers
        wanted = {name for name, _, _ in self.targets}
        adapters = (self.number + mask) * inputs
        if self.wide and not mask:
            # In float32 nothing is cast: modules that read the same share it, unless dropout makes each its own.
            readers = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
            adapters = 4 * h * sum(not wanted.isdisjoint(names) for names in readers)
            adapters += 4 * f * ("down_proj" in wanted)
        adapters += 4 * self.rank * len(self.targets) / self.layers
        words = f"{base_f} f + {base_h} h bytes a token, and what {len(wanted)} adapters a layer read"
        if self.s.quantization == "8bit":
            # LLM.int8 keeps the input of every matrix.
            base_f, base_h = base_f + 2, base_h + 4
            words = f"{base_f} f + {base_h} h bytes a token (8-bit matrices keep their inputs), and what adapters read"
        return round(base_f * f + base_h * h + small + adapters), words


def estimate(config: Any, s: TrainSettings, world_size: int = 1) -> MemoryEstimate:
    """Estimates the memory that a run needs on each of so many GPUs, where all its tokens are trained on.

    `config` is the model's, of transformers. Unless settings say float32 or the CPU, the computation is in bfloat16.
    """
    m = _Run(config, s, world_size)
    full, number, sharded = m.full, m.number, m.shards > 1
    trains = m.parameters if full else m.extra
    layer = m.inside // m.layers
    width = s.block if s.packing == "packed" else s.max_length
    width = -(-width // MULTIPLE) * MULTIPLE
    tokens = s.per_device_batch_size * width
    accumulates = s.batch_size > s.per_device_batch_size * world_size
    shared = f", shared by {m.shards}" if sharded else ""

    weights, weights_why = m.weights()
    adapter, optimizer = 4 * m.extra, 8 * trains // m.shards
    gradients, gradients_why = 4 * trains // m.shards, f"{trains:,} trained, float32{shared}"
    if world_size > 1 and not sharded:
        gradients *= 2
        gradients_why += ", and once more in the buckets that DDP sends"

    kept, kept_why = m.layer()
    if s.packing == "packed" and not m.cpu:
        # The mask of a packed block; memory-efficient attention turns it into the type that is computed in.
        kept += width * number
    once = 0 if full else (6 * m.f + 4 * m.h) * number // 2
    dequantised = 2 * max((a * b for _, a, b in m.linear), default=0) if s.quantization else 0
    # Autocast's copies of weights in the type that is computed in.
    copied = 2 * (m.inside + m.head) if full and not m.wide and not sharded else 0
    residual = 4 if (full and not sharded) or m.wide else 2
    gathered = 6 * layer + 2 * m.outside if sharded else 0
    scattered = 4 * layer if sharded else 0
    ends = tokens * m.h * (10 if full and not sharded else 4)
    if s.activation_checkpointing:
        stored = m.layers * residual * m.h * tokens
        here = tokens * (kept + once) + dequantised
        cast = (2 * layer if copied else 0) + gathered + scattered
        why = f"the input of each of {m.layers} layers, and one layer at a time computed again: "
        why += f"{kept_why}, {tokens:,} tokens at once"
        if s.quantization == "8bit" and world_size > 1:
            # LLM.int8 holds on to the inputs of its matrices (two norms', attention's, the product's) by itself, where
            # checkpointing that is not reentrant, as with DDP, cannot take them away.
            stored += m.layers * tokens * (6 * m.h + 2 * m.f)
            why += "; of every layer the inputs of its 8-bit matrices, which checkpointing does not free"
    else:
        stored = m.layers * tokens * kept
        here = tokens * once + dequantised
        cast = copied + gathered + scattered
        why = f"{m.layers} layers: {kept_why}, {tokens:,} tokens at once; --activation-checkpointing keeps far less"
    activations = stored + here + cast + ends
    if copied:
        why += f"; autocast's {m.kind} copies of the weights"
    if dequantised:
        why += "; one weight matrix at a time dequantised"
    if gathered:
        why += "; weights of two layers gathered from all GPUs, gradients of one before they are shared out"
    one_of_logits = 4 * m.vocabulary * tokens
    logits_why = f"{tokens:,} x {m.vocabulary:,} in float32, up to three at once: the logits, their log-softmax and its gradient"

    fixed = weights + adapter + optimizer
    before = gradients if accumulates else 0
    kept_by_loss = fixed + before + stored + ends + gathered
    # Autocast's copies live to the end of the forward pass; with checkpointing none but the head's is kept longer.
    at_loss = 2 * m.head if copied and s.activation_checkpointing else copied
    at_end = kept_by_loss + copied + one_of_logits // 2 if copied or sharded else 0
    in_layers = fixed + here + cast + before + stored
    if s.activation_checkpointing:
        # At the last layer all inputs are still kept, and at the first all gradients are there.
        some = gradients if not full or accumulates else max(gradients - 4 * layer // m.shards, 0)
        in_layers = max(in_layers, fixed + here + cast + some + residual * m.h * tokens)
    moments = {
        "at the loss": kept_by_loss + at_loss + 3 * one_of_logits,
        "at the end of the forward pass": at_end,
        "in the backward pass": in_layers,
        "at the optimizer's step": fixed + gradients,
    }
    moment = max(moments, key=lambda name: moments[name])
    cuda = 0 if m.cpu else CONTEXT
    parts = {
        "weights": (weights, weights_why),
        "adapter": (adapter, f"{m.extra:,} parameters of rank {m.rank} on {len(m.targets)} modules, float32"),
        "gradients": (gradients, gradients_why),
        "optimizer": (optimizer, f"two moments of AdamW in float32 for {trains:,} trained{shared}"),
        "activations": (activations, why),
        "logits": (3 * one_of_logits, logits_why),
        "CUDA": (cuda, "kernels and workspaces, before a tensor is there"),
    }
    there = {name: part for name, part in parts.items() if part[0]}
    return MemoryEstimate(there, moments[moment] + cuda, moment, world_size)


def forecast(settings: TrainSettings) -> None:
    """Prints what ``--dry-run`` tells."""
    need_packages(settings)
    lines = "\n".join(_lines(settings))
    if rank() == 0:
        print(lines)


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
    processes = (
        f"{plan.world} {'process' if plan.world == 1 else 'processes'}, warmup {warmup(s, plan.steps)}"
    )
    yield f"steps: {plan.steps:,} of {s.batch_size} rows; {plan.accumulation} micro-batches a step on each of {processes}"
    if s.packing == "packed":
        blocks = [b for step in range(min(plan.steps, _LOOKED)) for micro in plan.step(step) for b in micro]
        yield f"packing: {sum(map(len, blocks)) / len(blocks):.1f} rows a block of {s.block} tokens"
    yield f"parameters: {trained:,} trained of {total:,} ({100 * trained / total:.3g} %)"
    yield str(estimate(base.config, s, plan.world))
