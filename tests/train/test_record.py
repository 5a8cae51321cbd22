"""The record of a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meadow.core.licenses.judge import judge
from meadow.core.manifest import Licensing
from meadow.train import card, record


def a_run(**changes: Any) -> dict[str, Any]:
    """A record as a run hands it over."""
    rows = {"CC-BY-SA-4.0": 80, "CC0-1.0": 10}
    verdict = dataclasses.asdict(judge({"wikidoc": Licensing(licenses=rows)}))
    run = {
        "meadow_version": "1.0.0",
        "recipe": "finetune_13b.py",
        "method": "lora-8bit",
        "preset": "paper",
        "settings": {
            "model": "/secret/place/llama-13b", "output": "/secret/place/out", "data": ["wikidoc", "/secret/place/rows.jsonl"],
            "epochs": 3.0, "learning_rate": 2e-5, "batch_size": 128, "lora_r": 8, "lora_targets": ["q_proj", "v_proj"],
        },
        "base_model": {"path": "/secret/place/llama-13b", "name": "llama-13b", "fingerprint": "ab" * 32, "license": "mit"},
        "template": {"name": "medalpaca", "kind": "text"},
        "data": [
            {
                "name": "wikidoc", "version": "1.2.0", "rows": 111, "ids_sha256": "cd" * 32, "rows_sha256": "ef" * 32,
                "sample": False, "trained_rows": 90, "trained_ids_sha256": "12" * 32, "licenses": rows,
                "license_verdict": verdict, "contamination": {"exams": ["medqa"], "unchecked": []},
            }
        ],
        "license_verdict": verdict,
        "counts": {
            "rows": 111, "trained": 90, "truncated": 7, "refused": {"empty answer": 3}, "tokens": 45678,
            "trained_tokens": 12345, "validation_rows": 11,
        },
        "parameters": {"total": 13_022_417_920, "trained": 6_553_600},
        "versions": {"python": "3.11.9", "torch": "2.13.0"},
        "hardware": {"system": "Linux x86_64", "processor": "A processor", "gpus": [{"name": "A100"}, {"name": "A100"}]},
        "steps": 40,
        "tokens_seen": 137034,
        "seconds": 7384.5,
        "losses": [
            {"step": n, "loss": 3 - n / 100, "lr": n * 1e-6} | ({"eval_loss": 3.1 - n / 100} if n % 10 == 0 else {})
            for n in range(1, 41)
        ],
        "exam_hits": {
            "medqa": {"checked": 1273, "items": ["medqa/7"], "sha256": {"test": "aa"}, "sample": False, "complete": True}
        },
        "unchecked": [],
        "unchecked_exams": [],
    }  # fmt: skip
    return {**run, **changes}


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record.write_run(tmp_path, a_run())
    found = record.read_record(tmp_path)
    assert found == {"form": 1, **json.loads(json.dumps(a_run()))}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["README.md", "loss.svg", "run.json"]


def test_what_json_has_no_word_for_becomes_plain(tmp_path: Path) -> None:
    losses = [{"step": np.int64(1), "loss": np.float32(2.5), "lr": float("nan")}]
    record.write_run(tmp_path, a_run(losses=losses, settings={"out": Path("/a"), "lora_targets": ("q", "v")}))
    text = (tmp_path / "run.json").read_text()
    assert "NaN" not in text
    found = json.loads(text)
    assert found["losses"] == [{"step": 1, "loss": 2.5, "lr": None}]
    assert found["settings"] == {"out": "/a", "lora_targets": ["q", "v"]}


def test_the_record_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(card, "write_card", fails)
    with pytest.raises(OSError, match="No space"):
        record.write_run(tmp_path, a_run())
    assert not (tmp_path / "run.json").exists()


def test_a_record_that_lacks_something_is_refused(tmp_path: Path) -> None:
    run = a_run()
    del run["counts"], run["losses"]
    with pytest.raises(record.RunRecordError, match="counts, losses"):
        record.write_run(tmp_path, run)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "No such file"), ("{", "no JSON"), ("[]", "no JSON object"), ('{"form": 99}', "form is 99")],
)
def test_a_record_that_cannot_be_read_says_why(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(record.RunRecordError, match=words):
        record.read_record(tmp_path)


@pytest.mark.parametrize(
    ("card_there", "license_"),
    [
        ("---\nlicense: apache-2.0\n---\n# x\n", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: llama-terms\n---\n", "llama-terms"),
        ("---\nlicense: unknown\n---\n", None),
        ("---\nlicense: [a, b]\n---\n", None),
        ("---\nlicense: {{\n---\n", None),
        ("# no front\n", None),
        (None, None),
    ],
)
def test_the_base_models_own_card_says_its_licence_and_nothing_is_guessed(
    tmp_path: Path, card_there: str | None, license_: str | None
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    if card_there is not None:
        (base / "README.md").write_text(card_there)
    assert record.base_license(base) == license_
    out = tmp_path / "out"
    out.mkdir()
    record.write_run(out, a_run(base_model={"path": str(base), "name": "base", "fingerprint": "ab"}))
    assert record.read_record(out)["base_model"]["license"] == license_
