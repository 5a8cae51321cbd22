"""The recipes' command line: a preset's values, then a YAML file's, then those given; all mistakes are told at once."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pydantic

from meadow import models
from meadow.core import yamlfile
from meadow.core.errors import Error
from meadow.models import prompts
from meadow.train.settings import (
    COMMAND_LINE,
    FILES,
    PRESETS,
    TINY,
    TrainSettings,
    TrainSettingsError,
    choices,
    world_size,
)

#: The settings that may be given; the size is the recipe's.
FIELDS = {name: field for name, field in TrainSettings.model_fields.items() if name != "size"}
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(@\d+(\.\d+){0,2})?")
_SWITCHES = [name for name, field in FIELDS.items() if field.annotation is bool]
_LISTS = ["config", *(name for name, field in FIELDS.items() if "tuple" in str(field.annotation))]


def command(
    run: Callable[[TrainSettings], None], argv: Sequence[str] | None, *, size: str, recipe: str
) -> int:
    """Calls a recipe's `run` with the settings of a command line.

    Returns 0; 1 where the run failed, 2 where the settings are wrong, each with a message on standard error.
    """
    # Before any heavy import: nothing is sent anywhere, and nothing is looked up.
    models.offline()
    try:
        run(parse(sys.argv[1:] if argv is None else argv, size=size, recipe=recipe))
    except Error as error:
        message, code = str(error), 2 if isinstance(error, TrainSettingsError) else 1
    except KeyboardInterrupt:
        message, code = "interrupted; the same command goes on from the last checkpoint", 130
    else:
        return 0
    print(f"error: {message}", file=sys.stderr, flush=True)
    return code


def parse(argv: Sequence[str], *, size: str, recipe: str = "") -> TrainSettings:
    """Reads and checks settings: ``--key value`` pairs, and ``--config FILE.yaml``, a file of the same keys.

    Of the `recipe`, a script, ``--help`` speaks; its model's `size` is for presets. Raises a TrainSettingsError with
    all that is wrong, and SystemExit where ``--help`` was asked for.
    """
    problems: list[str] = []
    words = _words(argv, problems)
    if "help" in words:
        print(help_text(recipe, size))
        raise SystemExit(0)
    files = {path: _file(path, problems) for path in words.pop("config", ())} | {COMMAND_LINE: words}
    given = {key: value for values in files.values() for key, value in values.items()}
    origin = {key: where for where, values in files.items() for key in values}
    if "size" in given:
        del given["size"]
        problems.append(f"size ({origin['size']}): the recipe says it; run finetune_7b.py or finetune_13b.py")
    # A value that is wrong counts as given: it is neither missing nor does it contradict another one.
    wrong: set[str] = set()
    mistakes: list[Any] = []
    try:
        TrainSettings.model_validate(given)
    except pydantic.ValidationError as error:
        mistakes += error.errors(include_url=False)
    for each in mistakes:
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
    problems += [*_places(settings, wrong), *_contradictions(settings, explicit)]
    if problems:
        raise TrainSettingsError(*problems)
    return settings


def _completed(chosen: TrainSettings, explicit: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, what the preset sets, and what follows from both."""
    base = {key: c.value for key, c in choices(chosen.preset, chosen.method, chosen.size).items()}
    found = {"preset": chosen.preset, "size": chosen.size, **base, **explicit}
    follows = {"per_device_batch_size": min(found["per_device_batch_size"], found["batch_size"])}
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


