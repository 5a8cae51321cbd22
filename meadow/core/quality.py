"""The thresholds of the quality filter, which a source may declare; `meadow.filters.quality` applies them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quality:
    """The thresholds of one source; a builder declares its own where the defaults do not fit.

    There are no limits on length: short answers ("Prognosis is poor.") are whole answers, and how long a
    text may be depends on the model that reads it.

    Attributes:
        repair: Repair text that was decoded with the wrong encoding, or left percent-encoded. On 86,000
            texts of public medical data, `ftfy` changed 163, each of them for the better.
        replacement_characters: How many U+FFFD a field may hold; each stands for a letter that is lost.
        debris: Drop rows with remains of templates, wiki markup, HTML or entities outside code.
        editorial: Drop texts about the site instead of its subject. Of use where texts are pages.
        links: Drop answers that only lead elsewhere.
        references: Drop answers that only point at a picture, table or section that the row lacks.
        pictures: Drop questions whose asking sentence is about a picture that the row lacks. A
            vignette that shows a picture in passing stays, since its text mostly says what is to be
            seen; it is counted.
        truncated: Drop answers that stop where they cannot end: after an opening bracket, a comma or a
            word such as "the" or "and", or at a mark such as "(continued)".
        ellipsis: Whether an ellipsis at the end is such a mark, too. Reference texts do not end with
            one; people do ("so there are exceptions...").
        announced: An answer that ends with a colon lacks what the colon announces. Up to this many
            characters it is dropped; a longer one has said enough to stay. 0: none is.
        truncated_from: Answers shorter than this many characters cannot be told from a phrase that was
            meant to be one, such as the back of a flashcard; they are never called truncated for
            the word that they end with.
        repeats: Drop answers that are the question over again.
        options: Drop multiple-choice rows in which two options read the same, or whose answer names
            another option than `answer_key` does.
    """

    repair: bool = True
    replacement_characters: int = 0
    debris: bool = True
    editorial: bool = True
    links: bool = True
    references: bool = True
    pictures: bool = True
    truncated: bool = True
    ellipsis: bool = True
    announced: int = 500
    truncated_from: int = 40
    repeats: bool = True
    options: bool = True
