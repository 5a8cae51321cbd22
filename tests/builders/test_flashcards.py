"""Flashcards: packages of every age, templates, clozes, media, text exports, hostile files, and the sample."""

from __future__ import annotations

import io
import json
import pickle
import sqlite3
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard

from meadow.builders.flashcards import package as packages_of
from meadow.builders.flashcards.builder import CLOZE, QUESTION, Flashcards
from meadow.core.rawfile import RawFileError
from meadow.core.rawstore import find
from meadow.core.row import Example, Rejected
from meadow.testing import BuilderTest
from tests.samples import flashcards as sample

BACK = "{{FrontSide}}\n\n<hr id=answer>\n\n"


# Collections written by hand, in both schemas


@dataclass(frozen=True)
class Kind:
    name: str
    fields: Sequence[str]
    templates: Sequence[tuple[str, str]]
    cloze: bool = False
    stock: int = 0


@dataclass(frozen=True)
class Note:
    kind: Kind
    fields: Sequence[str]
    ords: Sequence[int] = (0,)
    guid: str = "g"
    deck: str = "Deck"
    tags: str = ""
    home: str = ""  # the deck that a card in a filtered deck comes from


BASIC = Kind("Basic", ("Front", "Back"), (("{{Front}}", BACK + "{{Back}}"),))
CLOZED = Kind("Cloze", ("Text", "Extra"), (("{{cloze:Text}}", "{{cloze:Text}}<br>\n{{Extra}}"),), cloze=True)

_COMMON = """
CREATE TABLE col (id integer primary key, crt int, mod int, scm int, ver int, dty int, usn int, ls int,
  conf text, models text, decks text, dconf text, tags text);
CREATE TABLE notes (id integer primary key, guid text, mid integer, mod int, usn int, tags text, flds text,
  sfld integer, csum int, flags int, data text);
CREATE TABLE cards (id integer primary key, nid integer, did integer, ord integer, mod int, usn int, type int,
  queue int, due int, ivl int, factor int, reps int, lapses int, left int, odue int, odid integer, flags int,
  data text);
"""
_MODERN = """
CREATE TABLE notetypes (id integer primary key, name text NOT NULL COLLATE unicase, mtime_secs integer, usn
  integer, config blob NOT NULL);
CREATE TABLE fields (ntid integer, ord integer, name text NOT NULL COLLATE unicase, config blob NOT NULL,
  PRIMARY KEY (ntid, ord)) WITHOUT ROWID;
CREATE TABLE templates (ntid integer, ord integer, name text NOT NULL COLLATE unicase, mtime_secs integer,
  usn integer, config blob NOT NULL, PRIMARY KEY (ntid, ord)) WITHOUT ROWID;
CREATE TABLE decks (id integer primary key, name text NOT NULL COLLATE unicase, mtime_secs integer, usn
  integer, common blob NOT NULL, kind blob NOT NULL);
CREATE UNIQUE INDEX idx_notetypes_name ON notetypes (name);
CREATE UNIQUE INDEX idx_decks_name ON decks (name);
"""


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(**fields: int | str) -> bytes:
    """Encodes protobuf fields named ``f<number>``."""
    out = b""
    for name, value in fields.items():
        number = int(name[1:])
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value.encode())) + value.encode()
    return out


def database(tmp_path: Path, notes: Iterable[Note], schema: int = 11, extra: Callable | None = None) -> bytes:
    """A collection of that schema; `extra` may change the open database."""
    path = tmp_path / "made.db"
    path.unlink(missing_ok=True)
    db = sqlite3.connect(path)
    db.create_collation("unicase", lambda a, b: (a.lower() > b.lower()) - (a.lower() < b.lower()))
    db.executescript(_COMMON)
    notes = list(notes)
    kinds = {note.kind.name: note.kind for note in notes}
    ids = {name: 1000 + at for at, name in enumerate(kinds)}
    names = dict.fromkeys(name for note in notes for name in (note.deck, note.home) if name)
    decks = {name: 2000 + at for at, name in enumerate(names)}
    models = json.dumps(
        {
            str(ids[kind.name]): {
                "id": ids[kind.name],
                "name": kind.name,
                "type": int(kind.cloze),
                "originalStockKind": kind.stock,
                # Written backwards: `ord` decides, not the place in the list.
                "flds": [{"name": n, "ord": at} for at, n in reversed(list(enumerate(kind.fields)))],
                "tmpls": [
                    {"name": f"Card {at + 1}", "ord": at, "qfmt": q, "afmt": a}
                    for at, (q, a) in reversed(list(enumerate(kind.templates)))
                ],
            }
            for kind in kinds.values()
        }
    )
    deck_json = json.dumps({str(key): {"id": key, "name": name} for name, key in decks.items()})
    if schema >= 15:
        db.executescript(_MODERN)
        models = deck_json = ""
        for kind in kinds.values():
            config = message(f1=int(kind.cloze), f3=".card { }", f9=kind.stock)
            db.execute("INSERT INTO notetypes VALUES (?,?,0,0,?)", (ids[kind.name], kind.name, config))
            for at, name in enumerate(kind.fields):
                db.execute(
                    "INSERT INTO fields VALUES (?,?,?,?)", (ids[kind.name], at, name, b"\x1a\x05Arial")
                )
            for at, (front, back) in enumerate(kind.templates):
                row = (ids[kind.name], at, f"Card {at + 1}", message(f1=front, f2=back, f8=2**63))
                db.execute("INSERT INTO templates VALUES (?,?,?,0,0,?)", row)
        for name, key in decks.items():
            db.execute("INSERT INTO decks VALUES (?,?,0,0,x'',x'')", (key, name.replace("::", "\x1f")))
    db.execute("INSERT INTO col VALUES (1,0,0,0,?,0,0,0,'{}',?,?,'{}','{}')", (schema, models, deck_json))
    card = 5000
    for at, note in enumerate(notes):
        fields = "\x1f".join(note.fields)
        db.execute(
            "INSERT INTO notes VALUES (?,?,?,0,0,?,?,'',0,0,'')",
            (100 + at, note.guid, ids[note.kind.name], f" {note.tags} ", fields),
        )
        for ord_ in reversed(note.ords):  # the order of ids is not that of the cards
            card += 1
            db.execute(
                "INSERT INTO cards VALUES (?,?,?,?,0,0,0,0,0,0,0,0,0,0,0,?,0,'')",
                (card, 100 + at, decks[note.deck], ord_, decks.get(note.home, 0)),
            )
    if extra:
        extra(db)
    db.commit()
    db.close()
    return path.read_bytes()


