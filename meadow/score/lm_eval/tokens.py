"""How lm-evaluation-harness can be made to show a model the tokens that Meadow shows it.

The harness has a rule of its own for where a prompt ends and an answer begins: it moves the prompt's last white space
over to the answer, tokenises the prompt alone and together with the answer, and takes what the second has more. With
a prompt that ends in ``:\\n``, which many tokenizers make one token of, the model would then see a prompt without its
last line end. So what ends every prompt of a template from its last word on is given to the answer here: the same
tokens reach the model, and the likelihood of an option grows by what is the same for all options of an item.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os.path import commonprefix
from pathlib import Path
from typing import Any

from meadow.models import folder as folders
from meadow.models import load_tokenizer, prompts
from meadow.models.loading import places, template_of
from meadow.score.exams import ExamItem

#: Items that are tried before all are: a way to ask that fails with these is not tried with the others.
_TRIED = 8
#: What of a prompt's end may be given to the answer, in the order in which it is tried: white space, which the harness
#: gives it anyway; all behind the last word; the last line.
_ENDS = (r"\s*$", r"[\W_]*$", r"[^\n]*\s*$")


@dataclass(frozen=True)
class HarnessModel:
    """What the export must know of a model to be exact for it.

    Attributes:
        arguments: What the harness is to load, as ``--model_args`` takes it.
        tokenizer: As Meadow loads it.
        theirs: Gives the tokenizer as the harness loads it, with its ``add_bos_token`` (None: not given).
        template: The template it was trained with; None where its folder does not say.
        room: The most tokens it reads; None where that is not known.
    """

    arguments: Mapping[str, str]
    tokenizer: Any
    theirs: Callable[[bool | None], Any]
    template: prompts.Template | None = None
    room: int | None = None


@dataclass(frozen=True)
class Way:
    """How a prompt is handed to the harness.

    Attributes:
        moved: The end of every prompt that is given to the answer.
        bos: The harness's ``add_bos_token``; None: not given.
        begin: A beginning that is written into the prompt as text.
        differs: The items whose tokens are others than Meadow's.
    """

    moved: str
    bos: bool | None = None
    begin: str = ""
    differs: tuple[str, ...] = field(default=(), compare=False)


def read_model(path: Path | str) -> HarnessModel:
    """Reads of a model folder, or an adapter's, what the export needs: the tokenizer and the template.

    The weights are not read.

    Raises:
        meadow.models.ModelError: It is no model folder, or its tokenizer cannot be used.
    """
    base, adapter = places(path)
    if adapter is None:
        # Only the tiny model is another folder than the one named.
        arguments = {"pretrained": str(path) if Path(path).expanduser() == base else str(base)}
        place = base
    else:
        arguments, place = {"pretrained": str(base), "peft": str(path)}, base
        if folders.has_tokenizer(adapter):
            arguments["tokenizer"], place = str(path), adapter
    room = folders.read_json(base / folders.CONFIG).get("max_position_embeddings")

    def theirs(bos: bool | None) -> Any:
        from transformers import AutoTokenizer

        given = {} if bos is None else {"add_bos_token": bos}
        return AutoTokenizer.from_pretrained(
            str(place), local_files_only=True, trust_remote_code=False, use_fast=True, **given
        )

    return HarnessModel(arguments, load_tokenizer(place), theirs, template_of(adapter, base), room)


@dataclass(frozen=True)
class Asking:
    """How items are asked: by which template, of which model; None: of any."""

    template: prompts.Template
    model: HarnessModel | None = None

    def shown(self, item: ExamItem) -> str:
        """An item's prompt as text."""
        tokenizer = self.model and self.model.tokenizer
        return prompts.prompt_text(self.template, tokenizer, item.instruction, item.text())

    @property
    def lead(self) -> str:
        """What stands between a prompt and its answer and is the answer's, as `meadow.models.prompts` tokenises it."""
        if self.model is None or self.template.kind == "text":
            return self.template.answer_lead
        return prompts.frame(self.template, self.model.tokenizer).lead

    def find_way(self, items: Sequence[ExamItem]) -> Way:
        """How the harness can be made to show the items in Meadow's tokens."""
        model = self.model
        if model is None:
            # From the last word on: no tokenizer merges a word with what is no word behind it.
            return Way(_end(_ENDS[1], self.template.tail))
        texts = [self.shown(item) for item in items]
        same = _common_end(texts) if self.template.kind == "chat" else self.template.tail
        ends = list(dict.fromkeys(_end(pattern, same) for pattern in _ENDS))
        ways = [Way(moved, flag) for flag in (None, True, False) for moved in ends]
        if begin := model.tokenizer.bos_token:
            ways += [Way(moved, None, begin) for moved in ends]
        tokenizers = {flag: model.theirs(flag) for flag in (None, True, False)}
        tried: list[Way] = []
        for way in ways:
            theirs, differs = tokenizers[way.bos], []
            for place, (item, text) in enumerate(zip(items, texts, strict=True), 1):
                if not self._equal(way, model.tokenizer, theirs, item, text):
                    differs.append(item.id)
                if place == len(differs) == _TRIED:
                    differs += [other.id for other in items[_TRIED:]]
                    break
            tried.append(replace(way, differs=tuple(differs)))
            if not differs:
                break
        return min(tried, key=lambda way: len(way.differs))

    def _equal(self, way: Way, ours: Any, theirs: Any, item: ExamItem, text: str) -> bool:
        """Whether the harness shows a model the same tokens for an item and each of its options."""
        asked = prompts.prompt_ids(self.template, ours, item.instruction, item.text())
        whole = way.begin + text
        context = whole.removesuffix(way.moved).rstrip()
        if not context:
            return False
        ahead = whole[len(context) :]
        before = _their_ids(theirs, context, way.bos)

        def seen(continuation: str) -> list[int] | None:
            # What the harness takes for the continuation, behind what it takes for the context.
            after = _their_ids(theirs, context + continuation, way.bos)[len(before) :]
            return before + after if after else None

        if (seen(ahead) if ahead else before) != asked:
            return False
        return all(
            seen(ahead + self.lead + answer) == asked + prompts.answer_ids(self.template, ours, answer)
            for answer in (*item.options, *item.options.values())
        )


def _end(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[0] if found else ""


def _common_end(texts: Sequence[str]) -> str:
    end = commonprefix([text[::-1] for text in texts])[::-1]
    # One item alone, or items that end alike, must not give words of theirs away.
    return end[end.rfind("\n", 0, len(end.rstrip())) + 1 :]


def _their_ids(tokenizer: Any, text: str, bos: bool | None) -> list[int]:
    """A text as the harness's `hf` model tokenises it."""
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    given = {} if bos is None else {"add_special_tokens": bos}
    if text.startswith(tokenizer.decode(first)):
        given = {"add_special_tokens": False}
    return tokenizer.encode(text, **given)
