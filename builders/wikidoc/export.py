"""XML exports (Special:Export, dumpBackup) to pages, as a stream."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from meadow import RawFile, RawFileError, Rejected, damaged

from .pages import Page, number_of, title_of, unreadable

_AGAIN = "Export the page again."
_TIMESTAMP = re.compile(r"(\d{4}-\d{2}-\d{2})T")
_CATEGORY = re.compile(r"\[\[\s*category\s*:([^\]|]{1,255})", re.IGNORECASE)


def read_export(file: RawFile) -> Iterator[Page | Rejected]:
    """Streams an export. Of a page's revisions the newest counts, as on the site."""
    import lxml.etree as etree

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
    title = title_of(element.findtext("{*}title") or "")
    pageid = number_of(element.findtext("{*}id"))
    if not title:
        where = f"{file.path}#page={pageid or ''}"
        return unreadable(file, "record without title", "a page without <title>", _AGAIN, where)
    namespace = element.findtext("{*}ns")
    page = Page(
        title,
        revision.get("text", ""),
        is_wikitext=True,
        pageid=pageid,
        revision=number_of(revision.get("id")),
        date=day.group(1) if (day := _TIMESTAMP.match(revision.get("timestamp", ""))) else None,
        namespace=int(namespace) if namespace and re.fullmatch(r"-?\d{1,6}", namespace.strip()) else None,
        redirect=element.find("{*}redirect") is not None,
        categories=tuple(map(title_of, _CATEGORY.findall(revision.get("text", "")))),
    )
    if page.namespace in (None, 0) and (
        "text" not in revision or revision.get("model", "wikitext") not in ("", "wikitext")
    ):
        detail = "the newest revision has no wikitext (deleted, or of another content model)"
        return unreadable(file, "record without text", detail, _AGAIN, page.id, page.config)
    return page
