"""Raw files to pages: MediaWiki API results and saved HTML pages, one page at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from typing import Any

from meadow import MAX_LINE, BadRecord, RawFile, Rejected, json_lines
from meadow.parse.htmltext import html_to_text
from meadow.parse.jsonlines import LineRange

from .export import read_export
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
_MONTHS = "January February March April May June July August September October November December"
_CONTENT = re.compile(r"\b(?:mw-parser-output|mw-content-text|bodyContent)\b")


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
        yield from read_export(file)
    else:
        yield _read_saved(file)


def _read_json_lines(file: RawFile, start: int, end: int | None) -> Iterator[Page | Rejected]:
    with file.open() as stream:
        lines = LineRange(stream, start, end)
        for _, value in json_lines(lines):
            where = f"{file.path}#{lines.at}"
            if isinstance(value, BadRecord):
                detail = f"the line that begins at byte {lines.at}: {value.detail}"
                bad = unreadable(file, "line that is no JSON", detail, "Fetch the page again.", where)
                yield replace(bad, excerpt=value.excerpt)
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
        detail = f"no `title` in the record; found: {found}"
        remedy = "Save results of the MediaWiki API's action=parse, one a line."
        return unreadable(file, "record without title", detail, remedy, where)
    title = title_of(record["title"])
    text = record.get("text")
    if isinstance(text, dict):  # formatversion=1
        text = text.get("*")
    pageid = number_of(record.get("pageid"))
    if not isinstance(text, str):
        detail = f"no rendered `text` in the record at byte {where.rsplit('#', 1)[1]}"
        remedy = "Ask the MediaWiki API's action=parse for prop=text."
        page = Page(title, "", pageid=pageid)
        return unreadable(file, "record without text", detail, remedy, page.id, page.config)
    categories = record.get("categories")
    names = []
    for item in categories if isinstance(categories, list) else ():
        name = (item.get("category") or item.get("*")) if isinstance(item, dict) else item
        if isinstance(name, str):
            names.append(title_of(name))
    return Page(
        title,
        text,
        pageid=pageid,
        revision=number_of(record.get("revid")),
        namespace=record["ns"] if type(record.get("ns")) is int else None,
        categories=tuple(names),
    )


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
            try:
                told.setdefault(
                    name,
                    json.loads(
                        value.replace("!0", "true").replace("!1", "false") if value[0] == "!" else value
                    ),
                )
            except ValueError:
                continue
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
    revision = (
        number_of(told.get("wgRevisionId")) or current or (number_of(oldid.group(1)) if oldid else None)
    )
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
    months = re.split(" ", _MONTHS)
    if not found or found.group(2) not in months:
        return None
    return f"{found.group(3)}-{months.index(found.group(2)) + 1:02}-{int(found.group(1)):02}"
