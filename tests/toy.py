"""A source for tests of the build: JSON lines, whose records say what is to go wrong with them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from meadow.core.builder import Builder, Shard
from meadow.core.licenses import CC_BY_SA_40, MIT
from meadow.core.rawfile import RawFile, RawFileError, damaged
from meadow.core.rawstore import RawPattern, RawSource
from meadow.core.row import Author, Example, Option, Rejected
from meadow.parse.jsonlines import BadRecord, json_lines

_FIELDS = ("group", "answer_key", "source_url", "source_date", "license", "generator", "split")


class Toy(Builder):
    """Two datasets. A file is cut into `shards` pieces for all datasets, or for each with `by_config`."""

    name = "toy"
    version = "1.0.0"
    release_notes = MappingProxyType({"1.0.0": "First version."})
    description = "Questions about nothing."
    configs = ("toy", "toy_hard")
    raw_files = (
        RawPattern("**/*.jsonl*", "records"),
        RawPattern("*.users", "who asked", required=False),
    )
    license = MIT.because("The tests say so.")
    licenses = (CC_BY_SA_40.because("Some records say so."),)
    extra_features = MappingProxyType({"level": "int64"})
    official_splits = ("test",)
    defaults = MappingProxyType({"shards": 1, "by_config": False, "all_in_one": False})
    #: Where its sample lies; tests set it.
    home: ClassVar[Path] = Path(__file__).parent / "no-such-folder"

    @classmethod
    def folder(cls) -> Path:
        return cls.home

    def shards(self, raw: RawSource) -> Iterator[Shard | Rejected]:
        files = raw.matching("**/*.jsonl*")
        if any("refuse" in file.name for file in files):
            raise ValueError("odd bytes before the first shard")
        groups = [tuple(files)] if self.parameters["all_in_one"] else [(file,) for file in files]
        many = self.parameters["shards"]
        for group in groups:
            if "closed" in group[0].name:
                path = group[0].path
                yield Rejected("cannot be opened", path, "it is closed", "Open it.", file=path)
                continue
            mine = self.configs[1:] if "hard" in group[0].name else self.configs
            for configs in [(c,) for c in mine] if self.parameters["by_config"] else [mine]:
                for number in range(many):
                    key = f"{group[0].path}#{'+'.join(configs)}#{number}"
                    yield Shard(key, group, configs, {"number": number, "many": many})

    def examples(self, shard: Shard) -> Iterator[Example | Rejected]:
        for file in shard.files:
            with file.open() as stream:
                for line, record in json_lines(stream):
                    if line % shard.args["many"] == shard.args["number"]:
                        yield self._record(file, line, record)

    def _record(self, file: RawFile, line: int, record: Any) -> Example | Rejected:
        where = f"{file.path}:{line}"
        if isinstance(record, BadRecord):
            return Rejected("not JSON", where, record.detail, "Repair the line.", record.excerpt, file.path)
        configs = tuple(record.get("configs", ()))
        if record.get("score", 9) < 5:
            return Rejected("score below 5", f"toy/{record['key']}", f"{record['score']}", configs=configs)
        _act(record.get("do", ""), file)
        return Example(
            id=record.get("id", f"{self.name}/{record['key']}"),
            instruction=record.get("instruction", "Answer this question truthfully"),
            input=record["question"],
            output=record["answer"],
            options=tuple(Option(key, text) for key, text in record.get("options", ())),
            authors=tuple(Author(name) for name in record.get("authors", ())),
            configs=configs,
            extra={"level": record.get("level")},
            **{"group": record["key"], **{name: record[name] for name in _FIELDS if name in record}},
        )


def _act(what: str, file: RawFile) -> None:
    if what == "raise":
        raise RuntimeError(f"cannot make sense of {file.local} in {object()}")
    if what == "damage":
        raise damaged(file, "the record says so")
    if what == "damage member":
        raise RawFileError("damaged file", "the record says so", "Pack it again.", f"{file.path}/member")
    if what == "die":
        os._exit(9)
    if what == "full disk":
        raise OSError(errno.ENOSPC, "No space left on device")
    if what == "no memory":
        raise MemoryError
    if what.startswith("sleep "):
        time.sleep(float(what.removeprefix("sleep ")))


class Newer(Toy):
    """The same source one version later."""

    version = "1.1.0"
    release_notes = MappingProxyType({"1.0.0": "First version.", "1.1.0": "A column."})
    extra_features = MappingProxyType({"level": "int64", "mood": "string"})


class Other(Toy):
    """Another source."""

    name = "other"
    configs = ("other",)


class Thief(Toy):
    """A source that gives a dataset the name of another's."""

    name = "zthief"
    configs = ("zthief", "toy_hard")


