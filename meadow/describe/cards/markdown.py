"""Data as Markdown that shows it and does nothing else: inert text, links, fences, tables, figures."""

from __future__ import annotations

import html
import json
import re

_URL = re.compile(r"https?://[A-Za-z0-9._~:/?#@!&'()+,;=%-]*[A-Za-z0-9_~/#=%-]")
_MARKUP = re.compile(r"[\\`*\[\]~$|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
#: Where a line would begin a heading, a list or a rule: before a sign, or behind a number.
_LINE_START = re.compile(r"^(\d+(?=[.)])|(?=[#+=-]))")
#: A line that a card is cut at; see `meadow.describe.cards`.
MARKER = re.compile(r"<!-- meadow:(begin|end|words|end-words) ([a-z0-9][a-z0-9-]*)(?: ([0-9a-f]{16}))? -->")


def slug(words: str, keep: str = "") -> str:
    """Lower-case letters, digits and the characters of `keep`; a dash for every run of others."""
    return re.sub(rf"[^a-z0-9{re.escape(keep)}]+", "-", words).strip("-")


def hexadecimal(value: object) -> str:
    """The hex digits of a checksum, a dash where it has none."""
    return re.sub(r"[^0-9a-f]", "", str(value).lower()) or "-"


def title(markdown: str) -> str:
    """The text of the first level-1 heading, empty where there is none."""
    heading = re.search(r"^# +(.+?)[ #]*$", markdown, re.MULTILINE)
    return heading[1] if heading else ""


def is_url(value: str) -> bool:
    """Whether all of it is an http address of harmless characters."""
    return _URL.fullmatch(value) is not None


def printable(value: str, also: str = "") -> str:
    """Text with escapes for characters that hide, turn or break what is shown (controls, bidi)."""
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() or c in also else json.dumps(c)[1:-1] for c in value)


def text(value: object) -> str:
    """Data as one line of inert Markdown, for table cells and sentences; addresses become links."""
    line = printable(" ".join(str(value).split()))
    out, end = [], 0
    for url in _URL.finditer(line):
        out += [_inert(line[end : url.start()]), f"<{url[0]}>"]
        end = url.end()
    return "".join([*out, _inert(line[end:])])


def _inert(value: str) -> str:
    return _MARKUP.sub(lambda match: "\\" + match[0], html.escape(value, quote=False))


def quote(value: str) -> str:
    """Data of several lines as a block quote of inert Markdown."""
    lines = [_LINE_START.sub(r"\1\\", text(line)) for line in value.strip().split("\n")]
    # A backslash at a line's end keeps its break.
    breaks = ["\\" if line and after else "" for line, after in zip(lines, [*lines[1:], ""], strict=True)]
    return "\n".join(f"> {line}{end}".rstrip() for line, end in zip(lines, breaks, strict=True))


def link(words: str, url: str) -> str:
    """A link, or the words alone where the address is none."""
    return f"[{_inert(printable(words))}](<{url}>)" if is_url(url) else text(words)


def fence(content: str, language: str) -> str:
    """A fenced block whose fence is longer than any in the text, and which holds no `MARKER`."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", content)), default=0))
    return f"{ticks}{language}\n{tame(printable(content, also=chr(10) + chr(9)))}\n{ticks}"


def tame(content: str) -> str:
    """Takes the meaning from lines that read as markers, so that they cannot end a part of a card early."""
    return "\n".join(
        line.replace("<!--", "&lt;!--") if MARKER.fullmatch(line.strip()) else line
        for line in content.split("\n")
    )


def share(part: int, whole: int) -> str:
    """A share in percent; what is there but rounds to nothing is said to be there."""
    if not whole:
        return "-"
    return "< 0.1 %" if 0 < part / whole < 0.0005 else f"{100 * part / whole:.1f} %"
