"""The report: what it says of a store, that nothing in it can act or call out, and how it fits a screen."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from meadow.api import build_datasets
from meadow.core.store import Store, StoreError
from meadow.describe.report import PAGE, write_report
from meadow.describe.report.gather import gather, raw_files
from tests import manifests
from tests.cli.test_cli import SCRIPT, run
from tests.stores import put, row

HOSTILE = "</script></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;\u202e\x00\x1b[2J"
CHROMIUM = os.environ.get("MEADOW_TEST_CHROMIUM") or shutil.which("chromium")
#: Elements that have no end.
VOID = frozenset(("meta",))


class Page(HTMLParser):
    """A page taken apart; complains of what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in <{tag}>"
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def fill(out: Path) -> None:
    """A store with all that a report can show."""
    long = "A paragraph about the ward, its beds and its windows. " * 150
    put(
        out,
        {
            "train": [
                row(
                    k,
                    source_url=f"https://{'abc'[k % 3]}.example/{k}",
                    output=long if k == 3 else f"It is {k}.",
                )
                for k in range(40)
            ],
            "validation": [row(f"v{k}", license="LicenseRef-disputed") for k in range(5)],
        },
        group=7,
    )
    dropped = {
        **{"score below 5": 40, "only a link": 3, "another language": 5, "licence not allowed": 2},
        **{"holds an exam item": 2, "near duplicate": 4, "exact duplicate": 2},
    }
    losses = {
        "source": ["score below 5"],
        "quality": ["only a link"],
        "language": ["another language"],
        "license": ["licence not allowed"],
        "privacy": [],
        "contamination": ["holds an exam item"],
        "duplicates": ["near duplicate", "exact duplicate"],
    }
    read, stages = 44 + sum(dropped.values()), []
    left = read
    for stage, reasons in losses.items():
        here = {reason: dropped[reason] for reason in reasons}
        stages.append({"stage": stage, "read": left, "kept": left - sum(here.values()), "dropped": here})
        left -= sum(here.values())
    manifest = put(
        out,
        {
            "train": [
                row(k, source_url=f"https://{'abc'[k % 3]}.example/{k}", output=long if k == 3 else f"It is {k} now.")
                for k in range(1, 40)
            ]
            + [row("v0", license="LicenseRef-disputed")],
            "validation": [row(f"v{k}", license="LicenseRef-disputed") for k in range(1, 5)],
        },
        version="1.1.0",
        release_notes={"1.0.0": "First version.", "1.1.0": "Answers say when."},
        funnel={"read": read, "kept": 44, "dropped": dropped, "stages": stages},
        filters={
            **{"languages": ["en"], "quality": "drop", "privacy": "mask", "contamination": "drop"},
            **{"duplicates": "drop", "against": ["mmlu.jsonl"], "policy": None},
        },
        notes={"language": {"en": 41, "too short to judge": 3}, "quality": {"encoding repaired": 2}},
        privacy={"policy": "mask", "rows": 3, "findings": {"EMAIL": 2, "PHONE": 1, "NAME": 3}},
        contamination={
            "policy": "drop",
            "exams": [
                {"exam": "usmle_self_assessment", "version": "1.0.0", "split": "step1", "sample": True, "items": 13, "unjudged": 0, "items_hit": 1, "rows_hit": 2, "rows_dropped": 2, "sha256": "d4" * 32},
                {"exam": "mmlu.jsonl", "version": "", "split": "", "sample": False, "items": 272, "unjudged": 0, "items_hit": 0, "rows_hit": 0, "rows_dropped": 0, "sha256": "e5" * 32},
            ],
            "unchecked": ["medqa: it is not built in this folder"],
        },
        duplicates={
            "policy": "drop", "fields": ["input", "output"], "threshold": 0.8, "exact": 2, "near": 4,
            "clusters": 3, "compared_with": ["wikidoc"],
        },
        license_verdict={
            **manifests.as_json()["license_verdict"],
            "rows": 44,
            "commercial": {"answer": "unsettled", "because": ["LicenseRef-disputed is not settled (5 rows)."]},
            "attribution": {"answer": "owed", "because": ["CC-BY-SA-4.0 asks for it."]},
        },
        beside={
            "rejected": [
                {"id": f"ward/r{n}", "reason": reason, "excerpt": f"The text of r{n}.", "source": "ward", "file": "ward/notes.jsonl", "detail": "as the detail says", "remedy": ""}
                for n, reason in enumerate(reason for reason, times in dropped.items() for _ in range(times))
            ],
            "duplicates": [
                {"cluster": 1, "id": "ward/5", "kept": True, "similarity": 1.0},
                *({"cluster": 1, "id": f"ward/r{n}", "kept": False, "similarity": 0.9} for n in (52, 53)),
                {"cluster": 2, "id": "ward/6", "kept": True, "similarity": 1.0},
                {"cluster": 2, "id": "ward/r54", "kept": False, "similarity": 0.8125},
                {"cluster": 3, "id": "wikidoc/x", "kept": True, "similarity": 1.0},
                {"cluster": 3, "id": "ward/r56", "kept": False, "similarity": 1.0},
            ],
            "contamination": [
                {"exam": "usmle_self_assessment", "item": "usmle/step1/3", "id": "ward/r50", "split": "train", "kind": "verbatim", "share": 0.97, "field": "input", "overlap": "a 34 year old woman comes to the ward because of a cough", "dropped": True},
                {"exam": "usmle_self_assessment", "item": "usmle/step1/3", "id": "ward/r51", "split": "train", "kind": "paraphrase", "share": 0.61, "field": "input", "overlap": "34 year old", "dropped": True},
            ],
            "privacy": [{"id": "ward/7", "type": "EMAIL", "field": "input", "start": 4, "end": 9}],
        },
    )  # fmt: skip
    assert left == manifest["funnel"]["kept"]
    exam = [
        row(k, id=f"exam/{k}", options=[{"key": "A", "text": "Rest"}, {"key": "B", "text": "Exercise"}],
            answer_key="B", output="B: Exercise", source_url=None, authors=[], task="multiple-choice")
        for k in range(6)
    ]  # fmt: skip
    put(out, {"test": exam}, name="exam", test_only=True, sample=True, homepage="", raw=[])
    put(out, {}, name="nothing", funnel={"read": 3, "kept": 0, "dropped": {"empty": 3}}, lengths={}, raw=[])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    fill(tmp_path / "out")
    return tmp_path / "out"


