"""Names in forms and letters: after a label, a greeting or a closing, and before a degree."""

from __future__ import annotations

import re
from collections.abc import Iterator

from meadow.filters.privacy.naming import (
    EPONYMS,
    GIVEN,
    SURE,
    TITLED,
    TOKEN,
    TRADE,
    plain,
    take,
    used_as_word,
)
from meadow.filters.privacy.text import Span, Text, cues

FORM = cues(
    "name surname kin contact guardian spouse subscriber insured attending physician surgeon assistant anesthesiologist anaesthetist "
    "consultant provider pcp doctor by author attn patient pt re caregiver client nombre nom nachname vorname"
)
_COLON = re.compile(r" ?[:=] ?")
#: Labels after which other things than names are as common.
_WEAK = frozenset("name patient pt re contact caregiver client insured by nom".split())
_WHOSE_NAME = re.compile(
    r"\b(?:patient(?:['’]s)?(?: full)?|full|first|last|family|given|maiden|doctor(?:['’]s)?|physician(?:['’]s)?|emergency) \Z",
    re.IGNORECASE,
)
_DONE_BY = re.compile(
    r"\b(?:referred|dictated|transcribed|signed|electronically|reviewed|interpreted|performed|verified|requested|ordered|prepared|"
    r"seen|operated|examined|updated) \Z",
    re.IGNORECASE,
)
_NAME_OF = re.compile(
    r"(?<=name) of (?:the )?(?:patient|physician|doctor|insured|subscriber|guardian) ?[:=] ?", re.IGNORECASE
)
_THE_PATIENT = re.compile(r"\b[Tt]he patient, (?=[A-ZÀ-Þ])")
_LINE_END = re.compile(
    r"[ \t]*(?:\n|\Z|,|;|\.(?:\s|\Z)|\(|\||\t|  |-|/|(?:age|sex|dob|mrn)\b|is\b|has\b)", re.IGNORECASE
)


def in_form(screened: Text) -> Iterator[Span]:
    text = screened.text
    colons = ":" in text or "=" in text
    for word, place, end in screened.each(FORM):
        if word != "by" and not colons:
            continue  # all others stand before a colon
        colon = _COLON.match(text, end) or (word == "name" and _NAME_OF.match(text, end)) or None
        before = max(0, place - 20)
        weak = word in _WEAK and not _WHOSE_NAME.search(text, before, place)
        if colon is None:
            if word != "by" or text[end : end + 1] != " " or not _DONE_BY.search(text, before, place):
                continue
        elif word == "name" and text[place].islower() and weak:
            continue
        at = colon.end() if colon else end + 1
        if TITLED.match(text, at):
            continue  # its own rule
        until = _form_name(text, at, weak, single=word == "name")
        if until:
            yield Span(at, until, "NAME")
    if "he patient, " in text:
        for found in _THE_PATIENT.finditer(text):
            end, words = take(text, found.end())
            if words and words[0].lower() in GIVEN and text[end : end + 1] == ",":
                yield Span(found.end(), end, "NAME")


def _form_name(text: str, at: int, weak: bool, *, single: bool) -> int:
    """Where the name ends that a form's label introduces; 0 where there is none."""
    end, words = take(text, at, capitals=True, comma=True)
    if not words or not words[0][0].isupper():
        return 0
    known = any(word.lower() in SURE for word in words)
    medical = any(plain(part) in EPONYMS for word in words for part in word.split("-"))
    following = TOKEN.match(text, end + 1) if text[end : end + 1] == " " else None
    if following and plain(following[0]) in TRADE:
        return 0  # "Name: Marfan Syndrome"
    closed = _LINE_END.match(text, end) is not None
    if len(words) == 1 and weak:
        good = single and words[0].lower() in SURE and closed
    else:
        good = known or (closed and not medical)
    return end if good else 0


GREETINGS = cues("dear hi hello hey hallo bonjour hola morning evening afternoon thanks thank")
_GREETING_END = re.compile(r"(?: you)?,? (?=[A-ZÀ-Þ])")
_GREETED_END = re.compile(r" ?[,!:;.\n—-]|\Z")


def greeted(screened: Text) -> Iterator[Span]:
    text = screened.text
    for word, _, found in screened.after(GREETINGS, _GREETING_END):
        if TITLED.match(text, found.end()):
            continue
        end, words = take(text, found.end(), 3)
        if not words or not _GREETED_END.match(text, end):
            continue
        first = words[0].lower()
        good = first in SURE and (not word.startswith("thank") or first not in EPONYMS)
        if word == "dear" and not good and text[end : end + 1] in (",", ":", "\n"):
            good = first not in EPONYMS and not used_as_word(text, words[0])
        if good:
            yield Span(found.end(), end, "NAME")


