"""The output folder of a run: what may be in it, checkpoints, how a finished model gets there, faults told in words.

::

    OUTPUT/settings.yaml         the settings, each as it was used
    OUTPUT/checkpoints/          while it runs; the last two
    OUTPUT/left_out.jsonl        id and reason of every row that was not trained on, or was cut
    OUTPUT/...                   weights or adapter, tokenizer, template, run.json, card: at the end

A checkpoint counts only once ``meadow.json`` stands in it, which is written last; what a kill left half-written
is removed by the next run.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from meadow import models
from meadow.core.errors import Error
from meadow.core.store import write_whole
from meadow.core.units import size_of
from meadow.train.settings import TrainSettings, rank, world_size

#: Written into a checkpoint when all else is there.
MARK = "meadow.json"
SETTINGS, CHECKPOINTS, LEFT_OUT, RUN, TENSORBOARD = (
    "settings.yaml", "checkpoints", "left_out.jsonl", "run.json", "tensorboard"
)  # fmt: skip
_WORK = ".meadow"
_OURS = (SETTINGS, CHECKPOINTS, LEFT_OUT, TENSORBOARD, _WORK)
#: What batch systems write beside a run.
_LOGS = (".log", ".out", ".err", ".txt")
#: Checkpoints that stay; while one is written there is one more.
KEPT = 2
#: Row ids that an error names; the rest is counted.
_NAMED = 20


class TrainingError(Error):
    """A run that cannot begin or go on; the message says why, what is safe, and what to do."""


class NotFiniteError(TrainingError):
    """A loss or gradient that is no number, at the `step`, from 1, with the ids of the `rows` that it came from."""

    def __init__(self, what: str, step: int, rows: list[str], safe: str) -> None:
        self.step, self.rows = step, rows
        shown = ", ".join(rows[:_NAMED]) + (f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else "")
        super().__init__(
            f"{what} at step {step} is not a number, with the rows: {shown}. Nothing was learned from them; {safe}. "
            "Look at these rows; if they are sound, lower --learning-rate, raise --warmup-steps, or use --dtype "
            "bfloat16 or float32 instead of float16"
        )


@dataclass(frozen=True)
class Beginning:
    """Where a run begins: `identity`, what a checkpoint must have in common with the run that goes on from it; the
    `checkpoint`, None to begin anew; the `seconds` that earlier parts of the run took, and their last `step`.
    """

    identity: dict[str, Any]
    checkpoint: Path | None = None
    seconds: float = 0.0
    step: int = 0


def check(output: Path) -> None:
    """Raises TrainingError for a folder that holds something else than an unfinished run."""
    if (output / RUN).is_file():
        words = f"{output} holds a finished run ({RUN}); choose another --output, or move it away"
        raise TrainingError(words)
    if (output / SETTINGS).is_file() or not output.exists():
        return
    there = sorted(entry.name for entry in output.iterdir())
    if foreign := [name for name in there if name not in _OURS and not name.endswith(_LOGS)]:
        shown = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        raise TrainingError(f"{output} holds files that are no run's ({shown}); choose another --output")


@contextlib.contextmanager
def locked(output: Path) -> Iterator[None]:
    """Keeps a second run out of the folder, which gets a TrainingError; so does one that cannot be written."""
    from filelock import FileLock, Timeout

    try:
        (output / _WORK).mkdir(parents=True, exist_ok=True)
        lock = FileLock(output / _WORK / "lock", timeout=0).acquire()
    except Timeout:
        words = f"another run writes to {output}; wait for it, or choose another --output"
        raise TrainingError(words) from None
    except OSError as error:
        why = error.strerror or error
        raise TrainingError(f"cannot write to {output}: {why}; choose another --output") from error
    with lock:
        yield


def checkpoints(output: Path) -> list[tuple[int, Path]]:
    """Whole checkpoints by step, the last one last."""
    there = [path.parent for path in output.glob(f"{CHECKPOINTS}/checkpoint-*/{MARK}")]
    return sorted((int(number), path) for path in there if (number := path.name.rpartition("-")[2]).isdigit())


def safe(output: Path) -> str:
    """Which checkpoint is whole, in words."""
    found = checkpoints(output)
    return f"the checkpoint of step {found[-1][0]} is whole" if found else "no checkpoint was written yet"


def remove_halves(output: Path) -> list[Path]:
    """Removes checkpoints that were never finished; returns what they were."""
    whole = {path for _, path in checkpoints(output)}
    halves = [path for path in (output / CHECKPOINTS).glob("*checkpoint-*") if path not in whole]
    for path in halves:
        shutil.rmtree(path, ignore_errors=True)
    return halves


def mark(checkpoint: Path, **facts: Any) -> None:
    """Declares a checkpoint whole."""
    write_whole(checkpoint / MARK, json.dumps(facts))


def read_mark(checkpoint: Path) -> dict[str, Any]:
    """What `mark` wrote; raises TrainingError where it cannot be read."""
    try:
        return json.loads((checkpoint / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{checkpoint / MARK}: {error}; begin anew with --resume no") from error


def differences(then: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """What differs between the identity of a checkpoint and of this run."""
    for key in dict.fromkeys([*then, *now]):
        one, other = then.get(key), now.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from differences(one, other, f"{prefix}{key}." if key != "settings" else prefix)
        elif one != other:
            short = [text if len(text) <= 60 else f"{text[:57]}..." for text in (str(one), str(other))]
            yield f"{prefix}{key} is {short[0]} in the checkpoint, {short[1]} here"


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that the disk is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if any(words in str(error) for words in ("No space left", "os error 28", "Disk quota exceeded")):
        return True
    cause = error.__cause__ or error.__context__
    return cause is not None and is_disk_full(cause)


def need_room(output: Path, needed: int) -> None:
    """Raises TrainingError where checkpoints of so many bytes will not fit."""
    free = shutil.disk_usage(output).free
    if free < needed:
        raise TrainingError(
            f"{output}: checkpoints and the model need about {size_of(needed)}, and {size_of(free)} are free; free space, "
            "choose another --output, or train adapters (--method lora), which are small"
        )


@contextlib.contextmanager
def publishing(output: Path) -> Iterator[Path]:
    """Gives a working folder for the finished model, and moves what is in it into the output at the end."""
    work = output / _WORK / "final"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield work
        for path in sorted(work.iterdir()):
            path.replace(output / path.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def say(message: str) -> None:
    """Tells how a run goes."""
    if rank() == 0:
        print(f"meadow: {message}", file=sys.stderr, flush=True)


def need_packages(settings: TrainSettings) -> None:
    """Raises TrainingError where libraries are not installed that a run will import."""
    needed = ["torch", "transformers", "accelerate"]
    needed += ["peft"] if settings.adapters else []
    needed += ["bitsandbytes"] if settings.quantization else []
    if missing := [name for name in needed if find_spec(name) is None]:
        raise TrainingError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed: "
            "`pip install -c constraints.txt '.[train]'`"
        )


@contextlib.contextmanager
def output_folder(settings: TrainSettings) -> Iterator[None]:
    """Holds the output folder against other runs, and tells in words what goes wrong.

    Raises TrainingError where it holds something else, or disk or memory are full, with what is safe and what to do.
    """
    models.offline()
    need_packages(settings)
    check(settings.folder)
    # One process holds the folder; those that torchrun started beside it are its own.
    held = locked(settings.folder) if rank() == 0 else contextlib.nullcontext()
    with held, warnings.catch_warnings():
        import torch
        import transformers

        # Of what the libraries say of themselves: nothing that a reader could act on.
        warnings.filterwarnings("ignore", module="torch|transformers|peft|accelerate|bitsandbytes")
        transformers.utils.logging.set_verbosity_error()
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        try:
            yield
        except Error:
            raise
        except Exception as error:
            kept = safe(settings.folder).capitalize()
            if is_disk_full(error):
                if rank() == 0:
                    remove_halves(settings.folder)
                raise TrainingError(
                    f"the disk of {settings.folder} is full. {kept}, what was half-written is removed. Free space and "
                    "run the same command again: it goes on from there"
                ) from error
            words = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
            full = isinstance(error, (torch.OutOfMemoryError, MemoryError))
            if full or any(text in str(error) for text in words):
                raise TrainingError(out_of_memory(settings, kept, world_size())) from error
            raise
        say(f"done: {settings.folder}")


def out_of_memory(s: TrainSettings, safe: str, world: int) -> str:
    """What to change when memory runs out, what costs least first."""
    rows, over = s.per_device_batch_size, "" if world == 1 else " over them"
    more = "more GPUs: torchrun --nproc-per-node N" if world == 1 else f"more GPUs than {world}: FSDP2"
    advice = {
        f"--per-device-batch-size {rows // 2} (now {rows}): the effective batch stays {s.batch_size}, and so do the "
        "results": rows > 1,
        "--activation-checkpointing: slower, with a fraction of the activations": not s.activation_checkpointing,
        f"--pack-length {s.max_length} (now {s.block}): the same rows, in shorter blocks": (
            s.packing == "packed" and s.block > s.max_length
        ),
        f"--max-length {s.max_length // 2} (now {s.max_length}): cuts more rows; --dry-run counts how many": (
            s.max_length > 512
        ),
        f"{more} shards weights, gradients and optimizer{over}": s.method == "full",
        "--method lora: no optimizer for the base": s.method == "full",
        "--method lora-8bit: half the base, or --method qlora: a quarter": s.method == "lora",
        "--method qlora: half of what the base needs in 8 bits": s.method == "lora-8bit",
    }
    holding = (text for text, holds in advice.items() if holds)
    steps = "".join(f"\n  {number}. {text}" for number, text in enumerate(holding, start=1))
    what = steps or " use a GPU with more memory, or a smaller model"
    return f"out of memory. {safe}. Change one of these, what costs least first, and run again:{what}"
