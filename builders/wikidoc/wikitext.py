"""Wikitext to HTML, so that an export goes through the same rendering as a rendered page.

Only what carries words is written. Templates, references, pictures, categories and comments are
dropped: a template's text stands in another page, which an export need not hold.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html import escape
from itertools import groupby
from typing import Any

import mwparserfromhell
from mwparserfromhell.nodes import ExternalLink, Heading, HTMLEntity, Node, Tag, Text, Wikilink
from mwparserfromhell.wikicode import Wikicode

from .pages import words
from .sections import CONTROL, HIDDEN

# Marks inside the flow of text: list markers at the beginning of a line, and blocks laid out already.
_MARKERS = {"*": "\x11", "#": "\x12", ";": "\x13", ":": "\x14"}
_PLAIN = str.maketrans({mark: plain for plain, mark in _MARKERS.items()})
_LISTS = {"\x11": ("ul", "li"), "\x12": ("ol", "li"), "\x13": ("dl", "dt"), "\x14": ("dl", "dd")}
_BLOCK = re.compile(r"\x02(\d+)\x03")
_LIST_LINE = re.compile(r"\s*([\x11-\x14]+)(.*)")

_DROPPED, _BLOCKS, _SINGLE = (words(name) for name in ("dropped_wikitext", "blocks", "single"))
_CELLS = frozenset(("td", "th", "caption"))
_INLINE = frozenset(("sub", "sup", "code"))
_ATTRIBUTES = frozenset(("class", "style", "start", "hidden", "colspan", "rowspan"))
_PAGE_NAME = re.compile(r"\{\{\s*(?:(?:FULL|BASE|SUB)?PAGENAMEE?)\s*\}\}", re.IGNORECASE)
_NO_WORDS = re.compile(r"\s*(?:file|image|media|category|user|user[ _]talk)\s*:", re.IGNORECASE)
_OTHER_LANGUAGE = re.compile(r"\s*(?:[a-z]{2,3}(?:-[a-z]+)?|simple)\s*:(?!\s)")
_TEMPLATE = re.compile(r"\{\{.*?\}\}")
_MAGIC_WORD = re.compile(r"__[A-Z]+__")
#: Deeper lists are laid out as if they were this deep.
_MAX_DEPTH = 20
#: The parser looks for the end of each of these up to the end of the page: a second or so for this many.
_MAX_UNCLOSED = 2000
_OPENING = re.compile(r"<([a-z]+)(?:\s[^<>]*)?(?<!/)>", re.IGNORECASE)
_CLOSING = re.compile(r"</([a-z]+)", re.IGNORECASE)


def to_html(wikitext: str, title: str) -> str:
    """Converts a page's source to HTML: paragraphs, headings, lists, tables, links and formulas (``$TeX$``).

    Raises:
        ValueError: There are so many tags without an end that parsing would take very long.
    """
    text = CONTROL.sub("", wikitext).replace("\r\n", "\n").replace("\r", "\n")
    text = _MAGIC_WORD.sub("", _PAGE_NAME.sub(lambda _: title, text))
    tags = Counter(name.lower() for name in _OPENING.findall(text))
    tags.subtract(name.lower() for name in _CLOSING.findall(text))
    unclosed = sum(max(0, count) for name, count in tags.items() if name not in _SINGLE)
    unclosed += max(0, text.count("{|") - text.count("|}"))
    if unclosed > _MAX_UNCLOSED:
        raise ValueError(f"{unclosed} tags and tables are never closed")
    return f'<div class="mw-parser-output">{_layout(mwparserfromhell.parse(text))}</div>'


def _layout(code: Wikicode) -> str:
    """Block structure: lists and paragraphs are made of lines, as MediaWiki does it."""
    out = []
    for kind, group in groupby(_lines(code), key=lambda line: line[0]):
        found = [content for _, content in group]
        if kind == "item":
            out.append(_list(found))
        elif kind == "text":
            out.append("<p>" + "\n".join(found) + "</p>")
        elif kind == "block":
            out += found
    return "\n".join(out)


def _lines(code: Wikicode) -> Iterator[tuple[str, Any]]:
    """Yields (block, its HTML), (item, (marker, HTML)), (text, HTML) or (end, nothing) for each line."""
    blocks: list[str] = []
    for line in _flow(code, blocks).split("\n"):
        if block := _BLOCK.fullmatch(line.strip()):
            yield "block", blocks[int(block[1])]
        elif item := _LIST_LINE.fullmatch(line):
            marker = item[1][-_MAX_DEPTH:]
            # "; term : definition" is one line with two items.
            term, colon, definition = item[2].partition("\x14")
            yield "item", (marker, term.translate(_PLAIN))
            if colon:
                yield "item", (marker[:-1] + "\x14", definition.translate(_PLAIN))
        elif not line.strip() or re.match(r"\s*(?:\{\||\|\}|\|-)", line):
            # A table that does not end is left as text by the parser: its rules are no words.
            yield "end", ""
        else:
            yield "text", re.sub(r"^\s*\|+\s?", "", line).translate(_PLAIN)


def _list(items: list[tuple[str, str]]) -> str:
    out = []
    for name, group in groupby(items, key=lambda item: _LISTS[item[0][0]][0]):
        out.append(f"<{name}>")
        members = list(group)
        at = 0
        while at < len(members):
            marker, content = members[at]
            item = _LISTS[marker[0]][1]
            at += len(marker) == 1
            deeper = at
            while deeper < len(members) and len(members[deeper][0]) > 1:
                deeper += 1
            below = _list([(m[1:], c) for m, c in members[at:deeper]]) if deeper > at else ""
            out.append(f"<{item}>{content if len(marker) == 1 else ''}{below}</{item}>")
            at = deeper
        out.append(f"</{name}>")
    return "".join(out)


def _flow(code: Wikicode | None, blocks: list[str]) -> str:
    return "".join(_node(node, blocks) for node in code.nodes) if code is not None else ""


def _node(node: Node, blocks: list[str]) -> str:
    if isinstance(node, Text):
        return escape(re.sub(r"'{2,5}", "", str(node)), quote=False)
    if isinstance(node, HTMLEntity):
        return str(node)
    if isinstance(node, Wikilink):
        return _link(node, blocks)
    if isinstance(node, ExternalLink):
        if node.title is None:
            return "" if node.brackets else escape(str(node.url), quote=False)
        return f'<a class="external">{_flow(node.title, blocks)}</a>'
    if isinstance(node, Heading):
        return _put(f"<h{node.level}>{_inline(node.title)}</h{node.level}>", blocks)
    if isinstance(node, Tag):
        return _tag(node, blocks)
    return ""  # templates, arguments, comments


def _put(html: str, blocks: list[str]) -> str:
    blocks.append(html)
    return f"\n\x02{len(blocks) - 1}\x03\n"


def _inline(code: Wikicode) -> str:
    """A flow that has no room for blocks: they are written where they stand."""
    blocks: list[str] = []
    text = " ".join(_flow(code, blocks).translate(_PLAIN).split("\n"))
    return _BLOCK.sub(lambda found: blocks[int(found.group(1))], text)


def _link(node: Wikilink, blocks: list[str]) -> str:
    target = _TEMPLATE.sub("", str(node.title)).strip()
    if _NO_WORDS.match(target) or _OTHER_LANGUAGE.match(target):
        return ""
    target = target.lstrip(":").strip()
    label = _flow(node.text, blocks) if node.text is not None else escape(target, quote=False)
    page = target.split("#", 1)[0].replace("_", " ").strip()
    href = "" if page else ' href="#"'
    return f'<a title="{escape(page)}"{href}>{label}</a>'


def _tag(node: Tag, blocks: list[str]) -> str:
    name = str(node.tag).strip().casefold()
    markup = node.wiki_markup
    if name in ("li", "dt", "dd") and markup in _MARKERS:
        return _MARKERS[markup]
    if name in _DROPPED:
        return ""
    if name in ("br", "hr"):
        return "<br>" if name == "br" else "\n"
    if name == "math":
        return escape(f"${' '.join(str(node.contents).split())}$", quote=False)
    if name == "nowiki":
        # Written as it stands, and not read as a list even at the beginning of a line.
        return escape(str(node.contents or ""), quote=False)
    if name in ("pre", "syntaxhighlight", "source"):
        return _put(f"<pre>{escape(str(node.contents or ''), quote=False)}</pre>", blocks)
    if name in _INLINE:
        return f"<{name}>{_inline(node.contents)}</{name}>" if node.contents is not None else ""
    if name in _BLOCKS:
        inner = _table(node.contents, name == "table") if name in ("table", "tr") else _layout(node.contents)
        if name in _CELLS and markup and str(node).startswith("|+"):
            # The parser takes a caption ("|+") for a cell.
            name, inner = "caption", inner.replace("+", "", 1)
        return _put(f"<{name}{_attributes(node)}>{inner}</{name}>", blocks)
    if any(HIDDEN.search(str(attribute)) for attribute in node.attributes):
        return ""
    return _flow(node.contents, blocks)


def _attributes(node: Tag) -> str:
    out = ""
    for attribute in node.attributes:
        name = str(attribute.name).strip().casefold()
        if name in _ATTRIBUTES:
            out += f' {name}="{escape(_TEMPLATE.sub("", str(attribute.value or "")))}"'
    return out


def _table(code: Wikicode | None, rows: bool) -> str:
    """Rows and cells; a first row needs no marker of its own in wikitext."""
    if code is None:
        return ""
    out: list[str] = []
    row: list[str] = []  # cells that stand in no row yet

    def end_row() -> None:
        if row:
            cells = "".join(row)
            out.append(f"<tr>{cells}</tr>" if rows else cells)
            row.clear()

    for node in code.nodes:
        blocks: list[str] = []
        flow = _node(node, blocks)
        html = _BLOCK.sub(lambda found, b=blocks: b[int(found.group(1))], flow).strip()
        if html.startswith(("<td", "<th")):
            row.append(html)
        elif blocks:
            end_row()
            out.append(html)
        elif html:
            row.append(f"<td>{html.translate(_PLAIN)}</td>")
    end_row()
    return "".join(out)
