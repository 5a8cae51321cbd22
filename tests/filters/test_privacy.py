from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from meadow.builders.stackexchange.builder import StackExchange
from meadow.builders.wikidoc.builder import WikiDoc
from meadow.core.builder import Builder
from meadow.core.parts import Finding, Seen
from meadow.core.row import Author, Example, Option, Rejected
from meadow.core.store import Store
from meadow.filters.privacy import (
    LIMITS,
    POLICIES,
    TYPES,
    PrivacyFilter,
    find,
    mask,
    numbers,
    scan,
    screening,
)
from meadow.filters.privacy import evaluation as ev

EXAMPLE = Example(
    "toy/1",
    "Answer this question truthfully",
    "My name is Priya Raman, DOB 04/17/1962. Write to p.raman@example.org.",
    "Dear Priya, at your age (born 04/17/1962) a scan helps.",
    "g",
    source_url="https://example.org/users/12/priya-raman",
    authors=(Author("Priya Raman", "https://example.org/users/12/priya-raman"),),
    extra={"title": "A question of Priya Raman", "tags": ["scan", "ask p.raman@example.org"], "score": 3},
)


def types(text: str) -> list[str]:
    return [finding.type for finding in find(text)]


def found(text: str) -> list[tuple[str, str]]:
    return [(finding.type, text[finding.start : finding.end]) for finding in find(text)]


def test_labelled_set_is_large_and_whole() -> None:
    sentences = ev.labelled()
    assert len(sentences) >= 300
    assert len({sentence.text for sentence in sentences}) == len(sentences)
    with_identifiers = sum(bool(sentence.findings) for sentence in sentences)
    assert 0.4 < with_identifiers / len(sentences) < 0.6
    assert sum(sentence.kind == "eponym" for sentence in sentences) >= 100
    for part in ev.PARTS:
        held = [label.type for s in ev.labelled(part) for label in s.findings]
        assert set(held) == set(TYPES)
    for sentence in sentences:
        assert bool(sentence.findings) == (sentence.kind == "identifier")
        assert all(sentence.text[f.start : f.end].strip() for f in sentence.findings)
        assert "[[" not in sentence.text
        assert "]]" not in sentence.text


@pytest.mark.parametrize("part", ev.PARTS)
def test_recall_and_precision_on_labelled_sentences(part: str) -> None:
    done = ev.evaluate(ev.labelled(part))
    assert done.total(ev.STRUCTURED).recall >= 0.95
    assert done.total().recall >= 0.95
    assert done.total().precision >= 0.98


def test_recall_of_each_structured_type() -> None:
    done = ev.evaluate(ev.labelled())
    for name in ev.STRUCTURED:
        score = done.scores[name]
        if score.labelled >= 10:
            assert score.recall >= 0.95, name
        assert score.labelled - score.caught <= 1, name


def test_medicine_survives() -> None:
    done = ev.evaluate(ev.labelled())
    assert done.kinds["eponym"] >= 100
    assert 1 - done.touched["eponym"] / done.kinds["eponym"] >= 0.99
    for kind in ("dose", "lab", "gene", "citation"):
        assert done.touched[kind] == 0, kind


@pytest.mark.parametrize("name", sorted(TYPES))
def test_placeholders_say_the_type(name: str) -> None:
    sentence = next(s for s in ev.labelled("tuning") if s.findings and s.findings[0].type == name)
    masked = mask(sentence.text)
    assert f"[{name}]" in masked
    assert all(sentence.text[f.start : f.end] not in masked for f in sentence.findings)
    assert find(masked) == []


def test_masked_text_is_not_masked_again() -> None:
    for sentence in ev.labelled():
        once = mask(sentence.text)
        assert mask(once) == once


