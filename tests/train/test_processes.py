"""Runs in processes of their own: one that is killed, and two together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meadow.train import folder
from tests.small_runs import SMALL, one_process, write_rows

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    one_process(monkeypatch)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl")


def losses(output: Path) -> list[float]:
    return [entry["loss"] for entry in json.loads((output / "run.json").read_text())["losses"]]


def main(size: str, argv: list[str]) -> int:
    from meadow.recipes import finetune_7b, finetune_13b

    return {"7b": finetune_7b, "13b": finetune_13b}[size].main(argv)


def command(script: str, rows: Path, output: Path, *more: str) -> list[str]:
    return [
        str(RECIPES / script),
        "--model",
        "tiny",
        "--data",
        str(rows),
        "--output",
        str(output),
        *SMALL,
        *more,
    ]


def test_a_killed_run_goes_on_and_has_the_same_losses(tmp_path: Path, rows: Path) -> None:
    more = ["--max-steps", "60", "--save-steps", "5", "--method", "lora", "--lora-dropout", "0.2"]
    assert main("7b", command("", rows, tmp_path / "whole", *more)[1:]) == 0
    output = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, *command("finetune_7b.py", rows, output, *more)], stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 120
    while len(folder.checkpoints(output)) < 2 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was killed while it ran"
    assert 10 <= folder.checkpoints(output)[-1][0] < 60
    assert not (output / "run.json").exists()
    assert main("7b", command("", rows, output, *more)[1:]) == 0
    assert len(losses(output)) == 60
    assert losses(output) == losses(tmp_path / "whole")


def test_two_processes_have_the_losses_of_one(tmp_path: Path, rows: Path) -> None:
    more = [
        "--max-steps",
        "3",
        "--method",
        "full",
        "--packing",
        "packed",
        "--pack-length",
        "256",
        "--per-device-batch-size",
        "1",
    ]
    # Seven blocks or so cannot be dealt out evenly, and eleven rows cannot either.
    more[more.index("--pack-length") :] = ["--per-device-batch-size", "2", "--batch-size", "11"]
    small = [
        word
        for pair in zip(SMALL[::2], SMALL[1::2], strict=True)
        if pair[0] != "--batch-size"
        for word in pair
    ]
    argv = ["--model", "tiny", "--data", str(rows), *small, *more]
    assert main("7b", [*argv, "--output", str(tmp_path / "one")]) == 0
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(port),
    ]
    run = subprocess.run(
        [*launch, str(RECIPES / "finetune_7b.py"), *argv, "--output", str(tmp_path / "two")],
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    record = json.loads((tmp_path / "two" / "run.json").read_text())
    assert (record["hardware"]["processes"], record["hardware"]["sharding"]) == (2, "ddp")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=2e-5)
    assert record["losses"][-1]["eval_loss"] == pytest.approx(
        json.loads((tmp_path / "one" / "run.json").read_text())["losses"][-1]["eval_loss"], abs=2e-5
    )
    assert "DDP" in run.stderr, "on CPUs there is no FSDP, and that is said"
    assert (tmp_path / "two" / "model.safetensors").is_file()
