"""A row: the record that a source yields, its columns, its checks and its hashes.

A column is added in this file: a field of `Example`, a line of `COLUMNS`, a value in `values`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote a text: a name and, where there is one, an address that attribution can link to."""

    name: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """One choice of a multiple-choice question; `key` is its letter."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row, before the build adds what the source declares for all of them.

    Attributes:
        id: Stable across builds: source name and natural key (``medqa/us-1a2b``), never a counter.
        instruction: What the model is told to do; constant for most sources.
        input: The question, or whatever the instruction applies to.
        output: The answer.
        group: What must not straddle a split: page, thread, note, PMID.
        options: The choices of a multiple-choice question, in order.
        answer_key: The key of the right option.
        source_url: The address of this very text, at this revision.
        source_date: ISO 8601 date (``2019-05-01``), or as much of it as is known (``2019``).
        authors: Whom attribution must name.
        license: SPDX id; None stands for the builder's `license`.
        generator: The model that wrote a machine-written text; None for human writing.
        split: The publisher's split; None leaves it to a hash of `group`.
        configs: The datasets it belongs to; empty for those of its shard.
        extra: Values of the builder's `extra_features`.
    """

    id: str
    instruction: str
    input: str
    output: str
    group: str
    options: tuple[Option, ...] = ()
    answer_key: str | None = None
    source_url: str | None = None
    source_date: str | None = None
    authors: tuple[Author, ...] = ()
    license: str | None = None
    generator: str | None = None
    split: str | None = None
    configs: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record, or a whole file, that was read and is left out.

    Attributes:
        reason: Short and constant (``score below 5`` without the score): funnels count by it.
        id: The row's id as far as it is known; for a file, its path in the raw store.
        detail: What was found, with the particulars of this record.
        remedy: What a person can do about it; empty where nothing needs doing.
        excerpt: The beginning of the text; the build shortens it.
        file: Path in the raw store; empty for the shard's first file.
        configs: The datasets whose funnel counts it; empty for those of its shard.
    """

    reason: str
    id: str
    detail: str = ""
    remedy: str = ""
    excerpt: str = ""
    file: str = ""
    configs: tuple[str, ...] = ()


#: Columns of every dataset. The first three are those of the published Medical Meadow, in its order.
COLUMNS: Mapping[str, str] = {
    "instruction": "string",
    "input": "string",
    "output": "string",
    "id": "string",
    "task": "string",
    "options": "list<struct<key: string, text: string>>",
    "answer_key": "string",
    "group": "string",
    "source_url": "string",
    "source_date": "string",
    "authors": "list<struct<name: string, url: string>>",
    "license": "string",
    "generator": "string",
}

#: Columns of ``rejected.parquet``.
REJECTED_COLUMNS: Mapping[str, str] = dict.fromkeys(
    ("id", "reason", "excerpt", "source", "file", "detail", "remedy"), "string"
)

_CONTROL = re.compile(r"[\x00-\x1f]")
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

#: Characters of a rejected record that are kept, enough to recognise it by.
EXCERPT = 200


def arrow_schema(columns: Mapping[str, str]) -> pa.Schema:
    """The Arrow schema of such columns.

    Raises:
        ValueError: A type is none of those that `Builder.extra_features` lists.
    """
    import pyarrow as pa

    pair = lambda a, b: pa.list_(pa.struct([(a, pa.string()), (b, pa.string())]))  # noqa: E731
    types = {
        "string": pa.string(),
        "int64": pa.int64(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
        "list<string>": pa.list_(pa.string()),
        COLUMNS["options"]: pair("key", "text"),
        COLUMNS["authors"]: pair("name", "url"),
    }
    unknown = sorted({kind for kind in columns.values() if kind not in types})
    if unknown:
        raise ValueError(f"unknown column type {', '.join(unknown)}; known: {', '.join(types)}")
    return pa.schema([(name, types[kind]) for name, kind in columns.items()])


def problem(example: Example, splits: Iterable[str]) -> Rejected | None:
    """Why a row is left out whatever its source, or None; `splits` are those that the source may use."""

    def rejected(reason: str, detail: str, remedy: str) -> Rejected:
        excerpt = example.input or example.output
        return Rejected(reason, example.id, detail, remedy, excerpt, configs=example.configs)

    if _CONTROL.search(example.id):  # one id is one line of what `ids_sha256` is taken over
        found = rejected(
            "control character in id", repr(example.id), "Repair the record's key in the raw file."
        )
        return replace(found, id=_CONTROL.sub(" ", example.id))
    look = "Look at the record in the raw file."
    if not example.output.strip():
        return rejected("empty output", "the answer holds no text", look)
    if not example.instruction.strip():
        return rejected("empty instruction", "the instruction holds no text", look)
    if example.split is not None and example.split not in splits:
        return rejected("unknown split", f"{example.split!r} is none of {sorted(splits)}", look)
    if example.options or example.answer_key is not None:
        keys = [option.key for option in example.options]
        if len(set(keys)) != len(keys):
            return rejected("duplicate option letters", f"letters {keys}", look)
        if example.answer_key is not None and example.answer_key not in keys:
            return rejected("answer is no option", f"{example.answer_key!r} is none of {keys}", look)
    return None


def values(example: Example, task: str, license: str, extra: Iterable[str]) -> list[Any]:  # noqa: A002
    """One row as a list of values in column order, those of its source's `extra` columns at the end."""
    return [
        example.instruction,
        example.input,
        example.output,
        example.id,
        task,
        [{"key": option.key, "text": option.text} for option in example.options],
        example.answer_key,
        example.group,
        example.source_url,
        example.source_date,
        [{"name": author.name, "url": author.url} for author in example.authors],
        license,
        example.generator,
        *(example.extra.get(name) for name in extra),
    ]


def encode(row: list[Any]) -> bytes:
    """A row's canonical bytes: a JSON array of its values in column order, UTF-8, no spaces.

    Raises:
        UnicodeEncodeError: A text holds a lone surrogate, which no UTF-8 file can.
    """
    return _ENCODER.encode(row).encode("utf-8")


def content_hash(columns: Iterable[str]) -> Any:
    """A SHA-256 object begun with the column names; `rows_sha256` feeds it splits and rows.

    ``rows_sha256`` is SHA-256 over: the JSON array of column names and a newline; then for each
    split in order its name, a newline, and the SHA-256 digest (32 bytes) of each row's `encode`.
    It depends on no Parquet writer, so it is the same under any pyarrow.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps(list(columns), separators=(",", ":")).encode() + b"\n")
    return digest


def ids_sha256(ids: Iterable[str]) -> str:
    """SHA-256 of ids in byte order, each with a newline: what ``sort | sha256sum`` gives under ``LC_ALL=C``.

    Manifests, exams and training records all name a set of rows by it.
    """
    digest = hashlib.sha256()
    for row_id in sorted(row_id.encode() for row_id in ids):
        digest.update(row_id + b"\n")
    return digest.hexdigest()
