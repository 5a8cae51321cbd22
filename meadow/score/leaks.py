"""Which items of an exam a model may have read in training, as far as that is known.

A model's own ``run.json`` says which items stood in the rows that it was trained on (``exam_hits``), and what was not
compared (``unchecked``). For a model without one the data can be named, and are compared now. An item is

- ``hit``: a row that was trained on holds it, word for word or retold;
- ``clean``: all the data were compared with it, and no row that was trained on holds it. Rows that held it and were
  left out when the data were built were never trained on, so they make no hit;
- ``unknown``: some of the data were not compared with it, and nobody can say.

What the base model read before is known to nobody, and no report here says otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from meadow.core.errors import Error
from meadow.core.store import CONTAMINATION, Store, StoreError, default_out
from meadow.score.exams import Exam

__all__ = ["Knowledge", "LeaksError", "check_data", "known", "of_model", "unknown"]

RUN = "run.json"
#: Models that were made from models: further than this nobody goes, and a circle ends.
_DEEPEST = 10
#: Sentences of a record that are repeated.
_MOST = 5
_NAME_THEM = "name its data with --trained-on to find out."


class LeaksError(Error):
    """Data that were named as trained on and cannot be compared."""


@dataclass(frozen=True)
class Knowledge:
    """What is known of an exam's items.

    Attributes:
        source: Where it is known from; empty where nothing is.
        hit: Ids of items that a row which was trained on holds.
        clean: Ids of items that no such row holds.
        dropped: How many stood in rows that were left out of the data; None where that is not known.
        notes: What a reader must know, a sentence each.
    """

    source: str
    hit: frozenset[str] = frozenset()
    clean: frozenset[str] = frozenset()
    dropped: int | None = None
    notes: tuple[str, ...] = ()

    def state(self, item: str) -> str:
        """``hit``, ``clean`` or ``unknown``."""
        return "hit" if item in self.hit else "clean" if item in self.clean else "unknown"

    def described(self) -> dict[str, Any]:
        """What ``scores.json`` says of it."""
        return {**vars(self), "hit": sorted(self.hit), "clean": len(self.clean), "notes": list(self.notes)}


def unknown(why: str) -> Knowledge:
    """That nothing is known."""
    return Knowledge("", notes=(why,))


def known(
    exam: Exam,
    *,
    model: Path | str | None = None,
    trained_on: Sequence[str] = (),
    out: Path | str | None = None,
) -> Knowledge:
    """Finds out which items a model may have read.

    Args:
        exam: The exam.
        model: The model's folder; None for one behind an endpoint.
        trained_on: Built datasets and files that it was trained on, which are compared now instead of asking the folder.
        out: The output folder of the datasets.

    Raises:
        LeaksError: Data in `trained_on` cannot be read.
    """
    if trained_on:
        return _compared(exam, trained_on, out)
    if model is None or not Path(model).is_dir():
        return unknown(f"Nothing tells what this model was trained on; {_NAME_THEM}")
    return of_model(Path(model), exam, out)


def of_model(folder: Path, exam: Exam, out: Path | str | None = None) -> Knowledge:
    """What a model's folder tells, and the folders of the models that it was made from."""
    runs, trouble = _runs(folder)
    if not runs:
        return unknown(trouble or f"Its folder has no {RUN}; {_NAME_THEM}")
    found = [_of_run(run, exam) for run in runs]
    hit = frozenset().union(*(each.hit for each in found))
    clean = frozenset() if trouble else frozenset.intersection(*(each.clean for each in found)) - hit
    notes = dict.fromkeys(note for note in (trouble, *(n for each in found for n in each.notes)) if note)
    if not hit and not clean:
        return unknown(" ".join(notes))
    data = [entry for run in runs for entry in run.get("data") or ()]
    names = dict.fromkeys(f"{e.get('name', '?')} {e.get('version') or ''}".strip() for e in data)
    source = f"{RUN} of the model" + (f" (trained on {', '.join(names)})" if names else "")
    dropped = [items for run in runs if (items := _dropped(run, exam, out)) is not None]
    left_out = len(set().union(*dropped) - hit) if len(dropped) == len(runs) else None
    return Knowledge(source, hit, clean, left_out, tuple(notes))


