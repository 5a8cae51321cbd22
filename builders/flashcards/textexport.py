"""Anki's text export: notes or cards as separated lines under ``#`` headers.

A text export has fields but no card templates. Note types that Anki ships are known by name; any other
note is asked by its first field and answered by the others, and fields with clozes are asked by the number.
"""

from __future__ import annotations

import csv
import hashlib
import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from meadow import MAX_LINE, RawFile, RawFileError, Rejected

from .cards import Card, NoteType, stray
from .cloze import cloze_numbers

_SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";", "colon": ":", "space": " ", "pipe": "|"}
_HEADER = re.compile(r"#([a-z][a-z ]*):(.*)", re.IGNORECASE | re.DOTALL)
_COLUMN = ("guid", "notetype", "deck", "tags")
_HTML = re.compile(r"</?[a-z][^<>]*>|&(?:#\d+|#x[0-9a-f]+|[a-z]+);", re.IGNORECASE)
#: How much of a file without an ``#html`` header is looked at to tell; Anki looks at some lines, too.
_PROBE = 64 * 2**10
_FRONT_SIDE = "{{FrontSide}}<hr id=answer>"


@dataclass(frozen=True, slots=True)
class _Headers:
    path: str
    separator: str
    html: bool
    columns: tuple[str, ...]
    fixed: dict[str, str]  # notetype, deck, tags for the whole file
    column: dict[str, int]  # guid, notetype, deck, tags: index from 0


def text_cards(file: RawFile) -> Iterator[Card | Rejected]:
    """Reads a text export: a card for each that a note gives, and what records cannot be read.

    Raises:
        RawFileError: It has no ``#separator`` header, so it is no export of Anki's.
    """
    with file.open() as stream:
        headers, first = _read_headers(file, stream)
        for line, row in _records(stream, first, headers.separator):
            if isinstance(row, str):
                yield stray("record cannot be read", file.path, f"line {line}", row)
            else:
                yield from _cards(headers, line, row)


def _read_headers(file: RawFile, stream: BinaryIO) -> tuple[_Headers, tuple[int, bytes]]:
    found: dict[str, str] = {}
    number = 1
    line = stream.readline(MAX_LINE).removeprefix(b"\xef\xbb\xbf")
    while match := _HEADER.fullmatch(line.decode("utf-8", "replace").rstrip("\r\n")):
        found[match[1].lower()] = match[2]
        line = stream.readline(MAX_LINE)
        number += 1
    if "separator" not in found:
        detail = "its first lines have no #separator header"
        remedy = 'Export from Anki as "Notes in Plain Text", or move the file out of the folder.'
        raise RawFileError("no Anki text export", detail, remedy, file.path)
    name = found["separator"]
    separator = _SEPARATORS.get(name.strip().lower()) or (name if len(name) == 1 else name.strip())
    if len(separator) != 1:
        remedy = f"Use one of {', '.join(_SEPARATORS)}, or a single character."
        raise RawFileError("no Anki text export", f"unknown separator {name!r}", remedy, file.path)
    places = {kind: found.get(f"{kind} column", "").strip() for kind in _COLUMN}
    flag = found.get("html", "").strip().lower()
    headers = _Headers(
        file.path,
        separator,
        flag == "true" if flag in ("true", "false") else _looks_like_html(file),
        tuple(c.strip() for c in next(csv.reader([found.get("columns", "")], delimiter=separator), [])),
        {kind: found.get(kind, "").strip() for kind in ("notetype", "deck", "tags")},
        {kind: int(place) - 1 for kind, place in places.items() if place.isdigit() and int(place) > 0},
    )
    return headers, (number, line)


def _looks_like_html(file: RawFile) -> bool:
    with file.open() as stream:
        return _HTML.search(stream.read(_PROBE).decode("utf-8", "replace")) is not None


