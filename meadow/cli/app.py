"""The commands: parse arguments, call, report. Heavy imports happen when a command runs."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from meadow.filters import Filters
    from meadow.pipeline.build import Report

app = typer.Typer(
    name="meadow",
    help="Versioned, licence-clean medical instruction datasets, rebuilt from raw sources.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

WRONG_USE = 2
INTERRUPTED = 130


def main(before: list[str] | None = None) -> None:
    """Runs a command with the process's arguments, after `before`; never returns.

    Exit codes: 0 done, 1 something could not be done, 2 wrong use, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a letter of some row must not end a build.
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")
    code: Any = 0
    try:
        app(args=[*(before or []), *sys.argv[1:]], prog_name="meadow")
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit as end:
        code = end.code
    if code == INTERRUPTED:
        print("meadow: interrupted; what was published before is whole", file=sys.stderr)
    raise SystemExit(code)


def _fail(message: str, code: int) -> None:
    print(f"meadow: {message}", file=sys.stderr)
    raise SystemExit(code)


def _print(text: object) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _nobody_reads()


def _nobody_reads() -> None:
    """Sends what else is printed nowhere: ``meadow build all | head`` is no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _console(stderr: bool = False) -> Any:
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True
            _nobody_reads()

    stream = sys.stderr if stderr else sys.stdout
    # Off a terminal no line is cut or wrapped at a made-up width; on one, the terminal wraps.
    width = None if stream.isatty() else 10_000
    return Plain(stderr=stderr, width=width, soft_wrap=True, highlight=False, markup=False, emoji=False)


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        # Names that differ only at their ends must not be cut to the same beginning.
        table.add_column(column, overflow="fold")
    return table


def _print_table(console: Any, table: Any) -> None:
    if console.is_terminal:
        console.print(table, soft_wrap=False)
        return
    with console.capture() as capture:
        console.print(table, soft_wrap=False)
    for line in capture.get().splitlines():
        console.print(line.rstrip())


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


Raw = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Raw store, a folder per source in it; default $MEADOW_RAW, else the user's cache.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Output folder; default $MEADOW_OUT, else the user's cache."),
]


@app.command(
    short_help="Build datasets from raw files.",
    epilog="Exit code: 0 all that was asked for is built, 1 some source could not be built, 2 wrong use.",
)
def build(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="all, sources or datasets by name, or mixture:NAME."),
    ] = None,
    raw: Raw = None,
    out: Out = None,
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, show_default=False, help="Processes; default one per core.")
    ] = _cores(),
    sample: Annotated[
        bool, typer.Option("--sample", help="Build from the embedded samples, whatever the raw store holds.")
    ] = False,
    require_raw: Annotated[
        bool, typer.Option("--require-raw", help="A source without raw files is an error.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SOURCE.PARAMETER=VALUE",
            help="Set a source's parameter, such as stackexchange.min_score=3. Can be repeated.",
        ),
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CODE",
            help="Keep rows of this language (ISO 639-1; default en). Can be repeated; any keeps all.",
        ),
    ] = None,
    quality: Annotated[
        str, typer.Option(metavar="drop|off", help="Leave out truncated, broken and empty-handed rows.")
    ] = "drop",
    privacy: Annotated[
        str | None,
        typer.Option(
            metavar="mask|drop|flag|off",
            help="What is done about text that could identify a person; default what each source says.",
        ),
    ] = None,
    contamination: Annotated[
        str, typer.Option(metavar="drop|flag|off", help="What is done about rows that hold an exam item.")
    ] = "drop",
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="An evaluation set (JSONL, Parquet, CSV) beside Meadow's own exams. Can be repeated.",
        ),
    ] = None,
    duplicates: Annotated[
        str, typer.Option(metavar="drop|flag|off", help="What is done about all but one of each duplicate.")
    ] = "drop",
    license_policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="YAML with allow, deny, commercial_only, open_only: which licences rows may have.",
        ),
    ] = None,
    lock: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Build the mixture just as this lock file says, or say what differs."
        ),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing", help="Build a mixture without parts that are missing, marked as such."
        ),
    ] = False,
    list_: Annotated[
        bool,
        typer.Option(
            "--list",
            help="Build nothing; print sources, datasets, versions, licences and the raw files found.",
        ),
    ] = False,
) -> None:
    """Build datasets from raw files, or from the embedded samples where there are none."""
    if list_:
        _list(names or ["all"], raw, sample)
        return
    if not names:
        _fail("name what to build: all, or sources or datasets by name; --list shows them", WRONG_USE)
    if sample and require_raw:
        _fail("--sample and --require-raw exclude each other", WRONG_USE)
    from meadow.core import store
    from meadow.pipeline import build as pipeline

    parameters = _parameters(set_ or [])
    filters = _filters(
        language or ["en"], license_policy, against or [],
        quality=quality, privacy=privacy, contamination=contamination, duplicates=duplicates,
    )  # fmt: skip
    with _Progress() as progress:
        try:
            report = pipeline.build(
                names,
                raw=raw,
                out=out,
                workers=workers,
                sample=sample,
                require_raw=require_raw,
                parameters=parameters,
                filters=filters,
                lock=lock,
                allow_missing=allow_missing,
                progress=progress,
            )
        except (KeyError, ValueError) as error:
            progress.stop()
            _fail(str(error.args[0]), WRONG_USE)
        except (store.StoreError, OSError) as error:
            progress.stop()
            _fail(str(error), 1)
    where = None if sample else raw or store.default_raw()
    _show(report, where, out)
    if report.failed:
        raise SystemExit(1)


def _filters(languages: list[str], policy: Path | None, against: list[Path], **switches: Any) -> Filters:
    from meadow.core.licenses import Policy
    from meadow.filters import Filters
    from meadow.filters.language import LanguageFilter

    wanted = () if "any" in languages else tuple(dict.fromkeys(languages))
    try:
        if wanted:
            LanguageFilter(wanted)  # says which codes there are
        loaded = Policy.load(policy) if policy else None
        return Filters(languages=wanted, policy=loaded, against=tuple(against), **switches)
    except (ValueError, OSError) as error:
        _fail(str(error), WRONG_USE)


def _parameters(settings: list[str]) -> dict[str, dict[str, Any]]:
    import json

    from meadow.core.builder import available

    classes = available()[0] if settings else {}
    found: dict[str, dict[str, Any]] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        source, dot, name = key.partition(".")
        if not (equals and dot and name):
            _fail(f"--set {setting}: write it as SOURCE.PARAMETER=VALUE", WRONG_USE)
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        default = getattr(classes.get(source), "defaults", {}).get(name)
        number = isinstance(default, float) and type(parsed) is int
        if default is not None and type(parsed) is not type(default) and not number:
            _fail(
                f"--set {setting}: its default is {json.dumps(default)}, and {value} is no such value",
                WRONG_USE,
            )
        found.setdefault(source, {})[name] = parsed
    return found


class _Progress:
    """A progress bar on a terminal, plain lines elsewhere; both on standard error."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._tasks: dict[tuple[str, str], Any] = {}
        self._last = 0.0

    def __enter__(self) -> _Progress:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
            self._bar = Progress(*columns, console=_console(stderr=True), transient=True)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Takes the bar off the screen."""
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, source: str, stage: str, done: int, total: int) -> None:
        key = (source, stage)
        if self._bar is not None:
            if key not in self._tasks:
                self._tasks[key] = self._bar.add_task(f"{source} {stage}", total=total)
            self._bar.update(self._tasks[key], completed=done, total=total)
        elif done == total or time.monotonic() - self._last > 10:
            self._last = time.monotonic()
            print(f"meadow: {source}: {stage} {done}/{total}", file=sys.stderr, flush=True)


def _list(names: list[str], raw: Path | None, sample: bool) -> None:
    from meadow import mix as mixtures
    from meadow.core.builder import available
    from meadow.core.raw import find, strangers
    from meadow.core.store import default_raw

    classes, broken = available()
    root = None if sample else raw or default_raw()
    if raw is not None and not raw.is_dir():
        _fail(f"the raw folder {raw} does not exist; it holds one folder per source", WRONG_USE)
    table = _table("source", "datasets", "version", "licence", "raw files")
    unknown, known = dict.fromkeys(names), ["all"]
    unknown.pop("all", None)
    for name, cls in classes.items():
        builder = cls()
        found = find(builder, root)
        configs = builder.configs_of(found if found.files else find(builder, None))
        known += dict.fromkeys((name, *configs))
        asked = [unknown.pop(n) or n for n in (name, *configs) if n in unknown]
        if "all" not in names and not asked:
            continue
        licences = sorted({cls.license.id, *(extra.id for extra in cls.licenses)})
        files = [f"{file.path} ({_size(file.bytes)})" for file in found.files if not found.sample]
        files += [f"{file.path} (not used)" for file in found.unused if not found.sample]
        if not found.files or found.sample:
            files.append("none: its sample is built")
        table.add_row(name, "\n".join(configs), cls.version, "\n".join(licences), "\n".join(files))
    if unknown:
        _fail(
            f"no source or dataset is named {next(iter(unknown))!r}; there are: {', '.join(known)}", WRONG_USE
        )
    console = _console()
    _print_table(console, table)
    if "all" in names:
        console.print("\nmixtures: " + ", ".join(f"mixture:{name}" for name in mixtures.available()))
    if root is not None:
        console.print(f"\nraw store: {root}" + ("" if root.is_dir() else " (not there)"))
        for name, count in strangers(root, classes) if root.is_dir() else []:
            files = "1 file" if count == 1 else f"{count} files"
            console.print(f"note: {root / name} ({files}) belongs to no source and is not used")
    for name, why in broken.items():
        print(f"meadow: source {name} cannot be loaded: {why}", file=sys.stderr)


def _size(count: int) -> str:
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _show(report: Report, raw: Path | None, out: Path | None) -> None:
    console = _console()
    if report.manifests:
        table = _table("dataset", "version", "rows per split", "left out", "licence", "raw data")
        between = ", " if console.width >= 120 else "\n"
        for manifest in report.manifests:
            funnel, splits = manifest["funnel"], manifest["splits"].items()
            table.add_row(
                manifest["name"],
                manifest["version"],
                between.join(f"{name} {entry['rows']:,}" for name, entry in splits),
                f"{funnel['read'] - funnel['kept']:,}",
                between.join(manifest["licenses"]),
                _origin(manifest),
            )
        _print_table(console, table)
    _show_left_out(report, console)
    notes = list(report.notes)
    if raw is not None and any(manifest["sample"] for manifest in report.manifests):
        notes.append(
            "sample: small embedded data, written for tests; for the real data put raw files into "
            f"{raw / 'SOURCE'} and build again"
        )
    if notes:
        console.print()
    for note in notes:
        console.print(f"note: {note}")
    if report.manifests:
        console.print()
        if not all(manifest["sample"] for manifest in report.manifests):
            console.print(f"raw store: {raw}")
        console.print(f"output folder: {report.out}")
        _show_row(report, console, out)
    for source, why in report.failed.items():
        print(f"meadow: {source} could not be built: {why}", file=sys.stderr)


def _origin(manifest: dict[str, Any]) -> str:
    if "mixture" in manifest:
        return "mixture of samples" if manifest["sample"] else "mixture"
    return "sample" if manifest["sample"] else _where(manifest["raw"])


def _where(files: list[dict[str, Any]]) -> str:
    if len(files) == 1:
        return files[0]["path"]
    return f"{files[0]['path'].split('/')[0]} ({len(files)} files)" if files else ""


def _show_left_out(report: Report, console: Any) -> None:
    left_out = [m for m in report.manifests if m["funnel"]["dropped"]]
    if left_out:
        console.print("\nleft out (each with its reason in DATASET/VERSION/rejected.parquet):")
    for manifest in left_out:
        reasons = sorted(manifest["funnel"]["dropped"].items(), key=lambda item: -item[1])
        words = ", ".join(f"{reason} ({count:,})" for reason, count in reasons)
        console.print(f"  {manifest['name']}: {words}")
    files: dict[tuple[str, str], Any] = {(r.file, r.reason): r for _, r in report.files_left_out}
    if files:
        console.print("\nraw files left out:")
    for rejected in files.values():
        detail = rejected.detail.rstrip(".")
        console.print(f"  {rejected.file}: {rejected.reason}: {detail}. {rejected.remedy}")


def _show_row(report: Report, console: Any, out: Path | None) -> None:
    names = [manifest["name"] for manifest in report.manifests]
    name = "wikidoc" if "wikidoc" in names else names[0]
    split = next(iter(report.manifests[names.index(name)]["splits"]))
    from datasets import load_dataset

    import meadow.registration  # noqa: F401 - the name "meadow" inside datasets

    try:
        rows = load_dataset("meadow", name, split=split, streaming=True, out=str(report.out))
        row = next(iter(rows))
    except OSError as error:  # such as a `datasets` cache that cannot be written
        print(f"meadow: all is built, but no row could be read back: {error}", file=sys.stderr)
        return
    where = "" if out is None else f', out="{report.out}"'
    console.print(f'\nfirst row of load_dataset("meadow", "{name}"{where})["{split}"]:')
    for column, value in row.items():
        if value not in (None, "", []):
            text = " ".join(str(value).split())
            console.print(f"  {column}: {text[:160]}{'...' if len(text) > 160 else ''}")


class _Formats(typer.core.TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            _fail(f"no export format is named {args[0]!r}; there is: {', '.join(self.commands)}", WRONG_USE)
        return super().resolve_command(ctx, args)


exports = typer.Typer(cls=_Formats, no_args_is_help=True, rich_markup_mode=None)
app.add_typer(
    exports,
    name="export",
    short_help="Write a dataset in another program's format.",
    help="Write a dataset in another program's format.",
)


@exports.command("anki", short_help="A deck of flashcards for Anki.")
def export_anki(
    name: Annotated[str, typer.Argument(help="A built dataset.")],
    file: Annotated[Path, typer.Argument(help="The file to write, such as deck.apkg.")],
    out: Out = None,
    version: Annotated[str | None, typer.Option(help="Another version than the newest.")] = None,
) -> None:
    """Write a dataset of questions and answers as a deck of flashcards for Anki."""
    from meadow import api as loader
    from meadow.core import store
    from meadow.export import anki as export

    try:
        rows = loader.rows(name, version=version, out=out)
        count = export.export_anki(rows, name, file)
    except OSError as error:
        _fail(f"cannot write {file}: {error.strerror or error}", 1)
    except (store.StoreError, ValueError) as error:
        _fail(str(error), 1)
    _print(f"{file}: {count:,} notes")


@exports.command("lm-eval", short_help="Exams as tasks for lm-evaluation-harness.")
def export_lm_eval(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder to write; an earlier export there is replaced.")
    ],
    exam: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME_OR_FILE", help="An exam; can be repeated. Default all that are built."),
    ] = None,
    out: Out = None,
    split: Annotated[
        str | None, typer.Option(help="A split of the exams; default all of an exam's, else test.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How questions are put: medalpaca, alpaca, chat, plain, or a .json file; default the model's own, "
            "else medalpaca.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL_DIR",
            help="A model or adapter: its template is used, and its tokenizer to make sure that the harness shows it "
            "the same tokens.",
        ),
    ] = None,
) -> None:
    """Write exams as tasks for lm-evaluation-harness, asked word for word as Meadow's own scoring asks."""
    from meadow import models
    from meadow.core import store
    from meadow.models import prompts
    from meadow.score import exams, lm_eval

    try:
        made = lm_eval.export(folder, exam or None, out=out, split=split, template=template, model=model)
    except OSError as error:
        _fail(f"cannot write {folder}: {error.strerror or error}", 1)
    except (exams.ExamError, models.ModelError, prompts.PromptError, store.StoreError, ValueError) as error:
        _fail(str(error), 1)
    _print(f"{made.folder}: {made.items:,} items of {', '.join(made.groups)}")
    for note in made.notes:
        _print(f"note: {note}")
    _print(f"\n{made.command}")


