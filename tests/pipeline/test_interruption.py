"""Builds that are killed, interrupted, or lose a worker: what was published stays whole."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from meadow.api import build_datasets
from meadow.core.options import BuildOptions
from meadow.core.store import Store
from meadow.pipeline import publish
from meadow.pipeline.report import Report
from tests import toy
from tests.toy import BUILDERS, put, row

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these are signals of POSIX")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "draw", toy.no_plot)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A raw store with 30 rows in two datasets and three splits."""
    folder = tmp_path / "raw"
    for name in "abc":
        splits = ({"split": "test"}, {}, {})
        put(folder, f"toy/{name}.jsonl", *(row(f"{name}{n}", **splits[n % 3]) for n in range(10)))
    return folder


def build(raw: Path, out: Path, *names: str, workers: int = 1, **parameters: object) -> Report:
    return build_datasets(
        names or ["toy"],
        raw=raw,
        out=out,
        workers=workers,
        builders=BUILDERS,
        parameters={"toy": parameters},
        options=BuildOptions(duplicates="off"),  # rows of these sources are alike
    )


def seen(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and ".meadow" not in path.parts
    }


def left_behind(out: Path) -> list[str]:
    return [path.name for path in (out / ".meadow").iterdir() if path.name != "lock"]


class TestWorkerDeath:
    @pytest.mark.parametrize("before", [0, 40])
    def test_costs_its_source_and_not_the_next(self, before: int, raw: Path, tmp_path: Path) -> None:
        shutil.rmtree(raw)
        # Enough shards that some wait in the queue, and some run, when the worker dies.
        for n in range(before):
            put(raw, f"other/{n:02}.jsonl", row(f"o{n}"))
        put(raw, "other/99.jsonl", row(99, do="die"))
        for n in range(30):
            put(raw, f"other/b{n:02}.jsonl", row(f"b{n}"))
        put(raw, "toy/a.jsonl", row(1))
        report = build(raw, tmp_path / "out", "all", workers=2)
        assert list(report.failed) == ["other"]
        why = report.failed["other"]
        assert "a worker process died, most likely for want of memory" in why or "__main__" in why
        assert "try fewer workers" in why
        if before:
            assert "__main__" not in why
        assert sorted(toy.whole(report.out)) == ["toy/1.0.0", "toy_hard/1.0.0"]
        assert left_behind(report.out) == []

    def test_workers_of_a_failed_source_do_not_hold_up_the_next(self, raw: Path, tmp_path: Path) -> None:
        put(raw, "other/a.jsonl", row(1, do="sleep 60"))
        put(raw, "other/b.jsonl", row(2, id="elsewhere/2"), *(row(n) for n in range(9)))
        start = time.monotonic()
        # The first result that is waited for is b's: a is in another worker, asleep.
        (raw / "other" / "a.jsonl").rename(raw / "other" / "c.jsonl")
        report = build(raw, tmp_path / "out", "all", workers=2)
        assert time.monotonic() - start < 30
        assert "elsewhere/2" in report.failed["other"]
        assert sorted(toy.whole(report.out)) == ["toy/1.0.0", "toy_hard/1.0.0"]

    @pytest.mark.parametrize("guarded", [True, False])
    def test_a_program_that_workers_cannot_import_is_told_so(
        self, guarded: bool, raw: Path, tmp_path: Path
    ) -> None:
        call = f"""
import json, sys
from meadow.api import build_datasets
from meadow.api import build_datasets
from meadow.api import build_datasets
from meadow.pipeline import build as pipeline_build
from meadow.pipeline import publish
from meadow.pipeline.report import Report
from meadow.core.options import BuildOptions
from tests import toy
publish.draw = toy.no_plot
report = build_datasets(["toy"], raw={str(raw)!r}, out={str(tmp_path / "out")!r}, workers=2, builders=toy.BUILDERS)
print(json.dumps(report.failed))
"""
        script = tmp_path / "script.py"
        if guarded:
            call = 'if __name__ == "__main__":' + call.replace("\n", "\n    ")
        script.write_text(call)
        done = subprocess.run(
            [sys.executable, *([str(script)] if not guarded else ["-"])],
            input=call,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        failed = json.loads(done.stdout.splitlines()[-1])
        assert "__main__" in failed["toy"]
        assert "standard input" in failed["toy"]


class TestKill:
    """Of the published version, the old state or the new one is there at any moment, and nothing between."""

    @pytest.fixture
    def start(self) -> Callable[..., multiprocessing.Process]:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["meadow.pipeline.build", "tests.toy"])

        def start(function: Callable, *arguments: object) -> multiprocessing.Process:
            process = context.Process(target=function, args=arguments)
            process.start()
            return process

        return start

    def test_before_every_change_to_the_file_system(self, start: Callable, raw: Path, tmp_path: Path) -> None:
        import datasets

        published, out, told = tmp_path / "published", tmp_path / "out", tmp_path / "told"
        build(raw, published)
        before = toy.whole(published)
        # Other rows and one split less: the card must change before and after.
        for name in "abc":
            put(raw, f"toy/{name}.jsonl", *(row(f"{name}{n}", answer="New.", split="test") for n in range(5)))

        def again() -> None:
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(published, out)

        again()
        process = start(toy.build_until, 0, raw, out, told)
        process.join()
        steps, failed = json.loads(told.read_text())
        assert failed == {}
        after, final = toy.whole(out), seen(out)
        assert after != before
        states = set()
        for step in range(1, steps + 1):
            again()
            process = start(toy.build_until, step, raw, out)
            process.join()
            assert process.exitcode == -signal.SIGKILL
            found = toy.whole(out)
            for name, digest in found.items():
                assert digest in (before[name], after[name])
            assert found.keys() == before.keys()
            state = tuple(found[name] == after[name] for name in sorted(found))
            if state not in states or step % 10 == 0:
                data = datasets.load_dataset(str(out), "toy", cache_dir=str(tmp_path / f"hf{step}"))
                # Just before new rows replace old ones, the card names the split alone that both have.
                assert sum(map(len, data.values())) in ((15,) if state[0] else (30, 12))
                assert set(data["test"]["output"]) >= ({"New."} if state[0] else {"It is a0."})
                report = build(raw, out)
                assert report.failed == {}
                assert seen(out) == final
                assert left_behind(out) == []
            states.add(state)
        assert states == {(False, False), (True, False), (True, True)}

    def test_at_any_time(self, start: Callable, raw: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        for name in "abc":
            put(raw, f"toy/{name}.jsonl", *(row(f"{name}{n}", do="sleep 0.02") for n in range(6)))
        began = time.monotonic()
        build(raw, out)
        length, before = time.monotonic() - began, seen(out)
        killed = 0
        for turn in range(15):
            process = start(toy.build_until, 0, raw, out)
            process.join(timeout=length * 1.3 * turn / 15)
            killed += process.is_alive()
            process.kill()
            process.join()
            toy.whole(out)
            assert seen(out) == before  # the same rows again give the same bytes
        assert killed > 4
        assert build(raw, out).failed == {}
        assert seen(out) == before
        assert left_behind(out) == []
        loaded = subprocess.run(
            [
                sys.executable,
                "-c",
                "import datasets, sys; print(datasets.load_dataset(sys.argv[1], 'toy'))",
                out,
            ],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        assert "num_rows" in loaded.stdout

    def test_workers_end_with_their_parent(self, raw: Path, tmp_path: Path) -> None:
        put(raw, "toy/a.jsonl", *(row(n, do="sleep 60") for n in range(9)))
        put(raw, "toy/b.jsonl", *(row(n, do="sleep 60") for n in range(9)))
        out = tmp_path / "out"
        code = (
            "from pathlib import Path; from meadow.api import build_datasets; from tests import toy; "
            f"build_datasets(['toy'], raw={str(raw)!r}, out={str(out)!r}, workers=2, builders=toy.BUILDERS)"
        )
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        process = psutil.Popen([sys.executable, "-c", code], cwd=tmp_path, env=env)
        until(lambda: readers(process) == 2)
        children = process.children(recursive=True)
        assert len(children) >= 3  # two workers and what started them
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=10)
        for child in alive:
            child.kill()
        assert alive == []
        put(raw, "toy/a.jsonl", row(1))
        put(raw, "toy/b.jsonl", row(2))
        assert build(raw, out).failed == {}
        assert left_behind(out) == []


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def readers(process: psutil.Process) -> int:
    """How many of a process and its workers are in the middle of a raw file."""
    found = 0
    for each in (process, *process.children(recursive=True)):
        try:
            found += any(file.path.endswith(".jsonl") for file in each.open_files())
        except psutil.Error:
            continue
    return found


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., psutil.Popen]]:
    """Starts ``python -m meadow.build`` with the toy source installed, in a process group of its own."""
    info = tmp_path / "site" / "toy_source-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-source\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[meadow.builders]\ntoy = tests.toy:Toy\n")
    started = []

    def start(*arguments: object) -> psutil.Popen:
        path = os.pathsep.join((str(tmp_path / "site"), str(REPOSITORY)))
        started.append(
            psutil.Popen(
                [sys.executable, "-m", "meadow.build", "toy", *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.is_running():
            process.kill()


class TestInterrupt:
    @pytest.mark.parametrize(("workers", "everyone"), [(1, False), (2, True), (2, False)])
    def test_ends_at_once_and_leaves_what_was_published(
        self, workers: int, everyone: bool, command: Callable, raw: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        build(raw, out)
        before = seen(out)
        # One worker sleeps over its record; if there is another, it has nothing to do.
        put(raw, "toy/c.jsonl", row(1), *(row(n, do="sleep 60") for n in range(9)))
        process = command("--raw", raw, "--out", out, "--workers", workers)
        reading = psutil.Process(process.pid)
        until(lambda: len(list(out.glob(".meadow/build-*/toy/parts/*"))) >= 6 and readers(reading) == 1)
        children = reading.children(recursive=True)
        began = time.monotonic()
        if everyone:  # as a terminal does; who is told first is chance
            for child in children:
                child.send_signal(signal.SIGINT)
            time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert time.monotonic() - began < 10
        assert process.returncode == 130
        assert "Traceback" not in errors
        assert "interrupted" in errors
        assert psutil.wait_procs(children, timeout=10)[1] == []
        assert seen(out) == before
        toy.whole(out)
        assert left_behind(out) == []

    def test_the_command_builds_and_says_what_it_could_not(
        self, command: Callable, raw: Path, tmp_path: Path
    ) -> None:
        put(raw, "toy/z.jsonl", row(1, do="die"))
        process = command("--raw", raw, "--out", tmp_path / "out", "--workers", 2)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "toy could not be built" in errors
        assert "worker" in errors
        assert Store(tmp_path / "out").names() == []
