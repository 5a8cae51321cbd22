"""Speed and memory of a mixture: many more rows to draw from, the same rows drawn.

`make bench` prints the figures. MEADOW_BENCH_ROWS sets the rows of the larger pool (default 400,000).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from meadow.core.row import COLUMNS, arrow_schema
from meadow.core.store import MANIFEST, Store
from tests import manifests

pytestmark = pytest.mark.bench

ROWS = int(os.environ.get("MEADOW_BENCH_ROWS", "400000"))
_ROOT = Path(__file__).resolve().parents[2]
#: Words of made-up rows; a row has some of them, so that texts differ and compress as text does.
_WORDS = (
    "fever cough kidney heart renal acute chronic dose pain skin liver blood test nerve bone lung".split()
)


def write_dataset(store: Store, name: str, count: int) -> None:
    """Writes a built dataset of rows of about 900 characters."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = store.folder(name, "1.0.0")
    folder.mkdir(parents=True)
    schema, per_file = arrow_schema(COLUMNS), 100_000
    files: list[dict[str, Any]] = []
    nbytes = 0
    for start in range(0, count, per_file):
        path = folder / f"train-{start // per_file:05d}-of-{-(-count // per_file):05d}.parquet"
        with pq.ParquetWriter(path, schema, compression="zstd", compression_level=3) as out:
            for low in range(start, min(start + per_file, count), 4000):
                numbers = range(low, min(low + 4000, start + per_file, count))
                texts = [" ".join(_WORDS[(n >> k) % 16] for k in range(16)) + f" {n}" for n in numbers]
                empty = [None] * len(numbers)
                columns = {
                    **dict.fromkeys(COLUMNS, empty),
                    "instruction": ["Answer this question truthfully"] * len(numbers),
                    "input": texts,
                    "output": [f"{text}. " * 8 for text in texts],
                    "id": [f"bench/{name}-{n}" for n in numbers],
                    "task": ["question-answering"] * len(numbers),
                    "options": [[]] * len(numbers),
                    "group": [f"{n}" for n in numbers],
                    "authors": [[]] * len(numbers),
                    "license": ["CC-BY-SA-4.0"] * len(numbers),
                }
                table = pa.table(columns, schema=schema)
                nbytes += table.nbytes
                out.write_table(table, row_group_size=4000)
        files.append({"path": path.name, "bytes": path.stat().st_size, "sha256": "0" * 64})
    manifests.make(
        name=name, source="bench", licenses={"CC-BY-SA-4.0": count}, features=dict(COLUMNS), raw=[],
        funnel={"read": count, "kept": count, "dropped": {}},
        splits={"train": {"rows": count, "bytes": nbytes, "files": files}},
    ).write(folder / MANIFEST)  # fmt: skip


CHILD = """
import json, os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from meadow.mix import building, definition
from meadow.pipeline import publish
from meadow.core.options import BuildOptions
from meadow.core.store import Store
from tests.benchmarks.child import peak
from tests.toy import no_plot
publish.draw = no_plot
mixture, store = definition.load(Path(sys.argv[1])), Store(Path(sys.argv[2]))
before, start = peak(), time.perf_counter()
manifest = building.build(mixture, BuildOptions(out=store.root, raw=Path(sys.argv[2]) / "raw"), builders={})
print(json.dumps({"seconds": time.perf_counter() - start, "peak": peak(), "before": before,
                  "rows": manifest.funnel.kept}))
"""


def _mix(folder: Path, out: Path, name: str, max_rows: int | None) -> dict[str, float]:
    part = {"dataset": name, **({"max_rows": max_rows} if max_rows else {})}
    definition = {
        "name": f"of_{name}", "version": "1.0.0", "description": "A mixture.", "seed": 0,
        "release_notes": {"1.0.0": "First."}, "parts": [part],
    }  # fmt: skip
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(definition), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(out), str(_ROOT)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    write_dataset(Store(folder), "small", ROWS // 10)
    write_dataset(Store(folder), "large", ROWS)
    return folder


def test_memory_is_flat_in_the_rows_to_draw_from(out: Path, tmp_path: Path) -> None:
    drawn = ROWS // 20
    small, large = (_mix(tmp_path, out, name, drawn) for name in ("small", "large"))
    assert small["rows"] == large["rows"] == drawn
    print(
        f"\n{drawn:,} rows of {ROWS // 10:,}: {small['peak'] / 1e6:.0f} MB; of {ROWS:,}: {large['peak'] / 1e6:.0f} MB "
        f"(before: {large['before'] / 1e6:.0f} MB); {ROWS / large['seconds']:,.0f} rows read a second"
    )
    assert large["peak"] < 1.25 * small["peak"]


def test_memory_is_flat_in_the_rows_drawn(out: Path, tmp_path: Path) -> None:
    start = time.perf_counter()
    small, large = (_mix(tmp_path, out, name, None) for name in ("small", "large"))
    grown = large["peak"] - small["peak"]
    print(
        f"\nall of {ROWS // 10:,} rows: {small['peak'] / 1e6:.0f} MB; all of {ROWS:,}: {large['peak'] / 1e6:.0f} MB, "
        f"{grown / (ROWS * 0.9):.0f} bytes for each row more; {ROWS / large['seconds']:,.0f} rows written a second "
        f"({time.perf_counter() - start:.0f} s in all)"
    )
    # 33 bytes of each row are held, and as much again while rows are drawn or go to a worker.
    assert grown < 200 * ROWS
