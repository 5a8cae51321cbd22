"""The export for lm-evaluation-harness: the real harness gets our numbers, item by item."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from meadow import models
from meadow.cli import app as cli
from meadow.models import prompts
from meadow.parse.options import INSTRUCTION
from meadow.score import lm_eval
from meadow.score.exams import ExamError, read_exam
from tests import families
from tests.smollm import smollm

pytest.importorskip("torch", reason="needs the extra train")

#: Questions with four and with five options, one of them long, with signs that tokenizers treat each in their way.
ITEMS = [
    {
        "id": f"x/{number}",
        "question": question,
        "options": dict(zip("ABCDE", options, strict=False)),
        "answer_key": answer,
        "step": f"step{1 + number % 2}",
    }
    for number, (question, options, answer) in enumerate(
        [
            ("Which drug lowers uric acid?", ["Allopurinol", "Aspirin", "Heparin", "Warfarin"], "A"),
            ("What is 2 + 2, in mg?", ["1.", "2 mg", "3 mg:", "4 mg", "(5)"], "D"),
            ("Ménière's disease has no\n\n- fever?", ["fever", "vertigo", "tinnitus", "hearing loss"], "A"),
            (
                "A 45-year-old man is tired. Why {input}?",
                ["Gout", "β-blocker", "37.5 °C", "No sleep", "None"],
                "D",
            ),
            (
                "Which is longest?",
                ["a", "The arthritis caused by crystals of monosodium urate", "b.", "c"],
                "B",
            ),
            ("Which of these?", ["10 %", "20 %", "30 %", "40 %", "50 %"], "E"),
        ]
    )
]


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exam") / "Mixed exam.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in ITEMS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer for which ":" and the line end after it are one token."""
    return models.make_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Callable[[str], Path]:
    """Folders of random models with tokenizers of other families."""
    made = {"tiny": tiny}

    def get(family: str) -> Path:
        if family == "adapter" and family not in made:
            made[family] = tmp_path_factory.mktemp("models") / family
            adapted(tiny, made[family])
        if family not in made:
            import torch
            from transformers import LlamaConfig, LlamaForCausalLM

            tokenizer = families.llama() if family == "llama" else families.byte_level(chat=family)
            torch.manual_seed(1)
            config = LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=2048,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
            folder = tmp_path_factory.mktemp("models") / family
            # Larger weights than usual: a fresh model finds all options nearly the same.
            network = LlamaForCausalLM(config)
            for weight in network.parameters():
                weight.data.mul_(3)
            network.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[family] = folder
        return made[family]

    return get


def adapted(base: Path, folder: Path) -> None:
    """Writes an adapter that changes the model, with the template it was trained with and its tokenizer."""
    import torch
    from peft import LoraConfig, get_peft_model

    loaded = models.load(base, device="cpu")
    torch.manual_seed(3)
    settings = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(loaded.model, settings).save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    prompts.save(prompts.get("medalpaca"), folder, loaded.tokenizer)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": str(base)}
    path.write_text(json.dumps(config), encoding="utf-8")


def ours(folder: Path, template: str | None, exam: Path, out: Path) -> dict[str, Mapping[str, Any]]:
    """Predictions of the `loglikelihood` protocol by item."""
    from meadow.score.asking import run
    from meadow.score.local import LocalBackend
    from meadow.score.predictions import Predictions

    backend = LocalBackend(models.load(folder, device="cpu"), prompts.get(template) if template else None)
    with Predictions(out, {"model": backend.identity}) as found:
        run("loglikelihood", read_exam(exam), backend, found)
        return {line["id"]: line for line in found}


