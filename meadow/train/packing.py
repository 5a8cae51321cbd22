"""Which rows are computed together: steps, micro-batches, blocks.

A *step* takes exactly the rows that the seed and the effective batch size say, whatever the number of devices,
of rows at once, or the way rows are laid out. Its rows are then dealt out as *micro-batches*, and the loss is the
mean over the step's trained tokens. So packing, grouping by length, more devices or smaller micro-batches change
the speed of a run and none of its numbers, beyond rounding.

A packed block holds several rows one after the other. Positions begin again at each row, by which `meadow.train.model`
keeps them apart; nor is the first token of a row predicted from the row before. Rows that are not packed stand alone,
with padding on the right. A causal model's tokens cannot look at what comes later, and padding has no label: it needs
no mask.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from meadow.train.data import Corpus
from meadow.train.settings import TrainSettings, world_size

#: Tensor cores want lengths that are multiples of 8.
MULTIPLE = 8
#: Where a run is shorter than its warmup, the warmup is this share of it.
_SHORT = 0.1


def pack(lengths: Sequence[int] | np.ndarray, capacity: int) -> list[list[int]]:
    """Puts rows into as few blocks as best-fit decreasing finds: the longest first, each where least room is left.

    Returns the rows of each block, by number; raises ValueError where a row has more tokens than a block.
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
    """Which rows are computed when, and how they are laid out: ``packed``, by ``length`` or ``none``."""

    #: Tokens of each row that is trained on.
    lengths: np.ndarray
    #: Rows of a step.
    batch_size: int
    #: Rows in all, each counted as often as it is trained on.
    total: int
    seed: int
    packing: str
    #: Tokens of a packed block.
    block: int
    #: Rows, or packed blocks, of a micro-batch at most.
    at_once: int
    #: Processes.
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

    def tokens_of(self, step: int) -> int:
        """Tokens of a step, without padding."""
        return int(self.lengths[self.rows(step)].sum())

    def tokens(self, steps: int | None = None) -> int:
        """Tokens that are computed in the first steps, or in all, without padding."""
        return sum(map(self.tokens_of, range(self.steps if steps is None else steps)))

    def _blocks(self, step: int) -> list[list[int]]:
        rows = self.rows(step)
        if self.packing == "packed":
            return [rows[block].tolist() for block in pack(self.lengths[rows], self.block)]
        if self.packing == "length":
            rows = rows[np.argsort(-self.lengths[rows], kind="stable")]
        return [[row] for row in rows.tolist()]

    def step(self, number: int) -> list[list[list[int]]]:
        """The micro-batches of a step, those that processes compute side by side next to one another.

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
    """The tensors of a micro-batch: the rows of each block, by number, filled up with the token `pad`.

    They are ``input_ids``, ``labels`` (-100 where nothing is trained), and ``position_ids`` where blocks are packed,
    all [blocks, tokens], int64. Without blocks it is something to compute that changes nothing.
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


def plan_steps(s: TrainSettings, rows: Corpus) -> tuple[StepPlan, StepPlan | None]:
    """The plan of the rows that are trained on, and that of the validation rows; None where there are none."""
    total = s.max_steps * s.batch_size if s.max_steps else max(1, round((s.epochs or 1.0) * rows.rows))
    trained, held = rows.lengths[: rows.rows], rows.lengths[rows.rows :]
    rest = (s.block, s.per_device_batch_size, world_size())
    plan = StepPlan(trained, s.batch_size, total, s.seed, s.packing, *rest)
    if not rows.validation:
        return plan, None
    # Which rows stand together changes no loss, so validation rows are at least sorted.
    layout = "packed" if s.packing == "packed" else "length"
    return plan, StepPlan(held, len(held), len(held), s.seed, layout, *rest)


def warmup(s: TrainSettings, steps: int) -> int:
    """Steps in which the learning rate rises, of so many; of a run that is shorter than its warmup a tenth."""
    if s.warmup_steps < 1:
        return round(s.warmup_steps * steps)
    if s.warmup_steps < steps:
        return int(s.warmup_steps)
    return max(1, int(_SHORT * steps)) if steps > 1 else 0
