"""The puller against stores that lie, folders that rot and kills at every step."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from checkouts import tree
from killing import killed_at
from mirrors import FILES, manifest, mirror, put
from websites import reply

from consume import pull

SCRIPT = Path(pull.__file__)


def files_of(source, number):
    return source.location / "versions" / source.resolve("denoiser", "champion", number)[1]


@pytest.fixture
def source(tmp_path):
    (tmp_path / "mirror").mkdir()
    return mirror(tmp_path / "mirror", {**FILES, "model.onnx": b"older", "gone.txt": b"old"}, FILES)


@pytest.fixture
def to(tmp_path):
    (tmp_path / "there").mkdir()
    return tmp_path / "there" / "model"


def get(source, to, pin=None):
    return pull.pull(source, "denoiser", "champion", to, pin)


def whole(to, source, number):
    """Whether the folder holds that version and nothing else."""
    there = tree(to)
    there.pop(pull.RECORD, None)
    return there == tree(files_of(source, number))


def alone(to):
    """What lies beside the folder, but for the lock."""
    return {path.name for path in to.parent.iterdir()} - {to.name, f".{to.name}.lock"}


def refused(source, to, line, pin=None):
    before = tree(to.parent)
    with pytest.raises(pull.PullError, match=line):
        get(source, to, pin)
    after = tree(to.parent)
    after.pop(f".{to.name}.lock", None), before.pop(f".{to.name}.lock", None)
    assert after == before
    assert not alone(to)


def test_it_pulls_once_and_says_so_the_second_time(source, to):
    assert get(source, to).endswith("denoiser version 2 pulled and checked")
    assert whole(to, source, 2)
    stamps = {path: path.stat().st_mtime_ns for path in to.rglob("*")}
    assert get(source, to).endswith("denoiser version 2 is there and whole: nothing to do")
    assert {path: path.stat().st_mtime_ns for path in to.rglob("*")} == stamps
    record = json.loads((to / pull.RECORD).read_text())
    assert record == {"model": "denoiser", "version": 2, "manifest": source.resolve("denoiser", "champion", None)[1]}


def test_a_pin_goes_back_and_leaves_nothing_of_the_other_version(source, to):
    get(source, to)
    assert "version 1 pulled" in get(source, to, 1)
    assert whole(to, source, 1)
    assert "version 2 pulled" in get(source, to)
    assert whole(to, source, 2)
    assert not alone(to)


def test_every_flipped_bit_in_a_pulled_folder_is_noticed_and_mended(source, to):
    get(source, to)
    chance = random.Random(0)
    names = sorted(tree(to))
    assert pull.RECORD in names
    for number in range(20):
        path = to / names[number % len(names)]
        content = bytearray(path.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        said = get(source, to)
        assert "pulled and checked in place of what was there" in said
        assert path.name in said
        assert whole(to, source, 2)


@pytest.mark.parametrize("name", [*FILES, pull.MANIFEST])
def test_a_flipped_bit_in_the_store_is_refused_and_the_old_folder_stays(source, to, name):
    get(source, to, 1)
    path = files_of(source, 2) / name
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    refused(source, to, f"{name}: ")
    assert whole(to, source, 1)


def test_a_missing_and_a_shorter_and_a_longer_file_in_the_store_are_refused(source, to):
    get(source, to, 1)
    path = files_of(source, 2) / "model.onnx"
    path.write_bytes(b"weight")
    refused(source, to, "model.onnx: not what")
    path.write_bytes(b"weights and more")
    refused(source, to, "model.onnx: longer than")
    path.unlink()
    with pytest.raises(OSError, match=r"model\.onnx"):
        get(source, to)
    assert whole(to, source, 1) and not alone(to)


@pytest.mark.parametrize("name", ["extra.pkl", "unet/extra.pkl", "hidden/extra.pkl"])
def test_a_file_that_the_manifest_does_not_list_is_refused_in_the_store(source, to, name):
    path = files_of(source, 2) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    refused(source, to, name.replace("hidden/extra.pkl", "hidden/") + " is not in MANIFEST.json")


@pytest.mark.parametrize("pin", [1, 2])
def test_a_file_of_somebody_else_in_the_folder_is_never_removed(source, to, pin):
    get(source, to, 1)
    (to / "unet/notes.txt").write_text("mine")
    refused(source, to, "unet/notes.txt is not in MANIFEST.json: move it away", pin)
    assert (to / "unet/notes.txt").read_text() == "mine"


def test_a_folder_that_was_never_pulled_is_not_replaced(source, to):
    to.mkdir()
    (to / "thesis.tex").write_text("mine")
    refused(source, to, "thesis.tex is not in")
    assert (to / "thesis.tex").exists()


def test_an_empty_folder_and_a_link_to_a_folder_are_filled(source, to, tmp_path):
    to.mkdir()
    get(source, to)
    assert whole(to, source, 2)
    (tmp_path / "link").symlink_to(to)
    get(source, tmp_path / "link", 1)
    assert (tmp_path / "link").is_symlink() and whole(to, source, 1)


UNSAFE = ["../up", "a/../../up", "/etc/x", "a//b", "./a", "a/", "", "a\\b", "..\\up", "c:x", "a\nb", "a\0b", ".hidden",
          ".pulled.json", "ü", "a" * 201, "/".join("abcdefghijk"), "-rf", "a/.."]  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE, ids=repr)
def test_a_name_that_could_land_elsewhere_is_refused(tmp_path, to, name):
    (tmp_path / "mirror").mkdir()
    digest = put(tmp_path / "mirror", {}, manifest({name: b"x"}))
    refused(mirror(tmp_path / "mirror", digest), to, "not a safe name")
    assert not (tmp_path / "up").exists()


@pytest.mark.parametrize("names", [("a", "A"), ("unet/a", "UNET/b"), ("a", "a/b"), ("A", "a/b"), ("manifest.json",)])
def test_two_names_that_are_one_where_case_does_not_count_are_refused(tmp_path, to, names):
    (tmp_path / "mirror").mkdir()
    digest = put(tmp_path / "mirror", {}, manifest(dict.fromkeys(names, b"x")))
    refused(mirror(tmp_path / "mirror", digest), to, "two files that are one")


def test_a_name_that_stands_twice_in_the_manifest_is_refused(tmp_path, to):
    (tmp_path / "mirror").mkdir()
    text = manifest({"a": b"x", "b": b"y"}).replace(b'"b"', b'"a"')
    refused(mirror(tmp_path / "mirror", put(tmp_path / "mirror", {}, text)), to, "two files that are one")


def test_a_link_or_a_pipe_in_place_of_a_file_is_refused_in_the_store_and_mended_in_the_folder(source, to, tmp_path):
    get(source, to)
    for folder in (to, files_of(source, 2)):
        elsewhere = tmp_path / f"copy of {folder.name}"
        elsewhere.write_bytes(FILES["model.onnx"])
        (folder / "model.onnx").unlink()
        (folder / "model.onnx").symlink_to(elsewhere)
        if folder == to:
            assert "in place of what was there" in get(source, to)
            assert not (to / "model.onnx").is_symlink()
    with pytest.raises(OSError, match=r"model\.onnx"):
        get(source, to.with_name("other"))
    (files_of(source, 2) / "model.onnx").unlink()
    os.mkfifo(files_of(source, 2) / "model.onnx")
    with pytest.raises(pull.PullError, match=r"model\.onnx"):
        get(source, to.with_name("other"))


def test_a_linked_folder_is_not_followed(source, to, tmp_path):
    get(source, to)
    shutil.move(to / "unet", tmp_path / "unet")
    (to / "unet").symlink_to(tmp_path / "unet")
    refused(source, to, "unet is not in MANIFEST.json")


@pytest.mark.slow
@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("before", [None, 1], ids=["first", "second"])
def test_kill_9_at_every_step_leaves_the_old_or_the_new_folder_whole(source, to, monkeypatch, before, exchange):
    if not exchange:  # as on a system without renameat2
        monkeypatch.setattr(pull.ctypes, "CDLL", lambda _: None)
    old, seen = before and tree(files_of(source, before)), set()
    for step in range(1, 200):
        if before:
            get(source, to, before)
        elif to.exists():
            shutil.rmtree(to)
        killed = killed_at(step, to.parent, lambda: get(source, to))
        there = tree(to) if to.exists() else None
        (there or {}).pop(pull.RECORD, None)
        state = "old" if there == old else "new" if there == tree(files_of(source, 2)) else "neither"
        if state == "neither":  # only where a folder cannot be exchanged, between two renames; the old one lies beside
            assert not exchange and there is None
            assert tree(to.with_name(f".{to.name}.old")).items() >= old.items()
            with pytest.raises(FileNotFoundError):  # a call that comes to nothing puts it back too
                pull.pull(pull.Mirror(to.parent), "denoiser", "champion", to)
            assert whole(to, source, before)
        seen.add(state)
        get(source, to)
        assert whole(to, source, 2)
        assert not alone(to)
        if not killed:
            break
    assert step > 20 and not killed
    assert seen == {"old", "new"} | ({"neither"} if before and not exchange else set())


def test_the_folder_is_never_missing_while_versions_come_and_go(source, to):
    get(source, to)
    missing, done = [], threading.Event()

    def watch():
        while not done.is_set():
            if not (to / pull.MANIFEST).exists():
                missing.append(True)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in (1, 2) * 20:
        get(source, to, number)
    done.set()
    watcher.join()
    assert not missing


def script(*arguments, **environment):
    """The file run as others run it: a Python of its own that sees no site-packages and nothing of ours."""
    command = [sys.executable, "-I", "-S", str(SCRIPT), *map(str, arguments)]
    env = {**os.environ, **environment}
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_two_pulls_at_once_end_with_one_whole_folder(source, to):
    both = [script("denoiser@champion", "--to", to, "--uri", source.location) for _ in range(2)]
    said = sorted(each.communicate(timeout=60)[0].split("denoiser ")[1] for each in both)
    assert said == ["version 2 is there and whole: nothing to do\n", "version 2 pulled and checked\n"]
    assert whole(to, source, 2) and not alone(to)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["denoiser@champion", "--uri", "http://127.0.0.1:9"], "http://127.0.0.1:9: [Errno 111] Connection refused"),
        (["denoiser@champion", "--uri", "http://me:secret@127.0.0.1:9"], "http://127.0.0.1:9: [Errno 111]"),
        (["denoiser@champion", "--uri", "http://me:secret/x@127.0.0.1:9"], "write / ? # and @ in a name or password"),
        (["denoiser@champion", "--uri", "http://me:secret#@127.0.0.1:9"], "write / ? # and @ in a name or password"),
        (["denoiser@champion", "--uri", "http://me:secret?@127.0.0.1:9"], "write / ? # and @ in a name or password"),
        (["denoiser@champion", "--uri", "http://[127"], "ValueError: Invalid IPv6 URL"),
        (["denoiser@champion", "--uri", "nowhere"], "No such file or directory: 'nowhere/registry.json'"),
        (["denoiser@best"], "has no denoiser@best"),
        (["other@champion"], "has no other@champion"),
        (["denoiser"], "has no denoiser@"),
        (["denoiser", "--pin", "3"], "has no denoiser version 3"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(source, to, arguments, line):
    process = script("--uri", source.location, "--to", to, *arguments)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ") and line in err
    assert "secret" not in err
    assert not to.exists()


ROOT = "stillroom/run/artifacts/denoiser"


def serve(here, contents, listing=None, **answers):
    """Have a web server speak as MLflow does of version 1 with ``contents``; ``answers`` replace a file's own."""
    api, text = "/api/2.0/mlflow", listing or manifest(contents)
    version = {"version": "1", "tags": [{"key": pull.TAG, "value": hashlib.sha256(text).hexdigest()}]}
    here.say(f"{api}/registered-models/alias", json.dumps({"model_version": version}).encode())
    uri = {"artifact_uri": f"mlflow-artifacts:/{ROOT}"}
    here.say(f"{api}/model-versions/get-download-uri", json.dumps(uri).encode())

    def entries(handler):
        folder = parse_qs(urlsplit(handler.path).query)["path"][0].removeprefix(ROOT).strip("/")
        names = {name.removeprefix(f"{folder}/" if folder else "") for name in [*contents, pull.MANIFEST]
                 if name.startswith(f"{folder}/" if folder else "")}  # fmt: skip
        found = {name.partition("/")[0]: "/" in name for name in names}
        rows = [{"path": name, "is_dir": is_folder} for name, is_folder in found.items()]
        reply(handler, 200, {}, json.dumps({"files": rows}).encode())

    here.say(f"{api}-artifacts/artifacts", entries)
    for name, content in {**contents, pull.MANIFEST: text, **answers}.items():
        here.say(f"{api}-artifacts/artifacts/{ROOT}/{name}", content)
    return pull.Server(here.url("").rstrip("/"))


