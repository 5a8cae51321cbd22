"""Whether exam items are found in rows, however they are dressed, and nothing else is."""

from __future__ import annotations

import csv
import gzip
import json
import os
import pickle
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meadow.core.parts import Part, Piece
from meadow.core.store import Store
from meadow.filters.contamination import (
    ExamSource,
    ExamText,
    Hit,
    Index,
    checking,
    read_exam,
    row_item,
    stage,
)
from meadow.filters.contamination.judging import TEXTS
from meadow.filters.contamination.text import hash_words, hashed, words
from tests.exam_texts import changed, invented, vignettes

ROWS = 1_000


def source(items: list[ExamText], name: str = "exam") -> ExamSource:
    return ExamSource(name, "1.0.0", "test", False, items)


def check(index: Index, rows: list[tuple[str, str]], batch: int = ROWS) -> list[Hit]:
    found = []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        columns = {"input": pa.array([a for a, _ in part]), "output": pa.array([b for _, b in part])}
        found += [match._replace(row=match.row + start) for match in index.check(columns)]
    return found


@pytest.fixture(scope="module")
def exam() -> list[ExamText]:
    return vignettes(300)


@pytest.fixture(scope="module")
def index(exam: list[ExamText]) -> Index:
    return Index.build([source(exam)])


# --- Copies ---


def _html(text: str) -> str:
    return "<p>" + text.replace(". ", ".</p>\n<p>&nbsp;").replace(" and ", " <b>and</b><br/>") + "</p>"


