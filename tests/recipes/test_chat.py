"""Asking a model: prompts, answers as they come, the terminal, and the page in a headless browser."""

from __future__ import annotations

import dataclasses
import http.client
import io
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra train")

from meadow import models  # noqa: E402
from meadow.chat import DISCLAIMER, Chat, ChatError, ChatPrompt, ChatSettings, Turn, open_chat  # noqa: E402
from meadow.chat.terminal import Terminal  # noqa: E402
from meadow.models import prompts  # noqa: E402
from meadow.recipes import chat as recipe  # noqa: E402
from tests import families  # noqa: E402

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "chat.py"
SHORT = ChatSettings(max_new_tokens=12)
#: How long a test waits for another process.
PATIENCE = 120


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.make_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """An adapter that changes answers, trained, as its folder says, with the template ``medalpaca``."""
    import torch
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("models") / "adapter"
    loaded = models.load(tiny, device="cpu")
    torch.manual_seed(3)
    settings = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(loaded.model, settings).save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    prompts.save(prompts.get("medalpaca"), folder, loaded.tokenizer)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": str(tiny)}
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def plain(tiny: Path) -> Chat:
    """The tiny model with its chat template."""
    return open_chat(str(tiny), device="cpu")


@pytest.fixture(scope="module")
def adapted(adapter: Path) -> Chat:
    return open_chat(str(adapter), device="cpu")


def with_tokenizer(chat: Chat, tokenizer: Any, template: str) -> Chat:
    """The tiny model with another tokenizer, good for prompts alone."""
    return Chat(models.Loaded(chat._model, tokenizer, None, {}), prompts.get(template))


# ---- prompts ----


@pytest.mark.parametrize("family", ["chatml", "brackets", "headers", "thinks"])
def test_a_first_question_is_put_as_in_training(plain: Chat, family: str) -> None:
    tokenizer = families.byte_level(like="llama3" if family == "headers" else "gpt2", chat=family)
    chat = with_tokenizer(plain, tokenizer, "chat")
    for question in ("What is gout?", "a", "Is <|im_end|> or </s> said?\n\nYes\n"):
        asked = chat.prompt(question)
        assert list(asked.ids) == prompts.prompt_ids(chat.template, tokenizer, question)
    given = chat.prompt("Ménière?", instruction="Answer this question truthfully")
    wanted = prompts.prompt_ids(chat.template, tokenizer, "Answer this question truthfully", "Ménière?")
    assert list(given.ids) == wanted


