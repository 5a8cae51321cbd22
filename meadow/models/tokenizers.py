"""Tokenizers of model folders: with an end, with the beginning that the model knows, with a token to pad with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meadow.models import folder as folders
from meadow.models.environment import offline
from meadow.models.errors import ModelError, explained

__all__ = ["check_vocabulary", "choose_pad", "load_tokenizer"]

#: Tokens that vocabularies keep for padding, in the order they are tried.
_PADS = ("<pad>", "[PAD]", "<|pad|>", "<PAD>", "<|finetune_right_pad_id|>", "<|padding|>", "<|PAD_TOKEN|>")


def load_tokenizer(folder: Path | str) -> Any:
    """The tokenizer of a model folder, with an EOS, and with BOS before a text where LLaMA has it.

    A LLaMA's folder with only ``tokenizer.model`` gets it, which recent transformers leave out then.

    Raises:
        ModelError: There is none, it cannot be read, or it has no EOS.
    """
    offline()
    folder = folders.existing_folder(folder)
    if not folders.has_tokenizer(folder):
        raise ModelError(
            f"{folder} holds no tokenizer ({', '.join(folders.TOKENIZER_FILES[:2])}): copy the model's own there"
        )
    path = folder / folders.TOKENIZER_CONFIG
    config = folders.read_json(path) if path.is_file() else {}
    if asked := list(folders.code_asked(folder, folders.TOKENIZER_CONFIG)):
        raise ModelError(f"{folder}: {'; '.join(asked)}")
    # An empty text for a special token, as early LLaMA conversions have it, recurses without end inside.
    empty = [key for key in ("bos_token", "eos_token", "unk_token") if _content(config.get(key)) == ""]
    if empty:
        raise ModelError(
            f"{path}: {', '.join(empty)} is empty, as in early conversions of LLaMA: set bos_token to <s>, "
            "eos_token to </s> and unk_token to <unk> (for other models: see their vocabulary)"
        )
    converted = not (folder / "tokenizer.json").is_file()
    if converted and (folder / "tokenizer.model").is_file():
        with explained():
            # Converting it needs both; without them transformers asks for tiktoken, which does not help.
            import google.protobuf  # noqa: F401
            import sentencepiece  # noqa: F401
    with explained(f"{folder}: its tokenizer cannot be read"):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_fast=True
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"{folder}: its tokenizer has no end-of-sequence token, so that a model could never learn to stop: "
            f"set eos_token in {folders.TOKENIZER_CONFIG}"
        )
    silent = converted and "add_bos_token" not in config and tokenizer.bos_token == "<s>"
    if silent and type(tokenizer).__name__.startswith(("Llama", "CodeLlama")):
        tokenizer.add_bos_token = True
        tokenizer.update_post_processor()
    return tokenizer


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def choose_pad(tokenizer: Any, rows: int | None = None) -> str:
    """Gives a tokenizer the token to pad with, if it has no good one.

    In this order: its own pad token, if that is not EOS; a token that its vocabulary keeps for padding; the
    unknown token, which byte-level and byte-fallback vocabularies never produce; EOS, which is safe only
    because attention and labels are masked by position everywhere here, never by the id. None is taken beyond
    the `rows` that the model knows. Returns the rule it was chosen by.
    """
    vocabulary = tokenizer.get_vocab()
    kept = "a token that the vocabulary keeps for padding"
    candidates = [
        (tokenizer.pad_token, "the tokenizer's own pad token"),
        *((token, kept) for token in _PADS),
        (tokenizer.unk_token, "the unknown token, for there is no pad token"),
    ]
    for token, rule in candidates:
        number = vocabulary.get(token)
        known = number is not None and (rows is None or number < rows)
        if known and number not in (tokenizer.eos_token_id, tokenizer.bos_token_id):
            if token != tokenizer.pad_token:
                tokenizer.pad_token = token
            return rule
    tokenizer.pad_token = tokenizer.eos_token
    return "the end-of-sequence token, for there is neither a pad nor an unknown token"


def check_vocabulary(tokenizer: Any, place: Path, model: Path, rows: int) -> None:
    """Refuses a tokenizer from one folder that is not of the model of another, which knows `rows` tokens."""
    # Added tokens that a tokenizer merely lists, such as a pad beyond the embeddings, are common; ordinary
    # ones beyond them, or its ends, mean another model's tokenizer.
    ends = [number for number in (tokenizer.bos_token_id, tokenizer.eos_token_id) if number is not None]
    count = max(tokenizer.vocab_size, *(number + 1 for number in ends))
    if count > rows:
        raise ModelError(
            f"the tokenizer of {place} has {count:,} tokens and the model of {model} knows {rows:,}: "
            "it is another model's tokenizer"
        )
