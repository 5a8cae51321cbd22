r"""The sample's source: the notes of an invented deck, and the package and text export made of them.

``python -m tests.samples.flashcards`` writes the files under ``builders/flashcards/sample/``; a test checks that
they hold what this script writes. The cards are original and dedicated to the public domain (CC0).

On purpose there are, beside ordinary cards: nested, hinted, repeated and empty clozes, a note type with
many fields and conditional sections, a hint that stays closed, a box to type into, LaTeX in three
spellings, entities, a list and a table, a picture that decorates and one that is asked about, and a sound.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import genanki

SAMPLE = Path(__file__).resolve().parents[2] / "builders" / "flashcards" / "sample"

#: 2025-01-01 00:00 UTC. Notes need a date of change; a fixed one keeps the package the same.
MODIFIED = 1735689600
PACKAGE, TEXT = "meadow_sample.apkg", "meadow_sample.txt"
DECK = "Meadow sample"

_BACK = "{{FrontSide}}\n\n<hr id=answer>\n\n"


@dataclass(frozen=True)
class Kind:
    """A note type; the names of its fields follow from its notes."""

    id: int
    name: str
    fields: tuple[str, ...]
    templates: tuple[tuple[str, str, str], ...]
    cloze: bool = False


@dataclass(frozen=True)
class Note:
    """A note: its key, from which its guid follows, its deck below the sample's, tags and fields."""

    key: str
    kind: Kind
    deck: str
    tags: tuple[str, ...]
    fields: tuple[str, ...]


BASIC = Kind(
    1735689601001,
    "Meadow basic",
    ("Front", "Back"),
    (("Card 1", "{{Front}}", _BACK + "{{Back}}"),),
)
REVERSED = Kind(
    1735689601002,
    "Meadow basic and reversed",
    ("Front", "Back"),
    (("Forward", "{{Front}}", _BACK + "{{Back}}"), ("Backward", "{{Back}}", _BACK + "{{Front}}")),
)
TYPED = Kind(
    1735689601003,
    "Meadow typed answer",
    ("Front", "Back"),
    (("Card 1", "{{Front}}\n\n{{type:Back}}", "{{Front}}\n\n<hr id=answer>\n\n{{type:Back}}"),),
)
HINTED = Kind(
    1735689601004,
    "Meadow hint",
    ("Front", "Back", "Hint"),
    (("Card 1", "{{Front}}\n{{#Hint}}<br>{{hint:Hint}}{{/Hint}}", _BACK + "{{Back}}"),),
)
CLOZE = Kind(
    1735689601005,
    "Meadow cloze",
    ("Text", "Back Extra"),
    (("Cloze", "{{cloze:Text}}", "{{cloze:Text}}<br>\n{{Back Extra}}"),),
    cloze=True,
)
DRUG = Kind(
    1735689601006,
    "Meadow drug",
    ("Drug", "Class", "Mechanism", "Use", "Harm", "Remark"),
    (
        ("Class", "{{#Class}}To which class of drugs does {{Drug}} belong?{{/Class}}", _BACK + "{{Class}}"),
        (
            "Mechanism",
            "{{#Mechanism}}How does {{Drug}} work?{{/Mechanism}}",
            _BACK + "{{Mechanism}}{{#Use}}<br>Used for: {{Use}}{{/Use}}{{^Use}}<br>Class: {{Class}}{{/Use}}",
        ),
        # No FrontSide: the question stands there again, as in many older decks.
        (
            "Harm",
            "{{#Harm}}Which harm of {{Drug}} has to be watched for?{{/Harm}}",
            "Which harm of {{Drug}} has to be watched for?<hr id=answer>{{Harm}}"
            "{{#Remark}}<div>{{Remark}}</div>{{/Remark}}",
        ),
    ),
)