def test_report_names_both_parts_and_every_type() -> None:
    for part in ev.PARTS:
        text = ev.report(part)
        assert text.startswith(f"{part}: {len(ev.labelled(part))} sentences")
        assert all(name in text for name in TYPES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail kim.olsen@example.org.", [("EMAIL", "kim.olsen@example.org")]),
        ("write kim at example dot org now", [("EMAIL", "kim at example dot org")]),
        ("look at example dot org now", []),
        ("git clone git@github.com:a/b.git", []),
        ("see logo@2x.png", []),
        ("call (212) 555-0147 ext. 3 now", [("PHONE", "(212) 555-0147 ext. 3")]),
        ("call 1-800-273-8255 or 988", []),
        ("during 2000-2012 and (1912-1954)", []),
        ("00000000  cf fa ed fe 07 00 00 01   03 00 00 80 02  00", []),
        ("on 06/06/2018 11:12pm", []),
        ("SSN 987-65-4321", [("ID", "987-65-4321")]),
        ("CAS 50-78-2", []),
        ("27698374 A beneficial effect", []),
        ("EC 3.4.21.4 and 3.4.21.68", []),
        ("from 203.0.113.77", [("IP", "203.0.113.77")]),
        ("on 192.168.1.10 and 127.0.0.1 and 8.8.8.8", []),
        ("MRN: 00482913", [("RECORD", "00482913")]),
        ("accession number NM_000492.4", []),
        ("I, a 93-year-old man", [("AGE", "93-year-old")]),
        ("adults over 90 years old", []),
        ("a 90-year-old bridge", []),
        ("He was admitted on 3 May 2018.", [("DATE", "3 May 2018")]),
        ("The law was approved on 3 May 2018.", []),
        ("Patients admitted between 1 May 2010 and 3 May 2018 took part.", []),
        ("He was admitted in 2018.", []),
        ("Galton was born on 16 February 1822.", []),
        ("https://github.com/example-user", [("URL", "https://github.com/example-user")]),
        ("https://github.com/pytorch/pytorch", []),
        ("https://en.wikipedia.org/wiki/Crohn%27s_disease", []),
        ("ask @maria_k about it", [("HANDLE", "@maria_k")]),
        ("@property\ndef x(self):", []),
        ("Dr. Ann Lee and Mr. Jones's wound", [("NAME", "Ann Lee"), ("NAME", "Jones")]),
        ("Dr. Lee et al. found", []),
        ("Dr. House would laugh", []),
        ("Hello Dr. Please help", []),
        ("Mother Teresa founded it", []),
        ("groups with MS. Cross-Sectional study", []),
        ("DR. SMITH came", [("NAME", "SMITH")]),
        ("the program was written by Joseph Example", []),
        ("Jean-Luc said so", []),
    ],
)
def test_found(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (numbers.nhs, "9990000018", "9990000019"),
        (numbers.card, "4111111111111111", "4111111111111112"),
        (numbers.iban, "DE89 3704 0044 0532 0130 00", "DE89 3704 0044 0532 0130 01"),
        (numbers.aadhaar, "999941057058", "999941057059"),
        (numbers.cpf, "11144477735", "11144477736"),
        (numbers.rut, "12.345.678-5", "12.345.678-6"),
        (numbers.ahv, "7569217076985", "7569217076986"),
        (numbers.belgian, "85073003328", "85073003329"),
        (numbers.nir, "2 55 08 14 168 025 38", "2 55 08 14 168 025 39"),
        (numbers.dni, "12345678Z", "12345678A"),
        (numbers.dni, "X1234567L", "X1234567A"),
        (numbers.hetu, "131052-308T", "131052-308U"),
        (numbers.personnummer, "8112189876", "8112189877"),
        (numbers.codice_fiscale, "RSSMRA85T10A562S", "RSSMRA85T10A562T"),
        (numbers.chinese, "11010519491231002X", "110105194912310021"),
    ],
)
def test_checksums(check: object, good: str, bad: str) -> None:
    assert check(good)
    assert not check(bad)


def test_a_name_once_introduced_is_found_again() -> None:
    text = "My name is Olivia Hart. Olivia Hart is tired, and Olivia hurts."
    assert mask(text) == "My name is [NAME]. [NAME] is tired, and [NAME] hurts."


def test_a_disease_named_like_a_doctor_keeps_its_name() -> None:
    assert mask("Dr. Okonkwo told me. Okonkwo syndrome is rare, Okonkwo said.") == (
        "Dr. [NAME] told me. Okonkwo syndrome is rare, [NAME] said."
    )


def test_what_is_found_again_ends_where_the_text_ends() -> None:
    url = "https://www.facebook.com/maria.example.77"
    first, other = scan([f"See {url}", f"{url}, https://www.linkedin.com/in/example-person-1a2b"])
    assert [(span.start, span.end) for span in first] == [(4, 4 + len(url))]
    assert len(other) == 2


def test_a_doctor_called_parkinson_hides_no_disease() -> None:
    text = "Mr. Parkinson has Parkinson disease and Mr. White a low white count; White cells fell."
    assert (
        mask(text) == "Mr. [NAME] has Parkinson disease and Mr. [NAME] a low white count; White cells fell."
    )


def test_odd_text_costs_nothing_but_time() -> None:
    for text in (
        "",
        "\x00",
        "\ud800 call (212) 555-0147",
        "İ" * 50 + " Dr. Ann Lee",
        "@" * 3000,
        "1 " * 3000,
        "A. " * 2000,
    ):
        for finding in find(text):
            assert text[finding.start : finding.end].strip()
    assert found("İİİ Dr. Ann Lee") == [("NAME", "Ann Lee")]


