"""``meadow build``: datasets from raw files, or from the embedded samples; `--list` tells what there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meadow.cli import console, listing, showing
from meadow.cli.options import Out, Raw

if TYPE_CHECKING:
    from meadow.core.options import BuildOptions


def build(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="all, sources or datasets by name, or mixture:NAME."),
    ] = None,
    raw: Raw = None,
    out: Out = None,
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, show_default=False, help="Processes; default one per core.")
    ] = console.cores(),
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
        listing.show(names or ["all"], raw, sample)
        return
    if not names:
        console.fail(
            "name what to build: all, or sources or datasets by name; --list shows them", console.WRONG_USE
        )
    if sample and require_raw:
        console.fail("--sample and --require-raw exclude each other", console.WRONG_USE)
    from meadow.api import build_datasets
    from meadow.core.store import default_raw

    parameters = _parameters(set_ or [])
    options = _options(
        language or ["en"], license_policy,
        raw=raw, out=out, workers=workers, sample=sample, require_raw=require_raw, parameters=parameters,
        quality=quality, privacy=privacy, contamination=contamination, duplicates=duplicates,
        against=against or (), lock=lock, allow_missing=allow_missing,
    )  # fmt: skip
    with console.failing(), console.ProgressLines() as progress:
        report = build_datasets(names, options, progress=progress)
    showing.show(report, None if sample else raw or default_raw(), out)
    if report.failed:
        raise SystemExit(console.FAILED)


def _options(languages: list[str], policy: Path | None, **given: Any) -> BuildOptions:
    from meadow.core.builder import license_ids
    from meadow.core.licenses import Policy
    from meadow.core.options import BuildOptions
    from meadow.filters.language import LanguageFilter

    wanted = () if "any" in languages else tuple(dict.fromkeys(languages))
    with console.failing():
        if wanted:
            LanguageFilter(wanted)  # says which codes there are
        rules = Policy.load(policy, license_ids()) if policy else None
        return BuildOptions(languages=wanted, policy=rules, **given)


def _parameters(settings: list[str]) -> dict[str, dict[str, Any]]:
    from meadow.core.builder import available

    classes = available()[0] if settings else {}
    found: dict[str, dict[str, Any]] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        source, dot, name = key.partition(".")
        if not (equals and dot and name):
            console.fail(f"--set {setting}: write it as SOURCE.PARAMETER=VALUE", console.WRONG_USE)
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        default = getattr(classes.get(source), "defaults", {}).get(name)
        number = isinstance(default, float) and type(parsed) is int
        if default is not None and type(parsed) is not type(default) and not number:
            console.fail(
                f"--set {setting}: its default is {json.dumps(default)}, and {value} is no such value",
                console.WRONG_USE,
            )
        found.setdefault(source, {})[name] = parsed
    return found