def _wide(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def _options(item: ExamText) -> str:
    return "\n".join(
        f"({letter}) {text}" for letter, text in zip("DCBA", reversed(item.options), strict=True)
    )


POST = "Can anybody help me with this one? I found it in an old book and my friends disagree about it. "

COPIES = {
    "in the input": lambda item: (item.question, item.answer),
    "in the output": lambda item: ("Write a question for an exam.", f"{item.question}\n{_options(item)}"),
    "within a post": lambda item: ("", POST * 3 + item.question + " Thanks for any help! " + POST * 3),
    "options in another order": lambda item: (f"{item.question}\n\n{_options(item)}", item.answer),
    "question only": lambda item: (item.question, ""),
    "HTML": lambda item: (_html(item.question), ""),
    "capitals and spaces": lambda item: (item.question.upper().replace(" ", " \n\t "), ""),
    "without punctuation": lambda item: ("".join(c if c.isalnum() else " " for c in item.question), ""),
    "full-width letters": lambda item: (_wide(item.question), ""),
    "soft hyphens": lambda item: (
        item.question.replace("exam", "ex\u00adam").replace("the", "t\u200bhe"),
        "",
    ),
    "over two fields": lambda item: (item.question[:200], item.question[200:]),
    "a long way in": lambda item: (POST * 200 + item.question + POST * 200, "yes"),
}


@pytest.mark.parametrize("form", COPIES)
def test_copies_are_all_found(form: str, exam: list[ExamText], index: Index) -> None:
    found = check(index, [COPIES[form](item) for item in exam])
    assert [(m.row, m.item) for m in found] == [(i, item.id) for i, item in enumerate(exam)]
    assert {m.kind for m in found} == {"verbatim"}
    assert min(m.share for m in found) > 0.9
    assert {m.part for m in found} == {"question"}


def test_fields_and_overlap_of_a_copy(exam: list[ExamText], index: Index) -> None:
    item = exam[7]
    (found,) = check(index, [("Please explain.", f"The book says: {item.question}")])
    assert (found.field, found.share, found.item) == ("output", 1.0, item.id)
    assert " ".join(words(item.question)).startswith(found.overlap.removesuffix(" ..."))
    assert len(found.overlap) <= 300
    (found,) = check(index, [(item.question[:200], item.question[200:])])
    assert found.field == "input,output"


@pytest.mark.parametrize("kind", ["replaced", "dropped", "added", "mixed"])
def test_one_word_in_ten_changed(kind: str, exam: list[ExamText], index: Index) -> None:
    rng = random.Random(11)
    vocabulary = " ".join(item.question for item in exam).split()
    found = check(index, [(changed(item.question, rng, kind, vocabulary), "") for item in exam])
    assert len({m.row for m in found if m.item == exam[m.row].id}) == len(exam)
    assert all(m.item == exam[m.row].id for m in found)


def test_half_of_the_words_in_runs_of_thirteen_is_verbatim_and_less_is_a_paraphrase() -> None:
    found = invented(200, 3)
    # 26 words of one weight each, in an exam of a size at which half of their sum is exact.
    items = [ExamText(str(n), " ".join(found[26 * n : 26 * n + 26])) for n in range(6)]
    weight = float(np.log(TEXTS + len(items)))
    assert sum([weight] * 13) == sum([weight] * 26) / 2
    index = Index.build([ExamSource("exam", "", "", False, items)])
    mine, other = found[:26], found[160:]

    def kinds(*runs: int) -> list[tuple[str, float]]:
        """Of a row that holds all words, in runs of so many with a foreign word between."""
        row, at = [], 0
        for number, run in enumerate(runs):
            row += [*mine[at : at + run], other[number]]
            at += run
        assert at == len(mine)
        return [(m.kind, m.share) for m in check(index, [(" ".join(row), "")])]

    assert kinds(26) == kinds(13, 13) == [("verbatim", 1.0)]
    assert kinds(13, 6, 7) == kinds(6, 7, 13) == [("verbatim", 1.0)]
    assert kinds(12, 7, 7) == kinds(12, 12, 2) == [("paraphrase", 1.0)]


def test_retold_vignette_is_a_paraphrase() -> None:
    item = ExamText(
        "1",
        "A 34-year-old carpenter named Walter comes to the clinic with a burning wrist after he planed larch boards for "
        "eleven days; the skin is blistered in stripes, his lymph nodes measure 14 mm, and eosinophils are 12 percent. "
        "What should be done first?",
        ("Patch testing", "Oral terbinafine", "Excision", "Reassurance"),
    )
    index = Index.build([source([item, *vignettes(50)])])
    retold = (
        "A 51-year-old joiner called Edgar visits the clinic with a burning wrist after he planed larch boards for "
        "eleven days; his skin is blistered in stripes, the lymph nodes measure 14 mm, and eosinophils are 12 percent. "
        "What ought to be done first? A) Excision B) Reassurance C) Oral terbinafine D) Patch testing"
    )
    (found,) = check(index, [(retold, "Patch testing")])
    assert (found.item, found.part, found.field) == ("1", "question", "input")
    assert 0.6 <= found.share < 0.95


# --- What is no copy ---


def test_other_vignettes_share_stock_phrases_only(index: Index) -> None:
    others = vignettes(3_000, seed=2)
    assert check(index, [(item.question, item.answer) for item in others]) == []


def test_stock_phrases_alone_are_no_hit(index: Index) -> None:
    row = (
        "A 45-year-old man comes to the physician because of pain for the past 3 weeks. His temperature is 37.2°C (99°F), "
        "pulse is 80/min, respirations are 16/min, and blood pressure is 120/80 mm Hg. Physical examination shows nothing. "
        "Which of the following is the most likely diagnosis?"
    )
    assert check(index, [(row, "None"), (row * 5, row)]) == []


SHORT = ExamText(
    "short",
    "The auditory tube",
    ("opens when yawning", "is part of the cochlea", "drains the mastoid sinus", "contains the stapes"),
    "opens when yawning",
)
STOCK = ExamText(
    "stock",
    "What is the most likely diagnosis?",
    ("Erythropoietic protoporphyria", "Lichen amyloidosis", "Pemphigus foliaceus", "Hailey-Hailey disease"),
    "Pemphigus foliaceus",
)


@pytest.mark.parametrize("others", [0, 300])
def test_short_questions_need_their_options_or_answer(others: int) -> None:
    index = Index.build([source([SHORT, STOCK, *vignettes(others)])])
    rows = {
        "The auditory tube": [],
        "What is the auditory tube? The auditory tube joins the middle ear to the pharynx.": [],
        "The auditory tube\nA. opens when yawning\nB. contains the stapes\nC. drains the mastoid sinus\n"
        "D. is part of the cochlea": ["short"],
        "The auditory tube opens when yawning.": ["short"],
        "What is the most likely diagnosis?": [],
        "What is the most likely diagnosis? Pemphigus foliaceus": [],
        "Pemphigus foliaceus, lichen amyloidosis and Hailey-Hailey disease are diseases of the skin.": [],
        "What is the most likely diagnosis? Lichen amyloidosis; Hailey-Hailey disease; Pemphigus foliaceus; "
        "Erythropoietic protoporphyria": ["stock"],
    }
    for row, expected in rows.items():
        assert [m.item for m in check(index, [(row, "")])] == expected, row


def test_items_without_words_of_their_own_are_counted() -> None:
    exams = Index.build(
        [source([ExamText("1", "What is it?", ("yes", "no")), ExamText("2", "", ()), *vignettes(3)])]
    ).exams
    assert [(e.items, e.unjudged) for e in exams] == [(3, 2)]
    assert check(Index.build([source([ExamText("1", "What is it?")])]), [("What is it?", "")]) == []
    assert check(Index.build([]), [("What is it?", "")]) == []


def test_context_and_long_answers_are_leaks_too() -> None:
    one, two = vignettes(2)
    item = ExamText(
        "q", "Do larch boards burn the wrist?", ("yes", "no", "maybe"), f"yes\n\n{two.question}", one.question
    )
    index = Index.build([source([item, *vignettes(20, seed=5)])])
    found = check(index, [(one.question, "x"), ("x", two.question), ("Do larch boards burn the wrist?", "")])
    assert [(m.row, m.part, m.field) for m in found] == [(0, "context", "input"), (1, "answer", "output")]


def test_small_exam_is_judged_like_a_large_one() -> None:
    exam = vignettes(3)
    index = Index.build([source(exam)])
    assert {m.item for m in check(index, [(item.question, "") for item in exam])} == {"v0", "v1", "v2"}
    assert check(index, [(item.question, "") for item in vignettes(300, seed=8)]) == []


def test_exams_that_share_items_both_hit(exam: list[ExamText]) -> None:
    four = [item._replace(id=f"four/{item.id}", options=item.options[:3]) for item in exam]
    index = Index.build([source(exam), source(four, "four"), *(source(exam, f"copy {i}") for i in range(20))])
    found = check(index, [(exam[0].question, "")])
    assert [(m.exam, m.item) for m in found][:3] == [("exam", "v0"), ("four", "four/v0"), ("copy 0", "v0")]
    assert len(found) == 22


def test_one_vignette_under_many_questions(exam: list[ExamText]) -> None:
    head = exam[0].question.rsplit(". ", 1)[0]
    rare = invented(3_000, 0)
    family = [
        ExamText(f"f{i}", f"{head}. Which {' '.join(rare[i * 6 : i * 6 + 6])} is next?") for i in range(5)
    ]
    index = Index.build([source([*family, *exam[1:]])])
    assert {m.item for m in check(index, [(head, "")])} == {item.id for item in family}


def test_prompts_too_short_to_tell_are_counted() -> None:
    prompts = [
        ExamText("1", "Is halofantrine ototoxic?"),
        ExamText("2", "Is halofantrine ototoxic?", (), "Nobody knows, perhaps"),
    ]
    index = Index.build([source(prompts)])
    assert [(e.items, e.unjudged) for e in index.exams] == [(1, 1)]
    found = check(
        index, [("Is halofantrine ototoxic?", ""), ("Is halofantrine ototoxic?", "Nobody knows, perhaps.")]
    )
    assert [(m.row, m.item) for m in found] == [(1, "2")]


def test_different_items_of_one_id_are_refused(exam: list[ExamText]) -> None:
    with pytest.raises(ValueError, match="exam: two different items have the id 'v0'"):
        Index.build([source([exam[0], exam[1]._replace(id="v0")])])


# --- The same whatever the batches, the process, the script ---


@pytest.mark.parametrize("batch", [1, 7, 400])
def test_batches_make_no_difference(batch: int, exam: list[ExamText], index: Index) -> None:
    rng = random.Random(3)
    rows = [
        (
            changed(item.question, rng, "mixed", invented(50, 4), share=rng.random() * 0.5),
            item.answer * (n % 3),
        )
        for n, item in enumerate(exam[:100])
    ]
    rows[10:10] = [("", ""), (POST * 500, ""), ("ünï <b>cödé</b>", "&amp;")]
    assert check(index, rows, batch) == check(index, rows, 50)
    assert len(check(index, rows, batch)) > 40


def test_saved_index_finds_the_same(exam: list[ExamText], index: Index, tmp_path: Path) -> None:
    index.save(tmp_path / "index")
    again = Index.load(tmp_path / "index")
    assert again.exams == index.exams
    rows = [(item.question[: 20 * n], "") for n, item in enumerate(exam)]
    assert check(again, rows) == check(index, rows) != []
    again.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "index").read_bytes()


