"""Joining answers to questions: the second half, one bucket at a time."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import lxml.etree as etree
import numpy as np

from meadow import Author, Example, Rejected
from meadow.parse.htmltext import html_to_text

from .dump import row_parser
from .partition import Site, read_bucket

_REPAIR = "Fetch the dump again, or repair the row."
_XML_ENTITIES = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&#xA;": "\n", "&#xD;": " ", "&amp;": "&"}
_TAG = re.compile(r"<[^>]*>?")
_PARSER = row_parser()


class Bucket:
    """The posts of one bucket: questions by id, then answers in the order of the dump."""

    def __init__(self, site: Site, bucket: int, source: str) -> None:
        self._site, self._bucket, self._source = site, bucket, source
        self._users = None
        if site.users:
            # immutable: workers that read the same table need no locks.
            uri = f"{Path(site.users).absolute().as_uri()}?mode=ro&immutable=1"
            self._users = sqlite3.connect(uri, uri=True)
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
        questions: dict[str, bytes] = {}
        answers: list[tuple[str, bytes]] = []
        for record in read_bucket(self._site, self._bucket):
            head, _, line = record.partition(b"\t")
            kind, (key, _, said) = head[:1], head[1:].decode().partition(" ")
            if kind == b"A":
                answers.append((key, line))
            elif kind == b"Q":
                if questions.setdefault(key, line) is not line:
                    detail = "a question of this id stands before it"
                    yield self._rejected("duplicate id", "q", key, detail, line)
            elif kind == b"L":
                yield self._rejected("score below the threshold", "a", key, f"score {said}", line)
            elif kind == b"O":
                yield self._rejected("not a question or answer", "post", key, f"PostTypeId {said}", line)
            else:
                reason = "missing attribute" if said else "malformed row"
                detail = f"at byte {key}: {said or 'no well-formed row'}"
                yield self._rejected(reason, "byte", key, detail, line, _REPAIR)
        wanted = {key for key, _ in answers}
        posts: dict[str, Any] = {}
        for key in [key for key in questions if key in wanted]:
            found = _parsed(questions.pop(key))
            if isinstance(found, Rejected):
                yield replace(found, id=self._id("q", key))
            else:
                posts[key] = found
        del questions
        for key, line in answers:
            yield self._example(key, line, posts.get(key))

    def _rejected(
        self, reason: str, kind: str, number: str, detail: str, line: bytes, remedy: str = ""
    ) -> Rejected:
        # An excerpt is to recognise the post by; full entity decoding is not worth its time here.
        text = line.decode("utf-8", "replace")
        for entity, character in _XML_ENTITIES.items():
            text = text.replace(entity, character)
        excerpt = " ".join(_TAG.sub(" ", text).split())
        return Rejected(reason, self._id(kind, number), detail, remedy, excerpt)

    def _example(self, key: str, line: bytes, question: Any) -> Example | Rejected:
        answer = _parsed(line)
        if isinstance(answer, Rejected):
            number = re.search(rb'\sId="(\d+)"', line)
            return replace(answer, id=self._id("a", number[1].decode() if number else f"of-{key}"))
        post = self._id("a", answer["Id"])
        if question is None:
            detail, body = f"question {key} is not in the dump", line[line.find(b' Body="') + 7 :]
            return self._rejected("answer without its question", "a", answer["Id"], detail, body)
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
        known = None
        if self._users is not None and re.fullmatch(r"-?\d{1,18}", user):
            known = self._users.execute("SELECT name FROM users WHERE id = ?", (int(user),)).fetchone()
        name = (known[0] if known else "") or name or f"user{user}"
        return Author(name, f"https://{self._site.name}/users/{user}")


def _parsed(line: bytes) -> Any:
    """The attributes of a row, or why it is none."""
    try:
        return etree.fromstring(line, _PARSER).attrib
    except etree.XMLSyntaxError as error:
        excerpt = line[line.find(b' Body="') + 7 :][:400].decode("utf-8", "replace")
        return Rejected("malformed row", "", str(error), _REPAIR, excerpt)


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
