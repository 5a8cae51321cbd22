"""Between tokens and a model of transformers: rows and masks, log-probabilities, and how a next token is chosen.

Tokens are chosen by settings of ours alone, each answer by its own seed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

#: A prompt's tokens, and those of each of its continuations.
Asked = tuple[list[int], list[list[int]]]
#: Tokens of a generated answer that are looked at for a text that ends it.
_STOP_WINDOW = 12


def side_by_side(asked: Sequence[Asked], pad: int, dtype: Any) -> tuple[Any, Any, Any, int]:
    """One row for each question: its prompt, padded on the left, and all its continuations behind it.

    Args:
        asked: The questions.
        pad: The token to pad with.
        dtype: The type of the mask's numbers.

    Returns:
        Tokens, a mask by which a continuation sees the prompt and itself, the positions that it would have alone,
        and the column behind the prompts.
    """
    import torch

    width = max(len(ids) for ids, _ in asked)
    # The last token of a continuation predicts nothing that is asked for.
    tails = [[follower[:-1] for follower in followers] for _, followers in asked]
    total = width + max(sum(map(len, each)) for each in tails)
    tokens, places, groups = [], [], []
    for (prompt, _), each in zip(asked, tails, strict=True):
        before, behind = width - len(prompt), total - width - sum(map(len, each))
        tokens.append([pad] * before + sum(each, prompt) + [pad] * behind)
        alone = [place for tail in each for place in range(len(prompt), len(prompt) + len(tail))]
        places.append([0] * before + list(range(len(prompt))) + alone + [0] * behind)
        # 0: prompt; 1 and more: its continuations; -1: padding, which nothing sees.
        numbers = [number for number, tail in enumerate(each, 1) for _ in tail]
        groups.append([-1] * before + [0] * len(prompt) + numbers + [-1] * behind)
    ids, place, group = map(torch.tensor, (tokens, places, groups))
    seen = (group[:, None, :] == 0) | (group[:, None, :] == group[:, :, None])
    seen &= (group >= 0)[:, None, :] & torch.ones(total, total, dtype=torch.bool).tril()
    # A row of the mask that sees nothing would be NaN.
    seen |= torch.eye(total, dtype=torch.bool)
    mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
    return ids, mask, place, width


def padded(rows: Sequence[Sequence[int]], pad: int, side: str) -> tuple[Any, Any]:
    """Tokens padded to one length on one side, and the mask that says which are none of the padding."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids = [torch.tensor(row) for row in rows]
    there = [torch.ones_like(row) for row in ids]
    return (
        pad_sequence(ids, batch_first=True, padding_value=pad, padding_side=side),
        pad_sequence(there, batch_first=True, padding_side=side),
    )


def sums_behind(logits: Any, followers: Sequence[Sequence[int]]) -> list[float]:
    """How likely each continuation in a row of `side_by_side` is, by its logits from the prompt's last token on."""
    # Column 0 is the prompt's last token.
    columns, targets, at = [], [], 1
    for follower in followers:
        columns += [0, *range(at, at + len(follower) - 1)]
        targets += follower
        at += len(follower) - 1
    values = logprobs(logits, columns, targets)
    return [float(part.sum()) for part in values.split([len(follower) for follower in followers])]


def logprobs(logits: Any, columns: Sequence[int], targets: Sequence[int]) -> Any:
    """The log-probability of each target in its column of the logits, in float32."""
    import torch

    wanted, inverse = torch.unique(torch.tensor(columns), return_inverse=True)
    rows = logits[wanted.to(logits.device)].float()
    inverse, chosen = inverse.to(rows.device), torch.tensor(targets, device=rows.device)
    return (rows[inverse, chosen] - rows.logsumexp(-1)[inverse]).cpu()


def inner(model: Any) -> Any:
    """The model of transformers within one of peft."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextlib.contextmanager
def own_defaults(model: Any, config: Any) -> Iterator[None]:
    """Keeps out what a model's folder says of sampling, penalties and lengths: what is not set would be filled in from it."""
    bare = inner(model)
    kept, bare.generation_config = bare.generation_config, config
    try:
        yield
    finally:
        bare.generation_config = kept


def sampling(seeds: Sequence[int], temperature: float, top_k: int | None, top_p: float | None) -> Any:
    """Chooses each row's next token by random numbers of its own, and makes it the only one."""
    import torch
    from transformers import LogitsProcessor, LogitsProcessorList

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    class Sampling(LogitsProcessor):
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            width = scores.shape[-1]
            best, tokens = scores.float().div(temperature).topk(min(top_k or width, width), dim=-1)
            shares = best.softmax(-1)
            if top_p is not None:
                # The likeliest tokens until their sum reaches top_p, and at least one.
                shares = shares.masked_fill(shares.cumsum(-1) - shares >= top_p, 0)
            sums = shares.cumsum(-1)
            drawn = torch.stack([torch.rand(1, generator=own) for own in generators]).to(sums.device)
            place = (sums <= drawn * sums[:, -1:]).sum(-1, keepdim=True)
            # Rounding may lead past the last token that has a share.
            place = torch.minimum(place, (shares > 0).sum(-1, keepdim=True) - 1).clamp_min(0)
            return torch.full_like(scores, -torch.inf).scatter_(-1, tokens.gather(-1, place), 0.0)

    return LogitsProcessorList([Sampling()])


def stopping(tokenizer: Any, stops: Sequence[str], start: int) -> Any:
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    class Stopping(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            recent = input_ids[:, max(start, input_ids.shape[1] - _STOP_WINDOW) :]
            texts = tokenizer.batch_decode(recent, skip_special_tokens=True)
            return torch.tensor(
                [any(stop in text for stop in stops) for text in texts], device=input_ids.device
            )

    return StoppingCriteriaList([Stopping()])
