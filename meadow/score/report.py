"""What people see of a score: ``report.md`` with its plot, ``scores.json``, and tables in the terminal.

`meadow.score.summary` computes the numbers, here they are only written out: `write` and `show` take its result.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from meadow.core.store import write_whole
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
#: A table's header and its rows.
_Table = tuple[Sequence[str], list[list[str]]]


def write(folder: Path | str, scores: Mapping[str, Any]) -> None:
    """Writes ``scores.json``, ``report.md`` and ``plot.svg``, each in one step.

    Raises:
        ScoringError: The folder cannot be written to.
    """
    folder = Path(folder)
    found = json.dumps(_finite(scores), ensure_ascii=False, indent=2, allow_nan=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / PLOT, plot(scores))
        write_whole(folder / REPORT, describe(scores).encode())
        # Last: a folder that has it is a finished run.
        write_whole(folder / SCORES, f"{found}\n".encode())
    except OSError as error:
        raise ScoringError(
            f"{folder}: the report cannot be written: {error.strerror or error}; see to the disk and run the same "
            "command again, all answers are kept"
        ) from error


def _finite(value: Any) -> Any:
    """The same without numbers that JSON has no form for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return str(value) if isinstance(value, Path) else value


# ---- words ----


@functools.cache
def _words() -> Mapping[str, str]:
    return yaml.safe_load(Path(__file__).with_name("words.yaml").read_text(encoding="utf-8"))


def _say(key: str, values: Mapping[str, Any], **more: Any) -> str:
    return _words()[key].format(**values, **more)


def _name(scores: Mapping[str, Any]) -> str:
    return str(scores["model"].get("name") or scores["model"].get("path") or "the model")


def _exam_name(exam: Mapping[str, Any]) -> str:
    return f"{exam['name']} {exam['version']}".strip()


def _warnings(scores: Mapping[str, Any]) -> Iterator[str]:
    """What a reader must know before any number."""
    if scores["exam"]["sample"]:
        yield _say("sample", scores)
    if scores["exam"]["items"] < scores["exam"]["whole"]:
        yield _say("limited", scores)
    if scores["overall"]["n"] < 30:
        yield _say("few", scores)


def _main_words(scores: Mapping[str, Any]) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in scores["exam"]["excluded"].items())
    return _say("main", scores, reasons=f": {reasons}." if reasons else "; there are none.")


def _leak_words(scores: Mapping[str, Any]) -> str:
    leaks = scores["leaks"]
    found = [_say("leaks", leaks) if leaks["source"] else "Unknown."]
    if leaks["source"] and leaks["dropped"] is not None:
        found.append(_say("dropped" if leaks["dropped"] else "none dropped", leaks))
    if "difference" in leaks:
        found.append(_say("difference", leaks))
    return " ".join([*found, *leaks["notes"], _say("base", leaks)])


def _against_words(found: Mapping[str, Any]) -> str:
    words = _say("against", found)
    return words if found["same_protocol"] else f"{words} {_say('another protocol', found)}"


# ---- tables ----


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if not ends else f"{ends[0]:.3f} to {ends[1]:.3f}"


def _right(found: Mapping[str, Any]) -> list[str]:
    return [f"{found['correct']}", _share(found["accuracy"]), _interval(found["interval"])]


