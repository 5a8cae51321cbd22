"""What a run leaves in its output: settings, rows that were left out, the model, and the record with its card."""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
from importlib import metadata

import yaml

from meadow import models
from meadow.core.version import VERSION
from meadow.models import prompts
from meadow.train import folder, record
from meadow.train.data import Corpus
from meadow.train.model import BaseFolder, Placement
from meadow.train.packing import StepPlan, warmup
from meadow.train.run import rank
from meadow.train.settings import TrainSettings
from meadow.train.training import Trained

_PACKAGES = (
    "torch", "transformers", "peft", "accelerate", "bitsandbytes", "tokenizers", "safetensors", "datasets",
)  # fmt: skip


def write_settings(settings: TrainSettings, rows: Corpus) -> None:
    """Writes what repeats the run, and which rows it leaves out or cuts."""
    if rank() != 0:
        return
    output = settings.folder
    dumped = settings.model_dump(mode="json", exclude={"size", "dry_run"}, exclude_none=True)
    shown = {key: value for key, value in dumped.items() if value != []}
    text = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)
    (output / folder.SETTINGS).write_text(
        f"# The settings of this run; run finetune_{settings.size}.py --config with this file to repeat it.\n{text}",
        encoding="utf-8",
    )
    reasons = [*rows.left_out, *((row, "trained on, but cut") for row in rows.truncated)]
    with (output / folder.LEFT_OUT).open("w", encoding="utf-8") as stream:
        for row, reason in reasons:
            stream.write(json.dumps({"id": row, "reason": reason}, ensure_ascii=False) + "\n")


def save(settings: TrainSettings, trained: Trained, base: BaseFolder, place: Placement) -> None:
    """Puts the model or its adapters into the output, with the tokenizer and the template."""
    import torch

    if rank() != 0:
        return
    model, weights = trained.model, trained.weights
    if not settings.adapters:
        number = getattr(torch, place.dtype)
        if weights is None:
            model = model.to(number)
        else:
            weights = {k: v.to(number) if v.is_floating_point() else v for k, v in weights.items()}
        model.config.dtype = number
    model.config.use_cache = True
    with folder.publishing(settings.folder) as work:
        if settings.adapters:
            model.save_pretrained(work, save_embedding_layers=False)
            # What peft writes there describes nothing; the card is made from the record.
            (work / "README.md").unlink(missing_ok=True)
        else:
            model.save_pretrained(work, state_dict=weights)
        base.tokenizer.save_pretrained(work)
        prompts.save(base.template, work, base.tokenizer)


def write_record(
    settings: TrainSettings,
    trained: Trained,
    base: BaseFolder,
    rows: Corpus,
    plan: StepPlan,
    place: Placement,
    recipe: str,
) -> None:
    """Writes ``run.json``, with which the folder is a finished run, its plot and its model card."""
    import torch

    if rank() == 0:
        at = base.folder.resolve()
        total, learned = trained.parameters
        versions = {}
        for name in _PACKAGES:
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[name] = metadata.version(name)
        used = {"processes": place.world, "dtype": place.dtype, "sharding": place.sharding}
        run = {
            "meadow_version": VERSION,
            "recipe": recipe,
            "method": settings.method,
            "preset": settings.preset,
            "settings": {
                **settings.model_dump(mode="json"),
                "warmup_steps_used": warmup(settings, plan.steps),
            },
            "base_model": {"path": str(at), "name": at.name, "fingerprint": models.fingerprint(base.folder)},
            "template": base.template.to_dict(),
            **vars(rows.provenance),
            "counts": rows.counts(),
            "parameters": {"total": total, "trained": learned},
            "versions": {"python": platform.python_version(), **versions},
            "hardware": {**models.describe_hardware(), **used},
            "steps": trained.steps,
            "kept_step": trained.kept_step,
            "tokens_seen": sum(map(plan.tokens_of, range(trained.steps))),
            "seconds": round(trained.seconds, 1),
            "losses": trained.losses,
        }
        record.write_record(settings.folder, run)
        if not settings.keep_checkpoints:
            shutil.rmtree(settings.folder / folder.CHECKPOINTS, ignore_errors=True)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
