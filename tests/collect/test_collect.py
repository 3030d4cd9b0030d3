"""What data/raw holds after one refresh, after many, and after a hostile or broken source."""

import io
import json
import os
import socket
import stat
import tarfile
import zipfile

import pyarrow.parquet as pq
import pytest
from data_fixtures import TOLD, collect_params, digests, folder, gather, index, png, refused, tarred, zipped

from components.base.errors import UserError
from components.collect.look import look
from components.collect.stage import collect
from components.samples import shards


def members(root):
    return {row["source_key"]: row["sha256"] for row in index(root) if row["member"]}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz"])
def test_the_same_images_give_the_same_index_from_any_kind_of_source(tmp_path, kind):
    files = {"b/2.png": png(2), "a/1.png": png(1), "top.png": png(3)}
    if kind == "folder":
        folder(tmp_path, files)
    elif kind == "zip":
        zipped(tmp_path / "source", files)
    else:
        tarred(tmp_path / "source", files, "w:gz" if kind == "tar.gz" else "w")
    metrics = gather(tmp_path)
    rows = index(tmp_path)
    assert [row["source_key"] for row in rows] == ["a/1.png", "b/2.png", "top.png"]
    assert [row["label"] for row in rows] == ["a", "b", None]
    assert [row["arrival"] for row in rows] == [0, 1, 2]
    places = [(row["shard"], row["row"]) for row in rows]
    found = dict(shards.read_bytes(tmp_path / "data/raw", places))
    assert [found[at] for at in range(3)] == [files[row["source_key"]] for row in rows]
    assert metrics["items"] == 3 and metrics["bytes"] == sum(map(len, files.values()))


def test_shards_are_plain_parquet(tmp_path):
    folder(tmp_path, {"a/1.png": png(1)})
    gather(tmp_path)
    found = pq.read_table(tmp_path / "data/raw/shard-00000.parquet")
    assert found.schema.names == ["sha256", "bytes", "source", "source_key", "text", "label", "licence"]
    assert found.schema.metadata is None
    assert found["bytes"][0].as_py() == png(1)


def test_a_refresh_adds_a_shard_and_rewrites_none(tmp_path):
    source = folder(tmp_path, {"b.png": png(1), "d.png": png(2)})
    gather(tmp_path)
    before = digests(tmp_path / "data/raw")
    (source / "a.png").write_bytes(png(3))
    (source / "c.png").write_bytes(png(4))
    (source / "d.png").unlink()
    metrics = gather(tmp_path)
    rows = index(tmp_path)
    assert [row["source_key"] for row in rows] == ["b.png", "d.png", "a.png", "c.png"]
    assert [row["member"] for row in rows] == [True, False, True, True]
    assert metrics["items"] == 3 and metrics["ever"] == 4 and metrics["withdrawn"] == 1
    after = digests(tmp_path / "data/raw")
    assert after["shard-00000.parquet"] == before["shard-00000.parquet"]
    assert pq.read_table(tmp_path / "data/raw/shard-00001.parquet").num_rows == 2


def test_what_comes_back_takes_its_old_place(tmp_path):
    source = folder(tmp_path, {"a.png": png(1), "b.png": png(2)})
    gather(tmp_path)
    (source / "b.png").unlink()
    gather(tmp_path)
    (source / "b.png").write_bytes(png(2))
    gather(tmp_path)
    assert [(row["source_key"], row["member"]) for row in index(tmp_path)] == [("a.png", True), ("b.png", True)]
    assert not (tmp_path / "data/raw/shard-00001.parquet").exists()


def test_changed_content_is_a_new_arrival_and_equal_bytes_are_stored_once(tmp_path):
    source = folder(tmp_path, {"a.png": png(1), "b.png": png(1)})
    gather(tmp_path)
    assert pq.read_table(tmp_path / "data/raw/shard-00000.parquet").num_rows == 1
    (source / "a.png").write_bytes(png(5))
    gather(tmp_path)
    rows = [(row["source_key"], row["member"]) for row in index(tmp_path)]
    assert rows == [("a.png", False), ("b.png", True), ("a.png", True)]


