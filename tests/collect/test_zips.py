"""Zips: what their members are called, in whatever table, and that no header is believed."""

import struct
import tracemalloc
import zipfile
import zlib

import pytest
from data_fixtures import TOLD, folder, gather, png, refused, zipped

from components.base.errors import UserError
from components.samples import shards

UTF8 = 0x800


def made(path, *members):
    """A zip of (name in bytes, flags, extra field, content); zipfile writes no such names."""
    body, entries = b"", b""
    for name, flags, extra, data in members:
        sizes = struct.pack("<LLL", zlib.crc32(data), len(data), len(data))
        lengths = struct.pack("<HH", len(name), len(extra))
        common = struct.pack("<HHHHH", 20, flags, 0, 0, 33) + sizes + lengths
        entries += b"PK\1\2" + b"\x14\0" + common + bytes(10) + struct.pack("<L", len(body)) + name + extra
        body += b"PK\3\4" + common + name + extra + data
    count = struct.pack("<HHHHLLH", 0, 0, len(members), len(members), len(entries), len(body), 0)
    path.write_bytes(body + entries + b"PK\5\6" + count)
    return path


def unicode_path(name, raw):
    body = b"\1" + struct.pack("<L", zlib.crc32(raw)) + name.encode()
    return struct.pack("<HH", 0x7075, len(body)) + body


def labels(root):
    return {row["source_key"]: row["label"] for row in shards.read_index(root / "data/raw").to_pylist()}


@pytest.mark.parametrize(
    ("raw", "flags", "extra", "key"),
    [
        ("Vögel/ü.png".encode(), UTF8, b"", "Vögel/ü.png"),
        ("Vögel/ü.png".encode(), 0, b"", "Vögel/ü.png"),  # Info-ZIP
        ("Vögel/ü.png".encode("cp437"), 0, b"", "Vögel/ü.png"),
        (b"V?gel/?.png", 0, unicode_path("Vögel/ü.png", b"V?gel/?.png"), "Vögel/ü.png"),
        (b"V?gel/1.png", 0, unicode_path("Vögel/2.png", b"another"), "V?gel/1.png"),  # of an older name
        (b"birds\\red\\1.png", 0, b"", "birds/red/1.png"),
        ("Vo\u0308gel/1.png".encode(), UTF8, b"", "Vögel/1.png"),  # macOS takes letters apart
    ],
)
def test_a_name_in_any_table_gives_the_same_key_and_label(tmp_path, raw, flags, extra, key):
    made(tmp_path / "source", (raw, flags, extra, png(1)))
    gather(tmp_path)
    assert labels(tmp_path) == {key: key.split("/")[-2]}


def test_one_name_that_is_not_utf8_refuses_its_member_alone(tmp_path):
    wrong = ("b\xff.png".encode("latin-1"), UTF8, b"", png(2))
    made(tmp_path / "source", (b"a.png", UTF8, b"", png(1)), wrong, (b"c.png", 0, b"", png(3)))
    gather(tmp_path)
    assert set(labels(tmp_path)) == {"a.png", "c.png"} and refused(tmp_path) == {"b\\udcff.png": "unsafe_name"}


def test_folders_written_with_a_backslash_are_no_images(tmp_path):
    made(tmp_path / "source", (b"birds.png\\", 0, b"", b""), (b"birds.png\\1.png", 0, b"", png(1)))
    gather(tmp_path)
    assert set(labels(tmp_path)) == {"birds.png/1.png"} and refused(tmp_path) == {}


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_names_that_take_letters_apart_meet_metadata_that_does_not(tmp_path, kind):
    files = {"Vo\u0308gel.png": png(1), "metadata.csv": "file_name,text,label\nVögel.png,t,bird\n".encode()}
    (zipped if kind == "zip" else folder)(*((tmp_path / "source", files) if kind == "zip" else (tmp_path, files)))
    gather(tmp_path, **TOLD)
    assert labels(tmp_path) == {"Vögel.png": "bird"} and refused(tmp_path) == {}


def test_a_folder_with_the_same_name_in_two_spellings_refuses_the_second(tmp_path):
    folder(tmp_path, {"Vo\u0308gel.png": png(1), "Vögel.png": png(2)})
    gather(tmp_path)
    assert set(labels(tmp_path)) == {"Vögel.png"} and refused(tmp_path) == {"Vögel.png": "duplicate_name"}


def lying(path, method, data, claimed):
    """A zip of one member ``data`` whose headers claim that it has ``claimed`` bytes, with their checksum."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.png", data)
    blob = bytearray(path.read_bytes())
    for at, offset in ((0, 14), (blob.index(b"PK\1\2"), 16)):
        struct.pack_into("<L", blob, at + offset, zlib.crc32(data[:claimed]))
        struct.pack_into("<L", blob, at + offset + 8, claimed)
    path.write_bytes(blob)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("rest", [0, 2**22])
def test_a_member_is_unpacked_as_far_as_its_header_says(tmp_path, method, rest):
    data = png(1)
    lying(tmp_path / "source", method, data + bytes(rest), len(data))
    gather(tmp_path)
    assert set(labels(tmp_path)) == {"a.png"}


def test_a_header_that_says_too_little_costs_no_memory(tmp_path):
    data = png(1)
    lying(tmp_path / "source", zipfile.ZIP_DEFLATED, data + bytes(2**26), len(data))
    gather(tmp_path)  # what is loaded at the first use
    (tmp_path / "data/raw/collected.json").unlink()
    tracemalloc.start()
    try:
        gather(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_header_that_says_too_much_is_a_damaged_archive(tmp_path):
    lying(tmp_path / "source", zipfile.ZIP_DEFLATED, png(1), len(png(1)) + 5)
    with pytest.raises(UserError, match=r"a\.png\): damaged"):
        gather(tmp_path)
