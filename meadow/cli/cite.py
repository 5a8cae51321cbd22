"""``meadow cite``: what to cite for the datasets that were used."""

from __future__ import annotations

from typing import Annotated

import typer

from meadow.cli import console
from meadow.cli.options import Out, store_in
from meadow.core.errors import Error


def cite(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME", help="Datasets, sources, mixture:NAME, or all that is built."),
    ],
    version: Annotated[
        str | None, typer.Option(help="Of one dataset, another version than the newest, such as 1.0.")
    ] = None,
    out: Out = None,
) -> None:
    """Print BibTeX of what to cite: the version, the sources it was made from, and the collection's paper.

    Lines that begin with % are remarks, which BibTeX passes over: all of it can go into a .bib file.
    """
    from meadow.core.store import default_raw
    from meadow.describe import citations

    if version is not None and (len(names) > 1 or names == ["all"]):
        console.fail("--version is that of a single dataset: name only one", console.WRONG_USE)
    try:
        entries, remarks = citations.gather(names, store_in(out), version, default_raw())
    except KeyError as error:
        console.fail(error.args[0], console.WRONG_USE)
    except (Error, ValueError) as error:
        console.fail(error)
    for remark in remarks:
        # To BibTeX an entry begins at any @, even that of a folder's name.
        console.say(f"% {remark.replace('@', '(at)')}")
    console.say("\n".join([""] * bool(remarks) + ["\n\n".join(entry.text for entry in entries)]))
