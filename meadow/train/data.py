"""The rows of a run: split, tokenised, and what must be said about them later.

Nothing is dropped in silence: every row that is not trained on is counted with its reason and listed by id.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from meadow.core.store import Store, default_out
from meadow.models import prompts
from meadow.train.folder import say
from meadow.train.model import BaseFolder
from meadow.train.reading import SAID, UNUSABLE, DataError, Provenance, RowSource, sources, trace
from meadow.train.settings import TrainSettings, rank

TWICE = "given twice"
IN_VALIDATION = "its group is in the validation rows"


@dataclass
class Corpus:
    """Tokenised rows."""

    #: Row ids, those trained on first.
    ids: list[str]
    #: The token ids of all rows, one after the other, int32.
    tokens: np.ndarray
    #: Of each token, whether the loss is on it; never on a row's first, which nothing predicts.
    trained: np.ndarray
    #: Where each row begins in `tokens`, and the end; one more than rows.
    offsets: np.ndarray
    #: How many of the rows, the last ones, are for validation.
    validation: int
    #: Ids of rows of which something was cut.
    truncated: list[str]
    #: (id, reason) of rows that are not used.
    left_out: list[tuple[str, str]]
    #: What ``run.json`` says of the rows that are trained on.
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


def held_out(key: str, share: float) -> bool:
    """Whether a group is for validation: by a hash of its name, so the same in every run and order of the data."""
    digest = hashlib.sha256(f"validation\n{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _group(row: Mapping[str, Any]) -> str:
    """What must not straddle the split. The source's name goes before it: pages of two sources may be named alike."""
    if group := row.get("group"):
        return f"{str(row['id']).partition('/')[0]}\n{group}"
    # Of a file without groups, rows that ask the same belong together.
    return hashlib.sha256(f"{row.get('instruction')}\n{row.get('input')}".encode()).hexdigest()


def _rows(found: Sequence[RowSource], share: float) -> Iterator[tuple[int, Mapping[str, Any], str, bool]]:
    """Every row with its source's number, its group, and whether it is for validation."""
    for number, source in enumerate(found):
        own = "validation" in source.splits
        for split, rows in source.splits.items():
            if split == "validation" and not share:
                continue
            for row in rows:
                key = _group(row)
                held = split == "validation" if own else bool(share) and held_out(key, share)
                yield number, row, key, held


def prepare(
    s: TrainSettings, found: Sequence[RowSource], tokenizer: Any, template: prompts.Template
) -> Corpus:
    """Splits and tokenises the rows of opened sources; raises DataError where none can be trained on."""
    from tqdm.auto import tqdm

    in_validation = {key for _, _, key, held in _rows(found, s.validation) if held}
    kept: dict[bool, list[tuple[str, np.ndarray, np.ndarray]]] = {False: [], True: []}
    # For each source what is said later about its rows that are trained on.
    said: list[list[Mapping[str, Any]]] = [[] for _ in found]
    seen: set[str] = set()
    truncated, left_out = [], []
    total = sum(len(rows) for source in found for rows in source.splits.values())
    bar = tqdm(desc="tokenising", total=total, leave=False, unit="row", mininterval=1.0, disable=rank() > 0)
    for number, row, key, held in _rows(found, s.validation):
        bar.update()
        name = str(row["id"])
        try:
            if name in seen:
                raise prompts.Refused(TWICE)
            seen.add(name)
            if UNUSABLE in row:
                raise prompts.Refused(row[UNUSABLE])
            if not held and key in in_validation:
                raise prompts.Refused(IN_VALIDATION)
            encoded = prompts.encode(
                template, tokenizer, row, max_length=s.max_length, train_on_inputs=s.train_on_inputs
            )
            trained = np.array(encoded.labels, np.int64) != prompts.IGNORED
            trained[0] = False
            if not trained.any():
                raise prompts.Refused("nothing to train on")
        except prompts.Refused as refused:
            left_out.append((name, refused.reason))
            continue
        truncated += [name] if encoded.truncated else []
        kept[held].append((name, np.array(encoded.input_ids, np.int32), trained))
        if not held:
            said[number].append({"id": name, **{column: row.get(column) for column in SAID}})
    bar.close()
    if not kept[False]:
        reasons = Counter(reason for _, reason in left_out)
        why = ", ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common()) or "there are none"
        raise DataError(f"no row of {', '.join(source.name for source in found)} can be trained on: {why}")
    ids, tokens, trained = zip(*kept[False], *kept[True], strict=True)
    return Corpus(
        ids=list(ids),
        tokens=np.concatenate(tokens),
        trained=np.concatenate(trained),
        offsets=np.cumsum([0, *map(len, tokens)], dtype=np.int64),
        validation=len(kept[True]),
        truncated=truncated,
        left_out=left_out,
        provenance=trace(found, said, Store(s.out or default_out())),
    )


def load_rows(s: TrainSettings, base: BaseFolder) -> Corpus:
    """Reads, splits and tokenises rows, and says how many there are; raises DataError where they cannot be used."""
    import datasets

    datasets.disable_progress_bars()
    # What a dataset lacks is said once, not by each process.
    with contextlib.redirect_stderr(io.StringIO()) if rank() else contextlib.nullcontext():
        found = sources(s.data, s.out)
    corpus = prepare(s, found, base.tokenizer, base.template)
    counts = corpus.counts()
    say(
        f"{counts['trained']:,} rows to train on, {counts['validation_rows']:,} for validation, {counts['tokens']:,} "
        f"tokens, of which {counts['trained_tokens']:,} are trained"
        f" ({'prompt and answer' if s.train_on_inputs else 'answers'})"
    )
    if counts["truncated"]:
        say(f"{counts['truncated']:,} rows are longer than {s.max_length} tokens and were cut")
    for reason, count in counts["refused"].items():
        say(f"{count:,} rows left out: {reason}")
    for exam, hits in corpus.provenance.exam_hits.items():
        if hits["items"]:
            say(f"rows trained on hold {len(hits['items']):,} of the {hits['checked']:,} items of {exam}")
    if s.validation and not corpus.validation:
        say("no row is for validation: there are too few groups, so no validation loss will be shown")
    return corpus
