"""The Hugging Face Hub: what is sent there, and what is not.

`meadow.hub.push.push` sends built datasets, `meadow.hub.models.push_model` a fine-tuned model. Neither ever
holds a token: `huggingface_hub` finds the one of its own log-in, or ``HF_TOKEN``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meadow.core.errors import Error

if TYPE_CHECKING:
    from meadow.hub.refusals import Refusal

__all__ = ["HubError", "RefusedError", "StaleError"]


class HubError(Error):
    """Something that could not be read from or sent to the Hub; the message says what to do.

    It never holds a token or the signature of an address, and has no cause: the error of a request holds its
    headers.
    """


class StaleError(HubError):
    """Somebody else has changed the repository; the message says what."""


class RefusedError(HubError):
    """What must not be sent unless a person says otherwise.

    Attributes:
        refusals: Each with its reason, and the option that lifts it.
    """

    def __init__(self, refusals: Sequence[Refusal], rest: str = "") -> None:
        self.refusals = tuple(refusals)
        from meadow.hub.refusals import listed

        lines = "".join(f"\n  - {line}" for line in listed(self.refusals))
        super().__init__(f"refused, and nothing was sent:{lines}{rest}")
