"""Rules for dates that something ties to a person, and for ages over 89."""

from __future__ import annotations

import re
from collections.abc import Iterator

from meadow.filters.privacy.text import Span, Text, cues, free

_MONTH = r"(?:Jan(?:uary|\.)?|Feb(?:ruary|\.)?|Mar(?:ch|\.)?|Apr(?:il|\.)?|May|June?|July?|Aug(?:ust|\.)?|Sept?(?:ember|\.)?|Oct(?:ober|\.)?|Nov(?:ember|\.)?|Dec(?:ember|\.)?)"
_YEAR = r"(?:1[5-9]|20)\d\d"
_MONTH_CUES = cues(
    "jan january feb february mar march apr april may jun june jul july aug august sep sept september oct october nov november dec december"
)
_AGE_CUES = cues("year years yr yrs yo y aged age")
_DAY = r"(?:[12]\d|3[01]|0?[1-9])"
_FULL = (
    rf"{_DAY}[/.-]{_DAY}[/.-](?:{_YEAR}|\d\d)|{_YEAR}([/.-])(?:0?[1-9]|1[0-2])\2{_DAY}"
    rf"|{_DAY}(?:st|nd|rd|th)?[ -]+(?:of )?(?i:{_MONTH}),?[ -]+(?:{_YEAR}|['’]\d\d)"
)
_DATE = re.compile(
    rf"(?:(?P<full>{_FULL}|{_MONTH} {_DAY}(?:st|nd|rd|th)?,? {_YEAR})"
    rf"|(?P<month>{_MONTH},? (?:of )?{_YEAR})"
    rf"|(?P<short>{_DAY}(?:st|nd|rd|th)? (?:of )?{_MONTH}|{_MONTH} {_DAY}(?:st|nd|rd|th)?))(?![\w/-]|\.\d)"
)
#: Where dates may begin: `_DATE` itself is too slow to be tried at every letter.
_DAY_FIRST = re.compile(
    r"[0-9]{1,4}(?:[/.-][0-9]{1,2}[/.-][0-9][0-9]|(?:st|nd|rd|th)?[ -]+(?:of )?(?:[jJ][aAuU]|[fF][eE]|[mM][aA]|[aA][pPuU]|[sS][eE]|[oO][cC]|[nN][oO]|[dD][eE]))"
)
_MONTH_FIRST = re.compile(r"[JFMASOND](?:an|eb|ar|pr|ay|un|ul|ug|ep|ct|ov|ec)[a-z]{0,6}\.?,? (?:of )?[0-9]")
#: Labels and verbs after which a date is someone's, whoever it is.
_BIRTH = re.compile(
    r"(?:\bdob|\bd\.o\.b\.?|date of birth|birth ?da(?:te|y)|\bborn(?: on| in)?(?: the)?|\bgeboren(?: am)?|geb\.|geburtsdatum|"
    r"né(?:e)? le|nacid[oa] el|nat[oa] il)[ :=(is]{0,5}\Z",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"(?:\badmi(?:tted|ssion)(?: date)?|\bdischarged?(?: date)?|\bdate of (?:service|visit|admission|discharge|death|surgery|injury|"
    r"procedure|exam(?:ination)?|operation|onset|accident|delivery|appointment|consultation|referral|collection)|"
    r"\bdate seen|\bdos\b|\bd\.o\.s\.|\blmp(?: was| on| is)?|\bedd\b|last menstrual period(?: was| on)?|collected|"
    r"\b(?:next|last|follow-?up|first) (?:visit|appointment|appt|period|consultation)(?: is| was)?(?: on)?|"
    r"\b(?:visit|appointment|surgery|operation|exam) date)[ :=(]{0,4}(?:on )?(?:the )?\Z",
    re.IGNORECASE,
)
_EVENT = re.compile(
    r"\b(?:admitted|admission|discharged?|hospitali[sz]ed|seen|visited|visit|examined|operated|surgery|operation|underwent|"
    r"diagnosed|diagnosis|appointment|appt|delivered|gave birth|died|passed away|deceased|transferred|consulted|consultation|injured|"
    r"accident|fell|biopsy|transplant(?:ed)?|miscarr\w+|vaccinated|tested|presented|had|started|stopped|began|"
    r"period|scan|mri|x-?ray|came|went|follow-?up|scheduled|removed|treated|chemo\w*|intubated|extubated|broke)\b",
    re.IGNORECASE,
)
#: Those that say by themselves that a date belongs to someone's illness or life.
_SURE_EVENT = re.compile(
    r"\b(?:admitted|admission|discharged?|hospitali[sz]ed|operated|surgery|operation|underwent|diagnosed|diagnosis|appointment|appt|"
    r"gave birth|died|passed away|deceased|transferred|consulted|consultation|accident|biopsy|transplant(?:ed)?|miscarr\w+|"
    r"vaccinated|delivered|period|mri|x-?ray|follow-?up|treated|chemo\w*|removed|intubated|extubated|injured)\b",
    re.IGNORECASE,
)
_DEATH = re.compile(r"\b(?:died|death|deceased|passed away)\b", re.IGNORECASE)
_SOMEONE = re.compile(
    r"\b(?:i|my|me|he|she|his|her|him|patient|pt|mr|mrs|ms|baby|infant|wife|husband|son|daughter|mother|father|mom|mum|dad|"
    r"brother|sister|grand\w+|aunt|uncle|gentleman|lady|client)\b",
    re.IGNORECASE,
)
#: What makes a date public: studies, publications, approvals, history.
_PUBLIC = re.compile(
    r"\b(?:publish\w*|publication|online|approv\w+|accessed|retrieved|updated|declar\w+|released?|launch\w*|version|revised|accepted|"
    r"received|submitted|trial|study|studies|conference|congress|edition|guidelines?|between|enrol\w+|recruit\w+|database|"
    r"patients|subjects|participants|cases|cohort|fda|ema|who declared|law|act|century|invented|founded|asked|posted|commit\w*)\b",
    re.IGNORECASE,
)
_FULL_LABELS = re.compile(
    r"\b(?:seen|admitted|discharged|examined|reviewed|operated|transferred|readmitted)(?: (?:in|at|by|to|from|for|the|home|on|our|clinic|hospital|ward|icu|ed|er|a|and|emergency|department|outpatients?|again)){0,6} ?\Z",
    re.I,
)
_STARTS = re.compile(r"(?:\A|[\n.;,(] ?|^)(?:on |since )?(?:the )?\Z", re.IGNORECASE | re.MULTILINE)
_THEN_PERSON = re.compile(
    r",? (?:i|he|she|the patient|this patient|my (?:\w+ )?\w+|pt|patient|mr|mrs|ms)\b(?:[^.\n]{0,40})",
    re.IGNORECASE,
)
_VISIT_NOTE = re.compile(
    r"\s?[:\-–—]\s?(?:the )?(?:pt|patient|seen|visit|admi|review|exam|consult|follow|surgery|discharg|clinic)\w*\b",
    re.I,
)
_LEADS_TO_DATE = re.compile(r"\b(?:on|in|since|was|is|of|the|for)\s*\Z|[:(,]\s*\Z")
_SENTENCE = re.compile(r"[.!?]\s+(?=[A-Z])|\n")


