"""A model behind an OpenAI-compatible server on the user's own network: vLLM, llama.cpp, Ollama and others.

Answers are written by ``/v1/chat/completions``, where the server puts its own chat template around the question, or by
``/v1/completions`` from a whole prompt. Likelihoods need a server that tells the log-probabilities of the tokens of a
*prompt*, as vLLM does.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from meadow.models.http import EndpointError, Server

__all__ = ["Endpoint", "PromptTokens"]

#: The tokens of a prompt, each with its log-probability; that of the first is None.
PromptTokens = list[tuple[Any, float | None]]


class _Message(BaseModel):
    content: str | None = None


class _Rated(BaseModel):
    logprob: float | None = None


class _Logprobs(BaseModel):
    tokens: list[str] = []
    token_logprobs: list[float | None] = []


class _Written(BaseModel):
    text: str | None = None
    message: _Message | None = None


class _WrittenAnswer(BaseModel):
    choices: list[_Written]


class _Choice(_Written):
    index: int | None = None
    logprobs: _Logprobs | None = None
    prompt_logprobs: list[dict[str, _Rated | float] | None] | None = None

    def echoed(self, text: str) -> PromptTokens:
        """The tokens of a prompt that was repeated; none if it was not."""
        told = self.logprobs or _Logprobs()
        if not (self.text or "").startswith(text) or len(told.tokens) != len(told.token_logprobs):
            return []
        return list(zip(told.tokens, told.token_logprobs, strict=True))


class _Answer(BaseModel):
    choices: list[_Choice]


class Endpoint:
    """A model behind a server.

    Args:
        model: What the server calls the model; None: the only one it has.
        notify: Called with what a user should know, once for each text.

    Attributes:
        way: How it tells the log-probabilities of a prompt; None before that is known.

    Raises:
        EndpointError: Nothing answers, or the server has no such model.
    """

    def __init__(
        self, server: Server, model: str | None = None, *, notify: Callable[[str], None] | None = None
    ) -> None:
        self.server = server
        self._notify = notify
        self._told: set[str] = set()
        self._finding = threading.Lock()
        self.way: str | None = None
        self.model = self._find(model)

    def _find(self, model: str | None) -> str:
        """The model's name, as the server knows it."""
        try:
            found = self.server.ask("/models")
        except EndpointError as error:
            if model is None or error.status not in (404, 405, 501):
                raise
            # Not every server lists its models.
            return model
        listed = found.get("data") if isinstance(found, dict) else None
        entries = [entry for entry in listed or [] if isinstance(entry, dict)]
        names = [entry["id"] for entry in entries if isinstance(entry.get("id"), str)]
        there = f"it has {', '.join(names[:20])}" if names else "it names none"
        if model is None:
            if len(names) != 1:
                raise EndpointError(f"{self.server.where}: say which model is meant: {there}")
            return names[0]
        # Ollama lists "llama3:latest" and takes "llama3".
        if names and model not in names and f"{model}:latest" not in names:
            raise EndpointError(f"{self.server.where}: it has no model {model!r}; {there}")
        return model

    def write(self, prompt: str | Sequence[Mapping[str, str]], *, about: str = "", **options: Any) -> str:
        """What the model writes after a whole prompt, or messages for the server's chat template.

        An `EndpointError` begins with what it is `about`; `options` are the request's: ``max_tokens``...
        """
        chat = not isinstance(prompt, str)
        body = {"model": self.model, "messages" if chat else "prompt": prompt, **options}
        with _about(about):
            answer = self.server.ask("/chat/completions" if chat else "/completions", body)
        with contextlib.suppress(ValidationError, IndexError):
            choice = _WrittenAnswer.model_validate(answer).choices[0]
            text = choice.text
            if chat and choice.message is not None:
                text = choice.message.content
                if text is None:
                    self.tell(
                        "some answers are empty: the model used all its tokens for something else, such as thinking"
                    )
                    return ""
            if text is not None:
                return text.strip()
        raise EndpointError(
            f"{self.server.where}: its answer holds no text, which an OpenAI-compatible one has in its choices: "
            f"{self.server.excerpt(answer)}"
        )

    def prompt_tokens(self, texts: Sequence[str], *, about: str = "") -> list[PromptTokens] | None:
        """The tokens of whole prompts with their log-probabilities; None if the server does not tell them.

        An `EndpointError`, as of a text that is too long, begins with what it is `about`.
        """
        # Of many threads one finds the way, so that a server is not probed once for each.
        with _about(about), contextlib.nullcontext() if self.way else self._finding:
            for way in [self.way] if self.way else _WAYS:
                found = _WAYS[way](self, texts)
                if found and all(found):
                    self.way = way
                    return found
        return None

    def tell(self, text: str) -> None:
        """Tells a user something, once."""
        if self._notify is not None and text not in self._told:
            self._told.add(text)
            self._notify(text)

    def _probed(self, texts: str | Sequence[str], **options: Any) -> list[_Choice]:
        """A choice for each text; none if the server does not take such a request."""
        body = {"model": self.model, "temperature": 0, "prompt": texts, **options}
        try:
            found = _Answer.model_validate(self.server.ask("/completions", body)).choices
        except ValidationError:
            return []
        except EndpointError as error:
            said = str(error).lower()
            too_long = any(words in said for words in ("context length", "too long", "too many tokens"))
            if too_long or error.status not in (400, 404, 405, 422, 501):
                raise
            return []
        if len(found) != (1 if isinstance(texts, str) else len(texts)):
            return []
        return sorted(found, key=lambda choice: choice.index or 0)

    def _by_prompt_logprobs(self, texts: Sequence[str]) -> list[PromptTokens]:
        """vLLM's own: a list with an entry for each token of the prompt."""
        found = []
        for choice in self._probed(list(texts), max_tokens=1, prompt_logprobs=0):
            tokens: PromptTokens = []
            for entry in choice.prompt_logprobs or []:
                # The prompt's own token comes first; others are there only if they were asked for.
                token, value = next(iter(entry.items())) if entry else (None, None)
                tokens.append((token, value.logprob if isinstance(value, _Rated) else value))
            found.append(tokens)
        return found

    def _by_echo(self, texts: Sequence[str]) -> list[PromptTokens]:
        """OpenAI's old way: the prompt is repeated as if it were written."""
        choices = self._probed(list(texts), max_tokens=0, echo=True, logprobs=1)
        return [choice.echoed(text) for choice, text in zip(choices, texts, strict=False)]

    def _by_longer_echo(self, texts: Sequence[str]) -> list[PromptTokens]:
        """The same of servers that must write a token: it is cut off again."""
        found = []
        for text in texts:
            choices = self._probed(text, max_tokens=1, echo=True, logprobs=1)
            tokens = choices[0].echoed(text) if choices else []
            if not tokens:
                return []
            found.append(tokens[:-1] if len(choices[0].text or "") > len(text) else tokens)
        return found


_WAYS: Mapping[str, Callable[[Endpoint, Sequence[str]], list[PromptTokens]]] = {
    "prompt_logprobs": Endpoint._by_prompt_logprobs,
    "echo": Endpoint._by_echo,
    "longer echo": Endpoint._by_longer_echo,
}


@contextlib.contextmanager
def _about(what: str) -> Iterator[None]:
    """Puts what a request was about in front of the message if it fails."""
    try:
        yield
    except EndpointError as error:
        raise EndpointError(f"{what}: {error}" if what else str(error), error.status) from None