def _records(
    stream: BinaryIO, first: tuple[int, bytes], separator: str
) -> Iterator[tuple[int, list[str] | str]]:
    """Yields (number of the first line, fields), or what is wrong as a string; comment lines are skipped."""
    start, begins = 0, b""

    def lines() -> Iterator[str]:
        nonlocal start, begins
        number, line = first
        while line:
            if not start:
                start, begins = number, line[:1]
            yield line.decode("utf-8", "surrogateescape")
            line = stream.readline(MAX_LINE)
            number += 1

    # csv's own limit is 128 KB a field; those with tables and embedded styles exceed it.
    csv.field_size_limit(max(MAX_LINE, csv.field_size_limit()))
    reader = csv.reader(lines(), delimiter=separator)
    while True:
        start = 0
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield start, str(error)
            continue
        if begins != b"#" and any(row):
            yield start, row


def _cards(headers: _Headers, line: int, row: list[str]) -> Iterator[Card | Rejected]:
    special = {kind: row[at] if at < len(row) else "" for kind, at in headers.column.items()}
    rest = [at for at in range(len(row)) if at not in headers.column.values()]
    values = tuple(row[at] if headers.html else html.escape(row[at]).replace("\n", "<br>") for at in rest)
    guid = special.get("guid", "").strip()
    if not any(value.strip() for value in values):
        yield stray("record without fields", headers.path, guid or f"line {line}")
        return
    if not guid:
        # The fields are the only natural key that there is.
        digest = hashlib.sha256("\x1f".join(values).encode("utf-8", "surrogateescape"))
        guid = f"text-{digest.hexdigest()[:16]}"
    names = tuple(headers.columns[at] if at < len(headers.columns) else "" for at in rest)
    kind = special.get("notetype") or headers.fixed["notetype"]
    tags = f"{headers.fixed['tags']} {special.get('tags', '')}".split()
    deck = special.get("deck") or headers.fixed["deck"]
    note_type, numbers = _note_type(kind, names, values)
    for ord_ in numbers:
        yield Card(guid, ord_, note_type, values, tuple(tags), deck)


def _note_type(kind: str, names: tuple[str, ...], values: tuple[str, ...]) -> tuple[NoteType, Sequence[int]]:
    """Stands in for the note type that a text export lacks; also tells which of its cards the note has."""
    fields = tuple(str(at) for at in range(len(values)))
    clozes = [at for at in range(len(values)) if cloze_numbers(values[at])]
    if clozes:
        asked = "<br>".join(f"{{{{cloze:{at}}}}}" for at in clozes)
        others = "".join(_line(at, "") for at in range(len(values)) if at not in clozes)
        numbers = sorted({n for at in clozes for n in cloze_numbers(values[at])})
        sides = (("Cloze", asked, f"{asked}{others}"),)
        return NoteType(kind, True, fields, sides), [n - 1 for n in numbers]
    stock = re.sub(r"[^a-z]", "", kind.lower())
    label = "basic" not in stock and len(values) > 2
    # "Basic (optional reversed card)" keeps its switch in the third field.
    switch = "basicoptionalreversed" in stock and len(values) > 2
    backs = [at for at in range(1, len(values)) if not (switch and at == 2)]
    answer = "".join(_line(at, names[at] if label else "") for at in backs)
    sides = (("Card 1", "{{0}}", _FRONT_SIDE + answer),)
    if len(values) > 1 and ("basicandreversed" in stock or (switch and "".join(values[2:3]).strip())):
        sides += (("Card 2", "{{1}}", _FRONT_SIDE + "{{0}}"),)
    return NoteType(kind, False, fields, sides), range(len(sides))


def _line(at: int, label: str) -> str:
    # A label is not put into the template as it is: braces in it would be read as fields.
    label = html.escape(label).replace("{", "(").replace("}", ")")
    words = f"{label}: " if label else ""
    return f"{{{{#{at}}}}}<div>{words}{{{{{at}}}}}</div>{{{{/{at}}}}}"
