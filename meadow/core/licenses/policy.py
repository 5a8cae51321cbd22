"""Which licences the rows of a build may have."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import pydantic

from meadow.core import yamlfile
from meadow.core.licenses import License, generator_terms


def _known(patterns: tuple[str, ...], info: pydantic.ValidationInfo) -> tuple[str, ...]:
    """Refuses patterns that match no licence there is: a misspelt `deny` would let everything pass."""
    context: dict[str, Collection[str]] = info.context or {}
    known = context.get("licenses", ())
    spelt = {spdx.lower(): spdx for spdx in sorted(known)}
    wrong = []
    for pattern in patterns if known else ():
        is_own = re.fullmatch(r"licenseref-[a-z0-9.*?-]+", pattern.lower())
        if is_own or any(_matches(spdx, [pattern]) for spdx in known):
            continue
        near = get_close_matches(re.sub(r"[\s_]+", "-", pattern.strip().lower()), spelt, 1, 0.7)
        hint = f"did you mean {spelt[near[0]]}?" if near else "see `meadow.licenses.KNOWN` for those that are"
        wrong.append(f"{pattern!r} is the id of no known licence; {hint}")
    if wrong:
        raise ValueError("; ".join(wrong))
    return patterns


Ids = Annotated[tuple[str, ...], pydantic.AfterValidator(_known)]


class Policy(yamlfile.Model):
    """Which licences the rows of a build may have. All that it sets must hold at once.

    Attributes:
        allow: Ids, or patterns such as ``CC-BY-*``, of which one must match; empty for any.
        deny: The same, of which none may match; it goes before `allow`.
        commercial_only: Whether the licence must permit commercial use. Unsettled is not yes.
        open_only: Whether it must be open: settled, with leave to use, change and pass on for any purpose.
    """

    allow: Ids = ()
    deny: Ids = ()
    commercial_only: bool = False
    open_only: bool = False

    @pydantic.model_validator(mode="after")
    def _asks_something(self) -> Policy:
        if not (self.allow or self.deny or self.commercial_only or self.open_only):
            raise ValueError(
                "every row passes it: lists are empty and the rest is false. Name a licence, or set "
                "commercial_only or open_only to true"
            )
        return self

    @classmethod
    def load(cls, path: Path | str, known: Collection[str]) -> Policy:
        """Reads a policy file, YAML with the attributes as keys.

        Args:
            path: The file.
            known: The ids of all licences there are; see `meadow.core.builder.license_ids`.

        Raises:
            FileMistakesError: The file cannot be read or understood, or would keep every row; the message has
                all that is wrong with it.
        """
        return yamlfile.read(path, cls, context={"licenses": known})

    def permits(self, license: License, generator: str | None = None) -> str | None:  # noqa: A002
        """Why a row under this licence may not be kept, in a constant phrase, or None where it may.

        Args:
            license: The row's licence.
            generator: The model that wrote the row, whose terms must be permitted, too.
        """
        reason = self._against(license)
        if reason is None and generator:
            reason = self._against(generator_terms(generator))
            return f"generated text: {reason}" if reason else None
        return reason

    def _against(self, license: License) -> str | None:  # noqa: A002
        if _matches(license.id, self.deny):
            return "license denied by policy"
        if self.allow and not _matches(license.id, self.allow):
            return "license not allowed by policy"
        if self.commercial_only and license.commercial is False:
            return "license forbids commercial use"
        if (self.commercial_only or self.open_only) and not (
            license.settled and license.commercial is not None
        ):
            return "license is not settled"
        if self.open_only and not license.open:
            return "license is not open"
        return None

    def described(self) -> dict[str, Any]:
        """The policy as a manifest records it."""
        return self.model_dump(mode="json")


def _matches(spdx: str, patterns: Iterable[str]) -> bool:
    from fnmatch import fnmatchcase

    # SPDX ids are compared without regard to case.
    return any(fnmatchcase(spdx.lower(), pattern.lower()) for pattern in patterns)