@pytest.mark.parametrize(
    "piece",
    [
        "1 ",
        "1-",
        "a@",
        "(",
        "Dr. ",
        "Dr. Smith ",
        "MD ",
        "a.",
        "12/",
        ":1",
        "Ann ",
        "My name is ",
        "http://a/~b ",
        " at b dot c",
        "+1",
        "A1 ",
    ],
)
def test_time_grows_with_length(piece: str) -> None:
    import time

    def seconds(count: int) -> float:
        text = piece * count
        start = time.process_time()
        find(text)
        return time.process_time() - start

    seconds(10)
    assert seconds(20_000 // len(piece)) < 2


@pytest.mark.parametrize("form", ["Dr. Ba{} ", "ba{}@example.org ", "my name is Ba{}, "])
def test_thousands_of_findings_in_one_row(form: str) -> None:
    import time

    pairs = itertools.islice(itertools.product("aeioubcdfglmnprst", repeat=3), 4_000)
    text = "".join(form.format("".join(letters)) for letters in pairs)
    start = time.process_time()
    assert len(find(text)) > 3_500
    assert time.process_time() - start < 4


def test_findings_are_in_order_and_apart() -> None:
    for sentence in ev.labelled():
        spans = find(sentence.text, "input")
        assert all(f.field == "input" for f in spans)
        assert all(a.end <= b.start for a, b in zip(spans, spans[1:], strict=False))


def test_same_findings_whatever_the_hash_seed() -> None:
    script = (
        "import json; from meadow.filters.privacy import find, evaluation as e; "
        "print(json.dumps([find(s.text) for s in e.labelled()]))"
    )
    outs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outs) == 1


def test_mask_covers_all_text_of_a_row() -> None:
    seen = Seen()
    row = PrivacyFilter("mask")(EXAMPLE, seen)
    assert row == replace(
        EXAMPLE,
        input="My name is [NAME], DOB [DATE]. Write to [EMAIL].",
        output="Dear [NAME], at your age (born [DATE]) a scan helps.",
        extra={"title": "A question of [NAME]", "tags": ["scan", "ask [EMAIL]"], "score": 3},
    )
    assert row.authors == EXAMPLE.authors
    assert row.source_url == EXAMPLE.source_url
    assert seen.findings == [
        Finding("NAME", "input", 11, 22),
        Finding("DATE", "input", 28, 38),
        Finding("EMAIL", "input", 49, 68),
        Finding("NAME", "output", 5, 10),
        Finding("DATE", "output", 30, 40),
        Finding("NAME", "extra.title", 14, 25),
        Finding("EMAIL", "extra.tags[1]", 4, 23),
    ]
    assert dict(seen.notes) == {("privacy", "NAME"): 1, ("privacy", "DATE"): 1, ("privacy", "EMAIL"): 1}


def test_flag_reports_and_changes_nothing() -> None:
    seen, masked = Seen(), Seen()
    assert PrivacyFilter("flag")(EXAMPLE, seen) is EXAMPLE
    PrivacyFilter("mask")(EXAMPLE, masked)
    assert seen == masked
    assert len(seen.findings) == 7


def test_drop_leaves_the_row_out_and_hides_what_it_held() -> None:
    seen = Seen()
    rejected = PrivacyFilter("drop")(replace(EXAMPLE, configs=("toy",)), seen)
    assert rejected == Rejected(
        "identifies a person",
        "toy/1",
        "found DATE, EMAIL, NAME",
        "Build with --privacy flag to keep the row as it was written, or repair it in the raw file.",
        "My name is [NAME], DOB [DATE]. Write to [EMAIL].",
        configs=("toy",),
    )
    assert len(seen.findings) == 7


@pytest.mark.parametrize("policy", POLICIES)
def test_clean_row_is_returned_as_it_is(policy: str) -> None:
    seen = Seen()
    row = replace(
        EXAMPLE,
        input="Is Crohn disease painful?",
        output="It can be: 120/80, 5 mg.",
        extra={"title": "Crohn"},
    )
    assert PrivacyFilter(policy)(row, seen) is row
    assert seen == Seen()


def test_unknown_policy() -> None:
    with pytest.raises(ValueError, match="privacy 'hide': it is one of mask, drop, flag"):
        PrivacyFilter("hide")


def test_answer_stays_the_text_of_its_option() -> None:
    row = replace(
        EXAMPLE,
        input="Who should be asked?",
        output="Dr. Ann Lee",
        options=(Option("A", "Dr. Ann Lee"), Option("B", "Nobody")),
        answer_key="A",
        extra={},
    )
    masked = PrivacyFilter("mask")(row, Seen())
    assert masked.options == (Option("A", "Dr. [NAME]"), Option("B", "Nobody"))
    assert masked.output == masked.options[0].text


