"""Settings of a training run: read from a YAML file and the command line, checked all at once.

Nothing here imports torch: a mistake is told before anything is loaded, and all mistakes together.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from meadow.train.presets import ADAPTERS, METHODS, PRESETS, SIZES, choices

#: A small random LLaMA that the run makes for itself.
TINY = "tiny"
FILES = (".json", ".jsonl", ".parquet")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(@\d+(\.\d+){0,2})?")


class SettingsError(Exception):
    """Settings that cannot be used.

    Attributes:
        problems: All that is wrong with them, a sentence each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        many = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"{many} in the settings:\n" + "\n".join(f"  - {text}" for text in self.problems))


class _Help(Exception):  # noqa: N818 - asked for, no fault
    pass


def _field(text: str, default: Any = None, **meta: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, **meta})


@dataclass(frozen=True)
class Settings:
    """What a training run does. `parse` makes it; `dataclasses.replace` changes it.

    The values here are those of no preset; see `meadow.train.presets`.
    """

    model: str = _field("folder of the model to start from, or `tiny`", "")
    output: Path | None = _field("folder for the trained model", kind="path")
    data: tuple[str, ...] = _field(
        "datasets (`wikidoc`, `wikidoc@1.0.0`) and files (.json, .jsonl, .parquet)", (), kind="list"
    )
    method: str = _field("what is trained", "lora", among=METHODS)
    preset: str = _field("where the other values come from", "paper", among=tuple(PRESETS))
    size: str = _field("the model's size, for presets", "7b", among=SIZES, fixed=True)
    out: Path | None = _field("Meadow's output folder; else $MEADOW_OUT or the user's cache", kind="path")
    template: str = _field(
        "prompt template: medalpaca, alpaca, chat (the model's own), plain, or a .json file", "medalpaca"
    )
    max_length: int = _field("most tokens of a row; of a longer one the input is cut first", 1024, least=8)
    packing: str = _field(
        "packed: many rows in a block, isolated; length: rows of like length together; none",
        "length",
        among=("packed", "length", "none"),
    )
    pack_length: int | None = _field("tokens of a packed block; else max_length", None, least=8, kind="int?")
    train_on_inputs: bool = _field("loss on prompt and answer, not on the answer alone", False)
    epochs: float | None = _field("times that every row is trained on", 3.0, above=0, kind="float?")
    max_steps: int | None = _field("stop after so many steps instead", None, least=1, kind="int?")
    learning_rate: float = _field("highest learning rate", 2e-5, above=0, most=1.0)
    scheduler: str = _field("how the learning rate falls", "cosine", among=("cosine", "linear", "constant"))
    warmup_steps: float = _field(
        "steps in which the learning rate rises; below 1: a share of all", 100, least=0
    )
    weight_decay: float = _field("weight decay of AdamW", 0.0, least=0, most=1.0)
    max_grad_norm: float = _field("gradients are clipped to this norm; 0: not", 1.0, least=0)
    batch_size: int = _field(
        "rows of a step, over all processes and accumulation: exactly so many", 128, least=1
    )
    per_device_batch_size: int = _field("rows (packed: blocks) that a device computes at once", 2, least=1)
    lora_r: int | None = _field("rank of the adapters", None, least=1, kind="int?")
    lora_alpha: float | None = _field("scale of the adapters", None, above=0, kind="float?")
    lora_dropout: float | None = _field(
        "dropout before the adapters", None, least=0, most=0.99, kind="float?"
    )
    lora_targets: tuple[str, ...] = _field("modules that get adapters, or all-linear", (), kind="list")
    seed: int = _field("seed of row order, adapters and dropout", 42, least=0)
    validation: float = _field(
        "share of groups held out where a dataset has no validation split; 0: no validation at all",
        0.1,
        least=0,
        most=0.9,
    )
    eval_steps: int | None = _field(
        "steps between two looks at the validation rows", 200, least=1, kind="int?"
    )
    early_stopping: int | None = _field(
        "stop after so many looks without a lower loss; the best weights are kept", None, least=1, kind="int?"
    )
    save_steps: int = _field("steps between two checkpoints", 200, least=1)
    keep_checkpoints: bool = _field("keep checkpoints after the run", False)
    activation_checkpointing: bool = _field("compute activations twice, to hold fewer", True)
    dtype: str = _field("of computation", "auto", among=("auto", "bfloat16", "float16", "float32"))
    tf32: bool = _field("TF32 for what is left in float32 on a GPU", True)
    device: str = _field("cpu: do not use a GPU", "auto", among=("auto", "cpu"))
    sharding: str = _field(
        "fsdp: FSDP2 over all processes; auto: for full fine-tuning on several GPUs",
        "auto",
        among=("auto", "none", "fsdp"),
    )
    resume: str = _field(
        "auto: go on from the last checkpoint in the output; no: begin anew", "auto", among=("auto", "no")
    )
    dry_run: bool = _field("print tokens, steps, trained parameters and memory; train nothing", False)
    tensorboard: bool = _field("write TensorBoard files into the output", False)
    allow_pickle: bool = _field("load weights that are pickled, which can run any code", False)

    @property
    def quantization(self) -> str | None:
        """What the base is loaded in: ``8bit``, ``4bit``, or None."""
        return {"lora-8bit": "8bit", "qlora": "4bit"}.get(self.method)

    @property
    def adapters(self) -> bool:
        """Whether adapters are trained, not the model itself."""
        return self.method in ADAPTERS

    @property
    def block(self) -> int:
        """Tokens of a packed block."""
        return self.pack_length or self.max_length

    def described(self) -> dict[str, Any]:
        """The settings for JSON and YAML."""
        found = dataclasses.asdict(self)
        return {
            key: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
            for key, value in found.items()
        }


