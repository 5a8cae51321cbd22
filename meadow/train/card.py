"""The model card, made from ``run.json``: every number in it is from there.

The card is a ``README.md`` as `meadow.describe.cards` makes them: generated blocks, sections of words that a person may edit or
delete, and whatever a person wrote between them. Writing it again replaces the blocks and its own YAML keys,
and keeps the rest.

A model's licence is not Meadow's to choose. The card's YAML says what follows from the licences of the rows that were
trained on and of the base model: one licence where all agree, else ``other``, with the reasons in the card.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meadow.core import licenses
from meadow.describe.cards.dataset import verdict_lines
from meadow.describe.cards.frontmatter import dump
from meadow.describe.cards.hub import HUB_LICENSES
from meadow.describe.cards.markdown import fence, hexadecimal, share, table, text
from meadow.describe.cards.merge import assemble, sections
from meadow.describe.cards.metadata import MODEL
from meadow.train import plots

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
    import os

    path = Path(folder) / FILE
    if existing is None and path.is_file():
        existing = path.read_text(encoding="utf-8-sig", errors="replace")
    if existing and any(words in existing for words in _FOREIGN):
        existing = None
    title = title or Path(folder).resolve().name
    beside = path.with_name(f".{FILE}.new")
    with beside.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(card_text(run, existing, title=title))
    os.replace(beside, path)
    return path


def card_text(run: Mapping[str, Any], existing: str | None = None, *, title: str = "") -> str:
    """The text of a card.

    Args:
        run: The record.
        existing: The card that is there, whose hand edits are kept.
        title: What to call the model; a person's title in the card stays.
    """
    return assemble(MODEL, _body(run, title), _metadata(run), existing)


def _body(run: Mapping[str, Any], title: str) -> str:
    """The words with the blocks behind their sections."""
    blocks = _blocks(run)
    return "\n\n".join(
        "\n\n".join([
            content,
            *(
                f"<!-- meadow:begin {name} -->\n\n{made}\n\n<!-- meadow:end {name} -->"
                for name, made in blocks.get(section, {}).items()
            ),
        ])
        for section, content in sections(_words(run, title))
    )  # fmt: skip


# ---- YAML ----


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


# ---- words, which a person may change ----


def _words(run: Mapping[str, Any], title: str) -> str:
    base = text(run["base_model"].get("name") or "a language model")
    sample = ""
    if any(d.get("sample") for d in run["data"]):
        sample = (
            "\n\n**Trained on samples.** Some of its data are Meadow's small samples, which are there to try the "
            "programs with. This model has learned next to nothing from them.\n"
        )
    return f"""\
# {text(title) or base}

{base}, fine-tuned on medical instructions with Meadow. **Not for clinical use.**{sample}

## Lineage

What it was made from. The fingerprints tell whether a file that lies before you is the one that was used.

## Intended use

Research on language models in medicine: how training data change a model, how exams measure it, what it gets wrong.
It answers instructions in the form of the template it was trained with, which lies beside it in
`meadow_template.json`; other forms of prompt give worse answers.

## Limits

- **Not for clinical use.** It must not inform the diagnosis, treatment or triage of any person. Nobody has tested it for
  that; it is no medical device.
- It states wrong things fluently and with confidence, doses and contraindications among them, and it does not know
  when it does not know.
- Medicine moves on. What it learned is as old as its data and its base model's, and it cannot tell.
- Its data are English, in good part from the United States, and carry the gaps and biases of their sources.
- An exam's score says how often it picked the printed option; it says nothing about patients.
- What its base model read before is not known here, exam questions included.

## Training

What was trained on what, and how; all settings are in `run.json`.

## Licence and its consequences

Whether a model that was trained on texts is an adaptation of them is not settled. Whoever passes this model on must have
leave by the licence of the base model, and should read here what the terms of the rows ask. This is no legal advice.

## Reproduction

