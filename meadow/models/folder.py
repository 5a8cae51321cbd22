"""Model folders: what must be true of one before any library opens it, and its fingerprint.

Everything here reads JSON and the first bytes of files, so that a wrong folder is told from a right one in
milliseconds, without torch, and before gigabytes are read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from meadow.models.errors import ModelError, explained
from meadow.models.prompts import FILE

__all__ = [
    "adapter_base", "check_adapter", "check_folder", "code_asked", "existing_folder", "fingerprint", "has_tokenizer",
    "is_adapter", "read_json", "some",
]  # fmt: skip

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
GENERATION = "generation_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"

#: Files that a tokenizer can be made of.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tekken.json")
#: What decides a model's answers besides its weights.
_FINGERPRINTED = (
    *TOKENIZER_FILES,
    *"config.json adapter_config.json generation_config.json tokenizer_config.json merges.txt".split(),
    *"added_tokens.json special_tokens_map.json chat_template.jinja chat_template.json".split(),
    FILE,
)
#: Files into which libraries write who wrote them, under these names; a later version writes another.
_STAMPED = (CONFIG, GENERATION)
_STAMPS = ("transformers_version", "_name_or_path")
_PICKLES = {".bin", ".pt", ".pth", ".ckpt"}
#: Not weights, though named like some.
_NO_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|rng_state.*|scaler)\.(bin|pt|pth)")
_LFS = b"version https://git-lfs"
_GGUF = "GGUF files are for llama.cpp: give the folder of the model that they were made from"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model folder; a `ModelError` where it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelError(_pointer(path) or f"{path} is no JSON ({error}): copy the model again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no JSON object: copy the model again")
    return found


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, to be put on a base model."""
    return (folder / ADAPTER).is_file()


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer of its own."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def existing_folder(path: Path | str, what: str = "model") -> Path:
    """The folder of that path; a `ModelError` where there is none says what a model is given as."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        hint = _GGUF if folder.suffix == ".gguf" else f"give the folder it lies in: {folder.parent}"
        raise ModelError(f"{what} {path} is a file, and a model is a folder: {hint}")
    hint = "check the path"
    if not folder.is_absolute() and re.fullmatch(r"[^./~][^/]*(/[^/]*)?", str(path)):
        hint = (
            "a name on a hub is not looked up, for nothing is fetched: copy the model's files (config.json, "
            "*.safetensors, tokenizer) into a folder and give its path"
        )
    raise ModelError(f"{what} {path}: there is no such folder; {hint}")


def check_folder(path: Path | str, *, allow_pickle: bool = False) -> dict[str, Any]:
    """The ``config.json`` of a folder with a causal language model that can be loaded safely.

    Raises:
        ModelError: There is none; the message names everything that is wrong.
    """
    folder = existing_folder(path)
    if not (folder / CONFIG).is_file():
        there = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
        raise ModelError(f"{folder} is no model folder: it has no {CONFIG} (it holds {there}){_hint(folder)}")
    config = read_json(folder / CONFIG)
    asked = code_asked(folder, CONFIG, TOKENIZER_CONFIG, GENERATION)
    _refuse(folder, [*asked, *_architecture(config), *_weights(folder, allow_pickle)])
    return config


def _refuse(folder: Path, problems: list[str]) -> None:
    if problems:
        raise ModelError(f"{folder}: {'; '.join(problems)}")


def _hint(folder: Path) -> str:
    if any(folder.glob("consolidated.*.pth")) or (folder / "params.json").is_file():
        return (
            "; these look like Meta's own files: convert them with transformers' convert_llama_weights_to_hf"
        )
    if any(folder.glob("*.gguf")):
        return f"; {_GGUF}"
    inner = [path.parent for name in (CONFIG, ADAPTER) for path in sorted(folder.glob(f"*/{name}"))]
    return f"; did you mean {inner[-1]}?" if inner else ""


def code_asked(folder: Path, *names: str) -> Iterator[str]:
    """Requests of a folder's files to run code that lies there, a sentence each."""
    for name in names:
        found = read_json(folder / name) if (folder / name).is_file() else {}
        if found.get("auto_map") or found.get("custom_generate"):
            yield (
                f"{name} asks for code of its own to be run (auto_map), which is never done; where transformers "
                f"knows the architecture itself ({found.get('model_type', 'see model_type')}), take auto_map "
                "out of it"
            )


def _architecture(config: dict[str, Any]) -> Iterator[str]:
    kind, names = config.get("model_type"), config.get("architectures") or []
    if not kind:
        yield f"{CONFIG} names no model_type, so it is no transformers model"
    elif config.get("is_encoder_decoder"):
        yield f"it is an encoder-decoder ({kind}), and a decoder such as LLaMA is needed"
    elif names and not any(
        str(name).endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in names
    ):
        yield f"it is no causal language model but {', '.join(map(str, names))}"