FIELDS: Mapping[str, dataclasses.Field] = {field.name: field for field in dataclasses.fields(Settings)}
#: What decides the numbers of a run: a checkpoint goes on only under the same. The rest says where and how.
IDENTITY = (
    "method", "template", "max_length", "packing", "train_on_inputs", "epochs", "max_steps", "learning_rate", "scheduler",
    "warmup_steps", "weight_decay", "max_grad_norm", "batch_size", "lora_r", "lora_alpha", "lora_dropout",
    "lora_targets", "seed", "validation", "dtype",
)  # fmt: skip


def parse(argv: Sequence[str], *, size: str, preset: str = "paper", recipe: str = "") -> Settings:
    """Reads and checks settings: a preset's, then a file's, then the command line's.

    Args:
        argv: ``--key value`` pairs, as `help_text` lists them; ``--config FILE.yaml`` names a file of the same keys.
        size: The model's size, for presets.
        preset: The preset where none is named.
        recipe: The command, for ``--help``.

    Raises:
        SettingsError: With all that is wrong.
        SystemExit: ``--help`` was asked for, and printed.
    """
    problems: list[str] = []
    try:
        given, config = _words(argv, problems)
    except _Help:
        print(help_text(recipe, size))
        raise SystemExit(0) from None
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for path in config:
        for key, value in _file(path, problems).items():
            values[key], origin[key] = value, str(path)
    for key, value in given.items():
        values[key], origin[key] = value, "the command line"
    clean = {}
    for key, value in values.items():
        name = _known(key, origin[key], problems)
        if name is None:
            continue
        try:
            clean[name] = _value(name, value)
        except ValueError as error:
            problems.append(f"{name} ({origin[key]}): {error}")
            clean.setdefault(name, None)
    wrong = {name for name, value in clean.items() if value is None and FIELDS[name].default is not None}
    chosen = {"preset": preset, "method": FIELDS["method"].default}
    chosen.update({k: clean[k] for k in chosen if clean.get(k) is not None})
    base = {key: c.value for key, c in choices(chosen["preset"], chosen["method"], size).items()}
    explicit = {key: value for key, value in clean.items() if key not in wrong}
    merged = {"preset": preset, "size": size, **base, **explicit}
    if explicit.get("max_steps") is not None and "epochs" not in explicit:
        merged["epochs"] = None
    # A block of the preset's own length is no contradiction to packing that was turned off.
    if merged.get("packing") != "packed" and "pack_length" not in explicit:
        merged["pack_length"] = None
    if merged.get("pack_length") and "pack_length" not in explicit:
        merged["pack_length"] = max(merged["pack_length"], merged["max_length"])
    if not merged.get("validation", 0.1) and "eval_steps" not in explicit:
        merged["eval_steps"] = None
    if explicit.get("early_stopping") and "save_steps" not in explicit:
        merged["save_steps"] = merged.get("eval_steps") or merged["save_steps"]
    if "per_device_batch_size" not in explicit:
        merged["per_device_batch_size"] = min(merged["per_device_batch_size"], merged["batch_size"])
    settings = Settings(**merged)
    problems += list(_contradictions(settings, explicit, wrong))
    if problems:
        raise SettingsError(problems)
    return settings


