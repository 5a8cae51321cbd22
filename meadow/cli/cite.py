"""``meadow cite``: what to cite for the datasets that were used."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from meadow.cli import console
from meadow.cli.options import OUT, argument, option, store_in
from meadow.core.errors import Error, UnknownDatasetError

if TYPE_CHECKING:
    from meadow.core.store import Store


def cite(
    names: list[str] = argument("NAME", "Datasets, sources, mixture:NAME, or all that is built.", ...),
    version: str | None = option("", "Of one dataset, another version than the newest, such as 1.0."),
    out: Path | None = OUT,
) -> None:
    """Print BibTeX of what to cite: the version, the sources it was made from, and the collection's paper.

    Lines that begin with % are remarks, which BibTeX passes over: all of it can go into a .bib file.
    """
    from meadow.describe import citations

    store = store_in(out)
    if version is not None and (len(names) > 1 or names == ["all"]):
        console.fail("--version is that of a single dataset: name only one", console.WRONG_USE)
    try:
        entries, remarks = citations.gather(names, store, partial(_sources, store), version)
    except UnknownDatasetError as error:
        console.fail(error, console.WRONG_USE)
    except (Error, ValueError) as error:
        console.fail(error)
    for remark in remarks:
        # To BibTeX an entry begins at any @, even that of a folder's name.
        console.say(f"% {remark.replace('@', '(at)')}")
    console.say("\n".join([""] * bool(remarks) + ["\n\n".join(entry.text for entry in entries)]))


def _sources(store: Store, name: str) -> list[str]:
    """The sources' own BibTeX of a dataset that is not built."""
    from meadow.core.builder import available, dataset_names
    from meadow.core.store import default_raw
    from meadow.mix import definition

    classes = available()[0]
    by_dataset = dataset_names(classes, default_raw())
    if name in classes or name in by_dataset:
        return [classes[name if name in classes else by_dataset[name]].citation()]
    mixed = {f"{definition.PREFIX}{each}": each for each in definition.available()}
    if name in mixed:
        mixture = definition.load(mixed[name])
        parts = dict.fromkeys(by_dataset[d] for part in mixture.parts for d in part.names if d in by_dataset)
        return [mixture.citation, *(classes[source].citation() for source in parts)]
    known = sorted({*classes, *by_dataset, *store.names(), *mixed})
    raise UnknownDatasetError(f"no dataset or source is named {name!r}; there are: {', '.join(known)}")
