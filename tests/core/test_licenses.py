"""What licences permit, what policies keep, and what follows for a whole dataset."""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from meadow.core.builder import available, license_ids
from meadow.core.licenses import (
    CC0,
    CC_BY_40,
    CC_BY_NC_40,
    CC_BY_ND_40,
    CC_BY_SA_25,
    CC_BY_SA_30,
    CC_BY_SA_40,
    DISPUTED,
    GENERATED,
    KNOWN,
    MIT,
    OPENAI_GENERATED,
    RESEARCH_ONLY,
    RIGHTS_RESERVED,
    UNKNOWN,
    US_GOVERNMENT,
    License,
    generator_terms,
)
from meadow.core.licenses.judge import QUESTIONS, Answer, Verdict, judge
from meadow.core.licenses.policy import Policy
from meadow.core.manifest import Manifest
from meadow.core.yamlfile import FileMistakesError, check
from meadow.describe.cards import dataset_card
from meadow.describe.cards.metadata import HUB_LICENSES
from meadow.describe.cards.templates import render_markdown
from tests.describe.test_cards import WORDS, block, make_manifest
from tests.hubcards import problems
from tests.manifests import as_json

# Commercial use, passing on, adaptation, share-alike, attribution, settled.
FACTS = {
    "CC0-1.0": (True, True, True, False, False, True),
    "CC-BY-2.5": (True, True, True, False, True, True),
    "CC-BY-4.0": (True, True, True, False, True, True),
    "CC-BY-SA-2.5": (True, True, True, True, True, True),
    "CC-BY-SA-3.0": (True, True, True, True, True, True),
    "CC-BY-SA-4.0": (True, True, True, True, True, True),
    "CC-BY-NC-4.0": (False, True, True, False, True, True),
    "CC-BY-NC-SA-4.0": (False, True, True, True, True, True),
    "CC-BY-ND-4.0": (True, None, False, False, True, True),
    "CC-BY-NC-ND-4.0": (False, None, False, False, True, True),
    "MIT": (True, True, True, False, True, True),
    "Apache-2.0": (True, True, True, False, True, True),
    "GPL-3.0-only": (True, True, True, True, True, True),
    "PDDL-1.0": (True, True, True, False, False, True),
    "LicenseRef-US-government-work": (True, True, True, False, False, True),
    "LicenseRef-unknown": (None, None, None, None, None, False),
    "LicenseRef-disputed": (None, None, None, None, None, False),
    "LicenseRef-research-only": (False, None, None, None, None, False),
    "LicenseRef-all-rights-reserved": (False, False, False, False, None, True),
    "LicenseRef-OpenAI-generated": (None, True, True, False, False, False),
}


@pytest.mark.parametrize("spdx", FACTS)
def test_facts(spdx: str) -> None:
    one = KNOWN[spdx]
    assert (
        one.commercial, one.redistribution, one.adaptation, one.share_alike, one.attribution, one.settled
    ) == FACTS[spdx]  # fmt: skip


def test_every_known_licence_has_a_name_an_address_and_a_hub_id_that_is_there() -> None:
    for spdx, one in KNOWN.items():
        assert one.id == spdx
        assert re.fullmatch(r"[A-Za-z0-9.-]+", spdx)
        assert one.name
        assert one.hub in HUB_LICENSES, spdx
        if not spdx.startswith("LicenseRef-"):
            assert one.url.startswith("https://"), spdx
        else:
            assert one.evidence, spdx
    assert KNOWN["CC-BY-NC-SA-4.0"].name == "Creative Commons Attribution-NonCommercial-ShareAlike 4.0"
    assert KNOWN["CC-BY-SA-2.5"].url == "https://creativecommons.org/licenses/by-sa/2.5/"
    assert KNOWN["CC-BY-SA-2.5"].hub == "other"  # the Hub does not list it


def test_only_undisputed_and_free_is_open() -> None:
    found = {spdx for spdx, one in KNOWN.items() if one.open}
    assert {"CC0-1.0", "CC-BY-4.0", "CC-BY-SA-3.0", "MIT", "GPL-3.0-only"} <= found
    assert not found & {
        "CC-BY-NC-4.0", "CC-BY-ND-4.0", "LicenseRef-unknown", "LicenseRef-disputed",
        "LicenseRef-research-only", "LicenseRef-all-rights-reserved", "LicenseRef-OpenAI-generated",
    }  # fmt: skip


