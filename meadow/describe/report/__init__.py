"""What a store holds, as one HTML page that needs no network: `write_report`.

`gather` reads facts out of manifests and Parquet files, `warnings` says what must be known first, `svg` measures
pictures, and `page` fills the templates.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meadow.core.store import Store

#: The page's name in the output folder.
PAGE = "report.html"


def write_report(
    store: Store, file: Path | None = None, *, rows: int = 50, seed: int = 0
) -> tuple[Path, int]:
    """Writes the report of an output folder; the same folder gives the same bytes.

    Args:
        store: The output folder.
        file: The page to write; None for ``report.html`` in the folder.
        rows: Random rows of each dataset.
        seed: Which random rows.

    Returns:
        The page and its size in bytes.

    Raises:
        StoreError: There is no dataset, or one was built anew meanwhile.
        OSError: The page cannot be written.
    """
    from meadow.describe.report.gather import gather
    from meadow.describe.report.page import page

    text = page(gather(store, rows=rows, seed=seed))
    if file is None:
        store.write(PAGE, text)
        file = store.root / PAGE
    else:
        beside = file.with_name(f".{file.name}.new")
        beside.write_text(text, encoding="utf-8", newline="\n")
        beside.replace(file)
    return file, len(text.encode())