def package(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def zstd(content: bytes) -> bytes:
    """Compressed as Anki does: a stream without the content's size in its header."""
    made = zstandard.ZstdCompressor().compressobj()
    return made.compress(content) + made.flush()


def modern(content: bytes, decoy: bytes = b"") -> bytes:
    return package(
        {
            "meta": message(f1=3),
            "collection.anki21b": zstd(content),
            "collection.anki2": decoy,
            "media": zstd(b""),
        }
    )


def read(tmp_path: Path, name: str, content: bytes) -> list[Example | Rejected]:
    """Everything that one raw file gives."""
    path = tmp_path / "raw" / "flashcards" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    builder = Flashcards()
    raw = find(builder, tmp_path / "raw")
    found = []
    for shard in builder.shards(raw):
        found += builder.examples(pickle.loads(pickle.dumps(shard)))
    path.unlink()
    return found


@pytest.fixture(params=[11, 18], ids=["schema 11", "schema 18"])
def cards(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., list[Example | Rejected]]:
    """Reads notes through a package of either schema."""

    def run(*notes: Note) -> list[Example | Rejected]:
        content = database(tmp_path, notes, request.param)
        made = modern(content) if request.param == 18 else package({"collection.anki2": content})
        return read(tmp_path, "deck.apkg", made)

    return run


Cards = Callable[..., list[Example | Rejected]]


def texts(found: Iterable[Example | Rejected]) -> list[tuple[str, str] | str]:
    return [row.reason if isinstance(row, Rejected) else (row.input, row.output) for row in found]


# Rows


def test_a_card_is_a_row(cards: Cards) -> None:
    note = Note(BASIC, ("<b>Q</b>&nbsp;&lt;1?", "A"), guid="a/b", deck="One::Two", tags="x y::z")
    assert cards(note) == [
        Example(
            id="flashcards/a/b/0",
            instruction=QUESTION,
            input="Q <1?",
            output="A",
            group="a/b",
            extra={
                "deck": "One::Two",
                "tags": ["x", "y::z"],
                "note_guid": "a/b",
                "note_type": "Basic",
            },
        )
    ]


def test_rows_come_by_note_and_card_number(cards: Cards) -> None:
    kind = Kind("Both", ("F", "B"), (("{{F}}", BACK + "{{B}}"), ("{{B}}", BACK + "{{F}}")))
    found = cards(Note(kind, ("f1", "b1"), (0, 1), "z"), Note(kind, ("f2", "b2"), (1, 0), "a"))
    assert [row.id for row in found] == [f"flashcards/{guid}/{ord_}" for guid in "za" for ord_ in (0, 1)]
    assert texts(found)[:2] == [("f1", "b1"), ("b1", "f1")]


def test_only_cards_that_exist_give_rows(cards: Cards) -> None:
    kind = Kind("Both", ("F", "B"), (("{{F}}", BACK + "{{B}}"), ("{{B}}", BACK + "{{F}}")))
    assert [row.id for row in cards(Note(kind, ("f", "b"), (1,)))] == ["flashcards/g/1"]


def test_a_card_in_a_filtered_deck_belongs_to_its_own(cards: Cards) -> None:
    (row,) = cards(Note(BASIC, ("Q", "A"), deck="Cram", home="Home::Deck"))
    assert row.extra["deck"] == "Home::Deck"


@pytest.mark.parametrize(
    ("front", "back", "expected"),
    [
        ("{{A}}", "{{FrontSide}}<hr id=answer>{{B}}", ("q", "r")),
        ("{{A}}", '{{A}}<hr id="answer">{{B}}', ("q", "r")),
        ("{{A}}", "{{A}}<br>{{B}}", ("q", "r")),
        ("{{A}}", "Answer: {{B}}", ("q", "Answer: r")),
        ("{{A}}\n\n{{type:B}}", "{{A}}\n\n<hr id=answer>\n\n{{type:B}}", ("q", "r")),
        ("{{A}} {{type:B}}", "{{FrontSide}}", ("q", "r")),
        ("{{#A}}{{A}}!{{/A}}{{^A}}none{{/A}}", "{{#C}}c{{/C}}{{^C}}{{B}}{{/C}}", ("q!", "r")),
        ("{{A}}{{#C}}{{A}}{{/C}}", "{{B}}", ("q", "r")),
        ("{{A}}<br>{{hint:B}}", "{{FrontSide}}<hr id=answer>{{B}}", ("q", "r")),
        ("{{A}}", "{{FrontSide}}<hr id=answer>{{hint:B}}", ("q", "r")),
        ("{{ A }}", "{{{B}}}", ("q", "r")),
        ("{{=<% %>=}}<%A%> {{A}}", "{{=<% %>=}}<%FrontSide%><hr id=answer><%B%>", ("q q", "r")),
        ("{{A}} {{Tags}} {{Deck}} {{Subdeck}} {{Type}} {{Card}}", "{{B}}", ("q t D::E E Kind Card 1", "r")),
        ("{{text:A}}<!-- {{nothing}} -->", "{{unknown-filter:B}}", ("q", "r")),
        ("<h2>{{A}}</h2><style>p {}</style><script>x()</script>", "{{B}}", ("q", "r")),
        ("{{A}}<div style='display: none'>{{B}}</div>", "{{B}}<button>Show</button>", ("q", "r")),
        ("{{A}}", "{{B}}<footer>Licence: X</footer>", ("q", "r")),
        ("{{A}}{{#c1}}, first{{/c1}}{{#c2}}, second{{/c2}}", "{{B}}", ("q, first", "r")),
        ("{{A}}{{tts en_US voices=X:A}}", "{{B}}[anki:tts lang=en_US]r[/anki:tts]", ("q", "r")),
        ("{{A}}", "{{#A}}{{B}}{{/B}}", "card template is faulty"),
        ("{{#A}}{{A}}", "{{B}}", "card template is faulty"),
        ("{{Nothing}}", "{{B}}", "card template is faulty"),
        ("{{#Nothing}}{{A}}{{/Nothing}}", "{{B}}", "card template is faulty"),
        ("{{A}} {{B", "{{B}}", "card template is faulty"),
        ("only words", "{{B}}", "empty front"),
        ("{{C}}", "{{B}}", "empty front"),
        ("{{A}}", "{{FrontSide}}<hr id=answer>{{C}}", "empty back"),
    ],
)
def test_templates(cards: Cards, front: str, back: str, expected: object) -> None:
    kind = Kind("Kind", ("A", "B", "C"), ((front, back),))
    assert texts(cards(Note(kind, ("q", "r", "<br> "), tags="t", deck="D::E"))) == [expected]


def test_an_option_that_is_the_answer_is_not_taken_for_the_question(cards: Cards) -> None:
    kind = Kind("Choice", ("Q", "A"), (("{{Q}}", "{{A}}"),))
    found = cards(Note(kind, ("Which?<br>Heparin<br>Warfarin", "Warfarin")))
    assert texts(found) == [("Which?\nHeparin\nWarfarin", "Warfarin")]


def test_furigana_is_read(cards: Cards) -> None:
    kind = Kind("K", ("F", "B"), (("{{furigana:F}} {{kanji:F}} {{kana:F}}", "{{B}}"),))
    assert texts(cards(Note(kind, ("子[し]", "child")))) == [("子(し) 子 し", "child")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "{{c1::Iron}} and {{c2::zinc}}.",
            [("[...] and zinc.", "Iron\n\nmore"), ("Iron and [...].", "zinc\n\nmore")],
        ),
        ("The {{c1::liver::organ}} works.", [("The [organ] works.", "liver\n\nmore")]),
        ("x {{c1::a {{c2::b}} c}} y", [("x [...] y", "a b c\n\nmore"), ("x a [...] c y", "b\n\nmore")]),
        ("x {{c1::a {{c1::b}} c}} y", [("x [...] y", "a b c\n\nmore")]),
        ("{{c1::A}} or {{c1::B}} or {{c1::A}} hurts", [("[...] or [...] or [...] hurts", "A; B\n\nmore")]),
        ("Empty {{c1::}} here", ["cloze hides nothing"]),
        ("Blank {{c1::<br>&nbsp;}} here", ["cloze hides nothing"]),
        ("{{c1::all of it}}", ["empty front"]),
        (
            "x {{c1,2::both}} {{c2::two}}",
            [("x [...] two", "both\n\nmore"), ("x [...] [...]", "both; two\n\nmore")],
        ),
        (
            r"So \(a = {{c1::\frac{1}{2} }}\) holds",
            [("So $a = [...]$ holds", "$\\frac{1}{2}$\n\nmore")],
        ),
        ("<ul><li>{{c1::a}}</li><li>b</li></ul>", [("- [...]\n- b", "a\n\nmore")]),
        ("See {{c1::<img src=x.png>}} now", ["depends on an image"]),
        (
            "Hear {{c1::[sound:x.mp3]}} now, {{c2::me}}",
            ["depends on a sound", ("Hear now, [...]", "me\n\nmore")],
        ),
        ("{{c1::image-occlusion:rect:left=.1}} x", ["image occlusion"]),
    ],
)
def test_clozes(cards: Cards, text: str, expected: list) -> None:
    found = cards(Note(CLOZED, (text, "more"), range(len(expected))))
    assert texts(found) == expected
    assert all(row.instruction == CLOZE for row in found if isinstance(row, Example))


