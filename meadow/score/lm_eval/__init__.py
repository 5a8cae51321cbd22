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

import json
import re
import shlex
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from meadow.core.builder import available
from meadow.core.errors import Error
from meadow.core.store import Store, default_out
from meadow.core.version import VERSION
from meadow.describe.cards.markdown import fence
from meadow.models import prompts
from meadow.score.exams import Exam, ExamError, ExamItem, read_exam
from meadow.score.lm_eval.tokens import Asking, HarnessModel, Way, read_model

__all__ = ["Export", "ExportError", "built", "export"]

#: The template where neither a name nor a model says one.
DEFAULT_TEMPLATE = "medalpaca"
#: What harness results are compared by: raised when the same model could get another number. The README lists all.
TASK_VERSION = "1.0"
#: Of which harness these tasks are tested with.
TESTED_WITH = "0.4.13"
#: Marks a folder as an export, which may be replaced by another.
MARK = "export.json"
#: What is copied into every export as it is.
_STATIC = ("meadow_exam.py", "_letter_yaml", "_text_yaml")
#: The endings of tasks by letter and by text, what their files include, and their metrics.
_FORMS = {"": ("_letter_yaml", ("acc",)), "_text": ("_text_yaml", ("acc", "acc_norm"))}
#: Items of a message before the rest is only counted.
_MOST = 5
#: What to say of BOS for a model that nobody named, by the template's `bos`.
_BOS = {
    "always": "the template begins with BOS: add add_bos_token=True to --model_args",
    "never": "the template begins without BOS: add add_bos_token=False to --model_args",
    "tokenizer": "the template begins as the tokenizer does: leave add_bos_token out of --model_args",
}
_HERE = Path(__file__).parent


class ExportError(Error, ValueError):
    """A folder that an export cannot be written to."""


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        folder: Where.
        groups: The groups over letters, one for each exam.
        items: How many items they have together.
        command: The line that runs them.
        notes: What a user must know, a sentence each.
    """

    folder: Path
    groups: tuple[str, ...]
    items: int
    command: str
    notes: tuple[str, ...] = ()


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
        exams: As `read_exam` takes them, with `out` and `split`; None: all exams that are built.
        out: The output folder of the datasets; None for ``$MEADOW_OUT`` or the user's cache.
        split: The split of a dataset.
        template: A template's name or ``.json`` file; None: the one the model is scored with, else `DEFAULT_TEMPLATE`.
        model: A model's folder: its template is used, and its tokenizer to compare the harness's tokens.

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
        sources, _ = available()
        usable = [name for name, cls in sources.items() if cls.test_only or "test" in cls.official_splits]
        raise ExamError(
            f"{which} is built, so there is nothing to export; build one (meadow build {' '.join(usable)}), or "
            "name exams or files (--exam)"
        )
    read = [read_exam(name, out=out, split=split) for name in dict.fromkeys(map(str, names))]
    if twice := [name for name, count in Counter(_safe(exam.name) for exam in read).items() if count > 1]:
        raise ExamError(
            f"two exams would have the same tasks: {', '.join(sorted(twice))}; export them to two folders"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        made = _write(work, folder, read, asking)
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


def _safe(name: str) -> str:
    """A name as tasks and files can have it."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "exam"


