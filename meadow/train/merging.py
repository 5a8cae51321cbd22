"""Merging an adapter into its base model: one folder that needs no adapter and no peft.

An adapter that was trained beside a base in 8 or 4 bits is merged into the base as it is stored, in full precision:
rounding the base again would lose what was learned, and the merged model can be quantised like any other. Each weight
is added to in float32 and rounded once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from meadow import models
from meadow.core.errors import Error
from meadow.core.version import VERSION
from meadow.models import folder as folders
from meadow.models import prompts
from meadow.train import card, record
from meadow.train.folder import is_disk_full

__all__ = ["DTYPES", "MergeError", "check", "merge"]

DTYPES = ("float32", "bfloat16", "float16")
#: How far logits may be from those of base and adapter, as a share of their spread: rounding, and no more. A merge
#: into the wrong place moves them by 0.1 and more.
_NEAR = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.02}
#: Tokens that are compared.
_PROBE = 24
#: What of a tokenizer lies in a model folder.
_TOKENIZER = (
    *folders.TOKENIZER_FILES, folders.TOKENIZER_CONFIG, "merges.txt", "added_tokens.json", "special_tokens_map.json",
    "chat_template.jinja", "chat_template.json",
)  # fmt: skip


class MergeError(Error):
    """An adapter that cannot be merged; the message says why and what to do."""


def check(adapter: Path, output: Path, base: Path | None) -> list[str]:
    """What is wrong with the folders, a sentence each; nothing is loaded."""
    problems = []
    try:
        found = folders.check_adapter(folders.existing_folder(adapter))
        kind = str(found.get("peft_type")).upper()
        if kind != "LORA":
            problems.append(f"model {adapter} is an adapter of the kind {kind}; LoRA adapters can be merged")
    except models.ModelError as error:
        text = str(error)
        if (adapter / folders.CONFIG).is_file() and not folders.is_adapter(adapter):
            text = f"{adapter} is a whole model already, and has no adapter to merge"
        problems.append(text)
    if output.exists() or output.is_symlink():
        problems.append(
            f"output {output} exists, and nothing is overwritten: choose another --output, or move it away"
        )
    elif adapter.exists() and output.resolve().is_relative_to(adapter.resolve()):
        problems.append(f"output {output} lies in the adapter's folder: choose another --output")
    try:
        if base is not None:
            folders.existing_folder(base, "base model")
        elif folders.is_adapter(adapter):
            base = folders.adapter_base(adapter)
    except models.ModelError as error:
        problems.append(str(error))
        base = None
    if base is not None and folders.is_adapter(base) and not any(base.glob("model*.safetensors")):
        problems.append(
            f"base {base} is an adapter, too: merge that one first, and give the merged model as --base"
        )
    elif base is not None and (base / folders.CONFIG).is_file():
        with contextlib.suppress(models.ModelError):
            if folders.read_json(base / folders.CONFIG).get("quantization_config"):
                problems.append(
                    f"base {base} is quantised: give the folder of the model in full precision by --base"
                )
    return problems


def merge(
    adapter: Path | str,
    output: Path | str,
    *,
    base: Path | str | None = None,
    dtype: str | None = None,
    allow_pickle: bool = False,
    progress: Callable[[str], None] = lambda message: None,
) -> Path:
    """Writes a model with an adapter in its weights.

    Weights are safetensors. Tokenizer and template are the adapter's, else the base's; ``run.json`` and the card are
    the adapter's with the merge added to the lineage. The folder appears whole or not at all.

    Args:
        adapter: The adapter's folder.
        output: Where to; it must not exist.
        base: The base model's folder; None for the one that the adapter names.
        dtype: Of the merged weights, one of `DTYPES`; None: as the base has them.
        allow_pickle: Let the base's weights be pickles.
        progress: Called with what is done next.

    Raises:
        MergeError: It cannot be merged, or does not answer as base and adapter do.
        ModelError: A folder cannot be used, or the base is not the one that the adapter was trained on.
        RunRecordError: The adapter's record is damaged.
    """
    adapter, output = Path(adapter).expanduser(), Path(output).expanduser()
    base = None if base is None else Path(base).expanduser()
    if problems := check(adapter, output, base):
        raise MergeError("\n".join(problems))
    if dtype not in (None, *DTYPES):
        raise MergeError(f"dtype {dtype!r} is unknown: {', '.join(DTYPES)}")
    run = record.read_record(adapter) if (adapter / record.FILE).is_file() else None
    folder = base or folders.adapter_base(adapter)
    stored = _stored(folders.check_folder(folder, allow_pickle=allow_pickle))
    target = dtype or stored
    progress(f"loading {folder} in {stored}")
    loaded = models.load(adapter, base=folder, dtype=stored, device="cpu", allow_pickle=allow_pickle)
    progress("merging")
    with _quiet():
        model, difference = _merged(loaded.model, stored, target)
    progress(f"writing {output}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as error:
        raise MergeError(
            f"{output} cannot be written: {error.strerror or error}; choose another --output"
        ) from error
    try:
        work.chmod(0o755)
        _write(work, model, adapter, folder, loaded, run, target, difference, output.name)
        if output.exists():
            raise MergeError(f"output {output} was made by somebody else meanwhile: choose another --output")
        os.rename(work, output)
    except (MergeError, models.ModelError, record.RunRecordError):
        raise
    except Exception as error:
        if is_disk_full(error):
            raise MergeError(
                f"the disk of {output} is full; nothing was left there. Free space and run again"
            ) from error
        if isinstance(error, OSError):
            raise MergeError(f"{output} cannot be written: {error.strerror or error}") from error
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return output


def _stored(config: dict[str, Any]) -> str:
    """The number type that a base's weights are in."""
    found = str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")
    return found if found in DTYPES else "float32"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of peft that it was merged already, which is what we did."""
    logger = logging.getLogger("peft")
    was = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(was)


def _merged(model: Any, stored: str, target: str) -> tuple[Any, float]:
    """The base model with the adapter in its weights, and how far its logits are from those of both."""
    import torch
    from peft.tuners.lora import LoraLayer

    number = getattr(torch, target)
    rows = model.get_input_embeddings().weight.shape[0]
    probe = torch.randint(0, rows, (1, _PROBE), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(input_ids=probe, use_cache=False).logits.float()
        for name, layer in model.named_modules():
            if not isinstance(layer, LoraLayer):
                continue
            whole = layer.get_base_layer()
            # Added in float32, rounded once: in 16 bits small changes would be lost before they are added.
            whole.to(torch.float32)
            try:
                layer.merge(safe_merge=True)
            except ValueError as error:
                raise MergeError(
                    f"the adapter's weights for {name} are no numbers: it cannot be used"
                ) from error
            whole.to(number)
        model = model.merge_and_unload()
        model.to(number)
        broken = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
        if broken:
            raise MergeError(
                f"{len(broken)} weights are too large for {target} ({broken[0]} for one): choose --dtype bfloat16 or float32"
            )
        after = model(input_ids=probe, use_cache=False).logits.float()
    difference = float((before - after).abs().mean() / before.std().clamp_min(1e-12))
    if not difference <= max(_NEAR[target], _NEAR[stored]):
        raise MergeError(
            f"the merged model does not answer as base and adapter do (logits differ by {100 * difference:.1f} % of their "
            "spread), so nothing was written. Merge it with the versions of peft and transformers that run.json names"
        )
    return model, difference


def _write(
    work: Path, model: Any, adapter: Path, base: Path, loaded: Any, run: dict[str, Any] | None, dtype: str,
    difference: float, name: str,
) -> None:  # fmt: skip

    model.config.use_cache = True
    model.save_pretrained(work, safe_serialization=True)
    source = adapter if any((adapter / file).is_file() for file in folders.TOKENIZER_FILES) else base
    for file in _TOKENIZER:
        if (source / file).is_file():
            shutil.copyfile(source / file, work / file)
    for place in (adapter, base):
        if (place / prompts.FILE).is_file():
            shutil.copyfile(place / prompts.FILE, work / prompts.FILE)
            break
    for path in work.iterdir():
        # Weights are written for their owner alone; a model folder is there to be read.
        path.chmod(0o644)
    if run is None:
        return
    found = loaded.source
    added = {
        "adapter": {"name": adapter.resolve().name, "fingerprint": found["adapter_fingerprint"]},
        "base": {"name": base.resolve().name, "fingerprint": found["fingerprint"]},
        "dtype": dtype,
        "difference": float(f"{difference:.3g}"),
        "meadow_version": VERSION,
        "versions": found.get("versions", {}),
    }
    there = adapter / card.FILE
    existing = there.read_text(encoding="utf-8-sig", errors="replace") if there.is_file() else None
    # Its base is where it was found now; the name and fingerprint stay those of the training.
    lineage = {**run["base_model"], "path": str(base.resolve())}
    record.write_record(work, {**run, "base_model": lineage, "merged": added}, existing=existing, title=name)
