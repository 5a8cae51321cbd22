"""The Hugging Face Hub: what is sent there, and what is not.

`meadow.hub.push.push` sends built datasets, `meadow.hub.models.push_model` a fine-tuned model. Neither ever
holds a token: `huggingface_hub` finds the one of its own log-in, or ``HF_TOKEN``.
"""

from meadow.core.errors import Error

__all__ = ["HubError", "StaleError"]


class HubError(Error):
    """Something that could not be read from or sent to the Hub; the message says what to do.

    It never holds a token or the signature of an address, and has no cause: the error of a request holds its
    headers.
    """


class StaleError(HubError):
    """Somebody else has changed the repository; the message says what."""
