"""Names of people, told by what introduces them: a title, "my name is", a form's label, a signature.

A name that nothing introduces is not found; "Crohn", "Foley catheter" and "Smith et al." are therefore
safe, and `meadow.filters.privacy.naming` keeps the rest of medicine out of what is introduced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from meadow.filters.privacy.letters import FORM, GREETINGS, greeted, in_form, signed, with_degree
from meadow.filters.privacy.naming import (
    EPONYMS,
    GIVEN,
    NO_NAME,
    NOBODY,
    SURE,
    TITLED,
    plain,
    take,
    used_as_word,
)
from meadow.filters.privacy.text import Span, Text, cues

_TITLES = cues(
    "dr mr mrs ms miss mx prof professor doctor nurse herr frau fräulein monsieur madame mme mlle señor señora sra signor signora rabbi "
    "reverend rev"
)
#: What may stand between a title and a name.
_TITLE_END = re.compile(
    r"(?:\.? ?(?:med|dent|rer\. nat|phil)\b)?(?P<dot>\.?)[ \xa0]?(?:(?:and (?:Mrs|Mr|Ms|Dr)|Dr|med|Prof)\.? ){0,4}(?=[A-ZÀ-Þa-z])"
)
#: What is said of those whom a disease is named after.
_HISTORY = re.compile(
    r"\b(?:describ|discover|first|publish|nam(?:ed|ing) |essay|century|eponym|popular|taught|students|invented|introduced|"
    r"coined|theor|observed|noticed|1[5-9]\d\d)",
    re.IGNORECASE,
)
_NAMED_AFTER = re.compile(
    r"(?:named|called|eponym\w*) (?:after|for|in honou?r of)\b[^\n]{0,40}\Z", re.IGNORECASE
)
_ET_AL = re.compile(r",? (?:et al\b|and (?:colleagues|coworkers|co-workers)\b)")


_PLAIN_TITLES = frozenset(("mr", "mrs", "ms", "miss", "mx", "herr", "frau", "monsieur", "madame", "rabbi"))


def _titled(screened: Text) -> Iterator[Span]:
    text = screened.text
    # Of each word once: a text may name its doctor a thousand times.
    rather: dict[str, bool] = {}
    for word, start, found in screened.after(_TITLES, _TITLE_END):
        title, at = text[start : start + len(word)], found.end()
        if not title[0].isupper() or (start and text[start - 1] in "_/@.-"):
            continue
        loud = title.isupper()
        if at == start + len(word) or (loud and not found["dot"]):
            continue
        end, words = take(text, at, capitals=loud or found["dot"] == ".")
        if not words or (loud and not text[at:end].isupper() and words[0].lower() not in SURE):
            continue  # "MS." and "DR." are diseases, too
        if len(words) == 1:
            bare = plain(words[0])
            if bare in NOBODY or (text[at:end].isupper() and len(bare) < 4):
                continue
            if word not in _PLAIN_TITLES:
                # "Dr." also ends sentences, and doctors have given diseases their names.
                if words[0] not in rather:
                    rather[words[0]] = used_as_word(text, words[0]) or (
                        bare in EPONYMS and _used_alone(text, words[0])
                    )
                if rather[words[0]]:
                    continue
        if not _ET_AL.match(text, end):
            yield Span(at, end, "NAME")


def _used_alone(text: str, word: str) -> bool:
    """Whether a name also stands without a title, as those of diseases and methods do."""
    return any(
        not TITLED.fullmatch(text[max(0, found.start() - 4) : found.start() + 1].lstrip())
        and not re.search(r"[A-Z]\w*\.? \Z", text[max(0, found.start() - 20) : found.start()])
        for found in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text)
    )


def _historic(text: str, start: int, end: int) -> bool:
    last = text[start:end].split()[-1]
    if not any(plain(part) in EPONYMS for part in last.split("-")):
        return False
    return bool(_HISTORY.search(text, end, end + 80) or _NAMED_AFTER.search(text, max(0, start - 60), start))


_NAME_CUES = cues("name llamo appelle heiße heisse chiamo heet heter called call")
_WHOSE = re.compile(
    r"(?:\b(?P<mine>my|his|her|their|patient['’]?s?|mein|(?:son|daughter|wife|husband|mother|father|friend|brother|sister|child|baby|boy|girl)['’]s) "
    r"(?:(?:full|first|last|real|maiden) )?|\bme |\bm['’]|\bich |\bmi |\bik |\bjag |\bi am |\bi['’]m |\b(?:they|people) )\Z",
    re.IGNORECASE,
)
_NAME_IS = re.compile(r"(?: is|['’]s|:| ist| me)? +", re.IGNORECASE)
_AFTER_LOWER = re.compile(
    r"(?:\W*\Z|\s*[,.!;\n]|\s+(?:and|from|i|im|i'm|age|aged|my|\d|here|[a-z]))", re.IGNORECASE
)
#: Words after "my name is" that make it no introduction.
_NO_INTRODUCTION = frozenset(
    "on not in at listed written spelled misspelled there missing still wrong also same changed too called removed added mentioned "
    "printed given registered associated used common unusual withheld hidden confidential private anonymous pronounced".split()
)


def _introduced(screened: Text) -> Iterator[Span]:
    text = screened.text
    for word, place, found in screened.after(_NAME_CUES, _NAME_IS):
        whose = _WHOSE.search(text, max(0, place - 30), place)
        if whose is None or (word == "name") != bool(whose["mine"]):
            continue
        if word == "name" and not found[0].strip():
            continue
        at = found.end()
        end, words = take(text, at, capitals=True, lower=True)
        if not words or plain(words[0]) in _NO_INTRODUCTION:
            continue
        if not words[0][0].isupper():
            # Without a capital: a first name, and a second word only where it looks like a name, too.
            end = at + len(words[0])
            second = _SECOND_LOWER.match(text, end)
            if second and plain(second[1]) not in NO_NAME and words[0] in GIVEN:
                end = second.end()
            mine = (whose["mine"] or "").lower() in ("my", "his", "her")
            if not _AFTER_LOWER.match(text, end) or not (words[0] in GIVEN or mine):
                continue
        yield Span(at, end, "NAME")


_SECOND_LOWER = re.compile(r" ([a-z]{3,})(?=[,.!\n]|\Z| and\b)")
_SELF = cues("am m im this")
_SELF_IS = re.compile(r"(?: is)? +(?=[A-ZÀ-Þ])")
_OPEN_END = re.compile(
    r"\s*(?:[,.!;(\n]|\Z|and (?:i|my)\b|from\b|here\b|an? \d|\d|speaking|calling|writing|again)",
    re.IGNORECASE,
)


def _i_am(screened: Text) -> Iterator[Span]:
    text = screened.text
    for word, place, found in screened.after(_SELF, _SELF_IS):
        if (word == "this") != ("is" in found[0]):
            continue
        if word in ("am", "m") and not _I_BEFORE.search(text, max(0, place - 3), place):
            continue
        end, words = take(text, found.end())
        if not words:
            continue
        first = words[0].split("-")[0].lower()
        if first in SURE or (first in GIVEN and len(words) > 1):
            good = len(words) > 1 or (first not in EPONYMS and _OPEN_END.match(text, end))
        else:
            # An unknown first name: two capitalised words, and the age or the place next.
            good = (
                word != "this"
                and len(words) in (2, 3)
                and words[0][1:].islower()
                and _THEN_SELF.match(text, end)
                and not any(plain(word) in EPONYMS for word in words)
            )
        if good:
            yield Span(found.end(), end, "NAME")


_I_BEFORE = re.compile(r"(?<!\w)[Ii](?: |['’])\Z")
_THEN_SELF = re.compile(r",? (?:an? )?\d\d\b|,? (?:from|and i)\b|, an?\b", re.IGNORECASE)

_KIN = cues(
    "wife husband son daughter mother father mom mum dad brother sister friend fiance fiancee boyfriend girlfriend partner cousin niece "
    "nephew uncle aunt auntie grandmother grandfather grandma grandpa grandson granddaughter neighbor neighbour colleague roommate baby "
    "twin twins child nanny therapist physiotherapist dentist surgeon doctor nurse midwife patient boss teacher gp mine "
    "man woman boy girl male female lady gentleman guy person infant kid someone toddler physician specialist user"
)
_KIN_NAME = re.compile(
    r"(?:(?P<called>,? (?:who is |is )?(?:named|called|by the name of) )|, | ?\(| )(?=[A-ZÀ-Þ])"
)
#: Those whose names only "called" introduces: "a man Robert" is rare, "the patient, Ann," is not.
_ONLY_CALLED = frozenset(
    "man woman boy girl male female lady gentleman guy person infant kid someone toddler physician specialist user mine".split()
)


def _related(screened: Text) -> Iterator[Span]:
    text = screened.text
    for word, place, found in screened.after(_KIN, _KIN_NAME):
        # "Mother Teresa" and "Sister Mary" are not someone's mother and sister.
        if not found["called"] and (word in _ONLY_CALLED or text[place].isupper()):
            continue
        end, words = take(text, found.end(), 3)
        if not words:
            continue
        first = words[0].split("-")[0].lower()
        if found["called"] or (first in SURE and not (len(words) == 1 and first in EPONYMS)):
            yield Span(found.end(), end, "NAME")


_OLD_CUES = cues("year years yr yrs yo y month months week weeks day days")
_NUMBER_BEFORE = re.compile(r"(?<![\d.])\d{1,3}[ -]?\Z")
_SUBJECT = re.compile(
    r"(?:\A|[.!?\n:,] |\n)(?P<name>[A-ZÀ-Þ][\w'’-]+(?: [A-ZÀ-Þ][\w'’.-]*){0,3})(?:,? (?:is|was|aged?|presents|presented)|,|,? \()? ?(?:an? |as an? )?\Z"
)


def _aged(screened: Text) -> Iterator[Span]:
    """``Gloria Mendez is a 61-year-old``: the subject of a sentence that tells an age."""
    text = screened.text
    for _, place, _ in screened.each(_OLD_CUES):
        number = _NUMBER_BEFORE.search(text, max(0, place - 5), place)
        if number is None:
            continue
        begin = number.start() - 80
        subject = _SUBJECT.search(text, max(0, begin), number.start())
        if subject is None or (subject.start() and subject.start() == begin):
            continue
        end, words = take(text, subject.start("name"))
        if end != subject.end("name") or not words:
            continue
        sure = words[0].lower() in SURE
        if sure or (len(words) > 1 and not any(plain(word) in EPONYMS for word in words)):
            yield Span(subject.start("name"), end, "NAME")


#: A word after a name that makes it the name of a thing: "Sister Mary Joseph nodule".
THING = re.compile(
    r" (?:disease|syndrome|signs?|nodes?|nodules?|tests?|scores?|scale|index|classification|staging|procedure|operation|manoeuvre|"
    r"maneuver|reflex|law|rule|stain|fracture|palsy|tumou?r|lymphoma|sarcoma|chorea|contracture|phenomenon|catheter|clamp|"
    r"forceps|incision|criteria|method|bodies|body|cells?|virus|gland|duct|triad|point)(?!\w)"
)
#: A bit for rules that do not go by cue words alone.
_ALWAYS = cues("").bit
#: The rules, each with the bit of the cue words without one of which it finds nothing.
_RULES = (
    (_titled, _TITLES.bit), (_introduced, _NAME_CUES.bit), (_i_am, _SELF.bit), (_related, _KIN.bit),
    (in_form, FORM.bit), (greeted, GREETINGS.bit), (signed, _ALWAYS), (with_degree, _ALWAYS),
    (_aged, _OLD_CUES.bit),
)  # fmt: skip


def introduced(screened: Text) -> Iterator[Span]:
    """All names that something introduces."""
    text = screened.text
    sets = screened.sets | _ALWAYS
    for rule, needed in _RULES:
        if not sets & needed:
            continue
        for span in rule(screened):
            if not _historic(text, span.start, span.end) and not THING.match(text, span.end):
                yield span
