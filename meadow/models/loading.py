"""Loading a model folder or an adapter with its tokenizer."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meadow.models import folder as folders
from meadow.models import prompts
from meadow.models.environment import missing_extra, offline
from meadow.models.folder import ModelError
from meadow.models.tiny import TINY, tiny_folder

__all__ = ["DTYPES", "QUANTIZATIONS", "Loaded", "choose_pad", "load", "load_tokenizer", "save"]

QUANTIZATIONS = ("8bit", "4bit")
#: What a number type may be called, and what torch calls it.
DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
}
#: Tokens that vocabularies keep for padding, in the order they are tried.
_PADS = ("<pad>", "[PAD]", "<|pad|>", "<PAD>", "<|finetune_right_pad_id|>", "<|padding|>", "<|PAD_TOKEN|>")


@dataclass
class Loaded:
    """A model that is ready to be asked or trained.

    Attributes:
        model: A causal language model of transformers, or with an adapter one of peft; in evaluation mode
            unless it was loaded for training.
        tokenizer: Its tokenizer, with an EOS and a pad token.
        template: The template it was trained with; None where its folder does not say.
        source: Where it came from: ``path``, ``base`` and ``adapter`` (folders; None where there is none),
            ``quantization``, ``dtype``, ``device``, ``fingerprint`` of the base model, ``adapter_fingerprint``,
            ``pad`` (``token``, ``id`` and the ``rule`` it was chosen by), ``bos`` (whether a sequence begins
            with one).
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
        dtype: ``float32``, ``bfloat16``, ``float16`` or ``auto``: float32 on a processor; on a GPU as the
            weights are, but bfloat16 where they are float16 and it is loaded for training, which overflows in
            float16.
        device: ``auto`` (the GPU of this process, else the processor), ``balanced`` (all GPUs together), or
            a name of torch's such as ``cpu`` or ``cuda:1``.
        adapter: An adapter's folder, to be put on the model.
        base: The base model's folder, for an adapter whose own configuration names another place.
        allow_pickle: Let weights be pickles where there are no safetensors. They are read without running
            what they hold, but a flaw in that reading would let them.
        training: Load it to be trained: an adapter's weights can change, and padding is on the right.

    Raises:
        ModelError: It cannot be loaded; the message says why and what to do.
    """
    offline()
    if quantization not in (None, *QUANTIZATIONS):
        raise ModelError(f"quantization {quantization!r} is unknown: {', '.join(QUANTIZATIONS)}, or none")
    if dtype not in ("auto", *DTYPES):
        raise ModelError(f"dtype {dtype!r} is unknown: auto, {', '.join(DTYPES)}")
    model_folder, adapter_folder = _places(path, adapter, base)
    config = folders.check_folder(model_folder, allow_pickle=allow_pickle)
    adapter_config = None
    if adapter_folder is not None:
        adapter_config = folders.check_adapter(adapter_folder, allow_pickle=allow_pickle)
    _quantized_already(model_folder, config, quantization)
    template = _template(adapter_folder, model_folder)
    source: dict[str, Any] = {
        "path": str(path),
        "base": str(model_folder),
        "adapter": None if adapter_folder is None else str(adapter_folder),
        "quantization": quantization,
        "fingerprint": folders.fingerprint(model_folder),
        "adapter_fingerprint": None if adapter_folder is None else folders.fingerprint(adapter_folder),
    }
    if adapter_folder is not None:
        _belongs(adapter_folder, model_folder, source["fingerprint"])
    try:
        import torch
        import transformers

        if quantization:
            import bitsandbytes  # noqa: F401 - transformers needs it
        if adapter_folder is not None:
            import peft  # noqa: F401 - to say early that it is missing
    except ImportError as error:
        raise ModelError(missing_extra(error)) from error
    tokenizer_folder = model_folder
    if adapter_folder is not None and _has_tokenizer(adapter_folder):
        tokenizer_folder = adapter_folder
    tokenizer = load_tokenizer(tokenizer_folder)
    target = _device(device)
    number = _dtype(dtype, config, target, training)
    model = _model(model_folder, config, number, target, quantization, allow_pickle)
    if quantization == "4bit" and str(target) == "cpu":
        _keep_unpacked(model, training)
    rows = model.get_input_embeddings().weight.shape[0]
    _vocabulary(tokenizer, tokenizer_folder, model_folder, rows)
    rule = choose_pad(tokenizer, rows)
    _mend_generation(model)
    for settings in (model.config, model.generation_config):
        if settings is not None:
            settings.pad_token_id = tokenizer.pad_token_id
    tokenizer.padding_side = "right" if training else "left"
    if adapter_folder is not None:
        model = _adapted(model, adapter_folder, adapter_config, model_folder, training)
    model.train(training)
    bos = prompts.begins_with_bos(prompts.TEMPLATES["plain"], tokenizer)
    source |= {
        "dtype": str(number).removeprefix("torch."),
        "device": str(target),
        "pad": {"token": tokenizer.pad_token, "id": tokenizer.pad_token_id, "rule": rule},
        "bos": bos,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    return Loaded(model, tokenizer, template, source)


def _places(
    path: Path | str, adapter: Path | str | None, base: Path | str | None
) -> tuple[Path, Path | None]:
    """The folders of model and adapter."""
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
    if not record.is_file():
        return
    model = folders.read_json(record).get("base_model")
    trained = model.get("fingerprint") if isinstance(model, dict) else None
    if trained and trained != found:
        raise ModelError(
            f"{adapter} was trained on {model.get('name') or model.get('path')} with the fingerprint "
            f"{trained[:12]}, and {base} has {found[:12]}: give the folder of the same model (--base), with "
            "the files it had then"
        )


def _template(*places: Path | None) -> prompts.Template | None:
    for place in places:
        if place is not None:
            try:
                found = prompts.load(place)
            except prompts.PromptError as error:
                raise ModelError(str(error)) from error
            if found is not None:
                return found
    return None


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in folders.TOKENIZER_FILES)


def load_tokenizer(folder: Path | str) -> Any:
    """The tokenizer of a model folder, with an EOS, and with BOS before a text where LLaMA has it.

    A folder with only ``tokenizer.model`` and no word on BOS gets it, if it is a LLaMA's: the model was trained
    with it, and recent versions of transformers leave it out then.

    Raises:
        ModelError: There is none, it cannot be read, or it has no EOS.
    """
    offline()
    folder = folders.existing_folder(folder)
    if not _has_tokenizer(folder):
        raise ModelError(
            f"{folder} holds no tokenizer ({', '.join(folders.TOKENIZER_FILES[:2])}): copy the model's own there"
        )
    path = folder / folders.TOKENIZER_CONFIG
    config = folders.read_json(path) if path.is_file() else {}
    if config.get("auto_map"):
        raise ModelError(f"{path} asks for code of its own to be run (auto_map), which is never done")
    # An empty text for a special token, as early LLaMA conversions have it, recurses without end inside.
    empty = [key for key in ("bos_token", "eos_token", "unk_token") if _content(config.get(key)) == ""]
    if empty:
        raise ModelError(
            f"{path}: {', '.join(empty)} is empty, as in early conversions of LLaMA: set bos_token to <s>, "
            "eos_token to </s> and unk_token to <unk> (for other models: see their vocabulary)"
        )
    if "tokenizer.json" not in os.listdir(folder) and (folder / "tokenizer.model").is_file():
        # Converting it needs both; without them transformers asks for tiktoken, which does not help.
        try:
            import google.protobuf  # noqa: F401 - to say that they are missing
            import sentencepiece  # noqa: F401
        except ImportError as error:
            raise ModelError(missing_extra(error)) from error
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ModelError(missing_extra(error)) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_fast=True
        )
    except Exception as error:  # noqa: BLE001 - whatever a damaged file makes the library raise
        raise ModelError(f"{folder}: its tokenizer cannot be read: {_line(error)}") from error
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"{folder}: its tokenizer has no end-of-sequence token, so that a model could never learn to stop: "
            f"set eos_token in {folders.TOKENIZER_CONFIG}"
        )
    silent = "add_bos_token" not in config and not (folder / "tokenizer.json").is_file()
    if (
        silent
        and tokenizer.bos_token == "<s>"
        and type(tokenizer).__name__.startswith(("Llama", "CodeLlama"))
    ):
        tokenizer.add_bos_token = True
        tokenizer.update_post_processor()
    return tokenizer


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def choose_pad(tokenizer: Any, rows: int | None = None) -> str:
    """Gives a tokenizer the token to pad with, if it has no good one.

    In this order: its own pad token, if that is not EOS; a token that its vocabulary keeps for padding; the
    unknown token, which byte-level and byte-fallback vocabularies never produce; EOS, which is safe only
    because attention and labels are masked by position everywhere here, never by the id. Token 0 is never
    taken for being 0, and no embedding is added.

    Args:
        tokenizer: It is changed.
        rows: How many tokens the model knows; one beyond is not taken.

    Returns:
        By which rule it was chosen.
    """

    def known(number: int | None) -> bool:
        return number is not None and (rows is None or number < rows)

    other = {tokenizer.eos_token_id, tokenizer.bos_token_id}
    if known(tokenizer.pad_token_id) and tokenizer.pad_token_id not in other:
        return "the tokenizer's own pad token"
    vocabulary = tokenizer.get_vocab()
    for token in _PADS:
        if known(vocabulary.get(token)) and vocabulary[token] not in other:
            tokenizer.pad_token = token
            return "a token that the vocabulary keeps for padding"
    if known(tokenizer.unk_token_id) and tokenizer.unk_token_id not in other:
        tokenizer.pad_token = tokenizer.unk_token
        return "the unknown token, for there is no pad token"
    tokenizer.pad_token = tokenizer.eos_token
    return "the end-of-sequence token, for there is neither a pad nor an unknown token"


def _vocabulary(tokenizer: Any, place: Path, model: Path, rows: int) -> None:
    highest = max(tokenizer.get_vocab().values(), default=0)
    # Added tokens that a tokenizer merely lists, such as a pad beyond the embeddings, are common; ordinary
    # ones beyond them mean another model's tokenizer.
    if tokenizer.vocab_size > rows:
        raise ModelError(
            f"the tokenizer of {place} has {tokenizer.vocab_size:,} tokens (the highest {highest:,}) and the "
            f"model of {model} knows {rows:,}: it is another model's tokenizer"
        )
    for name in ("bos_token_id", "eos_token_id"):
        number = getattr(tokenizer, name)
        if number is not None and number >= rows:
            raise ModelError(
                f"the tokenizer of {place} has {name} {number:,}, and the model of {model} knows {rows:,} "
                "tokens: it is another model's tokenizer"
            )


def _quantized_already(folder: Path, config: dict[str, Any], quantization: str | None) -> None:
    found = config.get("quantization_config")
    if found and quantization:
        method = found.get("quant_method", "unknown") if isinstance(found, dict) else "unknown"
        raise ModelError(
            f"{folder} is quantised already ({method}): leave --quantization {quantization} out, or give the "
            "folder of the model it was made from"
        )


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
        raise ModelError(
            f"device {device} is not there: {count} GPUs are" + ("; use cpu" if not count else "")
        )
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
    pickled = allow_pickle and not any(folder.glob("*.safetensors"))
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            str(folder),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=not pickled,
            dtype=dtype,
            output_loading_info=True,
            **settings,
        )
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{folder} does not fit the memory of {device}: load it in 8 or 4 bits, or on another device"
        ) from error
    except ImportError as error:
        raise ModelError(missing_extra(error)) from error
    except Exception as error:  # noqa: BLE001 - whatever a foreign folder makes the library raise
        raise ModelError(f"{folder} cannot be loaded as a causal language model: {_line(error)}") from error
    wrong = []
    if missing := sorted(found.get("missing_keys") or ()):
        wrong.append(f"weights are missing: {folders._some(missing)}")
    if mismatched := sorted(
        str(key[0] if isinstance(key, tuple) else key) for key in found.get("mismatched_keys") or ()
    ):
        wrong.append(f"weights have another shape than {folders.CONFIG} says: {folders._some(mismatched)}")
    if wrong:
        # transformers only warns, and goes on with random numbers in their place.
        raise ModelError(
            f"{folder}: {'; '.join(wrong)}; the model is not whole, or its {folders.CONFIG} another's"
        )
    return model


def _mend_generation(model: Any) -> None:
    """Makes a model savable whose generation settings transformers reads but refuses to write.

    LLaMA 2 was published so, with a temperature and no sampling: a training would fail when it saves. What
    such settings say has no effect, so it is left away.
    """
    from transformers import GenerationConfig

    settings = model.generation_config
    if settings is None:
        return
    try:
        settings.validate(strict=True)
    except ValueError:
        ends = {key: getattr(settings, key, None) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        model.generation_config = GenerationConfig(**ends)


def _keep_unpacked(model: Any, training: bool) -> None:
    """Keeps bitsandbytes from packing 4-bit weights anew at the first forward pass on some processors.

    That is quicker to ask, but no gradient flows back through packed weights, and nothing says so: training
    after the first evaluation would go on with wrong ones. Widths that are no multiple of 32 fail outright.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu") and (training or module.out_features % 32):
            module.support_avx512bf16_for_cpu = False


