"""Sends a fine-tuned model to the Hub: weights as safetensors, tokenizer, template, record, card.

Only what is needed to use the model and to know what it was made of travels. Pickles run code on whoever opens
them, so no pickle does; checkpoints, states of optimizers, settings and logs are of the run, not of the model.
Paths of the machine that trained, which its record and its configuration hold, are cut down to their last part.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from meadow.core.errors import UsageError
from meadow.describe.cards import MODEL, merge_cards
from meadow.hub import HubError, StaleError
from meadow.hub.client import Client
from meadow.hub.files import LocalFile, without_places
from meadow.hub.plan import Plan
from meadow.hub.push import REPO, Pushed, send
from meadow.hub.refusals import Allowed, Refusal, RefusedError
from meadow.hub.repository import is_private

RUN, CARD = "run.json", "README.md"
#: What makes a model, beside its weights: configuration, tokenizer and template, as transformers and peft name them.
_PARTS = re.compile(
    r"config\.json|generation_config\.json|adapter_config\.json|tokenizer\.json|tokenizer_config\.json"
    r"|special_tokens_map\.json|added_tokens\.json|vocab\.(?:json|txt)|merges\.txt|(?:tokenizer|spiece)\.model"
    r"|sentencepiece\.bpe\.model|chat_template\.(?:jinja|json)|additional_chat_templates|meadow_template\.json"
    r"|processor_config\.json|preprocessor_config\.json|loss[\w.-]*\.(?:svg|png)"
    r"|(?:model|adapter_model|diffusion_pytorch_model)\.safetensors\.index\.json"
)
_WEIGHTS = re.compile(r"[\w.-]+\.safetensors")
_PICKLE = re.compile(r".*\.(?:bin|pt|pth|pkl|pickle|ckpt|joblib|npy|npz|msgpack|h5)")
#: A header of safetensors is at most this long (the format's own limit).
_HEADER = 100_000_000
_PATH = re.compile(r"(?:/|~|\.\.?[\\/]|file:|[A-Za-z]:[\\/]|\\\\).*")
#: Files of settings, which name where base model and tokenizer were loaded from, and the keys that do: other texts
#: in them may be tokens that begin with a slash.
_SETTINGS = re.compile(r"(?:[a-z]+_)?config\.json")
_CUT = "paths of this machine in record, card and configurations are cut down to their last part"
_PLACES = re.compile(r".*(?:path|_file)")


def push_model(
    folder: Path | str,
    repo: str,
    *,
    private: bool = False,
    dry_run: bool = False,
    allowed: Allowed | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Pushed:
    """Sends a finished model to the Hub.

    Args:
        folder: A run's output: ``run.json``, ``README.md``, weights as safetensors.
        repo: ``ORG/NAME``; for this and the rest see `meadow.hub.push.push`.

    Raises:
        UsageError: `repo` or a name in `allowed` is none.
        RefusedError: It must not be sent.
        StaleError: Somebody else changed the repository meanwhile, or its weights are not of a run.
        HubError: The folder holds no finished model, or it could not be sent.
    """
    folder, allowed = Path(folder), allowed or Allowed()
    if not REPO.fullmatch(repo):
        raise UsageError(f"--repo {repo}: write it as ORG/NAME")
    run = read_run(folder)
    files, stays = files_of(folder, run)
    names = {base_name(run), *(str(entry.get("name")) for entry in run["data"])}
    unknown = sorted(allowed.terms - names)
    if unknown:
        raise UsageError(
            f"--allow-terms {unknown[0]}: the model is made of {', '.join(sorted(names))}; name one of these"
        )
    refusals = of_model(folder, run, allowed)
    if refusals:
        raise RefusedError(refusals)
    client = Client("model")
    if not dry_run:
        client.need_token()
    say(f"reading {repo}")
    state = client.state(repo)
    private = is_private(repo, state, private)
    remote = state.files
    theirs = sorted(path for path in remote if _weight_like(path)) if RUN not in remote else []
    if theirs:
        raise StaleError(
            f"{repo}: {', '.join(theirs[:3])} is there and no {RUN}, so somebody else put it there, and this model would "
            "replace it; push to another repository, or delete it on the Hub"
        )
    with tempfile.TemporaryDirectory(prefix="meadow-push-") as scratch:
        if CARD in remote:
            existing = client.read(repo, CARD, state.head, Path(scratch))
            files[CARD] = LocalFile(merge_cards(MODEL, files[CARD].text, existing).encode())
        adds = {path: file for path, file in files.items() if not file.same(remote.get(path))}
        # Shards of earlier weights would be read together with these.
        deletes = [path for path in remote if path not in files and _weight_like(path)]
        plan = Plan(
            repo=repo,
            kind="model",
            state=state,
            private=private,
            adds=adds,
            deletes=deletes,
            unchanged=len(files) - len(adds),
            stays=stays,
            notes=[_CUT],
            message=f"Meadow: {folder.resolve().name}",
        )
        return Pushed(plan, None, False, client.address(repo)) if dry_run else send(plan, client, say)


def read_run(folder: Path) -> dict[str, Any]:
    """The record of a finished run; raises HubError where there is none."""
    path = folder / RUN
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HubError(
            f"{path}: {error.strerror}; only a finished run can be pushed: name the --output folder of the recipe"
        ) from error
    except ValueError as error:
        raise HubError(f"{path}: no JSON: {error}; copy the model folder again") from error
    data = run.get("data") if isinstance(run, dict) else None
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise HubError(f"{path}: it has no list `data`, so nobody can say what the model was trained on")
    if not isinstance(run.get("base_model"), dict):
        raise HubError(f"{path}: it has no `base_model`, so nobody can say what the model was made of")
    return run


def base_name(run: Mapping[str, Any]) -> str:
    """What the base model is called, without where it lay."""
    base = run["base_model"]
    return _last_part(str(base.get("name") or base.get("path") or "base model"))


def files_of(folder: Path, run: Mapping[str, Any]) -> tuple[dict[str, LocalFile], list[tuple[str, str]]]:
    """What of a model's folder travels, and what stays and why.

    Raises:
        HubError: There is no card, or there are no weights, or they are no safetensors.
    """
    files: dict[str, LocalFile] = {}
    stays: list[tuple[str, str]] = []
    for path in sorted(folder.iterdir()):
        name = path.name
        if path.is_symlink() or not path.is_file():
            why = "a checkpoint is no model" if "checkpoint" in name else "no file of a model"
            if not name.startswith("."):
                stays.append((f"{name}/" if path.is_dir() else name, why))
        elif name in (RUN, CARD):
            text = _json(_cut(run)) if name == RUN else LocalFile(path).text
            files[name] = LocalFile(without_places(text, [folder]).encode())
        elif _WEIGHTS.fullmatch(name):
            _check_weights(path)
            files[name] = LocalFile(path)
        elif _PARTS.fullmatch(name):
            files[name] = _settings(path) if _SETTINGS.fullmatch(name) else LocalFile(path)
        elif not name.startswith("."):
            pickle = _PICKLE.fullmatch(name)
            stays.append((name, "a pickle runs code on whoever opens it" if pickle else "no file of a model"))
    if CARD not in files:
        raise HubError(
            f"{folder}: it has no {CARD}; a model without a card is not sent: write it with its recipe"
        )
    weights = {name for name in files if _WEIGHTS.fullmatch(name)}
    if not weights:
        pickles = [name for name, _ in stays if _PICKLE.fullmatch(name)]
        raise HubError(
            f"{folder}: it has no weights as safetensors"
            + (f", only {', '.join(pickles)}, which run code on whoever opens them" if pickles else "")
            + "; save the model with save_pretrained(), which writes safetensors"
        )
    _check_shards(folder, weights)
    return files, stays


def of_model(folder: Path, run: Mapping[str, Any], allowed: Allowed) -> list[Refusal]:
    """Why a model may not be sent."""
    what, found = folder.resolve().name, []
    samples = [str(entry.get("name")) for entry in run["data"] if entry.get("sample")]
    if samples and not allowed.sample:
        reason = f"it was trained on the samples of {', '.join(samples)}, which are not the real data"
        found.append(Refusal(what, reason, "--allow-sample"))
    base = base_name(run)
    if not run["base_model"].get("license") and base not in allowed.terms:
        reason = f"the licence of its base model {base} is not known, and nobody can pass on what he has no leave for"
        found.append(Refusal(what, reason, f"--allow-terms {base}"))
    for entry in run["data"]:
        name = str(entry.get("name"))
        if name in allowed.terms or entry.get("trained_rows") == 0:
            continue
        training = (entry.get("license_verdict") or {}).get("training") or {}
        answer = str(training.get("answer") or "unknown")
        if not answer.startswith("yes"):
            because = " ".join(map(str, training.get("because") or ()))
            reason = f"training on {name}: {answer}. {because}".rstrip()
            found.append(Refusal(what, reason, f"--allow-terms {name}"))
    return found


def _check_weights(path: Path) -> None:
    """Raises where a file is no safetensors, whatever it is called."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        head = stream.read(length) if 2 <= length <= min(_HEADER, size - 8) else b""
    try:
        header = json.loads(head)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        whole = size == 8 + length + max(ends, default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        raise HubError(
            f"{path}: it is no safetensors file, whatever its name says; save the model again"
        ) from None
    if not whole:
        raise HubError(f"{path}: it is cut off, or has more in it than its header says; save the model again")


def _check_shards(folder: Path, weights: set[str]) -> None:
    for index in folder.glob("*.safetensors.index.json"):
        try:
            wanted = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise HubError(f"{index}: it cannot be read: {error}; save the model again") from error
        missing = sorted(wanted - weights)
        if missing:
            raise HubError(
                f"{folder}: {', '.join(missing)} is missing, which {index.name} names; save it again"
            )


def _settings(path: Path) -> LocalFile:
    """A file of settings without paths of this machine; the file itself where it has none."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HubError(f"{path}: no JSON: {error}; save the model again") from error
    cut = _cut(read, _PLACES)
    return LocalFile(path if cut == read else _json(cut).encode())


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _weight_like(path: str) -> bool:
    return _WEIGHTS.fullmatch(path) is not None or path.endswith(".safetensors.index.json")


def _cut(value: Any, keys: re.Pattern[str] | None = None, key: str = "") -> Any:
    """A record or settings with paths cut down to their last part: all, or those under certain keys."""
    if isinstance(value, Mapping):
        return {name: _cut(inner, keys, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_cut(inner, keys) for inner in value]
    return _last_part(value) if isinstance(value, str) and (keys is None or keys.fullmatch(key)) else value


def _last_part(text: str) -> str:
    """What is after the last slash, of a text that is a path; any other as it is."""
    if not _PATH.fullmatch(text) or len(text) == 1:
        return text
    return re.split(r"[\\/]+", text.rstrip("\\/"))[-1] or text
