"""Prompts: one definition renders training text, label mask and inference prompt.

A `Template` is data. `encode` makes a row to train on from it, `prompt_ids` the prompt to ask with; both go
through the same code, so that a prompt at inference is, token by token, the beginning of the row that was
trained on. Three rules hold everywhere:

* **The boundary.** Prompt and answer never share a token. The prompt is tokenised by itself; the answer is
  tokenised as it stands after the template's last words, which depend on no row.
* **The beginning.** The token that begins a sequence (BOS) is put there, at training and at inference alike,
  where the tokenizer itself would put it; a chat template says so itself.
* **The end.** An answer ends with the end-of-sequence token (a chat's with what ends the turn), which is
  trained on, except where the answer was cut: a model must not learn to stop in mid-sentence.

A row that is longer than the model may read loses the middle of its *input*, at most down to `INPUT_KEPT` of
it, before its answer loses anything; an answer is cut only at its end, and only if `ANSWER_KEPT` of it stays.
What cannot be kept so is `Refused`, with a reason that is short and constant, to be counted.

Nothing here imports torch or transformers: a tokenizer is handed in.
"""

from __future__ import annotations

import dataclasses
import json
import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

__all__ = [
    "ANSWER_KEPT",
    "CUT",
    "FILE",
    "IGNORED",
    "INPUT_KEPT",
    "TEMPLATES",
    "Encoded",
    "PromptError",
    "Refused",
    "Template",
    "answer_ids",
    "begins_with_bos",
    "encode",
    "get",
    "load",
    "messages",
    "prompt_ids",
    "prompt_text",
    "save",
    "settled",
    "stop_ids",
]

#: The label of a token that is not trained on; what torch's cross entropy ignores by default.
IGNORED = -100
#: The file of a model folder that holds the template the model was trained with.
FILE = "meadow_template.json"
#: The least share of an answer's tokens that must stay when it is cut. Below a half, most of what the row
#: teaches would be gone; the published training cut at 256 tokens whatever was left.
ANSWER_KEPT = 0.5
#: The least share of an input's characters that must stay. A question of which less is left is another one.
INPUT_KEPT = 0.25
#: What stands where the middle of an input was: the model can see that something is missing.
CUT = " [...] "

#: Characters within which the best place to cut is looked for: about one token of English.
_NEAR = 4
_PLACE = re.compile(r"\{(instruction|input)\}")
_FORMAT = 1
#: Stand-ins for what a row says, to find a chat template's fixed parts by. Letters alone: nothing to strip.
_ASKED, _ANSWERED = "qzmeadowquestionzq", "qzmeadowanswerzq"


class PromptError(Exception):
    """A template that is unknown or malformed, or that cannot be used with a tokenizer."""


