"""Duplicates: what counts as one, who survives, and that nothing else is ever dropped."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from meadow.cli.app import app
from meadow.core.parts import Part, Piece
from meadow.core.workers import InlineExecutor, executor_for
from meadow.filters import duplicates
from meadow.filters.duplicates import EXACT, NEAR, jaccard, minhash, normalise, opposites

#: Ordinary words: none is a number, a negation or has an opposite.
WORDS = [
    a + b + c for a in "bdfgklmnprst" for b in ("a", "ei", "o", "u") for c in ("ld", "mp", "nk", "rt", "sh")
]


def prose(chance: random.Random, count: int) -> list[str]:
    return chance.choices(WORDS, k=count)


Row = tuple[str, str, str]


def piece(
    path: Path,
    rows: Iterable[Row],
    *,
    source: str = "a",
    configs: tuple[str, ...] = ("a",),
    drop: list[int] | None = None,
    priority: int = 50,
    exam: bool = False,
    batch: int = 100,
) -> Piece:
    rows = list(rows)
    schema = pa.schema([(name, pa.string()) for name in ("instruction", "id", "input", "output")])
    with pa.ipc.new_stream(str(path), schema) as writer:
        for at in range(0, len(rows), batch):
            columns = zip(
                *(("Answer this question truthfully", *row) for row in rows[at : at + batch]), strict=True
            )
            writer.write_batch(pa.record_batch([pa.array(c, pa.string()) for c in columns], schema=schema))
    part = Part(str(path), configs, "train", len(rows), 0, file=f"{source}/raw.txt")
    gone = None if drop is None else np.array(drop, np.int64)
    return Piece(part, gone, source, ("input", "output"), priority, exam)


def find(tmp_path: Path, pieces: list[Piece], **options: float) -> duplicates.FoundDuplicates:
    folder = tmp_path / f"work{time.monotonic_ns()}"
    folder.mkdir()
    return duplicates.find(pieces, folder, InlineExecutor(), 2, **options)


def left_out(found: duplicates.FoundDuplicates, pieces: list[Piece]) -> dict[str, tuple[str, str]]:
    return {
        rejected.id: (rejected.reason, rejected.detail)
        for one in pieces
        for _, rejected in found.rejected(one)
    }


def report(found: duplicates.FoundDuplicates, config: str, tmp_path: Path) -> tuple[dict, list[tuple]]:
    path = tmp_path / f"{config}.parquet"
    counts = found.write(config, path)
    table = pq.read_table(path)
    assert table.column_names == ["cluster", "id", "kept", "similarity"]
    return counts, [tuple(row.values()) for row in table.to_pylist()]


def independent(one: Row, other: Row) -> float:
    """Jaccard similarity written a second time, without anything of the module."""

    def shingles(row: Row) -> set[str]:
        words = row[1].lower().split() + ["|"] + row[2].lower().split()
        return {" ".join(words[at : at + 5]) for at in range(max(1, len(words) - 4))}

    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def test_normalisation() -> None:
    assert normalise("  Straße\n\tＡＢＣ ﬁne\u00a0x\u00adray\u200b ") == "strasse abc fine xray"
    assert normalise("two  spaces") == normalise("Two spaces") == "two spaces"
    assert normalise("Cafe\u0301") == normalise("CAFÉ")


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert minhash.SEPARATOR not in once
    assert once.split(" ") == once.split() or once == ""


@given(st.lists(st.text("ab \x1f\n", max_size=5), min_size=2, max_size=2))
def test_no_column_can_pass_for_two(values: list[str]) -> None:
    words = [normalise(value).split() for value in values]
    assert minhash.joined(values).split(" ") == [*words[0], "\x1f", *words[1]] or not any(words)


def test_one_word_of_sixty_changes_five_of_fifty_six_shingles() -> None:
    words = prose(random.Random(1), 60)
    changed = [*words[:30], "other", *words[31:]]
    assert jaccard(" ".join(words), " ".join(changed)) == 51 / 61
    assert jaccard("a b c", "A  b c") == 1
    assert jaccard("a b c", "a b d") == 0
    assert jaccard(["a b c d e", "f"], ["a b c d e f", ""]) < 1


def test_bands_reach_what_they_promise() -> None:
    for threshold in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0):
        banding = minhash.Banding.of(threshold)
        assert banding.bands * banding.rows <= minhash.VALUES
        assert banding.recall(threshold) >= minhash.RECALL or banding.rows == 1
    banding = minhash.Banding.of(0.8)
    assert (banding.bands, banding.rows) == (12, 5)
    assert banding.recall(0.8) > 0.991
    assert banding.recall(51 / 61) > 0.998
    assert banding.recall(0.3) < 0.03
    for threshold in (0, -1, 1.1):
        with pytest.raises(ValueError, match="threshold"):
            minhash.Banding.of(threshold)


@given(st.lists(st.lists(st.sampled_from(["a", "b", "ä", "x" * 300]), min_size=1, max_size=9), min_size=1))
@settings(max_examples=50)
def test_hashes_are_one_to_one_with_shingles(rows: list[list[str]]) -> None:
    texts = [" ".join(row) for row in rows]
    hashes, offsets = minhash.hashes(texts)
    known: dict[int, tuple] = {}
    for row, begin, end in zip(rows, offsets[:-1], offsets[1:], strict=True):
        expected = [tuple(row[at : at + 5]) for at in range(len(row) - 4)] or [tuple(row)]
        found = hashes[begin:end].tolist()
        assert len(found) == len(expected)
        for value, shingle in zip(found, expected, strict=True):
            assert known.setdefault(value, shingle) == shingle
    assert len(set(known.values())) == len(known)


def edited(chance: random.Random, words: list[str]) -> list[str]:
    at = chance.randrange(len(words))
    kind = chance.randrange(3)
    return [*words[:at], *([chance.choice(WORDS)] if kind < 2 else []), *words[at + (kind != 1) :]]


def test_planted_edits_are_found_and_nothing_else_is(tmp_path: Path) -> None:
    chance = random.Random(7)
    rows: dict[str, Row] = {}
    for number in range(3_000):
        words = prose(chance, 60)
        cut = chance.randrange(1, 59)
        question, answer = words[:cut], words[cut:]
        changed = (
            (edited(chance, question), answer)
            if chance.randrange(60) < cut
            else (question, edited(chance, answer))
        )
        for name, (one, other) in (("0", (question, answer)), ("1", changed)):
            row_id = f"a/{number:05d}-{name}"
            rows[row_id] = row_id, " ".join(one).capitalize(), " ".join(other) + " "
    one = piece(tmp_path / "p", rows.values())
    found = find(tmp_path, [one])
    lost = left_out(found, [one])
    planted = {row_id for row_id in rows if row_id.endswith("1")}
    assert len(planted & set(lost)) >= 0.97 * len(planted)
    assert set(lost) <= planted
    _, clusters = report(found, "a", tmp_path)
    for cluster, row_id, kept, similarity in clusters:
        assert kept == (row_id == cluster)
        value = independent(rows[cluster], rows[row_id])
        assert similarity == pytest.approx(value, abs=1e-12)
        assert value >= duplicates.THRESHOLD


def greedy(rows: list[Row], threshold: float) -> dict[str, tuple[str, float]]:
    """The rule, applied to all pairs: what is dropped, the survivor it is dropped for, the similarity."""
    survivors: list[Row] = []
    dropped = {}
    for row in sorted(rows):
        value, _, best = min(((-independent(row, s), s[0], s) for s in survivors), default=(0, "", row))
        if -value >= threshold:
            dropped[row[0]] = best[0], -value
        else:
            survivors.append(row)
    return dropped


def test_agrees_with_comparing_all_pairs(tmp_path: Path) -> None:
    chance = random.Random(3)
    rows: list[Row] = []
    for number in range(600):
        words = rows[chance.randrange(len(rows))][2].split() if rows and number % 3 else prose(chance, 50)
        for _ in range(chance.randrange(4)):
            words = edited(chance, words)
        rows.append((f"a/{chance.random()}", "What?", " ".join(words)))
    one = piece(tmp_path / "p", rows)
    found = find(tmp_path, [one])
    mine = {row_id: (c, s) for c, row_id, kept, s in report(found, "a", tmp_path)[1] if not kept}
    expected = greedy(rows, duplicates.THRESHOLD)
    assert len(expected) > 150
    different = [
        row_id for row_id in mine.keys() | expected.keys() if mine.get(row_id) != expected.get(row_id)
    ]
    # What MinHash does not propose stays, and changes the fate of what is compared with it.
    assert len(different) <= 0.02 * len(expected)


def test_similarity_is_not_passed_on(tmp_path: Path) -> None:
    words = prose(random.Random(5), 60)
    two = [*words[:20], "other", *words[21:]]
    three = [*two[:40], "another", *two[41:]]
    rows = [(f"a/{n}", "", " ".join(text)) for n, text in enumerate((words, two, three))]
    assert independent(rows[0], rows[2]) < 0.8 <= independent(rows[1], rows[2])
    one = piece(tmp_path / "p", rows)
    assert set(left_out(find(tmp_path, [one]), [one])) == {"a/1"}


def test_the_most_similar_survivor_is_named(tmp_path: Path) -> None:
    words = prose(random.Random(5), 200)
    far = [w if n % 20 else "far" for n, w in enumerate(words)]
    rows = [("a/0", "", " ".join(far)), ("a/1", "", " ".join(words)), ("a/2", "", " ".join([*words, "end"]))]
    one = piece(tmp_path / "p", rows)
    found = find(tmp_path, [one], threshold=0.5)
    assert independent(rows[0], rows[1]) > 0.5
    assert set(left_out(found, [one])) == {"a/1", "a/2"}
    rows[1:] = [("a/1", "", " ".join(words))]
    near = piece(tmp_path / "q", [*rows, ("a/2", "", " ".join([*words, "end"]))])
    found = find(tmp_path, [near])
    assert left_out(found, [near])["a/2"][1].startswith("similarity 0.995 to a/1")


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_of_equally_similar_survivors_the_one_of_better_rank_is_named(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    words = prose(random.Random(8), 60)
    one, two = ([*words[:at], "other", *words[at + 1 :]] for at in (20, 40))
    rows = [(f"a/{n}", "", " ".join(text)) for n, text in enumerate((one, two, words))]
    assert independent(rows[0], rows[1]) < 0.8
    assert independent(rows[0], rows[2]) == independent(rows[1], rows[2]) == 52 / 62
    part = piece(tmp_path / "p", [rows[n] for n in order])
    clusters = report(find(tmp_path, [part]), "a", tmp_path)[1]
    assert clusters == [("a/0", "a/0", True, 1.0), ("a/0", "a/2", False, 52 / 62)]
    # A source's priority goes before ids.
    first = piece(tmp_path / "q", [rows[1]], source="b", configs=("b",), priority=10)
    rest = piece(tmp_path / "r", [rows[n] for n in order if n != 1])
    clusters = report(find(tmp_path, [rest, first]), "a", tmp_path)[1]
    assert clusters == [("a/1", "a/1", True, 1.0), ("a/1", "a/2", False, 52 / 62)]


def test_exact_and_near_and_what_survives(tmp_path: Path) -> None:
    words = " ".join(prose(random.Random(2), 40))
    b = piece(tmp_path / "b", [("b/1", "What is it?", words)], source="b", configs=("b",), priority=10)
    a = piece(
        tmp_path / "a",
        [("a/2", "what  is IT?", words), ("a/1", "What is it?", words + " indeed"), ("a/3", "Else?", "No")],
    )
    found = find(tmp_path, [a, b])
    assert left_out(found, [a, b]) == {
        "a/1": (NEAR, "similarity 0.976 to b/1, which is kept"),
        "a/2": (EXACT, "similarity 1.000 to b/1, which is kept"),
    }
    assert found.dropped(a.part.path)["row"].to_pylist() == [0, 1]
    assert found.dropped(b.part.path)["row"].to_pylist() == []
    counts, clusters = report(found, "a", tmp_path)
    assert counts == {"threshold": 0.8, "exact": 1, "near": 1, "clusters": 1, "contradicting": 0}
    assert clusters == [
        ("b/1", "b/1", True, 1.0),
        ("b/1", "a/1", False, pytest.approx(40 / 41)),
        ("b/1", "a/2", False, 1.0),
    ]
    counts, same = report(found, "b", tmp_path)
    assert (counts["exact"], counts["near"], counts["clusters"]) == (0, 0, 1)
    assert same == clusters
    assert report(found, "other", tmp_path)[1] == []
    numbers = [number for number, _ in found.rejected(a)]
    assert numbers == [0, 1]
    assert next(iter(found.rejected(a)))[1].excerpt == "what  is IT?"


def test_forms_of_one_source_exams_and_rows_left_out_before(tmp_path: Path) -> None:
    text = " ".join(prose(random.Random(2), 40))
    four = piece(tmp_path / "4", [("q/1", "Q?", text)], source="q", configs=("four",))
    five = piece(tmp_path / "5", [("q/1", "Q?", text), ("q/2", "Q?", text)], source="q", configs=("five",))
    both = piece(tmp_path / "45", [("q/3", "Q?", text)], source="q", configs=("five", "four"))
    exam = piece(tmp_path / "e", [("e/1", "Q?", text)], source="e", configs=("e",), priority=1, exam=True)
    gone = piece(
        tmp_path / "g", [("g/1", "Q?", text), ("g/2", "R?", "Yes")], source="g", drop=[0], priority=1
    )
    assert left_out(find(tmp_path, [four, exam, gone]), [four, exam, gone]) == {}
    pieces = [four, five, both]
    found = find(tmp_path, pieces)
    assert set(left_out(found, pieces)) == {"q/2", "q/3"}
    assert report(found, "four", tmp_path)[0]["exact"] == 1
    assert report(found, "five", tmp_path)[0]["exact"] == 2
    first = piece(tmp_path / "f", [("f/1", "Q?", text)], source="f", configs=("f",), priority=1)
    found = find(tmp_path, [four, five, first])
    dropped = [found.dropped(one.part.path)["row"].to_pylist() for one in (four, five, first)]
    assert dropped == [[0], [0, 1], []]
    _, clusters = report(found, "four", tmp_path)
    assert clusters == [("f/1", "f/1", True, 1.0), ("f/1", "q/1", False, 1.0), ("f/1", "q/2", False, 1.0)]


def test_numbers_negations_and_opposites_keep_rows_apart(tmp_path: Path) -> None:
    words = prose(random.Random(9), 80)

    def put(*found: str) -> str:
        return " ".join([*words[:40], *found, *words[40:]])

    cases = {
        "number": [
            ("take 5 mg", "take 50 mg"),
            ("type I", "type II"),
            ("<3 of", ">3 of"),
            ("two a", "three a"),
        ],
        "opposite": [("the left", "the right"), ("hyperkalemia and", "hypokalemia and"), ("high", "low")],
        "negation": [("is safe", "is not safe"), ("with", "without")],
        "": [("take", "give"), ("take 5 mg", "take mg"), ("the left", "the far"), ("not safe", "never safe")],
    }
    for kind, pairs in cases.items():
        for one, other in pairs:
            texts = normalise(put(one)), normalise(put(other))
            assert minhash.overlap(*map(minhash.shingles, texts)) >= 0.8
            assert opposites.contradiction(*texts) == kind, (one, other)
            assert opposites.contradiction(*reversed(texts)) == kind
            part = piece(tmp_path / "p", [("a/1", "Dose?", put(one)), ("a/2", "Dose?", put(other))])
            found = find(tmp_path, [part])
            assert len(left_out(found, [part])) == (not kind)
            assert report(found, "a", tmp_path)[0]["contradicting"] == bool(kind)


@pytest.mark.parametrize(
    ("one", "other", "kept"),
    [
        ("B: Aspirin", "B: Heparin", True),
        ("Rest it for a week and see.", "Nothing of the kind; ask your dentist about it.", True),
        ("Rest it for a week and see.", "Rest it for a month and see.", False),
        ("B: Aspirin", "b:  aspirin", False),
    ],
)
def test_two_answers_to_one_question_are_kept(tmp_path: Path, one: str, other: str, kept: bool) -> None:
    question = " ".join(prose(random.Random(3), 90))
    assert jaccard([question, one], [question, other]) >= 0.8
    part = piece(tmp_path / "p", [("a/1", question, one), ("a/2", question, other)])
    found = find(tmp_path, [part])
    assert len(left_out(found, [part])) == (not kept)
    assert report(found, "a", tmp_path)[0]["contradicting"] == kept


def varied(chance: random.Random, count: int) -> list[Row]:
    rows: list[Row] = []
    for number in range(count):
        if rows and number % 4 == 0:
            old = chance.choice(rows)
            words = old[2].split()
            rows.append((f"a/{number:05d}", old[1], " ".join(edited(chance, words) if number % 8 else words)))
        else:
            rows.append((f"a/{number:05d}", "What is ß?", " ".join(prose(chance, chance.randrange(1, 60)))))
    return rows


def test_result_depends_on_nothing_but_the_rows(tmp_path: Path) -> None:
    chance = random.Random(11)
    rows = varied(chance, 1_000)
    plain = [piece(tmp_path / "all", rows)]
    expected = left_out(find(tmp_path, plain), plain)
    assert {reason for reason, _ in expected.values()} == {EXACT, NEAR}
    wanted = report(find(tmp_path, plain), "a", tmp_path)
    for cuts in ((1, 999), (300, 301), (0, 500)):
        shuffled = chance.sample(rows, len(rows))
        edges = [0, *cuts, len(rows)]
        pieces = [
            piece(tmp_path / f"{n}", shuffled[a:b], batch=7)
            for n, (a, b) in enumerate(zip(edges, edges[1:], strict=False))
        ]
        chance.shuffle(pieces)
        found = find(tmp_path, pieces)
        assert left_out(found, pieces) == expected
        assert report(found, "a", tmp_path) == wanted
    folder = tmp_path / "workers"
    folder.mkdir()
    told: list[tuple[int, int]] = []
    with executor_for(2) as executor:
        found = duplicates.find(pieces, folder, executor, 4, lambda *at: told.append(at))
    assert report(found, "a", tmp_path) == wanted
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


def test_nothing_to_find(tmp_path: Path) -> None:
    assert find(tmp_path, []).members.num_rows == 0
    empty = piece(tmp_path / "0", [])
    blank = piece(tmp_path / "1", [("a/1", " ", "\n"), ("a/2", "", "")])
    one = piece(tmp_path / "2", [("a/3", "", "Yes")])
    none = piece(tmp_path / "3", [("a/4", "", "Yes")], drop=[0])
    found = find(tmp_path, [empty, blank, one, none])
    assert found.members.num_rows == 0
    assert report(found, "a", tmp_path)[1] == []
    assert list(found.rejected(one)) == []


@pytest.mark.parametrize("kind", ["copies", "alike", "forms"])
def test_many_rows_from_one_template(tmp_path: Path, kind: str) -> None:
    chance = random.Random(13)
    template = prose(chance, 60)
    rows: list[Row] = []
    for number in range(6_000):
        words = list(template)
        if kind == "alike":
            words[chance.randrange(60)] = f"x{chance.choice(WORDS)}"
        elif kind == "forms":  # any two have a similarity near 0.7
            words[10:14] = [f"{word}s" for word in prose(chance, 4)]
        rows.append((f"a/{number:05d}", "Which?", " ".join(words)))
    rows.append(("a/99999", "Which?", rows[4_000][2] + " end"))
    one = piece(tmp_path / "p", rows)
    start = time.perf_counter()
    found = find(tmp_path, [one])
    assert time.perf_counter() - start < 30
    counts, _ = report(found, "a", tmp_path)
    if kind == "copies":
        assert (counts["exact"], counts["near"]) == (5_999, 1)
    elif kind == "alike":
        assert counts["exact"] + counts["near"] > 5_900
    else:
        assert left_out(found, [one])["a/99999"][1].endswith("a/04000, which is kept")


def test_command_on_the_published_patient_information_file(real: Path, tmp_path: Path) -> None:
    file = real / "wikidoc" / "medical_meadow_small.json"
    if not file.is_file():
        pytest.skip(f"{file} is absent")
    done = CliRunner().invoke(app, ["duplicates", str(file), "--report", str(tmp_path / "r.parquet")])
    assert done.exit_code == 0, done.output
    # 92 rows repeat an earlier one to the byte; three more differ from one in case or white space.
    assert "5,942 rows compared (input, output): 95 exact and 1" in done.output
    rows = json.loads(file.read_text(encoding="utf-8"))
    surplus, seen = [], set()
    for number, row in enumerate(rows, start=1):
        key = row["input"], row["output"]
        surplus += [f"row {number:08d}"] if key in seen else []
        seen.add(key)
    assert len(surplus) == 92
    table = pq.read_table(tmp_path / "r.parquet").to_pylist()
    dropped = {row["id"]: row for row in table if not row["kept"]}
    assert dropped.keys() >= set(surplus)
    for row in dropped.values():
        one, other = (rows[int(row[name].split()[1]) - 1] for name in ("id", "cluster"))
        texts = [(r["input"], r["output"]) for r in (one, other)]
        assert jaccard(*texts) == pytest.approx(row["similarity"]) and row["similarity"] >= 0.8


def test_command_on_files_and_wrong_use(tmp_path: Path) -> None:
    text = " ".join(prose(random.Random(4), 50))
    rows = [
        {"q": text, "n": 1},
        {"q": text.upper(), "n": 2},
        {"q": text + " end", "n": 3},
        {"q": None, "n": 4},
    ]
    lines = tmp_path / "rows.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    for file in (lines, tmp_path / "rows.parquet"):
        done = CliRunner().invoke(app, ["duplicates", str(file), "--fields", "q"])
        assert done.exit_code == 0, done.output
        assert "4 rows compared (q): 1 exact and 1 near" in done.output
        assert "0.979  row 00000003" in done.output
        done = CliRunner().invoke(app, ["duplicates", str(file), "--fields", "q", "--threshold", "0.99"])
        assert "1 exact and 0 near" in done.output
    for arguments, words in (
        ([str(lines)], "no column input or output; its columns are q, n"),
        ([str(lines), "--fields", "x"], "no column 'x'"),
        ([str(lines), "--fields", "q", "--threshold", "2"], "threshold 2.0"),
        ([str(tmp_path / "none.json")], "no dataset in"),
    ):
        done = CliRunner().invoke(app, ["duplicates", *arguments])
        assert (done.exit_code, words in done.output) == (2, True), done.output
