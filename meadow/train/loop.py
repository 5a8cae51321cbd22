"""The training loop: transformers' `Trainer` over the micro-batches of a `StepPlan`.

What differs from a plain `Trainer`: the loss is the mean over the trained tokens of a whole step, over all
micro-batches and processes; the order of rows is the plan's; a loss that is no number stops the run and names the
rows; the model's wrapper is checked to be what was asked for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers

from meadow.train import folder
from meadow.train.data import Corpus
from meadow.train.folder import Beginning, NotFiniteError, TrainingError
from meadow.train.packing import StepPlan, collate


def token_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The summed cross entropy of the tokens that have a label.

    Only their logits are turned into float32: of a row whose answer alone is trained on, most are not needed.

    Args:
        logits: [blocks, tokens, vocabulary].
        labels: [blocks, tokens], -100 where nothing is trained; each is predicted by the token before it.
    """
    wanted = labels[:, 1:] != -100
    if not wanted.any():
        # Part of the graph all the same: every process must go through backward.
        return logits[:, :1].float().sum() * 0.0
    return torch.nn.functional.cross_entropy(
        logits[:, :-1][wanted].float(), labels[:, 1:][wanted], reduction="sum"
    )


class Loop(transformers.Trainer):
    """See the module.

    Args:
        corpus: The rows.
        plan: The order of those that are trained on.
        held: The same for validation rows, in one step; None where there are none.
        beginning: Where the run goes on from.
        **kwargs: Those of `transformers.Trainer`.
    """

    def __init__(
        self, corpus: Corpus, plan: StepPlan, held: StepPlan | None, beginning: Beginning, **kwargs: Any
    ) -> None:
        self.corpus, self.plan, self.held, self.beginning = corpus, plan, held, beginning
        self.pad, self.started = kwargs["processing_class"].pad_token_id, time.monotonic()
        micros: Any = range(len(plan))  # a row is the number of a micro-batch
        looked = micros if held else None
        super().__init__(train_dataset=micros, eval_dataset=looked, data_collator=self._collate, **kwargs)
        self.trained = np.add.reduceat(corpus.trained, corpus.offsets[:-1]).astype(np.int64)
        # The loss below is already a mean over the step; Trainer must not divide it again.
        self.loss_is_scaled_for_ga = True
        self.model_accepts_loss_kwargs = True

    def _collate(self, numbers: list[int]) -> dict[str, Any]:
        rows = self.plan.micro(numbers[0])
        found = collate(self.corpus, rows, self.pad, packed=self.plan.packing == "packed")
        return {**found, "micro": numbers[0]}

    def _step_of(self, micro: int) -> int:
        return micro // (self.plan.accumulation * self.plan.world)

    def _stop(self, what: str, step: int, rows: Iterable[int]) -> NotFiniteError:
        ids = [self.corpus.ids[row] for row in dict.fromkeys(rows)]
        return NotFiniteError(what, step, ids, folder.safe(Path(str(self.args.output_dir)).parent))

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The micro-batch's share of the step's mean loss, times the processes that gradients are averaged over."""
        labels, micro = inputs.pop("labels"), inputs.pop("micro")
        outputs = model(**inputs, use_cache=False)
        count = int(self.trained[self.plan.rows(self._step_of(micro))].sum())
        loss = token_loss(outputs.logits, labels) / count * self.plan.world
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """As `Trainer` has it; a loss that is no number ends the run by a NotFiniteError with the rows."""
        micro = inputs["micro"]
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            rows = [row for block in self.plan.micro(micro) for row in block]
            raise self._stop("the loss", self._step_of(micro) + 1, self._guilty(rows) or rows)
        return loss

    def _summed(self, blocks: list[list[int]], *, packed: bool) -> tuple[float, int]:
        """The loss of blocks, summed over their trained tokens, and how many these are; nothing is learned."""
        found = collate(self.corpus, blocks, self.pad, packed=packed)
        inputs = {name: tensor.to(self.args.device) for name, tensor in found.items()}
        labels = inputs.pop("labels")
        with torch.no_grad(), self.compute_loss_context_manager():
            logits = cast(torch.nn.Module, self.model)(**inputs, use_cache=False).logits
            return token_loss(logits, labels).item(), int((labels[:, 1:] != -100).sum())

    def _guilty(self, rows: list[int]) -> list[int]:
        """Those of the rows whose loss alone is no number; none where each is sound by itself."""
        if self.is_fsdp_enabled:
            return []  # a pass through sharded weights needs all processes
        return [row for row in rows if not math.isfinite(self._summed([[row]], packed=False)[0])]

    def check_gradients(self) -> None:
        """Raises NotFiniteError with the rows of the step when a gradient is no number, before it reaches the weights."""
        grads = [p.grad for p in cast(torch.nn.Module, self.model).parameters() if p.grad is not None]
        if not grads or self.args.fp16:  # with fp16 the scaler passes over such steps, as it should
            return
        norm = torch.nn.utils.get_total_norm(grads)
        norm = getattr(norm, "full_tensor", lambda: norm)()
        if not torch.isfinite(norm):
            step = self.state.global_step
            raise self._stop("the gradient", step + 1, self.plan.rows(step).tolist())

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The mean loss over all trained tokens of the validation rows; raises NotFiniteError where it is no number."""
        model, held = cast(torch.nn.Module, self.model), cast(StepPlan, self.held)
        was = model.training
        model.eval()
        # In the corpus they come after the others.
        first = self.corpus.rows
        mine = held.step(0)[self.args.process_index :: held.world]
        micros = [[[first + row for row in block] for block in blocks] for blocks in mine]
        sums = torch.zeros(2, dtype=torch.float64)
        for blocks in micros:
            sums += torch.tensor(self._summed(blocks, packed=held.packing == "packed"), dtype=torch.float64)
        model.train(was)
        # Not every device knows float64.
        both: Any = self.accelerator.reduce(sums.float().to(self.args.device), "sum")
        total, count = both.tolist()
        metrics = {f"{metric_key_prefix}_loss": total / max(count, 1)}
        if not math.isfinite(total):
            rows = [row for blocks in micros for block in blocks for row in block]
            raise self._stop("the validation loss", self.state.global_step, self._guilty(rows) or rows)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def elapsed(self) -> float:
        """Seconds that the run took, those before an interruption included."""
        return self.beginning.seconds + time.monotonic() - self.started


