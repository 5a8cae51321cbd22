"""Asks a model questions, in the terminal or on a page of this machine.

In the terminal; answers appear as they are written, ``/help`` lists the commands::

    python recipes/chat.py --model runs/13b

On a page at 127.0.0.1, which nobody else can reach and which loads nothing from anywhere::

    python recipes/chat.py --model runs/13b --web

From a pipe, a question in each line; answers alone go to standard output::

    python recipes/chat.py --model runs/13b < questions.txt > answers.txt

An adapter's folder is put on the base model that its configuration names (``--base`` names another place), and can be
turned off or shown beside the base model. Questions are put as the model was trained; ``--template`` chooses
otherwise. ``--model tiny`` makes a small random model, which writes nonsense, to see everything work.
Research only: no answer of such a model is medical advice.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from meadow.chat import ChatError, ChatSettings, open_chat, page
from meadow.chat.conversation import SIDES
from meadow.chat.terminal import Terminal
from meadow.core.errors import Error


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the recipe; returns 0, 1 where the model cannot be asked, or 2 where the settings are wrong."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        # A terminal that cannot show a letter of some answer must not end the conversation.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    asked = _parser().parse_args(argv)
    settings = ChatSettings(asked.max_new_tokens, asked.temperature, asked.top_k, asked.top_p, asked.seed)
    problems = list(settings.problems())
    if asked.port is not None and not asked.web:
        problems.append("--port is for the page: add --web")
    if asked.port is not None and not 0 <= asked.port < 65536:
        problems.append(f"port {asked.port} is not between 0 and 65535")
    if problems:
        print("chat: wrong settings:", *(f"  {line}" for line in problems), sep="\n", file=sys.stderr)
        return 2
    try:
        return talk(asked, settings)
    except Error as error:
        print(f"chat: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Nobody reads on: ``| head`` is no error. What is still buffered goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("chat: interrupted", file=sys.stderr)
        return 130


def talk(asked: argparse.Namespace, settings: ChatSettings) -> int:
    """Opens the model and lets it be asked, on a page or in the terminal, until there is no more."""
    if asked.web:
        # A missing library is told before minutes of loading.
        page.check(asked.port)
    chat = open_chat(
        asked.model,
        template=asked.template,
        adapter=asked.with_adapter,
        base=asked.base,
        quantization=asked.quantization,
        dtype=asked.dtype,
        device=asked.device,
        allow_pickle=asked.allow_pickle,
    )
    if asked.system and not chat.takes_system:
        raise ChatError(
            f"the template {chat.template.name} has no place for a system message: leave --system out"
        )
    if asked.adapter and not chat.has_adapter:
        raise ChatError(f"{asked.model} has no adapter to turn {asked.adapter}: leave --adapter out")
    given = {"instruction": asked.instruction, "system": asked.system}
    if asked.web:
        return page.serve(page.build(chat, settings, adapter=asked.adapter or "both", **given), asked.port)
    return Terminal(chat, settings, adapter=asked.adapter or "on", **given).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="chat.py",
        description="Ask a model questions, in the terminal or on a page of this machine. Research only.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", required=True, metavar="DIR", help="a model's or adapter's folder, or tiny")
    add("--web", action="store_true", help="a page at 127.0.0.1 instead of the terminal")
    add("--port", type=int, metavar="N", help="the page's port; default the first free one from 7860 on")
    add(
        "--template", metavar="NAME", help="medalpaca, alpaca, chat, plain, a .json file; default the model's"
    )
    add(
        "--instruction",
        default="",
        metavar="TEXT",
        help="what to do with each question, as training rows say",
    )
    add("--system", default="", metavar="TEXT", help="the system message, where the template has one")
    add("--adapter", choices=SIDES, help="default on; on the page both, side by side")
    add("--with-adapter", metavar="DIR", help="an adapter to put on the model, if --model is a whole one")
    add("--base", metavar="DIR", help="the base model, if it is not where the adapter says")
    add("--quantization", choices=("8bit", "4bit"), help="load it in 8 or 4 bits")
    add("--dtype", default="auto", help="float32, bfloat16, float16 or auto (default)")
    add("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, balanced ...")
    add("--allow-pickle", action="store_true", help="weights may be pickles; never for strangers' files")
    add("--max-new-tokens", type=int, default=512, metavar="N", help="the most tokens of an answer (512)")
    add("--temperature", type=float, default=0.0, metavar="T", help="0 (default): always the likeliest token")
    add("--top-k", type=int, default=0, metavar="K", help="sample from the K likeliest; 0 (default): all")
    add("--top-p", type=float, default=1.0, metavar="P", help="sample from the likeliest with P together (1)")
    add("--seed", type=int, default=0, metavar="N", help="of sampling (0)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
