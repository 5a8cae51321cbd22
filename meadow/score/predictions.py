"""What a model answered, written down as it answers, so that a killed run goes on where it stopped.

::

    OUTPUT/predictions.jsonl       one line for each answer, in the order in which they came
    OUTPUT/predictions.meta.json   what was asked of what; a run with another is refused

A line holds:

================  ============================================================================================
``id``            The item's.
``part``          The item's, such as ``step1``.
``permutation``   0: options in the exam's order; 1 to K: shuffled.
``order``         The exam's letter of the option shown as A, B, C ...: ``CABD``. The letters below are the exam's.
``prompt_sha256`` Of the prompt as it was sent.
``cut``           Only where the prompt was too long for the model: true, its middle is missing.
``raw``           What the model wrote; null where likelihoods were asked for.
``parsed``        The letter it chose; null where none could be read.
``how``           How it was read: see `meadow.score.parsing`; ``likelihood``; for `medalpaca-compat` ``matched``,
                  ``no option`` or ``unmatched``.
``answer``        The right letter.
``correct``       Whether ``parsed`` is that.
``tries``         `medalpaca-compat` only: how often it was asked.
``likelihoods``   Likelihoods only: ``letter`` and ``text``, each with ``sum`` (nats), ``tokens`` and ``characters`` by
                  letter.
``choices``       Likelihoods only: the likeliest option by ``letter`` (which is ``parsed``), ``text``, and
                  ``text_norm`` (the text's sum divided by its characters).
================  ============================================================================================
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from meadow.core.errors import Error
from meadow.core.store import write_whole

__all__ = ["FILE", "META", "Predictions", "ResumeError", "ScoringError", "read"]

FILE, META = "predictions.jsonl", "predictions.meta.json"
_LOCK = ".predictions.lock"
_FORMAT = 1
#: Seconds between two calls of fsync. A killed process loses nothing without them; a machine that loses its power
#: loses at most what was answered since.
SYNC = 5.0
_NEEDED = ("id", "part", "permutation", "prompt_sha256", "answer", "correct")


class ScoringError(Error):
    """Scoring cannot go on; the message says why and what to do. What was answered until then is kept."""


class ResumeError(ScoringError):
    """The output folder holds answers to something else; `changes` has what differs, a sentence each."""

    def __init__(self, message: str, changes: Iterable[str] = ()) -> None:
        self.changes = tuple(changes)
        super().__init__("\n".join([message, *(f"  {line}" for line in self.changes)]))


def read(folder: Path | str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header of a run, which may still be going on, and its predictions in the order of the file.

    A torn last line is left out.

    Raises:
        ScoringError: There are none, or the file is damaged.
    """
    folder = Path(folder)
    meta = _read_meta(folder / META)
    if meta is None:
        raise ScoringError(f"{folder}: there is no {META}; it is no folder that a score was written to")
    path = folder / FILE
    data = path.read_bytes() if path.is_file() else b""
    return meta, [record for _, record in _parse(path, data)]


