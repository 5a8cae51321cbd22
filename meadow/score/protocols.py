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
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from meadow.score import parsing
from meadow.score.backend import Backend, Likelihood, Prompt, Rendered, Writing
from meadow.score.items import ExamItem
from meadow.score.predictions import ScoringError

__all__ = ["PROTOCOLS", "Line", "Question", "ScoringProtocol", "answers", "order_of", "put"]

#: A line of ``predictions.jsonl``; `meadow.score.predictions` says what is in it.
Line = dict[str, Any]

#: Asks for the form of answer of the MedAlpaca paper, "Option: Answer". No letter is given as an example: models repeat it.
GENERATE_INSTRUCTION = (
    'Please answer with one of the options, in the form "Option: Answer": its letter, a colon, and its text.'
)
# medAlpaca, eval/eval_usmle.py: the instruction, the first words put into the model's mouth, the sampling, the pattern and
# what is taken off both ends of an answer.
COMPAT_INSTRUCTION = "Answer this multiple choice question."
COMPAT_PREFIX = "The Answer to the question is:"
COMPAT_TRIES = 5
_COMPAT_SAMPLING: Writing = {"max_new_tokens": 128, "temperature": 0.4, "top_k": 50, "top_p": 0.9, "stop": ()}
_COMPAT_PATTERN = re.compile(r"^[A-Z](:|\.|) .+")
_COMPAT_KEPT = re.compile(r"[A-Za-z0-9](?:.*[A-Za-z0-9])?", re.DOTALL)


@dataclass(frozen=True)
class ScoringProtocol:
    """One way to ask.

    Attributes:
        name: What it is called by.
        version: Raised when the same model would be asked, or its answers read, in another way.
        notes: What a reader of its numbers must know, a sentence each.
        max_new_tokens: The most tokens that may be written, room for a letter and an option of some sixty words; 0 where
            nothing is.
    """

    name: str
    version: int
    notes: Sequence[str]
    max_new_tokens: int


_FOUND = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
PROTOCOLS: Mapping[str, ScoringProtocol] = {
    name: ScoringProtocol(name, **more) for name, more in _FOUND.items()
}
GENERATE_TOKENS = PROTOCOLS["generate"].max_new_tokens


@dataclass(frozen=True)
class Question:
    """An item in one order of its options: the exam's letters (`keys`) and the texts by the letters `shown`."""

    item: ExamItem
    permutation: int
    keys: Mapping[str, str]
    shown: Mapping[str, str]
    prompt: Prompt
    rendered: Rendered


def order_of(item: ExamItem, permutation: int, seed: int) -> tuple[str, ...]:
    """The exam's letters of the options as they are shown from A on.

    Order 0 is the exam's own. The others are drawn at random by the seed, all different as long as there are enough,
    and do not depend on how many are asked for.
    """
    order = keys = tuple(item.options)
    rng = random.Random(f"{seed}\0{item.id}")
    seen = {keys}
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


def put(
    protocol: str, item: ExamItem, permutation: int, backend: Backend, *, seed: int, max_new_tokens: int
) -> Question:
    """An item as a protocol puts it to a model; `seed` is of the orders."""
    keys = dict(zip(item.options, order_of(item, permutation, seed), strict=True))
    shown = {letter: item.options[key] for letter, key in keys.items()}
    if protocol == "medalpaca-compat":
        # Options follow the question without an empty line.
        lines = [item.asked, *(f"{letter}: {text}" for letter, text in shown.items())]
        prompt = Prompt(COMPAT_INSTRUCTION, "\n".join(lines), COMPAT_PREFIX, "medalpaca", item.id)
    else:
        instruction = GENERATE_INSTRUCTION if protocol == "generate" else item.instruction
        prompt = Prompt(instruction, item.text(shown), id=item.id)
    room = max(map(len, item.options.values())) if protocol == "loglikelihood" else max_new_tokens
    return Question(item, permutation, keys, shown, prompt, backend.render(prompt, room))


def answers(
    protocol: str, batch: Sequence[Question], backend: Backend, *, seed: int, max_new_tokens: int
) -> Iterator[Line]:
    """Asks questions together, and reads the answers; `seed` is of what is sampled.

    Raises:
        ScoringError: The model gives no numbers.
    """
    if protocol == "loglikelihood":
        yield from _likelihoods(batch, backend)
    elif protocol == "generate":
        written = backend.generate([question.prompt for question in batch], max_new_tokens=max_new_tokens)
        for question, raw in zip(batch, written, strict=True):
            found = parsing.parse(raw, question.shown)
            yield _record(question, raw, question.keys.get(found.key or ""), found.how)
    else:
        yield from _as_published(batch, backend, seed, max_new_tokens)


def _record(question: Question, raw: str | None, parsed: str | None, how: str, **more: Any) -> Line:
    item = question.item
    return {
        "id": item.id,
        "part": item.part,
        "permutation": question.permutation,
        "order": "".join(question.keys.values()),
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
        if any(math.isnan(value.sum) for value in found):
            raise ScoringError(
                f"item {question.item.id}: the model gives no number (NaN) for its likelihood; its weights are damaged, "
                "or overflow in this number type: try --dtype bfloat16 or float32"
            )
        keys, half = question.keys.values(), len(question.keys)
        letters = dict(zip(keys, found[:half], strict=True))
        texts = dict(zip(keys, found[half:], strict=True))
        # The first of equal ones in the order shown, as lm-evaluation-harness has it.
        choices = {
            "letter": max(letters, key=lambda key: letters[key].sum),
            "text": max(texts, key=lambda key: texts[key].sum),
            "text_norm": max(texts, key=lambda key: texts[key].sum / max(1, texts[key].characters)),
        }
        plain = {"letter": _plain(letters), "text": _plain(texts)}
        yield _record(question, None, choices["letter"], "likelihood", likelihoods=plain, choices=choices)


def _plain(values: Mapping[str, Likelihood]) -> dict[str, Any]:
    # JSON has no word for minus infinity, which a token that a model rules out has.
    return {
        key: {**asdict(value), "sum": value.sum if math.isfinite(value.sum) else None}
        for key, value in sorted(values.items())
    }


def _as_published(
    batch: Sequence[Question], backend: Backend, seed: int, max_new_tokens: int
) -> Iterator[Line]:
    how: Writing = {**_COMPAT_SAMPLING, "max_new_tokens": max_new_tokens}
    found: dict[int, Line] = {}
    for attempt in range(1, COMPAT_TRIES + 1):
        left = [n for n in range(len(batch)) if n not in found or found[n]["how"] == "unmatched"]
        if not left:
            break
        seeds = [_seed(seed, batch[place], attempt) for place in left]
        raws = backend.generate([batch[place].prompt for place in left], **{**how, "seed": seeds})
        for place, raw in zip(left, raws, strict=True):
            kept = _COMPAT_KEPT.search(raw)
            matched = _COMPAT_PATTERN.match(kept[0] if kept else "")
            parsed = batch[place].keys.get(matched[0][0]) if matched else None
            read = "matched" if parsed else "no option" if matched else "unmatched"
            found[place] = _record(batch[place], raw, parsed, read, tries=attempt)
    yield from (found[place] for place in range(len(batch)))


def _seed(seed: int, question: Question, attempt: int) -> int:
    """A seed of its own for each try, which no batch and no resumption changes."""
    what = f"{seed}\0{question.item.id}\0{question.permutation}\0{attempt}".encode()
    # Servers take 31 bits.
    return int.from_bytes(hashlib.sha256(what).digest()[:4], "big") >> 1
