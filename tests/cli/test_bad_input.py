"""The user's mistakes, and the machine's: one line, exit code 2, nothing half-written."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from checkouts import command, edit, environment, make, point, python_path, stillroom, tree

from components.base.config import FILE


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    return make(tmp_path_factory.mktemp("bad") / "checkout", pictures=30)


@pytest.fixture
def checkout(fresh, tmp_path):
    """A checkout in which nothing ran yet."""
    target = tmp_path / "checkout"
    shutil.copytree(fresh, target, symlinks=True)
    return target


def refused(folder: Path, *arguments: str) -> str:
    """The one line that the command ends with, having changed no output."""
    (folder / "data" / "source.json").unlink(missing_ok=True)  # what was seen; no output
    before = {name: tree(folder / name) for name in ("data", "models", "reports", "metrics")}
    done = stillroom(folder, *arguments)
    assert done.returncode == 2, (done.stdout, done.stderr)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in done.stderr, done.stderr
    (folder / "data" / "source.json").unlink(missing_ok=True)
    assert {name: tree(folder / name) for name in before} == before
    return errors[0].removeprefix("error: ")


def collect(folder: Path, *, look: bool = True) -> subprocess.CompletedProcess[str]:
    """The stage by itself, after a look at the source."""
    if look:
        assert stillroom(folder, "look").returncode == 0
    line = [command()[0], "-m", "components", "collect"]
    return subprocess.run(line, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


def test_a_missing_archive(checkout):
    point(checkout, "pictures.zip")
    assert "pictures.zip" in refused(checkout, "run")


@pytest.mark.slow(3)
def test_an_empty_folder_as_source(checkout):
    (checkout / "nothing").mkdir()
    point(checkout, "nothing")
    assert "empty" in refused(checkout, "run")


@pytest.mark.slow(3)
def test_an_archive_that_is_none(checkout):
    (checkout / "source.zip").write_bytes(b"this is no archive")
    assert "source.zip" in refused(checkout, "run")


@pytest.mark.parametrize(
    ("section", "values", "line"),
    [
        ("train", {"imagse": 1}, "params.yaml: train.imagse is not a parameter; did you mean 'images'?"),
        pytest.param(
            "train",
            {"images": "many"},
            "params.yaml: train.images should be a valid integer, not 'many'",
            marks=pytest.mark.slow(3),
        ),
        ("clean", {"max_distance": 129}, "params.yaml: clean.max_distance should be less than or equal to"),
        pytest.param(
            "collect",
            {"sourecs": []},
            "params.yaml: collect.sourecs is not a parameter; did you mean 'sources'?",
            marks=pytest.mark.slow(3),
        ),
        pytest.param(
            "register",
            {"confidence": 2},
            "params.yaml: register.confidence should be less than",
            marks=pytest.mark.slow(3),
        ),
    ],
)
def test_a_mistake_in_params_yaml(checkout, section, values, line):
    edit(checkout, section, **values)
    assert line in refused(checkout, "run")


CONFLICT = "<<<<<<< HEAD\n=======\n>>>>>>> other\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (FILE, ("data", "report")),
        pytest.param(FILE, ("run",), marks=pytest.mark.slow),
        pytest.param("dvc.lock", ("data", "report"), marks=pytest.mark.slow),
        pytest.param("data/withdrawn.jsonl", ("data", "report"), marks=pytest.mark.slow),
        ("data/withdrawn.jsonl", ("run", "--dry-run")),
        pytest.param("data/withdrawn.jsonl", ("run",), marks=pytest.mark.slow),
        pytest.param("data/decisions.jsonl", ("run", "--dry-run"), marks=pytest.mark.slow),
    ],
)
def test_a_conflict_that_was_left_is_named_before_anything_is_done(checkout, name, words):
    path = checkout / name
    held = path.read_text() if path.exists() else ""
    path.write_text(held + CONFLICT)
    line = f"{name}:" if name.endswith("jsonl") else f"{name}: line "
    found = refused(checkout, *words)
    assert line in found and f"{held.count(chr(10)) + 1}" in found and "begins a conflict of a merge" in found


def test_a_section_that_no_stage_owns(checkout):
    with (checkout / FILE).open("a") as stream:
        stream.write("trian:\n  seed: 1\n")
    assert "section 'trian' belongs to no stage; did you mean 'train'?" in refused(checkout, "run")


def test_a_stage_that_is_none(checkout):
    assert "did you mean 'train'?" in refused(checkout, "run", "--force", "trian")


def test_outside_of_a_checkout(tmp_path):
    env = {**environment(), "PYTHONPATH": python_path(Path(__file__).parents[2])}
    done = subprocess.run(command("run"), cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "not inside a checkout of Stillroom" in done.stderr


@pytest.mark.slow(3)
def test_hostile_names_in_an_archive_are_refused_by_name_and_the_rest_goes_on(checkout):
    import pandas

    with zipfile.ZipFile(checkout / "source.zip", "a") as archive:
        archive.writestr("../outside.png", b"x")
        archive.writestr("/etc/absolute.png", b"x")
    done = collect(checkout)
    assert done.returncode == 0, done.stderr
    table = pandas.read_parquet(checkout / "data/raw/refused.parquet")
    assert {"../outside.png", "/etc/absolute.png"} <= set(table["source_key"])
    assert not (checkout.parent / "outside.png").exists()


@pytest.mark.slow(3)
def test_a_link_in_a_tar_is_refused_by_name(checkout):
    import pandas

    picture = next(name for name in zipfile.ZipFile(checkout / "source.zip").namelist() if name.endswith(".png"))
    zipfile.ZipFile(checkout / "source.zip").extract(picture, checkout / "tmp")
    with tarfile.open(checkout / "source.tar", "w") as archive:
        for at in range(3):
            archive.add(checkout / "tmp" / picture, f"good-{at}.png")
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        rows = b"file_name,text,label,base_codepoint\n" + b"".join(b"good-%d.png,,,\n" % at for at in range(3))
        metadata = tarfile.TarInfo("metadata.csv")
        metadata.size = len(rows)
        archive.addfile(metadata, io.BytesIO(rows))
    point(checkout, "source.tar")
    done = collect(checkout)
    assert done.returncode == 0, done.stderr
    assert "link.png" in set(pandas.read_parquet(checkout / "data/raw/refused.parquet")["source_key"])


@pytest.mark.slow(10)
def test_a_source_without_one_good_image_stops_with_the_reason(checkout):
    with zipfile.ZipFile(checkout / "source.zip", "w") as archive:
        archive.writestr("a.png", b"\x89PNG\r\n\x1a\n broken")
    done = stillroom(checkout, "data", "report")  # the stages of `run`, without starting Prefect
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "error: " in done.stderr


@pytest.mark.slow(3)
def test_a_source_that_changed_after_the_look_is_noticed(checkout):
    assert stillroom(checkout, "look").returncode == 0
    with zipfile.ZipFile(checkout / "source.zip", "a") as archive:
        archive.writestr("new.png", b"x")
    done = collect(checkout, look=False)
    assert done.returncode == 2
    assert "stillroom look" in done.stderr


@pytest.mark.slow
def test_no_wait_says_who_holds_the_checkout(checkout):
    first = subprocess.Popen(command("run"), cwd=checkout, env=environment(), stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True)  # fmt: skip
    try:
        first.stderr.readline()  # it has the lock when it speaks
        done = stillroom(checkout, "run", "--no-wait")
        assert done.returncode == 2
        assert f"in use by `stillroom run` (process {first.pid})" in done.stderr
    finally:
        first.terminate()
        first.communicate()


@pytest.fixture
def small_disk(checkout, tmp_path):
    """The checkout on a disk of its own that is nearly full."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], check=False,
                             capture_output=True, text=True)  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"a small disk takes the right to mount one: {mounted.stderr.strip()}")
    shutil.copytree(checkout, place / "checkout", symlinks=True)
    yield place / "checkout"
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """A file that leaves ``leave`` bytes of the disk."""
    ballast = folder / "ballast"
    space = shutil.disk_usage(folder).free
    ballast.write_bytes(b"\0" * max(0, space - leave))
    return ballast


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_next_run_goes_on(small_disk):
    assert stillroom(small_disk, "look").returncode == 0
    ballast = fill(small_disk, 8192)
    done = stillroom(small_disk, "run")
    assert done.returncode == 2, done.stderr
    assert "the disk is full" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list(small_disk.rglob("*beside*"))
    ballast.unlink()
    env = {**environment(), "DVC_SITE_CACHE_DIR": str(small_disk.parent.parent / "site")}
    done = subprocess.run(
        ["dvc", "repro", "split"], cwd=small_disk, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow(4)
def test_a_stage_on_a_full_disk_is_one_line(small_disk):
    assert stillroom(small_disk, "look").returncode == 0
    fill(small_disk, 4096)
    done = collect(small_disk, look=False)
    assert done.returncode == 2
    assert "the disk is full" in done.stderr and "Traceback" not in done.stderr
    assert not (small_disk / "data/raw").exists() or not list((small_disk / "data/raw").glob("*beside*"))


def test_a_folder_that_may_not_be_written_is_one_line(checkout, tmp_path):
    mounted = subprocess.run(
        ["mount", "--bind", "-o", "ro", str(checkout), str(checkout)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a read-only folder takes the right to mount one, or a user who is not root")
    try:
        done = stillroom(checkout, "run")
    finally:
        subprocess.run(["umount", "-l", str(checkout)], check=True)
    assert done.returncode == 2, done.stderr
    assert "read-only" in done.stderr.splitlines()[-1].lower() or "permission" in done.stderr.splitlines()[-1].lower()
    assert "Traceback" not in done.stderr


def test_the_machines_faults_are_told_in_one_line_and_bugs_are_not():
    import errno

    from components.base.errors import environment_error

    for number, words in (
        (errno.ENOSPC, "disk is full"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "read-only"),
    ):
        message = str(environment_error(OSError(number, os.strerror(number), "data/raw")))
        assert message.startswith("data/raw: ") and words in message and "\n" not in message
    assert environment_error(FileNotFoundError(errno.ENOENT, "x", "y")) is None
    assert environment_error(ValueError("a bug")) is None
    wrapped = RuntimeError("mlflow says no")
    wrapped.__cause__ = sqlite3.OperationalError("database or disk is full")
    assert "disk is full" in str(environment_error(wrapped))