def _runs(folder: Path) -> tuple[list[dict[str, Any]], str]:
    """The records of a model and of those it was made from, newest first, and what hinders reading one."""
    runs: list[dict[str, Any]] = []
    seen: set[Path] = set()
    while len(runs) < _DEEPEST and folder.resolve() not in seen:
        seen.add(folder.resolve())
        path = folder / RUN
        if not path.is_file():
            break
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            _check_form(run)
        except (OSError, ValueError) as error:
            return (
                runs,
                f"{folder.name}/{RUN} cannot be read ({error}), so what it was trained on is unknown.",
            )
        runs.append(run)
        below = (run.get("base_model") or {}).get("path")
        if not below:
            break
        folder = Path(below)
    return runs, ""


def _check_form(run: object) -> None:
    """Raises ValueError where a file of a record's name is none."""
    if not isinstance(run, dict):
        raise ValueError("it is no object")
    for key in ("base_model", "exam_hits"):
        if not isinstance(run.get(key) or {}, dict):
            raise ValueError(f"its {key} is no object")
    if not all(isinstance(hits, dict) for hits in (run.get("exam_hits") or {}).values()):
        raise ValueError("its exam_hits name no items")
    data = run.get("data") or []
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise ValueError("its data is no list of objects")


def _of_run(run: Mapping[str, Any], exam: Exam) -> Knowledge:
    """What one record tells of an exam."""
    notes: list[str] = []
    hit: set[str] = set()
    clean: set[str] = set()
    unchecked = run.get("unchecked") or ()
    for name, entry in (run.get("exam_hits") or {}).items():
        # Where it is not said, anything that was not compared may have been.
        complete = entry.get("complete", not unchecked)
        for part in _parts(name, exam):
            mine = {item.id for item in exam.of(part)}
            hit |= mine.intersection(entry.get("items") or ())
            if why := _other_edition(entry, exam, part):
                notes.append(why)
            elif complete:
                clean |= mine
    clean -= hit
    if left := len(exam.items) - len(clean) - len(hit):
        known = clean or hit
        several = f"{left} of {len(exam.items)} items are unknown" if known else "Every item is unknown"
        notes.append(f"{several}: not all rows that it was trained on were compared with them.")
        # A sentence of which nobody wrote down what exams it is about may be about any.
        pairs: Iterable[Any] = zip_longest(unchecked, run.get("unchecked_exams") or (), fillvalue=())
        mine = [why for why, exams in pairs if not exams or {exam.name, exam.source} & {*exams}]
        notes += [f"Not compared: {why.rstrip('.')}." for why in mine[:_MOST]]
    return Knowledge(RUN, frozenset(hit), frozenset(clean), None, tuple(notes))


def _parts(name: str, exam: Exam) -> list[str]:
    """The parts of the exam that an entry is about: it has the exam's name, or that and a split's."""
    if name.split("@")[0].strip() == exam.name:
        return list(exam.parts)
    return [part for part in exam.parts if name in (f"{exam.name} {part}", f"{exam.name}/{part}")]


def _other_edition(entry: Mapping[str, Any], exam: Exam, part: str) -> str | None:
    """Why what was compared is not this exam, such as its embedded sample; None where it is, or nothing tells."""
    given = entry.get("sha256")
    if isinstance(given, Mapping):
        # Of a file there is one, whatever parts it has.
        given = next((given[key] for key in (part, exam.name, "") if key in given), "")
    mine = exam.checked_as.get(part) or exam.checked_as.get("")
    if given is None or mine is None:
        given, mine = entry.get("sample", exam.sample), exam.sample
    if given == mine:
        return None
    if entry.get("sample") is True and not exam.sample:
        return f"Its data were compared with the embedded sample of {exam.name}, not with the real exam."
    return f"Its data were compared with another edition of {exam.name}, with other items in {part}."


