"""PubMedQA: questions that are titles of PubMed articles, answered from the rest of the abstract.

The publisher's three files are JSON objects keyed by PMID: PQA-L (labelled by experts), PQA-A (questions
made from statements in titles, by rules) and PQA-U (no label). The two large ones are read as a
stream, so memory does not depend on their size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import meadow
from meadow.parse.jsonfile import json_entries, read_json
from meadow.parse.records import UnusableRecordError, second_copy, unusable_file

#: The publisher's file of each dataset, with what stands between source and PMID in its row ids.
_FILES = {
    "pubmedqa": ("ori_pqal.json", ""),
    "pubmedqa_artificial": ("ori_pqaa.json", "artificial/"),
    "pubmedqa_unlabeled": ("ori_pqau.json", "unlabeled/"),
}
_TEST_IDS = "test_ground_truth.json"
_REPOSITORY = "https://github.com/pubmedqa/pubmedqa"
_ANSWERS = ("yes", "no", "maybe")
_OPTIONS = tuple(meadow.Option(answer, answer) for answer in _ANSWERS)

#: PMIDs are counted up from 1 and have eight digits at most.
_PMID = re.compile(r"[1-9][0-9]{0,7}")
_YEAR = re.compile(r"(?:18|19|20)[0-9]{2}")
_INSTRUCTION = "Answer this question from the abstract with yes, no or maybe, and explain"
_INSTRUCTION_UNLABELED = "Answer this question from the abstract"

_FETCH_TEST_IDS = (
    f"Put the publisher's {_TEST_IDS} (the folder data/ of https://github.com/pubmedqa/pubmedqa) beside "
    "ori_pqal.json; without it the official test questions cannot be told from the rest."
)


def _patterns(name: str) -> tuple[str, ...]:
    return tuple(f"**/{name}{ending}" for ending in ("", ".gz", ".zst"))


class PubMedQA(meadow.Builder):
    """PubMedQA (Jin et al., 2019): three datasets, one for each file that is there.

    The 500 PMIDs of ``test_ground_truth.json`` are the test split, by id; the rest of the labelled file
    is split by hash. The labelled file is left out where that list is absent: test questions would
    otherwise end up in train, and nobody could see it.
    """

    name = "pubmedqa"
    version = "1.0.0"
    release_notes = {"1.0.0": "First version."}
    description = "Yes/no/maybe questions on biomedical research, answered from PubMed abstracts."
    configs = tuple(_FILES)
    raw_files = (
        *(
            meadow.RawPattern(p, "PQA-L: 1,000 questions labelled by experts")
            for p in _patterns("ori_pqal.json")
        ),
        *(
            meadow.RawPattern(p, "PMIDs and answers of the official test set", False)
            for p in _patterns(_TEST_IDS)
        ),
        *(
            meadow.RawPattern(p, "PQA-A: questions made from titles by rules")
            for p in _patterns("ori_pqaa.json")
        ),
        *(meadow.RawPattern(p, "PQA-U: questions without a label") for p in _patterns("ori_pqau.json")),
    )
    license = meadow.licenses.UNKNOWN.because(
        f"The publisher's repository, {_REPOSITORY}, holds the MIT License (Copyright (c) 2019 pubmedqa) in its "
        "file LICENSE and names no other terms for the data. The notice covers what the publisher made: the "
        "choice of articles, the questions and the labels. Nearly all text of a row is an abstract, which is its "
        "authors' or their publisher's, who did not give that licence. The National Library of Medicine says that "
        "abstracts in PubMed may be protected by copyright and clears nothing "
        "(https://www.nlm.nih.gov/databases/download.html).",
        id="LicenseRef-PubMedQA-abstracts",
        name="MIT notice on the repository, rights in the abstracts are their owners'",
        url=_REPOSITORY,
        attribution=True,
    )
    homepage = "https://pubmedqa.github.io"
    privacy = "flag"
    extra_features = {
        "pmid": "string",
        "year": "int64",
        "mesh_terms": "list<string>",
        "final_decision": "string",
    }
    official_splits = ("train", "validation", "test")
    # Abstracts name figures of their article; no question depends on one.
    quality = meadow.Quality(pictures=False)

    def configs_of(self, raw: meadow.RawSource) -> tuple[str, ...]:
        """The datasets whose file is there."""
        return tuple(config for config, (name, _) in _FILES.items() if raw.matching(*_patterns(name)))

    def shards(self, raw: meadow.RawSource) -> Iterator[meadow.Shard | meadow.Rejected]:
        """One shard per file, as a stream of JSON cannot be entered in the middle; and which files are left out."""
        present = self.configs_of(raw)
        test: dict[str, str] = {}
        lists = raw.matching(*_patterns(_TEST_IDS))
        if lists:
            try:
                test = _test_answers(lists[0])
            except meadow.RawFileError as error:
                yield unusable_file(error, present)
        for config, (name, _) in _FILES.items():
            files = raw.matching(*_patterns(name))
            yield from _second_copies(files, (config,))
            if not files:
                continue
            if config == "pubmedqa" and not test:
                path, detail = files[0].path, f"no usable {_TEST_IDS} beside it"
                yield meadow.Rejected("test ids missing", path, detail, _FETCH_TEST_IDS, "", path, (config,))
                continue
            companions = tuple(lists[:1]) if test else ()
            yield meadow.Shard(config, (files[0], *companions), (config,), {"test": test})
        yield from _second_copies(lists, present)

    def examples(self, shard: meadow.Shard) -> Iterator[meadow.Example | meadow.Rejected]:
        """Reads one file, record by record, in its order.

        Raises:
            RawFileError: The file is no JSON object, is cut off or is not UTF-8.
        """
        config = shard.configs[0]
        test: dict[str, str] = shard.args["test"]
        prefix = f"{self.name}/{_FILES[config][1]}"
        missing = dict(test) if config == "pubmedqa" else {}
        for pmid, record in json_entries(shard.files[0], keys="PMID"):
            missing.pop(pmid, None)
            try:
                yield _example(prefix, config, pmid, record, test)
            except UnusableRecordError as why:
                text = record.get("QUESTION") if isinstance(record, dict) else record
                yield meadow.Rejected(
                    why.reason, f"{prefix}{pmid}", why.detail, excerpt=str(text or "")[:500]
                )
        for pmid in missing:
            paths = [file.path for file in shard.files]
            detail = f"{paths[1]} lists it, {paths[0]} does not hold it"
            remedy = "Fetch both files again from the same release."
            yield meadow.Rejected(
                "test id without a record", f"{prefix}{pmid}", detail, remedy, file=paths[1]
            )


def _second_copies(files: list[meadow.RawFile], configs: tuple[str, ...]) -> Iterator[meadow.Rejected]:
    for copy in files[1:]:
        yield second_copy(copy.path, f"{files[0].path} is read instead", "Keep one of them.", copy, configs)


def _example(prefix: str, config: str, pmid: str, record: Any, test: dict[str, str]) -> meadow.Example:
    if not _PMID.fullmatch(pmid):
        raise UnusableRecordError("key is not a PMID", repr(pmid[:80]))
    if not isinstance(record, dict):
        raise UnusableRecordError("record is not an object", f"it is a {type(record).__name__}")
    question = _text(record, "QUESTION")
    answer = _text(record, "LONG_ANSWER")
    paragraphs = _paragraphs(record)
    decision = None
    if config != "pubmedqa_unlabeled":
        decision = record.get("final_decision")
        if decision not in _ANSWERS:
            detail = f"final_decision is {str(decision)[:80]!r}"
            raise UnusableRecordError("final_decision is not yes, no or maybe", detail)
    if pmid in test:
        # The machine-made files may not repeat a question that models are scored on.
        if config != "pubmedqa":
            raise UnusableRecordError("belongs to the official test set", f"PMID {pmid} is in {_TEST_IDS}")
        if test[pmid] != decision:
            detail = f"{_TEST_IDS} says {test[pmid][:80]!r}, final_decision is {decision!r}"
            raise UnusableRecordError("test answer differs from final_decision", detail)
    published = _YEAR.match(str(record.get("YEAR") or ""))
    year = published.group() if published else None
    url = f"https://pubmed.ncbi.nlm.nih.gov/{pmid}/"
    terms = record.get("MESHES")
    return meadow.Example(
        id=f"{prefix}{pmid}",
        instruction=_INSTRUCTION if decision else _INSTRUCTION_UNLABELED,
        input="\n\n".join([question, *paragraphs]),
        output=f"{decision}\n\n{answer}" if decision else answer,
        group=pmid,
        options=_OPTIONS if decision else (),
        answer_key=decision,
        source_url=url,
        source_date=year,
        # The files name no authors; the record that does is one click away.
        authors=(meadow.Author(f"the authors of PubMed record {pmid}", url),),
        split="test" if pmid in test else None,
        extra={
            "pmid": pmid,
            "year": int(year) if year else None,
            "mesh_terms": [t for t in terms if isinstance(t, str)] if isinstance(terms, list) else [],
            "final_decision": decision,
        },
    )


def _text(record: dict, key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UnusableRecordError(f"no {key}")
    return value.strip()


def _paragraphs(record: dict) -> list[str]:
    """The abstract's paragraphs, each behind its label.

    Where labels and paragraphs differ in number nobody can say which belongs to which, so the
    paragraphs come without any.
    """
    texts, labels = record.get("CONTEXTS"), record.get("LABELS")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UnusableRecordError("no CONTEXTS", "CONTEXTS is not a list of texts")
    if not isinstance(labels, list) or len(labels) != len(texts):
        labels = [None] * len(texts)
    found = [
        f"{label.strip()}: {text.strip()}" if isinstance(label, str) and label.strip() else text.strip()
        for label, text in zip(labels, texts, strict=True)
        if text.strip()
    ]
    if not found:
        raise UnusableRecordError("no CONTEXTS", "CONTEXTS holds no text")
    return found


def _test_answers(file: meadow.RawFile) -> dict[str, str]:
    """The official test PMIDs with their answers."""
    answers = read_json(file, meadow.MAX_LINE)
    if not isinstance(answers, dict) or not all(isinstance(answer, str) for answer in answers.values()):
        raise meadow.damaged(file, "no JSON object of PMIDs and answers")
    if not answers:
        raise meadow.damaged(file, "it lists no PMID")
    return answers
