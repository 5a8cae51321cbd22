"""Asking a model of transformers: what is computed together is what is computed alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from meadow import models  # noqa: E402
from meadow.models import prompts  # noqa: E402
from meadow.score import ScoringError  # noqa: E402
from meadow.score.backend import Prompt  # noqa: E402
from meadow.score.local import LocalBackend  # noqa: E402
from meadow.score.tensors import sampling  # noqa: E402

ASKED = "Please answer with one of the options"
CASES = [
    "A man of 40 years has fever. What is it?\n\nA: Flu\nB: Malaria of the tropics\nC: Nothing",
    "What lowers blood pressure?\n\nA: Salt\nB: An inhibitor of the enzyme\nC: Rest, diet and a walk each day",
    "Which?\n\nA: Yes\nB: No\nC: Maybe",
    "A woman of 30 years comes with pain, nausea and a fever of 39 degrees since yesterday. " * 3 + "What now?\n\nA: Wait\nB: Cut\nC: Ask",
    "Fever?\n\nA: Yes, and it stays\nB: No\nC: Perhaps, but not for long",
]  # fmt: skip
TEXTS = [[line[3:] for line in case.splitlines() if line[1:3] == ": "] for case in CASES]
PROMPTS = [Prompt(ASKED, case, id=str(number)) for number, case in enumerate(CASES)]
FOLLOW = [["A", "B", "C", *texts] for texts in TEXTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.make_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> models.Loaded:
    return models.load(folder, device="cpu")


def _sums(backend: LocalBackend, places: Any = range(5)) -> list[list[float]]:
    found = backend.loglikelihoods([PROMPTS[i] for i in places], [FOLLOW[i] for i in places])
    return [[value.sum for value in values] for values in found]


def _naive(loaded: models.Loaded, template: prompts.Template, prompt: Prompt, text: str) -> float:
    """One text at a time, by a plain call of the model."""
    before = prompts.prompt_ids(template, loaded.tokenizer, prompt.instruction, prompt.input)
    after = prompts.answer_ids(template, loaded.tokenizer, text)
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor([before + after])).logits[0].log_softmax(-1)
    return sum(float(logits[len(before) + i - 1, token]) for i, token in enumerate(after))


@pytest.mark.parametrize("name", ["chat", "alpaca", "plain"])
def test_likelihoods_are_those_of_one_text_at_a_time(loaded: models.Loaded, name: str) -> None:
    template = prompts.get(name)
    backend = LocalBackend(loaded, template)
    for prompt, texts, sums in zip(PROMPTS, FOLLOW, _sums(backend), strict=True):
        assert sums == pytest.approx([_naive(loaded, template, prompt, text) for text in texts], abs=1e-4)
    assert backend.shared


def test_a_question_goes_through_the_model_once(loaded: models.Loaded) -> None:
    backend = LocalBackend(loaded, batch_size=1)
    _sums(backend)
    before = backend.forwards
    _sums(backend)
    assert backend.forwards - before == len(CASES)
    backend = LocalBackend(loaded, batch_size=8)
    _sums(backend)
    before = backend.forwards
    _sums(backend)
    assert backend.forwards - before == 1


def test_likelihoods_do_not_depend_on_the_batch(loaded: models.Loaded) -> None:
    alone = _sums(LocalBackend(loaded, batch_size=1))
    for size in (2, 3, 5):
        for one, other in zip(_sums(LocalBackend(loaded, batch_size=size)), alone, strict=True):
            assert one == pytest.approx(other, abs=1e-4)
    turned = _sums(LocalBackend(loaded, batch_size=5), [4, 3, 2, 1, 0])
    for one, other in zip(turned[::-1], alone, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_lengths_are_told(loaded: models.Loaded) -> None:
    backend = LocalBackend(loaded)
    found = backend.loglikelihoods(PROMPTS[:1], FOLLOW[:1])[0]
    assert [value.characters for value in found] == [1, 1, 1, 3, 22, 7]
    tokens = [prompts.answer_ids(backend.template, loaded.tokenizer, text) for text in FOLLOW[0]]
    assert [value.tokens for value in found] == [len(ids) for ids in tokens]


@pytest.mark.parametrize("kind", ["mistral", "qwen2", "gpt2", "gpt_neox", "bloom", "gemma2"])
def test_other_models_give_the_same_either_way(kind: str, loaded: models.Loaded) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes: dict[str, Any] = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 2048, "max_position_embeddings": 512,
    }  # fmt: skip
    if kind == "mistral":
        sizes["sliding_window"] = 48
    if kind == "gemma2":
        sizes["sliding_window"] = 48
    if kind == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 2048, "n_positions": 512}
    if kind == "bloom":
        sizes = {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 2048}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes)).eval()
    mine = models.Loaded(
        model, loaded.tokenizer, prompts.get("plain"), {"dtype": "float32", "quantization": None}
    )
    told: list[str] = []
    backend = LocalBackend(mine, batch_size=4, notify=told.append)
    for prompt, texts, sums in zip(PROMPTS, FOLLOW, _sums(backend), strict=True):
        template = prompts.get("plain")
        assert sums == pytest.approx([_naive(mine, template, prompt, text) for text in texts], abs=1e-3)
    if kind == "bloom":
        # Its positions are in a mask of its own making.
        assert not backend.shared and "takes longer" in told[0]


def test_what_is_written_does_not_depend_on_the_batch(loaded: models.Loaded) -> None:
    alone = LocalBackend(loaded, batch_size=1).generate(PROMPTS, max_new_tokens=12)
    assert LocalBackend(loaded, batch_size=5).generate(PROMPTS, max_new_tokens=12) == alone
    # By the plain way: the likeliest token, one after the other.
    backend = LocalBackend(loaded)
    ids = prompts.prompt_ids(backend.template, loaded.tokenizer, ASKED, CASES[0])
    start, ends = len(ids), prompts.stop_ids(backend.template, loaded.tokenizer)
    with torch.no_grad():
        while len(ids) < start + 12:
            token = int(loaded.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            if token in ends:
                break
            ids.append(token)
    assert alone[0] == loaded.tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


def test_what_is_sampled_depends_on_its_own_seed_alone(loaded: models.Loaded) -> None:
    more: dict[str, Any] = {"max_new_tokens": 10, "temperature": 0.8, "top_k": 50, "top_p": 0.9}
    seeds = [5, 6, 7, 8, 9]
    state = torch.get_rng_state()
    together = LocalBackend(loaded, batch_size=5).generate(PROMPTS, seed=seeds, **more)
    assert torch.equal(state, torch.get_rng_state())
    alone = [
        LocalBackend(loaded).generate([p], seed=[s], **more)[0] for p, s in zip(PROMPTS, seeds, strict=True)
    ]
    assert together == alone
    assert LocalBackend(loaded).generate(PROMPTS, seed=[s + 100 for s in seeds], **more) != together


def test_sampling_has_the_shares_of_the_usual_filters() -> None:
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    torch.manual_seed(1)
    logits = torch.randn(1, 40) * 2
    ours = torch.zeros(40)
    rows = 4000
    chosen = sampling(range(rows), 0.4, 10, 0.9)(None, logits.expand(rows, -1))
    ours = (chosen == 0).float().mean(0)
    theirs = logits
    for step in (TemperatureLogitsWarper(0.4), TopKLogitsWarper(10), TopPLogitsWarper(0.9)):
        theirs = step(None, theirs)
    shares = theirs.softmax(-1)[0]
    assert ((ours > 0) <= (shares > 0)).all()
    assert ours == pytest.approx(shares, abs=0.03)


def test_a_folder_that_wants_to_sample_is_asked_greedily(
    folder: Path, tmp_path: Path, loaded: models.Loaded
) -> None:
    import shutil

    other = tmp_path / "wild"
    shutil.copytree(folder, other)
    path = other / "generation_config.json"
    wild = {
        **json.loads(path.read_text()),
        "do_sample": True,
        "temperature": 3.0,
        "repetition_penalty": 1.8,
        "max_length": 7,
    }
    path.write_text(json.dumps(wild))
    backend = LocalBackend(models.load(other, device="cpu"))
    plain = LocalBackend(loaded)
    assert backend.generate(PROMPTS, max_new_tokens=12) == plain.generate(PROMPTS, max_new_tokens=12)


def test_an_answer_ends_where_the_next_question_begins(loaded: models.Loaded) -> None:
    backend = LocalBackend(loaded, prompts.get("plain"))
    whole = backend.generate(PROMPTS[:2], max_new_tokens=30, stop=())
    end = whole[0][8:10]
    cut = backend.generate(PROMPTS[:2], max_new_tokens=30, stop=(end,))
    assert cut[0] == whole[0].split(end)[0].strip()
    assert len(cut[0]) < len(whole[0])


def test_memory_that_runs_out_halves_the_batch(
    loaded: models.Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    backend = LocalBackend(loaded, batch_size=5, notify=told.append)
    want = _sums(LocalBackend(loaded))
    together = backend._together

    def short(asked: Any) -> Any:
        if len(asked) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return together(asked)

    monkeypatch.setattr(backend, "_together", short)
    for one, other in zip(_sums(backend), want, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert backend.batch_size == 2
    assert told == ["out of memory with 5 questions at once; going on with 2"]
    monkeypatch.setattr(
        backend,
        "_write",
        lambda *_: (_ for _ in ()).throw(RuntimeError("DefaultCPUAllocator: can't allocate memory")),
    )
    with pytest.raises(ScoringError, match="single question.*4bit"):
        backend.generate(PROMPTS, max_new_tokens=3)
    monkeypatch.setattr(backend, "_write", lambda *_: (_ for _ in ()).throw(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        backend.generate(PROMPTS, max_new_tokens=3)


def test_a_prompt_that_is_too_long_loses_its_middle_or_is_refused(loaded: models.Loaded) -> None:
    backend = LocalBackend(loaded)
    long = Prompt(ASKED, "The beginning. " + "word after word " * 900 + " the end.\n\nA: x\nB: y", id="7")
    rendered = backend.render(long, 10)
    assert rendered.cut and rendered.length <= 2048 - 10
    assert not backend.render(PROMPTS[0], 10).cut
    assert backend.loglikelihoods([long], [["A", "B"]])[0][0].sum < 0
    with pytest.raises(ScoringError, match="item 9: prompt is too long"):
        backend.render(Prompt("word " * 4000, "x", id="9"), 10)


def test_what_is_hashed_is_what_is_asked(loaded: models.Loaded) -> None:
    backend = LocalBackend(loaded)
    one, two = backend.render(PROMPTS[0], 5), backend.render(PROMPTS[1], 5)
    assert one.sha256 != two.sha256 and one == LocalBackend(loaded).render(PROMPTS[0], 5)
    assert LocalBackend(loaded, prompts.get("alpaca")).render(PROMPTS[0], 5).sha256 != one.sha256
    begun = dataclasses.replace(
        PROMPTS[0], answer_prefix="The Answer to the question is:", template="medalpaca"
    )
    assert backend.render(begun, 5).sha256 != one.sha256


def test_the_template_is_the_one_of_the_model(folder: Path, tmp_path: Path, loaded: models.Loaded) -> None:
    import shutil

    trained = tmp_path / "trained"
    shutil.copytree(folder, trained)
    prompts.save(prompts.get("alpaca"), trained, loaded.tokenizer)
    assert LocalBackend(models.load(trained, device="cpu")).template.name == "alpaca"
    assert LocalBackend(loaded).template.name == "chat"
    assert LocalBackend(loaded, prompts.get("plain")).template.name == "plain"


@pytest.fixture(scope="module")
def adapter(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    peft = pytest.importorskip("peft")
    place = tmp_path_factory.mktemp("adapter")
    base = models.load(folder, device="cpu")
    torch.manual_seed(3)
    config = peft.LoraConfig(
        r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM",
        base_model_name_or_path=str(folder),
    )  # fmt: skip
    peft.get_peft_model(base.model, config).save_pretrained(place)
    yield place


def test_an_adapter_is_asked_with_its_base(adapter: Path, folder: Path, loaded: models.Loaded) -> None:
    mine = models.load(adapter, base=folder, device="cpu")
    backend = LocalBackend(mine)
    assert backend.identity["adapter_fingerprint"]
    for prompt, texts, sums in zip(PROMPTS, FOLLOW, _sums(backend), strict=True):
        assert sums == pytest.approx(
            [_naive(mine, backend.template, prompt, text) for text in texts], abs=1e-4
        )
    assert backend.shared
    assert _sums(backend)[0] != pytest.approx(_sums(LocalBackend(loaded))[0], abs=1e-4)
    alone = LocalBackend(mine, batch_size=1).generate(PROMPTS, max_new_tokens=8)
    assert backend.generate(PROMPTS, max_new_tokens=8) == alone


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_quantised_models_are_asked(quantization: str, folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    mine = models.load(folder, quantization=quantization, device="cpu")
    backend = LocalBackend(mine)
    assert backend.identity["quantization"] == quantization
    for prompt, texts, sums in zip(PROMPTS[:2], FOLLOW[:2], _sums(backend, range(2)), strict=True):
        # Rounding to eight bits depends on what else is in the batch.
        want = [_naive(mine, backend.template, prompt, text) for text in texts]
        assert sums == pytest.approx(want, abs=0.5)
    assert len(backend.generate(PROMPTS[:2], max_new_tokens=4)) == 2


def test_half_precision(folder: Path, loaded: models.Loaded) -> None:
    backend = LocalBackend(models.load(folder, dtype="bfloat16", device="cpu"))
    for one, other in zip(_sums(backend), _sums(LocalBackend(loaded)), strict=True):
        assert one == pytest.approx(other, abs=1.0)
    assert backend.shared
