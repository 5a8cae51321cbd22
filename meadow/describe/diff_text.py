"""A difference between two versions, printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from meadow.describe.cards.markdown import printable, size

if TYPE_CHECKING:
    from meadow.describe.diff import Difference, Pair

#: Most entries of a list of settings, raw files or columns.
_MOST = 30
#: A line with its style, or a table.
Item = tuple[str, str] | Any


def printed(found: Difference, table: Callable[..., Any]) -> Iterator[Item]:
    """What to print of a difference, from top to bottom.

    Args:
        found: The difference.
        table: Makes an empty rich table of the columns it is given.

    Yields:
        (line, rich style), or a table.
    """
    yield f"{found.name}: {found.old} -> {found.new}", "bold"
    for version, sample in zip((found.old, found.new), found.sample, strict=True):
        if sample:
            yield f"{version} is built from the embedded sample, not from real data", "yellow"
    if found.release_notes:
        yield from _head("release notes")
        yield from ((f"  {v}  {printable(note)}", "") for v, note in found.release_notes.items())
    yield "", ""
    yield _counts(found, table)
    yield from _rows(found)
    yield from _columns(found)
    yield from _pairs("licences, in rows", found.licenses)
    yield from _pairs("funnel, in rows", found.funnel)
    yield from _pairs("settings", found.settings)
    yield from _raw(found.raw)


def _head(title: str) -> Iterator[Item]:
    yield "", ""
    yield title, "bold"


def _counts(found: Difference, table: Callable[..., Any]) -> Any:
    rows = table("split", found.old, found.new, "difference")
    for column in rows.columns[1:]:
        column.justify = "right"
    total = [0, 0]
    for split, (before, after) in found.splits.items():
        total[0], total[1] = total[0] + (before or 0), total[1] + (after or 0)
        rows.add_row(printable(split), _number(before), _number(after), _signed((after or 0) - (before or 0)))
    rows.add_row("all", f"{total[0]:,}", f"{total[1]:,}", _signed(total[1] - total[0]))
    return rows


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _signed(value: int) -> str:
    return f"{value:+,}" if value else "0"


def _rows(found: Difference) -> Iterator[Item]:
    yield from _head("rows, by id")
    if not (found.added or found.removed or found.changed or found.moved):
        yield f"  all {found.same:,} are the same", ""
        return
    for sign, words, style, count, rows in (
        ("+", "added", "green", found.added, found.added_rows),
        ("-", "removed", "red", found.removed, found.removed_rows),
    ):
        yield f"  {words} {count:,}", style if count else ""
        yield from (
            (f"    {sign} {printable(r.id)} ({printable(r.split)})  {printable(r.excerpt)}", style)
            for r in rows
        )
        yield from _more(count, len(rows))
    columns = ", ".join(f"{name} {count:,}" for name, count in found.changed_columns.items())
    yield f"  changed {found.changed:,}{f': {columns}' if columns else ''}", "yellow" if found.changed else ""
    for row in found.changed_rows:
        yield f"    ~ {printable(row.id)}", "yellow"
        for change in row.changes:
            yield f"      {change.column}", ""
            yield f"        - {_value(change.before)}", "red"
            yield f"        + {_value(change.after)}", "green"
    yield from _more(found.changed, len(found.changed_rows))
    moves = ", ".join(f"{old} -> {new} {count:,}" for old, new, count in found.moved)
    moved = sum(count for _, _, count in found.moved)
    yield f"  moved to another split {moved:,}{f': {moves}' if moves else ''}", "yellow" if moves else ""
    yield from ((f"    > {printable(r.id)} (now {printable(r.split)})", "") for r in found.moved_rows)
    yield from _more(moved, len(found.moved_rows))
    yield f"  the same {found.same:,}", ""


def _more(count: int, shown: int) -> Iterator[Item]:
    if shown and count > shown:
        yield f"    and {count - shown:,} more", "dim"


def _columns(found: Difference) -> Iterator[Item]:
    if not found.columns:
        return
    yield from _head("columns")
    for name, (before, after) in found.columns.items():
        if before is None:
            yield f"  + {printable(name)} ({after})", "green"
        elif after is None:
            yield f"  - {printable(name)} ({before})", "red"
        else:
            yield f"  ~ {printable(name)}: {before} -> {after} (its values are not compared)", "yellow"


def _pairs(title: str, pairs: Mapping[str, Pair]) -> Iterator[Item]:
    if not pairs:
        return
    yield from _head(title)
    for name, (before, after) in list(pairs.items())[:_MOST]:
        both = all(value is None or type(value) is int for value in (before, after))
        change = f" ({_signed((after or 0) - (before or 0))})" if both else ""
        yield f"  {printable(name)}: {_value(before)} -> {_value(after)}{change}", ""
    yield from _more(len(pairs), min(len(pairs), _MOST))


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if type(value) is int:
        return f"{value:,}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return printable(text)


def _raw(raw: Mapping[str, Pair]) -> Iterator[Item]:
    if not raw:
        return
    yield from _head("raw files")
    for path, (before, after) in list(raw.items())[:_MOST]:
        if before is None:
            yield f"  + {printable(path)} ({size(after['bytes'])})", "green"
        elif after is None:
            yield f"  - {printable(path)} ({size(before['bytes'])})", "red"
        else:
            sums = f"sha256 {before['sha256'][:12]}... -> {after['sha256'][:12]}..."
            yield (
                f"  ~ {printable(path)} ({size(before['bytes'])} -> {size(after['bytes'])}), {sums}",
                "yellow",
            )
    yield from _more(len(raw), min(len(raw), _MOST))