def test_a_cloze_number_that_is_not_in_the_text_gives_no_row(cards: Cards) -> None:
    found = cards(Note(CLOZED, ("{{c1::a}} b", ""), (0, 4)))
    assert texts(found) == [("[...] b", "a"), "cloze is not on the front"]


def test_cloze_fields_that_the_front_did_not_show_are_answers(cards: Cards) -> None:
    kind = Kind("K", ("T", "E"), (("{{cloze:T}}", "{{cloze:T}}<hr id=answer>{{cloze:E}}"),), cloze=True)
    found = cards(Note(kind, ("{{c1::a}} b {{c2::c}}", "because {{c1::d}}"), (0, 1)))
    assert texts(found) == [("[...] b c", "a\n\nbecause d"), ("a b [...]", "c")]


@pytest.mark.parametrize(
    ("front", "back", "expected"),
    [
        ("Q <img src='a.jpg'>", "A", ("Q", "A")),
        ("Q", "A <img src='a.jpg'>", ("Q", "A")),
        ("<img src='a.jpg'>", "A", "depends on an image"),
        ("Q", "&nbsp;<img src='a.jpg'><br>", "depends on an image"),
        ("Q", "<svg><text>A</text></svg>", "depends on an image"),
        ("What is shown? <img src='a.jpg'>", "A", "depends on an image"),
        ("Identify the structure <img src='a.jpg'>", "A", "depends on an image"),
        ("Diagnosis? <img src='a.jpg'>", "A", "depends on an image"),
        ("Name the muscle <img src='a.jpg'>", "A", "depends on an image"),
        ("Heart [sound:heart.mp3]", "A", ("Heart", "A")),
        ("Which nerve runs with the deep brachial artery? <img src='a.jpg'>", "A", None),
        ("Aspirin has been shown to do what?", "A", None),
        ("What does the figure of eight bandage hold?", "A", None),
        ("What is the sign in this image?", "A", "depends on an image"),
        ("[sound:a.mp3]", "A", "depends on a sound"),
        ("Q [sound:a.mp3]", "A [sound:b.mp3]", ("Q", "A")),
        ("Which murmur is this? [sound:a.mp3]", "A", "depends on a sound"),
        ("Listen to the clip [sound:a.mp3] of a valve", "A", "depends on a sound"),
        ("[sound:a.mp4]", "A", "depends on a video"),
        ("<video src=a.mp4>fallback</video>", "A", "depends on a video"),
        ("Q", "<img class='latex' alt='x^2' src='l.png'>", ("Q", "$x^2$")),
    ],
)
def test_media(cards: Cards, front: str, back: str, expected: object) -> None:
    (found,) = cards(Note(BASIC, (front, back)))
    if expected is None:
        assert isinstance(found, Example)
    else:
        assert texts([found]) == [expected]