def test_turns_are_shown_where_the_template_has_turns(plain: Chat) -> None:
    tokenizer = families.byte_level(chat="chatml")
    chat = with_tokenizer(plain, tokenizer, "chat")
    assert chat.multi_turn
    assert chat.takes_system
    asked = chat.prompt("And its cure?", [Turn("Gout?", "Crystals.<|im_end|>")], system="Be brief")
    assert asked.text == (
        "<|im_start|>system\nBe brief<|im_end|>\n<|im_start|>user\nGout?<|im_end|>\n"
        "<|im_start|>assistant\nCrystals.< |im_end|><|im_end|>\n<|im_start|>user\nAnd its cure?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert list(asked.ids).count(end) == 4, "nothing that was said ends a turn"
    # A template that refuses a system message takes none.
    assert not with_tokenizer(plain, families.byte_level(chat="brackets"), "chat").takes_system


def test_each_question_is_asked_by_itself_where_it_has_none(plain: Chat) -> None:
    tokenizer = families.llama()
    chat = with_tokenizer(plain, tokenizer, "medalpaca")
    assert not chat.multi_turn
    assert not chat.takes_system
    asked = chat.prompt("And its cure?", [Turn("Gout?", "Crystals.")])
    assert list(asked.ids) == prompts.prompt_ids(prompts.get("medalpaca"), tokenizer, "And its cure?")
    assert asked.ids[0] == tokenizer.bos_token_id
    assert "Gout" not in asked.text
    assert asked.forgotten == 0


def test_the_oldest_turns_are_left_out_when_there_is_no_place(plain: Chat) -> None:
    turns = [Turn(f"question {n} " + "pain " * 150, "answer " * 150) for n in range(6)]
    asked = plain.prompt("the last one", turns)
    assert 0 < asked.forgotten < 6
    assert len(asked.ids) <= 2048 - 512
    assert f"question {asked.forgotten} " in asked.text
    assert f"question {asked.forgotten - 1} " not in asked.text
    # However many tokens an answer may have, half of what the model reads is for what it is asked.
    assert len(plain.prompt("pain " * 900, room=100_000).ids) > 700
    with pytest.raises(
        ChatError, match=r"too long: .* the model reads 2,048, of which 512 are for the answer"
    ):
        plain.prompt("pain " * 3000)
    with pytest.raises(ChatError, match="there is no question"):
        plain.prompt("  \n")


# ---- answers ----


def greedy(chat: Chat, prompt: ChatPrompt, count: int, *, off: bool = False) -> str:
    """What transformers itself writes."""
    import contextlib

    import torch

    with torch.inference_mode(), chat._model.disable_adapter() if off else contextlib.nullcontext():
        found = chat._model.generate(
            input_ids=torch.tensor([prompt.ids]), max_new_tokens=count, do_sample=False, pad_token_id=3
        )
    text = chat._tokenizer.decode(found[0, len(prompt.ids) :], skip_special_tokens=True)
    return text.lstrip()


def test_answers_come_in_pieces_and_are_the_models(plain: Chat) -> None:
    prompt = plain.prompt("What is gout?")
    pieces = list(plain.answer(prompt, ChatSettings(max_new_tokens=40)))
    assert len(pieces) > 10
    assert "".join(pieces) == greedy(plain, prompt, 40)
    # Half a character is never shown.
    assert all("\ufffd" not in piece for piece in pieces[:-1]) or "\ufffd" in greedy(plain, prompt, 40)


def test_an_answer_ends_where_the_template_says(plain: Chat) -> None:
    prompt = plain.prompt("What is gout?")
    whole = greedy(plain, prompt, 40)
    stop = whole[30:36]
    before = whole[: whole.index(stop)].rstrip()
    chat = Chat(
        models.Loaded(plain._model, plain._tokenizer, None, {}),
        dataclasses.replace(plain.template, stop=(stop,)),
    )
    pieces = list(chat.answer(prompt, ChatSettings(max_new_tokens=40)))
    assert "".join(pieces).rstrip() == before
    so_far = ""
    for piece in pieces:
        so_far += piece
        assert whole.startswith(so_far), "nothing is shown that is taken back"


def test_sampling_follows_its_seed(plain: Chat) -> None:
    prompt = plain.prompt("What is gout?")

    def written(**settings: Any) -> str:
        return "".join(plain.answer(prompt, ChatSettings(max_new_tokens=16, **settings)))

    assert written(temperature=1.0, seed=1) == written(temperature=1.0, seed=1)
    assert written(temperature=1.0, seed=1) != written(temperature=1.0, seed=2)
    assert written(temperature=5.0, top_k=1) == written() == written(temperature=5.0, top_p=1e-9)


def test_the_adapter_can_be_turned_off(adapted: Chat) -> None:
    assert adapted.has_adapter
    assert adapted.trained
    assert adapted.template.name == "medalpaca"
    prompt = adapted.prompt("What is gout?")
    on = "".join(adapted.answer(prompt, SHORT))
    off = "".join(adapted.answer(prompt, SHORT, adapter=False))
    assert on == greedy(adapted, prompt, 12)
    assert off == greedy(adapted, prompt, 12, off=True)
    assert on != off
    found = ["", ""]
    order = []
    for place, piece in adapted.answers([(prompt, True), (prompt, False)], SHORT):
        found[place] += piece
        order.append(place)
    assert found == [on, off]
    assert order[:4] == [0, 1, 0, 1]


def test_an_answer_that_is_not_a_number_is_told(plain: Chat) -> None:
    import copy

    broken = copy.deepcopy(plain._model)
    broken.lm_head.weight.data.fill_(float("nan"))
    chat = Chat(models.Loaded(broken, plain._tokenizer, None, {}))
    with pytest.raises(ChatError, match="NaN"):
        list(chat.answer(chat.prompt("Hello"), SHORT))


# ---- the terminal ----


def talk(chat: Chat, said: str, **settings: Any) -> tuple[int, str, str]:
    out, notes = io.StringIO(), io.StringIO()
    code = Terminal(chat, SHORT, stdin=io.StringIO(said), stdout=out, stderr=notes, **settings).run()
    return code, out.getvalue(), notes.getvalue()


def alone(chat: Chat, question: str, *before: Turn, on: bool = True, **settings: Any) -> str:
    return "".join(chat.answer(chat.prompt(question, before, **settings), SHORT, adapter=on))


def test_a_pipe_gets_the_answers_alone(plain: Chat) -> None:
    code, out, notes = talk(plain, 'What is gout?\n\n"""And\nits cure?"""\n/reset\nWhat is gout?')
    first = alone(plain, "What is gout?")
    second = alone(plain, "And\nits cure?", Turn("What is gout?", first))
    assert out == f"{first}\n\n{second}\n\n{first}\n"
    assert code == 0
    assert notes.startswith(DISCLAIMER)
    assert "template: chat (of its tokenizer)" in notes
    assert "the model is shown the whole conversation" in notes


def test_a_template_without_turns_is_said_to_have_none(adapted: Chat) -> None:
    code, out, notes = talk(adapted, "What is gout?\nAnd its cure?\n/quit\nnot asked")
    assert out == f"{alone(adapted, 'What is gout?')}\n\n{alone(adapted, 'And its cure?')}\n"
    assert code == 0
    assert "template: medalpaca (the one it was trained with)" in notes
    assert "nothing said before is shown to it" in notes


def test_commands(plain: Chat, adapted: Chat) -> None:
    code, out, notes = talk(
        plain, "/system Be brief\n/instruction Answer truthfully\nGout?\n/template\n/help\n"
    )
    assert out == alone(plain, "Gout?", system="Be brief", instruction="Answer truthfully") + "\n"
    assert "[system]\nBe brief" in notes
    assert "/system" in notes
    assert code == 0
    code, out, notes = talk(
        adapted, "/adapter both\nGout?\n/adapter off\nGout?\n/system x\n/adapter x\n/nope\n"
    )
    on, off = alone(adapted, "Gout?"), alone(adapted, "Gout?", on=False)
    assert out == f"[adapter on]\n{on}\n\n[adapter off]\n{off}\n\n{off}\n"
    assert "the template medalpaca has no place for a system message" in notes
    assert "the adapter is on, off, both, not 'x'" in notes
    assert "there is no command /nope; there are /help, /reset" in notes
    assert code == 1, "from a pipe nobody can ask again"
    assert "there is no adapter" in talk(plain, "/adapter off")[2]


def test_recipe(tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is gout?\n"))
    assert recipe.main(["--model", str(tiny), "--template", "plain", "--max-new-tokens", "5"]) == 0
    out, notes = capsys.readouterr()
    assert out.strip()
    assert "template: plain" in notes
    for arguments, code, words in (
        (["--model", "org/name"], 1, "a name on a hub is not looked up"),
        (["--model", str(tiny), "--template", "word"], 1, "no template is named 'word'"),
        (["--model", str(tiny), "--adapter", "off"], 1, "has no adapter"),
        (["--model", str(tiny), "--template", "plain", "--system", "x"], 1, "no place for a system message"),
        (["--model", "x", "--top-p", "2", "--temperature", "-1", "--port", "1"], 2, "top-p 2 is not above 0"),
    ):
        assert recipe.main(arguments) == code
        notes = capsys.readouterr().err
        assert words in notes
        if code == 2:
            assert "temperature -1 is not between" in notes
            assert "--port is for the page" in notes


def test_help_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, RECIPE, "--help"], capture_output=True, text=True, check=True)
    assert "--web" in done.stdout
    loaded = "import sys, meadow.recipes.chat as c, meadow.chat, meadow.chat.terminal, meadow.chat.page; "
    check = loaded + "print([m for m in ('torch', 'transformers', 'gradio') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a terminal of Unix")
