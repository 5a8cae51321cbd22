"""Cards: what they say, that `datasets` loads by them, and that a rebuild keeps what people wrote."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from meadow.core.manifest import Manifest
from meadow.describe.cards import collection_card, dataset_card, plot, words_for
from tests import manifests
from tests.hubcards import problems

WORDS = """\
# Ward Notes

Made for tests.

## What it is

Questions from a ward.

## How it was made

By hand.

## Known faults

None known.

## Licence and evidence

See below.

## Citation

Cite the ward.

## Changelog

- 1.0.0: first version.
"""
FEATURES = {
    "instruction": "string",
    "input": "string",
    "output": "string",
    "options": "list<struct<key: string, text: string>>",
    "authors": "list<struct<name: string, url: string>>",
    "tags": "list<string>",
    "year": "int64",
    "score": "float64",
    "old": "bool",
    "source_url": "string",
}


def as_json(**changes: Any) -> dict[str, Any]:
    return manifests.as_json(
        **{
            "homepage": "https://example.org/ward",
            "funnel": {
                "read": 1100,
                "kept": 1000,
                "dropped": {"empty answer": 40, "duplicate of another row": 60},
            },
            "splits": {
                "train": {
                    "rows": 900,
                    "bytes": 90_000,
                    "files": [{"path": "train-00000-of-00001.parquet", "bytes": 45_000, "sha256": "b2" * 32}],
                },
                "validation": {
                    "rows": 100,
                    "bytes": 10_000,
                    "files": [
                        {"path": "validation-00000-of-00001.parquet", "bytes": 5_000, "sha256": "c3" * 32}
                    ],
                },
            },
            "features": dict(FEATURES),
            "licenses": {"CC0-1.0": 1000},
            "license_terms": {
                "CC0-1.0": {
                    "name": "Creative Commons Zero 1.0",
                    "url": "https://creativecommons.org/publicdomain/zero/1.0/",
                    "evidence": "Written for this test.",
                    "hub": "cc0-1.0",
                }
            },
            "citation": "@misc{ward,\n  title = {Ward}\n}",
            "example": {"input": "What is a pulse?", "output": "A beat.", "options": []},
            "ids_sha256": "d4" * 32,
            "rows_sha256": "e5" * 32,
            **changes,
        }
    )


def make_manifest(**changes: Any) -> Manifest:
    return Manifest.model_validate(as_json(**changes))


def metadata(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def block(card: str, name: str) -> str:
    found = re.findall(rf"<!-- meadow:begin {name} -->\n(.*?)\n<!-- meadow:end {name} -->", card, re.DOTALL)
    assert len(found) == 1, f"{name}: {len(found)} blocks"
    return found[0].strip()


def rendered(card: str) -> str:
    """The card's body as a Markdown reader shows it, HTML let through as on the Hub."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(card.split("\n---\n", 1)[1])


def test_yaml_passes_the_offline_checks_and_says_what_the_hub_shows() -> None:
    card = dataset_card(make_manifest(), WORDS)
    assert problems(card) == []
    data = metadata(card)
    assert data["pretty_name"] == "Ward Notes"
    assert data["license"] == "cc0-1.0"
    assert data["language"] == ["en"]
    assert data["size_categories"] == ["1K<n<10K"]
    assert data["task_categories"] == ["question-answering"]
    assert data["tags"] == ["medical", "instruction-tuning", "meadow"]
    assert data["configs"] == [
        {
            "config_name": "ward",
            "version": "1.0.0",
            "description": "rows_sha256 e5e5e5e5e5e5e5e5",
            "data_files": [
                {"split": "train", "path": "train-*.parquet"},
                {"split": "validation", "path": "validation-*.parquet"},
            ],
        }
    ]
    info = data["dataset_info"]
    assert (info["config_name"], info["download_size"], info["dataset_size"]) == ("ward", 50_000, 100_000)
    assert info["splits"][0] == {"name": "train", "num_bytes": 90_000, "num_examples": 900}


@pytest.mark.parametrize(
    ("rows", "category"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (5_000_000, "1M<n<10M")],
)
def test_size_category(rows: int, category: str) -> None:
    train = {**as_json()["splits"]["train"], "rows": rows}
    manifest = make_manifest(funnel={"read": rows, "kept": rows, "dropped": {}}, splits={"train": train})
    card = dataset_card(manifest, WORDS)
    assert metadata(card)["size_categories"] == [category]
    assert problems(card) == []


