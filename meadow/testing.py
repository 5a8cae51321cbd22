"""The base test of a source: builds it from its sample as a user would, and checks what comes out.

A source's own test is a subclass that names it, and adds what is particular::

    class TestWikiDoc(BuilderTest):
        builder = WikiDoc
        pins = {"1.0.0": {"wikidoc": "<rows_sha256 of its sample>"}}
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq
import pytest

from meadow.api import build_datasets
from meadow.core.builder import Builder
from meadow.core.licenses import CC0
from meadow.core.manifest import Manifest
from meadow.core.row import arrow_schema, content_hash, encode
from meadow.core.store import CARD, PLOT, REJECTED, Store
from meadow.describe import cards

#: A sample with fewer rows shows too little of its format.
MINIMUM_ROWS = 25
#: What ``meadow new`` leaves open for a person to say.
PLACEHOLDER = "FILL IN"

_RULE = """\
{name} {version}: the rows of the sample are not those that this version is pinned to.
  pinned rows_sha256: {pinned}
  found rows_sha256:  {found}
If the change is meant, raise the builder's `version` and give it a release note
(PATCH: same records, other bytes; MINOR: new columns, same records; MAJOR: records changed),
then pin the new hash in the test under the new version. A pin once released is never edited."""

# Run without Meadow on the path of imports: what a user of plain `datasets` sees.
_PLAIN = """
import json, os, sys
import datasets
out, cache, names = sys.argv[1], sys.argv[2], sys.argv[3:]
found = {}
for name in names:
    loaded = datasets.load_dataset(out, name, cache_dir=cache)
    streamed = datasets.load_dataset(out, name, streaming=True)
    found[name] = {
        split: [data.num_rows, data[0]["id"], next(iter(streamed[split]))["id"], data.column_names]
        for split, data in loaded.items()
    }
