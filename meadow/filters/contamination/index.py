"""The index: exams turned into arrays, and the rows of a column looked up in them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from meadow.filters.contamination.exams import Exam, Item, Source
from meadow.filters.contamination.match import Block, Row, align, holds
from meadow.filters.contamination.stock import SHARES, TEXTS
from meadow.filters.contamination.text import hash_words, hashed, words

if TYPE_CHECKING:
    import pyarrow as pa

#: A hit holds this share of a text's own words, each weighed by how rare it is.
SHARE = 0.6
#: Of a text of fewer than so many words it holds this share: one topic gives two short questions much in common.
SHORT, SHORT_SHARE = 20, 0.7
#: And so many words, of this weight (nats): fewer could stand in any text.
FEW, ENOUGH = 8, 25.0
#: Fewer words will do where the question's options stand by it: this share of it and of their own words, which
#: must have some weight themselves.
OPTIONS_SHARE, OPTIONS_WEIGHT = 0.6, 8.0
#: Or where its answer stands by it word for word: this share of the question; where the question is there word
#: for word, too, both together may have less weight.
ANSWERED_SHARE, ANSWERED_ENOUGH = 0.85, 15.0
#: A question without a word of this weight (one in ninety texts has it) is stock: no answer makes it the item's,
#: and of its options nearly all must be there.
STOCK, STOCK_SHARE = 4.5, 0.9
#: Words in a row that both have in common for it to be a copy.
RUN = 13

#: Words of a shingle, by which items are looked up.
_SHINGLE = 3
#: A row is looked at closely if it holds this share of an item's shingles, by weight.
_SUSPECT = 0.2
#: A shingle that more different texts of exams hold than this says nothing about any of them.
_COMMON = 16
#: Least weight of a shingle: "of the following" has less.
_LIGHT = 3.0
#: Words of a phrase, by which it shows that a stretch of an item is stock.
_PHRASE = 4
#: How far from a question its options may stand, in words, beside twice their own number.
_NEAR = 60
#: Words from one window of a long row to the next.
_STEP = 1000
_ODD = (np.uint64(0xA0761D6478BD642F), np.uint64(0xE7037ED1A0B428DB))
_SHIFT = np.uint64(29)

_QUESTION, _CONTEXT, _ANSWER, _OPTIONS = "question", "context", "answer", "options"


class Match(NamedTuple):
    """A row that holds an item.

    Attributes:
        row: The row's number in what was checked.
        exam: The exam's number in `Index.exams`.
        item: The item's id.
        part: What of the item it holds: ``question``, ``context`` or ``answer``.
        kind: ``verbatim`` or ``paraphrase``.
        share: The share of the item's own words, 0 to 1.
        fields: The row's fields that hold them, with a comma between.
        overlap: The words that both have in common, shortened.
    """

    row: int
    exam: int
    item: str
    part: str
    kind: str
    share: float
    fields: str
    overlap: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """An indexed item: its exam's number and its words, a space between each."""

    exam: int
    id: str
    question: str
    options: tuple[str, ...]
    answer: str
    context: str


def _grams(hashes: np.ndarray, size: int) -> np.ndarray:
    """The hash of each `size` words that follow one another."""
    count = max(len(hashes) - size + 1, 0)
    found = hashes[:count].copy()
    for i in range(1, size):
        found *= _ODD[0]
        found += hashes[i : i + count]
    found ^= found >> _SHIFT
    found *= _ODD[1]
    return found


