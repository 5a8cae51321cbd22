"""Loading models: the right ones as they are, the wrong ones with a message that helps."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from meadow import models  # noqa: E402
from meadow.models import (  # noqa: E402
    ModelError,
    fingerprint,
    load,
    make_tiny,
    prompts,  # noqa: E402
)
from tests import families  # noqa: E402

ROW = {"instruction": "Name a drug", "input": "for gout", "output": "Allopurinol"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model."""
    return make_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """A copy of it to be damaged."""
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


@pytest.fixture(scope="module")
def adapter(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter for it that changes its answers."""
    from peft import LoraConfig, get_peft_model

    loaded = load(tiny)
    torch.manual_seed(1)
    model = get_peft_model(
        loaded.model,
        LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False),
    )
    folder = tmp_path_factory.mktemp("models") / "adapter"
    return models.save(model, loaded.tokenizer, prompts.get("medalpaca"), folder)


def logits(loaded: models.Loaded, template: str = "plain") -> Any:
    ids = prompts.prompt_ids(prompts.get(template), loaded.tokenizer, "Name a drug for gout")
    with torch.no_grad():
        return loaded.model(torch.tensor([ids])).logits


def edit(path: Path, **changes: Any) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        found.pop(key, None) if value is None else found.update({key: value})
    path.write_text(json.dumps(found), encoding="utf-8")


# The tiny model


def test_tiny_is_small_whole_and_the_same_again(tiny: Path, tmp_path: Path) -> None:
    assert sorted(path.name for path in tiny.iterdir()) == [
        "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    assert sum(path.stat().st_size for path in tiny.iterdir()) < 3e6
    again = make_tiny(tmp_path / "again")
    assert fingerprint(again) == fingerprint(tiny)
    assert fingerprint(make_tiny(tmp_path / "other", seed=1)) != fingerprint(tiny)
    loaded = load(tiny)
    assert 200_000 < loaded.model.num_parameters() < 1_000_000
    assert type(loaded.model).__name__ == "LlamaForCausalLM"
    tokenizer = loaded.tokenizer
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3
    assert (
        tokenizer.decode(tokenizer("Größe 漢字 🩺\n", add_special_tokens=False).input_ids)
        == "Größe 漢字 🩺\n"
    )
    assert loaded.template is None


def test_tiny_works_with_every_template(tiny: Path) -> None:
    tokenizer = load(tiny).tokenizer
    for template in prompts.TEMPLATES.values():
        encoded = prompts.encode(template, tokenizer, ROW, max_length=None)
        assert encoded.input_ids[0] == tokenizer.bos_token_id
        assert encoded.input_ids[-1] == tokenizer.eos_token_id
        assert encoded.input_ids.count(tokenizer.eos_token_id) == 1


def test_tiny_is_made_once_where_it_is_asked_for_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEADOW_MODELS", str(tmp_path / "models"))
    first = load("tiny")
    started = time.monotonic()
    second = load("tiny")
    assert time.monotonic() - started < 5
    assert first.source["base"] == second.source["base"] == str(models.tiny_folder())
    assert [path.name for path in (tmp_path / "models").iterdir()] == [Path(first.source["base"]).name]
    assert torch.equal(logits(first), logits(second))


def test_tiny_is_never_written_over_anything(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match="is not empty"):
        make_tiny(tmp_path)
    with pytest.raises(ModelError, match="cannot be written"):
        make_tiny(tmp_path / "notes.txt" / "tiny")


# Loading


def test_source_says_what_was_loaded(tiny: Path) -> None:
    loaded = load(tiny)
    assert loaded.source["path"] == loaded.source["base"] == str(tiny)
    assert (loaded.source["adapter"], loaded.source["quantization"]) == (None, None)
    assert loaded.source["fingerprint"] == fingerprint(tiny)
    assert loaded.source["pad"] == {"token": "<pad>", "id": 3, "rule": "the tokenizer's own pad token"}
    assert loaded.source["bos"] is True
    json.dumps(loaded.source)
    assert not loaded.model.training
    assert loaded.tokenizer.padding_side == "left"
    trained = load(tiny, training=True)
    assert trained.model.training
    assert trained.tokenizer.padding_side == "right"


@pytest.mark.parametrize("dtype", ["bf16", "bfloat16", "fp16", "float32"])
def test_dtype(tiny: Path, dtype: str) -> None:
    loaded = load(tiny, dtype=dtype, device="cpu")
    assert str(loaded.model.dtype) == f"torch.{loaded.source['dtype']}"
    assert loaded.source["dtype"] == models.loading.DTYPES[dtype]


def test_dtype_auto_is_float32_on_a_processor(copy: Path) -> None:
    edit(copy / "config.json", dtype="float16")
    assert load(copy, device="cpu").source["dtype"] == "float32"


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_quantised_on_a_processor(tiny: Path, adapter: Path, kind: str) -> None:
    pytest.importorskip("bitsandbytes")
    loaded = load(tiny, quantization=kind, device="cpu")
    layer = loaded.model.model.layers[0].self_attn.q_proj
    assert type(layer).__name__ == {"8bit": "Linear8bitLt", "4bit": "Linear4bit"}[kind]
    assert loaded.source["quantization"] == kind
    exact = logits(load(tiny))
    error = (logits(loaded) - exact).norm() / exact.norm()
    assert 0 < error < 0.2
    loaded = load(adapter, quantization=kind, device="cpu", training=True)
    loaded.model(torch.tensor([[1, 50, 60]]), labels=torch.tensor([[1, 50, 60]])).loss.backward()
    gradients = {name: each.grad for name, each in loaded.model.named_parameters() if each.requires_grad}
    assert gradients and all("lora_" in name for name in gradients)
    assert all(each is not None and torch.isfinite(each).all() for each in gradients.values())


def test_gradients_in_4_bits_are_the_same_after_an_evaluation(tiny: Path) -> None:
    pytest.importorskip("bitsandbytes")

    def gradient(model: Any) -> Any:
        given = model.get_input_embeddings()(torch.tensor([[1, 50, 60, 70]])).detach().requires_grad_()
        model.train()(inputs_embeds=given).logits.square().sum().backward()
        return given.grad

    loaded = load(tiny, quantization="4bit", device="cpu", training=True)
    before = gradient(loaded.model)
    loaded.model.eval()
    logits(loaded)
    assert torch.allclose(gradient(loaded.model), before, rtol=1e-4, atol=1e-5)


def test_adapter_is_put_on_its_base(tiny: Path, adapter: Path) -> None:
    loaded = load(adapter)
    assert (loaded.source["base"], loaded.source["adapter"]) == (str(tiny), str(adapter))
    assert loaded.source["adapter_fingerprint"] == fingerprint(adapter)
    assert loaded.template.name == "medalpaca"
    assert loaded.template.bos == "always"  # as it was trained, whatever a tokenizer does later
    assert (logits(loaded) - logits(load(tiny))).abs().max() > 1e-3
    assert torch.equal(logits(loaded), logits(load(tiny, adapter=adapter)))
    assert not any(each.requires_grad for each in loaded.model.parameters())
    names = [
        name for name, each in load(adapter, training=True).model.named_parameters() if each.requires_grad
    ]
    assert names and all("lora_" in name for name in names)
    assert not list(adapter.glob("*.bin"))


def test_adapter_whose_base_has_moved(adapter: Path, tiny: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(adapter, tmp_path / "runs" / "adapter"))
    edit(moved / "adapter_config.json", base_model_name_or_path="/models/llama-13b")
    with pytest.raises(ModelError, match="adapter for the model /models/llama-13b.*--base"):
        load(moved)
    assert load(moved, base=tiny).source["base"] == str(tiny)
    # A relative path is looked for beside the adapter.
    shutil.copytree(tiny, tmp_path / "runs" / "base")
    edit(moved / "adapter_config.json", base_model_name_or_path="../base")
    assert Path(load(moved).source["base"]).samefile(tmp_path / "runs" / "base")
    edit(moved / "adapter_config.json", base_model_name_or_path=None)
    with pytest.raises(ModelError, match="names no base model"):
        load(moved)


def test_adapter_on_another_model(adapter: Path, tiny: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    other = make_tiny(tmp_path / "other", seed=5)
    assert load(moved, base=other).source["base"] == str(other)  # nothing says it is wrong
    trained = {"base_model": {"name": "tiny", "path": str(tiny), "fingerprint": fingerprint(tiny)}}
    (moved / "run.json").write_text(json.dumps(trained))
    with pytest.raises(ModelError, match="was trained on tiny with the fingerprint"):
        load(moved, base=other)
    assert load(moved, base=tiny)
    edit(moved / "adapter_config.json", target_modules=["no_such_layer"])
    with pytest.raises(ModelError, match="does not fit the model"):
        load(moved, base=tiny)


def test_adapter_that_is_not_whole(adapter: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    moved = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    weights = load_file(moved / "adapter_model.safetensors")
    save_file(dict(list(weights.items())[:-1]), moved / "adapter_model.safetensors")
    with warnings.catch_warnings(), pytest.raises(ModelError, match="is not whole"):
        warnings.simplefilter("error")
        load(moved)
    (moved / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no adapter_model.safetensors"):
        load(moved)
    torch.save(weights, moved / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickle.*--allow-pickle"):
        load(moved)
    assert torch.equal(logits(load(moved, allow_pickle=True)), logits(load(adapter)))


def test_contradictions(tiny: Path, adapter: Path) -> None:
    for arguments, message in (
        ({"path": tiny, "base": tiny}, "leave its base"),
        ({"path": adapter, "adapter": adapter}, "is an adapter itself"),
        ({"path": tiny, "adapter": tiny}, "is no adapter folder"),
        ({"path": tiny, "quantization": "2bit"}, "8bit, 4bit, or none"),
        ({"path": tiny, "dtype": "int7"}, "dtype 'int7' is unknown"),
        ({"path": tiny, "device": "abacus"}, "device 'abacus' is unknown"),
    ):
        with pytest.raises(ModelError, match=message):
            load(**arguments)


# Wrong folders


def test_paths_that_are_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such folder; check the path"):
        load(tmp_path / "nothing")
    with pytest.raises(ModelError, match="nothing is fetched: copy the model's files"):
        load("meta-llama/Llama-2-7b-hf")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="GGUF files are for llama.cpp"):
        load(tmp_path / "model.gguf")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="give the folder it lies in"):
        load(tmp_path / "model.safetensors")


def test_foreign_folders(tmp_path: Path, copy: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"")
    with pytest.raises(ModelError, match=r"is no model folder: it has no config.json \(it holds cat.jpg\)"):
        load(tmp_path / "photos")
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "params.json").write_text("{}")
    (tmp_path / "meta" / "consolidated.00.pth").write_bytes(b"")
    with pytest.raises(ModelError, match="convert_llama_weights_to_hf"):
        load(tmp_path / "meta")
    with pytest.raises(ModelError, match=f"did you mean {copy}"):
        load(tmp_path)
    edit(copy / "config.json", architectures=["BertForMaskedLM"])
    with pytest.raises(ModelError, match="no causal language model but BertForMaskedLM"):
        load(copy)
    edit(copy / "config.json", is_encoder_decoder=True, model_type="t5")
    with pytest.raises(ModelError, match=r"encoder-decoder \(t5\)"):
        load(copy)
    edit(copy / "config.json", is_encoder_decoder=None, architectures=None, model_type="novel")
    with pytest.raises(ModelError, match="cannot be loaded as a causal language model"):
        load(copy)
    edit(copy / "config.json", model_type=None)
    with pytest.raises(ModelError, match="names no model_type"):
        load(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(ModelError, match="config.json is no JSON"):
        load(copy)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_in_a_folder_is_never_run(copy: Path, name: str) -> None:
    (copy / "modeling_evil.py").write_text(f"open({str(copy / 'ran')!r}, 'w')\nclass Evil: pass\n")
    edit(
        copy / name,
        auto_map={"AutoModelForCausalLM": "modeling_evil.Evil", "AutoTokenizer": ["modeling_evil.Evil"] * 2},
    )
    with pytest.raises(
        ModelError, match=f"{name} asks for code of its own to be run .auto_map., which is never done"
    ):
        load(copy)
    assert not (copy / "ran").exists()


def test_pickles_are_refused_unless_allowed(copy: Path, tiny: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    assert load(copy)  # safetensors are there
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"pickles \(pytorch_model.bin\).*--allow-pickle"):
        load(copy)
    assert torch.equal(logits(load(copy, allow_pickle=True)), logits(load(tiny)))


def test_even_an_allowed_pickle_runs_nothing(copy: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return os.mkdir, (str(copy / "ran"),)

    (copy / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Evil()}, copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(copy, allow_pickle=True)
    assert not (copy / "ran").exists()


def test_damaged_weights(copy: Path) -> None:
    path = copy / "model.safetensors"
    whole = path.read_bytes()
    for damaged, message in (
        (whole[:-1000], "copy it again"),
        (whole[:100], "no safetensors file, or was cut off"),
        (b"", "no safetensors file, or was cut off"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (whole[:8] + b"x" * (len(whole) - 8), "damaged header"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=message):
            load(copy)
    path.unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        load(copy)


def test_shards_and_tensors_that_are_missing(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    loaded = load(copy)
    loaded.model.save_pretrained(copy, max_shard_size="600KB")
    (copy / "model.safetensors").unlink()
    shards = sorted(path.name for path in copy.glob("model-*.safetensors"))
    assert len(shards) > 1 and torch.equal(logits(load(copy)), logits(loaded))
    (copy / shards[1]).rename(copy / "away")
    with pytest.raises(ModelError, match=f"weights are missing: {shards[1]} of {len(shards)} files"):
        load(copy)
    (copy / "away").rename(copy / shards[1])
    # The library alone would go on with random numbers in their place.
    weights = load_file(copy / shards[-1])
    gone = sorted(weights)[0]
    save_file(
        {name: each for name, each in weights.items() if name != gone}, copy / shards[-1], {"format": "pt"}
    )
    index = json.loads((copy / "model.safetensors.index.json").read_text())
    index["weight_map"].pop(gone)
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=f"weights are missing: {gone}"):
        load(copy)


def test_weights_of_another_shape(copy: Path) -> None:
    edit(copy / "config.json", hidden_size=96)
    with pytest.raises(ModelError, match="copy"):
        load(copy)


# Tokenizers


def test_no_tokenizer(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="holds no tokenizer"):
        load(copy)


def test_damaged_tokenizer(copy: Path) -> None:
    (copy / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(ModelError, match="tokenizer cannot be read"):
        load(copy)


def test_tokenizer_without_end(copy: Path) -> None:
    edit(copy / "tokenizer_config.json", eos_token=None)
    with pytest.raises(ModelError, match="no end-of-sequence token.*set eos_token"):
        load(copy)


def test_special_tokens_that_are_empty(copy: Path) -> None:
    edit(copy / "tokenizer_config.json", bos_token="", eos_token={"content": ""})
    with pytest.raises(ModelError, match="bos_token, eos_token is empty.*set bos_token to <s>"):
        load(copy)


def test_another_models_tokenizer(copy: Path) -> None:
    edit(copy / "config.json", vocab_size=1024)
    loaded = load(make_tiny(copy.parent / "again")).model
    loaded.resize_token_embeddings(1024)
    loaded.save_pretrained(copy)
    with pytest.raises(ModelError, match="2,048 tokens .* knows 1,024: it is another model's tokenizer"):
        load(copy)


def test_pad_is_never_eos_by_accident_nor_a_new_token(copy: Path) -> None:
    def rule(**settings: Any) -> tuple[str, int, str]:
        tokenizer = families.llama(**settings)
        before = len(tokenizer)
        found = models.choose_pad(tokenizer, rows=tokenizer.vocab_size)
        assert len(tokenizer) == before
        return tokenizer.pad_token, tokenizer.pad_token_id, found

    assert rule() == ("<unk>", 0, "the unknown token, for there is no pad token")
    assert rule(pad_token="</s>") == ("<unk>", 0, "the unknown token, for there is no pad token")
    assert rule(pad_token="gout")[2] != "the tokenizer's own pad token"  # a new token, beyond the embeddings
    tokenizer = families.byte_level()
    assert "the end-of-sequence token" in models.choose_pad(tokenizer)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    edit(copy / "tokenizer_config.json", pad_token=None)
    loaded = load(copy)
    assert loaded.source["pad"] == {
        "token": "<pad>", "id": 3, "rule": "a token that the vocabulary keeps for padding"
    }  # fmt: skip
    assert loaded.model.config.pad_token_id == loaded.model.generation_config.pad_token_id == 3
    assert loaded.model.get_input_embeddings().weight.shape[0] == 2048


def test_padding_changes_nothing_on_either_side(tiny: Path) -> None:
    loaded = load(tiny)
    ids = [
        prompts.prompt_ids(prompts.get("plain"), loaded.tokenizer, text)
        for text in ("Why?", "Why is it so now?")
    ]
    for side in ("left", "right"):
        batch = loaded.tokenizer.pad({"input_ids": ids}, return_tensors="pt", padding_side=side)
        with torch.no_grad():
            places = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
            together = loaded.model(**batch, position_ids=places).logits
            alone = loaded.model(torch.tensor([ids[0]])).logits[0]
        kept = together[0][batch["attention_mask"][0].bool()]
        assert torch.allclose(kept, alone, atol=1e-5)


def test_a_llama_folder_with_only_tokenizer_model_begins_with_bos(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    folder = families.sentencepiece_model(tmp_path)
    tokenizer = models.load_tokenizer(folder)
    assert tokenizer("gout").input_ids[0] == tokenizer.bos_token_id == 1
    asked = prompts.prompt_ids(prompts.get("medalpaca"), tokenizer, "Why?")
    assert asked[0] == 1 and asked.count(1) == 1
    # What was decided is saved, and does not change when the folder is read again.
    tokenizer.save_pretrained(tmp_path / "saved")
    assert (
        prompts.prompt_ids(prompts.get("medalpaca"), models.load_tokenizer(tmp_path / "saved"), "Why?")
        == asked
    )
    edit(folder / "tokenizer_config.json", add_bos_token=False)
    assert models.load_tokenizer(folder)("gout").input_ids[0] != 1


# Templates, fingerprints, surroundings


def test_a_models_template_goes_with_it(tiny: Path, tmp_path: Path) -> None:
    loaded = load(tiny)
    folder = models.save(loaded.model, loaded.tokenizer, prompts.get("alpaca"), tmp_path / "trained")
    again = load(folder)
    assert again.template.name == "alpaca"
    assert torch.equal(logits(again), logits(loaded))
    assert prompts.encode(again.template, again.tokenizer, ROW, max_length=None) == prompts.encode(
        prompts.get("alpaca"), loaded.tokenizer, ROW, max_length=None
    )
    (folder / prompts.FILE).write_text("{}")
    with pytest.raises(ModelError, match="meadow_template.json: no template"):
        load(folder)


def test_generation_settings_that_cannot_be_written_do_not_stop_a_model_from_being_saved(
    copy: Path, tmp_path: Path
) -> None:
    # As LLaMA 2 was published.
    edit(copy / "generation_config.json", temperature=0.6, top_p=0.9)
    loaded = load(copy)
    again = load(models.save(loaded.model, loaded.tokenizer, None, tmp_path / "saved"))
    assert again.model.generation_config.eos_token_id == loaded.tokenizer.eos_token_id
    assert again.model.generation_config.temperature is None
    edit(copy / "generation_config.json", do_sample=True)
    assert load(copy).model.generation_config.temperature == 0.6


def test_saving_where_there_is_no_room(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(tiny)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ModelError, match="are free: make room"):
        models.save(loaded.model, loaded.tokenizer, None, tmp_path / "full")
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        models.save(loaded.model, loaded.tokenizer, None, tmp_path / "file")


def test_fingerprint_is_of_the_content_alone(copy: Path, tiny: Path) -> None:
    known = fingerprint(tiny)
    for path in copy.iterdir():
        os.utime(path, (1, 1))
    (copy / "README.md").write_text("A card")
    (copy / "checkpoint-5").mkdir()
    edit(copy / "config.json", transformers_version="9.9")
    assert fingerprint(copy) == known
    for name, change in (
        ("model.safetensors", lambda found: found[:-1] + bytes([found[-1] ^ 1])),
        ("config.json", lambda found: found.replace(b'"rope_theta": 10000', b'"rope_theta": 20000')),
        ("tokenizer_config.json", lambda found: found + b" "),
        ("chat_template.jinja", lambda found: found + b" "),
    ):
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes(change(whole))
        assert fingerprint(copy) != known
        (copy / name).write_bytes(whole)
        assert fingerprint(copy) == known
    prompts.save(prompts.get("plain"), copy)
    assert fingerprint(copy) != known
    (copy.parent / "empty").mkdir()
    with pytest.raises(ModelError, match="holds nothing of a model"):
        fingerprint(copy.parent / "empty")


def test_hardware_names_no_host_and_no_user() -> None:
    found = models.describe_hardware()
    assert found["cores"] >= 1 and found["processor"]
    text = json.dumps(found)
    assert os.uname().nodename not in text
    assert isinstance(found["gpus"], list)


def test_offline_is_set_before_the_libraries_look() -> None:
    code = (
        "from meadow import models; models.offline(); import huggingface_hub.constants as c, os; "
        "assert c.HF_HUB_OFFLINE and c.HF_HUB_DISABLE_TELEMETRY; "
        "import transformers.utils.hub as h; assert h.is_offline_mode()"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS"))}
    subprocess.run([sys.executable, "-c", code], check=True, env=clean)


def test_a_missing_library_says_how_to_get_it(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        ModelError, match=r"bitsandbytes is needed.*pip install -c constraints.txt '.\[train\]'"
    ):
        load(tiny, quantization="8bit")


@pytest.mark.slow
def test_a_real_model() -> None:
    from tests.smollm import smollm

    loaded = load(smollm())
    assert loaded.source["bos"] is False
    chat = prompts.get("chat")
    ids = prompts.prompt_ids(chat, loaded.tokenizer, "What is the capital of France? Answer in one sentence.")
    with torch.no_grad():
        found = loaded.model.generate(
            torch.tensor([ids]), max_new_tokens=24, do_sample=False, eos_token_id=prompts.stop_ids(chat, loaded.tokenizer)
        )[0, len(ids) :].tolist()  # fmt: skip
    assert "Paris" in loaded.tokenizer.decode(found)
    assert found[-1] in prompts.stop_ids(chat, loaded.tokenizer)
