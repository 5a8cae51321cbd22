"""What people see of a score: ``report.md`` with its plot, ``scores.json``, and tables in the terminal.

`meadow.score.summary` computes the numbers, here they are only written out: `write` and `show` take its result.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from meadow.describe.cards.markdown import printable
from meadow.describe.cards.templates import render_markdown
from meadow.score.plot import plot
from meadow.score.predictions import ScoringError
from meadow.score.summary import SCORES, Baseline, SummaryError, read_baseline, summarize

__all__ = ["Baseline", "SummaryError", "describe", "read_baseline", "show", "summarize", "write"]

REPORT, PLOT = "report.md", "plot.svg"
_WAYS = {
    "letter": "likelihood of the option's letter (counts)",
    "text": "likelihood of the option's text",
    "text_norm": "likelihood of the option's text, per character",
}


def write(folder: Path | str, scores: Mapping[str, Any]) -> None:
    """Writes ``scores.json``, ``report.md`` and ``plot.svg``, each in one step.

    Raises:
        ScoringError: The folder cannot be written to.
    """
    folder = Path(folder)
    found = json.dumps(_finite(scores), ensure_ascii=False, indent=2, allow_nan=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / PLOT, plot(scores))
        _replace(folder / REPORT, describe(scores).encode())
        # Last: a folder that has it is a finished run.
        _replace(folder / SCORES, f"{found}\n".encode())
    except OSError as error:
        raise ScoringError(
            f"{folder}: the report cannot be written: {error.strerror or error}; see to the disk and run the same "
            "command again, all answers are kept"
        ) from error


def _replace(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _finite(value: Any) -> Any:
    """The same without numbers that JSON has no form for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return str(value) if isinstance(value, Path) else value


# ---- the same words for both ----


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if not ends else f"{ends[0]:.3f} to {ends[1]:.3f}"


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _name(model: Mapping[str, Any] | None) -> str:
    model = model or {}
    return str(model.get("name") or model.get("path") or "the model")


def _exam_name(exam: Mapping[str, Any]) -> str:
    return f"{exam['name']} {exam['version']}".strip()


def _warnings(scores: Mapping[str, Any]) -> Iterator[str]:
    """What a reader must know before any number."""
    exam = scores["exam"]
    if exam["sample"]:
        yield (
            f"SAMPLE: these are the {exam['whole']} questions of the small embedded sample, written for tests, not the real "
            f"{exam['name']}. The numbers say that everything works, and nothing about the model."
        )
    if exam["items"] < exam["whole"]:
        yield f"LIMITED to {exam['items']} of {exam['whole']} items: a trial, not a score."
    if scores["overall"]["n"] < 30:
        yield f"Only {scores['overall']['n']} items: the intervals are wide."


def _main_rows(scores: Mapping[str, Any]) -> Iterator[list[str]]:
    rows = list(scores["parts"].items())
    # What is left out is known of the whole even where nobody can say of which part.
    rows = [*rows, ("overall", scores["overall"])] if len(rows) > 1 else [(rows[0][0], scores["overall"])]
    for name, found in rows:
        yield [
            name,
            f"{found['n']}",
            f"{found['correct']}",
            _share(found["accuracy"]),
            _interval(found["interval"]),
            f"{found['unparsed']}",
            f"{found['excluded']}",
        ]


_MAIN = ("part", "n", "correct", "accuracy", "95 % interval", "unparsed", "excluded")


def _main_words(scores: Mapping[str, Any]) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in scores["exam"]["excluded"].items())
    words = (
        f"Guessing would give {scores['chance']:.3f}. Intervals are Wilson's. An answer that cannot be read (unparsed) counts "
        "as wrong. Excluded items are not asked and in no n"
    )
    return words + (f": {reasons}." if reasons else "; there are none.")


def _leak_rows(scores: Mapping[str, Any]) -> Iterator[list[str]]:
    unknown = scores["unknown"]
    others = (
        f"the rest ({scores['hit']['n']} found in training rows, {unknown} unknown)"
        if unknown
        else "the rest"
    )
    for name, found in (("found clean", scores["clean"]), (others, scores["rest"])):
        yield [
            name,
            f"{found['n']}",
            f"{found['correct']}",
            _share(found["accuracy"]),
            _interval(found["interval"]),
        ]


