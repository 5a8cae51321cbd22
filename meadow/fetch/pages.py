"""Web pages that come where a file should: which kind it is, and what a person can do about it.

Hosts answer with a page, often with status 200, when a link has expired, when somebody must sign in, or when
too many people have fetched the file. Saved under the file's name, such a page looks like a damaged archive.
"""

from __future__ import annotations

import contextlib
import html
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

from lxml import html as documents

#: How much of a page is looked at; a login page of a large site is some 200 kB before its form.
LOOKED_AT = 512 * 1024

#: First bytes of the formats that sources publish.
_MAGIC = {
    ".7z": (b"7z\xbc\xaf\x27\x1c",),
    **dict.fromkeys((".zip", ".apkg", ".colpkg"), (b"PK\x03\x04", b"PK\x05\x06")),
    ".gz": (b"\x1f\x8b",),
    ".bz2": (b"BZh",),
    ".xz": (b"\xfd7zXZ\x00",),
    ".zst": (b"\x28\xb5\x2f\xfd",),
    ".parquet": (b"PAR1",),
}
_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml\b[^>]*>\s*)?(?:<!--(?:(?!-->).)*-->\s*)*<(?:!doctype\s+html|html|head|body|script)\b",
    re.I | re.S,
)
_TITLE = re.compile(r"<title[^<>]{0,200}>([^<]{0,2000})", re.I)

#: What pages say that tell more than the status they come with, in the order in which they are asked for (a quota page
#: offers to sign in, too), with what it means and what to do. The path of the address stands before the page.
_TELLING = (
    (
        r"quota exceeded|too many users have viewed or downloaded|download quota|bandwidth limit",
        "its host has given the file to too many people lately (a quota page)",
        "Such quotas are lifted within a day or so: run the command again then.",
    ),
    (
        r"link (?:has |is )?(?:expired|no longer valid)|(?:request|token|url|signature) has expired|expired link",
        "the link has expired",
        "Get a new link from the publisher.",
    ),
    (
        r"<input[^<>]{1,500}?type\s{0,9}=\s{0,9}[\"']?password|ServiceLogin|\b(?:sign|log) ?in to (?:continue|your)|"
        r"please (?:sign|log) ?in|you need access|request access|authentication required|"
        r"^(?:/\S*)?/(?:log|sign)-?in\b",
        "its host asks to sign in",
        "Sign in with a browser.",
    ),
    (
        r"blocked by|web ?filter|content filter|access (?:to this (?:site|page) )?(?:has been |is )?(?:blocked|denied)|"
        r"captive portal|security policy",
        "a filter between here and the host, or the host itself, refuses",
        "Ask those who run the network, or use a mirror (--mirror).",
    ),
)
_GONE = (
    r"\b(?:404|410)\b|not found|does ?n.t exist|no longer (?:available|exists)|has been (?:removed|deleted)"
)


@dataclass(frozen=True, slots=True)
class StrayPage:
    """A page that came instead of a file: what it says, what to do, and whether that is more than its status says.

    `follow` is the address that a page before a large download leads on to.
    """

    detail: str
    remedy: str = ""
    follow: str = ""
    telling: bool = False


def is_page(start: bytes) -> bool:
    """Whether the first bytes of a file are those of a web page."""
    return _PAGE.match(start[:4096]) is not None


def explain(content: bytes, url: str) -> StrayPage:
    """Says what a page is, by its first `LOOKED_AT` bytes and the address that it came from, after redirects."""
    text, came = content.decode("utf-8", "replace"), "a web page came instead of the file"
    if follow := _lead(content, url):
        asks = f"{came}: its host asks whether to download a large file"
        return StrayPage(asks, "Answer it in a browser.", follow)
    title = title_of(text)
    said = f' ("{title}")' if title else ""

    def says(pattern: str, words: str) -> bool:
        return bool(re.search(pattern, title, re.I) or re.search(pattern, words, re.I))

    asked = f"{urlsplit(url).path} {text}"
    for pattern, detail, remedy in _TELLING:
        if says(pattern, asked):
            return StrayPage(f"{came}: {detail}{said}", remedy, telling=True)
    if says(_GONE, re.sub(r"<[^<>]*>", " ", text)[:2000]):
        remedy = "See the publisher's page for its new place."
        return StrayPage(f"{came}: the file is no longer there{said}", remedy)
    return StrayPage(f"{came}{said}")


