"""A run from settings to a finished model folder; `main` is what the recipes call."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from meadow import models
from meadow.models import prompts
from meadow.train import folder
from meadow.train.data import Corpus, DataError, prepare, sources
from meadow.train.folder import TrainingError
from meadow.train.packing import ISOLATED, Plan, isolated, split_attention
from meadow.train.settings import IDENTITY, TINY, Settings, SettingsError, explain, parse, world_size

#: Where a run is shorter than its warmup, the warmup is this share of it.
_SHORT = 0.1
_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "tokenizers",
    "safetensors",
    "datasets",
)


def main(argv: Sequence[str] | None, *, size: str, recipe: str) -> int:
    """Runs a recipe's command line.

    Returns:
        0; 1 where the run failed; 2 where the settings are wrong.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    # Before any heavy import: nothing is sent anywhere, and nothing is looked up.
    models.offline()
    try:
        settings = parse(argv, size=size, recipe=recipe)
        train(settings, recipe=recipe)
    except SettingsError as error:
        return _fail(str(error), 2)
    except (DataError, TrainingError, models.ModelError, prompts.PromptError) as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on from the last checkpoint", 130)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    return code


def _rank() -> int:
    return int(os.environ.get("RANK", "0") or 0)


def _say(message: str) -> None:
    if _rank() == 0:
        print(f"meadow: {message}", file=sys.stderr, flush=True)


def train(settings: Settings, *, recipe: str = "") -> Path | None:
    """Fine-tunes a model.

    Args:
        settings: What `parse` made.
        recipe: The recipe's name, for the record.

    Returns:
        The output folder; None for a dry run.

    Raises:
        SettingsError: The settings do not fit the model or the number of processes.
        DataError: The data cannot be used.
        ModelError: The model cannot be used.
        PromptError: The template does not fit the model's tokenizer.
        TrainingError: The run failed; the message says what is safe and what to do.
    """
    models.offline()
    _need_packages(settings)
    if settings.dry_run:
        _dry_run(settings)
        return None
    output = settings.output
    folder.check(output)
    # One process holds the folder; those that torchrun started beside it are its own.
    held = folder.locked(output) if _rank() == 0 else contextlib.nullcontext()
    with held, _explained(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch|transformers|peft|accelerate|bitsandbytes")
        return _train(settings, recipe)


def _need_packages(settings: Settings) -> None:
    needed = ["torch", "transformers", "accelerate"]
    needed += ["peft"] if settings.adapters else []
    needed += ["bitsandbytes"] if settings.quantization else []
    from importlib.util import find_spec

    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise TrainingError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed: "
            "`pip install -c constraints.txt '.[train]'`"
        )


@contextlib.contextmanager
def _explained(settings: Settings) -> Iterator[None]:
    """Turns what a full disk or full memory raises into what to do about it."""
    import torch

    try:
        yield
    except (TrainingError, DataError, models.ModelError, prompts.PromptError, SettingsError):
        raise
    except Exception as error:
        last = folder.checkpoints(settings.output)
        safe = f"The checkpoint of step {last[-1][0]} is whole" if last else "No checkpoint was written yet"
        if folder.is_disk_full(error):
            if _rank() == 0:
                folder.remove_halves(settings.output)
            raise TrainingError(
                f"the disk of {settings.output} is full. {safe}, what was half-written is removed. Free space and "
                "run the same command again: it goes on from there"
            ) from error
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
            words in str(error)
            for words in ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
        ):
            raise TrainingError(out_of_memory(settings, safe, world_size())) from error
        raise


def out_of_memory(settings: Settings, safe: str, world: int) -> str:
    """What to change when memory runs out, what costs least first."""
    s, advice = settings, []
    if s.per_device_batch_size > 1:
        advice.append(
            f"--per-device-batch-size {s.per_device_batch_size // 2} (now {s.per_device_batch_size}): the effective "
            f"batch stays {s.batch_size}, and so do the results"
        )
    if not s.activation_checkpointing:
        advice.append("--activation-checkpointing: slower, with a fraction of the activations")
    if s.packing == "packed" and s.block > s.max_length:
        advice.append(f"--pack-length {s.max_length} (now {s.block}): the same rows, in shorter blocks")
    if s.max_length > 512:
        advice.append(
            f"--max-length {s.max_length // 2} (now {s.max_length}): cuts more rows; --dry-run counts how many"
        )
    if s.method == "full":
        advice.append(
            "more GPUs: torchrun --nproc-per-node N shards weights, gradients and optimizer" if world == 1 else
            f"more GPUs than {world}: FSDP2 shards weights, gradients and optimizer over them"
        )  # fmt: skip
        advice.append("--method lora: no optimizer for the base")
    elif s.method == "lora":
        advice.append("--method lora-8bit: half the base, or --method qlora: a quarter")
    elif s.method == "lora-8bit":
        advice.append("--method qlora: half of what the base needs in 8 bits")
    steps = "".join(f"\n  {number}. {text}" for number, text in enumerate(advice, start=1))
    what = steps or " use a GPU with more memory, or a smaller model"
    return f"out of memory. {safe}. Change one of these, what costs least first, and run again:{what}"


