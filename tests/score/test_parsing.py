"""What is read as an answer, and what is not."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadow.score.parsing import HOW, ReadAnswer, parse

OPTIONS = {
    "A": "Aspirin",
    "B": "Beta blocker",
    "C": "Vitamin B",
    "D": "Vitamin B12",
    "E": "Staphylococcus aureus",
}


@pytest.mark.parametrize(
    "text",
    [
        "B", "b", "B.", "B)", "(B)", "[B]", "{B}", "b)", "(b)", "b.", "B:", " B ", "\n\nB\n", "**B**", "__B__", "*B*",
        "`B`", "'B'", '"B"', "“B”", "# B", "> B", "- B", "**B.**", "**(B)**", "B!", "(B).", "<b>B</b>", "<answer>B</answer>",
        "Option B", "option B.", "OPTION B", "Choice B", "Answer B", "Answer: B", "Answer:B", "answer: b", "Answer - B",
        "Option: B", "Ans: B", "The answer is B", "The answer is B.", "The answer is: B", "The answer is (B)",
        "The answer is **B**", "**The answer is B**", "The correct answer is B.", "The best answer is B",
        "The most likely answer is B", "The correct option is B", "The correct choice is (B).", "The answer is option B",
        "The answer is: Option B.", "Answer: Option B", "Final answer: B", "Correct answer: B", "My answer is B.",
        "The Answer to the question is: B", "The answer to this question is B", "It is B.", "It's B", "I choose B.",
        "I would choose option B", "I'd go with B", "I would pick B.", "So the answer is B", "Therefore, the answer is B.",
        "Thus the correct answer is: B", "\\boxed{B}", "$\\boxed{B}$", "\\boxed{\\text{B}}", "The answer is $B$.", "\uff22", "(\uff22)",
        "\uff22\uff1a", "The answer is:\nB", "Answer:\n\n**B**", "The correct answer is\n\n(B)", "Sure! The answer is B",
        "B is correct", "B is the correct answer.", "Option B is the best choice because it slows the heart",
        "(B) is the right answer", "B.\n\nExplanation: A is wrong.", "B: it slows the heart", "B) it slows the heart",
        "B. It slows the heart.", "B. because it slows", "(B) slows the heart", "B - slows the heart", "B → slows",
        "B, because it slows the heart", "The answer is B because it slows the heart", "The answer is B, not C.",
        "<think>Is it A or C? The answer is A.</think>\nB", "It might be A.</think>B", "Option (B)", "The answer is 'B'",
    ],
)  # fmt: skip
def test_letters_are_read(text: str) -> None:
    assert parse(text, OPTIONS) == ReadAnswer("B", "letter")


@pytest.mark.parametrize(
    "text",
    [
        "B: Beta blocker", "B. Beta blocker", "B) Beta blocker", "(B) Beta blocker", "B Beta blocker", "B - Beta blocker",
        "B, beta blocker", "b: beta blocker", "b. Beta blocker", "B:Beta blocker", "B.Beta blocker", "B)Beta blocker",
        "**B: Beta blocker**", "**B**: Beta blocker", "B: **Beta blocker**.", "B: beta  BLOCKER", 'B: "Beta blocker"',
        "The answer is B: Beta blocker", "The answer is B. Beta blocker.", "Option B: Beta blocker", "Answer: B) Beta blocker",
        "The correct answer is (B) Beta blocker because it slows the heart", "B: Beta blocker\n\nIt slows the heart.",
        "B: Beta blocker\nA: wrong, it thins the blood\nC: wrong", "Option: B: Beta blocker", "Answer: Option B: Beta blocker",
        "B: Beta blocker, which lowers blood pressure and pulse", "B: Beta blocker, a drug", "(B). Beta blocker",
    ],
)  # fmt: skip
def test_letters_with_their_text_are_read(text: str) -> None:
    assert parse(text, OPTIONS) == ReadAnswer("B", "letter and text")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Beta blocker", "B"), ("beta blocker.", "B"), ("**Beta blocker**", "B"), ("'Beta blocker'", "B"),
        ("The answer is Beta blocker", "B"), ("The correct answer is: beta blocker.", "B"), ("Answer: Aspirin", "A"),
        ("Vitamin B", "C"), ("Vitamin B12", "D"), ("vitamin  b12", "D"), ("Beta blocker\n\nIt slows the heart.", "B"),
        ("It is aspirin.", "A"), ("Staphylococcus aureus", "E"),
    ],
)  # fmt: skip
def test_a_whole_text_alone_is_read(text: str, key: str) -> None:
    assert parse(text, OPTIONS) == ReadAnswer(key, "text")


@pytest.mark.parametrize(
    "text",
    [
        "The heart must be slowed.\nThe answer is B.", "Aspirin thins the blood.\n\nTherefore, the correct answer is **B**.",
        "Let us think.\nAnswer: B: Beta blocker", "The patient is tachycardic\nFinal answer: (B)",
        "Step one.\nThe answer is B\nStep two.\nSo the answer is B.",
    ],
)  # fmt: skip
def test_a_later_line_that_announces_the_answer_is_read(text: str) -> None:
    assert parse(text, OPTIONS) == ReadAnswer("B", "statement")


@pytest.mark.parametrize(
    "text",
    [
        "A 45-year-old man presents with chest pain.", "A man", "A", "a patient with fever", "A patient's best choice",
        "The answer is a beta agonist", "The answer is A beta agonist that slows the heart", "It is a drug", "I think so",
        "E. coli", "E. coli is the cause", "C. difficile", "The answer is E. coli", "D-dimer", "B-cell lymphoma", "B12",
        "A.M. dosing", "A.B", "A1", "B2 agonist", "C4 vertebra", "A:1 ratio", "Both", "None of the above", "All of them",
        "F", "F: other", "Z.", "(F)", "The answer is F", "1", "2.", "I", "Question", "yes", "Because B", "A-V block", "E-selectin",
        "The drug is B", "We know that B is a vitamin", "Vitamin", "Beta", "Beta blockers", "Aspirin is the best choice",
        "Depending on the case, B", "\u0412", "\u0391", "Begin", "Answer", "The answer is", "Option", "Consider B or C",
        "C the patient", "E the organism", "D dimer", "A, the first letter", "a: note", "a. note", "A/", "B cells",
        "Patient has fever. The answer is B.", "<think>The answer is B", "According to the text, it depends.", "Avoid B",
        "### Instruction:", "The question is: B?", "A's", "B's disease", "...", "-", "I'd", "I would", "Ask a doctor",
    ],
)  # fmt: skip
def test_words_are_no_letters(text: str) -> None:
    if text == "A":
        assert parse(text, OPTIONS).key == "A"
        return
    assert parse(text, OPTIONS).key is None, parse(text, OPTIONS)


@pytest.mark.parametrize(
    "text",
    [
        "I would pick option C or D", "C or D", "C/D", "C and D", "C, D", "C & D", "C; D", "C+D", "(C) or (D)", "C) or D)",
        "C: Vitamin B or D: Vitamin B12", "Option C or option D", "The answer is C or D.", "The answer is B and C",
        "A, B, C", "A B C D", "A: B: C: D:", "A-D", "A to D", "A, B and C are all correct", "C or maybe D", "B, C",
        "**C** or **D**", "Answer: C/D", "B\nC", "A: Aspirin\nB: Beta blocker\nC: Vitamin B", "A. Aspirin\nB. Beta blocker",
        "(A) Aspirin (B) Beta blocker (C) Vitamin B", "A: Aspirin B: Beta blocker", "Aspirin\nBeta blocker", "C. D", "C: D",
        "The answer is C.\nThe answer is D.", "Hm.\nThe answer is C\nThe answer is D", "Option C and possibly option D",
        "C vs D", "C versus D", "B or not C", "A or C: Aspirin", "C nor D", "A: Aspirin, B: Beta blocker",
        "B: Beta blocker or C", "B: Beta blocker and A", "B: Beta blocker / D", "B: Beta blocker or aspirin",
    ],
)  # fmt: skip
def test_several_options_are_none(text: str) -> None:
    assert parse(text, OPTIONS).key is None, parse(text, OPTIONS)


@pytest.mark.parametrize(
    "text",
    [
        "B: Aspirin", "B. Aspirin", "(B) Aspirin", "The answer is B: Aspirin", "C: Vitamin B12", "A: beta blocker is best",
        "Option D: Vitamin B.",
    ],
)  # fmt: skip
def test_a_letter_with_the_text_of_another_is_none(text: str) -> None:
    assert parse(text, OPTIONS) == ReadAnswer(None, "disagree")


@pytest.mark.parametrize(
    "text",
    [
        "The answer is not B", "Not B", "B is incorrect", "B is wrong", "B is not the answer", "B: incorrect", "B: is wrong",
        "Option B is not correct", "B isn't right", "B: Beta blocker is not correct", "B (incorrect)", "B would be wrong",
        "It is not B", "B: Beta blocker is incorrect", "B cannot be right", "B. Not correct.",
    ],
)  # fmt: skip
def test_an_option_called_wrong_is_none(text: str) -> None:
    assert parse(text, OPTIONS).key is None, parse(text, OPTIONS)


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\u200b \n", "**", "#", "</s>"[:0]])
def test_nothing_is_empty(text: str) -> None:
    assert parse(text, OPTIONS).key is None


def test_texts_that_look_like_letters_and_abbreviations() -> None:
    groups = {"A": "A", "B": "B", "C": "AB", "D": "O"}
    assert parse("AB", groups) == ReadAnswer("C", "text")
    assert parse("O", groups) == ReadAnswer("D", "text")
    assert parse("A", groups).key == "A"
    swapped = {"A": "B", "B": "A"}
    assert parse("A", swapped).key is None
    assert parse("A: B", swapped).key == "A"
    germs = {"A": "S. aureus", "B": "E. coli", "C": "C. difficile", "D": "Candida", "E": "None"}
    assert parse("E. coli", germs) == ReadAnswer("B", "text")
    assert parse("C. difficile", germs) == ReadAnswer("C", "text")
    assert parse("C: C. difficile", germs) == ReadAnswer("C", "letter and text")
    assert parse("B: E. coli", germs) == ReadAnswer("B", "letter and text")
    assert parse("E", germs) == ReadAnswer("E", "letter")
    assert parse("E: E. coli", germs) == ReadAnswer(None, "disagree")
    dimer = {"A": "A patient's wish", "B": "D-dimer", "C": "5 mg", "D": "5 mg."}
    assert parse("D-dimer", dimer) == ReadAnswer("B", "text")
    assert parse("A patient's wish", dimer) == ReadAnswer("A", "text")
    # Two options with one text: their text names neither, their letter does.
    assert parse("5 mg", dimer).key is None
    assert parse("C", dimer).key == "C"


def test_ten_options() -> None:
    many = {letter: f"text {letter}{letter}" for letter in string.ascii_uppercase[:10]}
    assert parse("J: text JJ", many).key == "J"
    assert parse("I", many).key == "I"
    assert parse("I would say B", many).key == "B"
    assert parse("I think it depends", many).key is None


def test_every_option_of_every_form_is_read_back() -> None:
    forms = (
        "{k}",
        "{k}.",
        "({k}) {t}",
        "{k}) {t}",
        "Option {k}",
        "The answer is {k}: {t}",
        "**{k}**",
        "{t}",
        "{k}: {t}",
    )
    for key, text in OPTIONS.items():
        for form in forms:
            assert parse(form.format(k=key, t=text), OPTIONS).key == key, form


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=80))
def test_any_text_gives_an_option_or_a_reason(text: str) -> None:
    found = parse(text, OPTIONS)
    assert found.how in HOW
    assert (found.key is None) == (found.how in ("empty", "several", "disagree", "negated", "none"))
    assert found.key is None or found.key in OPTIONS


@pytest.mark.parametrize(
    "piece", ["A", "A ", "(", "*", "the ", "B or ", "_", "</think>", "$", "answer is ", "-", "\\boxed", '"']
)
def test_long_texts_take_no_long_time(piece: str) -> None:
    start = time.perf_counter()
    parse(piece * 20_000, OPTIONS)
    assert time.perf_counter() - start < 2
