"""HTML to readable text: paragraphs, lists, tables, quotes, code and formulas survive as Markdown.

Two parsers feed one renderer, so that they cannot disagree about layout. Markup as forum posts
really hold it (known tags, quoted attributes, well-nested) is cut by one regular expression;
everything else (comments, CDATA, stray ``<``, bogus entities, unbalanced tags) goes through
BeautifulSoup's ``html.parser``. On real posts about one body in a hundred takes the second way.
"""

from __future__ import annotations

import re
from contextlib import suppress
from html import unescape
from html.entities import name2codepoint
from typing import TYPE_CHECKING

from meadow.core.errors import Error
from meadow.parse.htmllayout import FORMULA, VOID, Attributes, Layout

if TYPE_CHECKING:
    from bs4 import Tag

__all__ = ["html_to_text", "node_to_text"]

# Cuts markup into text, then "/" or nothing, a name, attributes and text for each tag.
_TAG = re.compile(
    r"<(/?)([a-z][a-z0-9]*)((?:\s+[a-zA-Z_:][-\w:.]*=\"[^\"]*\")*)\s*/?>",
)
_ENTITY = re.compile(r"&(?:(#\d{2,6}|[A-Za-z]+\d*);|\s)?")
_SKIPPED = frozenset("script style template title head iframe object noscript".split())
# Tags that change no layout; the fast path takes them out before it looks at the rest.
_INLINE = re.compile(
    r"</?(?:a|abbr|b|big|cite|del|dfn|em|font|i|ins|kbd|s|samp|small|span|strike|strong|sub|tt|u|var)"
    r"(?:\s+[a-zA-Z_:][-\w:.]*=\"[^\"]*\")*\s*>"
)
# Comments without marks inside, such as the hints for highlighting that posts hold.
_COMMENT = re.compile(r"<!-- [^<>-]*(?:-[^<>-]+)* -->")
#: Characters of odd markup that the tolerant parser gets; a post has 30,000 at most.
_LONGEST = 100_000


# An end tag's "/" or nothing, the tag's name, its attributes, and the text that follows.
_Token = tuple[str, str, Attributes, str]


class _UnusualError(Error):
    """The markup is not of the kind that the fast tokenizer is right about."""


def html_to_text(html: str) -> str:
    """Renders an HTML fragment, its entities still encoded, as readable text.

    Layout is Markdown: ``- `` and ``1. `` lists, ``| a | b |`` tables, ``> `` quotes, fenced code, ``#``
    headings. Links keep their words, emphasis marks and images are dropped, exponents are written ``10^3``.
    There are no blank lines at either end.
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
        tokens = _TAG.split(fragment)
        # A `<` that is in no tag, or inside an attribute, leaves the counts unequal.
        if html.count("<") == removed + len(tokens) // 4:
            with suppress(_UnusualError):
                return _tokens_to_text(tokens)
    return node_to_text(_parse(html))


def _tokens_to_text(tokens: list[str]) -> str:
    """Renders what `_TAG` cuts: text, then (closing, name, attributes, text) repeated.

    Raises:
        _UnusualError: A tag has no layout or no counterpart, or an entity could be read in two ways.
    """
    layout = Layout()
    if text := tokens[0]:
        layout.pieces.append(_resolve(text) if "&" in text else text)
    open_tags: list[str] = []
    for at in range(1, len(tokens), 4):
        closing, name, attributes, text = tokens[at : at + 4]
        on = layout.on
        if name not in on:
            raise _UnusualError
        if closing:
            if not open_tags or open_tags.pop() != name:
                raise _UnusualError
        elif name not in VOID:
            open_tags.append(name)
        on[name](layout, closing, attributes)
        if text:
            layout.add(_resolve(text) if "&" in text else text)
    if open_tags:
        raise _UnusualError
    return layout.finish()


def node_to_text(node: Tag) -> str:
    """Renders a BeautifulSoup node, children included, by the rules of `html_to_text`."""
    layout = Layout()
    for closing, name, attributes, text in _soup_tokens(node):
        handler = layout.on.get(name)
        if handler:
            handler(layout, closing, attributes)
            layout.add(text)
        elif text:
            layout.pieces.append(text)
    return layout.finish()


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


def _soup_tokens(root: Tag) -> list[_Token]:
    from bs4.element import CData, NavigableString, Tag

    tokens: list[_Token] = []
    closing = name = text = ""
    attributes: Attributes = ""
    # Not by recursion: hostile markup nests without end.
    stack = [("", iter(root.children))]
    while stack:
        node = next(stack[-1][1], None)
        if isinstance(node, NavigableString):
            # Not its other kinds: comments, declarations, scripts.
            if (
                type(node) is NavigableString
                or isinstance(node, CData)
                or type(node).__name__ in ("RubyTextString", "RubyParenthesisString")
            ):
                text += node
            continue
        tokens.append((closing, name, attributes, text))
        text = ""
        if node is None:
            closing, name, attributes = "/", stack.pop()[0], ""
        elif isinstance(node, Tag):
            closing, name, attributes = "", node.name.lower(), node.attrs
            if name == "math":
                tokens.append(("", FORMULA, node.attrs, ""))
            elif name not in VOID and name not in _SKIPPED:
                stack.append((name, iter(node.children)))
            elif name in VOID and node.contents:
                # What html.parser nests into a tag that it was told is void is kept.
                stack.append(("", iter(node.children)))
    return tokens


def _resolve(text: str) -> str:
    """Resolves entities once; for any that the two parsers might read differently, the slow one decides."""
    for name in _ENTITY.findall(text):
        if name[:1] == "#":
            if not (160 <= int(name[1:]) < 0xD800 or 32 <= int(name[1:]) < 127):
                raise _UnusualError
        elif name not in name2codepoint:
            raise _UnusualError
    return unescape(text)
