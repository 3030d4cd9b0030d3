"""`stillroom gc` in a checkout without a registry: what a branch, a tag, a worktree or the checkout needs stays."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import time
from pathlib import Path

import data_checkout
import numpy as np
import pytest
from checkouts import edit, git, tree

from components.base.errors import UserError
from components.samples import facts
from flows.dvc import engine, objects
from flows.history import ledger
from flows.history.known import History
from flows.keep import gc, needed, remains
from flows.workspace import lock
from flows.workspace.paths import State


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A checkout with an older state of its report in a commit, and a newer one in the working tree."""
    root = data_checkout.copied(tmp_path / "checkout")
    state = State(root)
    state.enter()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", state.database)
    git(root, "branch", "older")
    replace(root, "reports/data.html", "describe", b"<p>newer")
    git(root, "add", "dvc.lock")
    git(root, "-c", "user.name=t", "-c", "user.email=t@l", "commit", "--quiet", "--amend", "-m", "newer")
    return state


def replace(root: Path, path: str, stage: str, content: bytes) -> None:
    """Have ``stage`` have written ``content``, in the working tree, in DVC's cache and in dvc.lock."""
    old = engine.output(engine.lock(root), stage, path)
    new = hashlib.md5(content).hexdigest()
    (root / path).unlink()
    (root / path).write_bytes(content)
    place = engine.listing(root, new)
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content)
    text = (root / "dvc.lock").read_text().replace(old, new)
    (root / "dvc.lock").write_text(text)


def old_report(root: Path) -> Path:
    held = git(root, "show", "older:dvc.lock")
    return engine.listing(root, engine.output(engine.parse_lock(held), "describe", "reports/data.html"))


def collected(state, **options):
    lines: list[str] = []
    gc.gc(state, say=lines.append, **options)
    return lines


def test_what_a_branch_a_tag_or_a_worktree_names_stays(mine, tmp_path):
    report = old_report(mine.root)
    for name in ("branch", "tag", "worktree"):
        if name == "tag":
            git(mine.root, "tag", "-a", "v1", "-m", "kept", "older")
            git(mine.root, "branch", "-D", "older")
        if name == "worktree":
            git(mine.root, "worktree", "add", "--quiet", "--detach", str(tmp_path / "other"), "v1")
            git(mine.root, "tag", "-d", "v1")
        assert collected(mine, yes=True)[-1] == "nothing to remove", name
        assert report.is_file(), name
    git(mine.root, "worktree", "remove", "--force", str(tmp_path / "other"))
    assert collected(mine)[0].startswith("would remove ")
    assert report.is_file(), "it was dry"


def test_only_what_nothing_names_goes_and_a_second_call_has_nothing_to_do(mine):
    report, before = old_report(mine.root), tree(engine.cache(mine.root))
    git(mine.root, "branch", "-D", "older")
    size = report.stat().st_size
    lines = collected(mine, yes=True)
    assert "1 object in DVC's cache that nothing names any more" in lines[0]
    assert lines[-1] == f"removed {size / 1000:.1f} kB"
    assert set(before) - set(tree(engine.cache(mine.root))) == {str(report.relative_to(engine.cache(mine.root)))}
    assert collected(mine, yes=True)[-1] == "nothing to remove"
    assert engine.stale(mine.root) == ["train", "evaluate", "report"]


@pytest.mark.slow(4)
def test_a_result_that_is_gone_leaves_dvcs_run_cache_too(mine):
    runs = engine.cache(mine.root).parent.parent / "runs"
    entry = runs / "ab" / ("ab" * 32) / ("cd" * 32)
    entry.parent.mkdir(parents=True)
    digest = old_report(mine.root).parent.name + old_report(mine.root).name
    entry.write_text(f"cmd: x\nouts:\n- path: reports/data.html\n  md5: {digest}\n")
    git(mine.root, "branch", "-D", "older")
    kept = sorted(path for path in runs.glob("*/*/*") if path != entry)
    assert collected(mine)[-1].startswith("nothing was removed")
    assert entry.is_file()
    collected(mine, yes=True)
    left = sorted(runs.glob("*/*/*"))
    assert not entry.exists() and len(left) > 0 and set(left) < set(kept), "those that name the report as well"


def test_what_cannot_be_read_stops_it_before_anything_is_removed(mine):
    git(mine.root, "branch", "-D", "older")
    blob = git(mine.root, "hash-object", "-w", "source.zip").strip()
    index = {**os.environ, "GIT_INDEX_FILE": str(mine.folder / "index")}
    subprocess.run(["git", "update-index", "--add", "--cacheinfo", f"100644,{blob},dvc.lock"], cwd=mine.root, env=index,
                   check=True)  # fmt: skip
    wrong = subprocess.run(["git", "write-tree"], cwd=mine.root, env=index, check=True, capture_output=True, text=True)
    commit = git(mine.root, "-c", "user.name=t", "-c", "user.email=t@l", "commit-tree", wrong.stdout.strip(), "-m", "x")
    git(mine.root, "branch", "damaged", commit.strip())
    before = tree(engine.cache(mine.root))
    with pytest.raises((UserError, UnicodeDecodeError)):
        collected(mine, yes=True)
    assert tree(engine.cache(mine.root)) == before


def test_it_waits_for_a_run_and_says_for_which(mine):
    said: list[str] = []
    with lock.held(mine.lock, what="stillroom run", wait=True, say=pytest.fail):
        working = threading.Thread(target=lambda: gc.gc(mine, say=said.append))
        working.start()
        until = time.monotonic() + 30
        while not said:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert said == [f"waiting for `stillroom run` (process {os.getpid()}), which is running in this checkout"]
    working.join(30)
    assert said[-1] == "nothing to remove"


