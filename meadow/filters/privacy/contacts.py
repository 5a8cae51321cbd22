"""Rules for e-mail and web addresses, machines' addresses, handles and telephone numbers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from contextlib import suppress

from meadow.filters.privacy import numbers
from meadow.filters.privacy.naming import LISTS
from meadow.filters.privacy.text import Span, Text, cues, free

_LOCAL = re.compile(r"[\w.+%-]{1,64}\Z")
_DOMAIN = re.compile(r"(?:[\w-]{1,63}\.){1,8}(?P<top>[^\W\d_]{2,24}|xn--[\w-]{2,59})(?![\w-])")
#: What follows the last dot of file names such as ``image@2x.png``.
_FILES = frozenset("png jpg jpeg gif svg webp css js ts py pdf html htm json so dll".split())
#: Accounts of machines, not of people.
_MACHINES = frozenset(("git", "hg", "svn", "root@localhost"))
_TOPS = "com|org|net|edu|gov|mil|int|info|biz|io|co|me|uk|us|ca|au|de|at|ch|fr|es|it|nl|be|in|br|jp|cn|ru|pl|se|no|dk|fi|ie|za"
_SPELLED = re.compile(
    r"(?P<local>[\w+-]{1,40}(?:(?:\.| dot | ?[\[({]dot[\])}] ?)[\w+-]{1,40}){0,4})"
    r"(?:(?P<odd> ?[\[({<] ?at ?[\])}>] ?)| at )"
    r"[\w-]{1,40}(?P<dots>(?:(?:\.| dot | ?[\[({] ?(?:dot|\.) ?[\])}] ?)[\w-]{1,40}){0,4}?)"
    rf"(?P<dot>\.| dot | ?[\[({{] ?(?:dot|\.) ?[\])}}] ?)(?:{_TOPS})(?![\w-])",
    re.IGNORECASE,
)
#: Words before "at example dot com" that make it a place to look at.
_LOOKING = frozenset(
    "look looked looking looks available found find hosted it is are was us more here this that there page site "
    "them him her read see bought buy download downloads account one published post posted works work".split()
)


def _email(text: str) -> Iterator[Span]:
    at = text.find("@")
    while at >= 0:
        local = _LOCAL.search(text, max(0, at - 64), at)
        domain = _DOMAIN.match(text, at + 1, at + 256)
        if local and domain and domain["top"].lower() not in _FILES:
            start = local.start() + len(local[0]) - len(local[0].lstrip(".-%"))
            if start < at and text[start:at] not in _MACHINES:
                yield Span(start, domain.end(), "EMAIL")
        at = text.find("@", at + 1)


def _spelled_email(text: str) -> Iterator[Span]:
    for found in _SPELLED.finditer(text):
        word = re.split(r"\W+", found["local"])[-1].lower()
        if found["odd"] is None and (
            word in _LOOKING or "dot" not in (found["dot"] + found["dots"]).lower().split()
        ):
            continue
        yield Span(found.start(), found.end(), "EMAIL")


_URL = re.compile(
    r"(?:[Hh]ttps?://|HTTPS?://|www\.|(?:facebook|instagram|twitter|linkedin|tiktok|reddit)\.com/|t\.me/)[^\s<>\"'\])}|]+"
)
#: Addresses that name a person: profiles on sites of profiles, user pages anywhere, log-in names.
_PERSONAL = re.compile(
    r"""
    ^(?:https?://)?(?:
      [^/?\#]*:[^/?\#]*@
    | (?:[\w-]+\.)*(?:facebook|fb|instagram|twitter|x|tiktok|pinterest|snapchat|vk|threads)\.(?:com|net)/
      (?!(?:sharer?|hashtag|search|intent|groups|pages|watch|events?|help|policies|home|p|explore|reels?|tv|i|login|
         about|legal|privacy|tos|dialog|plugins|business|developers|docs|settings|notes|photo|story)(?:[./?\#]|$))
      (?:profile\.php\?id=\d+|@?[\w.-]{2,})
    | (?:[\w-]+\.)*linkedin\.com/(?:in|pub)/[\w%-]+
    | (?:[\w-]+\.)*youtube\.com/(?:@|user/|channel/|c/)[\w-]+
    | (?:[\w-]+\.)*reddit\.com/(?:u|user)/[\w-]+
    | t\.me/\w+ | wa\.me/\d+
    | (?:github|gitlab)\.com/
      (?!(?:features|topics|explore|about|pricing|marketplace|login|join|search|trending|collections|sponsors|
         orgs|settings|notifications|security|contact|readme|blog|customer-stories|enterprise)/?$)[\w-]+/?$
    | [^/?\#]+/(?:[^?\#]*/)?(?:users?|members?|profiles?|people|u)/(?:-?\d+(?:/|$)|[\w.%-]{3,}/?$)
    | [^/?\#]+/(?:[^?\#]*/)?(?:profile|user):?/?\w[\w.%-]*\d{3}[\w.%-]*
    | [^/?\#]+/(?:[^?\#]*/)?wiki/User:
    | [^/?\#]+/(?:[^?\#]*/)?@[\w.-]+
    | [^/?\#]+/~[\w.-]+(?:/?$|/(?:cv|resume|about|contact|bio)[\w.]*$)
    | [^?\#]*[?&](?:user|user_?name|user_?id|uid|login|e-?mail|patient(?:_?id)?|member_?id|mrn|ssn)=[^&\s]
    )""",
    re.IGNORECASE | re.VERBOSE,
)


_PERSONAL_GATE = re.compile(
    r"[@~]|facebook|fb\.|instagram|twitter|/x\.com|tiktok|pinterest|snapchat|vk\.com|threads\.|linkedin|youtube|reddit|t\.me|wa\.me|git(?:hub|lab)\.com|"
    r"user|member|profile|people|/u/|login|mail=|uid=|patient|mrn|ssn",
    re.IGNORECASE,
)


def _url(text: str) -> Iterator[Span]:
    for found in _URL.finditer(text):
        url = found[0].rstrip(".,;:!?*_")
        # The pattern of personal ones is long: most are told by a word that they lack.
        if free(text, found.start()) and _PERSONAL_GATE.search(url) and _PERSONAL.match(url):
            yield Span(found.start(), found.start() + len(url), "URL")


_IPV4 = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)")
#: Before four numbers with dots between: enzyme classes, versions, sections; and what is an address.
_NO_IP = re.compile(
    r"(?:\b(?:EC|E\.C\.|v|ver\.?|versions?|release|build|section|sect\.|chapter|table|fig(?:ure)?\.?|update|kernel|"
    r"firmware|ios|android|ubuntu|opset)|§)[ :#.]{0,3}\Z",
    re.IGNORECASE,
)
_IP_WORD = re.compile(
    r"\b(?:ip|ipv4|address|host|server|client|logged|login|visit|ping|from|connected)\b[^.\n]{0,12}\Z", re.I
)
_PRIVATE_172, _PRIVATE_192 = ipaddress.IPv4Network("172.16.0.0/12"), ipaddress.IPv4Network("192.168.0.0/16")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:|:(?=:)){2,7}(?::?[0-9A-Fa-f]{1,4}){1,7}(?![\w:])")
_MAC = re.compile(r"(?<![\w:.-])[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w:-])")


def addresses(text: str, start: int, end: int) -> Iterator[Span]:
    for found in _IPV4.finditer(text, start, end):
        octets = found[0].split(".")
        if not free(text, found.start()) or any(
            int(octet) > 255 or (octet[0] == "0" and len(octet) > 1) for octet in octets
        ):
            continue
        before = text[max(0, found.start() - 30) : found.start()]
        if _NO_IP.search(before) or not _public(ipaddress.IPv4Address(found[0])):
            continue
        # Enzyme classes begin with 1 to 7, versions are of small numbers.
        likely = int(octets[0]) > 7 and sum(len(octet) > 1 for octet in octets) > 1
        if likely or _IP_WORD.search(before):
            yield Span(found.start(), found.end(), "IP")


def _ipv6(text: str) -> Iterator[Span]:
    for found in _IPV6.finditer(text):
        try:
            address = ipaddress.IPv6Address(found[0])
        except ValueError:
            continue
        if sum(char in "0123456789" for char in found[0]) > 2 and _public(address):
            yield Span(found.start(), found.end(), "IP")


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is some machine's on the internet; those set aside for examples count as such."""
    quiet = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    if isinstance(address, ipaddress.IPv6Address):
        return not quiet and not address.is_site_local
    first = int(address) >> 24
    private = first in (0, 10) or address in _PRIVATE_172 or address in _PRIVATE_192
    return not (quiet or private or first >= 240 or len(set(address.packed)) == 1)


_HANDLE = re.compile(r"@(?=[A-Za-z])(\w(?:[\w-]|\.(?=\w))*)(?![\w@(\[{=/:]|-)")
#: Annotations and decorators of programming languages, rules of style sheets, tags of documentation.
_CODE = LISTS["code"]


_NOT_BEFORE_HANDLE = frozenset("_.@/`\\&=+%$'\"(-")


def _handle(text: str) -> Iterator[Span]:
    for found in _HANDLE.finditer(text):
        if found.start() and (
            text[found.start() - 1].isalnum() or text[found.start() - 1] in _NOT_BEFORE_HANDLE
        ):
            continue
        name = found[1].rstrip(".").lower()
        if len(name) < 2 or name.split(".")[0] in _CODE:
            continue
        line = text[text.rfind("\n", 0, found.start()) + 1 : found.start()]
        rest = text[found.end() : found.end() + 40].split("\n", 1)
        # A word alone in its line, with code below it, is a decorator.
        if (
            not line.strip()
            and not rest[0].strip()
            and len(rest) > 1
            and re.match(r"\s*(def|class|@|async|public|private)\b", rest[1])
        ):
            continue
        yield Span(found.start(), found.end(), "HANDLE")


_EXTENSION = r"(?:,? ?(?:ext\.?|extension|x) ?\d{1,5}(?!\d))?"
_AMERICAN = re.compile(
    rf"(?:\+?1[ .-]?)?(?:\((?P<area>[2-9]\d\d)\) ?|(?P<area2>[2-9]\d\d)(?P<sep>[-. ]))[2-9]\d\d[-. ]\d{{4}}{_EXTENSION}(?![\w-]|\.\d)"
)
_INTERNATIONAL = re.compile(
    r"(?:\+|00(?=[1-9]\d ))\d(?:[ .\-/]{0,2}(?:\(0?\d{1,4}\)[ .\-/]?)?\d){6,14}(?![\w-]|\.\d)"
)
_NATIONAL = re.compile(r"\(?0\d{1,4}\)?(?:[ .\-/]\d{2,8}){1,4}(?![\w-]|\.\d)")
_PHONE_CUES = cues(
    "phone telephone tel tél telefon teléfono telefono handy mobile cell cellphone móvil fax faxed pager whatsapp viber signal dial "
    "ring rung call called text contact reach reached number"
)
_LABELLED_PHONE = re.compile(
    r"(?:[ .:#-]|\b(?:no|nr|number|me|us|him|her|them|at|on|under|is|the|office|ward|clinic|home|family|to|phone)\b){1,9}"
    rf"(?P<number>\+?\(?\d(?:[ .\-/()]{{0,2}}\d){{5,14}}{_EXTENSION})(?![\w-]|\.\d|[ ]?(?:mg|ml|mcg|units?|times|people|%))",
    re.IGNORECASE,
)
#: Years from one to another, and dates with a time: no telephone numbers.
_YEARS = re.compile(r"\(?(?:1[5-9]|20)\d\d ?[-/. ] ?(?:1[5-9]|20)\d\d|(?:\d{1,2}[/.-]){2}\d{4}\b.*")
#: Toll-free American prefixes: lines of institutions, and help that a reader may need.
_TOLL_FREE = frozenset(("800", "833", "844", "855", "866", "877", "888"))
#: Countries whose numbers are looked for without their country code.
_REGIONS = ("GB", "DE", "FR", "AU", "IN", "IT", "NL", "CH", "AT", "BE", "IE")


def phones(screened: Text, start: int, end: int) -> Iterator[Span]:
    text = screened.text

    def around(found: re.Match[str]) -> bool:
        return _AROUND_PHONE.search(screened.lower, max(0, found.start() - 40), found.end()) is not None

    for found in _AMERICAN.finditer(text, start, end):
        if (found["area"] or found["area2"]) in _TOLL_FREE or not free(text, found.start()):
            continue
        number = numbers.digits(found[0])
        # Three groups with blanks between them are as often a row of a table.
        table = found["sep"] == " " and len(number) == 10
        if table and (numbers.nhs(number) or not around(found)):
            continue
        yield Span(found.start(), found.end(), "PHONE")
    for found in _INTERNATIONAL.finditer(text, start, end):
        number = numbers.digits(found[0])
        if (number[:1] == "1" and number[1:4] in _TOLL_FREE) or not free(text, found.start()):
            continue
        if (found[0][0] == "+" or around(found)) and _possible("+" + number.removeprefix("00"), found[0]):
            yield Span(found.start(), found.end(), "PHONE")
    for found in _NATIONAL.finditer(text, start, end):
        number, at = found[0], found.start()
        if not 9 <= len(numbers.digits(number)) <= 12 or not free(text, at, ":"):
            continue
        # Pairs of hexadecimal digits and dates with a time look alike.
        if not _YEARS.fullmatch(number) and not _HEX.search(text, max(0, at - 5), at) and _valid(number):
            yield Span(at, found.end(), "PHONE")


_PAIRS = re.compile(r"(?:\d\d? ){2,}\d\d?")
_HEX = re.compile(r"[0-9a-fA-F]{2} {1,3}\Z")


def labelled_phones(screened: Text) -> Iterator[Span]:
    for _, _, found in screened.after(_PHONE_CUES, _LABELLED_PHONE):
        number = numbers.digits(found["number"])
        if _YEARS.fullmatch(found["number"]) or (len(number) < 9 and _PAIRS.fullmatch(found["number"])):
            continue
        if 7 <= len(number) <= 15 and number.removeprefix("1")[:3] not in _TOLL_FREE:
            yield Span(found.start("number"), found.end("number"), "PHONE")


_AROUND_PHONE = re.compile(
    r"phone|\btel\b|\btél|telefon|teléf|handy|mobile|\bcell\b|móvil|\bfax|pager|whats ?app|viber|\bdial|\bring\b|\brung\b|\bcall|"
    r"\btext|contact|reach|number"
)


def _possible(number: str, written: str) -> bool:
    import phonenumbers

    for text in (written, number):
        with suppress(phonenumbers.NumberParseException):
            if phonenumbers.is_possible_number(phonenumbers.parse(text, None)):
                return True
    return False


def _valid(number: str) -> bool:
    import phonenumbers

    with suppress(phonenumbers.NumberParseException):
        return any(
            phonenumbers.is_valid_number_for_region(phonenumbers.parse(number, region), region)
            for region in _REGIONS
        )
    return False


_DOT_CUES = cues("dot at")
_DOT_COM = re.compile(rf" dot (?:{_TOPS})\b", re.IGNORECASE)
_BRACKETED_AT = re.compile(r"[\[({<] ?[aA][tT] ?[\])}>]")
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]")


def electronic(screened: Text) -> Iterator[Span]:
    """E-mail addresses, handles, personal web addresses, IPv6 and hardware addresses."""
    text, words = screened.text, screened.words
    if "@" in text:
        yield from _email(text)
        yield from _handle(text)
    if b"at" in words and (_BRACKETED_AT.search(text) or (b"dot" in words and _DOT_COM.search(text))):
        yield from _spelled_email(text)
    if "://" in text or "www." in text or ".com/" in text or "t.me/" in text:
        yield from _url(text)
    if text.count(":") > 2 and _COLONS.search(text):
        yield from _ipv6(text)
        for found in _MAC.finditer(text):
            yield Span(found.start(), found.end(), "DEVICE")
