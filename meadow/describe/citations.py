"""What to cite: BibTeX of each version of a dataset, and ``CITATION.cff`` of an output folder.

Sources bring their own BibTeX, which is passed on letter by letter. What is made here are the entries of
built versions, which name the version and the hash of its rows, so that a reader of a paper can tell whether
two papers used the same rows. No entry has a year of building: a build reads no clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from meadow.core.manifest import Manifest, PartTaken
from meadow.core.store import ATTRIBUTION, Store, StoreError

#: Who stands as the author of what Meadow builds.
CONTRIBUTORS = "Meadow contributors"
#: The first line of a ``CITATION.cff`` that a build replaces; one without it is a person's.
_MARK = "# Written by Meadow with every build. Take this line out to keep what you change here."

_CFF = Path(__file__).with_name("templates") / "citation.yaml"
#: BibTeX types with their kin among the reference types of the Citation File Format 1.2.0.
_TYPES = {
    **{same: same for same in ("article", "book", "manual", "proceedings", "software", "unpublished")},
    **{"dataset": "data", "online": "website", "techreport": "report"},
    **{"inproceedings": "conference-paper", "conference": "conference-paper"},
    **{"mastersthesis": "thesis", "phdthesis": "thesis"},
}
#: Fields that are read as they stand: to LaTeX, a ``%`` in an address would begin a comment.
_LITERAL = frozenset(("url", "doi", "eprint"))
#: What the Citation File Format accepts (its schema 1.2.0, definitions `doi` and `url`).
_DOI = re.compile(r"10\.\d{4,9}(\.\d+)?/[A-Za-z0-9:/_;\-.()\[\]\\]+")
_URL = re.compile(r"(https|http|ftp|sftp)://\S+")


@dataclass(frozen=True, slots=True)
class Person:
    """An author; of an organisation, all of the name is `family`."""

    family: str
    given: str = ""
    organisation: bool = False

    @property
    def name(self) -> str:
        """The name in the order in which it is spoken."""
        return f"{self.given} {self.family}".strip()

    @property
    def whole(self) -> bool:
        """Whether it has one name, as organisations do."""
        return self.organisation or not self.given


@dataclass(frozen=True, slots=True)
class BibEntry:
    """One BibTeX entry, its text letter by letter; one that could not be understood has no type.

    Its authors are else its editors; the other fields are plain text, by name in lower case.
    """

    key: str
    text: str
    type: str = ""
    authors: tuple[Person, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)


def entries(*bibtex: str) -> list[BibEntry]:
    """Cuts BibTeX into entries, each key once; an entry that cannot be understood is kept as its text."""
    macros: dict[str, str] = {}
    found: dict[str, BibEntry] = {}
    for kind, text in (block for each in bibtex for block in _blocks(each)):
        if kind == "string":
            macros[text] = text
        elif kind not in ("comment", "preamble"):
            entry = _parsed(kind, text, "\n".join(macros))
            found.setdefault(entry.key.lower(), entry)
    return [*(BibEntry(text, text) for text in macros), *found.values()]


def _blocks(bibtex: str) -> Iterable[tuple[str, str]]:
    """The type and the text of each ``@type{...}``; one whose braces do not close goes to the next one's line."""
    at = 0
    while start := re.compile(r"@\s*(\w+)\s*\{").search(bibtex, at):
        depth, at = 1, start.end()
        while depth and at < len(bibtex):
            if bibtex[at] in "{}" and bibtex[at - 1] != "\\":
                depth += 1 if bibtex[at] == "{" else -1
            at += 1
        if depth:
            following = re.compile(r"^\s*@", re.MULTILINE).search(bibtex, start.end())
            at = following.start() if following else len(bibtex)
        yield start[1].lower(), bibtex[start.start() : at].strip()


@lru_cache(maxsize=512)  # a build writes the collection's citation once per source
def _parsed(kind: str, text: str, macros: str) -> BibEntry:
    # Not by their names as plugins: each look-up would search all installed packages.
    from pybtex.database.input.bibtex import Parser
    from pybtex.exceptions import PybtexError

    key = re.match(r"@\s*\w+\s*\{\s*([^,\s}]*)", text)
    name = (key[1] if key else "") or text
    try:
        ((name, found),) = Parser().parse_string(f"{macros}\n{text}").entries.items()
        people = found.persons.get("author") or found.persons.get("editor") or []
        fields = {key.lower(): _plain(key.lower(), value) for key, value in found.fields.items()}
        return BibEntry(name, text, kind, tuple(_person(each) for each in people), fields)
    except (PybtexError, ValueError):
        return BibEntry(name, text)