def _leak_words(scores: Mapping[str, Any]) -> Iterator[str]:
    leaks = scores["leaks"]
    if not leaks["source"]:
        yield "Unknown. " + " ".join(leaks["notes"])
    else:
        yield f"Known from: {leaks['source']}."
        yield (
            "A clean item stands in no row that the model was trained on. The rest does, word for word or retold, or was "
            "not compared."
        )
        if leaks["dropped"]:
            yield (
                f"{leaks['dropped']} items stood in other rows, which were found and left out when the data were built: the model "
                "was not trained on those rows, so for them these items count as clean."
            )
        elif leaks["dropped"] == 0:
            yield "No other row of the data was left out for holding one."
        if "difference" in leaks:
            yield (
                f"Clean less found in training: {leaks['difference']:+.3f} (95 % interval {leaks['interval'][0]:+.3f} to "
                f"{leaks['interval'][1]:+.3f}, Newcombe)."
            )
        yield from leaks["notes"]
    yield "What the base model read before is not known."


def _permutation_rows(found: Mapping[str, Any]) -> Iterator[list[str]]:
    yield ["accuracy as written", _share(found["written"])]
    yield [f"accuracy under {found['orders']} shuffled orders, mean", _share(found["mean"])]
    yield ["least and most of them", f"{found['least']:.3f} and {found['most']:.3f}"]
    yield [
        "items whose answer moves",
        f"{found['moved']} ({found['moved_share']:.1%}; 95 % interval {_interval(found['moved_interval'])})",
    ]
    yield ["items right in every order", f"{found['always_right']}"]
    yield ["items right in at least one", f"{found['ever_right']}"]


def _against_rows(found: Mapping[str, Any]) -> Iterator[list[str]]:
    rows = list(found["parts"].items())
    for name, pair in [*rows, ("overall", found["overall"])] if len(rows) > 1 else rows:
        low, high = pair["interval"]
        yield [
            name, f"{pair['n']}", f"{pair['gained']}", f"{pair['lost']}", f"{pair['difference']:+.3f}",
            f"{low:+.3f} to {high:+.3f}", _p(pair["p"]),
        ]  # fmt: skip


_AGAINST = ("part", "n", "only here", "only there", "difference", "95 % interval", "p")


def _against_words(scores: Mapping[str, Any]) -> str:
    found = scores["baseline"]
    words = (
        f"The same items, one by one, against the run in {found['folder']} (accuracy {found['accuracy']:.3f}). "
        f"Only here, only there: items that one run has right and the other wrong. Intervals: bootstrap over items, "
        f"{found['resamples']:,} resamples, seed {found['seed']}; p: McNemar's test, exact and two-sided."
    )
    if not found["same_protocol"]:
        words += f" It was asked by another protocol, {found['protocol']}: the difference is of both, model and protocol."
    return words


def _published_rows(scores: Mapping[str, Any], narrow: bool = False) -> Iterator[list[str]]:
    published = scores["published"]
    steps = list(published["scored"])
    mine = {**scores["parts"], "overall": scores["overall"]}
    here = [mine.get(place) for place in (*steps, "overall")]
    name = f"{_name(scores['model'])} ({scores['protocol']}{', SAMPLE' if scores['exam']['sample'] else ''})"
    yield ["this model" if narrow else name, *(_cell(found, narrow) for found in here)]
    for row in published["rows"]:
        cells = (*(row["parts"].get(step) for step in steps), row["overall"])
        yield [row["model"], *(_cell(found, narrow) for found in cells)]


def _cell(found: Mapping[str, Any] | None, narrow: bool) -> str:
    if not found or found["accuracy"] is None:
        return "-"
    low, high = found["interval"]
    if not narrow:
        return f"{found['accuracy']:.3f} ({low:.3f} to {high:.3f})"
    # Five columns in 80 characters leave no room for a nought before the point.
    ends = "-".join(f"{end:.2f}".removeprefix("0") for end in (low, high))
    return f"{found['accuracy']:.3f}".removeprefix("0") + f" {ends}"


# ---- Markdown ----


def describe(scores: Mapping[str, Any]) -> str:
    """``report.md``: every number with what it was computed from."""
    tables = dict(_tables(scores))
    return render_markdown(
        Path(__file__).with_name("report.md.j2"),
        scores=scores,
        model=_name(scores["model"]),
        exam_name=_exam_name(scores["exam"]),
        warnings=list(_warnings(scores)),
        main_words=_main_words(scores),
        leak_words=" ".join(_leak_words(scores)),
        against_words=_against_words(scores) if scores["baseline"] else "",
        calibration_words=_calibration_words(scores["calibration"]) if scores["calibration"] else "",
        run=json.dumps(_finite(_run(scores)), ensure_ascii=False, indent=2),
        **tables,
    )