def _tokenizer(settings: Settings) -> tuple[Path, Any, Any]:
    """The base model's folder, its tokenizer with something to pad with, and the template."""
    import transformers

    base = models.tiny_folder() if settings.model == TINY else Path(settings.model).expanduser()
    models.check_folder(base, allow_pickle=settings.allow_pickle)
    tokenizer = models.load_tokenizer(base)
    config = transformers.AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    models.choose_pad(tokenizer, getattr(config, "vocab_size", None))
    context = getattr(config, "max_position_embeddings", None)
    longest = settings.max_length
    if context and longest > context:
        raise SettingsError(
            [
                f"max_length {longest} is more than the {context} tokens that {settings.model} can read; make it {context}"
            ]
        )
    template = prompts.settled(prompts.get(settings.template), tokenizer)
    return base, tokenizer, template


def _read_rows(settings: Settings, tokenizer: Any, template: Any) -> Corpus:
    import datasets
    from tqdm.auto import tqdm

    datasets.disable_progress_bars()
    # What a dataset lacks is said once, not by each process.
    with contextlib.redirect_stderr(io.StringIO()) if _rank() else contextlib.nullcontext():
        found = sources(settings)
    with tqdm(
        desc="tokenising", unit="row", file=sys.stderr, disable=_rank() != 0, mininterval=1.0, leave=False
    ) as bar:

        def progress(done: int, total: int) -> None:
            bar.total, bar.n = total, done
            bar.refresh()

        corpus = prepare(settings, tokenizer, template, found, progress=progress)
    counts = corpus.counts()
    _say(
        f"{counts['trained']:,} rows to train on, {counts['validation_rows']:,} for validation, {counts['tokens']:,} "
        f"tokens, of which {counts['trained_tokens']:,} are trained"
        + (" (prompt and answer)" if settings.train_on_inputs else " (answers)")
    )
    if counts["truncated"]:
        _say(f"{counts['truncated']:,} rows are longer than {settings.max_length} tokens and were cut")
    for reason, count in counts["refused"].items():
        _say(f"{count:,} rows left out: {reason}")
    for exam, found in corpus.exam_hits.items():
        if found["items"]:
            _say(f"rows trained on hold {len(found['items']):,} of the {found['checked']:,} items of {exam}")
    if settings.validation and not corpus.validation:
        _say("no row is for validation: there are too few groups, so no validation loss will be shown")
    return corpus


def _plan(settings: Settings, corpus: Corpus, world: int) -> Plan:
    total = (
        settings.max_steps * settings.batch_size
        if settings.max_steps
        else max(1, round(settings.epochs * corpus.rows))
    )
    return Plan(
        corpus.lengths[: corpus.rows], settings.batch_size, total, settings.seed, settings.packing, settings.block,
        settings.per_device_batch_size, world,
    )  # fmt: skip


def _held(settings: Settings, corpus: Corpus, world: int) -> Plan | None:
    if not corpus.validation:
        return None
    lengths = corpus.lengths[corpus.rows :]
    # Which rows stand together changes no loss, so validation rows are at least sorted.
    packing = "packed" if settings.packing == "packed" else "length"
    return Plan(
        lengths,
        len(lengths),
        len(lengths),
        settings.seed,
        packing,
        settings.block,
        settings.per_device_batch_size,
        world,
    )


def warmup(settings: Settings, steps: int) -> int:
    """Steps in which the learning rate rises."""
    if settings.warmup_steps < 1:
        return round(settings.warmup_steps * steps)
    if settings.warmup_steps < steps:
        return int(settings.warmup_steps)
    return max(1, int(_SHORT * steps)) if steps > 1 else 0


