"""An exam's items: when they can be scored, and how they are read from files in the forms that exams are published in."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meadow.core.errors import Error
from meadow.core.tables import records
from meadow.parse.options import INSTRUCTION, question_text

__all__ = ["WITH_IMAGE", "ExamError", "ExamItem", "name_of", "read_items", "refuse", "row_item"]

#: Why an item is left out: its question cannot be answered from the text alone.
WITH_IMAGE = "with image"
#: Items that a message names before it counts the rest.
_MOST = 20
# Names of fields in files, in order of preference, without regard to case.
_ID = ("id", "qid", "question_id", "uid", "no", "pmid")
_QUESTION = ("question", "query", "stem", "sent1", "input", "prompt")
_CONTEXT = ("context", "contexts", "passage", "abstract")
_OPTIONS = ("options", "choices")
_ANSWER = ("answer_key", "answer_idx", "answerkey", "cop", "label", "correct", "target", "answer")
_PART = ("step", "part", "subject", "subject_name", "split")
_IMAGE = ("image", "images", "has_image", "needs_image", "picture", "img")
_DECISIONS = ("yes", "no", "maybe")
_SPREAD = (
    ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j"),
    ("opa", "opb", "opc", "opd", "ope"),
    ("option_a", "option_b", "option_c", "option_d", "option_e", "option_f"),
    ("ending0", "ending1", "ending2", "ending3", "ending4"),
)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class ExamError(Error):
    """An exam that cannot be used as it is; `problems` has a sentence for each item that cannot be scored."""

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        self.problems = tuple(problems)
        lines = [f"  {line}" for line in self.problems[:_MOST]]
        if len(self.problems) > _MOST:
            lines.append(f"  and {len(self.problems) - _MOST} more")
        super().__init__("\n".join([message, *lines]))


@dataclass(frozen=True)
class ExamItem:
    """A question with options, of which one is right.

    Attributes:
        id: Unique in its exam, and the same in every build of it.
        question: The question without its options, and without the text that it is about.
        options: The texts of the options by their letter, A first.
        answer_key: The letter of the right one.
        part: What of the exam it belongs to: ``step1``, the split's name, or what a file's ``part`` says.
        input: The `input` of the row, options included, as the dataset writes it.
        instruction: The `instruction` of the row.
        context: The text that the question is about, such as an abstract; empty for most.
    """

    id: str
    question: str
    options: Mapping[str, str]
    answer_key: str
    part: str
    input: str
    instruction: str = INSTRUCTION
    context: str = ""

    @property
    def asked(self) -> str:
        """Question and context."""
        return f"{self.question}\n\n{self.context}" if self.context else self.question

    def text(self, options: Mapping[str, str] | None = None) -> str:
        """Question, context, and a line ``X: text`` for each option, or for those given in place of its own."""
        return question_text(self.asked, self.options if options is None else options)


def row_item(row: Mapping[str, Any], part: str) -> ExamItem:
    """The item in a row of a dataset; raises `ValueError` where it cannot be scored."""
    options = {option["key"]: option["text"] for option in row.get("options") or ()}
    if len(options) < len(row.get("options") or ()):
        raise ValueError("two options have one letter")
    written = row["input"] or ""
    listed = "\n\n" + "\n".join(f"{key}: {text}" for key, text in options.items())
    question, context = written.removesuffix(listed), ""
    if question == written:
        # A question in front of the text that it is about; a vignette has its question at its end.
        head, _, rest = question.partition("\n\n")
        if rest and head.rstrip().endswith("?"):
            question, context = head, rest
    options, answer, instruction = _lettered(options, row.get("answer_key"), row["instruction"])
    return ExamItem(row["id"], question, options, answer, part, written, instruction, context)


def _lettered(
    options: Mapping[str, str], answer: Any, instruction: str = INSTRUCTION
) -> tuple[Mapping[str, str], str, str]:
    """Checks options and answer, and gives letters to options that are known by their text (yes, no, maybe)."""
    if len(options) < 2:
        raise ValueError(f"it has {'one option' if options else 'no options'}; two are needed")
    key = "" if answer is None else str(answer).strip()
    if all(k.strip().casefold() == text.strip().casefold() for k, text in options.items()):
        if key not in options:
            raise ValueError(f"the answer {key[:40]!r} is none of its options {', '.join(options)}")
        letters = dict(zip(options, LETTERS, strict=False))
        options = {letters[k]: text for k, text in options.items()}
        # "Answer with yes, no or maybe" would ask for another form than the letters.
        key, instruction = letters[key], INSTRUCTION
    foreign = [k for k in options if not re.fullmatch("[A-Z]", k)]
    if foreign:
        raise ValueError(
            f"options are not letters: {', '.join(repr(k[:20]) for k in foreign)}; name them A, B, C..."
        )
    blank = [k for k, text in options.items() if not isinstance(text, str) or not text.strip()]
    if blank:
        raise ValueError(f"option {', '.join(blank)} has no text")
    if len({" ".join(text.split()).casefold() for text in options.values()}) < len(options):
        raise ValueError("two options have the same text")
    if key not in options:
        raise ValueError(f"the answer {key[:40]!r} is no option; there are {', '.join(options)}")
    return dict(sorted(options.items())), key, instruction


def refuse(what: str, problems: list[str]) -> None:
    """Raises `ExamError` with the items that cannot be scored, if there are some."""
    if problems:
        many = "1 item cannot" if len(problems) == 1 else f"{len(problems)} items cannot"
        raise ExamError(f"{what}: {many} be scored; repair or remove them (nothing was scored):", problems)


def read_items(path: Path) -> tuple[list[ExamItem], dict[str, Counter[str]]]:
    """The items of a file, part after part, and what is left out of each part, by reason.

    Raises:
        ExamError: It cannot be read, or holds items that cannot be scored, or none.
    """
    if not path.is_file():
        raise ExamError(f"{path}: there is no such file; give an exam's file, or the name of a dataset")
    items: list[ExamItem] = []
    problems: list[str] = []
    excluded: dict[str, Counter[str]] = {}
    seen: dict[str, str] = {}
    try:
        for place, record in records(path):
            if not isinstance(record, Mapping):
                problems.append(f"record {place}: it is no object of named fields")
                continue
            fields = {str(key).strip().lower(): value for key, value in record.items()}
            given = _first(fields, _ID)
            row_id, called = given or place, given or f"record {place}"
            part = _first(fields, _PART) or name_of(path)
            if row_id in seen:
                problems.append(f"{called}: record {place} has the id of record {seen[row_id]}")
                continue
            seen[row_id] = place
            if _has_image(fields):
                excluded.setdefault(part, Counter())[WITH_IMAGE] += 1
                continue
            try:
                item = _record_item(fields, row_id, part)
                # JSON can hold halves of characters, which no tokenizer, digest or file takes.
                "".join((row_id, part, item.input, item.instruction, *item.options.values())).encode()
            except UnicodeEncodeError:
                problems.append(f"record {place}: it holds half a character (a lone surrogate)")
            except ValueError as error:
                problems.append(f"{called}: {error}")
            else:
                items.append(item)
    except ValueError as error:
        raise ExamError(str(error)) from error
    refuse(str(path), problems)
    if not items:
        left = sum(sum(counts.values()) for counts in excluded.values())
        why = f"; all {left} need an image" if left else ""
        raise ExamError(f"{path}: it holds no item that can be scored{why}")
    # Parts one after the other, in the order of the file.
    parts = tuple(dict.fromkeys(item.part for item in items))
    items.sort(key=lambda item: parts.index(item.part))
    return items, excluded


def name_of(path: Path) -> str:
    """A file's name without its ending."""
    name = path.name.removesuffix(".gz")
    return name[: -len(Path(name).suffix)] if Path(name).suffix else name