NOTES = (
    Note(
        "insulin",
        BASIC,
        "Physiology",
        ("endocrine",),
        ("Which cells of the pancreatic islets secrete insulin?", "The beta cells"),
    ),
    Note(
        "peaked-t",
        BASIC,
        "Clinic::Emergencies",
        ("cardiology", "electrolytes"),
        ("Which electrolyte disturbance makes the T waves tall and peaked?", "<b>Hyperkalaemia</b>"),
    ),
    Note(
        "paracetamol",
        BASIC,
        "Clinic::Emergencies",
        ("toxicology",),
        (
            "What is the antidote in overdose of paracetamol (acetaminophen)?",
            "<div>N-acetylcysteine</div><div>It restores the liver's glutathione.</div>",
        ),
    ),
    Note(
        "scurvy",
        BASIC,
        "Physiology",
        ("nutrition",),
        (
            "Lack of which vitamin causes scurvy, and why do the gums bleed?",
            "Vitamin C. It is needed to hydroxylate proline and lysine; without it collagen is weak.",
        ),
    ),
    Note(
        "cushing",
        BASIC,
        "Clinic::Emergencies",
        ("neurology",),
        (
            "What are the three parts of Cushing's triad in raised intracranial pressure?",
            "<ul><li>High blood pressure with a wide pulse pressure</li><li>Slow heart rate</li>"
            "<li>Irregular breathing</li></ul>",
        ),
    ),
    Note(
        "surgical-neck",
        BASIC,
        "Anatomy",
        ("nerves",),
        ("Which nerve is at risk when the surgical neck of the humerus breaks?", "The axillary nerve"),
    ),
    Note(
        "blood-gas",
        BASIC,
        "Physiology",
        ("acid-base",),
        (
            "What are usual adult reference ranges in an arterial blood gas?",
            "<table><tr><th>Quantity</th><th>Range</th></tr><tr><td>pH</td><td>7.35 to 7.45</td></tr>"
            "<tr><td>PaCO<sub>2</sub></td><td>35 to 45&nbsp;mmHg</td></tr>"
            "<tr><td>Bicarbonate</td><td>22 to 26&nbsp;mmol/L</td></tr></table>",
        ),
    ),
    Note(
        "hba1c",
        BASIC,
        "Clinic",
        ("endocrine",),
        (
            "What does an HbA<sub>1c</sub> of &ge;&nbsp;48&nbsp;mmol/mol (6.5&nbsp;%) point to?",
            "Diabetes mellitus; without symptoms, a second test has to confirm it.",
        ),
    ),
    Note(
        "hfref",
        BASIC,
        "Clinic",
        ("cardiology",),
        (
            "Which ejection fraction defines heart failure with reduced ejection fraction?",
            "&le;&nbsp;40&nbsp;%; from 41&nbsp;% to 49&nbsp;% it is called mildly reduced.",
        ),
    ),
    Note(
        "anion-gap",
        BASIC,
        "Physiology",
        ("acid-base", "formula"),
        (
            "How is the anion gap of the serum calculated, leaving out potassium?",
            r"\(\mathrm{Na^+} - (\mathrm{Cl^-} + \mathrm{HCO_3^-})\)",
        ),
    ),
    Note(
        "map",
        BASIC,
        "Physiology",
        ("cardiology", "formula"),
        (
            "How is mean arterial pressure estimated from systolic [$]P_s[/$] and diastolic [$]P_d[/$]?",
            r"[$]P_d + \frac{1}{3}(P_s - P_d)[/$]",
        ),
    ),
    Note(
        "clearance",
        BASIC,
        "Physiology",
        ("renal", "formula"),
        (
            "What is the clearance of a substance, from its concentration in urine [$]U[/$] and plasma [$]P[/$] "
            "and the urine flow [$]V[/$]?",
            r"[$$]C = \frac{U \cdot V}{P}[/$$]",
        ),
    ),
    Note(
        "mitral",
        BASIC,
        "Anatomy",
        ("heart",),
        (
            'Which valve lies between the left atrium and the left ventricle?<br><img src="meadow_heart.png">',
            "The mitral valve",
        ),
    ),
    Note(
        "arrow",
        BASIC,
        "Anatomy",
        ("heart", "picture"),
        ('Identify the structure shown by the arrow.<br><img src="meadow_heart.png">', "The left ventricle"),
    ),
    Note(
        "murmur",
        BASIC,
        "Clinic",
        ("heart", "sound"),
        ("What is this murmur?<br>[sound:meadow_murmur.wav]", "Mitral stenosis"),
    ),
    Note("cn7", REVERSED, "Anatomy", ("nerves",), ("Seventh cranial nerve", "Facial nerve")),
    Note("cn10", REVERSED, "Anatomy", ("nerves",), ("Tenth cranial nerve", "Vagus nerve")),
    Note("b1", REVERSED, "Physiology", ("nutrition",), ("Vitamin B<sub>1</sub>", "Thiamine")),
    Note(
        "pressure", TYPED, "Physiology", ("units",), ("Which SI unit is 1 newton per square metre?", "Pascal")
    ),
    Note(
        "prothrombin",
        HINTED,
        "Physiology",
        ("coagulation",),
        (
            "Which pathways of coagulation does the prothrombin time test?",
            "The extrinsic and the common pathway",
            "It is prolonged first when factor VII is low.",
        ),
    ),
    Note(
        "phrenic",
        CLOZE,
        "Anatomy",
        ("nerves",),
        (
            "The {{c1::phrenic}} nerve comes from the roots {{c2::C3 to C5}} and moves the "
            "{{c3::diaphragm::muscle}}.",
            "A complete injury of the spinal cord above C3 stops breathing.",
        ),
    ),
    Note(
        "aldosterone",
        CLOZE,
        "Physiology",
        ("endocrine", "renal"),
        (
            "In the collecting duct, {{c1::aldosterone raises the reabsorption of {{c2::sodium}} and the "
            "secretion of {{c3::potassium}}}}.",
            "",
        ),
    ),
    Note(
        "vitamin-k",
        CLOZE,
        "Physiology",
        ("coagulation",),
        (
            "Besides the clotting factors {{c1::II, VII, IX and X}}, the proteins {{c2::C}} and {{c2::S}} depend "
            "on vitamin {{c3::K}}.",
            "",
        ),
    ),
    Note(
        "poiseuille",
        CLOZE,
        "Physiology",
        ("cardiology", "formula"),
        (r"In laminar flow, the resistance of a tube goes with its radius as \({{c1::1/r^4}}\).", ""),
    ),
    Note(
        "iron",
        CLOZE,
        "Physiology",
        ("nutrition",),
        ("Iron is absorbed mainly in the {{c1::duodenum}}{{c2::}}.", ""),
    ),
    Note(
        "lisinopril",
        DRUG,
        "Pharmacology",
        ("drugs",),
        (
            "lisinopril",
            "ACE inhibitors",
            "It blocks the conversion of angiotensin I to angiotensin II.",
            "hypertension and heart failure",
            "Angioedema, hyperkalaemia, and harm to the unborn child",
            "A dry cough is common and harmless.",
        ),
    ),
    Note(
        "metformin",
        DRUG,
        "Pharmacology",
        ("drugs",),
        (
            "metformin",
            "Biguanides",
            "It lowers glucose production in the liver and makes tissues more sensitive to insulin.",
            "type 2 diabetes",
            "Lactic acidosis, above all when the kidneys fail",
            "",
        ),
    ),
    Note(
        "furosemide",
        DRUG,
        "Pharmacology",
        ("drugs", "renal"),
        (
            "furosemide",
            "Loop diuretics",
            "It blocks the Na-K-2Cl cotransporter in the thick ascending limb of the loop of Henle.",
            "",
            "Hypokalaemia, and loss of hearing at high doses",
            "",
        ),
    ),
    Note(
        "amiodarone",
        DRUG,
        "Pharmacology",
        ("drugs", "cardiology"),
        (
            "amiodarone",
            "Class III antiarrhythmics",
            "",
            "",
            "Damage to lungs, thyroid and liver",
            "",
        ),
    ),
)

