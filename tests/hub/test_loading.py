"""What was pushed loads by name with no Meadow installed, and follows the conventions of the Hub's viewer."""

from __future__ import annotations

import fnmatch
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from meadow.api import build_datasets
from meadow.core.row import COLUMNS
from tests.hub_server import Hub, client, hub, running  # noqa: F401
from tests.hubcards import problems
from tests.toy import Other, Toy, put, row

#: Code that somebody without Meadow and without a token writes; what it prints last is looked at.
BEGIN = """
import json
import datasets
from datasets import load_dataset
def told(**values): print("\\n" + json.dumps(values, default=str))
"""


class Later(Toy):
    """The toy's records changed."""

    version = "2.0.0"
    release_notes = MappingProxyType({"1.0.0": "First version.", "2.0.0": "More records."})


@dataclass(frozen=True)
class Published:
    """A Hub with a collection that was pushed in four steps, and the output folder it came from."""

    hub: Hub
    out: Path

    def load(self, code: str, **env: str | None) -> dict[str, Any]:
        """Runs code with no Meadow, and with no token unless one is given."""
        done = client(BEGIN + code, self.hub, without_meadow=True, **{"HF_TOKEN": None, **env})
        assert self.hub.unknown == []
        return json.loads(done.stdout.splitlines()[-1])


def push(server: Hub, out: Path, *arguments: str, check: bool = True) -> Any:
    """Runs ``meadow push``; samples may pass."""
    words = ["-m", "meadow", "push", *arguments, "--out", str(out), "--allow-sample"]
    return client(words, server, check=check)


def build_toy(out: Path, cls: type[Toy], records: int) -> None:
    raw = out.parent / f"raw-{cls.__name__}-{records}"
    put(raw, f"{cls.name}/notes.jsonl", *(row(f"{cls.name} {n}", level=n) for n in range(records)))
    report = build_datasets([cls.name], raw=raw, out=out, builders={cls.name: cls})
    assert report.failed == {}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """Pushed as v1.0.0, v1.1.0 and v1.2.0, each with more datasets, and v2.0.0 with changed records."""
    folder = tmp_path_factory.mktemp("published")
    out = folder / "out"
    (folder / "raw").mkdir()
    assert build_datasets(["wikidoc"], raw=folder / "raw", out=out, sample=True).failed == {}
    with running(folder) as server:
        push(server, out, "wikidoc", "--repo", "ORG/NAME", "--tag")
        build_toy(out, Toy, 40)
        push(server, out, "all", "--repo", "ORG/NAME", "--tag")
        build_toy(out, Other, 30)
        push(server, out, "other", "--repo", "ORG/NAME", "--tag")
        build_toy(out, Later, 60)
        push(server, out, "all", "--repo", "ORG/NAME", "--tag")
        assert server.unknown == []
        server.log.clear()
        yield Published(server, out)


def local(out: Path, name: str, version: str) -> dict[str, list[dict[str, Any]]]:
    """The rows that were built, by split."""
    manifest = json.loads((out / name / version / "manifest.json").read_text())
    return {
        split: [row for file in entry["files"] for row in pq.read_table(out / name / version / file["path"]).to_pylist()]
        for split, entry in manifest["splits"].items()
    }  # fmt: skip


def test_by_name_as_it_was_built_whole_and_streamed(published: Published) -> None:
    found = published.load("""
data = load_dataset("ORG/NAME", "wikidoc")
builder = datasets.load_dataset_builder("ORG/NAME", "wikidoc")
stream = load_dataset("ORG/NAME", "toy", split="train", streaming=True)
told(rows={s: list(d) for s, d in data.items()}, version=str(builder.info.version),
     features={k: str(v) for k, v in data["train"].features.items()},
     names=datasets.get_dataset_config_names("ORG/NAME"), splits=datasets.get_dataset_split_names("ORG/NAME", "wikidoc"),
     default=len(load_dataset("ORG/NAME")["train"]), part=len(load_dataset("ORG/NAME", "wikidoc", split="train[:50%]")),
     streamed=list(stream), some=list(stream.skip(5).take(3)), columns=stream.column_names)
""")
    expected, toy = local(published.out, "wikidoc", "1.0.0"), local(published.out, "toy", "2.0.0")
    train = expected["train"]
    assert found["rows"] == expected
    assert found["version"] == "1.0.0"
    assert list(found["features"])[:4] == ["instruction", "input", "output", "id"]
    assert found["features"]["authors"] == "List({'name': Value('string'), 'url': Value('string')})"
    assert found["names"] == ["other", "toy", "toy_hard", "wikidoc", "wikidoc_patient_information"]
    assert found["splits"] == list(expected)
    assert (found["default"], found["part"]) == (
        len(train),
        round(len(train) / 2),
    )  # wikidoc is the default one
    assert found["streamed"] == toy["train"]
    assert found["some"] == toy["train"][5:8]
    assert found["columns"] == [*COLUMNS, "level"]
    # No token was sent, and none was needed.
    assert {seen.user for seen in published.hub.log} == {None}


