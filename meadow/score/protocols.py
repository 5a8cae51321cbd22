"""How a model is asked: three protocols.

``loglikelihood``
    The model is shown the question and its options, and how likely it finds each option's letter as the answer, and each
    option's text, is computed; nothing is sampled, so the same model gives the same score. The letter decides.
``generate``
    The model writes an answer, greedily and without examples, in the form "Option: Answer" that the MedAlpaca paper
    demands; `meadow.score.parsing` reads it.
``medalpaca-compat``
    What the script published with MedAlpaca does (``eval/eval_usmle.py``), for comparison only. Its prompt, its sampling
    and its pattern are kept with their defects, which `Protocol.notes` lists.
"""

from __future__ import annotations

import hashlib
import random
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from meadow.score import parsing
from meadow.score.backend import Backend, Prompt, Rendered
from meadow.score.exams import ExamItem
from meadow.score.predictions import ScoringError

__all__ = [
    "COMPAT_INSTRUCTION", "COMPAT_PREFIX", "COMPAT_TRIES", "GENERATE_INSTRUCTION", "PROTOCOLS", "Line", "Question",
    "ScoringProtocol", "answers", "order_of", "put",
]  # fmt: skip

#: A line of ``predictions.jsonl``; `meadow.score.predictions` says what is in it.
Line = dict[str, Any]

#: Asks for the form of answer of the MedAlpaca paper, "Option: Answer". No letter is given as an example: models repeat it.
GENERATE_INSTRUCTION = (
    'Please answer with one of the options, in the form "Option: Answer": its letter, a colon, and its text.'
)
#: Room for a letter and an option of some sixty words.
GENERATE_TOKENS = 96
# medAlpaca, eval/eval_usmle.py: the instruction, the first words put into the model's mouth, the sampling and the pattern.
COMPAT_INSTRUCTION = "Answer this multiple choice question."
COMPAT_PREFIX = "The Answer to the question is:"
COMPAT_TRIES = 5
COMPAT_TOKENS = 128
_COMPAT_SAMPLING: Mapping[str, Any] = MappingProxyType({"temperature": 0.4, "top_k": 50, "top_p": 0.9})
_COMPAT_PATTERN = re.compile(r"^[A-Z](:|\.|) .+")
_ALPHANUMERIC = string.ascii_letters + string.digits


@dataclass(frozen=True)
class ScoringProtocol:
    """One way to ask.

    Attributes:
        name: What it is called by.
        version: Raised when the same model would be asked, or its answers read, in another way.
        title: One line on it.
        notes: What a reader of its numbers must know, a sentence each.
        max_new_tokens: The most tokens that may be written; 0 where nothing is.
    """

    name: str
    version: int
    title: str
    notes: tuple[str, ...] = ()
    max_new_tokens: int = 0


PROTOCOLS: Mapping[str, ScoringProtocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            ScoringProtocol(
                "loglikelihood",
                1,
                "the option whose letter the model finds likeliest as the answer",
            ),
            ScoringProtocol(
                "generate",
                1,
                'greedy, without examples, in the form "Option: Answer"; unparsed answers count as wrong',
                max_new_tokens=GENERATE_TOKENS,
            ),
            ScoringProtocol(
                "medalpaca-compat",
                1,
                "as the script published with MedAlpaca asks (eval/eval_usmle.py), for comparison only",
                (
                    "medalpaca-compat repeats the published script with its defects; compare it with nothing but itself "
                    "and the published table.",
                    "Defect: answers are sampled (temperature 0.4, top_k 50, top_p 0.9) where one likeliest answer is "
                    "wanted, so a score changes from run to run. The published script set no seed; here each try has "
                    "its own.",
                    "Defect: up to five tries, until an answer fits a pattern: models that write badly get more "
                    "chances. The last try counts even if it fits no better.",
                    "Defect: the pattern ^[A-Z](:|\\.|) .+ takes any sentence that begins with a word of one capital "
                    'letter for an answer ("A 45-year-old man"), letters that are no option, and refuses "B" alone, "(B) x" and '
                    '"B) x".',
                    'Defect: the published prompt puts words into the model\'s mouth ("The Answer to the question is:") '
                    "with which no answer in its training data begins.",
                    "The published repository has no code that turns these answers into accuracies; here the first letter "
                    "counts where the pattern fits, and all else is unparsed.",
                    "Not repeated: prompts cut at 512 tokens, half precision, and a torch generator shared by all questions.",
                ),
                COMPAT_TOKENS,
            ),
        )
    }
)