def _plain(name: str, value: str) -> str:
    if name in _LITERAL:
        return re.sub(r"\\(?=[_%&#])|[{}]", "", re.sub(r"\\url\s*", "", value)).strip()
    from pybtex.backends.plaintext import Backend
    from pybtex.richtext import Text

    value = re.sub(r"\\url\s*\{([^{}]*)\}", lambda url: url[1].replace("%", r"\%"), value)
    return " ".join(Text.from_latex(value).render(Backend()).split())


def _person(found: Any) -> Person:
    given = " ".join([*found.first_names, *found.middle_names])
    family = " ".join([*found.prelast_names, *found.last_names, *found.lineage_names])
    whole = found.last_names[0] if len(found.last_names) == 1 else ""
    # Braces around all of a name are how BibTeX says that it is no person's.
    return Person(_plain("", family), _plain("", given), not given and whole.startswith("{"))


def _tex(value: object) -> str:
    """Text as LaTeX shows it."""
    text = re.sub(r"[\\{}]", "", " ".join(str(value).split()))
    text = re.sub(r"([&%$#_])", r"\\\1", text)
    return text.replace("~", r"\textasciitilde{}").replace("^", r"\textasciicircum{}")


def version_entry(manifest: Manifest | PartTaken) -> str:
    """The BibTeX entry of one version of a dataset; of a part, by its entry in the mixture's manifest."""
    name = manifest.name if isinstance(manifest, Manifest) else manifest.dataset
    version = _tex(manifest.version)
    title = f"{{Medical Meadow}}: {_tex(name)}, version {version}"
    lines = {"title": title, "author": f"{{{CONTRIBUTORS}}}", "version": version}
    notes = ["Sample written for tests, not the real data"] if manifest.sample else []
    if isinstance(manifest, Manifest):
        rows = f"{manifest.rows:,} rows".replace(",", "{,}")
        notes.append("1 row" if manifest.rows == 1 else rows)
        lines["howpublished"] = f"Built by {{Meadow}} {_tex(manifest.built_with.meadow)} from its sources"
    lines["note"] = ", ".join([*notes, rf"rows\_sha256 {_tex(manifest.rows_sha256)[:16]}"])
    key = re.sub(r"[^A-Za-z0-9._-]", "-", f"meadow-{name}-{manifest.version}")
    body = ",\n".join(f"  {name:<12} = {{{value}}}" for name, value in lines.items())
    return f"@misc{{{key},\n{body}\n}}"


