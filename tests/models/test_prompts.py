"""Templates: what is written, what is trained on, what is asked, token by token."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meadow.models import load_tokenizer, prompts
from meadow.models.prompts import IGNORED, TEMPLATES, PromptError, Refused, Template, encode, prompt_ids

pytest.importorskip("transformers")
from tests import families

ROW = {
    "instruction": "Please answer with one of the options",
    "input": "What lowers uric acid?\n\nA: Aspirin\nB: Allopurinol",
    "output": "B: Allopurinol",
}
TEXTS = [name for name, template in TEMPLATES.items() if template.kind == "text"]
_MAKERS: dict[str, Callable[[], Any]] = {
    "llama": families.llama,
    "gpt2": families.byte_level,
    "llama3": lambda: families.byte_level(like="llama3"),
    "llama-chat": lambda: families.llama(chat_template=families.BRACKETS),
    "chatml": lambda: families.byte_level(chat="chatml"),
    "brackets": lambda: families.byte_level(chat="brackets"),
    "headers": lambda: families.byte_level(like="llama3", chat="headers"),
    "thinks": lambda: families.byte_level(like="llama3", chat="thinks"),
}
_made: dict[str, Any] = {}


def made(name: str) -> Any:
    """The tokenizer of that family; made once."""
    if name not in _made:
        _made[name] = _MAKERS[name]()
    return _made[name]


@pytest.fixture(params=["llama", "gpt2", "llama3"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    """One tokenizer of each family."""
    return made(request.param)


@pytest.fixture(params=["llama-chat", "chatml", "brackets", "headers", "thinks"])
def chat(request: pytest.FixtureRequest) -> Any:
    """Tokenizers with a chat template."""
    return made(request.param)


def tokens(tokenizer: Any, ids: list[int]) -> list[str]:
    return tokenizer.convert_ids_to_tokens(ids)


def trained(encoded: prompts.Encoded) -> list[int]:
    return [label for label in encoded.labels if label != IGNORED]


# What is written


def test_words_of_medalpaca_and_alpaca() -> None:
    primer = (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request."
    )
    alone = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the "
        "request."
    )
    medalpaca, alpaca = TEMPLATES["medalpaca"], TEMPLATES["alpaca"]
    assert medalpaca.fill("I", "X") == f"{primer}\n\n### Instruction:\nI\n\n### Input:\nX\n\n### Response:\n"
    assert alpaca.fill("I", "X") == f"{primer}\n\n### Instruction:\nI\n\n### Input:\nX\n\n### Response:"
    # No empty "### Input:" section, and no primer that promises an input.
    assert medalpaca.fill("I") == f"{alone}\n\n### Instruction:\nI\n\n### Response:\n"
    assert alpaca.fill("I") == f"{alone}\n\n### Instruction:\nI\n\n### Response:"
    assert TEMPLATES["plain"].fill("I", "X") == "I\n\nX\n\nAnswer:"


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("missing", ["", "  \n ", None])
def test_no_input_section_without_an_input(name: str, missing: str | None) -> None:
    tokenizer = made("chatml")
    row = {**ROW, "input": missing}
    text = tokenizer.decode(encode(TEMPLATES[name], tokenizer, row, max_length=None).input_ids)
    assert "Input" not in text
    assert text == tokenizer.decode(
        encode(
            TEMPLATES[name], tokenizer, {k: v for k, v in row.items() if k != "input"}, max_length=None
        ).input_ids
    )


def test_words_of_a_row_are_not_read_as_a_template() -> None:
    row = ("{input} \\g<0> {0} {instruction}", "{instruction} 100 % {")
    assert TEMPLATES["plain"].fill(*row) == f"{row[0]}\n\n{row[1]}\n\nAnswer:"


# Token by token


def test_llama_token_by_token() -> None:
    tokenizer = made("llama")
    encoded = encode(TEMPLATES["plain"], tokenizer, {"instruction": "Answer", "output": "B"}, max_length=None)
    assert tokens(tokenizer, encoded.input_ids) == [
        "<s>", *tokens(tokenizer, tokenizer("Answer\n\nAnswer:", add_special_tokens=False).input_ids), "▁B", "</s>",
    ]  # fmt: skip
    assert encoded.labels == [IGNORED] * (len(encoded.labels) - 2) + encoded.input_ids[-2:]
    # After a line end no space is put before the answer, though sentencepiece puts one before any text alone.
    encoded = encode(
        TEMPLATES["medalpaca"], tokenizer, {"instruction": "Answer", "output": "B"}, max_length=None
    )
    assert tokens(tokenizer, encoded.input_ids)[-3:] == ["<0x0A>", "B", "</s>"]
    assert tokens(tokenizer, tokenizer("B", add_special_tokens=False).input_ids) == ["▁B"]
    assert tokens(tokenizer, trained(encoded)) == ["B", "</s>"]


def test_byte_level_token_by_token() -> None:
    tokenizer = made("gpt2")
    encoded = encode(TEMPLATES["plain"], tokenizer, {"instruction": "Answer", "output": "B"}, max_length=None)
    found = tokens(tokenizer, encoded.input_ids)
    assert found[-4:] == ["er", ":", "ĠB", "<|endoftext|>"] or found[-3:] == [":", "ĠB", "<|endoftext|>"]
    assert tokens(tokenizer, trained(encoded)) == ["ĠB", "<|endoftext|>"]
    assert found[0] != "<|endoftext|>"
    encoded = encode(
        TEMPLATES["medalpaca"], tokenizer, {"instruction": "Answer", "output": "B"}, max_length=None
    )
    assert tokens(tokenizer, encoded.input_ids)[-4:] == [":", "Ċ", "B", "<|endoftext|>"]
    # Words as LLaMA 3 cuts them: a colon takes the line end along, in the prompt alone as in the whole row.
    tokenizer = made("llama3")
    encoded = encode(
        TEMPLATES["medalpaca"], tokenizer, {"instruction": "Answer", "output": "B"}, max_length=None
    )
    assert tokens(tokenizer, encoded.input_ids)[-3:] == [":Ċ", "B", "<|eot|>"]
    assert tokens(tokenizer, encoded.input_ids)[0] == "<|begin|>"


def test_chat_token_by_token() -> None:
    tokenizer = made("chatml")
    encoded = encode(TEMPLATES["chat"], tokenizer, {"instruction": "Answer", "output": "B"}, max_length=None)
    spoken = lambda text: tokens(tokenizer, tokenizer(text, add_special_tokens=False).input_ids)  # noqa: E731
    assert tokens(tokenizer, encoded.input_ids) == [
        "<|im_start|>", *spoken("user\nAnswer"), "<|im_end|>", "Ċ", "<|im_start|>", *spoken("assistant\n"),
        "B", "<|im_end|>",
    ]  # fmt: skip
    assert tokens(tokenizer, trained(encoded)) == ["B", "<|im_end|>"]


@pytest.mark.parametrize("name", TEXTS)
def test_row_is_the_tokens_of_the_whole_text(name: str, tokenizer: Any) -> None:
    template = TEMPLATES[name]
    encoded = encode(template, tokenizer, ROW, max_length=None)
    text = template.fill(ROW["instruction"], ROW["input"]) + template.answer_lead + ROW["output"]
    # With BOS exactly where the tokenizer puts it by itself, as harnesses and servers will.
    assert encoded.input_ids == [*tokenizer(text).input_ids, tokenizer.eos_token_id]
    answer = tokenizer.decode(trained(encoded), skip_special_tokens=True)
    assert answer.strip() == ROW["output"]
    assert not encoded.truncated


def test_row_is_what_the_chat_template_writes(chat: Any) -> None:
    said = [
        {"role": "user", "content": f"{ROW['instruction']}\n\n{ROW['input']}"},
        {"role": "assistant", "content": ROW["output"]},
    ]
    theirs = chat.apply_chat_template(said, tokenize=True, return_dict=False, date_string="26 Jul 2024")
    ours = encode(TEMPLATES["chat"], chat, ROW, max_length=None)
    # What follows the end of the turn belongs to the next one.
    assert theirs[: len(ours.input_ids)] == ours.input_ids
    assert chat.decode(theirs[len(ours.input_ids) :]).strip() == ""
    assert trained(ours)[-1] == chat.eos_token_id == prompts.stop_ids(TEMPLATES["chat"], chat)[0]
    assert chat.decode(trained(ours), skip_special_tokens=True).strip() == ROW["output"]


def test_no_empty_thought_is_trained_on() -> None:
    tokenizer = made("thinks")
    encoded = encode(TEMPLATES["chat"], tokenizer, ROW, max_length=None)
    asked = prompt_ids(TEMPLATES["chat"], tokenizer, ROW["instruction"], ROW["input"])
    assert tokenizer.decode(asked).endswith("<think>\n\n</think>\n\n")
    assert tokenizer.decode(trained(encoded)) == "B: Allopurinol<|im_end|>"


def _odd_rows(count: int) -> list[dict[str, str]]:
    pieces = [
        "gout", " ", "\n", "\n\n", "  ", ":", "###", "### Response:", "é", "β", "漢字", "🩺", "́", "-", "100", "mg",
        "<s>", "</s>", "<|im_end|>", "[INST]", "{", "}", "\t", "\r\n", " ", "'s", "A:", "▁", "Ġ", "\\n", "(", ".",
    ]  # fmt: skip
    rng = random.Random(4)
    text = lambda: "".join(rng.choices(pieces, k=rng.randint(1, 12)))  # noqa: E731
    rows = [{"instruction": text(), "input": text(), "output": text()} for _ in range(count)]
    return [row for row in rows if row["output"].strip() and (row["instruction"] + row["input"]).strip()]


@pytest.mark.parametrize("family", _MAKERS)
def test_what_is_asked_begins_what_is_trained_whatever_the_row(family: str) -> None:
    tokenizer = made(family)
    for name, template in TEMPLATES.items():
        if template.kind == "chat" and not tokenizer.chat_template:
            continue
        for row in _odd_rows(150):
            encoded = encode(template, tokenizer, row, max_length=None)
            asked = prompt_ids(template, tokenizer, row["instruction"], row["input"])
            answer = prompts.answer_ids(template, tokenizer, row["output"].strip())
            assert encoded.input_ids[: len(asked)] == asked, (name, row)
            assert encoded.input_ids[len(asked) : len(asked) + len(answer)] == answer, (name, row)
            assert encoded.labels == [IGNORED] * len(asked) + encoded.input_ids[len(asked) :]
            # Nothing that a row says is a special token: those are the template's alone.
            end = encoded.input_ids[len(asked) + len(answer) :]
            assert not set(answer) & set(tokenizer.all_special_ids), (name, row)
            assert end[-1] in prompts.stop_ids(template, tokenizer)
            if template.kind == "text":
                # Sentencepiece writes a space as this sign, and cannot tell one from the other.
                said = tokenizer.decode(answer).replace("▁", " ")
                assert said.strip() == row["output"].replace("▁", " ").strip(), (name, row)


def test_special_tokens_in_a_chat_are_broken_and_in_a_text_kept() -> None:
    tokenizer = made("chatml")
    row = {"instruction": "Say <|im_end|> now", "output": "<|im_start|>system"}
    encoded = encode(TEMPLATES["chat"], tokenizer, row, max_length=None)
    ends = tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert [encoded.input_ids.count(number) for number in ends] == [2, 2]
    assert "Say < |im_end|> now" in tokenizer.decode(encoded.input_ids)
    encoded = encode(TEMPLATES["plain"], tokenizer, row, max_length=None)
    assert tokenizer.decode(encoded.input_ids[:-1]) == "Say <|im_end|> now\n\nAnswer: <|im_start|>system"
    assert encoded.input_ids.count(ends[0]) == 1


# The known faults


def test_bos_at_training_and_when_asked_alike() -> None:
    for family, begins in (("llama", "<s>"), ("llama3", "<|begin|>"), ("gpt2", None)):
        tokenizer = made(family)
        for name in TEXTS:
            asked = prompt_ids(TEMPLATES[name], tokenizer, "Why?")
            row = encode(
                TEMPLATES[name], tokenizer, {"instruction": "Why?", "output": "So."}, max_length=None
            )
            first = (
                tokenizer.convert_tokens_to_ids(begins)
                if begins
                else tokenizer("B", add_special_tokens=False)
            )
            assert (asked[0] == first) is (row.input_ids[0] == first) is (begins is not None)
            assert begins is None or (asked.count(first), row.input_ids.count(first)) == (1, 1)


def test_bos_as_the_template_says() -> None:
    plain, tokenizer = TEMPLATES["plain"], made("llama")
    never = prompt_ids(dataclasses.replace(plain, bos="never"), tokenizer, "Why?")
    always = prompt_ids(dataclasses.replace(plain, bos="always"), tokenizer, "Why?")
    assert always == [1, *never]
    with pytest.raises(PromptError, match="the tokenizer has none"):
        prompt_ids(dataclasses.replace(plain, bos="always"), made("gpt2"), "Why?")


def test_bos_is_not_doubled_where_the_chat_template_writes_it() -> None:
    for family, begins in (("brackets", "<s>"), ("headers", "<|begin|>")):
        tokenizer = made(family)
        asked = prompt_ids(TEMPLATES["chat"], tokenizer, "Why?")
        assert tokens(tokenizer, asked).count(begins) == 1
        assert tokens(tokenizer, asked)[0] == begins


def test_a_date_in_a_chat_template_stands_still() -> None:
    text = prompts.prompt_text(TEMPLATES["chat"], made("headers"), "Why?")
    assert "Today: 26 Jul 2024" in text


def test_loss_on_inputs_only_when_asked_for(tokenizer: Any) -> None:
    for name in TEXTS:
        masked = encode(TEMPLATES[name], tokenizer, ROW, max_length=None)
        whole = encode(TEMPLATES[name], tokenizer, ROW, max_length=None, train_on_inputs=True)
        asked = prompt_ids(TEMPLATES[name], tokenizer, ROW["instruction"], ROW["input"])
        assert masked.input_ids == whole.input_ids == whole.labels
        assert masked.labels[: len(asked)] == [IGNORED] * len(asked)
        assert masked.labels[len(asked) :] == masked.input_ids[len(asked) :]


def test_an_answer_ends_with_eos_once(tokenizer: Any) -> None:
    for name in TEXTS:
        encoded = encode(TEMPLATES[name], tokenizer, ROW, max_length=None)
        assert encoded.input_ids.count(tokenizer.eos_token_id) == 1
        assert encoded.labels[-1] == tokenizer.eos_token_id
        assert prompts.stop_ids(TEMPLATES[name], tokenizer) == [tokenizer.eos_token_id]


# What does not fit

LONG = {
    "instruction": "Answer",
    "input": "FIRST " + " ".join(f"word{n}" for n in range(300)) + " LAST?",
    "output": "The answer is gout.",
}


@pytest.mark.parametrize("limit", [700, 800, 900])
def test_the_middle_of_the_input_goes_before_any_of_the_answer(tokenizer: Any, limit: int) -> None:
    for name in TEXTS:
        encoded = encode(TEMPLATES[name], tokenizer, LONG, max_length=limit)
        text = tokenizer.decode(encoded.input_ids)
        answer = tokenizer.decode(trained(encoded), skip_special_tokens=True)
        assert encoded.truncated
        assert limit - 16 <= len(encoded.input_ids) <= limit
        assert answer.strip() == LONG["output"]
        assert encoded.input_ids[-1] == tokenizer.eos_token_id
        assert "FIRST" in text and "LAST?" in text and prompts.CUT in text
        assert "word150" not in text


def test_as_much_of_the_input_stays_as_fits() -> None:
    tokenizer = made("gpt2")
    sizes = [
        len(encode(TEMPLATES["plain"], tokenizer, LONG, max_length=limit).input_ids)
        for limit in range(700, 1000, 10)
    ]
    # Within two words, of seven tokens each, of what there is room for.
    assert all(limit - 16 <= size <= limit for size, limit in zip(sizes, range(700, 1000, 10), strict=True))


def test_exact_limits() -> None:
    tokenizer = made("llama")
    for template in (TEMPLATES["medalpaca"], TEMPLATES["plain"]):
        whole = encode(template, tokenizer, ROW, max_length=None)
        size = len(whole.input_ids)
        assert encode(template, tokenizer, ROW, max_length=size) == whole
        assert encode(template, tokenizer, ROW, max_length=size - 1).truncated


def test_a_long_answer_loses_its_end_and_is_not_taught_to_stop_there() -> None:
    tokenizer = made("gpt2")
    row = {"instruction": "Why?", "output": " ".join(f"w{n}" for n in range(100))}
    whole = encode(TEMPLATES["plain"], tokenizer, row, max_length=None)
    asked = prompt_ids(TEMPLATES["plain"], tokenizer, "Why?")
    limit = len(asked) + round(0.75 * (len(whole.input_ids) - len(asked)))
    cut = encode(TEMPLATES["plain"], tokenizer, row, max_length=limit)
    assert cut.truncated and len(cut.input_ids) == limit
    assert cut.input_ids == whole.input_ids[:limit]
    assert tokenizer.eos_token_id not in cut.input_ids
    assert cut.labels[len(asked) :] == cut.input_ids[len(asked) :]
    answer = len(whole.input_ids) - len(asked) - 1
    assert encode(TEMPLATES["plain"], tokenizer, row, max_length=len(asked) + (answer + 1) // 2).truncated
    with pytest.raises(Refused, match="less than half") as caught:
        encode(TEMPLATES["plain"], tokenizer, row, max_length=len(asked) + answer // 2 - 1)
    assert caught.value.reason == "answer would be cut to less than half"


def test_a_row_whose_answer_would_be_gone_is_refused_never_masked_whole(tokenizer: Any) -> None:
    for name in TEXTS:
        for limit in range(1, 300, 7):
            for row in (ROW, LONG):
                try:
                    encoded = encode(TEMPLATES[name], tokenizer, row, max_length=limit)
                except Refused as refused:
                    assert refused.reason in ("prompt is too long", "answer would be cut to less than half")
                    continue
                assert len(encoded.input_ids) == len(encoded.labels) <= limit
                answer = prompts.answer_ids(TEMPLATES[name], tokenizer, row["output"])
                assert len(trained(encoded)) >= prompts.ANSWER_KEPT * len(answer)
                assert trained(encoded)[: len(answer)] == answer[: len(trained(encoded))]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "Why?", "output": " \n"}, "empty answer"),
        ({"instruction": "Why?", "output": None}, "empty answer"),
        ({"instruction": "Why?"}, "empty answer"),
        ({"instruction": " ", "input": None, "output": "So."}, "no question"),
        ({"instruction": "Why?", "output": 3}, "not a text"),
    ],
)
def test_refused_rows(row: dict[str, Any], reason: str) -> None:
    for family, name in (("gpt2", "medalpaca"), ("chatml", "chat")):
        with pytest.raises(Refused) as caught:
            encode(TEMPLATES[name], made(family), row, max_length=None)
        assert caught.value.reason == reason


def test_an_input_without_instruction_is_the_question() -> None:
    tokenizer = made("gpt2")
    assert prompt_ids(TEMPLATES["medalpaca"], tokenizer, "", "Why?") == prompt_ids(
        TEMPLATES["medalpaca"], tokenizer, "Why?"
    )


def test_a_prompt_that_does_not_fit() -> None:
    tokenizer = made("gpt2")
    plain = TEMPLATES["plain"]
    whole = prompt_ids(plain, tokenizer, LONG["instruction"], LONG["input"])
    cut = prompt_ids(plain, tokenizer, LONG["instruction"], LONG["input"], max_length=len(whole) // 2)
    assert len(cut) <= len(whole) // 2
    assert tokenizer.decode(cut).endswith("LAST?\n\nAnswer:")
    with pytest.raises(Refused, match="prompt is too long"):
        prompt_ids(plain, tokenizer, LONG["instruction"], LONG["input"], max_length=40)
    with pytest.raises(Refused, match="prompt is too long"):
        prompt_ids(plain, tokenizer, LONG["input"], max_length=40)


# Asking


def test_words_put_into_the_models_mouth() -> None:
    prefix = "The Answer to the question is:"
    for family in ("llama", "gpt2", "llama3"):
        tokenizer = made(family)
        asked = prompt_ids(TEMPLATES["medalpaca"], tokenizer, "Why?", answer_prefix=prefix)
        assert asked[: -len(prompts.answer_ids(TEMPLATES["medalpaca"], tokenizer, prefix))] == prompt_ids(
            TEMPLATES["medalpaca"], tokenizer, "Why?"
        )
        assert tokenizer.decode(asked).endswith(f"### Response:\n{prefix}")


def test_letters_are_single_tokens_after_a_prompt(tokenizer: Any) -> None:
    for name in TEXTS:
        found = [prompts.answer_ids(TEMPLATES[name], tokenizer, letter) for letter in "ABC"]
        assert [len(ids) for ids in found] == [1, 1, 1]
        assert len({tuple(ids) for ids in found}) == 3


def test_text_and_messages() -> None:
    said = prompts.messages(TEMPLATES["chat"], "I", "X")
    assert said == [{"role": "user", "content": "I\n\nX"}]
    with_system = dataclasses.replace(TEMPLATES["chat"], system="Be brief.")
    assert prompts.messages(with_system, "I")[0] == {"role": "system", "content": "Be brief."}
    assert prompts.messages(TEMPLATES["plain"], "I") == [{"role": "user", "content": "I\n\nAnswer:"}]
    assert prompts.prompt_text(TEMPLATES["plain"], None, "I", "X") == "I\n\nX\n\nAnswer:"
    tokenizer = made("chatml")
    text = prompts.prompt_text(with_system, tokenizer, "I")
    assert (
        text
        == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nI<|im_end|>\n<|im_start|>assistant\n"
    )
    assert prompt_ids(with_system, tokenizer, "I") == tokenizer(text, add_special_tokens=False).input_ids


def test_a_chat_template_that_takes_no_system_message_or_is_not_there() -> None:
    with_system = dataclasses.replace(TEMPLATES["chat"], system="Be brief.")
    with pytest.raises(PromptError, match="no system messages here; choose another template"):
        prompt_ids(with_system, made("brackets"), "I")
    with pytest.raises(
        PromptError, match="has no chat template; choose another template .medalpaca, alpaca, plain"
    ):
        prompt_ids(TEMPLATES["chat"], made("gpt2"), "I")


def test_a_tokenizer_without_end_is_refused() -> None:
    tokenizer = families.byte_level()
    tokenizer.eos_token = None
    with pytest.raises(PromptError, match="no end-of-sequence token.*set eos_token"):
        encode(TEMPLATES["plain"], tokenizer, ROW, max_length=None)


def test_a_tokenizer_that_is_changed_is_looked_at_again() -> None:
    tokenizer = families.byte_level(chat="chatml")
    before = prompt_ids(TEMPLATES["chat"], tokenizer, "I")
    tokenizer.chat_template = (
        "{{ messages[0]['content'] }}|{{ messages[1]['content'] if messages[1:] else '' }}"
    )
    assert prompt_ids(TEMPLATES["chat"], tokenizer, "I") != before
    assert tokenizer.decode(prompt_ids(TEMPLATES["chat"], tokenizer, "I")) == "I|"


# In a model folder


@pytest.mark.parametrize("name", TEMPLATES)
def test_saved_and_loaded_whole(tmp_path: Path, name: str) -> None:
    assert prompts.load(tmp_path) is None
    prompts.save(TEMPLATES[name], tmp_path)
    assert prompts.load(tmp_path) == TEMPLATES[name]
    found = json.loads((tmp_path / "meadow_template.json").read_text(encoding="utf-8"))
    assert found["with_input"] == TEMPLATES[name].with_input
    assert prompts.get(str(tmp_path / "meadow_template.json")) == TEMPLATES[name]


def test_saved_with_a_tokenizer_nothing_is_left_to_it(tmp_path: Path) -> None:
    tokenizer = families.llama()
    prompts.save(TEMPLATES["plain"], tmp_path, tokenizer)
    expected = prompt_ids(TEMPLATES["plain"], tokenizer, "I")
    tokenizer.add_bos_token = False
    tokenizer.update_post_processor()
    assert prompt_ids(TEMPLATES["plain"], tokenizer, "I") == expected[1:]
    assert prompt_ids(prompts.load(tmp_path), tokenizer, "I") == expected
    tokenizer = families.byte_level(chat="chatml")
    prompts.save(TEMPLATES["chat"], tmp_path, tokenizer)
    expected = prompt_ids(TEMPLATES["chat"], tokenizer, "I")
    tokenizer.chat_template = None
    assert prompt_ids(prompts.load(tmp_path), tokenizer, "I") == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "poem"}, "kind: 'poem' is none of text, chat"),
        ({"bos": "sometimes"}, "bos: 'sometimes' is none of tokenizer, always, never"),
        ({"with_input": "{instruction} Answer:"}, "with_input: must hold"),
        ({"with_input": "{input} {input} {instruction} Answer:"}, "with_input: must hold"),
        ({"without_input": "{instruction} {input}\n\nAnswer:"}, "without_input: must hold"),
        ({"without_input": "{instruction}\n\nSay:"}, "must end alike"),
        (
            {"with_input": "{instruction}{input}\n", "without_input": "{instruction}\n"},
            "words must stand between",
        ),
        ({"format": 2}, "another Meadow"),
        ({"colour": "green"}, "colour: .*unexpected"),
        ({"stop": "###"}, "stop: is text, and must be a list"),
        ({"stop": [""]}, r"stop\[0\]"),
        ({"system": None}, "system: is nothing, and must be text"),
    ],
)
def test_a_damaged_template_names_file_and_fault(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / prompts.FILE
    path.write_text(json.dumps({**TEMPLATES["plain"].to_dict(), **change}), encoding="utf-8")
    with pytest.raises(PromptError, match=message) as caught:
        prompts.load(tmp_path)
    assert str(path) in str(caught.value)


def test_all_faults_of_a_template_at_once(tmp_path: Path) -> None:
    with pytest.raises(PromptError) as caught:
        Template.from_dict(
            {"name": "mine", "kind": "poem", "with_input": "x", "without_input": "y", "bos": "z"}
        )
    for fault in ("kind", "bos", "with_input", "without_input"):
        assert fault in str(caught.value)
    path = tmp_path / prompts.FILE
    for text in ("{", "[]", '{"name": "x"}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(PromptError, match="no template"):
            prompts.load(tmp_path)


def test_an_unknown_template_lists_the_known() -> None:
    with pytest.raises(PromptError, match="medalpaca, alpaca, chat, plain"):
        prompts.get("vicuna")
    with pytest.raises(PromptError, match="No such file"):
        prompts.get("nowhere.json")


def test_sentencepiece_itself_tokenises_the_same(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = families.sentencepiece_model(tmp_path)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    ours = load_tokenizer(folder)
    for row in [ROW, *_odd_rows(100)]:
        if "\r" in str(row.values()) or any(mark in str(row) for mark in ("<s>", "</s>", "▁", "\\t")):
            continue
        for name in TEXTS:
            template = TEMPLATES[name]
            encoded = encode(template, ours, row, max_length=None)
            text = template.fill(row["instruction"].strip(), row["input"].strip())
            if not row["instruction"].strip():
                continue
            assert encoded.input_ids == [
                1, *theirs.encode(text + template.answer_lead + row["output"].strip()), 2
            ], (name, row)  # fmt: skip


def test_importing_prompts_imports_nothing_heavy() -> None:
    code = (
        "import sys, meadow.models.prompts, meadow.models; "
        "print([name for name in ('torch', 'transformers', 'peft', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
