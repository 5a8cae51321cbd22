"""Words as contamination compares them, one text at a time and whole Arrow columns at once.

Two ways to the same words. `words` gives them as texts, for the few rows that are looked at closely.
`hashed` gives the 64-bit hashes of all words of a column without making a Python object for any of them:
rows with markup or characters beyond ASCII are put right one by one, the rest is arithmetic over whole buffers.

A word is a run of letters and digits after NFKC and case folding; HTML tags and entities are taken out, format
characters (soft hyphens, zero-width spaces) vanish, everything else separates. Numbers are words like others
(``37.2`` is two). A Chinese, Japanese, Thai, Lao, Khmer or Burmese letter is a word by itself, since these
scripts put no spaces between words.
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from meadow.filters.hashing import mix, run_hashes, word_hashes

if TYPE_CHECKING:
    import pyarrow as pa

# Tags that HTML has; "p<a and b>c" is no tag.
_TAG = re.compile(
    r"</?(?:a|abbr|article|b|blockquote|body|br|center|cite|code|dd|del|details|div|dl|dt|em|figure|"
    r"font|footer|h[1-6]|head|header|hr|html|i|img|ins|kbd|label|li|main|mark|nav|ol|p|pre|q|s|section|small|"
    r"span|strike|strong|sub|summary|sup|table|tbody|td|tfoot|th|thead|title|tr|tt|u|ul|var)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")

#: Scripts without spaces between words: Thai to Tibetan's neighbours, Khmer, kana and Han ideographs.
_SOLID = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF),
)  # fmt: skip
_FORMAT = (
    (0x00AD, 0x00AD), (0x061C, 0x061C), (0x180E, 0x180E), (0x200B, 0x200F), (0x202A, 0x202E),
    (0x2060, 0x2064), (0x2066, 0x206F), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
)  # fmt: skip


_BEYOND_ASCII = re.compile("[^\x00-\x7f]")
_WORD = re.compile(r"[^\W_]+")
#: Lower-case letters and digits stay, capitals become small, bytes of other characters stay; all else is 0.
_CODES = bytes(ord(chr(i).lower()) if chr(i).isalnum() else 0 for i in range(128)) + bytes(range(128, 256))
_INITIAL = np.array([chr(i) in "/!#" or (i < 128 and chr(i).isalpha()) for i in range(256)])


def _without_comments(text: str) -> str:
    """Takes HTML comments out, in time linear in the text: a pattern would look from each to the text's end."""
    found, start = [], 0
    while (begin := text.find("<!--", start)) >= 0 and (end := text.find("-->", begin + 4)) >= 0:
        found.append(text[start:begin])
        start = end + 3
    return " ".join((*found, text[start:]))


@lru_cache(4096)
def _spaced(char: str) -> str:
    """What a character beyond ASCII is between words: itself, a word of its own, a gap or nothing."""
    if any(first <= ord(char) <= last for first, last in _FORMAT):
        return ""
    if not char.isalnum():
        return " "
    return f" {char} " if any(first <= ord(char) <= last for first, last in _SOLID) else char


def _plain(text: str) -> str:
    """Takes markup out and brings characters to one form, so that runs of letters and digits are words."""
    if "<" in text:
        text = _TAG.sub(" ", _without_comments(text))
    if "&" in text:
        text = _ENTITY.sub(lambda found: html.unescape(found.group()), text)
    text = unicodedata.normalize("NFKC", text).casefold()
    return text if text.isascii() else _BEYOND_ASCII.sub(lambda found: _spaced(found[0]), text)


def words(text: str) -> list[str]:
    """The words of a text, in order."""
    return _WORD.findall(_plain(text))


def hashed(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of the words of all rows of a column of texts.

    Args:
        column: Texts; None counts as empty.

    Returns:
        The hashes (uint64, one a word, row after row) and where each row begins among them (int64, one more
        than there are rows). Rows beyond ASCII come as they are, in their places.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    count = len(column)
    # A separator after each row, so that no word runs from one into the next.
    column = pc.binary_join_element_wise(
        pc.fill_null(column.cast(pa.large_string()), ""), pa.scalar("", pa.large_string()),
        pa.scalar("\n", pa.large_string()),
    )  # fmt: skip
    if not count:
        return np.empty(0, np.uint64), np.zeros(1, np.int64)
    offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + count + 1]
    data = np.frombuffer(column.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    offsets = offsets - offsets[0]
    codes = np.frombuffer(bytearray(data.tobytes().translate(_CODES)), np.uint8)
    slow = _rows_to_put_right(data, offsets)
    for row in slow:
        codes[offsets[row] : offsets[row + 1]] = 0
    found, starts = word_hashes(codes, 0)
    first = np.searchsorted(starts, offsets)
    if not len(slow):
        return found, first
    mine = [f"{_plain(column[int(row)].as_py())}\n".encode() for row in slow]
    more, starts = word_hashes(np.frombuffer(b"".join(mine).translate(_CODES), np.uint8), 0)
    counts = np.diff(np.searchsorted(starts, np.cumsum([0, *map(len, mine)])))
    # Rows put right had no words in the first pass; theirs go where they would have stood.
    lengths = np.diff(first)
    place = np.repeat(first[slow], counts)
    lengths[slow] = counts
    return np.insert(found, place, more), np.concatenate([[0], np.cumsum(lengths)])


def _rows_to_put_right(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    odd = data >= 0x80
    marks = np.flatnonzero((data == ord("<")) | (data == ord("&")))  # never the last: a separator is
    odd[marks[_INITIAL[data[marks + 1]]]] = True
    found = np.flatnonzero(odd)
    return np.unique(np.searchsorted(offsets, found, "right") - 1)


def hash_words(found: list[str]) -> np.ndarray:
    """The hashes of words as `words` gives them, in order."""
    data = " ".join([*found, ""]).encode("utf-8", "surrogatepass")
    return word_hashes(np.frombuffer(data, np.uint8), ord(" "))[0]


def grams(hashes: np.ndarray, size: int) -> np.ndarray:
    """The hash of each `size` words that follow one another."""
    return mix(run_hashes(hashes, size)[: max(len(hashes) - size + 1, 0)])
