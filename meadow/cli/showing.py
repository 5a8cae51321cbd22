"""What a build did, on the screen: a table, what was left out, notes, and a first row read back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from meadow.cli import console

if TYPE_CHECKING:
    from rich.console import Console

    from meadow.core.manifest import FileSum, Manifest
    from meadow.pipeline.report import Report


def show(report: Report, raw: Path | None, out: Path | None) -> None:
    """Prints what a build did.

    Args:
        report: What it did.
        raw: The raw store; None where samples were asked for.
        out: The output folder as it was named; None for the default.
    """
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
    return "sample" if manifest.sample else _where(manifest.raw)


def _where(files: Sequence[FileSum]) -> str:
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
