"""Terms are shown, asked for where the publisher asks, and remembered in the raw store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meadow.builders.flashcards.builder import Flashcards
from meadow.builders.stackexchange.builder import StackExchange
from meadow.builders.usmle.builder import USMLE
from meadow.builders.wikidoc.builder import WikiDoc
from meadow.core.builder import Builder, available
from meadow.core.licenses import CC_BY_40
from meadow.fetch import terms

ALL = tuple(available()[0].values())


def test_terms_are_shown_with_evidence_and_what_they_permit() -> None:
    text = terms.shown(WikiDoc)
    assert text.splitlines()[:3] == [
        "wikidoc: comes under these terms",
        "  CC-BY-SA-3.0: Creative Commons Attribution-ShareAlike 3.0",
        "  https://creativecommons.org/licenses/by-sa/3.0/",
    ]
    assert WikiDoc.license.evidence in text
    assert (
        "commercial use: yes; passing it on: yes; passing on what is made from it: yes; "
        "the same licence for that: yes; credit owed: yes." in text
    )
    assert "To be accepted" not in text


def test_every_licence_of_a_source_is_shown() -> None:
    text = terms.shown(StackExchange)
    assert [spdx for spdx in ("CC-BY-SA-4.0", "CC-BY-SA-3.0", "CC-BY-SA-2.5") if spdx in text] == [
        "CC-BY-SA-4.0",
        "CC-BY-SA-3.0",
        "CC-BY-SA-2.5",
    ]


def test_doubt_is_shown() -> None:
    text = terms.shown(Flashcards)
    assert "commercial use: unsettled" in text
    assert "These terms are not settled." in text


def test_only_reserved_rights_ask(tmp_path: Path) -> None:
    assert [cls.name for cls in ALL if terms.needed(cls, tmp_path)] == ["usmle"]
    asked = terms.needed(USMLE, tmp_path)
    assert asked.license == "LicenseRef-USMLE-all-rights-reserved"
    assert "To be accepted: Its owners reserve all rights." in terms.shown(USMLE)
    refusal = terms.refusal(asked)
    assert refusal.startswith("usmle: not fetched, because its terms have to be accepted first")
    assert refusal.endswith("add --accept-license usmle")


@pytest.mark.parametrize("name", ["usmle", "LicenseRef-USMLE-all-rights-reserved"])
def test_accepted_terms_are_remembered(tmp_path: Path, name: str) -> None:
    raw = tmp_path / "raw"
    assert [t.source for t in terms.accept(ALL, [name], raw)] == ["usmle"]
    assert terms.needed(USMLE, raw) is None
    assert terms.needed(USMLE(), raw) is None
    assert terms.needed(USMLE, tmp_path / "other") is not None
    assert [path.name for path in raw.iterdir()] == [".accepted-terms.json"]


def test_changed_terms_are_asked_for_again(tmp_path: Path) -> None:
    class Changed(USMLE):
        license = USMLE.license.because("Other terms than before.")

    terms.accept(ALL, ["usmle"], tmp_path)
    assert terms.needed(Changed, tmp_path) is not None
    terms.accept([Changed], ["usmle"], tmp_path)
    assert terms.needed(Changed, tmp_path) is None
    assert terms.needed(USMLE, tmp_path) is not None


def test_a_source_says_itself_what_its_publisher_asks(tmp_path: Path) -> None:
    class Asking(WikiDoc):
        name = "asking"
        license = CC_BY_40
        asks = "I use the data for research on medication errors."

    asked = terms.needed(Asking, tmp_path)
    assert asked.asks == "I use the data for research on medication errors."
    terms.accept([*ALL, Asking], ["usmle"], tmp_path)
    assert terms.needed(Asking, tmp_path) is not None
    terms.accept([*ALL, Asking], ["asking"], tmp_path)
    assert terms.needed(Asking, tmp_path) is None
    assert terms.needed(USMLE, tmp_path) is None, "what was accepted before stays accepted"


def test_a_name_that_means_nothing_is_refused_and_nothing_remembered(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--accept-license uslme: no source .* sources that ask: usmle$"):
        terms.accept(ALL, ["usmle", "uslme"], tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_a_source_that_asks_for_nothing_needs_no_acceptance(tmp_path: Path) -> None:
    assert terms.accept(ALL, ["wikidoc"], tmp_path / "raw") == ()
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"usmle": true}', '{"usmle": {"sha256": 1}}', "[" * 99999]
)
def test_a_damaged_memory_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / ".accepted-terms.json").write_text(content, encoding="utf-8")
    assert terms.needed(USMLE, tmp_path) is not None
    terms.accept(ALL, ["usmle"], tmp_path)
    assert terms.needed(USMLE, tmp_path) is None


def test_accepting_twice_keeps_the_first_date(tmp_path: Path) -> None:
    terms.accept(ALL, ["usmle"], tmp_path)
    path = tmp_path / ".accepted-terms.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    known["usmle"]["accepted"] = "2024-02-29"
    path.write_text(json.dumps(known), encoding="utf-8")
    terms.accept(ALL, ["usmle"], tmp_path)
    assert json.loads(path.read_text(encoding="utf-8"))["usmle"]["accepted"] == "2024-02-29"


def test_decks_are_put_by_hand(tmp_path: Path) -> None:
    said = terms.by_hand(Flashcards, tmp_path)
    assert said.startswith("flashcards: nothing is fetched: decks are your own.")
    assert f"Put its files into {tmp_path / 'flashcards'}:" in said
    assert "    **/*.apkg  deck package, as Anki exports it" in said
    assert "File > Export" in said


def test_any_source_says_where_its_files_go(tmp_path: Path) -> None:
    for cls in ALL:
        said = terms.by_hand(cls, tmp_path)
        assert str(tmp_path / cls.name) in said
        for pattern in cls.raw_files:
            assert f"{pattern.pattern}  {pattern.description}" in said
    assert issubclass(Flashcards, Builder)
