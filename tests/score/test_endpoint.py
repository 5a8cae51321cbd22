"""Asking an OpenAI-compatible server: one of our own, on this machine, that can fail in every way."""

from __future__ import annotations

import email.utils
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from meadow.models import http, prompts
from meadow.score import ScoreSettings
from meadow.score.backend import Prompt
from meadow.score.endpoint import EndpointBackend, EndpointError
from meadow.score.predictions import read
from recipes.score_usmle import score

KEY = "sk-very-secret-0123456789"
ASK = [Prompt("Answer", f"Question {n}?\n\nA: yes\nB: no", id=f"x/{n}") for n in range(12)]


def _tokens(text: str) -> list[str]:
    return ["<s>", *re.findall(r"\w+|[^\w]", text)]


def _logprob(tokens: list[str], place: int) -> float | None:
    return (
        None
        if not place
        else -((sum(map(ord, tokens[place - 1])) + 3 * sum(map(ord, tokens[place]))) % 97) / 10
    )


class Server:
    """A server that counts what it is asked, and answers by `reply` or by what `fault` says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any] | None, dict[str, str]]] = []
        self.clients: set[Any] = set()
        self.fault: Callable[[int, str], Any] = lambda number, path: None
        self.likelihoods = "prompt_logprobs"
        self.models = ["medalpaca"]
        self.most = self.going = 0
        self.delay, self.chunked = 0.0, False
        self.text: Callable[[dict[str, Any]], str] = lambda body: "B: no"
        lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:  # noqa: N802
                self._do(None)

            def do_POST(self) -> None:  # noqa: N802
                self._do(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _do(self, body: dict[str, Any] | None) -> None:
                with lock:
                    owner.clients.add(self.client_address)
                    owner.asked.append((self.path, body, dict(self.headers)))
                    number = len(owner.asked) - 1
                    owner.going += 1
                    owner.most = max(owner.most, owner.going)
                if body is not None:
                    time.sleep(owner.delay)
                # Who asks goes on as soon as it has the answer, so the count ends before it.
                with lock:
                    owner.going -= 1
                try:
                    fault = owner.fault(number, self.path)
                    if fault == "drop":
                        self.close_connection = True
                        self.connection.shutdown(socket.SHUT_RDWR)
                    elif fault == "cut":
                        self.send_response(200)
                        self.send_header("Content-Length", "1000")
                        self.end_headers()
                        self.wfile.write(b'{"choices": [')
                        self.close_connection = True
                    elif fault == "drip":
                        self.send_response(200)
                        self.send_header("Content-Length", "1000")
                        self.end_headers()
                        for _ in range(60):
                            self.wfile.write(b" ")
                            self.wfile.flush()
                            time.sleep(0.05)
                    elif fault is not None:
                        self._say(*fault)
                    else:
                        self._say(*owner.reply(self.path, body))
                except OSError:
                    self.close_connection = True

            def _say(self, status: int, headers: dict[str, str], data: Any) -> None:
                data = data if isinstance(data, bytes) else json.dumps(data).encode()
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                if owner.chunked:
                    self.send_header("Transfer-Encoding", "chunked")
                    data = (
                        b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (data[:7], data[7:]) if p)
                        + b"0\r\n\r\n"
                    )
                elif self.protocol_version == "HTTP/1.1":
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.handler = Handler
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def reply(self, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, str], Any]:
        if path == "/v1/models":
            return 200, {}, {"object": "list", "data": [{"id": name} for name in self.models]}
        assert body is not None
        if path == "/v1/chat/completions":
            return (
                200,
                {},
                {"choices": [{"index": 0, "message": {"role": "assistant", "content": self.text(body)}}]},
            )
        if path != "/v1/completions":
            return 404, {}, {"error": "no such path"}
        texts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        if "prompt_logprobs" in body and self.likelihoods == "prompt_logprobs":
            choices = []
            for text in texts:
                tokens = _tokens(text)
                entries = [
                    None
                    if not i
                    else {
                        str(hash(token)): {"logprob": _logprob(tokens, i), "rank": 1, "decoded_token": token}
                    }
                    for i, token in enumerate(tokens)
                ]
                choices.append({"index": len(choices), "text": "x", "prompt_logprobs": entries})
            return 200, {}, {"choices": choices[::-1]}
        if body.get("echo"):
            if self.likelihoods == "none" or (self.likelihoods == "longer echo" and not body["max_tokens"]):
                return 400, {}, {"error": {"message": "echo is not supported like that"}}
            choices = []
            for text in texts:
                tokens = _tokens(text) + ["x"] * body["max_tokens"]
                values = [_logprob(tokens, i) for i in range(len(tokens))]
                said = text + "x" * body["max_tokens"]
                choices.append(
                    {
                        "index": len(choices),
                        "text": said,
                        "logprobs": {"tokens": tokens, "token_logprobs": values},
                    }
                )
            return 200, {}, {"choices": choices}
        return 200, {}, {"choices": [{"index": i, "text": self.text(body)} for i in range(len(texts))]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(http, "_FIRST_WAIT", 0.01)
    monkeypatch.delenv("MEADOW_API_KEY", raising=False)
    found = Server()
    yield found
    found.server.shutdown()
    found.server.server_close()


def _ask(server: Server, count: int = 1, **more: Any) -> list[str]:
    backend = EndpointBackend(server.url, **more)
    return backend.generate(ASK[:count], max_new_tokens=20)


def test_answers_by_chat_and_by_completions(server: Server) -> None:
    assert _ask(server, 2) == ["B: no", "B: no"]
    path, body, _ = server.asked[1]
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "medalpaca", "messages": [{"role": "user", "content": "Answer\n\nQuestion 0?\n\nA: yes\nB: no"}],
        "max_tokens": 20, "temperature": 0.0,
    }  # fmt: skip
    alpaca = prompts.get("alpaca")
    backend = EndpointBackend(server.url + "/v1/", "medalpaca", alpaca)
    assert backend.generate(
        ASK[:1], max_new_tokens=5, temperature=0.4, top_k=50, top_p=0.9, seed=[7], stop=()
    ) == ["B: no"]
    path, body, _ = server.asked[-1]
    assert path == "/v1/completions" and body is not None
    assert body["prompt"] == prompts.prompt_text(alpaca, None, ASK[0].instruction, ASK[0].input)
    assert (body["temperature"], body["top_k"], body["top_p"], body["seed"]) == (
        0.4,
        50,
        0.9,
        7,
    ) and "stop" not in body
    backend.generate(ASK[:1], max_new_tokens=5)
    assert server.asked[-1][1]["stop"] == list(alpaca.stop)  # type: ignore[index]


@pytest.mark.parametrize("form", ["chunked", "closing"])
def test_answers_in_other_forms_of_http(server: Server, form: str) -> None:
    if form == "chunked":
        server.chunked = True
    else:
        server.handler.protocol_version = "HTTP/1.0"
    backend = EndpointBackend(server.url, retries=0)
    for _ in range(3):
        assert backend.generate(ASK[:2], max_new_tokens=20) == ["B: no", "B: no"]


@pytest.mark.parametrize("way", ["prompt_logprobs", "echo", "longer echo"])
def test_likelihoods_are_those_of_the_texts_tokens(server: Server, way: str) -> None:
    server.likelihoods = way
    for name in ("alpaca", "plain"):
        template = prompts.get(name)
        told: list[str] = []
        backend = EndpointBackend(server.url, None, template, notify=told.append)
        found = backend.loglikelihoods(ASK[:2], [["A", "yes, it is"], ["B", "no"]])
        for prompt, texts, values in zip(ASK, [["A", "yes, it is"], ["B", "no"]], found, strict=False):
            before = prompts.prompt_text(template, None, prompt.instruction, prompt.input)
            start = len(_tokens(before))
            for text, value in zip(texts, values, strict=True):
                tokens = _tokens(before + template.answer_lead + text)
                want = [_logprob(tokens, i) for i in range(start, len(tokens))]
                assert value.sum == pytest.approx(sum(v or 0 for v in want))
                assert (value.tokens, value.characters) == (len(want), len(text))
        assert backend._endpoint.way == way and not told


def test_a_token_that_prompt_and_answer_share_is_told(server: Server) -> None:
    told: list[str] = []
    template = prompts.Template("odd", "text", "{instruction} {input} So it is", "{instruction} So it is")
    backend = EndpointBackend(server.url, None, template, notify=told.append)
    found = backend.loglikelihoods(ASK[:2], [["nt", "no"], ["x", "y"]])
    assert all(value.tokens == 1 for values in found for value in values)
    assert len(told) == 1 and "share a token" in told[0]


def test_likelihoods_that_are_not_offered(server: Server) -> None:
    server.likelihoods = "none"
    backend = EndpointBackend(server.url, None, prompts.get("alpaca"))
    with pytest.raises(
        EndpointError, match=r"vLLM offers them; llama\.cpp and Ollama do not.*--protocol generate"
    ):
        backend.loglikelihoods(ASK[:1], [["A", "B"]])
    chat = EndpointBackend(server.url)
    assert chat.no_loglikelihood
    with pytest.raises(EndpointError, match="--template alpaca"):
        chat.loglikelihoods(ASK[:1], [["A", "B"]])


@pytest.mark.parametrize(
    "fault",
    ["drop", "cut", (503, {}, b"busy"), (429, {"Retry-After": "0.05"}, b"slow down"), (500, {}, b""), (200, {}, b"<html>"), (200, {}, b"")],
)  # fmt: skip
def test_what_passes_is_tried_again(server: Server, fault: Any) -> None:
    server.fault = lambda number, path: fault if number in (0, 2, 3) else None
    assert _ask(server, 2) == ["B: no", "B: no"]
    assert len(server.asked) == 3 + 3


def test_a_server_is_waited_for_as_long_as_it_asks(server: Server) -> None:
    server.fault = lambda number, path: (429, {"Retry-After": "0.4"}, b"") if number == 1 else None
    start = time.monotonic()
    _ask(server)
    assert time.monotonic() - start >= 0.4
    later = email.utils.formatdate(time.time() + 2, usegmt=True)
    assert 0 < http._seconds(later) <= 2  # type: ignore[operator]
    assert [http._seconds(text) for text in ("-3", "soon", None, "nan", "1.5")] == [
        0.0,
        None,
        None,
        0.0,
        1.5,
    ]
    server.fault = lambda number, path: (503, {"Retry-After": "86400"}, b"") if "chat" in path else None
    with pytest.raises(EndpointError, match="asks to wait 86400 seconds"):
        _ask(server)


def test_a_connection_is_kept_open_and_made_anew_where_the_server_closed_it(server: Server) -> None:
    asked = http.Server(server.url, retries=0)
    for _ in range(3):
        asked.ask("/models")
    assert len(server.clients) == 1
    server.fault = lambda number, path: "drop" if number == 3 else None
    asked.ask("/models")
    assert len(server.clients) == 2
    asked.close()


def test_what_does_not_pass_is_given_up(server: Server) -> None:
    server.fault = lambda number, path: (503, {}, b"still loading") if "chat" in path else None
    with pytest.raises(EndpointError, match="item x/0: .*tried 3 times, at last status 503: still loading"):
        _ask(server, retries=2)
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (400, "status 400, it refuses the request.*no room"), (401, "a key is wanted.*MEADOW_API_KEY"), (403, "a key is wanted"),
        (404, "no model 'medalpaca'"), (422, "refuses"), (307, "redirects, which is not followed"),
    ],
)  # fmt: skip
def test_refusals_are_not_tried_again(server: Server, status: int, says: str) -> None:
    server.fault = lambda number, path: (
        (status, {"Location": server.url + "/x"}, b"no room\n") if "chat" in path else None
    )
    with pytest.raises(EndpointError, match=says):
        _ask(server)
    assert len(server.asked) == 2


@pytest.mark.parametrize("fault", ["drip", None])
def test_an_answer_that_does_not_come_in_time(server: Server, fault: str | None) -> None:
    backend = EndpointBackend(server.url, timeout=0.3, retries=1)
    server.delay = 0.0 if fault else 1.0
    server.fault = lambda number, path: fault
    start = time.monotonic()
    with pytest.raises(EndpointError, match=r"no whole answer in 0\.3 seconds"):
        backend.generate(ASK[:1], max_new_tokens=5)
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": []},
        {"choices": [1]},
        [],
        {"choices": [{"message": {"content": 3}}]},
        {"choices": [{}]},
    ],
)
def test_answers_of_another_form(server: Server, body: Any) -> None:
    server.fault = lambda number, path: (200, {}, body) if "chat" in path else None
    with pytest.raises(EndpointError, match="its answer h(as no choices|olds no text)"):
        _ask(server)


def test_what_nobody_asked_for_may_have_any_form(server: Server) -> None:
    odd = {"index": "first", "logprobs": {"tokens": None, "token_logprobs": []}, "prompt_logprobs": 5}
    body = {"choices": [{**odd, "message": {"content": "B: no"}}]}
    server.fault = lambda number, path: (200, {}, body) if "chat" in path else None
    assert _ask(server) == ["B: no"]


def test_a_thinker_that_says_nothing_is_unparsed(server: Server) -> None:
    told: list[str] = []
    server.text = lambda body: None  # type: ignore[assignment,return-value]
    assert _ask(server, 2, notify=told.append) == ["", ""]
    assert len(told) == 1


def test_the_key_is_sent_and_never_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEADOW_API_KEY", KEY)
    told: list[str] = []
    backend = EndpointBackend(server.url, notify=told.append, retries=0)
    backend.generate(ASK[:1], max_new_tokens=5)
    assert all(headers["Authorization"] == f"Bearer {KEY}" for *_, headers in server.asked)
    assert KEY not in json.dumps(dict(backend.identity)) + repr(vars(backend.render(ASK[0], 5)))
    # A server that repeats what it was sent.
    for status in (401, 400, 500, 200):
        echo = f"Authorization: Bearer {KEY}".encode()
        server.fault = lambda number, path, status=status, echo=echo: (status, {}, echo)
        with pytest.raises(EndpointError) as caught:
            backend.generate(ASK[:1], max_new_tokens=5)
        assert KEY not in str(caught.value) and "***" in str(caught.value)
        seen: BaseException | None = caught.value
        while seen is not None:
            assert KEY not in repr(seen)
            seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    assert KEY not in " ".join(told)
    monkeypatch.setenv("MEADOW_API_KEY", "two words\n")
    with pytest.raises(EndpointError, match="a key is letters") as caught:
        EndpointBackend(server.url)
    assert "two words" not in str(caught.value)


def test_without_a_key_none_is_sent(server: Server) -> None:
    _ask(server)
    assert all("Authorization" not in headers for *_, headers in server.asked)


def test_another_variable_may_hold_the_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER", KEY)
    _ask(server, key_variable="OTHER")
    assert server.asked[0][2]["Authorization"] == f"Bearer {KEY}"


def test_models_are_found_or_listed(server: Server) -> None:
    assert EndpointBackend(server.url).model == "medalpaca"
    server.models = ["one", "two", "three:latest"]
    with pytest.raises(EndpointError, match="say which model is meant: it has one, two"):
        EndpointBackend(server.url)
    with pytest.raises(EndpointError, match="no model 'four'; it has one, two"):
        EndpointBackend(server.url, "four")
    assert EndpointBackend(server.url, "three").model == "three"
    server.fault = lambda number, path: (404, {}, b"") if path.endswith("models") else None
    assert EndpointBackend(server.url, "any").model == "any"
    with pytest.raises(EndpointError, match="status 404"):
        EndpointBackend(server.url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://localhost/v1", "begins with http"), ("http://", "begins with http"), ("http://name:pw@localhost/v1", "no name and no password"),
        ("http://localhost/v1?key=x", "leave away"), ("http://localhost:99999/", "address is none"), ("http://no-such-host.invalid/", "there is no host"),
        ("http://8.8.8.8/v1", "no address of a private network.*--allow-public"), ("http://[2001:4860:4860::8888]/v1", "private network"),
        ("http://localhost:1/v1", "nothing listens there"),
    ],
)  # fmt: skip
def test_addresses_that_cannot_be_used(server: Server, url: str, says: str) -> None:
    with pytest.raises(EndpointError, match=says) as caught:
        EndpointBackend(url, retries=0, timeout=2)
    assert "pw" not in str(caught.value)


def test_addresses_are_completed() -> None:
    assert http._address("http://box:8000") == (False, "box", 8000, "/v1")
    assert http._address("box:8000/v1/") == (False, "box", 8000, "/v1")
    assert http._address("https://box/api/v1/chat/completions") == (True, "box", 443, "/api/v1")
    assert http._address("http://[::1]:11434") == (False, "::1", 11434, "/v1")


def test_an_exam_by_an_endpoint_with_faults(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    lines = [
        {
            "id": f"q{n}",
            "question": f"Which is {n}?",
            "options": {"A": "yes", "B": "no"},
            "answer": "AB"[n % 2],
        }
        for n in range(24)
    ]
    (tmp_path / "exam.jsonl").write_text("\n".join(map(json.dumps, lines)))
    server.delay = 0.02
    # Few enough that no question meets a fault six times in a row, however requests fall.
    faults = {1: "drop", 9: (503, {}, b""), 17: "cut"}
    server.fault = lambda number, path: faults.get(number % 24)
    exam = str(tmp_path / "exam.jsonl")
    settings = ScoreSettings(
        None, tmp_path / "out", exam=exam, protocol="generate", endpoint=server.url, concurrency=6
    )
    scores = score(settings)
    assert (
        scores["overall"]["correct"] == 12
        and scores["model"]["name"] == "medalpaca"
        and 2 <= server.most <= 6
    )
    before = len(server.asked)
    server.fault = lambda number, path: None
    score(settings)
    assert len(server.asked) == before + 1  # its models
    # A run that fails half way keeps its answers, and goes on.
    server.fault = lambda number, path: (400, {}, b"no") if number > before + 15 else None
    other = ScoreSettings(
        None,
        tmp_path / "other",
        exam=exam,
        protocol="loglikelihood",
        endpoint=server.url,
        template="alpaca",
        concurrency=3,
    )
    with pytest.raises(EndpointError, match="item q"):
        score(other)
    there = len(read(tmp_path / "other")[1])
    assert 5 <= there < 24
    server.fault = lambda number, path: None
    before = len(server.asked)
    assert score(other)["calibration"] is not None
    # One request for each question that is left, and one for the models.
    assert len(server.asked) - before == 24 - there + 1


def test_closing_breaks_off(server: Server) -> None:
    server.delay = 5.0
    backend = EndpointBackend(server.url)
    failed: list[str] = []

    def ask() -> None:
        with pytest.raises(EndpointError) as caught:
            backend.generate(ASK[:1], max_new_tokens=5)
        failed.append(str(caught.value))

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.2)
    start = time.monotonic()
    backend.close()
    thread.join(3)
    assert failed and "broken off" in failed[0] and time.monotonic() - start < 2
