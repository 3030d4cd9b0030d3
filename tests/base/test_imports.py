"""Which files of components/ a module reaches: DVC's dependencies and the layout test follow the same walker."""

import ast

import pytest

from components.base import imports


@pytest.mark.parametrize(("line", "names"), [
    ("from components.base import files", ["components.base", "components.base.files"]),
    ("from . import judge", ["components.clean", "components.clean.judge"]),
    ("from .judge import verdict", ["components.clean.judge", "components.clean.judge.verdict"]),
    ("from ..train import stage", ["components.train", "components.train.stage"]),
])  # fmt: skip
def test_a_relative_import_is_followed_as_an_absolute_one(line, names):
    assert imports.named(ast.parse(line).body[0], "components.clean.stage") == names


def test_a_stage_reaches_what_it_imports_by_a_name_in_quotes(monkeypatch, tmp_path):
    (tmp_path / "one.py").write_text("import importlib\nimportlib.import_module('components.base.files')\n")
    true = imports.path
    monkeypatch.setattr(imports, "path", lambda name: tmp_path / "one.py" if name == "components.one" else true(name))
    assert imports._imports("components.one") == ("components.base.files",)


def test_training_reaches_its_own_rooms_and_no_others():
    rooms = {name.split(".")[1] for name in imports.reached("components.train.stage")}
    assert {"train", "networks", "diffusion", "dataset", "samples", "base"} <= rooms
    assert not rooms & {"clean", "collect", "describe", "report"}
