"""Anki collections: from a database that nobody vouches for to cards.

The database is opened read-only and never trusted: views, virtual tables and extensions are refused, and its
own integrity check must pass before a row is read.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from meadow import MAX_LINE, RawFile, RawFileError, damaged

from . import protobuf
from .notes import Card, NoteType, Stray, is_occlusion
from .package import EXPORT_AGAIN, database

#: Schema versions: 11 is what every package for older Ankis has, 18 what Anki has written since 2.1.28.
#: Those between were short-lived steps of the same upgrade.
OLDEST_SCHEMA, NEWEST_SCHEMA = 11, 18
#: From here on note types and decks have tables of their own instead of JSON in `col`.
_TABLES_SCHEMA = 15
_PLACEHOLDER = "Please update to the latest Anki version"
#: Number of the stock note type in `original_stock_kind`.
_STOCK_OCCLUSION = 6


@contextmanager
def open_collection(file: RawFile, scratch: Path | None = None) -> Iterator[Collection]:
    """Opens a package or a bare collection.

    Args:
        file: ``.apkg``, ``.colpkg``, ``.anki2``, ``.anki21`` or ``.anki21b``.
        scratch: Where temporary files may lie; None for the system's folder.

    Yields:
        The collection; it closes, and its temporary file goes, with the context.

    Raises:
        RawFileError: The file is damaged, hostile, or newer than this code; also while reading, if the
            damage shows only then.
    """
    with tempfile.TemporaryDirectory(prefix="meadow-anki-", dir=scratch) as folder:
        path = database(file, Path(folder))
        # immutable: no lock, journal or shared-memory file appears beside the raw file.
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        try:
            with closing(sqlite3.connect(uri, uri=True)) as connection:
                yield Collection(file, connection)
        except sqlite3.Error as error:
            raise damaged(file, f"the collection cannot be read: {error}") from error


class Collection:
    """A collection opened by `open_collection`.

    Raises:
        RawFileError: It is damaged, a placeholder, or of a schema this code does not know.
    """

    def __init__(self, file: RawFile, connection: sqlite3.Connection) -> None:
        self._file, self._db = file, connection
        # Text that is no UTF-8 must cost its row, not the file.
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        connection.create_collation("unicase", _unicase)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_LINE)
        for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "query_only=ON", "mmap_size=0"):
            connection.execute(f"PRAGMA {pragma}")
        self._check_tables(("col", "notes", "cards"))
        found = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found is None or found[0] != "ok":
            raise damaged(file, f"the database fails its integrity check: {found and found[0]}")
        row = connection.execute("SELECT ver FROM col").fetchone()
        self.schema = row[0] if row else None
        if not isinstance(self.schema, int) or self.schema < OLDEST_SCHEMA:
            raise RawFileError(
                "schema too old",
                f"collection schema {self.schema}, the oldest known is {OLDEST_SCHEMA}",
                EXPORT_AGAIN,
                file.path,
            )
        if self.schema > NEWEST_SCHEMA:
            raise RawFileError(
                "schema newer than known",
                f"collection schema {self.schema}, the newest known is {NEWEST_SCHEMA}",
                f"{EXPORT_AGAIN} If that does not help, update Meadow.",
                file.path,
            )
        if self._is_placeholder():
            raise RawFileError(
                "placeholder collection",
                "its one note only asks to update Anki; the cards are in the package's newer collection",
                "Use the whole package, or its newest collection file.",
                file.path,
            )
        try:
            if self.schema >= _TABLES_SCHEMA:
                self._check_tables(("notetypes", "fields", "templates", "decks"))
                self.note_types, self.decks = self._read_tables()
            else:
                self.note_types, self.decks = self._read_json()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise damaged(
                file, f"note types or decks cannot be read: {type(error).__name__}: {error}"
            ) from error

    def cards(self) -> Iterator[Card | Stray]:
        """Reads all cards in the order of note id and card number, then cards without a note."""
        # LEFT JOIN keeps notes outermost: rows stream by rowid, nothing is sorted but one note's cards.
        rows = self._db.execute(
            "SELECT n.id, CAST(n.guid AS TEXT), n.mid, CAST(n.tags AS TEXT), CAST(n.flds AS TEXT), "
            "c.id, c.ord, CASE WHEN c.odid THEN c.odid ELSE c.did END, c.flags "
            "FROM notes n LEFT JOIN cards c ON c.nid = n.id ORDER BY n.id, c.ord, c.id"
        )
        for note, guid, kind, tags, fields, card, ord_, deck, flags in rows:
            guid, fields = guid or "", fields or ""
            if card is None:
                yield Stray("note without a card", f"note {guid or note}", fields)
            elif not guid:
                yield Stray("note without a guid", f"note {note}, card {card}", fields)
            elif not isinstance(ord_, int) or ord_ < 0:
                yield Stray("card without a template", f"note {guid}, card {card}", fields)
            else:
                yield Card(
                    guid,
                    ord_,
                    self.note_types.get(kind),
                    tuple(fields.split("\x1f")),
                    tuple((tags or "").replace("\u3000", " ").split()),
                    self.decks.get(deck, ""),
                    flags & 7 if isinstance(flags, int) else 0,
                )
        for (card,) in self._db.execute(
            "SELECT c.id FROM cards c WHERE NOT EXISTS (SELECT 1 FROM notes n WHERE n.id = c.nid) ORDER BY c.id"
        ):
            yield Stray("card without its note", f"card {card}")

    def _check_tables(self, wanted: tuple[str, ...]) -> None:
        # A view or virtual table would run queries of the file's choosing.
        for name in wanted:
            row = self._db.execute(
                "SELECT type, sql FROM sqlite_master WHERE lower(name) = ? AND type IN ('table', 'view')",
                (name,),
            ).fetchone()
            if row is None:
                raise damaged(self._file, f"no Anki collection: it has no table {name!r}")
            if row[0] != "table" or "virtual" in str(row[1]).lower().split("(")[0]:
                raise RawFileError(
                    "unsafe database",
                    f"{name!r} is no ordinary table",
                    "Do not use this file; fetch or export it again.",
                    self._file.path,
                )

    def _is_placeholder(self) -> bool:
        notes = self._db.execute("SELECT CAST(flds AS TEXT) FROM notes LIMIT 2").fetchall()
        return len(notes) == 1 and (notes[0][0] or "").startswith(_PLACEHOLDER)

    def _read_json(self) -> tuple[dict[int, NoteType], dict[int, str]]:
        models, decks = self._db.execute("SELECT models, decks FROM col").fetchone()
        kinds = {}
        for key, model in json.loads(models or "{}").items():
            fields = sorted(model["flds"], key=lambda f: f.get("ord") or 0)
            sides = sorted(model["tmpls"], key=lambda t: t.get("ord") or 0)
            name = str(model["name"])
            kinds[int(key)] = NoteType(
                name,
                model.get("type") == 1,
                model.get("originalStockKind") == _STOCK_OCCLUSION or is_occlusion(name),
                tuple(str(f["name"]) for f in fields),
                tuple((str(t["name"]), str(t["qfmt"]), str(t["afmt"])) for t in sides),
            )
        return kinds, {
            int(key): _deck_name(str(deck["name"])) for key, deck in json.loads(decks or "{}").items()
        }

    def _read_tables(self) -> tuple[dict[int, NoteType], dict[int, str]]:
        fields: dict[int, list[str]] = {}
        for kind, name in self._db.execute("SELECT ntid, name FROM fields ORDER BY ntid, ord"):
            fields.setdefault(kind, []).append(str(name))
        sides: dict[int, list[tuple[str, str, str]]] = {}
        broken: dict[int, str] = {}
        for kind, name, config in self._db.execute(
            "SELECT ntid, name, config FROM templates ORDER BY ntid, ord"
        ):
            front = back = ""
            try:
                # Template.Config: 1 q_format, 2 a_format.
                message = protobuf.read_fields(_bytes(config))
                front, back = protobuf.text(message, 1), protobuf.text(message, 2)
            except ValueError as error:
                broken[kind] = f"template {name}: {error}"
            sides.setdefault(kind, []).append((str(name), front, back))
        kinds = {}
        for kind, name, config in self._db.execute("SELECT id, name, config FROM notetypes"):
            cloze = occlusion = False
            try:
                # Notetype.Config: 1 kind (1 is cloze), 9 original_stock_kind.
                message = protobuf.read_fields(_bytes(config))
                cloze = protobuf.number(message, 1) == 1
                occlusion = protobuf.number(message, 9) == _STOCK_OCCLUSION
            except ValueError as error:
                broken[kind] = str(error)
            kinds[kind] = NoteType(
                str(name),
                cloze,
                occlusion or is_occlusion(str(name)),
                tuple(fields.get(kind, ())),
                tuple(sides.get(kind, ())),
                broken.get(kind, ""),
            )
        decks = {key: _deck_name(str(name)) for key, name in self._db.execute("SELECT id, name FROM decks")}
        return kinds, decks


def _deck_name(name: str) -> str:
    return name.replace("\x1f", "::")


def _unicase(a: str, b: str) -> int:
    a, b = a.casefold(), b.casefold()
    return (a > b) - (a < b)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("config is no blob")
    return value
