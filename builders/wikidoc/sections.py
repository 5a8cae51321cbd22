"""A page's HTML to sections of readable text.

The whole page is rendered once. Before that, headings and links get marks (control characters,
which are taken out of the page first), so that the text can be cut at headings wherever they are
nested, and lines that are nothing but navigation can be told from lines that say something.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from meadow.parse.htmltext import node_to_text

from .pages import is_board_review, pattern, words
from .questions import is_references, split_title

if TYPE_CHECKING:
    from bs4 import Tag

#: What XML forbids, plus the marks below; no page needs them.
CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|&#(?:0*(?:[0-8]|1[124-9]|2\d|3[01])|x0*(?:[0-8bcef]|1[0-9a-f]));?(?![0-9a-f])",
    re.IGNORECASE,
)
_SECTION, _LINK, _OWN_LINK, _END, _HEADING = "\x01", "\x02", "\x03", "\x04", "\x05"

_DROPPED_CLASSES, _DROPPED_TAGS, _FILLER = (
    words(name) for name in ("dropped_classes", "dropped_tags", "filler")
)
#: Styles that keep words off the screen.
HIDDEN = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
#: A cell spans no column beyond this one; a table that is wider by its spans is a mistake or a bomb.
_MAX_COLUMNS = 64
# A mark in these would show: rendering looks at what stands next to them.
_NO_MARKS = frozenset(("sup", "sub", "code", "pre"))
_FRAMES = frozenset(("table", "li", "blockquote", "pre", "dd"))

_USER_LINK = re.compile(r"(?:^|[/=])User(?:[_ ]talk)?(?::|%3A)", re.IGNORECASE)
_MARKED_SECTION = re.compile(rf"^{_SECTION}(\d+){_SECTION}$", re.MULTILINE)
_MARKED_HEADING = re.compile(rf"(#+) {_HEADING}(.*)", re.DOTALL)
_ANY_LINK = re.compile(rf"[{_LINK}{_OWN_LINK}][^{_END}]*{_END}?")
_MARKS = re.compile(rf"[{_SECTION}-{_HEADING}]")

_BYLINE, _CLICK_HERE = pattern("byline"), pattern("click_here")
# What is left of a line of editors' links once the links are gone.
_DEBRIS = re.compile(r"[\s;,.:*-]+")


@dataclass(frozen=True, slots=True)
class Section:
    """A heading (empty before the first one) with the readable text under it, and ``### Sub-heading``s.

    `only_links` says that the section only leads elsewhere.
    """

    heading: str
    text: str
    only_links: bool


def sections(html: str, title: str, topic: str) -> list[Section]:
    """Cuts a rendered page, or a whole saved document, into its sections, in order.

    A section begins at each `h2`; where a page has none, or only one for its references, at the highest level
    that it has. What is deeper stays inside, except for nested lists of references and Board Review content,
    which are sections of their own so that they can be left out by name. Text before the first heading comes
    first, if it is more than editors' names and navigation. Links to other microchapters of `topic` count as
    navigation.
    """
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(CONTROL.sub("", html), "lxml")
    root = _content(soup)
    _trim(root)
    _formulas(soup, root)
    _expand_spans(soup, root.find_all("table"))
    _mark_links(root.find_all("a"), title, topic)
    headings = _mark_headings(root.find_all(_HEADINGS))
    parts = _MARKED_SECTION.split(node_to_text(root))
    found = list(_section("", parts[0]))
    if found and not found[0].text and not found[0].only_links:
        del found[0]
    for number, text in zip(parts[1::2], parts[2::2], strict=True):
        found += _section(headings[int(number)], text)
    return found


def _content(soup: Tag) -> Tag:
    scope = soup.find(id="mw-content-text") or soup.find(id="bodyContent") or soup
    return scope.find(class_="mw-parser-output") or scope


def _trim(root: Tag) -> None:
    from bs4 import Tag

    for node in list(root.descendants):
        if not isinstance(node, Tag) or node.decomposed:
            continue
        classes = node.get("class") or ()
        if (
            node.name in _DROPPED_TAGS
            or not _DROPPED_CLASSES.isdisjoint(classes)
            or node.get("id") in ("toc", "catlinks")
            or (node.name == "table" and _is_navigation(node))
            or (node.name == "a" and ("autonumber" in classes or _USER_LINK.search(_href(node))))
            # A formula's hidden half is dealt with together with its visible one.
            or (_is_hidden(node) and not node.find_parent(class_="mwe-math-element"))
        ):
            node.decompose()


def _inside(node: Tag, names: frozenset[str]) -> bool:
    return any(parent.name in names for parent in node.parents)


def _expand_spans(soup: Tag, tables: list[Tag]) -> None:
    """Fills up cells that span columns or rows by empty ones, so that columns stay aligned."""
    for table in tables:
        if _inside(table, frozenset(("table",))):
            continue  # it folds into the cell that holds it
        pending: dict[int, int] = {}  # column: rows below that a cell above reaches into
        for row in table.find_all("tr"):
            if row.find_parent("table") is not table:
                continue
            column = 0
            cell = None
            for cell in row.find_all(("td", "th"), recursive=False):
                while pending.get(column):
                    pending[column] -= 1
                    column += 1
                    cell.insert_before(soup.new_tag(cell.name))
                width, height = _span(cell, "colspan"), _span(cell, "rowspan")
                width = max(1, min(width, _MAX_COLUMNS - column))
                for offset in range(width):
                    if column < _MAX_COLUMNS:
                        pending[column + offset] = height - 1
                    if offset:
                        cell.insert_after(soup.new_tag(cell.name))
                column += width
            while cell is not None and pending.get(column):
                pending[column] -= 1
                column += 1
                row.append(soup.new_tag(cell.name))


def _span(cell: Tag, name: str) -> int:
    found = re.match(r"\s*(\d{1,4})", str(cell.get(name) or ""))
    return max(1, int(found.group(1))) if found else 1


def _is_hidden(node: Tag) -> bool:
    return node.has_attr("hidden") or bool(HIDDEN.search(str(node.get("style") or "")))


def _is_navigation(table: Tag) -> bool:
    text = ""
    for string in table.stripped_strings:
        text += f" {string}"
        if len(text) > 120:
            break
    return "Microchapters" in text[:120] or text.startswith(" WikiDoc Resources for")


def _formulas(soup: Tag, root: Tag) -> None:
    """Replaces MediaWiki's rendering of a formula, which holds it twice, by its TeX."""
    for node in root.find_all(class_="mwe-math-element"):
        image, math = node.find("img"), node.find("math")
        tex = str((image and image.get("alt")) or (math and math.get("alttext")) or "").strip()
        tex = re.sub(r"^\{\\(?:displaystyle|textstyle)\s*(.*)\}$", r"\1", tex, flags=re.DOTALL).strip()
        node.replace_with(soup.new_string(f"${tex}$" if tex else ""))


