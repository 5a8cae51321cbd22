"""Which rows are computed together, and that it changes nothing."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from meadow.train.data import Corpus
from meadow.train.model import ISOLATED, isolated, split_attention
from meadow.train.packing import StepPlan, collate, pack

LENGTHS = np.random.default_rng(3).integers(5, 60, 97)


def plan(
    world: int = 1, packing: str = "packed", at_once: int = 2, total: int = 97 * 2, batch: int = 16
) -> StepPlan:
    return StepPlan(LENGTHS, batch, total, 7, packing, 64, at_once, world)


def corpus(lengths: np.ndarray = LENGTHS, vocabulary: int = 500) -> Corpus:
    rng = np.random.default_rng(1)
    trained = np.concatenate([[False, *(rng.random(size - 1) < 0.7)] for size in lengths])
    return Corpus(
        [f"row {number}" for number in range(len(lengths))], rng.integers(3, vocabulary, lengths.sum()).astype(np.int32),
        trained, np.concatenate([[0], np.cumsum(lengths)]), 0, [], [],
    )  # fmt: skip


def test_packing_loses_no_row_overfills_no_block_and_wastes_little() -> None:
    blocks = pack(LENGTHS, 64)
    assert sorted(row for block in blocks for row in block) == list(range(len(LENGTHS)))
    assert max(LENGTHS[block].sum() for block in blocks) <= 64
    assert len(blocks) <= 1.1 * LENGTHS.sum() / 64
    with pytest.raises(ValueError, match="60 tokens does not fit a block of 50"):
        pack([60], 50)


@pytest.mark.parametrize("packing", ["packed", "length", "none"])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("at_once", [1, 2, 16])
def test_a_step_has_exactly_its_rows_whatever_computes_them(packing: str, world: int, at_once: int) -> None:
    one, other = plan(), plan(world, packing, at_once)
    assert other.steps == one.steps == 13
    for step in range(one.steps):
        micros = other.step(step)
        rows = [row for blocks in micros for block in blocks for row in block]
        assert sorted(rows) == sorted(one.rows(step).tolist())
        assert len(rows) == (16 if step < 12 else 2)
        assert len(micros) % world == 0
        assert max(len(blocks) for blocks in micros) <= at_once
    assert len(other) == sum(len(other.step(step)) for step in range(other.steps))
    assert [other.micro(number) for number in range(len(other))] == [
        m for s in range(other.steps) for m in other.step(s)
    ]


def test_every_row_is_trained_on_as_often_as_asked_and_in_an_order_that_the_seed_gives() -> None:
    found = plan()
    rows = np.concatenate([found.rows(step) for step in range(found.steps)])
    assert set(Counter(rows.tolist()).values()) == {2}
    assert found.tokens() == 2 * LENGTHS.sum()
    assert plan(batch=16).rows(0).tolist() == rows[:16].tolist()
    assert StepPlan(LENGTHS, 16, 97, 8, "none", 64, 2, 1).rows(0).tolist() != rows[:16].tolist()


def test_rows_of_like_length_stand_together() -> None:
    def padding(packing: str) -> int:
        found = plan(packing=packing, at_once=4)
        micros = [[LENGTHS[b].sum() for b in found.micro(n)] for n in range(len(found))]
        return sum(max(sizes) * len(sizes) - sum(sizes) for sizes in micros)

    assert padding("length") < padding("none") / 3


def test_positions_begin_anew_and_no_first_token_is_predicted() -> None:
    found = collate(corpus(), [[0, 1], [2]], 0, packed=True)
    first, second = LENGTHS[0], LENGTHS[1]
    assert found["position_ids"][0, : first + 2].tolist() == [*range(first), 0, 1]
    assert found["position_ids"][0, first + second] == 0, "padding is a row of its own"
    assert found["labels"][0, first] == -100
    assert "attention_mask" not in found
    assert found["input_ids"].shape[1] % 8 == 0
    empty = collate(corpus(), [], 0, packed=False)
    assert (empty["labels"] == -100).all()


@pytest.fixture(scope="module")
def tiny() -> object:
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=500,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


def test_rows_in_a_block_cannot_see_one_another(tiny: object) -> None:
    import torch

    rows = corpus()
    packed = collate(rows, [[0, 1, 2], [5, 6]], 0, packed=True)
    labels = packed.pop("labels")
    with torch.no_grad():
        together = tiny(**packed, use_cache=False).logits
        at = 0
        for row in (0, 1, 2):
            alone = collate(rows, [[row]], 0, packed=False)
            size = int(LENGTHS[row])
            logits = tiny(input_ids=alone["input_ids"], use_cache=False).logits[0, :size]
            torch.testing.assert_close(together[0, at : at + size], logits, atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(labels[0, at : at + size], alone["labels"][0, :size])
            at += size
        # The same with an attention mask, as collators usually add one: rows see one another, in silence.
        masked = tiny(**packed, attention_mask=torch.ones_like(packed["input_ids"]), use_cache=False).logits
    assert (masked[0, LENGTHS[0] :] - together[0, LENGTHS[0] :]).abs().max() > 1e-2


def test_a_model_that_lets_rows_see_one_another_is_found_out(tiny: object) -> None:
    import torch

    class Masked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny

        def forward(self, input_ids: torch.Tensor, **kwargs: object) -> object:
            return self.inner(input_ids, attention_mask=torch.ones_like(input_ids), **kwargs)

    assert isolated(tiny, 500) < ISOLATED / 10
    assert isolated(Masked(), 500) > ISOLATED


def test_the_loss_is_the_same_packed_and_padded(tiny: object) -> None:
    import torch

    from meadow.train.loop import token_loss

    rows = corpus()
    losses = {}
    for packing in ("packed", "length", "none"):
        found = plan(packing=packing, at_once=3)
        total = 0.0
        for blocks in found.step(0):
            inputs = collate(rows, blocks, 0, packed=packing == "packed")
            labels = inputs.pop("labels")
            with torch.no_grad():
                total += token_loss(tiny(**inputs, use_cache=False).logits, labels).item()
        losses[packing] = total
    assert losses["packed"] == pytest.approx(losses["none"], rel=1e-6)
    assert losses["length"] == pytest.approx(losses["none"], rel=1e-6)


@pytest.mark.parametrize("window", [None, 16])
def test_attention_row_by_row_equals_attention_with_a_mask(window: int | None) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

    shape = {
        "vocab_size": 500,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    torch.manual_seed(0)
    if window:
        model = MistralForCausalLM(MistralConfig(**shape, sliding_window=window))
    else:
        model = LlamaForCausalLM(LlamaConfig(**shape))
    inputs = collate(corpus(), [[0, 1, 2], [5, 6]], 0, packed=True)
    labels = inputs.pop("labels")
    found = []
    for split in (False, True):
        assert not split or split_attention(model)
        model.zero_grad()
        logits = model(**inputs, use_cache=False).logits
        torch.nn.functional.cross_entropy(logits[labels != -100], labels[labels != -100]).backward()
        found.append((logits.detach(), model.model.layers[0].self_attn.q_proj.weight.grad.clone()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)
    assert isolated(model, 500) == 0.0
