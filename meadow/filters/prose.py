"""What of a text is prose, by which its language can be told; the rest is set aside.

Code, formulas, addresses and markup go, then values, codes, abbreviations and single letters; `TERM` has
what medicine took from Latin and Greek.
"""

from __future__ import annotations

import re
from functools import cache

#: Characters of a long text that are looked at, in windows at its beginning, middle and end. 300 and 900
#: gave the same verdicts on the whole texts but for one.
SAMPLE = 600

# Code as `meadow.parse.htmltext` writes it, LaTeX, addresses and tags, each with a sign that must be there. All
# repetitions have bounds or end at a character that cannot begin them, so that hostile text costs no more
# than linear time. A pattern of those alone whose sign is there takes a fifth of the time of all of them,
# above all without e-mail addresses, which may begin at any letter; so do the literal first characters.
_ASIDE = (
    (("`",), r"```.*?(?:```|\Z)|`[^`\n]*`"),
    (("$",), r"\$\$[^$]{1,1000}\$\$|\$(?=\S)[^$\n]{1,300}(?<=\S)\$(?!\d)"),
    (
        ("\\",),
        r"\\\((?:(?!\\\().){1,500}?\\\)"
        r"|\\\[(?:(?!\\\[).){1,1000}?\\\]"
        r"|\\begin\{(\w{1,20}\*?)\}(?:(?!\\begin).){0,1000}?\\end\{\1\}"
        r"|\\[A-Za-z]+(?:\{[^{}]{0,100}\})*",
    ),
    (("://", "www."), r"h(?<=\bh)ttps?://\S+|w(?<=\bw)ww\.\S+"),
    (("@",), r"[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{1,100}"),
    (("<",), r"</?[A-Za-z][^<>]{0,300}>"),
)
_MARKS = ("`", "$", "\\", "://", "www.", "@", "</", "<br", "<img")


@cache
def _aside(*there: bool) -> re.Pattern[str]:
    patterns = [pattern for (_, pattern), found in zip(_ASIDE, there, strict=True) if found]
    return re.compile("|".join(patterns), re.DOTALL)


# Values, codes, formulas, variants: any ASCII word with a digit.
_WITH_DIGIT = re.compile(r"[!-~]*[0-9][!-~]*")
# mRNA, pH, mmHg, NaCl; and ECG, PMIDs, BRCA.
_MIXED = re.compile(r"\b(?:[A-Za-z]*[a-z][A-Z][A-Za-z]*|[A-Z][A-Za-z]?[A-Z]+s?|[A-Z]{2,}s?)\b")
# Letters standing alone: options, variables, Greek prefixes; and the "c/o", "s/p", "w/" of notes.
_SINGLE = re.compile(r"(?<!\w)(?:et al|[A-Za-z]/[A-Za-z]?|[B-HJ-Zb-df-hj-np-tv-xz]|[\u0370-\u03ff])(?!\w)")
# Everything of ASCII that is no letter; the apostrophe stays, for "it's" and "l'estomac".
BLANKS = {code: " " for code in range(128) if not chr(code).isalpha() and chr(code) != "'"}

# Words of the trade, by how they end. Generous, since they are taken out only where the first judge is
# unsure, and what English loses with "virus" or "analysis" is not what it is recognised by.
TERM = re.compile(
    r"""(?<!\w)(?:
      \w{2,}(?:us|um|tio|ae|orum|arum|oris|alis|aris|oides?|oidea|oideum|ii)         # anatomy, species
    | \w{3,}(?:is|ens|ans|ei|ales|ares|ia|ites)
    | \w{2,}(?:omas?|omata|itis|itides|os[ei]s|a?emias?|a?emic|urias?|algias?|plasias?|penias?|megaly|pathy
        |pathies|trophy|trophic|ectomy|otomy|ostomy|oscopy|rrh?o?ea|rrhagia|pnoe?a|plegia|paresis|phagia)
    | \w{2,}(?:mab|n[iy]b|pril|sartan|olol|alol|statin|azoles?|cillin|m[iy]cin|oxacin|cyclines?|dipine
        |gliptin|gliflozin|tides?|vir|zepam|zolam|caine|triptan|setron|platin|rubicin|taxel|tecan|parin|xaban
        |gatran|thiazide|semide|terol|sone|solone|lukast|milast|dronate|profen|proxen|oxicam|coxib|fenac
        |phylline|barbital|cept|poetin|tropin|physin|pressin|opram|bactam|penem|thacin|vedotin)
    | \w{4,}(?:ines?|ides?|ases?|ol|yl|oxin|amin|erone|iol)
    | (?:arteria|vena|fossa|bursa|fascia|lamina|crista|spina|linea|tunica|valva|glandula|medulla|porta|aorta
        |substantia|vesica|vagina|ansa|cauda|chorda|capsula|cartilago|articulatio|incisura|tuberositas
        |interna|externa|media|magna|parva|propria|mola|hydrops|placenta|sinistra|dextra|superior|inferior
        |anterior|posterior|minor|major|nervi|musculi|rami|nodi|ossis|cordis|capitis|os|ossa|ren|cor|hepar|lien|pulmo
        |colon|caput|caecum|origo|insertio|innervatio|functio|foramen|processus|tensor|levator|flexor
        |extensor|abductor|adductor|biceps|triceps|quadriceps|ani|dorsi|abdominis|femoris|brachii|carpi)
    | (?:mmol|mcg|mg|kg|ng|pg|ug|µg|ml|dl|fl|iu|meq|min|mmhg|po|od|bd|bid|tid|qid|qd|qhs|prn|sc|im|iv|inj|tab
        |caps|gtt|pt|hx|rx|sx|tx|dx|fx)
    )(?!\w)""",
    re.VERBOSE | re.IGNORECASE,
)


def prose(text: str) -> str:
    """The text without code, formulas, addresses and markup, each replaced by a blank."""
    for mark in _MARKS:
        if mark in text:
            there = (any(sign in text for sign in signs) for signs, _ in _ASIDE)
            return _aside(*there).sub(" ", text)
    return text


def words(text: str) -> str:
    """What is left of prose without values, codes, abbreviations and single letters."""
    text = _sample(text)
    # Capitals throughout, but for a unit perhaps, are no abbreviations.
    start = text[:100]
    if sum(map(str.isupper, start)) > sum(map(str.islower, start)):
        text = text.lower()
    text = _WITH_DIGIT.sub(" ", text)
    text = _SINGLE.sub(" ", _MIXED.sub(" ", text))
    return once(text.translate(BLANKS))


def once(text: str) -> str:
    """Each word once: a table that repeats four words says no more than the four."""
    return " ".join(dict.fromkeys(text.split()))


def _sample(text: str) -> str:
    if len(text) <= SAMPLE:
        return text
    part = SAMPLE // 3
    middle = (len(text) - part) // 2
    return f"{text[:part]} {text[middle : middle + part]} {text[-part:]}"


def holds(text: str, letters: int) -> bool:
    """Whether there are so many letters; a Chinese, Japanese or Korean character counts for three."""
    # At worst two characters in three are blanks and vowel signs.
    return sum(3 if char >= "\u2e80" else 1 for char in text[: 3 * letters] if char.isalpha()) >= letters
