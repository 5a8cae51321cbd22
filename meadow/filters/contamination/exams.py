"""Exams and their items: users' files in the forms that evaluation sets are published in, and built datasets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from meadow.core.tables import ENDINGS, QUESTIONS, ending, records

if TYPE_CHECKING:
    from meadow.core.store import Store

#: The columns of our rows that `row_item` reads.
ITEM_COLUMNS = ("id", "input", "output", "options", "answer_key")
# Names of columns, in order of preference, without regard to case.
_CONTEXT = ("context", "contexts", "passage", "abstract")
_OPTIONS = ("options", "choices", "answers", "mc_answers")
_ANSWER = ("long_answer", "answer", "output", "answer_text", "final_decision", "response", "reference")
_LETTER = ("answer_key", "answer_idx", "answerkey", "cop", "label", "correct", "target", "answer")
_ID = ("id", "qid", "question_id", "pmid", "no", "uid")
_SPREAD = (
    ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j"),
    ("opa", "opb", "opc", "opd", "ope"),
    ("ending0", "ending1", "ending2", "ending3", "ending4"),
    ("option_a", "option_b", "option_c", "option_d", "option_e"),
    ("option1", "option2", "option3", "option4", "option5"),
)
_LETTERS = "ABCDEFGHIJ"
_NO_INPUT = frozenset(("", "<noinput>"))
#: Names that say nothing without the folder's: ``mmlu/test``.
_VAGUE = frozenset(("test", "dev", "validation", "val", "eval", "data", "train", "questions", "exam"))


class ExamText(NamedTuple):
    """One question of an exam.

    Attributes:
        id: Unique in its exam.
        question: The question without its options and without the text that it is about.
        options: The texts of the choices, if it has any.
        answer: The right answer's text; empty where nobody tells it.
        context: The text that the question is about, such as an abstract.
    """

    id: str
    question: str
    options: tuple[str, ...] = ()
    answer: str = ""
    context: str = ""


@dataclass(frozen=True)
class ExamSource:
    """Where the items of an exam come from; `Index.build` reads them once.

    Attributes:
        name: The exam's name: a dataset of ours or a file's name.
        version: Its version; empty for a file.
        split: Which of its splits; empty for a file.
        sample: Whether it is an embedded sample in place of the real exam.
        items: Its items.
    """

    name: str
    version: str
    split: str
    sample: bool
    items: Iterable[ExamText]


def read_exam(path: str | Path) -> ExamSource:
    """Reads an evaluation set that Meadow did not build: a file, or a folder of such files.

    Read are JSON lines, JSON (a list of records, or an object of records), Parquet and CSV; a CSV without a
    header line as MMLU publishes it (question, options, letter). Columns go by their usual names:
    question/input/query/..., options/choices or A to J, answer/output/..., context; PubMedQA's, MedQA's,
    MedMCQA's and those of rows built by Meadow are among them.

    Args:
        path: The file or folder; its name becomes the exam's.

    Raises:
        ValueError: It is not there, is damaged, or holds no questions; with file, line and remedy.
    """
    path = Path(path)
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and ending(file))
        if not files:
            raise ValueError(f"{path}: it holds no exam; put files into it that end in {', '.join(ENDINGS)}")
    elif not path.is_file():
        raise ValueError(f"{path}: there is no such file; give an exam's file or folder")
    items: list[ExamText] = []
    for file in files:
        prefix = f"{file.relative_to(path).as_posix()}:" if path.is_dir() else ""
        items += _numbered(prefix, _items(file))
    name = path.resolve().name.removesuffix(".gz")
    if not path.is_dir():
        name = name[: len(name) - len(next((e for e in ENDINGS if name.lower().endswith(e)), ""))]
    if not items:
        raise ValueError(f"{path}: it holds no question")
    if name.lower() in _VAGUE and path.resolve().parent.name:
        name = f"{path.resolve().parent.name}/{name}"
    return ExamSource(name or path.name, "", "", False, tuple(items))


def built_exams(store: Store, name: str) -> Iterator[ExamSource]:
    """The evaluation splits of a dataset that was built earlier: all of an exam's, else ``test``.

    Args:
        store: The output folder.
        name: The dataset.

    Raises:
        meadow.core.store.StoreError: It is not built.
    """
    manifest = store.manifest(name)
    files = store.files(name, manifest.version)
    for split in manifest.exam_splits():
        yield ExamSource(name, manifest.version, split, manifest.sample, map(row_item, _rows(files[split])))


def row_item(row: Mapping[str, Any]) -> ExamText:
    """The exam item in a row of ours: `input` is the question, with its options or its abstract behind it."""
    options = tuple(option["text"] for option in row.get("options") or ())
    question, answer, context = row["input"] or "", row["output"] or "", ""
    listed = "\n\n" + "\n".join(f"{o['key']}: {o['text']}" for o in row.get("options") or ())
    if options and question.endswith(listed):
        question = question[: -len(listed)]
    head, _, rest = question.partition("\n\n")
    # A question in front of the text that it is about; a vignette has its question at its end.
    if rest and head.rstrip().endswith("?") and len(rest) > len(head):
        question, context = head, rest
    chosen = {o["key"]: o["text"] for o in row.get("options") or ()}.get(row.get("answer_key"))
    if chosen is not None and answer == f"{row['answer_key']}: {chosen}":
        answer = chosen
    return ExamText(row["id"], question, options, answer, context)


def _rows(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    for path in paths:
        with pq.ParquetFile(path) as file:
            there = [name for name in ITEM_COLUMNS if name in file.schema_arrow.names]
            for batch in file.iter_batches(batch_size=1_000, columns=there):
                yield from batch.to_pylist()


def _numbered(prefix: str, items: Iterable[tuple[str, ExamText]]) -> Iterator[ExamText]:
    seen: dict[str, ExamText] = {}
    for line, item in items:
        found = item._replace(id=f"{prefix}{item.id or line}")
        if seen.setdefault(found.id, found) != found:
            found = found._replace(id=f"{found.id}@{line}")
        yield found


def _items(file: Path) -> Iterator[tuple[str, ExamText]]:
    for place, record in records(file):
        if not isinstance(record, Mapping):
            raise ValueError(f"{file}, record {place}: it is no object of named fields; repair or remove it")
        try:
            item = _item(record)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"{file}, record {place}: {error}; repair or remove it") from error
        if item is None:
            fields = ", ".join(map(str, list(record)[:12]))
            raise ValueError(
                f"{file}, record {place}: no question among its fields ({fields}); name one of them question"
            )
        yield place, item


def _item(record: Mapping[str, Any]) -> ExamText | None:
    by_name = {str(key).lower(): value for key, value in record.items()}
    if {"input", "output", "instruction"} <= set(by_name) and "question" not in by_name:
        ours = by_name.get("options")
        if not ours or (isinstance(ours, list) and all(isinstance(o, dict) and "key" in o for o in ours)):
            if _text(by_name["input"]).strip().lower() in _NO_INPUT:
                by_name["input"] = by_name["instruction"]
            row = {k: by_name.get(k) for k in ("options", "answer_key")}
            texts = {k: _text(by_name[k]) for k in ("input", "output")}
            return row_item({**row, **texts, "id": _text(by_name.get("id"))})
    question = _first(by_name, QUESTIONS)
    if not question.strip():
        return None
    found = next((by_name[name] for name in _OPTIONS if by_name.get(name)), None)
    options = _options(found)
    for names in _SPREAD:
        if not options and by_name.get(names[0]) is not None and by_name.get(names[1]) is not None:
            options = {
                _LETTERS[i]: _text(by_name[name])
                for i, name in enumerate(names)
                if by_name.get(name) not in (None, "")
            }
    answer = _first(by_name, _ANSWER)
    if options:
        # The letter or the number of the right one, unless the answer's text stands there itself.
        letters = [by_name[name] for name in _LETTER if by_name.get(name) is not None]
        chosen = [text for text in (_chosen(letter, options) for letter in letters) if text]
        answer = answer if answer in options.values() else next(iter(chosen), answer)
    context = _first(by_name, _CONTEXT)
    return ExamText(_first(by_name, _ID), question, tuple(options.values()), answer, context)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):  # PubMedQA's context on the Hub
        value = value.get("contexts", list(value.values()))
    if isinstance(value, (list, tuple)):
        return "\n\n".join(_text(part) for part in value)
    return "" if value is None else str(value)


def _first(by_name: Mapping[str, Any], names: Iterable[str]) -> str:
    return next((text for text in (_text(by_name.get(name)) for name in names) if text.strip()), "")


def _options(found: Any) -> dict[str, str]:
    if isinstance(found, str) and found.lstrip().startswith(("{", "[")):
        try:
            found = json.loads(found)
        except ValueError:
            return {}
    if isinstance(found, Mapping) and isinstance(found.get("text"), list):  # ARC: texts and labels
        labels = found.get("label") or list(_LETTERS)
        return {str(k): _text(text) for k, text in zip(labels, found["text"], strict=False)}
    if isinstance(found, Mapping):
        return {str(key): _text(text) for key, text in found.items()}
    if not isinstance(found, (list, tuple)):
        return {}
    for name in ("text", "value"):
        if all(isinstance(option, Mapping) and name in option for option in found):
            letters = zip(found, _LETTERS * (len(found) // 10 + 1), strict=False)
            return {str(o.get("key", o.get("label", letter))): _text(o[name]) for o, letter in letters}
    return {_LETTERS[i] if i < 10 else str(i): _text(option) for i, option in enumerate(found)}


def _chosen(letter: Any, options: Mapping[str, str]) -> str:
    if isinstance(letter, (list, tuple, Mapping, bool)):
        return ""
    key = str(letter).strip()
    if key in options:
        return options[key]
    if key.isdecimal() and int(key) < len(options):
        return list(options.values())[int(key)]
    return ""
