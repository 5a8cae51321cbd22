"""Names of people, told by what introduces them: a title, "my name is", a form's label, a signature.

A name that nothing introduces is not found; "Crohn", "Foley catheter" and "Smith et al." are therefore
safe, and `meadow.filters.privacy.words` keeps the rest of medicine out of what is introduced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from meadow.filters.privacy.text import Span, Text, cues
from meadow.filters.privacy.words import ALSO_WORDS, COMMON, EPONYMS, GIVEN, NOBODY, TRADE

_SURE = GIVEN - ALSO_WORDS - COMMON
_NO_NAME = (COMMON | TRADE) - ALSO_WORDS
_TOKEN = re.compile(r"[^\W\d_](?:[\w'’]|-(?=\w))*")
_PARTICLES = frozenset(
    "de del della di da dos das du la le van von der den het ten ter zu zur bin ibn al el y e st af av".split()
)
_SUFFIXES = re.compile(r",? (?:Jr|Sr|II|III|IV)\b\.?")


def _plain(token: str) -> str:
    lower = token.lower().replace("’", "'")
    return lower[:-2] if lower.endswith("'s") else lower.rstrip("'")


def _is_name(token: str, *, capitals: bool = False, lower: bool = False) -> bool:
    """Whether a word could be (part of) a name by its look."""
    plain = _plain(token)
    if plain in _NO_NAME or plain.replace("'", "") in _NO_NAME or not plain:
        return False
    if not token[0].isupper():
        return lower and len(token) > 2
    if len(token) > 1 and token.isupper() and not capitals:
        return "'" in token[:3] or "’" in token[:3]
    return True


def _take(
    text: str, start: int, most: int = 4, *, capitals: bool = False, lower: bool = False, comma: bool = False
) -> tuple[int, list[str]]:
    """Reads a name that begins at `start`.

    Args:
        text: The text.
        start: Where the name would begin.
        most: The most words that it may have, particles not counted.
        capitals: Whether words all in capitals count: forms, letter heads.
        lower: Whether words without a capital count: people introduce themselves so in forums.
        comma: Whether ``Doe, Jane`` counts.

    Returns:
        Where it ends, and its words; no words where there is no name.
    """
    words: list[str] = []
    at = end = start
    while len(words) < most:
        found = _TOKEN.match(text, at)
        if found is None:
            break
        token = found[0]
        here = found.end()
        if len(token) == 1 and token.isupper() and text[here : here + 1] == ".":
            # An initial, which only belongs to a name if a name goes on after it.
            words.append(token)
            here += 1
        elif token in _PARTICLES or (
            token[0].isupper()
            and token.lower() in ("de", "van", "von", "della", "del", "di", "al", "el", "la", "le")
        ):
            pass
        elif _is_name(token, capitals=capitals, lower=lower and not words):
            words.append(token)
            end = here - 2 if token[-2:] in ("'s", "’s") else here
            if end != here:
                break
        elif len(token) == 1 and token.isupper() and words and token not in "IA":
            words.append(token)
            end = here
        else:
            break
        if comma and len(words) == 1 and text[here : here + 2] == ", ":
            after = _TOKEN.match(text, here + 2)
            if after and _is_name(after[0], capitals=capitals) and after[0][0].isupper():
                at = here + 2
                continue
        if text[here : here + 1] not in (" ", "\t", "\xa0"):
            break
        at = here + 1
    if end == start or not any(len(word) > 1 for word in words):
        return start, []
    suffix = _SUFFIXES.match(text, end)
    return (suffix.end() if suffix else end), words


_TITLES = cues(
    "dr mr mrs ms miss mx prof professor doctor nurse herr frau fräulein monsieur madame mme mlle señor señora sra signor signora rabbi "
    "reverend rev"
)
#: What may stand between a title and a name.
_TITLE_END = re.compile(
    r"(?:\.? ?(?:med|dent|rer\. nat|phil)\b)?(?P<dot>\.?)[ \xa0]?(?:(?:and (?:Mrs|Mr|Ms|Dr)|Dr|med|Prof)\.? ){0,4}(?=[A-ZÀ-Þa-z])"
)
_TITLED = re.compile(
    r"(?:Dr|DR|Mr|MR|Mrs|MRS|Ms|MS|Miss|Mx|Prof|Professor|Doctor|Nurse|Herr|Frau|Fräulein|Monsieur|Madame|Mme|Mlle|Señora?|Sra|Signora?|"
    r"Rabbi|Reverend|Rev)\b\.? ?[A-ZÀ-Þ]"
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
    for word in screened.heads(_TITLES):
        for start in screened.places(word):
            if not text[start].isupper() or (start and text[start - 1] in "_/@.-"):
                continue
            loud = text[start : start + len(word)].isupper()
            found = _TITLE_END.match(text, start + len(word))
            if found is None or found.end() == start + len(word) or (loud and not found["dot"]):
                continue
            at = found.end()
            end, words = _take(text, at, capitals=loud or found["dot"] == ".")
            if not words or (loud and not text[at:end].isupper() and words[0].lower() not in _SURE):
                continue  # "MS." and "DR." are diseases, too
            if len(words) == 1:
                plain = _plain(words[0])
                if plain in NOBODY or (text[at:end].isupper() and len(plain) < 4):
                    continue
                if word not in _PLAIN_TITLES:
                    # "Dr." also ends sentences, and doctors have given diseases their names.
                    if words[0] not in rather:
                        rather[words[0]] = _used_as_word(text, words[0]) or (
                            plain in EPONYMS and _used_alone(text, words[0])
                        )
                    if rather[words[0]]:
                        continue
            if not _ET_AL.match(text, end):
                yield Span(at, end, "NAME")


def _used_alone(text: str, word: str) -> bool:
    """Whether a name also stands without a title, as those of diseases and methods do."""
    return any(
        not _TITLED.fullmatch(text[max(0, found.start() - 4) : found.start() + 1].lstrip())
        and not re.search(r"[A-Z]\w*\.? \Z", text[max(0, found.start() - 20) : found.start()])
        for found in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text)
    )


def _used_as_word(text: str, word: str) -> bool:
    """Whether the text also writes this word without a capital; then it is rather no name."""
    plain = _plain(word)
    # Most words are not there at all, which a plain search tells a hundred times faster.
    return (
        plain not in _SURE
        and plain in text
        and re.search(rf"(?<!\w){re.escape(plain)}(?!\w)", text) is not None
    )


def _historic(text: str, start: int, end: int) -> bool:
    last = text[start:end].split()[-1]
    if not any(_plain(part) in EPONYMS for part in last.split("-")):
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
    for word in screened.heads(_NAME_CUES):
        for place in screened.places(word):
            whose = _WHOSE.search(text, max(0, place - 30), place)
            found = _NAME_IS.match(text, place + len(word)) if whose else None
            if (
                found is None
                or whose is None
                or (word == "name") != bool(whose["mine"])
                or (word == "name" and not found[0].strip())
            ):
                continue
            at = found.end()
            end, words = _take(text, at, capitals=True, lower=True)
            if not words or _plain(words[0]) in _NO_INTRODUCTION:
                continue
            if not words[0][0].isupper():
                # Without a capital: a first name, and a second word only where it looks like a name, too.
                end = at + len(words[0])
                second = _SECOND_LOWER.match(text, end)
                if second and _plain(second[1]) not in _NO_NAME and words[0] in GIVEN:
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
    for word in screened.heads(_SELF):
        for place in screened.places(word):
            found = _SELF_IS.match(text, place + len(word))
            if found is None or (word == "this") != ("is" in found[0]):
                continue
            if word in ("am", "m") and not _I_BEFORE.search(text, max(0, place - 3), place):
                continue
            end, words = _take(text, found.end())
            if not words:
                continue
            first = words[0].split("-")[0].lower()
            if first in _SURE or (first in GIVEN and len(words) > 1):
                if len(words) > 1 or (first not in EPONYMS and _OPEN_END.match(text, end)):
                    yield Span(found.end(), end, "NAME")
            elif (
                # An unknown first name: two capitalised words, and the age or the place next.
                word != "this"
                and len(words) in (2, 3)
                and words[0][1:].islower()
                and _THEN_SELF.match(text, end)
                and not any(_plain(word) in EPONYMS for word in words)
            ):
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
    for word in screened.heads(_KIN):
        for place in screened.places(word):
            found = _KIN_NAME.match(text, place + len(word))
            # "Mother Teresa" and "Sister Mary" are not someone's mother and sister.
            if found is None or (not found["called"] and (word in _ONLY_CALLED or text[place].isupper())):
                continue
            end, words = _take(text, found.end(), 3)
            if not words:
                continue
            first = words[0].split("-")[0].lower()
            if found["called"] or (first in _SURE and not (len(words) == 1 and first in EPONYMS)):
                yield Span(found.end(), end, "NAME")


_OLD_CUES = cues("year years yr yrs yo y month months week weeks day days")
_NUMBER_BEFORE = re.compile(r"(?<![\d.])\d{1,3}[ -]?\Z")
_SUBJECT = re.compile(
    r"(?:\A|[.!?\n:,] |\n)(?P<name>[A-ZÀ-Þ][\w'’-]+(?: [A-ZÀ-Þ][\w'’.-]*){0,3})(?:,? (?:is|was|aged?|presents|presented)|,|,? \()? ?(?:an? |as an? )?\Z"
)


def _aged(screened: Text) -> Iterator[Span]:
    """``Gloria Mendez is a 61-year-old``: the subject of a sentence that tells an age."""
    text = screened.text
    for word in screened.heads(_OLD_CUES):
        for place in screened.places(word):
            number = _NUMBER_BEFORE.search(text, max(0, place - 5), place)
            subject = number and _SUBJECT.search(text, max(0, number.start() - 80), number.start())
            if (
                number is None
                or subject is None
                or (subject.start() and subject.start() == number.start() - 80)
            ):
                continue
            end, words = _take(text, subject.start("name"))
            if end != subject.end("name") or not words:
                continue
            sure = words[0].lower() in _SURE
            if sure or (len(words) > 1 and not any(_plain(word) in EPONYMS for word in words)):
                yield Span(subject.start("name"), end, "NAME")


_FORM = cues(
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


def _in_form(screened: Text) -> Iterator[Span]:
    text = screened.text
    labels = screened.heads(_FORM)
    if ":" not in text and "=" not in text:
        labels = ["by"] if "by" in labels else []  # all others stand before a colon
    for word in labels:
        for place in screened.places(word):
            end = place + len(word)
            colon = _COLON.match(text, end) or (word == "name" and _NAME_OF.match(text, end)) or None
            weak = word in _WEAK and not _WHOSE_NAME.search(text, max(0, place - 20), place)
            if colon is None:
                if (
                    word != "by"
                    or text[end : end + 1] != " "
                    or not _DONE_BY.search(text, max(0, place - 20), place)
                ):
                    continue
            elif word == "name" and text[place].islower() and weak:
                continue
            at = colon.end() if colon else end + 1
            if _TITLED.match(text, at):
                continue  # its own rule
            if _form_name(text, at, weak, single=word == "name"):
                yield Span(at, _form_name(text, at, weak, single=word == "name"), "NAME")
    if "he patient, " in text:
        for found in _THE_PATIENT.finditer(text):
            end, words = _take(text, found.end())
            if words and words[0].lower() in GIVEN and text[end : end + 1] == ",":
                yield Span(found.end(), end, "NAME")


def _form_name(text: str, at: int, weak: bool, *, single: bool) -> int:
    """Where the name ends that a form's label introduces; 0 where there is none."""
    end, words = _take(text, at, capitals=True, comma=True)
    if not words or not words[0][0].isupper():
        return 0
    known = any(word.lower() in _SURE for word in words)
    medical = any(_plain(part) in EPONYMS for word in words for part in word.split("-"))
    following = _TOKEN.match(text, end + 1) if text[end : end + 1] == " " else None
    if following and _plain(following[0]) in TRADE:
        return 0  # "Name: Marfan Syndrome"
    closed = _LINE_END.match(text, end) is not None
    if len(words) == 1 and weak:
        good = single and words[0].lower() in _SURE and closed
    else:
        good = known or (closed and not medical)
    return end if good else 0


