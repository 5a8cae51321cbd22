"""Packs: the same bytes from the same files, and nothing installed that was not verified."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zstandard

from meadow.builders.medqa.builder import MedQA
from meadow.builders.wikidoc.builder import WikiDoc
from meadow.core.rawstore import find
from meadow.fetch import FetchError, Packed, locked, pack, unpack
from meadow.fetch.addresses import RECORD
from meadow.fetch.outcome import Silent

LONG = "wikidoc/" + "/".join("abcdefghij" * 8 for _ in range(3)) + "/Fieber_über_39.html"
FILES = {
    "medqa/questions/US/dev.jsonl": b'{"question": "?"}\n' * 3,
    "medqa/questions/US/train.jsonl": b"",
    "wikidoc/pages.jsonl.zst": zstandard.compress(b'{"parse": {}}\n' * 500),
    LONG: b"<html>",
    f"wikidoc/{RECORD}": b"url\tbytes\tsha256\tfile\nhttps://wiki.example/api.php\t34\t\tpages.jsonl.zst\n",
    "wikidoc/.pages.jsonl.zst.about.json": b"{}",
}


def fill(raw: Path, files: dict[str, bytes] = FILES) -> Path:
    for path, content in files.items():
        (raw / path).parent.mkdir(parents=True, exist_ok=True)
        (raw / path).write_bytes(content)
    return raw


def contents(raw: Path) -> dict[str, bytes]:
    """All files of a raw store but its lock."""
    files = (path for path in raw.rglob("*") if path.is_file() and path.name != ".fetch.lock")
    return {path.relative_to(raw).as_posix(): path.read_bytes() for path in files}


# --- packing --------------------------------------------------------------------------------------


def test_round_trip(tmp_path: Path) -> None:
    raw, file = fill(tmp_path / "raw"), tmp_path / "out" / "raw.tar.zst"
    packed = pack(raw, file)
    assert packed == Packed(
        file,
        ("medqa", "wikidoc"),
        len(FILES),
        sum(map(len, FILES.values())),
        file.stat().st_size,
        hashlib.sha256(file.read_bytes()).hexdigest(),
        (),
    )
    assert [path.name for path in file.parent.iterdir()] == ["raw.tar.zst"]
    there = tmp_path / "there" / "raw"
    unpacked = unpack(file, there)
    assert contents(there) == FILES
    assert (unpacked.sources, unpacked.installed) == (("medqa", "wikidoc"), tuple(sorted(FILES)))
    assert (unpacked.kept, unpacked.bytes) == ((), packed.bytes)
    for builder in (WikiDoc, MedQA):
        assert (
            [f.path for f in find(builder, there).files] == [f.path for f in find(builder, raw).files] != []
        )


def test_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    one = fill(tmp_path / "one")
    other = fill(tmp_path / "elsewhere" / "two", dict(reversed(FILES.items())))
    for number, path in enumerate(sorted(other.rglob("*"))):
        os.utime(path, (number * 1000, number * 1000))
        if path.is_file():
            path.chmod(0o600)
    first, second = pack(one, tmp_path / "1.tar.zst"), pack(other, tmp_path / "2.tar.zst")
    assert first.sha256 == second.sha256
    with (tmp_path / "1.tar.zst").open("rb") as stream:
        data = zstandard.ZstdDecompressor().stream_reader(stream).read()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
        listed = json.load(tar.extractfile(members[0]))
    assert members[0].name == "MEADOW-PACK.json"
    assert [m.name for m in members[1:]] == [f["path"] for f in listed["files"]] == sorted(FILES)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    assert {f["path"]: f["sha256"] for f in listed["files"]} == {
        path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()
    }


def test_what_is_no_raw_data_stays(tmp_path: Path) -> None:
    raw = fill(tmp_path / "raw")
    fill(
        raw,
        {
            "README.txt": b"ours",
            "strange/file.txt": b"?",
            ".accepted-terms.json": b"{}",
            "wikidoc/.pages.jsonl.zst.part/frames.zst": b"half",
            "medqa/.data_clean.zip.part": b"half",
            "medqa/.DS_Store": b"",
        },
    )
    (raw / "medqa" / "gone.zip").symlink_to(tmp_path / "nowhere")
    (raw / "medqa" / "loop").symlink_to(raw / "medqa")
    (tmp_path / "disk.zip").write_bytes(b"PK")
    (raw / "medqa" / "linked.zip").symlink_to(tmp_path / "disk.zip")
    os.mkfifo(raw / "medqa" / "pipe.jsonl")
    (raw / "medqa" / "back\\slash.jsonl").write_bytes(b"")
    (raw / os.fsdecode(b"medqa/\xff.jsonl")).write_bytes(b"")
    packed = pack(raw, tmp_path / "raw.tar.zst")
    assert packed.left_out == (
        "medqa/.data_clean.zip.part: a fetch that is not finished",
        "medqa/back\\slash.jsonl: it is no path within the source's folder",
        "medqa/gone.zip: a link that leads nowhere: No such file or directory",
        "medqa/loop: a link to a folder that it lies in",
        "medqa/pipe.jsonl: no plain file",
        "medqa/\ufffd.jsonl: a name that is not UTF-8",
        "wikidoc/.pages.jsonl.zst.part: a fetch that is not finished",
        "README.txt: belongs to no source",
        "strange: belongs to no source",
    )
    unpack(tmp_path / "raw.tar.zst", tmp_path / "there")
    assert contents(tmp_path / "there") == {**FILES, "medqa/linked.zip": b"PK"}


def test_some_sources(tmp_path: Path) -> None:
    raw, file = fill(tmp_path / "raw"), tmp_path / "raw.tar.zst"
    packed = pack(raw, file, names=["medqa", "usmle"])
    assert (packed.sources, packed.files) == (("medqa",), 2)
    assert packed.left_out == (f"usmle: no files in {raw}",)
    assert pack(raw, file, names=["medqa_4_options", "medqa"]).sha256 == packed.sha256
    with pytest.raises(FetchError, match=r"^medkwa: is no source. There are: flashcards, "):
        pack(raw, file, names=["medkwa"])


@pytest.mark.parametrize("raw", ["empty", "absent"])
def test_nothing_to_pack(tmp_path: Path, raw: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FetchError, match="there is nothing to pack. Fill the raw store first"):
        pack(tmp_path / raw, tmp_path / "raw.tar.zst")
    assert not (tmp_path / "raw.tar.zst").exists()


def test_a_pack_replaces_only_a_pack(tmp_path: Path) -> None:
    raw, file = fill(tmp_path / "raw"), tmp_path / "raw.tar.zst"
    first = pack(raw, file)
    assert pack(raw, file) == first
    thesis = tmp_path / "thesis.pdf"
    thesis.write_bytes(b"%PDF-")
    data = tmp_path / "data.zst"
    data.write_bytes(zstandard.compress(b"somebody's data"))
    with pytest.raises(FetchError, match="is there already and is no pack"):
        pack(raw, data)
    assert zstandard.decompress(data.read_bytes()) == b"somebody's data"
    with pytest.raises(FetchError, match="is there already and is no pack"):
        pack(raw, thesis)
    assert thesis.read_bytes() == b"%PDF-"
    with pytest.raises(FetchError, match="lies in the raw store"):
        pack(raw, raw / "medqa" / "raw.tar.zst")
    with pytest.raises(FetchError, match="is a folder"):
        pack(raw, tmp_path)


class Meddling(Silent):
    """Does something when the progress comes past a share."""

    def __init__(self, at: float, act: Callable[[], Any]) -> None:
        self.at, self.act, self.seen = at, act, []

    def __call__(self, what: str, done: int, total: int | None, unit: str = "bytes") -> None:
        self.seen.append((what, done, total))
        if done >= self.at * total and self.act is not None:
            act, self.act = self.act, None
            act()


@pytest.mark.parametrize("content", [b"shorter", b"X" * 54, b"longer, and not the same" * 9], ids=len)
def test_a_file_that_changes_while_it_is_packed(tmp_path: Path, content: bytes) -> None:
    raw, file = fill(tmp_path / "raw"), tmp_path / "raw.tar.zst"
    path = raw / "medqa/questions/US/dev.jsonl"
    meddling = Meddling(0.5, lambda: path.write_bytes(content))
    with pytest.raises(FetchError, match=r"^medqa/questions/US/dev.jsonl: changed while it was packed"):
        pack(raw, file, progress=meddling)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw"]


def stop() -> None:
    raise KeyboardInterrupt


def test_an_interrupt_leaves_no_half_pack(tmp_path: Path) -> None:
    raw, file = fill(tmp_path / "raw"), tmp_path / "raw.tar.zst"
    pack(raw, file, names=["medqa"])
    before = file.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        pack(raw, file, progress=Meddling(0.7, stop))
    assert file.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw", "raw.tar.zst"]


def test_progress_reaches_its_end(tmp_path: Path) -> None:
    raw, file = fill(tmp_path / "raw"), tmp_path / "raw.tar.zst"
    packing, unpacking = Meddling(2, stop), Meddling(2, stop)
    size = pack(raw, file, progress=packing).bytes
    unpack(file, tmp_path / "there", progress=unpacking)
    assert packing.seen[-1] == ("raw.tar.zst", 2 * size, 2 * size)
    assert unpacking.seen[-1] == ("raw.tar.zst", size, size)


# --- unpacking ------------------------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    file = tmp_path / "raw.tar.zst"
    pack(fill(tmp_path / "raw"), file)
    return file


def refused(file: Path, raw: Path, match: str) -> None:
    """Unpacking fails with these words, and changes nothing."""
    before = contents(raw)
    with pytest.raises(FetchError, match=match):
        unpack(file, raw)
    assert contents(raw) == before
    assert not list(raw.glob(".unpack-*"))


def test_again_changes_nothing(tmp_path: Path, packed: Path) -> None:
    there = tmp_path / "there"
    unpack(packed, there)
    stamps = {path: path.stat().st_mtime_ns for path in there.rglob("*") if path.is_file()}
    again = unpack(packed, there)
    assert (again.installed, again.kept, again.bytes) == ((), tuple(sorted(FILES)), 0)
    changed = [path.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert changed in ([], [".fetch.lock"])


def test_a_file_that_differs_is_never_replaced(tmp_path: Path, packed: Path) -> None:
    there = fill(tmp_path / "there", {"medqa/questions/US/dev.jsonl": b"mine", "wikidoc/own.html": b"mine"})
    refused(packed, there, "has other files than the pack in the places of medqa/questions/US/dev.jsonl")
    (there / "medqa/questions/US/dev.jsonl").write_bytes(FILES["medqa/questions/US/dev.jsonl"])
    unpacked = unpack(packed, there)
    assert unpacked.kept == ("medqa/questions/US/dev.jsonl",)
    assert contents(there) == {**FILES, "wikidoc/own.html": b"mine"}


def test_notes_of_fetches_are_merged(tmp_path: Path, packed: Path) -> None:
    header = "url\tbytes\tsha256\tfile\n"
    there = fill(
        tmp_path / "there",
        {
            f"wikidoc/{RECORD}": f"{header}https://x.example/a\t1\t\ta.xml\nhttps://x.example/p\t9\t\tpages.jsonl.zst\n".encode(),
            "wikidoc/.pages.jsonl.zst.about.json": b"old",
        },
    )
    unpack(packed, there)
    assert (there / "wikidoc" / RECORD).read_text(encoding="utf-8") == (
        f"{header}https://x.example/a\t1\t\ta.xml\nhttps://wiki.example/api.php\t34\t\tpages.jsonl.zst\n"
    )
    assert (there / "wikidoc/.pages.jsonl.zst.about.json").read_bytes() == b"{}"


def test_an_interrupt_installs_nothing_and_the_next_run_does(tmp_path: Path, packed: Path) -> None:
    there = tmp_path / "there"
    with pytest.raises(KeyboardInterrupt):
        unpack(packed, there, progress=Meddling(0.9, stop))
    assert contents(there) == {}
    (there / ".unpack-killed").mkdir()
    (there / ".unpack-killed" / "0").write_bytes(b"left by a run that was killed")
    unpack(packed, there)
    assert contents(there) == FILES


def test_one_at_a_time(tmp_path: Path, packed: Path) -> None:
    there = tmp_path / "there"
    with locked(there):
        refused(packed, there, "another fetch is filling this raw store. Wait for it")
    unpack(packed, there)


def test_a_source_may_be_a_link_to_another_place(tmp_path: Path, packed: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (tmp_path / "disk").mkdir()
    (there / "wikidoc").symlink_to(tmp_path / "disk")
    unpack(packed, there)
    assert (tmp_path / "disk" / "pages.jsonl.zst").read_bytes() == FILES["wikidoc/pages.jsonl.zst"]


def test_no_room(tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=100, used=90, free=10))
    refused(
        packed, tmp_path / "there", r"\d+ bytes are to be unpacked and 10 are free. Free space, or choose"
    )


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.97])
def test_cut_off(tmp_path: Path, packed: Path, share: float) -> None:
    data = packed.read_bytes()
    packed.write_bytes(data[: int(share * len(data))])
    refused(packed, tmp_path / "there", r"is damaged|no zstd file.*Make the pack again")


def test_every_flipped_byte_is_noticed_or_harmless(tmp_path: Path) -> None:
    file, there = tmp_path / "raw.tar.zst", tmp_path / "there"
    small = {"wikidoc/a.html": os.urandom(300)}
    pack(fill(tmp_path / "raw", small), file)
    data = file.read_bytes()
    for at in range(0, len(data), 7):
        file.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        try:
            unpack(file, there)
        except FetchError:
            assert contents(there) == {}
        else:
            assert contents(there) == small
            shutil.rmtree(there)


def test_a_header_may_say_anything(tmp_path: Path) -> None:
    file, there = write(tmp_path / "raw.tar.zst", listing(GOOD), GOOD.items()), tmp_path / "there"
    data = zstandard.decompress(file.read_bytes(), max_output_size=2**20)
    header = data.index(b"wikidoc/a.html", 512)
    headers = [*range(0, 345, 9), *range(header, header + 345, 9)]  # the fields of ustar
    for at in headers:
        for value in (0x00, 0x37, 0x80, 0xFF):
            file.write_bytes(zstandard.compress(data[:at] + bytes([value]) + data[at + 1 :]))
            try:
                unpack(file, there)
            except FetchError:
                assert contents(there) == {}
            else:
                assert contents(there) == GOOD
                shutil.rmtree(there)


def test_another_content_than_listed(tmp_path: Path, packed: Path) -> None:
    listed = {path: content for path, content in FILES.items() if path.startswith("medqa")}
    forged = {**listed, "medqa/questions/US/dev.jsonl": b'{"question": "!"}\n' * 3}
    write(packed, listing(listed), forged.items())
    refused(packed, tmp_path / "there", "dev.jsonl has another SHA-256 than the pack's list says")


def listing(contents: dict[str, bytes], **changes: Any) -> bytes:
    found = [
        {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for path, content in sorted(contents.items())
    ]
    return json.dumps({"format": "meadow-pack", "version": 1, "files": found, **changes}).encode()


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, **more: Any) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.size = kind, size
    for key, value in more.items():
        setattr(found, key, value)
    return found


def write(file: Path, listed: bytes, members: Iterable[tuple[str | tarfile.TarInfo, bytes]]) -> Path:
    """A pack as somebody else might write it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in [("MEADOW-PACK.json", listed), *members]:
            info = member(name, size=len(content)) if isinstance(name, str) else name
            tar.addfile(info, io.BytesIO(content))
    file.write_bytes(zstandard.compress(buffer.getvalue()))
    return file


