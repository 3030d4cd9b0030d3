"""`stillroom backfill`: older commits get a version each, which the gate does not decide on; nothing else changes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from checkouts import edit, git
from registered import versions

from components.base import config
from components.base.errors import UserError
from flows.data import contract
from flows.history import store
from flows.keep import backfill
from flows.registry import chain

pytestmark = pytest.mark.slow(30)


def commit(root, subject):
    git(root, "add", "--all")
    git(root, "add", "--force", "dvc.lock", "metrics", "data/source.json")
    git(root, "-c", "user.name=t", "-c", "user.email=t@l", "commit", "--quiet", "-m", subject)


def test_a_commit_gets_a_version_that_is_kept_aside(lived_in, monkeypatch):
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    root, said = lived_in.root, []
    with pytest.raises(UserError, match="nonesuch: no commit, branch or tag"):
        backfill.backfill(lived_in, ["main", "nonesuch"])
    empty = git(root, "rev-parse", "HEAD").strip()
    commit(root, "as it was made")
    edit(root, "report", magnify=config.of(root)["report"]["magnify"] + 5)
    commit(root, "an idea")
    git(root, "branch", "idea")
    git(root, "reset", "--quiet", "--hard", "HEAD~1")
    before = git(root, "status", "--porcelain"), (root / "dvc.lock").read_bytes(), contract.baseline(root)

    backfill.backfill(lived_in, ["idea"], dry_run=True, say=said.append)
    assert said[-1].endswith(": would run report and register a version of denoiser")
    backfill.backfill(lived_in, ["main"], dry_run=True, say=said.append)
    assert said[-1].endswith(": would run nothing; it is denoiser version 2")

    made = backfill.backfill(lived_in, [empty, "idea"], say=said.append)
    assert [(one.version, bool(one.fault)) for one in made] == [(None, True), (3, False)]
    assert made[0].fault.endswith("has no dvc.lock: nothing says which images it is about")
    assert [line for line in said if "executed" in line] == [next(line for line in said if "report  executed" in line)]
    held = versions(lived_in)
    (model,) = held.client.search_registered_models("name = 'denoiser'")
    assert model.aliases == {"champion": 1, "challenger": 2}, "it takes nobody's place"
    broken = chain.broken(chain.verify_chain(held, held.numbered(3)))
    assert broken is None, broken
    assert held.history.run(held.numbered(3).tags["stillroom.pass"]).about["seconds"].keys() == {"report"}
    assert (git(root, "status", "--porcelain"), (root / "dvc.lock").read_bytes(), contract.baseline(root)) == before
    assert store.last_decided(root).about["version"] == 2, "data are compared with a run that the gate decided on"
    assert git(root, "worktree", "list").count("\n") == 1
    assert not list(root.parent.glob(f".{root.name}.backfill-*"))

    again = backfill.backfill(lived_in, ["idea"], say=said.append)
    assert [one.version for one in again] == [3], "the same commit is the same version"
