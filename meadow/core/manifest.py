"""A dataset's manifest: what ``manifest.json`` holds, typed. It is written and read here and nowhere else.

Keys are those of the file. A key that one kind of dataset does not have (a mixture has no `filters`) is left
out of its file and is at its default here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic

from meadow.core.errors import Error
from meadow.core.licenses import License
from meadow.core.licenses.judge import Verdict
from meadow.core.yamlfile import key_of, kind

#: The format that this Meadow writes, and the only one it reads.
FORMAT = 1

Policy = Literal["drop", "flag", "off"]


class ManifestError(Error):
    """A manifest that is older or newer than this Meadow, or damaged; the message names field and remedy."""


class Record(pydantic.BaseModel):
    """A part of a manifest: immutable, and with no key that is not known."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class FileSum(Record):
    """A file: its path relative to the raw store or the dataset's folder, size and SHA-256."""

    path: str
    bytes: int
    sha256: str


class Split(Record):
    """A split: its rows, their bytes in memory as Arrow counts them, and its Parquet files in order."""

    rows: int
    bytes: int
    files: tuple[FileSum, ...]


class FunnelStage(Record):
    """A stage of a funnel: rows that came in and went out, and those left out by reason."""

    stage: str
    read: int
    kept: int
    dropped: dict[str, int]


class Funnel(Record):
    """Rows read, kept and left out, in all and stage by stage; ``read = kept + dropped`` holds for each."""

    read: int
    kept: int
    dropped: dict[str, int]
    stages: tuple[FunnelStage, ...] = ()

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """Why rows were left out and how many, most first."""
        found = ((reason, count) for reason, count in self.dropped.items() if count)
        return sorted(found, key=lambda item: (-item[1], item[0]))

    @pydantic.model_validator(mode="after")
    def _balances(self) -> Funnel:
        if self.read != self.kept + sum(self.dropped.values()):
            raise ValueError(
                f"the funnel does not balance: {self.read} rows read, {self.kept} kept, "
                f"{sum(self.dropped.values())} dropped"
            )
        return self


class Filters(Record):
    """What the build asked of rows: every switch of `meadow.core.options.BuildOptions`. Names of files, no paths."""

    model_config = pydantic.ConfigDict(extra="allow")  # a new filter's switch is declared there alone

    languages: tuple[str, ...]
    quality: str
    privacy: str
    contamination: str
    duplicates: str
    against: tuple[str, ...]
    policy: dict[str, Any] | None


class Privacy(Record):
    """What could identify a person: what was done about it, rows that hold any, findings by type."""

    policy: str
    rows: int
    findings: dict[str, int]


class CheckedExam(Record):
    """An exam that rows were compared with.

    Attributes:
        exam: Its name.
        version: Its version; empty for a user's file.
        split: Its split; empty for a user's file.
        sample: Whether it is an embedded sample in place of the real exam.
        items: Items that were compared with.
        unjudged: Items that are too short to be told from any other text.
        items_hit: Items that some row holds.
        rows_hit: Rows that hold some item.
        rows_dropped: Those of them that were left out.
        sha256: Over the sorted items.
    """

    exam: str
    version: str
    split: str
    sample: bool
    items: int
    unjudged: int
    items_hit: int
    rows_hit: int
    rows_dropped: int
    sha256: str


class Contamination(Record):
    """Which exams rows were compared with.

    Attributes:
        policy: What was done about rows that hold an item.
        exams: The exams.
        unchecked: What rows were not compared with and why, a sentence each.
        unchecked_exams: The sources of `unchecked`, in the same order.
    """

    policy: str
    exams: tuple[CheckedExam, ...] = ()
    unchecked: tuple[str, ...] = ()
    unchecked_exams: tuple[str, ...] = ()


class Duplicates(Record):
    """The duplicates found; all but `policy` is missing where no rows were compared.

    Attributes:
        policy: What was done about them.
        fields: The columns compared.
        threshold: The least Jaccard similarity of near duplicates.
        exact: Rows of this dataset left out as exact duplicates.
        near: Rows left out as near duplicates.
        clusters: Clusters in ``duplicates.parquet``.
        contradicting: Rows that are kept though they match, because they contradict.
        compared_with: The other datasets of the build.
    """

    policy: str
    fields: tuple[str, ...] = ()
    threshold: float | None = None
    exact: int = 0
    near: int = 0
    clusters: int = 0
    contradicting: int = 0
    compared_with: tuple[str, ...] = ()


