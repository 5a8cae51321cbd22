"""Loading a model folder or an adapter with its tokenizer."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meadow.models import folder as folders
from meadow.models import prompts
from meadow.models.environment import offline
from meadow.models.errors import ModelError, explained, line
from meadow.models.tiny import TINY, tiny_folder
from meadow.models.tokenizers import check_vocabulary, choose_pad, load_tokenizer

__all__ = ["DTYPES", "Loaded", "load", "places", "template_of"]

QUANTIZATIONS = ("8bit", "4bit")
#: What a number type may be called, and what torch calls it.
DTYPES = {
    **{"float32": "float32", "fp32": "float32", "bfloat16": "bfloat16", "bf16": "bfloat16"},
    **{"float16": "float16", "fp16": "float16"},
}


@dataclass
class Loaded:
    """A model that is ready to be asked or trained.

    Attributes:
        model: A causal language model of transformers, or with an adapter one of peft; in evaluation mode
            unless it was loaded for training.
        tokenizer: Its tokenizer, with an EOS and a pad token.
        template: The template it was trained with; None where its folder does not say.
        source: Where it came from, as JSON has it: ``path``, ``base`` and ``adapter`` (folders), their
            fingerprints, how it was loaded, ``pad`` (``token``, ``id`` and the ``rule`` it was chosen by).
    """

    model: Any
    tokenizer: Any
    template: prompts.Template | None
    source: dict[str, Any] = field(default_factory=dict)


def load(
    path: Path | str,
    *,
    quantization: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    adapter: Path | str | None = None,
    base: Path | str | None = None,
    allow_pickle: bool = False,
    training: bool = False,
) -> Loaded:
    """Loads a model from a local folder.

    Args:
        path: A model folder, an adapter's folder, or ``tiny`` (where no folder is named so): see `make_tiny`.
        quantization: ``8bit`` (LLM.int8) or ``4bit`` (nf4, doubly quantised), by bitsandbytes, on a GPU or
            the processor; None: as the weights are.
        dtype: One of `DTYPES` or ``auto``: float32 on a processor; on a GPU as the weights are, but bfloat16
            where float16 would be trained, which overflows.
        device: ``auto`` (this process's GPU, else the processor), ``balanced`` (all GPUs), or torch's name.
        adapter: An adapter's folder, to be put on the model.
        base: The base model's folder, for an adapter whose own configuration names another place.
        allow_pickle: Let weights be pickles where there are no safetensors.
        training: Load it to be trained: an adapter's weights can change, and padding is on the right.

    Raises:
        ModelError: It cannot be loaded; the message says why and what to do.
    """
    offline()
    if quantization not in (None, *QUANTIZATIONS):
        raise ModelError(f"quantization {quantization!r} is unknown: {', '.join(QUANTIZATIONS)}, or none")
    if dtype not in ("auto", *DTYPES):
        raise ModelError(f"dtype {dtype!r} is unknown: auto, {', '.join(DTYPES)}")
    model_folder, adapter_folder = places(path, adapter, base)
    config = folders.check_folder(model_folder, allow_pickle=allow_pickle)
    quantized = config.get("quantization_config")
    if quantized and quantization:
        method = quantized.get("quant_method", "unknown") if isinstance(quantized, dict) else "unknown"
        raise ModelError(
            f"{model_folder} is quantised already ({method}): leave --quantization {quantization} out, or give the "
            "folder of the model it was made from"
        )
    template = template_of(adapter_folder, model_folder)
    fingerprint, adapter_fingerprint, tokenizer_folder = folders.fingerprint(model_folder), None, model_folder
    if adapter_folder is not None:
        folders.check_adapter(adapter_folder, allow_pickle=allow_pickle)
        _belongs(adapter_folder, model_folder, fingerprint)
        adapter_fingerprint = folders.fingerprint(adapter_folder)
        if folders.has_tokenizer(adapter_folder):
            tokenizer_folder = adapter_folder
    with explained():
        import torch
        import transformers

        # To say early that they are missing.
        if quantization:
            import bitsandbytes  # noqa: F401 - only that it is there
        if adapter_folder is not None:
            import peft  # noqa: F401 - the same
    tokenizer = load_tokenizer(tokenizer_folder)
    target = _device(device)
    number = _dtype(dtype, config, target, training)
    model = _model(model_folder, config, number, target, quantization, allow_pickle)
    if quantization == "4bit" and str(target) == "cpu":
        _keep_unpacked(model, training)
    rows = model.get_input_embeddings().weight.shape[0]
    check_vocabulary(tokenizer, tokenizer_folder, model_folder, rows)
    rule = choose_pad(tokenizer, rows)
    _mend_generation(model)
    for settings in (model.config, model.generation_config):
        if settings is not None:
            settings.pad_token_id = tokenizer.pad_token_id
    tokenizer.padding_side = "right" if training else "left"
    if adapter_folder is not None:
        model = _adapted(model, adapter_folder, model_folder, training)
    model.train(training)
    source = {
        "path": str(path),
        "base": str(model_folder),
        "adapter": None if adapter_folder is None else str(adapter_folder),
        "quantization": quantization,
        "fingerprint": fingerprint,
        "adapter_fingerprint": adapter_fingerprint,
        "dtype": str(number).removeprefix("torch."),
        "device": str(target),
        "pad": {"token": tokenizer.pad_token, "id": tokenizer.pad_token_id, "rule": rule},
        "bos": prompts.begins_with_bos(prompts.TEMPLATES["plain"], tokenizer),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    return Loaded(model, tokenizer, template, source)


def places(
    path: Path | str, adapter: Path | str | None = None, base: Path | str | None = None
) -> tuple[Path, Path | None]:
    """The folders of a model and of the adapter on it, if any; a `ModelError` where they do not fit."""
    folder = _folder(path, "model")
    if not folders.is_adapter(folder):
        if base is not None:
            raise ModelError(f"{path} is a whole model and no adapter: leave its base ({base}) out")
        return folder, None if adapter is None else folders.existing_folder(adapter, "adapter")
    if (folder / folders.CONFIG).is_file() and any(folder.glob("model*.safetensors")):
        raise ModelError(
            f"{folder} holds both a whole model and an adapter ({folders.ADAPTER}): move one of them away"
        )
    if adapter is not None:
        raise ModelError(f"{path} is an adapter itself: leave the other one ({adapter}) out")
    if base is None:
        return folders.adapter_base(folder), folder
    return _folder(base, "base model"), folder


def _folder(path: Path | str, what: str) -> Path:
    if str(path) == TINY and not Path(TINY).is_dir():
        return tiny_folder()
    return folders.existing_folder(path, what)


def _belongs(adapter: Path, base: Path, found: str) -> None:
    """Refuses a base model that is not the one an adapter was trained on, where its record says which."""
    record = adapter / "run.json"
    model = folders.read_json(record).get("base_model") if record.is_file() else None
    trained = model.get("fingerprint") if isinstance(model, dict) else None
    if model and trained and trained != found:
        raise ModelError(
            f"{adapter} was trained on {model.get('name') or model.get('path')} with the fingerprint "
            f"{trained[:12]}, and {base} has {found[:12]}: give the folder of the same model (--base), with "
            "the files it had then"
        )


def template_of(*candidates: Path | None) -> prompts.Template | None:
    """The template that the first of some folders holds, None where none does; a `ModelError` if damaged."""
    try:
        found = (prompts.load(place) for place in candidates if place is not None)
        return next((template for template in found if template is not None), None)
    except prompts.PromptError as error:
        raise ModelError(str(error)) from error


def _device(device: str) -> Any:
    import torch

    if device == "balanced":
        if not torch.cuda.is_available():
            raise ModelError("device balanced spreads a model over GPUs, and there is none: use cpu")
        return device
    if device == "auto":
        if torch.cuda.is_available():
            # Set by torchrun and accelerate for each of their processes.
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"device {device!r} is unknown: auto, balanced, cpu, cuda, cuda:1 ...") from error
    count = torch.cuda.device_count()
    if found.type == "cuda" and (found.index or 0) >= count:
        raise ModelError(f"device {device} is not there: {count} GPUs are{'' if count else '; use cpu'}")
    return found


def _dtype(dtype: str, config: dict[str, Any], device: Any, training: bool) -> Any:
    import torch

    if dtype != "auto":
        return getattr(torch, DTYPES[dtype])
    if str(device) == "cpu":
        return torch.float32
    stored = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    number = getattr(torch, DTYPES.get(stored.removeprefix("torch."), "float32"))
    return torch.bfloat16 if training and number is torch.float16 else number


def _model(
    folder: Path,
    config: dict[str, Any],
    dtype: Any,
    device: Any,
    quantization: str | None,
    allow_pickle: bool,
) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    settings: dict[str, Any] = {}
    if quantization == "8bit":
        settings["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True)
    elif quantization == "4bit":
        settings["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    if str(device) != "cpu":
        # Placed as it is read, so that its memory is needed only once.
        settings["device_map"] = "balanced" if device == "balanced" else {"": device}
    elif quantization:
        settings["device_map"] = "cpu"
    settings |= {
        "dtype": dtype,
        "local_files_only": True,
        "trust_remote_code": False,
        "use_safetensors": not allow_pickle or any(folder.glob("*.safetensors")),
    }
    with explained(f"{folder} cannot be loaded as a causal language model"):
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(folder), output_loading_info=True, **settings
            )
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"{folder} does not fit the memory of {device}: load it in 8 or 4 bits, or on another device"
            ) from error
    model, found = loaded
    if missing := sorted(found["missing_keys"]):
        # transformers only warns, and goes on with random numbers in their place.
        raise ModelError(
            f"{folder}: weights are missing: {folders.some(missing)}; the model is not whole, or its "
            f"{folders.CONFIG} another's"
        )
    return model


def _keep_unpacked(model: Any, training: bool) -> None:
    """Keeps bitsandbytes from packing 4-bit weights anew on some processors."""
    # No gradient flows back through packed ones, and training would go on with wrong weights, unsaid. Widths
    # that are no multiple of 32 fail outright.
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu") and (training or module.out_features % 32):
            module.support_avx512bf16_for_cpu = False


def _mend_generation(model: Any) -> None:
    """Makes a model savable whose generation settings transformers would not write, such as LLaMA 2's."""
    from transformers import GenerationConfig

    settings = model.generation_config
    if settings is None:
        return
    try:
        settings.validate(strict=True)
    except ValueError:
        ends = {key: getattr(settings, key, None) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        model.generation_config = GenerationConfig(**ends)


def _adapted(model: Any, folder: Path, base: Path, training: bool) -> Any:
    from peft import PeftModel

    unfit = f"the adapter {folder} does not fit the model {base}"
    with explained(unfit), warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=training, local_files_only=True)
    for warning in heard:
        if "missing adapter keys" in str(warning.message):
            raise ModelError(f"the adapter {folder} is not whole: {line(warning.message)}")
    return adapted
