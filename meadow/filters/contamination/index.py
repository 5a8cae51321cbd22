"""The index: exams turned into arrays, and the rows of a column looked up in them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from meadow.core.manifest import CheckedExam
from meadow.filters.contamination.exams import ExamSource, ExamText
from meadow.filters.contamination.judging import (
    ANSWER,
    CONTEXT,
    ENOUGH,
    PHRASE,
    QUESTION,
    Hit,
    Judge,
    findable,
    word_weights,
)
from meadow.filters.contamination.match import RowWords
from meadow.filters.contamination.text import grams, hash_words, hashed, words

if TYPE_CHECKING:
    import pyarrow as pa

#: Words of a shingle, by which items are looked up.
_SHINGLE = 3
#: A row is looked at closely if it holds this share of an item's shingles, by weight.
_SUSPECT = 0.2
#: A shingle that more different texts of exams hold than this says nothing about any of them.
_COMMON = 16
#: Least weight of a shingle: "of the following" has less.
_LIGHT = 3.0
#: Words from one window of a long row to the next.
_STEP = 1000

_OPTIONS = "options"


class Index:
    """Exams that rows can be compared with; made by `build` or `load`.

    Attributes:
        exams: The exams, in the order they were given in: how many of their items can be found, and how many are
            `unjudged`, as they hold too little text of their own to be told from any other.
    """

    def __init__(
        self,
        exams: tuple[CheckedExam, ...],
        items: list[ExamText],
        weights: dict[str, float],
        arrays: Mapping[str, np.ndarray],
    ) -> None:
        self.exams = exams
        self._arrays = dict(arrays)
        self._judge = Judge(items, weights, self._arrays["phrases"], self._arrays["phrase_counts"])
        self._keys = self._arrays["keys"]
        # A table of bits-as-bytes tells in one look that a shingle is of no exam, which nearly all are.
        # Eight to sixteen places for each key, 8 MiB at most: more than that would fall out of the cache.
        bits = min(max((16 * len(self._keys)).bit_length() - 1, 12), 23)
        self._table_shift = np.uint64(64 - bits)
        self._table = np.zeros(1 << bits, bool)
        self._table[(self._keys >> self._table_shift).astype(np.int64)] = True
        bits = max(len(self._keys).bit_length() - 1, 1)
        self._bucket_shift = np.uint64(64 - bits)
        counts = np.bincount((self._keys >> self._bucket_shift).astype(np.int64), minlength=1 << bits)
        self._buckets = np.minimum(np.cumsum(counts) - counts, max(len(self._keys) - 1, 0))
        self._longest = int(counts.max())

    @classmethod
    def build(cls, sources: Iterable[ExamSource]) -> Index:
        """Reads exams and indexes them.

        Raises:
            ValueError: An exam holds two different items with one id.
        """
        exams: list[CheckedExam] = []
        every: list[tuple[int, ExamText]] = []
        names: Counter = Counter()
        for number, source in enumerate(sources):
            names[source.name, source.version, source.split] += 1
            again = names[source.name, source.version, source.split]
            # Two files of one name are two exams.
            name = source.name if again == 1 else f"{source.name} ({again})"
            mine = _by_id(source)
            lines = sorted(json.dumps(list(item), ensure_ascii=True) for item in mine.values())
            digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
            exams.append(
                CheckedExam(
                    exam=name, version=source.version, split=source.split, sample=source.sample, items=len(mine),
                    unjudged=0, items_hit=0, rows_hit=0, rows_dropped=0, sha256=digest,
                )
            )  # fmt: skip
            every += [(number, _normal(item)) for _, item in sorted(mine.items())]
        weights = word_weights([item for _, item in every])
        kept = [(exam, item) for exam, item in every if findable(item, weights)]
        found = Counter(exam for exam, _ in kept)
        judged = (
            exam.model_copy(update={"items": found[number], "unjudged": exam.items - found[number]})
            for number, exam in enumerate(exams)
        )
        items = [item for _, item in kept]
        arrays = {"exams": np.array([exam for exam, _ in kept], np.int64), **_arrays(items, weights)}
        return cls(tuple(judged), items, weights, arrays)

    def save(self, path: Path) -> None:
        """Writes the index to one file, the same for the same exams."""
        head = {
            "exams": [exam.model_dump() for exam in self.exams],
            "items": self._judge.items,
            "words": list(self._judge.weights),
        }
        weights = np.array(list(self._judge.weights.values()))
        with path.open("wb") as out:
            coded = np.frombuffer(json.dumps(head).encode(), np.uint8)
            np.savez(out, head=coded, weights=weights, **self._arrays)  # pyright: ignore[reportArgumentType]

    @classmethod
    def load(cls, path: Path) -> Index:
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as found:
            arrays = dict(found)
        head, weights = json.loads(arrays.pop("head").tobytes()), arrays.pop("weights").tolist()
        exams = tuple(CheckedExam.model_validate(exam) for exam in head["exams"])
        items = [ExamText(i, question, tuple(o), a, context) for i, question, o, a, context in head["items"]]
        return cls(exams, items, dict(zip(head["words"], weights, strict=True)), arrays)

    def check(self, fields: Mapping[str, pa.Array]) -> list[Hit]:
        """Finds the rows that hold an item.

        Args:
            fields: Columns of texts, equally long; an item may begin in one and end in another.

        Returns:
            The hits, by row, exam and item. Each row is judged by itself.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self._judge.items or not fields:
            return []
        columns = {name: pc.fill_null(column.cast(pa.large_string()), "") for name, column in fields.items()}
        joined = pc.binary_join_element_wise(*columns.values(), pa.scalar("\n", pa.large_string()))
        best: dict[tuple[int, int], Hit] = {}
        row = -1
        for at, window, entry in self._suspects(joined):
            if at != row:
                row = at
                whole = RowWords.of([(name, words(column[at].as_py())) for name, column in columns.items()])
                last = -1
            if window != last:
                last = window
                place = whole.part(window * _STEP, window * _STEP + 2 * _STEP)
            found = self._judge.compare(place, entry)
            if found is not None and ((row, entry) not in best or found.share > best[row, entry].share):
                exam = self.exams[self._arrays["exams"][entry]]
                best[row, entry] = found._replace(
                    row=row, exam=exam.exam, version=exam.version, split=exam.split
                )
        return [best[key] for key in sorted(best)]

    def _suspects(self, column: pa.Array) -> Iterator[tuple[int, int, int]]:
        """Rows, windows in them, and items that have enough shingles in common, in this order.

        A row of up to two steps of words is one window. A longer one, which may be a book, has a window at
        each step, two steps long: else its size alone would make it look like every short item.
        """
        hashes, first = hashed(column)
        shingles = grams(hashes, _SHINGLE)
        if not len(self._keys):
            return
        hit = np.flatnonzero(self._table[(shingles >> self._table_shift).view(np.int64)])
        keys = shingles[hit]
        place = self._find(keys)
        there = self._keys[place] == keys
        hit, place = hit[there], place[there]
        row = np.searchsorted(first, hit, "right") - 1
        inside = hit + _SHINGLE <= first[row + 1]
        row, place, step = row[inside], place[inside], (hit - first[row])[inside] // _STEP
        windows = np.maximum(-(-np.diff(first) // _STEP) - 1, 1)
        base = np.cumsum(windows) - windows
        # Each place but those at the ends of a long row is in two windows.
        here, before = step < windows[row], step > 0
        window = np.concatenate([(base[row] + step)[here], (base[row] + step - 1)[before]])
        place = np.concatenate([place[here], place[before]])
        # A shingle that a window holds twice counts once.
        once = np.unique(window * len(self._keys) + place)
        window, place = once // len(self._keys), once % len(self._keys)
        begin = self._arrays["postings"][place]
        many = self._arrays["postings"][place + 1] - begin
        shift = np.repeat(begin - np.concatenate([[0], np.cumsum(many)[:-1]]), many)
        passage = self._arrays["passages"][np.arange(len(shift)) + shift]
        weight = np.repeat(self._arrays["key_weights"][place], many)
        pair = np.repeat(window, many) * len(self._arrays["totals"]) + passage
        pairs, inverse = np.unique(pair, return_inverse=True)
        sums = np.bincount(inverse, weight, len(pairs))
        window, passage = pairs // len(self._arrays["totals"]), pairs % len(self._arrays["totals"])
        enough = sums >= _SUSPECT * self._arrays["totals"][passage]
        entry = self._arrays["entries"][passage[enough]]
        found = np.unique(window[enough] * len(self._judge.items) + entry)
        window, entry = found // len(self._judge.items), found % len(self._judge.items)
        row = np.searchsorted(base, window, "right") - 1
        yield from zip(row.tolist(), (window - base[row]).tolist(), entry.tolist(), strict=True)

    def _find(self, keys: np.ndarray) -> np.ndarray:
        """Where each key stands, or would stand, among those of the index.

        They are hashes and so spread evenly: a table by their first bits leads to the place or next to it,
        where a binary search would wait for memory at every step.
        """
        place = self._buckets[(keys >> self._bucket_shift).view(np.int64)]
        for _ in range(self._longest):
            place = np.minimum(place + (self._keys[place] < keys), len(self._keys) - 1)
        return place


def _normal(item: ExamText) -> ExamText:
    """An item with words and spaces only; of longer texts their beginning, which fits a window of a row."""
    question, answer, context, *options = (
        " ".join(words(text)[:_STEP]) for text in (item.question, item.answer, item.context, *item.options)
    )
    return ExamText(item.id, question, tuple(options), answer, context)


def _by_id(source: ExamSource) -> dict[str, ExamText]:
    found: dict[str, ExamText] = {}
    for item in source.items:
        if found.setdefault(item.id, item) != item:
            raise ValueError(f"{source.name}: two different items have the id {item.id!r}; give each its own")
    return found


def _arrays(entries: list[ExamText], weights: Mapping[str, float]) -> dict[str, np.ndarray]:
    of_word = dict(zip(weights, hash_words(list(weights)).tolist(), strict=True))
    texts: dict[int, dict[int, float]] = {}  # shingles of each passage, with weights
    counts: Counter = Counter()
    phrases: Counter = Counter()
    owners: list[int] = []
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        for part, text in _passages(entry, weights):
            found: dict[int, float] = {}
            for stretch in text:
                mine = stretch.split()
                hashes = np.array([of_word[word] for word in mine], np.uint64)
                for i, key in enumerate(grams(hashes, _SHINGLE).tolist()):
                    weight = sum(weights[word] for word in mine[i : i + _SHINGLE])
                    if weight >= _LIGHT:
                        found[key] = weight
                if part != _OPTIONS and stretch not in seen:
                    phrases.update(set(grams(hashes, PHRASE).tolist()))
            whole = "\n".join(text)
            if whole not in seen:
                counts.update(list(found))
            seen.add(whole)
            texts[len(owners)] = found
            owners.append(number)
    postings: dict[int, list[int]] = defaultdict(list)
    shared: dict[int, float] = {}
    totals = np.zeros(len(owners))
    for passage, found in texts.items():
        kept: dict[int, float] = {}
        weight, half = 0.0, sum(found.values()) / 2
        # Where most of a text is stock, or is told in many items, its rarest shingles must do.
        for key in sorted(found, key=lambda key: (counts[key], key)):
            if counts[key] > _COMMON and weight >= half:
                break
            kept[key] = found[key]
            weight += found[key]
        for key, weight in kept.items():
            postings[key].append(passage)
            shared[key] = weight / counts[key]
            totals[passage] += shared[key]
    keys = sorted(postings)
    common = sorted(key for key, count in phrases.items() if count > 1)
    return {
        "keys": np.array(keys, np.uint64),
        "key_weights": np.array([shared[key] for key in keys], np.float64),
        "postings": np.cumsum([0, *(len(postings[key]) for key in keys)], dtype=np.int64),
        "passages": np.array([p for key in keys for p in postings[key]], np.int64),
        "totals": totals,
        "entries": np.array(owners, np.int64),
        "phrases": np.array(common, np.uint64),
        "phrase_counts": np.array([phrases[key] for key in common], np.int64),
    }


def _passages(entry: ExamText, weights: Mapping[str, float]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What an item is looked up by."""

    def weight(text: str) -> float:
        return sum(weights[word] for word in text.split())

    yield QUESTION, (entry.question,)
    if weight(entry.question) < ENOUGH and entry.options:
        yield _OPTIONS, entry.options
    if weight(entry.context) >= ENOUGH:
        yield CONTEXT, (entry.context,)
    if weight(entry.answer) >= ENOUGH:
        yield ANSWER, (entry.answer,)
