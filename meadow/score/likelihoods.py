"""Questions and what may follow them as rows for a model, and log-probabilities from what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["Asked", "logprobs", "side_by_side", "sums_behind"]

#: A prompt's tokens, and those of each of its continuations.
Asked = tuple[list[int], list[list[int]]]


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
    tails = [[token for ids in followers for token in ids[:-1]] for _, followers in asked]
    total = width + max(map(len, tails))
    ids = torch.full((len(asked), total), pad)
    place = torch.zeros((len(asked), total), dtype=torch.long)
    # 0: prompt; 1 and more: its continuations; -1: padding, which nothing sees.
    group = torch.full((len(asked), total), -1)
    for row, (prompt, followers) in enumerate(asked):
        start = width - len(prompt)
        ids[row, start:width] = torch.tensor(prompt)
        place[row, start:width] = torch.arange(len(prompt))
        group[row, start:width] = 0
        at = width
        for number, follower in enumerate(followers, 1):
            length = len(follower) - 1
            ids[row, at : at + length] = torch.tensor(follower[:-1], dtype=torch.long)
            place[row, at : at + length] = torch.arange(len(prompt), len(prompt) + length)
            group[row, at : at + length] = number
            at += length
    seen = (group[:, None, :] == 0) | (group[:, None, :] == group[:, :, None])
    seen &= (group >= 0)[:, None, :] & torch.ones(total, total, dtype=torch.bool).tril()
    # A row of the mask that sees nothing would be NaN.
    seen |= torch.eye(total, dtype=torch.bool)
    mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
    return ids, mask, place, width


def sums_behind(logits: Any, followers: Sequence[Sequence[int]]) -> list[float]:
    """How likely each continuation in a row of `side_by_side` is.

    Args:
        logits: Those of the row from the prompt's last token on.
        followers: The continuations' tokens.
    """
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
