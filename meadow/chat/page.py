"""Asking a model on a page in the browser, on this machine alone.

The page is served to 127.0.0.1 and to nobody else, loads nothing from anywhere, and is told by its own headers not to.
Answers are shown as the text that they are: markup in them draws no picture and opens no link.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

from meadow.chat import DISCLAIMER, Chat, ChatError, Settings, Turn
from meadow.chat.terminal import about
from meadow.models import offline, prompts

__all__ = ["HOST", "build", "check", "launch", "serve"]

#: The only address that the page is served at.
HOST = "127.0.0.1"
#: The first port that is tried where none is given, and how many are.
PORT, _PORTS = 7860, 100
#: Seconds between two updates of an answer: a browser draws no more than it can show.
_PACE = 0.05
_BOTH, _ON, _OFF = "Side by side", "Adapter on", "Adapter off"
_INSTALL = "pip install -c constraints.txt '.[web]'"

# The page's scripts write styles and evaluate templates of their own; nothing may come from, or go, elsewhere.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; media-src 'self' blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
# The disclaimer is fixed to the window, not sticky: Gradio's containers scroll in ways that sticky does not survive.
_CSS = """
#disclaimer { position: fixed; top: 0; left: 0; right: 0; z-index: 1000; margin: 0; padding: 0; min-width: 0; }
#disclaimer div { margin: 0; padding: 0; }
#disclaimer p { margin: 0; padding: 8px 16px; background: #7a1f1f; color: #ffffff; font-size: 14px;
  line-height: 1.35; }
.gradio-container { padding-top: 48px !important; }
#about p { margin: 2px 0; overflow-wrap: anywhere; }
#about h1 { font-size: 22px; margin: 4px 0 8px; }
#template button { text-align: left; }
#sent textarea { font-family: monospace; font-size: 13px; }
.message { overflow-wrap: anywhere; }
.message .md { white-space: pre-wrap; }
footer { display: none !important; }
@media (max-width: 640px) {
  #about { margin-top: 24px !important; }
  #disclaimer p { font-size: 13px; padding: 6px 10px; }
  #answers-on, #answers-off { height: 30vh !important; }
}
@media (max-width: 340px) { #about { margin-top: 60px !important; } }
@media (forced-colors: active) { #disclaimer p { border: 2px solid; } }
@media print { #disclaimer { position: static; } }
"""


class _LocalOnly:
    """Answers only what was asked of this machine by its own name, and forbids pages to load from elsewhere.

    Without it a page on the web could have its name point to 127.0.0.1 and talk to the model.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]
    ) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
        if host.rpartition(":")[0] not in (HOST, "localhost") and host not in (HOST, "localhost"):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            start = {
                "type": "http.response.start",
                "status": 421,
                "headers": [(b"content-type", b"text/plain")],
            }
            await send(start)
            await send({"type": "http.response.body", "body": b"This page is served to this machine only.\n"})
            return

        async def sending(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                more = ((b"content-security-policy", _POLICY.encode()), (b"referrer-policy", b"no-referrer"))
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._app(scope, receive, sending)


def _gradio() -> Any:
    offline()
    try:
        import gradio
    except ImportError as error:
        raise ChatError(
            f"the page needs gradio, which is not installed ({error}): {_INSTALL}; without --web it works in the "
            "terminal"
        ) from error
    return gradio


def build(
    chat: Chat,
    settings: Settings | None = None,
    *,
    instruction: str = "",
    system: str = "",
    adapter: str = "both",
) -> Any:
    """The page.

    Args:
        chat: The model.
        settings: How answers are written at first; all but the seed can be changed on the page.
        instruction: What to do with each question, at first.
        system: The system message, at first.
        adapter: ``on``, ``off`` or ``both``, at first.

    Returns:
        Gradio's ``Blocks``.

    Raises:
        ChatError: Gradio is not installed.
    """
    gr = _gradio()
    settings = settings or Settings()
    mode = {"on": _ON, "off": _OFF, "both": _BOTH}[adapter] if chat.has_adapter else _ON

    def sides(chosen: str) -> list[bool]:
        return {_ON: [True], _OFF: [False], _BOTH: [True, False]}[chosen]

    def messages(turns: list[tuple[str, str]]) -> list[dict[str, str]]:
        said = []
        for question, answer in turns:
            said.append({"role": "user", "content": _shown(question)})
            if answer:
                said.append({"role": "assistant", "content": _shown(answer)})
        return said

    def ask(
        question: str,
        said: dict[str, list[tuple[str, str]]],
        chosen: str,
        wanted: str,
        system_words: str,
        most: float,
        temperature: float,
    ) -> Iterator[tuple[Any, ...]]:
        given = Settings(int(most), float(temperature), settings.top_k, settings.top_p, settings.seed)
        said = {side: list(turns) for side, turns in said.items()}
        asked, places, sent, notes = [], [], [], list(given.problems())
        try:
            if notes:
                raise ChatError("; ".join(notes))
            for on in sides(chosen):
                side = "on" if on else "off"
                before = [Turn(*turn) for turn in said[side]]
                prompt = chat.prompt(
                    question, before, instruction=wanted, system=system_words, room=given.max_new_tokens
                )
                if prompt.forgotten:
                    notes.append(
                        f"The conversation is too long: the model is not shown the first {prompt.forgotten} turns."
                    )
                asked.append((prompt, on))
                places.append(side)
                if prompt.text not in sent:
                    sent.append(prompt.text)
        except (ChatError, prompts.PromptError, prompts.Refused) as error:
            yield (question, said, messages(said["on"]), messages(said["off"]), gr.skip(), _note(str(error)))
            return
        for side in places:
            said[side].append((question, ""))
        shown = "\n\n---- adapter off ----\n\n".join(sent)

        def state(note: str = "") -> tuple[Any, ...]:
            # A copy: what was yielded must not change behind Gradio's back.
            kept = {side: list(turns) for side, turns in said.items()}
            # Whoever types the next question meanwhile keeps it.
            return gr.skip(), kept, messages(kept["on"]), messages(kept["off"]), shown, _note(note)

        note = " ".join(dict.fromkeys(notes))
        yield ("", *state(note)[1:])
        last = time.monotonic()
        try:
            with contextlib.closing(chat.answers(asked, given)) as pieces:
                for place, piece in pieces:
                    turns = said[places[place]]
                    turns[-1] = (question, turns[-1][1] + piece)
                    if time.monotonic() - last >= _PACE:
                        last = time.monotonic()
                        yield state(note)
        except ChatError as error:
            note = str(error)
        for side in places:
            if not said[side][-1][1].strip():
                said[side][-1] = (question, "(The model wrote nothing.)")
        yield state(note)

    def seen(chosen: str) -> tuple[Any, Any]:
        on = sides(chosen)
        return gr.update(visible=True in on), gr.update(visible=False in on)

    def empty() -> tuple[Any, ...]:
        return {"on": [], "off": []}, [], [], "", _note("")

    # Nothing that is not meant for the page's own scripts can be called.
    private: dict[str, Any] = {"api_visibility": "private"}
    with gr.Blocks(title="Meadow: try a model", analytics_enabled=False) as page:
        said = gr.State({"on": [], "off": []})
        gr.HTML(f'<p role="note">{escape(DISCLAIMER)}</p>', elem_id="disclaimer", js_on_load=None)
        lines = "".join(f"<p>{escape(_upper(line))}</p>" for line in about(chat))
        gr.HTML(f"<h1>Try a model</h1>{lines}", elem_id="about", js_on_load=None)
        choice = gr.Radio(
            [_BOTH, _ON, _OFF], value=mode, label="Adapter", visible=chat.has_adapter, elem_id="adapter"
        )
        talk: dict[str, Any] = {
            "height": "48vh",
            "render_markdown": False,
            "sanitize_html": True,
            "feedback_options": None,
            # What it would copy has its signs escaped.
            "buttons": [],
            "allow_file_downloads": False,
        }
        with gr.Row():
            with_adapter = gr.Chatbot(
                label="Adapter on" if chat.has_adapter else "Answers",
                visible=True in sides(mode),
                elem_id="answers-on",
                **talk,
            )
            without = gr.Chatbot(
                label="Adapter off (the base model)",
                visible=False in sides(mode),
                elem_id="answers-off",
                **talk,
            )
        note = gr.HTML(_note(""), elem_id="note", js_on_load=None)
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
                value=instruction, label="Instruction", info="What to do with each question; may be empty",
            )  # fmt: skip
            system_box = gr.Textbox(value=system, label="System message", visible=chat.takes_system)
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
            show_progress="hidden",
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
            show_progress="hidden",
            **private,
        )
        choice.change(seen, choice, [with_adapter, without], show_progress="hidden", **private)
    return page


