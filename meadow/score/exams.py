"""The items of an exam: a built multiple-choice dataset's evaluation split, or a file.

Either the whole exam can be used or nothing is scored: an accuracy over fewer items than the exam has, with
nobody told which are missing, could not be compared with any other. What can be known beforehand to have no
place in a score, questions that need a picture, is left out and counted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meadow.parse.options import INSTRUCTION, question_text

if TYPE_CHECKING:
    from meadow.core.store import Store

__all__ = ["Exam", "ExamError", "Item", "read_exam"]

#: Why an item is left out: its question cannot be answered from the text alone.
WITH_IMAGE = "with image"
_NEEDS_IMAGE = "needs an image"  # what builders write into rejected.parquet
#: Items that a message names before it counts the rest.
_MOST = 20
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

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


class ExamError(Exception):
    """An exam that cannot be used as it is.

    Attributes:
        problems: What is wrong, a sentence each with the id of its item; empty where the exam as a whole is.
    """

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        self.problems = tuple(problems)
        lines = [f"  {line}" for line in self.problems[:_MOST]]
        if len(self.problems) > _MOST:
            lines.append(f"  and {len(self.problems) - _MOST} more")
        super().__init__("\n".join([message, *lines]))


@dataclass(frozen=True)
class Item:
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

    def text(self, options: Mapping[str, str] | None = None) -> str:
        """The question as a prompt holds it: question, context, and a line ``X: text`` for each option.

        Args:
            options: Other options in place of its own, such as the same in another order.
        """
        asked = f"{self.question}\n\n{self.context}" if self.context else self.question
        return question_text(asked, self.options if options is None else options)


@dataclass(frozen=True)
class Exam:
    """An exam.

    Attributes:
        name: The dataset's name, or the file's without its ending.
        version: The dataset's version; empty for a file.
        items: Its items, part after part.
        excluded: How many items are left out, by reason.
        excluded_parts: The same for each part of which that is known.
        sample: Whether it is the small embedded sample in place of the real exam.
        ids_sha256: SHA-256 over the sorted ids with a newline between, as manifests have it.
        items_sha256: SHA-256 over all that is in the items; another edition of the exam has another.
        license: Licences of its rows.
        checked_as: SHA-256 of each part as contamination reports give it of the exam that they checked.
        whole: How many items there are without a limit.
    """

    name: str
    version: str
    items: tuple[Item, ...]
    excluded: Mapping[str, int] = field(default_factory=dict)
    excluded_parts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    sample: bool = False
    ids_sha256: str = ""
    license: str = ""
    items_sha256: str = ""
    checked_as: Mapping[str, str] = field(default_factory=dict)
    whole: int = 0

    def __post_init__(self) -> None:
        # So that one made by hand, of items alone, is as complete as one that was read.
        if not self.ids_sha256:
            ids = "\n".join(sorted(item.id for item in self.items))
            object.__setattr__(self, "ids_sha256", hashlib.sha256(ids.encode()).hexdigest())
        if not self.items_sha256:
            lines = sorted(
                json.dumps([i.id, i.part, i.question, i.context, list(i.options.items()), i.answer_key])
                for i in self.items
            )
            object.__setattr__(self, "items_sha256", hashlib.sha256("\n".join(lines).encode()).hexdigest())
        if not self.whole:
            object.__setattr__(self, "whole", len(self.items))

    @property
    def title(self) -> str:
        """Name and version, as reports show it."""
        return f"{self.name} {self.version}".strip()

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts in order."""
        return tuple(dict.fromkeys(item.part for item in self.items))

    def described(self) -> dict[str, Any]:
        """What ``scores.json`` says of it."""
        return {
            "name": self.name,
            "version": self.version,
            "sample": self.sample,
            "license": self.license,
            "items": len(self.items),
            "whole": self.whole,
            "parts": dict(Counter(item.part for item in self.items)),
            "excluded": dict(self.excluded),
            "excluded_parts": {part: dict(counts) for part, counts in self.excluded_parts.items()},
            "ids_sha256": self.ids_sha256,
            "items_sha256": self.items_sha256,
        }


