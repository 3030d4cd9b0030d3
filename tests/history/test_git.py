"""What git answers is the checkout's own, whatever a person has set, and a failed question is told as what it is."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from checkouts import git
from test_ledger import append, repository

from components.base.errors import UserError
from flows.history import git as calls
from flows.history import ledger

NOBODY = 65534


@pytest.fixture
def root(tmp_path):
    return repository(tmp_path / "one")


def test_a_hook_of_another_repository_moves_no_record(root, tmp_path, monkeypatch):
    record, other = append(root), repository(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))  # as git sets them for a hook
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other / ".git/objects"))
    assert ledger.read(root) == [record]
    written = append(root, key="later")
    assert ledger.read(root) == [record, written] and not ledger.read(other)


def test_a_record_that_git_replace_covers_is_read_as_it_is(root):
    record, other = append(root), append(root, key="k", more=1)
    git(root, "replace", record.id, other.id)
    assert ledger.read(root) == [record, other]


def test_the_log_of_signed_commits_has_only_what_was_asked_for(root, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    for name, value in (("gpg.format", "ssh"), ("user.signingkey", str(tmp_path / "key.pub")),
                        ("log.showSignature", "true"), ("user.name", "t"), ("user.email", "t@localhost")):  # fmt: skip
        git(root, "config", name, value)
    git(root, "commit", "--quiet", "-S", "--allow-empty", "-m", "signed")
    assert "ignature" in git(root, "log", "-1", "--format=%H"), "else this shows nothing"
    assert calls.git(root, "log", "-1", "--format=%H") == calls.commit(root) + "\n"


def test_a_trace_that_a_person_asked_git_for_is_no_error(root, monkeypatch):
    monkeypatch.setenv("GIT_TRACE", "1")
    assert calls.maybe(root, "config", "--get", "there.is.none") == ""


def test_who_decides_is_told_of_a_user_without_a_name_too(root, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("LOGNAME", "ann")
    assert calls.user(root) == "ann"
    git(root, "config", "user.name", "Bea")
    assert calls.user(root) == "Bea"


@pytest.fixture
def ordinary(monkeypatch):
    """Have this process be an ordinary user, whom permissions hold, where root runs the tests."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)  # else git looks into root's home
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    yield
    if os.getuid() == 0:
        os.seteuid(0)


@pytest.fixture
def mine():
    """A repository with one record, whose owner is an ordinary user, where such a user gets to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        root = repository(Path(name) / "one")
        append(root)
        for place in (root, *root.rglob("*")) if os.geteuid() == 0 else ():
            os.chown(place, NOBODY, NOBODY)
        yield root


@pytest.mark.parametrize("hidden", ["refs/stillroom", "refs/stillroom/runs", "refs/stillroom/runs/k", "packed-refs"])
def test_records_that_a_user_may_not_read_are_not_taken_for_none(mine, ordinary, hidden):
    (mine / ".git/packed-refs").touch()
    place = mine / ".git" / hidden
    place.chmod(0)
    with pytest.raises(UserError, match=f"{hidden}.*: Permission denied"):
        ledger.read(mine)
    place.chmod(0o700)
    assert len(ledger.read(mine)) == 1


def test_a_record_whose_content_a_user_may_not_read_is_not_to_be_removed(mine, ordinary):
    (record,) = ledger.read(mine)
    place = mine / ".git/objects" / record.id[:2]
    place.chmod(0)
    with pytest.raises(UserError, match="may not read it") as raised:
        ledger.read(mine)
    place.chmod(0o700)
    assert "update-ref" not in str(raised.value)


def test_a_repository_that_a_user_may_not_read_is_not_to_be_made_anew(mine, ordinary):
    (mine / ".git").chmod(0)
    with pytest.raises(UserError, match=f"{mine}/.git: git cannot read it"):
        ledger.read(mine)
    (mine / ".git").chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_repository_of_another_user_is_told_with_what_to_do(mine, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    with pytest.raises(UserError, match=r"of another user: .* trust it, `git config --global --add safe.directory"):
        ledger.read(mine)
