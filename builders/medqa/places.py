"""Finding MedQA's splits: loose files, compressed files, and members of the publisher's archive."""

from __future__ import annotations

import re
from dataclasses import dataclass

from meadow import RawFile, RawFileError, RawSource, Rejected, ZipArchive
from meadow.parse.records import unusable_file

#: A file of ours, loose or in an archive, below whatever folder; the rest of the archive (textbooks,
#: Mainland China, Taiwan, the unsplit US_qbank.jsonl) does not match.
_PATH = re.compile(
    r"(?:.*/)?questions/US/(?P<four>4_options/phrases_no_exclude_)?(?P<split>train|dev|test)\.jsonl(?P<packed>\.\w+)?",
    re.IGNORECASE,
)
_PACKED = (".gz", ".zst", ".bz2", ".xz")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a split's file lies: loose, or as a member of an archive.

    Attributes:
        file: The raw file.
        member: The member's name in an archive; empty for a loose file.
    """

    file: RawFile
    member: str = ""

    @property
    def path(self) -> str:
        """The path in the raw store, a member after an exclamation mark."""
        return f"{self.file.path}!{self.member}" if self.member else self.file.path

    @property
    def rank(self) -> tuple[bool, bool, str]:
        """Sorts the place to read before those that repeat it."""
        # A loose file is what a person put there on purpose, after the archive.
        return bool(self.member), self.file.name.lower().endswith(_PACKED), self.path


def choose(raw: RawSource) -> tuple[dict[tuple[str, str], Place], list[Rejected]]:
    """Finds the file to read for each dataset and split.

    Args:
        raw: The raw files.

    Returns:
        The places to read by (config, the publisher's name of the split), and why other files are not
        read: archives that cannot be opened or hold no file of ours, and second copies of a split.
    """
    places: dict[tuple[str, str], list[Place]] = {}
    rejected: list[Rejected] = []

    def add(place: Place, match: re.Match[str]) -> None:
        config = "medqa_4_options" if match["four"] else "medqa"
        places.setdefault((config, match["split"].lower()), []).append(place)

    for file in raw.files:
        if file.suffix == ".zip":
            try:
                with ZipArchive(file) as archive:
                    found = [(n, m) for n in archive.names() if (m := _PATH.fullmatch(n)) and not m["packed"]]
            except RawFileError as error:
                rejected.append(unusable_file(error, path=file.path))
                continue
            # A name that an archive holds twice reads as its last member either way.
            for name, match in dict(found).items():
                add(Place(file, name), match)
            if not found:
                rejected.append(_no_questions(file, "it holds no questions/US/{train,dev,test}.jsonl"))
        elif (match := _PATH.fullmatch(file.path)) and (match["packed"] or ".gz").lower() in _PACKED:
            add(Place(file), match)
        else:
            rejected.append(_no_questions(file, f"known endings are .jsonl and .jsonl{'/'.join(_PACKED)}"))
    chosen = {}
    for key, candidates in places.items():
        chosen[key], *others = sorted(candidates, key=lambda place: place.rank)
        rejected += [_second_copy(other, chosen[key], key[0]) for other in others]
    return chosen, rejected


def _no_questions(file: RawFile, detail: str) -> Rejected:
    return Rejected(
        "no MedQA questions in the file",
        file.path,
        detail,
        "Use the publisher's files under their own names, or take this one away.",
        file=file.path,
    )


def _second_copy(other: Place, kept: Place, config: str) -> Rejected:
    return Rejected(
        "second copy of a file",
        other.path,
        f"{kept.path} holds the same split and is read instead",
        "Nothing, if they are the same; otherwise keep the one you want.",
        file=other.file.path,
        configs=(config,),
    )
