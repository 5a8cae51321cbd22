"""Paths of this machine in texts that travel: they say who built, and where."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from meadow.describe.cards import markdown


def without_places(text: str, roots: Iterable[Path]) -> str:
    """Cuts paths below the home folder, the working folder and others down to their last part.

    An error that a build or a recipe put into its record names a file as it lay there. Other absolute paths
    stay: in a text nobody can tell them from what a row says.

    Args:
        text: A card or a record, as text or JSON.
        roots: More folders, such as the output folder.
    """
    every = {place for one in (*roots, Path.home(), Path.cwd()) for place in (one.absolute(), one.resolve())}
    for root in sorted(every, key=lambda place: (-len(str(place)), str(place))):
        if len(root.parts) < 2:  # the home of a service may be the root of all paths
            continue
        # As it stands in text, and as JSON and Markdown write it.
        for written in {str(root), json.dumps(str(root), ensure_ascii=False)[1:-1], markdown.text(root)}:
            start = rf"(?:(?<![\w/.\\-])|(?<=file://)){re.escape(written)}"
            text = re.sub(rf"{start}((?:[/\\][^\s/\\\"'`:;,()<>|]+)*)[/\\]*(?![\w-])", _last_part(root), text)
    return text


def _last_part(root: Path) -> Callable[[re.Match[str]], str]:
    def cut(match: re.Match[str]) -> str:
        return re.split(r"[/\\]+", match[1])[-1] or root.name

    return cut
