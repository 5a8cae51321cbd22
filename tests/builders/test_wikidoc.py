"""The wikidoc source: raw formats, what becomes a question, what is left out and why."""

from __future__ import annotations

import bz2
import concurrent.futures
import gzip
import json
import os
import pickle
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from meadow.builders.wikidoc import builder as module
from meadow.builders.wikidoc.builder import WikiDoc
from meadow.builders.wikidoc.questions import patient_question, question, split_title
from meadow.core.builder import Shard
from meadow.core.rawfile import RawFileError
from meadow.core.rawstore import find
from meadow.core.row import Example, Rejected
from meadow.testing import BuilderTest

LONG = "A sentence that is long enough to be an answer of its own in this test."
PATIENT = "wikidoc_patient_information"


class TestWikiDocBuild(BuilderTest):
    builder = WikiDoc
    pins = {
        "1.0.0": {
            "wikidoc": "edbb38431f62e461382f779825f9315718fac9473e1652fe1d6538d6b1d30b92",
            "wikidoc_patient_information": "b24575a138189d95e3511bf1974b7dde2c711f3f1278b47d365cfaab6855a304",
        }
    }


def page(title: str, text: str, pageid: int | None = 7, revid: int | None = 70, **more: object) -> dict:
    return {"title": title, "pageid": pageid, "revid": revid, "text": text, **more}


def h2(text: str) -> str:
    return f'<h2><span class="mw-headline" id="x">{text}</span></h2>'


def store(root: Path, **files: bytes | str | list) -> Path:
    """A raw store with the given files; lists are written as JSON lines, `__` in names is a dot."""
    folder = root / "wikidoc"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if isinstance(content, list):
            content = "".join(json.dumps(record) + "\n" for record in content)
        data = content.encode() if isinstance(content, str) else content
        (folder / name.replace("__", ".")).write_bytes(data)
    return root


def records(root: Path | None) -> list[Example | Rejected]:
    builder = WikiDoc()
    found = []
    for shard in builder.shards(find(builder, root)):
        assert pickle.loads(pickle.dumps(shard)) == shard
        found += builder.examples(shard)
    return found


def rows(root: Path | None) -> list[Example]:
    return [record for record in records(root) if isinstance(record, Example)]


def reasons(root: Path | None) -> list[tuple[str, str]]:
    return [(record.reason, record.id) for record in records(root) if isinstance(record, Rejected)]


def export(*pages: str, head: str = "") -> str:
    return (
        f'{head}<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11">'
        "<siteinfo><sitename>wikidoc</sitename></siteinfo>\n" + "".join(pages) + "</mediawiki>\n"
    )


def exported(title: str, text: str, ns: int = 0, pageid: int = 7, more: str = "", revid: int = 70) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return (
        f"<page><title>{title}</title><ns>{ns}</ns><id>{pageid}</id>{more}<revision><id>{revid}</id>"
        "<timestamp>2019-05-01T10:00:00Z</timestamp><contributor><username>A</username><id>3</id></contributor>"
        f'<model>wikitext</model><format>text/x-wiki</format><text xml:space="preserve">{text}</text></revision></page>\n'
    )


# --- questions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "asked"),
    [
        ("", "What is Asthma?"),
        ("Overview", "What is Asthma?"),
        ("Historical Perspective", "What is the historical perspective on Asthma?"),
        ("Classification", "What is the classification of Asthma?"),
        ("Pathophysiology", "What is the pathophysiology of Asthma?"),
        ("Causes", "What are the causes of Asthma?"),
        ("Differentiating Asthma from other Diseases", "How is Asthma differentiated from other diseases?"),
        ("Differential Diagnosis", "What is the differential diagnosis of Asthma?"),
        ("Epidemiology and Demographics", "What is the epidemiology and demographics of Asthma?"),
        ("Risk Factors", "What are the risk factors for Asthma?"),
        ("Screening", "What is known about screening for Asthma?"),
        (
            "Natural History, Complications, and Prognosis",
            "What are the natural history, complications and prognosis of Asthma?",
        ),
        ("Diagnosis", "How is Asthma diagnosed?"),
        ("Diagnostic Study of Choice", "What is the diagnostic study of choice for Asthma?"),
        ("History and Symptoms", "What are the history and symptoms of Asthma?"),
        ("Physical Examination", "What are the physical examination findings in Asthma?"),
        ("Laboratory Findings", "What are the laboratory findings in Asthma?"),
        ("Electrocardiogram", "What are the electrocardiogram findings in Asthma?"),
        ("Chest X-ray", "What are the chest x-ray findings in Asthma?"),
        ("X Ray", "What are the x-ray findings in Asthma?"),
        ("CT", "What are the CT findings in Asthma?"),
        ("MRI", "What are the MRI findings in Asthma?"),
        (
            "Echocardiography or Ultrasound",
            "What are the echocardiography or ultrasound findings in Asthma?",
        ),
        ("Other Imaging Findings", "What are the other imaging findings in Asthma?"),
        ("Other Diagnostic Studies", "What other diagnostic studies are used in Asthma?"),
        ("Treatment", "How is Asthma treated?"),
        ("Medical Therapy", "What is the medical therapy for Asthma?"),
        ("Interventions", "What are the interventions for Asthma?"),
        ("Surgery", "What is the role of surgery in Asthma?"),
        ("Primary Prevention", "What are the measures for the primary prevention of Asthma?"),
        ("Secondary Prevention", "What are the measures for the secondary prevention of Asthma?"),
        ("Cost-Effectiveness of Therapy", "What is the cost-effectiveness of therapy for Asthma?"),
        (
            "Future or Investigational Therapies",
            "What are the future or investigational therapies for Asthma?",
        ),
        ("Case Studies", "What are some case studies of Asthma?"),
        ("Indications", "What are the indications for Asthma?"),
        ("Contraindications", "What are the contraindications to Asthma?"),
        ("Mechanism of Action", "What is the mechanism of action of Asthma?"),
        ("Dosage", "What is the dosage of Asthma?"),
        ("Adverse Effects", "What are the adverse effects of Asthma?"),
        ("Drug Interactions", "What are the drug interactions of Asthma?"),
        ("Genetics", "What is the role of genetics in Asthma?"),
        ("Staging", "How is Asthma staged?"),
        ("Microscopic Pathology", "What is the microscopic pathology of Asthma?"),
        ("Gross Pathology", "What is the gross pathology of Asthma?"),
        ("Prognosis", "What is the prognosis of Asthma?"),
        ("Complications", "What are the complications of Asthma?"),
        ("Signs & Symptoms", "What are the signs and symptoms of Asthma?"),
        ("2.1 Causes of asthma", "What are the causes of Asthma?"),
        ("Landmark Trials", "What is known about Landmark Trials in Asthma?"),
        ("Asthma in Pregnancy", "What is known about Asthma in Pregnancy?"),
        ("How common is asthma ?", "How common is asthma?"),
        ("Is it contagious?", "Asthma: Is it contagious?"),
    ],
)
def test_heading_becomes_an_english_question(heading: str, asked: str) -> None:
    assert question(heading, "Asthma") == asked


