"""What a model is asked, what it answers, and what can be asked: a folder's model, or one behind an endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Required, TypedDict, Unpack

__all__ = ["Backend", "Likelihood", "Prompt", "Rendered", "Writing"]


@dataclass(frozen=True)
class Prompt:
    """What a model is asked.

    Attributes:
        instruction: What to do.
        input: What to do it with.
        answer_prefix: The answer's first words, put into the model's mouth.
        template: The name of the template to ask with; empty: the backend's own.
        id: The item's, for messages.
    """

    instruction: str
    input: str
    answer_prefix: str = ""
    template: str = ""
    id: str = ""


@dataclass(frozen=True)
class Likelihood:
    """How likely a model finds a text after a prompt.

    Attributes:
        sum: The sum of its tokens' log-probabilities, in nats.
        tokens: How many tokens it has.
        characters: How many characters.
    """

    sum: float
    tokens: int
    characters: int


@dataclass(frozen=True)
class Rendered:
    """A prompt as it is sent.

    Attributes:
        sha256: Over all that is sent.
        length: Its tokens, or its characters where tokens are not known; to put alike together.
        cut: It was too long, and its middle is missing.
    """

    sha256: str
    length: int
    cut: bool = False


class Writing(TypedDict, total=False):
    """How an answer is written.

    Attributes:
        max_new_tokens: The most tokens written.
        temperature: What logits are divided by before sampling; 0, as without it: greedy.
        top_k: Sample from so many of the likeliest tokens.
        top_p: Sample from the likeliest tokens that together have this probability.
        seed: One for each prompt. What is sampled for a prompt depends on its own alone.
        stop: Texts that end an answer; without it the template's.
    """

    max_new_tokens: Required[int]
    temperature: float
    top_k: int
    top_p: float
    seed: Sequence[int]
    stop: Sequence[str]


class Backend(Protocol):
    """What is asked.

    Attributes:
        name: ``transformers`` or ``endpoint``.
        identity: What is asked, in plain JSON values. A run with another identity does not go on.
        described: The same in words for a report.
        doubts: What a reader of its scores should know from the start, a sentence each.
        no_loglikelihood: Why likelihoods cannot be asked for, and what to do; empty where they can.
        concurrency: How many calls may go on at once, in threads; 1 where the backend makes batches itself.
    """

    name: str
    identity: Mapping[str, Any]
    described: Mapping[str, Any]
    doubts: Sequence[str]
    no_loglikelihood: str
    concurrency: int

    def render(self, prompt: Prompt, room: int) -> Rendered:
        """How a prompt is sent if the answer may have `room` tokens."""
        ...

    def loglikelihoods(
        self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]
    ) -> list[list[Likelihood]]:
        """The likelihoods of each prompt's continuations."""
        ...

    def generate(self, prompts: Sequence[Prompt], **how: Unpack[Writing]) -> list[str]:
        """What is written after each prompt."""
        ...

    def close(self) -> None:
        """Lets the model go; no more can be asked."""
        ...
