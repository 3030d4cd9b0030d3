"""What data/source.json says, and that looking is cheap and harmless."""

import json
import os
import signal

import pytest
from data_fixtures import collect_params, folder, png, tarred, zipped

from components.base.errors import UserError
from components.collect.look import fingerprint, look
from components.collect.sources.folders import Folder


def one(page):
    (found,) = page["sources"]
    return found


def test_the_page_changes_only_with_the_content(tmp_path):
    source = folder(tmp_path, {"a.png": png(1), "readme.txt": b"one"})
    page = tmp_path / "data" / "source.json"
    first = look(collect_params(), root=tmp_path, page=page, cache=None)
    assert json.loads(page.read_text()) == first
    assert one(first)["form"] == "folder" and one(first)["files"] == 1 and first["format"] == 2
    os.utime(page, (1, 1))
    (source / "readme.txt").write_bytes(b"two")
    assert look(collect_params(), root=tmp_path, page=page, cache=None) == first
    assert page.stat().st_mtime == 1, "written again though nothing had changed"
    (source / "a.png").write_bytes(png(2))
    assert look(collect_params(), root=tmp_path, page=page, cache=None) != first


@pytest.mark.parametrize("change", ["rename", "remove", "metadata"])
def test_whatever_collect_would_see_changes_the_fingerprint(tmp_path, change):
    source = folder(tmp_path, {"a.png": png(1), "b.png": png(2)})
    before = one(fingerprint(collect_params(), root=tmp_path))["sha256"]
    if change == "rename":
        (source / "b.png").rename(source / "c.png")
    elif change == "remove":
        (source / "b.png").unlink()
    else:
        (source / "metadata.csv").write_text("file_name,text,label\n")
    assert one(fingerprint(collect_params(), root=tmp_path))["sha256"] != before


def test_a_second_look_reads_no_content(tmp_path, monkeypatch):
    source = folder(tmp_path, {"a.png": png(1), "b.png": png(2)})
    for path in source.iterdir():
        os.utime(path, (1, 1))  # long settled
    page, cache = tmp_path / "source.json", tmp_path / "cache.json"
    first = look(collect_params(), root=tmp_path, page=page, cache=cache)
    monkeypatch.setattr("components.collect.sources.folders.Folder.open", lambda *_: pytest.fail("read again"))
    assert look(collect_params(), root=tmp_path, page=page, cache=cache) == first


@pytest.mark.parametrize("broken", ["a source that is empty", "a signal"])
def test_a_look_that_does_not_get_to_its_end_remembers_what_it_read(tmp_path, monkeypatch, broken):
    for name in ("first", "second"):
        for path in (folder(tmp_path, {"a.png": png(1), "b.png": png(2)}, name)).iterdir():
            os.utime(path, (1, 1))  # long settled
    (tmp_path / "third").mkdir()
    sources = [{"name": name, "location": name} for name in ("first", "second", "third")]
    opened, read = Folder.open, []

    def reading(self, entry, *more):
        read.append(entry)
        if broken == "a signal" and len(read) == 4:
            raise KeyboardInterrupt
        return opened(self, entry, *more)

    monkeypatch.setattr(Folder, "open", reading)
    paths = {"root": tmp_path, "page": tmp_path / "source.json", "cache": tmp_path / "cache.json"}
    with pytest.raises(UserError if broken == "a source that is empty" else KeyboardInterrupt):
        look(collect_params(*sources), **paths)
    assert len(read) == 4
    read.clear()
    with pytest.raises(UserError, match="third: empty"):
        look(collect_params(*sources), **paths)
    assert len(read) == (0 if broken == "a source that is empty" else 1)


def test_a_look_that_is_killed_remembers_what_it_read_up_to_half_a_minute_before(tmp_path, monkeypatch):
    for path in folder(tmp_path, {f"{at}.png": png(at) for at in range(6)}).iterdir():
        os.utime(path, (1, 1))  # long settled
    opened, read = Folder.open, []
    paths = {"root": tmp_path, "page": tmp_path / "source.json", "cache": tmp_path / "cache.json"}

    def reading(self, entry, *more):
        read.append(entry)
        if os.getpid() != parent and len(read) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return opened(self, entry, *more)

    parent = os.getpid()
    monkeypatch.setattr(Folder, "open", reading)
    monkeypatch.setattr("components.collect.memory._SAVE_SECONDS", -1.0)
    monkeypatch.setattr("components.collect.memory._SAVE_SHARE", 0)
    child = os.fork()
    if not child:
        try:
            look(collect_params(), **paths)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    look(collect_params(), **paths)
    assert len(read) == 2


def test_a_file_that_changed_a_moment_ago_is_not_trusted_to_the_cache(tmp_path):
    source = folder(tmp_path, {"a.png": png(1)})
    page, cache = tmp_path / "source.json", tmp_path / "cache.json"
    before = look(collect_params(), root=tmp_path, page=page, cache=cache)
    found = (source / "a.png").stat()
    data = bytearray((source / "a.png").read_bytes())
    data[-20] ^= 1
    (source / "a.png").write_bytes(data)  # same size, same inode
    os.utime(source / "a.png", ns=(found.st_atime_ns, found.st_mtime_ns))
    assert look(collect_params(), root=tmp_path, page=page, cache=cache) != before


def test_an_archive_is_known_by_its_bytes(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.png": png(1), "b.txt": b"x"})
    found = one(fingerprint(collect_params(location="a.zip"), root=tmp_path))
    assert (found["form"], found["files"], found["bytes"]) == ("zip", 1, path.stat().st_size)
    tarred(tmp_path / "b.tgz", {"a.png": png(1)}, "w:gz")
    assert one(fingerprint(collect_params(location="b.tgz"), root=tmp_path))["form"] == "tar"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "not there"),
        (lambda path: path.mkdir(), "empty"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(b"hello" * 200), "not an archive"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(600)), "cut off"),
        (lambda path: os.mkfifo(path), "neither a folder nor a file"),
        (lambda path: path.symlink_to("nowhere"), "not there"),
        (lambda path: zipped(path, {}), "empty"),
        (lambda path: zipped(path, {"a.txt": b"x"}), "empty"),
    ],
)
def test_a_source_that_is_none_is_one_line(tmp_path, make, message):
    make(tmp_path / "source")
    with pytest.raises(UserError, match=message) as caught:
        fingerprint(collect_params(), root=tmp_path)
    assert "\n" not in str(caught.value)


def test_nothing_but_files_is_opened(tmp_path):
    source = folder(tmp_path, {"a.png": png(1)})
    os.mkfifo(source / "pipe.png")  # opening it would wait for ever
    (source / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "secret.png").write_bytes(png(2))
    (source / "out.png").symlink_to(tmp_path / "secret.png")
    assert one(fingerprint(collect_params(), root=tmp_path))["files"] == 1