def _shown(text: str) -> str:
    """A text for the chat, which takes its messages for HTML even where it is told not to read Markdown."""
    return escape(text, quote=False)


def _note(text: str) -> str:
    return f'<p role="status">{escape(text)}</p>' if text else ""


def _upper(line: str) -> str:
    return line[:1].upper() + line[1:]


def check(port: int | None = None) -> None:
    """Makes sure that a page could be served, before a model is loaded for it.

    Raises:
        ChatError: Gradio is not installed, or the port is taken.
    """
    _gradio()
    _free_port(port)


def launch(page: Any, port: int | None = None) -> str:
    """Serves a page to this machine, and returns its address at once.

    Args:
        page: What `build` made.
        port: The port; None: the first free one from `PORT` on.

    Raises:
        ChatError: The port, or all of those, are taken.
    """
    gr = _gradio()
    from starlette.middleware import Middleware

    try:
        _, address, _ = page.queue(api_open=False, max_size=16).launch(
            server_name=HOST,
            server_port=_free_port(port),
            share=False,
            inbrowser=False,
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            footer_links=[],
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            run_history=False,
            enable_monitoring=False,
            strict_cors=True,
            allowed_paths=[],
            # Fonts of the machine: those of the web would have to be fetched.
            theme=gr.themes.Default(
                font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
            ),
            css=_CSS,
            app_kwargs={"middleware": [Middleware(_LocalOnly)]},
        )
    except OSError as error:
        raise ChatError(f"the page cannot be served at {HOST}: {error}; choose another --port") from error
    return address


def _free_port(port: int | None) -> int:
    import socket

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


def serve(page: Any, port: int | None = None, say: Callable[[str], None] = print) -> int:
    """Serves a page until Ctrl-C; returns the exit code."""
    address = launch(page, port)
    say(f"{address}  (this machine only; Ctrl-C ends it)")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return 0
    finally:
        page.close(verbose=False)
