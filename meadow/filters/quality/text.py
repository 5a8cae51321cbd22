"""Damaged texts: letters lost in a wrong encoding, and what is left of web pages, markup and words on the site."""

from __future__ import annotations

import re
from urllib.parse import unquote

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


def repaired(text: str) -> str:
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


def damage(text: str, replacement_characters: int) -> str | None:
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


# Code and formulas are set aside before markup is looked for, because posts legitimately quote it.
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


def debris(text: str) -> tuple[str, str] | None:
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


def editorial(question: str, answer: str) -> str | None:
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