@app.command(short_help="Write the files of a new source, to be filled in.")
def new(
    name: Annotated[
        str, typer.Argument(help="The source's name: lower-case letters, digits and underscores.")
    ],
    folder: Annotated[
        Path, typer.Option("--dir", help="A Meadow checkout, or where a package goes.")
    ] = Path(),
) -> None:
    """Scaffold a new source: builder, sample, card and a test that fails until they are filled in."""
    from meadow.cli import scaffold

    try:
        paths = scaffold.new_source(name, folder)
    except ValueError as error:
        _fail(str(error), WRONG_USE)
    except OSError as error:
        _fail(str(error), 1)
    for path in paths:
        _print(path)


@app.command("diff", short_help="Show what differs between two versions of a dataset.")
def diff_(
    name: Annotated[str, typer.Argument(help="A built dataset.")],
    v1: Annotated[str, typer.Argument(help="A version, such as 1.0.0; 1.0 is the newest of those.")],
    v2: Annotated[str, typer.Argument(help="Another version.")],
    out: Out = None,
    limit: Annotated[int, typer.Option(metavar="N", min=0, help="Rows of each kind that are shown.")] = 5,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 where rows, splits or columns differ.")
    ] = False,
) -> None:
    """Show rows added, removed, changed and moved between two versions, and what else differs."""
    import json

    from meadow.core import store
    from meadow.describe.diff import diff
    from meadow.describe.report.terminal import printed

    try:
        found = diff(store.Store(out or store.default_out()), name, v1, v2, limit=limit)
    except store.StoreError as error:
        _fail(str(error), 1)
    if json_:
        _print(json.dumps(found.described(), ensure_ascii=False, indent=2))
    else:
        console = _console()
        for item in printed(found, _table):
            if isinstance(item, tuple):
                console.print(item[0], style=item[1])
            else:
                _print_table(console, item)
    if exit_code and found.differs:
        raise SystemExit(1)