def test_order_and_hash_seed_make_no_difference(tmp_path: Path) -> None:
    code = (
        "import random, sys; from pathlib import Path; from tests.exam_texts import vignettes;"
        "from meadow.filters.contamination import Index, ExamSource; items = vignettes(40); random.Random(sys.argv[1]).shuffle(items);"
        "Index.build([ExamSource('a', '1', 't', False, items)]).save(Path(sys.argv[2]))"
    )
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", code, seed, str(tmp_path / seed)],
            check=True, cwd=Path(__file__).resolve().parents[2], env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_scripts_without_spaces() -> None:
    text = "一名三十五岁男子因发热和咳嗽两周就诊，胸部影像显示右上叶空洞，痰涂片抗酸杆菌阳性，下列哪项治疗最为合适？"
    other = "一名六十岁女性因胸痛一小时急诊就诊，心电图显示前壁导联抬高，下列哪项处理最为合适？"
    index = Index.build(
        [
            source(
                [
                    ExamText("zh", text, ("异烟肼", "青霉素")),
                    ExamText("ru", "Где находится " + "синоатриальный узел " * 4),
                ]
            )
        ]
    )
    found = check(
        index, [("请回答：" + text, ""), (other, ""), ("\U0001f600" * 50, "\ufdfa"), ("ไทยไทยไทย", "")]
    )
    assert [(m.row, m.item, m.kind) for m in found] == [(0, "zh", "verbatim")]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.text(
            alphabet=st.one_of(
                st.characters(exclude_categories=["Cs"]), st.sampled_from("<b>&amp; .\n\r\x00aA1_")
            )
        )
    )
)
@example(
    [
        "a<b>c</b>&lt;x&gt;",
        "İ ß ΑΣ",
        "e\u0301 \u0345\u00b5",
        "",
        "<",
        "&",
        "p<0.05 & q>1",
        "漢字kana かな",
        "a\u00adb",
    ]
)
@example(["x" * 70_000 + " y", "z"])
def test_columns_have_the_words_of_their_texts(texts: list[str]) -> None:
    hashes, first = hashed(pa.array(texts, pa.string()))
    assert len(first) == len(texts) + 1
    for i, text in enumerate(texts):
        if len(text) < 30_000:
            assert hashes[first[i] : first[i + 1]].tolist() == hash_words(words(text)).tolist()


