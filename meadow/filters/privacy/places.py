"""Rules for street addresses and post codes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from meadow.filters.privacy.text import Cues, Span, Text, cues, free

_SUFFIX = (
    r"(?:Street|St\b\.?|Avenue|Ave\b\.?|Road|Rd\b\.?|Lane|Ln\b\.?|Drive|Dr\b\.?(?=\s*(?:[,;\n]|\Z|[A-Z][a-z]+,))|Boulevard|Blvd\b\.?|Court|Crescent|"
    r"Terrace|Close|Square|Parkway|Pkwy\b\.?|Highway|Hwy\b\.?|Circle|Mews|Gardens|Grove|Place|Way|Row|Walk|Hill)\b"
)
_STATES = "A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]"
_POSTCODE = r"(?:A[BL]|B[ABDHLNRST]?|C[ABFHMORTVW]|D[ADEGHLNTY]|E[CHNX]?|F[KY]|G[LUY]?|H[ADGPRSUX]|I[GMPV]|JE|K[ATWY]|L[ADELNSU]?|M[EKL]?|N[EGNPRW]?|O[LX]|P[AEHLOR]|R[GHM]|S[AEGKLMNOPRSTWY]?|T[ADFNQRSW]|UB|W[ACDFNRSV]?|YO|ZE)\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2}"
_CITY = r"[A-Z][\w.'’-]+(?:[ -][A-Z][\w.'’-]+){0,3}"
_TAIL = (
    r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Fl)\b\.? ?#?\w{1,5}|,? #\w{1,5})?"
    rf"(?:,? {_CITY},? (?:(?:{_STATES}) \d{{5}}(?:-\d{{4}})?|{_POSTCODE})|,? \d{{4,5}} {_CITY}|,? {_POSTCODE})?"
)
_STREET = re.compile(
    rf"[0-9][0-9]{{0,4}}[A-Za-z]?,? (?:[NSEW]\.? |North |South |East |West )?(?!Lead |Day |Days |Way |Step |Year |Month |Hour |Week )"
    rf"(?:(?:\d{{1,3}}(?:st|nd|rd|th)|(?!St )[A-Z][\w'’-]*\.?) ){{1,4}}{_SUFFIX}{_TAIL}"
)
_RUE = re.compile(
    r"[0-9][0-9]{0,3}(?: ?(?:bis|ter))?,? (?:rue|avenue|boulevard|bd|place|chemin|allée|quai|impasse|cours|route) "
    rf"(?:(?:de|du|des|la|le|les|d['’]|l['’]) ?){{0,2}}[A-ZÀ-Þ][\w'’-]*(?: [A-ZÀ-Þ][\w'’-]*){{0,3}}{_TAIL}"
)
_FOREIGN = re.compile(
    r"(?:[A-ZÄÖÜ][\wäöüß-]*(?:straße|strasse|str\.|gasse|allee|platz|straat|laan|gracht|gatan|vägen)"
    r"|(?:Calle|Avenida|Avda\.|Plaza|Paseo|Carrer|Viale|Piazza|Corso|Rua|Straße|ul\.|Via(?= [A-Z]\w+(?: \w+)?,? \d+,? \d{5}))"
    r" (?:(?:de|del|della|di|da|do|la|las|los) ){0,2}[A-ZÀ-Þ][\w'’-]*(?: [A-ZÀ-Þ][\w'’-]*){0,2})"
    rf",? (?:n[º°.]? ?)?\d{{1,4}}[a-z]?(?![\w%]){_TAIL}"
)
_BOX = re.compile(r"\b(?:P\. ?O\.|PO|Post Office) ?Box \d{1,6}\b", re.IGNORECASE)
_ZIP = re.compile(
    r"\b(?:zip|postal|post)[ -]?codes?(?: is|:|#)? ?(?P<value>\d{5}(?:-\d{4})?|[A-Z]\d[A-Z] ?\d[A-Z]\d)\b",
    re.I,
)
_POST = re.compile(rf"(?<![\w.-])(?:{_POSTCODE}|[ABCEGHJ-NPRSTVXY]\d[A-Z] \d[A-Z]\d)(?![\w-])")
_STREETS = cues(
    "street st avenue ave road rd lane ln drive dr boulevard blvd court crescent terrace close square parkway pkwy highway hwy circle mews "
    "gardens grove place way row walk hill"
)
_RUES = cues("rue avenue boulevard place chemin allée quai impasse bd cours route")
_FOREIGN_CUES = cues("calle avenida avda plaza paseo carrer viale piazza corso rua straße ul via")
_BOX_CUES, _ZIP_CUES = cues("box"), cues("zip code codes postcode zipcode")
_OTHER_ENDS = ("gracht", "gasse ", "platz ")
_FOREIGN_ENDS = ("straße", "strasse", "str. ", "straat", *_OTHER_ENDS)
_STATE_ZIP = re.compile(rf"(?:{_STATES}) \d{{5}}(?:-\d{{4}})?(?!\d)")
_CITY_BEFORE = re.compile(rf"(?<![\w.'’-]){_CITY},? \Z")
_POST_GATE = re.compile(r"[A-Z][0-9][A-Z0-9]? [0-9][A-Z]")


def places(screened: Text) -> Iterator[Span]:
    text = screened.text

    def capitalised(cues: Cues) -> bool:
        return any(word.capitalize() in text for word in screened.heads(cues))

    def foreign_end() -> bool:
        ends = _FOREIGN_ENDS if "str" in screened.lower else _OTHER_ENDS
        return any(end in screened.lower for end in ends)

    for pattern, possible in ((_STREET, capitalised(_STREETS)), (_RUE, screened.has(_RUES))):
        for found in pattern.finditer(text) if possible else ():
            if free(text, found.start(), ","):
                yield Span(found.start(), found.end(), "ADDRESS")
    if capitalised(_FOREIGN_CUES) or foreign_end():
        yield from _all(_FOREIGN, text)
    for found in _STATE_ZIP.finditer(text) if screened.after_capital else ():
        city = _CITY_BEFORE.search(text, max(0, found.start() - 60), found.start())
        if city:
            yield Span(city.start(), found.end(), "ADDRESS")
    if screened.has(_BOX_CUES):
        yield from _all(_BOX, text)
    if screened.after_capital and _POST_GATE.search(text):
        yield from _all(_POST, text)
    if screened.has(_ZIP_CUES):
        yield from _all(_ZIP, text)


def _all(pattern: re.Pattern[str], text: str) -> Iterator[Span]:
    for found in pattern.finditer(text):
        group = "value" if "value" in pattern.groupindex else 0
        yield Span(found.start(group), found.end(group), "ADDRESS")
