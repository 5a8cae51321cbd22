"""Speed of scoring, beside the published way: one question at a time, an answer of 128 tokens sampled for each.

The published script tries up to five times; here it is given one try, as if every answer fitted its pattern at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.bench

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from meadow import models  # noqa: E402
from meadow.models import prompts  # noqa: E402
from meadow.score import asking, protocols  # noqa: E402
from meadow.score.exams import Exam, ExamItem  # noqa: E402
from meadow.score.local import LocalBackend  # noqa: E402
from meadow.score.predictions import Predictions  # noqa: E402
from tests.exam_texts import vignettes  # noqa: E402

#: Of a published answer.
TOKENS = 128


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[models.Loaded]:
    """A random LLaMA of three million parameters, so that the processor has more to do than Python."""
    from transformers import LlamaConfig, LlamaForCausalLM

    found = models.load(models.make_tiny(tmp_path_factory.mktemp("models") / "tiny"), device="cpu")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048, hidden_size=192, intermediate_size=512, num_hidden_layers=5, num_attention_heads=8,
        num_key_value_heads=8, max_position_embeddings=2048, bos_token_id=1, eos_token_id=2, pad_token_id=3,
    )  # fmt: skip
    found.model = LlamaForCausalLM(config).eval()
    print(f"\n{found.model.num_parameters():,} parameters, one core")
    # Processor time of one thread is the same whatever else the machine does.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield found
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def exam() -> Exam:
    items = []
    for found in vignettes(32):
        options = dict(zip("ABCD", found.options, strict=True))
        answer = next(key for key, text in options.items() if text == found.answer)
        items.append(ExamItem(found.id, found.question, options, answer, "test", ""))
    return Exam("vignettes", "", tuple(items))


def _published(loaded: models.Loaded, items: tuple[ExamItem, ...]) -> float:
    """Seconds an item, the published way."""
    model, tokenizer, template = loaded.model, loaded.tokenizer, prompts.get("medalpaca")
    start = time.process_time()
    for item in items:
        given = "\n".join([item.question, *(f"{key}: {text}" for key, text in item.options.items())])
        prompt = (
            prompts.prompt_text(template, None, protocols.COMPAT_INSTRUCTION, given) + protocols.COMPAT_PREFIX
        )
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            written = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=0.4, top_k=50, top_p=0.9,
                max_new_tokens=TOKENS, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        tokenizer.decode(written[0])
    return (time.process_time() - start) / len(items)


def _ours(loaded: models.Loaded, exam: Exam, folder: Path, protocol: str, **more: Any) -> float:
    """Seconds an item, from prompts to what is on the disk."""
    backend = LocalBackend(loaded, prompts.get("medalpaca"), batch_size=16)
    start = time.process_time()
    with Predictions(folder, {"protocol": protocol, **more}) as there:
        asking.run(protocol, exam, backend, there, batch_size=16, **more)
    return (time.process_time() - start) / len(exam.items)


def _best(work: Callable[[int], float], times: int = 2) -> float:
    return min(work(number) for number in range(times))


@pytest.fixture(scope="module")
def published(loaded: models.Loaded, exam: Exam) -> float:
    _published(loaded, exam.items[:1])
    found = _best(lambda _: _published(loaded, exam.items[:6]))
    print(f"published way: {1 / found:.2f} items a second")
    return found


def test_likelihoods_are_ten_times_as_fast(
    loaded: models.Loaded, exam: Exam, published: float, tmp_path: Path
) -> None:
    ours = _best(lambda n: _ours(loaded, exam, tmp_path / str(n), "loglikelihood"))
    print(f"loglikelihood: {1 / ours:.1f} items a second, {published / ours:.1f} times")
    assert published / ours >= 10


@pytest.mark.parametrize("tokens", [TOKENS, protocols.GENERATE_TOKENS])
def test_batched_writing_is_three_times_as_fast(
    loaded: models.Loaded, exam: Exam, published: float, tmp_path: Path, tokens: int
) -> None:
    ours = _ours(loaded, exam, tmp_path, "generate", max_new_tokens=tokens)
    print(f"generate, {tokens} tokens: {1 / ours:.2f} items a second, {published / ours:.1f} times")
    assert published / ours >= 3