@pytest.mark.parametrize(
    ("heading", "asked"),
    [
        ("What are the symptoms of Asthma ?", "What are the symptoms of Asthma?"),
        ("What are the symptoms?", "What are the symptoms of Asthma?"),
        ("What are the symptoms of asthma??", "What are the symptoms of asthma?"),
        ("When to seek urgent medical care?", "When to seek urgent medical care when I have Asthma?"),
        (
            "When to seek urgent medical care when I have Asthma ?",
            "When to seek urgent medical care when I have Asthma?",
        ),
        ("What to expect (Outlook/Prognosis)?", "What to expect if I have Asthma (Outlook/Prognosis)?"),
        ("What to Expect (Outook/Prognosis)?", "What to expect if I have Asthma (Outlook/Prognosis)?"),
        ("What causes asthma?", "What causes asthma?"),
        ("What causes  ?", "What causes Asthma?"),
        ("Who is at highest risk?", "Who is at highest risk for Asthma?"),
        ("Who is at risk for wheezing?", "Who is at risk for wheezing?"),
        ("Diagnosis", "How is Asthma diagnosed?"),
        ("Treatment options", "What are the treatment options for Asthma?"),
        ("Where to find medical care for Asthma?", "Where to find medical care for Asthma?"),
        ("Prevention of Asthma", "How can Asthma be prevented?"),
        ("Possible Complications?", "What are the possible complications of Asthma?"),
        ("Medications to avoid", "Which medications should I avoid when I have Asthma?"),
        ("Home care", "What should I know about home care for Asthma?"),
        ("What do abnormal results mean?", "Asthma: What do abnormal results mean?"),
        ("Overview", "What is Asthma?"),
        ("", "What is Asthma?"),
    ],
)
def test_patient_heading_gets_the_disease_once(heading: str, asked: str) -> None:
    assert patient_question(heading, "Asthma") == asked


def test_published_wordings_are_kept(real_store: Callable[..., Path]) -> None:
    """The five wordings that make up most of the published set, from headings with and without the disease."""
    wordings = {
        "When to seek urgent medical care?": r"When to seek urgent medical care when I have (.+?) ?\?+",
        "What to expect (Outlook/Prognosis)?": r"What to expect if I have (.+?) \(Outlook/Prognosis\)\?",
        "Who is at highest risk?": r"Who is at highest risk for (.+?) ?\?",
        "What are the symptoms?": r"What are the symptoms of (.+?) ?\?",
        "What causes?": r"What causes (.+?) ?\?",
    }
    name = "wikidoc/medical_meadow_small.json"
    published = json.loads((real_store(name) / name).read_text("utf-8"))
    same = 0
    for asked in (" ".join(row["input"].split()) for row in published):
        for heading, wording in wordings.items():
            found = re.fullmatch(wording, asked)
            if found:
                expected = asked.replace(" ?", "?")
                assert patient_question(heading, found.group(1)) == expected
                assert patient_question(asked, found.group(1)) == expected
                same += 1
    assert same > 5200


@pytest.mark.parametrize(
    ("title", "topic", "chapter"),
    [
        ("Asthma", "Asthma", ""),
        ("Asthma overview", "Asthma", "overview"),
        ("Asthma epidemiology and demographics", "Asthma", "epidemiology and demographics"),
        (
            "Lung cancer natural history, complications and prognosis",
            "Lung cancer",
            "natural history complications and prognosis",
        ),
        ("Asthma chest x ray", "Asthma", "chest x ray"),
        (
            "Differentiating asthma from other diseases",
            "Asthma",
            "differentiating from other diseases",
        ),
        ("Bariatric surgery", "Bariatric surgery", ""),
        ("Differential diagnosis", "Differential diagnosis", ""),
        ("Overview", "Overview", ""),
    ],
)
def test_microchapter_titles(title: str, topic: str, chapter: str) -> None:
    assert split_title(title) == (topic, chapter)


def test_microchapter_pages_ask_about_their_topic(tmp_path: Path) -> None:
    body = f"{h2('Overview')}<p>{LONG}</p>{h2('Genetics')}<p>{LONG} b</p>{h2('Animal models')}<p>{LONG} c</p>"
    found = rows(store(tmp_path, p__jsonl=[page("Asthma pathophysiology", body)]))
    assert [row.input for row in found] == [
        "In brief, what is the pathophysiology of Asthma?",
        "What is the role of genetics in Asthma?",
        "What is known about Animal models in the pathophysiology of Asthma?",
    ]
    assert {row.group for row in found} == {"asthma"}
    assert {row.extra["page"] for row in found} == {"Asthma pathophysiology"}


def test_one_word_chapters_need_a_link_to_another_chapter(tmp_path: Path) -> None:
    body = f"{h2('Complications')}<p>{LONG}</p>"
    link = '<p><a href="/index.php/Asthma_overview" title="Asthma overview">x</a></p>'
    root = store(
        tmp_path, p__jsonl=[page("Bariatric surgery", body, 1), page("Asthma surgery", link + body, 2)]
    )
    assert [(row.input, row.group) for row in rows(root)] == [
        ("What are the complications of Bariatric surgery?", "bariatric surgery"),
        ("What are the complications of surgery for Asthma?", "asthma"),
    ]


