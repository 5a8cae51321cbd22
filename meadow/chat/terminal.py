"""Asking a model in the terminal, or from a pipe.

Answers go to standard output, and everything else to standard error, so that
``echo "What is gout?" | python recipes/chat.py --model DIR > answer.txt`` writes the answer alone.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

from meadow.chat.conversation import DISCLAIMER, SIDES, Chat, ChatError, ChatSettings, Turn
from meadow.core.errors import Error

__all__ = ["Terminal", "about"]

_QUOTES = '"""'
_COMMANDS = {
    "reset": "forget what was said",
    "instruction": "TEXT: what to do with each question; without TEXT: none",
    "template": "show the template",
    "system": "TEXT: the system message; without TEXT: the template's own",
    "adapter": "on | off | both, one answer after the other",
}


def about(chat: Chat) -> Iterator[str]:
    """What to know before asking: the model, its template, what it remembers; a line each."""
    source = chat.source
    model = source.get("path")
    if source.get("adapter"):
        model = f"adapter {source['adapter']} on {source['base']}"
    loaded = ", ".join(str(source[key]) for key in ("quantization", "dtype", "device") if source.get(key))
    yield f"model: {model}{f' ({loaded})' if loaded else ''}"
    if chat.trained:
        how = "the one it was trained with"
    elif chat.multi_turn:
        how = "of its tokenizer" if chat.template.name == "chat" else "chosen"
    else:
        how = "its folder does not say which it was trained with, so answers may be worse than it can give"
    yield f"template: {chat.template.name} ({how})"
    if chat.multi_turn:
        yield "the model is shown the whole conversation"
    else:
        yield "each question is asked by itself: this template has no turns, so nothing said before is shown to it"


@dataclass
class Terminal:
    """A conversation over text streams; `adapter` is one of `SIDES`."""

    chat: Chat
    settings: ChatSettings = field(default_factory=ChatSettings)
    instruction: str = ""
    system: str = ""
    adapter: str = "on"
    stdin: TextIO = field(default_factory=lambda: sys.stdin)
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)

    def __post_init__(self) -> None:
        # What was said, with the adapter and without.
        self._said: dict[bool, list[Turn]] = {True: [], False: []}
        self._asked = False

    def run(self) -> int:
        """Asks until there is no more, or ``/quit``; returns the exit code.

        Ctrl-C ends an answer, and no more than that. From a pipe, where nobody can ask again, a question that
        cannot be answered makes the code 1.
        """
        self._note(DISCLAIMER, "", *about(self.chat), "")
        code = 0
        if self._live:
            self._note(
                f"/help lists commands; Ctrl-C ends an answer; {_QUOTES} begins and ends a long question", ""
            )
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401 - lines can be edited then
        while True:
            try:
                line = self._question()
            except KeyboardInterrupt:
                self._note("", "Ctrl-D or /quit ends the conversation")
                continue
            if line is None or line.split()[:1] in (["/quit"], ["/exit"]):
                return code
            if not line.strip():
                continue
            try:
                if line.startswith("/"):
                    self._command(line)
                else:
                    self._ask(line)
            except Error as error:
                self._note(f"chat: {error}")
                code = 0 if self._live else 1

    @property
    def _live(self) -> bool:
        return self.stdin.isatty()

    def _note(self, *lines: str) -> None:
        for line in lines:
            print(line, file=self.stderr, flush=True)

    def _say(self, text: str, end: str = "\n") -> None:
        print(text, end=end, file=self.stdout, flush=True)

    def _line(self, mark: str) -> str | None:
        """The next line without its end; None where there is no more."""
        if self._live and self.stdin is sys.stdin:
            try:
                return input(mark)
            except EOFError:
                self._note("")
                return None
        if self._live:
            self._say(mark, end="")
        line = self.stdin.readline()
        return line.rstrip("\n") if line else None

    def _question(self) -> str | None:
        line = self._line("> ")
        if line is None or not line.lstrip().startswith(_QUOTES):
            return line
        lines = [line.lstrip().removeprefix(_QUOTES)]
        while not lines[-1].rstrip().endswith(_QUOTES):
            more = self._line("... ")
            if more is None:
                return "\n".join(lines).strip()
            lines.append(more)
        lines[-1] = lines[-1].rstrip().removesuffix(_QUOTES)
        return "\n".join(lines).strip()

    def _ask(self, question: str) -> None:
        if self._asked and not self._live:
            self._say("")
        self._asked = True
        for place, on in enumerate(SIDES[self.adapter]):
            if self.adapter == "both":
                self._say(("\n" if place else "") + f"[adapter {'on' if on else 'off'}]")
            prompt = self.chat.prompt(
                question,
                self._said[on],
                instruction=self.instruction,
                system=self.system,
                room=self.settings.max_new_tokens,
            )
            if prompt.forgotten:
                self._note(f"(the conversation is too long: the first {prompt.forgotten} turns are left out)")
            answer, stopped = "", False
            pieces = self.chat.answer(prompt, self.settings, adapter=on)
            try:
                for piece in pieces:
                    answer += piece
                    self._say(piece, end="")
            except KeyboardInterrupt:
                stopped = True
            finally:
                pieces.close()
                self._say("")
            self._said[on].append(Turn(question, answer))
            if stopped:
                self._note("(stopped)")
                return

    def _command(self, line: str) -> None:
        name, _, words = line[1:].strip().partition(" ")
        words = words.strip()
        missing = {"system": not self.chat.takes_system, "adapter": not self.chat.has_adapter}
        there = {key: what for key, what in _COMMANDS.items() if not missing.get(key)}
        match name:
            case "help":
                width = max(map(len, there))
                there["quit"] = "end the conversation"
                self._note(*(f"/{key:{width}}  {what}" for key, what in there.items()))
            case "reset":
                self._said = {True: [], False: []}
                self._note("(all that was said is forgotten)", DISCLAIMER)
            case "instruction":
                self.instruction = words
                self._note(f"(instruction: {words or 'none'})")
            case "template":
                shown = self.chat.prompt("(the question)", instruction=self.instruction, system=self.system)
                self._note(f"template {self.chat.template.name}:", shown.text)
            case "system" if name in there:
                self.system = words
                self._note(f"(system message: {words or self.chat.template.system or 'none'})")
            case "system":
                raise ChatError(f"the template {self.chat.template.name} has no place for a system message")
            case "adapter" if name not in there:
                raise ChatError(
                    "there is no adapter: give an adapter's folder as --model, or one with --adapter"
                )
            case "adapter" if words not in SIDES:
                raise ChatError(f"the adapter is {', '.join(SIDES)}, not {words!r}")
            case "adapter":
                self.adapter = words
                self._note(f"(adapter: {words})")
            case _:
                raise ChatError(f"there is no command /{name}; there are /help, /{', /'.join(there)}, /quit")