def test_ctrl_c_ends_the_answer_and_not_the_program(tiny: Path) -> None:
    main, sub = pty.openpty()
    command = [sys.executable, str(RECIPE), "--model", str(tiny), "--max-new-tokens", "100000"]
    # A session of its own, of which the terminal is the one that Ctrl-C is typed into.
    process = subprocess.Popen(
        [sys.executable, "-c", "import fcntl,os,sys,termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
         "os.execv(sys.argv[1], sys.argv[1:])", *command],
        stdin=sub, stdout=sub, stderr=sub,
    )  # fmt: skip
    os.close(sub)
    seen = ""

    def until(words: str) -> None:
        nonlocal seen
        deadline = time.monotonic() + PATIENCE
        while words not in seen:
            assert time.monotonic() < deadline, f"{words!r} is not in {seen!r}"
            if select.select([main], [], [], 1)[0]:
                seen += os.read(main, 65536).decode("utf-8", "replace")
        seen = seen.partition(words)[2]

    try:
        until("Ctrl-C ends an answer")
        until("> ")
        os.write(main, b"\x03")
        until("Ctrl-D or /quit ends")
        until("> ")
        os.write(main, b"What is gout?\n")
        until("gout?")
        deadline = time.monotonic() + PATIENCE
        while len(seen) < 20:
            assert time.monotonic() < deadline
            seen += os.read(main, 65536).decode("utf-8", "replace")
        os.write(main, b"\x03")
        until("(stopped)")
        until("> ")
        os.write(main, b"/quit\n")
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        os.close(main)