# --- JSON lines -----------------------------------------------------------------------------------


def test_both_format_versions_with_and_without_wrapper(tmp_path: Path) -> None:
    html = f'<div class="mw-parser-output">{h2("Causes")}<p>{LONG}</p></div>'
    lines = [
        {"parse": page("A", {"*": html}, 1)},
        page("B", {"*": html}, 2),
        {"parse": page("C", html, 3)},
        page("D", html, 4),
    ]
    found = rows(store(tmp_path, p__jsonl=lines))
    assert [row.input for row in found] == [f"What are the causes of {name}?" for name in "ABCD"]
    assert [row.id for row in found] == [f"wikidoc/{number}/Causes" for number in (1, 2, 3, 4)]
    assert {row.output for row in found} == {LONG}


def test_row_says_where_it_comes_from(tmp_path: Path) -> None:
    title = "Crohn's_disease & more? (patient information)"
    (row,) = rows(store(tmp_path, p__jsonl=[page(title, f"{h2('Diagnosis')}<p>{LONG}</p>", 12, 345)]))
    address = "https://www.wikidoc.org/index.php?title=Crohn%27s_disease_%26_more%3F_(patient_information)"
    assert row.source_url == f"{address}&oldid=345"
    assert [(a.name, a.url) for a in row.authors] == [("WikiDoc contributors", f"{address}&action=history")]
    assert row.instruction == "Answer this question truthfully"
    assert row.input == "How is Crohn's disease & more? diagnosed?"
    assert row.configs == (PATIENT,)
    assert row.group == "crohn's disease & more?"
    assert row.extra == {
        "page": "Crohn's disease & more? (patient information)",
        "section": "Diagnosis",
        "revision": 345,
    }
    assert row.source_date is None
    assert WikiDoc.license.id == "CC-BY-SA-3.0"


def test_page_without_number_or_revision_goes_by_title(tmp_path: Path) -> None:
    record = {"title": "Lung abscess", "text": f"{h2('Causes')}<p>{LONG}</p>"}
    (row,) = rows(store(tmp_path, p__jsonl=[record]))
    assert row.id == "wikidoc/Lung_abscess/Causes"
    assert row.source_url == "https://www.wikidoc.org/index.php?title=Lung_abscess"
    assert row.extra["revision"] is None


def test_equal_headings_get_different_ids(tmp_path: Path) -> None:
    body = "".join(f"{h2(name)}<p>{LONG} {name}</p>" for name in ("Causes", "causes", "Causes", "?"))
    found = rows(store(tmp_path, p__jsonl=[page("A", body)]))
    assert [row.id.rsplit("/", 1)[1] for row in found] == ["Causes", "causes-2", "Causes-3", "section"]


def test_bad_lines_cost_themselves(tmp_path: Path) -> None:
    good = json.dumps(page("A", f"{h2('Causes')}<p>{LONG} \u00e9</p>"), ensure_ascii=False).encode()
    lines = [
        b"\xef\xbb\xbf" + good,
        b'{"title": "caf\xe9", "text": "x"}',
        b"not json",
        b"[1, 2]",
        b'{"pageid": 4, "text": "x"}',
        b'{"title": "No text", "pageid": 5}',
        b'{"error": {"code": "missingtitle"}}',
        b'{"title": "Null", "text": null}',
        b"",
        good.replace(b'"A"', b'"B"').replace(b": 7,", b": 8,"),
    ]
    found = records(store(tmp_path, p__jsonl=b"\r\n".join(lines) + b"\r\n"))
    assert [r.input for r in found if isinstance(r, Example)] == [
        "What are the causes of A?",
        "What are the causes of B?",
    ]
    bad = [r for r in found if isinstance(r, Rejected)]
    assert [r.reason for r in bad] == [
        "line that is no JSON",
        "line that is no JSON",
        "record without title",
        "record without title",
        "record without text",
        "record without title",
        "record without text",
    ]
    assert all(r.id.startswith("wikidoc/") and r.file == "wikidoc/p.jsonl" and r.remedy for r in bad)
    assert len({r.id for r in bad}) == len(bad)
    assert bad[4].id == "wikidoc/5"


