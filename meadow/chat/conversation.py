"""A conversation with a model: what it is shown, and answers that come as they are written.

What a model is shown is what it was trained on: a chat's turns, where its template has turns, and otherwise each
question by itself, whatever was said before.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from meadow.core.errors import Error
from meadow.models import Loaded, load, prompts

__all__ = ["DISCLAIMER", "SIDES", "Chat", "ChatError", "ChatPrompt", "ChatSettings", "Turn", "open_chat"]

#: Stands wherever an answer can be read.
DISCLAIMER = (
    "Research only, not for clinical use. A language model writes these answers: they can be wrong or invented, however "
    "sure they sound. Decide nothing about anyone's health by them."
)
#: What an adapter may be, and whether it is on for the answers that are then written.
SIDES = {"on": (True,), "off": (False,), "both": (True, False)}
#: The most of what a model can read that is kept free for its answer.
_ANSWER_SHARE = 0.5


class ChatError(Error):
    """A question that cannot be asked, or an answer that cannot go on; the message says what to do."""


@dataclass(frozen=True)
class ChatSettings:
    """How answers are written.

    Attributes:
        max_new_tokens: The most tokens of one.
        temperature: What logits are divided by before sampling; 0: always the likeliest token.
        top_k: Sample from so many of the likeliest tokens; 0: from all.
        top_p: Sample from the likeliest tokens that together have this probability.
        seed: The same question, with the same seed, gets the same answer.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def problems(self) -> Iterator[str]:
        """What is wrong with them, a sentence each."""
        if self.max_new_tokens < 1:
            yield f"max-new-tokens {self.max_new_tokens} leaves no room for an answer; give 1 or more"
        if not 0 <= self.temperature <= 10:
            yield f"temperature {self.temperature:g} is not between 0 (always the likeliest token) and 10"
        if self.top_k < 0:
            yield f"top-k {self.top_k} is negative; 0 means all tokens"
        if not 0 < self.top_p <= 1:
            yield f"top-p {self.top_p:g} is not above 0 and at most 1"


@dataclass(frozen=True)
class Turn:
    """A question, and its answer as far as it came."""

    question: str
    answer: str = ""


@dataclass(frozen=True)
class ChatPrompt:
    """What a model is shown, as tokens and as text, and how many turns were left out at the beginning."""

    ids: tuple[int, ...]
    text: str
    forgotten: int = 0


