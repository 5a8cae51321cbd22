"""The versions in repositories on the Hub: which there are, and how each of them is loaded."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.hub_server import Hub, client, hub  # noqa: F401
from tests.stores import put, row

CODE = """
import json, sys, time
from meadow.hub import HubError, remote
began = time.monotonic()
try:
    found, unreadable = remote.versions(sys.argv[1], sys.argv[2:])
    said = [{f: getattr(v, f) for f in v.__slots__} | {"how": remote.how(v)} for v in found], unreadable
except HubError as error:
    assert error.__cause__ is error.__context__ is None
    said = str(error)
print(json.dumps([said, time.monotonic() - began]))
"""


def ask(server: Hub, *arguments: str, **env: str | None) -> Any:
    """What `remote.versions` says: versions and complaints, or an error's text."""
    done = client(CODE, server, *arguments, **env)
    assert server.unknown == []
    assert "hf_" not in done.stdout + done.stderr
    said, seconds = json.loads(done.stdout)
    assert seconds < 10
    return said


def version(
    out: Path, name: str, number: str, train: int, test: int = 0, **manifest: Any
) -> dict[str, bytes]:
    """Files of a version, by the path that they have in a collection."""
    splits = {"train": [row(f"{name} {n}") for n in range(train)]}
    if test:
        splits["test"] = [row(f"{name} test {n}") for n in range(test)]
    put(out, splits, name=name, version=number, beside={"rejected": [{"id": "x"}]}, **manifest)
    folder = out / name / number
    return {f"{name}/{number}/{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}


def card(configs: Iterable[tuple[str, str]]) -> dict[str, bytes]:
    """A collection's card, or with an empty folder that of a single dataset."""
    entries = [
        {"config_name": name, "data_files": [{"split": s, "path": f"{folder}{s}-*.parquet"} for s in splits]}
        for name, folder, splits in ((n, f, ("train", "test")) for n, f in configs)
    ]
    return {"README.md": f"---\n{json.dumps({'configs': entries})}\n---\n".encode()}


def collection(server: Hub, out: Path) -> dict[str, int]:
    """A collection with a history; returns the bytes of each version, by ``name version``."""
    repo = server.create("ORG/NAME")
    first = version(out, "ward", "1.0.0", 3, 1)
    exam = version(out, "exam", "1.0.0", 1, 2, licenses={"LicenseRef-all-rights-reserved": 3})
    server.edit("ORG/NAME", {**first, **exam, **card([("ward", "ward/1.0.0/"), ("exam", "exam/1.0.0/")])})
    repo.tags |= {"v1.0.0": repo.head, "exam-1.0.0": repo.head}
    second, odd = version(out, "ward", "1.9.0", 4, 1), version(out, "odd", "0.1.0", 2, 1, sample=True)
    configs = [("ward", "ward/1.9.0/"), ("exam", "exam/1.0.0/"), ("odd", "odd/0.1.0/")]
    server.edit("ORG/NAME", {**dict.fromkeys(first), **second, **odd, **card(configs)})
    repo.tags |= {
        "ward-1.9.0": repo.head,
        "v2.0.0": repo.head,
        "ward-nonsense": repo.head,
        "other": repo.head,
    }
    third = version(out, "ward", "1.10.0", 5, 1, licenses={"CC0-1.0": 1, "CC-BY-SA-4.0": 5})
    newer = version(out, "odd", "0.2.0", 6, 1)
    configs = [("ward", "ward/1.10.0/"), ("exam", "exam/1.0.0/"), ("odd", "odd/0.2.0/")]
    server.edit("ORG/NAME", {**third, **newer, **card(configs)})
    fourth = version(out, "odd", "0.1.5", 7, 1)
    server.edit("ORG/NAME", fourth)
    every = [first, exam, second, odd, third, newer, fourth]
    return {" ".join(next(iter(f)).split("/")[:2]): sum(map(len, f.values())) for f in every}


def test_a_collection_with_its_history(hub: Hub, tmp_path: Path) -> None:  # noqa: F811
    sizes = collection(hub, tmp_path)
    found, unreadable = ask(hub, "ORG/NAME")
    assert unreadable == []
    base = 'load_dataset("ORG/NAME", '
    expected = [
        # name, version, rows, licences, sample, current, where, how
        ("exam", "1.0.0", 3, ["LicenseRef-all-rights-reserved"], False, True, "", base + '"exam")'),
        ("odd", "0.2.0", 7, ["CC-BY-SA-4.0"], False, True, "", base + '"odd")'),
        ("odd", "0.1.5", 8, ["CC-BY-SA-4.0"], False, False, "/odd/0.1.5", base + '"odd", data_dir="odd/0.1.5")'),
        ("odd", "0.1.0", 3, ["CC-BY-SA-4.0"], True, False, "@v2.0.0", base + '"odd", revision="v2.0.0")'),
        ("ward", "1.10.0", 6, ["CC-BY-SA-4.0", "CC0-1.0"], False, True, "", base + '"ward")'),
        ("ward", "1.9.0", 5, ["CC-BY-SA-4.0"], False, False, "@ward-1.9.0", base + '"ward", revision="ward-1.9.0")'),
        ("ward", "1.0.0", 4, ["CC-BY-SA-4.0"], False, False, "@v1.0.0", base + '"ward", revision="v1.0.0")'),
    ]  # fmt: skip
    fields = ("name", "version", "rows", "licenses", "sample", "current", "where", "how")
    assert [tuple(each[field] for field in fields) for each in found] == [
        (*told[:6], f"ORG/NAME{told[6]}", told[7]) for told in expected
    ]
    assert {each["date"] for each in found} == {"2026-01-01"}
    assert {f"{each['name']} {each['version']}": each["bytes"] for each in found} == sizes
    # Each line that is given loads exactly that version, where there is no Meadow.
    code = "import json; from datasets import load_dataset\nprint(json.dumps(["
    code += ", ".join(f"{{s: len(d) for s, d in {each['how']}.items()}}" for each in found) + "]))"
    loaded = json.loads(client(code, hub, without_meadow=True).stdout)
    assert [sum(splits.values()) for splits in loaded] == [each["rows"] for each in found]
    assert [splits["test"] for splits in loaded] == [2, 1, 1, 1, 1, 1, 1]
    only, unreadable = ask(hub, "ORG/NAME", "exam")
    assert ([each["name"] for each in only], unreadable) == (["exam"], [])
    told = ask(hub, "ORG/NAME", "ward", "wards")
    assert told == "ORG/NAME has no wards; there are: exam, odd, ward"


def test_repositories_of_one_dataset_each(hub: Hub, tmp_path: Path) -> None:  # noqa: F811
    for name in ("ward", "exam"):
        repo = hub.create(f"ORG/medical_meadow_{name}", private=name == "exam")
        for number, train in (("1.0.0", 2), ("1.1.0", 3)):
            files = version(tmp_path, name, number, train, 1)
            top = {path.rsplit("/", 1)[1]: content for path, content in files.items()}
            hub.edit(repo.id, {**top, **card([(name, "")])})
            repo.tags |= {f"{name}-{number}": repo.head, f"v{number}": repo.head}
    hub.create("ORG/other")
    found, unreadable = ask(hub, "ORG")
    assert unreadable == []
    assert [
        (each["name"], each["version"], each["rows"], each["current"], each["how"]) for each in found
    ] == [
        ("exam", "1.1.0", 4, True, 'load_dataset("ORG/medical_meadow_exam", "exam")'),
        ("exam", "1.0.0", 3, False, 'load_dataset("ORG/medical_meadow_exam", "exam", revision="exam-1.0.0")'),
        ("ward", "1.1.0", 4, True, 'load_dataset("ORG/medical_meadow_ward", "ward")'),
        ("ward", "1.0.0", 3, False, 'load_dataset("ORG/medical_meadow_ward", "ward", revision="ward-1.0.0")'),
    ]
    lines = ", ".join(each["how"] for each in found)
    code = f"import json; from datasets import load_dataset\nprint([len(d['train']) for d in ({lines})])"
    assert client(code, hub, without_meadow=True).stdout.splitlines()[-1] == "[3, 2, 3, 2]"
    # Somebody who may not see the private one is not told of it.
    found, _ = ask(hub, "ORG", HF_TOKEN=None)
    assert {each["name"] for each in found} == {"ward"}
    told = ask(hub, "eve")
    assert told.startswith("eve has no dataset repository named medical_meadow_...")


def test_manifests_that_no_build_wrote_cost_only_themselves(hub: Hub, tmp_path: Path) -> None:  # noqa: F811
    hub.create("ORG/NAME")
    good = version(tmp_path, "ward", "1.0.0", 2)
    manifest = json.loads(good["ward/1.0.0/manifest.json"])
    bad = {
        "a/1.0.0": "{",
        "b/1.0.0": "[]",
        "c/1.0.0": json.dumps({**manifest, "name": "other"}),
        "d/1.0.0": json.dumps({**manifest, "name": "d", "splits": {"train": {"rows": "\x1b[31m"}}}),
        "e/1.0.0": json.dumps({**manifest, "name": "e", "licenses": {"\x1b]0;x\x07": 2}}),
        "f/1.0.0": json.dumps({"name": "f", "version": "1.0.0"}),
    }
    rest = {f"{folder}/manifest.json": text for folder, text in bad.items()}
    hub.edit("ORG/NAME", {**good, **rest, ".wild/1.0.0/manifest.json": "{}", "ward/next/manifest.json": "{}"})
    found, unreadable = ask(hub, "ORG/NAME")
    assert [(each["name"], each["rows"]) for each in found] == [("ward", 2)]
    reasons = [
        "a 1.0.0 in ORG/NAME: its manifest.json: Expecting property name",
        "b 1.0.0 in ORG/NAME: its manifest.json: damaged: it is a list",
        "c 1.0.0 in ORG/NAME: its manifest.json is of another dataset or version",
        "d 1.0.0 in ORG/NAME: its manifest.json: damaged: splits.train.rows is '\\x1b[31m'",
        "e 1.0.0 in ORG/NAME: its manifest.json names a licence by what is no identifier",
        "f 1.0.0 in ORG/NAME: its manifest.json: it has no `format`",
    ]
    assert [line[: len(reason)] for line, reason in zip(unreadable, reasons, strict=True)] == reasons
    assert "\x1b" not in json.dumps(unreadable, ensure_ascii=False)


def test_an_empty_repository_has_no_versions(hub: Hub) -> None:  # noqa: F811
    hub.create("ORG/NAME")
    assert ask(hub, "ORG/NAME") == [[], []]
    assert ask(hub, "ORG/NAME", "ward") == "ORG/NAME has no ward; there are: none"


def test_errors_say_what_to_do(hub: Hub) -> None:  # noqa: F811
    hub.create("ORG/NAME", private=True)
    nowhere = f"there is no ORG/NAME at {hub.url}, or your token may not see it"
    remedy = "; check the name, log in with `hf auth login`, or set HF_TOKEN"
    assert ask(hub, "ORG/NAME", HF_TOKEN=None) == nowhere + remedy
    assert ask(hub, "ORG/NAME", HF_TOKEN=hub.stranger) == nowhere + remedy
    assert ask(hub, "ORG/NAME", HF_TOKEN="hf_nobody") == (
        "reading ORG/NAME: 401: the Hub does not accept the token (Invalid credentials in Authorization header); log "
        "in again with `hf auth login`, or set HF_TOKEN to a token that is valid"
    )
    hub.faults.fail("GET", "/api/datasets/ORG/NAME/revision/main$", 403)
    assert ask(hub, "ORG/NAME").startswith("reading ORG/NAME: 403: the token may not do this in ORG/NAME")
    # A busy Hub is asked again, and one that stays busy is told of.
    hub.faults.fail("GET", "/api/datasets/ORG/NAME/revision/main$", 500)
    assert ask(hub, "ORG/NAME") == [[], []]
    for status, said in ((429, "the Hub asks to slow down"), (500, "the Hub has trouble of its own")):
        hub.faults.fail("GET", "/api/datasets/ORG/NAME/revision/main$", status, times=None, retry_after=0)
        assert ask(hub, "ORG/NAME").startswith(f"reading ORG/NAME: {status}: {said}")
        hub.faults.clear()
    told = ask(hub, "ORG/NAME", HF_HUB_OFFLINE="1")
    assert told == "reading ORG/NAME: HF_HUB_OFFLINE is set; take it away to reach the Hub"
    began = time.monotonic()
    told = ask(hub, "ORG/NAME", HF_ENDPOINT="http://127.0.0.1:9")
    assert told.startswith("reading ORG/NAME: http://127.0.0.1:9 cannot be reached (ConnectError: ")
    assert "check the network (HF_ENDPOINT, " in told
    assert time.monotonic() - began < 15