GOOD = {"wikidoc/a.html": b"<html>"}


def test_a_foreign_pack_that_is_right_is_taken(tmp_path: Path) -> None:
    unpack(write(tmp_path / "p.tar.zst", listing(GOOD), GOOD.items()), tmp_path / "there")
    assert contents(tmp_path / "there") == GOOD


@pytest.mark.parametrize(
    "path",
    [
        "../evil",
        "wikidoc/../../evil",
        "wikidoc/..",
        "/etc/evil",
        "C:/evil/x",
        "wikidoc\\..\\evil/x",
        "wikidoc/./a",
        "wikidoc//a",
        "wikidoc/",
        "",
        "evil",
        ".ssh/authorized_keys",
        "wikidoc/.bashrc",
        ".fetched.tsv/x",
        "wikidoc/.x.about.json/y",
        "wikidoc/a\nb",
        "wikidoc/a\x00b",
    ],
)
def test_a_path_that_leads_elsewhere(tmp_path: Path, path: str) -> None:
    forged = {path: b"evil"}
    try:
        file = write(tmp_path / "p.tar.zst", listing(forged), forged.items())
    except ValueError:  # tarfile writes no such name
        file = write(tmp_path / "p.tar.zst", listing(forged), [])
    refused(file, tmp_path / "in" / "there", "is no pack that Meadow wrote")
    assert sorted(p.name for p in tmp_path.rglob("*")) == [".fetch.lock", "in", "p.tar.zst", "there"]


