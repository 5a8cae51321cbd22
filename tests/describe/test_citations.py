"""What to cite: BibTeX of versions with their sources, CITATION.cff, and the command that prints it."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pybtex.database import parse_string

from meadow.api import build_datasets
from meadow.cli.cite import _sources
from meadow.core.manifest import Manifest
from meadow.core.store import Store, StoreError
from meadow.describe import citations as citing
from meadow.pipeline import publish
from tests import manifests, stores, toy

WARD = """\
@string{jw = {Journal of Wards}}
@article{ada2021,
  title   = {Notes of a {Ward}},
  author  = {Ada, A. B. and {The Ward, and its staff} and van der Berg, Jan},
  journal = jw,
  year    = {2021},
  pages   = {12--34},
  doi     = {10.1234/ward_7},
  url     = {https://ward.example/a%20b},
}

@misc{broken, title = {No end}
@misc{dump, title = {A Dump}, howpublished = {\\url{https://dump.example/x}}, note = {50\\% of it}}
"""


def made(out: Path, **manifest: Any) -> Manifest:
    rows = [stores.row(1), stores.row(2)]
    return Manifest.model_validate(stores.put(out, {"train": rows}, **{"citation": WARD, **manifest}))


def no_sources(name: str) -> list[str]:
    raise AssertionError(f"{name} is built")


def cite(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "meadow", "cite", *arguments, "--out", str(out)],
        capture_output=True,
        text=True,
    )


class TestEntries:
    def test_are_passed_on_letter_by_letter(self) -> None:
        found = {entry.key: entry for entry in citing.entries(WARD)}
        assert list(found) == ["@string{jw = {Journal of Wards}}", "ada2021", "broken", "dump"]
        assert all(entry.text in WARD for entry in found.values())
        assert "".join("".join(entry.text for entry in found.values()).split()) == "".join(WARD.split())

    def test_are_understood(self) -> None:
        ada = next(entry for entry in citing.entries(WARD) if entry.key == "ada2021")
        assert [(p.name, p.organisation) for p in ada.authors] == [
            ("A. B. Ada", False), ("The Ward, and its staff", True), ("Jan van der Berg", False),
        ]  # fmt: skip
        assert (ada.type, ada.fields["title"], ada.fields["journal"]) == (
            "article",
            "Notes of a Ward",
            "Journal of Wards",
        )
        assert ada.fields["url"] == "https://ward.example/a%20b"

    def test_one_that_is_broken_costs_itself(self) -> None:
        found = {entry.key: entry.type for entry in citing.entries(WARD)}
        assert (found["broken"], found["dump"]) == ("", "misc")

    def test_a_key_stands_once(self) -> None:
        found = citing.entries("@misc{a, title={One}}", "@misc{A, title={Two}} @book{b, title={Three}}")
        assert [(entry.key, entry.fields["title"]) for entry in found] == [("a", "One"), ("b", "Three")]

    @given(
        st.lists(
            st.sampled_from([*'@{}(),="\\%#~ \n', "misc", "@a{b,", "title=", "author=", " and ", "é"])
        ).map("".join)
    )
    @settings(max_examples=200, deadline=None)
    def test_of_anything_are_no_error(self, text: str) -> None:
        for entry in citing.entries(text):
            assert entry.text in text
        citing.collection_cff([manifests.make(citation=text)])


class TestVersions:
    def test_name_version_rows_and_their_hash(self, tmp_path: Path) -> None:
        manifest = made(tmp_path, name="ward_notes", version="1.2.0")
        (entry,) = parse_string(citing.version_entry(manifest), "bibtex").entries.values()
        assert entry.key == "meadow-ward_notes-1.2.0"
        assert entry.fields["title"] == r"{Medical Meadow}: ward\_notes, version 1.2.0"
        assert entry.fields["version"] == "1.2.0"
        assert entry.fields["note"] == rf"2 rows, rows\_sha256 {manifest.rows_sha256[:16]}"
        assert str(entry.persons["author"][0]) == "{Meadow contributors}"

    def test_a_sample_is_called_one(self, tmp_path: Path) -> None:
        assert "Sample written for tests" in citing.version_entry(made(tmp_path, sample=True))

    def test_come_with_sources_and_the_collections_paper(self, tmp_path: Path) -> None:
        keys = [
            entry.key
            for entry in citing.entries(citing.cited(made(tmp_path)))
            if not entry.key.startswith("@")
        ]
        assert keys == ["meadow-ward-1.0.0", "ada2021", "broken", "dump", "han2023medalpaca"]

    def test_of_a_mixture_come_with_its_parts(self, tmp_path: Path) -> None:
        part = {"dataset": "ward", "version": "1.2.0", "sample": False, "rows_sha256": "cd" * 32}
        found = citing.entries(
            citing.cited(made(tmp_path, name="mixture_w", mixture=manifests.mixture(part), citation=""))
        )
        assert [entry.key for entry in found] == [
            "meadow-mixture_w-1.0.0",
            "meadow-ward-1.2.0",
            "han2023medalpaca",
        ]

    def test_a_build_writes_them_beside_the_rows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(publish, "draw", toy.no_plot)
        monkeypatch.setattr(toy.Toy, "citation", classmethod(lambda cls: "@misc{toys, title = {Toys}}"))
        toy.put(tmp_path / "raw", "toy/a.jsonl", *(toy.row(n) for n in range(3)))
        out = tmp_path / "out"
        for _ in range(2):
            build_datasets(["toy"], raw=tmp_path / "raw", out=out, builders=toy.BUILDERS)
            text = (out / "toy" / "1.0.0" / "CITATION.bib").read_text(encoding="utf-8")
            assert list(parse_string(text, "bibtex").entries) == [
                "meadow-toy-1.0.0",
                "toys",
                "han2023medalpaca",
            ]
            names = [
                r["title"]
                for r in yaml.safe_load((out / "CITATION.cff").read_text(encoding="utf-8"))["references"]
            ]
            assert names == ["Medical Meadow: toy", "Medical Meadow: toy_hard", "Toys"]


class TestCollection:
    def test_file_has_what_the_format_wants(self, tmp_path: Path) -> None:
        data = yaml.safe_load(citing.collection_cff([made(tmp_path, name=n) for n in ("ward", "ward_b")]))
        assert (data["cff-version"], data["type"], data["title"]) == ("1.2.0", "dataset", "Medical Meadow")
        assert data["authors"] == [{"name": "Meadow contributors"}]
        paper = data["preferred-citation"]
        assert (paper["type"], paper["year"], len(paper["authors"])) == ("article", 2023, 8)
        assert paper["authors"][5] == {"family-names": "Löser", "given-names": "Alexander"}
        one, two, ada, dump = data["references"]
        assert (one["type"], one["title"], one["version"]) == ("data", "Medical Meadow: ward", "1.0.0")
        assert two["title"] == "Medical Meadow: ward_b"
        assert ada == {
            "type": "article",
            "title": "Notes of a Ward",
            "authors": [
                {"family-names": "Ada", "given-names": "A. B."},
                {"name": "The Ward, and its staff"},
                {"family-names": "van der Berg", "given-names": "Jan"},
            ],
            "journal": "Journal of Wards",
            "start": "12",
            "end": "34",
            "year": 2021,
            "doi": "10.1234/ward_7",
            "url": "https://ward.example/a%20b",
        }
        assert dump == {
            "type": "generic",
            "title": "A Dump",
            "authors": [{"name": "unknown"}],
            "url": "https://dump.example/x",
            "notes": "50% of it",
        }

    def test_a_persons_file_stays(self, tmp_path: Path) -> None:
        manifest = made(tmp_path)
        mine = "cff-version: 1.2.0\ntitle: Ours\n"
        assert citing.collection_cff([manifest], mine) == mine
        written = citing.collection_cff([manifest])
        assert citing.collection_cff([], written) == citing.collection_cff([]) != written

    def test_of_nothing_is_whole(self) -> None:
        assert "references" not in yaml.safe_load(citing.collection_cff([]))


class TestCommand:
    def test_prints_what_can_go_into_a_file(self, tmp_path: Path) -> None:
        terms = {"CC-BY-SA-4.0": {**manifests.terms("CC-BY-SA-4.0"), "attribution": True}}
        made(tmp_path / "a@b", license_terms=terms, citation="@misc{dump, title = {A Dump}}")
        done = cite(tmp_path / "a@b", "ward")
        assert (done.returncode, done.stderr) == (0, "")
        assert list(parse_string(done.stdout, "bibtex").entries) == [
            "meadow-ward-1.0.0",
            "dump",
            "han2023medalpaca",
        ]
        assert "% ward 1.0.0: CC-BY-SA-4.0 asks for credit row by row" in done.stdout

    def test_versions_and_errors(self, tmp_path: Path) -> None:
        for version in ("1.0.0", "1.1.0", "2.0.0"):
            made(tmp_path, version=version, citation="")
        assert "meadow-ward-1.1.0," in cite(tmp_path, "ward", "--version", "1").stdout
        wrong = cite(tmp_path, "ward", "--version", "3")
        assert wrong.returncode == 1 and "there are: 1.0.0, 1.1.0, 2.0.0" in wrong.stderr
        wrong = cite(tmp_path, "all", "--version", "1")
        assert wrong.returncode == 2 and "name only one" in wrong.stderr
        wrong = cite(tmp_path, "wikidok")
        assert (
            wrong.returncode == 2 and "no dataset or source is named 'wikidok'; there are: " in wrong.stderr
        )

    def test_what_is_not_built_is_cited_by_its_sources(self, tmp_path: Path) -> None:
        store = Store(tmp_path)
        found, remarks = citing.gather(["medqa_4_options", "mixture:clean"], store, partial(_sources, store))
        assert [entry.key for entry in found] == [
            "jin2021disease", "wikidoc", "stackexchange-data-dump", "han2023medalpaca",
        ]  # fmt: skip
        assert [remark.split(",")[0] for remark in remarks] == [
            f"medqa_4_options is not built in {tmp_path}", f"mixture_clean is not built in {tmp_path}",
        ]  # fmt: skip
        assert "`python -m meadow.build mixture:clean`" in remarks[1]

    def test_a_source_stands_for_its_datasets(self, tmp_path: Path) -> None:
        for name in ("notes", "letters"):
            made(tmp_path, name=name, source="ward", citation="")
        found, _ = citing.gather(["ward"], Store(tmp_path), no_sources)
        assert [entry.key for entry in found] == [
            "meadow-letters-1.0.0",
            "meadow-notes-1.0.0",
            "han2023medalpaca",
        ]
        assert [entry.key for entry in citing.gather(["all"], Store(tmp_path), no_sources)[0]] == [
            entry.key for entry in found
        ]

    def test_all_of_nothing_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="nothing is built in"):
            citing.gather(["all"], Store(tmp_path), no_sources)


@pytest.mark.parametrize("source", ["wikidoc", "stackexchange", "medqa", "pubmedqa", "usmle", "flashcards"])
def test_each_source_has_something_to_cite(source: str) -> None:
    from meadow.core.builder import available

    found = citing.entries(available()[0][source].citation())
    assert found and all(entry.type and entry.authors and entry.fields["title"] for entry in found)