class Lengths(Record):
    """Lengths of a column's texts: percentiles, and a histogram of (lower edge, rows)."""

    unit: str
    mean: float
    min: int
    p5: int
    p25: int
    p50: int
    p75: int
    p95: int
    p99: int
    max: int
    histogram: tuple[tuple[float, int], ...] = ()


class PartPolicy(Record):
    """What the build of a mixture's part did about something."""

    policy: str | None = None


class PartContamination(Record):
    """Which exams a mixture's part was compared with: ``medqa``, ``medqa (sample)``."""

    policy: str | None = None
    exams: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    unchecked_exams: tuple[str, ...] = ()


class PartTaken(Record):
    """What a mixture took of one dataset.

    Attributes:
        dataset: Its name.
        version: Its version.
        split: The splits that rows were drawn from.
        wanted: Rows that the mixture asks for; None for all.
        available: Rows there were after its conditions.
        taken: Rows that are in it.
        published: Rows that the published collection took.
        note: What else the card says of it.
        ids_sha256: Of the dataset, as in its own manifest.
        rows_sha256: The same.
        sample: Whether it is an embedded sample.
        contamination: What its build compared it with.
        privacy: What its build did.
        duplicates: The same.
    """

    dataset: str
    version: str
    split: tuple[str, ...]
    wanted: int | None
    available: int
    taken: int
    ids_sha256: str
    rows_sha256: str
    sample: bool
    contamination: PartContamination
    privacy: PartPolicy
    duplicates: PartPolicy
    published: int | None = None
    note: str = ""


class MissingPart(Record):
    """A part that a mixture asks for and that is not in it."""

    dataset: str
    reason: str


class PublishedPart(Record):
    """A part of the published collection that has no builder."""

    name: str
    published: int | None
    reason: str


def _with_ids(value: object) -> object:
    if isinstance(value, Mapping):
        return {
            spdx: {**terms, "id": spdx} if isinstance(terms, Mapping) else terms
            for spdx, terms in value.items()
        }
    return value


class Licensing(Record):
    """Rows per licence and per model that wrote them, and the licences' terms by id."""

    licenses: dict[str, int] = {}
    license_terms: dict[str, License] = {}
    generators: dict[str, int] = {}

    _ids = pydantic.field_validator("license_terms", mode="before")(_with_ids)

    @pydantic.field_serializer("license_terms")
    def _terms(self, value: dict[str, License]) -> dict[str, Any]:
        return {spdx: terms.described() for spdx, terms in value.items()}

    @property
    def license_ids(self) -> list[str]:
        """The licences that rows carry, most rows first; without rows, the declared ones."""
        counts = self.licenses or dict.fromkeys(self.license_terms, 0)
        return sorted(counts, key=lambda spdx: (-counts[spdx], spdx))

    def terms(self, spdx: str) -> License:
        """The terms of a licence; where none are listed, those that Meadow knows."""
        return self.license_terms.get(spdx) or License.of(spdx)


class MixtureRecord(Record):
    """How a mixture came about.

    Attributes:
        name: Its name; the dataset is called ``mixture_<name>``.
        definition_sha256: Of its definition.
        seed: What rows were drawn by.
        complete: Whether no part is missing.
        parts: What was taken of each dataset.
        missing: Parts that are not there.
        not_in_meadow: Parts of the published collection without a builder.
        counts_from: Where published counts stand.
        licensing: Licences by dataset.
        exam_rows: Rows that hold an exam item, by exam; see `meadow.mix`.
    """

    name: str
    definition_sha256: str
    seed: int
    complete: bool
    parts: tuple[PartTaken, ...]
    missing: tuple[MissingPart, ...]
    not_in_meadow: tuple[PublishedPart, ...]
    counts_from: str
    licensing: dict[str, Licensing]
    exam_rows: dict[str, Any] = {}


