"""The columns of a row, its checks, and its content hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from meadow.core.builder import Author, Builder, Example, Option, Rejected
from meadow.core.licenses import CC0

if TYPE_CHECKING:
    import pyarrow as pa

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
REJECTED_COLUMNS: Mapping[str, str] = {
    "id": "string",
    "reason": "string",
    "excerpt": "string",
    "source": "string",
    "file": "string",
    "detail": "string",
    "remedy": "string",
}

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

#: Characters of a rejected record that are kept, enough to recognise it by.
EXCERPT = 200


def features(builder: Builder | type[Builder]) -> dict[str, str]:
    """All columns of a source's datasets, with their types as Arrow writes them."""
    clash = sorted(set(COLUMNS) & set(builder.extra_features))
    if clash:
        raise ValueError(f"{builder.name}: extra_features repeats the column {', '.join(clash)}")
    return {**COLUMNS, **builder.extra_features}


def schema(columns: Mapping[str, str]) -> pa.Schema:
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
    """Checks what every row must fulfil, whatever its source.

    Args:
        example: The row.
        splits: The split names that its source may use.

    Returns:
        The reason to leave the row out, or None.
    """

    def rejected(reason: str, detail: str, remedy: str) -> Rejected:
        excerpt = example.input or example.output
        return Rejected(reason, example.id, detail, remedy, excerpt, configs=example.configs)

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


def values(example: Example, builder: Builder, *, sample: bool) -> list[Any]:
    """One row as a list of values in column order.

    Rows of an embedded sample are our own writing, so they carry CC0 whatever the real data carry.
    """
    options: list[dict[str, str]] = [_option(option) for option in example.options]
    return [
        example.instruction,
        example.input,
        example.output,
        example.id,
        builder.task,
        options,
        example.answer_key,
        example.group,
        example.source_url,
        example.source_date,
        [_author(author) for author in example.authors],
        CC0.id if sample else (example.license or builder.license.id),
        example.generator,
        *(example.extra.get(name) for name in builder.extra_features),
    ]


def _option(option: Option) -> dict[str, str]:
    return {"key": option.key, "text": option.text}


def _author(author: Author) -> dict[str, str | None]:
    return {"name": author.name, "url": author.url}


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
    for line in sorted(f"{row_id}\n".encode() for row_id in ids):
        digest.update(line)
    return digest.hexdigest()