def _words(argv: Sequence[str], problems: list[str]) -> tuple[dict[str, Any], list[Path]]:
    """Splits a command line into keys with texts or lists of texts, and the files it names."""
    given: dict[str, Any] = {}
    config: list[Path] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if word in ("-h", "--help"):
            raise _Help
        if not word.startswith("--") or word == "--":
            problems.append(f"{word!r} belongs to no setting; settings are given as --key value")
            continue
        key, equals, value = word[2:].partition("=")
        name = key.replace("-", "_")
        found = [value] if equals else []
        while not equals and words and not re.match(r"--[A-Za-z]", words[0]) and words[0] != "-h":
            found.append(words.pop(0))
        if name == "config":
            config += [Path(text) for text in found]
            if not found:
                problems.append("--config names no file")
            continue
        positive = name.removeprefix("no_")
        if name not in FIELDS and positive in FIELDS and _kind(positive) == "bool":
            name, found = positive, found or ["false"]
            if found != ["false"]:
                problems.append(f"--no-{positive.replace('_', '-')} takes no value")
                found = ["false"]
        kind = _kind(name) if name in FIELDS else ""
        if kind == "list":
            given[name] = [*given.get(name, []), *found]
            if not found:
                problems.append(f"--{key} has no value")
            continue
        if not found and kind == "bool":
            found = ["true"]
        if len(found) != 1 and name in FIELDS:
            what = "no value" if not found else f"{len(found)} values ({' '.join(found)}) and takes one"
            problems.append(f"--{key} has {what}")
            found = found[:1]
        if name in given and name in FIELDS:
            problems.append(f"--{key} is given twice")
        if found or name not in FIELDS:
            given[name] = found[0] if len(found) == 1 else found
    return given, config


def _file(path: Path, problems: list[str]) -> dict[str, Any]:
    import yaml

    from meadow.core import yamlfile

    try:
        found = yamlfile.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        problems.append(f"--config {path}: {error.strerror or error}")
        return {}
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        problems.append(f"--config {path}: no YAML: {error}")
        return {}
    if not isinstance(found, dict):
        problems.append(f"--config {path}: holds no settings; write lines of `key: value`")
        return {}
    return {str(key).replace("-", "_"): value for key, value in found.items()}


def _known(key: str, where: str, problems: list[str]) -> str | None:
    if key in FIELDS and not FIELDS[key].metadata.get("fixed"):
        return key
    if key == "size":
        problems.append(f"size ({where}): the recipe says it; run finetune_7b.py or finetune_13b.py")
        return None
    near = get_close_matches(key, FIELDS, 1, 0.6)
    hint = f"did you mean {near[0]}?" if near else "--help lists those there are"
    problems.append(f"{key} ({where}) is no setting; {hint}")
    return None


def _kind(name: str) -> str:
    field = FIELDS[name]
    return field.metadata.get("kind") or str(field.type)


