"""A fresh clone with dvc.lock and no data: what was made is fetched, not made again."""

import shutil
import subprocess
from contextlib import chdir
from pathlib import Path

import data_checkout
import pytest
from checkouts import edit, environment, git, tree
from dvc.repo import Repo

from components.base.errors import UserError
from components.pipeline import PIPELINE, stage
from flows.dvc import engine, fetch
from flows.keep import plan
from flows.workspace.paths import State

MADE = [path for each in PIPELINE[: PIPELINE.index(stage("train"))] for path in each.writes.values()]
LATER = [path for each in PIPELINE for path in each.writes.values() if path not in MADE]


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(engine.exits, "note", lines.append)
    return lines


@pytest.fixture
def origin(tmp_path):
    """A checkout whose data stages are up to date and pushed to a remote, which is the folder beside it."""
    root = data_checkout.copied(tmp_path / "origin")
    remote(root, tmp_path / "remote")
    with chdir(root), Repo(str(root)) as repo:
        repo.push()
    return root


def remote(root: Path, folder: Path) -> None:
    (root / ".dvc/config.local").write_text(f"[core]\n    remote = shelf\n['remote \"shelf\"']\n    url = {folder}\n")


def clone(origin: Path, *, remote_too: bool = True) -> Path:
    root = origin.with_name("clone")
    git(origin.parent, "clone", "--quiet", str(origin), str(root))
    State(root).enter()
    if remote_too:
        remote(root, origin.with_name("remote"))
    return root


def made(root: Path) -> dict[str, dict[str, bytes] | bytes]:
    return {path: tree(root / path) if (root / path).is_dir() else (root / path).read_bytes() for path in MADE}


@pytest.mark.slow(5)
def test_a_clone_fetches_what_was_made(origin, said, capsys):
    root = clone(origin)
    plan.show(State(root))
    assert capsys.readouterr().out.startswith(f"not here: {', '.join(MADE + LATER)}; a run first looks for them")
    said.clear()
    engine.bring_back(root)
    assert said == [f"fetched from remote 'shelf': {', '.join(MADE)}"]
    assert made(root) == made(origin)
    assert engine.stale(root) == engine.stale(origin) == ["train", "evaluate", "report"]
    assert fetch.missing(root) == LATER
    engine.bring_back(root)
    assert len(said) == 1


@pytest.mark.slow
def test_without_a_remote_one_line_says_what_is_made_again(origin, said):
    root = clone(origin, remote_too=False)
    engine.bring_back(root)
    where = "not here, not in DVC's cache and no remote is configured"
    assert said == [f"{where}: {', '.join(MADE)}; made again where a stage needs them"]
    assert fetch.missing(root) == MADE + LATER


@pytest.mark.slow
def test_what_the_remote_has_lost_is_made_again(origin, said):
    root = clone(origin)
    for name, path in (("describe", "reports/data.html"), ("profile", "data/profile")):  # a file, and a folder's list
        digest = engine.output(engine.lock(root), name, path)
        (origin.with_name("remote") / "files/md5" / digest[:2] / digest[2:]).unlink()
    engine.bring_back(root)
    lost = "data/profile, reports/data.html"
    assert said[-1].startswith(f"not here, not in DVC's cache nor in remote 'shelf': {lost}; made again")
    assert engine.stale(root)[0] == "profile"


@pytest.mark.slow
def test_what_would_be_made_otherwise_is_not_fetched_but_what_grows_is(origin, said):
    root = clone(origin)
    edit(root, "collect", max_bytes=2**20)
    edit(root, "split", salt="another")
    engine.bring_back(root)
    assert said == ["fetched from remote 'shelf': data/raw"]


def test_deleted_outputs_come_back_from_the_cache(origin, said):
    (origin / ".dvc/config.local").unlink()
    before = made(origin)
    for path in ("data/raw", "data/pixels"):
        shutil.rmtree(origin / path)
    engine.bring_back(origin)
    assert made(origin) == before and said == []


@pytest.mark.slow
def test_a_remote_that_cannot_be_asked_is_an_error(origin, said):
    root = clone(origin)
    (root / ".dvc/config.local").write_text(
        "[core]\n    remote = s\n['remote \"s\"']\n    url = http://127.0.0.1:9/x\n"
    )
    with pytest.raises(UserError, match=r"^data/raw is not here, and remote 's' cannot be asked for it \("):
        engine.bring_back(root)
    assert fetch.missing(root) == MADE + LATER


@pytest.mark.slow
def test_a_dvc_yaml_that_came_with_images_is_not_read_by_hand_either(tmp_path):
    root = data_checkout.copied(tmp_path / "checkout")
    (root / "images").mkdir()
    (root / "images/dvc.yaml").write_text("stages: [")
    env = {**environment(), "DVC_SITE_CACHE_DIR": str(root / ".stillroom/dvc")}
    done = subprocess.run(["dvc", "status"], cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert engine.stale(root) == ["train", "evaluate", "report"]
    engine.purge(root)
