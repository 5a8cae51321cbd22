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
#: Of `LlamaConfig`: 2048 x 64 twice, and two layers of 49,280 are 360,768 parameters. Every width is a multiple of
#: 32, without which bitsandbytes cannot use 4 bits on a processor.
_SHAPE = json.loads(Path(__file__).with_name("tiny.json").read_text(encoding="utf-8"))


def make_tiny(folder: Path | str, *, seed: int = 0) -> Path:
    """Writes the tiny model into an empty folder and returns that; the same seed gives the same bytes."""
    folder = Path(folder)
    offline()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ModelError(f"{folder} is not empty: give another folder for the tiny model")
        with explained():
            import torch
            from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
            from transformers.utils import logging

        logging.disable_progress_bar()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(LlamaConfig(vocab_size=_VOCABULARY, **_SPECIAL, **_SHAPE)).float()
        model.generation_config = GenerationConfig(**_SPECIAL)
        model.save_pretrained(folder)
        shutil.copytree(_TOKENIZER, folder, dirs_exist_ok=True)
    except OSError as error:
        raise ModelError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


def tiny_folder(seed: int = 0) -> Path:
    """The tiny model in the user's cache (``$MEADOW_MODELS``, else ``models`` there), made on first use."""
    from platformdirs import user_cache_path

    given = os.environ.get("MEADOW_MODELS")
    root = Path(given).expanduser() if given else user_cache_path("meadow", appauthor=False) / "models"
    what = json.dumps([_EDITION, seed, _VOCABULARY, _SHAPE], sort_keys=True).encode()
    folder = root / f"tiny-{hashlib.sha256(what).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tiny-", dir=root, ignore_cleanup_errors=True) as work:
            made = make_tiny(Path(work) / "tiny", seed=seed)
            try:
                made.rename(folder)
            except OSError:
                # Another process may have been faster: its folder holds the same.
                if not folder.is_dir():
                    raise
    except OSError as error:
        raise ModelError(
            f"cannot write to {root}: {error.strerror or error}; choose another folder by $MEADOW_MODELS"
        ) from error
    return folder