def _href(link: Tag) -> str:
    return str(link.get("href") or "")


def _mark_links(links: list[Tag], title: str, topic: str) -> None:
    own = topic.casefold()
    for link in links:
        if _inside(link, _NO_MARKS) or not link.get_text(strip=True):
            continue
        target = str(link.get("title") or "").replace(" (page does not exist)", "")
        href = _href(link)
        if not target and href:
            target = unquote(re.sub(r"^.*(?:/|[?&]title=)|[#&?].*$", "", href)).replace("_", " ")
        about, chapter = split_title(target, weak=True)
        navigates = (
            href.startswith("#")
            or "mw-selflink" in (link.get("class") or ())
            or target.casefold() in (own, title.casefold())
            or (chapter and about.casefold() == own)
        )
        link.insert(0, _OWN_LINK if navigates else _LINK)
        link.append(_END)


def _mark_headings(headings: list[Tag]) -> list[str]:
    """Replaces the headings that begin sections by numbered marks; returns their texts."""
    nodes = []
    for node in headings:
        text = " ".join(node_to_text(node).split())
        if not _MARKS.sub("", text).strip():
            node.decompose()
        elif not _inside(node, _FRAMES):
            nodes.append((node, int(node.name[1]), text))
    levels = {level for _, level, text in nodes if not is_references(_plain(text))}
    top = 2 if 2 in levels else min(levels, default=2)
    texts = []
    for node, level, text in nodes:
        node.clear()
        if level <= top:
            node.name = "p"
            node.string = f"{_SECTION}{len(texts)}{_SECTION}"
            texts.append(text)
        else:
            node.string = f"{_HEADING}{text}"
    return texts


def _section(heading: str, text: str) -> Iterator[Section]:
    """Yields the section of `text`, then the parts of it that must be told apart by their headings."""
    name = _plain(heading)
    apart = []
    # (level, heading, lines): what stands under each sub-heading; the first entry has none.
    blocks: list[tuple[int, str, list[str]]] = [(0, "", [])]
    for line in text.split("\n"):
        found = _MARKED_HEADING.fullmatch(line)
        if found:
            blocks.append((len(found.group(1)), found.group(2), []))
        elif line.startswith("|") or not (_BYLINE.match(_plain(line)) or _DEBRIS.fullmatch(line)):
            blocks[-1][2].append(line)
    if not (is_references(name) or is_board_review(name)):
        kept = []
        level = 99
        for block in blocks:
            if level < block[0]:
                apart[-1].append(block)
                continue
            level = 99
            sub = _plain(block[1])
            if block[0] and (is_references(sub) or is_board_review(sub)):
                level = block[0]
                apart.append([block])
            else:
                kept.append(block)
        blocks = kept
    yield _finish(heading, blocks)
    for group in apart:
        yield _finish(group[0][1], [(0, "", group[0][2]), *group[1:]])


def _finish(heading: str, blocks: list[tuple[int, str, list[str]]]) -> Section:
    links = told = 0
    leads_away = True
    out: list[str] = []
    depth = 0  # the level of the kept sub-heading that follows, 0 for none
    for level, title, lines in reversed(blocks):
        kept = []
        for line in lines:
            plain = _plain(line)
            has_link = _ANY_LINK.search(line) is not None
            if has_link and not line.startswith("|") and _CLICK_HERE.fullmatch(plain):
                links += 1
                continue
            kept.append(line)
            links += has_link and len(_ANY_LINK.findall(line))
            outside = re.findall(r"[^\W_]+", _ANY_LINK.sub(" ", line).casefold())
            said = sum(1 for word in outside if word not in _FILLER and not word.isdigit())
            told += said
            leads_away = leads_away and not said and _LINK not in line
        if any(line.strip() for line in kept):
            out[:0] = kept
        elif level and depth <= level:
            # Nothing stands under this sub-heading.
            links += _ANY_LINK.search(title) is not None
            continue
        if level:
            out[:0] = ["", f"{'#' * level} {title}", ""]
            depth = level
    links += _ANY_LINK.search(heading) is not None
    text = "\n".join(line.rstrip() for line in _plain("\n".join(out)).split("\n"))
    text = re.sub(r"\n{3,}", "\n\n", text).strip("\n")
    empty = not re.search(r"\w", text)
    only_links = bool(links) and (empty or leads_away or (not told and links == 1))
    return Section(_plain(heading), "" if empty else text, only_links)


def _plain(text: str) -> str:
    return _MARKS.sub("", text)
