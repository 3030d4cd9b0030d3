"""Archives that are damaged or made to do harm: one line, and nothing is half taken in."""

import hashlib
import struct
import tarfile

import pytest
import xxhash
from data_fixtures import digests, gather, index, png, tarred, zipped

from components.base.errors import UserError
from components.collect.sources import archives


def members(root):
    return {row["source_key"]: row["sha256"] for row in index(root) if row["member"]}


PACKED = [(mode, harm) for mode in ("w:gz", "w:bz2", "w:xz") for harm in ("half", "tail", "flip")]
PACKED += [("w:zst", "half"), ("w:zst", "tail")]  # its checksum is a choice of who packed it: see below


@pytest.mark.parametrize(("mode", "harm"), [("w", "half"), ("w", "boundary"), ("w", "header"), *PACKED])
def test_a_damaged_tar_is_one_line(tmp_path, mode, harm):
    path = tarred(tmp_path / "source", {f"{n}.png": png(n) for n in range(8)}, mode)
    blob = bytearray(path.read_bytes())
    second = 512 + len(png(0)) + -len(png(0)) % 512  # where the second member's header begins
    if harm == "half":
        del blob[len(blob) // 2 :]
    elif harm == "tail":
        del blob[-6:]
    elif harm == "flip":
        blob[len(blob) // 2] ^= 0x40
    elif harm == "boundary":
        del blob[second:]  # tarfile takes this for the end
    else:
        blob[second + 10] ^= 1  # and this too
    path.write_bytes(blob)
    with pytest.raises(UserError, match=r"damaged|not an archive") as caught:
        gather(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data/raw").exists()


def zstandard(data):
    """``data`` as frames of raw blocks, each with a checksum as `zstd` writes it, behind one to skip (RFC 8878)."""
    out = struct.pack("<II", 0x184D2A50, 4) + b"pzst"
    for start in range(0, len(data), 2**16):
        part = data[start : start + 2**16]
        check = xxhash.xxh64_intdigest(part) & 0xFFFFFFFF
        out += struct.pack("<IBI", 0xFD2FB528, 0xA4, len(part)) + (len(part) << 3 | 1).to_bytes(3, "little") + part
        out += struct.pack("<I", check)
    return out


@pytest.mark.parametrize("harm", [False, True])
def test_a_tar_of_zstandard_is_read_whole_and_its_checksums_are_checked(tmp_path, harm):
    path = tarred(tmp_path / "source", {f"{n}.png": png(n) for n in range(40)})
    blob = bytearray(zstandard(path.read_bytes()))
    assert blob.count(b"\x28\xb5\x2f\xfd") > 1, "frames in a row, as of pzstd"
    blob[len(blob) // 2] ^= 0x40 * harm
    path.write_bytes(blob)
    if harm:
        with pytest.raises(UserError, match="damaged"):
            gather(tmp_path)
    else:
        gather(tmp_path)
        assert members(tmp_path) == {f"{n}.png": hashlib.sha256(png(n)).hexdigest() for n in range(40)}


def test_a_zip_with_a_wrong_checksum_is_one_line_and_changes_nothing(tmp_path):
    zipped(tmp_path / "source", {"a.png": png(1), "b.png": png(2)})
    gather(tmp_path)
    before = digests(tmp_path / "data/raw")
    blob = bytearray(zipped(tmp_path / "source", {"c.png": png(3), "d.png": png(4)}).read_bytes())
    blob[blob.index(png(4)) + 50] ^= 1
    (tmp_path / "source").write_bytes(blob)
    with pytest.raises(UserError, match=r"d\.png.*damaged"):
        gather(tmp_path)
    assert digests(tmp_path / "data/raw") == before


def test_a_gzip_bomb_stops_early(tmp_path, monkeypatch):
    monkeypatch.setattr("components.collect.sources.archives.BOMB_BYTES", 1024)
    tarred(tmp_path / "source", {"a.png": png(1), "zeros.bin": bytes(8 * 2**20)}, "w:gz")
    with pytest.raises(UserError, match="unpacks to more than"):
        gather(tmp_path)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w:zst"])
@pytest.mark.parametrize("name", ["zeros.bin", "zeros.png"])
def test_what_a_bomb_steps_over_is_counted_as_what_it_reads(tmp_path, monkeypatch, mode, name):
    monkeypatch.setattr(archives, "BOMB_BYTES", 1024)
    opened = []
    packers = [(lambda raw, opener=opener: opened.append(opener(raw)) or opened[-1], magic)
               for opener, magic in archives._PACKERS]  # fmt: skip
    monkeypatch.setattr(archives, "_PACKERS", packers)
    tarred(tmp_path / "source", {"a.png": png(1), name: bytes(2**24), "z.png": png(2)}, mode)
    with pytest.raises(UserError, match="unpacks to more than"):
        gather(tmp_path)
    assert opened and opened[0].tell() <= 2**20 + 2**21 + 200 * (tmp_path / "source").stat().st_size


def test_a_tar_header_that_claims_much_memory_is_refused(tmp_path):
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 2**32
    (tmp_path / "source").write_bytes(info.tobuf() + bytes(10_240))
    with pytest.raises(UserError, match="a header claims 4294967296 bytes"):
        gather(tmp_path)