@app.command(short_help="Write an HTML page about all that an output folder holds.")
def report(
    out: Annotated[
        Path | None,
        typer.Argument(metavar="OUT", help="Output folder; default $MEADOW_OUT, else the user's cache."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="PAGE.html", help="The page; default report.html in OUT.")
    ] = None,
    rows: Annotated[
        int, typer.Option(metavar="N", min=0, max=1000, help="Random rows of each dataset.")
    ] = 50,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Another seed shows other rows.")] = 0,
) -> None:
    """Write one HTML page that needs no network: rows, funnels, licences, duplicates, exams, random rows."""
    from meadow.core import store
    from meadow.describe.report import write_report

    try:
        path, size = write_report(store.Store(out or store.default_out()), file, rows=rows, seed=seed)
    except store.StoreError as error:
        _fail(str(error), 1)
    except OSError as error:
        _fail(f"cannot write {error.filename or file}: {error.strerror or error}", 1)
    _print(f"{path}: {_size(size)}")


@app.command(
    short_help="Look for exam items in a dataset.",
    epilog="Exit code: 0 checked, whatever was found, 1 something could not be read, 2 wrong use.",
)
def contamination(
    target: Annotated[
        str,
        typer.Argument(
            metavar="DATASET_OR_FILE", help="A built dataset, or a JSON lines, JSON, Parquet or CSV file."
        ),
    ],
    against: Annotated[
        list[str],
        typer.Option(
            metavar="NAME_OR_FILE",
            help="An exam: a built dataset, whose test split counts, a file, or a folder. Can be repeated.",
        ),
    ],
    out: Out = None,
    fields: Annotated[
        str, typer.Option(metavar="A,B", help="Columns to read; default all of a row's texts.")
    ] = "",
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.parquet", help="Write each hit with the overlapping text.")
    ] = None,
) -> None:
    """Look for items of exams in a dataset, whoever made it, word for word and retold."""
    from meadow.core import store
    from meadow.filters.contamination import checking

    where = store.Store(out or store.default_out())
    chosen = [name for name in fields.split(",") if name]
    try:
        found = checking.check(target, checking.exams_of(against, where), where, chosen)
        if report is not None:
            found.write(report)
    except ValueError as error:
        _fail(str(error), WRONG_USE)
    except (store.StoreError, OSError) as error:
        _fail(str(error), 1)
    table = _table("exam", "split", "items checked", "too short", "items hit", "rows hit")
    for exam in found.summary():
        numbers = (f"{exam[key]:,}" for key in ("items", "unjudged", "items_hit", "rows_hit"))
        table.add_row(exam["exam"], exam["split"], *numbers)
    console = _console()
    console.print(f"{target}: {found.rows:,} rows checked ({', '.join(found.fields)})\n")
    _print_table(console, table)
    for split, hit in found.hits[:10]:
        words = hit.overlap if len(hit.overlap) <= 120 else hit.overlap[:116] + " ..."
        console.print(
            f"\n{f'{split} {hit.id}'.strip()}: {hit.kind} of {hit.item} in {hit.exam}, {hit.share:.0%}: {words}"
        )
    if len(found.hits) > 10:
        console.print(f"\nand {len(found.hits) - 10:,} more; --report FILE.parquet lists all")