def title_of(text: str) -> str:
    """The title of a page, as it may be shown; empty where it has none."""
    found = _TITLE.search(text)
    return _shown(html.unescape(found[1])) if found else ""


def printable(text: str) -> str:
    """Foreign words without control characters and letters that turn a line of a terminal around."""
    return "".join(c if c.isprintable() else " " for c in text)


def _shown(text: str) -> str:
    return " ".join(printable(text).split())[:80]


def _lead(content: bytes, url: str) -> str:
    """Where a page before a large download leads on to, on its own host or within Google's; else empty."""
    if b"download-form" not in content:
        return ""
    try:
        forms = documents.document_fromstring(content).forms
        form = next(f for f in forms if f.get("id") == "download-form" and f.method == "GET")
        here, to = urlsplit(url), urlsplit(urljoin(url, form.action or ""))
    except (documents.etree.LxmlError, ValueError, StopIteration):
        return ""
    google = all((p.hostname or "").endswith((".google.com", ".googleusercontent.com")) for p in (here, to))
    if to.scheme != here.scheme or not (google or to.netloc == here.netloc):
        return ""
    query = "&".join(part for part in (to.query, urlencode(form.form_values())) if part)
    return to._replace(query=query, fragment="").geturl()


def wrong_start(start: bytes, name: str) -> str | None:
    """Why the first bytes are not those of such a file, or None; most names say nothing about them."""
    name = name.lower()
    for ending, magics in _MAGIC.items():
        if name.endswith(ending):
            return None if start.startswith(magics) else f"it does not begin as a {ending} file does"
    begins = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if name.endswith((".json", ".jsonl")) and begins not in (b"{", b"[", b""):
        return f"it does not begin as a {Path(name).suffix} file does"
    return None


def wrong_structure(path: Path, name: str = "") -> str | None:
    """Why a file, or what will have that name, is a page, cut off or of another format; None where nothing shows."""
    name, size = (name or path.name).lower(), path.stat().st_size
    if not size:
        return "it is empty"
    with path.open("rb") as stream:
        start = stream.read(4096)
        stream.seek(max(0, size - 4096))
        end = stream.read()
    if is_page(start) and not name.endswith((".html", ".htm", ".xml")):
        return "it is a web page"
    if wrong := wrong_start(start, name):
        return wrong
    if name.endswith(".7z"):
        # The signature header says where the last header lies: offset and size at bytes 12 and 20.
        wanted = 32 + int.from_bytes(start[12:20], "little") + int.from_bytes(start[20:28], "little")
        return f"it is cut off: {size:,} of {wanted:,} bytes" if size < wanted else None
    if name.endswith((".zip", ".apkg", ".colpkg")):
        try:
            whole = zipfile.is_zipfile(path)
        except zipfile.BadZipFile as error:  # it is looked at only so far as to find where the directory lies
            return f"it is damaged: {error}"
        return None if whole else "it is cut off: the directory at its end is missing"
    if name.endswith((".json", ".jsonl")) and end.rstrip()[-1:] not in (b"}", b"]"):
        return "it is cut off"
    return None


def service_error(content: bytes) -> str:
    """The words of an error in XML or JSON, as storage services and the Hub send them; else empty."""
    text, said = content[:8192].decode("utf-8", "replace"), None
    if found := re.search(r"<Message>([^<]*)</Message>", text):
        said = found[1]
    elif text.lstrip().startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(text)
            said = value.get("error") or value.get("message")
    return _shown(said) if isinstance(said, str) else ""