class BuiltWith(Record):
    """Versions of what wrote the files."""

    meadow: str
    pyarrow: str


class Manifest(Licensing):
    """What is known of one version of a dataset.

    Attributes:
        format: The format of the file; see `FORMAT`.
        name: The dataset.
        source: The source it comes from; ``mixture`` for mixtures.
        version: ``MAJOR.MINOR.PATCH``.
        sample: Whether it is an embedded sample, or a mixture of such.
        test_only: Whether it is an exam, which must never be trained on.
        raw: The raw files that rows came from.
        filters: What was asked of rows.
        notes: Labels that row filters counted, by stage.
        splits: The splits in order.
        features: Columns with their types as Arrow writes them.
        lengths: Of `input` and `output`.
        example: The first row; None where it is nobody's to show.
        mixture: How it was mixed; None where it is no mixture.
        ids_sha256: SHA-256 of all ids in byte order, each with a newline: what ``sort | sha256sum`` gives.
        rows_sha256: See `meadow.core.row.content_hash`.
    """

    format: Literal[1] = FORMAT
    name: str
    source: str
    version: str
    description: str
    homepage: str
    release_notes: dict[str, str]
    sample: bool
    languages: tuple[str, ...]
    task: str
    test_only: bool
    parameters: dict[str, Any]
    raw: tuple[FileSum, ...]
    filters: Filters | None = None
    mixture: MixtureRecord | None = None
    funnel: Funnel
    notes: dict[str, dict[str, int]] = {}
    privacy: Privacy | None = None
    splits: dict[str, Split]
    features: dict[str, str]
    license_verdict: Verdict
    citation: str
    lengths: dict[str, Lengths]
    example: dict[str, Any] | None = None
    ids_sha256: str
    rows_sha256: str
    built_with: BuiltWith
    contamination: Contamination | None = None
    duplicates: Duplicates | None = None

    @property
    def rows(self) -> int:
        """Rows of all splits."""
        return sum(split.rows for split in self.splits.values())

    def exam_splits(self) -> tuple[str, ...]:
        """The splits that models are scored on: all of an exam's, else ``test``."""
        return tuple(split for split in self.splits if self.test_only or split == "test")

    def text(self) -> str:
        """What the file holds."""
        found = self.model_dump(mode="json", exclude_unset=True)
        return json.dumps({"format": FORMAT, **found}, ensure_ascii=False, indent=2) + "\n"

    def write(self, path: Path) -> None:
        """Writes the file."""
        path.write_text(self.text(), encoding="utf-8", newline="\n")


def read(path: Path, remedy: str) -> Manifest:
    """Reads a manifest.

    Args:
        path: The file.
        remedy: How to get a good one, for the message.

    Raises:
        ManifestError: It cannot be read, is older or newer than this Meadow, or is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path}: {error}; {remedy}") from error
    return loads(data, str(path), remedy)


def loads(data: bytes | str, where: str, remedy: str) -> Manifest:
    """Decodes a manifest that stands at `where`; raises as `read`."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: {error}; {remedy}") from error
    version = found.get("format") if isinstance(found, dict) else None
    if isinstance(found, dict) and version is None:
        raise ManifestError(f"{where}: it has no `format`: an earlier Meadow wrote it; {remedy}")
    if type(version) is int and version > FORMAT:
        raise ManifestError(
            f"{where}: format {version}, written by a newer Meadow, and this one reads {FORMAT}; update Meadow"
        )
    try:
        return Manifest.model_validate_json(json.dumps(found), strict=True)
    except pydantic.ValidationError as error:
        first, count = error.errors(include_url=False)[0], error.error_count()
        more = f" (and {count - 1} more)" if count > 1 else ""
        found_there = first["input"]
        shown = kind(found_there) if isinstance(found_there, dict | list) else repr(found_there)[:80]
        what = "is missing" if first["type"] == "missing" else f"is {shown}: {first['msg']}"
        raise ManifestError(
            f"{where}: damaged: {key_of(first['loc']) or 'it'} {what}{more}; {remedy}"
        ) from error
