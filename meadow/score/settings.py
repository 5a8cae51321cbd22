"""What to score, on what, and how: each setting once, with its usual value and its help on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from meadow.core.errors import Error
from meadow.models.http import KEY
from meadow.score.protocols import PROTOCOLS

__all__ = ["ScoreSettings", "ScoreSettingsError", "output_of", "problems", "read_arguments"]

_FOLDER, _SERVED = "models in a folder", "models behind an OpenAI-compatible endpoint"


class ScoreSettingsError(Error):
    """Settings that contradict each other or make no sense; `problems` has all that is wrong, a sentence each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        many = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{many} in the settings:\n" + "\n".join(f"  - {text}" for text in problems))


def _setting(default: Any, help: str, kind: Callable[[str], Any] = str, **more: Any) -> Any:  # noqa: A002
    return field(default=default, metadata={"help": help, "kind": kind, **more})


@dataclass(frozen=True)
class ScoreSettings:
    """What to score, on what, and how; each is an option of the recipe, and says there what it is."""

    model: str | None = _setting(
        None, "folder of a model or adapter, or `tiny`; with --endpoint what the server calls it"
    )
    output: Path = _setting(
        None, "folder to write to; without it, one named after the exam in the model's", Path
    )
    exam: str = _setting("", "a multiple-choice dataset (NAME or NAME@VERSION), or a file")
    split: str | None = _setting(None, "split of the exam's dataset; without it all of an exam's, else test")
    protocol: str = _setting("loglikelihood", ", ".join(PROTOCOLS))
    permute: int = _setting(0, "ask every item in K other orders of its options", int, metavar="K")
    baseline: Path | None = _setting(
        None, "output of another run on the same items, to compare with", Path, metavar="DIR"
    )
    trained_on: tuple[str, ...] = _setting(
        (),
        "datasets and files the model was trained on, where its folder does not say",
        metavar="DATA",
        nargs="+",
    )
    template: str | None = _setting(None, "prompt template; without it the one the model was trained with")
    limit: int | None = _setting(None, "at most N items, for trying things out", int, metavar="N")
    seed: int = _setting(0, "of orders, sampling and bootstrap", int)
    batch_size: int = _setting(16, "questions at once", int)
    max_new_tokens: int | None = _setting(None, "most tokens of a written answer", int)
    out: Path | None = _setting(None, "Meadow's output folder; else $MEADOW_OUT or the user's cache", Path)
    quantization: str | None = _setting(None, "8bit or 4bit", group=_FOLDER)
    adapter: str | None = _setting(None, "an adapter to put on the model", metavar="DIR", group=_FOLDER)
    base: str | None = _setting(
        None, "base model of an adapter, where it names another place", metavar="DIR", group=_FOLDER
    )
    dtype: str = _setting("auto", "auto, float32, bfloat16, float16", group=_FOLDER)
    device: str = _setting("auto", "auto, cpu, cuda, balanced", group=_FOLDER)
    allow_pickle: bool = _setting(
        False, "load weights that are pickled, which can run code", bool, group=_FOLDER
    )
    endpoint: str | None = _setting(
        None,
        "such as http://localhost:8000/v1; a key is read from --key-variable",
        metavar="URL",
        group=_SERVED,
    )
    concurrency: int = _setting(8, "requests at once", int, group=_SERVED)
    timeout: float = _setting(300.0, "seconds for a request", float, group=_SERVED)
    retries: int = _setting(5, "how often a request is tried again", int, group=_SERVED)
    key_variable: str = _setting(KEY, "environment variable with the server's key", group=_SERVED)
    allow_public: bool = _setting(False, "the server may lie outside your own network", bool, group=_SERVED)

    @property
    def loading(self) -> dict[str, Any]:
        """How `meadow.models.load` is to load the model."""
        return {name: getattr(self, name) for name in _names(_FOLDER)}

    @property
    def serving(self) -> dict[str, Any]:
        """How `meadow.score.endpoint.EndpointBackend` is to ask the server."""
        return {name: getattr(self, name) for name in _names(_SERVED) if name != "endpoint"}


def _names(group: str) -> list[str]:
    return [each.name for each in fields(ScoreSettings) if each.metadata.get("group") == group]


