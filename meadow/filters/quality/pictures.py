"""Questions that cannot be answered without a picture that the row lacks."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Without first letters, so that texts need not be put into small ones: that takes longer than all of this.
_PICTURE_SIGNS = (
    "mage", "icture", "igure", "hoto", "icrograph", "iagram", "rawing", "llustration", "xhibit", "creenshot", "arrow",
    "circle", "letter ", "label", "highlighted", "marked", "pointed", " shown", "displayed", "depicted", "oes this ", "o these ",
)  # fmt: skip
_MENTION_SIGNS = (" shown", " displayed", "(see ", "(Fig", "(Image", " in Fig", " in fig")
_SHOT = r"(?:images?|pictures?|photos?|photographs?|photomicrographs?|micrographs?|figures?|diagrams?|drawings?|illustrations?|exhibits?|screenshots?)"
_STUDY = r"(?:x-?rays?|radiographs?|ECGs?|EKGs?|electrocardiograms?|CTs?|MRIs?|scans?|ultrasounds?|angiograms?|slides?|smears?|spirometr(?:y|ies)|audiograms?)"
_MARKED = r"(?:labell?ed|marked|pointed (?:to|at)|highlighted|circled)"
_PART = (
    r"(?:structure|muscle|bone|nerve|vessel|artery|vein|organ|region|area|cell|lesion|organism|point|layer)s?"
)
# Sentences that only somebody who sees the picture can answer.
_ASKS_PICTURE = re.compile(
    rf"\b(?:shown|seen|pictured|depicted|displayed|indicated|illustrated|visible|presented|demonstrated|outlined|given|drawn|{_MARKED})"
    rf" (?:here )?(?:in|on|by|with|at|as) (?:the |this |that |these |an? )?(?:(?:following|above|below|attached|accompanying|red|blue|green|yellow|black|white|dashed|dotted) )*"
    rf"(?:{_SHOT}\b(?! of\b)|arrows?\b|circles?\b(?! of\b)|letters? [A-Z]\b|number [0-9]+\b)"
    rf"|\b(?:above|below|following|attached|accompanying) {_SHOT}\b|\b{_SHOT} (?:above|below|attached|shown|provided)\b|\bfigures? [A-H1-9]\b"
    rf"|\bin this (?:image|picture|photo|photograph|diagram|drawing|illustration|micrograph|photomicrograph)\b(?! of\b)"
    rf"|\b(?:what|which \w+) (?:is|are|does|do) (?:this|these) {_SHOT} (?:show|depict|illustrate|demonstrate|of\b)"
    rf"|^\W*(?:identify|name) (?:the |this |these )?(?:\w+ ){{1,4}}(?:shown|pictured|depicted|{_MARKED})(?: here| above| below| [A-Z0-9])?\W*$"
    rf"|\b{_PART} (?:that )?(?:is |are )?{_MARKED}(?: (?:as )?[A-Z0-9]\b| here| in (?:red|blue|green|yellow))?\W*$",
    re.IGNORECASE,
)  # fmt: skip
_THIS_STUDY = re.compile(
    rf"\bwhat (?:does|do) (?:this|these) {_STUDY} (?:show|reveal|demonstrate)\b", re.IGNORECASE
)
_MENTIONS = re.compile(
    rf"\b(?:is|are) (?:shown|pictured|depicted|displayed)(?: (?:here|below|in the {_SHOT}[^.?!\n]{{0,30}}|in figures? [^.?!\n]{{1,20}}))?\s*\."
    rf"|\(see (?:the )?{_SHOT}[^)\n]{{0,20}}\)|\((?:figures?|images?) [A-Z0-9](?: and [A-Z0-9])?\)|\bas shown in the {_SHOT}\b|\b(?:shown|seen|demonstrated) in (?:figures?|images?) [A-H1-9]\b",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"\W*(?:identify|name|label|describe|which|what|where|who|how|why|interpret)\b", re.IGNORECASE
)
#: So many characters of a case say what its picture shows.
_CASE = 80


def _asking(text: str) -> Iterator[tuple[int, str]]:
    """The sentences that ask something, with the place each begins at.

    Those with a question mark; in a text without one, the first and the last if they begin as orders
    and questions do.
    """
    at, start = text.find("?"), 0
    if at < 0:
        text = text.strip()
        cut = max(text.rfind(". ", 0, -1), text.rfind("\n")) + 1
        if cut and _ASKS.match(text):
            yield 0, text[: text.find(". ") + 1 or text.find("\n")]
        if _ASKS.match(text, cut):
            yield cut, text[cut:].strip()
    while at >= 0:
        start = max(
            start,
            text.rfind(". ", start, at) + 1,
            text.rfind("\n", start, at) + 1,
            text.rfind("! ", start, at) + 1,
        )
        yield start, text[start : at + 1].strip()
        start = at + 1
        at = text.find("?", start)


def picture(question: str) -> tuple[bool, str]:
    """Whether a question cannot be answered without a picture, and the words that mention one."""
    for start, sentence in _asking(question):
        for sign in _PICTURE_SIGNS:
            if sign in sentence:
                break
        else:
            continue
        if _ASKS_PICTURE.search(sentence) or (start < _CASE and _THIS_STUDY.search(sentence)):
            if "\n|" in question:  # a table of its own may be what is "shown below"
                break
            return True, sentence
    for sign in _MENTION_SIGNS:
        if sign in question:
            found = _MENTIONS.search(question)
            return False, found[0] if found else ""
    return False, ""
