"""Multiple choice: two options that read the same, an answer that contradicts its key."""

from __future__ import annotations

import re
import unicodedata

from meadow.core.row import Example
from meadow.parse.options import INSTRUCTION

SAME_OPTIONS = "two options with the same text"
CONTRADICTS = "answer contradicts its key"

_FORM = re.compile(r"([A-Z])(?:[:.)]\s+(.*))?$", re.DOTALL)


def _same(text: str) -> str:
    """An option as others are compared to it. Letter case, signs and exponents tell options apart."""
    text = " ".join(unicodedata.normalize("NFC", text).split()).strip()
    if text[-1:] == "." and text[-2:-1].isalpha() and " " in text:
        text = text[:-1]
    # "Aspirin" is "aspirin", but "Mg" is not "mg".
    if len(text) > 5 and text[0].isupper() and text[1:6].isalpha() and text[1:6].islower():
        text = text[0].lower() + text[1:]
    return text


def problem_of_options(example: Example) -> tuple[str, str] | None:
    texts: dict[str, str] = {}
    for option in example.options:
        text = _same(option.text)
        if text in texts:
            return SAME_OPTIONS, f"{texts[text]} and {option.key}: {option.text[:80]!r}"
        texts[text] = option.key
    by_key = {option.key: option.text for option in example.options}
    key, output = example.answer_key, example.output.strip()
    if key is not None and key not in by_key or not output:
        return None  # `meadow.core.row.problem` says so
    if example.instruction == INSTRUCTION:
        # The instruction promises "B: text"; the letter or the text alone are as good. The text goes first,
        # since "E. coli" is no option E.
        said, form = texts.get(_same(output)), _FORM.match(output)
        if said is None and form and form[1] in by_key:
            said = form[1]
            if form[2] is not None and _same(form[2]) != _same(by_key[said]):
                return CONTRADICTS, f"{output[:80]!r} is no option"
        if said is None:
            return (CONTRADICTS, f"{output[:80]!r} is no option") if key is None else None
        return (CONTRADICTS, f"it is {output[:80]!r}, the key is {key}") if key not in (None, said) else None
    # Elsewhere the first line may be the key ("yes") or the text of an option; what follows explains it.
    first = output.split("\n", 1)[0].strip()
    said = first if first in by_key else texts.get(_same(first))
    if key is not None and said is not None and said != key:
        return CONTRADICTS, f"it begins with {first[:80]!r}, the key is {key}"
    return None