@pytest.mark.parametrize(
    "members",
    [
        [(member("wikidoc/a.html", tarfile.SYMTYPE, linkname="/etc/passwd"), b"")],
        [(member("wikidoc/a.html", tarfile.LNKTYPE, linkname="MEADOW-PACK.json"), b"")],
        [(member("wikidoc/a.html", tarfile.CHRTYPE, devmajor=1, devminor=5), b"")],
        [(member("wikidoc/a.html", tarfile.FIFOTYPE), b"")],
        [(member("wikidoc/a.html", tarfile.DIRTYPE), b"")],
        [(member("wikidoc", tarfile.SYMTYPE, linkname=".."), b""), *GOOD.items()],
        [("wikidoc/b.html", b"<html>")],
        [("wikidoc/a.html", b"<html>!")],
        [*GOOD.items(), ("wikidoc/b.html", b"")],
        [*GOOD.items(), *GOOD.items()],
        [
            (member("wikidoc/a.html", size=6, pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0",
             "GNU.sparse.name": "wikidoc/a.html", "GNU.sparse.realsize": "6"}), b"<html>")
        ],
    ],
    ids="symlink hardlink device pipe folder link-above other-name other-size extra twice sparse".split(),
)  # fmt: skip
def test_members_that_no_pack_has(tmp_path: Path, members: list) -> None:
    file = write(tmp_path / "p.tar.zst", listing(GOOD), members)
    refused(file, tmp_path / "there", "is no pack that Meadow wrote|is damaged")


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "not that of a pack"),
        (listing(GOOD, format="other"), "not that of a pack"),
        (listing(GOOD, version=2), "a pack of format 2, which this Meadow does not know"),
        (listing({}), "names no files"),
        (listing(GOOD, files=[1]), "not that of a pack"),
        (
            listing(GOOD, files=[{"path": "wikidoc/a.html", "bytes": -1, "sha256": "0" * 64}]),
            "not that of a pack",
        ),
        (listing(GOOD, files=[{"path": "wikidoc/a.html", "bytes": True, "sha256": "0" * 64}]), "not that of"),
        (
            listing(GOOD, files=[{"path": "wikidoc/a.html", "bytes": 6, "sha256": "0"}]),
            "sha256: .0. does not have the form",
        ),
        (listing(GOOD, files=json.loads(listing(GOOD))["files"] * 2), "names a file twice"),
        (listing({"wikidoc/a": b"", "wikidoc/a/b": b""}), "would lie below a file"),
    ],
    ids=range(12),
)
def test_lists_that_no_pack_has(tmp_path: Path, listed: bytes, words: str) -> None:
    refused(write(tmp_path / "p.tar.zst", listed, GOOD.items()), tmp_path / "there", words)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    size = 64 * 2**20
    forged = {"wikidoc/a.html": bytes(size)}
    file = write(tmp_path / "p.tar.zst", listing(forged), forged.items())
    assert file.stat().st_size < 20_000
    refused(file, tmp_path / "there", r"claims to unpack to 67,108,864 bytes, [\d,]+ times its size")


def test_a_header_cannot_fill_the_memory(tmp_path: Path) -> None:
    listed = listing(GOOD)
    more = member("wikidoc/a.html", size=6, pax_headers={"comment": "x" * (8 * 2**20)})
    file = write(tmp_path / "p.tar.zst", listed, [(more, b"<html>")])
    refused(file, tmp_path / "there", "wikidoc/a.html is not the plain file that its list names")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<html>quota exceeded</html>"])
def test_no_pack_at_all(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "p.tar.zst"
    file.write_bytes(content)
    refused(file, tmp_path / "there", "is no zstd file, and so no pack")
    file.write_bytes(zstandard.compress(b"no tar" * 200))
    refused(file, tmp_path / "there", "is damaged|is no pack")


def test_an_absent_pack_is_named(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"gone.tar.zst: cannot be opened: No such file or directory"):
        unpack(tmp_path / "gone.tar.zst", tmp_path / "there")
