"""croissant.json: that mlcroissant finds nothing wrong with it and reads the same rows through it as Parquet has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlcroissant
import pyarrow.parquet as pq
import pytest
from rdflib import Graph, Namespace, URIRef

from meadow.api import build_datasets
from meadow.core.manifest import Manifest
from meadow.core.store import Store
from meadow.describe import cards, croissant
from meadow.pipeline import publish
from tests import manifests, stores, toy

RAI = Namespace("http://mlcommons.org/croissant/RAI/")
SDO = Namespace("https://schema.org/")
EVERY_TYPE = {
    **stores.LEVEL,
    "share": "float64",
    "closed": "bool",
    "terms": "list<string>",
    "split": "string",
}
PROSE = {
    "what-it-is": "Questions from a ward.",
    "how-it-was-made": "By hand.",
    "known-faults": "- Few.\n- Old\n  ones.\n",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Store:
    out = tmp_path_factory.mktemp("croissant") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "draw", toy.no_plot)
        report = build_datasets(["pubmedqa", "wikidoc"], sample=True, out=out)
    assert report.failed == {}
    return Store(out)


def described(out: Path, splits: Mapping[str, Any], **manifest: Any) -> tuple[Path, dict[str, Any]]:
    """A version made by hand and its croissant.json."""
    options = {key: manifest.pop(key) for key in ("features", "files", "group") if key in manifest}
    made = Manifest.model_validate(stores.put(out, splits, **options, **manifest))
    folder = out / made.name / made.version
    croissant.write(folder, made, PROSE, folder / "croissant.json")
    return folder / "croissant.json", json.loads((folder / "croissant.json").read_text(encoding="utf-8"))


def dataset(path: Path) -> mlcroissant.Dataset:
    """The file as mlcroissant understands it, which has nothing against it."""
    found = mlcroissant.Dataset(jsonld=str(path))
    issues = found.metadata.ctx.issues
    assert (issues.errors, issues.warnings) == (set(), set())
    return found


def records(path: Path, name: str, **filters: str) -> list[dict[str, Any]]:
    """The rows that mlcroissant reads, with the names and types of the Parquet files."""
    wanted = {f"{name}/{key}": value for key, value in filters.items()} or None
    return [_plain(record, f"{name}/") for record in dataset(path).records(name, filters=wanted)]


def _plain(value: Any, prefix: str) -> Any:
    if isinstance(value, Mapping):
        return {key.removeprefix(prefix): _plain(inner, f"{key}/") for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, prefix) for inner in value]
    return value.decode() if isinstance(value, bytes) else value


def rows(folder: Path, manifest: Manifest) -> Iterator[dict[str, Any]]:
    for split, entry in manifest.splits.items():
        for file in entry.files:
            for row in pq.read_table(folder / file.path).to_pylist():
                yield {"split": split, **row}


def by_id(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda row: row["id"])


def test_rows_of_a_build_are_read_through_it(built: Store) -> None:
    assert built.names() == [
        "pubmedqa", "pubmedqa_artificial", "pubmedqa_unlabeled", "wikidoc", "wikidoc_patient_information",
    ]  # fmt: skip
    for manifest in built.current():
        folder = built.folder(manifest.name, manifest.version)
        found = records(folder / "croissant.json", manifest.name)
        assert by_id(found) == by_id(list(rows(folder, manifest))), manifest.name


def test_a_single_split_is_read(built: Store) -> None:
    folder = built.folder("pubmedqa", "1.0.0")
    for split, entry in built.manifest("pubmedqa").splits.items():
        found = records(folder / "croissant.json", "pubmedqa", split=split)
        assert len(found) == entry.rows > 0
        assert {row["split"] for row in found} == {split}


def test_what_it_says_of_a_build(built: Store) -> None:
    folder, manifest = built.folder("wikidoc", "1.0.0"), built.manifest("wikidoc")
    said = json.loads((folder / "croissant.json").read_text(encoding="utf-8"))
    assert said["conformsTo"] == [
        "http://mlcommons.org/croissant/1.1",
        "http://mlcommons.org/croissant/RAI/1.0",
    ]
    assert (said["name"], said["version"]) == ("wikidoc", "1.0.0")
    assert said["description"].startswith("SAMPLE: ")
    assert said["url"] == "https://www.wikidoc.org/"
    assert said["creator"] == [{"@type": "sc:Organization", "name": "WikiDoc contributors"}]
    assert said["license"] == ["https://creativecommons.org/publicdomain/zero/1.0/"]
    assert said["citeAs"] + "\n" == (folder / "CITATION.bib").read_text(encoding="utf-8")
    dates = sorted(row["source_date"] for row in rows(folder, manifest) if row["source_date"])
    assert said["temporalCoverage"] == f"{dates[0]}/{dates[-1]}"
    assert said["datePublished"] == dates[-1]
    assert said["rai:dataCollection"].startswith("Questions about diseases, drugs and tests")
    assert "Raw files are rendered pages" in said["rai:dataCollection"]
    assert (
        "57 records read, 40 kept, 17 left out: references and links (7)"
        in said["rai:dataCollectionMissingData"]
    )
    assert [step.split(" ")[0].rstrip(":") for step in said["rai:dataPreprocessingProtocol"]] == [
        "source", "quality", "language", "privacy", "contamination", "duplicates",
    ]  # fmt: skip
    assert any(
        "left as they are" in line and "nothing was found" in line
        for line in said["rai:personalSensitiveInformation"]
    )
    assert said["rai:dataLimitations"][0] == "A sample: short texts written for tests, not the real data."
    assert any(
        line.startswith("In XML exports templates are dropped") for line in said["rai:dataLimitations"]
    )
    assert said["rai:dataUseCases"][0].startswith("Training, Fine Tuning: ")
    assert said["rai:dataUseCases"][1].startswith("Nobody should take an answer for medical advice")
    assert any(tool.startswith("rensa") for tool in said["rai:machineAnnotationTools"])


def test_files_have_their_checksums(built: Store) -> None:
    folder = built.folder("pubmedqa", "1.0.0")
    said = json.loads((folder / "croissant.json").read_text(encoding="utf-8"))
    files = {
        entry["contentUrl"]: entry for entry in said["distribution"] if entry["@type"] == "cr:FileObject"
    }
    assert set(files) == {f"{s}-00000-of-00001.parquet" for s in ("train", "validation", "test")} | {
        "ATTRIBUTION.parquet"
    }
    for name, entry in files.items():
        data = (folder / name).read_bytes()
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
        assert entry["contentSize"] == f"{len(data)} B"


def test_terms_are_those_of_the_vocabularies(built: Store) -> None:
    graph = Graph().parse(built.folder("wikidoc", "1.0.0") / "croissant.json", format="json-ld")
    (node,) = graph.subjects(SDO.version)
    used = {str(predicate) for predicate in graph.predicates(node)}
    wanted = "dataCollection personalSensitiveInformation dataLimitations dataUseCases machineAnnotationTools"
    assert {str(RAI[name]) for name in wanted.split()} <= used
    assert URIRef("http://mlcommons.org/croissant/1.1") in set(
        graph.objects()
    ) or "http://mlcommons.org/croissant/1.1" in {
        str(value) for value in graph.objects(node, URIRef("http://purl.org/dc/terms/conformsTo"))
    }
    known = (
        "https://schema.org/",
        "http://mlcommons.org/croissant/",
        "http://purl.org/dc/terms/",
        "http://www.w3.org/",
    )
    assert [name for name in map(str, graph.predicates()) if not name.startswith(known)] == []


def test_no_row_is_quoted(built: Store) -> None:
    for manifest in built.current():
        folder = built.folder(manifest.name, manifest.version)
        said = (folder / "croissant.json").read_text(encoding="utf-8")
        for row in rows(folder, manifest):
            assert json.dumps(row["output"][:60], ensure_ascii=False)[1:-1] not in said


def test_nothing_of_this_machine_is_in_it(built: Store) -> None:
    for path in built.root.glob("*/*/croissant.json"):
        assert str(built.root).encode() not in path.read_bytes()


def test_every_type_with_and_without_a_value(tmp_path: Path) -> None:
    full = stores.row(
        1, share=0.5, closed=True, terms=["heart", "lung"], split="a", level=7,
        options=[{"key": "A", "text": "yes"}, {"key": "B", "text": "no"}], answer_key="A",
        authors=[{"name": "Ada", "url": None}, {"name": "Bo", "url": "https://ward.example/bo"}],
    )  # fmt: skip
    bare = stores.row(
        2, share=None, closed=None, terms=[], split=None, level=None, source_url=None, authors=[]
    )
    path, _ = described(tmp_path, {"train": [full, bare]}, features=EVERY_TYPE)
    one, two = by_id(records(path, "ward"))
    # The column of a source that is named like the field for the split goes by another name.
    assert (one.pop("split_column"), two.pop("split_column")) == ("a", None)
    assert one == {**full, "split": "train"}
    assert two == {**bare, "split": "train"}


def test_many_files_and_odd_splits(tmp_path: Path) -> None:
    splits = {name: [stores.row(f"{name}{n}") for n in range(7)] for name in ("step1", "step1-b", "step.2")}
    path, said = described(tmp_path, splits, files=3)
    found = records(path, "ward")
    assert {name: sum(row["split"] == name for row in found) for name in splits} == dict.fromkeys(splits, 7)
    assert {(row["split"], row["id"]) for row in found} == {
        (s, r["id"]) for s, every in splits.items() for r in every
    }
    assert len([entry for entry in said["distribution"] if entry["@type"] == "cr:FileObject"]) == 9


def test_tables_beside_the_rows_are_no_rows(tmp_path: Path) -> None:
    rejected = {
        "rejected": [{"id": "ward/x", "reason": "empty"}],
        "privacy": [{"id": "ward/1", "type": "NAME"}],
    }
    path, _ = described(tmp_path, {"train": [stores.row(1)]}, beside=rejected)
    assert [row["id"] for row in records(path, "ward")] == ["ward/1"]


def test_licences(tmp_path: Path) -> None:
    terms = {
        "CC-BY-SA-4.0": {
            **manifests.terms("CC-BY-SA-4.0"),
            "url": "https://licences.example/by-sa",
            "evidence": "The footer.",
        },
        "LicenseRef-Ward": {
            "name": "Ward's terms",
            "url": "https://ward.example/terms",
            "evidence": "All rights reserved.",
            "hub": "other",
        },
        "LicenseRef-Odd": {"name": "Odd", "url": "javascript:x", "evidence": "", "hub": "other"},
    }
    licenses = ("CC-BY-SA-4.0", "CC-BY-SA-4.0", "LicenseRef-Ward", "LicenseRef-Odd")
    made = [stores.row(n, license=spdx) for n, spdx in enumerate(licenses)]
    path, said = described(tmp_path, {"train": made}, license_terms=terms)
    dataset(path)
    assert said["license"] == [
        "https://licences.example/by-sa",
        {"@type": "sc:CreativeWork", "name": "Odd"},
        {
            "@type": "sc:CreativeWork", "name": "Ward's terms", "description": "All rights reserved.",
            "url": "https://ward.example/terms",
        },
    ]  # fmt: skip


def test_limits_of_an_exam_and_of_what_was_not_checked(tmp_path: Path) -> None:
    checks = {
        "contamination": {
            "policy": "flag", "unchecked": ["medqa: there are no raw files of it"],
            "exams": [manifests.exam("usmle", rows_hit=3)],
        },
        "privacy": {"policy": "flag", "rows": 2, "findings": {"EMAIL": 4}},
        "generators": {"model-x": 12, "": 5},
        "duplicates": {"policy": "flag"},
        "filters": {
            **{"languages": [], "quality": "off", "privacy": "flag", "duplicates": "flag"},
            **{"contamination": "off", "against": [], "policy": None},
        },
    }  # fmt: skip
    path, said = described(tmp_path, {"test": [stores.row(1)]}, test_only=True, **checks)
    dataset(path)
    assert said["rai:dataLimitations"] == [
        "Few.",
        "Old ones.",
        "Not compared with an exam: medqa: there are no raw files of it",
        "Rows that hold an exam item are in it: contamination.parquet lists them (3 hits).",
        "Not for clinical use. Nothing in it is medical advice.",
    ]
    assert said["rai:dataUseCases"] == [
        "Testing: scoring language models. It is an exam and never to be trained on."
    ]
    assert "findings in 2 rows: EMAIL 4." in said["rai:personalSensitiveInformation"][1]
    assert said["rai:machineAnnotationTools"][0] == "model-x: wrote the text of 12 rows (column generator)"
    assert [tool.split()[0] for tool in said["rai:machineAnnotationTools"][1:]] == ["Meadow's", "rensa"]


@pytest.mark.parametrize(
    ("dates", "citation", "published"),
    [
        (["2019", "2021-03-04", "2020-12"], "@misc{a, title={A}, year={2024}}", "2021-03-04"),
        ([None, "spring of 1999", "1999-1"], "@misc{a, title={A}, year={2017}} @misc{b, title={B}, year={2018}}", "2018"),
        ([None], "", "2023"),
    ],
)  # fmt: skip
def test_its_date_is_no_clocks(
    dates: list[str | None], citation: str, published: str, tmp_path: Path
) -> None:
    made = [stores.row(n, source_date=date) for n, date in enumerate(dates)]
    path, said = described(tmp_path, {"train": made}, citation=citation)
    assert said["datePublished"] == published
    assert dataset(path).metadata.date_published.year == int(published[:4])


def test_a_mixture_names_its_parts(tmp_path: Path) -> None:
    part = {"dataset": "ward", "version": "1.2.0", "sample": False, "rows_sha256": "ab" * 32}
    stage = {"stage": "sampling", "read": 9, "kept": 1, "dropped": {"not drawn": 8}}
    funnel = {"read": 9, "kept": 1, "dropped": stage["dropped"], "stages": [stage]}
    missing = [{"dataset": "icu", "reason": "its raw files are missing"}]
    path, said = described(
        tmp_path,
        {"train": [stores.row(1)]},
        name="mixture_w",
        funnel=funnel,
        mixture=manifests.mixture(part, missing=missing),
    )
    dataset(path)
    assert said["prov:wasDerivedFrom"] == [
        {"@type": "prov:Entity", "prov:label": f"ward 1.2.0, rows_sha256 {'ab' * 32}"}
    ]
    assert "INCOMPLETE: without icu: its raw files are missing" in said["rai:dataLimitations"]
    assert said["rai:dataPreprocessingProtocol"] == [
        "sampling: rows are drawn by a hash of their ids; 9 rows in, 8 left out."
    ]
    assert "Rows of ward 1.2.0." in said["rai:dataCollectionRawData"]
    assert "meadow-ward-1.2.0" in said["citeAs"]


def test_an_exam_that_was_compared_with_nothing_does_not_say_so(tmp_path: Path) -> None:
    stage = {"stage": "contamination", "read": 1, "kept": 1, "dropped": {}}
    funnel = {"read": 1, "kept": 1, "dropped": {}, "stages": [{**stage, "stage": "source"}, stage]}
    settings = {
        **{"languages": [], "quality": "off", "privacy": "off", "duplicates": "off"},
        **{"contamination": "drop", "against": [], "policy": None},
    }
    for result, said in ((None, 0), ({"policy": "drop", "exams": [], "unchecked": []}, 1)):
        _, found = described(
            tmp_path / f"{said}",
            {"test": [stores.row(1)]},
            funnel=funnel,
            filters=settings,
            contamination=result,
        )
        assert len(found["rai:dataPreprocessingProtocol"]) == 1 + said
        assert len(found.get("rai:machineAnnotationTools", ())) == said


def test_words_that_a_person_changed_go_into_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "draw", toy.no_plot)
    raw, out = tmp_path / "raw", tmp_path / "out"
    toy.put(raw, "toy/a.jsonl", toy.row(1))
    words = "# Toy\n\n## Known faults\n\n- None of them is known.\n- It is small.\n"
    monkeypatch.setattr(cards, "words_for", lambda name, folder: words if name == "toy" else "")

    def build() -> list[str]:
        build_datasets(["toy"], raw=raw, out=out, builders=toy.BUILDERS)
        said = json.loads((out / "toy" / "1.0.0" / "croissant.json").read_text(encoding="utf-8"))
        return said["rai:dataLimitations"][:2]

    assert build() == ["None of them is known.", "It is small."]
    card = out / "toy" / "1.0.0" / "README.md"
    card.write_text(
        card.read_text(encoding="utf-8").replace("It is small.", "It is tiny, says ward 7."), encoding="utf-8"
    )
    assert build() == ["None of them is known.", "It is tiny, says ward 7."]


def test_prose_of_a_card(tmp_path: Path) -> None:
    words = "# Ward\n\nShort.\n\n## What it is\n\nNotes.\n\n```\n## no heading\n```\n"
    made = Manifest.model_validate(stores.put(tmp_path, {"train": [stores.row(1)]}))
    card = cards.dataset_card(made, words)
    assert cards.prose(card) == {"title": "Short.", "what-it-is": "Notes.\n\n```\n## no heading\n```"}
    assert cards.prose("## Known faults\n\nMany.\n") == {"known-faults": "Many."}
    assert cards.prose("") == {}


def test_text_stays_text(tmp_path: Path) -> None:
    odd = 'a "b": {{ c }} {% d %}\n- e\\u0041 \x00\x85\u2028\U0001f600 #f\n"x": y'
    path, said = described(
        tmp_path,
        {"train": [stores.row(1)]},
        description=odd,
        release_notes={"1.0.0": odd},
        generators={odd: 1},
        licenses={"LicenseRef-odd": 1},
        license_terms={"LicenseRef-odd": {"name": odd, "url": odd, "evidence": odd, "hub": "other"}},
        funnel={"read": 2, "kept": 1, "dropped": {odd: 1}},
    )
    dataset(path)
    assert said["description"].startswith(f"{odd} Version 1.0.0")
    assert said["rai:dataReleaseMaintenancePlan"].endswith(f"1.0.0: {odd}")
    assert said["license"] == [{"@type": "sc:CreativeWork", "name": odd, "description": odd}]
    assert f"left out: {odd} (1)" in said["rai:dataCollectionMissingData"]
    assert "x" not in said