def read(out: Path, **options: Any) -> Page:
    path, size = write_report(Store(out), **options)
    data = path.read_bytes()
    assert len(data) == size
    return Page(data.decode())


def test_says_what_the_store_holds(out: Path) -> None:
    page = read(out)
    for words in (
        "Funnel: 102 rows read, 44 kept",
        "Source leaves out 40; Quality leaves out 3; Language leaves out 5; Licence leaves out 2; "
        "Contamination leaves out 2; Duplicates leaves out 6; 44 are kept.",
        "score below 5",
        "too short to judge 3 6.8 %",
        "a.example 13",
        "Filter against mmlu.jsonl",
        "LicenseRef-disputed",
        "Commercial use: unsettled. LicenseRef-disputed is not settled (5 rows).",
        "Near duplicates 4",
        "ward/r54 similarity 0.812",
        "The text of r54.",
        "its text is in another dataset",
        "What is 6?",
        "usmle_self_assessment 1.0.0 step1 sample 13 0 1 2 2",
        "CC-BY-SA-4.0, LicenseRef-disputed 2 6 3 4",
        "medqa: it is not built in this folder",
        "97.0 % input a 34 year old woman",
        "NAME 3",
        "Answers say when.",
        "From 1.0.0 to 1.1.0",
        "rows moved from validation to train: 1",
        "rows with another output: 38",
        "a1" * 32,
        "Checked against samples of exams only",
        "Unsettled licence: LicenseRef-disputed.",
        "An exam: for scoring models, never for training them.",
        "Built from the embedded sample",
        "right answer",
        "Licence CC-BY-SA-4.0",
    ):
        assert words in page.text, words


