"""What travels to the Hub, what does not, and what is left behind when something goes wrong on the way."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from meadow.api import build_datasets
from meadow.core.manifest import Manifest
from meadow.core.store import Store
from meadow.describe import cards
from meadow.hub import HubError
from meadow.hub.client import Client
from tests.hub_server import Hub, Repo, client, environment, running
from tests.hubcards import problems
from tests.stores import put, row

#: A process that runs commands one after another: importing the libraries anew each time would take most of the time.
_SHELL = """
import contextlib, io, json, os, sys, traceback
sys.argv = ["meadow"]
from meadow.cli.app import main
for line in sys.stdin:
    arguments, env = json.loads(line)
    before = dict(os.environ)
    for key, value in env.items():
        os.environ.pop(key, None)
        if value is not None:
            os.environ[key] = value
    out, err, sys.argv = io.StringIO(), io.StringIO(), ["meadow", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
            code = 99
    os.environ.clear()
    os.environ.update(before)
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""
_SCREENED = {"policy": "mask", "rows": 0, "findings": {}}
_RESERVED = "LicenseRef-all-rights-reserved"
#: Other rows, of the same ids.
_OTHER = {"rows_sha256": "b2" * 32}


@dataclass
class Done:
    """What a command came to."""

    code: int
    out: str
    err: str


class Shell:
    """Runs ``meadow push`` against a Hub, with the clients as they are."""

    def __init__(self, hub: Hub, errors: Path) -> None:
        self.hub, self._errors = hub, errors.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SHELL],
            cwd=hub.home,
            env=environment(hub),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __call__(self, out: Path, *arguments: object, code: int = 0, **env: str | None) -> Done:
        """Pushes from a folder, and expects an exit code."""
        told = ["push", *map(str, arguments), *([] if "--model" in arguments else ["--out", str(out)])]
        self._process.stdin.write(json.dumps([told, env]) + "\n")
        self._process.stdin.flush()
        done = Done(*json.loads(self._process.stdout.readline()))
        assert done.code == code, f"exit code {done.code}\n{done.out}\n{done.err}"
        for token in self.hub.tokens:
            assert token not in done.out + done.err
        return done

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait(30)
        self._errors.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with running(tmp_path_factory.mktemp("hub")) as found:
        yield found


