"""Raw files to pages, one at a time: results of MediaWiki's API, saved HTML pages and XML exports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from html import unescape
from typing import Any

from meadow import MAX_LINE, BadRecord, RawFile, RawFileError, Rejected, damaged
from meadow.parse.htmltext import html_to_text
from meadow.parse.jsonlines import json_lines_between

from .pages import Page, number_of, title_of, unreadable

_VARIABLE = re.compile(
    r"[\"'](wg(?:PageName|NamespaceNumber|CurRevisionId|RevisionId|ArticleId|IsRedirect|Categories))[\"']\s*:\s*"
    r"(\"(?:[^\"\\]|\\.)*\"|-?\d+|true|false|!0|!1|\[[^\]]*\])"
)
_FIRST_HEADING = re.compile(r"<h1\b[^>]*\bid=[\"']?firstHeading\b[^>]*>(.*?)</h1>", re.IGNORECASE | re.DOTALL)
_OLDID = re.compile(r"class=\"printfooter\".{0,600}?[?&;]oldid=(\d+)", re.DOTALL)
_LICENSE_LINK = re.compile(r"<link\b[^>]*\brel=[\"']?(?:license|copyright)\b[^>]*>", re.IGNORECASE)
_HREF = re.compile(r"\bhref=[\"']([^\"']*)")
_LAST_EDIT = re.compile(r"id=\"footer-info-lastmod\"[^>]*>[^<]*?\bon (\d{1,2}) ([A-Z][a-z]+) (\d{4})\b")
_MONTHS = tuple[str, ...](
    "January February March April May June July August September October November December".split()
)
_TIMESTAMP = re.compile(r"(\d{4}-\d{2}-\d{2})T")
_CATEGORY = re.compile(r"\[\[\s*category\s*:([^\]|]{1,255})", re.IGNORECASE)
# How XML is parsed: nothing is fetched, and no entity is expanded.
_SAFE = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False}
_CONTENT = re.compile(r"\b(?:mw-parser-output|mw-content-text|bodyContent)\b")


def read_pages(file: RawFile, start: int = 0, end: int | None = None) -> Iterator[Page | Rejected]:
    """Reads the pages of a raw file (JSON lines, a saved page, or an XML export) in its order.

    Of JSON lines those are read that begin from byte `start` on and before byte `end`, None for all. Yields
    pages, and what was wrong with a record.

    Raises:
        RawFileError: The file is damaged, as a whole or from some point on.
    """
    if file.suffix == ".jsonl":
        yield from _read_json_lines(file, start, end)
    elif file.suffix == ".xml":
        yield from _read_export(file)
    else:
        yield _read_saved(file)


def _read_json_lines(file: RawFile, start: int, end: int | None) -> Iterator[Page | Rejected]:
    with file.open() as stream:
        for at, value in json_lines_between(stream, start, end):
            where = f"{file.path}#{at}"
            if isinstance(value, BadRecord):
                detail = f"the line that begins at byte {at}: {value.detail}"
                bad = unreadable(file, "line that is no JSON", detail, "Fetch the page again.", where)
                yield replace(bad, excerpt=value.excerpt)
            else:
                yield _from_api(value, where, file)


def _from_api(value: Any, where: str, file: RawFile) -> Page | Rejected:
    record = value.get("parse", value) if isinstance(value, dict) else None
    title = record.get("title") if isinstance(record, dict) else None
    if not isinstance(record, dict) or not isinstance(title, str) or not title.strip():
        found = sorted(value)[:8] if isinstance(value, dict) else type(value).__name__
        remedy = "Save results of the MediaWiki API's action=parse, one a line."
        detail = f"no `title` in the record; found: {found}"
        return unreadable(file, "record without title", detail, remedy, where)
    text = record.get("text")
    if isinstance(text, dict):  # formatversion=1
        text = text.get("*")
    found = record.get("categories")
    categories = [
        (item.get("category") or item.get("*")) if isinstance(item, dict) else item
        for item in (found if isinstance(found, list) else ())
    ]
    page = Page(
        title_of(title),
        text if isinstance(text, str) else "",
        pageid=number_of(record.get("pageid")),
        revision=number_of(record.get("revid")),
        namespace=record["ns"] if type(record.get("ns")) is int else None,
        categories=tuple(title_of(name) for name in categories if isinstance(name, str)),
    )
    if isinstance(text, str):
        return page
    detail = f"no rendered `text` in the record at byte {where.rsplit('#', 1)[1]}"
    remedy = "Ask the MediaWiki API's action=parse for prop=text."
    return unreadable(file, "record without text", detail, remedy, page.id, page.config)


def _read_saved(file: RawFile) -> Page | Rejected:
    if file.bytes > MAX_LINE:
        return unreadable(file, "page too large", f"{file.bytes} bytes", "Save the page again.")
    with file.open() as stream:
        data = stream.read()
    try:
        html = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return unreadable(file, "page is not UTF-8", str(error), "Save the page again, as UTF-8.")
    # MediaWiki states what the page is in a script. It is read as text, never run.
    told: dict[str, Any] = {}
    for script in _scripts(html):
        for name, value in _VARIABLE.findall(script):
            literal = {"!0": "true", "!1": "false"}.get(value) or value
            with suppress(ValueError):
                told.setdefault(name, json.loads(literal))
    title = told.get("wgPageName")
    if not isinstance(title, str) or not title:
        heading = _FIRST_HEADING.search(html)
        title = html_to_text(heading.group(1)) if heading else ""
    title = title_of(title)
    if not title:
        remedy = "Save the page of the wiki with its scripts."
        return unreadable(file, "record without title", "neither wgPageName nor h1#firstHeading", remedy)
    if not _CONTENT.search(html):
        detail, config = "no div.mw-parser-output", Page(title, "").config
        return unreadable(file, "record without text", detail, "Save the whole page.", config=config)
    oldid = _OLDID.search(html)
    license_link = _LICENSE_LINK.search(html)
    address = _HREF.search(license_link.group()) if license_link else None
    categories = told.get("wgCategories")
    namespace = told.get("wgNamespaceNumber")
    current = number_of(told.get("wgCurRevisionId"))
    revision = number_of(told.get("wgRevisionId")) or current or (number_of(oldid[1]) if oldid else None)
    return Page(
        title,
        html,
        pageid=number_of(told.get("wgArticleId")),
        revision=revision,
        # The footer dates the page's last edit, which is this revision only if it is the newest.
        date=_last_edit(html) if revision == current else None,
        namespace=namespace if type(namespace) is int else None,
        redirect=told.get("wgIsRedirect") is True,
        categories=tuple(n for n in categories if isinstance(n, str)) if isinstance(categories, list) else (),
        license_url=unescape(address[1]) if address else "",
    )


def _scripts(html: str) -> Iterator[str]:
    at = html.find("<script")
    while at >= 0 and (end := html.find("</script>", at)) >= 0:
        yield html[at:end]
        at = html.find("<script", end)


def _last_edit(html: str) -> str | None:
    found = _LAST_EDIT.search(html)
    if not found or found[2] not in _MONTHS:
        return None
    return f"{found[3]}-{_MONTHS.index(found[2]) + 1:02}-{int(found[1]):02}"


def _read_export(file: RawFile) -> Iterator[Page | Rejected]:
    """Streams an export. Of a page's revisions the newest counts, as on the site."""
    import lxml.etree as etree

    newest: dict[str, str] = {}
    root = None
    try:
        with file.open() as stream:
            for event, element in etree.iterparse(stream, events=("start", "end"), **_SAFE):
                if root is None:
                    root = element
                    _check_export(file, root)
                name = etree.QName(element).localname
                if event == "start" or name not in ("revision", "page"):
                    continue
                if name == "page":
                    yield _from_export(element, newest, file)
                    newest = {}
                else:
                    found = {etree.QName(child).localname: child.text or "" for child in element}
                    text = element.find("{*}text")
                    if text is None or text.get("deleted") is not None:
                        found.pop("text", None)
                    if found.get("timestamp", "") >= newest.get("timestamp", ""):
                        newest = found
                element.clear()
                # What came before goes too, so that memory stays flat.
                before = element.getprevious()
                if before is not None and before.tag == element.tag:
                    element.getparent().remove(before)
    except etree.XMLSyntaxError as error:
        raise damaged(file, error) from error


