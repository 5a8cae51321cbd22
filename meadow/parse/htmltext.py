"""HTML to readable text: paragraphs, lists, tables, quotes, code and formulas survive as Markdown.

Two parsers feed one renderer, so that they cannot disagree about layout. Markup as forum posts
really hold it (known tags, quoted attributes, well-nested) is cut by one regular expression;
everything else (comments, CDATA, stray ``<``, bogus entities, unbalanced tags) goes through
BeautifulSoup's ``html.parser``. On real posts about one body in a hundred takes the second way.
"""

from __future__ import annotations

import re
from html import unescape
from html.entities import name2codepoint
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bs4 import Tag

__all__ = ["html_to_text", "node_to_text"]

# A token list is flat: text, then (closing, name, attributes, text) repeated. `closing` is "/" for
# an end tag and "" for a start tag; `attributes` is the raw string or a mapping.
_TAG = re.compile(
    r"<(/?)([a-z][a-z0-9]*)((?:\s+[a-zA-Z_:][-\w:.]*=\"[^\"]*\")*)\s*/?>",
)
_ATTRIBUTE = re.compile(r"([-\w:.]+)=\"([^\"]*)\"")
# The entities that Markdown renderers write; others are looked at one by one.
_OTHER_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|nbsp);|#39;| )")
_ENTITY = re.compile(r"&(?:(#\d{2,6}|[A-Za-z]+\d*);|\s)?")
_NAMED = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&nbsp;", "\xa0"), ("&amp;", "&"))

_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())
_SKIPPED = frozenset("script style template title head iframe object noscript math".split())
# What a boundary of the tag puts between two blocks: 2 a blank line, 1 a new line.
_GAP = {
    **dict.fromkeys("p pre blockquote ul ol dl table h1 h2 h3 h4 h5 h6 hr section article figure".split(), 2),
    **dict.fromkeys(
        "div li dt dd tr td th caption tbody thead tfoot center address form fieldset header footer "
        "nav aside main details summary figcaption option legend body html".split(),
        1,
    ),
}
_SPECIAL = _SKIPPED | frozenset(_GAP) | {"br", "img", "code", "sup", "q"}
_FAST_TAGS = _SPECIAL - _SKIPPED
# Tags that change no layout; the fast path takes them out before it looks at the rest.
_INLINE = re.compile(
    r"</?(?:a|abbr|b|big|cite|del|dfn|em|font|i|ins|kbd|s|samp|small|span|strike|strong|sub|tt|u|var)"
    r"(?:\s+[a-zA-Z_:][-\w:.]*=\"[^\"]*\")*\s*>"
)
# Comments without marks inside, such as the hints for highlighting that posts hold.
_COMMENT = re.compile(r"<!-- [^<>-]*(?:-[^<>-]+)* -->")
_OTHER_BLANK = re.compile("[\t\x0b\x0c\x1c-\x1f]")
_PARAGRAPHS = re.compile(r"(?:<p>[^<]*</p> ?)*")
#: Characters of odd markup that the tolerant parser gets; a post has 30,000 at most.
_LONGEST = 100_000
# Superscripts that are part of a word, not an exponent.
_PLAIN_SUPERSCRIPT = frozenset(("st", "nd", "rd", "th", "®", "™", "TM", "©"))
_BREAK = "\x00"


class _UnusualError(Exception):
    """The markup is not of the kind that the fast tokenizer is right about."""


def html_to_text(html: str) -> str:
    """Renders an HTML fragment as readable text.

    Args:
        html: Markup, with its own entities still encoded (they are resolved once, here).

    Returns:
        Text with Markdown layout: ``- `` and ``1. `` lists, ``| a | b |`` tables, ``> `` quotes,
        fenced code, ``#`` headings. Links keep their words, emphasis marks and images are dropped,
        exponents are written ``10^3``. No leading or trailing blank lines.
    """
    if "\x00" in html or "\r" in html:
        html = html.replace("\x00", "").replace("\r\n", "\n").replace("\r", "\n")
    if "<" not in html and "&" not in html:
        return " ".join(html.split())
    if "<!--" in html:
        html = _COMMENT.sub("", html)
    # A `<` right before a tag could make another tag once that one is taken out.
    if "<<" not in html:
        fragment, removed = _INLINE.subn("", html)
        collapsed = "<pre" not in fragment and "&#" not in fragment
        if collapsed:
            if "&nbsp;" in fragment:
                fragment = fragment.replace("&nbsp;", " ")
            fragment = _single_spaced(fragment)
            if removed + fragment.count("<") == html.count("<") and _PARAGRAPHS.fullmatch(fragment):
                paragraphs = _paragraphs(fragment)
                if paragraphs is not None:
                    return paragraphs
        tokens = _TAG.split(fragment)
        # A `<` that is in no tag, or inside an attribute, leaves the counts unequal.
        if html.count("<") == removed + len(tokens) // 4:
            try:
                return _render(tokens, fast=True, collapsed=collapsed)
            except _UnusualError:
                pass
    return _render(_soup_tokens(_parse(html)), fast=False)


