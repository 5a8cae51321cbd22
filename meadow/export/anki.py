"""Writing a dataset in another program's format: a deck that Anki imports.

An export is made for a person, not a build: it may hold a date (see `export_anki`), and nothing is built
from it unless someone puts it into the raw store.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import sqlite3
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meadow.parse.htmltext import html_to_text

if TYPE_CHECKING:
    import genanki

#: What a row must have to be a card.
NEEDED = ("id", "input", "output")
#: Tasks in which `input` is a question by itself; for any other the instruction stands above it.
_SELF_EXPLAINING = frozenset(("question-answering", "multiple-choice"))

_FRONT = "{{Question}}"
# Attribution belongs on the card. A footer is what HTML has for it, and our own flashcards source skips it.
_BACK = "{{FrontSide}}\n\n<hr id=answer>\n\n{{Answer}}\n\n{{#Source}}<footer>{{Source}}</footer>{{/Source}}"
_CSS = Path(__file__).with_suffix(".css")

# Characters that Anki's file format or HTML cannot carry; \x1f parts the fields of a note.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufdd0-\ufdef\ufffe\uffff]")
# What Anki would read as sound, speech or LaTeX, were it not written with an entity.
_MARKUP = re.compile(r"\[(?=sound:|anki:|latex\]|\$|/latex\]|/\$)|\\(?=[()\[\]])")
# TeX between dollars, and not two prices: no blanks inside the dollars, and something only TeX has.
_MATH = re.compile(
    r"\$\$(?!\s)(?P<display>[^$\n]+?)(?<!\s)\$\$"
    r"|(?<![\w$\\])\$(?!\s)(?P<inline>[^$\n]*?[\\^_{][^$\n]*?)(?<!\s)\$(?![\w$])"
)
_FENCE = re.compile(r"(```+)[^`]*")
_ROW = re.compile(r"\|.*\|")
_HEADER_RULE = re.compile(r"\|(?: --- \|)+")
_ITEM = re.compile(r"(- |(\d{1,9})\. )(?=\S)")


def export_anki(
    rows: Iterable[Mapping[str, Any]], name: str, path: Path | str, *, modified: int | None = None
) -> int:
    """Writes question-answer rows as an Anki package.

    Ids follow from the dataset's name and the row's id, so importing a newer export updates the notes that
    are there. Anki takes an update only from a note that was changed later, which is why there is a date.

    Args:
        rows: Rows of a built dataset; read once, one by one. A key ``split`` becomes a tag where there is one.
        name: The dataset's name, and the deck's.
        path: The ``.apkg`` file to write; it appears only when it is whole.
        modified: Seconds since 1970 at which the notes count as changed; None for ``$SOURCE_DATE_EPOCH``, else
            now. The same rows and date give the same package under one version of SQLite.

    Returns:
        The number of notes, each with one card.

    Raises:
        ValueError: The rows are no questions and answers, there are none, or the file is named otherwise.
        OSError: The file cannot be written.
    """
    import genanki

    path = Path(path)
    if path.suffix.lower() != ".apkg":
        raise ValueError(
            f"{path}: Anki opens only files named .apkg; name it {path.with_suffix('.apkg').name}"
        )
    if modified is None:
        modified = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    # Fields are named in the note type, not in the rows: a column more does not change the cards.
    model = genanki.Model(
        _stable_number(f"note type {name}"),
        f"Meadow ({name})",
        fields=[{"name": field} for field in ("Question", "Answer", "Source", "Id")],
        templates=[{"name": "Question and answer", "qfmt": _FRONT, "afmt": _BACK}],
        css=_CSS.read_text(encoding="utf-8"),
    )

    class StreamingDeck(genanki.Deck):
        """Takes its notes one by one while it is written, and counts them."""

        written = 0

        def write_to_db(self, cursor: sqlite3.Cursor, timestamp: float, id_gen: Iterator[int]) -> None:
            super().write_to_db(cursor, timestamp, id_gen)
            for self.written, note in enumerate(_notes(rows, name, model), 1):
                note.write_to_db(cursor, timestamp, self.deck_id, id_gen)
            if not self.written:
                raise ValueError(f"{name} cannot be exported to Anki: it has no rows")

    deck = StreamingDeck(_stable_number(f"deck {name}"), name)
    deck.add_model(model)
    write_package([deck], path, modified)
    return deck.written


def write_package(
    decks: Iterable[genanki.Deck], path: Path, modified: int, media: Mapping[str, bytes] | None = None
) -> None:
    """Writes decks, and media by file name, as one package, of which nothing is visible until it is whole.

    genanki's own writer leaves its database in the system's temporary folder, and dates the archive's members.
    Note ids are counted from `modified`, too: seconds since 1970.
    """
    import genanki

    media = media or {}
    with tempfile.TemporaryDirectory(prefix=".meadow-", dir=path.parent) as folder:
        database = Path(folder) / "collection.anki2"
        with closing(sqlite3.connect(database)) as connection:
            # The file is new and thrown away on failure: a journal protects nothing.
            connection.execute("PRAGMA journal_mode=OFF")
            connection.execute("PRAGMA synchronous=OFF")
            ids = itertools.count(modified * 1000)
            genanki.Package(list(decks)).write_to_db(connection.cursor(), modified, ids)
            connection.commit()
        whole = Path(folder) / "whole.apkg"
        with zipfile.ZipFile(whole, "w") as archive:
            size = database.stat().st_size
            with _member(archive, "collection.anki2", size) as out, database.open("rb") as source:
                shutil.copyfileobj(source, out, 2**20)
            names = json.dumps({str(at): file for at, file in enumerate(media)}, ensure_ascii=False)
            for at, content in {"media": names.encode(), **dict(enumerate(media.values()))}.items():
                with _member(archive, str(at)) as out:
                    out.write(content)
        whole.replace(path)


def text_to_html(text: str) -> str:
    """Writes a row's text, plain or Markdown, as HTML for a card; markup in it is text, too, and is escaped.

    Fenced code, tables, flat lists and quotes become elements where `meadow.parse.htmltext.html_to_text` would
    turn them back into the same text. Everything else stays as it is, line by line, indented as it was.
    """
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip("\n")
    blocks = list(_blocks(text))
    if len(blocks) == 1:
        return blocks[0]
    return "".join(block if block.startswith("<") else f"<p>{block}</p>" for block in blocks)


def _notes(rows: Iterable[Mapping[str, Any]], name: str, model: genanki.Model) -> Iterator[genanki.Note]:
    import genanki

    for row in rows:
        missing = [column for column in NEEDED if not isinstance(row.get(column), str)]
        if missing:
            raise ValueError(
                f"{name} cannot be exported to Anki: its rows have no text in {', '.join(missing)}. "
                "A deck is made of questions (input) and answers (output); choose a dataset that has both."
            )
        fields = [text_to_html(_question(row)), text_to_html(row["output"]), _source(row), escape(row["id"])]
        guid = genanki.guid_for("meadow", name, row["id"])
        yield genanki.Note(model, fields, guid=guid, tags=_tags(row))


def _question(row: Mapping[str, Any]) -> str:
    question = row["input"]
    explained = question.strip() and row.get("task", "question-answering") in _SELF_EXPLAINING
    parts = [] if explained or not row.get("instruction") else [row["instruction"]]
    if question.strip():
        parts.append(question)
    options = row.get("options") or ()
    # Some sources have the options in the question already.
    if options and not all(option["text"] in question for option in options):
        parts.append("\n".join(f"{option['key']}: {option['text']}" for option in options))
    return "\n\n".join(parts)


def _source(row: Mapping[str, Any]) -> str:
    """Whom and what the card comes from, as the licences ask to say beside the text."""
    parts = []
    if row.get("source_url"):
        parts.append(f"Source: {_link(row['source_url'], row['source_url'])}")
    authors = [_link(a["name"], a.get("url")) for a in row.get("authors") or () if a.get("name")]
    if authors:
        parts.append(f"By {', '.join(authors)}")
    if row.get("license"):
        parts.append(f"Licence: {escape(row['license'])}")
    if row.get("generator"):
        parts.append(f"Text written by {escape(row['generator'])}")
    return "<br>".join(parts)


def _link(words: str, url: str | None) -> str:
    if not url or not url.startswith(("https://", "http://")):
        return escape(_CONTROL.sub("", words))
    return f'<a href="{escape(_CONTROL.sub("", url))}">{escape(_CONTROL.sub("", words))}</a>'


def _tags(row: Mapping[str, Any]) -> list[str]:
    found = {"source": row["id"].partition("/")[0], "split": row.get("split"), "license": row.get("license")}
    return [f"{kind}::{'_'.join(value.split())}" for kind, value in found.items() if value]


def _stable_number(words: str) -> int:
    """A number from 2**30 up to 2**31, the range that genanki advises for ids of its makers' own."""
    digest = hashlib.sha256(f"meadow {words}".encode()).digest()
    return 2**30 + int.from_bytes(digest[:8], "big") % 2**30


