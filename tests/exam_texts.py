"""Made-up exams: vignettes of stock phrases around invented words, by a seeded generator."""

from __future__ import annotations

import random

from meadow.filters.contamination import ExamText

_SYLLABLES = (
    "ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo za bro cle dra fri glo ple sta tro".split()
)
_SEXES = (("man", "His", "He"), ("woman", "Her", "She"), ("boy", "His", "He"), ("girl", "Her", "She"))


def invented(count: int, seed: int) -> list[str]:
    """Invented words."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4)))] = None
    return list(found)


def vignettes(count: int, seed: int = 1) -> list[ExamText]:
    """Questions of about 75 words, two in three of them stock."""
    rng = random.Random(seed)
    words = invented(3000, 0)

    def some(n: int) -> str:
        return " ".join(rng.choices(words, k=n))

    found = []
    for number in range(count):
        sex, his, he = rng.choice(_SEXES)
        question = (
            f"A {rng.randint(2, 90)}-year-old {sex} comes to the physician because of {some(2)} and {some(3)} for the past "
            f"{rng.randint(2, 9)} weeks. {he} has a history of {some(2)}. {his} temperature is 37.2°C (99°F), pulse is "
            f"{rng.randint(60, 120)}/min, respirations are 16/min, and blood pressure is {rng.randint(90, 180)}/80 mm Hg. "
            f"Physical examination shows {some(4)} with {some(3)}. Laboratory studies show {some(3)} of "
            f"{rng.randint(2, 900)} mg/dL. Which of the following is the most likely diagnosis?"
        )
        options = tuple(some(2).capitalize() for _ in range(4))
        found.append(ExamText(f"v{number}", question, options, rng.choice(options)))
    return found


def changed(text: str, rng: random.Random, kind: str, words: list[str], share: float = 0.1) -> str:
    """Changes one word in ten: ``replaced``, ``dropped``, ``added`` or ``mixed``."""
    every = text.split()
    places = set(rng.sample(range(len(every)), round(len(every) * share)))
    out = []
    for i, word in enumerate(every):
        how = (
            (kind if kind != "mixed" else rng.choice(("replaced", "dropped", "added"))) if i in places else ""
        )
        if how != "dropped":
            out.append(rng.choice(words) if how == "replaced" else word)
        if how == "added":
            out.append(rng.choice(words))
    return " ".join(out)
