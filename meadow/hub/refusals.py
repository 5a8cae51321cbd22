"""What is not sent to the Hub unless a person says so, and why."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.parquet as pq

from meadow.core.licenses.judge import Answer, judge
from meadow.core.manifest import Manifest, PartTaken
from meadow.core.store import PRIVACY, Store, StoreError
from meadow.hub import HubError


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a person lets pass.

    Attributes:
        sample: Datasets built from samples, and models trained on them.
        terms: Datasets, or models' data, by name, whose terms give no leave to pass them on.
        privacy: Rows with findings that nobody masked.
        public_exam: Exams in repositories that everybody can read.
    """

    sample: bool = False
    terms: frozenset[str] = frozenset()
    privacy: bool = False
    public_exam: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not sent.

    Attributes:
        what: The dataset with its version, or the model.
        reason: Why not.
        option: What lifts it.
    """

    what: str
    reason: str
    option: str


class RefusedError(HubError):
    """What must not be sent unless a person says otherwise.

    Attributes:
        refusals: Each with its reason, and the option that lifts it.
    """

    def __init__(self, refusals: Sequence[Refusal], rest: str = "") -> None:
        self.refusals = tuple(refusals)
        alike: dict[tuple[str, str], list[str]] = {}
        for each in refusals:
            alike.setdefault((each.reason, each.option), []).append(each.what)
        lines = "".join(
            f"\n  - {', '.join(whats)}: {reason} ({option} sends {'it' if len(whats) == 1 else 'them'} all the same)"
            for (reason, option), whats in alike.items()
        )
        super().__init__(f"refused, and nothing was sent:{lines}{rest}")


def of_dataset(manifest: Manifest, store: Store, *, public: bool, allowed: Allowed) -> list[Refusal]:
    """Why a version of a dataset may not be sent to a repository, which everybody can read where it is `public`."""
    name, what = manifest.name, f"{manifest.name} {manifest.version}"
    found = []
    parts = manifest.mixture.parts if manifest.mixture else ()
    if (manifest.sample or any(part.taken and part.sample for part in parts)) and not allowed.sample:
        reason = "built from the sample that comes with Meadow, which is not the real data"
        found.append(Refusal(what, reason, "--allow-sample"))
    answer = redistribution(manifest)
    if name not in allowed.terms and not answer.answer.startswith("yes"):
        reason = f"leave to pass its rows on: {answer.answer}. {' '.join(answer.because)}"
        found.append(Refusal(what, reason, f"--allow-terms {name}"))
    if not allowed.privacy and (reason := _unmasked(manifest, store)):
        found.append(Refusal(what, reason, "--allow-privacy"))
    if manifest.test_only and public and not allowed.public_exam:
        reason = "an exam, for scoring only; in a public repository it ends up in what models are trained on; use --private"
        found.append(Refusal(what, reason, "--allow-public-exam"))
    return found


def redistribution(manifest: Manifest) -> Answer:
    """Whether the rows of a dataset may be passed on, judged anew from the terms in its manifest."""
    parts = manifest.mixture.licensing if manifest.mixture else {}
    return judge(parts or {"": manifest}).redistribution


def hides_example(manifest: Manifest) -> bool:
    """Whether the example row of a dataset stays out of its card and manifest.

    That of an exam would teach its answer to whoever trains on cards, and a row that nobody may pass on
    stands in a card as much as in a Parquet file. This holds for private repositories, too: they can be made
    public with one click.
    """
    return manifest.test_only or not redistribution(manifest).answer.startswith("yes")


def _unmasked(manifest: Manifest, store: Store) -> str:
    """Says that rows hold what could identify a person; empty where none is known to."""
    if manifest.mixture is not None:
        parts = (part for part in manifest.mixture.parts if part.taken and not part.sample)
        return "; ".join(dict.fromkeys(filter(None, (_of_part(part, store) for part in parts))))
    if manifest.sample:
        return ""  # written for Meadow; the people in it are invented
    screened = manifest.privacy
    if screened is None or screened.policy == "off":
        return "its rows were not screened for personal data; build it with --privacy mask"
    if screened.policy != "flag":
        return ""
    counts = screened.findings
    path = store.folder(manifest.name, manifest.version) / PRIVACY
    total = max(sum(counts.values()), pq.read_metadata(path).num_rows if path.is_file() else 0)
    if not total:
        return ""
    types = ", ".join(f"{kind} {n:,}" for kind, n in sorted(counts.items(), key=lambda i: (-i[1], i[0])))
    return (
        f"{total:,} findings that could identify a person, in {screened.rows:,} of its rows, were not masked "
        f"({types or 'see ' + PRIVACY}); look at them with `meadow privacy {manifest.name}`, or build it with "
        "--privacy mask"
    )


def _of_part(part: PartTaken, store: Store) -> str:
    policy, name = part.privacy.policy, part.dataset
    if policy in ("mask", "drop"):
        return ""
    if policy != "flag":
        return (
            f"its rows from {name} were not screened for personal data; build that with --privacy mask first"
        )
    with contextlib.suppress(StoreError):
        manifest = store.manifest(name, part.version)
        found = manifest.privacy.findings if manifest.privacy else {"": 1}
        if manifest.rows_sha256 == part.rows_sha256 and not sum(found.values()):
            return ""
    return (
        f"its rows from {name} may hold findings that could identify a person and were not masked; build "
        f"{name} with --privacy mask, then the mixture again"
    )
