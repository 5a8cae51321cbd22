"""Exams as tasks of lm-evaluation-harness, asked in the same words and tokens as `meadow.score` asks.

::

    DIR/README.md                 what is here, and the line to run it by
    DIR/export.json               the same for programs; marks the folder as an export
    DIR/meadow_exam.py            reads an exam's file, and divides a text's likelihood by its length
    DIR/meadow_EXAM.yaml          a group: all parts of an exam, options by their letters
    DIR/meadow_EXAM_text.yaml     the same, options by their texts
    DIR/meadow_EXAM_PART.yaml, meadow_EXAM_PART_text.yaml
    DIR/exams/EXAM/PART.parquet   the items, each with its prompt as the model is to see it

The harness has a rule of its own for where a prompt ends and an answer begins: it moves the prompt's last white space
over to the answer, tokenises the prompt alone and together with the answer, and takes what the second has more. With
a prompt that ends in ``:\\n``, which many tokenizers make one token of, the model would then see a prompt without its
last line end. So what ends every prompt of a template from its last word on is given to the answer here: the same
tokens reach the model, and the likelihood of an option grows by what is the same for all options of an item. `acc`
over letters is the same then. For the length-normalised `acc_norm` over texts, that constant is asked for and taken
away.

Nothing here needs the harness to be installed.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import meadow
from meadow.models import prompts
from meadow.score.exams import Exam, ExamError, Item, read_exam

__all__ = ["CHANGES", "DEFAULT_TEMPLATE", "TASK_VERSION", "Export", "Model", "built", "export", "read_model"]

#: What harness results are compared by: raised when the same model could get another number.
TASK_VERSION = "1.0"
#: The changes, newest first.
CHANGES: Mapping[str, str] = {"1.0": "first edition"}
#: Of which harness these tasks are tested with.
TESTED_WITH = "0.4.13"
#: The template where neither a name nor a model says one.
DEFAULT_TEMPLATE = "medalpaca"
#: Marks a folder as an export, which may be replaced by another.
MARK = "export.json"
_CODE = "meadow_exam.py"
#: Items of a message before the rest is only counted.
_MOST = 5
#: Items that are tried before all are: a way to ask that fails with these is not tried with the others.
_TRIED = 8
#: What of a prompt's end may be given to the answer, in the order in which it is tried: white space, which the harness
#: gives it anyway; all behind the last word; the last line.
_ENDS = (r"\s*$", r"[\W_]*$", r"[^\n]*\s*$")

_READER = '''"""Reads the exams in this folder, and scores options by their texts. Written by Meadow; needs only the harness."""

from pathlib import Path


def load(file, **_):
    """The items of an exam's part; `file` is relative to this folder, so that it can be moved."""
    import datasets
    import pyarrow.parquet

    return {"test": datasets.Dataset(pyarrow.parquet.read_table(Path(__file__).parent / file))}


def score_texts(doc, results):
    """Accuracy by the likelihood of the options' texts: by its sum, and divided by their characters.

    What stands in front of each text, the same for all, was asked for as well where there is something: it is the
    last result, and is taken away.
    """
    sums = [found[0] for found in results]
    same = sums.pop() if len(sums) > len(doc["texts"]) else 0.0
    sums = [value - same for value in sums]
    normed = [value / max(1, len(text)) for value, text in zip(sums, doc["texts"])]
    return {
        name: float(values.index(max(values)) == doc["answer"])
        for name, values in (("acc", sums), ("acc_norm", normed))
    }