def _with_overall(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The parts, and the whole where that is another."""
    parts = list(found["parts"].items())
    return [*parts, ("overall", found["overall"])] if len(parts) > 1 else parts


def _tables(scores: Mapping[str, Any], narrow: bool = False) -> dict[str, _Table]:
    """The tables by name; those of which nothing is known are left out."""
    right = ("correct", "accuracy", "95 % interval")
    rows = _with_overall(scores)
    if len(rows) == 1:
        # What is left out is known of the whole even where nobody can say of which part.
        rows = [(rows[0][0], scores["overall"])]
    main = [[p, f"{f['n']}", *_right(f), f"{f['unparsed']}", f"{f['excluded']}"] for p, f in rows]
    tables: dict[str, _Table] = {"main": (("part", "n", *right, "unparsed", "excluded"), main)}
    if choices := scores["choices"]:
        found = [[_WAYS[way], *_right(each)] for way, each in choices.items()]
        tables["choices"] = (("option is chosen by", *right), found)
    if scores["clean"]:
        others = "the rest"
        if scores["unknown"]:
            others += f" ({scores['hit']['n']} found in training rows, {scores['unknown']} unknown)"
        rows = (("found clean", scores["clean"]), (others, scores["rest"]))
        tables["leaks"] = (("items", "n", *right), [[name, f"{f['n']}", *_right(f)] for name, f in rows])
    if found := scores["permutation"]:
        tables["permutation"] = (("", "value"), _permutation_rows(found))
        places = [[at, f"{c['chosen']}", f"{c['right']}"] for at, c in (found["places"] or {}).items()]
        tables["places"] = (("place", "chosen", "right option stood there"), places)
    if found := scores["baseline"]:
        header = ("part", "n", "only here", "only there", "difference", "95 % interval", "p")
        tables["against"] = (header, [_against_row(name, pair) for name, pair in _with_overall(found)])
    if found := scores["calibration"]:
        bins = [_bin_row(b) for b in found["bins"] if b["n"]]
        tables["calibration"] = (("confidence", "n", "mean confidence", "accuracy", "95 % interval"), bins)
    if published := scores["published"]:
        header = ("model", *published["scored"], "overall")
        tables["published"] = (header, list(_published_rows(scores, narrow)))
    return tables


def _permutation_rows(found: Mapping[str, Any]) -> list[list[str]]:
    share = f"{found['moved_share']:.1%}; 95 % interval {_interval(found['moved_interval'])}"
    return [
        ["accuracy as written", _share(found["written"])],
        [f"accuracy under {found['orders']} shuffled orders, mean", _share(found["mean"])],
        ["least and most of them", f"{found['least']:.3f} and {found['most']:.3f}"],
        ["items whose answer moves", f"{found['moved']} ({share})"],
        ["items right in every order", f"{found['always_right']}"],
        ["items right in at least one", f"{found['ever_right']}"],
    ]


def _against_row(name: str, pair: Mapping[str, Any]) -> list[str]:
    low, high = pair["interval"]
    p = "< 0.0001" if pair["p"] < 0.0001 else f"{pair['p']:.4f}"
    counts = [f"{pair[key]}" for key in ("n", "gained", "lost")]
    return [name, *counts, f"{pair['difference']:+.3f}", f"{low:+.3f} to {high:+.3f}", p]


def _bin_row(found: Mapping[str, Any]) -> list[str]:
    shares = [_share(found[key]) for key in ("confidence", "accuracy")]
    return [
        f"{found['low']:.1f} to {found['high']:.1f}",
        f"{found['n']}",
        *shares,
        _interval(found["interval"]),
    ]


def _published_rows(scores: Mapping[str, Any], narrow: bool) -> Iterator[list[str]]:
    published = scores["published"]
    name = f"{_name(scores)} ({scores['protocol']}{', SAMPLE' if scores['exam']['sample'] else ''})"
    for row in ({**scores, "model": "this model" if narrow else name}, *published["rows"]):
        found = {**row["parts"], "overall": row["overall"]}
        places = (*published["scored"], "overall")
        yield [row["model"], *(_cell(found.get(place), narrow) for place in places)]


def _cell(found: Mapping[str, Any] | None, narrow: bool) -> str:
    if not found or found["accuracy"] is None:
        return "-"
    low, high = found["interval"]
    if not narrow:
        return f"{found['accuracy']:.3f} ({low:.3f} to {high:.3f})"
    # Five columns in 80 characters leave no room for a nought before the point.
    ends = "-".join(f"{end:.2f}".removeprefix("0") for end in (low, high))
    return f"{found['accuracy']:.3f}".removeprefix("0") + f" {ends}"


# ---- Markdown, and the terminal ----


def describe(scores: Mapping[str, Any]) -> str:
    """``report.md``: every number with what it was computed from."""
    run = {key: scores[key] for key in ("protocol", "model", "settings", "meadow_version")}
    exam = ("name", "version", "ids_sha256", "items_sha256", "license")
    run["exam"] = {key: scores["exam"][key] for key in exam}
    return render_markdown(
        Path(__file__).with_name("report.md.j2"),
        scores=scores,
        model=_name(scores),
        exam_name=_exam_name(scores["exam"]),
        warnings=list(_warnings(scores)),
        main_words=_main_words(scores),
        leak_words=_leak_words(scores),
        against_words=_against_words(scores["baseline"]) if scores["baseline"] else "",
        calibration_words=_say("calibration", scores["calibration"]) if scores["calibration"] else "",
        run=json.dumps(_finite(run), ensure_ascii=False, indent=2),
        **_tables(scores),
    )


def show(scores: Mapping[str, Any], console: Any = None) -> None:
    """Prints a score as tables, on a rich console (None: the terminal)."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console(highlight=False, soft_wrap=False)
    tables = _tables(scores, narrow=True)

    def say(line: str, style: str | None = None) -> None:
        console.print(printable(line), style=style, markup=False, highlight=False)

    def show_table(name: str, without: int | None = None) -> None:
        header, rows = tables[name]
        table = Table(box=None, pad_edge=False)
        for number, column in enumerate(header):
            if number != without:
                table.add_column(column, justify="right" if number else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for n, cell in enumerate(row) if n != without))
        console.print(table)

    def head(title: str) -> None:
        say("")
        say(title, "bold")

    say(f"{_name(scores)} on {_exam_name(scores['exam'])}, protocol {scores['protocol']}", "bold")
    for warning in _warnings(scores):
        say(warning, "yellow")
    for note in scores["protocol_notes"]:
        say(f"- {note}")
    show_table("main")
    say(_main_words(scores), "dim")
    if scores["choices"]:
        head("ways to choose by likelihood")
        show_table("choices", without=1)
    else:
        say("Read as: " + ", ".join(f"{how} {count}" for how, count in scores["how"].items()), "dim")
    head("items that were in the training data")
    if scores["clean"]:
        show_table("leaks")
    say(_leak_words(scores), "dim")
    if scores["permutation"]:
        head("order of the options")
        show_table("permutation")
    if scores["baseline"]:
        head("against the baseline")
        show_table("against")
        say(_against_words(scores["baseline"]), "dim")
    if scores["calibration"]:
        head("calibration")
        say(_say("calibration in short", scores["calibration"]))
    if scores["published"]:
        head("beside the published table")
        show_table("published")
        say(scores["published"]["note"], "dim")