def _tables(scores: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Sequence[str], list[list[str]]]]]:
    """The report's tables by name, each a header and rows; those of which nothing is known are left out."""
    yield "main", (_MAIN, list(_main_rows(scores)))
    if choices := scores["choices"]:
        header = ("option is chosen by", "correct", "accuracy", "95 % interval")
        rows = [
            [_WAYS[way], f"{found['correct']}", _share(found["accuracy"]), _interval(found["interval"])]
            for way, found in choices.items()
        ]
        yield "choices", (header, rows)
    if scores["clean"]:
        yield "leaks", (("items", "n", "correct", "accuracy", "95 % interval"), list(_leak_rows(scores)))
    if found := scores["permutation"]:
        yield "permutation", (("", "value"), list(_permutation_rows(found)))
        places = (found["places"] or {}).items()
        rows = [[place, f"{c['chosen']}", f"{c['right']}"] for place, c in places]
        yield "places", (("place", "chosen", "right option stood there"), rows)
    if found := scores["baseline"]:
        yield "against", (_AGAINST, list(_against_rows(found)))
    if found := scores["calibration"]:
        header = ("confidence", "n", "mean confidence", "accuracy", "95 % interval")
        rows = [
            [
                f"{b['low']:.1f} to {b['high']:.1f}",
                f"{b['n']}",
                _share(b["confidence"]),
                _share(b["accuracy"]),
                _interval(b["interval"]),
            ]
            for b in found["bins"]
            if b["n"]
        ]
        yield "calibration", (header, rows)
    if published := scores["published"]:
        yield "published", (("model", *published["scored"], "overall"), list(_published_rows(scores)))


def _calibration_words(found: Mapping[str, Any]) -> str:
    return (
        f"Over {found['n']} items, confidence being the softmax of the options' letters: ECE {found['ece']:.3f} (ten bins "
        f"of equal width), mean confidence {found['confidence']:.3f} at accuracy {found['accuracy']:.3f}, Brier score "
        f"{found['brier']:.3f}, log loss {found['log_loss']:.3f} nats."
    )


def _run(scores: Mapping[str, Any]) -> dict[str, Any]:
    exam = {k: scores["exam"][k] for k in ("name", "version", "ids_sha256", "items_sha256", "license")}
    kept = {key: scores[key] for key in ("protocol", "model", "settings", "meadow_version")}
    return {**kept, "exam": exam}


# ---- terminal ----


def show(scores: Mapping[str, Any], console: Any = None) -> None:
    """Prints a score as tables.

    Args:
        scores: The content of ``scores.json``.
        console: A rich console; None for the terminal.
    """
    from rich.console import Console

    console = console or Console(highlight=False, soft_wrap=False)

    def say(line: str, style: str = "") -> None:
        console.print(printable(line), style=style or None, markup=False, highlight=False)

    def head(title: str) -> None:
        say("")
        say(title, "bold")

    say(f"{_name(scores['model'])} on {_exam_name(scores['exam'])}, protocol {scores['protocol']}", "bold")
    for warning in _warnings(scores):
        say(warning, "yellow")
    for note in scores["protocol_notes"]:
        say(f"- {note}")
    console.print(_table(_MAIN, _main_rows(scores)))
    say(_main_words(scores), "dim")
    if not scores["choices"]:
        say("Read as: " + ", ".join(f"{how} {count}" for how, count in scores["how"].items()), "dim")
    if choices := scores["choices"]:
        head("ways to choose by likelihood")
        rows = ([_WAYS[w], _share(c["accuracy"]), _interval(c["interval"])] for w, c in choices.items())
        console.print(_table(("option is chosen by", "accuracy", "95 % interval"), rows))
    head("items that were in the training data")
    if scores["clean"]:
        console.print(_table(("items", "n", "correct", "accuracy", "95 % interval"), _leak_rows(scores)))
    say(" ".join(_leak_words(scores)), "dim")
    if found := scores["permutation"]:
        head("order of the options")
        console.print(_table(("", "value"), _permutation_rows(found)))
    if scores["baseline"]:
        head("against the baseline")
        console.print(_table(_AGAINST, _against_rows(scores["baseline"])))
        say(_against_words(scores), "dim")
    if found := scores["calibration"]:
        head("calibration")
        say(
            f"ECE {found['ece']:.3f}, mean confidence {found['confidence']:.3f} at accuracy {found['accuracy']:.3f}, Brier "
            f"{found['brier']:.3f}, log loss {found['log_loss']:.3f} nats"
        )
    if published := scores["published"]:
        head("beside the published table")
        header = ("model", *published["scored"], "overall")
        console.print(_table(header, _published_rows(scores, narrow=True)))
        say(published["note"], "dim")


def _table(columns: Sequence[str], rows: Iterator[list[str]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
