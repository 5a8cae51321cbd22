"""The rows of a run: read, split, tokenised, and what must be said about them later.

Rows come from built datasets through `meadow.load_dataset`, or from files. Nothing is dropped in silence: every
row that is not trained on is counted with its reason and listed by id.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from meadow.train.settings import FILES, Settings

#: A file's rows need an answer, and something that is asked.
_ASKED, _ANSWER = ("instruction", "input"), "output"
_SAID = ("license", "generator", "dataset")
_COLUMNS = (*_ASKED, _ANSWER, "id", "group", *_SAID)
#: Why a record of a file is no row; no column, since only `_COLUMNS` are read.
_UNUSABLE = "unusable"
#: Rows of a file that are compared with the exams at once.
_BATCH = 5_000
TWICE = "given twice"
IN_VALIDATION = "its group is in the validation rows"


class DataError(Exception):
    """Rows that cannot be trained on; the message names the dataset or file, what is wrong, and the remedy."""


@dataclass
class Source:
    """A dataset or file that rows are taken from.

    Attributes:
        name: The dataset's name, or the file's.
        version: The dataset's version; None for a file.
        splits: Rows per split, `train` and possibly `validation`; each can be gone through again.
        manifest: The dataset's manifest; None for a file.
        facts: ``rows``, ``ids_sha256``, ``rows_sha256``, ``sample``.
    """

    name: str
    version: str | None
    splits: Mapping[str, Iterable[Mapping[str, Any]]]
    manifest: Mapping[str, Any] | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Corpus:
    """Tokenised rows.

    Attributes:
        ids: The row ids, those trained on first.
        tokens: The token ids of all rows, one after the other, int32.
        trained: Of each token, whether the loss is on it; never on a row's first, which nothing predicts.
        offsets: Where each row begins in `tokens`, and the end; one more than rows.
        validation: How many of the rows, the last ones, are for validation.
        truncated: Ids of rows of which something was cut.
        left_out: (id, reason) of rows that are not used.
        data: What ``run.json`` says of each source.
        exam_hits: Per exam, the items that rows trained on hold; see `_exam_hits`.
        unchecked: What was not compared with exams, in sentences.
        license_verdict: What follows from the licences of all rows trained on.
    """

    ids: list[str]
    tokens: np.ndarray
    trained: np.ndarray
    offsets: np.ndarray
    validation: int
    truncated: list[str]
    left_out: list[tuple[str, str]]
    data: list[dict[str, Any]] = field(default_factory=list)
    exam_hits: dict[str, dict[str, Any]] = field(default_factory=dict)
    unchecked: list[str] = field(default_factory=list)
    license_verdict: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows that are trained on."""
        return len(self.ids) - self.validation

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row."""
        return np.diff(self.offsets)

    def digest(self) -> str:
        """SHA-256 over ids, tokens and what is trained: another one, another run."""
        found = hashlib.sha256(f"{self.validation}\n".encode())
        found.update("\n".join(self.ids).encode())
        for array in (self.offsets, self.tokens, self.trained):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def counts(self) -> dict[str, Any]:
        """The entry ``counts`` of ``run.json``."""
        end = self.offsets[self.rows]
        return {
            "rows": len(self.ids) + len(self.left_out),
            "trained": self.rows,
            "truncated": len(self.truncated),
            "refused": dict(sorted(Counter(reason for _, reason in self.left_out).items())),
            "tokens": int(end),
            "trained_tokens": int(self.trained[:end].sum()),
            "validation_rows": self.validation,
        }


def sources(settings: Settings) -> list[Source]:
    """Opens every dataset and file that the settings name; a dataset that is not built is built now.

    Raises:
        DataError: Some cannot be used; the message names them all.
    """
    found, problems = [], []
    for name in settings.data:
        try:
            source = _file(Path(name).expanduser()) if name.endswith(FILES) else _dataset(name, settings.out)
        except DataError as error:
            problems.append(str(error))
            continue
        found.append(source)
    if problems:
        raise DataError("\n".join(problems))
    return found


def _dataset(name: str, out: Path | None) -> Source:
    import meadow
    from meadow.core.store import Store, StoreError, default_out

    name, _, version = name.partition("@")
    try:
        splits = meadow.load_dataset(name, version=version or None, out=out)
        manifest = Store(out or default_out()).manifest(name, version or None)
    except (StoreError, ValueError, OSError) as error:
        raise DataError(f"data {name}: {error}") from error
    if manifest.get("test_only"):
        raise DataError(
            f"data {name}: it is an exam, there to score models on; a model that was trained on it cannot be scored by it"
        )
    kept = {split: splits[split] for split in ("train", "validation") if split in splits}
    if "train" not in kept:
        raise DataError(f"data {name}: it has no split `train`, only {', '.join(splits) or 'none'}")
    _check_columns(f"data {name}", kept["train"].column_names)
    columns = [column for column in _COLUMNS if column in kept["train"].column_names]
    facts = {
        "rows": sum(entry["rows"] for entry in manifest["splits"].values()),
        **{key: manifest.get(key) for key in ("ids_sha256", "rows_sha256", "sample")},
    }
    return Source(
        name,
        manifest["version"],
        {split: rows.select_columns(columns) for split, rows in kept.items()},
        manifest,
        facts,
    )


def _check_columns(where: str, columns: Iterable[str]) -> None:
    columns = list(columns)
    missing = [] if _ANSWER in columns else [_ANSWER]
    if not any(column in columns for column in _ASKED):
        missing.insert(0, " or ".join(_ASKED))
    if missing:
        raise DataError(
            f"{where}: it has no column {' and no column '.join(missing)}; there are: "
            f"{', '.join(map(str, columns)) or 'none'}. Rows to train on have instruction, input and output"
        )


def _file(path: Path) -> Source:
    try:
        raw = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                raw.update(block)
        rows = list(_read(path))
    except OSError as error:
        raise DataError(f"data {path}: {error.strerror or error}") from error
    if not rows:
        raise DataError(f"data {path}: it holds no rows")
    good = [row for _, row in rows if row is not None]
    _check_columns(f"data {path}", dict.fromkeys(key for row in good for key in row))
    named: list[dict[str, Any]] = []
    for where, row in rows:
        name = f"{path.name}:{where}"
        entry = {k: row[k] for k in _COLUMNS if row.get(k) is not None} if row is not None else {}
        # What is said of a row is said in words; anything else would be no name of a licence, a model or a dataset.
        entry = {k: v for k, v in entry.items() if k not in _SAID or isinstance(v, str)}
        entry["id"] = str(entry.get("id", name))
        if row is None:
            entry[_UNUSABLE] = "no row"
        elif not _writable(entry):
            # JSON can hold halves of characters, which no tokenizer, digest or file takes.
            entry = {"id": name, _UNUSABLE: "holds half a character (a lone surrogate)"}
        named.append(entry)
    ids = sorted(row["id"] for row in named)
    facts = {
        "rows": len(named),
        "ids_sha256": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
        "rows_sha256": raw.hexdigest(),
        "sample": False,
    }
    return Source(path.name, None, {"train": named}, None, facts)


def _writable(row: Mapping[str, Any]) -> bool:
    """Whether all texts of a row can be written as UTF-8."""
    try:
        "".join(map(str, row.values())).encode()
    except UnicodeEncodeError:
        return False
    return True


def _read(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The records of a file with their numbers, from 1; None for what is no record."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
        except pa.ArrowException as error:
            raise DataError(f"data {path}: it cannot be read as Parquet: {error}") from error
        _check_columns(f"data {path}", table.column_names)
        kept = [name for name in _COLUMNS if name in table.column_names]
        yield from enumerate(table.select(kept).to_pylist(), start=1)
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"data {path}: it is no UTF-8 text: {error}") from error
    if path.suffix == ".jsonl":
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield number, _record(line)
        return
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"data {path}: it is no JSON: {error}. Lines of JSON belong into a .jsonl file"
        ) from error
    if not isinstance(found, list):
        raise DataError(f"data {path}: it holds no list of rows")
    for number, record in enumerate(found, start=1):
        yield number, record if isinstance(record, dict) else None


def _record(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


@dataclass
class _Row:
    id: str
    key: str
    source: int
    validation: bool
    row: Mapping[str, Any]


def held_out(key: str, share: float) -> bool:
    """Whether a group is for validation: by a hash of its name, so the same in every run and order of the data."""
    digest = hashlib.sha256(f"validation\n{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _group(row: Mapping[str, Any]) -> str:
    """What must not straddle the split. The source's name goes before it: pages of two sources may be named alike."""
    group = row.get("group")
    if group:
        return f"{str(row['id']).partition('/')[0]}\n{group}"
    # Of a file without groups, rows that ask the same belong together.
    return hashlib.sha256(f"{row.get('instruction')}\n{row.get('input')}".encode()).hexdigest()