def problems(settings: ScoreSettings) -> list[str]:
    """All that is wrong with settings, as far as that shows without reading any file; a sentence each."""
    protocol, served = settings.protocol, settings.endpoint is not None
    likelihoods = protocol == "loglikelihood"
    found = []
    if protocol not in PROTOCOLS:
        found.append(f"no protocol is named {protocol!r}; there are: {', '.join(PROTOCOLS)}")
    if not served and not settings.model:
        found.append("--model is missing: a model's folder, or 'tiny'; or give --endpoint")
    for name in ("permute", "retries", "seed"):
        if getattr(settings, name) < 0:
            found.append(f"{_flag(name)} is {getattr(settings, name)}, and must be 0 or more")
    for name in ("batch_size", "concurrency", "timeout", "limit", "max_new_tokens"):
        value = getattr(settings, name)
        if value is not None and not value > 0:
            found.append(f"{_flag(name)} is {value}, and must be more than 0")
    if settings.max_new_tokens is not None and likelihoods:
        found.append("--max-new-tokens has no meaning with --protocol loglikelihood: nothing is written")
    if settings.permute and protocol == "medalpaca-compat":
        found.append("--permute goes with loglikelihood and generate: sampled answers move by themselves")
    if settings.quantization not in (None, "8bit", "4bit"):
        found.append(f"--quantization {settings.quantization!r} is unknown: 8bit or 4bit, or leave it out")
    for name in _names(_FOLDER) if served else ():
        if getattr(settings, name) != getattr(ScoreSettings, name):
            found.append(f"{_flag(name)} is the server's business: leave it out with --endpoint")
    if served and likelihoods and settings.template in (None, "chat"):
        found.append(
            "--protocol loglikelihood with --endpoint needs the template that the model was trained with, such as --template "
            "alpaca, since likelihoods need the whole prompt as a text; or use --protocol generate"
        )
    return found


def read_arguments(
    argv: Sequence[str] | None, *, prog: str, description: str | None, exam: str
) -> ScoreSettings:
    """Reads the command line (None: of this process) of a recipe, which scores `exam` if nobody names one.

    Raises:
        ScoreSettingsError: With all that is wrong, be it unknown, unreadable or senseless.
    """
    wrong: list[str] = []

    def number(kind: Callable[[str], Any]) -> Callable[[str], Any]:
        def read(text: str) -> Any:
            try:
                return kind(text)
            except ValueError:
                wrong.append(f"{text!r} is no {'whole number' if kind is int else 'number'}")
                return None

        return read

    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=form, allow_abbrev=False
    )
    groups: dict[str, Any] = {name: parser.add_argument_group(name) for name in (_FOLDER, _SERVED)}
    for each in fields(ScoreSettings):
        more = dict(each.metadata)
        kind, group = more.pop("kind"), groups.get(more.pop("group", ""), parser)
        if kind is bool:
            more["action"] = "store_true"
        else:
            more["type"] = number(kind) if kind in (int, float) else kind
        group.add_argument(_flag(each.name), default=exam if each.name == "exam" else each.default, **more)
    found, unknown = parser.parse_known_args(argv)
    flags = [flag for action in parser._actions for flag in action.option_strings]
    for flag in unknown:
        near = get_close_matches(flag.partition("=")[0], flags, 1) if flag.startswith("-") else []
        wrong.append(f"{flag} is no setting" + (f"; {near[0]} is" if near else "; --help lists them"))
    # What could not be read was told; the usual value stands in for it so that the rest is checked, too.
    values = {key: parser.get_default(key) if value is None else value for key, value in vars(found).items()}
    values["trained_on"] = tuple(values["trained_on"])
    values["output"] = values["output"] or output_of(found.model, found.exam)
    settings = ScoreSettings(**values)
    if wrong := [*wrong, *problems(settings)]:
        raise ScoreSettingsError(wrong)
    return settings


def output_of(model: str | None, exam: str) -> Path:
    """Where a score goes if nobody says: into the model's folder, else under ``runs``."""
    name = Path(exam).name.partition("@")[0].partition(".")[0]
    if model and Path(model).is_dir():
        return Path(model) / name
    return Path("runs") / (Path(model).name if model else "served") / name


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
