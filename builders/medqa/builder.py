"""MedQA: US medical licensing exam questions (Jin et al., 2021), with five and with four options.

The publisher gives JSON lines in three splits, each in two files: ``questions/US/dev.jsonl`` has five
options, ``questions/US/4_options/phrases_no_exclude_dev.jsonl`` the same questions without one wrong
option and with MetaMap's phrases. Both come in ``data_clean.zip``, which is read without unpacking it.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import meadow
from meadow.parse.options import INSTRUCTION, as_options, question_text, read_options
from meadow.parse.records import UnusableRecordError, excerpt, second_copy, unusable_file

#: The publisher's names of the splits, in order, and ours.
_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
#: The path of each dataset's file below ``questions/US``, and what stands before the hash in its row ids.
_CONFIGS = {
    "medqa": ("{split}.jsonl", "medqa/us/"),
    "medqa_4_options": ("4_options/phrases_no_exclude_{split}.jsonl", "medqa/us-4/"),
}
#: A file of ours, loose or in an archive, below whatever folder; the rest of the archive (textbooks,
#: Mainland China, Taiwan, the unsplit US_qbank.jsonl) does not match.
_PATH = re.compile(
    r"(?:.*/)?questions/US/(?P<four>4_options/phrases_no_exclude_)?(?P<split>train|dev|test)\.jsonl(?P<packed>\.\w+)?",
    re.IGNORECASE,
)
_PACKED = (".gz", ".zst", ".bz2", ".xz")
_REPOSITORY = "https://github.com/jind11/MedQA"
_COMPILERS = meadow.Author(
    "Di Jin, Eileen Pan, Nassim Oufattole, Wei-Hung Weng, Hanyi Fang and Peter Szolovits (MedQA)", _REPOSITORY
)
_LOOK = "Compare the record with the publisher's data_clean.zip, and repair or remove it."


class MedQA(meadow.Builder):
    """The US part of MedQA: `medqa` with five options, `medqa_4_options` with four.

    Where several files hold the same split, one is read: a loose file before an archive, plain before
    compressed, then by path. The others are listed as left out, so that no question counts twice.
    """

    name = "medqa"
    version = "1.0.0"
    release_notes = {"1.0.0": "First version."}
    description = (
        "Multiple-choice questions in the style of the US medical licensing exam, in official splits."
    )
    configs = tuple(_CONFIGS)
    raw_files = (
        *(
            meadow.RawPattern(
                f"**/questions/US/{name.format(split=split)}{ending}", f"{config}, {_SPLITS[split]}"
            )
            for config, (name, _) in _CONFIGS.items()
            for split in _SPLITS
            for ending in ("", ".*")
        ),
        meadow.RawPattern("**/*.zip", "the publisher's archive data_clean.zip, all splits of both datasets"),
    )
    license = meadow.licenses.DISPUTED.because(
        f"The publisher's repository, {_REPOSITORY}, holds the MIT License (Copyright (c) 2022 Di Jin) in its "
        "file LICENSE. Whether that notice covers the questions is disputed: they are exam questions that the "
        "publisher collected, no permission of their owners is on record, and the request to say which sources "
        f"the notice covers is open ({_REPOSITORY}/issues/19). Treat the text as not cleared for redistribution.",
        id="LicenseRef-MedQA-disputed",
        name="MIT notice on the repository, origin of the questions disputed",
        url=_REPOSITORY,
        attribution=True,
    )
    homepage = _REPOSITORY
    task = "multiple-choice"
    # Models are scored on these splits as they were published, so a question whose picture is missing stays, and
    # is counted.
    quality = meadow.Quality(pictures=False)
    privacy = "flag"
    extra_features = {"meta_info": "string"}
    official_splits = tuple(_SPLITS.values())

    def configs_of(self, raw: meadow.RawSource) -> tuple[str, ...]:
        """The datasets that at least one file is there for; both where no file can be used."""
        chosen, _ = _choose(raw)
        return tuple(c for c in self.configs if any(config == c for config, _ in chosen)) or self.configs

    def shards(self, raw: meadow.RawSource) -> Iterator[meadow.Shard | meadow.Rejected]:
        """One shard per dataset and split, the test split first; and what cannot be used or is a copy.

        Of two records with one id the first stays: a question that stands in two splits stays in the exam.
        """
        chosen, rejected = _choose(raw)
        yield from rejected
        # The sample was not written by the people who compiled MedQA.
        authors = () if raw.sample else (_COMPILERS,)
        for config, (_, prefix) in _CONFIGS.items():
            for split in sorted(_SPLITS, key=lambda name: _SPLITS[name] != "test"):
                place = chosen.get((config, split))
                if place is not None:
                    row = {"split": _SPLITS[split], "prefix": prefix, "authors": authors}
                    args = {"member": place.member, "path": place.path, "row": row}
                    yield meadow.Shard(f"{config}/{_SPLITS[split]}", (place.file,), (config,), args)

    def examples(self, shard: meadow.Shard) -> Iterator[meadow.Example | meadow.Rejected]:
        """Reads one split, line by line.

        Raises:
            RawFileError: The file or the member is damaged; named, so that others of an archive are read.
        """
        file, member, path = shard.files[0], shard.args["member"], shard.args["path"]
        try:
            with ExitStack() as stack:
                opened = stack.enter_context(meadow.ZipArchive(file)).open(member) if member else file.open()
                for number, record in meadow.json_lines(stack.enter_context(opened)):
                    try:
                        yield _example(record, **shard.args["row"])
                    except UnusableRecordError as why:
                        text = record.excerpt if isinstance(record, meadow.BadRecord) else excerpt(record)
                        yield meadow.Rejected(why.reason, f"{path}:{number}", why.detail, _LOOK, text)
        except meadow.RawFileError as error:
            raise meadow.RawFileError(error.reason, error.detail, error.remedy, path) from error


@dataclass(frozen=True, order=True, slots=True)
class _Place:
    """Where a split's file lies; of several, the least is read.

    A loose file is what a person put there on purpose, after the archive.
    """

    in_archive: bool
    packed: bool
    path: str  # in the raw store, a member after an exclamation mark
    file: meadow.RawFile = field(compare=False)
    member: str = field(default="", compare=False)


def _choose(raw: meadow.RawSource) -> tuple[dict[tuple[str, str], _Place], list[meadow.Rejected]]:
    """The file to read for each dataset and the publisher's name of a split, and why others are not."""
    places: defaultdict[tuple[str, str], list[_Place]] = defaultdict(list)
    rejected: list[meadow.Rejected] = []

    def add(match: re.Match[str], file: meadow.RawFile, member: str = "") -> None:
        config = "medqa_4_options" if match["four"] else "medqa"
        path = f"{file.path}!{member}" if member else file.path
        place = _Place(bool(member), file.name.lower().endswith(_PACKED), path, file, member)
        places[config, match["split"].lower()].append(place)

    def strange(file: meadow.RawFile, detail: str) -> None:
        remedy = "Use the publisher's files under their own names, or take this one away."
        rejected.append(
            meadow.Rejected("no MedQA questions in the file", file.path, detail, remedy, file=file.path)
        )

    for file in raw.files:
        if file.suffix == ".zip":
            try:
                with meadow.ZipArchive(file) as archive:
                    # A name that an archive holds twice reads as its last member either way.
                    names = dict.fromkeys(archive.names())
            except meadow.RawFileError as error:
                rejected.append(unusable_file(error, path=file.path))
                continue
            found = {name: m for name in names if (m := _PATH.fullmatch(name)) and not m["packed"]}
            for name, match in found.items():
                add(match, file, name)
            if not found:
                strange(file, "it holds no questions/US/{train,dev,test}.jsonl")
        elif (match := _PATH.fullmatch(file.path)) and (match["packed"] or ".gz").lower() in _PACKED:
            add(match, file)
        else:
            strange(file, f"known endings are .jsonl and .jsonl{'/'.join(_PACKED)}")
    chosen = {}
    for key, candidates in places.items():
        chosen[key], *others = sorted(candidates)
        detail = f"{chosen[key].path} holds the same split and is read instead"
        remedy = "Nothing, if they are the same; otherwise keep the one you want."
        rejected += [second_copy(other.path, detail, remedy, other.file, key[:1]) for other in others]
    return chosen, rejected