class Index:
    """Exams that rows can be compared with; made by `build` or `load`.

    Attributes:
        exams: The exams, in the order they were given in.
    """

    def __init__(
        self,
        exams: tuple[Exam, ...],
        entries: list[_Entry],
        weights: dict[str, float],
        arrays: Mapping[str, np.ndarray],
    ) -> None:
        self.exams = exams
        self._entries = entries
        self._weights = weights
        self._arrays = dict(arrays)
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
        self._own: dict[tuple[int, str], tuple[list[str], list[float], list[float]]] = {}

    @classmethod
    def build(cls, sources: Iterable[Source]) -> Index:
        """Reads exams and indexes them.

        Raises:
            ValueError: An exam holds two different items with one id.
        """
        exams, entries = [], []
        names: Counter = Counter()
        for number, source in enumerate(sources):
            names[source.name, source.version, source.split] += 1
            again = names[source.name, source.version, source.split]
            # Two files of one name are two exams.
            name = source.name if again == 1 else f"{source.name} ({again})"
            mine = _entries(number, source)
            lines = sorted(json.dumps(list(item), ensure_ascii=True) for item in mine.values())
            digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
            exams.append(Exam(name, source.version, source.split, source.sample, len(mine), 0, digest))
            entries += [
                _Entry(
                    number,
                    item.id,
                    _normal(item.question),
                    tuple(map(_normal, item.options)),
                    _normal(item.answer),
                    _normal(item.context),
                )
                for _, item in sorted(mine.items())
            ]
        weights = _word_weights(entries)
        kept = [entry for entry in entries if _findable(entry, weights)]
        found = Counter(entry.exam for entry in kept)
        exams = [
            Exam(e.name, e.version, e.split, e.sample, found[i], e.items - found[i], e.sha256)
            for i, e in enumerate(exams)
        ]
        return cls(tuple(exams), kept, weights, _arrays(kept, weights))

    def save(self, path: Path) -> None:
        """Writes the index to one file: a line of JSON, then arrays as ``.npy`` one after the other."""
        names = sorted(self._arrays)
        head = {
            "exams": [asdict(exam) for exam in self.exams],
            "entries": [
                [e.exam, e.id, e.question, list(e.options), e.answer, e.context] for e in self._entries
            ],
            "words": list(self._weights),
            "arrays": names,
        }
        with path.open("wb") as out:
            out.write(json.dumps(head).encode() + b"\n")
            np.save(out, np.array(list(self._weights.values())), allow_pickle=False)
            for name in names:
                np.save(out, self._arrays[name], allow_pickle=False)

    @classmethod
    def load(cls, path: Path) -> Index:
        """Reads what `save` wrote."""
        with path.open("rb") as stream:
            head = json.loads(stream.readline())
            weights = np.load(stream, allow_pickle=False).tolist()
            arrays = {name: np.load(stream, allow_pickle=False) for name in head["arrays"]}
        entries = [_Entry(e, i, q, tuple(o), a, c) for e, i, q, o, a, c in head["entries"]]
        exams = tuple(Exam(**exam) for exam in head["exams"])
        return cls(exams, entries, dict(zip(head["words"], weights, strict=True)), arrays)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that a lookup uses."""
        return (
            self._table.nbytes + self._buckets.nbytes + sum(array.nbytes for array in self._arrays.values())
        )

    def check(self, fields: Mapping[str, pa.Array]) -> list[Match]:
        """Finds the rows that hold an item.

        Args:
            fields: Columns of texts, equally long; an item may begin in one and end in another.

        Returns:
            The matches, by row, exam and item. Each row is judged by itself.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self._entries or not fields:
            return []
        columns = {name: pc.fill_null(column.cast(pa.large_string()), "") for name, column in fields.items()}
        joined = pc.binary_join_element_wise(*columns.values(), pa.scalar("\n", pa.large_string()))
        best: dict[tuple[int, int], Match] = {}
        row = -1
        for at, window, entry in self._suspects(joined):
            if at != row:
                row = at
                whole = Row.of([(name, words(column[at].as_py())) for name, column in columns.items()])
                last = -1
            if window != last:
                last = window
                place = whole.part(window * _STEP, window * _STEP + 2 * _STEP)
            found = self._compare(place, entry)
            if found is not None and ((row, entry) not in best or found.share > best[row, entry].share):
                best[row, entry] = found._replace(row=row)
        return sorted(best.values())

    def _suspects(self, column: pa.Array) -> Iterator[tuple[int, int, int]]:
        """Rows, windows in them, and items that have enough shingles in common, in this order.

        A row of up to two steps of words is one window. A longer one, which may be a book, has a window at
        each step, two steps long: else its size alone would make it look like every short item.
        """
        hashes, first = hashed(column)
        grams = _grams(hashes, _SHINGLE)
        if not len(self._keys):
            return
        hit = np.flatnonzero(self._table[(grams >> self._table_shift).view(np.int64)])
        keys = grams[hit]
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
        found = np.unique(window[enough] * len(self._entries) + entry)
        window, entry = found // len(self._entries), found % len(self._entries)
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

    def _compare(self, row: Row, number: int) -> Match | None:
        best: Match | None = None
        entry = self._entries[number]
        for part, text in ((_QUESTION, entry.question), (_CONTEXT, entry.context), (_ANSWER, entry.answer)):
            mine, weights, shares = self._words(number, part, text)
            if part != _QUESTION and (len(mine) < RUN or sum(weights) < ENOUGH):
                continue
            # Most suspects fall here: words that are nowhere in the row are not there in order either.
            whole = sum(shares)
            there = sum(s for s, word in zip(shares, mine, strict=True) if word in row.vocabulary)
            if there < OPTIONS_SHARE * whole:
                continue
            blocks = align(mine, row)
            share = sum(sum(shares[b.mine : b.mine + b.size]) for b in blocks) / whole if whole else 0.0
            held = sum(sum(weights[b.mine : b.mine + b.size]) for b in blocks)
            count = sum(b.size for b in blocks)
            good = share >= (SHARE if len(mine) >= SHORT else SHORT_SHARE) and held >= ENOUGH and count >= FEW
            if not good and part == _QUESTION and blocks:
                good = self._supported(row, entry, blocks, share, held)
            if good and (best is None or share > best.share):
                long = sum(
                    sum(shares[b.mine : b.mine + b.size]) for b in blocks if b.size >= min(RUN, len(mine))
                )
                kind = "verbatim" if long >= whole / 2 else "paraphrase"
                best = Match(
                    0, entry.exam, entry.id, part, kind, round(min(share, 1.0), 4),
                    row.fields(blocks), _overlap(mine, blocks),
                )  # fmt: skip
        return best

    def _supported(self, row: Row, entry: _Entry, blocks: list[Block], share: float, held: float) -> bool:
        """Whether what stands by a short question shows it to be the item's: its options, or its answer."""
        if share < OPTIONS_SHARE:
            return False
        asked = set(entry.question.split())
        stock = all(self._weights[word] < STOCK for word in asked)
        start = max(0, blocks[0].theirs - _NEAR)
        end = blocks[-1].theirs + blocks[-1].size + _NEAR + 2 * sum(len(o.split()) for o in entry.options)
        near = row.words[start:end]
        # Words that the question holds, too, show nothing.
        own = dict.fromkeys(word for option in entry.options for word in option.split() if word not in asked)
        if len(entry.options) > 1 and own:
            total = sum(self._weights[word] for word in own)
            there = set(near)
            found = sum(self._weights[word] for word in own if word in there)
            needed = STOCK_SHARE if stock else OPTIONS_SHARE
            if found >= max(needed * total, OPTIONS_WEIGHT) and held + found >= ENOUGH:
                return True
        if share < ANSWERED_SHARE or stock:
            return False
        answer = entry.answer.split()
        together = held + sum(self._weights[word] for word in dict.fromkeys(answer) if word not in asked)
        whole = len(blocks) == 1 and blocks[0].size == len(entry.question.split())
        return together >= (ANSWERED_ENOUGH if whole else ENOUGH) and holds(near, answer)

    def _words(self, number: int, part: str, text: str) -> tuple[list[str], list[float], list[float]]:
        """A text's words, their weights, and what they weigh in a share; kept for the next row."""
        found = self._own.get((number, part))
        if found is None:
            mine = text.split()
            weights = [self._weights[word] for word in mine]
            found = self._own[number, part] = mine, weights, self._stocked(mine, weights)
        return found

    def _stocked(self, text: list[str], weights: list[float]) -> list[float]:
        """The words' weights, less where the phrase around a word is in several texts of the exams.

        Divided by one more than the logarithm of their number: a phrase in a hundred texts counts a fifth, while
        a vignette that five questions are asked about still makes up most of each.
        """
        if len(text) < _PHRASE:
            return weights
        grams = _grams(hash_words(text), _PHRASE)
        keys, counts = self._arrays["phrases"], self._arrays["phrase_counts"]
        if not len(keys):
            return weights
        place = np.minimum(np.searchsorted(keys, grams), len(keys) - 1)
        count = np.where(keys[place] == grams, counts[place], 1)
        least = np.full(len(text), np.iinfo(np.int32).max, np.int64)
        for i in range(_PHRASE):
            np.minimum(least[i : i + len(count)], count, out=least[i : i + len(count)])
        return (np.array(weights) / (1 + np.log(least))).tolist()