def test_nothing_new_changes_no_byte(tmp_path):
    folder(tmp_path, {"a.png": png(1)})
    gather(tmp_path)
    before = digests(tmp_path / "data/raw")
    gather(tmp_path)
    assert digests(tmp_path / "data/raw") == before


def test_large_sources_take_several_shards_and_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 1500)
    monkeypatch.setattr(shards.ShardWriter.__init__, "__kwdefaults__", {"shard_bytes": 5000})
    files = {f"{n:02d}.png": png(n) for n in range(12)}
    folder(tmp_path, files)
    gather(tmp_path)
    rows = index(tmp_path)
    assert len({row["shard"] for row in rows}) > 1
    found = dict(shards.read_bytes(tmp_path / "data/raw", [(row["shard"], row["row"]) for row in rows]))
    assert [found[at] for at in range(12)] == [files[row["source_key"]] for row in rows]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_captions_and_labels_come_from_the_metadata_and_follow_it(tmp_path, kind):
    def write(text, label):
        if kind == "csv":
            line = f'file_name,text,label\n1.png,"{text}",{label}\n./2.png,,\n'
        else:
            one = {"file_name": "1.png", "text": text, "label": label}
            line = json.dumps(one) + "\n\n" + json.dumps({"file_name": "2.png", "text": None, "label": ""})
        (source / f"metadata.{kind}").write_text(line)

    source = folder(tmp_path, {"images/1.png": png(1), "images/2.png": png(2)}) / "images"
    write("a, b", "x")
    gather(tmp_path, **TOLD)
    annotations = [(row["text"], row["label"]) for row in index(tmp_path)]
    assert annotations == [("a, b", "x"), (None, None)]
    write("c", "y")
    gather(tmp_path, **TOLD)
    assert [(row["text"], row["label"]) for row in index(tmp_path)] == [("c", "y"), (None, None)]
    assert len(index(tmp_path)) == 2


def test_metadata_and_files_that_do_not_meet_are_listed(tmp_path):
    rows = "file_name,text,label\na.png,A,x\ngone.png,B,x\n../up.png,C,x\na.png,again,x\n"
    folder(tmp_path, {"a.png": png(1), "b.png": png(2), "metadata.csv": rows.encode()})
    gather(tmp_path, **TOLD)
    assert refused(tmp_path) == {
        "gone.png": "file_missing", "b.png": "metadata_missing", "../up.png": "unsafe_name", "a.png": "metadata_twice"
    }  # fmt: skip
    assert [row["text"] for row in index(tmp_path)] == ["A"]


@pytest.mark.parametrize(
    ("name", "blob", "message"),
    [
        ("metadata.csv", b"", "empty"),
        (
            "metadata.csv",
            b"file_name,text\na.png,x\n",
            r"^source \w+: metadata.csv line 2: no column 'label'; it has .* \(section collect of params.yaml names",
        ),
        ("metadata.csv", b"file_nme,text,label\na.png,x,y\n", r"did you mean 'file_nme'.* \(each row needs it\)$"),
        ("metadata.csv", b"file_name,text,label\na.png,x\n", "line 2: not as many fields"),
        ("metadata.csv", b"file_name,text,label\na.png,x,y,z\n", "line 2: not as many fields"),
        ("metadata.csv", b"file_name,text,label\na.png,\xff,y\n", "bad_text 1"),
        ("metadata.csv", b"file_name,text,l\xff\na.png,x,y\n", "not UTF-8"),
        ("metadata.csv", b"file_name,text,label\na.png,\0,y\n", "bad_text 1"),
        ("metadata.csv", b'file_name,text,label\na.png,"x,y\n', "not CSV"),
        ("metadata.csv", b"file_name,text,label\na.png," + b"x" * 200_000 + b",y\n", "not CSV"),
        ("metadata.csv", b"file_name,text,text\na.png,x,y\n", "twice"),
        ("metadata.csv", b"file_name,text,label\n,x,y\n", "bad_row 1, metadata_missing 1"),
        ("metadata.jsonl", b"{nope", "line 1: not JSON"),
        ("metadata.jsonl", b"[" * 100_000, "line 1: not JSON"),
        ("metadata.jsonl", b"[1]", "line 1: holds list"),
        ("metadata.jsonl", b'{"file_name": "a.png", "text": {}, "label": "x"}', "bad_text 1"),
        ("metadata.jsonl", b'{"file_name": "a.png", "text": "\\ud800", "label": "x"}', "bad_text 1"),
    ],
)
def test_hostile_metadata_is_one_line(tmp_path, name, blob, message):
    folder(tmp_path, {"a.png": png(1), name: blob})
    with pytest.raises(UserError, match=message) as caught:
        gather(tmp_path, **TOLD)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert not (tmp_path / "data/raw").exists()