def test_sample_and_test_only_are_said_in_tags_and_words() -> None:
    card = dataset_card(make_manifest(sample=True, test_only=True, task="multiple-choice"), WORDS)
    assert metadata(card)["tags"][-2:] == ["sample", "test-only"]
    assert metadata(card)["task_categories"] == ["multiple-choice"]
    assert "is not the real data" in block(card, "summary")
    assert "never to train" in block(card, "summary")
    back = dataset_card(make_manifest(), WORDS, card)
    assert metadata(back)["tags"] == ["medical", "instruction-tuning", "meadow"]
    assert "is not the real data" not in back


def test_a_task_the_hub_does_not_know_is_other() -> None:
    card = dataset_card(make_manifest(task="differential-diagnosis"), WORDS)
    assert metadata(card)["task_categories"] == ["other"]
    assert problems(card) == []


def test_numbers_of_the_blocks() -> None:
    card = dataset_card(make_manifest(), WORDS)
    assert "| train | 900 | 90.0 % | 1 | 45.0 kB |" in block(card, "splits")
    funnel = block(card, "funnel")
    assert "| Read | 1,100 | 100.0 % |" in funnel
    assert "| Kept | 1,000 | 90.9 % |" in funnel
    assert "| Left out | 100 | 9.1 % |" in funnel
    # Most frequent first.
    assert funnel.index("duplicate of another row | 60 | 5.5 %") < funnel.index("empty answer | 40 | 3.6 %")
    assert "| input | 3 | 10 | 20 | 40 | 50 | 80 | 90 | 1,234 | 42 |" in block(card, "lengths")
    assert f"| ward/notes.jsonl | `{'a1' * 32}` | 1,234,567 |" in block(card, "raw")
    assert "d4" * 32 in block(card, "checksums")
    assert "e5" * 32 in block(card, "checksums")
    assert "min_score = 5" in block(card, "summary")
    assert "(plot.svg)" in block(card, "plot")
    assert "@misc{ward,\n  title = {Ward}\n}" in block(card, "citation")
    assert "Written for this test." in block(card, "licences")
    assert '"input": "What is a pulse?"' in block(card, "example")


def test_a_funnel_that_does_not_balance_is_refused() -> None:
    with pytest.raises(ValueError, match="the funnel does not balance: 10 rows read, 8 kept, 1 dropped"):
        make_manifest(funnel={"read": 10, "kept": 8, "dropped": {"x": 1}})


def test_blocks_stand_in_the_section_they_belong_to() -> None:
    card = dataset_card(make_manifest(), WORDS)
    marks = re.findall(r"<!-- meadow:(?:begin|words) ([a-z-]+)", card)
    assert marks == [
        *("notice", "title", "summary"),
        *("what-it-is", "splits", "lengths", "plot", "example"),
        *("how-it-was-made", "funnel", "raw", "known-faults"),
        *("licence-and-evidence", "licences", "citation", "citation", "changelog", "checksums"),
    ]


def test_raw_files_fold_away_and_are_cut_off() -> None:
    few = [{"path": f"ward/{i}.jsonl", "bytes": 1, "sha256": "a1" * 32} for i in range(20)]
    assert "<details>" not in dataset_card(make_manifest(raw=few), WORDS)
    many = few + [{**few[0], "path": f"ward/more{i}.jsonl"} for i in range(600)]
    shown = block(dataset_card(make_manifest(raw=many), WORDS), "raw")
    assert "<details>\n<summary>620 files</summary>\n\n| File" in shown
    assert "120 more are listed in `manifest.json`" in shown
    assert rendered("---\n---\n" + shown).count("<tr>") == 501


def test_several_licences_become_a_list_and_other_gets_a_name() -> None:
    terms = {
        "CC-BY-SA-2.5": {
            "name": "BY-SA 2.5",
            "url": "https://example.org/25",
            "evidence": "a",
            "hub": "cc-by-sa-2.5",
        },
        "CC-BY-SA-4.0": {
            "name": "BY-SA 4.0",
            "url": "https://example.org/40",
            "evidence": "b",
            "hub": "cc-by-sa-4.0",
        },
    }
    card = dataset_card(
        make_manifest(licenses={"CC-BY-SA-2.5": 1, "CC-BY-SA-4.0": 999}, license_terms=terms), WORDS
    )
    data = metadata(card)
    # The Hub knows no cc-by-sa-2.5 and would refuse the card.
    assert data["license"] == ["cc-by-sa-4.0", "other"]
    assert data["license_name"] == "cc-by-sa-2.5"
    assert data["license_link"] == "https://example.org/25"
    assert problems(card) == []
    assert "| CC-BY-SA-4.0 | [BY-SA 4.0](<https://example.org/40>) | 999 | 99.9 % |" in block(
        card, "licences"
    )