class Refused(Exception):  # noqa: N818 - it is a verdict on a row, not a fault of the program
    """A row that nothing should be trained on, or a prompt that does not fit.

    Attributes:
        reason: Short and constant, for counting.
        detail: The particulars of this row.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Template:
    """How a question is put to a model.

    Attributes:
        name: What it is called by.
        kind: ``text``: the prompt is the text below. ``chat``: the text below is the user's message, and the
            model's own chat template says what stands around it.
        with_input: Text with ``{instruction}`` and ``{input}``, once each; the answer follows its end.
        without_input: The same for rows without an input; both end with the same words.
        answer_lead: What stands between prompt and answer and belongs to the answer's first token. A space
            where the prompt ends with a word or a colon: tokenizers keep a space with the word after it.
        system: A chat's system message; empty: none.
        bos: ``tokenizer``: as the tokenizer itself begins a sequence; ``always`` or ``never``. Of no
            meaning for a chat, whose template says it.
        stop: Texts that end an answer when the model goes on to the next question by itself.
        chat_template: The chat template (Jinja); None: the tokenizer's own.
        source: Where the words come from.
    """

    name: str
    kind: str
    with_input: str
    without_input: str
    answer_lead: str = ""
    system: str = ""
    bos: str = "tokenizer"
    stop: tuple[str, ...] = ()
    chat_template: str | None = None
    source: str = ""

    def __post_init__(self) -> None:
        found = list(_problems(self))
        if found:
            raise PromptError(f"template {self.name!r}: {'; '.join(found)}")

    @property
    def tail(self) -> str:
        """The fixed words after the last thing that a row says; for a text, what an answer follows."""
        return _PLACE.split(self.with_input)[-1]

    def fill(self, instruction: str, input: str = "") -> str:  # noqa: A002
        """The text with a row's words in place; braces and backslashes in those are left as they are."""
        words = {"instruction": instruction, "input": input}
        return _PLACE.sub(lambda place: words[place[1]], self.with_input if input else self.without_input)

    def to_dict(self) -> dict[str, Any]:
        """The whole definition, for JSON."""
        return {"format": _FORMAT, **dataclasses.asdict(self), "stop": list(self.stop)}

    @classmethod
    def from_dict(cls, found: Any) -> Template:
        """The template of such a definition.

        Raises:
            PromptError: It is none; the message names what is wrong with it.
        """
        if not isinstance(found, dict):
            raise PromptError("a template is a JSON object with name, kind, with_input and without_input")
        names = {field.name for field in dataclasses.fields(cls)}
        given = {key: value for key, value in found.items() if key != "format"}
        problems = []
        if found.get("format", _FORMAT) != _FORMAT:
            problems.append(f"format {found['format']!r} is not {_FORMAT}: it was written by another Meadow")
        if unknown := sorted(set(given) - names):
            problems.append(f"unknown: {', '.join(unknown)} (known: {', '.join(sorted(names))})")
        required = ("name", "kind", "with_input", "without_input")
        if missing := [key for key in required if key not in given]:
            problems.append(f"missing: {', '.join(missing)}")
        stop = given.get("stop", [])
        if not isinstance(stop, list) or not all(isinstance(text, str) and text for text in stop):
            problems.append("stop is no list of texts")
        for key in sorted(names - {"stop"} & set(given)):
            may_be_none = key == "chat_template"
            if not isinstance(given[key], str) and not (may_be_none and given[key] is None):
                problems.append(f"{key} is no text")
        if problems:
            raise PromptError("; ".join(problems))
        return cls(**{**given, "stop": tuple(stop)})


def _problems(template: Template) -> Any:
    if template.kind not in ("text", "chat"):
        yield f"kind {template.kind!r} is neither 'text' nor 'chat'"
    if template.bos not in ("tokenizer", "always", "never"):
        yield f"bos {template.bos!r} is none of 'tokenizer', 'always', 'never'"
    if sorted(_PLACE.findall(template.with_input)) != ["input", "instruction"]:
        yield "with_input must hold {instruction} and {input} once each"
    if _PLACE.findall(template.without_input) != ["instruction"]:
        yield "without_input must hold {instruction} once, and no {input}"
    if template.kind == "text":
        ends = [_PLACE.split(text)[-1] for text in (template.with_input, template.without_input)]
        if ends[0] != ends[1]:
            yield f"with_input and without_input must end alike, not with {ends[0]!r} and {ends[1]!r}"
        if not ends[0].strip():
            yield "words must stand between the last placeholder and the answer, such as '\\nAnswer:'"


_NO_INPUT = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
_PAIRED = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)
_ASK = "\n\n### Instruction:\n{instruction}"
_GIVEN = "\n\n### Input:\n{input}"