# ---- the page ----

#: Writes down what a process of Python connects to or looks up beyond this machine.
WATCH = """
import os, socket

_LOCAL = ("127.0.0.1", "localhost", "::1", "0.0.0.0", "", None)


def _seen(what, host):
    host = host[0] if isinstance(host, tuple) else host
    if host not in _LOCAL and not str(host).startswith("/"):
        with open(os.environ["WATCHED"], "a") as file:
            file.write(f"{what} {host}\\n")


class _Socket(socket.socket):
    def connect(self, address):
        _seen("connect", address)
        return super().connect(address)

    def connect_ex(self, address):
        _seen("connect", address)
        return super().connect_ex(address)


_lookup = socket.getaddrinfo


def _watched(host, *arguments, **more):
    _seen("lookup", host)
    return _lookup(host, *arguments, **more)


socket.socket, socket.getaddrinfo = _Socket, _watched
"""


@pytest.fixture(scope="module")
def served(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The page of an adapter as the recipe serves it, and where it writes down what it asked of other machines."""
    pytest.importorskip("gradio", reason="needs gradio")
    folder = tmp_path_factory.mktemp("served")
    (folder / "sitecustomize.py").write_text(WATCH, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(folder), "WATCHED": str(folder / "watched.txt")}
    environment |= {"GRADIO_SHARE": "True", "GRADIO_SERVER_NAME": "0.0.0.0", "PYTHONUNBUFFERED": "1"}
    environment |= {"GRADIO_TEMP_DIR": str(folder / "gradio")}
    command = [sys.executable, str(RECIPE), "--model", str(adapter), "--web", "--port", "0"]
    with (folder / "errors.txt").open("w") as errors:
        process = subprocess.Popen(
            [*command, "--max-new-tokens", "30"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            line = process.stdout.readline()
            found = re.match(r"(http://127\.0\.0\.1:\d+)/? ", line)
            assert found, (folder / "errors.txt").read_text()
            yield found[1], folder / "watched.txt"
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0, (folder / "errors.txt").read_text()
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@dataclasses.dataclass
class Visit:
    """A page in the browser, what it asked for, and what it complained of."""

    page: Any
    requests: list[str]
    errors: list[str]


@pytest.fixture
def visit(browser: Any, served: tuple[str, Path]) -> Iterator[Callable[[int, int], Visit]]:
    opened = []

    def go(width: int, height: int) -> Visit:
        page = browser.new_page(viewport={"width": width, "height": height})
        opened.append(page)
        visit = Visit(page, [], [])
        page.on("request", lambda request: visit.requests.append(request.url))
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        page.on(
            "console",
            lambda said: visit.errors.append(said.text) if said.type in ("error", "warning") else None,
        )
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(served[0])
        page.wait_for_selector("#question textarea")
        return visit

    yield go
    for page in opened:
        page.close()


def ask(page: Any, question: str, until: str = "") -> None:
    """Asks; while an answer is written Enter does nothing, so it is pressed again until there is what it brings."""
    page.fill("#question textarea", question)
    page.press("#question textarea", "Enter")
    deadline = time.monotonic() + PATIENCE
    while until and not page.locator(until).count():
        assert time.monotonic() < deadline
        page.wait_for_timeout(500)
        assert page.locator("#question textarea").input_value() in ("", question), "what is typed stays"
        page.press("#question textarea", "Enter")


def text_of(page: Any, side: str) -> str:
    """The last answer on a side."""
    return page.locator(f"#answers-{side} [data-testid=bot] .md").last.inner_text()


def shot(page: Any, name: str) -> None:
    """Keeps a picture of the page in ``$MEADOW_TEST_SHOTS``, to be looked at."""
    if folder := os.environ.get("MEADOW_TEST_SHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_page_asks_and_answers(
    visit: Callable[[int, int], Visit], adapted: Chat, served: tuple[str, Path], width: int, height: int
) -> None:
    seen = visit(width, height)
    page = seen.page
    shot(page, f"chat-{width}-empty")
    assert "Template: medalpaca (the one it was trained with)" in page.locator("#about").inner_text()
    question = "Which <img src=http://example.org/x.png> lowers\nuric acid? ![x](http://example.org/y.png)"
    ask(page, question)
    settings = ChatSettings(max_new_tokens=30)
    prompt = adapted.prompt(question)
    for side, on in (("on", True), ("off", False)):
        wanted = " ".join("".join(adapted.answer(prompt, settings, adapter=on)).split())
        page.wait_for_function(
            "([side, wanted]) => { const found = document.querySelectorAll(`#answers-${side} [data-testid=bot] .md`);"
            " return found.length && found[found.length - 1].textContent.trim().replace(/\\s+/g, ' ') === wanted }",
            arg=[side, wanted],
        )
        assert page.locator(f"#answers-{side} [data-testid=user] .md").inner_text().strip() == question
        assert page.locator(f"#answers-{side} [data-testid=user] img").count() == 0
    shot(page, f"chat-{width}-answered")
    # What the model was shown, word for word.
    page.locator("#template button").first.click()
    page.wait_for_selector("#sent textarea", state="visible")
    assert page.locator("#sent textarea").input_value() == prompt.text
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    shot(page, f"chat-{width}-bottom")
    # The disclaimer is always in sight, whole, on top of all, and has nothing to close it with.
    for place in (0, 10_000):
        page.evaluate("place => window.scrollTo(0, place)", place)
        box = page.locator("#disclaimer p").bounding_box()
        assert box["y"] >= 0
        assert box["x"] >= 0
        assert box["y"] + box["height"] <= height / 4
        assert box["x"] + box["width"] <= width
        on_top = "box => document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2).innerText"
        assert page.evaluate(on_top, box) == DISCLAIMER
    assert page.locator("#disclaimer :is(button, a, input, [role=button])").count() == 0
    page.keyboard.press("Escape")
    assert page.locator("#disclaimer").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.requests
    assert [
        url for url in seen.requests if not url.startswith(served[0]) and not url.startswith("data:")
    ] == []
    assert seen.errors == []


def test_an_answer_streams_and_can_be_stopped(visit: Callable[[int, int], Visit]) -> None:
    page = visit(1280, 900).page
    page.get_by_text("Settings").click()
    page.get_by_label("Most tokens of an answer").fill("1900")
    page.get_by_label("Most tokens of an answer").press("Tab")
    ask(page, "What is gout?")
    lengths = []
    deadline = time.monotonic() + PATIENCE
    while len(set(lengths)) < 4 and time.monotonic() < deadline:
        found = page.locator("#answers-on [data-testid=bot] .md")
        lengths.append(len(found.last.inner_text()) if found.count() else 0)
        page.wait_for_timeout(100)
    assert len(set(lengths)) >= 4, "it does not grow"
    assert lengths == sorted(lengths)
    page.click("#stop button, button#stop")
    page.wait_for_timeout(700)
    stopped = text_of(page, "on")
    page.wait_for_timeout(700)
    assert text_of(page, "on") == stopped
    # What was written until then stays.
    page.get_by_label("Most tokens of an answer").fill("5")
    page.get_by_label("Most tokens of an answer").press("Tab")
    ask(page, "Go on")
    page.wait_for_function("document.querySelectorAll('#answers-off [data-testid=bot]').length === 2")
    assert page.locator("#answers-on [data-testid=bot] .md").first.inner_text() == stopped
    page.wait_for_timeout(700)
    page.click("#reset button, button#reset")
    page.wait_for_selector("#answers-on [data-testid=bot]", state="detached")
    # One side alone, after it was stopped.
    page.get_by_label("Adapter off", exact=True).check()
    page.wait_for_selector("#answers-on", state="hidden")
    ask(page, "And now?")
    page.wait_for_selector("#answers-off [data-testid=bot]")
    page.fill("#question textarea", "typed meanwhile")
    page.wait_for_timeout(700)
    assert page.locator("#question textarea").input_value() == "typed meanwhile"
    ask(page, "pain " * 3000, until="#note p")
    assert "the question is too long" in page.locator("#note").inner_text()


def test_the_page_is_for_this_machine_alone(served: tuple[str, Path]) -> None:
    address, watched = served
    host, _, port = address.removeprefix("http://").partition(":")

    def get(name: str) -> tuple[int, Any, str]:
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        connection.request("GET", "/", headers={"Host": name})
        answer = connection.getresponse()
        body = answer.read().decode("utf-8", "replace")
        connection.close()
        return answer.status, answer.headers, body

    status, headers, body = get(f"127.0.0.1:{port}")
    assert status == 200
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "fonts.googleapis" not in body
    assert get(f"localhost:{port}")[0] == 200
    status, _, body = get(f"evil.example:{port}")
    assert status == 400
    assert "gradio" not in body
    # Bound to the loopback alone, whatever the environment asks for.
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    bound = {
        fields[1]
        for fields in listening
        if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == int(port)
    }
    assert bound == {f"0100007F:{int(port):04X}"}
    assert not watched.exists(), watched.read_text()
    # The watch itself works.
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
    environment = {**os.environ, "PYTHONPATH": str(watched.parent), "WATCHED": str(watched) + ".tried"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=False, capture_output=True)
    assert Path(f"{watched}.tried").read_text(encoding="utf-8") == "connect 192.0.2.1\n"


def test_a_port_that_is_taken_is_told(served: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    port = served[0].rpartition(":")[2]
    assert recipe.main(["--model", "nowhere", "--web", "--port", port]) == 1
    assert f"port {port} is taken, or not allowed: choose another one with --port" in capsys.readouterr().err


def test_without_gradio_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert recipe.main(["--model", "nowhere", "--web"]) == 1
    assert "pip install -c constraints.txt" in capsys.readouterr().err
