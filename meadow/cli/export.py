"""``meadow export``: a dataset in another program's format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from meadow.cli import console
from meadow.cli.options import Out
from meadow.core.errors import Error


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
    name: Annotated[str, typer.Argument(help="A built dataset.")],
    file: Annotated[Path, typer.Argument(help="The file to write, such as deck.apkg.")],
    out: Out = None,
    version: Annotated[str | None, typer.Option(help="Another version than the newest.")] = None,
) -> None:
    """Write a dataset of questions and answers as a deck of flashcards for Anki."""
    from meadow.core.store import Store, default_out
    from meadow.export import anki

    try:
        count = anki.export_anki(Store(out or default_out()).rows(name, version), name, file)
    except OSError as error:
        console.fail(f"cannot write {file}: {error.strerror or error}")
    except (Error, ValueError) as error:
        console.fail(error)
    console.say(f"{file}: {count:,} notes")


@exports.command("lm-eval", short_help="Exams as tasks for lm-evaluation-harness.")
def export_lm_eval(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder to write; an earlier export there is replaced.")
    ],
    exam: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME_OR_FILE", help="An exam; can be repeated. Default all that are built."),
    ] = None,
    out: Out = None,
    split: Annotated[
        str | None, typer.Option(help="A split of the exams; default all of an exam's, else test.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How questions are put: medalpaca, alpaca, chat, plain, or a .json file; default the model's own, "
            "else medalpaca.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL_DIR",
            help="A model or adapter: its template is used, and its tokenizer to make sure that the harness shows it "
            "the same tokens.",
        ),
    ] = None,
) -> None:
    """Write exams as tasks for lm-evaluation-harness, asked word for word as Meadow's own scoring asks."""
    from meadow.score import lm_eval

    try:
        made = lm_eval.export(folder, exam or None, out=out, split=split, template=template, model=model)
    except OSError as error:
        console.fail(f"cannot write {folder}: {error.strerror or error}")
    except (Error, ValueError) as error:
        console.fail(error)
    console.say(f"{made.folder}: {made.items:,} items of {', '.join(made.groups)}")
    for note in made.notes:
        console.say(f"note: {note}")
    console.say(f"\n{made.command}")