def test_large_json_lines_are_cut_into_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [page(f"Page {n}", f"{h2('Causes')}<p>{LONG} {'x' * n}</p>", n) for n in range(1, 90)]
    root = store(tmp_path, p__jsonl=lines)
    whole = records(root)
    assert len(whole) == 89
    size = (root / "wikidoc" / "p.jsonl").stat().st_size
    for cut in (size - 1, 4096, 1000, 333):
        monkeypatch.setattr(module, "RANGE_BYTES", cut)
        shards = list(WikiDoc().shards(find(WikiDoc, root)))
        assert len(shards) == -(-size // cut)
        assert len({shard.key for shard in shards}) == len(shards)
        assert records(root) == whole


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_compressed_json_lines(tmp_path: Path, ending: str) -> None:
    data = json.dumps(page("A", f"{h2('Causes')}<p>{LONG}</p>")).encode() + b"\n"
    packed = gzip.compress(data) if ending == "gz" else zstandard.compress(data)
    assert [row.output for row in rows(store(tmp_path, **{f"p__jsonl__{ending}": packed}))] == [LONG]


# --- saved pages ----------------------------------------------------------------------------------


def saved(title: str, body: str, told: str = "", head: str = "", foot: str = "") -> str:
    variables = told or (
        f'"wgNamespaceNumber":0,"wgPageName":"{title}","wgCurRevisionId":91,"wgRevisionId":90,'
        '"wgArticleId":9,"wgIsRedirect":false'
    )
    return (
        f"<!DOCTYPE html>\n<html><head><title>{title}</title><script>RLCONF={{{variables}}};</script>{head}</head>"
        f'<body><h1 id="firstHeading" class="firstHeading"><span>{title}</span></h1><div id="mw-content-text">'
        f'<div class="mw-parser-output">{body}</div></div>{foot}</body></html>'
    )


def test_saved_page_tells_title_revision_and_number(tmp_path: Path) -> None:
    html = saved("Lung_abscess", f"{h2('Causes')}<p>{LONG}</p>").replace("\n", "\r\n")
    (row,) = rows(store(tmp_path, a__html=b"\xef\xbb\xbf" + html.encode()))
    assert row.id == "wikidoc/9/Causes"
    assert row.input == "What are the causes of Lung abscess?"
    assert row.source_url == "https://www.wikidoc.org/index.php?title=Lung_abscess&oldid=90"
    assert row.extra["revision"] == 90


def test_saved_page_without_variables_goes_by_its_heading_and_footer(tmp_path: Path) -> None:
    foot = '<div class="printfooter">"<a href="https://x/index.php?title=A&amp;oldid=55">x</a>"</div>'
    html = saved("Lung &amp; <i>airway</i>", f"{h2('Causes')}<p>{LONG}</p>", told='"a":1', foot=foot)
    (row,) = rows(store(tmp_path, a__html=html))
    assert (row.id, row.extra["page"]) == ("wikidoc/Lung_&_airway/Causes", "Lung & airway")
    assert row.extra["revision"] == 55


def test_footer_dates_the_newest_revision_only(tmp_path: Path) -> None:
    foot = '<li id="footer-info-lastmod"> This page was last edited on 7 August 2024, at 13:48.</li>'
    html = saved("A", f"{h2('Causes')}<p>{LONG}</p>", foot=foot)
    newest = html.replace('"wgRevisionId":90', '"wgRevisionId":91')
    assert [row.source_date for row in rows(store(tmp_path, a__html=html, b__html=newest))] == [
        None,
        "2024-08-07",
    ]


def test_saved_pages_are_grouped_and_a_bad_one_costs_itself(tmp_path: Path) -> None:
    body = f"{h2('Causes')}<p>{LONG}</p>"
    files = {
        f"p{n:03}__html": saved(f"P{n}", body).replace('"wgArticleId":9', f'"wgArticleId":{n + 1}')
        for n in range(70)
    }
    files["p010__html"] = saved("P10", body).encode() + b"\xe9"
    files["p011__html"] = "<html><body>some other page</body></html>"
    files["p012__html"] = saved("P12", body).replace("mw-", "my-")
    root = store(tmp_path, **files)
    shards = list(WikiDoc().shards(find(WikiDoc, root)))
    assert [len(shard.files) for shard in shards] == [64, 6]
    found = records(root)
    assert len([r for r in found if isinstance(r, Example)]) == 67
    assert [(r.reason, r.id, r.file) for r in found if isinstance(r, Rejected)] == [
        ("page is not UTF-8", "wikidoc/p010.html", "wikidoc/p010.html"),
        ("record without title", "wikidoc/p011.html", "wikidoc/p011.html"),
        ("record without text", "wikidoc/p012.html", "wikidoc/p012.html"),
    ]


def test_saved_page_under_another_licence_is_left_out(tmp_path: Path) -> None:
    body = f"{h2('Causes')}<p>{LONG}</p>"
    link = '<link rel="license" href="https://creativecommons.org/licenses/{}/"/>'
    root = store(
        tmp_path,
        a__html=saved("A", body, head=link.format("by-nc/4.0")),
        b__html=saved("B", body, head=link.format("by-sa/3.0")).replace(":9,", ":8,"),
    )
    assert reasons(root) == [("page under another licence", "wikidoc/9")]
    assert [row.extra["page"] for row in rows(root)] == ["B"]


def test_real_page(real_store: Callable[..., Path]) -> None:
    names = ("Sexually_transmitted_disease.excerpt.html", "medical_meadow_small.json")
    root = real_store(*(f"wikidoc/{name}" for name in names))
    source = find(WikiDoc, root)
    assert [file.name for file in source.files] == ["Sexually_transmitted_disease.excerpt.html"]
    # The published, processed set is no raw file.
    assert [file.name for file in source.unused] == ["medical_meadow_small.json"]
    found = records(root)
    kept = [r for r in found if isinstance(r, Example)]
    assert [(r.id, r.input) for r in kept] == [
        ("wikidoc/5874/Overview", "What is Sexually transmitted disease?"),
        ("wikidoc/5874/Classification", "What is the classification of Sexually transmitted disease?"),
    ]
    assert [(r.reason, r.id) for r in found if isinstance(r, Rejected)] == [
        ("section is only a link", "wikidoc/5874/Treatment"),
        ("references and links", "wikidoc/5874/References"),
    ]
    overview, classification = kept
    address = "https://www.wikidoc.org/index.php?title=Sexually_transmitted_disease"
    assert overview.source_url == f"{address}&oldid=1677880"
    assert overview.authors[0].url == f"{address}&action=history"
    # The same words as a naive reading of the markup between the first two headings gives.
    html = source.files[0].local.read_text("utf-8").split('id="Overview">', 1)[1].split("<h2>", 1)[0]
    html = re.sub(r"<sup.*?</sup>", "", html.split("</h2>", 1)[1])
    assert overview.output.split() == re.sub(r"<[^>]*>", "", html).split()
    assert overview.output.count("\n\n") == 2
    assert classification.output.count("\n|") == 5
    for furniture in ("Microchapters", "Editor", "Synonyms", "click here", "[1]", "Retrieved", "Jump to"):
        assert furniture not in overview.output + classification.output
    # Every line of the table has the eight columns that its header spans.
    assert {line.count(" | ") for line in classification.output.splitlines() if line.startswith("|")} == {7}


# --- XML exports ----------------------------------------------------------------------------------

WIKITEXT = """{{Asthma}}
{{CMG}}; {{AE}} [[User:Somebody|Some Body, M.D.]]

'''Asthma''' is a [[disease|chronic disease]] of the [[airway]]s.<ref name="a">gone</ref> It affects &gt;5%
of people (H<sub>2</sub>O, 10<sup>3</sup>).<!-- gone -->

== Causes ==
* [[Pollen]], as from
** grass
** [[tree]]s
# first of all things
# second of all things
=== Numbers ===
{| class="wikitable"
|+ Shares
! Cause !! Share
|-
| Pollen || style="color:red" | 10%
|-
| + || {{tick}} yes
|}
<math>a < b</math> [[File:x.png|thumb|gone]] [http://example.org words] [http://example.org/gone]
=== Empty ===
==[[Asthma diagnosis|Diagnosis]]==
==References==
{{reflist|2}}
"""


def test_export_reads_wikitext(tmp_path: Path) -> None:
    found = records(store(tmp_path, e__xml=export(exported("Asthma", WIKITEXT))))
    kept = [r for r in found if isinstance(r, Example)]
    assert [(r.input, r.output) for r in kept] == [
        (
            "What is Asthma?",
            "Asthma is a chronic disease of the airways. It affects >5% of people (H2O, 10^3).",
        ),
        (
            "What are the causes of Asthma?",
            "- Pollen, as from\n  - grass\n  - trees\n1. first of all things\n2. second of all things\n\n"
            "### Numbers\n\nShares\n| Cause | Share |\n| --- | --- |\n| Pollen | 10% |\n| + | yes |\n\n"
            "$a < b$ words",
        ),
    ]
    assert {r.source_date for r in kept} == {"2019-05-01"}
    assert kept[0].source_url == "https://www.wikidoc.org/index.php?title=Asthma&oldid=70"
    assert [(r.reason, r.id) for r in found if isinstance(r, Rejected)] == [
        ("section is only a link", "wikidoc/7/Diagnosis"),
        ("references and links", "wikidoc/7/References"),
    ]


def test_wikitext_and_its_rendering_give_the_same_text(tmp_path: Path) -> None:
    wiki = f"==Causes==\n{LONG}\n\n* one\n** two\n* three\n\n{{|\n! a !! b\n|-\n| 1 || 2\n|}}\n"
    html = (
        f"{h2('Causes')}<p>{LONG}\n</p><ul><li>one\n<ul><li>two</li></ul></li>\n<li>three</li></ul>\n<table>\n<tbody>"
        "<tr>\n<th>a</th>\n<th>b\n</th></tr>\n<tr>\n<td>1</td>\n<td>2\n</td></tr></tbody></table>\n"
    )
    root = store(tmp_path, a__xml=export(exported("A", wiki)), b__jsonl=[page("A", html)])
    first, second = rows(root)
    assert first.output == second.output
    assert first.id == second.id


def test_export_keeps_the_newest_revision(tmp_path: Path) -> None:
    old = "<revision><id>{}</id><timestamp>{}</timestamp><text>==Causes==\n" + LONG + " old</text></revision>"
    text = exported("A", f"==Causes==\n{LONG} new").replace(
        "<revision>", old.format(60, "2018-01-01T00:00:00Z") + "<revision>", 1
    )
    text = text.replace("</page>", old.format(50, "2017-01-01T00:00:00Z") + "</page>")
    (row,) = rows(store(tmp_path, e__xml=export(text)))
    assert (row.output, row.extra["revision"]) == (f"{LONG} new", 70)


@pytest.mark.parametrize("ending", ["gz", "bz2", "zst"])
def test_compressed_exports_and_their_truncation(tmp_path: Path, ending: str) -> None:
    pages = [exported(f"A{n}", f"==Causes==\n{LONG} {os.urandom(600).hex()}", pageid=n) for n in range(1, 60)]
    data = export(*pages).encode()
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "zst": zstandard.compress}[ending]
    assert len(rows(store(tmp_path, **{f"e__xml__{ending}": pack(data)}))) == 59
    root = store(tmp_path / "cut", **{f"e__xml__{ending}": pack(data)[:-2000]})
    with pytest.raises(RawFileError) as raised:
        records(root)
    assert (raised.value.reason, raised.value.file) == ("damaged file", f"wikidoc/e.xml.{ending}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (export(exported("A", LONG))[:-30], "damaged file"),
        ("", "damaged file"),
        (
            export(
                "<page><title>&b;</title></page>",
                head='<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>\n',
            ),
            "XML declares entities",
        ),
        (
            export(exported("A", LONG), head='<!DOCTYPE m [<!ENTITY x SYSTEM "file:///etc/passwd">]>\n'),
            "XML declares entities",
        ),
        ("<posts><row/></posts>", "not a MediaWiki export"),
    ],
)
def test_damaged_or_hostile_export_costs_its_file(tmp_path: Path, content: str, reason: str) -> None:
    with pytest.raises(RawFileError) as raised:
        records(store(tmp_path, e__xml=content))
    assert (raised.value.reason, raised.value.file) == (reason, "wikidoc/e.xml")
    assert raised.value.remedy


