"""Which rows are computed together: steps, micro-batches, blocks.

A *step* takes exactly the rows that the seed and the effective batch size say, whatever the number of devices,
of rows at once, or the way rows are laid out. Its rows are then dealt out as *micro-batches*, and the loss is the
mean over the step's trained tokens. So packing, grouping by length, more devices or smaller micro-batches change
the speed of a run and none of its numbers, beyond rounding.

**Packed blocks are isolated.** A block holds several rows one after the other. Positions begin again at each row,
and there is no attention mask: transformers derives from the positions that no token may look across a row's
beginning (it does so only without a mask and without a cache; with either, rows see one another in silence). Nor is
the first token of a row predicted from the row before. `isolated` checks a model for it before it is trained.
For the architectures in `SPLITTING`, `split_attention` goes further: attention is computed row by row, so that a block
costs what its rows cost alone, where a mask over the block would cost the square of its length.

Rows that are not packed stand alone, with padding on the right. A causal model's tokens cannot look at what comes
later, and padding has no label: it needs no mask.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from meadow.train.data import Corpus

#: Tensor cores want lengths that are multiples of 8.
MULTIPLE = 8
#: How much a row's logits may move when a neighbour in its block changes, as a share of their own spread. Isolated
#: rows: 0. In 8 bits (LLM.int8) rows of one pass share the columns that count as outliers, packed or not: 0.09 with
#: SmolLM2-135M. Rows that see one another: 0.52 to 0.70, with random models and with that one.
ISOLATED = 0.25

#: Architectures whose attention is plain: scaled dot products and perhaps a window.
SPLITTING = ("llama", "mistral", "qwen2", "qwen3")
_SPLIT = "meadow_split"


def pack(lengths: Sequence[int] | np.ndarray, capacity: int) -> list[list[int]]:
    """Puts rows into as few blocks as best-fit decreasing finds: the longest first, each where least room is left.

    Args:
        lengths: Tokens of each row, at most `capacity`.
        capacity: Tokens of a block.

    Returns:
        The rows of each block, by number.

    Raises:
        ValueError: A row is longer than a block.
    """
    lengths = np.asarray(lengths)
    if len(lengths) and lengths.max() > capacity:
        raise ValueError(f"a row of {lengths.max()} tokens does not fit a block of {capacity}")
    room: list[tuple[int, int]] = []  # (room left, block), sorted
    blocks: list[list[int]] = []
    for row in np.argsort(-lengths, kind="stable").tolist():
        need = int(lengths[row])
        at = bisect_left(room, (need, -1))
        if at == len(room):
            blocks.append([row])
            left, block = capacity - need, len(blocks) - 1
        else:
            left, block = room.pop(at)
            blocks[block].append(row)
            left -= need
        if left > 1:
            insort(room, (left, block))
    return blocks


@dataclass(frozen=True, eq=False)
class StepPlan:
    """Which rows are computed when.

    Attributes:
        lengths: Tokens of each row that is trained on.
        batch_size: Rows of a step.
        total: Rows in all, each counted as often as it is trained on.
        seed: Of the order of rows.
        packing: ``packed``, ``length`` or ``none``.
        block: Tokens of a packed block.
        at_once: Rows, or packed blocks, of a micro-batch at most.
        world: Processes.
    """

    lengths: np.ndarray
    batch_size: int
    total: int
    seed: int
    packing: str
    block: int
    at_once: int
    world: int

    @property
    def steps(self) -> int:
        """Optimizer steps; the last takes what is left."""
        return max(1, -(-self.total // self.batch_size))

    @cached_property
    def accumulation(self) -> int:
        """Micro-batches of a step on each process; in the last step there may be fewer."""
        return max(map(self._needed, range(self.steps)))

    def _needed(self, step: int) -> int:
        return max(1, -(-len(self._blocks(step)) // (self.at_once * self.world)))

    def __len__(self) -> int:
        """Micro-batches of all processes together."""
        last = self.steps - 1
        return (last * self.accumulation + self._needed(last)) * self.world

    def rows(self, step: int) -> np.ndarray:
        """The rows of a step."""
        start = step * self.batch_size
        end = min(start + self.batch_size, self.total)
        size = len(self.lengths)
        found = []
        while start < end:
            epoch, at = divmod(start, size)
            taken = min(end - start, size - at)
            found.append(_order(size, self.seed, epoch)[at : at + taken])
            start += taken
        return np.concatenate(found)

    def tokens(self) -> int:
        """Tokens that are computed in all, without padding."""
        whole, rest = divmod(self.total, len(self.lengths))
        tail = _order(len(self.lengths), self.seed, whole)[:rest]
        return int(whole * self.lengths.sum() + self.lengths[tail].sum())

    def _blocks(self, step: int) -> list[list[int]]:
        rows = self.rows(step)
        if self.packing == "packed":
            return [rows[block].tolist() for block in pack(self.lengths[rows], self.block)]
        if self.packing == "length":
            rows = rows[np.argsort(-self.lengths[rows], kind="stable")]
        return [[row] for row in rows.tolist()]

    def step(self, number: int) -> list[list[list[int]]]:
        """The micro-batches of a step, those that processes compute side by side next to one another.

        Returns:
            For each micro-batch its blocks, for each block its rows. One without blocks has nothing to do.
        """
        blocks = self._blocks(number)
        many = (self._needed(number) if number == self.steps - 1 else self.accumulation) * self.world
        bounds = np.arange(many + 1) * len(blocks) // many
        return [blocks[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]

    def micro(self, number: int) -> list[list[int]]:
        """The micro-batch of that number, as the data loader counts them."""
        step, at = divmod(number, self.accumulation * self.world)
        return _step(self, step)[at]


@lru_cache(4)
def _order(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(size)


@lru_cache(8)
def _step(plan: StepPlan, number: int) -> list[list[list[int]]]:
    return plan.step(number)


def collate(corpus: Corpus, blocks: Sequence[Sequence[int]], pad: int, *, packed: bool) -> dict[str, Any]:
    """The tensors of a micro-batch.

    Args:
        corpus: The rows.
        blocks: The rows of each block, by number; none: something to compute that changes nothing.
        pad: The token that fills up.
        packed: Whether blocks may hold several rows; adds ``position_ids``.

    Returns:
        ``input_ids`` and ``labels``, both [blocks, tokens], int64; labels are -100 where nothing is trained.
    """
    import torch

    used = blocks or [[int(np.argmin(corpus.lengths))]]
    spans = [[(corpus.offsets[row], corpus.offsets[row + 1]) for row in block] for block in used]
    width = max(int(sum(b - a for a, b in block)) for block in spans)
    width = -(-width // MULTIPLE) * MULTIPLE
    ids = np.full((len(used), width), pad, np.int64)
    labels = np.full((len(used), width), -100, np.int64)
    positions = np.zeros((len(used), width), np.int64)
    for line, block in enumerate(spans):
        at = 0
        for a, b in block:
            end = at + int(b - a)
            ids[line, at:end] = corpus.tokens[a:b]
            if blocks:
                labels[line, at:end] = np.where(corpus.trained[a:b], corpus.tokens[a:b], -100)
            positions[line, at:end] = np.arange(end - at)
            at = end
        positions[line, at:] = np.arange(width - at)
    found = {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}
    if packed:
        found["position_ids"] = torch.from_numpy(positions)
    return found


def isolated(model: Any, vocabulary: int) -> float:
    """How far a row's logits move when its neighbour in a packed block is another one.

    Args:
        model: The model, on its device.
        vocabulary: Tokens there are.

    Returns:
        The mean difference as a share of the logits' spread; compare it with `ISOLATED`.
    """
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
        one, other = (
            model(input_ids=line[None].to(device), position_ids=positions, use_cache=False)
            .logits[0, 12:]
            .float()
            for line in ids
        )
    model.train(was)
    return float((one - other).abs().mean() / one.std().clamp_min(1e-12))


def split_attention(model: Any) -> bool:
    """Lets a model compute the attention of packed blocks row by row.

    Returns:
        Whether it does; not with architectures that `SPLITTING` does not list.
    """
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

    Args:
        query: [blocks, heads, tokens, width]; `key` and `value` may have fewer heads.
        position_ids: [blocks, tokens]; a row begins where it is 0.
    """
    import torch

    blocks, heads, tokens, width = query.shape
    if (groups := heads // key.shape[1]) > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    sizes = _sizes(position_ids, blocks, tokens)
    # One split and one join: slices by themselves would each get a gradient of the whole block.
    flat = [
        part.transpose(0, 1).reshape(1, heads, blocks * tokens, width).split(sizes, 2)
        for part in (query, key, value)
    ]
    found, dropped = [], dropout if module.training else 0.0
    for q, k, v in zip(*flat, strict=True):
        mask = None
        if sliding_window and q.shape[2] > sliding_window:
            place = torch.arange(q.shape[2], device=q.device)
            back = place[:, None] - place[None]
            mask = (back >= 0) & (back < sliding_window)
        found.append(
            torch.nn.functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, dropout_p=dropped
            )
        )
    return torch.cat(found, 2).view(heads, blocks, tokens, width).permute(1, 2, 0, 3).contiguous(), None


def _sizes(positions: Any, blocks: int, tokens: int) -> list[int]:
    """Tokens of each row, block after block; found once for all layers."""
    if positions is None:
        return [tokens] * blocks
    found = getattr(positions, "_meadow_sizes", None)
    if found is None:
        starts = np.flatnonzero(positions.expand(blocks, tokens).reshape(-1).cpu().numpy() == 0)
        found = np.diff(starts, append=blocks * tokens).tolist()
        positions._meadow_sizes = found
    return found
