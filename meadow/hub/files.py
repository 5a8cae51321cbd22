"""Files that travel: what they are called, whether the Hub has them already, and what is taken out of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from meadow.core.manifest import FileSum, Manifest
from meadow.core.store import CONTAMINATION, REJECTED
from meadow.describe.cards import markdown
from meadow.hub.client import RemoteFile

#: Columns with texts that nobody may be sent, by file.
WITHHELD: Mapping[str, tuple[str, ...]] = {REJECTED: ("excerpt", "detail"), CONTAMINATION: ("overlap",)}
#: Files of a version that Meadow wrote, beside its rows.
BESIDE = re.compile(
    r"manifest\.json|README\.md|plot\.svg|croissant\.json|mixture\.lock\.json|CITATION\.bib"
    r"|(?:rejected|duplicates|contamination|privacy|ATTRIBUTION)\.parquet"
)
ROWS = re.compile(r"[^/]+-\d{5}-of-\d{5}\.parquet")

F = TypeVar("F")


@dataclass(frozen=True)
class LocalFile:
    """A file that a repository is to hold: a file here, or bytes that were made for it."""

    source: Path | bytes

    @property
    def content(self) -> bytes:
        """What is in it."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    @property
    def text(self) -> str:
        """The same as text."""
        return self.content.decode("utf-8", "replace")

    @cached_property
    def size(self) -> int:
        """Bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """Of its content."""
        if isinstance(self.source, bytes):
            return hashlib.sha256(self.source).hexdigest()
        with self.source.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def same(self, there: RemoteFile | None) -> bool:
        """Whether a file on the Hub has the same content."""
        if there is None or self.size != there.size:
            return False
        if there.sha256 is not None:
            return self.sha256 == there.sha256
        return hashlib.sha1(b"blob %d\0" % self.size + self.content).hexdigest() == there.blob


def listed(manifest: Manifest) -> dict[str, FileSum]:
    """The files of rows that a manifest lists, by name."""
    return {file.path: file for split in manifest.splits.values() for file in split.files}


def rows_under(files: Mapping[str, F], prefix: str) -> dict[str, F]:
    """The files of rows right under a prefix, by name."""
    mine = {path.removeprefix(prefix): file for path, file in files.items() if path.startswith(prefix)}
    return {name: file for name, file in mine.items() if ROWS.fullmatch(name)}


def equal(one: Mapping[str, LocalFile | RemoteFile], other: Mapping[str, RemoteFile]) -> bool:
    """Whether files have the same names and contents."""
    return one.keys() == other.keys() and all(
        file.same(other[name]) if isinstance(file, LocalFile) else file == other[name]
        for name, file in one.items()
    )


def without_columns(path: Path, columns: Sequence[str], scratch: Path) -> LocalFile:
    """A Parquet file without the values of some of its columns."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        schema = file.schema_arrow
        wanted = [schema.get_field_index(column) for column in columns if column in schema.names]
        if not wanted or not file.metadata.num_rows:
            return LocalFile(path)
        target = scratch / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.parquet"
        with pq.ParquetWriter(target, schema, compression="zstd") as out:
            for batch in file.iter_batches(batch_size=20_000):
                for at in wanted:
                    batch = batch.set_column(
                        at, schema.field(at), pa.nulls(len(batch), schema.field(at).type)
                    )
                out.write_batch(batch)
    found = LocalFile(target)
    _ = found.size, found.sha256  # which are asked for after the folder is gone
    return found


def without_places(text: str, roots: Iterable[Path]) -> str:
    """Cuts paths below the home folder, the working folder and others down to their last part.

    An error that a build or a recipe put into its record names a file as it lay there. Other absolute paths
    stay: in a text nobody can tell them from what a row says.

    Args:
        text: A card or a record, as text or JSON.
        roots: More folders, such as the output folder.
    """
    every = {place for one in (*roots, Path.home(), Path.cwd()) for place in (one.absolute(), one.resolve())}
    for root in sorted(every, key=lambda place: (-len(str(place)), str(place))):
        if len(root.parts) < 2:  # the home of a service may be the root of all paths
            continue

        def last_part(match: re.Match[str], root: Path = root) -> str:
            return re.split(r"[/\\]+", match[1])[-1] or root.name

        # As it stands in text, and as JSON and Markdown write it.
        for written in {str(root), json.dumps(str(root), ensure_ascii=False)[1:-1], markdown.text(root)}:
            start = rf"(?:(?<![\w/.\\-])|(?<=file://)){re.escape(written)}"
            text = re.sub(rf"{start}((?:[/\\][^\s/\\\"'`:;,()<>|]+)*)[/\\]*(?![\w-])", last_part, text)
    return text