def test_evidence_that_licences_share_is_said_once() -> None:
    terms = {x: {"name": x, "url": "", "evidence": "By date.", "hub": "mit"} for x in ("A-1.0", "B-1.0")}
    card = dataset_card(make_manifest(licenses={"A-1.0": 600, "B-1.0": 400}, license_terms=terms), WORDS)
    assert "\n- **A-1.0**, **B-1.0**: By date." in block(card, "licences")


def test_license_ref_is_named_linked_and_given_in_full() -> None:
    evidence = "You may read this.\nYou may not train on it.\n\n# Not a heading\n1. <b>one</b>"
    terms = {
        "LicenseRef-Ward-Terms": {
            "name": "Ward terms",
            "url": "https://example.org/t",
            "evidence": evidence,
            "hub": "other",
        }
    }
    card = dataset_card(make_manifest(licenses={"LicenseRef-Ward-Terms": 1000}, license_terms=terms), WORDS)
    data = metadata(card)
    assert (data["license"], data["license_name"], data["license_link"]) == (
        "other",
        "ward-terms",
        "https://example.org/t",
    )
    assert problems(card) == []
    html = rendered(card)
    assert "You may read this.<br />\nYou may not train on it.</p>" in html
    assert "# Not a heading" in html
    assert "&lt;b&gt;one&lt;/b&gt;" in html


def test_two_unlisted_licences_have_no_single_link() -> None:
    terms = {
        f"LicenseRef-{x}": {"name": x, "url": f"https://example.org/{x}", "evidence": x, "hub": "other"}
        for x in "AB"
    }
    card = dataset_card(
        make_manifest(licenses={"LicenseRef-A": 600, "LicenseRef-B": 400}, license_terms=terms), WORDS
    )
    assert metadata(card)["license_name"] == "a-and-b"
    assert "license_link" not in metadata(card)
    assert problems(card) == []


def test_a_dataset_of_which_no_row_was_kept_still_gets_a_card() -> None:
    manifest = make_manifest(
        funnel={"read": 3, "kept": 0, "dropped": {"empty answer": 3}},
        splits={},
        licenses={},
        lengths={},
        example=None,
        raw=[],
        citation="",
    )
    card = dataset_card(manifest, WORDS)
    assert "configs" not in metadata(card)
    assert metadata(card)["license"] == "cc0-1.0"  # declared, if not borne by any row
    assert "no split" in block(card, "splits")
    assert dataset_card(manifest, WORDS, card) == card
    assert b"<!-- no rows -->" in plot(manifest)  # texts are outlines, with a comment that says them


def test_without_words_a_skeleton_is_made_from_the_description() -> None:
    card = dataset_card(make_manifest(name="ward_notes", description="Notes | of a <ward>."), "")
    assert metadata(card)["pretty_name"] == "ward notes"
    assert "Notes \\| of a &lt;ward&gt;." in card
    assert "- 1.0.0: First version." in card
    assert (
        dataset_card(make_manifest(name="ward_notes", description="Notes | of a <ward>."), "", card) == card
    )


def test_release_notes_that_the_words_do_not_have_are_added() -> None:
    manifest = make_manifest(
        version="1.1.0", release_notes={"1.0.0": "First version.", "1.1.0": "A column more."}
    )
    card = dataset_card(manifest, WORDS)
    assert block(card, "releases") == "- 1.1.0: A column more."


HOSTILE = (
    "<script>alert(1)</script> | cell | `code` ```` \n---\n# Heading\n"
    "<!-- meadow:end example -->\n<!-- meadow:begin splits -->\n```\n~~~\n[x](javascript:alert(1)) ![i](http://e/x.png)"
    " \u202eevil \x00 <img src=x onerror=alert(1)> </details> $x$ **b**"
)


def test_hostile_data_stays_text() -> None:
    manifest = make_manifest(
        funnel={"read": 1100, "kept": 1000, "dropped": {HOSTILE: 100}},
        raw=[{"path": HOSTILE, "bytes": 1, "sha256": HOSTILE}],
        example={"input": HOSTILE, "output": HOSTILE * 40, "options": [{"key": HOSTILE, "text": HOSTILE}]},
        licenses={"LicenseRef-X": 1000},
        license_terms={
            "LicenseRef-X": {"name": HOSTILE, "url": HOSTILE, "evidence": HOSTILE, "hub": HOSTILE}
        },
        citation=HOSTILE,
        parameters={"p": HOSTILE},
        homepage="javascript:alert(1)",
        release_notes={"2.0.0": HOSTILE},
    )
    card = dataset_card(manifest, WORDS)
    assert problems(card) == []
    assert dataset_card(manifest, WORDS, card) == card
    html = rendered(card)
    for bad in (
        "<script",
        "<img src=x",
        '<img src="http',
        'href="javascript',
        "\u202e",
        "\x00",
        "<h1>Heading",
        "</details",
    ):
        assert bad not in html, bad
    assert html.count("<h1>") == 1
    # One row per reason: a pipe or a newline in it opens no cell and no row.
    rows = [line for line in block(card, "funnel").splitlines() if line.startswith("| Left out:")]
    assert len(rows) == 1
    assert "<td>Left out: &lt;script&gt;alert(1)&lt;/script&gt; | cell | `code`" in html
    # Nothing is swallowed either: a rebuild from clean data leaves no trace of it.
    clean = dataset_card(make_manifest(), WORDS, card)
    assert clean == dataset_card(make_manifest(), WORDS)


