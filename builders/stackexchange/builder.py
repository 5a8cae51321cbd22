"""Stack Exchange data dumps: one row per well-received answer, with its question and its authors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import meadow
from meadow.parse.records import unusable_file

_EVIDENCE = (
    "Stack Exchange licenses user contributions under CC BY-SA: the version that the post's ContentLicense "
    "attribute names or, in dumps older than the attribute, the version in force on the day it was posted "
    "(2.5 until 2011-04-08, 3.0 until 2018-05-02, 4.0 since; https://stackoverflow.com/help/licensing)."
)


class StackExchange(meadow.Builder):
    """Question and answer pairs of every site whose dump is in the raw store."""

    name = "stackexchange"
    version = "1.0.0"
    release_notes = {"1.0.0": "First release."}
    description = (
        "Questions from Stack Exchange sites with their well-received answers, attributed row by row."
    )
    homepage = "https://archive.org/details/stackexchange"
    configs = ("stackexchange",)
    raw_files = (
        meadow.RawPattern("*/Posts.xml", "a site's posts, in a folder named after the site"),
        meadow.RawPattern("*.7z", "a site's dump as published, named after the site"),
        meadow.RawPattern("*/Users.xml", "display names for attribution", required=False),
        meadow.RawPattern("*/PostLinks.xml", "which questions are duplicates of one another", required=False),
    )
    license = meadow.licenses.CC_BY_SA_40.because(_EVIDENCE)
    licenses = (
        meadow.licenses.CC_BY_SA_25.because(_EVIDENCE),
        meadow.licenses.CC_BY_SA_30.because(_EVIDENCE),
    )
    changes = (
        "the question and one of its answers were put together and converted from HTML to plain text, without "
        "pictures; where a word in square brackets such as [EMAIL] stands, personal data was taken out"
    )
    # Posts are no pages under construction, and people end with "..." what they mean to leave open.
    quality = meadow.Quality(editorial=False, ellipsis=False)
    extra_features = {
        "site": "string",
        "tags": "list<string>",
        "score": "int64",
        "question_score": "int64",
        "question_license": "string",
    }
    defaults = {"min_score": 5}

    def configs_of(self, raw: meadow.RawSource) -> tuple[str, ...]:
        """The dataset of all sites, and one for each site found."""
        return ("stackexchange", *(f"stackexchange_{site}" for site in sorted(_sites(raw))))

    def card_name(self, config: str) -> str:
        """All sites share the words of one card."""
        return "stackexchange"

    def shards(self, raw: meadow.RawSource) -> Iterator[meadow.Shard | meadow.Rejected]:
        """Partitions each site by question id; a shard is one bucket of a site."""
        # Late, as below: listing datasets needs neither numpy nor lxml.
        from .partition import partition_archive, partition_folder

        folders = {_site(file) for file in raw.matching("*/Posts.xml")}
        for file in raw.matching("*.7z"):
            if _site(file) in folders:
                yield meadow.Rejected(
                    "site given twice", file.path, "its Posts.xml lies beside it and was used",
                    "Remove one of the two.", file=file.path,
                )  # fmt: skip
        if raw.scratch is None:
            raise ValueError("a dump is partitioned on disk: give the raw source a scratch folder")
        min_score = self.parameters["min_score"]
        for site, files in sorted(_sites(raw).items()):
            stem = raw.scratch / site
            configs = ("stackexchange", f"stackexchange_{site}")
            try:
                if files[0].name == "Posts.xml":
                    parts, left_out = partition_folder(raw, site, files, stem, min_score)
                    for error in left_out:
                        yield unusable_file(error, configs)
                else:
                    [parts] = raw.map(partition_archive, [(site, files[0], stem, min_score)])
            except meadow.RawFileError as error:
                yield unusable_file(error, configs)
                continue
            for bucket in range(parts.buckets):
                yield meadow.Shard(f"{site}/{bucket:05d}", files, configs, {"site": parts, "bucket": bucket})

    def examples(self, shard: meadow.Shard) -> Iterator[meadow.Example | meadow.Rejected]:
        """Joins the answers of one bucket with their questions."""
        from .pairs import Bucket

        with closing(Bucket(shard.args["site"], shard.args["bucket"], self.name)) as bucket:
            yield from bucket.examples()


def _site(file: meadow.RawFile) -> str:
    """The site that a raw file belongs to, from its folder's or its own name."""
    folder, _, name = file.path.split("/", 1)[1].rpartition("/")
    return folder or name[: -len(".7z")]


def _sites(raw: meadow.RawSource) -> dict[str, tuple[meadow.RawFile, ...]]:
    """The raw files of each site, the one with the posts first; a folder goes before an archive."""
    sites: dict[str, tuple[meadow.RawFile, ...]] = {_site(file): (file,) for file in raw.matching("*.7z")}
    companions = raw.matching("*/Users.xml", "*/PostLinks.xml")
    for file in raw.matching("*/Posts.xml"):
        site = _site(file)
        sites[site] = (file, *(other for other in companions if _site(other) == site))
    return sites
