"""The manifest of a mixture."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from meadow.core.licenses import License
from meadow.core.licenses.judge import judge
from meadow.core.manifest import (
    BuiltWith,
    Funnel,
    FunnelStage,
    Licensing,
    Manifest,
    MissingPart,
    MixtureRecord,
    PartContamination,
    PartPolicy,
    PartTaken,
    PublishedPart,
)
from meadow.core.version import VERSION
from meadow.mix.definition import Mixture, MixtureError
from meadow.mix.finding import FoundPart, LackingPart
from meadow.mix.reading import STAGES
from meadow.mix.writing import TakenRows
from meadow.pipeline import record as recording
from meadow.pipeline.files import WrittenFile

#: What stands as `source` in the manifest of a mixture.
SOURCE = "mixture"


@dataclass(frozen=True)
class MixedPart:
    """What became of a part.

    Attributes:
        wanted: Rows that the mixture asks for; None for all.
        available: Rows that might have been drawn.
        taken: What was taken of each of its files.
        exam_rows: Rows taken that hold an exam item, which the dataset's build only listed.
    """

    found: FoundPart
    wanted: int | None
    available: int
    taken: Sequence[TakenRows]
    exam_rows: int

    @property
    def manifest(self) -> Manifest:
        """Of the dataset."""
        return self.found.manifest

    def counted(self, column: str) -> Counter[str]:
        """Rows taken by the values of a column that `TakenRows` counts."""
        return sum((each.counts[column] for each in self.taken), Counter())

    def described(self) -> PartTaken:
        """The entry of the mixture's manifest."""
        manifest, part = self.manifest, self.found.part
        checked, optional = manifest.contamination, {}
        if part.published is not None:
            optional["published"] = part.published
        if part.note:
            optional["note"] = part.note
        return PartTaken(
            dataset=manifest.name,
            version=manifest.version,
            split=self.found.splits,
            wanted=self.wanted,
            available=self.available,
            taken=sum(each.rows for each in self.taken),
            ids_sha256=manifest.ids_sha256,
            rows_sha256=manifest.rows_sha256,
            sample=manifest.sample,
            contamination=PartContamination()
            if checked is None
            else PartContamination(
                policy=checked.policy,
                exams=_once(exam.exam + (" (sample)" if exam.sample else "") for exam in checked.exams),
                unchecked=checked.unchecked,
                unchecked_exams=checked.unchecked_exams,
            ),
            privacy=PartPolicy(policy=manifest.privacy.policy) if manifest.privacy else PartPolicy(),
            duplicates=PartPolicy(policy=manifest.duplicates.policy) if manifest.duplicates else PartPolicy(),
            **optional,
        )


def make(
    mixture: Mixture,
    parts: Sequence[MixedPart],
    missing: Sequence[LackingPart],
    written: Mapping[str, list[tuple[str, WrittenFile]]],
    columns: dict[str, str],
    read: int,
    dropped: Mapping[str, int],
    folder: Path,
    scratch: Path,
) -> Manifest:
    """Makes the manifest.

    Args:
        mixture: The mixture.
        parts: What became of its parts; those that are not there are `missing`.
        written: Name and content of the files of each split, in order, which lie in `folder`.
        columns: The columns.
        read: Rows of all parts; of these are `dropped` by reason.
        scratch: A folder for working files.
    """
    every = [one for files in written.values() for _, one in files]
    manifests = [part.manifest for part in parts]
    licenses = sum((Counter(one.licenses) for one in every), Counter())
    kinds = sum((part.counted("task") for part in parts), Counter())
    licensing = _licensing(parts)
    # Of two parts from one source most raw files are the same.
    raw = {(file.path, file.sha256): file for manifest in manifests for file in manifest.raw}
    exam_rows = Counter()
    for part in parts:
        exam_rows[part.manifest.name] += part.exam_rows
    description = mixture.description
    if missing:
        description = f"INCOMPLETE, without {', '.join(each.dataset for each in missing)}: {description}"
    return Manifest(
        name=mixture.dataset,
        source=SOURCE,
        version=mixture.version,
        description=description,
        homepage=mixture.homepage,
        release_notes=dict(mixture.release_notes),
        sample=all(manifest.sample for manifest in manifests),
        languages=_once(code for manifest in manifests for code in manifest.languages),
        task=next(iter(kinds)) if len(kinds) == 1 else "mixed",
        test_only=False,
        parameters={"seed": mixture.seed},
        raw=tuple(raw[key] for key in sorted(raw)),
        mixture=MixtureRecord(
            name=mixture.name,
            definition_sha256=mixture.sha256(),
            seed=mixture.seed,
            complete=not missing,
            parts=tuple(part.described() for part in parts),
            missing=tuple(MissingPart(dataset=each.dataset, reason=each.reason) for each in missing),
            not_in_meadow=tuple(PublishedPart(**each.model_dump()) for each in mixture.not_in_meadow),
            counts_from=mixture.counts_from,
            licensing=licensing,
            exam_rows={name: count for name, count in sorted(exam_rows.items()) if count},
        ),
        funnel=_funnel(read, dropped, sum(one.rows for one in every)),
        splits=recording.splits(written),
        features=columns,
        licenses=dict(sorted(licenses.items())),
        license_terms=_terms(manifests, licenses),
        license_verdict=judge(licensing),
        citation=_citation(mixture, manifests),
        lengths={
            name: recording.lengths([one.lengths[name] for one in every]) for name in ("input", "output")
        },
        example=recording.first_row(folder, written),
        ids_sha256=recording.merged_ids_sha256([one.ids for one in every], scratch),
        rows_sha256=recording.rows_sha256(columns, written),
        built_with=BuiltWith(meadow=VERSION, pyarrow=pa.__version__),
    )


