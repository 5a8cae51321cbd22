"""What a source declares, and which sources there are.

A source is one class: it declares itself in class attributes, cuts its raw files into independent
`Shard`s, and parses a shard into `Example`s. What cannot be used is yielded as `Rejected`; nothing
is dropped in silence. Parsing is pure: the same bytes give the same records on any machine.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from meadow.core.licenses import CC0, KNOWN, License
from meadow.core.rawstore import RawPattern, RawSource, find
from meadow.core.row import COLUMNS, Example, Rejected

if TYPE_CHECKING:
    from meadow.core.quality import Quality
    from meadow.core.rawfile import RawFile

#: Entry point group under which packages offer their sources.
ENTRY_POINTS = "meadow.builders"

_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Shard:
    """An independent piece of work. It travels to a worker process, so it must pickle.

    Attributes:
        key: Unique within the source and the same in every build of the same raw files.
        files: The raw files it reads.
        configs: The datasets its records belong to unless they say otherwise.
        args: Whatever else `examples` needs.
    """

    key: str
    files: tuple[RawFile, ...]
    configs: tuple[str, ...]
    args: Mapping[str, Any] = field(default_factory=dict)


class Builder(ABC):
    """Base class of all sources. See CONTRIBUTING.md for a complete one.

    Class attributes:
        name: The source's name, which is its folder's name in the raw store.
        version: ``MAJOR.MINOR.PATCH``: PATCH same records, other bytes; MINOR new columns, same
            records; MAJOR records changed.
        release_notes: One entry for every version there has been.
        description: One sentence.
        configs: The datasets it builds. Override `configs_of` where raw files decide.
        raw_files: What it reads.
        license: The licence of rows that name none, with the evidence for it.
        licenses: Other licences that single rows can carry.
        changes: What becomes of the source's texts, in words for those whose licence asks that changes be
            indicated; empty for the usual (`meadow.describe.attribution.CHANGES`).
        homepage: Where the publisher presents the data.
        asks: What the publisher wants agreed to before a download, in words; see `meadow.fetch.terms`.
        by_hand: Why it declares no address, and where its files go, for ``meadow fetch``.
        languages: ISO 639-1 codes.
        task: ``question-answering``, ``multiple-choice``, ``summarization``...
        duplicate_fields: The columns that its duplicates are judged by.
        priority: Which of two duplicates from different sources survives: the one of the lower number.
        privacy: What is done about text that could identify a person: ``mask`` it, ``drop`` the row,
            ``flag`` it, ``off``. Published articles and exams say ``flag``; what people wrote
            themselves is masked.
        quality: Its thresholds; None for those of `meadow.core.quality.Quality`.
        extra_features: Columns of its own: name to ``string``, ``int64``, ``float64``, ``bool`` or
            ``list<string>``.
        split_shares: Shares by hash of `group` where the publisher has no splits.
        official_splits: The publisher's split names, in order, where it has them.
        test_only: True for exams, which must never be trained on.
        defaults: What a build may set, with its default; read as `self.parameters`.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    release_notes: ClassVar[Mapping[str, str]]
    description: ClassVar[str]
    configs: ClassVar[tuple[str, ...]]
    raw_files: ClassVar[tuple[RawPattern, ...]]
    license: ClassVar[License]
    licenses: ClassVar[tuple[License, ...]] = ()
    changes: ClassVar[str] = ""
    homepage: ClassVar[str] = ""
    asks: ClassVar[str] = ""
    by_hand: ClassVar[str] = ""
    languages: ClassVar[tuple[str, ...]] = ("en",)
    task: ClassVar[str] = "question-answering"
    duplicate_fields: ClassVar[tuple[str, ...]] = ("input", "output")
    priority: ClassVar[int] = 50
    privacy: ClassVar[str] = "mask"
    quality: ClassVar[Quality | None] = None
    extra_features: ClassVar[Mapping[str, str]] = _EMPTY
    split_shares: ClassVar[Mapping[str, float]] = MappingProxyType({"train": 0.9, "validation": 0.1})
    official_splits: ClassVar[tuple[str, ...]] = ()
    test_only: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, Any]] = _EMPTY

    def __init__(self, **parameters: Any) -> None:
        unknown = sorted(set(parameters) - set(self.defaults))
        if unknown:
            known = ", ".join(sorted(self.defaults)) or "none"
            raise ValueError(f"{self.name}: no parameter {', '.join(unknown)}; its parameters: {known}")
        self.parameters: dict[str, Any] = {**self.defaults, **parameters}

    @abstractmethod
    def shards(self, raw: RawSource) -> Iterable[Shard | Rejected]:
        """Cuts the raw files into pieces that can be parsed independently.

        Runs once, in the parent process. Order and keys must follow from the raw files alone.
        A file that cannot even be opened is yielded as `Rejected`, or raised as `RawFileError`
        where it is the only one.
        """

    @abstractmethod
    def examples(self, shard: Shard) -> Iterator[Example | Rejected]:
        """Parses one shard; runs in a worker.

        Raises:
            meadow.core.rawfile.RawFileError: The file is damaged. All records of the shard are then left
                out and the file is listed, the rest of the build goes on.
        """

    def configs_of(self, raw: RawSource) -> tuple[str, ...]:
        """The datasets that these raw files give, in order of display."""
        return self.configs

    def datasets(self, root: Path | None) -> tuple[str, ...]:
        """The datasets that its files in a raw store give, or else its sample."""
        raw = find(self, root)
        return self.configs_of(raw if raw.files else find(self, None))

    @classmethod
    def features(cls) -> dict[str, str]:
        """All columns of its datasets, with their types as Arrow writes them.

        Raises:
            ValueError: One of its own has the name of one that every dataset has.
        """
        clash = sorted(set(COLUMNS) & set(cls.extra_features))
        if clash:
            raise ValueError(f"{cls.name}: extra_features repeats the column {', '.join(clash)}")
        return {**COLUMNS, **cls.extra_features}

    @classmethod
    def exam_splits(cls) -> tuple[str, ...]:
        """The splits that models are scored on: all of an exam's, else the publisher's ``test``."""
        splits = dict.fromkeys((*cls.official_splits, *cls.split_shares))
        return tuple(
            name for name in splits if cls.test_only or (name == "test" and name in cls.official_splits)
        )

    @classmethod
    def terms(cls) -> dict[str, License]:
        """The licences that its rows can carry, by id; rows of its sample are Meadow's own writing, CC0."""
        return {term.id: term for term in (CC0, cls.license, *cls.licenses)}

    def card_name(self, config: str) -> str:
        """The file in ``cards/`` whose words describe `config`."""
        return config

    @classmethod
    def folder(cls) -> Path:
        """The folder that the class lives in, with its sample, checksums and citation."""
        import inspect

        return Path(inspect.getfile(cls)).parent

    @classmethod
    def citation(cls) -> str:
        """The BibTeX entries of the source, or an empty string."""
        path = cls.folder() / "CITATION.bib"
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

    @classmethod
    def problems(cls) -> list[str]:
        """What is wrong with the declarations, in words; empty where all is well."""
        needed = [name for name in Builder.__annotations__ if not hasattr(Builder, name)]
        found = [f"{cls.__name__} declares no `{name}`" for name in needed if not hasattr(cls, name)]
        if found:
            return found
        if not re.fullmatch(r"\d+\.\d+\.\d+", cls.version):
            found.append(f"version {cls.version!r} is not MAJOR.MINOR.PATCH")
        elif cls.version not in cls.release_notes:
            found.append(f"version {cls.version} has no entry in `release_notes`")
        if "instruction" in cls.duplicate_fields:
            found.append("`instruction` is constant and cannot be among `duplicate_fields`")
        return found