def _member(archive: zipfile.ZipFile, name: str, size: int = 0) -> Any:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # the earliest date a zip can hold
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    info.create_system = 3
    return archive.open(info, "w", force_zip64=size >= 2**31)


def _blocks(text: str) -> Iterator[str]:
    """Yields HTML for each block between blank lines; code may hold blank lines itself."""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        fence = _FENCE.fullmatch(lines[at])
        ends = (i for i in range(at + 1, len(lines)) if fence and lines[i].strip() == fence[1])
        if (end := next(ends, 0)) > 0:
            code = escape("\n".join(lines[at + 1 : end]), quote=False)
            yield f"<pre><code>{code}</code></pre>"
        else:
            end = next((i for i in range(at, len(lines)) if not lines[i].strip()), len(lines))
            if end > at:
                yield _block(lines[at:end])
        at = end + 1


def _block(lines: list[str]) -> str:
    for make in (_table, _list, _quote):
        found = make(lines, False)
        if found and html_to_text(found) == "\n".join(lines):
            return make(lines, True)
    return "<br>".join(_line(line) for line in lines)


def _table(lines: list[str], math: bool) -> str:
    if len(lines) < 2 or not all(_ROW.fullmatch(line) for line in lines):
        return ""
    header = _HEADER_RULE.fullmatch(lines[1]) is not None
    out = ["<table>"]
    for at, line in enumerate(lines):
        if at == 1 and header:
            continue
        cell = "th" if at == 0 and header else "td"
        cells = [_words(part.strip(), math) for part in line[1:-1].split(" | ")]
        out.append(f"<tr>{''.join(f'<{cell}>{words}</{cell}>' for words in cells)}</tr>")
    return "".join([*out, "</table>"])