'''


@dataclass(frozen=True)
class Model:
    """What the export must know of a model to be exact for it.

    Attributes:
        arguments: What the harness is to load, as ``--model_args`` takes it.
        tokenizer: As Meadow loads it.
        theirs: Gives the tokenizer as the harness loads it, with its ``add_bos_token`` (None: not given).
        template: The template it was trained with; None where its folder does not say.
        room: The most tokens it reads; None where that is not known.
    """

    arguments: Mapping[str, str]
    tokenizer: Any
    theirs: Callable[[bool | None], Any]
    template: prompts.Template | None = None
    room: int | None = None


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


@dataclass(frozen=True)
class _Way:
    """How a prompt is handed to the harness.

    Attributes:
        moved: The end of every prompt that is given to the answer.
        bos: The harness's ``add_bos_token``; None: not given.
        begin: A beginning that is written into the prompt as text.
        differs: The items whose tokens are others than Meadow's.
        checked: Whether a tokenizer was there to find out.
    """

    moved: str
    bos: bool | None = None
    begin: str = ""
    differs: tuple[str, ...] = field(default=(), compare=False)
    checked: bool = False


def built(out: Path | str | None = None, split: str | None = None) -> list[str]:
    """The names of the exams in an output folder: multiple-choice datasets with an evaluation split, or that split.

    Raises:
        meadow.core.store.StoreError: The folder cannot be read.
    """
    from meadow.core.store import Store, default_out

    found = []
    for manifest in Store(Path(out) if out else default_out()).current():
        splits = manifest["splits"]
        of_exam = split in splits if split else manifest.get("test_only") or "test" in splits
        if of_exam and "options" in manifest["features"] and "mixture" not in manifest:
            found.append(manifest["name"])
    return found


def read_model(path: Path | str) -> Model:
    """Reads of a model folder, or an adapter's, what the export needs: the tokenizer and the template.

    The weights are not read.

    Raises:
        meadow.models.ModelError: It is no model folder, or its tokenizer cannot be used.
    """
    from meadow import models
    from meadow.models.folder import CONFIG, existing_folder, is_adapter, read_json
    from meadow.models.loading import _has_tokenizer, _template

    tiny = str(path) == "tiny" and not Path("tiny").is_dir()
    folder = models.tiny_folder() if tiny else existing_folder(path)
    base, arguments = folder, {"pretrained": str(folder if tiny else path)}
    adapter = folder if is_adapter(folder) else None
    if adapter:
        base = models.adapter_base(folder)
        arguments = {"pretrained": str(base), "peft": str(path)}
    from_adapter = adapter is not None and _has_tokenizer(adapter)
    if from_adapter:
        arguments["tokenizer"] = str(path)
    place = adapter if from_adapter else base
    config = read_json(base / CONFIG)
    room = config.get("max_position_embeddings")

    def theirs(bos: bool | None) -> Any:
        from transformers import AutoTokenizer

        given = {} if bos is None else {"add_bos_token": bos}
        return AutoTokenizer.from_pretrained(
            str(place), local_files_only=True, trust_remote_code=False, use_fast=True, **given
        )

    return Model(
        arguments,
        models.load_tokenizer(place),
        theirs,
        _template(adapter, base),
        room if isinstance(room, int) else None,
    )


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
        ValueError: The folder holds something else.
        OSError: The folder cannot be written.
    """
    folder = Path(folder)
    _free(folder)
    known = None if model is None else read_model(model)
    chosen = _template(template, known)
    names = list(exams) if exams is not None else built(out, split)
    if not names:
        which = "no exam" if split is None else f"no exam with the split {split}"
        raise ExamError(
            f"{which} is built, so there is nothing to export; build one (meadow build usmle medqa pubmedqa), or "
            "name exams or files (--exam)"
        )
    read = [read_exam(name, out=out, split=split) for name in dict.fromkeys(map(str, names))]
    _distinct(read)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        made = _write(work, folder, read, chosen, known)
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
            raise ValueError(f"{folder} holds something else than an export: name a new or empty folder")
    elif folder.exists() or folder.is_symlink():
        raise ValueError(f"{folder} is no folder: name a new or empty one")


def _template(name: str | None, model: Model | None) -> prompts.Template:
    if name is None and model is not None:
        # As a model is scored that nobody names a template for.
        default = "chat" if getattr(model.tokenizer, "chat_template", None) else "plain"
        return prompts.settled(model.template or prompts.get(default), model.tokenizer)
    found = prompts.get(name or DEFAULT_TEMPLATE)
    if found.kind == "chat" and model is None:
        raise prompts.PromptError(
            f"template {found.name!r} is put together by a model's tokenizer: name the model's folder (--model)"
        )
    return found


def _distinct(exams: Sequence[Exam]) -> None:
    names = [_safe(exam.name) for exam in exams]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExamError(
            f"two exams would have the same tasks: {', '.join(twice)}; export them to two folders"
        )


# ---- one prompt, in their tokens and in ours ----


def _shown(template: prompts.Template, model: Model | None, item: Item) -> str:
    tokenizer = None if model is None else model.tokenizer
    return prompts.prompt_text(template, tokenizer, item.instruction, item.text())


def _way(template: prompts.Template, model: Model | None, items: Sequence[Item]) -> _Way:
    """How the harness can be made to show the items in our tokens."""
    if model is None:
        # From the last word on: no tokenizer merges a word with what is no word behind it.
        return _Way(re.search(_ENDS[1], template.tail)[0])
    texts = [_shown(template, model, item) for item in items]
    same = _common_end(texts) if template.kind == "chat" else template.tail
    ends = list(dict.fromkeys(re.search(pattern, same)[0] for pattern in _ENDS))
    ways = [_Way(moved, flag) for flag in (None, True, False) for moved in ends]
    if model.tokenizer.bos_token:
        ways += [_Way(moved, None, model.tokenizer.bos_token) for moved in ends]
    tokenizers = {flag: model.theirs(flag) for flag in (None, True, False)}
    best = None
    for way in ways:
        differs: list[str] = []
        for place, (item, text) in enumerate(zip(items, texts, strict=True)):
            if not _equal(way, template, model.tokenizer, tokenizers[way.bos], item, text):
                differs.append(item.id)
            if place + 1 == len(differs) == _TRIED:
                differs += [other.id for other in items[_TRIED:]]
                break
        if best is None or len(differs) < len(best.differs):
            best = replace(way, differs=tuple(differs), checked=True)
        if not differs:
            break
    return best


def _common_end(texts: Sequence[str]) -> str:
    end = texts[0]
    for text in texts[1:]:
        while not text.endswith(end):
            end = end[1:]
    # One item alone, or items that end alike, must not give words of theirs away.
    return end[end.rfind("\n", 0, len(end.rstrip())) + 1 :]


def _equal(way: _Way, template: prompts.Template, ours: Any, theirs: Any, item: Item, text: str) -> bool:
    """Whether the harness shows a model the same tokens for an item and each of its options."""
    asked = prompts.prompt_ids(template, ours, item.instruction, item.text())
    whole = way.begin + text
    context = whole.removesuffix(way.moved).rstrip()
    if not context:
        return False
    ahead = whole[len(context) :]
    before = _their_ids(theirs, context, way.bos)

    def shown(continuation: str) -> list[int] | None:
        # What the harness takes for the continuation, behind what it takes for the context.
        after = _their_ids(theirs, context + continuation, way.bos)[len(before) :]
        return before + after if after else None

    if (shown(ahead) if ahead else before) != asked:
        return False
    lead = _lead(template, ours)
    return all(
        shown(ahead + lead + answer) == asked + prompts.answer_ids(template, ours, answer)
        for answer in (*item.options, *item.options.values())
    )


def _lead(template: prompts.Template, tokenizer: Any) -> str:
    """What stands between a prompt and its answer and is the answer's, as `meadow.models.prompts` tokenises it."""
    if template.kind == "text":
        return template.answer_lead
    return prompts._frame(template, tokenizer)._lead


def _their_ids(tokenizer: Any, text: str, bos: bool | None) -> list[int]:
    """A text as the harness's `hf` model tokenises it."""
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    given = {} if bos is None else {"add_special_tokens": bos}
    if text.startswith(tokenizer.decode(first)):
        given = {"add_special_tokens": False}
    return tokenizer.encode(text, **given)


# ---- files ----


def _safe(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "exam"


def _write(
    work: Path, folder: Path, exams: Sequence[Exam], template: prompts.Template, model: Model | None
) -> Export:
    way = _way(template, model, [item for exam in exams for item in exam.items])
    lead = _lead(template, None if model is None else model.tokenizer)
    (work / _CODE).write_text(_READER, encoding="utf-8")
    groups, tables = [], []
    for exam in exams:
        group = f"meadow_{_safe(exam.name)}"
        about = {
            "version": TASK_VERSION,
            "exam": exam.name,
            "exam_version": exam.version,
            "sample": exam.sample,
            "template": template.name,
        }
        made: dict[str, list[str]] = {"": [], "_text": []}
        taken: set[str] = set()
        for part in exam.parts:
            short = _safe(part)
            while short in taken:
                short += "_"
            taken.add(short)
            rows = [_row(item, template, model, way, lead) for item in exam.items if item.part == part]
            file = f"exams/{_safe(exam.name)}/{short}.parquet"
            _parquet(work / file, rows)
            for ending in made:
                task = f"{group}_{short}{ending}"
                made[ending].append(task)
                alias = part + (" by text" if ending else "")
                text = _task(task, alias, file, ending, way.moved + lead, about)
                (work / f"{task}.yaml").write_text(text, encoding="utf-8")
            tables.append((exam, part, f"{group}_{short}", len(rows)))
        for ending, tasks in made.items():
            text = _group(f"{group}{ending}", tasks, ending, about)
            (work / f"{group}{ending}.yaml").write_text(text, encoding="utf-8")
        groups.append(group)
    notes = tuple(_notes(exams, template, model, way))
    command = _command(folder, groups, model, way)
    described = {
        "meadow": meadow.__version__,
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
    (work / "README.md").write_text(
        _readme(tables, template, model, way, command, notes, exams), encoding="utf-8"
    )
    return Export(folder, tuple(groups), sum(len(exam.items) for exam in exams), command, notes)


def _row(item: Item, template: prompts.Template, model: Model | None, way: _Way, lead: str) -> dict[str, Any]:
    texts = list(item.options.values())
    ahead = way.moved + lead
    text = _shown(template, model, item)
    return {
        "id": item.id,
        "part": item.part,
        "instruction": item.instruction,
        "input": item.text(),
        "letters": list(item.options),
        "texts": texts,
        "answer": list(item.options).index(item.answer_key),
        "prompt": way.begin + text.removesuffix(way.moved),
        "continuations": [ahead + option for option in texts] + ([way.moved] if way.moved else []),
    }


def _parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    schema = pa.schema(
        [
            *((name, text) for name in ("id", "part", "instruction", "input")),
            *((name, pa.list_(text)) for name in ("letters", "texts")),
            ("answer", pa.int64()),
            ("prompt", text),
            ("continuations", pa.list_(text)),
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)


def _yaml(pairs: Iterable[tuple[str, Any]]) -> str:
    """YAML in which each value is JSON, which YAML holds; a value that begins with ``!`` is a tag."""
    lines = []
    for key, value in pairs:
        tag = isinstance(value, str) and value.startswith("!function ")
        lines.append(f"{key}: {value if tag else json.dumps(value)}\n")
    return "".join(lines)


def _metrics(names: Sequence[str]) -> list[dict[str, Any]]:
    return [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in names]


def _task(task: str, alias: str, file: str, ending: str, ahead: str, about: Mapping[str, Any]) -> str:
    module = _CODE.removesuffix(".py")
    pairs: list[tuple[str, Any]] = [
        ("task", task),
        ("task_alias", alias),
        ("custom_dataset", f"!function {module}.load"),
        ("dataset_kwargs", {"file": file}),
        ("test_split", "test"),
        ("output_type", "multiple_choice"),
        ("num_fewshot", 0),
        ("doc_to_text", "prompt"),
        ("doc_to_target", "answer"),
    ]
    if ending:
        pairs += [
            ("doc_to_choice", "continuations"),
            ("target_delimiter", ""),
            ("process_results", f"!function {module}.score_texts"),
            ("metric_list", _metrics(["acc", "acc_norm"])),
        ]
    else:
        pairs += [
            ("doc_to_choice", "letters"),
            ("target_delimiter", ahead),
            ("metric_list", _metrics(["acc"])),
        ]
    return _yaml([*pairs, ("metadata", dict(about))])


def _group(group: str, tasks: Sequence[str], ending: str, about: Mapping[str, Any]) -> str:
    names = ["acc", "acc_norm"] if ending else ["acc"]
    metrics = [
        {"metric": name, "aggregation": "mean", "weight_by_size": True, "filter_list": ["none"]}
        for name in names
    ]
    return _yaml(
        [
            ("group", group),
            ("task", list(tasks)),
            ("aggregate_metric_list", metrics),
            ("metadata", dict(about)),
        ]
    )


# ---- words ----


def _arguments(model: Model | None, way: _Way) -> str:
    pairs = dict(model.arguments) if model else {"pretrained": "MODEL"}
    if way.bos is not None:
        pairs["add_bos_token"] = str(way.bos)
    return ",".join(f"{key}={value}" for key, value in {**pairs, "dtype": "float32"}.items())


def _command(folder: Path, groups: Sequence[str], model: Model | None, way: _Way) -> str:
    import shlex

    tasks = ",".join(name for group in groups for name in (group, f"{group}_text"))
    return (
        f"lm_eval --model hf --model_args {shlex.quote(_arguments(model, way))} "
        f"--include_path {shlex.quote(str(folder))} --tasks {tasks} --batch_size 8 --output_path results "
        "--log_samples"
    )


def _notes(
    exams: Sequence[Exam], template: prompts.Template, model: Model | None, way: _Way
) -> Iterator[str]:
    samples = [exam.name for exam in exams if exam.sample]
    if samples:
        yield f"{', '.join(samples)}: the small embedded sample, written for tests, and not the real exam"
    items = [item for exam in exams for item in exam.items]
    if model is None:
        yield (
            "no model was named (--model), so nobody compared the harness's tokens with Meadow's for yours; "
            + _bos_words(template)
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
            if len(prompts.prompt_ids(template, model.tokenizer, item.instruction, item.text()))
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


def _bos_words(template: prompts.Template) -> str:
    return {
        "always": "the template begins with BOS: add add_bos_token=True to --model_args",
        "never": "the template begins without BOS: add add_bos_token=False to --model_args",
    }.get(template.bos, "the template begins as the tokenizer does: leave add_bos_token out of --model_args")


def _readme(
    tables: Sequence[tuple[Exam, str, str, int]],
    template: prompts.Template,
    model: Model | None,
    way: _Way,
    command: str,
    notes: Sequence[str],
    exams: Sequence[Exam],
) -> str:
    rows = [
        f"| `{task}`, `{task}_text` | {exam.title}{' (sample)' if exam.sample else ''} | {part} | {count:,} |"
        for exam, part, task, count in tables
    ]
    left = [
        f"- {exam.title}: left out of {part}: {', '.join(f'{n:,} {why}' for why, n in counts.items())}"
        for exam in exams
        for part, counts in exam.excluded_parts.items()
    ]
    terms = [f"- {exam.title}: {exam.license or 'not known; it came from a file'}" for exam in exams]
    first = exams[0].items[0]
    shown = _shown(template, model, first)
    if way.checked and not way.differs:
        exact = (
            "Every item was compared: the harness shows the model named below the same tokens as Meadow does, "
            "BOS included."
        )
    else:
        exact = "Notes below say what of that is not certain."
    noted = "".join(f"- {note}\n" for note in notes)
    return f"""# Exams for lm-evaluation-harness

Written by Meadow {meadow.__version__}; tested with lm_eval {TESTED_WITH}. All data are in this folder, which can be moved as a
whole; nothing is fetched.

```
{command}
```

Give no `--apply_chat_template`, `--system_instruction`, `--fewshot_as_multiturn` or `--num_fewshot`: each prompt is whole
as it is. On a GPU use the number type that Meadow's score was made with (`dtype=bfloat16`): another one moves near
ties. With `HF_HUB_OFFLINE=1` set, the harness asks nobody for anything.

| tasks | exam | part | items |
|---|---|---|---:|
{chr(10).join(rows)}

`acc` of a task is Meadow's `letter`, which its `loglikelihood` protocol counts: the option whose letter is likeliest
after the prompt. A task that ends in `_text` shows the same prompt and compares the options' texts: its `acc` is Meadow's
`text`, its `acc_norm` (by characters) `text_norm`. The groups `{"`, `".join(f"meadow_{_safe(e.name)}" for e in exams)}` (and with `_text`) hold all
parts of an exam, each item counting once. {exact}

## Template

`{template.name}`{f": {template.source}" if template.source else ""}. Another needs another export (`--template`). The first item as the model sees it:

{_fenced(shown)}

What ends every prompt, {json.dumps(way.moved)}, is given to the answer (`target_delimiter`), since the harness would take
white space off a prompt's end.

## Left out

{chr(10).join(left) or "Nothing."}

## Terms of the exams

{chr(10).join(terms)}

## Notes

{noted or f"None.{chr(10)}"}
## Versions of these tasks

{chr(10).join(f"- {version}: {what}" for version, what in CHANGES.items())}
"""


def _fenced(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