def _single_spaced(text: str) -> str:
    """``" ".join(text.split())``, for text whose only blanks are spaces and line feeds in less time."""
    if text.isascii() and not _OTHER_BLANK.search(text):
        text = text.replace("\n\n", " ").replace("\n", " ")
        if "  " not in text:
            return text.strip()
    return " ".join(text.split())


def _paragraphs(fragment: str) -> str | None:
    """What `_render` makes of paragraphs and nothing else, which is what most posts are."""
    texts = (text.replace("<p>", "").strip() for text in fragment.split("</p>"))
    try:
        return "\n\n".join(_resolve(text) if "&" in text else text for text in texts if text)
    except _UnusualError:
        return None


def node_to_text(node: Tag) -> str:
    """Renders a BeautifulSoup node, children included, by the rules of `html_to_text`."""
    return _render(_soup_tokens(node), fast=False)


def _parse(html: str) -> Tag:
    import warnings

    from bs4 import BeautifulSoup, MarkupResemblesLocatorWarning
    from bs4.exceptions import ParserRejectedMarkup

    # The tolerant parser takes time in the square of what hostile markup is long.
    parser = "html.parser" if len(html) <= _LONGEST else "lxml"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)
        try:
            return BeautifulSoup(html, parser)
        except (ParserRejectedMarkup, AssertionError):
            # Half a declaration (``<![if``) is all that it refuses; as text it does no harm.
            return BeautifulSoup(html.replace("<!", "&lt;!"), parser)


def _soup_tokens(root: Tag) -> list:
    from bs4 import CData, NavigableString, Tag

    tokens: list = [""]
    stack: list = [iter(root.children)]
    names: list[str] = []
    while stack:
        node = next(stack[-1], None)
        if node is None:
            stack.pop()
            if names:
                tokens += ("/", names.pop(), "", "")
        elif isinstance(node, Tag):
            name = node.name.lower()
            tokens += ("", name, node.attrs, "")
            if name not in _VOID:
                stack.append(iter(node.children))
                names.append(name)
            elif node.contents:
                # html.parser nests what follows `<br>`-like tags it was told are void; keep it.
                stack.append(iter(node.children))
                names.append("span")
        elif (
            type(node) is NavigableString
            or isinstance(node, CData)
            or type(node).__name__ in ("RubyTextString", "RubyParenthesisString")
        ):
            tokens[-1] += str(node)
    return tokens


def _attribute(attributes: str | Mapping[str, object], name: str) -> str:
    if isinstance(attributes, str):
        for key, value in _ATTRIBUTE.findall(attributes):
            if key.lower() == name:
                return unescape(value)
        return ""
    value = attributes.get(name, "")
    return " ".join(value) if isinstance(value, list) else str(value or "")


class _Frame:
    """An open list item or block quote: what its lines begin with."""

    __slots__ = ("first", "rest", "used", "counter", "in_list")

    def __init__(self, first: str, rest: str, *, in_list: bool) -> None:
        self.first, self.rest, self.in_list = first, rest, in_list
        self.used = False


class _Page:
    """Blocks laid out so far, with the frames that are open."""

    __slots__ = ("parts", "frames", "gap", "last_list", "last_quotes")

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.frames: list[_Frame] = []
        self.gap = 0
        self.last_list: _Frame | None = None
        self.last_quotes: list[_Frame] = []

    def emit(self, block: str) -> None:
        frames = self.frames
        if not frames:
            if self.parts:
                self.parts.append("\n\n" if self.gap > 1 else "\n")
            self.parts.append(block)
            self.gap, self.last_list = 0, None
            self.last_quotes = []
            return
        first = rest = ""
        outer_list = None
        quotes = []
        for frame in frames:
            if frame.in_list:
                outer_list = outer_list or frame
                first += frame.rest if frame.used else frame.first
                frame.used = True
            else:
                quotes.append(frame)
                first += frame.first
            rest += frame.rest
        if self.parts:
            # Items of one list follow each other without blank lines.
            tight = self.gap < 2 or (outer_list is not None and self.last_list is not None)
            shared = "".join("> " for a, b in zip(quotes, self.last_quotes, strict=False) if a is b).rstrip()
            self.parts.append("\n" if tight else f"\n{shared}\n")
        lines = block.split("\n")
        self.parts.append(first + ("\n" + rest).join(lines) if len(lines) > 1 else first + block)
        self.gap, self.last_list, self.last_quotes = 0, outer_list, quotes