def test_image_occlusion_is_known_by_kind_and_name(cards: Cards) -> None:
    stock = Kind("Anything", ("A", "B"), BASIC.templates, stock=6)
    named = Kind("Image Occlusion Enhanced+", ("A", "B"), BASIC.templates)
    found = cards(Note(stock, ("q", "a"), guid="1"), Note(named, ("q", "a"), guid="2"))
    assert texts(found) == ["image occlusion", "image occlusion"]


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("[latex]x < y[/latex]", "$x < y$"),
        ("[latex]A $x$ B[/latex]", "A $x$ B"),
        ("[$]x^2[/$]", "$x^2$"),
        ("[$$]\\sum<br>x[/$$]", "$$\\sum x$$"),
        ("\\(a &lt; b\\)", "$a < b$"),
        ("\\[a&nbsp;b\\]", "$$a b$$"),
        ('<anki-mathjax block="true">x</anki-mathjax>', "$$x$$"),
        ("costs $5", "costs $5"),
        ("one<br>two<div>three</div>", "one\ntwo\nthree"),
        ("&amp;lt; stays", "&lt; stays"),
        ("p<0.05 &amp; n>3", "p<0.05 & n>3"),
        ("a <![if !supportLists]>b<![endif]><!-- c <i>d</i> --> <![odd[ e", "a b <![odd[ e"),
    ],
)
def test_markup(cards: Cards, html: str, text: str) -> None:
    assert texts(cards(Note(BASIC, ("Q", html)))) == [("Q", text)]


def test_records_that_are_no_cards_are_listed(tmp_path: Path) -> None:
    def damage(db: sqlite3.Connection) -> None:
        db.execute(
            "INSERT INTO cards SELECT 9001, 77, did, 0, 0,0,0,0,0,0,0,0,0,0,0,0,0,'' FROM cards LIMIT 1"
        )
        db.execute("UPDATE notes SET mid = 5 WHERE guid = 'kind'")
        db.execute("UPDATE notes SET flds = 'one' WHERE guid = 'fields'")
        db.execute("UPDATE notes SET guid = '' WHERE guid = 'gone'")
        db.execute("UPDATE notes SET flds = CAST(x'51ff1f41' AS TEXT) WHERE guid = 'utf'")

    notes = [
        Note(BASIC, ("Q", "A"), guid="good"),
        Note(BASIC, ("lonely", "A"), (), guid="none"),
        Note(BASIC, ("Q", "A"), (3,), guid="ord"),
        Note(BASIC, ("Q", "A"), guid="kind"),
        Note(BASIC, ("Q", "A"), guid="fields"),
        Note(BASIC, ("Q", "A"), guid="gone"),
        Note(BASIC, ("Q", "A"), guid="utf"),
        Note(BASIC, ("x" * 300_000, "A"), guid="long"),
    ]
    content = database(tmp_path, notes, extra=damage)
    found = read(tmp_path, "sub/folder/collection.anki2", content)
    assert texts(found) == [
        ("Q", "A"),
        "note without a card",
        "card without a template",
        "unknown note type",
        "fields do not match the note type",
        "note without a guid",
        "invalid UTF-8",
        "card too long",
        "card without its note",
    ]
    assert found[1].id == "flashcards/sub/folder/collection.anki2: note none"
    assert "lonely" in found[1].excerpt
    assert found[2].id == "flashcards/ord/3" and found[2].remedy


def test_a_hostile_card_costs_seconds_at_most(tmp_path: Path) -> None:
    evil = ("<svg " * 30_000, "\\(" * 70_000, "<!--" * 40_000, "{{c1::" * 25_000, "[anki:tts " * 15_000)
    notes = [Note(BASIC, (text, "A"), guid=str(at)) for at, text in enumerate(evil)]
    notes.append(Note(BASIC, ("Q", "A"), guid="good"))
    found = read(tmp_path, "deck.anki2", database(tmp_path, notes))
    assert len(found) == len(notes) and texts(found)[-1] == ("Q", "A")


def test_pictures_written_into_a_field_do_not_make_it_long(cards: Cards) -> None:
    picture = f'<img src="data:image/png;base64,{"A" * 400_000}">'
    assert texts(cards(Note(BASIC, (f"Q {picture}", "A")))) == [("Q", "A")]


# Files


