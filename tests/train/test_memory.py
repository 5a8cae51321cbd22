"""The estimate of memory, against what autograd and the libraries really keep.

Memory is counted by watching every operator: each new storage counts until it is freed. With fake tensors, which have
shapes and no data, that is done for the real sizes of 7B models on any machine; in 8 and 4 bits with small real ones.
"""

from __future__ import annotations

import contextlib
import gc
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from meadow import models  # noqa: E402

models.offline()

import transformers  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from meadow.train.memory import CONTEXT, estimate  # noqa: E402
from meadow.train.settings import TrainSettings  # noqa: E402

LLAMA_7B = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "vocab_size": 32000}
#: Eight heads for keys and values, and a vocabulary four times as large, as LLaMA 3 has them.
LLAMA_8B = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
}  # fmt: skip
SMALL = {"hidden_size": 256, "intermediate_size": 704, "num_attention_heads": 8, "vocab_size": 1000}


class Watched(TorchDispatchMode):
    """Counts the bytes of all storages that operators make."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def know(self, tensor: Any, *, count: bool = True) -> None:
        """Takes a tensor's storage into account."""
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes() if count else 0
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)

        def freed() -> None:
            self.now -= size
            self._seen.discard(key)

        weakref.finalize(storage, freed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: D105, ANN401
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, torch.Tensor):
                self.know(leaf)
        return found


def settings(method: str, **changes: Any) -> TrainSettings:
    """Settings as a preset has them, without dropout, whose mask is another one on a CPU."""
    lora = (
        {}
        if method == "full"
        else {"lora_r": 8, "lora_alpha": 16.0, "lora_dropout": 0.0, "lora_targets": ("q_proj", "v_proj")}
    )
    chosen = {
        "per_device_batch_size": 2,
        "batch_size": 2,
        "max_length": 512,
        "packing": "none",
        **lora,
        **changes,
    }
    return TrainSettings(model="x", method=method, **chosen)


def config(shape: dict[str, int], layers: int) -> Any:
    """A LLaMA's."""
    return transformers.LlamaConfig(num_hidden_layers=layers, max_position_embeddings=4096, **shape)


@contextlib.contextmanager
def _not_moved() -> Iterator[None]:
    """peft moves what it makes to the base's device, which fake tensors are on already and cannot do."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Module, "to", lambda self, *args, **kwargs: self)
        patch.setattr(BaseTunerLayer, "_move_adapter_to_device_of_base_layer", lambda *args, **kwargs: None)
        yield


def _adapted(model: Any, s: TrainSettings, **kwargs: Any) -> Any:
    import peft

    model.requires_grad_(False)
    targets = "all-linear" if s.lora_targets == ("all-linear",) else list(s.lora_targets)
    lora = peft.LoraConfig(
        r=s.lora_r, lora_alpha=s.lora_alpha, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM"
    )
    return peft.get_peft_model(model, lora, **kwargs)


def _one_step(model: Any, s: TrainSettings, watched: Watched, number: Any, *, fake: bool) -> None:
    """Forward, loss and backward as the trainer has them: autocast, logits in float32, loss of the wanted tokens."""
    from accelerate.utils.operations import convert_outputs_to_fp32

    from meadow.train.loop import token_loss

    rows, width = s.per_device_batch_size, s.max_length
    ids = torch.zeros((rows, width), dtype=torch.int64)

    def forward(**inputs: Any) -> Any:
        with torch.autocast("cpu", dtype=number, enabled=number != torch.float32):
            return model(**inputs)

    run = forward if number == torch.float32 else convert_outputs_to_fp32(forward)

    def loss() -> Any:
        logits = run(input_ids=ids, use_cache=False).logits
        if not fake:
            return token_loss(logits, ids)
        # A mask is data, which fake tensors do not have; places that are given take as much.
        line, place = torch.arange(rows).repeat_interleave(width - 1), torch.arange(width - 1).repeat(rows)
        return torch.nn.functional.cross_entropy(
            logits[:, :-1][line, place].float(), ids[:, 1:][line, place], reduction="sum"
        )

    loss().backward()


def traced(shape: dict[str, int], layers: int, s: TrainSettings, number: Any = torch.bfloat16) -> int:
    """The highest memory of a step, AdamW's moments aside, for a model that has shapes alone."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), Watched() as watched:
        kept = torch.float32 if s.method == "full" else number
        model = transformers.AutoModelForCausalLM.from_config(config(shape, layers), dtype=kept)
        if s.adapters:
            with _not_moved():
                model = _adapted(model, s, autocast_adapter_dtype=False)
        model.train()
        if s.activation_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        gc.collect()
        watched.peak = watched.now
        _one_step(model, s, watched, number, fake=True)
        return watched.peak


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize(
    ("shape", "layers", "method", "length"),
    [
        (LLAMA_7B, 32, "lora", 512),
        (LLAMA_7B, 4, "full", 2048),
        (LLAMA_8B, 4, "lora", 2048),
        (LLAMA_8B, 2, "full", 512),
    ],
)
def test_sixteen_bits_at_real_sizes(
    shape: dict[str, int], layers: int, method: str, length: int, checkpointing: bool
) -> None:
    s = settings(method, max_length=length, activation_checkpointing=checkpointing)
    found = estimate(config(shape, layers), s)
    measured = traced(shape, layers, s)
    # Static parts are exact; what is estimated is the rest.
    static = found["weights"] + found["adapter"]
    assert found.allocated - found["optimizer"] == pytest.approx(measured, rel=0.05)
    assert found.allocated - found["optimizer"] - static == pytest.approx(measured - static, rel=0.10)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["full", "lora"])
