"""Raw files to pages: MediaWiki API results, saved HTML pages and XML exports, one page at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from typing import Any, BinaryIO
from urllib.parse import quote

from meadow.core.rawfile import MAX_LINE, RawFile, RawFileError, damaged
from meadow.core.row import Rejected
from meadow.parse.htmltext import html_to_text
from meadow.parse.jsonlines import BadRecord, json_lines


def words(text: str) -> frozenset[str]:
    """The words of a literal: long lists read better as text."""
    return frozenset(text.split())


WIKIDOC = "wikidoc"
PATIENT = "wikidoc_patient_information"

#: MediaWiki's own URL encoding (`wfUrlencode`) leaves these as they are.
_URL_SAFE = ";@$!*(),/~:"
_PATIENT_TITLE = re.compile(r"\s*\(?\bpatient information\)?\s*$", re.IGNORECASE)
_PATIENT_PARENTHESIS = re.compile(r"\(patient information\)", re.IGNORECASE)

# Why a page is no article. The phrases are keys of the funnel.
REDIRECT = "redirect"
TALK_OR_USER = "talk or user page"
EDITOR_OR_HELP = "editor or help page"
NO_ARTICLES = "namespace without articles"
BOARD_REVIEW = "Board Review content"
OTHER_LICENSE = "page under another licence"

# https://www.mediawiki.org/wiki/Manual:Namespace: odd numbers are talk, 2 user, 4 project, 12 help.
_NAMESPACES = {
    **dict.fromkeys(("user", "user talk", "talk"), TALK_OR_USER),
    **dict.fromkeys(("help", "wikidoc", "project"), EDITOR_OR_HELP),
    **dict.fromkeys(
        words(
            "category file image media mediawiki module portal property special template widget form concept"
        ),
        NO_ARTICLES,
    ),
}
# The site's writing for its own editors stands among the articles too.
_EDITOR_TITLE = re.compile(
    r"wikidoc|\beditors?[- ]in[- ]chief\b|^help\b|^edit(?:ors?|ing)\b|\bmicrochapters?\b|^(?:main page|sandbox)$"
    r"|^how (?:to|do i) (?:add|create|edit|format|insert|make|search|sign|upload|write)\b|\bstyle guide\b",
    re.IGNORECASE,
)
_EDITOR_CATEGORY = re.compile(r"^(?:wikidoc )?(?:help|editors?)\b", re.IGNORECASE)
# Board Review questions are pages named "WBR0001", written with the template of that name.
_BOARD_REVIEW = re.compile(r"\bboard[ -]review\b|^WBR[\s:_-]?\d|^WBR\b", re.IGNORECASE)
_BOARD_TEMPLATE = re.compile(r"\{\{\s*WBR", re.IGNORECASE)
_REDIRECT_MESSAGE = re.compile(r"class=\"[^\"]*\bredirect(?:Msg|Text)\b")
_REDIRECT_WIKITEXT = re.compile(r"\s*#\s*redirect\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the wiki as a raw file holds it.

    Attributes:
        title: With blanks, not underscores.
        body: Rendered HTML, or wikitext.
        is_wikitext: Which of the two.
        pageid: None where the raw does not tell.
        revision: None where the raw does not tell.
        date: ISO 8601 date of the revision, where the raw tells it.
        namespace: MediaWiki's number; None where only the title tells.
        redirect: Whether the raw marks it as one.
        categories: Names without the prefix.
        license_url: The licence that a saved page links to; empty where it links to none.
    """

    title: str
    body: str
    is_wikitext: bool = False
    pageid: int | None = None
    revision: int | None = None
    date: str | None = None
    namespace: int | None = None
    redirect: bool = False
    categories: tuple[str, ...] = ()
    license_url: str = ""

    @property
    def config(self) -> str:
        """The dataset it belongs to."""
        return config_of(self.title)

    @property
    def id(self) -> str:
        """The stable beginning of its rows' ids: the page's number, else its title."""
        return f"{WIKIDOC}/{self.pageid or self.title.replace(' ', '_')}"

    @property
    def url(self) -> str:
        """The address of this revision, or of the page where the revision is not known."""
        revision = f"&oldid={self.revision}" if self.revision else ""
        return f"{_address(self.title)}{revision}"

    @property
    def history_url(self) -> str:
        """The address of the page's history, which names everybody who wrote it."""
        return f"{_address(self.title)}&action=history"


def config_of(title: str) -> str:
    """The dataset that a page of this title belongs to."""
    is_patient = _PATIENT_TITLE.search(title) or _PATIENT_PARENTHESIS.search(title)
    return PATIENT if is_patient else WIKIDOC


