"""The record of a run, ``run.json``: what a model was made of, how, and what came of it.

The file is a contract. The model card (`card`) takes every number from it, `meadow.score.leaks` reads which exam
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

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from meadow.core.errors import Error
from meadow.train.folder import write_whole

FILE = "run.json"
#: The form of the file.
FORM = 1
#: Without these nobody could say what a model was made of.
_NEEDED = ("method", "base_model", "data", "counts", "parameters", "steps", "tokens_seen", "losses")


class RunRecordError(Error):
    """A record that is missing, damaged, or not whole."""


def write_record(folder: Path | str, run: Mapping[str, Any]) -> None:
    """Writes a run's record, with the plot and the model card that are made from it.

    ``run.json`` comes last and in one step: with it a folder is a finished model. A card that is there is merged,
    so that what a person wrote into it stays.

    Args:
        folder: The model's folder; it must exist.
        run: The record. Where ``base_model`` has no ``license``, it is looked for in the base model's own card.

    Raises:
        RunRecordError: Something that a record needs is missing.
        OSError: The folder cannot be written.
    """
    from meadow.train import card, plots  # with matplotlib

    folder = Path(folder)
    if missing := [key for key in _NEEDED if key not in run]:
        raise RunRecordError(f"the record of {folder} has no {', '.join(missing)}")
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
        plots.loss_curve(folder, run)
    card.write_card(folder, run)
    write_whole(folder / FILE, json.dumps(run, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_record(folder: Path | str) -> dict[str, Any]:
    """Reads a model folder's record.

    Raises:
        RunRecordError: There is none, or it cannot be read.
    """
    path = Path(folder) / FILE
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunRecordError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise RunRecordError(f"{path}: no JSON: {error}; copy the model folder again") from error
    if not isinstance(run, dict):
        raise RunRecordError(f"{path}: no JSON object; copy the model folder again")
    if run.get("form", FORM) != FORM:
        raise RunRecordError(
            f"{path}: its form is {run['form']!r}, known is {FORM}: it was written by another Meadow"
        )
    return run


def base_license(folder: Path) -> str | None:
    """The licence that a model's own card states: an identifier of the Hub, with `license_name` where it is ``other``.

    None where there is no card, or it states none: a licence is never guessed.
    """
    from meadow.describe.cards import frontmatter

    try:
        data = frontmatter.load(frontmatter.split((folder / "README.md").read_text(encoding="utf-8"))[0])
    except (OSError, ValueError):
        return None
    found = data.get("license")
    if found == "other" and isinstance(data.get("license_name"), str):
        return data["license_name"]
    return found if isinstance(found, str) and found not in ("unknown", "other") else None
