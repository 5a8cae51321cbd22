"""The page in the browser on which a model is asked.

Answers are shown as the text that they are: markup in them draws no picture and opens no link.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from html import escape
from typing import Any

from meadow.chat import DISCLAIMER, Chat, ChatError, ChatSettings, Turn
from meadow.chat.serving import gradio
from meadow.chat.terminal import about
from meadow.models import prompts

__all__ = ["build"]

#: Seconds between two updates of an answer: a browser draws no more than it can show.
_PACE = 0.05
_BOTH, _ON, _OFF = "Side by side", "Adapter on", "Adapter off"


def build(
    chat: Chat,
    settings: ChatSettings | None = None,
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
    gr = gradio()
    settings = settings or ChatSettings()
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
        given = ChatSettings(int(most), float(temperature), settings.top_k, settings.top_p, settings.seed)
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
