"""Runs of a tiny model: what they learn, what they leave, and how they fail."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from meadow.models import prompts  # noqa: E402
from meadow.train import (  # noqa: E402
    NotFiniteError,
    TrainingError,
    TrainSettingsError,
    folder,  # noqa: E402
    parse,
)
from meadow.train.folder import out_of_memory  # noqa: E402
from meadow.train.loop import check_wrapper, token_loss  # noqa: E402
from meadow.train.packing import warmup  # noqa: E402
from recipes import finetune_7b  # noqa: E402

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tiny_model: Path, rows_file: Path, tmp_path: Path) -> Run:
    """Trains into a folder of that name and returns the record; keywords are settings."""

    def start(name: str = "run", **changes: Any) -> dict[str, Any]:
        values = {
            "model": tiny_model, "data": rows_file, "output": tmp_path / name, "out": tmp_path / "out", "method": "full",
            "batch_size": 8, "max_steps": 4, "learning_rate": 2e-3, "warmup_steps": 1, "activation_checkpointing": False,
            "device": "cpu", "validation": 0.2, "max_length": 256, **changes,
        }  # fmt: skip
        argv = [word for key, value in values.items() for word in (f"--{key}", str(value))]
        finetune_7b.run(parse(argv, size="7b"))
        return json.loads((tmp_path / name / "run.json").read_text())

    return start


def losses(record: dict[str, Any]) -> list[float]:
    return [entry["loss"] for entry in record["losses"]]


def test_layout_accumulation_and_checkpointing_change_no_loss(run: Run) -> None:
    one = run("none", packing="none", per_device_batch_size=8)
    for name, changes in (
        ("packed", {"packing": "packed", "pack_length": 512, "per_device_batch_size": 1}),
        ("length", {"packing": "length", "per_device_batch_size": 3, "activation_checkpointing": True}),
    ):
        other = run(name, **changes)
        assert losses(other) == pytest.approx(losses(one), abs=2e-5), name
        assert other["losses"][-1]["eval_loss"] == pytest.approx(one["losses"][-1]["eval_loss"], abs=2e-5)
        assert other["tokens_seen"] == one["tokens_seen"]
    assert losses(one)[-1] < losses(one)[0] - 0.3


def test_the_loss_of_a_step_is_the_mean_over_its_tokens(run: Run, tiny_model: Path, rows_file: Path) -> None:
    from meadow import models

    record = run(
        packing="packed", validation=0, batch_size=40, max_steps=1, max_length=512, train_on_inputs=False
    )
    loaded = models.load(tiny_model, device="cpu")
    total = count = 0.0
    for line in rows_file.read_text().splitlines():
        found = prompts.encode(prompts.get("medalpaca"), loaded.tokenizer, json.loads(line), max_length=512)
        ids, labels = torch.tensor([found.input_ids]), torch.tensor([found.labels])
        with torch.no_grad():
            total += token_loss(loaded.model(input_ids=ids).logits, labels).item()
        count += (labels != -100).sum().item()
    assert losses(record) == pytest.approx([total / count], rel=1e-5)
    assert record["counts"]["trained_tokens"] == count


@pytest.mark.parametrize("method", ["full", "lora", "lora-8bit", "qlora"])
def test_a_method_learns_and_leaves_a_model_that_loads(run: Run, tmp_path: Path, method: str) -> None:
    from meadow import models

    if method in ("lora-8bit", "qlora"):
        pytest.importorskip("bitsandbytes")
    preset = {} if method == "full" else {"preset": "modern", "learning_rate": 1e-2}
    record = run(method=method, **preset)
    output = tmp_path / "run"
    assert losses(record)[-1] < losses(record)[0] - 0.1
    trained, total = record["parameters"]["trained"], record["parameters"]["total"]
    assert (trained == total) if method == "full" else (0 < trained < total / 4)
    weights = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    assert (output / weights).is_file()
    assert not [path for path in output.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")], (
        "no pickle stays"
    )
    assert not (output / "checkpoints").exists()
    assert prompts.load(output).name == "medalpaca"
    loaded = models.load(
        output, device="cpu", quantization={"lora-8bit": "8bit", "qlora": "4bit"}.get(method)
    )
    ids = torch.tensor([prompts.prompt_ids(loaded.template, loaded.tokenizer, "Answer", "What is sign 3?")])
    assert torch.isfinite(loaded.model(input_ids=ids).logits).all()


def test_the_record_says_what_was_done(run: Run, tmp_path: Path, tiny_model: Path, rows_file: Path) -> None:
    from meadow import models

    record = run()
    assert record["base_model"]["fingerprint"] == models.fingerprint(tiny_model)
    assert (record["method"], record["preset"], record["recipe"], record["steps"]) == (
        "full",
        "paper",
        "finetune_7b.py",
        4,
    )
    assert record["counts"]["trained"] + record["counts"]["validation_rows"] == 40
    assert record["data"][0]["name"] == "rows.jsonl"
    assert record["license_verdict"]["rows"] == record["counts"]["trained"]
    assert record["settings"]["learning_rate"] == 2e-3
    assert {"torch", "transformers", "python"} <= set(record["versions"])
    assert [entry["step"] for entry in record["losses"]] == [1, 2, 3, 4]
    assert record["hardware"]["sharding"] == "none"
    assert "no exam is built" in record["unchecked"][0]
    # The settings that it leaves repeat it.
    again = parse(
        ["--config", str(tmp_path / "run" / "settings.yaml"), "--output", str(tmp_path / "again")], size="7b"
    )
    finetune_7b.run(again)
    repeated = json.loads((tmp_path / "again" / "run.json").read_text())
    assert losses(repeated) == pytest.approx(losses(record), abs=1e-6)
    assert losses(run("other", seed=1)) != pytest.approx(losses(record), abs=1e-3)
    with pytest.raises(TrainingError, match="holds a finished run"):
        run()


def test_early_stopping_keeps_the_best_weights(run: Run, tmp_path: Path) -> None:
    record = run(
        early_stopping=1, eval_steps=1, learning_rate=0.5, max_steps=30, max_grad_norm=0, scheduler="constant"
    )
    looked = {entry["step"]: entry["eval_loss"] for entry in record["losses"] if "eval_loss" in entry}
    best = min(looked, key=looked.get)
    assert best < record["steps"] < 30
    assert record["kept_step"] == best
    # The weights in the folder are those of that step.
    again = run("again", model=tmp_path / "run", learning_rate=1e-12, max_steps=1, eval_steps=1)
    assert again["losses"][-1]["eval_loss"] == pytest.approx(looked[best], abs=1e-4)
    assert again["kept_step"] == 1
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert f"the weights of step {best}," in card
    assert f"validation {looked[best]:.4f}" in card


def poisoned(rows_file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "poisoned.jsonl"
    extra = {"id": "row/poison", "instruction": "Answer", "input": "zzzqqq", "output": "A rune: \u16a0."}
    path.write_text(rows_file.read_text() + json.dumps(extra) + "\n")
    return path


@pytest.fixture
def poison(tiny_model: Path, rows_file: Path, tmp_path: Path) -> dict[str, Path]:
    """A model in which one token's embedding is not a number, and rows of which one holds it."""
    from meadow import models

    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    loaded = models.load(broken, device="cpu")
    # The bytes of a rune are in no other row.
    ids = set(loaded.tokenizer("\u16a0", add_special_tokens=False)["input_ids"])
    others = set(loaded.tokenizer(rows_file.read_text(), add_special_tokens=False)["input_ids"])
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[list(ids - others)[-1]] = float("nan")
    loaded.model.save_pretrained(broken)
    return {"model": broken, "data": poisoned(rows_file, tmp_path)}


