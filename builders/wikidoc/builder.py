"""WikiDoc: the living textbook and its patient information, a row per section."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import blake2b

import meadow
from meadow.parse.records import unusable_file

from .pages import BOARD_REVIEW, PATIENT, WIKIDOC, Page, is_board_review, why_not, without_patient_suffix
from .questions import is_overview, is_references, patient_question, question, siblings, split_title
from .reading import read_pages

#: JSON lines are cut into ranges of this many bytes: several hundred pages, a few seconds of work.
RANGE_BYTES = 16 * 2**20
#: Saved pages come one a file, some 50 KB each; one at a time they would cost more to hand out than to read.
PAGES_PER_SHARD = 64
#: Shorter sections are crumbs such as "See table." or "Unknown".
MIN_CHARACTERS = 40
#: An overview's section repeats the page where this share of its words stands in sentences that the page has.
REPEATED_SHARE = 0.8


class WikiDoc(meadow.Builder):
    """WikiDoc's pages as questions and answers.

    A page's title decides its dataset: "X (patient information)" belongs to
    `wikidoc_patient_information`, all others to `wikidoc`. Records are sections; a page that is left
    out as a whole is one record.
    """

    name = WIKIDOC
    version = "1.0.0"
    release_notes = {"1.0.0": "First version: rendered pages, saved pages and XML exports."}
    description = "Sections of WikiDoc, the living medical textbook, as questions and answers."
    configs = (WIKIDOC, PATIENT)
    raw_files = (
        meadow.RawPattern("**/*.jsonl", "rendered pages, results of the API's action=parse, one a line"),
        *(meadow.RawPattern(f"**/*.jsonl.{ending}", "the same, compressed") for ending in ("gz", "zst")),
        meadow.RawPattern("**/*.html", "a saved page"),
        meadow.RawPattern("**/*.xml", "MediaWiki XML export (Special:Export, dumpBackup)"),
        *(meadow.RawPattern(f"**/*.xml.{ending}", "the same, compressed") for ending in ("gz", "bz2", "zst")),
    )
    license = meadow.licenses.CC_BY_SA_30.because(
        "Every rendered page links rel=license to https://creativecommons.org/licenses/by-sa/3.0/ and says at its foot: "
        "'Content is available under Creative Commons Attribution/Share-Alike License unless otherwise noted; "
        "All rights reserved on Board Review content.' Board Review content is left out."
    )
    changes = (
        "the page was cut into sections, each behind a question made from its heading, and converted to plain "
        "text; pictures, navigation, references and Board Review content were left out"
    )
    homepage = "https://www.wikidoc.org/"
    privacy = "flag"
    extra_features = {"page": "string", "section": "string", "revision": "int64"}

    def shards(self, raw: meadow.RawSource) -> Iterable[meadow.Shard | meadow.Rejected]:
        """Cuts the raw files, and looks for pages that overviews repeat.

        "Asthma overview" may repeat "Asthma" from any other file. Two passes on the workers find
        that out in little memory: the first collects the topics of overviews, the second the
        sentences, as 8-byte hashes, of just the pages on these topics.
        """
        shards = list(self._cut(raw))
        overviews = list(raw.map(_overviews, shards))
        wanted = frozenset().union(*overviews)
        said: dict[str, set[int]] = {}
        if wanted:
            for found in raw.map(partial(_said, wanted=wanted), shards):
                for topic, hashes in found.items():
                    said.setdefault(topic, set()).update(hashes)
        for shard, topics in zip(shards, overviews, strict=True):
            repeats = {topic: tuple(sorted(said[topic])) for topic in sorted(topics) if said.get(topic)}
            yield replace(shard, args={**shard.args, "said": repeats}) if repeats else shard

    def _cut(self, raw: meadow.RawSource) -> Iterator[meadow.Shard]:
        saved = [file for file in raw.files if file.suffix == ".html"]
        for file in raw.files:
            if file.suffix == ".html":
                continue
            if not file.name.lower().endswith(".jsonl") or file.bytes <= RANGE_BYTES:
                yield meadow.Shard(file.path, (file,), self.configs)
                continue
            for start in range(0, file.bytes, RANGE_BYTES):
                end = min(start + RANGE_BYTES, file.bytes)
                yield meadow.Shard(
                    f"{file.path}#{start}", (file,), self.configs, {"start": start, "end": end}
                )
        for at in range(0, len(saved), PAGES_PER_SHARD):
            group = tuple(saved[at : at + PAGES_PER_SHARD])
            yield meadow.Shard(group[0].path, group, self.configs)

    def examples(self, shard: meadow.Shard) -> Iterator[meadow.Example | meadow.Rejected]:
        """Yields a row, or the reason against it, for each section of each page."""
        for page in _pages(shard):
            if isinstance(page, meadow.Rejected):
                yield page
            else:
                yield from self._rows(page, shard.files[0].path, shard.args.get("said", {}))

    def _rows(
        self, page: Page, file: str, said: Mapping[str, tuple[int, ...]]
    ) -> Iterator[meadow.Example | meadow.Rejected]:
        rejected = partial(meadow.Rejected, file=file, configs=(page.config,))
        reason = why_not(page)
        if reason:
            yield rejected(reason, page.id, f"{page.title!r}")
            return
        topic, chapter = _topic(page)
        try:
            pieces = list(_pieces(page, topic))
        except Exception as error:  # the parsers fail in ways of their own on hostile pages
            detail = f"{page.title!r}: {type(error).__name__}: {error}"
            yield rejected("page that cannot be parsed", page.id, detail, "Fetch the page again.")
            return
        if not pieces:
            yield rejected("page without text", page.id, f"{page.title!r}")
        repeated = frozenset(said.get(topic.casefold(), ())) if chapter == "overview" else frozenset()
        ask = patient_question if page.config == PATIENT else partial(question, chapter=chapter)
        led = False
        for anchor, heading, text, reason in pieces:
            row = f"{page.id}/{anchor}"
            if not reason and repeated and _repeats(text, repeated):
                reason = "overview repeats the page"
            if reason:
                where = f"section {heading!r}" if heading else "text before the first heading"
                yield rejected(reason, row, f"{page.title!r}, {where}", excerpt=text[:500])
                continue
            brief = led and is_overview(heading)
            led = led or not heading
            yield meadow.Example(
                id=row,
                instruction="Answer this question truthfully",
                input=ask(heading, topic, brief=brief),
                output=text,
                group=topic.casefold(),
                source_url=page.url,
                source_date=page.date,
                authors=(meadow.Author("WikiDoc contributors", page.history_url),),
                configs=(page.config,),
                extra={"page": page.title, "section": heading, "revision": page.revision},
            )


def _pages(shard: meadow.Shard) -> Iterator[Page | meadow.Rejected]:
    """Reads a shard's pages. In a group of saved pages a damaged one costs itself, not the others."""
    for file in shard.files:
        try:
            yield from read_pages(file, shard.args.get("start", 0), shard.args.get("end"))
        except meadow.RawFileError as error:
            if len(shard.files) == 1:
                raise
            yield unusable_file(error, (WIKIDOC,), file.path)


