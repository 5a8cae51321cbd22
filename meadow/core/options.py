"""What a build is asked to do: one value from the command line to the worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from meadow.core import manifest
from meadow.core.errors import UsageError
from meadow.core.licenses.policy import Policy

Quality = Literal["drop", "off"]
Privacy = Literal["mask", "drop", "flag", "off"]
Action = Literal["drop", "flag", "off"]

#: What each switch of `BuildOptions` may be set to, the default first.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "quality": get_args(Quality),
    "privacy": get_args(Privacy),
    "contamination": get_args(Action),
    "duplicates": get_args(Action),
}
_PATHS = ("raw", "out", "lock")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What a build is asked to do. Paths may be given as text.

    Attributes:
        raw: The raw store, a folder per source; None for ``$MEADOW_RAW`` or the user's cache.
        out: The output folder; None for ``$MEADOW_OUT`` or the user's cache.
        workers: Processes. The output is the same for any number.
        sample: Build from the embedded samples, whatever the raw store holds.
        require_raw: A source without raw files is an error, where it would be built from its sample.
        parameters: Per source, values for what its `defaults` name.
        languages: ISO 639-1 codes of the languages to keep; empty keeps all.
        quality: ``drop`` or ``off``.
        privacy: ``mask``, ``drop``, ``flag`` or ``off``; None for what each source declares.
        contamination: ``drop``, ``flag`` or ``off``.
        duplicates: ``drop``, ``flag`` or ``off``.
        against: Evaluation sets (JSONL, Parquet or CSV files) beside the exams that Meadow builds.
        policy: Which licences rows may have; None for any.
        lock: A lock file that the one mixture to build must reproduce.
        allow_missing: Build mixtures without parts that are missing, and say so in all that describes them.

    Raises:
        UsageError: A switch is set to what it cannot be, or options exclude each other.
    """

    raw: Path | None = None
    out: Path | None = None
    workers: int = 1
    sample: bool = False
    require_raw: bool = False
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    languages: tuple[str, ...] = ("en",)
    quality: Quality = "drop"
    privacy: Privacy | None = None
    contamination: Action = "drop"
    duplicates: Action = "drop"
    against: tuple[Path, ...] = ()
    policy: Policy | None = None
    lock: Path | None = None
    allow_missing: bool = False

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices and not (name == "privacy" and value is None):
                raise UsageError(f"{name} {value!r}: it is one of {', '.join(choices)}")
        if self.sample and self.require_raw:
            raise UsageError("sample and require_raw exclude each other")
        for name in _PATHS:
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))
        object.__setattr__(self, "languages", tuple(self.languages))
        object.__setattr__(self, "against", tuple(map(Path, self.against)))

    def recorded(self, privacy: str) -> manifest.Filters:
        """What a manifest says was asked of rows; `privacy` is what the source declares."""
        recorded: dict[str, Any] = {name: getattr(self, name) for name in ("languages", *CHOICES)}
        recorded["privacy"] = self.privacy or privacy
        recorded["against"] = tuple(sorted(path.name for path in self.against))
        recorded["policy"] = self.policy.described() if self.policy else None
        return manifest.Filters(**recorded)
