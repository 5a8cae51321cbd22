"""The model card, made from ``run.json``: every number in it is from there.

The card is a ``README.md`` as `meadow.describe.cards` makes them: generated blocks, sections of words that a person may edit or
delete, and whatever a person wrote between them. Writing it again replaces the blocks and its own YAML keys,
and keeps the rest.

A model's licence is not Meadow's to choose. The card's YAML says what follows from the licences of the rows that were
trained on and of the base model: one licence where all agree, else ``other``, with the reasons in the card.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pydantic

from meadow.core import licenses
from meadow.describe.cards.frontmatter import dump
from meadow.describe.cards.hub import HUB_LICENSES
from meadow.describe.cards.markdown import share
from meadow.describe.cards.merge import make
from meadow.describe.cards.metadata import MODEL
from meadow.train import plots
from meadow.train.folder import write_whole

__all__ = ["FILE", "card_text", "model_license", "write_card"]

FILE = "README.md"
_TAGS = ("medical", "meadow", "instruction-tuning", "not-for-clinical-use")
#: A model's name on the Hub: ``owner/name``, or a name alone.
_HUB_NAME = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}")
#: Words by which a card that peft or transformers wrote on its own is told from a person's.
_FOREIGN = (
    "<!-- Provide a quick summary of what the model is/does. -->",
    "This model card has been generated automatically",
)
#: Rows of the table of losses, at most.
_LOSSES = 12
#: Exam items that a card names, at most.
_ITEMS = 20
_TEMPLATE = Path(__file__).with_name("model_card.md.j2")
#: Settings that the card's table shows, and what it calls them.
_SETTINGS = {
    "epochs": "Passes over the data",
    "learning_rate": "Learning rate",
    "scheduler": "Schedule",
    "batch_size": "Rows a step",
    "max_length": "Most tokens of a row",
    "lora_r": "Rank of the adapters",
    "lora_alpha": "Alpha",
    "lora_targets": "Adapters on",
}
_METHODS = {
    "full": "all weights",
    "lora": "LoRA adapters beside a base in 16 bits",
    "lora-8bit": "LoRA adapters beside a base in 8 bits (LLM.int8)",
    "qlora": "LoRA adapters beside a base in 4 bits (nf4)",
}


def write_card(
    folder: Path | str, run: Mapping[str, Any], *, existing: str | None = None, title: str | None = None
) -> Path:
    """Writes the card of a model folder, and keeps what people wrote into the one that is there.

    Args:
        folder: The folder.
        run: The record; see `meadow.train.record`.
        existing: The card to merge with; None for the folder's own.
        title: What to call the model; None for the folder's name.

    Returns:
        The file.
    """
    path = Path(folder) / FILE
    if existing is None and path.is_file():
        existing = path.read_text(encoding="utf-8-sig", errors="replace")
    if existing and any(words in existing for words in _FOREIGN):
        existing = None
    write_whole(path, card_text(run, existing, title=title or path.parent.resolve().name))
    return path


def card_text(run: Mapping[str, Any], existing: str | None = None, *, title: str = "") -> str:
    """The text of a card.

    Args:
        run: The record.
        existing: The card that is there, whose hand edits are kept.
        title: What to call the model; a person's title in the card stays.
    """
    context = {
        "run": run,
        "title": title,
        "base": {"name": "", "license": None, "fingerprint": "", **run["base_model"]},
        "merged": run.get("merged"),
        "prompt": _name(run.get("template")),
        "sample": any(entry.get("sample") for entry in run["data"]),
        "method": _method(run),
        "counts": {"truncated": 0, "refused": {}, "validation_rows": 0, **run["counts"]},
        "named": _ITEMS,
        "plot": plots.FILE,
        "numbers": [(name, value) for name, value in _numbers(run) if value],
        "settings": _settings(run),
        **_trained(run),
        **_licenses(run),
    }
    return make(MODEL, _TEMPLATE, context, _metadata(run), existing)


def _metadata(run: Mapping[str, Any]) -> dict[str, Any]:
    merged = run.get("merged")
    adapters = run["method"] != "full" and not merged
    base = str(run["base_model"].get("name") or "")
    found: dict[str, Any] = {"language": ["en"], **model_license(run)}
    found["library_name"] = "peft" if adapters else "transformers"
    found["pipeline_tag"] = "text-generation"
    # A folder's name is the best that is known of a local model; the Hub refuses paths.
    if _HUB_NAME.fullmatch(base):
        found["base_model"] = base
        found["base_model_relation"] = "adapter" if adapters else "finetune"
    names = [
        d["name"] for d in run["data"] if d.get("version") and _HUB_NAME.fullmatch(str(d.get("name") or ""))
    ]
    if names:
        found["datasets"] = list(dict.fromkeys(names))
    tags = [*_TAGS, "full-fine-tuning" if run["method"] == "full" else run["method"]]
    tags += ["merged"] if merged else []
    tags += ["sample-data"] if any(d.get("sample") for d in run["data"]) else []
    found["tags"] = tags
    return found


def model_license(run: Mapping[str, Any]) -> dict[str, Any]:
    """The YAML keys of a model's licence.

    One licence where the base model's and those of all rows agree, rows that ask for nothing (CC0) aside. Where they
    do not, or one of them is unknown or unsettled, or the verdict on the rows forbids something, it is ``other``:
    what holds then stands in the card. A base model whose licence is not known makes it unknown, for nobody can pass
    on what he has no leave for.
    """
    hub: set[str] = set()
    base = run["base_model"].get("license")
    known = {identifier.id.lower(): identifier.hub for identifier in licenses.KNOWN.values()}
    if base:
        hub.add(known.get(str(base).lower(), str(base).lower()))
    for entry in run["data"]:
        for spdx, rows in (entry.get("licenses") or {}).items():
            found = licenses.License.of(spdx)
            if rows and not (found.open and found.attribution is False):
                hub.add(found.hub)
    verdict = run.get("license_verdict") or {}
    generators = "restricted" in str((verdict.get("training") or {}).get("answer"))
    one = next(iter(hub)) if len(hub) == 1 else None
    if one in HUB_LICENSES and one != "other" and base and not generators:
        return {"license": one}
    return {"license": "other", "license_name": "mixed-see-card" if base else "base-unknown-see-card"}


def _name(template: Any) -> Any:
    return template.get("name") if isinstance(template, Mapping) else template


def _method(run: Mapping[str, Any]) -> str:
    words = _METHODS.get(run["method"], str(run["method"]))
    # Without a GPU a base is computed in float32.
    whole = run["method"] == "lora" and (run.get("hardware") or {}).get("dtype") == "float32"
    return words.replace("16 bits", "32 bits") if whole else words


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
        "losses": [
            {"step": entry["step"], **{key: _four(entry.get(key)) for key in ("loss", "eval_loss")}}
            for entry in shown
        ],
    }


def _four(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _numbers(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The table of numbers; what is empty is left out."""
    settings, counts, hardware = run.get("settings") or {}, run["counts"], run.get("hardware") or {}
    yield "Method", _method(run)
    yield "Preset", str(run.get("preset") or "-")
    for key, name in _SETTINGS.items():
        value = settings.get(key)
        if value is None or (run["method"] == "full" and key.startswith("lora")):
            continue
        if isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value))
        yield name, f"{value:g}" if isinstance(value, float) else str(value)
    yield "Loss on", "prompt and answer" if settings.get("train_on_inputs") else "the answers alone"
    yield "Steps", f"{run['steps']:,}"
    yield "Tokens computed", f"{run['tokens_seen']:,}"
    if tokens := counts.get("tokens"):
        trained = counts.get("trained_tokens", 0)
        yield (
            "Tokens in one pass, and those with a loss",
            f"{tokens:,}; {trained:,} ({share(trained, tokens)})",
        )
    gpus = Counter(gpu.get("name") for gpu in hardware.get("gpus") or ())
    cpu = f"CPU: {hardware.get('processor') or hardware.get('system') or 'unknown'}"
    yield "Hardware", ", ".join(f"{count} x {name}" for name, count in gpus.items()) or cpu
    seconds = run.get("seconds") or 0
    for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= size or (seconds and unit == "s"):
            yield "Time", f"{seconds / size:.{0 if unit == 's' else 1}f} {unit}"
            break


def _licenses(run: Mapping[str, Any]) -> dict[str, Any]:
    """Rows trained on per licence, and what follows from them."""
    counts: Counter[str] = Counter()
    for entry in run["data"]:
        counts.update(entry.get("licenses") or {})
    verdict = run.get("license_verdict") or {}
    whole = all(name in verdict for name in licenses.QUESTIONS)
    return {
        "licenses": sorted(counts.items(), key=lambda item: (-item[1], item[0])),
        "licensed": counts.total(),
        "found": pydantic.TypeAdapter(licenses.Verdict).validate_python(verdict) if whole else None,
        "questions": licenses.QUESTIONS,
    }


def _settings(run: Mapping[str, Any]) -> str:
    # Paths are of the machine that trained, and nobody else's business.
    hidden = ("model", "output", "out", "resume", "dry_run", "device")
    found = {
        key: value
        for key, value in (run.get("settings") or {}).items()
        if key not in hidden and value not in (None, [], ())
    }
    if "data" in found:
        found["data"] = [Path(str(name)).name for name in found["data"]]
    return dump(found).rstrip("\n")
