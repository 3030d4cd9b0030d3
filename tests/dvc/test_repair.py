"""A DVC that was killed while it wrote leaves nothing that the next run cannot repair."""

import pytest
from checkouts import git
from dvc.repo import Repo

from components.base.errors import UserError
from flows.dvc import engine, repair

PIPELINE = "stages:\n  one:\n    cmd: cp in out\n    deps: [in]\n    outs: [out]\n"


@pytest.fixture
def checkout(tmp_path):
    """A real DVC project with one stage that ran."""
    git(tmp_path, "init", "--quiet")
    Repo.init(str(tmp_path)).close()
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "in").write_text("something")
    reproduce(tmp_path)
    return tmp_path


def reproduce(folder):
    with engine._working(folder) as repo:
        return repo.reproduce(targets=["one"], single_item=True)


@pytest.mark.parametrize("left", [b"", b'{"write": {"a/b": {"pi'])
def test_a_damaged_rwlock_is_removed(checkout, left, capsys):
    (checkout / ".dvc/tmp/rwlock").write_bytes(left)
    assert reproduce(checkout) == []
    assert "Removed a damaged DVC lock file" in capsys.readouterr().err


def test_a_whole_rwlock_is_left_alone(checkout):
    path = checkout / ".dvc/tmp/rwlock"
    path.write_text('{"write": {}, "read": {}}')
    repair.repair(checkout, say=pytest.fail)
    assert path.read_text() == '{"write": {}, "read": {}}'


def test_a_dvc_lock_that_somebody_else_damaged_is_the_users_to_repair(checkout):
    (checkout / "dvc.lock").write_text("<<<<<<< HEAD\n")
    repair.repair(checkout, say=pytest.fail)
    assert (checkout / "dvc.lock").read_text() == "<<<<<<< HEAD\n"
    with pytest.raises(UserError, match=r"dvc\.lock"):
        reproduce(checkout)
