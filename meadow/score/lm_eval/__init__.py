"""Exams as tasks of lm-evaluation-harness, asked in the same words and tokens as `meadow.score` asks.

::

    DIR/README.md                 what is here, and the line to run it by
    DIR/export.json               the same for programs; marks the folder as an export
    DIR/meadow_exam.py            reads an exam's file, and divides a text's likelihood by its length
    DIR/_letter_yaml, _text_yaml  what all tasks of a form share
    DIR/meadow_EXAM.yaml          a group: all parts of an exam, options by their letters
    DIR/meadow_EXAM_text.yaml     the same, options by their texts
    DIR/meadow_EXAM_PART.yaml, meadow_EXAM_PART_text.yaml
    DIR/exams/EXAM/PART.parquet   the items, each with its prompt as the model is to see it

`acc` over letters is the same as Meadow's `letter`, item by item; how that comes about, `meadow.score.lm_eval.tokens`
says. For the length-normalised `acc_norm` over texts, what stands in front of every text is asked for and taken away.

Nothing here needs the harness to be installed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from meadow.core.builder import available
from meadow.core.errors import Error
from meadow.core.store import Store, default_out
from meadow.models import prompts
from meadow.score.exams import ExamError, read_exam
from meadow.score.lm_eval.files import CHANGES, MARK, TASK_VERSION, Export, safe, write
from meadow.score.lm_eval.tokens import Asking, HarnessModel, read_model

__all__ = [
    "CHANGES",
    "DEFAULT_TEMPLATE",
    "TASK_VERSION",
    "Export",
    "ExportError",
    "built",
    "export",
    "read_model",
]

#: The template where neither a name nor a model says one.
DEFAULT_TEMPLATE = "medalpaca"


class ExportError(Error, ValueError):
    """A folder that an export cannot be written to."""


def built(out: Path | str | None = None, split: str | None = None) -> list[str]:
    """The names of the exams in an output folder: multiple-choice datasets with an evaluation split, or that split.

    Raises:
        meadow.core.store.StoreError: The folder cannot be read.
    """
    return [
        manifest.name
        for manifest in Store(Path(out) if out else default_out()).current()
        if manifest.mixture is None and "options" in manifest.features
        if (split in manifest.splits if split else manifest.exam_splits())
    ]


def _exam_sources() -> str:
    """The installed sources that have an evaluation split."""
    sources, _ = available()
    return " ".join(name for name, cls in sources.items() if cls.test_only or "test" in cls.official_splits)


def export(
    folder: Path | str,
    exams: Iterable[str | Path] | None = None,
    *,
    out: Path | str | None = None,
    split: str | None = None,
    template: str | None = None,
    model: Path | str | None = None,
) -> Export:
    """Writes exams as tasks for lm-evaluation-harness.

    Args:
        folder: Where to. It is made; an earlier export there is replaced as a whole.
        exams: Datasets or files, as `read_exam` takes them; None: all exams that are built.
        out: The output folder of the datasets; None for ``$MEADOW_OUT`` or the user's cache.
        split: The split of a dataset; None: as `read_exam` has it.
        template: The name of a template, or its ``.json`` file; None: the one the model is scored with, else
            `DEFAULT_TEMPLATE`.
        model: A model's folder: its template is used, and its tokenizer to make sure that the harness shows it
            the same tokens.

    Raises:
        ExamError: There is no exam, or one that cannot be scored.
        meadow.models.prompts.PromptError: There is no such template, or it needs a model.
        meadow.models.ModelError: The model's folder cannot be used.
        ExportError: The folder holds something else.
        OSError: The folder cannot be written.
    """
    folder = Path(folder)
    _free(folder)
    known = None if model is None else read_model(model)
    asking = Asking(_template(template, known), known)
    names = list(exams) if exams is not None else built(out, split)
    if not names:
        which = "no exam" if split is None else f"no exam with the split {split}"
        raise ExamError(
            f"{which} is built, so there is nothing to export; build one (meadow build {_exam_sources()}), or "
            "name exams or files (--exam)"
        )
    read = [read_exam(name, out=out, split=split) for name in dict.fromkeys(map(str, names))]
    if twice := [name for name, count in Counter(safe(exam.name) for exam in read).items() if count > 1]:
        raise ExamError(
            f"two exams would have the same tasks: {', '.join(sorted(twice))}; export them to two folders"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        made = write(work, folder, read, asking)
        work.chmod(0o755)
        if folder.is_dir():
            shutil.rmtree(folder)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return made


def _free(folder: Path) -> None:
    if folder.is_dir():
        if any(folder.iterdir()) and not (folder / MARK).is_file():
            raise ExportError(f"{folder} holds something else than an export: name a new or empty folder")
    elif folder.exists() or folder.is_symlink():
        raise ExportError(f"{folder} is no folder: name a new or empty one")


def _template(name: str | None, model: HarnessModel | None) -> prompts.Template:
    if name is None and model is not None:
        # As a model is scored that nobody names a template for.
        return prompts.settled(model.template or prompts.usual(model.tokenizer), model.tokenizer)
    found = prompts.get(name or DEFAULT_TEMPLATE)
    if found.kind == "chat" and model is None:
        raise prompts.PromptError(
            f"template {found.name!r} is put together by a model's tokenizer: name the model's folder (--model)"
        )
    return found
