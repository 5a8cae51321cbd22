"""The YAML at the top of a card that is there: what of it a person wrote, and so stays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meadow.describe.cards.metadata import CONDITIONAL_TAGS, OWNED, TAGS

# As the Hub's server and huggingface_hub cut it off (huggingface_hub.repocard.REGEX_YAML_BLOCK), or empty.
_FRONT = re.compile(r"\A\s*---\n(?:([\S\s]*?)\n)??---[ \t]*(?:\n|\Z)")
_KEY = re.compile(r"""(?:"([^"\\\n]+)"|'([^'\n]+)'|([A-Za-z_][^:#\n]*?))[ \t]*:(?:[ \t]|$)""")


@dataclass(frozen=True, slots=True)
class Front:
    """What a person's YAML leaves.

    Attributes:
        kept: YAML without the `OWNED` keys.
        tags: Tags that are not Meadow's.
        broken: The whole block, where it could not be read.
    """

    kept: str = ""
    tags: tuple[str, ...] = ()
    broken: str = ""


def read_front(card: str) -> tuple[Front, str]:
    """Cuts the YAML off a card.

    Returns:
        (what of it is to be kept, the card's body).
    """
    match = _FRONT.match(card)
    if not match:
        return Front(), card
    block, body = match[1] or "", card[match.end() :]
    import yaml

    try:
        return _read(block), body
    # ValueError: a date that does not exist, for one; RecursionError: a list within itself
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return Front(broken=block), body


def _read(block: str) -> Front:
    import yaml

    data = yaml.safe_load(block)
    if data is None:
        return Front(kept=block.strip("\n"))
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ValueError("no mapping of names")
    kept = _keep(block, {key: value for key, value in data.items() if key not in OWNED}, set(data))
    if kept:
        from huggingface_hub import DatasetCard

        DatasetCard(f"---\nlicense: mit\n{kept}\n---\n")  # raises where the Hub could not read it
    tags = data.get("tags")
    tags = tags if isinstance(tags, list) else []
    ours = (*TAGS, *CONDITIONAL_TAGS)
    return Front(kept, tuple(tag for tag in tags if isinstance(tag, str) and tag not in ours))


def _keep(block: str, theirs: Mapping[str, Any], names: set[str]) -> str:
    """The part of a YAML block that is not Meadow's, as it was typed, with all comments.

    Args:
        block: The YAML.
        theirs: What it says under keys that are not in `OWNED`.
        names: All its keys.
    """
    import yaml

    lines, found = [], []
    for line in block.split("\n"):
        key = _KEY.match(line)
        if key:
            found.append(next(group for group in key.groups() if group))
        comment = not line.strip() or line.lstrip().startswith("#")
        if comment or not found or found[-1] not in OWNED:
            lines.append(line)
    twice = [name for name in found if name not in OWNED and found.count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]} stands twice")
    kept = "\n".join(lines).strip("\n")
    try:
        exact = set(found) == names and (yaml.safe_load(kept) or {}) == theirs
    except yaml.YAMLError:  # an alias to an anchor in a key that is Meadow's
        exact = False
    # Flow style and the like: keep the values, if not the form.
    return kept if exact else dump(theirs) if theirs else ""


def dump(data: Mapping[str, Any]) -> str:
    """YAML, unsorted, so that the order is ours, and wide, so that no value is folded over lines."""
    import yaml

    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=10**6)