def test_revisions(published: Published) -> None:
    repo = published.hub.repo("ORG/NAME")
    assert set(repo.tags) == {
        *("v1.0.0", "v1.1.0", "v1.2.0", "v2.0.0"),
        *("wikidoc-1.0.0", "wikidoc_patient_information-1.0.0", "other-1.0.0"),
        *("toy-1.0.0", "toy_hard-1.0.0", "toy-2.0.0", "toy_hard-2.0.0"),
    }
    found = published.load("""
def count(name, revision): return sum(map(len, load_dataset("ORG/NAME", name, revision=revision).values()))
first = next(iter(load_dataset("ORG/NAME", "toy", revision="v1.2.0", split="train", streaming=True)))
told(toy=[count("toy", r) for r in ("v1.1.0", "v1.2.0", "toy-1.0.0", "toy-2.0.0", "v2.0.0", "main")], first=first,
     names=[datasets.get_dataset_config_names("ORG/NAME", revision=r) for r in ("v1.0.0", "v1.2.0")],
     wikidoc=count("wikidoc", "wikidoc-1.0.0"))
""")
    assert found["toy"] == [40, 40, 40, 60, 60, 60]
    assert found["first"] == local(published.out, "toy", "1.0.0")["train"][0]
    assert found["names"] == [
        ["wikidoc"],
        ["other", "toy", "toy_hard", "wikidoc", "wikidoc_patient_information"],
    ]
    assert found["wikidoc"] == sum(map(len, local(published.out, "wikidoc", "1.0.0").values()))


def test_pandas_and_pyarrow_read_the_files(published: Published) -> None:
    path = "ORG/NAME/wikidoc/1.0.0/train-00000-of-00001.parquet"
    found = published.load(f"""
import pandas, pyarrow.parquet as pq
from huggingface_hub import HfFileSystem
frame = pandas.read_parquet("hf://datasets/{path}")
older = pandas.read_parquet("hf://datasets/ORG/NAME@v1.2.0/toy/1.0.0/train-00000-of-00001.parquet", columns=["id", "level"])
table = pq.read_table("datasets/{path}", filesystem=HfFileSystem(), columns=["license"])
told(ids=list(frame["id"]), columns=list(frame.columns), older=older.to_dict("list"), licenses=table["license"].to_pylist())
""")
    train = local(published.out, "wikidoc", "1.0.0")["train"]
    toy = local(published.out, "toy", "1.0.0")["train"]
    assert found["ids"] == [row["id"] for row in train]
    assert found["columns"][:3] == ["instruction", "input", "output"]
    assert found["older"] == {"id": [row["id"] for row in toy], "level": [row["level"] for row in toy]}
    assert found["licenses"] == [row["license"] for row in train]
    # Columns are read by ranges, from the storage, without a token.
    assert any(seen.status == 206 for seen in published.hub.sent("GET", "^/lfs/"))


def test_the_conventions_of_the_viewer(published: Published) -> None:
    repo = published.hub.repo("ORG/NAME")
    for revision in ("v1.0.0", "v1.2.0", "main"):
        files = repo.files(revision)
        card = files["README.md"].decode()
        assert problems(card) == []
        front = yaml.safe_load(card.split("---\n")[1])
        configs = {config["config_name"]: config for config in front["configs"]}
        assert len(configs) == len(front["configs"])
        assert [name for name, config in configs.items() if config.get("default")] == ["wikidoc"]
        shown: set[str] = set()
        for name, config in configs.items():
            schemas = []
            for entry in config["data_files"]:
                assert re.fullmatch(r"\w+(\.\w+)*", entry["split"])
                mine = fnmatch.filter(files, entry["path"])
                assert (
                    [path.rsplit("/", 1)[1] for path in sorted(mine)]
                    == [f"{entry['split']}-{n:05d}-of-{len(mine):05d}.parquet" for n in range(len(mine))]
                    != []
                )
                assert not shown & set(mine)
                shown |= set(mine)
                for path in mine:
                    with pq.ParquetFile(io.BytesIO(files[path])) as file:
                        schemas.append(file.schema_arrow)
                        # The viewer reads whole row groups; 100 to 300 MB is what it asks for at most.
                        sizes = [
                            file.metadata.row_group(n).total_byte_size for n in range(file.num_row_groups)
                        ]
                        assert max(sizes) < 100e6
            assert all(schema.equals(schemas[0]) for schema in schemas), name
            # The folder's own card loads the same.
            folder = config["data_files"][0]["path"].rsplit("/", 1)[0]
            assert problems(files[f"{folder}/README.md"].decode()) == []
        # What lies beside the rows is in no config; nothing else is there.
        beside = {path.rsplit("/", 1)[1] for path in files if path.endswith(".parquet") and path not in shown}
        older = (
            {path for path in files if path.startswith("toy") and "/1.0.0/" in path}
            if revision == "main"
            else ()
        )
        assert {name for name in beside if not re.search(r"-of-\d+\.parquet$", name)} <= {
            *("rejected.parquet", "duplicates.parquet", "contamination.parquet"),
            *("privacy.parquet", "ATTRIBUTION.parquet"),
        }
        of_rows = {path for path in files if re.search(r"-of-\d+\.parquet$", path)}
        assert {path for path in of_rows - shown if path not in older} == set()
        assert not [
            path for path in files if ".lock" in path.removesuffix(".lock.json") or path.startswith(".meadow")
        ]
        assert not [path for path in files if path.endswith(".py")]


