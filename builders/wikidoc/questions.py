"""Headings to questions, and page titles to topics.

WikiDoc splits a disease into microchapters, which are either sections of its page ("Asthma", section
"Causes") or pages of their own ("Asthma causes"). Both give the same question about the same topic. A
heading without a rule gets a generic question that quotes it: "What is known about Landmark Trials in
Asthma?" on a page about the disease, "What should I know about home care for Asthma?" in patient
information, and "Asthma: Is it contagious?" where the heading is a question already.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from .pages import WORDS, words

_REFERENCES, _CHAPTERS, _WEAK_CHAPTERS, _OF_THERAPY = (
    frozenset("|".join(WORDS[name]).split("|"))
    for name in ("references", "chapters", "weak_chapters", "of_therapy")
)
_THERAPIES = dict(entry.split("|") for entry in WORDS["therapies"])
_QUESTION_WORDS, _COMMON_WORDS = words("question_words"), words("common_words")
_DIFFERENTIATING = re.compile(
    r"differentiating\s+(.+?)\s+from\s+(?:other\s+\w+|others?)(?:\s+\w+)?\s*$", re.IGNORECASE
)
#: MediaWiki allows titles of 255 bytes; what is longer is no title, nor a heading that a rule knows.
_LONGEST = 255
_HAS_OBJECT = re.compile(
    rf"(?:{'|'.join(WORDS['has_object'])})"
    r" (?!it\b|this\b|the (?:disease|condition|procedure|test|surgery)\b)[^\s?]",
    re.IGNORECASE,
)


def _normal(heading: str) -> str:
    """A heading as the rules know it: small letters, plain words, no numbering or punctuation."""
    text = heading.casefold().replace("&", " and ").replace("\u2019", "'").replace("'", "")
    text = re.sub(r"\bx[\s-]?rays?\b", "x ray", text)
    text = re.sub(r"^\s*\d+(?:\.\d+)*[.)]?\s+", "", text)
    return " ".join(re.findall(r"\w+", text))


def _read(name: str) -> dict[str, str]:
    """Reads a question per heading, `{}` being the topic. The wordings are Meadow's.

    Headings are written as `_normal` leaves them, alternatives are separated by "|".
    """
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    rules = (line.split("\t") for line in text.splitlines()[1:])
    return {heading: question for headings, question in rules for heading in headings.split("|")}


# WikiDoc's standard microchapters, then the sections of its drug pages.
_QUESTIONS = _read("questions.tsv")
# In patient information the site's own wording is kept, and the disease put in.
_PATIENT_QUESTIONS = _read("patient_questions.tsv")


def is_references(heading: str) -> bool:
    """Whether a section of this heading lists references, links or pictures."""
    return _normal(heading) in _REFERENCES


def is_overview(heading: str) -> bool:
    """Whether the heading is "Overview" or a synonym of it."""
    return _QUESTIONS.get(_normal(heading)) == "What is {}?"


@lru_cache(maxsize=4096)
def split_title(title: str, *, weak: bool = False) -> tuple[str, str]:
    """Splits a microchapter's title into topic and chapter, which is empty for other titles.

    ``Asthma epidemiology and demographics`` gives ``("Asthma", "epidemiology and demographics")``. One-word
    chapters such as "surgery" count if `weak`, see `siblings`.
    """
    if len(title) > _LONGEST:
        return title, ""
    found = _DIFFERENTIATING.fullmatch(title.strip())
    if found:
        topic = found.group(1)
        return topic[0].upper() + topic[1:], "differentiating from other diseases"
    parts = title.split()
    for count in range(min(7, len(parts) - 1), 0, -1):
        chapter = _normal(" ".join(parts[-count:]))
        if chapter in _CHAPTERS or (weak and chapter in _WEAK_CHAPTERS):
            topic = " ".join(parts[:-count]).rstrip(" -:,")
            if _normal(topic):
                return topic, chapter
    return title, ""


def siblings(body: str, topic: str) -> bool:
    """Whether a page's text leads to (other) microchapters of `topic`, by link or template."""
    name = re.escape(topic).replace(r"\ ", "[ _]")
    leads = (
        rf"(?:title=\"|\[\[|\{{\{{){name}(?:[ _](?:overview|causes|pathophysiology|risk|epidemiology|history|historical"
        r"|natural|physical|laboratory|medical|primary|secondary)\b|\s*\}\})"
    )
    return re.search(leads, body, re.IGNORECASE) is not None


