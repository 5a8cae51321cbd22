"""The files of an export: tasks, items, and a README that says how to run them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from meadow.core.version import VERSION
from meadow.describe.cards.markdown import fence
from meadow.models import prompts
from meadow.score.exams import Exam, ExamItem
from meadow.score.lm_eval.tokens import Asking, HarnessModel, Way

#: What harness results are compared by: raised when the same model could get another number.
TASK_VERSION = "1.0"
#: The changes, newest first.
CHANGES: Mapping[str, str] = {"1.0": "first edition"}
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


def safe(name: str) -> str:
    """A name as tasks and files can have it."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "exam"


def write(work: Path, folder: Path, exams: Sequence[Exam], asking: Asking) -> Export:
    """Writes the files of an export into `work`, which becomes `folder`."""
    template = asking.template
    way = asking.find_way([item for exam in exams for item in exam.items])
    ahead = way.moved + asking.lead
    for name in _STATIC:
        shutil.copy(_HERE / name, work / name)
    groups, tables = [], []
    for exam in exams:
        group = f"meadow_{safe(exam.name)}"
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
            short = safe(part)
            while short in parts:
                short += "_"
            parts[short] = part
            rows = [_row(item, asking, way, ahead) for item in exam.of(part)]
            (work / f"exams/{safe(exam.name)}").mkdir(parents=True, exist_ok=True)
            table = pa.Table.from_pylist(rows)
            pq.write_table(table, work / f"exams/{safe(exam.name)}/{short}.parquet")
            tables.append((exam, part, f"{group}_{short}", len(rows)))
        for ending, (shared, metrics) in _FORMS.items():
            for short, part in parts.items():
                task: dict[str, Any] = {
                    "include": shared,
                    "task": f"{group}_{short}{ending}",
                    "task_alias": part + (" by text" if ending else ""),
                    "dataset_kwargs": {"file": f"exams/{safe(exam.name)}/{short}.parquet"},
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
        "checked_with_a_tokenizer": way.checked,
        "differs": list(way.differs),
        "groups": groups,
        "exams": [exam.described() for exam in exams],
    }
    (work / MARK).write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["json"] = json.dumps
    readme = environment.get_template("README.md.j2").render(
        meadow=VERSION,
        tested_with=TESTED_WITH,
        command=command,
        tables=tables,
        groups=groups,
        way=way,
        template=template,
        first=fence(asking.shown(exams[0].items[0]), ""),
        exams=exams,
        notes=notes,
        changes=CHANGES,
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
    samples = [exam.name for exam in exams if exam.sample]
    if samples:
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
