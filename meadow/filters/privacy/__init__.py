"""What could identify a person in free text: found by rules, and masked, flagged, or cause to leave a row out.

`find` and `mask` work on one text, `PrivacyFilter` on the rows of a build. There is no model behind
them and none to download: shapes with their checksums, labels and what introduces a name (`patterns`,
`numbers`, `names`, `words`), and `phonenumbers` for the numbering plans of the world. Measured on the
sentences of ``labelled.tsv`` (`evaluation`).

Presidio's recognisers were weighed and not taken: importing them loads spaCy and half a second to
a second of modules, its ten pattern recognisers of interest take over a millisecond for a text where
this takes some hundredths of one, and its e-mail recogniser asks the network for a list of domains.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from meadow.core.parts import Finding
from meadow.core.row import Rejected
from meadow.filters.privacy.names import THING, introduced
from meadow.filters.privacy.patterns import structured
from meadow.filters.privacy.text import Span, Text
from meadow.filters.privacy.words import ALSO_WORDS, COMMON, EPONYMS, GIVEN, TRADE

if TYPE_CHECKING:
    from meadow.core.parts import Seen
    from meadow.core.row import Example

__all__ = ["HIPAA", "LIMITS", "POLICIES", "TYPES", "PrivacyFilter", "find", "mask"]

POLICIES = ("mask", "drop", "flag")

#: Each type of finding: what it covers, in words for people. A masked one reads ``[EMAIL]`` and so on.
TYPES: Mapping[str, str] = MappingProxyType(
    {
        "NAME": "names that a title, an introduction, a form, a greeting or a signature gives away",
        "ADDRESS": "street addresses, post boxes, post codes, US city and state with a ZIP code",
        "DATE": "dates of birth, death, visits, admissions, operations: dates tied to a person, finer than a year",
        "AGE": "ages of 90 and more",
        "PHONE": "telephone, mobile, fax and pager numbers, but not toll-free lines",
        "EMAIL": "e-mail addresses, spelled-out ones included",
        "ID": "social security, national identity, tax and passport numbers",
        "RECORD": "numbers of medical records, charts, visits, specimens, insured persons and health plans",
        "ACCOUNT": "bank accounts, IBANs, payment cards",
        "LICENSE": "licence, certificate and registration numbers",
        "VEHICLE": "vehicle identification numbers and licence plates",
        "DEVICE": "serial numbers of devices and implants, hardware addresses",
        "URL": "web addresses that name a person: profiles, home pages, log-ins",
        "IP": "public IP addresses",
        "HANDLE": "names by which people are addressed on sites (@name)",
    }
)

#: The 18 identifiers of HIPAA's safe harbor (45 CFR 164.514(b)(2)(i), A to R): the types that stand for
#: each, and what is left over.
HIPAA: Mapping[str, tuple[tuple[str, ...], str]] = MappingProxyType(
    {
        "A names": (("NAME",), "names that nothing introduces stay"),
        "B geographic subdivisions smaller than a state": (
            ("ADDRESS",),
            "towns, counties and districts without a street or post code stay: so do places of diseases",
        ),
        "C dates but years, and ages over 89": (("DATE", "AGE"), "dates that nothing ties to a person stay"),
        "D telephone numbers": (("PHONE",), "toll-free lines stay, such as those for help in need"),
        "E fax numbers": (("PHONE",), ""),
        "F e-mail addresses": (("EMAIL",), ""),
        "G social security numbers": (("ID",), "other countries' numbers by checksum or label"),
        "H medical record numbers": (("RECORD",), "by label"),
        "I health plan beneficiary numbers": (("RECORD",), "by label"),
        "J account numbers": (("ACCOUNT",), "cards and IBANs by checksum, others by label"),
        "K certificate and license numbers": (("LICENSE",), "by label"),
        "L vehicle identifiers and license plates": (("VEHICLE",), "by label"),
        "M device identifiers and serial numbers": (("DEVICE",), "by label"),
        "N web addresses": (("URL",), "those that name a person; a reference to a page stays"),
        "O IP addresses": (("IP",), "public ones"),
        "P biometric identifiers": ((), "fingerprints and voice prints are no text"),
        "Q full-face photographs": ((), "rows hold text; links to pictures stay unless they name a person"),
        "R any other unique identifying number, characteristic or code": (
            ("HANDLE", "ID"),
            "characteristics that are told in plain words, such as an office held or a rare case, stay",
        ),
    }
)

LIMITS = (
    "The privacy screen works by rules: shapes and checksums of numbers, labels before them, and words that introduce "
    "a name. It is no anonymization, and no proof that a text names nobody. It cannot find a name that nothing "
    "introduces (a bare surname, a name in lower case in the middle of a sentence), a town without a street or post "
    "code, a date that nothing in its sentence ties to a person, a number without its label or checksum, or anything "
    "that is misspelled, split over lines or written out in words. It does not understand what is told: an office, a "
    "rare disease, a family or the course of a case can identify a person without any identifier. It is made for "
    "English; of other languages it knows common forms of numbers, addresses and titles only. It does not read "
    "pictures, nor what lies behind links.\n\n"
    "It errs on the other side, too: fictional people, public figures after a title, and numbers that look like "
    "a telephone's may be masked. Names of authors and the addresses of sources are kept where licences ask for "
    "attribution, in the columns made for it. Text on patients needs a review by people, and where the law asks for "
    "it an expert's determination, before it is shared."
)


def _resolve(spans: Iterable[Span]) -> list[Span]:
    """Spans in order without overlaps; of two that overlap the first reaches to the end of both."""
    kept: list[Span] = []
    for span in sorted(set(spans), key=lambda s: (s.start, -s.end, _RANK[s.type])):
        if kept and span.start < kept[-1].end:
            if span.end > kept[-1].end:
                kept[-1] = kept[-1]._replace(end=span.end)
        else:
            kept.append(span)
    return kept


_RANK = {name: rank for rank, name in enumerate(
    ("EMAIL", "URL", "ID", "ACCOUNT", "RECORD", "LICENSE", "VEHICLE", "DEVICE", "IP", "PHONE", "DATE", "ADDRESS", "AGE", "NAME", "HANDLE")
)}  # fmt: skip


#: Characters of a text that is remembered: tags, sites, licences and details say the same again and again.
_SHORT = 64


def _spans(text: str) -> list[Span]:
    if len(text) <= _SHORT:
        return list(_spans_of_short(text))
    screened = Text(text)
    return [*structured(screened), *introduced(screened)]


@lru_cache(maxsize=4096)
def _spans_of_short(text: str) -> tuple[Span, ...]:
    screened = Text(text)
    return (*structured(screened), *introduced(screened))


_WORD = re.compile(r"\w+")


def _places(found: dict[str, str]) -> dict[str, set[tuple[int, int]]]:
    """For `_repeats`: the first word of each value, with how far into it that stands and its length."""
    places: dict[str, set[tuple[int, int]]] = {}
    for value in found:
        word = _WORD.search(value)
        if word is not None:
            places.setdefault(word[0], set()).add((word.start(), len(value)))
    return places


def _repeats(found: dict[str, str], places: dict[str, set[tuple[int, int]]], text: str) -> Iterator[Span]:
    """Where what was found somewhere in a row stands again, without what gave it away there.

    The text is gone through once, however many values there are: a row may list thousands.
    """
    for word in _WORD.finditer(text):
        for before, size in places.get(word[0], ()):
            start = word.start() - before
            end = start + size
            type_ = found.get(text[start:end]) if start >= 0 and end <= len(text) else None
            if (
                type_ is not None
                and not (start and (text[start - 1].isalnum() or text[start - 1] in "_@-"))
                and not (text[end : end + 1].isalnum() or text[end : end + 1] in ("_", "-"))
                # A doctor's name in "Castleman disease" is the disease's.
                and not (type_ == "NAME" and THING.match(text, end))
            ):
                yield Span(start, end, type_)


_COMMON_NAMES = (GIVEN - ALSO_WORDS - COMMON) - EPONYMS


def _worth_repeating(value: str, type_: str) -> Iterable[str]:
    if type_ == "NAME":
        words = value.split()
        if len(words) > 1:
            yield value
        for word in words:
            if word.lower() in _COMMON_NAMES and word[:1].isupper():
                yield word
        if (
            len(words) == 1
            and len(value) > 4
            and value[:1].isupper()
            and value.lower() not in EPONYMS | TRADE
        ):
            yield value
    elif type_ == "DATE":
        if len(value) > 7:
            yield value
    elif type_ != "AGE" and sum(char.isalnum() for char in value) > 4:
        yield value


def scan(texts: Iterable[str]) -> list[list[Span]]:
    """Finds what could identify a person in texts that belong together.

    What is introduced in one of them is found in all: a name that the question gives away is
    the same name in the answer.

    Args:
        texts: The texts of one row.

    Returns:
        For each text its spans, in order and without overlaps.
    """
    texts = list(texts)
    found = [_spans(text) for text in texts]
    again: dict[str, str] = {}
    for text, spans in zip(texts, found, strict=True):
        for span in spans:
            for value in _worth_repeating(text[span.start : span.end], span.type):
                again.setdefault(value, span.type)
    if again:
        places = _places(again)
        for text, spans in zip(texts, found, strict=True):
            spans += _repeats(again, places, text)
    return [_resolve(spans) if spans else spans for spans in found]


def find(text: str, field: str = "") -> list[Finding]:
    """Finds what could identify a person in a text.

    Args:
        text: The text.
        field: The column to name in the findings.

    Returns:
        The findings in order of their place, without overlaps.
    """
    return [Finding(span.type, field, span.start, span.end) for span in scan([text])[0]]


def mask_spans(text: str, spans: Iterable[Span]) -> str:
    """A text with the type in brackets in place of each span."""
    pieces, at = [], 0
    for span in spans:
        pieces += (text[at : span.start], "[", span.type, "]")
        at = span.end
    return "".join((*pieces, text[at:]))


def mask(text: str) -> str:
    """Replaces what could identify a person with its type in brackets, as ``[EMAIL]``."""
    spans = scan([text])[0]
    return mask_spans(text, spans) if spans else text


_NOTHING_LEFT = re.compile(r"(?:\W*\[(?:" + "|".join(TYPES) + r")\])+\W*\Z")
_KEEP = "Build with --privacy flag to keep the row as it was written, or repair it in the raw file."


class PrivacyFilter:
    """Screens question, answer, options and a source's own text columns for what identifies a person.

    Authors and addresses of sources are not touched: licences ask for them. Neither are ids, groups
    and the constant instruction.

    Args:
        policy: ``mask`` puts the type in brackets in place of what was found, ``drop`` leaves the row
            out, ``flag`` keeps it as it is and only reports.

    Raises:
        ValueError: There is no such policy.
    """

    stage = "privacy"

    def __init__(self, policy: str) -> None:
        if policy not in POLICIES:
            raise ValueError(f"privacy {policy!r}: it is one of {', '.join(POLICIES)}")
        self.policy = policy

    def __call__(self, example: Example, seen: Seen) -> Example | Rejected:
        """Returns the row, masked under ``mask``, or why it is left out.

        Findings are placed in the text as it came in, options as ``options[0].text`` and values of a
        source's own columns as ``extra.NAME`` or, in lists, ``extra.NAME[0]``.
        """
        names, texts = ["input", "output"], [example.input, example.output]
        for number, option in enumerate(example.options):
            names.append(f"options[{number}].text")
            texts.append(option.text)
        for key, value in example.extra.items():
            if isinstance(value, str):
                names.append(f"extra.{key}")
                texts.append(value)
            elif isinstance(value, list | tuple):
                for number, item in enumerate(value):
                    if isinstance(item, str):
                        names.append(f"extra.{key}[{number}]")
                        texts.append(item)
        found = scan(texts)
        if not any(found):
            return example
        types: dict[str, None] = {}
        for name, spans in zip(names, found, strict=True):
            for span in spans:
                seen.findings.append(Finding(span.type, name, span.start, span.end))
                types[span.type] = None
        for type_ in types:
            seen.note(self.stage, type_)
        if self.policy == "flag":
            return example
        masked = {
            name: mask_spans(text, spans) if spans else text
            for name, text, spans in zip(names, texts, found, strict=True)
        }
        if self.policy == "drop":
            detail = "found " + ", ".join(sorted(types))
            return self._rejected("identifies a person", detail, example, masked)
        options = tuple(
            option
            if option.text is (text := masked[f"options[{number}].text"])
            else replace(option, text=text)
            for number, option in enumerate(example.options)
        )
        if len({option.text for option in options}) < len({option.text for option in example.options}):
            return self._rejected(
                "options alike once masked", "two options differ in what was masked only", example, masked
            )
        for field in ("input", "output"):
            if _NOTHING_LEFT.match(masked[field]):
                return self._rejected(
                    "nothing left once masked", f"{field} was {masked[field]}", example, masked
                )
        return replace(
            example,
            input=masked["input"],
            output=masked["output"],
            options=options,
            extra={key: _put_back(key, value, masked) for key, value in example.extra.items()},
        )

    def _rejected(self, reason: str, detail: str, example: Example, masked: Mapping[str, str]) -> Rejected:
        return Rejected(reason, example.id, detail, _KEEP, masked["input"], configs=example.configs)


def _put_back(key: str, value: object, masked: Mapping[str, str]) -> object:
    if isinstance(value, str):
        return masked[f"extra.{key}"]
    if isinstance(value, list | tuple):
        return type(value)(
            masked[f"extra.{key}[{number}]"] if isinstance(item, str) else item
            for number, item in enumerate(value)
        )
    return value
