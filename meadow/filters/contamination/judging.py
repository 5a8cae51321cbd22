"""Judges whether a row holds an item: by the item's own words, what they weigh, and what stands beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from meadow.filters.contamination.exams import ExamText
from meadow.filters.contamination.match import Block, RowWords, align, holds
from meadow.filters.contamination.text import grams, hash_words
from meadow.parse.wordlists import read_words

# Measured on six medical MMLU subjects (1,089 items), MedQA's development split (1,272), PubMedQA's test split (500)
# and 26,000 rows of unrelated text; ``docs/contamination.md`` says what they find.
#
#: A hit holds this share of a text's own words, each weighed by how rare it is.
#: With one word in ten replaced, 99 of 100 questions of 20 to 60 words keep 0.74 or more. Of MedQA's questions
#: compared with each other four pairs reach 0.6, each one vignette retold; no other two reach 0.56.
SHARE = 0.6
#: Of a text of fewer than so many words it holds this share: one topic gives two short questions
#: much in common, up to 0.65 ("growth hormone deficiency").
SHORT, SHORT_SHARE = 20, 0.7
#: And so many words, of this weight (nats, here four or five rare words): fewer could stand in any text. A disease's
#: long name alone weighs as much, but has not so many words.
FEW, ENOUGH = 8, 25.0
#: Fewer words will do where the question's options stand by it: this share of it and of their own words, which
#: must have some weight themselves. At 0.5 four unrelated rows hit, texts on the organ asked for; at 0.6 none.
OPTIONS_SHARE, OPTIONS_WEIGHT = 0.6, 8.0
#: Or where its answer stands by it word for word: this share of the question; where the question is there word
#: for word, too, both together may have less weight.
ANSWERED_SHARE, ANSWERED_ENOUGH = 0.85, 15.0
#: A question without a word of this weight (one in ninety texts has it) is stock: no answer makes it the item's,
#: and of its options nearly all must be there.
STOCK, STOCK_SHARE = 4.5, 0.9
#: Words in a row that both have in common for it to be a copy.
RUN = 13
#: Words of a phrase, by which it shows that a stretch of an item is stock.
PHRASE = 4
#: Other exam questions that are taken as seen before the exams, so that a small exam is judged like a large one:
#: in one of twenty questions nearly every word occurs once, "following" as much as "halofantrine".
TEXTS = 3000
#: The share of these texts that a word occurs in; any word that is not here occurs in one of them. Round figures:
#: on exams of hundreds of items the counts themselves decide.
SHARES = {
    word: float(share)
    for share, words in read_words(Path(__file__).with_name("common_words.tsv")).items()
    for word in words
}
#: How far from a question its options may stand, in words, beside twice their own number.
_NEAR = 60

QUESTION, CONTEXT, ANSWER = "question", "context", "answer"


class Hit(NamedTuple):
    """A row that holds an item of an exam.

    Attributes:
        row: The row's number in what was checked; in a part, all its rows counted, as `Piece.drop` counts them.
        id: The row's id; empty where only texts were checked.
        exam: The exam's name.
        version: The exam's version; empty for a user's file.
        split: The exam's split; empty for a user's file.
        item: The item's id.
        part: What of the item it holds: ``question``, ``context`` or ``answer``.
        kind: ``verbatim`` or ``paraphrase``.
        share: The share of the item's own words, 0 to 1.
        field: The row's fields that hold them, with a comma between.
        overlap: The words that both have in common, shortened.
    """

    row: int
    id: str
    exam: str
    version: str
    split: str
    item: str
    part: str
    kind: str
    share: float
    field: str
    overlap: str


class Judge:
    """Compares rows with items.

    Args:
        items: The items, each text as its words with a space between.
        weights: The weight of each of their words.
        phrases: Hashes of `PHRASE` words in a row that several of their texts hold, ascending.
        phrase_counts: How many texts hold each.
    """

    def __init__(
        self,
        items: list[ExamText],
        weights: dict[str, float],
        phrases: np.ndarray,
        phrase_counts: np.ndarray,
    ) -> None:
        self.items, self.weights = items, weights
        self._phrases, self._phrase_counts = phrases, phrase_counts
        self._own: dict[tuple[int, str], tuple[list[str], list[float], list[float]]] = {}

    def compare(self, row: RowWords, number: int) -> Hit | None:
        """How much of an item a row holds; None where that is no hit. The hit names no row and exam yet."""
        best: Hit | None = None
        entry = self.items[number]
        for part, text in ((QUESTION, entry.question), (CONTEXT, entry.context), (ANSWER, entry.answer)):
            mine, weights, shares = self._words(number, part, text)
            if part != QUESTION and (len(mine) < RUN or sum(weights) < ENOUGH):
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
            if not good and part == QUESTION and blocks:
                good = self._supported(row, entry, blocks, share, held)
            if good and (best is None or share > best.share):
                long = sum(
                    sum(shares[b.mine : b.mine + b.size]) for b in blocks if b.size >= min(RUN, len(mine))
                )
                kind = "verbatim" if long >= whole / 2 else "paraphrase"
                best = Hit(
                    0, "", "", "", "", entry.id, part, kind, round(min(share, 1.0), 4),
                    row.fields(blocks), _overlap(mine, blocks),
                )  # fmt: skip
        return best

    def _supported(
        self, row: RowWords, entry: ExamText, blocks: list[Block], share: float, held: float
    ) -> bool:
        """Whether what stands by a short question shows it to be the item's: its options, or its answer."""
        if share < OPTIONS_SHARE:
            return False
        asked = set(entry.question.split())
        stock = all(self.weights[word] < STOCK for word in asked)
        start = max(0, blocks[0].theirs - _NEAR)
        end = blocks[-1].theirs + blocks[-1].size + _NEAR + 2 * sum(len(o.split()) for o in entry.options)
        near = row.words[start:end]
        # Words that the question holds, too, show nothing.
        own = dict.fromkeys(word for option in entry.options for word in option.split() if word not in asked)
        if len(entry.options) > 1 and own:
            total = sum(self.weights[word] for word in own)
            there = set(near)
            found = sum(self.weights[word] for word in own if word in there)
            needed = STOCK_SHARE if stock else OPTIONS_SHARE
            if found >= max(needed * total, OPTIONS_WEIGHT) and held + found >= ENOUGH:
                return True
        if share < ANSWERED_SHARE or stock:
            return False
        answer = entry.answer.split()
        together = held + sum(self.weights[word] for word in dict.fromkeys(answer) if word not in asked)
        whole = len(blocks) == 1 and blocks[0].size == len(entry.question.split())
        return together >= (ANSWERED_ENOUGH if whole else ENOUGH) and holds(near, answer)

    def _words(self, number: int, part: str, text: str) -> tuple[list[str], list[float], list[float]]:
        """A text's words, their weights, and what they weigh in a share; kept for the next row."""
        found = self._own.get((number, part))
        if found is None:
            mine = text.split()
            weights = [self.weights[word] for word in mine]
            found = self._own[number, part] = mine, weights, self._stocked(mine, weights)
        return found

    def _stocked(self, text: list[str], weights: list[float]) -> list[float]:
        """The words' weights, less where the phrase around a word is in several texts of the exams.

        Divided by one more than the logarithm of their number: a phrase in a hundred texts counts a fifth, while
        a vignette that five questions are asked about still makes up most of each.
        """
        if len(text) < PHRASE:
            return weights
        found = grams(hash_words(text), PHRASE)
        keys, counts = self._phrases, self._phrase_counts
        if not len(keys):
            return weights
        place = np.minimum(np.searchsorted(keys, found), len(keys) - 1)
        count = np.where(keys[place] == found, counts[place], 1)
        least = np.full(len(text), np.iinfo(np.int32).max, np.int64)
        for i in range(PHRASE):
            np.minimum(least[i : i + len(count)], count, out=least[i : i + len(count)])
        return (np.array(weights) / (1 + np.log(least))).tolist()


def word_weights(entries: list[ExamText]) -> dict[str, float]:
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


def findable(entry: ExamText, weights: Mapping[str, float]) -> bool:
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


def _overlap(text: list[str], blocks: list[Block], limit: int = 300) -> str:
    """The words in common, " ... " between those that are not side by side."""
    found = " ... ".join(" ".join(text[b.mine : b.mine + b.size]) for b in blocks)
    return found if len(found) <= limit else found[: limit - 4].rsplit(" ", 1)[0] + " ..."
