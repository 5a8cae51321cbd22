"""Finds rows that hold an item of an exam: nothing that models are scored on may be trained on.

A row is compared with every item of every exam in two steps.

1. *Looking up.* Words are normalised (`meadow.filters.contamination.text`) and hashed, and all runs of three words of a
   whole column are looked up among the exams'. A run counts by the weight of its words, divided by the number of
   texts in the exams that hold it; one in more than sixteen is left out. Rows with a fifth of an item's runs
   go on. Thirteen words, the usual length, would be blind here: with one word in ten changed only a quarter of
   such runs are left, while three words in four are still beside both neighbours.
2. *Comparing.* Row and item are aligned word by word, in order (a longest common subsequence of pairs of words).
   A hit is a share of the item's *own* words: a word weighs the logarithm of how rare it is in the exams, and less
   inside a four-word phrase that several of their texts hold. Stock phrases ("his temperature is 37.2 C,
   pulse is") so weigh little, however many there are. Runs of thirteen words or more that make up half of the
   weight make the hit ``verbatim``, else it is a ``paraphrase``.

An item is its question, the text that the question is about, and its answer if that has thirteen words or more;
each is judged by itself, and any of them in a row is a hit. A question with too few words of its own, such as
"The genome is:", is a hit only together with its options or its right answer. An item that even so has
too few is listed as `IndexedExam.unjudged`.

The thresholds stand in `meadow.filters.contamination.judging` and were measured on public data (six medical MMLU subjects, 1,089
items; MedQA's development split, 1,272; PubMedQA's test split, 500):

==================  ====================================================================================
`SHARE` 0.6         With one word in ten replaced, 99 of 100 questions of 20 to 60 words keep 0.74 or more. Of
                    MedQA's questions compared with each other, four pairs reach 0.6 (0.94, 0.86, 0.71, 0.63), and
                    each is one vignette retold; no other two reach 0.56.
`SHORT_SHARE` 0.7   Of questions under 20 words. Texts on one topic reach 0.65 ("growth hormone deficiency").
`FEW` 8, `ENOUGH`   25 nats are four or five rare words. A disease's long name alone has as much ("glucose 6
25                  phosphate dehydrogenase deficiency"), but not eight words.
`OPTIONS_SHARE`     At 0.5, and looking further around, four of 26,000 unrelated rows hit, texts on the organ that
0.6                 was asked for; at 0.6 none.
==================  ====================================================================================

With these, 46,000 rows of unrelated medical text (26,000 real, 20,000 made of their words in their order) give no hit;
copies with their options are found without exception, and with one word in ten changed 1,272 of 1,272 MedQA items, 500
of 500 PubMedQA items with their abstracts, and 96 of 100 MMLU items, whose questions are often of three words.
The thresholds were chosen on the same data; ``docs/contamination.md`` has figures for items that played no part in it.

What it cannot see: translations, questions retold in entirely different words, and an exam that is not given to it.
"""

from __future__ import annotations

from meadow.filters.contamination.exams import ExamSource, ExamText, IndexedExam
from meadow.filters.contamination.index import Index
from meadow.filters.contamination.judging import Match
from meadow.filters.contamination.reading import built_exams, read_exam, row_item

__all__ = [
    "ExamText",
    "ExamSource",
    "Index",
    "IndexedExam",
    "Match",
    "built_exams",
    "read_exam",
    "row_item",
]
