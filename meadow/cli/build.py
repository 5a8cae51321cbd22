"""``meadow build``: datasets from raw files or samples, what was built on the screen, and what there is (`--list`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meadow.cli import console
from meadow.cli.options import OUT, RAW, argument, flag, option
from meadow.core.units import size_of

if TYPE_CHECKING:
    from rich.console import Console

    from meadow.core.manifest import Manifest
    from meadow.core.options import BuildOptions
    from meadow.pipeline.report import Report


def build(
    names: list[str] | None = argument("NAME", "all, sources or datasets by name, or mixture:NAME."),
    raw: Path | None = RAW,
    out: Path | None = OUT,
    workers: int = option(
        "N", "Processes; default one per core.", console.cores(), min=1, show_default=False
    ),
    sample: bool = flag("--sample", "Build from the embedded samples, whatever the raw store holds."),
    require_raw: bool = flag("--require-raw", "A source without raw files is an error."),
    set_: list[str] | None = option(
        "SOURCE.PARAMETER=VALUE",
        "Set a source's parameter, such as stackexchange.min_score=3. Can be repeated.",
        None,
        "--set",
    ),
    language: list[str] | None = option(
        "CODE", "Keep rows of this language (ISO 639-1; default en). Can be repeated; any keeps all."
    ),
    quality: str = option("drop|off", "Leave out truncated, broken and empty-handed rows.", "drop"),
    privacy: str | None = option(
        "mask|drop|flag|off",
        "What is done about text that could identify a person; default what each source says.",
    ),
    contamination: str = option("drop|flag|off", "What is done about rows that hold an exam item.", "drop"),
    against: list[Path] | None = option(
        "FILE", "An evaluation set (JSONL, Parquet, CSV) beside Meadow's own exams. Can be repeated."
    ),
    duplicates: str = option("drop|flag|off", "What is done about all but one of each duplicate.", "drop"),
    license_policy: Path | None = option(
        "FILE", "YAML with allow, deny, commercial_only, open_only: which licences rows may have."
    ),
    lock: Path | None = option("FILE", "Build the mixture just as this lock file says, or say what differs."),
    allow_missing: bool = flag(
        "--allow-missing", "Build a mixture without parts that are missing, marked as such."
    ),
    list_: bool = flag(
        "--list", "Build nothing; print sources, datasets, versions, licences and the raw files found."
    ),
) -> None:
    """Build datasets from raw files, or from the embedded samples where there are none."""
    if list_:
        _list(names or ["all"], raw, sample)
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
    _show(report, None if sample else raw or default_raw(), out)
    if report.failed:
        raise SystemExit(console.FAILED)


def _options(languages: list[str], policy: Path | None, **given: Any) -> BuildOptions:
    from meadow.core.builder import license_ids
    from meadow.core.licenses.policy import Policy
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


def _list(names: list[str], raw: Path | None, sample: bool) -> None:
    """Prints what names ask for; ``all`` is everything."""
    from meadow.core.builder import available
    from meadow.core.rawstore import find, strangers
    from meadow.core.store import default_raw
    from meadow.mix import definition

    classes, broken = available()
    root = None if sample else raw or default_raw()
    if raw is not None and not raw.is_dir():
        console.fail(
            f"the raw folder {raw} does not exist; it holds one folder per source", console.WRONG_USE
        )
    table = console.table("source", "datasets", "version", "licence", "raw files")
    unknown, known = dict.fromkeys(names), ["all"]
    unknown.pop("all", None)
    for name, cls in classes.items():
        builder = cls()
        found = find(builder, root)
        configs = builder.datasets(root)
        known += dict.fromkeys((name, *configs))
        asked = [unknown.pop(n) or n for n in (name, *configs) if n in unknown]
        if "all" not in names and not asked:
            continue
        licences = sorted({cls.license.id, *(extra.id for extra in cls.licenses)})
        files = [f"{file.path} ({size_of(file.bytes)})" for file in found.files if not found.sample]
        files += [f"{file.path} (not used)" for file in found.unused if not found.sample]
        if not found.files or found.sample:
            files.append("none: its sample is built")
        table.add_row(name, "\n".join(configs), cls.version, "\n".join(licences), "\n".join(files))
    if unknown:
        console.fail(
            f"no source or dataset is named {next(iter(unknown))!r}; there are: {', '.join(known)}",
            console.WRONG_USE,
        )
    screen = console.console()
    console.print_table(screen, table)
    if "all" in names:
        screen.print("\nmixtures: " + ", ".join(f"mixture:{name}" for name in definition.available()))
    if root is not None:
        screen.print(f"\nraw store: {root}" + ("" if root.is_dir() else " (not there)"))
        for name, count in strangers(root, classes) if root.is_dir() else []:
            files = "1 file" if count == 1 else f"{count} files"
            screen.print(f"note: {root / name} ({files}) belongs to no source and is not used")
    for name, why in broken.items():
        console.warn(f"source {name} cannot be loaded: {why}")


def _show(report: Report, raw: Path | None, out: Path | None) -> None:
    """Prints what a build did; `raw` is None where samples were asked for, `out` for the default folder."""
    screen = console.console()
    if report.manifests:
        table = console.table("dataset", "version", "rows per split", "left out", "licence", "raw data")
        between = ", " if screen.width >= 120 else "\n"
        for manifest in report.manifests:
            table.add_row(
                manifest.name,
                manifest.version,
                between.join(f"{name} {split.rows:,}" for name, split in manifest.splits.items()),
                f"{manifest.funnel.read - manifest.funnel.kept:,}",
                between.join(manifest.licenses),
                _origin(manifest),
            )
        console.print_table(screen, table)
    _show_left_out(report, screen)
    notes = list(report.notes)
    if raw is not None and any(manifest.sample for manifest in report.manifests):
        notes.append(
            "sample: small embedded data, written for tests; for the real data put raw files into "
            f"{raw / 'SOURCE'} and build again"
        )
    if notes:
        screen.print()
    for note in notes:
        screen.print(f"note: {note}")
    if report.manifests:
        screen.print()
        if not all(manifest.sample for manifest in report.manifests):
            screen.print(f"raw store: {raw}")
        screen.print(f"output folder: {report.out}")
        _show_row(report, screen, out)
    for source, why in report.failed.items():
        console.warn(f"{source} could not be built: {why}")


def _origin(manifest: Manifest) -> str:
    if manifest.mixture is not None:
        return "mixture of samples" if manifest.sample else "mixture"
    if manifest.sample:
        return "sample"
    files = manifest.raw
    if len(files) == 1:
        return files[0].path
    return f"{files[0].path.split('/')[0]} ({len(files)} files)" if files else ""


def _show_left_out(report: Report, screen: Console) -> None:
    left_out = [manifest for manifest in report.manifests if manifest.funnel.dropped]
    if left_out:
        screen.print("\nleft out (each with its reason in DATASET/VERSION/rejected.parquet):")
    for manifest in left_out:
        reasons = sorted(manifest.funnel.dropped.items(), key=lambda item: -item[1])
        words = ", ".join(f"{reason} ({count:,})" for reason, count in reasons)
        screen.print(f"  {manifest.name}: {words}")
    files = {(r.file, r.reason): r for _, r in report.files_left_out}
    if files:
        screen.print("\nraw files left out:")
    for rejected in files.values():
        detail = rejected.detail.rstrip(".")
        screen.print(f"  {rejected.file}: {rejected.reason}: {detail}. {rejected.remedy}")


def _show_row(report: Report, screen: Console, out: Path | None) -> None:
    # Of the last source, which is as good as any: but neither an exam nor a mixture where there is another.
    plain = [m for m in report.manifests if m.mixture is None and not m.test_only] or report.manifests
    shown = next(manifest for manifest in plain if manifest.source == plain[-1].source)
    name, split = shown.name, next(iter(shown.splits))
    from datasets import load_dataset

    import meadow.registration  # noqa: F401 - the name "meadow" inside datasets

    try:
        rows = load_dataset("meadow", name, split=split, streaming=True, out=str(report.out))
        row = next(iter(rows))
    except OSError as error:  # such as a `datasets` cache that cannot be written
        console.warn(f"all is built, but no row could be read back: {error}")
        return
    where = "" if out is None else f', out="{report.out}"'
    screen.print(f'\nfirst row of load_dataset("meadow", "{name}"{where})["{split}"]:')
    for column, value in row.items():
        if value not in (None, "", []):
            text = " ".join(str(value).split())
            screen.print(f"  {column}: {text[:160]}{'...' if len(text) > 160 else ''}")
