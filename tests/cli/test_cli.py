"""The commands, run as a person or a script runs them: exit codes, what they print, and where."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import shutil
import struct
import subprocess
import sys
import termios
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from filelock import FileLock

from meadow.builders.medqa.builder import MedQA
from meadow.builders.stackexchange.builder import StackExchange
from meadow.builders.wikidoc.builder import WikiDoc
from meadow.core.store import Store

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(sys.executable).with_name("meadow")
BUILD = (sys.executable, "-m", "meadow.build")
ANSI = "\x1b"


def run(*command: object, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        env={**os.environ, **env},
        timeout=60,
    )


def build(*arguments: object, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return run(*BUILD, *arguments, cwd=cwd, **env)


def on_terminal(command: Sequence[object], columns: int = 100) -> tuple[str, int]:
    """Runs a command on a terminal of its own; returns what appeared there, and the exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(str(command[0]), [str(part) for part in command], {**os.environ, "TERM": "xterm"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    shown = b""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not data:
            break
        shown += data
    os.close(terminal)
    return shown.decode("utf-8"), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def lay_out(raw: Path, *builders: type) -> None:
    """Puts samples where raw files lie, so that they are raw files."""
    for builder in builders:
        shutil.copytree(builder.folder() / "sample", raw / builder.name)


def cells(table: str) -> dict[str, list[str]]:
    """The lines of a printed table: first cell to the others."""
    found = {}
    for line in table.splitlines():
        first, *others = re.split(r"\s{2,}", line)
        found[first] = others
    return found


# ---- wrong use --------------------------------------------------------------------------------------

WRONG = {
    "no name": ([], ["name what to build: all, or sources or datasets by name"]),
    "unknown name": (["wikidok"], ["'wikidok'", "all", "stackexchange", "medqa_4_options", "wikidoc"]),
    "one unknown name": (["wikidoc", "nope"], ["'nope'"]),
    "missing raw folder": (["all", "--raw", "no/such"], ["no/such does not exist"]),
    "sample and raw": (
        ["all", "--sample", "--require-raw"],
        ["--sample and --require-raw exclude each other"],
    ),
    "unknown option": (["all", "--bogus"], ["No such option: --bogus"]),
    "no worker": (["all", "--workers", "0"], ["--workers"]),
    "half a setting": (["all", "--set", "stackexchange.min_score"], ["SOURCE.PARAMETER=VALUE"]),
    "no source set": (["all", "--set", "min_score=3"], ["SOURCE.PARAMETER=VALUE"]),
    "unknown source set": (["all", "--set", "nope.x=3"], ["nope", "no source"]),
    "unknown parameter": (["all", "--set", "stackexchange.max=3"], ["no parameter max", "min_score"]),
    "value of another kind": (["all", "--set", "stackexchange.min_score=high"], ["default is 5", "high"]),
    "list of an unknown name": (["--list", "wikidok"], ["'wikidok'", "wikidoc_patient_information"]),
    "list of a missing folder": (["--list", "--raw", "no/such"], ["no/such does not exist"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_exit_code_2(case: str, tmp_path: Path) -> None:
    arguments, words = WRONG[case]
    done = build(*arguments, "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [BUILD, (sys.executable, "-m", "meadow", "build"), (SCRIPT, "build")])
def test_commands_are_one_and_the_same(command: Sequence[object], tmp_path: Path) -> None:
    done = run(*command, "nope", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("meadow: no source or dataset is named 'nope'; there are: all, ")
    listed = run(*command, "--list", "medqa", cwd=ROOT)
    assert listed.returncode == 0
    assert "medqa_4_options" in listed.stdout


def test_help_says_what_there_is() -> None:
    shown = run(SCRIPT, "--help")
    assert shown.returncode == 0
    for word in ("build", "export", "new"):
        assert re.search(rf"^  {word}  ", shown.stdout, re.MULTILINE)
    assert "..." not in shown.stdout.split("Commands:")[1], "a summary is cut short"
    shown = run(*BUILD, "--help")
    assert shown.returncode == 0
    text = " ".join(shown.stdout.split())
    for option in ("--raw DIR", "--out DIR", "--workers N", "--sample", "--require-raw", "--list", "--set"):
        assert option in text
    for words in ("$MEADOW_RAW", "$MEADOW_OUT", "default one per core", "Exit code: 0"):
        assert words in text


# ---- building ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A build of good raw files, a broken one, a source that is all broken, and strangers."""
    home = tmp_path_factory.mktemp("mixed")
    raw = home / "raw"
    lay_out(raw, WikiDoc, StackExchange)
    (raw / "wikidoc" / "cut.xml.gz").write_bytes(b"\x1f\x8b\x08\x00 this is no gzip")
    (raw / "wikidoc" / "notes.pdf").write_bytes(b"%PDF")
    (raw / "medqa" / "questions" / "US").mkdir(parents=True)
    (raw / "medqa" / "questions" / "US" / "test.jsonl").write_text("no JSON\n" * 3, encoding="utf-8")
    (raw / "wikidok").mkdir()
    (raw / "wikidok" / "pages.jsonl").write_text("{}", encoding="utf-8")
    names = ("wikidoc", "stackexchange", "medqa", "usmle")
    done = build(*names, "--raw", raw, "--out", home / "out", "--workers", "2", HF_HOME=str(home / "hf"))
    return done, home


def test_failed_source_is_named_and_the_rest_is_built(
    mixed: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, home = mixed
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("meadow: medqa could not be built: no usable row in its raw files")
    built = Store(home / "out").names()
    assert {"wikidoc", "wikidoc_patient_information", "stackexchange", "usmle_self_assessment"} <= set(built)
    assert not [name for name in built if name.startswith("medqa")]


def test_table_says_what_was_built(mixed: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, home = mixed
    table = cells(done.stdout.split("\n\n")[0])
    assert table.pop("dataset") == ["version", "rows per split", "left out", "licence", "raw data"]
    store = Store(home / "out")
    assert list(table) == store.names()
    for name, (version, splits, left_out, licences, raw) in table.items():
        manifest = store.manifest(name)
        assert version == manifest.version
        assert splits == ", ".join(f"{s} {e.rows:,}" for s, e in manifest.splits.items())
        assert left_out == f"{sum(manifest.funnel.dropped.values()):,}"
        assert licences == ", ".join(manifest.licenses)
        assert (raw == "sample") == manifest.sample == (name == "usmle_self_assessment")
    assert table["wikidoc"][-1] == "wikidoc (4 files)"
    assert table["stackexchange_fitness.example"][-1] == "stackexchange/fitness.example/Posts.xml"
    assert table["stackexchange"][-2] == "CC-BY-SA-2.5, CC-BY-SA-3.0, CC-BY-SA-4.0"


def test_what_was_left_out_is_listed(mixed: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, home = mixed
    rows = re.search(r"\nleft out \(.*rejected\.parquet\):\n((?:  .*\n)+)", done.stdout)[1]
    for manifest in Store(home / "out").current():
        dropped = manifest.funnel.dropped
        line = re.search(rf"^  {re.escape(manifest.name)}: (.*)$", rows, re.MULTILINE)
        assert (line is not None) == bool(dropped)
        for reason, count in dropped.items():
            assert f"{reason} ({count:,})" in line[1]
    files = re.search(r"\nraw files left out:\n((?:  .*\n)+)", done.stdout)[1].splitlines()
    assert len(files) == 1
    assert re.match(r"  wikidoc/cut\.xml\.gz: damaged file: .+\. Fetch", files[0])
    assert "wikidok (1 file) belongs to no source" in done.stdout
    assert "wikidoc/notes.pdf is no raw file of wikidoc" in done.stdout


def test_folders_and_a_row_are_shown(mixed: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, home = mixed
    assert f"\nraw store: {home / 'raw'}\noutput folder: {home / 'out'}\n" in done.stdout
    assert f"put raw files into {home / 'raw' / 'SOURCE'} and build again" in done.stdout
    head, row = done.stdout.split("\nfirst row of ")
    out = home / "out"
    assert row.startswith(f'load_dataset("meadow", "wikidoc", out="{out}")["train"]:\n')
    shown = dict(line.strip().split(": ", 1) for line in row.splitlines()[1:])
    assert shown["id"].startswith("wikidoc/")
    assert shown["license"] == "CC-BY-SA-3.0"
    assert shown["source_url"].startswith("https://www.wikidoc.org/")
    assert max(map(len, shown.values())) < 250


def test_off_a_terminal_all_is_plain(mixed: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, _ = mixed
    assert ANSI not in done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line != line.rstrip()] == []
    assert "\n\n\n" not in done.stdout
    steps = [line for line in done.stderr.splitlines() if re.search(r": \w+ \d+/\d+$", line)]
    assert "meadow: wikidoc: parsing 4/4" in steps
    for source in ("stackexchange", "usmle", "wikidoc"):
        assert any(re.fullmatch(rf"meadow: {source}: writing (\d+)/\1", line) for line in steps)


def test_bar_and_folded_table_on_a_terminal(tmp_path: Path) -> None:
    shown, code = on_terminal([*BUILD, "medqa", "wikidoc", "--sample", "--out", tmp_path / "out"], 70)
    assert code == 0
    assert f"{ANSI}[" in shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"wikidoc parsing +[━╸╺ ]+ +\d/\d", plain)
    assert "meadow: wikidoc: parsing" not in plain
    table = plain[plain.rindex("dataset ") : plain.index("left out (")]
    assert "…" not in table
    names = "".join(line[: table.index("version")].strip() for line in table.splitlines()[1:])
    assert names == "medqamedqa_4_optionswikidocwikidoc_patient_information"
    for split in ("train ", "validation ", "test "):
        assert split in table


def test_require_raw_builds_what_has_raw_files(tmp_path: Path) -> None:
    lay_out(tmp_path / "raw", MedQA)
    done = build("medqa", "usmle", "--require-raw", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert f"usmle could not be built: no raw files in {tmp_path / 'raw' / 'usmle'}; it reads" in done.stderr
    assert Store(tmp_path / "out").names() == ["medqa", "medqa_4_options"]
    assert Store(tmp_path / "out").manifest("medqa").sample is False


def test_single_dataset_and_default_folders(tmp_path: Path) -> None:
    done = build("medqa_4_options", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = os.environ["MEADOW_OUT"]
    assert Store(Path(out)).names() == ["medqa_4_options"]
    assert f"output folder: {out}" in done.stdout
    # Without --out the call is the short one, which reads from the same default.
    assert '\nfirst row of load_dataset("meadow", "medqa_4_options")["train"]:\n' in done.stdout
    assert f"put raw files into {os.environ['MEADOW_RAW']}/SOURCE" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_sample_is_built_whatever_the_raw_store_holds(tmp_path: Path) -> None:
    lay_out(tmp_path / "raw", MedQA)
    arguments = ("medqa", "--raw", tmp_path / "raw", "--out", tmp_path / "out")
    done = build(*arguments, "--sample", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert cells(done.stdout.split("\n\n")[0])["medqa"][-1] == "sample"
    assert "build again" not in done.stdout
    assert Store(tmp_path / "out").manifest("medqa").licenses.keys() == {"CC0-1.0"}


def test_parameter_is_set(mixed: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path) -> None:
    name = "stackexchange_health.example"
    done = build(name, "--sample", "--out", tmp_path, "--set", "stackexchange.min_score=1")
    assert done.returncode == 0, done.stderr
    found, default = Store(tmp_path).manifest(name), Store(mixed[1] / "out").manifest(name)
    assert (found.parameters["min_score"], default.parameters["min_score"]) == (1, 5)
    assert found.funnel.kept > default.funnel.kept


def test_output_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = build("medqa", "--sample", "--out", tmp_path / "file" / "out")
    assert done.returncode == 1
    assert re.fullmatch(r"meadow: cannot write to \S+: Not a directory; choose another --out\n", done.stderr)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_output_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    done = build("medqa", "--sample", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "Permission denied; choose another --out" in done.stderr
    assert "Traceback" not in done.stderr


def test_second_build_of_a_folder_waits_for_its_turn(tmp_path: Path) -> None:
    (tmp_path / "out" / ".meadow").mkdir(parents=True)
    with FileLock(tmp_path / "out" / ".meadow" / "lock"):
        done = build("medqa", "--sample", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "another build is writing to" in done.stderr


@pytest.mark.parametrize("env", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_letters_that_the_terminal_cannot_show(env: dict[str, str], tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    folder = raw / "medqa" / "questions" / "US"
    folder.mkdir(parents=True)
    record = json.loads(
        (MedQA.folder() / "sample" / "questions" / "US" / "test.jsonl").read_text().split("\n")[0]
    )
    record["question"] = "Körpertemperatur 39 °C \u2014 \U0001f321: which drug?"
    (folder / "test.jsonl").write_text(json.dumps(record), encoding="utf-8")
    (folder / "töst.pdf").write_bytes(b"")
    env["PYTHONCOERCECLOCALE"] = "0"
    done = build("medqa", "--raw", raw, "--out", tmp_path / "out", **env)
    assert done.returncode == 0, done.stderr
    assert r"K\xf6rpertemperatur 39 \xb0C \u2014 \U0001f321" in done.stdout
    assert build("--list", "--raw", raw, **env).returncode == 0


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_reader_that_goes_away(unbuffered: str, tmp_path: Path) -> None:
    for command, first in ((("build", "medqa", "--sample"), "dataset "), (("build", "--list"), "source ")):
        shell = f"set -o pipefail; {shlex.join([str(SCRIPT), *command])} | head -1"
        done = run("bash", "-c", shell, PYTHONUNBUFFERED=unbuffered, MEADOW_OUT=str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(first)
        assert "Traceback" not in done.stderr
        assert "BrokenPipe" not in done.stderr
    assert Store(tmp_path).names() == ["medqa", "medqa_4_options"]


# ---- listing ----------------------------------------------------------------------------------------


def test_list_shows_sources_and_raw_files(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    lay_out(raw, StackExchange)
    (raw / "stackexchange" / "readme.pdf").write_bytes(b"123")
    (raw / "medqb").mkdir()
    (raw / "medqb" / "x").write_bytes(b"")
    done = build("--list", "--raw", raw, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if line != line.rstrip()] == []
    table = cells(done.stdout)
    assert table["source"] == ["datasets", "version", "licence", "raw files"]
    assert table["medqa"] == ["medqa", MedQA.version, MedQA.license.id, "none: its sample is built"]
    assert table["wikidoc"] == ["wikidoc", WikiDoc.version, "CC-BY-SA-3.0", "none: its sample is built"]
    assert table["stackexchange"][:2] == ["stackexchange", StackExchange.version]
    size = (raw / "stackexchange" / "fitness.example" / "Posts.xml").stat().st_size
    assert f"stackexchange/fitness.example/Posts.xml ({size / 1000:.1f} kB)" in done.stdout
    for words in (
        "stackexchange_health.example",
        "stackexchange/health.example/Users.xml",
        "stackexchange/readme.pdf (not used)",
        "CC-BY-SA-2.5",
        "CC-BY-SA-4.0",
        "wikidoc_patient_information",
        f"raw store: {raw}",
        f"note: {raw / 'medqb'} (1 file) belongs to no source",
    ):
        assert words in done.stdout
    assert not (tmp_path / "out").exists()


def test_list_without_a_raw_store() -> None:
    done = build("--list", "wikidoc_patient_information", "usmle")
    assert done.returncode == 0
    assert f"raw store: {os.environ['MEADOW_RAW']} (not there)" in done.stdout
    sources = [line.split(" ")[0] for line in done.stdout.split("\n\n")[0].splitlines()]
    assert [source for source in sources if source] == ["source", "usmle", "wikidoc"]


def test_list_is_quick() -> None:
    best = 10.0
    for _ in range(5):
        start = time.perf_counter()
        assert build("--list").returncode == 0
        best = min(best, time.perf_counter() - start)
    assert best < 1


# ---- the other commands -----------------------------------------------------------------------------


def test_export_to_anki(mixed: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path) -> None:
    out = mixed[1] / "out"
    deck = tmp_path / "deck.apkg"
    done = run(SCRIPT, "export", "anki", "wikidoc", deck, "--out", out)
    assert done.returncode == 0, done.stderr
    rows = Store(out).manifest("wikidoc").funnel.kept
    assert done.stdout == f"{deck}: {rows:,} notes\n"
    assert "collection.anki2" in zipfile.ZipFile(deck).namelist()
    for arguments, code, words in (
        (("anki", "nope", deck), 1, "nope is not built in"),
        (("anki", "wikidoc", deck, "--version", "9"), 1, "wikidoc has no version 9"),
        (("anki", "wikidoc", tmp_path / "deck.txt"), 1, "name it deck.apkg"),
        (("anki", "wikidoc", tmp_path / "no" / "deck.apkg"), 1, "cannot write"),
        (("word", "wikidoc", deck), 2, "there is: anki"),
        (("anki", "wikidoc"), 2, "Missing argument"),
    ):
        done = run(SCRIPT, "export", *arguments, "--out", out)
        assert done.returncode == code
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deck.apkg"]


def test_new_source(tmp_path: Path) -> None:
    done = run(SCRIPT, "new", "ward_notes", "--dir", tmp_path)
    assert done.returncode == 0, done.stderr
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert all(path.is_file() for path in paths)
    assert {"builder.py", "test_ward_notes.py", "pyproject.toml"} <= {path.name for path in paths}
    again = run(SCRIPT, "new", "ward_notes", "--dir", tmp_path)
    assert again.returncode == 1
    assert "Nothing was written" in again.stderr
    assert run(SCRIPT, "new", "Ward-Notes", "--dir", tmp_path).returncode == 2
    assert run(SCRIPT, "new", "wikidoc", "--dir", tmp_path).returncode == 2
