"""The privacy screen over one built dataset, or over a file that Meadow did not build."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING

from meadow.core.parts import Finding
from meadow.core.tables import rows_of
from meadow.filters.privacy import TYPES, screened, texts_in, with_texts

if TYPE_CHECKING:
    from meadow.core.store import Store

#: Columns that hold no free text, or whom attribution must name.
_NO_TEXT = frozenset(
    "id instruction group authors source source_url source_date url license generator split answer_key version pmid".split()
)


def run(target: str, store: Store, fields: Sequence[str], masked: Path | None, show: int) -> str:
    """Screens one dataset or file and says in plain text what was found.

    Args:
        target: The name of a built dataset, or a JSON lines, JSON, Parquet or CSV file.
        store: Where built datasets lie.
        fields: The columns to screen; empty for all that hold text, save ids, authors and addresses.
        masked: Where to write all rows as JSON lines, with findings masked; None for nowhere. It is written
            beside its place and put there once all rows are screened.
        show: How many findings to show, in the text around each.

    Raises:
        ValueError: There is no such dataset or file, it cannot be read, or no row has such a column.
        meadow.core.store.StoreError: The dataset's manifest cannot be read.
        OSError: `masked` cannot be written.
    """
    rows = hit = 0
    counts: Counter[str] = Counter()
    shown: list[str] = []
    missing = set(fields)
    with _written(masked) if masked else nullcontext() as stream:
        for place, record in rows_of(target, store):
            rows += 1
            missing.difference_update(record)
            chosen = fields or record.keys() - _NO_TEXT
            texts = {
                path: text
                for key, value in record.items()
                if key in chosen
                for path, text in texts_in(key, value)
            }
            findings, safe = screened(texts)
            if stream:
                record_out = {key: with_texts(key, value, safe) for key, value in record.items()}
                stream.write(json.dumps(record_out, ensure_ascii=True, default=str) + "\n")
            hit += bool(findings)
            counts.update(finding.type for finding in findings)
            row_id = record.get("id", place)
            shown += [
                f"  {row_id} {finding.field}: {_around(texts[finding.field], finding)}"
                for finding in findings[: show - len(shown)]
            ]
        if rows and missing:
            raise ValueError(f"{target}: no row has a column {', '.join(sorted(missing))}")
    lines = [f"{target}: {rows:,} rows screened, {counts.total():,} findings in {hit:,} rows"]
    lines += [f"  {name:9}{counts[name]:>7,}  {words}" for name, words in TYPES.items() if counts[name]]
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