def _dropped(run: Mapping[str, Any], exam: Exam, out: Path | str | None) -> set[str] | None:
    """Items in rows that the builds of the data left out; None unless all of their lists are at hand."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    store = Store(Path(out) if out else default_out())
    found: set[str] = set()
    if not run.get("data"):
        return None
    for entry in run["data"]:
        try:
            manifest = store.manifest(str(entry.get("name")), str(entry.get("version") or "none"))
            if entry.get("ids_sha256") not in (None, manifest.ids_sha256):
                return None
            parts = [(manifest.name, manifest.version)]
            if manifest.mixture is not None:
                parts = [(part.dataset, part.version) for part in manifest.mixture.parts]
            for name, version in parts:
                path = store.folder(name, version) / CONTAMINATION
                lines = pq.read_table(path, columns=["exam", "item", "dropped"]).to_pylist()
                found |= {line["item"] for line in lines if line["dropped"] and line["exam"] == exam.name}
        except (StoreError, OSError, KeyError, pa.ArrowException):
            return None
    return found & {item.id for item in exam.items}


def check_data(trained_on: Sequence[str], out: Path | str | None = None) -> None:
    """Raises `LeaksError` with all of the data to be compared that are not there, before anything is scored."""
    store = Store(Path(out) if out else default_out())
    gone = []
    for name in trained_on:
        dataset, at, version = name.partition("@")
        if Path(name).is_file():
            continue
        try:
            store.resolve(dataset, version if at else None)
        except StoreError as error:
            gone.append(f"--trained-on {name}: no file has this name, and {error}")
    if gone:
        raise LeaksError("\n".join(gone))


def _compared(exam: Exam, trained_on: Sequence[str], out: Path | str | None) -> Knowledge:
    from meadow.filters.contamination import checking

    store = Store(Path(out) if out else default_out())
    ids = {item.id for item in exam.items}
    hit: set[str] = set()
    unjudged = rows = 0
    for name in dict.fromkeys(trained_on):
        try:
            for target in _targets(name, store):
                found = checking.check(target, _sources(exam, store), store)
                hit |= {h.item for _, h in found.hits} & ids
                rows += found.rows
                unjudged = sum(e.unjudged for e in found.exams)
        except (ValueError, StoreError, OSError) as error:
            raise LeaksError(f"--trained-on {name}: {error}") from error
    short = f"{unjudged} items are too short to be told from other texts; they count as clean."
    source = f"compared now with {rows:,} rows of {', '.join(trained_on)}"
    return Knowledge(source, frozenset(hit), frozenset(ids - hit), notes=(short,) if unjudged else ())


def _targets(name: str, store: Any) -> Iterable[str]:
    """What to compare: the name of a dataset or file, or the files of a dataset's version."""
    dataset, at, version = name.partition("@")
    if not at or Path(name).exists() or dataset not in store.names():
        return [name]
    manifest = store.manifest(dataset, version)
    exams = manifest.exam_splits()
    files = store.files(dataset, manifest.version)
    return [str(path) for split, paths in files.items() if split not in exams for path in paths]


def _sources(exam: Exam, store: Any) -> list[Any]:
    from meadow.filters.contamination import ExamSource, ExamText, built_exams

    if exam.version in store.versions(exam.name):
        # The rows have the explanation of an answer, too, where there is one.
        every = [source for source in built_exams(store, exam.name) if source.version == exam.version]
        built = [source for source in every if source.split in exam.parts]
        if {source.split for source in built} == set(exam.parts):
            return built
    texts = {
        part: [
            ExamText(i.id, i.question, tuple(i.options.values()), i.options[i.answer_key], i.context)
            for i in exam.of(part)
        ]
        for part in exam.parts
    }
    return [ExamSource(exam.name, exam.version, part, exam.sample, found) for part, found in texts.items()]