def test_harmless_doctype_bom_and_crlf_in_an_export(tmp_path: Path) -> None:
    text = export(exported("A", f"==Causes==\n* one cause of this\n* {LONG}"), head="<!DOCTYPE mediawiki>\n")
    root = store(tmp_path, e__xml=b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert [row.output for row in rows(root)] == [f"- one cause of this\n- {LONG}"]


def test_export_page_without_text_or_title(tmp_path: Path) -> None:
    gone = exported("Gone", "x").replace('<text xml:space="preserve">x</text>', '<text deleted="deleted"/>')
    nameless = exported("", LONG, pageid=9)
    assert reasons(store(tmp_path, e__xml=export(gone, nameless))) == [
        ("record without text", "wikidoc/7"),
        ("record without title", "wikidoc/e.xml#page=9"),
    ]


def test_unclosed_wikitext_table_keeps_its_words(tmp_path: Path) -> None:
    text = "==Causes==\n{| class=x\n|-\n| one cause among many\n| another cause among many\n"
    (row,) = rows(store(tmp_path, e__xml=export(exported("A", text))))
    assert "one cause among many" in row.output
    assert "another cause among many" in row.output
    assert "|" not in row.output


def test_hostile_wikitext_costs_its_page(tmp_path: Path) -> None:
    root = store(
        tmp_path,
        e__xml=export(
            exported("A", "==Causes==\n" + "<ref>" * 20_000, pageid=1),
            exported("B", f"==Causes==\n{'*' * 5000} {LONG}", pageid=2),
        ),
    )
    assert reasons(root) == [("page that cannot be parsed", "wikidoc/1")]
    assert [row.output.lstrip("- ") for row in rows(root)] == [LONG]


# --- what is left out -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "reason"),
    [
        ("Talk:Asthma", "talk or user page"),
        ("User:Somebody", "talk or user page"),
        ("User talk:Somebody", "talk or user page"),
        ("Template talk:Asthma", "talk or user page"),
        ("Help:Editing", "editor or help page"),
        ("WikiDoc:About", "editor or help page"),
        ("How to edit a page", "editor or help page"),
        ("Editor-in-Chief", "editor or help page"),
        ("What is WikiDoc", "editor or help page"),
        ("Category:Disease", "namespace without articles"),
        ("File:Heart.png", "namespace without articles"),
        ("Template:Asthma", "namespace without articles"),
        ("WBR0123", "Board Review content"),
        ("Asthma board review", "Board Review content"),
    ],
)
def test_pages_that_are_no_articles(tmp_path: Path, title: str, reason: str) -> None:
    root = store(tmp_path, p__jsonl=[page(title, f"{h2('Causes')}<p>{LONG}</p>", 5)])
    assert reasons(root) == [(reason, "wikidoc/5")]
    assert rows(root) == []


