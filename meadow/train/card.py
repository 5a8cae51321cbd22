"""The model card, made from ``run.json``: every number in it is from there.

The card is a ``README.md`` as `meadow.describe.cards` makes them: generated blocks, sections of words that a person may
edit or delete, and whatever a person wrote between them. Writing it again replaces the blocks and its own YAML keys,
and keeps the rest.

A model's licence is not Meadow's to choose. The card's YAML says what follows from the licences of the rows that were
trained on and of the base model: one licence where all agree, else ``other``, with the reasons in the card.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic

from meadow.core import licenses
from meadow.core.licenses.judge import QUESTIONS, Verdict
from meadow.core.store import write_whole
from meadow.describe.cards.frontmatter import dump
from meadow.describe.cards.merge import make
from meadow.describe.cards.metadata import HUB_LICENSES, MODEL
from meadow.train import plots

FILE = "README.md"
_TAGS = ("medical", "meadow", "instruction-tuning", "not-for-clinical-use")
#: A model's name on the Hub: ``owner/name``, or a name alone.
_HUB_NAME = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}")
#: Words by which a card that peft or transformers wrote on its own is told from a person's.
_FOREIGN = (
    "<!-- Provide a quick summary of what the model is/does. -->",
    "This model card has been generated automatically",
)
#: Rows of the table of losses at most.
_LOSSES = 12
_TEMPLATE = Path(__file__).with_name("model_card.md.j2")
#: Settings of the machine that trained, which are nobody else's business.
_HIDDEN = ("model", "output", "out", "resume", "dry_run", "device")
_METHODS = {
    "full": "all weights",
    "lora": "LoRA adapters beside a base in 16 bits",
    "lora-8bit": "LoRA adapters beside a base in 8 bits (LLM.int8)",
    "qlora": "LoRA adapters beside a base in 4 bits (nf4)",
}


def write_card(folder: Path | str, run: Mapping[str, Any]) -> Path:
    """Writes the card of a model folder by its record, keeps what people wrote into it, and returns the file."""
    path = Path(folder) / FILE
    existing = path.read_text(encoding="utf-8-sig", errors="replace") if path.is_file() else None
    if existing and any(words in existing for words in _FOREIGN):
        existing = None
    write_whole(path, card_text(run, existing, title=path.parent.resolve().name))
    return path


def card_text(run: Mapping[str, Any], existing: str | None = None, *, title: str = "") -> str:
    """The text of a card by a run's record; hand edits of the `existing` one stay, a person's title among them."""
    template, verdict = run.get("template"), run.get("license_verdict") or {}
    counts: Counter[str] = Counter()
    for entry in run["data"]:
        counts.update(entry.get("licenses") or {})
    whole = all(name in verdict for name in QUESTIONS)
    context = {
        "run": run,
        "title": title,
        "base": {"name": "", "license": None, "fingerprint": "", **run["base_model"]},
        "merged": run.get("merged"),
        "prompt": template.get("name") if isinstance(template, Mapping) else template,
        "sample": any(entry.get("sample") for entry in run["data"]),
        "method": _method(run),
        "counts": {"truncated": 0, "refused": {}, "validation_rows": 0, **run["counts"]},
        "plot": plots.FILE,
        "hardware": _hardware(run.get("hardware") or {}),
        "used": run.get("settings") or {},
        "settings": _settings(run),
        "licenses": sorted(counts.items(), key=lambda item: (-item[1], item[0])),
        "licensed": counts.total(),
        "found": pydantic.TypeAdapter(Verdict).validate_python(verdict) if whole else None,
        "questions": QUESTIONS,
        **_trained(run),
    }
    return make(MODEL, _TEMPLATE, context, _metadata(run), existing)


def _metadata(run: Mapping[str, Any]) -> dict[str, Any]:
    merged, data = run.get("merged"), run["data"]
    adapters = run["method"] != "full" and not merged
    base = str(run["base_model"].get("name") or "")
    library = {"library_name": "peft" if adapters else "transformers", "pipeline_tag": "text-generation"}
    found: dict[str, Any] = {"language": ["en"], **model_license(run), **library}
    # A folder's name is the best that is known of a local model; the Hub refuses paths.
    if _HUB_NAME.fullmatch(base):
        found["base_model"] = base
        found["base_model_relation"] = "adapter" if adapters else "finetune"
    names = [str(entry["name"]) for entry in data if entry.get("version") and entry.get("name")]
    if names := list(dict.fromkeys(filter(_HUB_NAME.fullmatch, names))):
        found["datasets"] = names
    tags = [*_TAGS, "full-fine-tuning" if run["method"] == "full" else run["method"]]
    tags += ["merged"] if merged else []
    tags += ["sample-data"] if any(entry.get("sample") for entry in data) else []
    return {**found, "tags": tags}


def model_license(run: Mapping[str, Any]) -> dict[str, Any]:
    """The YAML keys of a model's licence.

    One licence where the base model's and those of all rows agree, rows that ask for nothing (CC0) aside; ``other``
    where they do not, one is unknown or unsettled (nobody can pass on what he has no leave for), or the verdict on the
    rows forbids something: what holds then stands in the card.
    """
    base = str(run["base_model"].get("license") or "").lower()
    known = {identifier.id.lower(): identifier.hub for identifier in licenses.KNOWN.values()}
    hub = {known.get(base, base)}
    for entry in run["data"]:
        for spdx, rows in (entry.get("licenses") or {}).items():
            found = licenses.License.of(spdx)
            if rows and not (found.open and found.attribution is False):
                hub.add(found.hub)
    verdict = run.get("license_verdict") or {}
    generators = "restricted" in str((verdict.get("training") or {}).get("answer"))
    if len(hub) == 1 and base and not generators and hub <= set(HUB_LICENSES) - {"other"}:
        return {"license": hub.pop()}
    return {"license": "other", "license_name": "mixed-see-card" if base else "base-unknown-see-card"}


def _method(run: Mapping[str, Any]) -> str:
    # Without a GPU a base is computed in float32.
    if run["method"] == "lora" and (run.get("hardware") or {}).get("dtype") == "float32":
        return _METHODS["lora"].replace("16 bits", "32 bits")
    return _METHODS.get(run["method"], str(run["method"]))


def _trained(run: Mapping[str, Any]) -> dict[str, Any]:
    """What came of the training: parameters and losses."""
    parameters, losses = run["parameters"], run["losses"]
    total, kept = parameters["total"], run.get("kept_step", run["steps"])
    last = []
    for key, name in (("loss", "training"), ("eval_loss", "validation")):
        values = [entry[key] for entry in losses if entry.get(key) is not None and entry["step"] <= kept]
        last += [f"{name} {values[-1]:.4f}"] if values else []
    shown = [entry for entry in losses if entry.get("eval_loss") is not None] or losses
    if len(shown) > _LOSSES:
        # Evenly, the first and last among them.
        shown = [shown[round(at * (len(shown) - 1) / (_LOSSES - 1))] for at in range(_LOSSES)]
    return {
        "parameters": parameters,
        "trained_share": f"{100 * parameters['trained'] / total:.3g} %" if total else "-",
        "kept": kept,
        "last": ", ".join(last),
        "losses": shown,
    }


def _hardware(hardware: Mapping[str, Any]) -> str:
    gpus = Counter(gpu.get("name") for gpu in hardware.get("gpus") or ())
    cpu = f"CPU: {hardware.get('processor') or hardware.get('system') or 'unknown'}"
    return ", ".join(f"{count} x {name}" for name, count in gpus.items()) or cpu


def _settings(run: Mapping[str, Any]) -> str:
    every = (run.get("settings") or {}).items()
    found = {key: value for key, value in every if key not in _HIDDEN and value not in (None, [], ())}
    if "data" in found:
        found["data"] = [Path(str(name)).name for name in found["data"]]
    return dump(found).rstrip("\n")
