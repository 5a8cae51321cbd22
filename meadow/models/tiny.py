"""A random LLaMA of 360,000 parameters, with a tokenizer of its own, made in seconds anywhere.

It knows nothing. It is there so that every step from rows to a scored model can be tried on a laptop.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from meadow.models.environment import offline
from meadow.models.errors import ModelError, explained

__all__ = ["TINY", "make_tiny", "tiny_folder"]

#: The name that recipes take for it.
TINY = "tiny"
#: Raised when what is made under the same arguments changes.
_EDITION = 2

_VOCABULARY = 2048
#: The ids of the tokenizer's special tokens.
_SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
#: A byte-level BPE as recent LLaMA models have it, with a chat template. It was trained once, on the samples of this
#: repository (CC0): whatever the text, it has tokens for it.
_TOKENIZER = Path(__file__).parent / "tiny_tokenizer"
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


def make_tiny(folder: Path | str, *, seed: int = 0) -> Path:
    """Writes the tiny model into a folder: configuration, safetensors, tokenizer with a chat template.

    The same arguments give the same weights, tokens and bytes.

    Args:
        folder: Where to; it is made, and must be empty.
        seed: Of the random weights.

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
        with explained():
            _write(folder, seed)
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
    what = json.dumps([_EDITION, seed, _VOCABULARY, _SHAPE], sort_keys=True).encode()
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


def _write(folder: Path, seed: int) -> None:
    offline()
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = LlamaConfig(vocab_size=_VOCABULARY, **_SPECIAL, **_SHAPE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).float()
    model.generation_config = GenerationConfig(**_SPECIAL)
    model.save_pretrained(folder)
    shutil.copytree(_TOKENIZER, folder, dirs_exist_ok=True)