def _list(lines: list[str], math: bool) -> str:
    items = [_ITEM.match(line) for line in lines]
    if not all(items):
        return ""
    numbers = [item[2] for item in items if item]
    kind = "ul" if numbers[0] is None else "ol"
    start = f' start="{numbers[0]}"' if kind == "ol" and numbers[0] != "1" else ""
    body = "".join(f"<li>{_words(_ITEM.sub('', line, count=1), math)}</li>" for line in lines)
    return f"<{kind}{start}>{body}</{kind}>"


def _quote(lines: list[str], math: bool) -> str:
    if not all(line.startswith("> ") for line in lines):
        return ""
    return f"<blockquote>{'<br>'.join(_words(line[2:], math) for line in lines)}</blockquote>"


def _line(line: str) -> str:
    words = line.lstrip(" \t")
    indent = len(line[: len(line) - len(words)].expandtabs(4))
    return "&nbsp;" * indent + _words(words, True)


def _words(text: str, math: bool) -> str:
    """Escapes text; with `math`, TeX between dollars is marked as Anki marks it."""
    if not math:
        return _plain(text)
    out, at = [], 0
    for match in _MATH.finditer(text):
        form = r"\[{}\]" if match["display"] else r"\({}\)"
        out += [
            _plain(text[at : match.start()]),
            form.format(escape(match[match.lastgroup or 0], quote=False)),
        ]
        at = match.end()
    return "".join([*out, _plain(text[at:])])


def _plain(text: str) -> str:
    return _MARKUP.sub(lambda m: f"&#{ord(m[0])};", escape(text, quote=False))
