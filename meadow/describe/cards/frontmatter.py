"""The YAML at the top of a card: which keys and tags Meadow writes, and what of a card that is there a person did."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

# As the Hub's server and huggingface_hub cut it off (huggingface_hub.repocard.REGEX_YAML_BLOCK), or empty.
_FRONT = re.compile(r"\A\s*---\n(?:([\S\s]*?)\n)??---[ \t]*(?:\n|\Z)")
_KEY = re.compile(r"""(?:"([^"\\\n]+)"|'([^'\n]+)'|([A-Za-z_][^:#\n]*?))[ \t]*:(?:[ \t]|$)""")


@dataclass(frozen=True, slots=True)
class CardKind:
    """A kind of card: keys and tags of its YAML that are Meadow's, and generated blocks it may have had."""

    owned: tuple[str, ...]
    tags: tuple[str, ...]
    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PersonsYaml:
    """What of a card's YAML is a person's: lines as typed, all keys, tags, or a block that cannot be read."""

    kept: str = ""
    keys: frozenset[str] = frozenset()
    tags: tuple[str, ...] = ()
    broken: str = ""


def split(card: str) -> tuple[str | None, str]:
    """Cuts a card into its YAML, without the dashes and None where there is none, and its body."""
    card = card.replace("\r\n", "\n").removeprefix("\ufeff")
    match = _FRONT.match(card)
    return (match[1] or "", card[match.end() :]) if match else (None, card)


def load(block: str | None) -> dict[str, Any]:
    """Reads the YAML of a card; ValueError where it is none."""
    try:
        data = yaml.safe_load(block or "")
    except (yaml.YAMLError, TypeError, RecursionError) as error:  # RecursionError: a list within itself
        raise ValueError(str(error)) from error
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ValueError("no mapping of names")
    return data


def read(block: str | None, kind: CardKind) -> PersonsYaml:
    """Tells what of a card's YAML is a person's."""
    if not block:
        return PersonsYaml()
    try:
        data = load(block)
        kept = _keep(block, data, kind)
        if kept and data:
            from huggingface_hub import DatasetCard

            DatasetCard(f"---\nlicense: mit\n{kept}\n---\n")  # raises where the Hub could not read it
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return PersonsYaml(broken=block)
    tags = data.get("tags")
    theirs = (tag for tag in (tags if isinstance(tags, list) else ()) if isinstance(tag, str))
    return PersonsYaml(kept, frozenset(data), tuple(tag for tag in theirs if tag not in kind.tags))


def _keep(block: str, data: Mapping[str, Any], kind: CardKind) -> str:
    """The part of a YAML block, which says `data`, that is not Meadow's: as it was typed, with all comments."""
    theirs = {key: value for key, value in data.items() if key not in kind.owned}
    lines: list[str] = []
    found: list[str] = []
    for line in block.split("\n"):
        key = _KEY.match(line)
        if key:
            found.append(next(group for group in key.groups() if group))
        comment = not line.strip() or line.lstrip().startswith("#")
        if comment or not found or found[-1] not in kind.owned:
            lines.append(line)
    twice = [name for name in found if name not in kind.owned and found.count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]} stands twice")
    kept = "\n".join(lines).strip("\n")
    try:
        exact = set(found) == set(data) and (yaml.safe_load(kept) or {}) == theirs
    except yaml.YAMLError:  # an alias to an anchor in a key that is Meadow's
        exact = False
    # Flow style and the like: keep the values, if not the form.
    return kept if exact else dump(theirs).rstrip("\n") if theirs else ""


def dump(data: Mapping[str, Any]) -> str:
    """YAML, unsorted, so that the order is ours, and wide, so that no value is folded over lines."""
    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=10**6) if data else ""