def _check_export(file: RawFile, root: Any) -> None:
    declared = root.getroottree().docinfo.internalDTD
    if declared is not None and next(iter(declared.iterentities()), None) is not None:
        detail = "a document type with entities of its own, which MediaWiki never writes"
        remedy = "Do not use this file; export the pages again."
        raise RawFileError("XML declares entities", detail, remedy, file.path)
    name = root.tag.rpartition("}")[2]
    if name != "mediawiki":
        remedy = "Export pages with Special:Export or dumpBackup."
        detail = f"the outermost element is <{name}>"
        raise RawFileError("not a MediaWiki export", detail, remedy, file.path)


def _from_export(element: Any, revision: dict[str, str], file: RawFile) -> Page | Rejected:
    again = "Export the page again."
    title = title_of(element.findtext("{*}title") or "")
    pageid = number_of(element.findtext("{*}id"))
    if not title:
        where = f"{file.path}#page={pageid or ''}"
        return unreadable(file, "record without title", "a page without <title>", again, where)
    namespace = element.findtext("{*}ns")
    text = revision.get("text", "")
    page = Page(
        title,
        text,
        is_wikitext=True,
        pageid=pageid,
        revision=number_of(revision.get("id")),
        date=day[1] if (day := _TIMESTAMP.match(revision.get("timestamp", ""))) else None,
        namespace=int(namespace) if namespace and re.fullmatch(r"-?\d{1,6}", namespace.strip()) else None,
        redirect=element.find("{*}redirect") is not None,
        categories=tuple(map(title_of, _CATEGORY.findall(text))),
    )
    is_wikitext = "text" in revision and revision.get("model", "wikitext") in ("", "wikitext")
    if page.namespace in (None, 0) and not is_wikitext:
        detail = "the newest revision has no wikitext (deleted, or of another content model)"
        return unreadable(file, "record without text", detail, again, page.id, page.config)
    return page
