"""`--pull` and `--push`: what one machine made another one has, and nothing is made twice or lost between two."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest
from checkouts import edit, git, stillroom
from data_checkout import copied, members, metadata, refresh
from data_fixtures import png, zipped

from components.base.errors import UserError
from components.samples import pack
from flows.dvc import engine
from flows.run import share
from flows.workspace.paths import State

SHELF = "[core]\n    remote = shelf\n['remote \"shelf\"']\n    url = {url}\n"


@pytest.fixture
def two(tmp_path):
    """Two clones of one bare repository, with a DVC remote beside them; the first has made its data stages."""
    first, second, bare = (tmp_path / name for name in ("first", "second", "bare.git"))
    copied(first)
    git(tmp_path, "clone", "--quiet", "--bare", str(first), str(bare))
    git(first, "remote", "add", "origin", str(bare))
    git(first, "fetch", "--quiet", "origin")
    branch = git(first, "branch", "--show-current").strip()
    git(first, "branch", "--quiet", f"--set-upstream-to=origin/{branch}")
    git(tmp_path, "clone", "--quiet", str(bare), str(second))
    for root in (first, second):
        (root / ".dvc/config.local").write_text(SHELF.format(url=tmp_path / "shelf"))
        git(root, "config", "user.name", "t")
        git(root, "config", "user.email", "t@localhost")
    shutil.copyfile(first / "source.zip", second / "source.zip")
    State(second).enter()
    return first, second


def grown(root, seed):
    """The source of ``root`` has one picture more, and its data stages are up to date with it."""
    found = {**members(), f"new-{seed}.png": png(seed)}
    zipped(root / "source.zip", {**found, "metadata.csv": metadata(sorted(found.keys() - {"metadata.csv"}))})
    refresh(root)


def shared(root, *, pull=False, push=False):
    said = []
    with share.around(root, said.append, pull=pull, push=push):
        pass
    return said


@pytest.mark.slow(10)
def test_what_one_pushed_the_other_pulls_and_has_nothing_to_make(two):
    first, second = two
    grown(first, 500)
    (line,) = shared(first, push=True)
    assert line.startswith("committed what the run wrote, and pushed it to origin/") and "to DVC's remote" in line
    assert git(first, "status", "--porcelain", "--untracked-files=no") == " M source.zip\n"
    assert shared(first, push=True) == [], "nothing is owed"
    shutil.copyfile(first / "source.zip", second / "source.zip")
    pulled, brought = shared(second, pull=True)
    assert pulled == f"pulled 1 commit of {line.split(' to ')[1].split(';')[0]}"
    assert brought.startswith("pulled by DVC, as dvc.lock names it now: data/raw, data/clean")
    assert engine.stale(second) == engine.stale(first) == ["train", "evaluate", "report"]
    assert shared(second, pull=True, push=True) == []
    # Once more, now over outputs that lie there already.
    grown(first, 501)
    shared(first, push=True)
    shutil.copyfile(first / "source.zip", second / "source.zip")
    assert len(shared(second, pull=True)) == 2
    assert engine.stale(second) == ["train", "evaluate", "report"]


@pytest.mark.slow(10)
def test_what_a_kill_or_a_remote_kept_back_goes_the_next_time(two):
    first, _ = two
    (line,) = shared(first, push=True)
    assert re.search(r"; [1-9]\d* files to DVC's remote", line), "git had named them before --push was heard of"
    grown(first, 500)
    bare = Path(git(first, "remote", "get-url", "origin").strip())
    (bare / "hooks").mkdir(exist_ok=True)
    hook = bare / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\nif grep -q refs/stillroom; then echo not those >&2; exit 1; fi\n")
    hook.chmod(0o755)
    git(first, "update-ref", "refs/stillroom/runs/" + "b" * 64 + "/1", "HEAD")
    with pytest.raises(UserError, match="not those"):
        shared(first, push=True)
    hook.unlink()
    shared(first, push=True)
    assert "refs/stillroom/runs/" + "b" * 64 in git(first, "ls-remote", "origin")


@pytest.mark.slow(6)
def test_two_that_both_made_something_are_told_to_merge_and_lose_nothing(two):
    first, second = two
    shared(second, pull=True)
    grown(first, 500)
    shared(first, push=True)
    grown(second, 600)
    with pytest.raises(UserError, match=r"--push: origin/\S+ did not take it .*--pull --push") as raised:
        shared(second, push=True)
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match=r"have both gone on: `git pull`"):
        shared(second, pull=True)
    assert hashlib.sha256(png(600)).hexdigest() in pack.read_keys(second / "data/pixels"), "its own work is still there"


def test_what_is_missing_or_not_committed_is_one_line_before_the_work(two):
    first, second = two
    (second / "data/decisions.jsonl").write_text("\n")
    git(second, "rm", "--quiet", "--cached", "data/decisions.jsonl")
    git(second, "commit", "--quiet", "-m", "not in git any more")
    with pytest.raises(UserError, match=r"--push: data/decisions\.jsonl: changed since the last commit"):
        shared(second, push=True)
    git(second, "reset", "--quiet", "--hard", "HEAD~1")
    edit(second, "split", salt="other")
    with pytest.raises(UserError, match=r"--push: params\.yaml: changed since the last commit"):
        shared(second, push=True)
    (second / "dvc.lock").write_text("# other\n" + (second / "dvc.lock").read_text())
    (first / "dvc.lock").write_text("# one\n" + (first / "dvc.lock").read_text())
    git(first, "commit", "--quiet", "--all", "-m", "a change")
    git(first, "push", "--quiet")
    (first / "new.txt").write_text("theirs")
    git(first, "add", "new.txt")
    git(first, "commit", "--quiet", "-m", "a file")
    git(first, "push", "--quiet")
    (second / "new.txt").write_text("ours")
    with pytest.raises(
        UserError, match=r"files that no commit here holds \(dvc\.lock, new\.txt\): commit them, or move"
    ):
        shared(second, pull=True)
    (second / ".git/MERGE_HEAD").write_text(git(second, "rev-parse", "HEAD"))
    with pytest.raises(UserError, match="a merge is under way: end it with `git commit`"):
        shared(second, push=True)
    (second / ".git/MERGE_HEAD").unlink()
    (second / ".dvc/config.local").unlink()
    with pytest.raises(UserError, match="DVC has no default remote"):
        shared(second, pull=True)
    git(second, "branch", "--unset-upstream")
    with pytest.raises(UserError, match=r"follows no remote: `git push --set-upstream"):
        shared(second, push=True)
    git(second, "checkout", "--quiet", "--detach")
    done = stillroom(second, "run", "--push")
    assert done.returncode == 2 and "no branch is checked out" in done.stderr


def test_a_remote_that_is_gone_is_one_line(two):
    first, _ = two
    git(first, "remote", "set-url", "origin", "/nowhere/at/all")
    with pytest.raises(UserError, match="git fetch: fatal: '/nowhere/at/all' does not appear to be a git") as raised:
        shared(first, pull=True)
    assert "\n" not in str(raised.value)


@pytest.mark.slow(60)
def test_a_second_machine_takes_over_a_whole_run_and_trains_nothing(finished, tmp_path):
    first, second, bare = (tmp_path / name for name in ("first", "second", "bare.git"))
    shutil.copytree(finished[0], first, symlinks=True)
    git(tmp_path, "clone", "--quiet", "--bare", str(first), str(bare))
    git(first, "remote", "add", "origin", str(bare))
    git(first, "fetch", "--quiet", "origin")
    branch = git(first, "branch", "--show-current").strip()
    git(first, "branch", "--quiet", f"--set-upstream-to=origin/{branch}")
    (first / ".dvc/config.local").write_text(SHELF.format(url=tmp_path / "shelf"))
    done = stillroom(first, "run", "--push")
    assert done.returncode == 0 and "pushed it to origin/" in done.stderr, done.stderr
    git(tmp_path, "clone", "--quiet", str(bare), str(second))
    (second / ".dvc/config.local").write_text(SHELF.format(url=tmp_path / "shelf"))
    shutil.copyfile(first / "source.zip", second / "source.zip")
    done = stillroom(second, "run", "--pull", "--push")
    assert done.returncode == 0, done.stderr
    assert "pulled by DVC" in done.stderr and "executed" not in done.stderr, done.stderr
    told = [stillroom(root, "history").stdout for root in (first, second)]
    assert told[0] == told[1] and "promoted" in told[0]