#: The templates by name.
TEMPLATES: Mapping[str, Template] = MappingProxyType(
    {
        template.name: template
        for template in (
            Template(
                "medalpaca",
                "text",
                _PAIRED + _ASK + _GIVEN + "\n\n### Response:\n",
                # The published handler left an empty "### Input:" section here, after a primer that
                # promises an input.
                _NO_INPUT + _ASK + "\n\n### Response:\n",
                stop=("\n### ", "### Instruction:"),
                source="medAlpaca, prompt_templates/medalpaca.json and handler.py; without the empty input "
                "section that its handler wrote",
            ),
            Template(
                "alpaca",
                "text",
                _PAIRED + _ASK + _GIVEN + "\n\n### Response:",
                _NO_INPUT + _ASK + "\n\n### Response:",
                stop=("\n### ", "### Instruction:"),
                source="Stanford Alpaca, train.py: the answer follows the colon with nothing between",
            ),
            Template(
                "chat",
                "chat",
                "{instruction}\n\n{input}",
                "{instruction}",
                source="the chat template of the model's own tokenizer",
            ),
            Template(
                "plain",
                "text",
                "{instruction}\n\n{input}\n\nAnswer:",
                "{instruction}\n\nAnswer:",
                answer_lead=" ",
                source="words enough for a model that was trained on no instructions",
            ),
        )
    }
)


def get(name: str) -> Template:
    """The template of that name, or of a JSON file as `save` writes them.

    Raises:
        PromptError: There is none; the message lists those there are.
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    if name.endswith(".json"):
        return _read(Path(name))
    raise PromptError(
        f"no template is named {name!r}; there are: {', '.join(TEMPLATES)}, or the path of a .json file as "
        f"{FILE} in a model folder"
    )


def save(template: Template, folder: Path | str, tokenizer: Any = None) -> None:
    """Writes the whole definition into a model folder.

    Args:
        template: The template.
        folder: The model folder; it must exist.
        tokenizer: The model's; where given, what was left to it is written down: whether a sequence begins
            with BOS, and the chat template. A later version of a library cannot change those then.
    """
    if tokenizer is not None:
        template = settled(template, tokenizer)
    text = json.dumps(template.to_dict(), indent=2, ensure_ascii=False)
    (Path(folder) / FILE).write_text(text + "\n", encoding="utf-8")


def load(folder: Path | str) -> Template | None:
    """The template that a model folder holds; None where it holds none.

    Raises:
        PromptError: The file is damaged; the message names it.
    """
    path = Path(folder) / FILE
    return _read(path) if path.is_file() else None


def _read(path: Path) -> Template:
    try:
        return Template.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise PromptError(f"{path}: {error.strerror or error}") from error
    except (ValueError, PromptError) as error:
        raise PromptError(f"{path}: no template: {error}") from error


def settled(template: Template, tokenizer: Any) -> Template:
    """The same template with nothing left to the tokenizer: BOS, and a chat's template."""
    if template.kind == "chat":
        return dataclasses.replace(template, chat_template=_chat_template(template, tokenizer))
    return dataclasses.replace(template, bos="always" if begins_with_bos(template, tokenizer) else "never")


@dataclass(frozen=True)
class Encoded:
    """A row to train on.

    Attributes:
        input_ids: Token ids of prompt, answer and end.
        labels: The same, with `IGNORED` where nothing is trained; as many.
        truncated: Something of the row was cut.
    """

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
        tokenizer: A tokenizer of transformers.
        row: With ``instruction``, ``input`` and ``output``; missing or None is empty. White space around
            each is left away. A row without an instruction has its input as one.
        max_length: The most tokens; None: any number. See the module for what is cut.
        train_on_inputs: Train on the prompt too, not only on the answer.

    Raises:
        Refused: Nothing of it should be trained on.
        PromptError: The template cannot be used with this tokenizer.
    """
    instruction, given, answer = (_words(row, key) for key in ("instruction", "input", "output"))
    if not answer:
        raise Refused("empty answer")
    frame = _frame(template, tokenizer)
    answered = frame.follow(answer)
    if not answered:
        raise Refused("no token in the answer", f"the tokenizer makes none of {answer[:40]!r}")
    room = None if max_length is None else max_length - len(answered) - len(frame.end)
    prompt, cut = _fitted(frame, instruction, given, room, exact=False)
    left = len(answered) if max_length is None else max_length - len(prompt)
    end = frame.end
    if max_length is not None and left < len(answered) + len(frame.end):
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
        tokenizer: A tokenizer of transformers.
        instruction: What is asked.
        input: What it is asked of.
        answer_prefix: The answer's first words, put into the model's mouth.
        max_length: The most tokens; None: any number. The middle of the input is cut, as in `encode`.

    Raises:
        Refused: There is no question, or it does not fit.
        PromptError: The template cannot be used with this tokenizer.
    """
    frame = _frame(template, tokenizer)
    prefix = frame.follow(answer_prefix) if answer_prefix else []
    room = None if max_length is None else max_length - len(prefix)
    row = {"instruction": instruction, "input": input}
    prompt, _ = _fitted(frame, _words(row, "instruction"), _words(row, "input"), room, exact=True)
    return prompt + prefix


