"""Stack Exchange data dumps: one row per well-received answer, with its question and its authors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from meadow.core.builder import Builder, Shard
from meadow.core.licenses import CC_BY_SA_25, CC_BY_SA_30, CC_BY_SA_40
from meadow.core.quality import Quality
from meadow.core.rawfile import RawFile, RawFileError
from meadow.core.rawstore import RawPattern, RawSource
from meadow.core.row import Author, Example, Rejected

_EVIDENCE = (
    "Stack Exchange licenses user contributions under CC BY-SA: the version that the post's ContentLicense "
    "attribute names or, in dumps older than the attribute, the version in force on the day it was posted "
    "(2.5 until 2011-04-08, 3.0 until 2018-05-02, 4.0 since; https://stackoverflow.com/help/licensing)."
)
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


class StackExchange(Builder):
    """Question and answer pairs of every site whose dump is in the raw store."""

    name = "stackexchange"
    version = "1.0.0"
    release_notes = {"1.0.0": "First release."}
    description = (
        "Questions from Stack Exchange sites with their well-received answers, attributed row by row."
    )
    homepage = "https://archive.org/details/stackexchange"
    configs = ("stackexchange",)
    raw_files = (
        RawPattern("*/Posts.xml", "a site's posts, in a folder named after the site"),
        RawPattern("*.7z", "a site's dump as published, named after the site"),
        RawPattern("*/Users.xml", "display names for attribution", required=False),
        RawPattern("*/PostLinks.xml", "which questions are duplicates of one another", required=False),
    )
    license = CC_BY_SA_40.because(_EVIDENCE)
    licenses = (CC_BY_SA_25.because(_EVIDENCE), CC_BY_SA_30.because(_EVIDENCE))
    changes = (
        "the question and one of its answers were put together and converted from HTML to plain text, without "
        "pictures; where a word in square brackets such as [EMAIL] stands, personal data was taken out"
    )
    # Posts are no pages under construction, and people end with "..." what they mean to leave open.
    quality = Quality(editorial=False, ellipsis=False)
    extra_features = {
        "site": "string",
        "tags": "list<string>",
        "score": "int64",
        "question_score": "int64",
        "question_license": "string",
    }
    defaults = {"min_score": 5}

    def configs_of(self, raw: RawSource) -> tuple[str, ...]:
        """The dataset of all sites, and one for each site found."""
        return ("stackexchange", *(f"stackexchange_{site}" for site in sorted(_sites(raw))))

    def card_name(self, config: str) -> str:
        """All sites share the words of one card."""
        return "stackexchange"

    def shards(self, raw: RawSource) -> Iterator[Shard | Rejected]:
        """Partitions each site by question id; a shard is one bucket of a site."""

        given_twice = [
            f
            for f in raw.matching("*.7z")
            if f"{raw.name}/{_site(f)}/Posts.xml" in {g.path for g in raw.files}
        ]
        for file in given_twice:
            yield Rejected(
                "site given twice", file.path, "its Posts.xml lies beside it and was used",
                "Remove one of the two.", file=file.path,
            )  # fmt: skip
        for site, files in sorted(_sites(raw).items()):
            stem = raw.scratch / site
            configs = ("stackexchange", f"stackexchange_{site}")
            try:
                if files[0].name == "Posts.xml":
                    parts, left_out = _partition_folder(raw, site, files, stem, self.parameters["min_score"])
                    for rejected in left_out:
                        yield Rejected(
                            rejected.reason, rejected.file, rejected.detail, rejected.remedy, file=rejected.file, configs=configs,
                        )  # fmt: skip
                else:
                    parts = next(
                        iter(
                            raw.map(
                                _partition_archive, [(site, files[0], stem, self.parameters["min_score"])]
                            )
                        )
                    )
            except RawFileError as error:
                yield Rejected(
                    error.reason, error.file, error.detail, error.remedy, file=error.file, configs=configs
                )
                continue
            for bucket in range(parts.buckets):
                yield Shard(f"{site}/{bucket:05d}", files, configs, {"site": parts, "bucket": bucket})

    def examples(self, shard: Shard) -> Iterator[Example | Rejected]:
        """Joins the answers of one bucket with their questions."""
        from meadow.builders.stackexchange import dump

        site: dump.Site = shard.args["site"]
        users = dump.UserIndex(site.users) if site.users else None
        try:
            yield from _Bucket(site, shard.args["bucket"], users, self.name).examples()
        finally:
            if users is not None:
                users.close()


def _site(file: RawFile) -> str:
    """The site that a raw file belongs to, from its folder's or its own name."""
    folder, _, name = file.path.split("/", 1)[1].rpartition("/")
    return folder or name[: -len(".7z")]


def _sites(raw: RawSource) -> dict[str, tuple[RawFile, ...]]:
    """The raw files of each site, the one with the posts first; a folder goes before an archive."""
    sites = {_site(file): (file,) for file in raw.matching("*.7z")}
    companions = raw.matching("*/Users.xml", "*/PostLinks.xml")
    for file in raw.matching("*/Posts.xml"):
        site = _site(file)
        sites[site] = (file, *(other for other in companions if _site(other) == site))
    return sites