def test_words() -> None:
    assert (
        words("His BP is 120/80, T 37.2°C; p<0.05 &amp; n&gt;3")
        == "his bp is 120 80 t 37 2 c p 0 05 n 3".split()
    )
    assert (
        words("<p>Caf\u00e9 cafe\u0301 ﬁne</p><br>１２ so\u00adft x<y and z>w")
        == "café café fine 12 soft x y and z w".split()
    )
    column = pa.chunked_array([pa.array(["zero", "one two", None, "thrée"])]).combine_chunks().slice(1)
    hashes, first = hashed(column)
    assert first.tolist() == [0, 2, 2, 3]
    assert hashes.tolist() == hash_words(["one", "two", "thrée"]).tolist()


def test_comments_are_no_words_and_unclosed_ones_cost_little() -> None:
    assert words("one<!-- two <b>\nthree -->four <!-- five") == ["one", "four", "five"]
    start = time.process_time()
    hashed(pa.array(["<!-- x " * 50_000]))
    assert time.process_time() - start < 2  # a search to the end from each takes ten times as long


def test_a_book_costs_little_and_its_item_is_found(exam: list[ExamText], index: Index) -> None:
    rng = random.Random(6)
    others = vignettes(2_000, seed=9)
    text = "\n".join(item.question for item in others)
    at = rng.randrange(len(text))
    book = text[:at] + " " + exam[5].question + " " + text[at:]
    start = time.process_time()
    found = check(index, [(book, ""), (text, ""), ("a a b " * 300_000, "")])
    assert [(m.row, m.item, m.share) for m in found] == [(0, "v5", 1.0)]
    assert time.process_time() - start < 20