def test_private_repositories_of_one_dataset_each(published: Published) -> None:
    server = published.hub
    push(
        server, published.out, "toy", "wikidoc", "--repo", "ORG/x", "--one-per-dataset", "--private", "--tag"
    )
    names = [name for name in server.repos() if name != "ORG/NAME"]
    assert names == ["ORG/medical_meadow_toy", "ORG/medical_meadow_wikidoc"]
    assert [server.repo(name).private for name in names] == [True, True]
    found = published.load(f"""
errors = []
for token in (False, {server.stranger!r}):
    try: load_dataset("ORG/medical_meadow_toy", token=token)
    except Exception as error: errors.append(type(error).__name__)
data = load_dataset("ORG/medical_meadow_toy", token={server.read_token!r})
stream = load_dataset("ORG/medical_meadow_toy", "toy", split="train", streaming=True, revision="v2.0.0",
    token={server.read_token!r})
told(errors=errors, rows={{s: list(d) for s, d in data.items()}}, streamed=list(stream))
""")
    expected = local(published.out, "toy", "2.0.0")
    errors = ["DatasetNotFoundError", "DatasetNotFoundError"]
    assert found == {"errors": errors, "rows": expected, "streamed": expected["train"]}


def test_the_login_of_the_hub_is_enough(published: Published, hub: Hub) -> None:  # noqa: F811
    (hub.home / "hf").mkdir()
    (hub.home / "hf" / "token").write_text(hub.token)
    words = ["-m", "meadow", "push", "other", "--repo", "ORG/NAME", "--private", "--out", str(published.out)]
    done = client(words, hub, HF_TOKEN=None)
    assert {seen.user for seen in hub.sent("POST", "/api/")} == {"ada"}
    assert hub.token not in done.stdout + done.stderr
    assert hub.repo("ORG/NAME").private
    assert "other/1.0.0/manifest.json" in hub.repo("ORG/NAME").files()


def test_a_push_that_fails_leaves_what_loads(hub: Hub, tmp_path: Path) -> None:  # noqa: F811
    at, out = Published(hub, tmp_path / "out"), tmp_path / "out"
    code = 'told(rows=len(load_dataset("ORG/NAME", "toy", split="train+validation")), names=datasets.get_dataset_config_names("ORG/NAME"))'
    build_toy(out, Toy, 40)
    push(hub, out, "toy", "--repo", "ORG/NAME")
    head = hub.repo("ORG/NAME").head
    build_toy(out, Later, 60)
    hub.faults.fail("POST", "/commit/", 403)
    failed = push(hub, out, "toy", "--repo", "ORG/NAME", check=False)
    assert failed.returncode == 1
    assert hub.token not in failed.stdout + failed.stderr
    assert hub.repo("ORG/NAME").head == head
    assert at.load(code) == {"rows": 40, "names": ["toy"]}
    sent = len(hub.uploads)
    push(hub, out, "toy", "--repo", "ORG/NAME")
    assert len(hub.uploads) == sent  # what had arrived is not sent again
    assert at.load(code) == {"rows": 60, "names": ["toy"]}


def test_listed_versions_are_those_that_were_pushed(published: Published) -> None:
    words = ["-m", "meadow", "versions", "--repo", "ORG/NAME", "--out", str(published.out), "--json"]
    listed = json.loads(client(words, published.hub, HF_TOKEN=None).stdout)
    fields = ("name", "version", "rows", "current", "sample", "where")
    found = [[v[field] for field in fields] for v in listed if v["where"].startswith("ORG/NAME")]
    patients = "wikidoc_patient_information"
    rows_of = {
        name: sum(map(len, local(published.out, name, "1.0.0").values()))
        for name in ("other", "wikidoc", patients)
    }
    assert found == [
        ["other", "1.0.0", rows_of["other"], True, False, "ORG/NAME"],
        ["toy", "2.0.0", 60, True, False, "ORG/NAME"],
        ["toy", "1.0.0", 40, False, False, "ORG/NAME@toy-1.0.0"],
        ["toy_hard", "2.0.0", 60, True, False, "ORG/NAME"],
        ["toy_hard", "1.0.0", 40, False, False, "ORG/NAME@toy_hard-1.0.0"],
        ["wikidoc", "1.0.0", rows_of["wikidoc"], True, True, "ORG/NAME"],
        [patients, "1.0.0", rows_of[patients], True, True, "ORG/NAME"],
    ]
    # Those that are here are listed beside them.
    assert len(listed) == 2 * len(found)
    assert {v["date"] for v in listed if v["where"].startswith("ORG/NAME")} == {"2026-01-01"}
