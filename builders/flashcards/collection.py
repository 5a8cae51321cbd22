"""Anki packages and collections: from a file that nobody vouches for to cards.

A collection is an SQLite database. SQLite cannot read from a stream, so a member of a package is written to
a temporary file first, under a limit, and opened read-only. The database is never trusted: views, virtual
tables and extensions are refused, and its own integrity check must pass before a row is read.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from meadow.core.archive import ZipArchive
from meadow.core.rawfile import MAX_LINE, MAX_RATIO, RATIO_FLOOR, RawFileError, bomb, damaged

from . import protobuf
from .templates import Template, TemplateError

if TYPE_CHECKING:
    from meadow.core.rawfile import RawFile

#: The largest shared medical decks hold some 40,000 notes in under 300 MB; 4 GiB leaves room for a person's
#: whole collection and stops short of filling a disk.
MAX_COLLECTION = 4 * 2**30
#: Schema versions: 11 is what every package for older Ankis has, 18 what Anki has written since 2.1.28.
#: Those between were short-lived steps of the same upgrade.
OLDEST_SCHEMA, NEWEST_SCHEMA = 11, 18
#: From here on note types and decks have tables of their own instead of JSON in `col`.
_TABLES_SCHEMA = 15
#: Package versions in `meta`: 1 is collection.anki2, 2 collection.anki21, 3 collection.anki21b.
NEWEST_PACKAGE = 3
#: In order of preference: a newer package also carries a placeholder under the older names.
MEMBERS = ("collection.anki21b", "collection.anki21", "collection.anki2")
_PLACEHOLDER = "Please update to the latest Anki version"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SQLITE = b"SQLite format 3\x00"
_CHUNK = 2**20
#: Number of the stock note type in `original_stock_kind`.
_STOCK_OCCLUSION = 6
_EXPORT_AGAIN = (
    'Open the deck in Anki 2.1.28 or newer and export it again, with "Support older Anki versions".'
)


@dataclass(frozen=True)
class NoteType:
    """A note type: its fields by name, its card templates, and what it is for.

    Attributes:
        name: As people see it.
        cloze: Whether its cards are cloze numbers of its one template, not templates.
        occlusion: Whether its cards hide parts of an image.
        fields: Field names in order.
        sides: (template name, front, back) in order.
        problem: What is wrong with the note type itself; empty where nothing is.
    """

    name: str
    cloze: bool
    occlusion: bool
    fields: tuple[str, ...]
    sides: tuple[tuple[str, str, str], ...]
    problem: str = ""

    @cached_property
    def templates(self) -> tuple[Template | TemplateError, ...]:
        """The parsed templates; an error stands where one cannot be parsed."""
        parsed: list[Template | TemplateError] = []
        for _, front, back in self.sides:
            try:
                parsed.append(Template(front, back))
            except TemplateError as error:
                parsed.append(error)
        return tuple(parsed)


@dataclass(frozen=True, slots=True)
class Card:
    """A card with its note.

    Attributes:
        guid: The note's identifier, which stays the same wherever the deck travels.
        ord: Which card of the note: the template, or the cloze number less one.
        note_type: None where the collection has no such note type.
        fields: The note's fields, as HTML.
        tags: The note's tags.
        deck: The card's own deck, its path joined with ``::``.
        flag: The coloured flag, 0 for none.
    """

    guid: str
    ord: int
    note_type: NoteType | None
    fields: tuple[str, ...]
    tags: tuple[str, ...]
    deck: str
    flag: int = 0


@dataclass(frozen=True, slots=True)
class Stray:
    """A record that belongs to no card: a note without cards, or a card whose note is gone.

    Attributes:
        reason: For the funnel.
        id: What identifies it within the file.
        excerpt: The note's text, if there is one.
    """

    reason: str
    id: str
    excerpt: str = ""


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
        path = _database(file, Path(folder))
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
                _EXPORT_AGAIN,
                file.path,
            )
        if self.schema > NEWEST_SCHEMA:
            raise RawFileError(
                "schema newer than known",
                f"collection schema {self.schema}, the newest known is {NEWEST_SCHEMA}",
                f"{_EXPORT_AGAIN} If that does not help, update Meadow.",
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


def is_occlusion(name: str) -> bool:
    """Whether a note type hides parts of an image, by its name (Anki's own, and the older add-ons)."""
    return "imageocclusion" in "".join(c for c in name.lower() if c.isalnum())


def _deck_name(name: str) -> str:
    return name.replace("\x1f", "::")


def _unicase(a: str, b: str) -> int:
    a, b = a.casefold(), b.casefold()
    return (a > b) - (a < b)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("config is no blob")
    return value


def _database(file: RawFile, folder: Path) -> Path:
    target = folder / "collection"
    if file.suffix not in (".apkg", ".colpkg"):
        with file.local.open("rb") as stream:
            head = stream.read(len(_SQLITE))
            if head == _SQLITE:
                _check_size(file, file.local)
                return file.local
            if not head.startswith(_ZSTD):
                raise damaged(file, "neither an SQLite database nor a zstd-compressed one")
            stream.seek(0)
            _unpack(file, stream, file.bytes, target)
        return target
    with ZipArchive(file) as archive:
        names = set(archive.names())
        announced = _package_version(archive) if "meta" in names else 0
        member = next((name for name in MEMBERS if name in names), None)
        if member is None:
            raise damaged(file, "the package holds no collection")
        if announced > NEWEST_PACKAGE:
            raise RawFileError(
                "package newer than known",
                f"package version {announced}, the newest known is {NEWEST_PACKAGE}",
                f"{_EXPORT_AGAIN} If that does not help, update Meadow.",
                file.path,
            )
        if announced > 1 and MEMBERS.index(member) > NEWEST_PACKAGE - announced:
            raise damaged(
                file, f"{MEMBERS[NEWEST_PACKAGE - announced]} is missing, what is left is a placeholder"
            )
        with archive.open(member) as stream:
            _unpack(file, stream, 0, target)
    return target


def _package_version(archive: ZipArchive) -> int:
    with archive.open("meta") as stream:
        data = stream.read(_CHUNK)
    try:
        return protobuf.number(protobuf.read_fields(data), 1)
    except ValueError as error:
        raise damaged(archive.file, f"meta: {error}") from error


def _unpack(file: RawFile, stream: BinaryIO, packed: int, target: Path) -> None:
    """Writes a database to `target`, decompressing it if need be; `packed` is 0 where `stream` guards itself."""
    import zstandard

    counted = _Counted(stream)
    source: Any = counted
    if counted.peek(len(_ZSTD)) == _ZSTD:
        # A reader, not a decompressobj: one call of that may inflate its input 30,000 times at once. The
        # reader takes a cut-off frame for the end; the size check below and quick_check catch that.
        source = zstandard.ZstdDecompressor().stream_reader(counted, read_size=_CHUNK // 8)
    size = 0
    with target.open("wb") as out:
        while True:
            try:
                data = source.read(_CHUNK)
            except zstandard.ZstdError as error:
                raise damaged(file, f"collection: {error}") from error
            if not data:
                break
            size += len(data)
            if size > RATIO_FLOOR and size > MAX_RATIO * max(packed, counted.taken, 1):
                raise bomb(file)
            if size > MAX_COLLECTION:
                raise RawFileError(
                    "collection too large",
                    f"the collection unpacks to more than {MAX_COLLECTION >> 30} GiB",
                    "Export the decks one by one.",
                    file.path,
                )
            out.write(data)
    _check_size(file, target)


class _Counted:
    """A stream that knows how much was taken from it, and can look at its beginning."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._ahead, self.taken = stream, b"", 0

    def peek(self, size: int) -> bytes:
        self._ahead = self._ahead or self._stream.read(size)
        return self._ahead

    def read(self, size: int = -1) -> bytes:
        data, self._ahead = self._ahead, b""
        data = data or self._stream.read(size)
        self.taken += len(data)
        return data


def _check_size(file: RawFile, path: Path) -> None:
    """Compares the size of a database with what its header says (bytes 16-17 page size, 28-31 pages)."""
    with path.open("rb") as stream:
        header = stream.read(100)
    if not header.startswith(_SQLITE):
        raise damaged(file, "the collection is no SQLite database")
    if len(header) < 100:
        raise damaged(file, "the database ends inside its header")
    page = int.from_bytes(header[16:18], "big")
    page = 65536 if page == 1 else page
    # The page count is valid only if the change counter at 24 equals the version it was written at, at 92.
    if header[24:28] == header[92:96] and path.stat().st_size < page * int.from_bytes(header[28:32], "big"):
        raise damaged(file, "the database is shorter than its header says")