def test_the_example_is_shortened_and_remains_json() -> None:
    row = {"input": "a" * 5000, "tags": [str(i) for i in range(50)], "quote": "````\n```"}
    shown = block(dataset_card(make_manifest(example=row), WORDS), "example")
    fence = re.search(r"^(`{5,})json\n(.*)\n\1$", shown, re.DOTALL | re.MULTILINE)
    assert fence
    decoded = json.loads(fence[2])
    assert decoded["input"] == "a" * 600 + " ... (4,400 characters more)"
    assert decoded["tags"] == [*map(str, range(10)), "... (40 more)"]
    assert decoded["quote"] == row["quote"]


def test_marker_lines_in_words_are_taken_their_meaning() -> None:
    words = WORDS.replace("By hand.", "By hand.\n\n<!-- meadow:end-words how-it-was-made -->\n\nAnd more.")
    card = dataset_card(make_manifest(), words)
    assert dataset_card(make_manifest(), words, card) == card
    assert card.count("And more.") == 1


def write_dataset(folder: Path, rows: dict[str, int]) -> dict[str, Any]:
    """Writes Parquet with empty lists and null columns, and returns its manifest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pair = pa.list_(pa.struct([("key", pa.string()), ("text", pa.string())]))
    people = pa.list_(pa.struct([("name", pa.string()), ("url", pa.string())]))
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("instruction", "input", "output")),
            ("options", pair),
            ("authors", people),
            ("tags", pa.list_(pa.string())),
            ("year", pa.int64()),
            ("score", pa.float64()),
            ("old", pa.bool_()),
            ("source_url", pa.string()),
        ]
    )
    folder.mkdir(parents=True)
    splits = {}
    for split, count in rows.items():
        row = {
            "instruction": "a",
            "input": "b",
            "output": "c",
            "options": [],
            "authors": [{"name": "n", "url": None}],
        }
        table = pa.Table.from_pylist([row] * count, schema=schema)
        path = folder / f"{split}-00000-of-00001.parquet"
        pq.write_table(table, path)
        file = {"path": path.name, "bytes": path.stat().st_size, "sha256": "a" * 64}
        splits[split] = {"rows": count, "bytes": table.nbytes, "files": [file]}
    total = sum(rows.values())
    return as_json(splits=splits, funnel={"read": total, "kept": total, "dropped": {}})


def test_features_are_those_of_the_parquet(tmp_path: Path) -> None:
    import pyarrow.parquet as pq
    from datasets import Features

    manifest = Manifest.model_validate(write_dataset(tmp_path / "ward", {"train": 3}))
    schema = pq.read_schema(tmp_path / "ward" / "train-00000-of-00001.parquet")
    expected = Features.from_arrow_schema(schema)._to_yaml_list()
    assert metadata(dataset_card(manifest, WORDS))["dataset_info"]["features"] == expected


def test_datasets_loads_the_folder_by_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq
    from datasets import Features, load_dataset
    from datasets.exceptions import NonMatchingSplitsSizesError

    folder = tmp_path / "out" / "ward" / "1.0.0"
    written = write_dataset(folder, {"train": 5, "validation": 2})
    manifest = Manifest.model_validate(written)
    (folder / "README.md").write_text(dataset_card(manifest, WORDS), encoding="utf-8")
    (folder / "plot.svg").write_bytes(plot(manifest))
    manifest.write(folder / "manifest.json")
    monkeypatch.chdir(tmp_path)
    loaded = load_dataset(str(folder), "ward", cache_dir=str(tmp_path / "cache"))
    assert {split: data.num_rows for split, data in loaded.items()} == {"train": 5, "validation": 2}
    schema = pq.read_schema(folder / "train-00000-of-00001.parquet")
    assert loaded["train"].features == Features.from_arrow_schema(schema)
    assert loaded["train"][0]["options"] == []
    assert loaded["train"][0]["authors"] == [{"name": "n", "url": None}]
    assert loaded["train"][0]["year"] is None
    assert str(loaded["train"].info.version) == "1.0.0"
    streamed = load_dataset(str(folder), "ward", split="validation", streaming=True)
    assert len(list(streamed)) == 2
    # The sizes in the card are what `datasets` verifies by default: a wrong one is noticed.
    written["splits"]["train"]["rows"], written["funnel"] = 4, {"read": 6, "kept": 6, "dropped": {}}
    wrong = Manifest.model_validate(written)
    (folder / "README.md").write_text(dataset_card(wrong, WORDS), encoding="utf-8")
    with pytest.raises(NonMatchingSplitsSizesError):
        load_dataset(str(folder), "ward", cache_dir=str(tmp_path / "cache2"))


def test_datasets_loads_the_collection_and_a_replaced_dataset_in_it(tmp_path: Path) -> None:
    from datasets import get_dataset_config_names, get_dataset_default_config_name, load_dataset

    out = tmp_path / "out"
    ward = write_dataset(out / "ward" / "1.0.0", {"train": 5, "validation": 2})
    wiki = {**write_dataset(out / "wikidoc" / "2.1.0", {"train": 4}), "name": "wikidoc", "version": "2.1.0"}
    exam = {**write_dataset(out / "exam" / "1.0.0", {"step1": 3}), "name": "exam", "test_only": True}
    words = "---\ndefault: wikidoc\n---\n"
    card = collection_card(map(Manifest.model_validate, (ward, wiki, exam)), words)
    assert problems(card) == []
    (out / "README.md").write_text(card, encoding="utf-8")
    assert get_dataset_config_names(str(out)) == ["ward", "wikidoc", "exam"]
    assert get_dataset_default_config_name(str(out)) == "wikidoc"
    cache = str(tmp_path / "cache")
    assert load_dataset(str(out), cache_dir=cache)["train"].num_rows == 4
    assert str(load_dataset(str(out), "wikidoc", cache_dir=cache)["train"].info.version) == "2.1.0"
    assert list(load_dataset(str(out), "exam", cache_dir=cache)) == ["step1"]
    assert load_dataset(str(out), "ward", split="train", cache_dir=cache).num_rows == 5
    # The files change under the card that is there: no size in it may stand in the way.
    import shutil

    shutil.rmtree(out / "ward" / "1.0.0")
    ward = write_dataset(out / "ward" / "1.0.0", {"train": 7, "validation": 2})
    assert load_dataset(str(out), "ward", split="train", cache_dir=str(tmp_path / "c2")).num_rows == 7
    # With the new card, not even the old cache can bring back the old rows.
    ward["rows_sha256"] = "f6" * 32
    again = collection_card(map(Manifest.model_validate, (ward, wiki, exam)), words, card)
    (out / "README.md").write_text(again, encoding="utf-8")
    assert load_dataset(str(out), "ward", split="train", cache_dir=cache).num_rows == 7


def test_a_folder_built_again_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    from datasets import load_dataset

    folder, cache = tmp_path / "ward", str(tmp_path / "cache")
    manifest = Manifest.model_validate(write_dataset(folder, {"train": 2}))
    (folder / "README.md").write_text(dataset_card(manifest, WORDS), encoding="utf-8")
    assert load_dataset(str(folder), "ward", split="train", cache_dir=cache)[1]["input"] == "b"
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "train-00000-of-00001.parquet"
    table = pq.read_table(path)
    column = table.schema.get_field_index("input")
    pq.write_table(table.set_column(column, "input", pa.array(["x", "y"])), path)
    again = manifest.model_copy(update={"rows_sha256": "f6" * 32})
    (folder / "README.md").write_text(dataset_card(again, WORDS), encoding="utf-8")
    assert load_dataset(str(folder), "ward", split="train", cache_dir=cache)[1]["input"] == "y"


def test_collection_card() -> None:
    one, other = make_manifest(), make_manifest(name="exam", version="2.0.0", sample=True, test_only=True)
    card = collection_card([one, other], "---\ndefault: wikidoc\n---\n# Ours\n\nText.\n")
    data = metadata(card)
    assert data["pretty_name"] == "Ours"
    assert "dataset_info" not in data
    assert not any("default" in config for config in data["configs"])  # it is not there: nothing in silence
    assert [c["data_files"][0]["path"] for c in data["configs"]] == [
        "ward/1.0.0/train-*.parquet",
        "exam/2.0.0/train-*.parquet",
    ]
    assert data["tags"] == ["medical", "instruction-tuning", "meadow"]
    table = block(card, "datasets")
    assert (
        "| [ward](<ward/1.0.0/README.md>) | 1.0.0 | train 900, validation 100 | CC0-1.0 | raw | 100 |"
        in table
    )
    assert "| [exam](<exam/2.0.0/README.md>) (test only) | 2.0.0 |" in table
    assert "1 of 2 are built from the sample" in table
    assert collection_card([one, other], "# Ours\n\nText.\n", card) == card
    assert "sample" in metadata(collection_card([other], ""))["tags"]
    with pytest.raises(ValueError, match="ward: two manifests"):
        collection_card([one, one], "")


def test_an_empty_collection_has_a_card_and_dataset_info_of_others_goes() -> None:
    card = collection_card([], "", "---\ndataset_info:\n  config_name: old\n---\nText.\n")
    assert "dataset_info" not in metadata(card)
    assert "configs" not in metadata(card)
    assert "No dataset has been built yet." in card
    assert "Text." in card


def test_unusual_file_names_are_listed_one_by_one() -> None:
    splits = as_json()["splits"]
    splits["train"]["files"][0]["path"] = "train.parquet"
    manifest = make_manifest(splits=splits)
    files = metadata(collection_card([manifest], ""))["configs"][0]["data_files"]
    assert files[0] == {"split": "train", "path": ["ward/1.0.0/train.parquet"]}


def test_a_rebuild_changes_nothing_and_new_numbers_arrive() -> None:
    card = dataset_card(make_manifest(), WORDS)
    assert dataset_card(make_manifest(), WORDS, card) == card
    newer = make_manifest(funnel={"read": 1001, "kept": 1000, "dropped": {"x": 1}})
    assert dataset_card(newer, WORDS, card) == dataset_card(newer, WORDS)


def test_edits_outside_the_blocks_stay_where_they_are() -> None:
    card = dataset_card(make_manifest(), WORDS)
    edited = (
        card.replace("<!-- meadow:begin splits -->", "Mind the splits.\n\n<!-- meadow:begin splits -->")
        .replace(
            "<!-- meadow:end plot -->",
            "<!-- meadow:end plot -->\n\n## Ours\n\n| a | b |\n| - | - |\n\n\n  code",
        )
        .replace("| train | 900 |", "| train | 901 |")
    )
    merged = dataset_card(make_manifest(), WORDS, edited)
    assert merged == edited.replace("| train | 901 |", "| train | 900 |")
    assert dataset_card(make_manifest(), WORDS, merged) == merged


def test_untouched_words_are_replaced_and_edited_ones_stay() -> None:
    card = dataset_card(make_manifest(), WORDS)
    edited = card.replace("None known.", "None known, but see ward 7.")
    newer = WORDS.replace("None known.", "Two are known.").replace("By hand.", "By machine.")
    merged = dataset_card(make_manifest(), newer, edited)
    assert "None known, but see ward 7." in merged
    assert "Two are known." not in merged
    assert "By machine." in merged
    assert "By hand." not in merged
    assert dataset_card(make_manifest(), newer, merged) == merged
    # An edit that the words have caught up with is no edit any more.
    caught = dataset_card(
        make_manifest(), newer.replace("Two are known.", "None known, but see ward 7."), merged
    )
    assert dataset_card(make_manifest(), newer, caught) == dataset_card(make_manifest(), newer)


def test_blanks_at_line_ends_are_no_edit() -> None:
    card = dataset_card(make_manifest(), WORDS).replace("None known.", "None known.  ").replace("\n", "\r\n")
    newer = WORDS.replace("None known.", "Two are known.")
    assert dataset_card(make_manifest(), newer, card) == dataset_card(make_manifest(), newer)


def without(card: str, kind: str, name: str) -> str:
    closing = {"begin": "end", "words": "end-words"}[kind]
    cut = re.sub(
        rf"<!-- meadow:{kind} {name}\b.*?<!-- meadow:{closing} {name} -->\n*", "", card, flags=re.DOTALL
    )
    assert cut != card
    return cut


def test_deleted_blocks_come_back_in_their_place_and_deleted_words_do_not() -> None:
    card = dataset_card(make_manifest(), WORDS)
    assert dataset_card(make_manifest(), WORDS, without(card, "begin", "funnel")) == card
    assert dataset_card(make_manifest(), WORDS, without(card, "begin", "checksums")) == card
    gone = without(card, "words", "known-faults")
    assert dataset_card(make_manifest(), WORDS, gone) == gone
    # A section that is new in the words is none that a person deleted.
    newer = WORDS.replace("## Citation", "## Thanks\n\nTo the ward.\n\n## Citation")
    merged = dataset_card(make_manifest(), newer, gone)
    assert "None known." not in merged
    assert merged.index("See below.") < merged.index("To the ward.") < merged.index("Cite the ward.")
    assert dataset_card(make_manifest(), newer, merged) == merged


def test_words_that_were_withdrawn_go_unless_edited() -> None:
    card = dataset_card(make_manifest(), WORDS)
    fewer = WORDS.replace("## Known faults\n\nNone known.\n\n", "")
    assert dataset_card(make_manifest(), fewer, card) == dataset_card(make_manifest(), fewer)
    assert "Some known." in dataset_card(make_manifest(), fewer, card.replace("None known.", "Some known."))


def test_a_moved_section_stays_moved() -> None:
    card = dataset_card(make_manifest(), WORDS)
    section = re.search(r"<!-- meadow:words known-faults.*?end-words known-faults -->\n\n", card, re.DOTALL)[
        0
    ]
    moved = card.replace(section, "").replace(
        "<!-- meadow:begin summary -->", section + "<!-- meadow:begin summary -->"
    )
    newer = WORDS.replace("None known.", "Two are known.")
    merged = dataset_card(make_manifest(), newer, moved)
    assert merged.index("Two are known.") < merged.index("**ward** version")


def test_yaml_keys_of_others_are_kept_as_typed() -> None:
    card = dataset_card(make_manifest(), WORDS)
    ours = "# why we gate it\nextra_gated_prompt: >-\n  Be   kind,\n\n  please.\nconfigs_note: 'a: b' # odd\nlist:\n- 1\n- {a: b}"
    edited = card.replace("---\n\n<!--", f"{ours}\n---\n\n<!--", 1).replace(
        "license: cc0-1.0", "license: mit"
    )
    edited = edited.replace("- meadow\n", "- meadow\n- ward-seven\n")
    merged = dataset_card(make_manifest(), WORDS, edited)
    assert f"\n{ours}\n---\n" in merged
    data = metadata(merged)
    assert data["license"] == "cc0-1.0"
    assert data["tags"] == ["medical", "instruction-tuning", "meadow", "ward-seven"]
    assert problems(merged) == []
    assert dataset_card(make_manifest(), WORDS, merged) == merged


def test_yaml_in_flow_style_is_kept_by_value() -> None:
    merged = dataset_card(make_manifest(), WORDS, "---\n{license: mit, mine: [1, 2]}\n---\nHello.\n")
    assert metadata(merged)["mine"] == [1, 2]
    assert metadata(merged)["license"] == "cc0-1.0"
    assert dataset_card(make_manifest(), WORDS, merged) == merged


@pytest.mark.parametrize(
    "front",
    [
        "license: [mit\nmine: 1",
        "a: &x 1\nb: *y",
        "mine: 1\nmine: 2",
        "- a\n- b",
        "just text",
        "1: one",
        "when: 2024-13-45",
        "self: mine",
        "\tmine: 1",
        "mine: ```\n\n```",
        "a: &x [*x]",
    ],
)
def test_broken_yaml_is_kept_as_text(front: str) -> None:
    card = dataset_card(make_manifest(), WORDS, f"---\n{front}\n---\n\nHello.\n")
    assert problems(card) == []
    assert front.replace("\t", "") in card.replace("\t", "")
    assert "Hello." in card
    assert dataset_card(make_manifest(), WORDS, card) == card
    assert block(card, "splits") == block(dataset_card(make_manifest(), WORDS), "splits")


@pytest.mark.parametrize(
    "text", ["---\nlicense: mit\n", "---\n---\nHello.\n", "---\n", "\ufeff---\r\nmine: 1\r\n---\r\nHi.\r\n"]
)
def test_half_a_yaml_block(text: str) -> None:
    card = dataset_card(make_manifest(), WORDS, text)
    assert problems(card) == []
    for word in re.findall(r"[A-Za-z]+", text):
        assert word in card
    assert dataset_card(make_manifest(), WORDS, card) == card


def test_a_card_that_a_person_began_keeps_its_text_and_title() -> None:
    card = dataset_card(make_manifest(), WORDS, "# Our data\n\nRead this first.\n")
    assert card.split("---\n", 2)[2].startswith(
        "\n# Our data\n\nRead this first.\n\n<!-- meadow:begin notice -->"
    )
    assert "# Ward Notes" not in card
    assert metadata(card)["pretty_name"] == "Our data"
    assert "Questions from a ward." in card
    assert dataset_card(make_manifest(), WORDS, card) == card


@pytest.mark.parametrize(
    "line",
    ["<!-- meadow:end splits -->", "<!-- meadow:begin splits -->", "<!-- meadow:end-words known-faults -->"],
)
def test_half_a_marker_loses_nothing(line: str) -> None:
    card = dataset_card(make_manifest(), WORDS)
    broken = card.replace("None known.", "Ours: some known.").replace(f"{line}\n", "", 1)
    merged = dataset_card(make_manifest(), WORDS, broken)
    assert "Ours: some known." in merged
    assert "| train | 900 | 90.0 % |" in merged
    assert merged.count("<!-- meadow:begin funnel -->") == 1
    assert merged.count("Questions from a ward.") == 1
    assert dataset_card(make_manifest(), WORDS, merged) == merged


CARD = dataset_card(make_manifest(), WORDS)


def test_markers_in_yaml_that_cannot_be_read_are_text() -> None:
    lines = CARD.split("\n")
    lines.remove("pretty_name: Ward Notes")
    lines.remove("---")
    lines[lines.index("---")] = ""  # the YAML goes on to the end of the first block, so to speak
    lines.insert(lines.index("<!-- meadow:end notice -->") + 1, "---")
    merged = dataset_card(make_manifest(), WORDS, "\n".join(["---", *lines]))
    assert merged.count("\n<!-- meadow:begin notice -->") == 1
    assert dataset_card(make_manifest(), WORDS, merged) == merged


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, CARD.count("\n")),
            st.sampled_from(["cut", "cut", "add", "twice"]),
            st.sampled_from(
                ["mine 1", "---", "```", "<!--", "# mine", "<!-- meadow:begin raw -->", "mine: {", ""]
            ),
        ),
        max_size=8,
    )
)
def test_any_edit_can_be_merged_and_merging_again_changes_nothing(edits: list[tuple[int, str, str]]) -> None:
    lines = CARD.split("\n")
    for at, what, text in edits:
        at = min(at, len(lines) - 1)
        if what == "cut" and len(lines) > 1:
            del lines[at]
        elif what == "add":
            lines.insert(at, text)
        else:
            lines.insert(at, lines[at])
    merged = dataset_card(make_manifest(), WORDS, "\n".join(lines))
    assert problems(merged) == []
    assert dataset_card(make_manifest(), WORDS, merged) == merged
    # Words are lost nowhere but in generated blocks and Meadow's own YAML keys.
    inside, typed = False, []
    for line in lines:
        mark = re.fullmatch(r"<!-- meadow:(begin|end) .*-->", line)
        inside = mark[1] == "begin" if mark else inside
        if not inside and line.startswith(("mine 1", "# mine")):
            typed.append(line)
    for line in set(typed):
        assert line in merged


def test_words_come_from_the_package_then_from_the_source_then_not_at_all(tmp_path: Path) -> None:
    cards = Path(__file__).resolve().parents[2] / "cards"
    for path in sorted(cards.glob("*.md")):
        assert words_for(path.stem, tmp_path) == path.read_text(encoding="utf-8")
    assert words_for("no_such_card", tmp_path) == ""
    (tmp_path / "card.md").write_text("# Private\n", encoding="utf-8")
    assert words_for("no_such_card", tmp_path) == "# Private\n"
    (tmp_path / "deep").mkdir()
    assert words_for("../card", tmp_path / "deep") == ""


def test_the_plot_is_the_same_bytes_every_time_and_in_another_process(tmp_path: Path) -> None:
    manifest = make_manifest()
    first = plot(manifest)
    assert plot(manifest) == first
    assert b"<dc:date>" not in first
    code = (
        "import sys, matplotlib\n"
        "matplotlib.rcParams.update({'font.size': 20, 'axes.facecolor': 'red'})\n"
        "from meadow.core.manifest import Manifest\n"
        "from meadow.describe.cards import plot\n"
        "sys.stdout.buffer.write(plot(Manifest.model_validate_json(sys.stdin.read())))"
    )
    again = subprocess.run(
        [sys.executable, "-c", code],
        input=manifest.model_dump_json().encode(),
        capture_output=True,
        check=True,
        cwd=tmp_path,
    )
    assert again.stdout == first


def test_the_plot_has_a_bar_for_each_reason_and_parses_as_xml() -> None:
    from xml.etree import ElementTree

    dropped = {f"$r_{i}$ --> <b> & {chr(0x6F22)}": 30 - i for i in range(30)}
    svg = plot(make_manifest(funnel={"read": 1465, "kept": 1000, "dropped": dropped}))
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    for text in ("1,000  (68.3 %)", "30  (2.0 %)", "20 other reasons", "210  (14.3 %)"):
        assert f"<!-- {text.replace('<', '&lt;')} -->".encode() in svg
    few = plot(make_manifest())
    height = [float(ElementTree.fromstring(s).get("height").removesuffix("pt")) for s in (few, svg)]
    assert height[0] < height[1] < 2 * height[0]


def test_importing_cards_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, meadow.describe.cards\n"
        "print([m for m in ('matplotlib', 'datasets', 'huggingface_hub', 'numpy', 'pyarrow') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=tmp_path
    )
    assert out.stdout.strip() == "[]"