def _record_item(fields: Mapping[str, Any], row_id: str, part: str) -> ExamItem:
    options = _options(fields)
    ours = {"instruction", "input"} <= set(fields) and not _first(fields, _QUESTION[:4])
    if not options and _text(fields.get("final_decision")) in _DECISIONS:
        # PubMedQA as it is published.
        options, answer = {text: text for text in _DECISIONS}, _text(fields["final_decision"])
    else:
        answer = _answer(fields, options)
    if ours:
        row = {
            "id": row_id,
            "instruction": _text(fields["instruction"]) or INSTRUCTION,
            "input": _text(fields["input"]),
            "options": [{"key": key, "text": text} for key, text in options.items()],
            "answer_key": answer,
        }
        if not row["input"].strip():
            raise ValueError("its question is empty")
        return row_item(row, part)
    question = _first(fields, _QUESTION)
    if not question:
        raise ValueError(f"it has no question among its fields ({', '.join(list(fields)[:10])})")
    options, answer, instruction = _lettered(options, answer)
    item = ExamItem(row_id, question, options, answer, part, "", instruction, _first(fields, _CONTEXT))
    return replace(item, input=item.text())


def _options(fields: Mapping[str, Any]) -> dict[str, str]:
    found = next((fields[name] for name in _OPTIONS if fields.get(name) not in (None, "")), None)
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except ValueError:
            raise ValueError(f"options is {found[:60]!r}, no object of letters and texts") from None
    if isinstance(found, Mapping) and isinstance(found.get("text"), list):
        labels = found.get("label") or found.get("key") or list(LETTERS)
        pairs = list(zip(map(str, labels), found["text"], strict=False))
    elif isinstance(found, Mapping):
        pairs = [(str(key).strip(), value) for key, value in found.items() if value is not None]
    elif isinstance(found, list) and all(isinstance(o, Mapping) for o in found):
        pairs = [
            (str(o.get("key", o.get("label", ""))).strip(), o.get("text", o.get("value"))) for o in found
        ]
    elif isinstance(found, list):
        pairs = list(zip(LETTERS, found, strict=False))
    elif found is None:
        spread = next((names for names in _SPREAD if all(_text(fields.get(n)) for n in names[:2])), ())
        pairs = [(LETTERS[i], fields[n]) for i, n in enumerate(spread) if _text(fields.get(n))]
    else:
        raise ValueError(f"options is {str(found)[:60]!r}, no object of letters and texts")
    if len(dict(pairs)) < len(pairs):
        raise ValueError("two options have one letter")
    return {key: _text(text) for key, text in pairs}


def _answer(fields: Mapping[str, Any], options: Mapping[str, str]) -> Any:
    """The key of the right option: given as such, as a number from 0, or as the option's text."""
    given = [fields[n] for n in _ANSWER if fields.get(n) is not None and not isinstance(fields[n], bool)]
    for value in given:
        text = _text(value)
        if text in options:
            return text
        if text.isdecimal() and int(text) < len(options):
            return list(options)[int(text)]
        same = [key for key, option in options.items() if option == text]
        if len(same) == 1:
            return same[0]
    return _text(given[0]) if given else None


def _has_image(fields: Mapping[str, Any]) -> bool:
    values = [fields.get(name) for name in _IMAGE]
    no = ("", "0", "false", "no", "none", "null")
    return any(value.strip().lower() not in no if isinstance(value, str) else value for value in values)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):  # PubMedQA's context on the Hub
        value = value.get("contexts", list(value.values()))
    if isinstance(value, (list, tuple)):
        return "\n\n".join(_text(part) for part in value)
    return "" if value is None else str(value).strip()


def _first(fields: Mapping[str, Any], names: Iterable[str]) -> str:
    return next((text for text in (_text(fields.get(name)) for name in names) if text), "")
