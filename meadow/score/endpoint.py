"""Asks a model behind an OpenAI-compatible endpoint on the user's own network: vLLM, llama.cpp, Ollama and others.

Answers are written by ``/v1/chat/completions``, where the server puts its own chat template around the question, or by
``/v1/completions`` if a template of texts is named. Likelihoods need a server that tells the log-probabilities of the
tokens of a *prompt* (vLLM does), and a template of texts.

Exams may not be given away, so a host outside private networks is refused unless it is allowed. Nothing is sent
through a proxy, no redirection is followed, and the key is in no message.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import http.client
import ipaddress
import json
import os
import random
import re
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meadow.models import prompts
from meadow.score.predictions import ScoringError
from meadow.score.protocols import Likelihood, Prompt, Rendered

__all__ = ["KEY", "EndpointBackend", "EndpointError"]

#: The environment variable that holds the key, if the server wants one.
KEY = "MEADOW_API_KEY"
#: Answers that may be other ones a moment later.
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
#: The first wait in seconds; each one after it is twice as long, up to the longest.
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
#: A server that wants a longer pause than this is not waited for.
_LONGEST_ASKED = 300.0
#: Log-probabilities of a prompt of 4,000 tokens take under 1 MB.
_MOST_BYTES = 64 * 2**20
_NOT_OFFERED = (
    "it does not tell the log-probabilities of a prompt's tokens, so likelihoods cannot be computed. vLLM offers them; "
    "llama.cpp and Ollama do not. Use --protocol generate, or score the model's folder itself with --model"
)


class EndpointError(ScoringError):
    """The endpoint cannot be used; the message says why and what to do, and never holds the key."""


@dataclass(frozen=True)
class _Answer:
    """An HTTP answer.

    Attributes:
        status: Its status.
        wait: Seconds that it asks to wait; None if it does not.
        data: Its body.
    """

    status: int
    wait: float | None
    data: bytes


class EndpointBackend:
    """A model behind an endpoint.

    Args:
        url: Such as ``http://localhost:8000/v1``; ``/v1`` may be left away.
        model: What the server calls the model; None: the only one it has.
        template: How questions are put; None: by the server's own chat template.
        concurrency: Requests at once.
        timeout: Seconds for one request, from beginning to end.
        retries: How often a request is tried again.
        key_variable: The environment variable that holds the key; it may be unset.
        allow_public: Let questions leave private networks.
        notify: Called with what a user should know.

    Raises:
        EndpointError: The address cannot be used, nothing answers there, or the server has no such model.
    """

    name = "endpoint"

    def __init__(
        self,
        url: str,
        model: str | None = None,
        template: prompts.Template | None = None,
        *,
        concurrency: int = 8,
        timeout: float = 300.0,
        retries: int = 5,
        key_variable: str = KEY,
        allow_public: bool = False,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self._notify = notify or (lambda text: None)
        self._secure, self._host, self._port, self._path = _address(url)
        self._where = (
            f"{'https' if self._secure else 'http'}://{_bracketed(self._host)}:{self._port}{self._path}"
        )
        self._key_variable = key_variable
        self._key = os.environ.get(key_variable, "").strip()
        if self._key and not re.fullmatch(r"[\x21-\x7e]+", self._key):
            raise EndpointError(f"${key_variable}: a key is letters, digits and signs without a space in it")
        if timeout <= 0 or retries < 0 or concurrency < 1:
            raise EndpointError(
                "a timeout is over 0 seconds, retries are 0 or more, concurrency is 1 or more"
            )
        self.concurrency = concurrency
        self._timeout, self._retries = timeout, retries
        self._local = threading.local()
        self._closed = threading.Event()
        self._connections: set[http.client.HTTPConnection] = set()
        self._guard, self._finding = threading.Lock(), threading.Lock()
        self._way: str | None = None
        self._told: set[str] = set()
        self.requests = 0
        if not allow_public:
            self._refuse_public()
        self.model = self._find(model)
        self.template = template
        self._by_chat = template is None or template.kind == "chat"
        self.supports_loglikelihood = not self._by_chat
        self.no_loglikelihood = (
            f"{self._where}: likelihoods need the whole prompt as a text, and a chat endpoint shows none: name the "
            "template that the model was trained with, such as --template alpaca, or use --protocol generate"
        )
        self.identity: Mapping[str, Any] = {
            "backend": self.name,
            "address": self._where,
            "model": self.model,
            "template": None if template is None else template.to_dict(),
        }

    # ---- what protocols ask ----

    def render(self, prompt: Prompt, room: int) -> Rendered:
        """How a prompt is sent; see `meadow.score.protocols.Backend`.

        Raises:
            EndpointError: It cannot be put to this endpoint.
        """
        sent = json.dumps(self._body(prompt), sort_keys=True, ensure_ascii=False)
        return Rendered(hashlib.sha256(sent.encode("utf-8", "backslashreplace")).hexdigest(), len(sent))

    def loglikelihoods(
        self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]
    ) -> list[list[Likelihood]]:
        """The likelihoods of each prompt's continuations, one request for each prompt.

        Raises:
            EndpointError: The server offers none, or does not answer.
        """
        if not self.supports_loglikelihood:
            raise EndpointError(self.no_loglikelihood)
        return [self._likelihoods(*pair) for pair in zip(prompts, continuations, strict=True)]

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | Sequence[int] | None = None,
        stop: Sequence[str] | None = None,
    ) -> list[str]:
        """What the model writes after each prompt.

        Raises:
            EndpointError: The server does not answer, or with something else.
        """
        seeds = [seed] * len(prompts) if seed is None or isinstance(seed, int) else list(seed)
        if stop is None:
            stop = () if self.template is None else self.template.stop
        found = []
        for prompt, own in zip(prompts, seeds, strict=True):
            body = {**self._body(prompt), "max_tokens": max_new_tokens, "temperature": temperature}
            if top_k is not None:
                body["top_k"] = top_k
            if top_p is not None:
                body["top_p"] = top_p
            if own is not None:
                body["seed"] = own
            if stop:
                # Four is the most that the interface allows.
                body["stop"] = list(stop)[:4]
            chat = "messages" in body
            answer = self._ask("/chat/completions" if chat else "/completions", body, prompt.id)
            found.append(self._written(answer, chat))
        return found

    def close(self) -> None:
        """Breaks off what is under way, and lets no more be asked."""
        self._closed.set()
        with self._guard:
            connections = list(self._connections)
        for connection in connections:
            sock = connection.sock
            if sock is not None:
                # A thread that waits in a read is woken by this, and not by closing alone.
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    # ---- requests ----

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        template = prompts.get(prompt.template) if prompt.template else self.template
        if template is None or template.kind == "chat":
            messages = prompts.messages(template or prompts.get("chat"), prompt.instruction, prompt.input)
            if prompt.answer_prefix:
                raise EndpointError("an answer cannot be begun for a model by its chat template")
            return {"model": self.model, "messages": messages}
        text = prompts.prompt_text(template, None, prompt.instruction, prompt.input)
        if prompt.answer_prefix:
            text += template.answer_lead + prompt.answer_prefix
        return {"model": self.model, "prompt": text}

    def _written(self, answer: Any, chat: bool) -> str:
        choice = self._choices(answer)[0]
        text = choice.get("message", {}).get("content") if chat else choice.get("text")
        if text is None and chat and isinstance(choice.get("message"), dict):
            # A model that thinks first and ran out of tokens has written no answer.
            self._tell(
                "some answers are empty: the model used all its tokens for something else, such as thinking"
            )
            text = ""
        if not isinstance(text, str):
            raise EndpointError(f"{self._where}: its answer holds no text: {self._excerpt(answer)}")
        return text.strip()

    def _choices(self, answer: Any) -> list[dict[str, Any]]:
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or not choices or not all(isinstance(c, dict) for c in choices):
            raise EndpointError(
                f"{self._where}: its answer has no choices, as an OpenAI-compatible one would: {self._excerpt(answer)}"
            )
        if all(isinstance(choice.get("index"), int) for choice in choices):
            return sorted(choices, key=lambda choice: choice["index"])
        return choices

    def _find(self, model: str | None) -> str:
        """The model's name, as the server knows it."""
        answer = self._exchange("/models", None)
        if answer.status in (404, 405, 501) and model is not None:
            # Not every server lists its models.
            return model
        found = self._parsed("/models", answer)
        listed = found.get("data") if isinstance(found, dict) else None
        names = [
            entry["id"]
            for entry in (listed if isinstance(listed, list) else [])
            if isinstance(entry, dict) and isinstance(entry.get("id"), str)
        ]
        if model is None:
            if len(names) != 1:
                there = f"it has {', '.join(names[:20])}" if names else "it names none"
                raise EndpointError(f"{self._where}: say which model is meant: {there}")
            return names[0]
        # Ollama lists "llama3:latest" and takes "llama3".
        if names and model not in names and f"{model}:latest" not in names:
            raise EndpointError(f"{self._where}: it has no model {model!r}; it has {', '.join(names[:20])}")
        return model

    def _ask(self, path: str, body: Mapping[str, Any], item: str) -> Any:
        """The answer to a request, which is JSON.

        Raises:
            EndpointError: There is none; the message names the item.
        """
        try:
            return self._parsed(path, self._exchange(path, body))
        except EndpointError as error:
            raise EndpointError(f"item {item}: {error}" if item else str(error)) from None

    def _exchange(self, path: str, body: Mapping[str, Any] | None) -> _Answer:
        """Sends a request until it is answered, be it by a refusal; what is answered with 200 is JSON.

        Raises:
            EndpointError: It is not answered.
        """
        data = None if body is None else json.dumps(body).encode()
        trouble, wait = "", 0.0
        for attempt in range(self._retries + 1):
            if self._closed.wait(wait):
                raise EndpointError(f"{self._where}{path}: broken off")
            # Waits of requests that failed together differ, so that they do not fail together again.
            wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1.0)
            try:
                answer = self._send(path, data)
            except (OSError, http.client.HTTPException, _TooLong) as error:
                if self._closed.is_set():
                    raise EndpointError(f"{self._where}{path}: broken off") from None
                if isinstance(error, ssl.SSLCertVerificationError):
                    raise EndpointError(
                        f"{self._where}: its certificate cannot be trusted ({error.verify_message}); name your own "
                        "authority's file in $SSL_CERT_FILE"
                    ) from None
                trouble = self._trouble(error)
                continue
            if answer.status == 200:
                try:
                    json.loads(answer.data)
                except (ValueError, RecursionError):
                    trouble = f"its answer is no JSON: {self._excerpt(answer.data)}"
                    continue
            elif answer.status in _AGAIN:
                trouble = f"status {answer.status}: {self._excerpt(answer.data)}"
                if answer.wait is not None and answer.wait > _LONGEST_ASKED:
                    raise EndpointError(
                        f"{self._where}{path}: it asks to wait {answer.wait:.0f} seconds ({trouble}); run the same "
                        "command again then, it goes on where it stopped"
                    )
                wait = max(wait, answer.wait or 0.0)
                continue
            return answer
        times = "once" if not self._retries else f"{self._retries + 1} times"
        raise EndpointError(
            f"{self._where}{path}: tried {times}, at last {trouble}. See to the server (does it run, is it overloaded? "
            "--concurrency asks for less at once), and run the same command again: it goes on where it stopped"
        )

    def _parsed(self, path: str, answer: _Answer) -> Any:
        if answer.status == 200:
            return json.loads(answer.data)
        said = self._excerpt(answer.data)
        if answer.status in (401, 403):
            has = "is not taken" if self._key else "is wanted"
            what = f"a key {has}; put the right one into the environment variable {self._key_variable}"
        elif 300 <= answer.status < 400:
            what = "it redirects, which is not followed; give the address that it redirects to"
        elif answer.status in (404, 405, 501):
            what = f"it has no such path or no model {getattr(self, 'model', None)!r}; look at address and name of the model"
        else:
            what = "it refuses the request; look at what it says, and at its own log"
        raise EndpointError(f"{self._where}{path}: status {answer.status}, {what}. It says: {said}")

    def _send(self, path: str, data: bytes | None) -> _Answer:
        connection = getattr(self._local, "connection", None)
        if connection is not None and connection.sock is not None:
            try:
                return self._sent(connection, path, data)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                # Kept open since the last request, and closed by the server meanwhile.
                connection.close()
        if connection is None:
            kind: Any = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            more = {"context": ssl.create_default_context()} if self._secure else {}
            connection = self._local.connection = kind(self._host, self._port, timeout=self._timeout, **more)
            with self._guard:
                self._connections.add(connection)
        return self._sent(connection, path, data)

    def _sent(self, connection: http.client.HTTPConnection, path: str, data: bytes | None) -> _Answer:
        end = time.monotonic() + self._timeout
        headers = {"Accept": "application/json", "User-Agent": "meadow"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        with self._guard:
            self.requests += 1
        try:
            connection.timeout = self._timeout
            if connection.sock is not None:
                connection.sock.settimeout(self._timeout)
            connection.request("GET" if data is None else "POST", self._path + path, data, headers)
            sock = connection.sock
            answer = connection.getresponse()
            pieces, size = [], 0
            while True:
                left = end - time.monotonic()
                if left <= 0:
                    # A server that sends a byte now and then would keep any single read happy.
                    raise TimeoutError
                if sock is not None:
                    sock.settimeout(left)
                piece = answer.read1(1 << 16)
                if not piece:
                    break
                pieces.append(piece)
                size += len(piece)
                if size > _MOST_BYTES:
                    raise _TooLong
            if answer.length:
                raise http.client.IncompleteRead(b"", answer.length)
            # Reading to the end by `read1` does not tell the connection that it is free again.
            answer.close()
            wait = _seconds(answer.headers.get("Retry-After"))
            return _Answer(answer.status, wait, b"".join(pieces))
        except BaseException:
            connection.close()
            raise

    def _trouble(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no whole answer in {self._timeout:g} seconds (--timeout)"
        if isinstance(error, ConnectionRefusedError):
            return "nothing listens there"
        if isinstance(error, (http.client.IncompleteRead, http.client.RemoteDisconnected, ConnectionError)):
            return "the connection broke off"
        if isinstance(error, _TooLong):
            return f"its answer is over {_MOST_BYTES >> 20} MB"
        return self._excerpt(str(error) or type(error).__name__)

    def _excerpt(self, found: Any) -> str:
        """The beginning of what a server said; without the key, which some servers repeat."""
        if isinstance(found, bytes):
            found = found[:4000].decode("utf-8", "replace")
        elif not isinstance(found, str):
            found = json.dumps(found)[:4000]
        if self._key:
            found = found.replace(self._key, "***")
        found = " ".join("".join(c if c.isprintable() else " " for c in found).split())
        return found if len(found) <= 300 else found[:296] + " ..."

    def _tell(self, text: str) -> None:
        with self._guard:
            new = text not in self._told
            self._told.add(text)
        if new:
            self._notify(text)

    def _refuse_public(self) -> None:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise EndpointError(f"{self._where}: there is no host {self._host!r}") from None
        addresses = {str(entry[4][0]).partition("%")[0] for entry in found}
        public = sorted(a for a in addresses if ipaddress.ip_address(a).is_global)
        if public:
            raise EndpointError(
                f"{self._where}: {public[0]} is no address of a private network. The exam's questions, which may be "
                "others' property, would leave yours; --allow-public says that they may"
            )

    # ---- likelihoods ----

    def _likelihoods(self, prompt: Prompt, continuations: Sequence[str]) -> list[Likelihood]:
        before = self._body(prompt)["prompt"]
        template = prompts.get(prompt.template) if prompt.template else self.template
        assert template is not None
        texts = [before, *(before + template.answer_lead + text for text in continuations)]
        first, *others = self._tokens(texts, prompt.id)
        found = []
        for text, tokens in zip(continuations, others, strict=True):
            start = 0
            while start < min(len(first), len(tokens)) and first[start][0] == tokens[start][0]:
                start += 1
            if start < len(first):
                self._tell(
                    "this model's tokenizer lets prompt and answer share a token; it is counted as the answer's"
                )
            values = [value for _, value in tokens[start:]]
            if not values or any(value is None for value in values):
                raise EndpointError(f"item {prompt.id}: {self._where}: {_NOT_OFFERED}")
            found.append(Likelihood(float(sum(v for v in values if v is not None)), len(values), len(text)))
        return found

    def _tokens(self, texts: Sequence[str], item: str) -> list[list[tuple[Any, float | None]]]:
        """The tokens of each text with their log-probabilities; that of the first is None."""
        if self._way is None:
            with self._finding:
                if self._way is None:
                    self._way, found = self._find_way(texts, item)
                    return found
        found = _WAYS[self._way](self, texts, item)
        if found is None:
            raise EndpointError(f"item {item}: {self._where}: {_NOT_OFFERED}")
        return found

    def _find_way(self, texts: Sequence[str], item: str) -> tuple[str, list[list[tuple[Any, float | None]]]]:
        for name, way in _WAYS.items():
            found = way(self, texts, item)
            if found is not None:
                return name, found
        raise EndpointError(f"{self._where}: {_NOT_OFFERED}")

    def _probed(self, body: Mapping[str, Any], item: str) -> list[dict[str, Any]] | None:
        """The choices of an answer; None if the server does not take such a request."""
        body = {"model": self.model, "temperature": 0, **body}
        answer = self._exchange("/completions", body)
        if answer.status in (400, 404, 405, 422, 501):
            said = self._excerpt(answer.data).lower()
            if "context length" in said or "too long" in said or "too many tokens" in said:
                raise EndpointError(f"item {item}: {self._where}: it is too long for the model: {said}")
            return None
        found = self._parsed("/completions", answer)
        return self._choices(found) if isinstance(found, dict) and found.get("choices") else None

    def _by_prompt_logprobs(
        self, texts: Sequence[str], item: str
    ) -> list[list[tuple[Any, float | None]]] | None:
        """vLLM's own: a list with an entry for each token of the prompt."""
        body = {"prompt": list(texts), "max_tokens": 1, "prompt_logprobs": 0}
        choices = self._probed(body, item)
        if choices is None or len(choices) != len(texts):
            return None
        found = []
        for choice in choices:
            entries = choice.get("prompt_logprobs")
            if not isinstance(entries, list) or not entries:
                return None
            tokens: list[tuple[Any, float | None]] = []
            for number, entry in enumerate(entries):
                if entry is None and not number:
                    tokens.append((None, None))
                elif isinstance(entry, dict) and entry:
                    # The prompt's own token comes first; others are there only if they were asked for.
                    token, value = next(iter(entry.items()))
                    tokens.append(
                        (token, _number(value.get("logprob") if isinstance(value, dict) else value))
                    )
                else:
                    return None
            found.append(tokens)
        return found

    def _by_echo(self, texts: Sequence[str], item: str) -> list[list[tuple[Any, float | None]]] | None:
        """OpenAI's old way: the prompt is repeated as if it were written."""
        choices = self._probed({"prompt": list(texts), "max_tokens": 0, "echo": True, "logprobs": 1}, item)
        if choices is None or len(choices) != len(texts):
            return None
        found = [_echoed(choice, text) for choice, text in zip(choices, texts, strict=True)]
        return None if any(tokens is None for tokens in found) else [tokens for tokens in found if tokens]

    def _by_longer_echo(self, texts: Sequence[str], item: str) -> list[list[tuple[Any, float | None]]] | None:
        """The same of servers that must write a token: it is cut off again."""
        found = []
        for text in texts:
            choices = self._probed({"prompt": text, "max_tokens": 1, "echo": True, "logprobs": 1}, item)
            tokens = _echoed(choices[0], text) if choices else None
            if not tokens:
                return None
            written = len(choices[0]["text"]) > len(text) if choices else False
            found.append(tokens[:-1] if written else tokens)
        return found


_WAYS: Mapping[str, Callable[..., Any]] = {
    "prompt_logprobs": EndpointBackend._by_prompt_logprobs,
    "echo": EndpointBackend._by_echo,
    "longer echo": EndpointBackend._by_longer_echo,
}


class _TooLong(Exception):  # noqa: N818 - it never leaves this module
    """An answer that no answer can be."""


def _echoed(choice: Mapping[str, Any], text: str) -> list[tuple[Any, float | None]] | None:
    """The tokens of a prompt that was repeated; None if it was not."""
    logprobs, said = choice.get("logprobs"), choice.get("text")
    if not isinstance(logprobs, dict) or not isinstance(said, str) or not said.startswith(text):
        return None
    tokens, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list) or len(tokens) != len(values):
        return None
    return [(token, _number(value)) for token, value in zip(tokens, values, strict=True)]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _seconds(header: str | None) -> float | None:
    """The seconds of a Retry-After header, which holds a number or a date."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _address(url: str) -> tuple[bool, str, int, str]:
    """Whether an address is encrypted, its host, port and path."""
    example = "such as http://localhost:8000/v1"
    try:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise EndpointError(f"the endpoint's address is none: {error}; give one {example}") from None
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise EndpointError(
            f"the endpoint's address must hold no name and no password; put the key into ${KEY}, and give an "
            f"address {example}"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise EndpointError(f"{url}: an endpoint's address begins with http:// or https://, {example}")
    if parts.query or parts.fragment:
        raise EndpointError(
            f"{parts.scheme}://{parts.netloc}{parts.path}: leave away what stands after it; {example}"
        )
    path = re.sub(r"/(?:chat/completions|completions|models)$", "", parts.path.rstrip("/")) or "/v1"
    if re.search(r"[\s\x00-\x1f\x7f]", path + host):
        raise EndpointError(f"an endpoint's address holds no spaces; give one {example}")
    secure = parts.scheme == "https"
    return secure, host, port or (443 if secure else 80), path