def _before(text: str, start: int, size: int = 90) -> str:
    """What stands before a place in its sentence."""
    piece = text[max(0, start - size) : start]
    ends = list(_SENTENCE.finditer(piece))
    last = ends[-1] if ends else None
    # "Dr. Lee", "approx. 3": a full stop after a short word ends no sentence.
    if last is not None and not re.search(
        r"\b(?:Dr|Mr|Mrs|Ms|Prof|St|approx|ca|no|Apr|Aug|Dec|Feb|Jan|Mar|Nov|Oct|Sept?)\Z",
        piece[: last.start()],
    ):
        return piece[last.end() :]
    return piece


#: A day before a month, or blanks that reach back to where the search begins.
_DAY_BEFORE = re.compile(r"(?:[0-9](?:st|nd|rd|th)?|\A[a-z]{0,2})[ -]+(?:of )?\Z", re.IGNORECASE)


def _possible(screened: Text) -> bool:
    """Whether there may be a date: a verb "may" in a text with a number somewhere is none."""
    if screened.dotted:
        return True
    text = screened.text
    if not text.isascii():  # other characters can join what they separate
        return screened.has(_MONTH_CUES)
    return any(
        _DAY_BEFORE.search(text[max(0, at - 40) : at]) or _MONTH_FIRST.match(text, at)
        for _, at, _ in screened.each(_MONTH_CUES)
    )