def _adapted(model: Any, folder: Path, config: dict[str, Any] | None, base: Path, training: bool) -> Any:
    from peft import PeftModel

    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            adapted = PeftModel.from_pretrained(
                model, str(folder), is_trainable=training, local_files_only=True
            )
    except ImportError as error:
        raise ModelError(missing_extra(error)) from error
    except Exception as error:  # noqa: BLE001 - whatever a foreign adapter makes the library raise
        raise ModelError(f"the adapter {folder} does not fit the model {base}: {_line(error)}") from error
    for warning in heard:
        if "missing adapter keys" in str(warning.message):
            raise ModelError(f"the adapter {folder} is not whole: {_line(warning.message)}")
    return adapted


def save(model: Any, tokenizer: Any, template: prompts.Template | None, folder: Path | str) -> Path:
    """Writes a model or an adapter as a folder that `load` takes: safetensors, tokenizer, template.

    Args:
        model: Of transformers, or of peft, of which only the adapter is written.
        tokenizer: Its tokenizer.
        template: What it was trained with; written down whole, with what it leaves to the tokenizer.
        folder: Where to; it is made. What it holds besides stays.

    Returns:
        The folder.

    Raises:
        ModelError: There is not enough room, or it cannot be written.
    """
    folder = Path(folder)
    adapter = hasattr(model, "peft_config")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = (each for each in model.parameters() if each.requires_grad or not adapter)
        needed, free = sum(each.nbytes for each in kept), shutil.disk_usage(folder).free
        if needed > free:
            raise ModelError(
                f"{folder}: the weights need {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free: make room"
            )
        # Without a look at the base model's embeddings, for which peft would ask a hub.
        model.save_pretrained(str(folder), **({"save_embedding_layers": False} if adapter else {}))
        tokenizer.save_pretrained(str(folder))
        if template is not None:
            prompts.save(template, folder, tokenizer)
    except OSError as error:
        raise ModelError(f"{folder} cannot be written: {error.strerror or error}") from error
    except Exception as error:
        # safetensors reports a full disk as an error of its own.
        if type(error).__name__ != "SafetensorError":
            raise
        raise ModelError(f"{folder} cannot be written: {_line(error)}") from error
    return folder


def _line(error: Any) -> str:
    """The first words of a library's message, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + "..."
