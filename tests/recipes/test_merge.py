"""The recipe that merges, as it is called."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "recipes" / "merge.py"


def test_help_is_fast_and_needs_no_torch() -> None:
    started = time.monotonic()
    code = f"import runpy, sys; sys.argv = ['merge.py', '--help']\ntry:\n runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\nexcept SystemExit as e:\n assert e.code == 0 and 'torch' not in sys.modules"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--model DIR" in found.stdout
    assert time.monotonic() - started < 5


def test_an_adapter_becomes_a_model(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from meadow import models
    from tests.train.test_merging import logits, make_adapter

    base = models.make_tiny(tmp_path / "base")
    adapter = make_adapter(tmp_path / "run", base)
    command = [sys.executable, SCRIPT, "--model", adapter, "--output", tmp_path / "a" / "merged"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert (
        "Traceback" not in done.stderr
        and done.stderr.splitlines()[-1] == f"meadow: done: {tmp_path / 'a' / 'merged'}"
    )
    assert (logits(tmp_path / "a" / "merged") - logits(adapter)).abs().max() < 1e-3

    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 2 and "exists, and nothing is overwritten" in again.stderr
    other = models.make_tiny(tmp_path / "other", seed=3)
    from meadow.recipes import merge

    assert merge.main(["--model", str(adapter), "--output", str(tmp_path / "b"), "--base", str(other)]) == 1
    assert not (tmp_path / "b").exists()


def test_all_that_is_wrong_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from meadow.recipes import merge

    assert merge.main(["--model", "llama/lora", "--output", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "a name on a hub is not looked up" in said and "exists" in said
    with pytest.raises(SystemExit) as error:
        merge.main(["--model", "x", "--output", "y", "--dtype", "int3"])
    assert error.value.code == 2
