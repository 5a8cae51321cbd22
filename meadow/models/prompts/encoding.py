"""Rows to train on and prompts to ask with, cut where they are longer than a model may read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meadow.core.errors import Error
from meadow.models.prompts.rendering import PromptFrame, frame
from meadow.models.prompts.templates import Template

#: The label of a token that is not trained on; what torch's cross entropy ignores by default.
IGNORED = -100
#: The least share of an answer's tokens that must stay when it is cut. Below a half, most of what the row
#: teaches would be gone; the published training cut at 256 tokens whatever was left.
ANSWER_KEPT = 0.5
#: The least share of an input's characters that must stay. A question of which less is left is another one.
INPUT_KEPT = 0.25
#: What stands where the middle of an input was: the model can see that something is missing.
CUT = " [...] "
#: Characters within which the best place to cut is looked for: about one token of English.
_NEAR = 4


class Refused(Error):  # noqa: N818 - it is a verdict on a row, not a fault of the program
    """A row that nothing should be trained on, or a prompt that does not fit.

    Attributes:
        reason: Short and constant, for counting.
        detail: The particulars of this row.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Encoded:
    """A row to train on; `labels` are `input_ids` with `IGNORED` where nothing is trained."""

    input_ids: list[int]
    labels: list[int]
    truncated: bool


def encode(
    template: Template,
    tokenizer: Any,
    row: Mapping[str, Any],
    *,
    max_length: int | None,
    train_on_inputs: bool = False,
) -> Encoded:
    """Renders a row to train on.

    Args:
        template: How it is put.
        tokenizer: Of transformers.
        row: With ``instruction``, ``input`` and ``output``; missing or None is empty. White space around
            each is left away. A row without an instruction has its input as one.
        max_length: The most tokens; None: any number. See the package for what is cut.
        train_on_inputs: Train on the prompt too, not only on the answer.

    Raises:
        Refused: Nothing of it should be trained on.
        PromptError: The template cannot be used with this tokenizer.
    """
    instruction, given, answer = (_words(key, row.get(key)) for key in ("instruction", "input", "output"))
    if not answer:
        raise Refused("empty answer")
    put = frame(template, tokenizer)
    answered = put.follow(answer)
    if not answered:
        raise Refused("no token in the answer", f"the tokenizer makes none of {answer[:40]!r}")
    room = None if max_length is None else max_length - len(answered) - len(put.end)
    prompt, cut = _fitted(put, *_asked(instruction, given), room, exact=False)
    left = len(answered) if max_length is None else max_length - len(prompt)
    end = put.end
    if max_length is not None and left < len(answered) + len(put.end):
        detail = f"the prompt takes {len(prompt)} of {max_length} tokens, the answer has {len(answered)}"
        if left < 1:
            raise Refused("prompt is too long", detail)
        if left < ANSWER_KEPT * len(answered):
            raise Refused("answer would be cut to less than half", detail)
        cut, end, answered = True, [], answered[:left]
    ids = [*prompt, *answered, *end]
    # The first token is predicted from nothing: trainers shift labels by one, so its label is never used.
    masked = 0 if train_on_inputs else len(prompt)
    return Encoded(ids, [IGNORED] * masked + ids[masked:], cut)


def prompt_ids(
    template: Template,
    tokenizer: Any,
    instruction: str,
    input: str = "",  # noqa: A002
    *,
    answer_prefix: str = "",
    max_length: int | None = None,
) -> list[int]:
    """The tokens to ask with: those a row of `encode` begins with.

    Args:
        template: How it is put.
        tokenizer: Of transformers.
        instruction: What is asked.
        input: What it is asked of.
        answer_prefix: The answer's first words, put into the model's mouth.
        max_length: As in `encode`.

    Raises:
        Refused: There is no question, or it does not fit.
        PromptError: The template cannot be used with this tokenizer.
    """
    put = frame(template, tokenizer)
    prefix = put.follow(answer_prefix) if answer_prefix else []
    room = None if max_length is None else max_length - len(prefix)
    return _fitted(put, *_asked(instruction, input), room, exact=True)[0] + prefix


def prompt_text(template: Template, tokenizer: Any, instruction: str, input: str = "") -> str:  # noqa: A002
    """The prompt of `prompt_ids` as text, without BOS where the tokenizer would add it.

    The tokenizer is needed for a chat template alone, and may be None for texts.
    """
    asked = _asked(instruction, input)
    return template.fill(*asked) if template.kind == "text" else frame(template, tokenizer).text(*asked)


def messages(template: Template, instruction: str, input: str = "") -> list[dict[str, str]]:  # noqa: A002
    """The prompt as messages, for an endpoint that puts a chat template around them itself."""
    user = {"role": "user", "content": template.fill(*_asked(instruction, input))}
    return [{"role": "system", "content": template.system}, user] if template.system else [user]


def _words(key: str, said: Any) -> str:
    if said is not None and not isinstance(said, str):
        raise Refused("not a text", f"{key} is {type(said).__name__}")
    return (said or "").strip()


def _asked(instruction: Any, given: Any) -> tuple[str, str]:
    """Instruction and input, of which the first must be something."""
    instruction, given = _words("instruction", instruction), _words("input", given)
    if instruction:
        return instruction, given
    if given:
        return given, ""
    raise Refused("no question", "instruction and input are both empty")


def _fitted(
    put: PromptFrame, instruction: str, given: str, room: int | None, *, exact: bool
) -> tuple[list[int], bool]:
    """A prompt of at most `room` tokens, if it can be (else refused if `exact`), and whether it was cut."""
    prompt = put.prompt(instruction, given)
    if room is None or len(prompt) <= room:
        return prompt, False
    low, high = max(1, round(INPUT_KEPT * len(given))), len(given)
    best = put.prompt(instruction, _shortened(given, low)) if given else prompt
    if len(best) > room:
        if exact:
            raise Refused("prompt is too long", f"it has {len(prompt)} tokens, and there is room for {room}")
        # A short input can be longer with the mark than without.
        return (best, True) if len(best) < len(prompt) else (prompt, False)
    # How many characters fit: tokens are counted only by making them, so the number is guessed from those
    # that are known; every other time it is the half between, for texts that mislead.
    fewest, most, halve = len(best), len(prompt), False
    while high - low > _NEAR and fewest < room:
        share = 0.5 if halve else (room - fewest) / (most - fewest)
        halve = not halve
        middle = low + max(1, min(int((high - low) * share), high - low - 1))
        tried = put.prompt(instruction, _shortened(given, middle))
        if len(tried) <= room:
            best, low, fewest = tried, middle, len(tried)
        else:
            high, most = middle, len(tried)
    return best, True


def _shortened(text: str, kept: int) -> str:
    """`kept` characters of a text's ends, which say who the patient is and what is asked; cut at spaces."""
    head, tail = text[: (kept + 1) // 2], text[len(text) - kept // 2 :]
    # At most a quarter of each half is given up for a whole word.
    if (space := head.rfind(" ")) >= 0.75 * len(head):
        head = head[:space]
    if 0 <= (space := tail.find(" ")) <= 0.25 * len(tail):
        tail = tail[space + 1 :]
    return head.rstrip() + CUT + tail.lstrip()
