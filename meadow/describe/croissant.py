"""``croissant.json``: a version of a dataset as Croissant 1.1 with the properties for responsible AI.

Croissant is JSON-LD on top of schema.org. What is said here is what manifest and card say: counts, licences,
checksums and the words that people wrote. No row is quoted. Addresses of files are relative, so the folder can
be moved, pushed and downloaded; ``mlcroissant.Dataset("wikidoc/1.0.0/croissant.json").records("wikidoc")``
reads its rows. What it says, and what the columns of rows mean, stands in ``templates/croissant.yaml.j2``.

Specifications: Croissant 1.1 (mlcommons.org/croissant/1.1) and Croissant RAI 1.0 (mlcommons.org/croissant/RAI/1.0).
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import pyarrow.parquet as pq
import yaml

from meadow.core.manifest import FunnelStage, Manifest
from meadow.core.store import ATTRIBUTION
from meadow.describe import citations
from meadow.describe.cards.markdown import is_url
from meadow.describe.cards.metadata import struct_fields
from meadow.describe.cards.templates import FOLDER, environment

#: Stages of a build whose setting has another name.
_SETTING = {"license": "policy", "language": "languages"}
#: Characters that YAML has only as escapes.
_ESCAPED = re.compile("[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def make(
    manifest: Manifest,
    prose: Mapping[str, str],
    dates: tuple[str, str] | None = None,
    attribution: tuple[int, str] | None = None,
) -> dict[str, Any]:
    """Describes a version of a dataset, as JSON-LD.

    Args:
        manifest: Its manifest.
        prose: The words of its card by section, as `meadow.describe.cards.prose` gives them.
        dates: The oldest and the newest `source_date` of its rows, ISO 8601 as far as known.
        attribution: Bytes and SHA-256 of its ``ATTRIBUTION.parquet``.
    """
    from meadow.filters.privacy import LIMITS  # late: it loads what it screens with

    published, published_is = _published(manifest, dates)
    names = [file.path for split in manifest.splits.values() for file in split.files]
    # The longest first: mlcroissant makes file patterns out of it, and so it can have no pattern for numbers.
    either = "|".join(re.escape(split) for split in sorted(manifest.splits, key=len, reverse=True))
    text = _environment().get_template("croissant.yaml.j2").render(
        m=manifest,
        prose=prose,
        collection="\n\n".join(filter(None, (prose.get("what-it-is"), prose.get("how-it-was-made")))),
        faults=_points(prose.get("known-faults", "")),
        limits=" ".join(LIMITS.split()),
        dates=dates,
        published=published,
        published_is=published_is,
        cite_as=citations.cited(manifest).removesuffix("\n"),
        creators=_creators(manifest),
        stages=_stages(manifest),
        asked=functools.partial(_asked, manifest),
        attribution=attribution,
        patterns=list(dict.fromkeys(re.sub(r"-\d+-of-\d+\.parquet$", "-*.parquet", n) for n in names)),
        split_pattern=rf"^({either})(?:-.+\.parquet)?$",
    )  # fmt: skip
    found = yaml.safe_load(text)
    found["distribution"] = found["distribution"] or []
    return {key: value for key, value in found.items() if value or not key.startswith("rai:")}


@functools.cache
def _environment() -> jinja2.Environment:
    return environment(FOLDER, _quoted, {"is_url": is_url, "struct_fields": struct_fields})


def _quoted(value: object) -> str:
    """Text as it stands between YAML's double quotes."""
    written = json.dumps(str(value), ensure_ascii=False)[1:-1]
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


def write(folder: Path, manifest: Manifest, prose: Mapping[str, str], path: Path) -> None:
    """Writes ``croissant.json`` to `path` for the files of a version that lie in `folder`; `prose` as in `make`."""
    credit = folder / ATTRIBUTION
    attribution = None
    if credit.is_file():
        with credit.open("rb") as stream:
            attribution = credit.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest()
    dates = _dates(folder / file.path for split in manifest.splits.values() for file in split.files)
    text = json.dumps(make(manifest, prose, dates, attribution), ensure_ascii=False, indent=2)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _dates(files: Iterable[Path]) -> tuple[str, str] | None:
    """The oldest and newest `source_date`, from the footers of Parquet files: no row is read."""
    known = re.compile(r"\d{4}(-\d\d(-\d\d)?)?")
    found: list[str] = []
    for path in files:
        footer = pq.read_metadata(path)
        names = [footer.schema.column(number).path for number in range(footer.num_columns)]
        for group in range(footer.num_row_groups if "source_date" in names else 0):
            statistics = footer.row_group(group).column(names.index("source_date")).statistics
            if statistics is not None and statistics.has_min_max:
                found += [value for value in (statistics.min, statistics.max) if known.fullmatch(str(value))]
    return (min(found), max(found)) if found else None


def _published(manifest: Manifest, dates: tuple[str, str] | None) -> tuple[str, str]:
    """The date that Croissant requires, and in words which one it is; both empty where nothing tells one."""
    if dates:
        return dates[1], "the date of the newest text in it"
    for bibtex, why in (
        (manifest.citation, "the year in which its source was described"),
        (citations.paper(), "the year in which the collection was described"),
    ):
        years = (entry.fields.get("year", "") for entry in citations.entries(bibtex))
        if newest := max((year for year in years if re.fullmatch(r"\d{4}", year)), default=""):
            return newest, why
    return "", ""


def _creators(manifest: Manifest) -> list[tuple[str, str]]:
    """The authors that the sources' own citations name, with their types."""
    people = dict.fromkeys(
        (person.name, "sc:Organization" if person.whole else "sc:Person")
        for entry in citations.entries(manifest.citation)
        for person in entry.authors
    )
    return list(people) or [(citations.CONTRIBUTORS, "sc:Organization")]


def _points(text: str) -> list[str]:
    """The points of a Markdown list, or its paragraphs."""
    points = re.split(r"^[-*] +", f"\n{text.strip()}", flags=re.MULTILINE)
    found = points if len(points) > 1 else text.split("\n\n")
    return [" ".join(point.split()) for point in found if point.strip()]


def _asked(manifest: Manifest, setting: str) -> bool:
    """Whether the build was told to do something, and did: an exam is what others are compared with."""
    left = setting != "languages" and getattr(manifest, setting, True) is None
    return getattr(manifest.filters, setting, None) not in (None, "off", ()) and not left


def _stages(manifest: Manifest) -> list[tuple[FunnelStage, Any]]:
    """The stages that rows went through, and how each was set."""
    stages = [(stage, _SETTING.get(stage.stage, stage.stage)) for stage in manifest.funnel.stages]
    settings = dict(manifest.filters or ())
    return [
        (stage, settings.get(setting))
        for stage, setting in stages
        if setting not in settings or _asked(manifest, setting)
    ]