def available() -> tuple[dict[str, type[Builder]], dict[str, str]]:
    """Finds the sources that installed packages offer.

    Returns:
        The builder classes by name, and for each entry point that could not be used, why.
    """
    from importlib.metadata import entry_points

    found: dict[str, type[Builder]] = {}
    broken: dict[str, str] = {}
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda p: (p.name, p.value)):
        try:
            cls = point.load()
            problems = cls.problems()
        except Exception as error:  # a foreign package may fail in any way; the others go on
            broken[point.name] = f"{point.value}: {type(error).__name__}: {error}"
            continue
        if problems:
            broken[point.name] = f"{point.value}: {'; '.join(problems)}"
        elif cls.name in found and found[cls.name] is not cls:
            broken[point.name] = f"{point.value}: the name {cls.name} is taken by {found[cls.name]!r}"
        else:
            found[cls.name] = cls
    return dict(sorted(found.items())), broken


def dataset_names(classes: Mapping[str, type[Builder]], raw: Path | None) -> dict[str, str]:
    """The datasets that can be built, with their source; some depend on what the raw store holds."""
    return {config: source for source, cls in classes.items() for config in cls().datasets(raw)}


def license_ids() -> set[str]:
    """The ids of all licences that Meadow or an installed source knows."""
    declared = (term for source in available()[0].values() for term in (source.license, *source.licenses))
    return {*KNOWN, *(term.id for term in declared)}