@pytest.mark.parametrize(
    ("ns", "reason"),
    [
        (1, "talk or user page"),
        (2, "talk or user page"),
        (3, "talk or user page"),
        (4, "editor or help page"),
        (12, "editor or help page"),
        (10, "namespace without articles"),
        (-1, "namespace without articles"),
        (100, "namespace without articles"),
        (101, "talk or user page"),
    ],
)
def test_namespace_numbers_decide_where_the_raw_has_them(tmp_path: Path, ns: int, reason: str) -> None:
    assert reasons(store(tmp_path, e__xml=export(exported("Plain name", LONG, ns)))) == [
        (reason, "wikidoc/7")
    ]


def test_a_colon_alone_is_no_namespace(tmp_path: Path) -> None:
    (row,) = rows(store(tmp_path, p__jsonl=[page("Vitamin D: sources in food", f"<p>{LONG}</p>")]))
    assert row.extra["page"] == "Vitamin D: sources in food"


def test_board_review_by_category_heading_and_template(tmp_path: Path) -> None:
    body = f"{h2('Causes')}<p>{LONG}</p>{h2('Treatment')}<p>{LONG}</p><h3>Board Review</h3><p>{LONG} reserved</p>"
    lines = [
        page("A", body, 1, categories=[{"sortkey": "", "*": "WBR"}]),
        page("B", body, 2, categories=[{"sortkey": "", "category": "WikiDoc_Board_Review"}]),
        page("C", body, 3, categories=["Disease"]),
    ]
    question_page = exported("D", "{{WBRQuestion|Prompt=" + LONG + "}}", pageid=4)
    root = store(tmp_path, p__jsonl=lines, q__xml=export(question_page))
    assert sorted(reasons(root), key=lambda r: r[1]) == [
        ("Board Review content", "wikidoc/1"),
        ("Board Review content", "wikidoc/2"),
        ("Board Review content", "wikidoc/3/Board_Review"),
        ("Board Review content", "wikidoc/4"),
    ]
    assert all("reserved" not in row.output for row in rows(root))
    assert len(rows(root)) == 2


def test_redirects_in_every_format(tmp_path: Path) -> None:
    message = '<div class="mw-parser-output"><div class="redirectMsg"><p>Redirect to:</p><ul class="redirectText"><li><a>A</a></li></ul></div></div>'
    told = '"wgNamespaceNumber":0,"wgPageName":"C","wgArticleId":3,"wgIsRedirect":true'
    root = store(
        tmp_path,
        a__jsonl=[page("A", message, 1)],
        b__html=saved("C", f"<p>{LONG}</p>", told=told),
        c__xml=export(
            exported("D", f"#REDIRECT [[A]] {LONG}", pageid=4),
            exported("E", LONG, pageid=5, more='<redirect title="A" />'),
        ),
    )
    assert sorted(reasons(root)) == [("redirect", f"wikidoc/{n}") for n in (1, 3, 4, 5)]


@pytest.mark.parametrize(
    "body",
    [
        '<p><a title="Asthma history and symptoms">History and Symptoms</a> | <a title="Asthma CT">CT</a></p>',
        '<p>To view the treatment of acute attacks of the disease, <a title="X">click here</a>.</p>',
        '<p>For more information see <a title="Some very long title of another page">Some very long title of another page</a>.</p>',
        '<p><a class="external" href="https://maps.example.org">Directions to Hospitals Treating asthma nearby</a></p>',
        '<h3><a title="Asthma CT">CT</a></h3><h3><a title="Asthma MRI">MRI</a></h3>',
        '<div class="hatnote">Main article: <a title="B">B</a></div><p><a title="Asthma overview">Read the overview of this page</a></p>',
    ],
)
def test_sections_that_only_lead_elsewhere(tmp_path: Path, body: str) -> None:
    root = store(tmp_path, p__jsonl=[page("Asthma", f"{h2('Diagnosis')}{body}")])
    assert reasons(root) == [("section is only a link", "wikidoc/7/Diagnosis")]


def test_lists_of_linked_words_are_answers(tmp_path: Path) -> None:
    items = "".join(
        f'<li><a title="{name}">{name}</a></li>'
        for name in ("Influenza", "Measles", "Whooping cough", "Rubella")
    )
    body = f"{h2('Causes')}<ul>{items}</ul>{h2('Treatment')}<p>{LONG}</p><p>For more, <a title='B'>click here</a>.</p>"
    assert [row.output for row in rows(store(tmp_path, p__jsonl=[page("Cough", body)]))] == [
        "- Influenza\n- Measles\n- Whooping cough\n- Rubella",
        LONG,
    ]


def test_a_paragraph_that_leads_on_keeps_what_it_says(tmp_path: Path) -> None:
    text = "If it is left alone, it gets worse within days. For more, <a title='B'>click here</a>."
    (row,) = rows(store(tmp_path, p__jsonl=[page("A", f"{h2('Prognosis')}<p>{text}</p>")]))
    assert row.output == "If it is left alone, it gets worse within days. For more, click here."