def test_the_same_bytes_again(out: Path, tmp_path: Path) -> None:
    first = write_report(Store(out))[0].read_bytes()
    code = "import sys; from meadow.describe.report import write_report; from meadow.core.store import Store; from pathlib import Path; write_report(Store(Path(sys.argv[1])), Path(sys.argv[2]))"
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(out, elsewhere)
    subprocess.run(
        [sys.executable, "-c", code, str(elsewhere), str(tmp_path / "page.html")],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
    )
    assert (tmp_path / "page.html").read_bytes() == first
    assert str(tmp_path).encode() not in first


def test_nothing_comes_from_elsewhere(out: Path) -> None:
    page = read(out)
    names = Counter(tag for tag, _ in page.tags)
    forbidden = {"link", "img", "iframe", "object", "embed", "base", "form", "audio", "video", "image", "use"}
    assert not forbidden & set(names)
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        assert not any(key.startswith("on") or key in ("style", "src", "srcset") for key in attributes), tag
        for key in ("aria-labelledby", "aria-describedby"):
            assert set((attributes.get(key) or "").split()) <= set(ids)
        target = attributes.get("href")
        if target is None:
            continue
        assert tag == "a"
        if target.startswith("#"):
            assert target[1:] in ids, target
        else:
            assert re.match(r"https?://[a-z]", target)
            assert attributes["rel"] == "noreferrer noopener"