def test_a_declaration_without_facts_has_those_of_its_id() -> None:
    own = License("CC-BY-NC-4.0", "BY-NC", "https://example.org", "Printed on the last page.")
    assert (own.commercial, own.settled, own.name) == (False, True, "BY-NC")
    other = License("LicenseRef-Ward-Terms", "Ward terms", "https://example.org", "Ask the ward.")
    assert (other.commercial, other.redistribution, other.settled) == (None, None, False)
    assert pickle.loads(pickle.dumps(own)) == own


def test_because_keeps_the_facts_and_says_what_is_particular() -> None:
    mine = RIGHTS_RESERVED.because("The owner says so.", id="LicenseRef-X-all-rights-reserved", name="X")
    assert (mine.id, mine.name, mine.evidence) == (
        "LicenseRef-X-all-rights-reserved", "X", "The owner says so."
    )  # fmt: skip
    assert (mine.commercial, mine.settled) == (False, True)
    assert MIT.because("In the file LICENSE.").evidence == "In the file LICENSE."


def test_a_manifest_gives_back_what_was_described() -> None:
    terms = {one.id: one.described() for one in KNOWN.values()}
    read = Manifest.model_validate(as_json(licenses=dict.fromkeys(terms, 1), license_terms=terms))
    assert read.license_terms == dict(KNOWN)
    assert License.of("LicenseRef-Z") == License("LicenseRef-Z", "LicenseRef-Z", "")


def test_sources_are_declared_as_what_they_are() -> None:
    found, broken = available()
    assert not broken
    facts = {name: (c.license.id, c.license.settled, c.license.open) for name, c in found.items()}
    expected = {
        "flashcards": ("LicenseRef-flashcards-unknown", False, False),
        "medqa": ("LicenseRef-MedQA-disputed", False, False),
        "pubmedqa": ("LicenseRef-PubMedQA-abstracts", False, False),
        "stackexchange": ("CC-BY-SA-4.0", True, True),
        "usmle": ("LicenseRef-USMLE-all-rights-reserved", True, False),
        "wikidoc": ("CC-BY-SA-3.0", True, True),
    }
    assert {name: facts[name] for name in expected} == expected
    assert found["medqa"].license.commercial is None  # not MIT's yes
    assert found["usmle"].license.redistribution is False
    assert [one.id for one in found["stackexchange"].licenses] == ["CC-BY-SA-2.5", "CC-BY-SA-3.0"]
    for source in found.values():
        assert source.license.evidence


@pytest.mark.parametrize(
    "generator",
    ["gpt-3.5-turbo", "GPT-4", "gpt4o", "ChatGPT", "text-davinci-003", "openai/gpt-4o-mini", "o1-preview", "gpt 4"],
)  # fmt: skip
def test_openai_models_by_name(generator: str) -> None:
    assert generator_terms(generator) is OPENAI_GENERATED


@pytest.mark.parametrize(
    "generator", ["gpt-2", "openai/gpt-oss-120b", "gpt-j-6b", "llama-3-8b", "claude-3", "o1ive"]
)
def test_other_models_have_terms_that_are_not_recorded(generator: str) -> None:
    assert generator_terms(generator) is GENERATED


# Policies.


def policy(tmp_path: Path, text: str) -> Policy:
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    return Policy.load(path, license_ids())


def test_deny_goes_before_allow(tmp_path: Path) -> None:
    found = policy(tmp_path, "allow: [CC-*, MIT]\ndeny: ['CC-BY-NC-*']\n")
    assert found.permits(CC_BY_40) is None
    assert found.permits(MIT) is None
    assert found.permits(CC_BY_NC_40) == "license denied by policy"
    assert found.permits(UNKNOWN) == "license not allowed by policy"
    assert policy(tmp_path, "deny: [cc-by-nc-4.0]").permits(CC_BY_NC_40) == "license denied by policy"


@pytest.mark.parametrize(
    ("license", "commercial", "open_"),
    [
        (CC0, None, None),
        (CC_BY_SA_30, None, None),
        (US_GOVERNMENT, None, None),
        (CC_BY_ND_40, None, "license is not open"),
        (CC_BY_NC_40, "license forbids commercial use", "license is not open"),
        (RIGHTS_RESERVED, "license forbids commercial use", "license is not open"),
        (RESEARCH_ONLY, "license forbids commercial use", "license is not settled"),
        (UNKNOWN, "license is not settled", "license is not settled"),
        (DISPUTED, "license is not settled", "license is not settled"),
        (MIT.because("Doubtful.", settled=False), "license is not settled", "license is not settled"),
    ],
)
def test_commercial_only_and_open_only(license: License, commercial: str | None, open_: str | None) -> None:  # noqa: A002
    assert Policy(commercial_only=True).permits(license) == commercial
    assert Policy(open_only=True).permits(license) == open_