def question(heading: str, topic: str, chapter: str = "", *, brief: bool = False) -> str:
    """The question that a section of the living textbook answers, on one line.

    `heading` is empty for the text before the first one; `chapter` is the microchapter that the page is, as
    `split_title` gives it; `brief` says that the page answers the same question at length elsewhere.
    """
    if chapter == "overview":
        chapter = ""
    whole = _QUESTIONS.get(chapter, "What is {}?").format(topic)
    if not heading or is_overview(heading):
        return f"In brief, {whole[0].lower()}{whole[1:]}" if brief or chapter else whole
    name, has_topic = _without_topic(heading, topic)
    if chapter and name == chapter:
        return whole
    rule = _QUESTIONS.get(name)
    place = _THERAPIES[chapter].format(topic) if chapter in _THERAPIES else _phrase(chapter, topic)
    if rule and rule == _QUESTIONS.get(chapter):
        return whole
    if rule:
        return rule.format(place if chapter in _THERAPIES and name in _OF_THERAPY else topic)
    if _is_question(heading):
        return _tidy(heading if has_topic else f"{topic}: {heading}")
    return f"What is known about {_quoted(heading)}{'' if has_topic else f' in {place}'}?"


def patient_question(heading: str, topic: str, *, brief: bool = False) -> str:
    """The question that a section of patient information answers: its heading, with the disease.

    Arguments and result are those of `question`.
    """
    name, has_topic = _without_topic(heading, topic) if heading else ("overview", False)
    if _is_question(heading) and (has_topic or _HAS_OBJECT.match(" ".join(heading.split()))):
        return _tidy(heading)
    rule = _PATIENT_QUESTIONS.get(name)
    if rule == "What is {}?" and brief:
        return f"In brief, what is {topic}?"
    if rule:
        return rule.format(topic)
    if _is_question(heading):
        return _tidy(f"{topic}: {heading}")
    return f"What should I know about {_quoted(heading)}{'' if has_topic else f' for {topic}'}?"


def _without_topic(heading: str, topic: str) -> tuple[str, bool]:
    """The normal form of a heading less the topic ("Causes of asthma"), and whether it was there."""
    heading, topic = heading[:_LONGEST], topic[:_LONGEST]
    name, subject = _normal(heading), _normal(topic)
    found = _DIFFERENTIATING.fullmatch(heading.strip())
    if found:
        return "differentiating from other diseases", True
    if not subject or not re.search(rf"\b{re.escape(subject)}\b", name):
        # A plural or a singular of the topic is the topic.
        single = subject.removesuffix("s")
        found = re.search(rf"\b{re.escape(single)}s?\b", name) if len(single) >= 4 else None
        if not found:
            return name, False
        subject = found.group()
    short = re.sub(
        rf"(?:\b(?:of|for|in|with|to|from) )?(?:\b(?:a|an|the) )?\b{re.escape(subject)}\b", " ", name
    )
    return " ".join(short.split()), True


def _is_question(heading: str) -> bool:
    first = heading.split()[:1]
    return bool(first) and (heading.rstrip().endswith("?") or _normal(first[0]) in _QUESTION_WORDS)


def _tidy(heading: str) -> str:
    return " ".join(heading.split()).rstrip("?!.: ") + "?"


def _quoted(heading: str) -> str:
    """The heading inside a sentence. Only words known to be no names lose their capital."""
    text = " ".join(heading.split()).rstrip("?!.: ")
    first = text.split(" ", 1)[0]
    return text[0].lower() + text[1:] if first.casefold() in _COMMON_WORDS else text


def _phrase(chapter: str, topic: str) -> str:
    """The chapter as a noun: "the pathophysiology of Asthma"; without one, the topic."""
    if not chapter:
        return topic
    rule = _QUESTIONS.get(chapter, "")
    noun = re.sub(r"^What (?:is|are) (?:known about )?", "", rule).rstrip("?")
    if noun == rule.rstrip("?"):
        return (
            f"the {chapter} of {topic}"
            if rule.startswith("How is") and chapter != "differentiating from other diseases"
            else topic
        )
    return noun.format(topic)
