"""``meadow cite``: what to cite for the datasets that were used."""

from __future__ import annotations

from typing import Annotated

import typer

from meadow.cli.options import Out


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
    from meadow.cli import app as cli
    from meadow.core.store import Store, StoreError, default_out, default_raw
    from meadow.describe import citations as citing

    if version is not None and (len(names) > 1 or names == ["all"]):
        cli._fail("--version is that of a single dataset: name only one", cli.WRONG_USE)
    try:
        entries, remarks = citing.gather(names, Store(out or default_out()), version, default_raw())
    except KeyError as error:
        cli._fail(str(error.args[0]), cli.WRONG_USE)
    except (StoreError, ValueError) as error:
        cli._fail(str(error), 1)
    for remark in remarks:
        # To BibTeX an entry begins at any @, even that of a folder's name.
        cli._print(f"% {remark.replace('@', '(at)')}")
    cli._print("\n".join([""] * bool(remarks) + ["\n\n".join(entry.text for entry in entries)]))
