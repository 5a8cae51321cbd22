"""Prompts: one definition renders training text, label mask and inference prompt.

A `Template` is data. `encode` makes a row to train on from it, `prompt_ids` the prompt to ask with; both go
through the same code, so that a prompt at inference is, token by token, the beginning of the row that was
trained on. Three rules hold everywhere:

* **The boundary.** Prompt and answer never share a token. The prompt is tokenised by itself; the answer is
  tokenised as it stands after the template's last words, which depend on no row.
* **The beginning.** The token that begins a sequence (BOS) is put there, at training and at inference alike,
  where the tokenizer itself would put it; a chat template says so itself.
* **The end.** An answer ends with the end-of-sequence token (a chat's with what ends the turn), which is
  trained on, except where the answer was cut: a model must not learn to stop in mid-sentence.

A row that is longer than the model may read loses the middle of its *input*, at most down to `INPUT_KEPT` of
it, before its answer loses anything; an answer is cut only at its end, and only if `ANSWER_KEPT` of it stays.
What cannot be kept so is `Refused`, with a reason that is short and constant, to be counted.

Nothing here imports torch or transformers: a tokenizer is handed in.
"""

from meadow.models.prompts.encoding import (
    ANSWER_KEPT,
    CUT,
    IGNORED,
    INPUT_KEPT,
    Encoded,
    Refused,
    encode,
    messages,
    prompt_ids,
    prompt_text,
)
from meadow.models.prompts.rendering import (
    ChatFrame,
    answer_ids,
    begins_with_bos,
    frame,
    save,
    settled,
    stop_ids,
    usual,
)
from meadow.models.prompts.templates import FILE, TEMPLATES, PromptError, Template, get, load

__all__ = [
    "ANSWER_KEPT", "CUT", "FILE", "IGNORED", "INPUT_KEPT", "TEMPLATES", "ChatFrame", "Encoded", "PromptError",
    "Refused", "Template", "answer_ids", "begins_with_bos", "encode", "frame", "get", "load", "messages", "prompt_ids",
    "prompt_text", "save", "settled", "stop_ids", "usual",
]  # fmt: skip
