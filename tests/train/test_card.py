"""The model card."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from meadow.describe.cards.metadata import HUB_LICENSES
from meadow.train import card
from tests.train.test_record import a_run


def front(text: str) -> dict[str, Any]:
    """The YAML, as the Hub's own library reads it."""
    return ModelCard(text).data.to_dict()


def test_the_front_matter_is_what_the_hub_reads() -> None:
    found = front(card.card_text(a_run(), title="13b"))
    assert found == {
        "language": ["en"],
        "license": "other",
        "license_name": "mixed-see-card",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "base_model": "llama-13b",
        "base_model_relation": "adapter",
        "datasets": ["wikidoc"],
        "tags": ["medical", "meadow", "instruction-tuning", "not-for-clinical-use", "lora-8bit"],
    }
    assert found["license"] in HUB_LICENSES
    whole = front(card.card_text(a_run(method="full")))
    assert (whole["library_name"], whole["base_model_relation"]) == ("transformers", "finetune")


def test_every_number_of_the_record_is_in_the_card() -> None:
    text = card.card_text(a_run(), title="13b")
    for words in (
        "# 13b", "Not for clinical use", "ab" * 32, "cd" * 32, "| wikidoc | 1.2.0 |  | 111 | 90 |", "6,553,600 of 13,022,417,920",
        "0.0503 %", "137,034 tokens", "40 steps", "45,678; 12,345 (27.0 %)", "7 rows were too long", "3 rows left out: empty answer",
        "11 rows were held out", "2 x A100", "2.1 h", "training 2.6000, validation 2.7000", "medqa/7", "1,273", "CC-BY-SA-4.0 | 80",
        "2e-05", "q_proj, v_proj", "torch 2.13.0", "](loss.svg)", "no legal advice",
    ):  # fmt: skip
        assert words in text, words


def test_a_base_in_float32_is_not_said_to_be_in_16_bits() -> None:
    run = a_run(method="lora")
    assert "beside a base in 16 bits" in card.card_text(run)
    run["hardware"] = {**run["hardware"], "dtype": "float32"}
    assert "beside a base in 32 bits" in card.card_text(run)


def test_no_path_of_the_machine_is_in_the_card() -> None:
    text = card.card_text(a_run(), title="13b")
    assert "/secret" not in text and "rows.jsonl" in text


def test_no_number_is_there_that_the_record_does_not_have() -> None:
    # Other numbers in, other numbers out: what stays is words.
    run = a_run()
    run["counts"] = {key: 0 if isinstance(value, int) else {} for key, value in run["counts"].items()}
    run |= {
        "losses": [],
        "exam_hits": {},
        "data": [],
        "hardware": {},
        "versions": {},
        "settings": {},
        "seconds": 0,
        "license_verdict": {},
    }
    run |= {"parameters": {"total": 0, "trained": 0}, "steps": 0, "tokens_seen": 0}
    body = re.sub(r"<!--.*?-->", "", card.card_text(run, title="x"), flags=re.S).split("---", 2)[2]
    body = body.replace("llama-13b", "").replace("SHA-256", "").replace("LLM.int8", "").replace("8 bits", "")
    body = (
        body.replace("ab" * 32, "")
        .replace("finetune_13b", "")
        .replace("finetune\\_13b", "")
        .replace("1.0.0", "")
    )
    assert set(re.findall(r"\d+", body)) <= {"0"}