def _partition_folder(
    raw: RawSource, site: str, files: tuple[RawFile, ...], stem: Path, min_score: int
) -> tuple[Any, list[RawFileError]]:
    from meadow.builders.stackexchange import dump

    posts = files[0]
    buckets = dump.buckets_for(posts.bytes)
    if dump.in_lines(posts):
        tasks = [
            (posts, start, end, stem.with_name(f"{stem.name}-{number:06d}.spill"), buckets, min_score)
            for number, (start, end) in enumerate(dump.ranges_for(posts.bytes))
        ]
        spills = list(raw.map(dump.partition_range, tasks))
    else:
        with posts.open() as stream:
            spills = dump.partition_stream(dump.rewritten(posts, stream), stem, buckets, min_score)
    companions = {file.name: file for file in files[1:]}
    left_out: list[RawFileError] = []
    found: dict[str, str | None] = {}
    tasks = [(companions[name], stem) for name in ("Users.xml", "PostLinks.xml") if name in companions]
    for (file, _), result in zip(tasks, raw.map(_read_companion, tasks), strict=True):
        if isinstance(result, RawFileError):
            left_out.append(result)
        else:
            found[file.name] = result
    return dump.Site(
        site, tuple(spills), buckets, found.get("Users.xml"), found.get("PostLinks.xml")
    ), left_out


def _read_companion(task: tuple[RawFile, Path]) -> str | None | RawFileError:
    """Indexes Users.xml or PostLinks.xml; a damaged one costs itself, not the site."""
    from meadow.builders.stackexchange import dump

    file, stem = task
    try:
        if dump.in_lines(file):
            lines = dump.lines_in(file, 0, file.bytes)
        else:
            lines = dump.rewritten(file, file.open())
        sink = dump.UserIndexWriter(f"{stem}-users") if file.name == "Users.xml" else dump.DuplicateLinks()
        for offset, line in lines:
            sink.add(offset, line)
    except RawFileError as error:
        return error
    return sink.close() if isinstance(sink, dump.UserIndexWriter) else sink.write(Path(f"{stem}-groups.npy"))


def _partition_archive(task: tuple[str, RawFile, Path, int]) -> Any:
    """Partitions a site's 7z in one pass over it."""
    from meadow.builders.stackexchange import dump

    site, file, stem, min_score = task
    # The archive's own list of sizes only sets the number of buckets; dumps shrink to about a fifth.
    buckets = dump.buckets_for(file.bytes * 5)
    posts = dump.Spills(stem, buckets, min_score)
    users = dump.UserIndexWriter(f"{stem}-users")
    links = dump.DuplicateLinks()
    sinks = {"Posts.xml": posts.add, "Users.xml": users.add, "PostLinks.xml": links.add}
    there = dump.read_archive(file, sinks)
    if "Posts.xml" not in there:
        raise RawFileError(
            "no posts in archive", "it holds no Posts.xml",
            "Stack Overflow is published as several archives; take the one named -Posts.", file.path,
        )  # fmt: skip
    stems = users.close(), links.write(Path(f"{stem}-groups.npy"))
    return dump.Site(
        site, tuple(posts.close()), buckets, stems[0] if "Users.xml" in there else None, stems[1]
    )


class _Bucket:
    """The posts of one bucket: questions by id, then answers in the order of the dump."""

    def __init__(self, site: Any, bucket: int, users: Any, source: str) -> None:
        self._site, self._users, self._source = site, users, source
        self._bucket = bucket
        self._texts: dict[str, tuple[str, Any]] = {}
        self._groups = None
        if site.groups:
            import numpy as np

            self._groups = np.load(site.groups, mmap_mode="r")

    def _id(self, kind: str, number: str) -> str:
        return f"{self._source}/{self._site.name}/{kind}/{number}"

    def examples(self) -> Iterator[Example | Rejected]:
        from meadow.builders.stackexchange import dump

        questions: dict[bytes, bytes] = {}
        answers: list[tuple[bytes, bytes]] = []
        for record in dump.read_bucket(self._site, self._bucket):
            head, _, line = record.partition(b"\t")
            kind, key = head[:1], head[1:]
            if kind == b"A":
                answers.append((key, line))
            elif kind == b"Q":
                if questions.setdefault(key, line) is not line:
                    yield self._rejected(
                        "duplicate id",
                        self._id("q", key.decode()),
                        "a question of this id stands before it",
                        line,
                    )
            elif kind == b"L":
                post, score = key.decode().split(" ")
                yield self._rejected("score below the threshold", self._id("a", post), f"score {score}", line)
            elif kind == b"O":
                post, number = key.decode().split(" ")
                yield self._rejected(
                    "not a question or answer", self._id("post", post), f"PostTypeId {number}", line
                )
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
                yield Rejected(
                    found.reason, self._id("q", key.decode()), found.detail, found.remedy, found.excerpt
                )
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
        from meadow.parse.htmltext import html_to_text

        if isinstance(answer, Rejected):
            number = re.search(rb'\sId="(\d+)"', line)
            post = self._id("a", number[1].decode() if number else f"of-{key.decode()}")
            return Rejected(answer.reason, post, answer.detail, answer.remedy, answer.excerpt)
        post = self._id("a", answer["Id"])
        if question is None:
            return self._rejected(
                "answer without its question", post, f"question {key.decode()} is not in the dump", line[line.find(b' Body="') + 7 :],
            )  # fmt: skip
        if "Body" not in answer:
            return Rejected("missing attribute", post, "Body", "Fetch the dump again.")
        terms = _license(answer)
        if terms is None:
            detail = f"ContentLicense {answer.get('ContentLicense')!r}, CreationDate {answer.get('CreationDate')!r}"
            return Rejected(
                "unknown licence", post, detail, "Add the licence to the builder.", answer["Body"]
            )
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
        known = (
            self._users.get(int(user)) if self._users is not None and re.fullmatch(r"-?\d+", user) else None
        )
        return Author(known or name or f"user{user}", f"https://{self._site.name}/users/{user}")


def _parsed(lines: list[bytes]) -> Iterator[Any]:
    """Parses rows; a row that is no XML comes back as `Rejected`, in its place."""
    from lxml import etree

    from meadow.builders.stackexchange.dump import row_parser

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