# --- Real texts ---


def real_exams(real: Path) -> dict[str, list[ExamText]]:
    ids = set(json.loads((real / "pubmedqa" / "test_ground_truth.json").read_text(encoding="utf-8")))
    pubmedqa = list(read_exam(real / "pubmedqa" / "ori_pqal.json").items)
    records = json.loads((real / "pubmedqa" / "ori_pqal.json").read_text(encoding="utf-8"))
    named = [item._replace(id=key) for key, item in zip(records, pubmedqa, strict=True)]
    return {
        "mmlu": list(read_exam(real / "mmlu" / "test").items),
        "medqa": list(read_exam(real / "medqa" / "questions" / "US" / "dev.jsonl").items),
        "pubmedqa": [item for item in named if item.id in ids],
        "pubmedqa rest": [item for item in named if item.id not in ids],
    }


@pytest.fixture(scope="module")
def exams(real: Path) -> dict[str, list[ExamText]]:
    return real_exams(real)


@pytest.fixture(scope="module")
def real_index(exams: dict[str, list[ExamText]]) -> Index:
    return Index.build([source(exams[name], name) for name in ("mmlu", "medqa", "pubmedqa")])


def _whole(item: ExamText) -> tuple[str, str]:
    return "\n".join((item.question, item.context, *item.options)), item.answer


@pytest.mark.parametrize("name", ["mmlu", "medqa", "pubmedqa"])
def test_real_copies(name: str, exams: dict[str, list[ExamText]], real_index: Index) -> None:
    mine = exams[name]
    found = {(m.row, m.item) for m in check(real_index, [_whole(item) for item in mine])}
    missed = [item.question for i, item in enumerate(mine) if (i, item.id) not in found]
    assert missed == (["The heart has:"] if name == "mmlu" else [])  # one that is listed as too short
    assert [e.unjudged for e in real_index.exams] == [1, 0, 0]


@pytest.mark.parametrize(("name", "least"), [("mmlu", 0.95), ("medqa", 0.99), ("pubmedqa", 0.99)])
@pytest.mark.parametrize("kind", ["replaced", "mixed"])
def test_real_items_with_one_word_in_ten_changed(
    name: str, least: float, kind: str, exams: dict[str, list[ExamText]], real_index: Index
) -> None:
    mine, rng = exams[name], random.Random(5)
    vocabulary = " ".join(item.question for item in mine).split()
    rows = [tuple(changed(text, rng, kind, vocabulary) for text in _whole(item)) for item in mine]
    found = {(m.row, m.item) for m in check(real_index, rows)}
    assert sum((i, item.id) in found for i, item in enumerate(mine)) >= least * len(mine)


def test_real_development_questions_against_each_other(
    exams: dict[str, list[ExamText]], real_index: Index
) -> None:
    """368 of them share thirteen words with another exam's question; these are the same vignettes."""
    mine = exams["medqa"]
    place = {item.id: i for i, item in enumerate(mine)}
    found = check(real_index, [("\n".join((item.question, *item.options)), item.answer) for item in mine])
    pairs = {
        tuple(sorted((m.row, place[m.item]))) for m in found if m.exam == "medqa" and m.item != mine[m.row].id
    }
    assert pairs == {(667, 1178), (449, 610), (295, 1191), (131, 1233)}
    others = {(m.row, m.item.split("/")[-1]) for m in found if m.exam != "medqa"}
    assert others == {(347, "professional_medicine_test.csv:87")}


def unrelated(real: Path, exams: dict[str, list[ExamText]]) -> list[tuple[str, str]]:
    rows = []
    for path in ("wikidoc/medical_meadow_small.json", "chatdoctor/chatdoctor5k.json"):
        rows += [(r["input"], r["output"]) for r in json.loads((real / path).read_text(encoding="utf-8"))]
    for path in [*(real / "pubmed_health_advice").glob("*.csv"), *(real / "pubmed_causal").glob("*.csv")]:
        with path.open(encoding="utf-8", errors="replace", newline="") as stream:
            rows += [(r["sentence"], "") for r in csv.DictReader(stream)]
    for line in (real / "medinstruct" / "MedInstruct-test.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        rows.append(
            (record["instruction"], "\n".join(str(v) for k, v in record.items() if k != "instruction"))
        )
    for record in json.loads((real / "mediqa" / "validation.json").read_text(encoding="utf-8")).values():
        rows.append((record["question"], json.dumps(record, ensure_ascii=False)))
    return rows + [(item.question + "\n" + item.context, item.answer) for item in exams["pubmedqa rest"]]


