"""Writing a model or an adapter as a folder that `meadow.models.load` takes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from meadow.models import prompts
from meadow.models.errors import ModelError, line

__all__ = ["save"]


def save(model: Any, tokenizer: Any, template: prompts.Template | None, folder: Path | str) -> Path:
    """Writes a model or an adapter as a folder that `load` takes: safetensors, tokenizer, template.

    Args:
        model: Of transformers, or of peft, of which only the adapter is written.
        tokenizer: Its tokenizer.
        template: What it was trained with; written down whole, with what it leaves to the tokenizer.
        folder: Where to; it is made, and returned. What it holds besides stays.

    Raises:
        ModelError: There is not enough room, or it cannot be written.
    """
    from safetensors import SafetensorError

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
    except (OSError, SafetensorError) as error:
        # A full disk is told by either.
        raise ModelError(f"{folder} cannot be written: {line(error)}") from error
    return folder
