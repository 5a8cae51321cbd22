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
too few is counted as `unjudged`.

The thresholds stand in `meadow.filters.contamination.judging`, with what they were measured on;
``docs/contamination.md`` says what is found of real exams, and what is not.
"""

from __future__ import annotations

from meadow.filters.contamination.exams import ExamSource, ExamText, built_exams, read_exam, row_item
from meadow.filters.contamination.index import Index
from meadow.filters.contamination.judging import Hit

__all__ = ["ExamSource", "ExamText", "Hit", "Index", "built_exams", "read_exam", "row_item"]
