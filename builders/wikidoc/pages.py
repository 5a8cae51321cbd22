"""What a page of the wiki is: its dataset, its addresses, and why it may not be an article."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from meadow import RawFile, Rejected
from meadow.parse.wordlists import read_lists

#: The words that the modules of this source know, in lists of which the file tells the use.
WORDS = read_lists(Path(__file__).with_name("words.tsv"))


def words(name: str) -> frozenset[str]:
    """The single words of a list."""
    return frozenset(" ".join(WORDS[name]).split())


def pattern(name: str) -> re.Pattern[str]:
    """The patterns of a list as one, for letters of either case."""
    return re.compile("|".join(WORDS[name]), re.IGNORECASE)


WIKIDOC = "wikidoc"
PATIENT = "wikidoc_patient_information"
#: MediaWiki's own URL encoding (`wfUrlencode`) leaves these as they are.
_URL_SAFE = ";@$!*(),/~:"
_PATIENT_TITLE = re.compile(r"\s*\(?\bpatient information\)?\s*$", re.IGNORECASE)
_PATIENT_PARENTHESIS = re.compile(r"\(patient information\)", re.IGNORECASE)
# Why a page is no article. The phrases are keys of the funnel.
TALK_OR_USER = "talk or user page"
EDITOR_OR_HELP = "editor or help page"
NO_ARTICLES = "namespace without articles"
BOARD_REVIEW = "Board Review content"
# https://www.mediawiki.org/wiki/Manual:Namespace: odd numbers are talk, 2 user, 4 project, 12 help.
_NAMESPACES = {
    **dict.fromkeys(("user", "user talk", "talk"), TALK_OR_USER),
    **dict.fromkeys(("help", "wikidoc", "project"), EDITOR_OR_HELP),
    **dict.fromkeys(words("namespaces"), NO_ARTICLES),
}
_EDITOR_TITLE = pattern("editor_title")
_EDITOR_CATEGORY = re.compile(r"^(?:wikidoc )?(?:help|editors?)\b", re.IGNORECASE)
# Board Review questions are pages named "WBR0001", written with the template of that name.
_BOARD_REVIEW = re.compile(r"\bboard[ -]review\b|^WBR[\s:_-]?\d|^WBR\b", re.IGNORECASE)
_BOARD_TEMPLATE = re.compile(r"\{\{\s*WBR", re.IGNORECASE)
_REDIRECT_MESSAGE = re.compile(r"class=\"[^\"]*\bredirect(?:Msg|Text)\b")
_REDIRECT_WIKITEXT = re.compile(r"\s*#\s*redirect\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the wiki as a raw file holds it.

    Attributes:
        title: With blanks, not underscores.
        body: Rendered HTML, or wikitext if `is_wikitext`.
        date: ISO 8601 date of the revision, where the raw tells it.
        namespace: MediaWiki's number; None where only the title tells.
        redirect: Whether the raw marks it as one.
        license_url: The licence that a saved page links to; empty where it links to none.
    """

    title: str
    body: str
    is_wikitext: bool = False
    pageid: int | None = None
    revision: int | None = None
    date: str | None = None
    namespace: int | None = None
    redirect: bool = False
    categories: tuple[str, ...] = ()
    license_url: str = ""

    @property
    def config(self) -> str:
        """The dataset it belongs to."""
        is_patient = _PATIENT_TITLE.search(self.title) or _PATIENT_PARENTHESIS.search(self.title)
        return PATIENT if is_patient else WIKIDOC

    @property
    def id(self) -> str:
        """The stable beginning of its rows' ids: the page's number, else its title."""
        return f"{WIKIDOC}/{self.pageid or self.title.replace(' ', '_')}"

    @property
    def url(self) -> str:
        """The address of this revision, or of the page where the revision is not known."""
        revision = f"&oldid={self.revision}" if self.revision else ""
        return f"{_address(self.title)}{revision}"

    @property
    def history_url(self) -> str:
        """The address of the page's history, which names everybody who wrote it."""
        return f"{_address(self.title)}&action=history"


def without_patient_suffix(title: str) -> str:
    """The topic of a patient page's title: ``Asthma (patient information)`` gives ``Asthma``."""
    short = _PATIENT_PARENTHESIS.sub(" ", _PATIENT_TITLE.sub("", title))
    return " ".join(short.split()) or title


def _address(title: str) -> str:
    return f"https://www.wikidoc.org/index.php?title={quote(title.replace(' ', '_'), safe=_URL_SAFE)}"


def why_not(page: Page) -> str | None:
    """The reason why a page is no article that may be used, or None."""
    kind = None
    if page.namespace is None:
        prefix = page.title.split(":", 1)[0].strip().casefold() if ":" in page.title else ""
        kind = TALK_OR_USER if prefix.endswith(" talk") else _NAMESPACES.get(prefix)
    elif page.namespace != 0:
        talk = page.namespace > 0 and (page.namespace == 2 or page.namespace % 2 == 1)
        kind = TALK_OR_USER if talk else EDITOR_OR_HELP if page.namespace in (4, 12) else NO_ARTICLES
    if kind:
        return kind
    redirects = _REDIRECT_WIKITEXT.match if page.is_wikitext else _REDIRECT_MESSAGE.search
    if page.redirect or redirects(page.body[:2000]):
        return "redirect"
    if (
        _BOARD_REVIEW.search(page.title)
        or any(_BOARD_REVIEW.search(name) for name in page.categories)
        or (page.is_wikitext and _BOARD_TEMPLATE.search(page.body))
    ):
        return BOARD_REVIEW
    if _EDITOR_TITLE.search(page.title) or any(_EDITOR_CATEGORY.search(name) for name in page.categories):
        return EDITOR_OR_HELP
    if page.license_url and "/by-sa/3.0" not in page.license_url:
        return "page under another licence"
    return None


def is_board_review(heading: str) -> bool:
    """Whether a section's heading says that it is Board Review content."""
    return _BOARD_REVIEW.search(heading) is not None


def title_of(text: str) -> str:
    """A title as people write it: blanks instead of underscores, and no more than needed."""
    return " ".join(text.replace("_", " ").split())


def number_of(value: Any) -> int | None:
    """A page's or revision's number; MediaWiki writes 0 where there is none."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value.strip()):
        value = int(value)
    return value if type(value) is int and 0 < value < 2**63 else None


def unreadable(
    file: RawFile, reason: str, detail: str, remedy: str, where: str = "", config: str = WIKIDOC
) -> Rejected:
    """A page that a raw file should hold and does not; `where` is the file's path if nothing tells more."""
    return Rejected(reason, where or file.path, detail, remedy, "", file.path, (config,))