def _normal(text: str) -> str:
    """A text's words with spaces between; of a longer one its beginning, which fits a window of a row."""
    return " ".join(words(text)[:_STEP])


def _entries(number: int, source: Source) -> dict[str, Item]:
    found: dict[str, Item] = {}
    for item in source.items:
        if found.setdefault(item.id, item) != item:
            raise ValueError(f"{source.name}: two different items have the id {item.id!r}; give each its own")
    return found


def _word_weights(entries: list[_Entry]) -> dict[str, float]:
    """The weight of each word: the logarithm of how many texts there are for one that holds it."""
    counts: Counter = Counter()
    # An item that two exams share (MedQA with five and with four options) is one text.
    seen = {(e.question, e.context): e for e in reversed(entries)}
    for entry in seen.values():
        counts.update(set(" ".join((entry.question, entry.context, entry.answer, *entry.options)).split()))
    for entry in entries:
        counts.update({word: 0 for o in (*entry.options, entry.answer) for word in o.split()})
    total = TEXTS + len(seen)
    found = {}
    for word, count in sorted(counts.items()):
        prior = max(SHARES.get(word, 0) * TEXTS, 1)
        found[word] = float(np.log(total / min(count + prior, total)))
    return found


def _findable(entry: _Entry, weights: Mapping[str, float]) -> bool:
    """Whether a whole copy of an item would be a hit, by any of the rules."""

    def weight(words: Iterable[str]) -> float:
        return sum(weights[word] for word in words)

    question, answer = entry.question.split(), entry.answer.split()
    asked = set(question)
    held = weight(question)
    if len(question) >= FEW and held >= ENOUGH:
        return True
    for text in (entry.context.split(), answer):
        if len(text) >= RUN and weight(text) >= ENOUGH:
            return True
    own = weight(dict.fromkeys(w for option in entry.options for w in option.split() if w not in asked))
    if question and len(entry.options) > 1 and own >= OPTIONS_WEIGHT and held + own >= ENOUGH:
        return True
    together = held + weight(dict.fromkeys(word for word in answer if word not in asked))
    return bool(answer) and any(weights[w] >= STOCK for w in question) and together >= ANSWERED_ENOUGH


