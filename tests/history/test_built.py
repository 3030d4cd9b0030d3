"""Which Stillroom ran in a project: a wheel's, or a clone's by its commit, and whether any file was another."""

import base64
import hashlib

import pytest
from checkouts import git

from components.base import imports
from flows.dvc import package
from flows.history import built

CODE = {"components/a.py": "1\n", "components/b/c.py": "2\n", "flows/d.py": "3\n"}


def entry(path, text):
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(text)}\n"


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A folder with code, first on the path, which is what runs as far as `built` can see."""
    for path, text in CODE.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setattr(imports, "ROOT", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def wheel(code):
    """The same as pip installs a wheel of version 7.1."""
    about = code / "stillroom-7.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: stillroom\nVersion: 7.1\n")
    (about / "RECORD").write_text("".join(entry(*one) for one in CODE.items()) + "stillroom-7.1.dist-info/RECORD,,\n")
    return code


def test_a_wheel_is_clean_until_a_file_of_it_is_another(wheel):
    assert (built.version(), built.clean()) == ("7.1", True)
    (wheel / "components/b/c.py").write_text("3\n")
    assert (built.version(), built.clean()) == ("7.1", False)


def test_a_file_that_no_wheel_brought_is_code_too(wheel):
    (wheel / "flows/more.py").touch()
    assert not built.clean()


def test_a_copy_without_a_record_of_its_files_is_not_clean(code):
    assert not package.released() and not built.clean()


def test_a_clone_is_its_commit_and_clean_until_something_is_changed(code):
    git(code, "init", "--quiet")
    git(code, "add", "--all")
    git(code, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "start")
    commit = git(code, "rev-parse", "HEAD")[:12]
    assert (built.version(), built.clean()) == (f"{package.version()}+g{commit}", True)
    (code / "notes.txt").touch()
    assert built.clean()
    (code / "flows/new.py").touch()
    assert not built.clean()
