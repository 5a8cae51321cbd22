"""Credits: every row that owes one has all that its licence asks for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meadow.builders.medqa.builder import MedQA
from meadow.builders.stackexchange.builder import StackExchange
from meadow.builders.wikidoc.builder import WikiDoc
from meadow.core.builder import Builder
from meadow.core.licenses import CC0
from meadow.core.rawstore import find
from meadow.core.row import Example, arrow_schema, values
from meadow.describe import attribution

_DEEDS = {f"CC-BY-SA-{v}": f"https://creativecommons.org/licenses/by-sa/{v}/" for v in ("2.5", "3.0", "4.0")}
COLUMNS = StackExchange.features()


def parquet(path: Path, found: list[dict[str, Any]], columns: Any = COLUMNS) -> Path:
    pq.write_table(pa.Table.from_pylist(found, arrow_schema(columns)), path)
    return path


def built(builder: Builder, root: Path, tmp: Path, *, sample: bool = False) -> Path:
    """All rows of a raw store as the build writes them, in one file."""
    raw = find(builder, root)
    raw.scratch = tmp / "scratch"
    raw.scratch.mkdir()
    columns = builder.features()
    found = [
        dict(
            zip(
                columns,
                values(
                    record,
                    builder.task,
                    CC0.id if sample else (record.license or builder.license.id),
                    builder.extra_features,
                ),
                strict=True,
            )
        )
        for shard in builder.shards(raw)
        for record in builder.examples(shard)
        if isinstance(record, Example)
    ]
    return parquet(tmp / "rows.parquet", found, columns)


def credited(files: list[Path], tmp: Path, **more: Any) -> list[dict[str, Any]]:
    path = tmp / "ATTRIBUTION.parquet"
    count = attribution.write(files, path, **more)
    found = pq.read_table(path)
    assert found.schema == arrow_schema(attribution.COLUMNS)
    assert found.num_rows == count
    return found.to_pylist()


def row(number: int, **more: Any) -> dict[str, Any]:
    return {
        "instruction": "Answer this question truthfully",
        "input": f"Title {number}\n\nThe question.",
        "output": "The answer.",
        "id": f"stackexchange/s.example/a/{number}",
        "task": "question-answering",
        "options": [],
        "group": "g",
        "source_url": f"https://s.example/a/{number}",
        "source_date": "2019-05-01",
        "authors": [{"name": "Ann", "url": "https://s.example/users/1"}],
        "license": "CC-BY-SA-4.0",
        "question_license": "CC-BY-SA-4.0",
        **more,
    }


def by_sa_satisfied(one: dict[str, Any], changes: str) -> None:
    """CC BY-SA 3.0, 4(a) and 4(c), and 4.0, 3(a): names, title, source, licence and its address, changes."""
    assert one["license_url"] == _DEEDS[one["license"]]
    assert one["title"]
    assert one["source_url"].startswith("https://")
    assert one["changes"] == changes
    assert one["authors"]
    for author in one["authors"]:
        assert author["name"]
        assert author["name"] in one["credit"]
        if author["url"]:
            assert f"({author['url']})" in one["credit"]
    for value in (one["title"], one["source_url"], one["license_url"], changes):
        assert value in one["credit"]
    assert "\n" not in one["credit"]


def expected_author(post: dict[str, str], site: str, names: dict[str, str]) -> tuple[str, str | None]:
    user, name = post.get("OwnerUserId"), post.get("OwnerDisplayName")
    if user is None:
        return (f"{name} (deleted user)" if name else "deleted user"), None
    return names.get(user) or name or f"user{user}", f"https://{site}/users/{user}"


def by_date(post: dict[str, str]) -> str:
    day = post["CreationDate"][:10]
    dated = "2.5" if day < "2011-04-08" else "3.0" if day < "2018-05-02" else "4.0"
    return f"CC-BY-SA-{post.get('ContentLicense', 'CC BY-SA ' + dated).removeprefix('CC BY-SA ')}"


def check_stack_exchange(found: list[dict[str, Any]], folder: Path) -> int:
    """Compares credits with the dumps themselves, read by another parser; returns the deleted authors."""
    posts, users = {}, {}
    for site in folder.iterdir():
        tree = ElementTree.parse(site / "Posts.xml").getroot()
        posts[site.name] = {p.attrib["Id"]: p.attrib for p in tree if "Id" in p.attrib}
        users[site.name] = {}
        if (site / "Users.xml").exists():
            people = ElementTree.parse(site / "Users.xml").getroot()
            users[site.name] = {
                p.attrib["Id"]: p.attrib.get("DisplayName") for p in people if "Id" in p.attrib
            }
    deleted = 0
    for one in found:
        by_sa_satisfied(one, StackExchange.changes)
        _, site, _, number = one["id"].split("/")
        answer = posts[site][number]
        question = posts[site][answer["ParentId"]]
        asker, answerer = (expected_author(p, site, users[site]) for p in (question, answer))
        both = [asker] if asker == answerer else [asker, answerer]
        assert [(a["name"], a["url"]) for a in one["authors"]] == both
        assert one["title"] == " ".join(question["Title"].split())
        assert one["source_url"] == f"https://{site}/a/{number}"
        assert one["source_date"] == answer["CreationDate"][:10]
        assert (one["license"], one["question_license"]) == (by_date(answer), by_date(question))
        assert one["question_license_url"] == _DEEDS[one["question_license"]]
        assert _DEEDS[one["question_license"]] in one["credit"]
        deleted += sum("deleted user" in name for name, _ in both)
    return deleted


@pytest.mark.parametrize(("min_score", "count", "deleted"), [(5, 318, 0), (-1000, 1337, 2)])
def test_every_row_of_real_stack_exchange_sites(
    real: Path, tmp_path: Path, min_score: int, count: int, deleted: int
) -> None:
    file = built(StackExchange(min_score=min_score), real, tmp_path)
    found = credited([file], tmp_path, changes={"stackexchange": StackExchange.changes})
    assert [one["id"] for one in found] == pq.read_table(file)["id"].to_pylist()
    assert len(found) == count
    assert check_stack_exchange(found, real / "stackexchange") == deleted


def test_every_row_of_the_stack_exchange_sample_as_if_it_were_real(tmp_path: Path) -> None:
    folder = tmp_path / "raw" / "stackexchange"
    shutil.copytree(StackExchange.folder() / "sample", folder)
    file = built(StackExchange(), tmp_path / "raw", tmp_path)
    found = credited([file], tmp_path, changes={"stackexchange": StackExchange.changes})
    assert len(found) == pq.read_metadata(file).num_rows >= 25
    assert check_stack_exchange(found, folder) > 0


def check_wikidoc(root: Path, tmp_path: Path) -> list[dict[str, Any]]:
    file = built(WikiDoc(), root, tmp_path)
    found = credited([file], tmp_path, changes={"wikidoc": WikiDoc.changes})
    whole = pq.read_table(file).to_pylist()
    assert [one["id"] for one in found] == [one["id"] for one in whole]
    for one, its in zip(found, whole, strict=True):
        by_sa_satisfied(one, WikiDoc.changes)
        assert one["license"] == "CC-BY-SA-3.0"
        assert one["title"] == its["page"]
        assert one["authors"] == [{"name": "WikiDoc contributors", "url": one["authors"][0]["url"]}]
        assert one["authors"][0]["url"].endswith("&action=history")
        assert one["question_license"] is None
    return found


def test_every_row_of_a_real_wikidoc_page(real: Path, tmp_path: Path) -> None:
    found = check_wikidoc(real, tmp_path)
    assert found[0]["credit"].startswith(
        '"Sexually transmitted disease", by WikiDoc contributors '
        "(https://www.wikidoc.org/index.php?title=Sexually_transmitted_disease&action=history), "
        "https://www.wikidoc.org/index.php?title=Sexually_transmitted_disease&oldid=1677880, licensed under "
        "Creative Commons Attribution-ShareAlike 3.0 (https://creativecommons.org/licenses/by-sa/3.0/). Changes: "
    )


def test_every_row_of_the_wikidoc_sample_as_if_it_were_real(tmp_path: Path) -> None:
    shutil.copytree(WikiDoc.folder() / "sample", tmp_path / "raw" / "wikidoc")
    assert len(check_wikidoc(tmp_path / "raw", tmp_path)) >= 25


def test_samples_owe_no_credit(tmp_path: Path) -> None:
    shutil.copytree(WikiDoc.folder() / "sample", tmp_path / "raw" / "wikidoc")
    file = built(WikiDoc(), tmp_path / "raw", tmp_path, sample=True)
    assert credited([file], tmp_path) == []


def test_a_whole_line(tmp_path: Path) -> None:
    people = [{"name": "Ann", "url": "https://s.example/users/1"}, {"name": "deleted user", "url": None}]
    file = parquet(tmp_path / "a.parquet", [row(7, authors=people, question_license="CC-BY-SA-3.0")])
    (one,) = credited([file], tmp_path)
    assert one == {
        "id": "stackexchange/s.example/a/7",
        "title": "Title 7",
        "authors": people,
        "source_url": "https://s.example/a/7",
        "source_date": "2019-05-01",
        "license": "CC-BY-SA-4.0",
        "license_url": "https://creativecommons.org/licenses/by-sa/4.0/",
        "question_license": "CC-BY-SA-3.0",
        "question_license_url": "https://creativecommons.org/licenses/by-sa/3.0/",
        "changes": "converted to plain text and cut into an instruction, an input and an output",
        "credit": '"Title 7", by Ann (https://s.example/users/1); deleted user, https://s.example/a/7, 2019-05-01, '
        "licensed under Creative Commons Attribution-ShareAlike 4.0 (https://creativecommons.org/licenses/by-sa/4.0/) "
        "(the question under Creative Commons Attribution-ShareAlike 3.0 "
        "(https://creativecommons.org/licenses/by-sa/3.0/)). "
        "Changes: converted to plain text and cut into an instruction, an input and an output.",
    }


def test_rows_that_owe_nothing_are_left_out_and_the_others_keep_their_order(tmp_path: Path) -> None:
    ids = ["CC0-1.0", "CC-BY-SA-2.5", "LicenseRef-unknown", "MIT", "LicenseRef-of-nobody"]
    people = [[{"name": f"A{n}", "url": None}] * (n % 4) for n in range(4500)]
    file = parquet(
        tmp_path / "a.parquet", [row(n, license=ids[n % 5], authors=people[n]) for n in range(4500)]
    )
    found = credited([file], tmp_path)
    assert [one["id"].rsplit("/", 1)[1] for one in found] == [str(n) for n in range(4500) if n % 5 in (1, 3)]
    for one in found:
        number = int(one["id"].rsplit("/", 1)[1])
        assert one["authors"] == people[number]
        names = "; ".join([f"A{number}"] * (number % 4)) or "author not named by the source"
        assert f", by {names}, https://s.example/a/{number}, 2019" in one["credit"]
        assert one["license"] in one["license_url"].upper().replace("LICENSES/", "CC-").replace("/", "-") or (
            one["license"] == "MIT" and one["license_url"] == "https://opensource.org/license/mit"
        )


def test_terms_of_a_source_decide_for_its_own_licences(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", [row(1, license=MedQA.license.id), row(2, license=CC0.id)])
    assert credited([file], tmp_path) == []
    (one,) = credited([file], tmp_path, terms={MedQA.license.id: MedQA.license})
    assert one["license_url"] == "https://github.com/jind11/MedQA"
    assert MedQA.license.name in one["credit"]


def test_what_is_missing_is_left_out_of_the_line(tmp_path: Path) -> None:
    bare = row(1, source_url=None, source_date=None, authors=[], input="", question_license=None)
    (one,) = credited([parquet(tmp_path / "a.parquet", [bare])], tmp_path)
    assert one["credit"] == (
        "by author not named by the source, licensed under Creative Commons Attribution-ShareAlike 4.0 "
        "(https://creativecommons.org/licenses/by-sa/4.0/). "
        "Changes: converted to plain text and cut into an instruction, an input and an output."
    )
    assert one["title"] == ""
    assert one["source_url"] is None


def test_odd_names_and_long_first_lines_stay_on_one_line(tmp_path: Path) -> None:
    odd = row(
        1,
        input="\n  Wörter\t\x07und ‮mehr\nand the rest",
        authors=[{"name": "A\nB\x00 \u202eC", "url": "https://s.example/u\n1"}, {"name": None, "url": None}],
    )
    long = row(2, input="é" * 500, source_url="https://s.example/\r\nx")
    first, second = credited([parquet(tmp_path / "a.parquet", [odd, long])], tmp_path)
    assert first["title"] == "Wörter und mehr"
    assert first["credit"].startswith(
        '"Wörter und mehr", by A B C (https://s.example/u 1); author not named by the source, '
    )
    assert first["authors"] == odd["authors"]  # as the row has them
    assert second["title"] == "é" * 197 + "..."
    assert "\n" not in second["credit"]


def test_a_mixture_of_sources_says_of_each_what_it_changed(tmp_path: Path) -> None:
    page = {**row(1, id="wikidoc/5/Causes", license="CC-BY-SA-3.0"), "page": "Gout", "section": "Causes"}
    del page["question_license"]
    files = [
        parquet(tmp_path / "a.parquet", [row(1), row(2, id="stackexchanged/1")]),
        parquet(tmp_path / "b.parquet", [page], WikiDoc.features()),
    ]
    found = credited(files, tmp_path, changes={"stackexchange": "joined", "wikidoc": "cut", "empty": ""})
    assert [(one["title"], one["changes"]) for one in found] == [
        ("Title 1", "joined"), ("Title 2", attribution.CHANGES), ("Gout", "cut")
    ]  # fmt: skip


@pytest.mark.parametrize("count", [0, 1, 2_000, 20_001])
def test_the_same_rows_give_the_same_bytes_however_they_are_cut(tmp_path: Path, count: int) -> None:
    found = [row(n) for n in range(count)]
    one = tmp_path / "one.parquet"
    pq.write_table(pa.Table.from_pylist(found, arrow_schema(COLUMNS)), one, row_group_size=4_000)
    other = tmp_path / "other.parquet"
    pq.write_table(pa.Table.from_pylist(found, arrow_schema(COLUMNS)), other, row_group_size=1_111)
    outs = []
    for name, file in (("x", one), ("y", one), ("z", other)):
        assert attribution.write([file], tmp_path / name) == count
        outs.append((tmp_path / name).read_bytes())
    assert outs[0] == outs[1]
    assert pq.read_table(tmp_path / "x").equals(pq.read_table(tmp_path / "z"))
    assert outs[0] == outs[2]


def test_no_file_gives_an_empty_table(tmp_path: Path) -> None:
    assert credited([], tmp_path) == []