class _Table:
    """Cells of the table being read; nested tables fold into the cell that holds them."""

    __slots__ = ("caption", "rows", "header", "row", "row_is_header")

    def __init__(self) -> None:
        self.caption: list[str] = []
        self.rows: list[list[str]] = []
        self.header: set[int] = set()
        self.row: list[str] | None = None
        self.row_is_header = True

    def end_row(self) -> None:
        if self.row and any(self.row):
            if self.row_is_header:
                self.header.add(len(self.rows))
            self.rows.append(self.row)
        self.row, self.row_is_header = None, True

    def text(self) -> str:
        width = max((len(row) for row in self.rows), default=0)
        lines = list(self.caption)
        for index, row in enumerate(self.rows):
            if width == 1:
                lines.append(row[0])
                continue
            lines.append("| " + " | ".join(row + [""] * (width - len(row))) + " |")
            if index == 0 and index in self.header and len(self.rows) > 1:
                lines.append("|" + " --- |" * width)
        return "\n".join(lines)


def _collapse(pieces: list[str], collapsed: bool = False) -> str:
    if collapsed and len(pieces) == 1 and pieces[0] != _BREAK:
        return pieces.pop().strip()
    text = "".join(pieces)
    pieces.clear()
    if _BREAK not in text:
        return " ".join(text.split())
    lines = "\n".join(" ".join(part.split()) for part in text.split(_BREAK)).strip("\n")
    return re.sub(r"\n{3,}", "\n\n", lines) if "\n\n\n" in lines else lines


def _resolve(text: str) -> str:
    """Resolves entities once; for any that the two parsers might read differently, the slow one decides."""
    if _OTHER_ENTITY.search(text):
        for name in _ENTITY.findall(text):
            if name[:1] == "#":
                if not (160 <= int(name[1:]) < 0xD800 or 32 <= int(name[1:]) < 127):
                    raise _UnusualError
            elif name not in name2codepoint:
                raise _UnusualError
        return unescape(text)
    if "&#" in text:
        text = text.replace("&#39;", "'")
    for entity, character in _NAMED:
        text = text.replace(entity, character)
    return text