def _topic(page: Page) -> tuple[str, str]:
    """What a page is about, and which microchapter of it the page is."""
    if page.config == PATIENT:
        return without_patient_suffix(page.title), ""
    topic, chapter = split_title(page.title)
    if not chapter:
        about, weak = split_title(page.title, weak=True)
        if weak and siblings(page.body, about):
            return about, weak
    return topic, chapter


def _pieces(page: Page, topic: str) -> Iterator[tuple[str, str, str, str]]:
    """Yields each section's place in its row's id, heading, text, and why it is left out or nothing."""
    from .sections import sections

    html = page.body
    if page.is_wikitext:
        from .wikitext import to_html

        html = to_html(page.body, page.title)
    taken: Counter[str] = Counter()
    for section in sections(html, page.title, topic):
        heading = section.heading
        anchor = re.sub(r"[^\w-]+", "_", heading).strip("_") or ("section" if heading else "lead")
        # MediaWiki's anchors are case-sensitive, people's file systems are not.
        taken[anchor.casefold()] += 1
        if taken[anchor.casefold()] > 1:
            anchor += f"-{taken[anchor.casefold()]}"
        reason = ""
        if is_references(heading):
            reason = "references and links"
        elif is_board_review(heading):
            reason = BOARD_REVIEW
        elif section.only_links:
            reason = "section is only a link"
        elif len(section.text) < MIN_CHARACTERS:
            reason = f"stub under {MIN_CHARACTERS} characters"
        yield anchor, heading, section.text, reason


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yields (hash, number of words) of each sentence, letter case and punctuation aside."""
    for sentence in re.split(r"(?<=[.!?;:])\s+|\n+", text):
        words = re.findall(r"\w+", sentence.casefold())
        if words:
            digest = blake2b(" ".join(words).encode(), digest_size=8).digest()
            yield int.from_bytes(digest), len(words)


def _repeats(text: str, said: frozenset[int]) -> bool:
    total = again = 0
    for sentence, words in _sentences(text):
        total += words
        again += words if sentence in said else 0
    return again >= REPEATED_SHARE * total > 0


def _overviews(shard: meadow.Shard) -> frozenset[str]:
    """The topics, in small letters, that a shard holds overviews of; none of a damaged file."""
    found = set()
    with suppress(meadow.RawFileError):
        for page in _pages(shard):
            if isinstance(page, Page) and page.config == WIKIDOC:
                topic, chapter = split_title(page.title)
                if chapter == "overview":
                    found.add(topic.casefold())
        return frozenset(found)
    return frozenset()


def _said(shard: meadow.Shard, wanted: frozenset[str]) -> dict[str, tuple[int, ...]]:
    """What a shard's pages on the wanted topics say, as hashes of the sentences of usable sections."""
    found: dict[str, set[int]] = {}
    with suppress(meadow.RawFileError):
        for page in _pages(shard):
            if isinstance(page, meadow.Rejected) or page.title.casefold() not in wanted or why_not(page):
                continue
            hashes = found.setdefault(page.title.casefold(), set())
            with suppress(Exception):  # the page is reported where its rows are read
                for _, _, text, reason in _pieces(page, page.title):
                    if not reason:
                        hashes.update(sentence for sentence, _ in _sentences(text))
        return {topic: tuple(sorted(hashes)) for topic, hashes in found.items()}
    return {}
