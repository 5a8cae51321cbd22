"""What a run leaves in its output: settings, the model, and ``run.json``: what it was made of, how, what came of it.

``run.json`` is a contract. The model card (`card`) takes every number from it, `meadow.score.leaks` reads which exam
items the model has seen, `merging` adds to it. Its keys, form 1:

======================  ===============================================================================================
``form``                1
``meadow_version``      of the Meadow that trained
``recipe``              the script; ``method``: full, lora, lora-8bit, qlora; ``preset``
``settings``            all settings as they were used
``base_model``          ``path`` as it was on that machine, ``name``, ``fingerprint`` (`meadow.models.fingerprint`),
                        ``license`` (an id of the Hub or SPDX, from the model's own card; null where that says none)
``template``            the whole definition of the prompt template
``data``                per dataset or file: ``name``, ``version`` (null for a file), ``rows``, ``ids_sha256``,
                        ``rows_sha256``, ``sample``, ``trained_rows``, ``trained_ids_sha256``, ``licenses`` (rows
                        trained on per licence id), ``license_verdict``, ``contamination``
``license_verdict``     `meadow.core.licenses.judge.Verdict` for all rows trained on together
``counts``              ``rows``, ``trained``, ``truncated``, ``refused`` (reason to rows), ``tokens``,
                        ``trained_tokens``, ``validation_rows``
``parameters``          ``total``, ``trained``
``versions``            packages; ``hardware``: `meadow.models.describe_hardware` and how it was used
``steps``               optimizer steps; ``tokens_seen``: tokens computed, without padding; ``seconds``
``kept_step``           the step whose weights these are: the last, or with early stopping that of the lowest
                        validation loss
``losses``              per logged step: ``step``, ``loss``, ``lr``, ``eval_loss`` (mean cross entropy, nats a token)
``exam_hits``           per exam that the data were compared with: ``checked``, its items; ``items``, the ids of those
                        that stand in rows trained on; ``sha256``, of the items per split (a mapping), by which an
                        edition is told from another; ``versions``; ``sample``; ``complete``
``unchecked``           what was not compared with an exam, sentences that begin with the name of the data, or of a part
                        of a mixture, and a colon or version
``unchecked_exams``     for each of these sentences a list of the exams, or of their sources, that it is about; empty
                        where it may be any
``merged``              only in a merged model: ``adapter`` (``name``, ``fingerprint``), ``base`` (``name``,
                        ``fingerprint``), ``dtype``, ``difference`` (of logits, as a share of their spread),
                        ``meadow_version``, ``versions``
======================  ===============================================================================================

Of an exam whose entry has ``complete`` false some of the data were not compared: an item that is not in ``items`` is
then unknown, not clean. The same holds for an exam that has no entry.
"""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import to_jsonable_python

from meadow import models
from meadow.core.errors import Error
from meadow.core.version import VERSION
from meadow.describe.cards import frontmatter
from meadow.models import prompts
from meadow.train import card, folder, plots
from meadow.train.data import Corpus
from meadow.train.model import BaseFolder, Placement
from meadow.train.packing import StepPlan, warmup
from meadow.train.settings import TrainSettings, rank
from meadow.train.training import Trained

FILE = "run.json"
FORM = 1
#: Without these nobody could say what a model was made of.
_NEEDED = ("method", "base_model", "data", "counts", "parameters", "steps", "tokens_seen", "losses")
_PACKAGES = (
    "torch", "transformers", "peft", "accelerate", "bitsandbytes", "tokenizers", "safetensors", "datasets",
)  # fmt: skip


class RunRecordError(Error):
    """A record that is missing, damaged, or not whole."""


def write_settings(settings: TrainSettings, rows: Corpus) -> None:
    """Writes what repeats the run, and which rows it leaves out or cuts."""
    if rank() != 0:
        return
    dumped = settings.model_dump(mode="json", exclude={"size", "dry_run"}, exclude_none=True)
    shown = {key: value for key, value in dumped.items() if value != []}
    text = (
        f"# The settings of this run; run finetune_{settings.size}.py --config with this file to repeat it.\n"
    )
    text += yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)
    (settings.folder / folder.SETTINGS).write_text(text, encoding="utf-8")
    reasons = [*rows.left_out, *((row, "trained on, but cut") for row in rows.truncated)]
    with (settings.folder / folder.LEFT_OUT).open("w", encoding="utf-8") as stream:
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
            "settings": settings.model_dump(mode="json")
            | {"warmup_steps_used": warmup(settings, plan.steps)},
            "base_model": {"path": str(at), "name": at.name, "fingerprint": models.fingerprint(base.folder)},
            "template": base.template.to_dict(),
            **vars(rows.provenance),
            "counts": rows.counts(),
            "parameters": dict(zip(("total", "trained"), trained.parameters, strict=True)),
            "versions": {"python": platform.python_version(), **versions},
            "hardware": {**models.describe_hardware(), **used},
            "steps": trained.steps,
            "kept_step": trained.kept_step,
            "tokens_seen": plan.tokens(trained.steps),
            "seconds": round(trained.seconds, 1),
            "losses": trained.losses,
        }
        write_run(settings.folder, run)
        if not settings.keep_checkpoints:
            shutil.rmtree(settings.folder / folder.CHECKPOINTS, ignore_errors=True)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def write_run(model: Path | str, run: Mapping[str, Any]) -> None:
    """Writes a run's record into a model's folder, with the plot and the model card that are made from it.

    ``run.json`` comes last and in one step: with it a folder is a finished model. A card that is there is merged,
    so that what a person wrote into it stays. Where ``base_model`` has no ``license``, it is looked for in the base
    model's own card. Raises RunRecordError where something that a record needs is missing.
    """
    model = Path(model)
    if missing := [key for key in _NEEDED if key not in run]:
        raise RunRecordError(f"the record of {model} has no {', '.join(missing)}")
    base = dict(run["base_model"])
    if "license" not in base:
        base["license"] = base_license(Path(base["path"])) if base.get("path") else None
    # Numbers of numpy and torch become plain ones, what is no number null.
    run = to_jsonable_python(
        {"form": FORM, **run, "base_model": base},
        inf_nan_mode="null",
        fallback=lambda value: value.item() if hasattr(value, "item") else str(value),
    )
    if run["losses"]:
        plots.loss_curve(model, run)
    card.write_card(model, run)
    folder.write_whole(model / FILE, json.dumps(run, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_record(model: Path | str) -> dict[str, Any]:
    """Reads a model folder's record; raises RunRecordError where there is none, or it cannot be read."""
    path = Path(model) / FILE
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunRecordError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise RunRecordError(f"{path}: no JSON: {error}; copy the model folder again") from error
    if not isinstance(run, dict):
        raise RunRecordError(f"{path}: no JSON object; copy the model folder again")
    if (form := run.get("form", FORM)) != FORM:
        raise RunRecordError(
            f"{path}: its form is {form!r}, known is {FORM}: it was written by another Meadow"
        )
    return run


def base_license(base: Path) -> str | None:
    """The licence that a model's own card states: an identifier of the Hub, with `license_name` where it is ``other``.

    None where there is no card, or it states none: a licence is never guessed.
    """
    try:
        data = frontmatter.load(frontmatter.split((base / card.FILE).read_text(encoding="utf-8"))[0])
    except (OSError, ValueError):
        return None
    found = data.get("license")
    if found == "other" and isinstance(data.get("license_name"), str):
        return data["license_name"]
    return found if isinstance(found, str) and found not in ("unknown", "other") else None
