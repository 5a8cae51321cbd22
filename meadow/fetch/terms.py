"""The terms a source comes under: shown before anything is fetched, and accepted where the publisher asks.

A publisher asks where it reserves all rights, and where the source declares words to agree to (``asks``). What was
accepted is kept in the raw store: whoever shares it shares the acceptance, and changed terms are asked for again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pydantic

from meadow.core.builder import Builder
from meadow.core.licenses import License
from meadow.core.store import write_whole

#: At the top of the raw store; scans of raw files and packs pass over names that begin with a dot.
ACCEPTED = ".accepted-terms.json"

_FACTS = {
    "commercial": "commercial use",
    "redistribution": "passing it on",
    "adaptation": "passing on what is made from it",
    "share_alike": "the same licence for that",
    "attribution": "credit owed",
}
_WORDS = {True: "yes", False: "no", None: "unsettled"}
_RESERVED = (
    "Its owners reserve all rights. Use it only as the law permits without a licence, such as to score a model on "
    "your own machine, and do not pass it on."
)


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a source: its licence's id, and each licence with its evidence, in lines for people.

    `asks` is what has to be agreed to before the source is fetched; empty where nobody asks.
    """

    source: str
    license: str
    text: str
    asks: str = ""

    @property
    def sha256(self) -> str:
        """The hash of all that is agreed to, by which a change of terms is noticed."""
        return hashlib.sha256(f"{self.license}\n{self.asks}\n{self.text}".encode()).hexdigest()


def of(builder: Builder | type[Builder]) -> Terms:
    """The terms of a source as it declares them."""
    text = "\n".join(_described(found) for found in (builder.license, *builder.licenses))
    reserved = builder.license.settled and builder.license.redistribution is False
    asks = builder.asks.strip() or (_RESERVED if reserved else "")
    return Terms(builder.name, builder.license.id, text, asks)


def shown(builder: Builder | type[Builder]) -> str:
    """The terms of a source as a person reads them before a fetch, in lines without a final newline."""
    terms = of(builder)
    asks = f"\n  To be accepted: {terms.asks}" if terms.asks else ""
    return f"{terms.source}: comes under these terms\n{terms.text}{asks}"


def needed(builder: Builder | type[Builder], raw: Path) -> Terms | None:
    """The terms to accept before this source is fetched into a raw store; None where nobody asks, or it was done."""
    terms = of(builder)
    known = _accepted(raw).get(terms.source, {})
    return terms if terms.asks and known.get("sha256") != terms.sha256 else None


def refusal(terms: Terms) -> str:
    """What to say instead of fetching a source whose terms were not accepted."""
    return (
        f"{terms.source}: not fetched, because its terms have to be accepted first ({terms.license}). "
        f"{terms.asks} If you agree, add --accept-license {terms.source}"
    )


def accept(builders: Iterable[Builder | type[Builder]], names: Iterable[str], raw: Path) -> tuple[Terms, ...]:
    """Remembers in the raw store, which need not exist yet, that terms are accepted, and gives those terms.

    The names are of sources, or ids of licences; whoever asks for nothing is passed over.

    Raises:
        ValueError: A name is neither a source's nor a licence's; nothing is remembered then.
        OSError: The raw store cannot be written.
    """
    every = [of(builder) for builder in builders]
    found: dict[str, Terms] = {}
    for name in names:
        fitting = [terms for terms in every if name in (terms.source, terms.license)]
        if not fitting:
            asking = ", ".join(terms.source for terms in every if terms.asks) or "none"
            problem = f"no source or licence has this name; sources that ask: {asking}"
            raise ValueError(f"--accept-license {name}: {problem}")
        found.update((terms.source, terms) for terms in fitting if terms.asks)
    known, today = _accepted(raw), datetime.now(UTC).date().isoformat()
    added = {
        terms.source: {"license": terms.license, "sha256": terms.sha256, "accepted": today}
        for terms in found.values()
        if known.get(terms.source, {}).get("sha256") != terms.sha256
    }
    if added:
        text = json.dumps(known | added, indent=2, sort_keys=True, ensure_ascii=False)
        raw.mkdir(parents=True, exist_ok=True)
        write_whole(raw / ACCEPTED, text + "\n")
    return tuple(found.values())


def by_hand(builder: Builder | type[Builder], raw: Path) -> str:
    """Where the files of a source go that are put into the raw store by hand, and why they are, in lines."""
    why = builder.by_hand.strip() or "it declares no address to fetch from."
    lines = [f"{builder.name}: nothing is fetched: {why}", f"  Put its files into {raw / builder.name}:"]
    lines += [f"    {pattern.pattern}  {pattern.description}" for pattern in builder.raw_files]
    if builder.homepage:
        lines.append(f"  More about it: {builder.homepage}")
    return "\n".join(lines)


def _described(license_: License) -> str:
    facts = "; ".join(f"{words}: {_WORDS[getattr(license_, fact)]}" for fact, words in _FACTS.items())
    doubt = "" if license_.settled else " These terms are not settled."
    lines = [f"{license_.id}: {license_.name}", license_.url, license_.evidence, f"{facts}.{doubt}"]
    return "\n".join(f"  {line}" for line in lines if line)


def _accepted(raw: Path) -> dict[str, dict[str, str]]:
    try:  # a file that cannot be read says nothing, so that the terms are asked for again
        return pydantic.TypeAdapter(dict[str, dict[str, str]]).validate_json((raw / ACCEPTED).read_bytes())
    except (OSError, ValueError):
        return {}
