"""Templates that show data and let it do nothing: whatever they put in is escaped, unless it is markup already.

A template is a file ``NAME.md.j2`` or ``NAME.html.j2`` and Jinja: expressions become inert Markdown, or HTML, by
themselves. Markup are the results of macros, of ``{% set %}`` blocks, and of filters such as ``fence`` and
``link``; a constant that is to stay markup stands outside of expressions. Do not join markup and data by
``~``, which would escape the data as HTML whatever the template is. A value that is not there is an error.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from meadow.core.units import size_of
from meadow.describe.cards import markdown

#: Where the templates of this package lie.
FOLDER = Path(__file__).parents[1] / "templates"


def count(value: float | None) -> str:
    """A number with thousands separated, a dash for none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if isinstance(value, float) else f"{value:,}"


def environment(
    folder: Path, escape: Callable[[object], str], filters: Mapping[str, Callable[..., Any]]
) -> jinja2.Environment:
    """An environment for templates of a folder, in which `escape` makes data inert.

    They have `filters` beside Jinja's own, `count` as ``n``, and ``json``.
    """

    def inert(value: object) -> Markup:
        return value if isinstance(value, Markup) else Markup(escape(value))

    def joined(values: Iterable[object], between: str = "") -> Markup:
        return Markup(between.join(map(inert, values)))

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, FOLDER]),
        autoescape=True,  # so that macros give markup; `inert` comes before Jinja's own escaping
        finalize=inert,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {"n": count, "json": json.dumps, "join": joined, **filters}
    return found


@functools.cache
def _markdown(folder: Path) -> jinja2.Environment:
    def markup(make: Callable[..., str]) -> Callable[..., Markup]:
        return lambda *args, **more: Markup(make(*args, **more))

    made = {name: markup(getattr(markdown, name)) for name in ("fence", "link", "quote", "share")}
    plain = {"hex": markdown.hexadecimal, "size": size_of, "is_url": markdown.is_url}
    return environment(folder, markdown.text, {**made, **plain})


def render_markdown(template: Path | str, **context: Any) -> str:
    """Fills a Markdown template: a file, or the name of one in ``meadow/describe/templates``.

    `meadow.describe.cards.markdown` has its filters.
    """
    path = FOLDER / template
    return _markdown(path.parent).get_template(path.name).render(context)