@pytest.fixture(scope="module")
def shell(server: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    errors = tmp_path_factory.mktemp("errors") / "stderr"
    found = Shell(server, errors)
    yield found
    found.close()
    assert server.unknown == []
    assert not any(token in errors.read_text() for token in server.tokens)


@pytest.fixture
def hub(server: Hub) -> Iterator[Hub]:
    yield server
    server.faults.clear()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A repository that no other test has."""
    return "ORG/" + re.sub(r"\W+", "-", request.node.name).strip("-")[:80].lower()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    make(folder)
    return folder


def make(
    out: Path,
    dataset: str = "ward",
    version: str = "1.0.0",
    *,
    keys: Sequence[object] = range(4),
    spdx: str = "CC-BY-SA-4.0",
    files: int = 1,
    **manifest: Any,
) -> dict[str, Any]:
    """A built dataset with its card, in a folder with the collection's card."""
    shutil.rmtree(out / dataset / version, ignore_errors=True)
    rows = [row(f"{dataset} {key}", license=spdx) for key in keys]
    terms = {spdx: {"name": spdx, "url": "", "evidence": "The tests say so.", "hub": "other"}}
    beside = {
        "rejected": [
            {"id": f"{dataset}/x", "reason": "too short", "excerpt": "SECRET excerpt", "detail": "SECRET"}
        ]
    }
    beside["contamination"] = [
        {"exam": "e", "item": "1", "id": f"{dataset}/1", "overlap": "SECRET item", "dropped": True}
    ]
    made = put(
        out,
        {"train": rows},
        name=dataset,
        version=version,
        files=files,
        beside=beside,
        **{"privacy": _SCREENED, "license_terms": terms, "example": rows[0], "parameters": {}, **manifest},
    )
    (out / dataset / version / "README.md").write_text(
        cards.dataset_card(Manifest.model_validate(made), ""), encoding="utf-8"
    )
    existing = (out / "README.md").read_text(encoding="utf-8") if (out / "README.md").is_file() else None
    words = cards.words_for("collection", Path())
    (out / "README.md").write_text(
        cards.collection_card(Store(out).current(), words, existing), encoding="utf-8"
    )
    return made


def data_of(repo: Repo, revision: str = "main") -> list[str]:
    return sorted(path for path in repo.files(revision) if re.search(r"-of-\d+\.parquet", path))


def uploads(hub: Hub, name: str) -> int:
    return sum(repo == name for repo, _, _ in hub.uploads)


# ---- what travels ----


def test_dry_run_prints_what_then_travels_and_sends_nothing(
    shell: Shell, hub: Hub, out: Path, name: str
) -> None:
    make(out, "clinic", files=2)
    (out / "report.html").write_text("rows")
    (out / "ward/1.0.0/notes.txt").write_text("names of patients")
    (out / "ward/1.0.0/x.parquet.lock").write_text("")
    (out / ".meadow").mkdir()
    (out / ".meadow/lock").write_text("")
    before = len(hub.log)
    planned = shell(out, "all", "--repo", name, "--tag", "--dry-run").out
    assert name not in hub.repos()
    assert {seen.method for seen in hub.log[before:]} == {"GET"}
    paths = re.findall(r"^  add +(\S+)  ", planned, re.MULTILINE)
    assert re.findall(r"^  tag +(\S+)", planned, re.MULTILINE) == ["clinic-1.0.0", "ward-1.0.0", "v1.0.0"]
    assert re.findall(r"^  stays +(\S+):", planned, re.MULTILINE) == [
        "ward/1.0.0/notes.txt",
        "ward/1.0.0/x.parquet.lock",
        "report.html",
    ]
    assert "a new public dataset repository" in planned

    shell(out, "all", "--repo", name, "--tag")
    repo = hub.repo(name)
    assert sorted(paths) == sorted(repo.commit().changed)
    assert repo.tags == dict.fromkeys(("clinic-1.0.0", "ward-1.0.0", "v1.0.0"), repo.head)
    assert len(repo.commits()) == 2  # the Hub's own, and one
    for path in data_of(repo):
        assert repo.files()[path] == (out / path).read_bytes()
    assert "`load_dataset" not in repo.text("README.md")
    assert f'datasets.load_dataset("{name}", "clinic")' in repo.text("README.md")


def test_what_was_pushed_loads_without_meadow_at_every_tag(
    shell: Shell, hub: Hub, out: Path, name: str
) -> None:
    shell(out, "ward", "--repo", name, "--tag")
    make(out, "ward", "2.0.0", keys=range(7), **_OTHER)
    make(out, "clinic")
    shell(out, "all", "--repo", name, "--tag")
    repo = hub.repo(name)
    assert set(repo.tags) == {"ward-1.0.0", "ward-2.0.0", "clinic-1.0.0", "v1.0.0", "v2.0.0"}
    code = f"""
from datasets import load_dataset
count = lambda **k: load_dataset({name!r}, "ward", split="train", **k).num_rows
print(count(), count(revision="ward-1.0.0"), count(revision="v1.0.0"), count(revision="v2.0.0"))
print(next(iter(load_dataset({name!r}, "clinic", split="train", streaming=True)))["id"])
"""
    printed = client(code, hub, without_meadow=True).stdout.split()
    assert printed == ["7", "4", "4", "7", "ward/clinic", "0"]
    # Versions lie side by side on the Hub, as they do here.
    assert "ward/1.0.0/train-00000-of-00001.parquet" in repo.files()


def test_only_changed_files_travel(shell: Shell, hub: Hub, out: Path, name: str) -> None:
    shell(out, "all", "--repo", name)
    sent, commits = uploads(hub, name), len(hub.repo(name).commits())
    done = shell(out, "all", "--repo", name)
    assert "nothing to send" in done.out
    assert (uploads(hub, name), len(hub.repo(name).commits())) == (sent, commits)
    make(out, "clinic")
    shell(out, "all", "--repo", name)
    changed = hub.repo(name).commit().changed
    assert {path.split("/")[0] for path in changed} == {"README.md", "CITATION.cff", "clinic"}
    # The file of rows and the two others are new; what is the same as the ward's is there already.
    new = {file for file in changed if file.endswith(".parquet")}
    assert uploads(hub, name) - sent <= len(new)
    assert hub.repo(name).text("README.md").count("config_name") == 2


def test_pushing_one_dataset_keeps_the_others(
    shell: Shell, hub: Hub, out: Path, tmp_path: Path, name: str
) -> None:
    make(out, "clinic")
    shell(out, "all", "--repo", name)
    elsewhere = tmp_path / "elsewhere"
    make(elsewhere, "practice")
    shell(elsewhere, "all", "--repo", name)
    card = hub.repo(name).text("README.md")
    assert re.findall(r"config_name: (\w+)", card) == ["clinic", "practice", "ward"]
    assert data_of(hub.repo(name)) == [
        f"{dataset}/1.0.0/train-00000-of-00001.parquet" for dataset in ("clinic", "practice", "ward")
    ]


def test_shards_that_are_no_longer_are_deleted_and_other_peoples_files_stay(
    shell: Shell, hub: Hub, out: Path, name: str
) -> None:
    make(out, files=3)
    shell(out, "all", "--repo", name)
    hub.edit(name, {"ward/1.0.0/paper.pdf": b"%PDF", "LICENSE": "mine"})
    make(out, files=1, **_OTHER)
    done = shell(out, "all", "--repo", name)
    assert done.out.count("  delete ward/1.0.0/train-0000") == 3
    assert "others have pushed since, and it stays" in done.out
    assert data_of(hub.repo(name)) == ["ward/1.0.0/train-00000-of-00001.parquet"]
    assert {"LICENSE", "ward/1.0.0/paper.pdf"} <= set(hub.repo(name).files())


def test_texts_of_rows_that_were_left_out_do_not_travel(shell: Shell, hub: Hub, out: Path, name: str) -> None:
    done = shell(out, "all", "--repo", name)
    files = hub.repo(name).files()
    rejected = pq.read_table(io.BytesIO(files["ward/1.0.0/rejected.parquet"])).to_pylist()
    assert [(r["id"], r["reason"], r["excerpt"], r["detail"]) for r in rejected] == [
        ("ward/x", "too short", None, None)
    ]
    hits = pq.read_table(io.BytesIO(files["ward/1.0.0/contamination.parquet"])).to_pylist()
    assert (hits[0]["item"], hits[0]["overlap"]) == ("1", None)
    assert not any(b"SECRET" in content for content in files.values())
    assert "rejected.parquet travels without excerpt and detail" in done.out


def test_paths_of_this_machine_do_not_travel(shell: Shell, hub: Hub, out: Path, name: str) -> None:
    why = f"exam: {out}/exam/1.0.0/manifest.json: broken; see {Path.home()}/a.txt and https://x.org{out}/b"
    exams = {"policy": "drop", "exams": [], "unchecked": [why]}
    make(out, contamination=exams)
    (out / "ward/1.0.0/croissant.json").write_text(json.dumps({"rai": why}))
    shell(out, "all", "--repo", name)
    files = hub.repo(name).files()
    for path in ("manifest.json", "README.md", "croissant.json"):
        text = files[f"ward/1.0.0/{path}"].decode()
        assert "exam: manifest.json: broken; see a.txt and " in text
        assert f"https://x.org{out}/b" in text
        assert str(Path.home()) + "/a" not in text


def test_rows_that_are_not_what_the_manifest_lists_are_not_sent(
    shell: Shell, hub: Hub, out: Path, name: str
) -> None:
    path = out / "ward/1.0.0/train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes() + b"\0")
    done = shell(out, "all", "--repo", name, code=1)
    assert f"{path}: it is not what the manifest lists; build ward again" in done.err
    path.unlink()
    assert f"{path}: it is missing" in shell(out, "all", "--repo", name, code=1).err
    assert name not in hub.repos()


def test_names_that_are_nothing(shell: Shell, hub: Hub, out: Path, tmp_path: Path) -> None:
    assert "clinic is not built in" in shell(out, "clinic", "--repo", "ORG/x", code=2).err
    assert "nothing is not built in" in shell(tmp_path / "none", "all", "--repo", "ORG/x", code=2).err
    assert "write it as ORG/NAME" in shell(out, "all", "--repo", "x", code=2).err
    assert "--repo ORG/NAME" in shell(out, "all", code=2).err
    assert (
        "--allow-terms clinic: it is not among"
        in shell(out, "all", "--repo", "ORG/x", "--allow-terms", "clinic", code=2).err
    )
    # A source stands for its datasets.
    make(out, "leaflets_short", source="leaflets")
    assert "leaflets_short/1.0.0/manifest.json" in shell(out, "leaflets", "--repo", "ORG/x", "--dry-run").out


# ---- one repository per dataset ----


def test_one_repository_per_dataset(shell: Shell, hub: Hub, out: Path) -> None:
    make(out, "clinic", files=2)
    done = shell(out, "all", "--repo", "ORG", "--one-per-dataset", "--tag")
    assert 'load_dataset("ORG/medical_meadow_ward") loads it' in done.out
    ward, clinic = hub.repo("ORG/medical_meadow_ward"), hub.repo("ORG/medical_meadow_clinic")
    assert data_of(clinic) == [f"train-0000{at}-of-00002.parquet" for at in range(2)]
    assert set(ward.tags) == {"ward-1.0.0", "v1.0.0"}
    make(out, "clinic", "1.1.0", **_OTHER)
    shell(out, "clinic", "--repo", "ORG/medical_meadow", "--one-per-dataset", "--tag")
    assert data_of(clinic) == ["train-00000-of-00001.parquet"]
    assert set(clinic.tags) == {"clinic-1.0.0", "v1.0.0", "clinic-1.1.0", "v1.1.0"}
    code = """
from datasets import load_dataset
for revision in (None, "v1.0.0"):
    found = load_dataset("ORG/medical_meadow_clinic", split="train", revision=revision)
    print(found.num_rows, found.info.version)
"""
    assert client(code, hub, without_meadow=True).stdout.splitlines() == ["4 1.1.0", "4 1.0.0"]
    # What is newer there is not replaced by what is older here.
    shutil.rmtree(out / "clinic/1.1.0")
    older = shell(out, "clinic", "--repo", "ORG", "--one-per-dataset", code=1)
    assert "holds clinic 1.1.0, which is newer than 1.0.0 here" in older.err


# ---- versions and tags ----


def test_a_tag_with_other_rows_is_refused(shell: Shell, hub: Hub, out: Path, name: str) -> None:
    shell(out, "all", "--repo", name, "--tag")
    files = hub.repo(name).files()
    make(out, keys=range(9), **_OTHER)
    for options in ((), ("--tag",)):
        done = shell(out, "all", "--repo", name, *options, code=1)
        assert "the tag ward-1.0.0 stands for other rows" in done.err
        assert "raise the builder's version" in done.err
    assert hub.repo(name).files() == files


def test_a_tagged_version_with_the_same_rows_in_other_bytes_stays(
    shell: Shell, hub: Hub, out: Path, name: str
) -> None:
    made = make(out)
    shell(out, "all", "--repo", name, "--tag")
    files = hub.repo(name).files()
    make(out, files=2, rows_sha256=made["rows_sha256"])  # as another pyarrow would write it
    done = shell(out, "all", "--repo", name, "--tag")
    assert "with the same rows in other bytes; it stays as it is" in done.out
    assert data_of(hub.repo(name)) == ["ward/1.0.0/train-00000-of-00001.parquet"]
    assert hub.repo(name).files()["ward/1.0.0/manifest.json"] == files["ward/1.0.0/manifest.json"]


def test_the_collections_version_follows_from_what_changed(
    shell: Shell, hub: Hub, out: Path, name: str
) -> None:
    def pushed() -> str:
        shell(out, "all", "--repo", name, "--tag")
        tags = [tag for tag in hub.repo(name).tags if re.fullmatch(r"v[\d.]+", tag)]
        return max(tags, key=lambda tag: [int(part) for part in tag[1:].split(".")])

    assert pushed() == "v1.0.0"
    assert pushed() == "v1.0.0"  # nothing changed
    make(out, "clinic")
    assert pushed() == "v1.1.0"  # a new dataset
    make(out, "ward", "1.0.1", rows_sha256="c3" * 32)
    assert pushed() == "v1.1.1"
    make(out, "ward", "1.1.0", rows_sha256="d4" * 32)
    assert pushed() == "v1.2.0"
    make(out, "clinic", "2.0.0", keys=range(2), rows_sha256="e5" * 32)
    assert pushed() == "v2.0.0"
    repo = hub.repo(name)
    assert "clinic-2.0.0" in repo.tags
    assert "version: 1.0.1" in repo.text("README.md", "v1.1.1")
    # Older versions lie beside newer ones, and no tag is moved.
    assert "version: 1.0.0" in repo.text("README.md", "ward-1.0.0")


def test_an_older_version_gets_no_tag(shell: Shell, hub: Hub, out: Path, tmp_path: Path, name: str) -> None:
    make(out, "ward", "2.0.0", **_OTHER)
    shell(out, "all", "--repo", name, "--tag")
    assert set(hub.repo(name).tags) == {"ward-2.0.0", "v1.0.0"}
    elsewhere = tmp_path / "elsewhere"
    make(elsewhere, "ward", "1.5.0", rows_sha256="c3" * 32)
    done = shell(elsewhere, "all", "--repo", name, "--tag")
    assert "ward 2.0.0 is on the Hub and stays current: 1.5.0 gets no tag" in done.out
    assert "version: 2.0.0" in hub.repo(name).text("README.md")
    assert "ward/1.5.0/train-00000-of-00001.parquet" in hub.repo(name).files()


# ---- other people ----


def test_somebody_was_faster(shell: Shell, hub: Hub, out: Path, name: str) -> None:
    shell(out, "all", "--repo", name)
    make(out, "clinic")
    theirs = {"ward/1.0.0/plot.svg": "<svg/>", "notes.md": "look at row 3"}
    hub.faults.meanwhile("POST", "/commit/", lambda: hub.edit(name, theirs, title="Repair \x1b[2J the ward"))
    done = shell(out, "all", "--repo", name, code=1)
    assert "somebody else has pushed since commit" in done.err
    assert "by eve: Repair \\u001b[2J the ward" in done.err
    assert "new: ward/1.0.0/plot.svg" in done.err
    assert "new: notes.md" in done.err
    repo = hub.repo(name)
    assert repo.commit().author == "eve"
    assert not any(path.startswith("clinic/") for path in repo.files())
    sent = uploads(hub, name)
    shell(out, "clinic", "--repo", name)
    assert "clinic/1.0.0/manifest.json" in repo.files()
    assert repo.text("notes.md") == "look at row 3"
    assert uploads(hub, name) == sent  # they were there already


def test_rows_that_somebody_else_pushed_are_not_replaced(
    shell: Shell, hub: Hub, out: Path, tmp_path: Path, name: str
) -> None:
    shell(out, "all", "--repo", name)
    theirs = tmp_path / "theirs"
    made = make(theirs, keys=range(6), rows_sha256="c3" * 32)
    there = "ward/1.0.0/train-00000-of-00001.parquet"
    hub.edit(
        name,
        {there: (theirs / there).read_bytes(), "ward/1.0.0/manifest.json": json.dumps(made)},
        title="Mine",
    )
    make(out, keys=range(5), **_OTHER)
    done = shell(out, "all", "--repo", name, code=1)
    assert "ward 1.0.0 with other rows is there, which this output folder did not push" in done.err
    assert f"by eve: Mine\n  changed: ward/1.0.0/manifest.json\n  changed: {there}" in done.err
    assert hub.repo(name).files()[there] == (theirs / there).read_bytes()
    shell(theirs, "all", "--repo", name)  # the same rows: nothing is replaced
    head = hub.repo(name).head
    assert "somebody else has pushed" in shell(out, "all", "--repo", name, "--parent", "0" * 40, code=1).err
    shell(out, "all", "--repo", name, "--parent", head[:12])
    assert hub.repo(name).files()[there] == (out / there).read_bytes()


def test_rows_that_somebody_changed_beside_the_manifest_are_not_replaced(
    shell: Shell, hub: Hub, out: Path, tmp_path: Path, name: str
) -> None:
    shell(out, "all", "--repo", name)
    make(tmp_path / "theirs", keys=range(6))
    there = "ward/1.0.0/train-00000-of-00001.parquet"
    theirs = (tmp_path / "theirs" / there).read_bytes()
    hub.edit(name, {there: theirs, "ward/1.0.0/plot.svg": "<svg/>"}, title="Mine")
    done = shell(out, "all", "--repo", name, code=1)
    assert "ward/1.0.0/*.parquet with other rows is there, which this output folder did not push" in done.err
    assert f"\n  changed: {there}" in done.err
    assert hub.repo(name).files()[there] == theirs
    done = shell(out, "all", "--repo", name, "--parent", hub.repo(name).head[:12])
    assert f"others have pushed since, and it stays, but for ward/1.0.0/plot.svg, {there}: " in done.out


def test_rows_that_meadow_did_not_make_are_not_replaced(shell: Shell, hub: Hub, out: Path) -> None:
    make(out, "lab")
    rows = (out / "ward/1.0.0/train-00000-of-00001.parquet").read_bytes()
    hub.create("ORG/medical_meadow_lab")
    hub.edit(
        "ORG/medical_meadow_lab", {"train-00000-of-00002.parquet": rows, "medical_meadow_lab.json": "[]"}
    )
    repo = hub.repo("ORG/medical_meadow_lab")
    done = shell(out, "lab", "--repo", "ORG", "--one-per-dataset", code=1)
    assert "*.parquet with other rows is there, which this output folder did not push" in done.err
    shell(out, "lab", "--repo", "ORG", "--one-per-dataset", "--parent", repo.head)
    assert data_of(repo) == ["train-00000-of-00001.parquet"]
    assert "medical_meadow_lab.json" in repo.files()
    # Files of people stay, the citation that they wrote among them.
    hub.edit(repo.id, {"CITATION.cff": "title: ours\n"})
    make(out, "lab", "1.0.1", **_OTHER)
    shell(out, "lab", "--repo", "ORG", "--one-per-dataset")
    assert repo.text("CITATION.cff") == "title: ours\n"
    assert "version: 1.0.1" in repo.text("README.md")


def test_what_people_write_on_the_hub_stays(shell: Shell, hub: Hub, out: Path, name: str) -> None:
    shell(out, "all", "--repo", name)
    repo = hub.repo(name)
    top = repo.text("README.md")
    top = top.replace("pretty_name:", "arxiv: 2304.08247 # ours\npretty_name:", 1).replace(
        "- medical\n", "- medical\n- nursing\n", 1
    )
    top = top.replace("## Citation", "Ask Eve first.\n\n## Citation", 1)  # into a section of words
    top += "\n## Contact\n\nEve, in room 12.\n"
    card = repo.text("ward/1.0.0/README.md").replace("| train |", "| TRAIN |") + "\nSeen by Eve.\n"
    hub.edit(name, {"README.md": top, "ward/1.0.0/README.md": card})
    make(out, "clinic")
    make(out, "ward", "1.0.1", rows_sha256="c3" * 32)
    shell(out, "all", "--repo", name)
    merged = repo.text("README.md")
    for theirs in (
        "arxiv: 2304.08247 # ours",
        "- nursing",
        "Ask Eve first.",
        "## Contact\n\nEve, in room 12.",
    ):
        assert merged.count(theirs) == 1, theirs
    assert re.findall(r"config_name: (\w+)", merged) == ["clinic", "ward"]
    assert "| [clinic](<clinic/1.0.0/README.md>)" in merged
    assert "1.0.1" in merged
    # The card of the same version, and that of the next, which goes on from it.
    for version in ("1.0.0", "1.0.1"):
        text = repo.text(f"ward/{version}/README.md")
        assert text.count("Seen by Eve.") == 1
        assert "| TRAIN |" not in text
    assert repo.text("CITATION.cff").startswith("# Written by Meadow")
    assert "Medical Meadow: clinic" in repo.text("CITATION.cff")
    hub.edit(name, {"CITATION.cff": "title: ours\n"})
    assert problems(merged) == []
    again = len(repo.commits())
    shell(out, "all", "--repo", name)
    assert len(repo.commits()) == again
    assert repo.text("CITATION.cff") == "title: ours\n"


def test_a_manifest_on_the_hub_that_is_none(shell: Shell, hub: Hub, out: Path, name: str) -> None:
    make(out, "clinic")
    shell(out, "all", "--repo", name)
    for text in ("{}", "[]", "no JSON", '{"name": "\\u001b[2J", "version": "1.0.0"}'):
        hub.edit(name, {"clinic/1.0.0/manifest.json": text})
        done = shell(out, "ward", "--repo", name, code=1)
        assert f"clinic/1.0.0/manifest.json of {name}: " in done.err
        assert "\x1b" not in done.err
    shell(out, "all", "--repo", name)  # which brings it again


def test_a_card_that_a_person_began(shell: Shell, hub: Hub, out: Path, name: str) -> None:
    hub.create(name)
    hub.edit(name, {"README.md": "# Our own title\n\nOur own words.\n"})
    shell(out, "all", "--repo", name)
    text = hub.repo(name).text("README.md")
    assert "# Our own title\n\nOur own words." in text
    assert "pretty_name: Our own title" in text
    assert "\n# Medical Meadow\n" not in text
    assert problems(text) == []


def test_yaml_that_cannot_be_read_stays_in_the_card(out: Path) -> None:
    mine = (out / "README.md").read_text()
    text = cards.merge_cards(cards.DATASET, mine, "---\nlicense: [mit\nours: 1\n---\n\nOur own words.\n")
    assert "Our own words." in text
    assert "Repair it and move it back:\n\n```yaml\nlicense: [mit\nours: 1\n```" in text
    assert problems(text) == []
    assert cards.merge_cards(cards.DATASET, mine, text) == text


def test_words_edited_here_travel_and_text_between_them_is_told_of(
    shell: Shell, hub: Hub, out: Path, name: str
) -> None:
    path = out / "ward/1.0.0/README.md"
    shell(out, "all", "--repo", name)
    edited = path.read_text().replace("Built by Meadow from", "Built by night from") + "\nSeen by Ada.\n"
    path.write_text(edited)
    done = shell(out, "all", "--repo", name)
    there = hub.repo(name).text("ward/1.0.0/README.md")
    assert "Built by night from" in there
    assert "Seen by Ada." not in there
    assert "does not travel: 'Seen by Ada.'" in done.out


# ---- what is refused ----


@pytest.mark.parametrize(
    ("changes", "reason", "option"),
    [
        ({"sample": True}, "which is not the real data", ["--allow-sample"]),
        ({"spdx": _RESERVED}, f"{_RESERVED} (4 rows) gives no leave", ["--allow-terms", "ward"]),
        ({"spdx": "LicenseRef-disputed"}, "does not settle it", ["--allow-terms", "ward"]),
        ({"spdx": "LicenseRef-unknown"}, "does not settle it", ["--allow-terms", "ward"]),
        (
            {"privacy": {"policy": "flag", "rows": 2, "findings": {"EMAIL": 1, "NAME": 2}}},
            "3 findings that could identify a person, in 2 of its rows, were not masked (NAME 2, EMAIL 1)",
            ["--allow-privacy"],
        ),
        ({"privacy": {"policy": "off", "rows": 0, "findings": {}}}, "were not screened", ["--allow-privacy"]),
        ({"privacy": None}, "were not screened", ["--allow-privacy"]),
        ({"test_only": True}, "an exam, for scoring only", ["--allow-public-exam"]),
    ],
)  # fmt: skip
def test_refused_unless_told_otherwise(
    shell: Shell, hub: Hub, out: Path, name: str, changes: dict[str, Any], reason: str, option: list[str]
) -> None:
    make(out, **changes)
    make(out, "clinic")
    for dry in ((), ("--dry-run",)):
        done = shell(out, "all", "--repo", name, *dry, code=1)
        assert "ward 1.0.0: " in done.err
        assert reason in done.err
        assert f"({' '.join(option)} sends it all the same)" in done.err
        assert f"the others can travel: meadow push clinic --repo {name}" in done.err
        assert name not in hub.repos()
    shell(out, "all", "--repo", name, *option)
    assert data_of(hub.repo(name))[1] == "ward/1.0.0/train-00000-of-00001.parquet"


def test_all_reasons_are_told_at_once(shell: Shell, hub: Hub, out: Path, name: str) -> None:
    make(out, sample=True, test_only=True)
    make(out, "clinic", spdx=_RESERVED)
    make(out, "lab", sample=True)
    err = shell(out, "all", "--repo", name, code=1).err
    assert [line.split(":")[0] for line in err.splitlines() if line.startswith("  - ")] == [
        "  - clinic 1.0.0",
        "  - lab 1.0.0, ward 1.0.0",
        "  - ward 1.0.0",
    ]
    assert "(--allow-sample sends them all the same)" in err


def test_the_rest_is_offered_with_its_options(shell: Shell, out: Path, name: str) -> None:
    make(out, "clinic", sample=True)
    done = shell(out, "all", "--repo", name, "--private", "--tag", code=1)
    assert f"meadow push ward --repo {name} --out {out} --private --tag" in done.err


def test_what_nobody_masked_in_a_mixture(shell: Shell, hub: Hub, out: Path, name: str) -> None:
    made = make(out, privacy={"policy": "flag", "rows": 0, "findings": {}})
    part = {
        **{
            "dataset": "ward",
            "version": "1.0.0",
            "split": ["train"],
            "wanted": 2,
            "available": 2,
            "taken": 2,
        },
        **{"ids_sha256": made["ids_sha256"], "rows_sha256": made["rows_sha256"], "sample": False},
        **{"contamination": {}, "privacy": {"policy": "flag"}, "duplicates": {}},
    }
    mixture = {
        **{"name": "mine", "definition_sha256": "d4" * 32, "seed": 0, "complete": True, "parts": [part]},
        **{"missing": [], "not_in_meadow": [], "counts_from": "", "licensing": {}},
    }
    make(out, "mixture_mine", mixture=mixture, privacy=None)
    shell(out, "mixture_mine", "--repo", name, "--dry-run")  # nothing was found in the ward's rows
    mixture["parts"][0]["sample"] = True
    make(out, "mixture_mine", mixture=mixture, privacy=None)
    assert "mixture_mine 1.0.0: built from the sample" in shell(out, "all", "--repo", name, code=1).err
    mixture["parts"][0] |= {"sample": False, "rows_sha256": "0" * 64}
    make(out, "mixture_mine", mixture=mixture, privacy=None)
    assert "its rows from ward may hold findings" in shell(out, "mixture_mine", "--repo", name, code=1).err


def test_an_older_version_that_must_not_travel_stays(shell: Shell, hub: Hub, out: Path, name: str) -> None:
    make(out, sample=True)
    make(out, "ward", "1.1.0", **_OTHER)
    done = shell(out, "all", "--repo", name)
    assert "stays  ward/1.0.0: built from the sample" in done.out
    assert data_of(hub.repo(name)) == ["ward/1.1.0/train-00000-of-00001.parquet"]


def test_exams_may_go_to_private_repositories_without_their_example(
    shell: Shell, hub: Hub, out: Path, name: str
) -> None:
    make(out, test_only=True)
    assert "What is ward 0?" in (out / "ward/1.0.0/README.md").read_text()
    done = shell(out, "all", "--repo", name, "--private")
    repo = hub.repo(name)
    assert repo.private
    assert "travel without their example row" in done.out
    texts = [content.decode() for path, content in repo.files().items() if path.endswith((".md", ".json"))]
    assert not any("What is ward 0?" in text for text in texts)
    assert json.loads(repo.text("ward/1.0.0/manifest.json"))["example"] is None
    assert "## What it is" in repo.text("ward/1.0.0/README.md")
    # What is private stays so; and no public one becomes private in silence.
    shell(out, "all", "--repo", name)
    hub.create(f"{name}-2")
    wrong = shell(out, "all", "--repo", f"{name}-2", "--private", code=1)
    assert "is public already, and --private is for repositories that are made now" in wrong.err


def test_samples_built_by_meadow(shell: Shell, hub: Hub, tmp_path: Path, name: str) -> None:
    out = tmp_path / "built"
    assert not build_datasets(["usmle"], raw=None, out=out, sample=True, workers=1).failed
    done = shell(out, "all", "--repo", name, code=1)
    assert "usmle_self_assessment 1.0.0: built from the sample" in done.err
    assert "usmle_self_assessment 1.0.0: an exam" in done.err
    shell(out, "all", "--repo", name, "--allow-sample", "--private")
    repo = hub.repo(name)
    assert "### One row" in (out / "usmle_self_assessment/1.0.0/README.md").read_text()
    assert "### One row" not in repo.text("usmle_self_assessment/1.0.0/README.md")
    assert problems(repo.text("README.md")) == []
    example = Store(out).manifest("usmle_self_assessment").example["input"]
    for path, content in repo.files().items():
        assert path.endswith(".parquet") or example[:40] not in content.decode(), path


# ---- when something goes wrong ----


def test_killed_while_uploading(hub: Hub, out: Path, name: str, shell: Shell) -> None:
    shell(out, "all", "--repo", name)
    files, sent = hub.repo(name).files(), uploads(hub, name)
    for number in range(3):
        make(out, f"clinic{number}", files=2)
    held = hub.faults.meanwhile("PUT", "/lfs/", lambda: time.sleep(20), skip=3, times=None)
    command = [sys.executable, "-m", "meadow", "push", "all", "--repo", name, "--out", str(out)]
    process = subprocess.Popen(command, cwd=hub.home, env=environment(hub), stderr=subprocess.PIPE)
    with Path(f"/proc/{process.pid}/cmdline").open("rb") as stream:
        assert hub.token.encode() not in stream.read()
    limit = time.monotonic() + 30
    while (not held.hits or uploads(hub, name) < sent + 3) and time.monotonic() < limit:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    hub.faults.clear()
    assert hub.repo(name).files() == files
    arrived = {sha256 for repo, sha256, _ in hub.uploads if repo == name}
    assert len(arrived) >= sent + 3
    before = len(hub.uploads)
    shell(out, "all", "--repo", name)
    again = {sha256 for repo, sha256, _ in hub.uploads[before:] if repo == name}
    assert not arrived & again
    assert len(data_of(hub.repo(name))) == 7


def test_a_connection_cut_in_the_middle_of_an_upload(shell: Shell, hub: Hub, out: Path, name: str) -> None:
    cut = hub.faults.cut("PUT", "/lfs/", after=500)
    shell(out, "all", "--repo", name)
    assert cut.hits == 1
    assert len(data_of(hub.repo(name))) == 1


def test_an_upload_that_is_refused_leaves_all_as_it_was(shell: Shell, hub: Hub, out: Path, name: str) -> None:
    hub.create(name)
    files = hub.repo(name).files()
    hub.faults.fail("PUT", "/lfs/", 403, skip=1)
    done = shell(out, "all", "--repo", name, "--tag", code=1)
    assert "uploading to" in done.err
    assert "403" in done.err
    assert "signature" not in done.err
    assert (hub.repo(name).files(), hub.repo(name).tags) == (files, {})
    arrived = [sha256 for repo, sha256, _ in hub.uploads if repo == name]
    shell(out, "all", "--repo", name, "--tag")
    every = [sha256 for repo, sha256, _ in hub.uploads if repo == name]
    assert len(every) == len(set(every))  # none was sent twice
    assert every[: len(arrived)] == arrived


@pytest.mark.parametrize("fault", ["lost answer", "500", "429"])
def test_a_commit_is_made_once(shell: Shell, hub: Hub, out: Path, name: str, fault: str) -> None:
    if fault == "lost answer":
        hub.faults.lose_answer("POST", "/commit/")
    else:
        hub.faults.fail("POST", "/commit/", int(fault), retry_after=0 if fault == "429" else None)
    shell(out, "all", "--repo", name, "--tag")
    repo = hub.repo(name)
    assert [commit.title for commit in repo.commits()] == ["Meadow: ward 1.0.0", "initial commit"]
    assert repo.tags["ward-1.0.0"] == repo.head


def test_cut_off_between_commit_and_tags(shell: Shell, hub: Hub, out: Path, name: str) -> None:
    hub.faults.fail("POST", "/tag/", 403, skip=1, message="not now")
    done = shell(out, "all", "--repo", name, "--tag", code=1)
    assert "the token may not do this" in done.err
    assert "(not now)" in done.err
    assert "The commit is made, and the next push gives it the tags that it lacks" in done.err
    repo = hub.repo(name)
    assert set(repo.tags) == {"ward-1.0.0"}
    shell(out, "all", "--repo", name, "--tag")
    assert repo.tags == {"ward-1.0.0": repo.head, "v1.0.0": repo.head}
    assert len(repo.commits()) == 2


def test_a_busy_hub_is_waited_for(shell: Shell, hub: Hub, out: Path, name: str) -> None:
    begun = time.monotonic()
    struck = [
        hub.faults.fail("GET", f"/api/datasets/{name}/revision", 429, retry_after=1),
        hub.faults.fail("POST", "/api/repos/create", 503, retry_after=0),
        hub.faults.fail("POST", "/tag/", 429, retry_after=0),
        hub.faults.lose_answer("POST", "/tag/", skip=1),
    ]
    shell(out, "all", "--repo", name, "--tag")
    assert [fault.hits for fault in struck] == [1, 1, 1, 1]
    assert time.monotonic() - begun >= 1
    assert set(hub.repo(name).tags) == {"ward-1.0.0", "v1.0.0"}


def test_tokens_that_do_not_do(shell: Shell, hub: Hub, out: Path, name: str) -> None:
    wrong = "hf_" + "a1B2" * 8
    done = shell(out, "all", "--repo", name, code=1, HF_TOKEN=wrong)
    assert "the Hub does not accept the token" in done.err
    assert "hf auth login" in done.err
    assert wrong not in done.err
    done = shell(out, "all", "--repo", name, code=1, HF_TOKEN=None)
    assert "no token for the Hub: log in with `hf auth login`, or set HF_TOKEN" in done.err
    hub.create(name)
    for token in (hub.read_token, hub.stranger):
        done = shell(out, "all", "--repo", name, code=1, HF_TOKEN=token)
        assert "403: the token may not do this in" in done.err
    assert set(hub.repo(name).files()) == {".gitattributes"}
    # To look costs no token.
    shell(out, "all", "--repo", name, "--dry-run", HF_TOKEN=None)
    # A server that answers with the token does not get it into a message.
    hub.faults.fail(
        "POST", "/preupload/", 400, message=f"bad token {hub.token} in https://x.example/a?sig=SECRET"
    )
    done = shell(out, "all", "--repo", name, code=1)
    assert "[token]" in done.err
    assert "SECRET" not in done.err


def test_a_gitignore_on_the_hub_is_told_of(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import CommitOperationAdd, HfApi

    def preupload(self: HfApi, repo: str, additions: list[CommitOperationAdd], **_: Any) -> None:
        for addition in additions:
            addition._should_ignore = addition.path_in_repo.endswith(".parquet")

    monkeypatch.setattr(HfApi, "preupload_lfs_files", preupload)
    files = [CommitOperationAdd(path, b"x") for path in ("a.parquet", "b.json")]
    with pytest.raises(HubError, match=r"^ORG/x: its \.gitignore keeps a\.parquet out; take the line away"):
        Client().upload("ORG/x", files)


def test_no_hub_there(hub: Hub, out: Path, name: str) -> None:
    command = ["-m", "meadow", "push", "all", "--repo", name, "--out", str(out)]
    done = client(command, hub, check=False, HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert "HF_HUB_OFFLINE is set; take it away to reach the Hub" in done.stderr
    assert "Traceback" not in done.stderr


# ---- models ----

_RUN = {
    "form": 1,
    "method": "lora",
    "base_model": {"path": "/home/ada/models/tiny", "name": "tiny", "fingerprint": "a1", "license": "apache-2.0"},
    "settings": {"output": "/home/ada/runs/13b", "data": ["/data/ward.jsonl", "../ada/clinic.jsonl"], "learning_rate": 1e-4, "ratio": "1/2"},
    "data": [
        {
            "name": "ward",
            "version": "1.0.0",
            "rows": 4,
            "trained_rows": 4,
            "sample": False,
            "licenses": {"CC-BY-SA-4.0": 4},
            "license_verdict": {"rows": 4, "training": {"answer": "yes", "because": ["No row's terms speak against it."]}},
        }
    ],
}  # fmt: skip


def tensors(size: int = 8) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [size], "data_offsets": [0, 4 * size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4 * size)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "13b"
    (folder / "checkpoints/checkpoint-10").mkdir(parents=True)
    (folder / "checkpoints/checkpoint-10/optimizer.pt").write_bytes(b"\x80\x04")
    (folder / ".meadow").mkdir()
    for path, content in {
        "run.json": json.dumps(_RUN),
        "README.md": "---\nlicense: other\nbase_model: tiny\ntags:\n- medical\n- lora\n---\n\n# 13b\n",
        "adapter_config.json": json.dumps({"base_model_name_or_path": "/home/ada/models/tiny", "r": 8}),
        "tokenizer_config.json": json.dumps({"name_or_path": "/home/ada/models/tiny", "eos_token": "/s"}),
        "tokenizer.json": "{}",
        "meadow_template.json": "{}",
        "loss.svg": "<svg/>",
        "settings.yaml": "output: /home/ada/runs/13b\n",
        "left_out.jsonl": "{}\n",
    }.items():
        (folder / path).write_text(content)
    (folder / "adapter_model.safetensors").write_bytes(tensors())
    (folder / "training_args.bin").write_bytes(b"\x80\x04")
    return folder


def test_a_model_travels_with_its_record_and_card(shell: Shell, hub: Hub, model: Path, name: str) -> None:
    planned = shell(model, "--model", model, "--repo", name, "--dry-run").out
    assert name not in hub.repos("models")
    assert "stays  training_args.bin: a pickle runs code on whoever opens it" in planned
    assert "stays  checkpoints/: a checkpoint is no model" in planned
    shell(model, "--model", model, "--repo", name, "--private")
    repo = hub.repo(name, "models")
    assert repo.private
    assert set(repo.files()) == {
        ".gitattributes",
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "loss.svg",
        "meadow_template.json",
        "run.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert repo.files()["adapter_model.safetensors"] == tensors()
    run = json.loads(repo.text("run.json"))
    assert run["base_model"] == {**_RUN["base_model"], "path": "tiny"}
    assert run["settings"] == {
        "output": "13b",
        "data": ["ward.jsonl", "clinic.jsonl"],
        "learning_rate": 1e-4,
        "ratio": "1/2",
    }
    assert "/home/ada" not in "".join(c.decode("latin-1") for c in repo.files().values())
    assert json.loads(repo.text("adapter_config.json")) == {"base_model_name_or_path": "tiny", "r": 8}
    assert json.loads(repo.text("tokenizer_config.json")) == {"name_or_path": "tiny", "eos_token": "/s"}

    hub.edit(
        name,
        {
            "README.md": repo.text("README.md").replace("---\n\n#", "datasheet: ours\n---\n\n#")
            + "\nEve was here.\n"
        },
        "models",
    )
    (model / "README.md").write_text("---\nlicense: apache-2.0\ntags:\n- medical\n---\n\n# 13b\n")
    done = shell(model, "--model", model, "--repo", name)
    assert "  1 file, " in done.out
    card = repo.text("README.md")
    assert "datasheet: ours" in card
    assert "Eve was here." in card
    assert "license: apache-2.0" in card
    assert "base_model" not in card
    assert "- lora" not in card
    # Weights of another shape replace these, and none is left over.
    (model / "adapter_model.safetensors").unlink()
    (model / "model.safetensors").write_bytes(tensors(4))
    shell(model, "--model", model, "--repo", name)
    assert "adapter_model.safetensors" not in repo.files()


def test_models_that_are_refused(shell: Shell, hub: Hub, model: Path, name: str) -> None:
    entry, base = _RUN["data"][0], {**_RUN["base_model"], "license": None}
    why = {"answer": "unsettled", "because": ["LicenseRef-unknown (4 rows) grants nothing."]}
    data = [{**entry, "sample": True}, {**entry, "name": "decks", "license_verdict": {"training": why}}]
    (model / "run.json").write_text(json.dumps({**_RUN, "base_model": base, "data": data}))
    done = shell(model, "--model", model, "--repo", name, code=1)
    assert "13b: it was trained on the samples of ward" in done.err
    assert "13b: the licence of its base model tiny is not known" in done.err
    assert "13b: training on decks: unsettled. LicenseRef-unknown (4 rows) grants nothing." in done.err
    assert name not in hub.repos("models")
    options = ("--allow-sample", "--allow-terms", "tiny", "--allow-terms", "decks")
    shell(model, "--model", model, "--repo", name, *options, "--dry-run")
    assert (
        "the model is made of"
        in shell(model, "--model", model, "--repo", name, "--allow-terms", "x", code=2).err
    )
    assert "--model goes with" in shell(model, "all", "--model", model, "--repo", name, code=2).err


def test_weights_that_somebody_else_put_there_stay(shell: Shell, hub: Hub, model: Path, name: str) -> None:
    hub.create(name, "models")
    hub.edit(name, {"model.safetensors": tensors(2)}, "models")
    head = hub.repo(name, "models").head
    done = shell(model, "--model", model, "--repo", name, code=1)
    assert "model.safetensors is there and no run.json" in done.err
    assert hub.repo(name, "models").head == head


def test_folders_that_are_no_models(shell: Shell, model: Path, name: str) -> None:
    def told() -> str:
        return shell(model, "--model", model, "--repo", name, code=1).err

    weights = model / "adapter_model.safetensors"
    weights.write_bytes(b"\x80\x04\x95" + bytes(100))  # a pickle by another name
    assert "it is no safetensors file, whatever its name says" in told()
    weights.write_bytes(tensors()[:-4])
    assert "it is cut off" in told()
    weights.unlink()
    assert "no weights as safetensors, only training_args.bin" in told()
    (model / "model.safetensors.index.json").write_text(
        '{"weight_map": {"w": "model-00001-of-00002.safetensors"}}'
    )
    (model / "model.safetensors").write_bytes(tensors())
    assert "model-00001-of-00002.safetensors is missing" in told()
    (model / "README.md").unlink()
    assert "a model without a card is not sent" in told()
    (model / "run.json").write_text("{}")
    assert "it has no list `data`" in told()
    (model / "run.json").unlink()
    assert "only a finished run can be pushed" in told()
