"""Exams in files, in the forms that they are published in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from meadow.core.tables import records
from meadow.parse.options import INSTRUCTION
from meadow.score.items import LETTERS, WITH_IMAGE, ExamError, ExamItem, lettered, refuse, row_item

__all__ = ["name_of", "read_items"]

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
    options, answer, instruction = lettered(options, answer)
    item = ExamItem(row_id, question, options, answer, part, "", instruction, _first(fields, _CONTEXT))
    return ExamItem(row_id, question, options, answer, part, item.text(), instruction, item.context)


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
    for name in _IMAGE:
        value = fields.get(name)
        if isinstance(value, str):
            value = value.strip().lower() not in ("", "0", "false", "no", "none", "null")
        if value is not None and bool(value):
            return True
    return False


def _text(value: Any) -> str:
    if isinstance(value, Mapping):  # PubMedQA's context on the Hub
        value = value.get("contexts", list(value.values()))
    if isinstance(value, (list, tuple)):
        return "\n\n".join(_text(part) for part in value)
    return "" if value is None else str(value).strip()


def _first(fields: Mapping[str, Any], names: Iterable[str]) -> str:
    return next((text for text in (_text(fields.get(name)) for name in names) if text), "")
