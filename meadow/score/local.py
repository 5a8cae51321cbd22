"""Asks a model in a local folder, by transformers.

Likelihoods: a question and all that may follow it go through the model once. The continuations stand side by side after
the one prompt; each sees the prompt and itself, by a mask of its own, at the positions it would have alone. That
is computed once more in the plain way, each continuation in a row of its own, for the first question of a run, and the
plain way is used for all if the two differ, or if the model's attention cannot take such a mask.

Writing: prompts of a batch are padded on the left. What is sampled for a prompt depends on its own seed, not on what is
asked beside it.
"""

from __future__ import annotations

import gc
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Unpack

from meadow.models import Loaded, prompts
from meadow.score import tensors
from meadow.score.backend import Likelihood, Prompt, Rendered, Writing
from meadow.score.predictions import ScoringError
from meadow.score.tensors import Asked

__all__ = ["LocalBackend"]

#: How far the two ways of computing a likelihood may differ, in nats: rounding in float32 makes 1e-5. In the smaller types
#: a token's log-probability is off by a few hundredths whichever way it is computed, as it is by any other batch size.
_TOLERANCE = {"float32": 1e-3}
_COARSE = 0.5


class LocalBackend:
    """A model of transformers, ready to be asked.

    Args:
        loaded: The model with its tokenizer.
        template: How questions are put; None: as it was trained, else by its chat template, else ``plain``.
        batch_size: Questions at once; halved when memory runs out.
        notify: Called with what a user should know.

    Attributes:
        batch_size: Questions at once at the moment.
        forwards: How often the model was called for likelihoods.
        shared: Whether continuations share their prompt's pass; None before the first.
    """

    name = "transformers"
    no_loglikelihood = ""
    concurrency = 1

    def __init__(
        self,
        loaded: Loaded,
        template: prompts.Template | None = None,
        *,
        batch_size: int = 16,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self._model, self._tokenizer = loaded.model, loaded.tokenizer
        self._model.eval()
        self._notify = notify or (lambda text: None)
        chosen = template or loaded.template or prompts.usual(self._tokenizer)
        self.template = prompts.settled(chosen, self._tokenizer)
        self.doubts: Sequence[str] = ()
        if loaded.template is None and template is None:
            self.doubts = (
                "the model's folder does not say by which template it was trained; it is asked by "
                f"{self.template.name!r}, and --template names another",
            )
        elif loaded.template and self.template != prompts.settled(loaded.template, self._tokenizer):
            other = loaded.template.name
            self.doubts = (f"the model was trained with another template ({other!r}) than it is asked by",)
        self.batch_size = max(1, batch_size)
        self.forwards = 0
        self.shared: bool | None = None
        self._config = self._model.config.get_text_config()
        self._limit: int | None = getattr(self._config, "max_position_embeddings", None)
        self._ids: dict[Prompt, list[int]] = {}
        source, path = loaded.source, str(loaded.source.get("path", ""))
        keys = ("fingerprint", "adapter_fingerprint", "quantization", "dtype")
        weights = {key: source.get(key) for key in keys}
        self.identity: Mapping[str, Any] = {
            "backend": self.name,
            **weights,
            "template": self.template.to_dict(),
        }
        self.described: Mapping[str, Any] = {
            "name": Path(path).name or path,
            "backend": self.name,
            "folder": source.get("adapter") or source.get("base"),
            "path": path,
            "base": source.get("base") if source.get("adapter") else None,
            **weights,
            "device": source.get("device"),
            "template": self.template.name,
            "versions": source.get("versions"),
        }

    def close(self) -> None:
        """Lets nothing go: the model belongs to whoever loaded it."""

    def render(self, prompt: Prompt, room: int) -> Rendered:
        """How a prompt is sent; raises `ScoringError` where it does not fit into what the model can read."""
        # A likelihood's room is given in characters; no tokenizer makes more than one token of most.
        ids, cut = self._encode(prompt, room)
        return Rendered(hashlib.sha256(repr(ids).encode()).hexdigest(), len(ids), cut)

    def _template(self, prompt: Prompt) -> prompts.Template:
        return prompts.get(prompt.template) if prompt.template else self.template

    def _encode(self, prompt: Prompt, room: int) -> tuple[list[int], bool]:
        most = None if self._limit is None else self._limit - room
        asked = self._template(prompt), self._tokenizer, prompt.instruction, prompt.input
        try:
            ids = prompts.prompt_ids(*asked, answer_prefix=prompt.answer_prefix)
            cut = most is not None and len(ids) > most
            if cut:
                ids = prompts.prompt_ids(*asked, answer_prefix=prompt.answer_prefix, max_length=most)
        except prompts.Refused as error:
            raise ScoringError(
                f"item {prompt.id}: {error}; the model reads {self._limit} tokens, of which the answer may need {room}. Leave "
                "the item out of the exam, or take a model with a longer context"
            ) from error
        # What is hashed is what is asked.
        self._ids[prompt] = ids
        return ids, cut

    def _prompt(self, prompt: Prompt) -> list[int]:
        return self._ids[prompt] if prompt in self._ids else self._encode(prompt, 0)[0]

    def _continuation(self, prompt: Prompt, text: str) -> list[int]:
        ids = prompts.answer_ids(self._template(prompt), self._tokenizer, text)
        if not ids:
            raise ScoringError(f"item {prompt.id}: the tokenizer makes no token of {text[:40]!r}")
        return ids

    def loglikelihoods(
        self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]
    ) -> list[list[Likelihood]]:
        """As `Backend` says; raises `ScoringError` where there is no memory for a single question."""
        asked = [
            (self._prompt(prompt), [self._continuation(prompt, text) for text in texts])
            for prompt, texts in zip(prompts, continuations, strict=True)
        ]
        sums = self._batched(asked, self._sums)
        found = []
        for values, (_, followers), texts in zip(sums, asked, continuations, strict=True):
            found.append(list(map(Likelihood, values, map(len, followers), map(len, texts))))
        return found

    def _sums(self, asked: Sequence[Asked]) -> list[list[float]]:
        if self.shared is None:
            # Kinds of attention that a mask of our own can be given to.
            kinds = set(getattr(self._config, "layer_types", None) or ())
            self.shared = kinds <= {"full_attention", "sliding_attention"} and getattr(
                self._config, "_attn_implementation", ""
            ) in ("sdpa", "eager")
            if self.shared and any(len(ids) > 1 for _, followers in asked for ids in followers):
                self.shared = self._shares(asked[:2])
                if not self.shared:
                    self._notify(
                        "this model's attention does not let continuations share their prompt; each is computed by "
                        "itself, which takes longer"
                    )
        window = getattr(self._config, "sliding_window", None)
        longest = max(len(ids) + sum(map(len, followers)) for ids, followers in asked)
        if self.shared and (window is None or longest < window):
            return self._together(asked)
        return self._apart(asked)

    def _shares(self, asked: Sequence[Asked]) -> bool:
        """Whether sharing gives what computing apart gives, by the last and the longest continuation of each question."""
        # Where one sees too much, it is what stands before it, so the last shows it best.
        asked = [(ids, [*followers[:-1], max(followers, key=len), followers[-1]]) for ids, followers in asked]
        plain = self._apart([(ids, followers[-2:]) for ids, followers in asked])
        try:
            shared = [sums[-2:] for sums in self._together(asked)]
        except Exception as error:
            if _out_of_memory(error):
                raise
            return False
        asked = [(ids, followers[-2:]) for ids, followers in asked]
        tolerance = _TOLERANCE.get(self.identity["dtype"] or "", _COARSE)
        if self.identity["quantization"]:
            tolerance = _COARSE
        # A model that gives no numbers gives none either way.
        return all(
            a == b or a != a or abs(a - b) <= tolerance * max(1, len(ids))
            for (_, followers), ones, others in zip(asked, plain, shared, strict=True)
            for ids, a, b in zip(followers, ones, others, strict=True)
        )

    def _together(self, asked: Sequence[Asked]) -> list[list[float]]:
        """One row for each question, with all its continuations side by side."""
        import torch

        number = self._model.dtype if self._model.dtype.is_floating_point else torch.float32
        ids, mask, place, width = tensors.side_by_side(asked, self._tokenizer.pad_token_id, number)
        logits = self._forward(ids, mask, place, keep=ids.shape[1] - width + 1)
        return [tensors.sums_behind(logits[row], followers) for row, (_, followers) in enumerate(asked)]

    def _apart(self, asked: Sequence[Asked]) -> list[list[float]]:
        """One row for each continuation, padded on the right: the plain way."""
        rows = [(prompt, follower) for prompt, followers in asked for follower in followers]
        found: list[float] = []
        # Not more rows at once than questions would be.
        for first in range(0, len(rows), self.batch_size):
            part = rows[first : first + self.batch_size]
            tokens = [prompt + follower[:-1] for prompt, follower in part]
            ids, mask = tensors.padded(tokens, self._tokenizer.pad_token_id, "right")
            skipped = min(len(prompt) for prompt, _ in part) - 1
            logits = self._forward(ids, mask, None, keep=ids.shape[1] - skipped)
            for row, (prompt, follower) in enumerate(part):
                start = len(prompt) - 1 - skipped
                columns = range(start, start + len(follower))
                found.append(float(tensors.logprobs(logits[row], columns, follower).sum()))
        left = iter(found)
        return [[next(left) for _ in followers] for _, followers in asked]

    def _forward(self, ids: Any, mask: Any, place: Any, keep: int) -> Any:
        """Logits of the last `keep` columns."""
        import torch

        device = self._model.get_input_embeddings().weight.device
        more = {} if place is None else {"position_ids": place.to(device)}
        if "logits_to_keep" in inspect.signature(tensors.inner(self._model).forward).parameters:
            more["logits_to_keep"] = keep
        self.forwards += 1
        with torch.inference_mode():
            found = self._model(
                input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False, **more
            ).logits
        return found[:, -keep:]

    def generate(self, prompts: Sequence[Prompt], **how: Unpack[Writing]) -> list[str]:
        """As `Backend` says; raises `ScoringError` where there is no memory for a single question."""
        seeds = how.get("seed") or [0] * len(prompts)
        asked = [(self._prompt(prompt), own) for prompt, own in zip(prompts, seeds, strict=True)]
        return self._batched(asked, lambda part: self._write(part, how))

    def _write(self, asked: Sequence[tuple[list[int], int]], how: Writing) -> list[str]:
        import torch
        from transformers import GenerationConfig

        ends, stops = prompts.stop_ids(self.template, self._tokenizer), how.get("stop", self.template.stop)
        ids, mask = tensors.padded([prompt for prompt, _ in asked], self._tokenizer.pad_token_id, "left")
        width = ids.shape[1]
        config = GenerationConfig(
            max_new_tokens=how["max_new_tokens"],
            do_sample=False,
            num_beams=1,
            eos_token_id=ends,
            pad_token_id=self._tokenizer.pad_token_id,
            bos_token_id=self._tokenizer.bos_token_id,
        )
        more: dict[str, Any] = {}
        if temperature := how.get("temperature"):
            seeds = [own for _, own in asked]
            chosen = how.get("top_k"), how.get("top_p")
            more["logits_processor"] = tensors.sampling(seeds, temperature, *chosen)
        if stops:
            more["stopping_criteria"] = tensors.stopping(self._tokenizer, stops, width)
        device = self._model.get_input_embeddings().weight.device
        with torch.inference_mode(), tensors.own_defaults(self._model, config):
            written = self._model.generate(
                input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=config, **more
            )[:, width:].tolist()
        return [self._text(row, ends, stops) for row in written]

    def _text(self, tokens: list[int], ends: Sequence[int], stops: Sequence[str]) -> str:
        tokens = list(takewhile(lambda token: token not in ends, tokens))
        text = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for stop in stops:
            text = text.split(stop)[0]
        return text.strip()

    def _batched(self, asked: Sequence[Any], work: Callable[[Sequence[Any]], list[Any]]) -> list[Any]:
        """Works through a sequence in batches, in smaller ones when memory runs out."""
        import torch

        found: list[Any] = []
        while len(found) < len(asked):
            size = min(self.batch_size, len(asked) - len(found))
            try:
                found += work(asked[len(found) : len(found) + size])
                continue
            except Exception as error:
                if not _out_of_memory(error):
                    raise
                if size == 1:
                    raise ScoringError(
                        "out of memory with a single question: load the model with --quantization 8bit or 4bit or "
                        "--dtype bfloat16, allow fewer new tokens, or use a GPU with more memory. Run the same command "
                        "again to go on"
                    ) from error
            # Outside the handler: the error's traceback holds on to the tensors.
            self.batch_size = size // 2
            self._notify(f"out of memory with {size} questions at once; going on with {self.batch_size}")
            gc.collect()
            torch.cuda.empty_cache()
        return found


def _out_of_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
