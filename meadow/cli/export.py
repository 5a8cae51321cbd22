"""``meadow export``: a dataset in another program's format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from meadow.cli import console
from meadow.cli.options import OUT, argument, option, store_in


class ExportFormats(TyperGroup):
    """The formats; a name that is none of them is told, with those there are."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            there = ", ".join(self.commands)
            console.fail(f"no export format is named {args[0]!r}; there is: {there}", console.WRONG_USE)
        return super().resolve_command(ctx, args)


exports = typer.Typer(cls=ExportFormats, no_args_is_help=True, rich_markup_mode=None)


@exports.command("anki", short_help="A deck of flashcards for Anki.")
def export_anki(
    name: str = argument("", "A built dataset.", ...),
    file: Path = argument("", "The file to write, such as deck.apkg.", ...),
    out: Path | None = OUT,
    version: str | None = option("", "Another version than the newest."),
) -> None:
    """Write a dataset of questions and answers as a deck of flashcards for Anki."""
    from meadow.export import anki

    with console.failing(f"cannot write {file}", wrong_use=False):
        count = anki.export_anki(store_in(out).rows(name, version), name, file)
    console.say(f"{file}: {count:,} notes")


@exports.command("lm-eval", short_help="Exams as tasks for lm-evaluation-harness.")
def export_lm_eval(
    folder: Path = argument("DIR", "The folder to write; an earlier export there is replaced.", ...),
    exam: list[str] | None = option("NAME_OR_FILE", "An exam; can be repeated. Default all that are built."),
    out: Path | None = OUT,
    split: str | None = option("", "A split of the exams; default all of an exam's, else test."),
    template: str | None = option(
        "NAME",
        "How questions are put: medalpaca, alpaca, chat, plain, or a .json file; "
        "default the model's own, else medalpaca.",
    ),
    model: str | None = option(
        "MODEL_DIR",
        "A model or adapter: its template is used, and its tokenizer to make sure "
        "that the harness shows it the same tokens.",
    ),
) -> None:
    """Write exams as tasks for lm-evaluation-harness, asked word for word as Meadow's own scoring asks."""
    from meadow.score import lm_eval

    with console.failing(f"cannot write {folder}", wrong_use=False):
        made = lm_eval.export(folder, exam or None, out=out, split=split, template=template, model=model)
    console.say(f"{made.folder}: {made.items:,} items of {', '.join(made.groups)}")
    for note in made.notes:
        console.say(f"note: {note}")
    console.say(f"\n{made.command}")
