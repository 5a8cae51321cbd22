"""Runs one thing in a process of its own and prints what it cost: seconds, CPU seconds, peak bytes.

Imports are done before the clock starts, for all contestants alike. CPU time includes that of worker
processes; peak memory is this process's, so it is measured with one worker.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def run_meadow(raw: str, out: str, workers: str, checks: str = "all") -> None:
    from meadow.api import build_datasets
    from meadow.core.options import BuildOptions

    off = "off"
    none = BuildOptions(languages=(), quality=off, privacy=off, contamination=off, duplicates=off)
    filters = none if checks == "none" else BuildOptions()
    report = build_datasets(["stackexchange"], raw=raw, out=out, workers=int(workers), options=filters)
    assert report.manifests, report.failed


def run_obvious(posts: str, target: str, eager: str) -> None:
    from tests.benchmarks import obvious_stackexchange

    obvious_stackexchange.main(posts, target, eager == "eager")


def peak() -> int:
    """The most memory that this program has held, in bytes.

    Not ru_maxrss: across exec it keeps the peak of the process that started this one.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this kernel does not tell the peak of a process")


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    import tests.benchmarks.obvious_stackexchange  # noqa: F401

    start, before = time.perf_counter(), os.times()
    {"meadow": run_meadow, "obvious": run_obvious}[sys.argv[1]](*sys.argv[2:])
    after = os.times()
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - start,
                "cpu": sum(after[:4]) - sum(before[:4]),
                "peak": peak(),
            }
        )
    )


if __name__ == "__main__":
    main()
