"""A checkout that this user may only read: what only looks works there, and what writes says so in one line."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from checkouts import ROOT, command, environment, python_path, stillroom

from components.pipeline import STATE

NOTHING = "nothing is registered here yet"


@pytest.fixture
def mounted(finished, tmp_path):
    """A function that gives a copy of the finished checkout, without what is named, on a mount that is read-only."""
    places = []

    def mount(*without):
        place = tmp_path / f"checkout{len(places)}"
        shutil.copytree(finished[0], place, symlinks=True, ignore=shutil.ignore_patterns(*without))
        done = subprocess.run(["mount", "--bind", "-o", "ro", place, place], check=False, capture_output=True)
        if done.returncode:
            pytest.skip("a read-only folder takes the right to mount one")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.slow(20)
def test_what_only_looks_works_and_leaves_nothing_behind(mounted, tmp_path):
    place = mounted()
    for words, said in (
        ("plan", "would run nothing"), ("status", "stale: nothing"), ("data status", "contract  holds"),
        ("data decisions", ""), ("history", "promoted"), ("diff denoiser@1 denoiser@champion", "nothing: they were"),
        ("lineage", "ok  sources"),
    ):  # fmt: skip
        done = stillroom(place, *words.split())
        assert (done.returncode, said in done.stdout) == (0, True), (words, done.stdout, done.stderr)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    env = {**environment(), "TMPDIR": str(scratch), "PYTHONPATH": python_path(ROOT), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command("verify"), cwd=place, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "every byte as recorded" in done.stdout, done.stderr
    assert not list(scratch.iterdir())


@pytest.mark.slow(10)
def test_so_it_does_in_a_clone_where_nothing_was_run(mounted):
    place = mounted(STATE, "dvc.lock", "tmp")
    for words, said in (("plan", "would run: collect, "), ("status", "stale: collect, "), ("verify", NOTHING)):
        done = stillroom(place, words)
        assert (done.returncode, said in done.stdout) == (0, True), (words, done.stdout, done.stderr)
    for words, said in (("lineage", NOTHING), ("diff denoiser@1 denoiser@2", NOTHING),
                        ("run", "Read-only file system"), ("sync", "Read-only file system")):  # fmt: skip
        done = stillroom(place, *words.split())
        assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, (words, done.stderr)
