"""Keeps the rows whose licence the build's policy permits."""

from __future__ import annotations

from meadow.core.builder import Builder
from meadow.core.licenses import CC0, PARTS, UNKNOWN, License, generator_terms
from meadow.core.licenses.policy import Policy
from meadow.core.parts import Seen
from meadow.core.row import Example, Rejected

_REMEDY = "Change the policy, or clear the rights with the owner."


class LicenseFilter:
    """Asks the policy about each row: its licence, those of its parts, and the terms of the model that wrote it.

    A part is a column such as ``question_license``; one that is there and empty is unknown.

    Args:
        policy: What rows may be under.
        builder: The source, whose declared licences the ids of rows stand for.
        sample: Whether the rows are those of the embedded sample. They are Meadow's own writing: CC0, whatever
            the real rows are under, and written by no model, whatever their `generator` imitates.
    """

    stage = "license"

    def __init__(self, policy: Policy, builder: Builder, *, sample: bool) -> None:
        self._policy, self._sample, self._default = policy, sample, builder.license.id
        self._terms = {term.id: term for term in (CC0, builder.license, *builder.licenses)}
        self._parts = tuple(name for name in PARTS if name in builder.extra_features)
        self._found: dict[tuple[str | None, ...], tuple[str, str] | None] = {}

    def __call__(self, example: Example, seen: Seen) -> Example | Rejected:
        """Returns the row, or which of its terms the policy is against."""
        key: tuple[str | None, ...] = ("sample",)
        if not self._sample:
            key = (example.license, example.generator, *(example.extra.get(name) for name in self._parts))
        if key not in self._found:
            self._found[key] = self._ask(key)
        found = self._found[key]
        if found is None:
            return example
        reason, detail = found
        return Rejected(reason, example.id, detail, _REMEDY, example.input, configs=example.configs)

    def _ask(self, key: tuple[str | None, ...]) -> tuple[str, str] | None:
        if self._sample:
            reason = self._policy.permits(CC0)
            return (reason, f"{CC0.id}, which all rows of a sample are under") if reason else None
        named, generator, *parts = key
        terms = [self._license(named or self._default)]
        terms += [self._license(part) if part else UNKNOWN for part in parts]
        for term, where in zip(terms, ("", *self._parts), strict=True):
            reason = self._policy.permits(term)
            if reason:
                return reason, f"{where}: {term.id}" if where else f"{term.id}, {term.name}"
        reason = self._policy.permits(terms[0], generator)
        if reason:
            return reason, f"{generator_terms(generator or '').id}, written by {generator}"
        return None

    def _license(self, spdx: str) -> License:
        return self._terms.get(spdx) or License.of(spdx)