def without_patient_suffix(title: str) -> str:
    """The topic of a patient page's title: ``Asthma (patient information)`` gives ``Asthma``."""
    short = _PATIENT_PARENTHESIS.sub(" ", _PATIENT_TITLE.sub("", title))
    return " ".join(short.split()) or title


def _address(title: str) -> str:
    return f"https://www.wikidoc.org/index.php?title={quote(title.replace(' ', '_'), safe=_URL_SAFE)}"


def why_not(page: Page) -> str | None:
    """The reason why a page is no article that may be used, or None."""
    kind = None
    if page.namespace is None:
        prefix = page.title.split(":", 1)[0].strip().casefold() if ":" in page.title else ""
        kind = TALK_OR_USER if prefix.endswith(" talk") else _NAMESPACES.get(prefix)
    elif page.namespace != 0:
        talk = page.namespace > 0 and (page.namespace == 2 or page.namespace % 2 == 1)
        kind = TALK_OR_USER if talk else EDITOR_OR_HELP if page.namespace in (4, 12) else NO_ARTICLES
    if kind:
        return kind
    if page.redirect or (
        _REDIRECT_WIKITEXT.match(page.body)
        if page.is_wikitext
        else _REDIRECT_MESSAGE.search(page.body[:2000])
    ):
        return REDIRECT
    if (
        _BOARD_REVIEW.search(page.title)
        or any(_BOARD_REVIEW.search(name) for name in page.categories)
        or (page.is_wikitext and _BOARD_TEMPLATE.search(page.body))
    ):
        return BOARD_REVIEW
    if _EDITOR_TITLE.search(page.title) or any(_EDITOR_CATEGORY.search(name) for name in page.categories):
        return EDITOR_OR_HELP
    if page.license_url and "/by-sa/3.0" not in page.license_url:
        return OTHER_LICENSE
    return None


def is_board_review(heading: str) -> bool:
    """Whether a section's heading says that it is Board Review content."""
    return _BOARD_REVIEW.search(heading) is not None


def read_pages(file: RawFile, start: int = 0, end: int | None = None) -> Iterator[Page | Rejected]:
    """Reads the pages of a raw file in its order.

    Args:
        file: JSON lines, a saved page, or an XML export, told apart by suffix.
        start: For JSON lines, the byte from which on lines are read; a line belongs to the range
            that its first byte lies in.
        end: The byte before which lines begin; None reads to the end.

    Yields:
        A `Page`, or what was wrong with a record.

    Raises:
        RawFileError: The file is damaged, as a whole or from some point on.
    """
    if file.suffix == ".jsonl":
        yield from _read_json_lines(file, start, end)
    elif file.suffix == ".xml":
        yield from _read_export(file)
    else:
        yield _read_saved(file)


# --- JSON lines -----------------------------------------------------------------------------------


class _Range:
    """Whole lines of a stream that begin in a range of bytes; `at` is where the last one began."""

    def __init__(self, stream: BinaryIO, start: int, end: int | None) -> None:
        self._stream, self._end = stream, end
        self._next, self._inside, self.at = start, False, start
        if start:
            # The byte before tells whether `start` begins a line; if not, the line is another's.
            stream.seek(start - 1)
            self._next = start - 1
            while True:
                part = stream.readline(MAX_LINE)
                self._next += len(part)
                if not part or part.endswith(b"\n"):
                    break

    def readline(self, limit: int) -> bytes:
        if not self._inside:
            if self._end is not None and self._next >= self._end:
                return b""
            self.at = self._next
        line = self._stream.readline(limit)
        self._next += len(line)
        self._inside = bool(line) and not line.endswith(b"\n")
        return line


def _read_json_lines(file: RawFile, start: int, end: int | None) -> Iterator[Page | Rejected]:
    with file.open() as stream:
        lines = _Range(stream, start, end)
        for _, value in json_lines(lines):
            where = f"{file.path}#{lines.at}"
            if isinstance(value, BadRecord):
                yield Rejected(
                    "line that is no JSON",
                    where,
                    f"the line that begins at byte {lines.at}: {value.detail}",
                    "Fetch the page again.",
                    value.excerpt,
                    file.path,
                    (WIKIDOC,),
                )
            else:
                yield _from_api(value, where, file)


