"""Words as contamination compares them, one text at a time and whole Arrow columns at once.

Two ways to the same words. `words` gives them as texts, for the few rows that are looked at closely.
`hashed` gives the 64-bit hashes of all words of a column without making a Python object for any of them:
markup and characters beyond ASCII are put right row by row, the rest is arithmetic over whole buffers.

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


def _set(ranges: tuple[tuple[int, int], ...]) -> str:
    return "".join(f"{chr(a)}-{chr(b)}" for a, b in ranges)


_HIDDEN = re.compile(f"[{_set(_FORMAT)}]+")
_WORD = re.compile(rf"[{_set(_SOLID)}](?<=\w)|[^\W_{_set(_SOLID)}]+")

_SEPARATOR, _LETTER, _LONE, _GONE = 0, 1, 2, 3
#: Lower-case letters and digits stay, capitals become small, all else is 0.
_ASCII = bytes(ord(chr(i).lower()) if i < 128 and chr(i).isalnum() else 0 for i in range(256))
_INITIAL = np.array([chr(i) in "/!#" or (i < 128 and chr(i).isalpha()) for i in range(256)])

# The hash of a word is the sum of code_i * BASE ** i modulo 2**64, then mixed. BASE is odd, so it has an
# inverse: powers may be counted from anywhere in the buffer and the sum be brought back to the word's start.
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 2**64)
#: Codes hashed at a time: powers and sums of so many fit a core's cache.
_CHUNK = 2**15
_MIX = np.uint64(0xD6E8FEB86659FD93)
_SHIFT = np.uint64(32)
# And of several words in a row, by Horner's rule.
_ODD = (np.uint64(0xA0761D6478BD642F), np.uint64(0xE7037ED1A0B428DB))
_GRAM_SHIFT = np.uint64(29)


@lru_cache(1)
def _powers() -> tuple[np.ndarray, np.ndarray]:
    found = []
    for base in (_BASE, _INVERSE):
        power = np.full(_CHUNK, base, np.uint64)
        power[0] = 1
        found.append(np.multiply.accumulate(power))
    return found[0], found[1]


@lru_cache(1)
def _classes() -> np.ndarray:
    """What each code point is: separator, letter, a word by itself, or nothing."""
    every = "".join(map(chr, range(0xD800))) + "".join(map(chr, range(0xE000, 0x110000)))
    letters = "".join(re.findall(r"[^\W_]+", every))
    table = np.zeros(0x110000, np.uint8)
    table[np.frombuffer(letters.encode("utf-32-le"), "<u4")] = _LETTER
    for start, end in _SOLID:
        table[start : end + 1] *= _LONE
    for start, end in _FORMAT:
        table[start : end + 1] = _GONE
    return table


def _without_comments(text: str) -> str:
    """Takes HTML comments out, in time linear in the text: a pattern would look from each to the text's end."""
    found, start = [], 0
    while (begin := text.find("<!--", start)) >= 0 and (end := text.find("-->", begin + 4)) >= 0:
        found.append(text[start:begin])
        start = end + 3
    return " ".join((*found, text[start:]))


def _plain(text: str) -> str:
    """Takes markup out and brings characters to one form."""
    if "<" in text:
        text = _TAG.sub(" ", _without_comments(text))
    if "&" in text:
        text = _ENTITY.sub(lambda found: html.unescape(found.group()), text)
    return unicodedata.normalize("NFKC", text).casefold()


def words(text: str) -> list[str]:
    """The words of a text, in order."""
    return _WORD.findall(_HIDDEN.sub("", _plain(text)))


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
    codes = np.frombuffer(data.tobytes().translate(_ASCII), np.uint8)
    slow = _rows_to_put_right(data, offsets)
    if len(slow):
        codes = codes.copy()
        for row in slow:
            codes[offsets[row] : offsets[row + 1]] = 0
    found, starts = _hash(codes, None)
    first = np.searchsorted(starts, offsets)
    if not len(slow):
        return found, first
    more, more_first = _hash_texts([column[int(row)].as_py() for row in slow])
    # Rows put right had no words in the first pass; theirs go where they would have stood.
    lengths = np.diff(first)
    place = np.repeat(first[slow], np.diff(more_first))
    lengths[slow] = np.diff(more_first)
    return np.insert(found, place, more), np.concatenate([[0], np.cumsum(lengths)])


def _rows_to_put_right(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    odd = data >= 0x80
    marks = np.flatnonzero((data == ord("<")) | (data == ord("&")))  # never the last: a separator is
    odd[marks[_INITIAL[data[marks + 1]]]] = True
    found = np.flatnonzero(odd)
    return np.unique(np.searchsorted(offsets, found, "right") - 1)


def _hash_texts(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    plain = [_plain(text) + "\n" for text in texts]
    codes = np.frombuffer("".join(plain).encode("utf-32-le"), "<u4")
    ends = np.cumsum([len(text) for text in plain])
    kinds = _classes()[codes]
    stays = kinds != _GONE
    if not stays.all():
        codes, kinds, ends = codes[stays], kinds[stays], np.cumsum(stays)[ends - 1]
    found, starts = _hash(np.where(kinds == _SEPARATOR, 0, codes), kinds if kinds.max() == _LONE else None)
    return found, np.concatenate([[0], np.searchsorted(starts, ends)])


def _hash(codes: np.ndarray, kinds: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Hashes the runs of codes other than 0; gives the hashes, and where each run begins."""
    power, inverse = _powers()
    hashes, places = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    at, end = 0, len(codes)
    while at < end:
        upto = min(at + _CHUNK, end)
        if upto < end:
            gaps = np.flatnonzero(codes[max(at, upto - 256) : upto] == 0)
            # A longer run is no word that anyone wrote: it is cut.
            upto = max(at, upto - 256) + int(gaps[-1]) + 1 if len(gaps) else upto
        part = codes[at:upto]
        word = part != 0
        begins = word.copy()
        begins[1:] &= ~word[:-1]
        if kinds is not None:
            lone = kinds[at:upto] == _LONE
            begins |= lone
            begins[1:] |= word[1:] & lone[:-1]
        starts = np.flatnonzero(begins)
        if len(starts):
            # Separators are 0 and add nothing, so a word's sum may run up to the next word.
            sums = np.add.reduceat(part.astype(np.uint64) * power[: len(part)], starts)
            sums *= inverse[starts]
            sums ^= sums >> _SHIFT
            sums *= _MIX
            sums ^= sums >> _SHIFT
            hashes.append(sums)
            places.append(starts + at)
        at = upto
    return np.concatenate(hashes), np.concatenate(places)


def hash_words(found: list[str]) -> np.ndarray:
    """The hashes of words as `words` gives them, in order."""
    codes = np.frombuffer("".join(word + "\n" for word in found).encode("utf-32-le", "surrogatepass"), "<u4")
    return _hash(np.where(codes == 10, 0, codes), None)[0]


def grams(hashes: np.ndarray, size: int) -> np.ndarray:
    """The hash of each `size` words that follow one another."""
    count = max(len(hashes) - size + 1, 0)
    found = hashes[:count].copy()
    for i in range(1, size):
        found *= _ODD[0]
        found += hashes[i : i + count]
    found ^= found >> _GRAM_SHIFT
    found *= _ODD[1]
    return found