_GREETINGS = cues("dear hi hello hey hallo bonjour hola morning evening afternoon thanks thank")
_GREETING_END = re.compile(r"(?: you)?,? (?=[A-ZÀ-Þ])")
_GREETED_END = re.compile(r" ?[,!:;.\n—-]|\Z")


def _greeted(screened: Text) -> Iterator[Span]:
    text = screened.text
    for word in screened.heads(_GREETINGS):
        for place in screened.places(word):
            found = _GREETING_END.match(text, place + len(word))
            if found is None or _TITLED.match(text, found.end()):
                continue
            end, words = _take(text, found.end(), 3)
            if not words or not _GREETED_END.match(text, end):
                continue
            first = words[0].lower()
            good = first in _SURE and (not word.startswith("thank") or first not in EPONYMS)
            if word == "dear" and not good:
                good = (
                    text[end : end + 1] in (",", ":", "\n")
                    and first not in EPONYMS
                    and not _used_as_word(text, words[0])
                )
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


def _signed(screened: Text) -> Iterator[Span]:
    text = screened.text
    for word in screened.heads(_CLOSINGS):
        for place in screened.places(word):
            found = _CLOSING_END.match(text, place + len(word))
            if found is None or _TITLED.match(text, found.end()):
                continue
            end, words = _take(text, found.end(), 3)
            if not words or not _DONE.match(text, end):
                continue
            if word in _PHRASES and not _PHRASES[word].search(text, max(0, place - 20), place):
                continue
            first = words[0].lower()
            if len(words) == 1 and first in EPONYMS and first not in _SURE:
                continue
            # In the same line a closing word is as often the beginning of a sentence.
            if first in GIVEN or (
                (word in _FORMAL or "\n" in found["gap"]) and not _used_as_word(text, words[0])
            ):
                yield Span(found.end(), end, "NAME")
    tail = text[-60:]
    if "-" in tail or "~" in tail or "–" in tail or "—" in tail:
        for found in _DASHED.finditer(text, max(0, len(text) - 60)):
            end, words = _take(text, found.end(), 3)
            if words and words[0].lower() in _SURE:
                yield Span(found.end(), end, "NAME")