The same rows, settings and package versions on the same kind of hardware give the same model, up to rounding.
"""


# ---- blocks, which are written anew ----


def _blocks(run: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    return {
        "title": {"summary": _summary(run)},
        "lineage": {"lineage": _lineage(run), "data": _data(run)},
        "limits": {"exams": _exams(run)},
        "training": {"numbers": _numbers(run), "losses": _losses(run)},
        "licence-and-its-consequences": {"licences": _licences(run)},
        "reproduction": {"settings": _settings(run), "versions": _versions(run)},
    }


def _method(run: Mapping[str, Any]) -> str:
    words = _METHODS.get(run["method"], run["method"])
    # Without a GPU a base is computed in float32.
    whole = run["method"] == "lora" and (run.get("hardware") or {}).get("dtype") == "float32"
    return words.replace("16 bits", "32 bits") if whole else words


def _summary(run: Mapping[str, Any]) -> str:
    counts, parameters = run["counts"], run["parameters"]
    what = _method(run)
    lines = [
        "- **Not for clinical use**",
        f"- Trained: {text(what)}, {parameters['trained']:,} of {parameters['total']:,} parameters "
        f"({_percent(parameters['trained'], parameters['total'])})",
        f"- Rows: {counts['trained']:,} of {counts['rows']:,}, in {run['steps']:,} steps, {run['tokens_seen']:,} tokens",
    ]
    if merged := run.get("merged"):
        lines.append(
            f"- Merged: the adapter {text(merged['adapter'].get('name') or '')} is part of these weights ({text(merged.get('dtype') or '')}); "
            "no adapter has to be loaded"
        )
    kept = run.get("kept_step", run["steps"])
    if kept < run["steps"]:
        lines.append(f"- Kept: the weights of step {kept:,}, which had the lowest validation loss")
    last = _last(run, kept)
    lines += [f"- Last loss{' until then' if kept < run['steps'] else ''}: {last}"] if last else []
    return "\n".join(lines)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3g} %" if whole else "-"


def _last(run: Mapping[str, Any], kept: int) -> str:
    found = []
    for key, name in (("loss", "training"), ("eval_loss", "validation")):
        values = [e[key] for e in run["losses"] if e.get(key) is not None and e["step"] <= kept]
        found += [f"{name} {values[-1]:.4f}"] if values else []
    return ", ".join(found)


def _lineage(run: Mapping[str, Any]) -> str:
    base, merged = run["base_model"], run.get("merged")
    stated = (
        text(base["license"])
        if base.get("license")
        else "**not stated where the model lay; find it out before passing anything on**"
    )
    rows = [
        ["Base model", text(base.get("name") or "-"), f"`{hexadecimal(base.get('fingerprint') or '')}`"],
        ["Licence of the base model", stated, ""],
    ]
    if merged:
        adapter = merged["adapter"]
        rows.append(
            [
                "Adapter",
                text(adapter.get("name") or "-"),
                f"`{hexadecimal(adapter.get('fingerprint') or '')}`",
            ]
        )
    template = run.get("template") or {}
    name = template.get("name") if isinstance(template, Mapping) else template
    rows.append(["Prompt template", text(name or "-"), ""])
    rows.append(
        [
            "Trained by",
            text(f"Meadow {run.get('meadow_version') or ''}, {run.get('recipe') or 'meadow.train'}"),
            "",
        ]
    )
    return table(("What", "Which", "Fingerprint (SHA-256)"), rows, left=3)


def _data(run: Mapping[str, Any]) -> str:
    rows = []
    for entry in run["data"]:
        used = entry.get("trained_rows")
        rows.append(
            [
                text(entry.get("name") or "-"),
                text(entry.get("version") or "file"),
                "**sample**" if entry.get("sample") else "",
                f"{entry['rows']:,}" if entry.get("rows") is not None else "-",
                f"{used:,}" if used is not None else "-",
                f"`{hexadecimal(entry.get('ids_sha256') or '')}`",
            ]
        )
    shown = [
        "### Data",
        table(("Dataset", "Version", "", "Rows", "Trained on", "SHA-256 of the row ids"), rows, left=3),
    ]
    counts = run["counts"]
    notes = [f"- {counts['truncated']:,} rows were too long and were cut"] if counts.get("truncated") else []
    notes += [
        f"- {rows:,} rows left out: {text(reason)}" for reason, rows in (counts.get("refused") or {}).items()
    ]
    if counts.get("validation_rows"):
        notes.append(
            f"- {counts['validation_rows']:,} rows were held out for validation, whole groups of them"
        )
    return "\n\n".join([*shown, *(["\n".join(notes)] if notes else [])])


def _exams(run: Mapping[str, Any]) -> str:
    rows, incomplete = [], []
    for exam, found in (run.get("exam_hits") or {}).items():
        items = list(found.get("items") or ())
        named = ", ".join(map(text, items[:_ITEMS])) + (
            f" and {len(items) - _ITEMS} more" if len(items) > _ITEMS else ""
        )
        name = text(exam) + (" (sample)" if found.get("sample") else "")
        rows.append(
            [
                name,
                "yes" if found.get("complete", True) else "**in part**",
                named or "none",
                f"{found['checked']:,}",
                f"{len(items):,}",
            ]
        )
    shown = ["### Exam items in what it was trained on"]
    if rows:
        header = ("Exam", "All data compared", "Which", "Items", "Seen in training")
        shown.append(table(header, rows, left=3))
    else:
        shown.append(
            "**The data were not compared with any exam.** No score of this model can be called clean."
        )
    incomplete = [f"- {text(why)}" for why in run.get("unchecked") or ()]
    if incomplete:
        shown.append("**Not compared:**\n\n" + "\n".join(incomplete))
    return "\n\n".join(shown)


def _numbers(run: Mapping[str, Any]) -> str:
    settings, counts, hardware = run.get("settings") or {}, run["counts"], run.get("hardware") or {}
    rows = [
        ["Method", text(_method(run))],
        ["Preset", text(run.get("preset") or "-")],
    ]
    for key, name in (
        ("epochs", "Passes over the data"), ("learning_rate", "Learning rate"), ("scheduler", "Schedule"), ("batch_size", "Rows a step"),
        ("max_length", "Most tokens of a row"), ("lora_r", "Rank of the adapters"), ("lora_alpha", "Alpha"), ("lora_targets", "Adapters on"),
    ):  # fmt: skip
        value = settings.get(key)
        if value not in (None, "", [], ()) and not (run["method"] == "full" and key.startswith("lora")):
            rows.append(
                [
                    name,
                    text(
                        ", ".join(map(str, value))
                        if isinstance(value, (list, tuple))
                        else f"{value:g}"
                        if isinstance(value, float)
                        else value
                    ),
                ]
            )
    rows.append(["Loss on", "prompt and answer" if settings.get("train_on_inputs") else "the answers alone"])
    rows.append(["Steps", f"{run['steps']:,}"])
    rows.append(["Tokens computed", f"{run['tokens_seen']:,}"])
    if counts.get("tokens"):
        trained = f"{counts.get('trained_tokens', 0):,} ({share(counts.get('trained_tokens', 0), counts['tokens'])})"
        rows.append(["Tokens in one pass, and those with a loss", f"{counts['tokens']:,}; {trained}"])
    gpus = [gpu.get("name") for gpu in hardware.get("gpus") or ()]
    kinds = ", ".join(f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus))
    rows.append(
        [
            "Hardware",
            text(kinds or f"CPU: {hardware.get('processor') or hardware.get('system') or 'unknown'}"),
        ]
    )
    if run.get("seconds"):
        rows.append(["Time", _duration(run["seconds"])])
    return table(("What", "Value"), rows, left=2)


def _duration(seconds: float) -> str:
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 3600
        else f"{seconds / 60:.1f} min"
        if seconds >= 60
        else f"{seconds:.0f} s"
    )


def _losses(run: Mapping[str, Any]) -> str:
    losses = run["losses"]
    if not losses:
        return ""
    shown = [f"![Loss by step]({plots.FILE})"]
    held = [entry for entry in losses if entry.get("eval_loss") is not None]
    picked = _spread(held or losses)
    cells = [
        [f"{entry['step']:,}", _number(entry.get("loss")), _number(entry.get("eval_loss"))]
        for entry in picked
    ]
    return "\n\n".join([*shown, table(("Step", "Training loss", "Validation loss"), cells, left=0)])


def _spread(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Some of them, evenly, the first and last among them."""
    if len(entries) <= _LOSSES:
        return list(entries)
    return [entries[round(at * (len(entries) - 1) / (_LOSSES - 1))] for at in range(_LOSSES)]


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.4f}"


