"""A template put together with a tokenizer: text, tokens, and where an answer begins and ends."""

from __future__ import annotations

import dataclasses
import json
import re
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from meadow.models.prompts.templates import FILE, TEMPLATES, PromptError, Template

#: Stand-ins for what a row says, to find a chat template's fixed parts by. Letters alone: nothing to strip.
_ASKED, _ANSWERED, _SYSTEM = "qzmeadowquestionzq", "qzmeadowanswerzq", "qzmeadowsystemzq"
_OTHERS = f"choose another template ({', '.join(name for name in TEMPLATES if name != 'chat')})"


def save(template: Template, folder: Path | str, tokenizer: Any = None) -> None:
    """Writes the whole definition into a model folder that exists, `settled` where a tokenizer is given."""
    if tokenizer is not None:
        template = settled(template, tokenizer)
    text = json.dumps(template.to_dict(), indent=2, ensure_ascii=False)
    (Path(folder) / FILE).write_text(text + "\n", encoding="utf-8")


def settled(template: Template, tokenizer: Any) -> Template:
    """The same template with nothing left to the tokenizer: BOS, and a chat's template."""
    if template.kind == "chat":
        return dataclasses.replace(template, chat_template=_chat_template(template, tokenizer))
    return dataclasses.replace(template, bos="always" if begins_with_bos(template, tokenizer) else "never")


def usual(tokenizer: Any) -> Template:
    """The template for a model whose folder names none: its own chat template, else ``plain``."""
    return TEMPLATES["chat" if getattr(tokenizer, "chat_template", None) else "plain"]


def begins_with_bos(template: Template, tokenizer: Any) -> bool:
    """Whether a sequence begins with BOS."""
    bos = tokenizer.bos_token_id
    if template.bos == "always" and bos is None:
        raise PromptError(f"template {template.name!r} begins with BOS, and the tokenizer has none")
    if template.bos != "tokenizer":
        return template.bos == "always"
    return bos is not None and tokenizer("a", verbose=False)["input_ids"][:1] == [bos]


def answer_ids(template: Template, tokenizer: Any, text: str) -> list[int]:
    """The tokens of an answer as they stand after any prompt, without the end."""
    return frame(template, tokenizer).follow(text)


