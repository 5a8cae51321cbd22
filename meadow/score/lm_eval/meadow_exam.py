"""Reads the exams in this folder, and scores options by their texts. Written by Meadow; needs only the harness."""

from pathlib import Path
from typing import Any


def load(file: str, **_: Any) -> dict[str, Any]:
    """The items of an exam's part; `file` is relative to this folder, so that it can be moved."""
    import datasets
    import pyarrow.parquet

    return {"test": datasets.Dataset(pyarrow.parquet.read_table(Path(__file__).parent / file))}


def score_texts(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    """Accuracy by the likelihood of the options' texts: by its sum, and divided by their characters.

    What stands in front of each text, the same for all, was asked for as well where there is something: it is the
    last result, and is taken away.
    """
    sums = [found[0] for found in results]
    same = sums.pop() if len(sums) > len(doc["texts"]) else 0.0
    sums = [value - same for value in sums]
    normed = [value / max(1, len(text)) for value, text in zip(sums, doc["texts"], strict=True)]
    return {
        name: float(values.index(max(values)) == doc["answer"])
        for name, values in (("acc", sums), ("acc_norm", normed))
    }