@dataclass(frozen=True)
class Question:
    """An item in one order of its options."""

    item: ExamItem
    permutation: int
    order: tuple[str, ...]
    prompt: Prompt = field(repr=False)
    rendered: Rendered = field(repr=False)

    @property
    def shown(self) -> dict[str, str]:
        """The options' texts by the letter they are shown with."""
        return {
            letter: self.item.options[key] for letter, key in zip(self.item.options, self.order, strict=True)
        }

    def key_of(self, letter: str | None) -> str | None:
        """The exam's letter of the option that is shown with a letter."""
        if letter is None or letter not in self.item.options:
            return None
        return self.order[list(self.item.options).index(letter)]


def order_of(item: ExamItem, permutation: int, seed: int) -> tuple[str, ...]:
    """The exam's letters of the options as they are shown from A on.

    Order 0 is the exam's own. The others are drawn at random, all different as long as there are enough, and do not
    depend on how many are asked for.

    Args:
        item: The item.
        permutation: Which order.
        seed: The same seed gives the same orders.
    """
    keys = tuple(item.options)
    rng = random.Random(f"{seed}\0{item.id}")
    seen = {keys}
    order = keys
    for _ in range(permutation):
        for _ in range(1000):
            order = tuple(rng.sample(keys, len(keys)))
            if order not in seen:
                break
        else:
            # All orders were had.
            seen = {keys}
            order = tuple(rng.sample(keys, len(keys)))
        seen.add(order)
    return order


def _prompt(protocol: str, item: ExamItem, shown: Mapping[str, str]) -> Prompt:
    if protocol == "medalpaca-compat":
        asked = f"{item.question}\n\n{item.context}" if item.context else item.question
        lines = [asked, *(f"{key}: {text}" for key, text in shown.items())]
        return Prompt(COMPAT_INSTRUCTION, "\n".join(lines), COMPAT_PREFIX, "medalpaca", item.id)
    instruction = GENERATE_INSTRUCTION if protocol == "generate" else item.instruction
    return Prompt(instruction, item.text(shown), id=item.id)


def put(
    protocol: str, item: ExamItem, permutation: int, backend: Backend, *, seed: int, max_new_tokens: int
) -> Question:
    """An item as a protocol puts it to a model.

    Args:
        protocol: A key of `PROTOCOLS`.
        item: The item.
        permutation: Which order its options have.
        backend: What is asked.
        seed: Of the orders.
        max_new_tokens: The most tokens of an answer.
    """
    order = order_of(item, permutation, seed)
    shown = dict(zip(item.options, (item.options[key] for key in order), strict=True))
    prompt = _prompt(protocol, item, shown)
    room = max(map(len, item.options.values())) if protocol == "loglikelihood" else max_new_tokens
    return Question(item, permutation, order, prompt, backend.render(prompt, room))


def answers(
    protocol: str, batch: Sequence[Question], backend: Backend, *, seed: int, max_new_tokens: int
) -> Iterator[Line]:
    """Asks questions together, and reads the answers.

    Args:
        protocol: A key of `PROTOCOLS`.
        batch: What is asked.
        backend: What is asked it.
        seed: Of what is sampled.
        max_new_tokens: The most tokens of an answer.

    Raises:
        ScoringError: The model gives no numbers.
    """
    if protocol == "loglikelihood":
        yield from _likelihoods(batch, backend)
    elif protocol == "generate":
        written = backend.generate([question.prompt for question in batch], max_new_tokens=max_new_tokens)
        for question, raw in zip(batch, written, strict=True):
            found = parsing.parse(raw, question.shown)
            yield _record(question, raw, question.key_of(found.key), found.how)
    else:
        yield from _as_published(batch, backend, seed, max_new_tokens)