#: Tables that every version has beside its rows.
TABLES = ("rejected.parquet", "privacy.parquet", "ATTRIBUTION.parquet")
BUILDERS: Mapping[str, type[Builder]] = {"toy": Toy, "other": Other}


def row(key: object, **fields: Any) -> dict[str, Any]:
    """A record that becomes a row, unless `fields` say otherwise."""
    return {"key": f"{key}", "question": f"What is {key}?", "answer": f"It is {key}.", **fields}


def put(root: Path, name: str, *records: Any) -> Path:
    """Writes a raw file; `name` is its path in the store (``toy/a.jsonl``), bytes are written as they are."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (r if isinstance(r, bytes) else json.dumps(r).encode() for r in records)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def totals(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest's funnel without its stages."""
    return {key: value for key, value in manifest["funnel"].items() if key != "stages"}


def no_plot(manifest: Mapping[str, Any]) -> bytes:
    """Stands in for `meadow.pipeline.publish.draw`, which takes longer than all the rest of a small build."""
    return b"<svg/>"


def whole(out: Path) -> dict[str, str]:
    """Checks that all that a reader can find in an output folder is there and is what it should be.

    Returns:
        `rows_sha256` per dataset and version.
    """
    import yaml

    found = {}
    for path in sorted(out.glob("[!.]*/*/manifest.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        name, version = path.parent.parts[-2:]
        assert (manifest["name"], manifest["version"]) == (name, version)
        listed = {"manifest.json", "README.md", "plot.svg", "croissant.json", "CITATION.bib", *TABLES}
        for entry in manifest["splits"].values():
            for file in entry["files"]:
                data = (path.parent / file["path"]).read_bytes()
                assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
                listed.add(file["path"])
        for report in ("contamination", "duplicates"):
            if manifest[report] and manifest[report].get("policy") != "off":
                listed.add(f"{report}.parquet")
        assert {p.name for p in path.parent.iterdir()} == listed
        found[f"{name}/{version}"] = manifest["rows_sha256"]
    folders = {str(p.relative_to(out)) for p in out.glob("[!.]*/*")}
    assert folders == set(found), "a version without its manifest"
    card = out / "README.md"
    if card.is_file():
        front = yaml.safe_load(card.read_text(encoding="utf-8").split("---\n")[1])
        for config in front.get("configs", ()):
            for entry in config["data_files"]:
                assert list(out.glob(entry["path"])), f"{config['config_name']}: no {entry['path']}"
    return found


def build_until(step: int, raw: Path, out: Path, told: Path | None = None) -> None:
    """Builds in a process of its own, which kills itself before its step-th change to the file system.

    Args:
        step: From 1; 0 is never.
        raw: The raw store.
        out: The output folder.
        told: Where to write how many changes there were.
    """
    from meadow.api import build_datasets
    from meadow.core.options import BuildOptions
    from meadow.pipeline import publish

    changes = frozenset(("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "ctypes.dlsym"))
    count = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal count
        if event in changes or (event == "open" and str(out) in str(arguments[0]) and arguments[1] != "r"):
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

    publish.draw = no_plot
    sys.addaudithook(watch)
    filters = BuildOptions(duplicates="off")  # as the other builds of that test
    report = build_datasets(["toy"], raw=raw, out=out, builders=BUILDERS, options=filters)
    if told is not None:
        told.write_text(json.dumps([count, report.failed]))