def _dry_run(settings: Settings) -> None:
    import transformers

    base, tokenizer, template = _tokenizer(settings)
    corpus = _read_rows(settings, tokenizer, template)
    world = world_size()
    plan = _plan(settings, corpus, world)
    if _rank() != 0:
        return
    config = transformers.AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch|transformers|peft")
        total, trained = _count_parameters(config, settings, str(base.resolve()))
    print("settings:")
    for name, value, why in explain(settings):
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
        print(f"  {name}: {shown}" + (f"    # {why}" if why else ""))
    blocks = sum(len(blocks) for step in range(min(plan.steps, 50)) for blocks in plan.step(step))
    counts = corpus.counts()
    print(f"rows: {counts['trained']:,} trained on, {counts['validation_rows']:,} for validation")
    print(f"cut to {settings.max_length} tokens: {counts['truncated']:,} rows")
    for reason, count in counts["refused"].items():
        print(f"left out: {count:,} rows: {reason}")
    print(f"tokens: {counts['tokens']:,} in one pass, {plan.tokens():,} in the whole run")
    print(
        f"steps: {plan.steps:,} of {settings.batch_size} rows; {plan.accumulation} micro-batches a step on each of {world} "
        f"{'process' if world == 1 else 'processes'}, warmup {warmup(settings, plan.steps)}"
    )
    if settings.packing == "packed":
        rows = sum(len(plan.rows(step)) for step in range(min(plan.steps, 50)))
        print(f"packing: {rows / max(blocks, 1):.1f} rows a block of {settings.block} tokens")
    print(f"parameters: {trained:,} trained of {total:,} ({100 * trained / total:.3g} %)")
    from meadow.train import memory

    estimate = memory.estimate(config, settings, world)
    print(estimate if isinstance(estimate, str) else str(estimate))


def _count_parameters(config: Any, settings: Settings, base: str) -> tuple[int, int]:
    """Parameters in all and trained, without loading any."""
    import torch
    import transformers

    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
        model = _with_adapters(model, settings, base)
    return _parameters(model)


def _parameters(model: Any) -> tuple[int, int]:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # Four-bit weights are packed: two to a byte, in tensors that say what they were.
    total = 0
    for p in model.parameters():
        state = getattr(p, "quant_state", None)
        shape = getattr(state, "shape", None)
        count = 1
        for size in shape if shape is not None else p.shape:
            count *= size
        total += count
    return total, trained


def _with_adapters(model: Any, settings: Settings, base: str) -> Any:
    if not settings.adapters:
        return model
    import peft

    targets = settings.lora_targets
    linear = sorted(
        {name.rpartition(".")[2] for name, part in model.named_modules() if hasattr(part, "in_features")}
    )
    unknown = [name for name in targets if name != "all-linear" and name not in linear]
    if unknown:
        raise SettingsError(
            [
                f"lora_targets: this model has no linear layer named {', '.join(unknown)}; it has {', '.join(linear)}, or write all-linear"
            ]
        )
    config = peft.LoraConfig(
        r=settings.lora_r or 8,
        lora_alpha=settings.lora_alpha or 16.0,
        lora_dropout=settings.lora_dropout or 0.0,
        target_modules="all-linear" if targets == ("all-linear",) else list(targets),
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
    )
    adapted = peft.get_peft_model(model, config)
    if settings.activation_checkpointing:
        # Checkpointing that is reentrant passes gradients on only where its input asks for some.
        adapted.enable_input_require_grads()
    return adapted


def _reentrant(settings: Settings, sharding: str) -> bool:
    """Which of torch's two ways to compute activations twice.

    LLM.int8 holds on to the inputs of its matrices as attributes of every layer, which only a forward pass
    without a graph, as in the reentrant way, does not fill (a third less memory at the peak, on a small model).
    DDP goes with the other way.
    """
    return settings.quantization == "8bit" and sharding != "ddp"


def _compute_dtype(settings: Settings, cuda: bool) -> str:
    """What is computed in: what was asked for; else the best of the device."""
    import torch

    if settings.dtype != "auto":
        if settings.dtype == "float16" and not cuda:
            raise SettingsError(["dtype float16 trains on GPUs alone; use float32 or bfloat16"])
        return settings.dtype
    if not cuda:
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def _sharding(settings: Settings, cuda: bool, world: int) -> str:
    """How the model is spread over processes: ``fsdp``, ``ddp`` or ``none``."""
    if world == 1:
        if settings.sharding == "fsdp":
            raise SettingsError(
                ["sharding fsdp spreads a model over processes, and there is one; start with torchrun"]
            )
        return "none"
    if settings.sharding == "fsdp" and not cuda:
        raise SettingsError(
            [
                "sharding fsdp needs a GPU for each process: on CPUs the libraries would train with DDP, without a word"
            ]
        )
    if settings.sharding == "fsdp" or (settings.sharding == "auto" and settings.method == "full" and cuda):
        return "fsdp"
    return "ddp"


