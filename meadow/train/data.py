"""The rows of a run: split, tokenised, and what must be said about them later.

Nothing is dropped in silence: every row that is not trained on is counted with its reason and listed by id.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from meadow.core.store import Store, default_out
from meadow.models import prompts
from meadow.train.provenance import Provenance, trace
from meadow.train.reading import SAID, UNUSABLE, DataError, RowSource

TWICE = "given twice"
IN_VALIDATION = "its group is in the validation rows"


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
        provenance: What ``run.json`` says of the rows that are trained on.
    """

    ids: list[str]
    tokens: np.ndarray
    trained: np.ndarray
    offsets: np.ndarray
    validation: int
    truncated: list[str]
    left_out: list[tuple[str, str]]
    provenance: Provenance = field(default_factory=Provenance)

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


@dataclass
class _Candidate:
    id: str
    key: str
    source: int
    validation: bool
    row: Mapping[str, Any]
    tokens: np.ndarray = field(init=False)
    trained: np.ndarray = field(init=False)

    def encode(self, template: prompts.Template, tokenizer: Any, most: int, inputs: bool) -> bool:
        """Tokenises the row, of which only what is said about it later is kept; returns whether it was cut.

        Raises:
            Refused: Nothing of it can be trained on.
        """
        if UNUSABLE in self.row:
            raise prompts.Refused(self.row[UNUSABLE])
        found = prompts.encode(template, tokenizer, self.row, max_length=most, train_on_inputs=inputs)
        self.tokens = np.array(found.input_ids, np.int32)
        self.trained = np.array(found.labels, np.int64) != prompts.IGNORED
        self.trained[0] = False
        if not self.trained.any():
            raise prompts.Refused("nothing to train on")
        self.row = {"id": self.id, **{key: self.row.get(key) for key in SAID}}
        return found.truncated


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


def _rows(found: Sequence[RowSource], share: float) -> Iterator[_Candidate]:
    for number, source in enumerate(found):
        own = "validation" in source.splits
        for split, rows in source.splits.items():
            if split == "validation" and not share:
                continue
            for row in rows:
                key = _group(row)
                validation = split == "validation" if own else bool(share) and held_out(key, share)
                yield _Candidate(str(row["id"]), key, number, validation, row)


def prepare(
    found: Sequence[RowSource],
    tokenizer: Any,
    template: prompts.Template,
    *,
    max_length: int,
    train_on_inputs: bool = False,
    validation: float = 0.1,
    out: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Corpus:
    """Splits and tokenises rows.

    Args:
        found: What `meadow.train.reading.sources` opened.
        tokenizer: The model's.
        template: How a row is put to the model.
        max_length: Most tokens of a row; what is cut of a longer one, `meadow.models.prompts` says.
        train_on_inputs: Loss on prompt and answer, not on the answer alone.
        validation: Share of groups held out where a dataset has no validation split; 0: no validation rows.
        out: Meadow's output folder; None for the usual one.
        progress: Called with rows done and rows in all.

    Raises:
        DataError: No row can be trained on.
    """
    total = sum(source.rows for source in found)
    in_validation = {row.key for row in _rows(found, validation) if row.validation}
    kept: dict[bool, list[_Candidate]] = {False: [], True: []}
    seen: set[str] = set()
    truncated, left_out = [], []
    for done, row in enumerate(_rows(found, validation), start=1):
        if done % 500 == 0:
            progress(done, total)
        if row.id in seen:
            left_out.append((row.id, TWICE))
            continue
        seen.add(row.id)
        if not row.validation and row.key in in_validation and UNUSABLE not in row.row:
            left_out.append((row.id, IN_VALIDATION))
            continue
        try:
            cut = row.encode(template, tokenizer, max_length, train_on_inputs)
        except prompts.Refused as refused:
            left_out.append((row.id, refused.reason))
            continue
        if cut:
            truncated.append(row.id)
        kept[row.validation].append(row)
    progress(total, total)
    if not kept[False]:
        reasons = Counter(reason for _, reason in left_out)
        why = ", ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common()) or "there are none"
        raise DataError(f"no row of {', '.join(source.name for source in found)} can be trained on: {why}")
    every = [*kept[False], *kept[True]]
    mine: list[list[Mapping[str, Any]]] = [[] for _ in found]
    for row in kept[False]:
        mine[row.source].append(row.row)
    return Corpus(
        ids=[row.id for row in every],
        tokens=np.concatenate([row.tokens for row in every]),
        trained=np.concatenate([row.trained for row in every]),
        offsets=np.concatenate([[0], np.cumsum([len(row.tokens) for row in every])]).astype(np.int64),
        validation=len(kept[True]),
        truncated=truncated,
        left_out=left_out,
        provenance=trace(found, mine, Store(out or default_out())),
    )
