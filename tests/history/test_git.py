"""What git answers is the checkout's own, whatever a person has set, and a failed question is told as what it is."""

import subprocess

import pytest
from checkouts import git
from test_ledger import append, repository

from flows.history import git as calls
from flows.history import ledger


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
