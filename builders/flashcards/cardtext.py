"""From the HTML of a card's sides to text, and whether the text can stand without its pictures and sounds."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from meadow.parse.htmltext import html_to_text
from meadow.parse.wordlists import read_lists

from .templates import ANSWER_RULE, REPEATED_CLOZE, TAG

# Where something runs from an opening to a closing mark, the pattern stops at the next opening mark: a side full
# of openings that nothing closes is then read once, not once for each.
# [latex], [$] and [$$] are Anki's LaTeX; \( and \[ are MathJax, which the editor writes as <anki-mathjax>.
_MATH = re.compile(
    r"\[latex\](?P<latex>(?:(?!\[latex\]).)*?)\[/latex\]"
    r"|\[\$\$\](?P<display>(?:(?!\[\$\$\]).)*?)\[/\$\$\]"
    r"|\[\$\](?P<inline>(?:(?!\[\$\]).)*?)\[/\$\]"
    r"|\\\[(?P<jaxdisplay>(?:(?!\\\[).)*?)\\\]"
    r"|\\\((?P<jaxinline>(?:(?!\\\().)*?)\\\)"
    r"|<anki-mathjax(?P<block>\b[^<>]*)>(?P<tag>(?:(?!<anki-mathjax).)*?)</anki-mathjax>",
    re.DOTALL | re.IGNORECASE,
)
# Comments, and declarations such as Word leaves behind (<![endif]>).
_UNSEEN = re.compile(r"<!--(?:(?!<!--).)*?-->|<![^<>]*>", re.DOTALL)
# A `<` that begins no tag. Parsers take long over many of these, and refuse some; the bounds keep the search short.
_STRAY = re.compile(r"<(?!/?[a-zA-Z](?:[^<>\"']++|\"[^\"]{0,2000}+\"|'[^']{0,2000}+'){0,200}>)")
_SPEECH = re.compile(
    r"\[anki:tts\b[^\]\[]*\](?:(?!\[anki:tts).)*?\[/anki:tts\]|<tts\b[^<>]*>(?:(?!<tts\b).)*?</tts>",
    re.DOTALL | re.IGNORECASE,
)
_SOUND = re.compile(r"\[sound:([^\[\]]*)\]|\[anki:play:[^\[\]]*\]|<audio\b", re.IGNORECASE)
_SOUND_MARK = re.compile(r"\[(?:sound|anki:play):[^\[\]]*\]", re.IGNORECASE)
_VIDEO = re.compile(r"<(?:video|iframe)\b", re.IGNORECASE)
_VIDEO_FILE = re.compile(r"\.(?:mp4|m4v|mov|avi|mkv|mpe?g|ogv|webm|flv|swf)\s*$", re.IGNORECASE)
# A formula that was rendered to an image keeps its source in `alt`, which html_to_text writes out.
_IMAGE = re.compile(
    r"<img\b(?![^<>]{0,2000}?\bclass\s*=\s*[\"']?[^\"'<>]{0,200}?(?:math|latex|\btex\b))|<(?:svg|canvas|picture|object|embed)\b",
    re.IGNORECASE,
)
_MEDIA_BODY = re.compile(
    r"<(video|svg|canvas|audio|object)\b(?:(?!<\1\b).)*?</\1\s*>", re.DOTALL | re.IGNORECASE
)
# Controls are no text, nor are the words of a hint's link, which cards exported as text have spelt out. A
# footer holds authorship (what HTML has it for), as `meadow export anki` writes it.
_UNREAD = re.compile(
    r"<(button|footer|select|textarea)\b[^<>]*>(?:(?!<\1\b).)*?</\1\s*>|<input\b[^<>]*>"
    r"|<a\b[^<>]*\bclass\s*=\s*[\"']?hint\b[^<>]*>(?:(?!<a\b).)*?</a\s*>",
    re.DOTALL | re.IGNORECASE,
)
_CLOSED = re.compile(r"display\s*:\s*none", re.IGNORECASE)
# Cards use headings for size, not for structure.
_HEADING = re.compile(r"<(/?)h[1-6]\b[^<>]*>", re.IGNORECASE)
_BLANK = re.compile(r"\[\.\.\.\]")
# Symbols that html_to_text writes as layout and that say nothing by themselves.
_LAYOUT = frozenset("|`^<>~$")

_PHRASES = read_lists(Path(__file__).with_name("phrases.tsv"))


def _pattern(name: str) -> re.Pattern[str]:
    pattern = "|".join(_PHRASES[name])
    pattern = pattern.replace("PICTURE", f"(?:{'|'.join(_PHRASES['picture'])})")
    return re.compile(pattern.replace("STRUCTURE", f"(?:{'|'.join(_PHRASES['structure'])})s?"), re.IGNORECASE)


def _words(name: str) -> frozenset[str]:
    return frozenset(" ".join(_PHRASES[name]).split())


_NEEDS_PICTURE = _pattern("needs_picture")
_POINTS = {
    "an image": _pattern("points_at_picture"),
    "a video": _pattern("points_at_picture"),
    "a sound": _pattern("points_at_sound"),
}
_GENERIC, _POINTING, _ASKING = _words("generic"), _words("pointing"), _words("asking")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a card as text, formulas as ``$...$``.

    `media` is what had to be left behind: ``an image``, ``a video``, ``a sound``, which spoken text is, too.
    """

    text: str
    media: frozenset[str] = frozenset()

    @property
    def has_text(self) -> bool:
        """Whether anything is left to read: a letter, a digit or a symbol such as an arrow, blanks aside."""
        return has_text(self.text)