class Chat:
    """A loaded model that can be asked.

    Args:
        loaded: The model with its tokenizer.
        template: How questions are put; None: as the model was trained, else by its chat template, else ``plain``.

    Attributes:
        trained: Whether the model's folder says that it was trained with this template.
        multi_turn: Whether what was said before is shown to the model.
        takes_system: Whether its template has a place for a system message.
        has_adapter: Whether there is an adapter that can be turned off.

    Raises:
        meadow.models.prompts.PromptError: The template cannot be used with this tokenizer.
    """

    def __init__(self, loaded: Loaded, template: prompts.Template | None = None) -> None:
        self._model, self._tokenizer, self.source = loaded.model, loaded.tokenizer, loaded.source
        self._model.eval()
        own, template = loaded.template, template or loaded.template or prompts.usual(self._tokenizer)
        self.template = prompts.settled(template, self._tokenizer)
        self.trained = own is not None and self.template == prompts.settled(own, self._tokenizer)
        self.multi_turn = template.kind == "chat"
        # Fails here, and not at the first question, if the template does not suit the tokenizer.
        frame = prompts.frame(self.template, self._tokenizer)
        self.takes_system = isinstance(frame, prompts.ChatFrame) and frame.takes_system()
        more = getattr(getattr(self._model, "generation_config", None), "eos_token_id", None) or []
        more = more if isinstance(more, (list, tuple)) else [more]
        self._stop_ids = {*prompts.stop_ids(self.template, self._tokenizer), *more}
        self.has_adapter = hasattr(self._model, "disable_adapter")
        config = self._model.config.get_text_config()
        self._limit: int | None = getattr(config, "max_position_embeddings", None)
        # A model is asked one thing at a time: turning the adapter off is the whole model's business.
        self._lock = threading.Lock()

    def prompt(
        self,
        question: str,
        before: Sequence[Turn] = (),
        *,
        instruction: str = "",
        system: str = "",
        room: int = 512,
    ) -> ChatPrompt:
        """What the model is shown for a question.

        Args:
            question: What is asked.
            before: What was said before, where the template has turns; the oldest are left out if need be.
            instruction: What to do with the question; empty: it is its own instruction.
            system: The system message, in place of the template's own.
            room: The tokens to keep free for the answer, at most half of what the model reads.

        Raises:
            ChatError: There is no question, or it is too long.
        """
        if not question.strip():
            raise ChatError("there is no question")
        reads = self._limit or sys.maxsize
        kept = min(room, int(reads * _ANSWER_SHARE))
        before = [turn for turn in before if turn.answer.strip()] if self.multi_turn else []
        ids: list[int] = []
        for forgotten in range(len(before) + 1):
            ids, text = self._rendered(before[forgotten:], question, instruction, system)
            if len(ids) <= reads - kept:
                return ChatPrompt(tuple(ids), text, forgotten)
        raise ChatError(
            f"the question is too long: with the template it has {len(ids):,} tokens, and the model reads "
            f"{reads:,}, of which {kept:,} are for the answer; shorten it"
        )

    def _rendered(
        self, before: Sequence[Turn], question: str, instruction: str, system: str
    ) -> tuple[list[int], str]:
        def asked(question: str) -> tuple[str, str]:
            return (instruction, question.strip()) if instruction else (question.strip(), "")

        instruction = instruction.strip()
        frame = prompts.frame(self.template, self._tokenizer)
        if not isinstance(frame, prompts.ChatFrame):
            put = self.template, self._tokenizer, *asked(question)
            return prompts.prompt_ids(*put), prompts.prompt_text(*put)
        words = system.strip() or self.template.system
        said = [("system", words)] if words else []
        for turn in before:
            said.append(("user", self.template.fill(*asked(turn.question))))
            said.append(("assistant", turn.answer.strip()))
        said.append(("user", self.template.fill(*asked(question))))
        return frame.conversation(said)

    def answer(
        self, prompt: ChatPrompt, settings: ChatSettings, *, adapter: bool = True
    ) -> Generator[str, None, None]:
        """Writes an answer, with the adapter on or off where there is one; yields what is new each time."""
        found: list[int] = []
        shown = ""
        for token in self._tokens(prompt.ids, settings, adapter):
            found.append(token)
            text, ended = self._read(found)
            kept = text if ended else text[: len(text) - self._held(text)]
            if len(kept) > len(shown):
                yield kept[len(shown) :]
                shown = kept
            if ended:
                return
        # What was held back in case it began a stop.
        text, _ = self._read(found)
        if len(text) > len(shown):
            yield text[len(shown) :]

    def answers(
        self, asked: Sequence[tuple[ChatPrompt, bool]], settings: ChatSettings
    ) -> Generator[tuple[int, str], None, None]:
        """Writes answers to prompts, each with the adapter on or off, a token of each in turn.

        Yields:
            An answer's place among them, and what is new of it.
        """
        going = dict(enumerate(self.answer(prompt, settings, adapter=on) for prompt, on in asked))
        while going:
            for place, pieces in list(going.items()):
                piece = next(pieces, None)
                if piece is None:
                    del going[place]
                else:
                    yield place, piece

    def _read(self, ids: Sequence[int]) -> tuple[str, bool]:
        """The answer's text, and whether a text that ends an answer stood in it."""
        text = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        ).lstrip()
        places = [place for stop in self.template.stop if (place := text.find(stop)) >= 0]
        return (text[: min(places)].rstrip(), True) if places else (text, False)

    def _held(self, text: str) -> int:
        """How many characters at the end may be half of something, and are not shown yet."""
        # A character of several bytes, of which not all tokens are there.
        held = len(text) - len(text.rstrip("\ufffd"))
        for stop in self.template.stop:
            for size in range(min(len(stop) - 1, len(text)), held, -1):
                if text.endswith(stop[:size]):
                    held = size
                    break
        return held

    def _tokens(self, ids: Sequence[int], settings: ChatSettings, adapter: bool) -> Iterator[int]:
        import torch

        device = self._model.get_input_embeddings().weight.device
        generator = torch.Generator().manual_seed(settings.seed)
        # The likelihoods of the tokens after every word of a long prompt take gigabytes, and nobody reads them.
        base = self._model.get_base_model() if self.has_adapter else self._model
        last = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(base.forward).parameters else {}
        off = self.has_adapter and not adapter
        given, past = torch.tensor([ids], device=device), None
        for _ in range(min(settings.max_new_tokens, (self._limit or sys.maxsize) - len(ids))):
            # Another answer may be written in between, with the adapter.
            switched = self._model.disable_adapter() if off else contextlib.nullcontext()
            try:
                with self._lock, torch.inference_mode(), switched:
                    made = self._model(input_ids=given, past_key_values=past, use_cache=True, **last)
                    logits = made.logits[0, -1].float().cpu()
            except torch.OutOfMemoryError as error:
                raise ChatError(
                    "the model's memory is full: ask something shorter, begin anew (/reset), or load it with "
                    "--quantization 8bit or 4bit"
                ) from error
            if not torch.isfinite(logits).any() or torch.isnan(logits).any():
                raise ChatError(
                    "the model gives no numbers (NaN): its weights are damaged, or overflow in this number type: try "
                    "--dtype bfloat16 or float32"
                )
            token = _choose(logits, settings, generator)
            if token in self._stop_ids:
                return
            yield token
            past = made.past_key_values
            given = torch.tensor([[token]], device=device)


def _choose(logits: Any, settings: ChatSettings, generator: Any) -> int:
    import torch

    if settings.temperature == 0:
        return int(logits.argmax())
    logits = logits / settings.temperature
    if settings.top_k:
        least = logits.topk(min(settings.top_k, len(logits))).values[-1]
        logits = logits.masked_fill(logits < least, float("-inf"))
    shares, order = logits.softmax(-1).sort(descending=True)
    if settings.top_p < 1:
        # Those of which the likelier ones do not have it together yet; always one.
        shares = shares.masked_fill(shares.cumsum(-1) - shares >= settings.top_p, 0.0)
    return int(order[torch.multinomial(shares, 1, generator=generator)])


def open_chat(path: str, *, template: str | None = None, **options: Any) -> Chat:
    """Loads a model, as `meadow.models.load` does, to be asked by a named template, or its own for None."""
    chosen = None if template is None else prompts.get(template)
    return Chat(load(path, **options), chosen)