def harness(
    command: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Runs the export's line, in this process, and returns what it logged: task, item id, sample."""
    pytest.importorskip("lm_eval", reason="needs lm-eval")
    from lm_eval import evaluator, tasks
    from lm_eval.__main__ import cli_evaluate

    words = shlex.split(command.replace("--output_path results", f"--output_path {shlex.quote(str(out))}"))
    monkeypatch.setattr(sys, "argv", [*words, "--device", "cpu"])
    # The thousands of tasks that come with the harness take it seconds to list.
    monkeypatch.setattr(tasks, "TaskManager", functools.partial(tasks.TaskManager, include_defaults=False))
    # It lists all packages by pip.
    monkeypatch.setattr(evaluator, "add_env_info", lambda results: None)
    # It asks git for the commit of what it runs in.
    monkeypatch.chdir(out.parent)
    cli_evaluate()
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for path in out.rglob("samples_*.jsonl"):
        task = re.fullmatch(r"samples_(.+)_\d{4}-.*\.jsonl", path.name)[1]
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found[task] = {line["doc"]["id"]: line for line in lines}
    return found


def compare(
    folder: Path, template: str | None, exam: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness's numbers and ours, item by item."""
    made = lm_eval.export(work / "tasks", [exam], template=template, model=folder)
    assert not made.notes, made.notes
    assert made.groups == ("meadow_mixed_exam",)
    # What is written can be moved.
    (work / "tasks").rename(work / "moved")
    command = made.command.replace(str(work / "tasks"), str(work / "moved"))
    theirs = harness(command, work / "results", monkeypatch)
    assert sorted(theirs) == [f"meadow_mixed_exam_step{n}{end}" for n in "12" for end in ("", "_text")]
    mine = ours(folder, template, exam, work / "ours")
    assert len(mine) == len(ITEMS)
    for item in ITEMS:
        line = mine[item["id"]]
        sample = theirs[f"meadow_mixed_exam_{item['step']}"][item["id"]]
        assert sample["acc"] == float(line["correct"]), item["id"]
        letters = [float(found[0]) for found in sample["filtered_resps"]]
        assert len(letters) == len(item["options"])
        # Likelihoods are the same but for what is the same for all options.
        known = [line["likelihoods"]["letter"][key]["sum"] for key in item["options"]]
        assert [a - letters[0] for a in letters] == pytest.approx([a - known[0] for a in known], abs=1e-4)
        text = theirs[f"meadow_mixed_exam_{item['step']}_text"][item["id"]]
        for metric, choice in (("acc", "text"), ("acc_norm", "text_norm")):
            assert text[metric] == float(line["choices"][choice] == item["answer_key"]), (item["id"], choice)
        sums = [float(found[0]) for found in text["filtered_resps"]]
        same = sums.pop() if len(sums) > len(item["options"]) else 0.0
        known = [line["likelihoods"]["text"][key]["sum"] for key in item["options"]]
        assert [value - same for value in sums] == pytest.approx(known, abs=1e-3)


@pytest.mark.parametrize(
    ("family", "template"),
    [
        ("tiny", None),
        ("tiny", "medalpaca"),
        ("tiny", "plain"),
        ("llama", "medalpaca"),
        ("llama", "alpaca"),
        ("chatml", None),
        ("headers", "medalpaca"),
        ("adapter", None),
    ],
)
def test_the_harness_gets_our_numbers(
    family: str,
    template: str | None,
    model: Callable[[str], Path],
    exam: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compare(model(family), template, exam, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("template", [None, "medalpaca"])
def test_the_harness_gets_our_numbers_of_a_real_model(
    template: str | None, exam: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(smollm(), template, exam, tmp_path, monkeypatch)


def rows(folder: Path, exam: str, part: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return pq.read_table(folder / "exams" / exam / f"{part}.parquet").to_pylist()


def test_without_a_model_the_prompt_is_the_templates(exam: Path, tmp_path: Path) -> None:
    made = lm_eval.export(tmp_path / "tasks", [exam])
    assert made.items == len(ITEMS)
    assert "pretrained=MODEL," in made.command
    assert len(made.notes) == 1
    assert "leave add_bos_token out" in made.notes[0]
    found = rows(tmp_path / "tasks", "mixed_exam", "step2")
    item = {item.id: item for item in read_exam(exam).items}["x/1"]
    row = next(row for row in found if row["id"] == "x/1")
    whole = prompts.prompt_text(prompts.get("medalpaca"), None, INSTRUCTION, item.text())
    assert row["prompt"] + ":\n" == whole
    assert row["letters"] == list("ABCDE")
    assert row["answer"] == 3
    assert row["continuations"] == [":\n" + text for text in row["texts"]] + [":\n"]
    readme = (tmp_path / "tasks" / "README.md").read_text(encoding="utf-8")
    assert made.command in readme
    assert "| `meadow_mixed_exam_step1`, `meadow_mixed_exam_step1_text` | Mixed exam | step1 | 3 |" in readme
    described = json.loads((tmp_path / "tasks" / "export.json").read_text(encoding="utf-8"))
    assert described["template"]["name"] == "medalpaca"
    assert described["exams"][0]["items_sha256"] == read_exam(exam).items_sha256


def test_tokens_that_cannot_be_the_same_are_told(model: Callable[[str], Path], tmp_path: Path) -> None:
    """A text that looks like a special token is one to the harness; in Meadow's prompts it never is."""
    items = [
        {
            "question": f"Is {text} a sign of gout?",
            "options": {"A": "yes it is", "B": "no"},
            "answer_key": "B",
        }
        for text in ("</s>", "pain", "rash")
    ]
    path = tmp_path / "signs.json"
    path.write_text(json.dumps([{**item, "id": f"s/{n}"} for n, item in enumerate(items)]), encoding="utf-8")
    made = lm_eval.export(tmp_path / "tasks", [path], template="medalpaca", model=model("tiny"))
    assert made.notes == (
        "1 of 3 items reach this model in other tokens than Meadow's, whose scores may differ there: s/0",
    )
    assert made.notes[0] in (tmp_path / "tasks" / "README.md").read_text(encoding="utf-8")


def test_long_items_are_told(model: Callable[[str], Path], tmp_path: Path) -> None:
    item = {"id": "l/0", "question": "pain " * 3000, "options": {"A": "yes", "B": "no"}, "answer_key": "B"}
    path = tmp_path / "long.json"
    path.write_text(json.dumps([item]), encoding="utf-8")
    made = lm_eval.export(tmp_path / "tasks", [path], model=model("tiny"))
    assert len(made.notes) == 1
    assert "1 items are too long" in made.notes[0]


def test_bos_is_handled_as_the_template_says(
    model: Callable[[str], Path], exam: Path, tmp_path: Path
) -> None:
    """A saved template that begins without BOS, for a tokenizer that would add one."""
    folder = tmp_path / "model"
    shutil.copytree(model("tiny"), folder)
    prompts.save(dataclasses.replace(prompts.get("medalpaca"), bos="never"), folder)
    made = lm_eval.export(tmp_path / "tasks", [exam], model=folder)
    assert not made.notes
    assert f"pretrained={folder},add_bos_token=False," in made.command
    assert "`medalpaca`" in (tmp_path / "tasks" / "README.md").read_text(encoding="utf-8")


def test_an_adapter_is_named_with_its_base(model: Callable[[str], Path], exam: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(model("tiny"))}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    made = lm_eval.export(tmp_path / "tasks", [exam], template="plain", model=folder)
    assert f"--model_args pretrained={model('tiny')},peft={folder},dtype" in made.command


def test_an_export_replaces_an_export_and_nothing_else(exam: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    lm_eval.export(folder, [exam])
    (folder / "old.yaml").write_text("task: old\n", encoding="utf-8")
    lm_eval.export(folder, [exam], template="alpaca")
    assert not (folder / "old.yaml").exists()
    assert json.loads((folder / "export.json").read_text(encoding="utf-8"))["template"]["name"] == "alpaca"
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match="holds something else than an export"):
        lm_eval.export(other, [exam])
    with pytest.raises(ExamError):
        lm_eval.export(folder, [tmp_path / "no.jsonl"])
    assert (folder / "export.json").is_file(), "a failed export leaves the earlier one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "tasks"]
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]


Done = Callable[..., tuple[int, str, str]]


@pytest.fixture
def meadow(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Done:
    """Runs a command; returns its exit code and what it printed."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["meadow", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return (ended.value.code or 0, *capsys.readouterr())

    return run


def test_command(meadow: Done, tmp_path: Path, exam: Path) -> None:
    out, folder = tmp_path / "out", tmp_path / "tasks"
    code, printed, errors = meadow("export", "lm-eval", folder, "--out", out)
    assert code == 1
    assert "no exam is built" in errors
    assert not folder.exists()
    assert meadow("build", "usmle", "medqa", "wikidoc", "--sample", "--workers", "1", "--out", out)[0] == 0
    code, printed, errors = meadow("export", "lm-eval", folder, "--out", out)
    assert code == 0, errors
    groups = "meadow_medqa, meadow_medqa_4_options, meadow_usmle_self_assessment"
    assert printed.startswith(f"{folder}: 53 items of {groups}\n")
    assert "not the real exam" in printed
    assert f"--include_path {folder} --tasks meadow_medqa,meadow_medqa_text," in printed
    assert {path.name for path in (folder / "exams" / "usmle_self_assessment").iterdir()} == {
        "step1.parquet",
        "step2.parquet",
        "step3.parquet",
    }
    code, printed, errors = meadow("export", "lm-eval", folder, "--split", "validation", "--out", out)
    assert code == 0, errors
    assert {path.stem for path in folder.rglob("*.parquet")} == {"validation"}
    for arguments, words in (
        (("--exam", "nope"), "nope"),
        (("--exam", exam, "--template", "word"), "no template is named 'word'; there are: medalpaca"),
        (("--exam", exam, "--template", "chat"), "name the model's folder (--model)"),
        (("--exam", exam, "--model", "org/name"), "a name on a hub is not looked up"),
        (("--exam", exam, "--exam", "medqa", "--split", "tests"), "no split"),
    ):
        code, printed, errors = meadow("export", "lm-eval", folder, *arguments, "--out", out)
        assert code == 1
        assert words in errors
        assert "Traceback" not in errors
    assert meadow("export", "lm-eval")[0] == 2
    assert "there is: anki, lm-eval" in meadow("export", "word", folder)[2]
