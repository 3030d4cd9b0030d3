"""dvc.lock is whole at every moment, whoever reads it and whatever ends the one who writes it."""

import data_checkout
import pytest
from dvc.utils.serialize import modify_yaml

from components.pipeline import stage
from flows.dvc import engine, lockfile


class Unwritable:
    """What YAML finds no way to write."""


def test_what_ends_dvc_while_it_writes_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "dvc.lock"
    path.write_text("schema: '2.0'\nstages: {}\n")
    before = path.read_bytes()
    with lockfile.written_whole(), pytest.raises(Exception, match="cannot represent"), modify_yaml(path) as data:
        data["stages"]["split"] = {"cmd": "python -m components split", "deps": Unwritable()}
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["dvc.lock"]


def test_a_stage_replaces_dvc_lock_and_writes_what_dvc_would(tmp_path):
    root = data_checkout.copied(tmp_path / "checkout")
    path = root / "dvc.lock"
    with path.open() as opened:  # who reads it meanwhile
        before, held = path.stat().st_ino, path.read_text()
        assert engine.reproduce(root, stage("split"), watched=tmp_path / "watched", force=True) == "executed"
        assert opened.read() == held
    assert path.stat().st_ino != before
    assert path.read_text() == held


def test_no_dvc_lock_is_an_empty_text(tmp_path):
    assert lockfile.text(tmp_path) == ""