def test_adapters_everywhere_and_float32(method: str) -> None:
    wide = settings(method, activation_checkpointing=False, dtype="float32")
    found = estimate(config(LLAMA_7B, 4), wide)
    assert found.allocated - found["optimizer"] == pytest.approx(
        traced(LLAMA_7B, 4, wide, torch.float32), rel=0.08
    )
    if method == "lora":
        everywhere = settings(method, activation_checkpointing=False, lora_targets=("all-linear",), lora_r=16)
        found = estimate(config(LLAMA_7B, 4), everywhere)
        assert found.allocated - found["optimizer"] == pytest.approx(
            traced(LLAMA_7B, 4, everywhere), rel=0.08
        )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("method", ["lora", "lora-8bit", "qlora"])
def test_quantised_bases_as_bitsandbytes_keeps_them(tmp_path: Path, method: str, checkpointing: bool) -> None:
    pytest.importorskip("bitsandbytes")
    s = settings(method, activation_checkpointing=checkpointing, max_length=256)
    shape = config(SMALL, 4)
    transformers.LlamaForCausalLM(shape).to(torch.bfloat16).save_pretrained(tmp_path)
    quantised: dict[str, Any] = {}
    if s.quantization:
        four = {
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": torch.bfloat16,
        }
        settings_ = {"load_in_8bit": True} if s.quantization == "8bit" else {"load_in_4bit": True, **four}
        quantised = {"quantization_config": transformers.BitsAndBytesConfig(**settings_), "device_map": "cpu"}
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16, **quantised)
    model = _adapted(model, s)
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": s.quantization == "8bit"}
        )
        model.enable_input_require_grads()
    found = estimate(shape, s)
    _one_step(model, s, Watched(), torch.bfloat16, fake=False)  # once, for what is made on first use
    model.zero_grad(set_to_none=True)
    gc.collect()
    with Watched() as watched:
        for tensor in [*model.parameters(), *model.buffers()]:
            watched.know(tensor, count=False)
        _one_step(model, s, watched, torch.bfloat16, fake=False)
    working = found.allocated - found["weights"] - found["adapter"] - found["optimizer"]
    assert working == pytest.approx(watched.peak, rel=0.15)
    if s.quantization:
        weights = sum(p.numel() * p.element_size() for n, p in model.named_parameters() if "lora" not in n)
        for part in model.modules():
            if s.quantization == "8bit" and hasattr(part, "state"):
                weights += part.state.SCB.numel() * 4
            weight = getattr(part, "weight", None)
            if s.quantization == "4bit" and getattr(weight, "quant_state", None) is not None:
                weights += weight.quant_state.absmax.numel() + 4 * weight.quant_state.state2.absmax.numel()
        assert found["weights"] == pytest.approx(weights, rel=0.01)


def test_weights_of_known_models() -> None:
    seven = config(LLAMA_7B, 32)
    assert estimate(seven, settings("full"))["weights"] == 4 * 6_738_415_616
    assert estimate(seven, settings("lora"))["weights"] == 2 * 6_738_415_616
    assert estimate(seven, settings("full"))["optimizer"] == 8 * 6_738_415_616
    lora = estimate(seven, settings("lora"))
    assert (lora["adapter"], lora["gradients"], lora["optimizer"]) == (
        4 * 4_194_304,
        4 * 4_194_304,
        8 * 4_194_304,
    )