def dates(screened: Text) -> Iterator[Span]:
    if not _possible(screened):
        return
    text = screened.text
    starts = [found.start() for gate in (_DAY_FIRST, _MONTH_FIRST) for found in gate.finditer(text)]
    end = 0
    for start in sorted(starts):
        found = _DATE.match(text, start) if start >= end else None
        if found is None or not free(text, start, ",:"):
            continue
        end = found.end()
        before = _before(text, found.start())
        year = re.search(_YEAR, found[0])
        year = int(year[0]) if year else None
        if _BIRTH.search(before):
            # HIPAA protects the dead for fifty years; whoever was born before 1910 is history by now.
            if (year is None or year >= 1910) and (found["short"] is None or "birth" in before.lower()):
                yield Span(found.start(), end, "DATE")
        elif year is not None and (year < 1910 or (year < 1970 and _DEATH.search(before))):
            continue
        elif _LABEL.search(before) or _of_someone(found, before):
            yield Span(found.start(), end, "DATE")


def _of_someone(found: re.Match[str], before: str) -> bool:
    """Whether the sentence ties a date to somebody's illness or life."""
    after = found.string[found.end() : found.end() + 60]
    context = before + " " + _SENTENCE.split(after)[0]
    if _PUBLIC.search(context):
        return False
    starts = _STARTS.search(before)
    if found["full"]:
        if _FULL_LABELS.search(before) or (starts and _VISIT_NOTE.match(after)):
            return True
    elif not _SURE_EVENT.search(context):
        return False
    then = _THEN_PERSON.match(after) if starts else None
    if then:
        return bool(found["full"] or _EVENT.search(then[0]))
    return bool(_SOMEONE.search(before) and _EVENT.search(before) and _LEADS_TO_DATE.search(before))


_AGE = re.compile(
    r"[19][0-9](?:(?<=9[0-9])|(?<=1[01])[0-9])(?P<unit>(?:[ -](?:year|yr)s?[ -]?old|[ -]?(?:y/o|yo|y\.o\.)(?!\w)|[ -]years? of age)?)(?![\w%/]|[-–.]\d)"
)
_AGED = re.compile(r"\b(?:aged|age|age:|age is) \Z", re.IGNORECASE)
_RANGE = re.compile(r" ?(?:and|or|to|years and)\b")
_NOT_AGE = re.compile(
    r"\b(?:over|than|above|under|below|between|to|and|until|beyond|least|or|ages|children|patients|adults|subjects|people|those|women|men)\s\Z",
    re.IGNORECASE,
)
_AGED_THING = re.compile(
    r"\s+(?!man|male|woman|female|lady|gentleman|grand|mother|father|patient|pt|boy|girl|person|aunt|uncle|"
    r"retired|widow|nun|priest|white|black|asian|caucasian|african|hispanic|nursing|right|left|who|with|and|in|on|has|had|was|is|but|"
    r"frail|obese|diabetic|previously|healthy|smoker|hypertensive|veteran|farmer|resident|neighbou?r|dad|mom|mum|gravida|now|when|by|from|at|for|he|she|i)[a-z]"
)


def ages(screened: Text) -> Iterator[Span]:
    if not screened.has(_AGE_CUES):
        return
    text = screened.text
    for found in _AGE.finditer(text):
        start = found.start()
        if not free(text, start, ",–"):
            continue
        if not found["unit"] and (
            not _AGED.search(text, max(0, start - 8), start) or _RANGE.match(text, found.end())
        ):
            continue
        if _NOT_AGE.search(text, max(0, start - 12), start):
            continue
        if not _AGED_THING.match(text, found.end()):
            yield Span(found.start(), found.end(), "AGE")