assert "meadow" not in sys.modules
print(json.dumps(found), flush=True)
# Streamed iterators left open have been seen to abort the interpreter's own exit.
os._exit(0)
"""


class BuilderTest:
    """Subclass it in a test module and set `builder`.

    Attributes:
        builder: The source under test.
        pins: For every version there has been, dataset to `rows_sha256` of the sample.
    """

    builder: ClassVar[type[Builder]]
    pins: ClassVar[Mapping[str, Mapping[str, str]]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def store(cls, tmp_path_factory: pytest.TempPathFactory) -> Store:
        """The sample, built by one worker."""
        return cls._build(tmp_path_factory.mktemp("one"), workers=1)

    @pytest.fixture(scope="class")
    @classmethod
    def again(cls, tmp_path_factory: pytest.TempPathFactory) -> Store:
        """The sample, built by two workers somewhere else."""
        return cls._build(tmp_path_factory.mktemp("two"), workers=2)

    @classmethod
    def _build(cls, out: Path, workers: int) -> Store:
        report = build_datasets(
            [cls.builder.name],
            out=out,
            sample=True,
            workers=workers,
            builders={cls.builder.name: cls.builder},
        )
        assert report.failed == {}
        return Store(out)

    def test_declarations_are_complete(self) -> None:
        assert self.builder.problems() == []
        assert self.builder.license.evidence, "say why the source is under its licence"
        assert self.builder.citation(), "CITATION.bib is missing or empty"

    def test_sample_gives_every_dataset_enough_rows(self, store: Store) -> None:
        manifests = store.current()
        assert manifests, "the sample gave no dataset"
        assert sum(m.funnel.kept for m in manifests) >= MINIMUM_ROWS
        assert all(m.sample for m in manifests)
        assert all(set(m.licenses) == {CC0.id} for m in manifests)

    def test_files_are_what_the_manifest_says(self, store: Store) -> None:
        for manifest, folder in _versions(store):
            schema = arrow_schema(manifest.features)
            for split, entry in manifest.splits.items():
                assert entry.rows == sum(pq.read_metadata(folder / f.path).num_rows for f in entry.files)
                for file in entry.files:
                    path = folder / file.path
                    assert pq.read_schema(path).remove_metadata() == schema, f"{path}: {split}"
                    assert path.stat().st_size == file.bytes
                    assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256

    def test_rows_are_whole(self, store: Store) -> None:
        for manifest, found in _rows(store):
            for row in found:
                assert row["instruction"].strip()
                assert row["output"].strip()
                assert row["id"].startswith(self.builder.name + "/")
                assert row["task"] == self.builder.task
                if row["answer_key"] is not None:
                    assert row["answer_key"] in [option["key"] for option in row["options"]]
            assert manifest.funnel.kept == len(found)

    def test_ids_are_unique_and_hashed(self, store: Store) -> None:
        for manifest, found in _rows(store):
            ids = sorted(row["id"].encode() for row in found)
            assert len(set(ids)) == len(ids)
            assert hashlib.sha256(b"".join(i + b"\n" for i in ids)).hexdigest() == manifest.ids_sha256

    def test_no_group_is_in_two_splits(self, store: Store) -> None:
        where: dict[str, str] = {}
        for _, found in _rows(store):
            for row in found:
                assert where.setdefault(row["group"], row["__split"]) == row["__split"], row["id"]

    def test_funnel_balances_and_every_reject_is_listed(self, store: Store) -> None:
        for manifest, folder in _versions(store):
            funnel = manifest.funnel
            assert funnel.read == funnel.kept + sum(funnel.dropped.values())
            rejected = pq.read_table(folder / REJECTED).to_pylist()
            assert Counter(row["reason"] for row in rejected) == funnel.dropped
            assert all(row["id"] and row["source"] == self.builder.name for row in rejected)

    def test_output_is_the_same_for_any_number_of_workers(self, store: Store, again: Store) -> None:
        assert _digests(store) == _digests(again)

    def test_rows_hash_is_that_of_the_rows(self, store: Store) -> None:
        for manifest, folder in _versions(store):
            digest = content_hash(manifest.features)
            for split, entry in manifest.splits.items():
                digest.update(split.encode() + b"\n")
                for file in entry.files:
                    for row in pq.read_table(folder / file.path).to_pylist():
                        digest.update(hashlib.sha256(encode(list(row.values()))).digest())
            assert digest.hexdigest() == manifest.rows_sha256

    def test_rows_are_pinned_to_the_version(self, store: Store) -> None:
        version = self.builder.version
        assert version in self.pins, (
            f"pin rows_sha256 of {self.builder.name} {version} in `pins`: {_hashes(store)}"
        )
        for name, found in _hashes(store).items():
            pinned = self.pins[version].get(name)
            assert found == pinned, _RULE.format(name=name, version=version, pinned=pinned, found=found)

    def test_cards_are_there_and_have_words(self, store: Store) -> None:
        for manifest, folder in _versions(store):
            card = (folder / CARD).read_text(encoding="utf-8")
            words = cards.words_for(self.builder().card_name(manifest.name), self.builder.folder())
            assert words.strip(), f"write cards/{manifest.name}.md"
            assert card.startswith("---\n")
            assert manifest.rows_sha256 in card
            assert (folder / PLOT).stat().st_size > 0

    def test_nothing_is_left_to_fill_in(self) -> None:
        folder = self.builder.folder()
        texts = {
            path.name: path.read_text(encoding="utf-8")
            for path in sorted(folder.rglob("*"))
            if path.suffix in (".py", ".jsonl", ".bib", ".tsv")
        }
        for config in self.builder.configs:
            name = self.builder().card_name(config)
            texts[f"{name}.md"] = cards.words_for(name, folder)
        assert [name for name, text in texts.items() if PLACEHOLDER in text] == []

    def test_plain_datasets_loads_it_without_meadow(self, store: Store, tmp_path: Path) -> None:
        names = store.names()
        done = subprocess.run(
            [sys.executable, "-c", _PLAIN, str(store.root), str(tmp_path), *names],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        loaded = json.loads(done.stdout.splitlines()[-1])
        for manifest, folder in _versions(store):
            splits = loaded[manifest.name]
            assert set(splits) == set(manifest.splits)
            for split, (count, first, streamed, columns) in splits.items():
                entry = manifest.splits[split]
                table = pq.read_table(folder / entry.files[0].path, columns=["id"])
                assert count == entry.rows
                assert first == streamed == table["id"][0].as_py()
                assert columns == list(manifest.features)

    def test_meadow_loads_it(self, store: Store, tmp_path: Path) -> None:
        from meadow.loading import load_dataset

        for manifest in store.current():
            loaded = load_dataset(manifest.name, out=store.root, cache_dir=str(tmp_path))
            assert {s: d.num_rows for s, d in loaded.items()} == {
                s: e.rows for s, e in manifest.splits.items()
            }


def _versions(store: Store) -> Iterator[tuple[Manifest, Path]]:
    for manifest in store.current():
        yield manifest, store.folder(manifest.name, manifest.version)


def _rows(store: Store) -> Iterator[tuple[Manifest, list[dict[str, Any]]]]:
    """The rows of each dataset, each with its split as `__split`."""
    for manifest, folder in _versions(store):
        found = []
        for split, entry in manifest.splits.items():
            for file in entry.files:
                found += [{**row, "__split": split} for row in pq.read_table(folder / file.path).to_pylist()]
        yield manifest, found


def _hashes(store: Store) -> dict[str, str]:
    return {manifest.name: manifest.rows_sha256 for manifest in store.current()}


def _digests(store: Store) -> dict[str, str]:
    return {
        str(path.relative_to(store.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.root.rglob("*"))
        if path.is_file() and not path.relative_to(store.root).parts[0].startswith(".")
    }


__all__ = ["MINIMUM_ROWS", "PLACEHOLDER", "BuilderTest"]
