"""`stillroom reproduce`: a version made again for real, beside a checkout that it does not touch."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from checkouts import git, tree

from components.base.errors import UserError
from flows.history import ledger, store
from flows.run import reproduce
from flows.workspace.paths import State

pytestmark = pytest.mark.slow


@pytest.fixture
def here(finished, tmp_path, monkeypatch):
    """A copy of the finished checkout, as the present one."""
    (tmp_path / "above").mkdir()
    folder = tmp_path / "above" / "checkout"
    shutil.copytree(finished[0], folder, symlinks=True)
    state = State(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", state.database)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(state.folder / "dvc"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return state


def said_otherwise(state, old, new, **about):
    """Have the record of the run say ``new`` for ``old`` in its dvc.lock, and ``about`` of what made it."""
    (run,) = store.all_runs(state.root)
    lock = run.files["dvc.lock"].decode()
    assert old in lock
    made = {name: run.about[name] for name in ("stages", "seconds", "libraries", "machine")}
    run = replace(run, about={**made, **about}, files={**run.files, "dvc.lock": lock.replace(old, new).encode()})
    for held in (one for one in store.records(state.root) if one.kind == "run"):
        git(state.root, "update-ref", "-d", f"{ledger.REFS}/{held.key}/{held.id}")
    store.record(state.root, run, store.records(state.root))


def everything(state):
    """What a checkout is: its files but for MLflow's and DVC's notes for speed, its refs and its worktrees."""
    held = {name: data for name, data in tree(state.root).items()
            if not name.startswith((".stillroom/mlflow", ".git/", ".stillroom/dvc", ".dvc/tmp"))}  # fmt: skip
    return held, git(state.root, "for-each-ref"), git(state.root, "worktree", "list")


def test_a_version_is_made_again_to_the_byte_and_the_checkout_stays_as_it_is(here, capsys):
    before, environment = everything(here), dict(os.environ)
    assert reproduce.reproduce(here, "denoiser@1", only=["split"]) == 0
    out = capsys.readouterr().out
    assert "    taken  data/pixels from DVC's cache" in out and "    split  the same bytes\n" in out
    assert out.endswith("denoiser version 1: split made again, the same to the byte\n")
    assert everything(here) == before and dict(os.environ) == environment
    assert [path.name for path in here.root.parent.iterdir()] == ["checkout"]


def test_other_bytes_are_named_and_on_another_kind_of_machine_the_scores_decide(here, capsys):
    (run,) = store.all_runs(here.root)
    splits = next(out["md5"] for out in run.stages["split"]["outs"] if out["path"] == "data/splits")
    said_otherwise(here, splits, "0" * 32 + ".dir")
    assert reproduce.reproduce(here, "denoiser@champion", only=["split"]) == 1
    out = capsys.readouterr().out
    assert "    split  NOT the same: data/splits\n" in out
    assert "NOT made again: stage split gives other bytes, with the same libraries" in out
    (one,) = store.all_runs(here.root)
    plan = reproduce.Plan(
        label="v", run=replace(one, about={"machine": "another"}), stages=["evaluate"], inputs={}, others=[], took={},
        scores={},
    )  # fmt: skip
    score = reproduce.again.Score(name="kid", now=2, value=1, low=0, high=3)
    unlike = {"evaluate": ["models/evaluation/scores.json"]}
    assert reproduce._verdict(plan, unlike, [score]) == 0
    assert "kid 2, inside of 0 to 3 (was 1)" in capsys.readouterr().out
    assert reproduce._verdict(plan, unlike, [replace(score, now=4)]) == 1
    assert "outside of its interval: kid" in capsys.readouterr().out
    assert reproduce._verdict(plan, unlike, []) == 1


def test_what_would_be_done_is_told_with_how_long_it_took(here, capsys):
    said_otherwise(here, "stages:", "stages:", machine="Plan 9", libraries={"torch": "0.1"})
    assert reproduce.reproduce(here, None, dry_run=True) == 0
    out, err = capsys.readouterr()
    assert "would run clean, resize, split, profile, describe, encode, train, evaluate, report (" in out
    assert "the first time)" in out and "on record" not in out
    assert "other libraries than it was made with: torch " in err and "made on Plan 9; this is " in err
    assert "would compare every byte, and the scores where one differs" in out
    assert [path.name for path in here.root.parent.iterdir()] == ["checkout"]


def test_code_that_no_commit_holds_and_lost_images_are_told(here):
    (run,) = store.all_runs(here.root)
    code = next(dep for dep in run.stages["train"]["deps"] if dep["path"] == "components/train/step.py")
    raw = next(out["md5"] for out in run.stages["collect"]["outs"])
    said_otherwise(here, code["md5"], "0" * 32)
    with pytest.raises(UserError, match=r"version 1 cannot be made again: its code is not on record: commit "
                       rf"{run.commit[:12]} does not hold components/train/step\.py as it was"):  # fmt: skip
        reproduce.reproduce(here, "denoiser@1", dry_run=True)
    said_otherwise(here, "0" * 32, code["md5"])
    cache = here.root / ".dvc/cache/files/md5" / raw[:2] / raw[2:]
    cache.unlink()
    with pytest.raises(UserError, match=r"cannot be made again: data/raw of that run is not whole in DVC's cache"):
        reproduce.reproduce(here, "denoiser@1", dry_run=True)
    with pytest.raises(UserError, match="wanted a new or empty folder"):
        reproduce.reproduce(here, "denoiser@1", keep=here.root, dry_run=True)