def stop_ids(template: Template, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: what `encode` trains a model to end with, and the end of a sequence."""
    return list(dict.fromkeys([*frame(template, tokenizer).end[-1:], tokenizer.eos_token_id]))


class PromptFrame:
    """A text template put together with a tokenizer: what is the same for every row."""

    # Whether special tokens' texts are tokens: in a chat the template writes them as text.
    _special = False

    def __init__(self, template: Template, tokenizer: Any) -> None:
        self._template = template
        # Weak, for the tokenizer is what this is kept under.
        self._tokenizer = weakref.ref(tokenizer)
        self._bos: list[int] = []
        if template.kind == "text" and begins_with_bos(template, tokenizer):
            self._bos = [tokenizer.bos_token_id]
        # The fixed words before an answer.
        self._tail = template.tail
        # Between prompt and answer, and part of the answer's first token.
        self.lead = template.answer_lead
        self.end: list[int] = [tokenizer.eos_token_id]

    def text(self, instruction: str, given: str) -> str:
        """The prompt as text, without BOS."""
        return self._template.fill(instruction, given)

    def prompt(self, instruction: str, given: str) -> list[int]:
        """The prompt as tokens."""
        return self._bos + _ids(self._tokenizer(), self.text(instruction, given), special=self._special)

    def follow(self, answer: str) -> list[int]:
        """The tokens of an answer."""
        if not answer:
            return []
        return _following(self._tokenizer(), self._first, self._tail, self.lead + answer, self._special)

    @cached_property
    def _first(self) -> list[int]:
        return _ids(self._tokenizer(), self._tail, special=self._special)


class ChatFrame(PromptFrame):
    """A chat template put together with its tokenizer."""

    _special = True

    def __init__(self, template: Template, tokenizer: Any) -> None:
        super().__init__(template, tokenizer)
        self.lead = ""
        asked = [{"role": "user", "content": _ASKED}]
        if template.system:
            asked.insert(0, {"role": "system", "content": template.system})
        prompt = _rendered(template, tokenizer, asked, add_generation_prompt=True)
        whole = _rendered(template, tokenizer, [*asked, {"role": "assistant", "content": _ANSWERED}])
        if prompt.count(_ASKED) != 1 or whole.count(_ANSWERED) != 1:
            raise PromptError("the tokenizer's chat template does not repeat what user and assistant say")
        # What training puts between the last question and the answer besides the template's own words: white
        # space is the answer's, an empty block of thoughts the prompt's, so that a model is asked as it was trained.
        self._between = ""
        if whole.startswith(prompt):
            between = whole[len(prompt) :].partition(_ANSWERED)[0]
            if between.strip():
                self._between = between
            else:
                self.lead = between
        self._before, _, self._tail = (prompt + self._between).partition(_ASKED)
        added = tokenizer.added_tokens_decoder.values()
        names = {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}
        longest_first = sorted(filter(None, names), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first)))
        self.end = _turn_end(tokenizer, whole.partition(_ANSWERED)[2])

    def text(self, instruction: str, given: str) -> str:
        return self._before + self._plain(self._template.fill(instruction, given)) + self._tail

    def follow(self, answer: str) -> list[int]:
        return super().follow(self._plain(answer))

    def conversation(self, said: Sequence[tuple[str, str]]) -> tuple[list[int], str]:
        """Turns (role and words) up to the place where the model answers, as tokens and as text."""
        turns = [{"role": role, "content": self._plain(words)} for role, words in said]
        tokenizer = self._tokenizer()
        text = _rendered(self._template, tokenizer, turns, add_generation_prompt=True) + self._between
        return _ids(tokenizer, text, special=True), text

    def takes_system(self) -> bool:
        """Whether the chat template has a place for a system message."""
        said = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _ASKED}]
        try:
            return _SYSTEM in _rendered(self._template, self._tokenizer(), said)
        except PromptError:
            return False

    def _plain(self, words: str) -> str:
        """Words in which nothing is a special token: a row must not end its own turn and begin another."""
        return self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", words)


_frames: weakref.WeakKeyDictionary[Any, dict[tuple[Any, ...], PromptFrame]] = weakref.WeakKeyDictionary()


def frame(template: Template, tokenizer: Any) -> PromptFrame:
    """The template with this tokenizer, made once; a `PromptError` if they do not go together."""
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
        known[setting] = (ChatFrame if template.kind == "chat" else PromptFrame)(template, tokenizer)
    return known[setting]


def _ids(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    """Tokens of a text without BOS; `special`: texts such as ``</s>`` in it are the tokens they look like."""
    return tokenizer(
        text,
        add_special_tokens=False,
        split_special_tokens=not special,
        return_attention_mask=False,
        verbose=False,
    )["input_ids"]


def _following(tokenizer: Any, first: list[int], before: str, text: str, special: bool) -> list[int]:
    """Tokens of `text` as it stands after `before`, whose own are `first`."""
    # A sentencepiece tokenizer puts a space before a text that it gets alone.
    both = _ids(tokenizer, before + text, special=special)
    if both[: len(first)] == first:
        return both[len(first) :]
    return _ids(tokenizer, text, special=special)


def _turn_end(tokenizer: Any, after: str) -> list[int]:
    """The tokens that end an answer in a chat: up to the first special one, which is where a model stops."""
    found = _following(tokenizer, _ids(tokenizer, _ANSWERED, special=True), _ANSWERED, after, True)
    added = tokenizer.added_tokens_decoder.items()
    special = {*tokenizer.all_special_ids, *(number for number, token in added if token.special)}
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
        raise PromptError(f"the tokenizer's chat template cannot be rendered: {error}; {_OTHERS}") from error


def _chat_template(template: Template, tokenizer: Any) -> str:
    found = template.chat_template or getattr(tokenizer, "chat_template", None)
    if isinstance(found, dict):
        found = found.get("default")
    if not found:
        raise PromptError(f"the tokenizer has no chat template; {_OTHERS}")
    return found
