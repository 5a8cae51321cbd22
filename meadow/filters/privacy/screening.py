"""The privacy screen over one built dataset, or over a file that Meadow did not build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from meadow.core.parts import Finding
from meadow.core.tables import rows_of
from meadow.filters.privacy import TYPES, mask_spans, scan

if TYPE_CHECKING:
    from meadow.core.store import Store

#: Columns that hold no free text, or whom attribution must name.
_NO_TEXT = frozenset(
    "id instruction group authors source source_url source_date url license generator split answer_key version pmid".split()
)


@dataclass(frozen=True, slots=True)
class IdentifyingRow:
    """A row in which something was found.

    Attributes:
        id: Its id, or its number in the file.
        findings: What, and where.
        texts: The texts that hold findings, by field.
        masked: The whole record with all findings masked.
    """

    id: str
    findings: tuple[Finding, ...]
    texts: Mapping[str, str]
    masked: Mapping[str, Any]


@dataclass(slots=True)
class ScreenCounts:
    """Counts of a screen.

    Attributes:
        rows: Rows read.
        hit: Rows with findings.
        findings: Findings by type.
    """

    rows: int = 0
    hit: int = 0
    findings: Counter = field(default_factory=Counter)


def screen(
    target: str, store: Store, fields: Sequence[str] = (), done: ScreenCounts | None = None
) -> Iterator[IdentifyingRow | dict]:
    """Screens one dataset or file, row by row.

    Args:
        target: The name of a built dataset, or a JSON lines, JSON, Parquet or CSV file.
        store: Where built datasets lie.
        fields: The columns to screen; empty for all that hold text, save ids, authors and addresses.
        done: Counts to be kept up to date while rows are yielded.

    Yields:
        A `IdentifyingRow` for each row with findings, and the record as it is for each without.

    Raises:
        ValueError: There is no such dataset or file, it cannot be read, or no row has such a column.
        meadow.core.store.StoreError: The dataset's manifest cannot be read.
    """
    done = ScreenCounts() if done is None else done
    missing = set(fields)
    for place, record in rows_of(target, store):
        missing.difference_update(record)
        done.rows += 1
        texts = dict(_texts(record, fields))
        spans = dict(zip(texts, scan(texts.values()), strict=True))
        if not any(spans.values()):
            yield record
            continue
        findings = tuple(
            Finding(s.type, name, s.start, s.end) for name, found in spans.items() for s in found
        )
        done.hit += 1
        done.findings.update(finding.type for finding in findings)
        masked = {name: mask_spans(text, spans[name]) for name, text in texts.items()}
        yield IdentifyingRow(
            str(record.get("id", place)),
            findings,
            {name: text for name, text in texts.items() if spans[name]},
            {key: _rebuilt(key, value, masked) for key, value in record.items()},
        )
    if done.rows and missing:
        raise ValueError(f"{target}: no row has a column {', '.join(sorted(missing))}")


def _texts(record: Mapping[str, Any], fields: Sequence[str]) -> Iterator[tuple[str, str]]:
    for key, value in record.items():
        if key in fields or (not fields and key not in _NO_TEXT):
            yield from _inside(key, value)


def _inside(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """The texts in a value, each with its path: ``options[0].text``."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _inside(f"{name}.{key}", item)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _inside(f"{name}[{number}]", item)


def _rebuilt(name: str, value: Any, masked: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return masked.get(name, value)
    if isinstance(value, dict):
        return {key: _rebuilt(f"{name}.{key}", item, masked) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rebuilt(f"{name}[{number}]", item, masked) for number, item in enumerate(value)]
    return value


def run(target: str, store: Store, fields: Sequence[str], masked: Path | None, show: int) -> str:
    """Screens one dataset or file and says in plain text what was found.

    Args:
        target: As for `screen`.
        store: As for `screen`.
        fields: As for `screen`.
        masked: Where to write all rows as JSON lines, with findings masked; None for nowhere. It is written
            beside its place and put there once all rows are screened.
        show: How many findings to show, in the text around each.

    Raises:
        ValueError: As for `screen`.
        OSError: `masked` cannot be written.
    """
    import json

    done, shown = ScreenCounts(), []
    with _written(masked) if masked else nullcontext() as stream:
        for row in screen(target, store, fields, done):
            found = isinstance(row, IdentifyingRow)
            if stream:
                record = row.masked if found else row
                stream.write(json.dumps(record, ensure_ascii=True, default=str) + "\n")
            if found:
                shown += [
                    f"  {row.id} {f.field}: {_around(row.texts[f.field], f)}"
                    for f in row.findings[: show - len(shown)]
                ]
    lines = [
        f"{target}: {done.rows:,} rows screened, {sum(done.findings.values()):,} findings in {done.hit:,} rows"
    ]
    lines += [
        f"  {name:9}{done.findings[name]:>7,}  {words}"
        for name, words in TYPES.items()
        if done.findings[name]
    ]
    return "\n".join([*lines, *([""] if shown else []), *shown])


@contextmanager
def _written(path: Path) -> Iterator[IO[str]]:
    """A file that is there whole or not at all; it may be the very one that is read."""
    if path.exists() and not path.is_file():  # a pipe, a terminal
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
        return
    beside = path.with_name(f"{path.name}.part")
    try:
        with beside.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _around(text: str, finding: Finding) -> str:
    before, after = text[max(0, finding.start - 40) : finding.start], text[finding.end : finding.end + 40]
    return " ".join(f"{before}[{finding.type}: {text[finding.start : finding.end]}]{after}".split())
