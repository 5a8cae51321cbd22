"""A manifest's file: what is written is what is read, and what is wrong with one is told by field and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydantic
import pytest

from meadow.core import manifest
from meadow.core.errors import Error
from meadow.core.licenses import MIT
from meadow.core.manifest import FORMAT, Funnel, Manifest, ManifestError
from tests import manifests

REMEDY = "build ward again"


def put(folder: Path, content: Any) -> Path:
    path = folder / "manifest.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    once = manifests.make(
        licenses={"MIT": 2}, license_terms={"MIT": MIT.described()}, description="Fragen zur Station"
    )
    once.write(tmp_path / "one.json")
    again = manifest.read(tmp_path / "one.json", REMEDY)
    again.write(tmp_path / "two.json")
    assert again == once
    assert again.license_terms == {"MIT": MIT}
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert json.loads((tmp_path / "one.json").read_text("utf-8"))["format"] == FORMAT


def test_keys_that_a_dataset_does_not_have_are_left_out_of_its_file(tmp_path: Path) -> None:
    manifests.make().write(tmp_path / "manifest.json")
    found = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    assert {"mixture", "filters", "duplicates"}.isdisjoint(found)
    assert "id" not in str(found["license_terms"])


def test_an_older_file_is_to_be_built_again(tmp_path: Path) -> None:
    old = manifests.as_json()
    del old["format"]
    with pytest.raises(
        ManifestError, match=r"manifest\.json: it has no `format`: an earlier Meadow.*; build ward again"
    ):
        manifest.read(put(tmp_path, old), REMEDY)


def test_a_newer_file_asks_for_a_newer_meadow(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"format 2, written by a newer Meadow.* reads 1; update Meadow"):
        manifest.read(put(tmp_path, manifests.as_json(format=2)), REMEDY)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 1}, "damaged: version is 1: "),
        ({"sample": "no"}, "damaged: sample is 'no': "),
        ({"odd": 1}, "damaged: odd is 1: "),
        ({"splits": {"train": {"rows": 1, "bytes": 1}}}, r"damaged: splits\.train\.files is missing"),
        ({"splits": {"train": {"rows": "1"}}}, r"damaged: splits\.train\.rows is '1': .* \(and 2 more\)"),
        ({"funnel": {"read": 3, "kept": 1, "dropped": {"short": 1}}}, "the funnel does not balance"),
    ],
)
def test_a_damaged_file_names_the_field_and_the_remedy(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ManifestError, match=rf"manifest\.json: .*{said}.*; build ward again"):
        manifest.read(put(tmp_path, manifests.as_json(**changes)), REMEDY)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    found = manifests.as_json()
    del found["rows_sha256"]
    with pytest.raises(ManifestError, match="damaged: rows_sha256 is missing; build ward again"):
        manifest.read(put(tmp_path, found), REMEDY)


@pytest.mark.parametrize("text", ["", '{"form', "[" * 100_000, "[]", "null", "7"])
def test_what_is_no_manifest_at_all(text: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"manifest\.json: .*; build ward again"):
        manifest.read(put(tmp_path, text), REMEDY)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"none\.json.*; build ward again"):
        manifest.read(tmp_path / "none.json", REMEDY)


def test_it_cannot_be_changed() -> None:
    found = manifests.make()
    with pytest.raises(pydantic.ValidationError):
        found.version = "2.0.0"  # pyright: ignore[reportAttributeAccessIssue]


def test_splits_that_models_are_scored_on() -> None:
    split = {"rows": 1, "bytes": 1, "files": []}
    every = dict.fromkeys(("train", "validation", "test"), split)
    assert manifests.make(splits=every).exam_splits() == ("test",)
    assert manifests.make(splits=every, test_only=True).exam_splits() == ("train", "validation", "test")
    assert manifests.make(splits={"train": split}).exam_splits() == ()
    assert manifests.make(splits=every).rows == 3


def test_licences_with_most_rows_come_first() -> None:
    assert manifests.make(licenses={"MIT": 1, "CC0-1.0": 1, "ODC-By-1.0": 5}).license_ids == [
        "ODC-By-1.0", "CC0-1.0", "MIT",
    ]  # fmt: skip
    assert Manifest.model_validate(
        manifests.as_json(license_terms={"MIT": manifests.terms("MIT")})
    ).license_ids == ["MIT"]


def test_reasons_with_most_rows_come_first() -> None:
    funnel = Funnel(read=9, kept=2, dropped={"b": 2, "a": 2, "c": 3, "none": 0})
    assert funnel.reasons == [("c", 3), ("a", 2), ("b", 2)]