def has_text(text: str) -> bool:
    """Whether `text` holds a letter, a digit or a symbol outside ``[...]``."""
    return any(
        c.isalnum() or (unicodedata.category(c)[0] == "S" and c not in _LAYOUT) for c in _BLANK.sub("", text)
    )


def read_side(html: str, *, front: bool) -> Side:
    """Renders one side as text; closed parts (``display: none``) stay closed on the front."""
    media: set[str] = set()
    if "<" in html:
        html = _STRAY.sub("&lt;", _UNSEEN.sub("", html))
    if "[" in html or "<" in html:
        html, speeches = _SPEECH.subn(" ", html)
        if speeches:
            media.add("a sound")
        for match in _SOUND.finditer(html):
            media.add("a video" if _VIDEO_FILE.search(match[1] or "") else "a sound")
        if _VIDEO.search(html):
            media.add("a video")
        if _IMAGE.search(html):
            media.add("an image")
        html = _SOUND_MARK.sub(" ", _MEDIA_BODY.sub(" ", html))
    html = _HEADING.sub(r"<\1p>", _MATH.sub(_formula, html))
    html = _UNREAD.sub(" ", html)
    if front and _CLOSED.search(html):
        html = _without_closed(html)
    return Side(html_to_text(html), frozenset(media))


def dependence(front: Side, back: Side, asked: str | None = None, note: Sequence[Side] = ()) -> str | None:
    """Why a card cannot stand as text, as a reason for the funnel; None where it can.

    A side with nothing left to read depends on the medium that was on it. So does a card whose words point
    at the medium ("identify the structure shown", "listen to this murmur"), and one whose front has a
    medium and asks in words that name nothing themselves ("Diagnosis?"). Words that cannot be without a
    picture ("in this image") count even where the picture is already gone. Any other picture or sound
    decorates and is dropped.

    Args:
        front: The front.
        back: What the back adds.
        asked: The front's text without the words of its template; None for all of it.
        note: The note's fields that hold media, which words point at even if only their text is shown.
    """
    for side in (front, back):
        if not side.has_text and side.media:
            return _reason(side.media)
    texts = (front.text, back.text)
    if any(_NEEDS_PICTURE.search(text) for text in texts):
        return _reason({"an image"})
    media = frozenset().union(*(side.media for side in (front, back, *note)))
    if not front.has_text or not back.has_text:
        return None  # nothing was on the side: it is empty for another reason
    for medium, pattern in _POINTS.items():
        if medium in media and any(pattern.search(text) for text in texts):
            return _reason({medium})
    if back.media and _POINTING.issuperset(_WORD.findall(back.text.lower())):
        return _reason(back.media)
    beside = front.media or (frozenset() if back.media else media)
    if beside and _names_nothing(front.text if asked is None else asked):
        return _reason(beside)
    return None


def _reason(media: Set[str]) -> str:
    return f"depends on {next(medium for medium in _POINTS if medium in media)}"


def _names_nothing(text: str) -> bool:
    words = [word.lower() for word in _WORD.findall(_BLANK.sub("", text))]
    return ("?" in text or not _ASKING.isdisjoint(words)) and _GENERIC.issuperset(words)


def answer_text(back: str, front: str) -> str:
    """Takes out of a back what the front, with `REPEATED_CLOZE` for its clozes, has already said.

    Templates that do without ``{{FrontSide}}`` repeat the question in other ways. Before Anki's
    ``<hr id=answer>`` (`ANSWER_RULE`) only lines that the front does not hold are kept; without that rule,
    the back loses the front's lines where it begins with all of them. A line that holds a repeated cloze is
    kept for its other words only.
    """
    known = " ".join(front.split())
    before, rule, after = back.partition(ANSWER_RULE)
    after = after.replace(ANSWER_RULE, "")
    if rule and has_text(after.replace(REPEATED_CLOZE, "")):
        kept = [line for line in before.split("\n") if " ".join(line.split()) not in known]
        text = "\n".join([*kept, after])
    else:
        lines = f"{before}\n{after}".split("\n")
        asked = [line.strip() for line in front.split("\n") if line.strip()]
        at = 0
        for wanted in asked:
            while at < len(lines) and not lines[at].strip():
                at += 1
            if at == len(lines) or lines[at].strip() != wanted:
                at = 0
                break
            at += 1
        text = "\n".join(lines[at:])
    if REPEATED_CLOZE in text:
        text = "\n".join(
            line.replace(REPEATED_CLOZE, "").rstrip()
            for line in text.split("\n")
            if REPEATED_CLOZE not in line or (line.strip() != REPEATED_CLOZE and line.strip() not in front)
        )
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n").rstrip()


def _formula(match: re.Match[str]) -> str:
    display = match["display"] or match["jaxdisplay"]
    if match["tag"] is not None and "true" in match["block"]:
        display = match["tag"]
    inner = display or match["latex"] or match["inline"] or match["jaxinline"] or match["tag"] or ""
    inner = " ".join(TAG.sub(" ", inner).replace("&nbsp;", " ").split()).replace("<", "&lt;")
    if not inner:
        return ""
    if match["latex"] and "$" in inner:
        return inner  # text with formulas of its own
    return f"$${inner}$$" if display else f"${inner}$"


def _without_closed(html: str) -> str:
    import warnings

    from bs4 import BeautifulSoup, MarkupResemblesLocatorWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)
        soup = BeautifulSoup(html, "html.parser")
    for node in soup.find_all(style=_CLOSED):
        node.extract()
    return str(soup)
