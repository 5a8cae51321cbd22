"""Licences: what each one permits, which ones a build may keep, and what follows for a whole dataset.

A row's `license` is an SPDX id, or a ``LicenseRef-`` id where no SPDX licence says what is true of the row:
nobody knows, nobody agrees, all rights are reserved, research only. Such a row is never given the id of
the licence that merely lies in the same repository.

Facts are *yes*, *no* or *unsettled* (None); what nobody settled is not counted as a yes. None of this is
legal advice: it says what the licences' own texts say, and where they say nothing.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

#: What `License` knows beside names; the keys of a manifest's ``license_terms`` are these and names.
_FACTS = ("commercial", "redistribution", "adaptation", "share_alike", "attribution")

#: The licences of this module by id; `License` fills what a declaration leaves out from here.
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


#: The Hub's identifiers among those of Creative Commons; ``cc-by-sa-2.5`` is not one.
_HUB_CC = frozenset(
    "by-2.0 by-2.5 by-3.0 by-4.0 by-nc-2.0 by-nc-3.0 by-nc-4.0 by-nc-nd-3.0 by-nc-nd-4.0 by-nc-sa-2.0 "
    "by-nc-sa-3.0 by-nc-sa-4.0 by-nd-4.0 by-sa-3.0 by-sa-4.0".split()
)
_ELEMENTS = {"BY": "Attribution", "NC": "NonCommercial", "ND": "NoDerivatives", "SA": "ShareAlike"}


def _cc(elements: str, version: str) -> License:
    """A licence of Creative Commons: its facts are the elements of its name (deed of each at its `url`)."""
    slug = f"{elements}-{version}".lower()
    parts = elements.split("-")
    spdx = f"CC-{elements}-{version}"
    KNOWN[spdx] = found = License(
        spdx,
        f"Creative Commons {'-'.join(_ELEMENTS[part] for part in parts)} {version}",
        f"https://creativecommons.org/licenses/{elements.lower()}/{version}/",
        hub=f"cc-{slug}" if slug in _HUB_CC else "other",
        commercial="NC" not in parts,
        # Whether a page cut into questions and answers is still the page or a change of it, which ND
        # does not let anybody pass on, the licence does not say.
        redistribution=None if "ND" in parts else True,
        adaptation="ND" not in parts,
        share_alike="SA" in parts,
        attribution=True,
        settled=True,
    )
    return found


CC_BY_20, CC_BY_25, CC_BY_30, CC_BY_40 = (_cc("BY", v) for v in ("2.0", "2.5", "3.0", "4.0"))
CC_BY_SA_20, CC_BY_SA_25, CC_BY_SA_30, CC_BY_SA_40 = (_cc("BY-SA", v) for v in ("2.0", "2.5", "3.0", "4.0"))
CC_BY_NC_20, CC_BY_NC_30, CC_BY_NC_40 = (_cc("BY-NC", v) for v in ("2.0", "3.0", "4.0"))
CC_BY_NC_SA_20, CC_BY_NC_SA_30, CC_BY_NC_SA_40 = (_cc("BY-NC-SA", v) for v in ("2.0", "3.0", "4.0"))
CC_BY_ND_30, CC_BY_ND_40 = (_cc("BY-ND", v) for v in ("3.0", "4.0"))
CC_BY_NC_ND_30, CC_BY_NC_ND_40 = (_cc("BY-NC-ND", v) for v in ("3.0", "4.0"))

_CATALOGUE = (resources.files(__name__) / "catalogue.toml").read_text(encoding="utf-8")
KNOWN.update({spdx: License(spdx, **told) for spdx, told in tomllib.loads(_CATALOGUE).items()})
CC0 = KNOWN["CC0-1.0"]
PDDL = KNOWN["PDDL-1.0"]
ODC_BY = KNOWN["ODC-By-1.0"]
MIT = KNOWN["MIT"]
BSD_3 = KNOWN["BSD-3-Clause"]
APACHE_2 = KNOWN["Apache-2.0"]
GPL_3 = KNOWN["GPL-3.0-only"]
GPL_3_LATER = KNOWN["GPL-3.0-or-later"]
US_GOVERNMENT = KNOWN["LicenseRef-US-government-work"]
UNKNOWN = KNOWN["LicenseRef-unknown"]
DISPUTED = KNOWN["LicenseRef-disputed"]
RIGHTS_RESERVED = KNOWN["LicenseRef-all-rights-reserved"]
RESEARCH_ONLY = KNOWN["LicenseRef-research-only"]
OPENAI_GENERATED = KNOWN["LicenseRef-OpenAI-generated"]
GENERATED = KNOWN["LicenseRef-generated"]

#: Models of OpenAI by the names that datasets give them; its open ones (gpt-2, gpt-oss) are not among them.
_OPENAI = re.compile(
    r"(?:openai[/: ]\s*)?(?:chat-?gpt|gpt[- ]?[3-9]|(?:text|code)-davinci|davinci|o[1-9](?![a-z0-9]))",
    re.IGNORECASE,
)

#: Columns beside `license` with the licence of a part of the row: the question that an answer answers.
PARTS = ("question_license",)


def generator_terms(generator: str) -> License:
    """What holds on top of a row's licence because a model wrote it.

    Args:
        generator: The row's `generator`, the model's name.
    """
    return OPENAI_GENERATED if _OPENAI.match(generator.strip()) else GENERATED
