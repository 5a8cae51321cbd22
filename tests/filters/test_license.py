"""The licence filter: which rows a policy keeps."""

from __future__ import annotations

from typing import Any

import pytest

from meadow.builders.flashcards.builder import Flashcards
from meadow.builders.medqa.builder import MedQA
from meadow.builders.stackexchange.builder import StackExchange
from meadow.core.licenses.policy import Policy
from meadow.core.parts import Seen
from meadow.core.row import Example, Rejected
from meadow.filters.license import LicenseFilter
from tests.toy import Toy


def row(**more: Any) -> Example:
    return Example(
        **{"id": "x/1", "instruction": "i", "input": "What?", "output": "That.", "group": "g", **more}
    )


def verdict(
    policy: Policy, builder: Any, example: Example, *, sample: bool = False
) -> tuple[str, str] | None:
    found = LicenseFilter(policy, builder, sample=sample)(example, Seen())
    if isinstance(found, Rejected):
        assert (found.id, found.excerpt, found.configs) == (example.id, example.input, example.configs)
        assert found.remedy
        return found.reason, found.detail
    assert found is example
    return None


def test_a_row_without_a_licence_has_its_builders() -> None:
    commercial = Policy(commercial_only=True)
    assert verdict(commercial, MedQA(), row()) == (
        "license is not settled",
        "LicenseRef-MedQA-disputed, MIT notice on the repository, origin of the questions disputed",
    )
    assert (
        verdict(commercial, Flashcards(), row(configs=("medical_flashcards",)))[0] == "license is not settled"
    )
    assert verdict(commercial, Toy(), row()) is None


def test_a_rows_own_licence_goes_first() -> None:
    no_share_alike = Policy(deny=("CC-BY-SA-*",))
    assert verdict(no_share_alike, Toy(), row(license="CC-BY-SA-4.0"))[0] == "license denied by policy"
    assert verdict(no_share_alike, Toy(), row()) is None


def test_a_part_under_another_licence_counts() -> None:
    policy = Policy(deny=("CC-BY-SA-2.5",))
    builder = StackExchange()
    answer = row(license="CC-BY-SA-3.0", extra={"question_license": "CC-BY-SA-2.5"})
    assert verdict(policy, builder, answer) == ("license denied by policy", "question_license: CC-BY-SA-2.5")
    assert verdict(policy, builder, row(extra={"question_license": "CC-BY-SA-3.0"})) is None
    unknown = row(extra={"question_license": None})
    assert verdict(Policy(open_only=True), builder, unknown) == (
        "license is not settled",
        "question_license: LicenseRef-unknown",
    )
    # A builder without such a column has no such part.
    assert verdict(policy, Toy(), answer) is None


@pytest.mark.parametrize("generator", ["gpt-3.5-turbo", "llama-3-8b"])
def test_generated_rows_need_their_generators_leave(generator: str) -> None:
    found = verdict(Policy(commercial_only=True), Toy(), row(generator=generator))
    assert found is not None
    assert found[0] == "generated text: license is not settled"
    assert found[1].endswith(f"written by {generator}")


def test_samples_are_our_own_writing() -> None:
    commercial = Policy(commercial_only=True)
    assert verdict(commercial, MedQA(), row(generator="gpt-4"), sample=True) is None
    assert verdict(Policy(allow=("MIT",)), MedQA(), row(), sample=True) == (
        "license not allowed by policy",
        "CC0-1.0, which all rows of a sample are under",
    )


def test_an_id_that_nobody_declares_is_unsettled() -> None:
    assert (
        verdict(Policy(open_only=True), Toy(), row(license="LicenseRef-Odd"))[0] == "license is not settled"
    )
    assert verdict(Policy(open_only=True), Toy(), row(license="CC-BY-4.0")) is None


def test_many_rows_ask_once() -> None:
    asked = []

    class Counting(Policy):
        def permits(self, *args: Any) -> str | None:
            asked.append(args)
            return super().permits(*args)

    found = LicenseFilter(Counting(commercial_only=True), MedQA(), sample=False)
    for number in range(1000):
        assert isinstance(found(row(id=f"x/{number}"), Seen()), Rejected)
    assert len(asked) == 1