def test_the_newest_collection_of_a_package_is_read(tmp_path: Path) -> None:
    old = database(tmp_path, [Note(BASIC, ("old", "A"))])
    middle = database(tmp_path, [Note(BASIC, ("middle", "A"))])
    new = database(tmp_path, [Note(BASIC, ("new", "A"))], 18)
    both = {"collection.anki2": old, "collection.anki21": middle}
    assert texts(read(tmp_path, "a.apkg", package(both))) == [("middle", "A")]
    assert texts(read(tmp_path, "a.colpkg", package({**both, "meta": message(f1=2)}))) == [("middle", "A")]
    assert texts(read(tmp_path, "a.APKG", modern(new, old))) == [("new", "A")]
    assert texts(read(tmp_path, "collection.anki21", middle)) == [("middle", "A")]
    assert texts(read(tmp_path, "collection.anki21b", zstd(new))) == [("new", "A")]


@pytest.mark.parametrize("schema", [14, 15, 17])
def test_schemas_between_are_read(tmp_path: Path, schema: int) -> None:
    content = database(tmp_path, [Note(BASIC, ("Q", "A"), deck="D::E")], schema)
    (row,) = read(tmp_path, "c.anki21", content)
    assert (row.input, row.extra["deck"]) == ("Q", "D::E")


def test_reading_leaves_nothing_beside_the_raw_file(tmp_path: Path) -> None:
    content = bytearray(database(tmp_path, [Note(BASIC, ("Q", "A"))]))
    content[18:20] = b"\x02\x02"  # write-ahead logging, as Anki leaves it
    assert texts(read(tmp_path, "c.anki2", bytes(content))) == [("Q", "A")]
    assert list((tmp_path / "raw" / "flashcards").iterdir()) == []


def refusal(tmp_path: Path, name: str, content: bytes) -> RawFileError:
    with pytest.raises(RawFileError) as caught:
        read(tmp_path, name, content)
    assert caught.value.file == f"flashcards/{name}"
    assert caught.value.remedy
    (tmp_path / "raw" / "flashcards" / name).unlink()
    return caught.value


def test_files_that_cannot_be_read_are_refused_with_a_reason(tmp_path: Path) -> None:
    good = database(tmp_path, [Note(BASIC, ("Q" * 20_000, "A"))])
    new = database(tmp_path, [Note(BASIC, ("Q", "A"))], 18)
    decoy = database(
        tmp_path, [Note(BASIC, ("Please update to the latest Anki version, then import again.", ""))]
    )
    whole = package({"collection.anki2": good})
    reasons = {
        name: refusal(tmp_path, name, content).reason
        for name, content in {
            "cut.apkg": whole[:-50],
            "text.apkg": b"not a zip",
            "empty.apkg": b"",
            "none.apkg": package({"media": b"{}"}),
            "climbs.apkg": package({"collection.anki2": good, "../../evil": b"x"}),
            "later.apkg": package(
                {"meta": message(f1=4), "collection.anki22": b"x", "collection.anki2": decoy}
            ),
            "lost.apkg": package({"meta": message(f1=3), "collection.anki2": good}),
            "meta.apkg": package({"meta": b"\xff\xff", "collection.anki2": good}),
            "decoy.apkg": package({"collection.anki2": decoy}),
            "decoy.anki2": decoy,
            "short.anki2": good[: len(good) // 2],
            "header.anki2": good[:50],
            "text.anki2": b"hello",
            "short.anki21b": zstd(new)[:-200],
            "junk.anki21b": b"\x28\xb5\x2f\xfd" + b"junk" * 20,
            "other.anki21b": zstd(b"x" * 2000),
        }.items()
    }
    assert reasons == {
        **dict.fromkeys(reasons, "damaged file"),
        "climbs.apkg": "unsafe path in archive",
        "later.apkg": "package newer than known",
        "decoy.apkg": "placeholder collection",
        "decoy.anki2": "placeholder collection",
    }


@pytest.mark.parametrize(
    ("schema", "reason"), [(10, "schema too old"), (19, "schema newer than known"), (None, "schema too old")]
)
def test_unknown_schemas_are_refused(tmp_path: Path, schema: int | None, reason: str) -> None:
    content = database(
        tmp_path,
        [Note(BASIC, ("Q", "A"))],
        extra=lambda db: db.execute("UPDATE col SET ver = ?", (schema,)),
    )
    error = refusal(tmp_path, "a.anki2", content)
    assert error.reason == reason and str(schema) in error.detail and "export" in error.remedy


def test_databases_that_would_run_queries_of_their_own_are_refused(tmp_path: Path) -> None:
    def swap(db: sqlite3.Connection) -> None:
        db.executescript("ALTER TABLE notes RENAME TO real; CREATE VIEW notes AS SELECT * FROM real;")

    def virtual(db: sqlite3.Connection) -> None:
        db.executescript("DROP TABLE notes; CREATE VIRTUAL TABLE notes USING fts5(id, guid);")

    for change in (swap, virtual):
        content = database(tmp_path, [Note(BASIC, ("Q", "A"))], extra=change)
        assert refusal(tmp_path, "a.anki2", content).reason == "unsafe database"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE col SET models = 'no json'",
        "UPDATE col SET models = '[1]'",
        """UPDATE col SET models = '{"1": {"name": 1}}'""",
        "DELETE FROM col",
        "DROP TABLE cards",
    ],
)
def test_collections_without_sense_are_refused(tmp_path: Path, change: str) -> None:
    content = database(tmp_path, [Note(BASIC, ("Q", "A"))], extra=lambda db: db.execute(change))
    assert refusal(tmp_path, "a.anki2", content).reason in ("damaged file", "schema too old")


