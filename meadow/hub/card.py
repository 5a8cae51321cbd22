"""Cards on their way to the Hub, where people write into them, too."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from meadow.describe import cards
from meadow.describe.cards import markdown
from meadow.describe.cards.frontmatter import dump
from meadow.describe.cards.merge import merge_bodies, texts, without_blocks
from meadow.describe.cards.metadata import CONDITIONAL_TAGS, OWNED, TAGS

#: YAML keys that the card of a fine-tuned model is made with; those of a person stay.
MODEL_OWNED = (
    *("language", "license", "license_name", "license_link", "library_name", "pipeline_tag", "base_model"),
    *("base_model_relation", "datasets", "tags"),
)
#: Blocks that a card of Meadow's may have had and no longer has.
_MADE = frozenset(
    "notice summary splits lengths plot example funnel stages contamination duplicates privacy raw licences "
    "citation releases checksums datasets loading incomplete parts not-in-meadow mixture-exams".split()
)
#: Tags that Meadow sets, and takes away when they no longer hold.
_TAGS = {*TAGS, *CONDITIONAL_TAGS, "not-for-clinical-use", "sample-data", "merged"}
_TAGS |= {"full-fine-tuning", "lora", "lora-8bit", "qlora"}
# As the Hub's server and huggingface_hub cut it off.
_FRONT = re.compile(r"\A\s*---\n(?:([\S\s]*?)\n)??---[ \t]*(?:\n|\Z)")
_LOADING = re.compile(r"(<!-- meadow:begin loading -->)(.*?)(<!-- meadow:end loading -->)", re.DOTALL)
_PLACE = '"path/to/this/folder"'


def split(card: str) -> tuple[str, str]:
    """Cuts a card into its YAML, without the dashes, and its body."""
    card = card.replace("\r\n", "\n").removeprefix("\ufeff")
    match = _FRONT.match(card)
    return (match[1] or "", card[match.end() :].lstrip("\n")) if match else ("", card)


def without_example(card: str) -> str:
    """A dataset's card without its example row."""
    front, body = split(card)
    return f"---\n{front}\n---\n\n{without_blocks(body, ('example',))}"


def collection(manifests: Iterable[Mapping[str, Any]], local: str | None, repo: str) -> str:
    """The collection's card for what a repository will hold.

    Args:
        manifests: The current manifest of each dataset there.
        local: The card in the output folder, whose hand edits are kept.
        repo: The repository, which the lines that load it name.
    """
    manifests = sorted(manifests, key=lambda manifest: manifest["name"])
    made = cards.collection_card(manifests, cards.words_for("collection", Path()), local)
    return _LOADING.sub(lambda m: m[1] + m[2].replace(_PLACE, json.dumps(repo)) + m[3], made)


def merge(card: str, existing: str | None, owned: Collection[str] = OWNED) -> str:
    """Merges a finished card with the one on the Hub.

    Generated blocks, sections of words that nobody edited on the Hub, and the YAML keys in `owned` become those
    of `card`. Whatever else stands there is a person's and stays.

    Args:
        card: The finished card.
        existing: The card on the Hub, None where there is none.
        owned: The YAML keys that Meadow writes.
    """
    import yaml

    if not existing or not existing.strip():
        return card
    front, body = split(card)
    new = yaml.safe_load(front) or {}
    there, below = split(existing)
    try:
        old = yaml.safe_load(there) or {}
        if not isinstance(old, dict) or not all(isinstance(key, str) for key in old):
            raise ValueError("no mapping of names")
        typed = _theirs(there, {key: value for key, value in old.items() if key not in owned}, owned)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        old, typed = {}, ""
        note = "The YAML that stood at the top of this card could not be read. Repair it and move it back:"
        below = f"{below}\n\n{note}\n\n{markdown.fence(there, 'yaml')}\n"
    body = merge_bodies(body, below, _MADE)
    head = {key: new[key] for key in owned if key in new}
    if "pretty_name" in head:
        head["pretty_name"] = markdown.title(body) or head["pretty_name"]
    tags = old.get("tags") if isinstance(old.get("tags"), list) else []
    if "tags" in head:
        mine = head["tags"]
        head["tags"] = [*mine, *(t for t in tags if isinstance(t, str) and t not in {*_TAGS, *mine})]
    more = {key: value for key, value in new.items() if key not in owned and key not in old}
    lines = [dump(head) if head else "", f"{typed}\n" if typed else "", dump(more) if more else ""]
    return f"---\n{''.join(lines)}---\n\n{body}"


def left_behind(card: str, merged: str) -> list[str]:
    """First lines of what people wrote between the parts of a local card, and that the merged one lacks."""
    there = set(texts(split(merged)[1]))
    return [text.splitlines()[0] for text in texts(split(card)[1]) if text not in there]


def _theirs(front: str, theirs: Mapping[str, Any], owned: Collection[str]) -> str:
    """The part of a YAML block that is a person's, as it was typed, with comments."""
    import yaml

    lines, key = [], None
    for line in front.split("\n"):
        found = re.match(r"""["']?([A-Za-z_][^:#"'\n]*?)["']?[ \t]*:(?:[ \t]|$)""", line)
        key = found[1] if found else key
        if key not in owned or line.startswith("#"):
            lines.append(line)
    typed = "\n".join(lines).strip("\n")
    try:
        exact = (yaml.safe_load(typed) or {}) == theirs
    except yaml.YAMLError:
        exact = False
    return typed if exact else dump(theirs).rstrip("\n") if theirs else ""
