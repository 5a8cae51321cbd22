"""What a build does to rows after they are parsed: one file per filter.

Two kinds. *Row filters* (quality, language, license, privacy) look at one `Example` at a time, in the
worker that parses it. *Set filters* (contamination, duplicates) look at all rows of a build at once,
in its part files. Every row that a filter leaves out has its reason in ``rejected.parquet``, and
every stage has its line in the funnel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from meadow.core.builder import Builder, Example, Rejected
    from meadow.core.licenses import Policy
    from meadow.pipeline.tasks import Part

#: The stages of a funnel, in the order in which a row passes them.
STAGES = ("source", "quality", "language", "license", "privacy", "contamination", "duplicates")

#: What each switch may be set to; the first is the default, None for "what the source declares".
CHOICES: Mapping[str, tuple[str | None, ...]] = {
    "quality": ("drop", "off"),
    "privacy": (None, "mask", "drop", "flag", "off"),
    "contamination": ("drop", "flag", "off"),
    "duplicates": ("drop", "flag", "off"),
}


@dataclass(frozen=True, slots=True)
class Filters:
    """What a build asks of its rows.

    Attributes:
        languages: ISO 639-1 codes of the languages to keep; empty keeps all.
        quality: ``drop`` or ``off``.
        privacy: ``mask``, ``drop``, ``flag`` or ``off``; None for what each source declares.
        contamination: ``drop``, ``flag`` or ``off``.
        duplicates: ``drop``, ``flag`` or ``off``.
        against: Evaluation sets (JSONL, Parquet or CSV files) beside the exams that Meadow builds.
        policy: Which licences rows may have; None for any.
    """

    languages: tuple[str, ...] = ("en",)
    quality: str = "drop"
    privacy: str | None = None
    contamination: str = "drop"
    duplicates: str = "drop"
    against: tuple[Path, ...] = ()
    policy: Policy | None = None

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                known = ", ".join(choice for choice in choices if choice)
                raise ValueError(f"{name} {value!r}: it is one of {known}")


class Finding(NamedTuple):
    """Something in a row that could identify a person; its text is not repeated here.

    Attributes:
        type: ``EMAIL``, ``PHONE``...
        field: The column it was found in.
        start: Its first character in the column as it was read, before anything was masked.
        end: The character after its last.
    """

    type: str
    field: str
    start: int
    end: int


@dataclass(slots=True)
class Seen:
    """What row filters have to say about one row besides keeping it or not.

    Attributes:
        notes: Labels to count, as (stage, label): ``("language", "too short to judge")``.
        findings: What could identify a person.
    """

    notes: Counter = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def note(self, stage: str, label: str) -> None:
        """Counts the row under a label of a stage."""
        self.notes[stage, label] += 1


@dataclass(frozen=True, slots=True)
class Piece:
    """A part file as the set filters see it.

    Attributes:
        part: The file, its datasets and its split; `meadow.pipeline.tasks.batches` reads it.
        drop: Numbers of its rows that are left out already, ascending; None: none.
        source: The source it comes from.
        fields: The columns that this source's duplicates are judged by.
        priority: The source's rank among survivors; lower survives.
        exam: Whether these are rows to score models on, which stay as they were published.
    """

    part: Part
    drop: np.ndarray | None
    source: str
    fields: tuple[str, ...]
    priority: int
    exam: bool


class RowFilter(Protocol):
    """A filter that looks at one row at a time; made once per shard, in its worker."""

    #: Its name in `STAGES`.
    stage: str

    def __call__(self, example: Example, seen: Seen) -> Example | Rejected:
        """Returns the row, perhaps repaired or masked, or why it is left out."""
        ...


def row_filters(builder: Builder, filters: Filters, *, sample: bool) -> list[RowFilter]:
    """The row filters of a source under these settings, in the order of `STAGES`."""
    from meadow.filters.language import LanguageFilter
    from meadow.filters.license import LicenseFilter
    from meadow.filters.privacy import PrivacyFilter
    from meadow.filters.quality import Quality, QualityFilter

    found: list[RowFilter] = []
    if filters.quality != "off":
        found.append(QualityFilter(builder.quality or Quality()))
    if filters.languages:
        found.append(LanguageFilter(filters.languages))
    if filters.policy is not None:
        found.append(LicenseFilter(filters.policy, builder, sample=sample))
    policy = filters.privacy or builder.privacy
    if policy != "off":
        found.append(PrivacyFilter(policy))
    return found


def described(filters: Filters, builder: Builder) -> dict[str, Any]:
    """The settings as a manifest records them, without paths of this machine."""
    found = asdict(filters)
    found["languages"] = list(filters.languages)
    found["privacy"] = filters.privacy or builder.privacy
    found["against"] = sorted(path.name for path in filters.against)
    found["policy"] = filters.policy.described() if filters.policy else None
    return found