def _from_api(value: Any, where: str, file: RawFile) -> Page | Rejected:
    record = value.get("parse", value) if isinstance(value, dict) else None
    if (
        not isinstance(record, dict)
        or not isinstance(record.get("title"), str)
        or not record["title"].strip()
    ):
        found = sorted(value)[:8] if isinstance(value, dict) else type(value).__name__
        return Rejected(
            "record without title",
            where,
            f"no `title` in the record; found: {found}",
            "Save results of the MediaWiki API's action=parse, one a line.",
            "",
            file.path,
            (WIKIDOC,),
        )
    title = _title(record["title"])
    text = record.get("text")
    if isinstance(text, dict):  # formatversion=1
        text = text.get("*")
    pageid = _number(record.get("pageid"))
    if not isinstance(text, str):
        return Rejected(
            "record without text",
            f"{WIKIDOC}/{pageid or title.replace(' ', '_')}",
            f"no rendered `text` in the record at byte {where.rsplit('#', 1)[1]}",
            "Ask the MediaWiki API's action=parse for prop=text.",
            "",
            file.path,
            (config_of(title),),
        )
    categories = record.get("categories")
    names = []
    for item in categories if isinstance(categories, list) else ():
        name = (item.get("category") or item.get("*")) if isinstance(item, dict) else item
        if isinstance(name, str):
            names.append(_title(name))
    return Page(
        title,
        text,
        pageid=pageid,
        revision=_number(record.get("revid")),
        namespace=record["ns"] if type(record.get("ns")) is int else None,
        categories=tuple(names),
    )


def _title(text: str) -> str:
    return " ".join(text.replace("_", " ").split())


def _number(value: Any) -> int | None:
    """A page's or revision's number; MediaWiki writes 0 where there is none."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value.strip()):
        value = int(value)
    return value if type(value) is int and 0 < value < 2**63 else None


# --- saved pages ----------------------------------------------------------------------------------

_VARIABLE = re.compile(
    r"[\"'](wg(?:PageName|NamespaceNumber|CurRevisionId|RevisionId|ArticleId|IsRedirect|Categories))[\"']\s*:\s*"
    r"(\"(?:[^\"\\]|\\.)*\"|-?\d+|true|false|!0|!1|\[[^\]]*\])"
)
_FIRST_HEADING = re.compile(r"<h1\b[^>]*\bid=[\"']?firstHeading\b[^>]*>(.*?)</h1>", re.IGNORECASE | re.DOTALL)
_OLDID = re.compile(r"class=\"printfooter\".{0,600}?[?&;]oldid=(\d+)", re.DOTALL)
_LICENSE_LINK = re.compile(r"<link\b[^>]*\brel=[\"']?(?:license|copyright)\b[^>]*>", re.IGNORECASE)
_HREF = re.compile(r"\bhref=[\"']([^\"']*)")
_LAST_EDIT = re.compile(r"id=\"footer-info-lastmod\"[^>]*>[^<]*?\bon (\d{1,2}) ([A-Z][a-z]+) (\d{4})\b")
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_CONTENT = re.compile(r"\b(?:mw-parser-output|mw-content-text|bodyContent)\b")


def _read_saved(file: RawFile) -> Page | Rejected:
    if file.bytes > MAX_LINE:
        return _unreadable(file, "page too large", f"{file.bytes} bytes", "Save the page again.")
    with file.open() as stream:
        data = stream.read()
    try:
        html = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return _unreadable(file, "page is not UTF-8", str(error), "Save the page again, as UTF-8.")
    # MediaWiki states what the page is in a script. It is read as text, never run.
    told: dict[str, Any] = {}
    for script in _scripts(html):
        for name, value in _VARIABLE.findall(script):
            try:
                told.setdefault(name, json.loads({"!0": "true", "!1": "false"}.get(value, value)))
            except ValueError:
                continue
    title = told.get("wgPageName")
    if not isinstance(title, str) or not title:
        heading = _FIRST_HEADING.search(html)
        title = html_to_text(heading.group(1)) if heading else ""
    title = _title(title)
    if not title:
        return _unreadable(
            file,
            "record without title",
            "neither wgPageName nor h1#firstHeading",
            "Save the page of the wiki with its scripts.",
        )
    if not _CONTENT.search(html):
        return _unreadable(
            file, "record without text", "no div.mw-parser-output", "Save the whole page.", config_of(title)
        )
    oldid = _OLDID.search(html)
    license_link = _LICENSE_LINK.search(html)
    address = _HREF.search(license_link.group()) if license_link else None
    categories = told.get("wgCategories")
    namespace = told.get("wgNamespaceNumber")
    current = _number(told.get("wgCurRevisionId"))
    revision = _number(told.get("wgRevisionId")) or current or (_number(oldid.group(1)) if oldid else None)
    return Page(
        title,
        html,
        pageid=_number(told.get("wgArticleId")),
        revision=revision,
        # The footer dates the page's last edit, which is this revision only if it is the newest.
        date=_last_edit(html) if revision == current else None,
        namespace=namespace if type(namespace) is int else None,
        redirect=told.get("wgIsRedirect") is True,
        categories=tuple(n for n in categories if isinstance(n, str)) if isinstance(categories, list) else (),
        license_url=unescape(address.group(1)) if address else "",
    )


def _scripts(html: str) -> Iterator[str]:
    at = html.find("<script")
    while at >= 0:
        end = html.find("</script>", at)
        if end < 0:
            return
        yield html[at:end]
        at = html.find("<script", end)


def _last_edit(html: str) -> str | None:
    found = _LAST_EDIT.search(html)
    if not found or found.group(2) not in _MONTHS:
        return None
    return f"{found.group(3)}-{_MONTHS.index(found.group(2)) + 1:02}-{int(found.group(1)):02}"


def _unreadable(file: RawFile, reason: str, detail: str, remedy: str, config: str = WIKIDOC) -> Rejected:
    return Rejected(reason, file.path, detail, remedy, "", file.path, (config,))


# --- XML exports ----------------------------------------------------------------------------------

_TIMESTAMP = re.compile(r"(\d{4}-\d{2}-\d{2})T")


def _read_export(file: RawFile) -> Iterator[Page | Rejected]:
    """Streams an export. Of a page's revisions the newest counts, as on the site."""
    from lxml import etree

    with file.open() as stream:
        events = etree.iterparse(
            stream,
            events=("start", "end"),
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
        )
        newest: dict[str, str] | None = None
        first = True
        try:
            for event, element in events:
                name = etree.QName(element).localname
                if first:
                    first = False
                    _check_export(file, element, name)
                if event == "start":
                    continue
                if name == "revision":
                    found = {etree.QName(child).localname: child.text or "" for child in element}
                    text = element.find("{*}text")
                    if text is None or text.get("deleted") is not None:
                        found.pop("text", None)
                    if newest is None or found.get("timestamp", "") >= newest.get("timestamp", ""):
                        newest = found
                    element.clear()
                    _forget_before(element)
                elif name == "page":
                    yield _from_export(element, newest or {}, file)
                    newest = None
                    element.clear()
                    _forget_before(element)
        except etree.XMLSyntaxError as error:
            raise damaged(file, error) from error