_CLOSINGS = cues(
    "regards wishes sincerely yours truly faithfully respectfully cheers thanks thank you much lot again advance best love care cordially "
    "grüßen cordialement saludos atentamente"
)
_FORMAL = frozenset(
    "regards wishes sincerely truly faithfully respectfully cordially grüßen cordialement saludos atentamente".split()
)
#: Words that only close a letter as the end of a phrase.
_PHRASES = {
    "yours": re.compile(r"sincerely \Z", re.I), "truly": re.compile(r"yours,? \Z", re.I), "faithfully": re.compile(r"yours,? \Z", re.I),
    "you": re.compile(r"thank \Z", re.I), "much": re.compile(r"(?:thanks|thank you) (?:so |very )\Z", re.I), "lot": re.compile(r"thanks a \Z", re.I),
    "again": re.compile(r"(?:thanks|thank you) \Z", re.I), "advance": re.compile(r"(?:thanks|thank you) in \Z", re.I), "care": re.compile(r"take \Z", re.I),
    "wishes": re.compile(r"(?:best|kind|warm|good) \Z", re.I),
}  # fmt: skip
_CLOSING_END = re.compile(r"[,.!:-]{0,3}(?P<gap>[ \t]*\n\s*|\s+)(?:[-–—~] ?)?(?=[A-ZÀ-Þ])")
_DASHED = re.compile(r"(?:\n|[.!?] )(?:--|[-–—~])\s?(?=[A-ZÀ-Þ][a-zà-ÿ]+(?: [A-ZÀ-Þ][\w.'’-]*){0,2}\s*\Z)")
_DONE = re.compile(r"[ \t]*(?:[.!,]?\s*\Z|\n|, ?(?:M\.?D|D\.?O|R\.?N|Ph\.?D|MBBS|FRC|\d)|\()")


def signed(screened: Text) -> Iterator[Span]:
    text = screened.text
    for word, place, found in screened.after(_CLOSINGS, _CLOSING_END):
        if TITLED.match(text, found.end()):
            continue
        end, words = take(text, found.end(), 3)
        if not words or not _DONE.match(text, end):
            continue
        if word in _PHRASES and not _PHRASES[word].search(text, max(0, place - 20), place):
            continue
        first = words[0].lower()
        if len(words) == 1 and first in EPONYMS and first not in SURE:
            continue
        # In the same line a closing word is as often the beginning of a sentence.
        closes = word in _FORMAL or "\n" in found["gap"]
        if first in GIVEN or (closes and not used_as_word(text, words[0])):
            yield Span(found.end(), end, "NAME")
    tail = text[-60:]
    if "-" in tail or "~" in tail or "–" in tail or "—" in tail:
        for found in _DASHED.finditer(text, max(0, len(text) - 60)):
            end, words = take(text, found.end(), 3)
            if words and words[0].lower() in SURE:
                yield Span(found.end(), end, "NAME")


_DEGREES = cues("md rn phd mbbs frcs frcp dds dpm pharmd pa")
_DEGREE = re.compile(
    r"(?:M\.D\.|MD|D\.O\.|R\.N\.|RN|PhD|Ph\.D\.|MBBS|FRCS|FRCP|PA-C|DDS|DPM|PharmD)(?![\w-])"
)
_TWO_NAMES = re.compile(
    r"(?<![\w.'’-])(?P<name>[A-ZÀ-Þ][\w'’-]+(?: [A-ZÀ-Þ](?:\.|[\w'’-]*))* [A-ZÀ-Þ][\w'’-]+),? ?\Z"
)


def with_degree(screened: Text) -> Iterator[Span]:
    text = screened.text
    if not (screened.has(_DEGREES) or "M.D" in text or "Ph.D" in text or "R.N" in text or "D.O" in text):
        return
    for found in _DEGREE.finditer(text):
        name = _TWO_NAMES.search(text, max(0, found.start() - 60), found.start())
        if name is None:
            continue
        start, stop = name.span("name")
        while start < stop:  # words before the name that only look like its beginning
            end, words = take(text, start)
            if end == stop and len(words) > 1:
                yield Span(start, end, "NAME")
                break
            space = text.find(" ", start, stop)
            if space < 0:
                break
            start = space + 1
