"""What a training run does: its settings, each with its kind, limits and words for ``--help``, and the presets.

Nothing here imports torch: a mistake is told before anything is loaded. `meadow.train.commandline` reads them.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field

from meadow.core import yamlfile
from meadow.core.errors import Error

#: A small random LLaMA that the run makes for itself.
TINY = "tiny"
FILES = (".json", ".jsonl", ".parquet")
COMMAND_LINE = "the command line"


class TrainSettingsError(Error):
    """Settings that cannot be used; its `problems` are all that is wrong with them, a sentence each."""

    def __init__(self, *problems: str) -> None:
        self.problems = list(problems)
        many = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"{many} in the settings:\n" + "\n".join(f"  - {text}" for text in self.problems))


class Choice(yamlfile.Model):
    """One value of a preset: of the setting `key`, and `why`; for all methods and sizes, or for one."""

    key: str
    value: Any
    why: str
    method: Literal["full", "adapters"] | None = None
    size: str | None = None


class _PresetsFile(yamlfile.Model):
    sources: dict[str, str]
    shared: tuple[Choice, ...]
    paper: tuple[Choice, ...]
    modern: tuple[Choice, ...]

    def named(self, choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
        """The shared choices and these, with sources in their reasons."""
        every = (*self.shared, *choices)
        return tuple(c.model_copy(update={"why": c.why.format(**self.sources)}) for c in every)


_FILE = yamlfile.read(Path(__file__).with_name("presets.yaml"), _PresetsFile)
PRESETS = {"paper": _FILE.named(_FILE.paper), "modern": _FILE.named(_FILE.modern)}


def choices(preset: str, method: str, size: str) -> dict[str, Choice]:
    """What a preset sets for a method and size, by key."""
    kind = "full" if method == "full" else "adapters"
    return {c.key: c for c in PRESETS[preset] if c.method in (None, kind) and c.size in (None, size)}


class TrainSettings(pydantic.BaseModel):
    """What a training run does, as `parse` makes it; the values here are those of no preset."""

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        coerce_numbers_to_str=True,
        use_attribute_docstrings=True,
    )
    #: Where each value that was given stands: a file, or the command line.
    _given: dict[str, str] = pydantic.PrivateAttr(default_factory=dict)

    model: str = ""
    """folder of the model to start from, or `tiny`"""
    output: Path | None = None
    """folder for the trained model"""
    data: tuple[str, ...] = ()
    """datasets (`wikidoc`, `wikidoc@1.0.0`) and files (.json, .jsonl, .parquet)"""
    method: Literal["full", "lora", "lora-8bit", "qlora"] = "lora"
    """what is trained"""
    preset: Literal["paper", "modern"] = "paper"
    """where the other values come from"""
    size: Literal["7b", "13b"] = "7b"
    """the model's size, for presets; the recipe says it"""
    out: Path | None = None
    """Meadow's output folder; else $MEADOW_OUT or the user's cache"""
    template: str = "medalpaca"
    """prompt template: medalpaca, alpaca, chat (the model's own), plain, or a .json file"""
    max_length: int = Field(1024, ge=8)
    """most tokens of a row; of a longer one the input is cut first"""
    packing: Literal["packed", "length", "none"] = "length"
    """packed: many rows in a block, isolated; length: rows of like length together; none"""
    pack_length: int | None = Field(None, ge=8)
    """tokens of a packed block; else max_length"""
    train_on_inputs: bool = False
    """loss on prompt and answer, not on the answer alone"""
    epochs: float | None = Field(3.0, gt=0)
    """times that every row is trained on"""
    max_steps: int | None = Field(None, ge=1)
    """stop after so many steps instead"""
    learning_rate: float = Field(2e-5, gt=0, le=1)
    """highest learning rate"""
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    """how the learning rate falls"""
    warmup_steps: float = Field(100, ge=0)
    """steps in which the learning rate rises; below 1: a share of all"""
    weight_decay: float = Field(0.0, ge=0, le=1)
    """weight decay of AdamW"""
    max_grad_norm: float = Field(1.0, ge=0)
    """gradients are clipped to this norm; 0: not"""
    batch_size: int = Field(128, ge=1)
    """rows of a step, over all processes and accumulation: exactly so many"""
    per_device_batch_size: int = Field(2, ge=1)
    """rows (packed: blocks) that a device computes at once"""
    lora_r: int | None = Field(None, ge=1)
    """rank of the adapters"""
    lora_alpha: float | None = Field(None, gt=0)
    """scale of the adapters"""
    lora_dropout: float | None = Field(None, ge=0, le=0.99)
    """dropout before the adapters"""
    lora_targets: tuple[str, ...] = ()
    """modules that get adapters, or all-linear"""
    seed: int = Field(42, ge=0)
    """seed of row order, adapters and dropout"""
    validation: float = Field(0.1, ge=0, le=0.9)
    """share of groups held out where a dataset has no validation split; 0: no validation at all"""
    eval_steps: int | None = Field(200, ge=1)
    """steps between two looks at the validation rows"""
    early_stopping: int | None = Field(None, ge=1)
    """stop after so many looks without a lower loss; the best weights are kept"""
    save_steps: int = Field(200, ge=1)
    """steps between two checkpoints"""
    keep_checkpoints: bool = False
    """keep checkpoints after the run"""
    activation_checkpointing: bool = True
    """compute activations twice, to hold fewer"""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """of computation"""
    tf32: bool = True
    """TF32 for what is left in float32 on a GPU"""
    device: Literal["auto", "cpu"] = "auto"
    """cpu: do not use a GPU"""
    sharding: Literal["auto", "none", "fsdp"] = "auto"
    """fsdp: FSDP2 over all processes; auto: for full fine-tuning on several GPUs"""
    resume: Literal["auto", "no"] = "auto"
    """auto: go on from the last checkpoint in the output; no: begin anew"""
    dry_run: bool = False
    """print tokens, steps, trained parameters and memory; train nothing"""
    tensorboard: bool = False
    """write TensorBoard files into the output"""
    allow_pickle: bool = False
    """load weights that are pickled, which can run any code"""

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _as_people_write_it(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        """Words of a command line, and numbers that YAML takes for words, such as 2e-5."""
        kind = str(cls.model_fields[str(info.field_name)].annotation)
        if "None" in kind and str(value).lower() in ("none", "null"):
            return None
        if isinstance(value, bool) and "bool" not in kind:
            raise ValueError(f"{value!r} is no value of this setting")
        if "int" in kind and isinstance(value, str):
            with contextlib.suppress(ValueError, OverflowError):
                return int(number) if (number := float(value)) == int(number) else value
        if "tuple" in kind:
            found = list(value) if isinstance(value, (list, tuple)) else [value]
            names = [name for name in found if isinstance(name, str) and name]
            if not names or len(names) < len(found):
                raise ValueError(f"{value!r} is no list of names")
            return [part for text in names for part in text.split(",") if part]
        return Path(value).expanduser() if "Path" in kind and isinstance(value, str) else value

    @property
    def quantization(self) -> Literal["8bit", "4bit"] | None:
        """What the base is loaded in; None for 16 or 32 bits."""
        return "8bit" if self.method == "lora-8bit" else "4bit" if self.method == "qlora" else None

    @property
    def adapters(self) -> bool:
        """Whether adapters are trained, not the model itself."""
        return self.method != "full"

    @property
    def block(self) -> int:
        """Tokens of a packed block."""
        return self.pack_length or self.max_length

    @property
    def folder(self) -> Path:
        """The output, which every run that is no dry run has."""
        assert self.output is not None
        return self.output

    def explain(self) -> list[tuple[str, Any, str]]:
        """Every setting with its value and where that comes from."""
        by_preset = choices(self.preset, self.method, self.size)
        found = []
        for name, value in self:
            choice, why = by_preset.get(name), ""
            if not self.adapters and name.startswith("lora_"):
                continue
            if where := self._given.get(name):
                why = f"given {'on' if where == COMMAND_LINE else 'in'} {where}"
            elif choice and choice.value == value:
                why = f"preset {self.preset}: {choice.why}"
            elif value != TrainSettings.model_fields[name].default:
                why = "the recipe's" if name == "size" else "follows from the others"
            found.append((name, value, why))
        return found


#: What decides the numbers of a run: a checkpoint goes on only under the same. The rest says where and how.
IDENTITY = {
    "method", "template", "max_length", "packing", "train_on_inputs", "epochs", "max_steps", "learning_rate", "scheduler",
    "warmup_steps", "weight_decay", "max_grad_norm", "batch_size", "lora_r", "lora_alpha", "lora_dropout",
    "lora_targets", "seed", "validation", "dtype",
}  # fmt: skip


def rank() -> int:
    """The number of this process among those of a launcher; the first is 0, and speaks and writes for all."""
    return int(os.environ.get("RANK", "0") or 0)


def world_size() -> int:
    """Processes that torchrun or accelerate started for this run."""
    return int(os.environ.get("WORLD_SIZE") or 1)
