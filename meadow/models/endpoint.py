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

from meadow.models.http import EndpointError, Server

__all__ = ["Endpoint", "PromptTokens"]

#: The tokens of a prompt, each with its log-probability; that of the first is None.
PromptTokens = list[tuple[Any, float | None]]


class Endpoint:
    """A model behind a server.

    Args:
        server: The server.
        model: What it calls the model; None: the only one it has.
        notify: Called with what a user should know, once for each text.

    Attributes:
        model: What the server calls it.
        way: How it tells the log-probabilities of a prompt; None before that is known.

    Raises:
        EndpointError: Nothing answers, or the server has no such model.
    """

    def __init__(
        self, server: Server, model: str | None = None, *, notify: Callable[[str], None] | None = None
    ) -> None:
        self.server = server
        self._notify = notify or (lambda text: None)
        self._told: set[str] = set()
        self._guard, self._finding = threading.Lock(), threading.Lock()
        self.way: str | None = None
        self.model = self._find(model)

    def _find(self, model: str | None) -> str:
        """The model's name, as the server knows it."""
        answer = self.server.exchange("/models", None)
        if answer.status in (404, 405, 501) and model is not None:
            # Not every server lists its models.
            return model
        found = self.server.parsed("/models", answer)
        listed = found.get("data") if isinstance(found, dict) else None
        names = [
            entry["id"]
            for entry in (listed if isinstance(listed, list) else [])
            if isinstance(entry, dict) and isinstance(entry.get("id"), str)
        ]
        if model is None:
            if len(names) != 1:
                there = f"it has {', '.join(names[:20])}" if names else "it names none"
                raise EndpointError(f"{self.server.where}: say which model is meant: {there}")
            return names[0]
        # Ollama lists "llama3:latest" and takes "llama3".
        if names and model not in names and f"{model}:latest" not in names:
            raise EndpointError(
                f"{self.server.where}: it has no model {model!r}; it has {', '.join(names[:20])}"
            )
        return model

    def write(self, prompt: str | Sequence[Mapping[str, str]], *, about: str = "", **options: Any) -> str:
        """What the model writes after a prompt.

        Args:
            prompt: A whole prompt, or messages that the server puts its chat template around.
            about: What a message says it is about, such as an item.
            options: Of the request: ``max_tokens``, ``temperature``, ``seed``, ``stop``...

        Raises:
            EndpointError: The server does not answer, or with something else.
        """
        chat = not isinstance(prompt, str)
        path = "/chat/completions" if chat else "/completions"
        body = {"model": self.model, "messages" if chat else "prompt": prompt, **options}
        with _about(about):
            answer = self.server.ask(path, body)
        choice = self._choices(answer)[0]
        text = choice.get("message", {}).get("content") if chat else choice.get("text")
        if text is None and chat and isinstance(choice.get("message"), dict):
            # A model that thinks first and ran out of tokens has written no answer.
            self.tell(
                "some answers are empty: the model used all its tokens for something else, such as thinking"
            )
            text = ""
        if not isinstance(text, str):
            raise EndpointError(
                f"{self.server.where}: its answer holds no text: {self.server.excerpt(answer)}"
            )
        return text.strip()

    def prompt_tokens(self, texts: Sequence[str], *, about: str = "") -> list[PromptTokens] | None:
        """The tokens of each text with their log-probabilities; None from a server that does not tell them.

        Args:
            texts: Whole prompts.
            about: What a message says it is about, such as an item.

        Raises:
            EndpointError: The server does not answer, or a text is too long.
        """
        with _about(about):
            if self.way is None:
                with self._finding:
                    if self.way is None:
                        return self._find_way(texts)
            return _WAYS[self.way](self, texts)

    def _find_way(self, texts: Sequence[str]) -> list[PromptTokens] | None:
        for name, way in _WAYS.items():
            found = way(self, texts)
            if found is not None:
                self.way = name
                return found
        return None

    def tell(self, text: str) -> None:
        """Tells a user something, once."""
        with self._guard:
            new = text not in self._told
            self._told.add(text)
        if new:
            self._notify(text)

    def _choices(self, answer: Any) -> list[dict[str, Any]]:
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or not choices or not all(isinstance(c, dict) for c in choices):
            raise EndpointError(
                f"{self.server.where}: its answer has no choices, as an OpenAI-compatible one would: {self.server.excerpt(answer)}"
            )
        if all(isinstance(choice.get("index"), int) for choice in choices):
            return sorted(choices, key=lambda choice: choice["index"])
        return choices

    def _probed(self, body: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        """The choices of an answer; None if the server does not take such a request."""
        body = {"model": self.model, "temperature": 0, **body}
        answer = self.server.exchange("/completions", body)
        if answer.status in (400, 404, 405, 422, 501):
            said = self.server.excerpt(answer.data).lower()
            if "context length" in said or "too long" in said or "too many tokens" in said:
                raise EndpointError(f"{self.server.where}: it is too long for the model: {said}")
            return None
        found = self.server.parsed("/completions", answer)
        return self._choices(found) if isinstance(found, dict) and found.get("choices") else None

    def _by_prompt_logprobs(self, texts: Sequence[str]) -> list[PromptTokens] | None:
        """vLLM's own: a list with an entry for each token of the prompt."""
        body = {"prompt": list(texts), "max_tokens": 1, "prompt_logprobs": 0}
        choices = self._probed(body)
        if choices is None or len(choices) != len(texts):
            return None
        found = []
        for choice in choices:
            entries = choice.get("prompt_logprobs")
            if not isinstance(entries, list) or not entries:
                return None
            tokens: PromptTokens = []
            for number, entry in enumerate(entries):
                if entry is None and not number:
                    tokens.append((None, None))
                elif isinstance(entry, dict) and entry:
                    # The prompt's own token comes first; others are there only if they were asked for.
                    token, value = next(iter(entry.items()))
                    tokens.append(
                        (token, _number(value.get("logprob") if isinstance(value, dict) else value))
                    )
                else:
                    return None
            found.append(tokens)
        return found

    def _by_echo(self, texts: Sequence[str]) -> list[PromptTokens] | None:
        """OpenAI's old way: the prompt is repeated as if it were written."""
        choices = self._probed({"prompt": list(texts), "max_tokens": 0, "echo": True, "logprobs": 1})
        if choices is None or len(choices) != len(texts):
            return None
        found = [_echoed(choice, text) for choice, text in zip(choices, texts, strict=True)]
        return None if any(tokens is None for tokens in found) else [tokens for tokens in found if tokens]

    def _by_longer_echo(self, texts: Sequence[str]) -> list[PromptTokens] | None:
        """The same of servers that must write a token: it is cut off again."""
        found = []
        for text in texts:
            choices = self._probed({"prompt": text, "max_tokens": 1, "echo": True, "logprobs": 1})
            tokens = _echoed(choices[0], text) if choices else None
            if not tokens:
                return None
            written = len(choices[0]["text"]) > len(text) if choices else False
            found.append(tokens[:-1] if written else tokens)
        return found


_WAYS: Mapping[str, Callable[..., Any]] = {
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
        raise EndpointError(f"{what}: {error}" if what else str(error)) from None


def _echoed(choice: Mapping[str, Any], text: str) -> PromptTokens | None:
    """The tokens of a prompt that was repeated; None if it was not."""
    logprobs, said = choice.get("logprobs"), choice.get("text")
    if not isinstance(logprobs, dict) or not isinstance(said, str) or not said.startswith(text):
        return None
    tokens, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list) or len(tokens) != len(values):
        return None
    return [(token, _number(value)) for token, value in zip(tokens, values, strict=True)]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