def _check_export(file: RawFile, root: Any, name: str) -> None:
    document = root.getroottree().docinfo
    declared = document.internalDTD
    if declared is not None and next(iter(declared.iterentities()), None) is not None:
        raise RawFileError(
            "XML declares entities",
            "a document type with entities of its own, which MediaWiki never writes",
            "Do not use this file; export the pages again.",
            file.path,
        )
    if name != "mediawiki":
        raise RawFileError(
            "not a MediaWiki export",
            f"the outermost element is <{name}>",
            "Export pages with Special:Export or dumpBackup.",
            file.path,
        )


def _forget_before(element: Any) -> None:
    """Frees what came before in the same parent, so that memory stays flat."""
    before = element.getprevious()
    while before is not None:
        if before.tag == element.tag:
            element.getparent().remove(before)
            before = element.getprevious()
        else:
            before = before.getprevious()


def _from_export(element: Any, revision: dict[str, str], file: RawFile) -> Page | Rejected:
    title = _title(element.findtext("{*}title") or "")
    pageid = _number(element.findtext("{*}id"))
    if not title:
        return Rejected(
            "record without title",
            f"{file.path}#page={pageid or ''}",
            "a page without <title>",
            "Export the page again.",
            "",
            file.path,
            (WIKIDOC,),
        )
    namespace = element.findtext("{*}ns")
    page = Page(
        title,
        revision.get("text", ""),
        is_wikitext=True,
        pageid=pageid,
        revision=_number(revision.get("id")),
        date=day.group(1) if (day := _TIMESTAMP.match(revision.get("timestamp", ""))) else None,
        namespace=int(namespace) if namespace and re.fullmatch(r"-?\d{1,6}", namespace.strip()) else None,
        redirect=element.find("{*}redirect") is not None,
        categories=tuple(map(_title, _CATEGORY.findall(revision.get("text", "")))),
    )
    if page.namespace in (None, 0) and (
        "text" not in revision or revision.get("model", "wikitext") not in ("", "wikitext")
    ):
        return Rejected(
            "record without text",
            page.id,
            "the newest revision has no wikitext (deleted, or of another content model)",
            "Export the page again.",
            "",
            file.path,
            (page.config,),
        )
    return page


_CATEGORY = re.compile(r"\[\[\s*category\s*:([^\]|]{1,255})", re.IGNORECASE)
