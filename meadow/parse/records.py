"""Records and files that give no row: saying why, once for all sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meadow.core.errors import Error
from meadow.core.rawfile import RawFile, RawFileError
from meadow.core.row import Rejected


class UnusableRecordError(Error):
    """A record that cannot become a row; its builder yields it as `meadow.Rejected`.

    `reason` is short and constant, for the funnel, and `detail` the particulars of this record; `remedy` is
    None for what the source says of all its records; `excerpt` is what to recognise the record by, where
    its builder does not know.
    """

    def __init__(self, reason: str, detail: str = "", remedy: str | None = None, excerpt: str = "") -> None:
        super().__init__(reason, detail, remedy, excerpt)
        self.reason, self.detail, self.remedy, self.excerpt = reason, detail, remedy, excerpt


def unusable_file(error: RawFileError, configs: Sequence[str] = (), path: str = "") -> Rejected:
    """A file that costs itself, not its source: what a builder yields for it.

    `configs` are the datasets that miss it, none for all of the source's; `path` is its path in the raw
    store where the error does not know it.
    """
    path = error.file or path
    return Rejected(error.reason, path, error.detail, error.remedy, file=path, configs=tuple(configs))


def second_copy(path: str, detail: str, remedy: str, file: RawFile, configs: tuple[str, ...]) -> Rejected:
    """A file, or a member of an archive, that holds what another one holds, too, which is read."""
    return Rejected("second copy of a file", path, detail, remedy, "", file.path, configs)


def excerpt(record: Any) -> str:
    """What to recognise a rejected record by: its question, else all of it, shortened."""
    question = record.get("question") if isinstance(record, dict) else None
    return str(question if question is not None else record)[:500]