def _record(question: Question, raw: str | None, parsed: str | None, how: str, **more: Any) -> Line:
    item = question.item
    return {
        "id": item.id,
        "part": item.part,
        "permutation": question.permutation,
        "order": "".join(question.order),
        "prompt_sha256": question.rendered.sha256,
        **({"cut": True} if question.rendered.cut else {}),
        "raw": raw,
        "parsed": parsed,
        "how": how,
        "answer": item.answer_key,
        "correct": parsed == item.answer_key,
        **more,
    }


def _likelihoods(batch: Sequence[Question], backend: Backend) -> Iterator[Line]:
    # The letters first, then the texts, both as they are shown.
    asked = [[*question.shown, *question.shown.values()] for question in batch]
    found_all = backend.loglikelihoods([question.prompt for question in batch], asked)
    for question, found in zip(batch, found_all, strict=True):
        half = len(question.order)
        letters = dict(zip(question.order, found[:half], strict=True))
        texts = dict(zip(question.order, found[half:], strict=True))
        if any(value.sum != value.sum for value in found):
            raise ScoringError(
                f"item {question.item.id}: the model gives no number (NaN) for its likelihood; its weights are damaged, "
                "or overflow in this number type: try --dtype bfloat16 or float32"
            )
        # The first of equal ones in the order shown, as lm-evaluation-harness has it.
        choices = {
            "letter": max(letters, key=lambda key: letters[key].sum),
            "text": max(texts, key=lambda key: texts[key].sum),
            "text_norm": max(texts, key=lambda key: texts[key].sum / max(1, texts[key].characters)),
        }
        plain = {
            name: {
                key: {"sum": _finite(value.sum), "tokens": value.tokens, "characters": value.characters}
                for key, value in sorted(values.items())
            }
            for name, values in (("letter", letters), ("text", texts))
        }
        yield _record(question, None, choices["letter"], "likelihood", likelihoods=plain, choices=choices)


def _finite(value: float) -> float | None:
    """JSON has no word for minus infinity, which a token that a model rules out has."""
    return None if value in (float("inf"), float("-inf")) else value


def _as_published(
    batch: Sequence[Question], backend: Backend, seed: int, max_new_tokens: int
) -> Iterator[Line]:
    found: dict[int, tuple[str, str, int]] = {}
    left = list(range(len(batch)))
    for attempt in range(1, COMPAT_TRIES + 1):
        seeds = [_seed(seed, batch[place], attempt) for place in left]
        raws = backend.generate(
            [batch[place].prompt for place in left],
            max_new_tokens=max_new_tokens,
            seed=seeds,
            stop=(),
            **_COMPAT_SAMPLING,
        )
        for place, raw in zip(left, raws, strict=True):
            found[place] = (raw, _stripped(raw.strip()), attempt)
        left = [place for place in left if not _COMPAT_PATTERN.match(found[place][1])]
        if not left:
            break
    for place, question in enumerate(batch):
        raw, response, tries = found[place]
        parsed, how = None, "unmatched"
        if _COMPAT_PATTERN.match(response):
            parsed = question.key_of(response[0])
            how = "matched" if parsed else "no option"
        yield _record(question, raw, parsed, how, tries=tries)


def _stripped(text: str) -> str:
    """A text without what is no ASCII letter or digit at its ends."""
    start, end = 0, len(text)
    while start < end and text[start] not in _ALPHANUMERIC:
        start += 1
    while end > start and text[end - 1] not in _ALPHANUMERIC:
        end -= 1
    return text[start:end]


def _seed(seed: int, question: Question, attempt: int) -> int:
    """A seed of its own for each try, which no batch and no resumption changes."""
    what = f"{seed}\0{question.item.id}\0{question.permutation}\0{attempt}".encode()
    # Servers take 31 bits.
    return int.from_bytes(hashlib.sha256(what).digest()[:4], "big") >> 1
