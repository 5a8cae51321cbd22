"""Damaged encodings: repaired where that is certain, told of where letters are lost."""

from __future__ import annotations

import re
from urllib.parse import unquote

_FOREIGN = re.compile("[\x80-\U0010ffff]+")
# Neighbours that healthy text is full of: quotes and dashes, Greek, numbers and signs set together.
_HEALTHY = re.compile(
    "[–—‑‒―’‘“”…•·°±×÷≥≤≈≠∼µα-ωΑ-Ω₀-₉⁰-⁹⁺⁻₊₋²³¹½¼¾→←↑↓↔®™©′″\xa0\u2002-\u200b\u202f\u2212\u2260]+"
)
# A sign of its own and the sign after it: square and cubic ångströms, Ø ± 5 mm, √±3. `ftfy` reads them as
# halves of a letter; inside words ("Espa√±a") they are.
_SIGNS = re.compile("(?<![^\x00-@\\[-`{-\x7f])([ÅØÐß×√≈])(?=[¹²³°±](?![À-ÿ]))")
_MASK = {letter: chr(0xF8A0 + at) for at, letter in enumerate("ÅØÐß×√≈")}
_UNMASK = {ord(mask): letter for letter, mask in _MASK.items()}
# Percent-encoded letters and apostrophes that a title kept from its address: "M%C3%A9ni%C3%A8re%27s".
_PERCENT = re.compile(
    r"(?<![\w/.:=&?%-])[A-Za-z][\w.-]*(?:%(?:27|[CDE][0-9A-F](?:%[89AB][0-9A-F])+)[\w.-]*)+(?![\w/=&%])"
)
_ANY_PERCENT = re.compile("%(?:2[67]|[CDE][0-9A-F]%)")
_AMPERSAND = re.compile(r"(?<=[a-z] )%26(?= [A-Za-z])")
# A curly quote or dash in Windows' code page, whose second byte was set right and whose first was left.
_HALF_RIGHT = re.compile("(?<=[a-z.,;:!?])Â(?=[‘’“”–—…])")
# What is left where half of a sequence is lost.
_BROKEN = re.compile("â€|ï¿½|‚Ä")
# "I??e been", "Don?? worry": an apostrophe and its neighbour that became question marks.
_LOST_APOSTROPHE = re.compile(
    r"\b(?:I|[Yy]ou|[Ww]e|[Tt]hey|[Ii]t|[Tt]hat|(?:[Dd]o|[Cc]a|[Ww]o|[Ii]s|[Aa]re|[Ww]as|[Ww]ere|[Dd]id|[Dd]oes|[Hh]ave|[Hh]as|[Hh]ad|[Cc]ould|[Ww]ould|[Ss]hould)n)"
    r"\?\?(?:[eldstm]\b| (?:about|afraid|also|been|eat|experiencing|feel|feeling|going|got|have|important|just|know|likely|not|possible|really|so|sorry|sure|the|to|trying"
    r"|understand|want|worried|worry|an?)\b)"
)


def repaired(text: str) -> str:
    """Text as it was before a wrong decoding; healthy text comes back unchanged."""
    if "%" in text and _ANY_PERCENT.search(text):
        text = _PERCENT.sub(_unquoted, text)
        if " %26 " in text:
            text = _AMPERSAND.sub("&", text)
    if text.isascii():
        return text
    for run in set(_FOREIGN.findall(text)):
        if (len(run) > 1 or run in "ÃÂ" or run <= "\x9f") and not _HEALTHY.fullmatch(run):
            break
    else:
        return text
    from ftfy import fix_encoding

    if "Â" in text:
        text = _HALF_RIGHT.sub("", text)
    # Line by line, as `ftfy` does it: a line is one encoding, and the line of an option is repaired in
    # the question as in the answer.
    lines = []
    for line in text.split("\n"):
        if not line.isascii():
            masked = _SIGNS.sub(lambda found: _MASK[found[1]], line)
            fixed = fix_encoding(masked)
            # An incomplete sequence becomes U+FFFD, which is no repair.
            if fixed != masked and fixed.count("\ufffd") <= line.count("\ufffd"):
                line = fixed.translate(_UNMASK)
        lines.append(line)
    return "\n".join(lines)


def _unquoted(found: re.Match[str]) -> str:
    try:
        return unquote(found[0], errors="strict")
    except UnicodeDecodeError:
        return found[0]


def damage(text: str, replacement_characters: int) -> str | None:
    if "??" in text:
        found = _LOST_APOSTROPHE.search(text)
        if found is not None:
            return f"lost letters: {text[max(0, found.start() - 20) : found.end() + 20]}"
    if text.isascii():
        return None
    if text.count("\ufffd") > replacement_characters:
        at = text.index("\ufffd")
        return f"{text.count(chr(0xFFFD))} replacement characters: {text[max(0, at - 20) : at + 20]}"
    found = _BROKEN.search(text)
    return f"mojibake: {text[max(0, found.start() - 20) : found.end() + 20]}" if found else None
