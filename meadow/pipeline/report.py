"""What a build tells people: what it made, what it could not make, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from meadow.core.manifest import Manifest
from meadow.core.row import Rejected
from meadow.pipeline.screen import ScreenedSource


@dataclass
class Report:
    """What a build did.

    Attributes:
        out: The output folder.
        manifests: Manifest of each dataset built, in order.
        failed: Sources that could not be built at all, with the reason.
        empty: Datasets of which nothing was published, with the reason.
        notes: What else a person should know: unused raw files, datasets without rows.
        files_left_out: (dataset, rejected file) of every file that could not be used.
    """

    out: Path
    manifests: list[Manifest] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    empty: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files_left_out: list[tuple[str, Rejected]] = field(default_factory=list)

    def note(self, notes: Iterable[str]) -> None:
        """Adds what is not noted yet."""
        self.notes += [note for note in notes if note not in self.notes]

    def add(self, other: Report) -> None:
        """Takes in what another build in the same folder did."""
        again = {manifest.name for manifest in other.manifests}
        self.manifests = [m for m in self.manifests if m.name not in again] + other.manifests
        self.empty.update(other.empty)
        self.note(other.notes)
        self.files_left_out += [entry for entry in other.files_left_out if entry not in self.files_left_out]


def repeats(source: ScreenedSource, config: str) -> bool:
    """Whether rows of a dataset are left out as duplicates; these had passed all other filters."""
    return any(stage == "duplicates" and count for (stage, _), count in source.out.dropped[config].items())


def no_rows(source: ScreenedSource, config: str) -> str:
    """Why nothing of a dataset was published."""
    if repeats(source, config):
        return (
            "each of its usable rows duplicates one that another dataset keeps, so nothing was published: "
            f"{reasons(source, (config,))}. To publish them all the same, build it alone or with "
            "duplicates set to flag"
        )
    if source.parsed.read[config]:
        why = reasons(source, (config,))
        return f"no usable row in these raw files, so nothing was published: {why}"
    return "these raw files hold no row of it, so nothing was published"


def reasons(source: ScreenedSource, configs: tuple[str, ...]) -> str:
    """Why rows and files of datasets were left out."""
    parsed = source.parsed
    files = dict.fromkeys(rejected for config in configs for rejected in parsed.bad_files[config])
    dropped: Counter[str] = Counter()
    for config in configs:
        every = parsed.dropped[config] + source.out.dropped[config]
        dropped |= Counter({reason: n for (_, reason), n in every.items()})
    for rejected in files:
        dropped[rejected.reason] -= 1
    why = [f"{r.file or r.id}: {r.reason} ({r.detail})" for r in files]
    if len(why) > 5:
        why[5:] = [f"{len(why) - 5} more files"]
    why += [f"{reason} {count:,}" for reason, count in sorted((+dropped).items())]
    return "; ".join(why) or "they hold no record"