def _arguments(
    settings: Settings, plan: Plan, dtype: str, sharding: str, cuda: bool, has_held: bool, layers: list[str]
) -> Any:
    """`transformers.TrainingArguments`; a row of the data loader is a whole micro-batch."""
    import torch
    import transformers

    names = {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
    checkpointing = (
        "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"
    )
    constant = "constant_with_warmup" if settings.scheduler == "constant" else settings.scheduler
    found: dict[str, Any] = {
        "output_dir": str(settings.output / folder.CHECKPOINTS),
        "per_device_train_batch_size": 1,
        "per_device_eval_batch_size": 1,
        "gradient_accumulation_steps": plan.accumulation,
        "num_train_epochs": 1,
        "max_steps": plan.steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": constant,
        "warmup_steps": warmup(settings, plan.steps),
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "optim": "adamw_torch_fused" if cuda else "adamw_torch",
        "bf16": dtype == "bfloat16",
        "fp16": dtype == "float16",
        "tf32": settings.tf32 if cuda and _ampere() else None,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "save_strategy": "steps",
        "save_steps": settings.save_steps,
        "save_total_limit": folder.KEPT,
        "eval_strategy": "steps" if has_held and settings.eval_steps else "no",
        "eval_steps": settings.eval_steps if has_held else None,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "average_tokens_across_devices": False,
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "train_sampling_strategy": "sequential",
        "dataloader_pin_memory": cuda,
        "use_cpu": not cuda and (settings.device == "cpu" or not torch.backends.mps.is_available()),
        "push_to_hub": False,
    }
    if settings.early_stopping and has_held:
        found |= {
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    if sharding == "fsdp":
        found["fsdp"] = True
        # Else the gradients of a step's micro-batches are kept whole on each GPU until its end: 2 bytes a parameter.
        found["accelerator_config"] = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
        found["fsdp_config"] = {
            "version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "transformer_layer_cls_to_wrap": layers,
            "reshard_after_forward": True,
            "state_dict_type": "FULL_STATE_DICT",
            "activation_checkpointing": settings.activation_checkpointing,
        }
    else:
        found[checkpointing] = settings.activation_checkpointing
        if settings.activation_checkpointing:
            found[f"{checkpointing}_kwargs"] = {"use_reentrant": _reentrant(settings, sharding)}
        if sharding == "ddp":
            found["ddp_find_unused_parameters"] = False
    return transformers.TrainingArguments(**found)


def _ampere() -> bool:
    import torch

    return torch.cuda.get_device_capability()[0] >= 8


def _train(settings: Settings, recipe: str) -> Path:
    import torch
    import transformers

    # Of what the libraries say of themselves: nothing that a reader could act on.
    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from meadow.train.loop import Bar, Loop, Watch

    output, world = settings.output, world_size()
    cuda = torch.cuda.is_available() and settings.device == "auto"
    dtype, sharding = _compute_dtype(settings, cuda), _sharding(settings, cuda, world)
    if cuda and world == 1 and torch.cuda.device_count() > 1:
        _say(
            f"{torch.cuda.device_count()} GPUs are visible and one is used; torchrun --nproc-per-node {torch.cuda.device_count()} uses all"
        )
    if world > 1 and not cuda and settings.method == "full":
        _say("on CPUs every process holds the whole model (DDP); FSDP2 shards it on GPUs")
    base, tokenizer, template = _tokenizer(settings)
    corpus = _read_rows(settings, tokenizer, template)
    plan, held = _plan(settings, corpus, world), _held(settings, corpus, world)
    if 1 <= settings.warmup_steps != warmup(settings, plan.steps):
        _say(
            f"the run has {plan.steps:,} {'step' if plan.steps == 1 else 'steps'}, so that warmup takes {warmup(settings, plan.steps)} instead of {settings.warmup_steps:g}"
        )
    identity = {
        "settings": {key: value for key, value in settings.described().items() if key in IDENTITY},
        "model": models.fingerprint(base),
        "rows": corpus.digest(),
        "template": template.to_dict(),
    }
    last = _resumed(settings, identity, world)
    device = (
        f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"
        if cuda
        else "cpu"
        if settings.device == "cpu" or world > 1
        else "auto"
    )
    # What is trained is kept in float32, and computed in `dtype`; a base that stands still is loaded in it.
    loaded = models.load(
        base, quantization=settings.quantization, dtype="float32" if settings.method == "full" else dtype, device=device,
        allow_pickle=settings.allow_pickle, training=True,
    )  # fmt: skip
    model = loaded.model
    model.config.use_cache = False
    if settings.packing == "packed":
        split_attention(model)
        _check_isolation(model)
    layers = sorted(getattr(model, "_no_split_modules", None) or [])
    transformers.set_seed(settings.seed)
    if settings.adapters:
        model.requires_grad_(False)
        model = _with_adapters(model, settings, str(base.resolve()))
    total, trained = _parameters(model)
    if _rank() == 0:
        # Weights, and two moments of AdamW, in float32; and the finished model.
        folder.need_room(output, 4 * trained * 3 * (folder.KEPT + 1) + 4 * trained)
        _write_settings(settings, corpus)
    arguments = _arguments(settings, plan, dtype, sharding, cuda, held is not None, layers)
    # Trainer would copy the model to every GPU that it sees, which is neither asked for nor exact.
    arguments._n_gpu = min(1, arguments.n_gpu)
    watch, bar = Watch(sharding), Bar(lambda step: int(plan.lengths[plan.rows(step)].sum()))
    callbacks: list[Any] = [watch, bar]
    if settings.early_stopping and held is not None:
        callbacks.append(transformers.EarlyStoppingCallback(settings.early_stopping))
    if settings.tensorboard and _rank() == 0:
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations import TensorBoardCallback

        callbacks.append(TensorBoardCallback(SummaryWriter(str(output / folder.TENSORBOARD))))
    before = folder.read_mark(last[1]) if last else {}
    loop = Loop(
        model=model, args=arguments, processing_class=tokenizer, callbacks=callbacks, corpus=corpus, plan=plan, held=held,
        pad=tokenizer.pad_token_id, identity=identity, seconds=before.get("seconds", 0.0),
    )  # fmt: skip
    loop.remove_callback(transformers.PrinterCallback)
    watch.loop = loop
    try:
        loop.train(resume_from_checkpoint=str(last[1]) if last else None)
    finally:
        bar.close()
    looked = {entry["step"] for entry in loop.state.log_history if "eval_loss" in entry}
    # Of the best weights, which early stopping has loaded by now, the loss is known.
    if held is not None and loop.state.global_step not in looked and _kept(loop) == loop.state.global_step:
        loop.evaluate()
    seconds = loop.elapsed()
    run = _record(
        settings, recipe, loaded, corpus, plan, loop, template, (total, trained), seconds, dtype, sharding
    )
    _save(settings, loop, tokenizer, template, run, dtype)
    _say(f"done: {output}")
    return output


def _kept(loop: Any) -> int:
    """The step whose weights the model has at the end: with early stopping the best one's, which were loaded again."""
    best = loop.state.best_model_checkpoint if loop.args.load_best_model_at_end else None
    if best is None or not Path(best).is_dir():
        return loop.state.global_step
    return int(Path(best).name.rpartition("-")[2])


def _check_isolation(model: Any) -> None:
    """Refuses to pack rows that this model would let see one another."""
    moved = isolated(model, model.get_input_embeddings().weight.shape[0])
    if not moved < ISOLATED:
        raise TrainingError(
            f"rows in a packed block would see one another with this model ({type(model).__name__}, attention "
            f"{getattr(model.config, '_attn_implementation', 'unknown')}): a neighbour moves logits by {100 * moved:.0f} % of "
            "their spread. Nothing was trained; use --packing length"
        )


def _resumed(settings: Settings, identity: dict[str, Any], world: int) -> tuple[int, Path] | None:
    """The checkpoint to go on from.

    Raises:
        TrainingError: It is another configuration's.
    """
    output = settings.output
    if _rank() == 0:
        for half in folder.remove_halves(output):
            _say(f"{half.name} was never finished, and is removed")
    found = folder.checkpoints(output)
    if not found:
        return None
    if settings.resume == "no":
        _say(f"beginning anew: {len(found)} checkpoints are removed")
        if _rank() == 0:
            shutil.rmtree(output / folder.CHECKPOINTS)
        return None
    there = folder.read_mark(found[-1][1])
    differs = list(folder.differences(there["identity"], identity))
    if differs:
        lines = "".join(f"\n  - {text}" for text in differs)
        raise TrainingError(
            f"{found[-1][1]} is a checkpoint of another configuration:{lines}\nGive the same settings to go on from it, choose "
            "another --output, or begin anew with --resume no, which removes it"
        )
    _say(f"going on from step {found[-1][0]:,}")
    if there.get("world", world) != world:
        _say(
            f"it was written by {there['world']} processes, now there are {world}: dropout will fall differently"
        )
    return found[-1]


def _write_settings(settings: Settings, corpus: Corpus) -> None:
    import yaml

    output = settings.output
    text = yaml.safe_dump(
        {k: v for k, v in settings.described().items() if k not in ("size", "dry_run") and v is not None and v != []},
        sort_keys=False, allow_unicode=True,
    )  # fmt: skip
    (output / folder.SETTINGS).write_text(
        f"# The settings of this run; run finetune_{settings.size}.py --config with this file to repeat it.\n{text}",
        encoding="utf-8",
    )
    lines = [{"id": row, "reason": reason} for row, reason in corpus.left_out]
    lines += [{"id": row, "reason": "trained on, but cut"} for row in corpus.truncated]
    with (output / folder.LEFT_OUT).open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _record(
    settings: Settings, recipe: str, loaded: models.Loaded, corpus: Corpus, plan: Plan, loop: Any, template: Any,
    parameters: tuple[int, int], seconds: float, dtype: str, sharding: str,
) -> dict[str, Any]:  # fmt: skip
    """What ``run.json`` says."""
    import meadow

    losses: dict[int, dict[str, Any]] = {}
    for entry in loop.state.log_history:
        line = losses.setdefault(entry["step"], {"step": entry["step"]})
        line.update(
            {
                to: entry[key]
                for key, to in (("loss", "loss"), ("learning_rate", "lr"), ("eval_loss", "eval_loss"))
                if key in entry
            }
        )
    base = Path(loaded.source["base"])
    steps = loop.state.global_step
    tokens = sum(int(plan.lengths[plan.rows(step)].sum()) for step in range(steps))
    return {
        "meadow_version": meadow.__version__,
        "recipe": recipe,
        "method": settings.method,
        "preset": settings.preset,
        "settings": {**settings.described(), "warmup_steps_used": warmup(settings, plan.steps)},
        "base_model": {
            "path": str(base.resolve()),
            "name": base.resolve().name,
            "fingerprint": loaded.source["fingerprint"],
        },
        "template": template.to_dict(),
        "data": corpus.data,
        "license_verdict": corpus.license_verdict,
        "counts": corpus.counts(),
        "parameters": {"total": parameters[0], "trained": parameters[1]},
        "versions": {"python": sys.version.split()[0], **_versions()},
        "hardware": {
            **models.describe_hardware(),
            "processes": plan.world,
            "dtype": dtype,
            "sharding": sharding,
        },
        "steps": steps,
        "kept_step": _kept(loop),
        "tokens_seen": tokens,
        "seconds": round(seconds, 1),
        "losses": [losses[step] for step in sorted(losses) if len(losses[step]) > 1],
        "exam_hits": corpus.exam_hits,
        "unchecked": corpus.unchecked,
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _save(
    settings: Settings, loop: Any, tokenizer: Any, template: Any, run: dict[str, Any], dtype: str
) -> None:
    """Puts the finished model into the output, ``run.json`` last: with it the folder is a finished run."""
    import torch

    from meadow.train import record

    # Gathered by all processes where the model is sharded.
    state = loop.accelerator.get_state_dict(loop.model) if loop.is_fsdp_enabled else None
    if _rank() == 0:
        model = loop.accelerator.unwrap_model(loop.model)
        if not settings.adapters:
            number = getattr(torch, dtype)
            if state is None:
                model = model.to(number)
            else:
                state = {
                    key: value.to(number) if value.is_floating_point() else value
                    for key, value in state.items()
                }
            model.config.dtype = number
        model.config.use_cache = True
        with folder.publishing(settings.output) as work:
            if settings.adapters:
                model.save_pretrained(work, save_embedding_layers=False)
                # What peft writes there describes nothing; the card is made from the record.
                (work / "README.md").unlink(missing_ok=True)
            else:
                model.save_pretrained(work, state_dict=state)
            tokenizer.save_pretrained(work)
            prompts.save(template, work, tokenizer)
        record.write_record(settings.output, run)
        if not settings.keep_checkpoints:
            shutil.rmtree(settings.output / folder.CHECKPOINTS, ignore_errors=True)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


__all__ = ["main", "out_of_memory", "train", "warmup"]