def _arrays(entries: list[_Entry], weights: Mapping[str, float]) -> dict[str, np.ndarray]:
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
                for i, key in enumerate(_grams(hashes, _SHINGLE).tolist()):
                    weight = sum(weights[word] for word in mine[i : i + _SHINGLE])
                    if weight >= _LIGHT:
                        found[key] = weight
                if part != _OPTIONS and stretch not in seen:
                    phrases.update(set(_grams(hashes, _PHRASE).tolist()))
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


def _passages(entry: _Entry, weights: Mapping[str, float]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What an item is looked up by."""

    def weight(text: str) -> float:
        return sum(weights[word] for word in text.split())

    yield _QUESTION, (entry.question,)
    if weight(entry.question) < ENOUGH and entry.options:
        yield _OPTIONS, entry.options
    if weight(entry.context) >= ENOUGH:
        yield _CONTEXT, (entry.context,)
    if weight(entry.answer) >= ENOUGH:
        yield _ANSWER, (entry.answer,)


def _overlap(text: list[str], blocks: list[Block], limit: int = 300) -> str:
    """The words in common, " ... " between those that are not side by side."""
    found = " ... ".join(" ".join(text[b.mine : b.mine + b.size]) for b in blocks)
    return found if len(found) <= limit else found[: limit - 4].rsplit(" ", 1)[0] + " ..."
