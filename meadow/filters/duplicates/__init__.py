"""Exact and near duplicates, within a dataset and across the datasets of one build.

What is compared is the text of a row as `meadow.filters.duplicates.minhash` defines it, over the columns that its
source declares. Rows are *exact* duplicates where these texts are equal, *near* duplicates where at
least `THRESHOLD` of their five-word shingles are the same. MinHash only proposes pairs; each is verified
word by word before a row is dropped for it. Two rows are compared where they are of different sources or
share a dataset: two forms of one source, such as MedQA with four and with five options, are no
duplicates of each other. Exams stay as they were published and take no part.

Rows come in the order of their source's priority, then source name, then id. A row that matches none of
the survivors before it survives; one that does is left out of all its datasets, in favour of the
survivor most like it. Similarity is not passed on: what only resembles a row that was left out stays.
Near duplicates that contradict each other (5 mg, 50 mg; two answers to one question) are kept, see
`meadow.filters.duplicates.opposites`. All this depends on the rows alone, not on how they are cut into parts
or on the number of workers.

Memory, as measured: 40 bytes a row while bands are gone through, one at a time; 430 to 490 for each row that
shares a band with another. (`rensa`'s own index of bands takes 1,400 for every row, and offers each row of a form
that is filled in all others of it.) Files take 120 bytes a row (a number, a 16-byte digest, 12 band hashes of 8
bytes), and the text, shingle hashes and signatures of rows that share a band.
"""

from __future__ import annotations

from meadow.filters.duplicates.minhash import jaccard, normalise
from meadow.filters.duplicates.result import EXACT, NEAR, FoundDuplicates
from meadow.filters.duplicates.search import THRESHOLD, find

__all__ = ["EXACT", "NEAR", "THRESHOLD", "FoundDuplicates", "find", "jaccard", "normalise"]