def _rows(found: Sequence[Source], share: float) -> Iterator[_Row]:
    for number, source in enumerate(found):
        own = "validation" in source.splits
        for split, rows in source.splits.items():
            if split == "validation" and not share:
                continue
            for row in rows:
                key = _group(row)
                validation = split == "validation" if own else bool(share) and held_out(key, share)
                yield _Row(str(row["id"]), key, number, validation, row)


def prepare(
    settings: Settings,
    tokenizer: Any,
    template: Any,
    found: Sequence[Source] | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Corpus:
    """Reads, splits and tokenises all rows.

    Args:
        settings: The settings.
        tokenizer: The model's.
        template: The `meadow.models.prompts.Template`.
        found: What `sources` returned; None to call it.
        progress: Called with rows done and rows in all.

    Raises:
        DataError: No row can be trained on.
    """
    from meadow.models import prompts

    found = sources(settings) if found is None else list(found)
    total = sum(len(rows) for source in found for rows in source.splits.values())  # type: ignore[arg-type]
    in_validation = {row.key for row in _rows(found, settings.validation) if row.validation}
    kept: dict[bool, list[tuple[_Row, np.ndarray, np.ndarray]]] = {False: [], True: []}
    seen: set[str] = set()
    truncated, left_out = [], []
    for done, row in enumerate(_rows(found, settings.validation), start=1):
        if done % 500 == 0:
            progress(done, total)
        if row.id in seen:
            left_out.append((row.id, TWICE))
            continue
        seen.add(row.id)
        if _UNUSABLE in row.row:
            left_out.append((row.id, row.row[_UNUSABLE]))
            continue
        if not row.validation and row.key in in_validation:
            left_out.append((row.id, IN_VALIDATION))
            continue
        try:
            encoded = prompts.encode(
                template,
                tokenizer,
                row.row,
                max_length=settings.max_length,
                train_on_inputs=settings.train_on_inputs,
            )
        except prompts.Refused as refused:
            left_out.append((row.id, refused.reason))
            continue
        mask = np.array(encoded.labels, np.int64) != prompts.IGNORED
        mask[0] = False
        if not mask.any():
            left_out.append((row.id, "nothing to train on"))
            continue
        if encoded.truncated:
            truncated.append(row.id)
        # Only what is said about the row later is kept of it.
        row.row = {key: row.row.get(key) for key in _SAID}
        kept[row.validation].append((row, np.array(encoded.input_ids, np.int32), mask))
    progress(total, total)
    if not kept[False]:
        reasons = Counter(reason for _, reason in left_out)
        why = ", ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common()) or "there are none"
        raise DataError(f"no row of {', '.join(settings.data)} can be trained on: {why}")
    every = [*kept[False], *kept[True]]
    lengths = [len(ids) for _, ids, _ in every]
    corpus = Corpus(
        ids=[row.id for row, _, _ in every],
        tokens=np.concatenate([ids for _, ids, _ in every]),
        trained=np.concatenate([mask for _, _, mask in every]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        validation=len(kept[True]),
        truncated=truncated,
        left_out=left_out,
    )
    _say_where_from(corpus, found, [row for row, _, _ in kept[False]], settings)
    return corpus


def _say_where_from(
    corpus: Corpus, found: Sequence[Source], rows: Sequence[_Row], settings: Settings
) -> None:
    """Fills in what ``run.json`` says of the data: licences, exam items, digests."""
    from meadow.core import licenses
    from meadow.core.store import Store, default_out

    by_source: dict[int, list[_Row]] = defaultdict(list)
    for row in rows:
        by_source[row.source].append(row)
    whole: dict[str, dict[str, Any]] = {}
    components: list[_Checked] = []
    store = Store(settings.out or default_out())
    for number, source in enumerate(found):
        mine = by_source[number]
        parts = _licensing(source, mine)
        for name, part in parts.items():
            _add(whole, name, part)
        checked = _checked(source, store)
        components += checked
        ids = sorted(row.id for row in mine)
        corpus.data.append(
            {
                "name": source.name,
                "version": source.version,
                **source.facts,
                "trained_rows": len(mine),
                "trained_ids_sha256": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
                "licenses": dict(sorted(Counter(_spdx(row.row) for row in mine).items())),
                "license_verdict": licenses.verdict_of(parts).described(),
                "contamination": {
                    "exams": sorted({exam for one in checked for exam, _, _ in one.exams}),
                    "unchecked": [text for one in checked for text in one.unchecked],
                },
            }
        )
    corpus.license_verdict = licenses.verdict_of(whole).described()
    corpus.exam_hits, corpus.unchecked = _exam_hits(components, {row.id for row in rows})


def _spdx(row: Mapping[str, Any]) -> str:
    from meadow.core import licenses

    found = row.get("license")
    return found if isinstance(found, str) and found else licenses.UNKNOWN.id


def _licensing(source: Source, rows: Sequence[_Row]) -> dict[str, dict[str, Any]]:
    """What `meadow.core.licenses.verdict_of` takes, for the rows that are trained on."""
    terms = (source.manifest or {}).get("license_terms") or {}
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        part = found.setdefault(
            row.row.get("dataset") or source.name,
            {"licenses": Counter(), "license_terms": terms, "generators": Counter()},
        )
        part["licenses"][_spdx(row.row)] += 1
        # The rows of a sample only imitate a model's.
        if row.row.get("generator") and not source.facts.get("sample"):
            part["generators"][row.row["generator"]] += 1
    return found


def _add(whole: dict[str, dict[str, Any]], name: str, part: Mapping[str, Any]) -> None:
    there = whole.setdefault(name, {"licenses": Counter(), "license_terms": {}, "generators": Counter()})
    there["licenses"].update(part["licenses"])
    there["generators"].update(part["generators"])
    there["license_terms"] = {**there["license_terms"], **part["license_terms"]}


@dataclass
class _Checked:
    """What one dataset or file was compared with.

    Attributes:
        name: The dataset or file.
        exams: (exam, version, split) to the entry of a manifest's ``contamination.exams``.
        hits: (row id, exam, item).
        unchecked: What was not compared, in sentences.
    """

    name: str
    exams: dict[tuple[str, str, str], Mapping[str, Any]]
    hits: list[tuple[str, str, str]]
    unchecked: list[str]


def _checked(source: Source, store: Any) -> list[_Checked]:
    from meadow.core.store import StoreError

    if source.manifest is None:
        return [_compare(source, store)]
    mixture = source.manifest.get("mixture")
    if not mixture:
        return [_of_dataset(source.manifest, store)]
    found = []
    for part in mixture["parts"]:
        name, version = part["dataset"], part["version"]
        try:
            manifest = store.manifest(name, version)
            if part.get("rows_sha256") not in (None, manifest.get("rows_sha256")):
                raise StoreError("it was built anew since")
        except StoreError as error:
            gone = (
                f"{name} {version}, a part of {source.name}: its list of exam items is not at hand: {error}"
            )
            found.append(_Checked(name, {}, [], [gone]))
            continue
        found.append(_of_dataset(manifest, store))
    return found


def _of_dataset(manifest: Mapping[str, Any], store: Any) -> _Checked:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from meadow.core.store import CONTAMINATION

    name, version = manifest["name"], manifest["version"]
    report = manifest.get("contamination") or {}
    if report.get("policy") in (None, "off"):
        return _Checked(name, {}, [], [f"{name} {version}: its rows were not compared with any exam"])
    exams = {(e["exam"], e["version"], e["split"]): e for e in report.get("exams", ())}
    unchecked = [f"{name} {version}: {text}" for text in report.get("unchecked", ())]
    path = store.folder(name, version) / CONTAMINATION
    hits: list[tuple[str, str, str]] = []
    if path.exists():
        try:
            table = pq.read_table(path, columns=["id", "exam", "item"]).to_pydict()
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: {error}; build {name} again") from error
        hits = list(zip(table["id"], table["exam"], table["item"], strict=True))
    elif any(e.get("rows_hit", 0) > e.get("rows_dropped", 0) for e in exams.values()):
        return _Checked(name, {}, [], [f"{path} is missing, so nobody can say which rows hold exam items"])
    return _Checked(name, exams, hits, unchecked)


def _compare(source: Source, store: Any) -> _Checked:
    """Compares a file's rows with the exams that are built: nobody else did."""
    import pyarrow as pa

    from meadow.filters import contamination
    from meadow.filters.contamination.stage import summary

    names = [name for name in store.names() if "mixture" not in store.manifest(name)]
    exams = [exam for name in names for exam in contamination.built_exams(store, name)]
    if not exams:
        return _Checked(
            source.name,
            {},
            [],
            [f"{source.name}: no exam is built in {store.root}, so its rows were not compared with any"],
        )
    index = contamination.Index.build(exams)
    rows = list(source.splits["train"])
    hits: list[tuple[str, str, str]] = []
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        fields = {
            name: pa.array(
                [row.get(name) if isinstance(row.get(name), str) else "" for row in batch], pa.string()
            )
            for name in (*_ASKED, _ANSWER)
        }
        for match in index.check(fields):
            hits.append((batch[match.row]["id"], index.exams[match.exam].name, match.item))
    found = {(e["exam"], e["version"], e["split"]): e for e in summary(index.exams, [], dropped=False)}
    return _Checked(source.name, found, hits, [])


def _exam_hits(
    components: Sequence[_Checked], trained: set[str]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Which items of which exams the rows trained on hold.

    Returns:
        For each exam that any of the data was compared with: ``checked``, its items; ``versions``; ``sha256``
        of its items per split; ``complete``, whether all of the data was compared with all of it; ``sample``;
        ``items``, those found in rows trained on. And what was not checked, in sentences.
    """
    every: dict[str, dict[tuple[str, str, str], Mapping[str, Any]]] = defaultdict(dict)
    for one in components:
        for key, entry in one.exams.items():
            every[key[0]][key] = entry
    items: dict[str, set[str]] = defaultdict(set)
    for one in components:
        for row, exam, item in one.hits:
            if row in trained:
                items[exam].add(item)
    unchecked = [text for one in components for text in one.unchecked]
    found = {}
    for exam, entries in sorted(every.items()):
        lacking = [one.name for one in components if not set(entries) <= set(one.exams)]
        unchecked += [f"{name}: its rows were not compared with all of {exam}" for name in lacking]
        found[exam] = {
            "checked": sum(entry.get("items", 0) for entry in entries.values()),
            "versions": sorted({version for _, version, _ in entries if version}),
            "sha256": {
                split or exam: entry.get("sha256") for (_, _, split), entry in sorted(entries.items())
            },
            "sample": any(entry.get("sample") for entry in entries.values()),
            "complete": not lacking,
            "items": sorted(items[exam]),
        }
    return found, list(dict.fromkeys(unchecked))