@pytest.mark.parametrize("size", [1, -2])
def test_it_stops_to_read_one_byte_after_what_the_manifest_says(here, to, size):
    sent = []

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(64):
            handler.wfile.write(b"x" * (1 << 20))
            sent.append(1)

    listing = manifest({"a": b"x"}).replace(b'"bytes": 1', f'"bytes": {size}'.encode())
    refused(serve(here, {"a": b"x"}, listing, a=endless), to, "a: longer than MANIFEST.json promises")
    assert len(sent) < 64


def test_a_proxy_for_other_machines_does_not_come_between(here, to, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    source = serve(here, FILES)
    get(source, to)
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(pull.PullError, match="Connection refused"):
        get(pull.Server("http://192.0.2.1"), to)  # of documentation's own network: the dead proxy is asked


def test_an_answer_that_ends_early_is_refused(here, to):
    def short(handler):
        reply(handler, 200, {"Content-Length": "7"}, b"weig")
        handler.close_connection = True

    refused(serve(here, FILES, **{"model.onnx": short}), to, "model.onnx: not what")


def test_a_server_that_falls_silent_is_given_up(here, to, monkeypatch):
    monkeypatch.setattr(pull, "TIMEOUT", 0.5)
    stop = threading.Event()
    source = serve(here, FILES, **{"README.md": lambda _: stop.wait(30)})
    refused(source, to, "timed out")
    stop.set()


def test_a_password_is_sent_where_it_belongs_and_not_after_a_redirect(here, to):
    source = serve(here, FILES)
    named = pull.Server(source.location.replace("//", "//me:s%20t@"))
    get(named, to)
    assert {each.get("Authorization") for each in here.headers} == {"Basic bWU6cyB0"}
    assert named.location == source.location
    here.headers.clear()
    moved = here.url("/other", host="localhost")
    here.say("/other", b"{}")
    here.say("/api/2.0/mlflow/registered-models/alias", (302, {"Location": moved}, b""))
    with pytest.raises(KeyError):
        get(named, to)
    assert [each.get("Authorization") for each in here.headers] == ["Basic bWU6cyB0", None]


def test_a_server_that_answers_a_pin_with_another_version_is_held_to_the_pin(here, to):
    """What its owner signed as version 1 is not what was signed as version 3."""
    source, asked = serve(here, FILES), []
    version = {"version": "1", "tags": [{"key": pull.TAG, "value": hashlib.sha256(manifest(FILES)).hexdigest()}]}
    here.say("/api/2.0/mlflow/model-versions/get", json.dumps({"model_version": version}).encode())

    def signed(record, signature):
        asked.append(json.loads(record)["version"])
        return asked[-1] == 1

    with pytest.raises(pull.PullError, match="denoiser version 3: not signed"):
        pull.pull(source, "denoiser", "", to, 3, signed)
    assert asked == [3] and not to.exists()


def test_a_version_without_a_hash_in_its_tags_is_refused(here, to):
    source = serve(here, FILES)
    here.say("/api/2.0/mlflow/registered-models/alias", b'{"model_version": {"version": "1"}}')
    refused(source, to, "the version has no tag stillroom.manifest")