def _licences(run: Mapping[str, Any]) -> str:
    base = run["base_model"]
    stated = text(base["license"]) if base.get("license") else "not stated where it lay"
    shown = [f"The base model's licence: **{stated}**. It covers what this model has of it."]
    found: dict[str, int] = {}
    for entry in run["data"]:
        for spdx, rows in (entry.get("licenses") or {}).items():
            found[spdx] = found.get(spdx, 0) + rows
    if found:
        total = sum(found.values())
        rows = [
            [text(spdx), f"{count:,}", share(count, total)]
            for spdx, count in sorted(found.items(), key=lambda i: (-i[1], i[0]))
        ]
        shown += ["### Licences of the rows trained on", table(("Licence", "Rows", "Share"), rows)]
    verdict = run.get("license_verdict") or {}
    if all(isinstance(verdict.get(name), Mapping) for name in licenses.QUESTIONS):
        answers = {
            name: licenses.Answer(
                str(verdict[name].get("answer") or "-"), tuple(map(str, verdict[name].get("because") or ()))
            )
            for name in licenses.QUESTIONS
        }
        judged = licenses.Verdict(int(verdict.get("rows") or 0), **answers)
        shown += ["### What follows for the rows", verdict_lines(judged)]
    return "\n\n".join(shown)


def _settings(run: Mapping[str, Any]) -> str:
    # Paths are of the machine that trained, and nobody else's business.
    hidden = ("model", "output", "out", "resume", "dry_run", "device")
    found = {
        k: v for k, v in (run.get("settings") or {}).items() if k not in hidden and v not in (None, [], ())
    }
    if "data" in found:
        found["data"] = [Path(str(name)).name for name in found["data"]]
    return (
        "<details><summary>All settings</summary>\n\n"
        + fence(dump(found).rstrip("\n"), "yaml")
        + "\n\n</details>"
        if found
        else ""
    )


def _versions(run: Mapping[str, Any]) -> str:
    found = run.get("versions") or {}
    if not found:
        return ""
    return "Packages: " + ", ".join(f"{text(name)} {text(version)}" for name, version in found.items()) + "."
