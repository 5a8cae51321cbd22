"""What a mixture's YAML says, checked in full before anything is built."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meadow.core import yamlfile
from meadow.core.licenses import Policy, PolicyError
from meadow.core.store import StoreError

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

#: Mixtures are datasets; this is what the names of theirs begin with.
PREFIX = "mixture_"
#: What a mixture may ask about exam items in its parts.
CONTAMINATION = ("refuse_unchecked", "exclude_hits")

_FOLDER = Path(__file__).parent
_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
_DATASET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
#: ``1``, ``1.0``, ``1.x``, ``1.0.*``: the newest version that begins so, as in `load_dataset`.
_BEGINNING = re.compile(r"(\d+(?:\.\d+)?)(?:\.[xX*])?")
_OPERATORS = ("not", "min", "max")


class MixtureError(StoreError):
    """A mixture that cannot be built as it is defined; the message says why and what to do."""


class DefinitionError(MixtureError, ValueError):
    """Mistakes in a mixture's YAML, all of them, each with the file and the key."""


@dataclass(frozen=True, slots=True)
class MixturePart:
    """One part of a mixture.

    Attributes:
        dataset: The dataset that rows are taken from.
        versions: Which of its versions will do, as a PEP 440 specifier; empty for any.
        splits: Its splits that rows are drawn from; each row stays in the split it is in.
        max_rows: How many rows to draw, over all `splits`; None for all, or where there is a `weight`.
        weight: Its share of the mixture's `total_rows`, relative to the other weights.
        where: Conditions on columns that a row must meet.
        also_named: Other names that the dataset goes by; the first of all that is there is used.
        published: The rows that the published collection took of it; for information.
        note: What else the card should say of it.
    """

    dataset: str
    versions: str = ""
    splits: tuple[str, ...] = ("train",)
    max_rows: int | None = None
    weight: float | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    also_named: tuple[str, ...] = ()
    published: int | None = None
    note: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The dataset's names, in the order in which they are looked for."""
        return self.dataset, *self.also_named

    def accepts(self, version: str) -> bool:
        """Whether a version is in the range."""
        return _specifiers(self.versions).contains(version)