def test_generated_text_has_its_generators_terms_on_top() -> None:
    assert Policy(commercial_only=True).permits(CC_BY_40, "gpt-4") == "generated text: license is not settled"
    assert Policy(deny=("LicenseRef-OpenAI-*",)).permits(CC_BY_40, "gpt-4") == (
        "generated text: license denied by policy"
    )
    assert Policy(deny=("LicenseRef-OpenAI-*",)).permits(CC_BY_40, "llama-3-8b") is None
    assert Policy(allow=("CC-BY-4.0",)).permits(CC_BY_40, "gpt-4") == (
        "generated text: license not allowed by policy"
    )
    assert Policy(allow=("CC-BY-4.0", "LicenseRef-OpenAI-generated")).permits(CC_BY_40, "gpt-4") is None


def test_all_that_is_wrong_with_a_policy_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileMistakesError) as caught:
        policy(
            tmp_path,
            "alow: [MIT]\ndeny: [CC BY NC 4.0, 'CC-BY-NX-*', MIT]\nallow: CC0-1.0\ncommercial_only: sometimes\n",
        )
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "policy.yaml"))
    assert "alow: unknown key; did you mean allow?; known: allow, deny, commercial_only, open_only" in message
    assert "deny: 'CC BY NC 4.0' is the id of no known licence; did you mean CC-BY-NC-4.0?" in message
    assert "'CC-BY-NX-*' is the id of no known licence" in message
    assert "allow: is text, and must be a list" in message
    assert "commercial_only: is text, and must be true or false" in message
    assert message.count("\n  - ") == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deny: [MIT]\ndeny: [CC0-1.0]\n", "the key 'deny' stands twice"),
        ("allow: []\n", "every row passes it"),
        ("commercial_only: false\ndeny: []\n", "every row passes it"),
    ],
)
def test_a_policy_that_would_let_pass_what_it_names_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(FileMistakesError, match=said):
        policy(tmp_path, text)


@pytest.mark.parametrize("text", ["", "[]", "a: &a [*a", "\x00", "allow: &a [*a]"])
def test_what_is_no_policy_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(FileMistakesError, match=r"policy\.yaml"):
        policy(tmp_path, text)


def test_a_policy_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMistakesError, match="cannot be read: No such file or directory"):
        Policy.load(tmp_path / "nowhere.yaml", license_ids())


def test_ids_of_sources_and_own_ones_are_known(tmp_path: Path) -> None:
    found = policy(tmp_path, "deny: [LicenseRef-MedQA-disputed, LicenseRef-Our-Ward, 'LicenseRef-*']")
    assert found.deny == ("LicenseRef-MedQA-disputed", "LicenseRef-Our-Ward", "LicenseRef-*")
    assert check(found.described(), Policy, "manifest") == found
    assert found.described() == {
        "allow": [],
        "deny": ["LicenseRef-MedQA-disputed", "LicenseRef-Our-Ward", "LicenseRef-*"],
        "commercial_only": False,
        "open_only": False,
    }


# Verdicts.


@dataclass
class Part:
    """What is judged of a dataset."""

    licenses: dict[str, int]
    license_terms: dict[str, License] = field(default_factory=dict)
    generators: dict[str, int] = field(default_factory=dict)


def verdict(licenses: dict[str, int], *terms: License, **generators: int) -> Verdict:
    """Of one dataset alone."""
    written = {name.replace("_", "-"): rows for name, rows in generators.items()}
    return judge({"": Part(licenses, {one.id: one for one in terms}, written)})


def answers(licenses: dict[str, int], **generators: int) -> dict[str, str]:
    found = verdict(licenses, **generators)
    assert found.rows == sum(licenses.values())
    return {name: answer.answer for name, answer in found.answers.items()}


def test_rows_of_the_public_domain_are_free() -> None:
    assert answers({"CC0-1.0": 3}) == {
        "commercial": "yes",
        "redistribution": "yes",
        "adaptation": "yes",
        "attribution": "none owed",
        "training": "yes",
    }