#: Notes of the text export: guid, note type, deck, fields, tags.
TEXT_NOTES = (
    (
        "meadow-text-1",
        "Basic",
        f"{DECK}::Text",
        (
            "What is anaphylaxis treated with first?",
            "Adrenaline (epinephrine) into the muscle of the outer thigh",
        ),
        "emergency allergy",
    ),
    (
        "meadow-text-2",
        "Basic",
        f"{DECK}::Text",
        (
            'Which two "H" causes of cardiac arrest are corrected with oxygen and fluids?',
            "Hypoxia: give oxygen.\nHypovolaemia: give fluids or blood.",
        ),
        "emergency",
    ),
    (
        "meadow-text-3",
        "Cloze",
        f"{DECK}::Text",
        ("Rickets is lack of vitamin {{c1::D}} before the {{c2::growth plates}} close.", ""),
        "nutrition",
    ),
)


def write_package(path: Path) -> None:
    """Writes the sample deck as a package."""
    import genanki

    from meadow.export import anki as export

    class ClozeNote(genanki.Note):
        """genanki looks for clozes with an expression that misses nested and empty ones."""

        def _cloze_cards(self) -> list[genanki.Card]:
            return [genanki.Card(ord_) for ord_ in cloze_ords(self.fields[0])]

    models = {kind: _model(kind) for kind in (BASIC, REVERSED, TYPED, HINTED, CLOZE, DRUG)}
    decks: dict[str, genanki.Deck] = {}
    for note in NOTES:
        deck = decks.get(note.deck)
        if deck is None:
            deck = genanki.Deck(MODIFIED * 1000 + 1 + len(decks), f"{DECK}::{note.deck}")
            decks[note.deck] = deck
        cls = ClozeNote if note.kind.cloze else genanki.Note
        guid = genanki.guid_for("meadow sample", note.key)
        deck.add_note(cls(models[note.kind], list(note.fields), tags=list(note.tags), guid=guid))
    media = {"meadow_heart.png": _png(), "meadow_murmur.wav": _wav()}
    export.write_package(decks.values(), path, MODIFIED, media)


