"""A difference between two versions, printed."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from meadow.core.units import size_of
from meadow.describe.cards.markdown import printable
from meadow.describe.cards.templates import FOLDER, count, environment

if TYPE_CHECKING:
    import jinja2

    from meadow.describe.diff import Difference

#: Most entries of a list of settings, raw files or columns.
_MOST = 30


def printed(found: Difference, table: Callable[..., Any]) -> Iterator[tuple[str, str] | Any]:
    """What to print of a difference: (line, rich style), or what `table` made of the columns it is given."""
    text = _environment().get_template("diff.txt.j2").render(d=found, most=_MOST)
    for line in filter(None, text.split("\n")):
        style, _, words = line.partition("|")
        yield _splits(found, table) if style == "SPLITS" else (words, style)


@functools.cache
def _environment() -> jinja2.Environment:
    return environment(
        FOLDER,
        lambda value: printable(str(value)),
        {
            "size": size_of,
            "signed": _signed,
            "value": _value,
            "is_count": lambda value: value is None or type(value) is int,
        },
    )


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if type(value) is int:
        return count(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _signed(value: int) -> str:
    return f"{value:+,}" if value else "0"


def _splits(found: Difference, table: Callable[..., Any]) -> Any:
    rows = table("split", found.old, found.new, "difference")
    for column in rows.columns[1:]:
        column.justify = "right"
    total = [sum(pair[side] or 0 for pair in found.splits.values()) for side in (0, 1)]
    for split, (before, after) in (*found.splits.items(), ("all", total)):
        rows.add_row(printable(split), count(before), count(after), _signed((after or 0) - (before or 0)))
    return rows