def test_a_damaged_page_is_found_before_a_row_is_read(tmp_path: Path) -> None:
    notes = [Note(BASIC, (f"Q{at} " + "x" * 500, "A"), guid=str(at)) for at in range(200)]
    content = bytearray(database(tmp_path, notes))
    for at in range(20 * 4096, 22 * 4096):
        content[at] = 0xFF
    assert refusal(tmp_path, "a.anki2", bytes(content)).reason == "damaged file"


def test_a_note_type_that_cannot_be_decoded_costs_its_own_cards(tmp_path: Path) -> None:
    other = Kind("Other", ("A", "B"), BASIC.templates)
    content = database(
        tmp_path,
        [Note(BASIC, ("Q", "A"), guid="1"), Note(other, ("Q", "A"), guid="2")],
        18,
        extra=lambda db: db.execute("UPDATE templates SET config = x'0aff' WHERE ntid = 1001"),
    )
    assert texts(read(tmp_path, "a.apkg", modern(content))) == [("Q", "A"), "unreadable note type"]


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = b"SQLite format 3\x00" + bytes(64 * 2**20)
    assert refusal(tmp_path, "a.apkg", package({"collection.anki2": zeros})).reason == "decompression bomb"
    assert refusal(tmp_path, "b.apkg", modern(zeros)).reason == "decompression bomb"
    assert refusal(tmp_path, "c.anki21b", zstd(zeros)).reason == "decompression bomb"
    monkeypatch.setattr(packages_of, "MAX_COLLECTION", 10_000)
    content = database(tmp_path, [Note(BASIC, ("Q", "A"))])
    assert (
        refusal(tmp_path, "d.apkg", package({"collection.anki2": content})).reason == "collection too large"
    )


# Text exports

NOTES = (
    "#separator:tab\n#html:true\n#guid column:1\n#notetype column:2\n#deck column:3\n#tags column:6\n"
    'g1\tBasic\tD::E\t"a ""b""\n<br>c"\td &lt; e\tx y\n'
    "g2\tBasic (and reversed card)\tD\tf\tb\t\n"
    "g3\tCloze\tD\t{{c1::A}} and {{c2::B}}\textra\t\n"
    '"#4"\tBasic (optional reversed card)\tD\tf\tb\t\ty\n'
    "# a comment\n"
    "g5\tBasic\tD\t<img src=x>\tb\t\n"
    "g6\tBasic (optional reversed card)\tD\tf\tb\t\t\n"
)


