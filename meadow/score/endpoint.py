"""Asks a model behind an OpenAI-compatible endpoint the questions of an exam; see `meadow.models.endpoint`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

from meadow.models import prompts
from meadow.models.endpoint import Endpoint
from meadow.models.http import EndpointError, Server
from meadow.score.backend import Likelihood, Prompt, Rendered, Writing

__all__ = ["EndpointBackend", "EndpointError"]

_NOT_OFFERED = (
    "it does not tell the log-probabilities of a prompt's tokens, so likelihoods cannot be computed. vLLM offers them; "
    "llama.cpp and Ollama do not. Use --protocol generate, or score the model's folder itself with --model"
)


class EndpointBackend:
    """A model behind an endpoint.

    Args:
        url: Such as ``http://localhost:8000/v1``; ``/v1`` may be left away.
        model: What the server calls the model; None: the only one it has.
        template: How questions are put; None: by the server's own chat template.
        concurrency: Requests at once.
        notify: Called with what a user should know.
        options: Of `meadow.models.http.Server`: timeout, retries, key_variable, allow_public.

    Raises:
        EndpointError: The address cannot be used, nothing answers there, or the server has no such model.
    """

    name = "endpoint"
    doubts: Sequence[str] = ()

    def __init__(
        self,
        url: str,
        model: str | None = None,
        template: prompts.Template | None = None,
        *,
        concurrency: int = 8,
        notify: Callable[[str], None] | None = None,
        **options: Any,
    ) -> None:
        self.concurrency = concurrency
        self._server = Server(url, **options)
        self._endpoint = Endpoint(self._server, model, notify=notify)
        self.model = self._endpoint.model
        self.template = template
        self.no_loglikelihood = ""
        if template is None or template.kind == "chat":
            self.no_loglikelihood = (
                f"{self._server.where}: likelihoods need the whole prompt as a text, and a chat endpoint shows none: name the "
                "template that the model was trained with, such as --template alpaca, or use --protocol generate"
            )
        self.identity: Mapping[str, Any] = {
            "backend": self.name,
            "address": self._server.where,
            "model": self.model,
            "template": None if template is None else template.to_dict(),
        }
        self.described: Mapping[str, Any] = {
            "name": self.model,
            "backend": self.name,
            "endpoint": self._server.where,
            "template": "the server's own" if template is None else template.name,
        }

    def render(self, prompt: Prompt, room: int) -> Rendered:
        """How a prompt is sent; raises `EndpointError` where it cannot be put to this endpoint."""
        put = self._put(prompt)
        body = {"model": self.model, "prompt" if isinstance(put, str) else "messages": put}
        sent = json.dumps(body, sort_keys=True, ensure_ascii=False)
        return Rendered(hashlib.sha256(sent.encode("utf-8", "backslashreplace")).hexdigest(), len(sent))

    def loglikelihoods(
        self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]
    ) -> list[list[Likelihood]]:
        """As `Backend` says, one request for each prompt; raises `EndpointError` where the server offers none."""
        if self.no_loglikelihood:
            raise EndpointError(self.no_loglikelihood)
        return [self._likelihoods(*pair) for pair in zip(prompts, continuations, strict=True)]

    def generate(self, prompts: Sequence[Prompt], **how: Unpack[Writing]) -> list[str]:
        """As `Backend` says; raises `EndpointError` where the server does not answer, or with something else."""
        seeds = how.get("seed") or [None] * len(prompts)
        # Four texts that end an answer are the most that the interface allows.
        stop = [*how.get("stop", self.template.stop if self.template else ())][:4]
        given = {"top_k": how.get("top_k"), "top_p": how.get("top_p"), "stop": stop or None}
        always = {"max_tokens": how["max_new_tokens"], "temperature": how.get("temperature", 0.0)}
        found = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            more = {key: value for key, value in {**given, "seed": seed}.items() if value is not None}
            found.append(self._endpoint.write(self._put(prompt), about=_item(prompt), **always, **more))
        return found

    def close(self) -> None:
        """Breaks off what is under way, and lets no more be asked."""
        self._server.close()

    def _template(self, prompt: Prompt) -> prompts.Template | None:
        return prompts.get(prompt.template) if prompt.template else self.template

    def _put(self, prompt: Prompt) -> str | list[dict[str, str]]:
        """A prompt as a text, or as messages for the server's chat template."""
        template = self._template(prompt)
        if template is not None and template.kind != "chat":
            text = prompts.prompt_text(template, None, prompt.instruction, prompt.input)
            begun = template.answer_lead + prompt.answer_prefix if prompt.answer_prefix else ""
            return text + begun
        if prompt.answer_prefix:
            raise EndpointError("an answer cannot be begun for a model by its chat template")
        return prompts.messages(template or prompts.get("chat"), prompt.instruction, prompt.input)

    def _likelihoods(self, prompt: Prompt, continuations: Sequence[str]) -> list[Likelihood]:
        before, template = self._put(prompt), self._template(prompt)
        assert template is not None and isinstance(before, str)
        texts = [before, *(before + template.answer_lead + text for text in continuations)]
        tokens = self._endpoint.prompt_tokens(texts, about=_item(prompt))
        if tokens is None:
            raise self._not_offered(prompt)
        first, *others = tokens
        found = []
        for text, tokens in zip(continuations, others, strict=True):
            start = 0
            while start < min(len(first), len(tokens)) and first[start][0] == tokens[start][0]:
                start += 1
            if start < len(first):
                self._endpoint.tell(
                    "this model's tokenizer lets prompt and answer share a token; it is counted as the answer's"
                )
            values = [value for _, value in tokens[start:] if value is not None]
            if not values or len(values) < len(tokens) - start:
                raise self._not_offered(prompt)
            found.append(Likelihood(float(sum(values)), len(values), len(text)))
        return found

    def _not_offered(self, prompt: Prompt) -> EndpointError:
        return EndpointError(f"item {prompt.id}: {self._server.where}: {_NOT_OFFERED}")


def _item(prompt: Prompt) -> str:
    return f"item {prompt.id}" if prompt.id else ""