def answer_ids(template: Template, tokenizer: Any, text: str) -> list[int]:
    """The tokens of an answer as they stand after a prompt, in training and when likelihoods are asked for.

    They depend on the template's last words and on no row. The end is not among them.
    """
    return _frame(template, tokenizer).follow(text)


def prompt_text(template: Template, tokenizer: Any, instruction: str, input: str = "") -> str:  # noqa: A002
    """The prompt as text, without BOS where the tokenizer would add it.

    Args:
        template: How it is put.
        tokenizer: Needed for a chat template alone; may be None for texts.
        instruction: What is asked.
        input: What it is asked of.
    """
    row = {"instruction": instruction, "input": input}
    instruction, given = _asked(_words(row, "instruction"), _words(row, "input"))
    if template.kind == "text":
        return template.fill(instruction, given)
    return _frame(template, tokenizer).text(instruction, given)


def messages(template: Template, instruction: str, input: str = "") -> list[dict[str, str]]:  # noqa: A002
    """The prompt as messages, for an endpoint that puts a chat template around them itself.

    A text template's prompt becomes the user's message whole.
    """
    row = {"instruction": instruction, "input": input}
    user = {
        "role": "user",
        "content": template.fill(*_asked(_words(row, "instruction"), _words(row, "input"))),
    }
    return [{"role": "system", "content": template.system}, user] if template.system else [user]


