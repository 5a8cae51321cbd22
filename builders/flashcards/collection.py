"""Anki collections: from a database that nobody vouches for to cards.

The database is opened read-only and never trusted: views, virtual tables and extensions are refused, and its
own integrity check must pass before a row is read.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from meadow import MAX_LINE, RawFile, RawFileError, Rejected, damaged

from .cards import CHECK, Card, NoteType, stray
from .package import EXPORT_AGAIN, EXPORT_OR_UPDATE, database, read_message

#: Schema versions: 11 is what every package for older Ankis has, 18 what Anki has written since 2.1.28.
#: Those between were short-lived steps of the same upgrade.
OLDEST_SCHEMA, NEWEST_SCHEMA = 11, 18
#: From here on note types and decks have tables of their own instead of JSON in `col`.
_TABLES_SCHEMA = 15
_PLACEHOLDER = "Please update to the latest Anki version"
#: Number of the stock note type in `original_stock_kind`.
_STOCK_OCCLUSION = 6


def collection_cards(file: RawFile, scratch: Path | None = None) -> Iterator[Card | Rejected]:
    """Reads the cards of a package or a bare collection, by note id and card number.

    `scratch` is where temporary files may lie meanwhile, None for the system's folder.

    Raises:
        RawFileError: The file is damaged, hostile, a placeholder, or of a schema this code does not know;
            also while reading, if the damage shows only then.
    """
    with tempfile.TemporaryDirectory(prefix="meadow-anki-", dir=scratch) as folder:
        path = database(file, Path(folder))
        # immutable: no lock, journal or shared-memory file appears beside the raw file.
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        try:
            with closing(sqlite3.connect(uri, uri=True)) as db:
                _distrust(db)
                yield from _cards(file, db, *_note_types_and_decks(file, db))
        except sqlite3.Error as error:
            raise damaged(file, f"the collection cannot be read: {error}") from error


def _distrust(db: sqlite3.Connection) -> None:
    # Text that is no UTF-8 must cost its row, not the file.
    db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    db.create_collation("unicase", _unicase)
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_LINE)
    for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "query_only=ON", "mmap_size=0"):
        db.execute(f"PRAGMA {pragma}")


def _note_types_and_decks(
    file: RawFile, db: sqlite3.Connection
) -> tuple[dict[int, NoteType], dict[int, str]]:
    """Checks the collection as a whole, and reads the note types and the names of the decks."""
    _check_tables(file, db, "col", "notes", "cards")
    found = db.execute("PRAGMA quick_check(1)").fetchone()
    if found is None or found[0] != "ok":
        raise damaged(file, f"the database fails its integrity check: {found and found[0]}")
    row = db.execute("SELECT ver FROM col").fetchone()
    schema = row[0] if row else None
    if not isinstance(schema, int) or schema < OLDEST_SCHEMA:
        detail = f"collection schema {schema}, the oldest known is {OLDEST_SCHEMA}"
        raise RawFileError("schema too old", detail, EXPORT_AGAIN, file.path)
    if schema > NEWEST_SCHEMA:
        detail = f"collection schema {schema}, the newest known is {NEWEST_SCHEMA}"
        raise RawFileError("schema newer than known", detail, EXPORT_OR_UPDATE, file.path)
    notes = db.execute("SELECT CAST(flds AS TEXT) FROM notes LIMIT 2").fetchall()
    if len(notes) == 1 and (notes[0][0] or "").startswith(_PLACEHOLDER):
        detail = "its one note only asks to update Anki; the cards are in the package's newer collection"
        remedy = "Use the whole package, or its newest collection file."
        raise RawFileError("placeholder collection", detail, remedy, file.path)
    try:
        if schema < _TABLES_SCHEMA:
            return _read_json(db)
        _check_tables(file, db, "notetypes", "fields", "templates", "decks")
        return _read_tables(db)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"note types or decks cannot be read: {type(error).__name__}: {error}"
        raise damaged(file, what) from error


def _check_tables(file: RawFile, db: sqlite3.Connection, *wanted: str) -> None:
    # A view or virtual table would run queries of the file's choosing.
    for name in wanted:
        row = db.execute(
            "SELECT type, sql FROM sqlite_master WHERE lower(name) = ? AND type IN ('table', 'view')",
            (name,),
        ).fetchone()
        if row is None:
            raise damaged(file, f"no Anki collection: it has no table {name!r}")
        if row[0] != "table" or "virtual" in str(row[1]).lower().split("(")[0]:
            remedy = "Do not use this file; fetch or export it again."
            raise RawFileError("unsafe database", f"{name!r} is no ordinary table", remedy, file.path)


def _cards(
    file: RawFile, db: sqlite3.Connection, kinds: dict[int, NoteType], decks: dict[int, str]
) -> Iterator[Card | Rejected]:
    # LEFT JOIN keeps notes outermost: rows stream by rowid, nothing is sorted but one note's cards.
    rows = db.execute(
        "SELECT n.id, CAST(n.guid AS TEXT), n.mid, CAST(n.tags AS TEXT), CAST(n.flds AS TEXT), "
        "c.id, c.ord, CASE WHEN c.odid THEN c.odid ELSE c.did END, c.flags "
        "FROM notes n LEFT JOIN cards c ON c.nid = n.id ORDER BY n.id, c.ord, c.id"
    )
    for note, guid, kind, tags, fields, card, ord_, deck, flags in rows:
        guid, fields = guid or "", fields or ""
        if card is None:
            yield stray("note without a card", file.path, f"note {guid or note}", fields, CHECK)
        elif not guid:
            yield stray("note without a guid", file.path, f"note {note}, card {card}", fields, CHECK)
        elif not isinstance(ord_, int) or ord_ < 0:
            yield stray("card without a template", file.path, f"note {guid}, card {card}", fields, CHECK)
        else:
            yield Card(
                guid,
                ord_,
                kinds.get(kind),
                tuple(fields.split("\x1f")),
                tuple((tags or "").replace("\u3000", " ").split()),
                decks.get(deck, ""),
                flags & 7 if isinstance(flags, int) else 0,
            )
    for (card,) in db.execute(
        "SELECT c.id FROM cards c WHERE NOT EXISTS (SELECT 1 FROM notes n WHERE n.id = c.nid) ORDER BY c.id"
    ):
        yield stray("card without its note", file.path, f"card {card}", remedy=CHECK)


def _read_json(db: sqlite3.Connection) -> tuple[dict[int, NoteType], dict[int, str]]:
    models, decks = db.execute("SELECT models, decks FROM col").fetchone()
    kinds = {}
    for key, model in json.loads(models or "{}").items():
        fields = sorted(model["flds"], key=lambda f: f.get("ord") or 0)
        sides = sorted(model["tmpls"], key=lambda t: t.get("ord") or 0)
        kinds[int(key)] = NoteType(
            str(model["name"]),
            model.get("type") == 1,
            tuple(str(f["name"]) for f in fields),
            tuple((str(t["name"]), str(t["qfmt"]), str(t["afmt"])) for t in sides),
            model.get("originalStockKind") == _STOCK_OCCLUSION,
        )
    return kinds, {int(key): _deck_name(deck["name"]) for key, deck in json.loads(decks or "{}").items()}


def _read_tables(db: sqlite3.Connection) -> tuple[dict[int, NoteType], dict[int, str]]:
    fields: defaultdict[int, list[str]] = defaultdict(list)
    for kind, name in db.execute("SELECT ntid, name FROM fields ORDER BY ntid, ord"):
        fields[kind].append(str(name))
    sides: defaultdict[int, list[tuple[str, str, str]]] = defaultdict(list)
    broken: dict[int, str] = {}
    for kind, name, config in db.execute("SELECT ntid, name, config FROM templates ORDER BY ntid, ord"):
        front = back = ""
        try:
            # Template.Config: 1 q_format, 2 a_format.
            front, back = read_message(config, {1: str, 2: str})
        except ValueError as error:
            broken[kind] = f"template {name}: {error}"
        sides[kind].append((str(name), front, back))
    kinds = {}
    for key, name, config in db.execute("SELECT id, name, config FROM notetypes"):
        kind = stock = 0
        try:
            # Notetype.Config: 1 kind (1 is cloze), 9 original_stock_kind.
            kind, stock = read_message(config, {1: int, 9: int})
        except ValueError as error:
            broken[key] = str(error)
        has_fields, has_sides = tuple(fields[key]), tuple(sides[key])
        problem, is_occlusion = broken.get(key, ""), stock == _STOCK_OCCLUSION
        kinds[key] = NoteType(str(name), kind == 1, has_fields, has_sides, is_occlusion, problem)
    return kinds, {key: _deck_name(name) for key, name in db.execute("SELECT id, name FROM decks")}


def _deck_name(name: object) -> str:
    return str(name).replace("\x1f", "::")


def _unicase(a: str, b: str) -> int:
    a, b = a.casefold(), b.casefold()
    return (a > b) - (a < b)