_DEGREES = cues("md rn phd mbbs frcs frcp dds dpm pharmd pa")
_DEGREE = re.compile(
    r"(?:M\.D\.|MD|D\.O\.|R\.N\.|RN|PhD|Ph\.D\.|MBBS|FRCS|FRCP|PA-C|DDS|DPM|PharmD)(?![\w-])"
)
_TWO_NAMES = re.compile(
    r"(?<![\w.'’-])(?P<name>[A-ZÀ-Þ][\w'’-]+(?: [A-ZÀ-Þ](?:\.|[\w'’-]*))* [A-ZÀ-Þ][\w'’-]+),? ?\Z"
)


def _with_degree(screened: Text) -> Iterator[Span]:
    text = screened.text
    if not (screened.has(_DEGREES) or "M.D" in text or "Ph.D" in text or "R.N" in text or "D.O" in text):
        return
    for found in _DEGREE.finditer(text):
        name = _TWO_NAMES.search(text, max(0, found.start() - 60), found.start())
        if name is None:
            continue
        start, stop = name.span("name")
        while start < stop:  # words before the name that only look like its beginning
            end, words = _take(text, start)
            if end == stop and len(words) > 1:
                yield Span(start, end, "NAME")
                break
            space = text.find(" ", start, stop)
            if space < 0:
                break
            start = space + 1


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
    (_in_form, _FORM.bit), (_greeted, _GREETINGS.bit), (_signed, _ALWAYS), (_with_degree, _ALWAYS),
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