def cloze_ords(text: str) -> list[int]:
    """The card numbers, from 0, that Anki gives a text with clozes."""
    return sorted({int(number) - 1 for number in re.findall(r"\{\{c(\d+)::", text)})


def text_export() -> bytes:
    """The text export, as Anki writes it with all options on."""
    return "".join(_text_lines()).encode()


def _text_lines() -> Iterator[str]:
    yield "#separator:tab\n#html:true\n#guid column:1\n#notetype column:2\n#deck column:3\n#tags column:6\n"
    for guid, kind, deck, fields, tags in TEXT_NOTES:
        cells = [guid, kind, deck, *(field.replace("\n", "<br>\n") for field in fields), tags]
        yield "\t".join(_quoted(cell) for cell in cells) + "\n"


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if re.search(r'["\t\n]', cell) else cell


def _model(kind: Kind) -> genanki.Model:
    import genanki

    return genanki.Model(
        kind.id,
        kind.name,
        fields=[{"name": name} for name in kind.fields],
        templates=[{"name": name, "qfmt": front, "afmt": back} for name, front, back in kind.templates],
        model_type=genanki.Model.CLOZE if kind.cloze else genanki.Model.FRONT_BACK,
    )


def _png() -> bytes:
    """One red pixel: what matters is that the card shows some picture."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)

    # A stored (uncompressed) DEFLATE block, so that the bytes are the same under any zlib.
    row = b"\x00\xc8\x1e\x1e"
    stored = b"\x01" + struct.pack("<HH", len(row), len(row) ^ 0xFFFF) + row
    pixels = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(row))
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _wav() -> bytes:
    """A hundredth of a second of silence: 8 kHz, 8 bits, one channel."""
    data = b"\x80" * 80
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def main() -> None:
    """Writes the sample's files."""
    write_package(SAMPLE / PACKAGE)
    (SAMPLE / TEXT).write_bytes(text_export())


if __name__ == "__main__":
    main()