@dataclass(frozen=True, slots=True)
class Absent:
    """A part of the published collection that Meadow has no builder for.

    Attributes:
        name: Its name there.
        published: The rows that were taken of it.
        reason: Why it is not here.
    """

    name: str
    published: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Mixture:
    """A mixture as its YAML defines it.

    Attributes:
        name: Its name; the dataset is called ``mixture_<name>``.
        version: ``MAJOR.MINOR.PATCH``.
        description: One sentence.
        release_notes: One entry for every version there has been.
        seed: What rows are drawn by; another seed draws others.
        parts: The parts, in order of precedence: of two equal rows the earlier part's is kept.
        total_rows: What weights are shares of.
        licenses: Which licences rows may have; None for any.
        contamination: Members of `CONTAMINATION`.
        not_in_meadow: What the published collection has and this mixture cannot.
        homepage: Where the published collection is presented.
        citation: BibTeX of its own, before that of its parts.
        counts_from: Where the published counts stand.
        file: The YAML; not part of the definition.
    """

    name: str
    version: str
    description: str
    release_notes: Mapping[str, str]
    seed: int
    parts: tuple[MixturePart, ...]
    total_rows: int | None = None
    licenses: Policy | None = None
    contamination: tuple[str, ...] = ()
    not_in_meadow: tuple[Absent, ...] = ()
    homepage: str = ""
    citation: str = ""
    counts_from: str = ""
    file: Path | None = field(default=None, compare=False)

    @property
    def dataset(self) -> str:
        """The name of the dataset it becomes."""
        return PREFIX + self.name

    def wanted(self) -> list[int | None]:
        """The rows to draw of each part; None for all. Shares are rounded so that they add up."""
        if self.total_rows is None:
            return [part.max_rows for part in self.parts]
        weights = [part.weight or 0 for part in self.parts]
        exact = [self.total_rows * weight / sum(weights) for weight in weights]
        found = [int(rows) for rows in exact]
        by_remainder = sorted(range(len(exact)), key=lambda i: (found[i] - exact[i], i))
        for i in by_remainder[: self.total_rows - sum(found)]:
            found[i] += 1
        return list(found)

    def described(self) -> dict[str, Any]:
        """The definition as YAML could state it, without what is left at its default."""
        own: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "release_notes": dict(self.release_notes),
            "homepage": self.homepage,
            "citation": self.citation,
            "counts_from": self.counts_from,
            "seed": self.seed,
            "total_rows": self.total_rows,
            "licenses": {k: v for k, v in self.licenses.described().items() if v} if self.licenses else {},
            "contamination": list(self.contamination),
            "parts": [_part_described(part) for part in self.parts],
            "not_in_meadow": [
                {"name": a.name, "published": a.published, "reason": a.reason} for a in self.not_in_meadow
            ],
        }
        return {key: value for key, value in own.items() if value not in ("", None, [], {})}

    def sha256(self) -> str:
        """A hash of the definition, whatever the layout of its YAML."""
        text = json.dumps(self.described(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _part_described(part: MixturePart) -> dict[str, Any]:
    own: dict[str, Any] = {
        "dataset": part.dataset,
        "also_named": list(part.also_named),
        "versions": part.versions,
        "split": list(part.splits),
        "max_rows": part.max_rows,
        "weight": part.weight,
        "where": dict(part.where),
        "published": part.published,
        "note": part.note,
    }
    return {
        key: value for key, value in own.items() if value not in ("", None, []) and (key != "where" or value)
    }


def available() -> dict[str, Path]:
    """The mixtures that come with Meadow: name to YAML file."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}


def load(name_or_path: str | Path) -> Mixture:
    """Reads and checks a mixture.

    Args:
        name_or_path: The name of one that comes with Meadow, or a YAML file; or a lock file, for the
            definition that it holds.

    Raises:
        DefinitionError: There is no such mixture, or its YAML has mistakes; the message has them all.
    """
    text = str(name_or_path)
    shipped = available()
    name = text.removeprefix(PREFIX)
    if isinstance(name_or_path, str) and name in shipped:
        path = shipped[name]
    elif isinstance(name_or_path, str) and not re.search(r"[/\\]|\.(ya?ml|json)$", text):
        raise DefinitionError(
            f"no mixture is named {text!r}; there are: {', '.join(shipped)}; "
            "one of your own is named by its file, such as mixture:mine.yaml"
        )
    else:
        path = Path(text).expanduser()
    data = _read(path)
    locked = isinstance(data, dict) and isinstance(data.get("definition"), dict) and "datasets" in data
    if locked:
        data = data["definition"]
    mixture, mistakes = parse(data, path)
    if mixture is not None and not locked and mixture.name in shipped and path not in shipped.values():
        mistakes.append(f"name: {mixture.name} is a mixture that comes with Meadow; choose another name")
    if mistakes or mixture is None:
        listed = "\n".join(f"  {path}: {mistake}" for mistake in mistakes)
        raise DefinitionError(f"{path}: {_count(mistakes)}:\n{listed}")
    return mixture


def _count(mistakes: list[str]) -> str:
    return "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"


def _read(path: Path) -> Any:
    import yaml

    try:
        return yamlfile.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DefinitionError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DefinitionError(f"{path}: is no YAML: {error}") from error


class _Mistakes:
    """Collects mistakes while values are taken out of a mapping."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, key: str, text: str) -> None:
        self.found.append(f"{key}: {text}")

    def mapping(self, value: Any, key: str, known: Iterable[str]) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.add(key, f"is {_kind(value)}, and must be a mapping")
            return {}
        known = list(known)
        for name in value:
            if name not in known:
                self.add(f"{key}.{name}" if key else str(name), f"unknown key; known: {', '.join(known)}")
        return value

    def text(self, data: Mapping, key: str, where: str, required: bool = False, pattern: Any = None) -> str:
        value = data.get(key)
        if value is None:
            if required:
                self.add(where, "is missing")
            return ""
        if not isinstance(value, str) or not value.strip():
            self.add(where, f"is {_kind(value)}, and must be text")
            return ""
        if pattern is not None and not pattern.fullmatch(value):
            self.add(where, f"{value!r} does not have the form {pattern.pattern}")
            return ""
        return value.strip()

    def whole(self, data: Mapping, key: str, where: str, least: int = 1) -> int | None:
        value = data.get(key)
        if value is None:
            return None
        if type(value) is not int or value < least:
            self.add(where, f"{value!r} must be a whole number from {least}")
            return None
        return value

    def texts(self, data: Mapping, key: str, where: str, pattern: Any = None) -> tuple[str, ...]:
        value = data.get(key)
        if value is None:
            return ()
        many = value if isinstance(value, list) else [value]
        found = []
        for item in many:
            if not isinstance(item, str) or (pattern is not None and not pattern.fullmatch(item)):
                self.add(where, f"{item!r} must be a name")
            elif item in found:
                self.add(where, f"{item!r} stands twice")
            else:
                found.append(item)
        if not many:
            self.add(where, "is an empty list")
        return tuple(found)


def _kind(value: Any) -> str:
    kinds = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return kinds.get(type(value), f"{value!r}")


_KEYS = (
    "name", "version", "description", "release_notes", "homepage", "citation", "counts_from", "seed",
    "total_rows", "licenses", "contamination", "parts", "not_in_meadow",
)  # fmt: skip
_PART_KEYS = (
    "dataset", "also_named", "versions", "split", "max_rows", "weight", "where", "published", "note",
)  # fmt: skip


def parse(data: Any, file: Path | None = None) -> tuple[Mixture | None, list[str]]:
    """Makes a `Mixture` of decoded YAML.

    Args:
        data: What the YAML holds.
        file: Where it stands.

    Returns:
        The mixture, None where there is a mistake; and all mistakes, each beginning with its key.
    """
    bad = _Mistakes()
    if not isinstance(data, dict):
        return None, [f"is {_kind(data)}, and must be a mapping with the keys {', '.join(_KEYS)}"]
    bad.mapping(data, "", _KEYS)
    name = bad.text(data, "name", "name", required=True, pattern=_NAME)
    version = bad.text(data, "version", "version", required=True, pattern=_VERSION)
    description = bad.text(data, "description", "description", required=True)
    notes = _release_notes(data, version, bad)
    if data.get("seed") is None:
        bad.add("seed", "is missing")
    seed = bad.whole(data, "seed", "seed", least=0)
    parts = _parts(data, bad)
    total = bad.whole(data, "total_rows", "total_rows")
    _check_sizes(parts, total, data, bad)
    licenses = _licenses(data, bad)
    contamination = bad.texts(data, "contamination", "contamination")
    for item in contamination:
        if item not in CONTAMINATION:
            bad.add("contamination", f"{item!r} is none of {', '.join(CONTAMINATION)}")
    absent = _absent(data, bad)
    texts = {key: bad.text(data, key, key) for key in ("homepage", "citation", "counts_from")}
    if bad.found:
        return None, bad.found
    return Mixture(
        name, version, description, notes, seed or 0, tuple(parts), total, licenses, contamination, absent,
        **texts, file=file,
    ), []  # fmt: skip


def _release_notes(data: Mapping, version: str, bad: _Mistakes) -> dict[str, str]:
    notes = data.get("release_notes")
    if not isinstance(notes, dict) or not all(isinstance(v, str) for pair in notes.items() for v in pair):
        bad.add("release_notes", "must map each version (in quotes) to a sentence")
        return {}
    if version and version not in notes:
        bad.add("release_notes", f"has no entry for version {version}")
    return notes


def _parts(data: Mapping, bad: _Mistakes) -> list[MixturePart]:
    value = data.get("parts")
    if not isinstance(value, list) or not value:
        bad.add("parts", "must be a list of at least one part")
        return []
    return [_part(item, f"parts[{number}]", bad) for number, item in enumerate(value)]


def _part(item: Any, key: str, bad: _Mistakes) -> MixturePart:
    item = bad.mapping(item, key, _PART_KEYS)
    dataset = bad.text(item, "dataset", f"{key}.dataset", required=True, pattern=_DATASET)
    if dataset.startswith(PREFIX):
        bad.add(f"{key}.dataset", "a mixture cannot be part of another; name its parts")
    splits = bad.texts(item, "split", f"{key}.split") or ("train",)
    for split in splits:
        if split.lower().startswith("test"):
            bad.add(f"{key}.split", f"{split!r}: a test split is for scoring models, never for training them")
    weight = item.get("weight")
    if weight is not None and (
        isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < float("inf")
    ):
        bad.add(f"{key}.weight", f"{weight!r} must be a number above 0")
        weight = None
    return MixturePart(
        dataset,
        _versions(item, f"{key}.versions", bad),
        splits,
        bad.whole(item, "max_rows", f"{key}.max_rows"),
        weight,
        _where(item, f"{key}.where", bad),
        bad.texts(item, "also_named", f"{key}.also_named", _DATASET),
        bad.whole(item, "published", f"{key}.published", least=0),
        bad.text(item, "note", f"{key}.note"),
    )


def _versions(item: Mapping, key: str, bad: _Mistakes) -> str:
    value = item.get("versions")
    if value is None:
        return ""
    if not isinstance(value, str):  # 1.10 as a number would be 1.1
        bad.add(key, f'{value!r} must be text, in quotes: "1.x" or ">=1.2,<2"')
        return ""
    try:
        _specifiers(value)
    except ValueError:
        bad.add(key, f'{value!r} is no version range: write "1.x" or ">=1.2,<2"')
        return ""
    return value.strip()


def _specifiers(text: str) -> SpecifierSet:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    text = text.strip()
    beginning = _BEGINNING.fullmatch(text)
    if beginning:
        text = f"=={beginning[1]}.*"
    elif _VERSION.fullmatch(text):
        text = f"=={text}"
    try:
        return SpecifierSet(text)
    except InvalidSpecifier as error:
        raise ValueError(str(error)) from error


def _where(item: Mapping, key: str, bad: _Mistakes) -> dict[str, Any]:
    value = item.get("where")
    if value is None:
        return {}
    if not isinstance(value, dict) or not value:
        bad.add(key, "must map columns to the value, or list of values, that a row must have")
        return {}
    for column, wanted in value.items():
        at = f"{key}.{column}"
        if isinstance(wanted, dict):
            if not wanted or set(wanted) - set(_OPERATORS):
                bad.add(at, f"a mapping has the keys {', '.join(_OPERATORS)}")
            for operator, operand in wanted.items():
                if operator in ("min", "max"):
                    if isinstance(operand, bool) or not isinstance(operand, (int, float, str)):
                        bad.add(f"{at}.{operator}", f"{operand!r} must be a number or text")
                elif operator == "not":
                    _check_values(operand, f"{at}.not", bad)
        else:
            _check_values(wanted, at, bad)
    return value


def _check_values(value: Any, key: str, bad: _Mistakes) -> None:
    for each in value if isinstance(value, list) else [value]:
        if each is not None and not isinstance(each, (str, int, float, bool)):
            bad.add(key, f"{each!r} must be text, a number, true, false or null")
    if value == []:
        bad.add(key, "is an empty list")


def _check_sizes(parts: list[MixturePart], total: int | None, data: Mapping, bad: _Mistakes) -> None:
    weighted = [i for i, part in enumerate(parts) if part.weight is not None]
    for i in weighted:
        if parts[i].max_rows is not None:
            bad.add(f"parts[{i}]", "has both max_rows and weight; choose one")
    if weighted and data.get("total_rows") is None:
        bad.add("total_rows", "is missing: weights are shares of it")
    if data.get("total_rows") is not None and parts and not weighted:
        bad.add("total_rows", "is of no use without a weight for each part")
    if weighted:
        for i, part in enumerate(parts):
            if part.weight is None and not any(f.startswith(f"parts[{i}].weight") for f in bad.found):
                bad.add(f"parts[{i}].weight", "is missing: where one part has a weight, all have")


def _licenses(data: Mapping, bad: _Mistakes) -> Policy | None:
    if data.get("licenses") is None:
        return None
    try:
        return Policy.read(data["licenses"], "licenses")
    except PolicyError as error:
        head, *wrong = str(error).split("\n  - ")
        bad.found += [f"licenses: {what}" for what in wrong] or [head]
        return None


def _absent(data: Mapping, bad: _Mistakes) -> tuple[Absent, ...]:
    value = data.get("not_in_meadow")
    if value is None:
        return ()
    if not isinstance(value, list):
        bad.add("not_in_meadow", f"is {_kind(value)}, and must be a list")
        return ()
    found = []
    for number, item in enumerate(value):
        key = f"not_in_meadow[{number}]"
        item = bad.mapping(item, key, ("name", "published", "reason"))
        found.append(
            Absent(
                bad.text(item, "name", f"{key}.name", required=True),
                bad.whole(item, "published", f"{key}.published", least=0),
                bad.text(item, "reason", f"{key}.reason", required=True),
            )
        )
    return tuple(found)
