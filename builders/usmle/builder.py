"""USMLE self assessment: the practice questions of the US medical licensing exam, as MedAlpaca was scored on.

Raw files as published for MedAlpaca (Han et al., 2023): ``stepN.json`` is a list of questions, each with
its number, ``stepN_solutions.json`` maps numbers to letters, and ``question_with_images.json`` lists the
questions that cannot be answered from their text alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import meadow
from meadow.parse.jsonfile import read_json
from meadow.parse.options import INSTRUCTION, as_options, question_text, read_options
from meadow.parse.records import UnusableRecordError, excerpt

_STEPS = ("step1", "step2", "step3")
_IMAGES = "question_with_images.json"
#: A published step is under 0.2 MB; a file of a hundred times that is something else.
_MAX_BYTES = 16 * 2**20

_EXAM = "https://www.usmle.org/prepare-your-exam"
_OWNERS = meadow.Author("Federation of State Medical Boards and National Board of Medical Examiners", _EXAM)
_LOOK = "Compare the question with the publisher's file, and repair or remove it."
_FETCH = "Fetch the file again from its publisher, or repair it."


class USMLE(meadow.Builder):
    """The USMLE self assessment: one dataset with a split for each step, to score models and never to train.

    Questions that need an image are left out by number. The numbers are those of
    ``question_with_images.json`` where it is there (it then decides for all steps, and a step that it does
    not name has no such question), else those of ``excluded.json``, the published lists, beside this module.
    """

    name = "usmle"
    version = "1.0.0"
    release_notes = {"1.0.0": "First version."}
    description = "Practice questions of the three steps of the US medical licensing exam, for scoring only."
    configs = ("usmle_self_assessment",)
    raw_files = (
        *(meadow.RawPattern(f"{step}.json", f"questions of {step}") for step in _STEPS),
        *(meadow.RawPattern(f"{step}_solutions.json", f"right letters of {step}", False) for step in _STEPS),
        meadow.RawPattern(_IMAGES, "numbers of the questions that need an image", False),
    )
    license = meadow.licenses.RIGHTS_RESERVED.because(
        "The questions are copyright of the Federation of State Medical Boards of the United States (FSMB) and "
        f"the National Board of Medical Examiners (NBME), who publish them for self assessment ({_EXAM}) and "
        "reserve all rights. No licence to redistribute them is known; the copy published for MedAlpaca names "
        "none. Use them to score models on your own machine, and do not publish the rows.",
        id="LicenseRef-USMLE-all-rights-reserved",
        name="All rights reserved (FSMB and NBME)",
        url=_EXAM,
    )
    homepage = "https://huggingface.co/datasets/medalpaca/medical_meadow_usmle_self_assessment"
    task = "multiple-choice"
    # Which questions need a picture is in a list of its own; the rest stay as they were published.
    quality = meadow.Quality(pictures=False)
    privacy = "flag"
    extra_features = {"step": "string", "number": "int64"}
    official_splits = _STEPS
    test_only = True

    def shards(self, raw: meadow.RawSource) -> Iterator[meadow.Shard | meadow.Rejected]:
        """One shard per step whose questions are there; and which files cannot be used."""
        files = {file.path.split("/", 1)[1].lower(): file for file in raw.files}
        excluded = json.loads((self.folder() / "excluded.json").read_text(encoding="utf-8"))
        images = files.get(_IMAGES)
        companions: tuple[meadow.RawFile, ...] = ()
        if images is not None:
            try:
                excluded, companions = _exclusions(images), (images,)
            except meadow.RawFileError as error:
                detail = f"{error.detail}; the published numbers are used instead"
                yield meadow.Rejected(error.reason, images.path, detail, error.remedy, file=images.path)
        for step in _STEPS:
            questions, solutions = files.get(f"{step}.json"), files.get(f"{step}_solutions.json")
            if questions is not None:
                args = {
                    "step": step,
                    "solutions": solutions is not None,
                    "excluded": tuple(excluded.get(step, ())),
                    # The sample was not written by the owners of the exam.
                    "authors": () if raw.sample else (_OWNERS,),
                }
                read = (questions, solutions) if solutions is not None else (questions,)
                yield meadow.Shard(step, (*read, *companions), self.configs, args)
            elif solutions is not None:
                path, detail, remedy = (
                    solutions.path,
                    f"there is no {step}.json",
                    f"Put {step}.json beside it.",
                )
                yield meadow.Rejected("solutions without questions", path, detail, remedy, file=path)

    def examples(self, shard: meadow.Shard) -> Iterator[meadow.Example | meadow.Rejected]:
        """Reads one step in the order of its file.

        Raises:
            RawFileError: The questions or the solutions are no JSON of the known form.
        """
        step, questions = shard.args["step"], shard.files[0]
        solutions = _solutions(shard.files[1]) if shard.args["solutions"] else {}
        records = read_json(questions, _MAX_BYTES)
        if not isinstance(records, list):
            raise _unknown_form(questions, "a list of questions", records)
        same: dict[int, list[Any]] = {}
        for record in records:
            same.setdefault(_number(record), []).append(record)
        for position, record in enumerate(records):
            number = _number(record)
            row_id = f"usmle/{step}/{number}" if number else f"{questions.path}[{position}]"
            try:
                _check_number(record, number, same)
                if number in shard.args["excluded"]:
                    raise UnusableRecordError("needs an image", f"question {number} of {step}", remedy="")
                yield _example(record, row_id, step, number, solutions, shard.args["authors"])
            except UnusableRecordError as why:
                remedy = _LOOK if why.remedy is None else why.remedy
                yield meadow.Rejected(why.reason, row_id, why.detail, remedy, excerpt(record))


def _unknown_form(file: meadow.RawFile, expected: str, found: Any) -> meadow.RawFileError:
    detail = f"expected {expected}, found {str(found)[:80]!r}"
    return meadow.RawFileError("unknown form of file", detail, _FETCH, file.path)


def _solutions(file: meadow.RawFile) -> dict[int, str]:
    found = read_json(file, _MAX_BYTES, unique=True)
    if not isinstance(found, dict):
        raise _unknown_form(file, 'an object like {"1": "C"}', found)
    solutions = {}
    for key, letter in found.items():
        if (number := _whole(key)) and isinstance(letter, str):
            solutions[number] = letter.strip()
        elif letter is not None:
            raise _unknown_form(file, 'an object like {"1": "C"}', {key: letter})
    return solutions


def _exclusions(file: meadow.RawFile) -> dict[str, list[int]]:
    """Reads the numbers of a step from the keys ``step1``, ``Step 1``, ``step_1`` or ``1``."""
    expected = 'an object like {"step1": [4, 7], "step2": [25]}'
    found = read_json(file, _MAX_BYTES, unique=True)
    if not isinstance(found, dict):
        raise _unknown_form(file, expected, found)
    out: dict[str, list[int]] = {}
    for key, numbers in found.items():
        name = re.fullmatch(r"(?:step)?[ _-]?([123])", key.strip(), re.IGNORECASE)
        if name is None or not isinstance(numbers, list) or not all(map(_whole, numbers)):
            raise _unknown_form(file, expected, {key: numbers})
        out.setdefault(f"step{name[1]}", []).extend(map(_whole, numbers))
    return out


def _whole(value: Any) -> int:
    """A question's number from 1, written as a number or in digits; 0 for anything else."""
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9 else 0