def test_policy_admits_only_its_own_style_and_script(out: Path) -> None:
    path, _ = write_report(Store(out))
    text = path.read_text(encoding="utf-8")
    (policy,) = (m["content"] for m in Page(text).all("meta") if m.get("http-equiv"))
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy and "*" not in policy
    assert text.index("http-equiv") < text.index("<style>")
    for name in ("style", "script"):
        (body,) = re.findall(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
        assert "http" not in body and "@import" not in body and "url(" not in body


def test_headings_tables_and_pictures_are_named(out: Path) -> None:
    page = read(out)
    names = [tag for tag, _ in page.tags]
    assert names.count("h1") == 1
    assert names.count("table") == names.count("caption") > 10
    levels = [int(name[1]) for name in names if re.fullmatch("h[1-6]", name)]
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    for attributes in page.all("svg"):
        assert attributes.get("aria-hidden") == "true" or attributes.get("aria-labelledby")
    for attributes in page.all("th"):
        assert attributes["scope"] in ("row", "col")
    assert all(attributes.get("aria-label") for attributes in page.all("nav"))
    assert [attributes["lang"] for attributes in page.all("html")] == ["en"]


def test_hostile_text_is_only_shown(tmp_path: Path) -> None:
    evil = f"toy/{HOSTILE}"
    rows = [
        row(1, id=evil, input=HOSTILE * 60, output=HOSTILE, group=HOSTILE, license=HOSTILE, source_url="javascript:alert(1)",
            authors=[{"name": HOSTILE, "url": 'https://x.example/"onclick="alert(1)'}], options=[{"key": HOSTILE, "text": HOSTILE}]),
        row(2, source_url=f"https://x.example/{HOSTILE}", source_date=HOSTILE, generator=HOSTILE),
    ]  # fmt: skip
    for version in ("1.0.0", "1.0.1"):
        changed = [{**r, "answer_key": HOSTILE if version == "1.0.1" else None} for r in rows]
        put(
            tmp_path,
            {HOSTILE.replace("/", "").replace("\x00", ""): changed},
            name="bad<b>&'\"",
            version=version,
            description=HOSTILE,
            homepage="javascript:alert(1)",
            task=HOSTILE,
            parameters={HOSTILE: HOSTILE},
            languages=[HOSTILE],
            source=HOSTILE,
            citation=HOSTILE,
            raw=[{"path": HOSTILE, "bytes": 1, "sha256": HOSTILE}],
            release_notes={"1.0.0": HOSTILE, "1.0.1": HOSTILE},
            funnel={"read": 3, "kept": 2, "dropped": {HOSTILE: 1}, "stages": [{"stage": HOSTILE, "read": 3, "kept": 2, "dropped": {HOSTILE: 1}}]},
            notes={HOSTILE: {HOSTILE: 1}},
            privacy={"policy": "mask", "rows": 1, "findings": {HOSTILE: 1}},
            contamination={
                "policy": HOSTILE,
                "exams": [{**dict.fromkeys(("exam", "version", "split", "sha256"), HOSTILE), "sample": True, **dict.fromkeys(("items", "unjudged", "items_hit", "rows_hit", "rows_dropped"), 1)}],
                "unchecked": [HOSTILE],
            },
            duplicates={"policy": HOSTILE, "fields": [HOSTILE], "compared_with": [HOSTILE], "exact": 1, "near": 0},
            license_verdict={
                "rows": 2,
                **dict.fromkeys(
                    ("commercial", "redistribution", "adaptation", "attribution", "training"),
                    {"answer": HOSTILE, "because": [HOSTILE]},
                ),
            },
            generators={HOSTILE: 1},
            mixture={
                **dict.fromkeys(("name", "definition_sha256", "counts_from"), HOSTILE),
                "seed": 0, "complete": False, "exam_rows": {HOSTILE: 1}, "licensing": {},
                "parts": [{
                    **dict.fromkeys(("dataset", "version", "ids_sha256", "rows_sha256", "note"), HOSTILE),
                    "split": [HOSTILE], "wanted": 1, "available": 1, "taken": 1, "sample": False,
                    "contamination": {"policy": HOSTILE, "exams": [HOSTILE], "unchecked": [HOSTILE]},
                    "privacy": {"policy": HOSTILE}, "duplicates": {"policy": HOSTILE},
                }],
                "missing": [{"dataset": HOSTILE, "reason": HOSTILE}],
                "not_in_meadow": [{"name": HOSTILE, "published": None, "reason": HOSTILE}],
            },
            beside={
                "rejected": [{**dict.fromkeys(("id", "reason", "excerpt", "source", "file", "detail", "remedy"), HOSTILE)}],
                "duplicates": [{"cluster": 1, "id": HOSTILE, "kept": False, "similarity": 0.9}],
                "contamination": [{**dict.fromkeys(("exam", "item", "id", "split", "kind", "field", "overlap"), HOSTILE), "share": 0.5, "dropped": False}],
            },
        )  # fmt: skip
    page = read(tmp_path)
    assert len(page.all("script")) == 1 and not page.all("img")
    assert not [a for _, a in page.tags if "onerror" in a or "onclick" in a]
    assert not [a["href"] for a in page.all("a") if "javascript" in a["href"] or "alert" in a["href"]]
    assert "</script><img" not in (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "<script>alert(1)</script>" in page.text, "as words"
    written = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert not set("\x00\x1b\u202e") & set(written)
    assert html.escape(r"\u202e") in written


def test_random_rows(out: Path) -> None:
    first = gather(Store(out), rows=10).datasets
    ward = next(facts for facts in first if facts.manifest.name == "ward")
    ids = [shown.row["id"] for shown in ward.rows]
    assert len(set(ids)) == 10
    assert {shown.split for shown in ward.rows} <= {"train", "validation"}
    again = next(f for f in gather(Store(out), rows=20).datasets if f.manifest.name == "ward")
    assert [shown.row["id"] for shown in again.rows][:10] == ids, "more rows begin with the same"
    other = next(f for f in gather(Store(out), rows=10, seed=1).datasets if f.manifest.name == "ward")
    assert [shown.row["id"] for shown in other.rows] != ids
    # The version before has other rows, order and row groups; those of both are picked alike.
    shutil.rmtree(out / "ward" / "1.1.0")
    old = next(f for f in gather(Store(out), rows=10).datasets if f.manifest.name == "ward")
    assert len(set(ids) & {shown.row["id"] for shown in old.rows}) >= 9
    every = next(f for f in gather(Store(out), rows=1000).datasets if f.manifest.name == "ward")
    assert len({shown.row["id"] for shown in every.rows}) == 45
    assert next(f for f in gather(Store(out), rows=0).datasets if f.manifest.name == "ward").rows == []


def test_each_row_is_chosen_as_often_as_another(tmp_path: Path) -> None:
    put(tmp_path, {"train": [row(k) for k in range(20)]})
    times: Counter = Counter()
    for seed in range(200):
        (facts,) = gather(Store(tmp_path), rows=5, seed=seed).datasets
        times.update(shown.row["id"] for shown in facts.rows)
    # 50 are expected of each, with a standard deviation of 6.
    assert len(times) == 20 and min(times.values()) > 25 and max(times.values()) < 75


def test_long_texts_are_folded_and_pages_bounded(tmp_path: Path) -> None:
    put(tmp_path, {"train": [row(k, output="word " * 40_000) for k in range(120)]})
    path, size = write_report(Store(tmp_path), rows=100)
    page = Page(path.read_text(encoding="utf-8"))
    assert size < 600_000
    assert "195,000 more characters are in the file." in page.text
    assert len(page.all("article")) == 78
    assert "22 more were picked and are not shown" in page.text


def test_raw_file_of_a_row() -> None:
    raw = ["stackexchange/health.example/Posts.xml", "stackexchange/fitness.example/Posts.xml"]
    assert raw_files("stackexchange/health.example/a/9", raw) == (raw[0],)
    assert raw_files("stackexchange/other.example/a/9", raw) == ()
    steps = ["usmle/step1.json", "usmle/step1_solutions.json", "usmle/step2.json"]
    assert raw_files("usmle/step1/4", steps) == (steps[0],)
    assert raw_files("wikidoc/Gout/1", ["wikidoc/pages.jsonl"]) == ("wikidoc/pages.jsonl",)


def test_manifests_without_checks_and_damaged_files(out: Path) -> None:
    ward = out / "ward" / "1.1.0"
    manifest = json.loads((ward / "manifest.json").read_text(encoding="utf-8"))
    for key in ("filters", "notes", "privacy", "contamination", "duplicates"):
        del manifest[key]
    del manifest["funnel"]["stages"]
    (ward / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (ward / "duplicates.parquet").write_bytes(b"PAR1 no")
    (ward / "train-00000-of-00001.parquet").unlink()
    (out / "exam" / "1.0.0" / "manifest.json").write_text("{}", encoding="utf-8")
    page = read(out)
    for words in (
        "exam: the manifest of 1.0.0 cannot be read; build exam again",
        "duplicates.parquet cannot be read",
        "train-00000-of-00001.parquet",
        "Not searched for duplicates.",
        "Not screened for private details.",
        "Not checked against exams.",
        "Left out",
    ):
        assert words in page.text, words
    assert str(out) not in page.text


def test_nothing_built(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no dataset is built in"):
        write_report(Store(tmp_path))
    done = run(SCRIPT, "report", tmp_path)
    assert done.returncode == 1
    assert "run `python -m meadow.build all`" in done.stderr


def test_command(out: Path, tmp_path: Path) -> None:
    done = run(SCRIPT, "report", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{out / PAGE}: ")
    page = tmp_path / "other.html"
    done = run(SCRIPT, "report", "--file", page, "--rows", "1", "--seed", "3", MEADOW_OUT=str(out))
    assert done.returncode == 0
    assert "1 row picked by a hash of the id, seed 3" in Page(page.read_text(encoding="utf-8")).text
    done = run(SCRIPT, "report", out, "--file", tmp_path / "no" / "where.html")
    assert done.returncode == 1
    assert "cannot write" in done.stderr and "Traceback" not in done.stderr


def test_built_samples(tmp_path: Path) -> None:
    built = build_datasets(["wikidoc", "usmle"], out=tmp_path / "out", sample=True)
    assert not built.failed
    page = read(tmp_path / "out", rows=5)
    for manifest in built.manifests:
        assert f"Rows {manifest.rows:,} Read {manifest.funnel.read:,}" in page.text
    # The page lies in the folder that `datasets` reads, and does not disturb it.
    code = (
        "import sys, datasets; d = datasets.load_dataset(sys.argv[1], 'wikidoc');"
        "print(sum(s.num_rows for s in d.values()), datasets.get_dataset_config_names(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True, timeout=120
    )
    wikidoc = next(m for m in built.manifests if m.name == "wikidoc")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == str(wikidoc.rows)
    assert "report" not in done.stdout


def _contrast(one: str, other: str) -> float:
    """The contrast of two colours (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast() -> None:
    css = (Path(sys.modules["meadow.describe.report"].__file__).parent / "page.css").read_text(
        encoding="utf-8"
    )
    themes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r"\{[^{}]*--ground: [^{}]*\}", css)
    ]
    assert len(themes) == 3 and themes[1] == themes[2], "dark by the system and by the button"
    for theme in themes:
        for ground in ("ground", "card", "quiet"):
            for ink in ("ink", "muted", "link", "good", "bad"):
                assert _contrast(theme[ink], theme[ground]) >= 4.5, (ink, ground)
        assert _contrast(theme["warn"], theme["warn-ground"]) >= 4.5
        assert _contrast(theme["card"], theme["accent"]) >= 4.5
        for mark in ("on", "lost", "kept"):  # graphics
            assert _contrast(theme[mark], theme["card"]) >= 3, mark


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (set MEADOW_TEST_CHROMIUM to its path)")
def test_fits_a_phone_and_a_desk(out: Path, tmp_path: Path) -> None:
    """No view is wider than its window, none needs the script, and one view is shown at a time."""
    write_report(Store(out), tmp_path / "page.html")
    views = ["", "#overview", "#d-ward", "#d-ward-rows", "#d-ward-licences", "#d-exam", "#d-nothing"]
    frames = "".join(
        f'<iframe width="{width}" height="800" src="page.html{view}"></iframe>'
        for view in views
        for width in (390, 1280)
    )
    script = """
      addEventListener("load", () => {
        const found = [...document.querySelectorAll("iframe")].map((frame) => {
          const inner = frame.contentDocument, root = inner.documentElement;
          const shown = [...inner.querySelectorAll(".view")].filter((v) => v.offsetHeight > 0);
          return [+frame.width, root.scrollWidth, shown.map((v) => v.id)];
        });
        document.title = "done";
        document.body.innerHTML = "<pre>" + JSON.stringify(found) + "</pre>";
      });"""
    (tmp_path / "frames.html").write_text(f"<script>{script}</script>{frames}", encoding="utf-8")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync --virtual-time-budget=20000 --dump-dom"
        done = subprocess.run(
            [CHROMIUM, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", f"http://127.0.0.1:{server.server_port}/frames.html"],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        server.shutdown()
    measured = json.loads(html.unescape(re.search(r"<pre>(\[.*?)</pre>", done.stdout)[1]))
    expected = ["overview", "overview", "d-ward", "d-ward-rows", "d-ward", "d-exam", "d-nothing"]
    assert [shown for _, _, shown in measured] == [[view] for view in expected for _ in range(2)]
    for width, needed, shown in measured:
        assert needed <= width, f"{shown} needs {needed} of {width} pixels"