def _once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _licensing(parts: Sequence[MixedPart]) -> dict[str, Licensing]:
    """What `judge` asks for: per dataset, the rows taken and their terms."""
    found = {}
    for name in _once(part.manifest.name for part in parts):
        mine = [part for part in parts if part.manifest.name == name]
        licenses = sum((part.counted("license") for part in mine), Counter())
        # Rows of a sample only imitate a model's.
        generators = sum((part.counted("generator") for part in mine if not part.manifest.sample), Counter())
        terms = {spdx: term for spdx, term in mine[0].manifest.license_terms.items() if licenses[spdx]}
        found[name] = Licensing(
            licenses=dict(sorted(licenses.items())),
            license_terms=dict(sorted(terms.items())),
            generators=dict(sorted(generators.items())),
        )
    return found


def _terms(manifests: Sequence[Manifest], licenses: Iterable[str]) -> dict[str, License]:
    """The terms of all parts; where several give evidence for a licence, each is named with its own."""
    found = {}
    for spdx in sorted(licenses):
        by_dataset = {m.name: m.license_terms[spdx] for m in manifests if spdx in m.license_terms}
        first = next(iter(by_dataset.values()), License.of(spdx))
        named: dict[str, list[str]] = {}
        for name, term in by_dataset.items():
            named.setdefault(term.evidence, []).append(name)
        if len(named) > 1:
            first = first.because(" ".join(f"For {', '.join(n)}: {why}" for why, n in named.items() if why))
        found[spdx] = first
    return found


def _citation(mixture: Mixture, manifests: Sequence[Manifest]) -> str:
    """The BibTeX entries of the mixture and its parts, each key once."""
    texts = [mixture.citation, *(manifest.citation for manifest in manifests)]
    found: dict[str, str] = {}
    for entry in re.split(r"^(?=@)", "\n".join(texts), flags=re.MULTILINE):
        if entry.strip():
            key = re.match(r"@\w+\s*\{\s*([^,\s]+)", entry)
            found.setdefault(key[1] if key else entry, entry.strip())
    return "\n\n".join(found.values())


def _funnel(read: int, dropped: Mapping[str, int], kept: int) -> Funnel:
    left = read
    named = {reason for reasons in STAGES.values() for reason in reasons}
    stages = []
    for stage, reasons in STAGES.items():
        mine = {
            reason: count
            for reason, count in sorted(dropped.items())
            if reason in reasons or (stage == "license" and reason not in named)
        }
        stages.append(FunnelStage(stage=stage, read=left, kept=left - sum(mine.values()), dropped=mine))
        left = stages[-1].kept
    if left != kept:
        raise MixtureError(f"the funnel does not balance: read {read}, kept {kept}, dropped {dict(dropped)}")
    return Funnel(read=read, kept=kept, dropped=dict(sorted(dropped.items())), stages=tuple(stages))
