"""How a model of transformers chooses tokens here: by settings of ours alone, each answer by its own seed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["inner", "own_defaults", "sampling", "stopping"]

#: Tokens of a generated answer that are looked at for a text that ends it.
_STOP_WINDOW = 12


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
    from transformers import StoppingCriteria

    class Stopping(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            recent = input_ids[:, max(start, input_ids.shape[1] - _STOP_WINDOW) :]
            texts = tokenizer.batch_decode(recent, skip_special_tokens=True)
            return torch.tensor(
                [any(stop in text for stop in stops) for text in texts], device=input_ids.device
            )

    return Stopping()