class Watch(transformers.TrainerCallback):
    """Checks that the `loop`'s model is wrapped as was asked for, checks gradients, and declares checkpoints whole."""

    loop: Loop

    def __init__(self, wrapper: str) -> None:
        self.wrapper = wrapper

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        check_wrapper(self.loop.model_wrapped, self.wrapper)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.loop.check_gradients()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # A checkpoint is whole when every process has written its part.
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()
        if state.is_world_process_zero:
            loop, path = self.loop, Path(args.output_dir) / f"checkpoint-{state.global_step}"
            folder.mark(path, identity=loop.beginning.identity, seconds=loop.elapsed(), world=loop.plan.world)


def check_wrapper(model: Any, expected: str) -> None:
    """Refuses to train under another wrapper than was asked for: ``fsdp``, ``ddp`` or ``none``.

    On CPUs the libraries use DDP where FSDP was asked for, without a word: each process then holds the whole model.
    """
    from torch.distributed.fsdp import FSDPModule
    from torch.nn.parallel import DataParallel, DistributedDataParallel

    wrappers = {"fsdp": FSDPModule, "ddp": DistributedDataParallel, "dp": DataParallel}
    found = next((name for name, wrapper in wrappers.items() if isinstance(model, wrapper)), "none")
    if found != expected:
        raise TrainingError(
            f"the model was to be wrapped in {expected}, and the libraries wrapped it in {found} "
            f"({type(model).__name__}); nothing was trained. FSDP needs a GPU for each process: start with torchrun "
            "or accelerate on GPUs, or choose --sharding none"
        )


class Bar(transformers.TrainerCallback):
    """Moves a progress bar of steps, with the loss and the tokens per second."""

    def __init__(self, bar: Any, plan: StepPlan) -> None:
        self.bar, self.plan, self.tokens = bar, plan, 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.tokens += self.plan.tokens_of(state.global_step - 1)
        self.bar.update(1)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        found = {"tokens/s": f"{self.tokens / max(self.bar.format_dict['elapsed'], 1e-9):,.0f}"}
        found |= {k: f"{logs[k]:.4g}" for k in ("loss", "eval_loss") if k in logs}
        self.bar.set_postfix(found, refresh=False)