@app.command(
    short_help="Look for exact and near duplicates in a dataset.",
    epilog="Exit code: 0 searched, whatever was found, 1 something could not be read, 2 wrong use.",
)
def duplicates(
    target: Annotated[
        str,
        typer.Argument(
            metavar="DATASET_OR_FILE", help="A built dataset, or a JSON lines, JSON, Parquet or CSV file."
        ),
    ],
    fields: Annotated[
        str, typer.Option(metavar="A,B", help="Columns to compare; default those of input,output there are.")
    ] = "",
    threshold: Annotated[
        float, typer.Option(help="Least share of common five-word runs of near duplicates.")
    ] = 0.8,
    out: Out = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.parquet", help="Write the clusters: cluster,id,kept,similarity."),
    ] = None,
    show: Annotated[int, typer.Option(metavar="N", min=0, help="Near duplicates to print.")] = 10,
) -> None:
    """Look for rows that say the same, word for word or nearly, in a dataset, whoever made it."""
    import tempfile

    from meadow.core import store, workers
    from meadow.filters.duplicates import target as searching

    where = store.Store(out or store.default_out())
    chosen = [name for name in fields.split(",") if name]
    count = _cores()
    with tempfile.TemporaryDirectory(prefix="meadow-") as folder, workers.Pool(count) as pool:
        try:
            found = searching.screen(
                target, Path(folder), pool, 2 * count + 2, store=where, fields=chosen, threshold=threshold
            )
            counts = found.write(report or Path(folder) / "report.parquet")
            pairs = found.near(show)
        except ValueError as error:
            _fail(str(error), WRONG_USE)
        except (store.StoreError, OSError) as error:
            _fail(str(error), 1)
    _print(
        f"{target}: {found.rows:,} rows compared ({', '.join(found.fields)}): {counts['exact']:,} exact and "
        f"{counts['near']:,} near duplicates (similarity {threshold:g} or more) in {counts['clusters']:,} "
        f"clusters; {counts['contradicting']:,} more rows are as similar but contradict each other, such as "
        "in a number"
    )
    for pair in pairs:
        _print(
            f"\n{pair.similarity:.3f}  {pair.id}: {pair.text}\n       {pair.survivor}: {pair.survivor_text}"
        )
    if counts["near"] > len(pairs) and report is None:
        _print(f"\nand {counts['near'] - len(pairs):,} more; --report FILE.parquet lists all")


