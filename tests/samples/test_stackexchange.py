"""The Stack Exchange sample is what its source script writes, and has what real dumps have."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from meadow.parse.htmltext import html_to_text
from tests.samples import stackexchange
from tests.samples.stackexchange import SAMPLE


def rows(path: str) -> list[dict[str, str]]:
    return [dict(element.attrib) for element in ET.parse(SAMPLE / path).getroot()]


POSTS = {site: rows(f"{site}/Posts.xml") for site in ("health.example", "fitness.example")}


def test_the_files_are_what_the_script_writes(tmp_path: Path) -> None:
    stackexchange.write(tmp_path)
    written = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*.xml")}
    shipped = {p.relative_to(SAMPLE).as_posix(): p.read_bytes() for p in SAMPLE.rglob("*.xml")}
    assert written == shipped, "run `python -m tests.samples.stackexchange`"


@pytest.mark.parametrize(
    ("path", "root", "end"),
    [
        ("health.example/Posts.xml", b"posts", b"\n"),
        ("health.example/Users.xml", b"users", b"\n"),
        ("health.example/PostLinks.xml", b"postlinks", b"\n"),
        ("fitness.example/Posts.xml", b"posts", b"\r\n"),
    ],
)
def test_the_bytes_look_like_a_dump(path: str, root: bytes, end: bytes) -> None:
    head, opening, *lines, closing = (SAMPLE / path).read_bytes().split(end)
    assert head == b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>'
    assert (opening, closing) == (b"<" + root + b">", b"</" + root + b">")
    assert all(re.fullmatch(rb'  <row Id="-?\d+"( [A-Za-z]+="[^"<>\r\n]*")+ />', line) for line in lines)


def test_attributes_follow_the_age_of_the_dump() -> None:
    health, fitness = POSTS["health.example"], POSTS["fitness.example"]
    assert {row["ContentLicense"] for row in health} == {"CC BY-SA 3.0", "CC BY-SA 4.0"}
    assert not any("ContentLicense" in row for row in fitness)
    assert min(row["CreationDate"] for row in fitness) < "2011-04-08" < "2018-05-02"
    assert max(row["CreationDate"] for row in fitness) > "2018-05-02"
    tags = [[row["Tags"] for row in posts if "Tags" in row] for posts in (health, fitness)]
    assert all(re.fullmatch(r"\|([a-z-]+\|)+", value) for value in tags[0])
    assert all(re.fullmatch(r"(<[a-z-]+>)+", value) for value in tags[1])


def test_there_is_enough_of_everything() -> None:
    questions = [row for posts in POSTS.values() for row in posts if row["PostTypeId"] == "1"]
    answers = [row for posts in POSTS.values() for row in posts if row["PostTypeId"] == "2"]
    scores = [int(row["Score"]) for row in answers]
    assert len(questions) == 22
    assert sum(score >= 5 for score in scores) == 45
    assert sum(score < 5 for score in scores) == 11
    assert {5, 4, 0, -2} <= set(scores)
    assert {"4", "5"} <= {row["PostTypeId"] for row in POSTS["health.example"]}
    owners = [(row.get("OwnerUserId"), row.get("OwnerDisplayName")) for row in answers]
    assert (None, None) in owners
    assert (None, "K. Ferreira") in owners
    users = {row["Id"] for row in rows("health.example/Users.xml")}
    named = {row["OwnerUserId"] for row in POSTS["health.example"] if "OwnerUserId" in row}
    assert named - users == {"41"}
    assert any(
        row.get("LastEditorUserId", row.get("OwnerUserId")) != row.get("OwnerUserId") for row in answers
    )


def test_ids_are_unique_and_point_where_they_should() -> None:
    for site, posts in POSTS.items():
        kinds = {row["Id"]: row["PostTypeId"] for row in posts}
        assert len(kinds) == len(posts)
        lost = [row["Id"] for row in posts if row["PostTypeId"] == "2" and kinds.get(row["ParentId"]) != "1"]
        assert lost == (["58"] if site == "health.example" else [])
        accepted = {row["AcceptedAnswerId"]: row["Id"] for row in posts if "AcceptedAnswerId" in row}
        parents = {row["Id"]: row.get("ParentId") for row in posts}
        assert all(parents[answer] == question for answer, question in accepted.items())
        for row in posts:
            if row["PostTypeId"] == "1":
                assert int(row["AnswerCount"]) == list(parents.values()).count(row["Id"])
            assert row["CreationDate"] <= row["LastActivityDate"]
    joined = {row["Id"]: row["CreationDate"] for row in rows("health.example/Users.xml")}
    for row in POSTS["health.example"]:
        assert row["CreationDate"] >= joined.get(row.get("OwnerUserId"), "")


def test_bodies_hold_the_markup_that_posts_use() -> None:
    bodies = {(site, row["Id"]): row["Body"] for site, posts in POSTS.items() for row in posts}
    every = "".join(bodies.values())
    for markup in (
        "<pre",
        "<code>",
        "<table",
        "<blockquote>",
        "<ol>",
        "<sub>",
        "<sup>",
        "<img ",
        '<a href="',
        "$$",
    ):
        assert markup in every, markup
    for entity in ("&amp;", "&lt;", "&gt;", "&nbsp;", "&mdash;"):
        assert entity in every, entity
    glucose = html_to_text(bodies["health.example", "6"])
    assert "    return mg_dl < 70 and mg_dl > 0\n```" in glucose
    assert "| 126 | 7.0 |" in glucose
    aspirin = html_to_text(bodies["health.example", "2"])
    assert (
        "\n- With plain (immediate-release) aspirin\n  - take ibuprofen at least 30 minutes after" in aspirin
    )
