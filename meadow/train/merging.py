"""Merging an adapter into its base model: one folder that needs no adapter and no peft.

An adapter that was trained beside a base in 8 or 4 bits is merged into the base as it is stored, in full precision:
rounding the base again would lose what was learned, and the merged model can be quantised like any other. Each weight
is added to in float32 and rounded once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meadow import models
from meadow.core.errors import Error
from meadow.core.version import VERSION
from meadow.models import folder as folders
from meadow.models import prompts
from meadow.train import card, record
from meadow.train.folder import is_disk_full

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
        kind = str(folders.check_adapter(folders.existing_folder(adapter))["peft_type"]).upper()
        if kind != "LORA":
            problems.append(f"model {adapter} is an adapter of the kind {kind}; LoRA adapters can be merged")
    except models.ModelError as error:
        whole = (adapter / folders.CONFIG).is_file() and not folders.is_adapter(adapter)
        words = f"{adapter} is a whole model already, and has no adapter to merge"
        problems.append(words if whole else str(error))
    if output.exists() or output.is_symlink():
        remedy = "choose another --output, or move it away"
        problems.append(f"output {output} exists, and nothing is overwritten: {remedy}")
    elif adapter.exists() and output.resolve().is_relative_to(adapter.resolve()):
        problems.append(f"output {output} lies in the adapter's folder: choose another --output")
    try:
        if base is not None:
            folders.existing_folder(base, "base model")
        elif folders.is_adapter(adapter):
            base = folders.adapter_base(adapter)
    except models.ModelError as error:
        return [*problems, str(error)]
    if base is not None and folders.is_adapter(base) and not any(base.glob("model*.safetensors")):
        remedy = "merge that one first, and give the merged model as --base"
        problems.append(f"base {base} is an adapter, too: {remedy}")
    elif base is not None and (base / folders.CONFIG).is_file():
        with contextlib.suppress(models.ModelError):
            if folders.read_json(base / folders.CONFIG).get("quantization_config"):
                remedy = "give the folder of the model in full precision by --base"
                problems.append(f"base {base} is quantised: {remedy}")
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
    """Writes a model with an adapter in its weights, as safetensors; the folder appears whole or not at all.

    Tokenizer and template are the adapter's, else the base's; ``run.json`` and the card are the adapter's with the
    merge added to the lineage.

    Args:
        adapter: The adapter's folder.
        output: Where to; it must not exist.
        base: The base model's folder; None for the one that the adapter names.
        dtype: Of the merged weights, one of `DTYPES`; None: as the base has them.
        allow_pickle: Let the base's weights be pickles.
        progress: Called with what is done next.

    Raises MergeError where it cannot be merged, or does not answer as base and adapter do; ModelError for a folder that
    cannot be used or is not the adapter's base; RunRecordError for a damaged record.
    """
    adapter, output = Path(adapter).expanduser(), Path(output).expanduser()
    base = None if base is None else Path(base).expanduser()
    if problems := check(adapter, output, base):
        raise MergeError("\n".join(problems))
    if dtype not in (None, *DTYPES):
        raise MergeError(f"dtype {dtype!r} is unknown: {', '.join(DTYPES)}")
    run = record.read_record(adapter) if (adapter / record.FILE).is_file() else None
    base = base or folders.adapter_base(adapter)
    config = folders.check_folder(base, allow_pickle=allow_pickle)
    stored = str(config.get("dtype") or config.get("torch_dtype")).removeprefix("torch.")
    stored = stored if stored in DTYPES else "float32"
    dtype = dtype or stored
    progress(f"loading {base} in {stored}")
    loaded = models.load(adapter, base=base, dtype=stored, device="cpu", allow_pickle=allow_pickle)
    progress("merging")
    model, difference = _merged(loaded.model, stored, dtype)
    if run is not None:
        # Its base is where it was found now; the name and fingerprint stay those of the training.
        run["base_model"]["path"] = str(base.resolve())
        run["merged"] = {
            "adapter": {"name": adapter.resolve().name, "fingerprint": loaded.source["adapter_fingerprint"]},
            "base": {"name": base.resolve().name, "fingerprint": loaded.source["fingerprint"]},
            "dtype": dtype,
            "difference": float(f"{difference:.3g}"),
            "meadow_version": VERSION,
            "versions": loaded.source["versions"],
        }
    progress(f"writing {output}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        beside = {"prefix": f".{output.name}.", "dir": output.parent}
        with tempfile.TemporaryDirectory(**beside, ignore_cleanup_errors=True) as place:
            work = Path(place) / output.name
            _write(work, model, adapter, base, run)
            os.rename(work, output)
    except Exception as error:
        if is_disk_full(error):
            words = f"the disk of {output} is full; nothing was left there. Free space and run again"
            raise MergeError(words) from error
        if isinstance(error, OSError):
            why = error.strerror or error
            raise MergeError(f"{output} cannot be written: {why}; choose another --output") from error
        raise
    return output


def _merged(model: Any, stored: str, target: str) -> tuple[Any, float]:
    """The base model with the adapter in its weights, and how far its logits are from those of both."""
    import torch
    from peft.tuners.lora import LoraLayer

    number = getattr(torch, target)
    rows = model.get_input_embeddings().weight.shape[0]
    probe = torch.randint(0, rows, (1, _PROBE), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), warnings.catch_warnings():
        # peft warns that it was merged already, which is what we did.
        warnings.simplefilter("ignore")
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
                words = f"the adapter's weights for {name} are no numbers: it cannot be used"
                raise MergeError(words) from error
            whole.to(number)
        model = model.merge_and_unload().to(number)
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


def _write(work: Path, model: Any, adapter: Path, base: Path, run: dict[str, Any] | None) -> None:
    model.config.use_cache = True
    model.save_pretrained(work, safe_serialization=True)
    source = adapter if folders.has_tokenizer(adapter) else base
    template = adapter if (adapter / prompts.FILE).is_file() else base
    copied = [*(source / name for name in _TOKENIZER), template / prompts.FILE]
    # What people wrote into the card stays in the new one.
    copied += [adapter / card.FILE] if run is not None else []
    for path in copied:
        if path.is_file():
            shutil.copyfile(path, work / path.name)
    for path in work.iterdir():
        # Weights are written for their owner alone; a model folder is there to be read.
        path.chmod(0o644)
    if run is not None:
        record.write_run(work, run)