@app.command(
    short_help="Look for what could identify a person in a dataset.",
    epilog="Exit code: 0 screened, whatever was found, 1 something could not be read or written, 2 wrong use.",
)
def privacy(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET_OR_FILE", help="A built dataset, or a JSON lines, JSON, Parquet or CSV file."
        ),
    ] = None,
    fields: Annotated[
        str, typer.Option(metavar="A,B", help="Columns to screen; default all that hold text.")
    ] = "",
    masked: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="Write all rows, with findings masked.")
    ] = None,
    show: Annotated[
        int, typer.Option(metavar="N", min=0, help="Findings to print with the text around them.")
    ] = 10,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Score the screen on its labelled sentences instead.")
    ] = False,
    out: Out = None,
) -> None:
    """Look for names, addresses, numbers and dates that could identify a person, whoever made the dataset."""
    if evaluate == (target is not None):
        _fail("give either a dataset or file, or --evaluate", WRONG_USE)
    from meadow.core import store
    from meadow.filters.privacy import evaluation, screening

    if evaluate:
        for part in evaluation.PARTS:
            _print(evaluation.report(part))
        return
    try:
        report = screening.run(
            target, store.Store(out or store.default_out()), [f for f in fields.split(",") if f], masked, show
        )
    except ValueError as error:
        _fail(str(error), WRONG_USE)
    except (store.StoreError, OSError) as error:
        _fail(str(error), 1)
    _print(report)


from meadow.cli.cite import cite  # noqa: E402
from meadow.cli.fetch import fetch  # noqa: E402 - commands in modules of their own
from meadow.cli.prune import prune  # noqa: E402
from meadow.cli.push import EPILOG as PUSH_EPILOG  # noqa: E402
from meadow.cli.push import push  # noqa: E402
from meadow.cli.versions import versions  # noqa: E402

app.command(
    short_help="Fetch raw files into the raw store, check them, or carry them in one file.",
    epilog="Exit code: 0 all that was asked for is there, 1 something is not, 2 wrong use.",
)(fetch)

app.command(short_help="List versions of datasets, here and in a repository on the Hub.")(versions)
app.command(short_help="Free the space of old versions.")(prune)
app.command(short_help="Print what to cite for datasets, their sources included.")(cite)

app.command(short_help="Upload datasets or a model to the Hugging Face Hub.", epilog=PUSH_EPILOG)(push)


@app.callback()
def _root() -> None:
    pass


if __name__ == "__main__":
    main()
