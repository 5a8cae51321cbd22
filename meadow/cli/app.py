"""The commands. Each is a file of its own here; heavy imports happen when one runs."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import typer

from meadow.cli import console
from meadow.cli.build import build
from meadow.cli.cite import cite
from meadow.cli.contamination import contamination
from meadow.cli.diff import diff
from meadow.cli.duplicates import duplicates
from meadow.cli.export import exports
from meadow.cli.fetch import fetch
from meadow.cli.new import new
from meadow.cli.privacy import privacy
from meadow.cli.prune import prune
from meadow.cli.push import EPILOG as PUSH_EPILOG
from meadow.cli.push import push
from meadow.cli.report import report
from meadow.cli.versions import versions

app = typer.Typer(
    name="meadow",
    help="Versioned, licence-clean medical instruction datasets, rebuilt from raw sources.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main(before: list[str] | None = None) -> None:
    """Runs a command with the process's arguments, after `before`; never returns.

    Exit codes: 0 done, 1 something could not be done, 2 wrong use, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a letter of some row must not end a build.
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    code: Any = 0
    try:
        app(args=[*(before or []), *sys.argv[1:]], prog_name="meadow")
    except KeyboardInterrupt:
        code = console.INTERRUPTED
    except SystemExit as end:
        code = end.code
    if code == console.INTERRUPTED:
        console.warn("interrupted; what was published before is whole")
    raise SystemExit(code)


_CHECKED = "Exit code: 0 {}, whatever was found, 1 something could not be read{}, 2 wrong use."
_BUILT = "Exit code: 0 all that was asked for is built, 1 some source could not be built, 2 wrong use."
_FETCHED = "Exit code: 0 all that was asked for is there, 1 something is not, 2 wrong use."
_EXPORTS = "Write a dataset in another program's format."
_PERSONS = "Look for what could identify a person in a dataset."
_RAW_FILES = "Fetch raw files into the raw store, check them, or carry them in one file."

app.command(short_help="Build datasets from raw files.", epilog=_BUILT)(build)
app.add_typer(exports, name="export", short_help=_EXPORTS, help=_EXPORTS)
app.command(short_help="Write the files of a new source, to be filled in.")(new)
app.command(short_help="Show what differs between two versions of a dataset.")(diff)
app.command(short_help="Write an HTML page about all that an output folder holds.")(report)
app.command(short_help="Look for exam items in a dataset.", epilog=_CHECKED.format("checked", ""))(
    contamination
)
app.command(
    short_help="Look for exact and near duplicates in a dataset.", epilog=_CHECKED.format("searched", "")
)(duplicates)
app.command(short_help=_PERSONS, epilog=_CHECKED.format("screened", " or written"))(privacy)
app.command(short_help=_RAW_FILES, epilog=_FETCHED)(fetch)
app.command(short_help="List versions of datasets, here and in a repository on the Hub.")(versions)
app.command(short_help="Free the space of old versions.")(prune)
app.command(short_help="Print what to cite for datasets, their sources included.")(cite)
app.command(short_help="Upload datasets or a model to the Hugging Face Hub.", epilog=PUSH_EPILOG)(push)


@app.callback()
def _root() -> None:
    pass


if __name__ == "__main__":
    main()
