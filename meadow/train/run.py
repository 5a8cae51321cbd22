"""What surrounds the steps of a recipe: its command line, its output folder, and faults that are told in words."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec

from meadow import models
from meadow.core.errors import Error
from meadow.train import folder
from meadow.train.commandline import parse
from meadow.train.folder import TrainingError
from meadow.train.settings import TrainSettings, TrainSettingsError, world_size


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


def rank() -> int:
    """The number of this process among those of a launcher; the first is 0, and speaks and writes for all."""
    return int(os.environ.get("RANK", "0") or 0)


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
    folder.check(settings.folder)
    # One process holds the folder; those that torchrun started beside it are its own.
    held = folder.locked(settings.folder) if rank() == 0 else contextlib.nullcontext()
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
            safe = folder.safe(settings.folder).capitalize()
            if folder.is_disk_full(error):
                if rank() == 0:
                    folder.remove_halves(settings.folder)
                raise TrainingError(
                    f"the disk of {settings.folder} is full. {safe}, what was half-written is removed. Free space and "
                    "run the same command again: it goes on from there"
                ) from error
            words = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
            full = isinstance(error, (torch.OutOfMemoryError, MemoryError))
            if full or any(text in str(error) for text in words):
                raise TrainingError(out_of_memory(settings, safe, world_size())) from error
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
