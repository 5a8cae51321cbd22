"""What could identify a person in free text: found by rules, and masked, flagged, or cause to leave a row out.

`find` and `mask` work on one text, `PrivacyFilter` on the rows of a build. There is no model behind
them and none to download: shapes with their checksums, labels and what introduces a name, and
`phonenumbers` for the numbering plans of the world. Measured on the
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
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from meadow.core.parts import Finding
from meadow.core.row import Rejected
from meadow.filters.privacy.contacts import electronic, labelled_phones
from meadow.filters.privacy.dates import ages, dates
from meadow.filters.privacy.identifiers import labelled, unlabelled
from meadow.filters.privacy.names import THING, introduced
from meadow.filters.privacy.naming import EPONYMS, SURE, TRADE
from meadow.filters.privacy.places import places
from meadow.filters.privacy.text import Span, Text

if TYPE_CHECKING:
    from meadow.core.parts import Seen
    from meadow.core.row import Example

__all__ = ["LIMITS", "POLICIES", "TYPES", "PrivacyFilter", "find", "mask"]

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

#: What the screen cannot do, in words for people.
LIMITS = (resources.files("meadow.filters.privacy") / "limits.md").read_text(encoding="utf-8").strip()


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


def _spans(text: str) -> Iterable[Span]:
    return _short_spans(text) if len(text) <= _SHORT else _rules(Text(text))


@lru_cache(maxsize=4096)
def _short_spans(text: str) -> tuple[Span, ...]:
    return tuple(_rules(Text(text)))


def _rules(screened: Text) -> Iterator[Span]:
    """What any of the rules finds."""
    yield from electronic(screened)
    if screened.digits:
        for rule in (unlabelled, labelled, labelled_phones, places, dates, ages):
            yield from rule(screened)
    yield from introduced(screened)


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


_COMMON_NAMES = SURE - EPONYMS


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
    found = [list(_spans(text)) for text in texts]
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


def _masked(text: str, spans: Iterable[Span]) -> str:
    pieces, at = [], 0
    for span in spans:
        pieces += (text[at : span.start], "[", span.type, "]")
        at = span.end
    return "".join((*pieces, text[at:]))


def mask(text: str) -> str:
    """Replaces what could identify a person with its type in brackets, as ``[EMAIL]``."""
    spans = scan([text])[0]
    return _masked(text, spans) if spans else text


def screened(texts: Mapping[str, str]) -> tuple[list[Finding], dict[str, str]]:
    """What could identify a person in the texts of one row, by field, and the texts with that masked."""
    spans = dict(zip(texts, scan(texts.values()), strict=True))
    findings = [Finding(s.type, name, s.start, s.end) for name, found in spans.items() for s in found]
    return findings, {
        name: _masked(text, spans[name]) if spans[name] else text for name, text in texts.items()
    }


def texts_in(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """The texts in a value, each with its path: ``options[0].text``."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts_in(f"{name}.{key}", item)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from texts_in(f"{name}[{number}]", item)


def with_texts(name: str, value: Any, texts: Mapping[str, str]) -> Any:
    """The value with other texts in the places of `texts_in`."""
    if isinstance(value, str):
        return texts.get(name, value)
    if isinstance(value, dict):
        return {key: with_texts(f"{name}.{key}", item, texts) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_texts(f"{name}[{number}]", item, texts) for number, item in enumerate(value))
    return value


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
        texts = {"input": example.input, "output": example.output}
        for number, option in enumerate(example.options):
            texts[f"options[{number}].text"] = option.text
        for key, value in example.extra.items():
            texts.update(texts_in(f"extra.{key}", value))
        findings, masked = screened(texts)
        if not findings:
            return example
        seen.findings += findings
        types = dict.fromkeys(finding.type for finding in findings)
        for type_ in types:
            seen.note(self.stage, type_)
        if self.policy == "flag":
            return example
        question, answer = masked["input"], masked["output"]
        options = tuple(
            replace(option, text=masked[f"options[{number}].text"])
            for number, option in enumerate(example.options)
        )
        reason = detail = ""
        if self.policy == "drop":
            reason, detail = "identifies a person", "found " + ", ".join(sorted(types))
        elif len({option.text for option in options}) < len({option.text for option in example.options}):
            reason, detail = "options alike once masked", "two options differ in what was masked only"
        elif _NOTHING_LEFT.match(question):
            reason, detail = "nothing left once masked", f"input was {question}"
        elif _NOTHING_LEFT.match(answer):
            reason, detail = "nothing left once masked", f"output was {answer}"
        if reason:
            return Rejected(reason, example.id, detail, _KEEP, question, configs=example.configs)
        extra = {key: with_texts(f"extra.{key}", value, masked) for key, value in example.extra.items()}
        return replace(example, input=question, output=answer, options=options, extra=extra)
