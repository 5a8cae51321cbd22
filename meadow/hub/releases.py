"""The version of a collection, which follows from what changed in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from meadow.core.store import MANIFEST, version_key
from meadow.hub.client import RemoteFile
from meadow.hub.files import LocalFile, equal, rows_under

_IN_FOLDER = re.compile(rf"([^/]+)/(\d+\.\d+\.\d+)/{re.escape(MANIFEST)}")
_RELEASE = re.compile(r"v(\d+\.\d+\.\d+)")

#: Version and files of rows of each dataset in a collection, as it is on the Hub, and as it will be.
Before = Mapping[str, tuple[str, Mapping[str, RemoteFile]]]
After = Mapping[str, tuple[str, Mapping[str, LocalFile | RemoteFile]]]


def versions_in(files: Iterable[str]) -> list[tuple[str, str]]:
    """The datasets in a collection with their versions, by the paths of its files."""
    return [(match[1], match[2]) for path in files if (match := _IN_FOLDER.fullmatch(path))]


def newest(found: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The newest version of each dataset."""
    return dict(sorted(found, key=lambda key: (key[0], version_key(key[1]))))


def last_of(tags: Iterable[str]) -> str | None:
    """The newest version of the collection that has a tag."""
    released = [match[1] for tag in tags if (match := _RELEASE.fullmatch(tag))]
    return max(released, key=version_key, default=None)


def contents(files: Mapping[str, RemoteFile]) -> Before:
    """What a collection holds, by the paths of its files."""
    return {
        name: (version, rows_under(files, f"{name}/{version}/"))
        for name, version in newest(versions_in(files)).items()
    }


def following(last: str, before: Before, after: After) -> str:
    """The version of a collection after what changed in it.

    Args:
        last: Its version before.
        before: What it held then.
        after: The same now.
    """
    step = 3
    for name in {*before, *after}:
        if name not in after:
            step = 0
        elif name not in before:
            step = min(step, 1)
        else:
            (old, files), (new, now) = before[name], after[name]
            one, other = version_key(old), version_key(new)
            if one != other:
                step = min(step, next(at for at in range(3) if one[at] != other[at]) if other > one else 0)
            elif not equal(now, files):
                step = 0  # other rows under the same version: their records changed
    parts = list(version_key(last))
    if step < 3:
        parts[step:] = [parts[step] + 1, *[0] * (2 - step)]
    return ".".join(map(str, parts))