def _weights(folder: Path, allow_pickle: bool) -> Iterator[str]:
    """What is wrong with the weight files of a folder."""
    index = folder / "model.safetensors.index.json"
    files = sorted(folder.glob("*.safetensors"))
    if index.is_file():
        names = sorted(set(map(str, read_json(index).get("weight_map", {}).values())))
        files = [folder / name for name in names]
        if missing := [path.name for path in files if not path.is_file()]:
            yield f"weights are missing: {some(missing)} of {len(files)} files that {index.name} names"
        if outside := [str(path) for path in files if path.parent != folder]:
            yield f"{index.name} names files outside the folder: {some(outside)}"
    pickles = [] if index.is_file() else _pickles(folder)
    yield from _damages(folder, files, pickles, allow_pickle, "weights (*.safetensors)")


def _damages(
    folder: Path, files: list[Path], pickles: list[Path], allow_pickle: bool, what: str
) -> Iterator[str]:
    """What is wrong with safetensors, or with there being none."""
    if not files and not pickles:
        yield f"it holds no {what}: copy it again, whole{_hint(folder)}"
    elif not files and not allow_pickle:
        yield (
            f"its weights are pickles ({some([path.name for path in pickles])}), which can run code when they are "
            "opened: convert them to safetensors on a machine where that does no harm, or allow them "
            "(--allow-pickle) if you trust who made them"
        )
    with explained():
        from safetensors import SafetensorError, safe_open
    for path in filter(Path.is_file, files):
        try:
            with safe_open(path, framework="np"):
                pass
        except OSError as error:
            yield f"{path.name} cannot be read: {error.strerror or error}"
        except SafetensorError as error:
            yield _pointer(path) or (
                f"{path.name} is no safetensors file, or was cut off, or has a damaged header ({error}): copy it again"
            )


def check_adapter(folder: Path, *, allow_pickle: bool = False) -> dict[str, Any]:
    """The ``adapter_config.json`` of an adapter that can be loaded safely; else a `ModelError`."""
    if not is_adapter(folder):
        raise ModelError(f"{folder} is no adapter folder: it has no {ADAPTER}")
    config = read_json(folder / ADAPTER)
    name = "adapter_model.safetensors"
    files, pickles = list(folder.glob(name)), list(folder.glob("adapter_model.bin"))
    problems = list(_damages(folder, files, pickles, allow_pickle, name))
    if not config.get("peft_type"):
        problems.append(f"{ADAPTER} names no peft_type, so it is no adapter of peft")
    _refuse(folder, problems)
    return config


def adapter_base(folder: Path | str) -> Path:
    """The base model's folder as an adapter names it, from its own or the current one, or a `ModelError`."""
    folder = Path(folder)
    name = read_json(folder / ADAPTER).get("base_model_name_or_path")
    if not name:
        raise ModelError(f"{folder / ADAPTER} names no base model: give its folder (--base)")
    for place in (folder / str(name), Path(str(name)).expanduser()):
        if place.is_dir():
            return place
    raise ModelError(
        f"{folder} is an adapter for the model {name}, and there is no such folder here: give the folder of "
        "that model (--base)"
    )


def _pickles(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if path.suffix in _PICKLES)
    return sorted(path for path in found if not _NO_WEIGHTS.fullmatch(path.name))


def some(names: list[str]) -> str:
    """The first of many names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _pointer(path: Path) -> str | None:
    """What to say of a file that is only a pointer of Git LFS; None of another."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if file.read(len(_LFS)) == _LFS:
            return f"{path.name} is only a pointer of Git LFS: run `git lfs pull` where the model came from"
    return None


def fingerprint(folder: Path | str) -> str:
    """A SHA-256 of what decides a model's answers: weights, configuration, tokenizer, template.

    It is made of the names and SHA-256 digests of those files, in the order of the names; nothing else in the
    folder counts. The digest of an unchanged file is kept for the process.

    Raises:
        ModelError: There is no such folder, it holds none of those files, or one cannot be read.
    """
    folder = existing_folder(folder)
    weights = list(folder.glob("*.safetensors")) or _pickles(folder)
    other = [folder / name for name in _FINGERPRINTED if (folder / name).is_file()]
    files = sorted({*weights, *other})
    if not files:
        raise ModelError(f"{folder} holds nothing of a model")
    try:
        with ThreadPoolExecutor(4) as threads:  # hashlib lets other threads run while it works
            digests = list(threads.map(_sha256, files))
    except OSError as error:
        raise ModelError(f"{error.filename} cannot be read: {error.strerror or error}") from error
    whole = hashlib.sha256()
    for path, digest in zip(files, digests, strict=True):
        whole.update(f"{path.name}\0{digest}\n".encode())
    return whole.hexdigest()


def _sha256(path: Path) -> str:
    status = path.stat()
    return _hashed(str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=256)
def _hashed(path: str, size: int, changed: int, inode: int) -> str:
    if Path(path).name in _STAMPED:
        # What is no JSON object has only its bytes to go by.
        with contextlib.suppress(ValueError, AttributeError):
            found = json.loads(Path(path).read_bytes())
            kept = {key: value for key, value in found.items() if key not in _STAMPS}
            return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