def paper() -> str:
    """The BibTeX of the paper that introduced Medical Meadow, from the words of the collection's card."""
    from meadow.describe.cards import words_for

    found = re.search(r"^```bibtex\n(.*?)^```", words_for("collection", Path()), re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def _own(manifest: Manifest) -> list[str]:
    """The BibTeX of a version, of the parts of a mixture, and of the sources."""
    parts = manifest.mixture.parts if manifest.mixture else ()
    return [version_entry(manifest), *map(version_entry, parts), manifest.citation]


def cited(manifest: Manifest) -> str:
    """``CITATION.bib`` of a version: itself, what it was made from, the collection's paper."""
    return "\n\n".join(entry.text for entry in entries(*_own(manifest), paper())) + "\n"


def credit(manifest: Manifest) -> str:
    """Says which licences of a version's rows ask for credit, and where it is ready; empty where none does."""
    asking = [spdx for spdx in manifest.license_ids if manifest.terms(spdx).attribution]
    said = f"{', '.join(asking)} {'asks' if len(asking) == 1 else 'ask'} for credit row by row"
    return f"{said}, which no citation gives: {ATTRIBUTION} has it ready" if asking else ""


def gather(
    names: Iterable[str], store: Store, sources: Callable[[str], list[str]], version: str | None = None
) -> tuple[list[BibEntry], list[str]]:
    """What to cite for some datasets: the versions that are built, with their sources, or else the sources alone.

    Args:
        names: Datasets, sources, ``mixture:NAME``; ``all`` is all that is built.
        store: The output folder.
        sources: Gives the sources' own BibTeX of a dataset that is not built, and may raise an error of its own.
        version: Of a single dataset, an older version, or its beginning.

    Returns:
        The entries, each key once, and what else a person should know, in words.

    Raises:
        StoreError: There is no such version; the message names those there are.
    """
    there = store.names()
    wanted: dict[str, None] = {}
    for name in names:
        wanted |= dict.fromkeys(there if name == "all" else [name.replace("mixture:", "mixture_", 1)])
    if not wanted:
        raise StoreError(f"nothing is built in {store.root}; name what you used, such as a source")
    texts: list[str] = []
    remarks: list[str] = []
    for name in wanted:
        built = [name] if name in there else [each for each in there if store.manifest(each).source == name]
        for manifest in (store.manifest(dataset, version) for dataset in built):
            texts += _own(manifest)
            said = f"{manifest.name} {manifest.version}"
            if manifest.sample:
                remarks.append(f"{said} is a sample written for tests: not what you would cite in a paper")
            if owed := credit(manifest):
                remarks.append(f"{said}: {owed} in {store.folder(manifest.name, manifest.version)}")
        if not built:
            texts += sources(name)
            remarks.append(
                f"{name} is not built in {store.root}, so its version cannot be named: `python -m meadow.build "
                f"{name.replace('mixture_', 'mixture:', 1)}`, or name another folder by --out"
            )
    return entries(*texts, paper()), remarks


def collection_cff(manifests: Sequence[Manifest], existing: str | None = None) -> str:
    """The text of ``CITATION.cff`` in the Citation File Format 1.2.0.

    It has no `license`: the format reads several as a choice among them, and here every row has its own. An
    `existing` file that does not say that Meadow wrote it is kept as it is.
    """
    import yaml

    if existing is not None and not existing.startswith(_MARK):
        return existing
    main = entries(paper())[:1]
    references = [_version_reference(manifest) for manifest in manifests]
    sources = entries(*(manifest.citation for manifest in manifests))
    keys = {entry.key.lower() for entry in main}
    references += [_reference(entry) for entry in sources if entry.type and entry.key.lower() not in keys]
    data: dict[str, Any] = yaml.safe_load(_CFF.read_text(encoding="utf-8"))
    for entry in main:
        data["preferred-citation"] = _reference(entry)
    if references:
        data["references"] = references
    # Lines without end: a title that is folded reads as badly in a difference as in the file.
    return f"{_MARK}\n" + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=10**6)


def _version_reference(manifest: Manifest) -> dict[str, Any]:
    sample = ", a sample written for tests" if manifest.sample else ""
    made = f"; made from {manifest.homepage}" if _URL.fullmatch(manifest.homepage) else ""
    return {
        **{"type": "data", "title": f"Medical Meadow: {manifest.name}", "authors": [{"name": CONTRIBUTORS}]},
        **{"version": manifest.version, "notes": f"rows_sha256 {manifest.rows_sha256[:16]}{sample}{made}"},
    }


def _reference(entry: BibEntry) -> dict[str, Any]:
    fields = entry.fields
    authors = [
        {"name": person.family}
        if person.whole
        else {"family-names": person.family, "given-names": person.given}
        for person in entry.authors
    ]
    found: dict[str, Any] = {
        "type": _TYPES.get(entry.type, "generic"),
        "title": fields.get("title") or entry.key,
        "authors": authors or [{"name": fields.get("publisher") or fields.get("organization") or "unknown"}],
    }
    pages = re.fullmatch(r"(\w+)\W+(\w+)", fields.get("pages", ""))
    doi = fields.get("doi", "")
    arxiv = fields.get("eprint") and fields.get("archiveprefix", "").lower() == "arxiv"
    urls = (fields.get(name, "") for name in ("url", "howpublished"))
    more = {
        "journal": fields.get("journal"),
        "collection-title": fields.get("booktitle"),
        "volume": fields.get("volume"),
        "issue": fields.get("number"),
        "start": pages and pages[1],
        "end": pages and pages[2],
        "year": int(fields["year"]) if re.fullmatch(r"\d{4}", fields.get("year", "")) else None,
        "publisher": {"name": fields["publisher"]} if fields.get("publisher") else None,
        "doi": doi if _DOI.fullmatch(doi) else None,
        "url": next((url for url in urls if _URL.fullmatch(url)), None),
        "identifiers": arxiv and [{"type": "other", "value": f"arXiv:{fields['eprint']}"}],
        "notes": fields.get("note"),
    }
    return {**found, **{name: value for name, value in more.items() if value}}
