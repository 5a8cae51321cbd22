"""`meadow fetch`, as a person runs it: what it prints, where, and with which exit code."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from meadow.cli import app as cli
from tests.fetch import server
from tests.fetch.server import Site, archive, page, records, sha256, slow, status

ZIP = archive(60_000)


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    returncode: int
    stdout: str
    stderr: str


class Person:
    """Somebody with a source of their own, a raw store, and a shell."""

    def __init__(
        self,
        folder: Path,
        publish: Callable[..., str],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.publish, self.raw = publish, folder / "raw"
        self._packages, self._capsys = folder / "packages", capsys
        monkeypatch.setenv("MEADOW_RAW", str(self.raw))
        monkeypatch.setattr(sys, "argv", ["meadow"])

    def env(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self._packages)}

    def run(self, *arguments: object) -> Done:
        """Runs the command in this process, which is quicker by the start of Python."""
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(["fetch", *map(str, arguments)])
        said = self._capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    def starts(self, *arguments: object) -> subprocess.Popen[str]:
        """Starts the command in a process of its own."""
        command = [sys.executable, "-m", "meadow", "fetch", *map(str, arguments)]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=self.env(),
        )


@pytest.fixture
def person(
    tmp_path: Path,
    publish: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Person:
    return Person(tmp_path, publish, monkeypatch, capsys)


def test_a_source_is_fetched_verified_packed_and_carried(site: Site, person: Person, tmp_path: Path) -> None:
    rows = [(site.put("/a", ZIP), len(ZIP), sha256(ZIP), "a.zip"), (site.put("/b", records(5)), "b.json")]
    ward = person.publish(*rows)
    done = person.run(ward)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"raw store: {person.raw}")
    lines = [line.split() for line in done.stdout.splitlines()[1:3]]
    assert lines == [
        [f"{ward}/a.zip", "fetched", "60.1", "kB"],
        [f"{ward}/b.json", "fetched", f"{len(records(5))}", "B"],
    ]
    assert "CC0-1.0" in done.stderr
    pack = tmp_path / "raw.tar.zst"
    packed = person.run("--pack", pack)
    assert packed.returncode == 0, packed.stderr
    assert f" of {ward}, " in packed.stdout
    assert f"sha256 {sha256(pack.read_bytes())}" in packed.stdout
    other = tmp_path / "other"
    carried = person.run("--unpack", pack, "--raw", other)
    assert carried.returncode == 0, carried.stderr
    assert f"installed: {ward}/a.zip" in carried.stdout
    assert (other / f"{ward}/a.zip").read_bytes() == ZIP
    assert (other / f"{ward}/b.json").read_bytes() == records(5)
    assert person.run(ward, "--verify", "--raw", other).returncode == 0
    asked = len(site.requests)
    assert person.run(ward, "--raw", other).returncode == 0
    assert len(site.requests) == asked


def test_failures_go_to_standard_error_and_into_the_exit_code(site: Site, person: Person) -> None:
    html = "<!doctype html><html><title>Google Drive - Quota exceeded</title></html>"
    rows = [
        (site.put("/a", b"", page(html)), "a.zip"),
        (site.url + "/none", "b.json"),
        (site.put("/c", ZIP), "c.zip"),
    ]
    ward = person.publish(*rows)
    done = person.run(ward)
    assert done.returncode == 1
    assert f"{ward}/c.zip" in done.stdout
    errors = [line for line in done.stderr.splitlines() if "By hand:" in line]
    assert len(errors) == 2
    assert errors[0].startswith(
        f"meadow: {ward}/a.zip: a web page came instead of the file: its host has given the file"
    )
    assert errors[1].startswith(
        f"meadow: {ward}/b.json: HTTP 404: it is not there (any more) at 127.0.0.1. By hand: get "
    )
    assert errors[1].endswith(f"put it here: {person.raw / ward / 'b.json'}")
    assert "Traceback" not in done.stderr


def test_verify_names_what_differs(site: Site, person: Person) -> None:
    ward = person.publish((site.put("/a", ZIP), "a.zip"))
    assert person.run(ward).returncode == 0
    data = bytearray(ZIP)
    data[100] ^= 1
    (person.raw / f"{ward}/a.zip").write_bytes(data)
    done = person.run("--verify")
    assert done.returncode == 1
    assert (
        f"meadow: {ward}/a.zip: its SHA-256 is {sha256(bytes(data))}, noted when it was fetched is"
        in done.stderr
    )
    (person.raw / f"{ward}/a.zip").unlink()
    done = person.run(ward, "--verify")
    assert done.returncode == 1
    assert f"meadow: {ward}/a.zip: missing: it was fetched, and is gone" in done.stderr


def test_a_list_needs_no_store_and_writes_none(person: Person) -> None:
    ward = person.publish(("http://me:hunter2@127.0.0.1:1/a?sig=x", 7, "", "a.zip"), reserved=True)
    done = person.run("--list")
    assert done.returncode == 0, done.stderr
    lines = {tuple(line.split()[:2]): line for line in done.stdout.splitlines()}
    assert "not there" in lines[ward, "a.zip"]
    assert "(to be accepted)" in lines[ward, "a.zip"]
    assert "http://127.0.0.1:1/a" in lines[ward, "a.zip"]
    assert (
        "https://archive.org/download/stackexchange/biology.stackexchange.com.7z"
        in lines["stackexchange", "biology.stackexchange.com.7z"]
    )
    assert "none: the files are yours" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    assert not person.raw.exists()


def test_terms_are_accepted_by_name(site: Site, person: Person) -> None:
    ward = person.publish((site.put("/a", ZIP), "a.zip"), reserved=True)
    done = person.run(ward)
    assert done.returncode == 1
    assert f"--accept-license {ward}" in done.stderr
    assert site.requests == []
    assert person.run(ward, "--accept-license", ward).returncode == 0
    assert (person.raw / f"{ward}/a.zip").read_bytes() == ZIP


def test_a_mirror_stands_in_for_publishers(site: Site, person: Person, tmp_path: Path) -> None:
    ward = person.publish((server.gone() + "/a", "a.zip"))
    copy = tmp_path / "copy" / ward
    copy.mkdir(parents=True)
    (copy / "a.zip").write_bytes(ZIP)
    done = person.run("all", "--mirror", copy.parent, "--accept-license", "usmle")
    assert done.returncode == 0, done.stderr
    assert (person.raw / f"{ward}/a.zip").read_bytes() == ZIP
    assert f"medqa: the mirror {copy.parent} has nothing of it" in done.stdout
    site.put(f"/{ward}/a.zip", ZIP)
    assert person.run(ward, "--mirror", site.url, "--raw", tmp_path / "second").returncode == 0
    assert (tmp_path / f"second/{ward}/a.zip").read_bytes() == ZIP


def test_what_was_fetched_is_what_a_build_reads(person: Person, tmp_path: Path) -> None:
    from meadow.builders.wikidoc.builder import WikiDoc
    from meadow.core.rawstore import find

    shutil.copytree(WikiDoc.folder() / "sample", tmp_path / "copy" / "wikidoc")
    assert person.run("wikidoc", "--mirror", tmp_path / "copy").returncode == 0
    found, sample = find(WikiDoc(), person.raw), find(WikiDoc(), None)
    assert [f.path for f in found.files] == ["wikidoc/Gout.html", "wikidoc/export.xml", "wikidoc/pages.jsonl"]
    assert [f.sha256() for f in found.files] == [f.sha256() for f in sample.files]
    assert found.unused == ()


def test_decks_are_said_to_be_the_users_own(person: Person) -> None:
    done = person.run("flashcards")
    assert done.returncode == 0
    assert str(person.raw / "flashcards") in done.stdout
    assert "**/*.apkg" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name what to fetch: all, or sources or datasets by name"),
        (["nothing"], "no source or dataset is named 'nothing'; there are: all, flashcards,"),
        (["all", "--list", "--verify"], "--list and --verify exclude each other"),
        (["all", "--verify", "--mirror", "x"], "--verify fetches nothing, so --mirror does not go with it"),
        (["wikidoc", "--unpack", "x.tar.zst"], "give no names"),
        (
            ["flashcards", "--accept-license", "nobody"],
            "--accept-license nobody: no source or licence has this name",
        ),
    ],
)
def test_wrong_use_is_told(person: Person, arguments: list[str], said: str) -> None:
    done = person.run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("meadow: ")
    assert said in done.stderr


def test_an_interrupt_keeps_what_came_and_the_next_run_goes_on(site: Site, person: Person) -> None:
    ward = person.publish((site.put("/a", ZIP, slow(0.2)), "a.zip"))
    process = person.starts(ward)
    part = person.raw / f"{ward}/.a.zip.http.part"
    until = time.monotonic() + 20
    while time.monotonic() < until and not (part.exists() and part.stat().st_size > 2000):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - start < 5
    assert process.returncode == 130
    assert "Traceback" not in errors
    kept = part.stat().st_size
    assert kept >= 2000
    assert person.run(ward).returncode == 0
    assert site.requests[-1].range == f"bytes={kept}-"
    assert (person.raw / f"{ward}/a.zip").read_bytes() == ZIP


def test_a_killed_run_is_gone_on_with_too(site: Site, person: Person) -> None:
    ward = person.publish((site.put("/a", ZIP, slow(0.2)), "a.zip"))
    process = person.starts(ward)
    part = person.raw / f"{ward}/.a.zip.http.part"
    until = time.monotonic() + 20
    while time.monotonic() < until and not (part.exists() and part.stat().st_size > 2000):
        time.sleep(0.05)
    process.kill()
    process.communicate(timeout=20)
    assert person.run(ward).returncode == 0
    assert site.requests[-1].range is not None
    assert (person.raw / f"{ward}/a.zip").read_bytes() == ZIP


def test_waiting_is_said_while_it_lasts(site: Site, person: Person) -> None:
    ward = person.publish((site.put("/a", ZIP, status(429, retry_after="1")), "a.zip"))
    done = person.run(ward)
    assert done.returncode == 0
    assert f"meadow: {ward}/a.zip: 127.0.0.1 is busy (HTTP 429); trying again in 1 s" in done.stderr


def test_a_terminal_shows_bars(site: Site, person: Person) -> None:
    from tests.cli.test_cli import on_terminal

    ward = person.publish((site.put("/a", ZIP, slow(0.005)), "a.zip"))
    command = [
        "/usr/bin/env",
        *(f"{k}={v}" for k, v in person.env().items() if k in ("PYTHONPATH", "MEADOW_RAW")),
    ]
    shown, code = on_terminal([*command, sys.executable, "-m", "meadow", "fetch", ward])
    assert code == 0
    assert "of 60.1 kB" in shown or "of 60." in shown
    assert "fetched" in shown