@pytest.mark.slow(2)
def test_a_cache_that_others_may_use_is_left_alone(mine, tmp_path):
    git(mine.root, "branch", "-D", "older")
    (mine.root / ".dvc/cache").rename(tmp_path / "shared")
    (mine.root / ".dvc/config.local").write_text(f"[cache]\n    dir = {tmp_path / 'shared'}\n")
    lines = collected(mine, yes=True)
    assert lines[0].startswith("not looked at: DVC's cache at ") and lines[-1] == "nothing to remove"


@pytest.mark.slow(3)
def test_a_remote_is_collected_only_where_it_is_named_and_what_is_young_stays(mine, tmp_path):
    (mine.root / ".dvc/config.local").write_text(
        f"[core]\n    remote = shelf\n['remote \"shelf\"']\n    url = {tmp_path / 'remote'}\n"
    )
    engine.push(mine.root)
    old, young = (tmp_path / "remote/files/md5" / name[:2] / name[2:] for name in ("0" * 32, "1" * 32))
    for place in (old, young):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("unknown")
    os.utime(old, (0, 0))
    for path in (tmp_path / "remote").rglob("*"):  # what is needed stays whatever its age
        if path.is_file() and path != young:
            os.utime(path, (0, 0))
    count = len(tree(tmp_path / "remote"))
    assert collected(mine)[-1] == "nothing to remove"
    assert "1 object in DVC's remote 'shelf' that nothing names" in collected(mine, remote="shelf")[0]
    assert old.is_file()
    collected(mine, remote="shelf", yes=True)
    assert not old.exists() and young.is_file() and len(tree(tmp_path / "remote")) == count - 1
    with pytest.raises(UserError, match="shelv"):
        collected(mine, remote="shelv")


def test_a_folders_files_are_known_from_the_remote_where_the_cache_has_no_list(mine, tmp_path):
    (mine.root / ".dvc/config.local").write_text(
        f"[core]\n    remote = shelf\n['remote \"shelf\"']\n    url = {tmp_path / 'remote'}\n"
    )
    engine.push(mine.root)
    digest = engine.output(engine.lock(mine.root), "split", "data/splits")
    whole = objects.whole(mine.root, [digest])
    engine.listing(mine.root, digest).unlink()
    assert len(whole) > 2 and objects.whole(mine.root, [digest]) == {digest}
    assert objects.whole(mine.root, [digest], "shelf") == whole


@pytest.mark.slow(2)
def test_the_last_runs_stay(mine):
    lines = needed.find(mine.root, History(mine.root), keep=3, named=()).lines
    assert lines[0].startswith("the last 3 of ")


def aged(path: Path, days: float) -> None:
    for each in [*path.rglob("*"), path]:
        os.utime(each, (time.time() - days * 86_400,) * 2)


def made(path: Path, days: float, size: int = 10) -> Path:
    path.mkdir(parents=True)
    (path / "file").write_bytes(b"x" * size)
    aged(path, days)
    return path


@pytest.mark.slow(2)
def test_old_checkpoints_go_and_the_newest_training_stays_whatever_its_age(mine):
    old, older = made(mine.folder / "train" / ("a" * 16), 8, 500), made(mine.folder / "train" / ("b" * 16), 9)
    newest, other = made(mine.folder / "train" / ("c" * 16), 7.5), made(mine.folder / "train" / "ranks", 99)
    (item,) = remains._trainings(mine.folder / "train", 7)
    assert item.bytes == 510 and item.what.startswith("checkpoints of 2 training(s)")
    item.remove()
    item.remove()
    assert (old.exists(), older.exists(), newest.exists(), other.exists()) == (False, False, True, True)


def test_facts_by_a_rule_that_was_not_used_when_its_kind_was_go(tmp_path):
    old, now = made(tmp_path / "look/old", 20), made(tmp_path / "look/now", 10)
    alone = made(tmp_path / "grey/only", 30)
    (item,) = remains._facts(tmp_path, 7)
    item.remove()
    assert (old.exists(), now.exists(), alone.exists()) == (False, True, True)


def test_what_killed_commands_left_goes(mine):
    left = [made(mine.folder / "tmpabc", 2), made(mine.root.parent / f".{mine.root.name}.again-x", 8)]
    fresh = made(mine.folder / "tmpnew", 0)
    commit = ledger.commit_of(mine.root, {"a": b"b"}, "task", int(time.time()) - 8 * 86_400)
    git(mine.root, "update-ref", f"{remains.TASKS}/{commit}", commit)
    collected(mine, yes=True)
    assert not any(each.exists() for each in left) and fresh.exists()
    assert not git(mine.root, "for-each-ref", remains.TASKS)


def test_a_store_that_is_used_says_so(tmp_path):
    store = facts.Store(tmp_path, "look", "rule", np.dtype("V8"))
    store.add(facts.keys([b"k" * 32]), np.zeros(1, "V8"))
    aged(tmp_path / "look", 30)
    facts.Store(tmp_path, "look", "rule", np.dtype("V8"))
    assert time.time() - remains._touched(tmp_path / "look/rule") < 60


@pytest.mark.slow(2)
def test_parameters_that_change_keep_nothing_of_the_registry_back(mine):
    edit(mine.root, "register", name="another")
    assert collected(mine)[-1] == "nothing to remove"
