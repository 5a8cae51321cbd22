"""Settings: presets, files, the command line, and everything that is wrong at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from meadow.train.commandline import FIELDS, help_text, parse
from meadow.train.settings import PRESETS, TrainSettingsError, choices

GIVEN = ["--model", "tiny", "--data", "wikidoc", "--output", "runs/x"]


def problems(*argv: str, size: str = "7b") -> list[str]:
    with pytest.raises(TrainSettingsError) as caught:
        parse(list(argv), size=size)
    return caught.value.problems


@pytest.mark.parametrize(
    ("size", "method", "expected"),
    [
        ("7b", "full", {"epochs": 5.0, "learning_rate": 2e-5, "batch_size": 256}),
        ("13b", "full", {"epochs": 5.0, "learning_rate": 1e-5, "batch_size": 256}),
        ("7b", "lora", {"epochs": 3.0, "batch_size": 128, "lora_r": 8, "lora_alpha": 16.0, "lora_dropout": 0.1, "lora_targets": ("q_proj", "v_proj")}),
        ("13b", "lora-8bit", {"epochs": 3.0, "batch_size": 128, "warmup_steps": 100, "scheduler": "cosine", "tf32": True, "validation": 0.1}),
    ],
)  # fmt: skip
def test_the_default_preset_has_the_published_values(size: str, method: str, expected: dict) -> None:
    settings = parse([*GIVEN, "--method", method], size=size)
    assert settings.preset == "paper"
    assert {key: getattr(settings, key) for key in expected} == expected
    assert settings.max_length > 256, "the published length cut off answers"


def test_modern_packs_trains_answers_alone_and_all_linear_layers() -> None:
    settings = parse([*GIVEN, "--preset", "modern"], size="7b")
    assert (settings.packing, settings.train_on_inputs, settings.lora_targets) == (
        "packed",
        False,
        ("all-linear",),
    )
    assert settings.learning_rate > parse(GIVEN, size="7b").learning_rate
    assert settings.max_length > parse(GIVEN, size="7b").max_length


@pytest.mark.parametrize("preset", PRESETS)
def test_every_value_of_a_preset_has_a_source_or_reason_and_is_a_setting(preset: str) -> None:
    for choice in PRESETS[preset]:
        assert choice.key in FIELDS
        assert len(choice.why) > 15
    for method in ("full", "lora", "lora-8bit", "qlora"):
        settings = parse([*GIVEN, "--preset", preset, "--method", method], size="13b")
        by_key = choices(preset, method, "13b")
        assert {key: getattr(settings, key) for key in by_key} == {key: c.value for key, c in by_key.items()}


def test_both_presets_set_the_same_things() -> None:
    assert {c.key for c in PRESETS["paper"]} | {"pack_length"} == {c.key for c in PRESETS["modern"]}


def test_the_command_line_goes_before_a_file_which_goes_before_the_preset(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        "model: tiny\ndata: [wikidoc, medqa@1.0]\nlearning-rate: 3e-5\nepochs: 2\nmethod: qlora\n"
    )
    settings = parse(
        ["--config", str(config), "--output", "x", "--epochs=1", "--no-tf32", "--seed", "7"], size="7b"
    )
    assert (settings.learning_rate, settings.epochs, settings.lora_r, settings.data) == (
        3e-5,
        1.0,
        8,
        ("wikidoc", "medqa@1.0"),
    )
    assert (settings.tf32, settings.seed, settings.quantization) == (False, 7, "4bit")
    reasons = {name: why for name, _, why in settings.explain()}
    assert reasons["learning_rate"] == f"given in {config}"
    assert reasons["epochs"] == reasons["tf32"] == "given on the command line"
    assert "train.py" in reasons["lora_r"]


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("learning_rat: 1e-4\nvalidation: 3\nresume: [yes]\n")
    found = problems(
        "--config", str(config), "--modle", "x", "--lora-r", "abc", "--packing", "foo", "--data", "gone.jsonl",
        "--data", "no name", "--batch-size", "0", "--epochs", "2", "--max-steps", "4", "--template", "nonsense", "stray",
        "--seed", "1", "--seed", "2",
    )  # fmt: skip
    text = "\n".join(found)
    for expected in (
        "did you mean learning_rate?", "did you mean model?", "validation", "resume", "'abc' is no whole number",
        "none of packed, length, none", "gone.jsonl: there is no such file", "'no name'", "0 is below 1", "output is missing",
        "epochs and max_steps", "nonsense", "--template has 2 values (nonsense stray)", "model is missing", "given twice",
    ):  # fmt: skip
        assert expected in text
    assert len(found) == 15


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--method", "full", "--lora-r", "4"], "method full trains all weights"),
        (["--packing", "length", "--pack-length", "512"], "pack_length is for packed blocks"),
        (
            ["--packing", "packed", "--pack-length", "512", "--max-length", "1024"],
            "the longest rows fit no block",
        ),
        (["--batch-size", "4", "--per-device-batch-size", "8"], "more than batch_size"),
        (["--validation", "0", "--early-stopping", "2"], "validation is 0"),
        (["--validation", "0", "--eval-steps", "5"], "validation is 0"),
        (
            ["--early-stopping", "2", "--save-steps", "40", "--eval-steps", "20"],
            "save_steps (40) must be eval_steps",
        ),
        (["--sharding", "fsdp"], "sharding fsdp is for method full"),
        (["--method", "full", "--sharding", "fsdp", "--device", "cpu"], "would train with DDP instead"),
        (["--lora-targets", "all-linear", "q_proj"], "stands alone"),
        (["--dtype", "float16", "--device", "cpu"], "does not train on a CPU"),
        (["--warmup-steps", "2.5"], "neither a number of steps nor a share"),
    ],
)
def test_contradictions(argv: list[str], expected: str) -> None:
    assert any(expected in problem for problem in problems(*GIVEN, *argv))


def test_a_model_is_a_folder_of_its_own(tmp_path: Path) -> None:
    rest = ["--data", "wikidoc", "--output", str(tmp_path)]
    assert any("nothing is downloaded" in p for p in problems("--model", "org/llama-7b", *rest))
    assert any("would be overwritten" in p for p in problems("--model", str(tmp_path), *rest))
    (tmp_path / "adapter_config.json").write_text("{}")
    assert any("merge it" in p for p in problems("--model", str(tmp_path), *rest))


def test_an_effective_batch_that_processes_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert any("batch_size 8, or 6 processes" in p for p in problems(*GIVEN, "--batch-size", "6"))
    assert parse([*GIVEN, "--batch-size", "9"], size="7b").batch_size == 9


def test_the_shipped_configs_are_sound() -> None:
    folder = Path(__file__).parents[2] / "recipes" / "configs"
    found = sorted(folder.glob("*.yaml"))
    assert len(found) >= 8
    for path in found:
        size = path.name.partition("_")[0]
        settings = parse(["--config", str(path), "--model", "tiny", "--output", "x"], size=size)
        assert settings.method.replace("-", "_") == path.stem.partition("_")[2]


def test_help_is_quick_and_lists_every_setting() -> None:
    text = help_text("finetune_7b.py", "7b")
    assert all(f"--{name.replace('_', '-')}" in text for name in FIELDS)
    script = "import sys; from meadow.recipes.finetune_7b import main\ntry: main(['--help'])\nexcept SystemExit: pass\nprint('torch' in sys.modules, 'datasets' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.endswith("False False\n")
