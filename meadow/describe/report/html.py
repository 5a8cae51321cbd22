"""Pieces of HTML out of data: everything is escaped, and only http addresses become links."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from meadow.describe.cards.markdown import is_url

#: What hides, turns or breaks text: controls but tab and newline, direction marks, noncharacters.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")
#: Characters of a text that are shown at once, and at all.
FOLD, MOST = 500, 5_000


class Html(str):
    """Markup that is ready; any other text is escaped where it is put in."""

    __slots__ = ()


def text(value: object) -> Html:
    """Data as inert text; characters that hide or turn it are written as escapes."""
    shown = str(value).replace("\r\n", "\n")
    return Html(escape(_HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", shown)))


def raw(value: object) -> str:
    """Markup as it is, anything else as inert text."""
    return value if isinstance(value, Html) else text(value)


def join(parts: Iterable[object], between: str = "") -> Html:
    """Pieces one after the other; `between` is markup."""
    return Html(between.join(raw(part) for part in parts))


def tag(name: str, *inner: object, **attributes: object) -> Html:
    """An element. ``cls`` is class, other underscores are dashes; None leaves an attribute out."""
    written = "".join(
        f' {("class" if key == "cls" else key.replace("_", "-"))}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>{join(inner)}</{name}>")


def link(words: object, url: object) -> Html:
    """A link to another site, which is told nothing of this page; the words alone where it is no address."""
    if isinstance(url, str) and is_url(url):
        return tag("a", words, href=url, rel="noreferrer noopener")
    return Html(raw(words))


def here(words: object, identity: str) -> Html:
    """A link within the page."""
    return tag("a", words, href=f"#{identity}")


def count(value: object) -> Html:
    """A number with thousands separated."""
    return Html(f"{value:,}") if isinstance(value, int) else text("-" if value is None else value)


def table(
    caption: str,
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Sequence[int] = (),
    wide: Sequence[int] = (),
    shares: Sequence[int] = (),
) -> Html:
    """A table that scrolls within its own place; the first column names the row.

    Args:
        caption: What it shows.
        header: Names of columns.
        rows: Their cells.
        numbers: Columns of numbers.
        wide: Columns of longer texts.
        shares: Columns with a bar, which a small screen leaves out.
    """
    kinds = {**dict.fromkeys(numbers, "n"), **dict.fromkeys(wide, "wide"), **dict.fromkeys(shares, "share")}
    head = join(tag("th", name, scope="col", cls=kinds.get(at)) for at, name in enumerate(header))
    body = join(
        tag("tr", *(
            tag("td" if at else "th", cell, scope=None if at else "row", cls=kinds.get(at))
            for at, cell in enumerate(cells)
        ))
        for cells in rows
    )  # fmt: skip
    inner = tag("table", tag("caption", caption), tag("thead", tag("tr", head)), tag("tbody", body))
    # Focusable, so that it can be scrolled by keys.
    return tag("div", inner, cls="scroll", tabindex="0", role="region", aria_label=caption)


def cut(value: object, most: int = 300) -> str:
    """The beginning of a text that is to stay short."""
    words = str(value)
    return words if len(words) <= most else words[:most].rstrip() + " ..."


def long_text(value: str) -> Html:
    """A text as it stands, folded where it is long and cut where it is very long."""
    if len(value) <= FOLD:
        return tag("p", value, cls="text", dir="auto")
    rest = len(value) - MOST
    whole = value if rest <= 0 else value[:MOST]
    more = Html("") if rest <= 0 else tag("p", f"{rest:,} more characters are in the file.", cls="muted")
    preview = tag("span", value[: FOLD // 2].rstrip() + " ...", cls="preview", dir="auto")
    summary = tag("summary", preview, " ", tag("small", f"{len(value):,} characters"))
    return tag("details", summary, tag("p", whole, cls="text", dir="auto"), more)


def terms(pairs: Iterable[tuple[object, object]], cls: str) -> Html:
    """A list of names and values."""
    return tag("dl", *(tag("div", tag("dt", k), tag("dd", v)) if cls == "tiles" else join((tag("dt", k), tag("dd", v))) for k, v in pairs), cls=cls)  # fmt: skip


def items(lines: Iterable[object], cls: str = "plain") -> Html:
    """A list; nothing where it is empty."""
    found = [tag("li", line) for line in lines]
    return tag("ul", *found, cls=cls) if found else Html("")