def babble(rows: list[tuple[str, str]], count: int, seed: int = 1) -> list[tuple[str, str]]:
    """New texts in which each word follows one that it followed somewhere in `rows`: fluent, and about nothing."""
    rng = random.Random(seed)
    after: dict[str, list[str]] = {}
    for row in rows:
        text = " ".join(row).split()
        for one, two in zip(text, text[1:], strict=False):
            after.setdefault(one, []).append(two)
    starts = sorted(after)
    found = []
    for _ in range(count):
        text = [rng.choice(starts)]
        while len(text) < 80:
            text.append(rng.choice(after.get(text[-1]) or starts))
        found.append((" ".join(text[:20]), " ".join(text[20:])))
    return found


def test_real_unrelated_texts(real: Path, exams: dict[str, list[ExamText]], real_index: Index) -> None:
    """No hit in n rows: with 95 % confidence fewer than 3 in n, here fewer than 1 in 10,000."""
    rows = unrelated(real, exams)
    rows += babble([*rows, *((item.question, "") for item in exams["medqa"])], 20_000)
    assert len(rows) > 45_000
    assert check(real_index, rows) == []


# --- Files ---


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


QUESTION = ExamText("", "Which salt is blue?", ("Copper sulphate", "Table salt"), "Copper sulphate")

