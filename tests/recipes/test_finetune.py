"""The recipes as commands, end to end."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.small_runs import SMALL, one_process, write_rows


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    one_process(monkeypatch)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl")


def main(size: str, argv: list[str]) -> int:
    from meadow.recipes import finetune_7b, finetune_13b

    return {"7b": finetune_7b, "13b": finetune_13b}[size].main(argv)


def test_the_command_of_the_readme_trains_on_the_samples(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    output = tmp_path / "runs" / "13b"
    began = time.monotonic()
    assert (
        main(
            "13b",
            [
                "--model",
                "tiny",
                "--method",
                "lora-8bit",
                "--data",
                "mixture_medalpaca",
                "--output",
                str(output),
            ],
        )
        == 0
    )
    assert time.monotonic() - began < 100
    run = json.loads((output / "run.json").read_text())
    assert run["data"][0]["name"] == "mixture_medalpaca"
    assert run["data"][0]["sample"] is True
    assert len(run["data"][0]["ids_sha256"]) == 64
    assert run["exam_hits"]["usmle_self_assessment"]["items"] == []
    assert run["settings"]["batch_size"] == 128
    assert (output / "adapter_model.safetensors").is_file()
    assert (output / "README.md").is_file()


def test_wrong_use_and_failures_are_one_message_each(
    tmp_path: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("7b", ["--model", "org/name", "--nonsense", "1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: 4 problems in the settings:")
    assert "Traceback" not in error
    empty = tmp_path / "empty"
    empty.mkdir()
    argv = ["--data", str(rows), "--output", str(tmp_path / "run")]
    assert main("7b", ["--model", str(empty), *argv]) == 1
    assert "error: " in capsys.readouterr().err
    assert main("7b", ["--model", "tiny", "--data", "no_such_dataset", *argv[2:]]) == 1
    assert "no dataset is named 'no_such_dataset'" in capsys.readouterr().err
    assert main("7b", ["--model", "tiny", *argv, "--template", "chat", "--lora-targets", "nothing"]) == 2
    assert "no linear layer named nothing" in capsys.readouterr().err


def test_a_dry_run_says_everything_and_trains_nothing(
    tmp_path: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            "7b",
            [
                "--model",
                "tiny",
                "--data",
                str(rows),
                "--dry-run",
                "--preset",
                "modern",
                *SMALL,
                "--per-device-batch-size",
                "2",
            ],
        )
        == 0
    )
    text = capsys.readouterr().out
    for expected in (
        "learning_rate: 0.002    # given",
        "preset modern",
        "tokens:",
        "steps:",
        "parameters:",
        "rows a block of 2048",
    ):
        assert expected in text
    assert list(tmp_path.iterdir()) == []
