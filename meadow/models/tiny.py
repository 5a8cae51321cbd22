"""A random LLaMA of 360,000 parameters, with a tokenizer of its own, made in seconds anywhere.

It knows nothing. It is there so that every step from rows to a scored model can be tried on a laptop.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from meadow.models.environment import missing_extra, offline
from meadow.models.folder import ModelError

__all__ = ["TINY", "make_tiny", "tiny_folder"]

#: The name that recipes take for it.
TINY = "tiny"
#: Raised when what is made under the same arguments changes.
_EDITION = 1

_VOCABULARY = 2048
_SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
#: How byte-level tokenizers of recent LLaMA models cut text before merging, with digits in threes.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
#: 2048 x 64 twice, and two layers of 49,280: 360,768 parameters. Every width is a multiple of
#: 32, without which bitsandbytes cannot use 4 bits on a processor.
_SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
_CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '[system]\n' + message['content'] + '\n' }}"
    "{% elif message['role'] == 'user' %}{{ '[user]\n' + message['content'] + '\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '[assistant]\n' }}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]\n' }}{% endif %}"
)


def make_tiny(folder: Path | str, *, seed: int = 0, texts: Iterable[str] | None = None) -> Path:
    """Writes the tiny model into a folder: configuration, safetensors, tokenizer with a chat template.

    The same arguments give the same weights, tokens and bytes.

    Args:
        folder: Where to; it is made, and must be empty.
        seed: Of the random weights.
        texts: What its tokenizer is trained on; None: the text samples in this package.

    Returns:
        The folder.

    Raises:
        ModelError: The folder is not empty or cannot be written, or a library is missing.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ModelError(f"{folder} is not empty: give another folder for the tiny model")
        _write(folder, seed, _samples() if texts is None else texts)
    except ImportError as error:
        raise ModelError(missing_extra(error)) from error
    except OSError as error:
        raise ModelError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


def tiny_folder(seed: int = 0) -> Path:
    """The tiny model in the user's cache (``$MEADOW_MODELS``, else ``models`` there), made on first use.

    Raises:
        ModelError: It cannot be made.
    """
    from platformdirs import user_cache_path

    given = os.environ.get("MEADOW_MODELS")
    root = Path(given).expanduser() if given else user_cache_path("meadow", appauthor=False) / "models"
    what = json.dumps([_EDITION, seed, _VOCABULARY, _SHAPE, _CHAT, _WORDS], sort_keys=True).encode()
    folder = root / f"tiny-{hashlib.sha256(what).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".tiny-", dir=root))
    except OSError as error:
        raise ModelError(
            f"cannot write to {root}: {error.strerror or error}; choose another folder by $MEADOW_MODELS"
        ) from error
    try:
        make_tiny(work, seed=seed)
        work.chmod(0o755)
        # Another process may have been faster: its folder holds the same.
        if not folder.is_dir():
            try:
                work.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _write(folder: Path, seed: int, texts: Iterable[str]) -> None:
    offline()
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = _tokenizer(texts)
    config = LlamaConfig(
        vocab_size=_VOCABULARY,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **_SHAPE,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).to(torch.float32)
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer(texts: Iterable[str]) -> Any:
    """A byte-level BPE: whatever the text, it has tokens for it."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=_VOCABULARY,
            special_tokens=list(_SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    begin = made.token_to_id("<s>")
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", begin)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="right",
        model_max_length=_SHAPE["max_position_embeddings"],
        clean_up_tokenization_spaces=False,
        chat_template=_CHAT,
    )


def _samples() -> list[str]:
    """The samples in this package that are plain text, and the templates' own words."""
    from importlib.resources import as_file, files

    from meadow.models import prompts

    texts = [template.with_input for template in prompts.TEMPLATES.values()] * 20
    for source, pattern in (
        ("medqa", "**/*.jsonl"),
        ("pubmedqa", "*.json"),
        ("usmle", "*.json"),
        ("wikidoc", "*.jsonl"),
        ("stackexchange", "**/Posts.xml"),
    ):
        with as_file(files(f"meadow.builders.{source}") / "sample") as folder:
            for path in sorted(folder.glob(pattern)):
                # JSON escapes line ends and everything beyond ASCII: what is trained on is text, not its code.
                found = path.read_text(encoding="utf-8")
                texts += [found.replace("\\n", "\n").replace('\\"', '"')]
    return texts
