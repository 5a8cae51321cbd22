"""Models in 8 or 4 bits, by bitsandbytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meadow.models.errors import ModelError

__all__ = ["QUANTIZATIONS", "keep_unpacked", "refuse_twice", "settings_of"]

QUANTIZATIONS = ("8bit", "4bit")


def refuse_twice(folder: Path, config: dict[str, Any], quantization: str | None) -> None:
    """Refuses to quantise a model that is quantised already.

    Raises:
        ModelError: It is.
    """
    found = config.get("quantization_config")
    if found and quantization:
        method = found.get("quant_method", "unknown") if isinstance(found, dict) else "unknown"
        raise ModelError(
            f"{folder} is quantised already ({method}): leave --quantization {quantization} out, or give the "
            "folder of the model it was made from"
        )


def settings_of(quantization: str | None, dtype: Any) -> dict[str, Any]:
    """What ``from_pretrained`` must be told.

    Args:
        quantization: ``8bit``, ``4bit`` or None.
        dtype: The number type that 4-bit weights are computed in.
    """
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    if quantization == "4bit":
        found = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        return {"quantization_config": found}
    return {}


def keep_unpacked(model: Any, training: bool) -> None:
    """Keeps bitsandbytes from packing 4-bit weights anew at the first forward pass on some processors.

    That is quicker to ask, but no gradient flows back through packed weights, and nothing says so: training
    after the first evaluation would go on with wrong ones. Widths that are no multiple of 32 fail outright.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu") and (training or module.out_features % 32):
            module.support_avx512bf16_for_cpu = False
