"""A dvc.lock or the list of a folder's files may come from another machine: a hash in it names no other file here."""

import hashlib
import json

import pytest

from components.base.errors import UserError
from flows.dvc import engine


@pytest.fixture
def root(tmp_path):
    (tmp_path / "checkout/.dvc").mkdir(parents=True)
    (tmp_path / "secret").write_text("token")
    return tmp_path / "checkout"


def kept(root, content):
    """Put ``content`` into DVC's cache; its hash."""
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    place = root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return digest


def test_a_hash_that_is_a_path_is_none(root):
    held = kept(root, b"x")
    assert engine.cached(root, held)[""].read_bytes() == b"x"
    up = "../../../../../secret"
    assert (root / ".dvc/cache/files/md5" / up[:2] / up[2:].lstrip("/")).exists()
    for digest in (f"xx{root.parent}/secret", up, f"{held[:2]}/{held[2:]}", f"{held}/", held.upper(), ""):
        assert engine.cached(root, digest) == {}, digest


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/x", "", "a"])
def test_a_list_of_files_that_points_outside_is_refused(root, name):
    digest = "00/../../../../../secret" if name == "a" else kept(root, b"x")
    listing = json.dumps([{"md5": digest, "relpath": name}]).encode()
    made = kept(root, listing)
    folder = root / ".dvc/cache/files/md5" / made[:2]
    (folder / made[2:]).rename(folder / f"{made[2:]}.dir")
    with pytest.raises(UserError, match="which lies outside: remove it"):
        engine.cached(root, f"{made}.dir")
