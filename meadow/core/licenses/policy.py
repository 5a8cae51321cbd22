"""Which licences the rows of a build may have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meadow.core import yamlfile
from meadow.core.licenses.catalogue import generator_terms
from meadow.core.licenses.model import KNOWN, License


class PolicyError(ValueError):
    """A policy that cannot be used; the message names the file, all that is wrong, and the remedy."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Which licences the rows of a build may have. All that it sets must hold at once.

    Attributes:
        allow: Ids, or patterns such as ``CC-BY-*``, of which one must match; empty for any.
        deny: The same, of which none may match; it goes before `allow`.
        commercial_only: Whether the licence must permit commercial use. Unsettled is not yes.
        open_only: Whether it must be open: settled, with leave to use, change and pass on for any purpose.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    commercial_only: bool = False
    open_only: bool = False

    @classmethod
    def load(cls, path: Path | str) -> Policy:
        """Reads a policy file, YAML with the attributes as keys.

        Raises:
            PolicyError: The file cannot be read or understood, or would keep every row; the message lists
                all that is wrong with it.
        """
        import yaml

        try:
            found = yamlfile.loads(Path(path).read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise PolicyError(f"{path}: {error.strerror}. Name a policy file that is there.") from error
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise PolicyError(f"{path}: no YAML: {error}. Repair the file.") from error
        return cls.read(found, str(path))

    @classmethod
    def read(cls, found: object, where: str) -> Policy:
        """Checks a policy that was read from `where`, a file or a part of one.

        Raises:
            PolicyError: As in `load`.
        """
        keys = ("allow", "deny", "commercial_only", "open_only")
        if not isinstance(found, dict) or not found:
            raise PolicyError(f"{where}: it sets none of {', '.join(keys)}. Set at least one.")
        values: dict[str, Any] = {}
        wrong = []
        for key, value in found.items():
            if key not in keys:
                wrong.append(f"unknown key {key!r}; the keys are {', '.join(keys)}")
            elif key.endswith("_only"):
                values[key] = value
                if not isinstance(value, bool):
                    wrong.append(f"{key} is {value!r}; write true or false")
            elif not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                wrong.append(f"{key} is no list of licence ids; write {key}: [CC-BY-4.0, CC0-1.0]")
            else:
                values[key] = tuple(value)
                wrong += _bad_ids(key, value)
        if wrong:
            raise PolicyError(f"{where}: " + "".join(f"\n  - {what}" for what in wrong))
        policy = cls(**values)
        if policy == cls():
            raise PolicyError(
                f"{where}: every row passes it: lists are empty and the rest is false. Name a licence, or set "
                "commercial_only or open_only to true."
            )
        return policy

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
        """The policy as a manifest records it, and as `read` takes it."""
        return {
            "allow": list(self.allow),
            "deny": list(self.deny),
            "commercial_only": self.commercial_only,
            "open_only": self.open_only,
        }


def _matches(spdx: str, patterns: Iterable[str]) -> bool:
    from fnmatch import fnmatchcase

    # SPDX ids are compared without regard to case.
    return any(fnmatchcase(spdx.lower(), pattern.lower()) for pattern in patterns)


def _bad_ids(key: str, patterns: list[str]) -> Iterable[str]:
    """Patterns that match no licence there is: a misspelt `deny` would let everything pass."""
    from difflib import get_close_matches

    from meadow.core.builder import available

    ids = set(KNOWN)
    for source in available()[0].values():
        ids.update(term.id for term in (source.license, *source.licenses))
    spelt = {spdx.lower(): spdx for spdx in sorted(ids)}
    for pattern in patterns:
        is_own = re.fullmatch(r"licenseref-[a-z0-9.*?-]+", pattern.lower())
        if is_own or any(_matches(spdx, [pattern]) for spdx in ids):
            continue
        near = get_close_matches(re.sub(r"[\s_]+", "-", pattern.strip().lower()), spelt, 1, 0.7)
        hint = (
            f"did you mean {spelt[near[0]]}?"
            if near
            else "see KNOWN in meadow.core.licenses for those that are"
        )
        yield f"{key}: {pattern!r} is the id of no known licence; {hint}"
