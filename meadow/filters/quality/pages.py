"""What is left of web pages: markup, and texts about the site instead of its subject.

Code and formulas are set aside before markup is looked for, because posts legitimately quote it.
"""

from __future__ import annotations

import re

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