def _render(tokens: list, *, fast: bool, collapsed: bool = False) -> str:  # noqa: C901 - one loop, one branch per kind of tag
    page = _Page()
    buffer: list[str] = []
    open_tags: list[str] = []
    lists: list[list] = []  # [ordered, next number]
    superscripts: list[int] = []
    code: list[str] | None = None
    skipped = 0
    table: _Table | None = None
    table_depth = 0

    heading = ""  # the marks of the heading being read; alone they are no block

    def flush() -> None:
        if buffer:
            block = _collapse(buffer, collapsed)
            if block and block != heading:
                page.emit(block)

    def end_cell(force: bool = False) -> None:
        text = _collapse(buffer).replace("\n", " ")
        if text or force:
            if table.row is None:
                table.row = []
            table.row.append(text)

    text = tokens[0]
    if text:
        if "&" in text and fast:
            text = _resolve(text)
        buffer.append(text)
    for at in range(1, len(tokens), 4):
        closing, name, attributes, text = tokens[at : at + 4]
        if name == "p" and fast and table is None and code is None:
            # The commonest tag by far; what follows does the same for it in more steps.
            if not closing:
                open_tags.append(name)
            elif not open_tags or open_tags.pop() != name:
                raise _UnusualError
            if buffer:
                flush()
                superscripts.clear()
            page.gap = 2
            if text and text != " ":
                buffer.append(_resolve(text) if "&" in text else text)
            continue
        if fast:
            if name not in _FAST_TAGS or (closing and name in _VOID):
                raise _UnusualError
            if name not in _VOID:
                if not closing:
                    open_tags.append(name)
                elif not open_tags or open_tags.pop() != name:
                    raise _UnusualError
            if "&" in text:
                text = _resolve(text)
        if name not in _SPECIAL:
            if text and not skipped:
                (buffer if code is None else code).append(text)
            continue
        if skipped or name in _SKIPPED:
            if name in _SKIPPED:
                if not closing and name == "math" and not skipped:
                    formula = _attribute(attributes, "alttext")
                    if formula:
                        buffer.append(f"${formula}$")
                skipped = max(0, skipped + (-1 if closing else 1))
            if text and not skipped:
                (buffer if code is None else code).append(text)
            continue

        if code is not None:
            if name == "pre" and closing:
                block = "".join(code).strip("\n")
                code = None
                if table is not None:
                    buffer.append(f" {block} ")
                elif block.strip():
                    page.gap = 2
                    page.emit(f"```\n{block}\n```")
                    page.gap = 2
            elif name == "br" or (name in _GAP and closing):
                code.append("\n")
        elif name == "br":
            buffer.append(_BREAK)
        elif name == "code":
            # Marks are put only around something, so that empty elements leave no debris.
            if not closing:
                superscripts.append(-len(buffer) - 1)
            elif superscripts:
                start = -superscripts.pop() - 1
                inner = "".join(buffer[start:]) if 0 <= start <= len(buffer) else ""
                if inner.strip():
                    buffer[start:] = [f"`{inner}`"]
        elif name == "sup":
            if not closing:
                superscripts.append(len(buffer))
            elif superscripts:
                start = superscripts.pop()
                inner = "".join(buffer[start:]).strip() if 0 <= start < len(buffer) else ""
                before = "".join(buffer[max(0, start - 1) : start]) if start > 0 else ""
                if inner and inner not in _PLAIN_SUPERSCRIPT and before[-1:].strip():
                    buffer[start:] = ["^" + inner]
        elif name == "q":
            buffer.append('"')
        elif name == "img":
            kind = _attribute(attributes, "class")
            if "math" in kind or "latex" in kind or kind == "tex":
                formula = _attribute(attributes, "alt")
                if formula:
                    buffer.append(f"${formula}$")
        elif table is not None:
            if name == "table":
                table_depth += -1 if closing else 1
                if table_depth:
                    buffer.append(" ")
                else:
                    end_cell()
                    table.end_row()
                    block, table = table.text(), None
                    superscripts.clear()
                    if block:
                        page.gap = 2
                        page.emit(block)
                        page.gap = 2
            elif table_depth > 1:
                buffer.append(" ")
            elif name in ("td", "th"):
                if closing:
                    end_cell(force=True)
                else:
                    end_cell()
                    if name == "td":
                        table.row_is_header = False
                superscripts.clear()
            elif name == "tr":
                end_cell()
                table.end_row()
            elif name == "caption":
                caption = _collapse(buffer)
                if caption:
                    table.caption.append(caption)
            elif name == "li" and not closing:
                buffer.append(" - ")
            else:
                buffer.append(" ")
        else:
            flush()
            superscripts.clear()
            page.gap = max(page.gap, _GAP[name])
            if name == "table":
                if not closing:
                    table, table_depth = _Table(), 1
            elif name == "pre":
                if not closing:
                    code = []
            elif name in ("ul", "ol"):
                if not closing:
                    start = _attribute(attributes, "start") if name == "ol" else ""
                    number = int(start) if re.fullmatch(r"-?\d{1,9}", start) else 1
                    lists.append([name == "ol", number])
                elif lists:
                    lists.pop()
            elif name == "li":
                # An item ends where the next begins, closed or not; deeper ones stay open.
                depth = len(lists)
                while page.frames and page.frames[-1].in_list and page.frames[-1].counter >= depth:
                    page.frames.pop()
                if not closing:
                    marker = "- "
                    if lists and lists[-1][0]:
                        marker = f"{lists[-1][1]}. "
                        lists[-1][1] += 1
                    frame = _Frame(marker, " " * len(marker), in_list=True)
                    frame.counter = depth
                    page.frames.append(frame)
            elif name == "blockquote":
                if not closing:
                    page.frames.append(_Frame("> ", "> ", in_list=False))
                else:
                    for index in range(len(page.frames) - 1, -1, -1):
                        if not page.frames[index].in_list:
                            del page.frames[index:]
                            break
            elif name[0] == "h" and name[1:].isdigit() and not closing:
                heading = "#" * int(name[1])
                buffer.append(heading + " ")
            else:
                heading = ""
        if text and (buffer or code is not None or not text.isspace()):
            (buffer if code is None else code).append(text)
    if fast and open_tags:
        raise _UnusualError
    if code is not None:
        block = "".join(code).strip("\n")
        if block.strip():
            page.gap = 2
            page.emit(f"```\n{block}\n```")
    if table is not None:
        end_cell()
        table.end_row()
        page.gap = 2
        page.emit(table.text())
    flush()
    return "".join(page.parts).strip("\n")