FORMS = {
    "mmlu.csv": 'Which salt is blue?,Copper sulphate,Table salt,A\n"Two\nlines, ""quoted""?",x,y,B\n',
    "header.csv": "question,A,B,answer\nWhich salt is blue?,Copper sulphate,Table salt,A\n",
    "medqa.jsonl": '{"question": "Which salt is blue?", "answer": "Copper sulphate", "options": '
    '{"A": "Copper sulphate", "B": "Table salt"}, "answer_idx": "A"}\n\n',
    "medmcqa.json": '[{"question": "Which salt is blue?", "opa": "Copper sulphate", "opb": "Table salt", "cop": 0, "exp": "x"}]',
    "arc.json": '{"data": [{"question": "Which salt is blue?", "choices": {"text": ["Copper sulphate", "Table salt"], '
    '"label": ["A", "B"]}, "answerKey": "A"}]}',
    "hub.jsonl": '{"question": "Which salt is blue?", "choices": ["Copper sulphate", "Table salt"], "answer": 0}\n',
    "ours.jsonl": '{"instruction": "Answer", "input": "Which salt is blue?\\n\\nA: Copper sulphate\\nB: Table salt", "output": '
    '"A: Copper sulphate", "answer_key": "A", "options": [{"key": "A", "text": "Copper sulphate"}, {"key": "B", "text": '
    '"Table salt"}]}\n',
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_exam_files(name: str, tmp_path: Path) -> None:
    found = read_exam(write(tmp_path / name, FORMS[name]))
    first = next(iter(found.items))
    assert first._replace(id="") == QUESTION
    assert first.id == ("" if name == "ours.jsonl" else "1") or first.id == "1"
    assert (found.name, found.version, found.split, found.sample) == (name.split(".")[0], "", "", False)
    if name == "mmlu.csv":
        assert found.items[1] == ExamText("2", 'Two\nlines, "quoted"?', ("x", "y"), "y")


def test_other_forms_of_exam_files(tmp_path: Path) -> None:
    pubmedqa = {
        "123": {
            "QUESTION": "Is it?",
            "CONTEXTS": ["One.", "Two."],
            "LONG_ANSWER": "It is.",
            "final_decision": "yes",
        }
    }
    assert read_exam(write(tmp_path / "p.json", json.dumps(pubmedqa))).items == (
        ExamText("123", "Is it?", (), "It is.", "One.\n\nTwo."),
    )
    seed = '{"instruction": "Explain.", "input": "<noinput>", "output": "Long ago."}\n'
    assert read_exam(write(tmp_path / "seed.jsonl", seed)).items == (
        ExamText("1", "Explain.", (), "Long ago."),
    )
    pq.write_table(
        pa.table({"id": ["a", "b"], "question": ["One?", "Two?"], "answer": ["1", None]}),
        tmp_path / "t.parquet",
    )
    assert read_exam(tmp_path / "t.parquet").items == (ExamText("a", "One?", (), "1"), ExamText("b", "Two?"))
    with gzip.open(tmp_path / "z.jsonl.gz", "wt", encoding="utf-8") as out:
        out.write('{"question": "One?"}\n')
    assert read_exam(tmp_path / "z.jsonl.gz").name == "z"
    folder = tmp_path / "mmlu" / "test"
    for part in ("b", "a"):
        write(folder / f"{part}.csv", FORMS["mmlu.csv"])
    found = read_exam(folder)
    assert found.name == "mmlu/test"
    assert [item.id for item in found.items] == ["a.csv:1", "a.csv:2", "b.csv:1", "b.csv:2"]


def test_repeated_ids_in_a_file_are_told_apart(tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", '{"id": 1, "question": "One?"}\n{"id": 1, "question": "Two?"}\n')
    assert [item.id for item in read_exam(file).items] == ["1", "1@2"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"question": "x"}\n{"question', "line 2"),
        ("a.jsonl", "[1]\n", "record 1: it is no object"),
        ("a.jsonl", '{"frage": "x"}\n', r"record 1: no question among its fields \(frage\)"),
        ("a.json", '"x"', "it is no list of records"),
        ("a.json", "[]", "it holds no question"),
        ("a.csv", "Which?,x,y,A\nWho?,x,B\n", "row 2: 3 cells"),
        ("a.csv", "question,answer\nx\n", "row 1: 1 cells where the header has 2"),
        ("a.txt", "x", "its form is not known"),
        ("a.parquet", "x", "it cannot be read"),
    ],
)
def test_exam_files_that_cannot_be_read(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read_exam(write(tmp_path / name, text))
    assert name in str(error.value)


def test_no_exam_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_exam(tmp_path / "missing.jsonl")
    with pytest.raises(ValueError, match="holds no exam"):
        read_exam(tmp_path)


# --- The stage of a build ---


def row(item: ExamText) -> dict[str, object]:
    options = [{"key": key, "text": text} for key, text in zip("ABCD", item.options, strict=False)]
    listed = "\n".join(f"{o['key']}: {o['text']}" for o in options)
    key = "ABCD"[item.options.index(item.answer)]
    return {
        "id": item.id,
        "input": f"{item.question}\n\n{listed}",
        "output": f"{key}: {item.answer}",
        "options": options,
        "answer_key": key,
    }


def part(path: Path, rows: list[dict[str, object]], split: str = "train") -> Part:
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(str(path), table.schema) as out:
        for batch in table.to_batches(max_chunksize=7):
            out.write_batch(batch)
    return Part(str(path), ("set",), split, len(rows), 0)


def piece(found: Part, drop: list[int] | None = None) -> Piece:
    return Piece(found, None if drop is None else np.array(drop), "set", ("input",), 50, False)


def test_rows_become_the_items_they_were_made_of(exam: list[ExamText], tmp_path: Path) -> None:
    found = piece(part(tmp_path / "exam", [row(item) for item in exam[:20]]), [3, 19])
    assert list(stage.items(found)) == [*exam[:3], *exam[4:19]]
    abstract = {
        "id": "p",
        "input": "Is it so?\n\nAIM: To see.\n\nRESULTS: We saw.",
        "output": "yes\n\nIt is.",
        "options": [],
        "answer_key": None,
    }
    assert row_item(abstract) == ExamText(
        "p", "Is it so?", (), "yes\n\nIt is.", "AIM: To see.\n\nRESULTS: We saw."
    )


def test_scan_counts_rows_as_the_part_does(exam: list[ExamText], index: Index, tmp_path: Path) -> None:
    index.save(tmp_path / "index")
    rows = [row(item) for item in vignettes(40, seed=3)]
    for at, item in ((4, exam[0]), (18, exam[1]), (39, exam[2])):
        rows[at] = {**row(item), "id": f"row{at}"}
    # The question is nowhere but among the options.
    rows[30] = {**rows[30], "id": "row30", "options": [{"key": "A", "text": exam[3].question}]}
    found = piece(part(tmp_path / "part", rows), [0, 5, 18, 31])
    hits = stage.scan(found, tmp_path / "index")
    assert [(h.row, h.id, h.item) for h in hits] == [
        (4, "row4", "v0"),
        (30, "row30", "v3"),
        (39, "row39", "v2"),
    ]
    assert [h.field for h in hits] == ["input", "options", "input"]
    assert {(h.exam, h.version, h.split, h.kind) for h in hits} == {("exam", "1.0.0", "test", "verbatim")}
    assert pickle.loads(pickle.dumps(hits)) == hits
    pickle.dumps((stage.scan, found))

    table = stage.table([("train", hit) for hit in hits], dropped=True)
    assert table.column_names == stage.COLUMNS.names
    assert table.select(["item", "id", "split", "dropped"]).to_pylist()[0] == {
        "item": "v0", "id": "row4", "split": "train", "dropped": True,
    }  # fmt: skip
    assert stage.table([], dropped=False).schema == table.schema
    (line,) = stage.summary(index.exams, [(found, hit) for hit in [*hits, hits[0]]], dropped=True)
    assert line.model_dump() == {
        "exam": "exam", "version": "1.0.0", "split": "test", "sample": False, "items": 300, "unjudged": 0,
        "items_hit": 3, "rows_hit": 3, "rows_dropped": 3, "sha256": index.exams[0].sha256,
    }  # fmt: skip
    assert stage.summary(index.exams, [], dropped=True)[0].rows_dropped == 0


# --- The command ---


def meadow(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "meadow", "contamination", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_on_files(exam: list[ExamText], tmp_path: Path) -> None:
    against = write(tmp_path / "mock.jsonl", "".join(json.dumps(item._asdict()) + "\n" for item in exam[:50]))
    rows = [{"input": item.question, "output": item.answer} for item in vignettes(20, seed=4)]
    rows[11] = {"input": "Why?", "output": exam[3].question}
    data = write(tmp_path / "data.json", json.dumps(rows))
    done = meadow(data, "--against", against, "--report", tmp_path / "hits.parquet")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["mock", "50", "0", "1", "1"] in lines
    assert "20 rows checked (input, output)" in done.stdout
    assert "12: verbatim of v3 in mock, 100%: a " in done.stdout
    (hit,) = pq.read_table(tmp_path / "hits.parquet").to_pylist()
    assert (hit["exam"], hit["item"], hit["id"], hit["field"], hit["share"], hit["dropped"]) == (
        "mock", "v3", "12", "output", 1.0, False,
    )  # fmt: skip
    done = meadow(data, "--against", against, "--fields", "input")
    assert ["mock", "50", "0", "0", "0"] in [line.split() for line in done.stdout.splitlines()]


def test_command_used_wrongly(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", '{"input": "x", "output": "y"}\n')
    exam = write(tmp_path / "mock.jsonl", '{"question": "Which salt is blue?"}\n')
    for arguments, message in (
        ((tmp_path / "nothing", "--against", exam), "no file has this name"),
        ((data, "--against", "nothing"), "nothing: no dataset in"),
        ((data, "--against", exam, "--fields", "a,input"), "it has no column a; it has input, output, id"),
        ((data, "--against", data.parent / "none.csv"), "no file has this name"),
    ):
        done = meadow(*arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_columns_of_other_datasets(exam: list[ExamText], tmp_path: Path) -> None:
    against = [source(exam)]
    store = Store(tmp_path / "out")
    pq.write_table(
        pa.table(
            {"n": [1, 2], "messages": [["hello", exam[0].question], []], "text": [None, exam[1].question]}
        ),
        tmp_path / "x.parquet",
    )
    found = checking.check(str(tmp_path / "x.parquet"), against, store)
    assert (found.fields, [(h.id, h.item) for _, h in found.hits]) == (("text",), [("1", "v1")])
    found = checking.check(str(tmp_path / "x.parquet"), against, store, ["messages", "text"])
    assert [(h.id, h.item, h.field) for _, h in found.hits] == [("0", "v0", "messages"), ("1", "v1", "text")]
    (tmp_path / "none.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(ValueError, match="none.jsonl: it holds no row to check"):
        checking.check(str(tmp_path / "none.jsonl"), against, store)
    with pytest.raises(ValueError, match="the column n holds int64, not texts"):
        checking.check(str(tmp_path / "x.parquet"), against, store, ["n"])
