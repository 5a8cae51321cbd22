"""The search for duplicates: who is like whom, and who survives. See `meadow.filters.duplicates.stage`."""

from __future__ import annotations

import contextlib
import functools
import shutil
from array import array
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meadow.core.parts import Piece
from meadow.core.workers import in_order
from meadow.filters.duplicates import lsh, minhash, opposites, signing

#: So few candidates are compared word by word at once; of more, so many whose hashes are most alike.
_FEW, _VERIFIED = 4, 16


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        members: See `meadow.filters.duplicates.stage.Duplicates`.
        apart: See there.
        kinds: Source and datasets of rows.
        paths: Part paths.
    """

    members: pa.Table
    apart: pa.Table
    kinds: tuple[tuple[str, tuple[str, ...]], ...]
    paths: tuple[str, ...]


class Search:
    """One search; `run` it once. The arguments are those of `meadow.filters.duplicates.stage.find`."""

    def __init__(
        self,
        pieces: list[Piece],
        folder: Path,
        executor: Executor,
        ahead: int,
        progress: Callable[[int, int], None],
        threshold: float,
    ) -> None:
        self._pieces = [p for p in pieces if not p.exam and p.part.rows > signing.count(p.drop)]
        self._folder, self._executor, self._ahead = folder, executor, ahead
        self._progress, self._threshold = progress, threshold
        self._banding = minhash.Banding.of(threshold)
        sources = [(piece.source, tuple(sorted(piece.part.configs))) for piece in self._pieces]
        self._kinds = sorted(set(sources))
        self._kind = np.array([self._kinds.index(source) for source in sources], np.int32)
        self._comparable = np.array(
            [[a != b or not set(c).isdisjoint(d) for b, d in self._kinds] for a, c in self._kinds], bool
        ).reshape(len(self._kinds), len(self._kinds))

    def run(self) -> Found:
        total = len(self._pieces)
        calls = (
            (signing.sign, piece, self._prefix(number), self._banding)
            for number, piece in enumerate(self._pieces)
        )
        counts = []
        for count in in_order(self._executor, calls, self._ahead):
            counts.append(count)
            self._progress(len(counts), 2 * total)
        self._starts = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        units, twins, twin_unit = self._exact()
        shared = lsh.buckets(functools.partial(self._band, units), self._banding.bands + 1)
        taking = np.zeros(len(units), bool)
        taking[shared.text] = True
        # Numbered anew, without the texts that share no bucket.
        shared.text = (np.cumsum(taking, dtype=np.uint32) - np.uint32(1))[shared.text]
        own = units[taking]
        matched = np.union1d(own, twins)
        table, texts = self._read(matched, np.isin(matched, own), shared)
        self._progress(2 * total, 2 * total)
        return self._decide(matched, table, texts, shared, own, twins, units[twin_unit])

    def _prefix(self, number: int) -> str:
        return str(self._folder / f"{number:07d}")

    def _load(self, number: int, name: str) -> np.ndarray:
        count = self._starts[number + 1] - self._starts[number]
        if not count:
            return np.empty((self._banding.bands, 0), np.uint64)
        return np.load(f"{self._prefix(number)}.{name}.npy", mmap_mode="r")[..., :count]

    def _column(self, name: str, at: int) -> np.ndarray:
        """One row of all pieces' arrays, joined: a value for each row of the build."""
        out = np.empty(self._starts[-1], np.uint64)
        for number in range(len(self._pieces)):
            out[self._starts[number] : self._starts[number + 1]] = self._load(number, name)[at]
        return out

    def _exact(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Groups rows of equal text and kind.

        Returns:
            A row of each group; the rows of groups of two or more; the group of each of those.
        """
        high, low = self._column("digests", 0), self._column("digests", 1)
        for number, kind in enumerate(self._kind):
            # Equal texts of different kinds are no group: they may not even be comparable.
            salt = minhash.mix(np.full(2, kind, np.uint64) + np.arange(1, 3, dtype=np.uint64) * 2**32)
            here = slice(self._starts[number], self._starts[number + 1])
            high[here] = minhash.mix(high[here] ^ salt[0])
            low[here] = minhash.mix(low[here] ^ salt[1])
        order = np.lexsort((low, high))
        new = np.ones(len(order), bool)
        high = high[order]
        new[1:] = high[1:] != high[:-1]
        high = low[order]
        new[1:] |= high[1:] != high[:-1]
        del high, low
        alone = new.copy()
        alone[:-1] &= new[1:]
        first = order[new]
        units = np.sort(first)
        group = np.cumsum(new) - 1
        twins = order[~alone]
        return units, twins, np.searchsorted(units, first[group[~alone]])

    def _band(self, units: np.ndarray, number: int) -> np.ndarray:
        # Equal texts of different kinds meet in a band of their own, whatever else is in the others.
        exact = number == self._banding.bands
        return (self._column("digests", 0) if exact else self._column("keys", number))[units]

    def _read(
        self, matched: np.ndarray, with_text: np.ndarray, shared: lsh.Buckets
    ) -> tuple[pa.Table, lsh.Texts]:
        """Reads again what there is to know of the rows that match some other."""
        edges = np.searchsorted(matched, self._starts)
        calls = (
            (
                signing.gather,
                piece,
                self._prefix(number),
                matched[edges[number] : edges[number + 1]] - self._starts[number],
                with_text[edges[number] : edges[number + 1]],
            )
            for number, piece in enumerate(self._pieces)
            if edges[number] < edges[number + 1]
        )
        path, done = self._folder / "matched", len(self._pieces)
        lengths = [np.zeros(1, np.int64)]
        with contextlib.ExitStack() as stack:
            writer = stack.enter_context(pa.ipc.new_stream(f"{path}.arrow", signing.MATCHED))
            hashes = stack.enter_context(Path(f"{path}.hashes").open("wb"))
            signatures = stack.enter_context(Path(f"{path}.signatures").open("wb"))
            for prefix, counts in in_order(self._executor, calls, self._ahead):
                with pa.memory_map(f"{prefix}.arrow") as source:
                    for batch in pa.ipc.open_stream(source):
                        writer.write_batch(batch)
                for name, out in (("hashes", hashes), ("signatures", signatures)):
                    with Path(f"{prefix}.{name}").open("rb") as data:
                        shutil.copyfileobj(data, out)
                    Path(f"{prefix}.{name}").unlink()
                Path(f"{prefix}.arrow").unlink()
                lengths.append(counts)
                done += 1
                self._progress(done, 2 * len(self._pieces))
        table = pa.ipc.open_stream(pa.memory_map(f"{path}.arrow")).read_all()
        piece = np.searchsorted(self._starts, matched, side="right") - 1
        kind = self._kind[piece]
        sources = sorted({source for source, _ in self._kinds})
        source = np.array([sources.index(name) for name, _ in self._kinds], np.int32)[kind]
        priority = np.array([p.priority for p in self._pieces], np.int64)[piece]
        keys = pa.table({
            "priority": priority, "source": source, "id": table["id"], "kind": kind,
            "high": table["high"], "low": table["low"],
        })  # fmt: skip
        order = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names])
        rank = np.empty(len(matched), np.uint32)
        rank[order.to_numpy()] = np.arange(len(matched), dtype=np.uint32)
        for name, values in (("piece", piece.astype(np.int32)), ("kind", kind), ("rank", rank)):
            table = table.append_column(name, pa.array(values))
        offsets = np.cumsum(np.concatenate(lengths))
        texts = lsh.Texts(
            rank[with_text],
            _mapped(f"{path}.hashes", np.uint64),
            offsets,
            _mapped(f"{path}.signatures", np.uint32).reshape(-1, minhash.VALUES),
            kind[with_text],
            self._comparable,
        )
        return table, texts

    def _decide(
        self,
        matched: np.ndarray,
        table: pa.Table,
        texts: lsh.Texts,
        shared: lsh.Buckets,
        own: np.ndarray,
        twins: np.ndarray,
        twin_unit: np.ndarray,
    ) -> Found:
        rank = table["rank"].to_numpy()
        by_rank = np.argsort(rank)
        own_at, twin_at = np.searchsorted(matched, own), np.searchsorted(matched, twins)
        # A group of equal texts of a kind stands and falls with its first row.
        groups, group = np.unique(twin_unit, return_inverse=True)
        first = np.full(len(groups), len(rank), np.uint32)
        np.minimum.at(first, group, rank[twin_at])
        own_group = np.searchsorted(groups, own)
        own_group[own_group == len(groups)] = 0
        several = groups[own_group] == own if len(groups) else np.zeros(len(own), bool)
        texts.rank = np.where(several, first[own_group], rank[own_at]) if len(groups) else rank[own_at]
        words = table["text"].filter(pc.is_valid(table["text"]))
        lost, survivor, lost_value, lost_equal, apart = self._near(words, texts, shared)
        row_of = by_rank[texts.rank]
        lost_to = row_of[survivor]
        # The others of a group: duplicates of its first row, or of what that was dropped for.
        to, value, equal = by_rank[first], np.ones(len(groups)), np.ones(len(groups), bool)
        both = lost[several[lost]]
        which = several[lost]
        to[own_group[both]], value[own_group[both]] = lost_to[which], lost_value[which]
        equal[own_group[both]] = lost_equal[which]
        rest = rank[twin_at] != first[group]
        group = group[rest]
        return self._report(
            matched,
            table,
            np.concatenate((row_of[lost], twin_at[rest])),
            np.concatenate((lost_to, to[group])),
            np.concatenate((lost_value, value[group])),
            np.concatenate((lost_equal, equal[group])),
            [(int(row_of[one]), int(row_of[other]), value, why) for one, other, value, why in apart],
        )

    def _near(
        self, words: pa.ChunkedArray, texts: lsh.Texts, shared: lsh.Buckets
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[tuple[int, int, float, str]]]:
        """Decides on each text, in the order in which they survive.

        Returns:
            Of those dropped: their numbers, the survivors, the similarities to these, and whether the
            texts are equal; and pairs that match and contradict each other, with what they differ in.
        """
        candidates = lsh.Candidates(shared, texts, self._banding.lowest(self._threshold))
        rank = texts.rank
        gone = bytearray(len(rank))
        lost, survivor, similarity, equal = array("q"), array("q"), array("d"), array("b")
        apart: list[tuple[int, int, float, str]] = []

        @functools.lru_cache(maxsize=256)
        def text_of(number: int) -> str:
            return words[number].as_py()

        @functools.lru_cache(maxsize=256)
        def shingles_of(number: int) -> frozenset:
            return minhash.shingles(text_of(number))

        for number in np.argsort(rank):
            number = int(number)
            found = [other for other in candidates.of(number) if not gone[other]]
            if len(found) > _FEW:
                found = candidates.closest(number, found, self._threshold, _VERIFIED)
            pairs = []
            for other in found:
                value = minhash.overlap(shingles_of(number), shingles_of(other))
                if value >= self._threshold:
                    # Equal texts first: others can have the same shingles in another order.
                    differs = value < 1 or text_of(number) != text_of(other)
                    pairs.append((differs, -value, rank[other], other))
            contradicted = None
            for differs, value, _, other in sorted(pairs):
                why = opposites.contradiction(text_of(number), text_of(other))
                if not why:
                    gone[number] = True
                    for values, new in (
                        (lost, number),
                        (survivor, other),
                        (similarity, -value),
                        (equal, not differs),
                    ):
                        values.append(new)
                    break
                contradicted = contradicted or (number, other, -value, why)
            else:
                candidates.add(number)
                if contradicted:
                    apart.append(contradicted)
        return (
            np.array(lost, np.int64),
            np.array(survivor, np.int64),
            np.array(similarity, np.float64),
            np.array(equal, bool),
            apart,
        )

    def _report(
        self,
        matched: np.ndarray,
        table: pa.Table,
        at: np.ndarray,
        survivor: np.ndarray,
        value: np.ndarray,
        equal: np.ndarray,
        apart: list[tuple[int, int, float, str]],
    ) -> Found:
        kept = np.unique(survivor)
        every, cluster = np.concatenate((at, kept)), np.concatenate((survivor, kept))
        piece = table["piece"].to_numpy()[every]
        number = matched[every] - self._starts[piece]
        row = np.empty(len(every), np.int64)
        order = np.argsort(piece, kind="stable")
        edges = np.searchsorted(piece[order], np.arange(len(self._pieces) + 1))
        for index in np.unique(piece).tolist():
            here = order[edges[index] : edges[index + 1]]
            row[here] = np.load(f"{self._prefix(index)}.rows.npy", mmap_mode="r")[number[here]]
        members = pa.table({
            "cluster": table["id"].take(cluster),
            "id": table["id"].take(every),
            "kept": np.arange(len(every)) >= len(at),
            "similarity": np.concatenate((value, np.ones(len(kept)))),
            "exact": np.concatenate((equal, np.zeros(len(kept), bool))),
            "survivor": table["rank"].take(cluster),
            "kind": table["kind"].take(every),
            "piece": piece,
            "row": row,
        })  # fmt: skip
        pairs = pa.table({
            "id": table["id"].take(np.array([a for a, _, _, _ in apart], np.int64)),
            "other": table["id"].take(np.array([b for _, b, _, _ in apart], np.int64)),
            "similarity": pa.array([value for _, _, value, _ in apart], pa.float64()),
            "differs": pa.array([why for _, _, _, why in apart], pa.string()),
            "kind": table["kind"].take(np.array([a for a, _, _, _ in apart], np.int64)),
        })  # fmt: skip
        return Found(
            members.combine_chunks(),
            pairs.combine_chunks(),
            tuple(self._kinds),
            tuple(piece.part.path for piece in self._pieces),
        )


def _mapped(path: str, kind: type) -> np.ndarray:
    return np.asarray(np.memmap(path, kind, "r")) if Path(path).stat().st_size else np.empty(0, kind)
