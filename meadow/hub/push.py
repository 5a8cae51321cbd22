"""Sends built datasets to the Hub: large files first, then one commit, then tags.

Until the commit a repository is as it was, whatever happens; what was uploaded by then is not sent again by the
next run. The commit names the one that it follows, so that it is never put on top of what somebody else did
meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete

from meadow.core.errors import UsageError
from meadow.core.store import Store, default_out, write_whole
from meadow.hub import HubError, StaleError
from meadow.hub.client import Client
from meadow.hub.layouts import CollectionRepository, SingleRepository
from meadow.hub.plan import Plan
from meadow.hub.refusals import Allowed, Refusal, RefusedError

#: The names of the repositories that hold one dataset each, as people know them.
PREFIX = "medical_meadow_"
#: Names of repositories.
REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_PUSHED = ".meadow/pushed.json"
#: What a new repository holds on its own.
_INITIAL = (".gitattributes", "README.md")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Pushed:
    """What came of a push to one repository.

    Attributes:
        plan: What was to be done.
        commit: The commit that holds it; None for a dry run.
        new: Whether that commit was made now.
        address: Where people find the repository.
    """

    plan: Plan
    commit: str | None
    new: bool
    address: str


def push(
    names: Sequence[str],
    repo: str,
    *,
    out: Path | str | None = None,
    private: bool = False,
    one_per_dataset: bool = False,
    tag: bool = False,
    dry_run: bool = False,
    allowed: Allowed | None = None,
    parent: str | None = None,
    say: Say = lambda line: None,
) -> list[Pushed]:
    """Sends built datasets to the Hub, and returns what came of it, per repository.

    Args:
        names: Datasets or sources by name, or ``all``.
        repo: ``ORG/NAME``; with `one_per_dataset` ``ORG`` does, too.
        out: The output folder; None for ``$MEADOW_OUT`` or the user's cache.
        private: Whether repositories that are made now are private.
        one_per_dataset: A repository per dataset, ``ORG/medical_meadow_<dataset>``.
        tag: Whether versions become tags.
        dry_run: Whether to plan only; the Hub is read, and nothing is written.
        allowed: What a person lets pass.
        parent: The commit that a person has seen, and that may be built upon.
        say: Told what is being done.

    Raises:
        UsageError: A name is none, or options do not go together.
        RefusedError: Something must not be sent; then nothing is.
        StaleError: Somebody else changed what this would replace.
        HubError: Anything else that went wrong; repositories are as they were.
        meadow.core.store.StoreError: A manifest cannot be read.
    """
    allowed = allowed or Allowed()
    store = Store(Path(out) if out else default_out())
    found = _chosen(store, names)
    unknown = sorted(allowed.terms - set(found))
    if unknown:
        raise UsageError(f"--allow-terms {unknown[0]}: it is not among what is pushed: {', '.join(found)}")
    if parent is not None and not re.fullmatch(r"[0-9a-f]{7,40}", parent):
        raise UsageError(f"--parent {parent}: a commit is 7 to 40 hexadecimal digits")
    targets = _targets(repo, found, one_per_dataset)
    if parent is not None and len(targets) > 1:
        raise UsageError("--parent names a commit of one repository; push these datasets one by one")
    client = Client("dataset")
    if not dry_run:
        client.need_token()
    with tempfile.TemporaryDirectory(prefix="meadow-push-") as scratch:
        plans = []
        refusals: list[Refusal] = []
        for number, (target, mine) in enumerate(targets):
            say(f"reading {target}")
            work = Path(scratch) / str(number)
            work.mkdir()
            layout = (SingleRepository if one_per_dataset else CollectionRepository)(
                repo=target,
                names=mine,
                store=store,
                client=client,
                scratch=work,
                allowed=allowed,
                private=private,
                tag=tag,
                parent=parent,
                last=_last_pushes(store).get(client.address(target)),
            )
            plans.append(layout.plan())
            refusals += layout.refusals
        if refusals:
            # Without its options the line would push what was to be private to where everybody reads it.
            flags = {"--private": private, "--one-per-dataset": one_per_dataset, "--tag": tag}
            more = [f"--out {shlex.quote(str(out))}"] if out else []
            more += [flag for flag, given in flags.items() if given]
            bad = {refusal.what.split(" ")[0] for refusal in refusals}
            rest = [name for name in found if name not in bad]
            line = " ".join(["meadow push", *rest, f"--repo {repo}", *more])
            raise RefusedError(refusals, f"\nthe others can travel: {line}" if rest else "")
        if dry_run:
            return [Pushed(plan, None, False, client.address(plan.repo)) for plan in plans]
        done = []
        for plan in plans:
            done.append(send(plan, client, say))
            _remember(store, done[-1])
        return done


def send(plan: Plan, client: Client, say: Say = lambda line: None) -> Pushed:
    """Does what a plan says.

    Raises:
        StaleError: The repository has changed since it was planned.
        HubError: It could not be done; the repository is as it was.
    """
    state = plan.state
    if not state.head:
        say(f"making {plan.repo}")
        client.create(plan.repo, private=plan.private)
        state = client.state(plan.repo)
        if not state.head:
            raise HubError(f"{plan.repo} was made, and cannot be read; push again")
        if plan.private and not state.private:
            raise HubError(f"{plan.repo} was made public by somebody else just now; nothing was sent")
        if not set(state.files) <= set(_INITIAL):
            raise StaleError(f"{plan.repo} was made and filled by somebody else just now; push again")
    head = state.head
    new = bool(plan.adds or plan.deletes)
    if new:
        operations = [
            CommitOperationAdd(path, file.source if isinstance(file.source, bytes) else str(file.source))
            for path, file in sorted(plan.adds.items())
        ]
        say(f"uploading {len(plan.adds)} files to {plan.repo}")
        client.upload(plan.repo, operations)
        for operation in operations:
            if operation.upload_info.sha256.hex() != plan.adds[operation.path_in_repo].sha256:
                raise HubError(f"{operation.path_in_repo} changed while it was being pushed; push again")
        plan.check()
        deletes = [CommitOperationDelete(path) for path in plan.deletes]
        head = client.commit(plan.repo, [*operations, *deletes], plan.message, state.head, plan.landed)
    for tag in plan.tags:
        say(f"tagging {plan.repo} {tag}")
        client.tag(plan.repo, tag, head)
    return Pushed(plan, head, new, client.address(plan.repo))


def _chosen(store: Store, names: Sequence[str]) -> list[str]:
    """The datasets that names stand for: datasets, sources, or ``all``."""
    there = store.names()
    by_source: dict[str, list[str]] = {}
    for name in there:
        by_source.setdefault(store.manifest(name).source, []).append(name)
    found: dict[str, None] = {}
    for name in names:
        mine = there if name == "all" else [name] if name in there else by_source.get(name, [])
        if not mine:
            known = ", ".join(there) or "none"
            raise UsageError(
                f"{name if name != 'all' else 'nothing'} is not built in {store.root}; there are: {known}. Build with "
                "`python -m meadow.build`"
            )
        found.update(dict.fromkeys(mine))
    return sorted(found)


def _targets(repo: str, names: Sequence[str], one_per_dataset: bool) -> list[tuple[str, list[str]]]:
    targets = [(repo, list(names))]
    if one_per_dataset:
        targets = [(f"{repo.split('/')[0]}/{PREFIX}{name}", [name]) for name in names]
    for target, _ in targets:
        if not REPO.fullmatch(target) or "--" in target or ".." in target or target.endswith(".git"):
            raise UsageError(f"--repo {repo}: {target} is no name of a repository; write it as ORG/NAME")
    return targets


def _last_pushes(store: Store) -> dict[str, str]:
    """The commits that this output folder's last pushes left behind, by the repository's address."""
    try:
        found = json.loads((store.root / _PUSHED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: at for key, at in found.items() if isinstance(at, str)} if isinstance(found, dict) else {}


def _remember(store: Store, done: Pushed) -> None:
    path = store.root / _PUSHED
    found = {**_last_pushes(store), done.address: done.commit}
    # A folder that can only be read is pushed from all the same.
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        write_whole(path, json.dumps(found, indent=2, sort_keys=True) + "\n")
