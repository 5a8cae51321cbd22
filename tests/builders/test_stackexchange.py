"""Stack Exchange dumps: what the format really holds, and what goes wrong with it."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import py7zr
import pyarrow.parquet as pq
import pytest

from meadow.api import build_datasets
from meadow.builders.stackexchange import partition
from meadow.builders.stackexchange.builder import StackExchange
from meadow.core.rawstore import find
from meadow.core.row import Example, Rejected
from meadow.core.store import REJECTED, Store
from meadow.testing import BuilderTest

SITE = "test.example"


class TestStackExchangeBuild(BuilderTest):
    builder = StackExchange
    pins = {
        "1.0.0": {
            "stackexchange": "9f15e1d757d2c9361afe0680f49e1c0c56668b93dcc4eaffdd423c9d0132ad81",
            "stackexchange_fitness.example": "005166af56995e9a3639fbf80cf851869d408a21e07037eba8b4067d7a36b571",
            "stackexchange_health.example": "35e9cfd2b05738e3c6c59ac0df88c7d8ab535e697a369a3d12b0c56d89663e4a",
        }
    }


def row(**attributes: object) -> str:
    """A row as dumps have it."""
    pairs = " ".join(f'{k}="{html.escape(str(v)).replace(chr(10), "&#xA;")}"' for k, v in attributes.items())
    return f"  <row {pairs} />"


def question(number: int, **more: object) -> str:
    base = {
        "Id": number,
        "PostTypeId": 1,
        "CreationDate": "2016-03-01T10:00:00.000",
        "Score": 3,
        "Body": f"<p>Question body {number}</p>",
        "OwnerUserId": 10,
        "Title": f"Question {number}?",
        "Tags": "<sleep><diet>",
    }
    return row(**{k: v for k, v in {**base, **more}.items() if v is not None})


def answer(number: int, parent: int | str, **more: object) -> str:
    base = {
        "Id": number,
        "PostTypeId": 2,
        "ParentId": parent,
        "CreationDate": "2016-03-02T10:00:00.000",
        "Score": 7,
        "Body": f"<p>Answer body {number}</p>",
        "OwnerUserId": 11,
    }
    return row(**{k: v for k, v in {**base, **more}.items() if v is not None})


def posts(*rows: str, end: str = "\n") -> bytes:
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<posts>", *rows, "</posts>"]
    return end.join(lines).encode() + end.encode()


def read(root: Path, scratch: Path | None = None, **parameters: Any) -> tuple[list[Example], list[Rejected]]:
    """All records of a raw store, by the public verbs of the builder."""
    builder = StackExchange(**parameters)
    raw = find(builder, root)
    raw.scratch = scratch or root / "scratch"
    raw.scratch.mkdir(exist_ok=True)
    kept, left_out = [], []
    for shard in builder.shards(raw):
        for record in [shard] if isinstance(shard, Rejected) else builder.examples(shard):
            (left_out if isinstance(record, Rejected) else kept).append(record)
    return kept, left_out


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "stackexchange" / SITE
    folder.mkdir(parents=True)
    return folder


def put(site: Path, *rows: str, **files: bytes) -> Path:
    (site / "Posts.xml").write_bytes(posts(*rows))
    for name, data in files.items():
        (site / f"{name}.xml").write_bytes(data)
    return site.parents[1]


def test_an_answer_is_matched_to_its_question_wherever_it_stands(site: Path) -> None:
    root = put(site, answer(5, 2), question(2), question(3), answer(4, 3, Score=12))
    kept, left_out = read(root)
    assert left_out == []
    assert [(e.id, e.input, e.output) for e in kept] == [
        ("stackexchange/test.example/a/5", "Question 2?\n\nQuestion body 2", "Answer body 5"),
        ("stackexchange/test.example/a/4", "Question 3?\n\nQuestion body 3", "Answer body 4"),
    ]
    assert kept[0].source_url == "https://test.example/a/5"
    assert kept[0].source_date == "2016-03-02"
    assert kept[0].group == "stackexchange/test.example/q/2"
    assert dict(kept[1].extra) == {
        "site": SITE,
        "tags": ["sleep", "diet"],
        "score": 12,
        "question_score": 3,
        "question_license": "CC-BY-SA-3.0",
    }


@pytest.mark.parametrize("score", [-3, 0, 4, 5, 10])
def test_scores_are_compared_as_numbers(site: Path, score: int) -> None:
    kept, left_out = read(put(site, question(1), answer(2, 1, Score=score)))
    assert [e.extra["score"] for e in kept] == ([score] if score >= 5 else [])
    assert [(r.reason, r.detail) for r in left_out] == (
        [] if score >= 5 else [("score below the threshold", f"score {score}")]
    )


def test_the_threshold_is_a_parameter(site: Path) -> None:
    root = put(site, question(1), answer(2, 1, Score=3))
    assert len(read(root, min_score=3)[0]) == 1
    with pytest.raises(ValueError, match="its parameters: min_score"):
        StackExchange(minscore=3)


@pytest.mark.parametrize(
    ("more", "license_id"),
    [
        ({"CreationDate": "2011-04-07T23:59:59.999"}, "CC-BY-SA-2.5"),
        ({"CreationDate": "2011-04-08T00:00:00.000"}, "CC-BY-SA-3.0"),
        ({"CreationDate": "2018-05-01T23:59:59.999"}, "CC-BY-SA-3.0"),
        ({"CreationDate": "2018-05-02T00:00:00.000"}, "CC-BY-SA-4.0"),
        ({"ContentLicense": "CC BY-SA 2.5"}, "CC-BY-SA-2.5"),
        ({"ContentLicense": "CC BY-SA 4.0", "CreationDate": "2010-01-01T00:00:00.000"}, "CC-BY-SA-4.0"),
    ],
)
def test_licence_from_the_attribute_or_the_date(site: Path, more: dict[str, str], license_id: str) -> None:
    kept, _ = read(put(site, question(1), answer(2, 1, **more)))
    assert kept[0].license == license_id


def test_a_licence_nobody_knows_is_not_guessed(site: Path) -> None:
    _, left_out = read(put(site, question(1), answer(2, 1, ContentLicense="CC BY-NC 9")))
    assert [(r.reason, "CC BY-NC 9" in r.detail) for r in left_out] == [("unknown licence", True)]


def test_authors(site: Path) -> None:
    users = posts(
        row(Id=-1, DisplayName="Community"),
        row(Id=10, DisplayName="Ann &amp; <Bea>"),
        row(Id=12, DisplayName="Zoë"),
    )
    root = put(
        site,
        question(1),
        answer(2, 1, OwnerUserId=11),
        answer(3, 1, OwnerUserId=12, OwnerDisplayName="old name"),
        answer(4, 1, OwnerUserId=None, OwnerDisplayName="ghost"),
        answer(5, 1, OwnerUserId=None),
        answer(6, 1, OwnerUserId=10),
        answer(7, 1, OwnerUserId=-1),
        answer(8, 1, OwnerUserId=99, OwnerDisplayName="kept here"),
        Users=users.replace(b"posts>", b"users>"),
    )
    kept, _ = read(root)
    asker = ("Ann &amp; <Bea>", "https://test.example/users/10")
    assert [[(a.name, a.url) for a in e.authors] for e in kept] == [
        [asker, ("user11", "https://test.example/users/11")],
        [asker, ("Zoë", "https://test.example/users/12")],
        [asker, ("ghost (deleted user)", None)],
        [asker, ("deleted user", None)],
        [asker],
        [asker, ("Community", "https://test.example/users/-1")],
        [asker, ("kept here", "https://test.example/users/99")],
    ]


def test_duplicate_questions_share_a_group(site: Path) -> None:
    links = posts(
        row(Id=1, PostId=30, RelatedPostId=20, LinkTypeId=3),
        row(Id=2, PostId=20, RelatedPostId=10, LinkTypeId=3),
        row(Id=3, PostId=40, RelatedPostId=10, LinkTypeId=1),
    )
    rows = [question(n) for n in (10, 20, 30, 40)] + [answer(n + 1, n) for n in (10, 20, 30, 40)]
    kept, _ = read(put(site, *rows, PostLinks=links.replace(b"posts>", b"postlinks>")))
    assert [e.group.rsplit("/", 1)[1] for e in kept] == ["10", "10", "10", "40"]


def test_both_tag_forms(site: Path) -> None:
    root = put(site, question(1, Tags="|a|b-c|"), answer(2, 1), question(3, Tags=None), answer(4, 3))
    assert [e.extra["tags"] for e in read(root)[0]] == [["a", "b-c"], []]


def test_body_is_html_with_entities_of_its_own(site: Path) -> None:
    body = "<p>Use <code>&lt;b&gt;</code> &amp; 5&nbsp;mg</p>\n<pre><code>a &lt; b\n</code></pre>"
    kept, _ = read(put(site, question(1, Title="Is 1 < 2 & why?"), answer(2, 1, Body=body)))
    assert kept[0].output == "Use `<b>` & 5 mg\n\n```\na < b\n```"
    assert kept[0].input.startswith("Is 1 < 2 & why?\n\n")


@pytest.mark.parametrize(
    "prepare",
    [
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"<posts>", b"<!DOCTYPE posts>\n<posts>"),
        lambda data: data.replace(b"\n", b""),
        lambda data: data.replace(b"\n  <row", b"<row"),
        lambda data: data.replace(b" Body=", b"\n    Body="),
        lambda data: data.decode().replace("utf-8", "utf-16").encode("utf-16"),
        lambda data: data.replace(b"  <row", b"\n\n<!-- c -->\n  <row"),
    ],
    ids=["bom", "crlf", "doctype", "one-line", "no-lines", "many-lines", "utf-16", "comments"],
)
def test_layouts_of_the_same_file_give_the_same_rows(site: Path, prepare: Any) -> None:
    rows = (question(1), answer(2, 1), answer(3, 1, Score=1), row(Id=4, PostTypeId=5, Body="wiki"))
    plain = read(put(site, *rows), site / "one")
    (site / "Posts.xml").write_bytes(prepare(posts(*rows)))
    kept, left_out = read(site.parents[1], site / "two")
    assert kept == plain[0]
    wanted = [(r.reason, r.id) for r in plain[1]]
    assert [(r.reason, r.id) for r in left_out if r.reason != "malformed row"] == wanted


def test_quotes_of_the_other_kind_cannot_forge_attributes(site: Path) -> None:
    forged = """  <row Id='3' PostTypeId='2' ParentId='1' Body='say Score="99" PostTypeId="1"' Score='2' CreationDate='2016-01-01T00:00:00' />"""
    kept, left_out = read(put(site, question(1), answer(2, 1), forged))
    assert [e.id[-3:] for e in kept] == ["a/2"]
    assert [(r.reason, r.detail) for r in left_out] == [("score below the threshold", "score 2")]


def test_each_bad_row_costs_itself(site: Path) -> None:
    root = put(
        site,
        question(1),
        answer(2, 1),
        '  <row Id="3" PostTypeId="2" ParentId="1" Score="9" Body="&lt;p&gt;never closed',
        '  <row Id="4" PostTypeId="2" ParentId="1" Score="9" Body="&undefined;" CreationDate="2016-01-01T00:00:00" />',
        answer(5, 1, ParentId=None),
        answer(6, 1, Score=None),
        answer(7, 1, Score="many"),
        answer(8, 77),
        answer(9, 1, Body=None),
        answer(10, 1, CreationDate=None),
        "what is this",
        question(1, Title="again"),
        row(Id=11, PostTypeId=4, Body="<p>tag wiki</p>"),
        answer(12, 1),
    )
    kept, left_out = read(root)
    assert [e.id.rsplit("/", 1)[1] for e in kept] == ["2", "12"]
    found = {
        (r.reason, r.id.split("/", 2)[2], r.detail.split(": ")[-1]) for r in left_out if "byte" not in r.id
    }
    assert found == {
        ("malformed row", "a/4", next(r.detail for r in left_out if r.id.endswith("a/4")).split(": ")[-1]),
        ("answer without its question", "a/8", "question 77 is not in the dump"),
        ("missing attribute", "a/9", "Body"),
        ("unknown licence", "a/10", "ContentLicense None, CreationDate None"),
        ("duplicate id", "q/1", "a question of this id stands before it"),
        ("not a question or answer", "post/11", "PostTypeId 4"),
    }
    by_byte = Counter((r.reason, r.detail.split(": ")[-1]) for r in left_out if "/byte/" in r.id)
    assert by_byte == {
        ("malformed row", "no well-formed row"): 2,
        ("missing attribute", "ParentId"): 1,
        ("missing attribute", "Score"): 1,
        ("missing attribute", "Score=many"): 1,
    }


@pytest.mark.parametrize("value", [b"9" * 5000, b"\xff", b"1\t2", b"1 2", b"\xc2\xb2", b""])
def test_a_number_that_is_none_costs_its_row(site: Path, value: bytes) -> None:
    root = put(site, question(1), answer(2, 1), answer(3, 1, Score="ODD"), answer(4, "ODD"))
    data = (site / "Posts.xml").read_bytes().replace(b"ODD", value)
    (site / "Posts.xml").write_bytes(data)
    kept, left_out = read(root)
    assert [e.id[-3:] for e in kept] == ["a/2"]
    assert [r.reason for r in left_out] == ["missing attribute"] * 2


def test_invalid_utf8_costs_its_row(site: Path) -> None:
    root = put(site, question(1), answer(2, 1), answer(3, 1, Body="BROKEN"))
    data = (site / "Posts.xml").read_bytes().replace(b"BROKEN", b"caf\xe9")
    (site / "Posts.xml").write_bytes(data)
    kept, left_out = read(root)
    assert [e.id[-3:] for e in kept] == ["a/2"]
    assert [(r.reason, r.id[-3:]) for r in left_out] == [("malformed row", "a/3")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (posts(question(1), answer(2, 1))[:-60], "damaged file"),
        (posts(question(1), answer(2, 1)).replace(b"</posts>", b""), "damaged file"),
        (b"", "damaged file"),
        (b"not xml at all", "damaged file"),
        (
            b'<?xml version="1.0"?>\n<!DOCTYPE posts [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>\n'
            b'<posts>\n<row Id="1" PostTypeId="1" Body="&b;" />\n</posts>\n',
            "XML entity declarations",
        ),
        (
            posts(question(1), answer(2, 1)).replace(b"\n", b"").replace(b"</posts>", b"<b></posts>"),
            "damaged file",
        ),
    ],
    ids=["cut", "unclosed", "empty", "text", "entities", "ill-formed"],
)
def test_a_bad_file_costs_itself_and_no_other(site: Path, data: bytes, reason: str) -> None:
    put(site, question(1), answer(2, 1))
    other = site.parent / "bad.example"
    other.mkdir()
    (other / "Posts.xml").write_bytes(data)
    kept, left_out = read(site.parents[1])
    assert [e.id for e in kept] == ["stackexchange/test.example/a/2"]
    assert [(r.reason, r.file, bool(r.remedy)) for r in left_out] == [
        (reason, "stackexchange/bad.example/Posts.xml", True)
    ]


def test_a_damaged_companion_costs_only_itself(site: Path) -> None:
    root = put(site, question(1), answer(2, 1), Users=b"<users>\n  <row Id=")
    kept, left_out = read(root)
    assert [[a.name for a in e.authors] for e in kept] == [["user10", "user11"]]
    assert [(r.reason, r.file) for r in left_out] == [
        ("damaged file", "stackexchange/test.example/Users.xml")
    ]


def _archive(path: Path, **members: bytes) -> None:
    with py7zr.SevenZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(data, name.replace("__", "."))


def test_an_archive_gives_the_rows_of_its_files(site: Path, tmp_path: Path) -> None:
    rows = [question(1), *(answer(n, 1, Score=n) for n in range(2, 40))]
    users = b'<users>\n  <row Id="11" DisplayName="Eve" />\n</users>\n'
    from_folder = read(put(site, *rows, Users=users))
    other = tmp_path / "packed" / "stackexchange"
    other.mkdir(parents=True)
    _archive(other / f"{SITE}.7z", Posts__xml=posts(*rows), Users__xml=users, Badges__xml=b"<badges />")
    from_archive = read(tmp_path / "packed")
    assert from_archive == from_folder
    assert from_archive[0][0].authors[1].name == "Eve"
    assert list((tmp_path / "packed").rglob("*.xml")) == []


def test_damaged_archives(tmp_path: Path) -> None:
    folder = tmp_path / "stackexchange"
    folder.mkdir()
    _archive(folder / "good.example.7z", Posts__xml=posts(question(1), answer(2, 1)))
    data = (folder / "good.example.7z").read_bytes()
    (folder / "cut.example.7z").write_bytes(data[: len(data) // 2])
    (folder / "flipped.example.7z").write_bytes(data[:40] + bytes([data[40] ^ 255]) + data[41:])
    (folder / "empty.example.7z").write_bytes(b"")
    _archive(folder / "none.example.7z", Badges__xml=b"<badges />")
    _archive(folder / "tail.example.7z", Posts__xml=posts(question(1), answer(2, 1))[:-30])
    with py7zr.SevenZipFile(folder / "deep.example.7z", "w") as archive:
        archive.writestr(posts(question(1), answer(2, 1)), "inside/Posts.xml")
    kept, left_out = read(tmp_path)
    assert {e.id for e in kept} == {"stackexchange/good.example/a/2", "stackexchange/deep.example/a/2"}
    assert {(r.file.split("/")[1].split(".")[0], r.reason) for r in left_out} == {
        ("cut", "damaged file"),
        ("flipped", "damaged file"),
        ("empty", "damaged file"),
        ("none", "no posts in archive"),
        ("tail", "damaged file"),
    }


def test_an_archive_with_a_path_that_climbs_out_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stackexchange"
    folder.mkdir()
    _archive(folder / "evil.example.7z", Posts__xml=posts(question(1), answer(2, 1)))
    # py7zr refuses to write such a name, so the reader is shown one.
    monkeypatch.setattr(py7zr.SevenZipFile, "getnames", lambda self: ["../Posts.xml"])
    kept, left_out = read(tmp_path)
    assert kept == []
    assert [r.reason for r in left_out] == ["unsafe path in archive"]


def test_an_archive_bomb_is_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "stackexchange"
    folder.mkdir()
    _archive(folder / "bomb.example.7z", Posts__xml=b"<posts>\n" + b" " * (40 * 2**20) + b"\n</posts>\n")
    assert (folder / "bomb.example.7z").stat().st_size < 100_000
    assert [r.reason for r in read(tmp_path)[1]] == ["decompression bomb"]


def test_a_site_given_as_folder_and_archive_is_read_once(site: Path) -> None:
    root = put(site, question(1), answer(2, 1))
    _archive(site.parent / f"{SITE}.7z", Posts__xml=posts(question(1), answer(2, 1)))
    kept, left_out = read(root)
    assert len(kept) == 1
    assert [(r.reason, r.file) for r in left_out] == [("site given twice", f"stackexchange/{SITE}.7z")]


def test_many_ranges_and_buckets_give_the_same_rows(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [question(n) for n in range(1, 60)] + [
        answer(100 + n, 1 + n * 7 % 59, Score=n % 9) for n in range(300)
    ]
    root = put(site, *rows)
    kept, left_out = read(root, site / "one")
    monkeypatch.setattr(partition, "RANGE_BYTES", 4_000)
    monkeypatch.setattr(partition, "BUCKET_BYTES", 9_000)
    in_pieces, out_pieces = read(root, site / "two")
    by_id = lambda records: sorted(records, key=lambda r: r.id)  # noqa: E731
    assert len(kept) == sum(n % 9 >= 5 for n in range(300))
    assert by_id(in_pieces) == by_id(kept)
    assert by_id(out_pieces) == by_id(left_out)


@pytest.mark.parametrize(
    ("name", "questions", "answers", "others"),
    [
        ("coffee.stackexchange.com", 225, 327, 40),
        ("ai.stackexchange.com", 421, 749, 109),
        ("3dprinting.meta.stackexchange.com", 158, 261, 4),
    ],
)
def test_real_sites(
    real_store: Callable[..., Path], tmp_path: Path, name: str, questions: int, answers: int, others: int
) -> None:
    path = f"stackexchange/{name}/Posts.xml"
    root = real_store(path)
    rows = [r.attrib for r in ElementTree.parse(root / path).getroot()]
    kinds = Counter(r["PostTypeId"] for r in rows)
    assert (kinds["1"], kinds["2"], len(rows) - kinds["1"] - kinds["2"]) == (questions, answers, others)
    ids = {r["Id"] for r in rows if r["PostTypeId"] == "1"}
    good = {
        r["Id"]: r for r in rows if r["PostTypeId"] == "2" and int(r["Score"]) >= 5 and r["ParentId"] in ids
    }

    report = build_datasets([f"stackexchange_{name}"], raw=root, out=tmp_path)
    assert report.failed == {}
    [manifest] = report.manifests
    assert {key: getattr(manifest.funnel, key) for key in ("read", "kept", "dropped")} == {
        "read": answers + others,
        "kept": len(good),
        "dropped": {"not a question or answer": others, "score below the threshold": answers - len(good)},
    }
    found = [
        row
        for paths in Store(tmp_path).files(manifest.name).values()
        for path in paths
        for row in pq.read_table(path).to_pylist()
    ]
    assert {r["source_url"] for r in found} == {f"https://{name}/a/{i}" for i in good}
    by_id = {r["Id"]: r for r in rows}
    for line in found:
        post = good[line["id"].rsplit("/", 1)[1]]
        assert line["score"] == int(post["Score"])
        assert line["input"].startswith(" ".join(by_id[post["ParentId"]]["Title"].split()))
        assert line["authors"][-1]["url"] in (None, f"https://{name}/users/{post.get('OwnerUserId')}")
    rejected = pq.read_table(Store(tmp_path).folder(manifest.name, "1.0.0") / REJECTED).num_rows
    assert rejected == answers + others - len(good)
