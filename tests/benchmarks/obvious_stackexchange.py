"""The program that one writes first: ElementTree, BeautifulSoup, questions in a dictionary, pyarrow.

It gives the same text as Meadow (by the same renderer over BeautifulSoup's tree), and nothing else that
Meadow gives: no provenance, no rejects, no card, no hashes.
"""

from __future__ import annotations

from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
from bs4 import BeautifulSoup

from meadow.parse.htmltext import node_to_text


def main(posts: str, target: str, eager: bool) -> None:
    """Converts a Posts.xml to Parquet.

    Args:
        posts: The file.
        target: The Parquet file.
        eager: Whether questions turn into text when they are met, the simplest way, or only once an
            answer needs them, which spares the text of questions without a good answer.
    """
    questions: dict[str, str | tuple[str, str]] = {}
    rows = []
    for _, element in ElementTree.iterparse(posts):
        if element.get("PostTypeId") == "1":
            question = (element.get("Title"), element.get("Body"))
            questions[element.get("Id")] = _text(*question) if eager else question
        elif element.get("PostTypeId") == "2" and int(element.get("Score")) >= 5:
            question = questions.get(element.get("ParentId"))
            if question is not None:
                rows.append(
                    {
                        "instruction": "Answer this question truthfully",
                        "input": question if eager else _text(*question),
                        "output": node_to_text(BeautifulSoup(element.get("Body"), "html.parser")),
                        "id": element.get("Id"),
                    }
                )
        element.clear()
    pq.write_table(pa.Table.from_pylist(rows), target)


def _text(title: str, body: str) -> str:
    return f"{title}\n\n{node_to_text(BeautifulSoup(body, 'html.parser'))}"
