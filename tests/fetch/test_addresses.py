"""``checksums.tsv``: what it may say, what the sources of this project say in it, and what names stand for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from meadow.core.builder import available
from meadow.fetch.addresses import (
    Address,
    AddressError,
    check_path,
    declared,
    drive_id,
    lines,
    parse,
    wanted,
    without_secrets,
)
from tests.fetch import server

HEADER = "url\tbytes\tsha256\tfile\n"
SHA = "ab" * 32


def test_a_line_is_an_address() -> None:
    text = (
        "\ufeff" + HEADER + "# for people\r\n\n"
        f"https://a.example/x.zip\t12\t{SHA.upper()}\tx.zip\r\n"
        "mediawiki+https://w.example/api.php\t\t\tpages.jsonl.zst\n"
        "http://a.example/deep.json\t\t\tfolder/deep.json\n"
    )
    assert parse(text, "s", "t") == (
        Address("s", "x.zip", "https://a.example/x.zip", 12, SHA),
        Address("s", "pages.jsonl.zst", "https://w.example/api.php", wiki=True),
        Address("s", "folder/deep.json", "http://a.example/deep.json"),
    )


def test_written_addresses_read_back_the_same() -> None:
    text = (
        HEADER
        + f"https://a.example/x.zip\t12\t{SHA}\tx.zip\nmediawiki+https://w.example/api.php\t\t\tp.zst\n"
    )
    assert lines(parse(text, "s", "t")) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://a.example/x\t\t\tx\n", "t:1: the first line must be the columns url, bytes, sha256, file"),
        (HEADER + "https://a.example/x x\n", "t:2: 1 columns instead of 4"),
        (HEADER + "https://a.example/x\t1e3\t\tx\n", "bytes '1e3' is no number"),
        (HEADER + "https://a.example/x\t-1\t\tx\n", "bytes '-1' is no number"),
        (HEADER + "https://a.example/x\t\tabc\tx\n", "sha256 is not 64 hexadecimal digits"),
        (HEADER + "ftp://a.example/x\t\t\tx\n", "is no http or https address"),
        (HEADER + "file:///etc/passwd\t\t\tx\n", "is no http or https address"),
        (HEADER + "https:///x\t\t\tx\n", "is no http or https address"),
        (HEADER + "https://a.example/x\t\t\t../x\n", "'../x' cannot be used"),
        (HEADER + "https://a.example/x\t\t\t\n", "'' cannot be used"),
        (HEADER + "https://a.example/x\t\t\tx\nhttps://a.example/y\t\t\tX\n", "t:3: X is declared twice"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(text: str, said: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse(text, "s", "t")
    assert said in str(caught.value)


def test_a_password_in_a_wrong_address_is_not_repeated() -> None:
    with pytest.raises(AddressError) as caught:
        parse(HEADER + "ftp://me:hunter2@a.example/x?key=hunter3\t\t\tx\n", "s", "t")
    assert "a.example/x" in str(caught.value)
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    "file",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "./a",
        "C:/x",
        "a\\..\\x",
        "a/.hidden",
        ".x",
        "a\nb",
        "a\x1b[1m",
    ],
)
def test_paths_that_leave_the_folder_or_hide_in_it_are_refused(file: str) -> None:
    assert check_path(file)


@pytest.mark.parametrize("file", ["x.zip", "biology.stackexchange.com/Posts.xml", "Ein Stapel.apkg", "a..b"])
def test_ordinary_paths_are_taken(file: str) -> None:
    assert check_path(file) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://drive.google.com/file/d/1ImYUSLk9JbgHXOemfvyiDiirluZHPeQw/view",
        "https://drive.google.com/file/d/1ImYUSLk9JbgHXOemfvyiDiirluZHPeQw",
        "https://drive.google.com/open?id=1ImYUSLk9JbgHXOemfvyiDiirluZHPeQw",
        "https://drive.google.com/uc?export=download&id=1ImYUSLk9JbgHXOemfvyiDiirluZHPeQw",
    ],
)
def test_a_page_of_a_drive_host_becomes_the_address_of_the_file(url: str) -> None:
    assert drive_id(url) == "1ImYUSLk9JbgHXOemfvyiDiirluZHPeQw"
    assert Address("s", "f", url).download == (
        "https://drive.usercontent.google.com/download?id=1ImYUSLk9JbgHXOemfvyiDiirluZHPeQw&export=download&confirm=t"
    )


def test_other_addresses_are_downloaded_as_they_are() -> None:
    url = "https://a.example/file/d/1ImYUSLk9JbgHXOemfvyiDiirluZHPeQw/view"
    assert drive_id(url) is None
    assert Address("s", "f", url).download == url


def test_what_is_shown_of_an_address_holds_no_secret() -> None:
    assert without_secrets("https://me:pw@a.example:8/x/y?sig=1#z") == "https://a.example:8/x/y"
    assert without_secrets("https://drive.google.com/open?id=abc") == "https://drive.google.com/open?id=abc"


def test_each_source_declares_what_can_be_fetched() -> None:
    classes, broken = available()
    assert not broken
    found = {name: {a.file: a for a in declared(cls)} for name, cls in classes.items()}
    assert list(found["stackexchange"]) == [
        f"{site}.stackexchange.com.7z"
        for site in ("academia", "bioinformatics", "biology", "fitness", "health")
    ]
    assert all(
        a.url == f"https://archive.org/download/stackexchange/{file}"
        for file, a in found["stackexchange"].items()
    )
    assert list(found["medqa"]) == ["data_clean.zip"]
    assert set(found["pubmedqa"]) == {
        "ori_pqal.json",
        "ori_pqaa.json",
        "ori_pqau.json",
        "test_ground_truth.json",
    }
    assert set(found["usmle"]) == {
        *(f"step{n}.json" for n in (1, 2, 3)),
        *(f"step{n}_solutions.json" for n in (1, 2, 3)),
        "question_with_images.json",
    }
    (wiki,) = found["wikidoc"].values()
    assert (wiki.url, wiki.file, wiki.wiki) == ("https://www.wikidoc.org/api.php", "pages.jsonl.zst", True)
    assert found["flashcards"] == {}


def test_builds_read_what_is_declared() -> None:
    from meadow.core.rawstore import matches

    for cls in available()[0].values():
        for address in declared(cls):
            assert any(matches(address.file, p.pattern) for p in cls.raw_files), address.what


def test_declared_sums_are_those_of_the_published_files(real: Path) -> None:
    checked = 0
    for address in declared(available()[0]["pubmedqa"]):
        path = real / "pubmedqa" / address.file
        if address.sha256 and path.is_file():
            data = path.read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (address.bytes, address.sha256)
            checked += 1
    assert checked == 2


def test_names_stand_for_sources_datasets_and_files() -> None:
    classes = available()[0]

    def chosen(*names: str) -> dict[str, list[str]]:
        return {w.name: [a.file for a in w.addresses] for w in wanted(names, classes)}

    every = {name: [a.file for a in declared(cls)] for name, cls in classes.items()}
    assert chosen("all") == every
    assert chosen("pubmedqa") == {"pubmedqa": every["pubmedqa"]}
    assert chosen("medqa_4_options") == {"medqa": ["data_clean.zip"]}
    assert chosen("medical_flashcards") == {"flashcards": []}
    assert chosen("stackexchange_biology") == {"stackexchange": ["biology.stackexchange.com.7z"]}
    assert chosen("pubmedqa/ori_pqaa.json") == {"pubmedqa": ["ori_pqaa.json"]}
    assert chosen("pubmedqa/ori_pqaa.json", "pubmedqa/ori_pqal.json") == {
        "pubmedqa": ["ori_pqal.json", "ori_pqaa.json"]
    }
    assert chosen("pubmedqa/ori_pqaa.json", "all") == every


@pytest.mark.parametrize("name", ["biology", "pubmedqa/nothing.json", "stackexchange_cooking", ""])
def test_a_name_that_stands_for_nothing_is_an_error_that_lists_the_names(name: str) -> None:
    with pytest.raises(AddressError, match="there are: all, flashcards, medqa, .*medqa_4_options"):
        wanted([name], available()[0])


def test_a_source_of_another_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.source(tmp_path, "ward_addresses", [("https://a.example/x.zip", 5, SHA, "x.zip")])
    monkeypatch.syspath_prepend(tmp_path)
    (found,) = wanted(["ward_addresses"], available()[0])
    assert found.addresses == (Address("ward_addresses", "x.zip", "https://a.example/x.zip", 5, SHA),)


def test_a_broken_table_is_named_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = server.source(tmp_path, "ward_broken", [("", "", "", "x.zip")])
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AddressError, match="no url for x.zip") as caught:
        wanted(["ward_broken"], available()[0])
    assert str(path) in str(caught.value)
