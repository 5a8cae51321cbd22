"""What a licence is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

#: What `License` knows beside names; the keys of a manifest's ``license_terms`` are these and names.
_FACTS = ("commercial", "redistribution", "adaptation", "share_alike", "attribution")

#: The licences of this module by id, `License` fills what a declaration leaves out from here.
KNOWN: dict[str, License] = {}


@dataclass(frozen=True, slots=True)
class License:
    """A licence, with the reason to believe that it applies.

    Facts that a declaration leaves out altogether are those of `KNOWN` for its id; for any other id they
    are unsettled.

    Attributes:
        id: SPDX identifier, or ``LicenseRef-...`` for terms that SPDX does not list.
        name: The name that people know it by.
        url: Where its text, or the publisher's statement of it, stands.
        evidence: Why we say that the source is under it; for a ``LicenseRef-``, the terms in words.
        hub: The identifier that the Hugging Face Hub uses in card YAML.
        commercial: Whether the text may be used commercially; None where that is unsettled.
        redistribution: Whether a row, which is the text in another form, may be passed on.
        adaptation: Whether texts made from it (merged, rewritten, translated) may be passed on.
        share_alike: Whether these must then be under the same licence.
        attribution: Whether credit is owed: authors, source, licence, changes, or a notice to keep.
        settled: Whether it is known, and undisputed, that these terms cover all of the text. All rights
            reserved is settled, too: the answer is no.
        output_terms: For text that a model wrote, what its maker's terms ask, in words; else empty.
    """

    id: str
    name: str
    url: str
    evidence: str = ""
    hub: str = "other"
    commercial: bool | None = None
    redistribution: bool | None = None
    adaptation: bool | None = None
    share_alike: bool | None = None
    attribution: bool | None = None
    settled: bool = False
    output_terms: str = ""

    def __post_init__(self) -> None:
        known = KNOWN.get(self.id)
        if known is not None and not self.settled and all(getattr(self, fact) is None for fact in _FACTS):
            for name in (*_FACTS, "settled", "output_terms"):
                object.__setattr__(self, name, getattr(known, name))

    @property
    def open(self) -> bool:
        """Whether anybody may use, change and pass on the text, commercially too, beyond dispute."""
        may = (self.commercial, self.redistribution, self.adaptation)
        return self.settled and not self.output_terms and all(may)

    def because(self, evidence: str, **changes: Any) -> License:
        """Returns the same licence with the evidence of one source, and with what else is particular."""
        return replace(self, evidence=evidence, **changes)

    def described(self) -> dict[str, Any]:
        """The entry of a manifest's ``license_terms``, which has the id as its key."""
        names = ("name", "url", "evidence", "hub", *_FACTS, "settled", "output_terms")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def of(cls, spdx: str) -> License:
        """The licence of an id as `KNOWN` has it; of any other, one of which nothing is settled."""
        return KNOWN.get(spdx) or cls(spdx, spdx, "")