class Predictions:
    """The predictions of one run, open for more of them.

    Use it as a context manager. Only one process at a time can have a folder open.

    Args:
        folder: Where they are written; made if it is not there.
        meta: What is asked of what, in plain JSON values. What stands under ``about`` changes no answer, and may be another
            when a run goes on.

    Attributes:
        path: The file.
        resumed: How many predictions were there.
        torn: Whether a line that was only half written had to be taken away.

    Raises:
        ResumeError: The folder holds predictions of something else.
        ScoringError: It cannot be written to, is in use, or is damaged.
    """

    def __init__(self, folder: Path | str, meta: Mapping[str, Any]) -> None:
        from filelock import FileLock, Timeout

        self.folder = Path(folder)
        self.path = self.folder / FILE
        self._there: dict[tuple[str, int], dict[str, Any]] = {}
        self._synced = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ScoringError(
                f"{self.folder}: cannot be made: {error.strerror}; choose another output"
            ) from error
        # The operating system takes the lock from a process that is killed.
        lock = FileLock(self.folder / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ScoringError(
                f"{self.folder}: another process is scoring into it; wait for it, or choose another output"
            ) from None
        except OSError as error:
            raise ScoringError(f"{self.folder}: cannot be written to: {error.strerror or error}") from error
        with contextlib.ExitStack() as stack:
            stack.callback(lock.release)
            end, data = self._read({"format": _FORMAT, **json.loads(json.dumps(meta))})
            self.resumed, self.torn = len(self._there), end < len(data)
            with _disk(self.path):
                self._stream: Any = stack.enter_context(self.path.open("ab", buffering=0))
                if self.torn:
                    self._stream.truncate(end)
                if end and data[end - 1 : end] != b"\n":
                    # Killed between a record's last brace and its newline: the record is whole.
                    self._stream.write(b"\n")
                    self.torn = False
            stack.callback(self._sync)
            self._open = stack.pop_all()

    def _read(self, meta: Mapping[str, Any]) -> tuple[int, bytes]:
        """Reads what is there and where its last whole line ends, and writes the header."""
        kept = _read_meta(self.folder / META)
        data = self.path.read_bytes() if self.path.is_file() else b""
        if kept is None and data:
            raise ResumeError(
                f"{self.path} is there without its {META}, so nobody can tell what it answers; move it away, or "
                "choose another output"
            )
        if kept is not None and data and (changes := list(_changes(kept, meta))):
            raise ResumeError(
                f"{self.folder} holds the answers to something else, and these would be mixed with them. Choose "
                f"another output, or remove {FILE} to begin again. What changed:",
                changes,
            )
        end = 0
        for place, record in _parse(self.path, data):
            end, key = place, (record["id"], record["permutation"])
            if key in self._there:
                raise ScoringError(
                    f"{self.path}: item {key[0]} is there twice in order {key[1]}; remove one of its lines"
                )
            self._there[key] = record
        header = json.dumps(meta, indent=2, ensure_ascii=False, sort_keys=True)
        with _disk(self.path):
            write_whole(self.folder / META, f"{header}\n".encode())
        return end, data

    def __enter__(self) -> Predictions:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key in self._there

    def get(self, id: str, permutation: int = 0) -> dict[str, Any] | None:  # noqa: A002
        """The prediction of an item, if it is there."""
        return self._there.get((id, permutation))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._there.values())

    def __len__(self) -> int:
        return len(self._there)

    def write(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Adds predictions; when this returns they outlive the process.

        Raises:
            ScoringError: The disk is full or gone; what was there before is whole.
        """
        records = [dict(record) for record in records]
        text = "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)
        with _disk(self.path):
            size = os.fstat(self._stream.fileno()).st_size
            left = memoryview(text.encode("utf-8", "backslashreplace"))
            try:
                while left:
                    left = left[self._stream.write(left) :]
                if time.monotonic() - self._synced >= SYNC:
                    os.fsync(self._stream.fileno())
                    self._synced = time.monotonic()
            except OSError:
                with contextlib.suppress(OSError):
                    self._stream.truncate(size)
                raise
        self._there.update(((record["id"], record["permutation"]), record) for record in records)

    def _sync(self) -> None:
        with _disk(self.path):
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Writes through to the disk, and lets others use the folder."""
        self._open.close()


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full; make room" if full else f"{error.strerror or error}; see to the disk"
        raise ScoringError(
            f"{path}: {why} and run the same command again. It goes on after the last answer that was written"
        ) from error


def _parse(path: Path, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each record with the place of its end in the file; stops before a torn last line."""
    place = 0
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        place += len(line)
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            # Only the last line of a killed run can be torn, and only one without its newline. After a
            # power cut some file systems leave zeros there.
            if place == len(data) and (not line.endswith(b"\n") or b"\0" in line):
                return
            raise ScoringError(
                f"{path}: line {number} is no JSON ({error}); repair or remove that line"
            ) from error
        if missing := [key for key in _NEEDED if not isinstance(record, dict) or key not in record]:
            raise ScoringError(
                f"{path}: line {number} is no prediction, it lacks {', '.join(missing)}; repair or remove it"
            )
        yield place, record


def _read_meta(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ScoringError(
            f"{path}: cannot be read ({error}); restore it, or choose another output"
        ) from error
    if not isinstance(found, dict):
        raise ScoringError(f"{path}: it is no JSON object; restore it, or choose another output")
    return found


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """The values as JSON by their path in what holds them."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    else:
        yield name, json.dumps(value, ensure_ascii=False)


def _changes(kept: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    before, after = (dict(_flat({**meta, "about": None}, "")) for meta in (kept, now))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key, "null") != after.get(key, "null"):
            there, here = before.get(key, "nothing"), after.get(key, "nothing")
            there, here = (text if len(text) <= 70 else text[:66] + " ..." for text in (there, here))
            yield f"{key}: {there} there, {here} now"
