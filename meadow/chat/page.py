"""The page in the browser on which a model is asked.

Answers are shown as the text that they are: markup in them draws no picture and opens no link.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from meadow.chat.conversation import DISCLAIMER, SIDES, Chat, ChatError, ChatSettings, Turn
from meadow.chat.serving import gradio
from meadow.chat.terminal import about
from meadow.models import prompts

__all__ = ["build"]

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
        except (ChatError, prompts.PromptError, prompts.Refused) as error:
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


def _messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """A conversation for the chat, which takes its messages for HTML even where it is told not to read Markdown."""
    said = (each for turn in turns for each in (("user", turn.question), ("assistant", turn.answer)))
    return [{"role": role, "content": escape(words, quote=False)} for role, words in said if words]


def _note(text: str) -> str:
    return f'<p role="status">{escape(text)}</p>' if text else ""