def test_stub_limit_is_forty_characters(tmp_path: Path) -> None:
    body = f"{h2('Causes')}<p>{'x' * 39}</p>{h2('Treatment')}<p>{'y' * 40}</p>{h2('Diagnosis')}"
    root = store(tmp_path, p__jsonl=[page("A", body)])
    assert reasons(root) == [
        ("stub under 40 characters", "wikidoc/7/Causes"),
        ("stub under 40 characters", "wikidoc/7/Diagnosis"),
    ]
    assert [row.output for row in rows(root)] == ["y" * 40]


def test_empty_pages_are_reported(tmp_path: Path) -> None:
    root = store(tmp_path, p__jsonl=[page("A", '<div class="mw-parser-output"></div>')])
    assert reasons(root) == [("page without text", "wikidoc/7")]


@pytest.mark.parametrize(
    "heading",
    [
        "References",
        "See also",
        "External links",
        "Further reading",
        "Gallery",
        "Video",
        "Sources",
        "Related Chapters",
    ],
)
def test_lists_of_references(tmp_path: Path, heading: str) -> None:
    root = store(tmp_path, p__jsonl=[page("A", f"{h2(heading)}<ul><li>{LONG}</li></ul>")])
    assert [reason for reason, _ in reasons(root)] == ["references and links"]


def test_overview_that_repeats_its_page_in_another_file(tmp_path: Path) -> None:
    first, second = LONG, "The second sentence says something quite different from the first."
    other = "An overview may also hold a section that its page lacks altogether."
    overview = f"{h2('Overview')}<p>{first.upper()} {second}</p>{h2('Causes')}<p>{other}</p>"
    root = store(
        tmp_path,
        a__jsonl=[page("Asthma_overview", overview, 2), page("Gout overview", overview, 3)],
        b__jsonl=[page("Asthma", f"{h2('Overview')}<p>{second} {first}</p>", 1)],
    )
    assert reasons(root) == [("overview repeats the page", "wikidoc/2/Overview")]
    assert [row.id for row in rows(root)] == [
        "wikidoc/2/Causes",
        "wikidoc/3/Overview",
        "wikidoc/3/Causes",
        "wikidoc/1/Overview",
    ]
    assert {row.input for row in rows(root) if row.id == "wikidoc/3/Overview"} == {"What is Gout?"}
    # The passes that find this run on the build's workers.
    builder = WikiDoc()
    source = find(builder, root)
    alone = list(builder.shards(source))
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        source.map = pool.map
        assert list(builder.shards(source)) == alone


def test_overview_stays_where_its_page_is_lost(tmp_path: Path) -> None:
    body = f"{h2('Overview')}<p>{LONG}</p>"
    wiki = export(exported("Asthma", f"==Overview==\n{LONG}"))[:-20]
    root = store(tmp_path, a__jsonl=[page("Asthma overview", body)], b__xml=wiki)
    shards = list(WikiDoc().shards(find(WikiDoc, root)))
    assert all(isinstance(shard, Shard) for shard in shards)
    assert [r.id for r in WikiDoc().examples(shards[0])] == ["wikidoc/7/Overview"]
    with pytest.raises(RawFileError):
        list(WikiDoc().examples(shards[1]))


# --- text -----------------------------------------------------------------------------------------


def text_of(tmp_path: Path, body: str, title: str = "Asthma") -> str:
    (row,) = rows(store(tmp_path, p__jsonl=[page(title, f"{h2('Causes')}<p>{LONG}</p>{body}")]))
    return row.output.removeprefix(LONG).strip("\n")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<p>one<sup class='reference'><a href='#c'>[1]</a></sup> two</p>", "one two"),
        ("<p>H<sub>2</sub>O and 10<sup>3</sup></p>", "H2O and 10^3"),
        ("<p>a <b>bold</b><i>ly</i> <a title='Lung'>lung</a>s</p>", "a boldly lungs"),
        ("<p>one<br>two</p><div>three</div>", "one\ntwo\n\nthree"),
        ("<p>&lt;b&gt; &amp;amp; &#233;&#1;</p>", "<b> &amp; \u00e9"),
        ("<p>a<span style='display: none'>hidden</span>b</p>", "ab"),
        ("<p>''quotes'' stay</p>", "''quotes'' stay"),
        (
            "<h3><span class='mw-headline'>Types</span><span class='mw-editsection'>[edit]</span></h3><p>two</p>",
            "### Types\n\ntwo",
        ),
        (
            "<div class='mw-heading mw-heading3'><h3>Types</h3></div><h4>Rare</h4><p>two</p>",
            "### Types\n\n#### Rare\n\ntwo",
        ),
        ("<h3>Empty</h3><h3>Types</h3><p>two</p><h3>Also empty</h3>", "### Types\n\ntwo"),
        (
            "<table class='infobox'><tr><td>nav</td></tr></table><div class='navbox'>nav</div><p>two</p>",
            "two",
        ),
        ("<table><tr><td>Asthma Microchapters</td></tr><tr><td>nav</td></tr></table><p>two</p>", "two"),
        ("<div class='thumb'>caption</div><ul class='gallery'><li>x</li></ul><p>two</p>", "two"),
        ("<ol class='references'><li>x</li></ol><div id='toc'>Contents</div><p>two</p>", "two"),
        (
            "<p><b>Editor-In-Chief:</b> <a href='/index.php/User:X'>X, M.D.</a> <a class='autonumber'>[1]</a>; <b>Associate Editor(s)-in-Chief:</b> <a href='/index.php/User:Y'>Y</a></p><p>two</p>",
            "two",
        ),
        ("<p><i><b>Synonyms and keywords:</b></i> bronchial thing; wheeze</p><p>two</p>", "two"),
        (
            "<p><b>For patient information click <a title='Asthma (patient information)'>here</a></b></p><p>two</p>",
            "two",
        ),
        ("<script>alert(1)</script><style>p{}</style><p>two</p>", "two"),
        (
            "<p>x <span class='mwe-math-element'><span style='display:none'><math alttext='{\\displaystyle a^{2}}'><mi>a</mi></math></span>"
            "<img class='mwe-math-fallback-image-inline' alt='{\\displaystyle a^{2}}'></span> y</p>",
            "x $a^{2}$ y",
        ),
        ("<p>x <img class='tex' alt='E=mc^2'> y</p>", "x $E=mc^2$ y"),
        (
            "<table><tr><th rowspan='2'>A</th><th colspan='2'>B</th></tr><tr><th>C</th><th>D</th></tr><tr><td>1</td><td>2</td><td>3</td></tr></table>",
            "| A | B |  |\n| --- | --- | --- |\n|  | C | D |\n| 1 | 2 | 3 |",
        ),
        ("<ul><li>a<ol><li>b</li><li>c</li></ol></li><li>d</li></ul>", "- a\n  1. b\n  2. c\n- d"),
    ],
)
def test_readable_text(tmp_path: Path, body: str, text: str) -> None:
    assert text_of(tmp_path, body) == text


