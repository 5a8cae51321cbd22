"""What models are asked by each protocol, and what is made of their answers."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from meadow.score import ResumeError, ScoreSettings, ScoreSettingsError, ScoringError, problems
from meadow.score.asking import run
from meadow.score.backend import Likelihood, Prompt, Rendered
from meadow.score.exams import Exam, ExamItem
from meadow.score.predictions import Predictions, read
from meadow.score.protocols import (
    COMPAT_INSTRUCTION,
    COMPAT_PREFIX,
    GENERATE_INSTRUCTION,
    PROTOCOLS,
    order_of,
)
from recipes.score_usmle import score

ITEMS = tuple(
    ExamItem(f"x/{n}", f"Question {n}?", {"A": "Aspirin", "B": "Beta blocker", "C": "Rest", "D": "Surgery"}, "ABCD"[n % 4], f"step{n % 2}", "")
    for n in range(10)
)  # fmt: skip
EXAM = Exam("exam", "1.0.0", ITEMS)


class Fake:
    """A backend that answers as it is told."""

    name, no_loglikelihood = "fake", ""
    described: Mapping[str, Any] = {"name": "fake"}
    doubts = ()

    def __init__(self, answer: Callable[[Prompt, int], str] | None = None, concurrency: int = 1) -> None:
        self.identity: dict[str, Any] = {"model": "fake"}
        self.answer, self.concurrency = answer, concurrency
        self.asked: list[tuple[Prompt, dict[str, Any], int]] = []
        self.batches: list[int] = []

    def render(self, prompt: Prompt, room: int) -> Rendered:
        return Rendered(hashlib.sha256(repr(prompt).encode()).hexdigest(), len(prompt.input))

    def loglikelihoods(
        self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]
    ) -> list[list[Likelihood]]:
        self.batches.append(len(prompts))
        self.asked += [(prompt, {}, 0) for prompt in prompts]
        return [
            [self.likelihood(p, t) for t in texts] for p, texts in zip(prompts, continuations, strict=True)
        ]

    def likelihood(self, prompt: Prompt, text: str) -> Likelihood:
        # The letter of "Rest", wherever it stands; of the texts the shortest by sum, "Surgery" by its length.
        if len(text) == 1:
            return Likelihood(-1.0 if f"{text}: Rest" in prompt.input else -2.0, 1, 1)
        return Likelihood({"Surgery": -4.5}.get(text, -1.0 * len(text)), 2, len(text))

    def close(self) -> None:
        pass

    def generate(self, prompts: Sequence[Prompt], **more: Any) -> list[str]:
        assert self.answer
        self.batches.append(len(prompts))
        seeds = more.get("seed") or [0] * len(prompts)
        self.asked += [(p, more, s) for p, s in zip(prompts, seeds, strict=True)]
        return [self.answer(p, s) for p, s in zip(prompts, seeds, strict=True)]


def _run(folder: Path, protocol: str, backend: Fake, exam: Exam = EXAM, **more: Any) -> list[dict[str, Any]]:
    with Predictions(folder, {"model": backend.identity, "protocol": protocol}) as there:
        run(protocol, exam, backend, there, **more)
    return read(folder)[1]


def test_likelihoods_choose_by_letter_and_tell_the_rest(tmp_path: Path) -> None:
    backend = Fake()
    lines = _run(tmp_path, "loglikelihood", backend, batch_size=4)
    assert backend.batches == [4, 4, 2] and len(lines) == 10
    for line in lines:
        assert line["parsed"] == "C" and line["raw"] is None and line["how"] == "likelihood"
        assert line["choices"] == {"letter": "C", "text": "C", "text_norm": "D"}
        assert line["likelihoods"]["letter"]["C"] == {"sum": -1.0, "tokens": 1, "characters": 1}
        assert line["likelihoods"]["text"]["B"] == {"sum": -12.0, "tokens": 2, "characters": 12}
        assert line["correct"] == (line["answer"] == "C") and line["order"] == "ABCD"
    prompt = backend.asked[0][0]
    assert prompt.instruction == "Please answer with one of the options"
    assert prompt.input.endswith("?\n\nA: Aspirin\nB: Beta blocker\nC: Rest\nD: Surgery")


def test_the_first_of_equal_likelihoods_is_chosen(tmp_path: Path) -> None:
    backend = Fake()
    backend.likelihood = lambda prompt, text: Likelihood(-3.0, 1, len(text))  # type: ignore[method-assign]
    assert {line["parsed"] for line in _run(tmp_path, "loglikelihood", backend)} == {"A"}


def test_shuffled_options_are_told_by_their_own_letters(tmp_path: Path) -> None:
    backend = Fake(
        lambda prompt, _: next(line for line in prompt.input.splitlines() if line.endswith(": Rest"))
    )
    for protocol in ("loglikelihood", "generate"):
        lines = _run(tmp_path / protocol, protocol, backend, permute=3, seed=1)
        assert len(lines) == 40 and {line["parsed"] for line in lines} == {"C"}
        assert {line["permutation"] for line in lines} == {0, 1, 2, 3}
        for line in lines:
            assert sorted(line["order"]) == list("ABCD")
            if protocol == "loglikelihood":
                shown = {key: value["sum"] for key, value in line["likelihoods"]["letter"].items()}
                assert max(shown, key=lambda key: shown[key]) == "C"
    # A model that always says "B" says another option in another order.
    lines = _run(tmp_path / "b", "generate", Fake(lambda *_: "B"), permute=2)
    for line in lines:
        assert line["parsed"] == line["order"][1]


def test_orders_are_seeded_and_all_different() -> None:
    item = ITEMS[0]
    assert order_of(item, 0, 5) == ("A", "B", "C", "D")
    orders = [order_of(item, p, 5) for p in range(24)]
    assert sorted(orders) == sorted(itertools.permutations("ABCD"))
    assert orders == [order_of(item, p, 5) for p in range(24)]
    assert orders[1:] != [order_of(item, p, 6) for p in range(1, 24)]
    assert {order_of(item, p, 5) for p in range(24, 30)} <= set(itertools.permutations("ABCD"))
    assert len({order_of(i, 1, 5) for i in ITEMS}) > 3


def test_a_greater_number_of_orders_keeps_those_that_were_asked(tmp_path: Path) -> None:
    backend = Fake()
    _run(tmp_path, "loglikelihood", backend, permute=1)
    backend.asked.clear()
    assert len(_run(tmp_path, "loglikelihood", backend, permute=2)) == 30
    assert len(backend.asked) == 10
    _run(tmp_path, "loglikelihood", backend)
    assert len(backend.asked) == 10


def test_generate_asks_for_the_form_and_counts_the_unreadable_as_wrong(tmp_path: Path) -> None:
    texts = ["B: Beta blocker", "A 45-year-old man", "C or D", ""]
    backend = Fake(lambda prompt, _: texts[int(prompt.id[-1]) % 4])
    lines = {line["id"]: line for line in _run(tmp_path, "generate", backend)}
    assert [lines[f"x/{n}"]["parsed"] for n in range(4)] == ["B", None, None, None]
    assert [lines[f"x/{n}"]["how"] for n in range(4)] == ["letter and text", "none", "several", "empty"]
    assert not lines["x/1"]["correct"] and lines["x/1"]["raw"] == "A 45-year-old man"
    prompt, more, _ = backend.asked[0]
    assert prompt.instruction == GENERATE_INSTRUCTION and '"Option: Answer"' in prompt.instruction
    assert more == {"max_new_tokens": PROTOCOLS["generate"].max_new_tokens}


def test_as_published(tmp_path: Path) -> None:
    tries: dict[str, int] = {}

    def answer(prompt: Prompt, seed: int) -> str:
        number = tries[prompt.id] = tries.get(prompt.id, 0) + 1
        return {
            "x/0": "A: Aspirin</s>", "x/1": " **B. Beta blocker**", "x/2": "C Rest", "x/3": "A 45-year-old man",
            "x/4": "B", "x/5": "(B) Beta blocker", "x/6": "it is C: Rest", "x/7": "Z: other",
            "x/8": "no" if number < 3 else "D: Surgery", "x/9": "",
        }[prompt.id]  # fmt: skip

    backend = Fake(answer)
    lines = {line["id"]: line for line in _run(tmp_path, "medalpaca-compat", backend, batch_size=4, seed=7)}
    found = [(lines[f"x/{n}"]["parsed"], lines[f"x/{n}"]["how"], lines[f"x/{n}"]["tries"]) for n in range(10)]
    assert found == [
        ("A", "matched", 1), ("B", "matched", 1), ("C", "matched", 1), ("A", "matched", 1), (None, "unmatched", 5),
        (None, "unmatched", 5), (None, "unmatched", 5), (None, "no option", 1), ("D", "matched", 3), (None, "unmatched", 5),
    ]  # fmt: skip
    prompt, more, _ = backend.asked[0]
    assert prompt.instruction == COMPAT_INSTRUCTION and prompt.answer_prefix == COMPAT_PREFIX
    assert prompt.template == "medalpaca"
    assert "?\nA: Aspirin\nB: Beta blocker" in prompt.input
    assert {k: more[k] for k in ("temperature", "top_k", "top_p", "max_new_tokens", "stop")} == {
        "temperature": 0.4, "top_k": 50, "top_p": 0.9, "max_new_tokens": 128, "stop": (),
    }  # fmt: skip
    seeds = [seed for *_, seed in backend.asked]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**31 for seed in seeds)
    # The same tries have the same seeds, whatever is asked together.
    again = Fake(answer)
    tries.clear()
    _run(tmp_path / "again", "medalpaca-compat", again, batch_size=1, seed=7)
    assert sorted(seeds) == sorted(seed for *_, seed in again.asked)


def test_the_published_protocol_lists_its_defects() -> None:
    notes = " ".join(PROTOCOLS["medalpaca-compat"].notes)
    assert notes.count("Defect:") >= 4 and "45-year-old" in notes
    assert not PROTOCOLS["loglikelihood"].notes


@pytest.mark.parametrize("concurrency", [2, 5])
def test_concurrent_answers_are_written_as_they_come(tmp_path: Path, concurrency: int) -> None:
    going, most, lock = 0, 0, threading.Lock()

    def answer(prompt: Prompt, _: int) -> str:
        nonlocal going, most
        with lock:
            going += 1
            most = max(most, going)
        time.sleep(0.05 if prompt.id == "x/0" else 0.01)
        with lock:
            going -= 1
        return "A"

    lines = _run(tmp_path, "generate", Fake(answer, concurrency))
    assert most == concurrency and {line["id"] for line in lines} == {item.id for item in ITEMS}


def test_a_failure_keeps_what_was_answered(tmp_path: Path) -> None:
    def answer(prompt: Prompt, _: int) -> str:
        if prompt.id == "x/5":
            raise ScoringError("item x/5: gone")
        time.sleep(0.02)
        return "A"

    for concurrency in (1, 3):
        folder = tmp_path / str(concurrency)
        with pytest.raises(ScoringError, match="x/5: gone"):
            _run(folder, "generate", Fake(answer, concurrency), batch_size=1)
        there = read(folder)[1]
        assert 5 <= len(there) < 10
        backend = Fake(lambda *_: "B")
        lines = _run(folder, "generate", backend)
        assert len(backend.asked) == 10 - len(there) and len(lines) == 10


def test_other_words_do_not_go_on(tmp_path: Path) -> None:
    _run(tmp_path, "generate", Fake(lambda *_: "A"))
    other = Exam(
        "exam",
        "1.0.0",
        tuple(ExamItem(i.id, i.question + "!", i.options, i.answer_key, i.part, "") for i in ITEMS),
    )
    with pytest.raises(ResumeError, match="item x/0 was asked in other words"):
        _run(tmp_path, "generate", Fake(lambda *_: "A"), other)


def test_progress_counts_what_is_there(tmp_path: Path) -> None:
    _run(tmp_path, "loglikelihood", Fake())
    seen: list[tuple[int, int]] = []
    _run(tmp_path, "loglikelihood", Fake(), permute=1, batch_size=5, progress=lambda *now: seen.append(now))
    assert seen == [(10, 20), (15, 20), (20, 20)]


def test_what_cannot_be_asked_is_told(tmp_path: Path) -> None:
    backend = Fake()
    with pytest.raises(ScoringError, match="no protocol is named 'magic'"):
        _run(tmp_path / "a", "magic", backend)
    backend.likelihood = lambda prompt, text: Likelihood(float("nan"), 1, 1)  # type: ignore[method-assign]
    with pytest.raises(ScoringError, match="item x/0: the model gives no number"):
        _run(tmp_path / "b", "loglikelihood", backend)
    backend.likelihood = lambda prompt, text: Likelihood(float("-inf"), 1, 1)  # type: ignore[method-assign]
    assert _run(tmp_path / "c", "loglikelihood", backend)[0]["likelihoods"]["letter"]["A"]["sum"] is None
    backend.no_loglikelihood = "no likelihoods here: use --protocol generate"
    with pytest.raises(ScoringError, match="--protocol generate"):
        _run(tmp_path / "d", "loglikelihood", backend)


def test_settings_are_judged_all_at_once(tmp_path: Path) -> None:
    wrong = ScoreSettings(
        None, tmp_path, protocol="magic", permute=-1, batch_size=0, quantization="2bit", limit=0
    )
    assert len(problems(wrong)) == 6
    with pytest.raises(ScoreSettingsError) as caught:
        score(wrong)
    assert len(caught.value.problems) == 6 and not list(tmp_path.iterdir())
    far = ScoreSettings(None, tmp_path, endpoint="http://localhost:1/v1", adapter="x", dtype="bfloat16")
    assert [text.split()[0] for text in problems(far)] == ["--adapter", "--dtype", "--protocol"]
    assert not problems(ScoreSettings("tiny", tmp_path))


def test_two_commands_and_a_report(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from meadow import models

    folder = models.make_tiny(tmp_path / "model")
    (tmp_path / "exam.jsonl").write_text(
        '{"id": "1", "question": "Which?", "options": {"A": "this", "B": "that"}, "answer": "A"}\n'
        '{"id": "2", "question": "What?", "options": {"A": "one", "B": "two", "C": "three"}, "answer": "C"}\n'
    )
    told: list[str] = []
    settings = ScoreSettings(
        str(folder), tmp_path / "out", exam=str(tmp_path / "exam.jsonl"), permute=1, device="cpu"
    )
    scores = score(settings, told.append)
    assert scores["overall"]["n"] == 2 and scores["permutation"]["orders"] == 1
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {
        "scores.json",
        "report.md",
        "predictions.jsonl",
        "plot.svg",
    }
    assert "does not say by which template" in told[0]
    before = (tmp_path / "out" / "predictions.jsonl").read_bytes()
    told.clear()
    again = score(settings, told.append)
    assert again["overall"] == scores["overall"] and "going on after 4 answers" in told[1]
    assert (tmp_path / "out" / "predictions.jsonl").read_bytes() == before
    with pytest.raises(ResumeError, match='protocol.name: "loglikelihood" there, "generate" now'):
        score(
            ScoreSettings(
                str(folder), tmp_path / "out", exam=settings.exam, protocol="generate", device="cpu"
            ),
            told.append,
        )
    with pytest.raises(ResumeError, match="model.template.name"):
        score(
            ScoreSettings(str(folder), tmp_path / "out", exam=settings.exam, template="plain", device="cpu"),
            told.append,
        )
