"""``meadow push``: built datasets, or a fine-tuned model, to the Hugging Face Hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from meadow.cli import console
from meadow.cli.options import OUT, argument, flag, option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meadow.hub.push import Pushed

EPILOG = (
    "The token is that of `hf auth login`, or HF_TOKEN. Exit code: 0 all is there, 1 it could not be sent or was "
    "refused, 2 wrong use."
)


def push(
    names: list[str] | None = argument("NAME", "all, or datasets or sources by name."),
    repo: str = option("ORG/NAME", "The repository. With --one-per-dataset only ORG counts.", ""),
    out: Path | None = OUT,
    private: bool = flag("--private", "Make the repository private, where it is made now."),
    one_per_dataset: bool = flag(
        "--one-per-dataset", "A repository per dataset: ORG/medical_meadow_DATASET."
    ),
    tag: bool = flag("--tag", "Tag the versions: DATASET-1.0.0, and v1.0.0 for the collection."),
    dry_run: bool = flag("--dry-run", "Print what would travel, to the last file; send nothing."),
    model: Path | None = option("DIR", "Push a fine-tuned model instead of datasets."),
    parent: str | None = option(
        "COMMIT", "Replace what others pushed, up to this commit that you have seen."
    ),
    allow_sample: bool = flag("--allow-sample", "Push what is built from, or trained on, samples."),
    allow_terms: list[str] | None = option(
        "NAME", "Push this dataset though its terms give no leave to pass it on. Can be repeated."
    ),
    allow_privacy: bool = flag("--allow-privacy", "Push rows with findings that nobody masked."),
    allow_public_exam: bool = flag("--allow-public-exam", "Push exams to a public repository."),
) -> None:
    """Upload built datasets to the Hugging Face Hub: changed files only, in one commit.

    Samples, rows that nobody may pass on, rows with personal data that was not masked, and exams (to a public
    repository) are refused, each with its reason, unless an option lets them pass.
    """
    if not repo:
        console.fail("name the repository: --repo ORG/NAME", console.WRONG_USE)
    if model is None and not names:
        console.fail(
            "name what to push: all, or datasets by name; --model DIR pushes a model", console.WRONG_USE
        )
    if model is not None and (
        names or one_per_dataset or tag or parent or allow_privacy or allow_public_exam
    ):
        console.fail(
            "--model goes with --repo, --private, --dry-run, --allow-sample and --allow-terms only",
            console.WRONG_USE,
        )
    from meadow.hub.refusals import Allowed

    allowed = Allowed(allow_sample, frozenset(allow_terms or ()), allow_privacy, allow_public_exam)
    _quieten()
    with console.failing():
        if model is not None:
            from meadow.hub.models import push_model

            done = [
                push_model(model, repo, private=private, dry_run=dry_run, allowed=allowed, say=console.warn)
            ]
        else:
            from meadow.hub.push import push as send

            done = send(
                names or [],
                repo,
                out=out,
                private=private,
                one_per_dataset=one_per_dataset,
                tag=tag,
                dry_run=dry_run,
                allowed=allowed,
                parent=parent,
                say=console.warn,
            )
    console.say(_report(done, dry_run))


def _report(done: Iterable[Pushed], dry_run: bool) -> str:
    lines: list[str] = []
    for each in done:
        lines += each.plan.lines()
        if dry_run:
            continue
        what = "pushed" if each.new else "nothing to send; it is there"
        lines.append(f"  {what}: {each.address}/commit/{each.commit}")
        if each.plan.loads:
            lines.append(f"  {each.plan.loads} loads it, without Meadow, too")
    if dry_run:
        lines.append("dry run: nothing was sent")
    return "\n".join(lines)


def _quieten() -> None:
    """Keeps the client's own lines, which hold signed addresses, off the screen; bars show on terminals only."""
    from huggingface_hub.utils import disable_progress_bars, logging

    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        disable_progress_bars()
