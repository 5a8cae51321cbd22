"""Rules for numbers of people and of what is theirs: told by a checksum, or by the label before them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib import resources
from typing import NamedTuple

from meadow.filters.privacy import contacts, numbers
from meadow.filters.privacy.text import Span, Text, cues, free


class _Shape(NamedTuple):
    type: str
    pattern: re.Pattern[str]
    check: Callable[[str], bool] | None = None


def _shape(type_: str, pattern: str, check: Callable[[str], bool] | None = None) -> _Shape:
    return _Shape(type_, re.compile(rf"{pattern}(?![\w/-]|\.\d)"), check)


#: Shapes of digits and separators.
_DIGIT_SHAPES = (
    _shape("ID", r"\d{3}-\d{2}-\d{4}"),
    _shape("ID", r"\d{3}[ -]\d{3}[ -]\d{4}", lambda text: numbers.nhs(numbers.digits(text))),
    _shape("ID", r"[2-9]\d{3} \d{4} \d{4}", lambda text: numbers.aadhaar(numbers.digits(text))),
    _shape("ID", r"\d{3}\.\d{3}\.\d{3}-\d{2}", lambda text: numbers.cpf(numbers.digits(text))),
    _shape("ID", r"\d{1,2}\.\d{3}\.\d{3}-[\dkK]", numbers.rut),
    _shape("ID", r"756\.\d{4}\.\d{4}\.\d{2}", lambda text: numbers.ahv(numbers.digits(text))),
    _shape("ID", r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}", lambda text: numbers.belgian(numbers.digits(text))),
    _shape("ID", r"[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}", numbers.nir),
    _shape("ID", r"(?:\d{2})?\d{6}[-+]\d{4}", lambda text: numbers.personnummer(numbers.digits(text)[-10:])),
    _shape(
        "ACCOUNT",
        r"[3-6]\d{3}([ -]?)(?:\d{4}\1\d{4}\1\d{4}(?:\1?\d{3})?|\d{6}\1\d{4,5})",
        lambda text: numbers.card(numbers.digits(text)),
    ),
)  # fmt: skip
#: Shapes that hold capital letters, after digits and before them.
_DIGITS_THEN_LETTER = (
    _shape("ID", r"(?:\d{8}|[XYZ]-?\d{7})-?[A-HJ-NP-TV-Z]", numbers.dni),
    _shape("ID", r"(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2])\d{2}[-+A]\d{3}[0-9A-Y]", numbers.hetu),
    _shape("ID", r"\d{6}(?:19|20)\d{2}(?:0[1-9]|1[0-2])\d{5}[\dX]", numbers.chinese),
)
_LETTERS_FIRST = (
    _shape("ID", r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]", numbers.codice_fiscale),
    _shape("ID", r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]"),
    _shape("ACCOUNT", r"[A-Z]{2}\d{2} ?(?:[A-Z0-9]{4} ?){2,7}[A-Z0-9]{1,4}", numbers.iban),
)
#: Numbers of literature and registers, whose digits must not be taken for a person's.
_CITED = re.compile(
    r"\b(?:doi|pmid|pmcid|pmc|isbn(?:-1[03])?|issn|arxiv|nct|orcid|cas|ndc|loinc|cpt|snomed(?: ct)?|icd(?:-\d+)?|umls|"
    r"isrctn|euctr|eudract|patent|grch\d+|chr\w*|upc|ean|asin)\b[\s:#/.()no-]{0,8}[\w./()-]*\Z|10\.\d{4,9}/\S*\Z|\w+:/\S*\Z",
    re.IGNORECASE,
)


def _numbers(shapes: tuple[_Shape, ...], text: str, start: int, end: int) -> Iterator[Span]:
    for shape in shapes:
        for found in shape.pattern.finditer(text, start, end):
            if free(text, found.start()) and (shape.check is None or shape.check(found[0])):
                yield Span(found.start(), found.end(), shape.type)


_IS = r"(?:[ :.#=(-]|\b(?:is|was|of|no|number|nr|my|her|his|id)\b){0,6}"
#: What labels have in common: the value of most, and "number" and its kin, which some cannot do without.
_PIECES = {
    "{VALUE}": r"(?P<value>[A-Z]{0,4}[ -]?\d[\dA-Z]*(?:[-./ ]?[\dA-Z]*\d[\dA-Z]*){0,7}|[A-Z\d]+(?:-[A-Z\d]+)*)",
    "{N}": r"(?: ?(?:number|num|no|nr|id|card)\b\.?| ?#| card number)?",
    "{NEED}": r"(?: ?(?:number|num|no|nr|id)\b\.?| ?#| card number)",
}


class _Label(NamedTuple):
    type: str
    pattern: re.Pattern[str]
    least: int


def _labels() -> dict[str, list[_Label]]:
    """Words that labels end with, and what must follow each, as ``labels.tsv`` has them."""
    found: dict[str, list[_Label]] = defaultdict(list)
    lines = (
        (resources.files("meadow.filters.privacy") / "labels.tsv").read_text(encoding="utf-8").splitlines()
    )
    for words, type_, least, *patterns in (line.split("\t") for line in lines[1:]):
        for name, piece in _PIECES.items():
            patterns = [pattern.replace(name, piece) for pattern in patterns]
        after, value = patterns
        pattern = re.compile(rf"{after}(?![^\W\d_]){_IS}(?<!\w){value}(?!\w|-\w)", re.IGNORECASE)
        for word in words.split():
            found[word].append(_Label(type_, pattern, int(least)))
    return dict(found)


_LABELS = _labels()
_LABEL_CUES = cues(" ".join(_LABELS))
#: Kinds of number whose label must be written in capitals where it is also a word.
_CAPITALS = frozenset("sin dni nie nif rut pan vin cpr cpf dea udi tfn nhs s".split())
#: "registration number" and "certificate number" of whom; trials are registered as well.
_PROFESSION = re.compile(
    r"\b(?:medical|professional|nursing|physician|council|nurse|birth|death)(?:'s)? \Z", re.IGNORECASE
)


def labelled(screened: Text) -> Iterator[Span]:
    text = screened.text
    for word, at, end in screened.each(_LABEL_CUES):
        if word in _CAPITALS and not text[at:end].isupper():
            continue
        for label in _LABELS[word]:
            found = label.pattern.match(text, end)
            if found is None or not _is_number(label, found["value"], word):
                continue
            if word in ("registration", "certificate") and not _PROFESSION.search(text, max(0, at - 25), at):
                continue
            yield Span(found.start("value"), found.end("value"), label.type)
            break


def _is_number(label: _Label, value: str, word: str) -> bool:
    count = sum(char.isdigit() for char in value)
    size = sum(char.isalnum() for char in value)
    if size < label.least or count < 2 or (count < 4 and size - count < 2) or value.upper() != value:
        return False
    if label.type == "RECORD" and count < 4:
        return False
    if word == "accession":  # sequences in GenBank have accession numbers, too
        return count > 5 and "-" in value
    return True


#: A run of digits and what separates them, long enough for a telephone or an identity number.
_CLUSTER = re.compile(r"[0-9][0-9\-./() ]{5,}[0-9]")
_SIX_DIGITS = re.compile(r"[0-9][0-9]{5}")
#: What all of `_DIGITS_THEN_LETTER` begin with, or have after a letter.
_SIX_AND_MORE = re.compile(r"[0-9][0-9]{5}(?:[0-9]|[-+A][0-9]{3})")
_LETTERS_THEN_DIGITS = re.compile(r"[A-Z][A-Z] ?[0-9][0-9]")


def unlabelled(screened: Text) -> Iterator[Span]:
    """Long numbers that need no label: telephone, identity, card and account numbers, IP addresses."""
    for span in _long_numbers(screened.text, screened):
        if not _CITED.search(screened.text, max(0, span.start - 60), span.start):
            yield span


def _long_numbers(text: str, screened: Text) -> Iterator[Span]:
    for cluster in _CLUSTER.finditer(text) if screened.long else ():
        if len(numbers.digits(cluster[0])) > 4:
            # Before it a plus or a bracket, after it a check letter or an extension.
            start, end = max(0, cluster.start() - 2), min(len(text), cluster.end() + 14)
            yield from contacts.addresses(text, start, end)
            yield from contacts.phones(screened, start, end)
            yield from _numbers(_DIGIT_SHAPES, text, start, end)
    # Digits of other scripts count as digits in shapes.
    if screened.long and (_SIX_AND_MORE if text.isascii() else _SIX_DIGITS).search(text):
        yield from _numbers(_DIGITS_THEN_LETTER, text, 0, len(text))
    if screened.after_capital and _LETTERS_THEN_DIGITS.search(text):
        yield from _numbers(_LETTERS_FIRST, text, 0, len(text))
