"""Filters as a build applies them: funnels by stage, exams, duplicates across sources, masks, tables, cards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from meadow.api import build_datasets
from meadow.core.licenses.policy import Policy
from meadow.core.options import BuildOptions
from meadow.filters import STAGES
from meadow.pipeline import publish
from meadow.pipeline.report import Report
from tests import toy
from tests.toy import Other, Toy, put, row

#: An exam item, two retellings of which stand in the training rows.
VIGNETTE = (
    "A 34-year-old potter comes to the clinic because of burning pain and tingling in the thumb, index and middle "
    "fingers of her right hand, which wake her at night and ease when she shakes the hand over the edge of the bed. "
    "Tapping over the palmar side of the wrist brings on the tingling. Which nerve is compressed in this woman?"
)
RETOLD = VIGNETTE.replace("34-year-old potter", "52-year-old cellist").replace(
    "thumb, index and", "thumb, ring and"
)
LONG = (
    "Iron deficiency is the commonest cause of anaemia in the world. Stores run down first, so that ferritin falls "
    "while haemoglobin is still normal; only later do red cells become small and pale. In men and in women after the "
    "menopause the search for a source of blood loss in the gut comes before tablets, because a tumour of the colon "
    "may bleed for months without any other sign and be curable only while it is small."
)


class Exam(Toy):
    """A source that is nothing but an exam."""

    name = "exam"
    configs = ("exam",)
    test_only = True
    official_splits = ("step1",)
    split_shares = {"step1": 1.0}


class Leaflets(Other):
    """Articles: what is found in them is listed and left as it is; it gives way to other sources."""

    name = "leaflets"
    configs = ("leaflets",)
    official_splits = ()
    privacy = "flag"
    priority = 90


BUILDERS = {"toy": Toy, "exam": Exam, "leaflets": Leaflets}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(publish, "draw", toy.no_plot)
    monkeypatch.setattr(Toy, "home", tmp_path / "home")
    put(tmp_path / "home", "sample/s.jsonl", *(row(f"s{n}", license="MIT") for n in range(3)))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    put(folder, "exam/a.jsonl", row("v1", question=VIGNETTE, answer="The median nerve", split="step1"))
    rows = [
        row(n, question=f"What is {word}?", answer=f"It is {word}.") for n, word in enumerate(("x", "y", "z"))
    ]
    put(folder, "toy/a.jsonl", *rows)
    return folder


@pytest.fixture
def build(tmp_path: Path, raw: Path) -> Callable[..., Report]:
    def run(*names: str, **kwargs: Any) -> Report:
        kwargs = {"raw": raw, "out": tmp_path / "out", "builders": BUILDERS, **kwargs}
        report = build_datasets(names or ("all",), **kwargs)
        assert not report.failed
        toy.whole(report.out)
        return report

    return run


def manifest(report: Report, name: str) -> dict[str, Any]:
    return json.loads(next(m for m in report.manifests if m.name == name).text())


def table(report: Report, name: str, kind: str) -> list[dict[str, Any]]:
    return pq.read_table(report.out / name / "1.0.0" / f"{kind}.parquet").to_pylist()


def texts(report: Report, name: str) -> dict[str, tuple[str, str]]:
    found = {}
    for path in sorted((report.out / name / "1.0.0").glob("t*-of-*.parquet")) + sorted(
        (report.out / name / "1.0.0").glob("validation-*.parquet")
    ):
        for each in pq.read_table(path).to_pylist():
            found[each["id"]] = (each["input"], each["output"])
    return found


def stage(report: Report, name: str, which: str) -> dict[str, int]:
    return next(s["dropped"] for s in manifest(report, name)["funnel"]["stages"] if s["stage"] == which)


class TestFunnel:
    def test_every_stage_has_its_line_and_they_add_up(self, raw: Path, build: Callable) -> None:
        put(
            raw, "toy/b.jsonl",
            row("low", score=1),
            row("link", answer="https://example.org/a"),
            row("de", question="Welche Ursachen hat eine Blutarmut bei älteren Menschen, und wie wird sie behandelt?",
                answer="Häufig fehlt Eisen, weil im Darm unbemerkt Blut verloren geht; danach sucht man zuerst."),
            row("mail", question="Whom can I ask about my results?", answer="Write to jane.doe@example.org today."),
            row("exam", question=VIGNETTE, answer="The median nerve"),
            row("one", question="What causes anaemia?", answer=LONG),
            row("two", question="What causes anaemia?", answer=LONG),
        )  # fmt: skip
        report = build(privacy="drop")
        found = {s["stage"]: s["dropped"] for s in manifest(report, "toy")["funnel"]["stages"]}
        assert list(found) == list(STAGES)
        assert found == {
            "source": {"score below 5": 1},
            "quality": {"answer is only a link": 1},
            "language": {"language not wanted": 1},
            "license": {},
            "privacy": {"identifies a person": 1},
            "contamination": {"holds an exam item": 1},
            "duplicates": {"exact duplicate": 1},
        }
        funnel = manifest(report, "toy")["funnel"]
        assert (funnel["read"], funnel["kept"]) == (10, 4)
        assert funnel["stages"][0]["read"] == 10
        assert all(
            a["kept"] == b["read"] for a, b in zip(funnel["stages"], funnel["stages"][1:], strict=False)
        )
        assert funnel["stages"][-1]["kept"] == 4
        rejected = {r["id"]: r for r in table(report, "toy", "rejected")}
        assert sorted(rejected) == sorted(f"toy/{k}" for k in ("low", "link", "de", "mail", "exam", "two"))
        assert "jane.doe@example.org" not in json.dumps(list(rejected.values()))
        assert "toy/one" in rejected["toy/two"]["detail"]
        card = (report.out / "toy" / "1.0.0" / "README.md").read_text()
        for words in ("### Stages of the build", "| contamination |", "### Screen for personal data"):
            assert words in card

    def test_off_means_off_and_the_card_says_so(self, raw: Path, build: Callable) -> None:
        put(
            raw,
            "toy/b.jsonl",
            row("exam", question=VIGNETTE, answer="x"),
            row("link", answer="https://example.org/a"),
        )
        off = {
            "quality": "off",
            "privacy": "off",
            "contamination": "off",
            "duplicates": "off",
            "languages": (),
        }
        report = build(**off)
        assert manifest(report, "toy")["funnel"]["kept"] == 5
        assert manifest(report, "toy")["filters"] == {**off, "languages": [], "against": [], "policy": None}
        card = (report.out / "toy" / "1.0.0" / "README.md").read_text()
        assert card.count("**Not checked**") == 1
        assert "**Not screened**" in card
        assert "**Not looked for**" in card

    @pytest.mark.parametrize("name", ["quality", "privacy", "contamination", "duplicates"])
    def test_a_wrong_setting_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"{name} 'maybe': it is one of"):
            BuildOptions(**{name: "maybe"})

    def test_the_same_bytes_for_any_number_of_workers(
        self, raw: Path, build: Callable, tmp_path: Path
    ) -> None:
        lines = [
            row(f"n{n}", question=f"What about {n}, and why?", answer=f"{LONG} {n % 7}") for n in range(60)
        ]
        lines.append(row("exam", question=RETOLD, answer="It is the median nerve."))
        put(raw, "toy/b.jsonl", *lines)
        put(raw, "leaflets/a.jsonl", *lines, row("own", answer="A row that stands nowhere else."))
        found = []
        for number, more in enumerate(({}, {"workers": 2}, {"parameters": {"toy": {"shards": 5}}})):
            report = build(out=tmp_path / f"out{number}", **more)
            every = {p.relative_to(report.out): p.read_bytes() for p in report.out.rglob("*.parquet")}
            found.append(every)
        assert found[0] == found[1]
        assert {p: d for p, d in found[0].items() if "leaflets" in str(p)} == {
            p: d for p, d in found[2].items() if "leaflets" in str(p)
        }


class TestContamination:
    def test_verbatim_and_retold_items_are_found_on_both_sides(self, raw: Path, build: Callable) -> None:
        put(
            raw, "toy/b.jsonl",
            row("question", question=VIGNETTE, answer="The median nerve"),
            row("retold", question=RETOLD, answer="The median nerve"),
            row("answer", question="Give me an exam question about the hand.", answer=f"Here is one: {VIGNETTE}"),
            row("other", question="Which nerve is compressed in carpal tunnel syndrome?", answer="The median nerve"),
        )  # fmt: skip
        report = build()
        assert stage(report, "toy", "contamination") == {"holds an exam item": 3}
        assert "toy/other" in texts(report, "toy")
        hits = table(report, "toy", "contamination")
        assert [
            (h["id"], h["exam"], h["item"], h["dropped"]) for h in sorted(hits, key=lambda h: h["id"])
        ] == [(f"toy/{key}", "exam", "exam/v1", True) for key in ("answer", "question", "retold")]
        assert next(h for h in hits if h["id"] == "toy/answer")["field"] == "output"
        (exam,) = [e for e in manifest(report, "toy")["contamination"]["exams"] if e["exam"] == "exam"]
        assert (exam["items"], exam["items_hit"], exam["rows_hit"], exam["rows_dropped"]) == (1, 1, 3, 3)
        assert manifest(report, "exam")["contamination"] is None
        assert (
            "other datasets are compared with it" in (report.out / "exam" / "1.0.0" / "README.md").read_text()
        )

    def test_flag_keeps_the_rows_and_lists_them(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/b.jsonl", row("q", question=VIGNETTE, answer="The median nerve"))
        report = build(contamination="flag")
        assert "toy/q" in texts(report, "toy")
        assert [h["dropped"] for h in table(report, "toy", "contamination")] == [False]
        assert "**are still in the dataset**" in (report.out / "toy" / "1.0.0" / "README.md").read_text()

    def test_an_exam_that_is_not_built_now_is_read_all_the_same(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/b.jsonl", row("q", question=VIGNETTE, answer="The median nerve"))
        report = build("toy")
        assert [m.name for m in report.manifests] == ["toy", "toy_hard"]
        assert stage(report, "toy", "contamination") == {"holds an exam item": 1}

    @pytest.mark.parametrize("names", [(), ("toy",)])
    @pytest.mark.parametrize("settings", [{"policy": Policy(deny=("LicenseRef-*",))}, {"privacy": "drop"}])
    def test_an_exam_is_whole_whatever_is_asked_of_rows(
        self, raw: Path, build: Callable, names: tuple[str, ...], settings: dict[str, Any]
    ) -> None:
        asked = f"{VIGNETTE} Write to jane.roe@example.org."
        put(
            raw, "exam/a.jsonl",
            row("v1", question=asked, answer="The median nerve", split="step1", license="LicenseRef-toy"),
            row("v2", question=LONG, answer="Iron", split="step1"),
        )  # fmt: skip
        put(raw, "toy/b.jsonl", row("q", question=VIGNETTE, answer="The median nerve"))
        report = build(*names, **settings)
        assert stage(report, "toy", "contamination") == {"holds an exam item": 1}
        (exam,) = [e for e in manifest(report, "toy")["contamination"]["exams"] if e["exam"] == "exam"]
        assert exam["items"] == 2

    def test_and_without_raw_files_as_it_was_built_before(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/b.jsonl", row("q", question=VIGNETTE, answer="The median nerve"))
        first = build()
        (raw / "exam" / "a.jsonl").unlink()
        again = build("toy")
        for key in ("contamination", "rows_sha256", "funnel"):
            assert manifest(again, "toy")[key] == manifest(first, "toy")[key]

    def test_real_rows_are_not_checked_against_a_sample_in_silence(self, raw: Path, build: Callable) -> None:
        (raw / "exam" / "a.jsonl").unlink()
        report = build("toy")
        assert manifest(report, "toy")["contamination"]["unchecked"] == [
            "toy: its raw files hold no test split",
            "exam: there are no raw files of it, and it was not built before",
        ]
        assert "**Not checked against:**" in (report.out / "toy" / "1.0.0" / "README.md").read_text()

    def test_a_file_of_the_user_s(self, raw: Path, build: Callable, tmp_path: Path) -> None:
        mine = tmp_path / "mine.jsonl"
        question = (
            "Which vitamin must a man on isoniazid for tuberculosis be given so that the numbness and burning of "
            "his feet, which began in the third month of treatment, does not progress to lasting weakness?"
        )
        mine.write_text(json.dumps({"question": question, "answer": "Pyridoxine"}) + "\n")
        put(raw, "toy/b.jsonl", row("q", question=question, answer="Pyridoxine"))
        report = build(against=(mine,))
        assert stage(report, "toy", "contamination") == {"holds an exam item": 1}
        (exam,) = [
            e for e in manifest(report, "toy")["contamination"]["exams"] if e["exam"].startswith("mine")
        ]
        assert (exam["items"], exam["items_hit"]) == (1, 1)
        assert manifest(report, "toy")["filters"]["against"] == ["mine.jsonl"]
        assert str(tmp_path) not in json.dumps(manifest(report, "toy"))


class TestDuplicates:
    def test_across_sources_the_one_of_higher_priority_stays(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/b.jsonl", row("b", question="What causes anaemia?", answer=LONG))
        edited = LONG.replace("commonest", "usual")
        put(
            raw,
            "leaflets/a.jsonl",
            row("a", question="What causes anaemia?", answer=edited),
            row("b", answer="Rest."),
        )
        report = build()
        assert list(texts(report, "leaflets")) == ["leaflets/b"]
        assert stage(report, "leaflets", "duplicates") == {"near duplicate": 1}
        assert stage(report, "toy", "duplicates") == {}
        clusters = table(report, "leaflets", "duplicates")
        assert [(c["cluster"], c["id"], c["kept"]) for c in clusters] == [
            ("toy/b", "toy/b", True), ("toy/b", "leaflets/a", False)
        ]  # fmt: skip
        assert clusters[0]["similarity"] == 1
        assert 0.8 <= clusters[1]["similarity"] < 1
        found = manifest(report, "leaflets")["duplicates"]
        assert (found["near"], found["exact"], found["clusters"]) == (1, 0, 1)
        assert found["compared_with"] == ["toy", "toy_hard"]

    def test_a_source_that_only_repeats_another_is_noted_and_has_not_failed(
        self, raw: Path, build: Callable
    ) -> None:
        line = row("a", question="What causes anaemia?", answer=LONG)
        put(raw, "toy/b.jsonl", line)
        put(raw, "leaflets/a.jsonl", line, row("low", score=1))
        report = build()  # which asserts that no source failed
        assert "leaflets" not in {m.name for m in report.manifests}
        assert report.notes == [
            "leaflets: each of its usable rows duplicates one that another dataset keeps, so nothing was "
            "published: exact duplicate 1; score below 5 1. To publish them all the same, build it alone or "
            "with duplicates set to flag"
        ]
        (one, other) = table(report, "toy", "duplicates")
        assert [(c["id"], c["kept"]) for c in (one, other)] == [("toy/a", True), ("leaflets/a", False)]
        assert list(texts(build("leaflets"), "leaflets")) == ["leaflets/a"]

    def test_exams_stay_as_they_were_published(self, raw: Path, build: Callable) -> None:
        put(raw, "exam/b.jsonl", row("v2", question=VIGNETTE, answer="The median nerve", split="step1"))
        report = build()
        assert manifest(report, "exam")["funnel"]["kept"] == 2
        assert manifest(report, "exam")["duplicates"] is None

    def test_flag_lists_and_keeps(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/b.jsonl", row("a", answer=LONG), row("b", answer=LONG, question="What is a?"))
        report = build(duplicates="flag")
        assert {"toy/a", "toy/b"} <= set(texts(report, "toy"))
        assert len(table(report, "toy", "duplicates")) == 2


class TestPrivacy:
    def test_masked_where_people_write_and_flagged_in_articles(self, raw: Path, build: Callable) -> None:
        line = row("m", question="Whom can I ask?", answer="Write to jane.doe@example.org about the results.")
        put(raw, "toy/b.jsonl", line)
        put(raw, "leaflets/a.jsonl", line | {"question": "Whom shall I write to when the leaflet is wrong?"})
        report = build()
        assert texts(report, "toy")["toy/m"][1] == "Write to [EMAIL] about the results."
        assert texts(report, "leaflets")["leaflets/m"][1] == line["answer"]
        assert manifest(report, "toy")["privacy"] == {"policy": "mask", "rows": 1, "findings": {"EMAIL": 1}}
        assert manifest(report, "leaflets")["privacy"] == {
            "policy": "flag",
            "rows": 1,
            "findings": {"EMAIL": 1},
        }
        (found,) = table(report, "toy", "privacy")
        assert found == {"id": "toy/m", "type": "EMAIL", "field": "output", "start": 9, "end": 29}
        assert "jane.doe" not in (report.out / "toy" / "1.0.0" / "README.md").read_text()

    def test_what_is_left_out_does_not_leak_it(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/b.jsonl", row("m", question="I am at jane.doe@example.org, call me", answer=""))
        report = build()
        (rejected,) = table(report, "toy", "rejected")
        assert rejected["reason"] == "empty output"
        assert rejected["excerpt"] == "I am at [EMAIL], call me"


class TestLicences:
    def test_a_policy_leaves_rows_out(self, raw: Path, build: Callable) -> None:
        put(raw, "toy/b.jsonl", row("sa", license="CC-BY-SA-4.0"))
        policy = Policy(allow=("MIT",))
        report = build("toy", policy=policy)
        assert sum(stage(report, "toy", "license").values()) == 1
        assert manifest(report, "toy")["licenses"] == {"MIT": 3}
        assert manifest(report, "toy")["filters"]["policy"] == policy.described()

    def test_credit_is_given_row_by_row(self, raw: Path, build: Callable) -> None:
        put(
            raw,
            "toy/b.jsonl",
            row("sa", license="CC-BY-SA-4.0", authors=["Ada"], source_url="https://example.org/1"),
        )
        report = build("toy")
        credit = next(r for r in table(report, "toy", "ATTRIBUTION") if r["id"] == "toy/sa")
        assert credit["source_url"] == "https://example.org/1"
        assert "Ada" in credit["credit"] and "CC-BY-SA-4.0" in json.dumps(credit)
        assert manifest(report, "toy")["license_verdict"]