@pytest.mark.parametrize("change", [str, lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n")])
def test_text_exports_of_notes(tmp_path: Path, change: Callable[[str], str]) -> None:
    found = read(tmp_path, "notes.txt", change(NOTES).encode())
    assert [
        (row.id, *([text] if isinstance(text, str) else text))
        for row, text in zip(found, texts(found), strict=True)
    ] == [
        ("flashcards/g1/0", 'a "b"\nc', "d < e"),
        ("flashcards/g2/0", "f", "b"),
        ("flashcards/g2/1", "b", "f"),
        ("flashcards/g3/0", "[...] and B", "A\n\nextra"),
        ("flashcards/g3/1", "A and [...]", "B\n\nextra"),
        ("flashcards/#4/0", "f", "b"),
        ("flashcards/#4/1", "b", "f"),
        ("flashcards/g5/0", "depends on an image"),
        ("flashcards/g6/0", "f", "b"),
    ]
    assert found[0].extra == {
        "deck": "D::E",
        "tags": ["x", "y"],
        "note_guid": "g1",
        "note_type": "Basic",
    }


def test_text_exports_without_columns_of_anki(tmp_path: Path) -> None:
    text = "#separator:Semicolon\n#html:false\n#columns:Drug;Class;Use\n#notetype:Drugs\n#deck:D\n#tags:t\n"
    found = read(tmp_path, "a.txt", f"{text}<x>;ACE;pain\n<x>;ACE;pain\n".encode())
    assert texts(found) == [("<x>", "Class: ACE\nUse: pain")] * 2
    assert found[0].extra["deck"] == "D" and found[0].extra["tags"] == ["t"]
    assert found[0].id.startswith("flashcards/text-") and found[0].id == found[1].id
    (other,) = read(tmp_path, "a.txt", f"{text}<x>;ACE;fever\n".encode())
    assert other.id != found[0].id


def test_whether_text_is_html_is_seen_where_it_is_not_said(tmp_path: Path) -> None:
    assert texts(read(tmp_path, "a.txt", b"#separator:,\na < b,c &amp d\n")) == [("a < b", "c &amp d")]
    assert texts(read(tmp_path, "a.txt", b"#separator:,\n<b>a</b>,c &amp; d\n")) == [("a", "c & d")]


def test_bad_text_costs_its_record(tmp_path: Path) -> None:
    content = b"#separator:tab\n#html:true\n#guid column:1\na\tQ\xff\tA\nb\t\t\nc\tQ\tA\nd\tonly\n"
    found = read(tmp_path, "a.txt", content)
    assert texts(found) == ["invalid UTF-8", "record without fields", ("Q", "A"), "empty back"]


def test_fields_longer_than_csv_allows_are_read(tmp_path: Path) -> None:
    content = f"#separator:tab\n#html:true\nQ\t{'long ' * 30_000}\n".encode()
    (row,) = read(tmp_path, "a.txt", content)
    assert len(row.output) == 5 * 30_000 - 1


@pytest.mark.parametrize(
    "content", [b"", b"Read me first\n", b"#html:true\na\tb\n", b"#separator:two\na\tb\n"]
)
def test_other_text_is_refused(tmp_path: Path, content: bytes) -> None:
    assert refusal(tmp_path, "README.txt", content).reason == "no Anki text export"


# Real files


@pytest.fixture(scope="module")
def packages(real_store: Callable[..., Path]) -> Path:
    names = ("Example_Deck.apkg", "corrupt.anki2", "media.apkg", "schema250.anki2", "templates.apkg")
    return real_store(*(f"flashcards/{name}" for name in names))


@pytest.fixture(scope="module")
def found(packages: Path) -> dict[str, list[Example | Rejected] | RawFileError]:
    """What each real file gives, or why it is refused."""
    builder = Flashcards()
    out: dict[str, list[Example | Rejected] | RawFileError] = {}
    for shard in builder.shards(find(builder, packages)):
        name = shard.files[0].name
        try:
            out[name] = list(builder.examples(shard))
        except RawFileError as error:
            out[name] = error
    return out


def tables(file: Path, path: Path) -> sqlite3.Connection:
    """The collection of a package, opened with nothing of ours, by way of a file at `path`."""
    with zipfile.ZipFile(file) as archive:
        if "collection.anki21b" in archive.namelist():
            data = zstandard.ZstdDecompressor().decompressobj().decompress(archive.read("collection.anki21b"))
        else:
            data = archive.read("collection.anki2")
    path.write_bytes(data)
    db = sqlite3.connect(path)
    db.create_collation("unicase", lambda a, b: (a > b) - (a < b))
    return db


class TestReal:
    def test_damaged_and_future_files_are_left_out(self, found: dict) -> None:
        assert found["corrupt.anki2"].reason == "damaged file"
        assert found["schema250.anki2"].reason == "schema newer than known"
        assert "250" in found["schema250.anki2"].detail

    def test_the_modern_package_gives_its_notes_as_they_stand(
        self, found: dict, packages: Path, tmp_path: Path
    ) -> None:
        db = tables(packages / "flashcards" / "Example_Deck.apkg", tmp_path / "c.db")
        rows = db.execute("SELECT guid, flds FROM notes ORDER BY id").fetchall()
        assert len(rows) == 4
        assert [(r.id, r.input, r.output) for r in found["Example_Deck.apkg"]] == [
            (f"flashcards/{guid}/0", *fields.split("\x1f")) for guid, fields in rows
        ]
        ((deck,),) = db.execute("SELECT DISTINCT d.name FROM decks d JOIN cards c ON c.did = d.id").fetchall()
        assert {r.extra["deck"] for r in found["Example_Deck.apkg"]} == {deck}

    def test_every_card_of_the_legacy_package_is_read_once(
        self, found: dict, packages: Path, tmp_path: Path
    ) -> None:
        db = tables(packages / "flashcards" / "templates.apkg", tmp_path / "c.db")
        cards = db.execute(
            "SELECT n.guid, c.ord FROM cards c JOIN notes n ON n.id = c.nid ORDER BY n.id, c.ord"
        )
        wanted = [f"flashcards/{guid}/{ord_}" for guid, ord_ in cards]
        assert len(wanted) == 146
        assert [row.id for row in found["templates.apkg"]] == wanted
        assert len({row.group for row in found["templates.apkg"] if isinstance(row, Example)}) <= 48

    def test_the_legacy_funnel_is_what_the_tables_say(
        self, found: dict, packages: Path, tmp_path: Path
    ) -> None:
        db = tables(packages / "flashcards" / "templates.apkg", tmp_path / "c.db")
        models = json.loads(db.execute("SELECT models FROM col").fetchone()[0])
        per = Counter(
            (models[str(mid)]["name"], ord_)
            for mid, ord_ in db.execute("SELECT n.mid, c.ord FROM cards c JOIN notes n ON n.id = c.nid")
        )
        # Templates that Anki shows as an error: sections closed in the wrong order, unknown fields, a late
        # change of delimiters, and Mustache comments.
        faulty = {("Muscle", 1), ("Muscle", 2), ("Basic-conditional", 0), ("Basic-misc", 2)}
        faulty |= {("reassign", 0), ("reassign", 1)}
        dropped = Counter(r.reason for r in found["templates.apkg"] if isinstance(r, Rejected))
        assert dropped["card template is faulty"] == sum(per[key] for key in faulty)
        assert dropped["depends on an image"] == per["Muscle", 5]
        kept = Counter(r.extra["note_type"] for r in found["templates.apkg"] if isinstance(r, Example))
        assert kept["Muscle"] == per["Muscle", 0] + per["Muscle", 3] + per["Muscle", 4]
        assert kept["Thaischrift"] == per["Thaischrift", 0] == 23
        assert kept["Conjugations Test Multi-Cloze"] == 9

    def test_filtered_cards_keep_their_own_deck(self, found: dict, packages: Path, tmp_path: Path) -> None:
        db = tables(packages / "flashcards" / "templates.apkg", tmp_path / "c.db")
        names = {
            int(k): d["name"]
            for k, d in json.loads(db.execute("SELECT decks FROM col").fetchone()[0]).items()
        }
        homes = {
            f"flashcards/{guid}/{ord_}": names[odid]
            for guid, ord_, odid in db.execute(
                "SELECT n.guid, c.ord, c.odid FROM cards c JOIN notes n ON n.id = c.nid WHERE c.odid"
            )
        }
        assert len(homes) == 16
        rows = {r.id: r for r in found["templates.apkg"] if isinstance(r, Example)}
        for key in homes.keys() & rows.keys():
            assert rows[key].extra["deck"] == homes[key]

    def test_known_cards(self, found: dict) -> None:
        rows = {r.id: (r.input, r.output) for r in found["templates.apkg"] if isinstance(r, Example)}
        assert rows["flashcards/fd6;[gN5e{/0"] == (
            "Which movements result from the contraction of Coracobrachialis?",
            "Adduction at shoulder\nFlexion at shoulder",
        )
        assert rows["flashcards/vrkrS7MW|m/1"] == (
            "Some common text here! I am a long sentence with [...] sections clozed!",
            "multiple",
        )
        assert rows["flashcards/m0xe0%R;Q,/2"][1] == "come\n\n/ɛl kˈome/"

    def test_a_card_that_is_a_sound(self, found: dict) -> None:
        assert texts(found["media.apkg"]) == ["depends on a sound"]


# The sample


def contents(path: Path) -> dict[str, object]:
    """What a package holds, whatever wrote the container: SQLite's version is in each database."""
    out: dict[str, object] = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            out[info.filename] = archive.read(info)
    db = sqlite3.connect(":memory:")
    db.deserialize(out["collection.anki2"])
    out["collection.anki2"] = list(db.iterdump())
    return out


def test_the_sample_is_what_its_source_writes(tmp_path: Path) -> None:
    folder = Flashcards.folder() / "sample"
    for name in ("one.apkg", "two.apkg"):
        sample.write_package(tmp_path / name)
    assert (tmp_path / "one.apkg").read_bytes() == (tmp_path / "two.apkg").read_bytes()
    assert contents(tmp_path / "one.apkg") == contents(folder / sample.PACKAGE)
    assert (folder / sample.TEXT).read_bytes() == sample.text_export()
    assert sorted(p.name for p in folder.iterdir()) == sorted((sample.PACKAGE, sample.TEXT))


def test_the_sample_media_are_real_files() -> None:
    from PIL import Image

    with zipfile.ZipFile(Flashcards.folder() / "sample" / sample.PACKAGE) as archive:
        names = {name: key for key, name in json.loads(archive.read("media")).items()}
        image = Image.open(io.BytesIO(archive.read(names["meadow_heart.png"])))
        assert image.getpixel((0, 0)) == (200, 30, 30)
        wav = archive.read(names["meadow_murmur.wav"])
    assert struct.unpack("<I", wav[4:8]) == (len(wav) - 8,)


def test_the_sample_shows_every_kind_of_card() -> None:
    builder = Flashcards()
    found = [row for shard in builder.shards(find(builder, None)) for row in builder.examples(shard)]
    kept = {row.input: row for row in found if isinstance(row, Example)}
    assert len(kept) == 47 == len({row.id for row in kept.values()})
    assert Counter(r.reason for r in found if isinstance(r, Rejected)) == {
        "depends on an image": 1,
        "depends on a sound": 1,
        "cloze hides nothing": 1,
    }
    assert kept["Facial nerve"].output == "Seventh cranial nerve"
    assert kept["In the collecting duct, [...]."].output == (
        "aldosterone raises the reabsorption of sodium and the secretion of potassium"
    )
    assert "[muscle]" in "".join(kept)
    assert kept["How does furosemide work?"].output.endswith("\nClass: Loop diuretics")
    assert kept["Which pathways of coagulation does the prothrombin time test?"].output == (
        "The extrinsic and the common pathway"
    )


class TestFlashcardsBuild(BuilderTest):
    builder = Flashcards
    pins = {
        "1.0.0": {"medical_flashcards": "ea1f4834452e12012b531813089346600540bbedc644055a93fbc72499d50971"}
    }


_PICTURE, _SOUND = '<img src="a.png">', "[sound:a.mp3]"
_PLAIN, _ANSWER = "{{Front}}", "{{FrontSide}}<hr id=answer>{{Back}}"


@pytest.mark.parametrize(
    ("front", "back", "fields", "outcome"),
    [
        ("Q: {{Media}}", _ANSWER, ("f", "Gout", _PICTURE), "depends on an image"),
        ("Muscle {{Media}}", _ANSWER, ("f", "Biceps", _PICTURE), "depends on an image"),
        ("Word: {{Media}}", _ANSWER, ("f", "hello", _SOUND), "depends on a sound"),
        ("(no extra) {{Front}}", _ANSWER, (_PICTURE, "Only", ""), "depends on an image"),
        ("(no extra) {{Front}}", _ANSWER, (f"Murmur? {_SOUND}", "Stenosis", ""), "depends on a sound"),
        (_PLAIN, _ANSWER, (f"Listen: {_SOUND} Which valve lesion?", "Stenosis", ""), "depends on a sound"),
        (_PLAIN, _ANSWER, ("Where is the femur?", f"{_PICTURE} here", ""), "depends on an image"),
        (_PLAIN, "{{FrontSide}}<hr id=answer>A: {{Media}}", ("Show atrial flutter", "b", _PICTURE), "depends on an image"),
        ("{{Back}}", "{{FrontSide}}<hr id=answer>{{text:Front}}", (f"{_PICTURE}Identify the structure shown", "Femur", ""), "depends on an image"),
        (_PLAIN, _ANSWER, (f"Which bone is longest? {_PICTURE}", "The femur", ""), "The femur"),
        (_PLAIN, _ANSWER, ("What treats gout?", f"Colchicine {_PICTURE}", ""), "Colchicine"),
        ("{{Front}} {{Media}}", _ANSWER, ("What treats gout?", "Colchicine", _PICTURE), "Colchicine"),
    ],
)  # fmt: skip
def test_what_a_medium_alone_says_is_lost_with_it(
    tmp_path: Path, front: str, back: str, fields: tuple[str, ...], outcome: str
) -> None:
    import genanki

    model = genanki.Model(
        1_700_000_001,
        "Media",
        fields=[{"name": name} for name in ("Front", "Back", "Media")],
        templates=[{"name": "Card", "qfmt": front, "afmt": back}],
    )
    deck = genanki.Deck(1_700_000_002, "Media")
    deck.add_note(genanki.Note(model, list(fields)))
    folder = tmp_path / "flashcards"
    folder.mkdir()
    genanki.Package(deck).write_to_file(folder / "deck.apkg")
    builder = Flashcards()
    [shard] = builder.shards(find(builder, tmp_path))
    [record] = builder.examples(shard)
    assert (record.reason if isinstance(record, Rejected) else record.output) == outcome