def _number(record: Any) -> int:
    return _whole(record.get("no")) if isinstance(record, dict) else 0


def _check_number(record: Any, number: int, same: Mapping[int, list[Any]]) -> None:
    if not isinstance(record, dict):
        raise UnusableRecordError("question is no object", f"it is a {type(record).__name__}")
    if not number:
        raise UnusableRecordError("question without a number", f"no is {str(record.get('no'))[:40]!r}")
    first, *others = same[number]
    if any(other != first for other in others):
        # One published letter cannot be told to belong to either of them.
        detail = f"{len(others) + 1} different questions are number {number}"
        raise UnusableRecordError("duplicate number", detail)
    if record is not first:
        detail = f"question {number} is there {len(others) + 1} times"
        raise UnusableRecordError("duplicate number", detail, remedy="")


def _example(
    record: dict[str, Any],
    row_id: str,
    step: str,
    number: int,
    solutions: Mapping[int, str],
    authors: tuple[meadow.Author, ...],
) -> meadow.Example:
    question = record.get("question")
    if not isinstance(question, str) or not question.strip():
        raise UnusableRecordError("question without text", f"question is {str(question)[:40]!r}")
    options = read_options(record.get("options"))
    if number not in solutions:
        detail = f"{step}_solutions.json names no letter for question {number}"
        raise UnusableRecordError("no published answer", detail, f"Add the letter to {step}_solutions.json.")
    letter = solutions[number]
    if letter not in options:
        detail = f"the answer {letter[:20]!r} is none of {', '.join(options)}"
        raise UnusableRecordError("answer is no option", detail)
    return meadow.Example(
        id=row_id,
        instruction=INSTRUCTION,
        input=question_text(question.strip(), options),
        output=f"{letter}: {options[letter]}",
        group=row_id,
        options=as_options(options),
        answer_key=letter,
        authors=authors,
        split=step,
        extra={"step": step, "number": number},
    )
