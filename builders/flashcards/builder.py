"""Medical flashcards: Anki decks, and Anki's text exports, as questions and answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meadow import Builder, Example, Quality, RawPattern, RawSource, Rejected, Shard, licenses
from meadow.parse.records import UnusableRecordError

from .cards import Card, read_card, readable
from .collection import collection_cards
from .textexport import text_cards

#: The published Medical Meadow asks every flashcard so.
QUESTION = "Answer this question truthfully"
#: A cloze is no question; what is wanted is named.
CLOZE = "Fill in the blanks in square brackets truthfully"

UNKNOWN_DECK = licenses.UNKNOWN.because(
    "These are decks of unknown origin: a deck file names no licence, and the rights are those of whoever made "
    "the deck and of those whose words or pictures it quotes. Nothing is granted here; ask the maker before you "
    "pass the rows, or a model that repeats them, on to others.",
    id="LicenseRef-flashcards-unknown",
    name="Unknown: the rights are those of whoever made the deck",
)


class Flashcards(Builder):
    """Anki decks: one row for each card that reads without its pictures and sounds.

    A row's `input` is the front and its `output` what the back adds. For a cloze card the front is the text with
    its blanks, other clozes shown; the output is the words behind the blanks, then whatever else the back
    holds, so that nothing of the front is learnt twice.
    """

    name = "flashcards"
    version = "1.0.0"
    release_notes = {"1.0.0": "First version: Anki packages, collections and text exports."}
    description = "Questions and answers from Anki flashcards on medicine."
    configs = ("medical_flashcards",)
    raw_files = (
        RawPattern("**/*.apkg", "deck package, as Anki exports it"),
        RawPattern("**/*.colpkg", "package of a whole collection"),
        RawPattern("**/*.anki2", "bare collection, as in older packages"),
        RawPattern("**/*.anki21", "bare collection, as in packages of Anki 2.1"),
        RawPattern("**/*.anki21b", "bare compressed collection, as in newer packages"),
        RawPattern("**/*.txt", "text export with #separator and other headers"),
    )
    license = UNKNOWN_DECK
    homepage = "https://apps.ankiweb.net/"
    by_hand = (
        "decks are your own. A shared deck seldom says who made it, what it quotes or what may be done with it, and "
        "AnkiWeb offers decks to people who sign in, not to programs. In Anki, choose File > Export, as .apkg with "
        "or without scheduling, or take a deck whose maker has agreed."
    )
    # Backs are phrases, which may end in any way; only marks such as "(continued)" say that one is cut off.
    quality = Quality(ellipsis=False, announced=0, truncated_from=100)
    extra_features = {"deck": "string", "tags": "list<string>", "note_guid": "string", "note_type": "string"}

    def shards(self, raw: RawSource) -> Iterable[Shard]:
        """Gives one shard for each file: a collection can only be read as a whole."""
        for file in raw.files:
            yield Shard(file.path, (file,), self.configs, {"scratch": raw.scratch})

    def examples(self, shard: Shard) -> Iterator[Example | Rejected]:
        """Reads one file's cards in the order of note and card number.

        Raises:
            RawFileError: The file is damaged, hostile, newer than known, or no deck at all.
        """
        file = shard.files[0]
        is_text = file.suffix == ".txt"
        yield from map(
            self._row, text_cards(file) if is_text else collection_cards(file, shard.args["scratch"])
        )

    def _row(self, record: Card | Rejected) -> Example | Rejected:
        if isinstance(record, Rejected):
            return record
        row_id = f"{self.name}/{record.guid}/{record.ord}"
        try:
            question, answer, is_cloze = read_card(record)
        except UnusableRecordError as why:
            return Rejected(why.reason, readable(row_id), why.detail, why.remedy or "", why.excerpt[:500])
        return Example(
            id=row_id,
            instruction=CLOZE if is_cloze else QUESTION,
            input=question,
            output=answer,
            group=record.guid,
            extra={
                "deck": record.deck,
                "tags": list(record.tags),
                "note_guid": record.guid,
                "note_type": record.note_type.name if record.note_type else "",
            },
        )