def test_thirteen_billion_in_eight_bits_fit_24_gigabytes() -> None:
    shape = config(
        {"hidden_size": 5120, "intermediate_size": 13824, "num_attention_heads": 40, "vocab_size": 32000}, 40
    )
    s = settings("lora-8bit", max_length=1024, lora_dropout=0.1, batch_size=128)
    assert 13e9 < estimate(shape, s).total < 24e9
    assert estimate(shape, s.model_copy(update={"max_length": 2048})).total < 24e9
    assert estimate(shape, s.model_copy(update={"method": "lora"})).total > 24e9
    assert estimate(shape, s.model_copy(update={"method": "qlora"})).total < 12e9


def test_more_of_anything_needs_more() -> None:
    shape = config(LLAMA_7B, 8)
    base = settings("lora", activation_checkpointing=False, lora_dropout=0.0)
    least = estimate(shape, base).total
    for changes in (
        {"per_device_batch_size": 4, "batch_size": 4}, {"max_length": 1024}, {"lora_targets": ("all-linear",)}, {"lora_r": 64},
        {"lora_dropout": 0.1}, {"packing": "packed", "pack_length": 2048}, {"dtype": "float32"}, {"method": "full"},
    ):  # fmt: skip
        assert estimate(shape, base.model_copy(update=changes)).total > least, changes
    assert estimate(shape, base.model_copy(update={"activation_checkpointing": True})).total < least
    assert estimate(shape, base.model_copy(update={"max_length": 104})).total < least


def test_gpus_share_what_fsdp_shards_and_copy_what_ddp_copies() -> None:
    shape = config(LLAMA_7B, 32)
    full = settings("full", batch_size=256)
    one, eight = estimate(shape, full), estimate(shape, full.model_copy(update={"batch_size": 16}), 8)
    assert (eight["weights"], eight["optimizer"]) == (one["weights"] // 8, one["optimizer"] // 8)
    assert eight["gradients"] == one["gradients"] // 8
    assert eight.total < one.total / 4
    accumulating = estimate(shape, full, 8)
    assert accumulating["gradients"] == one["gradients"] // 8
    lora = settings("lora")
    assert estimate(shape, lora, 8)["weights"] == estimate(shape, lora)["weights"]
    assert estimate(shape, lora, 8)["gradients"] == 2 * estimate(shape, lora)["gradients"]


def test_the_estimate_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    found = estimate(config(LLAMA_7B, 32), settings("qlora"))
    text = str(found)
    assert text.startswith(f"memory on the GPU, estimated: {found.total / 1e9:.2f} GB, most ")
    for words in ("weights", "4 bits (nf4)", "adapter", "optimizer", "activations", "logits", "CUDA"):
        assert words in text
    assert found.total - found.allocated == CONTEXT
    cpu = estimate(config(SMALL, 2), settings("full", device="cpu"))
    assert "CUDA" not in str(cpu)


def test_other_architectures_and_shared_heads() -> None:
    gemma = transformers.Qwen2Config(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=500,
        tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device("meta"):
        count = sum(p.numel() for p in transformers.AutoModelForCausalLM.from_config(gemma).parameters())
    assert estimate(gemma, settings("full"))["weights"] == 4 * count


@pytest.mark.gpu
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("method", ["full", "lora", "lora-8bit", "qlora"])
def test_a_run_on_a_gpu_needs_what_was_estimated(tmp_path: Path, method: str, checkpointing: bool) -> None:
    """A random model of 0.7 billion parameters, trained for two steps by the real trainer: within 15 %."""
    import json

    from recipes import finetune_7b

    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    base = models.make_tiny(tmp_path / "base")
    shape = transformers.LlamaConfig.from_pretrained(base)
    shape.update({**LLAMA_7B, "num_hidden_layers": 3, "num_key_value_heads": 32, "head_dim": 128})
    transformers.LlamaForCausalLM(shape).to(torch.bfloat16).save_pretrained(base)
    rows = [{"instruction": "Say it.", "input": "", "output": "fever and cough " * 400} for _ in range(8)]
    (tmp_path / "rows.json").write_text(json.dumps([{**row, "id": str(n)} for n, row in enumerate(rows)]))
    s = settings(
        method, activation_checkpointing=checkpointing, max_length=1024, max_steps=2, epochs=None, validation=0.0, warmup_steps=1,
        learning_rate=1e-5, train_on_inputs=True, eval_steps=None,
    )  # fmt: skip
    s = s.model_copy(
        update={"model": str(base), "data": (str(tmp_path / "rows.json"),), "output": tmp_path / "run"}
    )
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        finetune_7b.run(s)
    measured = torch.cuda.max_memory_allocated() - before
    found = estimate(shape, s)
    print(
        f"{method}, checkpointing {checkpointing}: estimated {found.allocated / 1e9:.2f} GB, measured {measured / 1e9:.2f} GB"
    )
    assert found.allocated == pytest.approx(measured, rel=0.15)