def test_a_folder_shows_all_that_it_does_not_take(tmp_path, monkeypatch):
    source = folder(tmp_path, {
        "ok.png": png(1), "notes.pdf": b"%PDF", "LICENSE": b"free", "README.md": b"hi", "._ok.png": b"mac",
        "big.png": png(2) + bytes(2**20), "sub/in.png": png(3),
    })  # fmt: skip
    os.mkfifo(source / "pipe.png")
    listener = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(source)  # the path of a socket is short
    listener.bind("s.png")
    (tmp_path / "secret.png").write_bytes(png(4))
    (source / "out.png").symlink_to(tmp_path / "secret.png")
    (source / "gone.png").symlink_to("nowhere")
    (source / "loop").symlink_to(".")
    (source / "a twin.png").symlink_to("ok.png")
    (source / "blobs").mkdir()
    (source / "blobs/5feceb66").write_bytes(png(6))
    (source / "snapshot.png").symlink_to("blobs/5feceb66")  # as Hugging Face's cache lies
    (source / os.fsdecode(b"\xff.png")).write_bytes(png(5))
    metrics = gather(tmp_path)
    listener.close()
    assert set(members(tmp_path)) == {"ok.png", "sub/in.png", "snapshot.png"}
    assert refused(tmp_path) == {
        "notes.pdf": "not_an_image", "._ok.png": "litter", "big.png": "too_big", "pipe.png": "device",
        "s.png": "device", "out.png": "link", "gone.png": "link", "loop": "link", "\\udcff.png": "unsafe_name",
        "a twin.png": "link", "blobs/5feceb66": "not_an_image",
    }  # fmt: skip
    assert metrics["ignored"] == 2 and metrics["refused"] == 11


def hostile_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ok.png", png(1))
        for name in ("../up.png", "/etc/abs.png", "C:\\abs.png", "a\\..\\..\\up.png", "bell\x07.png"):
            archive.writestr(zipfile.ZipInfo(name), png(2))
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        device = zipfile.ZipInfo("device.png")
        device.external_attr = (stat.S_IFCHR | 0o777) << 16
        archive.writestr(device, b"")
        archive.writestr("bomb.png", bytes(3 * 2**20), zipfile.ZIP_DEFLATED)
        archive.writestr("big.png", os.urandom(2**20 + 1))
        archive.writestr("twice.png", png(3))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("twice.png", png(4))