@pytest.mark.parametrize(
    ("licenses", "adaptation"),
    [
        (("CC0-1.0", "MIT", "CC-BY-4.0"), "yes"),
        (("CC-BY-SA-2.5",), "yes, under CC-BY-SA-2.5"),
        # Later versions stand in for earlier ones, never the other way round.
        (("CC-BY-SA-2.5", "CC-BY-SA-3.0"), "yes, under CC-BY-SA-3.0"),
        (("CC-BY-SA-2.5", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-BY-4.0"), "yes, under CC-BY-SA-4.0"),
        (("CC-BY-NC-SA-3.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-4.0", "CC-BY-4.0"), "yes, under CC-BY-NC-SA-4.0"),
        (("CC-BY-NC-4.0", "CC-BY-4.0"), "yes, not commercially"),
        (("CC-BY-SA-3.0", "CC-BY-NC-SA-4.0"), "no"),
        (("CC-BY-SA-4.0", "CC-BY-NC-4.0"), "no"),
        (("CC-BY-4.0", "CC-BY-ND-4.0"), "no"),
        # The one way from Creative Commons to the GNU licence begins at 4.0.
        (("CC-BY-SA-4.0", "GPL-3.0-only"), "yes, under GPL-3.0-only"),
        (("CC-BY-SA-4.0", "GPL-3.0-or-later"), "yes, under GPL-3.0-or-later"),
        (("GPL-3.0-or-later", "GPL-3.0-only"), "yes, under GPL-3.0-only"),
        (("CC-BY-SA-3.0", "GPL-3.0-only"), "no"),
        (("CC-BY-NC-SA-4.0", "GPL-3.0-only"), "no"),
        (("CC-BY-SA-4.0", "LicenseRef-unknown"), "unsettled"),
        (("CC-BY-4.0", "LicenseRef-all-rights-reserved"), "no"),
    ],
)
def test_one_work_of_all_rows(licenses: tuple[str, ...], adaptation: str) -> None:
    assert answers(dict.fromkeys(licenses, 10))["adaptation"] == adaptation


def test_a_clash_names_both_sides() -> None:
    found = verdict({"CC-BY-SA-3.0": 90, "CC-BY-NC-SA-4.0": 10})
    assert found.answers["adaptation"].because == (
        "CC-BY-NC-SA-4.0 on one side, CC-BY-SA-3.0 on the other: each side asks for a licence of its own.",
    )
    # Side by side they may stand: each keeps its own.
    assert found.answers["redistribution"].answer == "yes, not commercially"
    assert found.answers["redistribution"].because == (
        "CC-BY-NC-SA-4.0 (10 rows, 10.0 %) forbids commercial use.",
    )


def test_the_strictest_parts_stand_first() -> None:
    found = verdict(
        {
            "MIT": 600,
            "CC-BY-NC-4.0": 50,
            "LicenseRef-USMLE-all-rights-reserved": 150,
            "LicenseRef-unknown": 200,
        },
        RIGHTS_RESERVED.because("x", id="LicenseRef-USMLE-all-rights-reserved"),
    )
    assert found.answers["commercial"].answer == "no"
    assert found.answers["commercial"].because == (
        "LicenseRef-USMLE-all-rights-reserved (150 rows, 15.0 %) and CC-BY-NC-4.0 (50 rows, 5.0 %) forbid it.",
        "LicenseRef-unknown (200 rows, 20.0 %) does not settle it.",
    )
    assert found.answers["redistribution"].answer == "no"
    assert found.answers["redistribution"].because[0] == (
        "LicenseRef-USMLE-all-rights-reserved (150 rows, 15.0 %) gives no leave to pass rows on."
    )


def test_unsettled_is_not_counted_as_yes() -> None:
    assert answers({"MIT": 5, "LicenseRef-unknown": 1}) == {
        "commercial": "unsettled",
        "redistribution": "unsettled",
        "adaptation": "unsettled",
        "attribution": "owed",
        "training": "unsettled",
    }
    assert answers({"CC0-1.0": 5, "LicenseRef-unknown": 1})["attribution"] == "unsettled"
    credit = verdict({"MIT": 5, "LicenseRef-unknown": 1}).answers["attribution"]
    assert credit.because[-1] == "LicenseRef-unknown (1 row, 16.7 %) does not settle it."
    doubtful = verdict({"MIT": 5}, MIT.because("Doubtful.", settled=False))
    assert doubtful.answers["commercial"].answer == "unsettled"


def test_generated_text_restricts_training() -> None:
    found = verdict({"CC-BY-4.0": 100}, gpt_4=40)
    assert found.answers["training"].answer == "restricted"
    assert found.answers["training"].because == (
        "Text by gpt-4 (40 rows, 40.0 %) must not be used to develop models that compete with OpenAI.",
    )
    assert found.answers["commercial"].answer == "unsettled"
    assert found.answers["redistribution"].answer == "yes"
    assert answers({"CC-BY-4.0": 100}, llama_3=1)["training"] == "restricted"
    # Declared as the licence of rows it says the same.
    declared = verdict({"LicenseRef-OpenAI-generated": 7})
    assert declared.answers["training"].because == (
        "LicenseRef-OpenAI-generated (7 rows) must not be used to develop models that compete with OpenAI.",
    )


def test_a_mixture_names_its_parts() -> None:
    found = judge(
        {
            "stackexchange": Part({"CC-BY-SA-4.0": 300, "CC-BY-SA-2.5": 100}),
            "wikidoc": Part({"CC-BY-SA-3.0": 500}),
            "other": Part({"CC-BY-SA-3.0": 100}, generators={"gpt-4": 20}),
        }
    )
    assert found.rows == 1000
    assert found.answers["adaptation"].answer == "yes, under CC-BY-SA-4.0"
    assert found.answers["adaptation"].because == (
        "CC-BY-SA-3.0 (600 rows, 60.0 %: wikidoc 500, other 100), CC-BY-SA-4.0 (300 rows, 30.0 %: stackexchange 300) "
        "and CC-BY-SA-2.5 (100 rows, 10.0 %: stackexchange 100) are share-alike.",
    )
    assert found.answers["training"].because[0].startswith("Text by gpt-4 (20 rows, 2.0 %: other 20) ")


def test_the_same_id_with_other_facts_in_another_part_is_judged_apart() -> None:
    doubtful = {"MIT": MIT.because("Doubtful.", settled=False)}
    found = judge(
        {
            "a": Part({"MIT": 10}, {"MIT": MIT}),
            "b": Part({"MIT": 30}, doubtful),
        }
    )
    assert found.answers["commercial"].because == ("MIT (30 rows, 75.0 %: b 30) does not settle it.",)


def test_the_order_of_parts_does_not_matter() -> None:
    one = {"CC-BY-SA-3.0": 5, "CC-BY-SA-4.0": 5, "MIT": 5, "LicenseRef-unknown": 5}
    other = dict(reversed(one.items()))
    assert verdict(one) == verdict(other)


def test_markdown_says_it_all_and_is_inert() -> None:
    found = verdict({"CC-BY-SA-3.0": 2, "LicenseRef-[x](y)<b>": 1})
    text = render_markdown("verdict.md.j2", questions=QUESTIONS, found=found)
    assert (
        "- **Passing on one work made of all of them: unsettled.** LicenseRef-\\[x\\](y)&lt;b&gt; (1 row, 33.3 %)"
        in text
    )
    assert "- **Credit: owed.** CC-BY-SA-3.0 (2 rows, 66.7 %) asks for it" in text
    assert "it is no legal advice." in text
    assert len(re.findall(r"^- \*\*", text, re.MULTILINE)) == 5


def test_no_rows_no_claims() -> None:
    assert verdict({}).answers["commercial"] == Answer("yes", ())


def test_versions_of_by_sa_are_distinct() -> None:
    assert len({CC_BY_SA_25.url, CC_BY_SA_30.url, CC_BY_SA_40.url}) == 3


def test_a_card_shows_what_may_be_done_with_all_of_it() -> None:
    terms = {MIT.id: MIT.described(), UNKNOWN.id: UNKNOWN.described()}
    card = dataset_card(
        make_manifest(licenses={MIT.id: 600, UNKNOWN.id: 400}, license_terms=terms, generators={"gpt-4": 10}),
        WORDS,
    )
    assert problems(card) == []
    shown = block(card, "licences")
    assert "### What may be done with all of it" in shown
    assert "- **Commercial use: unsettled.** LicenseRef-unknown (400 rows, 40.0 %)" in shown
    assert "- **Training models: restricted.** Text by gpt-4 (10 rows, 1.0 %) must not be used" in shown
