"""The page in the browser on which a model is asked, for this machine and nobody else.

Answers are shown as the text that they are: markup in them draws no picture and opens no link. It loads nothing from
anywhere, and is told by its own headers not to.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from meadow.chat.conversation import DISCLAIMER, SIDES, Chat, ChatError, ChatSettings, Turn
from meadow.chat.terminal import about
from meadow.core.errors import Error
from meadow.models import offline

__all__ = ["build", "check", "serve"]

#: The only address that the page is served at.
HOST = "127.0.0.1"
#: The first port that is tried where none is given, and how many are.
PORT, _PORTS = 7860, 100
# The page's scripts write styles and evaluate templates of their own; nothing may come from, or go, elsewhere.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; media-src 'self' blob:; "
        "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}

#: Seconds between two updates of an answer: a browser draws no more than it can show.
_PACE = 0.05
_CHOICES = [("Side by side", "both"), ("Adapter on", "on"), ("Adapter off", "off")]


def build(
    chat: Chat,
    settings: ChatSettings | None = None,
    *,
    instruction: str = "",
    system: str = "",
    adapter: str = "both",
) -> Any:
    """The page, Gradio's ``Blocks``; everything but the model and the seed can be changed on it.

    Raises:
        ChatError: Gradio is not installed.
    """
    gr = _gradio()
    settings = settings or ChatSettings()
    mode = adapter if chat.has_adapter else "on"

    def ask(
        question: str,
        said: dict[bool, list[Turn]],
        mode: str,
        instruction: str,
        system: str,
        most: float,
        temperature: float,
    ) -> Iterator[tuple[Any, ...]]:
        given = dataclasses.replace(settings, max_new_tokens=int(most), temperature=float(temperature))

        # Whoever types the next question meanwhile keeps it.
        as_it_is = gr.skip()

        def state(note: str, box: Any = as_it_is, shown: Any = as_it_is) -> tuple[Any, ...]:
            # A copy: what was yielded must not change behind Gradio's back.
            kept = {on: list(turns) for on, turns in said.items()}
            return box, kept, _messages(kept[True]), _messages(kept[False]), shown, _note(note)

        said = {on: list(turns) for on, turns in said.items()}
        asked: dict[bool, Any] = {}
        try:
            if problems := "; ".join(given.problems()):
                raise ChatError(problems)
            for on in SIDES[mode]:
                asked[on] = chat.prompt(
                    question, said[on], instruction=instruction, system=system, room=given.max_new_tokens
                )
        except Error as error:
            yield state(str(error), box=question)
            return
        sides = list(asked)
        for on in sides:
            said[on].append(Turn(question))
        forgotten = dict.fromkeys(prompt.forgotten for prompt in asked.values() if prompt.forgotten)
        note = " ".join(
            f"The conversation is too long: the model is not shown the first {count} turns."
            for count in forgotten
        )
        sent = dict.fromkeys(prompt.text for prompt in asked.values())
        yield state(note, box="", shown="\n\n---- adapter off ----\n\n".join(sent))
        last = time.monotonic()
        try:
            with contextlib.closing(chat.answers([(asked[on], on) for on in sides], given)) as pieces:
                for place, piece in pieces:
                    turns = said[sides[place]]
                    turns[-1] = Turn(question, turns[-1].answer + piece)
                    if time.monotonic() - last >= _PACE:
                        last = time.monotonic()
                        yield state(note)
        except ChatError as error:
            note = str(error)
        for on in sides:
            if not said[on][-1].answer.strip():
                said[on][-1] = Turn(question, "(The model wrote nothing.)")
        yield state(note)

    def seen(mode: str) -> list[Any]:
        return [gr.update(visible=on in SIDES[mode]) for on in (True, False)]

    def empty() -> tuple[Any, ...]:
        return {True: [], False: []}, [], [], "", ""

    def answers(on: bool, label: str) -> Any:
        return gr.Chatbot(
            label=label,
            visible=on in SIDES[mode],
            elem_id=f"answers-{'on' if on else 'off'}",
            height="48vh",
            render_markdown=False,
            sanitize_html=True,
            feedback_options=None,
            # What it would copy has its signs escaped.
            buttons=[],
            allow_file_downloads=False,
        )

    # Nothing that is not meant for the page's own scripts can be called.
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    with gr.Blocks(title="Meadow: try a model", analytics_enabled=False) as page:
        said = gr.State({True: [], False: []})
        gr.HTML(f'<p role="note">{escape(DISCLAIMER)}</p>', elem_id="disclaimer", js_on_load=None)
        lines = "".join(f"<p>{escape(line[0].upper() + line[1:])}</p>" for line in about(chat))
        gr.HTML(f"<h1>Try a model</h1>{lines}", elem_id="about", js_on_load=None)
        choice = gr.Radio(_CHOICES, value=mode, label="Adapter", visible=chat.has_adapter, elem_id="adapter")
        with gr.Row():
            with_adapter = answers(True, "Adapter on" if chat.has_adapter else "Answers")
            without = answers(False, "Adapter off (the base model)")
        note = gr.HTML("", elem_id="note", js_on_load=None)
        box = gr.Textbox(
            label="Question", placeholder="Shift+Enter begins a new line", lines=1, elem_id="question",
            autofocus=True, max_lines=12,
        )  # fmt: skip
        with gr.Row():
            send = gr.Button("Ask", variant="primary", elem_id="ask", min_width=80)
            stop = gr.Button("Stop", elem_id="stop", min_width=80)
            reset = gr.Button("Clear", elem_id="reset", min_width=80)
        with gr.Accordion(
            f"Template {chat.template.name}: what the model was shown last", open=False, elem_id="template"
        ):
            sent = gr.Textbox(
                value=chat.prompt("(the question)", instruction=instruction, system=system).text,
                show_label=False,
                container=False,
                interactive=False,
                lines=4,
                max_lines=24,
                elem_id="sent",
            )
        with gr.Accordion("Settings", open=False):
            wanted = gr.Textbox(
                instruction, label="Instruction", info="What to do with each question; may be empty"
            )
            system_box = gr.Textbox(system, label="System message", visible=chat.takes_system)
            most = gr.Number(
                settings.max_new_tokens, label="Most tokens of an answer", precision=0, minimum=1
            )
            heat = gr.Number(
                settings.temperature,
                label="Temperature",
                info="0: always the likeliest token",
                minimum=0,
                maximum=10,
            )
        asking = gr.on(
            [send.click, box.submit],
            ask,
            [box, said, choice, wanted, system_box, most, heat],
            [box, said, with_adapter, without, sent, note],
            concurrency_limit=1,
            concurrency_id="model",
            trigger_mode="once",
            **private,
        )
        stop.click(None, cancels=[asking], **private)
        gr.on(
            # The chats' own bins empty what is seen alone.
            [reset.click, with_adapter.clear, without.clear],
            empty,
            None,
            [said, with_adapter, without, sent, note],
            cancels=[asking],
            **private,
        )
        choice.change(seen, choice, [with_adapter, without], **private)
    return page


def check(port: int | None = None) -> None:
    """Refuses, before a model is loaded for it, a page that could not be served: no Gradio, no free port."""
    _gradio()
    _free_port(port)


def serve(page: Any, port: int | None = None) -> int:
    """Serves a page to this machine until Ctrl-C, at the first free port for None; returns the exit code.

    Raises:
        ChatError: There is no free port.
    """
    gr = _gradio()
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    # Without it a page on the web could have its name point to 127.0.0.1 and talk to the model.
    mine = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    try:
        _, address, _ = page.queue(api_open=False, max_size=16).launch(
            server_name=HOST,
            server_port=_free_port(port),
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            footer_links=[],
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            run_history=False,
            enable_monitoring=False,
            allowed_paths=[],
            # Fonts of the machine: those of the web would have to be fetched.
            theme=gr.themes.Default(
                font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
            ),
            css_paths=Path(__file__).with_name("page.css"),
            app_kwargs={"middleware": [mine, Middleware(_policed)]},
        )
    except OSError as error:
        raise ChatError(f"the page cannot be served at {HOST}: {error}; choose another --port") from error
    print(f"{address}  (this machine only; Ctrl-C ends it)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    page.close(verbose=False)
    return 0


def _policed(app: Any) -> Any:
    """Forbids pages to load anything from elsewhere."""
    from starlette.datastructures import MutableHeaders

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await app(scope, receive, sending)

    return answer


def _free_port(port: int | None) -> int:
    tried = [port] if port is not None else list(range(PORT, PORT + _PORTS))
    for number in tried:
        with contextlib.closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, number))
            except OSError:
                continue
            return probe.getsockname()[1]
    what = f"port {port} is" if port is not None else f"ports {PORT} to {PORT + _PORTS - 1} are"
    raise ChatError(f"{what} taken, or not allowed: choose another one with --port")


def _gradio() -> Any:
    offline()
    try:
        import gradio as found
    except ImportError as error:
        raise ChatError(
            f"the page needs gradio, which is not installed ({error}): pip install -c constraints.txt '.[web]'; "
            "without --web it works in the terminal"
        ) from error
    return found


def _messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """A conversation for the chat, which takes its messages for HTML even where it is told not to read Markdown."""
    said = (each for turn in turns for each in (("user", turn.question), ("assistant", turn.answer)))
    return [{"role": role, "content": escape(words, quote=False)} for role, words in said if words]


def _note(text: str) -> str:
    return f'<p role="status">{escape(text)}</p>' if text else ""