def _value(name: str, value: Any) -> Any:
    """A setting's value from a text or from YAML.

    Raises:
        ValueError: It is none.
    """
    meta, kind = FIELDS[name].metadata, _kind(name)
    if kind.endswith("?"):
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
            return None
        kind = kind[:-1]
    if kind == "list":
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not found or not all(isinstance(x, str) and x for x in found):
            raise ValueError(f"{value!r} is no list of names")
        return tuple(part for text in found for part in text.split(",") if part)
    if isinstance(value, bool) and kind != "bool" or isinstance(value, (list, dict)) or value is None:
        raise ValueError(f"{value!r} is no {_WORDS.get(kind, 'text')}")
    if kind == "bool":
        found = {"true": True, "yes": True, "false": False, "no": False}.get(str(value).lower())
        if found is None:
            raise ValueError(f"{value!r} is neither true nor false")
        return found
    if kind in ("int", "float"):
        return _number(value, kind, meta)
    if kind == "path":
        return Path(str(value)).expanduser()
    text = str(value)
    if meta.get("among") and text not in meta["among"]:
        near = get_close_matches(text, meta["among"], 1, 0.6)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{text!r} is none of {', '.join(meta['among'])}{hint}")
    return text


_WORDS = {"int": "whole number", "float": "number", "bool": "true or false", "path": "path"}


def _number(value: Any, kind: str, meta: Mapping[str, Any]) -> float | int:
    try:
        found = float(str(value).replace("_", ""))
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"{value!r} is no {_WORDS[kind]}")
    if kind == "int" and found != int(found):
        raise ValueError(f"{value!r} is no whole number")
    if "least" in meta and found < meta["least"]:
        raise ValueError(f"{value} is below {meta['least']}")
    if "above" in meta and found <= meta["above"]:
        raise ValueError(f"{value} is not above {meta['above']}")
    if "most" in meta and found > meta["most"]:
        raise ValueError(f"{value} is above {meta['most']}")
    return int(found) if kind == "int" or (found == int(found) and meta.get("whole")) else found


def _contradictions(s: Settings, explicit: Mapping[str, Any], wrong: set[str]) -> Iterator[str]:
    if not s.model and "model" not in wrong:
        yield "model is missing; name a model folder by --model, or `--model tiny` to try the recipe"
    elif s.model and s.model != TINY:
        yield from _model_folder(s.model)
    if s.output is None and not s.dry_run and "output" not in wrong:
        yield "output is missing; name a folder for the trained model by --output"
    if s.output is not None and s.output.exists() and not s.output.is_dir():
        yield f"output {s.output} is a file; name a folder"
    if s.output is not None and s.model not in ("", TINY) and _same(s.output, Path(s.model)):
        yield f"output and model are the same folder, {s.output}: the model would be overwritten"
    if not s.data and "data" not in wrong:
        yield "data is missing; name datasets or files by --data"
    for name in s.data:
        yield from _data(name)
    if len(set(s.data)) < len(s.data):
        yield f"data names the same twice: {', '.join(sorted({d for d in s.data if s.data.count(d) > 1}))}"
    yield from _template(s.template)
    if not s.adapters:
        given = [key for key in explicit if key.startswith("lora_")]
        if given:
            yield f"{', '.join(given)}: method full trains all weights and has no adapters; choose --method lora or leave them out"
    if explicit.get("max_steps") is not None and explicit.get("epochs") is not None:
        yield "epochs and max_steps both say when to stop; give one of them"
    if s.max_steps is None and s.epochs is None:
        yield "epochs is none and max_steps is not given: nothing says when to stop"
    if s.packing != "packed" and explicit.get("pack_length") is not None:
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
    if s.early_stopping and s.validation and s.eval_steps is None:
        yield "early_stopping needs eval_steps"
    if s.early_stopping and s.eval_steps and s.save_steps != s.eval_steps:
        yield (
            f"early_stopping keeps the best weights, which must have been saved: save_steps ({s.save_steps}) must be "
            f"eval_steps ({s.eval_steps}); leave save_steps out"
        )
    if not s.validation and explicit.get("eval_steps") is not None:
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
    yield from _processes(s)


