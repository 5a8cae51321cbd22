"""Merging adapters into their base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from meadow import models  # noqa: E402
from meadow.models import prompts  # noqa: E402
from meadow.train import merging, record  # noqa: E402
from tests.train.test_record import a_run  # noqa: E402


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model."""
    return models.make_tiny(tmp_path_factory.mktemp("base") / "llama-tiny")


def make_adapter(folder: Path, base: Path, quantization: str | None = None, **lora: Any) -> Path:
    """An adapter as a run leaves it, with weights that change the model's answers."""
    import peft

    loaded = models.load(base, quantization=quantization, device="cpu", training=True)
    torch.manual_seed(1)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **lora}
    loaded.model.requires_grad_(False)
    model = peft.get_peft_model(loaded.model, peft.LoraConfig(base_model_name_or_path=str(base), **settings))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.3)
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    loaded.tokenizer.save_pretrained(folder)
    prompts.save(prompts.get("alpaca"), folder, loaded.tokenizer)
    method = {"8bit": "lora-8bit", "4bit": "qlora", None: "lora"}[quantization]
    entry = {
        "path": str(base),
        "name": base.name,
        "fingerprint": models.fingerprint(base),
        "license": "apache-2.0",
    }
    record.write_run(folder, a_run(method=method, base_model=entry))
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter on all linear layers."""
    return make_adapter(tmp_path_factory.mktemp("run") / "run", base)


def logits(folder: Path, **kwargs: Any) -> Any:
    """Of three rows, one shorter than the others."""
    loaded = models.load(folder, device="cpu", **kwargs)
    ids = torch.tensor([[5, 9, 300, 7, 41], [8, 8, 90, 1000, 3], [77, 2000, 6, 5, 4]])
    with torch.no_grad():
        return loaded.model(input_ids=ids).logits.float()


def test_a_merged_model_answers_as_base_and_adapter(base: Path, adapter: Path, tmp_path: Path) -> None:
    merging.merge(adapter, tmp_path / "merged")
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    assert sorted(p.name for p in (tmp_path / "merged").glob("*.safetensors")) == ["model.safetensors"]
    found = logits(tmp_path / "merged")
    torch.testing.assert_close(found, logits(adapter), rtol=1e-4, atol=1e-4)
    assert (found - logits(base)).abs().max() > 0.1
    assert [p.name for p in tmp_path.iterdir()] == ["merged"]


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_an_adapter_of_a_quantised_base_goes_into_the_base_in_full_precision(
    base: Path, tmp_path: Path, quantization: str
) -> None:
    pytest.importorskip("bitsandbytes")
    adapter = make_adapter(tmp_path / "run", base, quantization)
    merging.merge(adapter, tmp_path / "merged")
    assert "quantization_config" not in json.loads((tmp_path / "merged" / "config.json").read_text())
    found = logits(tmp_path / "merged")
    torch.testing.assert_close(found, logits(adapter), rtol=1e-4, atol=1e-4)
    # Near the model as it was trained, too, as far as its rounding lets it.
    trained = logits(adapter, quantization=quantization)
    assert (found - trained).abs().mean() / trained.std() < 0.25


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_in_sixteen_bits_are_rounded_once(adapter: Path, tmp_path: Path, dtype: str) -> None:
    from safetensors.torch import load_file

    merging.merge(adapter, tmp_path / "whole")
    merging.merge(adapter, tmp_path / "half", dtype=dtype)
    whole, half = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    assert whole.keys() == half.keys()
    for name, weight in whole.items():
        assert torch.equal(weight.to(getattr(torch, dtype)), half[name]), name
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == dtype
    assert json.loads((tmp_path / "half" / "run.json").read_text())["merged"]["dtype"] == dtype


def test_a_base_stored_in_sixteen_bits_stays_so(base: Path, tmp_path: Path) -> None:
    loaded = models.load(base, device="cpu")
    half = tmp_path / "half"
    shutil.copytree(base, half)
    loaded.model.to(torch.bfloat16).save_pretrained(half)
    adapter = make_adapter(tmp_path / "run", half)
    merging.merge(adapter, tmp_path / "merged")
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == "bfloat16"
    one, other = logits(tmp_path / "merged"), logits(adapter)
    assert (one - other).abs().mean() / other.std() < 0.02


def test_tokenizer_template_record_and_card_travel(base: Path, adapter: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(adapter, tmp_path / "run")
    words = (mine / "README.md").read_text()
    (mine / "README.md").write_text(words.replace("## Limits", "A remark of mine.\n\n## Limits", 1))
    merging.merge(mine, tmp_path / "merged-13b")
    merged = tmp_path / "merged-13b"
    for name in ("tokenizer.json", "tokenizer_config.json", "meadow_template.json"):
        assert (merged / name).read_bytes() == (mine / name).read_bytes(), name
    loaded = models.load(merged, device="cpu")
    assert loaded.template.name == "alpaca"
    run, before = record.read_record(merged), record.read_record(mine)
    assert {k: v for k, v in run.items() if k != "merged"} == before
    assert run["merged"]["adapter"] == {"name": "run", "fingerprint": models.fingerprint(mine)}
    assert run["merged"]["base"] == {"name": "llama-tiny", "fingerprint": models.fingerprint(base)}
    assert run["merged"]["difference"] < 1e-3
    card = (merged / "README.md").read_text()
    assert "A remark of mine." in card and "# merged-13b" in card and "- merged\n" in card
    assert "library_name: transformers" in card and "base_model_relation: finetune" in card
    assert models.fingerprint(mine) in card
    assert (merged / "loss.svg").is_file()


def test_another_place_for_the_base_is_fine_if_it_is_the_same_model(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(base, tmp_path / "moved")
    merging.merge(adapter, tmp_path / "merged", base=moved)
    assert record.read_record(tmp_path / "merged")["base_model"]["path"] == str(moved)


def test_an_adapter_of_another_base_is_refused_by_its_fingerprint(adapter: Path, tmp_path: Path) -> None:
    other = models.make_tiny(tmp_path / "other", seed=7)
    with pytest.raises(models.ModelError, match="fingerprint") as error:
        merging.merge(adapter, tmp_path / "merged", base=other)
    assert models.fingerprint(other)[:12] in str(error.value)
    assert not (tmp_path / "merged").exists()


def test_an_adapter_without_a_record_is_merged_without_a_card(adapter: Path, tmp_path: Path) -> None:
    foreign = shutil.copytree(adapter, tmp_path / "foreign")
    for name in ("run.json", "README.md", "meadow_template.json"):
        (foreign / name).unlink()
    merging.merge(foreign, tmp_path / "merged")
    assert not (tmp_path / "merged" / "run.json").exists()
    assert not (tmp_path / "merged" / "README.md").exists()
    assert models.load(tmp_path / "merged", device="cpu").template is None


def _bad_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    next(w for n, w in weights.items() if "lora_B" in n)[0, 0] = float("nan")
    save_file(weights, path, {"format": "pt"})


def _huge_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    next(w for n, w in weights.items() if "lora_B" in n).fill_(1e6)
    save_file(weights, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "dtype", "words"),
    [(_bad_weights, None, "no numbers"), (_huge_weights, "float16", "too large for float16")],
)
def test_weights_that_are_no_numbers_are_never_written(
    adapter: Path, tmp_path: Path, spoil: Callable[[Path], None], dtype: str | None, words: str
) -> None:
    bad = shutil.copytree(adapter, tmp_path / "bad")
    spoil(bad)
    with pytest.raises(merging.MergeError, match=words):
        merging.merge(bad, tmp_path / "merged", dtype=dtype)
    assert [p.name for p in tmp_path.iterdir()] == ["bad"]


def test_a_full_disk_leaves_nothing(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merging.shutil, "copyfile", full)
    with pytest.raises(merging.MergeError, match="is full"):
        merging.merge(adapter, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_said_all_at_once(base: Path, adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    found = merging.check(tmp_path / "nowhere", tmp_path / "there", tmp_path / "nothing")
    assert len(found) == 3
    assert "no such folder" in found[0] and "exists" in found[1] and "base model" in found[2]
    assert "whole model already" in merging.check(base, tmp_path / "new", None)[0]
    assert "is an adapter, too" in merging.check(adapter, tmp_path / "new", adapter)[0]
    assert "lies in the adapter's folder" in merging.check(adapter, adapter / "merged", None)[0]
    assert merging.check(adapter, tmp_path / "new", None) == []


def test_a_missing_or_quantised_base_and_another_kind_of_adapter(
    adapter: Path, base: Path, tmp_path: Path
) -> None:
    lost = shutil.copytree(adapter, tmp_path / "lost")
    config = json.loads((lost / "adapter_config.json").read_text())
    (lost / "adapter_config.json").write_text(
        json.dumps({**config, "base_model_name_or_path": "/gone/llama"})
    )
    assert "/gone/llama" in merging.check(lost, tmp_path / "new", None)[0]
    (lost / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "IA3"}))
    assert "IA3" in merging.check(lost, tmp_path / "new", None)[0]
    small = shutil.copytree(base, tmp_path / "small")
    written = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(
        json.dumps({**written, "quantization_config": {"quant_method": "bitsandbytes"}})
    )
    assert "quantised" in merging.check(adapter, tmp_path / "new", small)[0]
