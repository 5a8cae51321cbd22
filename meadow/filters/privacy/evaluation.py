"""How well the privacy screen does on the labelled sentences that come with it.

``labelled.tsv`` has three columns. `part` is ``tuning`` for sentences that the rules were adjusted by,
and ``held-out`` for those written down before there were any rules. Of these only totals were looked at,
and not their misses; totals led to two changes (card numbers of two different digits, names followed by
"nodule" and the like), so that they are a little kinder than text never seen. `kind` is
``identifier`` for sentences that hold some, and what else they are about for those that hold none.
`text` marks what is to be found as ``[[TYPE|words]]``; a line break is written ``\\n``. All people are
invented, and numbers and addresses come from ranges set aside for fiction and documentation wherever
there are such ranges, else they are the issuers' own examples.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass, field
from importlib import resources
from typing import NamedTuple

from meadow.core.parts import Finding
from meadow.filters.privacy import TYPES, find

PARTS = ("tuning", "held-out")
#: Types that have a shape or a label, as opposed to names.
STRUCTURED = tuple(name for name in TYPES if name != "NAME")
_MARK = re.compile(r"\[\[([A-Z]+)\|(.*?)\]\](?!\])", re.DOTALL)


class Sentence(NamedTuple):
    """A labelled sentence.

    Attributes:
        part: ``tuning`` or ``held-out``.
        kind: ``identifier``, ``eponym``, ``dose``, ``lab``, ``gene``, ``citation`` or ``negative``.
        text: The text without marks.
        findings: What is to be found in it.
    """

    part: str
    kind: str
    text: str
    findings: tuple[Finding, ...]


@dataclass
class Score:
    """Counts of one type.

    Attributes:
        labelled: Spans to be found.
        caught: Those of which every letter and digit was found, as whatever type.
        typed: Those of them that overlap a finding of their own type.
        reported: Findings of the type.
        right: Those of them that overlap a labelled span.
    """

    labelled: int = 0
    caught: int = 0
    typed: int = 0
    reported: int = 0
    right: int = 0

    @property
    def recall(self) -> float:
        """The share of labelled spans that were found to the last character."""
        return self.caught / self.labelled if self.labelled else 1.0

    @property
    def precision(self) -> float:
        """The share of findings that overlap a labelled span."""
        return self.right / self.reported if self.reported else 1.0


@dataclass
class Evaluation:
    """What became of labelled sentences.

    Attributes:
        scores: By type.
        kinds: Sentences by kind.
        touched: Sentences without identifiers in which something was found, by kind.
        missed: Spans that were not found, or not whole, with their sentences.
        wrong: Findings that overlap no labelled span, with their sentences.
    """

    scores: dict[str, Score] = field(default_factory=lambda: {name: Score() for name in TYPES})
    kinds: Counter = field(default_factory=Counter)
    touched: Counter = field(default_factory=Counter)
    missed: list[tuple[Finding, str]] = field(default_factory=list)
    wrong: list[tuple[Finding, str]] = field(default_factory=list)

    def total(self, types: Iterable[str] = TYPES) -> Score:
        """The counts of several types together."""
        return Score(*map(sum, zip(*(astuple(self.scores[name]) for name in types), strict=True)))


def hipaa() -> dict[str, tuple[list[str], str]]:
    """The 18 identifiers of HIPAA's safe harbor (45 CFR 164.514(b)(2)(i), A to R): for each the types that stand
    for it, and what is left over.
    """
    path = resources.files("meadow.filters.privacy") / "hipaa.tsv"
    lines = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:])
    return {name: (types.split(), left_over) for name, types, left_over in lines}


def labelled(part: str | None = None) -> list[Sentence]:
    """The labelled sentences, all of them or those of one part."""
    path = resources.files("meadow.filters.privacy") / "labelled.tsv"
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return [s for s in map(_sentence, lines) if part is None or s.part == part]


def _sentence(line: str) -> Sentence:
    part, kind, marked = line.split("\t")
    marked = marked.replace("\\n", "\n")
    text, findings, at = "", [], 0
    for mark in _MARK.finditer(marked):
        text += marked[at : mark.start()]
        findings.append(Finding(mark[1], "", len(text), len(text) + len(mark[2])))
        text += mark[2]
        at = mark.end()
    return Sentence(part, kind, text + marked[at:], tuple(findings))


def evaluate(sentences: Iterable[Sentence]) -> Evaluation:
    """Compares what the screen finds with the labels."""
    done = Evaluation()
    for sentence in sentences:
        found = find(sentence.text)
        done.kinds[sentence.kind] += 1
        done.touched[sentence.kind] += bool(found) and not sentence.findings
        for label in sentence.findings:
            score = done.scores[label.type]
            score.labelled += 1
            covered = {at for f in found for at in range(f.start, f.end)}
            whole = all(
                at in covered or not sentence.text[at].isalnum() for at in range(label.start, label.end)
            )
            score.caught += whole
            score.typed += whole and any(f.type == label.type and _overlap(f, label) for f in found)
            if not whole:
                done.missed.append((label, sentence.text))
        for finding in found:
            right = any(_overlap(finding, label) for label in sentence.findings)
            done.scores[finding.type].reported += 1
            done.scores[finding.type].right += right
            if not right:
                done.wrong.append((finding, sentence.text))
    return done


def _overlap(one: Finding, other: Finding) -> bool:
    return one.start < other.end and other.start < one.end


def report(part: str) -> str:
    """Precision and recall by type on one part of the labelled sentences, as a table in plain text."""
    done = evaluate(labelled(part))
    lines = [
        f"{part}: {sum(done.kinds.values())} sentences",
        f"{'type':12}{'labelled':>9}{'recall':>9}{'precision':>11}",
    ]
    rows = [(name, score) for name, score in done.scores.items() if score.labelled or score.reported]
    rows += [("structured", done.total(STRUCTURED)), ("all", done.total())]
    lines += [f"{name:12}{s.labelled:>9}{s.recall:>9.1%}{s.precision:>11.1%}" for name, s in rows]
    lines += [
        f"untouched: {count - done.touched[kind]} of {count} sentences ({kind})"
        for kind, count in done.kinds.items()
        if kind != "identifier"
    ]
    return "\n".join(lines) + "\n"
