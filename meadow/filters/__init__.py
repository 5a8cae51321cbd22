"""What a build does to rows after they are parsed: one file per filter.

Two kinds. *Row filters* (quality, language, license, privacy) look at one `Example` at a time, in the
worker that parses it. *Set filters* (contamination, duplicates) look at all rows of a build at once,
in its part files. Every row that a filter leaves out has its reason in ``rejected.parquet``, and
every stage has its line in the funnel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from meadow.core.builder import Builder
    from meadow.core.options import BuildOptions
    from meadow.core.parts import Seen
    from meadow.core.row import Example, Rejected


class RowFilter(Protocol):
    """A filter that looks at one row at a time; made once per shard, in its worker."""

    #: Its name in `STAGES`.
    stage: str

    def __call__(self, example: Example, seen: Seen) -> Example | Rejected:
        """Returns the row, perhaps repaired or masked, or why it is left out."""
        ...


#: The row filters, in the order in which a row passes them.
ROW_FILTERS = ("quality", "language", "license", "privacy")
#: The set filters; `meadow.pipeline.screen` runs them.
SET_FILTERS = ("contamination", "duplicates")
#: The stages of a funnel, in the order in which a row passes them.
STAGES = ("source", *ROW_FILTERS, *SET_FILTERS)


def row_filters(builder: Builder, options: BuildOptions, *, sample: bool) -> list[RowFilter]:
    """The row filters of a source under these settings, in the order of `STAGES`."""
    # Each filter's module is imported where it is asked for: some load models.
    found: list[RowFilter] = []
    if options.quality != "off":
        from meadow.core.quality import Quality
        from meadow.filters.quality import QualityFilter

        found.append(QualityFilter(builder.quality or Quality()))
    if options.languages:
        from meadow.filters.language import LanguageFilter

        found.append(LanguageFilter(options.languages))
    if options.policy is not None:
        from meadow.filters.license import LicenseFilter

        found.append(LicenseFilter(options.policy, builder, sample=sample))
    policy = options.privacy or builder.privacy
    if policy != "off":
        from meadow.filters.privacy import PrivacyFilter

        found.append(PrivacyFilter(policy))
    return found
