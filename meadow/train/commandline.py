"""The recipes' command line: a preset's values, then a YAML file's, then those that are given, all checked at once."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

import pydantic

from meadow.core import yamlfile
from meadow.train.checks import contradictions
from meadow.train.settings import COMMAND_LINE, PRESETS, TrainSettings, TrainSettingsError, choices

#: The settings that may be given; the size is the recipe's.
FIELDS = {name: field for name, field in TrainSettings.model_fields.items() if name != "size"}
_SWITCHES = [name for name, field in FIELDS.items() if field.annotation is bool]
_LISTS = ["config", *(name for name, field in FIELDS.items() if "tuple" in str(field.annotation))]


def parse(argv: Sequence[str], *, size: str, recipe: str = "") -> TrainSettings:
    """Reads and checks settings.

    Args:
        argv: ``--key value`` pairs, as ``--help`` lists them; ``--config FILE.yaml`` names a file of the same keys.
        size: The model's size, for presets.
        recipe: The script, for ``--help``.

    Raises:
        TrainSettingsError: With all that is wrong.
        SystemExit: ``--help`` was asked for, and printed.
    """
    problems: list[str] = []
    words = _words(argv, problems)
    if "help" in words:
        print(help_text(recipe, size))
        raise SystemExit(0)
    given: dict[str, Any] = {}
    origin: dict[str, str] = {}
    files = {path: _file(path, problems) for path in words.pop("config", ())}
    for where, values in [*files.items(), (COMMAND_LINE, words)]:
        given |= values
        origin |= dict.fromkeys(values, where)
    if "size" in given:
        del given["size"]
        problems.append(f"size ({origin['size']}): the recipe says it; run finetune_7b.py or finetune_13b.py")
    # A value that is wrong counts as given: it is neither missing nor does it contradict another one.
    wrong = set()
    for each in _errors(given):
        key = str(each["loc"][0])
        if key not in FIELDS:
            near = get_close_matches(key, FIELDS, 1, 0.6)
            hint = f"did you mean {near[0]}?" if near else "--help lists those there are"
            problems.append(f"{key} ({origin[key]}) is no setting; {hint}")
        elif key not in wrong:
            problems.append(f"{key} ({origin[key]}): {yamlfile.words(each, TrainSettings)}")
        wrong.add(key)
    sound = {key: value for key, value in given.items() if key not in wrong}
    chosen = TrainSettings.model_validate({**sound, "size": size})
    explicit = {key: getattr(chosen, key) for key in sound}
    settings = TrainSettings.model_validate(_completed(chosen, explicit))
    settings._given.update({key: origin[key] for key in explicit})
    problems += contradictions(settings, explicit, wrong)
    if problems:
        raise TrainSettingsError(*problems)
    return settings


def _errors(values: Mapping[str, Any]) -> list[Any]:
    try:
        TrainSettings.model_validate(values)
    except pydantic.ValidationError as error:
        return list(error.errors(include_url=False))
    return []


def _completed(chosen: TrainSettings, explicit: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, what the preset sets, and what follows from both."""
    base = {key: c.value for key, c in choices(chosen.preset, chosen.method, chosen.size).items()}
    found = {"preset": chosen.preset, "size": chosen.size, **base, **explicit}
    follows: dict[str, Any] = {
        "per_device_batch_size": min(found["per_device_batch_size"], found["batch_size"])
    }
    if explicit.get("max_steps") is not None:
        follows["epochs"] = None
    # A block of the preset's own length is no contradiction to packing that was turned off.
    if found["packing"] != "packed":
        follows["pack_length"] = None
    elif found.get("pack_length"):
        follows["pack_length"] = max(found["pack_length"], found["max_length"])
    if not found["validation"]:
        follows["eval_steps"] = None
    if explicit.get("early_stopping"):
        follows["save_steps"] = found["eval_steps"] or found["save_steps"]
    return {**found, **follows, **explicit}


def _words(argv: Sequence[str], problems: list[str]) -> dict[str, Any]:
    """The keys of a command line with their texts, or lists of texts; unknown ones among them."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("-h", "--help", action="append_const", const=["yes"])
    for name in ("config", *FIELDS):
        parser.add_argument(*_flags(name), dest=name, nargs="*", action="append")
    for name in _SWITCHES:
        parser.add_argument(*_flags(f"no_{name}"), dest=name, action="append_const", const=["false"])
    uses, rest = parser.parse_known_args(argv)
    found: dict[str, Any] = {}
    for name, lists in vars(uses).items():
        flag, words = _flags(name)[0], lists[-1] or (["true"] if name in _SWITCHES else [])
        if not words:
            problems.append(f"{flag} names no file" if name == "config" else f"{flag} has no value")
        if name in _LISTS:
            found[name] = [word for each in lists for word in each]
            continue
        if len(words) > 1:
            problems.append(f"{flag} has {len(words)} values ({' '.join(words)}) and takes one")
        if len(lists) > 1:
            problems.append(f"{flag} is given twice")
        found[name] = words[0] if words else None
    found = {name: value for name, value in found.items() if value not in (None, [])}
    unknown = False
    for word in rest:
        if word.startswith("--") and word != "--":
            unknown = True
            found[word[2:].partition("=")[0].replace("-", "_")] = word
        elif not unknown:  # else it is the value of one
            problems.append(f"{word!r} belongs to no setting; settings are given as --key value")
    return found


def _flags(name: str) -> list[str]:
    return list(dict.fromkeys([f"--{name.replace('_', '-')}", f"--{name}"]))


def _file(path: str, problems: list[str]) -> dict[str, Any]:
    try:
        found = yamlfile.decode(path)
    except yamlfile.FileMistakesError as error:
        problems += [f"--config {path}: {mistake}" for mistake in error.mistakes]
        return {}
    if not isinstance(found, dict):
        problems.append(f"--config {path}: holds no settings; write lines of `key: value`")
        return {}
    return {str(key).replace("-", "_"): value for key, value in found.items()}


def help_text(recipe: str, size: str) -> str:
    """What ``--help`` prints."""
    lines = [
        f"usage: python recipes/{recipe} --model DIR --data NAME [NAME...] --output DIR "
        "[--config FILE.yaml] [--key value...]",
        "",
        "Fine-tunes a LLaMA-type model. Values come from the preset, then from --config, then from the command line.",
        "",
    ]
    for name, field in FIELDS.items():
        among = get_args(field.annotation) if "Literal" in str(field.annotation) else ()
        lines.append(f"  {_flags(name)[0]}")
        lines.append(f"      {field.description}" + (f" ({', '.join(among)})" if among else ""))
        values = []
        for preset in PRESETS:
            low, whole = (choices(preset, method, size).get(name) for method in ("lora", "full"))
            if low and whole and low.value != whole.value:
                values.append(f"{preset}: {_shown(low.value)} with adapters, {_shown(whole.value)} in full")
            elif one := low or whole:
                values.append(f"{preset}: {_shown(one.value)}")
        if not values and field.default not in (None, "", ()):
            values.append(_shown(field.default))
        if values:
            lines.append(f"      [{'; '.join(values)}]")
    lines += ["", "`--dry-run` prints every value with its source or reason, and trains nothing."]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, float) and 0 < abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    if isinstance(value, (bool, tuple)):
        return str(value).lower() if isinstance(value, bool) else " ".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
