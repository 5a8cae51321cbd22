"""A real model of 135 million parameters, real questions: both recipes, before and after training.

Real MedQA rows go through the pipeline, with questions of the exam among the rows to train on, as they are found in
the wild: the build must leave them out, and the report must say that no question of the exam was trained on.
Run by ``pytest -m slow``: some minutes on a CPU. What the model says of medicine is wrong before and after.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from recipes import finetune_7b, score_usmle
from tests.smollm import smollm

pytestmark = pytest.mark.slow

EXAM, TRAINED, HELD, LEAKED = 40, 150, 10, 3
STEPS = 14
#: Rows and rates for a run of a minute or two; all else is as published.
SMALL = {
    "max_length": 192, "max_steps": STEPS, "batch_size": 4, "per_device_batch_size": 4, "learning_rate": 1e-3,
    "warmup_steps": 2, "eval_steps": STEPS // 2, "save_steps": STEPS, "train_on_inputs": "false", "seed": 7,
    "activation_checkpointing": "false", "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def base() -> Path:
    """The real model's folder."""
    for library in ("torch", "transformers", "peft", "accelerate"):
        pytest.importorskip(library)
    return smollm()


@pytest.fixture(scope="module")
def out(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with MedQA, built from real rows, in three splits of the size of this test."""
    file = real / "medqa" / "questions" / "US" / "dev.jsonl"
    if not file.is_file():
        pytest.skip(f"no real MedQA rows in {file.parent} (set MEADOW_TEST_REAL to point elsewhere)")
    rows = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        # Two rows that ask the same would stand on both sides.
        rows.setdefault(json.loads(line)["question"].strip(), line)
    # Long enough to be told from one another, short enough for a processor.
    lines = sorted((line for question, line in rows.items() if len(question) > 150), key=len)
    lines = lines[: EXAM + TRAINED + HELD]
    assert len(lines) == EXAM + TRAINED + HELD
    # Lengths are to be alike everywhere.
    shuffled = [line for start in range(7) for line in lines[start::7]]
    exam, held, train = shuffled[:EXAM], shuffled[EXAM : EXAM + HELD], shuffled[EXAM + HELD :]
    train += [line.replace('"question": "', '"question": "Consider this case. ') for line in exam[:LEAKED]]
    raw = tmp_path_factory.mktemp("raw")
    folder = raw / "medqa" / "questions" / "US"
    folder.mkdir(parents=True)
    for name, split in (("test", exam), ("dev", held), ("train", train)):
        (folder / f"{name}.jsonl").write_text("\n".join(split) + "\n", encoding="utf-8")
    from meadow.api import build_datasets

    made = tmp_path_factory.mktemp("built")
    report = build_datasets(["medqa"], raw=raw, out=made)
    assert not report.failed
    assert report.manifests[0].splits["train"].rows == TRAINED
    return made


def trained(base: Path, out: Path, folder: Path, method: str) -> dict[str, Any]:
    """Fine-tunes, and returns what ``run.json`` says."""
    given = {**SMALL, "model": base, "method": method, "data": "medqa", "out": out, "output": folder}
    argv = [word for key, value in given.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    assert finetune_7b.main(argv) == 0
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def scored(model: Path, out: Path, folder: Path, *more: str) -> dict[str, Any]:
    argv = ["--model", str(model), "--exam", "medqa", "--out", str(out), "--output", str(folder), *more]
    assert score_usmle.main([*argv, "--device", "cpu", "--batch-size", "4"]) == 0
    return json.loads((folder / "scores.json").read_text(encoding="utf-8"))


def predictions(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    ]


@pytest.fixture(scope="module")
def before(base: Path, out: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The score of the model as it is, asked as the others will be."""
    folder = tmp_path_factory.mktemp("before") / "medqa"
    return folder, scored(base, out, folder, "--template", "medalpaca")


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize("method", ["lora", "lora-8bit"])
def test_it_learns_and_is_scored_before_and_after(
    method: str, base: Path, out: Path, before: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    if method == "lora-8bit":
        pytest.importorskip("bitsandbytes")
    folder = tmp_path / "run"
    run = trained(base, out, folder, method)

    losses = [line["loss"] for line in run["losses"] if "loss" in line]
    looks = [line["eval_loss"] for line in run["losses"] if "eval_loss" in line]
    assert (len(losses), len(looks)) == (STEPS, 2)
    assert mean(losses[-3:]) < 0.8 * mean(losses[:3])
    assert looks[-1] < looks[0]
    assert run["method"] == method
    assert (run["counts"]["trained"], run["counts"]["validation_rows"]) == (TRAINED, HELD)
    assert run["parameters"]["trained"] == 460_800  # rank 8 on q_proj and v_proj of 30 layers
    data = run["data"][0]
    assert (data["name"], data["version"], data["sample"]) == ("medqa", "1.0.0", False)
    assert data["licenses"] == {"LicenseRef-MedQA-disputed": TRAINED}
    manifest = json.loads((out / "medqa" / "1.0.0" / "manifest.json").read_text(encoding="utf-8"))
    assert data["ids_sha256"] == manifest["ids_sha256"]
    hits = run["exam_hits"]["medqa"]
    assert (hits["checked"], hits["complete"], hits["items"]) == (EXAM, True, [])

    earlier, first = before
    scores = scored(folder, out, folder / "medqa", "--baseline", str(earlier))
    assert (first["protocol"], scores["protocol"]) == ("loglikelihood", "loglikelihood")
    assert first["overall"]["n"] == scores["overall"]["n"] == EXAM
    assert first["exam"]["items_sha256"] == scores["exam"]["items_sha256"]
    ours, theirs = predictions(folder / "medqa"), predictions(earlier)
    assert [line["id"] for line in ours] == [line["id"] for line in theirs]
    assert len({line["id"] for line in ours}) == EXAM
    # Asked with the very same tokens: the adapter alone makes the difference.
    assert [line["prompt_sha256"] for line in ours] == [line["prompt_sha256"] for line in theirs]
    assert [line["likelihoods"] for line in ours] != [line["likelihoods"] for line in theirs]
    assert scores["model"]["template"] == "medalpaca"
    assert scores["model"]["adapter_fingerprint"] and not first["model"]["adapter_fingerprint"]

    # Nothing is known of what the base model read; of the trained one, that its rows hold none of the exam.
    assert (first["clean"], first["unknown"]) == (None, EXAM)
    assert (scores["clean"]["n"], scores["rest"]["n"], scores["leaks"]["hit"]) == (EXAM, 0, [])
    assert scores["leaks"]["dropped"] == LEAKED
    assert scores["clean"]["correct"] == scores["overall"]["correct"]

    paired = scores["baseline"]["overall"]
    change = scores["overall"]["correct"] - first["overall"]["correct"]
    assert (paired["n"], paired["gained"] - paired["lost"]) == (EXAM, change)
    assert paired["difference"] == pytest.approx(change / EXAM)
    assert paired["interval"][0] <= paired["difference"] <= paired["interval"][1]
    report = (folder / "medqa" / "report.md").read_text(encoding="utf-8")
    for words in ("medqa 1.0.0", "McNemar", "loglikelihood", "medalpaca"):
        assert words in report
