"""The raw store: damaged and hostile files, JSON lines, and what a source's folder holds."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from meadow.core import rawfile
from meadow.core.archive import ZipArchive
from meadow.core.rawfile import RawFile, RawFileError
from meadow.core.rawstore import RawPattern, find, matches, strangers
from meadow.parse import jsonlines
from meadow.parse.jsonlines import BadRecord, json_lines

TEXT = b"".join(b'{"line": %d, "text": "ratio of 0.%d"}\n' % (n, n * 7919 % 1000) for n in range(5000))

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def put(folder: Path, name: str, data: bytes) -> RawFile:
    """A file of the raw store of a source named ``toy``."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return RawFile(f"toy/{name}", path, len(data))


def refused(read: Callable[[], object]) -> RawFileError:
    with pytest.raises(RawFileError) as caught:
        read()
    assert caught.value.remedy
    return caught.value


def read_all(file: RawFile) -> bytes:
    with file.open() as stream:
        return stream.read()


@pytest.mark.parametrize("ending", COMPRESS)
class TestCompressed:
    def test_is_read_whole_and_by_line(self, ending: str, tmp_path: Path) -> None:
        file = put(tmp_path, f"a.jsonl.{ending.upper()}", COMPRESS[ending](TEXT))
        assert file.suffix == ".jsonl"
        assert read_all(file) == TEXT
        with file.open() as stream:
            assert [value["line"] for _, value in json_lines(stream)] == list(range(5000))

    def test_several_streams_in_one_file_are_one(self, ending: str, tmp_path: Path) -> None:
        pack = COMPRESS[ending]
        file = put(tmp_path, f"a.{ending}", pack(TEXT[:999]) + pack(b"") + pack(TEXT[999:]))
        assert read_all(file) == TEXT

    @pytest.mark.parametrize("keep", [0, 3, 0.5, -1, -9])
    def test_truncated_is_damaged(self, ending: str, keep: float, tmp_path: Path) -> None:
        data = COMPRESS[ending](TEXT)
        cut = int(len(data) * keep) if isinstance(keep, float) else keep % len(data)
        file = put(tmp_path, f"a.{ending}", data[:cut])
        error = refused(lambda: read_all(file))
        assert (error.reason, error.file) == ("damaged file", f"toy/a.{ending}")
        assert str(tmp_path) not in str(error)

    def test_truncated_in_its_second_stream_is_damaged(self, ending: str, tmp_path: Path) -> None:
        pack = COMPRESS[ending]
        file = put(tmp_path, f"a.{ending}", pack(TEXT) + pack(TEXT)[:-20])
        assert refused(lambda: read_all(file)).reason == "damaged file"

    def test_corrupt_is_damaged(self, ending: str, tmp_path: Path) -> None:
        data = bytearray(COMPRESS[ending](TEXT))
        data[len(data) // 2] ^= 0xFF
        file = put(tmp_path, f"a.{ending}", bytes(data))
        assert refused(lambda: read_all(file)).reason == "damaged file"

    def test_something_else_under_that_name_is_damaged(self, ending: str, tmp_path: Path) -> None:
        file = put(tmp_path, f"a.{ending}", b"<!DOCTYPE html><title>404 Not Found</title>" * 9)
        assert refused(lambda: read_all(file)).reason == "damaged file"

    def test_a_missing_file_is_named_without_its_folder(self, ending: str, tmp_path: Path) -> None:
        file = put(tmp_path, f"a.{ending}", b"x")
        file.local.unlink()
        error = refused(file.open)
        assert (error.reason, error.file) == ("unreadable file", f"toy/a.{ending}")
        assert str(tmp_path) not in str(error)


def test_zstd_skippable_frames_and_long_windows(tmp_path: Path) -> None:
    skippable = struct.pack("<II", 0x184D2A53, 5) + b"hello"
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    long = zstandard.ZstdCompressor(compression_params=parameters)
    stream = long.compressobj()  # no content size in the frame, as from a pipe
    data = skippable + stream.compress(TEXT) + stream.flush() + skippable + COMPRESS["zst"](TEXT) + skippable
    assert read_all(put(tmp_path, "a.zst", data)) == TEXT + TEXT


# Reads a bomb in a process of its own, whose peak memory says whether it was unpacked at once.
_PEAK = """
import resource, sys
from pathlib import Path
from meadow.core.rawfile import RawFile, RawFileError
from meadow.core.archive import ZipArchive
path = Path(sys.argv[1])
file = RawFile("toy/" + path.name, path, path.stat().st_size)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
reason = "nothing"
try:
    with (ZipArchive(file).open("a") if path.suffix == ".zip" else file.open()) as stream:
        while stream.read(2**16):
            pass
except RawFileError as error:
    reason = error.reason
print(reason, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def bomb(kind: str, size: int = 2**30) -> bytes:
    zeros = bytes(2**20)
    if kind == "zst":
        packer = zstandard.ZstdCompressor().compressobj()
        return b"".join(packer.compress(zeros) for _ in range(size >> 20)) + packer.flush()
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w") as member:
            for _ in range(size >> 20):
                member.write(zeros)
    else:
        opener = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}[kind]
        with opener(out, "wb") as stream:
            for _ in range(size >> 20):
                stream.write(zeros)
    return out.getvalue()


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.parametrize(
    ("kind", "size"), [("gz", 2**28), ("zst", 2**32), ("zip", 2**28), ("bz2", 2**26), ("xz", 2**27)]
)
def test_bombs_are_stopped_in_flat_memory(kind: str, size: int, tmp_path: Path) -> None:
    file = put(tmp_path, f"a.{kind}", bomb(kind, size))
    assert file.bytes * rawfile.MAX_RATIO < size
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(file.local)], capture_output=True, text=True, check=True
    )
    *reason, grown = done.stdout.split()
    assert " ".join(reason) == "decompression bomb"
    assert int(grown) < 100, "MiB"


def test_high_ratios_below_the_floor_are_no_bombs(tmp_path: Path) -> None:
    data = bytes(rawfile.RATIO_FLOOR - 1)
    assert read_all(put(tmp_path, "a.gz", gzip.compress(data))) == data


def test_the_border_between_a_high_ratio_and_a_bomb(tmp_path: Path) -> None:
    file, packed = put(tmp_path, "a.gz", b"x"), 100_000
    rawfile.check_ratio(file, 250 * packed, packed)
    with pytest.raises(RawFileError, match="unpacks to more than 250 times its size"):
        rawfile.check_ratio(file, 250 * packed + 1, packed)


class TestZip:
    def archive(self, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as made:
            for name, data in members.items():
                made.writestr(name, data)
        return out.getvalue()

    def test_members_are_read_where_they_lie(self, tmp_path: Path) -> None:
        file = put(tmp_path, "a.zip", self.archive({"b/x.jsonl": TEXT, "a": b""}))
        with ZipArchive(file) as archive:
            assert archive.names() == ["b/x.jsonl", "a"]
            with archive.open("b/x.jsonl") as stream:
                assert stream.read() == TEXT
        assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]

    @pytest.mark.parametrize(
        "name", ["../evil", "a/../../evil", "/etc/passwd", "\\evil", "C:\\evil", "c:evil", "a\\..\\..\\evil"]
    )
    def test_names_that_climb_out_are_refused(self, name: str, tmp_path: Path) -> None:
        file = put(tmp_path, "a.zip", self.archive({"good": b"x", name: b"y"}))
        error = refused(lambda: ZipArchive(file))
        assert (error.reason, error.file) == ("unsafe path in archive", "toy/a.zip")
        assert "evil" in error.detail or "passwd" in error.detail

    @pytest.mark.parametrize("name", ["..a", "a..b/c", "a/...", "dir/", "aa:b"])
    def test_names_that_only_look_so_are_not(self, name: str, tmp_path: Path) -> None:
        with ZipArchive(put(tmp_path, "a.zip", self.archive({name: b""}))) as archive:
            assert archive.names() == [name]

    def test_methods_without_bounded_memory_are_refused(self, tmp_path: Path) -> None:
        for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            with ZipArchive(put(tmp_path, "a.zip", self.archive({"a": TEXT}, method))) as archive:
                assert refused(lambda a=archive: a.open("a")).reason == "unsupported compression"

    def test_a_claimed_size_does_not_switch_off_the_guard(self, tmp_path: Path) -> None:
        data = bytearray(self.archive({"a": bytes(2**26)}))
        central = data.index(b"PK\x01\x02")
        data[central + 20 : central + 24] = struct.pack("<I", 2**31)  # compressed size
        local = data.index(b"PK\x03\x04")
        data[local + 18 : local + 22] = struct.pack("<I", 2**31)
        file = put(tmp_path, "a.zip", bytes(data))

        def read() -> None:
            with ZipArchive(file) as archive, archive.open("a") as stream:
                while stream.read(2**20):
                    pass

        assert refused(read).reason in ("decompression bomb", "damaged file")

    def test_encrypted_members_and_missing_ones(self, tmp_path: Path) -> None:
        data = bytearray(self.archive({"a": TEXT}))
        for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            data[data.index(magic) + at] |= 1
        with ZipArchive(put(tmp_path, "a.zip", bytes(data))) as archive:
            assert "encrypted" in refused(lambda: archive.open("a")).detail
            assert "b" in refused(lambda: archive.open("b")).detail

    def test_nothing_but_our_error_whatever_the_bytes(self, tmp_path: Path) -> None:
        whole = self.archive({"a.jsonl": TEXT, "dir/b": b"short", "é": TEXT[:2000]})
        chance = random.Random(5)
        outcomes = set()
        for turn in range(300):
            data = bytearray(whole)
            if turn % 3 == 0:
                del data[chance.randrange(len(data)) :]
            for _ in range(chance.randrange(1, 6) if data else 0):
                # Half of the changes go to the directory at the end, which holds the sizes and offsets.
                at = chance.randrange(len(data)) if turn % 2 else len(data) - 1 - chance.randrange(
                    min(220, len(data))
                )  # fmt: skip
                data[at] = chance.randrange(256)
            file = put(tmp_path, "a.zip", bytes(data))
            try:
                with ZipArchive(file) as archive:
                    for name in archive.names():
                        with archive.open(name) as stream:
                            while stream.read(2**16):
                                pass
                outcomes.add("read")
            except RawFileError as error:
                assert str(tmp_path) not in str(error)
                outcomes.add(error.reason)
        assert {"damaged file", "read"} <= outcomes


class TestJsonLines:
    def lines(self, data: bytes) -> list[tuple[int, object]]:
        return list(json_lines(io.BytesIO(data)))

    def test_bom_crlf_blank_lines_and_no_last_newline(self) -> None:
        found = self.lines(b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \n{"a": "\xc3\xa9"}\r\n[2]')
        assert found == [(1, {"a": 1}), (4, {"a": "é"}), (5, [2])]

    def test_bad_lines_cost_themselves(self) -> None:
        huge = b"9" * 5000  # Python refuses to convert it
        found = self.lines(b'{"a": 1}\n{"a": "caf\xe9"}\n{"a": 2\n' + huge + b"\n\xff\xfe\n" + b'{"a": 3}\n')
        assert [n for n, value in found if not isinstance(value, BadRecord)] == [1, 6]
        bad = {n: value for n, value in found if isinstance(value, BadRecord)}
        assert "0xe9" in bad[2].detail
        assert bad[2].excerpt == '{"a": "caf�"}'
        assert "delimiter" in bad[3].detail
        assert bad[3].excerpt == '{"a": 2'
        assert len(bad[4].excerpt) == 200
        assert set(bad) == {2, 3, 4, 5}

    def test_a_bom_elsewhere_is_no_mark(self) -> None:
        (_, first), (_, second) = self.lines(b"1\n\xef\xbb\xbf2\n")
        assert first == 1
        assert isinstance(second, BadRecord)

    def test_deep_nesting_is_a_bad_record(self) -> None:
        found = self.lines(b"[" * 200_000 + b"]" * 200_000 + b'\n{"a":1}\n')
        assert isinstance(found[0][1], BadRecord)
        assert found[1] == (2, {"a": 1})

    @pytest.mark.parametrize("length", [49, 50, 51, 100, 149, 150, 151])
    def test_over_long_lines_are_left_out_in_pieces(
        self, length: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jsonlines, "MAX_LINE", 50)
        line = b'"' + b"x" * (length - 2) + b'"'
        for data in (line + b"\n7\n", b"7\n" + line):
            found = dict(self.lines(data))
            assert sorted(found) == [1, 2]
            text = found[1] if data.endswith(b"7\n") else found[2]
            assert 7 in found.values()
            if length < 50:
                assert text == "x" * (length - 2)
            else:
                assert text == BadRecord("a line of over 50 bytes", "")

    def test_lone_surrogates_are_values(self) -> None:
        assert self.lines(b'"\\ud800"\n') == [(1, "\ud800")]


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("*.jsonl", "a.jsonl", True),
        ("*.jsonl", "A.JSONL", True),
        ("*.jsonl", "b/a.jsonl", False),
        ("**/*.jsonl", "a.jsonl", True),
        ("**/*.jsonl", "b/c/a.jsonl", True),
        ("**/Posts.xml", "site/Posts.xml", True),
        ("**/Posts.xml", "site/OldPosts.xml", False),
        ("step?.json", "step1.json", True),
        ("step?.json", "step12.json", False),
        ("step?.json", "step/.json", False),
        ("a+b(1).txt", "a+b(1).txt", True),
        ("a.txt", "aXtxt", False),
        ("*", ".jsonl", True),
        ("*.xml*", "a.xml.bz2", True),
    ],
)
def test_globs(pattern: str, path: str, fits: bool) -> None:
    assert matches(path, pattern) is fits


class Source:
    """As much of a builder as finding its files takes."""

    name = "toy"
    raw_files = (
        RawPattern("**/*.jsonl", "records"),
        RawPattern("*.users", "companion", required=False),
    )


def touch(root: Path, *names: str) -> None:
    for name in names:
        put(root, name, b"x")


class TestFind:
    def test_files_are_sorted_and_the_rest_is_unused(self, tmp_path: Path) -> None:
        touch(tmp_path / "toy", "b.jsonl", "a.jsonl", "deep/er/c.jsonl", "a.users", "readme.txt", "z/notes")
        found = find(Source, tmp_path)
        assert [f.path for f in found.files] == [
            "toy/a.jsonl", "toy/a.users", "toy/b.jsonl", "toy/deep/er/c.jsonl",
        ]  # fmt: skip
        assert [f.path for f in found.unused] == ["toy/readme.txt", "toy/z/notes"]
        assert [f.path for f in found.matching("*.jsonl")] == ["toy/a.jsonl", "toy/b.jsonl"]
        assert not found.sample
        assert found.files[0].bytes == 1
        assert found.files[0].sha256() == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"

    def test_companions_alone_are_not_enough(self, tmp_path: Path) -> None:
        touch(tmp_path / "toy", "a.users", "notes")
        found = find(Source, tmp_path)
        assert found.files == ()
        assert [f.path for f in found.unused] == ["toy/a.users", "toy/notes"]

    @pytest.mark.parametrize("made", ["", "toy", "other"])
    def test_nothing_there(self, made: str, tmp_path: Path) -> None:
        (tmp_path / made).mkdir(exist_ok=True)
        found = find(Source, tmp_path)
        assert (found.files, found.unused) == ((), ())

    def test_hidden_files_and_folders_are_not_seen(self, tmp_path: Path) -> None:
        touch(tmp_path / "toy", "a.jsonl", ".b.jsonl", ".git/c.jsonl", "._a.jsonl")
        found = find(Source, tmp_path)
        assert [f.path for f in found.files] == ["toy/a.jsonl"]
        assert found.unused == ()

    def test_links_are_followed_but_not_in_circles(self, tmp_path: Path) -> None:
        touch(tmp_path / "toy", "a.jsonl", "in/b.jsonl")
        touch(tmp_path / "elsewhere", "c.jsonl")
        folder = tmp_path / "toy"
        (folder / "loop").symlink_to(folder)
        (folder / "in" / "up").symlink_to(folder / "in")
        (folder / "linked").symlink_to(tmp_path / "elsewhere")
        (folder / "d.jsonl").symlink_to(tmp_path / "elsewhere" / "c.jsonl")
        (folder / "self.jsonl").symlink_to(folder / "self.jsonl")
        (folder / "gone.jsonl").symlink_to(folder / "nowhere.jsonl")
        os.mkfifo(folder / "pipe.jsonl")
        found = [f.path.removeprefix("toy/") for f in find(Source, tmp_path).files]
        assert found == ["a.jsonl", "d.jsonl", "in/b.jsonl", "linked/c.jsonl"]

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems insist on Unicode names")
    def test_names_that_are_no_utf8_can_stand_in_a_manifest(self, tmp_path: Path) -> None:
        touch(tmp_path / "toy", os.fsdecode(b"caf\xe9.jsonl"))
        (file,) = find(Source, tmp_path).files
        assert file.path == "toy/caf�.jsonl"
        assert read_all(file) == b"x"
        json.dumps(file.path).encode()

    def test_strangers_are_what_no_source_reads(self, tmp_path: Path) -> None:
        touch(tmp_path, "toy/a", "other/a", "other/b/c", "stray.csv", "README.md", ".hidden/x", "empty/.keep")
        assert strangers(tmp_path, ["toy"]) == [("empty", 0), ("other", 2), ("stray.csv", 1)]