def stop_ids(template: Template, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: what `encode` trains a model to end with, and the end of a sequence."""
    frame = _frame(template, tokenizer)
    return list(dict.fromkeys([*frame.end[-1:], tokenizer.eos_token_id]))


def _words(row: Mapping[str, Any], key: str) -> str:
    found = row.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise Refused("not a text", f"{key} is {type(found).__name__}")
    return found.strip()


def _asked(instruction: str, given: str) -> tuple[str, str]:
    """Instruction and input, of which the first must be something."""
    if not instruction:
        instruction, given = given, ""
    if not instruction:
        raise Refused("no question", "instruction and input are both empty")
    return instruction, given


def _fitted(
    frame: _Frame, instruction: str, given: str, room: int | None, *, exact: bool
) -> tuple[list[int], bool]:
    """A prompt of at most `room` tokens, and whether its input was cut for it.

    With `exact`, one that does not fit is refused. Otherwise as much of it is cut as may be, and the rest is
    for the answer to bear.
    """
    instruction, given = _asked(instruction, given)
    prompt = frame.prompt(instruction, given)
    if room is None or len(prompt) <= room:
        return prompt, False
    low, high = max(1, round(INPUT_KEPT * len(given))), len(given)
    best = frame.prompt(instruction, _shortened(given, low)) if given else prompt
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
        tried = frame.prompt(instruction, _shortened(given, middle))
        if len(tried) <= room:
            best, low, fewest = tried, middle, len(tried)
        else:
            high, most = middle, len(tried)
    return best, True


def _shortened(text: str, kept: int) -> str:
    """A text without its middle, `kept` characters of it left, cut at white space where some is near.

    Both ends stay: a case begins with who the patient is, and ends with the question and its options.
    """
    head, tail = text[: (kept + 1) // 2], text[len(text) - kept // 2 :]
    # At most a quarter of each half is given up for a whole word.
    if (space := head.rfind(" ")) >= 0.75 * len(head):
        head = head[:space]
    if 0 <= (space := tail.find(" ")) <= 0.25 * len(tail):
        tail = tail[space + 1 :]
    return head.rstrip() + CUT + tail.lstrip()


def _ids(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    """Tokens of a text without BOS; `special`: texts such as ``</s>`` in it are the tokens they look like."""
    return tokenizer(
        text,
        add_special_tokens=False,
        split_special_tokens=not special,
        return_attention_mask=False,
        verbose=False,
    )["input_ids"]


def _following(
    tokenizer: Any, before: str, text: str, *, special: bool, first: list[int] | None = None
) -> list[int]:
    """Tokens of `text` as it stands after `before`, none of which holds anything of that.

    A sentencepiece tokenizer puts a space before a text that it gets alone, so the text is tokenised with
    what is before it, and that (`first`, where it is known) is taken away again.
    """
    if first is None:
        first = _ids(tokenizer, before, special=special)
    both = _ids(tokenizer, before + text, special=special)
    if both[: len(first)] == first:
        return both[len(first) :]
    return _ids(tokenizer, text, special=special)


class _Frame:
    """A template put together with a tokenizer: what is the same for every row.

    Attributes:
        end: The tokens after an answer.
    """

    end: list[int]
    # Whether special tokens' texts are tokens: in a chat the template writes them as text.
    _special = False
    # What stands before an answer: fixed words, and what of it belongs to the answer's first token.
    _tail = _lead = ""
    _first: list[int] | None = None

    def __init__(self, template: Template, tokenizer: Any) -> None:
        self._template = template
        # Weak, for the tokenizer is what this is kept under.
        self._tokenizer = weakref.ref(tokenizer)

    def text(self, instruction: str, given: str) -> str:
        """The prompt as text."""
        raise NotImplementedError

    def prompt(self, instruction: str, given: str) -> list[int]:
        """The prompt as tokens."""
        return _ids(self._tokenizer(), self.text(instruction, given), special=self._special)

    def follow(self, answer: str) -> list[int]:
        """The tokens of an answer."""
        if not answer:
            return []
        tokenizer, text = self._tokenizer(), self._lead + answer
        if self._first is None:
            self._first = _ids(tokenizer, self._tail, special=self._special)
        return _following(tokenizer, self._tail, text, special=self._special, first=self._first)


class _Text(_Frame):
    def __init__(self, template: Template, tokenizer: Any) -> None:
        super().__init__(template, tokenizer)
        self._bos = [tokenizer.bos_token_id] if begins_with_bos(template, tokenizer) else []
        self._tail, self._lead = template.tail, template.answer_lead
        self.end = [tokenizer.eos_token_id]

    def text(self, instruction: str, given: str) -> str:
        return self._template.fill(instruction, given)

    def prompt(self, instruction: str, given: str) -> list[int]:
        return self._bos + super().prompt(instruction, given)


class _Chat(_Frame):
    _special = True

    def __init__(self, template: Template, tokenizer: Any) -> None:
        super().__init__(template, tokenizer)
        asked = [{"role": "user", "content": _ASKED}]
        if template.system:
            asked.insert(0, {"role": "system", "content": template.system})
        prompt = _rendered(template, tokenizer, asked, add_generation_prompt=True)
        whole = _rendered(template, tokenizer, [*asked, {"role": "assistant", "content": _ANSWERED}])
        if prompt.count(_ASKED) != 1 or whole.count(_ANSWERED) != 1:
            raise PromptError("the tokenizer's chat template does not repeat what user and assistant say")
        after = whole.partition(_ANSWERED)[2]
        if whole.startswith(prompt):
            # What stands between prompt and answer: white space is the answer's, an empty block of
            # thoughts the prompt's, so that a model is asked as it was trained.
            between = whole[len(prompt) :].partition(_ANSWERED)[0]
            if between.strip():
                prompt += between
            else:
                self._lead = between
        self._before, _, self._tail = prompt.partition(_ASKED)
        names = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        names |= set(tokenizer.all_special_tokens)
        self._control = re.compile(
            "|".join(map(re.escape, sorted(filter(None, names), key=len, reverse=True)))
        )
        self.end = _turn_end(tokenizer, after)

    def text(self, instruction: str, given: str) -> str:
        return self._before + self._plain(self._template.fill(instruction, given)) + self._tail

    def follow(self, answer: str) -> list[int]:
        return super().follow(self._plain(answer))

    def _plain(self, words: str) -> str:
        """Words in which nothing is a special token: a row must not end its own turn and begin another."""
        return self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", words)


def _turn_end(tokenizer: Any, after: str) -> list[int]:
    """The tokens that end an answer in a chat: up to the first special one, which is where a model stops."""
    found = _following(tokenizer, _ANSWERED, after, special=True)
    special = set(tokenizer.all_special_ids) | {
        number for number, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    for place, token in enumerate(found):
        if token in special:
            return found[: place + 1]
    return [tokenizer.eos_token_id]


def _rendered(template: Template, tokenizer: Any, said: Sequence[Mapping[str, str]], **options: bool) -> str:
    try:
        return tokenizer.apply_chat_template(
            list(said),
            tokenize=False,
            chat_template=_chat_template(template, tokenizer),
            # Models that can think aloud answer at once, in training and when asked.
            enable_thinking=False,
            # Templates that tell the date would make another prompt each day.
            date_string="26 Jul 2024",
            **options,
        )
    except Exception as error:  # noqa: BLE001 - a chat template is a program, and raises what it likes
        raise PromptError(
            f"the tokenizer's chat template cannot be rendered: {error}; choose another template "
            f"({', '.join(name for name in TEMPLATES if name != 'chat')})"
        ) from error


def _chat_template(template: Template, tokenizer: Any) -> str:
    found = template.chat_template or getattr(tokenizer, "chat_template", None)
    if isinstance(found, dict):
        found = found.get("default")
    if not found:
        raise PromptError(
            "the tokenizer has no chat template; choose another template "
            f"({', '.join(name for name in TEMPLATES if name != 'chat')})"
        )
    return found


def begins_with_bos(template: Template, tokenizer: Any) -> bool:
    """Whether a sequence begins with BOS."""
    bos = tokenizer.bos_token_id
    if template.bos == "always" and bos is None:
        raise PromptError(f"template {template.name!r} begins with BOS, and the tokenizer has none")
    if template.bos != "tokenizer":
        return template.bos == "always"
    return bos is not None and tokenizer("a", verbose=False)["input_ids"][:1] == [bos]


_KINDS: Mapping[str, Callable[[Template, Any], _Frame]] = {"text": _Text, "chat": _Chat}
_frames: weakref.WeakKeyDictionary[Any, dict[tuple[Any, ...], _Frame]] = weakref.WeakKeyDictionary()


def _frame(template: Template, tokenizer: Any) -> _Frame:
    """The template with this tokenizer; made once."""
    if tokenizer.eos_token_id is None:
        raise PromptError(
            "the tokenizer has no end-of-sequence token, so that a model could never learn to stop: set "
            "eos_token in its tokenizer_config.json"
        )
    known = _frames.setdefault(tokenizer, {})
    # What may be set on a tokenizer after it was first used here.
    setting = (
        template,
        str(getattr(tokenizer, "chat_template", None)),
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        getattr(tokenizer, "add_bos_token", None),
    )
    if setting not in known:
        known[setting] = _KINDS[template.kind](template, tokenizer)
    return known[setting]