def test_options_that_masking_makes_alike() -> None:
    row = replace(EXAMPLE, options=(Option("A", "Dr. Ann Lee"), Option("B", "Dr. Tom Reed")), answer_key="A")
    rejected = PrivacyFilter("mask")(row, Seen())
    assert isinstance(rejected, Rejected)
    assert rejected.reason == "options alike once masked"
    assert "Ann" not in str(rejected)


def test_answer_of_which_nothing_is_left() -> None:
    rejected = PrivacyFilter("mask")(replace(EXAMPLE, output="p.raman@example.org!"), Seen())
    assert (rejected.reason, rejected.detail) == ("nothing left once masked", "output was [EMAIL]!")


def test_sources_of_published_text_are_flagged_others_masked() -> None:
    assert WikiDoc.privacy == "flag"
    assert StackExchange.privacy == Builder.privacy == "mask"


def test_hipaa_identifiers_are_all_accounted_for() -> None:
    assert [name[0] for name in ev.hipaa()] == list("ABCDEFGHIJKLMNOPQR")
    assert {name for names, _ in ev.hipaa().values() for name in names} == set(TYPES)
    assert all(names or why for names, why in ev.hipaa().values())


def test_limits_say_what_cannot_be_found() -> None:
    for words in ("no anonymization", "name that nothing introduces", "pictures", "attribution", "English"):
        assert words in LIMITS


def _file(folder: Path) -> Path:
    rows = [
        {
            "id": "a",
            "input": "I'm Daniel Osei, 52.",
            "output": "Hello Daniel.",
            "options": [{"key": "A", "text": "Ask Daniel Osei"}],
        },
        {"id": "b", "input": "What is Bell's palsy?", "output": "A palsy.", "options": []},
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_screen_of_a_file(tmp_path: Path) -> None:
    masked = tmp_path / "masked.jsonl"
    said = screening.run(str(_file(tmp_path)), Store(tmp_path / "out"), (), masked, 2)
    assert "2 rows screened, 3 findings in 1 rows" in said
    assert "a input: I'm [NAME: Daniel Osei], 52." in said
    first, second = map(json.loads, masked.read_text(encoding="utf-8").splitlines())
    assert first == {
        "id": "a",
        "input": "I'm [NAME], 52.",
        "output": "Hello [NAME].",
        "options": [{"key": "A", "text": "Ask [NAME]"}],
    }
    assert second["input"] == "What is Bell's palsy?"


def test_screen_of_some_fields(tmp_path: Path) -> None:
    path = str(_file(tmp_path))
    assert "1 findings in 1 rows" in screening.run(path, Store(tmp_path), ("output",), None, 5)
    with pytest.raises(ValueError, match="no row has a column answer"):
        screening.run(path, Store(tmp_path), ("answer",), None, 5)
    with pytest.raises(ValueError, match="no dataset in .* and no file has this name"):
        screening.run("nothing", Store(tmp_path), (), None, 5)


def test_command(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "meadow", "privacy", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )

    assert "held-out: " in run("--evaluate").stdout
    done = run(str(_file(tmp_path)))
    assert (done.returncode, "3 findings in 1 rows" in done.stdout) == (0, True)
    assert run().returncode == 2
    assert run("nothing").returncode == 2


def test_masked_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    rows = [{"id": "1", "text": "Mail ann@example.org"}, {"id": "2", "text": "fine"}]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    # Even over the file that is read.
    assert "2 rows screened, 1 findings" in screening.run(str(file), Store(tmp_path), (), file, 0)
    masked = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert masked == [{"id": "1", "text": "Mail [EMAIL]"}, {"id": "2", "text": "fine"}]
    broken, out = tmp_path / "broken.jsonl", tmp_path / "out.jsonl"
    broken.write_text('{"text": "fine"}\n{"text": ', encoding="utf-8")
    with pytest.raises(ValueError, match="line 2"):
        screening.run(str(broken), Store(tmp_path), (), out, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.jsonl", "rows.jsonl"]


def test_real_dialogues_and_articles(real: Path) -> None:
    texts = [
        text
        for row in json.loads((real / "chatdoctor" / "chatdoctor5k.json").read_text(encoding="utf-8"))
        for text in (row["input"], row["output"])
    ]
    assert sum(map(bool, map(find, texts))) <= 5  # machine-written: nobody is in them
    pages = json.loads((real / "wikidoc" / "medical_meadow_small.json").read_text(encoding="utf-8"))
    hit = [row for row in pages if find(row["output"])]
    assert len(hit) <= 10
    # Two pages on the site's own people hold addresses.
    assert sum("EMAIL" in types(row["output"]) for row in hit) >= 2
