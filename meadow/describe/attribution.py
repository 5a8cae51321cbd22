"""``ATTRIBUTION.parquet``: whom to credit for each row, and how, ready to be shown or passed on.

What CC BY-SA asks of those who pass a text on (3.0, sections 4(a) and 4(c); 4.0, section 3(a)) has a column
each, and `credit` says it all in one line. Where a source names no author, the row says so; the licences ask
for a name only where one was given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meadow.core.licenses import KNOWN, License
from meadow.core.row import arrow_schema

#: The columns of the file. `question_license` is that of a part, where it is known apart from the whole.
COLUMNS: Mapping[str, str] = {
    "id": "string",
    "title": "string",
    "authors": "list<struct<name: string, url: string>>",
    "source_url": "string",
    "source_date": "string",
    "license": "string",
    "license_url": "string",
    "question_license": "string",
    "question_license_url": "string",
    "changes": "string",
    "credit": "string",
}

#: Those that are the rows' own.
_COPIED = ("id", "source_url", "source_date", "authors", "license")

#: What every source does to its texts; those that do more say so in their `changes`.
CHANGES = "converted to plain text and cut into an instruction, an input and an output"
NO_AUTHOR = "author not named by the source"

#: Rows held at once. A row's text is read for its title, so this bounds memory: at a hundred thousand
#: characters a row, which none comes near, 200 MB.
_ROWS = 2_000
#: Rows of a row group.
_GROUP = 20_000
#: Characters of a title, for texts whose first line is not one.
_TITLE = 200


def write(
    files: Sequence[Path],
    path: Path,
    terms: Mapping[str, License] | None = None,
    changes: Mapping[str, str] | None = None,
) -> int:
    """Writes the credits of all rows whose licence asks for attribution, in their order and in flat memory.

    Args:
        files: Parquet files of built datasets or mixtures.
        path: The file to write; it has no rows where none needs credit.
        terms: Licences by id, as a manifest's ``license_terms``; `KNOWN` has the others.
        changes: By source, which is what ids begin with: what it does to its texts; else `CHANGES`.

    Returns:
        How many rows need credit.
    """
    schema = arrow_schema(COLUMNS)
    count = 0
    # A dictionary of texts that do not come twice is work for nothing.
    often = [name for name in COLUMNS if "license" in name or name in ("changes", "source_date")]
    options: dict[str, Any] = {"use_dictionary": often}
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=3, **options) as out:
        credited = _Credits(terms or {}, changes or {}).of(files, schema)
        while group := _group(credited):
            table = pa.Table.from_batches(group, schema)
            out.write_table(table, row_group_size=table.num_rows)
            count += table.num_rows
    return count


def _group(batches: Iterator[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """The batches of the next row group; none at the end."""
    found: list[pa.RecordBatch] = []
    while sum(batch.num_rows for batch in found) < _GROUP and (batch := next(batches, None)) is not None:
        found.append(batch)
    return found


class _Credits:
    """Columns of credits out of columns of rows, a batch at a time."""

    def __init__(self, terms: Mapping[str, License], changes: Mapping[str, str]) -> None:
        licenses = [terms.get(spdx) or License.of(spdx) for spdx in sorted({*KNOWN, *terms})]
        self._ids = pa.array([each.id for each in licenses], pa.string())
        self._urls = pa.array([each.url or None for each in licenses], pa.string())
        self._named = pa.array(f"{each.name} ({each.url})" if each.url else each.name for each in licenses)
        self._owed = pa.array([each.attribution is True for each in licenses])
        self._changes = {source: words for source, words in sorted(changes.items()) if words}

    def of(self, files: Sequence[Path], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for file in files:
            with pq.ParquetFile(file) as rows:
                title = "page" if "page" in rows.schema_arrow.names else "input"
                wanted = {*_COPIED, title, "question_license"}
                columns = [name for name in rows.schema_arrow.names if name in wanted]
                for batch in rows.iter_batches(_ROWS, columns=columns):
                    at = pc.index_in(batch["license"], self._ids)
                    owed = pc.fill_null(self._owed.take(at), False)
                    if owed.true_count < batch.num_rows:
                        batch, at = batch.filter(owed), at.filter(owed)
                    if batch.num_rows:
                        yield self._batch(batch, at, schema)

    def _batch(self, batch: pa.RecordBatch, at: pa.Array, schema: pa.Schema) -> pa.RecordBatch:
        nothing = pa.nulls(batch.num_rows, pa.string())
        column = dict(zip(batch.schema.names, batch.columns, strict=True))
        title = _plain(column["page"] if "page" in column else _first_line(column["input"]))
        part = column.get("question_license", nothing)
        part_at = pc.index_in(part, self._ids)
        changes = pa.repeat(CHANGES, batch.num_rows)
        for source, words in self._changes.items():
            changes = pc.if_else(pc.starts_with(column["id"], f"{source}/"), words, changes)
        # A question of another version than its answer's has its own licence to name.
        other = pc.fill_null(pc.not_equal(part_at, at), False)
        its = pc.if_else(other, self._named.take(part_at), "")
        pieces = [
            _around('"', title, '", '),
            _around("by ", _people(column["authors"]), ""),
            _around(", ", _plain(column["source_url"]), ""),
            _around(", ", column["source_date"], ""),
            _around(", licensed under ", self._named.take(at), ""),
            _around(" (the question under ", its, ")"),
            _around(". Changes: ", changes, "."),
        ]
        found = {
            **{name: column[name] for name in _COPIED},
            "title": title,
            "license_url": self._urls.take(at),
            "question_license": part,
            "question_license_url": self._urls.take(part_at),
            "changes": changes,
            "credit": pc.binary_join_element_wise(*pieces, ""),
        }
        return pa.RecordBatch.from_arrays([found[name] for name in schema.names], schema=schema)


def _around(before: str, values: pa.Array, after: str) -> pa.Array:
    """The values between two texts, and nothing where there is no value or an empty one."""
    whole = pc.binary_join_element_wise(before, values, after, "")
    return pc.if_else(pc.fill_null(pc.equal(values, ""), True), "", whole)


def _plain(values: pa.Array) -> pa.Array:
    """Texts on one line and without control characters, which odd names hold."""
    if pc.fill_null(pc.utf8_is_printable(values), True).true_count == len(values):
        return values
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(values, r"[\s\pC]+", " "))


def _first_line(texts: pa.Array) -> pa.Array:
    start = pc.utf8_ltrim_whitespace(pc.utf8_slice_codeunits(texts, 0, _TITLE + 1))
    line = pc.list_element(pc.split_pattern(start, "\n", max_splits=1), 0)
    cut = pc.binary_join_element_wise(pc.utf8_slice_codeunits(line, 0, _TITLE - 3), "...", "")
    return pc.utf8_rtrim_whitespace(pc.if_else(pc.greater(pc.utf8_length(line), _TITLE), cut, line))


def _people(authors: pa.ListArray) -> pa.Array:
    """Authors as text: ``name (address); name (address)``."""
    people = authors.flatten()
    names, urls = (_plain(pc.struct_field(people, name)) for name in ("name", "url"))
    texts = pc.binary_join_element_wise(names.fill_null(NO_AUTHOR), _around(" (", urls, ")"), "")
    lengths = pc.fill_null(pc.list_value_length(authors), 0)
    ends = pc.cumulative_sum(lengths.cast(pa.int32()))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])  # authors' own may begin past 0
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, texts), "; ")
    return pc.if_else(pc.equal(lengths, 0), NO_AUTHOR, joined)
