"""What goes wrong with models, and how a library's own words for it become a message."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from meadow.core.errors import Error

__all__ = ["ModelError", "explained", "line"]


class ModelError(Error):
    """A model that cannot be used; the message says why and what to do."""


@contextlib.contextmanager
def explained(what: str = "") -> Iterator[None]:
    """Turns what a library raises into a `ModelError`: a missing extra, or `what`, if any, with its words."""
    try:
        yield
    except ModelError:
        raise
    except ImportError as error:
        name = error.name or "a library"
        # Import names are not always those that are installed.
        name = "protobuf" if name.startswith("google") else name.partition(".")[0]
        raise ModelError(
            f"{name} is needed and not installed ({error}): pip install -c constraints.txt '.[train]'"
        ) from error
    except Exception as error:
        # Whatever a damaged or foreign file makes a library raise.
        if not what:
            raise
        raise ModelError(f"{what}: {line(error)}") from error


def line(error: object) -> str:
    """The first words of a library's message, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + "..."