def test_writing_again_changes_nothing_and_hand_edits_survive(tmp_path: Path) -> None:
    path = card.write_card(tmp_path, a_run())
    first = path.read_text()
    card.write_card(tmp_path, a_run())
    assert path.read_text() == first
    edited = first.replace("## Intended use", "## Intended use\n\nFor our ward's study.", 1)
    edited = edited.replace("language:", "# a comment of mine\nmy_key: [1, 2]\nlanguage:", 1).replace(
        "tags:\n", "tags:\n- ours\n", 1
    )
    edited += "\nA last word of mine.\n"
    path.write_text(edited)
    card.write_card(tmp_path, a_run(steps=41))
    text = path.read_text()
    assert "For our ward's study." in text and "A last word of mine." in text and "in 41 steps" in text
    assert "# a comment of mine\nmy_key: [1, 2]" in text
    found = front(text)
    assert found["my_key"] == [1, 2] and found["tags"][-1] == "ours"
    assert text.count("## Intended use") == 1 and text.count("library_name:") == 1
    card.write_card(tmp_path, a_run(steps=41))
    assert path.read_text() == text


def test_yaml_that_cannot_be_read_is_kept_as_text(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: {{\n---\n\n# Mine\n\nWords.\n")
    text = card.write_card(tmp_path, a_run()).read_text()
    assert "license: {{" in text and "# Mine" in text and "Words." in text
    assert front(text)["license"] == "other"


def test_a_card_that_a_library_wrote_is_no_persons(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "# Model Card\n\n<!-- Provide a quick summary of what the model is/does. -->\n"
    )
    assert "# Model Card\n" not in card.write_card(tmp_path, a_run()).read_text()


def _rows(**licenses_: int) -> list[dict[str, Any]]:
    return [
        {
            "name": "x",
            "version": "1.0.0",
            "rows": 1,
            "licenses": {k.replace("_", "-"): v for k, v in licenses_.items()},
        }
    ]


@pytest.mark.parametrize(
    ("base", "rows", "license_"),
    [
        ("apache-2.0", {"CC0-1.0": 5}, "apache-2.0"),
        ("Apache-2.0", {"Apache-2.0": 5, "CC0-1.0": 1}, "apache-2.0"),
        ("cc-by-sa-4.0", {"CC-BY-SA-4.0": 5}, "cc-by-sa-4.0"),
        ("apache-2.0", {"CC-BY-SA-4.0": 5}, "other"),
        ("apache-2.0", {"LicenseRef-unknown": 5}, "other"),
        ("apache-2.0", {"MIT": 0, "CC0-1.0": 1}, "apache-2.0"),
        ("llama-terms", {"CC0-1.0": 5}, "other"),
        (None, {"CC0-1.0": 5}, "other"),
    ],
)
def test_the_licence_follows_from_base_and_rows(
    base: str | None, rows: dict[str, int], license_: str
) -> None:
    run = a_run(
        base_model={"name": "b", "license": base}, data=[{**_rows()[0], "licenses": rows}], license_verdict={}
    )
    found = card.model_license(run)
    assert found["license"] == license_
    assert ("license_name" in found) == (license_ == "other")
    if base is None:
        assert found["license_name"] == "base-unknown-see-card"


def test_terms_of_a_models_maker_make_the_licence_other() -> None:
    run = a_run(
        base_model={"name": "b", "license": "mit"},
        data=_rows(MIT=1),
        license_verdict={"training": {"answer": "restricted"}},
    )
    assert card.model_license(run)["license"] == "other"


def test_samples_and_unchecked_exams_are_said() -> None:
    run = a_run(exam_hits={}, unchecked=["wikidoc 1.2.0: its rows were not compared with any exam"])
    run["data"][0]["sample"] = True
    text = card.card_text(run)
    assert "sample-data" in front(text)["tags"] and "Trained on samples" in text and "**sample**" in text
    assert "No score of this model can be called clean" in text and "its rows were not compared" in text


def test_words_in_the_record_cannot_write_the_card() -> None:
    run = a_run(unchecked=["x: <script>alert(1)</script> | y\n## Heading\n<!-- meadow:end exams -->"])
    run["data"][0]["name"] = "a|b"
    text = card.card_text(run)
    assert (
        "<script>" not in text and "\n## Heading" not in text and text.count("<!-- meadow:end exams -->") == 1
    )
    assert "a\\|b" in text and "datasets" not in front(text)