def read_exam(
    name_or_file: str | Path,
    *,
    out: Path | str | None = None,
    split: str | None = None,
    limit: int | None = None,
) -> Exam:
    """Reads an exam.

    Args:
        name_or_file: A multiple-choice dataset of Meadow's (``usmle_self_assessment``, ``medqa``, ``medqa@1.0.0``,
            ``pubmedqa``), which is built first if it is not; or a file in JSON lines, JSON, Parquet or CSV with a
            question, options and an answer in each record.
        out: The output folder; None for ``$MEADOW_OUT`` or the user's cache.
        split: The split of a dataset; without it all splits of an exam, else ``test``.
        limit: At most so many items, the first of each part in turn; for trying things out.

    Raises:
        ExamError: There is no such exam, or it has items that cannot be scored; the message names them.
    """
    if limit is not None and limit < 1:
        raise ExamError(f"a limit of {limit} items leaves nothing to score; give 1 or more")
    name, path = str(name_or_file), Path(name_or_file)
    looks_like_file = path.suffix.lower() in (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv", ".gz")
    if path.is_file() or looks_like_file:
        if split is not None:
            raise ExamError(f"{name}: a file has no splits; leave the split out")
        exam = _of_file(path)
    elif path.is_dir():
        raise ExamError(f"{name}: it is a folder; name a dataset, or give one file of it")
    else:
        exam = _of_dataset(name, out, split)
    return exam if limit is None else _limited(exam, limit)


def _limited(exam: Exam, limit: int) -> Exam:
    if limit >= len(exam.items):
        return exam
    by_part = {part: [i for i in exam.items if i.part == part] for part in exam.parts}
    kept: set[str] = set()
    for turn in range(len(exam.items)):
        for items in by_part.values():
            if turn < len(items) and len(kept) < limit:
                kept.add(items[turn].id)
    return Exam(
        exam.name, exam.version, tuple(i for i in exam.items if i.id in kept), exam.excluded,
        exam.excluded_parts, exam.sample, license=exam.license, checked_as=exam.checked_as, whole=exam.whole,
    )  # fmt: skip


# ---- datasets ----


def _of_dataset(name: str, out: Path | str | None, split: str | None) -> Exam:
    from meadow.core.store import Store, StoreError, default_out
    from meadow.filters.contamination import built_exams

    name, _, version = name.partition("@")
    store = Store(Path(out) if out else default_out())
    manifest = _manifest(store, name, version or None)
    files = store.files(name, manifest["version"])
    if split is not None and split not in files:
        raise ExamError(f"{name} {manifest['version']} has no split {split}; it has: {', '.join(files)}")
    chosen = [split] if split else [s for s in files if manifest.get("test_only") or s == "test"]
    if not chosen:
        raise ExamError(f"{name} has no test split; name one of its splits: {', '.join(files)}")
    if "options" not in manifest["features"]:
        raise ExamError(f"{name} has no options; give a multiple-choice dataset")
    items: list[Item] = []
    problems: list[str] = []
    for part in chosen:
        for row in _rows(files[part]):
            try:
                items.append(_row_item(row, part))
            except ValueError as error:
                problems.append(f"{row['id']}: {error}")
    _refuse(f"{name} {manifest['version']}", problems)
    if not items:
        raise ExamError(f"{name} {manifest['version']}: {', '.join(chosen)} holds no item; build it again")
    folder = store.folder(name, manifest["version"])
    excluded_parts = _excluded(folder, chosen, bool(manifest.get("test_only")))
    excluded: Counter = Counter()
    for counts in excluded_parts.values():
        excluded.update(counts)
    try:
        checked = {
            source.split: _checked_as(source.items)
            for source in built_exams(store, name)
            if source.version == manifest["version"]
        }
    except StoreError:
        checked = {}
    return Exam(
        name,
        manifest["version"],
        tuple(items),
        dict(excluded),
        {part: dict(counts) for part, counts in excluded_parts.items() if counts},
        bool(manifest.get("sample")),
        license=", ".join(manifest["licenses"]),
        checked_as={part: sha for part, sha in checked.items() if part in chosen},
    )


def _manifest(store: Store, name: str, version: str | None) -> dict[str, Any]:
    from meadow.core.store import StoreError

    try:
        return store.manifest(name, version)
    except StoreError as error:
        if store.versions(name):
            raise ExamError(str(error)) from error
    # As the loader does: what is not there is built, from raw files or else from the sample, and it says so.
    from meadow.api import MeadowDatasets

    try:
        MeadowDatasets(config_name=name, dataset_name="meadow", version=version, out=str(store.root))
        return store.manifest(name, version)
    except (StoreError, ValueError, OSError) as error:
        raise ExamError(
            f"{name}: no file has this name, and it is no dataset that can be read or built: {error}"
        ) from error


def _rows(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    names = ("id", "instruction", "input", "options", "answer_key")
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1_000, columns=list(names)):
                yield from batch.to_pylist()


def _checked_as(items: Iterable[Any]) -> str:
    # What `meadow.filters.contamination.Index.build` writes as an exam's sha256.
    lines = sorted(json.dumps(list(item), ensure_ascii=True) for item in {i.id: i for i in items}.values())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _excluded(folder: Path, parts: Iterable[str], test_only: bool) -> dict[str, Counter]:
    """What was left out of the parts when the dataset was built, by reason.

    ``rejected.parquet`` has no column for the split; an exam's id names it, or the file that the record stood in.
    """
    import pyarrow.parquet as pq

    from meadow.core.store import REJECTED

    found: dict[str, Counter] = {part: Counter() for part in parts}
    path = folder / REJECTED
    if not path.is_file():
        return found
    for row in pq.read_table(path, columns=["id", "reason", "file"]).to_pylist():
        where = f"{row['id']}\n{row['file'] if test_only else ''}"
        for part, counts in found.items():
            # A file that is left out as a whole has its path as id, and is no item.
            if row["id"] != row["file"] and re.search(rf"(^|[/_]){re.escape(part)}([/.]|$)", where, re.M):
                counts[WITH_IMAGE if row["reason"] == _NEEDS_IMAGE else row["reason"]] += 1
                break
    return found


def _row_item(row: Mapping[str, Any], part: str) -> Item:
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
    return Item(row["id"], question, options, answer, part, written, instruction, context)


def _lettered(
    options: Mapping[str, str], answer: Any, instruction: str = INSTRUCTION
) -> tuple[Mapping[str, str], str, str]:
    """Checks options and answer, and gives letters to options that are known by their text (yes, no, maybe).

    Raises:
        ValueError: They cannot be scored.
    """
    if len(options) < 2:
        raise ValueError(f"it has {'one option' if options else 'no options'}; two are needed")
    key = "" if answer is None else str(answer).strip()
    if all(k.strip().casefold() == text.strip().casefold() for k, text in options.items()):
        if key not in options:
            raise ValueError(f"the answer {key[:40]!r} is none of its options {', '.join(options)}")
        letters = dict(zip(options, _LETTERS, strict=False))
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


# ---- files ----


def _of_file(path: Path) -> Exam:
    from meadow.filters.contamination import read_exam as read_source
    from meadow.filters.contamination.reading import records

    if not path.is_file():
        raise ExamError(f"{path}: there is no such file; give an exam's file, or the name of a dataset")
    name = path.name.removesuffix(".gz")
    name = name[: -len(Path(name).suffix)] if Path(name).suffix else name
    items: list[Item] = []
    problems: list[str] = []
    excluded: dict[str, Counter] = {}
    seen: dict[str, str] = {}
    try:
        for place, record in records(path):
            if not isinstance(record, Mapping):
                problems.append(f"record {place}: it is no object of named fields")
                continue
            fields = {str(key).strip().lower(): value for key, value in record.items()}
            given = _first(fields, _ID)
            row_id, called = given or place, given or f"record {place}"
            part = _first(fields, _PART) or name
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
    _refuse(str(path), problems)
    if not items:
        left = sum(sum(counts.values()) for counts in excluded.values())
        why = f"; all {left} need an image" if left else ""
        raise ExamError(f"{path}: it holds no item that can be scored{why}")
    try:
        # As contamination reports name and check it, whatever parts it has.
        source = read_source(path)
        exam_name, checked_as = source.name, {"": _checked_as(source.items)}
    except (ValueError, TypeError):
        exam_name, checked_as = name, {}
    # Parts one after the other, in the order of the file.
    parts = tuple(dict.fromkeys(item.part for item in items))
    items.sort(key=lambda item: parts.index(item.part))
    total = sum(excluded.values(), Counter())
    return Exam(
        exam_name,
        "",
        tuple(items),
        dict(total),
        {part: dict(counts) for part, counts in excluded.items()},
        checked_as=checked_as,
    )


def _record_item(fields: Mapping[str, Any], row_id: str, part: str) -> Item:
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
        return _row_item(row, part)
    question = _first(fields, _QUESTION)
    if not question:
        raise ValueError(f"it has no question among its fields ({', '.join(list(fields)[:10])})")
    options, answer, instruction = _lettered(options, answer)
    item = Item(row_id, question, options, answer, part, "", instruction, _first(fields, _CONTEXT))
    return Item(row_id, question, options, answer, part, item.text(), instruction, item.context)


def _options(fields: Mapping[str, Any]) -> dict[str, str]:
    found = next((fields[name] for name in _OPTIONS if fields.get(name) not in (None, "")), None)
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except ValueError:
            raise ValueError(f"options is {found[:60]!r}, no object of letters and texts") from None
    if isinstance(found, Mapping) and isinstance(found.get("text"), list):
        labels = found.get("label") or found.get("key") or list(_LETTERS)
        pairs = list(zip(map(str, labels), found["text"], strict=False))
    elif isinstance(found, Mapping):
        pairs = [(str(key).strip(), value) for key, value in found.items() if value is not None]
    elif isinstance(found, list) and all(isinstance(o, Mapping) for o in found):
        pairs = [
            (str(o.get("key", o.get("label", ""))).strip(), o.get("text", o.get("value"))) for o in found
        ]
    elif isinstance(found, list):
        pairs = list(zip(_LETTERS, found, strict=False))
    elif found is None:
        spread = next((names for names in _SPREAD if all(_text(fields.get(n)) for n in names[:2])), ())
        pairs = [(_LETTERS[i], fields[n]) for i, n in enumerate(spread) if _text(fields.get(n))]
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


def _refuse(what: str, problems: list[str]) -> None:
    if problems:
        many = "1 item cannot" if len(problems) == 1 else f"{len(problems)} items cannot"
        raise ExamError(f"{what}: {many} be scored; repair or remove them (nothing was scored):", problems)