def test_a_loss_that_is_no_number_names_the_row(run: Run, poison: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError) as caught:
        run(**poison, validation=0, max_steps=20, save_steps=1, per_device_batch_size=4, batch_size=4)
    assert caught.value.rows == ["row/poison"]
    assert f"step {caught.value.step}" in str(caught.value)
    saved = folder.checkpoints(tmp_path / "run")
    assert [step for step, _ in saved][-1:] == ([caught.value.step - 1] if caught.value.step > 1 else [])


def test_what_went_wrong_stands_on_a_line_of_its_own(
    tiny_model: Path, poison: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [f"--{key}={value}" for key, value in poison.items()]
    argv += [f"--output={tmp_path / 'run'}", f"--out={tmp_path / 'out'}", "--validation=0", "--epochs=1"]
    argv += ["--device=cpu", "--batch-size=4", "--per-device-batch-size=4"]
    assert finetune_7b.main(argv) == 1
    last = capsys.readouterr().err.rstrip("\n").rpartition("\n")[2]
    assert last.startswith("error: the loss at step")
    assert "row/poison" in last


def test_a_gradient_that_is_no_number_ends_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    norm = torch.nn.utils.get_total_norm
    monkeypatch.setattr(torch.nn.utils, "get_total_norm", lambda grads: norm(grads) * float("inf"))
    with pytest.raises(NotFiniteError, match="the gradient at step 1") as caught:
        run()
    assert len(caught.value.rows) == 8


class StoppedError(Exception):
    pass


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The optimizer step after that one raises."""
    from meadow.train.loop import Loop

    check = Loop.check_gradients

    def checked(loop: Loop) -> None:
        if loop.state.global_step == step:
            raise error
        check(loop)

    monkeypatch.setattr(Loop, "check_gradients", checked)


def test_a_run_that_broke_off_goes_on_with_the_same_losses(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "method": "lora",
        "lora_dropout": 0.3,
        "save_steps": 2,
        "max_steps": 6,
        "learning_rate": 1e-2,
        "eval_steps": 2,
    }
    whole = run("whole", **changes)
    with monkeypatch.context() as patch:
        stop_at(5, patch, StoppedError())
        with pytest.raises(StoppedError):
            run(**changes)
    half = tmp_path / "run" / "checkpoints" / "checkpoint-5"
    half.mkdir()
    resumed = run(**changes)
    assert not half.exists()
    assert [entry["step"] for entry in resumed["losses"]] == [1, 2, 3, 4, 5, 6]
    assert losses(resumed) == losses(whole)
    assert [e.get("eval_loss") for e in resumed["losses"]] == [e.get("eval_loss") for e in whole["losses"]]


def test_a_checkpoint_of_another_configuration_is_not_gone_on_from(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(2, patch, StoppedError())
        with pytest.raises(StoppedError):
            run(save_steps=1)
    with pytest.raises(TrainingError) as caught:
        run(save_steps=1, learning_rate=1e-4, batch_size=4)
    assert "learning_rate is 0.002 in the checkpoint, 0.0001 here" in str(caught.value)
    assert "batch_size is 8 in the checkpoint, 4 here" in str(caught.value)
    assert len(folder.checkpoints(tmp_path / "run")) == 2, "nothing is lost"
    # What changes no number may change.
    with monkeypatch.context() as patch:
        stop_at(3, patch, StoppedError())
        with pytest.raises(StoppedError):
            run(save_steps=1, per_device_batch_size=1)
    assert len(run(save_steps=1, learning_rate=1e-4, resume="no")["losses"]) == 4


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_keeps_the_last_checkpoint(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    import transformers

    save = transformers.Trainer._save_optimizer_and_scheduler

    def full(trainer: Any, path: str) -> None:
        if trainer.state.global_step == 2:
            raise error
        save(trainer, path)

    with monkeypatch.context() as patch:
        patch.setattr(transformers.Trainer, "_save_optimizer_and_scheduler", full)
        with pytest.raises(TrainingError, match="disk of .* is full. The checkpoint of step 1 is whole"):
            run(save_steps=1)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["checkpoint-1"]
    assert run(save_steps=1)["steps"] == 4


def test_a_run_that_will_not_fit_the_disk_does_not_begin(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(TrainingError, match="checkpoints and the model need about .*, and 5 B are free"):
        run()


def test_out_of_memory_says_what_to_change(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(0, monkeypatch, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    with pytest.raises(TrainingError, match="out of memory.") as caught:
        run(per_device_batch_size=4)
    text = str(caught.value)
    assert (
        text.index("--per-device-batch-size 2 (now 4)")
        < text.index("--activation-checkpointing")
        < text.index("--method lora")
    )
    given = ["--model", "tiny", "--data", "x", "--output", "y"]
    modern = parse(
        [*given, "--preset", "modern", "--method", "lora-8bit", "--pack-length", "4096"], size="13b"
    )
    advice = out_of_memory(modern, "No checkpoint", 1)
    assert "--pack-length 2048 (now 4096)" in advice
    assert "--method qlora" in advice


def test_other_errors_are_not_dressed_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(0, monkeypatch, RuntimeError("a fault of our own"))
    with pytest.raises(RuntimeError, match="^a fault of our own$"):
        run()


def test_settings_that_do_not_fit_the_model(run: Run) -> None:
    with pytest.raises(TrainSettingsError, match="no linear layer named query; it has down_proj"):
        run(method="lora", lora_targets="query")
    with pytest.raises(TrainSettingsError, match="is more than the .* tokens"):
        run("other", max_length=10**6)


def test_a_folder_with_other_files_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    with pytest.raises(TrainingError, match=r"holds files that are no run's \(thesis.tex\)"):
        run()
    with folder.locked(tmp_path / "busy"), pytest.raises(TrainingError, match="another run writes to"):
        run("busy")


def test_the_wrapper_is_the_one_that_was_asked_for(run: Run) -> None:
    check_wrapper(torch.nn.Linear(1, 1), "none")
    with pytest.raises(TrainingError, match="wrapped in fsdp, and the libraries wrapped it in none"):
        check_wrapper(torch.nn.Linear(1, 1), "fsdp")
    with pytest.raises(TrainSettingsError, match="there is one; start with torchrun"):
        run(sharding="fsdp", device="auto")


def test_fsdp2_is_told_from_what_the_libraries_use_instead(tmp_path: Path) -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        check_wrapper(fully_shard(torch.nn.Linear(2, 2), mesh=init_device_mesh("cpu", (1,))), "fsdp")
        with pytest.raises(
            TrainingError, match=r"wrapped it in ddp \(DistributedDataParallel\); nothing was trained"
        ):
            check_wrapper(DistributedDataParallel(torch.nn.Linear(2, 2)), "fsdp")
    finally:
        dist.destroy_process_group()


def test_warmup_is_a_number_a_share_or_a_tenth_of_a_short_run(tiny_model: Path) -> None:
    def of(value: str, steps: int) -> int:
        given = ["--model", "tiny", "--data", "x", "--output", "y", "--warmup-steps", value]
        return warmup(parse(given, size="7b"), steps)

    assert [of("100", 1000), of("0.03", 1000), of("100", 50), of("100", 1), of("0", 9)] == [100, 30, 5, 0, 0]


def test_tensorboard(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(tensorboard=True)
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
