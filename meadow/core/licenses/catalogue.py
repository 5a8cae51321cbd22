"""The licences that medical sources really have, those that are none included."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from meadow.core.licenses.model import KNOWN, License


def _listed(spdx: str, name: str, url: str, evidence: str = "", hub: str = "other", **facts: Any) -> License:
    facts = {"settled": True, "share_alike": False, **facts}
    KNOWN[spdx] = found = License(spdx, name, url, evidence, hub, **facts)
    return found


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
    return _listed(
        f"CC-{elements}-{version}",
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
    )


_FREE: Mapping[str, Any] = {"commercial": True, "redistribution": True, "adaptation": True}

CC0 = _listed(
    "CC0-1.0",
    "Creative Commons Zero 1.0",
    "https://creativecommons.org/publicdomain/zero/1.0/",
    "Written for Meadow by its contributors, who waive their rights.",
    hub="cc0-1.0",
    attribution=False,
    **_FREE,
)
CC_BY_20, CC_BY_25, CC_BY_30, CC_BY_40 = (_cc("BY", v) for v in ("2.0", "2.5", "3.0", "4.0"))
CC_BY_SA_20, CC_BY_SA_25, CC_BY_SA_30, CC_BY_SA_40 = (_cc("BY-SA", v) for v in ("2.0", "2.5", "3.0", "4.0"))
CC_BY_NC_20, CC_BY_NC_30, CC_BY_NC_40 = (_cc("BY-NC", v) for v in ("2.0", "3.0", "4.0"))
CC_BY_NC_SA_20, CC_BY_NC_SA_30, CC_BY_NC_SA_40 = (_cc("BY-NC-SA", v) for v in ("2.0", "3.0", "4.0"))
CC_BY_ND_30, CC_BY_ND_40 = (_cc("BY-ND", v) for v in ("3.0", "4.0"))
CC_BY_NC_ND_30, CC_BY_NC_ND_40 = (_cc("BY-NC-ND", v) for v in ("3.0", "4.0"))
PDDL = _listed(
    "PDDL-1.0",
    "Open Data Commons Public Domain Dedication and License 1.0",
    "https://opendatacommons.org/licenses/pddl/1-0/",
    hub="pddl",
    attribution=False,
    **_FREE,
)
ODC_BY = _listed(
    "ODC-By-1.0",
    "Open Data Commons Attribution License 1.0",
    "https://opendatacommons.org/licenses/by/1-0/",
    hub="odc-by",
    attribution=True,
    # It licenses the database; what stands in it may have terms of its own (section 2.4).
    **_FREE,
)
MIT = _listed(
    "MIT", "MIT License", "https://opensource.org/license/mit", hub="mit", attribution=True, **_FREE
)
BSD_3 = _listed(
    "BSD-3-Clause",
    "BSD 3-Clause License",
    "https://opensource.org/license/bsd-3-clause",
    hub="bsd-3-clause",
    attribution=True,
    **_FREE,
)
APACHE_2 = _listed(
    "Apache-2.0",
    "Apache License 2.0",
    "https://www.apache.org/licenses/LICENSE-2.0",
    hub="apache-2.0",
    attribution=True,
    **_FREE,
)
GPL_3, GPL_3_LATER = (
    _listed(
        f"GPL-3.0-{which}",
        f"GNU General Public License 3.0 {words}",
        "https://www.gnu.org/licenses/gpl-3.0.html",
        hub="gpl-3.0",
        share_alike=True,
        attribution=True,
        **_FREE,
    )
    for which, words in (("only", "only"), ("or-later", "or later"))
)
US_GOVERNMENT = _listed(
    "LicenseRef-US-government-work",
    "Work of the United States government",
    "https://www.copyright.gov/title17/92chap1.html#105",
    "A work of the United States government has no copyright in the United States (17 U.S.C. 105). Other "
    "countries may grant one, and what it quotes, or had written by contractors, may be protected.",
    attribution=False,
    **_FREE,
)

# What follows is no licence. Sources name their own case of it: ``DISPUTED.because(evidence, id=...)``.
UNKNOWN = _listed(
    "LicenseRef-unknown",
    "Unknown",
    "",
    "No terms are known. Nothing is granted here.",
    share_alike=None,
    settled=False,
)
DISPUTED = _listed(
    "LicenseRef-disputed",
    "Disputed",
    "",
    "Terms are stated, but whoever stated them may not have had the right to. Treat the text as not cleared.",
    share_alike=None,
    settled=False,
)
RIGHTS_RESERVED = _listed(
    "LicenseRef-all-rights-reserved",
    "All rights reserved",
    "",
    "The owner reserves all rights. What the law permits without a licence is all that may be done.",
    commercial=False,
    redistribution=False,
    adaptation=False,
)
RESEARCH_ONLY = _listed(
    "LicenseRef-research-only",
    "Research only",
    "",
    "The publisher asks for use in research only, whatever the licence file of the repository says; whether "
    "research may pass the text on is not said.",
    commercial=False,
    share_alike=None,
    settled=False,
)
OPENAI_GENERATED = _listed(
    "LicenseRef-OpenAI-generated",
    "Text generated by a model of OpenAI, under its terms of use",
    "https://openai.com/policies/terms-of-use/",
    "OpenAI's terms of use leave its output to whoever asked for it, as far as the law permits, and forbid them "
    "to use output to develop models that compete with OpenAI. Whether that binds somebody who only received "
    "the text, what competes, and whether such text has any copyright, is not settled.",
    redistribution=True,
    adaptation=True,
    attribution=False,
    settled=False,
    output_terms="must not be used to develop models that compete with OpenAI",
)
GENERATED = _listed(
    "LicenseRef-generated",
    "Text generated by a model whose terms are not recorded",
    "",
    "A model wrote the text. What its maker's terms ask of those who use its output is not recorded here.",
    share_alike=None,
    settled=False,
    output_terms="may be bound by terms of the model's maker, which are not recorded",
)

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