def test_lead_comes_first_and_overview_then_asks_in_brief(tmp_path: Path) -> None:
    body = f"<p>{LONG}</p>{h2('Overview')}<p>{LONG} b</p>{h2('Lead')}<p>{LONG} c</p>"
    found = rows(store(tmp_path, p__jsonl=[page("Lead poisoning", body)]))
    assert [(r.id.rsplit("/", 1)[1], r.extra["section"], r.input) for r in found] == [
        ("lead", "", "What is Lead poisoning?"),
        ("Overview", "Overview", "In brief, what is Lead poisoning?"),
        ("Lead-2", "Lead", "What is known about Lead in Lead poisoning?"),
    ]


def test_pages_with_deeper_headings_only(tmp_path: Path) -> None:
    body = f"<h3>Causes</h3><p>{LONG}</p><h4>Rare</h4><p>two</p><h3>Treatment</h3><p>{LONG}</p>"
    assert [row.input for row in rows(store(tmp_path, p__jsonl=[page("A", body)]))] == [
        "What are the causes of A?",
        "How is A treated?",
    ]


def test_second_level_for_references_alone_does_not_cut(tmp_path: Path) -> None:
    body = f"<h3>Causes</h3><p>{LONG}</p><h3>Treatment</h3><p>{LONG}</p>{h2('References')}<p>{LONG}</p>"
    root = store(tmp_path, p__jsonl=[page("A", body)])
    assert [row.input for row in rows(root)] == ["What are the causes of A?", "How is A treated?"]
    assert reasons(root) == [("references and links", "wikidoc/7/References")]


def test_nested_references_are_left_out_by_name(tmp_path: Path) -> None:
    body = (
        f"{h2('Causes')}<p>{LONG}</p><h3>References</h3><ul><li>{LONG} gone</li></ul><h3>Types</h3><p>two</p>"
    )
    root = store(tmp_path, p__jsonl=[page("A", body)])
    assert [row.output for row in rows(root)] == [f"{LONG}\n\n### Types\n\ntwo"]
    assert reasons(root) == [("references and links", "wikidoc/7/References")]


def test_headings_inside_wrappers_cut_and_inside_tables_do_not(tmp_path: Path) -> None:
    body = (
        f"<div style='columns:2'>{h2('Causes')}<p>{LONG}</p></div><div><div>{h2('Treatment')}</div><p>{LONG}</p></div>"
        "<table><tr><td><h2>Cell</h2></td><td>x</td></tr></table>"
    )
    assert [row.output for row in rows(store(tmp_path, p__jsonl=[page("A", body)]))] == [
        LONG,
        f"{LONG}\n\n| Cell | x |",
    ]


def test_no_words_are_lost_or_glued_in_the_sample() -> None:
    """What a naive reading of the markup finds under a heading stands in the answer, in order."""
    answers = {(row.extra["page"], row.extra["section"]): row.output for row in rows(None)}
    heading = re.compile(
        r'<h2>.*?>([^<>]+)</span>.*?</h2>|<div class="mw-heading mw-heading2"><h2[^>]*>([^<]+)<.*?</div>'
    )
    seen = 0
    for line in (WikiDoc.folder() / "sample" / "pages.jsonl").read_text("utf-8").splitlines():
        record = json.loads(line).get("parse") or json.loads(line)
        html = record["text"]["*"] if isinstance(record["text"], dict) else record["text"]
        html = re.sub(r'<sup id=.*?</sup>|<span class="mw-editsection">.*?\]</span>(?:</span>)?', "", html)
        parts = heading.split(html)
        for name, newer, part in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            answer = answers.get((record["title"], name or newer))
            if answer is None or "math" in part:
                continue
            part = re.sub(r"</?(?:sub|i|b|a)\b[^>]*>", "", part)
            plain = re.sub(r"<[^>]*>", " ", part.replace("<sup>", "^"))
            assert re.findall(r"[\w^]+", answer) == re.findall(r"[\w^]+", plain), record["title"]
            seen += 1
    assert seen > 50


# --- sample and declarations ----------------------------------------------------------------------


def test_sample_covers_both_datasets_and_every_reason() -> None:
    found = records(None)
    kept = Counter(r.configs[0] for r in found if isinstance(r, Example))
    assert kept["wikidoc"] >= 30
    assert kept[PATIENT] >= 25
    assert {r.reason for r in found if isinstance(r, Rejected)} == {
        "Board Review content",
        "editor or help page",
        "overview repeats the page",
        "redirect",
        "references and links",
        "section is only a link",
        "stub under 40 characters",
        "talk or user page",
    }
    assert all(len(r.configs) == 1 for r in found)
    assert len({r.id for r in found}) == len(found)
    assert all("Editor" not in r.output for r in found if isinstance(r, Example))


def test_patient_pages_share_the_group_of_their_disease() -> None:
    groups = {config: {r.group for r in rows(None) if config in r.configs} for config in WikiDoc.configs}
    assert {"gout", "migraine"} <= groups["wikidoc"] & groups[PATIENT]


def test_declaring_the_source_loads_no_parser() -> None:
    code = (
        "import sys, meadow.builders.wikidoc.builder as b\n"
        "print([m for m in ('lxml', 'bs4', 'mwparserfromhell', 'zstandard') if m in sys.modules], b.WikiDoc.problems())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"
