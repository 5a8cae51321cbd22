"""How a model is asked: three protocols, and the loop that asks and writes down.

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
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from typing import Protocol as TypingProtocol

from meadow.score import parsing
from meadow.score.predictions import Predictions, ResumeError, ScoringError

if TYPE_CHECKING:
    from meadow.score.exams import Exam, Item

__all__ = [
    "COMPAT_INSTRUCTION", "COMPAT_PREFIX", "COMPAT_TRIES", "GENERATE_INSTRUCTION", "PROTOCOLS", "Backend", "Likelihood",
    "Prompt", "Protocol", "Rendered", "order_of", "run",
]  # fmt: skip

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


class Backend(TypingProtocol):
    """What is asked.

    Attributes:
        name: ``transformers`` or ``endpoint``.
        identity: What is asked, in plain JSON values. A run with another identity does not go on.
        supports_loglikelihood: Whether likelihoods can be asked for at all.
        concurrency: How many calls may go on at once, in threads; 1 where the backend makes batches itself.
    """

    name: str
    identity: Mapping[str, Any]
    supports_loglikelihood: bool
    concurrency: int

    def render(self, prompt: Prompt, room: int) -> Rendered:
        """How a prompt is sent if the answer may have `room` tokens."""
        ...

    def loglikelihoods(
        self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]
    ) -> list[list[Likelihood]]:
        """The likelihoods of each prompt's continuations."""
        ...

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | Sequence[int] | None = None,
        stop: Sequence[str] | None = None,
    ) -> list[str]:
        """What is written after each prompt. A temperature of 0 is greedy.

        Args:
            prompts: What is asked.
            max_new_tokens: The most tokens written.
            temperature: What logits are divided by before sampling.
            top_k: Sample from so many of the likeliest tokens.
            top_p: Sample from the likeliest tokens that together have this probability.
            seed: One for each prompt, or one for all. What is sampled for a prompt depends on its own alone.
            stop: Texts that end an answer; None: the template's.
        """
        ...