def _contradictions(s: TrainSettings, given: Mapping[str, Any]) -> Iterator[str]:
    """What contradicts something else; `given` is what does not only follow from a preset."""
    try:
        prompts.get(s.template)
    except prompts.PromptError as error:
        yield f"template: {error}"
    if not s.adapters and (lora := [key for key in given if key.startswith("lora_")]):
        yield f"{', '.join(lora)}: method full trains all weights and has no adapters; choose --method lora or leave them out"
    if given.get("max_steps") is not None and given.get("epochs") is not None:
        yield "epochs and max_steps both say when to stop; give one of them"
    if s.max_steps is None and s.epochs is None:
        yield "epochs is none and max_steps is not given: nothing says when to stop"
    if s.packing != "packed" and given.get("pack_length") is not None:
        yield f"pack_length is for packed blocks, and packing is {s.packing}; choose --packing packed or leave it out"
    if s.packing == "packed" and s.block < s.max_length:
        yield f"pack_length {s.block} is below max_length {s.max_length}: the longest rows fit no block"
    if s.per_device_batch_size > s.batch_size:
        yield (
            f"per_device_batch_size {s.per_device_batch_size} is more than batch_size {s.batch_size}, the rows of a "
            "whole step; make it smaller"
        )
    if s.early_stopping and not s.validation:
        yield "early_stopping looks at validation rows, and validation is 0"
    elif s.early_stopping and s.eval_steps is None:
        yield "early_stopping needs eval_steps"
    elif s.early_stopping and s.save_steps != s.eval_steps:
        yield (
            f"early_stopping keeps the best weights, which must have been saved: save_steps ({s.save_steps}) must be "
            f"eval_steps ({s.eval_steps}); leave save_steps out"
        )
    if not s.validation and given.get("eval_steps") is not None:
        yield "eval_steps says when to look at validation rows, and validation is 0"
    if s.sharding == "fsdp" and s.adapters:
        yield f"sharding fsdp is for method full; {s.method} runs on many GPUs with a copy of the base on each"
    if s.sharding == "fsdp" and s.device == "cpu":
        yield "sharding fsdp needs GPUs: on CPUs the libraries would train with DDP instead, without a word"
    if s.dtype == "float16" and s.device == "cpu":
        yield "dtype float16 does not train on a CPU; use float32 or bfloat16"
    if s.warmup_steps > 1 and s.warmup_steps != int(s.warmup_steps):
        yield f"warmup_steps {s.warmup_steps} is neither a number of steps nor a share below 1"
    if "all-linear" in s.lora_targets and len(s.lora_targets) > 1:
        yield "lora_targets: all-linear stands alone"
    if s.tensorboard and find_spec("tensorboard") is None:
        yield "tensorboard is not installed; `pip install tensorboard`, or leave it out"
    if s.batch_size < (world := world_size()):
        yield (
            f"batch_size {s.batch_size} cannot be shared by {world} processes, of which each needs a row; nearest that "
            f"fit: batch_size {world}, or {s.batch_size} processes"
        )


def _places(s: TrainSettings, wrong: Collection[str]) -> Iterator[str]:
    """What is wrong with the model, the output and the data."""
    if s.model not in ("", TINY):
        yield from _model(s.model)
    missing = {
        "model": not s.model and "name a model folder by --model, or `--model tiny` to try the recipe",
        "output": s.output is None and not s.dry_run and "name a folder for the trained model by --output",
        "data": not s.data and "name datasets or files by --data",
    }
    yield from (f"{key} is missing; {what}" for key, what in missing.items() if what and key not in wrong)
    if s.output is not None:
        if s.output.exists() and not s.output.is_dir():
            yield f"output {s.output} is a file; name a folder"
        if s.model not in ("", TINY) and s.output.resolve() == Path(s.model).expanduser().resolve():
            yield f"output and model are the same folder, {s.output}: the model would be overwritten"
    for name in s.data:
        if name.endswith(FILES):
            if not Path(name).expanduser().is_file():
                yield f"data {name}: there is no such file"
        elif "/" in name or os.sep in name:
            yield f"data {name}: files end in {', '.join(FILES)}; datasets are given by name"
        elif not _NAME.fullmatch(name):
            yield f"data {name!r} is no name of a dataset; write NAME, NAME@1.0.0, or the path of a file"
    if twice := sorted({name for name in s.data if s.data.count(name) > 1}):
        yield f"data names the same twice: {', '.join(twice)}"


def _model(name: str) -> Iterator[str]:
    folder = Path(name).expanduser()
    if not folder.exists():
        looks = re.fullmatch(r"[\w.-]+/[\w.-]+", name)
        hint = "; nothing is downloaded: fetch the model first and name its folder" if looks else ""
        yield f"model {name} is no folder on this machine{hint}"
    elif not folder.is_dir():
        yield f"model {name} is a file; name the folder that holds config.json, tokenizer and weights"
    elif (folder / "adapter_config.json").is_file():
        yield f"model {name} is an adapter; merge it into its base first (python recipes/merge.py) and name that folder"


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
        "[--config FILE.yaml] [--key value...]\n\n"
        "Fine-tunes a LLaMA-type model. Values come from the preset, then from --config, then from the command line.\n"
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
    if isinstance(value, float):
        return f"{value:.0e}".replace("e-0", "e-") if 0 < abs(value) < 1e-3 else f"{value:g}"
    if isinstance(value, tuple):
        return " ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
