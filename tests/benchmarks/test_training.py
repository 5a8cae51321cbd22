"""Training throughput against a plain `transformers.Trainer` with padded batches, as the published script has it.

Same model, same rows, same token ids, same effective batch, one pass, in one process on one thread. What counts is the
processor time of `Trainer.train`, which both go through, so that neighbours on the machine do not. Only real tokens
count, never padding. The published script pads the rows of a batch to the longest among them, rounded up to eight, on
the left, and takes rows as they come: four at once, as its example script does.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.bench

#: Rows of each source, drawn at random: short cards, long threads, vignettes, abstracts.
SHARES = {"medical_flashcards": 24, "stackexchange": 28, "medqa": 28, "pubmedqa": 16}
BATCH, LENGTH = 32, 1024
_REPEATS = 2
AT_ONCE, PLAIN = 4, "Trainer, padded"


@pytest.fixture(scope="module")
def rows(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real rows, whose lengths differ as those of real data do."""
    from meadow.api import build_datasets
    from meadow.core.store import Store

    out = tmp_path_factory.mktemp("out")
    build_datasets(["flashcards", "stackexchange", "medqa", "pubmedqa"], raw=real, out=out, workers=1)
    chance, found = random.Random(0), []
    for name, count in SHARES.items():
        every = [
            {k: row[k] for k in ("id", "instruction", "input", "output")} for row in Store(out).rows(name)
        ]
        found += chance.sample(every, min(count, len(every)))
    path = out / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaMA of 4.2 million parameters: large enough that arithmetic, not Python, takes the time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from meadow import models

    folder = models.make_tiny(tmp_path_factory.mktemp("models") / "small")
    config = LlamaConfig.from_pretrained(folder)
    for key, value in {
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 4,
        "head_dim": 64,
    }.items():
        setattr(config, key, value)
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Processor seconds of every training, those of saving included."""
    import transformers

    found: list[float] = []
    train = transformers.Trainer.train

    def timed(*args: Any, **kwargs: Any) -> Any:
        begin = time.process_time()
        try:
            return train(*args, **kwargs)
        finally:
            found.append(time.process_time() - begin)

    monkeypatch.setattr(transformers.Trainer, "train", timed)
    return found


def ours(model: Path, rows: Path, output: Path, packing: str) -> dict[str, Any]:
    from meadow.train import parse
    from recipes import finetune_7b

    argv = [
        "--model", str(model), "--data", str(rows), "--output", str(output), "--method", "full", "--packing", packing,
        "--batch-size", str(BATCH), "--per-device-batch-size", str(AT_ONCE), "--max-length", str(LENGTH), "--epochs", "1",
        "--validation", "0", "--warmup-steps", "1", "--activation-checkpointing", "false", "--device", "cpu",
    ]  # fmt: skip
    finetune_7b.run(parse(argv, size="7b"))
    return json.loads((output / "run.json").read_text())


def published(model: Path, rows: Path, output: Path, at_once: int) -> tuple[int, int]:
    """Real tokens, and tokens with padding."""
    import transformers

    from meadow import models
    from meadow.models import prompts
    from meadow.train.data import prepare
    from meadow.train.reading import sources
    from meadow.train.settings import TrainSettings

    loaded = models.load(model, device="cpu", training=True)
    asked = TrainSettings(max_length=LENGTH, train_on_inputs=True, validation=0)
    corpus = prepare(asked, sources([str(rows)]), loaded.tokenizer, prompts.get("medalpaca"))
    data = [
        {
            "input_ids": corpus.tokens[a:b].tolist(),
            "labels": corpus.tokens[a:b].tolist(),
            "attention_mask": [1] * int(b - a),
        }
        for a, b in zip(corpus.offsets[:-1], corpus.offsets[1:], strict=True)
    ]
    loaded.tokenizer.padding_side = "left"
    pad = transformers.DataCollatorForSeq2Seq(
        loaded.tokenizer, pad_to_multiple_of=8, return_tensors="pt", padding=True
    )
    computed = 0

    def collate(batch: list[dict[str, Any]]) -> Any:
        nonlocal computed
        found = pad(batch)
        computed += found["input_ids"].numel()
        return found

    arguments = transformers.TrainingArguments(
        output_dir=str(output), per_device_train_batch_size=at_once, gradient_accumulation_steps=BATCH // at_once,
        num_train_epochs=1, learning_rate=2e-5, lr_scheduler_type="cosine", warmup_steps=1, optim="adamw_torch", seed=42,
        report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no", logging_steps=10,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model=loaded.model, args=arguments, train_dataset=data, data_collator=collate
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return int(corpus.lengths.sum()), computed


def test_packing_is_half_again_as_fast_as_padded_batches(
    model: Path, rows: Path, tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    speeds: dict[str, list[float]] = {}
    shares: dict[str, float] = {}
    try:
        for turn in range(_REPEATS):
            tokens, computed = published(model, rows, tmp_path / f"published-{turn}", AT_ONCE)
            speeds.setdefault(PLAIN, []).append(tokens / clock[-1])
            shares[PLAIN] = tokens / computed
            for packing in ("packed", "length"):
                run = ours(model, rows, tmp_path / f"{packing}-{turn}", packing)
                speeds.setdefault(f"Meadow, {packing}", []).append(run["tokens_seen"] / clock[-1])
                assert run["tokens_seen"] == tokens
    finally:
        torch.set_num_threads(threads)
    best = {name: max(found) for name, found in speeds.items()}
    print(f"\n{os.cpu_count()} cores, one thread, {sum(SHARES.values())} rows, {tokens:,} tokens")
    for name, speed in best.items():
        share = f", {100 * shares[name]:.0f} % of what it computes is real" if name in shares else ""
        print(f"{name}: {speed:,.0f} tokens/s{share}")
    ratio = best["Meadow, packed"] / best[PLAIN]
    print(f"packed against padded: {ratio:.2f} times")
    assert ratio >= 1.5
