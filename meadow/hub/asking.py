"""Requests to the Hub, with what its client lacks: patience, and one kind of error that says what to do.

`huggingface_hub` repeats some of its requests by itself after a 429 or 5xx; here the others are, with the same
respect for ``Retry-After``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TypeVar, cast

from huggingface_hub import get_token
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.errors import HTTPError as TransportError  # pyright: ignore[reportPrivateImportUsage]

from meadow.hub import HubError

#: Answers after which a request is worth repeating.
_AGAIN = (408, 429, 500, 502, 503, 504)
#: How often a request is made, the first pause in seconds, which doubles, and the longest that a server is granted.
TRIES, _PAUSE, _LONGEST = 4, 1.0, 300.0

#: Of the transport, which is httpx or httpx2; of files and the offline mode; of large files that could not be sent;
#: of names that are none.
_ERRORS = (TransportError, OSError, RuntimeError, ValueError)

T = TypeVar("T")


def asked(
    doing: str,
    ask: Callable[[], T],
    repo: str,
    *,
    tries: int = TRIES,
    kept: str = "",
    otherwise: Callable[[Exception], T | None] = lambda failure: None,
) -> T:
    """Asks, and asks again where the Hub is busy or the line breaks.

    Args:
        doing: What is being done, for the message.
        ask: Makes the request.
        repo: The repository that it is about.
        tries: How often.
        kept: What is as it was where it fails, for the message.
        otherwise: Told of each failure; the answer, where it knows one, since an answer that gets lost is no
            request that failed.

    Raises:
        HubError: The Hub refuses, or cannot be reached. It is raised outside of the handler, so that it does not
            carry the error of the request, which holds its headers.
    """
    pause = _PAUSE
    for turn in range(tries):
        try:
            return ask()
        except _ERRORS as error:
            failure = error
        answer = otherwise(failure)
        if answer is not None:
            return answer
        wait = _wait(failure, pause)
        if wait is None or turn == tries - 1:
            break
        time.sleep(wait)
        pause *= 2
    raise HubError(f"{doing}: {_explained(failure, repo)}{kept}")


def status_of(error: Exception) -> int | None:
    """The status of an answer; None where there was none."""
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _wait(error: Exception, pause: float) -> float | None:
    """Seconds until a request is worth repeating, None where it is not."""
    if isinstance(error, HfHubHTTPError):
        if error.response.status_code not in _AGAIN:
            return None
        told = error.response.headers.get("Retry-After", "")
        seconds = float(told) if re.fullmatch(r"\d+(\.\d+)?", told) else pause
        return seconds if seconds <= _LONGEST else None
    return pause if isinstance(error, TransportError) else None


def _explained(error: Exception, repo: str) -> str:
    """An error in words that say what to do, without tokens and signatures."""
    seen = error
    while not isinstance(seen, TransportError) and seen.__cause__ is not None:
        seen = cast("Exception", seen.__cause__)  # a large file that could not be sent
    what = _clean(str(error) if seen is error else f"{error} {seen}") or type(seen).__name__
    if isinstance(seen, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; take it away to reach the Hub"
    if isinstance(seen, HfHubHTTPError):
        said = _clean(seen.server_message or seen.response.headers.get("X-Error-Message") or "")
        return f"{seen.response.status_code}: {_remedy(seen, repo, f' ({said})' if said else '') or what}"
    if isinstance(seen, TransportError):
        return (
            f"{ENDPOINT} cannot be reached ({type(seen).__name__}: {what}); check the network (HF_ENDPOINT, "
            "HTTPS_PROXY, SSL_CERT_FILE), then try again"
        )
    return what


def _remedy(error: Exception, repo: str, said: str) -> str:
    status = status_of(error) or 0
    if isinstance(error, RepositoryNotFoundError) and status == 404:
        return nowhere(repo)
    if status == 401:
        return (
            f"the Hub does not accept the token{said}; log in again with `hf auth login`, or set HF_TOKEN to a token "
            "that is valid"
        )
    if status == 403:
        return f"the token may not do this in {repo}{said}; use one with access to it, to push one with write access"
    if status == 429:
        return f"the Hub asks to slow down{said}; try again in some minutes"
    return f"the Hub has trouble of its own{said}; try again later" if status >= 500 else ""


def nowhere(repo: str) -> str:
    """Says that there is no such repository, or none that may be seen."""
    return (
        f"there is no {repo} at {ENDPOINT}, or your token may not see it; check the name, log in with "
        "`hf auth login`, or set HF_TOKEN"
    )


def _clean(text: str) -> str:
    """Takes tokens, and the queries of addresses, which hold signatures, out of a message."""
    token = get_token()
    if token:
        text = text.replace(token, "[token]")
    text = re.sub(r"(https?://[^\s?'\"<>]+)\?[^\s'\"<>]*", r"\1", text)
    text = re.sub(r"\bhf_[A-Za-z0-9]{8,}", "[token]", text)
    return " ".join(text.split())[:1000]