def _write(work: Path, folder: Path, exams: Sequence[Exam], asking: Asking) -> Export:
    """Writes the files of an export into `work`, which becomes `folder`."""
    template = asking.template
    way = asking.find_way([item for exam in exams for item in exam.items])
    ahead = way.moved + asking.lead
    for name in _STATIC:
        shutil.copy(_HERE / name, work / name)
    groups, tables = [], []
    for exam in exams:
        group, items = f"meadow_{_safe(exam.name)}", f"exams/{_safe(exam.name)}"
        (work / items).mkdir(parents=True, exist_ok=True)
        groups.append(group)
        metadata = {
            "version": TASK_VERSION,
            "exam": exam.name,
            "exam_version": exam.version,
            "sample": exam.sample,
            "template": template.name,
        }
        parts: dict[str, str] = {}
        for part in exam.parts:
            short = _safe(part)
            while short in parts:
                short += "_"
            parts[short] = part
            rows = [_row(item, asking, way, ahead) for item in exam.of(part)]
            pq.write_table(pa.Table.from_pylist(rows), work / items / f"{short}.parquet")
            tables.append((exam, part, f"{group}_{short}", len(rows)))
        for ending, (shared, metrics) in _FORMS.items():
            for short, part in parts.items():
                task: dict[str, Any] = {
                    "include": shared,
                    "task": f"{group}_{short}{ending}",
                    "task_alias": part + (" by text" if ending else ""),
                    "dataset_kwargs": {"file": f"{items}/{short}.parquet"},
                    "metadata": metadata,
                }
                if not ending:
                    task["target_delimiter"] = ahead
                _yaml(work / f"{task['task']}.yaml", task)
            mean = {"aggregation": "mean", "weight_by_size": True, "filter_list": ["none"]}
            whole = {
                "group": f"{group}{ending}",
                "task": [f"{group}_{short}{ending}" for short in parts],
                "aggregate_metric_list": [{"metric": name, **mean} for name in metrics],
                "metadata": metadata,
            }
            _yaml(work / f"{group}{ending}.yaml", whole)
    notes = tuple(_notes(exams, asking, way))
    command = _command(folder, groups, asking.model, way)
    described = {
        "meadow": VERSION,
        "task_version": TASK_VERSION,
        "template": template.to_dict(),
        "given_to_the_answer": way.moved,
        "add_bos_token": way.bos,
        "checked_with_a_tokenizer": asking.model is not None,
        "differs": list(way.differs),
        "groups": groups,
        "exams": [exam.described() for exam in exams],
    }
    (work / MARK).write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    readme = jinja2.Template(
        (_HERE / "README.md.j2").read_text(encoding="utf-8"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    ).render(
        meadow=VERSION,
        tested_with=TESTED_WITH,
        command=command,
        tables=tables,
        groups=groups,
        exact=asking.model is not None and not way.differs,
        moved=json.dumps(way.moved),
        template=template,
        first=fence(asking.shown(exams[0].items[0]), ""),
        exams=exams,
        notes=notes,
    )
    (work / "README.md").write_text(readme, encoding="utf-8")
    return Export(folder, tuple(groups), sum(len(exam.items) for exam in exams), command, notes)


def _row(item: ExamItem, asking: Asking, way: Way, ahead: str) -> dict[str, Any]:
    texts = list(item.options.values())
    return {
        "id": item.id,
        "part": item.part,
        "instruction": item.instruction,
        "input": item.text(),
        "letters": list(item.options),
        "texts": texts,
        "answer": list(item.options).index(item.answer_key),
        "prompt": way.begin + asking.shown(item).removesuffix(way.moved),
        "continuations": [ahead + option for option in texts] + ([way.moved] if way.moved else []),
    }


def _yaml(path: Path, content: Mapping[str, Any]) -> None:
    # Through JSON: YAML would write what stands twice, such as the metadata, as a reference.
    plain = json.loads(json.dumps(content))
    path.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _command(folder: Path, groups: Sequence[str], model: HarnessModel | None, way: Way) -> str:
    pairs = dict(model.arguments) if model else {"pretrained": "MODEL"}
    if way.bos is not None:
        pairs["add_bos_token"] = str(way.bos)
    arguments = ",".join(f"{key}={value}" for key, value in {**pairs, "dtype": "float32"}.items())
    tasks = ",".join(name for group in groups for name in (group, f"{group}_text"))
    return (
        f"lm_eval --model hf --model_args {shlex.quote(arguments)} --include_path {shlex.quote(str(folder))} "
        f"--tasks {tasks} --batch_size 8 --output_path results --log_samples"
    )


def _notes(exams: Sequence[Exam], asking: Asking, way: Way) -> Iterator[str]:
    model = asking.model
    if samples := [exam.name for exam in exams if exam.sample]:
        yield f"{', '.join(samples)}: the small embedded sample, written for tests, and not the real exam"
    items = [item for exam in exams for item in exam.items]
    if model is None:
        yield (
            "no model was named (--model), so nobody compared the harness's tokens with Meadow's for yours; "
            + _BOS[asking.template.bos]
        )
        return
    if way.differs:
        yield (
            f"{len(way.differs):,} of {len(items):,} items reach this model in other tokens than Meadow's, whose "
            f"scores may differ there: {_some(way.differs)}"
        )
    if model.room is not None:
        # As the `loglikelihood` protocol leaves room for the longest option.
        long = [
            item.id
            for item in items
            if len(prompts.prompt_ids(asking.template, model.tokenizer, item.instruction, item.text()))
            + max(map(len, item.options.values()))
            > model.room
        ]
        if long:
            yield (
                f"{len(long):,} items are too long, or nearly, for the {model.room:,} tokens that this model reads; "
                f"the harness cuts their beginning, and Meadow the middle of the question: {_some(long)}"
            )


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_MOST]) + (f" and {len(ids) - _MOST:,} more" if len(ids) > _MOST else "")
