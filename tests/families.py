"""Tokenizers of the families that templates are tested on, made without network in a second.

Each is made as its models have it: the same pre-tokenizer, byte handling and special tokens, with a small
vocabulary trained on the words below.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: What their vocabularies are trained on: the templates' words, some medicine, and other scripts.
TEXTS = [
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n### Instruction:\n\n### Input:\n"
    "\n\n### Response:\n",
    "Please answer with one of the options in the bracket.\n\nA: Aspirin\nB: Warfarin\nC: Heparin\nAnswer: B",
    " ".join(f"Answer: {letter} or {letter}, ({letter}) {letter}" for letter in "ABCDE" * 3),
    "A 45-year-old man comes to the physician because of a 3-day history of pain in his right great toe.",
    "Gout is an arthritis caused by crystals of monosodium urate; allopurinol 100 mg lowers uric acid.",
    "Ménière's disease: vertigo, tinnitus and hearing loss. Größe, naïve, café, 37.5 °C, β-blocker.",
] * 3

#: Special tokens as chat models have them.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
#: Turns in brackets, with spaces that belong to neither side alone.
BRACKETS = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'system' %}"
    "{{ raise_exception('no system messages here') }}{% else %}"
    "{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
#: Header tokens, and a date that changes from day to day unless it is given.
HEADERS = (
    "{{ bos_token }}{{ '<|head|>system<|/head|>\n\nToday: ' + (date_string if date_string is defined else "
    "strftime_now('%d %b %Y')) + '<|eot|>' }}{% for message in messages %}{{ '<|head|>' + message['role'] + "
    "'<|/head|>\n\n' + message['content'] | trim + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\n\n' }}{% endif %}"
)
#: A model that thinks first, unless it is told not to; its answers in a conversation hold an empty thought.
THINKS = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% if asks_for_thoughts is defined %}{{ '<think>' }}{% endif %}{% endif %}"
)
CHATS = {"chatml": CHATML, "brackets": BRACKETS, "headers": HEADERS, "thinks": THINKS}

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def llama(**settings: Any) -> Any:
    """LLaMA 1 and 2: sentencepiece's BPE over the whole text, a space before it, bytes for the rest, BOS."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaTokenizer

    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    made = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="always"), pre_tokenizers.Digits(individual_digits=True)]
    )
    words = [text.replace("\n", " ") for text in TEXTS]
    made.train_from_iterator(
        words, trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    )
    model = json.loads(made.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = LlamaTokenizer(vocab=model["vocab"], merges=merges, **{"add_bos_token": True, **settings})
    return _whole(tokenizer)


def byte_level(*, like: str = "gpt2", chat: str | None = None) -> Any:
    """Byte-level BPE: as GPT-2 cuts words and without BOS, or as LLaMA 3 does, with BOS.

    Args:
        like: ``gpt2`` or ``llama3``; the latter's punctuation takes the line ends after it along.
        chat: A key of `CHATS`, for a tokenizer with that chat template.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = {"gpt2": ["<|endoftext|>"], "llama3": ["<|begin|>", "<|eot|>", "<|head|>", "<|/head|>"]}[like]
    if chat in ("chatml", "thinks"):
        special += ["<|im_start|>", "<|im_end|>"]
    if chat == "brackets":
        special += ["<s>", "</s>"]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_GPT2 if like == "gpt2" else _LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    bos, eos = {
        "chatml": (None, "<|im_end|>"),
        "thinks": (None, "<|im_end|>"),
        "brackets": ("<s>", "</s>"),
        "headers": ("<|begin|>", "<|eot|>"),
        None: (None, "<|endoftext|>") if like == "gpt2" else ("<|begin|>", "<|eot|>"),
    }[chat]
    if like == "llama3" and bos:
        made.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, made.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=bos,
        eos_token=eos,
        clean_up_tokenization_spaces=False,
        chat_template=CHATS[chat] if chat else None,
    )


def _whole(tokenizer: Any) -> Any:
    # Without this it has no more than the vocabulary and would not begin a text with BOS.
    tokenizer.update_post_processor()
    return tokenizer


def sentencepiece_model(folder: Path) -> Path:
    """A folder with only ``tokenizer.model`` as sentencepiece itself writes it, as the first LLaMAs have it."""
    import sentencepiece

    (folder / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts.txt"),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=600,
        byte_fallback=True,
        split_digits=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    for name in ("texts.txt", "tokenizer.vocab"):
        (folder / name).unlink()
    special = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(special), encoding="utf-8")
    return folder