def _example(record: Any, split: str, prefix: str, authors: tuple[meadow.Author, ...]) -> meadow.Example:
    if isinstance(record, meadow.BadRecord):
        raise UnusableRecordError("line is no JSON record", record.detail)
    if not isinstance(record, dict):
        raise UnusableRecordError("line is no JSON record", f"it is a {type(record).__name__}, not an object")
    question, answer, letter = (_text(record, key) for key in ("question", "answer", "answer_idx"))
    if record.get("options") is None:
        raise UnusableRecordError("missing field", "options")
    options = read_options(record["options"])
    if letter not in options:
        detail = f"answer_idx {letter[:20]!r} is none of {', '.join(options)}"
        raise UnusableRecordError("answer is no option", detail)
    if answer != options[letter]:
        detail = f"answer is {answer[:80]!r}, option {letter} is {options[letter][:80]!r}"
        raise UnusableRecordError("answer text does not match its option", detail)
    meta_info = record.get("meta_info")
    if meta_info is not None and not isinstance(meta_info, str):
        raise UnusableRecordError("field is no text", "meta_info")
    normal = _normal(question)
    return meadow.Example(
        id=prefix + _hash(normal, *sorted(map(_normal, options.values())), _normal(answer)),
        instruction=INSTRUCTION,
        input=question_text(question, options),
        output=f"{letter}: {answer}",
        # The same in both datasets, so that a question can be kept on one side in mixtures of them too.
        group=f"medqa/question/{_hash(normal)}",
        options=as_options(options),
        answer_key=letter,
        authors=authors,
        split=split,
        extra={"meta_info": meta_info},
    )


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if value is None:
        raise UnusableRecordError("missing field", key)
    if not isinstance(value, str):
        raise UnusableRecordError("field is no text", f"{key} is a {type(value).__name__}")
    value = value.strip()
    if not value:
        raise UnusableRecordError("empty field", key)
    return value


def _normal(text: str) -> str:
    """Text as ids and groups see it: compatibility forms, case and spacing make no difference."""
    return " ".join(unicodedata.normalize("NFKC", text).split()).casefold()


def _hash(*parts: str) -> str:
    # No part holds a newline any more, so it separates them without ambiguity. A lone surrogate gets a
    # hash too: the build then rejects the row by its id.
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