def _processes(s: Settings) -> Iterator[str]:
    world = world_size()
    if s.batch_size < world:
        yield (
            f"batch_size {s.batch_size} cannot be shared by {world} processes, of which each needs a row; nearest that "
            f"fit: batch_size {world}, or {s.batch_size} processes"
        )


def world_size() -> int:
    """Processes that torchrun or accelerate started for this run."""
    try:
        return max(1, int(os.environ.get("WORLD_SIZE", "1")))
    except ValueError:
        return 1


def _model_folder(name: str) -> Iterator[str]:
    folder = Path(name).expanduser()
    if not folder.exists():
        looks = re.fullmatch(r"[\w.-]+/[\w.-]+", name)
        hint = "; nothing is downloaded: fetch the model first and name its folder" if looks else ""
        yield f"model {name} is no folder on this machine{hint}"
    elif not folder.is_dir():
        yield f"model {name} is a file; name the folder that holds config.json, tokenizer and weights"
    elif (folder / "adapter_config.json").is_file():
        yield f"model {name} is an adapter; merge it into its base first (python recipes/merge.py) and name that folder"


def _data(name: str) -> Iterator[str]:
    if name.endswith(FILES) or "/" in name or os.sep in name:
        if not name.endswith(FILES):
            yield f"data {name}: files end in {', '.join(FILES)}; datasets are given by name"
        elif not Path(name).expanduser().is_file():
            yield f"data {name}: there is no such file"
    elif not _NAME.fullmatch(name):
        yield f"data {name!r} is no name of a dataset; write NAME, NAME@1.0.0, or the path of a file"


def _template(name: str) -> Iterator[str]:
    from meadow.models import prompts

    try:
        prompts.get(name)
    except prompts.PromptError as error:
        yield f"template: {error}"


def _same(one: Path, other: Path) -> bool:
    return one.expanduser().resolve() == other.expanduser().resolve()


def explain(settings: Settings) -> list[tuple[str, Any, str]]:
    """Every setting with its value and where that comes from."""
    by_preset = choices(settings.preset, settings.method, settings.size)
    found = []
    for name, field in FIELDS.items():
        value = getattr(settings, name)
        if not settings.adapters and name.startswith("lora_"):
            continue
        choice = by_preset.get(name)
        if choice and choice.value == value:
            why = f"preset {settings.preset}: {choice.why}"
        else:
            why = "" if value == field.default else "given"
        found.append((name, value, why))
    return found


def help_text(recipe: str, size: str) -> str:
    """What ``--help`` prints."""
    head = recipe or f"finetune_{size}.py"
    lines = [
        f"usage: python recipes/{head} --model DIR --data NAME [NAME...] --output DIR [--config FILE.yaml] [--key value...]",
        "",
        "Fine-tunes a LLaMA-type model. Values come from the preset, then from --config, then from the command line.",
        "",
    ]
    columns = {key: choices(key, "lora", size) for key in PRESETS}
    full = {key: choices(key, "full", size) for key in PRESETS}
    for name, field in FIELDS.items():
        if field.metadata.get("fixed"):
            continue
        lines.append(f"  --{name.replace('_', '-')}")
        text = field.metadata["help"]
        if field.metadata.get("among"):
            text += f" ({', '.join(field.metadata['among'])})"
        lines.append(f"      {text}")
        values = []
        for key in PRESETS:
            low, whole = columns[key].get(name), full[key].get(name)
            if low and whole and low.value != whole.value:
                values.append(f"{key}: {_shown(low.value)} with adapters, {_shown(whole.value)} in full")
            elif low or whole:
                values.append(f"{key}: {_shown((low or whole).value)}")
        if values:
            lines.append(f"      [{'; '.join(dict.fromkeys(values))}]")
        elif field.default not in (None, "", ()):
            lines.append(f"      [{_shown(field.default)}]")
    lines += ["", "`--dry-run` prints every value with its source or reason, and trains nothing."]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and (abs(value) < 1e-3 and value):
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:g}" if isinstance(value, float) else str(value)
