"""Reads the option that a model chose from what it wrote.

The parser is anchored: an answer stands at the beginning, after nothing but words that announce it ("The answer
is"), or in a line of its own that announces it. A letter somewhere in a sentence is no answer; nor is the word "A".
What could be read in two ways is not read at all: it counts as wrong, and as `unparsed`, so that nobody mistakes
a parser's luck for a model's knowledge.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["HOW", "ReadAnswer", "parse"]

#: What `ReadAnswer.how` can be.
HOW: Mapping[str, str] = {
    "letter": "the letter of an option, with or without words that are no option's",
    "letter and text": "the letter of an option and its text",
    "text": "the whole text of one option and nothing else",
    "statement": "a later line that says 'the answer is' of one option",
    "empty": "nothing was written",
    "several": "more than one option is put forward",
    "disagree": "the letter of one option and the text of another",
    "negated": "an option is named as a wrong one",
    "none": "no option at the beginning",
}


@dataclass(frozen=True)
class ReadAnswer:
    """The letter of the chosen option, None if none could be read, and by which form or why not: a key of `HOW`."""

    key: str | None
    how: str


_SPACE = re.compile(r"\s+")
#: Emphasis and code marks of Markdown, HTML tags of emphasis, LaTeX boxes: they mean nothing here.
_MARKS = re.compile(
    r"\*+|`+|~~|(?<![^\W_])_+|_+(?![^\W_])|</?(?:b|strong|em|i|p|answer|u|span)>|<br\s*/?>|"
    r"\\(?:boxed|text|textbf|mathbf|mathrm)\s*(?=\{)|\$+|\\[()\[\]]",
    re.IGNORECASE,
)
#: The reasoning that some models write first, in tags of its own.
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?</\1>", re.IGNORECASE | re.DOTALL)
_OPEN_THOUGHT = re.compile(r"<(?:think|thinking|reasoning)>", re.IGNORECASE)
_BRACES = re.compile(r"\{+([^{}]*)\}+")
#: Marks of lists, quotes and headings at the beginning of a line.
_BULLET = re.compile(r"^(?:[#>\-+•–—]+\s+|#+|\s)+")
_QUOTES = "\"'“”‘’«»„"

_KIND = r"(?:option|choice|answer|alternative|letter|response)"
_GRADE = r"(?:single\s+|most\s+)?(?:correct|right|best|final|likely|appropriate|suitable|accurate|probable|chosen|selected)"
#: Words that announce an answer. They end before the answer itself.
_LEAD = re.compile(
    rf"""(?:
        (?:(?:so|thus|therefore|hence|ok|okay|sure|certainly|well|yes)\s*[,.!:]?\s+)?
        (?:
            (?:in\s+(?:this|that)\s+case|based\s+on\s+(?:this|the\s+information(?:\s+(?:given|provided))?))\s*,?\s+
        )?
        (?:
            (?:the|my|our)\s+(?:{_GRADE}\s+)?(?:{_GRADE}\s+)?{_KIND}
                (?:\s+(?:to|for)\s+(?:the|this)\s+(?:multiple[ -]choice\s+)?question|\s+(?:here|would|should|must))?
                \s*(?:is|be|was|[:=\-]|→|->)+\s*
          | (?:{_GRADE}\s+)?(?:{_GRADE}\s+)?{_KIND}\s*(?:is\b|[:=]|→|->|\s[-–—]\s)\s*
          | (?:it|this|that)(?:\s+is|['’]s|\s+would\s+be|\s+must\s+be|\s+should\s+be)\s+
          | (?:i|we)\s+(?:(?:would|will|'d|’d)\s+)?(?:choose|pick|select|answer|say|go\s+with|go\s+for)\s*:?\s+
          | i['’](?:d|ll)\s+(?:choose|pick|select|answer|say|go\s+with|go\s+for)\s*:?\s+
          | ans(?:wer)?\s*[.:]\s*
        )
        (?:most\s+likely\s+|probably\s+|clearly\s+|likely\s+)?
        (?:(?:the\s+)?{_KIND}\s*:?\s+(?=[\[({{{_QUOTES}]*[A-Za-z](?![A-Za-z])))?
      | (?:the\s+)?{_KIND}\s+(?=[\[({{{_QUOTES}]*[A-Za-z](?![A-Za-z]))
    )""",
    re.IGNORECASE | re.VERBOSE,
)
#: A line that gives the answer after others that reason: it must announce it in full.
_STATED = re.compile(
    rf"^(?:(?:so|thus|therefore|hence|in\s+conclusion|in\s+summary|overall)\s*,?\s+)?(?:the\s+)?(?:{_GRADE}\s+)?"
    rf"(?:answer|option|choice)\s*(?:is|:)",
    re.IGNORECASE,
)
#: A letter as an answer: in brackets or not. What follows it is judged by `_after`.
_LETTER = re.compile(
    rf"[{_QUOTES}]*(?:(?P<open>[(\[{{<])\s*(?P<inside>[A-Za-z])\s*[.:]?\s*[)\]}}>]|(?P<bare>[A-Za-z])(?![^\W_]))"
)
#: Words by which a sentence goes on about an option that was named.
_GOES_ON = re.compile(
    r"(?:because|since|as|this|that|the|it|these|due|which|given|in|for|based|explanation|reason|rationale|"
    r"correct|right|true|yes)\b",
    re.IGNORECASE,
)
_IS_RIGHT = re.compile(
    rf"(?:is|was|would\s+be|seems|must\s+be)\s+(?:clearly\s+|probably\s+|most\s+likely\s+)?(?:the\s+)?{_GRADE}\b",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"^\W*(?:(?:(?:is|was|are|would\s+be|can\s*be|could\s+be|seems|option|answer|it)\s+)*"
    r"(?:not|incorrect|wrong|false|unlikely|never|ruled\s+out|excluded)\b|(?:is|was|can|could|would|does)n['’]t\b|cannot\b)",
    re.IGNORECASE,
)


def parse(text: str, options: Mapping[str, str]) -> ReadAnswer:
    """Reads the option that a model chose.

    Accepted: ``B``, ``B.``, ``(B) x``, ``B) x``, ``B: x``, ``**B**``, ``Option B``, ``The answer is B: x``, and an
    option's whole text alone. Refused: a letter that is a word (``A 45-year-old man``), several options
    (``I would pick option C or D``), a letter with another option's text, an option called wrong, a letter that is
    no option.

    Args:
        text: What the model wrote.
        options: The texts of the options by their letter, as they were shown.
    """
    text = _THOUGHT.sub("\n", unicodedata.normalize("NFKC", text))
    if _OPEN_THOUGHT.search(text):
        # It never came to an answer.
        return ReadAnswer(None, "none")
    # Reasoning whose opening tag stood in the prompt.
    text = re.split(r"</(?:think|thinking|reasoning)>", text, flags=re.IGNORECASE)[-1]
    lines = [line for line in (_clean(line) for line in text.splitlines()) if line]
    if not lines:
        return ReadAnswer(None, "empty")
    texts = {key: _plain(value) for key, value in options.items()}
    # "The correct answer is" with a line break before the answer.
    while len(lines) > 1 and (lead := _LEAD.match(lines[0] + " ")) and lead.end() >= len(lines[0]):
        lines = lines[1:]
    found = _line(lines[0], texts)
    if found.key is not None:
        # A list of several options is no choice of the first; an explanation of the others is none either.
        if len(lines) > 1 and (found.how != "letter" or len(lines[0]) <= 4):
            following = _line(lines[1], texts, lead=False)
            # "A: incorrect, since ..." explains; "A: <text of A>" puts it forward.
            if following.key not in (None, found.key) and (following.how != "letter" or len(lines[1]) <= 4):
                return ReadAnswer(None, "several")
        for line in lines[1:]:
            if _STATED.match(line) and _line(line, texts).key not in (None, found.key):
                return ReadAnswer(None, "several")
        return found
    if found.how != "none":
        return found
    stated = [_line(line, texts) for line in lines[1:] if _STATED.match(line)]
    stated = [parsed for parsed in stated if parsed.how != "none"]
    if len({parsed.key for parsed in stated}) > 1:
        return ReadAnswer(None, "several")
    if stated:
        return ReadAnswer(stated[0].key, "statement" if stated[0].key else stated[0].how)
    return found


def _clean(line: str) -> str:
    """A line without marks that mean nothing."""
    line = _SPACE.sub(" ", _MARKS.sub("", line)).strip()
    line = _BULLET.sub("", line + " ").strip()
    return _BRACES.sub(r"\1", line)


def _plain(text: str) -> str:
    """A text as it is compared: without case, marks, and what may stand around it."""
    text = _SPACE.sub(" ", _MARKS.sub("", unicodedata.normalize("NFKC", text))).strip().casefold()
    return text.strip(_QUOTES + " ").rstrip(".,;:! ").strip(_QUOTES + " ")


def _line(line: str, texts: Mapping[str, str], lead: bool = True) -> ReadAnswer:
    """Reads one line. `texts` are plain."""
    whole = _same(_plain(line), texts)
    if len(whole) > 1:
        return ReadAnswer(None, "several")
    rest, led = line, False
    if not whole and lead and (match := _LEAD.match(line)):
        rest, led = line[match.end() :].lstrip(" :"), True
        whole = _same(_plain(rest), texts)
        if len(whole) > 1:
            return ReadAnswer(None, "several")
    letter = _LETTER.match(rest)
    key = (letter["inside"] or letter["bare"]) if letter else None
    if whole:
        # Such as blood group "A" as option C: the text of one and the letter of another.
        alone = _plain(rest).strip("()[]{}<>")
        if len(alone) == 1 and alone.upper() in texts and alone.upper() != whole[0]:
            return ReadAnswer(None, "disagree")
        return ReadAnswer(whole[0], "letter and text" if alone.upper() == whole[0] else "text")
    if letter is None or key is None:
        return ReadAnswer(None, "negated" if _NEGATED.match(rest) else "none")
    if key.upper() not in texts:
        return ReadAnswer(None, "none")
    behind, bracket, small = rest[letter.end() :], bool(letter["open"]), key.islower()
    how = _after(key.upper(), behind, texts, bracket=bracket, small=small, led=led)
    return ReadAnswer(key.upper() if how in ("letter", "letter and text") else None, how)


def _after(key: str, rest: str, texts: Mapping[str, str], *, bracket: bool, small: bool, led: bool) -> str:
    """Judges a letter by what stands after it: a key of `HOW`."""
    match = re.match(rf"[{_QUOTES}]*\s*([.:)\]\-–—,=]|->|→)?[{_QUOTES}]*(\s*)(.*)$", rest, re.DOTALL)
    assert match is not None
    mark, gap, words = match[1] or "", match[2], match[3].strip(_QUOTES + " ")
    if not mark and rest[:1].isspace():
        gap = " "
    if not words.strip(".!,;: )]"):
        # The letter alone. A small one is a word too, but not if it is all that was written.
        return "letter"
    plain = _plain(words)
    if _several(key, mark, rest, texts):
        return "several"
    begun = _begins(plain, texts)
    if begun and key in begun:
        after = plain[len(texts[key]) :]
        # In "B: x or C: y" the second is put forward too.
        if _SECOND.match(after) and (_names_other(after, key, texts) or (key != "A" and _OR_A.search(words))):
            return "several"
        if _NEGATED.match(after):
            return "negated"
        return "letter and text"
    if begun:
        # "B: x" where x is the text of C. A bare letter before it is a word ("a ...").
        return "disagree" if mark or bracket else "none"
    if mark == "," and re.match(rf"not\s+(?:{_KIND}\s+)?[(]?[A-Z]\b", words):
        return "letter"
    if _NEGATED.match(words):
        return "negated"
    if re.match(r"\W*[A-Za-z]\b\s*(?:[.:)\]]|$)", words) and _names_other(words, key, texts):
        # "C: B", "A: B: C:"
        return "several"
    if _IS_RIGHT.match(words):
        return "letter"
    if small and not bracket and mark != ")":
        # "a: ...", "a 45-year-old": too much of a word.
        return "none"
    if mark in (":", ")", "]", "->", "→", "=") or bracket:
        # "A:1", a ratio.
        return "none" if mark == ":" and not gap and re.match(r"\d", words) else "letter"
    if mark == ".":
        # "E. coli", "C. difficile", "A.M.": a letter with a full stop is also an abbreviation.
        goes_on = words[0].isupper() or words[0] in "([" or _GOES_ON.match(words)
        return "letter" if gap and goes_on else "none"
    if mark in ("-", "–", "—"):
        # "B - x" is an answer, "B-cell" a word.
        return "letter" if gap and rest[:1].isspace() else "none"
    if mark == ",":
        # "A, B and C are all ..." was seen to above.
        return "letter" if re.match(r"(?:because|since|as|not|which|due|given)\b", words, re.I) else "none"
    # A bare letter before words: only where the words say that it was a letter.
    said = re.match(r"(?:because|since|due\s+to|as\s+(?:the|this|it)|[.;!]|\()", words, re.IGNORECASE)
    return "letter" if led and said else "none"


_AND = re.compile(
    rf"^\W{{0,3}}(?:,|/|&|\+|;|\bor\b|\band\b|\bvs\b|\bversus\b|\bnor\b|\bto\b|,\s*and\b|,\s*or\b)+\W*"
    rf"(?:(?:also|then|possibly|perhaps|maybe|either|the)\s+)?(?:{_KIND}\s+)?[(\[{_QUOTES}]*([A-Za-z])(?![^\W_]|['’][a-z])",
    re.IGNORECASE,
)
#: What may lead to a second answer: "B: x or C", "B: x, C: y", "B: x C: y", "(B) x (C) y".
_SECOND = re.compile(r"\W*(?:[,;/&]|\bor\b|\band\b|[(\[]?[a-z]\s*[:.)\]])")
_OR_A = re.compile(r"(?:\bor|\band|[/,&])\s*[(\[]?A(?:\W*$|[.:)\]])")


def _several(key: str, mark: str, rest: str, texts: Mapping[str, str]) -> bool:
    """Whether another letter is put beside the first: "C or D", "A, B", "A/C", "(A) and (B)", "A-C"."""
    match = _AND.match(rest)
    if match is None and mark in ("-", "–", "—"):
        match = re.match(r"^\W{1,3}([A-Z])(?![^\W_])", rest)
    if match is None:
        return False
    other = match[1]
    # "B, a disease of ..." names one option: the article is small.
    return other.isupper() and other != key and other in texts


def _names_other(words: str, key: str, texts: Mapping[str, str]) -> bool:
    """Whether an option other than `key` is at the beginning of the words, by its letter or by its text."""
    words = re.sub(rf"^(?:\W|\bor\b|\band\b|\b{_KIND}\b)+", "", words, flags=re.IGNORECASE)
    letter = re.match(r"([A-Za-z])(?![^\W_])(\s*[:.)\]])?", words)
    if letter and letter[1].upper() in texts and letter[1].upper() != key:
        # "a" is an article, unless its mark or its case make it a letter.
        return letter[1] != "a" or bool(letter[2])
    begun = _begins(_plain(words), texts)
    return bool(begun) and key not in begun


def _same(plain: str, texts: Mapping[str, str]) -> list[str]:
    """The options whose text that is."""
    return [key for key, text in texts.items() if text and text == plain]


def _begins(plain: str, texts: Mapping[str, str]) -> list[str]:
    """The options with whose text that begins; only those with the longest such text."""
    fits = {
        key: len(text)
        for key, text in texts.items()
        if text and plain.startswith(text) and not re.match(r"[^\W_]", plain[len(text) :])
    }
    longest = max(fits.values(), default=0)
    return [key for key, length in fits.items() if length == longest]
