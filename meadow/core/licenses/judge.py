"""What may be done with the whole of a dataset or mixture, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from meadow.core.licenses import License, generator_terms

#: The questions that a verdict answers, in order, with the words for people.
QUESTIONS: Mapping[str, str] = {
    "commercial": "Commercial use",
    "redistribution": "Passing the rows on, each under its own licence",
    "adaptation": "Passing on one work made of all of them",
    "attribution": "Credit",
    "training": "Training models",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a verdict.

    Attributes:
        answer: ``yes``, ``no`` or ``unsettled``, for `attribution` ``owed``, ``none owed`` or ``unsettled``,
            and what goes with it: ``yes, under CC-BY-SA-4.0``.
        because: Why, the strictest parts first.
    """

    answer: str
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may be done with the whole of a dataset or mixture, and why; no legal advice.

    Attributes:
        rows: Rows judged.
        commercial: Whether it may be used commercially.
        redistribution: Whether its rows may be passed on, each under its own licence.
        adaptation: Whether one work made of all of them may be passed on.
        attribution: Whether credit is owed.
        training: What the terms say of training models.
    """

    rows: int
    commercial: Answer
    redistribution: Answer
    adaptation: Answer
    attribution: Answer
    training: Answer

    @property
    def answers(self) -> dict[str, Answer]:
        """The answers to `QUESTIONS`, in order."""
        return {name: getattr(self, name) for name in QUESTIONS}


class Licensed(Protocol):
    """Rows per licence and per model that wrote them, and the licences by id: a manifest, or a part of one."""

    @property
    def licenses(self) -> Mapping[str, int]: ...
    @property
    def license_terms(self) -> Mapping[str, License]: ...
    @property
    def generators(self) -> Mapping[str, int]: ...


_CREDIT = "it: the authors, the source and the licence of each row, and what was changed, stand in ATTRIBUTION.parquet"
_SILENT = "that is beyond doubt, so that training rests on what the law permits without a licence"
_PRIVATE = "that whatever needs a licence be non-commercial"
_USE = "commercial use"


@dataclass(frozen=True, slots=True)
class _Share:
    """Rows of one dataset under one licence, or written by one model."""

    license: License
    rows: int
    dataset: str = ""
    generator: str = ""


def judge(parts: Mapping[str, Licensed]) -> Verdict:
    """Judges several datasets as a whole, by the names that the reasons give them; empty for one alone."""
    shares, written = [], []
    for dataset, part in parts.items():
        for spdx, rows in part.licenses.items():
            if rows:
                license = part.license_terms.get(spdx) or License.of(spdx)  # noqa: A001
                shares.append(_Share(license, rows, dataset))
        for generator, rows in part.generators.items():
            if rows and generator:
                written.append(_Share(generator_terms(generator), rows, dataset, generator))
    total = sum(share.rows for share in shares)
    answers = _Judge(shares, written, total)
    return Verdict(total, *(getattr(answers, name)() for name in QUESTIONS))


class _Judge:
    """Answers `QUESTIONS`, each in the method of its name."""

    def __init__(self, shares: list[_Share], written: list[_Share], total: int) -> None:
        self._shares, self._total = shares, total
        self._all = shares + written

    def commercial(self) -> Answer:
        refused = self._refused("commercial", "forbids it", "forbid it")
        return refused or Answer("yes", self._plainly("No row's licence forbids it."))

    def redistribution(self) -> Answer:
        what = "no leave to pass rows on"
        refused = self._refused("redistribution", f"gives {what}", f"give {what}")
        return refused or self._yes("Every row's licence permits it.")

    def adaptation(self) -> Answer:
        clashes, under = self._share_alike()
        refused = self._refused("adaptation", "permits no adaptation", "permit no adaptation", clashes)
        if refused:
            return refused
        alike = self._those("share_alike", True)
        if alike:
            return Answer(f"yes, under {under}", self._say(alike, "is share-alike", "are share-alike"))
        return self._yes("No row's licence asks for a particular one.")

    def attribution(self) -> Answer:
        owed, silent = self._those("attribution", True), self._those("attribution", None)
        because = self._say(owed, f"asks for {_CREDIT}", f"ask for {_CREDIT}")
        because += self._say(silent, "does not settle it", "do not settle it")
        if because:
            return Answer("owed" if owed else "unsettled", because)
        return Answer("none owed", self._plainly("No row's licence asks for it."))

    def training(self) -> Answer:
        """What the terms say against it; whether training needs a licence at all is for the law to say."""
        bound = [share for share in self._all if share.license.output_terms]
        because = tuple(f"{self._name(g)} {g[0].license.output_terms}." for g in self._groups(bound))
        plain = [share for share in self._shares if not share.license.output_terms]
        silent = [s for s in plain if not s.license.settled or s.license.redistribution is False]
        because += self._say(silent, f"grants nothing {_SILENT}", f"grant nothing {_SILENT}")
        private = [s for s in plain if s.license.commercial is False and s not in silent]
        because += self._say(private, f"asks {_PRIVATE}", f"ask {_PRIVATE}")
        if not because:
            return Answer("yes", self._plainly("No row's terms speak against it."))
        return Answer("restricted" if bound else "unsettled" if silent else "yes, not commercially", because)

    def _refused(self, fact: str, one: str, several: str, more: tuple[str, ...] = ()) -> Answer | None:
        """No, or unsettled, where licences say so, or where there is more to say against it; else None."""
        no, unsettled = self._those(fact, False), self._in_doubt(fact)
        because = self._say(no, one, several) + more
        because += self._say(unsettled, "does not settle it", "do not settle it")
        return Answer("no" if no or more else "unsettled", because) if because else None

    def _yes(self, plainly: str) -> Answer:
        private = self._those("commercial", False)
        if private:
            return Answer("yes, not commercially", self._say(private, f"forbids {_USE}", f"forbid {_USE}"))
        return Answer("yes", self._plainly(plainly))

    def _plainly(self, sentence: str) -> tuple[str, ...]:
        return (sentence,) if self._total else ()

    def _share_alike(self) -> tuple[tuple[str, ...], str]:
        """Why share-alike licences cannot be obeyed in one work, and the licence that obeys them all."""
        families: dict[str, list[_Share]] = {}
        for share in self._those("share_alike", True):
            families.setdefault(_family(share.license.id), []).append(share)
        for mine in families.values():
            mine.sort(key=lambda share: _version(share.license.id))
        under = {name: mine[-1].license.id for name, mine in families.items()}
        clashes = []
        names = sorted(families)
        for at, one in enumerate(names):
            for other in names[at + 1 :]:
                if (one, other) == ("CC-BY-SA", "GPL-3.0") and all(
                    share.license.id == "CC-BY-SA-4.0" for share in families[one]
                ):
                    # The one licence outside Creative Commons that BY-SA 4.0 accepts, one way:
                    # https://creativecommons.org/share-your-work/licensing-considerations/compatible-licenses
                    under.pop(one, None)
                    continue
                clashes.append(
                    f"{self._names(families[one])} on one side, {self._names(families[other])} on the other: "
                    "each side asks for a licence of its own."
                )
        if any(share.license.id == "GPL-3.0-only" for share in families.get("GPL-3.0", ())):
            under["GPL-3.0"] = "GPL-3.0-only"
        private = [s for s in self._those("commercial", False) if not s.license.share_alike]
        free = [s for mine in families.values() for s in mine if s.license.commercial]
        if private and free:
            clashes.append(
                f"{self._names(free)} must stay free for commercial use, which {self._names(private)} forbids."
            )
        return tuple(clashes), " and ".join(under[name] for name in sorted(under))

    def _those(self, fact: str, value: bool | None) -> list[_Share]:
        return [share for share in self._all if getattr(share.license, fact) is value]

    def _in_doubt(self, fact: str) -> list[_Share]:
        """Those that nobody answered, or answered with a yes that is itself in doubt."""
        found = []
        for share in self._all:
            value = getattr(share.license, fact)
            # What a model's maker grants is no doubt of the kind that a source of unknown rights is in.
            if value is None or (value and not share.license.settled and not share.generator):
                found.append(share)
        return found

    def _groups(self, shares: Iterable[_Share]) -> list[list[_Share]]:
        """Shares of the same licence or model together, most rows first."""
        groups: dict[tuple[str, str], list[_Share]] = {}
        for share in shares:
            groups.setdefault((share.license.id, share.generator), []).append(share)
        return sorted(
            groups.values(), key=lambda g: (-sum(s.rows for s in g), g[0].license.id, g[0].generator)
        )

    def _name(self, group: list[_Share]) -> str:
        rows = sum(share.rows for share in group)
        where = ", ".join(
            f"{share.dataset} {share.rows:,}"
            for share in sorted(group, key=lambda s: (-s.rows, s.dataset))
            if share.dataset
        )
        count = f"{rows:,} row{'' if rows == 1 else 's'}"
        if 0 < rows < self._total:
            count += f", {max(100 * rows / self._total, 0.1):.1f} %"
        what = f"Text by {group[0].generator}" if group[0].generator else group[0].license.id
        return f"{what} ({count}{': ' if where else ''}{where})"

    def _names(self, shares: Iterable[_Share]) -> str:
        return _listing(list(dict.fromkeys(group[0].license.id for group in self._groups(shares))))

    def _say(self, shares: Iterable[_Share], one: str, several: str) -> tuple[str, ...]:
        """A sentence about licences, those of most rows first; none where there are none."""
        names = [self._name(group) for group in self._groups(shares)]
        if not names:
            return ()
        return (f"{_listing(names)} {one if len(names) == 1 else several}.",)


def _listing(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _family(spdx: str) -> str:
    """Licences whose later versions stand in for earlier ones; of the others each is a family of its own.

    Every ShareAlike licence after version 1.0 lets adaptations be under a later version of itself (2.5 and
    3.0, section 4(b); 4.0, section 3(b)), never an earlier one.
    """
    found = re.fullmatch(r"(CC-BY-(?:NC-)?SA)-(?!1\.0)\d\.\d|(GPL-3\.0)-(?:only|or-later)", spdx)
    return (found[1] or found[2]) if found else spdx


def _version(spdx: str) -> str:
    found = re.search(r"\d\.\d$", spdx)
    return found[0] if found else ""
