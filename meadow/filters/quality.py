"""Leaves out rows that cannot teach anything, and repairs damaged encodings where that is certain.

A row that is dropped by mistake is lost in silence, one that is kept by mistake is one among many: each
rule asks for evidence in the text itself, and where a sign is ambiguous the row stays. Code and
formulas are set aside before markup is looked for, because posts legitimately quote it.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from meadow.core.quality import Quality
from meadow.core.row import Example, Rejected
from meadow.parse.options import INSTRUCTION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meadow.core.parts import Seen

ENCODING = "encoding damage"
DEBRIS = "markup debris"
EDITORIAL = "editorial text"
LINK = "answer is only a link"
REFERENCE = "answer is only a reference"
PICTURE = "question needs a picture"
TRUNCATED = "truncated text"
REPEATS = "answer repeats the question"
SAME_OPTIONS = "two options with the same text"
CONTRADICTS = "answer contradicts its key"

#: What is counted of rows that stay.
REPAIRED = "encoding repaired"
MENTIONS_PICTURE = "mentions a picture"


# --- encoding -----------------------------------------------------------------------------------

_FOREIGN = re.compile("[\x80-\U0010ffff]+")
# Neighbours that healthy text is full of: quotes and dashes, Greek, numbers and signs set together.
_HEALTHY = re.compile(
    "[–—‑‒―’‘“”…•·°±×÷≥≤≈≠∼µα-ωΑ-Ω₀-₉⁰-⁹⁺⁻₊₋²³¹½¼¾→←↑↓↔®™©′″\xa0\u2002-\u200b\u202f\u2212\u2260]+"
)
# A sign of its own and the sign after it: square and cubic ångströms, Ø ± 5 mm, √±3. `ftfy` reads them as
# halves of a letter; inside words ("Espa√±a") they are.
_SIGNS = re.compile("(?<![^\x00-@\\[-`{-\x7f])([ÅØÐß×√≈])(?=[¹²³°±](?![À-ÿ]))")
_MASK = {letter: chr(0xF8A0 + at) for at, letter in enumerate("ÅØÐß×√≈")}
_UNMASK = {ord(mask): letter for letter, mask in _MASK.items()}
# Percent-encoded letters and apostrophes that a title kept from its address: "M%C3%A9ni%C3%A8re%27s".
_PERCENT = re.compile(
    r"(?<![\w/.:=&?%-])[A-Za-z][\w.-]*(?:%(?:27|[CDE][0-9A-F](?:%[89AB][0-9A-F])+)[\w.-]*)+(?![\w/=&%])"
)
_ANY_PERCENT = re.compile("%(?:2[67]|[CDE][0-9A-F]%)")
_AMPERSAND = re.compile(r"(?<=[a-z] )%26(?= [A-Za-z])")
# A curly quote or dash in Windows' code page, whose second byte was set right and whose first was left.
_HALF_RIGHT = re.compile("(?<=[a-z.,;:!?])Â(?=[‘’“”–—…])")
# What is left where half of a sequence is lost.
_BROKEN = re.compile("â€|ï¿½|‚Ä")
# "I??e been", "Don?? worry": an apostrophe and its neighbour that became question marks.
_LOST_APOSTROPHE = re.compile(
    r"\b(?:I|[Yy]ou|[Ww]e|[Tt]hey|[Ii]t|[Tt]hat|(?:[Dd]o|[Cc]a|[Ww]o|[Ii]s|[Aa]re|[Ww]as|[Ww]ere|[Dd]id|[Dd]oes|[Hh]ave|[Hh]as|[Hh]ad|[Cc]ould|[Ww]ould|[Ss]hould)n)"
    r"\?\?(?:[eldstm]\b| (?:about|afraid|also|been|eat|experiencing|feel|feeling|going|got|have|important|just|know|likely|not|possible|really|so|sorry|sure|the|to|trying"
    r"|understand|want|worried|worry|an?)\b)"
)


def _repaired(text: str) -> str:
    """Text as it was before a wrong decoding; healthy text comes back unchanged."""
    if "%" in text and _ANY_PERCENT.search(text):
        text = _PERCENT.sub(_unquoted, text)
        if " %26 " in text:
            text = _AMPERSAND.sub("&", text)
    if text.isascii():
        return text
    for run in set(_FOREIGN.findall(text)):
        if (len(run) > 1 or run in "ÃÂ" or run <= "\x9f") and not _HEALTHY.fullmatch(run):
            break
    else:
        return text
    from ftfy import fix_encoding

    if "Â" in text:
        text = _HALF_RIGHT.sub("", text)
    # Line by line, as `ftfy` does it: a line is one encoding, and the line of an option is repaired in
    # the question as in the answer.
    lines = []
    for line in text.split("\n"):
        if not line.isascii():
            masked = _SIGNS.sub(lambda found: _MASK[found[1]], line)
            fixed = fix_encoding(masked)
            # An incomplete sequence becomes U+FFFD, which is no repair.
            if fixed != masked and fixed.count("\ufffd") <= line.count("\ufffd"):
                line = fixed.translate(_UNMASK)
        lines.append(line)
    return "\n".join(lines)


def _unquoted(found: re.Match[str]) -> str:
    try:
        return unquote(found[0], errors="strict")
    except UnicodeDecodeError:
        return found[0]


# --- markup -------------------------------------------------------------------------------------

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`|\$\$.*?\$\$|(?<![\\$\w])\$[^$\n]+\$", re.DOTALL)
_TAGS = (
    "div|span|br|hr|ref|references|nowiki|noinclude|includeonly|onlyinclude|gallery|table|tbody|thead|tr|td|th|ul|ol|li|dl|dd|dt"
    "|font|img|figure|figure-inline|figcaption|blockquote|center|small|big|strong|em|sup|sub|script|style|iframe|h[1-6]|pre|code|math"
)
#: What is looked for, with a sign that must be there. One rare character is found fastest; letter case is set
#: free only after a pattern's first character, by which it is found.
_DEBRIS: tuple[tuple[str, str, re.Pattern[str]], ...] = (
    (
        "template", "{",
        re.compile(r"(?<![\\^_\w{}$])\{\{\s*(?:c\d+::|#\w+:|\{\{?\d|[A-Za-z][^{}\n\\^]{0,80}(?:\||\}\}|\{\{|:))"),
    ),
    ("formula markup", "{", re.compile(r"\{\\displaystyle\b")),
    ("wiki table", "|", re.compile(r"^(?:\{\|(?=\s|$)|\|-+\s*(?:$|(?:style|class|align|bgcolor)=)|\|\}\s*$)", re.MULTILINE)),
    (
        "wiki link", "[",
        re.compile(
            r"\[(?i:\[\s*:?(?:File|Image|Media|Category|Template|User|Special|Help|WikiDoc|Wikipedia|w|wikt):"
            r"|edit\](?! your| the| it| this)|(?:citation|clarification) needed\]|sound:[^\]\n]+\])"
            r"|\[\[[A-Za-z][^\[\]\n|]*\|[^\[\]\n]*\]\]|\[\[[A-Z][a-z][^\[\]\n,;=]*\]\]"
        ),
    ),
    (
        "tag", "<",
        re.compile(rf"<(?:/?(?i:{_TAGS})(?:\s+[A-Za-z][a-z-]*\s*=[^<>]*)?\s*/?>|/[abipsuq]>|[ap]\s+[a-z]+=[^<>]*>|!--(?=[^<>]*-->))"),
    ),
    ("entity", "&", re.compile(r"&(?:[a-z]{2,6}|[A-Z][a-z]{2,6}|frac\d\d|sup\d|#\d{2,6}|#x[0-9a-fA-F]{2,5});")),
    ("wiki heading", "==", re.compile(r"^(={2,5})[^=\n]{1,120}[^=\n\s]\s*\1\s*$", re.MULTILINE)),
    ("wiki bold", "'''", re.compile(r"(?<!')'''(?:'')?\w[^'\n]{0,200}\w\)?'''")),
    ("magic word", "_", re.compile(r"\b__(?:NOTOC|TOC|NOEDITSECTION|FORCETOC)__")),
    ("template name", "Template:", re.compile(r"(?<![\w/.])Template:[A-Z]\w*")),
    ("category", "Category:", re.compile(r"(?<![\w/.])Category::?[A-Z]\w+")),
    ("file name", "File:", re.compile(r"(?<![\w/.])File:[^\s/:|]{1,80}\.(?i:jpe?g|png|gif|svg|tiff?)\b")),
    ("file name", "Image:", re.compile(r"(?<![\w/.])Image:[^\s/:|]{1,80}\.(?i:jpe?g|png|gif|svg|tiff?)\b")),
    (
        "placeholder", "[",
        re.compile(
            r"\[(?i:your (?:full )?(?:name|address|phone number|signature)"
            r"|(?:insert|enter) (?:the |your |a )?(?:(?:patient|doctor)['’]?s? )?(?:name|date|address|phone number|link|image)(?: here)?)\](?!\()"
        ),
    ),
    ("filler", "orem ipsum", re.compile(r"\b[Ll]orem ipsum dolor\b")),
    ("placeholder", " name)", re.compile(r"\((?i:disease|condition|drug|page|project|procedure|test) name\)")),
)  # fmt: skip


def _debris(text: str) -> tuple[str, str] | None:
    """What kind of markup a text still holds, and the first of it."""
    bare = None
    for kind, sign, pattern in _DEBRIS:
        # The first character alone is looked up fastest, and mostly it is not there.
        if sign[0] not in text or sign not in text or pattern.search(text) is None:
            continue
        if bare is None:
            bare = _CODE.sub(" ", text) if "`" in text or "$" in text else text
        found = pattern.search(bare)
        if found is not None:
            return kind, bare[max(0, found.start() - 20) : found.end() + 20]
    return None


# --- editorial ----------------------------------------------------------------------------------

#: One of these must be there before the patterns are tried.
_EDITORIAL_SIGNS = ("ditor", "iki", " stub", "help by", "lease help", "nder construction", "talk page")
_EDITORIAL = re.compile(
    r"\bthis (?:page|article|section|chapter|entry) (?:is|was) (?:a (?:\w+[ -]){0,3}stub\b|(?:currently |still )?under construction|being (?:edited|written|rewritten|developed))"
    r"|\bplease help (?:us )?(?:\w+ )?(?:by )?(?:expand|improv|complet|writ|add)\w*(?: to)? (?:it|this|the|upon)\b(?: (?:page|article|section|stub|entry))"
    r"|\bplease help (?:wikidoc|wikipedia)\b|\byou can help (?:wikidoc|wikipedia)\b|\b(?:you can|please) help by expanding (?:it|this)\b"
    r"|\beditors?(?:\(s\))?[- ]in[- ]chief\s*:"
    r"|\A\W*(?:page |section |content |article )?under construction\W*\Z",
    re.IGNORECASE,
)
_EMPTY_PAGE = re.compile(
    r"\W*(?:coming soon|(?:content )?to be (?:added|written|completed)|TBD)\W*", re.IGNORECASE
)
# The vocabulary of a wiki's help pages. "Patients log in" or one mention of WikiDoc proves nothing; two do.
_WIKI_WORDS = re.compile(
    r"\b(?:wikidoc|mediawiki|wikilinks?|microchapters?|microchaptered|user page|talk page|edit box|editor[- ]in[- ]chief|red ?links?"
    r"|speedy deletion|edit content|help (?:page|menu)|table of contents|toolbox|sidebar|redirect(?:ed|s)? (?:a |the |to the |to a )?(?:page|article|disease page)"
    r"|page you are creating|search box|wiki (?:code|markup|page)|reference manager|template page|patient information page)\b",
    re.IGNORECASE,
)

_WIKI_ONLY = frozenset(
    ("wikidoc", "mediawiki", "editor in chief", "talk page", "user page", "edit box", "speedy deletion")
)
#: Help pages are short; what is longer is about something else that mentions them.
_PAGE = 8_000
# No question of medicine is about the site.
_ABOUT_SITE = re.compile(r"\b(?:WikiDoc|MediaWiki)\b", re.IGNORECASE)


def _editorial(question: str, answer: str) -> str | None:
    text = f"{question}\n{answer}"
    for sign in _EDITORIAL_SIGNS:
        if sign in text:
            break
    else:
        return answer if len(answer) < 60 and _EMPTY_PAGE.fullmatch(answer) else None
    found = _EDITORIAL.search(answer) or _ABOUT_SITE.search(question)
    if found is not None:
        return found[0]
    if len(text) > _PAGE:
        return None
    words = sorted({" ".join(word.lower().replace("-", " ").split()) for word in _WIKI_WORDS.findall(text)})
    if len(words) > 1 and not _WIKI_ONLY.isdisjoint(words):
        return ", ".join(words[:4])
    return None


# --- answers that lead elsewhere ------------------------------------------------------------------

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


def _only_link(answer: str) -> bool:
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


def _only_reference(answer: str) -> bool:
    if len(answer) > _POINTER:
        return False
    sentences = [part.strip(" \t()[]*_.:;!-–—>") for part in re.split(r"(?<=[.!;])\s+|\n+", answer)]
    sentences = [part for part in sentences if part]
    return bool(sentences) and all(map(_POINTS.fullmatch, sentences))


# --- questions that need a picture ----------------------------------------------------------------

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


def _picture(question: str) -> tuple[bool, str]:
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


# --- truncation -----------------------------------------------------------------------------------

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


def _truncated(answer: str, thresholds: Quality) -> str | None:
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


# --- multiple choice --------------------------------------------------------------------------------

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


def _options(example: Example) -> tuple[str, str] | None:
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


# --- the filter --------------------------------------------------------------------------------------

_LOOSE = re.compile(r"[\s.?!:;,\"'“”‘’*_#()]+")


def _repeats(question: str, answer: str) -> bool:
    if abs(len(question) - len(answer)) > 40:
        return False
    first, other = _WORD.search(question), _WORD.search(answer)
    if first is None or other is None or first[0].casefold() != other[0].casefold():
        return False
    question, answer = (_LOOSE.sub(" ", text).strip() for text in (question, answer))
    if len(answer) > 20:
        question, answer = question.casefold(), answer.casefold()
    return question == answer


class QualityFilter:
    """The row filter of these rules; see `meadow.filters`."""

    stage = "quality"

    def __init__(self, thresholds: Quality) -> None:
        self.thresholds = thresholds

    def __call__(self, example: Example, seen: Seen) -> Example | Rejected:
        """Returns the row, its encoding repaired where that was needed, or why it is left out.

        Input, output and options are repaired alike, so that an answer still reads as its option does.
        """
        thresholds = self.thresholds
        if thresholds.repair:
            example = _repair(example, seen)
        problem = self._problem(example, seen)
        if problem is None:
            return example
        reason, detail = problem
        excerpt = example.input if reason in (PICTURE, SAME_OPTIONS) else example.output or example.input
        return Rejected(
            reason, example.id, " ".join(detail.split())[:200], "", excerpt[:500], configs=example.configs
        )

    def _problem(self, example: Example, seen: Seen) -> tuple[str, str] | None:
        thresholds = self.thresholds
        question, answer = example.input, example.output.strip()
        if not answer:
            return None  # `meadow.core.row.problem` says so
        for text in (question, answer):
            damage = _damage(text, thresholds.replacement_characters)
            if damage is not None:
                return ENCODING, damage
        if thresholds.debris:
            found = _debris(answer) or _debris(question)
            if found is not None:
                return DEBRIS, f"{found[0]}: {found[1]}"
        if thresholds.editorial:
            words = _editorial(question, answer)
            if words is not None:
                return EDITORIAL, words
        if thresholds.links and _only_link(answer):
            return LINK, answer
        if thresholds.references and _only_reference(answer):
            return REFERENCE, answer
        if thresholds.repeats and _repeats(question, answer):
            return REPEATS, answer
        if example.options:
            if thresholds.options:
                found = _options(example)
                if found is not None:
                    return found
        elif thresholds.truncated:
            end = _truncated(answer, thresholds)
            if end is not None:
                return TRUNCATED, f"it ends {end!r}"
        needed, words = _picture(question)
        if needed and thresholds.pictures:
            return PICTURE, words
        if words:
            seen.note("quality", MENTIONS_PICTURE)
        return None


def _repair(example: Example, seen: Seen) -> Example:
    question, answer = _repaired(example.input), _repaired(example.output)
    options = example.options
    if options and not all(option.text.isascii() for option in options):
        # With its letter, as it stands in the question, so that it is repaired as there.
        options = tuple(
            replace(option, text=_repaired(f"{option.key}: {option.text}")[len(option.key) + 2 :])
            for option in options
        )
    if question == example.input and answer == example.output and options == example.options:
        return example
    seen.note("quality", REPAIRED)
    return replace(example, input=question, output=answer, options=options)


def _damage(text: str, replacement_characters: int) -> str | None:
    if "??" in text:
        found = _LOST_APOSTROPHE.search(text)
        if found is not None:
            return f"lost letters: {text[max(0, found.start() - 20) : found.end() + 20]}"
    if text.isascii():
        return None
    if text.count("\ufffd") > replacement_characters:
        at = text.index("\ufffd")
        return f"{text.count(chr(0xFFFD))} replacement characters: {text[max(0, at - 20) : at + 20]}"
    found = _BROKEN.search(text)
    return f"mojibake: {text[max(0, found.start() - 20) : found.end() + 20]}" if found else None
