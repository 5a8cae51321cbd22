"""What is told by its shape or by a label before it."""

from __future__ import annotations

from collections.abc import Iterator

from meadow.filters.privacy.contacts import electronic, labelled_phones
from meadow.filters.privacy.dates import ages, dates
from meadow.filters.privacy.identifiers import labelled, unlabelled
from meadow.filters.privacy.places import places
from meadow.filters.privacy.text import Span, Text


def structured(screened: Text) -> Iterator[Span]:
    """Everything but names."""
    yield from electronic(screened)
    if screened.digits:
        yield from unlabelled(screened)
        yield from labelled(screened)
        yield from labelled_phones(screened)
        yield from places(screened)
        yield from dates(screened)
        yield from ages(screened)
