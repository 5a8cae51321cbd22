"""Joining answers to questions: the second half, one bucket at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import lxml.etree as etree
import numpy as np

from meadow import Author, Example, Rejected
from meadow.parse.htmltext import html_to_text

from .companions import UserIndex
from .dump import row_parser
from .partition import Site, read_bucket

_REPAIR = "Fetch the dump again, or repair the row."
_XML_ENTITIES = (
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&quot;", '"'),
    ("&#xA;", "\n"),
    ("&#xD;", " "),
    ("&amp;", "&"),
)
_TAG = re.compile(r"<[^>]*>?")
#: Rows that are parsed at once.
_ROWS = 500


class Bucket:
    """The posts of one bucket: questions by id, then answers in the order of the dump."""

    def __init__(self, site: Site, bucket: int, source: str) -> None:
        self._site, self._bucket, self._source = site, bucket, source
        self._users = UserIndex(site.users) if site.users else None
        self._groups = np.load(site.groups, mmap_mode="r") if site.groups else None
        self._texts: dict[str, tuple[str, Any]] = {}

    def close(self) -> None:
        """Closes what names the authors."""
        if self._users is not None:
            self._users.close()

    def _id(self, kind: str, number: str) -> str:
        return f"{self._source}/{self._site.name}/{kind}/{number}"

    def examples(self) -> Iterator[Example | Rejected]:
        """Yields a row, or the reason against it, for each post but the questions."""
        questions: dict[bytes, bytes] = {}
        answers: list[tuple[bytes, bytes]] = []
        for record in read_bucket(self._site, self._bucket):
            head, _, line = record.partition(b"\t")
            kind, key = head[:1], head[1:]
            if kind == b"A":
                answers.append((key, line))
            elif kind == b"Q":
                if questions.setdefault(key, line) is not line:
                    post = self._id("q", key.decode())
                    yield self._rejected("duplicate id", post, "a question of this id stands before it", line)
            elif kind == b"L":
                post, score = key.decode().split(" ")
                yield self._rejected("score below the threshold", self._id("a", post), f"score {score}", line)
            elif kind == b"O":
                post, number = key.decode().split(" ")
                post = self._id("post", post)
                yield self._rejected("not a question or answer", post, f"PostTypeId {number}", line)
            else:
                offset, missing = key.decode().split(" ")
                reason = "missing attribute" if missing else "malformed row"
                detail = f"at byte {offset}: {missing or 'no well-formed row'}"
                yield self._rejected(reason, self._id("byte", offset), detail, line, _REPAIR)
        wanted = {key for key, _ in answers}
        lines = [(key, line) for key, line in questions.items() if key in wanted]
        del questions
        posts: dict[bytes, Any] = {}
        for (key, _), found in zip(lines, _parsed([line for _, line in lines]), strict=True):
            if isinstance(found, Rejected):
                yield replace(found, id=self._id("q", key.decode()))
            else:
                posts[key] = found
        del lines
        for start in range(0, len(answers), _ROWS):
            some = answers[start : start + _ROWS]
            for (key, line), answer in zip(some, _parsed([line for _, line in some]), strict=True):
                yield self._example(key, line, answer, posts.get(key))

    def _rejected(self, reason: str, post: str, detail: str, line: bytes, remedy: str = "") -> Rejected:
        # An excerpt is to recognise the post by; full entity decoding is not worth its time here.
        text = line.decode("utf-8", "replace")
        for entity, character in _XML_ENTITIES:
            text = text.replace(entity, character)
        return Rejected(reason, post, detail, remedy, " ".join(_TAG.sub(" ", text).split()))

    def _example(self, key: bytes, line: bytes, answer: Any, question: Any) -> Example | Rejected:
        if isinstance(answer, Rejected):
            number = re.search(rb'\sId="(\d+)"', line)
            post = self._id("a", number[1].decode() if number else f"of-{key.decode()}")
            return replace(answer, id=post)
        post = self._id("a", answer["Id"])
        if question is None:
            detail, body = f"question {key.decode()} is not in the dump", line[line.find(b' Body="') + 7 :]
            return self._rejected("answer without its question", post, detail, body)
        if "Body" not in answer:
            return Rejected("missing attribute", post, "Body", "Fetch the dump again.")
        terms = _license(answer)
        if terms is None:
            detail = f"ContentLicense {answer.get('ContentLicense')!r}, CreationDate {answer.get('CreationDate')!r}"
            remedy = "Add the licence to the builder."
            return Rejected("unknown licence", post, detail, remedy, answer["Body"])
        number = question["Id"]
        if number not in self._texts:
            title, body = " ".join(question.get("Title", "").split()), html_to_text(question.get("Body", ""))
            self._texts[number] = ("\n\n".join(filter(None, (title, body))), self._author(question))
        text, asker = self._texts[number]
        answerer = self._author(answer)
        return Example(
            id=post,
            instruction="Answer this question truthfully",
            input=text,
            output=html_to_text(answer["Body"]),
            group=self._id("q", str(self._group(int(number)))),
            source_url=f"https://{self._site.name}/a/{answer['Id']}",
            source_date=answer.get("CreationDate", "")[:10] or None,
            authors=(asker,) if asker == answerer else (asker, answerer),
            license=terms,
            extra={
                "site": self._site.name,
                "tags": list(_tags(question.get("Tags", ""))),
                "score": int(answer["Score"]),
                "question_score": _number(question.get("Score")),
                "question_license": _license(question),
            },
        )

    def _group(self, question: int) -> int:
        """The question, or the first of those it was closed as a duplicate of: they share a split."""
        if self._groups is not None:
            at = self._groups[0].searchsorted(question)
            if at < self._groups.shape[1] and self._groups[0][at] == question:
                return int(self._groups[1][at])
        return question

    def _author(self, post: Any) -> Author:
        user, name = post.get("OwnerUserId"), post.get("OwnerDisplayName")
        if user is None:
            return Author(f"{name} (deleted user)" if name else "deleted user")
        known = self._users.get(int(user)) if self._users and re.fullmatch(r"-?\d{1,18}", user) else None
        return Author(known or name or f"user{user}", f"https://{self._site.name}/users/{user}")


def _parsed(lines: list[bytes]) -> Iterator[Any]:
    """Parses rows; a row that is no XML comes back as `Rejected`, in its place."""
    for start in range(0, len(lines), _ROWS):
        some = lines[start : start + _ROWS]
        try:
            elements = list(etree.fromstring(b"<posts>" + b"\n".join(some) + b"</posts>", row_parser()))
        except etree.XMLSyntaxError:
            elements = []
        if len(elements) == len(some):
            for element in elements:
                yield element.attrib
            continue
        for line in some:
            try:
                yield etree.fromstring(line, row_parser()).attrib
            except etree.XMLSyntaxError as error:
                excerpt = line[line.find(b' Body="') + 7 :][:400].decode("utf-8", "replace")
                yield Rejected("malformed row", "", str(error), _REPAIR, excerpt)


def _license(post: Any) -> str | None:
    return _spdx(post.get("ContentLicense"), post.get("CreationDate", "")[:10])


@lru_cache(10_000)
def _spdx(named: str | None, day: str) -> str | None:
    """The SPDX id of a post's licence, from its attribute or, before it existed, its date."""
    if named:
        found = re.fullmatch(r"CC BY-SA (2\.5|3\.0|4\.0)", named.strip())
        return f"CC-BY-SA-{found[1]}" if found else None
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", day):
        return None
    return "CC-BY-SA-2.5" if day < "2011-04-08" else "CC-BY-SA-3.0" if day < "2018-05-02" else "CC-BY-SA-4.0"


@lru_cache(10_000)
def _tags(text: str) -> tuple[str, ...]:
    """Tags of either form: ``<a><b>`` until 2024, ``|a|b|`` since."""
    return tuple(tag for tag in re.split(r"[<>|]+", text) if tag)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"-?\d+", text) else None