def test_a_hostile_zip_gives_only_what_is_safe(tmp_path):
    hostile_zip(tmp_path / "source")
    gather(tmp_path)
    assert set(members(tmp_path)) == {"ok.png", "twice.png", "bell\\x07.png"}
    assert refused(tmp_path) == {
        "../up.png": "unsafe_name", "/etc/abs.png": "unsafe_name", "C:/abs.png": "unsafe_name",
        "a/../../up.png": "unsafe_name", "link.png": "link",
        "device.png": "device", "bomb.png": "over_compressed", "big.png": "too_big", "twice.png": "duplicate_name",
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == [".stillroom", "data", "source"]
    assert not any(path.is_file() for path in (tmp_path / ".stillroom").rglob("*"))


def test_a_tar_that_ends_in_a_zip_is_a_tar(tmp_path):
    inner = zipped(tmp_path / "inner.zip", {"b.png": png(2)}).read_bytes()
    tarred(tmp_path / "source", {"a.png": png(1), "inner.zip": inner})
    gather(tmp_path)
    assert set(members(tmp_path)) == {"a.png"} and refused(tmp_path) == {"inner.zip": "not_an_image"}


def test_encrypted_and_overlapping_members_are_refused(tmp_path):
    zipped(tmp_path / "source", {"a.png": png(1), "b.png": png(2), "c.png": png(3), "d.png": png(4)})
    blob = bytearray((tmp_path / "source").read_bytes())
    entries = [at for at in range(len(blob)) if blob[at : at + 4] == b"PK\x01\x02"]
    blob[entries[0] + 8] |= 1  # a: the flag that says encrypted
    blob[entries[1] + 42 : entries[1] + 46] = blob[entries[2] + 42 : entries[2] + 46]  # b: the offset of c
    (tmp_path / "source").write_bytes(blob)
    gather(tmp_path)
    found = refused(tmp_path)
    assert found == {"a.png": "encrypted", "b.png": "overlap", "c.png": "overlap"}
    assert set(members(tmp_path)) == {"d.png"}


def test_a_hostile_tar_gives_only_what_is_safe(tmp_path):
    with tarfile.open(tmp_path / "source", "w:gz") as archive:

        def add(name, data=b"", **fields):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in fields.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))

        add("ok.png", png(1))
        add("./dot/./ok.png", png(7))
        add("../up.png", png(2))
        add("/abs.png", png(2))
        add("link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add("hard.png", type=tarfile.LNKTYPE, linkname="ok.png")
        add("fifo.png", type=tarfile.FIFOTYPE)
        add("device.png", type=tarfile.CHRTYPE)
        add("big.png", bytes(2**20 + 1))
        add("ok.png", png(3))
    gather(tmp_path)
    assert set(members(tmp_path)) == {"ok.png", "dot/ok.png"}
    assert refused(tmp_path) == {
        "../up.png": "unsafe_name", "/abs.png": "unsafe_name", "link.png": "link", "hard.png": "link",
        "fifo.png": "device", "device.png": "device", "big.png": "too_big", "ok.png": "duplicate_name",
    }  # fmt: skip


@pytest.mark.parametrize("files", [{"a.txt.png.pdf": b"x"}, {"metadata.csv": b"file_name,text,label\na.png,x,y\n"}])
def test_a_source_without_images_is_one_line(tmp_path, files):
    folder(tmp_path, files)
    with pytest.raises(UserError, match="no image"):
        gather(tmp_path)


def test_a_source_that_changed_since_the_look_is_one_line(tmp_path):
    source = folder(tmp_path, {"a.png": png(1)})
    gather(tmp_path)
    (source / "b.png").write_bytes(png(2))
    look(collect_params(), root=tmp_path, page=tmp_path / "data/source.json", cache=None)
    (source / "c.png").write_bytes(png(3))
    with pytest.raises(UserError, match="the source changed during the run: run it again"):
        collect(collect_params(), look=tmp_path / "data/source.json", raw=tmp_path / "data/raw",
                withdrawn=tmp_path / "data/withdrawn.jsonl", scratch=tmp_path / "scratch")  # fmt: skip


def test_a_run_that_is_stopped_leaves_the_old_state_and_the_next_one_completes(tmp_path, monkeypatch):
    source = folder(tmp_path, {"a.png": png(1)})
    gather(tmp_path)
    before = digests(tmp_path / "data/raw")
    (source / "b.png").write_bytes(png(2))

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("components.collect.index.Index.write", die)  # shards are written, the index is not
        with pytest.raises(Killed):
            gather(tmp_path)
    after = digests(tmp_path / "data/raw")
    assert after["index.parquet"] == before["index.parquet"]
    assert set(after) <= {*before, "shard-00001.parquet"}
    (tmp_path / "data/raw/.shard-00002.parquet.beside-00ff").write_bytes(b"half")
    (tmp_path / "data/raw/shard-00007.parquet").write_bytes(b"of nobody")
    gather(tmp_path)
    assert set(members(tmp_path)) == {"a.png", "b.png"}
    assert set(digests(tmp_path / "data/raw")) == {*before, "shard-00001.parquet"}
