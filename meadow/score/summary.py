"""The numbers of a score, from predictions: what ``scores.json`` holds.

A prediction is a line of ``predictions.jsonl`` as `meadow.score.predictions` describes it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meadow.core.errors import Error
from meadow.core.version import VERSION
from meadow.score import predictions, statistics
from meadow.score.exams import Exam, ExamItem
from meadow.score.leaks import Knowledge, unknown

__all__ = ["Baseline", "SCORES", "SummaryError", "read_baseline", "summarize"]

SCORES = "scores.json"
#: Ways to choose an option by likelihood; the first is the one that counts.
CHOICES = ("letter", "text", "text_norm")
#: The predictions of one order of the options, by item.
_Run = Mapping[str, Mapping[str, Any]]
#: Items that a message names.
_MOST = 5


class SummaryError(Error):
    """Predictions that do not make a score, or a run that cannot be compared with."""


@dataclass(frozen=True)
class Baseline:
    """Another run, to be compared with: `correct` tells by id what it has right, options as they are written."""

    folder: Path
    scores: Mapping[str, Any]
    correct: Mapping[str, bool]


def read_baseline(folder: Path | str, exam: Exam) -> Baseline:
    """Reads another run's ``--output``, before the exam of this run is scored.

    Raises:
        SummaryError: It is no finished run, or one about other items; the message says what differs.
    """
    folder = Path(folder)
    try:
        scores = json.loads((folder / SCORES).read_text(encoding="utf-8"))
        theirs, count = scores["exam"], scores["overall"]["n"]
        _, lines = predictions.read(folder)
        correct = {line["id"]: bool(line["correct"]) for line in lines if not line["permutation"]}
    except FileNotFoundError as error:
        raise SummaryError(
            f"baseline {folder}: it has no {SCORES}, so it is no finished run of scoring; give the --output folder "
            "of one"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, predictions.ScoringError) as error:
        why = error if isinstance(error, predictions.ScoringError) else repr(error)
        raise SummaryError(f"baseline {folder}: it cannot be read ({why}); score that model again") from error
    ids = {item.id for item in exam.items}
    differs = []
    for key in ("name", "version"):
        if theirs.get(key) != (mine := getattr(exam, key)):
            differs.append(f"its exam's {key} is {theirs.get(key) or 'none'}, this one's {mine or 'none'}")
    if missing := sorted(ids - set(correct)):
        differs.append(f"{len(missing)} items are not in it ({_some(missing)})")
    if more := sorted(set(correct) - ids):
        differs.append(f"{len(more)} of its items are not in this run ({_some(more)})")
    if theirs.get("items_sha256") != exam.items_sha256 and not missing and not more:
        differs.append("the items have the same ids and other texts, options or answers")
    # The same items under another file's name are the same exam.
    if theirs.get("items_sha256") != exam.items_sha256 or missing or more or count != len(exam.items):
        raise SummaryError(
            f"baseline {folder}: it cannot be compared item by item: {'; '.join(differs)}. "
            "Score both models on the same exam, with the same --split and --limit"
        )
    return Baseline(folder, scores, correct)


def published(exam: str) -> dict[str, Any] | None:
    """The published table of an exam (a dataset's name); None without one.

    ``published.json`` has its figures as printed, and beside each a Wilson interval; its note says for which n, and why.
    """
    table = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
    return table if table["exam"] == exam else None


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_MOST]) + (", ..." if len(ids) > _MOST else "")


def summarize(
    exam: Exam,
    lines: Iterable[Mapping[str, Any]],
    *,
    protocol: str,
    model: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
    leaks: Knowledge | None = None,
    baseline: Baseline | None = None,
    notes: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Computes all that is reported of a run.

    Args:
        exam: The exam.
        lines: One prediction for each item and permutation; a second of the same is passed over.
        protocol: How the model was asked, by `settings`.
        model: What it is (``name``, fingerprint...), for the report.
        settings: How it was run, for the report.
        leaks: What is known of items that the model may have read.
        baseline: Another run on the same items.
        notes: What a reader must know, such as a protocol's defects.
        seed: Of the bootstrap.

    Raises:
        SummaryError: An item has no prediction.
    """
    runs: dict[int, dict[str, Mapping[str, Any]]] = {0: {}}
    for line in lines:
        runs.setdefault(int(line.get("permutation") or 0), {}).setdefault(line["id"], line)
    main = runs[0]
    if missing := [item.id for item in exam.items if item.id not in main]:
        raise SummaryError(
            f"{len(missing)} of {len(exam.items)} items have no prediction ({_some(missing)}); run the same command "
            "again, it goes on where it stopped"
        )
    # An order that a killed run began, and that was not asked for again, is not there for every item.
    runs = {p: run for p, run in runs.items() if all(item.id in run for item in exam.items)}
    leaks = leaks or unknown("Nothing was asked about what this model was trained on.")
    groups = {
        state: [i for i in exam.items if leaks.state(i.id) == state] for state in ("clean", "hit", "unknown")
    }
    scores: dict[str, Any] = {
        "protocol": protocol,
        "protocol_notes": list(notes),
        "exam": exam.described(),
        "model": dict(model),
        "settings": dict(settings or {}),
        "overall": _score(exam.items, main, exam.excluded),
        "parts": {
            part: _score(exam.of(part), main, exam.excluded_parts.get(part, {})) for part in exam.parts
        },
        "how": dict(Counter(str(main[item.id].get("how")) for item in exam.items).most_common()),
        "cut": sum(bool(main[item.id].get("cut")) for item in exam.items),
        "chance": sum(1 / len(item.options) for item in exam.items) / len(exam.items),
        "leaks": leaks.described(),
        # Without anything known there is neither a clean item nor a rest.
        "clean": _score(groups["clean"], main) if leaks.source else None,
        "rest": _score([*groups["hit"], *groups["unknown"]], main) if leaks.source else None,
        "hit": _score(groups["hit"], main) if leaks.source else None,
        "unknown": len(groups["unknown"]),
        "choices": _choices(exam, main),
        "permutation": _permutation(exam.items, runs),
        "calibration": _calibration(exam.items, main),
        "baseline": _against(exam, main, protocol, baseline, seed) if baseline else None,
        "published": published(exam.name),
        "meadow_version": VERSION,
    }
    if scores["clean"] and groups["clean"] and groups["hit"]:
        one, other = ((g["correct"], g["n"]) for g in (scores["clean"], scores["hit"]))
        scores["leaks"]["difference"] = one[0] / one[1] - other[0] / other[1]
        scores["leaks"]["interval"] = list(statistics.difference_interval(one, other))
    return scores


def _share(items: Sequence[ExamItem], right: Mapping[str, bool]) -> dict[str, Any]:
    n, correct = len(items), sum(right[item.id] for item in items)
    share, interval = (correct / n, list(statistics.wilson(correct / n, n))) if n else (None, None)
    return {"n": n, "correct": correct, "accuracy": share, "interval": interval}


def _score(items: Sequence[ExamItem], run: _Run, excluded: Mapping[str, int] | None = None) -> dict[str, Any]:
    found = _share(items, {item.id: bool(run[item.id]["correct"]) for item in items})
    found["unparsed"] = sum(run[item.id].get("parsed") is None for item in items)
    if excluded is not None:
        found["excluded"] = sum(excluded.values())
    return found


def _choices(exam: Exam, run: _Run) -> dict[str, Any] | None:
    """Accuracy by each way of choosing an option by likelihood."""
    found = {}
    for way in CHOICES:
        chosen = {item.id: (run[item.id].get("choices") or {}).get(way) for item in exam.items}
        if None not in chosen.values():
            right = {item.id: chosen[item.id] == item.answer_key for item in exam.items}
            parts = {part: _share(exam.of(part), right) for part in exam.parts}
            found[way] = {**_share(exam.items, right), "parts": parts}
    return found or None


def _permutation(items: Sequence[ExamItem], runs: Mapping[int, _Run]) -> dict[str, Any] | None:
    """What another order of the options changes."""
    if len(runs) < 2:
        return None
    n = len(items)
    answers = [[runs[order][item.id] for order in sorted(runs)] for item in items]
    right = [[bool(line["correct"]) for line in lines] for lines in answers]
    written, *shuffled = (sum(each) / n for each in zip(*right, strict=True))
    moved = sum(len({line.get("parsed") for line in lines}) > 1 for lines in answers)
    return {
        "orders": len(shuffled),
        "written": written,
        "shuffled": shuffled,
        "mean": sum(shuffled) / len(shuffled),
        "least": min(shuffled),
        "most": max(shuffled),
        "moved": moved,
        "moved_share": moved / n,
        "moved_interval": list(statistics.wilson(moved / n, n)),
        "always_right": sum(map(all, right)),
        "ever_right": sum(map(any, right)),
        "places": _places(items, runs),
    }


def _places(items: Sequence[ExamItem], runs: Mapping[int, _Run]) -> dict[str, Any] | None:
    """How often each place in the prompt was chosen, and how often the right option stood there."""
    chosen, stood = Counter[str](), Counter[str]()
    for run in runs.values():
        for item in items:
            line = run[item.id]
            if not line.get("order"):
                return None
            places = dict(zip(line["order"], item.options, strict=False))
            stood[places[item.answer_key]] += 1
            if line.get("parsed") is not None:
                chosen[places[line["parsed"]]] += 1
    return {place: {"chosen": chosen[place], "right": stood[place]} for place in sorted({*chosen, *stood})}


def _calibration(items: Sequence[ExamItem], run: _Run) -> dict[str, Any] | None:
    """Whether the model is right as often as the likelihoods of the letters make it look sure."""
    pairs = []
    for item in items:
        values = (run[item.id].get("likelihoods") or {}).get(CHOICES[0])
        if not values:
            return None
        sums = [values[key]["sum"] for key in item.options]
        shares = statistics.probabilities([-math.inf if value is None else value for value in sums])
        pairs.append((shares, list(item.options).index(item.answer_key)))
    return {"by": CHOICES[0], **statistics.calibration(pairs)}


def _against(exam: Exam, run: _Run, protocol: str, baseline: Baseline, seed: int) -> dict[str, Any]:
    this = {item.id: bool(run[item.id]["correct"]) for item in exam.items}

    def compare(items: Iterable[ExamItem]) -> dict[str, Any]:
        ids = [item.id for item in items]
        mine, theirs = ({i: right[i] for i in ids} for right in (this, baseline.correct))
        return statistics.paired(mine, theirs, seed=seed)

    theirs = baseline.scores
    return {
        "folder": str(baseline.folder),
        "model": theirs.get("model"),
        "protocol": theirs.get("protocol"),
        "same_protocol": theirs.get("protocol") == protocol,
        "accuracy": sum(baseline.correct.values()) / len(baseline.correct),
        "overall": compare(exam.items),
        "parts": {part: compare(exam.of(part)) for part in exam.parts},
        "resamples": statistics.RESAMPLES,
        "seed": seed,
    }