@dataclass(frozen=True)
class Protocol:
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


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            Protocol(
                "loglikelihood",
                1,
                "the option whose letter the model finds likeliest as the answer",
            ),
            Protocol(
                "generate",
                1,
                'greedy, without examples, in the form "Option: Answer"; unparsed answers count as wrong',
                max_new_tokens=GENERATE_TOKENS,
            ),
            Protocol(
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
class _Question:
    """An item in one order of its options."""

    item: Item
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


def order_of(item: Item, permutation: int, seed: int) -> tuple[str, ...]:
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


def _prompt(protocol: str, item: Item, shown: Mapping[str, str]) -> Prompt:
    if protocol == "medalpaca-compat":
        asked = f"{item.question}\n\n{item.context}" if item.context else item.question
        lines = [asked, *(f"{key}: {text}" for key, text in shown.items())]
        return Prompt(COMPAT_INSTRUCTION, "\n".join(lines), COMPAT_PREFIX, "medalpaca", item.id)
    instruction = GENERATE_INSTRUCTION if protocol == "generate" else item.instruction
    return Prompt(instruction, item.text(shown), id=item.id)


def run(
    protocol: str,
    exam: Exam,
    backend: Backend,
    predictions: Predictions,
    *,
    batch_size: int = 16,
    seed: int = 0,
    permute: int = 0,
    max_new_tokens: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Asks what was not asked yet, and writes each answer down as it comes.

    Long prompts go first: they need the most memory, and those alike in length are asked together.

    Args:
        protocol: A key of `PROTOCOLS`.
        exam: What is asked.
        backend: What is asked it.
        predictions: Where the answers go. What is there already is not asked again.
        batch_size: Questions asked together.
        seed: Of the orders of the options, and of what is sampled.
        permute: Ask each item so many times more, with its options shuffled.
        max_new_tokens: The most tokens of an answer; None: the protocol's.
        progress: Called with how many questions are answered, and of how many.

    Raises:
        ResumeError: What is there was asked in other words.
        ScoringError: The backend cannot go on. What was answered is kept.
    """
    if protocol not in PROTOCOLS:
        raise ScoringError(f"no protocol is named {protocol!r}; there are: {', '.join(PROTOCOLS)}")
    if protocol == "loglikelihood" and not backend.supports_loglikelihood:
        raise ScoringError(
            getattr(backend, "no_loglikelihood", "")
            or f"{backend.name} offers no likelihoods: use --protocol generate"
        )
    if max_new_tokens is None:
        max_new_tokens = PROTOCOLS[protocol].max_new_tokens
    questions, done = [], 0
    for item in exam.items:
        for permutation in range(permute + 1):
            order = order_of(item, permutation, seed)
            shown = dict(zip(item.options, (item.options[key] for key in order), strict=True))
            prompt = _prompt(protocol, item, shown)
            room = max_new_tokens if protocol != "loglikelihood" else max(map(len, item.options.values()))
            question = _Question(item, permutation, order, prompt, backend.render(prompt, room))
            there = predictions.get(item.id, permutation)
            if there is None:
                questions.append(question)
            elif there["prompt_sha256"] != question.rendered.sha256:
                raise ResumeError(
                    f"{predictions.path}: item {item.id} was asked in other words than it would be now; choose another "
                    "output, or remove that file to begin again"
                )
            else:
                done += 1
    questions.sort(key=lambda q: -q.rendered.length)
    size = 1 if backend.concurrency > 1 else max(1, batch_size)
    batches = [questions[i : i + size] for i in range(0, len(questions), size)]
    total = done + len(questions)
    if progress:
        progress(done, total)

    def ask(batch: Sequence[_Question]) -> list[dict[str, Any]]:
        return list(_ask(protocol, batch, backend, seed, max_new_tokens))

    for records in _results(ask, batches, backend.concurrency):
        predictions.write(records)
        done += len(records)
        if progress:
            progress(done, total)


def _results(
    ask: Callable[[Sequence[_Question]], list[dict[str, Any]]],
    batches: Sequence[Sequence[_Question]],
    threads: int,
) -> Iterator[list[dict[str, Any]]]:
    """The answers to each batch as they come, a few batches at once."""
    if threads <= 1:
        yield from map(ask, batches)
        return
    left = iter(batches)
    stopped = threading.Event()

    def unless_stopped(batch: Sequence[_Question]) -> list[dict[str, Any]] | None:
        return None if stopped.is_set() else ask(batch)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="meadow-ask")
    going: set[Future] = set()
    failure: BaseException | None = None
    try:
        while True:
            while failure is None and len(going) < threads and (batch := next(left, None)) is not None:
                going.add(pool.submit(unless_stopped, batch))
            if not going:
                break
            finished, going = wait(going, return_when=FIRST_COMPLETED)
            for future in finished:
                error = future.exception()
                if error is not None:
                    # Answers that are under way are waited for: they were asked for and may have been paid for.
                    failure = failure or error
                    stopped.set()
                elif (records := future.result()) is not None:
                    yield records
        if failure is not None:
            raise failure
    finally:
        stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _ask(
    protocol: str, batch: Sequence[_Question], backend: Backend, seed: int, max_new_tokens: int
) -> Iterator[dict[str, Any]]:
    prompts = [question.prompt for question in batch]
    if protocol == "loglikelihood":
        yield from _likelihoods(batch, prompts, backend)
    elif protocol == "generate":
        for question, raw in zip(
            batch, backend.generate(prompts, max_new_tokens=max_new_tokens), strict=True
        ):
            found = parsing.parse(raw, question.shown)
            yield _record(question, raw, question.key_of(found.key), found.how)
    else:
        yield from _as_published(batch, backend, seed, max_new_tokens)


def _record(
    question: _Question, raw: str | None, parsed: str | None, how: str, **more: Any
) -> dict[str, Any]:
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


def _likelihoods(
    batch: Sequence[_Question], prompts: Sequence[Prompt], backend: Backend
) -> Iterator[dict[str, Any]]:
    # The letters first, then the texts, both as they are shown.
    asked = [[*question.shown, *question.shown.values()] for question in batch]
    for question, found in zip(batch, backend.loglikelihoods(prompts, asked), strict=True):
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
    batch: Sequence[_Question], backend: Backend, seed: int, max_new_tokens: int
) -> Iterator[dict[str, Any]]:
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


def _seed(seed: int, question: _Question, attempt: int) -> int:
    """A seed of its own for each try, which no batch and no resumption changes."""
    what = f"{seed}\0{question.item.id}\0{question.permutation}\0{attempt}".encode()
    # Servers take 31 bits.
    return int.from_bytes(hashlib.sha256(what).digest()[:4], "big") >> 1
