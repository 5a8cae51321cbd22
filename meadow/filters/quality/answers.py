"""Answers that are none: they lead elsewhere, stop where they cannot, repeat the question, contradict the key."""

from __future__ import annotations

import re
import unicodedata

from meadow.core.quality import Quality
from meadow.core.row import Example
from meadow.parse.options import INSTRUCTION

#: Longer answers say something beside the link; the longest seen on real pages is under half of it.
_POINTER = 200
_URL = re.compile(r"(?:https?://|www\.)\S+|\b(?:doi|pmid):?\s*\S+", re.IGNORECASE)
_LINK_WORDS = frozenset(
    "a about also an and answer are article at available be by can check click complete detail details directions "
    "download find following for found from full further go good great have here how image img in info information is it its link "
    "links look material may more of official on online or out page pages paper photo picture please pdf read reading refer reference "
    "references resource see similar site source sources take that the there these this to try useful video view visit "
    "watch website wikipedia with you your".split()
)
_LEADS = re.compile(
    r"\b(?:here|links?|this (?:article|page|paper|site|website|video|pdf)|click)\b", re.IGNORECASE
)
# What is left of a page's footer once its link is gone.
_FOOTER = re.compile(
    r"\W*(?:directions to hospitals (?:treating|performing) [^.\n]{1,80}|medical care for [^.\n]{1,80} can be found here"
    r"|(?:for|to|please|if you)\b[^.!?\n]{1,120}[ ,]click (?:here|(?:on )?this link))\W*",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")

_THING = (
    r"(?:tables?|figures?|fig\.|images?|pictures?|photo(?:graph)?s?|diagrams?|graphs?|charts?|illustrations?|slides?|algorithms?|lists?|box(?:es)?"
    r"|sections?|chapters?|attachments?|flow ?charts?|drawings?|screenshots?|videos?)"
)
_PLACE = r"(?:above|below|(?:on|in) the (?:right|left|next|previous|following|back)(?: \w+)?|attached|here|[0-9]+[A-Za-z]?|[A-Z]\b)"
_POINTS = re.compile(
    rf"(?:please |also |kindly |for (?:more |further )?(?:details?|information),? |the )?"
    rf"(?:(?:see|refer to|look at|check|view|consult|compare)(?: also)? (?:the |this |our |these )?"
    rf"(?:(?:above|below|following|attached|accompanying|previous|next|preceding) )?(?:(?:\w+ )?{_THING}(?: {_PLACE})*|above|below|attached|previous (?:answer|card|question))"
    rf"|(?:see|refer to|consult)(?: also)? (?:the |this )?(?:(?:\w+ )?{_THING}(?: {_PLACE})+|(?:above|below|attached|accompanying) {_THING}) for [^.:;\n]{{1,60}}"
    rf"|(?:(?:the|your|this) (?:answers?|details?|information)|it|this|that|they|these) (?:is|are|can be) (?:(?:shown|seen|found|listed|given|pictured|depicted|illustrated|described|explained|answered|summari[sz]ed) )?(?:on|in) (?:the |this )?(?:(?:above|below|following|attached|previous) )?(?:\w+ )?{_THING} {_PLACE}(?: {_PLACE})*"
    rf"|as (?:shown|seen|described|listed|illustrated|depicted|mentioned|noted|stated|above)(?: (?:in|on|by) (?:the |this )?(?:(?:above|below|following|attached|previous) )?(?:\w+ )?{_THING})?(?: {_PLACE})*"
    rf"|(?:shown|listed|given|pictured|depicted|illustrated|described|answered|summari[sz]ed) (?:above|below|(?:in|on) (?:the |this )?(?:(?:above|below|following|attached|previous) )?(?:\w+ )?{_THING}(?: {_PLACE})*)"
    rf"|{_THING} (?:above|below|attached|(?:on|in) the (?:right|left|next|previous|following|back)(?: \w+)?))",
    re.IGNORECASE,
)  # fmt: skip


def only_link(answer: str) -> bool:
    # Only a list of addresses is ever longer.
    if len(answer) > (2000 if answer.startswith(("http", "www.", "[")) else _POINTER):
        return False
    if _FOOTER.fullmatch(answer):
        return True
    rest, addresses = _URL.subn(" ", answer)
    words = _WORD.findall(rest.lower())
    if addresses:
        return all(word in _LINK_WORDS or word.isdigit() for word in words)
    return len(words) > 1 and all(word in _LINK_WORDS for word in words) and _LEADS.search(answer) is not None


def only_reference(answer: str) -> bool:
    if len(answer) > _POINTER:
        return False
    sentences = [part.strip(" \t()[]*_.:;!-–—>") for part in re.split(r"(?<=[.!;])\s+|\n+", answer)]
    sentences = [part for part in sentences if part]
    return bool(sentences) and all(map(_POINTS.fullmatch, sentences))


_CUT_MARK = re.compile(
    r"(?:\[\s*(?:\.\.\.|…)\s*\]|\((?:continued|cont['’]?d\.?)\)|\(abstract truncated[^)]*\)|(?:^|(?<=[.!?…\n]))\W*(?:read more|continue reading|show more|see more)\W{0,3})\s*$",
    re.IGNORECASE,
)
_ELLIPSIS = re.compile(r"\w\s?(?:\.{3,5}|…)$")
# What no sentence ends with. "To", "with" or "in" can end one ("the clinic that you were referred to").
_CUT = (
    " the", " an", " and", " or", " of", " than", " because", " whose", " its", " their", " your", " our", " nor", " such as", " due to",
    " which is", " that are", "(", "[", ",",
)  # fmt: skip


def truncated(answer: str, thresholds: Quality) -> str | None:
    end = answer[-80:].rstrip()
    last = end[-1:]
    if last in ".…":
        # Most answers end here.
        if end.endswith(("..", "…")) and thresholds.ellipsis and _ELLIPSIS.search(end):
            return end
        if not end[-6:-1].lower().endswith("more") and not end.endswith("…"):
            return None
    if (last in "])…" or "more" in end[-12:].lower()) and _CUT_MARK.search(end):
        return end
    if last == ":" and len(answer) <= thresholds.announced:
        words = _WORD.findall(end)
        # "2:" may be a ratio; an announcement has words. So does "Either:", alone.
        if words and not words[-1].isdigit():
            return end
    if len(answer) >= thresholds.truncated_from and end.endswith(_CUT):
        return end
    return None


_LOOSE = re.compile(r"[\s.?!:;,\"'“”‘’*_#()]+")


def repeats(question: str, answer: str) -> bool:
    if abs(len(question) - len(answer)) > 40:
        return False
    first, other = _WORD.search(question), _WORD.search(answer)
    if first is None or other is None or first[0].casefold() != other[0].casefold():
        return False
    question, answer = (_LOOSE.sub(" ", text).strip() for text in (question, answer))
    if len(answer) > 20:
        question, answer = question.casefold(), answer.casefold()
    return question == answer


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
